/* SPDX-License-Identifier: MIT */
/*
 * Large segments that are watched while they move: everybody goes on but for the last moment, nothing that is
 * written in between is lost, and whatever the machine refuses is done in the other way or not at all.
 */
#include "tests/include/testspace.h"

#define FIRST 512u /* a huge page's first page, and behind its last */
#define BEHIND 1024u

static struct rig *open_with_huge_page(void)
{
	struct rig *rig = rig_open();

	rig->can_watch = true;
	rig_map_and_write(rig, FIRST, BEHIND - FIRST, 9, 0);
	rig_forget_calls(rig);
	return rig;
}

static int move_away(struct rig *rig)
{
	return rig_empty_range(rig, rig_pfn(rig, FIRST), BEHIND - FIRST, NULL);
}

static void a_quiet_page_moves_with_one_copy(void **state)
{
	struct rig *rig = open_with_huge_page();
	berth_pfn_t from = rig_pfn(rig, FIRST), head;

	(void)state;
	assert_int_equal(move_away(rig), 0);
	rig_ok(rig);
	assert_int_not_equal(rig_pfn(rig, FIRST), from);
	assert_int_equal(rig_order(rig, FIRST, &head), 9);
	assert_int_equal(rig->calls[RIG_WATCH], 1);
	assert_int_equal(rig->calls[RIG_HALT], 1);
	assert_int_equal(rig->calls[RIG_COPY], 1);
	assert_int_equal(rig->calls[RIG_REMAP], 1);
	assert_int_equal(rig->calls[RIG_PROTECT], 0);
	assert_int_equal(rig_stats(rig).stalled_runs, 0);
	rig_close(rig);
}

/* The script: at the first call of operation script[0] pages script[1], + script[2], ... are written. */
static void write_at_one_operation(struct rig *rig, enum rig_op op)
{
	if ((uint64_t)op != rig->script[0] || rig->calls[op] != 1)
		return;
	for (uint64_t page = rig->script[1]; page < BEHIND; page += rig->script[2])
		rig_write(rig, page);
}

static void what_is_written_meanwhile_is_copied_again(void **state)
{
	static const struct {
		uint64_t op, first, distance, copies, stalls;
	} cases[] = {
		/* before it is watched: the copy has it */
		{ RIG_WATCH, FIRST, 1, 1, 0 },
		/* at the first copy: each run of written pages by one more */
		{ RIG_COPY, FIRST + 3, 1000, 2, 0 },
		{ RIG_COPY, FIRST, 1, 2, 0 },
		{ RIG_COPY, FIRST, 2, 257, 0 },
		{ RIG_COPY, FIRST + 63, 64, 9, 0 },
		/* between the copy and the halt */
		{ RIG_BEGIN, BEHIND - 1, 1, 2, 0 },
		{ RIG_HALT, FIRST + 64, 128, 5, 0 },
		/* halted: they wait, and write to the new frames */
		{ RIG_WRITER_WAITS, FIRST, 3, 1, 1 },
		{ RIG_REMAP, FIRST, 5, 1, 0 /* nobody looked after them */ },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct rig *rig = open_with_huge_page();

		rig->on_op = write_at_one_operation;
		rig->script[0] = cases[i].op;
		rig->script[1] = cases[i].first;
		rig->script[2] = cases[i].distance;
		assert_int_equal(move_away(rig), 0);
		rig_ok(rig);
		assert_int_equal(rig->calls[RIG_COPY] + rig->nr_scattered, cases[i].copies);
		assert_int_equal(rig_stats(rig).stalled_runs, cases[i].stalls);
		assert_int_equal(rig->calls[RIG_PROTECT], 0);
		assert_int_equal(rig_stats(rig).mappings, 1);
		rig_close(rig);
	}
}

static void small_runs_are_not_watched(void **state)
{
	struct rig *rig = rig_open();

	(void)state;
	rig->can_watch = true;
	rig_map_and_write(rig, FIRST, 64, 6, 0);
	rig_forget_calls(rig);
	assert_int_equal(rig_empty_range(rig, rig_pfn(rig, FIRST), 64, NULL), 0);
	rig_ok(rig);
	assert_int_equal(rig->calls[RIG_WATCH], 0);
	assert_int_equal(rig->calls[RIG_PROTECT], 1);
	rig_close(rig);
}

static void write_always(struct rig *rig, enum rig_op op)
{
	(void)op;
	rig_write(rig, FIRST + test_random_below(&rig->seed, BEHIND - FIRST));
}

/* Watch, halt or remap refused: it moves in steps. Whatever is refused then leaves it where it was. */
static void what_is_refused_is_done_otherwise(void **state)
{
	static const enum rig_op ops[] = { RIG_WATCH, RIG_HALT, RIG_REMAP };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct rig *rig = open_with_huge_page();

		rig->on_op = write_always;
		rig_fail(rig, ops[i], 1);
		assert_int_equal(move_away(rig), 0);
		assert_int_equal(rig->nr_failed, 1);
		rig_ok(rig);
		assert_true(rig->calls[RIG_PROTECT] > 0);
		assert_int_equal(rig_stats(rig).moved_pages, BEHIND - FIRST);
		rig_close(rig);
	}
}

/* One watch refused and one step after it: the page is as it was. */
static void refuse_watching_and_more(struct rig *rig, enum rig_op op)
{
	write_always(rig, op);
	if (rig->nr_failed == 1 && rig->fail_op < 0 && rig->script[0]--)
		rig_fail(rig, RIG_PROTECT, 1);
}

static void refused_twice_is_busy(void **state)
{
	struct rig *rig = open_with_huge_page();
	berth_pfn_t from = rig_pfn(rig, FIRST);

	(void)state;
	rig->on_op = refuse_watching_and_more;
	rig->script[0] = 1;
	rig_fail(rig, RIG_HALT, 1);
	assert_int_equal(move_away(rig), -BERTH_EBUSY);
	assert_int_equal(rig->nr_failed, 2);
	rig_ok(rig);
	for (uint64_t i = 0; i < BEHIND - FIRST; i++)
		assert_int_equal(rig_pfn(rig, FIRST + i), from + i);
	assert_int_equal(move_away(rig), 0);
	rig_close(rig);
}

/* Heavy writers: every page, while it is watched. What came before the last look isn't copied in the last moment. */
static void write_all_at_first(struct rig *rig, enum rig_op op)
{
	if (op == RIG_BEGIN && rig->script[0])
		rig->script[1] = rig->calls[RIG_COPY];
	if (op == RIG_END && rig->script[0])
		rig->script[2] = rig->calls[RIG_COPY];
	if (op == RIG_COPY && rig->calls[RIG_COPY] == 1)
		for (uint64_t page = FIRST; page < BEHIND; page++)
			rig_write(rig, page);
}

static void many_written_pages_are_copied_before_the_last_moment(void **state)
{
	struct rig *rig = open_with_huge_page();

	(void)state;
	rig->on_op = write_all_at_first;
	assert_int_equal(move_away(rig), 0);
	assert_int_equal(rig->calls[RIG_LOOK], 0); /* it isn't known yet */
	assert_int_equal(rig->calls[RIG_COPY], 2);
	rig_ok(rig);
	rig_forget_calls(rig);
	rig->script[0] = 1;
	assert_int_equal(move_away(rig), 0);
	rig_ok(rig);
	assert_true(rig->calls[RIG_LOOK] >= 1);
	assert_int_equal(rig->calls[RIG_COPY], 2);
	assert_int_equal(rig->script[1], 2); /* both before it */
	assert_int_equal(rig->script[2], 2);
	rig_forget_calls(rig);
	rig->on_op = NULL; /* nobody writes any more: one look, then none */
	assert_int_equal(move_away(rig), 0);
	assert_int_equal(move_away(rig), 0);
	assert_int_equal(rig->calls[RIG_LOOK], 1);
	rig_close(rig);
}

static void looking_loses_nothing(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 20; seed++) {
		struct rig *rig = open_with_huge_page();

		rig->seed = seed;
		rig->on_op = write_all_at_first;
		assert_int_equal(move_away(rig), 0);
		rig->on_op = write_always;
		for (int i = 0; i < 4; i++) {
			assert_int_equal(move_away(rig), 0);
			rig_ok(rig);
		}
		assert_true(rig->calls[RIG_LOOK] > 0);
		rig_close(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_quiet_page_moves_with_one_copy),
		cmocka_unit_test(what_is_written_meanwhile_is_copied_again),
		cmocka_unit_test(small_runs_are_not_watched),
		cmocka_unit_test(what_is_refused_is_done_otherwise),
		cmocka_unit_test(refused_twice_is_busy),
		cmocka_unit_test(many_written_pages_are_copied_before_the_last_moment),
		cmocka_unit_test(looking_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
