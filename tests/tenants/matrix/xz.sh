# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='xz -6 -T2: two threads'
needs=xz packages=xz-utils short=yes

prepare() { "$PYTHON" "$programs_dir/generate_c.py" "$(scaled 11000)" 4 >text; }

work() {
	tenant xz -6 -T2 --block-size=2MiB -c "$load/text" >text.xz
	xz -dc text.xz | cmp - "$load/text"
}
