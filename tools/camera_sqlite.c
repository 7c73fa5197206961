/* SPDX-License-Identifier: MIT */
/*
 * The load's cache in `berth bench camera`, when it is SQLite's: one thread asks for rows by their number, the
 * popular ones more often (Zipf's law with exponent 1); one step in ten writes a row instead. SQLite's page
 * cache is what a way makes of it: its own, small and in ordinary memory; its own, large and in movable memory;
 * or libberth-sqlite's, in a discardable store.
 *
 * libsqlite3 is loaded, not linked, so that the command needs it for nothing else; and by each way's process
 * alone, since it takes a page cache only before it is used.
 *
 * I1  A row holds its number, the version that was written last and bytes that follow from both; each answer
 *     is looked at. So an answer from a page that is stale, foreign or torn is found.
 */
#define _GNU_SOURCE
#include "tools/camera.h"

#include <stdio.h>

#include "tools/sqlite_library.h"

#ifndef BERTH__HAVE_SQLITE

bool berth__camera_sqlite_works(const struct berth__camera_config *config,
				char why[BERTH__CAMERA_TEXT_BYTES])
{
	(void)config;
	snprintf(why, BERTH__CAMERA_TEXT_BYTES, "%s", berth__no_sqlite);
	return false;
}

const struct berth__camera_reader_ops berth__camera_sqlite; /* nobody opens what doesn't work */

#else

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <berth/sqlite.h>

#include "tools/program.h"
#include "tools/zipf.h"

#define ROW_WORDS 48u                          /* of its body */
#define ROW_FILE_BYTES 430u                    /* what a row takes of the file, about */
#define UPDATES 10u                            /* a step in so many */
#define ORDINARY_CACHE_BYTES ((size_t)2 << 20) /* SQLite's own choice, and the front tier */
#define MOST_SQL 256

struct library {
	struct berth__sqlite_library sqlite;
	void *berth;
	int (*install)(const struct berth_sqlite_params *params);
	void (*cache_stats)(struct berth_sqlite_stats *stats);
};

struct berth__camera_reader {
	struct library library;
	struct berth__camera_place place;
	struct berth__camera_gate *gate;
	struct berth__camera_figures *figures;
	struct berth__zipf zipf;
	uint64_t nr_rows, random;
	uint32_t *rows;     /* by popularity, so that popular ones aren't neighbours */
	uint32_t *versions; /* of rows */
	void *pages;        /* movable memory for SQLite's own cache, or NULL */
	sqlite3 *db;
	sqlite3_stmt *select, *update;
	struct berth_sqlite_stats counted; /* of libberth-sqlite, so far */
	pthread_t thread;
	bool has_thread;
	uint64_t body[ROW_WORDS];
};

/* ---- The libraries ----------------------------------------------------------------------------- */

static bool load(struct library *library, bool with_store, char why[BERTH__CAMERA_TEXT_BYTES])
{
	char preload[PATH_MAX], path[PATH_MAX];

	if (!berth__sqlite_load(&library->sqlite, false, why, BERTH__CAMERA_TEXT_BYTES))
		return false;
	if (!with_store)
		return true;
	if (!berth__preload_find(preload, sizeof(preload), why, BERTH__CAMERA_TEXT_BYTES) ||
	    !berth__sqlite_find(preload, path, why, BERTH__CAMERA_TEXT_BYTES))
		return false;
	library->berth = dlopen(path, RTLD_LOCAL | RTLD_NOW);
	if (library->berth) {
		*(void **)&library->install = dlsym(library->berth,
						    "berth_sqlite_cache_install_with");
		*(void **)&library->cache_stats = dlsym(library->berth, "berth_sqlite_cache_stats");
	}
	if (!library->install || !library->cache_stats)
		snprintf(why, BERTH__CAMERA_TEXT_BYTES, "%s", dlerror());
	return library->install && library->cache_stats;
}

bool berth__camera_sqlite_works(const struct berth__camera_config *config,
				char why[BERTH__CAMERA_TEXT_BYTES])
{
	const bool with_store = config->ways[BERTH__CAMERA_GCMA] ||
				config->ways[BERTH__CAMERA_MIXED];
	const struct berth_pool_params params = { .bytes = (size_t)4 << 20 };
	struct library library = { .berth = NULL };
	struct berth_pool *pool;
	const char *notice;

	if (!load(&library, with_store, why))
		return false;
	/* SQLite has the kernel write into its pages. */
	if (!config->ways[BERTH__CAMERA_CMA] || berth_pool_open(&params, &pool) != 0)
		return true;
	notice = berth_pool_notice(pool);
	if (notice)
		snprintf(why, BERTH__CAMERA_TEXT_BYTES, "%s", notice);
	return berth_pool_close(pool) == 0 && !notice;
}

/* ---- SQLite ------------------------------------------------------------------------------------ */

static bool failed(struct berth__camera_reader *database, const char *what)
{
	berth__camera_fail(database->gate, "SQLite: %s: %s", what,
			   database->db ? database->library.sqlite.errmsg(database->db) :
					  "there is no connection");
	return false;
}

static bool execute(struct berth__camera_reader *database, const char *sql)
{
	if (database->library.sqlite.exec(database->db, sql, NULL, NULL, NULL) == SQLITE_OK)
		return true;
	return failed(database, sql);
}

/* SQLite's own page cache, in movable memory. */
static int install_movable(struct berth__camera_reader *database)
{
	const struct berth__camera_place *place = &database->place;
	int header = 0, slot, error;

	if (database->library.sqlite.config(SQLITE_CONFIG_PCACHE_HDRSZ, &header) != SQLITE_OK)
		return -BERTH_EINVAL;
	error = berth_map(place->pool, place->cache_bytes, 0, &database->pages);
	if (error)
		return error;
	slot = (BERTH_PAGE_SIZE + header + 7) & ~7;
	return database->library.sqlite.config(SQLITE_CONFIG_PAGECACHE, database->pages, slot,
					       (int)(place->cache_bytes / (unsigned)slot)) ==
			       SQLITE_OK ?
		       0 :
		       -BERTH_EINVAL;
}

/* Before SQLite is used: which memory is its page cache? */
static bool choose_cache(struct berth__camera_reader *database, char why[BERTH__CAMERA_TEXT_BYTES])
{
	const struct berth__camera_place *place = &database->place;
	static const struct berth_sqlite_store_ops ops = { berth_store_put, berth_store_get,
							   berth_store_drop,
							   berth_store_drop_group };
	const struct berth_sqlite_params params = { .store = place->store,
						    .ops = &ops,
						    .store_bytes = place->cache_bytes,
						    .front_bytes = ORDINARY_CACHE_BYTES };
	int error = 0;

	if (place->store)
		error = database->library.install(&params);
	else if (place->cache_is_movable)
		error = install_movable(database);
	if (error)
		snprintf(why, BERTH__CAMERA_TEXT_BYTES,
			 "SQLite doesn't take the page cache: %s (%s)", berth_strerror(error),
			 berth_errname(error));
	return !error;
}

static bool prepare(struct berth__camera_reader *database, const char *sql,
		    sqlite3_stmt **statement)
{
	return database->library.sqlite.prepare_v2(database->db, sql, -1, statement, NULL) ==
			       SQLITE_OK ?
		       true :
		       failed(database, sql);
}

/* The file has no name any more once it is open. */
static bool open_database(struct berth__camera_reader *database, const char *path)
{
	const struct berth__camera_place *place = &database->place;
	char sql[MOST_SQL];
	bool good;

	good = database->library.sqlite.open_v2(path, &database->db,
						SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
						NULL) == SQLITE_OK;
	if (!good)
		return failed(database, "the database can't be opened");
	snprintf(sql, sizeof(sql), "PRAGMA cache_size = -%zu",
		 (place->cache_is_movable ? place->cache_bytes / 20 * 19 : ORDINARY_CACHE_BYTES) /
			 1024);
	return execute(database, "PRAGMA locking_mode = EXCLUSIVE") &&
	       execute(database, "PRAGMA journal_mode = MEMORY") &&
	       execute(database, "PRAGMA synchronous = OFF") && execute(database, sql) &&
	       execute(database, "CREATE TABLE item (id INTEGER PRIMARY KEY, version INTEGER, "
				 "body BLOB)");
}

static bool write_row(struct berth__camera_reader *database, sqlite3_stmt *statement, uint64_t row)
{
	const struct berth__sqlite_library *sqlite = &database->library.sqlite;
	const uint64_t version = database->versions[row];
	bool good;

	for (unsigned word = 0; word < ROW_WORDS; word++)
		database->body[word] = berth__camera_content(row, version, word);
	good = sqlite->bind_int64(statement, 1, (sqlite3_int64)version) == SQLITE_OK &&
	       sqlite->bind_blob(statement, 2, database->body, sizeof(database->body),
				 SQLITE_STATIC) == SQLITE_OK &&
	       sqlite->bind_int64(statement, 3, (sqlite3_int64)row) == SQLITE_OK &&
	       sqlite->step(statement) == SQLITE_DONE;
	return sqlite->reset(statement) == SQLITE_OK && good ?
		       true :
		       failed(database, "a row can't be written");
}

static bool fill(struct berth__camera_reader *database)
{
	sqlite3_stmt *insert;
	bool good = execute(database, "BEGIN") &&
		    prepare(database, "INSERT INTO item (version, body, id) VALUES (?, ?, ?)",
			    &insert);

	if (!good)
		return false;
	for (uint64_t row = 0; row < database->nr_rows && good && !berth__interrupted(); row++)
		good = write_row(database, insert, row);
	database->library.sqlite.finalize(insert);
	return good && execute(database, "COMMIT") &&
	       prepare(database, "SELECT version, body FROM item WHERE id = ?",
		       &database->select) &&
	       prepare(database, "UPDATE item SET version = ?, body = ? WHERE id = ?",
		       &database->update);
}

/* ---- Steps ------------------------------------------------------------------------------------- */

static bool is_right(const struct berth__camera_reader *database, uint64_t row)
{
	const struct berth__sqlite_library *sqlite = &database->library.sqlite;
	const uint64_t version = database->versions[row];
	uint64_t body[ROW_WORDS];

	if (sqlite->column_int64(database->select, 0) != (sqlite3_int64)version ||
	    sqlite->column_bytes(database->select, 1) != (int)sizeof(body))
		return false;
	memcpy(body, sqlite->column_blob(database->select, 1), sizeof(body));
	for (unsigned word = 0; word < ROW_WORDS; word++)
		if (body[word] != berth__camera_content(row, version, word))
			return false;
	return true;
}

static bool read_row(struct berth__camera_reader *database, uint64_t row)
{
	const struct berth__sqlite_library *sqlite = &database->library.sqlite;
	bool good = sqlite->bind_int64(database->select, 1, (sqlite3_int64)row) == SQLITE_OK &&
		    sqlite->step(database->select) == SQLITE_ROW;

	if (!good)
		return failed(database, "a row can't be read");
	good = is_right(database, row);
	if (!good)
		berth__camera_fail(database->gate, "SQLite's answer is wrong for row %llu",
				   (unsigned long long)row);
	sqlite->reset(database->select);
	database->figures->reads++;
	return good;
}

/*
 * Pages that were found in memory, and others. What comes from the store is a miss for SQLite itself, which has
 * it read from the file: there it is found.
 */
static void count_hits(struct berth__camera_reader *database)
{
	const struct berth__sqlite_library *sqlite = &database->library.sqlite;
	int hits = 0, misses = 0, most;

	if (database->place.store) {
		struct berth_sqlite_stats *before = &database->counted, now;
		uint64_t found;

		database->library.cache_stats(&now);
		found = now.front_hits + now.store_hits - before->front_hits - before->store_hits;
		database->figures->hits += found;
		database->figures->looked_up += found + now.misses - before->misses;
		*before = now;
		return;
	}
	sqlite->db_status(database->db, SQLITE_DBSTATUS_CACHE_HIT, &hits, &most, 1);
	sqlite->db_status(database->db, SQLITE_DBSTATUS_CACHE_MISS, &misses, &most, 1);
	database->figures->hits += (uint64_t)hits;
	database->figures->looked_up += (uint64_t)(hits + misses);
}

static bool step(struct berth__camera_reader *database)
{
	uint64_t row = database->rows[berth__zipf_next(&database->zipf, &database->random)];
	bool good;

	if (berth__random(&database->random) % UPDATES) {
		good = read_row(database, row);
	} else {
		database->versions[row]++;
		good = write_row(database, database->update, row);
		database->figures->updates++;
	}
	count_hits(database);
	return good;
}

static void *database_main(void *arg)
{
	struct berth__camera_reader *database = arg;

	berth__camera_begin(database->gate, BERTH__CAMERA_READER);
	while (berth__camera_pass(database->gate) && step(database))
		;
	berth__camera_leave(database->gate);
	return NULL;
}

/* ---- Opening ----------------------------------------------------------------------------------- */

/* Number i of an order in which all rows come once. */
static bool shuffle(struct berth__camera_reader *database)
{
	database->rows = calloc(database->nr_rows, sizeof(database->rows[0]));
	database->versions = calloc(database->nr_rows, sizeof(database->versions[0]));
	for (uint64_t i = 0; i < database->nr_rows && database->rows; i++) {
		uint64_t other = berth__random(&database->random) % (i + 1);

		database->rows[i] = database->rows[other];
		database->rows[other] = (uint32_t)i;
	}
	return database->rows && database->versions;
}

static bool open_file(struct berth__camera_reader *database)
{
	char path[BERTH__CAMERA_PATH_BYTES];
	int file = berth__camera_file(path);
	bool good = file >= 0;

	if (!good)
		berth__camera_fail(database->gate, "%s", BERTH__CAMERA_NO_FILE);
	else
		good = open_database(database, path);
	if (file >= 0) {
		unlink(path);
		close(file);
	}
	return good;
}

static bool set_up(struct berth__camera_reader *database, char why[BERTH__CAMERA_TEXT_BYTES])
{
	if (!load(&database->library, database->place.store, why))
		return false;
	if (!shuffle(database)) {
		snprintf(why, BERTH__CAMERA_TEXT_BYTES, "there is no memory for the load");
		return false;
	}
	if (!choose_cache(database, why))
		return false;
	if (!open_file(database) || !fill(database)) {
		snprintf(why, BERTH__CAMERA_TEXT_BYTES, "%s", database->gate->why);
		return false;
	}
	count_hits(database);
	*database->figures = (struct berth__camera_figures){ .ns = 0 };
	database->has_thread = berth__camera_start(database->gate, database_main, database,
						   &database->thread) == 0;
	if (!database->has_thread)
		snprintf(why, BERTH__CAMERA_TEXT_BYTES, "the load's threads can't be started");
	return database->has_thread;
}

static bool close_database(struct berth__camera_reader *database)
{
	int error = 0;

	if (database->has_thread)
		pthread_join(database->thread, NULL);
	if (database->db) {
		database->library.sqlite.finalize(database->select);
		database->library.sqlite.finalize(database->update);
		database->library.sqlite.close(database->db);
		database->library.sqlite.shutdown(); /* it lets its cache's memory go */
	}
	if (database->pages)
		error = berth_unmap(database->place.pool, database->pages,
				    database->place.cache_bytes);
	free(database->rows);
	free(database->versions);
	free(database);
	return !error;
}

static struct berth__camera_reader *open_sqlite(const struct berth__camera_place *place,
						struct berth__camera_gate *gate,
						struct berth__camera_figures *figures,
						char why[BERTH__CAMERA_TEXT_BYTES])
{
	struct berth__camera_reader *database = calloc(1, sizeof(*database));

	if (!database) {
		snprintf(why, BERTH__CAMERA_TEXT_BYTES, "there is no memory for the load");
		return NULL;
	}
	database->place = *place;
	database->gate = gate;
	database->figures = figures;
	database->random = place->config->seed + 1;
	database->nr_rows = berth__camera_file_bytes(place->config) / ROW_FILE_BYTES;
	berth__zipf_init(&database->zipf, database->nr_rows, 1);
	if (set_up(database, why))
		return database;
	(void)!close_database(database); /* why is what is said */
	return NULL;
}

const struct berth__camera_reader_ops berth__camera_sqlite = { open_sqlite, close_database };

#endif
