/* SPDX-License-Identifier: MIT */
/*
 * fork over a fake machine: what stands still, what a child gets, and what is left when it fails.
 */
#include "tests/include/testspace.h"
#include "vm/internal.h"

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
	assert_int_equal(rig_move_away(rig, 0, 512, NULL), 0);
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

/* Threads that wait for the space, and a mover between two groups, are the parent's. */
static void a_child_waits_for_nobody(void **state)
{
	struct rig *rig = rig_open();

	(void)state;
	rig_map_and_write(rig, 0, 100, 9, 0);
	assert_int_equal(berth_space_fork_prepare(rig->space, true, UINT64_MAX), 0);
	rig->space->awake = true;
	berth_mutex_lock(&rig->space->turn);
	atomic_fetch_add(&rig->space->next_movers, 1);
	atomic_fetch_add(&rig->space->waiters, 1);
	assert_int_equal(berth_space_fork_child(rig->space), 0);
	child_ok(rig);
	assert_false(rig->space->awake);
	assert_int_equal(atomic_load(&rig->space->next_movers), 0);
	assert_int_equal(atomic_load(&rig->space->waiters), 0);
	berth_mutex_lock(&rig->space->turn); /* nobody has it */
	berth_mutex_unlock(&rig->space->turn);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_parent_goes_on_after_a_fork),
		cmocka_unit_test(a_fork_leaves_pinned_pages_and_the_own_stack_open),
		cmocka_unit_test(a_fork_that_is_refused_leaves_nothing),
		cmocka_unit_test(a_child_has_copies_and_no_zone),
		cmocka_unit_test(a_child_waits_for_nobody),
		cmocka_unit_test(a_child_without_memory_is_told),
	};

	return cmocka_run_group_tests_name("space, fork", tests, NULL, NULL);
}
