/* SPDX-License-Identifier: MIT */
/*
 * The core under thousands of schedules of simulated CPUs: per-CPU lists against drains, claims against
 * allocations and frees, migration against frees and pins. A schedule that fails prints its seed,
 * and BERTH_SIM_SEED=n repeats exactly that one (see testsim.h).
 */
#include "testsim.h"

/* Frames go in and out of per-CPU lists while a drainer empties them. */
static void test_lists_against_drains(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 2, .nr_ops = 40, .nr_drains = 6 }, NULL,
		      2500);
}

/* The same with blocks of the orders that lists cache. */
static void test_blocks_against_drains(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 2,
					      .nr_ops = 40,
					      .max_order = 2,
					      .nr_drains = 6 },
		      NULL, 1500);
}

/* Blocks that their owner frees while claims of ranges cut them. Often such a claim finds no place to
 * move to, and leaves the pieces where they are. */
static void test_blocks_against_claims_that_cut(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 3,
					      .nr_ops = 40,
					      .max_order = 2,
					      .movable = true,
					      .nr_ranges = 8,
					      .ballast = ZONE_PAGES - 2 * AREA_PAGES - 8 },
		      NULL, 2500);
}

/* A run that comes and goes. */
static void come_and_go(struct worker *k)
{
	worker_alloc(k, 0);
	if (k->runs[0].movable && below(&k->random, 2))
		worker_pin(k, 0);
	worker_free(k, 0);
}

/* A claim of one or two of the four pages where the first worker's run is, or was. */
static void claim_a_part(struct worker *k, berth_pfn_t *pfn)
{
	struct berth_claim_params params = { .nr_pages = 1 + below(&k->random, 2) };
	struct world *w = k->w;
	berth_pfn_t part;
	int ret;

	berth_mutex_lock(&w->lock);
	*pfn = w->table[0] != BERTH_PFN_NONE ? w->table[0] : *pfn;
	berth_mutex_unlock(&w->lock);
	if (*pfn == BERTH_PFN_NONE) {
		berth_sim_yield(w->sim);
		return;
	}
	part = (*pfn & ~(berth_pfn_t)(SLOT_PAGES - 1)) + below(&k->random, SLOT_PAGES - 1);
	ret = berth_alloc_contig_range(w->zone, part, params.nr_pages, &params, NULL);
	if (ret == 0)
		ret = berth_free_contig_range(w->zone, part, params.nr_pages);
	require(w, ret == 0 || may_fail_with(ret), "a claim of a part", (uint64_t)(int64_t)ret, 0);
}

static void one_run_main(void *arg)
{
	struct worker *k = arg;
	berth_pfn_t pfn = BERTH_PFN_NONE;

	for (unsigned i = 0; i < k->nr_ops; i++)
		if (k->id == 0)
			come_and_go(k);
		else
			claim_a_part(k, &pfn);
}

/* An owner that moves nothing: claims have cut its blocks by then. */
static void refuse_to_move(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	(void)ctx;
	for (unsigned i = 0; i < nr_moves; i++)
		moves[i].result = BERTH_MOVE_BUSY;
}

static const struct berth_owner_ops refusing_ops = { .name = "workers", .migrate = refuse_to_move };

/* A block that its owner frees, pinned or not, while a claim cuts it and then can't have it. Tasks seldom change
 * places, since all of a claim must fit between two steps of the owner. */
static void test_a_block_that_is_freed_and_cut(void **state)
{
	const struct berth_sim_params sim = { .weak_memory = true, .switch_one_in = 100 };

	(void)state;
	run_schedules(&(struct world_params){ .ops = &refusing_ops,
					      .worker = one_run_main,
					      .nr_workers = 2,
					      .nr_ops = 20,
					      .max_order = 2,
					      .movable = true },
		      &sim, 6000);
}

/* The first worker looks at frames, the others work. */
static void look_main(void *arg)
{
	struct worker *k = arg;

	if (k->id) {
		worker_main(k);
		return;
	}
	for (unsigned i = 0; i < 8 * k->nr_ops; i++) {
		berth_pfn_t pfn = ZONE_START + below(&k->random, ZONE_PAGES);

		require(k->w, berth_frame_state(k->w->zone, pfn, NULL, NULL) != '-',
			"a frame that is nowhere", pfn, 0);
	}
}

/* Lists tell the frames of blocks apart, and join them, without the lock; who has it finds each frame in a block. */
static void test_frames_are_always_somewhere(void **state)
{
	const struct berth_sim_params sim = { .weak_memory = true };

	(void)state;
	run_schedules(&(struct world_params){ .worker = look_main,
					      .nr_workers = 3,
					      .nr_ops = 60,
					      .nr_drains = 2 },
		      &sim, 2500);
}

/* Lists where each section pays a fence, since the port has no barrier. */
static void test_lists_with_fences(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .port = &berth_sim_port_ops_no_barrier,
					      .nr_workers = 2,
					      .nr_ops = 100,
					      .nr_drains = 60 },
		      NULL, 600);
}

/* The same by tasks that change CPUs whenever they aren't in a section. */
static void test_lists_of_changing_cpus(void **state)
{
	const struct berth_sim_params sim = { .nr_cpus = 4, .weak_memory = true };

	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 3, .nr_ops = 30, .nr_drains = 4 }, &sim,
		      1500);
}

/* Frames are so short that refills, steals and drains of the last ones happen all the time. */
static void test_lists_when_memory_is_short(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 3,
					      .nr_ops = 40,
					      .max_order = 1,
					      .nr_drains = 3,
					      .ballast = ZONE_PAGES - 2 * AREA_PAGES - 12 },
		      NULL, 1000);
}

static void test_claims_against_borrowers(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 2,
					      .nr_ops = 30,
					      .movable = true,
					      .nr_claims = 4 },
		      NULL, 1500);
}

/* Nobody pins anything and there is room: a claim of a whole area can't fail, whatever is cached,
 * freed or allocated meanwhile. */
static void test_claims_that_must_succeed(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 3,
					      .nr_ops = 30,
					      .movable = true,
					      .nr_claims = 4,
					      .must_succeed = true,
					      .prefilled = true },
		      NULL, 2000);
}

/* The same where the lists of the CPUs are used for the first time while they are drained. */
static void test_claims_against_first_uses(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 4,
					      .nr_ops = 3,
					      .movable = true,
					      .nr_claims = 1,
					      .must_succeed = true,
					      .prefilled = true },
		      NULL, 4000);
}

static void test_claims_of_ranges_and_areas(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 2,
					      .nr_ops = 30,
					      .max_order = 2,
					      .movable = true,
					      .nr_drains = 2,
					      .nr_claims = 3,
					      .nr_ranges = 3 },
		      NULL, 1500);
}

static void test_migration_against_frees_and_pins(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 3,
					      .nr_ops = 40,
					      .max_order = 2,
					      .movable = true,
					      .pins = true,
					      .nr_claims = 4,
					      .nr_ranges = 3,
					      .deadline_ns = 300000 },
		      NULL, 1500);
}

/* Destinations are rare: blocks are halved, claims fail half-way and are undone. */
static void test_migration_when_memory_is_short(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 3,
					      .nr_ops = 40,
					      .max_order = 2,
					      .movable = true,
					      .pins = true,
					      .nr_claims = 3,
					      .nr_ranges = 2,
					      .ballast = ZONE_PAGES - 2 * AREA_PAGES - 8 },
		      NULL, 1000);
}

static void test_claims_with_changing_cpus(void **state)
{
	const struct berth_sim_params sim = { .nr_cpus = 5, .weak_memory = true };

	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 2,
					      .nr_ops = 30,
					      .max_order = 1,
					      .movable = true,
					      .pins = true,
					      .nr_claims = 3,
					      .nr_ranges = 2 },
		      &sim, 1000);
}

/* Three claimers of one area of four pageblocks, with claims of up to two: they meet in ranges and
 * pageblocks all the time. */
static void test_claims_of_one_area_at_once(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 2,
					      .nr_ops = 20,
					      .max_order = 2,
					      .movable = true,
					      .nr_claims = 4,
					      .nr_claimers = 3,
					      .one_area = true },
		      NULL, 1500);
}

/* Claims of whole pageblocks out of one area's stock, and nothing beside them. */
static void run_whole_pageblocks(unsigned nr_claims, unsigned nr_claimers, bool must_succeed,
				 uint64_t asked)
{
	run_schedules(&(struct world_params){ .nr_claims = nr_claims,
					      .nr_claimers = nr_claimers,
					      .one_area = true,
					      .must_succeed = must_succeed,
					      .whole = true },
		      NULL, asked);
}

/* By more than it has room for with all of the time: nobody is in the way but who has one at this moment. */
static void test_whole_pageblocks_at_once(void **state)
{
	(void)state;
	run_whole_pageblocks(6, 3, false, 2500);
}

/* Short runs, after which the summaries must say what is, or be marked: what the last search overlooked
 * nobody mends. */
static void test_whole_pageblocks_and_their_summaries(void **state)
{
	(void)state;
	run_whole_pageblocks(2, 2, false, 8000);
}

/* Three claimers of one pageblock each, and four are there: no claim can fail, wherever the others go
 * meanwhile. */
static void test_whole_pageblocks_that_must_be_had(void **state)
{
	(void)state;
	run_whole_pageblocks(6, 3, true, 2500);
}

/* Borrowers take pageblocks out of the stock and give them back, claims empty others. */
static void test_whole_pageblocks_against_borrowers(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 2,
					      .nr_ops = 30,
					      .max_order = 2,
					      .movable = true,
					      .nr_drains = 2,
					      .nr_ranges = 2,
					      .nr_claims = 5,
					      .nr_claimers = 2,
					      .one_area = true,
					      .whole = true },
		      NULL, 2000);
}

/* What is kept of a claim for the next one is in nobody's way: three have at most a pageblock each, and four are
 * there. */
static void test_pieces_that_must_be_had(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_claims = 8,
					      .nr_claimers = 3,
					      .one_area = true,
					      .must_succeed = true,
					      .pieces = true },
		      NULL, 2500);
}

/* The first worker and the last, whose CPUs share what is kept, by turns: the last has what the first leaves, which isn't
 * laid out as it was at the last turn. Nothing but the word in between orders what they do to it: they look whose turn it
 * is without an atomic, since tasks change places at steps only. */
static void hand_on_main(void *arg)
{
	struct worker *k = arg;
	struct world *w = k->w;
	const struct worker *other = &w->workers[4 - k->id];
	berth_pfn_t pfn;

	for (; k->id % 4 == 0 && k->nr_ops; k->nr_ops--) {
		struct berth_claim_params params = { .nr_pages = k->nr_ops % 2 ? 4 : 8 };

		while (other->nr_ops >= k->nr_ops + (k->id == 0))
			berth_relax();
		require_ret(w, "a claim", berth_cma_alloc(w->areas[0], &params, &pfn, NULL), 0);
		claimed(w, pfn, params.nr_pages);
		require_ret(w, "a release", berth_cma_release(w->areas[0], pfn, params.nr_pages),
			    0);
	}
}

static void test_pieces_that_are_handed_on(void **state)
{
	(void)state;
	run_schedules(
		&(struct world_params){ .worker = hand_on_main, .nr_workers = 5, .nr_ops = 8 },
		NULL, 1000);
}

/* The worker has done one thing more. */
static void end_turn(struct worker *k)
{
	berth_mutex_lock(&k->w->lock);
	k->nr_ops--;
	berth_mutex_unlock(&k->w->lock);
}

/* Until a worker has no more left to do than that. */
static void wait_for(struct world *w, unsigned id, unsigned nr_ops)
{
	bool waits = true;

	while (waits) {
		berth_mutex_lock(&w->lock);
		waits = w->workers[id].nr_ops > nr_ops;
		berth_mutex_unlock(&w->lock);
		if (waits)
			berth_relax();
	}
}

/* One of the two pieces that there is room for. */
static berth_pfn_t claim_piece(struct worker *k)
{
	const struct berth_claim_params params = { .nr_pages = 4,
						   .align_order = 2,
						   .min_pfn = ZONE_START,
						   .max_pfn = ZONE_START + 7 };
	berth_pfn_t pfn = BERTH_PFN_NONE;

	require_ret(k->w, "a claim", berth_cma_alloc(k->w->areas[0], &params, &pfn, NULL), 0);
	claimed(k->w, pfn, params.nr_pages);
	return pfn;
}

static void release_piece(struct worker *k, berth_pfn_t pfn)
{
	require_ret(k->w, "a release", berth_cma_release(k->w->areas[0], pfn, 4), 0);
	end_turn(k);
}

/* Both pieces are kept, each for another CPU. The first has its own again and leaves it, then the second has its own.
 * Meanwhile a third wants one. It can't fail, although it may look for each when that isn't there. */
static void take_turns_main(void *arg)
{
	const struct berth_claim_params rest = { .nr_pages = 8,
						 .min_pfn = ZONE_START + 8,
						 .max_pfn = ZONE_START + 15 };
	struct worker *k = arg;
	struct world *w = k->w;
	berth_pfn_t pfn, filler = BERTH_PFN_NONE;

	if (k->id == 2) { /* so that no search looks at the frames of the pageblock */
		require_ret(w, "a claim", berth_cma_alloc(w->areas[0], &rest, &filler, NULL), 0);
		end_turn(k);
	}
	wait_for(w, 2, 3);
	if (k->id < 2) {
		pfn = claim_piece(k);
		end_turn(k);
		wait_for(w, 1 - k->id, 3);
		release_piece(k, pfn);
	}
	if (k->id != 1)
		wait_for(w, 1, 2);
	if (k->id != 0)
		wait_for(w, 0, k->id == 1 ? 1 : 2);
	pfn = claim_piece(k);
	if (k->id == 1)
		wait_for(w, 2, 2);
	release_piece(k, pfn);
	if (k->id == 2)
		require_ret(w, "a release", berth_cma_release(w->areas[0], filler, 8), 0);
}

static void test_pieces_that_are_left_by_turns(void **state)
{
	(void)state;
	run_schedules(
		&(struct world_params){ .worker = take_turns_main, .nr_workers = 3, .nr_ops = 4 },
		NULL, 2500);
}

static void claim_and_release(struct world *w, uint64_t nr_pages)
{
	const struct berth_claim_params params = { .nr_pages = nr_pages,
						   .align_order = nr_pages < PAGEBLOCK ? 0 : 4 };
	struct berth_cma_stats stats;
	berth_pfn_t pfn;

	require_ret(w, "a claim", berth_cma_alloc(w->areas[0], &params, &pfn, NULL), 0);
	berth_cma_stats(w->areas[0], &stats); /* the summaries are up to date */
	require_ret(w, "a release", berth_cma_release(w->areas[0], pfn, nr_pages), 0);
}

/* One leaves a piece, and then sends it home, while another claims all of the area: who finds nothing kept finds it free.
 * The summaries know it as a claim, and nobody who claims whole pageblocks looks further. */
static void send_home_main(void *arg)
{
	struct worker *k = arg;
	struct world *w = k->w;

	while (k->nr_ops) {
		wait_for(w, 1 - k->id, k->nr_ops - (k->id != 0));
		if (k->id == 0) {
			claim_and_release(w, 4);
			end_turn(k);
			berth_pcp_drain_all(w->zone);
		} else {
			claim_and_release(w, AREA_PAGES);
			claim_and_release(w, PAGEBLOCK); /* the next one isn't where its last was */
			end_turn(k);
		}
	}
}

static void test_pieces_that_are_sent_home_by_two(void **state)
{
	(void)state;
	run_schedules(
		&(struct world_params){ .worker = send_home_main, .nr_workers = 2, .nr_ops = 6 },
		NULL, 1500);
}

/* It is lent like all that is free, and given back by who needs it. */
static void test_pieces_against_borrowers(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 2,
					      .nr_ops = 30,
					      .max_order = 2,
					      .movable = true,
					      .nr_drains = 2,
					      .nr_ranges = 2,
					      .nr_claims = 6,
					      .nr_claimers = 3,
					      .one_area = true,
					      .pieces = true,
					      .ballast = ZONE_PAGES - 2 * AREA_PAGES - 8 },
		      NULL, 1500);
}

/* Single, in bulk and prepared, with cancels, pins, ranges and deadlines. */
static void test_claims_in_all_ways_at_once(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 2,
					      .nr_ops = 20,
					      .max_order = 2,
					      .movable = true,
					      .pins = true,
					      .nr_ranges = 2,
					      .nr_claims = 4,
					      .nr_claimers = 3,
					      .many_ways = true,
					      .deadline_ns = 300000 },
		      NULL, 1500);
}

/* The same when undoing is the rule. */
static void test_claims_in_all_ways_when_memory_is_short(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .nr_workers = 2,
					      .nr_ops = 20,
					      .max_order = 2,
					      .movable = true,
					      .nr_claims = 4,
					      .nr_claimers = 3,
					      .one_area = true,
					      .many_ways = true,
					      .ballast = ZONE_PAGES - 2 * AREA_PAGES - 8 },
		      NULL, 1000);
}

/* Claims that gather, three at a time, while what they gather is freed, pinned and moved by the others. Two of them
 * have a buffer of the zone's, the third does without. */
static void test_claims_that_gather(void **state)
{
	(void)state;
	run_schedules(&(struct world_params){ .ops = &world_gathering_ops,
					      .nr_workers = 3,
					      .nr_ops = 30,
					      .max_order = 1,
					      .movable = true,
					      .pins = true,
					      .nr_ranges = 6,
					      .nr_claims = 6,
					      .nr_claimers = 3,
					      .prefilled = true },
		      NULL, 2500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lists_against_drains),
		cmocka_unit_test(test_blocks_against_drains),
		cmocka_unit_test(test_frames_are_always_somewhere),
		cmocka_unit_test(test_blocks_against_claims_that_cut),
		cmocka_unit_test(test_a_block_that_is_freed_and_cut),
		cmocka_unit_test(test_lists_with_fences),
		cmocka_unit_test(test_lists_of_changing_cpus),
		cmocka_unit_test(test_lists_when_memory_is_short),
		cmocka_unit_test(test_claims_against_borrowers),
		cmocka_unit_test(test_claims_that_must_succeed),
		cmocka_unit_test(test_claims_against_first_uses),
		cmocka_unit_test(test_claims_of_ranges_and_areas),
		cmocka_unit_test(test_migration_against_frees_and_pins),
		cmocka_unit_test(test_migration_when_memory_is_short),
		cmocka_unit_test(test_claims_with_changing_cpus),
		cmocka_unit_test(test_claims_of_one_area_at_once),
		cmocka_unit_test(test_whole_pageblocks_at_once),
		cmocka_unit_test(test_whole_pageblocks_and_their_summaries),
		cmocka_unit_test(test_whole_pageblocks_that_must_be_had),
		cmocka_unit_test(test_whole_pageblocks_against_borrowers),
		cmocka_unit_test(test_pieces_that_must_be_had),
		cmocka_unit_test(test_pieces_that_are_handed_on),
		cmocka_unit_test(test_pieces_that_are_left_by_turns),
		cmocka_unit_test(test_pieces_that_are_sent_home_by_two),
		cmocka_unit_test(test_pieces_against_borrowers),
		cmocka_unit_test(test_claims_in_all_ways_at_once),
		cmocka_unit_test(test_claims_in_all_ways_when_memory_is_short),
		cmocka_unit_test(test_claims_that_gather),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
