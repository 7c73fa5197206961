/* SPDX-License-Identifier: MIT */
/*
 * Reclaim: what is dropped, in which order; what is written first; kswapd from low to high; direct reclaim
 * below min; shrinkers; and claims that drop instead of moving.
 */
#include <berth/stats.h>

#include "tests/include/testlru.h"
#include "tests/include/testnodes.h"

/* ---- What is dropped -------------------------------------------------------------------------------- */

static void the_longest_unused_goes_first(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t first = cache_fill(c, 200), free = zone_free_pages(tz);

	(void)state;
	assert_int_equal(berth_zone_reclaim(tz->zone, 64, 0), 64);
	assert_int_equal(zone_free_pages(tz), free + 64);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(c->dropped[i], first + i);
	assert_int_equal(c->largest_batch, 32);
	zone_ok(tz);
	cache_close(c);
	zone_close(tz);
}

static void reclaim_stops_when_it_has_enough(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");

	(void)state;
	cache_fill(c, 500);
	assert_int_equal(berth_zone_reclaim(tz->zone, 0, 0), 0);
	assert_int_equal(berth_zone_reclaim(tz->zone, 1, 0), 32); /* a batch */
	assert_int_equal(c->nr_asked, 32);
	assert_int_equal(berth_zone_reclaim(tz->zone, 1000, 0), 468);
	assert_int_equal(berth_zone_reclaim(tz->zone, 1000, 0), 0);
	cache_close(c);
	zone_close(tz);
}

/* Used through mappings, a page gets a second chance; used again before the next scan, it's active. */
static void a_page_in_use_gets_a_second_chance(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t first = cache_fill(c, 32);

	(void)state;
	c->young[first + 3] = 1;
	c->young[first + 4] = 2; /* twice at once */
	assert_int_equal(berth_zone_reclaim(tz->zone, 30, 0), 30);
	assert_int_equal(where(c, first + 3), 'i');
	assert_int_equal(flags_of(c, first + 3), BERTH_LRU_IS_REFERENCED);
	assert_int_equal(where(c, first + 4), 'a');
	c->young[first + 3] = 1;
	assert_int_equal(berth_zone_reclaim(tz->zone, 1, 0), 0);
	assert_int_equal(lru_stats(tz).activated, 2);
	assert_int_equal(c->nr_dropped, 30);
	cache_close(c);
	zone_close(tz);
}

/* What was used since it came to the active list stays there; the rest fills up the inactive one. */
static void active_pages_come_back_when_inactive_ones_are_few(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t first = cache_fill(c, 96);

	(void)state;
	for (unsigned i = 0; i < 64; i++)
		berth_lru_activate(tz->zone, cache_pfn(c, first + i));
	berth_lru_mark_accessed(tz->zone, cache_pfn(c, first));
	c->young[first + 1] = 1;
	assert_int_equal(berth_zone_reclaim(tz->zone, 32, 0), 32);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(c->dropped[i], first + 64 + i);
	assert_int_equal(where(c, first), 'a');
	assert_int_equal(where(c, first + 1), 'a');
	assert_int_equal(where(c, first + 2), 'i');
	assert_true(lru_stats(tz).deactivated >= 30);
	zone_ok(tz);
	cache_close(c);
	zone_close(tz);
}

/* Pinned, busy by the owner's word, or said to be in use. */
static void what_can_not_be_dropped_stays(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t first = cache_fill(c, 4);

	(void)state;
	c->o->ops.referenced = NULL; /* it says so when it's asked to drop */
	assert_int_equal(berth_page_pin(tz->zone, cache_pfn(c, first)), 0);
	c->o->answers[first + 1] = TEST_BUSY;
	c->young[first + 2] = 1;
	assert_int_equal(berth_zone_reclaim(tz->zone, 1, 0), 1);
	assert_int_equal(c->dropped[0], first + 3);
	assert_int_equal(where(c, first), 'i');
	assert_int_equal(where(c, first + 1), 'i');
	assert_int_equal(where(c, first + 2), 'a');
	assert_int_equal(berth_page_unpin(tz->zone, cache_pfn(c, first)), 0);
	zone_ok(tz);
	cache_close(c);
	zone_close(tz);
}

static void large_blocks_are_dropped_whole(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t block = cache_add(c, 6), split = cache_add(c, 4);
	uint64_t free = zone_free_pages(tz);

	(void)state;
	assert_int_equal(berth_split_pages(tz->zone, cache_pfn(c, split), 2), 0);
	assert_int_equal(berth_zone_reclaim(tz->zone, 80, 0), 80);
	assert_int_equal(c->nr_dropped, 5);
	assert_int_equal(c->dropped[0], block);
	assert_int_equal(zone_free_pages(tz), free + 80);
	cache_close(c);
	zone_close(tz);
}

/* The owner frees pages, splits and locks them while a reclaimer has them in hand. */
static void change_everything(struct cache *c)
{
	c->on_reclaim = NULL;
	owner_unmap(c->o, 0, 1);
	assert_int_equal(berth_free_pages(c->zone, *(berth_pfn_t *)c->o->tz->port.on_wait_ctx), 0);
	assert_int_equal(berth_split_pages(c->zone, cache_pfn(c, 8), 1), 0);
	assert_int_equal(berth_lru_set_unevictable(c->zone, cache_pfn(c, 1), 1, true), 0);
	assert_int_equal(berth_lru_del(c->zone, cache_pfn(c, 2), 1), 0);
	assert_int_equal(where(c, 3), 'x');
	assert_int_equal(lru_stats(c->o->tz).isolated, 1 + 5 + 2); /* 1, 3 .. 7, the first piece */
}

static void what_changes_meanwhile_is_looked_at_again(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	berth_pfn_t pfn;

	(void)state;
	cache_fill(c, 8);
	(void)cache_add(c, 3); /* page 8 */
	pfn = cache_pfn(c, 0);
	tz->port.on_wait_ctx = &pfn;
	c->on_reclaim = change_everything;
	/* 3 .. 7; the pieces another time */
	assert_int_equal(berth_zone_reclaim(tz->zone, 5, 0), 5);
	assert_int_equal(c->nr_gone, 1);
	assert_int_equal(where(c, 1), 'u');
	assert_int_equal(where(c, 2), '-');
	assert_int_equal(where(c, 8), 'i');
	zone_ok(tz);
	assert_int_equal(berth_zone_reclaim(tz->zone, 8, 0), 8);
	cache_close(c);
	zone_close(tz);
}

/* ---- Clean first, dirty ones are written ------------------------------------------------------------- */

static void clean_pages_go_first(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t first = cache_fill(c, 64);

	(void)state;
	for (unsigned i = 0; i < 64; i += 2)
		cache_dirty(c, first + i);
	assert_int_equal(berth_zone_reclaim(tz->zone, 32, 0), 32);
	assert_int_equal(c->nr_written, 0);
	assert_int_equal(lru_stats(tz).dirty, 32);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(c->dropped[i], first + 2 * i + 1);
	cache_close(c);
	zone_close(tz);
}

/* Only dirty ones are left: they are written, and dropped as soon as that is done. */
static void dirty_pages_are_written_when_clean_ones_do_not_suffice(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t first = cache_fill(c, 10), fresh;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		cache_dirty(c, first + i);
	assert_int_equal(berth_zone_reclaim(tz->zone, 10, 0), 0);
	assert_int_equal(c->nr_written, 10);
	assert_true(tz->port.nr_waits > 0);
	assert_int_equal(lru_stats(tz).writeback, 10);
	assert_int_equal(lru_stats(tz).dirty, 0);
	zone_ok(tz);
	fresh = cache_fill(c, 40);
	cache_end_writes(c, true);
	/* They're at the near end now, before what came later. */
	assert_int_equal(berth_zone_reclaim(tz->zone, 10, 0), 32);
	for (unsigned i = 0; i < 10; i++)
		assert_true(c->dropped[i] < fresh);
	assert_int_equal(c->dropped[10], fresh);
	cache_close(c);
	zone_close(tz);
}

static void writes_that_end_at_once(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t first = cache_fill(c, 10);

	(void)state;
	c->ends_writes = true;
	for (unsigned i = 0; i < 10; i++)
		cache_dirty(c, first + i);
	assert_int_equal(berth_zone_reclaim(tz->zone, 10, BERTH_RECLAIM_WRITE), 10);
	assert_int_equal(c->nr_written, 10);
	cache_close(c);
	zone_close(tz);
}

static void writes_that_are_not_begun_or_fail(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t page = cache_fill(c, 1);

	(void)state;
	c->refuses_writes = true;
	cache_dirty(c, page);
	assert_int_equal(berth_zone_reclaim(tz->zone, 1, BERTH_RECLAIM_WRITE), 0);
	assert_int_equal(flags_of(c, page), BERTH_LRU_IS_DIRTY);
	assert_false(berth_page_pinned(tz->zone, cache_pfn(c, page)));
	assert_int_equal(lru_stats(tz).written, 0);
	c->refuses_writes = false;
	assert_int_equal(berth_zone_reclaim(tz->zone, 1, BERTH_RECLAIM_WRITE), 0);
	c->dirty[page] = true;
	cache_end_writes(c, false);
	assert_int_equal(flags_of(c, page), BERTH_LRU_IS_DIRTY);
	/* Nobody can write for an owner that has no write-back. */
	c->o->ops.writeback = NULL;
	assert_int_equal(berth_zone_reclaim(tz->zone, 1, BERTH_RECLAIM_WRITE), 0);
	zone_ok(tz);
	cache_close(c);
	zone_close(tz);
}

/* The core didn't know; from the owner's answer on it does. */
static void a_page_may_turn_out_to_be_dirty(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t page = cache_fill(c, 1);

	(void)state;
	c->dirty[page] = true;
	c->ends_writes = true;
	assert_int_equal(berth_zone_reclaim(tz->zone, 1, 0), 0);
	assert_int_equal(c->nr_asked, 1);
	assert_int_equal(flags_of(c, page), BERTH_LRU_IS_DIRTY);
	assert_int_equal(berth_zone_reclaim(tz->zone, 1, BERTH_RECLAIM_WRITE), 0);
	assert_int_equal(c->nr_written, 1);
	assert_int_equal(berth_zone_reclaim(tz->zone, 1, 0), 1);
	cache_close(c);
	zone_close(tz);
}

/* ---- A machine of one zone with a cache ---------------------------------------------------------------- */

struct cached {
	struct machine *m;
	struct test_zone *tz;
	struct cache *c;
};

/* 8192 frames, min 256, low 320, high 384; boosted by a factor of 1/10000. */
static struct cached cached_open(uint32_t boost_factor)
{
	struct berth_tunables t;
	struct cached x = { .m = machine_open(.nr_nodes = 1),
			    .tz = zone_open(.nr_pages = 8192, .lru = true) };

	x.m->zones[x.m->nr_zones++] = x.tz;
	assert_int_equal(berth_nodes_add_zone(x.m->nodes, 0, NORMAL, x.tz->zone), 0);
	x.c = cache_open(x.tz, "cache");
	berth_nodes_tunables(x.m->nodes, &t);
	t.min_free_kbytes = 4 * 256;
	t.watermark_boost_factor = boost_factor;
	assert_int_equal(berth_nodes_tune(x.m->nodes, &t), 0);
	assert_int_equal(marks_of(x.tz).mark[BERTH_MARK_HIGH], 384);
	return x;
}

static void cached_close(struct cached x)
{
	machine_ok(x.m);
	cache_close(x.c);
	machine_close(x.m);
}

/* Leaves so many frames free, past all marks; nr_cached of the others are in the cache. */
static void cached_fill(struct cached x, unsigned nr_cached, uint64_t left)
{
	cache_fill(x.c, nr_cached);
	hoard(x.m, x.tz, left);
	x.m->nr_hoard = 0; /* they stay used */
}

static struct berth_kswapd_result run_kswapd(struct cached x, uint64_t budget, unsigned steps,
					     enum berth_kswapd_next expected)
{
	struct berth_kswapd_result result, sum = { 0 };
	enum berth_kswapd_next next = BERTH_KSWAPD_AGAIN;

	for (unsigned i = 0; i < steps && next == BERTH_KSWAPD_AGAIN; i++) {
		next = berth_kswapd_step(x.m->nodes, 0, budget, &result);
		sum.scanned_pages += result.scanned_pages;
		sum.reclaimed_pages += result.reclaimed_pages;
		sum.written_pages += result.written_pages;
		sum.balanced = result.balanced;
	}
	assert_int_equal(next, expected);
	zone_ok(x.tz);
	return sum;
}

/* ---- kswapd -------------------------------------------------------------------------------------------- */

static void kswapd_works_from_low_to_high(void **state)
{
	struct cached x = cached_open(0);
	struct berth_kswapd_result r;

	(void)state;
	cached_fill(x, 1000, 322);
	/* Above low there is nothing to do. */
	r = run_kswapd(x, 0, 1, BERTH_KSWAPD_SLEEP);
	assert_int_equal(r.reclaimed_pages, 0);
	while (x.m->wakes == 0)
		assert_non_null(take(x.m, 0, 0, 0, 0));
	assert_true(zone_free_pages(x.tz) <= 320);
	r = run_kswapd(x, 0, 100, BERTH_KSWAPD_SLEEP);
	assert_true(r.balanced);
	assert_in_range(zone_free_pages(x.tz), 385, 384 + 33); /* above high, by a batch at most */
	assert_int_equal(r.reclaimed_pages, x.c->nr_dropped);
	assert_int_equal(run_kswapd(x, 0, 1, BERTH_KSWAPD_SLEEP).reclaimed_pages, 0);
	assert_int_equal(x.m->reclaims, 0); /* nobody had to do it himself */
	cached_close(x);
}

static void kswapd_keeps_to_its_budget(void **state)
{
	struct cached x = cached_open(0);
	struct berth_kswapd_result r;
	unsigned steps = 0;

	(void)state;
	cached_fill(x, 4000, 100);
	do {
		assert_true(steps++ < 1000);
		r = (struct berth_kswapd_result){ 0 };
		if (berth_kswapd_step(x.m->nodes, 0, 32, &r) != BERTH_KSWAPD_AGAIN)
			break;
		assert_true(r.scanned_pages <= 64);
		assert_false(r.balanced);
	} while (true);
	assert_true(r.balanced);
	assert_true(steps >= 9); /* 285 frames by 32 */
	assert_true(zone_free_pages(x.tz) > 384);
	cached_close(x);
}

/* kswapd writes what is dirty, waits for it, and has its frames then. */
static void kswapd_writes_and_waits(void **state)
{
	struct cached x = cached_open(0);
	uint64_t first = x.c->o->next_page;
	struct berth_kswapd_result r;

	(void)state;
	cached_fill(x, 300, 200);
	for (unsigned i = 0; i < 300; i++)
		cache_dirty(x.c, first + i);
	r = run_kswapd(x, 0, 100, BERTH_KSWAPD_WAIT);
	assert_true(r.written_pages > 0);
	assert_int_equal(r.reclaimed_pages, 0);
	assert_int_equal(lru_stats(x.tz).writeback, r.written_pages);
	x.c->ends_writes = true;
	cache_end_writes(x.c, true);
	r = run_kswapd(x, 0, 100, BERTH_KSWAPD_SLEEP);
	assert_true(r.balanced);
	assert_true(zone_free_pages(x.tz) > 384);
	cached_close(x);
}

/* A boost holds until kswapd has freed so much more. */
static void kswapd_ends_a_boost(void **state)
{
	struct cached x = cached_open(15000);
	unsigned n = 0;

	(void)state;
	/* Everything is movable, so what isn't must take another type's pageblock. */
	cache_fill(x.c, 7400);
	while (!marks_of(x.tz).boost && n++ < 600)
		assert_non_null(take(x.m, 0, 0, BERTH_GFP_MEMALLOC, 0));
	assert_int_equal(marks_of(x.tz).boost, 512);
	while (zone_free_pages(x.tz) > 320)
		assert_non_null(take(x.m, 0, 0, BERTH_GFP_MEMALLOC, 0));
	run_kswapd(x, 0, 100, BERTH_KSWAPD_SLEEP);
	assert_int_equal(marks_of(x.tz).boost, 0);
	assert_true(zone_free_pages(x.tz) > 384 + 512);
	cached_close(x);
}

/* For a large block kswapd makes room, and then the block. */
static void kswapd_compacts_for_the_order_that_was_wanted(void **state)
{
	struct cached x = cached_open(0);
	unsigned owner;
	berth_pfn_t pfn;

	(void)state;
	x.m->movable = true;
	assert_int_equal(berth_nodes_owner_register(x.m->nodes, &owner_ops, x.m, &owner), 0);
	while (!berth_alloc_pages(x.tz->zone, 0, BERTH_GFP_MOVABLE, owner, 0, &pfn))
		if (pfn % 2 == 0 && x.m->nr_hoard < 700)
			x.m->hoard[x.m->nr_hoard++] = pfn;
	free_hoard(x.m, MAX_HOARD);
	assert_int_equal(count_free_blocks(x.tz, 0), 700);
	cache_fill(x.c, 420);
	assert_null(take(x.m, 0, 5, BERTH_GFP_NO_RECLAIM, 0)); /* wakes kswapd */
	assert_int_equal(x.m->wakes, 1);
	run_kswapd(x, 0, 100, BERTH_KSWAPD_SLEEP);
	assert_int_equal(x.m->order_of_calls[0], 'm');
	assert_non_null(take(x.m, 0, 5, BERTH_GFP_ATOMIC, 0));
	cached_close(x);
}

/* Nothing can be freed: kswapd gives up, and isn't woken until somebody else has freed something. */
static void kswapd_gives_up_where_there_is_no_hope(void **state)
{
	struct cached x = cached_open(0);
	uint64_t page = x.c->o->next_page;
	unsigned wakes;

	(void)state;
	cached_fill(x, 40, 260);
	for (unsigned i = 0; i < 40; i++)
		x.c->o->answers[page + i] = TEST_BUSY;
	assert_non_null(take(x.m, 0, 0, BERTH_GFP_NO_RECLAIM, 0));
	assert_int_equal(x.m->wakes, 1);
	assert_false(run_kswapd(x, 0, 1000, BERTH_KSWAPD_SLEEP).balanced);
	assert_non_null(take(x.m, 0, 0, BERTH_GFP_NO_RECLAIM, 0));
	assert_int_equal(x.m->wakes, 1);
	assert_int_equal(berth_kswapd_step(x.m->nodes, 0, 0, NULL), BERTH_KSWAPD_SLEEP);
	for (unsigned i = 0; i < 40; i++)
		x.c->o->answers[page + i] = TEST_MOVES;
	while (x.c->nr_dropped == 0) /* direct reclaim, below min */
		assert_non_null(take(x.m, 0, 0, 0, 0));
	wakes = x.m->wakes;
	while (zone_free_pages(x.tz) > 257)
		assert_non_null(take(x.m, 0, 0, BERTH_GFP_NO_RECLAIM, 0));
	assert_true(x.m->wakes > wakes);
	cached_close(x);
}

static void kswapd_needs_a_node(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 2);

	(void)state;
	assert_int_equal(berth_kswapd_step(m->nodes, 2, 0, NULL), BERTH_KSWAPD_SLEEP);
	assert_int_equal(berth_kswapd_step(m->nodes, 1, 0, NULL), BERTH_KSWAPD_SLEEP);
	machine_close(m);
}

/* ---- Direct reclaim -------------------------------------------------------------------------------------- */

static void below_min_an_allocation_reclaims_a_batch_itself(void **state)
{
	struct cached x = cached_open(0);
	struct berth_nodes_stats s;

	(void)state;
	cached_fill(x, 1000, 256);
	assert_null(take(x.m, 0, 0, BERTH_GFP_NO_RECLAIM, 0));
	assert_int_equal(x.c->nr_dropped, 0);
	assert_non_null(take(x.m, 0, 0, 0, 0));
	assert_int_equal(x.c->nr_dropped, 32);
	assert_int_equal(x.m->reclaims, 0); /* the callback is for what the core doesn't know */
	berth_nodes_stats(x.m->nodes, &s);
	assert_int_equal(s.direct_reclaims, 1);
	assert_int_equal(s.reclaimed_pages, 32);
	cached_close(x);
}

/* It doesn't write while there is something clean; and what other CPUs have batched isn't overlooked. */
static void direct_reclaim_takes_clean_pages_of_all_cpus(void **state)
{
	struct cached x = cached_open(0);
	uint64_t dirty = x.c->o->next_page;

	(void)state;
	cache_fill(x.c, 64);
	for (unsigned i = 0; i < 64; i++)
		cache_dirty(x.c, dirty + i);
	x.c->refuses_writes = true;
	test_set_cpu(1);
	for (unsigned i = 0; i < 10; i++)
		(void)cache_add(x.c, 0);
	test_set_cpu(TEST_NO_CPU);
	berth_pcp_drain_all(x.tz->zone);
	test_set_cpu(1);
	for (unsigned i = 0; i < 4; i++)
		(void)cache_add(x.c, 0);
	test_set_cpu(TEST_NO_CPU);
	while (zone_stats(x.tz).free_pages > 256)
		assert_non_null(take(x.m, 0, 0, BERTH_GFP_MEMALLOC, 0));
	assert_non_null(take(x.m, 0, 0, 0, 0));
	assert_int_equal(x.c->nr_dropped, 14);
	cached_close(x);
}

/* An owner that needs memory to free memory: below min, and reclaim isn't entered again. */
static struct machine *the_machine;

static void allocate_some(struct cache *c)
{
	berth_pfn_t pfn;

	c->on_reclaim = NULL;
	assert_int_equal(berth_node_alloc(the_machine->nodes, 0, 0, BERTH_GFP_MEMALLOC, 0, 0, &pfn),
			 0);
	assert_int_equal(berth_node_free(the_machine->nodes, pfn), 0);
}

static void owners_may_allocate_while_they_reclaim(void **state)
{
	struct cached x = cached_open(0);

	(void)state;
	cached_fill(x, 100, 256);
	the_machine = x.m;
	x.c->on_reclaim = allocate_some;
	assert_non_null(take(x.m, 0, 0, 0, 0));
	assert_null(x.c->on_reclaim);
	cached_close(x);
}

/* ---- Shrinkers --------------------------------------------------------------------------------------------- */

struct objects {
	struct berth_shrinker shrinker;
	struct test_zone *tz;
	uint64_t nr, asked, calls;
	berth_pfn_t frames[4096];
	bool stuck;
};

static uint64_t count_objects(void *ctx)
{
	return ((struct objects *)ctx)->nr;
}

static uint64_t scan_objects(void *ctx, uint64_t nr, uint64_t *pages)
{
	struct objects *o = ctx;
	uint64_t freed = 0;

	o->asked += nr;
	o->calls++;
	if (o->stuck)
		return BERTH_SHRINK_STOP;
	for (; freed < nr && o->nr; freed++)
		assert_int_equal(berth_free_pages(o->tz->zone, o->frames[--o->nr]), 0);
	*pages += freed;
	return freed;
}

static struct objects *objects_open(struct test_zone *tz, uint64_t nr)
{
	struct objects *o = test_zalloc(1, sizeof(*o));

	o->shrinker = (struct berth_shrinker){ .count = count_objects,
					       .scan = scan_objects,
					       .ctx = o,
					       .seeks = 2 };
	o->tz = tz;
	for (; o->nr < nr; o->nr++)
		assert_int_equal(berth_alloc_pages(tz->zone, 0, BERTH_GFP_RECLAIMABLE, 0, 0,
						   &o->frames[o->nr]),
				 0);
	return o;
}

/* The share is 4 / seeks of the objects by priority; what is less than a portion adds up. */
static void shrinkers_give_their_share(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 8192);
	struct objects *o = objects_open(tz, 4096);

	(void)state;
	assert_int_equal(berth_shrinker_register(tz->zone, &o->shrinker), 0);
	/* 2 at priority 12, 4 at 11, 8, 16, 32, 64 at 7, 128 at 6: a portion at last. */
	assert_int_equal(berth_zone_reclaim(tz->zone, 100, 0), 128);
	assert_int_equal(o->calls, 1);
	assert_int_equal(o->asked, 128);
	/* What it was spared of, 126 then, was remembered, and comes with a lower priority. */
	assert_int_equal(o->shrinker.nr_deferred, 2 + 4 + 8 + 16 + 32 + 64);
	berth_shrinker_unregister(tz->zone, &o->shrinker);
	assert_int_equal(berth_zone_reclaim(tz->zone, 100, 0), 0);
	while (o->nr)
		assert_int_equal(berth_free_pages(tz->zone, o->frames[--o->nr]), 0);
	free(o);
	zone_close(tz);
}

static void shrinkers_that_can_not_are_left_alone(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 8192);
	struct objects *o = objects_open(tz, 512), *second = objects_open(tz, 0);
	struct berth_shrinker bad = { .count = count_objects };

	(void)state;
	assert_int_equal(berth_shrinker_register(tz->zone, &bad), -BERTH_EINVAL);
	assert_int_equal(berth_shrinker_register(tz->zone, NULL), -BERTH_EINVAL);
	o->stuck = true;
	assert_int_equal(berth_shrinker_register(tz->zone, &second->shrinker), 0);
	assert_int_equal(berth_shrinker_register(tz->zone, &o->shrinker), 0);
	assert_int_equal(berth_zone_reclaim(tz->zone, 100, 0), 0);
	assert_in_range(o->calls, 1, 13);
	assert_int_equal(second->calls, 0); /* it has nothing */
	assert_true(o->shrinker.nr_deferred <= 2 * 512);
	o->stuck = false;
	o->shrinker.seeks = 0; /* half of it at once */
	assert_true(berth_zone_reclaim(tz->zone, 1, 0) >= 256);
	berth_shrinker_unregister(tz->zone, &o->shrinker);
	berth_shrinker_unregister(tz->zone, &second->shrinker);
	while (o->nr)
		assert_int_equal(berth_free_pages(tz->zone, o->frames[--o->nr]), 0);
	free(o);
	free(second);
	zone_close(tz);
}

/* Nodes have shrinkers for all their zones: an allocation below min and kswapd ask them. */
static void allocations_and_kswapd_ask_shrinkers(void **state)
{
	struct cached x = cached_open(0);
	struct objects *o = objects_open(x.tz, 2048);

	(void)state;
	assert_int_equal(berth_nodes_shrinker_register(x.m->nodes, &o->shrinker), 0);
	cached_fill(x, 0, 256);
	assert_non_null(take(x.m, 0, 0, 0, 0));
	assert_int_equal(2048 - o->nr, 128);
	assert_int_equal(x.m->ooms, 0);
	while (zone_free_pages(x.tz) > 300)
		assert_non_null(take(x.m, 0, 0, 0, 0));
	run_kswapd(x, 0, 100, BERTH_KSWAPD_SLEEP);
	assert_true(zone_free_pages(x.tz) > 384);
	berth_nodes_shrinker_unregister(x.m->nodes, &o->shrinker);
	free(o);
	cached_close(x);
}

/* ---- Claims and compaction ----------------------------------------------------------------------------------- */

/* What is clean and unused needn't be moved. */
static void a_claim_drops_clean_pages_and_moves_the_rest(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	struct test_owner *o = owner_open(tz, "movable");
	struct berth_claim_report report;
	uint64_t first = cache_fill(c, 100);
	berth_pfn_t start = cache_pfn(c, first) & ~511ull;

	(void)state;
	for (unsigned i = 0; i < 50; i++)
		(void)owner_alloc(o, 0);
	for (unsigned i = 0; i < 10; i++)
		cache_dirty(c, first + i);
	berth_lru_activate(tz->zone, cache_pfn(c, first + 10));
	berth_lru_mark_accessed(tz->zone, cache_pfn(c, first + 11));
	c->young[first + 12] = 1;
	assert_int_equal(berth_alloc_contig_range(tz->zone, start, 512, NULL, &report), 0);
	assert_int_equal(report.dropped_pages, 100 - 13);
	assert_int_equal(report.moved_pages, 50 + 13);
	assert_int_equal(c->nr_dropped, 87);
	zone_ok(tz);
	assert_int_equal(berth_free_contig_range(tz->zone, start, 512), 0);
	owner_close(o);
	cache_close(c);
	zone_close(tz);
}

static void a_claim_may_drop_all_that_is_clean(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	struct berth_claim_params params = { .flags = BERTH_CLAIM_DROP };
	struct berth_claim_report report;
	uint64_t first = cache_fill(c, 100);
	berth_pfn_t start = cache_pfn(c, first) & ~511ull;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		cache_dirty(c, first + i);
	for (unsigned i = 10; i < 60; i++)
		berth_lru_activate(tz->zone, cache_pfn(c, first + i));
	assert_int_equal(berth_lru_set_unevictable(tz->zone, cache_pfn(c, first + 10), 1, true), 0);
	assert_int_equal(berth_alloc_contig_range(tz->zone, start, 512, &params, &report), 0);
	assert_int_equal(report.dropped_pages, 89);
	assert_int_equal(report.moved_pages, 11);
	assert_int_equal(where(c, first + 10), 'u');
	assert_int_equal(berth_free_contig_range(tz->zone, start, 512), 0);
	cache_close(c);
	zone_close(tz);
}

/* From the owner's answer on the core knows: it doesn't ask to drop that page again. */
static void a_claim_may_learn_that_a_page_is_dirty(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	struct berth_claim_report report;
	uint64_t first = cache_fill(c, 2);
	berth_pfn_t start = cache_pfn(c, first) & ~511ull;

	(void)state;
	c->dirty[first] = true;
	assert_int_equal(berth_alloc_contig_range(tz->zone, start, 512, NULL, &report), 0);
	assert_int_equal(report.dropped_pages, 1);
	assert_int_equal(report.moved_pages, 1);
	assert_int_equal(flags_of(c, first), BERTH_LRU_IS_DIRTY);
	assert_int_equal(lru_stats(tz).dirty, 1);
	assert_int_equal(berth_free_contig_range(tz->zone, start, 512), 0);
	assert_int_equal(berth_zone_reclaim(tz->zone, 1, 0), 0);
	assert_int_equal(c->nr_asked, 2);
	zone_ok(tz);
	cache_close(c);
	zone_close(tz);
}

/* An owner may refuse, and pages may become dirty or pinned when they have been chosen: all of them are moved or
 * make the claim go on, with what is in them. */
static void dirty_them_now(struct cache *c)
{
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(berth_lru_set_dirty(c->zone, cache_pfn(c, i), 1), 0);
	for (unsigned i = 10; i < 20; i++)
		c->young[i] = 1; /* it answers REFERENCED */
	for (unsigned i = 20; i < 30; i++)
		c->dirty[i] = true; /* it answers DIRTY */
	c->on_reclaim = NULL;
}

static void what_changes_under_a_claim_is_not_dropped(void **state)
{
	struct test_zone *tz = zone_open(.lru = true, .nr_pages = 2048);
	struct berth_cma *area = area_declare(tz, "area", 512, 512, 0, BERTH_LEND_FIRST);
	struct cache *c = cache_open(tz, "cache");
	const struct berth_claim_params params = { .nr_pages = 512 };
	struct berth_claim_report report;
	uint64_t events[BERTH_NR_EVENTS];
	berth_pfn_t pfn;

	(void)state;
	assert_int_equal(cache_fill(c, 100), 0);
	c->on_reclaim = dirty_them_now;
	assert_int_equal(berth_cma_alloc(area, &params, &pfn, &report), 0);
	assert_int_equal(report.dropped_pages, 70);
	assert_int_equal(report.moved_pages, 30);
	assert_int_equal(c->nr_dropped, 70);
	for (unsigned i = 0; i < 30; i++) {
		bool dirty = i < 10 || i >= 20;

		assert_int_equal(flags_of(c, i), dirty ? BERTH_LRU_IS_DIRTY : 0);
	}
	owner_verify(c->o);
	assert_int_equal(lru_stats(tz).dirty, 20);
	assert_int_equal(lru_stats(tz).dropped, 70);
	berth_zone_events(tz->zone, events);
	assert_int_equal(events[BERTH_EVENT_CLAIM_DROP], 70);
	zone_ok(tz);
	assert_int_equal(berth_cma_release(area, pfn, 512), 0);
	cache_close(c);
	zone_close(tz);
}

/* A claim of an area too, of batched pages too, and while the zone is so full that nothing could move. */
static void a_claim_of_an_area_drops_what_has_borrowed_it(void **state)
{
	struct test_zone *tz = zone_open(.lru = true, .nr_pages = 2048);
	struct berth_cma *area = area_declare(tz, "area", 512, 512, 0, BERTH_LEND_FIRST);
	struct cache *c = cache_open(tz, "cache");
	const struct berth_claim_params params = { .nr_pages = 512, .flags = BERTH_CLAIM_DROP };
	struct berth_claim_report report;
	uint64_t page;
	berth_pfn_t pfn;

	(void)state;
	test_set_cpu(0);
	while (!owner_try_alloc(c->o, 0, BERTH_GFP_MOVABLE | BERTH_GFP_LRU, &page))
		assert_int_equal(berth_lru_add(tz->zone, cache_pfn(c, page), 1), 0);
	assert_int_equal(zone_free_pages(tz), 0);
	assert_int_equal(berth_cma_alloc(area, &params, &pfn, &report), 0);
	assert_int_equal(report.dropped_pages, 512);
	assert_int_equal(report.moved_pages, 0);
	test_set_cpu(TEST_NO_CPU);
	zone_ok(tz);
	assert_int_equal(berth_cma_release(area, pfn, 512), 0);
	cache_close(c);
	zone_close(tz);
}

/* Compaction never drops, and can be told to leave locked pages where they are. */
static void compaction_moves_and_leaves_locked_pages(void **state)
{
	struct test_zone *tz = zone_open(.lru = true, .nr_pages = 1024);
	struct cache *c = cache_open(tz, "cache");
	struct berth_compact_params params = { .order = 9,
					       .mode = BERTH_COMPACT_SYNC,
					       .flags = BERTH_COMPACT_FORCE |
							BERTH_COMPACT_EVICTABLE_ONLY };
	berth_pfn_t keep[20];

	(void)state;
	owner_exhaust(c->o, 0, BERTH_GFP_MOVABLE | BERTH_GFP_LRU);
	for (unsigned i = 0; i < 20; i++)
		keep[i] = i * 50;
	owner_keep_only(c->o, keep, 20);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(berth_lru_add(tz->zone, keep[i], 1), 0);
		assert_int_equal(berth_lru_set_unevictable(tz->zone, keep[i], 1, true), 0);
	}
	assert_int_equal(berth_compact(tz->zone, &params, NULL), -BERTH_EBUSY);
	assert_int_equal(c->o->nr_moved_pages, 0);
	params.flags = BERTH_COMPACT_FORCE;
	assert_int_equal(berth_compact(tz->zone, &params, NULL), 0);
	assert_in_range(c->o->nr_moved_pages, 1, 20);
	assert_int_equal(c->nr_asked, 0);
	assert_int_equal(on_list(tz, BERTH_LRU_UNEVICTABLE), 20);
	zone_ok(tz);
	cache_close(c);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_longest_unused_goes_first),
		cmocka_unit_test(reclaim_stops_when_it_has_enough),
		cmocka_unit_test(a_page_in_use_gets_a_second_chance),
		cmocka_unit_test(active_pages_come_back_when_inactive_ones_are_few),
		cmocka_unit_test(what_can_not_be_dropped_stays),
		cmocka_unit_test(large_blocks_are_dropped_whole),
		cmocka_unit_test(what_changes_meanwhile_is_looked_at_again),
		cmocka_unit_test(clean_pages_go_first),
		cmocka_unit_test(dirty_pages_are_written_when_clean_ones_do_not_suffice),
		cmocka_unit_test(writes_that_end_at_once),
		cmocka_unit_test(writes_that_are_not_begun_or_fail),
		cmocka_unit_test(a_page_may_turn_out_to_be_dirty),
		cmocka_unit_test(kswapd_works_from_low_to_high),
		cmocka_unit_test(kswapd_keeps_to_its_budget),
		cmocka_unit_test(kswapd_writes_and_waits),
		cmocka_unit_test(kswapd_ends_a_boost),
		cmocka_unit_test(kswapd_compacts_for_the_order_that_was_wanted),
		cmocka_unit_test(kswapd_gives_up_where_there_is_no_hope),
		cmocka_unit_test(kswapd_needs_a_node),
		cmocka_unit_test(below_min_an_allocation_reclaims_a_batch_itself),
		cmocka_unit_test(direct_reclaim_takes_clean_pages_of_all_cpus),
		cmocka_unit_test(owners_may_allocate_while_they_reclaim),
		cmocka_unit_test(shrinkers_give_their_share),
		cmocka_unit_test(shrinkers_that_can_not_are_left_alone),
		cmocka_unit_test(allocations_and_kswapd_ask_shrinkers),
		cmocka_unit_test(a_claim_drops_clean_pages_and_moves_the_rest),
		cmocka_unit_test(a_claim_may_drop_all_that_is_clean),
		cmocka_unit_test(a_claim_may_learn_that_a_page_is_dirty),
		cmocka_unit_test(what_changes_under_a_claim_is_not_dropped),
		cmocka_unit_test(a_claim_of_an_area_drops_what_has_borrowed_it),
		cmocka_unit_test(compaction_moves_and_leaves_locked_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
