/* SPDX-License-Identifier: MIT */
/*
 * Summaries above the pageblocks: groups of 64 pageblocks, and regions of 64 groups, so that a search
 * passes over what can't serve it without looking at each pageblock.
 *
 * I1  A group that isn't marked stale says what its pageblocks' counters say; a region whose groups
 *     aren't stale says what they say.
 * I2  Whoever changes a counter, a set or a skip hint marks the group stale: after the change, or
 *     under the zone lock. So a change is never lost between two refreshments. (Without the lock by a
 *     read-modify-write, or with a fence between the change and the look whether it's marked.)
 *
 * Marking is one load, and one atomic operation when the group wasn't stale: nothing is computed on
 * the way of an allocation. A search brings up to date what is stale in its range, one group at a
 * time under the zone lock: O(1) for each change, amortised, and 64 pageblocks at most.
 */
#include "core/frames/summary.h"

#define GROUP BERTH_GROUP
#define REGION (BERTH_GROUP * BERTH_GROUP)

static uint32_t nr_pageblocks(const struct berth_zone *zone)
{
	return ((zone->end - 1) >> zone->pageblock_order) + 1;
}

/* ---- Marking ------------------------------------------------------------------------------------- */

/*
 * The fence stands between the change and the look at the mark, as refresh's read-modify-write does between the
 * clearing and the look at the counters: so a refreshment that misses the change finds the mark again. Who finds
 * it set writes nothing: many share the word.
 */
void berth__stale(struct berth_zone *zone, const struct berth_pageblock *pageblock)
{
	uint32_t group = (uint32_t)(pageblock - zone->pageblocks) / GROUP;
	_Atomic uint64_t *word = &zone->stale[group / GROUP];
	uint64_t bit = 1ull << group % GROUP;

	atomic_thread_fence(memory_order_seq_cst);
	if (!(atomic_load_explicit(word, memory_order_relaxed) & bit))
		atomic_fetch_or_explicit(word, bit, memory_order_release);
}

void berth__stale_all_locked(struct berth_zone *zone)
{
	uint32_t groups = (nr_pageblocks(zone) - 1) / GROUP + 1;

	for (uint32_t first = 0; first < groups; first += GROUP) {
		uint64_t bits = groups - first < GROUP ? (1ull << (groups - first)) - 1 : ~0ull;

		atomic_fetch_or_explicit(&zone->stale[first / GROUP], bits, memory_order_relaxed);
	}
}

/* ---- One group ------------------------------------------------------------------------------------ */

static void clear_summary(struct berth_summary *summary)
{
	__builtin_memset(summary, 0, sizeof(*summary));
	summary->least_taken = UINT32_MAX;
	for (unsigned kind = 0; kind < BERTH_NR_COSTS; kind++)
		summary->least_cost[kind] = UINT64_MAX;
	for (unsigned i = 0; i < BERTH_NR_SOURCES; i++)
		summary->least_source[0][i] = summary->least_source[1][i] = UINT32_MAX;
}

static void at_most(uint32_t *least, uint32_t value)
{
	if (value < *least)
		*least = value;
}

static void at_most_64(uint64_t *least, uint64_t value)
{
	if (value < *least)
		*least = value;
}

static void at_least(uint32_t *most, uint32_t value)
{
	if (value > *most)
		*most = value;
}

/* What compaction can have from the pageblock. */
static void add_source(const struct berth_zone *zone, const struct berth_pageblock *pageblock,
		       const struct berth_load *load, bool pinned, struct berth_summary *summary)
{
	unsigned set = berth__pageblock_set(pageblock), source;

	if (set == BERTH_MOVABLE)
		source = BERTH_SOURCE_MOVABLE;
	else if (set == BERTH_UNMOVABLE || set == BERTH_RECLAIMABLE)
		source = BERTH_SOURCE_OTHER;
	else if (set >= BERTH_CMA)
		source = BERTH_SOURCE_AREA;
	else
		return;
	if (berth__nr_claimed(pageblock) ||
	    atomic_load_explicit(&pageblock->skip, memory_order_relaxed) ==
		    atomic_load_explicit(&zone->compact.epoch, memory_order_relaxed))
		return;
	at_most(&summary->least_source[1][source], load->used);
	if (!pinned)
		at_most(&summary->least_source[0][source], load->used);
}

/* The longest run of free frames that a pageblock with blocks of at most this order can have: two
 * blocks of each order, but that buddies merge. */
static uint32_t most_free_run(const struct berth_pageblock *pageblock, uint32_t nr_free)
{
	unsigned order;
	uint64_t most;

	if (!pageblock->nonempty)
		return nr_free; /* in no list of its own: none, or all of it */
	order = 31 - (unsigned)__builtin_clz(pageblock->nonempty);
	most = 4ull << order;
	return most < nr_free ? (uint32_t)most : nr_free;
}

struct berth_dropped berth__dropped(const struct berth_zone *zone, uint32_t number,
				    unsigned cost_kind, uint32_t used, uint32_t used_blocks)
{
	struct berth_dropped dropped = { 0 };
	struct berth_discardables *there;

	if (!zone->discardables)
		return dropped;
	there = &zone->discardables[number];
	for (unsigned kind = 0; kind < BERTH_NR_DISCARDABLE; kind++) {
		if (!berth__drops(zone, cost_kind, (enum berth_discardable)kind))
			continue;
		dropped.pages += atomic_load_explicit(&there->pages[kind], memory_order_relaxed);
		dropped.blocks += atomic_load_explicit(&there->blocks[kind], memory_order_relaxed);
	}
	/* Counters that are just changing may contradict each other. */
	dropped.pages = dropped.pages < used ? dropped.pages : used;
	dropped.blocks = dropped.blocks < used_blocks ? dropped.blocks : used_blocks;
	return dropped;
}

static struct berth_load load_of(const struct berth_zone *zone, uint32_t number, uint32_t pinned)
{
	const struct berth_pageblock *pageblock = &zone->pageblocks[number];
	const struct berth_cost_model *cost = &zone->cost;
	uint32_t free = berth__nr_free(pageblock), taken = free + berth__nr_claimed(pageblock);
	uint32_t managed = atomic_load_explicit(&pageblock->nr_managed, memory_order_relaxed);
	uint32_t used = taken < managed ? managed - taken : 0;
	uint32_t all = berth__nr_joined(pageblock), joined = all < used ? all : used;

	struct berth_load load = { .used = used,
				   .blocks = used - joined,
				   .free = free,
				   .open = free + used - (pinned < used ? pinned : used) };

	for (unsigned kind = 0; kind < BERTH_NR_COSTS; kind++) {
		struct berth_dropped dropped = berth__dropped(zone, number, kind, used,
							      used - joined);

		load.cost[kind] = (uint64_t)(used - dropped.pages) * cost->copy_ns +
				  (uint64_t)(load.blocks - dropped.blocks) * cost->remap_ns +
				  (uint64_t)dropped.pages * cost->drop_ns;
	}
	return load;
}

static struct berth_runs runs_of_word(uint64_t word)
{
	struct berth_runs runs = { 0 };

	if (word == ~0ull)
		return (struct berth_runs){ GROUP, GROUP, GROUP };
	runs.first = (uint32_t)__builtin_ctzll(~word);
	runs.last = (uint32_t)__builtin_clzll(~word);
	while (word) { /* one step for each frame of the longest run */
		word &= word << 1;
		runs.longest++;
	}
	return runs;
}

void berth__summarise_group(const struct berth_zone *zone, uint32_t number,
			    struct berth_group *group, struct berth_load *loads)
{
	struct berth_summary *summary = &group->summary;
	uint32_t size = berth__pages(zone->pageblock_order);
	uint32_t first = number * GROUP, nr = nr_pageblocks(zone) - first;

	clear_summary(summary);
	for (unsigned kind = 0; kind < BERTH_NR_RUNS; kind++)
		group->is[kind] = 0;
	for (uint32_t i = 0; i < GROUP && i < nr; i++) {
		const struct berth_pageblock *pageblock = &zone->pageblocks[first + i];
		uint32_t pinned = atomic_load_explicit(&pageblock->nr_pinned, memory_order_acquire);
		bool whole = atomic_load_explicit(&pageblock->nr_managed, memory_order_relaxed) ==
			     size;
		bool isolated = berth__pageblock_set(pageblock) == BERTH_ISOLATE;
		struct berth_load load = loads[i] = load_of(zone, first + i, pinned);

		for (unsigned kind = 0; kind < BERTH_NR_COSTS && zone->discardables; kind++)
			at_least(
				&summary->most_dropped[kind],
				berth__dropped(zone, first + i, kind, load.used, load.blocks).pages);
		at_most(&summary->least_taken, size - load.free);
		at_least(&summary->most_joined, load.used - load.blocks);
		if (load.free != size)
			at_least(&summary->free_run, most_free_run(pageblock, load.free));
		if (!whole || berth__nr_claimed(pageblock))
			continue;
		group->is[BERTH_RUN_UNCLAIMED] |= 1ull << i;
		for (unsigned kind = 0; kind < BERTH_NR_COSTS; kind++)
			at_most_64(&summary->least_cost[kind], load.cost[kind]);
		if (!isolated)
			add_source(zone, pageblock, &load, pinned, summary);
		if (pinned || isolated)
			continue;
		group->is[BERTH_RUN_EMPTIABLE] |= 1ull << i;
		group->is[BERTH_RUN_FREE] |= (uint64_t)(load.free == size) << i;
	}
	for (unsigned kind = 0; kind < BERTH_NR_RUNS; kind++)
		summary->runs[kind] = runs_of_word(group->is[kind]);
}

/* ---- One region ------------------------------------------------------------------------------------ */

/* Appends `span` pageblocks to the first `before`. */
static void append(struct berth_runs *all, uint32_t before, const struct berth_runs *more,
		   uint32_t span)
{
	if (all->first == before)
		all->first += more->first;
	at_least(&all->longest, all->last + more->first);
	at_least(&all->longest, more->longest);
	all->last = more->last == span ? all->last + span : more->last;
}

void berth__summarise_region(const struct berth_zone *zone, uint32_t region,
			     struct berth_summary *all)
{
	uint32_t groups = (nr_pageblocks(zone) - 1) / GROUP + 1, first = region * GROUP;

	clear_summary(all);
	for (uint32_t i = 0; i < GROUP && first + i < groups; i++) {
		const struct berth_summary *one = &zone->groups[first + i].summary;

		for (unsigned kind = 0; kind < BERTH_NR_RUNS; kind++)
			append(&all->runs[kind], i * GROUP, &one->runs[kind], GROUP);
		for (unsigned kind = 0; kind < BERTH_NR_COSTS; kind++) {
			at_most_64(&all->least_cost[kind], one->least_cost[kind]);
			at_least(&all->most_dropped[kind], one->most_dropped[kind]);
		}
		at_most(&all->least_taken, one->least_taken);
		at_least(&all->most_joined, one->most_joined);
		at_least(&all->free_run, one->free_run);
		for (unsigned s = 0; s < BERTH_NR_SOURCES; s++) {
			at_most(&all->least_source[0][s], one->least_source[0][s]);
			at_most(&all->least_source[1][s], one->least_source[1][s]);
		}
	}
}

/* ---- Bringing up to date ---------------------------------------------------------------------------- */

static void refresh_group(struct berth_zone *zone, uint32_t number)
{
	berth_lock(&zone->lock);
	atomic_fetch_and_explicit(&zone->stale[number / GROUP], ~(1ull << number % GROUP),
				  memory_order_acquire);
	/* Whoever sees the mark away afterwards: we see its change. */
	atomic_thread_fence(memory_order_seq_cst);
	berth__summarise_group(zone, number, &zone->groups[number],
			       &zone->loads[(size_t)number * GROUP]);
	berth_unlock(&zone->lock);
}

void berth__refresh(struct berth_zone *zone, uint32_t first, uint32_t end)
{
	uint32_t group = first / GROUP, last = (end - 1) / GROUP;

	for (uint32_t region = group / GROUP; region <= last / GROUP; region++) {
		uint64_t bits = atomic_load_explicit(&zone->stale[region], memory_order_relaxed);

		if (region == group / GROUP)
			bits &= ~0ull << group % GROUP;
		if (region == last / GROUP)
			bits &= ~0ull >> (GROUP - 1 - last % GROUP);
		if (!bits)
			continue;
		for (; bits; bits &= bits - 1)
			refresh_group(zone, region * GROUP + (uint32_t)__builtin_ctzll(bits));
		berth__summarise_region(zone, region, &zone->regions[region]);
	}
}

/* ---- Runs -------------------------------------------------------------------------------------------- */

/*
 * Passes over a node of `span` pageblocks by its summary alone, if that is enough. True: done, and
 * walk->at is behind it, or where a sufficient run ends (then *found). False: look inside.
 */
static bool pass_over(struct berth_run_walk *walk, const struct berth_runs *runs, uint32_t span,
		      bool *found)
{
	if (runs->first == span) { /* all of it */
		if (!walk->in_run)
			walk->first = walk->at;
		walk->in_run = true;
		walk->at += span;
		return true;
	}
	if (walk->in_run) { /* the run that came in ends here */
		walk->in_run = false;
		walk->at += runs->first;
		*found = walk->at - walk->first >= walk->least;
		return *found || !runs->first;
	}
	if (runs->longest >= walk->least)
		return false;
	walk->at += span;
	walk->in_run = runs->last > 0;
	walk->first = walk->at - runs->last;
	return true;
}

/* One step inside a group: to the end of its next run, or of the group. */
static bool step(struct berth_run_walk *walk)
{
	uint64_t word = walk->zone->groups[walk->at / GROUP].is[walk->kind] >> walk->at % GROUP;
	uint32_t left = GROUP - walk->at % GROUP, length;

	if (!walk->in_run) {
		if (!word) {
			walk->at += left;
			return false;
		}
		walk->at += (uint32_t)__builtin_ctzll(word);
		walk->first = walk->at;
		walk->in_run = true;
		return false;
	}
	length = ~word ? (uint32_t)__builtin_ctzll(~word) : GROUP;
	walk->at += length < left ? length : left;
	if (length >= left)
		return false;
	walk->in_run = false;
	return walk->at - walk->first >= walk->least;
}

bool berth__next_run(struct berth_run_walk *walk, uint32_t *first, uint32_t *end)
{
	const struct berth_zone *zone = walk->zone;
	bool found = false;

	while (!found && walk->at < walk->end) {
		if (walk->at % REGION == 0 && walk->end - walk->at >= REGION &&
		    pass_over(walk, &zone->regions[walk->at / REGION].runs[walk->kind], REGION,
			      &found))
			continue;
		if (walk->at % GROUP == 0 && walk->end - walk->at >= GROUP &&
		    pass_over(walk, &zone->groups[walk->at / GROUP].summary.runs[walk->kind], GROUP,
			      &found))
			continue;
		found = step(walk);
	}
	/* The end may cut a run off. */
	found |= walk->in_run;
	walk->in_run = false;
	*first = walk->first;
	*end = walk->at < walk->end ? walk->at : walk->end;
	return found && *first < *end && *end - *first >= walk->least;
}
