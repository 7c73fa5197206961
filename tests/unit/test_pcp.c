/* SPDX-License-Identifier: MIT */
/*
 * The per-CPU lists: what they cache, how much, for whom, and how they are drained. The test acts
 * as several CPUs in turn.
 */
#include "tests/include/testowner.h"

static berth_pfn_t alloc_one(struct test_zone *tz)
{
	return zone_alloc(tz, 0);
}

static void a_freed_frame_stays_with_its_cpu(void **state)
{
	struct test_zone *tz = zone_open(.nr_cpus = 2);
	berth_pfn_t pfn;

	(void)state;
	test_set_cpu(0);
	pfn = alloc_one(tz);
	zone_free(tz, pfn);
	assert_int_equal(frame_state(tz, pfn), 'p');
	assert_true(zone_stats(tz).pcp_pages > 0);
	assert_int_equal(zone_stats(tz).used_pages, 0);
	zone_close(tz);
}

static void the_last_freed_comes_first(void **state)
{
	struct test_zone *tz = zone_open(.nr_cpus = 1);
	berth_pfn_t a, b;

	(void)state;
	test_set_cpu(0);
	a = alloc_one(tz);
	b = alloc_one(tz);
	zone_free(tz, a);
	zone_free(tz, b);
	assert_int_equal(alloc_one(tz), b);
	assert_int_equal(alloc_one(tz), a);
	zone_close(tz);
}

static void cached_frames_are_not_used_and_not_free(void **state)
{
	struct test_zone *tz = zone_open(.nr_cpus = 1);
	struct berth_zone_stats s;

	(void)state;
	test_set_cpu(0);
	alloc_one(tz);
	s = zone_stats(tz);
	assert_int_equal(s.used_pages, 1);
	assert_int_equal(s.free_pages + s.pcp_pages, s.managed_pages - 1);
	assert_int_equal(count_state(tz, 0, 4096, 'p'), s.pcp_pages);
	assert_int_equal(count_state(tz, 0, 4096, 'f'), s.free_pages);
	zone_close(tz);
}

static void draining_returns_everything(void **state)
{
	struct test_zone *tz = zone_open(.nr_cpus = 3);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_zone_stats s;

	(void)state;
	for (unsigned cpu = 0; cpu < 3; cpu++) {
		test_set_cpu(cpu);
		for (unsigned i = 0; i < 20; i++) {
			zone_free(tz, alloc_one(tz));
			owner_free(o, owner_alloc(o, 0));
			owner_free(o, owner_alloc_gfp(o, 0, BERTH_GFP_RECLAIMABLE));
		}
	}
	assert_true(zone_stats(tz).pcp_pages > 0);
	berth_pcp_drain_all(tz->zone);
	zone_ok(tz);
	s = zone_stats(tz);
	assert_int_equal(s.pcp_pages, 0);
	assert_int_equal(s.free_pages, 4096);
	assert_all_merged(tz);
	owner_close(o);
	zone_close(tz);
}

static void draining_empty_lists_does_nothing(void **state)
{
	struct test_zone *tz = zone_open(.nr_cpus = 2);
	struct test_picture *before = picture_take(tz);

	(void)state;
	berth_pcp_drain_all(tz->zone);
	picture_unchanged(tz, before, __FILE__, __LINE__);
	zone_close(tz);
}

/* A CPU that frees what another allocated keeps at most pcp_high frames of each type. */
static void lists_are_bounded(unsigned pcp_high)
{
	struct test_zone *tz = zone_open(.nr_cpus = 2, .pcp_high = pcp_high);

	test_set_cpu(0);
	assert_int_equal(zone_exhaust(tz), 4096);
	test_set_cpu(1);
	for (berth_pfn_t pfn = 0; pfn < 4096; pfn++) {
		assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
		/* Stolen pageblocks may be of two types. */
		assert_true(zone_stats(tz).pcp_pages <= 2ull * (pcp_high < 2 ? 2 : pcp_high));
	}
	zone_ok(tz);
	berth_pcp_drain_all(tz->zone);
	assert_int_equal(zone_stats(tz).free_pages, 4096);
	assert_all_merged(tz);
	zone_close(tz);
}

static void lists_hold_at_most_pcp_high(void **state)
{
	(void)state;
	lists_are_bounded(1);
	lists_are_bounded(2);
	lists_are_bounded(3);
	lists_are_bounded(7);
	lists_are_bounded(64);
	lists_are_bounded(100);
	lists_are_bounded(512);
}

static void without_a_slot_nothing_is_cached(unsigned cpu)
{
	struct test_zone *tz = zone_open(.nr_cpus = 2);
	berth_pfn_t pfn[8];

	test_set_cpu(cpu);
	for (unsigned i = 0; i < 8; i++)
		pfn[i] = alloc_one(tz);
	assert_int_equal(zone_stats(tz).pcp_pages, 0);
	for (unsigned i = 0; i < 8; i++)
		zone_free(tz, pfn[i]);
	assert_int_equal(zone_stats(tz).pcp_pages, 0);
	assert_int_equal(zone_stats(tz).free_pages, 4096);
	zone_close(tz);
}

static void slots_beyond_nr_cpus_take_the_lock(void **state)
{
	(void)state;
	without_a_slot_nothing_is_cached(2);
	without_a_slot_nothing_is_cached(3);
	without_a_slot_nothing_is_cached(1000000);
}

static void no_slot_takes_the_lock(void **state)
{
	(void)state;
	without_a_slot_nothing_is_cached(TEST_NO_CPU);
}

static void cpus_have_lists_of_their_own(void **state)
{
	struct test_zone *tz = zone_open(.nr_cpus = 2);
	berth_pfn_t a, b;

	(void)state;
	test_set_cpu(0);
	a = alloc_one(tz);
	b = alloc_one(tz);
	zone_free(tz, a);
	test_set_cpu(1);
	zone_free(tz, b);
	assert_int_equal(alloc_one(tz), b);
	test_set_cpu(0);
	assert_int_equal(alloc_one(tz), a);
	zone_close(tz);
}

/* ---- Misuse ---------------------------------------------------------------------------------- */

static void double_free_of_a_cached_frame_is_refused(void **state)
{
	struct test_zone *tz = zone_open(.nr_cpus = 2);
	berth_pfn_t pfn;

	(void)state;
	test_set_cpu(0);
	pfn = alloc_one(tz);
	zone_free(tz, pfn);
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, pfn));
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, pfn, 1, BERTH_OWNER_NONE));
	assert_refused(tz, -BERTH_EINVAL, berth_page_pin(tz->zone, pfn));
	assert_refused(tz, -BERTH_EINVAL, berth_page_unpin(tz->zone, pfn));
	test_set_cpu(1);
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, pfn));
	zone_close(tz);
}

/* ---- Claims and cached frames ---------------------------------------------------------------- */

static void a_claim_takes_cached_frames(const struct berth_port_ops *port)
{
	struct test_zone *tz = zone_open(.nr_cpus = 4, .port = port);
	berth_pfn_t pfn;

	test_set_cpu(3);
	pfn = alloc_one(tz);
	zone_free(tz, pfn);
	assert_int_equal(frame_state(tz, pfn), 'p');
	test_set_cpu(0);
	assert_int_equal(contig_claim(tz, pfn & ~511ull, 512, 0, NULL), 0);
	assert_true(zone_stats(tz).drains >= 1);
	assert_int_equal(zone_stats(tz).claimed_pages, 512);
	test_set_cpu(3);
	for (unsigned i = 0; i < 600; i++)
		assert_true((alloc_one(tz) & ~511ull) != (pfn & ~511ull));
	assert_int_equal(berth_free_contig_range(tz->zone, pfn & ~511ull, 512), 0);
	zone_ok(tz);
	zone_close(tz);
}

static void claims_drain_what_lists_hold_of_the_range(void **state)
{
	(void)state;
	a_claim_takes_cached_frames(&test_port_ops);
	a_claim_takes_cached_frames(&test_port_ops_no_barrier);
}

/* Draining is what pays for the lists' missing fences: no drain without the port's barrier. */
static void draining_passes_a_barrier(void **state)
{
	struct test_zone *tz = zone_open(.nr_cpus = 2);
	uint64_t barriers;

	(void)state;
	test_set_cpu(1);
	zone_free(tz, alloc_one(tz));
	barriers = tz->port.nr_barriers;
	berth_pcp_drain_all(tz->zone);
	assert_true(tz->port.nr_barriers > barriers);
	zone_close(tz);
}

static void claims_of_free_memory_drain_nothing(void **state)
{
	struct test_zone *tz = zone_open(.nr_cpus = 2);
	berth_pfn_t pfn;
	uint64_t cached;

	(void)state;
	test_set_cpu(0);
	pfn = alloc_one(tz);
	zone_free(tz, pfn);
	cached = zone_stats(tz).pcp_pages;
	pfn = (pfn & ~511ull) == 0 ? 1024 : 0;
	assert_int_equal(contig_claim(tz, pfn, 512, 0, NULL), 0);
	assert_int_equal(zone_stats(tz).drains, 0);
	assert_int_equal(zone_stats(tz).pcp_pages, cached);
	assert_int_equal(berth_free_contig_range(tz->zone, pfn, 512), 0);
	zone_close(tz);
}

static void frames_freed_into_a_claimed_pageblock_are_not_lost(void **state)
{
	struct test_zone *tz = zone_open(.nr_cpus = 2);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page;
	berth_pfn_t pfn, claim;

	(void)state;
	test_set_cpu(0);
	page = owner_alloc(o, 0);
	pfn = o->table[page];
	/* The claim takes the other half of the pageblock. */
	claim = (pfn & ~511ull) + (pfn & 256 ? 0 : 256);
	assert_int_equal(contig_claim(tz, claim, 256, 0, NULL), 0);
	owner_free(o, page);
	assert_true(frame_state(tz, pfn) == 'p' || frame_state(tz, pfn) == 'f');
	assert_int_equal(berth_free_contig_range(tz->zone, claim, 256), 0);
	berth_pcp_drain_all(tz->zone);
	zone_ok(tz);
	assert_int_equal(zone_stats(tz).free_pages, 4096);
	assert_all_merged(tz);
	owner_close(o);
	zone_close(tz);
}

/* Without a barrier operation the lists work the same. */
static void port_without_barrier(void **state)
{
	struct test_zone *tz = zone_open(.nr_cpus = 2, .port = &test_port_ops_no_barrier);
	uint64_t seed = 5;
	berth_pfn_t held[64] = { 0 };

	(void)state;
	for (unsigned i = 0; i < 4000; i++) {
		unsigned slot = test_random_below(&seed, 64);

		test_set_cpu(test_random_below(&seed, 3));
		if (held[slot])
			assert_int_equal(berth_free_pages(tz->zone, held[slot] - 1), 0);
		held[slot] = held[slot] ? 0 : alloc_one(tz) + 1;
		if (i % 500 == 0)
			berth_pcp_drain_all(tz->zone);
		zone_ok(tz);
	}
	zone_close(tz);
}

/* All memory can be allocated by one CPU when the others cache nothing. */
static void one_cpu_reaches_every_frame(void **state)
{
	struct test_zone *tz = zone_open(.nr_cpus = 2);

	(void)state;
	test_set_cpu(1);
	assert_int_equal(zone_exhaust(tz), 4096);
	assert_int_equal(zone_stats(tz).used_pages, 4096);
	zone_alloc_refused(tz, 0, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, -BERTH_ENOMEM);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_freed_frame_stays_with_its_cpu),
		cmocka_unit_test(the_last_freed_comes_first),
		cmocka_unit_test(cached_frames_are_not_used_and_not_free),
		cmocka_unit_test(draining_returns_everything),
		cmocka_unit_test(draining_empty_lists_does_nothing),
		cmocka_unit_test(lists_hold_at_most_pcp_high),
		cmocka_unit_test(slots_beyond_nr_cpus_take_the_lock),
		cmocka_unit_test(no_slot_takes_the_lock),
		cmocka_unit_test(cpus_have_lists_of_their_own),
		cmocka_unit_test(double_free_of_a_cached_frame_is_refused),
		cmocka_unit_test(claims_drain_what_lists_hold_of_the_range),
		cmocka_unit_test(draining_passes_a_barrier),
		cmocka_unit_test(claims_of_free_memory_drain_nothing),
		cmocka_unit_test(frames_freed_into_a_claimed_pageblock_are_not_lost),
		cmocka_unit_test(port_without_barrier),
		cmocka_unit_test(one_cpu_reaches_every_frame),
	};

	return cmocka_run_group_tests_name("pcp", tests, NULL, NULL);
}
