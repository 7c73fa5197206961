/* SPDX-License-Identifier: MIT */
/*
 * Allocating from nodes when memory runs low: who may go below which mark, and what is done, in which
 * order, before an allocation fails.
 */
#include "core/frames/internal.h"
#include "tests/include/testnodes.h"

/* How far down each kind of request gets in a zone whose min is 800, with nobody to reclaim. */
static void who_gets_how_far(void **state)
{
	static const struct {
		unsigned gfp;
		uint64_t left;
	} cases[] = {
		{ 0, 800 },
		{ BERTH_GFP_NO_RECLAIM, 800 },
		{ BERTH_GFP_NORETRY, 800 },
		{ BERTH_GFP_MAYFAIL, 800 },
		{ BERTH_GFP_HIGH, 400 },
		{ BERTH_GFP_ATOMIC, 300 },
		{ BERTH_GFP_OOM_VICTIM, 400 },
		{ BERTH_GFP_NOFAIL, 400 }, /* after it has waited */
		{ BERTH_GFP_MEMALLOC, 0 },
		{ BERTH_GFP_MEMALLOC | BERTH_GFP_NO_RECLAIM, 0 },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct machine *m = machine_open(.nr_nodes = 1);
		struct test_zone *tz = add_zone(m, 0, NORMAL, 0, 4096);

		tune_min(m, 4 * 800);
		hoard(m, tz, 1100);
		m->nr_hoard = 0; /* it stays used */
		while (take(m, 0, 0, cases[i].gfp, 0))
			;
		if (zone_free_pages(tz) != cases[i].left)
			fail_msg("flags %#x leave %llu", cases[i].gfp,
				 (unsigned long long)zone_free_pages(tz));
		machine_close(m);
	}
}

/* A boost slows down everybody but the urgent, who can't wait for the sake of large blocks. */
static void a_boost_holds_back_but_the_urgent(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *tz = add_zone(m, 0, NORMAL, 0, 8192);
	unsigned owner;
	berth_pfn_t pfn;

	(void)state;
	tune_min(m, 4 * 400);
	assert_int_equal(berth_nodes_owner_register(m->nodes, &owner_ops, NULL, &owner), 0);
	while (!berth_alloc_pages(tz->zone, 0, BERTH_GFP_MOVABLE, owner, 0, &pfn))
		if (pfn % 512 < 60)
			m->hoard[m->nr_hoard++] = pfn;
	free_hoard(m, MAX_HOARD); /* 16 times 60 free, none in a large block */
	assert_int_equal(zone_free_pages(tz), 960);
	assert_non_null(take(m, 0, 0, BERTH_GFP_NO_RECLAIM, 0)); /* mixes a pageblock */
	assert_int_equal(marks_of(tz).boost, 512);
	assert_non_null(take(m, 0, 0, BERTH_GFP_NO_RECLAIM, 0));
	while (take(m, 0, 0, BERTH_GFP_NO_RECLAIM, 0))
		;
	assert_true(zone_free_pages(tz) > 400 + 500);
	while (take(m, 0, 0, BERTH_GFP_ATOMIC, 0))
		;
	assert_int_equal(zone_free_pages(tz), 150);
	machine_close(m);
}

/* Order 0: the list of the CPU serves without a look at the marks, and is filled with one. */
static void a_cpus_list_is_filled_above_the_marks_only(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *tz = add_zone(m, 0, NORMAL, 0, 4096);
	uint64_t cached, n = 0;

	(void)state;
	tune_min(m, 4 * 800);
	hoard(m, tz, 900); /* below low */
	test_set_cpu(0);
	assert_non_null(take(m, 0, 0, 0, 0));
	assert_int_equal(m->wakes, 1);
	cached = zone_stats(tz).pcp_pages;
	assert_in_range(cached, 1, 128);
	while (n < cached && take(m, 0, 0, 0, 0))
		n++;
	assert_int_equal(n, cached);
	assert_int_equal(m->wakes, 1); /* nobody looked */
	assert_non_null(take(m, 0, 0, 0, 0));
	assert_int_equal(m->wakes, 2);
	test_set_cpu(TEST_NO_CPU);
	machine_close(m);
}

/* ---- Running low -------------------------------------------------------------------------------- */

/* A zone with `left` free frames, min 256, low 320. */
static struct machine *nearly_empty(uint64_t left)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *tz = add_zone(m, 0, NORMAL, 0, 4096);

	tune_min(m, 4 * 256);
	assert_int_equal(marks_of(tz).mark[BERTH_MARK_LOW], 320);
	hoard(m, tz, left);
	return m;
}

static void kswapd_is_woken_below_low(void **state)
{
	struct machine *m = nearly_empty(322);

	(void)state;
	assert_non_null(take(m, 0, 0, 0, 0));
	assert_non_null(take(m, 0, 0, 0, 0)); /* leaves low itself */
	assert_int_equal(m->wakes, 0);
	assert_non_null(take(m, 0, 0, 0, 0));
	assert_int_equal(m->wakes, 1);
	assert_ptr_equal(m->woken[0], m->zones[0]->zone);
	assert_int_equal(m->woken_for, NORMAL);
	assert_int_equal(m->reclaims, 0); /* direct reclaim only below min */
	machine_close(m);
}

static void below_min_the_caller_reclaims(void **state)
{
	struct machine *m = nearly_empty(256);
	struct berth_nodes_stats s;

	(void)state;
	m->reclaim_step = 32;
	assert_null(take(m, 0, 0, BERTH_GFP_NO_RECLAIM, 0));
	assert_int_equal(m->reclaims, 0);
	assert_non_null(take(m, 0, 0, 0, 0));
	assert_string_equal(m->order_of_calls, "r");
	berth_nodes_stats(m->nodes, &s);
	assert_int_equal(s.slow_allocs, 2);
	assert_int_equal(s.kswapd_wakes, 2);
	assert_int_equal(s.direct_reclaims, 1);
	assert_int_equal(s.reclaimed_pages, 32);
	assert_int_equal(s.failures, 1);
	assert_int_equal(s.ooms, 0);
	machine_close(m);
}

/* Every other frame holds a movable page: enough is free, but no block of two. */
static struct machine *scattered(void)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *tz = add_zone(m, 0, NORMAL, 0, 4096);
	unsigned owner;
	berth_pfn_t pfn;

	tune_min(m, 4 * 256);
	assert_int_equal(berth_nodes_owner_register(m->nodes, &owner_ops, m, &owner), 0);
	while (!berth_alloc_pages(tz->zone, 0, BERTH_GFP_MOVABLE, owner, 0, &pfn))
		if (pfn % 2)
			m->hoard[m->nr_hoard++] = pfn;
	free_hoard(m, MAX_HOARD);
	assert_int_equal(zone_free_pages(tz), 2048);
	for (pfn = 0; pfn < 4096; pfn += 2)
		m->hoard[m->nr_hoard++] = pfn;
	return m;
}

static void compaction_comes_before_reclaim_for_blocks(void **state)
{
	struct machine *m = scattered();
	struct berth_nodes_stats s;

	(void)state;
	m->movable = true;
	assert_null(take(m, 0, 6, BERTH_GFP_NO_RECLAIM, 0));
	assert_string_equal(m->order_of_calls, ""); /* nobody is asked to move for who can't wait */
	assert_non_null(take(m, 0, 6, 0, 0));
	assert_int_equal(m->order_of_calls[0], 'm');
	assert_int_equal(m->reclaims, 0);
	berth_nodes_stats(m->nodes, &s);
	assert_int_equal(s.compactions, 1);
	machine_close(m);
}

static void what_can_not_be_compacted_is_reclaimed(void **state)
{
	struct machine *m = scattered();

	(void)state;
	m->reclaim_step = 2048;
	assert_non_null(take(m, 0, 6, 0, 0));
	assert_int_equal(m->order_of_calls[0], 'm');
	assert_int_equal(m->reclaims, 1);
	assert_int_equal(m->ooms, 0);
	machine_close(m);
}

/* It needs room to move to; where little is free it's no use. */
static void compaction_is_not_tried_without_free_memory(void **state)
{
	struct machine *m = scattered();

	(void)state;
	m->nr_hoard = 0;
	m->movable = true;
	hoard(m, m->zones[0], 256 + 64);
	m->reclaim_step = 0;
	assert_null(take(m, 0, 6, 0, 0));
	assert_string_equal(m->order_of_calls, "r");
	machine_close(m);
}

static void without_progress_oom_is_asked_at_last(void **state)
{
	struct machine *m = nearly_empty(100);

	(void)state;
	m->oom_answers = 1;
	m->oom_step = 200;
	assert_non_null(take(m, 0, 0, 0, 0));
	assert_string_equal(m->order_of_calls, "ro");
	assert_ptr_equal(m->oom_zone, m->zones[0]->zone);
	machine_close(m);
}

static void oom_that_does_not_help_ends(void **state)
{
	struct machine *m = nearly_empty(100);

	(void)state;
	m->oom_answers = 1000; /* it always claims to have helped */
	assert_null(take(m, 0, 0, 0, 0));
	assert_in_range(m->ooms, 1, 10);
	assert_in_range(m->reclaims, 1, 20);
	machine_close(m);
}

static void little_progress_is_tried_again_but_not_for_ever(void **state)
{
	struct machine *m = nearly_empty(100);

	(void)state;
	m->reclaim_step = 20; /* eight times until 257 */
	assert_non_null(take(m, 0, 0, 0, 0));
	assert_int_equal(m->reclaims, 8);
	m->reclaims = 0;
	hoard(m, m->zones[0], 0);
	m->reclaim_step = 1;
	assert_null(take(m, 0, 0, 0, 0));
	assert_int_equal(m->reclaims, 16);
	assert_int_equal(m->ooms, 1);
	machine_close(m);
}

static void who_is_content_with_less_is_given_less(void **state)
{
	static const struct {
		unsigned order, gfp;
		const char *calls;
	} cases[] = {
		{ 0, BERTH_GFP_NORETRY, "r" },
		{ 0, BERTH_GFP_MAYFAIL, "r" },
		{ 0, BERTH_GFP_THISNODE, "r" },
		{ 0, 0, "ro" },
		{ 3, 0, "ro" },
		{ 4, 0, "r" }, /* costly: not worth a victim */
		{ 4, BERTH_GFP_MAYFAIL, "r" },
		{ 0, BERTH_GFP_NO_RECLAIM, "" },
		{ 0, BERTH_GFP_ATOMIC, "" },
		{ 0, BERTH_GFP_MEMALLOC, "" },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct machine *m = nearly_empty(0);

		assert_null(take(m, 0, cases[i].order, cases[i].gfp, 0));
		assert_string_equal(m->order_of_calls, cases[i].calls);
		machine_close(m);
	}
}

static void costly_orders_are_tried_again_if_asked(void **state)
{
	struct machine *m = nearly_empty(0);

	(void)state;
	m->reclaim_step = 1;
	assert_null(take(m, 0, 4, 0, 0));
	assert_int_equal(m->reclaims, 1);
	m->reclaims = 0;
	assert_null(take(m, 0, 4, BERTH_GFP_MAYFAIL, 0));
	assert_int_equal(m->reclaims, 16);
	assert_int_equal(m->ooms, 0);
	machine_close(m);
}

static void free_some(void *ctx)
{
	struct machine *m = ctx;

	if (m->zones[0]->port.nr_waits == 5)
		m->reclaim_step = 100;
}

static void nofail_waits_until_somebody_frees(void **state)
{
	struct machine *m = nearly_empty(100);

	(void)state;
	m->zones[0]->port.on_wait = free_some;
	m->zones[0]->port.on_wait_ctx = m;
	assert_non_null(take(m, 0, 0, BERTH_GFP_NOFAIL, 0));
	assert_int_equal(m->zones[0]->port.nr_waits, 5);
	machine_close(m);
}

static void nofail_gives_up_rather_than_hang(void **state)
{
	struct machine *m = nearly_empty(0);

	(void)state;
	assert_null(take(m, 0, 0, BERTH_GFP_NOFAIL, 0));
	assert_int_equal(m->zones[0]->port.nr_waits, 64);
	assert_in_range(m->zones[0]->port.waited_ns, 5000000000ull, 10000000000ull);
	machine_close(m);
}

/* The last frames are in another CPU's list. */
static void what_other_cpus_cache_is_collected(void **state)
{
	struct machine *m = nearly_empty(256 + 8);
	struct test_zone *tz = m->zones[0];
	berth_pfn_t pfn;

	(void)state;
	m->nr_hoard = 0;
	test_set_cpu(1);
	assert_int_equal(berth_alloc_pages(tz->zone, 0, 0, 0, 0, &pfn), 0);
	assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	test_set_cpu(TEST_NO_CPU);
	assert_true(zone_stats(tz).free_pages <= 256);
	assert_null(take(m, 0, 0, BERTH_GFP_NO_RECLAIM, 0));
	assert_non_null(take(m, 0, 0, 0, 0));
	assert_int_equal(zone_stats(tz).pcp_pages, 0);
	machine_close(m);
}

static void nobody_helps_where_nobody_is(void **state)
{
	struct machine *m = machine_open_with(&(struct berth_nodes_params){ .nr_nodes = 1 });
	struct test_zone *tz = add_zone(m, 0, NORMAL, 0, 1024);

	(void)state;
	hoard(m, tz, 10);
	assert_null(take(m, 0, 0, 0, 0));
	assert_null(take(m, 0, 5, 0, 0));
	assert_non_null(take(m, 0, 0, BERTH_GFP_MEMALLOC, 0));
	machine_close(m);
}

/* ---- Cleared frames ----------------------------------------------------------------------------- */

static berth_pfn_t zeroed_pfn;
static uint64_t zeroed_pages;

static void zero(void *ctx, berth_pfn_t pfn, uint64_t nr_pages)
{
	(void)ctx;
	zeroed_pfn = pfn;
	zeroed_pages += nr_pages;
}

static void frames_are_cleared_by_the_port(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct berth_port_ops ops = test_port_ops;
	struct test_zone *tz, *lacks;
	berth_pfn_t pfn = 0;

	(void)state;
	ops.zero = zero;
	tz = zone_open(.nr_pages = 1024, .port = &ops);
	m->zones[m->nr_zones++] = tz;
	assert_int_equal(berth_nodes_add_zone(m->nodes, 0, NORMAL, tz->zone), 0);
	zeroed_pages = 0;
	for (unsigned order = 0; order < 4; order++) {
		assert_int_equal(berth_node_alloc(m->nodes, 0, order, BERTH_GFP_ZERO, 0, 0, &pfn),
				 0);
		assert_int_equal(zeroed_pfn, pfn);
		assert_int_equal(berth_alloc_pages(tz->zone, order, BERTH_GFP_ZERO, 0, 0, &pfn), 0);
		assert_int_equal(zeroed_pfn, pfn);
	}
	assert_int_equal(zeroed_pages, 2 * 15);
	/* What fails clears nothing. */
	assert_int_equal(berth_alloc_pages(tz->zone, 10, BERTH_GFP_ZERO, 0, 0, &pfn),
			 -BERTH_ENOMEM);
	assert_int_equal(berth_alloc_pages(tz->zone, 0, BERTH_GFP_ZERO | BERTH_GFP_HIGH, 0, 0,
					   &pfn),
			 -BERTH_EINVAL);
	assert_int_equal(zeroed_pages, 2 * 15);
	/* Every zone that may serve must be able to. */
	lacks = add_zone(m, 0, DMA, 4096, 1024);
	assert_int_equal(berth_alloc_pages(lacks->zone, 0, BERTH_GFP_ZERO, 0, 0, &pfn),
			 -BERTH_EINVAL);
	assert_int_equal(berth_node_alloc(m->nodes, 0, 0, BERTH_GFP_ZERO, 0, 0, &pfn),
			 -BERTH_EINVAL);
	machine_close(m);
}

/* ---- Exact sizes --------------------------------------------------------------------------------- */

static void exact_sizes_come_from_the_zonelist(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *dma = add_zone(m, 0, DMA, 0, 4096);
	struct test_zone *normal = add_zone(m, 0, NORMAL, 4096, 1024);
	berth_pfn_t first, second;

	(void)state;
	assert_int_equal(berth_node_alloc_exact(m->nodes, 0, 300, 0, 0, 0, &first), 0);
	assert_int_equal(first % 512, 0);
	assert_int_equal(count_state(normal, 4096, 5120, 'u'), 300);
	assert_int_equal(count_state(normal, first, first + 300, 'u'), 300);
	assert_int_equal(zone_free_pages(normal), 1024 - 300);
	/* No block of 1024 is left there: the next zone's. */
	assert_int_equal(berth_node_alloc_exact(m->nodes, 0, 600, 0, 0, 0, &second), 0);
	assert_int_equal(count_state(dma, second, second + 600, 'u'), 600);
	machine_ok(m);
	/* In parts, and as a whole. */
	assert_int_equal(berth_node_free_exact(m->nodes, first + 100, 50, 0), 0);
	assert_int_equal(berth_node_free_exact(m->nodes, first, 100, 0), 0);
	assert_int_equal(berth_node_free_exact(m->nodes, first + 150, 150, 0), 0);
	assert_int_equal(berth_node_free_exact(m->nodes, second, 600, 0), 0);
	assert_int_equal(zone_free_pages(normal) + zone_free_pages(dma), 5120);
	machine_close(m);
}

/* The mark is that of the block which is needed for a moment, and who may go below it may here, too. */
static void exact_sizes_heed_the_marks(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *tz = add_zone(m, 0, NORMAL, 0, 4096);
	berth_pfn_t pfn = 0x5ca1ab1e;

	(void)state;
	tune_min(m, 4 * 800);
	hoard(m, tz, 1200); /* the rest is in use from the bottom */
	m->nr_hoard = 0;
	assert_int_equal(berth_node_alloc_exact(m->nodes, 0, 300, BERTH_GFP_NO_RECLAIM, 0, 0, &pfn),
			 -BERTH_ENOMEM);
	assert_int_equal(pfn, 0x5ca1ab1e);
	assert_int_equal(zone_free_pages(tz), 1200);
	assert_int_equal(m->wakes, 1);
	assert_int_equal(berth_node_alloc_exact(m->nodes, 0, 300, BERTH_GFP_MEMALLOC, 0, 0, &pfn),
			 0);
	assert_int_equal(zone_free_pages(tz), 900);
	machine_ok(m);
	assert_int_equal(berth_node_free_exact(m->nodes, pfn, 300, 0), 0);
	machine_close(m);
}

static void exact_sizes_are_reclaimed_for(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *tz = add_zone(m, 0, NORMAL, 0, 4096);
	berth_pfn_t pfn;

	(void)state;
	tune_min(m, 4 * 800);
	hoard(m, tz, 850);
	m->reclaim_step = 1024;
	assert_int_equal(berth_node_alloc_exact(m->nodes, 0, 5, 0, 0, 0, &pfn), 0);
	assert_int_equal(m->reclaims, 0);
	assert_int_equal(berth_node_alloc_exact(m->nodes, 0, 100, 0, 0, 0, &pfn), 0);
	assert_int_equal(m->reclaims, 1);
	machine_ok(m);
	machine_close(m);
}

static void exact_sizes_are_cleared(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct berth_port_ops ops = test_port_ops;
	struct test_zone *tz;
	berth_pfn_t pfn;

	(void)state;
	ops.zero = zero;
	tz = zone_open(.nr_pages = 1024, .port = &ops);
	m->zones[m->nr_zones++] = tz;
	assert_int_equal(berth_nodes_add_zone(m->nodes, 0, NORMAL, tz->zone), 0);
	zeroed_pages = 0;
	assert_int_equal(berth_node_alloc_exact(m->nodes, 0, 21, BERTH_GFP_ZERO, 0, 0, &pfn), 0);
	assert_int_equal(zeroed_pfn, pfn);
	assert_int_equal(zeroed_pages, 21);
	machine_close(m);
}

static void bad_exact_sizes_are_refused(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *tz = add_zone(m, 0, NORMAL, 0, 4096);
	berth_pfn_t pfn, got;

	(void)state;
	add_zone(m, 0, MOVABLE, 4096, 4096);
	assert_refused(tz, -BERTH_EINVAL, berth_node_alloc_exact(m->nodes, 0, 0, 0, 0, 0, &pfn));
	assert_refused(tz, -BERTH_EINVAL,
		       berth_node_alloc_exact(m->nodes, 0, UINT64_MAX, 0, 0, 0, &pfn));
	assert_refused(tz, -BERTH_EINVAL,
		       berth_node_alloc_exact(m->nodes, 0, (1u << 30) + 1, 0, 0, 0, &pfn));
	assert_refused(tz, -BERTH_EINVAL, berth_node_alloc_exact(m->nodes, 1, 3, 0, 0, 0, &pfn));
	assert_refused(tz, -BERTH_EINVAL, berth_node_alloc_exact(m->nodes, 0, 3, 0, 0, 0, NULL));
	assert_refused(tz, -BERTH_EINVAL, berth_node_alloc_exact(m->nodes, 0, 3, 0, 1, 0, &pfn));
	assert_refused(tz, -BERTH_EINVAL,
		       berth_node_alloc_exact(m->nodes, 0, 3, BERTH_GFP_ZERO, 0, 0, &pfn));
	/* Larger than any block. */
	assert_refused(tz, -BERTH_ENOMEM,
		       berth_node_alloc_exact(m->nodes, 0, 1025, BERTH_GFP_NO_RECLAIM, 0, 0, &pfn));
	assert_int_equal(berth_node_alloc_exact(m->nodes, 0, 3, 0, 0, 0, &got), 0);
	assert_refused(tz, -BERTH_EINVAL, berth_node_free_exact(m->nodes, got, 4, 0));
	assert_refused(tz, -BERTH_EINVAL, berth_node_free_exact(m->nodes, got, 0, 0));
	assert_refused(tz, -BERTH_EINVAL, berth_node_free_exact(m->nodes, 4090, 10, 0));
	assert_refused(tz, -BERTH_EINVAL, berth_node_free_exact(m->nodes, 8192, 1, 0));
	assert_int_equal(berth_node_free_exact(m->nodes, got, 3, 0), 0);
	machine_close(m);
}

/* Cached orders above 0 come from the CPU's list without a look at the marks as well. */
static void blocks_come_from_the_cpus_list(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *tz = add_zone(m, 0, NORMAL, 0, 4096);
	berth_pfn_t pfn, again;

	(void)state;
	tune_min(m, 4 * 800);
	test_set_cpu(0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(berth_node_alloc(m->nodes, 0, 2, 0, 0, 0, &pfn), 0);
		assert_int_equal(berth_node_free(m->nodes, pfn), 0);
	}
	assert_int_equal(frame_state(tz, pfn), 'p');
	hoard(m, tz, 500); /* far below min */
	m->wakes = 0;
	assert_int_equal(berth_node_alloc(m->nodes, 0, 2, BERTH_GFP_NO_RECLAIM, 0, 0, &again), 0);
	assert_int_equal(again, pfn);
	assert_int_equal(m->wakes, 0);
	test_set_cpu(TEST_NO_CPU);
	machine_close(m);
}

/* kswapd makes lists smaller that have grown and aren't used, before it reclaims. */
static void kswapd_ages_the_lists(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *tz = add_zone(m, 0, NORMAL, 0, 65536);
	const struct berth_pcp *pcp = berth__pcp(tz->zone, 0);
	uint32_t grown;

	(void)state;
	test_set_cpu(0);
	for (unsigned i = 0; i < 4000; i++)
		assert_int_equal(berth_alloc_pages(tz->zone, 0, 0, 0, 0, &(berth_pfn_t){ 0 }), 0);
	test_set_cpu(TEST_NO_CPU);
	grown = berth__pcp_high_pages(tz->zone, pcp);
	tune_min(m, 4 * 60000);
	for (unsigned i = 0; i < 4 * 13;
	     i++) /* once in all priorities; the first time they were used */
		(void)berth_kswapd_step(m->nodes, 0, 0, NULL);
	assert_true(berth__pcp_high_pages(tz->zone, pcp) + 640 / 2 <= grown);
	machine_close(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_gets_how_far),
		cmocka_unit_test(a_boost_holds_back_but_the_urgent),
		cmocka_unit_test(a_cpus_list_is_filled_above_the_marks_only),
		cmocka_unit_test(kswapd_is_woken_below_low),
		cmocka_unit_test(below_min_the_caller_reclaims),
		cmocka_unit_test(compaction_comes_before_reclaim_for_blocks),
		cmocka_unit_test(what_can_not_be_compacted_is_reclaimed),
		cmocka_unit_test(compaction_is_not_tried_without_free_memory),
		cmocka_unit_test(without_progress_oom_is_asked_at_last),
		cmocka_unit_test(oom_that_does_not_help_ends),
		cmocka_unit_test(little_progress_is_tried_again_but_not_for_ever),
		cmocka_unit_test(who_is_content_with_less_is_given_less),
		cmocka_unit_test(costly_orders_are_tried_again_if_asked),
		cmocka_unit_test(nofail_waits_until_somebody_frees),
		cmocka_unit_test(nofail_gives_up_rather_than_hang),
		cmocka_unit_test(what_other_cpus_cache_is_collected),
		cmocka_unit_test(nobody_helps_where_nobody_is),
		cmocka_unit_test(frames_are_cleared_by_the_port),
		cmocka_unit_test(exact_sizes_come_from_the_zonelist),
		cmocka_unit_test(exact_sizes_heed_the_marks),
		cmocka_unit_test(exact_sizes_are_reclaimed_for),
		cmocka_unit_test(exact_sizes_are_cleared),
		cmocka_unit_test(bad_exact_sizes_are_refused),
		cmocka_unit_test(blocks_come_from_the_cpus_list),
		cmocka_unit_test(kswapd_ages_the_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
