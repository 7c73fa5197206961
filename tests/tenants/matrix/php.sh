# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='php: arrays, JSON, serialize'
needs=php packages=php-cli pool=1280

prepare() {
	cat >load.php <<'PHP'
<?php
ini_set('memory_limit', '2G');
$count = (int)$argv[1];
mt_srand(5);
$all = [];
for ($i = 0; $i < $count; $i++)
	$all[sprintf('%x', mt_rand())] = ['n' => $i, 'text' => str_repeat(chr(97 + $i % 26), $i % 50), 'list' => range(0, $i % 5)];
for ($turn = 0; $turn < 3; $turn++) {
	ksort($all);
	$text = $turn % 2 ? serialize($all) : json_encode($all);
	echo $turn, ' ', strlen($text), ' ', hash('sha256', $text), "\n";
	$all = $turn % 2 ? unserialize($text) : json_decode($text, true);
}
$parts = preg_split('/[,:]/', $text);
sort($parts, SORT_STRING);
echo count($parts), ' ', hash('sha256', implode('|', $parts)), "\n";
PHP
}

# PHP maps its heap by itself, but for this switch.
work() { USE_ZEND_ALLOC=0 tenant php "$load/load.php" "$(scaled 250000)"; }
