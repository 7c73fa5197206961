# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='minisat: 3-SAT at the hard ratio'
needs=minisat packages=minisat heap=small

prepare() {
	"$PYTHON" - "$(scaled 280)" >in.cnf <<'PY'
import random, sys
n, rng = int(sys.argv[1]), random.Random(21)
print(f"p cnf {n} {int(n * 4.26)}")
for _ in range(int(n * 4.26)):
    print(*(v if rng.random() < 0.5 else -v for v in rng.sample(range(1, n + 1), 3)), 0)
PY
}

# 10 and 20 are its words for satisfiable and not.
work() {
	tenant minisat -verb=0 "$load/in.cnf" answer
	local status=$?
	echo "status $status"
	[ $status = 10 ] || [ $status = 20 ]
}
