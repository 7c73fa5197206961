/* SPDX-License-Identifier: MIT */
/*
 * What compaction leaves alone: pinned, unevictable and lent blocks, what others isolated; what its
 * modes allow; when it isn't tried, and where it stops.
 */
#include <pthread.h>

#include "tests/include/testcompact.h"

/* ---- What stays where it is ------------------------------------------------------------------- */

static void pinned_pageblocks_are_passed_over(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 4);
	struct berth_compact_result r;
	berth_pfn_t pinned = 2 * BLOCK;

	(void)state;
	leave(o, 1, 100);
	leave(o, 3, 200);
	leave(o, 2, 10);
	while (frame_state(tz, pinned) != 'u')
		pinned++;
	assert_int_equal(berth_page_pin(tz->zone, pinned), 0);
	assert_int_equal(compact_with(tz, &r, .order = 9, .flags = BERTH_COMPACT_FORCE), 0);
	assert_int_equal(r.tried, 1); /* the counter says it: not even looked at */
	assert_int_equal(r.moved_pages, 100);
	assert_int_equal(berth_page_unpin(tz->zone, pinned), 0);
	owner_close(o);
	zone_close(tz);
}

/* A frame that can't move, in a movable pageblock: found once, then hinted. */
static void what_cannot_move_is_found_once(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 6);
	struct berth_compact_result r;
	berth_pfn_t pfn;

	(void)state;
	free_at(o, 2 * BLOCK + 7);
	assert_int_equal(berth_alloc_pages(tz->zone, 0, 0, BERTH_OWNER_NONE, 0, &pfn), 0);
	assert_int_equal(pfn, 2 * BLOCK + 7);
	for (unsigned i = 0; i < BLOCK; i++)
		if (2 * BLOCK + i != pfn && i % 64)
			free_at(o, 2 * BLOCK + i);
	leave(o, 1, 100);
	leave(o, 3, 200);
	leave(o, 4, 150);
	assert_int_equal(compact_with(tz, &r, .order = 9), 0);
	assert_int_equal(r.tried, 2);
	assert_int_equal(r.moved_pages, 100); /* nothing out of the other */
	assert_int_equal(used_in(tz, 2), 9);
	assert_int_equal(used_in(tz, 3), 300);
	assert_int_equal(owner_exhaust(o, 9, BERTH_GFP_MOVABLE), 1);
	assert_int_equal(compact_with(tz, &r, .order = 9, .flags = BERTH_COMPACT_FORCE), 0);
	assert_int_equal(r.tried, 2); /* with FORCE the hints are forgotten first */
	assert_int_equal(r.moved_pages, 150);
	assert_int_equal(owner_exhaust(o, 9, BERTH_GFP_MOVABLE), 1);
	leave(o, 5, 50);
	assert_int_equal(compact_with(tz, &r, .order = 8), 0);
	assert_int_equal(r.tried, 1); /* without they hold */
	/* A run over the zone looks again. */
	assert_int_equal(compact_all(tz, &r), 0);
	assert_true(r.tried >= 1);
	assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	owner_close(o);
	zone_close(tz);
}

static void unevictable_blocks_stay_if_asked_for(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 3);
	struct berth_compact_result r;

	(void)state;
	leave(o, 1, 100);
	leave(o, 2, 200);
	o->ops.unevictable = true;
	assert_int_equal(compact_with(tz, &r, .order = 9,
				      .flags = BERTH_COMPACT_FORCE | BERTH_COMPACT_EVICTABLE_ONLY),
			 -BERTH_EBUSY);
	assert_int_equal(o->nr_batches, 0);
	assert_int_equal(compact_with(tz, &r, .order = 9, .flags = BERTH_COMPACT_FORCE), 0);
	assert_int_equal(r.moved_pages, 100);
	owner_close(o);
	zone_close(tz);
}

static uint64_t area_lent(struct berth_cma *area)
{
	return area_stats(area).lent_pages;
}

/* Frames are brought together within an area, and within what is outside; none crosses the line. */
static void areas_keep_what_they_have_lent(void **state)
{
	static const enum berth_lend_policy policies[] = { BERTH_LEND_FIRST, BERTH_LEND_LAST,
							   BERTH_LEND_OFF };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct test_zone *tz = zone_open(.nr_pages = 8 * BLOCK);
		struct berth_cma *area = area_declare(tz, "area", 2 * BLOCK, 4 * BLOCK, 0,
						      policies[i]);
		struct test_owner *o = owner_open(tz, "owner");
		struct berth_compact_result r;
		uint64_t seed = 7, lent, outside;

		owner_exhaust(o, 0, BERTH_GFP_MOVABLE);
		for (berth_pfn_t pfn = 0; pfn < zone_end(tz); pfn++)
			if (test_frame(tz, pfn)->owner && test_random_below(&seed, 3))
				free_at(o, pfn);
		lent = area_lent(area);
		outside = zone_stats(tz).used_pages - lent;
		assert_int_equal(lent > 0, policies[i] != BERTH_LEND_OFF);
		assert_int_equal(compact_all(tz, &r), 0);
		assert_int_equal(area_lent(area), lent);
		assert_int_equal(zone_stats(tz).used_pages - lent, outside);
		assert_int_equal(free_pageblocks(tz),
				 (4 * BLOCK - lent) / BLOCK + (4 * BLOCK - outside) / BLOCK);
		owner_close(o);
		zone_close(tz);
	}
}

/* A block for something unmovable, or with NO_CMA, isn't made in an area; for a movable one it is. */
static void areas_serve_only_what_may_be_lent_to(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 6 * BLOCK);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page;
	struct berth_compact_result r;
	static const unsigned not_there[] = { 0, BERTH_GFP_MOVABLE | BERTH_GFP_NO_CMA };

	(void)state;
	area_declare(tz, "area", 2 * BLOCK, 4 * BLOCK, 0, BERTH_LEND_LAST);
	owner_exhaust(o, 0, BERTH_GFP_MOVABLE);
	leave(o, 2, 100);
	leave(o, 3, 200);
	leave(o, 4, 200);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(compact_with(tz, &r, .order = 9, .gfp = not_there[i],
					      .flags = BERTH_COMPACT_FORCE),
				 -BERTH_EBUSY);
		assert_int_equal(r.tried, 0);
	}
	assert_int_equal(o->nr_batches, 0);
	assert_int_equal(owner_try_alloc(o, 9, BERTH_GFP_MOVABLE | BERTH_GFP_COMPACT, &page), 0);
	assert_true(berth_frame_in_area(tz->zone, o->table[page]));
	zone_ok(tz);
	owner_close(o);
	zone_close(tz);
}

/* A compaction in the middle of a claim: the claim's pageblocks aren't touched, nor moved into. */
static struct berth_compact_result beside;

static void *compact_beside(void *arg)
{
	const struct berth_compact_params params = { .mode = BERTH_COMPACT_SYNC,
						     .flags = BERTH_COMPACT_WHOLE_ZONE };
	struct test_owner *o = arg;

	test_set_cpu(TEST_NO_CPU);
	if (berth_compact(o->tz->zone, &params, &beside))
		return NULL;
	return arg;
}

static void compact_meanwhile(struct test_owner *o)
{
	pthread_t thread;
	void *ret = NULL;

	o->on_batch = NULL;
	assert_int_equal(pthread_create(&thread, NULL, compact_beside, o), 0);
	assert_int_equal(pthread_join(thread, &ret), 0);
	assert_non_null(ret);
}

static void isolated_pageblocks_are_not_touched(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 4);

	(void)state;
	leave(o, 0, 30);
	leave(o, 1, 40);
	leave(o, 2, 150);
	leave(o, 3, 250);
	o->on_batch = compact_meanwhile;
	assert_int_equal(contig_claim(tz, 0, 2 * BLOCK, 0, NULL), 0);
	assert_true(beside.moved_pages >= 150); /* 2 into 3 */
	assert_int_equal(berth_free_contig_range(tz->zone, 0, 2 * BLOCK), 0);
	owner_close(o);
	zone_close(tz);
}

/* ---- Modes ------------------------------------------------------------------------------------ */

static void large_blocks_stay_whole_but_with_sync(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4 * BLOCK);
	struct test_owner *o = owner_open(tz, "owner"), *small = owner_open(tz, "small");
	struct berth_compact_result r;
	uint64_t page = owner_alloc(o, 6);

	(void)state;
	/* The block is alone in its pageblock; elsewhere there are only single frames free. */
	for (unsigned i = 0; i < 7; i++)
		owner_alloc(o, 6);
	assert_int_equal(owner_exhaust(small, 0, BERTH_GFP_MOVABLE), 3 * BLOCK);
	owner_free_all(o, o->table[page] + 64, o->table[page] + BLOCK);
	for (berth_pfn_t pfn = 0; pfn < zone_end(tz); pfn += 2)
		if (test_frame(tz, pfn)->owner == small->id)
			free_at(small, pfn);
	assert_int_equal(compact_with(tz, &r, .order = 9, .mode = BERTH_COMPACT_SYNC_LIGHT,
				      .flags = BERTH_COMPACT_FORCE),
			 0);
	assert_int_equal(o->nr_moved_pages, 0); /* a fuller one was emptied instead */
	assert_int_equal(small->nr_moved_pages, BLOCK / 2);
	assert_int_equal(owner_exhaust(small, 9, BERTH_GFP_MOVABLE), 1);
	assert_int_equal(compact_with(tz, &r, .order = 9, .mode = BERTH_COMPACT_SYNC,
				      .flags = BERTH_COMPACT_FORCE),
			 0);
	assert_int_equal(o->nr_moved_pages, 64);
	owner_close(o);
	owner_close(small);
	zone_close(tz);
}

static void large_blocks_move_as_they_are(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 8 * BLOCK);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_compact_result r;
	uint64_t seed = 5;

	(void)state;
	owner_exhaust(o, 3, BERTH_GFP_MOVABLE);
	for (berth_pfn_t pfn = 0; pfn < zone_end(tz); pfn += 8)
		if (test_random_below(&seed, 2))
			owner_free(o, owner_page_at(o, pfn));
	assert_int_equal(compact_with(tz, &r, .mode = BERTH_COMPACT_ASYNC,
				      .flags = BERTH_COMPACT_WHOLE_ZONE),
			 0);
	assert_int_equal(free_pageblocks(tz), zone_stats(tz).free_pages / BLOCK);
	for (berth_pfn_t pfn = 0; pfn < zone_end(tz); pfn += 8) {
		berth_pfn_t head = 0;
		unsigned order = 99;

		if (berth_frame_state(tz->zone, pfn, &head, &order) == 'u')
			assert_int_equal(order, 3);
	}
	owner_close(o);
	zone_close(tz);
}

/* Movable frames that had to go to an unmovable pageblock come out of it, but not with ASYNC. */
static void an_unmovable_pageblock_becomes_movable_again(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 3 * BLOCK);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_compact_result r;
	berth_pfn_t pfn, more;

	(void)state;
	/* More than half of it is unmovable, or movable requests would take it over. */
	assert_int_equal(berth_alloc_pages(tz->zone, 8, 0, BERTH_OWNER_NONE, 0, &pfn), 0);
	assert_int_equal(berth_alloc_pages(tz->zone, 5, 0, BERTH_OWNER_NONE, 0, &more), 0);
	assert_int_equal(more, pfn + 256);
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), 3 * BLOCK - 256 - 32);
	assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	assert_int_equal(berth_free_pages(tz->zone, more), 0);
	assert_int_equal(berth_pageblock_migratetype(tz->zone, pfn), BERTH_UNMOVABLE);
	for (unsigned i = 0; i < 3; i++)
		for (unsigned k = 0; k < BLOCK; k += 3)
			if (frame_state(tz, i * BLOCK + k) == 'u' && i != pfn / BLOCK)
				free_at(o, i * BLOCK + k);
	for (unsigned k = 388; k < BLOCK; k++)
		free_at(o, pfn / BLOCK * BLOCK + k);
	assert_int_equal(compact_with(tz, &r, .mode = BERTH_COMPACT_ASYNC,
				      .flags = BERTH_COMPACT_WHOLE_ZONE),
			 0);
	assert_int_equal(berth_pageblock_migratetype(tz->zone, pfn), BERTH_UNMOVABLE);
	assert_int_equal(compact_with(tz, &r, .mode = BERTH_COMPACT_SYNC_LIGHT,
				      .flags = BERTH_COMPACT_WHOLE_ZONE),
			 0);
	assert_int_equal(r.moved_pages, 388 - 256 - 32);
	assert_int_equal(berth_pageblock_migratetype(tz->zone, pfn), BERTH_MOVABLE);
	assert_int_equal(free_pageblocks(tz), 1);
	owner_close(o);
	zone_close(tz);
}

/* A source's frames that CPUs have cached are given back; all others only if it isn't ASYNC. */
static void cached_frames_are_given_back(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 3 * BLOCK, .nr_cpus = 1, .pcp_high = 16);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_compact_result r;

	(void)state;
	owner_exhaust(o, 0, BERTH_GFP_MOVABLE);
	test_set_cpu(0);
	free_at(o, 5); /* their pageblocks are full: cached */
	free_at(o, 2 * BLOCK + 5);
	test_set_cpu(TEST_NO_CPU);
	assert_int_equal(zone_stats(tz).pcp_pages, 2);
	for (unsigned i = 100; i < BLOCK; i++)
		free_at(o, i);
	leave(o, 1, 200);
	assert_int_equal(compact_with(tz, &r, .mode = BERTH_COMPACT_ASYNC,
				      .flags = BERTH_COMPACT_WHOLE_ZONE),
			 0);
	assert_int_equal(free_pageblocks(tz), 1);
	assert_int_equal(zone_stats(tz).pcp_pages, 1);
	assert_int_equal(tz->port.nr_waits, 0);
	assert_int_equal(compact_all(tz, &r), 0);
	assert_int_equal(zone_stats(tz).pcp_pages, 0);
	owner_close(o);
	zone_close(tz);
}

/* A block that is just being moved by its owner: ASYNC moves nothing in vain, SYNC waits. */
static void thaw(void *arg)
{
	struct test_owner *o = arg;

	if (o->user)
		berth_page_unfreeze(o->tz->zone, *(berth_pfn_t *)o->user);
	o->user = NULL;
}

static void a_block_in_flight(enum berth_compact_mode mode, unsigned expected_used)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 3);
	struct berth_compact_result r;
	berth_pfn_t pfn = 0;

	leave(o, 0, 100);
	leave(o, 1, 500);
	leave(o, 2, 400);
	while (frame_state(tz, pfn) != 'u')
		pfn++;
	assert_true(berth_page_freeze(tz->zone, pfn));
	o->user = &pfn;
	tz->port.on_wait = thaw;
	tz->port.on_wait_ctx = o;
	/* Not verified while it is frozen. */
	assert_int_equal(
		berth_compact(tz->zone,
			      &(struct berth_compact_params){ .order = 9,
							      .mode = mode,
							      .flags = BERTH_COMPACT_FORCE },
			      &r),
		0);
	assert_int_equal(tz->port.nr_waits > 0, mode != BERTH_COMPACT_ASYNC);
	thaw(o);
	zone_ok(tz);
	assert_int_equal(used_in(tz, 0), expected_used);
	owner_close(o);
	zone_close(tz);
}

static void blocks_in_flight_are_waited_for_but_by_async(void **state)
{
	(void)state;
	a_block_in_flight(BERTH_COMPACT_ASYNC, 100 + 388); /* what is in 2 came instead */
	a_block_in_flight(BERTH_COMPACT_SYNC_LIGHT, 0);
	a_block_in_flight(BERTH_COMPACT_SYNC, 0);
}

/* ---- Whether it is tried at all ----------------------------------------------------------------- */

/* 1000 - (1000 + 1000 free / requested) / blocks. */
static void the_fragmentation_index_is_that_of_the_documentation(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 4);

	(void)state;
	assert_int_equal(berth_fragmentation_index(tz->zone, 3), 0);
	assert_int_equal(berth_unusable_index(tz->zone, 3), 1000);
	for (unsigned i = 0; i < 8; i++)
		free_at(o, i * 16);
	assert_int_equal(berth_fragmentation_index(tz->zone, 3), 1000 - (1000 + 8000 / 8) / 8);
	assert_int_equal(berth_fragmentation_index(tz->zone, 0), BERTH_FRAGMENTATION_NONE);
	assert_int_equal(berth_unusable_index(tz->zone, 0), 0);
	assert_int_equal(berth_unusable_index(tz->zone, 1), 1000);
	free_at(o, 1); /* 9 free in 8 blocks, one of them of order 1 */
	assert_int_equal(berth_fragmentation_index(tz->zone, 2), 1000 - (1000 + 9000 / 4) / 8);
	assert_int_equal(berth_fragmentation_index(tz->zone, 1), BERTH_FRAGMENTATION_NONE);
	assert_int_equal(berth_unusable_index(tz->zone, 1), 7000 / 9);
	assert_int_equal(berth_fragmentation_index(tz->zone, 11), -BERTH_EINVAL);
	assert_int_equal(berth_unusable_index(tz->zone, 11), -BERTH_EINVAL);
	owner_close(o);
	zone_close(tz);
}

static void too_little_free_memory_is_not_tried(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 4);
	struct berth_compact_result r;

	(void)state;
	leave(o, 0, 1);
	leave(o, 1, 2); /* 1021 frames free, 1024 needed */
	assert_int_equal(compact_with(tz, &r, .order = 9), -BERTH_ENOMEM);
	assert_int_equal(r.outcome, BERTH_COMPACT_SKIPPED);
	leave(o, 2, BLOCK - 13);
	assert_int_equal(compact_with(tz, &r, .order = 9, .watermark_pages = 11), -BERTH_ENOMEM);
	assert_int_equal(o->nr_batches, 0);
	assert_int_equal(compact_with(tz, &r, .order = 9, .watermark_pages = 10), 0);
	owner_close(o);
	zone_close(tz);
}

/* An index of 500 and less says: it isn't fragmented, there is too little. Small orders aren't asked. */
static void what_is_hardly_fragmented_is_not_tried(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 6);
	struct berth_compact_result r;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		owner_free_all(o, i * BLOCK, i * BLOCK + BLOCK / 2);
	assert_int_equal(berth_fragmentation_index(tz->zone, 9), 1000 - 3000 / 4);
	assert_int_equal(compact_with(tz, &r, .order = 9), -BERTH_ENOMEM);
	assert_int_equal(r.outcome, BERTH_COMPACT_SKIPPED);
	assert_int_equal(o->nr_batches, 0);
	assert_int_equal(compact_with(tz, &r, .order = 9, .flags = BERTH_COMPACT_FORCE), 0);
	owner_close(o);
	zone_close(tz);
}

/* After the n-th failure in a row 2^n - 1 attempts are deferred, 63 at most; lower orders aren't. */
static void failures_defer_the_next_attempts(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 8);
	struct berth_compact_result r;
	berth_pfn_t pins[8];

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		leave(o, i, 100 + i);
		for (pins[i] = i * BLOCK; frame_state(tz, pins[i]) != 'u';)
			pins[i]++;
		assert_int_equal(berth_page_pin(tz->zone, pins[i]), 0);
	}
	for (unsigned n = 1; n <= 8; n++) {
		unsigned deferred = (1u << (n < 6 ? n : 6)) - 1;

		assert_int_equal(compact_with(tz, &r, .order = 9, .mode = BERTH_COMPACT_SYNC),
				 -BERTH_EBUSY);
		assert_int_equal(r.outcome, BERTH_COMPACT_COMPLETE);
		for (unsigned i = 0; i < deferred; i++) {
			assert_int_equal(compact_with(tz, &r, .order = 9 + (i & 1)), -BERTH_EAGAIN);
			assert_int_equal(r.outcome, BERTH_COMPACT_DEFERRED);
		}
	}
	/* A smaller order is tried, and its success ends the deferral. */
	assert_int_equal(compact_with(tz, &r, .order = 5, .gfp = BERTH_GFP_MOVABLE), 0);
	assert_true(r.tried > 0);
	assert_int_equal(compact_with(tz, &r, .order = 9), -BERTH_EBUSY);
	/* ASYNC, that one, defers nothing. */
	assert_int_equal(compact_with(tz, &r, .order = 9), -BERTH_EBUSY);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(berth_page_unpin(tz->zone, pins[i]), 0);
	assert_int_equal(zone_stats(tz).compact_successes, 1);
	assert_int_equal(zone_stats(tz).compact_failures, 10);
	owner_close(o);
	zone_close(tz);
}

static void nonsense_is_refused(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 2);

	(void)state;
	leave(o, 0, 10);
	assert_refused(tz, -BERTH_EINVAL, berth_compact(tz->zone, NULL, NULL));
	assert_refused(tz, -BERTH_EINVAL, compact_with(tz, NULL, .order = 11));
	assert_refused(tz, -BERTH_EINVAL, compact_with(tz, NULL, .flags = 8));
	assert_refused(tz, -BERTH_EINVAL,
		       compact_with(tz, NULL, .mode = (enum berth_compact_mode)3));
	owner_close(o);
	zone_close(tz);
}

/* ---- Bounds ----------------------------------------------------------------------------------- */

/* A run that is cut short is gone on with where it was left. */
static void a_run_goes_on_where_it_was_cut_short(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 16);
	struct berth_compact_result r;
	unsigned runs = 0;

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		leave(o, i, 256);
	while (compact_with(tz, &r, .mode = BERTH_COMPACT_SYNC, .max_pages = 256,
			    .flags = BERTH_COMPACT_WHOLE_ZONE) != 0) {
		assert_int_equal(r.outcome, BERTH_COMPACT_PARTIAL);
		assert_int_equal(r.moved_pages, 256);
		assert_true(++runs < 10);
	}
	assert_int_equal(free_pageblocks(tz), 8);
	assert_int_equal(zone_stats(tz).moved_pages, 8 * 256);
	owner_close(o);
	zone_close(tz);
}

static void a_deadline_that_has_passed_ends_it(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 4);
	struct berth_compact_result r;

	(void)state;
	leave(o, 0, 100);
	leave(o, 1, 200);
	tz->port.clock_ns = 1000;
	assert_int_equal(compact_with(tz, &r, .order = 9, .deadline_ns = 500,
				      .flags = BERTH_COMPACT_FORCE),
			 -BERTH_EAGAIN);
	assert_int_equal(compact_with(tz, &r, .deadline_ns = 500,
				      .flags = BERTH_COMPACT_WHOLE_ZONE),
			 -BERTH_EAGAIN);
	assert_int_equal(o->nr_batches, 0);
	owner_close(o);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pinned_pageblocks_are_passed_over),
		cmocka_unit_test(what_cannot_move_is_found_once),
		cmocka_unit_test(unevictable_blocks_stay_if_asked_for),
		cmocka_unit_test(areas_keep_what_they_have_lent),
		cmocka_unit_test(areas_serve_only_what_may_be_lent_to),
		cmocka_unit_test(isolated_pageblocks_are_not_touched),
		cmocka_unit_test(large_blocks_stay_whole_but_with_sync),
		cmocka_unit_test(large_blocks_move_as_they_are),
		cmocka_unit_test(an_unmovable_pageblock_becomes_movable_again),
		cmocka_unit_test(cached_frames_are_given_back),
		cmocka_unit_test(blocks_in_flight_are_waited_for_but_by_async),
		cmocka_unit_test(the_fragmentation_index_is_that_of_the_documentation),
		cmocka_unit_test(too_little_free_memory_is_not_tried),
		cmocka_unit_test(what_is_hardly_fragmented_is_not_tried),
		cmocka_unit_test(failures_defer_the_next_attempts),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(a_run_goes_on_where_it_was_cut_short),
		cmocka_unit_test(a_deadline_that_has_passed_ends_it),
	};

	return cmocka_run_group_tests_name("compact, limits", tests, NULL, NULL);
}
