/* SPDX-License-Identifier: MIT */
/*
 * Spaces: mapping frames at pages, and taking them away again.
 *
 * I1  A table word names the frame that the machine maps at that page, at every moment without the
 *     space's lock held.
 * I2  Every frame named is allocated to the space's owner with the page as its cookie.
 * I3  `mappings` counts the runs of consecutive pages whose frames are consecutive too: what the
 *     machine needs at least one mapping (VMA) for.
 *
 * Complexity: map and unmap cost one call of the machine for each run and O(1) a page for the table.
 */
#include "vm/internal.h"

#define MAX_RUN (1u << BERTH_HUGE_ORDER) /* becomes private in one piece */

_Noreturn void berth__space_panic(const struct berth_space *space, const char *what, uint64_t value,
				  uint64_t expected)
{
	space->port->panic(space->port_ctx, what, value, expected);
	for (;;) /* the port promised not to return */
		;
}

size_t berth_space_size(void)
{
	return sizeof(struct berth_space);
}

int berth_space_init(struct berth_space **out, const struct berth_space_params *params,
		     void *memory)
{
	struct berth_space *space = memory;

	if (!out || !params || !memory || ((uintptr_t)memory & 63) || !params->name ||
	    !params->zone || !params->mmu || !params->port || !params->table || !params->nr_pages ||
	    params->nr_pages > UINT32_MAX - 1)
		return -BERTH_EINVAL;
	__builtin_memset(space, 0, sizeof(*space));
	space->zone = params->zone;
	space->start_pfn = berth_zone_start_pfn(params->zone);
	space->nr_pages = params->nr_pages;
	space->page_offset = params->page_offset;
	space->mmu = params->mmu;
	space->mmu_ctx = params->mmu_ctx;
	space->port = params->port;
	space->port_ctx = params->port_ctx;
	space->mapping_budget = params->mapping_budget;
	space->table = (_Atomic uint32_t *)params->table;
	space->pending = params->pending;
	space->grain = 1u << BERTH_HUGE_ORDER;
	*out = space;
	space->ops = berth__space_owner_ops;
	space->ops.name = params->name;
	return berth_owner_register(params->zone, &space->ops, space, &space->owner);
}

uint32_t *berth_space_table(const struct berth_space *space)
{
	return (uint32_t *)space->table;
}

/* ---- The table ----------------------------------------------------------------------------------- */

/* 1 when something is at `page` that doesn't continue what is before it. */
static uint64_t begins(const struct berth_space *space, uint64_t page)
{
	uint32_t here = berth__entry(space, page);
	uint32_t before = page ? berth__entry(space, page - 1) : BERTH_ENTRY_NONE;

	if (here == BERTH_ENTRY_NONE)
		return 0;
	if (here == BERTH_ENTRY_PRIVATE)
		return before != BERTH_ENTRY_PRIVATE;
	return !berth__entry_is_frame(before) || here != before + 1;
}

/* Runs that begin in [page, end], pages of each kind in [page, end). */
static void count(const struct berth_space *space, uint64_t page, uint64_t end, uint64_t *runs,
		  uint64_t *frames, uint64_t *private_pages)
{
	*runs = *frames = *private_pages = 0;
	for (uint64_t at = page; at <= end && at < space->nr_pages; at++) {
		uint32_t entry = berth__entry(space, at);

		*runs += begins(space, at);
		if (at < end) {
			*frames += berth__entry_is_frame(entry);
			*private_pages += entry == BERTH_ENTRY_PRIVATE;
		}
	}
}

void berth__set_entries_locked(struct berth_space *space, uint64_t page, uint64_t nr_pages,
			       uint32_t entry)
{
	uint64_t end = page + nr_pages, runs, frames, private_pages;

	count(space, page, end, &runs, &frames, &private_pages);
	space->mappings -= runs;
	space->mapped -= frames;
	space->private_pages -= private_pages;
	for (uint64_t at = page; at < end; at++)
		atomic_store_explicit(&space->table[at],
				      berth__entry_is_frame(entry) ? entry + (uint32_t)(at - page) :
								     entry,
				      memory_order_relaxed);
	count(space, page, end, &runs, &frames, &private_pages);
	space->mappings += runs;
	space->mapped += frames;
	space->private_pages += private_pages;
	if (end > space->used_end)
		space->used_end = end;
}

uint64_t berth__run_end(const struct berth_space *space, uint64_t page, uint64_t end)
{
	uint32_t entry = berth__entry(space, page), step = berth__entry_is_frame(entry);

	do {
		page++;
		entry += step;
	} while (page < end && berth__entry(space, page) == entry);
	return page;
}

static bool all_are(const struct berth_space *space, uint64_t page, uint64_t nr_pages, bool mapped)
{
	for (uint64_t at = page; at < page + nr_pages; at++)
		if ((berth__entry(space, at) != BERTH_ENTRY_NONE) != mapped)
			return false;
	return true;
}

bool berth_space_is_mapped(struct berth_space *space, uint64_t page, uint64_t nr_pages)
{
	bool all;

	if (!berth__in_space(space, page, nr_pages))
		return false;
	berth__space_lock(space);
	all = all_are(space, page, nr_pages, true);
	berth_mutex_unlock(&space->lock);
	return all;
}

bool berth_space_is_unmapped(struct berth_space *space, uint64_t page, uint64_t nr_pages)
{
	bool all;

	if (!berth__in_space(space, page, nr_pages))
		return false;
	berth__space_lock(space);
	all = all_are(space, page, nr_pages, false);
	berth_mutex_unlock(&space->lock);
	return all;
}

berth_pfn_t berth_space_lookup(const struct berth_space *space, uint64_t page)
{
	uint32_t entry;

	if (!berth__in_space(space, page, 1))
		return BERTH_PFN_NONE;
	entry = berth__entry(space, page);
	return entry == BERTH_ENTRY_NONE    ? BERTH_PFN_NONE :
	       entry == BERTH_ENTRY_PRIVATE ? BERTH_PFN_PRIVATE :
					      berth__entry_pfn(space, entry);
}

/* ---- Unmapping ----------------------------------------------------------------------------------- */

/* Frees the frames of [page, end) and forgets them; the machine has let go of them. S. */
static void forget_locked(struct berth_space *space, uint64_t page, uint64_t end)
{
	while (page < end) {
		uint64_t run_end = berth__run_end(space, page, end);
		uint32_t entry = berth__entry(space, page);

		if (berth__entry_is_frame(entry) &&
		    berth_free_range(space->zone, berth__entry_pfn(space, entry), run_end - page,
				     space->owner) != 0)
			berth__space_panic(space, "a mapped frame isn't the space's", page, entry);
		berth__set_entries_locked(space, page, run_end - page, BERTH_ENTRY_NONE);
		page = run_end;
	}
}

/* A pinned block that lies only partly in [page, end): it can only be at an end. S. */
static bool cuts_pinned_locked(struct berth_space *space, uint64_t page, uint64_t end)
{
	const uint64_t edges[] = { page, end - 1 };

	for (unsigned i = 0; i < 2; i++) {
		uint32_t entry = berth__entry(space, edges[i]);

		if (berth__entry_is_frame(entry) &&
		    berth_page_pinned(space->zone, berth__entry_pfn(space, entry)))
			return true;
	}
	return false;
}

static bool held_by_pin_locked(struct berth_space *space, uint64_t page, uint64_t nr_pages)
{
	return space->nr_pins && (berth__pin_holder_locked(space, page, nr_pages) ||
				  cuts_pinned_locked(space, page, page + nr_pages));
}

int berth_space_unmap(struct berth_space *space, uint64_t page, uint64_t nr_pages)
{
	int error = 0;

	if (!berth__in_space(space, page, nr_pages))
		return -BERTH_EINVAL;
	berth__space_lock(space);
	if (held_by_pin_locked(space, page, nr_pages))
		error = -BERTH_EBUSY;
	if (!error)
		berth__push_before_locked(space, page, nr_pages);
	if (!error)
		error = space->mmu->unmap(space->mmu_ctx, page, nr_pages);
	if (!error)
		forget_locked(space, page, page + nr_pages);
	berth_mutex_unlock(&space->lock);
	return error;
}

/* One run of frames. S. */
static int make_run_private_locked(struct berth_space *space, uint64_t page, uint64_t nr_pages)
{
	berth_pfn_t pfn = berth__entry_pfn(space, berth__entry(space, page));
	int error;

	if (space->mapping_budget && space->mappings + 2 > space->mapping_budget)
		return -BERTH_ENOMEM;
	error = space->mmu->make_private(space->mmu_ctx, page, pfn, nr_pages);
	if (error)
		return error;
	if (berth_free_range(space->zone, pfn, nr_pages, space->owner) != 0)
		berth__space_panic(space, "a mapped frame isn't the space's", page, pfn);
	berth__set_entries_locked(space, page, nr_pages, BERTH_ENTRY_PRIVATE);
	return 0;
}

int berth_space_make_private(struct berth_space *space, uint64_t page, uint64_t nr_pages)
{
	uint64_t end = page + nr_pages;
	int error = 0;

	if (!berth__in_space(space, page, nr_pages))
		return -BERTH_EINVAL;
	berth__space_lock(space);
	if (held_by_pin_locked(space, page, nr_pages))
		error = -BERTH_EBUSY;
	else
		berth__push_before_locked(space, page, nr_pages);
	while (!error && page < end) {
		uint64_t limit = end - page < MAX_RUN ? end : page + MAX_RUN;
		uint64_t run_end = berth__run_end(space, page, limit);

		if (berth__entry_is_frame(berth__entry(space, page)))
			error = make_run_private_locked(space, page, run_end - page);
		page = run_end;
	}
	berth_mutex_unlock(&space->lock);
	return error;
}

/* ---- Mapping ------------------------------------------------------------------------------------- */

/* Frames that are allocated, consecutive, and not mapped yet. */
struct pending {
	uint64_t page, nr_pages;
	berth_pfn_t pfn;
};

static int flush_locked(struct berth_space *space, struct pending *pending)
{
	int error;

	if (!pending->nr_pages)
		return 0;
	if (space->mapping_budget && space->mappings + 2 > space->mapping_budget)
		error = -BERTH_ENOMEM;
	else
		error = space->mmu->prepare(space->mmu_ctx, pending->pfn, pending->nr_pages);
	if (!error)
		space->mmu->zero(space->mmu_ctx, pending->pfn, pending->nr_pages);
	if (!error)
		error = space->mmu->map(space->mmu_ctx, pending->page, pending->pfn,
					pending->nr_pages);
	if (!error)
		berth__set_entries_locked(space, pending->page, pending->nr_pages,
					  berth__pfn_entry(space, pending->pfn));
	else if (berth_free_range(space->zone, pending->pfn, pending->nr_pages, space->owner) != 0)
		berth__space_panic(space, "a fresh frame isn't the space's", pending->page, 0);
	pending->nr_pages = 0;
	return error;
}

/* The largest block that `page`'s alignment and `end` allow. */
static unsigned fitting_order(const struct berth_space *space, uint64_t page, uint64_t end,
			      unsigned order)
{
	while (order && (((page + space->page_offset) & ((1ull << order) - 1)) ||
			 end - page < 1ull << order))
		order--;
	return order;
}

/* Large orders first; a block that follows the last one joins its mapping. S. */
static int map_frames_locked(struct berth_space *space, uint64_t *page, uint64_t end,
			     unsigned max_order, unsigned gfp)
{
	struct pending pending = { 0 };
	int error = 0;

	while (*page + pending.nr_pages < end && !error) {
		uint64_t at = *page + pending.nr_pages;
		unsigned order = fitting_order(space, at, end, max_order);
		berth_pfn_t pfn;

		while ((error = berth_alloc_pages(space->zone, order, gfp, space->owner, at,
						  &pfn)) == -BERTH_ENOMEM &&
		       order > 0)
			max_order = --order; /* don't ask again for what there isn't */
		if (error)
			break;
		if (pending.nr_pages && pfn != pending.pfn + pending.nr_pages) {
			uint64_t nr = pending.nr_pages;

			error = flush_locked(space, &pending);
			if (error) { /* the new block was never part of it */
				if (berth_free_range(space->zone, pfn, 1ull << order,
						     space->owner) != 0)
					berth__space_panic(space, "lost a fresh block", at, pfn);
				break;
			}
			*page += nr;
		}
		if (!pending.nr_pages)
			pending = (struct pending){ .page = at, .pfn = pfn };
		pending.nr_pages += 1ull << order;
	}
	if (pending.nr_pages) {
		uint64_t nr = pending.nr_pages;
		int flushed = flush_locked(space, &pending);

		if (!flushed)
			*page += nr;
		if (!error)
			error = flushed;
	}
	return error;
}

int berth_space_map(struct berth_space *space, uint64_t page, uint64_t nr_pages, unsigned max_order,
		    unsigned flags)
{
	unsigned gfp = BERTH_GFP_MOVABLE | (flags & BERTH_MAP_NO_CMA ? BERTH_GFP_NO_CMA : 0u);
	uint64_t at = page, end = page + nr_pages;
	int error = 0;

	if (!berth__in_space(space, page, nr_pages) || max_order > BERTH_MAX_ORDER_LIMIT)
		return -BERTH_EINVAL;
	if (max_order > BERTH_HUGE_ORDER)
		max_order = BERTH_HUGE_ORDER;
	berth__space_lock(space);
	if (!all_are(space, page, nr_pages, false)) {
		berth_mutex_unlock(&space->lock);
		return -BERTH_EEXIST;
	}
	if (!space->detached && !(flags & BERTH_MAP_PRIVATE_ONLY))
		error = map_frames_locked(space, &at, end, max_order, gfp);
	else if (!(flags & BERTH_MAP_PRIVATE_OK))
		error = -BERTH_ESTALE;
	if (at < end && (flags & BERTH_MAP_PRIVATE_OK)) {
		error = space->mmu->map_private(space->mmu_ctx, at, end - at);
		if (!error) {
			berth__set_entries_locked(space, at, end - at, BERTH_ENTRY_PRIVATE);
			at = end;
		}
	}
	if (error && at > page && space->mmu->unmap(space->mmu_ctx, page, at - page) == 0)
		forget_locked(space, page, at);
	berth_mutex_unlock(&space->lock);
	return error;
}

/* ---- Statistics ----------------------------------------------------------------------------------- */

void berth_space_stats(struct berth_space *space, struct berth_space_stats *stats)
{
	berth__space_lock(space);
	*stats = (struct berth_space_stats){
		.mapped_pages = space->mapped,
		.private_pages = space->private_pages,
		.mappings = space->mappings,
		.moved_pages = space->moved_pages,
		.moved_runs = space->moved_runs,
		.stalled_runs = space->stalled_runs,
		.skipped_for_budget = space->skipped,
		.longest_stall_ns = space->longest_stall_ns,
		.pins = space->nr_pins,
	};
	berth_mutex_unlock(&space->lock);
}
