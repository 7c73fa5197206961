/* SPDX-License-Identifier: MIT */
/*
 * fork, the eager way: the parent's memory stands still until the child has copied it. (push.c has the other.)
 *
 * A space's mappings are shared with a child. So the parent's writes are stalled from before the
 * fork until the child has put private copies at the same addresses; from then on the child has
 * nothing to do with the zone.
 *
 * I1  Between prepare and parent (or child) the space's lock is held by the forking thread.
 *
 * Complexity: O(runs) in the parent, O(bytes) in the child, and the parent's writers wait for it.
 */
#include "vm/internal.h"

int berth__for_each_run(struct berth_space *space, int (*fn)(struct berth_space *, uint64_t page,
							     uint64_t nr_pages, berth_pfn_t pfn))
{
	for (uint64_t page = 0; page < space->used_end;) {
		uint32_t entry = berth__entry(space, page);
		uint64_t end = page + 1;
		int error;

		if (berth__entry_is_frame(entry)) {
			end = berth__run_end(space, page, space->used_end);
			error = fn(space, page, end - page, berth__entry_pfn(space, entry));
			if (error)
				return error;
		}
		page = end;
	}
	return 0;
}

#define OWN_STACK_PAGES 256u /* left alone on both sides of the caller's own page */

/* The first page at or after `page` that must not be protected, and the end of those; `end`: none. */
static uint64_t next_open(const struct berth_space *space, uint64_t page, uint64_t end,
			  uint64_t *open_end)
{
	uint64_t first = end;

	*open_end = end;
	for (unsigned i = 0, seen = 0; seen < space->nr_pins; i++) {
		const struct berth_pin *pin = &space->pins[i];
		uint64_t pin_end = pin->page + pin->nr_pages;

		seen += pin->nr_pages != 0;

		if (pin->nr_pages && pin->page < first && pin_end > page) {
			first = pin->page > page ? pin->page : page;
			*open_end = pin_end < end ? pin_end : end;
		}
	}
	if (space->own_page != UINT64_MAX) {
		uint64_t own = space->own_page > OWN_STACK_PAGES ?
				       space->own_page - OWN_STACK_PAGES :
				       0;
		uint64_t own_end = space->own_page + OWN_STACK_PAGES;

		if (own < first && own_end > page) {
			first = own > page ? own : page;
			*open_end = own_end < end ? own_end : end;
		}
	}
	return first;
}

static int for_each_closed(struct berth_space *space, uint64_t page, uint64_t end,
			   int (*fn)(struct berth_space *, uint64_t page, uint64_t nr_pages))
{
	while (page < end) {
		uint64_t open_end, open = next_open(space, page, end, &open_end);
		int error = open > page ? fn(space, page, open - page) : 0;

		if (error)
			return error;
		page = open_end;
	}
	return 0;
}

static int protect_part(struct berth_space *space, uint64_t page, uint64_t nr_pages)
{
	return space->mmu->protect(space->mmu_ctx, page, nr_pages);
}

static int unprotect_part(struct berth_space *space, uint64_t page, uint64_t nr_pages)
{
	space->mmu->unprotect(space->mmu_ctx, page, nr_pages);
	return 0;
}

static int protect_run(struct berth_space *space, uint64_t page, uint64_t nr_pages, berth_pfn_t pfn)
{
	(void)pfn;
	return for_each_closed(space, page, page + nr_pages, protect_part);
}

static int unprotect_run(struct berth_space *space, uint64_t page, uint64_t nr_pages,
			 berth_pfn_t pfn)
{
	(void)pfn;
	return for_each_closed(space, page, page + nr_pages, unprotect_part);
}

static int copy_run(struct berth_space *space, uint64_t page, uint64_t nr_pages, berth_pfn_t pfn)
{
	return space->mmu->copy_private(space->mmu_ctx, page, pfn, nr_pages);
}

int berth_space_fork_prepare(struct berth_space *space, bool protect, uint64_t own_page)
{
	int error = 0;

	berth__space_lock(space);
	if (space->detached)
		return 0;
	space->mmu->begin(space->mmu_ctx);
	space->protected_for_fork = protect;
	space->own_page = own_page;
	if (protect)
		error = berth__for_each_run(space, protect_run);
	if (error)
		berth_space_fork_parent(space);
	return error;
}

void berth_space_fork_parent(struct berth_space *space)
{
	if (!space->detached) {
		if (space->protected_for_fork)
			(void)!berth__for_each_run(space, unprotect_run);
		space->mmu->end(space->mmu_ctx);
	}
	berth_mutex_unlock(&space->lock);
}

static int forget_run(struct berth_space *space, uint64_t page, uint64_t nr_pages, berth_pfn_t pfn)
{
	(void)pfn;
	berth__set_entries_locked(space, page, nr_pages, BERTH_ENTRY_PRIVATE);
	return 0;
}

void berth__detach_locked(struct berth_space *space)
{
	(void)!berth__for_each_run(space, forget_run);
	space->mmu->forget_protection(space->mmu_ctx);
	space->detached = true;
	space->pushing = false;
	space->nr_pins = 0;
	for (unsigned i = 0; i < BERTH_MAX_PINS; i++)
		space->pins[i].nr_pages = 0;
	space->mmu->end(space->mmu_ctx);
}

bool berth_space_leave(struct berth_space *space)
{
	bool left;

	berth__space_lock(space);
	left = space->detached;
	if (!left && !space->mapped) {
		space->mmu->begin(space->mmu_ctx);
		berth__detach_locked(space);
		left = true;
	}
	berth_mutex_unlock(&space->lock);
	return left;
}

int berth_space_fork_child(struct berth_space *space)
{
	int error = 0;

	if (!space->detached) {
		error = berth__for_each_run(space, copy_run);
		if (!error)
			berth__detach_locked(space);
	}
	/* Who had the turn isn't here, nor who waits: between two groups a mover doesn't have the space's lock. And
	 * what it has asked the machine for is the parent's. */
	space->turn = (berth_mutex_t)BERTH_MUTEX_INIT;
	space->awake = false;
	atomic_store_explicit(&space->next_movers, 0, memory_order_relaxed);
	atomic_store_explicit(&space->waiters, 0, memory_order_relaxed);
	berth_mutex_unlock(&space->lock);
	return error;
}

int berth_space_attach(struct berth_space *space, struct berth_zone *zone)
{
	int error = -BERTH_EINVAL;

	berth__space_lock(space);
	if (space->detached)
		error = berth_owner_register(zone, &space->ops, space, &space->owner);
	if (!error) {
		space->zone = zone;
		space->start_pfn = berth_zone_start_pfn(zone);
		space->detached = false;
	}
	berth_mutex_unlock(&space->lock);
	return error;
}
