#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What passes through `berth run`: the exit status, death by a signal, signals
# sent to the command, standard input and output, other descriptors, the
# arguments and the environment. And that the report is written each time, and
# never to the program's output.

. "$(dirname "$0")/lib.sh"

tenant_begin 64M 16M
cd "$tenant_tmp" || fail "no temporary directory"
checks=0

# one REPORT command...: run it in the pool, keep its outputs, set $status
one() {
	local report=$1
	shift
	rm -f "$report"
	berth_command "$report"
	timeout -k 5 60 "${berth_cmd[@]}" "$@" >out 2>err
	status=$?
	[ $status -ne 124 ] || fail "hung: $*"
}

report_valid() {
	"$PYTHON" - "$1" <<'PY' || fail "$2: no valid report"
import json, sys
report = json.load(open(sys.argv[1]))
missing = [f for f in ("claims_ok", "claims_failed", "moved_bytes", "processes") if f not in report]
sys.exit(f"the report lacks {missing}" if missing else 0)
PY
}

expect_status() {
	[ "$status" = "$1" ] || {
		tail -n 5 err >&2
		fail "$2: status $status, not $1"
	}
	checks=$((checks + 1))
}

expect_out() {
	printf '%b' "$1" | cmp - out >&2 || fail "$2: standard output differs"
	checks=$((checks + 1))
}

# exit status
for code in 0 1 7 42 255; do
	one report sh -c "exit $code" </dev/null
	expect_status $code "exit $code"
	expect_out '' "exit $code"
	report_valid report "exit $code"
done

# death by a signal: the shell that runs berth sees 128 + its number
for signal in TERM:143 KILL:137 SEGV:139 ABRT:134 USR1:138 PIPE:141; do
	one report sh -c "ulimit -c 0; echo before; kill -${signal%%:*} \$\$; sleep 10; echo after" </dev/null
	expect_status "${signal##*:}" "a program killed by SIG${signal%%:*}"
	expect_out 'before\n' "a program killed by SIG${signal%%:*}"
	report_valid report "a program killed by SIG${signal%%:*}"
done

# input, output, arguments, environment and a further descriptor
printf 'one\ntwo\0three' >in
one report cat <in
expect_status 0 cat
cmp in out >&2 || fail "what went through cat differs"
one report printf '%s|' 'a b' '' '*' '$HOME' -- --report </dev/null
expect_out 'a b||*|$HOME|--|--report|' "arguments"
BERTH_TEST_VALUE='x y' one report sh -c 'printf "%s" "$BERTH_TEST_VALUE"; echo "to stderr" >&2; printf more >&7' 7>seven </dev/null
expect_out 'x y' "environment"
[ "$(cat seven)" = more ] || fail "descriptor 7 didn't reach the program"
grep -qx 'to stderr' err || fail "the program's standard error is lost"
one report "$PYTHON" -c 'import os; print(os.path.exists("/proc/self/fd/0"), os.getcwd())' <&-
expect_status 0 "a closed standard input"

# without --report the report goes to stderr, and never to stdout
timeout 60 "$BERTH" run --pool "$TENANT_POOL" --area "tenant=$TENANT_AREA" -- printf 'only this' >out 2>err </dev/null ||
	fail "a run without --report failed"
expect_out 'only this' "without --report"
[ -s err ] || fail "without --report nothing is on stderr"

# a signal sent to berth reaches the program; berth ends as the program ends
cat >wait.py <<'PY'
import os, signal, sys
number = getattr(signal, sys.argv[1])
signal.pthread_sigmask(signal.SIG_BLOCK, {number})
junk = [bytearray(b"x" * n) for n in range(0, 60000, 13)]  # a heap worth moving
print("ready", flush=True)
info = signal.sigtimedwait({number}, 50)
good = all(b == b"x" * (13 * n) for n, b in enumerate(junk))
print("got", signal.Signals(info.si_signo).name if info else None, good, flush=True)
if sys.argv[2] == "die":
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
sys.exit(5)
PY
ready() { grep -q ready out 2>/dev/null; }
gone() {
	local state
	state=$(sed -n 's/^State:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null)
	[ -z "$state" ] || [ "${state:0:1}" = Z ]
}
for signal in INT TERM HUP; do
	for how in exit die; do
		rm -f report out
		berth_command report
		# A shell starts background jobs with SIGINT ignored; python sets it back to its default.
		"$PYTHON" -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])' "${berth_cmd[@]}" "$PYTHON" wait.py SIG$signal $how >out 2>err </dev/null &
		pid=$!
		own_pid $pid
		poll 30 ready || fail "the program under berth didn't start: $(tail -n 3 err)"
		kill -$signal $pid
		poll 30 gone $pid || fail "SIG$signal sent to berth run: nothing ended"
		status=0
		wait $pid || status=$?
		disown_pid $pid
		grep -q "^got SIG$signal True\$" out || fail "SIG$signal to berth run didn't reach the program: $(tail -n 1 out)"
		if [ $how = exit ]; then
			expect_status 5 "a program that ends after SIG$signal"
		else
			expect_status $((128 + $(kill -l $signal))) "a program that dies of SIG$signal"
		fi
		report_valid report "after SIG$signal"
	done
done
# Moved or not makes no difference to what passes through: no reason to skip.
say "passed: $checks checks"
