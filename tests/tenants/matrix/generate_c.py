# SPDX-License-Identifier: MIT
"""C source for the compilers: generate_c.py FUNCTIONS SEED [NAME] prints a file that defines NAME()."""

import random
import sys

functions, seed = int(sys.argv[1]), int(sys.argv[2])
name = sys.argv[3] if len(sys.argv) > 3 else "main"
rng = random.Random(seed)
print("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>")
for n in range(functions):
    print(f"struct s{n} {{ int a; unsigned b[{rng.randrange(2, 9)}]; double d; struct s{max(0, n - 1)} *next; }};")
    print(f"static unsigned f{n}(unsigned x, unsigned y)\n{{\n\tstruct s{n} s = {{ .a = (int)(x & 7), .b = {{ y }}, .d = 0.5 }};")
    for _ in range(rng.randrange(4, 12)):
        kind = rng.randrange(4)
        if kind == 0:
            print(f"\tfor (unsigned i = 0; i < (x & {rng.randrange(3, 16)}); i++)\n\t\ty = y * {rng.randrange(3, 99)}u + (i ^ s.b[0]);")
        elif kind == 1:
            print(f"\tif (x % {rng.randrange(2, 9)} == 1)\n\t\tx ^= y >> {rng.randrange(1, 9)};\n\telse\n\t\ts.a += (int)(x & {rng.randrange(99)});")
        elif kind == 2 and n:
            print(f"\tif ((y & 1023) == {rng.randrange(1024)})\n\t\tx += f{rng.randrange(max(0, n - 9), n)}(y, x);")
        else:
            print(f"\tswitch (x & 3) {{\n\tcase 0: y += {rng.randrange(99)}; break;\n\tcase 1: s.d += x; break;\n\tcase 2: x = ~x; break;\n\t}}")
    print("\treturn x + y * 3 + (unsigned)s.a + s.b[0] + (unsigned)(s.d * 2);\n}")
if name == "main":
    print("int main(void)\n{\n\tunsigned sum = 1;")
else:
    print(f"unsigned {name}(void);\nunsigned {name}(void)\n{{\n\tunsigned sum = 1;")
for n in range(functions):
    print(f"\tsum = f{n}(sum, {n}u);")
print('\tprintf("%u\\n", sum);\n\treturn 0;\n}' if name == "main" else "\treturn sum;\n}")
