/* SPDX-License-Identifier: MIT */
/*
 * Compaction: which pageblocks are emptied and into which, and what it leaves behind when owners
 * refuse. Contents are followed through the owner. Where it stops is in test_compact_limits.c.
 */
#include <pthread.h>

#include "tests/include/testcompact.h"

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
		cmocka_unit_test(an_owner_may_fail_at_any_block),
		cmocka_unit_test(an_owner_may_stop_after_any_block),
		cmocka_unit_test(a_port_without_a_barrier_will_do),
		cmocka_unit_test(random_operations),
	};

	return cmocka_run_group_tests_name("compact", tests, NULL, NULL);
}
