/* SPDX-License-Identifier: MIT */
/*
 * The store's one private header: entries, the index, shards, and the functions shared between its files.
 *
 * An *entry* is the record of one frame; its number counts the frames of all areas. What is stored under
 * a key lies in the frame of the entry that has this key. The granules of all areas are dealt to the shards in turn,
 * and keys by their hash to the *slices* of the index, of which there are as many. Each slice is served by the shard of its
 * number, whose frames its keys lie in, as long as that has frames; else by another one (slices.c). So a contiguous
 * claim takes a like share of each shard.
 *
 * Who protects what (the letter stands beside each field):
 *	c	constant after init
 *	S	the lock of the shard that the entry or granule belongs to, or that serves the bucket's slice
 *	a	atomic; written under S unless the comment says by whom. Readers hold nothing
 *
 * Lock order: a shard's lock is taken alone, and nothing is waited for while it is held but the copy of
 * one page.
 */
#ifndef BERTH_STORE_INTERNAL_H
#define BERTH_STORE_INTERNAL_H

#include <berth_compiler.h>
#include <berth_port.h>
#include <stdatomic.h>

#include <berth/store.h>

#include "core/alloc/gcma_fast.h"

#ifndef BERTH_HAVE_CPU_FAST
#define berth_cpu_fast berth_cpu
#endif

typedef uint32_t berth_entry_t; /* an entry's number; never a pfn */
#define BERTH_ENTRY_NONE UINT32_MAX

/* ---- Entries ----------------------------------------------------------------------------------- */

enum berth_entry_where { BERTH_ENTRY_NOWHERE, BERTH_ENTRY_SMALL, BERTH_ENTRY_MAIN };

#define BERTH_MAX_FREQ 3u

/*
 * What a reader looks at, half a cache line. seq is even while the entry holds nothing or is being written, and it only
 * grows: who finds it odd, and the same before and after, has read one page and the key that it was
 * stored under.
 */
struct berth_entry {
	_Atomic uint64_t seq;         /* a */
	_Atomic uint64_t group, item; /* a: the key */
	_Atomic uint32_t epoch_low;   /* a: the group's epoch, 48 bits, when the put began */
	_Atomic uint16_t epoch_high;  /* a */
	_Atomic uint8_t freq; /* a: uses since it came or was spared; readers write it, too */
	uint8_t where;        /* S: which queue it is in */
};

/* What only writers need. */
struct berth_link {
	uint32_t next,
		prev; /* S: in its queue, towards the tail and the head; next: of its granule's free ones */
	uint32_t bucket; /* S: the bucket that names the entry, while it is in a queue */
};

#define BERTH_EPOCH_MASK ((UINT64_C(1) << 48) - 1)

static inline uint64_t berth__entry_epoch(const struct berth_entry *entry)
{
	return atomic_load_explicit(&entry->epoch_low, memory_order_relaxed) |
	       (uint64_t)atomic_load_explicit(&entry->epoch_high, memory_order_relaxed) << 32;
}

/* ---- The index --------------------------------------------------------------------------------- */

#define BERTH_BUCKET_WAYS 12u
#define BERTH_BUCKET_FILL 6u /* entries for each bucket when all frames are in use */

/* One cache line. It is a hint: what it names is believed only if the entry says so too. */
struct berth_bucket {
	_Alignas(64) _Atomic uint64_t tags_low;      /* a: ways 0 .. 7, a byte each; 0: empty */
	_Atomic uint32_t tags_high;                  /* a: ways 8 .. 11 */
	_Atomic uint32_t entries[BERTH_BUCKET_WAYS]; /* a */
};

/* Keys that were evicted from the small queue lately, by bucket: the newest first. */
#define BERTH_GHOST_WAYS 8u
struct berth_ghost {
	_Alignas(16) uint16_t prints[BERTH_GHOST_WAYS]; /* S: 0: none */
};

/* ---- Shards, granules -------------------------------------------------------------------------- */

/* A generation that no granule ever has. */
#define BERTH_NOT_ADOPTED UINT64_MAX

struct berth_granule {
	/* a: the generation under which its entries hold what they hold; odd: none */
	_Atomic uint64_t adopted;
	uint32_t free;       /* S: its first free entry */
	uint32_t nr_free;    /* S */
	uint32_t next, prev; /* S: among the shard's granules with free entries */
};

struct berth_queue {
	uint32_t head, tail; /* S: newest, oldest */
	uint32_t nr;         /* S */
};

struct berth_shard {
	_Alignas(64) berth_lock_t lock;
	/* a: the shard that serves the slice of this one's number; by who holds that shard's lock */
	_Atomic uint32_t served_by;
	struct berth_queue small, main;
	uint32_t free_granules; /* S: the first granule with free entries */
	uint32_t to_look_at;    /* S: granules to look at until all known openings are adopted */
	uint32_t look_at;       /* S: the next one to look at */
	uint64_t openings;      /* S: of all areas, when that was last counted */
	/* S: events */
	uint64_t puts, drops, lost, evicted, refused;
	/* S: likewise, of the search for an open granule of whichever shard */
	uint64_t sought_openings;
	uint32_t to_seek, seek_at;
};

/* Gets are counted by CPU: a reader writes to no line that others read. */
struct berth_reads {
	_Alignas(64) _Atomic uint64_t hits, misses, retries; /* a: by readers */
};
#define BERTH_NR_READS 32u

#define BERTH_NR_EPOCHS 4096u

struct berth_store_area {
	struct berth_gcma *gcma;
	struct berth_gcma_hot *hot; /* of it */
	char *linear;               /* its first frame */
	uint32_t first_entry, nr_entries;
	uint32_t first_granule, nr_granules;
	uint32_t order;
};

struct berth_store {
	/*
	 * c, but for a store whose memory is wiped in a forked child (MADV_WIPEONFORK): there all of
	 * it is zero, and nothing is read or kept.
	 */
	uint32_t alive;
	uint32_t nr_areas;
	uint32_t shard_mask, shard_shift; /* c: nr_shards - 1, and its log2 */
	uint32_t shard_buckets;           /* c: of each shard */
	uint32_t nr_entries, nr_granules;
	uint64_t seed;
	struct berth_entry *entries;
	struct berth_link *links;
	struct berth_bucket *buckets;
	struct berth_ghost *ghosts;
	struct berth_granule *granules;
	_Atomic uint64_t *epochs; /* a: by who drops a group */
	struct berth_shard *shards;
	struct berth_reads *reads;
	_Atomic uint32_t nr_moved; /* a: slices that another shard serves than their own */
	size_t metadata_bytes;
	const struct berth_port_ops *port;
	void *port_ctx;
	struct berth_store_area areas[BERTH_STORE_MAX_AREAS];
};

static inline const struct berth_store_area *berth__area_of_entry(const struct berth_store *store,
								  berth_entry_t nr)
{
	const struct berth_store_area *area = store->areas;

	while (BERTH_UNLIKELY(nr - area->first_entry >= area->nr_entries))
		area++;
	return area;
}

static inline const struct berth_store_area *berth__area_of_granule(const struct berth_store *store,
								    uint32_t granule)
{
	const struct berth_store_area *area = store->areas;

	while (BERTH_UNLIKELY(granule - area->first_granule >= area->nr_granules))
		area++;
	return area;
}

/* A granule's number among those of all areas. */
static inline uint32_t berth__granule_of(const struct berth_store_area *area, berth_entry_t nr)
{
	return area->first_granule + ((nr - area->first_entry) >> area->order);
}

static inline void *berth__frame(const struct berth_store_area *area, berth_entry_t nr)
{
	return area->linear + ((size_t)(nr - area->first_entry) << BERTH_PAGE_SHIFT);
}

/* The generation that a granule has now. */
static inline uint64_t berth__generation(const struct berth_store_area *area, uint32_t granule)
{
	return berth__gcma_generation(area->hot, granule - area->first_granule);
}

/* What the entry's frame holds is still there, or it is free: no claim has been there since the granule was adopted. */
static inline bool berth__entry_owns_frame(const struct berth_store *store, berth_entry_t nr)
{
	const struct berth_store_area *area = berth__area_of_entry(store, nr);
	uint32_t granule = berth__granule_of(area, nr);

	return atomic_load_explicit(&store->granules[granule].adopted, memory_order_relaxed) ==
	       berth__generation(area, granule);
}

/* ---- Hashes ------------------------------------------------------------------------------------ */

#ifdef __SIZEOF_INT128__
__extension__ typedef unsigned __int128 berth_wide_t;
#endif

static inline uint64_t berth__fold(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
	berth_wide_t product = (berth_wide_t)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
	a = (a ^ a >> 32) * UINT64_C(0xbf58476d1ce4e5b9) ^ b;
	a = (a ^ a >> 29) * UINT64_C(0x94d049bb133111eb);
	return a ^ a >> 32;
#endif
}

/* bits 0-7 slice, 8-15 tag, 16-31 fingerprint, 32-63 bucket */
static inline uint64_t berth__hash(const struct berth_store *store, uint64_t group, uint64_t item)
{
	uint64_t hash = berth__fold(group ^ store->seed ^ UINT64_C(0xa0761d6478bd642f),
				    item ^ UINT64_C(0xe7037ed1a0b428db));

	return berth__fold(hash ^ store->seed, UINT64_C(0x8ebc6af09c88c6e3));
}

static inline unsigned berth__hash_tag(uint64_t hash)
{
	return 1 + (unsigned)((hash >> 8 & 0xff) * 255 >> 8);
}

static inline uint16_t berth__hash_print(uint64_t hash)
{
	return (uint16_t)(1 + ((hash >> 16 & 0xffff) * 65535 >> 16));
}

static inline uint32_t berth__hash_slice(const struct berth_store *store, uint64_t hash)
{
	return (uint32_t)hash & store->shard_mask;
}

static inline uint32_t berth__hash_bucket(const struct berth_store *store, uint64_t hash)
{
	return berth__hash_slice(store, hash) * store->shard_buckets +
	       (uint32_t)((hash >> 32) * store->shard_buckets >> 32);
}

static inline _Atomic uint64_t *berth__epoch(const struct berth_store *store, uint64_t group)
{
	uint64_t hash = (group ^ store->seed) * UINT64_C(0x9e3779b97f4a7c15);

	return &store->epochs[hash >> 52];
}

static inline uint64_t berth__epoch_now(const struct berth_store *store, uint64_t group)
{
	return atomic_load_explicit(berth__epoch(store, group), memory_order_relaxed) &
	       BERTH_EPOCH_MASK;
}

/* The key of an entry that the caller's lock, or a look at seq afterwards, holds still. */
static inline uint64_t berth__entry_hash(const struct berth_store *store,
					 const struct berth_entry *entry)
{
	return berth__hash(store, atomic_load_explicit(&entry->group, memory_order_relaxed),
			   atomic_load_explicit(&entry->item, memory_order_relaxed));
}

/* Its group was dropped since: it's as good as not there. */
static inline bool berth__entry_dropped(const struct berth_store *store,
					const struct berth_entry *entry)
{
	uint64_t group = atomic_load_explicit(&entry->group, memory_order_relaxed);

	return berth__entry_epoch(entry) != berth__epoch_now(store, group);
}

static inline void berth__prefetch_entry(const struct berth_store *store, berth_entry_t nr)
{
	if (nr != BERTH_ENTRY_NONE) {
		__builtin_prefetch(&store->entries[nr]);
		__builtin_prefetch(&store->links[nr]);
	}
}

/* ---- index.c ----------------------------------------------------------------------------------- */

#define BERTH_WAY_NONE BERTH_BUCKET_WAYS

/*
 * Ways whose tag is the given one, as bits 7, 15, .. of two words. A way whose tag differs from it by
 * one may be among them; the entry tells.
 */
static inline uint64_t berth__match8(uint64_t tags, unsigned tag)
{
	uint64_t differ = tags ^ tag * UINT64_C(0x0101010101010101);

	return (differ - UINT64_C(0x0101010101010101)) & ~differ & UINT64_C(0x8080808080808080);
}

static inline uint32_t berth__match4(uint32_t tags, unsigned tag)
{
	uint32_t differ = tags ^ tag * UINT32_C(0x01010101);

	return (differ - UINT32_C(0x01010101)) & ~differ & UINT32_C(0x80808080);
}

unsigned berth__bucket_tag(const struct berth_bucket *bucket, unsigned way);
/* The way that names the key's entry; NONE. */
unsigned berth__bucket_find_locked(const struct berth_store *store,
				   const struct berth_bucket *bucket, unsigned tag,
				   const struct berth_store_key *key);
/* A way that is empty; NONE. */
unsigned berth__bucket_empty_locked(const struct berth_bucket *bucket);
void berth__bucket_set_locked(struct berth_bucket *bucket, unsigned way, unsigned tag,
			      berth_entry_t nr);
/* Takes an entry's name away; it must be there. */
void berth__bucket_forget_locked(struct berth_store *store, uint32_t bucket, berth_entry_t nr);
/* Of a full bucket's entries the one that is worth least. */
berth_entry_t berth__bucket_worst_locked(const struct berth_store *store,
					 const struct berth_bucket *bucket);

/* True, and forgotten: the key was evicted lately. */
bool berth__ghost_take_locked(struct berth_ghost *ghost, uint16_t print);
void berth__ghost_add_locked(struct berth_ghost *ghost, uint16_t print);

/* ---- policy.c ---------------------------------------------------------------------------------- */

void berth__queue_add_locked(struct berth_store *store, struct berth_shard *shard, berth_entry_t nr,
			     enum berth_entry_where where);
void berth__queue_remove_locked(struct berth_store *store, struct berth_shard *shard,
				berth_entry_t nr);
/* Makes an entry that holds something hold nothing: from its index, its queue; counts why. It owns its frame, or not. */
void berth__entry_forget_locked(struct berth_store *store, struct berth_shard *shard,
				berth_entry_t nr);
/* The frame of the entry that is worth least, which holds nothing then. NONE: there was none within a
 * bounded number of looks. */
berth_entry_t berth__evict_locked(struct berth_store *store, struct berth_shard *shard);
/* Has in the cache what the next eviction looks at. */
void berth__prefetch_victims_locked(const struct berth_store *store,
				    const struct berth_shard *shard);

/* ---- slices.c ---------------------------------------------------------------------------------- */

/* The shard that serves the slice, and goes on to until its lock, which the caller has now, is released. */
struct berth_shard *berth__slice_lock(struct berth_store *store, uint32_t slice);
static inline bool berth__slice_is_served(const struct berth_store *store, uint32_t slice,
					  const struct berth_shard *shard)
{
	return &store->shards[atomic_load_explicit(&store->shards[slice].served_by,
						   memory_order_relaxed)] == shard;
}
/* The shard has found no frame. True: there may be one now, for the slices that it served, if the caller begins again
 * with berth__slice_lock(). */
bool berth__slices_move_locked(struct berth_store *store, struct berth_shard *shard);
/* Slices of others whose own shards have frames again are theirs, and empty. */
void berth__slices_give_back_locked(struct berth_store *store, struct berth_shard *shard);

/* ---- frames.c ---------------------------------------------------------------------------------- */

/* An entry that holds nothing and owns its frame, as far as is known: a free one, or by eviction. */
berth_entry_t berth__take_locked(struct berth_store *store, struct berth_shard *shard);
/* Gives one back, if it still owns its frame. */
void berth__give_locked(struct berth_store *store, struct berth_shard *shard, berth_entry_t nr);
/* How often granules of any area have opened. */
uint64_t berth__openings(const struct berth_store *store);
/* A granule was found closed: none of its free entries owns its frame. */
void berth__abandon_locked(struct berth_store *store, struct berth_shard *shard, uint32_t granule);

#endif
