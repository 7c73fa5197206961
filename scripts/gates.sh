#!/bin/bash
# SPDX-License-Identifier: MIT
# What the code must keep to, beyond compiling. One line for each gate: "ok NAME", "skip NAME: why" or
# "FAIL NAME"; a failure's details follow it, indented. Exit status 1 when a gate failed.
#
#   freestanding  core, vm and store compile without a C library, on a port that isn't Linux
#   undefined     linked together they need nothing but memcpy, memmove, memset and memcmp
#   globals       core and store keep no writable data
#   headers       each public header compiles by itself, as C and (where there is a C++ compiler) C++
#   layering      includes point downwards only
#   listed        every source and test is named in a meson.build

set -u
cd "$(dirname "$0")/.." || exit 2
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
failures=0

# verdict NAME FILE: the gate failed if FILE has text.
verdict()
{
	if [ -s "$2" ]; then
		echo "FAIL $1"
		head -n 40 "$2" | sed 's/^/    /'
		failures=$((failures + 1))
	else
		echo "ok $1"
	fi
}

sources()
{
	find "$1" -name '*.c' 2>/dev/null | LC_ALL=C sort
}

# A layer's objects for one compiler; what it says goes to the file $4.
compile_freestanding()
{
	local cc=$1 layer=$2 dir=$3 out=$4 include source
	include=$($cc -print-file-name=include)
	mkdir -p "$dir"
	: >"$out"
	[ -f "$include/stdint.h" ] || echo "no freestanding headers in $include" >>"$out"
	[ -n "$(sources "$layer")" ] || echo "no sources in $layer/" >>"$out"
	for source in $(sources "$layer"); do
		# Without pic, constant tables of pointers stay read-only data.
		$cc -std=c11 -O2 -ffreestanding -fno-pic -nostdinc -isystem "$include" \
			-Iinclude -I. -Iexamples/embed -Wall -Wextra -Werror \
			-c "$source" -o "$dir/${source//\//_}.o" >>"$out" 2>&1 ||
			echo "$source: failed" >>"$out"
	done
}

for cc in gcc clang; do
	if ! command -v $cc >/dev/null; then
		echo "skip freestanding $cc: not installed"
		continue
	fi
	for layer in core vm store; do
		compile_freestanding $cc $layer "$tmp/$cc/$layer" "$tmp/out"
		verdict "freestanding $layer $cc" "$tmp/out"
	done

	for layers in core "core vm" "core store"; do
		objects=()
		for layer in $layers; do
			objects+=("$tmp/$cc/$layer"/*.o)
		done
		rm -f "$tmp/linked.o"
		{
			ld -r -o "$tmp/linked.o" "${objects[@]}" &&
				nm -u "$tmp/linked.o" | awk '{print $NF}' |
				grep -vxE 'memcpy|memmove|memset|memcmp|_GLOBAL_OFFSET_TABLE_'
		} >"$tmp/out" 2>&1
		verdict "undefined ${layers// /+} $cc" "$tmp/out"
		if [ "$layers" != "core vm" ]; then
			{
				[ -f "$tmp/linked.o" ] || echo "nothing was linked"
				nm "$tmp/linked.o" 2>/dev/null | grep -E ' [bBdDcC] '
			} >"$tmp/out"
			verdict "globals ${layers// /+} $cc" "$tmp/out"
		fi
	done
done

: >"$tmp/out"
for header in include/berth/*.h; do
	for cc in gcc clang g++ clang++; do
		command -v $cc >/dev/null || continue
		case $cc in
		*++) language="-x c++ -std=c++11" ;;
		*) language="-x c -std=c11" ;;
		esac
		# A C++ compiler without its library can't be asked.
		echo '#include <stdint.h>' | $cc $language -fsyntax-only - 2>/dev/null || continue
		echo "#include \"$header\"" | $cc $language -fsyntax-only -Wall -Wextra -pedantic -Werror \
			-Iinclude -I. - >>"$tmp/out" 2>&1
	done
done
verdict headers "$tmp/out"

# layering FOLDER FORBIDDEN...: prints the includes in FOLDER that reach into a forbidden one.
layering()
{
	local folder=$1 names
	shift
	names=$(IFS='|' && echo "$*")
	grep -rnE --include='*.[ch]' "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]([^>\"]*/)?($names)/" "$folder"
}
{
	layering core vm store runtime sqlite port/linux tools
	layering vm store runtime sqlite port/linux tools
	layering store vm runtime sqlite port/linux tools
	layering port vm store runtime sqlite tools
	layering runtime sqlite tools
	layering sqlite tools
	layering include core vm store runtime sqlite port/linux tools
} >"$tmp/out"
verdict layering "$tmp/out"

{
	for folder in core vm store port/linux port/sim runtime sqlite tools; do
		for source in $(sources $folder); do
			grep -qF "'${source#"$folder"/}'" $folder/meson.build ||
				echo "$source isn't in $folder/meson.build"
		done
	done
	for test in $(find tests/{unit,model,threads,linux,sim} -name 'test_*.c' 2>/dev/null
		find tests/{tool,tenants} -maxdepth 1 -name '*.sh' ! -name lib.sh ! -name traps.sh ! -name matrix.sh ! -name matrix_web.sh 2>/dev/null); do
		grep -qF "'${test##*/}'" tests/meson.build || echo "$test isn't in tests/meson.build"
	done
} >"$tmp/out"
verdict listed "$tmp/out"

[ $failures = 0 ]
