/* SPDX-License-Identifier: MIT */
/*
 * Claims against the naive model: of areas and of ranges, in bulk, ahead of the need, and how areas lend
 * meanwhile. What an error may say is derived from the model's bytes.
 */
#ifndef BERTH_TEST_MODEL_CLAIMS_H
#define BERTH_TEST_MODEL_CLAIMS_H

#include "tests/model/model.h"

/* ---- What can be had -------------------------------------------------------------------------- */

/* May such an allocation use the area's frames at all? */
static inline bool lends(const struct model_area *area, unsigned gfp)
{
	return (gfp & BERTH_GFP_MOVABLE) && !(gfp & BERTH_GFP_NO_CMA) &&
	       area->lend != BERTH_LEND_OFF;
}

/* Frames of an area that such an allocation may use. */
static inline uint64_t lendable_frames(const struct model_area *area, unsigned gfp)
{
	return lends(area, gfp) && area->nr_free > area->keep ? area->nr_free - area->keep : 0;
}

/* Frames that such an allocation may use. */
static inline uint64_t usable_frames(const struct model *m, unsigned gfp)
{
	uint64_t nr = m->nr_free;

	for (unsigned i = 0; i < m->nr_areas; i++)
		nr -= m->areas[i].nr_free - lendable_frames(&m->areas[i], gfp);
	return nr;
}

/* An allocation may be given this free block, as far as the area's policy goes. */
static inline bool usable_block(struct model *m, berth_pfn_t pfn, uint64_t nr_pages, unsigned gfp)
{
	struct model_area *area = model_area_of(m, pfn);

	if ((area && !lends(area, gfp)) || model_area_of(m, pfn + nr_pages - 1) != area)
		return false;
	return model_all(m, pfn, nr_pages, MODEL_FREE);
}

/* Is there a free, aligned block of this order? */
static inline bool any_usable_block(struct model *m, unsigned order, unsigned gfp)
{
	uint64_t size = 1ull << order;
	berth_pfn_t pfn = (m->tz->params.start_pfn + size - 1) & ~(size - 1);

	for (; pfn + size <= zone_end(m->tz); pfn += size)
		if (usable_block(m, pfn, size, gfp) &&
		    (!model_area_of(m, pfn) || lendable_frames(model_area_of(m, pfn), gfp) >= size))
			return true;
	return false;
}

/* Can "nowhere to move to" be true for a claim of nr_pages? */
static inline bool may_be_enomem(struct model *m, uint64_t nr_pages)
{
	uint64_t isolated = nr_pages + (2ull << zone_pageblock_order(m->tz));

	return usable_frames(m, BERTH_GFP_MOVABLE) < nr_pages + isolated;
}

/* What the runs of an area allow a claim. */
struct outlook {
	bool fits;       /* ignoring everything in it */
	bool has_room;   /* a run without claims */
	bool claimable;  /* and without pins */
	bool free_run;   /* and free in the buddy lists */
	bool cached_run; /* and free, cached by CPUs at most */
};

/* Lengths of the runs that begin at a frame, by what they are good for. */
struct run_lengths {
	uint64_t room, claimable, cached, free;
};

/* Steps one frame down. Asking the core is slow, and only matters to claims of free memory. */
static inline void extend_runs(struct model *m, struct run_lengths *r, uint64_t i, bool ask_core)
{
	bool room = m->kind[i] != MODEL_CLAIMED && m->kind[i] != MODEL_TAKEN && !m->bit[i];
	bool cached = room && m->kind[i] == MODEL_FREE;
	bool free = cached && ask_core && frame_state(m->tz, m->tz->params.start_pfn + i) == 'f';

	r->room = room ? r->room + 1 : 0;
	r->claimable = room && !m->pinned[i] ? r->claimable + 1 : 0;
	r->cached = cached ? r->cached + 1 : 0;
	r->free = free ? r->free + 1 : 0;
}

/* May a claim begin here, as far as its limits go? */
static inline bool within_limits(const struct berth_claim_params *params, berth_pfn_t pfn)
{
	berth_pfn_t last = pfn + params->nr_pages - 1;

	return pfn >= params->min_pfn && (!params->max_pfn || last <= params->max_pfn) &&
	       (!params->boundary_pages ||
		pfn / params->boundary_pages == last / params->boundary_pages);
}

static inline struct outlook look_at_area(struct model *m, const struct model_area *area,
					  const struct berth_claim_params *params)
{
	uint64_t step = 1ull << params->align_order, nr = params->nr_pages;
	struct run_lengths runs = { 0 };
	struct outlook o = { 0 };

	if (step < area->bit_pages)
		step = area->bit_pages;
	for (berth_pfn_t pfn = area->start + area->nr_pages; pfn-- > area->start;) {
		extend_runs(m, &runs, model_index(m, pfn), params->flags & BERTH_CLAIM_FREE_ONLY);
		if (pfn % step || !within_limits(params, pfn))
			continue;
		o.fits |= area->start + area->nr_pages - pfn >= nr;
		o.has_room |= runs.room >= nr;
		o.claimable |= runs.claimable >= nr;
		o.cached_run |= runs.cached >= nr;
		o.free_run |= runs.free >= nr;
	}
	return o;
}

/* ---- Claims ---------------------------------------------------------------------------------- */

static inline void check_report(const struct berth_claim_report *r, int ret, uint64_t nr_pages)
{
	uint64_t taken = r->free_pages_taken;

	assert_int_equal(r->error, ret);
	assert_int_equal(r->nr_pages, nr_pages);
	if (ret == 0 && r->tries == 1)
		assert_true(taken <= nr_pages && taken + r->moved_pages <= nr_pages);
}

static inline void remember_claim(struct model *m, struct model_area *area, berth_pfn_t pfn,
				  uint64_t nr)
{
	m->claims[m->nr_claims++] = (struct model_claim){ area, pfn, nr };
	model_set(m, pfn, nr, MODEL_FREE, MODEL_CLAIMED);
}

static inline void set_bits(struct model *m, const struct model_area *area, berth_pfn_t pfn,
			    uint64_t nr, uint8_t value)
{
	uint64_t first = (pfn - area->start) & ~(area->bit_pages - 1);
	uint64_t end = (pfn + nr - area->start + area->bit_pages - 1) & ~(area->bit_pages - 1);

	for (uint64_t i = first; i < end; i++) {
		uint8_t *bit = &m->bit[model_index(m, area->start + i)];

		assert_int_equal(*bit, !value);
		*bit = value;
	}
}

static inline void check_cma_error(struct model *m, const struct outlook *o, int ret,
				   unsigned flags, uint64_t nr)
{
	/* What a preparation has fenced off is in the way, and the model doesn't know where that is. */
	if (m->nr_pending && o->fits) {
		assert_true(ret == -BERTH_ENOSPC || ret == -BERTH_EBUSY || ret == -BERTH_EAGAIN ||
			    ret == -BERTH_ENOMEM);
		return;
	}
	if (!o->fits)
		assert_int_equal(ret, -BERTH_E2BIG);
	else if (!o->has_room)
		assert_int_equal(ret, -BERTH_ENOSPC);
	else if (!o->claimable)
		assert_true(ret == -BERTH_EBUSY ||
			    (ret == -BERTH_EAGAIN && (flags & BERTH_CLAIM_FREE_ONLY)));
	else if (flags & BERTH_CLAIM_FREE_ONLY)
		assert_true(ret == -BERTH_EAGAIN && !o->free_run);
	else if (!((ret == -BERTH_EBUSY && m->disturbed) ||
		   (ret == -BERTH_ENOMEM && may_be_enomem(m, nr))))
		fail_msg("%d for %llu pages, flags %u, of which there is a run", ret,
			 (unsigned long long)nr, flags);
}

/* Random parameters of a claim of the area. */
static inline struct berth_claim_params random_claim(struct model *m, const struct model_area *area,
						     uint64_t most)
{
	struct berth_claim_params params = { .nr_pages = 1 + model_below(m, most) };

	if (model_chance(m, 30))
		params.align_order = (unsigned)model_below(m, m->max_order + 1);
	params.flags = (model_chance(m, 20) ? BERTH_CLAIM_FIRST_FIT : 0) |
		       (model_chance(m, 10) ? BERTH_CLAIM_FREE_ONLY : 0) |
		       (model_chance(m, 20) ? BERTH_CLAIM_DROP : 0) |
		       (model_chance(m, 10) ? BERTH_CLAIM_NORETRY : 0) |
		       (model_chance(m, 10) ? BERTH_CLAIM_ASYNC : 0) |
		       (model_chance(m, 10) ? BERTH_CLAIM_SYNC_LIGHT : 0);
	if (model_chance(m, 15))
		params.boundary_pages = 1ull << model_below(m, m->max_order + 2);
	if (model_chance(m, 10))
		params.max_pfn = area->start + model_below(m, area->nr_pages);
	if (model_chance(m, 10))
		params.min_pfn = area->start + model_below(m, area->nr_pages);
	if (params.max_pfn && params.max_pfn < params.min_pfn)
		params.max_pfn = 0;
	return params;
}

/* The area's frames [pfn, pfn + nr_pages) are a claim as it was asked for. */
static inline void check_claim(struct model_area *area, const struct berth_claim_params *params,
			       berth_pfn_t pfn)
{
	assert_int_equal(pfn & ((1ull << params->align_order) - 1), 0);
	assert_int_equal((pfn - area->start) % area->bit_pages, 0);
	assert_true(pfn >= area->start && pfn + params->nr_pages <= area->start + area->nr_pages);
}

static inline struct model_area *random_area(struct model *m)
{
	return m->nr_areas ? &m->areas[model_below(m, m->nr_areas)] : NULL;
}

static inline void op_cma_alloc(struct model *m)
{
	struct model_area *area = random_area(m);
	struct berth_claim_params params;
	struct berth_claim_report r;
	struct outlook o;
	berth_pfn_t pfn = 0x5ca1ab1e;
	int ret;

	if (!area || m->nr_claims == MODEL_MAX_CLAIMS)
		return;
	params = random_claim(m, area, model_chance(m, 60) ? 20 : area->nr_pages + 2);
	o = look_at_area(m, area, &params);
	ret = berth_cma_alloc(area->cma, &params, &pfn, &r);
	check_report(&r, ret, params.nr_pages);
	if (ret) {
		assert_int_equal(pfn, 0x5ca1ab1e);
		check_cma_error(m, &o, ret, params.flags, params.nr_pages);
		return;
	}
	assert_true(o.claimable);
	if (params.flags & BERTH_CLAIM_FREE_ONLY)
		assert_true(o.cached_run && r.moved_pages == 0 && r.dropped_pages == 0);
	check_claim(area, &params, pfn);
	assert_true(within_limits(&params, pfn));
	set_bits(m, area, pfn, params.nr_pages, 1);
	remember_claim(m, area, pfn, params.nr_pages);
	area->nr_claimed += params.nr_pages;
}

/* What stands in a range that is to be claimed. */
struct contents {
	bool hole, claimed, held, lent;
};

static inline struct contents look_into(const struct model *m, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct contents c = { 0 };

	for (uint64_t i = model_index(m, pfn); i < model_index(m, pfn) + nr_pages; i++) {
		c.hole |= m->kind[i] == MODEL_HOLE;
		c.claimed |= m->kind[i] == MODEL_CLAIMED || m->kind[i] == MODEL_TAKEN;
		c.held |= m->pinned[i] || m->kind[i] == MODEL_ORPHAN || m->kind[i] == MODEL_USED;
		c.lent |= m->kind[i] > MODEL_USED;
	}
	return c;
}

static inline void check_contig_error(struct model *m, const struct contents *c, int ret,
				      unsigned flags, uint64_t nr)
{
	bool free_only = flags & BERTH_CLAIM_FREE_ONLY;

	if (m->nr_pending && ret == -BERTH_EBUSY)
		return; /* fenced off by a preparation */
	if (c->hole)
		assert_true(ret == -BERTH_EINVAL || (ret == -BERTH_EBUSY && c->claimed));
	else if (c->claimed)
		assert_int_equal(ret, -BERTH_EBUSY);
	else if (c->held)
		assert_true(ret == -BERTH_EBUSY || (ret == -BERTH_EAGAIN && free_only));
	else if (free_only)
		assert_true(ret == -BERTH_EAGAIN && c->lent);
	else
		assert_true(c->lent &&
			    ((ret == -BERTH_EBUSY && m->disturbed) ||
			     (ret == -BERTH_ENOMEM && (m->nr_pending || may_be_enomem(m, nr)))));
}

static inline void op_contig(struct model *m)
{
	uint64_t at = model_below(m, m->tz->params.nr_pages), nr;
	berth_pfn_t pfn = m->tz->params.start_pfn + at;
	struct berth_claim_params params = { 0 };
	struct berth_claim_report r;
	struct contents c;
	int ret;

	if (m->nr_claims == MODEL_MAX_CLAIMS)
		return;
	nr = 1 + model_below(m, model_chance(m, 50) ? 10 : m->tz->params.nr_pages / 4);
	if (nr > m->tz->params.nr_pages - at)
		nr = m->tz->params.nr_pages - at;
	params.nr_pages = nr;
	params.flags = (model_chance(m, 10) ? BERTH_CLAIM_FREE_ONLY : 0) |
		       (model_chance(m, 10) ? BERTH_CLAIM_DROP : 0);
	c = look_into(m, pfn, nr);
	m->tz->no_dst_start = pfn;
	m->tz->no_dst_end = pfn + nr;
	ret = berth_alloc_contig_range(m->tz->zone, pfn, nr, &params, &r);
	m->tz->no_dst_start = m->tz->no_dst_end = 0;
	check_report(&r, ret, nr);
	if (ret) {
		check_contig_error(m, &c, ret, params.flags, nr);
		return;
	}
	assert_false(c.hole || c.claimed || c.held);
	assert_false(c.lent && (params.flags & BERTH_CLAIM_FREE_ONLY));
	remember_claim(m, NULL, pfn, nr);
}

/* The claim at this place of the table is given back, by whom is the caller's business. */
static inline struct model_claim forget_claim(struct model *m, unsigned at)
{
	struct model_claim c = m->claims[at];

	m->claims[at] = m->claims[--m->nr_claims];
	model_set(m, c.pfn, c.nr_pages, MODEL_CLAIMED, MODEL_FREE);
	if (c.area) {
		set_bits(m, c.area, c.pfn, c.nr_pages, 0);
		c.area->nr_claimed -= c.nr_pages;
	}
	return c;
}

static inline void op_release(struct model *m)
{
	struct model_claim c;

	if (!m->nr_claims)
		return;
	c = forget_claim(m, (unsigned)model_below(m, m->nr_claims));
	if (c.area)
		assert_int_equal(berth_cma_release(c.area->cma, c.pfn, c.nr_pages), 0);
	else
		assert_int_equal(berth_free_contig_range(m->tz->zone, c.pfn, c.nr_pages), 0);
}

static inline void op_claim_refused(struct model *m)
{
	const struct model_claim *c;
	struct berth_zone *zone = m->tz->zone;

	if (!m->nr_claims)
		return;
	c = &m->claims[model_below(m, m->nr_claims)];
	assert_int_equal(berth_free_contig_range(zone, c->pfn, c->nr_pages + 1), -BERTH_EINVAL);
	assert_int_equal(berth_free_contig_range(zone, c->pfn, c->nr_pages - 1), -BERTH_EINVAL);
	if (c->area)
		assert_int_equal(berth_cma_release(c->area->cma, c->pfn, c->nr_pages + 1),
				 -BERTH_EINVAL);
	if (c->area)
		assert_int_equal(berth_free_contig_range(zone, c->pfn, c->nr_pages), -BERTH_EINVAL);
	else if (m->nr_areas)
		assert_int_equal(berth_cma_release(m->areas[0].cma, c->pfn, c->nr_pages),
				 -BERTH_EINVAL);
}

/* ---- In bulk --------------------------------------------------------------------------------- */

#define MODEL_BULK 12u

static inline void op_bulk(struct model *m)
{
	struct model_area *area = random_area(m);
	unsigned nr = 1 + (unsigned)model_below(m, MODEL_BULK);
	unsigned flags = model_chance(m, 50) ? BERTH_BULK_AS_MANY_AS_POSSIBLE : 0;
	berth_pfn_t pfns[MODEL_BULK];
	struct berth_claim_params params;
	struct berth_claim_report r;
	struct outlook before, after;
	int ret;

	if (!area || m->nr_claims + nr > MODEL_MAX_CLAIMS)
		return;
	params = random_claim(m, area, model_chance(m, 80) ? 10 : area->nr_pages / 2);
	/* Limits are about the range that is cut into buffers, and that may be any number of them. */
	params.boundary_pages = 0;
	before = look_at_area(m, area, &params);
	ret = berth_cma_alloc_bulk(area->cma, &params, nr, pfns, flags, &r);
	if (ret < 0) {
		assert_int_equal(r.error, ret);
		if (flags || nr == 1)
			check_cma_error(m, &before, ret, params.flags, params.nr_pages);
		return;
	}
	assert_true(before.claimable && ret >= 1 && ret <= (int)nr);
	assert_true(flags || ret == (int)nr);
	for (int i = 0; i < ret; i++) {
		check_claim(area, &params, pfns[i]);
		assert_true(within_limits(&params, pfns[i]));
		set_bits(m, area, pfns[i], params.nr_pages, 1);
		remember_claim(m, area, pfns[i], params.nr_pages);
		area->nr_claimed += params.nr_pages;
	}
	if (ret == (int)nr)
		return;
	after = look_at_area(m, area, &params); /* there was room for no other */
	check_cma_error(m, &after, r.error, params.flags, params.nr_pages);
}

/* Several claims of one size, or what looks like it. */
static inline void op_release_bulk(struct model *m)
{
	berth_pfn_t pfns[MODEL_BULK + 1];
	struct model_claim c;
	unsigned nr = 0;

	if (!m->nr_claims)
		return;
	c = m->claims[model_below(m, m->nr_claims)];
	if (!c.area)
		return;
	for (unsigned i = 0; i < m->nr_claims && nr < MODEL_BULK; i++)
		if (m->claims[i].area == c.area && m->claims[i].nr_pages == c.nr_pages)
			pfns[nr++] = m->claims[i].pfn;
	/* One twice, or one that isn't a claim: none is released. */
	pfns[nr] = c.nr_pages == 1 || model_chance(m, 50) ? pfns[model_below(m, nr)] : pfns[0] + 1;
	assert_int_equal(berth_cma_release_bulk(c.area->cma, pfns, nr + 1, c.nr_pages),
			 -BERTH_EINVAL);
	for (unsigned i = 0; i < nr; i++)
		for (unsigned at = 0; at < m->nr_claims; at++)
			if (m->claims[at].pfn == pfns[i]) {
				(void)forget_claim(m, at);
				break;
			}
	assert_int_equal(berth_cma_release_bulk(c.area->cma, pfns, nr, c.nr_pages), 0);
}

/* ---- Ahead of the need ------------------------------------------------------------------------ */

/*
 * What the preparation has taken by now, by the core's word: free frames of the area, which the model
 * has let go of. Ready: that is one run of the size asked for.
 */
static inline void look_at_prepared(struct model *m, struct model_prepared *p)
{
	enum berth_prepare_state state = berth_cma_prepare_poll(p->prepared);
	uint8_t number = (uint8_t)(p - m->prepared + 1);
	berth_pfn_t first = BERTH_PFN_NONE, last = 0;
	uint64_t taken = 0;

	for (berth_pfn_t pfn = p->area->start; pfn < p->area->start + p->area->nr_pages; pfn++) {
		uint64_t i = model_index(m, pfn);
		if (m->kind[i] != MODEL_FREE || frame_state(m->tz, pfn) != 'c')
			continue;
		model_set(m, pfn, 1, MODEL_FREE, MODEL_TAKEN);
		m->taker[i] = number;
		first = taken++ ? first : pfn;
		last = pfn;
	}
	if (state == BERTH_PREPARE_PENDING) {
		assert_true(!taken || last - first < p->params.nr_pages);
		return;
	}
	m->nr_pending--;
	if (state == BERTH_PREPARE_FAILED) {
		assert_int_equal(taken, 0);
		return;
	}
	assert_int_equal(state, BERTH_PREPARE_READY);
	assert_int_equal(taken, p->params.nr_pages);
	assert_int_equal(last - first + 1, taken);
	check_claim(p->area, &p->params, first);
	assert_true(within_limits(&p->params, first));
	p->pfn = first;
	model_set(m, first, taken, MODEL_TAKEN, MODEL_CLAIMED);
	set_bits(m, p->area, first, taken, 1);
	p->area->nr_claimed += taken;
}

static inline void end_prepared(struct model_prepared *p)
{
	free(p->memory);
	*p = (struct model_prepared){ 0 };
}

static inline void op_prepare(struct model *m)
{
	struct model_prepared *p = &m->prepared[model_below(m, MODEL_MAX_PREPARED)];
	struct model_area *area = random_area(m);
	struct outlook o;
	int ret;

	if (!area || p->prepared)
		return;
	*p = (struct model_prepared){
		.area = area,
		.params = random_claim(m, area, model_chance(m, 50) ? 20 : area->nr_pages + 2),
		.memory = test_zalloc(1, berth_cma_prepared_bytes()),
		.pfn = BERTH_PFN_NONE,
	};
	if (model_chance(m, 30))
		p->params.deadline_ns = m->tz->port.clock_ns + model_below(m, 2000000);
	o = look_at_area(m, area, &p->params);
	ret = berth_cma_prepare(area->cma, &p->params, p->memory, &p->prepared);
	if (ret) {
		assert_int_equal(ret, -BERTH_E2BIG);
		assert_false(o.fits);
		end_prepared(p);
		return;
	}
	assert_true(o.fits);
	m->nr_pending++;
}

/* What the preparation has taken, it may give up in a step, and take again. */
static inline void let_go(struct model *m, struct model_prepared *p)
{
	for (berth_pfn_t pfn = p->area->start; pfn < p->area->start + p->area->nr_pages; pfn++) {
		uint64_t i = model_index(m, pfn);

		if (m->kind[i] != MODEL_TAKEN || m->taker[i] != p - m->prepared + 1)
			continue;
		model_set(m, pfn, 1, MODEL_TAKEN, MODEL_FREE);
		m->taker[i] = 0;
	}
}

static inline void cancel_prepared(struct model *m, struct model_prepared *p)
{
	enum berth_prepare_state before = berth_cma_prepare_poll(p->prepared);

	assert_int_equal(berth_cma_prepare_cancel(p->prepared), 0);
	if (before == BERTH_PREPARE_PENDING) {
		m->nr_pending--;
		let_go(m, p);
	} else if (before == BERTH_PREPARE_READY) {
		set_bits(m, p->area, p->pfn, p->params.nr_pages, 0);
		p->area->nr_claimed -= p->params.nr_pages;
		model_set(m, p->pfn, p->params.nr_pages, MODEL_CLAIMED, MODEL_FREE);
	}
	end_prepared(p);
}

/* O(1), and after it a claim like any other. */
static inline void take_prepared(struct model *m, struct model_prepared *p)
{
	enum berth_prepare_state before = berth_cma_prepare_poll(p->prepared);
	struct berth_claim_report r;
	berth_pfn_t pfn = 0x5ca1ab1e;
	int ret = berth_cma_prepare_take(p->prepared, &pfn, &r);

	if (before == BERTH_PREPARE_PENDING) {
		assert_int_equal(ret, -BERTH_EAGAIN);
		return;
	}
	assert_int_equal(r.error, ret);
	if (before == BERTH_PREPARE_FAILED) {
		assert_true(ret < 0 && pfn == 0x5ca1ab1e);
	} else {
		assert_int_equal(ret, 0);
		assert_int_equal(pfn, p->pfn);
		assert_int_equal(berth_cma_prepare_cancel(p->prepared), -BERTH_EINVAL);
		assert_int_equal(berth_cma_prepare_take(p->prepared, &pfn, NULL), -BERTH_EINVAL);
		m->claims[m->nr_claims++] = (struct model_claim){ p->area, pfn,
								  p->params.nr_pages };
	}
	end_prepared(p);
}

static inline void step_prepared(struct model *m, struct model_prepared *p)
{
	struct outlook o = look_at_area(m, p->area, &p->params);
	bool alone = m->nr_pending == 1;
	int ret;

	let_go(m, p);
	ret = berth_cma_prepare_step(p->prepared, model_below(m, 40), NULL);
	if (berth_cma_prepare_poll(p->prepared) == BERTH_PREPARE_PENDING) {
		assert_int_equal(ret, 1);
		look_at_prepared(m, p);
		return;
	}
	look_at_prepared(m, p);
	if (berth_cma_prepare_poll(p->prepared) == BERTH_PREPARE_READY) {
		assert_int_equal(ret, 0);
		return;
	}
	/* What it held is free again; had it begun only now, it would have met the same. */
	assert_true(ret == -BERTH_EBUSY || ret == -BERTH_ENOSPC || ret == -BERTH_ENOMEM ||
		    ret == -BERTH_EAGAIN);
	if (alone && ret == -BERTH_ENOSPC)
		assert_false(o.has_room);
}

static inline void op_prepared(struct model *m)
{
	struct model_prepared *p = &m->prepared[model_below(m, MODEL_MAX_PREPARED)];

	if (!p->prepared)
		return;
	if (model_chance(m, 5))
		cancel_prepared(m, p);
	else if (p->pfn == BERTH_PFN_NONE &&
		 berth_cma_prepare_poll(p->prepared) == BERTH_PREPARE_PENDING &&
		 model_chance(m, 95))
		step_prepared(m, p);
	else if (m->nr_claims < MODEL_MAX_CLAIMS)
		take_prepared(m, p);
}

/* ---- Lending ---------------------------------------------------------------------------------- */

static inline void op_lend(struct model *m)
{
	struct model_area *area = random_area(m);
	enum berth_lend_policy lend = (enum berth_lend_policy)model_below(m, BERTH_LEND_OFF + 2);
	uint64_t keep = model_chance(m, 50) ? 0 : model_below(m, m->tz->params.nr_pages / 8);
	struct berth_cma_stats s;

	if (!area)
		return;
	if (lend > BERTH_LEND_OFF) {
		assert_int_equal(berth_cma_set_lend(area->cma, lend, keep), -BERTH_EINVAL);
		return;
	}
	assert_int_equal(berth_cma_set_lend(area->cma, lend, keep), 0);
	area->lend = lend;
	area->keep = keep;
	berth_cma_stats_brief(area->cma, &s);
	assert_int_equal(s.lend, lend);
	assert_int_equal(s.lend_min_pages, keep);
	if (!m->nr_pending) /* I1: nothing of it is cached any more */
		assert_int_equal(s.free_pages, area->nr_free);
}

#endif
