# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='bc: 2,500 digits of pi; a large array'
needs=bc packages=bc heap=small

prepare() {
	cat >load.bc <<BC
scale=$(scaled 2500)
4*a(1)
scale=0
2^$(scaled 60000) % (10^50)
for (i = 0; i < $(scaled 120000); i++) { x[i % 60000] = i^9 }
s=0
for (i = 0; i < 60000; i++) { s += x[i] }
s
BC
}

work() { tenant bc -lq "$load/load.bc"; }
