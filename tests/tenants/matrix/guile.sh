# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='guile: lists, hash tables, big numbers'
needs=guile packages=guile-3.0 heap=own

# The Boehm collector maps its heap by itself.
prepare() {
	cat >load.scm <<'SCM'
(define count (string->number (cadr (command-line))))
(define table (make-hash-table))
(let loop ((i 0) (seed 29))
  (when (< i count)
    (hash-set! table (number->string seed 36) (list i seed (make-string (modulo i 20) #\a)))
    (loop (+ i 1) (modulo (+ (* seed 1103515245) 12345) 2147483648))))
(define all (sort (hash-map->list (lambda (k v) (string-append k (caddr v))) table) string<?))
(display (list (length all) (string-hash (apply string-append all) 1000000007)))
(newline)
(define (fact n) (if (< n 2) 1 (* n (fact (- n 1)))))
(display (modulo (fact 6000) 1000000007000000009))
(newline)
SCM
	GUILE_AUTO_COMPILE=0 guile -c 1
}

work() { GUILE_AUTO_COMPILE=0 tenant guile "$load/load.scm" "$(scaled 300000)"; }
