/* SPDX-License-Identifier: MIT */
/*
 * The simulator: a machine of a few CPUs on which core and vm run deterministically. Hosted; for tests.
 *
 * Tasks (coroutines) run on simulated CPUs, one at a time, and change places at the steps of the port:
 * a lock, an atomic operation, a per-CPU section, a call of the port or of the machine's mapping. Who goes
 * on is decided by a generator with a seed. So the same seed, parameters and code give the same
 * schedule, the same clock and the same trace; a schedule that fails is repeated by its seed.
 *
 * Time is a counter. Each step advances it by its cost, whichever CPU makes it.
 *
 * Memory: with `weak_memory` a load may return any value that C11 allows, but for those that need
 * a load to see a later store of its own thread (out-of-thin-air and load buffering): each location keeps
 * its last values, each task what it must have seen. See memory.c.
 *
 * Failures: any operation can be made to fail at its n-th call. One that has no error to return is made
 * late instead: all others run first, and the clock leaps, so that deadlines have passed.
 *
 * One simulation at a time in a process: the hot seam finds it in a global.
 */
#ifndef BERTH_PORT_SIM_H
#define BERTH_PORT_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <berth/port.h>
#include <berth/vm.h>

/* What can be counted, cost something and fail. */
enum berth_sim_op {
	/* struct berth_port_ops */
	BERTH_SIM_NOW,
	BERTH_SIM_BARRIER,
	BERTH_SIM_WAIT,
	BERTH_SIM_POISON, /* cost a page too */
	BERTH_SIM_CLEAR,  /* zero(); likewise */
	BERTH_SIM_RESTART,
	BERTH_SIM_PANIC,
	/* The hot seam */
	BERTH_SIM_LOCK,
	BERTH_SIM_UNLOCK,
	BERTH_SIM_RELAX,
	BERTH_SIM_PREEMPT,
	BERTH_SIM_LOAD,
	BERTH_SIM_STORE,
	BERTH_SIM_ATOMIC, /* read-modify-write */
	BERTH_SIM_FENCE,
	/* struct berth_mmu_ops; from MAP to ZERO also by the page */
	BERTH_SIM_MAP,
	BERTH_SIM_MAP_PRIVATE,
	BERTH_SIM_MAKE_PRIVATE,
	BERTH_SIM_UNMAP,
	BERTH_SIM_PROTECT,
	BERTH_SIM_STOP,
	BERTH_SIM_WATCH,
	BERTH_SIM_LOOK,
	BERTH_SIM_HALT,
	BERTH_SIM_UNPROTECT,
	BERTH_SIM_REMAP,
	BERTH_SIM_POPULATE,
	BERTH_SIM_PREPARE,
	BERTH_SIM_COPY,
	BERTH_SIM_COPY_SCATTERED,
	BERTH_SIM_COPY_PRIVATE,
	BERTH_SIM_ZERO,
	BERTH_SIM_WRITER_WAITS,
	BERTH_SIM_FORGET_PROTECTION,
	BERTH_SIM_KEEP_AWAKE,
	BERTH_SIM_BEGIN,
	BERTH_SIM_END,
	BERTH_SIM_NR_OPS
};
#define BERTH_SIM_FIRST_MMU_OP BERTH_SIM_MAP

const char *berth_sim_op_name(enum berth_sim_op op);

struct berth_sim_cost {
	uint32_t ns;      /* a call */
	uint32_t page_ns; /* each page of it */
};
/* What the operations cost unless the parameters say otherwise: those of a machine of 3 GHz, rounded. */
extern const struct berth_sim_cost berth_sim_default_costs[BERTH_SIM_NR_OPS];

#define BERTH_SIM_MAX_TASKS 16u
#define BERTH_SIM_MAX_CPUS 16u

struct berth_sim_params {
	uint64_t seed;
	unsigned nr_cpus; /* at least one for each task, which change CPUs then as a kernel's threads
			   * do; 0: as many as tasks, and each stays on its own */
	const struct berth_sim_cost *costs; /* BERTH_SIM_NR_OPS of them; NULL: the defaults */
	bool weak_memory;
	bool restarts; /* copies of fillers can be restarted, and are preempted now and then: berth_copy_in() */
	unsigned switch_one_in; /* a task goes on at a step unless 1 of so many; 0: the seed chooses how
				 * tasks change places, also by priorities that drop at random steps */
	uint64_t max_steps;     /* a run that takes more is a livelock; 0: 10 million */
	uint64_t leap_ns;       /* how far a late operation leaps; 0: 10 s */
	/* The simulated memory; 0: none. */
	uint64_t nr_frames, start_pfn, nr_pages;
};

enum berth_sim_outcome {
	BERTH_SIM_DONE,
	BERTH_SIM_PANICKED, /* the core's panic hook was called */
	BERTH_SIM_FAILED,   /* berth_sim_fail() */
	BERTH_SIM_DEADLOCK,
	BERTH_SIM_LIVELOCK,
};

/* Why a run ended; all but DONE leave locks held: the zone is lost. */
struct berth_sim_result {
	enum berth_sim_outcome outcome;
	const char *what;
	uint64_t value, expected;
	int task;
};

struct berth_sim;

struct berth_sim *berth_sim_create(const struct berth_sim_params *params);
void berth_sim_destroy(struct berth_sim *sim);
/* As if it were created again with another seed; counts, failures, memory and clock begin anew. */
void berth_sim_reset(struct berth_sim *sim, uint64_t seed);

/* Adds a task to the next run. */
void berth_sim_spawn(struct berth_sim *sim, void (*fn)(void *arg), void *arg);
/* Runs all tasks to their ends, or until something is wrong. */
const struct berth_sim_result *berth_sim_run(struct berth_sim *sim);
/* For a task: something is wrong; the run ends. Outside a run it prints and aborts. */
_Noreturn void berth_sim_fail(struct berth_sim *sim, const char *what, uint64_t value,
			      uint64_t expected);
/* For code that may sleep, owners' callbacks above all: a failure with a berth_lock_t held or preemption
 * disabled. */
void berth_sim_may_sleep(struct berth_sim *sim);
/* The CPU that berth_cpu() answers outside a run; BERTH_CPU_NONE at first. */
void berth_sim_set_cpu(struct berth_sim *sim, unsigned cpu);
/* The running task, or -1. */
int berth_sim_task(const struct berth_sim *sim);
/* Lets others run. */
void berth_sim_yield(struct berth_sim *sim);

/* The clock, without a step. */
uint64_t berth_sim_clock(const struct berth_sim *sim);
/* Calls so far. */
uint64_t berth_sim_calls(const struct berth_sim *sim, enum berth_sim_op op);
/* The n-th call of op from now fails, n from 1; 0: none does, as when a run has ended. */
void berth_sim_fail_at(struct berth_sim *sim, enum berth_sim_op op, uint64_t n);
/*
 * Of the run that goes on, or of the last one: calls; places in the code that have called (an inline function's
 * copies are several), in the order of their first calls; and which call such a place's first one was, from 1.
 */
uint64_t berth_sim_run_calls(const struct berth_sim *sim, enum berth_sim_op op);
unsigned berth_sim_nr_sites(const struct berth_sim *sim, enum berth_sim_op op);
uint64_t berth_sim_site_call(const struct berth_sim *sim, enum berth_sim_op op, unsigned site);
/* Failures that have happened. */
uint64_t berth_sim_nr_failed(const struct berth_sim *sim);
/* For a test of the tests: barrier_all() does nothing from now on. */
void berth_sim_break_barrier(struct berth_sim *sim);

/* A hash of all steps so far: who, what, where (by order of appearance), which value, when. */
uint64_t berth_sim_trace_hash(const struct berth_sim *sim);
uint64_t berth_sim_steps(const struct berth_sim *sim);
/* Prints the last steps to stderr. */
void berth_sim_print_trace(const struct berth_sim *sim, unsigned nr_steps);

extern const struct berth_port_ops berth_sim_port_ops; /* the context is the simulation */
/* The same without a barrier for all CPUs. */
extern const struct berth_port_ops berth_sim_port_ops_no_barrier;

/* ---- Simulated memory -------------------------------------------------------------------------- */

/* One word stands for a frame's contents. An access that the machine wouldn't allow, and an operation
 * that breaks the contract in <berth/vm.h>, end the run. */
extern const struct berth_mmu_ops berth_sim_mmu_ops; /* the context is the simulation */

/* A task's access to a page. A write to a protected page waits; an unmapped page is a failure. */
uint64_t berth_sim_read(struct berth_sim *sim, uint64_t page);
void berth_sim_write(struct berth_sim *sim, uint64_t page, uint64_t value);
/* Where the machine has mapped a page: a pfn, BERTH_PFN_PRIVATE or BERTH_PFN_NONE. */
berth_pfn_t berth_sim_mapped(const struct berth_sim *sim, uint64_t page);
/* A frame's word, as a device sees it. */
uint64_t *berth_sim_frame(struct berth_sim *sim, berth_pfn_t pfn);

#endif
