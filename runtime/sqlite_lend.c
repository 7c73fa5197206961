/* SPDX-License-Identifier: MIT */
/*
 * What libberth-sqlite gets of us in a program under `berth run --sqlite-cache`: this process's store, where to
 * count, and where to note why there is none.
 */
#include "runtime/sqlite_lend.h"

#include <berth/store.h>

#include "runtime/next.h"

static struct {
	_Atomic(struct berth_pool_impl *) pool; /* NULL: none, or no store is wanted */
	struct berth_run_process *process;
	size_t front_bytes;
	_Atomic(struct berth_store *) store; /* once somebody has asked for it */
} lent;

void berth__sqlite_lend_start(struct berth_pool_impl *pool, const struct berth_run_record *record,
			      struct berth_run_process *process)
{
	lent.process = process;
	lent.front_bytes = record->sqlite_front_bytes;
	atomic_store(&lent.store, NULL);
	atomic_store(&lent.pool, record->sqlite_cache ? pool : NULL);
}

void berth__sqlite_lend_stop(struct berth_run_process *process)
{
	atomic_store(&lent.pool, NULL);
	lent.process = process;
}

void berth__sqlite_sample(struct berth_run_process *process)
{
	struct berth_store *store = atomic_load(&lent.pool) ? atomic_load(&lent.store) : NULL;
	struct berth_store_stats stats;
	uint64_t stored;

	if (!store)
		return;
	berth_store_stats(store, &stats);
	stored = stats.stored_pages << BERTH_PAGE_SHIFT;
	atomic_store(&process->store_lost, stats.lost_to_claims);
	atomic_store(&process->store_evicted, stats.evicted);
	atomic_store(&process->store_bytes_now, stored);
	if (stored > atomic_load(&process->store_bytes_max))
		atomic_store(&process->store_bytes_max, stored);
}

BERTH_EXPORT bool berth__sqlite_lend(struct berth__sqlite_backend *backend)
{
	struct berth_pool_impl *pool = atomic_load(&lent.pool);
	struct berth_store_stats stats;

	if (lent.process) {
		backend->counters = &lent.process->sqlite;
		backend->note = lent.process->sqlite_note;
	}
	if (!pool || berth__pool_store(pool, NULL, &backend->store) != 0)
		return false;
	atomic_store(&lent.store, backend->store);
	berth_store_stats(backend->store, &stats);
	backend->store_bytes = stats.nr_pages << BERTH_PAGE_SHIFT;
	backend->put = berth_store_put;
	backend->get = berth_store_get;
	backend->drop = berth_store_drop;
	backend->drop_group = berth_store_drop_group;
	backend->front_bytes = lent.front_bytes;
	return true;
}
