# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='python3: multiprocessing, 4 forked workers'
needs=python3 packages=python3

prepare() {
	cat >load.py <<'PY'
import hashlib, multiprocessing, random, sys
count = int(sys.argv[1])
rng = random.Random(2)
shared = [f"{rng.getrandbits(80):x}" * 3 for _ in range(count)]

def piece(number):
    mine = [text[number % 17:] + str(number) for text in shared[number::8]]
    before, shared[number] = shared[number], "changed"  # in the child only
    mine.sort()
    shared[number] = before
    return number, hashlib.sha256("".join(mine).encode()).hexdigest(), [m for m in mine[:2000]]

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(4) as pool:
        for turn in range(4):
            results = pool.map(piece, range(8), chunksize=1)
            print(turn, [digest[:16] for _, digest, _ in results], sum(len(few) for _, _, few in results))
    print(hashlib.sha256("".join(shared).encode()).hexdigest())
PY
}

work() { PYTHONMALLOC=malloc tenant "$PYTHON" "$load/load.py" "$(scaled 400000)"; }
