/* SPDX-License-Identifier: MIT */
/*
 * What libberth-preload lends to libberth-sqlite in the same program: the store of the process's pool, where
 * to count, and where to say why nothing is cached.
 */
#ifndef BERTH_RUNTIME_SQLITE_BACKEND_H
#define BERTH_RUNTIME_SQLITE_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <berth/store.h>

/* As struct berth_sqlite_stats of <berth/sqlite.h>. */
struct berth__sqlite_counters {
	_Atomic uint64_t front_hits, store_hits, misses, puts, refused;
	_Atomic uint64_t front_bytes, caches, distrusted;
};

#define BERTH__SQLITE_NOTE_BYTES 128

struct berth__sqlite_backend {
	struct berth_store *store;
	int (*put)(struct berth_store *store, const struct berth_store_key *key, const void *data);
	int (*get)(struct berth_store *store, const struct berth_store_key *key, void *data);
	bool (*drop)(struct berth_store *store, const struct berth_store_key *key);
	void (*drop_group)(struct berth_store *store, uint64_t group);
	size_t store_bytes, front_bytes;
	struct berth__sqlite_counters *counters; /* of this process */
	char *note;                              /* likewise; BERTH__SQLITE_NOTE_BYTES */
};

/* The preload library's; libberth-sqlite finds it by name. False: this process has no store (yet), and only
 * counters and note, if anything, are filled in. */
typedef bool berth__sqlite_lend_function(struct berth__sqlite_backend *backend);
#define BERTH__SQLITE_LEND "berth__sqlite_lend"
bool berth__sqlite_lend(struct berth__sqlite_backend *backend);

#endif
