/* SPDX-License-Identifier: MIT */
/*
 * Which page goes when room is needed: S3-FIFO, after Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are
 * all you need for cache eviction" (SOSP 2023). What is new goes through a small queue, a tenth of
 * all; what was used twice there goes on to the main queue, the rest is evicted and remembered by the ghosts, and
 * goes to the main queue at once when it is put again. In the main queue, what was used since it was
 * last looked at is spared. So a scan passes through a tenth of the store, and a use costs its reader
 * at most one byte.
 *
 * What a claim took away and what was dropped with its group isn't sought: it is met here.
 *
 * I2  The entries of a shard whose `where` says so are in its small or its main queue, linked both ways, and nr
 *     is their number.
 * I3  An entry in a queue holds a page (its seq is odd); any other doesn't.
 *
 * Costs: a few cache lines for each look; most evictions need one or two. Looks are bounded: behind half of
 * them uses spare nobody, so only what claims took is left to be skipped.
 */
#include "store/internal.h"

#define MAX_LOOKS 1024u
#define MAX_SPARED 512u

static struct berth_queue *queue_of(struct berth_shard *shard, unsigned where)
{
	return where == BERTH_ENTRY_MAIN ? &shard->main : &shard->small;
}

void berth__queue_add_locked(struct berth_store *store, struct berth_shard *shard, berth_entry_t nr,
			     enum berth_entry_where where)
{
	struct berth_queue *queue = queue_of(shard, where);
	struct berth_link *link = &store->links[nr];

	store->entries[nr].where = (uint8_t)where;
	link->prev = BERTH_ENTRY_NONE;
	link->next = queue->head;
	if (queue->head != BERTH_ENTRY_NONE)
		store->links[queue->head].prev = nr;
	else
		queue->tail = nr;
	queue->head = nr;
	queue->nr++;
}

void berth__queue_remove_locked(struct berth_store *store, struct berth_shard *shard,
				berth_entry_t nr)
{
	struct berth_queue *queue = queue_of(shard, store->entries[nr].where);
	struct berth_link *link = &store->links[nr];

	if (link->prev != BERTH_ENTRY_NONE)
		store->links[link->prev].next = link->next;
	else
		queue->head = link->next;
	if (link->next != BERTH_ENTRY_NONE)
		store->links[link->next].prev = link->prev;
	else
		queue->tail = link->prev;
	queue->nr--;
	store->entries[nr].where = BERTH_ENTRY_NOWHERE;
}

void berth__entry_forget_locked(struct berth_store *store, struct berth_shard *shard,
				berth_entry_t nr)
{
	struct berth_entry *entry = &store->entries[nr];
	uint64_t seq = atomic_load_explicit(&entry->seq, memory_order_relaxed);

	/* What is written next, to the frame or the key, is fenced by who writes. */
	atomic_store_explicit(&entry->seq, seq + (seq & 1), memory_order_relaxed);
	berth__bucket_forget_locked(store, store->links[nr].bucket, nr);
	berth__queue_remove_locked(store, shard, nr);
}

/* True: it stays. It was used, and is moved to where that takes it. */
static bool spare(struct berth_store *store, struct berth_shard *shard, berth_entry_t nr)
{
	struct berth_entry *entry = &store->entries[nr];
	unsigned freq = atomic_load_explicit(&entry->freq, memory_order_relaxed);

	if (entry->where == BERTH_ENTRY_SMALL ? freq < 2 : freq < 1)
		return false;
	freq = entry->where == BERTH_ENTRY_SMALL ? 0 : freq - 1;
	atomic_store_explicit(&entry->freq, (uint8_t)freq, memory_order_relaxed);
	berth__queue_remove_locked(store, shard, nr);
	berth__queue_add_locked(store, shard, nr, BERTH_ENTRY_MAIN);
	return true;
}

/* The oldest of the queue that is to give one up. */
static berth_entry_t oldest(const struct berth_shard *shard)
{
	uint64_t all = (uint64_t)shard->small.nr + shard->main.nr;

	if (shard->small.nr && shard->small.nr * UINT64_C(10) >= all)
		return shard->small.tail;
	return shard->main.nr ? shard->main.tail : shard->small.tail;
}

berth_entry_t berth__evict_locked(struct berth_store *store, struct berth_shard *shard)
{
	for (unsigned looks = 0; looks < MAX_LOOKS; looks++) {
		berth_entry_t nr = oldest(shard);
		struct berth_entry *entry;
		bool owns;

		if (nr == BERTH_ENTRY_NONE)
			return nr;
		entry = &store->entries[nr];
		berth__prefetch_entry(store, store->links[nr].prev);
		owns = berth__entry_owns_frame(store, nr);
		if (owns && !berth__entry_dropped(store, entry)) {
			if (looks < MAX_SPARED && spare(store, shard, nr))
				continue;
			if (entry->where == BERTH_ENTRY_SMALL)
				berth__ghost_add_locked(
					&store->ghosts[store->links[nr].bucket],
					berth__hash_print(berth__entry_hash(store, entry)));
			shard->evicted++;
		}
		berth__entry_forget_locked(store, shard, nr);
		if (owns)
			return nr;
		shard->lost++;
	}
	return BERTH_ENTRY_NONE;
}

void berth__prefetch_victims_locked(const struct berth_store *store,
				    const struct berth_shard *shard)
{
	berth_entry_t nr = oldest(shard);

	if (nr == BERTH_ENTRY_NONE)
		return;
	__builtin_prefetch(&store->entries[nr]);
	__builtin_prefetch(&store->buckets[store->links[nr].bucket]);
	__builtin_prefetch(&store->ghosts[store->links[nr].bucket]);
	berth__prefetch_entry(store, store->links[nr].prev);
}
