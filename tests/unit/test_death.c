/* SPDX-License-Identifier: MIT */
/*
 * Misuse that must stop the process: each case runs in a child with the Linux port, which has to
 * print what is broken and abort. A process that merely goes on has failed the test.
 */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/internal.h"
#include "port/linux/port_linux.h"
#include "tests/include/testowner.h"

struct death {
	const char *name;
	void (*act)(struct test_zone *tz, struct test_owner *o);
	const char *message; /* part of what it must print */
};

/* Runs in the child; comes back only when nothing stopped it. */
static void child(const struct death *death, int output)
{
	const struct rlimit no_core = { 0, 0 };
	struct berth_zone_params params = { .nr_pages = 4096, .port = berth_port_linux_ops() };
	struct test_zone *tz;
	struct test_owner *o;

	setrlimit(RLIMIT_CORE, &no_core);
	signal(SIGABRT, SIG_DFL);
	dup2(output, STDERR_FILENO);
	tz = test_zone_open(&params);
	o = owner_open(tz, "owner");
	death->act(tz, o);
}

static void must_die(void **state)
{
	const struct death *death = *state;
	char text[4096] = { 0 };
	size_t length = 0;
	ssize_t got;
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		child(death, fds[1]);
		_exit(0);
	}
	close(fds[1]);
	while ((got = read(fds[0], text + length, sizeof(text) - 1 - length)) > 0)
		length += (size_t)got;
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || !strstr(text, death->message))
		fail_msg("%s: status %#x, wanted an abort with '%s', printed: %s", death->name,
			 (unsigned)status, death->message, text);
}

/* ---- Freezing -------------------------------------------------------------------------------- */

static void unfreeze_of_a_block_that_is_not_frozen(struct test_zone *tz, struct test_owner *o)
{
	berth_page_unfreeze(tz->zone, o->table[owner_alloc(o, 2)]);
}

static void unfreeze_of_a_pinned_block(struct test_zone *tz, struct test_owner *o)
{
	berth_pfn_t pfn = o->table[owner_alloc(o, 2)];

	if (berth_page_pin(tz->zone, pfn) == 0)
		berth_page_unfreeze(tz->zone, pfn);
}

static void unfreeze_twice(struct test_zone *tz, struct test_owner *o)
{
	berth_pfn_t pfn = o->table[owner_alloc(o, 0)];

	if (berth_page_freeze(tz->zone, pfn)) {
		berth_page_unfreeze(tz->zone, pfn);
		berth_page_unfreeze(tz->zone, pfn);
	}
}

static void unfreeze_of_a_free_frame(struct test_zone *tz, struct test_owner *o)
{
	(void)o;
	berth_page_unfreeze(tz->zone, 100);
}

static void unfreeze_inside_a_block(struct test_zone *tz, struct test_owner *o)
{
	berth_pfn_t pfn = o->table[owner_alloc(o, 2)];

	if (berth_page_freeze(tz->zone, pfn))
		berth_page_unfreeze(tz->zone, pfn + 1);
}

static void unfreeze_outside_the_zone(struct test_zone *tz, struct test_owner *o)
{
	(void)o;
	berth_page_unfreeze(tz->zone, 5000);
}

/* ---- Moving ---------------------------------------------------------------------------------- */

static void claim_all(struct test_zone *tz, struct test_owner *o, berth_pfn_t start)
{
	struct berth_claim_params params = { .nr_pages = 16 };

	(void)o;
	(void)!berth_alloc_contig_range(tz->zone, start, 16, &params, NULL);
}

static void say_moved(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	(void)ctx;
	for (unsigned i = 0; i < nr_moves; i++)
		moves[i].result = BERTH_MOVE_MOVED;
}

static void owner_that_did_not_freeze(struct test_zone *tz, struct test_owner *o)
{
	uint64_t page = owner_alloc(o, 4);

	o->ops.migrate = say_moved;
	claim_all(tz, o, o->table[page]);
}

static void move_and_unfreeze(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct test_owner *o = ctx;

	test_owner_migrate(o, moves, nr_moves);
	for (unsigned i = 0; i < nr_moves; i++)
		berth_page_unfreeze(o->tz->zone, moves[i].src);
}

static void owner_that_unfroze_a_moved_block(struct test_zone *tz, struct test_owner *o)
{
	uint64_t page = owner_alloc(o, 4);

	o->ops.migrate = move_and_unfreeze;
	claim_all(tz, o, o->table[page]);
}

static void arrive_and_stay(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct test_owner *o = ctx;

	(void)nr_moves;
	berth_move_arrived(o->tz->zone, &moves[0]);
	moves[0].result = BERTH_MOVE_BUSY;
}

static void owner_whose_busy_block_arrived(struct test_zone *tz, struct test_owner *o)
{
	uint64_t page = owner_alloc(o, 4);

	o->ops.migrate = arrive_and_stay;
	claim_all(tz, o, o->table[page]);
}

static void arrive_twice(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct test_owner *o = ctx;

	o->arrives = true;
	test_owner_migrate(o, moves, nr_moves);
	berth_move_arrived(o->tz->zone, &moves[0]);
}

static void owner_whose_block_arrived_twice(struct test_zone *tz, struct test_owner *o)
{
	uint64_t page = owner_alloc(o, 4);

	o->ops.migrate = arrive_twice;
	claim_all(tz, o, o->table[page]);
}

/* ---- References and metadata ----------------------------------------------------------------- */

static void more_pins_than_can_be_counted(struct test_zone *tz, struct test_owner *o)
{
	berth_pfn_t pfn = o->table[owner_alloc(o, 0)];

	for (uint64_t i = 0; i <= UINT32_MAX / BERTH_PIN_BIAS; i++)
		if (berth_page_pin(tz->zone, pfn) != 0)
			return;
}

static void list_that_was_overwritten(struct test_zone *tz, struct test_owner *o)
{
	(void)o;
	zone_exhaust(tz);
	zone_free(tz, 0);
	zone_free(tz, 2);
	zone_free(tz, 4);
	berth__set_tag(&tz->zone->frames[2], BERTH_TAG(BERTH_FRAME_FREE, 1));
	(void)!berth_free_pages(tz->zone, 3);
}

static void counter_that_was_overwritten(struct test_zone *tz, struct test_owner *o)
{
	berth_pfn_t pfn = o->table[owner_alloc(o, 3)];

	atomic_store(&berth__pageblock(tz->zone, (berth_idx_t)pfn)->nr_free, 512);
	(void)!berth_free_pages(tz->zone, pfn);
}

static void claim_that_was_overwritten(struct test_zone *tz, struct test_owner *o)
{
	(void)o;
	claim_all(tz, o, 32);
	berth__set_tag(&tz->zone->frames[32], BERTH_TAG(BERTH_FRAME_CLAIMED, 3) | BERTH_TAG_START);
	(void)!berth_free_contig_range(tz->zone, 32, 16);
}

#define D(fn, message)           \
	{                        \
#fn, fn, message \
	}
static const struct death deaths[] = {
	D(unfreeze_of_a_block_that_is_not_frozen, "frame.c"),
	D(unfreeze_of_a_pinned_block, "frame.c"),
	D(unfreeze_twice, "frame.c"),
	D(unfreeze_of_a_free_frame, "frame.c"),
	D(unfreeze_inside_a_block, "frame.c"),
	D(unfreeze_outside_the_zone, "frame.c"),
	D(owner_that_did_not_freeze, "migrate.c"),
	D(owner_that_unfroze_a_moved_block, "migrate.c"),
	D(owner_whose_busy_block_arrived, "migrate.c"),
	D(owner_whose_block_arrived_twice, "migrate.c"),
	D(more_pins_than_can_be_counted, "frame.c"),
	D(list_that_was_overwritten, "buddy.c"),
	D(counter_that_was_overwritten, "frames/internal.h"),
	D(claim_that_was_overwritten, "broken invariant"),
};

int main(void)
{
	struct CMUnitTest tests[ARRAY_SIZE(deaths)];

	for (size_t i = 0; i < ARRAY_SIZE(deaths); i++)
		tests[i] = (struct CMUnitTest){
			.name = deaths[i].name,
			.test_func = must_die,
			.initial_state = (void *)(uintptr_t)&deaths[i],
		};
	return cmocka_run_group_tests_name("death", tests, NULL, NULL);
}
