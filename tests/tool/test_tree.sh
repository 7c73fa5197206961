#!/bin/bash
# SPDX-License-Identifier: MIT
#
# berth run on process trees: where its claims go, what its report lists, and
# programs that end, become others or stand still while they are asked.
#
#   BERTH  the command to test (default build/berth)
#
# Exit status: 0 passed, 77 skipped (the reason is printed), 1 failed.

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/tool/lib.sh
. "$here/lib.sh"

tree_of() { # PID NUMBER: the tree of this `berth run` has so many tenants with more than 30 MiB lent
	"$BERTH" stat "$1" --json >tree.json 2>/dev/null </dev/null || return 1
	[ "$(value tree.json 'sum(t["lent_bytes"] > 30 << 20 for t in o["tenants"])')" -eq "$2" ]
}

# ---- a shell and two programs in the background, under claims all the time

"$BERTH" run --area cam=64M --claim '24M@0+50msx*' --json --report tree.report -- \
	sh -c "'$PYTHON' '$here/tenant.py' a & '$PYTHON' '$here/tenant.py' b & wait" >out 2>err &
run=$!
started+=("$run")
wait_until 30 test -e a.ready && wait_until 30 test -e b.ready || miss "two tenants start"
started+=("$(cat a.ready)" "$(cat b.ready)")
wait_until 20 tree_of $run 2
settle "both have memory in their areas" "$(head -c 300 tree.json)"
berth stat $run
if [ $status -eq 0 ] && grep -q '^all [0-9]' out && grep -q "$(cat a.ready)" out && grep -q "$(cat b.ready)" out; then
	pass
else
	miss "stat of a tree" "$(cat out)"
fi
berth ps --json
check "ps of a tree" out "
tenants = json.loads(text)['tenants']
need(len(tenants) >= 2, 'only %d tenants' % len(tenants))
need(all(t['error'] or t['tree'] == $run for t in tenants), 'another tree')
"
# the whole area of one can't be had while berth run holds a part of it, but the other has room
berth claim $run 40M --timeout 20 -- sh -c 'echo $BERTH_CLAIM_PID'
if [ $status -eq 0 ] && { [ "$(cat out)" = "$(cat a.ready)" ] || [ "$(cat out)" = "$(cat b.ready)" ]; }; then
	pass
else
	miss "a claim from a tree goes to the process with most lent" "$status: $(cat out), not $(cat a.ready) or $(cat b.ready)"
fi
# when one has nothing left, the other is asked
"$BERTH" claim "$(cat a.ready)" 36M --timeout 20 --json >a.out 2>a.err &
holder=$!
started+=("$holder")
wait_until 20 test -s a.out
berth claim $run 36M --timeout 20 -- sh -c 'echo $BERTH_CLAIM_PID'
if [ $status -eq 0 ] && [ "$(cat out)" = "$(cat b.ready)" ]; then pass; else miss "the other process is asked" "$status: $(cat out)"; fi
kill -TERM $holder
wait $holder
sleep 0.5
touch a.stop b.stop
wait $run
[ $? -eq 0 ] && [ -e a.right ] && [ -e b.right ]
settle "both were right all the time" "$(cat err)"
check "the report of a tree" tree.report "
report = json.loads(text)
pids = {p['pid']: p for p in report['processes']}
a, b = pids.get($(cat a.ready)), pids.get($(cat b.ready))
need(a and b and len(pids) >= 3, 'not all processes: %r' % list(pids))
need(a['in_pool'] and b['in_pool'] and not a['why_no_pool'], 'without a pool')
need(a['heap_pool_bytes_max'] > 30 << 20 and b['heap_pool_bytes_max'] > 30 << 20, 'heap outside')
need(a['claims_ok'] and b['claims_ok'], 'claims: %d and %d' % (a['claims_ok'], b['claims_ok']))
need(a['claim_moved_bytes'] + b['claim_moved_bytes'] > 0, 'nothing moved')
need(report['claims_ok'] == sum(p['claims_ok'] for p in report['processes']), 'wrong sum of claims')
need(report['moved_bytes'] == sum(p['moved_bytes'] for p in report['processes']), 'wrong sum of bytes')
need(report['claims'][0]['done'] == report['claims'][0]['succeeded'] > 3, 'claims: %r' % report['claims'])
need(report['lent_bytes_max'] > 70 << 20, 'the most that was lent at one time: %d' % report['lent_bytes_max'])
need(report['area_bytes'] >= 128 << 20 and report['pools'] >= 3, 'pools')
need(report['processes_running'] == 0 and report['main_pid'] in ($(cat a.ready), $(cat b.ready)), 'main')
"

# ---- the program ends, or becomes another, while a claim is held

began=$(date +%s%N)
berth run --area cam=16M --claim 8M@0+60 --json --report report -- sleep 0.5
took=$((($(date +%s%N) - began) / 1000000))
if [ $status -eq 0 ] && [ $took -lt 10000 ]; then pass; else miss "a held claim delays the end" "$status after $took ms"; fi
check "a claim that is held at the end" report '
report = json.loads(text)
need((report["claims_ok"], report["claims_failed"]) == (1, 0), "claims")
'
berth run --area cam=16M --claim '8M@0+30msx*' --json --report report -- sh -c 'sleep 0.3; exec sleep 0.5'
check "exec while a claim is held" report '
report = json.loads(text)
need(report["claims_ok"] >= 4 and report["claims_failed"] == 0, "claims: %d, %d" % (report["claims_ok"], report["claims_failed"]))
need(sum(p["program"] == "sleep" for p in report["processes"]) == 2, "programs")
'

# ---- nobody to ask: no process has a pool

berth run --area cam=16M --claim 4M@0+20ms --claim '4M@0+20msx*' --json --report report -- true
check "a program that is gone before the claims" report 'need(json.loads(text)["claims_failed"] == 0, "failed")'
berth run --area cam=16M --claim '4M@0.2+20msx*' --claim 4M@0.3+20ms --json --report report -- env -i sleep 0.6
check "nobody to ask" report '
report = json.loads(text)
need((report["claims_ok"], report["claims_failed"]) == (0, 0), "claims")
need(report["nobody_to_ask"] >= 5 and report["claims"][1]["done"] == 0, "nobody: %d" % report["nobody_to_ask"])
'
berth run --area cam=16M --claim '4M@0.2' -- true
if grep -q 'not made' err; then pass; else miss "a claim that comes too late"; fi

# ---- a child that outlives the first process

# shellcheck disable=SC2016
daemon='sleep 60 >/dev/null 2>&1 & until grep -q sleep /proc/$!/comm; do :; done; echo $!'
berth run --area cam=16M --report report --json -- sh -c "$daemon"
left=$(cat out)
started+=("$left")
check "a child that goes on" report "
report = json.loads(text)
running = [p['pid'] for p in report['processes'] if p['running']]
need(running == [$left] and report['processes_running'] == 1, 'running: %r' % running)
"
kill -KILL "$left"
berth run --area cam=16M -- sh -c "$daemon"
left=$(cat out)
started+=("$left")
if grep -q "$left .*still running" err; then pass; else miss "a child that goes on, for people"; fi
kill -KILL "$left"

# ---- one of two is stopped: the other is asked

"$BERTH" run --area cam=64M --claim '8M@0+50msx*' --json --report stop.report -- \
	sh -c "'$PYTHON' '$here/tenant.py' c & '$PYTHON' '$here/tenant.py' d & wait" >out 2>err &
run=$!
started+=("$run")
wait_until 30 test -e c.ready && wait_until 30 test -e d.ready || miss "two tenants start"
started+=("$(cat c.ready)" "$(cat d.ready)")
wait_until 20 tree_of $run 2
kill -STOP "$(cat c.ready)"
claims_of_d() { [ "$("$BERTH" stat "$(cat d.ready)" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["claims_ok"])')" -gt "$1" ]; }
wait_until 20 claims_of_d 20
settle "claims go on in the other process"
kill -CONT "$(cat c.ready)"
touch c.stop d.stop
wait $run
[ $? -eq 0 ] && [ -e c.right ] && [ -e d.right ]
settle "both were right" "$(cat err)"
check "its report" stop.report '
report = json.loads(text)
claims = report["claims"][0]
need(claims["done"] == claims["succeeded"], "claims failed: %r" % claims)
need(claims["unanswered"] <= 3, "the stopped process was asked too often: %r" % claims)
'

# ---- the first process stands still: the end comes all the same, and at once

began=$(date +%s%N)
berth run --area cam=16M --claim '4M@0.2+50msx*' --json --report report -- sh -c '(sleep 1; kill -KILL $$) & kill -STOP $$'
took=$((($(date +%s%N) - began) / 1000000))
if [ $status -eq 137 ] && [ $took -lt 6000 ]; then pass; else miss "a stopped program" "$status after $took ms"; fi

finish
