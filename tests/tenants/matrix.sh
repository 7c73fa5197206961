#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The matrix: real programs, unmodified, each with a load of its own, run bare
# and under `berth run` while claims come and go all the time. Compared byte for
# byte are standard output, standard error, the files that were written and the
# exit status. Each program is one file in tests/tenants/matrix/; what stands in it
# is explained below.
#
#     matrix.sh [OPTIONS] [PROGRAM...]
#
#     --rounds N       how often each program is run, bare and under Berth (5)
#     --short          the small programs with small loads, one round
#     --list           the programs, and the package each comes from
#     --packages       all packages, on one line
#     --markdown FILE  the table as markdown
#     --json FILE      all figures, of each round
#     --readme FILE    put the table between the two marks in FILE
#     --keep           keep the temporary directory; that of a failure is kept anyway
#
#   BERTH            the command to test (default build/berth)
#   TENANT_FALLBACK  1: make claims even where userfaultfd is refused (see lib.sh)
#
# Exit status: 0, all equal; 1, something differed, crashed or hung; 77, nothing
# could be compared under claims (the last line says why).

. "$(dirname "$0")/lib.sh"

programs_dir=$tenant_here/matrix
deadline=150   # seconds; a run that takes longer counts as hung
term_grace=10  # seconds for a process that outlives its run, before it counts as left behind

# ---- What a program's file can use -----------------------------------------------------------------
#
# The file sets variables and functions:
#
#   title       what is run, for the table
#   needs       the commands it can't do without
#   packages    where Debian 12 has them
#   short=yes   it belongs to the short form
#   heap=own    it maps its heap by itself: nothing may have been moved
#   heap=small  its heap is of a few MiB: likewise
#   heap=aligned  it asks for memory aligned to 512 bytes and more, which stays in its place: likewise
#   area, pool  other sizes in MiB than below; claims take three quarters and an eighth of the area
#   user=other  it refuses to run as root
#   prepare()   makes the load, once, in $load (the current directory)
#   work()      runs it in an empty directory. What is there at the end is compared
#   filter()    optional: from standard input to standard output, what is compared of the file $1
#
# $scratch is a folder for what isn't compared: sockets, databases.
# work() puts `tenant` or `serve` before the one command that is to live in the pool.

set_defaults() {
	title='' needs='' packages='' short=no heap=pool user=same
	area=$((MATRIX_SHORT == 1 ? 32 : 96)) pool=640
	prepare() { :; }
	filter() { cat; }
	filtered=no
}

# scaled N: a size of the load; a quarter in the short form
scaled() { printf '%s' $((MATRIX_SHORT == 1 ? ($1 + 3) / 4 : $1)); }

# tenant COMMAND...: run it bare or in the pool
tenant() { "${front[@]}" "$@"; }

# serve COMMAND...: the same in the background, until stop_server
serve() {
	"${front[@]}" "$@" </dev/null &
	server=$!
	own_pid $server
}

# await_server SECONDS COMMAND...: until the command succeeds; fails at once when the server is gone
await_server() {
	poll "$1" answers_or_gone "${@:2}" || fail "the server doesn't answer"
	kill -0 "$server" 2>/dev/null || fail "the server ended before it answered"
}
answers_or_gone() { "$@" >/dev/null 2>&1 || ! kill -0 "$server" 2>/dev/null; }

# stop_server [SIGNAL]: it must end by itself then, with status 0
stop_server() {
	local status=0
	[ $# = 0 ] || kill "-$1" "$server"
	wait "$server" || status=$?
	disown_pid "$server"
	[ $status -eq 0 ] || fail "the server ended with status $status"
}

# background COMMAND...: a part of the load that runs beside others; all_done waits for all of them
jobs_running=()
background() {
	"$@" </dev/null &
	jobs_running+=($!)
	own_pid $!
}
all_done() {
	local pid status=0
	for pid in "${jobs_running[@]}"; do
		wait "$pid" || status=$?
		disown_pid "$pid"
	done
	jobs_running=()
	[ $status -eq 0 ] || fail "a part of the load ended with status $status"
}

# free_port: a port of 127.0.0.1 that nobody has
free_port() {
	"$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# ---- One program -----------------------------------------------------------------------------------

read_program() {
	set_defaults
	name=$1
	# shellcheck disable=SC1090
	. "$programs_dir/$name.sh" || exit 1
	[ "$(declare -f filter | wc -l)" -le 4 ] || filtered=yes
}

# How the driver calls itself for a part of a program: matrix.sh --part prepare|work NAME FRONT...
part() {
	local what=$1
	trap tenant_cleanup EXIT
	trap 'exit 143' TERM INT
	PYTHON=$(find_python)
	read_program "$2"
	shift 2
	front=("$@")
	if [ "$what" = prepare ]; then
		set -e
		prepare
	else
		work
	fi
}

# The processes of the run that are still there, whoever their parent is by now
run_processes() {
	{
		grep -lszx "MATRIX_RUN=$1" /proc/[0-9]*/environ 2>/dev/null
		# some write over their environment
		find /proc/[0-9]*/cwd -maxdepth 0 -lname "$tenant_tmp/*/run/*" 2>/dev/null
	} | sed 's,/proc/\([0-9]*\)/.*,\1,' | sort -u
}
no_processes() { [ -z "$(run_processes "$1")" ]; }

# end_processes RUN: kill what is left, and keep what can be said about it
end_processes() {
	local pid
	for pid in $(run_processes "$1"); do
		printf '%s %s: ' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c 1-200)"
		tail -qn 1 /proc/"$pid"/task/*/wchan 2>/dev/null | tr '\n' ' '
		echo
		! command -v gdb >/dev/null || timeout 20 gdb -p "$pid" -batch -ex 'thread apply all bt 16' 2>&1
	done >>"$2" 2>/dev/null
	kill_processes "$1"
}
kill_processes() {
	local pid
	for pid in $(run_processes "$1"); do
		kill -KILL "$pid" 2>/dev/null
	done
}

# one_run MODE: sets $status, $run_ms and $trouble. In $tenant_tmp/NAME/MODE: out/ (the work), stdout,
# stderr, report. While it runs the folder has one name for both modes: compilers write it down.
one_run() {
	local mode=$1 dir=$tenant_tmp/$name/run command=() waiter
	rm -rf "$dir" "$tenant_tmp/$name/$mode"
	mkdir -p "$dir/out" "$dir/scratch"
	[ "$user" = same ] || [ "$(id -u)" != 0 ] || chown -R nobody "$dir"
	if [ "$mode" = berth ]; then
		command=("$user_berth" run --quiet --json --report "$dir/report" --pool "${pool}M" --area "cam=${area}M")
		[ -n "$tenant_unmoved" ] || command+=(--claim "$((area * 3 / 4))M@0.1+50msx*" --claim "$((area / 8))M@0.12+70msx*")
		command+=(--)
	fi
	run_id=$$.$name.$mode.$RANDOM
	status=0 trouble=
	local started
	started=$(now_ms)
	(
		cd "$dir/out" || exit 1
		MATRIX_RUN=$run_id load=$tenant_tmp/$name/load scratch=$dir/scratch exec timeout -k 5 $deadline \
			"${as_user[@]}" bash "$tenant_here/matrix.sh" --part work "$name" "${command[@]}" \
			>"$dir/stdout" 2>"$dir/stderr" </dev/null
	) &
	waiter=$!
	own_pid $waiter
	wait $waiter || status=$?
	disown_pid $waiter
	run_ms=$(($(now_ms) - started))
	if [ $status -eq 124 ] || [ $status -eq 137 ]; then
		trouble="hung: no end within $deadline s"
	elif ! poll $term_grace no_processes "$run_id"; then
		trouble="left processes behind"
	fi
	end_processes "$run_id" "$dir/left"
	mv "$dir" "$tenant_tmp/$name/$mode"
	if [ -z "$trouble" ] && [ $status -ne 0 ]; then
		trouble="ended with status $status"
	fi
}

# Where userfaultfd is refused, Berth says so on stderr
berths_own() {
	if [ -n "$tenant_unmoved" ] && [ "$1" = stderr ]; then
		grep -v '^berth: full userfaultfd'
	else
		cat
	fi
}

# digest MODE: what is compared, in $tenant_tmp/NAME/MODE.sum; each file through the filter
digest() {
	local file dir=$tenant_tmp/$name/$1
	{
		printf 'exit status %s\n' "$status"
		for file in stdout stderr; do
			printf '%s  %s\n' "$(berths_own "$file" <"$dir/$file" | filter "$file" | sha256sum | cut -c 1-64)" "$file"
		done
		cd "$dir/out" || exit 1
		find . -type f -print0 | LC_ALL=C sort -z >"$dir/files"
		if [ $filtered = no ]; then
			xargs -0r sha256sum <"$dir/files"
		else
			while IFS= read -r -d '' file; do
				printf '%s  %s\n' "$(filter "${file#./}" <"$file" | sha256sum | cut -c 1-64)" "$file"
			done <"$dir/files"
		fi
		cd "$tenant_root" || exit 1
	} >"$dir.sum"
}

# Why two runs aren't the same: the first lines that differ
explain_difference() {
	local a=$tenant_tmp/$name/first b=$tenant_tmp/$name/$1 file
	diff "$a.sum" "$b.sum" | head -n 12
	for file in stdout stderr; do
		diff <(filter $file <"$a/$file") <(filter $file <"$b/$file") | head -n 10 | cut -c 1-300
	done
}

# trouble MODE TEXT: keeps everything
report_trouble() {
	printf '%s: %s, %s\n' "$name" "$1" "$2" >&2
	tail -n 12 "$tenant_tmp/$name/$1/stderr" 2>/dev/null | cut -c 1-300 >&2
	[ ! -s "$tenant_tmp/$name/$1/left" ] || grep -v '^\[New LWP' "$tenant_tmp/$name/$1/left" | head -n 60 >&2
	local kept=$tenant_tmp/failed/$name.$round
	mkdir -p "$tenant_tmp/failed"
	rm -rf "$kept"
	cp -r "$tenant_tmp/$name/$1" "$kept" 2>/dev/null
	kept_failures=yes
}

# Fresh copies of the command for a user who can't read the build folder
prepare_user() {
	as_user=()
	user_berth=$BERTH
	[ "$user" = other ] && [ "$(id -u)" = 0 ] || return 0
	# The right to userfaultfd goes along: without it Berth falls back (CAVEATS.md)
	as_user=(setpriv --reuid nobody --regid nogroup --clear-groups
		--inh-caps +sys_ptrace --ambient-caps +sys_ptrace --)
	if ! "${as_user[@]}" true 2>/dev/null; then
		why_not="it refuses to run as root, and setpriv can't make it another user here"
		return 1
	fi
	if ! "${as_user[@]}" test -x "$BERTH" -a -r "$tenant_here/matrix.sh"; then
		why_not="it refuses to run as root, and another user can't read $tenant_root"
		return 1
	fi
}

# one_program NAME: all rounds; adds lines to $tenant_tmp/rows
one_program() {
	local missing='' tool why_not=''
	read_program "$1"
	for tool in $needs; do
		command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
	done
	mkdir -p "$tenant_tmp/$name/load"
	if [ -n "$missing" ]; then
		row skip "not installed:$missing (package $packages)"
		return
	elif ! prepare_user; then
		row skip "$why_not"
		return
	fi
	[ "${#as_user[@]}" = 0 ] || chown -R nobody "$tenant_tmp/$name"
	cd "$tenant_tmp/$name/load" || fail "no temporary directory"
	if ! load=$tenant_tmp/$name/load timeout -k 5 $deadline "${as_user[@]}" \
		bash "$tenant_here/matrix.sh" --part prepare "$name" >"$tenant_tmp/$name/prepare.log" 2>&1 </dev/null; then
		tail -n 10 "$tenant_tmp/$name/prepare.log" >&2
		row fail "its load could not be made"
		return
	fi
	cd "$tenant_root" || exit 1
	for ((round = 1; round <= rounds; round++)); do
		one_round || break
	done
	[ -n "$keep" ] || rm -rf "${tenant_tmp:?}/$name"
}

one_round() {
	one_run bare
	local bare_ms=$run_ms
	if [ -n "$trouble" ]; then
		report_trouble bare "$trouble"
		row fail "bare: $trouble"
		return 1
	fi
	digest bare
	if [ "$round" = 1 ]; then
		rm -rf "$tenant_tmp/$name/first"
		mv "$tenant_tmp/$name/bare" "$tenant_tmp/$name/first"
		mv "$tenant_tmp/$name/bare.sum" "$tenant_tmp/$name/first.sum"
	elif ! cmp -s "$tenant_tmp/$name/first.sum" "$tenant_tmp/$name/bare.sum"; then
		explain_difference bare >&2
		report_trouble bare "two bare runs differ, so the comparison says nothing"
		row fail "two bare runs differ"
		return 1
	fi
	local try
	for ((try = 1; try <= tenant_tries; try++)); do
		one_run berth
		if [ -n "$trouble" ]; then
			report_trouble berth "$trouble"
			row fail "$trouble" $bare_ms "$run_ms"
			return 0
		fi
		digest berth
		if ! cmp -s "$tenant_tmp/$name/first.sum" "$tenant_tmp/$name/berth.sum"; then
			explain_difference berth >&2
			report_trouble berth "the outputs differ"
			row fail "the outputs differ" $bare_ms "$run_ms"
			return 0
		fi
		# A run that no claim met says nothing, where there is much to meet
		if [ "$heap" != pool ] || ! nothing_moved "$tenant_tmp/$name/berth/report"; then
			break
		fi
	done
	row pass '' $bare_ms "$run_ms"
}

# row STATE REASON [BARE_MS BERTH_MS]: one line of JSON, and one of progress
row() {
	"$PYTHON" "$tenant_here/matrix_table.py" row --name "$name" --title "$title" --heap "$heap" \
		--round "${round:-0}" --state "$1" --reason "$2" --bare-ms "${3:-0}" --berth-ms "${4:-0}" \
		--unmoved "${tenant_unmoved:-0}" --report "$tenant_tmp/$name/berth/report" --rows "$tenant_tmp/rows"
}

# ---- All programs ----------------------------------------------------------------------------------

usage() {
	sed -n '/^# *matrix.sh \[/,/^# *--keep/s/^# \{0,5\}//p' "$0" >&2
	exit 2
}

all_programs() {
	local file
	for file in "$programs_dir"/*.sh; do
		basename "$file" .sh
	done
}

finish() {
	if [ -n "$kept_failures" ]; then
		keep=yes
		TENANT_KEEP=1
	fi
	[ -z "$keep" ] || TENANT_KEEP=1
	tenant_cleanup
}

interrupted() {
	printf '\nmatrix: interrupted\n' >&2
	exec 2>/dev/null # the shell's words about what is killed now
	[ -z "$run_id" ] || kill_processes "$run_id"
	exit 130
}

if [ "${1:-}" = --part ]; then
	shift
	part "$@"
	exit
fi

rounds=5 run_id='' keep='' kept_failures='' chosen=() outputs=()
export MATRIX_SHORT=0
while [ $# -gt 0 ]; do
	case $1 in
	--rounds)
		rounds=${2:-}
		[[ $rounds =~ ^[1-9][0-9]*$ ]] || usage
		shift
		;;
	--short) MATRIX_SHORT=1 rounds=1 ;;
	--keep) keep=yes ;;
	--markdown | --json | --readme)
		[ $# -gt 1 ] || usage
		outputs+=("$1" "$(realpath -m "$2")")
		shift
		;;
	--list | --packages)
		for name in $(all_programs); do
			read_program "$name"
			if [ "$1" = --list ]; then
				printf '%-18s %-60s %s\n' "$name" "$title" "$packages"
			else
				# shellcheck disable=SC2086
				printf '%s\n' $packages
			fi
		done | if [ "$1" = --list ]; then cat; else sort -u | tr '\n' ' ' && echo; fi
		exit 0
		;;
	-*) usage ;;
	*)
		[ -f "$programs_dir/$1.sh" ] || fail "there is no program $1 in $programs_dir"
		chosen+=("$1")
		;;
	esac
	shift
done

tenant_begin 512M 256M
trap finish EXIT
trap interrupted INT TERM HUP
chmod 755 "$tenant_tmp"
export LC_ALL=C.UTF-8 TZ=UTC HOME=$tenant_tmp BERTH PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1
unset MAKEFLAGS MAKELEVEL MFLAGS
PATH=$PATH:/usr/sbin:/sbin
if [ ${#chosen[@]} = 0 ]; then
	for name in $(all_programs); do
		read_program "$name"
		[ $MATRIX_SHORT = 0 ] || [ "$short" = yes ] || continue
		chosen+=("$name")
	done
fi
: >"$tenant_tmp/rows"
for name in "${chosen[@]}"; do
	round=0
	one_program "$name"
done
"$PYTHON" "$tenant_here/matrix_table.py" table --rows "$tenant_tmp/rows" "${outputs[@]}"
status=$?
if [ $status = 0 ] && [ -n "$tenant_unmoved" ]; then
	skip "userfaultfd is refused to this user; without claims everything was equal"
fi
exit $status
