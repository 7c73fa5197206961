#!/bin/bash
# SPDX-License-Identifier: MIT
#
# sqlite3, unmodified: a deterministic SQL workload gives the same answers while
# all of the heap is moved without pause and old frames are poisoned.

. "$(dirname "$0")/lib.sh"

need sqlite3
tenant_begin 384M 128M

# One pass: some 20 MiB of heap, all of it thrown away at its end.
cat >"$tenant_tmp/pass.sql" <<'SQL'
CREATE TABLE t(id INTEGER PRIMARY KEY, k INT, v TEXT);
CREATE TABLE u(k INT PRIMARY KEY, n INT, w TEXT) WITHOUT ROWID;
BEGIN;
WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM s WHERE n<40000)
INSERT INTO t SELECT n, (n*2654435761)%5003, printf('%08x-%s', (n*2654435761)%4294967296, substr('berthed at noon, lines fast, crew ashore', 1+n%11)) FROM s;
INSERT INTO u SELECT k, count(*), max(v) FROM t GROUP BY k;
COMMIT;
CREATE INDEX t_k ON t(k, v);
SELECT count(*), sum(k), sum(length(v)), min(v), max(v) FROM t;
SELECT u.k, u.n, t.id, t.v FROM u JOIN t ON t.k=u.k AND t.v=u.w ORDER BY u.n DESC, u.k LIMIT 20;
BEGIN;
UPDATE t SET v=v||'+'||(id%97), k=(k*31+id)%5003 WHERE id%3=1;
DELETE FROM t WHERE id%7=2;
SAVEPOINT one;
UPDATE t SET v='lost';
ROLLBACK TO one;
INSERT INTO u SELECT k, count(*), min(v) FROM t GROUP BY k HAVING 1 ON CONFLICT(k) DO UPDATE SET n=n+excluded.n, w=excluded.w;
COMMIT;
SELECT count(*), sum(k*id), sum(length(v)) FROM t;
SELECT count(*), sum(n), min(w), max(w) FROM u;
SELECT k%10, count(*), count(DISTINCT v), length(group_concat(v)) FROM t GROUP BY 1 ORDER BY 1;
SELECT id, k, place FROM (SELECT id, k, row_number() OVER (PARTITION BY k ORDER BY v DESC, id) AS place FROM t) WHERE place=9 ORDER BY id LIMIT 10;
CREATE TEMP TABLE big AS SELECT zeroblob(1000+id%5000) AS b, id FROM t WHERE id%20=0;
UPDATE big SET b=CAST(hex(b)||id AS BLOB);
SELECT count(*), sum(length(b)) FROM big;
DROP TABLE big;
PRAGMA integrity_check;
DROP TABLE t; DROP TABLE u;
VACUUM;
SQL

# A database in a file: its pages come into the heap by system calls.
head_sql="PRAGMA page_size=4096; PRAGMA cache_size=-4096; PRAGMA temp_store=MEMORY;
PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY;"
{ printf '%s\n' "$head_sql" && cat "$tenant_tmp/pass.sql"; } >"$tenant_tmp/1.sql"

export HOME=$tenant_tmp # no ~/.sqliterc
db=$tenant_tmp/test.db
started=$(now_ms)
run_bare "$tenant_tmp/1.out" "$tenant_tmp/1.err" sqlite3 -bail "$db" ".read $tenant_tmp/1.sql"
pass_ms=$(($(now_ms) - started + 1))
passes=$((TENANT_SECONDS * 1000 / pass_ms + 1))

# `passes` passes in one process must say what one pass said, each time.
printf '%s\n' "$head_sql" >"$tenant_tmp/many.sql"
head -n 1 "$tenant_tmp/1.out" >"$tenant_tmp/many.out"
for ((i = 0; i < passes; i++)); do
	cat "$tenant_tmp/pass.sql" >>"$tenant_tmp/many.sql"
	tail -n +2 "$tenant_tmp/1.out" >>"$tenant_tmp/many.out"
done

for ((round = 1; round <= TENANT_ROUNDS; round++)); do
	rm -f "$db"
	run_berth "$tenant_tmp/berth.out" "$tenant_tmp/berth.err" "$tenant_tmp/report" \
		sqlite3 -bail "$db" ".read $tenant_tmp/many.sql"
	same "$tenant_tmp/many.out" "$tenant_tmp/berth.out" "the answers"
	say "round $round of $TENANT_ROUNDS: $passes passes equal; $report_line"
done
tenant_end "$TENANT_ROUNDS rounds of at least $TENANT_SECONDS s"
