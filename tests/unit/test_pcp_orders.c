/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU lists beyond single frames: which orders they cache, how their limits grow under pressure and
 * shrink without, and drains of a CPU, a range and the zone.
 */
#include <berth/stats.h>

#include "core/frames/internal.h"
#include "tests/include/testowner.h"

#define LARGE 65536u /* frames of a zone whose lists may hold pageblocks */

static const unsigned cached_orders[] = { 1, 2, 3, 9 };

static uint32_t high_of(const struct test_zone *tz, unsigned cpu, unsigned order, unsigned type)
{
	unsigned list = berth__pcp_first(tz->zone->pcp_row[order]) + type;

	return atomic_load(&berth__pcp(tz->zone, cpu)->high[list]);
}

static uint32_t count_of(const struct test_zone *tz, unsigned cpu, unsigned order, unsigned type)
{
	unsigned list = berth__pcp_first(tz->zone->pcp_row[order]) + type;

	return atomic_load(&berth__pcp(tz->zone, cpu)->count[list]);
}

static uint64_t event(struct test_zone *tz, enum berth_event number)
{
	uint64_t events[BERTH_NR_EVENTS];

	berth_zone_events(tz->zone, events);
	return events[number];
}

static berth_pfn_t alloc_plain(struct test_zone *tz, unsigned order)
{
	berth_pfn_t pfn = BERTH_PFN_NONE;

	assert_int_equal(berth_alloc_pages(tz->zone, order, BERTH_GFP_RECLAIMABLE, BERTH_OWNER_NONE,
					   0, &pfn),
			 0);
	return pfn;
}

/* Without a look at all of the zone each time. */
static uint64_t alloc_movable(struct test_owner *o, unsigned nr)
{
	uint64_t page = UINT64_MAX;

	while (nr--)
		assert_int_equal(owner_try_alloc(o, 0, BERTH_GFP_MOVABLE, &page), 0);
	return page;
}

/* Allocates and frees blocks until the CPU's list of the order holds some. */
static void warm_up(struct test_zone *tz, unsigned order)
{
	for (unsigned i = 0; i < 4; i++)
		zone_free(tz, zone_alloc(tz, order));
}

/* ---- Orders ---------------------------------------------------------------------------------------- */

static void a_freed_block_stays_with_its_cpu(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cached_orders); i++) {
		struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2);
		unsigned order = cached_orders[i];
		berth_pfn_t pfn, other;

		test_set_cpu(1);
		warm_up(tz, order);
		pfn = zone_alloc(tz, order);
		other = zone_alloc(tz, order);
		zone_free(tz, other);
		zone_free(tz, pfn);
		assert_int_equal(count_state(tz, pfn, pfn + (1u << order), 'p'), 1u << order);
		assert_int_equal(zone_alloc(tz, order), pfn);
		zone_close(tz);
	}
}

/* What the list serves itself doesn't reach the buddy lists. */
static void pairs_exchange_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cached_orders); i++) {
		struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2);
		struct test_owner *o = owner_open(tz, "owner");
		uint64_t allocated, freed;

		test_set_cpu(0);
		for (unsigned n = 0; n < 4; n++)
			owner_free(o, owner_alloc(o, cached_orders[i]));
		allocated = event(tz, BERTH_EVENT_PGALLOC);
		freed = event(tz, BERTH_EVENT_PGFREE);
		for (unsigned n = 0; n < 100; n++)
			owner_free(o, owner_alloc(o, cached_orders[i]));
		assert_int_equal(event(tz, BERTH_EVENT_PGALLOC), allocated);
		assert_int_equal(event(tz, BERTH_EVENT_PGFREE), freed);
		owner_close(o);
		zone_close(tz);
	}
}

static void other_orders_pass_the_lists_by(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 1);

	(void)state;
	test_set_cpu(0);
	for (unsigned order = 4; order <= 10; order++) {
		if (order == 9)
			continue;
		for (unsigned i = 0; i < 10; i++)
			zone_free(tz, zone_alloc(tz, order));
		assert_int_equal(zone_stats(tz).pcp_pages, 0);
	}
	zone_close(tz);
}

/* An eighth of the zone for all CPUs: less than a pageblock for each. */
static void small_zones_cache_no_pageblocks(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4096, .nr_cpus = 2);

	(void)state;
	test_set_cpu(0);
	for (unsigned i = 0; i < 10; i++)
		zone_free(tz, zone_alloc(tz, 9));
	assert_int_equal(zone_stats(tz).pcp_pages, 0);
	zone_close(tz);
}

/* Where a pageblock is smaller than the largest row's blocks, these would be in several. */
static void no_list_holds_more_than_a_pageblock(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4096, .nr_cpus = 1, .pageblock_order = 2);

	(void)state;
	assert_int_equal(tz->zone->pcp_row[0], 0);
	assert_int_equal(tz->zone->pcp_row[1], 1);
	assert_int_equal(tz->zone->pcp_row[2], BERTH_PCP_ROW_PAGEBLOCK);
	assert_int_equal(tz->zone->pcp_row[3], BERTH_PCP_NO_ROW);
	zone_close(tz);
}

static void types_have_lists_of_their_own(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 1);
	berth_pfn_t unmovable, reclaimable;

	(void)state;
	test_set_cpu(0);
	warm_up(tz, 2);
	unmovable = zone_alloc(tz, 2);
	reclaimable = alloc_plain(tz, 2);
	zone_free(tz, reclaimable);
	zone_free(tz, unmovable);
	assert_int_equal(alloc_plain(tz, 2), reclaimable);
	assert_int_equal(zone_alloc(tz, 2), unmovable);
	zone_close(tz);
}

/* Freeing by range finds the lists too, if the range is one block. */
static void ranges_that_are_a_block_are_cached(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 1);
	berth_pfn_t whole, part;

	(void)state;
	test_set_cpu(0);
	warm_up(tz, 3);
	whole = zone_alloc(tz, 3);
	part = zone_alloc(tz, 3);
	assert_int_equal(berth_free_range(tz->zone, whole, 8, BERTH_OWNER_NONE), 0);
	assert_int_equal(frame_state(tz, whole), 'p');
	assert_int_equal(berth_free_range(tz->zone, part, 4, BERTH_OWNER_NONE), 0);
	assert_int_equal(frame_state(tz, part), 'f');
	assert_int_equal(frame_state(tz, part + 4), 'u');
	zone_ok(tz);
	assert_int_equal(berth_free_range(tz->zone, part + 4, 4, BERTH_OWNER_NONE), 0);
	zone_close(tz);
}

static void misuse_of_cached_blocks_is_refused(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 1);
	struct test_owner *o = owner_open(tz, "owner");
	berth_pfn_t pfn, used;

	(void)state;
	test_set_cpu(0);
	warm_up(tz, 3);
	pfn = zone_alloc(tz, 3);
	zone_free(tz, pfn);
	assert_int_equal(frame_state(tz, pfn), 'p');
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, pfn));
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, pfn + 1));
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, pfn, 8, BERTH_OWNER_NONE));
	assert_refused(tz, -BERTH_EINVAL, berth_page_pin(tz->zone, pfn + 3));
	assert_refused(tz, -BERTH_EINVAL, berth_split_pages(tz->zone, pfn, 0));
	used = zone_alloc(tz, 3);
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, used + 2));
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, used, 8, o->id));
	zone_free(tz, used);
	owner_close(o);
	zone_close(tz);
}

/* With pins left it is freed by the last one, past the lists. */
static void pinned_blocks_are_not_cached(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 1);
	berth_pfn_t pfn;

	(void)state;
	test_set_cpu(0);
	warm_up(tz, 2);
	pfn = zone_alloc(tz, 2);
	assert_int_equal(berth_page_pin(tz->zone, pfn + 1), 0);
	assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	assert_int_equal(frame_state(tz, pfn), 'u');
	assert_int_equal(berth_page_unpin(tz->zone, pfn + 1), 0);
	assert_int_equal(frame_state(tz, pfn), 'f');
	zone_close(tz);
}

/* Nobody fails as long as some list has what he asks for. */
static void the_last_blocks_are_found_in_lists(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2);
	berth_pfn_t pfn;

	(void)state;
	test_set_cpu(0);
	warm_up(tz, 9);
	pfn = zone_alloc(tz, 9);
	test_set_cpu(TEST_NO_CPU);
	while (berth_alloc_pages(tz->zone, 9, 0, BERTH_OWNER_NONE, 0, &(berth_pfn_t){ 0 }) == 0)
		;
	test_set_cpu(0);
	zone_free(tz, pfn);
	test_set_cpu(1);
	assert_int_equal(zone_alloc(tz, 9), pfn);
	zone_alloc_refused(tz, 9, 0, BERTH_OWNER_NONE, -BERTH_ENOMEM);
	zone_close(tz);
}

/* ---- Limits ------------------------------------------------------------------------------------------ */

static void limits_begin_at_their_minimum(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2);

	(void)state;
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_MOVABLE), 64);
	assert_int_equal(high_of(tz, 0, 3, BERTH_PCP_MOVABLE), 8);
	assert_int_equal(high_of(tz, 0, 9, BERTH_PCP_MOVABLE), 0);
	zone_close(tz);
}

/* A CPU that allocates on and on gets whole pageblocks in the end, so that two of them meet neither in
 * pageblocks nor often at the zone's lock. */
static void allocations_make_a_list_grow(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page, refilled;
	unsigned ahead;

	(void)state;
	test_set_cpu(0);
	alloc_movable(o, 8192);
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_MOVABLE), 640);
	assert_int_equal(high_of(tz, 1, 0, BERTH_PCP_MOVABLE), 64);
	/* With several of them at a time: the first, and as many as their own list takes. */
	while (count_of(tz, 0, 0, BERTH_PCP_MOVABLE) || count_of(tz, 0, 9, BERTH_PCP_MOVABLE))
		alloc_movable(o, 1);
	refilled = event(tz, BERTH_EVENT_PCP_REFILL);
	page = alloc_movable(o, 1);
	ahead = count_of(tz, 0, 9, BERTH_PCP_MOVABLE);
	assert_true(ahead > 1);
	assert_int_equal(event(tz, BERTH_EVENT_PCP_REFILL) - refilled, 512 * (1 + ahead));
	assert_int_equal(o->table[page] % 512, 0);
	/* The next ones come from there, without an exchange. */
	for (unsigned left = ahead; left > 0; left--) {
		assert_int_equal(count_of(tz, 0, 9, BERTH_PCP_MOVABLE), left);
		alloc_movable(o, 511);
		assert_int_equal(count_of(tz, 0, 0, BERTH_PCP_MOVABLE), 0);
		zone_ok(tz);
		page = alloc_movable(o, 1);
		assert_int_equal(o->table[page] % 512, 0);
	}
	assert_int_equal(event(tz, BERTH_EVENT_PCP_REFILL) - refilled, 512 * (1 + ahead));
	zone_ok(tz);
	owner_free_all(o, 0, LARGE);
	owner_close(o);
	zone_close(tz);
}

static void frees_make_a_list_grow(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2);
	uint64_t spilt = 0, before;

	(void)state;
	test_set_cpu(TEST_NO_CPU);
	for (berth_pfn_t pfn = 0; pfn < LARGE / 2; pfn++)
		assert_int_equal(berth_alloc_pages(tz->zone, 0, 0, 0, 0, &(berth_pfn_t){ 0 }), 0);
	test_set_cpu(1);
	for (berth_pfn_t pfn = LARGE / 2; pfn < LARGE; pfn++)
		if (frame_state(tz, pfn) == 'u') {
			before = event(tz, BERTH_EVENT_PCP_SPILL);
			assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
			if (event(tz, BERTH_EVENT_PCP_SPILL) > before)
				spilt = event(tz, BERTH_EVENT_PCP_SPILL) - before;
		}
	assert_int_equal(high_of(tz, 1, 0, BERTH_PCP_UNMOVABLE), 640);
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_UNMOVABLE), 64);
	assert_int_equal(spilt, 512); /* the last one, by now */
	zone_close(tz);
}

/* One exchange is no pressure. */
static void a_list_that_is_used_once_stays(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2);

	(void)state;
	test_set_cpu(0);
	for (unsigned i = 0; i < 32; i++)
		zone_alloc(tz, 0);
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_UNMOVABLE), 64);
	zone_close(tz);
}

/* What a list holds, nobody else has: it doesn't grow when little is left, and takes less. */
static void lists_stay_small_when_memory_is_short(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2);

	(void)state;
	test_set_cpu(TEST_NO_CPU);
	while (zone_stats(tz).free_pages > 1000)
		assert_int_equal(berth_alloc_pages(tz->zone, 0, 0, 0, 0, &(berth_pfn_t){ 0 }), 0);
	test_set_cpu(0);
	for (unsigned i = 0; i < 900; i++) {
		zone_alloc(tz, 0);
		assert_true(zone_stats(tz).pcp_pages <= 64);
	}
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_UNMOVABLE), 64);
	while (zone_stats(tz).free_pages)
		zone_alloc(tz, 0);
	assert_true(zone_stats(tz).pcp_pages <= 2);
	zone_close(tz);
}

/* The same by the zone's high mark. */
static void lists_stay_small_near_the_mark(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2);

	(void)state;
	berth_zone_set_watermarks(
		tz->zone, &(struct berth_watermarks){ .mark = { 100, 200, LARGE - 1000, LARGE } });
	test_set_cpu(0);
	for (unsigned i = 0; i < 2000; i++)
		zone_alloc(tz, 0);
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_UNMOVABLE), 64);
	zone_close(tz);
}

/* What the lists of all CPUs hold is limited; who comes late takes from its own CPU's lists that have exchanged
 * nothing since, not from those of others. */
static void lists_share_a_budget(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2);
	struct test_owner *o = owner_open(tz, "owner");

	(void)state;
	assert_int_equal(tz->zone->pcp_budget, LARGE / 8);
	tz->zone->pcp_budget = 192;
	test_set_cpu(0);
	alloc_movable(o, 1000);
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_MOVABLE), 256);
	test_set_cpu(1);
	alloc_movable(o, 1000);
	assert_int_equal(high_of(tz, 1, 0, BERTH_PCP_MOVABLE), 64);
	zone_ok(tz); /* that all of them keep to the budget */
	test_set_cpu(0);
	for (unsigned i = 0; i < 2000; i++)
		assert_int_equal(berth_alloc_pages(tz->zone, 0, 0, 0, 0, &(berth_pfn_t){ 0 }), 0);
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_UNMOVABLE), 256);
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_MOVABLE), 64);
	zone_ok(tz);
	owner_free_all(o, 0, LARGE);
	owner_close(o);
	zone_close(tz);
}

/* An explicit limit is just that, for single frames. */
static void a_limit_that_is_given_is_kept(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2, .pcp_high = 100);

	(void)state;
	test_set_cpu(0);
	for (unsigned i = 0; i < 4000; i++)
		zone_alloc(tz, 0);
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_UNMOVABLE), 100);
	for (unsigned i = 0; i < 4; i++)
		berth_pcp_age(tz->zone);
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_UNMOVABLE), 100);
	zone_close(tz);
}

static void idle_lists_shrink_when_they_are_aged(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2);
	struct test_owner *o = owner_open(tz, "owner");

	(void)state;
	test_set_cpu(0);
	alloc_movable(o, 4096);
	while (count_of(tz, 0, 0, BERTH_PCP_MOVABLE) != 500)
		alloc_movable(o, 1);
	berth_pcp_age(tz->zone); /* it was used since: nothing happens */
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_MOVABLE), 640);
	assert_int_equal(count_of(tz, 0, 0, BERTH_PCP_MOVABLE), 500);
	for (uint32_t high = 320; high >= 80; high /= 2) {
		berth_pcp_age(tz->zone);
		zone_ok(tz);
		assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_MOVABLE), high);
		assert_true(count_of(tz, 0, 0, BERTH_PCP_MOVABLE) <= high);
	}
	berth_pcp_age(tz->zone);
	berth_pcp_age(tz->zone);
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_MOVABLE), 64);
	owner_free_all(o, 0, LARGE);
	owner_close(o);
	zone_close(tz);
}

/* A CPU that goes on with other types does so itself, once a second. */
static void owners_age_their_own_lists(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2);
	struct test_owner *o = owner_open(tz, "owner");

	(void)state;
	test_set_cpu(0);
	alloc_movable(o, 4096);
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_MOVABLE), 640);
	for (unsigned second = 0; second < 6; second++) {
		tz->port.clock_ns += 1200000000u;
		for (unsigned i = 0; i < 16 * 64; i++)
			alloc_plain(tz, 3);
		berth_pcp_drain_all(tz->zone);
		for (berth_pfn_t pfn = 0; pfn < LARGE; pfn += 8)
			if (frame_state(tz, pfn) == 'u' && !test_frame(tz, pfn)->owner)
				(void)!berth_free_range(tz->zone, pfn, 8, BERTH_OWNER_NONE);
	}
	assert_int_equal(high_of(tz, 0, 0, BERTH_PCP_MOVABLE), 64);
	zone_ok(tz);
	owner_free_all(o, 0, LARGE);
	owner_close(o);
	zone_close(tz);
}

/* A refill that takes pageblocks ahead may age the lists, those that it fills among them. */
static void lists_are_full_before_they_are_aged(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2);
	struct test_owner *o = owner_open(tz, "owner");
	unsigned high;

	(void)state;
	test_set_cpu(0);
	alloc_movable(o, 8192);
	high = high_of(tz, 0, 9, BERTH_PCP_MOVABLE);
	assert_true(high > 2);
	berth_pcp_age(tz->zone); /* from now on none has exchanged anything */
	berth_pcp_drain_all(tz->zone);
	tz->port.clock_ns += 1200000000u;
	berth__pcp(tz->zone, 0)->exchanges = 0; /* the next one looks at the clock */
	alloc_movable(o, 1);
	assert_true(high_of(tz, 0, 9, BERTH_PCP_MOVABLE) < high);
	zone_ok(tz);
	owner_free_all(o, 0, LARGE);
	owner_close(o);
	zone_close(tz);
}

/* ---- Drains ------------------------------------------------------------------------------------------ */

/* Blocks of all cached orders in the lists of two CPUs. */
static void fill_lists(struct test_zone *tz)
{
	for (unsigned cpu = 0; cpu < 2; cpu++) {
		test_set_cpu(cpu);
		zone_free(tz, zone_alloc(tz, 0));
		for (unsigned i = 0; i < ARRAY_SIZE(cached_orders); i++)
			warm_up(tz, cached_orders[i]);
	}
	test_set_cpu(TEST_NO_CPU);
	for (unsigned cpu = 0; cpu < 2; cpu++)
		for (unsigned i = 0; i < ARRAY_SIZE(cached_orders); i++)
			assert_true(count_of(tz, cpu, cached_orders[i], BERTH_PCP_UNMOVABLE) > 0);
}

static void one_cpu_is_drained(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 3);
	uint32_t other;

	(void)state;
	fill_lists(tz);
	other = berth__pcp_pages(tz->zone, berth__pcp(tz->zone, 0));
	assert_int_equal(berth_pcp_drain(tz->zone, 1), 0);
	zone_ok(tz);
	assert_int_equal(berth__pcp_pages(tz->zone, berth__pcp(tz->zone, 1)), 0);
	assert_int_equal(berth__pcp_pages(tz->zone, berth__pcp(tz->zone, 0)), other);
	assert_int_equal(berth_pcp_drain(tz->zone, 2), 0); /* never used */
	assert_int_equal(zone_stats(tz).pcp_pages, other);
	assert_int_equal(berth_pcp_drain(tz->zone, 0), 0);
	assert_int_equal(zone_stats(tz).pcp_pages, 0);
	assert_int_equal(zone_stats(tz).free_pages, LARGE);
	assert_all_merged(tz);
	assert_refused(tz, -BERTH_EINVAL, berth_pcp_drain(tz->zone, 3));
	assert_refused(tz, -BERTH_EINVAL, berth_pcp_drain(tz->zone, UINT32_MAX));
	zone_close(tz);
}

static void the_zone_is_drained(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 3);

	(void)state;
	fill_lists(tz);
	berth_pcp_drain_all(tz->zone);
	zone_ok(tz);
	assert_int_equal(zone_stats(tz).pcp_pages, 0);
	assert_int_equal(zone_stats(tz).free_pages, LARGE);
	assert_all_merged(tz);
	zone_close(tz);
}

/* Whole blocks go, wherever the range cuts them; others stay. */
static void a_range_is_drained(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 3, .start_pfn = 1024);
	berth_pfn_t cached = BERTH_PFN_NONE, head;
	unsigned order = 0;
	uint64_t before;

	(void)state;
	fill_lists(tz);
	for (berth_pfn_t pfn = 1024; pfn < zone_end(tz) && order != 3; pfn++)
		if (berth_frame_state(tz->zone, pfn, &head, &order) == 'p')
			cached = head;
	assert_int_equal(order, 3);
	before = zone_stats(tz).pcp_pages;
	assert_int_equal(berth_pcp_drain_range(tz->zone, cached + 7, 1), 0);
	zone_ok(tz);
	assert_int_equal(frame_state(tz, cached), 'f');
	assert_int_equal(zone_stats(tz).pcp_pages, before - 8);
	assert_int_equal(berth_pcp_drain_range(tz->zone, cached, 8), 0); /* there's nothing left */
	assert_int_equal(zone_stats(tz).pcp_pages, before - 8);
	assert_refused(tz, -BERTH_EINVAL, berth_pcp_drain_range(tz->zone, 1024, 0));
	assert_refused(tz, -BERTH_EINVAL, berth_pcp_drain_range(tz->zone, 1023, 2));
	assert_refused(tz, -BERTH_EINVAL, berth_pcp_drain_range(tz->zone, 1024, LARGE + 1));
	assert_int_equal(berth_pcp_drain_range(tz->zone, 1024, LARGE), 0);
	assert_int_equal(zone_stats(tz).pcp_pages, 0);
	zone_close(tz);
}

/* Claims find what lists hold, whatever its order. */
static void a_claim_takes_cached_blocks(const struct berth_port_ops *port)
{
	for (unsigned i = 0; i < ARRAY_SIZE(cached_orders); i++) {
		struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 4, .port = port);
		unsigned order = cached_orders[i];
		berth_pfn_t pfn;

		test_set_cpu(3);
		warm_up(tz, order);
		pfn = zone_alloc(tz, order);
		zone_free(tz, pfn);
		assert_int_equal(frame_state(tz, pfn), 'p');
		test_set_cpu(0);
		assert_int_equal(contig_claim(tz, pfn & ~511ull, 512, 0, NULL), 0);
		assert_int_equal(zone_stats(tz).claimed_pages, 512);
		test_set_cpu(3);
		for (unsigned n = 0; n < 100; n++)
			assert_true((zone_alloc(tz, order) & ~511ull) != (pfn & ~511ull));
		assert_int_equal(berth_free_contig_range(tz->zone, pfn & ~511ull, 512), 0);
		zone_close(tz);
	}
}

static void claims_take_cached_blocks(void **state)
{
	(void)state;
	a_claim_takes_cached_blocks(&test_port_ops);
	a_claim_takes_cached_blocks(&test_port_ops_no_barrier);
}

/* Freed where pageblocks are nearly empty, blocks don't come back soon, so that these become whole. */
static void blocks_of_sparse_pageblocks_go_home(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = LARGE, .nr_cpus = 2);
	berth_pfn_t blocks[1024];

	(void)state;
	test_set_cpu(TEST_NO_CPU);
	for (unsigned i = 0; i < ARRAY_SIZE(blocks); i++)
		blocks[i] = zone_alloc(tz, 2);
	test_set_cpu(1);
	for (unsigned i = 0; i < ARRAY_SIZE(blocks); i += 2)
		zone_free(tz, blocks[i]);
	for (unsigned i = 1; i < ARRAY_SIZE(blocks); i += 2)
		zone_free(tz, blocks[i]);
	assert_true(count_free_blocks(tz, 10) >= LARGE / 1024 - 4);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_freed_block_stays_with_its_cpu),
		cmocka_unit_test(pairs_exchange_nothing),
		cmocka_unit_test(other_orders_pass_the_lists_by),
		cmocka_unit_test(small_zones_cache_no_pageblocks),
		cmocka_unit_test(no_list_holds_more_than_a_pageblock),
		cmocka_unit_test(types_have_lists_of_their_own),
		cmocka_unit_test(ranges_that_are_a_block_are_cached),
		cmocka_unit_test(misuse_of_cached_blocks_is_refused),
		cmocka_unit_test(pinned_blocks_are_not_cached),
		cmocka_unit_test(the_last_blocks_are_found_in_lists),
		cmocka_unit_test(limits_begin_at_their_minimum),
		cmocka_unit_test(allocations_make_a_list_grow),
		cmocka_unit_test(frees_make_a_list_grow),
		cmocka_unit_test(a_list_that_is_used_once_stays),
		cmocka_unit_test(lists_stay_small_when_memory_is_short),
		cmocka_unit_test(lists_stay_small_near_the_mark),
		cmocka_unit_test(lists_share_a_budget),
		cmocka_unit_test(a_limit_that_is_given_is_kept),
		cmocka_unit_test(idle_lists_shrink_when_they_are_aged),
		cmocka_unit_test(owners_age_their_own_lists),
		cmocka_unit_test(lists_are_full_before_they_are_aged),
		cmocka_unit_test(one_cpu_is_drained),
		cmocka_unit_test(the_zone_is_drained),
		cmocka_unit_test(a_range_is_drained),
		cmocka_unit_test(claims_take_cached_blocks),
		cmocka_unit_test(blocks_of_sparse_pageblocks_go_home),
	};

	return cmocka_run_group_tests_name("pcp orders", tests, NULL, NULL);
}
