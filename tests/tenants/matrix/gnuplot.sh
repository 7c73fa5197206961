# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='gnuplot: 300,000 points, smoothing, a surface'
needs=gnuplot packages=gnuplot-nox

prepare() {
	"$PYTHON" - "$(scaled 300000)" >in.dat <<'PY'
import math, random, sys
rng = random.Random(15)
for n in range(int(sys.argv[1])):
    print(f"{rng.random():.6f} {math.sin(n / 1000) + rng.random():.6f} {rng.random():.6f}")
PY
	cat >load.gp <<'GP'
set terminal svg size 800,600 noenhanced name "x"
set output "points.svg"
plot data using 1:2 with dots, data using 1:2 smooth bezier, data using 1:3 smooth csplines
set output "surface.svg"
set dgrid3d 60,60,4
splot data every 30 using 1:2:3 with lines
GP
}

work() { tenant gnuplot -e "data='$load/in.dat'" "$load/load.gp"; }
