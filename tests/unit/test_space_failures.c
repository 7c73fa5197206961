/* SPDX-License-Identifier: MIT */
/*
 * Every operation of the fake machine fails once at every call that a space makes: what is reported, and
 * that all is as before.
 */
#include "tests/include/testspace.h"
#include "vm/internal.h"

#define AREA_PAGES (RIG_FRAMES / 2)

/* ---- Every call of every operation fails once ------------------------------------------------------- */

struct scenario {
	const char *name;
	void (*prepare)(struct rig *rig);
	int (*act)(struct rig *rig);
	bool may_succeed; /* in spite of a failure, by other means */
	bool may_move;    /* frames may have moved though it failed */
	int error;        /* what a failure is answered with */
	void (*on_op)(struct rig *rig, enum rig_op op);
	bool can_watch, can_stop;
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
	  .may_move = true, .on_op = rig_write_always },
	{ "empty a watched range", prepare_blocks, act_empty, .error = -BERTH_EBUSY,
	  .may_move = true, .may_succeed = true, .on_op = rig_write_always, .can_watch = true },
	{ "empty a range of scattered pages", prepare_blocks, act_empty, .error = -BERTH_EBUSY,
	  .may_move = true, .may_succeed = true, .on_op = rig_write_always, .can_stop = true },
	{ "claim", prepare_blocks, act_claim, .error = -BERTH_EBUSY, .may_move = true,
	  .may_succeed = true },
	{ "claim under writers", prepare_blocks, act_claim, .error = -BERTH_EBUSY, .may_move = true,
	  .may_succeed = true, .on_op = rig_write_always },
	{ "fork", prepare_blocks, act_fork, .error = -BERTH_ENOMEM, .on_op = rig_write_always },
};

static void check_failure(struct rig *rig, const struct scenario *scenario, const char *op,
			  int error, const struct rig_page *before)
{
	bool succeeded = scenario->may_succeed || !strcmp(op, "map") ||  /* joining pieces again */
			 (scenario->may_move && !strcmp(op, "prepare")); /* fewer at a time */

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
			rig->can_stop = scenario->can_stop;
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

int main(void)
{
	struct CMUnitTest sweeps[ARRAY_SIZE(scenarios)];

	for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++)
		sweeps[i] = (struct CMUnitTest){ scenarios[i].name,
						 each_operation_fails_once_at_each_call, NULL, NULL,
						 (void *)(uintptr_t)&scenarios[i] };
	return cmocka_run_group_tests_name("each operation fails once", sweeps, NULL, NULL);
}
