/* SPDX-License-Identifier: MIT */
/*
 * vm/push.c over the fake machine of testspace.h, to which a child is added: what a fork has closed, and what the
 * child was given. The machine verifies that a page is opened, moved, unmapped or made private only when the child
 * has its contents, that those are of the moment of the fork, and that nothing is pushed twice.
 */
#include "testspace.h"

#define MAX_PAGES (2 * RIG_FRAMES)
#define SWEEP 64u /* what vm/push.c promises for one step */

static struct {
	struct rig *rig;
	bool forking, pushing;
	bool closed[MAX_PAGES];      /* since the fork, for writers */
	bool wanted[MAX_PAGES];      /* mapped at the fork */
	bool given[MAX_PAGES];       /* the child has it */
	uint32_t at_fork[MAX_PAGES]; /* contents */
	uint64_t nr_given, nr_calls, fail_call;
} push;

/* ---- The machine ------------------------------------------------------------------------------ */

static void none_is_closed(uint64_t page, uint64_t nr_pages)
{
	for (uint64_t at = page; at < page + nr_pages; at++)
		assert_false(push.closed[at]);
}

static int push_map(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages)
{
	none_is_closed(page, nr_pages);
	return rig_map(mmu, page, pfn, nr_pages);
}

static int push_unmap(void *mmu, uint64_t page, uint64_t nr_pages)
{
	none_is_closed(page, nr_pages);
	return rig_unmap(mmu, page, nr_pages);
}

static int push_make_private(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages)
{
	none_is_closed(page, nr_pages);
	return rig_make_private(mmu, page, pfn, nr_pages);
}

static int push_protect(void *mmu, uint64_t page, uint64_t nr_pages)
{
	if (!push.forking) {
		none_is_closed(page, nr_pages);
		return rig_protect(mmu, page, nr_pages);
	}
	memset(&push.closed[page], true, nr_pages);
	return 0;
}

static void push_unprotect(void *mmu, uint64_t page, uint64_t nr_pages)
{
	memset(&push.closed[page], false, nr_pages);
	if (push.rig->begun)
		rig_unprotect(mmu, page, nr_pages);
}

static void push_open(void *mmu, uint64_t page, uint64_t nr_pages)
{
	(void)mmu;
	for (uint64_t at = page; at < page + nr_pages; at++)
		assert_true(push.given[at]);
	memset(&push.closed[page], false, nr_pages);
}

static int push_push(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct rig *rig = mmu;

	if (++push.nr_calls == push.fail_call)
		return -BERTH_ENOMEM;
	for (uint64_t i = 0; i < nr_pages; i++) {
		assert_int_equal(rig->pages[page + i].pfn, pfn + i);
		assert_true(push.wanted[page + i]);
		assert_false(push.given[page + i]);
		push.given[page + i] = true;
		assert_int_equal(*rig_word(rig, page + i), push.at_fork[page + i]);
	}
	push.nr_given += nr_pages;
	return 0;
}

static int push_receive(void *mmu, uint64_t page, uint64_t nr_pages)
{
	(void)mmu;
	(void)page;
	(void)nr_pages;
	return 0;
}

/* The pusher wouldn't hear of them: a mover that looks without pause starves who waits for the pusher. */
static bool push_writer_waits(void *mmu)
{
	assert_false(push.pushing);
	return rig_writer_waits(mmu);
}

static struct berth_mmu_ops push_mmu_ops;

static struct rig *push_rig_open(void)
{
	struct rig *rig;

	memset(&push, 0, sizeof(push));
	push_mmu_ops = rig_mmu_ops;
	push_mmu_ops.map = push_map;
	push_mmu_ops.unmap = push_unmap;
	push_mmu_ops.make_private = push_make_private;
	push_mmu_ops.protect = push_protect;
	push_mmu_ops.unprotect = push_unprotect;
	push_mmu_ops.open = push_open;
	push_mmu_ops.push = push_push;
	push_mmu_ops.receive = push_receive;
	push_mmu_ops.writer_waits = push_writer_waits;
	rig = rig_open(.mmu = &push_mmu_ops,
		       .pending = test_zalloc(MAX_PAGES / 64 + 1, sizeof(uint64_t)));
	push.rig = rig;
	return rig;
}

static void push_rig_close(struct rig *rig)
{
	uint64_t *pending = rig->params.pending;

	for (uint64_t i = 0; i <= MAX_PAGES / 64; i++)
		assert_int_equal(pending[i], 0);
	none_is_closed(0, MAX_PAGES);
	rig_close(rig);
	free(pending);
}

static void fork_now(struct rig *rig)
{
	memset(push.wanted, 0, sizeof(push.wanted));
	memset(push.given, 0, sizeof(push.given));
	push.nr_given = 0;
	push.forking = true;
	assert_int_equal(berth_space_fork_prepare(rig->space, true, UINT64_MAX), 0);
	push.forking = false;
	assert_true(berth_space_can_push(rig->space));
	for (uint64_t page = 0; page < MAX_PAGES; page++) {
		push.wanted[page] = rig_is_frame(rig->pages[page].pfn);
		if (push.wanted[page])
			push.at_fork[page] = *rig_word(rig, page);
	}
	push.pushing = true;
	berth_space_push_begin(rig->space);
}

static void push_end(struct rig *rig)
{
	berth_space_push_end(rig->space);
	push.pushing = false;
}

static void child_has_all(void)
{
	for (uint64_t page = 0; page < MAX_PAGES; page++)
		assert_int_equal(push.given[page], push.wanted[page]);
}

/* A thread writes, and waits for the pusher first when it must. */
static void write_page(struct rig *rig, uint64_t page)
{
	if (push.closed[page])
		assert_int_equal(berth_space_push(rig->space, page & ~(uint64_t)15, 16), 0);
	assert_false(push.closed[page]);
	rig_write(rig, page);
}

/* ---- Tests --------------------------------------------------------------------------------------- */

/* Some blocks of a huge page, some scattered pages, a hole. */
static void map_some(struct rig *rig)
{
	rig_map_and_write(rig, 0, 700, 9, 0);
	rig_map_scattered(rig, 700, 40, 0);
	rig_map_and_write(rig, 1024, 512, 9, 0);
}

static void a_sweep_pushes_everything_once(void **state)
{
	struct rig *rig = push_rig_open();
	unsigned steps = 0;
	int more;

	(void)state;
	map_some(rig);
	for (unsigned round = 0; round < 2; round++) {
		fork_now(rig);
		do {
			uint64_t given = push.nr_given, maps = rig->calls[RIG_MAP];

			more = berth_space_push_next(rig->space);
			assert_true(more >= 0);
			/* Nobody waits for longer than one step. */
			assert_true(push.nr_given - given <= SWEEP);
			assert_true(rig->calls[RIG_MAP] - maps <= 1);
			assert_true(++steps < 1000);
		} while (more);
		child_has_all();
		push_end(rig);
		rig_ok(rig);
	}
	push_rig_close(rig);
}

/* When all was asked for already, what is left is mending: one huge page a step. */
static void an_empty_sweep_goes_step_by_step(void **state)
{
	struct rig *rig = push_rig_open();
	int more;

	(void)state;
	rig_map_and_write(rig, 0, 1536, 9, 0);
	fork_now(rig);
	for (uint64_t page = 0; page < 1536; page += 16)
		write_page(rig, page);
	child_has_all();
	rig_forget_calls(rig);
	do {
		uint64_t maps = rig->calls[RIG_MAP];

		more = berth_space_push_next(rig->space);
		assert_true(more >= 0 && rig->calls[RIG_MAP] - maps <= 1);
	} while (more);
	assert_int_equal(rig->calls[RIG_MAP], 3); /* huge mappings again */
	push_end(rig);
	push_rig_close(rig);
}

/* What the child can't be given ends the push with an error, whoever found out; the parent goes on. */
static void a_push_that_fails_is_reported(void **state)
{
	(void)state;
	for (unsigned way = 0; way < 4; way++) {
		struct rig *rig = push_rig_open();

		map_some(rig);
		fork_now(rig);
		push.fail_call = push.nr_calls + 1;
		switch (way) {
		case 0:
			assert_int_equal(berth_space_push_next(rig->space), -BERTH_ENOMEM);
			break;
		case 1:
			assert_int_equal(berth_space_push(rig->space, 16, 16), -BERTH_ENOMEM);
			push.fail_call = push.nr_calls + 1;
			assert_int_equal(berth_space_push_next(rig->space), -BERTH_ENOMEM);
			break;
		case 2: /* an unmap goes on all the same, and the next step tells */
			memset(&push.closed[100], false, 50);
			assert_int_equal(berth_space_unmap(rig->space, 100, 50), 0);
			assert_int_equal(berth_space_push_next(rig->space), -BERTH_ENOMEM);
			break;
		default:
			memset(&push.closed[100], false, 50);
			assert_int_equal(berth_space_make_private(rig->space, 100, 50), 0);
			assert_int_equal(berth_space_push_next(rig->space), -BERTH_ENOMEM);
		}
		push_end(rig);
		none_is_closed(0, MAX_PAGES);
		rig_ok(rig);
		push.fail_call = 0;
		fork_now(rig); /* the next one has nothing of it */
		while (berth_space_push_next(rig->space) > 0)
			;
		child_has_all();
		push_end(rig);
		push_rig_close(rig);
	}
}

static void bad_ranges_are_refused(void **state)
{
	struct rig *rig = push_rig_open();

	(void)state;
	assert_int_equal(berth_space_push(rig->space, 0, 0), -BERTH_EINVAL);
	assert_int_equal(berth_space_push(rig->space, MAX_PAGES, 1), -BERTH_EINVAL);
	assert_int_equal(berth_space_push(rig->space, 0, MAX_PAGES + 1), -BERTH_EINVAL);
	/* Without a fork there is nothing to do. */
	assert_int_equal(berth_space_push(rig->space, 0, MAX_PAGES), 0);
	assert_int_equal(berth_space_push_next(rig->space), 0);
	push_end(rig);
	push_rig_close(rig);
}

/* Threads write wherever it's open while something moves. */
static void write_where_open(struct rig *rig, enum rig_op op)
{
	uint64_t page = test_random_below(&rig->seed, MAX_PAGES);

	(void)op;
	if (!push.closed[page])
		rig_write(rig, page);
}

static void random_step(struct rig *rig, uint64_t *seed)
{
	uint64_t page = test_random_below(seed, 1700), nr = 1 + test_random_below(seed, 80);
	unsigned order = (unsigned)test_random_below(seed, 10);
	uint64_t pin;

	switch (test_random_below(seed, 7)) {
	case 0:
		(void)!berth_space_map(rig->space, page, nr, order, 0);
		break;
	case 1:
		(void)!berth_space_unmap(rig->space, page, nr);
		break;
	case 2:
		(void)!berth_space_make_private(rig->space, page, nr / 4 + 1);
		break;
	case 3:
		(void)!rig_empty_range(rig, RIG_START_PFN + test_random_below(seed, 8) * 128, 128,
				       NULL);
		break;
	case 4:
		if (berth_space_pin(rig->space, page, 1, "pin", nr % 2, &pin) == 0)
			assert_int_equal(berth_space_unpin(rig->space, pin), 0);
		break;
	default:
		for (uint64_t i = 0; i < 8; i++)
			write_page(rig, test_random_below(seed, 1700));
	}
}

static void a_child_gets_the_moment_of_the_fork(void **state)
{
	(void)state;
	for (uint64_t round = 0; round < 60; round++) {
		struct rig *rig = push_rig_open();
		uint64_t seed = round + 1;

		map_some(rig);
		rig->seed = round;
		for (unsigned forks = 0; forks < 4; forks++) {
			fork_now(rig);
			rig->on_op = write_where_open;
			for (unsigned i = 0; i < 30; i++) {
				random_step(rig, &seed);
				if (test_random_below(&seed, 3) == 0)
					assert_true(berth_space_push_next(rig->space) >= 0);
			}
			while (berth_space_push_next(rig->space) > 0)
				random_step(rig, &seed);
			rig->on_op = NULL;
			child_has_all();
			push_end(rig);
			rig_ok(rig);
		}
		push_rig_close(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sweep_pushes_everything_once),
		cmocka_unit_test(an_empty_sweep_goes_step_by_step),
		cmocka_unit_test(a_push_that_fails_is_reported),
		cmocka_unit_test(bad_ranges_are_refused),
		cmocka_unit_test(a_child_gets_the_moment_of_the_fork),
	};

	return cmocka_run_group_tests_name("push", tests, NULL, NULL);
}
