/* SPDX-License-Identifier: MIT */
/*
 * berth_zone_check() against metadata that is corrupted on purpose: it says what is wrong, never
 * mutates, and never reads outside the metadata. And the panics that stop a zone whose lists are
 * broken.
 */
#include "core/frames/internal.h"
#include "core/stats.h"
#include "tests/include/testowner.h"

/* A zone with a bit of everything, and where it is. */
struct scene {
	struct test_zone *tz;
	struct berth_zone *zone;
	struct test_owner *owner;
	struct berth_cma *area;
	berth_idx_t free_head, single, cached, used, pinned, claim;
	unsigned free_order;
};

#define AREA_START 1024u
#define RESERVED_START 4096u

static berth_idx_t find_state(struct scene *s, char state, unsigned min_order)
{
	for (berth_pfn_t pfn = 0; pfn < 4096; pfn++) {
		berth_pfn_t head = BERTH_PFN_NONE;
		unsigned order = 0;

		if (berth_frame_state(s->zone, pfn, &head, &order) == state && head == pfn &&
		    order >= min_order)
			return (berth_idx_t)pfn;
	}
	fail();
	return 0;
}

static void scene_open(struct scene *s)
{
	memset(s, 0, sizeof(*s));
	s->tz = zone_open_empty(.nr_pages = 4608, .nr_cpus = 1, .pcp_high = 16);
	s->zone = s->tz->zone;
	assert_int_equal(berth_zone_add_memory(s->zone, 0, 4096), 0);
	assert_int_equal(berth_zone_add_reserved(s->zone, RESERVED_START, 100), 0);
	s->area = area_declare(s->tz, "area", AREA_START, 1024, 2, BERTH_LEND_LAST);
	s->owner = owner_open(s->tz, "owner");
	s->claim = (berth_idx_t)area_claim(s->tz, s->area, 40, 0);
	s->used = (berth_idx_t)s->owner->table[owner_alloc(s->owner, 3)];
	s->pinned = (berth_idx_t)s->owner->table[owner_alloc(s->owner, 1)];
	assert_int_equal(berth_page_pin(s->zone, s->pinned), 0);
	test_set_cpu(0);
	s->cached = (berth_idx_t)zone_alloc(s->tz, 0);
	zone_free(s->tz, s->cached);
	s->single = (berth_idx_t)s->owner->table[owner_alloc(s->owner, 0)];
	s->free_head = find_state(s, 'f', 4);
	s->free_order = berth__tag_order(berth__tag(&s->zone->frames[s->free_head]));
}

static void scene_close(struct scene *s)
{
	assert_int_equal(berth_page_unpin(s->zone, s->pinned), 0);
	owner_close(s->owner);
	zone_close(s->tz);
}

/* ---- The corruptions ------------------------------------------------------------------------- */

static struct berth_frame *frame(struct scene *s, berth_idx_t idx)
{
	return &s->zone->frames[idx];
}

static void or_tag(struct scene *s, berth_idx_t idx, uint32_t bits)
{
	berth__set_tag(frame(s, idx), berth__tag(frame(s, idx)) | bits);
}

static struct berth_free_list *free_list(struct scene *s)
{
	unsigned set = berth__pageblock_set(berth__pageblock(s->zone, s->free_head));

	return &s->zone->lists[set * (s->zone->max_order + 1) + s->free_order];
}

static struct berth_list_set *free_set(struct scene *s)
{
	return &s->zone->sets[berth__pageblock_set(berth__pageblock(s->zone, s->free_head))];
}

static berth_idx_t *pcp_stack(struct scene *s, unsigned *list)
{
	struct berth_pcp *pcp = berth__pcp(s->zone, 0);

	for (*list = 0; !atomic_load(&pcp->count[*list]); ++*list)
		assert_true(*list < BERTH_NR_PCP_LISTS - 1);
	return (berth_idx_t *)(void *)(pcp + 1) + s->zone->pcp_base[*list];
}

static void order_too_large(struct scene *s)
{
	berth__set_tag(frame(s, s->free_head), BERTH_TAG(BERTH_FRAME_FREE, 31));
}

static void order_not_aligned(struct scene *s)
{
	/* used is a block of 8 frames; its second half can't be the head of 8. */
	berth__set_tag(frame(s, s->used), BERTH_TAG(BERTH_FRAME_USED, 2));
	berth__set_tag(frame(s, s->used + 4), BERTH_TAG(BERTH_FRAME_USED, 3));
}

static void tag_inside_a_block(struct scene *s)
{
	berth__set_tag(frame(s, s->used + 5), BERTH_TAG(BERTH_FRAME_USED, 0));
}

static void unknown_kind(struct scene *s)
{
	berth__set_tag(frame(s, s->single), 7);
}

static void frame_lost(struct scene *s)
{
	berth__set_tag(frame(s, s->single), 0);
}

static void refcount_of_a_free_block(struct scene *s)
{
	atomic_store(&frame(s, s->free_head)->refcount, 1);
}

static void refcount_of_a_cached_frame(struct scene *s)
{
	atomic_store(&frame(s, s->cached)->refcount, 1);
}

static void refcount_of_a_used_block(struct scene *s)
{
	atomic_store(&frame(s, s->used)->refcount, 2);
}

static void used_block_left_frozen(struct scene *s)
{
	atomic_store(&frame(s, s->used)->refcount, 0);
}

static void refcount_of_a_claim(struct scene *s)
{
	atomic_store(&frame(s, s->claim)->refcount, 1);
}

static void orphan_with_its_owners_reference(struct scene *s)
{
	or_tag(s, s->pinned, BERTH_TAG_ORPHAN);
}

static void destination_left_behind(struct scene *s)
{
	or_tag(s, s->used, BERTH_TAG_ARRIVING);
}

static void claim_left_incomplete(struct scene *s)
{
	or_tag(s, s->claim, BERTH_TAG_TAKING);
}

static void owner_that_does_not_exist(struct scene *s)
{
	or_tag(s, s->used, 999u << BERTH_TAG_OWNER_SHIFT);
}

static void pins_of_a_pageblock(struct scene *s)
{
	atomic_fetch_add(&berth__pageblock(s->zone, s->pinned)->nr_pinned, 1);
}

static void pins_of_the_zone(struct scene *s)
{
	atomic_fetch_add(&s->zone->pinned_blocks, 1);
}

static void free_frames_of_a_pageblock(struct scene *s)
{
	atomic_fetch_sub(&berth__pageblock(s->zone, s->free_head)->nr_free, 1);
}

static void claimed_frames_of_a_pageblock(struct scene *s)
{
	atomic_fetch_add(&berth__pageblock(s->zone, s->claim)->nr_claimed, 1);
}

static void managed_frames_of_a_pageblock(struct scene *s)
{
	berth__pageblock(s->zone, s->free_head)->nr_managed--;
}

static void joined_frames_of_a_pageblock(struct scene *s)
{
	berth__pageblock(s->zone, s->used)->nr_joined++;
}

/* Their sum is what it should be, so that only the chunks' own check can see it. */
static void joined_frames_of_another_chunk(struct scene *s)
{
	struct berth_pageblock *pageblock = berth__pageblock(s->zone, s->used);
	unsigned chunk = (s->used & 511u) >> berth__chunk_order(s->zone);

	assert_true(berth__has_chunks(s->zone));
	pageblock->joined -= 1ull << 8 * chunk;
	pageblock->joined += 1ull << 8 * ((chunk + 1) % BERTH_CHUNKS);
}

static void pageblock_left_isolated(struct scene *s)
{
	/* One without free frames, so that no list is in the way: none is; take any. */
	berth__pageblock_set_locked(s->zone, berth__pageblock(s->zone, s->used), BERTH_ISOLATE);
}

static void free_frames_of_a_set(struct scene *s)
{
	free_set(s)->nr_free++;
}

static void nonempty_bit_lost(struct scene *s)
{
	free_set(s)->nonempty &= ~(1u << s->free_order);
}

static void nonempty_bit_stray(struct scene *s)
{
	s->zone->sets[BERTH_HIGHATOMIC].nonempty |= 1;
}

static void list_count(struct scene *s)
{
	free_list(s)->nr_blocks++;
}

static void list_cut_short(struct scene *s)
{
	struct berth_free_list *list = free_list(s);

	list->first = s->zone->pageblocks[list->first].next;
	list->nr_blocks--;
	if (list->first == BERTH_IDX_NONE)
		free_set(s)->nonempty &= ~(1u << s->free_order);
	else
		s->zone->pageblocks[list->first].prev = BERTH_IDX_NONE;
	free_set(s)->nr_free -= berth__pages(s->free_order);
}

static void list_with_a_loop(struct scene *s)
{
	struct berth_pageblock *pageblock = berth__pageblock(s->zone, s->free_head);

	pageblock->next = (uint32_t)(pageblock - s->zone->pageblocks);
}

static void list_with_a_bad_backward_link(struct scene *s)
{
	berth__pageblock(s->zone, s->free_head)->prev = s->used >> s->zone->pageblock_order;
}

static void list_with_a_used_block(struct scene *s)
{
	free_list(s)->first = s->used >> s->zone->pageblock_order;
}

static void list_beyond_the_zone(struct scene *s)
{
	free_list(s)->first = 0x7ffffff0;
}

static void list_link_beyond_the_zone(struct scene *s)
{
	s->zone->pageblocks[free_list(s)->first].next = (s->zone->end >> s->zone->pageblock_order) +
							5;
}

/* The pageblock with free blocks of its own; the scene has some. */
static struct berth_pageblock *partly_free(struct scene *s)
{
	berth_idx_t idx = 0;

	while (!berth__pageblock(s->zone, idx)->bucket) {
		idx += 512;
		assert_true(idx < s->zone->end);
	}
	return berth__pageblock(s->zone, idx);
}

static void pageblock_in_another_bucket(struct scene *s)
{
	partly_free(s)->bucket ^= 1;
}

static void pageblock_lost_from_its_bucket(struct scene *s)
{
	partly_free(s)->bucket = 0;
}

static void bucket_with_a_loop(struct scene *s)
{
	struct berth_pageblock *pageblock = partly_free(s);

	pageblock->next = (uint32_t)(pageblock - s->zone->pageblocks);
}

static void bucket_beyond_the_zone(struct scene *s)
{
	partly_free(s)->next = 0x7ffffff0;
}

static void bucket_bit_lost(struct scene *s)
{
	struct berth_pageblock *pageblock = partly_free(s);

	s->zone->sets[berth__pageblock_set(pageblock)].orders[(pageblock->bucket - 1u) / 32] = 0;
}

static void bit_of_a_pageblock_lost(struct scene *s)
{
	struct berth_pageblock *pageblock = partly_free(s);

	pageblock->nonempty &= pageblock->nonempty - 1;
}

static void bit_of_a_used_block(struct scene *s)
{
	uint32_t number = 512 | (s->single & 511);

	berth__bits(s->zone, s->single)[number / 64] |= 1ull << number % 64;
}

static void bit_of_a_free_block_lost(struct scene *s)
{
	struct berth_pageblock *pageblock = partly_free(s);
	uint64_t *bits = berth__bits(s->zone, (berth_idx_t)(pageblock - s->zone->pageblocks) * 512);

	for (unsigned i = 0; i < 16; i++)
		bits[i] = 0;
}

static void limit_of_a_list_too_large(struct scene *s)
{
	atomic_store(&berth__pcp(s->zone, 0)->high[BERTH_PCP_MOVABLE],
		     s->zone->pcp_max[BERTH_PCP_MOVABLE] + 1);
}

static void tails_that_are_not_in_return(struct scene *s)
{
	atomic_store(&berth__pcp(s->zone, 0)->return_tails, 3);
}

static void pcp_count_too_large(struct scene *s)
{
	unsigned list;

	pcp_stack(s, &list);
	atomic_store(&berth__pcp(s->zone, 0)->count[list], s->zone->pcp_max[list] + 1);
}

static void pcp_frame_lost(struct scene *s)
{
	unsigned list;

	pcp_stack(s, &list);
	atomic_fetch_sub(&berth__pcp(s->zone, 0)->count[list], 1);
}

static void pcp_with_a_used_frame(struct scene *s)
{
	unsigned list;

	*pcp_stack(s, &list) = s->single;
}

static void pcp_entry_beyond_the_zone(struct scene *s)
{
	unsigned list;

	*pcp_stack(s, &list) = 0x7ffffff0;
}

static void frames_that_nobody_counted(struct scene *s)
{
	berth__count(s->zone, BERTH_EVENT_PGFREE, 1);
}

static void managed_frames_of_the_zone(struct scene *s)
{
	s->zone->nr_managed++;
}

static void reserved_frames_of_a_pageblock(struct scene *s)
{
	berth__pageblock(s->zone, RESERVED_START)->nr_reserved--;
}

static void reserved_frames_of_the_zone(struct scene *s)
{
	s->zone->nr_reserved++;
}

static void reserved_block_that_is_movable(struct scene *s)
{
	or_tag(s, RESERVED_START, BERTH_TAG_MOVABLE);
}

static void refcount_of_a_reserved_block(struct scene *s)
{
	atomic_store(&frame(s, RESERVED_START)->refcount, 1);
}

static void claimed_frames_of_the_zone(struct scene *s)
{
	s->zone->nr_claimed++;
}

static void claimed_frames_of_an_area(struct scene *s)
{
	atomic_fetch_add(&s->area->tallies[0].claimed_pages, 1);
}

static void claim_larger_than_its_area(struct scene *s)
{
	berth__set_cookie(s->zone, s->claim, 100000);
}

static void claim_of_no_frames(struct scene *s)
{
	berth__set_cookie(s->zone, s->claim, 0);
}

static void pageblock_of_an_area_lost(struct scene *s)
{
	struct berth_pageblock *pageblock = berth__pageblock(s->zone, s->claim);

	/* Consistent in itself, but not what the area says. */
	pageblock->home_set = BERTH_MOVABLE;
	berth__pageblock_set_locked(s->zone, pageblock, BERTH_MOVABLE);
}

static void unmovable_block_in_an_area(struct scene *s)
{
	berth__set_tag(frame(s, s->claim), BERTH_TAG(BERTH_FRAME_USED, 5));
	atomic_store(&frame(s, s->claim)->refcount, 1);
}

/* ---- The bitmap, which lies outside the metadata --------------------------------------------- */

static void bit(struct scene *s, berth_idx_t idx, bool value)
{
	uint64_t n = (idx - s->area->start) >> s->area->order_per_bit;

	if (value)
		s->area->bitmap[n / 64] |= 1ull << (n & 63);
	else
		s->area->bitmap[n / 64] &= ~(1ull << (n & 63));
}

static void expect_bit_violation(struct scene *s, berth_idx_t idx, bool value)
{
	struct berth_violation v = { 0 };

	bit(s, idx, value);
	assert_false(berth_zone_check(s->zone, &v));
	assert_non_null(strstr(v.what, "cma.I1"));
	bit(s, idx, !value);
	assert_true(berth_zone_check(s->zone, &v));
}

static void bits_without_claims_and_claims_without_bits(void **state)
{
	struct scene s;

	(void)state;
	scene_open(&s);
	expect_bit_violation(&s, s.claim, false);
	expect_bit_violation(&s, s.claim + 39, false);
	expect_bit_violation(&s, s.claim + 20, false);
	expect_bit_violation(&s, s.claim + 40, true);
	expect_bit_violation(&s, s.area->end - 1, true);
	scene_close(&s);
}

/* ---- All of them ----------------------------------------------------------------------------- */

struct corruption {
	const char *name;
	void (*corrupt)(struct scene *s);
	const char *what; /* part of the violation's text; NULL: several would be right */
};

#define C(fn, what)           \
	{                     \
#fn, fn, what \
	}
static const struct corruption corruptions[] = {
	C(order_too_large, "max_order"),
	C(order_not_aligned, "aligned"),
	C(tag_inside_a_block, "tail"),
	C(unknown_kind, "kind"),
	C(frame_lost, "nr_managed"),
	C(refcount_of_a_free_block, "refcount of a free"),
	C(refcount_of_a_cached_frame, "refcount of a cached"),
	C(refcount_of_a_used_block, "refcount of a used"),
	C(used_block_left_frozen, "refcount of a used"),
	C(refcount_of_a_claim, "refcount of a claimed"),
	C(orphan_with_its_owners_reference, "refcount of a used"),
	C(destination_left_behind, NULL),
	C(claim_left_incomplete, "isolate.I2"),
	C(owner_that_does_not_exist, "owner"),
	C(pins_of_a_pageblock, "nr_pinned"),
	C(pins_of_the_zone, "pinned"),
	C(free_frames_of_a_pageblock, "nr_free"),
	C(claimed_frames_of_a_pageblock, "nr_claimed"),
	C(managed_frames_of_a_pageblock, "nr_managed"),
	C(joined_frames_of_a_pageblock, "nr_joined"),
	C(joined_frames_of_another_chunk, "joined of chunks"),
	C(pageblock_left_isolated, "isolate.I1"),
	C(free_frames_of_a_set, "nr_free of set"),
	C(nonempty_bit_lost, "nonempty"),
	C(nonempty_bit_stray, "nonempty"),
	C(pageblock_in_another_bucket, "bucket"),
	C(pageblock_lost_from_its_bucket, "bucket"),
	C(bucket_with_a_loop, "buckets"),
	C(bucket_beyond_the_zone, "bucket"),
	C(bucket_bit_lost, "bucket"),
	C(bit_of_a_pageblock_lost, NULL),
	C(bit_of_a_used_block, "buddy.I1"),
	C(bit_of_a_free_block_lost, "buddy.I1"),
	C(limit_of_a_list_too_large, "pcp_limits.I1"),
	C(tails_that_are_not_in_return, "pcp.I1"),
	C(list_count, "count"),
	C(list_cut_short, "in no list"),
	C(list_with_a_loop, NULL),
	C(list_with_a_bad_backward_link, "backward"),
	C(list_with_a_used_block, "tag in the list"),
	C(list_beyond_the_zone, "buddy.I1"),
	C(list_link_beyond_the_zone, "buddy.I1"),
	C(pcp_count_too_large, "pcp.I1"),
	C(pcp_frame_lost, "pcp.I1"),
	C(pcp_with_a_used_frame, "pcp.I1"),
	C(pcp_entry_beyond_the_zone, "pcp.I1"),
	C(frames_that_nobody_counted, "stats.I1"),
	C(managed_frames_of_the_zone, "zone.I1"),
	C(reserved_frames_of_a_pageblock, "nr_reserved"),
	C(reserved_frames_of_the_zone, "nr_reserved of the zone"),
	C(reserved_block_that_is_movable, "hand_over.I1"),
	C(refcount_of_a_reserved_block, "refcount of a reserved"),
	C(claimed_frames_of_the_zone, "nr_claimed"),
	C(claimed_frames_of_an_area, "claimed_pages"),
	C(claim_larger_than_its_area, NULL),
	C(claim_of_no_frames, NULL),
	C(pageblock_of_an_area_lost, NULL),
	C(unmovable_block_in_an_area, NULL),
};

static void one_corruption_is_found(const struct corruption *c)
{
	struct berth_violation v = { 0 };
	struct scene s;
	size_t bytes;
	void *good, *bad;

	scene_open(&s);
	bytes = s.tz->metadata_bytes;
	good = test_zalloc(1, bytes);
	bad = test_zalloc(1, bytes);
	memcpy(good, s.tz->metadata, bytes);
	c->corrupt(&s);
	memcpy(bad, s.tz->metadata, bytes);
	if (berth_zone_check(s.zone, &v))
		fail_msg("%s wasn't found", c->name);
	if (!v.what || (c->what && !strstr(v.what, c->what)))
		fail_msg("%s was called '%s'", c->name, v.what ? v.what : "(null)");
	assert_false(berth_zone_check(s.zone, NULL));
	assert_memory_equal(s.tz->metadata, bad, bytes);
	memcpy(s.tz->metadata, good, bytes);
	free(good);
	free(bad);
	scene_close(&s);
}

static void every_corruption_is_found(void **state)
{
	const struct corruption *c = *state;

	one_corruption_is_found(c);
}

static void a_healthy_zone_passes(void **state)
{
	struct berth_violation v = { .what = "untouched" };
	struct scene s;
	void *before;

	(void)state;
	scene_open(&s);
	before = test_zalloc(1, s.tz->metadata_bytes);
	memcpy(before, s.tz->metadata, s.tz->metadata_bytes);
	assert_true(berth_zone_check(s.zone, &v));
	assert_true(berth_zone_check(s.zone, NULL));
	assert_memory_equal(s.tz->metadata, before, s.tz->metadata_bytes);
	free(before);
	scene_close(&s);
}

/* ---- Panics ---------------------------------------------------------------------------------- */

static void a_broken_free_count_panics(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 1024);
	berth_pfn_t pfn;

	(void)state;
	atomic_store(&berth__pageblock(tz->zone, 0)->nr_free, 0);
	atomic_store(&berth__pageblock(tz->zone, 512)->nr_free, 0);
	assert_panics(&tz->port, (void)!berth_alloc_pages(tz->zone, 0, BERTH_GFP_UNMOVABLE,
							  BERTH_OWNER_NONE, 0, &pfn));
	zone_abandon(tz);
}

/* A block that is merged away must be what its pageblock's bit says. */
static void a_broken_list_panics(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4096);

	(void)state;
	assert_int_equal(zone_exhaust(tz), 4096);
	zone_free(tz, 0);
	zone_free(tz, 2);
	zone_free(tz, 4);
	berth__set_tag(&tz->zone->frames[2], BERTH_TAG(BERTH_FRAME_FREE, 1));
	assert_panics(&tz->port, (void)!berth_free_pages(tz->zone, 3));
	assert_non_null(strstr(tz->port.what, "buddy.c"));
	zone_abandon(tz);
}

/* An owner that says "moved" without having frozen the block has lost writes. */
static void lie(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	(void)ctx;
	for (unsigned i = 0; i < nr_moves; i++)
		moves[i].result = BERTH_MOVE_MOVED;
}

static void a_moved_block_that_is_not_frozen_panics(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4096);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page = owner_alloc(o, 0);

	(void)state;
	o->ops.migrate = lie;
	assert_panics(&tz->port, (void)contig_claim(tz, o->table[page], 1, 0, NULL));
	assert_int_equal(tz->port.value, o->table[page]);
	o->next_page = 0; /* nothing can be verified any more */
	owner_close(o);
	zone_abandon(tz);
}

int main(void)
{
	struct CMUnitTest tests[ARRAY_SIZE(corruptions) + 5] = {
		cmocka_unit_test(a_healthy_zone_passes),
		cmocka_unit_test(bits_without_claims_and_claims_without_bits),
		cmocka_unit_test(a_broken_free_count_panics),
		cmocka_unit_test(a_broken_list_panics),
		cmocka_unit_test(a_moved_block_that_is_not_frozen_panics),
	};

	for (size_t i = 0; i < ARRAY_SIZE(corruptions); i++)
		tests[5 + i] = (struct CMUnitTest){
			.name = corruptions[i].name,
			.test_func = every_corruption_is_found,
			.initial_state = (void *)(uintptr_t)&corruptions[i],
		};
	return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
