/* SPDX-License-Identifier: MIT */
/*
 * The public functions of libberth: handles, and the checks at the border.
 *
 * A handle is 320 bytes that are never freed, so that a stale one can be recognised for ever. They
 * hang in one list, so that a leak checker finds them. `inside` counts the calls inside, by slots: two
 * threads that call at the same time don't share a line of it.
 */
#define _GNU_SOURCE
#include "runtime/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum handle_state {
	HANDLE_OPEN,
	HANDLE_CLOSING, /* being decided: wait */
	HANDLE_CLOSED,
};

struct berth_pool {
	struct berth__spread inside;
	struct berth_pool_impl *impl;    /* a pool of our own, or */
	struct berth_attached *attached; /* another process's */
	struct berth_pool *next;         /* in all_handles */
	_Atomic uint32_t state;          /* enum handle_state */
	uint32_t generation;             /* berth__fork_generation at opening */
};

static _Atomic(struct berth_pool *) all_handles;

static void keep_for_ever(struct berth_pool *handle)
{
	handle->next = atomic_load(&all_handles);
	while (!atomic_compare_exchange_weak(&all_handles, &handle->next, handle))
		;
}

/* Keeps a handle from being closed until leave(). False: it's stale. */
static BERTH_HOT bool enter_any(struct berth_pool *handle)
{
	if (!handle || handle->generation != atomic_load(&berth__fork_generation))
		return false;
	for (;;) {
		uint32_t state;

		/* Counted first: who closes looks at the counts after it has said so. */
		berth__spread_add(&handle->inside, 1);
		state = atomic_load(&handle->state);
		if (state == HANDLE_OPEN)
			return true;
		berth__spread_add(&handle->inside, UINT64_MAX);
		if (state == HANDLE_CLOSED)
			return false;
		berth_relax(); /* somebody is about to decide */
	}
}

static BERTH_HOT void leave(struct berth_pool *handle)
{
	berth__spread_add(&handle->inside, UINT64_MAX);
}

/* The pool of our own behind a handle for the time until leave(), or NULL: see refusal(). */
static struct berth_pool_impl *enter(struct berth_pool *handle)
{
	if (!enter_any(handle))
		return NULL;
	if (handle->impl)
		return handle->impl;
	leave(handle);
	return NULL;
}

/* What a handle is told that enter() refused. */
static int refusal(struct berth_pool *handle)
{
	int error = -BERTH_ESTALE;

	if (!enter_any(handle))
		return error;
	if (handle->attached)
		error = -BERTH_EOPNOTSUPP;
	leave(handle);
	return error;
}

struct berth_pool_impl *berth__enter(struct berth_pool *handle)
{
	return enter(handle);
}

void berth__leave(struct berth_pool *handle)
{
	leave(handle);
}

int berth__refusal(struct berth_pool *handle)
{
	return refusal(handle);
}

/* A new handle; `generation` is set. NULL: no memory. */
static struct berth_pool *new_handle(void)
{
	struct berth_pool *handle = aligned_alloc(_Alignof(struct berth_pool), sizeof(*handle));

	if (!handle)
		return NULL;
	memset(handle, 0, sizeof(*handle));
	handle->generation = atomic_load(&berth__fork_generation);
	return handle;
}

int berth_pool_open(const struct berth_pool_params *params, struct berth_pool **out)
{
	struct berth_pool *handle;
	int error;

	if (!out)
		return -BERTH_EINVAL;
	berth__fork_register();
	handle = new_handle();
	if (!handle)
		return -BERTH_ENOMEM;
	error = berth__pool_open(params, 0, &handle->impl);
	if (error) {
		free(handle);
		return error;
	}
	keep_for_ever(handle);
	*out = handle;
	return 0;
}

int berth_attach(long pid, struct berth_pool **out)
{
	struct berth_pool *handle;
	int error;

	if (!out)
		return -BERTH_EINVAL;
	berth__fork_register();
	handle = new_handle();
	if (!handle)
		return -BERTH_ENOMEM;
	error = berth__attached_open(pid, &handle->attached);
	if (error) {
		free(handle);
		return error;
	}
	keep_for_ever(handle);
	*out = handle;
	return 0;
}

/* Nobody uses anything of it. (What no region has, a failed map has left behind: see map_pages_locked().) */
static bool is_idle(struct berth_pool_impl *pool)
{
	struct berth_space_stats stats;
	bool idle;

	berth_space_stats(pool->space, &stats);
	berth_mutex_lock(&pool->regions.lock);
	idle = pool->regions.nr == 0 && !stats.pins && !berth__spread_sum(&pool->claims_held);
	berth_mutex_unlock(&pool->regions.lock);
	return idle;
}

int berth_pool_close(struct berth_pool *handle)
{
	struct berth_attached *attached;
	struct berth_pool_impl *pool;
	uint32_t open = HANDLE_OPEN;

	if (!enter_any(handle))
		return -BERTH_ESTALE;
	/* Keep everybody out and look. Others inside mean that it is in use. */
	if (!atomic_compare_exchange_strong(&handle->state, &open, HANDLE_CLOSING)) {
		leave(handle);
		return -BERTH_EBUSY;
	}
	if (berth__spread_sum(&handle->inside) != 1) {
		atomic_store(&handle->state, HANDLE_OPEN);
		leave(handle);
		return -BERTH_EBUSY;
	}
	pool = handle->impl;
	attached = handle->attached;
	if (pool ? !is_idle(pool) : !berth__attached_is_idle(attached)) {
		atomic_store(&handle->state, HANDLE_OPEN);
		leave(handle);
		return -BERTH_EBUSY;
	}
	handle->impl = NULL;
	handle->attached = NULL;
	atomic_store(&handle->state, HANDLE_CLOSED);
	leave(handle);
	if (pool)
		berth__pool_close(pool);
	else
		berth__attached_close(attached);
	return 0;
}

const char *berth_pool_notice(struct berth_pool *handle)
{
	struct berth_pool_impl *pool = enter(handle);
	const char *notice = NULL;

	if (pool) {
		notice = berth_mover_notice(pool->mmu.mover);
		leave(handle);
	}
	return notice;
}

/* ---- Claims --------------------------------------------------------------------------------------------- */

/* By the area, or if there is one, by the device. */
static BERTH_HOT int claim(struct berth_pool *handle, const char *area, const char *device,
			   size_t bytes, const struct berth_claim_options *options,
			   struct berth_buffer *buffer, struct berth_claim_report *report)
{
	int error;

	if (!enter_any(handle)) {
		if (report)
			*report = (struct berth_claim_report){ .error = -BERTH_ESTALE,
							       .blocker_pfn = BERTH_PFN_NONE };
		return -BERTH_ESTALE;
	}
	if (handle->attached)
		error = berth__attached_claim(handle->attached, area, device, bytes, options,
					      buffer, report);
	else
		error = berth__pool_claim(handle->impl, area, device, bytes, options, buffer,
					  report);
	leave(handle);
	return error;
}

BERTH_HOT int berth_claim(struct berth_pool *handle, const char *area, size_t bytes,
			  const struct berth_claim_options *options, struct berth_buffer *buffer,
			  struct berth_claim_report *report)
{
	return claim(handle, area, NULL, bytes, options, buffer, report);
}

BERTH_HOT int berth_claim_for(struct berth_pool *handle, const char *device, size_t bytes,
			      const struct berth_claim_options *options,
			      struct berth_buffer *buffer, struct berth_claim_report *report)
{
	return claim(handle, NULL, device ? device : "", bytes, options, buffer, report);
}

BERTH_HOT int berth_release(struct berth_pool *handle, const struct berth_buffer *buffer)
{
	int error;

	if (!enter_any(handle))
		return -BERTH_ESTALE;
	error = handle->attached ? berth__attached_release(handle->attached, buffer) :
				   berth__pool_release(handle->impl, buffer);
	leave(handle);
	return error;
}

int berth_claim_fd(struct berth_pool *handle, const struct berth_buffer *buffer)
{
	int fd = -BERTH_EOPNOTSUPP;

	if (!enter_any(handle))
		return -BERTH_ESTALE;
	if (handle->attached)
		fd = berth__attached_claim_fd(handle->attached, buffer);
	leave(handle);
	return fd;
}

/* ---- Movable memory --------------------------------------------------------------------------------------- */

/* Pages for a size, or 0 when it is zero or overflows. */
static uint64_t pages_for(size_t bytes)
{
	return ((uint64_t)bytes >> BERTH_PAGE_SHIFT) + (bytes % BERTH_PAGE_SIZE != 0);
}

/*
 * Maps pages that no region has. A map that fails is undone, and if the machine refuses that as well, pages are
 * left behind: they are unmapped at once, or at last when somebody gets these addresses again.
 */
static int map_pages_locked(struct berth_pool_impl *pool, uint64_t page, uint64_t nr_pages,
			    unsigned order, unsigned map_flags)
{
	int error = berth_space_map(pool->space, page, nr_pages, order, map_flags);

	if (error == -BERTH_EEXIST) {
		error = berth_space_unmap(pool->space, page, nr_pages);
		if (!error)
			error = berth_space_map(pool->space, page, nr_pages, order, map_flags);
	}
	if (error && !berth_space_is_unmapped(pool->space, page, nr_pages) &&
	    berth_space_unmap(pool->space, page, nr_pages) != 0)
		return -BERTH_ENOMEM;
	return error;
}

/* Likewise; leases give way. */
static int map_making_room_locked(struct berth_pool_impl *pool, uint64_t page, uint64_t nr_pages,
				  unsigned order, unsigned map_flags)
{
	int error = map_pages_locked(pool, page, nr_pages, order, map_flags);

	for (unsigned i = 0; i < 4 && error == -BERTH_ENOMEM; i++) {
		if (!berth__leases_make_room(pool, nr_pages))
			break;
		error = map_pages_locked(pool, page, nr_pages, order, map_flags);
	}
	return error;
}

static int map_region(struct berth_pool_impl *pool, uint64_t nr_pages, unsigned order,
		      unsigned flags, void **address)
{
	struct berth_region region = {
		.nr_pages = nr_pages,
		.max_order = order,
		.map_flags = flags & BERTH_MEMORY_NO_AREA ? BERTH_MAP_NO_CMA : 0,
	};
	uint64_t huge = BERTH_HUGE_BYTES >> BERTH_PAGE_SHIFT;
	int error;

	berth_mutex_lock(&pool->regions.lock);
	error = berth__region_add_locked(&pool->regions, nr_pages >= huge ? huge : 1, &region);
	if (!error) {
		error = map_making_room_locked(pool, region.page, nr_pages, order,
					       region.map_flags);
		if (error &&
		    berth__region_remove_locked(&pool->regions, region.page, nr_pages) != 0)
			abort(); /* it was added a line above */
	}
	berth_mutex_unlock(&pool->regions.lock);
	if (!error)
		*address = pool->mmu.base + (region.page << BERTH_PAGE_SHIFT);
	return error;
}

int berth_map_runs(struct berth_pool *handle, size_t bytes, size_t run_bytes, unsigned flags,
		   void **address)
{
	struct berth_pool_impl *pool = enter(handle);
	uint64_t nr_pages = pages_for(bytes);
	int error = -BERTH_EINVAL;

	if (!pool)
		return refusal(handle);
	if (address && nr_pages && run_bytes >= BERTH_PAGE_SIZE && run_bytes <= BERTH_HUGE_BYTES &&
	    !(run_bytes & (run_bytes - 1)) && !(flags & ~(unsigned)BERTH_MEMORY_NO_AREA))
		error = map_region(pool, nr_pages,
				   (unsigned)__builtin_ctzll(run_bytes) - BERTH_PAGE_SHIFT, flags,
				   address);
	leave(handle);
	return error;
}

int berth_map(struct berth_pool *handle, size_t bytes, unsigned flags, void **address)
{
	return berth_map_runs(handle, bytes, BERTH_HUGE_BYTES, flags, address);
}

/* The space's page of an address that begins one; false when it isn't the space's. */
static bool page_of(const struct berth_pool_impl *pool, const void *address, uint64_t *page)
{
	const char *at = address;

	if (at < pool->mmu.base || at >= pool->mmu.base + pool->mmu.bytes)
		return false;
	*page = (uint64_t)(at - pool->mmu.base) >> BERTH_PAGE_SHIFT;
	return true;
}

/* Grows the region at `page` and maps what is new of it. Lock held. */
static int grow_locked(struct berth_pool_impl *pool, uint64_t page, uint64_t old_pages,
		       uint64_t new_pages)
{
	const struct berth_region *region = berth__region_find_locked(&pool->regions, page,
								      old_pages);
	int error;

	if (!region)
		return -BERTH_EINVAL;
	error = berth__region_grow_locked(&pool->regions, page, old_pages, new_pages);
	if (error)
		return error;
	error = map_making_room_locked(pool, page + old_pages, new_pages - old_pages,
				       region->max_order, region->map_flags);
	if (error && berth__region_grow_locked(&pool->regions, page, new_pages, old_pages) != 0)
		abort(); /* it was grown a line above */
	return error;
}

int berth_grow(struct berth_pool *handle, void *address, size_t old_bytes, size_t new_bytes)
{
	struct berth_pool_impl *pool = enter(handle);
	uint64_t old_pages = pages_for(old_bytes), new_pages = pages_for(new_bytes), page;
	int error = -BERTH_EINVAL;

	if (!pool)
		return refusal(handle);
	if (page_of(pool, address, &page) && old_pages && new_bytes > old_bytes &&
	    (uintptr_t)address % BERTH_PAGE_SIZE == 0) {
		berth_mutex_lock(&pool->regions.lock);
		if (new_pages > old_pages)
			error = grow_locked(pool, page, old_pages, new_pages);
		else if (berth__region_find_locked(&pool->regions, page, old_pages))
			error = 0; /* its last page has room */
		berth_mutex_unlock(&pool->regions.lock);
	}
	leave(handle);
	return error;
}

int berth_unmap(struct berth_pool *handle, void *address, size_t bytes)
{
	struct berth_pool_impl *pool = enter(handle);
	uint64_t nr_pages = pages_for(bytes), page;
	int error = -BERTH_EINVAL;

	if (!pool)
		return refusal(handle);
	if (page_of(pool, address, &page) && nr_pages &&
	    (uintptr_t)address % BERTH_PAGE_SIZE == 0) {
		berth_mutex_lock(&pool->regions.lock);
		if (berth__region_find_locked(&pool->regions, page, nr_pages)) {
			error = berth_space_unmap(pool->space, page, nr_pages);
			if (!error &&
			    berth__region_remove_locked(&pool->regions, page, nr_pages) != 0)
				abort(); /* it was there a line above */
		}
		berth_mutex_unlock(&pool->regions.lock);
	}
	leave(handle);
	return error;
}

/* ---- Pins --------------------------------------------------------------------------------------------------- */

int berth_pin(struct berth_pool *handle, const void *address, size_t bytes, const char *name,
	      unsigned flags, uint64_t *pin)
{
	struct berth_pool_impl *pool = enter(handle);
	int error = -BERTH_EINVAL;
	uint64_t page, last;

	if (!pool)
		return refusal(handle);
	if (name && pin && bytes && !(flags & ~(unsigned)BERTH_PIN_LONG_TERM) &&
	    page_of(pool, address, &page) && bytes - 1 <= UINTPTR_MAX - (uintptr_t)address &&
	    page_of(pool, (const char *)address + (bytes - 1), &last))
		error = berth_space_pin(pool->space, page, last - page + 1, name,
					flags & BERTH_PIN_LONG_TERM, pin);
	leave(handle);
	return error;
}

int berth_unpin(struct berth_pool *handle, uint64_t pin)
{
	struct berth_pool_impl *pool = enter(handle);
	int error;

	if (!pool)
		return refusal(handle);
	error = berth_space_unpin(pool->space, pin);
	leave(handle);
	return error;
}

size_t berth_offset_of(struct berth_pool *handle, const void *address)
{
	struct berth_pool_impl *pool = enter(handle);
	size_t offset = (size_t)-1;
	uint64_t page;

	if (!pool)
		return offset;
	if (page_of(pool, address, &page)) {
		berth_pfn_t pfn = berth_space_lookup(pool->space, page);

		if (pfn < BERTH_PFN_PRIVATE)
			offset = ((size_t)pfn << BERTH_PAGE_SHIFT) +
				 (uintptr_t)address % BERTH_PAGE_SIZE;
	}
	leave(handle);
	return offset;
}

/* ---- Statistics ------------------------------------------------------------------------------------------------ */

int berth_pool_stats(struct berth_pool *handle, struct berth_pool_stats *stats)
{
	int error = 0;

	if (!enter_any(handle))
		return -BERTH_ESTALE;
	if (!stats)
		error = -BERTH_EINVAL;
	else if (handle->attached)
		error = berth__attached_stats(handle->attached, stats);
	else
		berth__pool_stats(handle->impl, stats);
	leave(handle);
	return error;
}

static int own_area_stats(struct berth_pool_impl *pool, const char *name,
			  struct berth_cma_stats *stats)
{
	struct berth_pool_area *area = berth__pool_area(pool, name);

	if (!area)
		return -BERTH_ENOENT;
	if (!stats)
		return -BERTH_EINVAL;
	berth_contig_area_stats(area->area, stats);
	return 0;
}

int berth_area_stats(struct berth_pool *handle, const char *name, struct berth_cma_stats *stats)
{
	int error;

	if (!enter_any(handle))
		return -BERTH_ESTALE;
	if (handle->impl)
		error = own_area_stats(handle->impl, name, stats);
	else
		error = stats ? berth__attached_area_stats(handle->attached, name, stats) :
				-BERTH_EINVAL;
	leave(handle);
	return error;
}

int berth_area_set_lend(struct berth_pool *handle, const char *name, enum berth_lend_policy lend,
			size_t keep_bytes)
{
	struct berth_pool_impl *pool = enter(handle);
	struct berth_pool_area *area;
	int error = -BERTH_ENOENT;

	if (!pool)
		return refusal(handle);
	area = berth__pool_area(pool, name);
	if (area)
		error = berth_contig_area_set_lend(area->area, lend, pages_for(keep_bytes));
	leave(handle);
	return error;
}

int berth_pool_configure(struct berth_pool *handle, const char *config)
{
	struct berth_pool_impl *pool = enter(handle);
	int error;

	if (!pool)
		return refusal(handle);
	error = berth__pool_configure(pool, config);
	leave(handle);
	return error;
}

int berth_pool_store(struct berth_pool *handle, const char *area, struct berth_store **store)
{
	struct berth_pool_impl *pool = enter(handle);
	int error;

	if (!pool)
		return refusal(handle);
	error = store ? berth__pool_store(pool, area, store) : -BERTH_EINVAL;
	leave(handle);
	return error;
}

/* ---- Claims that are held -------------------------------------------------------------------------------------- */

struct held_list {
	struct berth_held *held;
	size_t room, nr;
};

static void list_held(void *ctx, const struct berth_held *held)
{
	struct held_list *list = ctx;

	if (list->nr < list->room)
		list->held[list->nr] = *held;
	list->nr++;
}

long berth_pool_held(struct berth_pool *handle, struct berth_held *held, size_t room)
{
	struct berth_pool_impl *pool = enter(handle);
	struct held_list list = { .held = held, .room = held ? room : 0 };

	if (!pool)
		return refusal(handle);
	berth__pool_each_held(pool, list_held, &list);
	leave(handle);
	return (long)list.nr;
}

struct held_text {
	char *text;
	size_t bytes, length;
};

static void word_held(void *ctx, const struct berth_held *held)
{
	struct held_text *out = ctx;
	size_t room = out->length < out->bytes ? out->bytes - out->length : 0;
	int length = snprintf(room ? out->text + out->length : NULL, room,
			      "%s holds %zu KiB of area %s at offset %#zx, for %.3f s\n",
			      held->name[0] ? held->name : "somebody", held->bytes / 1024,
			      held->area, held->offset, (double)held->age_ns / 1e9);

	if (length > 0)
		out->length += (size_t)length;
}

size_t berth_pool_held_text(struct berth_pool *handle, char *text, size_t text_bytes)
{
	struct berth_pool_impl *pool = enter(handle);
	struct held_text out = { .text = text, .bytes = text_bytes };

	if (text_bytes)
		*text = 0;
	if (!pool)
		return 0;
	berth__pool_each_held(pool, word_held, &out);
	leave(handle);
	return out.length;
}

bool berth_pool_check(struct berth_pool *handle, struct berth_violation *violation)
{
	struct berth_pool_impl *pool = enter(handle);
	bool good;

	if (!pool) {
		if (violation)
			*violation =
				(struct berth_violation){ refusal(handle) == -BERTH_EOPNOTSUPP ?
								  "the pool is another process's" :
								  "the handle is stale",
							  0, 0, 0 };
		return false;
	}
	good = berth_zone_check(pool->zone, violation) &&
	       berth_contig_check(pool->contig, violation) &&
	       berth__stores_check(pool, violation) && berth__leases_check(pool, violation) &&
	       berth_space_check(pool->space, violation);
	leave(handle);
	return good;
}

int64_t berth_shuffle(struct berth_pool *handle, uint64_t *cursor)
{
	struct berth_pool_impl *pool = enter(handle);
	int64_t moved = -BERTH_EINVAL;

	if (!pool)
		return refusal(handle);
	if (cursor)
		moved = berth__pool_shuffle(pool, cursor);
	leave(handle);
	return moved;
}
