# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='gm convert: resize, blur, quantize'
needs=gm packages=graphicsmagick

prepare() { gm convert -size "$(scaled 2400)x1600" plasma:navy-gold -seed 3 in.miff || gm convert -size 2400x1600 gradient:navy-gold in.miff; }

work() {
	tenant gm convert "$load/in.miff" -resize 150% -blur 0x3 -rotate 7 -colors 64 out.ppm
}
