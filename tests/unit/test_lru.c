/* SPDX-License-Identifier: MIT */
/*
 * The LRU lists: how blocks get onto them, from one to the other and off again, and that they stay true to
 * what is freed, split and moved. What reclaim does with them is in test_reclaim.c.
 */
#include "core/internal.h"
#include "tests/include/testlru.h"

static struct cache *open_on_cpu(struct test_zone **tz, unsigned cpu)
{
	*tz = zone_open(.lru = true);
	test_set_cpu(cpu);
	return cache_open(*tz, "cache");
}

static void end(struct test_zone *tz, struct cache *c)
{
	test_set_cpu(TEST_NO_CPU);
	zone_ok(tz);
	cache_close(c);
	zone_close(tz);
}

/* ---- Onto the lists ------------------------------------------------------------------------------ */

static void additions_come_in_batches_of_15(void **state)
{
	struct test_zone *tz;
	struct cache *c = open_on_cpu(&tz, 0);

	(void)state;
	for (unsigned i = 0; i < 14; i++)
		assert_int_equal(where(c, cache_add(c, 0)), 'b');
	assert_int_equal(lru_stats(tz).batched, 14);
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 0);
	zone_ok(tz);
	(void)cache_add(c, 0);
	assert_int_equal(lru_stats(tz).batched, 0);
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 15);
	for (uint64_t page = 0; page < 15; page++)
		assert_int_equal(where(c, page), 'i');
	end(tz, c);
}

/* Who has no CPU of its own, and what is larger than a page, goes onto the list at once. */
static void some_additions_are_not_batched(void **state)
{
	struct test_zone *tz;
	struct cache *c = open_on_cpu(&tz, 0);
	uint64_t page;

	(void)state;
	page = cache_add(c, 3);
	assert_int_equal(where(c, page), 'i');
	assert_int_equal(where(c, page + 7), 'i'); /* of the block that holds it */
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 8);
	test_set_cpu(TEST_NO_CPU);
	assert_int_equal(where(c, cache_add(c, 0)), 'i');
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 9);
	end(tz, c);
}

static void batches_work_without_a_barrier_for_all_cpus(void **state)
{
	struct test_zone *tz = zone_open(.lru = true, .port = &test_port_ops_no_barrier);
	struct cache *c;

	(void)state;
	test_set_cpu(1);
	c = cache_open(tz, "cache");
	for (unsigned i = 0; i < 14; i++)
		assert_int_equal(where(c, cache_add(c, 0)), 'b');
	berth_lru_add_drain_all(tz->zone);
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 14);
	end(tz, c);
}

static void draining_one_cpu_or_all(void **state)
{
	struct test_zone *tz;
	struct cache *c = open_on_cpu(&tz, 0);
	uint64_t here = cache_add(c, 0), there;

	(void)state;
	test_set_cpu(1);
	there = cache_add(c, 0);
	berth_lru_add_drain(tz->zone);
	assert_int_equal(where(c, there), 'i');
	assert_int_equal(where(c, here), 'b');
	berth_lru_add_drain_all(tz->zone);
	assert_int_equal(where(c, here), 'i');
	end(tz, c);
}

static void while_batches_are_disabled_everything_acts_at_once(void **state)
{
	struct test_zone *tz;
	struct cache *c = open_on_cpu(&tz, 0);
	uint64_t page = cache_add(c, 0);

	(void)state;
	berth_lru_cache_disable(tz->zone);
	berth_lru_cache_disable(tz->zone);
	assert_int_equal(where(c, page), 'i'); /* flushed */
	assert_int_equal(where(c, cache_add(c, 0)), 'i');
	berth_lru_cache_enable(tz->zone);
	assert_int_equal(where(c, cache_add(c, 0)), 'i'); /* the other one is still at it */
	berth_lru_cache_enable(tz->zone);
	assert_int_equal(where(c, cache_add(c, 0)), 'b');
	end(tz, c);
}

static void who_can_not_be_on_a_list(void **state)
{
	struct test_zone *tz = zone_open(.lru = true), *plain = zone_open(.start_pfn = 1 << 20);
	struct cache *c = cache_open(tz, "cache");
	struct test_owner *o = owner_open(tz, "keeps all");
	uint64_t page = cache_new(c, 0), fixed = owner_alloc(o, 0);
	berth_pfn_t pfn = BERTH_PFN_NONE;

	(void)state;
	/* Allocated without BERTH_GFP_LRU, not at all, or not in the zone. */
	assert_int_equal(berth_lru_add(tz->zone, o->table[fixed], 1), -BERTH_EINVAL);
	assert_int_equal(berth_lru_add(tz->zone, 4000, 1), -BERTH_EINVAL);
	assert_int_equal(berth_lru_add(tz->zone, 4096, 1), -BERTH_EINVAL);
	assert_int_equal(berth_lru_add(tz->zone, cache_pfn(c, page), 0), -BERTH_EINVAL);
	assert_int_equal(berth_lru_set_dirty(tz->zone, o->table[fixed], 1), -BERTH_EINVAL);
	assert_int_equal(berth_lru_begin_writeback(tz->zone, 4000, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_lru_end_writeback(tz->zone, cache_pfn(c, page), true),
			 -BERTH_EINVAL);
	berth_lru_mark_accessed(tz->zone, o->table[fixed]);
	/* Twice. */
	assert_int_equal(berth_lru_add(tz->zone, cache_pfn(c, page), 1), 0);
	assert_int_equal(berth_lru_add(tz->zone, cache_pfn(c, page), 1), -BERTH_EINVAL);
	/* The flag is for owners that can reclaim, in zones with lists. */
	assert_int_equal(owner_try_alloc(o, 0, BERTH_GFP_MOVABLE | BERTH_GFP_LRU, &page),
			 -BERTH_EINVAL);
	assert_int_equal(berth_alloc_pages(tz->zone, 0, BERTH_GFP_LRU, 0, 0, &pfn), -BERTH_EINVAL);
	assert_int_equal(berth_alloc_pages(plain->zone, 0, BERTH_GFP_LRU, 0, 0, &pfn),
			 -BERTH_EINVAL);
	assert_int_equal(berth_lru_add(plain->zone, 1 << 20, 1), -BERTH_EINVAL);
	assert_int_equal(berth_zone_reclaim(plain->zone, 10, 0), 0);
	berth_lru_add_drain(plain->zone);
	owner_close(o);
	cache_close(c);
	zone_close(plain);
	zone_close(tz);
}

/* A range is all or nothing, however it is divided into blocks. */
static void ranges_of_blocks(void **state)
{
	struct test_zone *tz;
	struct cache *c = open_on_cpu(&tz, 0);
	uint64_t page = cache_new(c, 4);
	berth_pfn_t pfn = cache_pfn(c, page);

	(void)state;
	assert_int_equal(berth_split_pages(tz->zone, pfn + 0, 2), 0);
	assert_int_equal(berth_lru_add(tz->zone, pfn, 4), 0);
	assert_int_equal(berth_lru_add(tz->zone, pfn, 16), -BERTH_EINVAL);
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 4);
	assert_int_equal(berth_lru_add(tz->zone, pfn + 4, 12), 0);
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 16);
	assert_int_equal(berth_lru_set_dirty(tz->zone, pfn + 5, 4), 0); /* touches two */
	assert_int_equal(lru_stats(tz).dirty, 8);
	assert_int_equal(berth_lru_set_dirty(tz->zone, pfn, 16), 0);
	assert_int_equal(lru_stats(tz).dirty, 16);
	assert_int_equal(berth_lru_clear_dirty(tz->zone, pfn + 1, 1), 0);
	assert_int_equal(lru_stats(tz).dirty, 12);
	assert_int_equal(berth_lru_del(tz->zone, pfn, 16), 0);
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 0);
	assert_int_equal(where(c, page), '-');
	end(tz, c);
}

/* ---- From one to the other ----------------------------------------------------------------------- */

static void the_second_use_activates(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t page = cache_fill(c, 1);

	(void)state;
	berth_lru_mark_accessed(tz->zone, cache_pfn(c, page));
	assert_int_equal(where(c, page), 'i');
	assert_int_equal(flags_of(c, page), BERTH_LRU_IS_REFERENCED);
	berth_lru_mark_accessed(tz->zone, cache_pfn(c, page));
	assert_int_equal(where(c, page), 'a');
	assert_int_equal(flags_of(c, page), 0);
	berth_lru_mark_accessed(tz->zone, cache_pfn(c, page));
	assert_int_equal(flags_of(c, page), BERTH_LRU_IS_REFERENCED);
	berth_lru_mark_accessed(tz->zone, cache_pfn(c, page)); /* as active as can be */
	assert_int_equal(where(c, page), 'a');
	assert_int_equal(lru_stats(tz).activated, 1);
	cache_close(c);
	zone_close(tz);
}

/* The same for a page that waits in a batch: it needn't get to the inactive list first. */
static void a_batched_page_can_be_activated(void **state)
{
	struct test_zone *tz;
	struct cache *c = open_on_cpu(&tz, 0);
	uint64_t page = cache_add(c, 0);

	(void)state;
	test_set_cpu(1); /* used there, added here */
	berth_lru_mark_accessed(tz->zone, cache_pfn(c, page));
	berth_lru_mark_accessed(tz->zone, cache_pfn(c, page));
	berth_lru_add_drain(tz->zone);
	assert_int_equal(where(c, page), 'a');
	berth_lru_add_drain_all(tz->zone); /* the addition has nothing left to do */
	assert_int_equal(where(c, page), 'a');
	end(tz, c);
}

static void activations_come_in_batches_too(void **state)
{
	struct test_zone *tz;
	struct cache *c = open_on_cpu(&tz, 0);
	uint64_t first = cache_fill(c, 30);

	(void)state;
	for (unsigned i = 0; i < 14; i++)
		berth_lru_activate(tz->zone, cache_pfn(c, first + i));
	assert_int_equal(on_list(tz, BERTH_LRU_ACTIVE), 0);
	berth_lru_activate(tz->zone, cache_pfn(c, first + 14));
	assert_int_equal(on_list(tz, BERTH_LRU_ACTIVE), 15);
	for (unsigned i = 0; i < 14; i++)
		berth_lru_deactivate(tz->zone, cache_pfn(c, first + i));
	assert_int_equal(on_list(tz, BERTH_LRU_ACTIVE), 15);
	berth_lru_deactivate(tz->zone, cache_pfn(c, first + 14));
	assert_int_equal(on_list(tz, BERTH_LRU_ACTIVE), 0);
	assert_int_equal(lru_stats(tz).activated, 15);
	assert_int_equal(lru_stats(tz).deactivated, 15);
	end(tz, c);
}

/* The longest on the list goes first, unless another one is rotated there. */
static void rotation_brings_a_page_to_the_near_end(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t first = cache_fill(c, 100);

	(void)state;
	berth_lru_rotate(tz->zone, cache_pfn(c, first + 70));
	cache_dirty(c, first + 60);
	berth_lru_rotate(tz->zone, cache_pfn(c, first + 60)); /* no use: it can't be dropped */
	assert_int_equal(berth_zone_reclaim(tz->zone, 1, 0), 32);
	assert_int_equal(c->dropped[0], first + 70);
	for (unsigned i = 1; i < 32; i++)
		assert_int_equal(c->dropped[i], first + i - 1);
	assert_int_equal(berth_lru_clear_dirty(tz->zone, cache_pfn(c, first + 60), 1), 0);
	cache_close(c);
	zone_close(tz);
}

/* ---- Unevictable ---------------------------------------------------------------------------------- */

static void locked_pages_wait_on_their_own_list(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t early = cache_new(c, 0), late = cache_fill(c, 1);

	(void)state;
	/* Said before it's on a list, and after. */
	assert_int_equal(berth_lru_set_unevictable(tz->zone, cache_pfn(c, early), 1, true), 0);
	assert_int_equal(where(c, early), '-');
	assert_int_equal(berth_lru_add(tz->zone, cache_pfn(c, early), 1), 0);
	assert_int_equal(where(c, early), 'u');
	assert_int_equal(berth_lru_set_unevictable(tz->zone, cache_pfn(c, late), 1, true), 0);
	assert_int_equal(where(c, late), 'u');
	assert_int_equal(berth_lru_set_unevictable(tz->zone, cache_pfn(c, late), 1, true), 0);
	assert_int_equal(on_list(tz, BERTH_LRU_UNEVICTABLE), 2);
	/* Neither use nor need changes that. */
	berth_lru_mark_accessed(tz->zone, cache_pfn(c, late));
	berth_lru_mark_accessed(tz->zone, cache_pfn(c, late));
	berth_lru_activate(tz->zone, cache_pfn(c, late));
	assert_int_equal(where(c, late), 'u');
	assert_int_equal(berth_zone_reclaim(tz->zone, 2, 0), 0);
	assert_int_equal(c->nr_asked, 0);
	assert_int_equal(berth_lru_set_unevictable(tz->zone, cache_pfn(c, late), 1, false), 0);
	assert_int_equal(where(c, late), 'i');
	assert_int_equal(berth_zone_reclaim(tz->zone, 2, 0), 1);
	cache_close(c);
	zone_close(tz);
}

/* ---- Freed, split, moved --------------------------------------------------------------------------- */

static void a_freed_page_is_on_no_list(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t first = cache_fill(c, 3), large = cache_add(c, 4);

	(void)state;
	cache_dirty(c, first + 1);
	owner_free(c->o, first + 1);
	owner_free(c->o, first); /* an end of the list */
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 17);
	assert_int_equal(lru_stats(tz).dirty, 0);
	owner_free(c->o, large);
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 1);
	/* Part of a block by part, too. */
	large = cache_add(c, 4);
	owner_unmap(c->o, large + 3, 6);
	assert_int_equal(berth_free_range(tz->zone, cache_pfn(c, large) + 3, 6, c->o->id), 0);
	zone_ok(tz);
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 1 + 10);
	cache_close(c);
	zone_close(tz);
}

/* A batch's entry outlives the page that it is about; whatever the frame is by then, it does no harm. */
static void a_freed_page_leaves_nothing_in_a_batch_that_counts(void **state)
{
	struct test_zone *tz;
	struct cache *c = open_on_cpu(&tz, 0);
	struct test_owner *o = owner_open(tz, "other");
	uint64_t page = cache_add(c, 0), again;
	berth_pfn_t pfn = cache_pfn(c, page);

	(void)state;
	owner_free(c->o, page);
	assert_int_equal(lru_stats(tz).batched, 1);
	again = owner_alloc(o, 0);
	assert_int_equal(o->table[again], pfn); /* the same frame, another's and on no list */
	berth_lru_add_drain_all(tz->zone);
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 0);
	zone_ok(tz);
	/* Again the cache's, and batched by another CPU: the old entry brings it to its list early. */
	owner_free(o, again);
	page = cache_add(c, 0);
	owner_free(c->o, page);
	page = cache_new(c, 0);
	assert_int_equal(cache_pfn(c, page), pfn);
	test_set_cpu(1);
	assert_int_equal(berth_lru_add(tz->zone, pfn, 1), 0);
	test_set_cpu(0);
	berth_lru_add_drain(tz->zone);
	assert_int_equal(where(c, page), 'i');
	berth_lru_add_drain_all(tz->zone);
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 1);
	owner_close(o);
	end(tz, c);
}

static void the_pieces_of_a_block_are_what_it_was(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t before = cache_fill(c, 1), block = cache_add(c, 3), after = cache_fill(c, 1);

	(void)state;
	assert_int_equal(berth_lru_set_dirty(tz->zone, cache_pfn(c, block), 8), 0);
	berth_lru_mark_accessed(tz->zone, cache_pfn(c, block));
	assert_int_equal(berth_split_pages(tz->zone, cache_pfn(c, block), 1), 0);
	zone_ok(tz);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(where(c, block + i), 'i');
		assert_int_equal(flags_of(c, block + i),
				 BERTH_LRU_IS_DIRTY | BERTH_LRU_IS_REFERENCED);
	}
	assert_int_equal(lru_stats(tz).dirty, 8);
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 10);
	/* They stand where it stood: between those that came before and after. */
	assert_int_equal(berth_lru_clear_dirty(tz->zone, cache_pfn(c, block), 8), 0);
	assert_int_equal(berth_zone_reclaim(tz->zone, 10, 0), 10);
	assert_int_equal(c->dropped[0], before);
	assert_int_equal(c->dropped[5], after);
	cache_close(c);
	zone_close(tz);
}

/* A claim moves what it can't drop: with its flags, and to its place in the list. */
static void a_moved_page_keeps_its_place(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t first = cache_fill(c, 20);
	berth_pfn_t start = cache_pfn(c, first) & ~511ull;

	(void)state;
	for (unsigned i = 0; i < 20; i++)
		cache_dirty(c, first + i);
	assert_int_equal(berth_lru_set_unevictable(tz->zone, cache_pfn(c, first + 7), 1, true), 0);
	berth_lru_activate(tz->zone, cache_pfn(c, first + 9));
	berth_lru_mark_accessed(tz->zone, cache_pfn(c, first + 11));
	assert_int_equal(berth_alloc_contig_range(tz->zone, start, 512, NULL, NULL), 0);
	zone_ok(tz);
	assert_int_equal(c->o->nr_moved_pages, 20);
	assert_int_equal(where(c, first + 7), 'u');
	assert_int_equal(where(c, first + 9), 'a');
	assert_int_equal(flags_of(c, first + 11), BERTH_LRU_IS_DIRTY | BERTH_LRU_IS_REFERENCED);
	assert_int_equal(lru_stats(tz).dirty, 20);
	for (unsigned i = 0; i < 20; i++) {
		c->dirty[first + i] = false;
		assert_int_equal(berth_lru_clear_dirty(tz->zone, cache_pfn(c, first + i), 1), 0);
	}
	assert_int_equal(berth_zone_reclaim(tz->zone, 18, 0), 18);
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(c->dropped[i], first + i);
	assert_int_equal(c->dropped[7], first + 8);
	assert_int_equal(berth_free_contig_range(tz->zone, start, 512), 0);
	cache_close(c);
	zone_close(tz);
}

/* ---- Write-back ------------------------------------------------------------------------------------ */

static void a_page_that_is_written_stays_where_it_is(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t page = cache_fill(c, 1);
	berth_pfn_t pfn = cache_pfn(c, page);
	struct berth_claim_report report;
	unsigned order = 99;

	(void)state;
	cache_dirty(c, page);
	assert_int_equal(berth_lru_begin_writeback(tz->zone, pfn, &order), 0);
	assert_int_equal(order, 0);
	assert_int_equal(flags_of(c, page), BERTH_LRU_IS_WRITEBACK);
	assert_int_equal(lru_stats(tz).dirty, 0);
	assert_int_equal(lru_stats(tz).writeback, 1);
	assert_int_equal(berth_lru_begin_writeback(tz->zone, pfn, NULL), -BERTH_EBUSY);
	c->dirty[page] = false;
	assert_int_equal(berth_zone_reclaim(tz->zone, 1, 0), 0);
	assert_int_equal(berth_alloc_contig_range(tz->zone, pfn, 1, NULL, &report), -BERTH_EBUSY);
	assert_int_equal(report.blocker_pfn, pfn);
	assert_int_equal(berth_lru_end_writeback(tz->zone, pfn, true), 0);
	assert_int_equal(flags_of(c, page), 0);
	assert_int_equal(berth_lru_end_writeback(tz->zone, pfn, true), -BERTH_EINVAL);
	assert_int_equal(berth_zone_reclaim(tz->zone, 1, 0), 1);
	cache_close(c);
	zone_close(tz);
}

static void a_failed_write_leaves_the_page_dirty(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t page = cache_add(c, 2);

	(void)state;
	assert_int_equal(berth_lru_set_dirty(tz->zone, cache_pfn(c, page), 1), 0);
	assert_int_equal(berth_lru_begin_writeback(tz->zone, cache_pfn(c, page), NULL), 0);
	assert_int_equal(lru_stats(tz).writeback, 4);
	assert_int_equal(berth_lru_end_writeback(tz->zone, cache_pfn(c, page), false), 0);
	assert_int_equal(flags_of(c, page), BERTH_LRU_IS_DIRTY);
	assert_int_equal(lru_stats(tz).dirty, 4);
	cache_close(c);
	zone_close(tz);
}

/* Its frame is free when the write ends, not before. */
static void a_page_may_be_freed_while_it_is_written(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t page = cache_fill(c, 1), free = zone_free_pages(tz);
	berth_pfn_t pfn = cache_pfn(c, page);

	(void)state;
	assert_int_equal(berth_lru_begin_writeback(tz->zone, pfn, NULL), 0);
	owner_free(c->o, page);
	assert_int_equal(zone_free_pages(tz), free);
	assert_int_equal(on_list(tz, BERTH_LRU_INACTIVE), 0);
	assert_int_equal(lru_stats(tz).writeback, 1);
	assert_int_equal(berth_lru_end_writeback(tz->zone, pfn, false), 0);
	assert_int_equal(zone_free_pages(tz), free + 1);
	assert_int_equal(lru_stats(tz).writeback, 0);
	assert_int_equal(lru_stats(tz).dirty, 0);
	cache_close(c);
	zone_close(tz);
}

/* ---- The check ------------------------------------------------------------------------------------- */

/* Three pages on the inactive list, a batched one, a locked block of 4 and one that is being written. */
struct scene {
	struct test_zone *tz;
	struct cache *c;
	uint64_t first, batched, locked, written;
};

static struct berth_zone *zone_of(struct scene *s)
{
	return s->tz->zone;
}

static berth_idx_t idx_of(struct scene *s, uint64_t page)
{
	return (berth_idx_t)(cache_pfn(s->c, page) - zone_of(s)->base_pfn);
}

static void set_state(struct scene *s, berth_idx_t idx, unsigned state)
{
	atomic_store(&zone_of(s)->lru_state[idx], (uint8_t)state);
}

static void add_to(_Atomic uint64_t *counter)
{
	atomic_fetch_add(counter, 1);
}

static void state_of_a_free_frame(struct scene *s)
{
	set_state(s, 4000, BERTH_LRU_DIRTY);
}

static void state_of_a_tail(struct scene *s)
{
	set_state(s, idx_of(s, s->locked) + 1, BERTH_LRU_REFERENCED);
}

static void page_on_another_list(struct scene *s)
{
	set_state(s, idx_of(s, s->first), BERTH_LRU_IN_LIST + BERTH_LRU_ACTIVE);
}

static void page_off_its_list(struct scene *s)
{
	set_state(s, idx_of(s, s->first), BERTH_LRU_NOWHERE);
}

static void broken_backward_link(struct scene *s)
{
	zone_of(s)->links[idx_of(s, s->first + 1)].prev = 77;
}

static void broken_end(struct scene *s)
{
	zone_of(s)->lru.lists[BERTH_LRU_INACTIVE].last = 77;
}

static void list_in_a_ring(struct scene *s)
{
	union berth_links *links = zone_of(s)->links;

	links[idx_of(s, s->first)].next = zone_of(s)->lru.lists[BERTH_LRU_INACTIVE].first;
	links[zone_of(s)->lru.lists[BERTH_LRU_INACTIVE].first].prev = idx_of(s, s->first);
}

static void count_of_a_list(struct scene *s)
{
	add_to(&zone_of(s)->lru.nr_pages[BERTH_LRU_UNEVICTABLE]);
}

static void count_of_isolated(struct scene *s)
{
	add_to(&zone_of(s)->lru.nr_isolated);
}

static void count_of_dirty(struct scene *s)
{
	add_to(&zone_of(s)->lru.nr_dirty);
}

static void count_of_written(struct scene *s)
{
	add_to(&zone_of(s)->lru.nr_writeback);
}

static void count_of_discardables(struct scene *s)
{
	zone_of(s)->discardables[idx_of(s, s->first) / 512].pages[BERTH_DISCARD_IDLE]--;
}

static void count_of_discardable_blocks(struct scene *s)
{
	zone_of(s)->discardables[idx_of(s, s->first) / 512].blocks[BERTH_DISCARD_USED]++;
}

static void batched_page_in_no_batch(struct scene *s)
{
	struct berth_pcp *pcp = berth__pcp(zone_of(s), 0);
	struct berth_lru_batch *batch = (void *)((char *)pcp + zone_of(s)->lru_offset);

	batch->blocks[BERTH_LRU_ADD][0]++;
}

static void still_isolated(struct scene *s)
{
	set_state(s, idx_of(s, s->batched), BERTH_LRU_ISOLATED);
}

static void written_without_a_pin(struct scene *s)
{
	set_state(s, idx_of(s, s->batched), BERTH_LRU_IN_BATCH | BERTH_LRU_WRITEBACK);
}

static void every_corruption_of_the_lists_is_found(void **state)
{
	static const struct {
		void (*corrupt)(struct scene *s);
		const char *what;
	} corruptions[] = {
		{ state_of_a_free_frame, "lru.I1 state of a frame that is no" },
		{ state_of_a_tail, "lru.I1 state of a frame that is no" },
		{ page_on_another_list, "lru.I1 list of a block" },
		{ page_off_its_list, "lru.I1 list of a block" },
		{ broken_backward_link, "lru.I1 backward link" },
		{ broken_end, "lru.I1 end of list" },
		{ list_in_a_ring, "lru.I1" },
		{ count_of_a_list, "lru.I2 frames in list" },
		{ count_of_isolated, "lru.I2 nr_isolated" },
		{ count_of_dirty, "lru.I2 nr_dirty" },
		{ count_of_written, "lru.I2 nr_writeback" },
		{ count_of_discardables, "pageblock.I6 discardable frames" },
		{ count_of_discardable_blocks, "pageblock.I6 discardable blocks" },
		{ batched_page_in_no_batch, "lru.I3" },
		{ still_isolated, "lru.I1 a reclaimer has the block" },
		{ written_without_a_pin, "lru.I5 write-back without a pin" },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(corruptions); i++) {
		struct berth_violation v = { 0 };
		struct scene s;

		s.c = open_on_cpu(&s.tz, 0);
		s.first = cache_fill(s.c, 3);
		s.locked = cache_add(s.c, 2);
		assert_int_equal(berth_lru_set_unevictable(zone_of(&s), cache_pfn(s.c, s.locked), 1,
							   true),
				 0);
		s.written = cache_fill(s.c, 1);
		assert_int_equal(
			berth_lru_begin_writeback(zone_of(&s), cache_pfn(s.c, s.written), NULL), 0);
		s.batched = cache_add(s.c, 0);
		zone_ok(s.tz);
		corruptions[i].corrupt(&s);
		assert_false(berth_zone_check(zone_of(&s), &v));
		if (!strstr(v.what, corruptions[i].what))
			fail_msg("corruption %u is called: %s", i, v.what);
		test_set_cpu(TEST_NO_CPU);
		s.c->o->next_page = 0; /* nothing can be verified any more */
		cache_close(s.c);
		zone_abandon(s.tz);
	}
}

/* An owner that says "dropped" without having frozen the block has lost its users. */
static void lie(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	(void)ctx;
	for (unsigned i = 0; i < nr; i++)
		items[i].result = BERTH_RECLAIM_DROPPED;
}

static void a_dropped_block_that_is_not_frozen_panics(void **state)
{
	struct test_zone *tz = zone_open(.lru = true);
	struct cache *c = cache_open(tz, "cache");
	uint64_t page = cache_fill(c, 1);

	(void)state;
	c->o->ops.reclaim = lie;
	assert_panics(&tz->port, (void)berth_zone_reclaim(tz->zone, 1, 0));
	assert_int_equal(tz->port.value, cache_pfn(c, page));
	c->o->next_page = 0;
	cache_close(c);
	zone_abandon(tz);
}

/* ---- Cost ------------------------------------------------------------------------------------------ */

static void metadata_stays_within_32_bytes_a_frame(void **state)
{
	static const uint64_t sizes[] = { 4096, 65536, 1 << 20, 1ull << 28 };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct berth_zone_params params = { .name = "z",
						    .nr_pages = sizes[i],
						    .nr_cpus = 8,
						    .lru = true,
						    .port = &test_port_ops };
		size_t bytes = berth_zone_metadata_size(&params);

		assert_in_range(bytes, 1, 32 * sizes[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(additions_come_in_batches_of_15),
		cmocka_unit_test(some_additions_are_not_batched),
		cmocka_unit_test(batches_work_without_a_barrier_for_all_cpus),
		cmocka_unit_test(draining_one_cpu_or_all),
		cmocka_unit_test(while_batches_are_disabled_everything_acts_at_once),
		cmocka_unit_test(who_can_not_be_on_a_list),
		cmocka_unit_test(ranges_of_blocks),
		cmocka_unit_test(the_second_use_activates),
		cmocka_unit_test(a_batched_page_can_be_activated),
		cmocka_unit_test(activations_come_in_batches_too),
		cmocka_unit_test(rotation_brings_a_page_to_the_near_end),
		cmocka_unit_test(locked_pages_wait_on_their_own_list),
		cmocka_unit_test(a_freed_page_is_on_no_list),
		cmocka_unit_test(a_freed_page_leaves_nothing_in_a_batch_that_counts),
		cmocka_unit_test(the_pieces_of_a_block_are_what_it_was),
		cmocka_unit_test(a_moved_page_keeps_its_place),
		cmocka_unit_test(a_page_that_is_written_stays_where_it_is),
		cmocka_unit_test(a_failed_write_leaves_the_page_dirty),
		cmocka_unit_test(a_page_may_be_freed_while_it_is_written),
		cmocka_unit_test(every_corruption_of_the_lists_is_found),
		cmocka_unit_test(a_dropped_block_that_is_not_frozen_panics),
		cmocka_unit_test(metadata_stays_within_32_bytes_a_frame),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
