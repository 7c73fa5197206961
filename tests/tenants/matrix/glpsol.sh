# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='glpsol: a linear program, simplex and branch and bound'
needs=glpsol packages=glpk-utils

prepare() {
	"$PYTHON" - "$(scaled 4000)" >in.lp <<'PY'
import random, sys
n, rng = int(sys.argv[1]), random.Random(22)
print("Maximize\n obj: " + " + ".join(f"{rng.randrange(1, 99)} x{i}" for i in range(n)))
print("Subject To")
for row in range(n // 2):
    print(f" c{row}: " + " + ".join(f"{rng.randrange(1, 50)} x{i}" for i in rng.sample(range(n), 60)) + f" <= {rng.randrange(500, 9000)}")
print("Bounds")
for i in range(n):
    print(f" x{i} <= 40")
print("End")
PY
}

work() { tenant glpsol --lp "$load/in.lp" -o answer; }
# times and memory
filter() { grep -vE '^(Time used|Memory used)|^[ *#]*[0-9]+: obj|iterations/sec'; }
