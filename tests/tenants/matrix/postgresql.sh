# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='postgresql 15: 4 psql sessions and pgbench; a process for each session'
needs=psql packages='postgresql' user=other area=32 heap=small

pg_bin=$(find /usr/lib/postgresql/*/bin -maxdepth 0 2>/dev/null | sort -V | tail -n 1)

prepare() {
	"$pg_bin/initdb" -D data -A trust -U me --no-locale -E UTF8 --no-sync
	cat >>data/postgresql.conf <<'CONF'
listen_addresses = ''
fsync = off
shared_buffers = 32MB
work_mem = 64MB
max_parallel_workers_per_gather = 2
min_parallel_table_scan_size = 100kB
log_min_messages = fatal
CONF
	cat >session.sql <<'SQL'
create temp table t as select n as id, (n::bigint * 2654435761 + :session) % 5003 as k, md5((n + :session)::text) as v from generate_series(1, :rows) n;
create index on t(k, v);
analyze t;
select count(*), sum(k), min(v), max(v) from t;
select a.k, count(*), min(b.v) from t a join t b using (k) where a.id % 7 = 1 group by 1 order by 2 desc, 1 limit 10;
update t set v = v || '+', k = (k * 31 + id) % 5003 where id % 3 = 1;
select id, k, r from (select id, k, row_number() over (partition by k order by v desc, id) r from t) x where r = 9 order by id limit 10;
select md5(string_agg(v, ',' order by v, id)), length(json_agg(t order by id)::text) from t;
select count(distinct v), sum(length(repeat(v, 20))) from t;
SQL
}

sql() { psql -X -q -At -h "$scratch" -U me -d "${base:-postgres}" "$@"; }

work() {
	local session
	cp -r "$load/data" "$scratch/data"
	chmod 700 "$scratch/data"
	serve "$pg_bin/postgres" -D "$scratch/data" -k "$scratch" 2>"$scratch/log"
	await_server 60 sql -c 'select 1'
	sql -c 'create database bench'
	base=bench
	pgbench -h "$scratch" -U me -i -q -s 2 bench >/dev/null 2>&1 || fail "pgbench can't initialise"
	for session in 1 2 3 4; do
		background sql -v rows="$(scaled 60000)" -v session=$session -f "$load/session.sql" -o "answers.$session"
	done
	background pgbench -h "$scratch" -U me -n -c 4 -j 2 -t "$(scaled 1000)" --random-seed=1 bench >/dev/null 2>&1
	all_done
	sql -c 'select count(*), sum(delta) from pgbench_history' \
		-c 'select md5(string_agg(bid || $$:$$ || bbalance, $$,$$ order by bid)) from pgbench_branches' \
		-c 'select md5(string_agg(aid || $$:$$ || abalance, $$,$$ order by aid)) from pgbench_accounts'
	stop_server INT
}
