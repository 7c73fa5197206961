/* SPDX-License-Identifier: MIT */
/*
 * Buckets: which entries may hold a key; and ghosts: which keys were evicted lately.
 *
 * A bucket is one cache line, with a byte of the hash for each entry that it names. It is found by the
 * hash alone and never grows: when it is full the entry that is worth least makes room. With six
 * entries for twelve ways that happens to 2 % of what is put, in a store that is full.
 *
 * I1  Each way with a tag names an entry of its shard that is in a queue and points back to the bucket; its tag is
 *     that of the entry's key. No key is named twice, no entry either.
 *
 * Costs: one cache line each, but the worst of a full bucket, which looks at twelve entries.
 */
#include "store/internal.h"

static uint64_t tags_low(const struct berth_bucket *bucket)
{
	return atomic_load_explicit(&bucket->tags_low, memory_order_relaxed);
}

static uint32_t tags_high(const struct berth_bucket *bucket)
{
	return atomic_load_explicit(&bucket->tags_high, memory_order_relaxed);
}

unsigned berth__bucket_tag(const struct berth_bucket *bucket, unsigned way)
{
	return way < 8 ? tags_low(bucket) >> (8 * way) & 0xff :
			 tags_high(bucket) >> (8 * (way - 8)) & 0xff;
}

static void set_tag(struct berth_bucket *bucket, unsigned way, unsigned tag)
{
	if (way < 8) {
		uint64_t tags = tags_low(bucket) & ~(UINT64_C(0xff) << (8 * way));

		atomic_store_explicit(&bucket->tags_low, tags | (uint64_t)tag << (8 * way),
				      memory_order_relaxed);
	} else {
		uint32_t tags = tags_high(bucket) & ~(UINT32_C(0xff) << (8 * (way - 8)));

		atomic_store_explicit(&bucket->tags_high, tags | (uint32_t)tag << (8 * (way - 8)),
				      memory_order_relaxed);
	}
}

static berth_entry_t named(const struct berth_bucket *bucket, unsigned way)
{
	return atomic_load_explicit(&bucket->entries[way], memory_order_relaxed);
}

unsigned berth__bucket_find_locked(const struct berth_store *store,
				   const struct berth_bucket *bucket, unsigned tag,
				   const struct berth_store_key *key)
{
	for (unsigned way = 0; way < BERTH_BUCKET_WAYS; way++) {
		const struct berth_entry *entry;

		if (berth__bucket_tag(bucket, way) != tag)
			continue;
		entry = &store->entries[named(bucket, way)];
		if (atomic_load_explicit(&entry->group, memory_order_relaxed) == key->group &&
		    atomic_load_explicit(&entry->item, memory_order_relaxed) == key->item)
			return way;
	}
	return BERTH_WAY_NONE;
}

unsigned berth__bucket_empty_locked(const struct berth_bucket *bucket)
{
	unsigned way = 0;

	while (way < BERTH_BUCKET_WAYS && berth__bucket_tag(bucket, way))
		way++;
	return way;
}

void berth__bucket_set_locked(struct berth_bucket *bucket, unsigned way, unsigned tag,
			      berth_entry_t nr)
{
	atomic_store_explicit(&bucket->entries[way], nr, memory_order_relaxed);
	set_tag(bucket, way, tag);
}

void berth__bucket_forget_locked(struct berth_store *store, uint32_t bucket_nr, berth_entry_t nr)
{
	struct berth_bucket *bucket = &store->buckets[bucket_nr];

	for (unsigned way = 0; way < BERTH_BUCKET_WAYS; way++) {
		if (named(bucket, way) == nr && berth__bucket_tag(bucket, way)) {
			set_tag(bucket, way, 0);
			return;
		}
	}
	store->port->panic(store->port_ctx, "store: an entry isn't in its bucket", nr, bucket_nr);
}

/* Lower is worth less: what is gone anyway, then what the queues would evict first. */
static unsigned worth(const struct berth_store *store, berth_entry_t nr)
{
	const struct berth_entry *entry = &store->entries[nr];

	if (berth__entry_dropped(store, entry) || !berth__entry_owns_frame(store, nr))
		return 0;
	return 1 + 2u * atomic_load_explicit(&entry->freq, memory_order_relaxed) +
	       (entry->where == BERTH_ENTRY_MAIN);
}

berth_entry_t berth__bucket_worst_locked(const struct berth_store *store,
					 const struct berth_bucket *bucket)
{
	berth_entry_t worst = BERTH_ENTRY_NONE;
	unsigned least = UINT32_MAX;

	for (unsigned way = 0; way < BERTH_BUCKET_WAYS; way++)
		__builtin_prefetch(&store->entries[named(bucket, way)]);
	for (unsigned way = 0; way < BERTH_BUCKET_WAYS; way++) {
		berth_entry_t nr = named(bucket, way);
		unsigned value = worth(store, nr);

		if (value < least) {
			least = value;
			worst = nr;
		}
	}
	return worst;
}

/* ---- Ghosts ------------------------------------------------------------------------------------ */

bool berth__ghost_take_locked(struct berth_ghost *ghost, uint16_t print)
{
	unsigned i = 0;

	while (i < BERTH_GHOST_WAYS && ghost->prints[i] != print)
		i++;
	if (i == BERTH_GHOST_WAYS)
		return false;
	for (; i + 1 < BERTH_GHOST_WAYS; i++)
		ghost->prints[i] = ghost->prints[i + 1];
	ghost->prints[i] = 0;
	return true;
}

void berth__ghost_add_locked(struct berth_ghost *ghost, uint16_t print)
{
	for (unsigned i = BERTH_GHOST_WAYS - 1; i > 0; i--)
		ghost->prints[i] = ghost->prints[i - 1];
	ghost->prints[0] = print;
}
