#!/bin/bash
# SPDX-License-Identifier: MIT
# The long tests: soak.sh [BUILD_FOLDER]
#
#   model    random operations against the model, new seeds each time, until MODEL_OPERATIONS are done
#   sim      schedules of the simulator and sweeps of failures, many times what `make check` runs
#   fuzz     scripts/fuzz.sh with the corpus of earlier nights
#   mutants  scripts/mutants.sh: is every broken order still found? (not below 600 s)
#
# SOAK_SECONDS (1800) is about what all of it takes: model has half of it at most, fuzz a quarter, and sim's size
# follows from it. SOAK_SEED is the first seed of the model, by default the day's; MODEL_OPERATIONS 100 million.
# One line each: "ok NAME: ...", "skip NAME: why" or "FAIL NAME" with the end of its output. Exit status 1 when
# anything failed.

set -u
cd "$(dirname "$0")/.." || exit 2
build=${1:-build}
seconds=${SOAK_SECONDS:-1800}
wanted=${MODEL_OPERATIONS:-100000000}
seed=${SOAK_SEED:-$(($(date +%s) / 86400 * 1000000))}
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
failures=0

# failed NAME FILE
failed()
{
	echo "FAIL $1"
	tail -n 30 "$2" | sed 's/^/    /'
	failures=$((failures + 1))
}

# ---- The model: one process for each seed, all shapes in it, so many at a time as there are CPUs -------

operations=20000 shapes=7
model_seed()
{
	BERTH_MODEL_SEED=$1 BERTH_MODEL_OPS=$operations "$build/tests/test_model" >"$tmp/model-$1" 2>&1 &&
		rm "$tmp/model-$1"
}
deadline=$((SECONDS + seconds / 2)) done_operations=0 at=$seed
while [ $done_operations -lt "$wanted" ] && [ $SECONDS -lt $deadline ] && [ $failures = 0 ]; do
	pids=()
	for _ in $(seq "$(nproc)"); do
		model_seed $at &
		pids+=($!)
		at=$((at + 1))
	done
	for pid in "${pids[@]}"; do
		if wait "$pid"; then
			done_operations=$((done_operations + operations * shapes))
		else
			failures=$((failures + 1))
		fi
	done
done
if [ $failures = 0 ]; then
	echo "ok model: $done_operations operations, seeds $seed to $((at - 1))"
else
	failures=0
	failed model "$(find "$tmp" -name 'model-*' | head -1)"
fi

# ---- The simulator: about 15 s for 100 % -----------------------------------------------------------------

percent=$((seconds / 4 * 100 / 15))
[ $percent -ge 20 ] || percent=20
for name in test_schedules test_failures; do
	if BERTH_SIM_SEEDS=$percent "$build/tests/$name" >"$tmp/sim" 2>&1; then
		echo "ok sim $name: $percent % of the seeds of make check"
	else
		failed "sim $name" "$tmp/sim"
	fi
done

# ---- Fuzzers, mutants ------------------------------------------------------------------------------------

scripts/fuzz.sh $((seconds / 4)) || [ $? = 77 ] || failures=$((failures + 1))
if [ "$seconds" -ge 600 ]; then
	BERTH_SIM_SEEDS=300 scripts/mutants.sh || failures=$((failures + 1))
fi

[ $failures = 0 ]
