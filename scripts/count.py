#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Count the results of `meson test`: count.py BUILD_FOLDER

A cmocka program counts once for each case, any other test counts once. A test that failed as a whole (it
crashed, hung, a sanitizer complained, cases are missing) though none of its cases did counts as one
failure more.

Prints "skip NAME: REASON" for what was skipped and, for what failed, "FAIL NAME" and the end of the
output, indented; then, as the last line, three numbers: passed, failed, skipped.
"""

import json
import re
import sys

CASE = re.compile(r"(not )?ok\b\s*(\d+)?\s*(?:- )?(#\s*SKIP\b)?\s*(.*)", re.IGNORECASE)
PLAN = re.compile(r"1\.\.(\d+)\s*$")
SKIPPED = 77


def skip_reason(lines):
    """What a test says about skipping: its last line with that word, else its last line."""
    lines = [line.strip("# \t") for line in lines if line.strip("# \t")]
    said = [line for line in lines if "skip" in line.lower()]
    return re.sub(r"(?i)^skip(ped)?\s*:\s*", "", (said or lines or ["no reason given"])[-1])


def tap_cases(stdout):
    """{(group, number): (result, name, reason)} and the number of cases that the plans promise.

    cmocka prints a plan for each group of cases, and says "not ok 3 # SKIP" for a skipped one. A forked
    child may repeat lines of its parent; the worst result of a case counts.
    """
    cases, planned, group, said = {}, 0, 0, []
    for line in stdout.splitlines():
        plan, case = PLAN.match(line), CASE.match(line)
        if plan:
            planned, group, said = planned + int(plan[1]), group + 1, []
        elif case and (case[2] or case[3]):
            key = (group, int(case[2] or 0))
            name = case[4].strip() or f"case {case[2]}"
            if case[3]:
                result = ("skip", name, skip_reason(said))
            elif case[1]:
                result = ("fail", name, "")
            else:
                result = ("pass", name, "")
            if "fail" not in (result[0], cases.get(key, ("",))[0]) or result[0] == "fail":
                cases[key] = result
            said = []
        else:
            said.append(line)
    return cases, planned


def main(build):
    passed = failed = skipped = 0
    with open(f"{build}/meson-logs/testlog.json", encoding="utf-8", errors="replace") as log:
        tests = [json.loads(line) for line in log if line.strip()]
    for test in tests:
        name = test["name"].split(" / ")[-1]
        stdout, stderr = test.get("stdout") or "", test.get("stderr") or ""
        cases, planned = tap_cases(stdout)
        results = [result for result, _, _ in cases.values()]
        bad = [case for result, case, _ in cases.values() if result == "fail"]
        for result, case, reason in cases.values():
            if result == "skip":
                print(f"skip {name} {case}: {reason}")
        if cases:
            if not bad and len(cases) < planned:
                bad = [f"{planned - len(cases)} of {planned} cases didn't run"]
            elif not bad and test["result"] not in ("OK", "SKIP"):
                bad = [f"after its cases: {test['result']}, exit status {test['returncode']}"]
            passed += results.count("pass")
            skipped += results.count("skip")
        elif test["result"] == "SKIP" or test["returncode"] == SKIPPED:
            skipped += 1
            print(f"skip {name}: {skip_reason(stdout.splitlines() + stderr.splitlines())}")
        elif test["result"] == "OK" and "CMOCKA_MESSAGE_OUTPUT" not in test["env"]:
            passed += 1
        elif test["result"] == "OK":
            bad = ["no case ran"]
        else:
            bad = [f"{test['result']}, exit status {test['returncode']}"]
        failed += len(bad)
        if bad:
            print(f"FAIL {name}: {', '.join(bad)}")
            for line in stdout.splitlines()[-30:] + stderr.splitlines()[-30:]:
                print(f"    {line}")
    if not tests:
        failed += 1
        print("FAIL no test ran")
    print(passed, failed, skipped)


if __name__ == "__main__":
    main(sys.argv[1])
