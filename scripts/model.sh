#!/bin/bash
# SPDX-License-Identifier: MIT
# Random operations against the model: model.sh SECONDS [BUILD_FOLDER]
#
# One process for each seed, all shapes of zones in it, so many at a time as there are CPUs; until SECONDS have
# passed or MODEL_OPERATIONS (100 million) are done. SOAK_SEED is the first seed, by default the day's. One line:
# "ok model: ...", or "FAIL model" with the end of the first failure's output; exit status 1 then.

set -u
cd "$(dirname "$0")/.." || exit 2
seconds=${1:?how many seconds?}
build=${2:-build}
wanted=${MODEL_OPERATIONS:-100000000}
seed=${SOAK_SEED:-$(($(date +%s) / 86400 * 1000000))}
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

operations=20000 shapes=7 # of a process
model_seed()
{
	BERTH_MODEL_SEED=$1 BERTH_MODEL_OPS=$operations "$build/tests/test_model" >"$tmp/model-$1" 2>&1 &&
		rm "$tmp/model-$1"
}

began=$SECONDS done_operations=0 at=$seed failures=0
while [ $done_operations -lt "$wanted" ] && [ $((SECONDS - began)) -lt "$seconds" ] && [ $failures = 0 ]; do
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
took=$((SECONDS - began))
if [ $failures != 0 ] || [ $done_operations = 0 ]; then
	echo "FAIL model"
	tail -n 30 "$(find "$tmp" -name 'model-*' | head -1)" | sed 's/^/    /'
	exit 1
fi
echo "ok model: $done_operations operations in $took s, seeds $seed to $((at - 1))"
