/* SPDX-License-Identifier: MIT */
/*
 * The simulator itself: equal seeds give equal traces, clocks and costs, the memory model's litmus tests
 * (each outcome that C11 allows is seen, none that it forbids), deadlocks, livelocks, scripted failures;
 * and that schedules find a barrier that does nothing.
 */
#include "testsim.h"

/* ---- Litmus tests -------------------------------------------------------------------------------- */

static struct {
	_Atomic uint32_t x, y;
	uint32_t a, b, c, d;
	int store_order, load_order, fence_order;
	bool barrier;
} litmus;

/* Store buffering, as between a section and a drainer. */
static void store_then_load_x(void *arg)
{
	(void)arg;
	atomic_store_explicit(&litmus.x, 1, litmus.store_order);
	if (litmus.fence_order != memory_order_relaxed)
		atomic_thread_fence(litmus.fence_order);
	litmus.a = atomic_load_explicit(&litmus.y, litmus.load_order);
}

static void store_then_load_y(void *arg)
{
	atomic_store_explicit(&litmus.y, 1, litmus.store_order);
	if (litmus.barrier)
		berth_sim_port_ops.barrier_all(arg);
	if (litmus.fence_order != memory_order_relaxed)
		atomic_thread_fence(litmus.fence_order);
	litmus.b = atomic_load_explicit(&litmus.x, litmus.load_order);
}

/* Message passing. */
static void send(void *arg)
{
	(void)arg;
	atomic_store_explicit(&litmus.x, 1, memory_order_relaxed);
	if (litmus.fence_order != memory_order_relaxed)
		atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&litmus.y, 1, litmus.store_order);
}

static void receive(void *arg)
{
	(void)arg;
	litmus.a = atomic_load_explicit(&litmus.y, litmus.load_order);
	if (litmus.fence_order != memory_order_relaxed)
		atomic_thread_fence(memory_order_acquire);
	litmus.b = atomic_load_explicit(&litmus.x, memory_order_relaxed);
}

/* A release sequence: somebody else's read-modify-write in between. */
static void add(void *arg)
{
	(void)arg;
	atomic_fetch_add_explicit(&litmus.y, 1, memory_order_relaxed);
}

static void read_x_twice(void *arg)
{
	(void)arg;
	litmus.a = atomic_load_explicit(&litmus.x, memory_order_relaxed);
	litmus.b = atomic_load_explicit(&litmus.x, memory_order_relaxed);
}

static void write_x(void *arg)
{
	(void)arg;
	atomic_store_explicit(&litmus.x, 1, memory_order_relaxed);
	atomic_store_explicit(&litmus.x, 2, memory_order_relaxed);
}

/* How many of 2000 schedules end with these values of a and b. */
static unsigned outcomes(uint32_t a, uint32_t b, void (*one)(void *), void (*two)(void *),
			 void (*three)(void *))
{
	struct berth_sim_params params = { .weak_memory = true };
	struct berth_sim *sim = berth_sim_create(&params);
	unsigned seen = 0;

	for (uint64_t seed = 1; seed <= 2000; seed++) {
		berth_sim_reset(sim, seed);
		atomic_store(&litmus.x, 0);
		atomic_store(&litmus.y, 0);
		litmus.a = litmus.b = 99;
		berth_sim_spawn(sim, one, sim);
		berth_sim_spawn(sim, two, sim);
		if (three)
			berth_sim_spawn(sim, three, sim);
		assert_int_equal(berth_sim_run(sim)->outcome, BERTH_SIM_DONE);
		seen += litmus.a == a && litmus.b == b;
	}
	berth_sim_destroy(sim);
	return seen;
}

static void set_orders(int store_order, int load_order, int fence_order, bool barrier)
{
	memset(&litmus, 0, sizeof(litmus));
	litmus.store_order = store_order;
	litmus.load_order = load_order;
	litmus.fence_order = fence_order;
	litmus.barrier = barrier;
}

static void test_store_buffering(void **state)
{
	(void)state;
	set_orders(memory_order_relaxed, memory_order_relaxed, memory_order_relaxed, false);
	assert_true(outcomes(0, 0, store_then_load_x, store_then_load_y, NULL) > 0);
	set_orders(memory_order_release, memory_order_acquire, memory_order_relaxed, false);
	assert_true(outcomes(0, 0, store_then_load_x, store_then_load_y, NULL) > 0);
	set_orders(memory_order_relaxed, memory_order_relaxed, memory_order_seq_cst, false);
	assert_int_equal(outcomes(0, 0, store_then_load_x, store_then_load_y, NULL), 0);
	assert_true(outcomes(1, 1, store_then_load_x, store_then_load_y, NULL) > 0);
	set_orders(memory_order_seq_cst, memory_order_seq_cst, memory_order_relaxed, false);
	assert_int_equal(outcomes(0, 0, store_then_load_x, store_then_load_y, NULL), 0);
}

/* One side's barrier for all CPUs is enough for both. */
static void test_barrier_for_all(void **state)
{
	(void)state;
	set_orders(memory_order_relaxed, memory_order_relaxed, memory_order_relaxed, true);
	assert_int_equal(outcomes(0, 0, store_then_load_x, store_then_load_y, NULL), 0);
	assert_true(outcomes(0, 1, store_then_load_x, store_then_load_y, NULL) > 0);
	assert_true(outcomes(1, 0, store_then_load_x, store_then_load_y, NULL) > 0);
}

static void test_message_passing(void **state)
{
	(void)state;
	set_orders(memory_order_relaxed, memory_order_acquire, memory_order_relaxed, false);
	assert_true(outcomes(1, 0, send, receive, NULL) > 0);
	set_orders(memory_order_release, memory_order_relaxed, memory_order_relaxed, false);
	assert_true(outcomes(1, 0, send, receive, NULL) > 0);
	set_orders(memory_order_release, memory_order_acquire, memory_order_relaxed, false);
	assert_int_equal(outcomes(1, 0, send, receive, NULL), 0);
	assert_true(outcomes(1, 1, send, receive, NULL) > 0);
	set_orders(memory_order_relaxed, memory_order_relaxed, memory_order_seq_cst, false);
	assert_int_equal(outcomes(1, 0, send, receive, NULL), 0);
}

static void test_release_sequence(void **state)
{
	(void)state;
	set_orders(memory_order_release, memory_order_acquire, memory_order_relaxed, false);
	/* y == 2 after a store of 1 and an addition: the addition came second. */
	assert_int_equal(outcomes(2, 0, send, receive, add), 0);
	assert_true(outcomes(2, 1, send, receive, add) > 0);
}

/* Values of one location never go backwards. */
static void test_coherence(void **state)
{
	(void)state;
	set_orders(memory_order_relaxed, memory_order_relaxed, memory_order_relaxed, false);
	assert_true(outcomes(1, 2, write_x, read_x_twice, NULL) > 0);
	assert_int_equal(outcomes(2, 1, write_x, read_x_twice, NULL), 0);
	assert_int_equal(outcomes(1, 0, write_x, read_x_twice, NULL), 0);
}

/* ---- Seeds, clock, costs ------------------------------------------------------------------------- */

static const struct world_params busy = { .nr_workers = 2,
					  .nr_ops = 40,
					  .max_order = 2,
					  .movable = true,
					  .pins = true,
					  .nr_drains = 2,
					  .nr_claims = 3,
					  .nr_ranges = 2 };

static void run_seed(struct world *w, uint64_t seed, uint64_t *hash, uint64_t *steps,
		     uint64_t *clock)
{
	world_begin(w, seed);
	assert_true(world_run(w, seed, false));
	*hash = berth_sim_trace_hash(w->sim);
	*steps = berth_sim_steps(w->sim);
	*clock = berth_sim_clock(w->sim);
}

static void test_same_seed_same_trace(void **state)
{
	struct world *w = world_open(&busy, NULL);
	uint64_t hash[3], steps[3], clock[3], last = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		run_seed(w, seed, &hash[0], &steps[0], &clock[0]);
		run_seed(w, seed + 100, &hash[1], &steps[1], &clock[1]);
		run_seed(w, seed, &hash[2], &steps[2], &clock[2]);
		assert_int_equal(hash[0], hash[2]);
		assert_int_equal(steps[0], steps[2]);
		assert_int_equal(clock[0], clock[2]);
		assert_int_not_equal(hash[0], hash[1]);
		assert_int_not_equal(hash[0], last);
		last = hash[0];
	}
	world_close(w);
}

static struct world *costly_world(uint32_t copy_ns)
{
	static struct berth_sim_cost costs[BERTH_SIM_NR_OPS];
	struct berth_sim_params params = { .costs = costs, .switch_one_in = 1000 };

	memset(costs, 0, sizeof(costs));
	costs[BERTH_SIM_LOCK].ns = copy_ns;
	return world_open(&(struct world_params){ .nr_workers = 1, .nr_ops = 40 }, &params);
}

/* The clock is the sum of what was called. */
static void test_costs(void **state)
{
	(void)state;
	for (uint32_t ns = 0; ns < 100; ns += 33) {
		struct world *w = costly_world(ns);

		world_begin(w, 1);
		assert_true(world_run(w, 1, false));
		assert_true(berth_sim_calls(w->sim, BERTH_SIM_LOCK) > 10);
		assert_int_equal(berth_sim_clock(w->sim),
				 1 + ns * berth_sim_calls(w->sim, BERTH_SIM_LOCK));
		world_close(w);
	}
}

/* ---- Runs that go wrong --------------------------------------------------------------------------- */

static berth_lock_t first_lock, second_lock;

static void lock_in_order(void *arg)
{
	(void)arg;
	berth_lock(&first_lock);
	berth_lock(&second_lock);
	berth_unlock(&second_lock);
	berth_unlock(&first_lock);
}

static void lock_backwards(void *arg)
{
	(void)arg;
	berth_lock(&second_lock);
	berth_lock(&first_lock);
	berth_unlock(&first_lock);
	berth_unlock(&second_lock);
}

static void lock_twice(void *arg)
{
	(void)arg;
	berth_lock(&first_lock);
	berth_lock(&first_lock);
}

static void spin(void *arg)
{
	(void)arg;
	while (!atomic_load_explicit(&litmus.x, memory_order_relaxed))
		berth_relax();
}

static enum berth_sim_outcome outcome_of(struct berth_sim *sim, void (*one)(void *),
					 void (*two)(void *))
{
	first_lock = second_lock = (berth_lock_t)BERTH_LOCK_INIT;
	atomic_store(&litmus.x, 0);
	berth_sim_spawn(sim, one, sim);
	if (two)
		berth_sim_spawn(sim, two, sim);
	return berth_sim_run(sim)->outcome;
}

static void test_runs_that_go_wrong(void **state)
{
	struct berth_sim_params params = { .max_steps = 20000 };
	struct berth_sim *sim = berth_sim_create(&params);
	unsigned deadlocks = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 200; seed++) {
		berth_sim_reset(sim, seed);
		deadlocks += outcome_of(sim, lock_in_order, lock_backwards) == BERTH_SIM_DEADLOCK;
		assert_int_equal(outcome_of(sim, lock_in_order, lock_in_order), BERTH_SIM_DONE);
	}
	assert_true(deadlocks > 10 && deadlocks < 190);
	berth_sim_reset(sim, 1);
	assert_int_equal(outcome_of(sim, lock_twice, NULL), BERTH_SIM_FAILED);
	assert_int_equal(outcome_of(sim, spin, NULL), BERTH_SIM_LIVELOCK);
	berth_sim_reset(sim, 1);
	assert_int_equal(outcome_of(sim, spin, write_x), BERTH_SIM_DONE);
	berth_sim_destroy(sim);
}

/* ---- Who holds a spinning lock, or is in a section, doesn't sleep ----------------------------------- */

static berth_mutex_t mutex;

static void take_mutex(struct berth_sim *sim)
{
	(void)sim;
	berth_mutex_lock(&mutex);
	berth_mutex_unlock(&mutex);
}

static void wait_a_moment(struct berth_sim *sim)
{
	berth_sim_port_ops.wait(sim, 1000);
}

static void interrupt_all(struct berth_sim *sim)
{
	berth_sim_port_ops.barrier_all(sim);
}

static void map_a_page(struct berth_sim *sim)
{
	(void)berth_sim_mmu_ops.map(sim, 0, 0, 1);
}

static struct sleeper {
	struct berth_sim *sim;
	void (*sleep)(struct berth_sim *sim);
} sleeper;

static void sleep_freely(void *arg)
{
	(void)arg;
	berth_mutex_lock(&mutex); /* which keeps nobody from sleeping */
	if (sleeper.sleep != take_mutex)
		sleeper.sleep(sleeper.sim);
	berth_mutex_unlock(&mutex);
	berth_lock(&first_lock);
	berth_unlock(&first_lock);
	sleeper.sleep(sleeper.sim);
}

static void sleep_with_lock(void *arg)
{
	(void)arg;
	berth_lock(&first_lock);
	berth_lock(&second_lock);
	berth_unlock(&second_lock);
	sleeper.sleep(sleeper.sim);
	berth_unlock(&first_lock);
}

static void sleep_in_section(void *arg)
{
	(void)arg;
	berth_preempt_disable();
	sleeper.sleep(sleeper.sim);
	berth_preempt_enable();
}

static void end_with_lock(void *arg)
{
	(void)arg;
	berth_lock(&first_lock);
}

static void test_a_sleep_with_a_lock_is_found(void **state)
{
	static void (*const sleeps[])(struct berth_sim *) = { take_mutex, wait_a_moment,
							      interrupt_all, map_a_page,
							      berth_sim_may_sleep };
	struct berth_sim_params params = { .nr_frames = 1, .nr_pages = 1 };
	struct berth_sim *sim = berth_sim_create(&params);

	(void)state;
	for (unsigned i = 0; i < sizeof(sleeps) / sizeof(sleeps[0]); i++) {
		mutex = (berth_mutex_t)BERTH_MUTEX_INIT;
		sleeper = (struct sleeper){ sim, sleeps[i] };
		berth_sim_reset(sim, i);
		assert_int_equal(outcome_of(sim, sleep_with_lock, NULL), BERTH_SIM_FAILED);
		assert_int_equal(outcome_of(sim, sleep_in_section, NULL), BERTH_SIM_FAILED);
		berth_sim_reset(sim, i);
		if (sleeps[i] == map_a_page)
			continue; /* twice is another mistake */
		assert_int_equal(outcome_of(sim, sleep_freely, NULL), BERTH_SIM_DONE);
	}
	assert_int_equal(outcome_of(sim, end_with_lock, NULL), BERTH_SIM_FAILED);
	berth_sim_destroy(sim);
}

/* A panic of the core ends the run and says what it was. */
static void free_a_free_frame(void *arg)
{
	struct world *w = arg;

	berth_page_unfreeze(w->zone, ZONE_START + ZONE_PAGES - 1);
}

static void test_panic_ends_the_run(void **state)
{
	struct world *w = world_open(&(struct world_params){ .nr_workers = 0 }, NULL);
	const struct berth_sim_result *result;

	(void)state;
	world_begin(w, 1);
	berth_sim_spawn(w->sim, free_a_free_frame, w);
	result = berth_sim_run(w->sim);
	assert_int_equal(result->outcome, BERTH_SIM_PANICKED);
	assert_non_null(strstr(result->what, "frame.c"));
	assert_int_equal(result->value, ZONE_START + ZONE_PAGES - 1);
	world_close(w);
}

/* ---- Failures ------------------------------------------------------------------------------------- */

static void test_scripted_failures(void **state)
{
	struct berth_sim_params params = { .leap_ns = 12345, .nr_frames = 8, .nr_pages = 8 };
	struct berth_sim *sim = berth_sim_create(&params);
	const struct berth_mmu_ops *mmu = &berth_sim_mmu_ops;
	uint64_t before;

	(void)state;
	berth_sim_fail_at(sim, BERTH_SIM_MAP, 2);
	assert_int_equal(mmu->map(sim, 0, 0, 1), 0);
	assert_int_equal(mmu->map(sim, 1, 1, 1), -BERTH_ENOMEM);
	assert_int_equal(berth_sim_mapped(sim, 1), BERTH_PFN_NONE);
	assert_int_equal(mmu->map(sim, 1, 1, 1), 0);
	assert_int_equal(berth_sim_mapped(sim, 1), 1);
	assert_int_equal(berth_sim_nr_failed(sim), 1);
	assert_int_equal(berth_sim_calls(sim, BERTH_SIM_MAP), 3);
	berth_sim_fail_at(sim, BERTH_SIM_NOW, 1);
	before = berth_sim_clock(sim);
	assert_true(berth_sim_port_ops.now_ns(sim) >= before + 12345);
	before = berth_sim_clock(sim);
	assert_true(berth_sim_port_ops.now_ns(sim) < before + 12345);
	for (unsigned op = 0; op < BERTH_SIM_NR_OPS; op++)
		assert_non_null(berth_sim_op_name((enum berth_sim_op)op));
	berth_sim_destroy(sim);
}

/* ---- Does it find what it is for? ------------------------------------------------------------------ */

/* With a barrier that does nothing, some schedule of lists against drains goes wrong; repeated by its
 * seed it goes wrong the same way. */
static void test_a_broken_barrier_is_found(void **state)
{
	struct world *w = world_open(
		&(struct world_params){ .nr_workers = 2, .nr_ops = 40, .nr_drains = 6 }, NULL);
	uint64_t seed, hash;

	(void)state;
	for (seed = 1; seed <= 3000; seed++) {
		world_begin(w, seed);
		berth_sim_break_barrier(w->sim);
		if (!world_run(w, seed, true))
			break;
	}
	assert_true(seed <= 3000);
	print_message("# found by seed %llu\n", (unsigned long long)seed);
	hash = berth_sim_trace_hash(w->sim);
	world_begin(w, seed);
	berth_sim_break_barrier(w->sim);
	assert_false(world_run(w, seed, true));
	assert_int_equal(berth_sim_trace_hash(w->sim), hash);
	world_close(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store_buffering),
		cmocka_unit_test(test_barrier_for_all),
		cmocka_unit_test(test_message_passing),
		cmocka_unit_test(test_release_sequence),
		cmocka_unit_test(test_coherence),
		cmocka_unit_test(test_same_seed_same_trace),
		cmocka_unit_test(test_costs),
		cmocka_unit_test(test_runs_that_go_wrong),
		cmocka_unit_test(test_a_sleep_with_a_lock_is_found),
		cmocka_unit_test(test_panic_ends_the_run),
		cmocka_unit_test(test_scripted_failures),
		cmocka_unit_test(test_a_broken_barrier_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
