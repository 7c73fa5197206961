# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# What the tests of the command share; sourced by them. Goes into a temporary
# folder and counts: pass, miss NAME [DETAILS...], finish.

set -u
BERTH=${BERTH:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/../../build/berth}
case $BERTH in
/*) ;;
*) BERTH=$PWD/$BERTH ;;
esac
if [ ! -x "$BERTH" ]; then
	echo "SKIP: no berth command at $BERTH (build it, or set BERTH)"
	exit 77
fi
if ! command -v python3 >/dev/null 2>&1; then
	echo "SKIP: python3 is not installed"
	exit 77
fi

tmp=$(mktemp -d) || exit 1
trap 'stop_all; rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$tmp" || exit 1
passed=0 failed=0
# Control sockets of its own: tenants of other tests aren't seen.
mkdir -m 700 run && export XDG_RUNTIME_DIR=$tmp/run
PYTHON=/usr/bin/python3
[ -x $PYTHON ] || PYTHON=$(command -v python3)

# Processes to be ended with the test.
started=()
stop_all() {
	local pid
	for pid in "${started[@]}"; do
		kill -KILL "$pid" 2>/dev/null && kill -CONT "$pid" 2>/dev/null
	done
}

# wait_until SECONDS COMMAND...: until it succeeds; false: it didn't
wait_until() {
	local end=$((SECONDS + $1 + 1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.02
	done
}

# value FILE EXPRESSION: of the JSON object in FILE, named o
value() {
	python3 -c 'import json, sys; o = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"
}

# stat_is PID EXPRESSION: holds for the tenant's figures, named o
stat_is() {
	"$BERTH" stat "$1" --json >stat.json 2>stat.err </dev/null || return 1
	[ "$(value stat.json "$2")" = True ]
}

pass() { passed=$((passed + 1)); }
miss() {
	failed=$((failed + 1))
	printf 'FAIL %s\n' "$1"
	shift
	[ $# = 0 ] || printf '     %s\n' "$@"
	[ ! -s err ] || head -n 5 err | sed 's/^/     stderr: /'
}

# settle NAME [DETAILS...]: counts what the command before it said
settle() {
	if [ $? -eq 0 ]; then pass; else miss "$@"; fi
}

# berth ARGUMENTS...: sets $status; the outputs are in the files out and err
berth() {
	timeout -k 5 60 "$BERTH" "$@" >out 2>err </dev/null
	status=$?
}

# helps WORD... -- ARGUMENTS...: exits with 0, tells on stdout, mentions each WORD
helps() {
	local words=() word
	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	shift
	berth "$@"
	if [ $status -ne 0 ] || [ ! -s out ] || [ -s err ]; then
		miss "berth $*: help" "status $status, $(wc -c <out) bytes on stdout, $(wc -c <err) on stderr"
		return
	fi
	for word in "${words[@]}"; do
		if ! grep -qF -e "$word" out; then
			miss "berth $*: help" "doesn't mention $word"
			return
		fi
	done
	pass
}

# refuses STATUS WORD ARGUMENTS...: exits with STATUS, says why on stderr (mentioning WORD), nothing on stdout
refuses() {
	local wanted=$1 word=$2
	shift 2
	rm -f ran
	berth "$@"
	if [ $status -ne "$wanted" ]; then
		miss "berth $*" "status $status, not $wanted"
	elif [ -s out ]; then
		miss "berth $*" "an error, but something is on stdout: $(head -n 1 out)"
	elif [ ! -s err ]; then
		miss "berth $*" "refused without a word"
	elif [ -n "$word" ] && ! grep -qF -e "$word" err; then
		miss "berth $*" "the message doesn't mention '$word'"
	elif [ -e ran ]; then
		miss "berth $*" "the program ran nevertheless"
	else
		pass
	fi
}

# check NAME FILE PYTHON: PYTHON, with the JSON objects of FILE's lines as `lines` and all of it as `text`, must not fail
check() {
	if python3 - "$2" "$3" >why 2>&1 <<'PY'; then
import json, os, sys
text = open(sys.argv[1]).read()
lines = []
for line in text.splitlines():
    try:
        lines.append(json.loads(line))
    except ValueError:
        pass

def need(holds, what):
    if not holds:
        sys.exit(what)

def fields(item, names):
    missing = [name for name in names.split() if name not in item]
    need(not missing, f"fields missing: {missing}")

def number(item, *names, least=0):
    for name in names:
        value = item[name]
        need(isinstance(value, (int, float)) and not isinstance(value, bool), f"{name} is {value!r}, not a number")
        need(value >= least, f"{name} is {value}")

exec(sys.argv[2])
PY
		pass
	else
		miss "$1" "$(tail -n 1 why)" "$(head -c 300 "$2")"
	fi
}

finish() {
	echo "$passed passed, $failed failed"
	[ $failed -eq 0 ]
}
