/* SPDX-License-Identifier: MIT */
/*
 * Pages whose frames are scattered: they move together, and are together after it; in either way to make others
 * wait, with a block in between that can't move, and to destinations that are scattered.
 */
#include "core/motion/internal.h"
#include "tests/include/testspace.h"
#include "vm/internal.h"

#define FIRST 1024u
#define PAGES 64u
#define WINDOW 8u /* of a zone as small as the rig's: see berth__gather_room() */

/* The frames from the first to the last of these pages. */
static void range_of(struct rig *rig, uint64_t page, uint64_t nr_pages, berth_pfn_t *start,
		     uint64_t *nr_frames)
{
	berth_pfn_t last = 0;

	*start = BERTH_PFN_NONE;
	for (uint64_t at = page; at < page + nr_pages; at++) {
		berth_pfn_t pfn = rig_pfn(rig, at);

		if (pfn < *start)
			*start = pfn;
		if (pfn > last)
			last = pfn;
	}
	*nr_frames = last - *start + 1;
}

static struct rig *open_scattered(bool can_stop)
{
	struct rig *rig = rig_open();

	rig->can_stop = can_stop;
	rig_map_scattered(rig, FIRST, PAGES, 0);
	for (uint64_t page = FIRST + 1; page < FIRST + PAGES; page++)
		assert_int_not_equal(rig_pfn(rig, page), rig_pfn(rig, page - 1) + 1);
	rig_forget_calls(rig);
	return rig;
}

static int move_all(struct rig *rig)
{
	berth_pfn_t start;
	uint64_t nr;

	range_of(rig, FIRST, PAGES, &start, &nr);
	return rig_empty_range(rig, start, nr, NULL);
}

static void assert_together(struct rig *rig, uint64_t page, uint64_t nr_pages)
{
	for (uint64_t i = 1; i < nr_pages; i++)
		assert_int_equal(rig_pfn(rig, page + i), rig_pfn(rig, page) + i);
}

static void scattered_pages_come_together(void **state)
{
	(void)state;
	for (int can_stop = 0; can_stop < 2; can_stop++) {
		struct rig *rig = open_scattered(can_stop);

		assert_int_equal(move_all(rig), 0);
		rig_ok(rig);
		for (uint64_t page = FIRST; page < FIRST + PAGES; page += WINDOW)
			assert_together(rig, page, WINDOW);
		/* one segment each: made to wait once, mapped once */
		assert_int_equal(rig->calls[RIG_STOP], can_stop ? PAGES / WINDOW : 0);
		assert_int_equal(rig->calls[RIG_PROTECT], can_stop ? 0 : PAGES / WINDOW);
		assert_int_equal(rig->calls[RIG_REMAP], PAGES / WINDOW);
		assert_int_equal(rig_stats(rig).moved_runs, PAGES / WINDOW);
		rig_close(rig);
	}
}

static void write_always(struct rig *rig, enum rig_op op)
{
	(void)op;
	rig_write(rig, FIRST + test_random_below(&rig->seed, PAGES));
}

static void nothing_written_meanwhile_is_lost(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 40; seed++) {
		struct rig *rig = open_scattered(seed % 2);

		rig->seed = seed;
		rig->on_op = write_always;
		assert_int_equal(move_all(rig), 0);
		rig_ok(rig);
		rig_close(rig);
	}
}

static void a_held_page_stays_and_only_it(void **state)
{
	struct rig *rig = open_scattered(true);
	const uint64_t held = FIRST + 2 * WINDOW + 3;
	berth_pfn_t start, was = rig_pfn(rig, held);
	uint64_t nr, handle, moved = 0;

	(void)state;
	range_of(rig, FIRST, PAGES, &start, &nr);
	assert_int_equal(berth_space_pin(rig->space, held, 1, "test", false, &handle), 0);
	assert_int_equal(rig_empty_range(rig, start, nr, NULL), -BERTH_EBUSY);
	assert_int_equal(rig_pfn(rig, held), was);
	rig_ok(rig);
	assert_int_equal(berth_space_unpin(rig->space, handle), 0);
	assert_int_equal(move_all(rig), 0);
	for (uint64_t page = FIRST; page < FIRST + PAGES; page++)
		moved += rig_pfn(rig, page) < start || rig_pfn(rig, page) >= start + nr;
	assert_int_equal(moved, PAGES);
	rig_close(rig);
}

/* Pins a page when a window is on its way, so that no look before has seen it. */
static void pin_meanwhile(struct rig *rig, enum rig_op op)
{
	if (op != RIG_PREPARE || rig->script[0]++)
		return;
	assert_int_equal(berth_page_pin(rig->tz->zone, rig->script[1]), 0);
}

static void who_comes_meanwhile_holds_one_page(void **state)
{
	struct rig *rig = open_scattered(true);
	const uint64_t held = FIRST + PAGES - 5; /* of the window whose frames come first */
	uint64_t away = 0;
	berth_pfn_t start;
	uint64_t nr;

	(void)state;
	range_of(rig, FIRST, PAGES, &start, &nr);
	rig->on_op = pin_meanwhile;
	rig->script[1] = rig_pfn(rig, held);
	assert_int_equal(rig_empty_range(rig, start, nr, NULL), -BERTH_EBUSY);
	rig->on_op = NULL;
	rig_ok(rig);
	assert_int_equal(rig_pfn(rig, held), rig->script[1]);
	for (uint64_t page = FIRST; page < FIRST + PAGES; page++)
		away += rig_pfn(rig, page) < start || rig_pfn(rig, page) >= start + nr;
	assert_true(away > 0 && away < PAGES); /* its neighbours, at least those before it */
	assert_int_equal(berth_page_unpin(rig->tz->zone, rig->script[1]), 0);
	rig_close(rig);
}

/* Each batch has a buffer of its own, as long as there are any; and then a third one has none. */
static void two_batches_are_gathered_at_a_time(void **state)
{
	struct rig *rig = open_scattered(true);
	struct berth_zone *zone = rig->tz->zone;
	const struct berth_move found = { .src = rig_pfn(rig, FIRST),
					  .cookie = FIRST,
					  .owner = (uint16_t)rig->space->owner };
	struct berth_move *first = berth__gather_begin(zone, &found);
	struct berth_move *second = berth__gather_begin(zone, &found);

	(void)state;
	assert_non_null(first);
	assert_ptr_equal(second, first + zone->gather_room);
	assert_null(berth__gather_begin(zone, &found));
	/* What is found without a buffer moves all the same. */
	assert_int_equal(move_all(rig), 0);
	rig_ok(rig);
	berth__gather_end(zone, first);
	assert_ptr_equal(berth__gather_begin(zone, &found), first);
	berth__gather_end(zone, second);
	assert_ptr_equal(berth__gather_begin(zone, &found), second);
	berth__gather_end(zone, first);
	berth__gather_end(zone, second);
	rig_close(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scattered_pages_come_together),
		cmocka_unit_test(nothing_written_meanwhile_is_lost),
		cmocka_unit_test(a_held_page_stays_and_only_it),
		cmocka_unit_test(who_comes_meanwhile_holds_one_page),
		cmocka_unit_test(two_batches_are_gathered_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
