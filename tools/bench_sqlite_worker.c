/* SPDX-License-Identifier: MIT */
/*
 * One way of `berth bench sqlite`, in a process of its own: an ordinary program with a connection to a database. It
 * knows nothing of Berth; what its page cache is has been decided by who started it, and by CACHE_KIB (0: as it is).
 *
 * It takes orders from its standard input, one a line, and answers each by a line: the nanoseconds that it took.
 *
 *	make             fills the database
 *	query SEED NR    asks for so many rows by number (Zipf's law with exponent 1, popular rows spread over all pages)
 *	scan             looks at all rows
 *
 * I1  A row holds its number; each answer is looked at.
 */
#define _GNU_SOURCE
#include "tools/bench_sqlite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/measure.h"
#include "tools/options.h"
#include "tools/sqlite_library.h"
#include "tools/units.h"
#include "tools/zipf.h"

#ifndef BERTH__HAVE_SQLITE

int berth__sqlite_work(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return berth__complain(BERTH__EXIT_FAILED, BERTH__SQLITE_COMMAND, "%s", berth__no_sqlite);
}

#else

#define BODY_BYTES 210
#define SPREAD 2654435761u /* a prime: neighbours in popularity aren't neighbours in the table */
#define MOST_CACHE_KIB ((uint64_t)1 << 32)

struct worker {
	struct berth__sqlite_library sqlite;
	sqlite3 *db;
	sqlite3_stmt *select, *scan;
	uint64_t nr_rows;
	struct berth__zipf zipf;
};

static bool failed(const struct worker *worker, const char *what)
{
	berth__complain(0, BERTH__SQLITE_COMMAND, "SQLite: %s: %s", what,
			worker->db ? worker->sqlite.errmsg(worker->db) : "there is no connection");
	return false;
}

static bool execute(const struct worker *worker, const char *sql)
{
	return worker->sqlite.exec(worker->db, sql, NULL, NULL, NULL) == SQLITE_OK ?
		       true :
		       failed(worker, sql);
}

static bool prepare(const struct worker *worker, const char *sql, sqlite3_stmt **statement)
{
	return worker->sqlite.prepare_v2(worker->db, sql, -1, statement, NULL) == SQLITE_OK ?
		       true :
		       failed(worker, sql);
}

static bool open_database(struct worker *worker, const char *path, uint64_t cache_kib)
{
	char sql[64];

	if (worker->sqlite.open_v2(path, &worker->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
				   NULL) != SQLITE_OK)
		return failed(worker, "the database can't be opened");
	snprintf(sql, sizeof(sql), "PRAGMA cache_size = -%llu", (unsigned long long)cache_kib);
	return !cache_kib || execute(worker, sql);
}

/* ---- Orders ------------------------------------------------------------------------------------ */

static bool insert_rows(const struct worker *worker, sqlite3_stmt *insert)
{
	const struct berth__sqlite_library *sqlite = &worker->sqlite;
	char body[BODY_BYTES];
	bool good = true;

	for (uint64_t id = 0; id < worker->nr_rows && good; id++) {
		memset(body, (int)(id & 127), sizeof(body));
		memcpy(body, &id, sizeof(id));
		good = sqlite->bind_int64(insert, 1, (sqlite3_int64)id) == SQLITE_OK &&
		       sqlite->bind_blob(insert, 2, body, sizeof(body), SQLITE_STATIC) ==
			       SQLITE_OK &&
		       sqlite->step(insert) == SQLITE_DONE && sqlite->reset(insert) == SQLITE_OK;
	}
	return good ? true : failed(worker, "a row can't be written");
}

static bool make(const struct worker *worker)
{
	sqlite3_stmt *insert;
	bool good;

	if (!execute(worker, "PRAGMA page_size = 4096; PRAGMA journal_mode = OFF;"
			     "PRAGMA synchronous = OFF; BEGIN;"
			     "CREATE TABLE item (id INTEGER PRIMARY KEY, body BLOB)") ||
	    !prepare(worker, "INSERT INTO item VALUES (?, ?)", &insert))
		return false;
	good = insert_rows(worker, insert);
	worker->sqlite.finalize(insert);
	return good && execute(worker, "COMMIT");
}

/* All queries are one transaction: it isn't the locking of files that is measured. */
static bool begin(struct worker *worker)
{
	if (worker->select)
		return true;
	berth__zipf_init(&worker->zipf, worker->nr_rows, 1);
	return execute(worker, "BEGIN") &&
	       prepare(worker, "SELECT body FROM item WHERE id = ?", &worker->select);
}

static bool ask(const struct worker *worker, uint64_t id)
{
	const struct berth__sqlite_library *sqlite = &worker->sqlite;
	uint64_t found = ~id;

	if (sqlite->bind_int64(worker->select, 1, (sqlite3_int64)id) != SQLITE_OK ||
	    sqlite->step(worker->select) != SQLITE_ROW)
		return failed(worker, "a row can't be read");
	if (sqlite->column_bytes(worker->select, 0) == BODY_BYTES)
		memcpy(&found, sqlite->column_blob(worker->select, 0), sizeof(found));
	sqlite->reset(worker->select);
	if (found == id)
		return true;
	berth__complain(0, BERTH__SQLITE_COMMAND, "SQLite's answer is wrong for row %llu",
			(unsigned long long)id);
	return false;
}

static bool query(struct worker *worker, uint64_t seed, uint64_t nr, uint64_t *ns)
{
	uint64_t random = berth__mix(seed), began;
	uint32_t *ids = nr ? malloc(nr * sizeof(*ids)) : NULL;
	bool good = begin(worker) && (ids || !nr);

	/* Drawn before: that isn't measured either. */
	for (uint64_t i = 0; i < nr && good; i++)
		ids[i] = (uint32_t)(berth__zipf_next(&worker->zipf, &random) * SPREAD %
				    worker->nr_rows);
	began = berth__clock_ns(CLOCK_MONOTONIC);
	for (uint64_t i = 0; i < nr && good; i++)
		good = ask(worker, ids[i]);
	*ns = berth__clock_ns(CLOCK_MONOTONIC) - began;
	free(ids);
	return good;
}

static bool scan(struct worker *worker, uint64_t *ns)
{
	const struct berth__sqlite_library *sqlite = &worker->sqlite;
	uint64_t began;
	bool good;

	if (!worker->scan && !prepare(worker,
				      "SELECT count(*), sum(length(body)) FROM item NOT INDEXED "
				      "WHERE substr(body, 9, 1) IS NOT NULL",
				      &worker->scan))
		return false;
	began = berth__clock_ns(CLOCK_MONOTONIC);
	good = sqlite->step(worker->scan) == SQLITE_ROW &&
	       sqlite->column_int64(worker->scan, 0) == (sqlite3_int64)worker->nr_rows &&
	       sqlite->column_int64(worker->scan, 1) == (sqlite3_int64)worker->nr_rows * BODY_BYTES;
	*ns = berth__clock_ns(CLOCK_MONOTONIC) - began;
	sqlite->reset(worker->scan);
	return good ? true : failed(worker, "a scan doesn't find all rows");
}

/* ---- The process ------------------------------------------------------------------------------- */

static bool obey(struct worker *worker, const char *order)
{
	unsigned long long seed, nr;
	uint64_t ns = 0;
	bool good = false;

	if (strcmp(order, "make\n") == 0)
		good = make(worker);
	else if (strcmp(order, "scan\n") == 0)
		good = scan(worker, &ns);
	else if (sscanf(order, "query %llu %llu\n", &seed, &nr) == 2)
		good = query(worker, seed, nr, &ns);
	if (good) {
		printf("%llu\n", (unsigned long long)ns);
		fflush(stdout);
	}
	return good;
}

static void close_database(struct worker *worker)
{
	if (!worker->db)
		return;
	worker->sqlite.finalize(worker->select);
	worker->sqlite.finalize(worker->scan);
	worker->sqlite.close(worker->db);
}

int berth__sqlite_work(int argc, char **argv)
{
	struct worker worker = { .db = NULL };
	uint64_t cache_kib;
	char order[64], why[256];
	bool good;

	if (argc != 4 || !berth__parse_count(argv[2], 1, UINT32_MAX, &worker.nr_rows) ||
	    !berth__parse_count(argv[3], 0, MOST_CACHE_KIB, &cache_kib))
		return berth__complain(BERTH__EXIT_USAGE, BERTH__SQLITE_COMMAND,
				       BERTH__SQLITE_WORKER " is for the command itself");
	if (!berth__sqlite_load(&worker.sqlite, true, why, sizeof(why)))
		return berth__complain(BERTH__EXIT_FAILED, BERTH__SQLITE_COMMAND, "%s", why);
	good = open_database(&worker, argv[1], cache_kib);
	while (good && fgets(order, sizeof(order), stdin))
		good = obey(&worker, order);
	close_database(&worker);
	return good ? 0 : BERTH__EXIT_FAILED;
}

#endif
