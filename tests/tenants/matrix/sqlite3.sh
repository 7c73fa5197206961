# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='sqlite3: 200,000 rows, indexes, joins, updates, a check'
needs=sqlite3 packages=sqlite3 short=yes

prepare() {
	cat >load.sql <<SQL
PRAGMA page_size=4096; PRAGMA cache_size=-65536; PRAGMA temp_store=MEMORY; PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY;
CREATE TABLE t(id INTEGER PRIMARY KEY, k INT, v TEXT);
CREATE TABLE u(k INT PRIMARY KEY, n INT, w TEXT) WITHOUT ROWID;
BEGIN;
WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM s WHERE n<200000)
INSERT INTO t SELECT n, (n*2654435761)%5003, printf('%08x-%s', (n*2654435761)%4294967296, substr('berthed at noon, lines fast, crew ashore', 1+n%11)) FROM s;
INSERT INTO u SELECT k, count(*), max(v) FROM t GROUP BY k;
COMMIT;
CREATE INDEX t_k ON t(k, v);
SELECT count(*), sum(k), sum(length(v)), min(v), max(v) FROM t;
SELECT u.k, u.n, t.id, t.v FROM u JOIN t ON t.k=u.k AND t.v=u.w ORDER BY u.n DESC, u.k LIMIT 20;
UPDATE t SET v=v||'+'||(id%97), k=(k*31+id)%5003 WHERE id%3=1;
DELETE FROM t WHERE id%7=2;
SELECT k%10, count(*), count(DISTINCT v), length(group_concat(v)) FROM t GROUP BY 1 ORDER BY 1;
SELECT id, k, place FROM (SELECT id, k, row_number() OVER (PARTITION BY k ORDER BY v DESC, id) AS place FROM t) WHERE place=9 ORDER BY id LIMIT 10;
PRAGMA integrity_check;
VACUUM;
SQL
}

work() { tenant sqlite3 -bail shop.db <"$load/load.sql"; }
