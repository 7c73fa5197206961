#!/bin/bash
# SPDX-License-Identifier: MIT
# Modules loaded with RTLD_DEEPBIND use the program's heap: see deepbind.c.
. "$(dirname "$0")/lib.sh"
tenant_begin 64M 16M
cc=${CC:-cc}
command -v "${cc%% *}" >/dev/null 2>&1 || skip "no C compiler"
mkdir "$tenant_tmp/inner"
# CC may carry options
# shellcheck disable=SC2086
{
	$cc -std=c11 -O1 -shared -fPIC -DINNER -o "$tenant_tmp/inner/deepbind_inner.so" "$tenant_here/deepbind.c" &&
		$cc -std=c11 -O1 -shared -fPIC -DMODULE -Wl,-rpath,'$ORIGIN/inner' -o "$tenant_tmp/deepbind_module.so" \
			"$tenant_here/deepbind.c" &&
		$cc -std=c11 -O1 -o "$tenant_tmp/deepbind" "$tenant_here/deepbind.c"
} || fail "deepbind.c doesn't compile"
run_bare "$tenant_tmp/bare.out" "$tenant_tmp/bare.err" "$tenant_tmp/deepbind" "$tenant_tmp/deepbind_module.so"
rc=0
timeout -k 5 60 "$BERTH" run --quiet -- "$tenant_tmp/deepbind" "$tenant_tmp/deepbind_module.so" \
	>"$tenant_tmp/berth.out" 2>"$tenant_tmp/berth.err" </dev/null || rc=$?
[ $rc -eq 0 ] || fail "under berth run it ended with status $rc: $(tail -n 3 "$tenant_tmp/berth.err")"
same "$tenant_tmp/bare.out" "$tenant_tmp/berth.out" "standard output"
say "passed"
