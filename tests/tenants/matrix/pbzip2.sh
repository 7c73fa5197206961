# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='pbzip2 -p2: compress and decompress'
needs=pbzip2 packages=pbzip2

prepare() { "$PYTHON" "$programs_dir/generate_c.py" "$(scaled 45000)" 6 >text; }

work() { tenant pbzip2 -p2 -b9 -c "$load/text" >text.bz2 && bzip2 -dc text.bz2 | cmp - "$load/text"; }
