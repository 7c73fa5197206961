/* SPDX-License-Identifier: MIT */
/*
 * Range choice, block by block: what ranges cost exactly that begin in one pageblock.
 *
 * I1  Between two block boundaries that a window's ends meet its cost is linear: so only starts beside such
 *     boundaries are looked at, the first and the last legal one.
 *
 * Complexity: O(blocks of three pageblocks), under one hold of the zone lock.
 */
#include "core/alloc/range.h"

/* A block, or the part of it in one pageblock and inside or outside of another claim's range. */
struct part {
	berth_idx_t start, end;
	bool used, blocked;
	uint32_t frame_ns, block_ns; /* what each frame costs, and all of it together besides */
};

/* Ranges that other claims are emptying are in the way. */
static void cut_by_claims(const struct berth_choice *choice, berth_idx_t idx, struct part *part)
{
	const struct berth_isolation *other;

	while ((other = berth__isolation_in_locked(choice->zone, idx, part->end))) {
		if (other->start > idx) {
			part->end = other->start;
			continue;
		}
		part->blocked = true;
		part->start = part->start < other->start ? other->start : part->start;
		part->end = part->end > other->end ? other->end : part->end;
		break;
	}
}

/* What holds up a used block. */
static bool held(const struct berth_choice *choice, berth_idx_t head, berth_idx_t end)
{
	const struct berth_search *search = choice->search;
	const struct berth_zone *zone = choice->zone;

	if (search->ignore_pins)
		return false;
	return atomic_load_explicit(&zone->frames[head].refcount, memory_order_relaxed) > 1 ||
	       (choice->busy_clock &&
		berth__is_busy(berth__pageblock(zone, head), choice->busy_clock)) ||
	       berth__avoided(search, head, end);
}

static bool is_dropped(const struct berth_choice *choice, berth_idx_t head)
{
	return choice->zone->lru_state &&
	       berth__drops(choice->zone, choice->cost_kind,
			    berth__discardable(berth__lru_state(choice->zone, head)));
}

static struct part part_at(const struct berth_choice *choice, berth_idx_t idx)
{
	const struct berth_search *search = choice->search;
	const struct berth_zone *zone = choice->zone;
	uint32_t tag;
	berth_idx_t head = berth__find(zone, idx, &tag), first = idx & ~(choice->size - 1);
	struct part part = { .start = idx,
			     .end = idx + 1,
			     .used = true,
			     .blocked = search->free_only,
			     .frame_ns = choice->cost.copy_ns,
			     .block_ns = choice->cost.remap_ns };

	if (head == BERTH_IDX_NONE) /* on its way through a per-CPU list */
		return part;
	part.start = head < first ? first : head;
	part.end = head + berth__pages(berth__tag_order(tag));
	switch (berth__tag_kind(tag)) {
	case BERTH_FRAME_FREE:
		part.used = part.blocked = false;
		part.frame_ns = part.block_ns = 0;
		break;
	case BERTH_FRAME_PCP:
		break;
	case BERTH_FRAME_USED:
		part.blocked |= held(choice, head, part.end);
		if (is_dropped(choice, head)) {
			part.frame_ns = choice->cost.drop_ns;
			part.block_ns = 0;
		}
		break;
	default:
		part.blocked = true;
		break;
	}
	if (part.end - first > choice->size)
		part.end = first + choice->size;
	if (!search->ignore_pins && zone->isolations &&
	    berth__pageblock_set(berth__pageblock(zone, idx)) == BERTH_ISOLATE)
		cut_by_claims(choice, idx, &part);
	return part;
}

/* Window [at, at + nr): its cost, and how many of its blocks are in the way. */
struct window {
	berth_idx_t at;
	uint64_t cost, blocked;
	struct part left, right; /* at its first frame, and at the first behind it */
	bool right_begun;        /* part of `right` is in it */
};

static void add_parts(const struct berth_choice *choice, struct window *window, berth_idx_t idx,
		      berth_idx_t end)
{
	while (idx < end) {
		struct part part = part_at(choice, idx);
		berth_idx_t to = part.end < end ? part.end : end;

		window->cost += (uint64_t)part.frame_ns * (to - idx) + part.block_ns;
		window->blocked += part.blocked;
		idx = to;
	}
}

static void open_window(const struct berth_choice *choice, struct window *window, berth_idx_t at,
			const struct berth_inner *inner)
{
	unsigned shift = choice->zone->pageblock_order;
	berth_idx_t end = at + choice->search->nr;

	*window = (struct window){ .at = at };
	if (inner->nr) {
		add_parts(choice, window, at, inner->first << shift);
		add_parts(choice, window, (inner->first + inner->nr) << shift, end);
		window->cost += inner->cost;
	} else {
		add_parts(choice, window, at, end);
	}
	window->left = part_at(choice, at);
	if (end < choice->search->hi) {
		window->right = part_at(choice, end);
		window->right_begun = window->right.start < end;
	}
}

/*
 * Starts between the window's and `distance` later, both excluded: the cost is linear there, so the
 * first and the last one will do. The last one may cross a boundary: only if a block has boundaries in its inside,
 * since both are aligned, and then both ends of the window are in that block, and the first one costs as little.
 */
static void consider_between(struct berth_choice *choice, const struct window *window,
			     berth_idx_t distance)
{
	const struct berth_search *search = choice->search;
	bool begins = !window->right_begun;
	uint64_t first = berth__legal_up(search, (uint64_t)window->at + 1), last;
	uint64_t cost = window->cost + (begins ? window->right.block_ns : 0);

	if (first >= (uint64_t)window->at + distance ||
	    window->blocked + (begins && window->right.blocked))
		return;
	last = ((uint64_t)window->at + distance - 1) & ~((uint64_t)search->step - 1);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t at = i ? last : first, moved = at - window->at;

		berth__consider(choice, (berth_idx_t)at,
				cost + moved * window->right.frame_ns -
					moved * window->left.frame_ns);
	}
}

/* Slides the window to where one of its ends meets the next block. False: it can't go on. */
static bool slide(struct berth_choice *choice, struct window *window)
{
	berth_idx_t distance = window->left.end - window->at, end = window->at + choice->search->nr;

	if (window->at >= choice->last)
		return false;
	if (window->right.end - end < distance)
		distance = window->right.end - end;
	if (choice->last - window->at < distance)
		distance = choice->last - window->at;
	if (distance > 1)
		consider_between(choice, window, distance);
	if (!window->right_begun) {
		window->cost += window->right.block_ns;
		window->blocked += window->right.blocked;
	}
	window->cost += (uint64_t)window->right.frame_ns * distance;
	window->cost -= (uint64_t)window->left.frame_ns * distance;
	window->at += distance;
	end += distance;
	window->right_begun = window->right.end != end;
	if (!window->right_begun && end < choice->search->hi)
		window->right = part_at(choice, end);
	if (window->left.end == window->at) {
		window->cost -= window->left.block_ns;
		window->blocked -= window->left.blocked;
		window->left = part_at(choice, window->at);
	}
	return true;
}

void berth__sweep(struct berth_choice *choice, uint64_t first, uint64_t stop,
		  const struct berth_inner *inner)
{
	const struct berth_search *search = choice->search;
	struct window window;

	first = berth__legal_up(search, first < search->lo ? search->lo : first);
	if (first >= stop || first > choice->last)
		return;
	choice->swept_ns += (uint64_t)FRAME_NS * choice->size;
	berth_lock(&choice->zone->lock);
	open_window(choice, &window, (berth_idx_t)first, inner);
	do {
		if (!window.blocked && berth__legal_up(search, window.at) == window.at)
			berth__consider(choice, window.at, window.cost);
	} while (!berth__enough(choice) &&
		 berth__legal_up(search, (uint64_t)window.at + 1) < stop &&
		 slide(choice, &window) && window.at < stop);
	berth_unlock(&choice->zone->lock);
}

/* Where a run of free frames ends that goes on at the pageblock boundary `at`, after a pageblock at most. */
static berth_idx_t run_end(const struct berth_choice *choice, berth_idx_t at)
{
	berth_idx_t stop = at + choice->size;

	while (at < choice->search->hi && at < stop) {
		struct part part = part_at(choice, at);

		if (part.used || part.blocked)
			break;
		at = part.end;
	}
	return at;
}

berth_idx_t berth__free_run_locked(const struct berth_choice *choice, uint32_t number,
				   berth_idx_t *start)
{
	const struct berth_search *search = choice->search;
	const struct berth_zone *zone = choice->zone;
	unsigned order = berth__partial_order(search);
	berth_idx_t at = number << zone->pageblock_order, stop = at + choice->size;
	berth_idx_t first, end, shortest = 0;

	if (berth__pageblock_set(&zone->pageblocks[number]) != search->area->set)
		return 0; /* it was fenced off meanwhile */
	for (; at < stop && berth__buddy_next_run_locked(zone, at, order, &first, &end); at = end) {
		uint64_t from;

		if (end == stop)
			end = run_end(choice, stop);
		first = first < search->lo ? search->lo : first;
		from = berth__legal_up(search, first);
		if (from + search->nr > (end < search->hi ? end : search->hi) ||
		    (shortest && end - first >= shortest))
			continue;
		shortest = end - first;
		*start = (berth_idx_t)from;
	}
	return shortest;
}
