# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='redis-server: a load of 80,000 commands, redis-benchmark beside it, BGSAVE'
needs='redis-server redis-cli redis-benchmark' packages='redis-server redis-tools' short=yes

prepare() { "$PYTHON" "$tenant_here/redis_load.py" "$(scaled 10000)" >load.resp 2>commands; }

saved() { [ "$(redis-cli -s "$sock" info persistence | tr -d '\r' | sed -n 's/^rdb_bgsave_in_progress://p')" = 0 ]; }

work() {
	sock=$scratch/s
	serve redis-server --port 0 --unixsocket "$sock" --dir "$scratch" --save '' --enable-debug-command yes --logfile "$scratch/log"
	await_server 30 redis-cli -s "$sock" ping
	background redis-benchmark -s "$sock" --dbnum 9 -q -c 8 -P 8 -r 20000 -n "$(scaled 60000)" -d 400 \
		-t set,get,incr,lpush,rpop,sadd,hset,zadd,mset >"$scratch/bench" 2>&1
	redis-cli -s "$sock" --pipe <"$load/load.resp" | tail -n 1
	redis-cli -s "$sock" bgsave >/dev/null
	redis-cli -s "$sock" --pipe <"$load/load.resp" | tail -n 1
	all_done
	poll 60 saved || fail "BGSAVE doesn't end"
	redis-cli -s "$sock" -n 9 flushdb
	redis-cli -s "$sock" dbsize
	redis-cli -s "$sock" debug digest
	redis-cli -s "$sock" debug reload
	redis-cli -s "$sock" debug digest
	redis-cli -s "$sock" shutdown nosave
	stop_server
}
