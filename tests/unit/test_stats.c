/* SPDX-License-Identifier: MIT */
/*
 * Counters and histograms: what is counted when, and how far a percentile may be off.
 */
#include <berth/stats.h>
#include <berth/views.h>

#include "tests/include/testnodes.h"
#include "tests/include/testowner.h"

static struct events {
	uint64_t of[BERTH_NR_EVENTS];
} before;

static void remember(struct test_zone *tz)
{
	berth_zone_events(tz->zone, before.of);
}

/* How much the event has grown since then; and forgets that. */
static uint64_t grown(struct test_zone *tz, enum berth_event event)
{
	struct events now;
	uint64_t by;

	berth_zone_events(tz->zone, now.of);
	by = now.of[event] - before.of[event];
	before.of[event] = now.of[event];
	return by;
}

static void assert_nothing_else(struct test_zone *tz)
{
	for (unsigned event = 0; event < BERTH_NR_EVENTS; event++)
		if (grown(tz, (enum berth_event)event))
			fail_msg("%s has grown", berth_event_name((enum berth_event)event));
}

/* ---- Events ---------------------------------------------------------------------------------------- */

static void frames_are_counted_at_the_buddy_lists(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 8192, .nr_cpus = 2, .pcp_high = 64);
	berth_pfn_t pfns[200], block;

	(void)state;
	block = zone_alloc(tz, 5); /* an unmovable pageblock: no fallback later */
	test_set_cpu(1);
	remember(tz);
	for (unsigned i = 0; i < 32; i++) /* a batch */
		assert_int_equal(berth_alloc_pages(tz->zone, 0, 0, 0, 0, &pfns[i]), 0);
	assert_int_equal(grown(tz, BERTH_EVENT_PCP_REFILL), 32);
	assert_int_equal(grown(tz, BERTH_EVENT_PGALLOC), 32);
	for (unsigned round = 0; round < 100; round++) { /* the list serves these itself */
		assert_int_equal(berth_free_pages(tz->zone, pfns[0]), 0);
		assert_int_equal(berth_alloc_pages(tz->zone, 0, 0, 0, 0, &pfns[0]), 0);
	}
	assert_nothing_else(tz);
	for (unsigned i = 32; i < 200; i++)
		assert_int_equal(berth_alloc_pages(tz->zone, 0, 0, 0, 0, &pfns[i]), 0);
	assert_int_equal(grown(tz, BERTH_EVENT_PCP_REFILL), grown(tz, BERTH_EVENT_PGALLOC));
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(berth_free_pages(tz->zone, pfns[i]), 0);
	assert_true(grown(tz, BERTH_EVENT_PCP_SPILL) > 0);
	(void)grown(tz, BERTH_EVENT_PGFREE);
	assert_nothing_else(tz);
	zone_free(tz, block);
	berth_pcp_drain_all(tz->zone);
	assert_true(grown(tz, BERTH_EVENT_PCP_DRAIN) > 0);
	berth_zone_events(tz->zone, before.of);
	assert_int_equal(before.of[BERTH_EVENT_PGALLOC], before.of[BERTH_EVENT_PGFREE]);
	zone_close(tz);
}

static void every_way_to_free_counts(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 8192);
	berth_pfn_t pfn, exact;

	(void)state;
	remember(tz);
	pfn = zone_alloc(tz, 4);
	assert_int_equal(grown(tz, BERTH_EVENT_PGALLOC), 16);
	assert_int_equal(berth_free_range(tz->zone, pfn, 5, 0), 0);
	assert_int_equal(grown(tz, BERTH_EVENT_PGFREE), 5);
	assert_int_equal(berth_free_range(tz->zone, pfn + 5, 11, 0), 0);
	assert_int_equal(grown(tz, BERTH_EVENT_PGFREE), 11);
	assert_int_equal(berth_alloc_pages_exact(tz->zone, 21, 0, 0, 0, &exact), 0);
	assert_int_equal(grown(tz, BERTH_EVENT_PGALLOC), 21);
	assert_int_equal(berth_page_pin(tz->zone, exact), 0);
	assert_int_equal(berth_free_range(tz->zone, exact, 21, 0), 0);
	assert_int_equal(grown(tz, BERTH_EVENT_PGFREE), 5); /* the pinned block of 16 stays */
	assert_int_equal(berth_page_unpin(tz->zone, exact), 0);
	assert_int_equal(grown(tz, BERTH_EVENT_PGFREE), 16);
	assert_int_equal(berth_free_pages(tz->zone, exact), -BERTH_EINVAL);
	(void)grown(tz, BERTH_EVENT_FALLBACK);
	assert_nothing_else(tz);
	zone_close(tz);
}

static void claims_moves_and_compaction_count(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 8192, .histograms = true);
	struct berth_cma *area = area_declare(tz, "area", 2048, 2048, 0, BERTH_LEND_FIRST);
	struct test_owner *o = owner_open(tz, "o");
	struct berth_claim_params params = { .nr_pages = 2048 };
	struct berth_compact_params compact = { .order = 9, .mode = BERTH_COMPACT_SYNC };
	struct berth_histogram h;
	uint64_t page;
	berth_pfn_t pfn;

	(void)state;
	page = owner_alloc(o, 3);
	remember(tz);
	pfn = area_claim(tz, area, 2048, 0);
	assert_int_equal(grown(tz, BERTH_EVENT_CMA_SUCCESS), 1);
	assert_int_equal(grown(tz, BERTH_EVENT_MIGRATE_SUCCESS), 8);
	assert_int_equal(berth_cma_alloc(area, &params, &pfn, NULL), -BERTH_ENOSPC);
	assert_int_equal(grown(tz, BERTH_EVENT_CMA_FAIL), 1);
	params.nr_pages = 4096; /* never fits: the caller's mistake */
	assert_int_equal(berth_cma_alloc(area, &params, &pfn, NULL), -BERTH_E2BIG);
	area_release(tz, area, 2048, 2048);
	assert_int_equal(grown(tz, BERTH_EVENT_CMA_RELEASE), 1);
	(void)grown(tz, BERTH_EVENT_FALLBACK);
	assert_nothing_else(tz);
	assert_int_equal(berth_zone_histogram(tz->zone, BERTH_TIMING_CLAIM, &h), 0);
	assert_int_equal(h.count, 1);
	assert_int_equal(berth_zone_histogram(tz->zone, BERTH_TIMING_COMPACT, &h), 0);
	assert_int_equal(h.count, 0);
	owner_free(o, page);

	/* All in use but for every second page: compaction has work. */
	owner_exhaust(o, 0, BERTH_GFP_MOVABLE);
	for (berth_pfn_t at = 0; at < 8192; at += 2)
		owner_free_all(o, at, at + 1);
	remember(tz);
	assert_int_equal(berth_compact(tz->zone, &compact, NULL), 0);
	assert_int_equal(grown(tz, BERTH_EVENT_COMPACT_SUCCESS), 1);
	assert_true(grown(tz, BERTH_EVENT_MIGRATE_SUCCESS) > 0);
	(void)grown(tz, BERTH_EVENT_PCP_DRAIN);
	(void)grown(tz, BERTH_EVENT_PGFREE);
	assert_nothing_else(tz);
	assert_int_equal(berth_zone_histogram(tz->zone, BERTH_TIMING_COMPACT, &h), 0);
	assert_int_equal(h.count, 1);
	owner_free_all(o, 0, 8192);
	owner_close(o);
	zone_close(tz);
}

static void what_nodes_do_is_counted_with_the_first_zone(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *normal;
	berth_pfn_t pfn;

	(void)state;
	add_zone(m, 0, DMA, 0, 1024);
	normal = add_zone(m, 0, NORMAL, 4096, 4096);
	tune_min(m, 512);
	while (berth_node_alloc(m->nodes, 0, 0, BERTH_GFP_NORETRY, 0, 0, &pfn) == 0)
		;
	remember(normal);
	assert_int_equal(berth_node_alloc(m->nodes, 0, 0, BERTH_GFP_NORETRY, 0, 0, &pfn),
			 -BERTH_ENOMEM);
	assert_int_equal(grown(normal, BERTH_EVENT_ALLOC_FAIL), 1);
	assert_int_equal(grown(normal, BERTH_EVENT_ALLOCSTALL), 1);
	m->oom_answers = 0;
	assert_int_equal(berth_node_alloc(m->nodes, 0, 0, 0, 0, 0, &pfn), -BERTH_ENOMEM);
	assert_true(grown(normal, BERTH_EVENT_OOM) > 0);
	machine_close(m);
}

static void vmstat_has_each_event(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *normal;
	char text[4096], line[100];
	berth_pfn_t pfn;
	size_t length;

	(void)state;
	add_zone(m, 0, DMA, 0, 1024);
	normal = add_zone(m, 0, NORMAL, 4096, 4096);
	pfn = zone_alloc(normal, 6);
	length = berth_vmstat(m->nodes, text, sizeof(text));
	assert_int_equal(length, strlen(text));
	assert_int_equal(strncmp(text, "nr_free_pages 5056\nnr_free_cma 0\n", 33), 0);
	assert_non_null(strstr(text, "\npgalloc_dma 0\npgalloc_dma32 0\npgalloc_normal 64\n"
				     "pgalloc_high 0\npgalloc_movable 0\npgfree 0\n"));
	for (unsigned event = 0; event < BERTH_NR_EVENTS; event++) {
		snprintf(line, sizeof(line), "\n%s", berth_event_name((enum berth_event)event));
		if (!strstr(text, line))
			fail_msg("no line for %s", line + 1);
	}
	assert_int_equal(berth_vmstat(m->nodes, NULL, 0), length);
	assert_int_equal(berth_vmstat(m->nodes, text, 10), length);
	assert_string_equal(text, "nr_free_p");
	zone_free(normal, pfn);
	machine_close(m);
}

/* ---- Histograms ------------------------------------------------------------------------------------ */

static void buckets_are_narrow_and_leave_no_gap(void **state)
{
	uint64_t first = 0;

	(void)state;
	for (unsigned i = 0; i < BERTH_HISTOGRAM_BUCKETS; i++) {
		uint64_t end = berth_histogram_bucket_end(i);

		assert_true(end >= first);
		assert_true((end - first) * 16 <= first);
		assert_int_equal(berth_histogram_bucket(first), i);
		assert_int_equal(berth_histogram_bucket(end), i);
		first = end + 1;
	}
	assert_int_equal(first, 1ull << 43);
	assert_int_equal(berth_histogram_bucket(UINT64_MAX), BERTH_HISTOGRAM_BUCKETS - 1);
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void add(struct berth_histogram *h, uint64_t value)
{
	h->count++;
	h->sum += value;
	h->max = value > h->max ? value : h->max;
	h->buckets[berth_histogram_bucket(value)]++;
}

/* Against the exact ones of several distributions: never below, and by less than 1/16 above. */
static void percentiles_are_within_their_bound(void **state)
{
	static const uint32_t ppms[] = { 0,      1,      1000,   10000,  250000, 500000,
					 900000, 990000, 999000, 999990, 1000000 };
	static uint64_t values[5000];
	uint64_t random = 7;

	(void)state;
	for (unsigned shape = 0; shape < 40; shape++) {
		unsigned nr = 1 + (unsigned)test_random_below(&random, ARRAY_SIZE(values));
		struct berth_histogram h = { 0 };

		for (unsigned i = 0; i < nr; i++) { /* uniform, or by octaves up to 2^40 */
			values[i] = test_random(&random) >> (24 + shape % 36);
			if (shape % 2)
				values[i] >>= test_random_below(&random, 40);
			add(&h, values[i]);
		}
		qsort(values, nr, sizeof(values[0]), by_value);
		for (unsigned i = 0; i < ARRAY_SIZE(ppms); i++) {
			uint64_t rank = ((uint64_t)nr * ppms[i] + 999999) / 1000000;
			uint64_t exact = values[rank ? rank - 1 : 0];
			uint64_t got = berth_histogram_percentile(&h, ppms[i]);

			if (got < exact || (got - exact) * 16 > exact ||
			    (exact < 16 && got != exact))
				fail_msg("%u values, %u ppm: %llu instead of %llu", nr, ppms[i],
					 (unsigned long long)got, (unsigned long long)exact);
		}
	}
}

static void percentiles_at_the_ends(void **state)
{
	struct berth_histogram h = { 0 }, sum = { 0 };

	(void)state;
	assert_int_equal(berth_histogram_percentile(&h, 500000), 0);
	add(&h, 1000);
	assert_int_equal(berth_histogram_percentile(&h, 0), 1000);
	assert_int_equal(berth_histogram_percentile(&h, 500000), 1000);
	add(&h, UINT64_MAX); /* beyond the last bucket's end */
	assert_int_equal(berth_histogram_percentile(&h, 500001), UINT64_MAX);
	assert_true(berth_histogram_percentile(&h, 500000) < 1063);
	berth_histogram_merge(&sum, &h);
	berth_histogram_merge(&sum, &h);
	assert_int_equal(sum.count, 4);
	assert_int_equal(sum.max, UINT64_MAX);
	assert_int_equal(sum.buckets[berth_histogram_bucket(1000)], 2);
	/* Counts whose product with the millionths doesn't fit into 64 bits. */
	h = (struct berth_histogram){ .count = 1ull << 60, .max = 3 };
	h.buckets[1] = 1ull << 59;
	h.buckets[3] = 1ull << 59;
	assert_int_equal(berth_histogram_percentile(&h, 500000), 1);
	assert_int_equal(berth_histogram_percentile(&h, 500001), 3);
}

static void histograms_are_kept_on_request(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4096);
	struct berth_zone_params params = { .nr_pages = 4096, .port = &test_port_ops };
	struct berth_histogram h = { .count = 1 };
	size_t without = berth_zone_metadata_size(&params);

	(void)state;
	assert_int_equal(berth_zone_histogram(tz->zone, BERTH_TIMING_CLAIM, &h), -BERTH_ENOENT);
	assert_int_equal(h.count, 0);
	zone_close(tz);
	params.histograms = true;
	assert_true(berth_zone_metadata_size(&params) - without <= 57 * 1024);
	for (unsigned timing = 0; timing < BERTH_NR_TIMINGS; timing++)
		assert_non_null(berth_timing_name((enum berth_timing)timing));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_are_counted_at_the_buddy_lists),
		cmocka_unit_test(every_way_to_free_counts),
		cmocka_unit_test(claims_moves_and_compaction_count),
		cmocka_unit_test(what_nodes_do_is_counted_with_the_first_zone),
		cmocka_unit_test(vmstat_has_each_event),
		cmocka_unit_test(buckets_are_narrow_and_leave_no_gap),
		cmocka_unit_test(percentiles_are_within_their_bound),
		cmocka_unit_test(percentiles_at_the_ends),
		cmocka_unit_test(histograms_are_kept_on_request),
	};

	return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
