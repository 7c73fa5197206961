#!/bin/bash
# SPDX-License-Identifier: MIT
# What living in a pool costs a program while nothing is claimed: scripts/throughput.sh [sqlite] [redis]
#
# sqlite3 and redis-server run by turns with Debian's jemalloc as it is (5.3, with the options that ours has) and under
# `berth run`, where the same jemalloc gets its memory from a pool. Each pair of runs gives a ratio of rates; printed
# are the median of the ratios, and all of them.
#
#   BERTH   the command to measure  (default build/berth)
#   ROUNDS  pairs of runs each      (default 9)
#   VERBOSE=1 say how long each run took
#   JEMALLOC  the library           (default: where ldconfig knows it)

set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
BERTH=${BERTH:-$PWD/build/berth} ROUNDS=${ROUNDS:-9}
JEMALLOC=${JEMALLOC:-$(ldconfig -p 2>/dev/null | sed -n 's/.*libjemalloc\.so\.2 .* => //p' | head -n 1)}
tmp=$(mktemp -d) || exit 2
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

say() { printf '%s\n' "$*"; }
die() {
	printf 'throughput: %s\n' "$*" >&2
	exit 1
}

[ -x "$BERTH" ] || die "there is no command at $BERTH; run make first, or set BERTH"
[ -n "$JEMALLOC" ] || die "libjemalloc2 isn't installed"
options=$(sed -n '/^const char \*malloc_conf/,/;$/s/[^"]*"\([^"]*\)".*/\1/p' runtime/heap.c | tr -d '\n')

outside() { LD_PRELOAD=$JEMALLOC MALLOC_CONF=$options "$@"; }
inside() { "$BERTH" run --quiet --area lent=512M -- "$@"; }

now_us() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }

# Rows in memory, indexes, joins, sorting and strings: nearly all of it is work in the heap. The first and the last
# line of its output are the time: what it takes to open a pool isn't counted.
make_sql() {
	cat <<'SQL'
SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INT);
PRAGMA temp_store=MEMORY; PRAGMA cache_size=-262144;
CREATE TABLE t(id INTEGER PRIMARY KEY, k INT, v TEXT);
BEGIN;
WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM s WHERE n<250000)
INSERT INTO t SELECT n, (n*2654435761)%50021, printf('%08x-%s', (n*2654435761)%4294967296, substr('all quiet in the harbour tonight', 1+n%11)) FROM s;
COMMIT;
CREATE INDEX t_k ON t(k, v);
SELECT count(*), sum(a.k), max(b.v) FROM t a JOIN t b ON b.k=(a.k*7)%50021 WHERE a.id%4=0;
UPDATE t SET v=v||'+'||(id%97) WHERE id%3=1;
DELETE FROM t WHERE id%7=2;
SELECT k%10, count(DISTINCT v), length(group_concat(v)) FROM t GROUP BY 1 ORDER BY 1;
SELECT sum(place) FROM (SELECT row_number() OVER (PARTITION BY k%100 ORDER BY v DESC) AS place FROM t);
SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INT);
SQL
}

# Each prints how long its work took, in us.
sqlite_run() {
	local front=$1
	"$front" sqlite3 -bail :memory: ".read $tmp/work.sql" >"$tmp/out" 2>"$tmp/err" </dev/null ||
		die "sqlite3 failed $front the pool: $(head -n 1 "$tmp/err")"
	sed '1d;$d' "$tmp/out" >"$tmp/$front.out"
	say $(($(tail -n 1 "$tmp/out") - $(head -n 1 "$tmp/out")))
}

cli() { timeout 20 redis-cli -s "$tmp/s" "$@" 2>/dev/null; }

redis_run() {
	local front=$1 started
	rm -f "$tmp/s"
	"$front" redis-server --port 0 --unixsocket "$tmp/s" --save '' --appendonly no --dir "$tmp" \
		>"$tmp/redis.log" 2>&1 </dev/null &
	server=$!
	for ((i = 0; i < 200; i++)); do
		[ "$(cli ping)" = PONG ] && break
		sleep 0.05 # between two looks
	done
	redis-benchmark -s "$tmp/s" -q -n 100000 -r 200000 -d 200 -P 16 -t set >/dev/null 2>&1 # fills it
	started=$(now_us)
	redis-benchmark -s "$tmp/s" -q -n 400000 -r 200000 -d 200 -P 16 -t set,get,lpush,lpop,sadd \
		>"$tmp/$front.out" 2>"$tmp/err" || die "redis-benchmark failed $front the pool"
	say $(($(now_us) - started))
	cli shutdown nosave
	wait "$server" || die "redis-server failed $front the pool: $(tail -n 1 "$tmp/redis.log")"
	server=
}

# measure NAME RUN: by turns, and which comes first changes, too
measure() {
	local name=$1 run=$2 ratios=() in out
	"$run" outside >/dev/null || exit 1
	for ((round = 0; round < ROUNDS; round++)); do
		if ((round % 2)); then
			in=$("$run" inside) || exit 1
			out=$("$run" outside) || exit 1
		else
			out=$("$run" outside) || exit 1
			in=$("$run" inside) || exit 1
		fi
		ratios+=("$(awk -v a="$out" -v b="$in" 'BEGIN { printf "%.1f", 100 * a / b }')")
		((run_ms += in / 1000))
		[ -z "${VERBOSE:-}" ] || say "  outside $out us, in the pool $in us"
	done
	say "$name: in the pool $(printf '%s\n' "${ratios[@]}" | sort -n | sed -n "$((ROUNDS / 2 + 1))p") % of the rate outside ($ROUNDS pairs, $((run_ms / ROUNDS)) ms each: ${ratios[*]})"
	run_ms=0
}

run_ms=0
[ $# -gt 0 ] || set -- sqlite redis
for program in "$@"; do
	case $program in
	sqlite)
		command -v sqlite3 >/dev/null || die "sqlite3 isn't installed"
		make_sql >"$tmp/work.sql"
		measure "sqlite3" sqlite_run
		cmp -s "$tmp/inside.out" "$tmp/outside.out" || die "sqlite3's answers differ"
		;;
	redis)
		command -v redis-server >/dev/null || die "redis-server isn't installed"
		measure "redis-server" redis_run
		;;
	*) die "there is no program '$program'; choose sqlite or redis" ;;
	esac
done
