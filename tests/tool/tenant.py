# SPDX-License-Identifier: MIT
"""A tenant: 40 MiB of known contents, checked and written again and again.

tenant.py NAME: makes the file NAME.ready (with its pid in it) when all is there, and ends when the
file NAME.stop is; exit status 0 and NAME.right if every byte was right all the time.
"""
import os
import sys
import time

name = sys.argv[1]
blocks = [bytearray([i % 251]) * 65536 for i in range(640)]
with open(name + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(name + ".new", name + ".ready")
while not os.path.exists(name + ".stop"):
    for i, block in enumerate(blocks):
        if block.count(i % 251) != len(block):
            sys.exit(f"block {i} is wrong")
        block[::4096] = bytes([i % 251]) * 16
    time.sleep(0.005)
open(name + ".right", "w").close()
