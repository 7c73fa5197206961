# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='lua5.4: tables, strings, coroutines'
needs=lua5.4 packages=lua5.4

prepare() {
	cat >load.lua <<'LUA'
local count, seed = tonumber(arg[1]), 11
local function rnd(n) seed = (seed * 1103515245 + 12345) % 2147483648; return seed // 65536 % n end
local sum = 0
for turn = 1, 3 do
	local t, list = {}, {}
	for i = 1, count do
		local s = string.format("%x:%d", rnd(32768) * 32768 + rnd(32768), i)
		t[s] = { i, s .. s, { i % 3 } }
		list[i] = s
	end
	table.sort(list)
	local walk = coroutine.wrap(function() for i, s in ipairs(list) do coroutine.yield(i, s) end end)
	for i, s in walk do sum = (sum * 33 + i * #t[s][2] + t[s][1]) % 1000000007 end
	print(turn, sum, #table.concat(list))
end
LUA
}

work() { tenant lua5.4 "$load/load.lua" "$(scaled 250000)"; }
