# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='zstd -17 -T2: two threads, and back'
needs=zstd packages=zstd

prepare() { "$PYTHON" "$programs_dir/generate_c.py" "$(scaled 16000)" 5 >text; }

work() {
	tenant zstd -q -17 --long=24 -T2 "$load/text" -o text.zst
	zstd -dcq --long=24 text.zst | cmp - "$load/text"
}
