/* SPDX-License-Identifier: MIT */
/*
 * Moves of a space's pages over a fake machine: under writers that show up at any moment, refused in the
 * middle, and beside whoever changes the space between the core's look and the move.
 */
#include "tests/include/testspace.h"
#include "vm/internal.h"

#define AREA_PAGES (RIG_FRAMES / 2)
#define WINDOW 8u /* of a zone as small as the rig's: see berth__gather_room() */

/* ---- Moves ----------------------------------------------------------------------------------------- */

static void a_quiet_huge_block_moves_whole(void **state)
{
	struct rig *rig = rig_open();
	berth_pfn_t from, head;

	(void)state;
	rig_map_and_write(rig, 512, 512, 9, 0);
	from = rig_pfn(rig, 512);
	rig_forget_calls(rig);
	assert_int_equal(rig_move_away(rig, 512, 512, NULL), 0);
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
		assert_int_equal(rig_move_away(rig, 512, 512, NULL), 0);
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
	assert_int_equal(rig_move_away(rig, 512, 512, NULL), 0);
	assert_int_equal(rig->nr_remaps, ARRAY_SIZE(expected));
	assert_memory_equal(rig->remaps, expected, sizeof(expected));
	rig_close(rig);
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
		assert_int_equal(rig_move_away(rig, 512, 512, NULL), 0);
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
	rig->on_op = rig_write_always;
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
	assert_int_equal(rig_move_away(rig, 0, 1, &report), -BERTH_EBUSY);
	assert_non_null(strstr(report.blocker_holder, "max_map_count"));
	assert_int_equal(rig_stats(rig).skipped_for_budget, 1);
	assert_int_equal(rig->calls[RIG_PROTECT], 0);
	rig_ok(rig);
	assert_int_equal(berth_space_unmap(rig->space, 2, 1), 0);
	assert_int_equal(rig_move_away(rig, 0, 1, &report), 0);
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
	assert_int_equal(rig_move_away(rig, 512, 512, &report), -BERTH_EBUSY);
	assert_non_null(strstr(report.blocker_holder, "no memory"));
	rig_ok(rig);
	rig_fail(rig, RIG_REMAP, 1);
	assert_int_equal(rig_move_away(rig, 512, 512, &report), -BERTH_EBUSY);
	assert_non_null(strstr(report.blocker_holder, "refused"));
	rig_ok(rig);
	assert_int_equal(rig_move_away(rig, 512, 512, &report), 0);
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
	assert_int_equal(rig_move_away(rig, 512, 1024, &report), -BERTH_EBUSY);
	assert_string_equal(report.blocker_holder, "a transfer");
	assert_int_equal(rig->calls[RIG_PROTECT] + rig->calls[RIG_REMAP] + rig->calls[RIG_COPY], 0);
	rig_ok(rig);
	assert_int_equal(berth_space_pin(rig->space, 512, 8, "device", false, &pin), 0);
	assert_int_equal(berth_space_unpin(rig->space, pin), 0);
	berth_space_wait_for_moves(rig->space); /* nothing is under way */
	gate_holder = NULL;
	gate_asked = 0;
	assert_int_equal(rig_move_away(rig, 512, 1024, &report), 0);
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
		rig->on_op = rig_write_always; /* so that it moves step by step */
		rig->script[1] = 1000;
		rig->script[2] = 1024;
		rig_fail(rig, refused % 2 ? RIG_REMAP : RIG_PROTECT, refused);
		if (rig_move_away(rig, 512, 512, &report) == 0) {
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
		assert_int_equal(rig_move_away(rig, 512, 512, &report), 0);
		rig_close(rig);
	}
}

/* The machine refuses a step, and every operation that would go back. */
static void refuse_for_ever(struct rig *rig, enum rig_op op)
{
	rig_write_always(rig, op);
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
	assert_panics(&rig->tz->port, (void)!rig_move_away(rig, 512, 512, NULL));
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

/* ---- Two movers ----------------------------------------------------------------------------------- */

#define OTHERS AREA_PAGES /* the first page of the second pageblock's */

/* Another thread that moves the second pageblock while the first one moves. It arrives after some groups, waits for
 * its turn, and has it when the first mover waits, if it is one that `comes`. */
struct movers {
	struct rig *rig;
	uint64_t group_ns; /* how long one takes */
	uint64_t arrives;  /* after so many groups of the first mover; 0: never */
	bool comes;
	uint64_t nr_groups; /* of the first mover, until the other one had its turn */
	bool inside, over;  /* the other one moves; has moved */
};

static struct movers movers;

static void count_groups(struct rig *rig, enum rig_op op)
{
	if (op != RIG_END || movers.inside)
		return;
	rig->tz->port.clock_ns += movers.group_ns;
	movers.nr_groups += !movers.over;
	if (movers.nr_groups == movers.arrives && !movers.over)
		atomic_fetch_add(&rig->space->next_movers, 1);
}

static void have_a_turn(void *ctx)
{
	struct rig *rig = ctx;

	if (!movers.comes || movers.over || movers.inside)
		return;
	movers.inside = true;
	atomic_fetch_sub(&rig->space->next_movers, 1);
	assert_int_equal(rig_move_away(rig, OTHERS, AREA_PAGES / 2, NULL), 0);
	movers.inside = false;
	movers.over = true;
}

/* All of an area's two pageblocks are single pages that don't follow each other, so each is a group of its own. */
static struct rig *move_with_another(uint64_t group_ns, uint64_t arrives, bool comes)
{
	struct rig *rig = rig_open();

	for (uint64_t i = 0; i < AREA_PAGES; i++)
		rig_map_and_write(rig, 2 * i, 1, 0, 0);
	movers = (struct movers){ rig, group_ns, arrives, comes, 0, false, false };
	rig->on_op = count_groups;
	rig->tz->port.tick_ns = 0;
	rig->tz->port.nr_waits = rig->tz->port.waited_ns = 0;
	rig->tz->port.on_wait = have_a_turn;
	rig->tz->port.on_wait_ctx = rig;
	assert_int_equal(rig_move_away(rig, 0, AREA_PAGES / 2, NULL), 0);
	rig_ok(rig);
	assert_int_equal(rig_stats(rig).moved_pages, AREA_PAGES / 2 * (1 + movers.over));
	return rig;
}

static void a_mover_keeps_its_turn_for_a_while(void **state)
{
	static const struct {
		uint64_t group_ns, arrives,
			until; /* so many groups before the other one has its turn */
	} cases[] = {
		{ 5000000, 1, 4 }, { 5000000, 3, 4 }, { 5000000, 4, 4 },
		{ 5000000, 6, 6 }, { 7500000, 1, 3 }, { 20000000, 1, 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig *rig = move_with_another(cases[i].group_ns, cases[i].arrives, true);

		assert_true(movers.over);
		assert_int_equal(movers.nr_groups, cases[i].until);
		assert_int_equal(rig->tz->port.nr_waits, 1);
		rig_close(rig);
	}
}

/* Nobody waits for a mover that doesn't come, but for a moment; nor at all while no other wants the turn, or a turn
 * has only begun. */
static void a_mover_does_not_wait_in_vain(void **state)
{
	struct rig *rig = move_with_another(5000000, 0, true);

	(void)state;
	assert_int_equal(rig->tz->port.nr_waits, 0);
	rig_close(rig);
	rig = move_with_another(0, 1, true);
	assert_int_equal(rig->tz->port.nr_waits, 0);
	atomic_fetch_sub(&rig->space->next_movers, 1);
	rig_close(rig);
	rig = move_with_another(5000000, 1, false);
	assert_true(rig->tz->port.nr_waits > 0);
	/* A turn of 20 ms, then at most 1 ms. */
	assert_true(rig->tz->port.waited_ns <= AREA_PAGES / 2 / 4 * 1000000u);
	atomic_fetch_sub(&rig->space->next_movers, 1);
	rig_close(rig);
}

/* The script: counts in script[0] the moments of others' waiting in which CPUs are kept awake, in script[1] the others;
 * somebody writes to page script[3] when moment number script[2] has begun. */
static void write_in_a_moment(struct rig *rig, enum rig_op op)
{
	if (op != RIG_WRITER_WAITS)
		return;
	rig->script[rig->awake ? 0 : 1]++;
	if (rig->script[0] + rig->script[1] == rig->script[2])
		rig_write(rig, rig->script[3]);
}

/* Moves pages [512, 512 + nr), in huge runs if those are large enough. */
static void move_and_write(struct rig *rig, uint64_t nr, uint64_t moment, uint64_t page)
{
	rig_forget_calls(rig);
	rig->script[0] = rig->script[1] = 0;
	rig->script[2] = moment;
	rig->script[3] = page;
	assert_int_equal(rig_move_away(rig, 512, nr, NULL), 0);
	rig_ok(rig);
}

static void cpus_are_kept_awake_for_who_waits(void **state)
{
	struct rig *rig = rig_open();

	(void)state;
	rig->can_watch = true;
	rig_map_and_write(rig, 512, 1024, 9, 0);
	rig->on_op = write_in_a_moment;
	/* Nobody waits. */
	move_and_write(rig, 1024, 0, 0);
	assert_int_equal(rig->calls[RIG_KEEP_AWAKE], 0);
	/* Somebody, for the first of two runs: awake for the second one, and the next time from the beginning. */
	move_and_write(rig, 1024, 1, 600);
	assert_int_equal(rig->calls[RIG_KEEP_AWAKE], 2);
	assert_int_equal(rig->script[0], 1);
	assert_int_equal(rig->script[1], 1);
	move_and_write(rig, 1024, 0, 0);
	assert_int_equal(rig->calls[RIG_KEEP_AWAKE], 2);
	assert_int_equal(rig->script[0], 2);
	assert_int_equal(rig->script[1], 0);
	/* And nobody again. */
	move_and_write(rig, 1024, 0, 0);
	assert_int_equal(rig->calls[RIG_KEEP_AWAKE], 0);
	rig_close(rig);
}

static void small_moves_let_cpus_sleep(void **state)
{
	struct rig *rig = rig_open();

	(void)state;
	rig_map_and_write(rig, 512, 64, 6, 0);
	rig->on_op = write_in_a_moment;
	for (int i = 0; i < 3; i++) {
		move_and_write(rig, 64, 1, 512);
		assert_int_equal(rig->calls[RIG_KEEP_AWAKE], 0);
	}
	assert_true(rig_stats(rig).stalled_runs >= 3);
	rig_close(rig);
}

/* Single pages are copied many at a time, long runs one by one. */
static void scattered_pages_are_copied_together(void **state)
{
	struct rig *rig = rig_open();

	(void)state;
	rig->can_stop = true;
	rig_map_scattered(rig, 512, 100, 0);
	rig_forget_calls(rig);
	assert_int_equal(rig_empty_range(rig, rig_pfn(rig, 512 + 99), 100, NULL), 0);
	rig_ok(rig);
	assert_int_equal(rig->nr_scattered, 100);
	assert_int_equal(rig->calls[RIG_COPY], 0);
	assert_true(rig->calls[RIG_COPY_SCATTERED] <= 100 / WINDOW + 1);
	/* They have come together. */
	rig_forget_calls(rig);
	rig->nr_scattered = 0;
	assert_int_equal(rig_move_away(rig, 512, 8, NULL), 0);
	rig_ok(rig);
	assert_int_equal(rig->nr_scattered, 0);
	assert_int_equal(rig->calls[RIG_COPY], 1);
	rig_close(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
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
		cmocka_unit_test(a_mover_keeps_its_turn_for_a_while),
		cmocka_unit_test(a_mover_does_not_wait_in_vain),
		cmocka_unit_test(cpus_are_kept_awake_for_who_waits),
		cmocka_unit_test(small_moves_let_cpus_sleep),
		cmocka_unit_test(scattered_pages_are_copied_together),
	};

	return cmocka_run_group_tests_name("space, moves", tests, NULL, NULL);
}
