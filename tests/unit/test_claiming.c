/* SPDX-License-Identifier: MIT */
/*
 * Claims other than one at a time: many buffers in one call, claims prepared ahead of the need, claims
 * that share a pageblock, modes of waiting, and what a refusal teaches the next claim.
 */
#include "tests/include/testowner.h"

#define ZONE_PAGES 8192u
#define AREA 2048u /* first frame of the area, which has four pageblocks */
#define AREA_PAGES 2048u
#define PAGEBLOCK 512u

static struct test_zone *zone_with_area(struct berth_cma **area, unsigned order_per_bit)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);

	*area = area_declare(tz, "area", AREA, AREA_PAGES, order_per_bit, BERTH_LEND_FIRST);
	return tz;
}

/* Blocks of one frame in the whole area. */
static struct test_owner *borrow_all(struct test_zone *tz)
{
	struct test_owner *o = owner_open(tz, "borrower");

	for (unsigned i = 0; i < AREA_PAGES; i++)
		owner_alloc(o, 0);
	assert_int_equal(count_state(tz, AREA, AREA + AREA_PAGES, 'u'), AREA_PAGES);
	return o;
}

static int claim_bulk(struct berth_cma *area, uint64_t nr_pages, unsigned align_order, unsigned nr,
		      berth_pfn_t *pfns, unsigned flags, struct berth_claim_report *r)
{
	struct berth_claim_params params = { .nr_pages = nr_pages, .align_order = align_order };

	return berth_cma_alloc_bulk(area, &params, nr, pfns, flags, r);
}

/* ---- Bulk ----------------------------------------------------------------------------------------- */

/* 60 buffers of 16 frames out of an empty area: one range, cut up. */
static void a_bulk_claim_is_many_claims(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_picture *before = picture_take(tz);
	struct berth_claim_report r;
	berth_pfn_t pfns[60];

	(void)state;
	assert_int_equal(claim_bulk(area, 16, 4, 60, pfns, 0, &r), 60);
	zone_ok(tz);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.nr_pages, 60 * 16);
	assert_int_equal(r.tries, 1);
	assert_int_equal(area_stats(area).claimed_pages, 60 * 16);
	assert_int_equal(area_stats(area).claims_ok, 60);
	for (unsigned i = 0; i < 60; i++) {
		assert_int_equal(pfns[i] % 16, 0);
		assert_int_equal(count_state(tz, pfns[i], pfns[i] + 16, 'c'), 16);
	}
	/* Each by itself, in any order, and only as it was claimed. */
	assert_int_equal(berth_cma_release(area, pfns[0], 32), -BERTH_EINVAL);
	for (unsigned i = 0; i < 60; i += 2)
		area_release(tz, area, pfns[i], 16);
	for (unsigned i = 1; i < 60; i += 2)
		area_release(tz, area, pfns[i], 16);
	berth_pcp_drain_all(tz->zone);
	picture_unchanged(tz, before, __FILE__, __LINE__);
	zone_close(tz);
}

/* Buffers of 3 frames, each at a multiple of 8: the 5 frames in between stay free. */
static void what_the_stride_leaves_over_is_free(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 2);
	struct test_picture *before = picture_take(tz);
	const uint64_t *bitmap = berth_cma_bitmap(area);
	berth_pfn_t pfns[100];
	uint64_t bits = 0;

	(void)state;
	assert_int_equal(claim_bulk(area, 3, 3, 100, pfns, 0, NULL), 100);
	zone_ok(tz);
	assert_int_equal(count_state(tz, AREA, AREA + AREA_PAGES, 'c'), 300);
	for (unsigned i = 0; i < AREA_PAGES / 4 / 64; i++)
		bits += (uint64_t)__builtin_popcountll(bitmap[i]);
	assert_int_equal(bits, 100); /* one for each, of 4 frames */
	assert_int_equal(berth_cma_release_bulk(area, pfns, 100, 3), 0);
	picture_unchanged(tz, before, __FILE__, __LINE__);
	zone_close(tz);
}

static void a_bulk_claim_moves_borrowers_once(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = borrow_all(tz);
	struct berth_claim_report r;
	berth_pfn_t pfns[64];

	(void)state;
	assert_int_equal(claim_bulk(area, 16, 0, 64, pfns, 0, &r), 64);
	zone_ok(tz);
	owner_verify(o);
	assert_int_equal(r.moved_pages, 64 * 16);
	assert_int_equal(r.tries, 1);
	assert_int_equal(berth_cma_release_bulk(area, pfns, 64, 16), 0);
	owner_close(o);
	zone_close(tz);
}

/* Two of the four pageblocks are claimed, so there is no range for all; smaller ones do. */
static void a_bulk_claim_uses_ranges_apart(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	berth_pfn_t pfns[64], all = area_claim(tz, area, AREA_PAGES, 0);
	struct berth_claim_report r;

	(void)state;
	area_release(tz, area, all, AREA_PAGES);
	for (unsigned i = 0; i < 4; i++)
		pfns[i] = area_claim(tz, area, PAGEBLOCK, 9);
	area_release(tz, area, pfns[0], PAGEBLOCK);
	area_release(tz, area, pfns[2], PAGEBLOCK);
	all = pfns[1];
	assert_int_equal(claim_bulk(area, 16, 0, 64, pfns, 0, &r), 64);
	zone_ok(tz);
	assert_int_equal(area_stats(area).free_pages, 0);
	/* One more is too many: nothing is claimed, or what there is. */
	assert_int_equal(berth_cma_release_bulk(area, pfns, 8, 16), 0);
	assert_int_equal(claim_bulk(area, 16, 0, 9, pfns, 0, &r), -BERTH_ENOSPC);
	assert_int_equal(r.error, -BERTH_ENOSPC);
	assert_int_equal(r.reason, BERTH_CLAIM_NO_RUN);
	assert_int_equal(r.largest_free_pages, 8 * 16);
	assert_int_equal(area_stats(area).free_pages, 8 * 16);
	assert_int_equal(claim_bulk(area, 16, 0, 9, pfns, BERTH_BULK_AS_MANY_AS_POSSIBLE, &r), 8);
	assert_int_equal(r.error, -BERTH_ENOSPC);
	assert_int_equal(area_stats(area).free_pages, 0);
	zone_ok(tz);
	zone_abandon(tz);
}

/* One that isn't a claim, or is there twice: then none is released. */
static void a_bulk_release_is_all_or_nothing(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	berth_pfn_t pfns[4], wrong[4];

	(void)state;
	assert_int_equal(claim_bulk(area, 5, 0, 4, pfns, 0, NULL), 4);
	memcpy(wrong, pfns, sizeof(pfns));
	wrong[3] = pfns[1];
	assert_int_equal(berth_cma_release_bulk(area, wrong, 4, 5), -BERTH_EINVAL);
	wrong[3] = pfns[3] + 1;
	assert_int_equal(berth_cma_release_bulk(area, wrong, 4, 5), -BERTH_EINVAL);
	assert_int_equal(berth_cma_release_bulk(area, pfns, 4, 4), -BERTH_EINVAL);
	assert_int_equal(area_stats(area).claimed_pages, 20);
	zone_ok(tz);
	assert_int_equal(berth_cma_release_bulk(area, pfns, 4, 5), 0);
	assert_int_equal(berth_cma_release_bulk(area, pfns, 4, 5), -BERTH_EINVAL);
	zone_close(tz);
}

static void bad_bulk_claims_are_refused(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_picture *before = picture_take(tz);
	berth_pfn_t pfns[2];

	(void)state;
	assert_int_equal(claim_bulk(area, 0, 0, 2, pfns, 0, NULL), -BERTH_EINVAL);
	assert_int_equal(claim_bulk(area, 1, 0, 0, pfns, 0, NULL), -BERTH_EINVAL);
	assert_int_equal(claim_bulk(area, 1, 0, 2, NULL, 0, NULL), -BERTH_EINVAL);
	assert_int_equal(claim_bulk(area, 1, 11, 2, pfns, 0, NULL), -BERTH_EINVAL);
	assert_int_equal(claim_bulk(area, 1, 0, 2, pfns, 2, NULL), -BERTH_EINVAL);
	assert_int_equal(claim_bulk(area, AREA_PAGES + 1, 0, 2, pfns, 0, NULL), -BERTH_E2BIG);
	assert_int_equal(claim_bulk(area, AREA_PAGES, 0, 2, pfns, 0, NULL), -BERTH_ENOSPC);
	picture_unchanged(tz, before, __FILE__, __LINE__);
	zone_close(tz);
}

/* ---- Prepared ------------------------------------------------------------------------------------- */

static struct berth_cma_prepared *prepare(struct berth_cma *area, uint64_t nr_pages, void **memory)
{
	struct berth_claim_params params = { .nr_pages = nr_pages };
	struct berth_cma_prepared *prepared;

	assert_int_equal(posix_memalign(memory, 16, berth_cma_prepared_bytes()), 0);
	assert_int_equal(berth_cma_prepare(area, &params, *memory, &prepared), 0);
	assert_int_equal(berth_cma_prepare_poll(prepared), BERTH_PREPARE_PENDING);
	return prepared;
}

/* Batch by batch; once it is ready, taking it is nothing but being told where it is. */
static void a_claim_is_prepared_in_steps(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = borrow_all(tz);
	struct berth_cma_prepared *prepared;
	struct berth_claim_report r;
	unsigned steps = 1;
	berth_pfn_t pfn;
	uint64_t batches;
	void *memory;

	(void)state;
	prepared = prepare(area, PAGEBLOCK, &memory);
	assert_int_equal(berth_cma_prepare_take(prepared, &pfn, &r), -BERTH_EAGAIN);
	assert_int_equal(area_stats(area).claimed_pages, 0); /* nobody has made a step */
	while (berth_cma_prepare_step(prepared, 0, NULL) > 0)
		steps++;
	assert_true(steps >= PAGEBLOCK / 64);
	assert_int_equal(berth_cma_prepare_poll(prepared), BERTH_PREPARE_READY);
	batches = o->nr_batches;
	assert_int_equal(berth_cma_prepare_take(prepared, &pfn, &r), 0);
	assert_int_equal(o->nr_batches, batches);
	assert_int_equal(r.moved_pages, PAGEBLOCK);
	assert_int_equal(count_state(tz, pfn, pfn + PAGEBLOCK, 'c'), PAGEBLOCK);
	/* It is a claim like any other now. */
	assert_int_equal(berth_cma_prepare_take(prepared, &pfn, &r), -BERTH_EINVAL);
	assert_int_equal(berth_cma_prepare_cancel(prepared), -BERTH_EINVAL);
	area_release(tz, area, pfn, PAGEBLOCK);
	free(memory);
	owner_close(o);
	zone_close(tz);
}

/* Half-way, what is free in its range is lent to nobody; nor is what is ready. */
static void what_is_being_prepared_is_not_lent(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = borrow_all(tz), *other = owner_open(tz, "other");
	struct berth_cma_prepared *prepared;
	uint64_t taken = 0;
	void *memory;

	(void)state;
	prepared = prepare(area, AREA_PAGES, &memory);
	while (!taken) {
		assert_int_equal(berth_cma_prepare_step(prepared, 64, NULL), 1);
		taken = count_state(tz, AREA, AREA + AREA_PAGES, 'c');
	}
	(void)owner_exhaust(other, 0, BERTH_GFP_MOVABLE);
	for (berth_pfn_t pfn = AREA; pfn < AREA + AREA_PAGES; pfn++)
		assert_int_not_equal(test_frame(tz, pfn)->owner, other->id);
	owner_free_all(other, 0, ZONE_PAGES);
	assert_int_equal(berth_cma_prepare_wait(prepared, 0), 0);
	(void)owner_exhaust(other, 0, BERTH_GFP_MOVABLE);
	assert_int_equal(count_state(tz, AREA, AREA + AREA_PAGES, 'c'), AREA_PAGES);
	assert_int_equal(berth_cma_prepare_cancel(prepared), 0);
	zone_ok(tz);
	assert_int_equal(area_stats(area).free_pages, AREA_PAGES);
	free(memory);
	owner_close(other);
	owner_close(o);
	zone_close(tz);
}

/* Nothing is left isolated or claimed, whenever it is cancelled. */
static void a_preparation_can_be_cancelled_at_any_time(void **state)
{
	(void)state;
	for (unsigned steps = 0; steps < 14; steps++) {
		struct berth_cma *area;
		struct test_zone *tz = zone_with_area(&area, 0);
		struct test_owner *o = borrow_all(tz);
		struct berth_cma_prepared *prepared;
		berth_pfn_t pfn;
		void *memory;

		prepared = prepare(area, PAGEBLOCK + 100, &memory);
		for (unsigned i = 0; i < steps; i++)
			(void)berth_cma_prepare_step(prepared, 0, NULL);
		assert_int_equal(berth_cma_prepare_cancel(prepared), 0);
		zone_ok(tz);
		owner_verify(o);
		assert_int_equal(area_stats(area).claimed_pages, 0);
		assert_int_equal(count_state(tz, AREA, AREA + AREA_PAGES, 'c'), 0);
		assert_int_equal(berth_cma_prepare_poll(prepared), BERTH_PREPARE_CANCELLED);
		assert_int_equal(berth_cma_prepare_take(prepared, &pfn, NULL), -BERTH_EINVAL);
		assert_int_equal(berth_cma_prepare_step(prepared, 0, NULL), 0);
		free(memory);
		owner_close(o);
		zone_close(tz);
	}
}

static void a_preparation_that_fails_says_why(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = borrow_all(tz);
	struct berth_cma_prepared *prepared;
	struct berth_claim_report r;
	berth_pfn_t pfn;
	void *memory;

	(void)state;
	for (berth_pfn_t at = AREA; at < AREA + AREA_PAGES; at += PAGEBLOCK)
		assert_int_equal(berth_page_pin(tz->zone, at), 0);
	prepared = prepare(area, AREA_PAGES, &memory);
	assert_int_equal(berth_cma_prepare_wait(prepared, 0), -BERTH_EBUSY);
	assert_int_equal(berth_cma_prepare_poll(prepared), BERTH_PREPARE_FAILED);
	assert_int_equal(berth_cma_prepare_take(prepared, &pfn, &r), -BERTH_EBUSY);
	assert_int_equal(r.error, -BERTH_EBUSY);
	assert_int_equal(r.reason, BERTH_CLAIM_PINNED);
	assert_int_equal(r.moved_pages, 0);
	assert_int_equal(berth_cma_prepare_cancel(prepared), 0);
	for (berth_pfn_t at = AREA; at < AREA + AREA_PAGES; at += PAGEBLOCK)
		assert_int_equal(berth_page_unpin(tz->zone, at), 0);
	zone_ok(tz);
	free(memory);
	owner_close(o);
	zone_close(tz);
}

/* ---- At the same time ------------------------------------------------------------------------------ */

/* Two preparations, step by step in turn, share the pageblock in the middle. Whoever ends first leaves it
 * fenced off for the other. */
static void two_claims_share_a_pageblock(void **state)
{
	(void)state;
	for (unsigned way = 0; way < 4; way++) {
		struct berth_cma *area;
		struct test_zone *tz = zone_with_area(&area, 0);
		struct test_owner *o = borrow_all(tz);
		struct berth_cma_prepared *a, *b;
		const uint64_t nr_pages = AREA_PAGES / 2 - 200; /* not whole pageblocks */
		berth_pfn_t pfn_a, pfn_b;
		void *memory_a, *memory_b;

		a = prepare(area, nr_pages, &memory_a);
		b = prepare(area, nr_pages, &memory_b);
		for (unsigned i = 0; i < 6; i++) {
			assert_int_equal(berth_cma_prepare_step(a, 0, NULL), 1);
			assert_int_equal(berth_cma_prepare_step(b, 0, NULL), 1);
		}
		if (way & 1)
			assert_int_equal(berth_cma_prepare_cancel(a), 0);
		else
			assert_int_equal(berth_cma_prepare_wait(a, 0), 0);
		if (way & 2)
			assert_int_equal(berth_cma_prepare_cancel(b), 0);
		else
			assert_int_equal(berth_cma_prepare_wait(b, 0), 0);
		zone_ok(tz);
		owner_verify(o);
		assert_int_equal(area_stats(area).claimed_pages,
				 ((way & 1 ? 0 : 1) + (way & 2 ? 0 : 1)) * nr_pages);
		if (!(way & 1)) {
			assert_int_equal(berth_cma_prepare_take(a, &pfn_a, NULL), 0);
			area_release(tz, area, pfn_a, nr_pages);
		}
		if (!(way & 2)) {
			assert_int_equal(berth_cma_prepare_take(b, &pfn_b, NULL), 0);
			area_release(tz, area, pfn_b, nr_pages);
		}
		free(memory_a);
		free(memory_b);
		owner_close(o);
		zone_close(tz);
	}
}

/* What becomes free in a range that is being emptied is that claim's, even for who asks for just that. */
static void a_range_in_progress_is_nobody_elses(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = borrow_all(tz);
	struct berth_cma_prepared *prepared;
	struct berth_claim_report r;
	void *memory;

	(void)state;
	prepared = prepare(area, AREA_PAGES, &memory);
	assert_int_equal(berth_cma_prepare_step(prepared, 0, NULL), 1);
	owner_free(o, owner_page_at(o, AREA + 1500));
	assert_int_equal(frame_state(tz, AREA + 1500), 'f');
	assert_int_equal(contig_claim(tz, AREA + 1500, 1, 0, &r), -BERTH_EBUSY);
	assert_int_equal(r.reason, BERTH_CLAIM_OTHER_CLAIM);
	assert_int_equal(berth_cma_prepare_wait(prepared, 0), 0);
	assert_int_equal(berth_cma_prepare_cancel(prepared), 0);
	zone_ok(tz);
	free(memory);
	owner_close(o);
	zone_close(tz);
}

/* A release needs nothing that a claim in progress holds. */
static void a_release_does_not_wait_for_a_claim(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	berth_pfn_t pfn = area_claim(tz, area, 40, 0);
	struct berth_cma_prepared *prepared;
	struct test_owner *o = owner_open(tz, "borrower");
	void *memory;

	(void)state;
	for (unsigned i = 0; i < AREA_PAGES - 40; i++)
		owner_alloc(o, 0);
	prepared = prepare(area, PAGEBLOCK + 300, &memory);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(berth_cma_prepare_step(prepared, 0, NULL), 1);
	assert_int_equal(berth_cma_release(area, pfn, 40), 0);
	assert_int_equal(berth_cma_prepare_wait(prepared, 0), 0);
	assert_int_equal(berth_cma_prepare_cancel(prepared), 0);
	zone_ok(tz);
	free(memory);
	owner_close(o);
	zone_close(tz);
}

/* ---- Modes, and what a refusal teaches ------------------------------------------------------------- */

static int claim_mode(struct berth_cma *area, uint64_t nr_pages, unsigned flags,
		      struct berth_claim_report *r, berth_pfn_t *pfn)
{
	struct berth_claim_params params = { .nr_pages = nr_pages, .flags = flags };

	return berth_cma_alloc(area, &params, pfn, r);
}

/* A frozen block is being moved by somebody. ASYNC doesn't wait for it, and so moves nothing. */
static void modes_say_how_long_blocks_in_flight_are_waited_for(void **state)
{
	static const struct {
		unsigned flags;
		uint64_t least_ns, most_ns;
	} modes[] = { { BERTH_CLAIM_ASYNC, 0, 20000 },
		      { BERTH_CLAIM_SYNC_LIGHT, 40000, 400000 },
		      { BERTH_CLAIM_NORETRY, 1000000, 100000000 } };
	struct berth_claim_report r;
	berth_pfn_t pfn;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct berth_cma *area;
		struct test_zone *tz = zone_with_area(&area, 0);
		struct test_owner *o = borrow_all(tz);
		uint64_t waited;

		assert_true(berth_page_freeze(tz->zone, AREA + 700));
		assert_int_equal(claim_mode(area, AREA_PAGES, modes[i].flags, &r, &pfn),
				 -BERTH_EBUSY);
		assert_int_equal(r.reason, BERTH_CLAIM_IN_FLIGHT);
		assert_int_equal(r.blocker_pfn, AREA + 700);
		if (modes[i].flags == BERTH_CLAIM_ASYNC)
			assert_int_equal(r.moved_pages, 0);
		waited = r.phase_ns[BERTH_PHASE_MIGRATE];
		assert_in_range(waited, modes[i].least_ns, modes[i].most_ns);
		berth_page_unfreeze(tz->zone, AREA + 700);
		zone_ok(tz);
		owner_close(o);
		zone_close(tz);
	}
}

/* A block that sticks out of the range isn't in flight: it is cut, and its part moves. */
static void async_claims_cut_blocks_at_their_edges(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "borrower");
	struct berth_claim_params params = { .flags = BERTH_CLAIM_ASYNC };
	berth_pfn_t pfn = o->table[owner_alloc(o, 6)];
	struct berth_claim_report r;

	(void)state;
	assert_int_equal(berth_alloc_contig_range(tz->zone, pfn + 10, 20, &params, &r), 0);
	assert_int_equal(r.moved_pages, 20);
	zone_ok(tz);
	assert_int_equal(berth_free_contig_range(tz->zone, pfn + 10, 20), 0);
	owner_close(o);
	zone_close(tz);
}

/* An owner refuses to move a page, which nobody could know: the next claim begins elsewhere. */
static void the_next_claim_avoids_what_was_busy(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = borrow_all(tz);
	struct berth_claim_report r;
	berth_pfn_t first, second;

	(void)state;
	owner_script(o, owner_page_at(o, AREA + 10), 1, TEST_BUSY);
	assert_int_equal(claim_mode(area, PAGEBLOCK, 0, &r, &first), 0);
	assert_int_equal(r.tries, 2);
	assert_true(first >= AREA + PAGEBLOCK);
	assert_int_equal(claim_mode(area, PAGEBLOCK, 0, &r, &second), 0);
	assert_int_equal(r.tries, 1);
	assert_true(second >= AREA + PAGEBLOCK);
	/* If there is nothing else, it is tried all the same. */
	assert_int_equal(claim_mode(area, PAGEBLOCK, 0, &r, &second), 0);
	owner_script(o, owner_page_at(o, AREA + 10), 1, TEST_MOVES);
	assert_int_equal(claim_mode(area, PAGEBLOCK, 0, &r, &second), 0);
	assert_int_equal(second, AREA);
	zone_ok(tz);
	for (berth_pfn_t pfn = AREA; pfn < AREA + AREA_PAGES; pfn += PAGEBLOCK)
		area_release(tz, area, pfn, PAGEBLOCK);
	owner_close(o);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bulk_claim_is_many_claims),
		cmocka_unit_test(what_the_stride_leaves_over_is_free),
		cmocka_unit_test(a_bulk_claim_moves_borrowers_once),
		cmocka_unit_test(a_bulk_claim_uses_ranges_apart),
		cmocka_unit_test(a_bulk_release_is_all_or_nothing),
		cmocka_unit_test(bad_bulk_claims_are_refused),
		cmocka_unit_test(a_claim_is_prepared_in_steps),
		cmocka_unit_test(what_is_being_prepared_is_not_lent),
		cmocka_unit_test(a_preparation_can_be_cancelled_at_any_time),
		cmocka_unit_test(a_preparation_that_fails_says_why),
		cmocka_unit_test(two_claims_share_a_pageblock),
		cmocka_unit_test(a_range_in_progress_is_nobody_elses),
		cmocka_unit_test(a_release_does_not_wait_for_a_claim),
		cmocka_unit_test(modes_say_how_long_blocks_in_flight_are_waited_for),
		cmocka_unit_test(async_claims_cut_blocks_at_their_edges),
		cmocka_unit_test(the_next_claim_avoids_what_was_busy),
	};

	return cmocka_run_group_tests_name("claims", tests, NULL, NULL);
}
