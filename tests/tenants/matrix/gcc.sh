# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='gcc -O1 -g: one large file; cc1, as and ld are children'
needs=gcc packages='gcc libc6-dev' heap=small area=24

prepare() { "$PYTHON" "$programs_dir/generate_c.py" "$(scaled 350)" 1 >big.c; }

work() {
	tenant gcc -O1 -g -o program "$load/big.c"
	./program
}
