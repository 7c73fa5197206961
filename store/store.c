/* SPDX-License-Identifier: MIT */
/*
 * The discardable store: setting up, put, get, drop, statistics. ARCHITECTURE.md tells the journey of a page.
 *
 * What get returns is what was put last under the key, or nothing:
 *
 * - Each entry's sequence number says that the frame holds one page under one key (see copy.h for why
 *   a copy between two looks at it is whole), the granule's generation that no claim came in between.
 * - A put makes the old page unreadable before anything can fail, and holds the lock of the shard that serves the key
 *   until the new one can be read; so of two puts one is last, and a drop comes before or behind. A put that begins
 *   again with another shard is a drop, and then a put.
 * - drop_group() counts up the epoch of the group, and a page is believed only under the epoch that its put began with.
 *   So a put that was under way when its group was dropped is void, whatever data it had read. Groups
 *   share 4096 epochs by hash: a drop takes pages of others along.
 *
 * I6  An entry's epoch isn't ahead of its group's.
 *
 * Costs: a get reads the bucket, the entry and two small tables, copies, and looks again at two words; it
 * writes its CPU's counter, and a byte of the entry when the page is among the first three uses. A put takes the
 * shard's lock, evicts one page when there is no room, and copies under the lock. Where the shard has no frame it looks
 * for another one: O(granules), once after each opening.
 */
#include "store/copy.h"
#include "store/internal.h"

/* ---- Setting up -------------------------------------------------------------------------------- */

#define ENTRIES_PER_SHARD 1024u
#define MAX_SHARDS 256u

/* Where the parts of the metadata are. */
struct layout {
	uint64_t nr_entries, nr_granules;
	uint32_t nr_shards, shard_buckets;
	size_t shards, reads, epochs, granules, buckets, entries, links, ghosts, bytes;
};

static uint64_t area_granules(const struct berth_gcma *area)
{
	return berth_gcma_nr_granules(area);
}

/* Frames that the shard with most of them has. */
static uint64_t shard_entries(const struct berth_store_params *params, uint32_t nr_shards)
{
	uint64_t most = 0;

	for (unsigned i = 0; i < params->nr_areas; i++)
		most += (area_granules(params->areas[i]) + nr_shards - 1) / nr_shards
			<< berth_gcma_granule_order(params->areas[i]);
	return most;
}

static bool choose_shards(const struct berth_store_params *params, struct layout *layout)
{
	uint32_t nr = params->nr_shards;

	if (nr)
		return nr <= MAX_SHARDS && (nr & (nr - 1)) == 0 && nr <= layout->nr_granules &&
		       (layout->nr_shards = nr);
	nr = 1;
	while (nr < MAX_SHARDS && nr * UINT64_C(2) * ENTRIES_PER_SHARD <= layout->nr_entries &&
	       nr * UINT64_C(2) <= layout->nr_granules)
		nr *= 2;
	layout->nr_shards = nr;
	return true;
}

static bool count_frames(const struct berth_store_params *params, struct layout *layout)
{
	if (!params || !params->areas || params->nr_areas < 1 ||
	    params->nr_areas > BERTH_STORE_MAX_AREAS || !params->linear || !params->port)
		return false;
	for (unsigned i = 0; i < params->nr_areas; i++) {
		if (!params->areas[i] ||
		    berth_gcma_start_pfn(params->areas[i]) < params->linear_pfn)
			return false;
		for (unsigned k = 0; k < i; k++)
			if (params->areas[k] == params->areas[i])
				return false;
		layout->nr_granules += area_granules(params->areas[i]);
		layout->nr_entries += area_granules(params->areas[i])
				      << berth_gcma_granule_order(params->areas[i]);
	}
	return layout->nr_entries < BERTH_ENTRY_NONE;
}

static size_t take_part(struct layout *layout, size_t nr, size_t size)
{
	size_t at = layout->bytes;

	layout->bytes += (nr * size + 63) & ~(size_t)63;
	return at;
}

static bool plan(const struct berth_store_params *params, struct layout *layout)
{
	uint64_t nr_buckets;

	*layout = (struct layout){ .bytes = (sizeof(struct berth_store) + 63) & ~(size_t)63 };
	if (!count_frames(params, layout) || !choose_shards(params, layout))
		return false;
	layout->shard_buckets =
		(uint32_t)(shard_entries(params, layout->nr_shards) / BERTH_BUCKET_FILL + 1);
	nr_buckets = (uint64_t)layout->nr_shards * layout->shard_buckets;
	layout->shards = take_part(layout, layout->nr_shards, sizeof(struct berth_shard));
	layout->reads = take_part(layout, BERTH_NR_READS, sizeof(struct berth_reads));
	layout->epochs = take_part(layout, BERTH_NR_EPOCHS, sizeof(uint64_t));
	layout->granules = take_part(layout, layout->nr_granules, sizeof(struct berth_granule));
	layout->buckets = take_part(layout, nr_buckets, sizeof(struct berth_bucket));
	layout->entries = take_part(layout, layout->nr_entries, sizeof(struct berth_entry));
	layout->links = take_part(layout, layout->nr_entries, sizeof(struct berth_link));
	layout->ghosts = take_part(layout, nr_buckets, sizeof(struct berth_ghost));
	return true;
}

size_t berth_store_metadata_size(const struct berth_store_params *params)
{
	struct layout layout;

	return plan(params, &layout) ? layout.bytes : 0;
}

static void place(struct berth_store *store, const struct layout *layout)
{
	char *base = (char *)store;

	store->shards = (struct berth_shard *)(void *)(base + layout->shards);
	store->reads = (struct berth_reads *)(void *)(base + layout->reads);
	store->epochs = (_Atomic uint64_t *)(void *)(base + layout->epochs);
	store->granules = (struct berth_granule *)(void *)(base + layout->granules);
	store->buckets = (struct berth_bucket *)(void *)(base + layout->buckets);
	store->entries = (struct berth_entry *)(void *)(base + layout->entries);
	store->links = (struct berth_link *)(void *)(base + layout->links);
	store->ghosts = (struct berth_ghost *)(void *)(base + layout->ghosts);
	store->metadata_bytes = layout->bytes;
	store->nr_entries = (uint32_t)layout->nr_entries;
	store->nr_granules = (uint32_t)layout->nr_granules;
	store->shard_mask = layout->nr_shards - 1;
	store->shard_buckets = layout->shard_buckets;
	while (UINT32_C(1) << store->shard_shift < layout->nr_shards)
		store->shard_shift++;
}

static void add_areas(struct berth_store *store, const struct berth_store_params *params)
{
	uint32_t entry = 0, granule = 0;

	store->nr_areas = params->nr_areas;
	for (unsigned i = 0; i < params->nr_areas; i++) {
		struct berth_gcma *gcma = params->areas[i];
		struct berth_store_area *area = &store->areas[i];

		area->gcma = gcma;
		area->hot = berth__gcma_hot(gcma);
		area->order = berth_gcma_granule_order(gcma);
		area->linear = (char *)params->linear +
			       ((berth_gcma_start_pfn(gcma) - params->linear_pfn)
				<< BERTH_PAGE_SHIFT);
		area->first_granule = granule;
		area->nr_granules = (uint32_t)area_granules(gcma);
		area->first_entry = entry;
		area->nr_entries = area->nr_granules << area->order;
		granule += area->nr_granules;
		entry += area->nr_entries;
	}
}

int berth_store_init(struct berth_store **result, const struct berth_store_params *params,
		     void *metadata, size_t metadata_bytes)
{
	struct berth_store *store = metadata;
	struct layout layout;

	if (!result || !plan(params, &layout) || !metadata || (uintptr_t)metadata % 64 ||
	    metadata_bytes < layout.bytes)
		return -BERTH_EINVAL;
	__builtin_memset(metadata, 0, layout.bytes);
	place(store, &layout);
	add_areas(store, params);
	store->seed = berth__fold(params->seed ^ UINT64_C(0x9e3779b97f4a7c15),
				  UINT64_C(0xd6e8feb86659fd93));
	store->port = params->port;
	store->port_ctx = params->port_ctx;
	for (uint32_t i = 0; i < store->nr_granules; i++) {
		atomic_store_explicit(&store->granules[i].adopted, BERTH_NOT_ADOPTED,
				      memory_order_relaxed);
		store->granules[i].free = BERTH_ENTRY_NONE;
	}
	for (uint32_t i = 0; i < layout.nr_shards; i++) {
		struct berth_shard *shard = &store->shards[i];

		shard->small.head = shard->small.tail = BERTH_ENTRY_NONE;
		shard->main.head = shard->main.tail = BERTH_ENTRY_NONE;
		shard->free_granules = BERTH_ENTRY_NONE;
		shard->openings = shard->sought_openings = UINT64_MAX;
		atomic_store_explicit(&shard->served_by, i, memory_order_relaxed);
	}
	store->alive = 1;
	*result = store;
	return 0;
}

/* ---- Put --------------------------------------------------------------------------------------- */

#define MAX_TRIES 8u
#define MAX_ROUNDS 16u

struct put {
	const struct berth_store_key *key;
	const void *data;
	uint64_t hash, epoch;
	struct berth_bucket *bucket;
	uint32_t bucket_nr;
};

/* Both ends are there, so nothing faults while a claim may be waiting for us. */
static void touch(const void *data)
{
	const volatile char *bytes = data;

	(void)bytes[0];
	(void)bytes[8 * BERTH_PORT_PAGE_WORDS - 1];
}

enum filled { FILLED, CLOSED, MOVED, NO_CPU };

/* Writes the page into the frame of an entry that holds nothing. */
static enum filled fill_locked(struct berth_store *store, const struct put *put, berth_entry_t nr)
{
	const struct berth_store_area *area = berth__area_of_entry(store, nr);
	struct berth_entry *entry = &store->entries[nr];
	uint32_t granule = berth__granule_of(area, nr);
	uint64_t adopted = atomic_load_explicit(&store->granules[granule].adopted,
						memory_order_relaxed);
	uint64_t seq = atomic_load_explicit(&entry->seq, memory_order_relaxed);

	/* A full fence stands in there, before the copy: who reads a word of it finds that the entry held
	 * nothing before (copy.h), and the epoch was read before the data is. */
	if (!berth__fill(area->hot, granule - area->first_granule, adopted, berth__frame(area, nr),
			 put->data))
		return berth__generation(area, granule) == adopted ? NO_CPU : CLOSED;
	/* Should it be claimed by now, this entry is stale from the beginning. */
	atomic_store_explicit(&entry->group, put->key->group, memory_order_relaxed);
	atomic_store_explicit(&entry->item, put->key->item, memory_order_relaxed);
	atomic_store_explicit(&entry->epoch_low, (uint32_t)put->epoch, memory_order_relaxed);
	atomic_store_explicit(&entry->epoch_high, (uint16_t)(put->epoch >> 32),
			      memory_order_relaxed);
	atomic_store_explicit(&entry->seq, seq + 1, memory_order_release);
	return FILLED;
}

static void use(struct berth_entry *entry)
{
	unsigned freq = atomic_load_explicit(&entry->freq, memory_order_relaxed);

	if (freq < BERTH_MAX_FREQ)
		atomic_store_explicit(&entry->freq, (uint8_t)(freq + 1), memory_order_relaxed);
}

/* The page that is there already gets other contents. */
static enum filled overwrite_locked(struct berth_store *store, struct berth_shard *shard,
				    const struct put *put, unsigned way)
{
	berth_entry_t nr = atomic_load_explicit(&put->bucket->entries[way], memory_order_relaxed);
	struct berth_entry *entry = &store->entries[nr];
	uint64_t seq = atomic_load_explicit(&entry->seq, memory_order_relaxed);
	enum filled filled;

	atomic_store_explicit(&entry->seq, seq + 1, memory_order_relaxed);
	filled = fill_locked(store, put, nr);
	if (filled == FILLED) {
		use(entry);
		return FILLED;
	}
	berth__entry_forget_locked(store, shard, nr);
	if (filled == CLOSED)
		shard->lost++;
	else
		berth__give_locked(store, shard, nr);
	return filled;
}

/* An entry to fill, and an empty way for its name; NONE. */
static berth_entry_t make_room_locked(struct berth_store *store, struct berth_shard *shard,
				      const struct put *put)
{
	berth_entry_t nr = BERTH_ENTRY_NONE;

	if (berth__bucket_empty_locked(put->bucket) == BERTH_WAY_NONE) {
		nr = berth__bucket_worst_locked(store, put->bucket);
		berth__entry_forget_locked(store, shard, nr);
		if (berth__entry_owns_frame(store, nr)) {
			shard->evicted++;
			return nr;
		}
		shard->lost++;
	}
	return berth__take_locked(store, shard);
}

/* CLOSED: the shard has no frame. MOVED: it gave the slice back, when it looked for one. */
static enum filled put_locked(struct berth_store *store, struct berth_shard *shard,
			      const struct put *put)
{
	unsigned tag = berth__hash_tag(put->hash);
	unsigned way = berth__bucket_find_locked(store, put->bucket, tag, put->key);
	enum filled filled;

	if (way != BERTH_WAY_NONE) {
		filled = overwrite_locked(store, shard, put, way);
		if (filled != CLOSED)
			return filled;
	}
	for (unsigned tries = 0; tries < MAX_TRIES; tries++) {
		berth_entry_t nr = make_room_locked(store, shard, put);
		const struct berth_store_area *area;

		if (BERTH_UNLIKELY(!berth__slice_is_served(
			    store, berth__hash_slice(store, put->hash), shard))) {
			if (nr != BERTH_ENTRY_NONE)
				berth__give_locked(store, shard, nr);
			return MOVED;
		}
		if (nr == BERTH_ENTRY_NONE)
			break;
		filled = fill_locked(store, put, nr);
		if (filled == FILLED) {
			bool known = berth__ghost_take_locked(&store->ghosts[put->bucket_nr],
							      berth__hash_print(put->hash));

			atomic_store_explicit(&store->entries[nr].freq, 0, memory_order_relaxed);
			store->links[nr].bucket = put->bucket_nr;
			berth__queue_add_locked(store, shard, nr,
						known ? BERTH_ENTRY_MAIN : BERTH_ENTRY_SMALL);
			berth__bucket_set_locked(put->bucket,
						 berth__bucket_empty_locked(put->bucket), tag, nr);
			return FILLED;
		}
		if (filled == NO_CPU) {
			berth__give_locked(store, shard, nr);
			return NO_CPU;
		}
		area = berth__area_of_entry(store, nr);
		berth__abandon_locked(store, shard, berth__granule_of(area, nr));
	}
	return CLOSED;
}

/* By whichever shard has a frame; it's locked when this returns. */
static struct berth_shard *put_somewhere(struct berth_store *store, const struct put *put,
					 enum filled *filled)
{
	uint32_t slice = berth__hash_slice(store, put->hash);

	for (unsigned round = 1;; round++) {
		struct berth_shard *shard = berth__slice_lock(store, slice);

		*filled = put_locked(store, shard, put);
		if (BERTH_LIKELY(*filled == FILLED) || *filled == NO_CPU || round == MAX_ROUNDS ||
		    (*filled == CLOSED && !berth__slices_move_locked(store, shard)))
			return shard;
		berth_unlock(&shard->lock);
	}
}

int berth_store_put(struct berth_store *store, const struct berth_store_key *key, const void *data)
{
	struct berth_shard *shard;
	struct put put = { .key = key, .data = data };
	enum filled filled;

	if (!store || !key || !data)
		return -BERTH_EINVAL;
	if (BERTH_UNLIKELY(!store->alive))
		return -BERTH_ESTALE;
	put.hash = berth__hash(store, key->group, key->item);
	put.bucket_nr = berth__hash_bucket(store, put.hash);
	put.bucket = &store->buckets[put.bucket_nr];
	__builtin_prefetch(put.bucket);
	__builtin_prefetch(&store->ghosts[put.bucket_nr]);
	/* Before the data is read: what is dropped behind this look may be in it. */
	put.epoch = berth__epoch_now(store, key->group);
	touch(data);
	shard = put_somewhere(store, &put, &filled);
	if (filled == FILLED)
		shard->puts++;
	else
		shard->refused++;
	berth__prefetch_victims_locked(store, shard);
	berth_unlock(&shard->lock);
	return filled == FILLED ? 0 : -BERTH_ENOSPC;
}

/* ---- Get --------------------------------------------------------------------------------------- */

enum found { FOUND, MISSED, CHANGED };

/* Reads a page that an entry is said to hold. */
static enum found read_entry(const struct berth_store *store, const struct berth_store_key *key,
			     berth_entry_t nr, void *data)
{
	const struct berth_store_area *area = berth__area_of_entry(store, nr);
	struct berth_entry *entry = &store->entries[nr];
	uint32_t granule = berth__granule_of(area, nr);
	const void *frame = berth__frame(area, nr);
	uint64_t seq, adopted;

	__builtin_prefetch(frame);
	__builtin_prefetch(&store->granules[granule]);
	seq = atomic_load_explicit(&entry->seq, memory_order_acquire);
	if (!(seq & 1) || atomic_load_explicit(&entry->group, memory_order_relaxed) != key->group ||
	    atomic_load_explicit(&entry->item, memory_order_relaxed) != key->item ||
	    berth__entry_dropped(store, entry))
		return MISSED;
	/* If it is a later one than the page was stored under, then seq has changed, and the fence below
	 * makes that seen (frames.c, adopt). */
	adopted = atomic_load_explicit(&store->granules[granule].adopted, memory_order_relaxed);
	berth__copy_out(data, frame);
	if (!berth__gcma_still(area->hot, granule - area->first_granule, adopted))
		return MISSED;
	/* Behind the acquire fence in there. */
	if (atomic_load_explicit(&entry->seq, memory_order_relaxed) != seq)
		return CHANGED;
	use(entry);
	return FOUND;
}

static enum found look_up(const struct berth_store *store, const struct berth_bucket *bucket,
			  unsigned tag, const struct berth_store_key *key, void *data)
{
	uint64_t low = berth__match8(atomic_load_explicit(&bucket->tags_low, memory_order_relaxed),
				     tag);
	uint32_t high = berth__match4(
		atomic_load_explicit(&bucket->tags_high, memory_order_relaxed), tag);
	enum found found = MISSED;

	while (found == MISSED && (low || high)) {
		unsigned way;

		if (low) {
			way = (unsigned)__builtin_ctzll(low) / 8;
			low &= low - 1;
		} else {
			way = 8 + (unsigned)__builtin_ctz(high) / 8;
			high &= high - 1;
		}
		found = read_entry(
			store, key,
			atomic_load_explicit(&bucket->entries[way], memory_order_relaxed), data);
	}
	return found;
}

int berth_store_get(struct berth_store *store, const struct berth_store_key *key, void *data)
{
	const struct berth_bucket *bucket;
	struct berth_reads *reads;
	enum found found;
	uint64_t hash;

	if (!store || !key || !data)
		return -BERTH_EINVAL;
	if (BERTH_UNLIKELY(!store->alive))
		return -BERTH_ENOENT;
	hash = berth__hash(store, key->group, key->item);
	bucket = &store->buckets[berth__hash_bucket(store, hash)];
	reads = &store->reads[berth_cpu_fast() % BERTH_NR_READS];
	__builtin_prefetch(bucket);
	found = look_up(store, bucket, berth__hash_tag(hash), key, data);
	if (BERTH_UNLIKELY(found == CHANGED)) {
		atomic_fetch_add_explicit(&reads->retries, 1, memory_order_relaxed);
		found = look_up(store, bucket, berth__hash_tag(hash), key, data);
	}
	if (found != FOUND) {
		atomic_fetch_add_explicit(&reads->misses, 1, memory_order_relaxed);
		return -BERTH_ENOENT;
	}
	atomic_fetch_add_explicit(&reads->hits, 1, memory_order_relaxed);
	return 0;
}

/* ---- Drop -------------------------------------------------------------------------------------- */

bool berth_store_drop(struct berth_store *store, const struct berth_store_key *key)
{
	struct berth_shard *shard;
	struct berth_bucket *bucket;
	bool there = false;
	uint64_t hash;
	unsigned way;

	if (!store || !key || !store->alive)
		return false;
	hash = berth__hash(store, key->group, key->item);
	bucket = &store->buckets[berth__hash_bucket(store, hash)];
	__builtin_prefetch(bucket);
	shard = berth__slice_lock(store, berth__hash_slice(store, hash));
	way = berth__bucket_find_locked(store, bucket, berth__hash_tag(hash), key);
	if (way != BERTH_WAY_NONE) {
		berth_entry_t nr = atomic_load_explicit(&bucket->entries[way],
							memory_order_relaxed);

		there = berth__entry_owns_frame(store, nr) &&
			!berth__entry_dropped(store, &store->entries[nr]);
		berth__entry_forget_locked(store, shard, nr);
		berth__give_locked(store, shard, nr);
		shard->drops += there;
		if (!berth__entry_owns_frame(store, nr))
			shard->lost += !there;
	}
	berth_unlock(&shard->lock);
	return there;
}

void berth_store_drop_group(struct berth_store *store, uint64_t group)
{
	if (store && store->alive)
		atomic_fetch_add_explicit(berth__epoch(store, group), 1, memory_order_release);
}

/* ---- Statistics -------------------------------------------------------------------------------- */

static void add_granule(const struct berth_store *store, uint32_t nr,
			struct berth_store_stats *stats)
{
	const struct berth_store_area *area = berth__area_of_granule(store, nr);
	const struct berth_granule *granule = &store->granules[nr];
	uint64_t generation = berth__generation(area, nr);
	uint32_t size = UINT32_C(1) << area->order;

	if (berth_gcma_open(generation))
		stats->open_pages += size;
	if (atomic_load_explicit(&granule->adopted, memory_order_relaxed) == generation)
		stats->stored_pages += size - granule->nr_free;
}

void berth_store_stats(struct berth_store *store, struct berth_store_stats *stats)
{
	*stats = (struct berth_store_stats){ .nr_pages = store->nr_entries,
					     .metadata_bytes = store->metadata_bytes };
	if (!store->alive)
		return;
	for (uint32_t i = 0; i <= store->shard_mask; i++) {
		struct berth_shard *shard = &store->shards[i];

		berth_lock(&shard->lock);
		for (uint32_t nr = i; nr < store->nr_granules; nr += store->shard_mask + 1)
			add_granule(store, nr, stats);
		stats->puts += shard->puts;
		stats->drops += shard->drops;
		stats->lost_to_claims += shard->lost;
		stats->evicted += shard->evicted;
		stats->refused += shard->refused;
		berth_unlock(&shard->lock);
	}
	for (unsigned i = 0; i < BERTH_NR_READS; i++) {
		const struct berth_reads *reads = &store->reads[i];

		stats->hits += atomic_load_explicit(&reads->hits, memory_order_relaxed);
		stats->misses += atomic_load_explicit(&reads->misses, memory_order_relaxed);
		stats->retries += atomic_load_explicit(&reads->retries, memory_order_relaxed);
	}
}
