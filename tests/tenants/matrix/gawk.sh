# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='gawk: arrays, sorting, text'
needs=gawk packages=gawk

prepare() {
	cat >load.awk <<'AWK'
BEGIN {
	seed = 23
	for (i = 0; i < count; i++) {
		seed = (seed * 16807) % 2147483647
		key = sprintf("%x", seed)
		text[key] = text[key] key i
		group[seed % 1000][key] = i
	}
	n = asorti(text, keys)
	for (i = 1; i <= n; i++) {
		t = text[keys[i]]
		gsub(/[0-9]+/, "<&>", t)
		sum = (sum * 31 + length(t)) % 1000000007
	}
	print n, sum
	for (g = 0; g < 1000; g++) for (k in group[g]) total += group[g][k]
	print total
}
AWK
}

work() { tenant gawk -v count="$(scaled 400000)" -f "$load/load.awk"; }
