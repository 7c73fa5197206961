# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='bc: 20,000 digits of pi; a large array'
needs=bc packages=bc

prepare() {
	cat >load.bc <<BC
scale=$(scaled 4000)
4*a(1)
2^$(scaled 120000) % (10^50)
for (i = 0; i < $(scaled 300000); i++) { x[i % 60000] = i^9 }
s=0
for (i = 0; i < 60000; i++) { s += x[i] }
s
BC
}

work() { tenant bc -lq "$load/load.bc"; }
