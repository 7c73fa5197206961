# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='tclsh: dictionaries, lists, strings'
needs=tclsh packages=tcl

prepare() {
	cat >load.tcl <<'TCL'
set count [lindex $argv 0]
set seed 17
proc rnd {} { global seed; set seed [expr {($seed * 1103515245 + 12345) & 0x7fffffff}] }
for {set turn 0} {$turn < 2} {incr turn} {
	set d [dict create]; set l {}
	for {set i 0} {$i < $count} {incr i} {
		set key [format %x-%d [rnd] $i]
		dict set d $key [list $i [string repeat ab [expr {$i % 30}]]]
		lappend l $key
	}
	set sum 0
	foreach key [lsort $l] { set sum [expr {($sum * 31 + [lindex [dict get $d $key] 0] + [string length [lindex [dict get $d $key] 1]]) % 1000000007}] }
	puts "$turn $sum [string length [join $l ,]]"
}
TCL
}

work() { tenant tclsh "$load/load.tcl" "$(scaled 180000)"; }
