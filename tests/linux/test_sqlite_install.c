/* SPDX-License-Identifier: MIT */
/*
 * Getting into SQLite, and a cache by itself, before a store that has nothing. Each case is in a process of its own,
 * since SQLite takes a page cache once.
 */
#define _GNU_SOURCE
#include <sqlite3.h>

#include <berth/sqlite.h>

#include "sqlite/internal.h"
#include "testpool.h"

/* ---- A store that has nothing -------------------------------------------------------------------------------- */

static int refuse_put(struct berth_store *store, const struct berth_store_key *key,
		      const void *data)
{
	(void)store, (void)key, (void)data;
	return -BERTH_ENOSPC;
}

static int miss(struct berth_store *store, const struct berth_store_key *key, void *data)
{
	(void)store, (void)key;
	memset(data, 0xee, BERTH_PAGE_SIZE);
	return -BERTH_ENOENT;
}

static bool drop_none(struct berth_store *store, const struct berth_store_key *key)
{
	(void)store, (void)key;
	return false;
}

static void drop_no_group(struct berth_store *store, uint64_t group)
{
	(void)store, (void)group;
}

static const struct berth_sqlite_store_ops nothing = { refuse_put, miss, drop_none, drop_no_group };

static struct berth_sqlite_params nothing_params(void)
{
	static char there;

	return (struct berth_sqlite_params){ .store = (struct berth_store *)(void *)&there,
					     .ops = &nothing,
					     .store_bytes = 1 << 20 };
}

/* ---- Installing ---------------------------------------------------------------------------------------------- */

static void install_errors(void *unused)
{
	struct berth_sqlite_params params = nothing_params();

	(void)unused;
	child_check(berth_sqlite_cache_install_with(NULL) == -BERTH_EINVAL);
	params.store_bytes = 0;
	child_check(berth_sqlite_cache_install_with(&params) == -BERTH_EINVAL);
	params = nothing_params();
	params.ops = NULL;
	child_check(berth_sqlite_cache_install_with(&params) == -BERTH_EINVAL);
	params = nothing_params();
	child_check(berth_sqlite_cache_install_with(&params) == 0);
	child_check(berth_sqlite_cache_install_with(&params) == -BERTH_EEXIST);
	child_check(strcmp(sqlite3_vfs_find(NULL)->zName, "berth") == 0);
}

static void install_too_late(void *unused)
{
	struct berth_sqlite_params params = nothing_params();
	sqlite3 *db;

	(void)unused;
	child_check(sqlite3_open(":memory:", &db) == SQLITE_OK);
	child_check(berth_sqlite_cache_install_with(&params) == -BERTH_EBUSY);
	child_check(sqlite3_exec(db, "CREATE TABLE t(a); INSERT INTO t VALUES(1)", NULL, NULL,
				 NULL) == SQLITE_OK);
}

static void install_over_another(void *unused)
{
	struct berth_sqlite_params params = nothing_params();
	sqlite3_pcache_methods2 methods = berth__sqlite_methods;

	(void)unused;
	child_check(sqlite3_config(SQLITE_CONFIG_PCACHE2, &methods) == SQLITE_OK);
	child_check(berth_sqlite_cache_install_with(&params) == -BERTH_EEXIST);
}

static void test_install(void **state)
{
	(void)state;
	in_child(install_errors, NULL);
	in_child(install_too_late, NULL);
	in_child(install_over_another, NULL);
}

/* ---- A cache by itself --------------------------------------------------------------------------------------- */

static uint64_t nr_put;

static int count_put(struct berth_store *store, const struct berth_store_key *key, const void *data)
{
	(void)store, (void)key, (void)data;
	nr_put++;
	return 0;
}

/* A cache that isn't purgeable has its pages for good, and nobody else. */
static void not_purgeable(void *unused)
{
	static const struct berth_sqlite_store_ops counting = { count_put, miss, drop_none,
								drop_no_group };
	const sqlite3_pcache_methods2 *m = &berth__sqlite_methods;
	struct berth_sqlite_params params = nothing_params();
	sqlite3_pcache *cache;

	(void)unused;
	params.ops = &counting;
	child_check(berth_sqlite_cache_install_with(&params) == 0);
	cache = m->xCreate(4096, 200, 0);
	m->xCachesize(cache, 10);
	for (unsigned pgno = 1; pgno <= 1000; pgno++) {
		sqlite3_pcache_page *page = m->xFetch(cache, pgno, 2);

		memset(page->pBuf, (int)(pgno & 127), 4096);
		m->xUnpin(cache, page, 0);
	}
	child_check(m->xPagecount(cache) == 1000);
	for (unsigned pgno = 1; pgno <= 1000; pgno++) {
		sqlite3_pcache_page *page = m->xFetch(cache, pgno, 0);

		child_check(page && ((char *)page->pBuf)[4095] == (char)(pgno & 127));
	}
	m->xShrink(cache);
	child_check(m->xPagecount(cache) == 1000 && nr_put == 0);
	m->xTruncate(cache, 11);
	child_check(m->xPagecount(cache) == 10);
	m->xDestroy(cache);
}

/* PRAGMA cache_size bounds what is in use, and while nothing is in the store all else as well. */
static void cache_size(void *unused)
{
	const sqlite3_pcache_methods2 *m = &berth__sqlite_methods;
	sqlite3_pcache *cache = m->xCreate(4096, 200, 1);
	sqlite3_pcache_page *pages[100];
	struct berth_sqlite_stats stats;

	(void)unused;
	m->xCachesize(cache, 50);
	for (unsigned i = 0; i < 45; i++)
		child_check((pages[i] = m->xFetch(cache, i + 1, 1)) != NULL);
	child_check(m->xFetch(cache, 99, 1) == NULL); /* SQLite had better write */
	for (unsigned i = 45; i < 100; i++)
		child_check((pages[i] = m->xFetch(cache, i + 1, 2)) != NULL);
	child_check(m->xPagecount(cache) == 100);
	for (unsigned i = 0; i < 100; i++)
		m->xUnpin(cache, pages[i], 0);
	child_check(m->xPagecount(cache) == 50);
	child_check(!m->xFetch(cache, 1, 0) && m->xFetch(cache, 100, 0));
	m->xRekey(cache, m->xFetch(cache, 100, 0), 100, 7);
	child_check(!m->xFetch(cache, 100, 0) && m->xFetch(cache, 7, 0));
	m->xUnpin(cache, m->xFetch(cache, 7, 0), 1);
	child_check(!m->xFetch(cache, 7, 0) && m->xPagecount(cache) == 49);
	m->xDestroy(cache);
	berth_sqlite_cache_stats(&stats);
	child_check(stats.front_bytes == 0);
}

static void test_alone(void **state)
{
	(void)state;
	in_child(not_purgeable, NULL);
	in_child(cache_size, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_install),
		cmocka_unit_test(test_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
