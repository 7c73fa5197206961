/* SPDX-License-Identifier: MIT */
/*
 * Leases of a pool: <berth/lease.h> with addresses, over the pool's zone, which has LRU lists for them if the pool was
 * opened with some. What isn't locked gives way to claims, and to whatever else wants memory when there is none.
 *
 * They never move: what moves would have to be said to the books of what is resident and fresh (port/linux/pool.h).
 */
#include "runtime/internal.h"

#include <berth/lru.h>

#include <stdlib.h>
#include <sys/mman.h>

#define MAX_ATTEMPTS 4u

int berth__leases_open(struct berth_pool_impl *pool, size_t lease_bytes)
{
	const struct berth_lease_params params = {
		.zone = pool->zone,
		.name = "leases",
		.max_leases = BERTH_POOL_MAX_LEASES,
		.max_locked_pages = berth__pages_of(lease_bytes),
		.port = &pool->port,
		.port_ctx = pool,
	};
	size_t bytes = berth_leases_metadata_size(&params);
	void *memory;
	int error;

	if (!lease_bytes)
		return 0;
	memory = berth__map_anonymous(bytes);
	if (!memory)
		return -BERTH_ENOMEM;
	error = berth_leases_init(&pool->leases, &params, memory, bytes);
	if (error) {
		munmap(memory, bytes);
		return error;
	}
	pool->leases_memory = memory;
	pool->leases_bytes = bytes;
	return 0;
}

void berth__leases_close(struct berth_pool_impl *pool)
{
	if (pool->leases_memory)
		munmap(pool->leases_memory, pool->leases_bytes);
	pool->leases = NULL;
	pool->leases_memory = NULL;
}

bool berth__leases_make_room(struct berth_pool_impl *pool, uint64_t nr_pages)
{
	if (!pool->leases)
		return false;
	berth_lru_add_drain_all(pool->zone);
	return berth_zone_reclaim(pool->zone, nr_pages, 0) > 0;
}

bool berth__leases_check(struct berth_pool_impl *pool, struct berth_violation *violation)
{
	return !pool->leases || berth_leases_check(pool->leases, violation);
}

/* ---- What programs call ------------------------------------------------------------------------------ */

static uint64_t pages_for(size_t bytes)
{
	return berth__pages_of(bytes) + (bytes % BERTH_PAGE_SIZE != 0);
}

static int create(struct berth_pool_impl *pool, uint64_t nr_pages, const char *name,
		  berth_lease_t *lease)
{
	int error = -BERTH_ENOMEM;

	for (unsigned i = 0; i < MAX_ATTEMPTS && error == -BERTH_ENOMEM; i++) {
		if (i && !berth__leases_make_room(pool, nr_pages))
			break;
		error = berth_lease_create(pool->leases, nr_pages, name, lease);
	}
	return error;
}

int berth_pool_lease(struct berth_pool *handle, size_t bytes, const char *name,
		     berth_lease_t *lease)
{
	struct berth_pool_impl *pool = berth__enter(handle);
	int error = -BERTH_EINVAL;

	if (!pool)
		return berth__refusal(handle);
	if (pool->leases && lease)
		error = create(pool, pages_for(bytes), name, lease);
	berth__leave(handle);
	return error;
}

/* The lease is locked: its frames are there, and somebody is going to write to them. */
static int use(struct berth_pool_impl *pool, berth_lease_t lease, berth_pfn_t pfn, void **address,
	       size_t *bytes)
{
	const size_t size = (size_t)berth_lease_pages(pool->leases, lease) << BERTH_PAGE_SHIFT;
	const size_t offset = (size_t)pfn << BERTH_PAGE_SHIFT;
	int error = berth_memory_populate(&pool->memory, offset, size);

	if (error)
		return error;
	berth_memory_used(&pool->memory, offset, size);
	*address = berth_memory_at(&pool->memory, pfn);
	if (bytes)
		*bytes = size;
	return 0;
}

int berth_pool_lease_lock(struct berth_pool *handle, berth_lease_t lease, void **address,
			  size_t *bytes)
{
	struct berth_pool_impl *pool = berth__enter(handle);
	int error = -BERTH_EINVAL;
	berth_pfn_t pfn;

	if (!pool)
		return berth__refusal(handle);
	if (pool->leases && address)
		error = berth_lease_lock(pool->leases, lease, &pfn);
	if (!error) {
		error = use(pool, lease, pfn, address, bytes);
		if (error && berth_lease_unlock(pool->leases, lease) != 0)
			abort(); /* it was locked some lines above */
	}
	berth__leave(handle);
	return error;
}

int berth_pool_lease_unlock(struct berth_pool *handle, berth_lease_t lease)
{
	struct berth_pool_impl *pool = berth__enter(handle);
	int error;

	if (!pool)
		return berth__refusal(handle);
	error = pool->leases ? berth_lease_unlock(pool->leases, lease) : -BERTH_EINVAL;
	berth__leave(handle);
	return error;
}

int berth_pool_lease_free(struct berth_pool *handle, berth_lease_t lease)
{
	struct berth_pool_impl *pool = berth__enter(handle);
	int error;

	if (!pool)
		return berth__refusal(handle);
	error = pool->leases ? berth_lease_free(pool->leases, lease) : -BERTH_EINVAL;
	berth__leave(handle);
	return error;
}

int berth_pool_lease_stats(struct berth_pool *handle, struct berth_lease_stats *stats)
{
	struct berth_pool_impl *pool = berth__enter(handle);
	int error = -BERTH_EINVAL;

	if (!pool)
		return berth__refusal(handle);
	if (pool->leases && stats) {
		berth_lease_stats(pool->leases, stats);
		error = 0;
	}
	berth__leave(handle);
	return error;
}
