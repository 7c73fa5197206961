/* SPDX-License-Identifier: MIT */
/*
 * The parts of `berth bench sqlite`.
 *
 *	bench_sqlite.c          the command; starts a process for each way and gives them turns
 *	bench_sqlite_worker.c   such a process: a connection to the database
 *	bench_sqlite_report.c   table, JSON, bars
 */
#ifndef BERTH_TOOLS_BENCH_SQLITE_H
#define BERTH_TOOLS_BENCH_SQLITE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define BERTH__SQLITE_COMMAND "berth bench sqlite"
#define BERTH__SQLITE_WORKER "--worker"

/* What SQLite's page cache is. */
enum berth__sqlite_way {
	BERTH__SQLITE_LENT,    /* in memory that is lent */
	BERTH__SQLITE_SAME,    /* its own, with as much memory */
	BERTH__SQLITE_DEFAULT, /* its own, as it is */
	BERTH__SQLITE_NR_WAYS
};

/* What is done, in phases: each begins with new processes. */
enum berth__sqlite_phase { BERTH__SQLITE_QUERY, BERTH__SQLITE_SCAN, BERTH__SQLITE_NR_PHASES };

#define BERTH__SQLITE_MOST_ROUNDS 1000u

struct berth__sqlite_config {
	uint64_t database, lent, front; /* bytes */
	uint64_t rows, warm_up, queries, seed;
	uint64_t rounds[BERTH__SQLITE_NR_PHASES];
	bool json;
};

struct berth__sqlite_result {
	/* Of a query or scan, by round: the same queries for all ways. */
	double ns[BERTH__SQLITE_NR_WAYS][BERTH__SQLITE_MOST_ROUNDS];
	uint64_t rounds;
	json_t *pages; /* what `berth run` says of SQLite's pages; NULL: nothing */
};

/* The life of a way's process: `berth bench sqlite --worker FILE ROWS CACHE_KIB`. An exit code. */
int berth__sqlite_work(int argc, char **argv);

void berth__sqlite_print(const struct berth__sqlite_config *config,
			 const struct berth__sqlite_result results[BERTH__SQLITE_NR_PHASES]);

#endif
