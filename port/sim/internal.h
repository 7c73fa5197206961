/* SPDX-License-Identifier: MIT */
/* The simulator's private header: the simulation, its tasks, and what its files share. */
#ifndef BERTH_PORT_SIM_INTERNAL_H
#define BERTH_PORT_SIM_INTERNAL_H

#include <ucontext.h>

#include "port/sim/sim.h"

/* ---- Memory: locations, values, views (memory.c) ------------------------------------------------- */

/* By location: the time of the oldest value that may still be seen. Missing ones: 0. */
struct sim_view {
	uint32_t *times;
	uint32_t nr, room;
};

struct sim_value {
	uint64_t value;
	uint32_t time;        /* its place in the location's order of values */
	struct sim_view view; /* what whoever acquires it has seen then */
};

#define SIM_HISTORY 4u /* values of a location that can still be seen */

struct sim_location {
	uintptr_t address;
	uint32_t run; /* the run that it belongs to */
	uint32_t id;
	uint32_t bytes;
	uint32_t nr_values;
	struct sim_value values[SIM_HISTORY]; /* the oldest first */
};

struct sim_task_memory {
	struct sim_view current;  /* what it has seen */
	struct sim_view released; /* what a relaxed store gives away: `current` at the last fence */
	struct sim_view loaded;   /* what an acquire fence adds: from relaxed loads */
};

#define SIM_LOCATIONS (1u << 14)

struct sim_memory {
	struct sim_location *table; /* open addressing */
	uint32_t run, nr_locations;
	struct sim_view fences; /* of the sequentially consistent fences */
};

/* ---- Tasks and steps (sim.c) ---------------------------------------------------------------------- */

enum sim_task_state {
	SIM_TASK_READY,
	SIM_TASK_SLEEPS,  /* until `wake_ns` */
	SIM_TASK_BLOCKED, /* until somebody wakes `waits_for` */
	SIM_TASK_ENDED,
};

struct sim_task {
	ucontext_t context;
	char *stack;
	void (*fn)(void *arg);
	void *arg;
	enum sim_task_state state;
	unsigned cpu, preempt_disabled, priority;
	unsigned nr_locks;     /* berth_lock_t held */
	bool copies, restarts; /* inside berth_copy_in(); which must begin anew */
	uint64_t wake_ns;
	const volatile void *waits_for;
	struct sim_task_memory memory;
};

struct sim_step {
	uint64_t clock_ns, value;
	uint32_t where;
	uint8_t op;
	int8_t task;
};
#define SIM_TRACE 4096u

/* Where an operation was called from, by return addresses. They are looked up and nothing else: no decision and no
 * trace has anything of them. */
#define SIM_SITES 1024u /* of an operation */
#define SIM_SITE_SLOTS (1u << 13)

struct sim_sites {
	uint64_t first_call[BERTH_SIM_NR_OPS][SIM_SITES]; /* in the order of appearance */
	unsigned nr[BERTH_SIM_NR_OPS];
	struct {
		uintptr_t caller;
		uint32_t run;
		uint32_t op;
	} table[SIM_SITE_SLOTS]; /* open addressing */
	uint32_t run, nr_all;
};

struct sim_page {
	berth_pfn_t pfn;
	uint64_t private_word;
	bool protected; /* or halted */
	bool watched, written;
};

struct berth_sim {
	struct berth_sim_params params;
	struct berth_sim_cost costs[BERTH_SIM_NR_OPS];
	uint64_t random, clock_ns, steps, hash;
	unsigned switch_one_in; /* of this seed */
	bool by_priority;
	unsigned lowest_priority;
	unsigned nr_tasks, nr_cpus, main_cpu, main_locks;
	int running;                     /* task, or -1 */
	int last_on[BERTH_SIM_MAX_CPUS]; /* the task that ran there last, or -1 */
	ucontext_t main_context;
	struct sim_task tasks[BERTH_SIM_MAX_TASKS];
	struct berth_sim_result result;
	uint64_t calls[BERTH_SIM_NR_OPS], fail_at[BERTH_SIM_NR_OPS], nr_failed;
	uint64_t run_calls[BERTH_SIM_NR_OPS]; /* of the last run */
	bool barrier_broken;
	struct sim_sites sites;
	struct sim_memory memory;
	struct sim_step trace[SIM_TRACE];
	/* mmu.c */
	struct sim_page *pages;
	uint64_t *frames, *mapper; /* by pfn - start_pfn; mapper: page + 1 */
	bool *prepared;
	uint64_t nr_protected;
	bool begun, waits, in_child, awake;
};

extern struct berth_sim *berth__sim;

static inline uint64_t sim_random(struct berth_sim *sim)
{
	/* SplitMix64 (Steele, Lea, Flood 2014). */
	uint64_t z = sim->random += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline bool sim_one_in(struct berth_sim *sim, unsigned n)
{
	return sim_random(sim) % n == 0;
}

/*
 * A step: counts, costs, is traced, and others may run before it takes effect. True when it is to
 * fail; a step that can't is late by then.
 */
bool berth__sim_step_from(struct berth_sim *sim, const void *caller, enum berth_sim_op op,
			  uint64_t where, uint64_t value, uint64_t nr_pages, bool has_error);
/* To be called by the operation itself, or by what is inlined into it: its caller is the site. */
#define berth__sim_step(sim, ...) \
	berth__sim_step_from((sim), __builtin_return_address(0), __VA_ARGS__)
#define SIM_INLINE static inline __attribute__((always_inline))
/* The running task waits until berth__sim_wake(what). */
void berth__sim_block(struct berth_sim *sim, const volatile void *what);
void berth__sim_wake(struct berth_sim *sim, const volatile void *what);
/* The running task is off its CPU for so long. */
void berth__sim_sleep(struct berth_sim *sim, uint64_t ns);

void berth__sim_memory_init(struct sim_memory *memory);
void berth__sim_memory_free(struct berth_sim *sim);
void berth__sim_memory_begin(struct berth_sim *sim); /* a run begins */
/* Task `to` goes on where `from` was: it has seen what that one has. */
void berth__sim_memory_follow(struct berth_sim *sim, int from, int to);
/* A task passes a full barrier. */
void berth__sim_memory_fence(struct berth_sim *sim, int task);

void berth__sim_mmu_reset(struct berth_sim *sim);
void berth__sim_mmu_free(struct berth_sim *sim);

#endif
