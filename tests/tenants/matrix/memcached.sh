# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='memcached: 4 threads, 6 connections that write and read'
needs=memcached packages=memcached

prepare() {
	cat >load.py <<'PY'
import hashlib, random, socket, sys, threading
path, count = sys.argv[1], int(sys.argv[2])
digests = {}
def client(number):
    rng = random.Random(number)
    s = socket.socket(socket.AF_UNIX); s.connect(path); f = s.makefile("rwb")
    sha, values = hashlib.sha256(), {}
    for n in range(count):
        key = f"{number}:{rng.randrange(count // 3)}"
        if n % 3 != 1:
            value = (b"%x" % rng.getrandbits(200)) * rng.randrange(1, 40)
            f.write(b"set %s 0 0 %d\r\n%s\r\n" % (key.encode(), len(value), value)); f.flush()
            if f.readline() != b"STORED\r\n": raise SystemExit("not stored")
            values[key] = value
        else:
            f.write(b"get %s\r\n" % key.encode()); f.flush()
            line, got = f.readline(), None
            if line != b"END\r\n":
                got = f.read(int(line.split()[3]) + 2)[:-2]
                f.readline()
            if got != values.get(key): raise SystemExit(f"{key} is wrong")
            sha.update(got or b"-")
    for key in sorted(values):
        f.write(b"get %s\r\n" % key.encode()); f.flush()
        got = f.read(int(f.readline().split()[3]) + 2)[:-2]
        f.readline()
        if got != values[key]: raise SystemExit(f"{key} is wrong at the end")
        sha.update(got)
    digests[number] = sha.hexdigest()
threads = [threading.Thread(target=client, args=(n,)) for n in range(6)]
for t in threads: t.start()
for t in threads: t.join()
print(*(digests[n] for n in range(6)), sep="\n")
PY
}

work() {
	serve memcached -s "$scratch/s" -t 4 -m 512 -u "$(id -un)"
	await_server 30 test -S "$scratch/s"
	"$PYTHON" "$load/load.py" "$scratch/s" "$(scaled 12000)"
	stop_server INT
}
