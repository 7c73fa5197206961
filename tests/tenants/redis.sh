#!/bin/bash
# SPDX-License-Identifier: MIT
#
# redis-server, unmodified, on a unix socket, under a deterministic load and
# under redis-benchmark (in a database of its own, thrown away at the end),
# while it saves in the background again and again. Compared are the digest of
# all data bare and under Berth, the digest after a reload, and the digest that
# a bare server finds when it loads the file that the server under Berth saved.

. "$(dirname "$0")/lib.sh"

need redis-server redis-cli redis-benchmark
tenant_begin 768M 256M

cd "$tenant_tmp" || fail "no temporary directory"
sock=$tenant_tmp/s
load=$tenant_tmp/load.resp
server=0
server_self=0
cat >redis.conf <<CONF
port 0
unixsocket $sock
dir $tenant_tmp
dbfilename dump.rdb
save ""
appendonly no
daemonize no
enable-debug-command yes
stop-writes-on-bgsave-error no
rdbcompression yes
logfile $tenant_tmp/redis.log
CONF
commands=$("$PYTHON" "$tenant_here/redis_load.py" 3000 2>&1 >"$load") || fail "no load could be made"

cli() { timeout 60 redis-cli -s "$sock" "$@"; }
info() { cli info "$1" | tr -d '\r' | sed -n "s/^$2://p"; }

answers() { [ "$(cli ping 2>/dev/null)" = PONG ] || ! kill -0 "$server" 2>/dev/null; }

# start_server FRONT...: the words in front of redis-server
start_server() {
	rm -f "$sock"
	"$@" redis-server "$tenant_tmp/redis.conf" >server.out 2>server.err </dev/null &
	server=$!
	own_pid "$server"
	poll 60 answers || true
	[ "$(cli ping 2>&1)" = PONG ] || died "doesn't answer"
	server_self=$(info server process_id) # under Berth, a child of $server
	[ "$server_self" = "$server" ] || own_pid "$server_self"
}

died() {
	tail -n 15 server.err redis.log >&2
	fail "redis-server ($mode) $1"
}

# stop_server: it must end by itself, with status 0
stop_server() {
	local rc=0
	cli shutdown nosave >/dev/null 2>&1
	poll 60 gone "$server" || died "doesn't end after SHUTDOWN"
	wait "$server" || rc=$?
	disown_pid "$server"
	disown_pid "$server_self"
	[ $rc -eq 0 ] || died "ended with status $rc"
}
gone() {
	local state
	state=$(sed -n 's/^State:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null)
	[ -z "$state" ] || [ "${state:0:1}" = Z ]
}

saved() { [ "$(info persistence rdb_bgsave_in_progress)" = 0 ]; }
bgsave() {
	cli bgsave >/dev/null
	poll 120 saved || died "doesn't finish a BGSAVE"
	[ "$(info persistence rdb_last_bgsave_status)" = ok ] || died "failed in a BGSAVE"
	saves=$((saves + 1))
}

# One pass of the load, with BGSAVEs while it runs.
one_pass() {
	local loader rc=0
	timeout 120 redis-cli -s "$sock" --pipe <"$load" >pipe.out 2>&1 &
	loader=$!
	own_pid "$loader"
	bgsave
	while kill -0 "$loader" 2>/dev/null; do bgsave; done
	wait "$loader" || rc=$?
	disown_pid "$loader"
	if [ $rc -ne 0 ] || ! grep -q "^errors: 0, replies: $commands\$" pipe.out; then
		tail -n 5 pipe.out >&2
		died "answered the load with errors"
	fi
}

# serve MODE SECONDS FRONT...: prints the digest and some counts to MODE.out
serve() {
	local seconds=$2 end bench rc
	mode=$1 saves=0 passes=0
	shift 2
	rm -f dump.rdb redis.log
	start_server "$@"
	end=$(($(now_ms) + seconds * 1000))
	redis-benchmark -s "$sock" --dbnum 9 -l -q -c 8 -P 4 -r 20000 -n 20000 -d 300 \
		-t set,get,incr,lpush,rpop,sadd,hset,spop,zadd,mset >bench.out 2>&1 </dev/null &
	bench=$!
	own_pid "$bench"
	while :; do
		one_pass
		passes=$((passes + 1))
		[ "$(now_ms)" -lt "$end" ] || break
	done
	gone "$bench" && died "lost redis-benchmark's connection: $(tail -n 1 bench.out)"
	kill -TERM "$bench"
	rc=0
	wait "$bench" || rc=$?
	disown_pid "$bench"
	[ $rc -eq 143 ] || died "made redis-benchmark end with status $rc"
	cli -n 9 flushdb >/dev/null
	{
		printf 'keys %s\n' "$(cli dbsize)"
		printf 'digest %s\n' "$(cli debug digest)"
		printf 'lists %s\n' "$(cli --raw lrange l:7 0 -1 | cksum)"
	} >"$mode.out"
	bgsave
	cp dump.rdb "$mode.rdb"
	cli debug reload >/dev/null || died "can't reload"
	printf 'digest after reload %s\n' "$(cli debug digest)" >>"$mode.out"
	stop_server
}

# load_rdb FILE: a bare server's digest of a saved file
load_rdb() {
	local wanted got
	mode="bare, loading $1"
	wanted=$(sed -n 's/^digest \([0-9a-f]*\)$/\1/p' "$2")
	cp "$1" dump.rdb
	start_server
	got=$(cli debug digest)
	stop_server
	[ -n "$wanted" ] && [ "$got" = "$wanted" ] || fail "$1 holds other data ($got) than the server that saved it ($wanted)"
}

check_rdb() {
	command -v redis-check-rdb >/dev/null 2>&1 || return 0
	redis-check-rdb "$1" >check.out 2>&1 || {
		tail -n 5 check.out >&2
		fail "redis-check-rdb rejects $1"
	}
}

serve bare 1
load_rdb bare.rdb bare.out
for ((round = 1; round <= TENANT_ROUNDS; round++)); do
	berth_command "$tenant_tmp/report"
	rm -f "$tenant_tmp/report"
	serve berth "$TENANT_SECONDS" "${berth_cmd[@]}"
	check_report "$tenant_tmp/report"
	same bare.out berth.out "the digest of all data"
	check_rdb berth.rdb
	load_rdb berth.rdb berth.out
	say "round $round of $TENANT_ROUNDS: $passes passes of $commands commands, $saves saves equal; $report_line"
done
tenant_end "$TENANT_ROUNDS rounds of at least $TENANT_SECONDS s"
