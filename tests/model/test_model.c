/* SPDX-License-Identifier: MIT */
/*
 * Random operations against the naive model of model.h: allocations of all kinds, frees of blocks
 * and of parts, splits, pins, claims (model_claims.h), LRU lists and reclaim (model_lru.h), compaction,
 * drains, owners that fail to move, and calls that must be refused. Contents of every page survive
 * every move.
 *
 *	BERTH_MODEL_SEED=n    runs only this seed
 *	BERTH_MODEL_SEEDS=n   seeds for each zone shape
 *	BERTH_MODEL_OPS=n     operations for each seed
 */
#include "tests/model/model_claims.h"
#include "tests/model/model_lru.h"

/* The run that is under way, for the message when it fails. */
static struct {
	const char *shape;
	uint64_t seed, op;
	bool running;
} current;

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
		BERTH_GFP_MOVABLE | BERTH_GFP_COMPACT,
	};

	return movable[model_below(m, ARRAY_SIZE(movable))];
}

/* [pfn, pfn + nr_pages) was free, and may be had by such a request. */
static void allocated(struct model *m, unsigned owner, uint64_t nr_pages, unsigned gfp,
		      berth_pfn_t pfn, uint64_t page)
{
	assert_true(usable_block(m, pfn, nr_pages, gfp));
	/* Only a CPU's list can have a frame that has been fenced off since. */
	if (m->cpu == TEST_NO_CPU)
		assert_int_not_equal(berth_pageblock_migratetype(m->tz->zone, pfn), BERTH_ISOLATE);
	model_set(m, pfn, nr_pages, MODEL_FREE, (uint8_t)(MODEL_USED + owner));
	if (owner)
		model_map(m, owner, page, pfn, nr_pages);
	if (gfp & BERTH_GFP_LRU)
		model_lru_change(m, pfn, nr_pages, MODEL_LRU_TAGGED, 0);
}

/* What an area keeps from borrowers is still there; what a CPU had cached before is no matter. */
static void check_keep(struct model *m, berth_pfn_t pfn)
{
	struct model_area *area = model_area_of(m, pfn);
	struct berth_cma_stats s;

	if (!area || m->cpu != TEST_NO_CPU)
		return;
	berth_cma_stats_brief(area->cma, &s);
	assert_true(s.free_pages >= area->keep);
}

/* Whose, by which flags, at which of its pages. */
struct request {
	unsigned owner, gfp;
	uint64_t page, cookie;
};

static struct request random_request(struct model *m, unsigned order)
{
	/* Unmovable and reclaimable memory is nobody's: its frames have no pages. */
	unsigned owner = model_chance(m, 92) ? 1 + (unsigned)model_below(m, MODEL_OWNERS) : 0;
	struct request r = { .owner = owner };

	r.gfp = owner               ? random_gfp(m) :
		model_chance(m, 50) ? BERTH_GFP_UNMOVABLE :
				      BERTH_GFP_RECLAIMABLE;
	if (owner == MODEL_CACHE && m->tz->params.lru && model_chance(m, 90))
		r.gfp |= BERTH_GFP_LRU;
	r.page = owner ? model_find_pages(m, owner, order) : 0;
	r.cookie = owner ? m->owners[owner]->base + r.page : 0;
	return r;
}

static void op_alloc(struct model *m)
{
	unsigned order = model_chance(m, 50) ? 0 : (unsigned)model_below(m, m->max_order + 1);
	struct request r = random_request(m, order);
	berth_pfn_t pfn = 0x5ca1ab1e, head = BERTH_PFN_NONE;
	unsigned o = 99;
	int ret = berth_alloc_pages(m->tz->zone, order, r.gfp, r.owner, r.cookie, &pfn);

	if (ret == 0) {
		assert_int_equal(pfn & ((1ull << order) - 1), 0);
		assert_int_equal(berth_frame_state(m->tz->zone, pfn, &head, &o), 'u');
		assert_int_equal(head, pfn);
		assert_int_equal(o, order);
		allocated(m, r.owner, 1ull << order, r.gfp, pfn, r.page);
		check_keep(m, pfn);
		return;
	}
	assert_int_equal(ret, -BERTH_ENOMEM);
	assert_int_equal(pfn, 0x5ca1ab1e);
	if (m->nr_pending) /* what is fenced off is free, and nobody's */
		return;
	if (order == 0)
		assert_int_equal(usable_frames(m, r.gfp), 0);
	else if (m->tz->params.nr_pages <= 4096 || model_chance(m, 5))
		assert_false(any_usable_block(m, order, r.gfp));
}

/* Exact sizes: the rest of the block is free again. */
static void op_alloc_exact(struct model *m)
{
	uint64_t nr = 1 + model_below(m, model_chance(m, 70) ? 20 : 1ull << m->max_order);
	berth_pfn_t pfn = 0x5ca1ab1e, at;
	unsigned order = 0, piece = 0;
	struct request r;
	int ret;

	if (nr > 1ull << m->max_order)
		nr = 1ull << m->max_order;
	while (1ull << order < nr)
		order++;
	r = random_request(m, order);
	r.gfp &= ~(unsigned)BERTH_GFP_COMPACT;
	ret = berth_alloc_pages_exact(m->tz->zone, nr, r.gfp, r.owner, r.cookie, &pfn);
	if (ret) {
		assert_int_equal(ret, -BERTH_ENOMEM);
		assert_int_equal(pfn, 0x5ca1ab1e);
		if (!m->nr_pending && m->tz->params.nr_pages <= 4096)
			assert_false(any_usable_block(m, order, r.gfp));
		return;
	}
	assert_int_equal(pfn & ((1ull << order) - 1), 0);
	for (at = pfn; at < pfn + nr; at += 1ull << piece)
		assert_int_equal(berth_compound_head(m->tz->zone, at, &piece), at);
	assert_int_equal(at, pfn + nr);
	allocated(m, r.owner, nr, r.gfp, pfn, r.page);
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
	model_lru_change(m, pfn, nr_pages, 0, 255 & ~(unsigned)MODEL_LRU_WRITEBACK);
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

/* A block becomes smaller ones, unless somebody holds it. */
static void op_split(struct model *m)
{
	berth_pfn_t pfn = random_used(m), head = BERTH_PFN_NONE;
	unsigned order = 99, to, piece = 99;
	int ret;

	if (pfn == BERTH_PFN_NONE)
		return;
	assert_int_equal(berth_frame_state(m->tz->zone, pfn, &head, &piece), 'u');
	assert_int_equal(berth_compound_head(m->tz->zone, pfn, &order), head);
	assert_int_equal(order, piece);
	to = (unsigned)model_below(m, m->max_order + 1);
	ret = berth_split_pages(m->tz->zone, head, to);
	if (m->kind[model_index(m, head)] == MODEL_ORPHAN || to > order)
		assert_int_equal(ret, -BERTH_EINVAL);
	else if (!m->nr_pending || ret != -BERTH_EBUSY) /* it may be fenced off */
		assert_int_equal(ret, m->pinned[model_index(m, head)] ? -BERTH_EBUSY : 0);
	for (berth_pfn_t at = head; !ret && at < head + (1ull << order); at += 1ull << to) {
		assert_int_equal(berth_compound_head(m->tz->zone, at, &piece), at);
		assert_int_equal(piece, to);
	}
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
	model_pin(m, head, order);
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
	model_unpin(m, head, order);
	assert_int_equal(berth_page_unpin(m->tz->zone, pfn), 0);
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
	if (state != 'c' || m->kind[at] == MODEL_TAKEN)
		assert_int_equal(berth_free_contig_range(zone, pfn, 1), -BERTH_EINVAL);
	if (m->nr_areas && (state != 'c' || m->kind[at] == MODEL_TAKEN))
		assert_int_equal(berth_cma_release(m->areas[0].cma, pfn, 1), -BERTH_EINVAL);
}

/* Frames in use stay in use, wherever they are after it. */
static void op_compact(struct model *m)
{
	struct berth_compact_params params = {
		.order = (unsigned)model_below(m, m->max_order + 1),
		.mode = (enum berth_compact_mode)model_below(m, 3),
		.flags = (unsigned)model_below(m, 8),
		.gfp = model_chance(m, 50) ? BERTH_GFP_MOVABLE : 0,
		.max_pages = model_chance(m, 50) ? 0 : 100,
	};
	uint64_t used = m->nr_used, nr_free = m->nr_free;
	int ret = berth_compact(m->tz->zone, &params, NULL);

	assert_true(ret == 0 || ret == -BERTH_EBUSY || ret == -BERTH_EAGAIN ||
		    ret == -BERTH_ENOMEM);
	assert_int_equal(m->nr_used, used);
	assert_int_equal(m->nr_free, nr_free);
}

static void op_allocate_or_free(struct model *m)
{
	if (m->nr_used < m->target_used ? model_chance(m, 80) : model_chance(m, 20)) {
		if (model_chance(m, 90))
			op_alloc(m);
		else
			op_alloc_exact(m);
	} else if (model_chance(m, 70)) {
		op_free(m);
	} else {
		op_free_range(m);
	}
}

/* Of the zone, a CPU (there are none but those that nr_cpus says), or a range; or lists grow older. */
static void op_drain(struct model *m)
{
	uint64_t nr = 1 + model_below(m, m->tz->params.nr_pages);
	berth_pfn_t start = m->tz->params.start_pfn +
			    model_below(m, m->tz->params.nr_pages - nr + 1);
	unsigned cpu = (unsigned)model_below(m, 3);

	switch (model_below(m, 4)) {
	case 0:
		assert_int_equal(berth_pcp_drain(m->tz->zone, cpu),
				 cpu < m->tz->params.nr_cpus ? 0 : -BERTH_EINVAL);
		break;
	case 1:
		assert_int_equal(berth_pcp_drain_range(m->tz->zone, start, nr), 0);
		for (berth_pfn_t pfn = start; pfn < start + nr; pfn++)
			assert_true(frame_state(m->tz, pfn) != 'p');
		break;
	case 2:
		berth_pcp_age(m->tz->zone);
		break;
	default:
		berth_pcp_drain_all(m->tz->zone);
		break;
	}
}

static void op_change_cpu(struct model *m)
{
	m->cpu = model_chance(m, 60) ? (unsigned)model_below(m, 3) : TEST_NO_CPU;
	test_set_cpu(m->cpu);
}

/* How often, in a thousand; the rest is memory that comes and goes. */
static const struct {
	unsigned weight;
	void (*run)(struct model *m);
} operations[] = {
	{ 150, op_lru },       { 30, op_pin },      { 35, op_unpin },        { 30, op_cma_alloc },
	{ 15, op_contig },     { 50, op_release },  { 5, op_bulk },          { 3, op_release_bulk },
	{ 4, op_prepare },     { 40, op_prepared }, { 2, op_lend },          { 10, op_split },
	{ 2, op_compact },     { 15, op_refused },  { 5, op_claim_refused }, { 5, op_drain },
	{ 10, op_change_cpu },
};

static void one_operation(struct model *m)
{
	unsigned dice = (unsigned)model_below(m, 1000);

	m->disturbed = false;
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		if (dice < operations[i].weight) {
			operations[i].run(m);
			return;
		}
		dice -= operations[i].weight;
	}
	op_allocate_or_free(m);
}

/* Every so often the zone becomes emptier or fuller, and owners kinder or worse. */
static void new_phase(struct model *m)
{
	static const unsigned percent[] = { 0, 20, 50, 80, 95, 100 };

	m->target_used = m->nr_managed * percent[model_below(m, ARRAY_SIZE(percent))] / 100;
	m->disturbs = model_chance(m, 50);
	m->busy_percent = model_chance(m, 50) ? 0 : 20;
	m->used_percent = model_chance(m, 50) ? 0 : 30;
	m->dirty_percent = model_chance(m, 50) ? 0 : 10;
}

/* After everything is given back the zone is as it was. */
static void empty_out(struct model *m)
{
	for (unsigned i = 0; i < MODEL_MAX_PREPARED; i++)
		if (m->prepared[i].prepared)
			cancel_prepared(m, &m->prepared[i]);
	while (m->nr_writing)
		model_end_write(m, m->nr_writing - 1, true);
	while (m->lru_disabled) {
		berth_lru_cache_enable(m->tz->zone);
		m->lru_disabled--;
	}
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

static void run_seed(const struct model_shape *shape, uint64_t seed, uint64_t nr_ops)
{
	struct model *m = model_open(shape, seed);

	model_open_cache(m);
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
	uint64_t nr_seeds = test_env("BERTH_MODEL_SEEDS",
				     (shape->nr_seeds + TEST_SLOWDOWN - 1) / TEST_SLOWDOWN);
	uint64_t nr_ops = test_env("BERTH_MODEL_OPS", shape->nr_ops);

	current.shape = shape->name;
	current.running = true;
	if (getenv("BERTH_MODEL_SEED")) {
		run_seed(shape, test_env("BERTH_MODEL_SEED", 1), nr_ops);
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
			    .pcp_high = 2,
			    .lru = true },
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
			    .pcp_high = 16,
			    .lru = true },
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
		.params = { .start_pfn = 1ull << 40, .nr_pages = 8192, .lru = true },
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
		.params = { .start_pfn = 8192, .nr_pages = 20000, .max_order = 13, .lru = true },
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
