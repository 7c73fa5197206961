# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='pigz -11 -p2'
needs=pigz packages=pigz

prepare() { "$PYTHON" "$programs_dir/generate_c.py" "$(scaled 3000)" 8 >text; }

work() { tenant pigz -11 -p2 -n -b 512 -c "$load/text" >text.gz && gzip -dc text.gz | cmp - "$load/text"; }
