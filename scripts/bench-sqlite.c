/* SPDX-License-Identifier: MIT */
/*
 * One way of scripts/bench-sqlite.py: makes a database, asks it for rows by number (Zipf's law with exponent 1, the
 * popular rows spread over all pages), or scans it. What is answered is looked at.
 *
 *	bench-sqlite make FILE ROWS
 *	bench-sqlite query FILE ROWS CACHE_KIB WARM_UP QUERIES SEED   prints nanoseconds a query
 *	bench-sqlite scan FILE ROWS CACHE_KIB                         prints milliseconds of the second scan
 */
#include <math.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BODY_BYTES 210

static sqlite3 *db;

static void must(int good)
{
	if (good)
		return;
	fprintf(stderr, "bench-sqlite: %s\n", db ? sqlite3_errmsg(db) : "usage");
	exit(1);
}

static void run(const char *sql)
{
	must(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
}

static sqlite3_stmt *prepared(const char *sql)
{
	sqlite3_stmt *statement;

	must(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
	return statement;
}

static void open_db(const char *path, long cache_kib)
{
	char sql[64];

	must(sqlite3_open(path, &db) == SQLITE_OK);
	snprintf(sql, sizeof(sql), "PRAGMA cache_size=-%ld", cache_kib);
	if (cache_kib)
		run(sql);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void make(long rows)
{
	sqlite3_stmt *insert;
	char body[BODY_BYTES];

	run("PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN;"
	    "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
	insert = prepared("INSERT INTO t VALUES(?1, ?2)");
	for (long id = 0; id < rows; id++) {
		memset(body, (int)(id & 127), sizeof(body));
		memcpy(body, &id, sizeof(id));
		sqlite3_bind_int64(insert, 1, id);
		sqlite3_bind_blob(insert, 2, body, sizeof(body), SQLITE_STATIC);
		must(sqlite3_step(insert) == SQLITE_DONE);
		sqlite3_reset(insert);
	}
	sqlite3_finalize(insert);
	run("COMMIT");
}

static uint64_t state;

static double uniform(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (double)(state >> 11) / 9007199254740992.0;
}

/* The inverse of the distribution's integral; rank 0 is the most popular. */
static uint64_t zipf(uint64_t rows)
{
	const uint64_t rank = (uint64_t)exp(uniform() * log((double)rows + 1)) - 1;

	return rank < rows ? rank : rows - 1;
}

static void ask(sqlite3_stmt *select, uint64_t rows, uint64_t prime)
{
	const uint64_t id = zipf(rows) * prime % rows;
	sqlite3_int64 found;

	sqlite3_bind_int64(select, 1, (sqlite3_int64)id);
	must(sqlite3_step(select) == SQLITE_ROW && sqlite3_column_bytes(select, 0) == BODY_BYTES);
	memcpy(&found, sqlite3_column_blob(select, 0), sizeof(found));
	must((uint64_t)found == id);
	sqlite3_reset(select);
}

static void query(uint64_t rows, long warm_up, long queries)
{
	sqlite3_stmt *select = prepared("SELECT body FROM t WHERE id=?1");
	double start;

	/* One transaction: what is measured isn't the locking of files. */
	run("BEGIN");
	for (long i = 0; i < warm_up; i++)
		ask(select, rows, 2654435761u);
	start = now();
	for (long i = 0; i < queries; i++)
		ask(select, rows, 2654435761u);
	printf("%.1f\n", (now() - start) * 1e9 / (double)queries);
	sqlite3_finalize(select);
	run("COMMIT");
}

static void scan(long rows)
{
	sqlite3_stmt *select = prepared("SELECT count(*), sum(length(body)) FROM t NOT INDEXED "
					"WHERE substr(body, 9, 1) IS NOT NULL");
	double start = 0;

	for (int i = 0; i < 2; i++) {
		start = now();
		must(sqlite3_step(select) == SQLITE_ROW);
		must(sqlite3_column_int64(select, 0) == rows);
		sqlite3_reset(select);
	}
	printf("%.1f\n", (now() - start) * 1e3);
	sqlite3_finalize(select);
}

int main(int argc, char **argv)
{
	long rows;

	must(argc >= 4);
	rows = atol(argv[3]);
	open_db(argv[2], argc >= 5 ? atol(argv[4]) : 0);
	if (strcmp(argv[1], "make") == 0) {
		make(rows);
	} else if (strcmp(argv[1], "scan") == 0 && argc == 5) {
		scan(rows);
	} else {
		must(strcmp(argv[1], "query") == 0 && argc == 8);
		state = (uint64_t)atol(argv[7]) * 0x9e3779b97f4a7c15u;
		query((uint64_t)rows, atol(argv[5]), atol(argv[6]));
	}
	sqlite3_close(db);
	return 0;
}
