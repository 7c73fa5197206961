# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='diff: two files of 800,000 lines'
needs=diff packages=diffutils

prepare() {
	"$PYTHON" - "$(scaled 800000)" <<'PY'
import random, sys
rng = random.Random(25)
a = [f"{rng.getrandbits(60):x}" for _ in range(int(sys.argv[1]))]
b = [line for line in a if rng.random() > 0.01]
for _ in range(len(b) // 60):
    b.insert(rng.randrange(len(b)), f"{rng.getrandbits(60):x}")
open("a", "w").write("\n".join(a) + "\n")
open("b", "w").write("\n".join(b) + "\n")
PY
}

# 1: they differ
work() { tenant diff -d "$load/a" "$load/b" >out.diff || [ $? = 1 ]; }
