# SPDX-License-Identifier: MIT
"""A claimant, started by `berth claim`: maps its claim and checks it.

claimant.py zero: every byte must be zero; then fills the claim and reads it back
claimant.py outlive NAME: fills it, makes NAME.held, waits for NAME.go and checks it again
"""
import mmap
import os
import sys
import time

offset, size = int(os.environ["BERTH_CLAIM_OFFSET"]), int(os.environ["BERTH_CLAIM_BYTES"])
pool = mmap.mmap(int(os.environ["BERTH_CLAIM_FD"]), size, offset=offset)
os.fstat(int(os.environ["BERTH_CLAIM_TOKEN"]))
pattern = bytes((i * 7 + 1) % 256 for i in range(65536))


def fill():
    for at in range(0, size, len(pattern)):
        pool[at : at + len(pattern)] = pattern[: size - at]


def check():
    for at in range(0, size, len(pattern)):
        if pool[at : at + len(pattern)] != pattern[: size - at]:
            sys.exit(f"wrong bytes at {at}")


if sys.argv[1] == "zero":
    if pool[:].count(0) != size:
        sys.exit("not zeroed")
fill()
check()
if sys.argv[1] == "outlive":
    open(sys.argv[2] + ".held", "w").close()
    while not os.path.exists(sys.argv[2] + ".go"):
        time.sleep(0.01)
    check()
print("right")
