# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='brotli -q 10, a window of 16 MiB'
needs=brotli packages=brotli

prepare() { "$PYTHON" "$programs_dir/generate_c.py" "$(scaled 6000)" 9 >text; }

work() { tenant brotli -q 10 -w 24 -c "$load/text" >text.br && brotli -dc text.br | cmp - "$load/text"; }
