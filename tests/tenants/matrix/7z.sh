# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='7z: LZMA2, two threads'
needs=7z packages=p7zip-full heap=aligned

prepare() { "$PYTHON" "$programs_dir/generate_c.py" "$(scaled 11000)" 7 >text; }

work() { tenant 7z a -bso0 -bsp0 -mx=5 -mmt=2 -mtm=off text.7z "$load/text" && 7z x -so text.7z | cmp - "$load/text"; }
