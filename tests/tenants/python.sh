#!/bin/bash
# SPDX-License-Identifier: MIT
#
# python3, unmodified, with threads, subprocesses and forks: see python_tenant.py.
# python3 keeps small objects in memory that it maps by itself, outside malloc;
# with PYTHONMALLOC=malloc all of them live in the heap, and so in the pool.

. "$(dirname "$0")/lib.sh"

tenant_begin 256M 64M
export PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1

run_bare "$tenant_tmp/bare.out" "$tenant_tmp/bare.err" \
	"$PYTHON" "$tenant_here/python_tenant.py" --dir "$tenant_tmp"
for ((round = 1; round <= TENANT_ROUNDS; round++)); do
	for allocator in malloc default; do
		PYTHONMALLOC=$allocator run_berth "$tenant_tmp/berth.out" "$tenant_tmp/berth.err" "$tenant_tmp/report" \
			"$PYTHON" "$tenant_here/python_tenant.py" --dir "$tenant_tmp" --seconds $(((TENANT_SECONDS + 1) / 2))
		same "$tenant_tmp/bare.out" "$tenant_tmp/berth.out" "the digest (PYTHONMALLOC=$allocator)"
		say "round $round of $TENANT_ROUNDS, PYTHONMALLOC=$allocator: equal" \
			"after $(tail -n 1 "$tenant_tmp/berth.err"); $report_line"
	done
done
tenant_end "$TENANT_ROUNDS rounds of at least $TENANT_SECONDS s"
