/* SPDX-License-Identifier: MIT */
/*
 * Memblock: the lists of memory and reserved regions, how they change and grow, and walking them.
 *
 * I1  A list is ascending and disjoint, no region is empty, and none ends beyond BERTH_PHYS_MAX.
 * I2  Neighbours that touch differ in flags or node.
 * I3  total_bytes is the sum of the list's sizes.
 * I4  An array that memblock has allocated for itself is reserved.
 *
 * Every change of a list is one edit of one range. It is run twice over the regions that touch the
 * range: once to count, so that the array can grow or the call be refused before anything changes,
 * and once to write. Both runs share the code, so they can't disagree.
 *
 * Complexity: a look-up O(log regions); a change O(log regions + regions behind the range), which is
 * a memmove.
 */
#include <berth/memblock.h>

#include "core/frames/internal.h"

#define MAX_REGIONS (1u << 28) /* that an array can grow to */
/* Of memory that nobody may allocate, whether it is reserved or not. */
#define WITHHELD_FLAGS (BERTH_MEMBLOCK_NOMAP | BERTH_MEMBLOCK_DRIVER)

static berth_phys_t end_of(const struct berth_memblock_region *region)
{
	return region->base + region->size_bytes;
}

static berth_phys_t lower(berth_phys_t a, berth_phys_t b)
{
	return a < b ? a : b;
}

static berth_phys_t higher(berth_phys_t a, berth_phys_t b)
{
	return a > b ? a : b;
}

/* The end of a range that is cut where addresses end. */
static berth_phys_t range_end(berth_phys_t base, uint64_t size_bytes)
{
	return size_bytes < BERTH_PHYS_MAX - base ? base + size_bytes : BERTH_PHYS_MAX;
}

/* The first region that ends behind the address; nr: none does. */
static uint32_t first_behind(const struct berth_memblock_list *list, berth_phys_t address)
{
	uint32_t from = 0, to = list->nr;

	while (from < to) {
		uint32_t middle = from + (to - from) / 2;

		if (end_of(&list->regions[middle]) > address)
			to = middle;
		else
			from = middle + 1;
	}
	return from;
}

/* ---- Edits ------------------------------------------------------------------------------------- */

enum edit_kind {
	EDIT_INSERT, /* what isn't covered becomes a region with `flags` and `node` */
	EDIT_DROP,   /* what is covered goes, but for regions with a flag of `flags` */
	EDIT_MARK,   /* what is covered gets `flags` and loses `clear` */
	EDIT_NODE,   /* what is covered gets `node` */
};

struct edit {
	berth_phys_t base, end;
	enum edit_kind kind;
	uint32_t flags, clear, node;
};

/* What comes out of an edit, piece by piece in ascending order; pieces that belong together merge. */
struct output {
	struct berth_memblock_region *regions; /* NULL: only count */
	struct berth_memblock_region last;     /* not written yet, it may still grow */
	uint32_t written;
	uint32_t unread, peak; /* input left; the most that `written + unread` was */
	uint64_t bytes;
};

static void flush(struct output *output)
{
	if (!output->last.size_bytes)
		return;
	if (output->regions)
		output->regions[output->written] = output->last;
	output->written++;
	if (output->written + output->unread > output->peak)
		output->peak = output->written + output->unread;
	output->last.size_bytes = 0;
}

static void put(struct output *output, berth_phys_t base, berth_phys_t end, uint32_t flags,
		uint32_t node)
{
	struct berth_memblock_region *last = &output->last;

	if (base >= end)
		return;
	output->bytes += end - base;
	if (last->size_bytes && end_of(last) == base && last->flags == flags &&
	    last->node == node) {
		last->size_bytes += end - base;
		return;
	}
	flush(output);
	*last = (struct berth_memblock_region){ base, end - base, flags, node };
}

/* The part of a region that the edit covers. */
static void put_covered(struct output *output, const struct edit *edit, berth_phys_t base,
			berth_phys_t end, const struct berth_memblock_region *region)
{
	uint32_t flags = region->flags, node = region->node;

	if (edit->kind == EDIT_DROP && !(flags & edit->flags))
		return;
	if (edit->kind == EDIT_MARK)
		flags = (flags | edit->flags) & ~edit->clear;
	if (edit->kind == EDIT_NODE)
		node = edit->node;
	put(output, base, end, flags, node);
}

/* The gap from `at` to `end` within the edited range; returns the end. */
static berth_phys_t put_gap(struct output *output, const struct edit *edit, berth_phys_t at,
			    berth_phys_t end)
{
	if (edit->kind == EDIT_INSERT)
		put(output, at, end, edit->flags, edit->node);
	return end;
}

/* Rewrites regions[0 .. nr), which are all that touch the edited range. */
static void rewrite(const struct berth_memblock_region *regions, uint32_t nr,
		    const struct edit *edit, struct output *output)
{
	berth_phys_t at = edit->base; /* up to here the edited range is done */

	for (uint32_t i = 0; i < nr; i++) {
		struct berth_memblock_region r = regions[i]; /* may be overwritten from here on */
		berth_phys_t end = end_of(&r), from = higher(r.base, edit->base),
			     to = lower(end, edit->end);

		output->unread--;
		put(output, r.base, lower(end, edit->base), r.flags, r.node);
		if (from < to) {
			put_gap(output, edit, at, from);
			put_covered(output, edit, from, to, &r);
			at = to;
		}
		if (end > edit->end) {
			at = put_gap(output, edit, at, edit->end);
			put(output, higher(r.base, edit->end), end, r.flags, r.node);
		}
	}
	put_gap(output, edit, at, edit->end);
	flush(output);
}

/* The regions [first, last) that touch the edit's range, if only from outside. */
struct touched {
	uint32_t first, last;
};

static struct touched find_touched(const struct berth_memblock_list *list, const struct edit *edit)
{
	struct touched touched;

	touched.first = edit->base ? first_behind(list, edit->base - 1) : 0;
	touched.last = first_behind(list, edit->end);
	if (touched.last < list->nr && list->regions[touched.last].base <= edit->end)
		touched.last++;
	return touched;
}

/* The room that the list's array must have for this edit. */
static uint32_t room_for(const struct berth_memblock_list *list, const struct edit *edit)
{
	struct touched touched = find_touched(list, edit);
	struct output output = { .written = touched.first, .unread = list->nr - touched.first };

	rewrite(&list->regions[touched.first], touched.last - touched.first, edit, &output);
	return output.peak > list->nr ? output.peak : list->nr;
}

/* The edit itself; there is room_for() it. */
static void apply(struct berth_memblock_list *list, const struct edit *edit)
{
	struct touched touched = find_touched(list, edit);
	uint32_t behind = list->nr - touched.first;
	struct berth_memblock_region *regions = list->regions,
				     *moved = regions + list->max - behind;
	struct output output = {
		.regions = regions,
		.written = touched.first,
		.unread = behind,
	};

	/* Read from the end of the array, write behind what stays. */
	__builtin_memmove(moved, regions + touched.first, behind * sizeof(*regions));
	for (uint32_t i = 0; i < touched.last - touched.first; i++)
		list->total_bytes -= moved[i].size_bytes;
	rewrite(moved, touched.last - touched.first, edit, &output);
	list->total_bytes += output.bytes;
	behind = list->nr - touched.last;
	__builtin_memmove(regions + output.written, regions + list->max - behind,
			  behind * sizeof(*regions));
	list->nr = output.written + behind;
}

/* ---- Growing ----------------------------------------------------------------------------------- */

static bool holds_array(const struct berth_memblock_list *list, berth_phys_t base, berth_phys_t end)
{
	return list->array_bytes && list->array_base < end &&
	       list->array_base + list->array_bytes > base;
}

bool berth__memblock_in_use(const struct berth_memblock *memblock, uint64_t base, uint64_t end)
{
	return holds_array(&memblock->memory, base, end) ||
	       holds_array(&memblock->reserved, base, end);
}

/* Doubles max until it is enough; 0: too much. */
static uint32_t doubled(uint32_t max, uint32_t enough)
{
	while (max < enough && max <= MAX_REGIONS / 2)
		max *= 2;
	return max < enough ? 0 : max;
}

static size_t array_bytes(uint32_t max)
{
	return (size_t)max * sizeof(struct berth_memblock_region);
}

/* Gives the list another array. */
static void move_to(struct berth_memblock_list *list, void *array, uint32_t max)
{
	__builtin_memcpy(array, list->regions, array_bytes(list->nr));
	list->regions = array;
	list->max = max;
}

/* From the caller's allocator. */
static int grow_elsewhere(struct berth_memblock *memblock, struct berth_memblock_list *list,
			  uint32_t max)
{
	void *old = list->regions, *array = memblock->ops->alloc(memblock->ctx, array_bytes(max));

	if (!array)
		return -BERTH_ENOMEM;
	move_to(list, array, max);
	if (list->allocated_bytes)
		memblock->ops->free(memblock->ctx, old, list->allocated_bytes);
	list->allocated_bytes = array_bytes(max);
	return 0;
}

static uint64_t whole_pages(uint64_t bytes)
{
	return (bytes + BERTH_PAGE_SIZE - 1) & ~(uint64_t)(BERTH_PAGE_SIZE - 1);
}

/* True when the edit takes free memory away, so that an array can't be there. */
static bool takes_memory(const struct berth_memblock *memblock,
			 const struct berth_memblock_list *list, const struct edit *edit)
{
	if (list == &memblock->reserved)
		return edit->kind == EDIT_INSERT;
	return edit->kind == EDIT_DROP ||
	       (edit->kind == EDIT_MARK && (edit->flags & WITHHELD_FLAGS));
}

/* A free place for arrays outside [avoid_base, avoid_end). */
static int find_outside(const struct berth_memblock *memblock, uint64_t bytes,
			berth_phys_t avoid_base, berth_phys_t avoid_end, berth_phys_t *base)
{
	struct berth_memblock_request request = {
		.size_bytes = bytes,
		.align_bytes = BERTH_PAGE_SIZE,
		.min = avoid_end,
		.node = BERTH_MEMBLOCK_ANY_NODE,
	};

	if (berth_memblock_find(memblock, &request, base) == 0)
		return 0;
	request.min = 0;
	request.max = lower(avoid_base, memblock->limit);
	return request.max ? berth_memblock_find(memblock, &request, base) : -BERTH_ENOMEM;
}

static void drop_array(struct berth_memblock *memblock, berth_phys_t base, uint64_t bytes)
{
	struct edit edit = { .base = base, .end = base + bytes, .kind = EDIT_DROP };

	if (bytes)
		apply(&memblock->reserved, &edit);
}

/*
 * From memblock itself. The new array is reserved, and an old one freed, which may need three more
 * reserved regions; if they don't fit, that array grows as well, into the same block.
 */
static int grow_inside(struct berth_memblock *memblock, struct berth_memblock_list *list,
		       uint32_t enough, const struct edit *edit)
{
	struct berth_memblock_list *reserved = &memblock->reserved;
	struct berth_memblock_list before_list = *list, before_reserved = *reserved;
	uint32_t max_reserved = doubled(reserved->max,
					(list == reserved ? enough : reserved->nr) + 3);
	uint32_t max = list == reserved ? 0 : doubled(list->max, enough);
	bool avoid = takes_memory(memblock, list, edit);
	bool both = list != reserved && max_reserved > reserved->max;
	uint64_t bytes = max ? whole_pages(array_bytes(max)) : 0,
		 reserved_bytes = list == reserved || both ?
					  whole_pages(array_bytes(max_reserved)) :
					  0;
	struct edit taken = { .kind = EDIT_INSERT, .node = BERTH_MEMBLOCK_ANY_NODE };
	char *arrays;

	if (!max_reserved || (list != reserved && !max) ||
	    find_outside(memblock, bytes + reserved_bytes, avoid ? edit->base : 0,
			 avoid ? edit->end : 0, &taken.base) != 0)
		return -BERTH_ENOMEM;
	taken.end = taken.base + bytes + reserved_bytes;
	arrays = memblock->ops->map(memblock->ctx, taken.base, bytes + reserved_bytes);
	if (!arrays || (uintptr_t)arrays % _Alignof(struct berth_memblock_region))
		return -BERTH_ENOMEM;
	if (bytes) {
		move_to(list, arrays, max);
		list->array_base = taken.base;
		list->array_bytes = bytes;
	}
	if (reserved_bytes) {
		move_to(reserved, arrays + bytes, max_reserved);
		reserved->array_base = taken.base + bytes;
		reserved->array_bytes = reserved_bytes;
	}
	apply(reserved, &taken);
	if (bytes)
		drop_array(memblock, before_list.array_base, before_list.array_bytes);
	if (reserved_bytes)
		drop_array(memblock, before_reserved.array_base, before_reserved.array_bytes);
	return 0;
}

/* Makes room for the edit. */
static int prepare(struct berth_memblock *memblock, struct berth_memblock_list *list,
		   const struct edit *edit)
{
	uint32_t enough = room_for(list, edit), max;
	int error;

	if (enough <= list->max)
		return 0;
	max = doubled(list->max, enough);
	if (!memblock->ops || !max)
		return -BERTH_ENOMEM;
	if (memblock->ops->alloc)
		error = grow_elsewhere(memblock, list, max);
	else if (memblock->ops->map && !memblock->handed_over)
		error = grow_inside(memblock, list, enough, edit);
	else
		error = -BERTH_ENOMEM;
	return error;
}

static int change(struct berth_memblock *memblock, struct berth_memblock_list *list,
		  const struct edit *edit)
{
	int error;

	if (memblock->handed_over)
		return -BERTH_EBUSY;
	if (edit->base >= edit->end)
		return 0;
	error = prepare(memblock, list, edit);
	if (!error)
		apply(list, edit);
	return error;
}

/* ---- Setting up -------------------------------------------------------------------------------- */

int berth_memblock_init(struct berth_memblock *memblock, const struct berth_memblock_params *params)
{
	if (!memblock || !params || !params->memory || !params->reserved || !params->max_memory ||
	    !params->max_reserved || params->max_memory > MAX_REGIONS ||
	    params->max_reserved > MAX_REGIONS)
		return -BERTH_EINVAL;
	if (params->ops && !params->ops->alloc != !params->ops->free)
		return -BERTH_EINVAL;
	__builtin_memset(memblock, 0, sizeof(*memblock));
	memblock->memory.regions = params->memory;
	memblock->memory.max = params->max_memory;
	memblock->reserved.regions = params->reserved;
	memblock->reserved.max = params->max_reserved;
	memblock->ops = params->ops;
	memblock->ctx = params->ctx;
	memblock->limit = BERTH_PHYS_MAX;
	memblock->bottom_up = params->bottom_up;
	memblock->movable_node = params->movable_node;
	return 0;
}

void berth_memblock_destroy(struct berth_memblock *memblock)
{
	if (memblock->memory.allocated_bytes)
		memblock->ops->free(memblock->ctx, memblock->memory.regions,
				    memblock->memory.allocated_bytes);
	if (memblock->reserved.allocated_bytes)
		memblock->ops->free(memblock->ctx, memblock->reserved.regions,
				    memblock->reserved.allocated_bytes);
	__builtin_memset(memblock, 0, sizeof(*memblock));
}

void berth_memblock_set_limit(struct berth_memblock *memblock, berth_phys_t limit)
{
	memblock->limit = limit;
}

void berth_memblock_set_bottom_up(struct berth_memblock *memblock, bool bottom_up)
{
	memblock->bottom_up = bottom_up;
}

/* ---- Regions ----------------------------------------------------------------------------------- */

int berth_memblock_add(struct berth_memblock *memblock, berth_phys_t base, uint64_t size_bytes,
		       uint32_t node, unsigned flags)
{
	struct edit edit = { base, range_end(base, size_bytes), EDIT_INSERT, flags, 0, node };
	int error = flags & ~BERTH_MEMBLOCK_ALL_FLAGS ? -BERTH_EINVAL :
							change(memblock, &memblock->memory, &edit);

	if (!error && (flags & BERTH_MEMBLOCK_MIRROR))
		memblock->has_mirror = true;
	return error;
}

int berth_memblock_remove(struct berth_memblock *memblock, berth_phys_t base, uint64_t size_bytes)
{
	struct edit edit = { .base = base, .end = range_end(base, size_bytes), .kind = EDIT_DROP };

	if (edit.base < edit.end && berth__memblock_in_use(memblock, edit.base, edit.end))
		return -BERTH_EBUSY;
	return change(memblock, &memblock->memory, &edit);
}

int berth_memblock_reserve(struct berth_memblock *memblock, berth_phys_t base, uint64_t size_bytes)
{
	struct edit edit = { .base = base,
			     .end = range_end(base, size_bytes),
			     .kind = EDIT_INSERT,
			     .node = BERTH_MEMBLOCK_ANY_NODE };

	return change(memblock, &memblock->reserved, &edit);
}

int berth_memblock_free(struct berth_memblock *memblock, berth_phys_t base, uint64_t size_bytes)
{
	struct edit edit = { .base = base, .end = range_end(base, size_bytes), .kind = EDIT_DROP };

	if (edit.base < edit.end && berth__memblock_in_use(memblock, edit.base, edit.end))
		return -BERTH_EBUSY;
	return change(memblock, &memblock->reserved, &edit);
}

int berth_memblock_mark(struct berth_memblock *memblock, berth_phys_t base, uint64_t size_bytes,
			unsigned set, unsigned clear)
{
	struct edit edit = { base, range_end(base, size_bytes), EDIT_MARK, set, clear, 0 };
	int error = (set | clear) & ~BERTH_MEMBLOCK_ALL_FLAGS || (set & clear) ?
			    -BERTH_EINVAL :
			    change(memblock, &memblock->memory, &edit);

	if (!error && (set & BERTH_MEMBLOCK_MIRROR))
		memblock->has_mirror = true;
	return error;
}

int berth_memblock_set_node(struct berth_memblock *memblock, berth_phys_t base, uint64_t size_bytes,
			    uint32_t node)
{
	struct edit edit = { base, range_end(base, size_bytes), EDIT_NODE, 0, 0, node };

	return change(memblock, &memblock->memory, &edit);
}

/* Forgets what lies outside [base, end), but for memory with one of the flags `keep`. Cutting at the
 * outside makes no list longer, so this can't fail half-way. */
static int forget_outside(struct berth_memblock *memblock, berth_phys_t base, berth_phys_t end,
			  uint32_t keep)
{
	struct edit below = { .end = base, .kind = EDIT_DROP, .flags = keep };
	struct edit above = { .base = end, .end = BERTH_PHYS_MAX, .kind = EDIT_DROP, .flags = keep };

	if (memblock->handed_over || berth__memblock_in_use(memblock, 0, base) ||
	    berth__memblock_in_use(memblock, end, BERTH_PHYS_MAX))
		return -BERTH_EBUSY;
	if (below.base < below.end)
		apply(&memblock->memory, &below);
	if (above.base < above.end)
		apply(&memblock->memory, &above);
	below.flags = above.flags = 0;
	if (below.base < below.end)
		apply(&memblock->reserved, &below);
	if (above.base < above.end)
		apply(&memblock->reserved, &above);
	return 0;
}

int berth_memblock_enforce_limit(struct berth_memblock *memblock, uint64_t limit_bytes)
{
	const struct berth_memblock_list *memory = &memblock->memory;

	if (memblock->handed_over)
		return -BERTH_EBUSY;
	if (!limit_bytes)
		return 0;
	for (uint32_t i = 0; i < memory->nr; i++) {
		if (limit_bytes <= memory->regions[i].size_bytes)
			return forget_outside(memblock, 0, memory->regions[i].base + limit_bytes,
					      0);
		limit_bytes -= memory->regions[i].size_bytes;
	}
	return 0;
}

int berth_memblock_cap(struct berth_memblock *memblock, berth_phys_t base, uint64_t size_bytes)
{
	if (!size_bytes && !memblock->handed_over)
		return 0;
	return forget_outside(memblock, base, range_end(base, size_bytes), BERTH_MEMBLOCK_NOMAP);
}

int berth_memblock_trim(struct berth_memblock *memblock, uint64_t align_bytes)
{
	struct berth_memblock_list *memory = &memblock->memory;
	uint64_t mask = align_bytes - 1;
	uint32_t nr = 0;

	if (!align_bytes || (align_bytes & mask))
		return -BERTH_EINVAL;
	if (memblock->handed_over)
		return -BERTH_EBUSY;
	for (uint32_t i = 0; i < memory->nr; i++) {
		struct berth_memblock_region r = memory->regions[i];
		berth_phys_t base = (r.base + mask) & ~mask, end = end_of(&r) & ~mask;

		memory->total_bytes -= r.size_bytes;
		if (base < r.base || base >= end) /* beyond all addresses; too small */
			continue;
		r.base = base;
		r.size_bytes = end - base;
		memory->total_bytes += r.size_bytes;
		memory->regions[nr++] = r;
	}
	memory->nr = nr;
	return 0;
}

/* ---- Looking ----------------------------------------------------------------------------------- */

/* The first address of [base, end) that isn't covered by the list, or end. */
static berth_phys_t covered_until(const struct berth_memblock_list *list, berth_phys_t base,
				  berth_phys_t end)
{
	for (uint32_t i = first_behind(list, base); i < list->nr && base < end; i++) {
		if (list->regions[i].base > base)
			break;
		base = end_of(&list->regions[i]);
	}
	return lower(base, end);
}

static bool covers(const struct berth_memblock_list *list, berth_phys_t base, uint64_t size_bytes)
{
	return size_bytes && size_bytes <= BERTH_PHYS_MAX - base &&
	       covered_until(list, base, base + size_bytes) == base + size_bytes;
}

static bool overlaps(const struct berth_memblock_list *list, berth_phys_t base, uint64_t size_bytes)
{
	uint32_t i = first_behind(list, base);

	return size_bytes && i < list->nr && list->regions[i].base < range_end(base, size_bytes);
}

bool berth_memblock_is_memory(const struct berth_memblock *memblock, berth_phys_t base,
			      uint64_t size_bytes)
{
	return covers(&memblock->memory, base, size_bytes);
}

bool berth_memblock_is_reserved(const struct berth_memblock *memblock, berth_phys_t base,
				uint64_t size_bytes)
{
	return covers(&memblock->reserved, base, size_bytes);
}

bool berth_memblock_overlaps_memory(const struct berth_memblock *memblock, berth_phys_t base,
				    uint64_t size_bytes)
{
	return overlaps(&memblock->memory, base, size_bytes);
}

bool berth_memblock_overlaps_reserved(const struct berth_memblock *memblock, berth_phys_t base,
				      uint64_t size_bytes)
{
	return overlaps(&memblock->reserved, base, size_bytes);
}

const struct berth_memblock_region *berth_memblock_region_at(const struct berth_memblock *memblock,
							     berth_phys_t address)
{
	const struct berth_memblock_list *memory = &memblock->memory;
	uint32_t i = first_behind(memory, address);

	return i < memory->nr && memory->regions[i].base <= address ? &memory->regions[i] : NULL;
}

/* ---- Iterating --------------------------------------------------------------------------------- */

static bool next(const struct berth_memblock_list *list, berth_phys_t *at,
		 struct berth_memblock_region *range)
{
	uint32_t i = first_behind(list, *at);

	if (i == list->nr)
		return false;
	*range = list->regions[i];
	*at = end_of(range);
	return true;
}

bool berth_memblock_next_memory(const struct berth_memblock *memblock, berth_phys_t *at,
				struct berth_memblock_region *range)
{
	return next(&memblock->memory, at, range);
}

bool berth_memblock_next_reserved(const struct berth_memblock *memblock, berth_phys_t *at,
				  struct berth_memblock_region *range)
{
	return next(&memblock->reserved, at, range);
}

bool berth_memblock_next_free(const struct berth_memblock *memblock, berth_phys_t *at,
			      struct berth_memblock_region *range)
{
	const struct berth_memblock_list *memory = &memblock->memory,
					 *reserved = &memblock->reserved;

	for (uint32_t i = first_behind(memory, *at); i < memory->nr; i++) {
		const struct berth_memblock_region *m = &memory->regions[i];
		berth_phys_t end = end_of(m), base;
		uint32_t r;

		if (m->flags & WITHHELD_FLAGS)
			continue;
		base = covered_until(reserved, higher(m->base, *at), end);
		if (base == end)
			continue;
		r = first_behind(reserved, base);
		if (r < reserved->nr)
			end = lower(end, reserved->regions[r].base);
		*range = (struct berth_memblock_region){ base, end - base, m->flags, m->node };
		*at = end;
		return true;
	}
	return false;
}

/* How many regions begin below the address. */
static uint32_t nr_below(const struct berth_memblock_list *list, berth_phys_t address)
{
	uint32_t i = address ? first_behind(list, address - 1) : 0;

	return i < list->nr && list->regions[i].base < address ? i + 1 : i;
}

bool berth_memblock_previous_free(const struct berth_memblock *memblock, berth_phys_t *at,
				  struct berth_memblock_region *range)
{
	const struct berth_memblock_list *memory = &memblock->memory,
					 *reserved = &memblock->reserved;

	for (uint32_t i = nr_below(memory, *at); i > 0; i--) {
		const struct berth_memblock_region *m = &memory->regions[i - 1];
		berth_phys_t end = lower(end_of(m), *at), base = m->base;
		uint32_t r = nr_below(reserved, end);

		if (m->flags & WITHHELD_FLAGS)
			continue;
		for (; r > 0 && end > base && end_of(&reserved->regions[r - 1]) >= end; r--)
			end = reserved->regions[r - 1].base;
		if (end <= base)
			continue;
		if (r > 0)
			base = higher(base, end_of(&reserved->regions[r - 1]));
		*range = (struct berth_memblock_region){ base, end - base, m->flags, m->node };
		*at = base;
		return true;
	}
	return false;
}

/* ---- For hand_over.c --------------------------------------------------------------------------- */

int berth__memblock_prepare_free(struct berth_memblock *memblock, uint64_t base, uint64_t end)
{
	struct edit edit = { .base = base, .end = end, .kind = EDIT_DROP };

	return prepare(memblock, &memblock->reserved, &edit);
}

void berth__memblock_free_prepared(struct berth_memblock *memblock, uint64_t base, uint64_t end)
{
	struct edit edit = { .base = base, .end = end, .kind = EDIT_DROP };

	apply(&memblock->reserved, &edit);
}
