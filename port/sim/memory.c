/* SPDX-License-Identifier: MIT */
/*
 * The simulator's memory model: C11's, operationally, by views (after Kang et al., "A promising
 * semantics for relaxed-memory concurrency", POPL 2017, without promises).
 *
 * Each location keeps its last SIM_HISTORY values in the order they were stored. A task's view says for
 * each location how far in that order it has seen; a load may return that value or any later one.
 * A release store carries the storer's view, and an acquire load takes it over. A sequentially consistent
 * fence exchanges views with all fences before it. Read-modify-writes act on the last value, and go on
 * with the release sequence of what they replace.
 *
 * I1  The last value of a location is what is in real memory: whoever looks outside a run sees it.
 * I2  Everything a task can see is allowed by C11. Not everything that C11 allows is seen: a load
 *     never returns what its own thread stores later. A sequentially consistent access counts as one
 *     between two fences, which is a bit stronger than C11.
 * I3  Plain accesses aren't seen at all. They take effect at once; that nothing but locks and orders
 *     of atomics protects them isn't noticed here, but by the thread sanitizer.
 *
 * Complexity: O(1) a relaxed access, O(locations written in this run) an acquire or release.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "port/sim/internal.h"

#include <berth_port.h>

/* ---- Views ------------------------------------------------------------------------------------- */

static void *grow(void *array, size_t bytes)
{
	array = realloc(array, bytes);
	if (!array)
		abort();
	return array;
}

static uint32_t seen(const struct sim_view *view, uint32_t id)
{
	return id < view->nr ? view->times[id] : 0;
}

static void view_reach(struct sim_view *view, uint32_t nr)
{
	if (nr <= view->nr)
		return;
	if (nr > view->room) {
		view->room = 2 * nr + 64;
		view->times = grow(view->times, view->room * sizeof(*view->times));
	}
	memset(view->times + view->nr, 0, (nr - view->nr) * sizeof(*view->times));
	view->nr = nr;
}

static void see(struct sim_view *view, uint32_t id, uint32_t time)
{
	if (!time)
		return;
	view_reach(view, id + 1);
	if (view->times[id] < time)
		view->times[id] = time;
}

static void join(struct sim_view *view, const struct sim_view *other)
{
	const uint32_t *restrict theirs = other->times;
	uint32_t *restrict ours;
	const uint32_t nr = other->nr; /* in a register: the loop is worth being vectorised */

	view_reach(view, nr);
	ours = view->times;
	for (uint32_t i = 0; i < nr; i++)
		ours[i] = ours[i] < theirs[i] ? theirs[i] : ours[i];
}

static void copy_view(struct sim_view *view, const struct sim_view *other)
{
	view->nr = 0;
	view_reach(view, other->nr);
	if (other->nr)
		memcpy(view->times, other->times, other->nr * sizeof(*view->times));
}

/* ---- Real memory ------------------------------------------------------------------------------- */

static uint64_t peek(const volatile void *at, unsigned bytes)
{
	switch (bytes) {
	case 1:
		return __atomic_load_n((const volatile uint8_t *)at, __ATOMIC_RELAXED);
	case 2:
		return __atomic_load_n((const volatile uint16_t *)at, __ATOMIC_RELAXED);
	case 4:
		return __atomic_load_n((const volatile uint32_t *)at, __ATOMIC_RELAXED);
	case 8:
		return __atomic_load_n((const volatile uint64_t *)at, __ATOMIC_RELAXED);
	default:
		abort();
	}
}

static void poke(volatile void *at, unsigned bytes, uint64_t value)
{
	switch (bytes) {
	case 1:
		__atomic_store_n((volatile uint8_t *)at, (uint8_t)value, __ATOMIC_RELAXED);
		break;
	case 2:
		__atomic_store_n((volatile uint16_t *)at, (uint16_t)value, __ATOMIC_RELAXED);
		break;
	case 4:
		__atomic_store_n((volatile uint32_t *)at, (uint32_t)value, __ATOMIC_RELAXED);
		break;
	case 8:
		__atomic_store_n((volatile uint64_t *)at, value, __ATOMIC_RELAXED);
		break;
	default:
		abort();
	}
}

static uint64_t narrow(uint64_t value, unsigned bytes)
{
	return bytes == 8 ? value : value & ((1ull << bytes * 8) - 1);
}

/* ---- Locations --------------------------------------------------------------------------------- */

/* What `at` is in this run. A location appears with one value: what is in memory then. */
static struct sim_location *locate(struct berth_sim *sim, const volatile void *at, unsigned bytes)
{
	struct sim_memory *memory = &sim->memory;
	uintptr_t address = (uintptr_t)at;
	uint32_t slot = (uint32_t)((address * 0x9e3779b97f4a7c15u) >> 50);

	for (;; slot = (slot + 1) % SIM_LOCATIONS) {
		struct sim_location *location = &memory->table[slot];

		if (location->run != memory->run) {
			if (memory->nr_locations == SIM_LOCATIONS / 2)
				berth_sim_fail(sim, "too many atomic objects in one run",
					       memory->nr_locations, 0);
			location->run = memory->run;
			location->address = address;
			location->bytes = bytes;
			location->id = memory->nr_locations++;
			location->nr_values = 1;
			location->values[0].value = peek(at, bytes);
			location->values[0].time = 0;
			location->values[0].view.nr = 0;
			return location;
		}
		if (location->address == address) {
			if (location->bytes != bytes)
				berth_sim_fail(sim, "an atomic object was used with two sizes",
					       bytes, location->bytes);
			if (location->values[location->nr_values - 1].value != peek(at, bytes))
				berth_sim_fail(sim, "an atomic object was written to otherwise",
					       peek(at, bytes),
					       location->values[location->nr_values - 1].value);
			return location;
		}
	}
}

static struct sim_value *last_value(struct sim_location *location)
{
	return &location->values[location->nr_values - 1];
}

/* Appends a value; its view is empty. The oldest is forgotten. */
static struct sim_value *append(struct sim_location *location, volatile void *at, uint64_t value)
{
	uint32_t time = last_value(location)->time + 1;
	struct sim_value *new_value;

	if (location->nr_values == SIM_HISTORY) {
		struct sim_value oldest = location->values[0];

		memmove(&location->values[0], &location->values[1],
			(SIM_HISTORY - 1) * sizeof(oldest));
		location->values[SIM_HISTORY - 1] = oldest; /* for its view's memory */
		location->nr_values--;
	}
	new_value = &location->values[location->nr_values++];
	new_value->value = value;
	new_value->time = time;
	new_value->view.nr = 0;
	poke(at, location->bytes, value);
	return new_value;
}

static struct sim_task_memory *task_memory(struct berth_sim *sim)
{
	return &sim->tasks[sim->running].memory;
}

static bool is_acquire(int order)
{
	return order == __ATOMIC_ACQUIRE || order == __ATOMIC_ACQ_REL ||
	       order == __ATOMIC_SEQ_CST || order == __ATOMIC_CONSUME;
}

static bool is_release(int order)
{
	return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

/* The task has read this value. */
static void take_over(struct sim_task_memory *task, const struct sim_location *location,
		      const struct sim_value *value, int order)
{
	see(&task->current, location->id, value->time);
	see(&task->loaded, location->id, value->time);
	join(is_acquire(order) ? &task->current : &task->loaded, &value->view);
	if (is_acquire(order))
		join(&task->loaded, &value->view);
}

/* The task has stored this value. */
static void give_away(struct sim_task_memory *task, const struct sim_location *location,
		      struct sim_value *value, int order)
{
	see(&task->current, location->id, value->time);
	see(&task->loaded, location->id, value->time);
	join(&value->view, is_release(order) ? &task->current : &task->released);
	see(&value->view, location->id, value->time);
}

static void full_fence(struct berth_sim *sim, struct sim_task_memory *task)
{
	join(&task->current, &task->loaded);
	join(&task->current, &sim->memory.fences);
	copy_view(&sim->memory.fences, &task->current);
	copy_view(&task->released, &task->current);
	copy_view(&task->loaded, &task->current);
}

static bool in_run(void)
{
	return berth__sim && berth__sim->running >= 0;
}

/* ---- What berth_port.h calls -------------------------------------------------------------------- */

static void note(struct berth_sim *sim, const struct sim_location *location, uint64_t value)
{
	sim->trace[(sim->steps - 1) % SIM_TRACE].where = location->id;
	sim->trace[(sim->steps - 1) % SIM_TRACE].value = value;
	sim->hash = (sim->hash ^ location->id ^ value << 20) * 0x100000001b3u;
}

uint64_t berth__sim_load(const volatile void *at, unsigned bytes, int order)
{
	struct berth_sim *sim = berth__sim;
	struct sim_location *location;
	struct sim_value *value;
	uint32_t oldest = 0, time;

	if (!in_run())
		return peek(at, bytes);
	(void)berth__sim_step(sim, BERTH_SIM_LOAD, 0, 0, 0, false);
	location = locate(sim, at, bytes);
	if (order == __ATOMIC_SEQ_CST)
		full_fence(sim, task_memory(sim));
	time = seen(&task_memory(sim)->current, location->id);
	while (oldest < location->nr_values - 1 && location->values[oldest].time < time)
		oldest++;
	value = last_value(location);
	if (sim->params.weak_memory && oldest < location->nr_values - 1 && sim_one_in(sim, 3))
		value = &location->values[oldest + sim_random(sim) % (location->nr_values - oldest)];
	take_over(task_memory(sim), location, value, order);
	note(sim, location, value->value);
	return value->value;
}

static void store_now(struct berth_sim *sim, volatile void *at, unsigned bytes, uint64_t value,
		      int order)
{
	struct sim_location *location = locate(sim, at, bytes);

	value = narrow(value, bytes);
	give_away(task_memory(sim), location, append(location, at, value), order);
	if (order == __ATOMIC_SEQ_CST)
		full_fence(sim, task_memory(sim));
	note(sim, location, value);
}

void berth__sim_store(volatile void *at, unsigned bytes, uint64_t value, int order)
{
	struct berth_sim *sim = berth__sim;

	if (!in_run()) {
		poke(at, bytes, value);
		return;
	}
	(void)berth__sim_step(sim, BERTH_SIM_STORE, 0, 0, 0, false);
	store_now(sim, at, bytes, value, order);
}

static uint64_t apply(enum berth_sim_rmw op, uint64_t old, uint64_t operand)
{
	switch (op) {
	case BERTH_SIM_ADD:
		return old + operand;
	case BERTH_SIM_SUB:
		return old - operand;
	case BERTH_SIM_OR:
		return old | operand;
	case BERTH_SIM_AND:
		return old & operand;
	default:
		return operand;
	}
}

/* Replaces the last value, which the task reads at once. */
static void replace(struct berth_sim *sim, struct sim_location *location, volatile void *at,
		    uint64_t desired, int order)
{
	struct sim_task_memory *task = task_memory(sim);
	struct sim_value *value;

	if (order == __ATOMIC_SEQ_CST)
		full_fence(sim, task);
	take_over(task, location, last_value(location), order);
	value = append(location, at, narrow(desired, location->bytes));
	join(&value->view, &location->values[location->nr_values - 2].view); /* release sequence */
	give_away(task, location, value, order);
	if (order == __ATOMIC_SEQ_CST)
		full_fence(sim, task);
	note(sim, location, value->value);
}

uint64_t berth__sim_rmw(volatile void *at, unsigned bytes, enum berth_sim_rmw op, uint64_t operand,
			int order)
{
	struct berth_sim *sim = berth__sim;
	struct sim_location *location;
	uint64_t old;

	if (!in_run()) {
		old = peek(at, bytes);
		poke(at, bytes, apply(op, old, operand));
		return old;
	}
	(void)berth__sim_step(sim, BERTH_SIM_ATOMIC, 0, 0, 0, false);
	location = locate(sim, at, bytes);
	old = last_value(location)->value;
	replace(sim, location, at, apply(op, old, operand), order);
	return old;
}

bool berth__sim_cas(volatile void *at, unsigned bytes, uint64_t *expected, uint64_t desired,
		    int order, int failure_order, bool weak)
{
	struct berth_sim *sim = berth__sim;
	struct sim_location *location;
	uint64_t old;

	if (!in_run()) {
		old = peek(at, bytes);
		if (old == *expected)
			poke(at, bytes, desired);
		weak = old != *expected;
		*expected = old;
		return !weak;
	}
	(void)berth__sim_step(sim, BERTH_SIM_ATOMIC, 0, 0, 0, false);
	location = locate(sim, at, bytes);
	old = last_value(location)->value;
	if (old == *expected && !(weak && sim_one_in(sim, 16))) {
		replace(sim, location, at, desired, order);
		return true;
	}
	if (failure_order == __ATOMIC_SEQ_CST)
		full_fence(sim, task_memory(sim));
	take_over(task_memory(sim), location, last_value(location), failure_order);
	note(sim, location, old);
	*expected = old;
	return false;
}

void berth__sim_fence(int order)
{
	struct berth_sim *sim = berth__sim;
	struct sim_task_memory *task;

	if (!in_run())
		return;
	(void)berth__sim_step(sim, BERTH_SIM_FENCE, 0, (uint64_t)order, 0, false);
	task = task_memory(sim);
	if (order == __ATOMIC_SEQ_CST) {
		full_fence(sim, task);
		return;
	}
	if (is_acquire(order))
		join(&task->current, &task->loaded);
	if (is_release(order))
		copy_view(&task->released, &task->current);
}

/* ---- Copies that begin anew ---------------------------------------------------------------------- */

bool berth_copy_restarts(void)
{
	return berth__sim->params.restarts;
}

#define PREEMPTED_NS 30000u

/* All of it that a machine does without a look at anything. False: it was told to begin anew, or preempted and so
 * begins anew, and has written nothing since. */
static bool copy_once(struct berth_sim *sim, void *to, const void *from, size_t bytes)
{
	struct sim_task *task = &sim->tasks[sim->running];

	for (size_t i = 0; i < bytes / 8; i++) {
		uint64_t word = berth__sim_load((const uint64_t *)from + i, 8, __ATOMIC_RELAXED);

		(void)berth__sim_step(sim, BERTH_SIM_STORE, 0, 0, 0, false);
		if (sim_one_in(sim, 16)) {
			berth__sim_sleep(sim, PREEMPTED_NS);
			task->restarts = true;
		}
		if (task->restarts)
			return false;
		store_now(sim, (uint64_t *)to + i, 8, word, __ATOMIC_RELAXED);
	}
	return true;
}

bool berth_copy_in(void *to, const void *from, size_t bytes, const _Atomic uint64_t *generation,
		   uint64_t expected)
{
	struct berth_sim *sim = berth__sim;
	struct sim_task *task;
	bool copied = false;

	if (!in_run()) {
		copied = peek(generation, 8) == expected;
		for (size_t i = 0; i < bytes / 8 && copied; i++)
			poke((uint64_t *)to + i, 8, peek((const uint64_t *)from + i, 8));
		return copied;
	}
	task = &sim->tasks[sim->running];
	task->copies = true;
	do {
		task->restarts = false;
		if (berth__sim_load(generation, 8, __ATOMIC_RELAXED) != expected)
			break;
		copied = copy_once(sim, to, from, bytes);
	} while (!copied);
	task->copies = false;
	return copied;
}

/* ---- What sim.c calls --------------------------------------------------------------------------- */

void berth__sim_memory_init(struct sim_memory *memory)
{
	memory->table = calloc(SIM_LOCATIONS, sizeof(*memory->table));
	if (!memory->table)
		abort();
}

static void forget(struct sim_view *view)
{
	free(view->times);
	*view = (struct sim_view){ 0 };
}

void berth__sim_memory_free(struct berth_sim *sim)
{
	for (uint32_t i = 0; i < SIM_LOCATIONS; i++)
		for (uint32_t j = 0; j < SIM_HISTORY; j++)
			forget(&sim->memory.table[i].values[j].view);
	free(sim->memory.table);
	forget(&sim->memory.fences);
	for (unsigned i = 0; i < BERTH_SIM_MAX_TASKS; i++) {
		forget(&sim->tasks[i].memory.current);
		forget(&sim->tasks[i].memory.released);
		forget(&sim->tasks[i].memory.loaded);
	}
}

void berth__sim_memory_begin(struct berth_sim *sim)
{
	sim->memory.run++;
	sim->memory.nr_locations = 0;
	sim->memory.fences.nr = 0;
	for (unsigned i = 0; i < BERTH_SIM_MAX_TASKS; i++) {
		sim->tasks[i].memory.current.nr = 0;
		sim->tasks[i].memory.released.nr = 0;
		sim->tasks[i].memory.loaded.nr = 0;
	}
}

void berth__sim_memory_follow(struct berth_sim *sim, int from, int to)
{
	join(&sim->tasks[to].memory.current, &sim->tasks[from].memory.current);
	join(&sim->tasks[to].memory.loaded, &sim->tasks[from].memory.current);
}

void berth__sim_memory_fence(struct berth_sim *sim, int task)
{
	full_fence(sim, &sim->tasks[task].memory);
}
