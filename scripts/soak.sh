#!/bin/bash
# SPDX-License-Identifier: MIT
# The long tests: soak.sh [BUILD_FOLDER]
#
#   model    scripts/model.sh: random operations against the model, new seeds each day
#   models   the same for stores and GCMA areas, with seeds of their own
#   sim      schedules of the simulator and sweeps of failures, of which `make check` runs a quarter
#   fuzz     scripts/fuzz.sh with the corpus of earlier nights
#   tenants  sqlite3, redis, python and a camera under `berth run`, again and again
#   pool     tests/linux/test_soak.c: a pool that threads use in every way, with failures, all the time beside the
#            others
#   mutants  scripts/mutants.sh: is every broken order still found? (not below 600 s)
#
# SOAK_SECONDS (1800) is about what all of it takes: model has a half of it at most, fuzz a quarter, tenants and sim an
# eighth each; the mutants come after that. SOAK_SEED and MODEL_OPERATIONS as there.
# One line each: "ok NAME: ...", "skip NAME: why" or "FAIL NAME" with the end of its output. Exit status 1 when
# anything failed.

set -u
cd "$(dirname "$0")/.." || exit 2
build=${1:-build}; build=${build%/}
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

# ---- The pool, to the end ---------------------------------------------------------------------------------

BERTH_SOAK_SECONDS=$seconds nice -n 5 "$build/tests/test_soak" >"$tmp/pool" 2>&1 &
pool=$!

# ---- The model -------------------------------------------------------------------------------------------

scripts/model.sh $((seconds / 2)) "$build" || failures=$((failures + 1))

# ---- Stores and GCMA areas: some 2 s and 1 s for 100 % ------------------------------------------------------

percent=$((seconds / 32 * 100 / 3))
[ $percent -ge 20 ] || percent=20
for name in store gcma; do
	seed=${SOAK_SEED:-$(($(date +%s) / 86400 * 1000000))}
	if BERTH_MODEL_SEED=$seed STORE_MODEL_OPS=$((6000 * percent)) GCMA_MODEL_OPS=$((4000 * percent)) \
		"$build/tests/test_${name}_model" >"$tmp/model" 2>&1; then
		echo "ok model of $name: seed $seed"
	else
		failed "model of $name" "$tmp/model"
	fi
done

# ---- The simulator ---------------------------------------------------------------------------------------

# The same time for each program: a fifth of its seeds tells how many fit in.
share=$((seconds / 64))
for name in test_schedules test_lru_schedules test_change_schedules test_store_schedules test_gcma_schedules test_failures \
	test_failures_owners test_failures_store; do
	percent=20
	began=$(date +%s%N)
	if ! BERTH_SIM_SEEDS=$percent "$build/tests/$name" >"$tmp/sim" 2>&1; then
		failed "sim $name" "$tmp/sim"
		continue
	fi
	took_ms=$((($(date +%s%N) - began) / 1000000 + 1))
	more=$((share * 1000 * percent / took_ms))
	if [ $more -gt $percent ]; then
		percent=$more
		if ! BERTH_SIM_SEEDS=$percent "$build/tests/$name" >"$tmp/sim" 2>&1; then
			failed "sim $name" "$tmp/sim"
			continue
		fi
	fi
	echo "ok sim $name: $percent % of its seeds"
done

# ---- Tenants ---------------------------------------------------------------------------------------------

export BERTH="$PWD/$build/berth" BERTH_PRELOAD="$PWD/$build/libberth-preload.so" BERTH_BUILD="$PWD/$build" \
	BERTH_SOURCE="$PWD"
began=$SECONDS rounds=0 skipped=""
while [ $((SECONDS - began)) -lt $((seconds / 8)) ]; do
	for name in sqlite redis python camera; do
		"tests/tenants/$name.sh" >"$tmp/tenant" 2>&1
		case $? in
		0) ;;
		77) skipped=" (without $name)" ;;
		*) failed "tenant $name" "$tmp/tenant" ;;
		esac
	done
	rounds=$((rounds + 1))
done
echo "ok tenants: $rounds rounds in $((SECONDS - began)) s$skipped"

# ---- Fuzzers, mutants ------------------------------------------------------------------------------------

scripts/fuzz.sh $((seconds / 4)) || [ $? = 77 ] || failures=$((failures + 1))
if wait $pool; then
	sed -n 's/^# /ok pool: /p' "$tmp/pool"
else
	failed pool "$tmp/pool"
fi
if [ "$seconds" -ge 600 ]; then
	BERTH_SIM_SEEDS=300 scripts/mutants.sh || failures=$((failures + 1))
fi

[ $failures = 0 ]
