/* SPDX-License-Identifier: MIT */
/*
 * Range choice: where in an area a claim is cheapest, by struct berth_cost_model.
 *
 *	free runs     a run of wholly free pageblocks that fits, the shortest: nothing to compare
 *	aligned       starts on pageblock boundaries, by a sliding sum of the pageblocks' counters
 *	edges         all other starts: a pageblock's are swept block by block, if the counters say that one of
 *	              them may be cheaper than the best so far
 *
 * I1  What the counters promise is a lower bound: frames in use inside, and at the edges what exceeds the
 *     free frames there. So nothing cheaper is passed over, until the sweeps have taken EXACT_NS and a
 *     sixteenth of the best range's own cost.
 * I2  "None" is only said when every possible start has been ruled out.
 *
 * Complexity: O(regions) where no run is long enough, where all is free and where all costs the same;
 * O(pageblocks) at most for aligned starts; a sweep O(blocks of three pageblocks). The zone lock is held
 * for one group or one sweep at a time; the search lock throughout.
 */
#include "core/alloc/internal.h"
#include "core/frames/summary.h"
#include "core/motion/internal.h"

#define COST_NONE UINT64_MAX
#define EXACT_NS 250000u /* of sweeps, always made if need be: 122 pageblocks of 512 frames */
#define FRAME_NS 4u      /* of a sweep */
#define CANDIDATES 16u   /* partly free pageblocks that a small request looks at */

/* ---- The bitmap ---------------------------------------------------------------------------------- */

static uint64_t bits_in_word(uint64_t first, uint64_t last)
{
	uint64_t from = first & 63, to = last & 63;

	return (~0ull << from) & (~0ull >> (63 - to));
}

static void change_word(_Atomic uint64_t *word, uint64_t bits, bool value)
{
	if (value)
		atomic_fetch_or_explicit(word, bits, memory_order_relaxed);
	else
		atomic_fetch_and_explicit(word, ~bits, memory_order_relaxed);
}

/*
 * Bits of the frames [start, end), both inside the area. Without a lock: claims begin at multiples of a
 * bit, so none shares a bit with another, and only the words at its ends.
 */
void berth__bitmap_set(struct berth_cma *area, berth_idx_t start, berth_idx_t end, bool value)
{
	_Atomic uint64_t *bitmap = (_Atomic uint64_t *)area->bitmap;
	uint64_t first = (uint64_t)(start - area->start) >> area->order_per_bit;
	uint64_t last = (uint64_t)(end - 1 - area->start) >> area->order_per_bit;
	uint64_t word = first / 64, last_word = last / 64;
	uint32_t inside;

	change_word(&bitmap[word], bits_in_word(first, word == last_word ? last : 63), value);
	if (word == last_word)
		return;
	inside = (uint32_t)(last_word - word - 1); /* nobody else's bits are in those */
	for (uint32_t k = 0; k < inside; k++)
		atomic_store_explicit(&bitmap[word + 1 + berth__inward(inside, k)],
				      value ? ~0ull : 0, memory_order_relaxed);
	change_word(&bitmap[last_word], bits_in_word(0, last), value);
}

/* ---- Legal starts --------------------------------------------------------------------------------- */

/* How far behind the last boundary idx is. */
static uint64_t behind_boundary(const struct berth_search *search, uint64_t idx)
{
	return (search->area->zone->base_pfn + idx) & (search->boundary - 1);
}

/* The first legal start at or after idx. (The range may leave [lo, hi).) base_pfn is a multiple of the
 * largest block, so of any step. */
static uint64_t legal_up(const struct berth_search *search, uint64_t idx)
{
	uint64_t behind;

	idx = (idx + search->step - 1) & ~((uint64_t)search->step - 1);
	if (!search->boundary)
		return idx;
	behind = behind_boundary(search, idx);
	/* A step of a boundary and more begins at boundaries only. */
	return behind + search->nr > search->boundary ? idx + search->boundary - behind : idx;
}

/* The last legal start at or before idx; below that which legal_up() found first, there is none. */
static uint64_t legal_down(const struct berth_search *search, uint64_t idx)
{
	uint64_t behind;

	idx &= ~((uint64_t)search->step - 1);
	if (!search->boundary)
		return idx;
	behind = behind_boundary(search, idx);
	if (behind + search->nr > search->boundary)
		idx = (idx - behind + search->boundary - search->nr) &
		      ~((uint64_t)search->step - 1);
	return idx;
}

bool berth__legal_start(const struct berth_search *search, uint64_t idx)
{
	return idx >= search->lo && idx + search->nr <= search->hi && legal_up(search, idx) == idx;
}

int berth__search_init(struct berth_search *search, struct berth_cma *area,
		       const struct berth_claim_params *params)
{
	const struct berth_zone *zone = area->zone;
	berth_pfn_t min = berth__pfn(zone, area->start), max = berth__pfn(zone, area->end - 1);
	berth_idx_t bit = berth__pages(area->order_per_bit);
	uint64_t boundary = params->boundary_pages;

	if (min < params->min_pfn)
		min = params->min_pfn;
	if (params->max_pfn && max > params->max_pfn)
		max = params->max_pfn;
	if (min > max || params->nr_pages > max - min + 1 ||
	    (boundary && params->nr_pages > boundary))
		return -BERTH_E2BIG;
	*search = (struct berth_search){
		.area = area,
		.nr = (berth_idx_t)params->nr_pages,
		.step = berth__pages(params->align_order),
		.lo = (berth_idx_t)(min - zone->base_pfn),
		.hi = (berth_idx_t)(max - zone->base_pfn) + 1,
		.boundary = boundary,
		.first_fit = params->flags & BERTH_CLAIM_FIRST_FIT,
		.free_only = params->flags & BERTH_CLAIM_FREE_ONLY,
		.drop_used = params->flags & BERTH_CLAIM_DROP,
	};
	if (search->step < bit)
		search->step = bit;
	return legal_up(search, search->lo) + search->nr <= search->hi ? 0 : -BERTH_E2BIG;
}

/* ---- The best so far -------------------------------------------------------------------------------- */

struct choice {
	const struct berth_search *search;
	struct berth_zone *zone;
	struct berth_cost_model cost;
	unsigned cost_kind;       /* see BERTH_NR_COSTS */
	enum berth_run_kind kind; /* pageblocks that can be inside */
	berth_idx_t size;         /* of a pageblock */
	berth_idx_t last;         /* start that ends at hi */
	uint64_t best_cost;       /* COST_NONE: none yet */
	berth_idx_t best;
	uint32_t busy_clock; /* as search->busy_clock; 0 also where nobody was refused lately */
	uint64_t swept_ns;   /* what the sweeps may have cost */
};

static bool avoided(const struct berth_search *search, berth_idx_t start, berth_idx_t end)
{
	for (unsigned i = 0; i < search->nr_avoid; i++)
		if (search->avoid[i] >= start && search->avoid[i] < end)
			return true;
	return false;
}

/* The last of nr pageblocks that has frames in use and in which a claim was refused lately, or this one
 * before; BERTH_IDX_NONE: there is none. */
static uint32_t last_busy(const struct choice *choice, uint32_t first, uint32_t nr)
{
	const struct berth_zone *zone = choice->zone;
	unsigned shift = zone->pageblock_order;

	if (choice->search->ignore_pins || (!choice->busy_clock && !choice->search->nr_avoid))
		return BERTH_IDX_NONE;
	for (uint32_t number = first + nr; number-- > first;)
		if (zone->loads[number].used &&
		    ((choice->busy_clock &&
		      berth__is_busy(&zone->pageblocks[number], choice->busy_clock)) ||
		     avoided(choice->search, number << shift, (number + 1) << shift)))
			return number;
	return BERTH_IDX_NONE;
}

static void consider(struct choice *choice, berth_idx_t start, uint64_t cost)
{
	if (cost >= choice->best_cost)
		return;
	choice->best_cost = cost;
	choice->best = start;
}

static bool enough(const struct choice *choice)
{
	return choice->best_cost == 0 ||
	       (choice->search->first_fit && choice->best_cost != COST_NONE);
}

/* ---- A sweep over one pageblock's starts ------------------------------------------------------------ */

/* A block, or the part of it in one pageblock and inside or outside of another claim's range. */
struct part {
	berth_idx_t start, end;
	bool used, blocked;
	uint32_t frame_ns, block_ns; /* what each frame costs, and all of it together besides */
};

/* Ranges that other claims are emptying are in the way. */
static void cut_by_claims(const struct choice *choice, berth_idx_t idx, struct part *part)
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
static bool held(const struct choice *choice, berth_idx_t head, berth_idx_t end)
{
	const struct berth_search *search = choice->search;
	const struct berth_zone *zone = choice->zone;

	if (search->ignore_pins)
		return false;
	return atomic_load_explicit(&zone->frames[head].refcount, memory_order_relaxed) > 1 ||
	       (choice->busy_clock &&
		berth__is_busy(berth__pageblock(zone, head), choice->busy_clock)) ||
	       avoided(search, head, end);
}

static bool is_dropped(const struct choice *choice, berth_idx_t head)
{
	return choice->zone->lru_state &&
	       berth__drops(choice->zone, choice->cost_kind,
			    berth__discardable(berth__lru_state(choice->zone, head)));
}

static struct part part_at(const struct choice *choice, berth_idx_t idx)
{
	const struct berth_search *search = choice->search;
	const struct berth_zone *zone = choice->zone;
	berth_idx_t head = idx, first = idx & ~(choice->size - 1);
	uint32_t tag = berth__tag(&zone->frames[idx]);
	struct part part = { .start = idx,
			     .end = idx + 1,
			     .used = true,
			     .blocked = search->free_only,
			     .frame_ns = choice->cost.copy_ns,
			     .block_ns = choice->cost.remap_ns };

	if (!tag)
		head = berth__head(zone, idx);
	if (head == BERTH_IDX_NONE) /* on its way through a per-CPU list */
		return part;
	tag = berth__tag(&zone->frames[head]);
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

/* The pageblocks of [first, first + nr) that are wholly in every window of a sweep. */
struct inner {
	uint32_t first, nr;
	uint64_t cost;
};

static void add_parts(const struct choice *choice, struct window *window, berth_idx_t idx,
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

static void open_window(const struct choice *choice, struct window *window, berth_idx_t at,
			const struct inner *inner)
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
 * first and the last legal one will do.
 */
static void consider_between(struct choice *choice, const struct window *window,
			     berth_idx_t distance)
{
	const struct berth_search *search = choice->search;
	bool begins = !window->right_begun;
	uint64_t first = legal_up(search, (uint64_t)window->at + 1), last;
	uint64_t cost = window->cost + (begins ? window->right.block_ns : 0);

	if (first >= (uint64_t)window->at + distance ||
	    window->blocked + (begins && window->right.blocked))
		return;
	last = legal_down(search, (uint64_t)window->at + distance - 1);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t at = i ? last : first, moved = at - window->at;

		consider(choice, (berth_idx_t)at,
			 cost + moved * window->right.frame_ns - moved * window->left.frame_ns);
	}
}

/* Slides the window to where one of its ends meets the next block. False: it can't go on. */
static bool slide(struct choice *choice, struct window *window)
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

/* All legal starts in the pageblock. */
static void sweep(struct choice *choice, uint32_t number, const struct inner *inner)
{
	const struct berth_search *search = choice->search;
	uint64_t first = (uint64_t)number << choice->zone->pageblock_order;
	uint64_t stop = first + choice->size;
	struct window window;

	first = legal_up(search, first < search->lo ? search->lo : first);
	if (first >= stop || first > choice->last ||
	    last_busy(choice, inner->first, inner->nr) != BERTH_IDX_NONE)
		return;
	choice->swept_ns += (uint64_t)FRAME_NS * choice->size;
	berth_lock(&choice->zone->lock);
	open_window(choice, &window, (berth_idx_t)first, inner);
	do {
		if (!window.blocked && legal_up(search, window.at) == window.at)
			consider(choice, window.at, window.cost);
	} while (!enough(choice) && legal_up(search, (uint64_t)window.at + 1) < stop &&
		 slide(choice, &window) && window.at < stop);
	berth_unlock(&choice->zone->lock);
}

/* ---- Bounds by counters ----------------------------------------------------------------------------- */

/* What is known of pageblocks at the ends of a window: most of each. */
struct edges {
	uint64_t free, open, joined, dropped; /* joined: frames in use less blocks in use */
};

static void add_edge(const struct choice *choice, struct edges *edges, uint32_t number)
{
	const struct berth_load *load = &choice->zone->loads[number];

	edges->free += load->free;
	edges->open += choice->search->ignore_pins ? load->free + load->used : load->open;
	edges->joined += load->used - load->blocks;
	edges->dropped += berth__dropped(choice->zone, number, choice->cost_kind, load->used,
					 load->blocks)
				  .pages;
}

/* The least that so many frames in use cost of which `dropped` are dropped. */
static uint64_t least_of(const struct choice *choice, uint64_t used, uint64_t dropped,
			 uint64_t joined)
{
	uint64_t moved = used - dropped, blocks = moved > joined ? moved - joined : moved > 0;

	return moved * choice->cost.copy_ns + blocks * choice->cost.remap_ns +
	       dropped * choice->cost.drop_ns;
}

/* The least that a window costs whose whole pageblocks cost `inner`, and which covers `pages` frames more, in
 * pageblocks at its ends. COST_NONE: they haven't got that many. */
static uint64_t bound(const struct choice *choice, uint64_t inner, uint64_t pages,
		      const struct edges *edges)
{
	uint64_t used = pages > edges->free ? pages - edges->free : 0;
	uint64_t most = used < edges->dropped ? used : edges->dropped, few, least;

	if (pages > edges->open || (choice->search->free_only && used))
		return COST_NONE;
	/* Linear between none, all that can be, and as many as leave no block but joined ones. */
	few = used > edges->joined ? used - edges->joined : 0;
	few = few < most ? few : most;
	least = least_of(choice, used, 0, edges->joined);
	for (unsigned i = 0; most && i < 2; i++) {
		uint64_t one = least_of(choice, used, i ? most : few, edges->joined);

		least = one < least ? one : least;
	}
	return inner + least;
}

/*
 * Whether no start in a group, or a region, of `span` pageblocks can cost less than the best: windows with
 * `inner` whole pageblocks and `pages` frames more, which end up to `reach` pageblocks behind their first.
 */
static bool hopeless(const struct choice *choice, uint32_t number, uint32_t span,
		     const struct inner *windows, uint64_t pages, uint32_t reach)
{
	const struct berth_zone *zone = choice->zone;
	uint32_t last = (number + span - 1 + reach) / span;
	uint32_t end = ((zone->end - 1) >> zone->pageblock_order) / span;
	uint32_t taken = choice->size, joined = 0, dropped = 0;
	uint64_t cost = UINT64_MAX;

	for (uint32_t at = number / span; at <= last && at <= end; at++) {
		const struct berth_summary *summary = span == BERTH_GROUP ?
							      &zone->groups[at].summary :
							      &zone->regions[at];
		uint64_t one = summary->least_cost[choice->cost_kind];
		uint32_t drops = summary->most_dropped[choice->cost_kind];

		cost = one < cost ? one : cost;
		taken = summary->least_taken < taken ? summary->least_taken : taken;
		joined = summary->most_joined > joined ? summary->most_joined : joined;
		dropped = drops > dropped ? drops : dropped;
	}
	if (cost == UINT64_MAX && windows->nr) /* all is claimed */
		return true;
	return bound(choice, cost * windows->nr, pages,
		     &(struct edges){ .free = 3ull * (choice->size - taken),
				      .open = 3ull * choice->size,
				      .joined = 3ull * joined,
				      .dropped = 3ull * dropped }) >= choice->best_cost;
}

#define FAR_REACH (2 * BERTH_GROUP) /* windows beyond are summed up, not passed over by group */
#define REGION (BERTH_GROUP * BERTH_GROUP)

/*
 * How many pageblocks from `number` on, of those before `end`, have no start that can be better: whole
 * groups or regions. As hopeless().
 */
static uint32_t pass_over(const struct choice *choice, uint32_t number, uint32_t end,
			  const struct inner *windows, uint64_t pages, uint32_t reach)
{
	uint32_t first = number;

	if (choice->best_cost == COST_NONE || windows->nr > FAR_REACH)
		return 0;
	for (; number % BERTH_GROUP == 0 && number < end;) {
		if (number % REGION == 0 && end - number >= REGION &&
		    hopeless(choice, number, REGION, windows, pages, reach))
			number += REGION;
		else if (end - number >= BERTH_GROUP &&
			 hopeless(choice, number, BERTH_GROUP, windows, pages, reach))
			number += BERTH_GROUP;
		else
			break;
	}
	return number - first;
}

/* ---- Free runs --------------------------------------------------------------------------------------- */

/* The shortest run of wholly free pageblocks that has room, from the frame `lo` on. */
static void free_runs(struct choice *choice, berth_idx_t lo)
{
	const struct berth_search *search = choice->search;
	unsigned shift = choice->zone->pageblock_order;
	uint32_t first, end, shortest = UINT32_MAX;
	struct berth_run_walk walk = { .zone = choice->zone,
				       .kind = BERTH_RUN_FREE,
				       .at = lo >> shift,
				       .end = ((search->hi - 1) >> shift) + 1,
				       .least = ((search->nr - 1) >> shift) + 1 };

	while (shortest > walk.least && berth__next_run(&walk, &first, &end)) {
		uint64_t from = (uint64_t)first << shift, to = (uint64_t)end << shift;

		from = legal_up(search, from < lo ? lo : from);
		if (end - first >= shortest || from + search->nr > to ||
		    from + search->nr > search->hi)
			continue;
		shortest = end - first;
		choice->best = (berth_idx_t)from;
		choice->best_cost = 0;
	}
}

/* The shortest run of free frames that begins in the pageblock and has room; its length, or 0. Z. */
static berth_idx_t free_run_locked(const struct choice *choice, uint32_t number, berth_idx_t *start)
{
	const struct berth_search *search = choice->search;
	berth_idx_t idx = number << choice->zone->pageblock_order, stop = idx + choice->size;
	berth_idx_t shortest = 0;

	idx = idx < search->lo ? search->lo : idx;
	while (idx < stop && idx < search->hi) {
		struct part part = part_at(choice, idx);
		berth_idx_t first = idx;
		uint64_t from;

		idx = part.end;
		if (part.used || part.blocked)
			continue;
		while (idx < search->hi && idx < stop + choice->size) {
			part = part_at(choice, idx);
			if (part.used || part.blocked)
				break;
			idx = part.end;
		}
		from = legal_up(search, first);
		if (from + search->nr > (idx < search->hi ? idx : search->hi) ||
		    (shortest && idx - first >= shortest))
			continue;
		shortest = idx - first;
		*start = (berth_idx_t)from;
	}
	return shortest;
}

/* Pageblocks of one row of the area's buckets, with a free block of 2^order frames and more. */
static unsigned collect(const struct choice *choice, unsigned density, unsigned order,
			uint32_t *numbers)
{
	const struct berth_search *search = choice->search;
	struct berth_zone *zone = choice->zone;
	unsigned set = search->area->set, nr = 0, seen = 0;
	uint32_t orders;

	berth_lock(&zone->lock);
	orders = zone->sets[set].orders[density] >> order << order;
	for (; orders; orders &= orders - 1) {
		uint32_t number = *berth__bucket(zone, set, density,
						 (unsigned)__builtin_ctz(orders));

		for (; number != BERTH_IDX_NONE && nr < CANDIDATES && seen < 4 * CANDIDATES;
		     number = zone->pageblocks[number].next, seen++) {
			if (number >= search->lo >> zone->pageblock_order &&
			    number <= (search->hi - 1) >> zone->pageblock_order)
				numbers[nr++] = number;
		}
	}
	berth_unlock(&zone->lock);
	return nr;
}

/*
 * A request below a pageblock takes free frames of the fullest pageblock that has them: by the lists of
 * the allocator itself. A run of n free frames has a block of at least a quarter of n in it.
 */
static void partly_free(struct choice *choice)
{
	struct berth_zone *zone = choice->zone;
	unsigned log = 31 - (unsigned)__builtin_clz(choice->search->nr);
	unsigned order = log > 1 ? log - 1 : 0;
	uint32_t numbers[CANDIDATES], most_claimed = 0;
	berth_idx_t shortest = 0;

	for (unsigned density = 0; density < BERTH_DENSITIES && !shortest; density++) {
		unsigned nr = order < zone->pageblock_order ?
				      collect(choice, density, order, numbers) :
				      0;

		for (unsigned i = 0; i < nr; i++) {
			uint32_t claimed = berth__nr_claimed(&zone->pageblocks[numbers[i]]);
			berth_idx_t start = 0, length;

			berth_lock(&zone->lock);
			length = free_run_locked(choice, numbers[i], &start);
			berth_unlock(&zone->lock);
			if (!length ||
			    (shortest && (claimed < most_claimed ||
					  (claimed == most_claimed && length >= shortest))))
				continue;
			shortest = length;
			most_claimed = claimed;
			choice->best = start;
			choice->best_cost = 0;
		}
	}
}

/* ---- Starts on pageblock boundaries -------------------------------------------------------------- */

static uint64_t cost_at(const struct choice *choice, uint32_t number)
{
	return choice->zone->loads[number].cost[choice->cost_kind];
}

static struct inner sum_of(const struct choice *choice, uint32_t first, uint32_t nr)
{
	struct inner inner = { .first = first, .nr = nr };

	for (uint32_t i = 0; i < nr; i++)
		inner.cost += cost_at(choice, first + i);
	return inner;
}

/* To the next window, one pageblock on; `end`: there is nothing to add from there on. */
static void step_sum(const struct choice *choice, struct inner *inner, uint32_t end)
{
	inner->cost -= inner->nr ? cost_at(choice, inner->first) : 0;
	if (inner->nr && inner->first + inner->nr < end)
		inner->cost += cost_at(choice, inner->first + inner->nr);
	inner->first++;
}

/* Windows of nr whole pageblocks in the run [first, end). */
static void slide_over_run(struct choice *choice, uint32_t first, uint32_t end, uint32_t nr)
{
	const struct berth_search *search = choice->search;
	unsigned shift = choice->zone->pageblock_order;
	struct inner sum = sum_of(choice, first, nr);

	while (sum.first + nr <= end && !enough(choice)) {
		uint32_t pass = pass_over(choice, sum.first, end - nr, &sum, 0, nr), busy;
		berth_idx_t start = sum.first << shift;

		if (pass) {
			if (end - pass - nr >= sum.first)
				sum = sum_of(choice, sum.first + pass, nr);
			else
				break;
			continue;
		}
		if (sum.cost < choice->best_cost && legal_up(search, start) == start) {
			busy = last_busy(choice, sum.first, nr);
			if (busy != BERTH_IDX_NONE) { /* and so are all windows over it */
				if (busy + 1 + nr > end)
					break;
				sum = sum_of(choice, busy + 1, nr);
				continue;
			}
			consider(choice, start, sum.cost);
		}
		step_sum(choice, &sum, end);
	}
}

static void aligned_starts(struct choice *choice)
{
	const struct berth_search *search = choice->search;
	unsigned shift = choice->zone->pageblock_order;
	uint32_t first, end;
	struct berth_run_walk walk = { .zone = choice->zone,
				       .kind = choice->kind,
				       .at = (search->lo + choice->size - 1) >> shift,
				       .end = search->hi >> shift,
				       .least = ((search->nr - 1) >> shift) + 1 };

	while (!enough(choice) && berth__next_run(&walk, &first, &end))
		slide_over_run(choice, first, end, walk.least);
}

/* ---- All other starts -------------------------------------------------------------------------------- */

static bool out_of_budget(const struct choice *choice)
{
	return choice->best_cost != COST_NONE && choice->swept_ns > EXACT_NS &&
	       choice->swept_ns > choice->best_cost / 16;
}

/* Starts in the pageblock before the inner ones, or, without any, in pageblock inner->first. */
static void try_starts(struct choice *choice, uint32_t number, const struct inner *inner)
{
	const struct berth_zone *zone = choice->zone;
	uint32_t whole = choice->search->nr >> zone->pageblock_order;
	uint32_t end = ((zone->end - 1) >> zone->pageblock_order) + 1;
	uint64_t pages = choice->search->nr - ((uint64_t)inner->nr << zone->pageblock_order);
	struct edges edges = { 0 };

	add_edge(choice, &edges, number);
	if (whole && number + whole < end)
		add_edge(choice, &edges, number + whole);
	if (number + whole + 1 < end)
		add_edge(choice, &edges, number + whole + 1);
	if (bound(choice, inner->cost, pages, &edges) < choice->best_cost)
		sweep(choice, number, inner);
}

/* Starts in pageblocks [first, end), each with nr inner ones behind it. */
static void sweep_run(struct choice *choice, uint32_t first, uint32_t end, uint32_t nr)
{
	unsigned shift = choice->zone->pageblock_order;
	uint64_t pages = choice->search->nr - ((uint64_t)nr << shift);
	uint32_t before = nr ? 1 : 0;
	struct inner sum = sum_of(choice, first + before, nr);

	while (sum.first < end + before && !enough(choice) && !out_of_budget(choice)) {
		uint32_t number = sum.first - before;
		uint32_t pass = pass_over(choice, number, end, &sum, pages, nr + 3);

		if (pass) {
			sum.first += pass;
			if (sum.first < end + before)
				sum = sum_of(choice, sum.first, nr);
			continue;
		}
		try_starts(choice, number, &sum);
		step_sum(choice, &sum, end + nr);
	}
}

static void other_starts(struct choice *choice)
{
	const struct berth_search *search = choice->search;
	unsigned shift = choice->zone->pageblock_order;
	uint32_t whole = search->nr >> shift, nr = whole > 1 ? whole - 1 : 0, first, end;
	uint32_t lowest = search->lo >> shift, behind = (choice->last >> shift) + 1;
	struct berth_run_walk walk = { .zone = choice->zone,
				       .kind = choice->kind,
				       .at = lowest + 1,
				       .end = ((search->hi - 1) >> shift) + 1,
				       .least = nr };

	if (!nr) {
		sweep_run(choice, lowest, behind, 0);
		return;
	}
	while (!enough(choice) && !out_of_budget(choice) && berth__next_run(&walk, &first, &end)) {
		uint32_t stop = end - nr; /* the last pageblock before nr inner ones, and one */

		sweep_run(choice, first - 1, stop < behind ? stop : behind, nr);
	}
}

/* S. */
static bool choose_locked(const struct berth_search *search, uint32_t busy_clock, berth_idx_t *best)
{
	struct berth_zone *zone = search->area->zone;
	struct choice choice = {
		.search = search,
		.zone = zone,
		.cost = zone->cost,
		.cost_kind = search->drop_used,
		.kind = search->free_only   ? BERTH_RUN_FREE :
			search->ignore_pins ? BERTH_RUN_UNCLAIMED :
					      BERTH_RUN_EMPTIABLE,
		.size = berth__pages(zone->pageblock_order),
		.last = search->hi - search->nr,
		.best_cost = COST_NONE,
		.busy_clock = busy_clock,
	};
	bool at_boundaries = search->step >= choice.size && !(search->nr & (choice.size - 1));

	if (!search->first_fit && search->nr < choice.size)
		partly_free(&choice);
	if (!search->first_fit && !enough(&choice) && search->from)
		free_runs(&choice, search->from);
	if (!search->first_fit && !enough(&choice))
		free_runs(&choice, search->lo);
	if (!search->first_fit && !enough(&choice) && search->nr >= choice.size)
		aligned_starts(&choice);
	if (!enough(&choice) && (search->first_fit || !at_boundaries))
		other_starts(&choice);
	*best = choice.best;
	return choice.best_cost != COST_NONE;
}

bool berth__choose_range(const struct berth_search *search, berth_idx_t *best)
{
	struct berth_zone *zone = search->area->zone;
	uint32_t clock = search->busy_clock;
	bool found;

	if (clock &&
	    (int32_t)(atomic_load_explicit(&zone->busy_latest, memory_order_relaxed) - clock) <= 0)
		clock = 0;
	berth_mutex_lock(&zone->search_lock);
	berth__refresh(zone, search->lo >> zone->pageblock_order,
		       ((search->hi - 1) >> zone->pageblock_order) + 1);
	found = choose_locked(search, clock, best);
	if (!found && clock) /* then also where a claim was refused lately */
		found = choose_locked(search, 0, best);
	berth_mutex_unlock(&zone->search_lock);
	return found;
}

void berth_zone_set_cost(struct berth_zone *zone, const struct berth_cost_model *cost)
{
	bool drops = cost->drop_ns <= (uint64_t)cost->copy_ns + cost->remap_ns;

	berth_mutex_lock(&zone->search_lock);
	zone->cost = *cost;
	atomic_store_explicit(&zone->drops_idle, drops, memory_order_relaxed);
	berth_lock(&zone->lock);
	berth__stale_all_locked(zone);
	berth_unlock(&zone->lock);
	berth_mutex_unlock(&zone->search_lock);
}

void berth_zone_cost(struct berth_zone *zone, struct berth_cost_model *cost)
{
	berth_mutex_lock(&zone->search_lock);
	*cost = zone->cost;
	berth_mutex_unlock(&zone->search_lock);
}
