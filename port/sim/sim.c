/* SPDX-License-Identifier: MIT */
/*
 * Simulated CPUs: tasks, the scheduler, the clock, costs, scripted failures, the trace; the port's
 * operations and the seam's locks on top.
 *
 * I1  One task runs at a time, and another one takes over only in a step of the port: between two
 *     steps everything is atomic.
 * I2  Two tasks are never on one CPU where one of them has disabled preemption.
 * I3  Nothing but the seed decides: no time, address or state of the host gets into a decision or the
 *     trace.
 *
 * A task that changes CPU, and one that takes over a CPU, has seen what its predecessor there has: a
 * context switch is a barrier.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "port/sim/internal.h"

#include <berth_port.h>

#define STACK_BYTES (512u << 10)

/* Address sanitizer must be told of stacks. */
#if defined(__has_feature)
#define SIM_HAS_FEATURE(x) __has_feature(x)
#else
#define SIM_HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || SIM_HAS_FEATURE(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#define SIM_ASAN 1
#else
#define SIM_ASAN 0
#endif

struct berth_sim *berth__sim;

const struct berth_sim_cost berth_sim_default_costs[BERTH_SIM_NR_OPS] = {
	[BERTH_SIM_NOW] = { 25, 0 },
	[BERTH_SIM_BARRIER] = { 3000, 0 }, /* an interrupt to each CPU */
	[BERTH_SIM_WAIT] = { 1000, 0 },    /* and the time waited */
	[BERTH_SIM_POISON] = { 20, 60 },
	[BERTH_SIM_CLEAR] = { 20, 60 },
	[BERTH_SIM_RESTART] = { 3000, 0 },
	[BERTH_SIM_LOCK] = { 20, 0 },
	[BERTH_SIM_UNLOCK] = { 10, 0 },
	[BERTH_SIM_RELAX] = { 40, 0 },
	[BERTH_SIM_PREEMPT] = { 1, 0 },
	[BERTH_SIM_LOAD] = { 1, 0 },
	[BERTH_SIM_STORE] = { 1, 0 },
	[BERTH_SIM_ATOMIC] = { 20, 0 },
	[BERTH_SIM_FENCE] = { 20, 0 },
	[BERTH_SIM_MAP] = { 2000, 100 },
	[BERTH_SIM_MAP_PRIVATE] = { 2000, 500 },
	[BERTH_SIM_MAKE_PRIVATE] = { 3000, 700 },
	[BERTH_SIM_UNMAP] = { 1500, 50 },
	[BERTH_SIM_PROTECT] = { 3000, 20 }, /* other CPUs must forget the old translation */
	[BERTH_SIM_STOP] = { 3000, 15 },
	[BERTH_SIM_WATCH] = { 4000, 20 },
	[BERTH_SIM_LOOK] = { 3000, 5 },
	[BERTH_SIM_HALT] = { 4000, 40 },
	[BERTH_SIM_UNPROTECT] = { 1500, 20 },
	[BERTH_SIM_REMAP] = { 3000, 100 },
	[BERTH_SIM_POPULATE] = { 300, 20 },
	[BERTH_SIM_PREPARE] = { 1000, 200 },
	[BERTH_SIM_COPY] = { 50, 400 }, /* 10 GB/s */
	[BERTH_SIM_COPY_SCATTERED] = { 50, 400 },
	[BERTH_SIM_COPY_PRIVATE] = { 3000, 700 },
	[BERTH_SIM_ZERO] = { 50, 200 },
	[BERTH_SIM_WRITER_WAITS] = { 200, 0 },
	[BERTH_SIM_FORGET_PROTECTION] = { 1000, 0 },
	[BERTH_SIM_KEEP_AWAKE] = { 5000, 0 },
	[BERTH_SIM_BEGIN] = { 200, 0 },
	[BERTH_SIM_END] = { 200, 0 },
};

static const char *const op_names[BERTH_SIM_NR_OPS] = {
	[BERTH_SIM_NOW] = "now",
	[BERTH_SIM_BARRIER] = "barrier",
	[BERTH_SIM_WAIT] = "wait",
	[BERTH_SIM_POISON] = "poison",
	[BERTH_SIM_CLEAR] = "clear",
	[BERTH_SIM_RESTART] = "restart",
	[BERTH_SIM_PANIC] = "panic",
	[BERTH_SIM_LOCK] = "lock",
	[BERTH_SIM_UNLOCK] = "unlock",
	[BERTH_SIM_RELAX] = "relax",
	[BERTH_SIM_PREEMPT] = "preempt",
	[BERTH_SIM_LOAD] = "load",
	[BERTH_SIM_STORE] = "store",
	[BERTH_SIM_ATOMIC] = "atomic",
	[BERTH_SIM_FENCE] = "fence",
	[BERTH_SIM_MAP] = "map",
	[BERTH_SIM_MAP_PRIVATE] = "map_private",
	[BERTH_SIM_MAKE_PRIVATE] = "make_private",
	[BERTH_SIM_UNMAP] = "unmap",
	[BERTH_SIM_PROTECT] = "protect",
	[BERTH_SIM_STOP] = "stop",
	[BERTH_SIM_WATCH] = "watch",
	[BERTH_SIM_LOOK] = "look",
	[BERTH_SIM_HALT] = "halt",
	[BERTH_SIM_UNPROTECT] = "unprotect",
	[BERTH_SIM_REMAP] = "remap",
	[BERTH_SIM_POPULATE] = "populate",
	[BERTH_SIM_PREPARE] = "prepare",
	[BERTH_SIM_COPY] = "copy",
	[BERTH_SIM_COPY_SCATTERED] = "copy_scattered",
	[BERTH_SIM_COPY_PRIVATE] = "copy_private",
	[BERTH_SIM_ZERO] = "zero",
	[BERTH_SIM_WRITER_WAITS] = "writer_waits",
	[BERTH_SIM_FORGET_PROTECTION] = "forget_protection",
	[BERTH_SIM_KEEP_AWAKE] = "keep_awake",
	[BERTH_SIM_BEGIN] = "begin",
	[BERTH_SIM_END] = "end",
};

const char *berth_sim_op_name(enum berth_sim_op op)
{
	return op_names[op];
}

/* ---- Changing places --------------------------------------------------------------------------- */

static void switch_context(ucontext_t *from, ucontext_t *to, const char *stack, bool ends)
{
#if SIM_ASAN
	static const void *main_stack;
	static size_t main_bytes;
	const void *old_stack;
	size_t old_bytes;
	void *fake = NULL;

	__sanitizer_start_switch_fiber(ends ? NULL : &fake, stack ? stack : main_stack,
				       stack ? STACK_BYTES : main_bytes);
	swapcontext(from, to);
	__sanitizer_finish_switch_fiber(fake, &old_stack, &old_bytes);
	if (!main_stack) {
		main_stack = old_stack;
		main_bytes = old_bytes;
	}
#else
	(void)stack;
	(void)ends;
	swapcontext(from, to);
#endif
}

static void task_main(void)
{
	struct berth_sim *sim = berth__sim;
	struct sim_task *task = &sim->tasks[sim->running];

#if SIM_ASAN
	__sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
	task->fn(task->arg);
	if (task->preempt_disabled)
		berth_sim_fail(sim, "a task ended with preemption disabled", task->preempt_disabled,
			       0);
	if (task->nr_locks)
		berth_sim_fail(sim, "a task ended with a lock held", task->nr_locks, 0);
	task->state = SIM_TASK_ENDED;
	berth_sim_yield(sim);
	abort(); /* an ended task isn't chosen again */
}

/* The run is over: back to berth_sim_run(). */
static _Noreturn void end_run(struct berth_sim *sim, enum berth_sim_outcome outcome,
			      const char *what, uint64_t value, uint64_t expected)
{
	struct sim_task *task = &sim->tasks[sim->running];

	sim->result = (struct berth_sim_result){ outcome, what, value, expected, sim->running };
	sim->running = -1;
	switch_context(&task->context, &sim->main_context, NULL, true);
	abort();
}

/* Somebody else keeps this CPU for himself. */
static bool cpu_is_kept(const struct berth_sim *sim, unsigned cpu, unsigned but)
{
	for (unsigned i = 0; i < sim->nr_tasks; i++)
		if (i != but && sim->tasks[i].cpu == cpu && sim->tasks[i].preempt_disabled)
			return true;
	return false;
}

/* A task whose CPU another one keeps goes to one that is free: there are as many as tasks. */
static bool find_cpu(struct berth_sim *sim, unsigned nr)
{
	for (unsigned i = 0; i < sim->nr_cpus; i++) {
		unsigned cpu = (sim->tasks[nr].cpu + i) % sim->nr_cpus;

		if (!cpu_is_kept(sim, cpu, nr)) {
			sim->tasks[nr].cpu = cpu;
			return true;
		}
	}
	return false;
}

/* Wakes sleepers whose time has come, and fills in who can go on. */
static unsigned find_runnable(struct berth_sim *sim, unsigned *tasks)
{
	unsigned nr = 0;

	for (unsigned i = 0; i < sim->nr_tasks; i++) {
		struct sim_task *task = &sim->tasks[i];

		if (task->state == SIM_TASK_SLEEPS && task->wake_ns <= sim->clock_ns)
			task->state = SIM_TASK_READY;
		if (task->state == SIM_TASK_READY && find_cpu(sim, i))
			tasks[nr++] = i;
	}
	return nr;
}

/* Nobody can go on: the clock goes to the next sleeper's time. False: nobody sleeps. */
static bool skip_idle_time(struct berth_sim *sim)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < sim->nr_tasks; i++)
		if (sim->tasks[i].state == SIM_TASK_SLEEPS && sim->tasks[i].wake_ns < next)
			next = sim->tasks[i].wake_ns;
	if (next == UINT64_MAX)
		return false;
	if (sim->clock_ns < next)
		sim->clock_ns = next;
	return true;
}

static bool all_ended(const struct berth_sim *sim)
{
	for (unsigned i = 0; i < sim->nr_tasks; i++)
		if (sim->tasks[i].state != SIM_TASK_ENDED)
			return false;
	return true;
}

/* Who runs next; -1: all have ended. Ends the run where nobody ever can. */
static int choose(struct berth_sim *sim)
{
	unsigned tasks[BERTH_SIM_MAX_TASKS], nr, best;

	while (!(nr = find_runnable(sim, tasks))) {
		if (skip_idle_time(sim))
			continue;
		if (!all_ended(sim))
			end_run(sim, BERTH_SIM_DEADLOCK, "every task waits for another", 0, 0);
		return -1;
	}
	if (!sim->by_priority)
		return (int)tasks[sim_random(sim) % nr];
	best = tasks[0];
	for (unsigned i = 1; i < nr; i++)
		if (sim->tasks[tasks[i]].priority > sim->tasks[best].priority)
			best = tasks[i];
	return (int)best;
}

/* A task that may be moved goes to another CPU now and then. */
static void change_cpu(struct berth_sim *sim, unsigned nr)
{
	struct sim_task *task = &sim->tasks[nr];
	unsigned cpu;

	if (!sim->params.nr_cpus || task->preempt_disabled || !sim_one_in(sim, 4))
		return;
	cpu = (unsigned)(sim_random(sim) % sim->nr_cpus);
	if (!cpu_is_kept(sim, cpu, nr))
		task->cpu = cpu;
}

/* Gives the machine to whoever comes next, until the running task is chosen again. */
static void reschedule(struct berth_sim *sim)
{
	int from = sim->running, to = choose(sim);
	struct sim_task *task = &sim->tasks[from];
	unsigned cpu;

	if (to < 0) {
		sim->result = (struct berth_sim_result){ .outcome = BERTH_SIM_DONE, .task = -1 };
		sim->running = -1;
		switch_context(&task->context, &sim->main_context, NULL, true);
		abort();
	}
	if (to == from && task->preempt_disabled)
		return;
	change_cpu(sim, (unsigned)to);
	cpu = sim->tasks[to].cpu;
	if (sim->last_on[cpu] >= 0 && sim->last_on[cpu] != to)
		berth__sim_memory_follow(sim, sim->last_on[cpu], to);
	sim->last_on[cpu] = to;
	if (to == from)
		return;
	sim->running = to;
	switch_context(&task->context, &sim->tasks[to].context, sim->tasks[to].stack,
		       task->state == SIM_TASK_ENDED);
}

void berth_sim_yield(struct berth_sim *sim)
{
	if (sim->running >= 0)
		reschedule(sim);
}

void berth__sim_block(struct berth_sim *sim, const volatile void *what)
{
	struct sim_task *task = &sim->tasks[sim->running];

	task->state = SIM_TASK_BLOCKED;
	task->waits_for = what;
	reschedule(sim);
}

void berth__sim_wake(struct berth_sim *sim, const volatile void *what)
{
	for (unsigned i = 0; i < sim->nr_tasks; i++)
		if (sim->tasks[i].state == SIM_TASK_BLOCKED && sim->tasks[i].waits_for == what)
			sim->tasks[i].state = SIM_TASK_READY;
}

static void sleep_until(struct berth_sim *sim, uint64_t wake_ns)
{
	struct sim_task *task;

	if (sim->running < 0) {
		if (sim->clock_ns < wake_ns)
			sim->clock_ns = wake_ns;
		return;
	}
	task = &sim->tasks[sim->running];
	task->state = SIM_TASK_SLEEPS;
	task->wake_ns = wake_ns;
	reschedule(sim);
}

void berth__sim_sleep(struct berth_sim *sim, uint64_t ns)
{
	sleep_until(sim, sim->clock_ns + ns);
}

/* ---- Steps --------------------------------------------------------------------------------------- */

static void mix(struct berth_sim *sim, uint64_t word)
{
	sim->hash = (sim->hash ^ word) * 0x100000001b3u;
	sim->hash ^= sim->hash >> 29;
}

static void change_places(struct berth_sim *sim)
{
	if (sim->by_priority) {
		if (sim_one_in(sim, 48))
			sim->tasks[sim->running].priority = --sim->lowest_priority;
		reschedule(sim);
	} else if (sim_one_in(sim, sim->switch_one_in)) {
		reschedule(sim);
	}
}

/* The place is known, or is from now on. */
static void note_site(struct berth_sim *sim, const void *caller, enum berth_sim_op op)
{
	struct sim_sites *sites = &sim->sites;
	uint32_t slot = (uint32_t)((((uintptr_t)caller + op) * 0x9e3779b97f4a7c15u) >> 51);

	while (sites->table[slot].run == sites->run) {
		if (sites->table[slot].caller == (uintptr_t)caller && sites->table[slot].op == op)
			return;
		slot = (slot + 1) % SIM_SITE_SLOTS;
	}
	if (sites->nr[op] == SIM_SITES || sites->nr_all == SIM_SITE_SLOTS / 2)
		berth_sim_fail(sim, "too many places that call", op, sites->nr[op]);
	sites->table[slot].caller = (uintptr_t)caller;
	sites->table[slot].op = op;
	sites->table[slot].run = sites->run;
	sites->nr_all++;
	sites->first_call[op][sites->nr[op]++] = sim->run_calls[op];
}

static void forget_sites(struct berth_sim *sim)
{
	sim->sites.run++;
	sim->sites.nr_all = 0;
	memset(sim->sites.nr, 0, sizeof(sim->sites.nr));
}

bool berth__sim_step_from(struct berth_sim *sim, const void *caller, enum berth_sim_op op,
			  uint64_t where, uint64_t value, uint64_t nr_pages, bool has_error)
{
	bool fails = sim->fail_at[op] && --sim->fail_at[op] == 0;

	if (op == BERTH_SIM_WAIT || op == BERTH_SIM_BARRIER || op == BERTH_SIM_POISON ||
	    op == BERTH_SIM_CLEAR || op == BERTH_SIM_RESTART || op >= BERTH_SIM_FIRST_MMU_OP)
		berth_sim_may_sleep(sim);
	sim->calls[op]++;
	if (sim->running >= 0) {
		sim->run_calls[op]++;
		note_site(sim, caller, op);
	}
	sim->nr_failed += fails;
	if (sim->running >= 0) {
		if (sim->steps >= sim->params.max_steps)
			end_run(sim, BERTH_SIM_LIVELOCK, "the run doesn't end", sim->steps, 0);
		if (fails && !has_error)
			sleep_until(sim, sim->clock_ns + sim->params.leap_ns);
		else
			change_places(sim);
	} else if (fails && !has_error) {
		sim->clock_ns += sim->params.leap_ns;
	}
	sim->clock_ns += sim->costs[op].ns + nr_pages * sim->costs[op].page_ns;
	sim->trace[sim->steps++ % SIM_TRACE] = (struct sim_step){ .clock_ns = sim->clock_ns,
								  .value = value,
								  .where = (uint32_t)where,
								  .op = (uint8_t)op,
								  .task = (int8_t)sim->running };
	mix(sim, (uint64_t)op << 56 | (uint64_t)(sim->running + 1) << 48 | where);
	mix(sim, value);
	mix(sim, sim->clock_ns);
	return fails;
}

uint64_t berth_sim_trace_hash(const struct berth_sim *sim)
{
	return sim->hash;
}

uint64_t berth_sim_steps(const struct berth_sim *sim)
{
	return sim->steps;
}

void berth_sim_print_trace(const struct berth_sim *sim, unsigned nr_steps)
{
	uint64_t nr = nr_steps < SIM_TRACE ? nr_steps : SIM_TRACE;

	if (nr > sim->steps)
		nr = sim->steps;
	for (uint64_t i = sim->steps - nr; i < sim->steps; i++) {
		const struct sim_step *step = &sim->trace[i % SIM_TRACE];

		fprintf(stderr, "%8llu %10llu ns task %2d %-12s at %-6u %#llx\n",
			(unsigned long long)i, (unsigned long long)step->clock_ns, step->task,
			op_names[step->op], step->where, (unsigned long long)step->value);
	}
}

/* ---- The seam ------------------------------------------------------------------------------------ */

static unsigned *locks_held(struct berth_sim *sim)
{
	return sim->running < 0 ? &sim->main_locks : &sim->tasks[sim->running].nr_locks;
}

void berth_sim_may_sleep(struct berth_sim *sim)
{
	if (*locks_held(sim))
		berth_sim_fail(sim, "this may sleep, and a lock is held", *locks_held(sim), 0);
	if (sim->running >= 0 && sim->tasks[sim->running].preempt_disabled)
		berth_sim_fail(sim, "this may sleep, and preemption is disabled",
			       sim->tasks[sim->running].preempt_disabled, 0);
}

SIM_INLINE void lock_word(struct berth_sim *sim, _Atomic uint32_t *word)
{
	uint32_t me = (uint32_t)(sim->running + 1) + 1; /* the main context is 1 */
	uint64_t free = 0;

	(void)berth__sim_step(sim, BERTH_SIM_LOCK, 0, 0, 0, false);
	while (!berth__sim_cas(word, sizeof(*word), &free, me, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED,
			       false)) {
		if (free == me || sim->running < 0)
			berth_sim_fail(sim, "a lock is taken by who holds it, or left locked", free,
				       0);
		berth__sim_block(sim, word);
		free = 0;
	}
}

SIM_INLINE void unlock_word(struct berth_sim *sim, _Atomic uint32_t *word)
{
	uint32_t me = (uint32_t)(sim->running + 1) + 1;

	(void)berth__sim_step(sim, BERTH_SIM_UNLOCK, 0, 0, 0, false);
	if (__atomic_load_n((uint32_t *)word, __ATOMIC_RELAXED) != me)
		berth_sim_fail(sim, "a lock is released by who doesn't hold it",
			       __atomic_load_n((uint32_t *)word, __ATOMIC_RELAXED), me);
	berth__sim_store(word, sizeof(*word), 0, __ATOMIC_RELEASE);
	berth__sim_wake(sim, word);
}

void berth_lock(berth_lock_t *lock)
{
	lock_word(berth__sim, &lock->word);
	++*locks_held(berth__sim);
}

void berth_unlock(berth_lock_t *lock)
{
	unlock_word(berth__sim, &lock->word);
	--*locks_held(berth__sim);
}

void berth_mutex_lock(berth_mutex_t *mutex)
{
	berth_sim_may_sleep(berth__sim);
	lock_word(berth__sim, &mutex->word);
}

void berth_mutex_unlock(berth_mutex_t *mutex)
{
	unlock_word(berth__sim, &mutex->word);
}

unsigned berth_cpu(void)
{
	struct berth_sim *sim = berth__sim;

	return sim->running < 0 ? sim->main_cpu : sim->tasks[sim->running].cpu;
}

void berth_preempt_disable(void)
{
	struct berth_sim *sim = berth__sim;

	(void)berth__sim_step(sim, BERTH_SIM_PREEMPT, 0, 1, 0, false);
	if (sim->running >= 0)
		sim->tasks[sim->running].preempt_disabled++;
}

void berth_preempt_enable(void)
{
	struct berth_sim *sim = berth__sim;

	if (sim->running >= 0 && sim->tasks[sim->running].preempt_disabled-- == 0)
		berth_sim_fail(sim, "preemption is enabled that wasn't disabled", 0, 1);
	(void)berth__sim_step(sim, BERTH_SIM_PREEMPT, 0, 0, 0, false);
}

void berth_relax(void)
{
	struct berth_sim *sim = berth__sim;

	(void)berth__sim_step(sim, BERTH_SIM_RELAX, 0, 0, 0, false);
	if (sim->running < 0)
		return;
	sim->tasks[sim->running].priority = --sim->lowest_priority;
	reschedule(sim);
}

/* ---- The port's operations ----------------------------------------------------------------------- */

static uint64_t sim_now_ns(void *ctx)
{
	struct berth_sim *sim = ctx;

	(void)berth__sim_step(sim, BERTH_SIM_NOW, 0, 0, 0, false);
	return sim->clock_ns;
}

/* Each CPU is interrupted at a time of its own. */
static void interrupt_all(struct berth_sim *sim, bool restart)
{
	int me = sim->running;
	unsigned first;

	berth__sim_memory_fence(sim, me);
	first = (unsigned)(sim_random(sim) % sim->nr_tasks);
	for (unsigned i = 0; i < sim->nr_tasks; i++) {
		unsigned nr = (first + i) % sim->nr_tasks;

		berth__sim_memory_fence(sim, (int)nr);
		sim->tasks[nr].restarts |= restart && sim->tasks[nr].copies;
		change_places(sim);
	}
	berth__sim_memory_fence(sim, me);
}

static void sim_barrier_all(void *ctx)
{
	struct berth_sim *sim = ctx;

	(void)berth__sim_step(sim, BERTH_SIM_BARRIER, 0, 0, 0, false);
	if (sim->running >= 0 && !sim->barrier_broken)
		interrupt_all(sim, false);
}

static bool sim_restart_copies(void *ctx)
{
	struct berth_sim *sim = ctx;

	if (berth__sim_step(sim, BERTH_SIM_RESTART, 0, 0, 0, true) || !sim->params.restarts)
		return false;
	if (sim->running >= 0)
		interrupt_all(sim, true);
	return true;
}

static void sim_wait(void *ctx, uint64_t ns)
{
	struct berth_sim *sim = ctx;

	(void)berth__sim_step(sim, BERTH_SIM_WAIT, 0, ns, 0, false);
	sleep_until(sim, sim->clock_ns + ns);
}

static void sim_panic(void *ctx, const char *what, uint64_t value, uint64_t expected)
{
	struct berth_sim *sim = ctx;

	(void)berth__sim_step(sim, BERTH_SIM_PANIC, 0, value, 0, true);
	if (sim->running >= 0)
		end_run(sim, BERTH_SIM_PANICKED, what, value, expected);
	fprintf(stderr, "panic: %s: value %#llx, expected %#llx\n", what, (unsigned long long)value,
		(unsigned long long)expected);
	abort();
}

static void sim_poison(void *ctx, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct berth_sim *sim = ctx;

	(void)berth__sim_step(sim, BERTH_SIM_POISON, pfn, nr_pages, nr_pages, false);
	for (uint64_t i = 0; i < nr_pages && sim->frames; i++)
		*berth_sim_frame(sim, pfn + i) = 0xdbdbdbdbdbdbdbdbu;
}

static void sim_zero(void *ctx, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct berth_sim *sim = ctx;

	(void)berth__sim_step(sim, BERTH_SIM_CLEAR, pfn, nr_pages, nr_pages, false);
	for (uint64_t i = 0; i < nr_pages && sim->frames; i++)
		*berth_sim_frame(sim, pfn + i) = 0;
}

const struct berth_port_ops berth_sim_port_ops = {
	.now_ns = sim_now_ns,
	.barrier_all = sim_barrier_all,
	.restart_copies = sim_restart_copies,
	.wait = sim_wait,
	.panic = sim_panic,
	.poison = sim_poison,
	.zero = sim_zero,
};

const struct berth_port_ops berth_sim_port_ops_no_barrier = {
	.now_ns = sim_now_ns,
	.wait = sim_wait,
	.panic = sim_panic,
	.poison = sim_poison,
	.zero = sim_zero,
};

/* ---- A simulation -------------------------------------------------------------------------------- */

static void begin_seed(struct berth_sim *sim, uint64_t seed)
{
	static const unsigned chances[] = { 2, 3, 5, 10, 30, 100 };

	sim->params.seed = seed;
	sim->random = seed;
	sim->clock_ns = 1;
	sim->steps = 0;
	sim->hash = 0xcbf29ce484222325u;
	sim->nr_tasks = 0;
	sim->running = -1;
	sim->main_cpu = BERTH_CPU_NONE;
	sim->main_locks = 0;
	sim->nr_failed = 0;
	sim->barrier_broken = false;
	memset(sim->calls, 0, sizeof(sim->calls));
	memset(sim->run_calls, 0, sizeof(sim->run_calls));
	forget_sites(sim);
	memset(sim->fail_at, 0, sizeof(sim->fail_at));
	sim->switch_one_in = sim->params.switch_one_in;
	sim->by_priority = false;
	if (!sim->switch_one_in) {
		sim->by_priority = sim_one_in(sim, 3);
		sim->switch_one_in = chances[sim_random(sim) % 6];
	}
	berth__sim_mmu_reset(sim);
}

struct berth_sim *berth_sim_create(const struct berth_sim_params *params)
{
	struct berth_sim *sim = calloc(1, sizeof(*sim));

	if (!sim || params->nr_cpus > BERTH_SIM_MAX_CPUS)
		abort();
	sim->params = *params;
	if (!sim->params.max_steps)
		sim->params.max_steps = 10000000;
	if (!sim->params.leap_ns)
		sim->params.leap_ns = 10000000000u;
	memcpy(sim->costs, params->costs ? params->costs : berth_sim_default_costs,
	       sizeof(sim->costs));
	berth__sim_memory_init(&sim->memory);
	begin_seed(sim, params->seed);
	berth__sim = sim;
	return sim;
}

void berth_sim_reset(struct berth_sim *sim, uint64_t seed)
{
	begin_seed(sim, seed);
}

void berth_sim_destroy(struct berth_sim *sim)
{
	for (unsigned i = 0; i < BERTH_SIM_MAX_TASKS; i++)
		if (sim->tasks[i].stack)
			munmap(sim->tasks[i].stack, STACK_BYTES);
	berth__sim_memory_free(sim);
	berth__sim_mmu_free(sim);
	free(sim);
	berth__sim = NULL;
}

void berth_sim_spawn(struct berth_sim *sim, void (*fn)(void *arg), void *arg)
{
	struct sim_task *task = &sim->tasks[sim->nr_tasks];

	if (sim->running >= 0 || sim->nr_tasks == BERTH_SIM_MAX_TASKS)
		abort();
	if (!task->stack) {
		task->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		/* The lowest page ends in a fault what grows too deep. */
		if (task->stack == MAP_FAILED || mprotect(task->stack, 4096, PROT_NONE) != 0)
			abort();
	}
	task->fn = fn;
	task->arg = arg;
	task->state = SIM_TASK_READY;
	task->preempt_disabled = task->nr_locks = 0;
	task->copies = task->restarts = false;
	getcontext(&task->context);
	task->context.uc_stack.ss_sp = task->stack;
	task->context.uc_stack.ss_size = STACK_BYTES;
	task->context.uc_link = NULL;
	makecontext(&task->context, task_main, 0);
	sim->nr_tasks++;
}

const struct berth_sim_result *berth_sim_run(struct berth_sim *sim)
{
	if (!sim->nr_tasks || sim->running >= 0)
		abort();
	sim->nr_cpus = sim->params.nr_cpus ? sim->params.nr_cpus : sim->nr_tasks;
	if (sim->nr_cpus < sim->nr_tasks)
		abort();
	for (unsigned i = 0; i < sim->nr_tasks; i++) {
		sim->tasks[i].cpu = i % sim->nr_cpus;
		sim->tasks[i].priority = (unsigned)(sim_random(sim) >> 33) | 1u << 31;
	}
	sim->lowest_priority = 1u << 30;
	for (unsigned i = 0; i < BERTH_SIM_MAX_CPUS; i++)
		sim->last_on[i] = -1;
	berth__sim_memory_begin(sim);
	memset(sim->run_calls, 0, sizeof(sim->run_calls));
	forget_sites(sim);
	sim->running = choose(sim);
	sim->last_on[sim->tasks[sim->running].cpu] = sim->running;
	switch_context(&sim->main_context, &sim->tasks[sim->running].context,
		       sim->tasks[sim->running].stack, false);
	sim->nr_tasks = 0;
	memset(sim->fail_at, 0, sizeof(sim->fail_at));
	return &sim->result;
}

_Noreturn void berth_sim_fail(struct berth_sim *sim, const char *what, uint64_t value,
			      uint64_t expected)
{
	if (sim->running >= 0)
		end_run(sim, BERTH_SIM_FAILED, what, value, expected);
	fprintf(stderr, "simulation: %s: value %#llx, expected %#llx\n", what,
		(unsigned long long)value, (unsigned long long)expected);
	abort();
}

void berth_sim_set_cpu(struct berth_sim *sim, unsigned cpu)
{
	sim->main_cpu = cpu;
}

int berth_sim_task(const struct berth_sim *sim)
{
	return sim->running;
}

uint64_t berth_sim_clock(const struct berth_sim *sim)
{
	return sim->clock_ns;
}

uint64_t berth_sim_calls(const struct berth_sim *sim, enum berth_sim_op op)
{
	return sim->calls[op];
}

void berth_sim_fail_at(struct berth_sim *sim, enum berth_sim_op op, uint64_t n)
{
	sim->fail_at[op] = n;
}

uint64_t berth_sim_run_calls(const struct berth_sim *sim, enum berth_sim_op op)
{
	return sim->run_calls[op];
}

unsigned berth_sim_nr_sites(const struct berth_sim *sim, enum berth_sim_op op)
{
	return sim->sites.nr[op];
}

uint64_t berth_sim_site_call(const struct berth_sim *sim, enum berth_sim_op op, unsigned site)
{
	return sim->sites.first_call[op][site];
}

uint64_t berth_sim_nr_failed(const struct berth_sim *sim)
{
	return sim->nr_failed;
}

void berth_sim_break_barrier(struct berth_sim *sim)
{
	sim->barrier_broken = true;
}
