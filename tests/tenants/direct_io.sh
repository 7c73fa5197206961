#!/bin/bash
# SPDX-License-Identifier: MIT
# Direct I/O, io_uring and aio out of the heap: see direct_io.c. Nothing is lost while Berth looks out for
# them, and much when it doesn't; and a claim's report names the descriptor.
. "$(dirname "$0")/lib.sh"
tenant_begin 256M 64M
[ -z "$tenant_unmoved" ] || skip "memory isn't moved here, so nothing shows that it waits"
compile direct_io

dir=
for candidate in "$tenant_tmp" "${BERTH_BUILD:-.}" /var/tmp "$HOME"; do
	if [ -w "$candidate" ] && "$tenant_program" --dir "$candidate" probe >/dev/null 2>&1; then
		dir=$(mktemp -d "$candidate/berth-direct.XXXXXX") && break
	fi
done
[ -n "$dir" ] || skip "no directory of a file system with O_DIRECT"
trap 'rm -rf "$dir"; tenant_cleanup' EXIT

passed=0 missing=
for case in read write io_uring aio watch; do
	if both_ways direct-io "$case" "$tenant_program" --seconds 0.4 --dir "$dir" "$case"; then
		passed=$((passed + 1))
	else
		missing="$missing $case"
	fi
done

# A claim that needs all of the area waits in vain, and says for whom.
timeout 60 "$BERTH" run --pool "$TENANT_POOL" --area "tenant=$TENANT_AREA" --claim "$TENANT_AREA@0.2" --json \
	--report "$tenant_tmp/report" -- "$tenant_program" --seconds 2.8 --dir "$dir" hold >/dev/null ||
	fail "the run with a claim failed"
"$PYTHON" - "$tenant_tmp/report" "$dir/direct_io.file" <<'PY' || fail "the claim's report doesn't name the descriptor"
import json, re, sys
report = json.load(open(sys.argv[1]))
holders = [failure["holder"] for failure in report["failures"]]
expected = "direct I/O: fd [0-9]+ /"
sys.exit(0 if any(re.search(expected, h) for h in holders) else f"holders: {holders}")
PY
# The quarantine sees transfers that nobody declared, and nothing where there are none.
# late_writes TREATMENT: sets $late
late_writes() {
	BERTH_UNTREATED=$1 timeout 60 "$BERTH" run --pool "$TENANT_POOL" --area "tenant=$TENANT_AREA" --stress --quarantine \
		--json --report "$tenant_tmp/report" -- "$tenant_program" --seconds 1 --dir "$dir" io_uring-blind \
		>/dev/null 2>"$tenant_tmp/err" || fail "the run in quarantine failed"
	late=$("$PYTHON" -c 'import json, sys; print(json.load(open(sys.argv[1]))["late_writes"])' "$tenant_tmp/report")
}
case $missing in
*io_uring*) ;;
*)
	late_writes ""
	[ "$late" = 0 ] || fail "the quarantine saw $late late writes where there are none"
	for _ in 1 2 3 4 5; do # a page must be in quarantine when it is written
		late_writes direct-io
		[ "$late" = 0 ] || break
	done
	[ "$late" -gt 0 ] || fail "the quarantine saw no late write"
	grep -q "LATE WRITE: the page at offset" "$tenant_tmp/err" || fail "a late write wasn't told"
	;;
esac
[ -z "$missing" ] || say "not on this system:$missing"
tenant_end "$passed cases both ways"
