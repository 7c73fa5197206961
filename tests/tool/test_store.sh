#!/bin/bash
# SPDX-License-Identifier: MIT
#
# `berth bench store`: what it prints; hit rates not below S3-FIFO's and LRU's; and that no byte is wrong
# while pages are put, overwritten, dropped and claimed (STORE_GETS gets, 10000000).
#
#   BERTH  the command to test (default build/berth)
#
# Exit status: 0 passed, 1 failed.

# shellcheck source=tests/tool/lib.sh
. "$(dirname "$0")/lib.sh"

helps --verify --gets --size --threads --rounds --seed --json -- bench store --help
refuses 2 sideways bench store sideways
refuses 2 --size bench store --size 100K
refuses 2 --gets bench store --verify --gets none

berth bench store --size 32M --rounds 1 --json
[ $status -eq 0 ] && pass || miss "berth bench store" "status $status: $(tail -n 3 err)"
check "bench store --json" out '
need(len(lines) == 1 and len(text.splitlines()) == 1, "not one JSON object")
line = lines[0]
fields(line, "bench get put copy_in copy_out bars hit_rates threads rounds seed area_bytes")
need(line["bench"] == "store" and line["area_bytes"] == 32 << 20, "wrong parameters")
for work in "get put copy_in copy_out".split():
    number(line[work], "one_ns", least=1)
    number(line[work], "p50_ns", least=1)
    number(line[work], "p99_ns", least=line[work]["p50_ns"])
    number(line[work], "threads_ns", least=1)
number(line, "get_hits", least=0.9)
need(0.01 * line["area_bytes"] < line["metadata_bytes"] < 0.02 * line["area_bytes"], "metadata")
need(len(line["hit_rates"]) == 6, "traces")
for trace in line["hit_rates"]:
    need(trace["store"] >= 0.97 * trace["s3fifo"], trace["trace"] + ": below S3-FIFO")
    need(trace["store"] >= trace["lru"], trace["trace"] + ": below LRU")
need(len(line["bars"]) == 6, "bars")
'
berth bench store --size 32M --rounds 1
if [ $status -eq 0 ] && grep -q "^hit rate" out && grep -qE "^  get .*(met|missed)$" out; then
	pass
else
	miss "bench store for people" "status $status" "$(head -n 5 out)"
fi

berth bench store --verify --gets "${STORE_GETS:-10000000}" --json
[ $status -eq 0 ] && pass || miss "bench store --verify" "status $status: $(tail -n 3 err)"
check "bench store --verify --json" out '
line = lines[0]
fields(line, "gets hits retries puts overwrites drops group_drops evicted claims lost_to_claims")
need(line["wrong"] == 0, "wrong bytes")
number(line, "hits", least=line["gets"] / 20)
for name in "puts overwrites drops group_drops evicted claims lost_to_claims".split():
    number(line, name, least=1)
'
finish
