/* SPDX-License-Identifier: MIT */
/*
 * A cache in a test: an owner (testowner.h) whose pages are on LRU lists, which drops and writes them as
 * the test says. A page that is dropped is gone from the owner's table; one that was dirty when it was
 * dropped, or is dropped while it is being written, fails the test.
 */
#ifndef BERTH_TESTLRU_H
#define BERTH_TESTLRU_H

#include <berth/lru.h>

#include "testowner.h"

#define CACHE_LOG 4096u

struct cache {
	struct test_owner *o;
	struct berth_zone *zone;
	uint8_t *young;      /* by page: uses through mappings since it was asked last */
	bool *dirty;         /* by page: what the cache itself knows */
	bool refuses_writes; /* doesn't begin any */
	bool ends_writes;    /* ends them before it returns */
	berth_pfn_t writing[CACHE_LOG];
	unsigned nr_writing;
	/* What was dropped, in this order. */
	uint64_t dropped[CACHE_LOG];
	unsigned nr_dropped, nr_written, nr_asked, nr_gone, largest_batch;
	/* Called before each batch that is to be dropped. */
	void (*on_reclaim)(struct cache *cache);
};

static inline void cache_reclaim(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	struct test_owner *o = ctx;
	struct cache *c = o->user;

	assert_in_range(nr, 1, 32);
	c->nr_asked += nr;
	c->largest_batch = nr > c->largest_batch ? nr : c->largest_batch;
	if (c->on_reclaim)
		c->on_reclaim(c);
	for (unsigned i = 0; i < nr; i++) {
		uint64_t page = items[i].cookie - o->base;

		assert_int_equal(items[i].owner, o->id);
		assert_int_equal(items[i].result, BERTH_RECLAIM_PENDING);
		if (!test_owner_has(o, page) || o->table[page] != items[i].pfn) {
			items[i].result = BERTH_RECLAIM_GONE;
			c->nr_gone++;
		} else if (o->answers[page] == TEST_BUSY) {
			items[i].result = BERTH_RECLAIM_BUSY;
		} else if (c->dirty[page]) {
			items[i].result = BERTH_RECLAIM_DIRTY;
		} else if (c->young[page]) {
			items[i].result = BERTH_RECLAIM_REFERENCED;
		} else if (!berth_reclaim_freeze(c->zone, &items[i])) {
			items[i].result = BERTH_RECLAIM_BUSY;
		} else {
			owner_unmap(o, page, 1ull << items[i].order);
			items[i].result = BERTH_RECLAIM_DROPPED;
			assert_true(c->nr_dropped < CACHE_LOG);
			c->dropped[c->nr_dropped++] = page;
		}
	}
}

static inline void cache_referenced(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	struct test_owner *o = ctx;
	struct cache *c = o->user;

	for (unsigned i = 0; i < nr; i++) {
		uint64_t page = items[i].cookie - o->base;

		items[i].referenced = c->young[page];
		c->young[page] = 0;
	}
}

static inline void cache_end_writes(struct cache *c, bool ok)
{
	for (unsigned i = 0; i < c->nr_writing; i++)
		assert_int_equal(berth_lru_end_writeback(c->zone, c->writing[i], ok), 0);
	c->nr_writing = 0;
}

static inline void cache_writeback(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	struct test_owner *o = ctx;
	struct cache *c = o->user;

	assert_in_range(nr, 1, 32);
	for (unsigned i = 0; i < nr; i++) {
		uint64_t page = items[i].cookie - o->base;

		if (c->refuses_writes) {
			items[i].result = BERTH_RECLAIM_BUSY;
			continue;
		}
		assert_true(berth_page_pinned(c->zone, items[i].pfn));
		assert_true(c->nr_writing < CACHE_LOG);
		c->writing[c->nr_writing++] = items[i].pfn;
		c->nr_written++;
		c->dirty[page] = false;
	}
	if (c->ends_writes)
		cache_end_writes(c, true);
}

static inline struct cache *cache_open(struct test_zone *tz, const char *name)
{
	struct cache *c = test_zalloc(1, sizeof(*c));

	c->o = owner_open(tz, name);
	c->o->user = c;
	c->o->ops.reclaim = cache_reclaim;
	c->o->ops.referenced = cache_referenced;
	c->o->ops.writeback = cache_writeback;
	c->zone = tz->zone;
	c->young = test_zalloc(c->o->nr_pages, sizeof(*c->young));
	c->dirty = test_zalloc(c->o->nr_pages, sizeof(*c->dirty));
	return c;
}

static inline void cache_close(struct cache *c)
{
	owner_close(c->o);
	free(c->young);
	free(c->dirty);
	free(c);
}

/* A new page of the cache, allocated but on no list yet; its number. */
static inline uint64_t cache_new(struct cache *c, unsigned order)
{
	uint64_t page = 0;

	assert_int_equal(owner_try_alloc(c->o, order, BERTH_GFP_MOVABLE | BERTH_GFP_LRU, &page), 0);
	return page;
}

static inline berth_pfn_t cache_pfn(const struct cache *c, uint64_t page)
{
	assert_true(test_owner_has(c->o, page));
	return c->o->table[page];
}

/* A page that is on its way to the inactive list. */
static inline uint64_t cache_add(struct cache *c, unsigned order)
{
	uint64_t page = cache_new(c, order);

	assert_int_equal(berth_lru_add(c->zone, cache_pfn(c, page), 1ull << order), 0);
	return page;
}

/* nr new pages of order 0 on the inactive list, the first of them the oldest; the first's number. */
static inline uint64_t cache_fill(struct cache *c, unsigned nr)
{
	uint64_t first = c->o->next_page;

	for (unsigned i = 0; i < nr; i++)
		(void)cache_add(c, 0);
	berth_lru_add_drain_all(c->zone);
	return first;
}

static inline void cache_dirty(struct cache *c, uint64_t page)
{
	c->dirty[page] = true;
	assert_int_equal(berth_lru_set_dirty(c->zone, cache_pfn(c, page), 1), 0);
}

static inline char where(struct cache *c, uint64_t page)
{
	return berth_lru_where(c->zone, cache_pfn(c, page), NULL);
}

static inline unsigned flags_of(struct cache *c, uint64_t page)
{
	unsigned flags = 0;

	(void)berth_lru_where(c->zone, cache_pfn(c, page), &flags);
	return flags;
}

static inline struct berth_lru_stats lru_stats(struct test_zone *tz)
{
	struct berth_lru_stats s;

	berth_lru_stats(tz->zone, &s);
	return s;
}

static inline uint64_t on_list(struct test_zone *tz, enum berth_lru_list list)
{
	return lru_stats(tz).nr_pages[list];
}

#endif
