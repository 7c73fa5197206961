/* SPDX-License-Identifier: MIT */
/*
 * Which shard serves which slice of the index.
 *
 * A slice is the buckets of the keys whose hash says so, and belongs to the shard of the same number. When claims have
 * taken all frames of a shard, the slices that it serves move to a shard that has an open granule: from then on
 * their keys lie in that one's frames, under its lock. So a put is refused only when nothing is open, and all that
 * is open serves all keys. When a shard's granules open again, whoever serves its slice forgets what is there and
 * gives the slice back.
 *
 * A slice that moves is empty: what it named was in frames that nobody has any more, or it is forgotten first.
 * So nothing changes for readers, who look into buckets and entries and never ask whose they are.
 *
 * Who serves a slice is changed only with the lock of the shard that serves it, by a release: the next to serve finds the
 * buckets as they were left.
 *
 * I7  What a slice names lies in frames of the shard that serves it; nr_moved is the number of slices that others serve.
 *
 * Costs: nothing while all are at home, but for a look under the lock at the line that the lock is in. A move:
 * O(granules) for the search, which isn't repeated until something opens, and O(shards). Giving back: O(shards), and for
 * each slice its shard's granules and the slice's buckets; only after something has opened, in a shard without a free frame.
 */
#include "store/internal.h"

#define MAX_SEEKS (UINT32_C(1) << 16)

static uint32_t server(const struct berth_store *store, uint32_t slice)
{
	return atomic_load_explicit(&store->shards[slice].served_by, memory_order_acquire);
}

struct berth_shard *berth__slice_lock(struct berth_store *store, uint32_t slice)
{
	uint32_t nr = slice;

	for (;;) {
		struct berth_shard *shard = &store->shards[nr];
		uint32_t now;

		berth_lock(&shard->lock);
		now = server(store, slice);
		if (BERTH_LIKELY(now == nr))
			return shard;
		berth_unlock(&shard->lock);
		nr = now;
	}
}

/* By who holds the lock of the shard that serves it. */
static void serve(struct berth_store *store, uint32_t slice, uint32_t from, uint32_t to)
{
	/* Before the new one can know of it. */
	if (from == slice)
		atomic_fetch_add_explicit(&store->nr_moved, 1, memory_order_relaxed);
	if (to == slice)
		atomic_fetch_sub_explicit(&store->nr_moved, 1, memory_order_relaxed);
	atomic_store_explicit(&store->shards[slice].served_by, to, memory_order_release);
}

/* ---- Moving ------------------------------------------------------------------------------------ */

static bool is_open(const struct berth_store *store, uint32_t granule)
{
	return berth_gcma_open(berth__generation(berth__area_of_granule(store, granule), granule));
}

/* A granule that is open, whoever's it is; NONE. */
static uint32_t seek_open(struct berth_store *store, struct berth_shard *shard)
{
	uint64_t openings = berth__openings(store);

	if (openings != shard->sought_openings) {
		shard->sought_openings = openings;
		shard->to_seek = store->nr_granules;
	}
	for (uint32_t seeks = 0; seeks < MAX_SEEKS && shard->to_seek; seeks++) {
		if (is_open(store, shard->seek_at))
			return shard->seek_at;
		shard->seek_at = shard->seek_at + 1 < store->nr_granules ? shard->seek_at + 1 : 0;
		shard->to_seek--;
	}
	return BERTH_ENTRY_NONE;
}

/*
 * The shard of one of the open granules from `first` on, so many as there are shards. They are dealt to those who ask by
 * their number: all would meet the same first one.
 */
static uint32_t choose_server(const struct berth_store *store, uint32_t asking, uint32_t first)
{
	uint32_t nr_open = 0, end = first + store->shard_mask + 1, chosen = first;

	end = end < store->nr_granules ? end : store->nr_granules;
	for (uint32_t nr = first; nr < end; nr++)
		nr_open += is_open(store, nr);
	if (!nr_open)
		return first & store->shard_mask;
	for (uint32_t nr = first, skip = asking % nr_open; nr < end; nr++) {
		if (!is_open(store, nr))
			continue;
		chosen = nr;
		if (skip-- == 0)
			break;
	}
	return chosen & store->shard_mask;
}

bool berth__slices_move_locked(struct berth_store *store, struct berth_shard *shard)
{
	uint32_t from = (uint32_t)(shard - store->shards), open, to;

	/* Claims took them; they are forgotten by the next tries. */
	if (shard->small.nr || shard->main.nr)
		return true;
	open = seek_open(store, shard);
	if (open == BERTH_ENTRY_NONE)
		return false;
	to = choose_server(store, from, open);
	for (uint32_t slice = 0; to != from && slice <= store->shard_mask; slice++)
		if (server(store, slice) == from)
			serve(store, slice, from, to);
	return true;
}

/* ---- Giving back ------------------------------------------------------------------------------- */

static bool has_open(const struct berth_store *store, uint32_t shard_nr)
{
	for (uint32_t nr = shard_nr; nr < store->nr_granules; nr += store->shard_mask + 1)
		if (is_open(store, nr))
			return true;
	return false;
}

static void forget_bucket(struct berth_store *store, struct berth_shard *shard,
			  const struct berth_bucket *bucket)
{
	for (unsigned way = 0; way < BERTH_BUCKET_WAYS; way++) {
		berth_entry_t nr;

		if (!berth__bucket_tag(bucket, way))
			continue;
		nr = atomic_load_explicit(&bucket->entries[way], memory_order_relaxed);
		berth__entry_forget_locked(store, shard, nr);
		if (berth__entry_owns_frame(store, nr))
			shard->evicted++;
		else
			shard->lost++;
		berth__give_locked(store, shard, nr);
	}
}

void berth__slices_give_back_locked(struct berth_store *store, struct berth_shard *shard)
{
	uint32_t me = (uint32_t)(shard - store->shards);

	if (BERTH_LIKELY(!atomic_load_explicit(&store->nr_moved, memory_order_relaxed)))
		return;
	for (uint32_t slice = 0; slice <= store->shard_mask; slice++) {
		if (slice == me || server(store, slice) != me || !has_open(store, slice))
			continue;
		for (uint32_t i = 0; i < store->shard_buckets; i++)
			forget_bucket(store, shard,
				      &store->buckets[slice * store->shard_buckets + i]);
		serve(store, slice, me, slice);
	}
}
