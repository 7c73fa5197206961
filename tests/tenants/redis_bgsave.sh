#!/bin/bash
# SPDX-License-Identifier: MIT
#
# BGSAVE of a large redis-server, bare and under Berth with claims, while redis-benchmark writes to other
# keys of the same database. The file that it saved is loaded by a second, bare redis-server: the keys of
# before must be there with their values, as the digest over all of them tells (DEBUG DIGEST), and the other keys
# must be whole. A save under Berth counts when a claim has moved some of the server's memory while it was
# under way.
#
#   TENANT_MIB     how much data (96; 1024 for the figures in the README)
#   TENANT_SAVES   how many BGSAVEs under Berth (3); the bare server makes one
#
# Prints how long redis' fork() took (latest_fork_usec).

. "$(dirname "$0")/lib.sh"

need redis-server redis-cli redis-benchmark
mib=${TENANT_MIB:-96}
saves=${TENANT_SAVES:-3}
tenant_begin $((mib * 3 + 256))M $((mib + mib / 4 + 64))M
limit=$((60 + mib / 2))

cd "$tenant_tmp" || fail "no temporary directory"
server=0 server_self=0 bench=0 mode=

# Values of 4 KiB, like the ones that DEBUG POPULATE makes; with a header and a tree some 4.2 KiB each.
keys=$((mib * 1024 * 1024 / 4300))

cli() {
	local sock=$1
	shift
	timeout "$limit" redis-cli -s "$tenant_tmp/$sock" "$@"
}
info() { cli "$1" info "$2" | tr -d '\r' | sed -n "s/^$3://p"; }
gone() {
	local state
	state=$(sed -n 's/^State:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null)
	[ -z "$state" ] || [ "${state:0:1}" = Z ]
}
answers() { [ "$(cli "$1" ping 2>/dev/null)" = PONG ] || gone "$server"; }
died() {
	tail -n 15 "$1.err" "$1.log" >&2
	fail "redis-server ($mode) $2"
}

# start_server SOCKET FRONT...: sets $server, and $server_self, which under Berth is a child of it
start_server() {
	local sock=$1
	shift
	rm -f "$sock"
	"$@" redis-server --port 0 --unixsocket "$tenant_tmp/$sock" --dir "$tenant_tmp" \
		--dbfilename "$sock.rdb" --save '' --appendonly no --enable-debug-command yes \
		--rdbcompression no --logfile "$tenant_tmp/$sock.log" >"$sock.out" 2>"$sock.err" </dev/null &
	server=$!
	own_pid "$server"
	poll "$limit" answers "$sock" || true
	server_self=$(info "$sock" server process_id)
	[ -n "$server_self" ] || died "$sock" "doesn't answer"
	[ "$server_self" = "$server" ] || own_pid "$server_self"
}

# stop_server SOCKET: it must end by itself, with status 0
stop_server() {
	local rc=0
	cli "$1" shutdown nosave >/dev/null 2>&1
	poll "$limit" gone "$server" || died "$1" "doesn't end after SHUTDOWN"
	wait "$server" || rc=$?
	disown_pid "$server"
	disown_pid "$server_self"
	[ $rc -eq 0 ] || died "$1" "ended with status $rc"
}

saving() { [ "$(info s persistence rdb_bgsave_in_progress)" = 1 ]; }
saved() { ! saving; }

# moved: so many bytes of the server's memory so far
moved() {
	"$BERTH" stat "$server_self" --json >stat.json || died s "doesn't tell what was moved"
	"$PYTHON" -c 'import json, sys
print(next(one["moved_bytes"] for one in json.load(sys.stdin)["tenants"] if one["pid"] == int(sys.argv[1])))' \
		"$server_self" <stat.json
}

# is_met BEFORE: during this save a claim moves something. Soon a claim has its place for good, and nothing
# moves any more: only what is allocated between two claims is in the way of the next. So the server gets new memory,
# which its area has first, in another database, until more was moved than BEFORE.
is_met() {
	local now
	while saving; do
		more=$((more + 1))
		cli s -n 1 debug populate 512 "more$more" 4096 >/dev/null
		now=$(moved) || exit 1
		if [ "$now" -gt "$1" ]; then
			saving
			return
		fi
	done
	return 1
}
writes_go_on() { [ "$(info s stats total_commands_processed)" -gt "$1" ] || gone "$bench"; }

# static_digest SOCKET: of the static keys alone
static_digest() {
	cli "$1" debug digest
}

# load_saved WANTED: what a bare server finds in the file
load_saved() {
	local kept=$server kept_self=$server_self got
	mv s.rdb second.rdb || fail "no file was saved"
	start_server second
	cli second -n 1 flushdb >/dev/null # see is_met
	# The benchmark's own keys: whole, then out of the way
	[ "$(cli second strlen key:__rand_int__)" = 0 ] || fail "the load isn't what was promised"
	cli second --raw eval "local n = 0
		for _, key in ipairs(redis.call('keys', 'key:*')) do
			if redis.call('strlen', key) ~= 300 then return redis.error_reply(key) end
			redis.call('del', key)
			n = n + 1
		end
		return n" 0 >others.out 2>&1 || fail "the saved file can't be read"
	others=$(cat others.out)
	case $others in
	'' | *[!0-9]*) fail "$mode: the saved file has another value than was written: $others" ;;
	esac
	got=$(static_digest second)
	stop_server second
	rm -f second.rdb
	server=$kept server_self=$kept_self
	[ "$got" = "$1" ] ||
		fail "$mode: the saved file holds other data ($got) than the server before the load ($1)"
}

# serve MODE SAVES FRONT...: prints to MODE.out what must be equal
serve() {
	local digest i before moved_before nr=$2 forks tries=0 met claims
	mode=$1 more=0
	shift 2
	forks=
	rm -f s.rdb s.log
	start_server s "$@"
	cli s debug populate "$keys" static 4096 >/dev/null
	digest=$(static_digest s)
	[ "$(cli s dbsize)" = "$keys" ] && [ ${#digest} -eq 40 ] || died s "can't be filled"
	printf 'keys %s, digest %s\n' "$keys" "$digest" >"$mode.out"
	redis-benchmark -s "$tenant_tmp/s" -l -q -c 4 -P 2 -r 2000 -n 100000 -d 300 -t set \
		>bench.out 2>&1 </dev/null &
	bench=$!
	own_pid "$bench"
	for ((i = 0; i < nr; i += met)); do
		[ $((tries++)) -lt $((20 * nr)) ] || died s "saved $tries times, and claims moved something in $i of these"
		before=$(info s stats total_commands_processed)
		poll "$limit" writes_go_on $((before + 1000)) || died s "doesn't answer redis-benchmark any more"
		claims=$mode met=1
		[ -z "$tenant_unmoved" ] || claims=bare
		if [ $claims = berth ]; then
			moved_before=$(moved) || exit 1
		fi
		cli s bgsave >/dev/null
		[ $claims = bare ] || is_met "$moved_before" || met=0
		poll "$limit" saved || died s "doesn't finish a BGSAVE"
		[ "$(info s persistence rdb_last_bgsave_status)" = ok ] || died s "failed in a BGSAVE"
		forks+="${forks:+, }$(info s stats latest_fork_usec)"
		gone "$bench" && died s "lost redis-benchmark's connection: $(tail -n 1 bench.out)"
		[ $met = 1 ] || continue
		kill -STOP "$bench" # it would only take the processors away
		load_saved "$digest"
		kill -CONT "$bench"
	done
	kill -TERM "$bench"
	wait "$bench" 2>/dev/null
	disown_pid "$bench"
	stop_server s
	say "$mode: $mib MiB, $tries saves, fork took $forks us; the last file had $others of the other keys"
}

tenant_moves=(--poison --claim "${mib}M@200ms+100msx*")
serve bare 1
for ((round = 1; round <= TENANT_ROUNDS; round++)); do
	berth_command "$tenant_tmp/report"
	rm -f "$tenant_tmp/report"
	serve berth "$saves" "${berth_cmd[@]}"
	check_report "$tenant_tmp/report"
	same bare.out berth.out "what was saved"
	say "round $round of $TENANT_ROUNDS: $saves saves equal; $report_line"
done
tenant_end "$TENANT_ROUNDS rounds of $saves saves of $mib MiB"
