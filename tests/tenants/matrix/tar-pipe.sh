# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='a shell, tar, sort and xz in pipes: a tree of processes'
needs='tar xz sort' packages='tar xz-utils coreutils' heap=small

prepare() {
	mkdir in
	"$PYTHON" "$programs_dir/generate_c.py" "$(scaled 9000)" 17 >in/text
	split -n l/64 in/text in/part.
}

work() {
	tenant bash -c '
		cd "$load" && tar --sort=name --mtime=@0 --owner=0 --group=0 -cf - in | tee >(sha256sum >&3) | xz -2 -T2
	' >out.tar.xz 3>digest
	xz -dc out.tar.xz | tar -xOf - | sort | uniq -c | sort -rn | sed -n 1,50p
}
