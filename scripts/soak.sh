#!/bin/bash
# SPDX-License-Identifier: MIT
# The long tests: soak.sh [BUILD_FOLDER]
#
#   model    scripts/model.sh: random operations against the model, new seeds each day
#   sim      schedules of the simulator and sweeps of failures, many times what `make check` runs
#   fuzz     scripts/fuzz.sh with the corpus of earlier nights
#   mutants  scripts/mutants.sh: is every broken order still found? (not below 600 s)
#
# SOAK_SECONDS (1800) is about what all of it takes: model has half of it at most, fuzz a quarter, and sim's size
# follows from it. SOAK_SEED and MODEL_OPERATIONS as there.
# One line each: "ok NAME: ...", "skip NAME: why" or "FAIL NAME" with the end of its output. Exit status 1 when
# anything failed.

set -u
cd "$(dirname "$0")/.." || exit 2
build=${1:-build}
seconds=${SOAK_SECONDS:-1800}
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

# ---- The model -------------------------------------------------------------------------------------------

scripts/model.sh $((seconds / 2)) "$build" || failures=$((failures + 1))

# ---- The simulator: about 15 s for 100 % -----------------------------------------------------------------

percent=$((seconds / 4 * 100 / 15))
[ $percent -ge 20 ] || percent=20
for name in test_schedules test_lru_schedules test_change_schedules test_store_schedules test_failures; do
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
