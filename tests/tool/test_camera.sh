#!/bin/bash
# SPDX-License-Identifier: MIT
#
# `berth bench camera`: options, what it prints, its end. Contents are looked at by the command itself;
# how long anything takes isn't looked at here.
#
#   BERTH  the command to test (default build/berth)
#
# Exit status: 0 passed, 77 skipped (the reason is printed), 1 failed.

# shellcheck source=tests/tool/lib.sh
. "$(dirname "$0")/lib.sh"
mkdir files && export TMPDIR=$tmp/files

helps --size --photos --duration --background --ways --seed --nice --json --each reserve cma gcma mixed -- bench camera --help
refuses 2 --size bench camera --size 1M
refuses 2 --size bench camera --size large
refuses 2 --photos bench camera --photos 0
refuses 2 --duration bench camera --duration never
refuses 2 sideways bench camera --ways reserve,sideways
refuses 2 sideways bench camera --background sideways
refuses 2 "''" bench camera --ways reserve,
refuses 2 --nice bench camera --nice 20
refuses 2 now bench camera now
refuses 1 "--size" bench camera --size 1T

table='
need(len(lines) == 1 and len(text.splitlines()) == 1, "not one JSON object")
line = lines[0]
fields(line, "bench size_bytes largest_photo_bytes seed nice seconds background ways bars")
need(line["bench"] == "camera", "another benchmark")
ways = {row["way"]: row for row in line["ways"]}
for row in line["ways"]:
    fields(row, "failures")
    number(row, "photos", least=1)
    number(row, "failed", "hit_rate", "lent_share", "reads_per_s", "heap_bytes_per_s", "heap_refused", "moved_bytes")
    need(row["failed"] == sum(row["failures"].values()) == 0, f"photos failed: {row}")
    for times in (row["whole_us"], row["claim_us"]):
        number(times, "p50", "p99", "p999", "max", least=0.001)
        need(times["p50"] <= times["p99"] <= times["p999"] <= times["max"], f"no order in {times}")
    need(row["claim_us"]["p50"] < row["whole_us"]["p50"], "a claim is a part of the photo")
    number(row, "cpu_ms", "reads_per_s", "heap_bytes_per_s", least=0.001)
    number(row, "lost_pages", "waits", "wait_ns", "longest_wait_ns")
    number(row["waiting_us"], "p50", "p99", "p999", "max", least=0)
    need(row["waiting_us"]["max"] <= row["whole_us"]["max"], "it waits for longer than it takes")
    need([size["most_bytes"] * part for size, part in zip(row["by_size"], (16, 4, 1))] == [line["largest_photo_bytes"]] * 3, "sizes")
    need(any(size["whole_us"] and size["whole_us"]["max"] == row["whole_us"]["max"] for size in row["by_size"]), "the longest photo has no size")
    need(row["way"] in ("gcma", "mixed") or row["lost_pages"] == row["waits"] == 0, f"no store, but {row}")
    need(0 <= row["hit_rate"] <= 1 and 0 <= row["lent_share"] <= 1, f"no share: {row}")
'
berth bench camera --size 16M --photos 40 --background store --json
[ $status -eq 0 ] || miss "bench camera" "status $status"
check "bench camera --json" out "$table"'
need(line["size_bytes"] == 16 << 20 and line["largest_photo_bytes"] == 8 << 20, "wrong sizes")
need([row["photos"] for row in line["ways"]] == [40, 16, 40, 16], "not all photos")
need(list(ways) == ["reserve", "cma", "gcma", "mixed"], "wrong ways")
reserve, cma, gcma, mixed = (ways[name] for name in ("reserve", "cma", "gcma", "mixed"))
need(reserve["lent_share"] == 0 and reserve["moved_bytes"] == 0, "a reservation lends nothing")
need(cma["lent_share"] > 0.3 and cma["moved_bytes"] > 0, "photos met nobody")
need(gcma["moved_bytes"] == 0 and gcma["lent_share"] > 0.1, "a store that lends nothing, or moves something")
need(gcma["lost_pages"] > 0 and mixed["lost_pages"] > 0, "photos met no page of the stores")
need(mixed["lent_share"] > 0.1, "nothing is lent in the mixed way")
need(min(cma["hit_rate"], gcma["hit_rate"]) > reserve["hit_rate"], "a larger cache has fewer hits")
bars = line["bars"]
need(len(bars) == 2 and [bar["limit"] for bar in bars] == [1.05, 0], "wrong bars")
for bar in bars:
    fields(bar, "name unit")
    need(bar["met"] == (bar["figure"] <= bar["limit"]), bar["name"] + ": a wrong verdict")
    sure = bar["high"] <= bar["limit"] if bar["met"] else bar["low"] > bar["limit"]
    need(bar["sure"] == sure, bar["name"] + ": not as sure as it says")
need(bars[0]["low"] <= bars[0]["figure"] <= bars[0]["high"], "a figure that is not likely")
ratios = {ratio["what"]: ratio for ratio in line["gcma_by_reserve"]}
need(list(ratios) == ["p99_small", "p99_medium", "p99_large", "p99", "p99_cpu", "pairs_p50"], "wrong ratios")
for ratio in ratios.values():
    need(ratio["low"] <= ratio["figure"] <= ratio["high"], f"not likely: {ratio}")
    need((ratio["low"] > 0) == (ratio["what"] != "p99_small"), f"no photo is as small as that: {ratio}")
need(ratios["p99"]["figure"] == bars[0]["figure"], "the bar is another ratio")
ratio = gcma["whole_us"]["p99"] / reserve["whole_us"]["p99"]
need(abs(bars[0]["figure"] - ratio) < 0.01 * ratio + 0.01, "another ratio")
need(line["background"] == "store", "another load")
'

# Each photo: the same ones in all ways, half of them large, and percentiles that count by weight
berth bench camera --size 16M --photos 48 --background store --json --each
[ $status -eq 0 ] || miss "bench camera --each" "status $status"
check "bench camera --each" out '
photos, line = lines[:-1], lines[-1]
fields(line, "bench ways gcma_by_reserve")
taken = {way: [p for p in photos if p["way"] == way] for way in ("reserve", "cma", "gcma", "mixed")}
need({way: len(all) for way, all in taken.items()} == {row["way"]: row["photos"] for row in line["ways"]}, "not each photo")
for way, all in taken.items():
    same = {p["photo"]: (p["bytes"], p["weight"]) for p in taken["reserve"]}
    need(all and [same[p["photo"]] for p in all] == [(p["bytes"], p["weight"]) for p in all], way + ": other photos")
    need([p["photo"] for p in all] == sorted(p["photo"] for p in all), "not in order")
    for p in all:
        fields(p, "error")
        number(p, "whole_us", "claim_us", "write_us", "read_us", "cpu_us", least=0.001)
        need(p["claim_us"] + p["write_us"] + p["read_us"] <= p["whole_us"] + 0.01, f"parts longer than the whole: {p}")
        need(1 << 20 <= p["bytes"] <= 8 << 20, f"a wrong size: {p}")
all = taken["reserve"]
for turn in range(0, 48, 8):
    need(sorted(p["weight"] for p in all[turn:turn + 8]) == [1] * 4 + [7] * 4, "not half of them large")
need(min(p["bytes"] for p in all if p["weight"] == 1) >= max(p["bytes"] for p in all if p["weight"] == 7), "weights by size")
def percentile(way, what, percent):
    below, total = 0, sum(p["weight"] for p in taken[way])
    for p in sorted(taken[way], key=lambda p: p[what]):
        below += p["weight"]
        if below >= total * percent / 100:
            return p[what]
need(percentile("reserve", "whole_us", 50) == line["ways"][0]["whole_us"]["p50"], "another p50 by weight")
ratios = {ratio["what"]: ratio["figure"] for ratio in line["gcma_by_reserve"]}
for name, what in (("p99", "whole_us"), ("p99_cpu", "cpu_us")):
    ratio = percentile("gcma", what, 99) / percentile("reserve", what, 99)
    need(abs(ratios[name] - ratio) < 0.002, f"{name} is {ratios[name]}, not {ratio}")
'

# The load is SQLite, if it can be
berth bench camera --size 16M --photos 16 --json
if [ $status -eq 0 ] && grep -q 'SQLite is left out' err; then
	check "bench camera without SQLite" out "$table"'need(line["background"] == "store", "no word of what is left out")'
	refuses 1 store bench camera --size 16M --background sqlite
else
	check "bench camera beside SQLite" out "$table"'
need(line["background"] == "sqlite", "another load")
need(ways["gcma"]["lent_share"] > 0.01 and ways["mixed"]["lent_share"] > 0.05, "SQLite keeps nothing in the store")
need(ways["cma"]["lent_share"] > 0.3, "SQLite keeps nothing in movable memory")
need(min(ways[way]["hit_rate"] for way in ways) > 0.3, "no hits")
'
fi
BERTH_PRELOAD=$tmp/nothing berth bench camera --size 16M --photos 8 --ways gcma
if [ $status -eq 0 ] && grep -q 'SQLite is left out' err && [ -s out ]; then
	pass
else
	miss "bench camera without libberth-sqlite" "status $status"
fi

# One way, until the time is over
berth bench camera --size 20M --ways cma --background store --duration 300ms --photos 1000000 --seed 7 --nice 0 --json
check "bench camera --ways cma --duration" out "$table"'
need(line["bars"] == [], "bars without what they are about")
need(list(ways) == ["cma"] and line["seed"] == 7 and line["nice"] == 0, "not what was asked for")
need(line["size_bytes"] == 24 << 20, "sizes are rounded up to 8 MiB")
need(line["ways"][0]["photos"] < 1000, "it went on")
'
berth bench camera --size 16M --photos 8 --ways reserve,gcma --background store
if [ $status -eq 0 ] && [ "$(grep -c '^no lending' out)" -eq 3 ] && grep -q 'whole photo.*CPU' out &&
	grep -q '^ratio p99 .*GCMA' out && grep -q '^the same photo' out && grep -q '^on the CPU' out && [ "$(grep -cE '  (not surely )?(met|missed)$' out)" -eq 2 ]; then
	pass
else
	miss "bench camera for people" "status $status" "$(head -n 5 out)"
fi
[ -z "$(ls files)" ]
settle "files are left behind" "$(ls files)"

# No room for the file: said, and no process stays
TMPDIR=$tmp/nowhere berth bench camera --size 16M --photos 8 --background store
if [ $status -eq 1 ] && [ ! -s out ] && grep -q TMPDIR err; then
	pass
else
	miss "bench camera without a folder for its file" "status $status"
fi

# Interrupted, all of its processes as by a terminal, and the first one alone
for whom in group one; do
	setsid "$BERTH" bench camera --size 16M --photos 100000 --background store >out 2>err </dev/null &
	bench=$!
	started+=($bench)
	two_ways() { [ "$(wc -w <"/proc/$bench/task/$bench/children")" -ge 2 ]; }
	wait_until 20 two_ways
	ways=$(cat "/proc/$bench/task/$bench/children")
	if [ $whom = group ]; then kill -INT -- -$bench; else kill -INT $bench; fi
	wait $bench
	status=$?
	if [ $status -eq 130 ] && [ ! -s out ]; then pass; else miss "bench camera, interrupted ($whom)" "status $status"; fi
	alive=
	for way in $ways; do [ ! -e "/proc/$way" ] || alive+=" $way"; done
	[ -z "$alive" ]
	settle "processes are left ($whom)" "$alive"
done

# Killed: its processes end as well
setsid "$BERTH" bench camera --size 16M --photos 100000 --background store >out 2>err </dev/null &
bench=$!
started+=($bench)
wait_until 20 two_ways
ways=$(cat "/proc/$bench/task/$bench/children")
kill -KILL $bench
wait $bench 2>/dev/null
all_gone() {
	local way
	for way in $ways; do [ ! -e "/proc/$way" ] || return 1; done
}
wait_until 20 all_gone
settle "processes outlive the killed command" "$ways"

finish
