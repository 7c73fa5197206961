# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='sort --parallel=2: 3 million lines'
needs=sort packages=coreutils short=yes

prepare() {
	"$PYTHON" - "$(scaled 3000000)" >in.txt <<'PY'
import random, sys
rng = random.Random(13)
for n in range(int(sys.argv[1])):
    print(f"{rng.getrandbits(70):x} {n % 1000} {'abc' * (n % 9)}")
PY
}

work() {
	tenant sort --parallel=2 -S 160M -k2,2n -k1,1r "$load/in.txt" -o out.txt
}
