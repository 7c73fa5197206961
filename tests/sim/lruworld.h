/* SPDX-License-Identifier: MIT */
/*
 * A world (testsim.h) whose workers' pages are on LRU lists: an owner that drops and writes them, and
 * reclaimers, drainers of batches and claims that drop against it.
 */
#ifndef BERTH_LRUWORLD_H
#define BERTH_LRUWORLD_H

#include <berth/nodes.h>

#include "testsim.h"

struct cache;

struct lru_params {
	unsigned nr_workers, nr_ops, max_order;
	unsigned nr_reclaims, nr_drains, nr_claims, nr_writes; /* steps of each */
	unsigned ballast;
	const struct berth_owner_ops *ops; /* NULL: cache_ops */
	/* The zone is the only one of nodes, which are tuned; so many steps of a kswapd. */
	const struct berth_nodes_ops *nodes_ops;
	unsigned nr_kswapd;
	void (*more)(struct cache *cache); /* adds tasks */
};

struct cache {
	struct world w;
	struct lru_params params;
	bool dirty[NR_PAGES];
	bool said[NR_PAGES]; /* dirty, as the owner has answered; the core may not know it yet */
	berth_pfn_t writing[ZONE_PAGES];
	unsigned nr_writing;
	struct berth_nodes *nodes; /* NULL: the zone is alone */
	void *nodes_memory;
	struct worker kswapd;
	uint64_t random, nr_dropped, nr_written;
};

/* ---- The owner; its lock is the world's ----------------------------------------------------------- */

static inline bool is_there(const struct cache *c, const struct berth_reclaim_item *item)
{
	for (uint64_t i = 0; i < 1ull << item->order; i++)
		if (item->cookie + i >= NR_PAGES || c->w.table[item->cookie + i] != item->pfn + i)
			return false;
	return true;
}

static inline void drop_one(struct cache *c, struct berth_reclaim_item *item)
{
	struct world *w = &c->w;

	item->result = is_there(c, item) ? BERTH_RECLAIM_BUSY : BERTH_RECLAIM_GONE;
	if (item->result == BERTH_RECLAIM_GONE || below(&c->random, 8) == 0)
		return; /* gone, or it doesn't want to */
	for (uint64_t i = 0; i < 1ull << item->order; i++)
		if (c->said[item->cookie + i])
			item->result = BERTH_RECLAIM_DIRTY;
	if (item->result == BERTH_RECLAIM_DIRTY)
		return; /* whoever asks it meanwhile hears the same */
	if (!berth_reclaim_freeze(w->zone, item))
		return;
	leave_frames(w, item->pfn, 1ull << item->order);
	for (uint64_t i = 0; i < 1ull << item->order; i++) {
		require(w, !c->dirty[item->cookie + i], "a dirty page is dropped", item->pfn + i,
			0);
		*content_of(w, item->pfn + i) = 0xdeadbeef;
		w->table[item->cookie + i] = BERTH_PFN_NONE;
		c->nr_dropped++;
	}
	item->result = BERTH_RECLAIM_DROPPED;
}

static inline void cache_reclaim(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	struct cache *c = ctx;

	berth_mutex_lock(&c->w.lock);
	for (unsigned i = 0; i < nr; i++)
		drop_one(c, &items[i]);
	berth_mutex_unlock(&c->w.lock);
}

static inline void cache_referenced(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	struct cache *c = ctx;

	for (unsigned i = 0; i < nr; i++)
		items[i].referenced = (uint8_t)(below(&c->random, 6) / 4);
}

/* The lock is held. */
static inline void write_one(struct cache *c, berth_pfn_t pfn, uint64_t page, unsigned order)
{
	for (uint64_t i = 0; i < 1ull << order; i++)
		if (page + i < NR_PAGES && c->w.table[page + i] == pfn + i)
			c->dirty[page + i] = c->said[page + i] = false;
	c->writing[c->nr_writing++] = pfn;
	c->nr_written++;
}

static inline void cache_writeback(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	struct cache *c = ctx;

	berth_mutex_lock(&c->w.lock);
	for (unsigned i = 0; i < nr; i++)
		if (below(&c->random, 4) == 0)
			items[i].result = BERTH_RECLAIM_BUSY;
		else
			write_one(c, items[i].pfn, items[i].cookie, items[i].order);
	berth_mutex_unlock(&c->w.lock);
}

static const struct berth_owner_ops cache_ops = {
	.name = "cache",
	.migrate = world_migrate,
	.reclaim = cache_reclaim,
	.referenced = cache_referenced,
	.writeback = cache_writeback,
};

static inline void writer_main(void *arg)
{
	struct worker *k = arg;
	struct cache *c = (struct cache *)(void *)k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		berth_pfn_t pfn = BERTH_PFN_NONE;

		berth_mutex_lock(&c->w.lock);
		if (c->nr_writing) {
			unsigned at = (unsigned)below(&k->random, c->nr_writing);

			pfn = c->writing[at];
			c->writing[at] = c->writing[--c->nr_writing];
		}
		berth_mutex_unlock(&c->w.lock);
		if (pfn == BERTH_PFN_NONE)
			berth_sim_yield(c->w.sim);
		else
			require_ret(&c->w, "the end of a write",
				    berth_lru_end_writeback(c->w.zone, pfn,
							    below(&k->random, 4) != 0),
				    0);
	}
}

/* ---- Workers: their pages may vanish whenever they don't hold the lock ------------------------------- */

static inline void add_pages(struct worker *k, unsigned slot)
{
	struct world *w = k->w;
	struct cache *c = (struct cache *)(void *)w;
	unsigned order = (unsigned)below(&k->random, c->params.max_order + 1);
	uint64_t page = first_page(k, slot);
	berth_pfn_t pfn;
	unsigned gfp = BERTH_GFP_MOVABLE | BERTH_GFP_LRU;
	int ret = c->nodes ? berth_node_alloc(c->nodes, 0, order, gfp, w->owner, page, &pfn) :
			     berth_alloc_pages(w->zone, order, gfp, w->owner, page, &pfn);

	if (ret == -BERTH_ENOMEM) {
		w->nr_refused++;
		return;
	}
	require_ret(w, "an allocation", ret, 0);
	take_frames(w, pfn, 1ull << order);
	w->nr_allocated++;
	berth_mutex_lock(&w->lock);
	for (uint64_t i = 0; i < 1ull << order; i++) {
		w->table[page + i] = pfn + i;
		c->dirty[page + i] = c->said[page + i] = false;
		*content_of(w, pfn + i) = page + i + 1;
	}
	if (below(&k->random, 8))
		require_ret(w, "an addition", berth_lru_add(w->zone, pfn, 1ull << order), 0);
	berth_mutex_unlock(&w->lock);
}

/* Frees one page; a part of a block that is being written must wait. The lock is held. */
static inline void free_page(struct cache *c, uint64_t page)
{
	struct world *w = &c->w;
	berth_pfn_t pfn = w->table[page];
	int ret;

	if (pfn == BERTH_PFN_NONE)
		return;
	w->table[page] = BERTH_PFN_NONE;
	leave_frames(w, pfn, 1);
	ret = berth_free_range(w->zone, pfn, 1, w->owner);
	if (ret == -BERTH_EBUSY) {
		take_frames(w, pfn, 1);
		w->table[page] = pfn;
		return;
	}
	require_ret(w, "a free", ret, 0);
}

/* An allocated block of one page, as most are, by the way that is the fastest. The lock is held. */
static inline void free_single(struct cache *c, uint64_t page)
{
	struct world *w = &c->w;
	berth_pfn_t pfn = w->table[page];

	w->table[page] = BERTH_PFN_NONE;
	leave_frames(w, pfn, 1);
	require_ret(w, "a free of a block", berth_free_pages(w->zone, pfn), 0);
}

static inline void begin_write(struct cache *c, uint64_t page)
{
	struct world *w = &c->w;
	berth_pfn_t pfn = w->table[page], head = berth_compound_head(w->zone, pfn, NULL);
	unsigned order;
	int ret;

	require(w, head != BERTH_PFN_NONE && head <= pfn, "the head of a page", head, pfn);
	ret = berth_lru_begin_writeback(w->zone, head, &order);
	if (ret == 0)
		write_one(c, head, page - (pfn - head), order);
	else
		require_ret(w, "the begin of a write", ret, -BERTH_EBUSY);
}

/* The lock is held, and the page is there. */
static inline void use_page(struct worker *k, uint64_t page)
{
	struct cache *c = (struct cache *)(void *)k->w;
	struct world *w = k->w;
	berth_pfn_t pfn = w->table[page];

	require(w, *content_of(w, pfn) == page + 1, "a page's contents are wrong",
		*content_of(w, pfn), page + 1);
	switch (below(&k->random, 9)) {
	case 0:
	case 1:
		berth_lru_mark_accessed(w->zone, pfn);
		break;
	case 2:
		berth_lru_activate(w->zone, pfn);
		break;
	case 3:
		berth_lru_deactivate(w->zone, pfn);
		break;
	case 4:
		berth_lru_rotate(w->zone, pfn);
		break;
	case 5:
		require_ret(w, "making a page dirty", berth_lru_set_dirty(w->zone, pfn, 1), 0);
		c->dirty[page] = true;
		break;
	case 6:
		require_ret(w, "locking a page",
			    berth_lru_set_unevictable(w->zone, pfn, 1, below(&k->random, 2)), 0);
		break;
	case 7:
		begin_write(c, page);
		break;
	default:
		require_ret(w, "taking a page off", berth_lru_del(w->zone, pfn, 1), 0);
		break;
	}
}

static inline void lru_step(struct worker *k)
{
	struct world *w = k->w;
	struct cache *c = (struct cache *)(void *)w;
	unsigned slot = (unsigned)below(&k->random, SLOTS);
	uint64_t page = first_page(k, slot), there = NR_PAGES, nr = 0;

	berth_mutex_lock(&w->lock);
	for (uint64_t i = 0; i < SLOT_PAGES; i++) {
		if (w->table[page + i] == BERTH_PFN_NONE)
			continue;
		nr++;
		if (there == NR_PAGES || below(&k->random, 2))
			there = page + i;
	}
	if (!nr) {
		berth_mutex_unlock(&w->lock);
		add_pages(k, slot);
		return;
	}
	if (below(&k->random, 4))
		use_page(k, there);
	else if (c->params.max_order == 0)
		free_single(c, there);
	else
		for (uint64_t i = 0; i < SLOT_PAGES; i++)
			if (below(&k->random, 4))
				free_page(c, page + i);
	berth_mutex_unlock(&w->lock);
}

static inline void lru_worker_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++)
		lru_step(k);
}

/* ---- Those who are against them ---------------------------------------------------------------------- */

static inline void reclaimer_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++)
		(void)berth_zone_reclaim(k->w->zone, 1 + below(&k->random, 24),
					 (unsigned)below(&k->random, 2));
}

static inline void lru_drainer_main(void *arg)
{
	struct worker *k = arg;
	struct berth_lru_stats stats;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		if (below(&k->random, 2)) {
			berth_lru_add_drain_all(k->w->zone);
			continue;
		}
		berth_lru_cache_disable(k->w->zone);
		for (unsigned looks = 0; looks < 3; looks++) {
			berth_sim_yield(k->w->sim);
			berth_lru_stats(k->w->zone, &stats);
			require(k->w, stats.batched == 0, "a batch isn't empty while it's disabled",
				stats.batched, 0);
		}
		berth_lru_cache_enable(k->w->zone);
	}
}

static inline void dropping_claimer_main(void *arg)
{
	struct worker *k = arg;
	struct world *w = k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		uint64_t nr = 1 + below(&k->random, 40);
		berth_pfn_t pfn = ZONE_START + below(&k->random, ZONE_PAGES - nr);
		struct berth_claim_params params = { .nr_pages = nr,
						     .flags = below(&k->random, 2) ?
								      BERTH_CLAIM_DROP :
								      0 };
		struct berth_cma *area = below(&k->random, 2) ? w->areas[0] : NULL;
		int ret = area ? berth_cma_alloc(area, &params, &pfn, NULL) :
				 berth_alloc_contig_range(w->zone, pfn, nr, &params, NULL);

		range_claimed(w, ret, area, pfn, nr);
	}
}

/* ---- Building, running ---------------------------------------------------------------------------------- */

/* One node, whose zone keeps 12 frames from everybody. */
static inline void nodes_build(struct cache *c, const struct berth_owner_ops *ops)
{
	struct berth_nodes_params params = { .nr_nodes = 1, .ops = c->params.nodes_ops, .ctx = c };
	struct berth_tunables tunables = BERTH_TUNABLES_DEFAULT;
	size_t bytes = berth_nodes_metadata_size(&params);

	tunables.min_free_kbytes = 48;
	tunables.watermark_boost_factor = 0;
	if (!c->nodes_memory)
		assert_int_equal(posix_memalign(&c->nodes_memory, 64, bytes), 0);
	assert_int_equal(berth_nodes_init(&c->nodes, &params, c->nodes_memory, bytes), 0);
	assert_int_equal(berth_nodes_add_zone(c->nodes, 0, BERTH_ZONE_NORMAL, c->w.zone), 0);
	assert_int_equal(berth_nodes_owner_register(c->nodes, ops, c, &c->w.owner), 0);
	assert_int_equal(berth_nodes_tune(c->nodes, &tunables), 0);
}

static inline void kswapd_main(void *arg)
{
	struct worker *k = arg;
	struct cache *c = (struct cache *)(void *)k->w;

	for (unsigned i = 0; i < k->nr_ops; i++)
		if (berth_kswapd_step(c->nodes, 0, below(&k->random, 64), NULL) ==
		    BERTH_KSWAPD_AGAIN)
			berth_sim_yield(k->w->sim);
		else
			berth_sim_port_ops.wait(k->w->sim, 20000);
}

static inline void cache_build(struct cache *c)
{
	const struct berth_owner_ops *ops = c->params.ops ? c->params.ops : &cache_ops;
	struct world *w = &c->w;

	init_zone(w, true);
	declare_area(w, 0, "first", ZONE_START, BERTH_LEND_FIRST);
	if (c->params.nodes_ops)
		nodes_build(c, ops);
	else
		assert_int_equal(berth_owner_register(w->zone, ops, c, &w->owner), 0);
}

static inline void cache_begin(struct cache *c, uint64_t seed)
{
	struct world *w = &c->w;

	world_reset(w, seed);
	c->random = seed;
	c->nr_dropped = c->nr_written = c->nr_writing = 0;
	w->params.ballast = c->params.ballast;
	cache_build(c);
	take_ballast(w);
	for (unsigned i = 0; i < c->params.nr_workers; i++)
		(void)add_task(w, &w->workers[i], i, c->params.nr_ops, &c->random, lru_worker_main);
	(void)add_task(w, &w->claimers[0], 0, c->params.nr_reclaims, &c->random, reclaimer_main);
	(void)add_task(w, &w->claimers[1], 1, c->params.nr_drains, &c->random, lru_drainer_main);
	(void)add_task(w, &w->claimers[2], 2, c->params.nr_claims, &c->random,
		       dropping_claimer_main);
	(void)add_task(w, &w->claimers[3], 3, c->params.nr_writes, &c->random, writer_main);
	(void)add_task(w, &w->claimers[4], 4, c->params.nr_reclaims, &c->random, reclaimer_main);
	(void)add_task(w, &c->kswapd, 5, c->params.nr_kswapd, &c->random, kswapd_main);
	if (c->params.more)
		c->params.more(c);
}

/* Verifies, then frees everything, and verifies again. */
static inline const char *cache_problem(struct cache *c, uint64_t *where, uint64_t *value,
					uint64_t *expected)
{
	struct world *w = &c->w;
	const char *what = world_problem(w, where, value, expected);

	for (unsigned i = 0; !what && i < c->nr_writing; i++)
		if (berth_lru_end_writeback(w->zone, c->writing[i], true))
			what = "a write can't be ended";
	for (uint64_t page = 0; !what && page < NR_PAGES; page++)
		free_page(c, page);
	return what ? what : world_left(w, where, value, expected);
}

static inline bool cache_verify(struct cache *c, const struct berth_sim_result *result,
				uint64_t seed)
{
	uint64_t where_is = 0, value = result->value, expected = result->expected;
	const char *what = result->what;

	if (result->outcome == BERTH_SIM_DONE)
		what = cache_problem(c, &where_is, &value, &expected);
	else if (!what)
		what = "the run didn't end";
	if (what)
		print_failure(&c->w, what, seed, value, expected);
	return !what;
}

static inline bool cache_run(struct cache *c, uint64_t seed)
{
	return cache_verify(c, berth_sim_run(c->w.sim), seed);
}

static inline void cache_setup(struct cache *c, const struct lru_params *params)
{
	const struct berth_sim_params sim = { .weak_memory = true,
					      .leap_ns = 2000000,
					      .nr_frames = ZONE_PAGES,
					      .start_pfn = ZONE_START };

	c->params = *params;
	c->w.sim = berth_sim_create(&sim);
}

static inline void cache_teardown(struct cache *c)
{
	berth_sim_destroy(c->w.sim);
	free(c->w.metadata);
	free(c->nodes_memory);
}

static inline struct cache *cache_open(const struct lru_params *params)
{
	struct cache *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	cache_setup(c, params);
	return c;
}

static inline void cache_close(struct cache *c)
{
	cache_teardown(c);
	free(c);
}

#endif
