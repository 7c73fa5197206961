/* SPDX-License-Identifier: MIT */
/*
 * Migration and references: batches, busy and gone blocks, contents, destinations, undo, pins,
 * freezing, orphans.
 */
#include <pthread.h>

#include "tests/include/testowner.h"

#define ZONE_PAGES 4096u

static int claim(struct test_zone *tz, berth_pfn_t start, uint64_t nr_pages,
		 struct berth_claim_report *r)
{
	struct berth_claim_params params = { .nr_pages = nr_pages };
	int ret;

	tz->no_dst_start = start;
	tz->no_dst_end = start + nr_pages;
	ret = berth_alloc_contig_range(tz->zone, start, nr_pages, &params, r);
	tz->no_dst_start = tz->no_dst_end = 0;
	return ret;
}

/* A zone whose lower half is full of the owner's blocks of this order; the upper half is free. */
static struct test_zone *half_full_zone(struct test_owner **owner, unsigned order)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");

	assert_int_equal(owner_exhaust(o, order, BERTH_GFP_MOVABLE), ZONE_PAGES >> order);
	owner_free_all(o, ZONE_PAGES / 2, ZONE_PAGES);
	*owner = o;
	return tz;
}

/* ---- Batches --------------------------------------------------------------------------------- */

static void blocks_come_in_batches(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = half_full_zone(&o, 0);

	(void)state;
	assert_int_equal(claim(tz, 0, 1024, NULL), 0);
	zone_ok(tz);
	assert_int_equal(o->nr_blocks, 1024);
	assert_true(o->largest_batch >= 16);
	assert_true(o->nr_batches <= 1024 / 16);
	assert_int_equal(zone_stats(tz).moved_pages, 1024);
	assert_int_equal(zone_stats(tz).failed_moves, 0);
	owner_close(o);
	zone_close(tz);
}

/* The operation itself verifies that every block of its batch is its own. */
static void each_owner_gets_its_own_blocks(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o[3] = { owner_open(tz, "a"), owner_open(tz, "b"), owner_open(tz, "c") };
	uint64_t seed = 2;

	(void)state;
	for (unsigned i = 0; i < 1500; i++)
		owner_alloc(o[test_random_below(&seed, 3)], 0);
	for (berth_pfn_t start = 0; start < ZONE_PAGES; start += 1024) {
		assert_int_equal(claim(tz, start, 1024, NULL), 0);
		zone_ok(tz);
		assert_int_equal(berth_free_contig_range(tz->zone, start, 1024), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		assert_true(o[i]->nr_moved_pages > 0);
		owner_close(o[i]);
	}
	zone_close(tz);
}

static void blocks_of_mixed_orders_move(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t seed = 4, page;

	(void)state;
	for (unsigned i = 0; i < 200; i++)
		(void)owner_try_alloc(o, test_random_below(&seed, 6), BERTH_GFP_MOVABLE, &page);
	for (berth_pfn_t start = 0; start < ZONE_PAGES; start += 1024) {
		assert_int_equal(claim(tz, start, 1024, NULL), 0);
		zone_ok(tz);
		owner_verify(o);
		assert_int_equal(berth_free_contig_range(tz->zone, start, 1024), 0);
		zone_ok(tz);
	}
	owner_close(o);
	zone_close(tz);
}

/* Data lives through a hundred moves. */
static void memory_is_moved_back_and_forth(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = half_full_zone(&o, 2);

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		berth_pfn_t start = i % 2 ? ZONE_PAGES / 2 : 0;

		assert_int_equal(claim(tz, start, ZONE_PAGES / 2, NULL), 0);
		assert_int_equal(berth_free_contig_range(tz->zone, start, ZONE_PAGES / 2), 0);
		zone_ok(tz);
	}
	owner_verify(o);
	assert_int_equal(o->nr_moved_pages, 100 * ZONE_PAGES / 2);
	owner_close(o);
	zone_close(tz);
}

static void old_frames_are_poisoned(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = half_full_zone(&o, 3);

	(void)state;
	assert_int_equal(claim(tz, 0, 512, NULL), 0);
	zone_ok(tz);
	assert_int_equal(tz->port.poisoned_pages, 512);
	owner_close(o);
	zone_close(tz);
}

/* ---- Cookies --------------------------------------------------------------------------------- */

/* A block that was split by freeing its middle moves with the right cookies. */
static void parts_of_a_block_keep_their_cookies(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page = owner_alloc(o, 6);
	berth_pfn_t pfn = o->table[page], block = pfn & ~511ull;

	(void)state;
	owner_unmap(o, page + 13, 30);
	assert_int_equal(berth_free_range(tz->zone, pfn + 13, 30, o->id), 0);
	zone_ok(tz);
	assert_int_equal(claim(tz, block, 512, NULL), 0);
	zone_ok(tz);
	assert_int_equal(o->nr_moved_pages, 34);
	owner_verify(o);
	owner_close(o);
	zone_close(tz);
}

/* ---- Destinations ---------------------------------------------------------------------------- */

/* No block of the source's order is free outside: it's moved in pieces, with the right cookies. */
static void large_blocks_are_split_for_scattered_destinations(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = half_full_zone(&o, 9);
	struct test_owner *filler = owner_open(tz, "filler");
	uint64_t pages = ZONE_PAGES / 2;

	(void)state;
	assert_int_equal(owner_exhaust(filler, 0, BERTH_GFP_MOVABLE), pages);
	for (berth_pfn_t pfn = pages; pfn < ZONE_PAGES; pfn += 3)
		owner_free(filler, owner_page_at(filler, pfn));
	assert_int_equal(claim(tz, 0, 512, NULL), 0);
	zone_ok(tz);
	assert_int_equal(o->nr_moved_pages, 512);
	assert_int_equal(zone_stats(tz).claimed_pages, 512);
	owner_verify(o);
	owner_verify(filler);
	assert_int_equal(berth_free_contig_range(tz->zone, 0, 512), 0);
	owner_close(filler);
	owner_close(o);
	zone_close(tz);
}

/* The free memory outside is cached by another CPU: it counts. */
static void cached_frames_serve_as_destinations(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES, .nr_cpus = 2, .pcp_high = 256);
	struct test_owner *o = owner_open(tz, "owner");

	(void)state;
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES);
	test_set_cpu(1);
	owner_free_all(o, 3000, 3200);
	assert_int_equal(zone_stats(tz).pcp_pages, 200);
	test_set_cpu(0);
	assert_int_equal(claim(tz, 512, 200, NULL), 0);
	zone_ok(tz);
	assert_int_equal(zone_stats(tz).claimed_pages, 200);
	owner_close(o);
	zone_close(tz);
}

static void destinations_are_never_in_reserved_areas(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");

	(void)state;
	area_declare(tz, "area", 2048, 2048, 0, BERTH_LEND_OFF);
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), 2048);
	assert_claim_fails(tz, -BERTH_ENOMEM, claim(tz, 0, 512, NULL));
	owner_close(o);
	zone_close(tz);
}

static void destinations_are_in_lending_areas_when_nothing_else_is_left(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");

	(void)state;
	area_declare(tz, "area", 2048, 2048, 0, BERTH_LEND_LAST);
	for (unsigned i = 0; i < 2048; i++)
		owner_alloc(o, 0);
	assert_int_equal(count_state(tz, 2048, 4096, 'f'), 2048);
	assert_int_equal(claim(tz, 0, 512, NULL), 0);
	zone_ok(tz);
	assert_int_equal(count_state(tz, 2048, 4096, 'u'), 512);
	owner_close(o);
	zone_close(tz);
}

/* ---- Busy, gone, not tried ------------------------------------------------------------------- */

static void a_busy_block_ends_the_claim(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = half_full_zone(&o, 2);
	uint64_t page = owner_page_at(o, 300);
	struct berth_claim_report r;

	(void)state;
	o->busy_holder = "io_uring";
	owner_script(o, page, 1, TEST_BUSY);
	assert_claim_fails(tz, -BERTH_EBUSY, claim(tz, 0, 512, &r));
	assert_int_equal(r.error, -BERTH_EBUSY);
	assert_int_equal(r.blocker_pfn, 300);
	assert_int_equal(r.blocker_pages, 4);
	assert_string_equal(r.blocker_owner, "owner");
	assert_string_equal(r.blocker_holder, "io_uring");
	assert_int_equal(r.busy_blocks, 1);
	assert_int_equal(r.moved_pages, o->nr_moved_pages);
	assert_int_equal(zone_stats(tz).moved_pages, o->nr_moved_pages);
	assert_int_equal(zone_stats(tz).failed_moves, 1);
	owner_verify(o);
	owner_script(o, page, 1, TEST_MOVES);
	assert_int_equal(claim(tz, 0, 512, NULL), 0);
	zone_ok(tz);
	owner_close(o);
	zone_close(tz);
}

static void a_busy_block_without_a_name_asks_the_owner(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = half_full_zone(&o, 0);
	struct berth_claim_report r;

	(void)state;
	assert_int_equal(berth_page_pin(tz->zone, 100), 0);
	o->busy_holder = NULL;
	assert_claim_fails(tz, -BERTH_EBUSY, claim(tz, 0, 512, &r));
	assert_int_equal(r.blocker_pfn, 100);
	assert_null(r.blocker_holder);
	assert_int_equal(o->nr_holder_calls, 1);
	o->busy_holder = "aio";
	assert_claim_fails(tz, -BERTH_EBUSY, claim(tz, 0, 512, &r));
	assert_string_equal(r.blocker_holder, "aio");
	/* A known pin is found before anything has moved. */
	assert_int_equal(o->nr_batches, 0);
	assert_int_equal(berth_page_unpin(tz->zone, 100), 0);
	owner_close(o);
	zone_close(tz);
}

static void owners_need_not_name_holders(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = half_full_zone(&o, 0);
	struct berth_claim_report r;

	(void)state;
	o->ops.holder = NULL;
	assert_int_equal(berth_page_pin(tz->zone, 100), 0);
	assert_claim_fails(tz, -BERTH_EBUSY, claim(tz, 0, 512, &r));
	assert_string_equal(r.blocker_owner, "owner");
	assert_null(r.blocker_holder);
	assert_int_equal(berth_page_unpin(tz->zone, 100), 0);
	owner_close(o);
	zone_close(tz);
}

static void an_owner_that_stops_midway_is_busy(void **state)
{
	for (unsigned n = 0; n < 100; n += 9) {
		struct test_owner *o;
		struct test_zone *tz = half_full_zone(&o, 0);
		struct berth_claim_report r;

		(void)state;
		o->stops = true;
		o->stop_after = n;
		assert_claim_fails(tz, -BERTH_EBUSY, claim(tz, 0, 512, &r));
		assert_int_equal(o->nr_moved_pages, n);
		assert_int_equal(r.moved_pages, n);
		assert_int_equal(r.blocker_pfn, n);
		assert_string_equal(r.blocker_owner, "owner");
		owner_verify(o);
		owner_close(o);
		zone_close(tz);
	}
}

/* The blocks before and after the busy one have moved or not, but nothing leaks in between. */
static void failed_claims_undo_completely(void **state)
{
	uint64_t seed = 9;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		struct test_owner *o;
		struct test_zone *tz = half_full_zone(&o, i % 5);
		berth_pfn_t start = test_random_below(&seed, 1000);
		uint64_t nr = 1 + test_random_below(&seed, 1000);
		berth_pfn_t busy = start + test_random_below(&seed, nr);

		owner_script(o, owner_page_at(o, busy), 1, TEST_BUSY);
		assert_claim_fails(tz, -BERTH_EBUSY, claim(tz, start, nr, NULL));
		owner_verify(o);
		owner_script(o, owner_page_at(o, busy), 1, TEST_MOVES);
		owner_keep_only(o, NULL, 0);
		assert_int_equal(zone_stats(tz).free_pages, ZONE_PAGES);
		assert_all_merged(tz);
		owner_close(o);
		zone_close(tz);
	}
}

static void a_block_said_gone_is_looked_at_again(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = half_full_zone(&o, 1);

	(void)state;
	owner_script(o, owner_page_at(o, 20), 1, TEST_GONE_ONCE);
	owner_script(o, owner_page_at(o, 511), 1, TEST_GONE_ONCE);
	assert_int_equal(claim(tz, 0, 512, NULL), 0);
	zone_ok(tz);
	assert_int_equal(o->nr_moved_pages, 512);
	owner_close(o);
	zone_close(tz);
}

static void a_block_gone_for_ever_does_not_hang_the_claim(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = half_full_zone(&o, 1);
	struct berth_claim_report r;

	(void)state;
	owner_script(o, owner_page_at(o, 20), 1, TEST_GONE);
	assert_claim_fails(tz, -BERTH_EBUSY, claim(tz, 0, 512, &r));
	assert_int_equal(r.blocker_pfn, 20);
	owner_verify(o);
	owner_close(o);
	zone_close(tz);
}

/* Another thread frees a block while its owner is asked to move it. */
struct freeing {
	struct test_owner *o;
	berth_pfn_t pfn;
	uint64_t page;
};
static struct freeing freeing;

static void *free_one(void *arg)
{
	const struct freeing *f = arg;

	test_set_cpu(TEST_NO_CPU);
	owner_unmap(f->o, f->page, 1);
	if (berth_free_pages(f->o->tz->zone, f->pfn) != 0)
		return NULL;
	return arg;
}

static void free_meanwhile(struct test_owner *o)
{
	pthread_t thread;
	void *ret = NULL;

	o->on_batch = NULL;
	assert_int_equal(pthread_create(&thread, NULL, free_one, &freeing), 0);
	assert_int_equal(pthread_join(thread, &ret), 0);
	assert_non_null(ret);
}

/* As test_owner_migrate(), for an owner whose table no longer has the block. */
static void migrate_unless_gone(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct test_owner *o = ctx;

	if (o->on_batch)
		o->on_batch(o);
	for (unsigned i = 0; i < nr_moves; i++) {
		if (test_owner_has(o, moves[i].cookie - o->base))
			test_owner_move(o, &moves[i]);
		else
			moves[i].result = BERTH_MOVE_GONE;
	}
}

static void a_block_freed_meanwhile_is_taken(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = half_full_zone(&o, 0);

	(void)state;
	freeing = (struct freeing){ o, 7, owner_page_at(o, 7) };
	o->ops.migrate = migrate_unless_gone;
	o->on_batch = free_meanwhile;
	assert_int_equal(claim(tz, 0, 512, NULL), 0);
	zone_ok(tz);
	assert_int_equal(o->nr_moved_pages, 511);
	assert_int_equal(zone_stats(tz).claimed_pages, 512);
	owner_close(o);
	zone_close(tz);
}

/* The owner tells of each arrival, and another thread frees one of them before the batch ends. */
static void migrate_and_free(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct test_owner *o = ctx;

	for (unsigned i = 0; i < nr_moves; i++) {
		uint64_t page = moves[i].cookie - o->base;

		test_owner_move(o, &moves[i]);
		assert_int_equal(moves[i].result, BERTH_MOVE_MOVED);
		assert_true(moves[i].arrived);
		if (page % 100)
			continue;
		freeing = (struct freeing){ o, o->table[page], page };
		free_meanwhile(o);
	}
}

static void arrived_blocks_can_be_freed_at_once(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = half_full_zone(&o, 0);
	uint64_t left = 0;

	(void)state;
	o->arrives = true;
	o->ops.migrate = migrate_and_free;
	assert_int_equal(claim(tz, 0, 512, NULL), 0);
	zone_ok(tz);
	for (uint64_t page = 0; page < o->next_page; page++)
		left += test_owner_has(o, page);
	assert_true(left < ZONE_PAGES / 2);
	assert_int_equal(zone_stats(tz).used_pages, left);
	owner_close(o);
	zone_close(tz);
}

/* A block outside the range but in its pageblock is freed meanwhile: it isn't lost. */
static void a_neighbour_freed_meanwhile_is_not_lost(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = half_full_zone(&o, 0);

	(void)state;
	freeing = (struct freeing){ o, 400, owner_page_at(o, 400) };
	o->on_batch = free_meanwhile;
	assert_int_equal(claim(tz, 0, 300, NULL), 0);
	zone_ok(tz);
	assert_int_equal(frame_state(tz, 400), 'f');
	assert_int_equal(zone_stats(tz).free_pages, ZONE_PAGES / 2 - 300 + 1);
	owner_close(o);
	zone_close(tz);
}

/* A block larger than a pageblock is freed while only one of its pageblocks is isolated. */
static void *free_large(void *arg)
{
	const struct freeing *f = arg;

	test_set_cpu(TEST_NO_CPU);
	return berth_free_pages(f->o->tz->zone, f->pfn) == 0 ? arg : NULL;
}

static void free_large_meanwhile(struct test_owner *o)
{
	pthread_t thread;
	void *ret = NULL;

	o->on_batch = NULL;
	assert_int_equal(pthread_create(&thread, NULL, free_large, &freeing), 0);
	assert_int_equal(pthread_join(thread, &ret), 0);
	assert_non_null(ret);
}

static void a_large_block_is_freed_beside_a_claim(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES, .pageblock_order = 4);
	struct test_owner *o = owner_open(tz, "owner"), *big = owner_open(tz, "big");
	uint64_t page;

	(void)state;
	/* [1024, 2048) is one block; single frames stand before it, more than fit one batch. */
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES);
	owner_free_all(o, 1024, 2048);
	page = owner_alloc(big, 10);
	assert_int_equal(big->table[page], 1024);
	owner_unmap(big, page, 1024);
	owner_free_all(o, 3000, 3200);
	freeing = (struct freeing){ big, 1024, page };
	o->on_batch = free_large_meanwhile;
	assert_int_equal(claim(tz, 1024 - 128, 136, NULL), 0);
	zone_ok(tz);
	assert_int_equal(berth_free_contig_range(tz->zone, 1024 - 128, 136), 0);
	zone_ok(tz);
	assert_int_equal(zone_stats(tz).free_pages, 1224);
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), 1224);
	owner_close(o);
	owner_close(big);
	zone_close(tz);
}

/* Another thread claims while the first claim's blocks are being moved. */
static int second_claim[3];

static void *claim_beside(void *arg)
{
	struct berth_zone *zone = arg;
	struct berth_claim_params params = { .nr_pages = 8 };

	test_set_cpu(TEST_NO_CPU);
	/* In the first one's range, beside it in its last pageblock, and far from it. */
	second_claim[0] = berth_alloc_contig_range(zone, 100, 8, &params, NULL);
	second_claim[1] = berth_alloc_contig_range(zone, 504, 8, &params, NULL);
	second_claim[2] = berth_alloc_contig_range(zone, 4000, 8, &params, NULL);
	return NULL;
}

static void claim_meanwhile(struct test_owner *o)
{
	pthread_t thread;

	o->on_batch = NULL;
	assert_int_equal(pthread_create(&thread, NULL, claim_beside, o->tz->zone), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void a_claim_keeps_others_out_of_its_range_only(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = half_full_zone(&o, 0);

	(void)state;
	o->on_batch = claim_meanwhile;
	assert_int_equal(claim(tz, 0, 500, NULL), 0);
	zone_ok(tz);
	assert_int_equal(second_claim[0], -BERTH_EBUSY);
	assert_int_equal(second_claim[1], 0);
	assert_int_equal(second_claim[2], 0);
	assert_int_equal(zone_stats(tz).claimed_pages, 516);
	assert_int_equal(berth_free_contig_range(tz->zone, 504, 8), 0);
	assert_int_equal(berth_free_contig_range(tz->zone, 0, 500), 0);
	assert_int_equal(berth_free_contig_range(tz->zone, 4000, 8), 0);
	owner_close(o);
	zone_close(tz);
}

/* ---- References ------------------------------------------------------------------------------ */

static void pins_count(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page = owner_alloc(o, 3);
	berth_pfn_t pfn = o->table[page];

	(void)state;
	assert_false(berth_page_pinned(tz->zone, pfn));
	assert_refused(tz, -BERTH_EINVAL, berth_page_unpin(tz->zone, pfn));
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(berth_page_pin(tz->zone, pfn + i), 0);
		zone_ok(tz);
	}
	assert_int_equal(zone_stats(tz).pinned_blocks, 1);
	for (unsigned i = 0; i < 8; i++) {
		assert_true(berth_page_pinned(tz->zone, pfn + i));
		assert_int_equal(berth_page_unpin(tz->zone, pfn + 7 - i), 0);
		zone_ok(tz);
	}
	assert_false(berth_page_pinned(tz->zone, pfn));
	assert_int_equal(zone_stats(tz).pinned_blocks, 0);
	assert_refused(tz, -BERTH_EINVAL, berth_page_unpin(tz->zone, pfn));
	owner_close(o);
	zone_close(tz);
}

static void pins_of_large_blocks(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES, .pageblock_order = 4);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page = owner_alloc(o, 10);
	berth_pfn_t pfn = o->table[page];

	(void)state;
	assert_int_equal(berth_page_pin(tz->zone, pfn + 1000), 0);
	zone_ok(tz);
	assert_int_equal(zone_stats(tz).pinned_blocks, 1);
	assert_claim_fails(tz, -BERTH_EBUSY, claim(tz, pfn + 100, 10, NULL));
	assert_int_equal(berth_page_unpin(tz->zone, pfn + 1), 0);
	zone_ok(tz);
	assert_int_equal(claim(tz, pfn + 100, 10, NULL), 0);
	zone_ok(tz);
	owner_verify(o);
	owner_close(o);
	zone_close(tz);
}

static void only_allocated_frames_can_be_pinned(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 0x1000, .nr_pages = ZONE_PAGES);

	(void)state;
	assert_refused(tz, -BERTH_EINVAL, berth_page_pin(tz->zone, 0x1000));
	assert_refused(tz, -BERTH_EINVAL, berth_page_pin(tz->zone, 0xfff));
	assert_refused(tz, -BERTH_EINVAL, berth_page_pin(tz->zone, 0x2000));
	assert_refused(tz, -BERTH_EINVAL, berth_page_pin(tz->zone, BERTH_PFN_NONE));
	assert_refused(tz, -BERTH_EINVAL, berth_page_unpin(tz->zone, 0x1000));
	assert_refused(tz, -BERTH_EINVAL, berth_page_unpin(tz->zone, BERTH_PFN_NONE));
	assert_false(berth_page_pinned(tz->zone, 0x1000));
	assert_false(berth_page_pinned(tz->zone, BERTH_PFN_NONE));
	zone_close(tz);
}

static void a_frozen_block_cannot_be_pinned(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	berth_pfn_t pfn = o->table[owner_alloc(o, 2)];

	(void)state;
	assert_true(berth_page_freeze(tz->zone, pfn));
	assert_false(berth_page_freeze(tz->zone, pfn));
	assert_int_equal(berth_page_pin(tz->zone, pfn), -BERTH_EAGAIN);
	assert_int_equal(berth_page_pin(tz->zone, pfn + 3), -BERTH_EAGAIN);
	assert_int_equal(berth_page_unpin(tz->zone, pfn), -BERTH_EINVAL);
	berth_page_unfreeze(tz->zone, pfn);
	zone_ok(tz);
	assert_int_equal(berth_page_pin(tz->zone, pfn), 0);
	assert_int_equal(berth_page_unpin(tz->zone, pfn), 0);
	owner_close(o);
	zone_close(tz);
}

static void a_pinned_block_cannot_be_frozen(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	berth_pfn_t pfn = o->table[owner_alloc(o, 2)];

	(void)state;
	assert_int_equal(berth_page_pin(tz->zone, pfn), 0);
	assert_false(berth_page_freeze(tz->zone, pfn));
	assert_int_equal(berth_page_unpin(tz->zone, pfn), 0);
	assert_true(berth_page_freeze(tz->zone, pfn));
	berth_page_unfreeze(tz->zone, pfn);
	zone_ok(tz);
	owner_close(o);
	zone_close(tz);
}

static void only_heads_of_blocks_can_be_frozen(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 0x1000, .nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	berth_pfn_t pfn = o->table[owner_alloc(o, 2)];

	(void)state;
	assert_false(berth_page_freeze(tz->zone, pfn + 1));
	assert_false(berth_page_freeze(tz->zone, pfn + 4));
	assert_false(berth_page_freeze(tz->zone, 0xfff));
	assert_false(berth_page_freeze(tz->zone, BERTH_PFN_NONE));
	zone_ok(tz);
	owner_close(o);
	zone_close(tz);
}

static void a_pinned_block_is_freed_by_its_last_pin(unsigned order)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page = owner_alloc(o, order), nr = 1ull << order;
	berth_pfn_t pfn = o->table[page];

	assert_int_equal(berth_page_pin(tz->zone, pfn), 0);
	assert_int_equal(berth_page_pin(tz->zone, pfn + nr - 1), 0);
	owner_unmap(o, page, nr);
	assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	zone_ok(tz);
	assert_int_equal(zone_stats(tz).used_pages, nr);
	assert_int_equal(zone_stats(tz).pinned_blocks, 1);
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, pfn));
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, pfn, nr, o->id));
	assert_false(berth_page_freeze(tz->zone, pfn));
	assert_claim_fails(tz, -BERTH_EBUSY, claim(tz, pfn, nr, NULL));
	assert_int_equal(berth_page_unpin(tz->zone, pfn + nr - 1), 0);
	zone_ok(tz);
	assert_int_equal(frame_state(tz, pfn), 'u');
	assert_int_equal(berth_page_unpin(tz->zone, pfn), 0);
	zone_ok(tz);
	assert_int_equal(frame_state(tz, pfn), 'f');
	assert_int_equal(zone_stats(tz).free_pages, ZONE_PAGES);
	assert_refused(tz, -BERTH_EINVAL, berth_page_unpin(tz->zone, pfn));
	owner_close(o);
	zone_close(tz);
}

static void orphans_are_freed_by_their_last_pin(void **state)
{
	(void)state;
	a_pinned_block_is_freed_by_its_last_pin(0);
	a_pinned_block_is_freed_by_its_last_pin(1);
	a_pinned_block_is_freed_by_its_last_pin(5);
	a_pinned_block_is_freed_by_its_last_pin(10);
}

/* A range can't cut a block that is pinned, whether it begins or ends inside. */
static void a_pinned_block_is_not_cut(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page = owner_alloc(o, 4);
	berth_pfn_t pfn = o->table[page];

	(void)state;
	assert_int_equal(berth_page_pin(tz->zone, pfn), 0);
	assert_refused(tz, -BERTH_EBUSY, berth_free_range(tz->zone, pfn, 5, o->id));
	assert_refused(tz, -BERTH_EBUSY, berth_free_range(tz->zone, pfn + 5, 11, o->id));
	assert_refused(tz, -BERTH_EBUSY, berth_free_range(tz->zone, pfn + 5, 5, o->id));
	assert_int_equal(berth_page_unpin(tz->zone, pfn), 0);
	owner_unmap(o, page, 16);
	assert_int_equal(berth_free_range(tz->zone, pfn, 5, o->id), 0);
	assert_int_equal(berth_free_range(tz->zone, pfn + 5, 11, o->id), 0);
	zone_ok(tz);
	owner_close(o);
	zone_close(tz);
}

static void a_range_with_pinned_blocks_inside_is_freed_later(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");

	(void)state;
	assert_int_equal(owner_exhaust(o, 2, BERTH_GFP_MOVABLE), ZONE_PAGES / 4);
	assert_int_equal(berth_page_pin(tz->zone, 512), 0);
	assert_int_equal(berth_page_pin(tz->zone, 601), 0);
	for (berth_pfn_t pfn = 512; pfn < 1024; pfn++)
		owner_unmap(o, owner_page_at(o, pfn), 1);
	assert_int_equal(berth_free_range(tz->zone, 512, 512, o->id), 0);
	zone_ok(tz);
	assert_int_equal(zone_stats(tz).free_pages, 504);
	assert_int_equal(berth_page_unpin(tz->zone, 603), 0);
	assert_int_equal(zone_stats(tz).free_pages, 508);
	assert_int_equal(berth_page_unpin(tz->zone, 512), 0);
	zone_ok(tz);
	assert_int_equal(zone_stats(tz).free_pages, 512);
	owner_close(o);
	zone_close(tz);
}

static void a_moved_block_can_be_pinned_and_freed(void **state)
{
	struct test_owner *o;
	struct test_zone *tz = half_full_zone(&o, 3);
	uint64_t page = owner_page_at(o, 16);

	(void)state;
	assert_int_equal(claim(tz, 0, 512, NULL), 0);
	zone_ok(tz);
	assert_true(o->table[page] >= ZONE_PAGES / 2);
	assert_int_equal(berth_page_pin(tz->zone, o->table[page]), 0);
	assert_int_equal(berth_page_unpin(tz->zone, o->table[page]), 0);
	owner_free(o, page);
	owner_close(o);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_come_in_batches),
		cmocka_unit_test(each_owner_gets_its_own_blocks),
		cmocka_unit_test(blocks_of_mixed_orders_move),
		cmocka_unit_test(memory_is_moved_back_and_forth),
		cmocka_unit_test(old_frames_are_poisoned),
		cmocka_unit_test(parts_of_a_block_keep_their_cookies),
		cmocka_unit_test(large_blocks_are_split_for_scattered_destinations),
		cmocka_unit_test(cached_frames_serve_as_destinations),
		cmocka_unit_test(destinations_are_never_in_reserved_areas),
		cmocka_unit_test(destinations_are_in_lending_areas_when_nothing_else_is_left),
		cmocka_unit_test(a_busy_block_ends_the_claim),
		cmocka_unit_test(a_busy_block_without_a_name_asks_the_owner),
		cmocka_unit_test(owners_need_not_name_holders),
		cmocka_unit_test(an_owner_that_stops_midway_is_busy),
		cmocka_unit_test(failed_claims_undo_completely),
		cmocka_unit_test(a_block_said_gone_is_looked_at_again),
		cmocka_unit_test(a_block_gone_for_ever_does_not_hang_the_claim),
		cmocka_unit_test(a_block_freed_meanwhile_is_taken),
		cmocka_unit_test(arrived_blocks_can_be_freed_at_once),
		cmocka_unit_test(a_neighbour_freed_meanwhile_is_not_lost),
		cmocka_unit_test(a_large_block_is_freed_beside_a_claim),
		cmocka_unit_test(a_claim_keeps_others_out_of_its_range_only),
		cmocka_unit_test(pins_count),
		cmocka_unit_test(pins_of_large_blocks),
		cmocka_unit_test(only_allocated_frames_can_be_pinned),
		cmocka_unit_test(a_frozen_block_cannot_be_pinned),
		cmocka_unit_test(a_pinned_block_cannot_be_frozen),
		cmocka_unit_test(only_heads_of_blocks_can_be_frozen),
		cmocka_unit_test(orphans_are_freed_by_their_last_pin),
		cmocka_unit_test(a_pinned_block_is_not_cut),
		cmocka_unit_test(a_range_with_pinned_blocks_inside_is_freed_later),
		cmocka_unit_test(a_moved_block_can_be_pinned_and_freed),
	};

	return cmocka_run_group_tests_name("migrate", tests, NULL, NULL);
}
