/* SPDX-License-Identifier: MIT */
/*
 * Which frames a shard has to put pages into.
 *
 * Claims tell the store nothing. A shard *adopts* a granule when it finds it open under a generation that it
 * doesn't know: what its entries held is gone, and all their frames are free. It looks for such granules
 * when it has no free frame and granules have been opened since it last looked. That a granule has
 * been closed it notices when it meets one of its entries, or wants to fill one.
 *
 * I4  A granule's free entries are of the granule, hold nothing and are in no queue; nr_free is their
 *     number. It is in its shard's list exactly if it has some.
 * I5  In a granule that is adopted under its current generation, each entry is free or in a queue.
 *
 * Costs: O(1); adopting O(frames of a granule); a put looks at no more than LOOKS granules, unless the shard has no frame
 * at all: then at all of its own.
 */
#include "store/internal.h"

#define LOOKS 16u
#define MAX_ABANDONED 256u
#define MAX_ADOPTIONS 4u

static void link_granule(struct berth_store *store, struct berth_shard *shard, uint32_t nr)
{
	struct berth_granule *granule = &store->granules[nr];

	granule->prev = BERTH_ENTRY_NONE;
	granule->next = shard->free_granules;
	if (granule->next != BERTH_ENTRY_NONE)
		store->granules[granule->next].prev = nr;
	shard->free_granules = nr;
}

static void unlink_granule(struct berth_store *store, struct berth_shard *shard, uint32_t nr)
{
	struct berth_granule *granule = &store->granules[nr];

	if (granule->prev != BERTH_ENTRY_NONE)
		store->granules[granule->prev].next = granule->next;
	else
		shard->free_granules = granule->next;
	if (granule->next != BERTH_ENTRY_NONE)
		store->granules[granule->next].prev = granule->prev;
}

void berth__abandon_locked(struct berth_store *store, struct berth_shard *shard, uint32_t nr)
{
	struct berth_granule *granule = &store->granules[nr];

	if (granule->nr_free)
		unlink_granule(store, shard, nr);
	granule->nr_free = 0;
	granule->free = BERTH_ENTRY_NONE;
	atomic_store_explicit(&granule->adopted, BERTH_NOT_ADOPTED, memory_order_relaxed);
}

static void push_free(struct berth_store *store, struct berth_shard *shard, uint32_t nr,
		      berth_entry_t entry)
{
	struct berth_granule *granule = &store->granules[nr];

	store->links[entry].next = granule->free;
	granule->free = entry;
	if (granule->nr_free++ == 0)
		link_granule(store, shard, nr);
}

void berth__give_locked(struct berth_store *store, struct berth_shard *shard, berth_entry_t nr)
{
	if (berth__entry_owns_frame(store, nr))
		push_free(store, shard, berth__granule_of(berth__area_of_entry(store, nr), nr), nr);
}

/* All its frames are free, under a generation that it has now. */
static void adopt(struct berth_store *store, struct berth_shard *shard,
		  const struct berth_store_area *area, uint32_t nr, uint64_t generation)
{
	berth_entry_t first = area->first_entry + ((nr - area->first_granule) << area->order);
	uint32_t size = UINT32_C(1) << area->order;

	berth__abandon_locked(store, shard, nr);
	for (uint32_t i = 0; i < size; i++) {
		if (store->entries[first + i].where != BERTH_ENTRY_NOWHERE) {
			berth__entry_forget_locked(store, shard, first + i);
			shard->lost++;
		}
	}
	/* Backwards, so that they are taken in their order. */
	for (uint32_t i = size; i-- > 0;)
		push_free(store, shard, nr, first + i);
	/* A reader that knows this generation finds that entries of earlier ones hold nothing. */
	atomic_store_explicit(&store->granules[nr].adopted, generation, memory_order_release);
}

uint64_t berth__openings(const struct berth_store *store)
{
	uint64_t openings = 0;

	for (uint32_t i = 0; i < store->nr_areas; i++)
		openings += berth_gcma_openings(store->areas[i].gcma);
	return openings;
}

/* Whether the shard adopted a granule. */
static bool look_for_openings(struct berth_store *store, struct berth_shard *shard,
			      uint32_t most_looks)
{
	uint32_t shard_nr = (uint32_t)(shard - store->shards);
	uint32_t nr_granules = (store->nr_granules - shard_nr + store->shard_mask) >>
			       store->shard_shift;
	uint64_t openings = berth__openings(store);

	if (openings != shard->openings) {
		shard->openings = openings;
		shard->to_look_at = nr_granules;
		berth__slices_give_back_locked(store, shard);
	}
	for (uint32_t looks = 0; looks < most_looks && shard->to_look_at; looks++) {
		uint32_t nr = shard_nr + (shard->look_at << store->shard_shift);
		const struct berth_store_area *area = berth__area_of_granule(store, nr);
		uint64_t generation = berth__generation(area, nr);

		shard->look_at = shard->look_at + 1 < nr_granules ? shard->look_at + 1 : 0;
		shard->to_look_at--;
		if (berth_gcma_open(generation) &&
		    generation != atomic_load_explicit(&store->granules[nr].adopted,
						       memory_order_relaxed)) {
			adopt(store, shard, area, nr, generation);
			return true;
		}
	}
	return false;
}

/* One of the free entries; NONE. */
static berth_entry_t pop_free(struct berth_store *store, struct berth_shard *shard)
{
	for (unsigned i = 0; i < MAX_ABANDONED && shard->free_granules != BERTH_ENTRY_NONE; i++) {
		uint32_t nr = shard->free_granules;
		struct berth_granule *granule = &store->granules[nr];
		berth_entry_t entry = granule->free;

		if (!berth__entry_owns_frame(store, entry)) {
			berth__abandon_locked(store, shard, nr);
			continue;
		}
		granule->free = store->links[entry].next;
		if (--granule->nr_free == 0)
			unlink_granule(store, shard, nr);
		return entry;
	}
	return BERTH_ENTRY_NONE;
}

berth_entry_t berth__take_locked(struct berth_store *store, struct berth_shard *shard)
{
	berth_entry_t nr = pop_free(store, shard);

	if (nr == BERTH_ENTRY_NONE && look_for_openings(store, shard, LOOKS))
		nr = pop_free(store, shard);
	if (nr == BERTH_ENTRY_NONE)
		nr = berth__evict_locked(store, shard);
	/* What opens may be closed again before it is taken. */
	for (unsigned i = 0; BERTH_UNLIKELY(nr == BERTH_ENTRY_NONE) && i < MAX_ADOPTIONS &&
			     look_for_openings(store, shard, UINT32_MAX);
	     i++)
		nr = pop_free(store, shard);
	return nr;
}
