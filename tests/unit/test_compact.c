/* SPDX-License-Identifier: MIT */
/*
 * Compaction: which pageblocks are emptied and into which, what stays where it is, when it isn't
 * tried, and what it leaves behind when owners refuse. Contents are followed through the owner.
 */
#include <pthread.h>

#include "tests/include/testowner.h"

#define BLOCK 512u /* frames of a pageblock */

/* ---- Making memory scattered ------------------------------------------------------------------ */

/* A zone of nr pageblocks, all single frames of the owner; page = pfn. */
static struct test_zone *full_zone(struct test_owner **o, unsigned nr_pageblocks)
{
	struct test_zone *tz = zone_open(.nr_pages = (uint64_t)nr_pageblocks * BLOCK);

	*o = owner_open(tz, "owner");
	assert_int_equal(owner_exhaust(*o, 0, BERTH_GFP_MOVABLE), nr_pageblocks * BLOCK);
	return tz;
}

static void free_at(struct test_owner *o, berth_pfn_t pfn)
{
	owner_unmap(o, owner_page_at(o, pfn), 1);
	assert_int_equal(berth_free_pages(o->tz->zone, pfn), 0);
}

/* Leaves nr single frames in use in the pageblock, evenly spread. */
static void leave(struct test_owner *o, unsigned pageblock, unsigned nr)
{
	for (unsigned i = 0; i < BLOCK; i++)
		if ((uint64_t)i * nr / BLOCK == (uint64_t)(i + 1) * nr / BLOCK)
			free_at(o, (berth_pfn_t)pageblock * BLOCK + i);
	zone_ok(o->tz);
}

static uint64_t used_in(struct test_zone *tz, unsigned pageblock)
{
	return count_state(tz, (berth_pfn_t)pageblock * BLOCK, (pageblock + 1ull) * BLOCK, 'u');
}

static uint64_t free_pageblocks(struct test_zone *tz)
{
	uint64_t n = 0;

	for (berth_pfn_t pfn = tz->params.start_pfn; pfn < zone_end(tz); pfn += BLOCK) {
		berth_pfn_t head = 0;
		unsigned order = 0;

		n += berth_frame_state(tz->zone, pfn, &head, &order) == 'f' && order >= 9;
	}
	return n;
}

/* Verifies the zone after it. */
static int compact(struct test_zone *tz, const struct berth_compact_params *params,
		   struct berth_compact_result *r)
{
	int ret = berth_compact(tz->zone, params, r);

	zone_ok(tz);
	return ret;
}
#define compact_with(tz, r, ...) compact(tz, &(struct berth_compact_params){ __VA_ARGS__ }, r)
#define compact_all(tz, r) \
	compact_with(tz, r, .mode = BERTH_COMPACT_SYNC, .flags = BERTH_COMPACT_WHOLE_ZONE)

/* ---- Which pageblocks ------------------------------------------------------------------------- */

static void the_emptiest_moves_into_the_fullest(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 4);
	struct berth_compact_result r;

	(void)state;
	leave(o, 0, 300);
	leave(o, 1, 400);
	leave(o, 2, 40);
	leave(o, 3, 200);
	assert_int_equal(compact_with(tz, &r, .order = 9, .flags = BERTH_COMPACT_FORCE), 0);
	assert_int_equal(r.outcome, BERTH_COMPACT_SUCCESS);
	assert_int_equal(r.moved_pages, 40);
	assert_int_equal(r.tried, 1);
	assert_int_equal(r.emptied, 1);
	assert_int_equal(used_in(tz, 0), 300);
	assert_int_equal(used_in(tz, 1), 440);
	assert_int_equal(used_in(tz, 2), 0);
	assert_int_equal(used_in(tz, 3), 200);
	assert_int_equal(free_pageblocks(tz), 1);
	owner_close(o);
	zone_close(tz);
}

/* The fewest pages that must move for n free pageblocks: those of the n emptiest. */
static uint64_t least_moves(struct test_zone *tz, unsigned nr_pageblocks, uint64_t n)
{
	uint64_t levels[BLOCK + 1] = { 0 }, moves = 0;

	for (unsigned i = 0; i < nr_pageblocks; i++)
		levels[used_in(tz, i)]++;
	for (unsigned used = 0; used <= BLOCK; used++) {
		uint64_t take = levels[used] < n ? levels[used] : n;

		moves += take * used;
		n -= take;
	}
	return moves;
}

static void half_of_all_pages_at_random(uint64_t seed, unsigned nr_pageblocks)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, nr_pageblocks);
	struct berth_compact_result r;
	uint64_t ideal, least;

	for (berth_pfn_t pfn = 0; pfn < zone_end(tz); pfn++)
		if (test_random_below(&seed, 2))
			free_at(o, pfn);
	ideal = zone_stats(tz).free_pages / BLOCK;
	least = least_moves(tz, nr_pageblocks, ideal);
	assert_int_equal(compact_all(tz, &r), 0);
	assert_int_equal(r.outcome, BERTH_COMPACT_COMPLETE);
	assert_true(free_pageblocks(tz) * 100 >= ideal * 98);
	assert_true(r.moved_pages * 10 <= least * 11);
	assert_int_equal(o->nr_moved_pages, r.moved_pages);
	owner_close(o);
	zone_close(tz);
}

static void a_random_half_becomes_the_ideal_number_of_blocks(void **state)
{
	(void)state;
	half_of_all_pages_at_random(1, 64);
	half_of_all_pages_at_random(2, 64);
	half_of_all_pages_at_random(3, 200);
}

/* Once it has been done there is nothing left to do, and that costs no move. */
static void compacting_twice_moves_nothing_more(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 8);
	struct berth_compact_result r;
	struct test_picture *before;

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		leave(o, i, 100 + i);
	assert_int_equal(compact_all(tz, &r), 0);
	assert_int_equal(free_pageblocks(tz), 6);
	before = picture_take(tz);
	assert_int_equal(compact_all(tz, &r), 0);
	assert_int_equal(r.tried, 0);
	picture_unchanged(tz, before, __FILE__, __LINE__);
	owner_close(o);
	zone_close(tz);
}

/* Nowhere to move to: as good as full pageblocks, or only wholly free ones, which aren't broken. */
static void a_free_pageblock_is_not_broken(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 4);
	struct berth_compact_result r;

	(void)state;
	leave(o, 0, 0);
	leave(o, 1, 300);
	leave(o, 2, 300);
	assert_int_equal(compact_all(tz, &r), 0);
	assert_int_equal(r.moved_pages, 0);
	assert_int_equal(free_pageblocks(tz), 1);
	owner_close(o);
	zone_close(tz);
}

/* ---- For one order ---------------------------------------------------------------------------- */

static void a_block_that_is_free_needs_no_work(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 4);
	struct berth_compact_result r;

	(void)state;
	leave(o, 0, 0);
	leave(o, 1, 10);
	for (unsigned order = 0; order <= 9; order++) {
		assert_int_equal(compact_with(tz, &r, .order = order), 0);
		assert_int_equal(r.outcome, BERTH_COMPACT_SUCCESS);
		assert_int_equal(r.tried, 0);
	}
	owner_close(o);
	zone_close(tz);
}

/* Below a pageblock's order only the cheapest aligned part of the emptiest pageblock is emptied. */
static void a_small_order_empties_a_small_part(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 4);
	struct berth_compact_result r;
	berth_pfn_t pfn;

	(void)state;
	leave(o, 0, 256);
	leave(o, 1, 256);
	leave(o, 2, 128);
	assert_int_equal(compact_with(tz, &r, .order = 4, .gfp = BERTH_GFP_MOVABLE,
				      .flags = BERTH_COMPACT_FORCE),
			 0);
	assert_int_equal(r.moved_pages, 4);
	assert_int_equal(used_in(tz, 2), 124);
	assert_int_equal(berth_alloc_pages(tz->zone, 4, BERTH_GFP_MOVABLE, o->id,
					   o->base + o->next_page, &pfn),
			 0);
	assert_int_equal(pfn / BLOCK, 2);
	assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	owner_close(o);
	zone_close(tz);
}

/* Above it an aligned group: the one whose pageblocks have the fewest frames in use together. */
static void a_large_order_empties_an_aligned_group(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 8);
	struct berth_compact_result r;
	static const unsigned used[] = { 300, 10, 90, 100, 400, 400, 20, 300 };

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		leave(o, i, used[i]);
	assert_int_equal(compact_with(tz, &r, .order = 10, .flags = BERTH_COMPACT_FORCE), 0);
	assert_int_equal(r.moved_pages, 190);
	assert_int_equal(count_free_blocks(tz, 10), 1);
	assert_int_equal(used_in(tz, 2) + used_in(tz, 3), 0);
	owner_close(o);
	zone_close(tz);
}

static void an_allocation_gets_the_block_that_it_made(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 4);
	uint64_t page;

	(void)state;
	leave(o, 0, 400);
	leave(o, 1, 100);
	leave(o, 2, 200);
	leave(o, 3, 300);
	assert_int_equal(owner_try_alloc(o, 9, BERTH_GFP_MOVABLE, &page), -BERTH_ENOMEM);
	assert_int_equal(owner_try_alloc(o, 9, BERTH_GFP_MOVABLE | BERTH_GFP_COMPACT, &page), 0);
	zone_ok(tz);
	assert_int_equal(o->table[page], 1 * BLOCK);
	assert_int_equal(zone_stats(tz).compact_successes, 1);
	assert_int_equal(free_pageblocks(tz), 0);
	owner_free(o, page);
	assert_int_equal(free_pageblocks(tz), 1);
	owner_close(o);
	zone_close(tz);
}

/* While the pageblock is being emptied, somebody else takes all that is free: the block isn't. */
static uint64_t taken_meanwhile;

static void *take_all(void *arg)
{
	struct test_owner *o = arg;
	berth_pfn_t pfn;

	test_set_cpu(TEST_NO_CPU);
	for (unsigned order = 10; order-- > 0;)
		while (berth_alloc_pages(o->tz->zone, order, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE,
					 0, &pfn) == 0)
			taken_meanwhile += 1ull << order;
	return NULL;
}

static void take_all_meanwhile(struct test_owner *o)
{
	pthread_t thread;

	o->on_batch = NULL;
	assert_int_equal(pthread_create(&thread, NULL, take_all, o), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void nobody_else_gets_the_block(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 4);
	uint64_t page;

	(void)state;
	leave(o, 1, 60); /* one batch: when the others come, all destinations are taken */
	leave(o, 2, 200);
	leave(o, 3, 100);
	taken_meanwhile = 0;
	o->on_batch = take_all_meanwhile;
	assert_int_equal(owner_try_alloc(o, 9, BERTH_GFP_MOVABLE | BERTH_GFP_COMPACT, &page), 0);
	zone_ok(tz);
	assert_int_equal(taken_meanwhile, 2 * BLOCK - 300 - 60);
	assert_int_equal(zone_stats(tz).free_pages, 0);
	owner_close(o);
	zone_close(tz);
}

/* What can't move gets a pageblock of its own type, whose rest is for its like. */
static void an_unmovable_block_gets_a_pageblock_to_itself(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = full_zone(&o, 4);
	berth_pfn_t pfn;

	(void)state;
	leave(o, 0, 256);
	leave(o, 1, 256);
	leave(o, 2, 128);
	assert_int_equal(
		berth_alloc_pages(tz->zone, 4, BERTH_GFP_COMPACT, BERTH_OWNER_NONE, 0, &pfn), 0);
	zone_ok(tz);
	assert_int_equal(pfn, 2 * BLOCK);
	assert_int_equal(berth_pageblock_migratetype(tz->zone, pfn), BERTH_UNMOVABLE);
	assert_int_equal(used_in(tz, 2), 16);
	assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	assert_int_equal(berth_pageblock_migratetype(tz->zone, pfn), BERTH_MOVABLE);
	assert_int_equal(free_pageblocks(tz), 1);
	owner_close(o);
	zone_close(tz);
}

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

/* ---- Owners that refuse ----------------------------------------------------------------------- */

/* The owner fails at its n-th block, for each n: nothing is lost, and others are emptied instead. */
static void an_owner_may_fail_at_any_block(void **state)
{
	static const enum test_answer answers[] = { TEST_BUSY, TEST_GONE, TEST_BUSY_ONCE,
						    TEST_GONE_ONCE };

	(void)state;
	for (unsigned n = 0; n < 70; n += n < 4 ? 1 : 11) {
		for (unsigned i = 0; i < ARRAY_SIZE(answers); i++) {
			struct test_owner *o;
			struct test_zone *tz = full_zone(&o, 4);
			struct berth_compact_result r;
			unsigned seen = 0;

			leave(o, 0, 70);
			leave(o, 1, 200);
			leave(o, 2, 201);
			for (berth_pfn_t pfn = 0; pfn < BLOCK; pfn++)
				if (frame_state(tz, pfn) == 'u' && seen++ == n)
					owner_script(o, owner_page_at(o, pfn), 1, answers[i]);
			assert_int_equal(compact_with(tz, &r, .order = 9,
						      .mode = BERTH_COMPACT_SYNC,
						      .flags = BERTH_COMPACT_FORCE),
					 0);
			assert_int_equal(free_pageblocks(tz), 1);
			assert_int_equal(used_in(tz, 0) > 0, answers[i] != TEST_GONE_ONCE);
			owner_close(o);
			zone_close(tz);
		}
	}
}

static void an_owner_may_stop_after_any_block(void **state)
{
	(void)state;
	for (unsigned n = 0; n <= 140; n += n < 3 ? 1 : 17) {
		struct test_owner *o;
		struct test_zone *tz = full_zone(&o, 4);
		struct berth_compact_result r;
		int ret;

		leave(o, 0, 130);
		leave(o, 1, 200);
		o->stops = true;
		o->stop_after = n;
		ret = compact_with(tz, &r, .order = 9, .mode = BERTH_COMPACT_SYNC,
				   .flags = BERTH_COMPACT_FORCE);
		assert_int_equal(ret, n >= 130 ? 0 : -BERTH_EBUSY);
		assert_int_equal(r.moved_pages, n >= 130 ? 130 : n);
		owner_close(o);
		zone_close(tz);
	}
}

/* A port without a barrier for all CPUs serves as well. */
static void a_port_without_a_barrier_will_do(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4 * BLOCK, .port = &test_port_ops_no_barrier);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_compact_result r;

	(void)state;
	test_set_cpu(0);
	owner_exhaust(o, 0, BERTH_GFP_MOVABLE);
	for (unsigned i = 0; i < 4; i++)
		leave(o, i, 128);
	assert_int_equal(compact_all(tz, &r), 0);
	assert_int_equal(free_pageblocks(tz), 3);
	test_set_cpu(TEST_NO_CPU);
	owner_close(o);
	zone_close(tz);
}

/* ---- Random operations -------------------------------------------------------------------------- */

struct model {
	struct test_zone *tz;
	struct test_owner *o;
	uint64_t random;
	berth_pfn_t pins[16]; /* BERTH_PFN_NONE: none */
};

static berth_pfn_t random_used(struct model *m)
{
	for (unsigned i = 0; i < 50; i++) {
		berth_pfn_t pfn = test_random_below(&m->random, zone_end(m->tz));

		if (test_frame(m->tz, pfn)->owner == m->o->id)
			return pfn;
	}
	return BERTH_PFN_NONE;
}

static void model_alloc(struct model *m)
{
	static const unsigned gfps[] = { BERTH_GFP_MOVABLE, BERTH_GFP_MOVABLE | BERTH_GFP_NO_CMA,
					 BERTH_GFP_MOVABLE | BERTH_GFP_COMPACT };
	unsigned order = (unsigned)test_random_below(&m->random, 10);
	uint64_t page;

	if (test_random_below(&m->random, 4))
		order /= 3;
	if (m->o->next_page + (1ull << order) > m->o->nr_pages)
		return;
	for (uint64_t n = 1 + test_random_below(&m->random, order ? 2 : 300); n; n--) {
		if (m->o->next_page + (1ull << order) > m->o->nr_pages ||
		    owner_try_alloc(m->o, order, gfps[test_random_below(&m->random, 3)], &page))
			break;
	}
}

static void model_free(struct model *m)
{
	for (uint64_t n = test_random_below(&m->random, 300); n; n--) {
		berth_pfn_t pfn = random_used(m), head = 0;
		unsigned order = 0;

		if (pfn == BERTH_PFN_NONE || berth_page_pinned(m->tz->zone, pfn))
			continue;
		berth_frame_state(m->tz->zone, pfn, &head, &order);
		owner_unmap(m->o, owner_page_at(m->o, head), 1ull << order);
		assert_int_equal(berth_free_pages(m->tz->zone, head), 0);
	}
}

static void model_pin(struct model *m)
{
	berth_pfn_t *pin = &m->pins[test_random_below(&m->random, ARRAY_SIZE(m->pins))];

	if (*pin != BERTH_PFN_NONE) {
		assert_int_equal(test_frame(m->tz, *pin)->owner, m->o->id); /* it stayed */
		assert_int_equal(berth_page_unpin(m->tz->zone, *pin), 0);
		*pin = BERTH_PFN_NONE;
	} else if ((*pin = random_used(m)) != BERTH_PFN_NONE) {
		assert_int_equal(berth_page_pin(m->tz->zone, *pin), 0);
	}
}

static void model_compact(struct model *m)
{
	struct berth_compact_params params = {
		.order = (unsigned)test_random_below(&m->random, 11),
		.mode = (enum berth_compact_mode)test_random_below(&m->random, 3),
		.flags = (unsigned)test_random_below(&m->random, 8),
		.gfp = test_random_below(&m->random, 2) ? BERTH_GFP_MOVABLE : 0,
		.max_pages = test_random_below(&m->random, 3) ? 0 : 100,
	};
	uint64_t before = free_pageblocks(m->tz), used = zone_stats(m->tz).used_pages;
	struct berth_compact_result r;
	int ret = compact(m->tz, &params, &r);

	assert_true(ret == 0 || ret == -BERTH_EBUSY || ret == -BERTH_EAGAIN ||
		    ret == -BERTH_ENOMEM);
	assert_true(free_pageblocks(m->tz) >= before);
	assert_int_equal(zone_stats(m->tz).used_pages, used);
}

static void model_claim(struct model *m)
{
	berth_pfn_t start = test_random_below(&m->random, zone_end(m->tz) - BLOCK);
	struct berth_claim_params params = { .nr_pages = 1 + test_random_below(&m->random, BLOCK) };

	if (berth_alloc_contig_range(m->tz->zone, start, params.nr_pages, &params, NULL))
		return;
	model_compact(m);
	assert_int_equal(berth_free_contig_range(m->tz->zone, start, params.nr_pages), 0);
}

static void run_model(uint64_t seed, const struct berth_zone_params *params, unsigned nr_ops)
{
	struct model m = { .tz = test_zone_open(params), .random = seed };

	for (unsigned i = 0; i < ARRAY_SIZE(m.pins); i++)
		m.pins[i] = BERTH_PFN_NONE;
	area_declare(m.tz, "area", 2 * BLOCK, 2 * BLOCK, 0, BERTH_LEND_LAST);
	m.o = owner_open_sized(m.tz, "owner", 1u << 20);
	for (unsigned op = 0; op < nr_ops; op++) {
		test_set_cpu((unsigned)test_random_below(&m.random, 2));
		switch (test_random_below(&m.random, 8)) {
		case 0:
		case 1:
		case 2:
			model_alloc(&m);
			break;
		case 3:
		case 4:
			model_free(&m);
			break;
		case 5:
			model_pin(&m);
			break;
		case 6:
			model_compact(&m);
			break;
		default:
			model_claim(&m);
			break;
		}
		zone_ok(m.tz);
		if (op % 16 == 0)
			owner_verify(m.o);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(m.pins); i++)
		if (m.pins[i] != BERTH_PFN_NONE)
			assert_int_equal(berth_page_unpin(m.tz->zone, m.pins[i]), 0);
	test_set_cpu(TEST_NO_CPU);
	owner_close(m.o);
	zone_close(m.tz);
}

static void random_operations(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 6; seed++)
		run_model(seed,
			  &(struct berth_zone_params){ .nr_pages = 8 * BLOCK,
						       .pcp_high = seed % 2 ? 0 : 4 },
			  1200 / TEST_SLOWDOWN);
	run_model(9, &(struct berth_zone_params){ .nr_pages = 4096, .pageblock_order = 6 },
		  600 / TEST_SLOWDOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_emptiest_moves_into_the_fullest),
		cmocka_unit_test(a_random_half_becomes_the_ideal_number_of_blocks),
		cmocka_unit_test(compacting_twice_moves_nothing_more),
		cmocka_unit_test(a_free_pageblock_is_not_broken),
		cmocka_unit_test(a_block_that_is_free_needs_no_work),
		cmocka_unit_test(a_small_order_empties_a_small_part),
		cmocka_unit_test(a_large_order_empties_an_aligned_group),
		cmocka_unit_test(an_allocation_gets_the_block_that_it_made),
		cmocka_unit_test(nobody_else_gets_the_block),
		cmocka_unit_test(an_unmovable_block_gets_a_pageblock_to_itself),
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
		cmocka_unit_test(an_owner_may_fail_at_any_block),
		cmocka_unit_test(an_owner_may_stop_after_any_block),
		cmocka_unit_test(a_port_without_a_barrier_will_do),
		cmocka_unit_test(random_operations),
	};

	return cmocka_run_group_tests_name("compact", tests, NULL, NULL);
}
