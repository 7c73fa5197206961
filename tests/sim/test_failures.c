/* SPDX-License-Identifier: MIT */
/*
 * The sweep of failures (sweep.h) over the core, and over spaces: every operation of the port, of its seam and
 * of the machine's mapping fails, or is late, at each place that calls it. Owners, LRU lists and nodes are in
 * test_failures_owners.c, stores, leases and the framework in test_failures_store.c.
 */
#include "sweep.h"

/* ---- A space ------------------------------------------------------------------------------------- */

#define USER_PAGES 48u
#define NR_USERS 2u

struct user {
	struct space_world *s;
	unsigned nr_ops;
	uint64_t first; /* its pages: [first, first + USER_PAGES) */
	uint64_t random;
	bool mapped[USER_PAGES];
	uint64_t value[USER_PAGES];
	uint64_t pin; /* handle */
	uint64_t pin_page, pin_pages;
};

/* Users that map, write, pin and unmap pages of one space while claims move them; and forks. */
struct space_world {
	struct world w; /* its zone and claimers; no workers */
	struct berth_space *space;
	void *memory;
	uint32_t table[NR_USERS * USER_PAGES];
	struct user users[NR_USERS];
	uint64_t nr_errors;
	bool in_child;
	bool is_short; /* of memory: the second area is claimed all the time */
	berth_pfn_t claim;
};

static void user_check(struct user *u, uint64_t i)
{
	uint64_t value = berth_sim_read(u->s->w.sim, u->first + i);

	require(&u->s->w, value == u->value[i], "a page of the space reads wrong", value,
		u->value[i]);
}

static void user_write(struct user *u, uint64_t i)
{
	user_check(u, i);
	u->value[i] = next_random(&u->random);
	berth_sim_write(u->s->w.sim, u->first + i, u->value[i]);
}

/* A part of the user's pages that are all mapped, or all unmapped; its length, 0: none here. */
static uint64_t pick_part(struct user *u, uint64_t *at)
{
	uint64_t most = 1 + below(&u->random, 8), nr = 0;

	*at = below(&u->random, USER_PAGES);
	while (nr < most && *at + nr < USER_PAGES && u->mapped[*at + nr] == u->mapped[*at])
		nr++;
	return nr;
}

static void user_map(struct user *u, uint64_t at, uint64_t nr)
{
	bool outside = u->s->is_short && below(&u->random, 4) == 0; /* by request */
	unsigned flags = outside              ? BERTH_MAP_PRIVATE_OK | BERTH_MAP_PRIVATE_ONLY :
			 below(&u->random, 4) ? 0u :
						BERTH_MAP_PRIVATE_OK;
	int ret = berth_space_map(u->s->space, u->first + at, nr, (unsigned)below(&u->random, 4),
				  flags);

	if (ret) {
		require(&u->s->w, ret == -BERTH_ENOMEM, "a map", (uint64_t)(int64_t)ret, 0);
		u->s->nr_errors++;
		if (berth_space_is_unmapped(u->s->space, u->first + at, nr))
			return;
		/* There was no memory, and then the undo has failed. */
		require(&u->s->w, berth_sim_nr_failed(u->s->w.sim) == 1, "a map has left pages", at,
			nr);
		require_ret(&u->s->w, "the undo of a map",
			    berth_space_unmap(u->s->space, u->first + at, nr), 0);
		return;
	}
	for (uint64_t i = at; i < at + nr; i++) {
		u->mapped[i] = true;
		u->value[i] = 0; /* fresh memory */
		user_write(u, i);
	}
}

static void user_unmap(struct user *u, uint64_t at, uint64_t nr)
{
	int ret = berth_space_unmap(u->s->space, u->first + at, nr);

	if (ret) {
		require(&u->s->w, ret == -BERTH_ENOMEM || ret == -BERTH_EBUSY, "an unmap",
			(uint64_t)(int64_t)ret, 0);
		u->s->nr_errors++;
		for (uint64_t i = at; i < at + nr; i++)
			user_check(u, i);
		return;
	}
	for (uint64_t i = at; i < at + nr; i++)
		u->mapped[i] = false;
}

static void user_make_private(struct user *u, uint64_t at, uint64_t nr)
{
	int ret = berth_space_make_private(u->s->space, u->first + at, nr);

	require(&u->s->w, !ret || ret == -BERTH_ENOMEM || ret == -BERTH_EBUSY, "making it private",
		(uint64_t)(int64_t)ret, 0);
	u->s->nr_errors += ret != 0;
	for (uint64_t i = at; i < at + nr; i++)
		user_check(u, i);
}

static void user_pin(struct user *u, uint64_t at, uint64_t nr)
{
	int ret;

	if (u->pin_pages) {
		require_ret(&u->s->w, "an unpin", berth_space_unpin(u->s->space, u->pin), 0);
		u->pin_pages = 0;
		return;
	}
	ret = berth_space_pin(u->s->space, u->first + at, nr, "user", below(&u->random, 2),
			      &u->pin);
	if (!ret) {
		u->pin_page = at;
		u->pin_pages = nr;
		return;
	}
	/* EINVAL: some of it is private. */
	require(&u->s->w, ret == -BERTH_EINVAL || ret == -BERTH_EBUSY || ret == -BERTH_ENOMEM,
		"a pin", (uint64_t)(int64_t)ret, 0);
	u->s->nr_errors++;
}

/* The parent's side: everything stands still and goes on. */
static void user_fork(struct user *u)
{
	int ret = berth_space_fork_prepare(u->s->space, true, UINT64_MAX);

	if (!ret) {
		berth_sim_yield(u->s->w.sim);
		berth_space_fork_parent(u->s->space);
		return;
	}
	require_ret(&u->s->w, "a fork", ret, -BERTH_ENOMEM);
	u->s->nr_errors++;
}

static void user_main(void *arg)
{
	struct user *u = arg;

	for (unsigned op = 0; op < u->nr_ops; op++) {
		uint64_t at, nr = pick_part(u, &at), choice = below(&u->random, 16);

		if (!u->mapped[at])
			user_map(u, at, nr);
		else if (choice < 6)
			for (uint64_t i = at; i < at + nr; i++)
				user_write(u, i);
		else if (choice < 11)
			user_unmap(u, at, nr);
		else if (choice < 13)
			user_pin(u, at, nr);
		else if (choice < 14)
			user_make_private(u, at, nr);
		else if (choice < 15)
			user_fork(u);
		else
			for (uint64_t i = at; i < at + nr; i++)
				user_check(u, i);
	}
}

/* Claimers don't touch the machine's frames, but fill what they got. */
static void space_begin(struct space_world *s, uint64_t seed)
{
	struct world *w = &s->w;
	struct berth_space_params params = {
		.name = "space",
		.nr_pages = NR_USERS * USER_PAGES,
		.mmu = &berth_sim_mmu_ops,
		.mmu_ctx = w->sim,
		.port = &berth_sim_port_ops,
		.port_ctx = w->sim,
		.table = s->table,
	};
	uint64_t random = seed + 1;

	world_begin(w, seed);
	memset(s->table, 0, sizeof(s->table));
	s->nr_errors = 0;
	params.zone = w->zone;
	assert_int_equal(berth_space_init(&s->space, &params, s->memory), 0);
	if (s->is_short) {
		const struct berth_claim_params all = { .nr_pages = AREA_PAGES };

		assert_int_equal(berth_cma_alloc(w->areas[1], &all, &s->claim, NULL), 0);
	}
	for (unsigned i = 0; i < NR_USERS; i++) {
		s->users[i] = (struct user){ .s = s,
					     .nr_ops = 60,
					     .first = i * USER_PAGES,
					     .random = next_random(&random) };
		berth_sim_spawn(w->sim, user_main, &s->users[i]);
	}
}

/* Table, machine, frames and contents agree; then everything is unmapped. */
static const char *space_problem(struct space_world *s, uint64_t *where_is)
{
	struct berth_violation v = { 0 };

	if (!berth_space_check(s->space, &v)) {
		*where_is = v.where;
		return v.what;
	}
	for (unsigned i = 0; i < NR_USERS; i++) {
		struct user *u = &s->users[i];

		if (u->pin_pages && berth_space_unpin(s->space, u->pin) != 0)
			return "a pin can't be undone";
		for (uint64_t at = 0; at < USER_PAGES; at++) {
			uint64_t page = u->first + at;

			*where_is = page;
			if (berth_sim_mapped(s->w.sim, page) != berth_space_lookup(s->space, page))
				return "the machine maps another frame than the table says";
			if (u->mapped[at] != (berth_space_lookup(s->space, page) != BERTH_PFN_NONE))
				return "a page is mapped that shouldn't be, or isn't";
			if (u->mapped[at] && berth_sim_read(s->w.sim, page) != u->value[at])
				return "a page has lost its contents";
		}
	}
	if (berth_space_unmap(s->space, 0, NR_USERS * USER_PAGES) != 0)
		return "the space can't be unmapped";
	return NULL;
}

static bool space_run(struct space_world *s, uint64_t seed)
{
	struct world *w = &s->w;
	const struct berth_sim_result *result = berth_sim_run(w->sim);
	struct berth_zone_stats stats;
	uint64_t where_is = 0, value = 0, expected = 0;
	const char *what = result->what;

	if (result->outcome != BERTH_SIM_DONE) {
		print_failure(w, what, seed, result->value, result->expected);
		return false;
	}
	what = world_problem(w, &where_is, &value, &expected);
	if (!what)
		what = space_problem(s, &where_is);
	if (!what)
		what = free_ballast(w);
	if (!what && s->is_short && berth_cma_release(w->areas[1], s->claim, AREA_PAGES) != 0)
		what = "a claim can't be released";
	if (!what && !world_claims_again(w, seed))
		return false;
	berth_pcp_drain_all(w->zone);
	berth_zone_stats(w->zone, &stats);
	if (!what && stats.free_pages != ZONE_PAGES)
		what = "frames are lost";
	if (what)
		print_failure(w, what, seed, where_is, stats.free_pages);
	return !what;
}

static struct space_world *space_open(unsigned ballast)
{
	struct space_world *s = calloc(1, sizeof(*s));
	struct berth_sim_params params = { .weak_memory = true,
					   .leap_ns = 1000000,
					   .nr_frames = ZONE_PAGES,
					   .start_pfn = ZONE_START,
					   .nr_pages = NR_USERS * USER_PAGES };

	assert_non_null(s);
	assert_int_equal(posix_memalign(&s->memory, 64, berth_space_size()), 0);
	s->w.params = (struct world_params){ .nr_claims = 6, .nr_ranges = 6, .ballast = ballast };
	s->w.sim = berth_sim_create(&params);
	return s;
}

static void space_close(struct space_world *s)
{
	berth_sim_destroy(s->w.sim);
	free(s->w.metadata);
	free(s->memory);
	free(s);
}

/* ---- Sweeps ------------------------------------------------------------------------------------------ */

static void begin_world(void *ctx, uint64_t seed)
{
	world_begin(ctx, seed);
}

static bool run_world(void *ctx, uint64_t seed)
{
	return world_sweep_run(ctx, seed);
}

static void begin_space(void *ctx, uint64_t seed)
{
	space_begin(ctx, seed);
}

static bool run_space(void *ctx, uint64_t seed)
{
	return space_run(ctx, seed);
}

/* The core's operations: clock, barrier, wait, poison, and the seam's locks, sections and atomics. */
static void sweep_core(bool barrier, uint64_t seed)
{
	struct world *w = world_open(
		&(struct world_params){ .port = barrier ? NULL : &berth_sim_port_ops_no_barrier,
					.nr_workers = 2,
					.nr_ops = 40,
					.max_order = 2,
					.movable = true,
					.pins = true,
					.nr_drains = 2,
					.nr_claims = 4,
					.nr_ranges = 4,
					.ballast = 60,
					.deadline_ns = 2000000 },
		NULL);
	struct sweep s = { barrier ? "core" : "core without a barrier",
			   begin_world,
			   run_world,
			   w,
			   w->sim,
			   100,
			   0 };

	sweep_ops(&s, BERTH_SIM_NOW, BERTH_SIM_FENCE, scenario_seed(seed));
	sweep_report(&s);
	world_close(w);
}

static void test_core(void **state)
{
	(void)state;
	sweep_core(true, 7);
}

static void test_core_without_barrier(void **state)
{
	(void)state;
	sweep_core(false, 8);
}

/* The machine's mapping, and the port beneath it. */
static void test_space(void **state)
{
	struct space_world *s = space_open(60);
	struct sweep sweep = { "space", begin_space, run_space, s, s->w.sim, 100, 0 };

	(void)state;
	for (uint64_t seed = scenario_seed(1); seed < scenario_seed(1) + 2; seed++)
		sweep_ops(&sweep, BERTH_SIM_FIRST_MMU_OP, BERTH_SIM_END, seed);
	sweep_ops(&sweep, BERTH_SIM_NOW, BERTH_SIM_FENCE, scenario_seed(2));
	sweep_report(&sweep);
	space_close(s);
}

/* Some of what is mapped is private memory from the beginning. */
static void test_space_when_memory_is_short(void **state)
{
	struct space_world *s = space_open(110);
	struct sweep sweep = {
		"space in little memory", begin_space, run_space, s, s->w.sim, 50, 0
	};

	(void)state;
	s->is_short = true;
	for (uint64_t seed = scenario_seed(5); seed < scenario_seed(5) + 2; seed++)
		sweep_ops(&sweep, BERTH_SIM_FIRST_MMU_OP, BERTH_SIM_END, seed);
	sweep_report(&sweep);
	space_close(s);
}

/* The same scenario without failures, under many schedules. */
static void test_space_schedules(void **state)
{
	struct space_world *s = space_open(60);
	uint64_t claimed = 0;

	(void)state;
	for (uint64_t seed = scenario_seed(1); seed < scenario_seed(1) + nr_seeds(400); seed++) {
		space_begin(s, seed);
		if (!space_run(s, seed))
			fail_msg("seed %llu", (unsigned long long)seed);
		claimed += s->w.nr_claimed;
	}
	print_message("# %llu claims\n", (unsigned long long)claimed);
	space_close(s);
}

/* A process' child, which copies what the space maps and leaves the zone to its parent. */
static void child_main(void *arg)
{
	struct space_world *s = arg;
	struct world *w = &s->w;
	int ret = berth_space_fork_prepare(s->space, true, UINT64_MAX);

	if (ret) {
		require_ret(w, "a fork", ret, -BERTH_ENOMEM);
		s->nr_errors++;
		return;
	}
	ret = berth_space_fork_child(s->space);
	if (ret) { /* the child ends */
		require_ret(w, "a child", ret, -BERTH_ENOMEM);
		s->nr_errors++;
		return;
	}
	s->in_child = true;
	for (unsigned i = 0; i < NR_USERS; i++)
		for (uint64_t at = 0; at < USER_PAGES; at++)
			if (s->users[i].mapped[at])
				user_write(&s->users[i], at);
}

/* The space of a run that has ended is forked: nothing of the child's contents may be missing. */
static bool run_child(void *ctx, uint64_t seed)
{
	struct space_world *s = ctx;
	const struct berth_sim_result *result = berth_sim_run(s->w.sim);

	if (result->outcome != BERTH_SIM_DONE) {
		print_failure(&s->w, result->what, seed, result->value, result->expected);
		return false;
	}
	for (unsigned i = 0; i < NR_USERS && s->in_child; i++)
		for (uint64_t at = 0; at < USER_PAGES; at++) {
			uint64_t page = s->users[i].first + at;
			bool private = berth_sim_mapped(s->w.sim, page) == BERTH_PFN_PRIVATE;

			if (private != s->users[i].mapped[at]) {
				print_failure(&s->w, "a child's page isn't private", seed, page, 0);
				return false;
			}
		}
	/* A fork that failed has left the parent as it was. */
	return s->in_child || s->nr_errors == 1;
}

static void begin_child(void *ctx, uint64_t seed)
{
	struct space_world *s = ctx;

	space_begin(s, seed);
	s->in_child = false;
	if (berth_sim_run(s->w.sim)->outcome != BERTH_SIM_DONE)
		fail_msg("seed %llu: the parent's run", (unsigned long long)seed);
	s->nr_errors = 0;
	berth_sim_spawn(s->w.sim, child_main, s);
}

static void test_space_child(void **state)
{
	struct space_world *s = space_open(60);
	struct sweep sweep = { "child of a fork", begin_child, run_child, s, s->w.sim, 20, 0 };

	(void)state;
	sweep_ops(&sweep, BERTH_SIM_FIRST_MMU_OP, BERTH_SIM_END, scenario_seed(3));
	sweep_report(&sweep);
	space_close(s);
}

/* ---- Large moves ------------------------------------------------------------------------------------- */

#define LARGE_PAGES 512u /* of the space: one block */
#define LARGE_ZONE_PAGES 2048u
#define LARGE_WRITES 400u

/* A large block that moves while two write to it. */
struct large_world {
	struct world w; /* no zone in it */
	struct berth_zone *zone;
	struct berth_space *space;
	void *metadata, *memory;
	uint32_t table[LARGE_PAGES];
	uint64_t value[LARGE_PAGES];
	struct worker writers[2], mover;
	uint64_t nr_moved;
};

/* Each has pages of its own. */
static void large_writer_main(void *arg)
{
	struct worker *k = arg;
	struct large_world *l = (struct large_world *)(void *)k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		uint64_t page = 2 * below(&k->random, LARGE_PAGES / 2) + k->id;
		uint64_t value = berth_sim_read(k->w->sim, page);

		require(k->w, value == l->value[page], "a page reads wrong", value, l->value[page]);
		l->value[page] = next_random(&k->random);
		berth_sim_write(k->w->sim, page, l->value[page]);
	}
}

static void large_mover_main(void *arg)
{
	struct worker *k = arg;
	struct large_world *l = (struct large_world *)(void *)k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		const struct berth_claim_params params = { .nr_pages = LARGE_PAGES };
		berth_pfn_t pfn = berth_space_lookup(l->space, 0);
		int ret = berth_alloc_contig_range(l->zone, pfn, LARGE_PAGES, &params, NULL);

		if (ret) {
			require(k->w, may_fail_with(ret), "a claim", (uint64_t)(int64_t)ret, 0);
			continue;
		}
		l->nr_moved++;
		for (uint64_t f = 0; f < LARGE_PAGES; f++)
			*berth_sim_frame(k->w->sim, pfn + f) = 0xc1a1;
		require_ret(k->w, "a range given back",
			    berth_free_contig_range(l->zone, pfn, LARGE_PAGES), 0);
	}
}

static void begin_large(void *ctx, uint64_t seed)
{
	struct large_world *l = ctx;
	struct berth_zone_params zone = { .name = "large",
					  .start_pfn = ZONE_START,
					  .nr_pages = LARGE_ZONE_PAGES,
					  .max_order = 9,
					  .pageblock_order = 9,
					  .nr_cpus = 4,
					  .port = &berth_sim_port_ops,
					  .port_ctx = l->w.sim };
	struct berth_space_params space = { .name = "space",
					    .nr_pages = LARGE_PAGES,
					    .mmu = &berth_sim_mmu_ops,
					    .mmu_ctx = l->w.sim,
					    .port = &berth_sim_port_ops,
					    .port_ctx = l->w.sim,
					    .table = l->table };
	size_t bytes = berth_zone_metadata_size(&zone);
	uint64_t random = seed;

	berth_sim_reset(l->w.sim, seed);
	if (!l->metadata)
		assert_int_equal(posix_memalign(&l->metadata, 64, bytes), 0);
	assert_int_equal(berth_zone_init(&l->zone, &zone, l->metadata, bytes), 0);
	assert_int_equal(berth_zone_add_memory(l->zone, ZONE_START, LARGE_ZONE_PAGES), 0);
	memset(l->table, 0, sizeof(l->table));
	space.zone = l->zone;
	assert_int_equal(berth_space_init(&l->space, &space, l->memory), 0);
	assert_int_equal(berth_space_map(l->space, 0, LARGE_PAGES, 9, 0), 0);
	for (uint64_t page = 0; page < LARGE_PAGES; page++) {
		l->value[page] = next_random(&random);
		berth_sim_write(l->w.sim, page, l->value[page]);
	}
	for (unsigned i = 0; i < 2; i++)
		(void)add_task(&l->w, &l->writers[i], i, LARGE_WRITES, &random, large_writer_main);
	(void)add_task(&l->w, &l->mover, 0, 3, &random, large_mover_main);
}

static bool run_large(void *ctx, uint64_t seed)
{
	struct large_world *l = ctx;
	const struct berth_sim_result *result = berth_sim_run(l->w.sim);
	uint64_t moved = l->nr_moved;
	struct berth_violation v = { 0 };
	struct berth_zone_stats stats;
	const char *what = result->what;

	if (result->outcome != BERTH_SIM_DONE) {
		print_failure(&l->w, what ? what : "no end", seed, result->value, result->expected);
		return false;
	}
	l->mover.nr_ops = 1;
	large_mover_main(&l->mover); /* a claim works again */
	if (l->nr_moved != moved + 1)
		what = "a claim fails afterwards";
	else if (!berth_space_check(l->space, &v) || !berth_zone_check(l->zone, &v))
		what = v.what;
	for (uint64_t page = 0; page < LARGE_PAGES && !what; page++)
		if (berth_sim_read(l->w.sim, page) != l->value[page])
			what = "a page has lost its contents";
	if (!what && berth_space_unmap(l->space, 0, LARGE_PAGES) != 0)
		what = "the space can't be unmapped";
	berth_pcp_drain_all(l->zone);
	berth_zone_stats(l->zone, &stats);
	if (!what && stats.free_pages != LARGE_ZONE_PAGES)
		what = "frames are lost";
	if (what)
		print_failure(&l->w, what, seed, v.value, v.expected);
	return !what;
}

static void test_large_moves(void **state)
{
	const struct berth_sim_params params = { .weak_memory = true,
						 .leap_ns = 1000000,
						 .nr_frames = LARGE_ZONE_PAGES,
						 .start_pfn = ZONE_START,
						 .nr_pages = LARGE_PAGES };
	struct large_world *l = calloc(1, sizeof(*l));
	struct sweep sweep = { "large moves", begin_large, run_large, l, NULL, 10, 0 };

	(void)state;
	assert_non_null(l);
	assert_int_equal(posix_memalign(&l->memory, 64, berth_space_size()), 0);
	sweep.sim = l->w.sim = berth_sim_create(&params);
	for (uint64_t seed = scenario_seed(1); seed < scenario_seed(1) + 8; seed++)
		sweep_ops(&sweep, BERTH_SIM_FIRST_MMU_OP, BERTH_SIM_END, seed);
	sweep_report(&sweep);
	assert_true(l->nr_moved > 0);
	berth_sim_destroy(l->w.sim);
	free(l->metadata);
	free(l->memory);
	free(l);
}

static void test_everything_failed(void **state)
{
	(void)state;
	sweep_check_members(SWEEP_SPACE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_core),
		cmocka_unit_test(test_core_without_barrier),
		cmocka_unit_test(test_space_schedules),
		cmocka_unit_test(test_space),
		cmocka_unit_test(test_space_when_memory_is_short),
		cmocka_unit_test(test_space_child),
		cmocka_unit_test(test_large_moves),
		cmocka_unit_test(test_everything_failed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
