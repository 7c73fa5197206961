# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='jq: a file of 20 MB, grouped and sorted'
needs=jq packages=jq

prepare() {
	"$PYTHON" - "$(scaled 130000)" >in.json <<'PY'
import json, random, sys
rng = random.Random(12)
json.dump([{"id": n, "key": f"{rng.getrandbits(50):x}", "tags": [rng.randrange(50) for _ in range(rng.randrange(6))], "x": rng.random()} for n in range(int(sys.argv[1]))], sys.stdout)
PY
}

work() {
	tenant jq -c '(group_by(.tags | length) | map({n: length, keys: (map(.key) | sort | .[0:50]), s: (map(.id) | add)})), (map(.tags[]) | unique)' "$load/in.json"
}
