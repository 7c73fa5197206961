#!/bin/bash
# SPDX-License-Identifier: MIT
#
# berth ps, stat and claim on one running tenant: their output, errors and exit
# codes; claims by a command, and what becomes of them when the tenant or the
# claimant is stopped, killed or leaves something in the background.
#
#   BERTH  the command to test (default build/berth)
#
# Exit status: 0 passed, 77 skipped (the reason is printed), 1 failed.

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/tool/lib.sh
. "$here/lib.sh"

# tenant NAME AREA: sets $run (the `berth run`) and $pid (its program)
tenant() {
	"$BERTH" run --area "$2" --report "$1.report" --json -- "$PYTHON" "$here/tenant.py" "$tmp/$1" 2>"$1.err" &
	run=$!
	if ! wait_until 20 test -e "$1.ready"; then
		miss "a tenant starts" "$(head -n 3 "$1.err")"
		finish
		exit 1
	fi
	pid=$(cat "$1.ready")
	started+=("$run" "$pid")
	wait_until 10 stat_is "$pid" 'o["total"]["lent_bytes"] > 30 << 20' || miss "a tenant lives in its area"
}

state() { # of a process
	sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null
}
is_stopped() { [ "$(state "$1")" = T ]; }
is_gone() { ! kill -0 "$1" 2>/dev/null || [ "$(state "$1")" = Z ]; }

# ---- help and usage

helps --json --timeout -- ps --help
helps --json --timeout 124 -- stat --help
helps BERTH_CLAIM_FD BERTH_CLAIM_OFFSET BERTH_CLAIM_BYTES BERTH_CLAIM_TOKEN --area --align --hold --timeout --no-zero \
	--json "read" "write access to all of it" "whole heap" 123 124 125 -- claim --help
helps BERTH_CLAIM_FD -- help claim
refuses 2 --frobnicate ps --frobnicate
refuses 2 frobnicate ps frobnicate
refuses 2 PID stat
refuses 2 --frobnicate stat --frobnicate
refuses 2 PID claim
refuses 2 SIZE claim 1
refuses 2 command claim 1 1M --
refuses 2 --hold claim 1 1M --hold 1 -- touch ran
refuses 2 'touch' claim 1 1M touch ran
for number in 0 -1 abc 99999999999 1x ''; do
	refuses 2 "$number" stat -- "$number"
	refuses 2 "$number" claim "$number" 1M
done
for size in 0 12Q abc 99999999999999999999G ''; do
	refuses 2 "$size" claim 1 "$size" -- touch ran
done
for align in 3 12K 8M 0 abc; do
	refuses 2 --align claim 1 1M --align $align -- touch ran
done
for option in --hold --timeout; do
	for time in abc -1 1q ''; do
		refuses 2 $option claim 1 1M $option "$time"
	done
done
refuses 2 --area claim 1 1M --area ''
refuses 2 --timeout stat 1 --timeout abc

# ---- nobody there

berth ps
if [ $status -eq 0 ] && [ "$(wc -l <out)" -eq 1 ] && grep -q LENT out; then pass; else miss "ps of nobody" "$status"; fi
berth ps --json
check "ps --json of nobody" out 'need(json.loads(text) == {"tenants": []}, "not an empty list")'
true &
wait $!
refuses 1 "no process $!" stat $!
refuses 125 "no process $!" claim $! 1M -- touch ran
refuses 1 "no tenant" stat $$
refuses 125 "no tenant" claim $$ 1M -- touch ran

# ---- a tenant

tenant one cam=64M
berth ps
if [ $status -eq 0 ] && grep -qE "^ *$pid +$run +python3" out; then pass; else miss "ps lists the tenant" "$(cat out)"; fi
berth ps --json
check "ps --json" out "
tenants = json.loads(text)['tenants']
need(len(tenants) == 1, '%d tenants' % len(tenants))
need((tenants[0]['pid'], tenants[0]['tree'], tenants[0]['root_pid']) == ($pid, $run, $pid), 'wrong process')
need(tenants[0]['area_bytes'] == 64 << 20 and tenants[0]['lent_bytes'] > 30 << 20, 'wrong sizes')
number(tenants[0], 'pool_bytes', 'claimed_bytes', 'claims_held', 'heap_pool_bytes')
"
berth stat "$pid"
if [ $status -eq 0 ] && grep -q "area  *cam" out && grep -q "claims  *0 succeeded" out; then pass; else miss "stat" "$(cat out)"; fi
stat_check='
fields(one, "pid tree root_pid program mover areas held claims_ok claims_failed claims_held longest_stall_us")
number(one, "pool_bytes", "free_bytes", "claimed_bytes", "used_bytes", "lent_bytes", "moved_bytes", "stalled_runs", "pins")
need(one["areas"][0]["name"] == "cam" and one["areas"][0]["bytes"] == 64 << 20, "wrong area")
'
berth stat "$pid" --json
check "stat --json of the tree" out "
tree = json.loads(text)
need((tree['tree'], tree['root_pid'], len(tree['tenants'])) == ($run, $pid, 1), 'wrong tree')
need(tree['total']['lent_bytes'] == tree['tenants'][0]['lent_bytes'], 'wrong sum')
one = tree['tenants'][0]
$stat_check"
cp out by_tenant
berth stat "$run" --json
check "stat --json by berth run's pid" out "need(json.loads(text)['tree'] == $run, 'wrong tree')"

# ---- a command that claims

berth claim "$pid" 48M -- "$PYTHON" "$here/claimant.py" zero
if [ $status -eq 0 ] && [ "$(cat out)" = right ] && [ ! -s err ]; then pass; else miss "a command fills its claim" "$status: $(cat out)"; fi
stat_is "$pid" 'o["total"]["moved_bytes"] > 0 and o["total"]["claims_ok"] == 1'
settle "the tenant's memory moved"
berth claim "$run" 48M --align 2M -- "$PYTHON" "$here/claimant.py" zero
if [ $status -eq 0 ] && [ "$(cat out)" = right ]; then pass; else miss "the next claim is zeroed" "$status: $(cat out)"; fi
berth claim "$run" 1M --align 2M --json -- sh -c 'echo $((BERTH_CLAIM_OFFSET % 2097152)) $BERTH_CLAIM_BYTES $BERTH_CLAIM_PID; exit 7'
if [ $status -eq 7 ] && [ "$(cat out)" = "0 1048576 $pid" ]; then pass; else miss "exit code, output, alignment" "$status: $(cat out)"; fi
check "--json with a command, on stderr" err 'need(json.loads(text)["claimed"] is True, "not claimed")'
berth claim "$pid" 5000 --no-zero -- sh -c 'echo $BERTH_CLAIM_BYTES'
if [ $status -eq 0 ] && [ "$(cat out)" = 8192 ]; then pass; else miss "rounded up to pages" "$status: $(cat out)"; fi
refuses 127 no-such-program claim "$pid" 1M -- no-such-program
echo 'echo "not executable"' >plain-file
refuses 126 ./plain-file claim "$pid" 1M -- ./plain-file
berth claim "$pid" 1M -- sh -c 'kill -TERM $$'
if [ $status -eq 143 ]; then pass; else miss "dies of the command's signal" "$status"; fi
stat_is "$pid" 'o["total"]["claims_held"] == 0'
settle "commands that have ended hold nothing"

# ---- refusals

refuses 125 "larger than the area" claim "$pid" 65M -- touch ran
refuses 125 "no area 'gpu'" claim "$pid" 1M --area gpu -- touch ran
berth claim "$pid" 65M --json
check "a failure as JSON" out "
answer = json.loads(text)
need(answer['claimed'] is False and answer['error'] == 'E2BIG' and answer['bytes'] == 65 << 20, 'wrong answer')
"
berth claim $$ 1M --json
[ $status -eq 125 ]
settle "no tenant: exit code" "$status"
check "no tenant as JSON" out 'need(json.loads(text)["error"] == "ESRCH", "wrong error")'

# ---- held without a command

"$BERTH" claim "$pid" 48M --json >held.out 2>held.err &
holder=$!
started+=("$holder")
wait_until 10 test -s held.out
check "a claim that is held" held.out "
answer = json.loads(text)
need(answer['claimed'] is True and answer['bytes'] == 48 << 20 and answer['pid'] == $pid and answer['area'] == 'cam', 'wrong answer')
number(answer, 'offset', 'claim_us', 'zero_us', 'moved_bytes', 'pool_bytes')
need(answer['offset'] + answer['bytes'] <= answer['pool_bytes'], 'beyond the pool')
"
berth stat "$pid" --json
check "stat names the holder" out "
one = json.loads(text)['tenants'][0]
need(one['claims_held'] == 1 and len(one['held']) == 1, 'not one claim held')
held = one['held'][0]
need((held['bytes'], held['claimant_pid'], held['area']) == (48 << 20, $holder, 'cam'), 'wrong holder: %r' % held)
"
refuses 123 ENOSPC claim "$pid" 32M -- touch ran
refuses 123 '' claim "$pid" 32M --timeout 100ms -- touch ran
kill -TERM $holder
wait $holder
[ $? -eq 0 ]
settle "SIGTERM ends a claim that is held"
wait_until 5 stat_is "$pid" 'o["total"]["claims_held"] == 0'
settle "and releases it"
"$BERTH" claim "$pid" 32M >held.out 2>held.err &
holder=$!
started+=("$holder")
wait_until 10 grep -q 'until Ctrl-C' held.out || miss "a claim for people"
kill -KILL $holder
wait $holder 2>/dev/null
wait_until 5 stat_is "$pid" 'o["total"]["claims_held"] == 0'
settle "a killed claimant releases"
began=$(date +%s%N)
berth claim "$pid" 4M --hold 300ms
took=$((($(date +%s%N) - began) / 1000000))
if [ $status -eq 0 ] && [ $took -ge 300 ] && grep -q 'held for' out; then pass; else miss "--hold 300ms" "$status after $took ms"; fi
berth stat "$pid" --json
check "stat tells how long claims took" out "
one = json.loads(text)
one = one['tenants'][0] if 'tenants' in one else one
need(0 < one['claim_p50_us'] <= one['claim_p99_us'] <= one['claim_max_us'], 'wrong order')
need(one['claim_max_us'] < 60e6, 'too long')
"

# one waits until the other's claim is released
"$BERTH" claim "$pid" 48M --hold 1 >held.out 2>held.err &
holder=$!
started+=("$holder")
wait_until 10 test -s held.out
berth claim "$pid" 48M --timeout 20 -- true
[ $status -eq 0 ]
settle "--timeout waits for a holder" "$status"
wait $holder

# ---- what a command leaves running keeps the claim

berth claim "$pid" 8M -- sh -c 'sleep 60 >/dev/null 2>&1 & echo $!'
left=$(cat out)
started+=("$left")
stat_is "$pid" 'o["total"]["claims_held"] == 1'
settle "a background process keeps the claim"
kill -KILL "$left"
wait_until 5 stat_is "$pid" 'o["total"]["claims_held"] == 0'
settle "and its end releases it"

# ---- a stopped tenant

kill -STOP "$pid"
wait_until 5 is_stopped "$pid"
refuses 124 "$pid" stat "$pid" --timeout 200ms
refuses 124 "doesn't answer" claim "$pid" 4M -- touch ran
berth ps --timeout 200ms
if [ $status -eq 0 ] && grep -q "$pid.*doesn't answer" out; then pass; else miss "ps of a stopped tenant" "$(cat out)"; fi
berth ps --json --timeout 200ms
check "ps --json of a stopped tenant" out "need(json.loads(text)['tenants'] == [{'pid': $pid, 'error': 'ETIMEDOUT'}], 'wrong')"
kill -CONT "$pid"
wait_until 5 stat_is "$pid" 'o["total"]["claims_held"] == 0 and o["total"]["claimed_bytes"] == 0'
settle "nothing is half done after a timeout"

# ---- somebody else's

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	cp "$BERTH" berth-copy && chmod 755 . berth-copy
	for arguments in "stat $pid" "claim $pid 1M"; do
		# shellcheck disable=SC2086
		env -u XDG_RUNTIME_DIR setpriv --reuid=65534 --clear-groups ./berth-copy $arguments >out 2>err
		code=$?
		if { [ $code -eq 1 ] || [ $code -eq 125 ]; } && grep -q "another user\|isn't yours" err; then
			pass
		else
			miss "another user's berth $arguments" "$code: $(cat out)"
		fi
	done
fi

# ---- the tenant ends right, then another is killed while claims of it are held

touch one.stop
wait $run
[ $? -eq 0 ] && [ -e one.right ]
settle "the tenant's memory was right all the time"
check "its report counts the claims from outside" one.report '
report = json.loads(text)
need(report["claims_ok"] >= 9 and report["claims_failed"] >= 3, "%d, %d" % (report["claims_ok"], report["claims_failed"]))
need(report["moved_bytes"] > 0, "nothing moved")
'

tenant two cam=64M
"$BERTH" claim "$pid" 32M -- "$PYTHON" "$here/claimant.py" outlive "$tmp/two" >held.out 2>held.err &
holder=$!
"$BERTH" claim "$pid" 8M --hold 60 >idle.out 2>idle.err &
idle=$!
started+=("$holder" "$idle")
wait_until 10 test -e two.held
wait_until 10 test -s idle.out
kill -KILL "$pid"
wait $run
[ $? -eq 137 ]
settle "berth run dies as its killed program"
wait_until 5 grep -q 'the bytes stay yours' held.err && wait_until 5 grep -q 'the bytes stay yours' idle.err
settle "claimants are told" "$(cat held.err idle.err)"
touch two.go
wait $holder
[ $? -eq 0 ] && [ "$(cat held.out)" = right ]
settle "the bytes outlive the tenant" "$(cat held.out held.err)"
if is_gone $idle; then miss "a claim that is held outlives the tenant"; fi
kill -TERM $idle
wait $idle
[ $? -eq 0 ]
settle "and is released by SIGTERM"
berth ps --json
check "the dead aren't listed" out 'need(json.loads(text) == {"tenants": []}, "not an empty list")'

# ---- devices and their areas

"$BERTH" run --quiet --config 'areas=video:8M,lend=last,keep=2M;dma:4M,policy=reserve;codec:4M,policy=gcma devices=cam*:video,nic0:dma,vpu:codec' -- sleep 30 &
run=$!
started+=("$run")
wait_until 10 stat_is "$run" 'o["total"]["area_bytes"] == 16 << 20' || miss "a tenant with a configuration"
berth stat "$run" --json
check "stat tells how areas are used" out '
video, dma, codec = json.loads(text)["tenants"][0]["areas"]
need((video["policy"], video["lend"], video["keep_bytes"]) == ("cma", "last", 2 << 20), "video: %r" % video)
need((dma["policy"], dma["lend"], dma["free_bytes"]) == ("reserve", "off", 4 << 20), "dma: %r" % dma)
need((codec["policy"], codec["lend"], codec["free_bytes"]) == ("gcma", "discardable", 4 << 20), "codec: %r" % codec)'
berth stat "$run"
if grep -q 'cma, lent last down to 2 MiB' out && grep -q 'reserve, lent off' out && grep -q 'gcma, lent discardable' out; then pass; else miss "stat in words" "$(cat out)"; fi
for pair in cam0:video camera:video nic0:dma vpu:codec; do
	berth claim "$run" 2M --device "${pair%:*}" --json --hold 0
	check "a claim for ${pair%:*}" out "need(json.loads(text)['area'] == '${pair#*:}', 'another area')"
done
refuses 125 'no area is configured' claim "$run" 1M --device nic1 -- touch ran
refuses 125 'larger than the area' claim "$run" 5M --device nic0 -- touch ran
refuses 2 'give one' claim "$run" 1M --device nic0 --area dma -- touch ran
refuses 2 "--device ''" claim "$run" 1M --device '' -- touch ran
kill -TERM $run
wait $run 2>/dev/null

# ---- names are untrusted

bash -c "exec -a \$'e\\e[31mvil' \"$BERTH\" run --quiet --area cam=16M -- bash -c 'exec -a \$'\"'e\\\\e[31mvil'\"' sleep 30'" &
run=$!
started+=("$run")
wait_until 10 sh -c "'$BERTH' ps --json | grep -q '\"tree\":$run'"
for arguments in ps "stat $run" "ps --json" "stat $run --json"; do
	# shellcheck disable=SC2086
	berth $arguments
	if [ $status -ne 0 ] || grep -q $'\e' out; then miss "berth $arguments with a hostile name" "$(cat -v out)"; else pass; fi
done
kill -TERM $run
wait $run 2>/dev/null
finish
