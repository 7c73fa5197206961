/* SPDX-License-Identifier: MIT */
/*
 * berth_store_check(): I1 to I7, as the heads of index.c, policy.c, frames.c, store.c and slices.c number them. Cost:
 * O(frames).
 */
#include "store/internal.h"

struct check {
	struct berth_store *store;
	struct berth_violation *violation;
};

static bool holds(const struct check *check, bool cond, const char *what, uint64_t where,
		  uint64_t value, uint64_t expected)
{
	if (!cond && check->violation)
		*check->violation = (struct berth_violation){ what, where, value, expected };
	return cond;
}

static bool holds_page(const struct berth_store *store, berth_entry_t nr)
{
	return atomic_load_explicit(&store->entries[nr].seq, memory_order_relaxed) & 1;
}

static uint32_t shard_of(const struct berth_store *store, berth_entry_t nr)
{
	return berth__granule_of(berth__area_of_entry(store, nr), nr) & store->shard_mask;
}

/* I2, I3 */
static bool check_queue(const struct check *check, uint32_t shard_nr,
			const struct berth_queue *queue, enum berth_entry_where where)
{
	const struct berth_store *store = check->store;
	berth_entry_t nr = queue->head, prev = BERTH_ENTRY_NONE;

	for (uint32_t i = 0; i < queue->nr; i++) {
		if (!holds(check, nr < store->nr_entries, "I2 a queue is too short", shard_nr, i,
			   queue->nr) ||
		    !holds(check, store->entries[nr].where == where,
			   "I2 an entry is in another queue than it says", nr,
			   store->entries[nr].where, where) ||
		    !holds(check, store->links[nr].prev == prev, "I2 a queue's links differ", nr,
			   store->links[nr].prev, prev) ||
		    !holds(check, shard_of(store, nr) == shard_nr,
			   "I2 an entry is in another shard's queue", nr, shard_of(store, nr),
			   shard_nr) ||
		    !holds(check, holds_page(store, nr), "I3 an entry in a queue holds nothing", nr,
			   0, 1))
			return false;
		prev = nr;
		nr = store->links[nr].next;
	}
	return holds(check, nr == BERTH_ENTRY_NONE && queue->tail == prev,
		     "I2 a queue doesn't end with its tail", shard_nr, nr, queue->tail);
}

/* I1, I6, I7, of one way */
static bool check_way(const struct check *check, uint32_t shard_nr, uint32_t bucket_nr,
		      unsigned way)
{
	const struct berth_store *store = check->store;
	const struct berth_bucket *bucket = &store->buckets[bucket_nr];
	berth_entry_t nr = atomic_load_explicit(&bucket->entries[way], memory_order_relaxed);
	unsigned tag = berth__bucket_tag(bucket, way);
	const struct berth_entry *entry;
	uint64_t hash;

	if (!holds(check, nr < store->nr_entries, "I1 a bucket names no entry", bucket_nr, nr,
		   store->nr_entries))
		return false;
	entry = &store->entries[nr];
	hash = berth__entry_hash(store, entry);
	if (!holds(check, entry->where != BERTH_ENTRY_NOWHERE,
		   "I1 a bucket names an entry that holds nothing", bucket_nr, nr, 0) ||
	    !holds(check, store->links[nr].bucket == bucket_nr,
		   "I1 an entry points to another bucket", nr, store->links[nr].bucket,
		   bucket_nr) ||
	    !holds(check, berth__hash_bucket(store, hash) == bucket_nr,
		   "I1 a key is in another bucket than its own", nr, bucket_nr,
		   berth__hash_bucket(store, hash)) ||
	    !holds(check, berth__hash_tag(hash) == tag, "I1 a tag isn't its key's", nr, tag,
		   berth__hash_tag(hash)) ||
	    !holds(check, shard_of(store, nr) == shard_nr,
		   "I7 a slice names an entry of a shard that doesn't serve it", nr,
		   shard_of(store, nr), shard_nr) ||
	    !holds(check,
		   berth__entry_epoch(entry) <=
			   berth__epoch_now(store, atomic_load_explicit(&entry->group,
									memory_order_relaxed)),
		   "I6 an entry's epoch is ahead", nr, berth__entry_epoch(entry), 0))
		return false;
	for (unsigned other = 0; other < way; other++) {
		berth_entry_t twin = atomic_load_explicit(&bucket->entries[other],
							  memory_order_relaxed);

		if (berth__bucket_tag(bucket, other) != tag)
			continue;
		if (!holds(check,
			   twin != nr && berth__entry_hash(store, &store->entries[twin]) != hash,
			   "I1 a key is named twice", bucket_nr, twin, nr))
			return false;
	}
	return true;
}

static uint32_t server(const struct berth_store *store, uint32_t slice)
{
	return atomic_load_explicit(&store->shards[slice].served_by, memory_order_relaxed);
}

static bool check_slice(const struct check *check, uint32_t shard_nr, uint32_t slice,
			uint64_t *named)
{
	const struct berth_store *store = check->store;

	for (uint32_t i = 0; i < store->shard_buckets; i++) {
		uint32_t nr = slice * store->shard_buckets + i;

		for (unsigned way = 0; way < BERTH_BUCKET_WAYS; way++) {
			if (!berth__bucket_tag(&store->buckets[nr], way))
				continue;
			++*named;
			if (!check_way(check, shard_nr, nr, way))
				return false;
		}
	}
	return true;
}

/* The slices that a shard serves. */
static bool check_index(const struct check *check, uint32_t shard_nr)
{
	const struct berth_store *store = check->store;
	const struct berth_shard *shard = &store->shards[shard_nr];
	uint64_t named = 0;

	for (uint32_t slice = 0; slice <= store->shard_mask; slice++)
		if (server(store, slice) == shard_nr &&
		    !check_slice(check, shard_nr, slice, &named))
			return false;
	return holds(check, named == (uint64_t)shard->small.nr + shard->main.nr,
		     "I1 the index names more or less than the queues hold", shard_nr, named,
		     (uint64_t)shard->small.nr + shard->main.nr);
}

/* I4, I5; counts entries that are in queues */
static bool check_granule(const struct check *check, uint32_t nr, uint64_t *queued)
{
	const struct berth_store *store = check->store;
	const struct berth_store_area *area = berth__area_of_granule(store, nr);
	const struct berth_granule *granule = &store->granules[nr];
	berth_entry_t first = area->first_entry + ((nr - area->first_granule) << area->order);
	uint32_t size = UINT32_C(1) << area->order, here = 0, nr_free = 0;
	uint64_t adopted = atomic_load_explicit(&granule->adopted, memory_order_relaxed);

	for (uint32_t i = 0; i < size; i++) {
		bool in_queue = store->entries[first + i].where != BERTH_ENTRY_NOWHERE;

		here += in_queue;
		if (!holds(check, in_queue || !holds_page(store, first + i),
			   "I3 an entry in no queue holds a page", first + i, 1, 0))
			return false;
	}
	for (berth_entry_t entry = granule->free; nr_free < granule->nr_free; nr_free++) {
		if (!holds(check, entry - first < size, "I4 a free entry isn't of its granule", nr,
			   entry, first) ||
		    !holds(check, store->entries[entry].where == BERTH_ENTRY_NOWHERE,
			   "I4 a free entry is in a queue", nr, entry, 0))
			return false;
		entry = store->links[entry].next;
	}
	*queued += here;
	return holds(check, adopted != berth__generation(area, nr) || here + nr_free == size,
		     "I5 frames of a granule are nowhere", nr, here + nr_free, size);
}

static bool check_granules(const struct check *check, uint32_t shard_nr)
{
	const struct berth_store *store = check->store;
	const struct berth_shard *shard = &store->shards[shard_nr];
	uint32_t prev = BERTH_ENTRY_NONE, nr = shard->free_granules;
	uint64_t queued = 0, listed = 0, with_free = 0;

	for (uint32_t i = shard_nr; i < store->nr_granules; i += store->shard_mask + 1) {
		with_free += store->granules[i].nr_free > 0;
		if (!check_granule(check, i, &queued))
			return false;
	}
	if (!holds(check, queued == (uint64_t)shard->small.nr + shard->main.nr,
		   "I2 entries say that they are in a queue, and aren't", shard_nr, queued,
		   (uint64_t)shard->small.nr + shard->main.nr))
		return false;
	while (nr != BERTH_ENTRY_NONE && listed < with_free) {
		if (!holds(check,
			   nr < store->nr_granules && store->granules[nr].nr_free &&
				   store->granules[nr].prev == prev &&
				   (nr & store->shard_mask) == shard_nr,
			   "I4 a wrong granule in the list of free ones", shard_nr, nr, prev))
			return false;
		listed++;
		prev = nr;
		nr = store->granules[nr].next;
	}
	return holds(check, listed == with_free && nr == BERTH_ENTRY_NONE,
		     "I4 a granule with free entries isn't listed", shard_nr, listed, with_free);
}

/* I7 */
static bool check_servers(const struct check *check)
{
	const struct berth_store *store = check->store;
	uint32_t nr_moved = atomic_load_explicit(&store->nr_moved, memory_order_relaxed);
	uint32_t moved = 0;

	for (uint32_t slice = 0; slice <= store->shard_mask; slice++) {
		if (!holds(check, server(store, slice) <= store->shard_mask,
			   "I7 no shard serves a slice", slice, server(store, slice),
			   store->shard_mask))
			return false;
		moved += server(store, slice) != slice;
	}
	return holds(check, moved == nr_moved, "I7 slices that moved don't add up", 0, moved,
		     nr_moved);
}

bool berth_store_check(struct berth_store *store, struct berth_violation *violation)
{
	struct check check = { store, violation };

	if (store->alive && !check_servers(&check))
		return false;
	for (uint32_t i = 0; store->alive && i <= store->shard_mask; i++) {
		const struct berth_shard *shard = &store->shards[i];

		if (!check_queue(&check, i, &shard->small, BERTH_ENTRY_SMALL) ||
		    !check_queue(&check, i, &shard->main, BERTH_ENTRY_MAIN) ||
		    !check_index(&check, i) || !check_granules(&check, i))
			return false;
	}
	return true;
}
