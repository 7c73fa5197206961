#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""SQLite over a large database, its pages in lent memory, beside SQLite with as much memory of its own.

Three ways take turns: `berth run --sqlite-cache`; bare, with PRAGMA cache_size as large as area and front
tier together; and bare with the default cache. For each: random point queries (Zipf 1.0) after a warm-up, and a
full scan. Prints medians, or with --json one object a line.

The program is scripts/bench-sqlite.c, compiled here (it needs a C compiler and libsqlite3-dev).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    arg = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arg.add_argument("--berth", default=os.environ.get("BERTH", os.path.join(HERE, "../build/berth")))
    arg.add_argument("--database-mib", type=int, default=1024)
    arg.add_argument("--lent-mib", type=int, default=256)
    arg.add_argument("--front-mib", type=int, default=16)
    arg.add_argument("--warm-up", type=int, default=3000000, help="queries before it is measured")
    arg.add_argument("--queries", type=int, default=1000000)
    arg.add_argument("--rounds", type=int, default=3)
    arg.add_argument("--scans", type=int, default=3, help="rounds of the full scan; 0: none")
    arg.add_argument("--dir", default=None, help="where the database is made, and deleted again")
    arg.add_argument("--json", action="store_true")
    opt = arg.parse_args()
    if min(opt.database_mib, opt.lent_mib, opt.front_mib, opt.queries, opt.rounds) < 1:
        arg.error("sizes, queries and rounds must be positive")

    with tempfile.TemporaryDirectory(prefix="berth-bench-sqlite.", dir=opt.dir) as folder:
        program, db = os.path.join(folder, "bench-sqlite"), os.path.join(folder, "bench.db")
        subprocess.run(
            [os.environ.get("CC", "cc"), "-O2", "-o", program, os.path.join(HERE, "bench-sqlite.c"), "-lsqlite3", "-lm"],
            check=True,
        )
        rows = opt.database_mib * 2**20 // 229  # a row takes about that of the file
        subprocess.run([program, "make", db, str(rows)], check=True)
        run(opt, program, db, rows)


def run(opt, program, db, rows):
    report = db + ".report"
    berth = [
        opt.berth, "run", f"--sqlite-cache={opt.lent_mib}M", "--sqlite-front", f"{opt.front_mib}M",
        "--json", "--report", report, "--",
    ]  # fmt: skip
    ways = {
        "lent": (berth, 0),
        "same memory": ([], (opt.lent_mib + opt.front_mib) * 1024),
        "default cache": ([], 0),
    }
    for what, unit, rounds in (("query", "ns", opt.rounds), ("scan", "ms", opt.scans)):
        figures, hits = {way: [] for way in ways}, []
        for number in range(rounds):
            order = list(ways) if number % 2 == 0 else list(reversed(ways))
            for way in order:
                before, cache_kib = ways[way]
                rest = [str(opt.warm_up), str(opt.queries), str(number + 1)] if what == "query" else []
                out = subprocess.run(
                    [*before, program, what, db, str(rows), str(cache_kib), *rest],
                    check=True, stdout=subprocess.PIPE, text=True,
                ).stdout  # fmt: skip
                figures[way].append(float(out))
                if before:
                    with open(report) as file:
                        hits.append(json.load(file)["sqlite"])
        if rounds:
            show(opt, what, unit, {way: statistics.median(all) for way, all in figures.items()}, figures, hits[-1])


def show(opt, what, unit, medians, figures, sqlite):
    lent, same, default = (medians[way] for way in ("lent", "same memory", "default cache"))
    if opt.json:
        print(
            json.dumps(
                {
                    "benchmark": "sqlite", "what": what, "unit": unit,
                    "database_bytes": opt.database_mib * 2**20, "lent_bytes": opt.lent_mib * 2**20,
                    "front_bytes": opt.front_mib * 2**20, "lent": lent, "same_memory": same,
                    "default_cache": default, "time_by_same_memory": lent / same,
                    "time_by_default": lent / default, "rounds": figures, "sqlite": sqlite,
                }
            )
        )  # fmt: skip
        return
    fetches = sqlite["front_hits"] + sqlite["store_hits"] + sqlite["misses"]
    print(
        f"{what}: lent {lent:.0f} {unit}, same memory {same:.0f} {unit}, default cache {default:.0f} {unit};"
        f" {lent / same:.3f} times the same memory's, {lent / default:.3f} times the default's"
    )
    print(
        f"  of the pages {100 * sqlite['front_hits'] / fetches:.1f} % in the front tier,"
        f" {100 * sqlite['store_hits'] / fetches:.1f} % in the store; {sqlite['puts']} copied there"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
