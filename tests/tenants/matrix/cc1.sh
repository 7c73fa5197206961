# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='cc1 -O2: the C compiler proper, one large file'
needs=gcc packages='gcc libc6-dev' heap=own area=24

# cc1 keeps most of its data in memory that it maps by itself, for its collector.
prepare() { "$PYTHON" "$programs_dir/generate_c.py" "$(scaled 350)" 2 >big.c; }

work() { tenant "$(gcc -print-prog-name=cc1)" -quiet -imultiarch "$(gcc -print-multiarch)" -O2 "$load/big.c" -o big.s; }
