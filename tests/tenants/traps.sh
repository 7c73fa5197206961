# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154 # what lib.sh sets
# For tenants made with traps.h: all cases must be as in a bare run while the heap moves; and each must
# fail when its treatment is left out (BERTH_UNTREATED), or it would prove nothing.

together=4 # runs at a time; most of them wait

# untreated CASE TREATMENTS: writes the damage to CASE.damage. By chance a page is where it was when it
# is looked at, so several tries.
untreated() {
	local try rc
	berth_command "$tenant_tmp/$1.report"
	for ((try = 1; try <= 20; try++)); do
		rc=0
		TRAPS_PATIENCE=2 BERTH_UNTREATED=$2 timeout -k 5 60 "${berth_cmd[@]}" \
			"$tenant_program" "$1" >/dev/null 2>"$tenant_tmp/$1.err" </dev/null || rc=$?
		case $rc in
		0) ;;
		124 | 125 | 126 | 127) return ;; # not the program's own end
		*)
			grep "^$1: " "$tenant_tmp/$1.err" >"$tenant_tmp/$1.damage" ||
				echo "$1: ended with status $rc" >"$tenant_tmp/$1.damage"
			return
			;;
		esac
	done
}

# traps_tenant NAME: the tenant NAME.c, all cases, then each without its treatments
traps_tenant() {
	local round name treatments cases=0
	compile "$1"
	[ -z "$tenant_unmoved" ] || export TRAPS_STILL=1
	run_bare "$tenant_tmp/bare.out" "$tenant_tmp/bare.err" "$tenant_program"
	for ((round = 1; round <= TENANT_ROUNDS; round++)); do
		run_berth "$tenant_tmp/berth.out" "$tenant_tmp/berth.err" "$tenant_tmp/report" "$tenant_program"
		same "$tenant_tmp/bare.out" "$tenant_tmp/berth.out" "standard output"
		say "round $round of $TENANT_ROUNDS: equal; $report_line"
	done
	[ -z "$tenant_unmoved" ] || tenant_end "unmoved"

	"$tenant_program" --list >"$tenant_tmp/list"
	while read -r name treatments; do
		[ "$treatments" = - ] && continue
		while [ "$(jobs -rp | wc -l)" -ge $together ]; do
			wait -n
		done
		untreated "$name" "$treatments" &
	done <"$tenant_tmp/list"
	wait
	while read -r name treatments; do
		[ "$treatments" = - ] && continue
		[ -s "$tenant_tmp/$name.damage" ] || {
			cat "$tenant_tmp/$name.err" >&2
			fail "$name passes without its treatment ($treatments): it proves nothing"
		}
		say "without $treatments: $(head -n 1 "$tenant_tmp/$name.damage")"
		cases=$((cases + 1))
	done <"$tenant_tmp/list"
	tenant_end "$cases cases, each both ways"
}
