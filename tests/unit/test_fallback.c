/* SPDX-License-Identifier: MIT */
/*
 * Taking from other types without spreading over their memory, and the HIGHATOMIC reserve.
 *
 * Zones here have pageblocks of 512 frames. A migratetype is looked at by a frame's pageblock.
 */
#include <berth/nodes.h>

#include "tests/include/testzone.h"

#define PB 512u

static enum berth_migratetype type_at(struct test_zone *tz, berth_pfn_t pfn)
{
	return berth_pageblock_migratetype(tz->zone, pfn);
}

static uint64_t count_pageblocks(struct test_zone *tz, enum berth_migratetype type)
{
	uint64_t n = 0;

	for (berth_pfn_t pfn = tz->params.start_pfn; pfn < zone_end(tz); pfn += PB)
		n += type_at(tz, pfn) == type;
	return n;
}

static int try_alloc(struct test_zone *tz, unsigned order, unsigned gfp, unsigned owner,
		     berth_pfn_t *pfn)
{
	int error = berth_alloc_pages(tz->zone, order, gfp, owner, 0, pfn);

	zone_ok(tz);
	return error;
}

static berth_pfn_t alloc(struct test_zone *tz, unsigned order, unsigned gfp, unsigned owner)
{
	berth_pfn_t pfn = BERTH_PFN_NONE;

	assert_int_equal(try_alloc(tz, order, gfp, owner, &pfn), 0);
	return pfn;
}

static void migrate_nothing(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	(void)ctx;
	for (unsigned i = 0; i < nr_moves; i++)
		moves[i].result = BERTH_MOVE_BUSY;
}

static unsigned owner_of_movable(struct test_zone *tz)
{
	static const struct berth_owner_ops ops = { .name = "movable", .migrate = migrate_nothing };
	unsigned id = 0;

	assert_int_equal(berth_owner_register(tz->zone, &ops, NULL, &id), 0);
	return id;
}

/* Fills the zone with single movable frames and frees those of [from, to) of each pageblock whose
 * number has its bit in `pageblocks` set. */
static unsigned fill_movable(struct test_zone *tz, uint64_t pageblocks, unsigned from, unsigned to)
{
	unsigned owner = owner_of_movable(tz);
	berth_pfn_t pfn;

	while (!berth_alloc_pages(tz->zone, 0, BERTH_GFP_MOVABLE, owner, 0, &pfn))
		;
	for (pfn = tz->params.start_pfn; pfn < zone_end(tz); pfn++)
		if ((pageblocks >> (pfn - tz->params.start_pfn) / PB & 1) && pfn % PB >= from &&
		    pfn % PB < to)
			assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	zone_ok(tz);
	return owner;
}

/* ---- Fallback ------------------------------------------------------------------------------------ */

static void a_free_pageblock_changes_its_type_alone(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 8 * PB);
	berth_pfn_t pfn = alloc(tz, 0, BERTH_GFP_UNMOVABLE, 0);

	(void)state;
	assert_int_equal(type_at(tz, pfn), BERTH_UNMOVABLE);
	assert_int_equal(count_pageblocks(tz, BERTH_MOVABLE), 7);
	for (unsigned i = 1; i < PB; i++) /* the rest of it serves the same type */
		alloc(tz, 0, BERTH_GFP_UNMOVABLE, 0);
	assert_int_equal(count_pageblocks(tz, BERTH_MOVABLE), 7);
	alloc(tz, 0, BERTH_GFP_RECLAIMABLE, 0);
	assert_int_equal(count_pageblocks(tz, BERTH_RECLAIMABLE), 1);
	assert_int_equal(count_pageblocks(tz, BERTH_MOVABLE), 6);
	zone_close(tz);
}

/* An unmovable request meets pageblocks full of movable frames: one is half free. */
static void half_a_free_pageblock_is_taken_over_with_all_that_is_free(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4 * PB);
	berth_pfn_t pfn, half = tz->params.start_pfn + 2 * PB;

	(void)state;
	fill_movable(tz, 1u << 2, 0, PB / 2);
	pfn = alloc(tz, 0, BERTH_GFP_UNMOVABLE, 0);
	assert_int_equal(pfn, half);
	assert_int_equal(type_at(tz, half), BERTH_UNMOVABLE);
	assert_int_equal(count_pageblocks(tz, BERTH_MOVABLE), 3);
	for (unsigned i = 1; i < PB / 2; i++)
		alloc(tz, 0, BERTH_GFP_UNMOVABLE, 0);
	assert_int_equal(zone_free_pages(tz), 0);
	zone_close(tz);
}

static void less_than_half_lends_the_block_only(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4 * PB);
	berth_pfn_t pfn;

	(void)state;
	fill_movable(tz, 1u << 2, 0, PB / 4);
	pfn = alloc(tz, 0, BERTH_GFP_UNMOVABLE, 0);
	assert_int_equal(pfn, tz->params.start_pfn + 2 * PB);
	assert_int_equal(count_pageblocks(tz, BERTH_MOVABLE), 4);
	assert_int_equal(zone_free_pages(tz), PB / 4 - 1);
	zone_close(tz);
}

/* A quarter is free and another quarter is unmovable already: with that it is worth it. */
static void unmovable_neighbours_count_as_compatible(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4 * PB);
	berth_pfn_t half = tz->params.start_pfn + 2 * PB;

	(void)state;
	fill_movable(tz, 1u << 2, 0, PB / 4);
	for (unsigned i = 0; i < PB / 4; i++)
		assert_int_equal(try_alloc(tz, 0, BERTH_GFP_UNMOVABLE, 0, &(berth_pfn_t){ 0 }), 0);
	assert_int_equal(type_at(tz, half), BERTH_MOVABLE);
	for (berth_pfn_t pfn = half + PB / 4; pfn < half + PB / 2; pfn++)
		assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	assert_in_range(alloc(tz, 0, BERTH_GFP_UNMOVABLE, 0), half, half + PB - 1);
	assert_int_equal(type_at(tz, half), BERTH_UNMOVABLE);
	zone_close(tz);
}

/* Between the two immovable types nobody can tell what is compatible: only what is free counts. */
static void immovable_types_take_each_other_by_free_memory_alone(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 2 * PB);
	berth_pfn_t first = tz->params.start_pfn;

	(void)state;
	for (unsigned i = 0; i < 2 * PB; i++)
		alloc(tz, 0, BERTH_GFP_UNMOVABLE, 0);
	assert_int_equal(count_pageblocks(tz, BERTH_UNMOVABLE), 2);
	for (berth_pfn_t pfn = first; pfn < first + PB / 4; pfn++)
		assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	alloc(tz, 0, BERTH_GFP_RECLAIMABLE, 0);
	assert_int_equal(count_pageblocks(tz, BERTH_UNMOVABLE), 2);
	for (berth_pfn_t pfn = first + PB; pfn < first + PB + PB / 2; pfn++)
		assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	assert_int_equal(alloc(tz, 0, BERTH_GFP_RECLAIMABLE, 0), first + PB);
	assert_int_equal(type_at(tz, first), BERTH_UNMOVABLE);
	assert_int_equal(type_at(tz, first + PB), BERTH_RECLAIMABLE);
	zone_close(tz);
}

/* The largest block is taken of all that the other types have, whichever comes first in the table. */
static void the_largest_block_goes_before_the_order_of_types(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 3 * PB);
	berth_pfn_t reclaimable;

	(void)state;
	reclaimable = alloc(tz, 8, BERTH_GFP_RECLAIMABLE, 0);
	assert_int_equal(alloc(tz, 7, BERTH_GFP_RECLAIMABLE, 0), reclaimable + 256);
	/* RECLAIMABLE has 128 free, MOVABLE two pageblocks. */
	assert_int_not_equal(alloc(tz, 0, BERTH_GFP_UNMOVABLE, 0) & ~511ull, reclaimable);
	assert_int_equal(count_pageblocks(tz, BERTH_MOVABLE), 1);
	assert_int_equal(type_at(tz, reclaimable), BERTH_RECLAIMABLE);
	zone_close(tz);
}

/* Small movable requests are guests in a foreign pageblock, and take its smallest block. */
static void movable_requests_take_small_blocks_without_the_pageblock(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = PB);
	unsigned owner = owner_of_movable(tz);
	berth_pfn_t first = tz->params.start_pfn;

	(void)state;
	for (unsigned i = 0; i < PB; i++)
		alloc(tz, 0, BERTH_GFP_UNMOVABLE, 0);
	for (unsigned i = 0; i < 8; i++) /* a block of 8, which is below order 9 / 2 */
		assert_int_equal(berth_free_pages(tz->zone, first + 64 + i), 0);
	assert_int_equal(berth_free_pages(tz->zone, first + 100), 0);
	assert_int_equal(alloc(tz, 0, BERTH_GFP_MOVABLE, owner), first + 100);
	assert_int_equal(alloc(tz, 0, BERTH_GFP_MOVABLE, owner), first + 64);
	assert_int_equal(type_at(tz, first), BERTH_UNMOVABLE);
	zone_close(tz);
}

/* From a block of order 4 on they take the pageblock over, if half of it is free or movable. */
static void movable_requests_take_over_what_is_half_theirs(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 2 * PB);
	unsigned owner = owner_of_movable(tz);
	berth_pfn_t first = tz->params.start_pfn;

	(void)state;
	for (unsigned i = 0; i < 2 * PB; i++)
		alloc(tz, 0, BERTH_GFP_UNMOVABLE, 0);
	for (unsigned i = 0; i < PB / 4; i++)
		assert_int_equal(berth_free_pages(tz->zone, first + i), 0);
	alloc(tz, 0, BERTH_GFP_MOVABLE, owner);
	assert_int_equal(type_at(tz, first), BERTH_UNMOVABLE);
	for (unsigned i = 0; i < PB / 4; i++)
		assert_int_equal(berth_free_pages(tz->zone, first + PB / 4 + i), 0);
	alloc(tz, 0, BERTH_GFP_MOVABLE, owner); /* 1 movable, the others free: just half */
	assert_int_equal(type_at(tz, first), BERTH_MOVABLE);
	assert_int_equal(type_at(tz, first + PB), BERTH_UNMOVABLE);
	zone_close(tz);
}

/* ---- HIGHATOMIC --------------------------------------------------------------------------------- */

struct nodes_of_one {
	struct test_zone *tz;
	struct berth_nodes *nodes;
	void *memory;
};

static struct nodes_of_one open_nodes(uint64_t nr_pages)
{
	const struct berth_nodes_params params = { .nr_nodes = 1 };
	struct nodes_of_one n = { .tz = zone_open(.nr_pages = nr_pages) };
	size_t bytes = berth_nodes_metadata_size(&params);

	assert_int_equal(posix_memalign(&n.memory, 64, bytes), 0);
	assert_int_equal(berth_nodes_init(&n.nodes, &params, n.memory, bytes), 0);
	assert_int_equal(berth_nodes_add_zone(n.nodes, 0, BERTH_ZONE_NORMAL, n.tz->zone), 0);
	return n;
}

static void close_nodes(struct nodes_of_one *n)
{
	zone_close(n->tz);
	free(n->memory);
}

static berth_pfn_t atomic_alloc(struct nodes_of_one *n, unsigned order)
{
	berth_pfn_t pfn = BERTH_PFN_NONE;

	assert_int_equal(berth_node_alloc(n->nodes, 0, order, BERTH_GFP_ATOMIC, 0, 0, &pfn), 0);
	zone_ok(n->tz);
	return pfn;
}

/* Uses all memory up to min, so that the next atomic request is an urgent one. */
static void use_up(struct nodes_of_one *n, unsigned order)
{
	berth_pfn_t pfn;

	while (!berth_node_alloc(n->nodes, 0, order, BERTH_GFP_NO_RECLAIM, 0, 0, &pfn))
		;
	zone_ok(n->tz);
}

/* Mixing types costs reclaim a pageblock more, up to one and a half times the mark. */
static void a_fallback_boosts_the_marks(void **state)
{
	struct nodes_of_one n = open_nodes(8 * PB), small = open_nodes(3 * PB);
	struct berth_tunables t;
	struct berth_watermarks w;

	(void)state;
	fill_movable(n.tz, 0x7f, 0, PB / 8);
	berth_zone_watermarks(n.tz->zone, &w);
	assert_int_equal(w.boost, 0);
	alloc(n.tz, 0, BERTH_GFP_UNMOVABLE, 0);
	berth_zone_watermarks(n.tz->zone, &w);
	assert_int_equal(w.boost, PB); /* high is small: at least a pageblock */
	alloc(n.tz, 0, BERTH_GFP_UNMOVABLE, 0);
	berth_zone_watermarks(n.tz->zone, &w);
	assert_int_equal(w.boost, PB);
	/* The boost lies on top of each mark. */
	berth_nodes_tunables(n.nodes, &t);
	assert_true(berth_watermark_ok(n.tz->zone, 0, 0, BERTH_ZONE_NORMAL, 0));
	berth_zone_unboost(n.tz->zone, 100);
	berth_zone_watermarks(n.tz->zone, &w);
	assert_int_equal(w.boost, PB - 100);
	berth_zone_unboost(n.tz->zone, PB);
	berth_zone_watermarks(n.tz->zone, &w);
	assert_int_equal(w.boost, 0);
	/* With a large high mark it grows further. */
	t.min_free_kbytes = 4096;
	assert_int_equal(berth_nodes_tune(n.nodes, &t), 0);
	for (unsigned i = 0; i < 8; i++)
		alloc(n.tz, 0, BERTH_GFP_UNMOVABLE, 0);
	berth_zone_watermarks(n.tz->zone, &w);
	assert_int_equal(w.mark[BERTH_MARK_HIGH], 1024 + 256 + 256);
	assert_int_equal(w.boost, (1024 + 256 + 256) * 3 / 2);
	/* And it can be turned off. */
	berth_zone_unboost(n.tz->zone, w.boost);
	t.watermark_boost_factor = 0;
	assert_int_equal(berth_nodes_tune(n.nodes, &t), 0);
	alloc(n.tz, 0, BERTH_GFP_UNMOVABLE, 0);
	berth_zone_watermarks(n.tz->zone, &w);
	assert_int_equal(w.boost, 0);
	/* Three pageblocks are too few for it to help. */
	fill_movable(small.tz, 7, 0, PB / 8);
	alloc(small.tz, 0, BERTH_GFP_UNMOVABLE, 0);
	berth_zone_watermarks(small.tz->zone, &w);
	assert_int_equal(w.boost, 0);
	close_nodes(&n);
	close_nodes(&small);
}

static void an_urgent_block_reserves_its_pageblock(void **state)
{
	struct nodes_of_one n = open_nodes(200 * PB);
	struct test_zone *tz = n.tz;
	berth_pfn_t pfn, other;

	(void)state;
	atomic_alloc(&n, 2); /* plenty: nothing is reserved */
	assert_int_equal(count_pageblocks(tz, BERTH_HIGHATOMIC), 0);
	use_up(&n, 3);
	pfn = atomic_alloc(&n, 2);
	assert_int_equal(type_at(tz, pfn), BERTH_HIGHATOMIC);
	assert_int_equal(count_pageblocks(tz, BERTH_HIGHATOMIC), 1);
	/* The next one is served from there, nobody else is. */
	assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	other = alloc(tz, 2, BERTH_GFP_UNMOVABLE, 0);
	assert_int_not_equal(type_at(tz, other), BERTH_HIGHATOMIC);
	assert_int_equal(type_at(tz, atomic_alloc(&n, 2)), BERTH_HIGHATOMIC);
	close_nodes(&n);
}

static void the_reserve_is_one_percent_at_most(void **state)
{
	struct nodes_of_one n = open_nodes(250 * PB); /* 2.5 pageblocks: 3 */
	berth_pfn_t pfn;

	(void)state;
	use_up(&n, 3);
	while (!berth_node_alloc(n.nodes, 0, 4, BERTH_GFP_ATOMIC, 0, 0, &pfn))
		assert_in_range(count_pageblocks(n.tz, BERTH_HIGHATOMIC), 1, 3);
	zone_ok(n.tz);
	close_nodes(&n);
}

static void a_small_zone_reserves_nothing(void **state)
{
	struct nodes_of_one n = open_nodes(99 * PB);

	(void)state;
	use_up(&n, 3);
	atomic_alloc(&n, 2);
	assert_int_equal(count_pageblocks(n.tz, BERTH_HIGHATOMIC), 0);
	close_nodes(&n);
}

/* The free frames of the reserve don't count for others, so they'd go to waste under pressure. */
static void the_reserve_is_given_back_before_an_allocation_fails(void **state)
{
	struct nodes_of_one n = open_nodes(200 * PB);
	struct test_zone *tz = n.tz;
	berth_pfn_t urgent, pfn;

	(void)state;
	use_up(&n, 3);
	urgent = atomic_alloc(&n, 3);
	assert_int_equal(count_pageblocks(tz, BERTH_HIGHATOMIC), 1);
	/* Whoever may not wait fails; whoever may gets the reserve, when marks allow. */
	assert_int_equal(berth_node_alloc(n.nodes, 0, 3, BERTH_GFP_NO_RECLAIM, 0, 0, &pfn),
			 -BERTH_ENOMEM);
	assert_int_equal(count_pageblocks(tz, BERTH_HIGHATOMIC), 1);
	assert_int_equal(berth_node_alloc(n.nodes, 0, 3, 0, 0, 0, &pfn), -BERTH_ENOMEM);
	assert_int_equal(count_pageblocks(tz, BERTH_HIGHATOMIC), 0);
	assert_int_equal(type_at(tz, urgent), BERTH_UNMOVABLE);
	zone_ok(tz);
	close_nodes(&n);
}

static void memory_is_whole_again_when_all_is_free(void **state)
{
	struct nodes_of_one n = open_nodes(200 * PB);
	struct test_zone *tz = n.tz;
	uint64_t seed = 7, nr = 0;
	berth_pfn_t *pfns = test_zalloc(200 * PB, sizeof(*pfns));

	(void)state;
	while (nr < 200 * PB &&
	       !berth_node_alloc(n.nodes, 0, (unsigned)test_random_below(&seed, 4),
				 test_random_below(&seed, 2) ? BERTH_GFP_ATOMIC :
							       BERTH_GFP_RECLAIMABLE,
				 0, 0, &pfns[nr]))
		nr++;
	test_shuffle(&seed, pfns, nr);
	for (uint64_t i = 0; i < nr; i++)
		assert_int_equal(berth_node_free(n.nodes, pfns[i]), 0);
	assert_int_equal(zone_stats(tz).free_pages, 200 * PB);
	assert_in_range(count_pageblocks(tz, BERTH_HIGHATOMIC), 0, 2);
	assert_int_equal(
		count_pageblocks(tz, BERTH_MOVABLE) + count_pageblocks(tz, BERTH_HIGHATOMIC), 200);
	zone_ok(tz);
	free(pfns);
	close_nodes(&n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_free_pageblock_changes_its_type_alone),
		cmocka_unit_test(half_a_free_pageblock_is_taken_over_with_all_that_is_free),
		cmocka_unit_test(less_than_half_lends_the_block_only),
		cmocka_unit_test(unmovable_neighbours_count_as_compatible),
		cmocka_unit_test(immovable_types_take_each_other_by_free_memory_alone),
		cmocka_unit_test(the_largest_block_goes_before_the_order_of_types),
		cmocka_unit_test(movable_requests_take_small_blocks_without_the_pageblock),
		cmocka_unit_test(movable_requests_take_over_what_is_half_theirs),
		cmocka_unit_test(a_fallback_boosts_the_marks),
		cmocka_unit_test(an_urgent_block_reserves_its_pageblock),
		cmocka_unit_test(the_reserve_is_one_percent_at_most),
		cmocka_unit_test(a_small_zone_reserves_nothing),
		cmocka_unit_test(the_reserve_is_given_back_before_an_allocation_fails),
		cmocka_unit_test(memory_is_whole_again_when_all_is_free),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
