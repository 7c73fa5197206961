#!/bin/bash
# SPDX-License-Identifier: MIT
# Programs that close all descriptors they don't know: see descriptors.c.
. "$(dirname "$0")/lib.sh"
tenant_begin 256M 64M
[ -z "$tenant_unmoved" ] || skip "memory isn't moved here, so nothing shows that it still does"
compile descriptors

for way in close close_range closefrom syscall dup2 listed; do
	both_ways descriptors "$way" "$tenant_program" --dir "$tenant_tmp" "$way"
done
# System calls that nobody sees: what is lost is opened again.
run_bare "$tenant_tmp/bare.out" "$tenant_tmp/bare.err" "$tenant_program" --dir "$tenant_tmp" instruction
run_berth "$tenant_tmp/out" "$tenant_tmp/err" "$tenant_tmp/report" "$tenant_program" --dir "$tenant_tmp" instruction
[ "$(tail -n 1 "$tenant_tmp/out")" = "instruction: right" ] || fail "closing behind the C library's back"
# Nothing of ours takes the numbers that a program expects to get.
for _ in 1 2 3; do
	run_berth "$tenant_tmp/out" "$tenant_tmp/err" "$tenant_tmp/report" "$tenant_program" --dir "$tenant_tmp" standard
	[ "$(tail -n 1 "$tenant_tmp/out")" = "standard: right" ] || fail "closing and opening 0, 1 and 2"
done
tenant_end "6 ways, each with and without the treatment"
