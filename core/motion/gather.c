/* SPDX-License-Identifier: MIT */
/*
 * What belongs together moves together.
 *
 * A scan meets blocks in the order of their frames. Where an owner's memory is scattered, neighbours in its own
 * order (by cookie) are far apart there, and a batch would be of strangers, each of which moves by itself. So for
 * each block that a scan has found its owner is asked where the blocks of the same *window* are (as many cookies as
 * a pageblock has frames, aligned), and those of them that lie in the range go into the same batch.
 *
 * I1  What is gathered has just been seen under the zone lock as what a scan takes: a movable block of that owner
 *     with that cookie, unpinned, wholly in the range.
 * I2  A batch holds each block once.
 * I3  Each of the zone's buffers belongs to one batch at a time; whoever finds them taken moves what the scan found.
 *
 * Complexity: per window one question to the owner for each 64 cookies and O(1) for each frame; the zone lock is
 * held for 64 frames at a time.
 */
#include "core/motion/internal.h"

#define CHUNK 64u

struct gathering {
	struct berth_zone *zone;
	const struct berth_isolation *range;
	struct berth_move *moves;
	unsigned nr, room;
	uint64_t window; /* cookies */
};

unsigned berth__gather_room(uint64_t nr_pages)
{
	if (nr_pages >= 64 * (uint64_t)BERTH_GATHER_MOST)
		return BERTH_GATHER_MOST;
	return nr_pages < 512 * BERTH_GATHER_LEAST ? BERTH_GATHER_LEAST :
						     (unsigned)(nr_pages / 512);
}

/* As a scan does. Blocks as large as a window are met by the scan alone, or they might be in a batch twice: an
 * owner's cookies needn't be aligned as its blocks are. Z. */
static bool is_movable(const struct gathering *gathering, berth_idx_t idx, unsigned owner,
		       uint64_t cookie)
{
	const struct berth_frame *frame = &gathering->zone->frames[idx];
	uint32_t tag = berth__tag(frame);
	unsigned order = berth__tag_order(tag);

	return berth__pages(order) < gathering->window &&
	       (tag & ~BERTH_TAG_LRU) == (BERTH_TAG(BERTH_FRAME_USED, order) | BERTH_TAG_MOVABLE |
					  (uint32_t)owner << BERTH_TAG_OWNER_SHIFT) &&
	       atomic_load_explicit(&frame->refcount, memory_order_relaxed) == 1 &&
	       berth__cookie(gathering->zone, idx) == cookie &&
	       idx + berth__pages(order) <= gathering->range->end;
}

/* The frame of a cookie, if it's the first of a block that can move. False: there is no room for it. Z. */
static bool gather_block(struct gathering *gathering, berth_pfn_t pfn, unsigned owner,
			 uint64_t cookie)
{
	struct berth_zone *zone = gathering->zone;
	berth_idx_t idx;

	if (pfn == BERTH_PFN_NONE || !berth__idx(zone, pfn, 1, &idx) ||
	    idx < gathering->range->start || idx >= gathering->range->end ||
	    !is_movable(gathering, idx, owner, cookie))
		return true;
	if (gathering->nr == gathering->room)
		return false;
	gathering->moves[gathering->nr++] = (struct berth_move){
		.src = pfn,
		.cookie = cookie,
		.order = (uint8_t)berth__tag_order(berth__tag(&zone->frames[idx])),
		.owner = (uint16_t)owner,
	};
	return true;
}

/* All of a window, or nothing and false: there is no room. */
static bool gather_window(struct gathering *gathering, const struct berth_move *found)
{
	struct berth_zone *zone = gathering->zone;
	const struct berth_owner *owner = &zone->owners[found->owner];
	uint64_t first = found->cookie & ~(gathering->window - 1);
	uint64_t step = gathering->window < CHUNK ? gathering->window : CHUNK;
	unsigned before = gathering->nr;
	berth_pfn_t pfns[CHUNK];
	bool fits = true;

	for (uint64_t at = first; fits && at < first + gathering->window; at += step) {
		owner->ops->neighbours(owner->ctx, at, pfns, (unsigned)step);
		berth_lock(&zone->lock);
		for (unsigned i = 0; fits && i < step; i++)
			fits = gather_block(gathering, pfns[i], found->owner, at + i);
		berth_unlock(&zone->lock);
	}
	if (!fits)
		gathering->nr = before;
	return fits;
}

/* True when one of the blocks before found[i] has brought its window, and so this one. */
static bool is_covered(const struct gathering *gathering, const struct berth_move *found,
		       unsigned i)
{
	for (unsigned j = 0; j < i; j++)
		if (found[j].owner == found[i].owner &&
		    (found[j].cookie ^ found[i].cookie) < gathering->window)
			return true;
	return false;
}

unsigned berth__gather(struct berth_zone *zone, const struct berth_isolation *range,
		       const struct berth_move *found, unsigned nr_found, struct berth_move *moves)
{
	struct gathering gathering = {
		.zone = zone,
		.range = range,
		.moves = moves,
		.room = zone->gather_room,
		.window = berth__pages(zone->pageblock_order),
	};

	while (gathering.window > gathering.room)
		gathering.window /= 2;
	for (unsigned i = 0; i < nr_found; i++) {
		const struct berth_owner *owner = &zone->owners[found[i].owner];

		if (owner->ops->neighbours && berth__pages(found[i].order) < gathering.window) {
			if (!is_covered(&gathering, found, i) &&
			    !gather_window(&gathering, &found[i]))
				break;
		} else if (gathering.nr == gathering.room) {
			break;
		} else {
			moves[gathering.nr++] = found[i];
		}
	}
	return gathering.nr;
}

struct berth_move *berth__gather_begin(struct berth_zone *zone, const struct berth_move *found)
{
	struct berth_move *moves = NULL;
	unsigned free;

	if (!zone->owners[found->owner].ops->neighbours || found->order >= zone->pageblock_order)
		return NULL;
	berth_lock(&zone->lock);
	free = ~zone->gathering & ((1u << BERTH_GATHER_BUFFERS) - 1);
	if (free) {
		zone->gathering |= free & -free;
		moves = zone->gathered + (size_t)__builtin_ctz(free) * zone->gather_room;
	}
	berth_unlock(&zone->lock);
	return moves;
}

void berth__gather_end(struct berth_zone *zone, const struct berth_move *moves)
{
	const size_t buffer = (size_t)(moves - zone->gathered) / zone->gather_room;

	berth_lock(&zone->lock);
	zone->gathering &= ~(1u << buffer);
	berth_unlock(&zone->lock);
}
