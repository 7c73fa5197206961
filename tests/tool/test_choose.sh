#!/bin/bash
# SPDX-License-Identifier: MIT
#
# `berth bench choose`: claims take the cheapest range, as an oracle that tries every start knows it, and are
# refused when and only when there is none. The command fails otherwise.
#
#   BERTH  the command to test (default build/berth)
#
# Exit status: 0 passed, 1 failed.

# shellcheck source=tests/tool/lib.sh
. "$(dirname "$0")/lib.sh"

helps --states --most --seed --json -- bench choose --help
refuses 2 sideways bench choose sideways
refuses 2 --states bench choose --states many

berth bench choose --states 10000 --most 0 --json
[ $status -eq 0 ] && pass || miss "berth bench choose" "status $status: $(tail -n 3 err)"
check "10000 states" out '
need(len(lines) == 1, "not one JSON object")
line = lines[0]
fields(line, "chosen cheapest ratio_max claimed_bytes moved_bytes dropped_bytes cost_ns least_ns ebusy enospc eagain e2big")
need(line["states"] == 10000, "other states")
number(line, "ratio_max", least=1)
need(line["ratio_max"] <= 1.02, "a range costs more than 1.02 times the least")
for name in "chosen moved_bytes dropped_bytes ebusy enospc eagain e2big".split():
    number(line, name, least=1)
'
berth bench choose --states 0 --most 64M --json
[ $status -eq 0 ] && pass || miss "berth bench choose: sizes" "status $status: $(tail -n 3 err)"
check "sizes" out 'need(len(lines) > 0 and all(line["bench"] == "choose" for line in lines), "no sizes")'

finish
