/* SPDX-License-Identifier: MIT */
/*
 * SQLite's page cache, the store's side: which pages go there, under which key, and when they are forgotten.
 *
 * A cache is a group of the store, with a number that no cache had before. A page is one item, or several if it is
 * larger than a frame; a smaller one is padded.
 *
 * The store is inclusive: a page that comes from it stays in it, and isn't copied back when it leaves the
 * front tier unchanged. A page is worth a copy when it was used at least twice: in the front tier, or within
 * so many pages that have left it as the store has frames (`seen`). So a scan copies nothing.
 *
 * I1  largest_stored is at least the number of each page that the store has of this group.
 * I2  A cache uses the store only after TRUST_PAGES pages in a row were found as they were read from the file. Where
 *     something between SQLite and our VFS changes pages (encryption), what SQLite has isn't what is read, and
 *     the cache has only a front tier, of the size that PRAGMA cache_size says.
 */
#define _GNU_SOURCE
#include "sqlite/internal.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include <berth/types.h>

#define TRUST_PAGES 8
#define DISTRUST_PAGES 200
#define LEAST_FRONT_PAGES 16u
#define MOST_DROPS 65536u /* what is cut off beyond is a new group instead */
#define FIRST_SEEN_ORDER 10u
#define LAST_SEEN_ORDER 22u
#define ASK_EVERY 256u

_Atomic(const struct berth__sqlite_backend *) berth__sqlite_backend_set;

static struct berth__sqlite_counters own_counters;
static _Atomic(struct berth__sqlite_counters *) counters_set = &own_counters;
static _Atomic uint64_t nr_groups;
static _Atomic uint32_t nr_sharers; /* caches that use the store */

/* ---- Backend --------------------------------------------------------------------------------------- */

struct berth__sqlite_counters *berth__sqlite_counters(void)
{
	return atomic_load_explicit(&counters_set, memory_order_relaxed);
}

bool berth__sqlite_backend_take(const struct berth__sqlite_backend *backend)
{
	struct berth__sqlite_backend *copy = malloc(sizeof(*copy));
	const uint64_t sixteenth = backend->store_bytes / 16;

	if (!copy)
		return false;
	*copy = *backend;
	if (!copy->front_bytes)
		copy->front_bytes = sixteenth < 2u << 20  ? 2u << 20 :
				    sixteenth > 64u << 20 ? 64u << 20 :
							    sixteenth;
	if (copy->counters)
		atomic_store(&counters_set, copy->counters);
	atomic_store(&berth__sqlite_backend_set, copy);
	return true;
}

const struct berth__sqlite_backend *berth__sqlite_backend_now(void)
{
	const struct berth__sqlite_backend *now = atomic_load(&berth__sqlite_backend_set);
	berth__sqlite_lend_function *lend;
	struct berth__sqlite_backend backend = { .store = NULL };

	if (now)
		return now;
	*(void **)&lend = dlsym(RTLD_DEFAULT, BERTH__SQLITE_LEND);
	if (!lend || !lend(&backend) || !berth__sqlite_backend_take(&backend))
		return NULL;
	return atomic_load(&berth__sqlite_backend_set);
}

void berth__lent_forget_in_child(void)
{
	atomic_store(&berth__sqlite_backend_set, NULL);
	atomic_store(&counters_set, &own_counters);
	berth__expect_nothing();
}

static bool is_used(const struct cache *cache)
{
	return cache->trust == TRUSTED && cache->max_pages && cache->backend &&
	       cache->backend ==
		       atomic_load_explicit(&berth__sqlite_backend_set, memory_order_relaxed);
}

/* ---- Counting ---------------------------------------------------------------------------------------- */

static void add(_Atomic uint64_t *counter, uint32_t *value)
{
	if (*value)
		atomic_fetch_add_explicit(counter, *value, memory_order_relaxed);
	*value = 0;
}

static void count_all(struct cache *cache)
{
	struct berth__sqlite_counters *counters = berth__sqlite_counters();

	add(&counters->front_hits, &cache->front_hits);
	add(&counters->store_hits, &cache->store_hits);
	add(&counters->misses, &cache->misses);
	cache->uncounted = 0;
}

void berth__lent_count(struct cache *cache)
{
	if (++cache->uncounted >= 256 || cache->front_hits >= 256)
		count_all(cache);
}

static void count_one(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- Keys ------------------------------------------------------------------------------------------------- */

static uint64_t mixed(uint64_t value)
{
	value = (value ^ value >> 33) * 0xff51afd7ed558ccdull;
	value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53ull;
	return value ^ value >> 33;
}

/* Of 64 bits: chance doesn't make two alike, nor one that somebody else has. */
static uint64_t fresh_group(void)
{
	static _Atomic uint64_t seed;
	uint64_t mine = atomic_load_explicit(&seed, memory_order_relaxed), none = 0;

	if (!mine) {
		if (getrandom(&mine, sizeof(mine), GRND_NONBLOCK) != sizeof(mine) || !mine)
			mine = (uintptr_t)&mine ^ 0x9e3779b97f4a7c15ull;
		if (!atomic_compare_exchange_strong(&seed, &none, mine))
			mine = none;
	}
	return mixed(mine + atomic_fetch_add_explicit(&nr_groups, 1, memory_order_relaxed));
}

static struct berth_store_key key_of(const struct cache *cache, uint32_t pgno, uint32_t item)
{
	return (struct berth_store_key){ cache->group, (uint64_t)pgno * cache->nr_items + item };
}

void berth__lent_init(struct cache *cache)
{
	cache->backend = berth__sqlite_backend_now();
	cache->group = fresh_group();
	cache->nr_items = cache->page_bytes > BERTH_PAGE_SIZE ?
				  cache->page_bytes / (uint32_t)BERTH_PAGE_SIZE :
				  1;
}

static void forget_group(struct cache *cache)
{
	if (berth__lent_any(cache))
		cache->backend->drop_group(cache->backend->store, cache->group);
	cache->group = fresh_group();
	cache->largest_stored = 0;
}

void berth__lent_close(struct cache *cache)
{
	forget_group(cache);
	count_all(cache);
	if (cache->trust == TRUSTED)
		atomic_fetch_sub(&nr_sharers, 1);
	free(cache->seen);
}

/* ---- How much, and whether at all ------------------------------------------------------------------------- */

uint32_t berth__lent_front_pages(struct cache *cache)
{
	const uint32_t pinned = cache->nr_pages - cache->nr_unpinned;
	uint32_t sharers;

	if (!is_used(cache))
		return cache->max_pages > pinned ? cache->max_pages - pinned : 0;
	sharers = atomic_load_explicit(&nr_sharers, memory_order_relaxed);
	if (sharers != cache->front_sharers) {
		const uint64_t nr = cache->backend->front_bytes / cache->page_bytes /
				    (sharers ? sharers : 1);

		cache->front_sharers = sharers;
		cache->front_pages = nr < LEAST_FRONT_PAGES ? LEAST_FRONT_PAGES :
				     nr > UINT32_MAX        ? UINT32_MAX :
							      (uint32_t)nr;
	}
	return cache->front_pages;
}

static uint64_t hash(const void *data, size_t bytes)
{
	const char *at = data;
	uint64_t lanes[4] = { 1, 2, 3, 4 };

	for (size_t i = 0; i + 32 <= bytes; i += 32)
		for (unsigned lane = 0; lane < 4; lane++) {
			uint64_t word;

			memcpy(&word, at + i + 8 * lane, 8);
			lanes[lane] = (lanes[lane] ^ word) * 0x9e3779b97f4a7c15ull;
			lanes[lane] ^= lanes[lane] >> 29;
		}
	return mixed(lanes[0] + 3 * lanes[1] + 5 * lanes[2] + 7 * lanes[3]);
}

static bool is_decided(const struct cache *cache)
{
	return cache->trust == TRUSTED || cache->trust == DISTRUSTED;
}

void berth__lent_was_read(const struct cache *cache, struct page *page)
{
	page->flags |= PAGE_READ;
	if (is_decided(cache) && !berth__sqlite_verify)
		return;
	page->flags |= PAGE_SAMPLED;
	page->sample = hash(page->base.pBuf, cache->page_bytes);
}

void berth__lent_sample(struct cache *cache, struct page *page)
{
	page->flags &= ~(uint32_t)PAGE_SAMPLED;
	if (is_decided(cache) || page->writes != berth__writes_now(page))
		return;
	if (hash(page->base.pBuf, cache->page_bytes) == page->sample) {
		cache->trust = cache->trust < 0 ? 1 : cache->trust + 1;
		if (cache->trust < TRUST_PAGES)
			return;
		cache->trust = TRUSTED;
		cache->front_sharers = 0;
		atomic_fetch_add(&nr_sharers, 1);
		count_one(&berth__sqlite_counters()->caches);
	} else {
		/* Pages that were freed may be changed without being written; but not all in a row are. */
		cache->trust = cache->trust > 0 ? -1 : cache->trust - 1;
		if (cache->trust > -DISTRUST_PAGES)
			return;
		cache->trust = DISTRUSTED;
		count_one(&berth__sqlite_counters()->distrusted);
	}
}

/* ---- Pages that were seen once ----------------------------------------------------------------------------- */

static uint32_t *seen_place(uint32_t *seen, unsigned order, uint32_t pgno)
{
	return &seen[(uint32_t)(pgno * 2654435769u) >> (32 - order)];
}

static void grow_seen(struct cache *cache)
{
	const unsigned order = cache->seen ? cache->seen_order + 1 : FIRST_SEEN_ORDER;
	uint32_t *seen = calloc((size_t)1 << order, sizeof(*seen));

	if (!seen)
		return;
	for (size_t i = 0; cache->seen && i < (size_t)1 << cache->seen_order; i++)
		if (cache->seen[i])
			*seen_place(seen, order, cache->seen[i]) = cache->seen[i];
	free(cache->seen);
	cache->seen = seen;
	cache->seen_order = order;
	cache->seen_since_growth = 0;
}

/* As many as the store has frames are enough. */
static bool seen_may_grow(const struct cache *cache)
{
	return !cache->seen || (cache->seen_since_growth >> cache->seen_order &&
				cache->seen_order < LAST_SEEN_ORDER &&
				((uint64_t)BERTH_PAGE_SIZE * cache->nr_items << cache->seen_order) <
					cache->backend->store_bytes);
}

static bool was_seen(const struct cache *cache, uint32_t pgno)
{
	return cache->seen && *seen_place(cache->seen, cache->seen_order, pgno) == pgno;
}

static void note_seen(struct cache *cache, uint32_t pgno)
{
	if (seen_may_grow(cache))
		grow_seen(cache);
	if (!cache->seen)
		return;
	cache->seen_since_growth++;
	*seen_place(cache->seen, cache->seen_order, pgno) = pgno;
}

/* ---- Pages ------------------------------------------------------------------------------------------------------- */

static bool get_items(const struct cache *cache, struct page *page)
{
	char padded[BERTH_PAGE_SIZE], *to = page->base.pBuf;

	for (uint32_t i = 0; i < cache->nr_items; i++) {
		const struct berth_store_key key = key_of(cache, page->pgno, i);
		const bool small = cache->page_bytes < BERTH_PAGE_SIZE;

		if (cache->backend->get(cache->backend->store, &key,
					small ? padded : to + i * BERTH_PAGE_SIZE) != 0)
			return false;
		if (small)
			memcpy(to, padded, cache->page_bytes);
	}
	return true;
}

bool berth__lent_get(struct cache *cache, struct page *page)
{
	if (!berth__lent_any(cache) || page->pgno > cache->largest_stored) {
		page->flags |= was_seen(cache, page->pgno) ? PAGE_HOT : 0;
		return false;
	}
	if (get_items(cache, page)) {
		page->flags |= PAGE_STORED | PAGE_HOT;
		return true;
	}
	page->flags |= was_seen(cache, page->pgno) ? PAGE_HOT : 0;
	if (cache->nr_items > 1) /* other items may be there */
		berth__lent_drop(cache, page->pgno);
	return false;
}

static bool put_items(const struct cache *cache, const struct page *page)
{
	char padded[BERTH_PAGE_SIZE];
	const char *from = page->base.pBuf;

	if (cache->page_bytes < BERTH_PAGE_SIZE) {
		memcpy(padded, from, cache->page_bytes);
		memset(padded + cache->page_bytes, 0, BERTH_PAGE_SIZE - cache->page_bytes);
		from = padded;
	}
	for (uint32_t i = 0; i < cache->nr_items; i++) {
		const struct berth_store_key key = key_of(cache, page->pgno, i);

		if (cache->backend->put(cache->backend->store, &key, from + i * BERTH_PAGE_SIZE) !=
		    0)
			return false;
	}
	return true;
}

static void put(struct cache *cache, const struct page *page)
{
	struct berth__sqlite_counters *counters = berth__sqlite_counters();

	/* First: what is put, also by halves, has to be found when it is to be dropped. */
	if (page->pgno > cache->largest_stored)
		cache->largest_stored = page->pgno;
	if (put_items(cache, page)) {
		count_one(&counters->puts);
		return;
	}
	berth__lent_drop(cache, page->pgno);
	count_one(&counters->refused);
}

/*
 * When all is verified: what was written last from buffers with this hash. Threads may overwrite each other's;
 * then a page isn't copied that could be.
 */
static struct {
	_Atomic(const void *) buffer;
	_Atomic uint64_t hash;
} written[1 << WRITES_ORDER];

void berth__lent_was_written(const void *buffer, size_t bytes)
{
	const size_t place = (size_t)(berth__writes_of(buffer) - berth__sqlite_writes);

	atomic_store(&written[place].hash, hash(buffer, bytes));
	atomic_store(&written[place].buffer, buffer);
}

static bool is_known(const struct cache *cache, const struct page *page)
{
	const size_t place = (size_t)(berth__writes_of(page->base.pBuf) - berth__sqlite_writes);
	const uint64_t now = hash(page->base.pBuf, cache->page_bytes);

	return now == page->sample || (atomic_load(&written[place].buffer) == page->base.pBuf &&
				       atomic_load(&written[place].hash) == now);
}

/*
 * Only what was read or has been written is what the file has. A free page that SQLite took without its content, and gave
 * back by a rollback, isn't; it doesn't matter then what it holds. (If it was read or written before we don't know.
 * Nobody looks at it; but who verifies would, so he does without it.)
 */
static bool is_in_file(const struct cache *cache, const struct page *page)
{
	if (!(page->flags & PAGE_READ) && page->writes == berth__writes_now(page))
		return false;
	return !berth__sqlite_verify || is_known(cache, page);
}

void berth__lent_demote(struct cache *cache, struct page *page)
{
	if (!is_used(cache)) {
		if (!cache->backend && ++cache->seen_since_growth % ASK_EVERY == 0)
			cache->backend = berth__sqlite_backend_now();
		berth__lent_forget(cache, page);
		return;
	}
	if ((page->flags & PAGE_SAME) && page->writes == berth__writes_now(page))
		return;
	if ((page->flags & PAGE_HOT) && is_in_file(cache, page))
		put(cache, page);
	else
		berth__lent_forget(cache, page);
	note_seen(cache, page->pgno);
}

void berth__lent_drop(struct cache *cache, uint32_t pgno)
{
	if (!berth__lent_any(cache) || pgno > cache->largest_stored)
		return;
	for (uint32_t i = 0; i < cache->nr_items; i++) {
		const struct berth_store_key key = key_of(cache, pgno, i);

		(void)cache->backend->drop(cache->backend->store, &key);
	}
}

void berth__lent_drop_from(struct cache *cache, uint32_t pgno)
{
	const uint32_t last = cache->largest_stored;

	if (!berth__lent_any(cache) || pgno > last || berth__sqlite_leave_out & LEAVE_OUT_CUT)
		return;
	if (pgno <= 1 || last - pgno >= MOST_DROPS) {
		forget_group(cache);
		return;
	}
	for (uint32_t at = pgno; at <= last; at++)
		berth__lent_drop(cache, at);
	cache->largest_stored = pgno - 1;
}

/* ---- Testing aids ------------------------------------------------------------------------------------------ */

unsigned berth__sqlite_leave_out;
bool berth__sqlite_verify;

void berth__sqlite_read_environment(void)
{
	static const char *const names[] = { "sqlite-lookup", "sqlite-writes", "sqlite-cut",
					     "sqlite-ahead" };
	const char *at = getenv("BERTH_UNTREATED");

	berth__sqlite_verify = getenv("BERTH_SQLITE_VERIFY") != NULL;
	while (at && *at) {
		const size_t length = strcspn(at, ",");

		for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (strlen(names[i]) == length && memcmp(names[i], at, length) == 0)
				berth__sqlite_leave_out |= 1u << i;
		at += length + (at[length] == ',');
	}
}
