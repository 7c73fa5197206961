#!/bin/bash
# SPDX-License-Identifier: MIT
#
# `berth bench pages` as a whole table, with allocators of others and without them, and `berth bench
# scale`. What is printed is looked at, not how long anything takes.
#
#   BERTH  the command to test (default build/berth)
#
# Exit status: 0 passed, 77 skipped (the reason is printed), 1 failed.

# shellcheck source=tests/tool/lib.sh
. "$(dirname "$0")/lib.sh"

# ---- pages: the table

helps --allocator --rounds jemalloc mimalloc touch -- bench pages --help
refuses 2 sideways bench pages --allocator sideways
refuses 2 --order bench pages --pattern bulk
refuses 2 --pattern bench pages --order 0
refuses 2 --memory bench pages --memory 1M
refuses 2 0 bench pages --rounds 0

table='
need(len(lines) == 1 and len(text.splitlines()) == 1, "not one JSON object")
line = lines[0]
fields(line, "bench rows threads rounds memory_bytes seed")
need((line["bench"], line["memory_bytes"], line["rounds"]) == ("pages", 16 << 20, 1), "wrong parameters")
names = [row["allocator"] for row in line["rows"]]
for row in line["rows"]:
    fields(row, "label bulk repeat random order9 threads metadata_bytes_per_frame")
    for cell in ("bulk", "random", "order9", "threads"):
        if row[cell] is not None:
            number(row[cell], "alloc_ns", "free_ns", "pair_ns")
    if row["repeat"] is not None:
        number(row["repeat"], "pair_ns")
rows = {row["allocator"]: row for row in line["rows"]}
'
berth bench pages --memory 16M --rounds 1 --json
[ $status -eq 0 ] || miss "bench pages" "status $status"
cp err table.err
check "bench pages --json" out "$table"'
left_out = open("table.err").read()
for name in ("stack", "touch", "berth"):
    need(name in names, "no row " + name)
for name in ("jemalloc", "mimalloc"):
    need((name in names) != (name + " is left out" in left_out), name + ": neither a row nor a word, or both")
need(all(rows["berth"][cell] for cell in ("bulk", "repeat", "random", "order9", "threads")), "a cell of Berth is missing")
need(rows["touch"]["random"] and not rows["touch"]["bulk"], "touching is about random order")
number(rows["berth"], "metadata_bytes_per_frame", least=1)
need(line["threads"] == 2, "not two threads")
bars = {bar["name"]: bar for bar in line["bars"]}
need(sorted(bars) == ["bulk", "order 9", "random", "repeat", "threads"], "wrong bars")
for bar in bars.values():
    number(bar, "figure", "limit")
    need(bar["met"] == (bar["figure"] <= bar["limit"]), bar["name"] + ": a wrong verdict")
bulk = rows["berth"]["bulk"]["pair_ns"] / rows["stack"]["bulk"]["pair_ns"]
need(abs(bars["bulk"]["figure"] - bulk) < 0.01 * bulk + 0.01, "the figure of bulk is another")
'
berth bench pages --memory 16M --rounds 1 --threads 3 --allocator berth --json
check "bench pages --allocator berth --json" out "$table"'
need(names == ["berth"] and line["threads"] == 3, "not what was asked for")
need("bars" not in line, "bars without what they are about")
'
berth bench pages --memory 16M --rounds 1
if [ $status -eq 0 ] && [ "$(grep -cE ' (met|missed)$' out)" -eq 5 ] && grep -q '^Berth ' out; then
	pass
else
	miss "bench pages for people" "status $status" "$(head -n 5 out)"
fi
for allocator in stack touch jemalloc mimalloc; do
	berth bench pages --order 0 --pattern rand --memory 16M --rounds 1 --allocator $allocator --json
	if [ $status -eq 0 ] && [ ! -s out ]; then
		grep -q "$allocator is left out" err
		settle "bench pages --allocator $allocator: left out without a word"
		continue
	fi
	check "a cell of $allocator" out "
need(lines[0]['allocator'] == '$allocator', 'another allocator')
number(lines[0], 'alloc_ns', 'free_ns', 'pair_ns', 'stack_ns', 'touch_ns', 'touch_factor')"
done

# Libraries that can't be loaded: a line each, and the rest is measured.
mkdir fake
echo none >fake/libjemalloc.so.2
echo none >fake/libmimalloc.so.2.0
export LD_LIBRARY_PATH=$tmp/fake
berth bench pages --memory 16M --rounds 1 --json
unset LD_LIBRARY_PATH
[ $status -eq 0 ] || miss "bench pages without others" "status $status"
[ "$(grep -c 'jemalloc is left out.*apt-get install libjemalloc2' err)" = 1 ]
settle "bench pages doesn't say how to get jemalloc"
[ "$(grep -c 'mimalloc is left out.*apt-get install libmimalloc2.0' err)" = 1 ]
settle "bench pages doesn't say how to get mimalloc"
check "bench pages without others" out "$table"'
need(names == ["stack", "touch", "berth"], "wrong rows")
need(len(line["bars"]) == 5, "the bars need no others")
'

# Interrupted: no figures, and the exit code says so.
"$BERTH" bench pages --memory 64M --rounds 100000 >out 2>err </dev/null &
bench=$!
started+=($bench)
caught() { [ "$(awk '/^SigCgt/ { print substr($2, length($2)) }' /proc/$bench/status)" = 3 ]; }
wait_until 20 caught
kill -INT $bench
wait $bench
status=$?
if [ $status -eq 130 ] && [ ! -s out ]; then pass; else miss "bench pages, interrupted" "status $status"; fi

# ---- scale

helps --from --to --rounds pageblock -- bench scale --help
refuses 2 --from bench scale --from 4G --to 1G
refuses 2 --to bench scale --to 16T
refuses 2 --from bench scale --from 16M
refuses 2 0 bench scale --rounds 0
refuses 2 now bench scale now

scale='
need(len(lines) == 1 and len(text.splitlines()) == 1, "not one JSON object")
line = lines[0]
fields(line, "bench rows bars rounds seed")
times = "init_ns claim_64m_empty_ns claim_64m_full_ns largest_runs_ns compact_ns order0_pair_ns order9_pair_ns"
for row in line["rows"]:
    fields(row, times + " claim_1g_empty_ns claim_1g_full_ns metadata_bytes resident_bytes pageblocks")
    number(row, *times.split(), least=0.001)
    number(row, "metadata_bytes", least=1)
    number(row, "resident_bytes", least=1)
    need(row["resident_bytes"] < row["metadata_bytes"], "all of the metadata is touched")
    need(row["pageblocks"] == row["memory_bytes"] >> 21, "not pageblocks of 2 MiB")
    need(row["metadata_bytes"] <= 32 * (row["memory_bytes"] >> 12), "more than 32 bytes a frame")
    need((row["claim_1g_full_ns"] is None) == (row["memory_bytes"] < 4 << 30), "claims of 1 GiB")
for bar in line["bars"]:
    fields(bar, "name unit")
    number(bar, "limit")
    need(bar["met"] == (bar["figure"] <= bar["limit"]), bar["name"] + ": a wrong verdict")
'
berth bench scale --to 4G --rounds 2 --json
[ $status -eq 0 ] || miss "bench scale" "status $status"
check "bench scale --json" out "$scale"'
need([row["memory_bytes"] >> 30 for row in line["rows"]] == [1, 4], "wrong sizes")
need(len(line["bars"]) == 4, "wrong bars")
'
berth bench scale --from 256M --to 256M --rounds 1 --json
check "bench scale of one size" out "$scale"'
need(len(line["rows"]) == 1 and line["bars"] == [], "one size grows by nothing")
'
berth bench scale --to 4G --rounds 1
if [ $status -eq 0 ] && [ "$(grep -cE ' (met|missed)$' out)" -eq 4 ] && grep -q '^initialise' out; then
	pass
else
	miss "bench scale for people" "status $status" "$(head -n 5 out)"
fi

finish
