/* SPDX-License-Identifier: MIT */
/*
 * Memory that is scattered as a test wants it, and compacting it.
 */
#ifndef BERTH_TEST_COMPACT_H
#define BERTH_TEST_COMPACT_H

#include "tests/include/testowner.h"

#define BLOCK 512u /* frames of a pageblock */

/* ---- Making memory scattered ------------------------------------------------------------------ */

/* A zone of nr pageblocks, all single frames of the owner; page = pfn. */
static inline struct test_zone *full_zone(struct test_owner **o, unsigned nr_pageblocks)
{
	struct test_zone *tz = zone_open(.nr_pages = (uint64_t)nr_pageblocks * BLOCK);

	*o = owner_open(tz, "owner");
	assert_int_equal(owner_exhaust(*o, 0, BERTH_GFP_MOVABLE), nr_pageblocks * BLOCK);
	return tz;
}

static inline void free_at(struct test_owner *o, berth_pfn_t pfn)
{
	owner_unmap(o, owner_page_at(o, pfn), 1);
	assert_int_equal(berth_free_pages(o->tz->zone, pfn), 0);
}

/* Leaves nr single frames in use in the pageblock, evenly spread. */
static inline void leave(struct test_owner *o, unsigned pageblock, unsigned nr)
{
	for (unsigned i = 0; i < BLOCK; i++)
		if ((uint64_t)i * nr / BLOCK == (uint64_t)(i + 1) * nr / BLOCK)
			free_at(o, (berth_pfn_t)pageblock * BLOCK + i);
	zone_ok(o->tz);
}

static inline uint64_t used_in(struct test_zone *tz, unsigned pageblock)
{
	return count_state(tz, (berth_pfn_t)pageblock * BLOCK, (pageblock + 1ull) * BLOCK, 'u');
}

static inline uint64_t free_pageblocks(struct test_zone *tz)
{
	uint64_t n = 0;

	for (berth_pfn_t pfn = tz->params.start_pfn; pfn < zone_end(tz); pfn += BLOCK) {
		berth_pfn_t head = 0;
		unsigned order = 0;

		n += berth_frame_state(tz->zone, pfn, &head, &order) == 'f' && order >= 9;
	}
	return n;
}

/* Verifies the zone after it. */
static inline int compact(struct test_zone *tz, const struct berth_compact_params *params,
			  struct berth_compact_result *r)
{
	int ret = berth_compact(tz->zone, params, r);

	zone_ok(tz);
	return ret;
}
#define compact_with(tz, r, ...) compact(tz, &(struct berth_compact_params){ __VA_ARGS__ }, r)
#define compact_all(tz, r) \
	compact_with(tz, r, .mode = BERTH_COMPACT_SYNC, .flags = BERTH_COMPACT_WHOLE_ZONE)

#endif
