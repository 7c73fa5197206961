# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='rsync: 20,000 files; three processes, two of them forked'
needs=rsync packages=rsync area=16 pool=256

prepare() {
	"$PYTHON" - "$(scaled 20000)" <<'PY'
import os, random, sys
rng = random.Random(16)
for n in range(int(sys.argv[1])):
    folder = f"in/{n % 97}/{n % 11}"
    if n < 97 * 11:
        os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/{n}", "wb") as file:
        file.write(rng.randbytes(rng.randrange(2000)))
    os.utime(f"{folder}/{n}", (10**9, 10**9))
PY
}

work() { tenant rsync -ac --checksum-choice=md5 "$load/in/" out/; }
