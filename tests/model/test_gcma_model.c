/* SPDX-License-Identifier: MIT */
/*
 * GCMA areas against a naive reference: claims with alignment, boundary and limits, claims in bulk, releases right and
 * wrong, and borrowers' fills, at random, in several areas.
 *
 * The reference is one flag for each granule, and looks at every place. By it a claim succeeds exactly if some place is
 * right and free, takes the smallest gap that has one (by first fit: the lowest place), and a bulk claim gets as
 * many buffers as can lie there at all. What a borrower stored is there exactly until its granule is claimed.
 *
 * GCMA_MODEL_OPS operations for each world and each of the seeds (BERTH_MODEL_SEED: that one only).
 */
#include "testgcma.h"

#define MAX_AREAS 3u
#define MAX_HELD 1024u
#define MAX_BULK 40u

struct held {
	unsigned area;
	berth_pfn_t pfn;
	uint64_t nr_pages;
	char name[8];
};

struct area {
	struct test_gcma *t;
	bool claimed[TEST_GCMA_UNITS];
	bool stored[TEST_GCMA_UNITS];   /* since it was claimed last */
	uint64_t seen[TEST_GCMA_UNITS]; /* a generation that it had once */
};

struct model {
	struct area areas[MAX_AREAS];
	unsigned nr_areas;
	uint64_t random;
	struct held held[MAX_HELD];
	unsigned nr_held;
	uint64_t fitted, refused, bulks, fills, wrong;
};

static uint64_t below(struct model *m, uint64_t bound)
{
	return test_random_below(&m->random, bound);
}

static uint64_t units_of(const struct test_gcma *t, uint64_t nr_pages)
{
	uint64_t granule = 1ull << t->params.granule_order;

	return (nr_pages + granule - 1) / granule;
}

static uint64_t unit_of(const struct test_gcma *t, berth_pfn_t pfn)
{
	return (pfn - t->params.start_pfn) >> t->params.granule_order;
}

static struct berth_claim_params some_claim(struct model *m, const struct test_gcma *t)
{
	static const char *const names[] = { NULL, "a", "b" };
	uint64_t most = t->params.nr_pages >> below(m, 8);
	struct berth_claim_params params = { .nr_pages = 1 + below(m, most ? most : 1),
					     .name = names[below(m, 3)] };

	if (below(m, 3) == 0)
		params.align_order = (unsigned)below(m, 8);
	if (below(m, 5) == 0)
		params.boundary_pages = 1ull << (t->params.granule_order + below(m, 8));
	if (below(m, 5) == 0)
		params.min_pfn = t->params.start_pfn + below(m, t->params.nr_pages);
	if (below(m, 5) == 0)
		params.max_pfn = t->params.start_pfn + below(m, t->params.nr_pages);
	if (params.max_pfn && params.max_pfn < params.min_pfn)
		params.max_pfn = 0;
	if (below(m, 4) == 0)
		params.flags = BERTH_CLAIM_FIRST_FIT;
	return params;
}

/* The claim lies right and was free; now it is held. */
static void hold(struct model *m, unsigned nr, const struct berth_claim_params *params,
		 berth_pfn_t pfn)
{
	struct area *a = &m->areas[nr];
	uint64_t unit = unit_of(a->t, pfn);
	struct held *held = &m->held[m->nr_held++];

	assert_true(m->nr_held <= MAX_HELD);
	assert_int_equal(gcma_unit_pfn(a->t, unit), pfn);
	assert_true(oracle_fits(a->t, params, a->claimed, unit));
	for (uint64_t i = 0; i < units_of(a->t, params->nr_pages); i++) {
		a->claimed[unit + i] = true;
		a->stored[unit + i] = false;
	}
	*held = (struct held){ .area = nr, .pfn = pfn, .nr_pages = params->nr_pages };
	snprintf(held->name, sizeof(held->name), "%s", params->name ? params->name : "");
}

static void let_go(struct model *m, unsigned i)
{
	const struct held *held = &m->held[i];
	struct area *a = &m->areas[held->area];
	uint64_t unit = unit_of(a->t, held->pfn);

	for (uint64_t k = 0; k < units_of(a->t, held->nr_pages); k++)
		a->claimed[unit + k] = false;
	m->held[i] = m->held[--m->nr_held];
}

static void do_claim(struct model *m)
{
	unsigned nr = (unsigned)below(m, m->nr_areas);
	struct area *a = &m->areas[nr];
	struct berth_claim_params params = some_claim(m, a->t);
	uint64_t smallest, lowest, first;
	int expected = oracle_answer(a->t, &params, a->claimed, &smallest, &lowest);
	struct berth_claim_report report;
	berth_pfn_t pfn = BERTH_PFN_NONE;

	if (m->nr_held == MAX_HELD)
		return;
	assert_int_equal(berth_gcma_alloc(a->t->area, &params, &pfn, &report), expected);
	assert_int_equal(report.error, expected);
	m->fitted += !expected;
	m->refused += expected == -BERTH_ENOSPC;
	if (expected)
		return;
	if (params.flags & BERTH_CLAIM_FIRST_FIT)
		assert_int_equal(unit_of(a->t, pfn), lowest);
	else
		assert_int_equal(oracle_gap(a->t, a->claimed, unit_of(a->t, pfn), &first),
				 smallest);
	hold(m, nr, &params, pfn);
}

/* How many buffers can lie in what is free: each at the first place that is right. */
static uint64_t most_buffers(const struct area *a, const struct berth_claim_params *params,
			     int *error)
{
	uint64_t smallest, lowest, nr = 0, unit = 0;

	*error = oracle_answer(a->t, params, a->claimed, &smallest, &lowest);
	while (unit < gcma_nr_units(a->t)) {
		bool fits = oracle_fits(a->t, params, a->claimed, unit);

		nr += fits;
		unit += fits ? units_of(a->t, params->nr_pages) : 1;
	}
	return nr;
}

static void do_bulk(struct model *m)
{
	unsigned nr = (unsigned)below(m, m->nr_areas), wanted = 1 + (unsigned)below(m, MAX_BULK);
	unsigned flags = below(m, 2) ? BERTH_BULK_AS_MANY_AS_POSSIBLE : 0;
	struct area *a = &m->areas[nr];
	struct berth_claim_params params = some_claim(m, a->t);
	berth_pfn_t pfns[MAX_BULK];
	uint64_t most;
	int error, got;

	params.nr_pages = 1 + below(m, 4ull << a->t->params.granule_order);
	most = most_buffers(a, &params, &error);
	if (m->nr_held + wanted > MAX_HELD)
		return;
	got = berth_gcma_alloc_bulk(a->t->area, &params, wanted, pfns, flags, NULL);
	if (most >= wanted)
		assert_int_equal(got, wanted);
	else if (flags && most)
		assert_int_equal(got, most);
	else
		assert_int_equal(got, most ? -BERTH_ENOSPC : error);
	m->bulks += got > 0;
	for (int i = 0; i < got; i++)
		hold(m, nr, &params, pfns[i]);
}

static void do_release(struct model *m)
{
	unsigned i;

	if (!m->nr_held)
		return;
	i = (unsigned)below(m, m->nr_held);
	assert_int_equal(berth_gcma_release(m->areas[m->held[i].area].t->area, m->held[i].pfn,
					    m->held[i].nr_pages),
			 0);
	let_go(m, i);
}

/* All of one size in one area, by one call; with something that is no claim among them, none. */
static void do_release_bulk(struct model *m)
{
	berth_pfn_t pfns[MAX_HELD];
	unsigned which[MAX_HELD], nr = 0;
	const struct held *like;
	struct berth_gcma *area;

	if (!m->nr_held)
		return;
	like = &m->held[below(m, m->nr_held)];
	area = m->areas[like->area].t->area;
	for (unsigned i = 0; i < m->nr_held; i++)
		if (m->held[i].area == like->area && m->held[i].nr_pages == like->nr_pages) {
			which[nr] = i;
			pfns[nr++] = m->held[i].pfn;
		}
	if (nr > 1 && below(m, 2)) {
		berth_pfn_t last = pfns[nr - 1];

		pfns[nr - 1] = below(m, 2) ? pfns[0] : last + (1ull << 40);
		assert_int_equal(berth_gcma_release_bulk(area, pfns, nr, like->nr_pages),
				 -BERTH_EINVAL);
		pfns[nr - 1] = last;
		m->wrong++;
	}
	assert_int_equal(berth_gcma_release_bulk(area, pfns, nr, like->nr_pages), 0);
	while (nr--)
		let_go(m, which[nr]);
}

/* What isn't exactly a claim is refused, and nothing changes. */
static void do_wrong_release(struct model *m)
{
	const struct held *held;
	struct area *a;

	if (!m->nr_held)
		return;
	held = &m->held[below(m, m->nr_held)];
	a = &m->areas[held->area];
	assert_int_equal(berth_gcma_release(a->t->area, held->pfn, held->nr_pages + 1),
			 -BERTH_EINVAL);
	if (units_of(a->t, held->nr_pages) > 1) /* the rest of it */
		assert_int_equal(
			berth_gcma_release(a->t->area,
					   held->pfn + (1ull << a->t->params.granule_order),
					   held->nr_pages),
			-BERTH_EINVAL);
	m->wrong++;
}

static void do_fill(struct model *m)
{
	struct area *a = &m->areas[below(m, m->nr_areas)];
	uint64_t unit = below(m, gcma_nr_units(a->t));
	uint64_t generation = berth_gcma_generation(a->t->area, unit);
	bool filled = berth_gcma_fill_begin(a->t->area, unit, generation);

	assert_int_equal(berth_gcma_open(generation), !a->claimed[unit]);
	assert_int_equal(filled, !a->claimed[unit]);
	if (filled)
		berth_gcma_fill_end(a->t->area);
	a->stored[unit] |= filled;
	m->fills += filled;
	/* By one of before nobody fills, and nothing is there. */
	if (a->seen[unit] != generation) {
		assert_false(berth_gcma_fill_begin(a->t->area, unit, a->seen[unit]));
		assert_false(berth_gcma_still(a->t->area, unit, a->seen[unit]));
	}
	if (!a->stored[unit] || below(m, 4) == 0)
		a->seen[unit] = generation;
}

/* Every granule and every claim are as the reference says. */
static void verify(struct model *m)
{
	unsigned listed = 0;

	for (unsigned nr = 0; nr < m->nr_areas; nr++) {
		struct area *a = &m->areas[nr];
		uint64_t claimed = 0, run = 0, longest = 0;
		struct berth_gcma_stats stats = gcma_stats(a->t);
		struct berth_claim_info info;
		berth_pfn_t next = 0;

		gcma_verify(a->t);
		for (uint64_t unit = 0; unit < gcma_nr_units(a->t); unit++) {
			assert_int_equal(berth_gcma_open(berth_gcma_generation(a->t->area, unit)),
					 !a->claimed[unit]);
			claimed += a->claimed[unit];
			run = a->claimed[unit] ? 0 : run + 1;
			longest = run > longest ? run : longest;
		}
		assert_int_equal(stats.claimed_pages, claimed << a->t->params.granule_order);
		assert_int_equal(stats.largest_free_pages, longest << a->t->params.granule_order);
		while (berth_gcma_claim_next(a->t->area, &next, &info)) {
			unsigned i = 0;

			while (i < m->nr_held &&
			       (m->held[i].area != nr || m->held[i].pfn != info.pfn))
				i++;
			assert_true(i < m->nr_held);
			assert_int_equal(info.nr_pages, m->held[i].nr_pages);
			assert_string_equal(info.name, m->held[i].name);
			listed++;
		}
	}
	assert_int_equal(listed, m->nr_held);
}

static void step(struct model *m)
{
	uint64_t op = below(m, 100);

	if (op < 32)
		do_claim(m);
	else if (op < 38)
		do_bulk(m);
	else if (op < 64)
		do_release(m);
	else if (op < 67)
		do_release_bulk(m);
	else if (op < 70)
		do_wrong_release(m);
	else
		do_fill(m);
}

struct world {
	unsigned nr_areas, granule_order;
	uint64_t nr_units;
	berth_pfn_t start_pfn;
};

static void run(uint64_t seed, const struct world *world, uint64_t nr_ops)
{
	struct model *m = test_zalloc(1, sizeof(*m));

	m->random = seed;
	m->nr_areas = world->nr_areas;
	for (unsigned i = 0; i < world->nr_areas; i++) {
		uint64_t pages = (world->nr_units + 7 * i) << world->granule_order;

		m->areas[i].t = gcma_open(.start_pfn = world->start_pfn + i * (1ull << 20),
					  .nr_pages = pages, .granule_order = world->granule_order);
	}
	for (uint64_t i = 0; i < nr_ops; i++) {
		step(m);
		if (i % 64 == 0)
			verify(m);
	}
	verify(m);
	/* It says something: much fitted, some didn't. */
	if (nr_ops >= 1000) {
		assert_true(m->fitted > nr_ops / 50 && m->refused > nr_ops / 200);
		assert_true(m->bulks > nr_ops / 200 && m->wrong > nr_ops / 200);
		assert_true(m->fills > nr_ops / 50);
	}
	while (m->nr_held)
		do_release(m);
	for (unsigned i = 0; i < world->nr_areas; i++)
		gcma_close(m->areas[i].t);
	free(m);
}

static void test_model(void **state)
{
	static const struct world worlds[] = {
		{ .nr_areas = 1, .granule_order = 4, .nr_units = 64, .start_pfn = 4096 },
		{ .nr_areas = 2, .granule_order = 0, .nr_units = 130, .start_pfn = 1000 },
		{ .nr_areas = 3, .granule_order = 2, .nr_units = 37, .start_pfn = 12 },
		{ .nr_areas = 1, .granule_order = 1, .nr_units = 700, .start_pfn = 6 },
		{ .nr_areas = 1, .granule_order = 9, .nr_units = 20, .start_pfn = 0 },
	};
	uint64_t nr_ops = test_env("GCMA_MODEL_OPS", 40000 / TEST_SLOWDOWN);
	uint64_t first = test_env("BERTH_MODEL_SEED", 1);
	uint64_t nr_seeds = getenv("BERTH_MODEL_SEED") ? 1 : 10;

	(void)state;
	for (uint64_t seed = first; seed < first + nr_seeds; seed++) {
		print_message("# seed %llu\n", (unsigned long long)seed);
		for (unsigned i = 0; i < ARRAY_SIZE(worlds); i++)
			run(seed, &worlds[i], nr_ops);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_model) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
