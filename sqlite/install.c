/* SPDX-License-Identifier: MIT */
/*
 * Getting into SQLite: berth_sqlite_cache_install_with(), and the functions that a program under `berth run
 * --sqlite-cache` calls first.
 *
 * SQLite takes a page cache only before sqlite3_initialize(), and a VFS only after. So the functions here
 * that have SQLite's names (this library is in front of SQLite, also where that is loaded later) do both at
 * the first call, and go on to SQLite's own. Nothing is linked with libsqlite3: it is looked for then.
 *
 * Cost afterwards: a load and a branch for each sqlite3_open() and sqlite3_initialize().
 */
#define _GNU_SOURCE
#include <berth/sqlite.h>

#include <dlfcn.h>
#include <pthread.h>
#include <sqlite3ext.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Only the functions of other libraries go through a table. */
#undef sqlite3_initialize
#undef sqlite3_open
#undef sqlite3_open16
#undef sqlite3_open_v2

#include "sqlite/internal.h"

#define EXPORT __attribute__((visibility("default")))
#define SONAME "libsqlite3.so.0"

static struct {
	bool found;
	int (*initialize)(void);
	int (*config)(int, ...);
	int (*open)(const char *, sqlite3 **);
	int (*open16)(const void *, sqlite3 **);
	int (*open_v2)(const char *, sqlite3 **, int, const char *);
	sqlite3_vfs *(*vfs_find)(const char *);
	int (*vfs_register)(sqlite3_vfs *, int);
} real; /* under `lock`; constant once it is found */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local bool inside; /* this thread is installing */
static _Atomic bool settled;      /* there is nothing to do at a call any more */
static _Atomic bool installed;

/* ---- SQLite's functions ------------------------------------------------------------------------------ */

static void *find_in(void *library, const char *name, const void *ours)
{
	void *at = library ? dlsym(library, name) : NULL;

	if (!at || at == ours)
		at = dlsym(RTLD_NEXT, name);
	if (!at)
		at = dlsym(RTLD_DEFAULT, name);
	return at == ours ? NULL : at;
}

/* Wherever it is: linked, loaded by a module, or part of the program. */
static bool find_sqlite(void)
{
	void *library;

	if (real.found)
		return true;
	library = dlopen(SONAME, RTLD_NOLOAD | RTLD_LAZY);
	*(void **)&real.initialize = find_in(library, "sqlite3_initialize",
					     (void *)(uintptr_t)sqlite3_initialize);
	*(void **)&real.open = find_in(library, "sqlite3_open", (void *)(uintptr_t)sqlite3_open);
	*(void **)&real.open16 = find_in(library, "sqlite3_open16",
					 (void *)(uintptr_t)sqlite3_open16);
	*(void **)&real.open_v2 = find_in(library, "sqlite3_open_v2",
					  (void *)(uintptr_t)sqlite3_open_v2);
	*(void **)&real.config = find_in(library, "sqlite3_config", NULL);
	*(void **)&real.vfs_find = find_in(library, "sqlite3_vfs_find", NULL);
	*(void **)&real.vfs_register = find_in(library, "sqlite3_vfs_register", NULL);
	real.found = real.initialize && real.open && real.open16 && real.open_v2 && real.config &&
		     real.vfs_find && real.vfs_register;
	return real.found;
}

/* Another page cache than SQLite's own: then it isn't ours to replace. */
static bool has_foreign_cache(void)
{
	sqlite3_pcache_methods2 methods = { .iVersion = 0 };
	Dl_info cache, sqlite;

	return real.config(SQLITE_CONFIG_GETPCACHE2, &methods) == SQLITE_OK && methods.xFetch &&
	       dladdr((void *)(uintptr_t)methods.xFetch, &cache) &&
	       dladdr((void *)(uintptr_t)real.config, &sqlite) &&
	       cache.dli_fbase != sqlite.dli_fbase;
}

/* ---- Installing ------------------------------------------------------------------------------------------ */

/* The lock is held; find_sqlite() has found. */
static int install_locked(void)
{
	static bool fork_handler;
	int result;

	if (atomic_load(&installed))
		return -BERTH_EEXIST;
	if (has_foreign_cache())
		return -BERTH_EEXIST;
	if (!fork_handler && pthread_atfork(NULL, NULL, berth__lent_forget_in_child) != 0)
		return -BERTH_ENOMEM;
	fork_handler = true;
	result = real.config(SQLITE_CONFIG_PCACHE2, &berth__sqlite_methods);
	if (result != SQLITE_OK)
		return -BERTH_EBUSY;
	berth__sqlite_read_environment();
	inside = true;
	result = real.initialize();
	if (result == SQLITE_OK)
		result = berth__vfs_register(real.vfs_find, real.vfs_register);
	inside = false;
	/* Without the VFS there is a front tier only, as without a store. */
	atomic_store(&installed, result == SQLITE_OK);
	return result == SQLITE_OK ? 0 : -BERTH_ENOMEM;
}

EXPORT int berth_sqlite_cache_install_with(const struct berth_sqlite_params *params)
{
	struct berth__sqlite_backend backend;
	int error = -BERTH_ENOENT;

	if (!params || !params->store || !params->store_bytes || !params->ops ||
	    !params->ops->put || !params->ops->get || !params->ops->drop ||
	    !params->ops->drop_group)
		return -BERTH_EINVAL;
	backend = (struct berth__sqlite_backend){
		.store = params->store,
		.put = params->ops->put,
		.get = params->ops->get,
		.drop = params->ops->drop,
		.drop_group = params->ops->drop_group,
		.store_bytes = params->store_bytes,
		.front_bytes = params->front_bytes,
	};
	pthread_mutex_lock(&lock);
	if (find_sqlite())
		error = install_locked();
	if (!error && !berth__sqlite_backend_take(&backend))
		error = -BERTH_ENOMEM;
	atomic_store(&settled, atomic_load(&settled) || !error);
	pthread_mutex_unlock(&lock);
	return error;
}

EXPORT void berth_sqlite_cache_stats(struct berth_sqlite_stats *stats)
{
	struct berth__sqlite_counters *counters = berth__sqlite_counters();

	*stats = (struct berth_sqlite_stats){
		.front_hits = atomic_load(&counters->front_hits),
		.store_hits = atomic_load(&counters->store_hits),
		.misses = atomic_load(&counters->misses),
		.puts = atomic_load(&counters->puts),
		.refused = atomic_load(&counters->refused),
		.front_bytes = atomic_load(&counters->front_bytes),
		.caches = atomic_load(&counters->caches),
		.distrusted = atomic_load(&counters->distrusted),
	};
}

/* ---- In a program that knows nothing of it ------------------------------------------------------------------ */

/* Somebody preloaded this library alone: it has no memory to give. */
static void say_why_nothing(void)
{
	const char *preload = getenv("LD_PRELOAD");

	if (preload && strstr(preload, "libberth-sqlite"))
		fputs("berth: libberth-sqlite.so has no store in this process; start the program with "
		      "`berth run --sqlite-cache`, or call berth_sqlite_cache_install()\n",
		      stderr);
}

static const char *why_not(int error)
{
	switch (error) {
	case -BERTH_EBUSY:
		return "SQLite was initialised before Berth could give it a page cache";
	case -BERTH_EEXIST:
		return "the program has given SQLite a page cache of its own";
	default:
		return "SQLite couldn't be initialised with a page cache";
	}
}

/* The store may come later, in a forked child; the cache can't. */
static void install_for(berth__sqlite_lend_function *lend)
{
	struct berth__sqlite_backend backend = { .store = NULL };
	const bool there = lend(&backend);
	const int error = install_locked();

	if (!error && there)
		(void)berth__sqlite_backend_take(&backend);
	if (error && backend.note)
		snprintf(backend.note, BERTH__SQLITE_NOTE_BYTES, "%s", why_not(error));
}

/*
 * Before SQLite's own function. Beside libberth-preload the cache is installed now; other programs decide for
 * themselves, by berth_sqlite_cache_install().
 */
static bool prepare(void)
{
	berth__sqlite_lend_function *lend;

	if (atomic_load_explicit(&settled, memory_order_acquire) || inside)
		return true;
	pthread_mutex_lock(&lock);
	if (!atomic_load(&settled) && find_sqlite()) {
		*(void **)&lend = dlsym(RTLD_DEFAULT, BERTH__SQLITE_LEND);
		if (lend)
			install_for(lend);
		else
			say_why_nothing();
		atomic_store_explicit(&settled, true, memory_order_release);
	}
	pthread_mutex_unlock(&lock);
	return real.found;
}

EXPORT int sqlite3_initialize(void)
{
	return prepare() ? real.initialize() : SQLITE_ERROR;
}

EXPORT int sqlite3_open(const char *name, sqlite3 **db)
{
	return prepare() ? real.open(name, db) : SQLITE_ERROR;
}

EXPORT int sqlite3_open16(const void *name, sqlite3 **db)
{
	return prepare() ? real.open16(name, db) : SQLITE_ERROR;
}

EXPORT int sqlite3_open_v2(const char *name, sqlite3 **db, int flags, const char *vfs)
{
	return prepare() ? real.open_v2(name, db, flags, vfs) : SQLITE_ERROR;
}

/* `.load`, sqlite3_load_extension(): a connection is open, so SQLite is initialised. */
EXPORT int sqlite3_extension_init(sqlite3 *db, char **error, const sqlite3_api_routines *api);
EXPORT int sqlite3_extension_init(sqlite3 *db, char **error, const sqlite3_api_routines *api)
{
	(void)db;
	if (atomic_load(&installed))
		return SQLITE_OK;
	*error = api->mprintf("Berth's page cache has to be there before SQLite is initialised, so "
			      "an extension is too late; start the program with `berth run "
			      "--sqlite-cache`, or call berth_sqlite_cache_install() first");
	return SQLITE_ERROR;
}
