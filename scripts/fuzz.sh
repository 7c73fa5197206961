#!/bin/bash
# SPDX-License-Identifier: MIT
# Fuzz the core and the store: fuzz.sh SECONDS [FOLDER]
#
# Builds the targets of tests/fuzz/ with clang's libFuzzer and sanitizers into FOLDER (build-fuzz) and runs each for
# its share of the time. The corpus stays in the folder for the next run. One line each: "ok fuzz_NAME: N runs",
# or "FAIL fuzz_NAME", the end of its output, and where the input is: FOLDER/fuzz_NAME INPUT repeats it.
# Exit status 77: clang can't build them here.

set -u
cd "$(dirname "$0")/.." || exit 2
seconds=${1:-10}
folder=${2:-build-fuzz}
sanitizers=address,undefined
failures=0

mkdir -p "$folder" || exit 2
echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n); int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { (void)d; return !n && 0; }' >"$folder/probe.c"
if ! clang -fsanitize=fuzzer,$sanitizers "$folder/probe.c" -o "$folder/probe" >/dev/null 2>&1 ||
	! "$folder/probe" -runs=10 >/dev/null 2>&1; then
	echo "skip fuzz: clang doesn't make fuzzers that run here"
	exit 77
fi

# Core and store once for all; again only when a source is newer.
flags=(-std=gnu11 -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all
	-Iexamples/embed -Iinclude -I. -Wall -Wextra -Werror)
newest=$(find core store include examples/embed tests/fuzz scripts/fuzz.sh -type f -newer "$folder/stamp" 2>/dev/null | head -1)
if [ ! -f "$folder/stamp" ] || [ -n "$newest" ]; then
	rm -f "$folder"/*.o
	export folder sanitizers
	export flags_text="${flags[*]}"
	find core store -name '*.c' -print0 | xargs -0 -P "$(nproc)" -I {} sh -c '
		clang $flags_text -fsanitize=fuzzer-no-link,$sanitizers -c {} -o "$folder/$(echo {} | tr / _).o"' ||
		exit 1
	for target in tests/fuzz/fuzz_*.c; do
		name=$(basename "$target" .c)
		clang "${flags[@]}" -fsanitize=fuzzer,$sanitizers "$target" "$folder"/*.o -o "$folder/$name" || exit 1
	done
	touch "$folder/stamp"
fi

targets=(tests/fuzz/fuzz_*.c)
share=$((seconds / ${#targets[@]}))
[ $share -gt 0 ] || share=1
for target in "${targets[@]}"; do
	name=$(basename "$target" .c)
	mkdir -p "$folder/corpus-$name"
	if "$folder/$name" -max_total_time=$share -max_len=2048 -timeout=20 -print_final_stats=1 \
		-artifact_prefix="$folder/$name-" "$folder/corpus-$name" >"$folder/$name.log" 2>&1; then
		echo "ok $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/$name.log") runs in $share s"
	else
		echo "FAIL $name"
		grep -vE '^#|^INFO|NEW_FUNC' "$folder/$name.log" | tail -n 40 | sed 's/^/    /'
		failures=$((failures + 1))
	fi
done
[ $failures = 0 ]
