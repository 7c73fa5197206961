# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='python3: objects, JSON, sorting, 4 threads'
needs=python3 packages=python3 short=yes

prepare() {
	cat >load.py <<'PY'
import hashlib, json, random, sys, threading
count, rng = int(sys.argv[1]), random.Random(1)
words = [f"{rng.getrandbits(60):x}" for _ in range(count)]
table = {word: {"n": n, "list": [n % 7, n % 11, word[:5]], "text": word * (n % 9)} for n, word in enumerate(words)}
for turn in range(3):
    text = json.dumps(table, sort_keys=turn % 2 == 0)
    table = json.loads(text)
    print(turn, len(text), hashlib.sha256(text.encode()).hexdigest())
results = [None] * 4
def thread(number):
    chosen = sorted((value["text"] + key for key, value in table.items() if value["n"] % 4 == number), key=lambda s: s[::-1])
    results[number] = hashlib.sha256("".join(chosen).encode()).hexdigest()
threads = [threading.Thread(target=thread, args=(n,)) for n in range(4)]
for t in threads: t.start()
for t in threads: t.join()
print(results)
PY
}

# Python keeps small objects in memory that it maps by itself; so they are in the heap.
work() { PYTHONMALLOC=malloc tenant "$PYTHON" "$load/load.py" "$(scaled 110000)"; }
