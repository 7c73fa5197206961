#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A python3 program with threads, subprocesses and forks that checks itself.

It makes passes until --seconds are over (at least one). Each pass does the same
work and must give the same digest; the only output is that digest, so it
doesn't depend on how many passes there was time for. Any wrong byte, in this
process or in a child, ends the program with status 1 and a line on stderr.
"""

import argparse
import array
import hashlib
import json
import multiprocessing
import os
import queue
import random
import subprocess
import sys
import threading
import time

CHILD_DEADLINE_S = 60


class Wrong(Exception):
    pass


def expect(condition, what):
    if not condition:
        raise Wrong(what)


def sha(data):
    return hashlib.sha256(data).hexdigest()


def make_state(rng, count):
    """A big dict of byte strings, each beside the checksum it must keep."""
    state = {}
    for number in range(count):
        data = bytearray(rng.randbytes(rng.randrange(1, 3000)))
        state[f"key-{number}-{rng.getrandbits(40):x}"] = [data, sha(data)]
    return state


def check_state(state, where):
    for key, (data, checksum) in state.items():
        expect(sha(data) == checksum, f"{where}: {key} has changed")


def digest_state(state):
    total = hashlib.sha256()
    for key in sorted(state):
        total.update(key.encode())
        total.update(state[key][0])
    return total.hexdigest()


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_all(fd):
    chunks = []
    while chunk := os.read(fd, 65536):
        chunks.append(chunk)
    return b"".join(chunks)


class Churn(threading.Thread):
    """Allocates and frees all the time; checks what it keeps."""

    def __init__(self, seed):
        super().__init__(daemon=True)
        self.rng = random.Random(seed)
        self.stop = threading.Event()
        self.error = None
        self.turns = 0

    def run(self):
        try:
            kept = []
            while not self.stop.is_set():
                size = self.rng.choice((8, 100, 600, 5000, 40000, 300000))
                fill = self.rng.randrange(256)
                kept.append((bytearray([fill]) * size, fill, [str(n) for n in range(size % 500)]))
                if len(kept) > 60:
                    data, fill, words = kept.pop(self.rng.randrange(len(kept)))
                    expect(data.count(fill) == len(data), "churn: a buffer has changed")
                    expect(words == [str(n) for n in range(len(words))], "churn: a list has changed")
                self.turns += 1
                if self.turns % 5 == 0:
                    self.stop.wait(0.002)  # leave the interpreter's lock to the others
        except BaseException as error:  # noqa: BLE001: whatever it is, the main thread reports it
            self.error = error


def pass_structures(rng):
    """Lists, dicts, sets, big integers, sorting and JSON."""
    words = [f"{rng.getrandbits(64):016x}" for _ in range(8000)]
    index = {}
    for place, word in enumerate(words):
        index.setdefault(word[:3], []).append(place)
    for places in index.values():
        expect(all(words[p][:3] == words[places[0]][:3] for p in places), "an index entry is wrong")
    text = json.dumps(index, sort_keys=True)
    expect(json.loads(text) == index, "JSON there and back")
    numbers = array.array("q", (rng.getrandbits(62) for _ in range(40000)))
    ordered = sorted(numbers)
    expect(sum(ordered) == sum(numbers) and ordered[0] == min(numbers), "sorting lost a number")
    big = 3**20001
    expect(big % 1000003 == pow(3, 20001, 1000003), "a big integer is wrong")
    return sha(text.encode()), sha(numbers.tobytes())


def pass_files(rng, directory):
    """The kernel writes into the heap: files, readinto, pipes."""
    path = os.path.join(directory, "python-tenant.bin")
    data = rng.randbytes(1 << 20)
    with open(path, "wb") as file:
        file.write(data)
    buffer = bytearray(len(data))
    for _ in range(4):
        with open(path, "rb", buffering=0) as file:
            view, done = memoryview(buffer), 0
            while got := file.readinto(view[done : done + 700001]):
                done += got
        expect(done == len(data) and buffer == data, "a file read differs")
        buffer[:] = bytes(len(data))
    os.unlink(path)
    reader, writer = os.pipe()
    feeder = threading.Thread(target=lambda: (write_all(writer, data), os.close(writer)))
    feeder.start()
    got = read_all(reader)
    feeder.join()
    os.close(reader)
    expect(got == data, "a pipe read differs")
    return sha(got)


def pass_forks(rng, state):
    """Children see the state of the fork, whatever the parent does later, and the parent never sees theirs."""
    results = []
    for turn in range(3):
        before = digest_state(state)
        go_reader, go_writer = os.pipe()
        answer_reader, answer_writer = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(go_writer)
                os.close(answer_reader)
                os.read(go_reader, 1)  # the parent has changed its own copy by now
                check_state(state, "child")
                seen = digest_state(state)
                for entry in state.values():
                    entry[0][:] = b"scribbled over by the child"
                junk = [bytearray(n) for n in range(0, 6000, 7)]
                expect(all(len(j) == 7 * n and not any(j) for n, j in enumerate(junk)), "child: fresh memory")
                write_all(answer_writer, seen.encode())
                status = 0
            except BaseException as error:  # noqa: BLE001
                write_all(2, f"child: {error!r}\n".encode())
            finally:
                os._exit(status)
        os.close(go_reader)
        os.close(answer_writer)
        for number, entry in enumerate(state.values()):
            if number % 3 == turn:
                entry[0][:] = rng.randbytes(len(entry[0]) % 2000 + 1)
                entry[1] = sha(entry[0])
        after = digest_state(state)
        os.write(go_writer, b"g")
        os.close(go_writer)
        seen = read_all(answer_reader).decode()
        os.close(answer_reader)
        _, status = os.waitpid(child, 0)
        expect(status == 0, f"a child ended with status {status}")
        expect(seen == before, "a child saw something else than the state of the fork")
        check_state(state, "parent after fork")
        expect(digest_state(state) == after, "the parent's state has changed")
        results.append(seen)
    return results


def pass_subprocesses(rng, shell):
    data = rng.randbytes(400000)
    done = subprocess.run(["cat"], input=data, capture_output=True, check=True, timeout=CHILD_DEADLINE_S)
    expect(done.stdout == data, "cat gave back something else")
    pipe = subprocess.Popen(["tr", "a-z", "A-Z"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    text = bytes(97 + byte % 26 for byte in data[:100000])
    answer, _ = pipe.communicate(text, timeout=CHILD_DEADLINE_S)
    expect(answer == text.upper() and pipe.returncode == 0, "tr gave back something else")
    done = subprocess.run([shell, "-c", "echo $0 $1; exit 3", "a", "b"], stdout=subprocess.PIPE, timeout=CHILD_DEADLINE_S)
    expect((done.stdout, done.returncode) == (b"a b\n", 3), "a shell's answer or status is wrong")
    code = "import hashlib,sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], input=data, stdout=subprocess.PIPE, timeout=CHILD_DEADLINE_S
    )
    expect(done.stdout.decode().strip() == sha(data), "another python disagrees about a checksum")
    return sha(answer)


def work(item):
    """Runs in a worker process of multiprocessing."""
    number, blob, checksum = item
    expect(sha(blob) == checksum, f"worker: item {number} has changed")
    return number, sha(blob * 3)


def drain(tasks, answers):
    while (item := tasks.get()) is not None:
        answers.put(work(item))


def pass_multiprocessing(rng):
    context = multiprocessing.get_context("fork")
    items = []
    for number in range(40):
        blob = rng.randbytes(rng.randrange(100, 60000))
        items.append((number, blob, sha(blob)))
    wanted = {number: sha(blob * 3) for number, blob, _ in items}
    with context.Pool(2) as pool:
        expect(dict(pool.map_async(work, items, chunksize=4).get(CHILD_DEADLINE_S)) == wanted, "a pool's answers are wrong")
    tasks, answers = context.Queue(), context.Queue()
    workers = [context.Process(target=drain, args=(tasks, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for item in items:
        tasks.put(item)
    for _ in workers:
        tasks.put(None)
    got = dict(answers.get(timeout=CHILD_DEADLINE_S) for _ in items)
    for worker in workers:
        worker.join(CHILD_DEADLINE_S)
        expect(worker.exitcode == 0, f"a worker ended with {worker.exitcode}")
    expect(got == wanted, "the answers of the queue are wrong")
    return sha("".join(got[number] for number in sorted(got)).encode())


def pass_threads(rng):
    """Threads that come and go and hand their memory to each other."""
    work_queue, results, errors = queue.Queue(), queue.Queue(), []

    def worker():
        try:
            while (item := work_queue.get()) is not None:
                number, data = item
                results.put((number, sha(data), bytes(reversed(data))))
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=worker) for _ in range(6)]
    for thread in threads:
        thread.start()
    blobs = [rng.randbytes(rng.randrange(10, 30000)) for _ in range(200)]
    for number, blob in enumerate(blobs):
        work_queue.put((number, blob))
    for _ in threads:
        work_queue.put(None)
    for thread in threads:
        thread.join()
    expect(not errors, f"a thread failed: {errors}")
    total = [""] * len(blobs)
    for _ in blobs:
        number, checksum, backwards = results.get_nowait()
        expect(backwards[::-1] == blobs[number], "a thread's data has changed")
        total[number] = checksum
    return sha("".join(total).encode())


def one_pass(directory, shell, note):
    rng = random.Random(20240607)  # noqa: S311: the same work in each pass is the point
    state = make_state(rng, 2000)
    parts = {"state": digest_state(state)}
    for name, part in (
        ("structures", lambda: pass_structures(rng)),
        ("files", lambda: pass_files(rng, directory)),
        ("threads", lambda: pass_threads(rng)),
        ("forks", lambda: pass_forks(rng, state)),
        ("subprocesses", lambda: pass_subprocesses(rng, shell)),
        ("multiprocessing", lambda: pass_multiprocessing(rng)),
    ):
        note(name)
        parts[name] = part()
        check_state(state, f"after {name}")
    parts["end"] = digest_state(state)
    return parts


def main():
    arg = argparse.ArgumentParser()
    arg.add_argument("--seconds", type=float, default=0)
    arg.add_argument("--dir", default=".")
    opt = arg.parse_args()

    sys.setswitchinterval(0.001)
    started = time.monotonic()
    passes, first, at = 0, None, "start"

    def note(name):
        nonlocal at
        at = name

    churns = [Churn(seed) for seed in (1, 2)]
    for churn in churns:
        churn.start()
    try:
        while passes == 0 or time.monotonic() - started < opt.seconds:
            parts = one_pass(opt.dir, "/bin/sh", note)
            first = first or parts
            expect(parts == first, f"pass {passes + 1} gave another digest than the first")
            for churn in churns:
                expect(churn.error is None, f"{churn.error!r}")
            passes += 1
    except (Wrong, OSError, subprocess.SubprocessError, multiprocessing.TimeoutError, queue.Empty) as error:
        sys.stderr.write(f"WRONG in pass {passes + 1}, {at}: {error!r}\n")
        return 1
    for churn in churns:
        churn.stop.set()
        churn.join()
        expect(churn.error is None, f"{churn.error!r}")
        expect(churn.turns > 0, "a thread never ran")
    for name, value in first.items():
        print(name, value)
    sys.stderr.write(f"{passes} passes in {time.monotonic() - started:.1f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
