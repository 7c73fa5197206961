/* SPDX-License-Identifier: MIT */
/*
 * SQLite's page cache, the front tier: pages in ordinary memory, found by a hash table, the unpinned ones on
 * two lists, of pages that were used once and of others, from which the oldest leaves for the store (lent.c).
 *
 * I1  A page of the front tier without PAGE_STORED has nothing in the store.
 * I2  What is in the store under a page's number is what the newest clean copy of it in this cache was, or
 *     the page is in the front tier and is told from it (PAGE_SAME and the count of writes).
 * I3  nr_pages counts what is in the slots, nr_unpinned what is on the lists, nr_cold what is on that of pages that were
 *     used once; a page is on a list exactly with PAGE_UNPINNED, on this one with PAGE_COLD. Only a cache that uses the
 *     store has cold pages. One that isn't purgeable has empty lists: its pages never leave by themselves.
 *
 * SQLite tells a cache neither that it changes a page nor where it is read from. What it does tell:
 *
 *   - It asks for a page without creating it when it is about to change the content behind everybody's back (a
 *     journal that is played back, a page that is undone). An answer of "not there" says that nobody has an
 *     old copy. So such a page is forgotten by the store, whatever the answer.
 *   - A dirty page is pinned until it has been written or dropped.
 *   - Truncation and change of number are calls of their own.
 *
 * Cost of a hit: the hash table's slot, its chain, the list when the page is unpinned; no lock, no
 * atomic operation. A miss adds a look into the store and, when the front tier is full, perhaps a copy to it.
 */
#define _GNU_SOURCE
#include "sqlite/internal.h"

#include <stdlib.h>

#define FIRST_SLOTS 64u
#define MOST_COLD_PAGES 64u /* or an eighth of the front tier */

static struct cache *cache_of(sqlite3_pcache *handle)
{
	return (struct cache *)handle;
}

static uint32_t nr_pinned(const struct cache *cache)
{
	return cache->nr_pages - cache->nr_unpinned;
}

/* ---- Slots and list --------------------------------------------------------------------------------- */

static struct page *find(const struct cache *cache, uint32_t pgno)
{
	struct page *page = cache->slots[pgno & (cache->nr_slots - 1)];

	while (page && page->pgno != pgno)
		page = page->next;
	return page;
}

/* Twice as many slots; without memory the chains get longer. */
static void grow_slots(struct cache *cache)
{
	const uint32_t nr = 2 * cache->nr_slots;
	struct page **slots = calloc(nr, sizeof(struct page *));

	if (!slots)
		return;
	for (uint32_t i = 0; i < cache->nr_slots; i++)
		for (struct page *page = cache->slots[i], *next; page; page = next) {
			next = page->next;
			page->next = slots[page->pgno & (nr - 1)];
			slots[page->pgno & (nr - 1)] = page;
		}
	free(cache->slots);
	cache->slots = slots;
	cache->nr_slots = nr;
}

static void enter(struct cache *cache, struct page *page, uint32_t pgno)
{
	struct page **slot;

	if (cache->nr_pages >= cache->nr_slots && cache->nr_slots < 1u << 30)
		grow_slots(cache);
	slot = &cache->slots[pgno & (cache->nr_slots - 1)];
	page->pgno = pgno;
	page->next = *slot;
	*slot = page;
	cache->nr_pages++;
	if (pgno > cache->largest_pgno)
		cache->largest_pgno = pgno;
}

static void take_off_list(struct cache *cache, struct page *page)
{
	page->older->newer = page->newer;
	page->newer->older = page->older;
	cache->nr_unpinned--;
	if (page->flags & PAGE_COLD)
		cache->nr_cold--;
	page->flags &= ~(uint32_t)(PAGE_UNPINNED | PAGE_COLD);
}

static void put_on_list(struct cache *cache, struct page *page)
{
	const bool cold = cache->trust == TRUSTED && !(page->flags & PAGE_HOT);
	struct page *list = cold ? &cache->cold : &cache->list;

	page->newer = list;
	page->older = list->older;
	page->older->newer = page;
	list->older = page;
	page->flags |= PAGE_UNPINNED | (cold ? PAGE_COLD : 0u);
	cache->nr_unpinned++;
	cache->nr_cold += cold;
}

/* Out of the slots and off the list. */
static void leave(struct cache *cache, struct page *page)
{
	struct page **at = &cache->slots[page->pgno & (cache->nr_slots - 1)];

	while (*at != page)
		at = &(*at)->next;
	*at = page->next;
	cache->nr_pages--;
	if (page->flags & PAGE_UNPINNED)
		take_off_list(cache, page);
}

/* ---- Memory ----------------------------------------------------------------------------------------- */

static size_t block_bytes(const struct cache *cache)
{
	return cache->page_bytes + sizeof(struct page) + cache->extra_bytes;
}

static void count_bytes(const struct cache *cache, bool more)
{
	const uint64_t bytes = block_bytes(cache);

	atomic_fetch_add_explicit(&berth__sqlite_counters()->front_bytes, more ? bytes : -bytes,
				  memory_order_relaxed);
}

static struct page *allocate(const struct cache *cache)
{
	char *block = malloc(block_bytes(cache));
	struct page *page;

	if (!block)
		return NULL;
	count_bytes(cache, true);
	page = (struct page *)(block + cache->page_bytes);
	page->base.pBuf = block;
	page->base.pExtra = page + 1;
	return page;
}

static void discard(struct cache *cache, struct page *page)
{
	leave(cache, page);
	count_bytes(cache, false);
	free(page->base.pBuf);
}

/*
 * Of pages that were used once only some are kept, also while there is room: a scan goes through few buffers,
 * which stay in the processor's cache, and drives out nothing.
 */
static bool has_enough_cold(const struct cache *cache, uint32_t limit)
{
	return cache->nr_cold >= MOST_COLD_PAGES && cache->nr_cold >= limit / 8;
}

/* The page that wasn't used for longest, out of the front tier; the store may have it now. NULL: all are in use. */
static struct page *evict(struct cache *cache)
{
	struct page *page;

	if (!cache->nr_unpinned)
		return NULL;
	page = cache->nr_cold == cache->nr_unpinned ||
			       has_enough_cold(cache, berth__lent_front_pages(cache)) ?
		       cache->cold.newer :
		       cache->list.newer;
	berth__lent_demote(cache, page);
	leave(cache, page);
	return page;
}

static void evict_down_to(struct cache *cache, uint32_t nr_unpinned)
{
	while (cache->nr_unpinned > nr_unpinned) {
		struct page *page = evict(cache);

		count_bytes(cache, false);
		free(page->base.pBuf);
	}
}

/* ---- Fetching ------------------------------------------------------------------------------------------ */

/* As SQLite's own cache: so few pages could be evicted that SQLite had better write dirty ones. */
static bool is_crowded(const struct cache *cache)
{
	return cache->purgeable && nr_pinned(cache) >= (uint64_t)cache->max_pages * 9 / 10;
}

static struct page *new_page(struct cache *cache, uint32_t pgno)
{
	struct page *page = NULL;

	if (cache->purgeable && cache->nr_unpinned) {
		const uint32_t limit = berth__lent_front_pages(cache);

		if (cache->nr_unpinned >= limit || has_enough_cold(cache, limit))
			page = evict(cache);
	}
	if (!page)
		page = allocate(cache);
	if (!page)
		page = evict(cache);
	if (!page)
		return NULL;
	page->flags = 0;
	page->sample = 0;
	page->writes = berth__writes_now(page);
	memset(page->base.pExtra, 0, 8); /* SQLite sees that it has to initialise it */
	enter(cache, page, pgno);
	return page;
}

/* A page that isn't in the front tier, for SQLite to read; or out of the store, and SQLite only thinks so. */
static struct page *bring(struct cache *cache, uint32_t pgno)
{
	struct page *page = new_page(cache, pgno);
	struct expected *expected = &berth__sqlite_expected;
	bool filled;

	if (!page || !cache->purgeable)
		return page;
	filled = berth__lent_get(cache, page);
	if (filled)
		cache->store_hits++;
	else
		cache->misses++;
	berth__lent_count(cache);
	if (cache->backend) {
		expected->buffer = page->base.pBuf;
		expected->bytes = (int)cache->page_bytes;
		expected->filled = filled;
		expected->page = page;
		expected->cache = cache;
	}
	return page;
}

static sqlite3_pcache_page *fetch(sqlite3_pcache *handle, unsigned pgno, int create)
{
	struct cache *cache = cache_of(handle);
	struct page *page = find(cache, pgno);

	berth__expect_nothing();
	if (page) {
		if (page->flags & PAGE_UNPINNED) {
			take_off_list(cache, page);
			page->flags |= PAGE_HOT;
		}
		if (!create && !(berth__sqlite_leave_out & LEAVE_OUT_LOOKUP))
			berth__lent_forget(cache, page);
		cache->front_hits++;
		if (!(cache->front_hits & 255))
			berth__lent_count(cache);
		return &page->base;
	}
	if (!create && !(berth__sqlite_leave_out & LEAVE_OUT_LOOKUP))
		berth__lent_drop(cache, pgno);
	if (!create || (create == 1 && is_crowded(cache)))
		return NULL;
	page = bring(cache, pgno);
	return page ? &page->base : NULL;
}

static void unpin(sqlite3_pcache *handle, sqlite3_pcache_page *base, int dropped)
{
	struct cache *cache = cache_of(handle);
	struct page *page = (struct page *)base;

	berth__expect_nothing();
	if (dropped) {
		berth__lent_forget(cache, page);
		discard(cache, page);
		return;
	}
	if (!cache->purgeable)
		return;
	if (page->flags & PAGE_SAMPLED)
		berth__lent_sample(cache, page);
	if (!(page->flags & PAGE_UNPINNED))
		put_on_list(cache, page);
	evict_down_to(cache, berth__lent_front_pages(cache));
}

static void rekey(sqlite3_pcache *handle, sqlite3_pcache_page *base, unsigned from, unsigned to)
{
	struct cache *cache = cache_of(handle);
	struct page *page = (struct page *)base, *other = find(cache, to);

	berth__expect_nothing();
	berth__lent_drop(cache, from);
	berth__lent_drop(cache, to);
	if (other && other != page)
		discard(cache, other);
	leave(cache, page); /* it is pinned, so on no list */
	page->flags = 0;
	enter(cache, page, to);
}

/* ---- All else ------------------------------------------------------------------------------------------- */

static void truncate_front(struct cache *cache, uint32_t from)
{
	if (from > cache->largest_pgno)
		return;
	if (cache->largest_pgno - from < cache->nr_slots) {
		for (uint32_t pgno = from; pgno - from <= cache->largest_pgno - from; pgno++) {
			struct page *page = find(cache, pgno);

			if (page)
				discard(cache, page);
		}
	} else {
		for (uint32_t i = 0; i < cache->nr_slots; i++)
			for (struct page *page = cache->slots[i], *next; page; page = next) {
				next = page->next;
				if (page->pgno >= from)
					discard(cache, page);
			}
	}
	cache->largest_pgno = from ? from - 1 : 0;
}

static void cut_off(sqlite3_pcache *handle, unsigned from)
{
	struct cache *cache = cache_of(handle);

	berth__expect_nothing();
	truncate_front(cache, from);
	berth__lent_drop_from(cache, from);
}

static sqlite3_pcache *create(int page_bytes, int extra_bytes, int purgeable)
{
	struct cache *cache = calloc(1, sizeof(*cache));

	berth__expect_nothing();
	if (!cache)
		return NULL;
	cache->slots = calloc(FIRST_SLOTS, sizeof(struct page *));
	if (!cache->slots) {
		free(cache);
		return NULL;
	}
	cache->nr_slots = FIRST_SLOTS;
	cache->page_bytes = (uint32_t)page_bytes;
	cache->extra_bytes = (uint32_t)extra_bytes;
	cache->purgeable = purgeable != 0;
	cache->list.newer = cache->list.older = &cache->list;
	cache->cold.newer = cache->cold.older = &cache->cold;
	if (cache->purgeable)
		berth__lent_init(cache);
	return (sqlite3_pcache *)cache;
}

static void destroy(sqlite3_pcache *handle)
{
	struct cache *cache = cache_of(handle);

	berth__expect_nothing();
	berth__lent_close(cache);
	truncate_front(cache, 0);
	free(cache->slots);
	free(cache);
}

static void set_size(sqlite3_pcache *handle, int nr_pages)
{
	struct cache *cache = cache_of(handle);

	berth__expect_nothing();
	cache->max_pages = nr_pages > 0 ? (uint32_t)nr_pages : 0;
	if (cache->purgeable)
		evict_down_to(cache, berth__lent_front_pages(cache));
}

static int nr_pages(sqlite3_pcache *handle)
{
	return (int)cache_of(handle)->nr_pages;
}

/* Ordinary memory is what SQLite is asked for; lent memory may stay. */
static void shrink(sqlite3_pcache *handle)
{
	struct cache *cache = cache_of(handle);

	berth__expect_nothing();
	evict_down_to(cache, 0);
}

static int init(void *unused)
{
	(void)unused;
	return SQLITE_OK;
}

static void shut_down(void *unused)
{
	(void)unused;
}

const sqlite3_pcache_methods2 berth__sqlite_methods = {
	.iVersion = 1,
	.xInit = init,
	.xShutdown = shut_down,
	.xCreate = create,
	.xCachesize = set_size,
	.xPagecount = nr_pages,
	.xFetch = fetch,
	.xUnpin = unpin,
	.xRekey = rekey,
	.xTruncate = cut_off,
	.xDestroy = destroy,
	.xShrink = shrink,
};
