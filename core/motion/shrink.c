/* SPDX-License-Identifier: MIT */
/*
 * Shrinkers: caches that aren't made of blocks on LRU lists, asked for their share.
 *
 * I1  A shrinker stays in the list while it runs: who is at it can go on from there.
 * I2  What a shrinker was spared of, since the share was less than a portion, is remembered, up to twice
 *     what it has.
 *
 * Complexity: O(shrinkers), and their functions. The list's lock isn't held while one of them runs.
 *
 * The shares are those of Linux (mm/vmscan.c, do_shrink_slab).
 */
#include "core/motion/internal.h"

#define DEFAULT_BATCH 128u
#define LEAVE_WAIT_NS 20000ull

/* How much of `freeable` objects this priority asks for, besides what is left over. */
static uint64_t share(const struct berth_shrinker *shrinker, uint64_t freeable, unsigned priority)
{
	if (!shrinker->seeks)
		return freeable / 2;
	return (freeable >> priority) * 4 / shrinker->seeks;
}

/* One shrinker; takes what is left over from `deferred`, and leaves what remains there. */
static uint64_t shrink_one(struct berth_shrinker *shrinker, unsigned priority, uint64_t *deferred)
{
	uint64_t batch = shrinker->batch ? shrinker->batch : DEFAULT_BATCH;
	uint64_t freeable = shrinker->count(shrinker->ctx), pages = 0, scanned = 0, delta, total;

	if (!freeable)
		return 0;
	delta = share(shrinker, freeable, priority);
	total = (*deferred >> priority) + delta;
	if (total > 2 * freeable)
		total = 2 * freeable;
	while (total >= batch || total >= freeable) {
		uint64_t nr = batch < total ? batch : total;

		if (!nr || shrinker->scan(shrinker->ctx, nr, &pages) == BERTH_SHRINK_STOP)
			break;
		total -= nr;
		scanned += nr;
	}
	*deferred = *deferred + delta > scanned ? *deferred + delta - scanned : 0;
	if (*deferred > 2 * freeable)
		*deferred = 2 * freeable;
	return pages;
}

/* The next that isn't leaving, from `at` on; it is kept from leaving. */
static struct berth_shrinker *hold_locked(struct berth_shrinker *at)
{
	while (at && at->leaving)
		at = at->next;
	if (at)
		at->running++;
	return at;
}

uint64_t berth__shrink_others(struct berth_shrinkers *shrinkers, unsigned priority)
{
	struct berth_shrinker *at;
	uint64_t pages = 0;

	if (!atomic_load_explicit(&shrinkers->nr, memory_order_relaxed))
		return 0;
	berth_lock(&shrinkers->lock);
	at = hold_locked(shrinkers->first);
	while (at) {
		struct berth_shrinker *done = at;
		uint64_t deferred = at->nr_deferred;

		at->nr_deferred = 0; /* ours now; another caller begins with nothing */
		berth_unlock(&shrinkers->lock);
		pages += shrink_one(at, priority, &deferred);
		berth_lock(&shrinkers->lock);
		at->nr_deferred += deferred;
		at = hold_locked(at->next);
		done->running--;
	}
	berth_unlock(&shrinkers->lock);
	return pages;
}

int berth__shrinker_add(struct berth_shrinkers *shrinkers, struct berth_shrinker *shrinker)
{
	if (!shrinker || !shrinker->count || !shrinker->scan)
		return -BERTH_EINVAL;
	shrinker->nr_deferred = 0;
	shrinker->running = 0;
	shrinker->leaving = false;
	berth_lock(&shrinkers->lock);
	shrinker->next = shrinkers->first;
	shrinkers->first = shrinker;
	atomic_fetch_add_explicit(&shrinkers->nr, 1, memory_order_relaxed);
	berth_unlock(&shrinkers->lock);
	return 0;
}

void berth__shrinker_remove(struct berth_shrinkers *shrinkers, const struct berth_zone *zone,
			    struct berth_shrinker *shrinker)
{
	struct berth_shrinker **at;

	berth_lock(&shrinkers->lock);
	shrinker->leaving = true;
	while (shrinker->running) { /* as long as its own functions take */
		berth_unlock(&shrinkers->lock);
		zone->port->wait(zone->port_ctx, LEAVE_WAIT_NS);
		berth_lock(&shrinkers->lock);
	}
	for (at = &shrinkers->first; *at && *at != shrinker; at = &(*at)->next)
		;
	if (*at) {
		*at = shrinker->next;
		atomic_fetch_sub_explicit(&shrinkers->nr, 1, memory_order_relaxed);
	}
	berth_unlock(&shrinkers->lock);
}

int berth_shrinker_register(struct berth_zone *zone, struct berth_shrinker *shrinker)
{
	return berth__shrinker_add(&zone->lru.shrinkers, shrinker);
}

void berth_shrinker_unregister(struct berth_zone *zone, struct berth_shrinker *shrinker)
{
	berth__shrinker_remove(&zone->lru.shrinkers, zone, shrinker);
}
