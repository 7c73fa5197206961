#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The rows and the table of matrix.sh.

`row` adds one run to a file of JSON lines, and prints a line of progress. A run
that went well but under which no claim succeeded, or nothing of a heap in the
pool was moved, is made a failure here. `table` prints the table of all rows,
and its exit status is that of the whole matrix.
"""

import argparse
import json
import os
import re
import statistics
import sys

BEGIN_MARK = "<!-- matrix: begin -->"
END_MARK = "<!-- matrix: end -->"
MARKS = {"pool": "", "own": " (a)", "small": " (b)", "aligned": " (c)"}
NOTES = {
    "(a)": "(a): the program maps its heap by itself, so little of it or nothing can be in a pool.",
    "(b)": "(b): its heap, or that of its first process, is of a few MiB; often nothing of it is in the way.",
    "(c)": "(c): it asks for aligned memory, which may be for direct I/O and so stays where it is, outside areas.",
}


def read_report(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def judge(args, report):
    """State and reason of a run that gave equal results."""
    if report is None:
        return "fail", "there is no report"
    if args.unmoved != "0":
        return "pass", ""
    if not report.get("claims_ok"):
        return "fail", "no claim succeeded"
    if args.heap == "pool" and not report.get("moved_bytes"):
        return "fail", "nothing was moved"
    return "pass", ""


def add_row(args):
    report = read_report(args.report) if args.berth_ms else None
    state, reason = args.state, args.reason
    if state == "pass":
        state, reason = judge(args, report)
    row = {
        "name": args.name, "title": args.title, "heap": args.heap, "round": args.round,
        "state": state, "reason": reason, "bare_ms": args.bare_ms, "berth_ms": args.berth_ms,
    }
    if report:
        processes = report.get("processes", [])
        row.update(
            claims_ok=report.get("claims_ok", 0), claims_failed=report.get("claims_failed", 0),
            moved_bytes=report.get("moved_bytes", 0), pool_share=report.get("pool_share"),
            stall_max_us=report.get("stall_max_us"), p50_us=report.get("p50_us"), p99_us=report.get("p99_us"),
            pool_share_reason=report.get("pool_share_reason"), failures=report.get("failures"),
            processes=len(processes), processes_in_pool=sum(1 for p in processes if p.get("in_pool")),
        )
    with open(args.rows, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(progress(row), flush=True)


def progress(row):
    head = f"{row['name']:<18}"
    if row["state"] == "skip":
        return f"{head} skipped: {row['reason']}"
    head += f" round {row['round']}: "
    text = "equal" if row["state"] == "pass" else f"FAILED, {row['reason']}"
    if row["berth_ms"]:
        text += f"; {row['bare_ms'] / 1000:.1f} s bare, {row['berth_ms'] / 1000:.1f} s under Berth"
    if "claims_ok" in row:
        text += f"; {claims_text([row])} claims, {row['moved_bytes'] / 2**20:.0f} MiB moved"
        text += f", {share_text([row])} in the pool, {row['processes_in_pool']} of {row['processes']} processes"
    return head + text


# ---- the table


def claims_text(rows):
    ok = sum(row["claims_ok"] for row in rows)
    failed = sum(row["claims_failed"] for row in rows)
    return f"{ok} of {ok + failed}" if failed else f"{ok}"


def share_text(rows):
    shares = [row["pool_share"] for row in rows if isinstance(row["pool_share"], (int, float))]
    return f"{statistics.median(shares) * 100:.0f} %" if shares else "-"


def slowdown(rows):
    """Medians of all rounds; both ways were run in turn."""
    bare = statistics.median(row["bare_ms"] for row in rows)
    berth = statistics.median(row["berth_ms"] for row in rows)
    return berth / bare if bare else 0


def summarise(rows):
    """One line of the table out of the rounds of one program."""
    first = rows[0]
    bad = [row for row in rows if row["state"] == "fail"]
    ran = [row for row in rows if "claims_ok" in row]
    line = {"name": first["name"], "title": first["title"], "rounds": len(rows)}
    if first["state"] == "skip":
        line["result"] = f"skipped: {first['reason']}"
    elif bad:
        line["result"] = f"FAILED in {len(bad)} of {len(rows)}: {bad[0]['reason']}"
    else:
        line["result"] = "equal"
    if ran:
        line.update(
            processes=f"{max(row['processes_in_pool'] for row in ran)} of {max(row['processes'] for row in ran)}",
            bare=f"{statistics.median(row['bare_ms'] for row in ran) / 1000:.1f} s",
            slower=f"{slowdown(ran):.2f}",
            claims=claims_text(ran),
            moved=f"{sum(row['moved_bytes'] for row in ran) / 2**20:,.0f} MiB",
            share=share_text(ran) + MARKS[first["heap"]],
        )
    return line


COLUMNS = [
    ("title", "program and load", "<"), ("processes", "in a pool", ">"), ("bare", "bare", ">"),
    ("slower", "Berth/bare", ">"), ("claims", "claims", ">"), ("moved", "moved", ">"),
    ("share", "of its memory in the pool", ">"), ("result", "result", "<"),
]


def notes(lines):
    return "\n".join(text for mark, text in NOTES.items() if any(mark in line.get("share", "") for line in lines))


def as_text(lines):
    names = {key: head for key, head, _ in COLUMNS}
    names["share"] = "in the pool"
    names["processes"] = "processes"
    width = {key: max([len(names[key])] + [len(line.get(key, "")) for line in lines]) for key, _, _ in COLUMNS}
    out = ["  ".join(f"{names[key]:{align}{width[key]}}" for key, _, align in COLUMNS).rstrip()]
    for line in lines:
        out.append("  ".join(f"{line.get(key, ''):{align}{width[key]}}" for key, _, align in COLUMNS).rstrip())
    return "\n".join(out + [notes(lines)]).rstrip()


def as_markdown(lines):
    out = ["| " + " | ".join(head for _, head, _ in COLUMNS) + " |"]
    out.append("|" + "|".join("---:" if align == ">" else "---" for _, _, align in COLUMNS) + "|")
    out.extend("| " + " | ".join(line.get(key, "") for key, _, _ in COLUMNS) + " |" for line in lines)
    return "\n".join(out + ["", notes(lines)]).rstrip() + "\n"


def replace_between_marks(path, text):
    with open(path, encoding="utf-8") as file:
        old = file.read()
    pattern = re.escape(BEGIN_MARK) + ".*?" + re.escape(END_MARK)
    new, found = re.subn(pattern, lambda _: f"{BEGIN_MARK}\n{text}{END_MARK}", old, count=1, flags=re.S)
    if not found:
        sys.exit(f"{path} has no lines {BEGIN_MARK} and {END_MARK}")
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(new)
    os.replace(path + ".new", path)


def make_table(args):
    with open(args.rows, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    programs = {}
    for row in rows:
        programs.setdefault(row["name"], []).append(row)
    lines = [summarise(of_one) for of_one in programs.values()]
    failed = sum(1 for line in lines if line["result"].startswith("FAILED"))
    skipped = sum(1 for line in lines if line["result"].startswith("skipped"))
    equal = len(lines) - failed - skipped
    rounds = max((line["rounds"] for line in lines), default=0)
    ratios = [slowdown(of_one) for of_one in programs.values() if "claims_ok" in of_one[0]]
    ran = [row for row in rows if "claims_ok" in row]
    last = f"{equal} programs equal, {failed} failed, {skipped} skipped; {rounds} round{'s' * (rounds != 1)}"
    if ran:
        last += (
            f", {claims_text(ran)} claims, {sum(row['moved_bytes'] for row in ran) / 2**30:.1f} GiB moved, "
            f"{statistics.median(ratios):.2f} times as long as bare (median)"
        )
    print("\n" + as_text(lines) + "\n\n" + last)
    if args.markdown:
        with open(args.markdown, "w", encoding="utf-8") as file:
            file.write(as_markdown(lines) + "\n" + last + ".\n")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"programs": lines, "runs": rows}, file, indent=1)
            file.write("\n")
    if args.readme:
        replace_between_marks(args.readme, as_markdown(lines) + "\n" + last + ".\n")
    return 1 if failed else 0 if equal else 77


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    row = commands.add_parser("row")
    for option in ("name", "title", "heap", "state", "reason", "unmoved", "report", "rows"):
        row.add_argument("--" + option, required=True)
    for option in ("round", "bare-ms", "berth-ms"):
        row.add_argument("--" + option, type=int, required=True)
    table = commands.add_parser("table")
    table.add_argument("--rows", required=True)
    for option in ("markdown", "json", "readme"):
        table.add_argument("--" + option)
    args = parser.parse_args()
    if args.command == "row":
        add_row(args)
        return 0
    return make_table(args)


if __name__ == "__main__":
    sys.exit(main())
