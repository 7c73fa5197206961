# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Shared by the tenant tests: real programs that live in the pool while all of
# their heap is moved back and forth (`berth run --stress --poison`).
#
# A tenant test runs a program bare and under Berth, and compares. It exits
# with 0 (pass), 77 (skipped, with the reason) or 1 (failed).
#
#   BERTH           the command to test              (default build/berth)
#   TENANT_SECONDS  how long a run under Berth lasts (default 5)
#   TENANT_ROUNDS   how often it's repeated          (default 1)
#   TENANT_POOL, TENANT_AREA  sizes of the pool and of its area
#   TENANT_KEEP=1   keep the temporary directory
#   CC              the compiler for the tenants written in C
#   TENANT_BIN      a directory with those tenants already built
#
# Where the system refuses userfaultfd to this user, moves under a running
# program are not safe across system calls (see CAVEATS.md). The tests then run
# the program in the pool without moving it, compare, and exit with 77.
# TENANT_FALLBACK=1 moves it nevertheless.

set -u -o pipefail

tenant_here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tenant_root=$(cd "$tenant_here/../.." && pwd)
tenant_name=$(basename "$0" .sh)
BERTH=${BERTH:-$tenant_root/build/berth}
TENANT_SECONDS=${TENANT_SECONDS:-5}
TENANT_ROUNDS=${TENANT_ROUNDS:-1}
TENANT_POOL=${TENANT_POOL:-}
TENANT_AREA=${TENANT_AREA:-}

tenant_tmp=
tenant_pids=()
tenant_unmoved=
tenant_moves=(--stress --poison) # how berth_command moves the program

say() { printf '%s: %s\n' "$tenant_name" "$*"; }

fail() {
	printf '%s: FAILED: %s\n' "$tenant_name" "$*" >&2
	exit 1
}

skip() {
	printf 'SKIP: %s\n' "$*"
	exit 77
}

# Remember a child to be ended with the test; forget it once it was waited for.
own_pid() { tenant_pids+=("$1"); }
disown_pid() {
	local pid left=()
	for pid in ${tenant_pids[@]+"${tenant_pids[@]}"}; do
		[ "$pid" = "$1" ] || left+=("$pid")
	done
	tenant_pids=(${left[@]+"${left[@]}"})
}

tenant_cleanup() {
	local pid
	for pid in ${tenant_pids[@]+"${tenant_pids[@]}"}; do
		kill -KILL "$pid" 2>/dev/null
	done
	if [ -n "$tenant_tmp" ] && [ -z "${TENANT_KEEP:-}" ]; then
		rm -rf "$tenant_tmp"
	elif [ -n "$tenant_tmp" ]; then
		say "kept $tenant_tmp"
	fi
}

need() {
	local tool
	for tool in "$@"; do
		command -v "$tool" >/dev/null 2>&1 || skip "$tool is not installed"
	done
}

# The python3 that is a program; a version manager's shim is a shell script.
find_python() {
	if [ -x /usr/bin/python3 ]; then
		echo /usr/bin/python3
	else
		python3 -c 'import sys; print(sys.executable)' 2>/dev/null
	fi
}

uffd_allowed() {
	"$PYTHON" - <<'PY'
import ctypes, os, platform, sys
number = {"x86_64": 323, "aarch64": 282, "riscv64": 282}.get(platform.machine())
if number is not None and ctypes.CDLL(None).syscall(number, os.O_CLOEXEC) >= 0:
    sys.exit(0)
try:
    os.close(os.open("/dev/userfaultfd", os.O_RDWR | os.O_CLOEXEC))
except OSError:
    sys.exit(1)
PY
}

# tenant_begin POOL AREA: call first.
tenant_begin() {
	case $BERTH in
	/*) ;;
	*) BERTH=$PWD/$BERTH ;;
	esac
	[ -x "$BERTH" ] || skip "no berth command at $BERTH (build it, or set BERTH)"
	PYTHON=$(find_python)
	[ -n "$PYTHON" ] || skip "python3 is not installed"
	case $TENANT_SECONDS$TENANT_ROUNDS in
	*[!0-9]*) fail "TENANT_SECONDS and TENANT_ROUNDS must be whole numbers" ;;
	esac
	TENANT_POOL=${TENANT_POOL:-$1}
	TENANT_AREA=${TENANT_AREA:-$2}
	trap tenant_cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	tenant_tmp=$(mktemp -d "${TMPDIR:-/tmp}/berth-$tenant_name.XXXXXX") || fail "no temporary directory"
	if [ -z "${TENANT_FALLBACK:-}" ] && ! uffd_allowed; then
		tenant_unmoved=1
		say "userfaultfd is refused to this user: the program lives in the pool but isn't moved"
	fi
}

# tenant_end: call last, when everything was compared and equal.
tenant_end() {
	[ -z "$tenant_unmoved" ] ||
		skip "userfaultfd is refused to this user; unmoved in the pool everything was equal"
	say "passed: $*"
	exit 0
}

now_ms() { printf '%s' $((${EPOCHREALTIME/[.,]/} / 1000)); }

# berth_command REPORT: sets the array berth_cmd to the command line in front of a program.
berth_command() {
	berth_cmd=("$BERTH" run --pool "$TENANT_POOL" --area "tenant=$TENANT_AREA" --json --report "$1")
	[ -n "$tenant_unmoved" ] || berth_cmd+=("${tenant_moves[@]}")
	berth_cmd+=(--)
}

# How long a run may take at most; a longer one counts as hung.
tenant_limit() { printf '%s' $((TENANT_SECONDS * 6 + 60)); }

# run_bare OUT ERR command...
run_bare() {
	local out=$1 err=$2 rc=0
	shift 2
	timeout -k 5 "$(tenant_limit)" "$@" >"$out" 2>"$err" </dev/null || rc=$?
	if [ $rc -ne 0 ]; then
		tail -n 20 "$err" >&2
		fail "the bare run of $1 ended with status $rc: the test itself is broken"
	fi
}

# run_berth OUT ERR REPORT command...: standard input is empty. A run whose memory nothing met, since the claims
# found other ranges free each time, says nothing: it is made again.
tenant_tries=10
run_berth() {
	local out=$1 err=$2 report=$3 rc=0 try
	shift 3
	berth_command "$report"
	for ((try = 1; try <= tenant_tries; try++)); do
		timeout -k 5 "$(tenant_limit)" "${berth_cmd[@]}" "$@" >"$out" 2>"$err" </dev/null || rc=$?
		if [ $rc -ne 0 ]; then
			tail -n 20 "$out" "$err" >&2
			case $rc in
			124 | 137) fail "$1 under berth run hung (no end within $(tenant_limit) s)" ;;
			*) fail "$1 under berth run ended with status $rc" ;;
			esac
		fi
		! nothing_moved "$report" || continue
		break
	done
	check_report "$report"
}

# nothing_moved REPORT: it is whole, and says so. What can't be moved here isn't expected to be.
nothing_moved() {
	[ -z "$tenant_unmoved" ] && "$PYTHON" - "$1" 2>/dev/null <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
sys.exit(int(report["moved_bytes"]) + int(report.get("shuffled_bytes", 0)) != 0)
PY
}

# check_report FILE: the report is JSON and says that the tenant was moved; sets $report_line.
check_report() {
	[ -s "$1" ] || fail "berth run wrote no report"
	report_line=$("$PYTHON" - "$1" "${tenant_unmoved:-0}" <<'PY'
import json, sys
try:
    report = json.load(open(sys.argv[1]))
    # claims move, and so does --stress, which may count by itself
    moved, share = int(report["moved_bytes"]) + int(report.get("shuffled_bytes", 0)), report.get("pool_share")
except (ValueError, KeyError, TypeError) as error:
    sys.exit(f"the report isn't what was promised: {error!r}")
if sys.argv[2] == "0" and moved <= 0:
    sys.exit("the report says that nothing was moved, so nothing was tested")
text = f"{moved / 2**20:.0f} MiB moved"
if isinstance(share, (int, float)):
    text += f", {share * 100 if share <= 1 else share:.0f} % of its memory in the pool"
if isinstance(report.get("stall_max_us"), (int, float)):
    text += f", longest stall {report['stall_max_us']:.0f} us"
print(text)
PY
	) || fail "see above"
}

# same BARE BERTH WHAT: byte for byte, or show where they differ and fail
same() {
	[ -s "$1" ] || fail "$3: the bare run said nothing"
	if ! cmp "$1" "$2" >&2; then
		diff "$1" "$2" | head -n 20 >&2
		fail "$3 differs between the bare run and the run under berth"
	fi
}

# poll SECONDS command...: until the command succeeds or the time is over
poll() {
	local end=$(($(now_ms) + $1 * 1000))
	shift
	until "$@"; do
		[ "$(now_ms)" -lt $end ] || return 1
		sleep 0.02
	done
}

# compile NAME: the C tenant NAME.c; sets $tenant_program
compile() {
	if [ -n "${TENANT_BIN:-}" ] && [ -x "$TENANT_BIN/$1" ]; then
		tenant_program=$TENANT_BIN/$1
		return
	fi
	local cc=${CC:-cc}
	command -v "${cc%% *}" >/dev/null 2>&1 || skip "no C compiler"
	tenant_program=$tenant_tmp/$1
	# CC may carry options
	# shellcheck disable=SC2086
	$cc -std=c11 -O2 -g -Wall -Wextra -pthread -o "$tenant_program" "$tenant_here/$1.c" ||
		fail "$1.c doesn't compile"
}

# c_tenant NAME [ARGS]: compile, run bare and under Berth, compare standard output
c_tenant() {
	local name=$1 round
	shift
	compile "$name"
	run_bare "$tenant_tmp/bare.out" "$tenant_tmp/bare.err" "$tenant_program" --seconds 1 "$@"
	for ((round = 1; round <= TENANT_ROUNDS; round++)); do
		run_berth "$tenant_tmp/berth.out" "$tenant_tmp/berth.err" "$tenant_tmp/report" \
			"$tenant_program" --seconds "$TENANT_SECONDS" "$@"
		same "$tenant_tmp/bare.out" "$tenant_tmp/berth.out" "standard output"
		say "round $round of $TENANT_ROUNDS: equal; $report_line"
	done
	tenant_end "$TENANT_ROUNDS rounds of $TENANT_SECONDS s"
}

# both_ways TREATMENT WHAT command...: a habit that would break a program. Bare and under Berth it must
# end well and say the same; with the treatment left out the damage must show (CONTRIBUTING.md). Prints
# nothing; standard input is empty. Returns 77 when the program does.
both_ways() {
	local treatment=$1 what=$2 limit=${both_ways_limit:-60} rc=0 try
	shift 2
	timeout -k 5 60 "$@" >"$tenant_tmp/bare.out" 2>"$tenant_tmp/bare.err" </dev/null || rc=$?
	[ $rc -ne 77 ] || return 77
	if [ $rc -ne 0 ]; then
		tail -n 20 "$tenant_tmp/bare.err" >&2
		fail "$what: the bare run ended with status $rc: the test itself is broken"
	fi
	berth_command "$tenant_tmp/report"
	timeout -k 5 60 "${berth_cmd[@]}" "$@" >"$tenant_tmp/berth.out" 2>"$tenant_tmp/berth.err" \
		</dev/null || rc=$?
	if [ $rc -ne 0 ]; then
		tail -n 20 "$tenant_tmp/berth.err" >&2
		fail "$what: under berth run it ended with status $rc"
	fi
	same "$tenant_tmp/bare.out" "$tenant_tmp/berth.out" "$what"
	[ -z "$tenant_unmoved" ] || return 0
	for ((try = 1; try <= 40; try++)); do # the damage is a matter of chance: of when it moves
		rc=0
		BERTH_UNTREATED=$treatment timeout -k 1 "$limit" "${berth_cmd[@]}" "$@" \
			>"$tenant_tmp/untreated.out" 2>"$tenant_tmp/untreated.err" </dev/null || rc=$?
		if [ $rc -ne 0 ] || ! cmp -s "$tenant_tmp/bare.out" "$tenant_tmp/untreated.out"; then
			return 0
		fi
	done
	fail "$what: without the treatment \"$treatment\" nothing went wrong, so the test proves nothing"
}
