/* SPDX-License-Identifier: MIT */
/*
 * The whole-zone check: verifies the invariants that the head comments of frame.c, pageblock.c,
 * summary.c, buddy.c, pcp.c, zone.c, hand_over.c, isolate.c, lru.c and cma.c number. Read-only; at a
 * quiescent point.
 *
 * Complexity: O(frames + blocks).
 */
#include "core/alloc/claims.h"
#include "core/frames/summary.h"
#include "core/motion/internal.h"
#include "core/stats.h"

struct checker {
	const struct berth_zone *zone;
	struct berth_violation *violation;
	uint64_t free, used, claimed, kept, pcp, reserved, unmanaged, pinned, highatomic, named;
	uint64_t lru[8], dirty,
		writeback; /* frames of LRU blocks, by where they are; with the flag */
};

static bool violated(struct checker *checker, const char *what, uint64_t where, uint64_t value,
		     uint64_t expected)
{
	*checker->violation = (struct berth_violation){ what, where, value, expected };
	return false;
}

#define EXPECT(what, where, value, expected)                                          \
	do {                                                                          \
		uint64_t value_ = (value), expected_ = (expected);                    \
		if (value_ != expected_)                                              \
			return violated(checker, (what), (where), value_, expected_); \
	} while (0)

/* The name of the claim that begins at `start`. */
static bool check_name(struct checker *checker, berth_idx_t start)
{
	const struct berth_zone *zone = checker->zone;
	unsigned number = berth__claim_name_number(zone, start);

	EXPECT("claims.I1 name of the claim at pfn", berth__pfn(zone, start),
	       number <= zone->names.max && (!number || zone->names.table[number - 1].users), true);
	checker->named += number != 0;
	return true;
}

/* What areas keep for their next claims. */
static bool check_kept(struct checker *checker)
{
	const struct berth_zone *zone = checker->zone;
	const uint32_t claim = BERTH_TAG_START | BERTH_TAG_AREA | BERTH_TAG_TAKING;

	for (unsigned i = 0; i < zone->nr_areas * BERTH_MOST_TALLIES; i++) {
		const struct berth_cma *area = &zone->areas[i / BERTH_MOST_TALLIES];
		unsigned tally = i % BERTH_MOST_TALLIES;
		uint64_t word = tally <= area->tally_mask ?
					atomic_load(&area->tallies[tally].kept) :
					0;
		berth_idx_t start = (berth_idx_t)word;
		uint32_t tag;

		if (!word)
			continue;
		EXPECT("kept.I1 frames outside of the area", start,
		       start >= area->start && word >> 32 <= area->end - start, true);
		tag = berth__tag(&zone->frames[start]);
		EXPECT("kept.I1 tag of what is kept", berth__pfn(zone, start),
		       berth__tag_kind(tag) == BERTH_FRAME_CLAIMED && !(tag & claim), true);
		EXPECT("kept.I1 frames that are kept", berth__pfn(zone, start),
		       berth__cookie(zone, start), word >> 32);
		if (!check_name(checker, start))
			return false;
		checker->kept += word >> 32;
	}
	EXPECT("kept.I2 sum", 0, berth__kept_of_all(zone), checker->kept);
	return true;
}

static bool check_names(struct checker *checker)
{
	const struct berth_zone *zone = checker->zone;
	uint64_t users = 0;

	for (unsigned i = 0; i < zone->names.max; i++)
		users += zone->names.table[i].users;
	EXPECT("claims.I1 users of names", 0, users, checker->named);
	return true;
}

/* An allocated block's LRU state, and that its frames are counted where it says. */
static bool check_lru_state(struct checker *checker, berth_idx_t head, uint32_t tag, uint32_t refs)
{
	const struct berth_zone *zone = checker->zone;
	unsigned state = berth__lru_state(zone, head), where = state & BERTH_LRU_WHERE;
	berth_pfn_t pfn = berth__pfn(zone, head);
	bool found = where != BERTH_LRU_IN_BATCH;

	EXPECT("lru.I1 state of a block that isn't tagged LRU", pfn,
	       state && !(tag & BERTH_TAG_LRU), false);
	EXPECT("lru.I5 write-back without a pin", pfn,
	       (state & BERTH_LRU_WRITEBACK) && refs < BERTH_PIN_BIAS, false);
	EXPECT("lru.I5 an orphan's state", pfn, state,
	       !(tag & BERTH_TAG_ORPHAN)     ? state :
	       (state & BERTH_LRU_WRITEBACK) ? BERTH_LRU_WRITEBACK | BERTH_LRU_FREED :
					       0);
	EXPECT("lru.I1 a reclaimer has the block, but none runs", pfn, where == BERTH_LRU_ISOLATED,
	       false);
	for (unsigned cpu = 0; !found && cpu < zone->nr_cpus; cpu++) {
		const struct berth_lru_batch *batch = (const void *)((char *)berth__pcp(zone, cpu) +
								     zone->lru_offset);
		uint32_t count = atomic_load((_Atomic uint32_t *)&batch->count[BERTH_LRU_ADD]);

		for (uint32_t i = 0; i < count; i++)
			found |= batch->blocks[BERTH_LRU_ADD][i] == head;
	}
	EXPECT("lru.I3 batched block in no batch", pfn, found, true);
	checker->lru[where] += berth__pages(berth__tag_order(tag));
	checker->dirty += state & BERTH_LRU_DIRTY ? berth__pages(berth__tag_order(tag)) : 0;
	checker->writeback += state & BERTH_LRU_WRITEBACK ? berth__pages(berth__tag_order(tag)) : 0;
	return true;
}

/* The LRU lists against the blocks that say that they are in them. */
static bool check_lru_lists(struct checker *checker)
{
	const struct berth_zone *zone = checker->zone;
	struct berth_lru *lru = &((struct berth_zone *)zone)->lru;

	for (unsigned list = 0; list < BERTH_NR_LRU_LISTS; list++) {
		uint64_t pages = 0, expected = checker->lru[BERTH_LRU_IN_LIST + list];
		berth_idx_t previous = BERTH_IDX_NONE;

		for (berth_idx_t idx = lru->lists[list].first; idx != BERTH_IDX_NONE;
		     idx = zone->links[idx].next) {
			EXPECT("lru.I1 index in a list", idx, idx < zone->end, true);
			EXPECT("lru.I1 list of a block", berth__pfn(zone, idx),
			       berth__lru_state(zone, idx) & BERTH_LRU_WHERE,
			       BERTH_LRU_IN_LIST + list);
			EXPECT("lru.I1 backward link", berth__pfn(zone, idx), zone->links[idx].prev,
			       previous);
			pages += berth__pages(berth__tag_order(berth__tag(&zone->frames[idx])));
			EXPECT("lru.I1 list too long", list, pages <= expected, true);
			previous = idx;
		}
		EXPECT("lru.I1 end of list", list, lru->lists[list].last, previous);
		EXPECT("lru.I1 blocks that are in no list", list, pages, expected);
		EXPECT("lru.I2 frames in list", list, atomic_load(&lru->nr_pages[list]), pages);
	}
	EXPECT("lru.I2 nr_isolated", 0, atomic_load(&lru->nr_isolated), 0);
	EXPECT("lru.I2 nr_dirty", 0, atomic_load(&lru->nr_dirty), checker->dirty);
	EXPECT("lru.I2 nr_writeback", 0, atomic_load(&lru->nr_writeback), checker->writeback);
	return true;
}

/* One block: what its head says, and that its inside is all tails. */
static bool check_block(struct checker *checker, berth_idx_t head)
{
	const struct berth_zone *zone = checker->zone;
	const struct berth_frame *frame = &zone->frames[head];
	uint32_t tag = berth__tag(frame),
		 refs = atomic_load(&((struct berth_frame *)frame)->refcount);
	unsigned order = berth__tag_order(tag);
	berth_pfn_t pfn = berth__pfn(zone, head);

	EXPECT("frame.I1 order of pfn is beyond max_order", pfn, order <= zone->max_order, true);
	EXPECT("frame.I1 block at pfn isn't aligned", pfn, head & (berth__pages(order) - 1), 0);
	EXPECT("frame.I1 block at pfn leaves the zone", pfn,
	       head >= zone->first && zone->end - head >= berth__pages(order), true);
	for (berth_idx_t i = 1; i < berth__pages(order); i++)
		EXPECT("frame.I1 tail has a tag", pfn + i, berth__tag(&zone->frames[head + i]), 0);
	for (berth_idx_t i = 0; zone->lru_state && i < berth__pages(order); i++)
		EXPECT("lru.I1 state of a frame that is no LRU block's head", pfn + i,
		       berth__lru_state(zone, head + i) &&
			       (i || berth__tag_kind(tag) != BERTH_FRAME_USED),
		       false);
	if (zone->lru_state && berth__tag_kind(tag) == BERTH_FRAME_USED &&
	    !check_lru_state(checker, head, tag, refs))
		return false;
	switch (berth__tag_kind(tag)) {
	case BERTH_FRAME_FREE:
		checker->free += berth__pages(order);
		EXPECT("frame.I2 refcount of a free block", pfn, refs, 0);
		break;
	case BERTH_FRAME_PCP:
		checker->pcp += berth__pages(order);
		EXPECT("frame.I2 refcount of a cached frame", pfn, refs, 0);
		EXPECT("pcp.I1 order of a cached block", pfn,
		       zone->pcp_row[order] != BERTH_PCP_NO_ROW, true);
		break;
	case BERTH_FRAME_USED:
		checker->used += berth__pages(order);
		EXPECT("frame.I2 refcount of a used block", pfn,
		       refs % BERTH_PIN_BIAS == (tag & BERTH_TAG_ORPHAN ? 0u : 1u) && refs, true);
		checker->pinned += refs >= BERTH_PIN_BIAS;
		EXPECT("frame flags of a used block", pfn, tag & BERTH_TAG_ARRIVING, 0);
		EXPECT("zone.I2 unmovable block in an area", pfn,
		       berth__pageblock(zone, head)->home_set >= BERTH_CMA &&
			       !(tag & BERTH_TAG_MOVABLE),
		       false);
		EXPECT("owner of a used block", pfn, berth__tag_owner(tag) < zone->nr_owners, true);
		break;
	case BERTH_FRAME_CLAIMED:
		checker->claimed += berth__pages(order);
		EXPECT("frame.I2 refcount of a claimed block", pfn, refs, 0);
		EXPECT("isolate.I2 taken, but no claim runs", pfn,
		       (tag & BERTH_TAG_TAKING) &&
			       !berth__isolation_in_locked(zone, head, head + berth__pages(order)),
		       false);
		if (tag & BERTH_TAG_START && !check_name(checker, head))
			return false;
		break;
	case BERTH_FRAME_RESERVED:
		checker->reserved += berth__pages(order);
		EXPECT("frame.I2 refcount of a reserved block", pfn, refs, 0);
		EXPECT("hand_over.I1 tag of a reserved block", pfn, tag,
		       BERTH_TAG(BERTH_FRAME_RESERVED, order));
		break;
	default:
		return violated(checker, "unknown kind of frame", pfn, tag, 0);
	}
	return true;
}

/* What is discardable of a pageblock. */
static bool check_discardables(struct checker *checker, berth_idx_t first)
{
	const struct berth_zone *zone = checker->zone;
	berth_idx_t end = first + berth__pages(zone->pageblock_order), next;
	uint32_t pages[BERTH_DISCARD_NOT + 1] = { 0 }, blocks[BERTH_DISCARD_NOT + 1] = { 0 };
	struct berth_discardables *counted = &zone->discardables[first >> zone->pageblock_order];

	for (berth_idx_t idx = first; idx < end; idx = next) {
		berth_idx_t head = berth__head(zone, idx);
		enum berth_discardable kind;

		next = idx + 1;
		if (head == BERTH_IDX_NONE)
			continue;
		next = head + berth__pages(berth__tag_order(berth__tag(&zone->frames[head])));
		next = next < end ? next : end;
		kind = berth__discardable(berth__lru_state(zone, head));
		pages[kind] += next - idx;
		blocks[kind]++;
	}
	for (unsigned kind = 0; kind < BERTH_NR_DISCARDABLE; kind++) {
		EXPECT("pageblock.I6 discardable frames", berth__pfn(zone, first),
		       atomic_load(&counted->pages[kind]), pages[kind]);
		EXPECT("pageblock.I6 discardable blocks", berth__pfn(zone, first),
		       atomic_load(&counted->blocks[kind]), blocks[kind]);
	}
	return true;
}

/* The frames of a block in one pageblock, but the first, by chunk. */
static void join_chunks(const struct berth_zone *zone, uint8_t *chunks, berth_idx_t idx,
			berth_idx_t end)
{
	while (++idx < end && berth__has_chunks(zone))
		chunks[(idx & (berth__pages(zone->pageblock_order) - 1)) >>
		       berth__chunk_order(zone)]++;
}

/* Pageblock counters against a walk of its frames. */
static bool check_pageblock(struct checker *checker, berth_idx_t first)
{
	const struct berth_zone *zone = checker->zone;
	struct berth_pageblock *pageblock = berth__pageblock(zone, first);
	berth_idx_t size = berth__pages(zone->pageblock_order);
	uint32_t free = 0, claimed = 0, managed = 0, reserved = 0, pinned = 0, joined = 0;
	uint32_t isolating = 0;
	uint8_t chunks[BERTH_CHUNKS] = { 0 };
	uint32_t wrong = 0;

	for (berth_idx_t idx = first; idx < first + size;) {
		berth_idx_t head = berth__head(zone, idx), next;
		const struct berth_frame *frame;

		if (head == BERTH_IDX_NONE) {
			idx++;
			continue;
		}
		frame = &zone->frames[head];
		next = head + berth__pages(berth__tag_order(berth__tag(frame)));
		if (next > first + size)
			next = first + size;
		managed += next - idx; /* but for RESERVED */
		switch (berth__tag_kind(berth__tag(frame))) {
		case BERTH_FRAME_FREE:
			free += next - idx;
			break;
		case BERTH_FRAME_CLAIMED:
			claimed += next - idx;
			break;
		case BERTH_FRAME_PCP:
			joined += next - idx - 1;
			join_chunks(zone, chunks, idx, next);
			break;
		case BERTH_FRAME_USED:
			joined += next - idx - 1;
			join_chunks(zone, chunks, idx, next);
			pinned += atomic_load(&((struct berth_frame *)frame)->refcount) >=
				  BERTH_PIN_BIAS;
			break;
		case BERTH_FRAME_RESERVED:
			managed -= next - idx;
			reserved += next - idx;
			break;
		default:
			break;
		}
		idx = next;
	}
	EXPECT("pageblock.I1 nr_free", berth__pfn(zone, first), berth__nr_free(pageblock), free);
	EXPECT("pageblock.I2 nr_claimed", berth__pfn(zone, first), berth__nr_claimed(pageblock),
	       claimed);
	EXPECT("frame.I3 nr_pinned", berth__pfn(zone, first), atomic_load(&pageblock->nr_pinned),
	       pinned);
	EXPECT("pageblock.I5 nr_joined", berth__pfn(zone, first), berth__nr_joined(pageblock),
	       joined);
	for (unsigned chunk = 0; chunk < BERTH_CHUNKS && berth__has_chunks(zone); chunk++)
		wrong += berth__joined(pageblock, chunk) != chunks[chunk];
	EXPECT("pageblock.I5 joined of chunks", berth__pfn(zone, first), wrong, 0);
	EXPECT("nr_managed", berth__pfn(zone, first), pageblock->nr_managed, managed);
	if (pageblock->home_set == BERTH_HIGHATOMIC)
		checker->highatomic += size;
	EXPECT("hand_over.I2 nr_reserved", berth__pfn(zone, first), pageblock->nr_reserved,
	       reserved);
	for (const struct berth_isolation *range = zone->isolations; range; range = range->next)
		isolating += range->start < first + size && range->end > first;
	EXPECT("isolate.I1 nr_isolating", berth__pfn(zone, first), pageblock->nr_isolating,
	       isolating);
	EXPECT("isolate.I1 isolated, but no claim runs", berth__pfn(zone, first),
	       berth__pageblock_set(pageblock), isolating ? BERTH_ISOLATE : pageblock->home_set);
	return true;
}

static bool check_frames(struct checker *checker)
{
	const struct berth_zone *zone = checker->zone;
	berth_idx_t size = berth__pages(zone->pageblock_order);

	for (berth_idx_t idx = zone->first; idx < zone->end;) {
		uint32_t tag = berth__tag(&zone->frames[idx]);

		if (!tag) {
			checker->unmanaged++;
			idx++;
			continue;
		}
		if (!check_block(checker, idx))
			return false;
		idx += berth__pages(berth__tag_order(tag));
	}
	for (berth_idx_t idx = zone->first & ~(size - 1); idx < zone->end; idx += size)
		if (!check_pageblock(checker, idx))
			return false;
	return true;
}

static bool same_summary(const struct berth_summary *a, const struct berth_summary *b)
{
	return __builtin_memcmp(a, b, sizeof(*a)) == 0;
}

/* A group that isn't marked stale says what is. */
static bool check_group(struct checker *checker, uint32_t number, uint32_t nr_pageblocks)
{
	const struct berth_zone *zone = checker->zone;
	const struct berth_group *group = &zone->groups[number];
	struct berth_load loads[BERTH_GROUP];
	struct berth_group is;

	berth__summarise_group(zone, number, &is, loads);
	for (uint32_t i = 0; i < BERTH_GROUP && number * BERTH_GROUP + i < nr_pageblocks; i++) {
		const struct berth_load *load = &zone->loads[(size_t)number * BERTH_GROUP + i];

		EXPECT("summary.I1 frames in use, pageblock", number * BERTH_GROUP + i, load->used,
		       loads[i].used);
		EXPECT("summary.I1 blocks in use, pageblock", number * BERTH_GROUP + i,
		       load->blocks, loads[i].blocks);
		EXPECT("summary.I1 free frames, pageblock", number * BERTH_GROUP + i, load->free,
		       loads[i].free);
		EXPECT("summary.I1 frames to claim, pageblock", number * BERTH_GROUP + i,
		       load->open, loads[i].open);
		for (unsigned kind = 0; kind < BERTH_NR_COSTS; kind++)
			EXPECT("summary.I1 cost of pageblock", number * BERTH_GROUP + i,
			       load->cost[kind], loads[i].cost[kind]);
	}
	for (unsigned kind = 0; kind < BERTH_NR_RUNS; kind++)
		EXPECT("summary.I1 kinds of pageblocks, group", number, group->is[kind],
		       is.is[kind]);
	EXPECT("summary.I1 sums, group", number, same_summary(&group->summary, &is.summary), true);
	return true;
}

static bool check_summaries(struct checker *checker)
{
	const struct berth_zone *zone = checker->zone;
	uint32_t nr_pageblocks = ((zone->end - 1) >> zone->pageblock_order) + 1;
	uint32_t groups = (nr_pageblocks - 1) / BERTH_GROUP + 1;
	struct berth_summary region;

	for (uint32_t first = 0; first < groups; first += BERTH_GROUP) {
		uint64_t stale = atomic_load(&zone->stale[first / BERTH_GROUP]);

		for (uint32_t i = 0; i < BERTH_GROUP && first + i < groups; i++)
			if (!(stale >> i & 1) && !check_group(checker, first + i, nr_pageblocks))
				return false;
		if (stale)
			continue;
		berth__summarise_region(zone, first / BERTH_GROUP, &region);
		EXPECT("summary.I1 sums, region", first / BERTH_GROUP,
		       same_summary(&zone->regions[first / BERTH_GROUP], &region), true);
	}
	return true;
}

/* A set's list of blocks of a pageblock and more; they are counted in *blocks, which may reach `most`. */
static bool check_list(struct checker *checker, unsigned set, unsigned order, uint32_t first,
		       uint32_t most, uint32_t *blocks)
{
	const struct berth_zone *zone = checker->zone;
	uint32_t previous = BERTH_IDX_NONE;

	for (uint32_t at = first; at != BERTH_IDX_NONE; at = zone->pageblocks[at].next) {
		berth_idx_t idx = at << zone->pageblock_order, buddy = idx ^ berth__pages(order);
		berth_pfn_t pfn = berth__pfn(zone, idx);

		EXPECT("buddy.I1 pageblock in a list", at,
		       at <= (zone->end - 1) >> zone->pageblock_order, true);
		EXPECT("buddy.I1 list longer than its count", order, (*blocks)++ < most, true);
		EXPECT("buddy.I1 tag in the list", pfn, berth__tag(&zone->frames[idx]),
		       BERTH_TAG(BERTH_FRAME_FREE, order));
		EXPECT("buddy.I1 backward link", pfn, zone->pageblocks[at].prev, previous);
		for (berth_idx_t i = 0; i < berth__pages(order);
		     i += berth__pages(zone->pageblock_order))
			EXPECT("buddy.I3 set of a free block's pageblock", pfn,
			       berth__pageblock_set(berth__pageblock(zone, idx + i)), set);
		if (order < zone->max_order && buddy < zone->end &&
		    berth__tag(&zone->frames[buddy]) == BERTH_TAG(BERTH_FRAME_FREE, order) &&
		    berth__pageblock_set(berth__pageblock(zone, buddy)) == set)
			return violated(checker, "buddy.I2 unmerged buddies", pfn, order,
					order + 1);
		previous = at;
	}
	return true;
}

/* The bits of a pageblock against its FREE heads; counts[order] blocks of each order. */
static bool check_bits_of(struct checker *checker, berth_idx_t first, uint32_t *counts)
{
	const struct berth_zone *zone = checker->zone;
	const uint64_t *bits = berth__bits(zone, first);
	berth_idx_t size = berth__pages(zone->pageblock_order);

	EXPECT("buddy.I1 bits of no block, pageblock", berth__pfn(zone, first), bits[0] & 3, 0);
	for (uint32_t number = 2; number < 2 * size; number++) {
		unsigned order = zone->pageblock_order - (31 - (unsigned)__builtin_clz(number));
		berth_idx_t idx = first + ((number << order) - size);
		bool is_free = idx < zone->end &&
			       berth__tag(&zone->frames[idx]) == BERTH_TAG(BERTH_FRAME_FREE, order);

		EXPECT("buddy.I1 bit of the block at pfn", berth__pfn(zone, idx),
		       bits[number / 64] >> number % 64 & 1, is_free);
		EXPECT("buddy.I2 unmerged buddies", berth__pfn(zone, idx),
		       is_free && bits[(number ^ 1) / 64] >> (number ^ 1) % 64 & 1, false);
		counts[order] += is_free;
	}
	return true;
}

/* The blocks of the set's pageblocks; counts[order] blocks of each order. */
static bool check_pageblock_lists(struct checker *checker, unsigned set, uint32_t *counts)
{
	const struct berth_zone *zone = checker->zone;
	berth_idx_t size = berth__pages(zone->pageblock_order);

	for (berth_idx_t idx = zone->first & ~(size - 1); idx < zone->end; idx += size) {
		const struct berth_pageblock *pageblock = berth__pageblock(zone, idx);
		uint32_t own[BERTH_MAX_ORDER_LIMIT + 1] = { 0 }, nonempty = 0;
		unsigned largest = 0;

		if (berth__pageblock_set(pageblock) != set)
			continue;
		if (!check_bits_of(checker, idx, own))
			return false;
		for (unsigned order = 0; order < zone->pageblock_order; order++) {
			counts[order] += own[order];
			nonempty |= (uint32_t)(own[order] != 0) << order;
			largest = own[order] ? order : largest;
		}
		EXPECT("buddy.I4 nonempty of pageblock", berth__pfn(zone, idx), pageblock->nonempty,
		       nonempty);
		EXPECT("buddy.I5 bucket of pageblock", berth__pfn(zone, idx), pageblock->bucket,
		       pageblock->nonempty ?
			       berth__bucket_number(berth__density(zone, berth__nr_free(pageblock)),
						    largest) :
			       0);
	}
	return true;
}

/* The buckets of a set hold the pageblocks that say so, each once. */
static bool check_buckets(struct checker *checker, unsigned set)
{
	const struct berth_zone *zone = checker->zone;
	berth_idx_t size = berth__pages(zone->pageblock_order);
	uint64_t there = 0, found = 0, counted = 0;

	for (berth_idx_t idx = zone->first & ~(size - 1); idx < zone->end; idx += size)
		there += berth__pageblock_set(berth__pageblock(zone, idx)) == set &&
			 berth__pageblock(zone, idx)->bucket;
	for (unsigned bucket = 0; bucket < BERTH_DENSITIES * 32; bucket++) {
		uint32_t next = BERTH_IDX_NONE, previous = BERTH_IDX_NONE;

		counted += bucket % 32 ? 0 :
					 atomic_load(&zone->sets[set].nr_pageblocks[bucket / 32]);

		if (berth__bucket_orders(&zone->sets[set], bucket / 32) >> bucket % 32 & 1)
			next = *berth__bucket(zone, set, bucket / 32, bucket % 32);
		for (; next != BERTH_IDX_NONE; next = zone->pageblocks[next].next) {
			EXPECT("buddy.I5 pageblock in a bucket", next,
			       next <= (zone->end - 1) >> zone->pageblock_order, true);
			EXPECT("buddy.I5 buckets of a set hold too many", set, found++ < there,
			       true);
			EXPECT("buddy.I5 bucket that a pageblock is in", next,
			       zone->pageblocks[next].bucket, bucket + 1);
			EXPECT("buddy.I5 backward link in a bucket", next,
			       zone->pageblocks[next].prev, previous);
			previous = next;
		}
		EXPECT("buddy.I5 pageblocks in buckets of a density, set", set,
		       bucket % 32 == 31 && counted != found, false);
	}
	EXPECT("buddy.I5 pageblocks that are in no bucket, set", set, found, there);
	return true;
}

static bool check_free_counters(struct checker *checker)
{
	struct berth_zone *zone = (struct berth_zone *)checker->zone;
	uint64_t cma = 0, keeping = 0;

	for (unsigned i = 0; i < zone->nr_areas; i++) {
		const struct berth_cma *area = &zone->areas[i];

		cma += atomic_load(&zone->sets[area->set].nr_free);
		keeping += berth__lend(area) == BERTH_LEND_OFF ||
			   atomic_load((_Atomic uint64_t *)&area->lend_min_pages);
	}
	EXPECT("pageblock.I3 nr_free of the zone", 0,
	       berth__zone_free(zone) + atomic_load(&zone->sets[BERTH_ISOLATE].nr_free),
	       checker->free + checker->kept);
	EXPECT("pageblock.I3 nr_free_cma", 0, atomic_load(&zone->nr_free_cma), cma);
	EXPECT("pageblock nr_keeping", 0, atomic_load(&zone->nr_keeping), keeping);
	EXPECT("pageblock.I3 nr_free_highatomic", 0, atomic_load(&zone->nr_free_highatomic),
	       atomic_load(&zone->sets[BERTH_HIGHATOMIC].nr_free));
	EXPECT("pageblock.I3 nr_highatomic", 0, atomic_load(&zone->nr_highatomic),
	       checker->highatomic);
	return true;
}

/* The stock of a set, whose frames are added to *frames. */
static bool check_stock(struct checker *checker, unsigned set, uint64_t *frames)
{
	const struct berth_zone *zone = checker->zone;
	berth_idx_t size = berth__pages(zone->pageblock_order);
	uint64_t stock = 0, taken = 0;

	for (berth_idx_t idx = zone->first & ~(size - 1); idx < zone->end; idx += size) {
		const struct berth_pageblock *pageblock = berth__pageblock(zone, idx);
		uint32_t number = idx >> zone->pageblock_order;
		enum berth_stock state = berth__stock(pageblock);

		if (berth__pageblock_set(pageblock) != set)
			continue;
		EXPECT("stock.I1 free pageblock of an area that isn't in its stock, or another that is",
		       number, state == BERTH_STOCK,
		       set >= BERTH_CMA && berth__nr_free(pageblock) == size);
		EXPECT("stock.I3 taken pageblock that isn't all claimed", number,
		       state == BERTH_TAKEN &&
			       (set < BERTH_CMA || berth__nr_claimed(pageblock) != size ||
				pageblock->nr_isolating),
		       false);
		EXPECT("stock.I4 pageblock of the stock without its bit", number,
		       state == BERTH_STOCK &&
			       !(atomic_load(&zone->stocked[number / 64]) >> number % 64 & 1),
		       false);
		stock += state == BERTH_STOCK ? size : 0;
		taken += state == BERTH_TAKEN ? size : 0;
	}
	EXPECT("stock.I5 frames taken of set", set, berth__taken(zone, set), taken);
	EXPECT("stock.I5 frames in the stock of set", set, berth__set_stock(zone, set), stock);
	EXPECT("buddy.I3 list of a pageblock and more of an area", set,
	       set >= BERTH_CMA && zone->sets[set].nonempty >> zone->pageblock_order, false);
	*frames += stock;
	return true;
}

static bool check_lists(struct checker *checker)
{
	const struct berth_zone *zone = checker->zone;
	uint64_t listed = 0;

	for (unsigned set = 0; set < BERTH_CMA + zone->max_areas; set++) {
		uint32_t counts[BERTH_MAX_ORDER_LIMIT + 1] = { 0 }, nonempty = 0;
		uint64_t frames = 0;

		if (!check_pageblock_lists(checker, set, counts))
			return false;
		for (unsigned order = 0; order <= zone->max_order; order++) {
			const struct berth_free_list *list =
				&zone->lists[set * (zone->max_order + 1) + order];
			uint32_t count = counts[order];

			if (order >= zone->pageblock_order &&
			    !check_list(checker, set, order, list->first, list->nr_blocks, &count))
				return false;
			EXPECT("buddy.I1 count of the list of order", order, count,
			       list->nr_blocks);
			nonempty |= (uint32_t)(count != 0) << order;
			frames += (uint64_t)count << order;
		}
		EXPECT("buddy.I4 nonempty of set", set, zone->sets[set].nonempty, nonempty);
		if (!check_buckets(checker, set))
			return false;
		if (!check_stock(checker, set, &frames))
			return false;
		EXPECT("pageblock.I1 nr_free of set", set, berth__set_free(zone, set),
		       frames + berth__kept(zone, set));
		listed += frames;
	}
	EXPECT("buddy.I1 free blocks that are in no list", 0, checker->free, listed);
	return true;
}

static bool check_pcp_list(struct checker *checker, unsigned cpu, unsigned list, uint64_t *cached,
			   uint32_t *tails)
{
	const struct berth_zone *zone = checker->zone;
	struct berth_pcp *pcp = berth__pcp(zone, cpu);
	const berth_idx_t *stack = (const berth_idx_t *)(const void *)(pcp + 1) +
				   zone->pcp_base[list];
	uint32_t count = atomic_load(&pcp->count[list]), high = atomic_load(&pcp->high[list]);

	EXPECT("pcp_limits.I1 limit, cpu", cpu,
	       high >= zone->pcp_min[list] && high <= zone->pcp_max[list], true);
	EXPECT("pcp.I1 count beyond high, cpu", cpu, count <= high, true);
	for (uint32_t i = 0; i < count; i++) {
		unsigned order = zone->pcp_order[list];
		uint32_t tag;

		EXPECT("pcp.I1 index in a list, cpu", cpu, stack[i] < zone->end, true);
		tag = berth__tag(&zone->frames[stack[i]]);
		if (list == BERTH_PCP_RETURN) /* of any order */
			order = berth__tag_order(tag);
		EXPECT("pcp.I1 tag of a cached frame, cpu", cpu, tag,
		       BERTH_TAG(BERTH_FRAME_PCP, order));
		*cached += berth__pages(order);
		*tails += list == BERTH_PCP_RETURN ? berth__pages(order) - 1 : 0;
	}
	return true;
}

static bool check_pcps(struct checker *checker)
{
	const struct berth_zone *zone = checker->zone;
	uint64_t cached = 0, grown = 0;

	for (unsigned cpu = 0; cpu < zone->nr_cpus; cpu++) {
		struct berth_pcp *pcp = berth__pcp(zone, cpu);
		uint32_t tails = 0;

		for (unsigned list = 0; list < BERTH_NR_PCP_LISTS; list++) {
			if (!check_pcp_list(checker, cpu, list, &cached, &tails))
				return false;
			grown += (uint64_t)(atomic_load(&pcp->high[list]) - zone->pcp_min[list])
				 << zone->pcp_order[list];
		}
		EXPECT("pcp.I1 tails in RETURN, cpu", cpu, tails, atomic_load(&pcp->return_tails));
	}
	EXPECT("pcp.I1 cached frames that are in no list", 0, checker->pcp, cached);
	EXPECT("pcp_limits.I1 grown", 0, grown,
	       atomic_load(&((struct berth_zone *)zone)->pcp_grown));
	EXPECT("pcp_limits.I1 grown beyond the budget", 0, grown <= zone->pcp_budget, true);
	return true;
}

/* The bits of frames [start, end) are all `value`, but those that frames outside share. */
static bool check_bits(struct checker *checker, const struct berth_cma *area, berth_idx_t start,
		       berth_idx_t end, bool value)
{
	berth_idx_t bit_pages = berth__pages(area->order_per_bit);
	berth_idx_t from = start - area->start, to = end - area->start;

	if (!value) { /* a claim before or after may share the outer bits */
		from = (from + bit_pages - 1) & ~(bit_pages - 1);
		to &= ~(bit_pages - 1);
	}
	for (; from < to; from += bit_pages) {
		uint64_t bit = from >> area->order_per_bit;

		EXPECT("cma.I1 bit of pfn", berth__pfn(checker->zone, area->start + from),
		       area->bitmap[bit / 64] >> (bit & 63) & 1, value);
	}
	return true;
}

static bool check_area(struct checker *checker, struct berth_cma *area)
{
	const struct berth_zone *zone = checker->zone;
	berth_idx_t unclaimed = area->start; /* since the end of the last claim */
	uint64_t claimed = 0, counted = 0;

	for (berth_idx_t idx = area->start; idx < area->end;) {
		berth_idx_t head = berth__head(zone, idx);
		uint32_t tag = head == BERTH_IDX_NONE ? 0 : berth__tag(&zone->frames[head]);
		EXPECT("cma range of the set", berth__pfn(zone, idx),
		       berth__pageblock(zone, idx)->home_set, area->set);
		if (tag & BERTH_TAG_AREA || (head == idx && berth__is_kept(zone, idx))) {
			uint64_t nr = berth__cookie(zone, head);

			EXPECT("cma claim leaves its area", berth__pfn(zone, idx),
			       nr && nr <= area->end - head, true);
			if (!check_bits(checker, area, unclaimed, head, false) ||
			    !check_bits(checker, area, head, head + (berth_idx_t)nr, true))
				return false;
			claimed += tag & BERTH_TAG_AREA ? nr : 0;
			idx = unclaimed = head + (berth_idx_t)nr;
			continue;
		}
		idx = head == BERTH_IDX_NONE ? idx + 1 : head + berth__pages(berth__tag_order(tag));
	}
	if (!check_bits(checker, area, unclaimed, area->end, false))
		return false;
	for (unsigned i = 0; i <= area->tally_mask; i++)
		counted += atomic_load(&area->tallies[i].claimed_pages);
	EXPECT("cma.I2 claimed_pages", berth__pfn(zone, area->start), counted, claimed);
	return true;
}

static bool check_events(struct checker *checker)
{
	uint64_t events[BERTH_NR_EVENTS];

	berth_zone_events(checker->zone, events);
	EXPECT("stats.I1 pgalloc - pgfree", events[BERTH_EVENT_PGALLOC],
	       events[BERTH_EVENT_PGALLOC] - events[BERTH_EVENT_PGFREE],
	       checker->used + checker->pcp);
	return true;
}

bool berth_zone_check(struct berth_zone *zone, struct berth_violation *violation)
{
	struct berth_violation ignored;
	struct checker state = { .zone = zone, .violation = violation ? violation : &ignored };
	struct checker *checker = &state;

	if (!check_frames(checker) || !check_kept(checker) || !check_summaries(checker) ||
	    !check_lists(checker) || !check_free_counters(checker) || !check_pcps(checker) ||
	    !check_names(checker) || !check_lru_lists(checker))
		return false;
	for (berth_idx_t idx = zone->first & ~(berth__pages(zone->pageblock_order) - 1);
	     zone->discardables && idx < zone->end; idx += berth__pages(zone->pageblock_order))
		if (!check_discardables(checker, idx))
			return false;
	for (unsigned i = 0; i < zone->nr_areas; i++)
		if (!check_area(checker, &zone->areas[i]))
			return false;
	EXPECT("pageblock.I2 nr_claimed of the zone", 0,
	       zone->nr_claimed + berth__taken_of_all(zone), checker->claimed);
	EXPECT("frame.I3 pinned blocks of the zone", 0, atomic_load(&zone->pinned_blocks),
	       checker->pinned);
	EXPECT("hand_over.I2 nr_reserved of the zone", 0, zone->nr_reserved, checker->reserved);
	EXPECT("zone.I1 free + pcp + used + claimed", 0,
	       checker->free + checker->pcp + checker->used + checker->claimed, zone->nr_managed);
	return check_events(checker);
}
