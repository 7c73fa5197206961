#!/bin/bash
# SPDX-License-Identifier: MIT
#
# SQLite with its pages in memory that is claimed all the time (berth run --sqlite-cache): the command and
# Python give the answers of a bare run, in all kinds of journals and page sizes, also when another process writes to
# the database; what is killed leaves a whole database; and what keeps stale pages away is missed.

. "$(dirname "$0")/lib.sh"

need sqlite3
tenant_begin 64M 16M
[ -e "$(dirname "$BERTH")/libberth-sqlite.so" ] || skip "there is no libberth-sqlite.so: no SQLite headers when it was built"

export HOME=$tenant_tmp # no ~/.sqliterc
export BERTH_SQLITE_VERIFY=1
db=$tenant_tmp/test.db
cached=("$BERTH" run --sqlite-cache=16M --sqlite-front 256K --claim 4M@0+3msx* --claim 8M@0+7msx*
	--json --report "$tenant_tmp/report" --)

fresh() { rm -f "$db" "$db"-* "$db".*; }

# figure NAME: of SQLite's pages, from the last report
figure() {
	"$PYTHON" -c 'import json, sys; r = json.load(open(sys.argv[1])); print(r["sqlite"][sys.argv[2]] if sys.argv[2] in r["sqlite"] else r[sys.argv[2]])' \
		"$tenant_tmp/report" "$1"
}

workload() {
	cat <<SQL
$1
CREATE TABLE t(id INTEGER PRIMARY KEY, k INT, v TEXT);
BEGIN;
WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM s WHERE n<60000)
INSERT INTO t SELECT n, (n*2654435761)%5003, printf('%08x-%s', (n*2654435761)%4294967296, 'berthed at noon, lines fast') FROM s;
COMMIT;
CREATE INDEX t_k ON t(k);
SELECT sum(length(b.v)), max(b.v) FROM t a JOIN t b ON b.id=1+(a.id*7919)%60000 WHERE a.id%3=0;
BEGIN;
UPDATE t SET v=v||'lost', k=k+1;
SELECT sum(k), max(v) FROM t;
SELECT sum(k), max(v) FROM t;
SAVEPOINT one;
DELETE FROM t WHERE id%2;
SELECT count(*), sum(k) FROM t;
ROLLBACK TO one;
SELECT count(*), sum(k), max(v) FROM t;
ROLLBACK;
SELECT count(*), sum(k), max(v) FROM t;
SELECT sum(length(b.v)), max(b.v) FROM t a JOIN t b ON b.k=a.k AND b.id%97=3 WHERE a.id%5=0;
UPDATE t SET v=v||'+'||(id%97) WHERE id%3=1;
DELETE FROM t WHERE id%7=2;
VACUUM;
SELECT count(*), sum(k*id), sum(length(v)) FROM t;
SELECT sum(length(b.v)), max(b.v) FROM t a JOIN t b ON b.id=1+(a.id*7919)%60000 WHERE a.id%3=0;
PRAGMA integrity_check;
SQL
}

# same_answers PRAGMAS: bare and cached, the answers and the database's contents
same_answers() {
	workload "PRAGMA synchronous=OFF; PRAGMA cache_size=60; $1" >"$tenant_tmp/work.sql"
	fresh
	run_bare "$tenant_tmp/bare.out" "$tenant_tmp/bare.err" sqlite3 -bail "$db" ".read $tenant_tmp/work.sql"
	sqlite3 "$db" .dump >"$tenant_tmp/bare.dump"
	fresh
	timeout -k 5 120 "${cached[@]}" sqlite3 -bail "$db" ".read $tenant_tmp/work.sql" \
		>"$tenant_tmp/cached.out" 2>"$tenant_tmp/cached.err" </dev/null || {
		cat "$tenant_tmp/cached.err" >&2
		fail "sqlite3 with the cache ended with status $? ($1)"
	}
	same "$tenant_tmp/bare.out" "$tenant_tmp/cached.out" "what sqlite3 said ($1)"
	sqlite3 "$db" .dump >"$tenant_tmp/cached.dump"
	same "$tenant_tmp/bare.dump" "$tenant_tmp/cached.dump" "the database ($1)"
	[ "$(figure store_hits)" -gt 1000 ] || fail "the store was hardly used ($1)"
	[ "$(figure claims_ok)" -gt 3 ] || fail "hardly anything was claimed ($1)"
}

same_answers "PRAGMA journal_mode=DELETE;"
same_answers "PRAGMA journal_mode=WAL;"
same_answers "PRAGMA page_size=1024; PRAGMA journal_mode=TRUNCATE;"
same_answers "PRAGMA page_size=16384; PRAGMA cache_size=20; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=50;"
say "sqlite3: equal in four modes"

# Python loads SQLite later. A process that isn't under Berth changes the database while this one reads it, and
# each snapshot has to add up.
cat >"$tenant_tmp/writer.py" <<'PY'
import os, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
db.execute("PRAGMA synchronous=OFF")
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1] + ".pid")
end, n = time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < end:
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE a SET n=n+? WHERE id%50=?", (n % 7, n % 50))
    db.execute("UPDATE a SET n=n-? WHERE id%50=?", (n % 7, (n + 1) % 50))
    db.execute("ROLLBACK" if n % 5 == 4 else "COMMIT")
    n += 1
    time.sleep(0.001)
PY
cat >"$tenant_tmp/reader.py" <<'PY'
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
db.execute("PRAGMA cache_size=60")
end, rounds, seen = time.monotonic() + float(sys.argv[2]), 0, set()
while time.monotonic() < end or rounds < 20:
    db.execute("BEGIN")
    total = db.execute("SELECT sum(n) FROM a").fetchone()[0]
    again = db.execute("SELECT sum(n) FROM a WHERE id>0").fetchone()[0]
    some = db.execute("SELECT n FROM a WHERE id=50").fetchone()[0]
    db.execute("COMMIT")
    if total != 0 or again != 0:
        sys.exit(f"a snapshot doesn't add up: {total}, {again}")
    seen.add(some)
    rounds += 1
if db.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
    sys.exit("the database is damaged")
print("ok", len(seen) > 1)
PY
for mode in DELETE WAL; do
	fresh
	sqlite3 "$db" "PRAGMA journal_mode=$mode; CREATE TABLE a(id INTEGER PRIMARY KEY, n INT, x TEXT);
		WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s WHERE i<20000) INSERT INTO a SELECT i, 0, hex(randomblob(40)) FROM s" >/dev/null
	"$PYTHON" "$tenant_tmp/writer.py" "$db" 3 &
	own_pid $!
	writer=$!
	timeout -k 5 120 "${cached[@]}" "$PYTHON" "$tenant_tmp/reader.py" "$db" 3 >"$tenant_tmp/reader.out" 2>&1 ||
		fail "a reader beside a writer ($mode): $(tail -n 3 "$tenant_tmp/reader.out")"
	wait "$writer" || fail "the writer failed"
	disown_pid "$writer"
	grep -q "^ok True" "$tenant_tmp/reader.out" || fail "nothing changed while it was read ($mode)"
	[ "$(figure store_hits)" -gt 500 ] || fail "the store was hardly used by Python ($mode)"
done
say "python3 beside another process that writes: snapshots add up"

# A child that python forks has its own store, or none; both go on.
fresh
sqlite3 "$db" "CREATE TABLE a(id INTEGER PRIMARY KEY, x TEXT);
	WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s WHERE i<30000) INSERT INTO a SELECT i, hex(i*i)||hex(randomblob(40)) FROM s"
cat >"$tenant_tmp/fork.py" <<'PY'
import os, sqlite3, sys, time
def sums():
    db = sqlite3.connect(sys.argv[1])
    db.execute("PRAGMA cache_size=60")
    end, answers = time.monotonic() + 0.5, set()
    while time.monotonic() < end:
        answers.add(db.execute("SELECT count(*), sum(length(x)), max(x) FROM a").fetchone())
    return answers
first = sums()
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if sums() == first else 1)
    children.append(pid)
good = sums() == first and len(first) == 1
for pid in children:
    good &= os.waitpid(pid, 0)[1] == 0
print(good)
PY
timeout -k 5 120 "${cached[@]}" "$PYTHON" "$tenant_tmp/fork.py" "$db" >"$tenant_tmp/fork.out" 2>&1 ||
	fail "forked readers: $(tail -n 3 "$tenant_tmp/fork.out")"
grep -q '^True' "$tenant_tmp/fork.out" || fail "forked readers got different answers"
say "forked readers: equal"

# Killed while it writes and claims go on: the cache is lost, the database isn't.
for mode in DELETE WAL; do
	fresh
	sqlite3 "$db" "PRAGMA journal_mode=$mode; CREATE TABLE a(id INTEGER PRIMARY KEY, n INT, x TEXT);
		WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s WHERE i<5000) INSERT INTO a SELECT i, 0, hex(randomblob(40)) FROM s" >/dev/null
	for round in 1 2 3 4; do
		rm -f "$db.pid"
		"${cached[@]}" "$PYTHON" "$tenant_tmp/writer.py" "$db" 60 >/dev/null 2>&1 &
		runner=$!
		own_pid $runner
		poll 20 test -s "$db.pid" || fail "the writer didn't start"
		program=$(cat "$db.pid")
		sleep 0.$((round * 2))
		kill -KILL "$program"
		wait $runner 2>/dev/null
		disown_pid $runner
		[ "$(sqlite3 "$db" 'PRAGMA integrity_check; SELECT sum(n) FROM a')" = $'ok\n0' ] ||
			fail "a writer that was killed left a damaged database ($mode)"
	done
done
say "killed eight times: whole databases"

# Without what keeps stale pages away something must go wrong.
untreated() {
	local treatment=$1
	shift
	BERTH_UNTREATED=$treatment timeout -k 5 120 "$BERTH" run --sqlite-cache=16M --sqlite-front 256K --quiet -- "$@" \
		>"$tenant_tmp/untreated.out" 2>&1 </dev/null
}
undone() {
	fresh
	untreated sqlite-lookup sqlite3 -bail "$db" ".read $tenant_tmp/work.sql"
}
# Another process writes once, between two looks.
cat >"$tenant_tmp/changed.py" <<'PY'
import sqlite3, subprocess, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA cache_size=60")
look = "SELECT sum(length(x)) FROM a"
before = [db.execute(look).fetchone()[0] for _ in range(4)]
subprocess.run(["sqlite3", sys.argv[1], "UPDATE a SET x=substr(x, 1, 20)||'changed'||substr(x, 28)"], check=True, env={})
db.execute(look).fetchone()
if db.execute("SELECT count(*) FROM a WHERE x NOT LIKE '%changed%'").fetchone()[0]:
    sys.exit("stale")
PY
changed() {
	fresh
	sqlite3 "$db" "CREATE TABLE a(id INTEGER PRIMARY KEY, x TEXT);
		WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s WHERE i<20000) INSERT INTO a SELECT i, hex(randomblob(40)) FROM s"
	untreated "$1" "$PYTHON" "$tenant_tmp/changed.py" "$db"
}
workload "PRAGMA synchronous=OFF; PRAGMA cache_size=60;" >"$tenant_tmp/work.sql"
changed "" || fail "another process's change: $(tail -n 3 "$tenant_tmp/untreated.out")"
undone 2>/dev/null && undone 2>/dev/null && undone 2>/dev/null &&
	fail "without \"sqlite-lookup\" nothing went wrong, so the test proves nothing"
changed sqlite-cut 2>/dev/null && fail "without \"sqlite-cut\" nothing went wrong, so the test proves nothing"
say "left out, sqlite-lookup and sqlite-cut are missed"

# The ways that come too late say so.
said=$(sqlite3 :memory: ".load $(dirname "$BERTH")/libberth-sqlite.so" 2>&1) && fail "an extension was accepted"
[[ $said == *"before SQLite is initialised"* ]] || fail ".load says: $said"
said=$(LD_PRELOAD=$(dirname "$BERTH")/libberth-sqlite.so sqlite3 :memory: "SELECT 17" 2>&1)
[[ $said == *"has no store"*17 ]] || fail "preloaded alone it says: $said"
tenant_unmoved= # nothing here needs moves
tenant_end "answers, snapshots, forks, kills"
