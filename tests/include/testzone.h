/* SPDX-License-Identifier: MIT */
/*
 * A zone in a test: metadata, fake contents, a reverse map and CMA areas; pictures of its whole
 * visible state; and calls that verify the zone after each operation.
 *
 * Every frame has one word of fake content, and the reverse map says which owner's page lives in
 * it. Owners (testowner.h) keep both up to date when they move a frame, so a lost, doubled or
 * misplaced page shows.
 */
#ifndef BERTH_TESTZONE_H
#define BERTH_TESTZONE_H

#include "testing.h"

#define TEST_MAX_OWNERS 16u
#define TEST_MAX_AREAS 16u

/* One of these a frame. Page numbers are the owner's cookies without its base. */
struct test_frame {
	uint32_t content;
	uint32_t owner; /* 0: nobody's as far as the test knows */
	uint64_t page;
};

struct test_zone {
	struct berth_zone *zone;
	struct berth_zone_params params;
	struct test_port port;
	void *metadata;
	size_t metadata_bytes;
	struct test_frame *frames; /* by pfn - start_pfn */
	/* Frames that a running claim empties: no block may move there. */
	berth_pfn_t no_dst_start, no_dst_end;
	struct berth_cma_params areas[TEST_MAX_AREAS];
	unsigned nr_areas;
};

static inline struct test_frame *test_frame(struct test_zone *tz, berth_pfn_t pfn)
{
	assert_true(pfn >= tz->params.start_pfn);
	assert_true(pfn - tz->params.start_pfn < tz->params.nr_pages);
	return &tz->frames[pfn - tz->params.start_pfn];
}

/* ---- Making and verifying a zone ------------------------------------------------------------- */

static inline void test_zone_fill_params(struct test_zone *tz,
					 const struct berth_zone_params *params)
{
	tz->params = *params;
	if (!tz->params.name)
		tz->params.name = "test";
	if (!tz->params.nr_pages)
		tz->params.nr_pages = 4096;
	if (!tz->params.nr_cpus)
		tz->params.nr_cpus = 2;
	if (!tz->params.max_areas)
		tz->params.max_areas = 8;
	if (!tz->params.port)
		tz->params.port = &test_port_ops;
	tz->params.port_ctx = &tz->port;
}

/*
 * A zone that spans frames and manages none. Zero fields get defaults: 4096 frames, two CPUs,
 * eight areas, the scripted port. The calling thread has no slot, so that the per-CPU lists stay
 * out of tests that don't ask for them (test_set_cpu()).
 */
static inline struct test_zone *test_zone_open_empty(const struct berth_zone_params *params)
{
	struct test_zone *tz = test_zalloc(1, sizeof(*tz));

	test_set_cpu(TEST_NO_CPU);
	test_zone_fill_params(tz, params);
	tz->port.tick_ns = 10;
	tz->metadata_bytes = berth_zone_metadata_size(&tz->params);
	assert_int_not_equal(tz->metadata_bytes, 0);
	assert_int_equal(posix_memalign(&tz->metadata, 64, tz->metadata_bytes), 0);
	/* Zeroed memory is tested by its own; everybody else gets garbage. */
	memset(tz->metadata, tz->params.metadata_is_zeroed ? 0 : 0xa5, tz->metadata_bytes);
	tz->frames = test_zalloc(tz->params.nr_pages, sizeof(*tz->frames));
	assert_int_equal(berth_zone_init(&tz->zone, &tz->params, tz->metadata, tz->metadata_bytes),
			 0);
	assert_non_null(tz->zone);
	return tz;
}

/* Fails the test at the caller's line when an invariant is broken or the counters don't add up. */
static inline void test_zone_verify(struct test_zone *tz, const char *file, int line)
{
	struct berth_violation v = { 0 };
	struct berth_zone_stats s;

	if (!berth_zone_check(tz->zone, &v)) {
		print_error("zone check: %s at %#llx: value %#llx, expected %#llx\n",
			    v.what ? v.what : "(null)", (unsigned long long)v.where,
			    (unsigned long long)v.value, (unsigned long long)v.expected);
		_fail(file, line);
	}
	berth_zone_stats(tz->zone, &s);
	if (s.free_pages + s.pcp_pages + s.claimed_pages + s.used_pages != s.managed_pages) {
		print_error("counters: free %llu + pcp %llu + claimed %llu + used %llu != %llu\n",
			    (unsigned long long)s.free_pages, (unsigned long long)s.pcp_pages,
			    (unsigned long long)s.claimed_pages, (unsigned long long)s.used_pages,
			    (unsigned long long)s.managed_pages);
		_fail(file, line);
	}
}
#define zone_ok(tz) test_zone_verify(tz, __FILE__, __LINE__)

static inline struct test_zone *test_zone_open(const struct berth_zone_params *params)
{
	struct test_zone *tz = test_zone_open_empty(params);

	assert_int_equal(berth_zone_add_memory(tz->zone, tz->params.start_pfn, tz->params.nr_pages),
			 0);
	zone_ok(tz);
	return tz;
}
#define zone_open(...) test_zone_open(&(struct berth_zone_params){ __VA_ARGS__ })
#define zone_open_empty(...) test_zone_open_empty(&(struct berth_zone_params){ __VA_ARGS__ })

static inline void zone_close(struct test_zone *tz)
{
	zone_ok(tz);
	for (unsigned i = 0; i < tz->nr_areas; i++)
		free(tz->areas[i].bitmap);
	free(tz->frames);
	free(tz->metadata);
	free(tz);
}

/* For a zone that a panic has left locked: frees the memory and looks at nothing. */
static inline void zone_abandon(struct test_zone *tz)
{
	for (unsigned i = 0; i < tz->nr_areas; i++)
		free(tz->areas[i].bitmap);
	free(tz->frames);
	free(tz->metadata);
	free(tz);
}

static inline unsigned zone_max_order(const struct test_zone *tz)
{
	return tz->params.max_order ? tz->params.max_order : 10;
}

static inline unsigned zone_pageblock_order(const struct test_zone *tz)
{
	return tz->params.pageblock_order ? tz->params.pageblock_order : 9;
}

static inline berth_pfn_t zone_end(const struct test_zone *tz)
{
	return tz->params.start_pfn + tz->params.nr_pages;
}

static inline struct berth_zone_stats zone_stats(struct test_zone *tz)
{
	struct berth_zone_stats s;

	berth_zone_stats(tz->zone, &s);
	return s;
}

/* Free to anybody: in the buddy lists or cached by a CPU. */
static inline uint64_t zone_free_pages(struct test_zone *tz)
{
	struct berth_zone_stats s = zone_stats(tz);

	return s.free_pages + s.pcp_pages;
}

static inline char frame_state(struct test_zone *tz, berth_pfn_t pfn)
{
	berth_pfn_t head = 0;
	unsigned order = 0;

	return berth_frame_state(tz->zone, pfn, &head, &order);
}

/* How many of the frames [start, end) are in this state. */
static inline uint64_t count_state(struct test_zone *tz, berth_pfn_t start, berth_pfn_t end,
				   char state)
{
	uint64_t n = 0;

	for (berth_pfn_t pfn = start; pfn < end; pfn++)
		n += frame_state(tz, pfn) == state;
	return n;
}

/* Free blocks of this order in the buddy lists. */
static inline uint64_t count_free_blocks(struct test_zone *tz, unsigned order)
{
	uint64_t n = 0;

	for (berth_pfn_t pfn = tz->params.start_pfn; pfn < zone_end(tz); pfn++) {
		berth_pfn_t head = BERTH_PFN_NONE;
		unsigned o = 99;

		if (berth_frame_state(tz->zone, pfn, &head, &o) == 'f' && head == pfn)
			n += o == order;
	}
	return n;
}

/* The number of the area that holds the frame, from 1; 0: none. */
static inline unsigned zone_area_at(const struct test_zone *tz, berth_pfn_t pfn)
{
	for (unsigned i = 0; i < tz->nr_areas; i++)
		if (pfn >= tz->areas[i].start_pfn &&
		    pfn - tz->areas[i].start_pfn < tz->areas[i].nr_pages)
			return i + 1;
	return 0;
}

/* No two free buddies of the same order and the same area, or none, are unmerged; but for whole pageblocks
 * of an area, which don't merge. */
static inline void assert_all_merged(struct test_zone *tz)
{
	berth_pfn_t pfn = tz->params.start_pfn;

	while (pfn < zone_end(tz)) {
		berth_pfn_t head = BERTH_PFN_NONE, buddy_head = BERTH_PFN_NONE;
		unsigned order = 0, buddy_order = 0;
		berth_pfn_t buddy;

		if (berth_frame_state(tz->zone, pfn, &head, &order) != 'f') {
			pfn++;
			continue;
		}
		assert_int_equal(head, pfn);
		buddy = pfn ^ (1ull << order);
		pfn += 1ull << order;
		if (order == zone_max_order(tz) || buddy < tz->params.start_pfn ||
		    buddy >= zone_end(tz) || zone_area_at(tz, buddy) != zone_area_at(tz, head) ||
		    (zone_area_at(tz, head) && order >= zone_pageblock_order(tz)))
			continue;
		if (berth_frame_state(tz->zone, buddy, &buddy_head, &buddy_order) == 'f' &&
		    buddy_head == buddy && buddy_order == order)
			fail_msg("free buddies %#llx and %#llx of order %u aren't merged",
				 (unsigned long long)head, (unsigned long long)buddy, order);
	}
}

/* ---- Pictures: all that can be seen of a zone, to compare ------------------------------------ */

struct test_picture_frame {
	berth_pfn_t head;
	uint8_t order;
	char state;
	uint8_t migratetype;
	uint8_t pinned;
};

struct test_picture {
	struct berth_zone_stats stats;
	uint64_t nr_frames; /* 0 for zones too big to look at frame by frame */
	struct test_picture_frame frames[];
};

static inline struct test_picture *picture_take(struct test_zone *tz)
{
	uint64_t n = tz->params.nr_pages <= 16384 ? tz->params.nr_pages : 0;
	struct test_picture *p = test_zalloc(1, sizeof(*p) + n * sizeof(p->frames[0]));

	p->stats = zone_stats(tz);
	p->nr_frames = n;
	for (uint64_t i = 0; i < n; i++) {
		berth_pfn_t pfn = tz->params.start_pfn + i;
		berth_pfn_t head = BERTH_PFN_NONE;
		unsigned order = 0;

		p->frames[i].state = berth_frame_state(tz->zone, pfn, &head, &order);
		p->frames[i].migratetype = (uint8_t)berth_pageblock_migratetype(tz->zone, pfn);
		if (p->frames[i].state == '-')
			continue;
		p->frames[i].head = head;
		p->frames[i].order = (uint8_t)order;
		p->frames[i].pinned = berth_page_pinned(tz->zone, pfn);
	}
	return p;
}

static inline void picture_compare_frames(const struct test_picture *a,
					  const struct test_picture *b, const char *file, int line)
{
	assert_int_equal(a->nr_frames, b->nr_frames);
	for (uint64_t i = 0; i < a->nr_frames; i++) {
		if (!memcmp(&a->frames[i], &b->frames[i], sizeof(a->frames[i])))
			continue;
		print_error("frame +%#llx was %c head %#llx order %u type %u pinned %u, "
			    "is %c head %#llx order %u type %u pinned %u\n",
			    (unsigned long long)i, a->frames[i].state,
			    (unsigned long long)a->frames[i].head, a->frames[i].order,
			    a->frames[i].migratetype, a->frames[i].pinned, b->frames[i].state,
			    (unsigned long long)b->frames[i].head, b->frames[i].order,
			    b->frames[i].migratetype, b->frames[i].pinned);
		_fail(file, line);
	}
}

/* Nothing has changed since `before`, which is freed. */
static inline void picture_unchanged(struct test_zone *tz, struct test_picture *before,
				     const char *file, int line)
{
	struct test_picture *after = picture_take(tz);

	picture_compare_frames(before, after, file, line);
	_assert_memory_equal(&before->stats, &after->stats, sizeof(before->stats), file, line);
	free(before);
	free(after);
	test_zone_verify(tz, file, line);
}

/*
 * What a failed claim may leave changed: blocks that moved (and so split), frames that went from
 * a CPU's list to the buddy lists. Sums, claims and the pageblocks' types are as before.
 */
static inline void picture_unchanged_but_moves(struct test_zone *tz, struct test_picture *before,
					       const char *file, int line)
{
	struct test_picture *after = picture_take(tz);
	const struct berth_zone_stats *a = &before->stats, *b = &after->stats;

	for (uint64_t i = 0; i < before->nr_frames; i++) {
		_assert_int_equal(before->frames[i].migratetype, after->frames[i].migratetype, file,
				  line);
		_assert_int_equal(before->frames[i].state == 'c', after->frames[i].state == 'c',
				  file, line);
		_assert_int_equal(before->frames[i].pinned, after->frames[i].pinned, file, line);
	}
	_assert_int_equal(a->managed_pages, b->managed_pages, file, line);
	_assert_int_equal(a->free_pages + a->pcp_pages, b->free_pages + b->pcp_pages, file, line);
	_assert_int_equal(a->claimed_pages, b->claimed_pages, file, line);
	_assert_int_equal(a->used_pages, b->used_pages, file, line);
	_assert_int_equal(a->pinned_blocks, b->pinned_blocks, file, line);
	free(before);
	free(after);
	test_zone_verify(tz, file, line);
}

/* The call returns this error and changes nothing. */
#define assert_refused(tz, error, call)                             \
	do {                                                        \
		struct test_picture *before_ = picture_take(tz);    \
		assert_int_equal(call, error);                      \
		picture_unchanged(tz, before_, __FILE__, __LINE__); \
	} while (0)

/* The claim returns this error and leaves everything as it was, but that blocks may have moved. */
#define assert_claim_fails(tz, error, call)                                   \
	do {                                                                  \
		struct test_picture *before_ = picture_take(tz);              \
		assert_int_equal(call, error);                                \
		picture_unchanged_but_moves(tz, before_, __FILE__, __LINE__); \
	} while (0)

/* ---- Frames without an owner ----------------------------------------------------------------- */

/* Allocates an ownerless block that must be there, and looks at the result from all sides. */
static inline berth_pfn_t zone_alloc(struct test_zone *tz, unsigned order)
{
	uint64_t free_before = zone_free_pages(tz);
	berth_pfn_t pfn = BERTH_PFN_NONE, head = BERTH_PFN_NONE;
	unsigned o = 99;

	assert_int_equal(berth_alloc_pages(tz->zone, order, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE,
					   0, &pfn),
			 0);
	assert_true(pfn >= tz->params.start_pfn);
	assert_true(pfn + (1ull << order) <= zone_end(tz));
	assert_int_equal(pfn & ((1ull << order) - 1), 0);
	assert_int_equal(berth_frame_state(tz->zone, pfn, &head, &o), 'u');
	assert_int_equal(head, pfn);
	assert_int_equal(o, order);
	assert_int_equal(zone_free_pages(tz), free_before - (1ull << order));
	zone_ok(tz);
	return pfn;
}

static inline void zone_free(struct test_zone *tz, berth_pfn_t pfn)
{
	uint64_t free_before = zone_free_pages(tz);
	berth_pfn_t head = BERTH_PFN_NONE;
	unsigned order = 99;

	assert_int_equal(berth_frame_state(tz->zone, pfn, &head, &order), 'u');
	assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	assert_int_equal(zone_free_pages(tz), free_before + (1ull << order));
	zone_ok(tz);
}

/* An allocation that must fail with this error, change nothing and write nothing. */
static inline void zone_alloc_refused(struct test_zone *tz, unsigned order, unsigned gfp,
				      unsigned owner, int error)
{
	berth_pfn_t pfn = 0x5ca1ab1e;

	assert_refused(tz, error, berth_alloc_pages(tz->zone, order, gfp, owner, 0, &pfn));
	assert_int_equal(pfn, 0x5ca1ab1e);
}

/* Allocates ownerless single frames until none is left; returns how many. */
static inline uint64_t zone_exhaust(struct test_zone *tz)
{
	berth_pfn_t pfn;
	uint64_t n = 0;

	while (berth_alloc_pages(tz->zone, 0, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, 0, &pfn) == 0)
		n++;
	zone_ok(tz);
	return n;
}

/* ---- Areas and claims ------------------------------------------------------------------------ */

static inline struct berth_cma *area_declare(struct test_zone *tz, const char *name,
					     berth_pfn_t start_pfn, uint64_t nr_pages,
					     unsigned order_per_bit, enum berth_lend_policy lend)
{
	struct berth_cma_params params = {
		.name = name,
		.start_pfn = start_pfn,
		.nr_pages = nr_pages,
		.order_per_bit = order_per_bit,
		.lend = lend,
		.bitmap = test_zalloc(1, berth_cma_bitmap_bytes(nr_pages, order_per_bit)),
	};
	struct berth_cma *area = NULL;

	assert_true(tz->nr_areas < TEST_MAX_AREAS);
	tz->areas[tz->nr_areas++] = params;
	assert_int_equal(berth_cma_declare(tz->zone, &params, &area), 0);
	assert_non_null(area);
	zone_ok(tz);
	return area;
}

static inline struct berth_cma_stats area_stats(struct berth_cma *area)
{
	struct berth_cma_stats s;

	berth_cma_stats(area, &s);
	return s;
}

/* Claims a range and verifies that it is all claimed. */
static inline int contig_claim(struct test_zone *tz, berth_pfn_t start, uint64_t nr_pages,
			       unsigned flags, struct berth_claim_report *report)
{
	struct berth_claim_params params = { .nr_pages = nr_pages, .flags = flags };
	int ret;

	tz->no_dst_start = start;
	tz->no_dst_end = start + nr_pages;
	ret = berth_alloc_contig_range(tz->zone, start, nr_pages, &params, report);
	tz->no_dst_start = tz->no_dst_end = 0;
	if (ret == 0)
		assert_int_equal(count_state(tz, start, start + nr_pages, 'c'), nr_pages);
	zone_ok(tz);
	return ret;
}

static inline int area_claim_flags(struct test_zone *tz, struct berth_cma *area, uint64_t nr_pages,
				   unsigned align_order, unsigned flags, berth_pfn_t *pfn,
				   struct berth_claim_report *report)
{
	struct berth_claim_params params = {
		.nr_pages = nr_pages,
		.align_order = align_order,
		.flags = flags,
	};
	int ret = berth_cma_alloc(area, &params, pfn, report);

	if (ret == 0) {
		assert_int_equal(*pfn & ((1ull << align_order) - 1), 0);
		assert_int_equal(count_state(tz, *pfn, *pfn + nr_pages, 'c'), nr_pages);
	}
	zone_ok(tz);
	return ret;
}

/* A claim that must succeed. */
static inline berth_pfn_t area_claim(struct test_zone *tz, struct berth_cma *area,
				     uint64_t nr_pages, unsigned align_order)
{
	berth_pfn_t pfn = BERTH_PFN_NONE;

	assert_int_equal(area_claim_flags(tz, area, nr_pages, align_order, 0, &pfn, NULL), 0);
	return pfn;
}

static inline void area_release(struct test_zone *tz, struct berth_cma *area, berth_pfn_t pfn,
				uint64_t nr_pages)
{
	assert_int_equal(berth_cma_release(area, pfn, nr_pages), 0);
	zone_ok(tz);
}

#endif
