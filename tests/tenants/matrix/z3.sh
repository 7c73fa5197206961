# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='z3: a pigeonhole problem, sums of bit vectors'
needs=z3 packages=z3

prepare() {
	"$PYTHON" - "$((MATRIX_SHORT == 1 ? 8 : 9))" >in.smt2 <<'PY'
import sys
n = int(sys.argv[1])
print("(set-option :smt.random_seed 1)")
for p in range(n + 1):
    for h in range(n):
        print(f"(declare-const b{p}_{h} Bool)")
for p in range(n + 1):
    print("(assert (or " + " ".join(f"b{p}_{h}" for h in range(n)) + "))")
for h in range(n):
    for p in range(n + 1):
        for q in range(p):
            print(f"(assert (or (not b{p}_{h}) (not b{q}_{h})))")
print("(check-sat)\n(reset)\n(set-logic QF_BV)")
for i in range(n):
    print(f"(declare-const x{i} (_ BitVec 24))")
for i in range(n - 1):
    print(f"(assert (= (bvmul x{i} x{i + 1}) (bvadd x{i} #x{0x1d3f5 * (i + 3):06x})))")
print("(check-sat)")
PY
}

work() { tenant z3 -smt2 "$load/in.smt2"; }
