#!/bin/bash
# SPDX-License-Identifier: MIT
#
# `berth bench claim` with areas that move nothing: --area-kind gcma, full of discardable pages or empty, and
# reserve; and with several claimers. Contents are looked at by the command itself; how long anything takes isn't looked at here.
#
#   BERTH  the command to test (default build/berth)
#
# Exit status: 0 passed, 77 skipped (the reason is printed), 1 failed.

# shellcheck source=tests/tool/lib.sh
. "$(dirname "$0")/lib.sh"

helps --area-kind gcma reserve discardable -- bench claim --help
refuses 2 sideways bench claim --size 4M --fill empty --area-kind sideways
refuses 2 "--area-kind gcma" bench claim --size 4M --fill discardable
refuses 2 "--area-kind gcma" bench claim --size 4M --fill discardable --area-kind reserve
refuses 2 movable bench claim --size 4M --fill movable --area-kind gcma
refuses 2 movable bench claim --size 4M --fill pinned --area-kind reserve
refuses 2 --writers bench claim --size 4M --fill empty --area-kind gcma --writers 1
refuses 2 --bulk bench claim --size 64K --bulk 10 --area-kind gcma
refuses 2 --mover bench claim --size 4M --fill empty --area-kind reserve --mover mprotect
refuses 1 "--size" bench claim --size 1T --fill discardable --area-kind gcma

claims='
need(len(lines) == 1 and len(text.splitlines()) == 1, "not one JSON object")
line = lines[0]
fields(line, "bench area_kind fill size_bytes area_bytes count writers verify seed empty full idle bars")
def times(row):
    number(row, "min_us", "p50_us", "p99_us", "p999_us", "max_us", "touch_us", "release_us", least=0.001)
    number(row["phases_us"], "search", "close", "wait", "finish")
    need(sum(row["phases_us"].values()) <= 2 * row["p50_us"], f"parts much longer than the whole: {row}")
    need(row["min_us"] <= row["p50_us"] <= row["p99_us"] <= row["p999_us"] <= row["max_us"], f"no order in {row}")
number(line["idle"], "min_us", "p50_us", "p99_us", "p999_us", "max_us", least=0.001)
for bar in line["bars"]:
    fields(bar, "name unit")
    number(bar, "figure", "limit")
    need(bar["met"] == (bar["figure"] <= bar["limit"]), bar["name"] + ": a wrong verdict")
'
berth bench claim --size 8M --area-size 16M --fill discardable --area-kind gcma --count 10 --verify --json
[ $status -eq 0 ] || miss "claims of a full store" "status $status"
check "claims of a full store" out "$claims"'
need((line["area_kind"], line["fill"], line["count"]) == ("gcma", "discardable", 10), "not what was asked for")
need((line["size_bytes"], line["area_bytes"]) == (8 << 20, 16 << 20), "wrong sizes")
times(line["empty"])
times(line["full"])
need(0.95 <= line["stored_share"] <= 1, "not full")
need([bar["name"] for bar in line["bars"]] == ["p50, full", "p99.9, full", "p50, full / empty"], "wrong bars")
ratio = line["full"]["p50_us"] / line["empty"]["p50_us"]
need(abs(line["bars"][2]["figure"] - ratio) < 0.01 * ratio + 0.01, "another ratio")
'
berth bench claim --size 8M --fill discardable --area-kind gcma --count 50 --writers 2 --verify --json
[ $status -eq 0 ] || miss "claims beside puts and gets" "status $status"
check "claims beside puts and gets" out "$claims"'
need(line["empty"] is None, "claims of an empty area beside writers")
times(line["full"])
number(line, "puts", "gets", "hits", least=1)
number(line, "waits", "wait_ns", "longest_wait_ns")
need(line["longest_wait_ns"] <= line["wait_ns"] and (line["wait_ns"] > 0) == (line["waits"] > 0), "waits that can not be")
need([bar["limit"] for bar in line["bars"]] == [30], "wrong bars")
'
for kind in gcma reserve; do
	berth bench claim --size 8M --fill empty --area-kind $kind --count 20 --json
	check "claims of an empty area, $kind" out "$claims
need(line['area_kind'] == '$kind' and line['full'] is None and line['bars'] == [], 'not what was asked for')
times(line['empty'])"
done
berth bench claim --size 8M --fill empty --count 5 --json
check "claims of an area of the other kind" out 'need(lines[0]["area_kind"] == "cma", "no kind")'
berth bench claim --size 4M --fill discardable --area-kind gcma --count 5
if [ $status -eq 0 ] && [ "$(grep -cE ' (met|missed)$' out)" -eq 3 ] && [ "$(grep -c '^  full ' out)" -eq 2 ] && grep -q '^  idle ' out; then
	pass
else
	miss "claims of a full store for people" "status $status" "$(head -n 5 out)"
fi

# Two claimers: rates and their bounds, and the machine's beside them.
for fill in empty movable discardable; do
	kind=cma
	[ $fill = discardable ] && kind=gcma
	berth bench claim --size 4M --fill $fill --area-kind $kind --claimers 2 --count 5 --json
	[ $status -eq 0 ] || miss "two claimers, $fill" "status $status"
	check "two claimers, $fill" out "
need(len(lines) == 1, 'not one JSON object')
line = lines[0]
fields(line, 'bench area_kind fill claimers size_bytes run_bytes count claims one_area different_areas')
need((line['area_kind'], line['fill'], line['claimers'], line['count']) == ('$kind', '$fill', 2, 5), 'not asked for')
least = {'empty': 2, 'movable': 1, 'discardable': line['claims']}['$fill'] * (4 << 20)
need(line['one_area']['area_bytes'] == 2 * least and line['different_areas']['area_bytes'] == least, 'wrong sizes')
for row in (line['one_area'], line['different_areas']):
    for rates in (row, row['machine']):
        number(rates, 'in_turn_p50', 'at_once_p50', 'ratio', 'ratio_low', 'ratio_high', least=0.001)
        need(rates['ratio_low'] <= rates['ratio'] <= rates['ratio_high'], f'no order in {rates}')
"
done
berth bench claim --size 4M --fill empty --claimers 2 --count 5
if [ $status -eq 0 ] && [ "$(grep -cE ' (met|missed)$' out)" -eq 2 ] && [ "$(grep -c memset out)" -eq 2 ]; then
	pass
else
	miss "two claimers for people" "status $status" "$(head -n 5 out)"
fi
refuses 2 --claimers bench claim --size 4M --fill pinned --claimers 2
refuses 2 --claimers bench claim --size 4M --fill empty --claimers 9

# Interrupted: no figures, and the exit code says so.
"$BERTH" bench claim --size 64M --fill discardable --area-kind gcma --count 1000000 --writers 1 >out 2>err </dev/null &
bench=$!
started+=($bench)
caught() { [ "$(awk '/^SigCgt/ { print substr($2, length($2)) }' /proc/$bench/status)" = 3 ]; }
wait_until 20 caught
kill -INT $bench
wait $bench
status=$?
if [ $status -eq 130 ] && [ ! -s out ]; then pass; else miss "interrupted" "status $status"; fi

finish
