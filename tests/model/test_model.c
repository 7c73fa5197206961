/* SPDX-License-Identifier: MIT */
/*
 * Random operations against the naive model of model.h: allocations of all kinds, frees of blocks
 * and of parts, pins, claims of areas and ranges, drains, owners that fail to move, and calls that
 * must be refused. Contents of every page survive every move.
 *
 *	BERTH_MODEL_SEED=n    runs only this seed
 *	BERTH_MODEL_SEEDS=n   seeds for each zone shape
 *	BERTH_MODEL_OPS=n     operations for each seed
 */
#include "tests/model/model.h"

/* The run that is under way, for the message when it fails. */
static struct {
	const char *shape;
	uint64_t seed, op;
	bool running;
} current;

/* ---- Expectations ---------------------------------------------------------------------------- */

/* Frames that such an allocation may use. */
static uint64_t usable_frames(const struct model *m, unsigned gfp)
{
	uint64_t nr = m->nr_free;

	for (unsigned i = 0; i < m->nr_areas; i++)
		if (!(gfp & BERTH_GFP_MOVABLE) || (gfp & BERTH_GFP_NO_CMA) ||
		    m->areas[i].lend == BERTH_LEND_OFF)
			nr -= m->areas[i].nr_free;
	return nr;
}

static bool usable_block(struct model *m, berth_pfn_t pfn, unsigned order, unsigned gfp)
{
	struct model_area *area = model_area_of(m, pfn);

	if (area && (!(gfp & BERTH_GFP_MOVABLE) || (gfp & BERTH_GFP_NO_CMA) ||
		     area->lend == BERTH_LEND_OFF))
		return false;
	if (model_area_of(m, pfn + (1ull << order) - 1) != area)
		return false;
	return model_all(m, pfn, 1ull << order, MODEL_FREE);
}

/* Is there a free, aligned block of this order? */
static bool any_usable_block(struct model *m, unsigned order, unsigned gfp)
{
	uint64_t size = 1ull << order;
	berth_pfn_t pfn = (m->tz->params.start_pfn + size - 1) & ~(size - 1);

	for (; pfn + size <= zone_end(m->tz); pfn += size)
		if (usable_block(m, pfn, order, gfp))
			return true;
	return false;
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
static void extend_runs(struct model *m, struct run_lengths *r, uint64_t i, bool ask_core)
{
	bool room = m->kind[i] != MODEL_CLAIMED && !m->bit[i];
	bool cached = room && m->kind[i] == MODEL_FREE;
	bool free = cached && ask_core && frame_state(m->tz, m->tz->params.start_pfn + i) == 'f';

	r->room = room ? r->room + 1 : 0;
	r->claimable = room && !m->pinned[i] ? r->claimable + 1 : 0;
	r->cached = cached ? r->cached + 1 : 0;
	r->free = free ? r->free + 1 : 0;
}

static struct outlook look_at_area(struct model *m, const struct model_area *area,
				   const struct berth_claim_params *params)
{
	uint64_t step = 1ull << params->align_order, nr = params->nr_pages;
	struct run_lengths runs = { 0 };
	struct outlook o = { 0 };

	if (step < area->bit_pages)
		step = area->bit_pages;
	for (berth_pfn_t pfn = area->start + area->nr_pages; pfn-- > area->start;) {
		extend_runs(m, &runs, model_index(m, pfn), params->flags & BERTH_CLAIM_FREE_ONLY);
		if (pfn % step)
			continue;
		o.fits |= area->start + area->nr_pages - pfn >= nr;
		o.has_room |= runs.room >= nr;
		o.claimable |= runs.claimable >= nr;
		o.cached_run |= runs.cached >= nr;
		o.free_run |= runs.free >= nr;
	}
	return o;
}

/* Can "nowhere to move to" be true for a claim of nr_pages? */
static bool may_be_enomem(struct model *m, uint64_t nr_pages)
{
	uint64_t isolated = nr_pages + (2ull << zone_pageblock_order(m->tz));

	return usable_frames(m, BERTH_GFP_MOVABLE) < nr_pages + isolated;
}

/* ---- Allocating and freeing ------------------------------------------------------------------ */

static unsigned random_gfp(struct model *m)
{
	static const unsigned movable[] = {
		BERTH_GFP_MOVABLE,
		BERTH_GFP_MOVABLE,
		BERTH_GFP_MOVABLE,
		BERTH_GFP_MOVABLE,
		BERTH_GFP_MOVABLE | BERTH_GFP_NO_CMA,
		BERTH_GFP_MOVABLE | BERTH_GFP_CMA_LAST,
	};

	return movable[model_below(m, ARRAY_SIZE(movable))];
}

static void allocated(struct model *m, unsigned owner, unsigned order, unsigned gfp,
		      berth_pfn_t pfn, uint64_t page)
{
	berth_pfn_t head = BERTH_PFN_NONE;
	unsigned o = 99;

	assert_int_equal(pfn & ((1ull << order) - 1), 0);
	assert_true(usable_block(m, pfn, order, gfp));
	assert_int_equal(berth_frame_state(m->tz->zone, pfn, &head, &o), 'u');
	assert_int_equal(head, pfn);
	assert_int_equal(o, order);
	model_set(m, pfn, 1ull << order, MODEL_FREE, (uint8_t)(MODEL_USED + owner));
	if (owner)
		model_map(m, owner, page, pfn, order);
}

static void op_alloc(struct model *m)
{
	/* Unmovable and reclaimable memory is nobody's: its frames have no pages. */
	unsigned owner = model_chance(m, 92) ? 1 + (unsigned)model_below(m, MODEL_OWNERS) : 0;
	unsigned order = model_chance(m, 50) ? 0 : (unsigned)model_below(m, m->max_order + 1);
	unsigned gfp = owner               ? random_gfp(m) :
		       model_chance(m, 50) ? BERTH_GFP_UNMOVABLE :
					     BERTH_GFP_RECLAIMABLE;
	uint64_t page = owner ? model_find_pages(m, owner, order) : 0;
	uint64_t cookie = owner ? m->owners[owner]->base + page : 0;
	berth_pfn_t pfn = 0x5ca1ab1e;
	int ret = berth_alloc_pages(m->tz->zone, order, gfp, owner, cookie, &pfn);

	if (ret == 0) {
		allocated(m, owner, order, gfp, pfn, page);
		return;
	}
	assert_int_equal(ret, -BERTH_ENOMEM);
	assert_int_equal(pfn, 0x5ca1ab1e);
	if (order == 0)
		assert_int_equal(usable_frames(m, gfp), 0);
	else if (m->tz->params.nr_pages <= 4096 || model_chance(m, 5))
		assert_false(any_usable_block(m, order, gfp));
}

/* A random frame that is in use by somebody, or BERTH_PFN_NONE. */
static berth_pfn_t random_used(struct model *m)
{
	for (unsigned i = 0; i < 30; i++) {
		uint64_t at = model_below(m, m->tz->params.nr_pages);

		if (m->kind[at] >= MODEL_USED)
			return m->tz->params.start_pfn + at;
	}
	return BERTH_PFN_NONE;
}

/* [pfn, pfn + nr) is freed: what is pinned becomes an orphan, the rest free. */
static void freed(struct model *m, unsigned owner, berth_pfn_t pfn, uint64_t nr_pages)
{
	if (owner)
		model_unmap(m, owner, pfn, nr_pages);
	for (berth_pfn_t at = pfn; at < pfn + nr_pages; at++)
		model_set(m, at, 1, (uint8_t)(MODEL_USED + owner),
			  m->pinned[model_index(m, at)] ? MODEL_ORPHAN : MODEL_FREE);
}

static void op_free(struct model *m)
{
	berth_pfn_t pfn = random_used(m), head = BERTH_PFN_NONE;
	unsigned order = 99;

	if (pfn == BERTH_PFN_NONE)
		return;
	assert_int_equal(berth_frame_state(m->tz->zone, pfn, &head, &order), 'u');
	freed(m, m->kind[model_index(m, pfn)] - MODEL_USED, head, 1ull << order);
	assert_int_equal(berth_free_pages(m->tz->zone, head), 0);
}

/* Does a pinned block lie across this boundary? */
static bool pinned_across(struct model *m, berth_pfn_t at)
{
	berth_pfn_t head = BERTH_PFN_NONE;
	unsigned order = 0;

	if (at == m->tz->params.start_pfn || at == zone_end(m->tz) ||
	    !m->pinned[model_index(m, at)])
		return false;
	berth_frame_state(m->tz->zone, at, &head, &order);
	return head < at;
}

static void op_free_range(struct model *m)
{
	berth_pfn_t pfn = random_used(m);
	uint64_t nr, most = model_chance(m, 50) ? 8 : 2ull << m->max_order;
	unsigned owner;
	bool all, cut;
	int ret;

	if (pfn == BERTH_PFN_NONE)
		return;
	if (most > zone_end(m->tz) - pfn)
		most = zone_end(m->tz) - pfn;
	nr = 1 + model_below(m, most);
	owner = m->kind[model_index(m, pfn)] - MODEL_USED;
	/* Mostly the owner's whole run from here, so that long ranges succeed too. */
	if (model_chance(m, 80))
		for (uint64_t i = 1; i < nr; i++)
			if (m->kind[model_index(m, pfn + i)] != MODEL_USED + owner)
				nr = i;
	all = model_all(m, pfn, nr, (uint8_t)(MODEL_USED + owner));
	cut = pinned_across(m, pfn) || pinned_across(m, pfn + nr);
	if (all && !cut)
		freed(m, owner, pfn, nr);
	ret = berth_free_range(m->tz->zone, pfn, nr, owner);
	if (all)
		assert_int_equal(ret, cut ? -BERTH_EBUSY : 0);
	else
		assert_true(ret == -BERTH_EINVAL || (cut && ret == -BERTH_EBUSY));
}

/* ---- Pins ------------------------------------------------------------------------------------ */

static void op_pin(struct model *m)
{
	berth_pfn_t pfn = random_used(m), head = BERTH_PFN_NONE;
	unsigned order = 0;

	if (pfn == BERTH_PFN_NONE || m->nr_pins == MODEL_MAX_PINS)
		return;
	assert_int_equal(berth_page_pin(m->tz->zone, pfn), 0);
	berth_frame_state(m->tz->zone, pfn, &head, &order);
	m->pins[m->nr_pins++] = pfn;
	if (m->pins_at[model_index(m, head)]++ == 0) {
		memset(&m->pinned[model_index(m, head)], 1, 1ull << order);
		m->nr_pinned++;
	}
}

static void op_unpin(struct model *m)
{
	berth_pfn_t pfn, head = BERTH_PFN_NONE;
	unsigned at, order = 0;

	if (!m->nr_pins)
		return;
	at = (unsigned)model_below(m, m->nr_pins);
	pfn = m->pins[at];
	m->pins[at] = m->pins[--m->nr_pins];
	assert_int_equal(berth_frame_state(m->tz->zone, pfn, &head, &order), 'u');
	if (--m->pins_at[model_index(m, head)] == 0) {
		memset(&m->pinned[model_index(m, head)], 0, 1ull << order);
		m->nr_pinned--;
		if (m->kind[model_index(m, pfn)] == MODEL_ORPHAN)
			model_set(m, head, 1ull << order, MODEL_ORPHAN, MODEL_FREE);
	}
	assert_int_equal(berth_page_unpin(m->tz->zone, pfn), 0);
}

/* ---- Claims ---------------------------------------------------------------------------------- */

static void check_report(const struct berth_claim_report *r, int ret, uint64_t nr_pages)
{
	uint64_t taken = r->free_pages_taken;

	assert_int_equal(r->error, ret);
	assert_int_equal(r->nr_pages, nr_pages);
	if (ret == 0 && r->tries == 1)
		assert_true(taken <= nr_pages && taken + r->moved_pages <= nr_pages);
}

static void remember_claim(struct model *m, struct model_area *area, berth_pfn_t pfn, uint64_t nr)
{
	m->claims[m->nr_claims++] = (struct model_claim){ area, pfn, nr };
	model_set(m, pfn, nr, MODEL_FREE, MODEL_CLAIMED);
}

static void set_bits(struct model *m, const struct model_area *area, berth_pfn_t pfn, uint64_t nr,
		     uint8_t value)
{
	uint64_t first = (pfn - area->start) & ~(area->bit_pages - 1);
	uint64_t end = (pfn + nr - area->start + area->bit_pages - 1) & ~(area->bit_pages - 1);

	for (uint64_t i = first; i < end; i++) {
		uint8_t *bit = &m->bit[model_index(m, area->start + i)];

		assert_int_equal(*bit, !value);
		*bit = value;
	}
}

static void check_cma_error(struct model *m, const struct outlook *o, int ret, unsigned flags,
			    uint64_t nr)
{
	if (!o->fits)
		assert_int_equal(ret, -BERTH_E2BIG);
	else if (!o->has_room)
		assert_int_equal(ret, -BERTH_ENOSPC);
	else if (!o->claimable)
		assert_true(ret == -BERTH_EBUSY ||
			    (ret == -BERTH_EAGAIN && (flags & BERTH_CLAIM_FREE_ONLY)));
	else if (flags & BERTH_CLAIM_FREE_ONLY)
		assert_true(ret == -BERTH_EAGAIN && !o->free_run);
	else
		assert_true((ret == -BERTH_EBUSY && m->disturbed) ||
			    (ret == -BERTH_ENOMEM && may_be_enomem(m, nr)));
}

static void op_cma_alloc(struct model *m)
{
	struct berth_claim_params params = { 0 };
	struct berth_claim_report r;
	struct model_area *area;
	struct outlook o;
	berth_pfn_t pfn = 0x5ca1ab1e;
	int ret;

	if (!m->nr_areas || m->nr_claims == MODEL_MAX_CLAIMS)
		return;
	area = &m->areas[model_below(m, m->nr_areas)];
	params.nr_pages = 1 + model_below(m, model_chance(m, 60) ? 20 : area->nr_pages + 2);
	params.align_order = model_chance(m, 70) ? 0 : (unsigned)model_below(m, m->max_order + 1);
	params.flags = (model_chance(m, 20) ? BERTH_CLAIM_FIRST_FIT : 0) |
		       (model_chance(m, 10) ? BERTH_CLAIM_FREE_ONLY : 0);
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
		assert_true(o.cached_run && r.moved_pages == 0);
	assert_int_equal(pfn & ((1ull << params.align_order) - 1), 0);
	assert_int_equal((pfn - area->start) % area->bit_pages, 0);
	assert_true(pfn >= area->start && pfn + params.nr_pages <= area->start + area->nr_pages);
	set_bits(m, area, pfn, params.nr_pages, 1);
	remember_claim(m, area, pfn, params.nr_pages);
	area->nr_claimed += params.nr_pages;
}

/* What stands in a range that is to be claimed. */
struct contents {
	bool hole, claimed, held, lent;
};

static struct contents look_into(const struct model *m, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct contents c = { 0 };

	for (uint64_t i = model_index(m, pfn); i < model_index(m, pfn) + nr_pages; i++) {
		c.hole |= m->kind[i] == MODEL_HOLE;
		c.claimed |= m->kind[i] == MODEL_CLAIMED;
		c.held |= m->pinned[i] || m->kind[i] == MODEL_ORPHAN || m->kind[i] == MODEL_USED;
		c.lent |= m->kind[i] > MODEL_USED;
	}
	return c;
}

static void check_contig_error(struct model *m, const struct contents *c, int ret, unsigned flags,
			       uint64_t nr)
{
	bool free_only = flags & BERTH_CLAIM_FREE_ONLY;

	if (c->hole)
		assert_true(ret == -BERTH_EINVAL || (ret == -BERTH_EBUSY && c->claimed));
	else if (c->claimed)
		assert_int_equal(ret, -BERTH_EBUSY);
	else if (c->held)
		assert_true(ret == -BERTH_EBUSY || (ret == -BERTH_EAGAIN && free_only));
	else if (free_only)
		assert_true(ret == -BERTH_EAGAIN && c->lent);
	else
		assert_true(c->lent && ((ret == -BERTH_EBUSY && m->disturbed) ||
					(ret == -BERTH_ENOMEM && may_be_enomem(m, nr))));
}

static void op_contig(struct model *m)
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
	params.flags = model_chance(m, 10) ? BERTH_CLAIM_FREE_ONLY : 0;
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
	assert_false(c.lent && params.flags);
	remember_claim(m, NULL, pfn, nr);
}

static void op_release(struct model *m)
{
	struct model_claim c;
	unsigned at;

	if (!m->nr_claims)
		return;
	at = (unsigned)model_below(m, m->nr_claims);
	c = m->claims[at];
	m->claims[at] = m->claims[--m->nr_claims];
	model_set(m, c.pfn, c.nr_pages, MODEL_CLAIMED, MODEL_FREE);
	if (c.area) {
		set_bits(m, c.area, c.pfn, c.nr_pages, 0);
		c.area->nr_claimed -= c.nr_pages;
		assert_int_equal(berth_cma_release(c.area->cma, c.pfn, c.nr_pages), 0);
	} else {
		assert_int_equal(berth_free_contig_range(m->tz->zone, c.pfn, c.nr_pages), 0);
	}
}

/* ---- The rest -------------------------------------------------------------------------------- */

/* Calls that must be refused, on the frame where chance has led. */
static void op_refused(struct model *m)
{
	uint64_t at = model_below(m, m->tz->params.nr_pages);
	berth_pfn_t pfn = m->tz->params.start_pfn + at, head = BERTH_PFN_NONE;
	struct berth_zone *zone = m->tz->zone;
	unsigned order = 0;
	char state = berth_frame_state(zone, pfn, &head, &order);

	if (state != 'u' || head != pfn || m->kind[at] == MODEL_ORPHAN)
		assert_int_equal(berth_free_pages(zone, pfn), -BERTH_EINVAL);
	if (state != 'u')
		assert_int_equal(berth_page_pin(zone, pfn), -BERTH_EINVAL);
	if (!m->pinned[at])
		assert_int_equal(berth_page_unpin(zone, pfn), -BERTH_EINVAL);
	if (state != 'u' || head != pfn || m->pinned[at])
		assert_false(berth_page_freeze(zone, pfn));
	if (m->kind[at] != MODEL_USED + 1)
		assert_int_equal(berth_free_range(zone, pfn, 1, 1), -BERTH_EINVAL);
	if (state != 'c')
		assert_int_equal(berth_free_contig_range(zone, pfn, 1), -BERTH_EINVAL);
	if (m->nr_areas && state != 'c')
		assert_int_equal(berth_cma_release(m->areas[0].cma, pfn, 1), -BERTH_EINVAL);
}

static void op_claim_refused(struct model *m)
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

static void op_allocate_or_free(struct model *m)
{
	if (m->nr_used < m->target_used ? model_chance(m, 80) : model_chance(m, 20))
		op_alloc(m);
	else if (model_chance(m, 70))
		op_free(m);
	else
		op_free_range(m);
}

static void one_operation(struct model *m)
{
	unsigned dice = (unsigned)model_below(m, 1000);

	m->disturbed = false;
	if (dice < 800)
		op_allocate_or_free(m);
	else if (dice < 830)
		op_pin(m);
	else if (dice < 865)
		op_unpin(m);
	else if (dice < 900)
		op_cma_alloc(m);
	else if (dice < 915)
		op_contig(m);
	else if (dice < 965)
		op_release(m);
	else if (dice < 980)
		op_refused(m);
	else if (dice < 985)
		op_claim_refused(m);
	else if (dice < 990)
		berth_pcp_drain_all(m->tz->zone);
	else
		test_set_cpu(model_chance(m, 60) ? (unsigned)model_below(m, 3) : TEST_NO_CPU);
}

/* Every so often the zone becomes emptier or fuller, and owners kinder or worse. */
static void new_phase(struct model *m)
{
	static const unsigned percent[] = { 0, 20, 50, 80, 95, 100 };

	m->target_used = m->nr_managed * percent[model_below(m, ARRAY_SIZE(percent))] / 100;
	m->disturbs = model_chance(m, 50);
}

/* After everything is given back the zone is as it was. */
static void empty_out(struct model *m)
{
	while (m->nr_pins)
		op_unpin(m);
	while (m->nr_claims)
		op_release(m);
	for (uint64_t i = 0; i < m->tz->params.nr_pages; i++) {
		berth_pfn_t head = BERTH_PFN_NONE;
		unsigned order = 0;

		if (m->kind[i] < MODEL_USED)
			continue;
		berth_frame_state(m->tz->zone, m->tz->params.start_pfn + i, &head, &order);
		freed(m, m->kind[i] - MODEL_USED, head, 1ull << order);
		assert_int_equal(berth_free_pages(m->tz->zone, head), 0);
	}
	berth_pcp_drain_all(m->tz->zone);
	model_compare_sums(m);
	model_compare_all(m);
	assert_int_equal(m->nr_free, m->nr_managed);
	assert_all_merged(m->tz);
}

/* ---- Runs ------------------------------------------------------------------------------------ */

static uint64_t from_env(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 0) : otherwise;
}

static void run_seed(const struct model_shape *shape, uint64_t seed, uint64_t nr_ops)
{
	struct model *m = model_open(shape, seed);

	current.seed = seed;
	for (uint64_t op = 0; op < nr_ops; op++) {
		current.op = op;
		if (op % 1024 == 0)
			new_phase(m);
		one_operation(m);
		model_compare_sums(m);
		if (op % shape->full_every == 0)
			model_compare_all(m);
	}
	empty_out(m);
	model_close(m);
}

static void run_shape(void **state)
{
	const struct model_shape *shape = *state;
	uint64_t nr_seeds = from_env("BERTH_MODEL_SEEDS",
				     (shape->nr_seeds + TEST_SLOWDOWN - 1) / TEST_SLOWDOWN);
	uint64_t nr_ops = from_env("BERTH_MODEL_OPS", shape->nr_ops);

	current.shape = shape->name;
	current.running = true;
	if (getenv("BERTH_MODEL_SEED")) {
		run_seed(shape, from_env("BERTH_MODEL_SEED", 1), nr_ops);
	} else {
		for (uint64_t seed = 1; seed <= nr_seeds; seed++)
			run_seed(shape, seed, nr_ops);
	}
	current.running = false;
}

/* Runs after failures too: says how to get there again. */
static int say_seed(void **state)
{
	(void)state;
	if (current.running)
		print_error("zone shape '%s', operation %llu: replay with BERTH_MODEL_SEED=%llu\n",
			    current.shape, (unsigned long long)current.op,
			    (unsigned long long)current.seed);
	current.running = false;
	return 0;
}

/* ---- Shapes ---------------------------------------------------------------------------------- */

static const struct model_shape shapes[] = {
	{
		.name = "tiny, unaligned, with a hole",
		.params = { .start_pfn = 5,
			    .nr_pages = 75,
			    .pageblock_order = 2,
			    .max_order = 3,
			    .pcp_high = 2 },
		.hole_start = 40,
		.hole_pages = 3,
		.areas = { { 2, 5, 0, BERTH_LEND_FIRST } },
		.nr_areas = 1,
		.full_every = 1,
		.nr_seeds = 60,
		.nr_ops = 5000,
	},
	{
		.name = "tiny, one order",
		.params = { .start_pfn = 64,
			    .nr_pages = 64,
			    .pageblock_order = 3,
			    .max_order = 3,
			    .pcp_high = 4 },
		.areas = { { 0, 2, 1, BERTH_LEND_LAST }, { 2, 2, 2, BERTH_LEND_FIRST } },
		.nr_areas = 2,
		.full_every = 1,
		.nr_seeds = 60,
		.nr_ops = 5000,
	},
	{
		.name = "several areas",
		.params = { .start_pfn = 0x12340,
			    .nr_pages = 1900,
			    .pageblock_order = 4,
			    .max_order = 9,
			    .pcp_high = 16 },
		.areas = { { 3, 8, 0, BERTH_LEND_FIRST },
			   { 11, 16, 2, BERTH_LEND_LAST },
			   { 40, 5, 4, BERTH_LEND_OFF },
			   { 45, 3, 0, BERTH_LEND_FIRST },
			   { 60, 20, 1, BERTH_LEND_FIRST } },
		.nr_areas = 5,
		.full_every = 50,
		.nr_seeds = 12,
		.nr_ops = 20000,
	},
	{
		.name = "no areas, blocks far above a pageblock",
		.params = { .start_pfn = 1000,
			    .nr_pages = 3000,
			    .pageblock_order = 2,
			    .max_order = 11 },
		.full_every = 100,
		.nr_seeds = 8,
		.nr_ops = 20000,
	},
	{
		.name = "default orders",
		.params = { .start_pfn = 1ull << 40, .nr_pages = 8192 },
		.areas = { { 2, 6, 0, BERTH_LEND_FIRST } },
		.nr_areas = 1,
		.full_every = 1000,
		.nr_seeds = 24,
		.nr_ops = 20000,
	},
	{
		.name = "default orders, without a barrier",
		.params = { .nr_pages = 6000, .port = &test_port_ops_no_barrier },
		.areas = { { 0, 4, 3, BERTH_LEND_LAST }, { 6, 1, 0, BERTH_LEND_FIRST } },
		.nr_areas = 2,
		.full_every = 1000,
		.nr_seeds = 12,
		.nr_ops = 20000,
	},
	{
		.name = "max_order 13",
		.params = { .start_pfn = 8192, .nr_pages = 20000, .max_order = 13 },
		.areas = { { 5, 20, 0, BERTH_LEND_FIRST } },
		.nr_areas = 1,
		.full_every = 5000,
		.nr_seeds = 12,
		.nr_ops = 20000,
	},
};

int main(void)
{
	struct CMUnitTest tests[ARRAY_SIZE(shapes)];

	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
		tests[i] = (struct CMUnitTest){
			.name = shapes[i].name,
			.test_func = run_shape,
			.teardown_func = say_seed,
			.initial_state = (void *)(uintptr_t)&shapes[i],
		};
	return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
