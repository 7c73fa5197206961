# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='cc1 -O2: the C compiler proper, one large file'
needs=gcc packages='gcc libc6-dev'

prepare() { "$PYTHON" "$programs_dir/generate_c.py" "$(scaled 500)" 2 >big.c; }

work() { tenant "$(gcc -print-prog-name=cc1)" -quiet -O2 "$load/big.c" -o big.s; }
