# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='make -j4: 16 files, gcc, ar, ld: a tree of 56 processes'
needs='make gcc ar' packages='make gcc libc6-dev' short=yes heap=small area=16

prepare() {
	local n
	for n in {1..16}; do
		"$PYTHON" "$programs_dir/generate_c.py" "$(scaled 40)" "$n" "part$n" >"part$n.c"
	done
	{
		echo '#include <stdio.h>'
		for n in {1..16}; do echo "unsigned part$n(void);"; done
		echo 'int main(void) {'
		for n in {1..16}; do echo "printf(\"%u\\n\", part$n());"; done
		echo '}'
	} >main.c
	cat >Makefile <<'MK'
parts := $(addprefix part,$(addsuffix .o,1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16))
program: main.o parts.a
	@gcc -o $@ $^
parts.a: $(parts)
	@ar rcD $@ $^
%.o: $(load)/%.c
	@gcc -O1 -c -o $@ $<
MK
}

work() {
	tenant make -s -j4 -f "$load/Makefile" load="$load"
	./program
}
