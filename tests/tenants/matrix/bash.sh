# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='bash: an array of 100,000 strings, subshells, pipes'
needs='bash wc' packages='bash coreutils' short=yes

prepare() {
	cat >load.sh <<'SH'
declare -A by
list=()
for ((i = 0, seed = 19; i < $1; i++)); do
	seed=$(((seed * 1103515245 + 12345) & 0x7fffffff))
	list+=("$seed.$i")
	by[${seed: -5}]=$i
done
sum=0
for k in "${list[@]}"; do ((sum = (sum * 31 + ${#k} + ${by[${k:0:5}]:-1}) % 1000000007)); done
echo $sum ${#by[@]}
for n in {1..12}; do
	(list[n]=changed; printf '%s\n' "${list[@]:n*10:1000}" | sort | cksum)
done
wc -c < <(printf '%s\n' "${list[@]}")
echo "$(for x in "${list[@]: -200}"; do echo "${x/./:}"; done | tail -n 1)"
SH
}

work() { tenant bash "$load/load.sh" "$(scaled 100000)"; }
