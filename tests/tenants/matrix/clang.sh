# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='clang -O1 -c: one large file'
needs=clang packages=clang short=yes

prepare() { "$PYTHON" "$programs_dir/generate_c.py" "$(scaled 350)" 3 >big.c; }

work() {
	tenant clang -O1 -g -c "$load/big.c"
	clang -o program big.o
	./program
}
