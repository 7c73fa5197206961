#!/bin/bash
# SPDX-License-Identifier: MIT
# fork of a large heap under writes, with claims and with --stress, and of a small one by the mover without
# userfaultfd: see fork_large.c. TENANT_MIB: the heap's size (128; 512 for the figures in the README).
. "$(dirname "$0")/lib.sh"

mib=${TENANT_MIB:-128}
rounds=${TENANT_FORKS:-4}
small=32
tenant_begin 0 0
compile fork_large

# bare MIB
bare() {
	run_bare "$tenant_tmp/bare.out" "$tenant_tmp/bare.err" "$tenant_program" --mib "$1" --rounds "$rounds"
	say "$1 MiB, bare: $(tail -n 1 "$tenant_tmp/bare.err")"
}

# berth MIB WHAT OPTION...: under Berth, moved in this way; the heap fills most of the area
berth() {
	local size=$1 what=$2
	shift 2
	TENANT_POOL=$((size * 2 + 256))M TENANT_AREA=$((size + size / 4 + 16))M
	tenant_moves=(--poison "$@")
	run_berth "$tenant_tmp/berth.out" "$tenant_tmp/berth.err" "$tenant_tmp/report" \
		"$tenant_program" --mib "$size" --rounds "$rounds"
	same "$tenant_tmp/bare.out" "$tenant_tmp/berth.out" "$what: standard output"
	say "$size MiB, $what: $(grep '^stall: ' "$tenant_tmp/berth.err"); $report_line"
}

# Two that overlap now and then, so that neither finds its place free for good. Sets $claims.
claims() { claims=(--claim "$(($1 / 2))M@50ms+50msx*" --claim "$(($1 / 4))M@70ms+33msx*"); }

for ((round = 1; round <= TENANT_ROUNDS; round++)); do
	bare "$mib"
	claims "$mib"
	berth "$mib" claims "${claims[@]}"
	berth "$mib" stress --stress
	bare "$small"
	claims "$small"
	berth "$small" "mprotect, claims and stress" --mover mprotect --stress "${claims[@]}"
done
tenant_end "$TENANT_ROUNDS rounds of $((rounds * 3)) forks"
