#!/bin/bash
# SPDX-License-Identifier: MIT
# Programs that lock themselves in, change their user or root, end thread by thread, or have little of
# something: see sandbox.c.
. "$(dirname "$0")/lib.sh"
tenant_begin 256M 64M
[ -z "$tenant_unmoved" ] || skip "memory isn't moved here, so nothing shows that it still does"
compile sandbox
both_ways_limit=2 # what hangs without its treatment hangs for ever

tried=0
missing=
for case in filter filter-all filter-fork strict; do
	"$tenant_program" $case >/dev/null 2>&1 || { missing="$missing $case"; continue; }
	both_ways "$([ $case = strict ] && echo seccomp,last-thread || echo seccomp)" $case "$tenant_program" $case
	tried=$((tried + 1))
done
if "$tenant_program" unshare >/dev/null 2>&1; then
	both_ways threads unshare "$tenant_program" unshare
	tried=$((tried + 1))
fi

for case in last-thread last-thread-raw; do
	both_ways last-thread $case "$tenant_program" $case
	tried=$((tried + 1))
done

# as_bare WHAT COMMAND...: under berth run as bare, and nothing of ours breaks
as_bare() {
	local what=$1
	shift
	run_bare "$tenant_tmp/bare.out" "$tenant_tmp/bare.err" "$@"
	berth_command "$tenant_tmp/report"
	timeout -k 5 60 "${berth_cmd[@]}" "$@" >"$tenant_tmp/berth.out" 2>"$tenant_tmp/berth.err" </dev/null ||
		fail "$what: ended with status $?: $(tail -n 3 "$tenant_tmp/berth.err")"
	same "$tenant_tmp/bare.out" "$tenant_tmp/berth.out" "$what"
	tried=$((tried + 1))
}
for case in setuid chroot; do
	as_bare $case "$tenant_program" $case
done

# With little of something the program starts and runs; without a pool the report says what was missing.
# limited WHAT OPTIONS WORD
limited() {
	as_bare "limit of $1" sh -c "ulimit $2 && exec '$tenant_program' plain"
	"$PYTHON" - "$tenant_tmp/report" "$1" "$3" <<'PY' || fail "the report says nothing of it"
import json, sys
report = json.load(open(sys.argv[1]))
mains = [p for p in report["processes"] if p["program"] == "sandbox"]
texts = " ".join(str(p.get("why_no_pool")) + str(p.get("notice")) for p in mains)
if sys.argv[3] and sys.argv[3] not in texts:
    sys.exit(f"limit of {sys.argv[2]}: nobody said {sys.argv[3]!r}: {texts!r}")
PY
}
limited "file size" "-f 100" "RLIMIT_FSIZE"
limited "addresses" "-v 2000000" "RLIMIT_AS"
limited "few descriptors" "-n 12" ""
limited "hardly any descriptors" "-n 4" "RLIMIT_NOFILE"
limited "locked memory" "-l 0" ""
[ -z "$missing" ] || say "not on this system:$missing"
tenant_end "$tried cases"
