/* SPDX-License-Identifier: MIT */
/*
 * Pins: frames that a device or a system call uses by address, so that they must not move.
 *
 * I1  Every block under a pinned page holds one reference of the core for each pin that touches it.
 * I2  A pinned page stays mapped: unmapping it is refused.
 *
 * A short-term pin stays where the memory is, and claims of that range fail meanwhile, naming it. A
 * long-term pin first moves the memory out of CMA areas. Complexity: O(blocks) a pin; looking up a
 * holder is O(pins), on failure paths and unmaps only.
 */
#include "vm/internal.h"

const char *berth__pin_holder_locked(struct berth_space *space, uint64_t page, uint64_t nr_pages)
{
	for (unsigned i = 0, seen = 0; seen < space->nr_pins; i++) {
		const struct berth_pin *pin = &space->pins[i];

		if (pin->nr_pages && pin->page < page + nr_pages &&
		    page < pin->page + pin->nr_pages)
			return pin->name;
		seen += pin->nr_pages != 0;
	}
	return NULL;
}

/* The block under a page: its frame numbers and the first page after it. S. */
static uint64_t block_at(struct berth_space *space, uint64_t page, berth_pfn_t *head,
			 unsigned *order)
{
	berth_pfn_t pfn = berth__entry_pfn(space, berth__entry(space, page));

	(void)berth_frame_state(space->zone, pfn, head, order);
	return page + (*head + (1ull << *order) - pfn);
}

/* Unpins the blocks under [page, end). S. */
static void unpin_blocks_locked(struct berth_space *space, uint64_t page, uint64_t end)
{
	while (page < end) {
		berth_pfn_t head;
		unsigned order;
		uint64_t next = block_at(space, page, &head, &order);

		if (berth_page_unpin(space->zone, head) != 0)
			berth__space_panic(space, "a pinned page isn't pinned", page, head);
		page = next;
	}
}

static void free_block_locked(struct berth_space *space, berth_pfn_t pfn, unsigned order)
{
	/* By range: a claim may have split it meanwhile. */
	if (berth_free_range(space->zone, pfn, 1ull << order, space->owner) != 0)
		berth__space_panic(space, "a block that moved isn't the space's", pfn, order);
}

/* Moves a block out of a CMA area for good. S. */
static int move_out_locked(struct berth_space *space, uint64_t page, berth_pfn_t src,
			   unsigned order)
{
	const char *holder;
	berth_pfn_t dst;
	int error;

	error = berth_alloc_pages(space->zone, order, BERTH_GFP_MOVABLE | BERTH_GFP_NO_CMA,
				  space->owner, page, &dst);
	if (error)
		return error;
	error = berth__move_block_locked(space, page, src, dst, order, &holder);
	if (!error)
		berth_page_unfreeze(space->zone, src);
	free_block_locked(space, error ? dst : src, order);
	return error;
}

/* Pins the blocks under [page, end); *page is where it stopped. S. */
static int pin_blocks_locked(struct berth_space *space, uint64_t *page, uint64_t end,
			     bool long_term)
{
	while (*page < end) {
		berth_pfn_t pfn = berth__entry_pfn(space, berth__entry(space, *page)), head;
		unsigned order;
		uint64_t next;
		int error = berth_page_pin(space->zone, pfn);

		if (error)
			return error == -BERTH_EAGAIN ? -BERTH_EBUSY : error;
		/* From here on it can't be split: only now its bounds mean something. */
		next = block_at(space, *page, &head, &order);
		if (!long_term || !berth_frame_in_area(space->zone, head)) {
			*page = next;
			continue;
		}
		if (berth_page_unpin(space->zone, pfn) != 0)
			berth__space_panic(space, "a pinned page isn't pinned", *page, pfn);
		error = move_out_locked(space, next - (1ull << order), head, order);
		if (error)
			return error;
	}
	return 0;
}

static struct berth_pin *free_pin_locked(struct berth_space *space)
{
	if (space->nr_pins == BERTH_MAX_PINS)
		return NULL;
	for (unsigned i = 0; i < BERTH_MAX_PINS; i++)
		if (!space->pins[i].nr_pages)
			return &space->pins[i];
	return NULL;
}

static void copy_name(struct berth_pin *pin, const char *name)
{
	unsigned i;

	for (i = 0; i < BERTH_PIN_NAME_BYTES - 1 && name[i]; i++)
		pin->name[i] = name[i];
	pin->name[i] = 0;
}

int berth_space_pin(struct berth_space *space, uint64_t page, uint64_t nr_pages, const char *name,
		    bool long_term, uint64_t *handle)
{
	struct berth_pin *pin;
	uint64_t at = page, taken = 0;
	int error = 0;

	if (!berth__in_space(space, page, nr_pages) || !name || !handle)
		return -BERTH_EINVAL;
	berth__space_lock(space);
	for (uint64_t i = 0; i < nr_pages; i++)
		if (!berth__entry_is_frame(berth__entry(space, page + i)))
			error = -BERTH_EINVAL;
	pin = error ? NULL : free_pin_locked(space);
	if (!error && !pin)
		error = -BERTH_ENOSPC;
	if (!error) {
		error = pin_blocks_locked(space, &at, page + nr_pages, long_term);
		if (error)
			unpin_blocks_locked(space, page, at);
	}
	if (!error) {
		pin->page = page;
		pin->nr_pages = nr_pages;
		copy_name(pin, name);
		pin->generation++;
		space->nr_pins++;
		taken = (uint64_t)pin->generation << 32 | (uint64_t)(pin - space->pins);
	}
	berth_mutex_unlock(&space->lock);
	if (!error)
		*handle =
			taken; /* the caller's memory may be stalled by a fork: not under the lock */
	return error;
}

int berth_space_unpin(struct berth_space *space, uint64_t handle)
{
	uint32_t index = (uint32_t)handle;
	struct berth_pin *pin;
	int error = 0;

	if (index >= BERTH_MAX_PINS)
		return -BERTH_EINVAL;
	pin = &space->pins[index];
	berth__space_lock(space);
	if (!pin->nr_pages || pin->generation != handle >> 32) {
		error = -BERTH_EINVAL;
	} else {
		unpin_blocks_locked(space, pin->page, pin->page + pin->nr_pages);
		pin->nr_pages = 0;
		space->nr_pins--;
	}
	berth_mutex_unlock(&space->lock);
	return error;
}
