#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Print the coverage of folders' sources: coverage.py BUILD_FOLDER SOURCE_FOLDER...

A file that was compiled several times (inline functions; core once more for the simulator) counts as covered where
any of its objects ran. Branches are gcc's: each way out of a condition. Those of BERTH_ASSERT are left out, and so
are lines that say why they can't be reached (a comment with "unreachable:"), since no test can take an assertion's
other side without a bug: tests/unit/test_death.c and test_check.c show that they work.

What no test reaches is listed with the reason, from scripts/uncovered.txt: lines of "FILE | TEXT | REASON", patterns
of the shell for the file and for the source line, the first that fits. What has none comes first, and is counted.
"""

import collections
import fnmatch
import json
import os
import re
import subprocess
import sys

ASSERTION = re.compile(r"\bBERTH_ASSERT\(|unreachable:|berth__panic\(|berth__space_panic\(")


def objects(build):
    for folder, _, names in os.walk(build):
        for name in names:
            if name.endswith(".gcda"):
                yield os.path.join(folder, name)


def read(build, sources):
    """{file: {line: count}}, {file: {line: [branch counts]}}"""
    lines = collections.defaultdict(collections.Counter)
    branches = collections.defaultdict(dict)
    for path in objects(build):
        if not any(f"{source}_" in os.path.basename(path) for source in sources) and "tests" not in path:
            continue
        out = subprocess.run(["gcov", "-b", "-c", "--json-format", "--stdout", os.path.relpath(path, build)],
                             cwd=build, capture_output=True, text=True).stdout
        for document in filter(None, out.splitlines()):
            for file in json.loads(document)["files"]:
                name = os.path.relpath(os.path.join(build, file["file"])) if not os.path.isabs(file["file"]) \
                    else os.path.relpath(file["file"])
                if not name.startswith(tuple(source + "/" for source in sources)):
                    continue
                for line in file["lines"]:
                    number = line["line_number"]
                    lines[name][number] += line["count"]
                    counts = [branch["count"] for branch in line["branches"] if not branch["throw"]]
                    seen = branches[name].get(number, [])
                    if len(counts) == len(seen):
                        branches[name][number] = [a + b for a, b in zip(seen, counts)]
                    elif sum(map(bool, counts)) * max(len(seen), 1) >= sum(map(bool, seen)) * max(len(counts), 1) \
                            and counts:
                        branches[name][number] = counts
    return lines, branches


def assertion_lines(path):
    """Lines of statements that assert, to the end of the statement."""
    inside, numbers = False, set()
    with open(path, encoding="utf-8") as text:
        for number, line in enumerate(text, 1):
            inside = inside or ASSERTION.search(line) is not None
            if inside:
                numbers.add(number)
            if ";" in line:
                inside = False
    return numbers


def reasons():
    with open(os.path.join(os.path.dirname(__file__), "uncovered.txt"), encoding="utf-8") as text:
        rows = [[part.strip() for part in row.split(" | ")] for row in text if row.strip() and row[0] != "#"]
    for row in rows:
        if len(row) != 3:
            sys.exit(f"uncovered.txt: {row}")
    return rows


def reason_of(rows, name, text):
    """The reason why this line isn't reached, or None."""
    for file, pattern, reason in rows:
        if fnmatch.fnmatchcase(name, file) and fnmatch.fnmatchcase(text, pattern):
            return reason
    return None


def main(build, *sources):
    lines, branches = read(build, sources)
    total, everything = collections.Counter(), collections.Counter()
    missing = []
    print(f"{'file':32} {'lines':>17} {'branches':>17}")
    for name in sorted(lines):
        left_out = assertion_lines(name)
        with open(name, encoding="utf-8") as text:
            texts = text.read().splitlines()
        here = collections.Counter()
        for number, count in sorted(lines[name].items()):
            everything["lines"] += 1
            everything["run"] += count > 0
            everything["branches"] += len(branches[name].get(number, []))
            everything["taken"] += sum(map(bool, branches[name].get(number, [])))
            if number not in left_out:
                here["lines"] += 1
                here["run"] += count > 0
                if not count:
                    missing.append((name, number, "never run", texts[number - 1].strip()))
            ways = [] if number in left_out else branches[name].get(number, [])
            here["branches"] += len(ways)
            here["taken"] += sum(map(bool, ways))
            if count and not all(ways):
                missing.append((name, number, f"{ways.count(0)} of {len(ways)} ways", texts[number - 1].strip()))
        total += here
        report(name, here)
    report("all", total)
    report("all, assertions included", everything)
    tell(missing)


def tell(missing):
    """Lists what is missing, by reason."""
    rows, by_reason = reasons(), collections.defaultdict(list)
    for name, number, what, text in missing:
        by_reason[reason_of(rows, name, text) or ""].append(f"{name}:{number}: {what}: {text}")
    for reason in sorted(by_reason):
        print(f"\n{reason or 'WITHOUT A REASON'}: {len(by_reason[reason])}")
        print("\n".join("    " + row for row in by_reason[reason]))
    print(f"\n{len(missing)} places, {len(by_reason[''])} without a reason")


def report(name, counts):
    def part(done, of):
        return f"{done:5}/{of:5} {100 * done / of if of else 100:4.1f}%"
    print(f"{name:32} {part(counts['run'], counts['lines']):>17} {part(counts['taken'], counts['branches']):>17}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__.splitlines()[0])
    main(*sys.argv[1:])
