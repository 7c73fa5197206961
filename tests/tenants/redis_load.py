#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write a deterministic load for `redis-cli --pipe` to standard output.

It begins with FLUSHDB, so the data afterwards are the same however often the
load was applied. About 60,000 commands on strings, lists, hashes, sets and
sorted sets of 1 byte to 100 KB.
"""

import random
import sys


def main():
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    rng = random.Random(7)  # noqa: S311: the same load each time is the point
    out = sys.stdout.buffer
    total = 0

    def command(*words):
        nonlocal total
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
        out.write(b"".join(parts))
        total += 1

    def text(low, high):
        size = rng.randrange(low, high)
        return (b"%032x" % rng.getrandbits(128) * (size // 32 + 1))[:size]

    command("FLUSHDB", "ASYNC")
    for n in range(keys):
        command("SET", f"s:{n}", text(1, 400))
        command("RPUSH", f"l:{n % 500}", *(text(1, 200) for _ in range(4)))
        command("HSET", f"h:{n % 700}", f"f{n}", text(1, 300), f"g{n % 13}", n)
        command("SADD", f"t:{n % 300}", *(rng.getrandbits(40) for _ in range(5)))
        command("ZADD", f"z:{n % 200}", rng.randrange(10**6), f"m{n}", rng.randrange(10**6), f"m{n % 17}")
        command("INCRBY", f"n:{n % 50}", n)
        command("APPEND", f"a:{n % 100}", text(1, 500))
        if n % 50 == 0:
            command("SET", f"big:{n % 1000}", text(20000, 100000))
        if n % 3 == 0:
            command("DEL", f"s:{n // 2}")
            command("LTRIM", f"l:{n % 500}", 0, 29)
        if n % 5 == 0:
            command("SETRANGE", f"r:{n % 200}", rng.randrange(5000), text(1, 100))
            command("HDEL", f"h:{n % 700}", f"f{n - 700}")
            command("ZREMRANGEBYRANK", f"z:{n % 200}", 60, -1)
            command("COPY", f"l:{n % 500}", f"lc:{n % 90}", "REPLACE")
        if n % 7 == 0:
            command("SUNIONSTORE", f"u:{n % 40}", f"t:{n % 300}", f"t:{(n * 3) % 300}")
            command("SORT", f"t:{n % 300}", "ALPHA", "STORE", f"sorted:{n % 60}")
        if n % 500 == 499:
            command("UNLINK", *(f"a:{k}" for k in range(n // 500 * 5, n // 500 * 5 + 5)))
    out.flush()
    sys.stderr.write(f"{total}\n")


if __name__ == "__main__":
    main()
