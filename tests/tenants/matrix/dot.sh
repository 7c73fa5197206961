# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='dot: lays out a graph of 450 nodes'
needs=dot packages=graphviz

prepare() {
	"$PYTHON" - "$(scaled 450)" >in.dot <<'PY'
import random, sys
count, rng = int(sys.argv[1]), random.Random(14)
print("digraph g {")
for n in range(1, count):
    print(f"n{n} -> n{rng.randrange(max(0, n - 30), n)}; n{rng.randrange(n)} -> n{n} [label=\"{n}\"];" if n % 6 == 0 else f"n{n} -> n{rng.randrange(max(0, n - 30), n)};")
print("}")
PY
	dot -V
}

work() { tenant dot -Tplain "$load/in.dot" -o out.plain; }
