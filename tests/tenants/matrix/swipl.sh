# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='swipl: Prolog; facts, backtracking, big terms'
needs=swipl packages=swi-prolog-nox

prepare() {
	cat >load.pl <<'PL'
:- dynamic(fact/3).
fill(N) :- forall(between(1, N, I), (H is (I * 2654435761) mod 100003, atom_number(A, H), assertz(fact(H, A, [I, H, f(I, A)])))).
queens(N, Qs) :- numlist(1, N, Ns), place(Ns, [], Qs).
place([], Qs, Qs).
place(Ns, Acc, Qs) :- select(Q, Ns, Rest), safe(Q, 1, Acc), place(Rest, [Q | Acc], Qs).
safe(_, _, []).
safe(Q, D, [A | As]) :- Q =\= A + D, Q =\= A - D, D1 is D + 1, safe(Q, D1, As).
main :- current_prolog_flag(argv, [A]), atom_number(A, N), fill(N),
	aggregate_all(count, fact(_, _, _), C), aggregate_all(sum(H), (fact(H, _, [I | _]), I mod 3 =:= 1), S),
	findall(H-T, fact(H, _, T), L), msort(L, M), length(M, Len), nth1(1000, M, X),
	aggregate_all(count, queens(7, _), Q), print([C, S, Len, X, Q]), nl.
:- initialization(main, main).
PL
}

work() { tenant swipl "$load/load.pl" "$(scaled 300000)"; }
