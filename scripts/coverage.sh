#!/bin/bash
# SPDX-License-Identifier: MIT
# Coverage of core/ and store/ by the tests that run in a process of their own: coverage.sh [SUITE...]
#
# Builds into build-coverage with gcc's counters, runs the suites (unit model threads sim), and prints lines and
# branches of each file and of all, with what no test reaches and why.

set -u
cd "$(dirname "$0")/.." || exit 2
export LC_ALL=C CC=gcc
unset CFLAGS LDFLAGS CPPFLAGS
[ $# -gt 0 ] || set -- unit model threads sim
suites=()
for name in "$@"; do
	suites+=(--suite "$name")
done

# -O1: with -O0 the hot path's lines are split differently, with -O2 they aren't there any more.
if [ ! -f build-coverage/build.ninja ]; then
	meson setup build-coverage -Db_coverage=true -Doptimization=1 -Dpreload=false \
		-Dc_args=-fprofile-update=atomic >/dev/null || exit 1
fi
# The tests alone: what is linked without a C library can't have counters.
mapfile -t programs < <(meson introspect build-coverage --tests | python3 -c '
import json, os, sys
for test in json.load(sys.stdin):
    if any(suite.split(":")[-1] in sys.argv[1:] for suite in test["suite"]):
        print(os.path.relpath(test["cmd"][0], "build-coverage"))' "$@" | sort -u)
ninja -C build-coverage "${programs[@]}" >build-coverage/log 2>&1 || { tail -n 20 build-coverage/log; exit 1; }
find build-coverage -name '*.gcda' -delete
# Without limits of time: counters make tests slow, and a busy machine makes them slower.
meson test -C build-coverage --no-rebuild --timeout-multiplier 0 "${suites[@]}" \
	>build-coverage/log 2>&1 </dev/null || { tail -n 20 build-coverage/log; exit 1; }
scripts/coverage.py build-coverage core store
