/* SPDX-License-Identifier: MIT */
/*
 * Watermarks: how much of a zone stays free, for whom.
 *
 *	high	kswapd stops here
 *	low	an allocation that would leave less wakes kswapd
 *	min	an allocation that would leave less reclaims itself, unless it is entitled to a part
 *
 * I1  min <= low <= high <= promo for marks that were computed.
 * I2  The lowmem reserve of a zone grows with the kind that was asked for, and is 0 for its own.
 *
 * The marks are about nr_free, the frames in buddy lists. Taking a frame from a per-CPU list doesn't
 * change that, so a check belongs where frames leave the buddy lists: at refills and at orders above
 * 0, never in the hot path.
 *
 * Complexity: a check O(1) for order 0, without a lock; O(areas) under the zone lock otherwise.
 */
#include "core/frames/internal.h"

#define KBYTES_PER_PAGE (BERTH_PAGE_SIZE / 1024u)
#define MIN_FREE_KBYTES_LEAST 128u
#define MIN_FREE_KBYTES_MOST 65536u
#define HIGHMEM_MIN_LEAST 32u
#define HIGHMEM_MIN_MOST 128u
#define SCALE 10000u

static uint64_t load(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

static void store(_Atomic uint64_t *to, uint64_t value)
{
	atomic_store_explicit(to, value, memory_order_relaxed);
}

static uint64_t clamp(uint64_t value, uint64_t least, uint64_t most)
{
	return value < least ? least : value > most ? most : value;
}

/* ---- Computing them ------------------------------------------------------------------------------ */

/* The largest root with root * root <= value, bit by bit from the top. */
static uint64_t int_sqrt(uint64_t value)
{
	uint64_t root = 0, bit = 1ull << 62;

	while (bit > value)
		bit >>= 2;
	for (; bit; bit >>= 2) {
		uint64_t trial = root + bit;

		root >>= 1;
		if (value >= trial) {
			value -= trial;
			root += bit;
		}
	}
	return root;
}

uint64_t berth_min_free_kbytes(uint64_t lowmem_kbytes)
{
	return clamp(int_sqrt(lowmem_kbytes * 16), MIN_FREE_KBYTES_LEAST, MIN_FREE_KBYTES_MOST);
}

void berth_watermarks_compute(const struct berth_tunables *tunables, enum berth_zone_kind kind,
			      uint64_t managed_pages, uint64_t lowmem_pages, uint64_t all_pages,
			      struct berth_watermarks *marks)
{
	uint64_t pages_min = tunables->min_free_kbytes / KBYTES_PER_PAGE;
	uint64_t pages_extra = tunables->extra_free_kbytes / KBYTES_PER_PAGE;
	uint64_t share = lowmem_pages ? pages_min * managed_pages / lowmem_pages : 0;
	uint64_t extra = all_pages ? pages_extra * managed_pages / all_pages : 0;
	uint64_t step = managed_pages * tunables->watermark_scale_factor / SCALE;

	if (step < share / 4)
		step = share / 4;
	/* What any kernel allocation needs isn't in the upper zones: a little is enough there. */
	marks->mark[BERTH_MARK_MIN] = kind < BERTH_ZONE_HIGHMEM ?
					      share :
					      clamp(managed_pages / 1024, HIGHMEM_MIN_LEAST,
						    HIGHMEM_MIN_MOST);
	marks->mark[BERTH_MARK_LOW] = marks->mark[BERTH_MARK_MIN] + extra + step;
	marks->mark[BERTH_MARK_HIGH] = marks->mark[BERTH_MARK_LOW] + step;
	marks->mark[BERTH_MARK_PROMO] = marks->mark[BERTH_MARK_HIGH] + step;
	marks->boost = 0;
}

void berth_zone_watermarks(struct berth_zone *zone, struct berth_watermarks *marks)
{
	for (unsigned i = 0; i < BERTH_NR_MARKS; i++)
		marks->mark[i] = load(&zone->marks.mark[i]);
	marks->boost = load(&zone->marks.boost);
}

void berth_zone_set_watermarks(struct berth_zone *zone, const struct berth_watermarks *marks)
{
	for (unsigned i = 0; i < BERTH_NR_MARKS; i++)
		store(&zone->marks.mark[i], marks->mark[i]);
}

/* ---- Boost: a fallback has mixed a pageblock; more reclaim makes the next one less likely ---------- */

bool berth__boost_locked(struct berth_zone *zone)
{
	uint64_t factor = atomic_load_explicit(&zone->marks.boost_factor, memory_order_relaxed);
	uint64_t size = berth__pages(zone->pageblock_order);
	uint64_t most = load(&zone->marks.mark[BERTH_MARK_HIGH]) * factor / SCALE;
	uint64_t boost = load(&zone->marks.boost) + size;

	/* In a small zone it would eat too much to help. */
	if (!most || size * 4 > zone->nr_managed)
		return false;
	if (most < size)
		most = size;
	store(&zone->marks.boost, boost < most ? boost : most);
	return true;
}

void berth_zone_unboost(struct berth_zone *zone, uint64_t nr_pages)
{
	uint64_t boost;

	berth_lock(&zone->lock);
	boost = load(&zone->marks.boost);
	store(&zone->marks.boost, boost < nr_pages ? 0 : boost - nr_pages);
	berth_unlock(&zone->lock);
}

/* ---- Checking them -------------------------------------------------------------------------------- */

/* Free frames that the request can't have: others' reserves, and all but one of its own block. */
static uint64_t unusable_free(const struct berth_zone *zone, unsigned order, unsigned flags)
{
	uint64_t unusable = berth__pages(order) - 1u;

	if (!(flags & (BERTH_ALLOC_NON_BLOCK | BERTH_ALLOC_MIN_RESERVE | BERTH_ALLOC_OOM)))
		unusable += load(&zone->nr_free_highatomic);
	return unusable + (flags & BERTH_ALLOC_CMA ? berth__zone_free_unlent(zone) :
						     berth__zone_free_cma(zone));
}

/* A block of the order is free in a list that the request may be served from. Z. */
static bool has_block_locked(const struct berth_zone *zone, unsigned order, unsigned flags)
{
	for (unsigned set = 0; set < BERTH_HIGHATOMIC; set++)
		if (zone->sets[set].nonempty >> order)
			return true;
	if ((flags & (BERTH_ALLOC_HIGHATOMIC | BERTH_ALLOC_OOM | BERTH_ALLOC_NO_WATERMARKS)) &&
	    zone->sets[BERTH_HIGHATOMIC].nonempty >> order)
		return true;
	for (unsigned i = 0; (flags & BERTH_ALLOC_CMA) && i < zone->nr_areas; i++)
		if (berth__lend(&zone->areas[i]) != BERTH_LEND_OFF &&
		    berth__has_block(zone, zone->areas[i].set, order))
			return true;
	return false;
}

bool berth__watermark_pages_ok(const struct berth_zone *zone, unsigned order, uint64_t mark,
			       enum berth_zone_kind highest, unsigned flags)
{
	uint64_t free = berth__zone_free(zone), unusable = unusable_free(zone, order, flags);

	if (flags & BERTH_ALLOC_NO_WATERMARKS)
		return true;
	if (flags & BERTH_ALLOC_MIN_RESERVE) {
		mark -= mark / 2;
		if (flags & BERTH_ALLOC_NON_BLOCK)
			mark -= mark / 4;
	}
	if (flags & BERTH_ALLOC_OOM)
		mark -= mark / 2;
	mark += load(&zone->marks.lowmem_reserve[highest]);
	return free > unusable && free - unusable > mark;
}

bool berth_watermark_ok(struct berth_zone *zone, unsigned order, uint64_t mark,
			enum berth_zone_kind highest, unsigned flags)
{
	bool ok = order <= zone->max_order &&
		  berth__watermark_pages_ok(zone, order, mark, highest, flags);

	if (!ok || !order)
		return ok;
	berth_lock(&zone->lock);
	ok = has_block_locked(zone, order, flags);
	berth_unlock(&zone->lock);
	return ok;
}
