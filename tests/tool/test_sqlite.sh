#!/bin/bash
# SPDX-License-Identifier: MIT
#
# `berth bench sqlite`: options, what it prints, and that nothing is left of it. Answers are looked at by the
# command itself; how long anything takes isn't looked at here.
#
#   BERTH  the command to test (default build/berth)
#
# Exit status: 0 passed, 77 skipped (the reason is printed), 1 failed.

# shellcheck source=tests/tool/lib.sh
. "$(dirname "$0")/lib.sh"
mkdir files && export TMPDIR=$tmp/files
small=(bench sqlite --database 16M --lent 8M --front 1M --warm-up 30000 --queries 5000)

helps --database --lent --front --warm-up --queries --rounds --scans --seed --json -- bench sqlite --help
refuses 2 sideways bench sqlite sideways
refuses 2 --database bench sqlite --database 1M
refuses 2 --database bench sqlite --database large
refuses 2 --lent bench sqlite --lent 2T
refuses 2 --queries bench sqlite --queries 0
refuses 2 --rounds bench sqlite --rounds 1000
refuses 2 --scans bench sqlite --scans many
refuses 2 --worker bench sqlite --worker
refuses 2 --worker bench sqlite --worker file none 0
refuses 1 --database bench sqlite --database 512G
TMPDIR=$tmp/nowhere refuses 1 TMPDIR "${small[@]}"

berth "${small[@]}" --rounds 3 --scans 2 --seed 7 --json
if [ $status -eq 1 ] && grep -qE "libsqlite3|SQLite's headers" err; then
	echo "SKIP: $(tail -n 1 err)"
	[ $failed -eq 0 ] && exit 77 || exit 1
fi
[ $status -eq 0 ] || miss "berth bench sqlite" "status $status"
check "bench sqlite --json" out '
need(len(lines) == 1 and len(text.splitlines()) == 1, "not one JSON object")
line = lines[0]
fields(line, "bench rows bars")
need(line["bench"] == "sqlite" and line["seed"] == 7, "not what was asked for")
need((line["database_bytes"], line["lent_bytes"], line["front_bytes"]) == (16 << 20, 8 << 20, 1 << 20), "wrong sizes")
need([(row["what"], row["unit"]) for row in line["rows"]] == [("query", "ns"), ("scan", "ns")], "wrong rows")
for row, rounds in zip(line["rows"], (3, 2)):
    ways = ("lent", "same_memory", "default_cache")
    number(row, *ways, least=1)
    need(list(row["rounds"]) == list(ways), "wrong ways")
    for way in ways:
        need(len(row["rounds"][way]) == rounds, "not all rounds")
        need(min(row["rounds"][way]) - 1 <= row[way] <= max(row["rounds"][way]) + 1, "no median")
    for ratio, way in (("time_by_same_memory", "same_memory"), ("time_by_default", "default_cache")):
        each = [a / b for a, b in zip(row["rounds"]["lent"], row["rounds"][way])]
        need(min(each) - 0.001 <= row[ratio] <= max(each) + 0.001, "a ratio of nothing")
    number(row["pages"], "front_hits", "store_hits", "misses", "puts")
pages = line["rows"][0]["pages"]
need(pages["store_hits"] > 100 and pages["puts"] > 100, f"nothing was in lent memory: {pages}")
need(pages["front_hits"] > pages["store_hits"], f"nothing was popular: {pages}")
bars = {bar["name"]: bar for bar in line["bars"]}
need([bar["limit"] for bar in line["bars"]] == [1.1, 0.95, 1], "wrong bars")
for bar in line["bars"]:
    need(bar["low"] <= bar["figure"] <= bar["high"], f"not likely: {bar}")
    need(bar["met"] == (bar["figure"] <= bar["limit"]), bar["name"] + ": a wrong verdict")
    need(bar["sure"] == (bar["high"] <= bar["limit"] if bar["met"] else bar["low"] > bar["limit"]), bar["name"] + ": not as sure")
need(bars["query, lent / same memory"]["figure"] == line["rows"][0]["time_by_same_memory"], "another ratio")
'

# A part of it, for people
berth "${small[@]}" --rounds 0 --scans 1
if [ $status -eq 0 ] && ! grep -q '^query' out && [ "$(grep -c '^scan' out)" -ge 2 ] &&
	[ "$(grep -cE '  (not surely )?(met|missed)$' out)" -eq 1 ]; then
	pass
else
	miss "bench sqlite for people" "status $status" "$(head -n 5 out)"
fi

# Without the libraries of `berth run`: said
BERTH_PRELOAD=$tmp/nothing berth "${small[@]}" --rounds 1 --scans 0
if [ $status -eq 1 ] && [ ! -s out ] && grep -q BERTH_PRELOAD err; then
	pass
else
	miss "bench sqlite without the preload library" "status $status"
fi
[ -z "$(ls files)" ]
settle "files are left behind" "$(ls files)"

# Interrupted, as by a terminal, and killed: no process stays, and no file
tree() { "$PYTHON" - "$1" <<'PY'
import os, sys
children = {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        children.setdefault(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1], []).append(pid)
    except OSError:
        pass
found, left = [], [sys.argv[1]]
while left:
    left += (more := children.get(left.pop(), []))
    found += more
print(*found)
PY
}
three_ways() { [ "$(tree $bench | wc -w)" -ge 5 ]; } # one of them is inside a `berth run`, and one removes files
all_gone() {
	local pid
	for pid in $ways; do [ ! -e "/proc/$pid" ] || return 1; done
}
for signal in INT KILL; do
	setsid "$BERTH" "${small[@]}" --queries 1000000 --rounds 900 >out 2>err </dev/null &
	bench=$!
	started+=($bench)
	wait_until 30 three_ways
	ways=$(tree $bench)
	if [ $signal = INT ]; then kill -INT -- -$bench; else kill -KILL $bench; fi
	wait $bench 2>/dev/null
	status=$?
	if [ $signal/$status = INT/130 ] || [ $signal/$status = KILL/137 ]; then
		pass
	else
		miss "bench sqlite, SIG$signal" "status $status"
	fi
	wait_until 30 all_gone
	settle "processes are left after SIG$signal" "$ways"
	[ -z "$(ls files)" ]
	settle "files are left after SIG$signal" "$(ls files)"
done

finish
