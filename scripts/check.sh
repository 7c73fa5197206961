#!/bin/bash
# SPDX-License-Identifier: MIT
# Everything that must hold: check.sh [STAGE...]
#
#   format   the sources look as .clang-format says
#   gates    scripts/gates.sh
#   release  the static tool of `make static`, optimised (buildtype=release), without a warning
#   gcc      the build of `make` under gcc: all suites, with a quarter of the simulator's seeds
#   clang    the same under clang, with fewer seeds: unit, model, threads, linux, examples
#   soak     for a minute, side by side, with the build of gcc: random operations against the model, and a pool
#            that threads use in every way while the machine fails now and then
#   fuzz     libFuzzer targets with the sanitizers, for 10 s
#   asan     address and undefined-behaviour sanitizers: unit, model, sim, linux
#   tsan     thread sanitizer: threads
#
# Random sweeps are cut here; `make soak` runs all of them, and many times more.
# Without arguments all stages run, the cheap ones first. Every case of a test, every gate and every
# build counts as one. The last line is "N passed, N failed, N skipped"; the exit status is 1 when
# anything failed. Details are in build-*/check.log and build-*/meson-logs/.

set -u
cd "$(dirname "$0")/.." || exit 2
export LC_ALL=C
unset CFLAGS LDFLAGS CPPFLAGS # they would end up in the build folders
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

passed=0 failed=0 skipped=0
stages=("$@")
[ $# -gt 0 ] || stages=(format gates release gcc clang soak fuzz asan tsan)
number=0

# ---- Counting ------------------------------------------------------------------------------------

stage_passed=0 stage_failed=0 stage_skipped=0
pass() { stage_passed=$((stage_passed + ${1:-1})); }
fail() { stage_failed=$((stage_failed + ${1:-1})); }
skip() { stage_skipped=$((stage_skipped + ${1:-1})); }
# What is shown below the stage's line.
say() { echo "$*" >>"$tmp/said"; }

stage_begin()
{
	number=$((number + 1))
	stage_passed=0 stage_failed=0 stage_skipped=0
	stage_start=$SECONDS
	: >"$tmp/said"
	printf '[%d/%d] %s: ' $number ${#stages[@]} "$1"
}

stage_end()
{
	printf '%d passed, %d failed' $stage_passed $stage_failed
	[ $stage_skipped = 0 ] || printf ', %d skipped' $stage_skipped
	printf ' (%d s)\n' $((SECONDS - stage_start))
	grep -v '^ *$' "$tmp/said" | sed 's/^/    /'
	passed=$((passed + stage_passed))
	failed=$((failed + stage_failed))
	skipped=$((skipped + stage_skipped))
}

# ---- Building and testing ------------------------------------------------------------------------

# programs_of DIR SUITE...: what ninja calls the programs of these suites
programs_of()
{
	meson introspect --tests "$1" | python3 -c '
import json, os, sys
for test in json.load(sys.stdin):
    if {suite.split(":")[-1] for suite in test["suite"]} & set(sys.argv[2:]):
        print(os.path.relpath(test["cmd"][0], sys.argv[1]))' "$(realpath "$1")" "${@:2}"
}

errors=': (fatal )?error: |undefined reference|multiple definition|^FAILED: |^[^ ]*: ERROR: '

# build DIR OPTION...: configures where needed, builds, and counts as one. The compiler is $CC. Of the tests only
# those of $built_suites, if there are any in it.
built_suites=
build()
{
	local dir=$1 stamp targets=()
	shift
	if [ -e "$dir" ] && [ ! -w "$dir" ]; then
		fail
		say "FAIL $dir belongs to another user; remove it first"
		return 1
	fi
	stamp="$PWD ${CC-} $*"
	if [ "$(cat "$dir/check.options" 2>/dev/null)" != "$stamp" ]; then
		rm -rf "$dir"
		mkdir -p "$dir"
		meson setup "$dir" "$@" >"$dir/check.log" 2>&1 && echo "$stamp" >"$dir/check.options"
	else
		: >"$dir/check.log"
	fi
	if [ -f "$dir/check.options" ] && [ -n "$built_suites" ]; then
		mapfile -t targets < <(programs_of "$dir" $built_suites)
	fi
	if [ -f "$dir/check.options" ] && ninja -C "$dir" "${targets[@]}" >>"$dir/check.log" 2>&1; then
		pass
		return 0
	fi
	fail
	say "FAIL build in $dir (all of it: $dir/check.log)"
	if grep -qE "$errors" "$dir/check.log"; then
		say "$(grep -E -A3 "$errors" "$dir/check.log" | head -n 40)"
	else
		say "$(tail -n 20 "$dir/check.log")"
	fi
	return 1
}

# run_suites DIR MULTIPLIER SUITE...: runs the suites (none named: all) and counts their cases.
# Timeouts are multiplied. $wrapper is put before `meson`.
wrapper=
run_suites()
{
	local dir=$1 multiplier=$2 suite arguments=() counts
	shift 2
	for suite in "$@"; do
		arguments+=(--suite "$suite")
	done
	rm -f "$dir/meson-logs/testlog.json"
	$wrapper meson test -C "$dir" --no-rebuild --timeout-multiplier "$multiplier" "${arguments[@]}" \
		>>"$dir/check.log" 2>&1 </dev/null
	if ! scripts/count.py "$dir" >"$tmp/counted" 2>&1; then
		fail
		say "FAIL the tests in $dir didn't run: $(tail -n 3 "$dir/check.log")"
		return
	fi
	read -r -a counts <<<"$(tail -n 1 "$tmp/counted")"
	pass "${counts[0]}"
	fail "${counts[1]}"
	skip "${counts[2]}"
	say "$(sed '$d' "$tmp/counted")"
}

# Finds a compiler whose programs run with the sanitizers $1 here: sets CC, and wrapper where they
# only run without address space randomisation.
find_sanitizer()
{
	local cc
	echo 'int main(void) { return 0; }' >"$tmp/probe.c"
	for cc in clang gcc; do
		wrapper=
		$cc -fsanitize="$1" "$tmp/probe.c" -o "$tmp/probe" >/dev/null 2>&1 || continue
		for wrapper in "" "setarch -R"; do
			if $wrapper "$tmp/probe" && $wrapper "$tmp/probe" && $wrapper "$tmp/probe"; then
				export CC=$cc
				return 0
			fi
		done >/dev/null 2>&1
	done
	wrapper=
	return 1
}

sanitized()
{
	local dir=$1 sanitizers=$2
	shift 2
	if find_sanitizer "$sanitizers"; then
		built_suites=$* build "$dir" -Db_sanitize="$sanitizers" -Db_lundef=false -Doptimization=1 \
			-Dc_args=-fno-sanitize-recover=all && run_suites "$dir" 4 "$@"
	else
		skip
		say "skip $dir: neither clang nor gcc makes programs that run with -fsanitize=$sanitizers"
	fi
	wrapper=
	unset CC
}

# ---- Stages --------------------------------------------------------------------------------------

stage_format()
{
	local formatter=clang-format version files
	command -v clang-format-14 >/dev/null && formatter=clang-format-14
	version=$($formatter --version 2>/dev/null | sed 's/.*version \([0-9]*\).*/\1/')
	if [ "$version" != 14 ]; then
		skip
		say "skip format: it is defined by clang-format 14, here is ${version:-none}"
		return
	fi
	mapfile -t files < <(git -c safe.directory="$PWD" ls-files '*.c' '*.h' 2>/dev/null)
	if [ ${#files[@]} = 0 ]; then
		skip
		say "skip format: not a git checkout, or nothing tracked"
	elif $formatter --dry-run -Werror "${files[@]}" >"$tmp/out" 2>&1; then
		pass
	else
		fail
		say "FAIL format (\`make format\` mends it): $(sed -n 's/^\([^ :]*\):[0-9].*/\1/p' "$tmp/out" |
			sort -u | tr '\n' ' ')"
	fi
}

stage_gates()
{
	scripts/gates.sh >"$tmp/out" 2>&1
	pass "$(grep -c '^ok ' "$tmp/out")"
	fail "$(grep -c '^FAIL ' "$tmp/out")"
	skip "$(grep -c '^skip ' "$tmp/out")"
	say "$(grep -v '^ok ' "$tmp/out")"
}

stage_release()
{
	# What `make` builds is built, and tested, by the stages gcc and clang.
	build build-static --werror --buildtype=release -Dstatic_tool=true
}

stage_gcc()
{
	export CC=gcc
	# The first seeds of the simulator's; tenants that are moved for 2 s instead of 5
	build build-gcc --werror && BERTH_SIM_SEEDS=25 TENANT_SECONDS=2 run_suites build-gcc 1
	unset CC
}

stage_clang()
{
	export CC=clang
	# These seeds have run under gcc; here fewer of them show what this compiler makes of the same code.
	# The simulator runs as clang compiles it in the stage asan.
	build build-clang --werror && BERTH_MODEL_SEEDS=4 \
		run_suites build-clang 1 unit model threads linux examples
	unset CC
}

stage_soak()
{
	local pool

	export CC=gcc
	build build-gcc --werror
	unset CC
	BERTH_SOAK_SECONDS=60 build-gcc/tests/test_soak >"$tmp/pool" 2>&1 &
	pool=$!
	scripts/model.sh 60 build-gcc >"$tmp/out" 2>&1
	pass "$(grep -c '^ok ' "$tmp/out")"
	fail "$(grep -c '^FAIL ' "$tmp/out")"
	grep -qE '^(ok|FAIL) ' "$tmp/out" || fail
	say "$(cat "$tmp/out")"
	if wait $pool; then
		pass
		say "$(sed -n 's/^# /ok pool: /p' "$tmp/pool")"
	else
		fail
		say "FAIL pool"
		say "$(tail -n 30 "$tmp/pool")"
	fi
}

stage_fuzz()
{
	scripts/fuzz.sh 10 >"$tmp/out" 2>&1
	pass "$(grep -c '^ok ' "$tmp/out")"
	skip "$(grep -c '^skip ' "$tmp/out")"
	fail "$(grep -c '^FAIL ' "$tmp/out")"
	grep -qE '^(ok|skip|FAIL) ' "$tmp/out" || fail
	say "$(grep -v '^ok ' "$tmp/out")"
}

stage_asan()
{
	BERTH_SIM_SEEDS=25 BERTH_MODEL_SEEDS=4 sanitized build-asan address,undefined unit model sim linux
}

stage_tsan()
{
	sanitized build-tsan thread threads
}

for stage in "${stages[@]}"; do
	if ! declare -F "stage_$stage" >/dev/null; then
		echo "check.sh: there is no stage $stage" >&2
		exit 2
	fi
done
for stage in "${stages[@]}"; do
	stage_begin "$stage"
	"stage_$stage"
	stage_end
done

[ $skipped = 0 ] || echo "$skipped skipped; the reasons are above"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
