# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# The load of the web servers in the matrix: files of 0 bytes to 3 MB, fetched by ab with and without
# compression, and at last one by one to be compared.

web_files() {
	mkdir files
	"$PYTHON" - <<'PY'
import random
rng = random.Random(30)
for n, size in enumerate([0, 1, 100, 5000, 40000, 65536, 300000, 3000000]):
    with open(f"files/{n}.txt", "w") as file:
        file.write(("%x" % rng.getrandbits(4 * 64) * (size // 64 + 1))[:size])
PY
}

web_answers() { curl -sf "http://127.0.0.1:$port/1.txt"; }

# web_load REQUESTS: to the server at $port; fails when one request did
web_load() {
	local file
	for file in 3 6; do
		background ab -q -l -n "$1" -c 16 -H 'Accept-Encoding: gzip' "http://127.0.0.1:$port/$file.txt" >"ab.$file" 2>&1
		background ab -q -l -n "$1" -c 8 "http://127.0.0.1:$port/$file.txt" >"ab.$file.plain" 2>&1
	done
	all_done
	grep -hE '^(Complete|Failed|Non-2xx)' ab.*
	rm ab.*
	for file in {0..7}; do
		curl -sf --compressed "http://127.0.0.1:$port/$file.txt" | sha256sum
		curl -sf -r 10-2000 "http://127.0.0.1:$port/$file.txt" | sha256sum
	done
}
