/* SPDX-License-Identifier: MIT */
/*
 * A world (testsim.h) with those who change a zone while it is in use: how areas lend, compaction,
 * memory that is freed late, splits and exact sizes; and with claims that are in several hands: one
 * preparation that several drive, one claim that two release.
 */
#ifndef BERTH_CHANGEWORLD_H
#define BERTH_CHANGEWORLD_H

#include "testsim.h"

#define LATE_PAGES 4u /* of a reserved range that is freed in one call */
#define MAX_LATE 16u
#define MAX_PREPARED 4u
#define MAX_ROUNDS 4u

struct change_params {
	struct world_params world;
	unsigned nr_lends;              /* a lender's changes */
	unsigned nr_compactions;        /* a compacter's runs */
	unsigned nr_frees;              /* late frees by each of two */
	unsigned nr_hands;              /* tasks that drive the preparations, */
	unsigned nr_prepared, nr_turns; /* so many, in so many turns each */
	unsigned nr_rounds;             /* claims that two release */
	bool splits;                    /* workers split blocks, ask for exact sizes, and compact */
};

/* The world's lock guards it. */
struct change {
	struct world w;
	struct change_params params;
	bool closed[2];    /* the area lends nothing, */
	uint64_t epoch[2]; /* since its last change */
	bool begun[MAX_LATE];
	unsigned freed[MAX_LATE];
	struct worker tasks[7], hands[4];
	char *memory; /* of preparations */
	struct berth_cma_prepared *prepared[MAX_PREPARED];
	uint64_t prepared_pages[MAX_PREPARED];
	unsigned taken[MAX_PREPARED];
	/* A claim that is to be released. */
	berth_pfn_t pfn;
	uint64_t nr_pages;
	unsigned attempts[MAX_ROUNDS], released[MAX_ROUNDS], round;
	uint64_t nr_lent, nr_compacted, nr_split, nr_taken;
};

static inline struct change *change_of(struct worker *k)
{
	return (struct change *)(void *)k->w;
}

/* ---- Lending -------------------------------------------------------------------------------------- */

static inline void lender_main(void *arg)
{
	struct worker *k = arg;
	struct change *c = change_of(k);
	struct world *w = k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		unsigned area = (unsigned)below(&k->random, 2);
		bool close = below(&k->random, 2);
		enum berth_lend_policy lend = close ? BERTH_LEND_OFF :
						      (enum berth_lend_policy)below(&k->random, 3);

		berth_mutex_lock(&w->lock);
		c->closed[area] = false;
		c->epoch[area]++;
		berth_mutex_unlock(&w->lock);
		require_ret(w, "a change of lending",
			    berth_cma_set_lend(w->areas[area], lend,
					       below(&k->random, 2) ? 0 : below(&k->random, 40)),
			    0);
		berth_mutex_lock(&w->lock);
		c->closed[area] = close;
		berth_mutex_unlock(&w->lock);
		berth_sim_yield(w->sim);
	}
}

/* The area that a frame lies in, or 2. */
static inline unsigned area_at(berth_pfn_t pfn)
{
	pfn -= ZONE_START;
	return pfn < AREA_PAGES ? 0 : pfn >= 128 && pfn < 128 + AREA_PAGES ? 1 : 2;
}

static inline unsigned late_at(const struct change *c, berth_pfn_t pfn)
{
	berth_pfn_t first = ZONE_START + ZONE_PAGES - c->params.world.reserved;

	return pfn < first ? MAX_LATE : (unsigned)((pfn - first) / LATE_PAGES);
}

/* What was just allocated might have been: `closed` since before the call, at these epochs. */
static inline void check_source(struct worker *k, unsigned slot, const bool *closed,
				const uint64_t *epoch)
{
	struct change *c = change_of(k);
	struct run *run = &k->runs[slot];

	berth_mutex_lock(&k->w->lock);
	for (uint32_t i = 0; i < run->nr_pages; i++) {
		berth_pfn_t pfn = where(k, slot, i);
		unsigned area = area_at(pfn), late = late_at(c, pfn);

		if (area < 2) {
			c->nr_lent++;
			require(k->w, !closed[area] || c->epoch[area] != epoch[area],
				"a frame of a closed area is lent", pfn, area);
		}
		require(k->w, late == MAX_LATE || c->begun[late], "a reserved frame is given out",
			pfn, late);
	}
	berth_mutex_unlock(&k->w->lock);
}

/* ---- Workers: allocations of other kinds, and splits ------------------------------------------------ */

/* nr_pages by an exact size, or by a block that is compacted for. */
static inline void alloc_otherwise(struct worker *k, unsigned slot)
{
	struct world *w = k->w;
	struct run *run = &k->runs[slot];
	uint64_t page = first_page(k, slot), nr = 1 + below(&k->random, SLOT_PAGES);
	berth_pfn_t pfn = BERTH_PFN_NONE;
	bool movable = below(&k->random, 4) != 0;
	unsigned gfp = movable ? BERTH_GFP_MOVABLE : BERTH_GFP_UNMOVABLE;
	unsigned owner = movable ? w->owner : BERTH_OWNER_NONE;
	int ret;

	if (movable && below(&k->random, 2)) {
		ret = berth_alloc_pages_exact(w->zone, nr, gfp, owner, page, &pfn);
	} else {
		nr = SLOT_PAGES;
		ret = berth_alloc_pages(w->zone, 2, gfp | BERTH_GFP_COMPACT, owner, page, &pfn);
	}
	if (ret == -BERTH_ENOMEM) {
		w->nr_refused++;
		return;
	}
	require_ret(w, "another allocation", ret, 0);
	take_frames(w, pfn, nr);
	w->nr_allocated++;
	*run = (struct run){ .nr_pages = (uint32_t)nr,
			     .movable = movable,
			     .fixed = pfn,
			     .value = next_random(&k->random) };
	berth_mutex_lock(&w->lock);
	for (uint32_t i = 0; i < nr; i++) {
		if (movable)
			w->table[page + i] = pfn + i;
		*content_of(w, pfn + i) = run->value + i;
	}
	berth_mutex_unlock(&w->lock);
}

static inline void alloc_checked(struct worker *k, unsigned slot)
{
	struct change *c = change_of(k);
	uint64_t epoch[2];
	bool closed[2];

	berth_mutex_lock(&k->w->lock);
	memcpy(closed, c->closed, sizeof(closed));
	memcpy(epoch, c->epoch, sizeof(epoch));
	berth_mutex_unlock(&k->w->lock);
	if (c->params.splits && below(&k->random, 2))
		alloc_otherwise(k, slot);
	else
		worker_alloc(k, slot);
	check_source(k, slot, closed, epoch);
}

/* Nobody moves it meanwhile, since the lock is held; but claims cut it. */
static inline void split(struct worker *k, unsigned slot)
{
	struct world *w = k->w;
	struct run *run = &k->runs[slot];
	unsigned order = 99;
	berth_pfn_t head;
	int ret;

	berth_mutex_lock(&w->lock);
	head = berth_compound_head(w->zone, where(k, slot, run->nr_pages - 1), &order);
	require(w, head != BERTH_PFN_NONE && order <= 2, "the block of a page", head, order);
	ret = berth_split_pages(w->zone, head, 0);
	require(w, ret == 0 || ret == -BERTH_EBUSY, "a split", (uint64_t)(int64_t)ret, 0);
	change_of(k)->nr_split += ret == 0 && order;
	berth_mutex_unlock(&w->lock);
}

static inline void change_worker_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		unsigned slot = (unsigned)below(&k->random, SLOTS);
		struct run *run = &k->runs[slot];

		if (!run->nr_pages)
			alloc_checked(k, slot);
		else if (change_of(k)->params.splits && run->movable && below(&k->random, 3) == 0)
			split(k, slot);
		else
			worker_use(k, slot);
	}
}

/* ---- Compaction, late frees ------------------------------------------------------------------------- */

static inline void compacter_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		struct berth_compact_params params = {
			.order = 2 + (unsigned)below(&k->random, 4),
			.mode = (enum berth_compact_mode)below(&k->random, 3),
			.flags = (unsigned)below(&k->random, 4),
			.gfp = below(&k->random, 2) ? BERTH_GFP_MOVABLE : 0,
		};
		struct berth_compact_result r;
		int ret = berth_compact(k->w->zone, &params, &r);

		require(k->w, ret == 0 || may_fail_with(ret), "a compaction",
			(uint64_t)(int64_t)ret, 0);
		change_of(k)->nr_compacted += r.emptied;
	}
}

/* Two do so, each range in an order of its own; one of them succeeds. */
static inline void late_free_main(void *arg)
{
	struct worker *k = arg;
	struct change *c = change_of(k);
	struct world *w = k->w;
	unsigned nr = w->params.reserved / LATE_PAGES;
	unsigned at = (unsigned)below(&k->random, nr);

	for (unsigned i = 0; i < nr; i++, at = (at + 5) % nr) {
		int ret;

		berth_mutex_lock(&w->lock);
		c->begun[at] = true;
		berth_mutex_unlock(&w->lock);
		ret = berth_zone_free_reserved(
			w->zone, ZONE_START + ZONE_PAGES - w->params.reserved + at * LATE_PAGES,
			LATE_PAGES);
		require(w, ret == 0 || ret == -BERTH_EINVAL, "a late free", (uint64_t)(int64_t)ret,
			0);
		berth_mutex_lock(&w->lock);
		c->freed[at] += ret == 0;
		require(w, c->freed[at] <= 1, "a range is freed late twice", at, c->freed[at]);
		berth_mutex_unlock(&w->lock);
	}
}

/* ---- Preparations in several hands -------------------------------------------------------------------- */

static inline void take_shared(struct worker *k, unsigned at)
{
	struct change *c = change_of(k);
	struct world *w = k->w;
	berth_pfn_t pfn = BERTH_PFN_NONE;
	int ret = berth_cma_prepare_take(c->prepared[at], &pfn, NULL);

	require(w, ret == 0 || ret == -BERTH_EINVAL || may_fail_with(ret), "taking",
		(uint64_t)(int64_t)ret, 0);
	if (ret)
		return;
	berth_mutex_lock(&w->lock);
	c->taken[at]++;
	c->nr_taken++;
	require(w, c->taken[at] == 1, "a preparation is taken twice", at, c->taken[at]);
	berth_mutex_unlock(&w->lock);
	claimed(w, pfn, c->prepared_pages[at]);
	require_ret(w, "a release", berth_cma_release(w->areas[at % 2], pfn, c->prepared_pages[at]),
		    0);
}

static inline void hand_main(void *arg)
{
	struct worker *k = arg;
	struct change *c = change_of(k);
	struct world *w = k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		unsigned at = (unsigned)below(&k->random, c->params.nr_prepared);
		unsigned choice = (unsigned)below(&k->random, 10);
		int ret = 0;

		if (choice < 6)
			ret = berth_cma_prepare_step(c->prepared[at], below(&k->random, 8), NULL);
		else if (choice < 9)
			take_shared(k, at);
		else
			ret = berth_cma_prepare_cancel(c->prepared[at]);
		require(w, ret >= 0 || ret == -BERTH_EINVAL || may_fail_with(ret), "a step",
			(uint64_t)(int64_t)ret, 0);
	}
}

static inline void prepare_all(struct change *c, uint64_t *random)
{
	struct world *w = &c->w;

	for (unsigned i = 0; i < c->params.nr_prepared; i++) {
		struct berth_claim_params params = { .nr_pages = 1 + below(random, 32) };

		c->prepared_pages[i] = params.nr_pages;
		c->taken[i] = 0;
		assert_int_equal(berth_cma_prepare(w->areas[i % 2], &params,
						   c->memory + i * berth_cma_prepared_bytes(),
						   &c->prepared[i]),
				 0);
	}
}

/* ---- Claims that two release --------------------------------------------------------------------------- */

/* Claims, and waits until both have tried. Nobody else claims from areas. */
static inline void round_main(void *arg)
{
	struct worker *k = arg;
	struct change *c = change_of(k);
	struct world *w = k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		struct berth_claim_params params = { .nr_pages = 1 + below(&k->random, 32) };
		bool all = false;
		berth_pfn_t pfn;

		require_ret(w, "a claim", berth_cma_alloc(w->areas[0], &params, &pfn, NULL), 0);
		claimed(w, pfn, params.nr_pages);
		berth_mutex_lock(&w->lock);
		c->pfn = pfn;
		c->nr_pages = params.nr_pages;
		c->round = i + 1;
		berth_mutex_unlock(&w->lock);
		while (!all) {
			berth_sim_yield(w->sim);
			berth_mutex_lock(&w->lock);
			all = c->attempts[i] == 2;
			berth_mutex_unlock(&w->lock);
		}
		require(w, c->released[i] == 1, "a claim is released by one of two", c->released[i],
			1);
	}
}

static inline void releaser_main(void *arg)
{
	struct worker *k = arg;
	struct change *c = change_of(k);
	struct world *w = k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		uint64_t nr = 0;
		berth_pfn_t pfn;
		int ret;

		while (!nr) {
			berth_sim_yield(w->sim);
			berth_mutex_lock(&w->lock);
			nr = c->round == i + 1 ? c->nr_pages : 0;
			pfn = c->pfn;
			berth_mutex_unlock(&w->lock);
		}
		ret = below(&k->random, 2) ? berth_cma_release(w->areas[0], pfn, nr) :
					     berth_cma_release_bulk(w->areas[0], &pfn, 1, nr);
		require(w, ret == 0 || ret == -BERTH_EINVAL, "one of two releases",
			(uint64_t)(int64_t)ret, 0);
		berth_mutex_lock(&w->lock);
		c->attempts[i]++;
		c->released[i] += ret == 0;
		berth_mutex_unlock(&w->lock);
	}
}

/* ---- Building, running ------------------------------------------------------------------------------------ */

static inline void change_begin(struct change *c, uint64_t seed)
{
	const struct change_params *p = &c->params;
	struct world *w = &c->w;
	uint64_t random = seed ^ 0xc4a26eull;

	memset(c->closed, 0, sizeof(c->closed));
	memset(c->begun, 0, sizeof(c->begun));
	memset(c->freed, 0, sizeof(c->freed));
	memset(c->attempts, 0, sizeof(c->attempts));
	memset(c->released, 0, sizeof(c->released));
	c->round = 0;
	world_begin(w, seed);
	prepare_all(c, &random);
	(void)add_task(w, &c->tasks[0], 0, p->nr_lends, &random, lender_main);
	(void)add_task(w, &c->tasks[1], 1, p->nr_compactions, &random, compacter_main);
	(void)add_task(w, &c->tasks[2], 2, p->nr_frees, &random, late_free_main);
	(void)add_task(w, &c->tasks[3], 3, p->nr_frees, &random, late_free_main);
	(void)add_task(w, &c->tasks[4], 4, p->nr_rounds, &random, round_main);
	(void)add_task(w, &c->tasks[5], 5, p->nr_rounds, &random, releaser_main);
	(void)add_task(w, &c->tasks[6], 6, p->nr_rounds, &random, releaser_main);
	for (unsigned i = 0; i < p->nr_hands; i++)
		(void)add_task(w, &c->hands[i], i, p->nr_turns, &random, hand_main);
}

/* What only such a world has, at the end of its run. */
static inline bool change_finish(struct change *c, const struct berth_sim_result *result,
				 uint64_t seed)
{
	struct world *w = &c->w;
	unsigned nr_late = c->params.nr_frees ? w->params.reserved / LATE_PAGES : 0;

	for (unsigned i = 0; i < c->params.nr_prepared && result->outcome == BERTH_SIM_DONE; i++) {
		int ret = berth_cma_prepare_cancel(c->prepared[i]);

		if (ret != (c->taken[i] ? -BERTH_EINVAL : 0)) {
			print_failure(w, "the end of a preparation", seed, (uint64_t)(int64_t)ret,
				      c->taken[i]);
			return false;
		}
	}
	for (unsigned i = 0; i < nr_late && result->outcome == BERTH_SIM_DONE; i++)
		if (c->freed[i] != 1) {
			print_failure(w, "late frees of a range", seed, c->freed[i], 1);
			return false;
		}
	return true;
}

static inline bool change_run(struct change *c, uint64_t seed)
{
	const struct berth_sim_result *result = berth_sim_run(c->w.sim);

	return change_finish(c, result, seed) && world_finish(&c->w, result, seed, false);
}

static inline struct change *change_open(const struct change_params *params)
{
	const struct berth_sim_params sim = { .weak_memory = true, .leap_ns = 2000000 };
	struct change *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	world_setup(&c->w, &params->world, &sim);
	c->params = *params;
	c->w.params.worker = change_worker_main;
	c->memory = aligned_alloc(16, MAX_PREPARED * berth_cma_prepared_bytes());
	assert_non_null(c->memory);
	return c;
}

static inline void change_close(struct change *c)
{
	world_teardown(&c->w);
	free(c->memory);
	free(c);
}

#endif
