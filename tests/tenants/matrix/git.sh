# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='git: repack with 2 threads, fsck'
needs=git packages=git short=yes area=16

prepare() {
	git init -q -b main --bare repository.git
	"$PYTHON" - "$(scaled 400)" <<'PY' | git -C repository.git fast-import --quiet
import random, sys
rng = random.Random(10)
files = {f"dir{n % 7}/file{n}": [f"{rng.getrandbits(200):x}" for _ in range(300)] for n in range(40)}
out = sys.stdout
for commit in range(int(sys.argv[1])):
    print(f"commit refs/heads/main\ncommitter A <a@example.org> {1000000000 + commit} +0000\ndata 7\ncommit\n")
    for name in rng.sample(sorted(files), 6):
        lines = files[name]
        for _ in range(5):
            lines[rng.randrange(len(lines))] = f"{rng.getrandbits(200):x}"
        text = "\n".join(lines) + "\n"
        print(f"M 100644 inline {name}\ndata {len(text)}\n{text}")
PY
}

# Which deltas two threads find differs from run to run: the packs aren't compared, what they hold is.
work() {
	export GIT_CONFIG_NOSYSTEM=1
	cp -r "$load/repository.git" "$scratch/r"
	tenant git -C "$scratch/r" -c pack.threads=2 repack -adfq --window=60 --depth=60 &&
		git -C "$scratch/r" fsck --full --strict --no-progress &&
		git -C "$scratch/r" cat-file --batch-all-objects --batch | sha256sum
	git -C "$scratch/r" log --format=%H | sha256sum
}
