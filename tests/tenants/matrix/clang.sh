# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='clang -O1: one large file'
needs=clang packages=clang short=yes

prepare() { "$PYTHON" "$programs_dir/generate_c.py" "$(scaled 700)" 3 >big.c; }

work() {
	tenant clang -O1 -g -o program "$load/big.c"
	./program
}
