/* SPDX-License-Identifier: MIT */
/*
 * Address spaces over a fake machine: opening, mapping, unmapping, pins. Moves are in test_space_move.c,
 * fork in test_space_fork.c, failures of the machine in test_space_failures.c, random operations in
 * test_space_model.c.
 */
#include "tests/include/testspace.h"
#include "vm/internal.h"

#define AREA_PAGES (RIG_FRAMES / 2)

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests_name("space", tests, NULL, NULL);
}
