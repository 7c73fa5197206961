/* SPDX-License-Identifier: MIT */
/*
 * vm/ over a fake machine: mapping, unmapping, pins, fork, and moves under writers that show up at any
 * moment; every operation of the machine fails once at every call it gets; random operations against
 * a naive model.
 *
 *	BERTH_SPACE_SEED=n    runs only this seed of the random test
 */
#include "tests/include/testspace.h"
#include "vm/internal.h"

#define AREA_PAGES (RIG_FRAMES / 2)
#define HUGE_PAGES (1u << BERTH_HUGE_ORDER)

/* ---- Opening ---------------------------------------------------------------------------------- */

static void bad_parameters_are_refused(void **state)
{
	struct rig *rig = rig_open();
	struct berth_space_params good = rig->params, bad;
	struct berth_space *space = NULL;
	void *memory = NULL;

	(void)state;
	assert_int_equal(posix_memalign(&memory, 64, berth_space_size() + 64), 0);
#define REFUSED(field, value)                                                            \
	do {                                                                             \
		bad = good;                                                              \
		bad.field = value;                                                       \
		assert_int_equal(berth_space_init(&space, &bad, memory), -BERTH_EINVAL); \
		assert_null(space);                                                      \
	} while (0)
	REFUSED(name, NULL);
	REFUSED(zone, NULL);
	REFUSED(nr_pages, 0);
	REFUSED(nr_pages, (1ull << 32) - 1);
	REFUSED(nr_pages, UINT64_MAX);
	REFUSED(mmu, NULL);
	REFUSED(port, NULL);
	REFUSED(table, NULL);
	assert_int_equal(berth_space_init(NULL, &good, memory), -BERTH_EINVAL);
	assert_int_equal(berth_space_init(&space, NULL, memory), -BERTH_EINVAL);
	assert_int_equal(berth_space_init(&space, &good, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_space_init(&space, &good, (char *)memory + 8), -BERTH_EINVAL);
	for (unsigned i = 1; i < 8; i++) /* the rig's own is the first */
		assert_int_equal(berth_space_init(&space, &good, memory), 0);
	assert_int_equal(berth_space_init(&space, &good, memory), -BERTH_ENOSPC);
	free(memory);
	rig_close(rig);
}

/* ---- Mapping and unmapping ---------------------------------------------------------------------- */

static void mapped_memory_is_zeroed_and_its_own(void **state)
{
	struct rig *rig = rig_open();

	(void)state;
	for (unsigned order = 0; order <= BERTH_HUGE_ORDER; order++) {
		assert_int_equal(berth_space_map(rig->space, 600, 513, order, 0), 0);
		rig_ok(rig); /* all zero, though no frame was */
		for (uint64_t page = 600; page < 1113; page++)
			rig_write(rig, page);
		rig_ok(rig);
		assert_int_equal(rig_stats(rig).mapped_pages, 513);
		assert_int_equal(berth_space_unmap(rig->space, 600, 513), 0);
		rig_ok(rig);
	}
	assert_int_equal(zone_free_pages(rig->tz), RIG_FRAMES);
	rig_close(rig);
}

static void bad_ranges_are_refused(void **state)
{
	struct rig *rig = rig_open();
	uint64_t nr = rig->params.nr_pages, pin = 77;
	struct {
		uint64_t page, nr_pages;
	} bad[] = { { 0, 0 },          { nr, 1 },         { 0, nr + 1 },     { 1, nr },
		    { 5, UINT64_MAX }, { UINT64_MAX, 1 }, { UINT64_MAX, 2 }, { nr - 1, 2 } };

	(void)state;
	rig_map_and_write(rig, 0, 8, 3, 0);
	rig_forget_calls(rig);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t page = bad[i].page, nr_pages = bad[i].nr_pages;

		assert_int_equal(berth_space_map(rig->space, page, nr_pages, 0, 0), -BERTH_EINVAL);
		assert_int_equal(berth_space_unmap(rig->space, page, nr_pages), -BERTH_EINVAL);
		assert_int_equal(berth_space_make_private(rig->space, page, nr_pages),
				 -BERTH_EINVAL);
		assert_int_equal(berth_space_pin(rig->space, page, nr_pages, "x", false, &pin),
				 -BERTH_EINVAL);
		assert_false(berth_space_is_mapped(rig->space, page, nr_pages));
		assert_false(berth_space_is_unmapped(rig->space, page, nr_pages));
	}
	assert_int_equal(berth_space_map(rig->space, 100, 1, BERTH_MAX_ORDER_LIMIT + 1, 0),
			 -BERTH_EINVAL);
	assert_int_equal(berth_space_lookup(rig->space, nr), BERTH_PFN_NONE);
	assert_int_equal(berth_space_lookup(rig->space, UINT64_MAX), BERTH_PFN_NONE);
	assert_int_equal(pin, 77);
	for (unsigned op = 0; op < RIG_NR_OPS; op++)
		assert_int_equal(rig->calls[op], 0);
	rig_ok(rig);
	/* The last page is a page like the others. */
	rig_map_and_write(rig, nr - 1, 1, 0, 0);
	rig_close(rig);
}

static void what_is_mapped_stays(void **state)
{
	struct rig *rig = rig_open();

	(void)state;
	rig_map_and_write(rig, 10, 10, 9, 0);
	rig_forget_calls(rig);
	assert_int_equal(berth_space_map(rig->space, 0, 11, 9, 0), -BERTH_EEXIST);
	assert_int_equal(berth_space_map(rig->space, 19, 5, 9, 0), -BERTH_EEXIST);
	assert_int_equal(berth_space_map(rig->space, 0, 100, 9, BERTH_MAP_PRIVATE_OK),
			 -BERTH_EEXIST);
	assert_int_equal(rig->calls[RIG_MAP] + rig->calls[RIG_ZERO], 0);
	assert_true(berth_space_is_mapped(rig->space, 10, 10));
	assert_false(berth_space_is_mapped(rig->space, 9, 2));
	assert_true(berth_space_is_unmapped(rig->space, 0, 10));
	assert_false(berth_space_is_unmapped(rig->space, 0, 11));
	rig_close(rig);
}

static void memory_grows_into_gaps(void **state)
{
	struct rig *rig = rig_open();

	(void)state;
	rig_map_and_write(rig, 512, 100, 9, 0);
	rig_map_and_write(rig, 712, 100, 9, 0);
	rig_map_and_write(rig, 612, 60, 9, 0);
	assert_int_equal(berth_space_map(rig->space, 672, 41, 9, 0), -BERTH_EEXIST);
	rig_map_and_write(rig, 672, 40, 9, 0);
	assert_true(berth_space_is_mapped(rig->space, 512, 300));
	/* A hole in the middle of blocks, filled again. */
	assert_int_equal(berth_space_unmap(rig->space, 600, 150), 0);
	rig_ok(rig);
	rig_map_and_write(rig, 600, 150, 9, 0);
	assert_int_equal(rig_stats(rig).mapped_pages, 300);
	assert_int_equal(berth_space_unmap(rig->space, 0, 1024), 0);
	assert_int_equal(rig_stats(rig).mappings, 0);
	rig_close(rig);
}

static void large_blocks_come_first(void **state)
{
	struct rig *rig = rig_open();
	berth_pfn_t head;

	(void)state;
	rig_map_and_write(rig, 512, 1024, 9, 0);
	for (uint64_t page = 512; page < 1536; page += 512) {
		assert_int_equal(rig_order(rig, page, &head), 9);
		assert_int_equal(head, rig_pfn(rig, page));
	}
	/* Nothing larger than asked for, and an order beyond a huge page is as good as a huge page. */
	rig_map_and_write(rig, 2048, 64, 3, 0);
	for (uint64_t page = 2048; page < 2112; page += 8)
		assert_int_equal(rig_order(rig, page, &head), 3);
	rig_map_and_write(rig, 2560, 512, BERTH_MAX_ORDER_LIMIT, 0);
	assert_int_equal(rig_order(rig, 2560, &head), 9);
	rig_close(rig);

	/* Blocks are aligned as the machine's addresses are, not as page numbers. */
	rig = rig_open(.page_offset = 3);
	rig_map_and_write(rig, 509, 512, 9, 0);
	assert_int_equal(rig_order(rig, 509, &head), 9);
	rig_map_and_write(rig, 1536, 512, 9, 0);
	assert_int_equal(rig_order(rig, 1536, &head), 0);
	assert_int_equal(rig_order(rig, 1537, &head), 2);
	rig_close(rig);
}

static void a_full_zone_is_said_to_be_full(void **state)
{
	struct rig *rig = rig_open();

	(void)state;
	rig_map_and_write(rig, 0, RIG_FRAMES - 100, 9, 0);
	assert_int_equal(berth_space_map(rig->space, 2048, 101, 9, 0), -BERTH_ENOMEM);
	rig_ok(rig);
	assert_true(berth_space_is_unmapped(rig->space, 2048, 101));
	assert_int_equal(zone_free_pages(rig->tz), 100);
	/* What finds no frame can live outside, if the caller says so. */
	assert_int_equal(berth_space_map(rig->space, 2048, 150, 9, BERTH_MAP_PRIVATE_OK), 0);
	for (uint64_t page = 2048; page < 2198; page++)
		rig_write(rig, page);
	rig_ok(rig);
	assert_int_equal(rig_stats(rig).private_pages, 50);
	assert_int_equal(zone_free_pages(rig->tz), 0);
	assert_int_equal(berth_space_lookup(rig->space, 2197), BERTH_PFN_PRIVATE);
	assert_true(berth_space_is_mapped(rig->space, 2048, 150));
	assert_int_equal(berth_space_map(rig->space, 2197, 1, 9, 0), -BERTH_EEXIST);
	/* All private, then a part of it gone. */
	assert_int_equal(berth_space_map(rig->space, 3000, 10, 0, BERTH_MAP_PRIVATE_OK), 0);
	assert_int_equal(berth_space_unmap(rig->space, 3004, 2), 0);
	rig_ok(rig);
	assert_int_equal(berth_space_unmap(rig->space, 2048, 1500), 0);
	assert_int_equal(rig_stats(rig).private_pages, 0);
	rig_close(rig);
}

static void areas_lend_only_when_they_may(void **state)
{
	struct rig *rig = rig_open();

	(void)state;
	rig_map_and_write(rig, 0, 512, 9, 0);
	assert_int_equal(area_stats(rig->area).lent_pages, 512);
	rig_map_and_write(rig, 1024, 1024, 9, BERTH_MAP_NO_CMA);
	assert_int_equal(area_stats(rig->area).lent_pages, 512);
	assert_int_equal(berth_space_map(rig->space, 2048, 1, 0, BERTH_MAP_NO_CMA), -BERTH_ENOMEM);
	rig_map_and_write(rig, 2048, 1, 0, 0);
	assert_int_equal(area_stats(rig->area).lent_pages, 513);
	rig_close(rig);
}

static void parts_are_unmapped(void **state)
{
	struct rig *rig = rig_open();

	(void)state;
	rig_map_and_write(rig, 512, 512, 9, 0);
	assert_int_equal(berth_space_unmap(rig->space, 512, 1), 0);
	assert_int_equal(berth_space_unmap(rig->space, 1023, 1), 0);
	assert_int_equal(berth_space_unmap(rig->space, 700, 77), 0);
	rig_ok(rig);
	assert_int_equal(rig_stats(rig).mapped_pages, 512 - 79);
	assert_int_equal(rig_stats(rig).mappings, 2);
	/* A range with holes, and one that is a hole. */
	assert_int_equal(berth_space_unmap(rig->space, 690, 100), 0);
	assert_int_equal(berth_space_unmap(rig->space, 2000, 100), 0);
	rig_ok(rig);
	assert_int_equal(berth_space_unmap(rig->space, 0, 2000), 0);
	assert_int_equal(zone_free_pages(rig->tz), RIG_FRAMES);
	rig_close(rig);
}

/* Contents stay, frames go back, and nothing moves there any more. */
static void memory_can_be_made_private(void **state)
{
	struct rig *rig = rig_open();
	uint64_t pin;

	(void)state;
	rig_map_and_write(rig, 512, 512, 9, 0);
	rig_map_scattered(rig, 1024, 20, 0);
	assert_int_equal(berth_space_make_private(rig->space, 1000, 60), 0); /* and a hole */
	rig_ok(rig);
	assert_int_equal(rig_stats(rig).mapped_pages, 532 - 44);
	assert_int_equal(rig_stats(rig).private_pages, 44);
	assert_int_equal(zone_free_pages(rig->tz), RIG_FRAMES - 488);
	assert_int_equal(berth_space_make_private(rig->space, 990, 60), 0); /* twice is no harm */
	assert_int_equal(rig_stats(rig).private_pages, 54);
	assert_int_equal(rig_empty_range(rig, RIG_START_PFN, AREA_PAGES, NULL), 0);
	rig_ok(rig);
	assert_int_equal(berth_space_pin(rig->space, 600, 1, "a", false, &pin), 0);
	rig_forget_calls(rig);
	assert_int_equal(berth_space_make_private(rig->space, 600, 1), -BERTH_EBUSY);
	assert_int_equal(rig->calls[RIG_MAKE_PRIVATE], 0);
	assert_int_equal(berth_space_unpin(rig->space, pin), 0);
	assert_int_equal(berth_space_make_private(rig->space, rig->params.nr_pages - 1, 2),
			 -BERTH_EINVAL);
	assert_int_equal(berth_space_unmap(rig->space, 512, 600), 0);
	assert_int_equal(rig_stats(rig).private_pages, 0);
	rig_close(rig);
}

static void the_budget_of_mappings_holds(void **state)
{
	struct rig *rig = rig_open(.mapping_budget = 40);
	uint64_t mapped = 0;

	(void)state;
	/* Every other page: nothing can be merged. */
	while (mapped < 100 && berth_space_map(rig->space, 2 * mapped, 1, 0, 0) == 0)
		mapped++;
	rig_ok(rig);
	assert_in_range(rig_stats(rig).mappings, 30, 40);
	assert_int_equal(rig_stats(rig).mappings, mapped);
	rig_close(rig);
}

/* ---- Pins ---------------------------------------------------------------------------------------- */

static void a_pin_holds_its_block(void **state)
{
	struct rig *rig = rig_open();
	struct berth_claim_report report;
	berth_pfn_t pfn;
	uint64_t pin;

	(void)state;
	rig_map_and_write(rig, 512, 64, 6, 0);
	rig_map_and_write(rig, 1024, 64, 6, 0);
	pfn = rig_pfn(rig, 512);
	assert_int_equal(berth_space_pin(rig->space, 520, 2, "the camera", false, &pin), 0);
	rig_ok(rig);
	assert_int_equal(rig_stats(rig).pins, 1);
	assert_int_equal(rig_empty_range(rig, pfn, 64, &report), -BERTH_EBUSY);
	assert_string_equal(report.blocker_holder, "the camera");
	assert_string_equal(report.blocker_owner, "memory");
	assert_int_equal(report.blocker_pfn, pfn);
	assert_int_equal(rig_pfn(rig, 512), pfn);
	rig_ok(rig);
	/* Pinned whole: its other pages can't move either. */
	assert_int_equal(rig_empty_range(rig, pfn + 32, 16, &report), -BERTH_EBUSY);
	assert_string_equal(report.blocker_holder, "the camera");
	rig_ok(rig);
	assert_int_equal(berth_space_unpin(rig->space, pin), 0);
	assert_int_equal(rig_empty_range(rig, pfn, 64, &report), 0);
	assert_int_not_equal(rig_pfn(rig, 512), pfn);
	assert_int_equal(rig_stats(rig).pins, 0);
	rig_close(rig);
}

static void pinned_memory_is_not_unmapped(void **state)
{
	struct rig *rig = rig_open();
	uint64_t pin, other;

	(void)state;
	rig_map_and_write(rig, 512, 64, 6, 0);
	assert_int_equal(berth_space_pin(rig->space, 530, 10, "a", false, &pin), 0);
	assert_int_equal(berth_space_pin(rig->space, 535, 10, "b", false, &other), 0);
	rig_forget_calls(rig);
	assert_int_equal(berth_space_unmap(rig->space, 512, 64), -BERTH_EBUSY);
	assert_int_equal(berth_space_unmap(rig->space, 539, 1), -BERTH_EBUSY);
	assert_int_equal(berth_space_unmap(rig->space, 0, 531), -BERTH_EBUSY);
	assert_int_equal(berth_space_unpin(rig->space, pin), 0);
	assert_int_equal(berth_space_unmap(rig->space, 512, 64), -BERTH_EBUSY);
	assert_int_equal(rig->calls[RIG_UNMAP], 0);
	rig_ok(rig);
	assert_int_equal(berth_space_unpin(rig->space, other), 0);
	assert_int_equal(berth_space_unmap(rig->space, 512, 64), 0);
	rig_close(rig);
}

/* The block is pinned whole, so it can't be split and no part of it can be freed. */
static void the_rest_of_a_pinned_block_is_not_unmapped(void **state)
{
	struct rig *rig = rig_open();
	uint64_t pin;

	(void)state;
	rig_map_and_write(rig, 512, 128, 6, 0);
	assert_int_equal(berth_space_pin(rig->space, 530, 1, "a", false, &pin), 0);
	rig_forget_calls(rig);
	assert_int_equal(berth_space_unmap(rig->space, 540, 10), -BERTH_EBUSY);
	assert_int_equal(berth_space_unmap(rig->space, 575, 30), -BERTH_EBUSY);
	assert_int_equal(berth_space_unmap(rig->space, 512, 1), -BERTH_EBUSY);
	assert_int_equal(rig->calls[RIG_UNMAP], 0);
	rig_ok(rig);
	assert_int_equal(berth_space_unmap(rig->space, 576, 64), 0);
	assert_int_equal(berth_space_unpin(rig->space, pin), 0);
	assert_int_equal(berth_space_unmap(rig->space, 540, 10), 0);
	rig_close(rig);
}

static void pins_nest_and_are_undone_once(void **state)
{
	struct rig *rig = rig_open();
	uint64_t pins[5];

	(void)state;
	rig_map_and_write(rig, 100, 100, 9, 0);
	for (size_t i = 0; i < ARRAY_SIZE(pins); i++)
		assert_int_equal(berth_space_pin(rig->space, 100 + 10 * i, 50, "nested", false,
						 &pins[i]),
				 0);
	rig_ok(rig);
	for (size_t i = 0; i < ARRAY_SIZE(pins); i++) {
		assert_int_equal(berth_space_unpin(rig->space, pins[i]), 0);
		assert_int_equal(berth_space_unpin(rig->space, pins[i]), -BERTH_EINVAL);
		rig_ok(rig);
	}
	assert_int_equal(zone_stats(rig->tz).pinned_blocks, 0);
	/* A handle isn't valid again because its place is used again. */
	assert_int_equal(berth_space_pin(rig->space, 100, 1, "later", false, &pins[1]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(pins); i++)
		if (i != 1)
			assert_int_equal(berth_space_unpin(rig->space, pins[i]), -BERTH_EINVAL);
	assert_int_equal(berth_space_unpin(rig->space, 0), -BERTH_EINVAL);
	assert_int_equal(berth_space_unpin(rig->space, UINT64_MAX), -BERTH_EINVAL);
	assert_int_equal(rig_stats(rig).pins, 1);
	assert_int_equal(berth_space_unpin(rig->space, pins[1]), 0);
	rig_close(rig);
}

static void only_frames_can_be_pinned(void **state)
{
	struct rig *rig = rig_open();
	uint64_t pin = 5;

	(void)state;
	rig_map_and_write(rig, 0, RIG_FRAMES - 4, 9, 0);
	assert_int_equal(berth_space_map(rig->space, 3000, 8, 0, BERTH_MAP_PRIVATE_OK), 0);
	assert_int_equal(berth_space_pin(rig->space, 2999, 2, "x", false, &pin), -BERTH_EINVAL);
	assert_int_equal(berth_space_pin(rig->space, 3000, 8, "x", false, &pin), -BERTH_EINVAL);
	assert_int_equal(berth_space_pin(rig->space, 3004, 4, "x", true, &pin), -BERTH_EINVAL);
	assert_int_equal(berth_space_pin(rig->space, 0, 1, NULL, false, &pin), -BERTH_EINVAL);
	assert_int_equal(berth_space_pin(rig->space, 0, 1, "x", false, NULL), -BERTH_EINVAL);
	assert_int_equal(pin, 5);
	assert_int_equal(rig_stats(rig).pins, 0);
	assert_int_equal(zone_stats(rig->tz).pinned_blocks, 0);
	rig_close(rig);
}

static void pins_run_out(void **state)
{
	struct rig *rig = rig_open();
	uint64_t *pins = test_zalloc(BERTH_MAX_PINS, sizeof(*pins)), pin = 5;

	(void)state;
	rig_map_and_write(rig, 0, 16, 0, 0);
	for (unsigned i = 0; i < BERTH_MAX_PINS; i++)
		assert_int_equal(berth_space_pin(rig->space, i % 16, 1, "x", false, &pins[i]), 0);
	assert_int_equal(berth_space_pin(rig->space, 0, 1, "x", false, &pin), -BERTH_ENOSPC);
	assert_int_equal(pin, 5);
	assert_int_equal(berth_space_unpin(rig->space, pins[1000]), 0);
	assert_int_equal(berth_space_pin(rig->space, 0, 1, "x", false, &pins[1000]), 0);
	for (unsigned i = 0; i < BERTH_MAX_PINS; i++)
		assert_int_equal(berth_space_unpin(rig->space, pins[i]), 0);
	free(pins);
	rig_close(rig);
}

static void long_names_are_cut(void **state)
{
	struct rig *rig = rig_open();
	char name[] = "0123456789012345678901234567890123456789";
	struct berth_claim_report report;
	uint64_t pin;

	(void)state;
	rig_map_and_write(rig, 0, 1, 0, 0);
	assert_int_equal(berth_space_pin(rig->space, 0, 1, name, false, &pin), 0);
	memset(name, 'x', sizeof(name) - 1); /* it was copied */
	assert_int_equal(rig_empty_range(rig, rig_pfn(rig, 0), 1, &report), -BERTH_EBUSY);
	assert_string_equal(report.blocker_holder, "0123456789012345678901234567890");
	assert_int_equal(berth_space_unpin(rig->space, pin), 0);
	rig_close(rig);
}

/* Borrowed by one policy, pinned under another. */
static void pin_for_long(enum berth_lend_policy lend, uint64_t keep)
{
	struct rig *rig = rig_open();
	struct berth_claim_params all = { .nr_pages = AREA_PAGES };
	berth_pfn_t pfn;
	uint64_t pin;

	rig_map_and_write(rig, 0, 1024, 9, 0); /* the whole area */
	assert_int_equal(berth_cma_set_lend(rig->area, lend, keep), 0);
	rig_write(rig, 100);
	assert_int_equal(berth_space_pin(rig->space, 100, 600, "an RDMA card", true, &pin), 0);
	rig_ok(rig);
	for (uint64_t page = 100; page < 700; page++) {
		assert_true(rig_pfn(rig, page) >= RIG_START_PFN + AREA_PAGES);
		assert_true(berth_page_pinned(rig->tz->zone, rig_pfn(rig, page)));
	}
	assert_int_equal(berth_space_pin(rig->space, 0, 1, "again", true, &(uint64_t){ 0 }), 0);
	/* So the area can still be claimed. */
	assert_int_equal(berth_cma_alloc(rig->area, &all, &pfn, NULL), 0);
	assert_int_equal(berth_cma_release(rig->area, pfn, AREA_PAGES), 0);
	assert_int_equal(berth_space_unpin(rig->space, pin), 0);
	rig_ok(rig);
	rig_abandon(rig); /* with a pin */
}

static void long_term_pins_leave_the_area(void **state)
{
	(void)state;
	for (unsigned lend = BERTH_LEND_FIRST; lend <= BERTH_LEND_OFF; lend++) {
		pin_for_long((enum berth_lend_policy)lend, 0);
		pin_for_long((enum berth_lend_policy)lend, 700);
	}
}

static void long_term_pins_need_a_place_to_go(void **state)
{
	struct rig *rig = rig_open();
	uint64_t pin = 5, held;

	(void)state;
	rig_map_and_write(rig, 0, 1024, 0, BERTH_MAP_NO_CMA);
	rig_map_and_write(rig, 1024, 1024, 0, 0);
	assert_int_equal(berth_space_pin(rig->space, 1024, 4, "x", true, &pin), -BERTH_ENOMEM);
	assert_int_equal(zone_stats(rig->tz).pinned_blocks, 0);
	rig_ok(rig);
	/* Room for two of four: the others fail, and nothing stays pinned. */
	assert_int_equal(berth_space_unmap(rig->space, 0, 2), 0);
	assert_int_equal(berth_space_pin(rig->space, 1024, 4, "x", true, &pin), -BERTH_ENOMEM);
	assert_int_equal(zone_stats(rig->tz).pinned_blocks, 0);
	rig_ok(rig);
	/* What is pinned where it is can't leave. */
	assert_int_equal(berth_space_unmap(rig->space, 10, 10), 0);
	assert_int_equal(berth_space_pin(rig->space, 1030, 1, "held", false, &held), 0);
	assert_int_equal(berth_space_pin(rig->space, 1029, 3, "x", true, &pin), -BERTH_EBUSY);
	assert_int_equal(zone_stats(rig->tz).pinned_blocks, 1);
	assert_int_equal(pin, 5);
	rig_ok(rig);
	assert_int_equal(berth_space_unpin(rig->space, held), 0);
	assert_int_equal(berth_space_pin(rig->space, 1029, 3, "x", true, &pin), 0);
	assert_int_equal(berth_space_unpin(rig->space, pin), 0);
	rig_close(rig);
}

/* ---- Moves ----------------------------------------------------------------------------------------- */

/* The frames of [page, page + nr) are consecutive: empties them. */
static int move_away(struct rig *rig, uint64_t page, uint64_t nr_pages,
		     struct berth_claim_report *report)
{
	return rig_empty_range(rig, rig_pfn(rig, page), nr_pages, report);
}

static void a_quiet_huge_block_moves_whole(void **state)
{
	struct rig *rig = rig_open();
	berth_pfn_t from, head;

	(void)state;
	rig_map_and_write(rig, 512, 512, 9, 0);
	from = rig_pfn(rig, 512);
	rig_forget_calls(rig);
	assert_int_equal(move_away(rig, 512, 512, NULL), 0);
	rig_ok(rig);
	assert_int_not_equal(rig_pfn(rig, 512), from);
	assert_int_equal(rig_order(rig, 512, &head), 9);
	assert_int_equal(rig->calls[RIG_PROTECT], 1);
	assert_int_equal(rig->calls[RIG_REMAP], 1);
	assert_int_equal(rig->calls[RIG_MAP], 0);
	assert_int_equal(rig->calls[RIG_WRITER_WAITS], 512 / BERTH_STEP_PAGES);
	assert_int_equal(rig_stats(rig).mappings, 1);
	assert_int_equal(rig_stats(rig).moved_pages, 512);
	assert_int_equal(rig_stats(rig).moved_runs, 1);
	assert_int_equal(rig_stats(rig).stalled_runs, 0);
	assert_int_equal(rig_stats(rig).longest_stall_ns, 0);
	assert_int_equal(rig->tz->port.poisoned_pages, 512);
	rig_close(rig);
}

/* The script: somebody writes to page script[1] before look number script[0], counted from 1. */
static void write_before_one_look(struct rig *rig, enum rig_op op)
{
	if (op == RIG_WRITER_WAITS && rig->calls[op] == rig->script[0])
		rig_write(rig, rig->script[1]);
}

static void a_writer_gets_what_is_copied_at_once(void **state)
{
	(void)state;
	for (uint64_t look = 1; look <= 512 / BERTH_STEP_PAGES; look++) {
		struct rig *rig = rig_open();
		berth_pfn_t head;

		rig_map_and_write(rig, 512, 512, 9, 0);
		rig_forget_calls(rig);
		rig->on_op = write_before_one_look;
		rig->script[0] = look;
		rig->script[1] = 512 + 7 * look;
		assert_int_equal(move_away(rig, 512, 512, NULL), 0);
		rig_ok(rig);
		/* All that was copied when the writer was seen. */
		assert_int_equal(rig->remaps[0], look * BERTH_STEP_PAGES);
		assert_int_equal(rig_stats(rig).stalled_runs, 1);
		assert_true(rig_stats(rig).longest_stall_ns > 0);
		/* One run again, and one mapping for the machine too. */
		assert_int_equal(rig_order(rig, 512, &head), 9);
		assert_int_equal(rig_stats(rig).mappings, 1);
		assert_int_equal(rig_stats(rig).moved_runs, 1);
		assert_int_equal(rig->calls[RIG_MAP], look < 512 / BERTH_STEP_PAGES);
		rig_close(rig);
	}
}

static void steps_double_while_it_is_quiet(void **state)
{
	static const uint64_t expected[] = { 16, 16, 32, 64, 128, 256 };
	struct rig *rig = rig_open();

	(void)state;
	rig_map_and_write(rig, 512, 512, 9, 0);
	rig_forget_calls(rig);
	rig->on_op = write_before_one_look;
	rig->script[0] = 1;
	rig->script[1] = 1000;
	assert_int_equal(move_away(rig, 512, 512, NULL), 0);
	assert_int_equal(rig->nr_remaps, ARRAY_SIZE(expected));
	assert_memory_equal(rig->remaps, expected, sizeof(expected));
	rig_close(rig);
}

/* Somebody writes to a page of [script[1], script[2]) at every call. */
static void write_always(struct rig *rig, enum rig_op op)
{
	(void)op;
	rig_write(rig,
		  rig->script[1] + test_random_below(&rig->seed, rig->script[2] - rig->script[1]));
}

/* Everybody writes everywhere, all the time. */
static void write_everywhere(struct rig *rig, enum rig_op op)
{
	(void)op;
	for (uint64_t page = rig->script[1]; page < rig->script[2]; page += 8)
		rig_write(rig, page + test_random_below(&rig->seed, 8));
}

static void busy_writers_wait_for_one_small_step(void **state)
{
	struct rig *rig = rig_open();

	(void)state;
	rig_map_and_write(rig, 512, 512, 9, 0);
	rig->on_op = write_everywhere;
	rig->script[1] = 512;
	rig->script[2] = 1024;
	for (unsigned round = 0; round < 20; round++) {
		rig_forget_calls(rig);
		assert_int_equal(move_away(rig, 512, 512, NULL), 0);
		rig_ok(rig);
		assert_int_equal(rig->nr_remaps, 512 / BERTH_STEP_PAGES);
		for (uint64_t i = 0; i < rig->nr_remaps; i++)
			assert_int_equal(rig->remaps[i], BERTH_STEP_PAGES);
	}
	assert_int_equal(rig_stats(rig).stalled_runs, 20 * 512 / BERTH_STEP_PAGES);
	assert_int_equal(rig_stats(rig).moved_runs, 20);
	rig_close(rig);
}

static void scattered_frames_move_as_one_run(void **state)
{
	struct rig *rig = rig_open();
	struct berth_claim_params all = { .nr_pages = AREA_PAGES };
	berth_pfn_t pfn;

	(void)state;
	/* Pages that follow each other in frames of the same order, which are given ascending. */
	rig_map_and_write(rig, 512, 256, 0, 0);
	rig_map_and_write(rig, 1024, 256, 4, 0);
	rig->on_op = write_always;
	rig->script[1] = 512;
	rig->script[2] = 768;
	rig_forget_calls(rig);
	assert_int_equal(berth_cma_alloc(rig->area, &all, &pfn, NULL), 0);
	rig_ok(rig);
	assert_int_equal(rig_stats(rig).moved_pages, 512);
	assert_true(rig_stats(rig).moved_runs < 64);
	assert_int_equal(berth_cma_release(rig->area, pfn, AREA_PAGES), 0);
	rig_close(rig);

	/* And backwards: each page for itself, none lost. */
	rig = rig_open();
	rig_map_scattered(rig, 512, 100, 0);
	assert_int_equal(berth_cma_alloc(rig->area, &all, &pfn, NULL), 0);
	rig_ok(rig);
	assert_int_equal(berth_cma_release(rig->area, pfn, AREA_PAGES), 0);
	rig_close(rig);
}

static void what_the_budget_forbids_is_skipped(void **state)
{
	struct rig *rig = rig_open(.mapping_budget = 12);
	struct berth_claim_report report;

	(void)state;
	for (uint64_t page = 0; page < 18; page += 2)
		rig_map_and_write(rig, page, 1, 0, 0);
	assert_int_equal(move_away(rig, 0, 1, &report), -BERTH_EBUSY);
	assert_non_null(strstr(report.blocker_holder, "max_map_count"));
	assert_int_equal(rig_stats(rig).skipped_for_budget, 1);
	assert_int_equal(rig->calls[RIG_PROTECT], 0);
	rig_ok(rig);
	assert_int_equal(berth_space_unmap(rig->space, 2, 1), 0);
	assert_int_equal(move_away(rig, 0, 1, &report), 0);
	assert_int_equal(rig_stats(rig).skipped_for_budget, 1);
	rig_close(rig);
}

static void a_machine_without_memory_is_named(void **state)
{
	struct rig *rig = rig_open();
	struct berth_claim_report report;

	(void)state;
	rig_map_and_write(rig, 512, 512, 9, 0);
	rig_fail(rig, RIG_PREPARE, 1);
	assert_int_equal(move_away(rig, 512, 512, &report), -BERTH_EBUSY);
	assert_non_null(strstr(report.blocker_holder, "no memory"));
	rig_ok(rig);
	rig_fail(rig, RIG_REMAP, 1);
	assert_int_equal(move_away(rig, 512, 512, &report), -BERTH_EBUSY);
	assert_non_null(strstr(report.blocker_holder, "refused"));
	rig_ok(rig);
	assert_int_equal(move_away(rig, 512, 512, &report), 0);
	rig_close(rig);
}

/* Somebody uses frames behind the space's back. */
static const char *gate_holder;
static unsigned gate_asked;
static const char *gate(void *ctx)
{
	(void)ctx;
	gate_asked++;
	return gate_holder;
}

static void nothing_moves_while_the_gate_is_shut(void **state)
{
	struct rig *rig = rig_open();
	struct berth_claim_report report;
	uint64_t pin;

	(void)state;
	gate_asked = 0;
	berth_space_set_gate(rig->space, gate, NULL);
	rig_map_and_write(rig, 512, 1024, 9, 0);
	assert_int_equal(gate_asked, 0); /* mapping is no move */
	gate_holder = "a transfer";
	rig_forget_calls(rig);
	assert_int_equal(move_away(rig, 512, 1024, &report), -BERTH_EBUSY);
	assert_string_equal(report.blocker_holder, "a transfer");
	assert_int_equal(rig->calls[RIG_PROTECT] + rig->calls[RIG_REMAP] + rig->calls[RIG_COPY], 0);
	rig_ok(rig);
	assert_int_equal(berth_space_pin(rig->space, 512, 8, "device", false, &pin), 0);
	assert_int_equal(berth_space_unpin(rig->space, pin), 0);
	berth_space_wait_for_moves(rig->space); /* nothing is under way */
	gate_holder = NULL;
	gate_asked = 0;
	assert_int_equal(move_away(rig, 512, 1024, &report), 0);
	assert_true(gate_asked >= 2); /* once for each hold of the lock */
	rig_ok(rig);
	rig_close(rig);
}

static void a_space_can_leave_its_zone(void **state)
{
	struct rig *rig = rig_open();
	struct berth_space_stats stats;

	(void)state;
	rig_map_and_write(rig, 512, 64, 9, 0);
	assert_int_equal(berth_space_map(rig->space, 0, 32, 9,
					 BERTH_MAP_PRIVATE_OK | BERTH_MAP_PRIVATE_ONLY),
			 0);
	berth_space_stats(rig->space, &stats);
	assert_int_equal(stats.private_pages, 32);
	assert_false(berth_space_leave(rig->space)); /* frames are mapped */
	rig_ok(rig);
	assert_int_equal(berth_space_make_private(rig->space, 512, 64), 0);
	rig->leaving = true;
	assert_true(berth_space_leave(rig->space));
	assert_true(berth_space_leave(rig->space));
	assert_int_equal(berth_space_map(rig->space, 1024, 32, 9, 0), -BERTH_ESTALE);
	assert_int_equal(berth_space_map(rig->space, 1024, 32, 9, BERTH_MAP_PRIVATE_OK), 0);
	berth_space_stats(rig->space, &stats);
	assert_int_equal(stats.private_pages, 32 + 64 + 32);
	assert_int_equal(stats.mapped_pages, 0);
	rig_close(rig);
}

/* Half moved when the machine refuses: all of it returns, with what was written meanwhile. */
static void a_move_that_is_refused_midway_goes_back(void **state)
{
	(void)state;
	for (uint64_t refused = 2; refused <= 32; refused++) {
		struct rig *rig = rig_open();
		struct berth_claim_report report;
		berth_pfn_t from, head;

		rig_map_and_write(rig, 512, 512, 9, 0);
		from = rig_pfn(rig, 512);
		rig_forget_calls(rig);
		rig->on_op = write_always; /* so that it moves step by step */
		rig->script[1] = 1000;
		rig->script[2] = 1024;
		rig_fail(rig, refused % 2 ? RIG_REMAP : RIG_PROTECT, refused);
		if (move_away(rig, 512, 512, &report) == 0) {
			assert_int_equal(rig->nr_failed, 0); /* it took fewer steps */
			rig_close(rig);
			assert_true(refused > 10);
			break;
		}
		assert_int_equal(report.error, -BERTH_EBUSY);
		rig_ok(rig);
		for (uint64_t page = 0; page < 512; page++)
			assert_int_equal(rig_pfn(rig, 512 + page), from + page);
		assert_int_equal(rig_order(rig, 512, &head), 9);
		assert_int_equal(rig_stats(rig).moved_pages, 0);
		assert_int_equal(move_away(rig, 512, 512, &report), 0);
		rig_close(rig);
	}
}

/* The machine refuses a step, and every operation that would go back. */
static void refuse_for_ever(struct rig *rig, enum rig_op op)
{
	write_always(rig, op);
	if (rig->nr_failed && rig->fail_op < 0)
		rig_fail(rig, (enum rig_op)rig->script[0], 1);
}

static void half_moves_and_stops(struct rig *rig, enum rig_op op)
{
	rig_map_and_write(rig, 512, 512, 9, 0);
	rig->on_op = refuse_for_ever;
	rig->script[0] = op;
	rig->script[1] = 1000;
	rig->script[2] = 1024;
	rig_fail(rig, op, 3);
	assert_panics(&rig->tz->port, (void)!move_away(rig, 512, 512, NULL));
	assert_non_null(strstr(rig->tz->port.what, "half a block"));
}

static void a_move_that_cannot_go_back_stops(void **state)
{
	static const enum rig_op ops[] = { RIG_PROTECT, RIG_REMAP };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct rig *rig = rig_open();

		half_moves_and_stops(rig, ops[i]);
		rig_abandon(rig);
	}
}

/* ---- What happens between the core's look and the move ------------------------------------------------ */

/*
 * Two more owners with a block each beside the space's: the core asks one before the space and one
 * after it, and they do then what another thread might do at that moment.
 */
struct meddler {
	struct rig *rig;
	struct berth_owner_ops ops;
	unsigned owner, nr_calls;
	void (*act)(struct rig *rig);
	berth_pfn_t pfn;
};

static void meddler_migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct meddler *m = ctx;

	assert_int_equal(nr_moves, 1);
	assert_int_equal(m->pfn, moves[0].src);
	assert_true(berth_page_freeze(m->rig->tz->zone, moves[0].src));
	moves[0].result = BERTH_MOVE_MOVED;
	m->pfn = moves[0].dst;
	if (m->act)
		m->act(m->rig);
	m->nr_calls++;
}

static void meddler_register(struct meddler *m, struct rig *rig, void (*act)(struct rig *))
{
	*m = (struct meddler){
		.rig = rig,
		.ops = { .name = "meddler", .migrate = meddler_migrate },
		.act = act,
	};
	assert_int_equal(berth_owner_register(rig->tz->zone, &m->ops, m, &m->owner), 0);
}

static void meddler_place(struct meddler *m)
{
	assert_int_equal(
		berth_alloc_pages(m->rig->tz->zone, 0, BERTH_GFP_MOVABLE, m->owner, 0, &m->pfn), 0);
	m->rig->nr_others++;
}

/* 14 pages in seven blocks, at 100, between the blocks of two meddlers. */
static struct rig *meddle(struct meddler m[2], void (*before)(struct rig *),
			  void (*after)(struct rig *))
{
	struct rig *rig = rig_open();

	/* Owners are asked in the order in which they registered: the space once more, between. */
	meddler_register(&m[0], rig, before);
	assert_int_equal(berth_space_init(&rig->space, &rig->params, rig->memory), 0);
	meddler_register(&m[1], rig, after);
	meddler_place(&m[0]);
	rig_map_and_write(rig, 99, 1, 0, 0); /* so that blocks of two are next */
	rig_map_and_write(rig, 100, 14, 1, 0);
	meddler_place(&m[1]);
	return rig;
}

static int meddler_empty(struct meddler m[2], struct berth_claim_report *report)
{
	int error = rig_empty_range(m->rig, RIG_START_PFN, AREA_PAGES, report);

	assert_int_equal(m[0].nr_calls, 1);
	assert_int_equal(m[1].nr_calls, 1);
	rig_ok(m->rig);
	return error;
}

static void meddler_close(struct meddler m[2])
{
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(berth_free_pages(m->rig->tz->zone, m[i].pfn), 0);
	m->rig->nr_others = 0;
	rig_close(m->rig);
}

static void unmap_some(struct rig *rig)
{
	assert_int_equal(berth_space_unmap(rig->space, 103, 5), 0);
}

static void map_anew(struct rig *rig)
{
	unmap_some(rig);
	for (uint64_t page = 107; page >= 103; page--) {
		assert_int_equal(berth_space_map(rig->space, page, 1, 0, 0), 0);
		rig_write(rig, page);
	}
}

static uint64_t meddled_pin;

static void pin_some(struct rig *rig)
{
	assert_int_equal(berth_space_pin(rig->space, 104, 3, "the meddler", false, &meddled_pin),
			 0);
}

static void memory_may_go_before_its_move(void **state)
{
	struct meddler m[2];

	(void)state;
	meddle(m, unmap_some, NULL);
	assert_int_equal(meddler_empty(m, NULL), 0);
	meddler_close(m);
	meddle(m, map_anew, NULL);
	assert_int_equal(meddler_empty(m, NULL), 0);
	meddler_close(m);
}

static void memory_may_be_pinned_before_its_move(void **state)
{
	struct berth_claim_report report;
	berth_pfn_t pinned;
	struct meddler m[2];
	struct rig *rig = meddle(m, pin_some, NULL);

	(void)state;
	pinned = rig_pfn(rig, 104);
	assert_int_equal(meddler_empty(m, &report), -BERTH_EBUSY);
	assert_string_equal(report.blocker_holder, "the meddler");
	assert_int_equal(rig_pfn(rig, 104), pinned);
	assert_int_equal(berth_space_unpin(rig->space, meddled_pin), 0);
	/* Nothing is left frozen: everything can be pinned, moved and unmapped. */
	assert_int_equal(berth_space_pin(rig->space, 99, 15, "all", false, &meddled_pin), 0);
	assert_int_equal(berth_space_unpin(rig->space, meddled_pin), 0);
	assert_int_equal(rig_empty_range(rig, RIG_START_PFN, AREA_PAGES, NULL), 0);
	rig_ok(rig);
	assert_int_equal(berth_space_unmap(rig->space, 99, 15), 0);
	meddler_close(m);
}

/* Its new frames are ordinary ones before the core has heard of it. */
static void memory_is_used_as_soon_as_it_has_moved(void **state)
{
	struct meddler m[2];
	struct rig *rig;

	(void)state;
	rig = meddle(m, NULL, unmap_some);
	assert_int_equal(meddler_empty(m, NULL), 0);
	assert_true(berth_space_is_unmapped(rig->space, 103, 5));
	meddler_close(m);
	rig = meddle(m, NULL, pin_some);
	assert_int_equal(meddler_empty(m, NULL), 0);
	assert_true(berth_page_pinned(rig->tz->zone, rig_pfn(rig, 105)));
	assert_int_equal(berth_space_unpin(rig->space, meddled_pin), 0);
	meddler_close(m);
}

/* ---- fork ------------------------------------------------------------------------------------------ */

static void a_parent_goes_on_after_a_fork(void **state)
{
	struct rig *rig = rig_open();

	(void)state;
	rig_map_and_write(rig, 0, 700, 9, 0);
	rig_map_scattered(rig, 1000, 10, 0);
	rig_forget_calls(rig);
	assert_int_equal(berth_space_fork_prepare(rig->space, true, UINT64_MAX), 0);
	assert_int_equal(rig->nr_protected, 710);
	rig_write(rig, 5);
	rig_write(rig, 1005);
	assert_int_equal(rig->nr_pending, 2);
	berth_space_fork_parent(rig->space);
	rig_ok(rig); /* the writers got through */
	/* Nobody else writes: nothing is protected. */
	rig_forget_calls(rig);
	assert_int_equal(berth_space_fork_prepare(rig->space, false, UINT64_MAX), 0);
	assert_int_equal(rig->calls[RIG_PROTECT], 0);
	assert_true(rig->begun);
	berth_space_fork_parent(rig->space);
	assert_int_equal(rig->calls[RIG_UNPROTECT], 0);
	rig_ok(rig);
	assert_int_equal(move_away(rig, 0, 512, NULL), 0);
	rig_close(rig);
}

/* A device writes there, or the thread that forks has its stack there. */
static void a_fork_leaves_pinned_pages_and_the_own_stack_open(void **state)
{
	struct rig *rig = rig_open();
	uint64_t pins[3], nr_open = 0;

	(void)state;
	rig_map_and_write(rig, 0, 1024, 9, 0);
	assert_int_equal(berth_space_pin(rig->space, 10, 5, "x", false, &pins[0]), 0);
	assert_int_equal(berth_space_pin(rig->space, 12, 8, "x", false, &pins[1]), 0);
	assert_int_equal(berth_space_pin(rig->space, 1023, 1, "x", false, &pins[2]), 0);
	assert_int_equal(berth_space_fork_prepare(rig->space, true, 700), 0);
	for (uint64_t page = 0; page < 1024; page++) {
		bool pinned = (page >= 10 && page < 20) || page == 1023;

		assert_false((pinned || page == 700) && rig->pages[page].protected);
		nr_open += !rig->pages[page].protected;
	}
	assert_true(nr_open < 600);
	assert_true(rig->pages[9].protected && rig->pages[20].protected);
	berth_space_fork_parent(rig->space);
	rig_ok(rig);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(berth_space_unpin(rig->space, pins[i]), 0);
	/* Next time everything is closed. */
	assert_int_equal(berth_space_fork_prepare(rig->space, true, UINT64_MAX), 0);
	assert_int_equal(rig->nr_protected, 1024);
	berth_space_fork_parent(rig->space);
	rig_close(rig);
}

static void a_fork_that_is_refused_leaves_nothing(void **state)
{
	struct rig *rig = rig_open();

	(void)state;
	rig_map_scattered(rig, 1000, 10, 0);
	for (uint64_t n = 1; n <= 10; n++) {
		rig_fail(rig, RIG_PROTECT, n);
		assert_int_equal(berth_space_fork_prepare(rig->space, true, UINT64_MAX),
				 -BERTH_ENOMEM);
		rig_ok(rig);
	}
	assert_int_equal(berth_space_fork_prepare(rig->space, true, UINT64_MAX), 0);
	berth_space_fork_parent(rig->space);
	rig_close(rig);
}

/* What must hold in a child, where the zone is out of bounds. */
static void child_ok(struct rig *rig)
{
	uint64_t private_pages = 0;

	assert_false(rig->begun);
	for (uint64_t page = 0; page < rig->params.nr_pages; page++) {
		const struct rig_page *p = &rig->pages[page];

		assert_int_equal(berth_space_lookup(rig->space, page), p->pfn);
		if (p->pfn == BERTH_PFN_NONE)
			continue;
		assert_int_equal(p->pfn, BERTH_PFN_PRIVATE);
		assert_int_equal(p->private_content, p->expected);
		private_pages++;
	}
	assert_int_equal(rig_stats(rig).mapped_pages, 0);
	assert_int_equal(rig_stats(rig).private_pages, private_pages);
	assert_int_equal(rig_stats(rig).pins, 0);
}

static void a_child_has_copies_and_no_zone(void **state)
{
	struct rig *rig = rig_open();
	struct berth_zone_stats before, after;
	uint64_t pin, other;

	(void)state;
	rig_map_and_write(rig, 0, 700, 9, 0);
	rig_map_scattered(rig, 1000, 10, 0);
	assert_int_equal(berth_space_pin(rig->space, 5, 10, "x", false, &pin), 0);
	before = zone_stats(rig->tz);
	assert_int_equal(berth_space_fork_prepare(rig->space, true, UINT64_MAX), 0);
	assert_int_equal(berth_space_fork_child(rig->space), 0);
	child_ok(rig);
	assert_int_equal(berth_space_map(rig->space, 2000, 5, 9, 0), -BERTH_ESTALE);
	assert_int_equal(berth_space_map(rig->space, 2000, 5, 9, BERTH_MAP_PRIVATE_OK), 0);
	assert_int_equal(berth_space_map(rig->space, 2005, 5, 9, BERTH_MAP_PRIVATE_OK), 0);
	rig_write(rig, 2003);
	assert_int_equal(berth_space_unmap(rig->space, 600, 200), 0);
	assert_int_equal(berth_space_map(rig->space, 0, 5, 9, BERTH_MAP_PRIVATE_OK), -BERTH_EEXIST);
	assert_int_equal(berth_space_pin(rig->space, 5, 1, "x", false, &other), -BERTH_EINVAL);
	assert_int_equal(berth_space_unpin(rig->space, pin), -BERTH_EINVAL);
	child_ok(rig);
	/* A child of the child. */
	assert_int_equal(berth_space_fork_prepare(rig->space, true, UINT64_MAX), 0);
	berth_space_fork_parent(rig->space);
	assert_int_equal(berth_space_fork_prepare(rig->space, true, UINT64_MAX), 0);
	assert_int_equal(berth_space_fork_child(rig->space), 0);
	child_ok(rig);
	assert_int_equal(berth_space_unmap(rig->space, 0, 4096), 0);
	child_ok(rig);
	after = zone_stats(rig->tz); /* the parent's, not touched */
	assert_memory_equal(&before, &after, sizeof(before));
	rig_abandon(rig);
}

static void a_child_without_memory_is_told(void **state)
{
	(void)state;
	for (uint64_t n = 1; n <= 3; n++) {
		struct rig *rig = rig_open();

		rig_map_scattered(rig, 1000, 3, 0);
		assert_int_equal(berth_space_fork_prepare(rig->space, true, UINT64_MAX), 0);
		rig_fail(rig, RIG_COPY_PRIVATE, n);
		assert_int_equal(berth_space_fork_child(rig->space), -BERTH_ENOMEM);
		rig_abandon(rig);
	}
}

/* ---- Every call of every operation fails once ------------------------------------------------------- */

struct scenario {
	const char *name;
	void (*prepare)(struct rig *rig);
	int (*act)(struct rig *rig);
	bool may_succeed; /* in spite of a failure, by other means */
	bool may_move;    /* frames may have moved though it failed */
	int error;        /* what a failure is answered with */
	void (*on_op)(struct rig *rig, enum rig_op op);
	bool can_watch;
};

/* Free frames only in single pages, so that a mapping takes many runs. */
static void prepare_gaps(struct rig *rig)
{
	rig_map_and_write(rig, 0, RIG_FRAMES, 0, 0);
	for (uint64_t page = 3; page < 60; page += 3)
		assert_int_equal(berth_space_unmap(rig->space, page, 1), 0);
}

static int act_map(struct rig *rig)
{
	return berth_space_map(rig->space, 3000, 15, 3, 0);
}

static int act_map_private(struct rig *rig)
{
	return berth_space_map(rig->space, 3000, 30, 3, BERTH_MAP_PRIVATE_OK);
}

static int act_unmap(struct rig *rig)
{
	return berth_space_unmap(rig->space, 20, 30);
}

static void prepare_pin(struct rig *rig)
{
	rig_map_and_write(rig, 0, 100, 3, 0);
}

static int act_pin(struct rig *rig)
{
	uint64_t pin;
	int error = berth_space_pin(rig->space, 3, 50, "x", true, &pin);

	assert_int_equal(rig_stats(rig).pins, error == 0);
	return error ? error : berth_space_unpin(rig->space, pin);
}

static void prepare_blocks(struct rig *rig)
{
	rig_map_and_write(rig, 0, 40, 3, 0);
	rig_map_scattered(rig, 1000, 10, 0);
	rig_map_and_write(rig, 2048, 512, 9, 0);
	rig->script[1] = 2048;
	rig->script[2] = 2560;
}

static int act_empty(struct rig *rig)
{
	return rig_empty_range(rig, RIG_START_PFN, AREA_PAGES, NULL);
}

static int act_claim(struct rig *rig)
{
	struct berth_claim_params params = { .nr_pages = 500 };
	berth_pfn_t pfn;
	int error = berth_cma_alloc(rig->area, &params, &pfn, NULL);

	return error ? error : berth_cma_release(rig->area, pfn, 500);
}

static int act_fork(struct rig *rig)
{
	int error = berth_space_fork_prepare(rig->space, true, UINT64_MAX);

	if (!error)
		berth_space_fork_parent(rig->space);
	return error;
}

static int act_make_private(struct rig *rig)
{
	return berth_space_make_private(rig->space, 3, 30);
}

static const struct scenario scenarios[] = {
	{ "map", prepare_gaps, act_map, .error = -BERTH_ENOMEM },
	{ "map, or private", prepare_gaps, act_map_private, .error = -BERTH_ENOMEM,
	  .may_succeed = true },
	{ "unmap", prepare_gaps, act_unmap, .error = -BERTH_ENOMEM },
	{ "pin for long", prepare_pin, act_pin, .error = -BERTH_EBUSY, .may_move = true },
	{ "make private", prepare_pin, act_make_private, .error = -BERTH_ENOMEM, .may_move = true },
	{ "empty a range", prepare_blocks, act_empty, .error = -BERTH_EBUSY, .may_move = true },
	{ "empty a range under writers", prepare_blocks, act_empty, .error = -BERTH_EBUSY,
	  .may_move = true, .on_op = write_always },
	{ "empty a watched range", prepare_blocks, act_empty, .error = -BERTH_EBUSY,
	  .may_move = true, .may_succeed = true, .on_op = write_always, .can_watch = true },
	{ "claim", prepare_blocks, act_claim, .error = -BERTH_EBUSY, .may_move = true,
	  .may_succeed = true },
	{ "claim under writers", prepare_blocks, act_claim, .error = -BERTH_EBUSY, .may_move = true,
	  .may_succeed = true, .on_op = write_always },
	{ "fork", prepare_blocks, act_fork, .error = -BERTH_ENOMEM, .on_op = write_always },
};

static void check_failure(struct rig *rig, const struct scenario *scenario, const char *op,
			  int error, const struct rig_page *before)
{
	bool succeeded = scenario->may_succeed || !strcmp(op, "map"); /* joining pieces again */

	if (error != scenario->error && !(error == 0 && succeeded))
		fail_msg("%s: %s failed, the answer is %d", scenario->name, op, error);
	rig_ok(rig);
	for (uint64_t page = 0; error && page < rig->params.nr_pages; page++) {
		bool was = before[page].pfn != BERTH_PFN_NONE;

		assert_int_equal(rig->pages[page].pfn != BERTH_PFN_NONE, was);
		if (!scenario->may_move)
			assert_int_equal(rig->pages[page].pfn, before[page].pfn);
	}
	assert_int_equal(zone_stats(rig->tz).claimed_pages, 0);
	assert_int_equal(zone_stats(rig->tz).pinned_blocks, 0);
}

static void each_operation_fails_once_at_each_call(void **state)
{
	const struct scenario *scenario = *state;
	uint64_t nr_failures = 0;

	for (int op = 0; op < RIG_NR_FAILING; op++) {
		for (uint64_t n = 1;; n++) {
			struct rig *rig = rig_open();
			struct rig_page *before;
			size_t bytes = rig->params.nr_pages * sizeof(*before);
			int error;

			scenario->prepare(rig);
			before = test_zalloc(1, bytes);
			memcpy(before, rig->pages, bytes);
			rig->on_op = scenario->on_op;
			rig->can_watch = scenario->can_watch;
			rig_fail(rig, (enum rig_op)op, n);
			error = scenario->act(rig);
			if (!rig->nr_failed) { /* it isn't called that often */
				assert_int_equal(error, 0);
				free(before);
				rig_close(rig);
				break;
			}
			check_failure(rig, scenario, rig_op_names[op], error, before);
			nr_failures++;
			if (error) /* the next time it works */
				assert_int_equal(scenario->act(rig), 0);
			free(before);
			rig_close(rig);
		}
	}
	assert_true(nr_failures > 0);
}

/* ---- Random operations against a naive model --------------------------------------------------------- */

#define MAX_MODEL_PINS 8u
#define MAX_MODEL_CLAIMS 4u

struct model_pin {
	uint64_t page, nr_pages, handle; /* nr_pages 0: none */
};

struct model_claim {
	berth_pfn_t pfn;
	uint64_t nr_pages;
};

struct space_model {
	struct rig *rig;
	uint64_t seed;
	struct model_pin pins[MAX_MODEL_PINS];
	struct model_claim claims[MAX_MODEL_CLAIMS];
	uint64_t counts[8], refused[8];
};

static uint64_t current_seed, current_op;

/* Once in a while somebody writes somewhere. */
static void write_at_random(struct rig *rig, enum rig_op op)
{
	(void)op;
	if (test_random_below(&rig->seed, 4) == 0)
		rig_write(rig, test_random_below(&rig->seed, rig->params.nr_pages));
}

static uint64_t below(struct space_model *m, uint64_t bound)
{
	return test_random_below(&m->seed, bound);
}

/* A random range, more often small. */
static void random_range(struct space_model *m, uint64_t *page, uint64_t *nr_pages)
{
	uint64_t nr = m->rig->params.nr_pages;

	*page = below(m, nr);
	*nr_pages = 1 + below(m, 1ull << below(m, 10));
	if (*nr_pages > nr - *page)
		*nr_pages = nr - *page;
	if (below(m, 3) == 0)
		*page &= ~63ull;
}

static bool model_all(struct space_model *m, uint64_t page, uint64_t nr_pages, bool frames)
{
	for (uint64_t at = page; at < page + nr_pages; at++)
		if (rig_is_frame(m->rig->pages[at].pfn) != frames ||
		    (!frames && m->rig->pages[at].pfn != BERTH_PFN_NONE))
			return false;
	return true;
}

/* Did the call fail because the machine was made to? */
static bool machine_failed(struct space_model *m, uint64_t failed_before)
{
	return m->rig->nr_failed != failed_before;
}

static uint64_t free_outside_area(struct space_model *m)
{
	return zone_free_pages(m->rig->tz) - area_stats(m->rig->area).free_pages;
}

static int model_map(struct space_model *m)
{
	uint64_t page, nr_pages, failed = m->rig->nr_failed;
	unsigned flags = below(m, 3) == 0 ? BERTH_MAP_NO_CMA : 0;
	uint64_t room = flags ? free_outside_area(m) : zone_free_pages(m->rig->tz);
	bool unmapped;
	int error;

	random_range(m, &page, &nr_pages);
	if (below(m, 8) == 0)
		flags |= BERTH_MAP_PRIVATE_OK;
	unmapped = model_all(m, page, nr_pages, false);
	error = berth_space_map(m->rig->space, page, nr_pages, (unsigned)below(m, 11), flags);
	if (!unmapped)
		assert_int_equal(error, -BERTH_EEXIST);
	else if (!machine_failed(m, failed))
		assert_int_equal(error, nr_pages <= room || (flags & BERTH_MAP_PRIVATE_OK) ?
						0 :
						-BERTH_ENOMEM);
	else
		assert_true(error == -BERTH_ENOMEM || (flags & BERTH_MAP_PRIVATE_OK));
	return error;
}

/* A pin on a page of the range, or on a block of which the range has only a part. */
static bool model_pinned(struct space_model *m, uint64_t page, uint64_t nr_pages)
{
	for (uint64_t at = page; at < page + nr_pages; at++)
		for (unsigned i = 0; i < MAX_MODEL_PINS; i++)
			if (m->pins[i].nr_pages && at >= m->pins[i].page &&
			    at < m->pins[i].page + m->pins[i].nr_pages)
				return true;
	for (uint64_t at = page; at < page + nr_pages; at++)
		if (rig_is_frame(m->rig->pages[at].pfn) &&
		    berth_page_pinned(m->rig->tz->zone, m->rig->pages[at].pfn))
			return true; /* no pin in the range: so the block sticks out */
	return false;
}

static int model_unmap(struct space_model *m)
{
	uint64_t page, nr_pages, failed = m->rig->nr_failed;
	bool pinned;
	int error;

	random_range(m, &page, &nr_pages);
	pinned = model_pinned(m, page, nr_pages);
	error = berth_space_unmap(m->rig->space, page, nr_pages);
	if (pinned)
		assert_int_equal(error, -BERTH_EBUSY);
	else
		assert_int_equal(error, machine_failed(m, failed) ? -BERTH_ENOMEM : 0);
	return error;
}

static int model_pin(struct space_model *m)
{
	struct model_pin *pin = &m->pins[below(m, MAX_MODEL_PINS)];
	bool long_term = below(m, 3) == 0;
	uint64_t page, nr_pages, handle;
	int error;

	if (pin->nr_pages) {
		assert_int_equal(berth_space_unpin(m->rig->space, pin->handle), 0);
		pin->nr_pages = 0;
		return 0;
	}
	random_range(m, &page, &nr_pages);
	if (nr_pages > 64)
		nr_pages = 64;
	error = berth_space_pin(m->rig->space, page, nr_pages, "model", long_term, &handle);
	if (!model_all(m, page, nr_pages, true))
		assert_int_equal(error, -BERTH_EINVAL);
	else if (!long_term)
		assert_int_equal(error, 0);
	else
		assert_true(error == 0 || error == -BERTH_ENOMEM || error == -BERTH_EBUSY);
	if (error)
		return error;
	*pin = (struct model_pin){ page, nr_pages, handle };
	for (uint64_t at = page; at < page + nr_pages; at++) {
		berth_pfn_t pfn = rig_pfn(m->rig, at);

		assert_true(berth_page_pinned(m->rig->tz->zone, pfn));
		assert_true(!long_term || pfn >= RIG_START_PFN + m->rig->tz->params.nr_pages / 2);
	}
	return 0;
}

static int model_make_private(struct space_model *m)
{
	uint64_t page, nr_pages, failed = m->rig->nr_failed;
	int error;

	random_range(m, &page, &nr_pages);
	if (nr_pages > 32) /* or soon nothing would move any more */
		nr_pages = 32;
	error = berth_space_make_private(m->rig->space, page, nr_pages);
	if (model_pinned(m, page, nr_pages))
		assert_int_equal(error, -BERTH_EBUSY);
	else
		assert_int_equal(error, machine_failed(m, failed) ? -BERTH_ENOMEM : 0);
	for (uint64_t at = page; !error && at < page + nr_pages; at++)
		assert_false(rig_is_frame(m->rig->pages[at].pfn));
	return error;
}

static int model_claim(struct space_model *m)
{
	struct model_claim *claim = &m->claims[below(m, MAX_MODEL_CLAIMS)];
	struct berth_claim_params params = { .nr_pages = 1 + below(m, 600) };
	struct berth_claim_report report;
	uint64_t failed = m->rig->nr_failed;
	int error;

	if (claim->nr_pages) {
		assert_int_equal(berth_cma_release(m->rig->area, claim->pfn, claim->nr_pages), 0);
		claim->nr_pages = 0;
		return 0;
	}
	error = berth_cma_alloc(m->rig->area, &params, &claim->pfn, &report);
	if (error == 0)
		claim->nr_pages = params.nr_pages;
	else if (error == -BERTH_EBUSY)
		assert_true(machine_failed(m, failed) || report.blocker_holder);
	else
		assert_true(error == -BERTH_ENOMEM || error == -BERTH_ENOSPC);
	return error;
}

static int model_shuffle(struct space_model *m)
{
	uint64_t nr_frames = m->rig->tz->params.nr_pages, start = below(m, nr_frames);
	uint64_t nr_pages = 1 + below(m, 600);

	if (nr_pages > nr_frames - start)
		nr_pages = nr_frames - start;
	return rig_empty_range(m->rig, RIG_START_PFN + start, nr_pages, NULL);
}

static int model_write(struct space_model *m)
{
	uint64_t page, nr_pages;

	random_range(m, &page, &nr_pages);
	for (uint64_t i = 0; i < nr_pages; i++)
		rig_write(m->rig, page + i);
	return 0;
}

static void run_model(uint64_t seed, uint64_t nr_ops, bool failing)
{
	static int (*const ops[])(struct space_model *) = {
		model_map,   model_unmap,   model_pin,   model_make_private,
		model_claim, model_shuffle, model_write, model_map,
	};
	struct space_model m = {
		.rig = rig_open(.page_offset = seed * 77),
		.seed = seed,
	};
	uint64_t kind;

	current_seed = seed;
	m.rig->seed = seed + 1000;
	m.rig->can_watch = seed % 2;
	m.rig->on_op = write_at_random;
	for (current_op = 0; current_op < nr_ops; current_op++) {
		kind = below(&m, ARRAY_SIZE(ops));
		if (failing && below(&m, 3) == 0) /* one failure: going back must work */
			rig_fail(m.rig, (enum rig_op)below(&m, RIG_NR_FAILING), 1 + below(&m, 6));
		m.counts[kind]++;
		m.refused[kind] += ops[kind](&m) != 0;
		m.rig->fail_op = -1;
		rig_ok(m.rig);
	}
	for (kind = 0; kind < ARRAY_SIZE(ops); kind++) /* each did something, also what it can */
		assert_true(m.counts[kind] > m.refused[kind]);
	assert_true(rig_stats(m.rig).moved_pages > 0);
	for (unsigned i = 0; i < MAX_MODEL_PINS; i++)
		if (m.pins[i].nr_pages)
			assert_int_equal(berth_space_unpin(m.rig->space, m.pins[i].handle), 0);
	assert_int_equal(berth_space_unmap(m.rig->space, 0, m.rig->params.nr_pages), 0);
	rig_close(m.rig);
	current_seed = 0;
}

static void random_operations(void **state)
{
	bool failing = *state != NULL;
	const char *seed = getenv("BERTH_SPACE_SEED");

	if (seed) {
		run_model(strtoull(seed, NULL, 0), 2500, failing);
		return;
	}
	for (uint64_t i = 1; i <= 4; i++)
		run_model(i + 100 * failing, 2500, failing);
}

static int say_seed(void **state)
{
	(void)state;
	if (current_seed)
		print_error("operation %llu: replay with BERTH_SPACE_SEED=%llu\n",
			    (unsigned long long)current_op, (unsigned long long)current_seed);
	current_seed = 0;
	return 0;
}

static char failing_machine[] = "failing";

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_parameters_are_refused),
		cmocka_unit_test(mapped_memory_is_zeroed_and_its_own),
		cmocka_unit_test(bad_ranges_are_refused),
		cmocka_unit_test(what_is_mapped_stays),
		cmocka_unit_test(memory_grows_into_gaps),
		cmocka_unit_test(large_blocks_come_first),
		cmocka_unit_test(a_full_zone_is_said_to_be_full),
		cmocka_unit_test(areas_lend_only_when_they_may),
		cmocka_unit_test(parts_are_unmapped),
		cmocka_unit_test(memory_can_be_made_private),
		cmocka_unit_test(the_budget_of_mappings_holds),
		cmocka_unit_test(a_pin_holds_its_block),
		cmocka_unit_test(pinned_memory_is_not_unmapped),
		cmocka_unit_test(the_rest_of_a_pinned_block_is_not_unmapped),
		cmocka_unit_test(pins_nest_and_are_undone_once),
		cmocka_unit_test(only_frames_can_be_pinned),
		cmocka_unit_test(pins_run_out),
		cmocka_unit_test(long_names_are_cut),
		cmocka_unit_test(long_term_pins_leave_the_area),
		cmocka_unit_test(long_term_pins_need_a_place_to_go),
		cmocka_unit_test(a_quiet_huge_block_moves_whole),
		cmocka_unit_test(a_writer_gets_what_is_copied_at_once),
		cmocka_unit_test(steps_double_while_it_is_quiet),
		cmocka_unit_test(busy_writers_wait_for_one_small_step),
		cmocka_unit_test(scattered_frames_move_as_one_run),
		cmocka_unit_test(what_the_budget_forbids_is_skipped),
		cmocka_unit_test(a_machine_without_memory_is_named),
		cmocka_unit_test(nothing_moves_while_the_gate_is_shut),
		cmocka_unit_test(a_space_can_leave_its_zone),
		cmocka_unit_test(a_move_that_is_refused_midway_goes_back),
		cmocka_unit_test(a_move_that_cannot_go_back_stops),
		cmocka_unit_test(memory_may_go_before_its_move),
		cmocka_unit_test(memory_may_be_pinned_before_its_move),
		cmocka_unit_test(memory_is_used_as_soon_as_it_has_moved),
		cmocka_unit_test(a_parent_goes_on_after_a_fork),
		cmocka_unit_test(a_fork_leaves_pinned_pages_and_the_own_stack_open),
		cmocka_unit_test(a_fork_that_is_refused_leaves_nothing),
		cmocka_unit_test(a_child_has_copies_and_no_zone),
		cmocka_unit_test(a_child_without_memory_is_told),
	};
	struct CMUnitTest sweeps[ARRAY_SIZE(scenarios)];
	static const struct CMUnitTest random_tests[] = {
		{ "random operations", random_operations, NULL, say_seed, NULL },
		{ "random operations, failing machine", random_operations, NULL, say_seed,
		  failing_machine },
	};
	int failed = cmocka_run_group_tests_name("space", tests, NULL, NULL);

	for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++)
		sweeps[i] = (struct CMUnitTest){ scenarios[i].name,
						 each_operation_fails_once_at_each_call, NULL, NULL,
						 (void *)(uintptr_t)&scenarios[i] };
	failed += cmocka_run_group_tests_name("each operation fails once", sweeps, NULL, NULL);
	failed += cmocka_run_group_tests_name("space against a model", random_tests, NULL, NULL);
	return failed;
}
