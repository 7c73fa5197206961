# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='z3: a scheduling problem'
needs=z3 packages=z3

prepare() {
	"$PYTHON" - "$(scaled 48)" >in.smt2 <<'PY'
import random, sys
n, rng = int(sys.argv[1]), random.Random(20)
print("(set-option :smt.random_seed 1)")
print("(set-logic QF_BV)")
for i in range(n):
    print(f"(declare-const x{i} (_ BitVec 32))")
for i in range(n):
    a, b = rng.randrange(n), rng.randrange(n)
    print(f"(assert (= (bvmul x{i} #x{rng.getrandbits(32) | 1:08x}) (bvadd (bvxor x{a} #x{rng.getrandbits(32):08x}) (bvshl x{(i + 1) % n} #x00000003))))" if i < n // 2 else f"(assert (bvult (bvxor x{i} x{a}) (bvor x{b} #x{rng.getrandbits(31):08x})))")
print("(check-sat)")
PY
}

work() { tenant z3 -smt2 "$load/in.smt2"; }
