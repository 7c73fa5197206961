/* SPDX-License-Identifier: MIT */
/*
 * A GCMA area in a test, over frames that nobody looks at; claims of single granules, so that any set of
 * them can be free; and a search that tries every place.
 */
#ifndef BERTH_TESTGCMA_H
#define BERTH_TESTGCMA_H

#include <berth/gcma.h>

#include "testing.h"

#define TEST_GCMA_UNITS 4096u

struct test_gcma {
	struct berth_gcma *area;
	struct berth_gcma_params params;
	struct test_port port;
	void *metadata;
	bool units[TEST_GCMA_UNITS]; /* granules that gcma_fill() has claimed */
};

static inline void gcma_verify(struct test_gcma *t)
{
	struct berth_violation v = { 0 };

	if (!berth_gcma_check(t->area, &v))
		fail_msg("%s at %llu: %llu, expected %llu", v.what, (unsigned long long)v.where,
			 (unsigned long long)v.value, (unsigned long long)v.expected);
}

/* Zero fields get defaults; the calling thread is CPU 0. */
static inline struct test_gcma *test_gcma_open(const struct berth_gcma_params *params)
{
	struct test_gcma *t = test_zalloc(1, sizeof(*t));
	size_t bytes;

	test_set_cpu(0);
	t->port.tick_ns = 100;
	t->params = *params;
	t->params.name = t->params.name ? t->params.name : "test";
	t->params.nr_cpus = t->params.nr_cpus ? t->params.nr_cpus : 1;
	t->params.port = t->params.port ? t->params.port : &test_port_ops;
	t->params.port_ctx = &t->port;
	bytes = berth_gcma_metadata_size(&t->params);
	assert_int_not_equal(bytes, 0);
	assert_int_equal(posix_memalign(&t->metadata, 64, bytes), 0);
	memset(t->metadata, 0xa5, bytes);
	assert_int_equal(berth_gcma_init(&t->area, &t->params, t->metadata, bytes), 0);
	gcma_verify(t);
	return t;
}
#define gcma_open(...) test_gcma_open(&(struct berth_gcma_params){ __VA_ARGS__ })

static inline struct berth_gcma_stats gcma_stats(struct test_gcma *t)
{
	struct berth_gcma_stats stats;

	berth_gcma_stats(t->area, &stats);
	return stats;
}

static inline berth_pfn_t gcma_claim(struct test_gcma *t, uint64_t nr_pages)
{
	struct berth_claim_params params = { .nr_pages = nr_pages };
	berth_pfn_t pfn = BERTH_PFN_NONE;

	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, NULL), 0);
	return pfn;
}

static inline void gcma_release(struct test_gcma *t, berth_pfn_t pfn, uint64_t nr_pages)
{
	assert_int_equal(berth_gcma_release(t->area, pfn, nr_pages), 0);
}

static inline uint64_t gcma_nr_units(const struct test_gcma *t)
{
	return t->params.nr_pages >> t->params.granule_order;
}

static inline berth_pfn_t gcma_unit_pfn(const struct test_gcma *t, uint64_t unit)
{
	return t->params.start_pfn + (unit << t->params.granule_order);
}

/* Releases granules that gcma_fill() has claimed. */
static inline void gcma_open_gap(struct test_gcma *t, uint64_t first, uint64_t nr)
{
	for (uint64_t unit = first; unit < first + nr; unit++) {
		assert_true(t->units[unit]);
		gcma_release(t, gcma_unit_pfn(t, unit), 1ull << t->params.granule_order);
		t->units[unit] = false;
	}
}

/* Claims each granule that is free by itself. */
static inline void gcma_fill(struct test_gcma *t)
{
	struct berth_claim_params params = { .nr_pages = 1ull << t->params.granule_order };
	berth_pfn_t pfn;

	assert_true(gcma_nr_units(t) <= TEST_GCMA_UNITS);
	while (berth_gcma_alloc(t->area, &params, &pfn, NULL) == 0)
		t->units[(pfn - t->params.start_pfn) >> t->params.granule_order] = true;
}

/* Bit u: granule u is claimed. */
static inline void gcma_set_units(struct test_gcma *t, uint64_t claimed)
{
	gcma_fill(t);
	for (uint64_t unit = 0; unit < gcma_nr_units(t); unit++)
		if (!(claimed >> unit & 1))
			gcma_open_gap(t, unit, 1);
}

static inline void gcma_close(struct test_gcma *t)
{
	for (uint64_t unit = 0; unit < TEST_GCMA_UNITS; unit++)
		if (t->units[unit])
			gcma_open_gap(t, unit, 1);
	gcma_verify(t);
	assert_int_equal(gcma_stats(t).claimed_pages, 0);
	assert_int_equal(gcma_stats(t).largest_free_pages, t->params.nr_pages);
	free(t->metadata);
	free(t);
}

/* ---- The oracle -------------------------------------------------------------------------------- */

/* All that a claim's place must be, each said as it is meant. */
static inline bool oracle_fits(const struct test_gcma *t, const struct berth_claim_params *params,
			       const bool *claimed, uint64_t unit)
{
	uint64_t granule = 1ull << t->params.granule_order;
	berth_pfn_t first = gcma_unit_pfn(t, unit), last = first + params->nr_pages - 1;
	uint64_t nr = (params->nr_pages + granule - 1) / granule;

	if (unit + nr > gcma_nr_units(t) || first % (1ull << params->align_order))
		return false;
	if (first < params->min_pfn || (params->max_pfn && last > params->max_pfn))
		return false;
	if (params->boundary_pages &&
	    first / params->boundary_pages != last / params->boundary_pages)
		return false;
	for (uint64_t i = 0; i < nr; i++)
		if (claimed[unit + i])
			return false;
	return true;
}

/* The gap that the free granule is in. */
static inline uint64_t oracle_gap(const struct test_gcma *t, const bool *claimed, uint64_t unit,
				  uint64_t *first)
{
	uint64_t end = unit;

	while (*first = unit, unit && !claimed[unit - 1])
		unit--;
	while (end < gcma_nr_units(t) && !claimed[end])
		end++;
	return end - *first;
}

/* What a claim must answer; *smallest: the size of the smallest gap that it fits into, *lowest: its first place. */
static inline int oracle_answer(const struct test_gcma *t, const struct berth_claim_params *params,
				const bool *claimed, uint64_t *smallest, uint64_t *lowest)
{
	static const bool nothing[TEST_GCMA_UNITS];
	int answer = -BERTH_E2BIG;

	*smallest = UINT64_MAX;
	*lowest = UINT64_MAX;
	for (uint64_t unit = 0; unit < gcma_nr_units(t); unit++) {
		uint64_t first, gap;

		if (answer == -BERTH_E2BIG && oracle_fits(t, params, nothing, unit))
			answer = -BERTH_ENOSPC;
		if (!oracle_fits(t, params, claimed, unit))
			continue;
		gap = oracle_gap(t, claimed, unit, &first);
		if (gap < *smallest)
			*smallest = gap;
		if (*lowest == UINT64_MAX)
			*lowest = unit;
		answer = 0;
	}
	return answer;
}

/*
 * Claims, compares with the oracle, and releases; true: it fitted. First fit is compared by its place, best fit
 * by the size of its gap.
 */
static inline bool gcma_try(struct test_gcma *t, const struct berth_claim_params *params,
			    const bool *claimed)
{
	uint64_t smallest, lowest, first, unit;
	int expected = oracle_answer(t, params, claimed, &smallest, &lowest);
	struct berth_claim_report report;
	berth_pfn_t pfn = BERTH_PFN_NONE;
	int error = berth_gcma_alloc(t->area, params, &pfn, &report);

	assert_int_equal(error, expected);
	if (error)
		return false;
	unit = (pfn - t->params.start_pfn) >> t->params.granule_order;
	assert_int_equal(gcma_unit_pfn(t, unit), pfn);
	assert_true(oracle_fits(t, params, claimed, unit));
	if (params->flags & BERTH_CLAIM_FIRST_FIT)
		assert_int_equal(unit, lowest);
	else
		assert_int_equal(oracle_gap(t, claimed, unit, &first), smallest);
	gcma_release(t, pfn, params->nr_pages);
	return true;
}

#endif
