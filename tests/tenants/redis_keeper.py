#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A load for redis that knows what it wrote: redis_keeper.py SOCKET [KEYS] [SEED]

Writes strings, lists and hashes without pause over a unix socket, and keeps what
redis must hold. Each batch reads some of it back, and when SIGTERM comes all of it
is read and compared. "ready" on standard output says that all keys were written
once. Exit status: 0, all right; 1, something was wrong; 3, the server is gone, and
all was right until then.
"""

import random
import signal
import socket
import sys


class Gone(Exception):
    pass


class Redis:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def call(self, commands):
        """The answers to some commands, sent at once."""
        parts = []
        for words in commands:
            parts.append(b"*%d\r\n" % len(words))
            parts.extend(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        try:
            self.socket.sendall(b"".join(parts))
            return [self.answer() for _ in commands]
        except OSError as error:
            raise Gone from error

    def answer(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise Gone
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            if rest == b"-1":
                return None
            data = self.file.read(int(rest) + 2)
            if len(data) != int(rest) + 2:
                raise Gone
            return data[:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        if kind == b"-":
            sys.exit(f"keeper: redis says {rest!r}")
        return rest


class Keeper:
    def __init__(self, redis, keys, seed):
        self.redis, self.keys, self.rng = redis, keys, random.Random(seed)
        self.strings, self.lists, self.hashes = {}, {}, {}
        self.batches = self.reads = 0

    def text(self):
        size = self.rng.choice((3, 40, 700, 5000, 5000, 30000))
        return (b"%016x" % self.rng.getrandbits(64) * (size // 16 + 1))[:size]

    def write(self, number):
        """A command that changes key `number`, and what redis must answer."""
        kind, value = number % 4, self.text()
        if kind < 2:
            key = b"s%d" % number
            if kind == 1 and self.rng.random() < 0.5 and len(self.strings.get(key, b"")) < 30000:
                self.strings[key] = self.strings.get(key, b"") + value
                return [b"APPEND", key, value], b"%d" % len(self.strings[key])
            self.strings[key] = value
            return [b"SET", key, value], b"OK"
        if kind == 2:
            key = b"l%d" % number
            values = self.lists.setdefault(key, [])
            if len(values) >= 8:
                return [b"LPOP", key], values.pop(0)
            values.append(value)
            return [b"RPUSH", key, value], b"%d" % len(values)
        key, field = b"h%d" % number, b"f%d" % self.rng.randrange(6)
        fields = self.hashes.setdefault(key, {})
        new = field not in fields
        fields[field] = value
        return [b"HSET", key, field, value], b"%d" % new

    def read(self, number):
        kind = number % 4
        if kind < 2:
            return [b"GET", b"s%d" % number], self.strings.get(b"s%d" % number)
        if kind == 2:
            return [b"LRANGE", b"l%d" % number, b"0", b"-1"], list(self.lists.get(b"l%d" % number, []))
        return [b"HGETALL", b"h%d" % number], dict(self.hashes.get(b"h%d" % number, {}))

    def do(self, pairs):
        for (words, wanted), got in zip(pairs, self.redis.call([words for words, _ in pairs])):
            if isinstance(wanted, dict):
                got = dict(zip(got[::2], got[1::2]))
            if got != wanted:
                sys.exit(f"keeper: {words[:2]!r}: redis answers {str(got)[:200]}, not {str(wanted)[:200]}")

    def batch(self):
        picks = [self.rng.randrange(self.keys) for _ in range(40)]
        self.do([self.write(n) if i % 4 else self.read(n) for i, n in enumerate(picks)])
        self.batches += 1
        self.reads += 10

    def all(self, what):
        for first in range(0, self.keys, 50):
            self.do([what(n) for n in range(first, min(first + 50, self.keys))])


def main():
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    keys = int(sys.argv[2]) if len(sys.argv) > 2 else 12000
    keeper = None
    try:
        keeper = Keeper(Redis(sys.argv[1]), keys, int(sys.argv[3]) if len(sys.argv) > 3 else 1)
        keeper.all(keeper.write)
        print("ready", flush=True)
        while not stop:
            keeper.batch()
        keeper.all(keeper.read)
    except (Gone, OSError):
        print(f"gone after {keeper.batches if keeper else 0} batches", flush=True)
        return 3
    print(f"all {keys} keys right, after {keeper.batches} batches", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
