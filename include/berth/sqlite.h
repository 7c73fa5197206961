/* SPDX-License-Identifier: MIT */
/*
 * SQLite's page cache in a discardable store: libberth-sqlite.
 *
 * Pages that SQLite uses right now, and the hottest others, are in ordinary memory (the front tier). The
 * others are in a store (<berth/store.h>), out of which claims may take them at any moment: SQLite then reads
 * them from the database again. Answers don't change.
 *
 * SQLite takes a page cache only before it is initialised. So a program calls
 * berth_sqlite_cache_install() before sqlite3_initialize(), sqlite3_open() and all that call them, and links
 * libberth-sqlite in front of libsqlite3, with libberth. A program that can't be changed is started by
 * `berth run --sqlite-cache`. Loading the library as an extension of SQLite (`.load`) comes too late, and
 * says so.
 */
#ifndef BERTH_SQLITE_H
#define BERTH_SQLITE_H

#include <stddef.h>

#include <berth/store.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The functions of the store, from the library that made it. */
struct berth_sqlite_store_ops {
	int (*put)(struct berth_store *store, const struct berth_store_key *key, const void *data);
	int (*get)(struct berth_store *store, const struct berth_store_key *key, void *data);
	bool (*drop)(struct berth_store *store, const struct berth_store_key *key);
	void (*drop_group)(struct berth_store *store, uint64_t group);
};

struct berth_sqlite_params {
	struct berth_store *store; /* others may use it as well; it lives as long as the process, or
				    * until sqlite3_shutdown() */
	const struct berth_sqlite_store_ops *ops;
	size_t store_bytes; /* of its areas: how many pages are remembered that were read once */
	/* Ordinary memory for pages that SQLite doesn't use just now, of all connections together. 0: a
	 * sixteenth of store_bytes, at least 2 MiB and at most 64 MiB. */
	size_t front_bytes;
};

/*
 * Makes SQLite keep its pages so, in this process and for good. Registers a VFS, "berth", as the default
 * one: a connection through another VFS has only the front tier. After a fork a child's connections have
 * only the front tier, too.
 * 0; -EINVAL; -ENOENT: there is no SQLite in this process (yet); -EBUSY: SQLite is initialised already;
 * -EEXIST: it has another page cache than its own already; -ENOMEM. On error nothing has changed.
 */
int berth_sqlite_cache_install_with(const struct berth_sqlite_params *params) BERTH_MUST_CHECK;

/* The same, with this program's libberth. */
static inline int berth_sqlite_cache_install(struct berth_store *store, size_t store_bytes,
					     size_t front_bytes)
{
	static const struct berth_sqlite_store_ops ops = { berth_store_put, berth_store_get,
							   berth_store_drop,
							   berth_store_drop_group };
	struct berth_sqlite_params params;

	params.store = store;
	params.ops = &ops;
	params.store_bytes = store_bytes;
	params.front_bytes = front_bytes;
	return berth_sqlite_cache_install_with(&params);
}

/* Of all connections since the start; counted in batches, so up to 255 fetches of each late. */
struct berth_sqlite_stats {
	uint64_t front_hits;  /* fetches that the front tier served, */
	uint64_t store_hits;  /* the store, */
	uint64_t misses;      /* and neither: SQLite read the page, or made a new one */
	uint64_t puts;        /* pages that were copied to the store, */
	uint64_t refused;     /* or weren't, since it had no frame to give */
	uint64_t front_bytes; /* now */
	uint64_t caches;      /* of connections, that use the store */
	uint64_t distrusted;  /* that don't, since what they hold isn't what is in the file */
};
void berth_sqlite_cache_stats(struct berth_sqlite_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
