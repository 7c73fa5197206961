#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The demo: sqlite3, unmodified, with a million rows and a few hundred MiB of
# heap, lives in memory that is reserved for a device. It runs bare, then under
# `berth run` while claims of 64, 128 and 256 MiB come and go, then bare again;
# outputs are compared byte for byte. Then a camera takes photos while others use its
# memory, in four ways side by side. About two minutes on two slow cores.
#
#   BERTH       the command                 (default build/berth)
#   DEMO_ROWS   orders to load              (default 1000000)
#   DEMO_AREA   size of the device's area   (default 512M)
#   DEMO_POOL   size of the whole pool      (default: berth's own choice)
#   DEMO_PHOTOS photos of each way          (default 200)
#   DEMO_KEEP=1 keep the temporary directory
#
# Exit status: 0 when the outputs are identical, every claim succeeded, memory
# was moved and the photos' contents were right; 1 otherwise.

set -u -o pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
BERTH=${BERTH:-$root/build/berth}
rows=${DEMO_ROWS:-1000000}
area=${DEMO_AREA:-512M}
pool=${DEMO_POOL:-}
photos=${DEMO_PHOTOS:-200}

tmp='' tenant='' drawer=''
bold='' green='' red='' dim='' plain=''
tty=
if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
	tty=1
	if [ -z "${NO_COLOR:-}" ]; then
		bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'
	fi
fi

stop_children() {
	local pid
	for pid in $drawer $tenant; do
		kill -TERM "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	tenant='' drawer=''
}

cleanup() {
	stop_children
	[ -z "$tmp" ] || [ -n "${DEMO_KEEP:-}" ] || rm -rf "$tmp"
	[ -z "$tmp" ] || [ -z "${DEMO_KEEP:-}" ] || echo "kept $tmp"
}
trap cleanup EXIT
trap 'echo; echo "demo: interrupted" >&2; exit 130' INT
trap 'echo; echo "demo: ended by a signal" >&2; exit 143' TERM HUP

fail() {
	printf '\n%sdemo: %s%s\n' "$red" "$1" "$plain" >&2
	shift
	[ $# = 0 ] || printf '%s\n' "$@" >&2
	exit 1
}

for tool in sqlite3 python3; do
	command -v $tool >/dev/null 2>&1 || fail "$tool is not installed (make setup, or apt-get install $tool)"
done
case $BERTH in
/*) ;;
*) BERTH=$PWD/$BERTH ;;
esac
[ -x "$BERTH" ] || fail "there is no $BERTH: build it first (make)"
[[ $rows =~ ^[1-9][0-9]*$ ]] || fail "DEMO_ROWS must be a number"
tmp=$(mktemp -d "${TMPDIR:-/tmp}/berth-demo.XXXXXX") || fail "can't make a temporary directory"

# Where userfaultfd is refused, a system call that writes to a page in motion fails
# (CAVEATS.md). sqlite3 reads its file by such calls; so there, keep the database
# in memory and hand over the SQL as arguments.
in_memory=
if ! python3 - <<'PY'; then
import ctypes, os, platform, sys
number = {"x86_64": 323, "aarch64": 282, "riscv64": 282}.get(platform.machine())
if number is not None and ctypes.CDLL(None).syscall(number, os.O_CLOEXEC) >= 0:
    sys.exit(0)
try:
    os.close(os.open("/dev/userfaultfd", os.O_RDWR | os.O_CLOEXEC))
except OSError:
    sys.exit(1)
PY
	in_memory=1
fi

now_us() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }

# The newest file of the answers tells the phase: "07 insert-1" -> insert-1
phase_of() {
	local last
	last=$(cd "$1" 2>/dev/null && printf '%s\n' *.txt | tail -n 1)
	last=${last#*-}
	last=${last%.txt}
	printf '%s' "${last#'*'}"
}

# Resident MiB of a process or, under berth, of its largest child
resident_mib() {
	local pid largest=0 kb
	for pid in $1 $(cat "/proc/$1/task/$1/children" 2>/dev/null); do
		kb=$(sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$pid/status" 2>/dev/null)
		[ "${kb:-0}" -le "$largest" ] || largest=$kb
	done
	printf '%s' $((largest / 1024))
}

# draw PID OUT LABEL: progress, until it is killed. On a terminal one line that
# changes; else a word for each phase that has begun, on one line.
draw() {
	local started phase='' seen='' elapsed
	trap 'exit 0' TERM
	started=$(now_us)
	while :; do
		phase=$(phase_of "$2")
		elapsed=$((($(now_us) - started) / 1000000))
		if [ -n "$tty" ]; then
			printf '\r  %-14s %3d s  %4d MiB resident  %-10s' "$3" $elapsed "$(resident_mib "$1")" "$phase"
		elif [ "$phase" != "$seen" ]; then
			[ "$phase" = end ] || [ -z "$phase" ] || printf ' %s' "$phase"
			seen=$phase
		fi
		sleep 0.25
	done
}

# run LABEL NAME [COMMAND...]: sqlite3 with the workload, with the words of COMMAND in front.
# Sets run_us. Answers, outputs and database stay in $tmp/NAME.
run() {
	local label=$1 name=$2 started rc=0
	shift 2
	mkdir -p "$tmp/$name/out"
	cd "$tmp/$name" || fail "no temporary directory"
	[ -n "$tty" ] || printf '  %-14s' "$label"
	started=$(now_us)
	if [ -n "$in_memory" ]; then
		HOME=$tmp "$@" sqlite3 -bail :memory: "${statements[@]}" </dev/null >stdout 2>stderr &
	else
		HOME=$tmp "$@" sqlite3 -bail shop.db <"$tmp/workload.sql" >stdout 2>stderr &
	fi
	tenant=$!
	draw $tenant out "$label" &
	drawer=$!
	wait $tenant || rc=$?
	run_us=$(($(now_us) - started))
	tenant=
	kill -TERM $drawer 2>/dev/null
	wait $drawer 2>/dev/null
	drawer=
	[ -z "$tty" ] || printf '\r\e[K  %-14s' "$label"
	if [ $rc -ne 0 ]; then
		printf '\n'
		fail "sqlite3 ($label) ended with status $rc in phase $(phase_of out)" "$(tail -n 10 stderr)"
	fi
	printf ' %s%d.%01d s%s\n' "$bold" $((run_us / 1000000)) $((run_us / 100000 % 10)) "$plain"
	[ -e out/99-end.txt ] || fail "sqlite3 ($label) didn't reach the end of the workload"
	tail -n +1 out/*.txt stdout >answers
	cd "$root" || exit 1
}

# ---- the workload and the claims

python3 "$root/scripts/demo-workload.py" --rows "$rows" >"$tmp/workload.sql" || fail "no workload could be made"
mapfile -t statements <"$tmp/workload.sql"

# A device's buffers come and go for the whole run, in ten rounds of `$1` milliseconds: three times
# 64 and three times 128 MiB, which overlap, then twice 256 MiB with nothing else claimed. So wherever
# the others lie, there is always a run left of the size that is asked for.
claims=()
plan_claims() {
	local begin
	for begin in {0..9}; do
		begin=$((500 + begin * $1))
		claims+=(--claim "64M@${begin}ms+$(($1 * 8 / 100))msx3")
		claims+=(--claim "128M@$((begin + $1 * 5 / 100))ms+$(($1 * 9 / 100))msx3")
		claims+=(--claim "256M@$((begin + $1 * 62 / 100))ms+$(($1 * 8 / 100))msx2")
	done
}

printf '%ssqlite3 lives in memory that is reserved for a device%s\n' "$bold" "$plain"
printf '%s  %s orders; area of %s; claims of 64, 128 and 256 MiB, up to two at a time%s\n' "$dim" "$rows" "$area" "$plain"
if [ -n "$in_memory" ]; then
	printf '  userfaultfd is refused to this user: Berth moves memory less smoothly, and the database stays\n'
	printf '  in memory. To see it all: sudo make demo, or sudo sysctl vm.unprivileged_userfaultfd=1\n'
fi

run "bare" bare1
bare1_us=$run_us
# Time enough for a run under Berth that takes half as long again.
round_ms=$((bare1_us * 16 / 100 / 1000))
plan_claims $((round_ms > 1000 ? round_ms : 1000))
command=("$BERTH" run --area "cam=$area")
[ -z "$pool" ] || command+=(--pool "$pool")
run "under Berth" berth "${command[@]}" "${claims[@]}" --json --report "$tmp/report.json" --
berth_us=$run_us
bare2_us=
if [ $bare1_us -le 30000000 ]; then
	run "bare again" bare2
	bare2_us=$run_us
fi

# ---- compare

bad() {
	printf '\n' >&2
	diff "$tmp/bare1/answers" "$1" | head -n 20 >&2
	fail "$2"
}
if [ -n "$bare2_us" ]; then
	cmp -s "$tmp/bare1/answers" "$tmp/bare2/answers" ||
		bad "$tmp/bare2/answers" "two bare runs gave different outputs: this comparison says nothing"
fi
cmp -s "$tmp/bare1/answers" "$tmp/berth/answers" ||
	bad "$tmp/berth/answers" "the outputs DIFFER between the bare run and the run under Berth"
answers_bytes=$(wc -c <"$tmp/bare1/answers")
verdict="identical: $answers_bytes bytes of answers, compared byte for byte"
if [ -z "$in_memory" ] && cmp -s "$tmp/bare1/shop.db" "$tmp/berth/shop.db"; then
	verdict="identical: $answers_bytes bytes of answers and $(($(wc -c <"$tmp/berth/shop.db") / 1048576)) MiB of database, byte for byte"
fi
check=$(cat "$tmp"/berth/out/*-check.txt)
[ "$check" = ok ] || fail "PRAGMA integrity_check says: $(head -n 1 <<<"$check")"
loaded=$(head -n 1 "$tmp/berth/out/01-load.txt")
[ "${loaded%%|*}" = "$rows" ] || fail "only ${loaded%%|*} of $rows orders were loaded"

# ---- the report

summary=$(python3 - "$tmp/report.json" "$area" "$bare1_us" "${bare2_us:-$bare1_us}" "$berth_us" 2>"$tmp/why" <<'PY'
import json, sys

def size(text):
    scale = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper())
    return int(text[:-1]) << scale if scale else int(text)

def time(us):
    return f"{us:.0f} us" if us < 1000 else f"{us / 1000:.1f} ms"

try:
    report = json.load(open(sys.argv[1]))
    ok, failed = int(report["claims_ok"]), int(report["claims_failed"])
    moved = int(report["moved_bytes"])
    us = {name: float(report[name + "_us"]) for name in ("p50", "p99", "max")} if ok else {}
    lent, most = float(report["lent_bytes_mean"]), float(report["lent_bytes_max"])
except (OSError, ValueError, KeyError, TypeError) as error:
    sys.exit(f"berth run gave no usable report: {error!r}")
bare = (float(sys.argv[3]) + float(sys.argv[4])) / 2
slower = (float(sys.argv[5]) / bare - 1) * 100
total = size(sys.argv[2])
rows = [("claims", f"{ok} of {ok + failed} succeeded")]
if ok:
    rows.append(("claim latency", f"p50 {time(us['p50'])}, p99 {time(us['p99'])}, worst {time(us['max'])}"))
rows.append(("moved", f"{moved / 2**20:,.0f} MiB, while sqlite3 ran"))
rows.append(("lent to sqlite3", f"{lent / total * 100:.0f} % of the area on average, at most {most / total * 100:.0f} %"))
share = report.get("pool_share")
if isinstance(share, (int, float)):
    rows.append(("in the pool", f"{share * 100 if share <= 1 else share:.0f} % of sqlite3's memory"))
stall = report.get("stall_max_us")
if isinstance(stall, (int, float)):
    rows.append(("longest stall", f"{stall / 1000:.2f} ms of one write"))
word = "slower" if slower >= 0 else "faster"
rows.append(("sqlite3", f"{bare / 1e6:.1f} s bare, {float(sys.argv[5]) / 1e6:.1f} s under Berth: {abs(slower):.0f} % {word}"))
for name, value in rows:
    print(f"  {name:<16} {value}")
if ok + failed == 0:
    sys.exit("not one claim was made")
if failed:
    reasons = report.get("failures") or report.get("reasons") or report.get("claims") or ""
    sys.exit(f"{failed} of {ok + failed} claims FAILED {json.dumps(reasons)[:1500] if reasons else ''}")
if moved <= 0:
    sys.exit("NOTHING was moved: the claims never met sqlite3's memory")
PY
)
status=$?
printf '\n'
[ -z "$summary" ] || printf '%s\n' "$summary"
printf '  %-16s %s%s%s\n' outputs "$green" "$verdict" "$plain"
[ $status -eq 0 ] || fail "$(cat "$tmp/why")" "the report: $(head -c 2000 "$tmp/report.json" 2>/dev/null)"

# ---- photos

printf '\n%sa camera takes photos, while others use its memory in four ways%s\n' "$bold" "$plain"
"$BERTH" bench camera --size 128M --photos "$photos" --duration 20 >"$tmp/photos" 2>"$tmp/why" &
tenant=$!
wait $tenant
status=$?
tenant=
[ $status -eq 0 ] || fail "the photos failed" "$(cat "$tmp/why")"
sed 's/^\(.\)/  \1/' "$tmp/photos"
