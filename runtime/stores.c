/* SPDX-License-Identifier: MIT */
/*
 * Stores of discardable pages in a pool's areas with policy=gcma: one for each, made when it is asked for.
 *
 * A store's metadata is wiped in a child of fork, by the kernel: zero bytes are a store that holds nothing and
 * keeps nothing. So a child, however it was forked, never takes the parent's pages for its own.
 */
#define _GNU_SOURCE
#include "runtime/internal.h"

#include <berth/contig.h>
#include <berth/store.h>

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

/* One that can have a store, or NULL: *error says why. */
static struct berth_pool_area *find_area(struct berth_pool_impl *pool, const char *name, int *error)
{
	unsigned nr_areas = pool->nr_areas;

	*error = -BERTH_ENOENT;
	if (name) {
		struct berth_pool_area *area = berth__pool_area(pool, name);

		if (!area || berth_contig_area_gcma(area->area))
			return area;
		*error = -BERTH_EINVAL;
		return NULL;
	}
	for (unsigned i = 0; i < nr_areas; i++)
		if (berth_contig_area_gcma(pool->areas[i].area))
			return &pool->areas[i];
	return NULL;
}

static uint64_t some_seed(const struct berth_pool_impl *pool)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
		seed = (uint64_t)(uintptr_t)pool ^ pool->port.now_ns(NULL);
	return seed;
}

static int make_store(struct berth_pool_impl *pool, struct berth_pool_area *area)
{
	struct berth_gcma *gcma = berth_contig_area_gcma(area->area);
	const berth_pfn_t start_pfn = berth_gcma_start_pfn(gcma);
	const struct berth_store_params params = {
		.areas = &gcma,
		.nr_areas = 1,
		.linear = pool->memory.linear,
		.linear_pfn = 0,
		.seed = some_seed(pool),
		.port = &pool->port,
		.port_ctx = pool,
	};
	size_t bytes = berth_store_metadata_size(&params);
	void *memory;
	int error;

	if (!bytes)
		return -BERTH_EINVAL;
	/* No work, but for areas that become resident as they are used. */
	error = berth_memory_populate(&pool->memory, (size_t)start_pfn << BERTH_PAGE_SHIFT,
				      area->bytes);
	if (error)
		return error;
	berth_memory_used(&pool->memory, (size_t)start_pfn << BERTH_PAGE_SHIFT, area->bytes);
	memory = berth__map_anonymous(bytes);
	if (!memory)
		return -BERTH_ENOMEM;
	error = madvise(memory, bytes, MADV_WIPEONFORK) == 0 ? 0 : -BERTH_ENOSYS;
	/* Each get and put looks there, in random order. */
	(void)madvise(memory, bytes, MADV_HUGEPAGE);
	if (!error)
		error = berth_store_init(&area->store, &params, memory, bytes);
	if (error) {
		munmap(memory, bytes);
		return error;
	}
	area->store_memory = memory;
	area->store_bytes = bytes;
	return 0;
}

int berth__pool_store(struct berth_pool_impl *pool, const char *name, struct berth_store **store)
{
	static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
	struct berth_pool_area *area;
	int error;

	area = find_area(pool, name, &error);
	if (!area)
		return error;
	pthread_mutex_lock(&one_at_a_time);
	error = area->store ? 0 : make_store(pool, area);
	if (!error)
		*store = area->store;
	pthread_mutex_unlock(&one_at_a_time);
	return error;
}

void berth__stores_close(struct berth_pool_impl *pool)
{
	for (unsigned i = 0; i < pool->nr_areas; i++)
		if (pool->areas[i].store_memory)
			munmap(pool->areas[i].store_memory, pool->areas[i].store_bytes);
	berth__stores_leave(pool);
}

void berth__stores_leave(struct berth_pool_impl *pool)
{
	for (unsigned i = 0; i < pool->nr_areas; i++) {
		pool->areas[i].store = NULL;
		pool->areas[i].store_memory = NULL;
	}
}

bool berth__stores_check(struct berth_pool_impl *pool, struct berth_violation *violation)
{
	for (unsigned i = 0; i < pool->nr_areas; i++)
		if (pool->areas[i].store && !berth_store_check(pool->areas[i].store, violation))
			return false;
	return true;
}
