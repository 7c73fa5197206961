/* SPDX-License-Identifier: MIT */
/*
 * The failure-injection sweep: a scenario is run once and the calls of each operation of the port are
 * counted. Then it is repeated with the first call failing, the second, and so on, for each operation.
 * Whatever fails, the run must end, every invariant must hold, no page may lose its contents, and no
 * frame may be lost. What has no error to return is made late instead (port/sim/sim.h).
 *
 *	BERTH_SIM_SEED=n   the scenarios' seed
 */
#include "testsim.h"

#define MOST_CALLS 250u /* of one operation; of more, so many spread over all are made to fail */

static uint64_t scenario_seed(uint64_t otherwise)
{
	const char *seed = getenv("BERTH_SIM_SEED");

	return seed ? strtoull(seed, NULL, 0) : otherwise;
}

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
	unsigned flags = below(&u->random, 4) ? 0 : BERTH_MAP_PRIVATE_OK;
	int ret = berth_space_map(u->s->space, u->first + at, nr, (unsigned)below(&u->random, 4),
				  flags);

	if (ret) {
		require(&u->s->w, ret == -BERTH_ENOMEM, "a map", (uint64_t)(int64_t)ret, 0);
		require(&u->s->w, berth_space_is_unmapped(u->s->space, u->first + at, nr),
			"a failed map has left pages", at, nr);
		u->s->nr_errors++;
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

	disarm(w);
	if (result->outcome != BERTH_SIM_DONE) {
		print_failure(w, what, seed, result->value, result->expected);
		return false;
	}
	what = world_problem(w, &where_is, &value, &expected);
	if (!what)
		what = space_problem(s, &where_is);
	for (unsigned i = 0; !what && i < w->params.ballast; i++)
		if (berth_free_pages(w->zone, w->ballast[i]) != 0)
			what = "ballast can't be freed";
	berth_pcp_drain_all(w->zone);
	berth_zone_stats(w->zone, &stats);
	if (!what && stats.free_pages != ZONE_PAGES)
		what = "frames are lost";
	if (what)
		print_failure(w, what, seed, where_is, stats.free_pages);
	return !what;
}

static struct space_world *space_open(void)
{
	struct space_world *s = calloc(1, sizeof(*s));
	struct berth_sim_params params = { .weak_memory = true,
					   .leap_ns = 1000000,
					   .nr_frames = ZONE_PAGES,
					   .start_pfn = ZONE_START,
					   .nr_pages = NR_USERS * USER_PAGES };

	assert_non_null(s);
	assert_int_equal(posix_memalign(&s->memory, 64, berth_space_size()), 0);
	s->w.params = (struct world_params){ .nr_claims = 6, .nr_ranges = 6, .ballast = 60 };
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

/* ---- The sweep ------------------------------------------------------------------------------------ */

struct scenario {
	void (*begin)(void *ctx, uint64_t seed);
	bool (*run)(void *ctx, uint64_t seed);
	void *ctx;
	struct world *w;
	uint64_t nr_runs, nr_failed;
};

static void sweep_op(struct scenario *scenario, enum berth_sim_op op, uint64_t seed, uint64_t calls)
{
	uint64_t stride = calls / nr_seeds(MOST_CALLS) + 1;

	for (uint64_t k = 1; k <= calls; k += stride) {
		scenario->begin(scenario->ctx, seed);
		/* What building has called doesn't count: it must not fail. */
		berth_sim_fail_at(scenario->w->sim, op, k);
		if (!scenario->run(scenario->ctx, seed))
			fail_msg("with call %llu of %s failing", (unsigned long long)k,
				 berth_sim_op_name(op));
		scenario->nr_runs++;
		scenario->nr_failed += berth_sim_nr_failed(scenario->w->sim);
	}
}

/* Every operation in [first, last], every call. */
static void sweep(struct scenario *scenario, enum berth_sim_op first, enum berth_sim_op last,
		  uint64_t seed)
{
	uint64_t calls[BERTH_SIM_NR_OPS];

	scenario->begin(scenario->ctx, seed);
	for (unsigned op = 0; op < BERTH_SIM_NR_OPS; op++)
		calls[op] = berth_sim_calls(scenario->w->sim, (enum berth_sim_op)op);
	assert_true(scenario->run(scenario->ctx, seed));
	for (unsigned op = 0; op < BERTH_SIM_NR_OPS; op++)
		calls[op] = scenario->w->calls[op] - calls[op];
	for (unsigned op = first; op <= (unsigned)last; op++)
		if (op != BERTH_SIM_PANIC)
			sweep_op(scenario, (enum berth_sim_op)op, seed, calls[op]);
	print_message("# %llu runs, %llu failures\n", (unsigned long long)scenario->nr_runs,
		      (unsigned long long)scenario->nr_failed);
	assert_int_equal(scenario->nr_failed, scenario->nr_runs);
}

static void begin_world(void *ctx, uint64_t seed)
{
	world_begin(ctx, seed);
}

static bool run_world(void *ctx, uint64_t seed)
{
	return world_run(ctx, seed, false);
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
	struct scenario scenario = { begin_world, run_world, w, w, 0, 0 };

	sweep(&scenario, BERTH_SIM_NOW, BERTH_SIM_FENCE, scenario_seed(seed));
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
	struct space_world *s = space_open();
	struct scenario scenario = { begin_space, run_space, s, &s->w, 0, 0 };

	(void)state;
	for (uint64_t seed = scenario_seed(1); seed < scenario_seed(1) + 4; seed++)
		sweep(&scenario, BERTH_SIM_FIRST_MMU_OP, BERTH_SIM_END, seed);
	sweep(&scenario, BERTH_SIM_NOW, BERTH_SIM_POISON, scenario_seed(1));
	space_close(s);
}

/* The same scenario without failures, under many schedules. */
static void test_space_schedules(void **state)
{
	struct space_world *s = space_open();
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_core),
		cmocka_unit_test(test_core_without_barrier),
		cmocka_unit_test(test_space_schedules),
		cmocka_unit_test(test_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
