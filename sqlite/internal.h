/* SPDX-License-Identifier: MIT */
/*
 * libberth-sqlite's private header: SQLite's page cache in two tiers, and the VFS in front of the default
 * one that hands pages over. ARCHITECTURE.md ("A page of SQLite") tells the whole story.
 *
 * SQLite serialises the calls for one cache, so a cache needs no lock, and nothing of it is shared but
 * what is atomic.
 */
#ifndef BERTH_SQLITE_INTERNAL_H
#define BERTH_SQLITE_INTERNAL_H

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "runtime/sqlite_backend.h"

#pragma GCC visibility push(hidden)

/* ---- Pages and caches ----------------------------------------------------------------------------- */

enum page_flags {
	PAGE_UNPINNED = 1u << 0, /* on the cache's list */
	PAGE_HOT = 1u << 1,      /* used again lately: worth a copy in the store */
	PAGE_STORED = 1u << 2,   /* the store may have something under this page's key */
	PAGE_SAME = 1u << 3, /* that is the content, unless SQLite has written it since `writes` */
	PAGE_SAMPLED = 1u << 4, /* `sample` is the hash of what was read, unless .. likewise */
	PAGE_COLD = 1u << 6,    /* on the list of such pages */
	PAGE_READ = 1u << 5,    /* read since it was made, from the store or the file */
};

struct page {
	sqlite3_pcache_page base;   /* SQLite's view, first */
	struct page *next;          /* in its slot of the hash table */
	struct page *newer, *older; /* on the list of unpinned pages */
	uint32_t pgno, flags;
	uint64_t writes; /* when it was made or read last */
	uint64_t sample;
};

struct cache {
	/* Front tier (cache.c) */
	uint32_t page_bytes, extra_bytes;
	bool purgeable;
	uint32_t max_pages;             /* PRAGMA cache_size */
	uint32_t nr_pages, nr_unpinned; /* in the front tier */
	uint32_t largest_pgno; /* none above it was ever in the front tier since it was cut off */
	uint32_t nr_slots;     /* a power of two */
	struct page **slots;
	/* Of unpinned pages: newer than the list's head is the oldest one, older the newest. */
	struct page list, cold;
	uint32_t nr_cold;
	/* Store (lent.c) */
	const struct berth__sqlite_backend
		*backend;        /* NULL: none; else as berth__sqlite_backend_now() */
	uint64_t group;          /* of the store; nobody else ever had it */
	uint32_t nr_items;       /* frames for each page */
	uint32_t largest_stored; /* no page above it is in the store; 0: none at all */
	int trust; /* pages in a row that were what the file has; then TRUSTED or DISTRUSTED */
	uint32_t front_pages;   /* the limit of unpinned pages */
	uint32_t front_sharers; /* by how many it was divided */
	uint32_t *seen;         /* page numbers that have left the front tier, by hash; */
	uint32_t seen_order, seen_since_growth;
	/* Not yet added to the counters: */
	uint32_t front_hits, store_hits, misses, uncounted;
};

#define TRUSTED 1000
#define DISTRUSTED (-1000)

/* cache.c */
extern const sqlite3_pcache_methods2 berth__sqlite_methods;

/* ---- The store's side (lent.c) ---------------------------------------------------------------------- */

/* The backend of this process, or NULL; asks the preload library for it when there is none yet. */
const struct berth__sqlite_backend *berth__sqlite_backend_now(void);
extern _Atomic(const struct berth__sqlite_backend *) berth__sqlite_backend_set;
/* A copy of it that is never freed. False: no memory. */
bool berth__sqlite_backend_take(const struct berth__sqlite_backend *backend);
struct berth__sqlite_counters *berth__sqlite_counters(void);
/* After a fork: the store is the parent's. Connections that there were have only a front tier from now on. */
void berth__lent_forget_in_child(void);

void berth__lent_init(struct cache *cache);
void berth__lent_close(struct cache *cache);
/* Pages of this cache may be in the store. */
static inline bool berth__lent_any(const struct cache *cache)
{
	return cache->largest_stored != 0 &&
	       cache->backend ==
		       atomic_load_explicit(&berth__sqlite_backend_set, memory_order_relaxed);
}
/* The content into page->base.pBuf; false: SQLite has to read it. Sets the page's flags. */
bool berth__lent_get(struct cache *cache, struct page *page);
/* The page leaves the front tier; it is clean. What the store has of it afterwards is its content. */
void berth__lent_demote(struct cache *cache, struct page *page);
/* The store has nothing under this number from now on. */
void berth__lent_drop(struct cache *cache, uint32_t pgno);
/* Likewise for pgno and all above it. */
void berth__lent_drop_from(struct cache *cache, uint32_t pgno);
/* SQLite may have looked at the page's content, and have changed it without telling us. */
static inline void berth__lent_forget(struct cache *cache, struct page *page)
{
	if (page->flags & PAGE_STORED)
		berth__lent_drop(cache, page->pgno);
	page->flags &= ~(uint32_t)(PAGE_STORED | PAGE_SAME);
}
/* From this buffer, just now; when all is verified. */
void berth__lent_was_written(const void *buffer, size_t bytes);
/* From the file, just now. */
void berth__lent_was_read(const struct cache *cache, struct page *page);
/* At the first unpinning: is it still what was read? */
void berth__lent_sample(struct cache *cache, struct page *page);
/* How many unpinned pages the front tier may have; cheap. */
uint32_t berth__lent_front_pages(struct cache *cache);
void berth__lent_count(struct cache *cache);

/* ---- From the cache to the VFS (vfs.c) ------------------------------------------------------------- */

/*
 * The page that SQLite got last from this thread, new: the very next read of this thread into its buffer is for
 * it. Every other call of the cache clears it.
 */
struct expected {
	const void *buffer; /* NULL: none */
	int bytes;
	bool filled; /* the content is there already */
	struct page *page;
	struct cache *cache;
};
extern _Thread_local struct expected berth__sqlite_expected;

static inline void berth__expect_nothing(void)
{
	berth__sqlite_expected.buffer = NULL;
}

/*
 * How often SQLite has written a buffer, of those with the same hash: when it is as before, the content of a
 * clean page is as before.
 */
#define WRITES_ORDER 12
extern _Atomic uint64_t berth__sqlite_writes[1 << WRITES_ORDER];

static inline _Atomic uint64_t *berth__writes_of(const void *buffer)
{
	return &berth__sqlite_writes[((uintptr_t)buffer >> 4) * 0x9e3779b97f4a7c15ull >>
				     (64 - WRITES_ORDER)];
}

static inline uint64_t berth__writes_now(const struct page *page)
{
	return atomic_load_explicit(berth__writes_of(page->base.pBuf), memory_order_relaxed);
}

/* Registers the VFS over the default one, as the default one. 0 or an error. */
int berth__vfs_register(sqlite3_vfs *(*find)(const char *), int (*add)(sqlite3_vfs *, int));

/* ---- Testing aids (lent.c) --------------------------------------------------------------------------- */

/*
 * BERTH_SQLITE_VERIFY in the environment: each page out of the store is compared with what SQLite would have
 * read, and the process stops where they differ. BERTH_UNTREATED with one of these names leaves out what keeps
 * stale pages away, and a test has to see that.
 */
enum leave_out {
	LEAVE_OUT_LOOKUP = 1u
			   << 0, /* "sqlite-lookup": a page that is looked for stays in the store */
	LEAVE_OUT_WRITES = 1u << 1, /* "sqlite-writes": nobody counts writes */
	LEAVE_OUT_CUT = 1u << 2,    /* "sqlite-cut": what is cut off stays in the store */
	LEAVE_OUT_AHEAD = 1u << 3,  /* "sqlite-ahead": what was read ahead is kept */
};
extern unsigned berth__sqlite_leave_out;
extern bool berth__sqlite_verify;
void berth__sqlite_read_environment(void);

#pragma GCC visibility pop

#endif
