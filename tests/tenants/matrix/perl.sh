# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='perl: hashes, sorting, regular expressions'
needs=perl packages=perl short=yes

prepare() {
	cat >load.pl <<'PL'
use strict; use warnings;
my ($count, $seed, %by, @all) = ($ARGV[0], 7);
sub rnd { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return $seed >> 8 }
for my $i (1 .. $count) {
	my $word = sprintf("%x-%s", rnd(), "abcdefghij" x (rnd() % 6));
	push @{ $by{ substr($word, 0, 3) } }, { n => $i, word => $word };
	push @all, $word;
}
my $sum = 0;
for my $key (sort keys %by) {
	for my $item (sort { $a->{word} cmp $b->{word} || $a->{n} <=> $b->{n} } @{ $by{$key} }) {
		(my $t = $item->{word}) =~ s/([a-f]+)/<$1>/g;
		$sum = ($sum * 31 + length($t) * $item->{n}) % 1000000007;
	}
	delete $by{$key} if length($key) && ord($key) % 3 == 0;
}
print "$sum ", scalar(keys %by), "\n";
my $text = join(",", reverse sort @all);
print length($text), " ", unpack("%32C*", $text), "\n";
my %count; $count{$_}++ for split /[-,]/, $text;
print join(" ", map { "$_=$count{$_}" } (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count)[0 .. 9]), "\n";
PL
}

work() { tenant perl "$load/load.pl" "$(scaled 200000)"; }
