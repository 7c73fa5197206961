/* SPDX-License-Identifier: MIT */
/*
 * SQLite with its pages in a store, under claims: the answers of a random workload are those of a bare SQLite. Each
 * run is in a process of its own, since SQLite takes a page cache once.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <berth/sqlite.h>

#include "port/linux/port_linux.h"
#include "sqlite/internal.h"
#include "testpool.h"
#include "teststore.h"

#define STORE_PAGES 2048u
#define FRONT_BYTES ((size_t)32 << 12)

/* ---- The store, and a device that takes from it ----------------------------------------------------- */

/*
 * Its claims are paced by SQLite's own steps, not by time: how many pages SQLite finds again between two claims doesn't
 * depend on how fast either of them runs.
 */
struct device {
	struct test_store *ts;
	pthread_t thread;
	sem_t due, done; /* a claim may begin; the last one is over */
	bool idle;       /* it takes nothing */
	bool stop;       /* ordered by `due` */
	uint64_t random;
	unsigned until_next; /* ticks; of the thread that SQLite runs in */
	_Atomic uint64_t claims;
};

#define TICK_STEPS 500 /* of SQLite's virtual machine */
#define MOST_TICKS 40  /* from one claim to the next */

/* Claims and overwrites an eighth to the whole of the area each time that one is due. */
static void *device_main(void *arg)
{
	struct device *device = arg;
	uint64_t random = 1;

	for (;;) {
		const uint64_t nr = STORE_PAGES >> (random % 4);
		berth_pfn_t pfn;

		while (sem_wait(&device->due) != 0)
			;
		if (device->stop)
			return NULL;
		random = random * 6364136223846793005u + 1442695040888963407u;
		if (test_store_claim(device->ts, 0, nr, &pfn) == 0) {
			atomic_fetch_add(&device->claims, 1);
			test_store_release(device->ts, 0, pfn, nr);
		}
		sem_post(&device->done);
	}
}

/* SQLite's progress handler. The claim runs beside what SQLite does next, at most up to the next one. */
static int device_tick(void *arg)
{
	struct device *device = arg;

	if (device->idle || device->until_next-- > 0)
		return 0;
	device->random = device->random * 6364136223846793005u + 1442695040888963407u;
	device->until_next = (unsigned)((device->random >> 33) % MOST_TICKS);
	while (sem_wait(&device->done) != 0)
		;
	sem_post(&device->due);
	return 0;
}

static void device_start(struct device *device)
{
	const struct test_store_params params = { .nr_pages = STORE_PAGES,
						  .granule_order = 4,
						  .nr_shards = 4,
						  .nr_cpus = 64,
						  .ops = berth_port_linux_ops() };

	device->ts = test_store_open(&params);
	if (device->idle)
		return;
	assert_int_equal(sem_init(&device->due, 0, 0), 0);
	assert_int_equal(sem_init(&device->done, 0, 1), 0);
	assert_int_equal(pthread_create(&device->thread, NULL, device_main, device), 0);
}

static void device_stop(struct device *device)
{
	if (device->idle)
		return;
	while (sem_wait(&device->done) != 0)
		;
	device->idle = device->stop = true;
	sem_post(&device->due);
	pthread_join(device->thread, NULL);
}

/* ---- A random workload ----------------------------------------------------------------------------------- */

struct scenario {
	const char *pragmas; /* of each connection */
	unsigned steps;
	uint64_t seed;
	bool threads;  /* the second connection is another thread's */
	bool few_hits; /* there can only be */
	bool no_claims;
	const char *uri; /* added to the file's name */
};

struct work {
	const struct scenario *scenario;
	struct device *device; /* NULL: there is none */
	char path[256];
	sqlite3 *db[2];
	uint64_t random, digest;
};

static unsigned below(struct work *work, unsigned limit)
{
	work->random = work->random * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)((work->random >> 33) % limit);
}

static void mix(struct work *work, const char *text)
{
	for (; text && *text; text++)
		work->digest = (work->digest ^ (unsigned char)*text) * 0x100000001b3u;
}

static int each_row(void *arg, int nr, char **values, char **names)
{
	(void)names;
	for (int i = 0; i < nr; i++)
		mix(arg, values[i] ? values[i] : "null");
	return 0;
}

/* Errors are answers as well. */
static void sql(struct work *work, unsigned db, const char *format, ...)
{
	va_list args;
	char *text, code[16];

	va_start(args, format);
	text = sqlite3_vmprintf(format, args);
	va_end(args);
	snprintf(code, sizeof(code), "%d", sqlite3_exec(work->db[db], text, each_row, work, NULL));
	mix(work, code);
	sqlite3_free(text);
}

static void open_db(struct work *work, unsigned db)
{
	assert_int_equal(
		sqlite3_open_v2(work->path, &work->db[db],
				SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, NULL),
		SQLITE_OK);
	if (work->device)
		sqlite3_progress_handler(work->db[db], TICK_STEPS, device_tick, work->device);
	sql(work, db, "%s", work->scenario->pragmas);
}

static void change(struct work *work, unsigned db)
{
	const unsigned at = below(work, 6000), nr = below(work, 150) + 1;

	switch (below(work, 6)) {
	case 0:
	case 1:
		sql(work, db,
		    "WITH RECURSIVE s(n) AS (SELECT %u UNION ALL SELECT n+1 FROM s WHERE n<%u)"
		    " INSERT OR REPLACE INTO t SELECT n, (n*%u)%%997, printf('%%.*c', 20+n*7%%%u, 'a'||n)||n FROM s",
		    at, at + nr, below(work, 1000) + 1, below(work, 300) + 1);
		break;
	case 2:
		sql(work, db,
		    "UPDATE t SET k=(k*31+%u)%%997, v=v||'+%u' WHERE id BETWEEN %u AND %u", at,
		    below(work, 99), at, at + nr / 2);
		break;
	case 3:
		sql(work, db, "DELETE FROM t WHERE id BETWEEN %u AND %u", at, at + 2 * nr);
		break;
	case 4:
		sql(work, db, "UPDATE t SET v=substr(v, 1, 30) WHERE k=%u", below(work, 997));
		break;
	default:
		sql(work, db,
		    "INSERT OR REPLACE INTO b VALUES(%u, zeroblob(%u)||randomblob(0)||'%u')",
		    below(work, 40), below(work, 30000), at);
	}
}

static void ask(struct work *work, unsigned db)
{
	const unsigned at = below(work, 6000);

	switch (below(work, 4)) {
	case 0:
		sql(work, db, "SELECT count(*), sum(k), sum(length(v)) FROM t WHERE id>%u", at);
		break;
	case 1:
		sql(work, db, "SELECT id, v FROM t WHERE k=%u ORDER BY id", below(work, 997));
		break;
	case 2:
		sql(work, db, "SELECT sum(length(b)), max(substr(b, -5)) FROM b");
		break;
	default:
		for (unsigned i = 0; i < 20; i++)
			sql(work, db, "SELECT k, v FROM t WHERE id=%u", below(work, 6000));
	}
}

/* A transaction with savepoints, of which parts are undone. */
static void transact(struct work *work, unsigned db)
{
	unsigned depth = 0;

	sql(work, db, "BEGIN%s", below(work, 2) ? " IMMEDIATE" : "");
	for (unsigned i = below(work, 6) + 1; i; i--) {
		switch (below(work, 5)) {
		case 0:
			sql(work, db, "SAVEPOINT s%u", depth++);
			break;
		case 1:
			if (depth)
				sql(work, db, "ROLLBACK TO s%u", below(work, depth));
			break;
		case 2:
			if (depth) {
				depth = below(work, depth);
				sql(work, db, "RELEASE s%u", depth);
			}
			break;
		default:
			change(work, db);
		}
		if (!below(work, 3))
			ask(work, db);
	}
	sql(work, db, below(work, 3) ? "COMMIT" : "ROLLBACK");
	if (!sqlite3_get_autocommit(work->db[db]))
		sql(work, db, "ROLLBACK");
}

static void step(struct work *work, unsigned db)
{
	const unsigned what = below(work, 60);

	if (what == 0)
		sql(work, db, "VACUUM");
	else if (what == 1)
		sql(work, db, "PRAGMA incremental_vacuum(%u)", below(work, 50));
	else if (what == 2)
		sql(work, db, "PRAGMA wal_checkpoint(TRUNCATE)");
	else if (what == 3)
		sql(work, db, "PRAGMA cache_size=%u", below(work, 60) + 10);
	else if (what == 4)
		sql(work, db, "PRAGMA shrink_memory");
	else if (what == 5)
		sql(work, db,
		    "CREATE TEMP TABLE IF NOT EXISTS x AS SELECT * FROM t; UPDATE x SET v=v||k;"
		    "SELECT sum(length(v)) FROM x; DROP TABLE x");
	else if (what < 30)
		transact(work, db);
	else if (what < 40)
		change(work, db);
	else
		ask(work, db);
}

struct other {
	struct work *work;
	unsigned db;
};

static void *step_main(void *arg)
{
	struct other *other = arg;

	step(other->work, other->db);
	return NULL;
}

/* One step in its own thread: connections go from thread to thread. */
static void step_elsewhere(struct work *work, unsigned db)
{
	struct other other = { work, db };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, step_main, &other), 0);
	pthread_join(thread, NULL);
}

/* A change of much that is written early, looked at, and undone. */
static void undo_much(struct work *work)
{
	sql(work, 0,
	    "BEGIN; UPDATE t SET k=k+1, v=v||'lost'; SELECT sum(k), max(v) FROM t;"
	    "SELECT sum(k), max(v) FROM t; SAVEPOINT s; UPDATE t SET k=k+1;"
	    "SELECT sum(k) FROM t; SELECT sum(k) FROM t; ROLLBACK TO s;"
	    "SELECT sum(k) FROM t; SELECT sum(k) FROM t; ROLLBACK;"
	    "SELECT sum(k), max(v) FROM t; SELECT sum(k), max(v) FROM t");
}

#define SCANNED_ROWS 3000u

/* From row `first` on, `nr` rows one after the other; the other connection changes some that come next, meanwhile. */
static void scan(struct work *work, unsigned first, unsigned nr, bool meanwhile)
{
	sqlite3_stmt *rows;

	if (sqlite3_prepare_v2(work->db[0], "SELECT v FROM s WHERE id>=?1 ORDER BY id", -1, &rows,
			       NULL) != SQLITE_OK)
		return;
	sqlite3_bind_int64(rows, 1, first);
	for (unsigned row = 0; row < nr && sqlite3_step(rows) == SQLITE_ROW; row++) {
		mix(work, (const char *)sqlite3_column_text(rows, 0));
		if (!meanwhile || row % 90 != 45)
			continue;
		sql(work, 1, "UPDATE s SET v='%u'||v WHERE id BETWEEN %u AND %u", row,
		    first + row + below(work, 40), first + row + 80);
		if (below(work, 3) == 0)
			sql(work, 1, "PRAGMA wal_checkpoint(PASSIVE)");
	}
	sqlite3_finalize(rows);
}

/* Pages that follow each other are read ahead. What is changed in between is found. */
static void scan_beside_changes(struct work *work)
{
	sql(work, 0,
	    "CREATE TABLE s(id INTEGER PRIMARY KEY, v TEXT);"
	    "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM s WHERE n<%u)"
	    " INSERT INTO s SELECT n, n||printf('%%.*c', 200, 's') FROM s;",
	    SCANNED_ROWS);
	for (unsigned first = 0; first < SCANNED_ROWS; first += 500) {
		scan(work, first, 320, false);
		sql(work, 1, "UPDATE s SET v='after'||v WHERE id BETWEEN %u AND %u", first + 300,
		    first + 400);
		scan(work, first + 320, 180, false);
		scan(work, first, 500, true);
	}
	scan(work, 0, SCANNED_ROWS, true);
	scan(work, 0, SCANNED_ROWS, false);
	sql(work, 0, "DROP TABLE s");
}

static uint64_t run_workload(const struct scenario *scenario, const char *folder,
			     struct device *device)
{
	static struct work work;

	work = (struct work){ .scenario = scenario, .device = device, .random = scenario->seed };
	snprintf(work.path, sizeof(work.path), "file:%s/test.db%s", folder,
		 scenario->uri ? scenario->uri : "");
	open_db(&work, 0);
	sql(&work, 0,
	    "CREATE TABLE t(id INTEGER PRIMARY KEY, k INT, v TEXT); CREATE INDEX t_k ON t(k);"
	    "CREATE TABLE b(id INTEGER PRIMARY KEY, b BLOB);"
	    "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM s WHERE n<5000)"
	    " INSERT INTO t SELECT n, (n*31)%%997, 'row '||n||substr(hex(n*n), 1, 40) FROM s;");
	undo_much(&work);
	open_db(&work, 1);
	scan_beside_changes(&work);
	for (unsigned i = 0; i < scenario->steps; i++) {
		const unsigned db = below(&work, 3) == 0;

		if (scenario->threads && below(&work, 2))
			step_elsewhere(&work, db);
		else
			step(&work, db);
	}
	sql(&work, 0, "PRAGMA integrity_check; SELECT count(*), sum(k), sum(length(v)) FROM t");
	sql(&work, 1, "PRAGMA integrity_check; SELECT count(*), sum(k), sum(length(v)) FROM t");
	sqlite3_close(work.db[0]);
	sqlite3_close(work.db[1]);
	return work.digest;
}

/* ---- Runs --------------------------------------------------------------------------------------------------- */

struct result {
	uint64_t digest, claims;
	struct berth_sqlite_stats stats;
};

static void remove_files(const char *folder)
{
	static const char *const names[] = { "test.db", "test.db-wal", "test.db-shm",
					     "test.db-journal" };
	char path[256];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
}

static void child(const struct scenario *scenario, const char *folder, bool bare,
		  unsigned leave_out, struct result *result)
{
	struct device device = { .idle = scenario->no_claims };

	if (!bare) {
		device_start(&device);
		assert_int_equal(berth_sqlite_cache_install(device.ts->store,
							    STORE_PAGES * BERTH_PAGE_SIZE,
							    FRONT_BYTES),
				 0);
		berth__sqlite_verify = true;
		berth__sqlite_leave_out = leave_out;
		if (leave_out) {
			child_no_core();
			freopen("/dev/null", "w", stderr);
		}
	}
	result->digest = run_workload(scenario, folder, bare ? NULL : &device);
	if (!bare) {
		device_stop(&device);
		store_ok(device.ts);
		berth_sqlite_cache_stats(&result->stats);
		result->claims = atomic_load(&device.claims);
	}
}

/* False: it died, or found something that can't be. */
static bool run(const struct scenario *scenario, bool bare, unsigned leave_out,
		struct result *result)
{
	char folder[] = "/tmp/berth-sqlite.XXXXXX";
	int line[2], status;
	bool whole;
	pid_t pid;

	assert_non_null(mkdtemp(folder));
	assert_int_equal(pipe(line), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(line[0]);
		child(scenario, folder, bare, leave_out, result);
		_exit(write(line[1], result, sizeof(*result)) != sizeof(*result));
	}
	close(line[1]);
	whole = read(line[0], result, sizeof(*result)) == sizeof(*result);
	close(line[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	remove_files(folder);
	rmdir(folder);
	return whole && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void run_equal(const struct scenario *scenario)
{
	struct result bare = { 0 }, cached = { 0 };

	assert_true(run(scenario, true, 0, &bare));
	if (!run(scenario, false, 0, &cached))
		fail_msg("seed %llu: the run with the cache failed",
			 (unsigned long long)scenario->seed);
	if (bare.digest != cached.digest)
		fail_msg("seed %llu: the answers differ", (unsigned long long)scenario->seed);
	print_message("# seed %llu: front %llu, store %llu, misses %llu, puts %llu, claims %llu\n",
		      (unsigned long long)scenario->seed,
		      (unsigned long long)cached.stats.front_hits,
		      (unsigned long long)cached.stats.store_hits,
		      (unsigned long long)cached.stats.misses,
		      (unsigned long long)cached.stats.puts, (unsigned long long)cached.claims);
	/* Or nothing was tested. */
	assert_true(cached.stats.store_hits > (scenario->few_hits ? 0 : 100));
	assert_true(cached.claims > 10);
	assert_int_equal(cached.stats.distrusted, 0);
}

/* ---- Cases ---------------------------------------------------------------------------------------------------- */

#define COMMON "PRAGMA synchronous=OFF; PRAGMA cache_size=40;"

static void test_rollback_journal(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 2; seed++)
		run_equal(&(struct scenario){ .pragmas = COMMON "PRAGMA journal_mode=DELETE;",
					      .steps = 400,
					      .seed = seed });
}

static void test_wal(void **state)
{
	(void)state;
	for (uint64_t seed = 11; seed <= 12; seed++)
		run_equal(&(struct scenario){ .pragmas = COMMON "PRAGMA journal_mode=WAL;",
					      .steps = 400,
					      .seed = seed });
}

static const struct scenario by_journal[] = {
	{ .pragmas = COMMON "PRAGMA journal_mode=MEMORY;", .steps = 200, .seed = 21 },
	{ .pragmas = COMMON "PRAGMA journal_mode=TRUNCATE; PRAGMA locking_mode=NORMAL;",
	  .steps = 200,
	  .seed = 22 },
	{ .pragmas = COMMON "PRAGMA journal_mode=PERSIST; PRAGMA cache_spill=10;",
	  .steps = 200,
	  .seed = 23 },
	{ .pragmas = "PRAGMA auto_vacuum=FULL;" COMMON, .steps = 200, .seed = 24 },
	{ .pragmas = "PRAGMA auto_vacuum=INCREMENTAL;" COMMON "PRAGMA journal_mode=WAL;",
	  .steps = 200,
	  .seed = 25 },
	{ .pragmas = COMMON "PRAGMA mmap_size=400000;", .steps = 200, .seed = 26, .few_hits = true },
	{ .pragmas = COMMON "PRAGMA journal_mode=WAL; PRAGMA mmap_size=1000000;",
	  .steps = 200,
	  .seed = 27 },
	{ .pragmas = COMMON "PRAGMA secure_delete=OFF;", .steps = 200, .seed = 28 },
	{ .pragmas = COMMON
	  "PRAGMA secure_delete=OFF; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=20;",
	  .steps = 200,
	  .seed = 29 },
};

static void test_modes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(by_journal) / sizeof(by_journal[0]); i++)
		run_equal(&by_journal[i]);
}

static void test_page_sizes(void **state)
{
	static const char *const pragmas[] = {
		"PRAGMA page_size=512;" COMMON,
		"PRAGMA page_size=1024;" COMMON "PRAGMA journal_mode=WAL;",
		"PRAGMA page_size=8192;" COMMON,
		"PRAGMA page_size=16384;" COMMON "PRAGMA journal_mode=WAL;",
		"PRAGMA page_size=65536; PRAGMA cache_size=10; PRAGMA synchronous=OFF;",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(pragmas) / sizeof(pragmas[0]); i++)
		run_equal(&(struct scenario){ .pragmas = pragmas[i],
					      .steps = 250,
					      .seed = 31 + i,
					      .few_hits = i == 4 });
}

static void test_threads(void **state)
{
	(void)state;
	run_equal(&(struct scenario){ .pragmas = COMMON "PRAGMA journal_mode=WAL;",
				      .steps = 300,
				      .seed = 41,
				      .threads = true });
	run_equal(&(struct scenario){ .pragmas = COMMON,
				      .steps = 300,
				      .seed = 42,
				      .threads = true,
				      .uri = "?cache=shared" });
}

/* What keeps stale pages away, left out: one of some seeds has to show it. */
static void must_show(const char *pragmas, unsigned leave_out)
{
	for (uint64_t seed = 51; seed < 59; seed++) {
		const struct scenario scenario = { .pragmas = pragmas,
						   .steps = 300,
						   .seed = seed,
						   .no_claims = true };
		struct result bare = { 0 }, cached = { 0 };

		assert_true(run(&scenario, true, 0, &bare));
		if (!run(&scenario, false, leave_out, &cached) || bare.digest != cached.digest)
			return;
	}
	fail_msg("nothing went wrong without %#x", leave_out);
}

static void test_staleness_shows(void **state)
{
	(void)state;
	must_show(COMMON "PRAGMA journal_mode=WAL;", LEAVE_OUT_LOOKUP);
	must_show(COMMON, LEAVE_OUT_LOOKUP);
	must_show(COMMON, LEAVE_OUT_WRITES);
	must_show(COMMON "PRAGMA journal_mode=WAL;", LEAVE_OUT_CUT);
	must_show(COMMON, LEAVE_OUT_AHEAD);
	must_show(COMMON "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=1;", LEAVE_OUT_AHEAD);
}

/* ---- What stands between SQLite and the file --------------------------------------------------------------------- */

static sqlite3_vfs inverting_vfs, *inner;
static sqlite3_io_methods inverting_methods;
static const sqlite3_io_methods *inner_methods;

static void invert(char *at, int bytes)
{
	for (int i = 0; i < bytes; i++)
		at[i] = (char)~at[i];
}

static int inverting_read(sqlite3_file *file, void *buffer, int bytes, sqlite3_int64 offset)
{
	int result = inner_methods->xRead(file, buffer, bytes, offset);

	if (result == SQLITE_OK)
		invert(buffer, bytes);
	return result;
}

static int inverting_write(sqlite3_file *file, const void *buffer, int bytes, sqlite3_int64 offset)
{
	char copy[65536];

	memcpy(copy, buffer, (size_t)bytes);
	invert(copy, bytes);
	return inner_methods->xWrite(file, copy, bytes, offset);
}

static int inverting_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
			  int *out)
{
	int result = inner->xOpen(inner, name, file, flags, out);

	(void)vfs;
	if (result == SQLITE_OK && (flags & SQLITE_OPEN_MAIN_DB)) {
		inner_methods = file->pMethods;
		inverting_methods = *inner_methods;
		inverting_methods.xRead = inverting_read;
		inverting_methods.xWrite = inverting_write;
		file->pMethods = &inverting_methods;
	}
	return result;
}

/* An "encryption" above our VFS: what SQLite has isn't what is read, so the store isn't used. */
static void transformed(void *unused)
{
	struct device device = { .idle = false };
	char folder[] = "/tmp/berth-sqlite.XXXXXX";
	const struct scenario scenario = { .pragmas = COMMON, .steps = 100, .seed = 61 };
	struct berth_sqlite_stats stats;

	(void)unused;
	child_check(mkdtemp(folder));
	device_start(&device);
	child_check(berth_sqlite_cache_install(device.ts->store, STORE_PAGES * BERTH_PAGE_SIZE,
					       FRONT_BYTES) == 0);
	inner = sqlite3_vfs_find(NULL);
	inverting_vfs = *inner;
	inverting_vfs.zName = "inverting";
	inverting_vfs.xOpen = inverting_open;
	child_check(sqlite3_vfs_register(&inverting_vfs, 1) == SQLITE_OK);
	(void)run_workload(&scenario, folder, &device);
	remove_files(folder);
	rmdir(folder);
	device_stop(&device);
	berth_sqlite_cache_stats(&stats);
	child_check(stats.distrusted >= 1);
	child_check(stats.store_hits == 0 ||
		    stats.caches >= 1); /* temporary databases aren't transformed */
}

static void test_transformed(void **state)
{
	(void)state;
	in_child(transformed, NULL);
}

/* After a fork the store is the parent's: a child's connections do without, and spoil nothing. */
static void forked(void *unused)
{
	struct device device = { .idle = false };
	char folder[] = "/tmp/berth-sqlite.XXXXXX";
	const struct scenario scenario = { .pragmas = COMMON, .steps = 100, .seed = 71 };
	struct berth_store_stats before, after;
	struct berth_sqlite_stats ours, stats;
	int status;
	pid_t pid;

	(void)unused;
	child_check(mkdtemp(folder));
	device_start(&device);
	child_check(berth_sqlite_cache_install(device.ts->store, STORE_PAGES * BERTH_PAGE_SIZE,
					       FRONT_BYTES) == 0);
	(void)run_workload(&scenario, folder, &device);
	device_stop(&device);
	before = test_store_stats(device.ts);
	berth_sqlite_cache_stats(&ours);
	child_check(before.puts > 0 && ours.store_hits > 0);
	remove_files(folder);
	pid = fork();
	if (pid == 0) {
		(void)run_workload(&scenario, folder, NULL);
		berth_sqlite_cache_stats(&stats);
		after = test_store_stats(device.ts);
		_exit(stats.store_hits != ours.store_hits || after.puts != before.puts ||
		      after.hits != before.hits);
	}
	child_check(waitpid(pid, &status, 0) == pid && status == 0);
	remove_files(folder);
	rmdir(folder);
}

static void test_fork(void **state)
{
	(void)state;
	in_child(forked, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rollback_journal),
		cmocka_unit_test(test_wal),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_page_sizes),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_staleness_shows),
		cmocka_unit_test(test_transformed),
		cmocka_unit_test(test_fork),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
