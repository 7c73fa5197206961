/* SPDX-License-Identifier: MIT */
/*
 * The sweep of failures (sweep.h) over what the core asks others: owners that move, drop and write their blocks,
 * kswapd, reclaimers, shrinkers and OOM when memory is short, the arrays of a memblock; beside claims of all kinds,
 * compaction, changes of lending and late frees.
 */
#include "changeworld.h"
#include "lruworld.h"
#include "sweep.h"

/* ---- Owners of blocks that move ------------------------------------------------------------------- */

static void refuse(struct berth_move *moves, unsigned nr, uint8_t result)
{
	for (unsigned i = 0; i < nr; i++) {
		moves[i].result = result;
		moves[i].holder = result == BERTH_MOVE_BUSY ? "whoever refuses" : NULL;
	}
}

static void failing_migrate(void *ctx, struct berth_move *moves, unsigned nr)
{
	switch (sweep_called(SWEEP_MIGRATE)) {
	case 1: /* nothing is tried */
		return;
	case 2:
		refuse(moves, nr, BERTH_MOVE_BUSY);
		return;
	case 3:
		refuse(moves, nr, BERTH_MOVE_GONE);
		return;
	case 4: /* the first one alone */
		world_migrate(ctx, moves, 1);
		return;
	case 5:
		for (unsigned i = 0; i < nr; i++)
			if (i % 2)
				world_migrate(ctx, &moves[i], 1);
			else
				refuse(&moves[i], 1, BERTH_MOVE_BUSY);
		return;
	default:
		world_migrate(ctx, moves, nr);
	}
}

static const char *failing_holder(void *ctx, berth_pfn_t pfn, uint64_t cookie)
{
	(void)ctx;
	(void)pfn;
	(void)cookie;
	return sweep_called(SWEEP_HOLDER) ? NULL : "a worker";
}

/* Without a lock, and out of date if it comes to that. */
static void failing_neighbours(void *ctx, uint64_t cookie, berth_pfn_t *pfns, unsigned nr)
{
	struct world *w = ctx;
	unsigned way = sweep_called(SWEEP_NEIGHBOURS);

	for (unsigned i = 0; i < nr; i++) {
		uint64_t page = way == 2 ? (cookie + i) * 7 % NR_PAGES : cookie + i;

		pfns[i] = way == 1 || page >= NR_PAGES ? BERTH_PFN_NONE : w->table[page];
		if (way == 3) /* where nothing is */
			pfns[i] = i % 2 ? ZONE_START + ZONE_PAGES + i : i;
	}
}

static const struct berth_owner_ops failing_owner = {
	.name = "workers",
	.migrate = failing_migrate,
	.holder = failing_holder,
	.neighbours = failing_neighbours,
};

static void begin_change(void *ctx, uint64_t seed)
{
	change_begin(ctx, seed);
}

static bool run_change(void *ctx, uint64_t seed)
{
	struct change *c = ctx;
	const struct berth_sim_result *result = berth_sim_run(c->w.sim);

	if (!change_finish(c, result, seed))
		return false;
	if (result->outcome == BERTH_SIM_DONE && !world_claims_again(&c->w, seed))
		return false;
	return world_finish(&c->w, result, seed, false);
}

/* Single claims, bulk, prepared ones, also in several hands; compaction; areas that change how they lend; late frees;
 * splits and exact sizes. */
static void sweep_changes(const char *name, const struct change_params *params, uint64_t seed,
			  unsigned most_ops, unsigned most_calls)
{
	struct change *c = change_open(params);
	struct sweep s = { name, begin_change, run_change, c, c->w.sim, most_calls, 0 };

	sweep_calls(&s, SWEEP_MIGRATE, SWEEP_NEIGHBOURS, seed);
	s.most = most_ops;
	sweep_ops(&s, BERTH_SIM_NOW, BERTH_SIM_FENCE, seed);
	sweep_report(&s);
	change_close(c);
}

static void test_claims_of_all_kinds(void **state)
{
	(void)state;
	sweep_changes("claims of all kinds",
		      &(struct change_params){ .world = { .ops = &failing_owner,
							  .nr_workers = 2,
							  .nr_ops = 20,
							  .max_order = 2,
							  .movable = true,
							  .pins = true,
							  .nr_ranges = 2,
							  .nr_claims = 6,
							  .nr_claimers = 2,
							  .many_ways = true,
							  .prefilled = true,
							  .deadline_ns = 3000000 } },
		      scenario_seed(6), 20, 150);
}

static void test_preparations_in_several_hands(void **state)
{
	(void)state;
	sweep_changes("preparations",
		      &(struct change_params){ .world = { .ops = &failing_owner,
							  .nr_workers = 2,
							  .nr_ops = 15,
							  .movable = true,
							  .prefilled = true },
					       .nr_hands = 2,
					       .nr_prepared = 3,
					       .nr_turns = 12 },
		      scenario_seed(2), 10, 100);
}

static void test_changes_of_a_zone(void **state)
{
	(void)state;
	sweep_changes("changes of a zone",
		      &(struct change_params){ .world = { .ops = &failing_owner,
							  .nr_workers = 2,
							  .nr_ops = 25,
							  .max_order = 2,
							  .movable = true,
							  .pins = true,
							  .nr_claims = 2,
							  .many_ways = true,
							  .prefilled = true,
							  .reserved = MAX_LATE * LATE_PAGES },
					       .nr_lends = 4,
					       .nr_compactions = 4,
					       .nr_frees = 1,
					       .splits = true },
		      scenario_seed(3), 20, 100);
}

/* ---- Memory that is short --------------------------------------------------------------------------- */

#define HOARD 40u
#define OBJECTS 24u
#define EATEN 150u

/* What can be had when nothing on LRU lists can. The world's lock guards it. */
struct tight {
	struct cache c;
	berth_pfn_t spare[HOARD], hoard[HOARD], objects[OBJECTS];
	unsigned nr_spare, nr_hoard, nr_objects, nr_bites; /* bites: of each eater */
	struct berth_shrinker shrinker;
	struct worker eaters[2];
	uint64_t nr_eaten, nr_ooms, nr_shrunk;
};

static struct tight *tight_of(void *ctx)
{
	return (struct tight *)ctx;
}

static void take_unmovable(struct tight *t, berth_pfn_t *pfns, unsigned *nr, unsigned wanted)
{
	for (*nr = 0; *nr < wanted; ++*nr) {
		assert_int_equal(berth_alloc_pages(t->c.w.zone, 0, BERTH_GFP_UNMOVABLE,
						   BERTH_OWNER_NONE, 0, &pfns[*nr]),
				 0);
		take_frames(&t->c.w, pfns[*nr], 1);
	}
}

static uint64_t free_some(struct tight *t, berth_pfn_t *pfns, unsigned *nr, unsigned wanted)
{
	struct world *w = &t->c.w;
	uint64_t freed = 0;

	berth_mutex_lock(&w->lock);
	for (; *nr && freed < wanted; freed++) {
		leave_frames(w, pfns[--*nr], 1);
		require_ret(w, "a free of an object", berth_free_pages(w->zone, pfns[*nr]), 0);
	}
	berth_mutex_unlock(&w->lock);
	return freed;
}

static void failing_reclaim(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	struct cache *c = ctx;
	unsigned way = sweep_called(SWEEP_RECLAIM);
	static const uint8_t results[] = { 0, BERTH_RECLAIM_PENDING, BERTH_RECLAIM_BUSY,
					   BERTH_RECLAIM_DIRTY, BERTH_RECLAIM_REFERENCED };

	if (way == 0 || way == 5) /* 5: all but the first one are busy */
		cache_reclaim(ctx, items, way ? 1 : nr);
	if (!way)
		return;
	berth_mutex_lock(&c->w.lock);
	for (unsigned i = way == 5; i < nr; i++) {
		items[i].result = way == 5 ? (uint8_t)BERTH_RECLAIM_BUSY : results[way];
		if (way != 3)
			continue;
		if (!is_there(c, &items[i])) {
			items[i].result = BERTH_RECLAIM_GONE;
			continue;
		}
		for (uint64_t p = 0; p < 1ull << items[i].order; p++)
			c->said[items[i].cookie + p] = true;
	}
	berth_mutex_unlock(&c->w.lock);
}

static void failing_referenced(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	unsigned way = sweep_called(SWEEP_REFERENCED);

	cache_referenced(ctx, items, nr);
	for (unsigned i = 0; i < nr && way; i++)
		items[i].referenced = 2;
}

static void failing_writeback(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	unsigned way = sweep_called(SWEEP_WRITEBACK);

	for (unsigned i = 0; i < nr; i++)
		if (way == 1 || (way == 2 && i % 2))
			items[i].result = BERTH_RECLAIM_BUSY;
		else
			cache_writeback(ctx, &items[i], 1);
}

static const struct berth_owner_ops failing_cache = {
	.name = "cache",
	.migrate = failing_migrate,
	.holder = failing_holder,
	.reclaim = failing_reclaim,
	.referenced = failing_referenced,
	.writeback = failing_writeback,
};

static void failing_wake(void *ctx, struct berth_zone *zone, unsigned order,
			 enum berth_zone_kind highest)
{
	(void)ctx;
	(void)zone;
	(void)order;
	(void)highest;
	(void)sweep_called(SWEEP_WAKE_KSWAPD); /* it looks by itself, too, only later */
}

static uint64_t failing_nodes_reclaim(void *ctx, unsigned node, enum berth_zone_kind highest,
				      unsigned order, unsigned gfp)
{
	struct tight *t = tight_of(ctx);

	(void)node;
	(void)highest;
	(void)order;
	(void)gfp;
	return sweep_called(SWEEP_NODES_RECLAIM) ? 0 : free_some(t, t->spare, &t->nr_spare, 4);
}

static bool failing_oom(void *ctx, const struct berth_oom *oom)
{
	struct tight *t = tight_of(ctx);
	unsigned way = sweep_called(SWEEP_OOM);

	(void)oom;
	t->nr_ooms++;
	if (way) /* 2: promises what doesn't come */
		return way == 2;
	return free_some(t, t->hoard, &t->nr_hoard, 8) > 0;
}

static const struct berth_nodes_ops failing_nodes = {
	.wake_kswapd = failing_wake,
	.reclaim = failing_nodes_reclaim,
	.oom = failing_oom,
};

static uint64_t failing_count(void *ctx)
{
	struct tight *t = tight_of(ctx);
	unsigned way = sweep_called(SWEEP_COUNT);

	return way == 1 ? 0 : way == 2 ? 2 * t->nr_objects + 3 : t->nr_objects;
}

static uint64_t failing_scan(void *ctx, uint64_t nr_to_scan, uint64_t *pages)
{
	struct tight *t = tight_of(ctx);
	unsigned way = sweep_called(SWEEP_SCAN);
	uint64_t freed;

	if (way)
		return way == 1 ? BERTH_SHRINK_STOP : 0;
	freed = free_some(t, t->objects, &t->nr_objects, (unsigned)nr_to_scan);
	*pages += freed;
	t->nr_shrunk += freed;
	return freed;
}

/* Eats frames until it has many, or gets none, and gives them all back. */
static void eater_main(void *arg)
{
	static const unsigned flags[] = {
		0, 0, BERTH_GFP_ZERO, BERTH_GFP_ATOMIC, BERTH_GFP_NORETRY, BERTH_GFP_MAYFAIL, 0, 0,
	};
	struct worker *k = arg;
	struct tight *t = tight_of(k->w);
	struct world *w = k->w;
	berth_pfn_t eaten[EATEN];
	unsigned nr = 0;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		unsigned gfp = flags[below(&k->random, 8)];
		int ret = nr == EATEN ? -BERTH_ENOMEM :
					berth_node_alloc(t->c.nodes, 0, 0, gfp, BERTH_OWNER_NONE, 0,
							 &eaten[nr]);

		if (ret == 0) {
			uint64_t *word = berth_sim_frame(w->sim, eaten[nr]);

			take_frames(w, eaten[nr], 1);
			require(w, !(gfp & BERTH_GFP_ZERO) || *word == 0, "a frame isn't cleared",
				eaten[nr], *word);
			*word = 0xea7e0000 + i;
			t->nr_eaten++;
			nr++;
			continue;
		}
		require_ret(w, "an eater's allocation", ret, -BERTH_ENOMEM);
		for (unsigned half = nr / 2; nr > half;) {
			leave_frames(w, eaten[--nr], 1);
			require_ret(w, "an eater's free", berth_node_free(t->c.nodes, eaten[nr]),
				    0);
		}
	}
	while (nr) {
		leave_frames(w, eaten[--nr], 1);
		require_ret(w, "an eater's free", berth_node_free(t->c.nodes, eaten[nr]), 0);
	}
}

static void add_eaters(struct cache *c)
{
	struct tight *t = tight_of(c);

	take_unmovable(t, t->spare, &t->nr_spare, 12);
	take_unmovable(t, t->hoard, &t->nr_hoard, HOARD);
	take_unmovable(t, t->objects, &t->nr_objects, OBJECTS);
	t->shrinker = (struct berth_shrinker){ .count = failing_count,
					       .scan = failing_scan,
					       .ctx = t,
					       .seeks = 2,
					       .batch = 4 };
	assert_int_equal(berth_nodes_shrinker_register(c->nodes, &t->shrinker), 0);
	for (unsigned i = 0; i < 2; i++)
		(void)add_task(&c->w, &t->eaters[i], 6 + i, t->nr_bites, &c->random, eater_main);
}

static void begin_tight(void *ctx, uint64_t seed)
{
	cache_begin(ctx, seed);
}

static bool run_tight(void *ctx, uint64_t seed)
{
	struct tight *t = ctx;
	struct cache *c = &t->c;
	const struct berth_sim_result *result = berth_sim_run(c->w.sim);

	if (result->outcome == BERTH_SIM_DONE) {
		(void)free_some(t, t->spare, &t->nr_spare, HOARD);
		(void)free_some(t, t->hoard, &t->nr_hoard, HOARD);
		(void)free_some(t, t->objects, &t->nr_objects, OBJECTS);
		berth_nodes_shrinker_unregister(c->nodes, &t->shrinker);
		while (c->nr_writing)
			assert_int_equal(berth_lru_end_writeback(c->w.zone,
								 c->writing[--c->nr_writing], true),
					 0);
		if (!world_claims_again(&c->w, seed))
			return false;
	}
	return cache_verify(c, result, seed);
}

/* LRU lists and their batches, kswapd, direct reclaim, write-back, shrinkers, the allocator's helpers, OOM. */
static void test_memory_that_is_short(void **state)
{
	const struct lru_params params = { .nr_workers = 3,
					   .nr_ops = 40,
					   .max_order = 1,
					   .nr_drains = 2,
					   .nr_claims = 3,
					   .nr_writes = 20,
					   .ops = &failing_cache,
					   .nodes_ops = &failing_nodes,
					   .nr_kswapd = 12,
					   .more = add_eaters };
	struct tight *t = calloc(1, sizeof(*t));
	struct sweep s = { "memory that is short", begin_tight, run_tight, t, NULL, 40, 0 };

	(void)state;
	assert_non_null(t);
	t->nr_bites = 70;
	cache_setup(&t->c, &params);
	s.sim = t->c.w.sim;
	for (uint64_t seed = scenario_seed(1); seed < scenario_seed(1) + 3; seed++)
		sweep_calls(&s, SWEEP_MIGRATE, SWEEP_SCAN, seed);
	s.most = 20;
	sweep_ops(&s, BERTH_SIM_NOW, BERTH_SIM_FENCE, scenario_seed(1));
	sweep_report(&s);
	print_message(
		"# %llu frames eaten, %llu times nothing else was left, %llu objects shrunk\n",
		(unsigned long long)t->nr_eaten, (unsigned long long)t->nr_ooms,
		(unsigned long long)t->nr_shrunk);
	cache_teardown(&t->c);
	free(t);
}

/* Nothing is on LRU lists: what helps are shrinkers, the allocator's helper, and then OOM alone. */
static void test_memory_that_nobody_can_drop(void **state)
{
	const struct lru_params params = { .ops = &failing_cache,
					   .nodes_ops = &failing_nodes,
					   .nr_kswapd = 6,
					   .nr_drains = 1,
					   .more = add_eaters };
	struct tight *t = calloc(1, sizeof(*t));
	struct sweep s = { "memory for nobody", begin_tight, run_tight, t, NULL, 40, 0 };

	(void)state;
	assert_non_null(t);
	t->nr_bites = 120;
	cache_setup(&t->c, &params);
	s.sim = t->c.w.sim;
	for (uint64_t seed = scenario_seed(1); seed < scenario_seed(1) + 3; seed++)
		sweep_calls(&s, SWEEP_WAKE_KSWAPD, SWEEP_SCAN, seed);
	s.most = 10;
	sweep_ops(&s, BERTH_SIM_NOW, BERTH_SIM_FENCE, scenario_seed(1));
	sweep_report(&s);
	assert_true(t->nr_ooms > 0);
	cache_teardown(&t->c);
	free(t);
}

/* ---- A memblock, whose arrays grow ------------------------------------------------------------------- */

#define BLOCK_PAGES 512u /* of physical memory; the zone takes ZONE_PAGES of it */
#define LOGOS 12u /* reserved ranges that are freed late, each cut out of the middle of one */
#define PAGE_BYTES ((uint64_t)BERTH_PAGE_SIZE)

struct block_world {
	struct world w; /* its zone; the workers, once it is handed over */
	struct berth_memblock memblock;
	struct berth_memblock_region memory[2], reserved[2];
	char *physical; /* what map() shows */
	bool by_alloc;  /* arrays come from alloc() */
	unsigned nr_arrays, nr_refused;
	uint64_t nr_freed; /* late */
	struct worker builder, user;
};

static struct block_world *block_of(void *ctx)
{
	return (struct block_world *)ctx;
}

static void *array_map(void *ctx, berth_phys_t base, uint64_t bytes)
{
	struct block_world *b = block_of(ctx);

	require(&b->w, base + bytes <= ZONE_START * PAGE_BYTES + BLOCK_PAGES * PAGE_BYTES,
		"an array outside memory", base, bytes);
	return sweep_called(SWEEP_ARRAY_MAP) ? NULL :
					       b->physical + (base - ZONE_START * PAGE_BYTES);
}

static void *array_alloc(void *ctx, size_t bytes)
{
	struct block_world *b = block_of(ctx);
	void *array;

	if (sweep_called(SWEEP_ARRAY_ALLOC))
		return NULL;
	array = calloc(1, bytes);
	b->nr_arrays += array != NULL;
	return array;
}

static void array_free(void *ctx, void *array, size_t bytes)
{
	(void)bytes;
	(void)sweep_called(SWEEP_ARRAY_FREE);
	block_of(ctx)->nr_arrays--;
	free(array);
}

static const struct berth_memblock_ops mapped_arrays = { .map = array_map };
static const struct berth_memblock_ops allocated_arrays = { .alloc = array_alloc,
							    .free = array_free };

/* What failed has changed nothing, and works the next time. */
static void again(struct block_world *b, int ret, uint64_t reserved_bytes)
{
	struct berth_memblock_stats stats;
	struct berth_violation v = { 0 };

	require_ret(&b->w, "what an array has no room for", ret, -BERTH_ENOMEM);
	b->nr_refused++;
	berth_memblock_stats(&b->memblock, &stats);
	/* An array that grew is reserved itself. */
	require(&b->w, stats.reserved_bytes >= reserved_bytes, "reserved bytes after a failure",
		stats.reserved_bytes, reserved_bytes);
	require(&b->w, berth_memblock_check(&b->memblock, &v), v.what, v.value, v.expected);
}

static berth_phys_t phys(uint64_t page)
{
	return (ZONE_START + page) * PAGE_BYTES;
}

static void reserve_pages(struct block_world *b, uint64_t page, uint64_t nr)
{
	struct berth_memblock_stats before;
	int ret;

	berth_memblock_stats(&b->memblock, &before);
	ret = berth_memblock_reserve(&b->memblock, phys(page), nr * PAGE_BYTES);
	if (ret) {
		require(&b->w,
			!berth_memblock_overlaps_reserved(&b->memblock, phys(page),
							  nr * PAGE_BYTES),
			"a range that couldn't be reserved is", page, nr);
		again(b, ret, before.reserved_bytes);
		ret = berth_memblock_reserve(&b->memblock, phys(page), nr * PAGE_BYTES);
	}
	require_ret(&b->w, "a reservation", ret, 0);
}

/* Reserves more ranges than the arrays have room for at first, hands the rest over, and frees parts while others use
 * the zone. */
static void builder_main(void *arg)
{
	struct worker *k = arg;
	struct block_world *b = block_of(k->w);
	struct world *w = k->w;

	/* Memory in pieces that don't touch, beyond the zone's: where arrays may lie. */
	for (uint64_t i = 1; i < 6; i++) {
		berth_phys_t base = phys(ZONE_PAGES + 8 + i * 40);
		int ret = berth_memblock_add(&b->memblock, base, 30 * PAGE_BYTES, 0, 0);

		if (ret) {
			again(b, ret, 0);
			ret = berth_memblock_add(&b->memblock, base, 30 * PAGE_BYTES, 0, 0);
		}
		require_ret(w, "more memory", ret, 0);
	}
	for (uint64_t i = 0; i < LOGOS; i++)
		reserve_pages(b, 128 + i * 10, 6);
	require_ret(w, "the hand-over", berth_memblock_hand_over(&b->memblock, w->zone, 0), 0);
	for (unsigned i = 0; i < 2; i++)
		berth_sim_yield(w->sim);
	for (uint64_t i = 0; i < LOGOS; i++) {
		berth_phys_t base = phys(128 + i * 10 + 2);
		struct berth_zone_stats before, after;
		int ret;

		berth_zone_stats(w->zone, &before);
		ret = berth_memblock_free_late(&b->memblock, w->zone, base, 2 * PAGE_BYTES);
		if (ret) {
			again(b, ret, 0);
			berth_zone_stats(w->zone, &after);
			require(w, after.managed_pages == before.managed_pages,
				"a late free that failed", after.managed_pages,
				before.managed_pages);
			if (!b->by_alloc)
				continue; /* arrays don't grow from memory that others have */
			ret = berth_memblock_free_late(&b->memblock, w->zone, base, 2 * PAGE_BYTES);
		}
		require_ret(w, "a late free", ret, 0);
		berth_zone_stats(w->zone, &after);
		require(w, after.managed_pages == before.managed_pages + 2, "a late free",
			after.managed_pages, before.managed_pages + 2);
		b->nr_freed += 2;
	}
}

/* Uses the zone as soon as it has frames. */
static void block_user_main(void *arg)
{
	struct worker *k = arg;
	struct world *w = k->w;
	berth_pfn_t pfns[8];
	unsigned nr = 0;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		if (nr < 8 && below(&k->random, 2)) {
			if (berth_alloc_pages(w->zone, 0, 0, BERTH_OWNER_NONE, 0, &pfns[nr]) == 0)
				take_frames(w, pfns[nr++], 1);
		} else if (nr) {
			leave_frames(w, pfns[--nr], 1);
			require_ret(w, "a free", berth_free_pages(w->zone, pfns[nr]), 0);
		}
		berth_sim_yield(w->sim);
	}
	while (nr) {
		leave_frames(w, pfns[--nr], 1);
		require_ret(w, "a free", berth_free_pages(w->zone, pfns[nr]), 0);
	}
}

static void begin_block(void *ctx, uint64_t seed)
{
	struct block_world *b = ctx;
	struct world *w = &b->w;
	struct berth_memblock_params params = { .memory = b->memory,
						.reserved = b->reserved,
						.max_memory = 2,
						.max_reserved = 2,
						.ops = b->by_alloc ? &allocated_arrays :
								     &mapped_arrays,
						.ctx = b };
	uint64_t random = seed;

	berth_sim_reset(w->sim, seed);
	memset(w->taken, 0, sizeof(w->taken));
	b->nr_freed = b->nr_refused = 0;
	empty_zone(w, false);
	assert_int_equal(berth_memblock_init(&b->memblock, &params), 0);
	assert_int_equal(berth_memblock_add(&b->memblock, phys(0), ZONE_PAGES * PAGE_BYTES, 0, 0),
			 0);
	/* Where arrays lie that are mapped. */
	assert_int_equal(
		berth_memblock_add(&b->memblock, phys(ZONE_PAGES + 8), 30 * PAGE_BYTES, 0, 0), 0);
	(void)add_task(w, &b->builder, 0, 1, &random, builder_main);
	(void)add_task(w, &b->user, 1, 120, &random, block_user_main);
}

static bool run_block(void *ctx, uint64_t seed)
{
	struct block_world *b = ctx;
	struct world *w = &b->w;
	const struct berth_sim_result *result = berth_sim_run(w->sim);
	const struct berth_claim_params claim = { .nr_pages = 64 };
	struct berth_violation v = { 0 };
	struct berth_zone_stats stats;
	const char *what = result->what;

	if (result->outcome != BERTH_SIM_DONE) {
		print_failure(w, what ? what : "no end", seed, result->value, result->expected);
		return false;
	}
	berth_pcp_drain_all(w->zone);
	if (!berth_memblock_check(&b->memblock, &v) || !berth_zone_check(w->zone, &v))
		what = v.what;
	berth_zone_stats(w->zone, &stats);
	if (!what && stats.free_pages != ZONE_PAGES - LOGOS * 6 + b->nr_freed)
		what = "frames are lost";
	if (!what && (berth_alloc_contig_range(w->zone, ZONE_START, 64, &claim, NULL) ||
		      berth_free_contig_range(w->zone, ZONE_START, 64)))
		what = "a claim fails";
	berth_memblock_destroy(&b->memblock);
	if (!what && b->nr_arrays)
		what = "arrays are lost";
	if (what)
		print_failure(w, what, seed, stats.free_pages, v.expected);
	return !what;
}

static void test_arrays_of_a_memblock(void **state)
{
	(void)state;
	for (unsigned by_alloc = 0; by_alloc < 2; by_alloc++) {
		struct block_world *b = calloc(1, sizeof(*b));
		const struct berth_sim_params sim = { .leap_ns = 2000000 };
		struct sweep s = { by_alloc ? "memblock, arrays from elsewhere" :
					      "memblock, arrays of its own",
				   begin_block,
				   run_block,
				   b,
				   NULL,
				   60,
				   0 };

		assert_non_null(b);
		b->by_alloc = by_alloc;
		b->physical = calloc(BLOCK_PAGES, BERTH_PAGE_SIZE);
		assert_non_null(b->physical);
		s.sim = b->w.sim = berth_sim_create(&sim);
		sweep_calls(&s, SWEEP_ARRAY_MAP, SWEEP_ARRAY_FREE, scenario_seed(1));
		sweep_ops(&s, BERTH_SIM_NOW, BERTH_SIM_FENCE, scenario_seed(1));
		sweep_report(&s);
		assert_true(b->nr_refused > 0 || b->by_alloc);
		berth_sim_destroy(b->w.sim);
		free(b->w.metadata);
		free(b->physical);
		free(b);
	}
}

static void test_everything_failed(void **state)
{
	(void)state;
	sweep_check_members(SWEEP_OWNERS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claims_of_all_kinds),
		cmocka_unit_test(test_preparations_in_several_hands),
		cmocka_unit_test(test_changes_of_a_zone),
		cmocka_unit_test(test_memory_that_is_short),
		cmocka_unit_test(test_memory_that_nobody_can_drop),
		cmocka_unit_test(test_arrays_of_a_memblock),
		cmocka_unit_test(test_everything_failed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
