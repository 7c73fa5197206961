/* SPDX-License-Identifier: MIT */
/*
 * Who does something in a world on the simulator (testsim.h): the owner of the workers' pages, workers that allocate, pin,
 * verify and free, a drainer, and claimers of areas and ranges.
 */
#ifndef BERTH_SIMTASKS_H
#define BERTH_SIMTASKS_H

#include "simworld.h"

/* ---- The owner ----------------------------------------------------------------------------------- */

static inline void world_move(struct world *w, struct berth_move *m)
{
	for (uint64_t i = 0; i < 1ull << m->order; i++) {
		if (m->cookie + i < NR_PAGES && w->table[m->cookie + i] == m->src + i)
			continue;
		m->result = BERTH_MOVE_GONE;
		return;
	}
	if (!berth_page_freeze(w->zone, m->src)) {
		m->result = BERTH_MOVE_BUSY;
		m->holder = "pin";
		return;
	}
	take_frames(w, m->dst, 1ull << m->order);
	leave_frames(w, m->src, 1ull << m->order);
	for (uint64_t i = 0; i < 1ull << m->order; i++) {
		*content_of(w, m->dst + i) = *content_of(w, m->src + i);
		*content_of(w, m->src + i) = 0xdeadbeef;
		w->table[m->cookie + i] = m->dst + i;
	}
	w->nr_moved += 1ull << m->order;
	m->result = BERTH_MOVE_MOVED;
	berth_move_arrived(w->zone, m);
}

/* pcp.I2: after a claim's drain no frame that it isolates is in a list, and none comes there. */
static inline void check_isolated(struct world *w)
{
	berth_pfn_t head;
	unsigned order;

	for (berth_pfn_t pfn = ZONE_START; pfn < ZONE_START + AREA_PAGES; pfn++)
		require(w,
			berth_pageblock_migratetype(w->zone, pfn) != BERTH_ISOLATE ||
				berth_frame_state(w->zone, pfn, &head, &order) != 'p',
			"pcp.I2 a frame of an isolated pageblock is cached", pfn, 0);
}

static inline void world_migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct world *w = ctx;

	berth_mutex_lock(&w->lock);
	if (w->params.must_succeed)
		check_isolated(w);
	for (unsigned i = 0; i < nr_moves; i++)
		world_move(w, &moves[i]);
	berth_mutex_unlock(&w->lock);
}

static const struct berth_owner_ops world_owner_ops = { .name = "workers",
							.migrate = world_migrate };

/* Where the pages beside each other are; without the lock, and so perhaps were. */
static inline void world_neighbours(void *ctx, uint64_t cookie, berth_pfn_t *pfns, unsigned nr)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < nr; i++) {
		berth_sim_yield(w->sim);
		pfns[i] = cookie + i < NR_PAGES ? w->table[cookie + i] : BERTH_PFN_NONE;
	}
}

/* Claims gather what belongs together (core/motion/gather.c). */
static const struct berth_owner_ops world_gathering_ops __attribute__((
	unused)) = { .name = "workers", .migrate = world_migrate, .neighbours = world_neighbours };

/* ---- Workers ------------------------------------------------------------------------------------- */

static inline uint64_t first_page(const struct worker *k, unsigned slot)
{
	return ((uint64_t)k->id * SLOTS + slot) * SLOT_PAGES;
}

/* Where page i of a run is; for a movable one the lock is held, or it is pinned. */
static inline berth_pfn_t where(const struct worker *k, unsigned slot, uint32_t i)
{
	const struct run *run = &k->runs[slot];

	return run->movable ? k->w->table[first_page(k, slot) + i] : run->fixed + i;
}

static inline void verify_run(struct worker *k, unsigned slot)
{
	struct run *run = &k->runs[slot];

	if (run->movable)
		berth_mutex_lock(&k->w->lock);
	for (uint32_t i = 0; i < run->nr_pages; i++)
		require(k->w, *content_of(k->w, where(k, slot, i)) == run->value + i,
			"a page's contents are wrong", *content_of(k->w, where(k, slot, i)),
			run->value + i);
	if (run->movable)
		berth_mutex_unlock(&k->w->lock);
}

static inline void worker_alloc(struct worker *k, unsigned slot)
{
	static const unsigned flags[] = { BERTH_GFP_MOVABLE, BERTH_GFP_MOVABLE,
					  BERTH_GFP_MOVABLE | BERTH_GFP_CMA_LAST,
					  BERTH_GFP_MOVABLE | BERTH_GFP_NO_CMA };
	static const unsigned fixed_flags[] = { BERTH_GFP_UNMOVABLE, BERTH_GFP_RECLAIMABLE };
	struct world *w = k->w;
	struct run *run = &k->runs[slot];
	bool movable = w->params.movable && below(&k->random, 8) != 0;
	unsigned order = (unsigned)below(&k->random, w->params.max_order + 1);
	unsigned gfp = movable ? flags[below(&k->random, 4)] : fixed_flags[below(&k->random, 2)];
	berth_pfn_t pfn = BERTH_PFN_NONE;
	int ret = berth_alloc_pages(w->zone, order, gfp, movable ? w->owner : BERTH_OWNER_NONE,
				    first_page(k, slot), &pfn);

	if (ret == -BERTH_ENOMEM) {
		w->nr_refused++;
		return;
	}
	require_ret(w, "an allocation", ret, 0);
	take_frames(w, pfn, 1ull << order);
	w->nr_allocated++;
	*run = (struct run){ .nr_pages = 1u << order,
			     .movable = movable,
			     .fixed = pfn,
			     .value = next_random(&k->random) };
	if (movable)
		berth_mutex_lock(&w->lock);
	for (uint32_t i = 0; i < run->nr_pages; i++) {
		if (movable)
			w->table[first_page(k, slot) + i] = pfn + i;
		*content_of(w, pfn + i) = run->value + i;
	}
	if (movable)
		berth_mutex_unlock(&w->lock);
}

static inline void worker_unpin(struct worker *k, unsigned slot)
{
	struct run *run = &k->runs[slot];

	require_ret(k->w, "an unpin", berth_page_unpin(k->w->zone, where(k, slot, 0)), 0);
	run->pinned = false;
}

static inline void worker_pin(struct worker *k, unsigned slot)
{
	struct run *run = &k->runs[slot];
	int ret;

	berth_mutex_lock(&k->w->lock);
	ret = berth_page_pin(k->w->zone, where(k, slot, 0));
	berth_mutex_unlock(&k->w->lock);
	require_ret(k->w, "a pin", ret, 0);
	run->pinned = true;
}

/* Freed by its owner first, the block comes back with the last pin. False: a claim has cut it before the pin. */
static inline bool worker_free_pinned(struct worker *k, unsigned slot)
{
	struct world *w = k->w;
	struct run *run = &k->runs[slot];
	berth_pfn_t pfn = where(k, slot, 0), head;
	unsigned order;

	require(w, berth_frame_state(w->zone, pfn, &head, &order) == 'u', "a pinned page", pfn, 0);
	if (1u << order != run->nr_pages)
		return false;
	berth_mutex_lock(&w->lock);
	for (uint32_t i = 0; i < run->nr_pages; i++)
		w->table[first_page(k, slot) + i] = BERTH_PFN_NONE;
	require_ret(w, "a free of a pinned block", berth_free_pages(w->zone, pfn), 0);
	berth_mutex_unlock(&w->lock);
	berth_sim_yield(w->sim);
	leave_frames(w, pfn, run->nr_pages);
	require_ret(w, "the last unpin", berth_page_unpin(w->zone, pfn), 0);
	*run = (struct run){ .nr_pages = 0 };
	return true;
}

/* A run that lies in one piece is freed by one call: a block, if no claim has cut it. Its owner has forgotten it by
 * then, and needs no lock: who wants to move it hears that it is gone. False: it doesn't lie so. */
static inline bool worker_free_whole(struct worker *k, unsigned slot)
{
	struct world *w = k->w;
	struct run *run = &k->runs[slot];
	berth_pfn_t *pages = &w->table[first_page(k, slot)], first;
	bool whole = true;

	berth_mutex_lock(&w->lock);
	first = pages[0];
	for (uint32_t i = 0; i < run->nr_pages; i++)
		whole &= pages[i] == first + i;
	for (uint32_t i = 0; i < run->nr_pages && whole; i++)
		pages[i] = BERTH_PFN_NONE;
	berth_mutex_unlock(&w->lock);
	if (!whole)
		return false;
	leave_frames(w, first, run->nr_pages);
	require_ret(w, "a free of a run", berth_free_range(w->zone, first, run->nr_pages, w->owner),
		    0);
	run->nr_pages = 0;
	return true;
}

static inline void worker_free(struct worker *k, unsigned slot)
{
	struct world *w = k->w;
	struct run *run = &k->runs[slot];
	uint64_t page = first_page(k, slot);

	verify_run(k, slot);
	if (run->pinned && below(&k->random, 2) && worker_free_pinned(k, slot))
		return;
	if (run->pinned)
		worker_unpin(k, slot);
	if (!run->movable) {
		leave_frames(w, run->fixed, run->nr_pages);
		require_ret(w, "a free", berth_free_pages(w->zone, run->fixed), 0);
		run->nr_pages = 0;
		return;
	}
	if (run->nr_pages > 1 && below(&k->random, 2) && worker_free_whole(k, slot))
		return;
	berth_mutex_lock(&w->lock);
	for (uint32_t i = 0; i < run->nr_pages; i++) {
		berth_pfn_t pfn = w->table[page + i];

		leave_frames(w, pfn, 1);
		w->table[page + i] = BERTH_PFN_NONE;
		if (run->nr_pages == 1)
			require_ret(w, "a free", berth_free_pages(w->zone, pfn), 0);
		else
			require_ret(w, "a free of a page",
				    berth_free_range(w->zone, pfn, 1, w->owner), 0);
	}
	berth_mutex_unlock(&w->lock);
	run->nr_pages = 0;
}

/* Pins, unpins or frees a run that is there. */
static inline void worker_use(struct worker *k, unsigned slot)
{
	struct run *run = &k->runs[slot];

	if (run->pinned && below(&k->random, 2))
		worker_unpin(k, slot);
	else if (!run->pinned && k->w->params.pins && run->movable && below(&k->random, 3) == 0)
		worker_pin(k, slot);
	else
		worker_free(k, slot);
}

static inline void worker_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		unsigned slot = (unsigned)below(&k->random, SLOTS);

		if (!k->runs[slot].nr_pages)
			worker_alloc(k, slot);
		else
			worker_use(k, slot);
	}
}

/* ---- Claimers ------------------------------------------------------------------------------------ */

/* Drains of the zone, a CPU and a range, and lists that are aged. */
static inline void drainer_main(void *arg)
{
	struct worker *k = arg;
	struct world *w = k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		switch (below(&k->random, 5)) {
		case 0:
			require_ret(w, "a drain of a CPU",
				    berth_pcp_drain(w->zone,
						    (unsigned)below(&k->random, MAX_WORKERS)),
				    0);
			break;
		case 1:
			require_ret(w, "a drain of a range",
				    berth_pcp_drain_range(
					    w->zone, ZONE_START + below(&k->random, ZONE_PAGES - 9),
					    1 + below(&k->random, 9)),
				    0);
			break;
		case 2:
			berth_pcp_age(w->zone);
			break;
		default:
			berth_pcp_drain_all(w->zone);
			break;
		}
	}
}

/* The errors that other people's doings can cause. */
static inline bool may_fail_with(int ret)
{
	return ret == -BERTH_EBUSY || ret == -BERTH_ENOMEM || ret == -BERTH_EAGAIN ||
	       ret == -BERTH_ENOSPC;
}

static inline struct berth_claim_params claim_params(struct worker *k, uint64_t nr_pages)
{
	struct berth_claim_params params = { .nr_pages = nr_pages };

	if (below(&k->random, 4) == 0)
		params.flags = 1u << below(&k->random, 5);
	if (k->w->params.deadline_ns)
		params.deadline_ns = berth_sim_clock(k->w->sim) + k->w->params.deadline_ns;
	return params;
}

static inline void claimed(struct world *w, berth_pfn_t pfn, uint64_t nr_pages)
{
	take_frames(w, pfn, nr_pages);
	w->nr_claimed++;
	for (uint64_t i = 0; i < nr_pages; i++)
		*content_of(w, pfn + i) = 0xc1a10000 + i;
	berth_sim_yield(w->sim);
	for (uint64_t i = 0; i < nr_pages; i++)
		require(w, *content_of(w, pfn + i) == 0xc1a10000 + i, "a claim was written to",
			*content_of(w, pfn + i), 0xc1a10000 + i);
	leave_frames(w, pfn, nr_pages);
}

/* Several buffers at once, given back together or one by one. */
static inline void claim_bulk(struct worker *k, struct berth_cma *area)
{
	struct world *w = k->w;
	struct berth_claim_params params = claim_params(k, 1 + below(&k->random, 6));
	unsigned wanted = 1 + (unsigned)below(&k->random, 8);
	unsigned flags = below(&k->random, 2) ? BERTH_BULK_AS_MANY_AS_POSSIBLE : 0;
	berth_pfn_t pfns[8];
	int got = berth_cma_alloc_bulk(area, &params, wanted, pfns, flags, NULL);

	if (got < 0) {
		require(w, may_fail_with(got), "a bulk claim", (uint64_t)(int64_t)got, 0);
		return;
	}
	require(w, flags ? got > 0 && got <= (int)wanted : got == (int)wanted,
		"buffers of a bulk claim", (uint64_t)got, wanted);
	for (int i = 0; i < got; i++)
		claimed(w, pfns[i], params.nr_pages);
	if (below(&k->random, 2)) {
		require_ret(w, "a bulk release",
			    berth_cma_release_bulk(area, pfns, (unsigned)got, params.nr_pages), 0);
		return;
	}
	while (got-- > 0)
		require_ret(w, "a release of one of many",
			    berth_cma_release(area, pfns[got], params.nr_pages), 0);
}

/* Prepared step by step, then taken or given up. */
static inline void claim_prepared(struct worker *k, struct berth_cma *area, unsigned step)
{
	struct world *w = k->w;
	struct berth_claim_params params = claim_params(k, 1 + below(&k->random, 32));
	struct berth_cma_prepared *prepared;
	uint64_t steps = below(&k->random, 6);
	berth_pfn_t pfn;
	int ret;

	/* Memory of its own: the simulator knows what atomic objects held. */
	ret = berth_cma_prepare(area, &params,
				w->prepared[k->id] + step * berth_cma_prepared_bytes(), &prepared);
	require_ret(w, "a preparation", ret, 0);
	for (ret = 1; ret > 0 && steps; steps--)
		ret = berth_cma_prepare_step(prepared, below(&k->random, 8), NULL);
	if (below(&k->random, 3) == 0) {
		require_ret(w, "a cancel", berth_cma_prepare_cancel(prepared), 0);
		require_ret(w, "taking what was cancelled",
			    berth_cma_prepare_take(prepared, &pfn, NULL),
			    ret < 0 ? ret : -BERTH_EINVAL);
		return;
	}
	ret = berth_cma_prepare_wait(prepared, 0);
	if (ret < 0) {
		require(w, may_fail_with(ret), "a preparation", (uint64_t)(int64_t)ret, 0);
		require_ret(w, "taking what has failed",
			    berth_cma_prepare_take(prepared, &pfn, NULL), ret);
		return;
	}
	require_ret(w, "taking what is ready", berth_cma_prepare_take(prepared, &pfn, NULL), 0);
	claimed(w, pfn, params.nr_pages);
	require_ret(w, "a release", berth_cma_release(area, pfn, params.nr_pages), 0);
}

/* One of the other ways, or false. */
static inline bool claim_otherwise(struct worker *k, struct berth_cma *area, unsigned step)
{
	switch (k->w->params.many_ways ? below(&k->random, 3) : 2) {
	case 0:
		claim_bulk(k, area);
		return true;
	case 1:
		claim_prepared(k, area, step);
		return true;
	default:
		return false;
	}
}

/* The claim that the caller has is in the list, as it is. */
static inline void check_listed(struct world *w, berth_pfn_t pfn,
				const struct berth_claim_params *params)
{
	struct berth_claim_info claim = { .pfn = 0 };
	berth_pfn_t at = 0;

	while (berth_claim_next(w->zone, &at, &claim) && claim.pfn != pfn)
		require(w, !claim.area || claim.nr_pages == (claim.name[0] ? 2 : 1) * PAGEBLOCK,
			"pages of a listed claim", claim.nr_pages, claim.name[0]);
	require(w, claim.pfn == pfn, "a claim that isn't listed", claim.pfn, pfn);
	require(w, claim.nr_pages == params->nr_pages, "pages of a claim", claim.nr_pages,
		params->nr_pages);
	require(w, !claim.name[0] == !params->name, "a claim's name", claim.name[0], 0);
}

static inline void claimer_main(void *arg)
{
	struct worker *k = arg;
	struct world *w = k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		struct berth_cma *area = w->areas[w->params.one_area ? 0 : below(&k->random, 2)];
		struct berth_claim_params params = claim_params(k, 1 + below(&k->random, 32));
		struct berth_claim_params whole = { .nr_pages = AREA_PAGES };
		berth_pfn_t pfn;
		int ret;

		if (w->params.whole) { /* two have a name; first fit doesn't go where it was */
			bool two = !w->params.must_succeed && below(&k->random, 2);

			params.nr_pages = two ? 2 * PAGEBLOCK : PAGEBLOCK;
			params.name = two ? "two" : NULL;
			params.flags = below(&k->random, 2) ? BERTH_CLAIM_FIRST_FIT : 0;
		} else if (w->params.pieces) {
			static const uint64_t pages[] = { 4, 4, 8, PAGEBLOCK };

			params.nr_pages = pages[below(&k->random, 4)];
			params.name = below(&k->random, 2) ? "piece" : NULL;
			params.flags = w->params.must_succeed ? 0 : params.flags;
		} else if (w->params.must_succeed) {
			area = w->areas[0];
			params = whole;
		}
		if (claim_otherwise(k, area, i))
			continue;
		ret = berth_cma_alloc(area, &params, &pfn, NULL);
		if (ret == 0) {
			claimed(w, pfn, params.nr_pages);
			if (w->params.whole)
				check_listed(w, pfn, &params);
			ret = berth_cma_release(area, pfn, params.nr_pages);
			require_ret(w, "a release", ret, 0);
		} else {
			require(w, may_fail_with(ret) && !w->params.must_succeed, "a claim",
				(uint64_t)(int64_t)ret, 0);
		}
	}
}

/* What came of a claim of [pfn, pfn + nr): if it's there, it is used and given back; otherwise others are to blame. */
static inline void range_claimed(struct world *w, int ret,
				 struct berth_cma *area /* NULL: by its place */, berth_pfn_t pfn,
				 uint64_t nr)
{
	if (ret == 0) {
		claimed(w, pfn, nr);
		ret = area ? berth_cma_release(area, pfn, nr) :
			     berth_free_contig_range(w->zone, pfn, nr);
		require_ret(w, "a range given back", ret, 0);
		return;
	}
	/* EINVAL: some of it is reserved. */
	require(w, may_fail_with(ret) || (ret == -BERTH_EINVAL && w->params.reserved),
		"a claim of a range", (uint64_t)(int64_t)ret, 0);
}

static inline void range_claimer_main(void *arg)
{
	struct worker *k = arg;
	struct world *w = k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		uint64_t nr = 1 + below(&k->random, 40);
		berth_pfn_t pfn = ZONE_START + below(&k->random, ZONE_PAGES - nr);
		struct berth_claim_params params = claim_params(k, nr);

		range_claimed(w, berth_alloc_contig_range(w->zone, pfn, nr, &params, NULL), NULL,
			      pfn, nr);
	}
}

#endif
