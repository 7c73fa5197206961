/* SPDX-License-Identifier: MIT */
/*
 * The control thread: serves claims from outside (server.c), samples, and keeps the books of both;
 * with --stress a second thread moves the heap without pause.
 *
 * The threads block all signals, use no stdio and don't allocate: whatever the program does to its
 * heap, they don't wait for it. All figures go to the shared record at once, so that they survive
 * the program's end in any manner.
 */
#define _GNU_SOURCE
#include "runtime/control.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/heap.h"
#include "runtime/quarantine.h"
#include "runtime/server.h"
#include "runtime/sqlite_lend.h"
#include "runtime/untreated.h"
#include "runtime/view.h"

#define SAMPLE_NS 10000000ull /* 10 ms */
#define LOOK_NS 50000000ull   /* whether the program still runs */
#define MOMENT_NS 50000000ull /* at first; doubles when the timeline is full */

static struct {
	struct berth_pool_impl *pool;
	struct berth_run_record *record;
	struct berth_run_process *process;
	uint64_t moment_every_ns, next_moment_ns;
	_Atomic bool stop; /* the threads are to end */
	bool quarantine;
	struct own_thread {
		pthread_t thread;
		_Atomic int tid;
	} threads[2];
	unsigned nr_threads;
} control;

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void add(_Atomic uint64_t *counter, uint64_t value)
{
	atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

static void set(_Atomic uint64_t *counter, uint64_t value)
{
	atomic_store_explicit(counter, value, memory_order_relaxed);
}

static void raise_to(_Atomic uint64_t *counter, uint64_t value)
{
	if (value > atomic_load_explicit(counter, memory_order_relaxed))
		set(counter, value);
}

/* ---- Claims --------------------------------------------------------------------------------------------------------- */

static void copy_text(char *to, size_t bytes, const char *from)
{
	size_t length = strlen(to);

	while (*from && length + 1 < bytes)
		to[length++] = *from++;
	to[length] = 0;
}

/* Counts a failure by its kind: error, size, holder. */
static void record_failure(const struct berth_control_claimed *claimed)
{
	struct berth_run_process *process = control.process;
	uint32_t nr = atomic_load(&process->nr_failures);
	struct berth_run_failure failure = {
		.error = claimed->header.error,
		.bytes = claimed->bytes,
		.largest_free_bytes = claimed->largest_free_bytes,
		.largest_claimable_bytes = claimed->largest_claimable_bytes,
	};

	copy_text(failure.holder, sizeof(failure.holder), claimed->blocker_owner);
	if (claimed->blocker_holder[0]) {
		copy_text(failure.holder, sizeof(failure.holder), ": ");
		copy_text(failure.holder, sizeof(failure.holder), claimed->blocker_holder);
	}
	for (uint32_t i = 0; i < nr; i++) {
		struct berth_run_failure *known = &process->failures[i];

		if (known->error == failure.error && known->bytes == failure.bytes &&
		    strcmp(known->holder, failure.holder) == 0) {
			known->count++;
			return;
		}
	}
	if (nr == BERTH_RUN_FAILURES)
		return; /* claims_failed counts it all the same */
	failure.count = 1;
	process->failures[nr] = failure;
	atomic_store(&process->nr_failures, nr + 1);
}

static void claimed(const struct berth_control_claimed *claimed)
{
	struct berth_run_process *process = control.process;

	add(&process->cpu_ns, claimed->cpu_ns);
	add(&process->moved_bytes, claimed->moved_bytes);
	add(&process->free_bytes_taken, claimed->free_bytes_taken);
	add(&process->retries, claimed->tries > 1 ? claimed->tries - 1 : 0);
	if (claimed->header.error) {
		add(&process->claims_failed, 1);
		record_failure(claimed);
		return;
	}
	add(&process->claim_histogram[berth_histogram_bucket(claimed->claim_ns)], 1);
	raise_to(&process->claim_ns_max, claimed->claim_ns);
	add(&process->claims_ok, 1);
	add(&process->claims_held, 1);
}

static void released(void)
{
	add(&control.process->claims_held, UINT64_MAX);
}

static void describe(struct berth_control_stat *stat)
{
	struct berth_heap_stats heap;

	berth__heap_stats(&heap);
	stat->heap_pool_bytes = heap.pool_bytes;
	stat->heap_outside_bytes = heap.outside_bytes;
	copy_text(stat->why_no_pool, sizeof(stat->why_no_pool), control.process->why_no_pool);
	copy_text(stat->notice, sizeof(stat->notice), control.process->notice);
}

static void serving(int error, const char *why)
{
	struct berth_run_process *process = control.process;

	process->why_not_serving[0] = 0;
	copy_text(process->why_not_serving, sizeof(process->why_not_serving), why);
	atomic_store(&process->serving, !error);
}

static const struct berth_server_observer observer = {
	.claimed = claimed,
	.released = released,
	.describe = describe,
	.serving = serving,
};

/* ---- Samples ---------------------------------------------------------------------------------------------------------- */

/* Kilobytes after a label of /proc/self/status. */
static uint64_t status_kb(const char *text, const char *label)
{
	const char *at = strstr(text, label);

	return at ? strtoull(at + strlen(label), NULL, 10) : 0;
}

static struct berth__view status = BERTH__VIEW("/proc/self/status", O_RDONLY);

/* The process's memory, the pool's linear mapping not counted twice. */
static uint64_t resident_bytes(uint64_t heap_in_pool)
{
	char text[4096];
	ssize_t length = -1;

	if (berth__view_is_at_hand(&status))
		length = pread(status.fd, text, sizeof(text) - 1, 0);
	if (length <= 0)
		return heap_in_pool;
	text[length] = 0;
	return heap_in_pool + (status_kb(text, "RssAnon:") + status_kb(text, "RssFile:")) * 1024;
}

/*
 * None of the program's threads is left. A process ends with its last thread, and that must not be one of ours: a
 * program may end by the exit of each of its threads (pthread_exit in main).
 */
static bool is_alone(void)
{
	char text[1024];
	ssize_t length = -1;
	const char *state;

	if (berth__view_is_at_hand(&status))
		length = pread(status.fd, text, sizeof(text) - 1, 0);
	if (length <= 0 || berth__untreated(BERTH_TREAT_LAST_THREAD))
		return false;
	text[length] = 0;
	state = strstr(text, "State:\t"); /* the first thread's */
	return state && state[7] == 'Z' &&
	       status_kb(text, "Threads:") <= 1 + atomic_load(&berth__fork_hooks.own_threads);
}

/* Keeps every second moment, so that the timeline never fills up. */
static void thin_out(struct berth_run_process *process)
{
	uint32_t nr = atomic_load(&process->nr_moments);

	for (uint32_t i = 0; i < nr / 2; i++)
		process->moments[i] = process->moments[2 * i];
	atomic_store(&process->nr_moments, nr / 2);
	control.moment_every_ns *= 2;
}

static void record_moment(uint64_t now, const struct berth_pool_stats *stats)
{
	struct berth_run_process *process = control.process;
	struct berth_run_moment moment = {
		.at_ns = now - control.record->start_ns,
		.lent_bytes = stats->lent_bytes,
		.claimed_bytes = stats->claimed_bytes,
	};
	struct berth_cma_stats area;
	uint32_t nr;

	if (atomic_load(&process->nr_moments) == BERTH_RUN_TIMELINE)
		thin_out(process);
	if (control.pool->nr_areas) {
		berth_contig_area_stats(control.pool->areas[0].area, &area);
		moment.largest_free_bytes = area.largest_free_pages << BERTH_PAGE_SHIFT;
		moment.largest_claimable_bytes = area.largest_claimable_pages << BERTH_PAGE_SHIFT;
	}
	nr = atomic_load(&process->nr_moments);
	process->moments[nr] = moment;
	atomic_store(&process->nr_moments, nr + 1);
	control.next_moment_ns = now + control.moment_every_ns;
}

static void sample(uint64_t now, bool with_moments)
{
	struct berth_run_process *process = control.process;
	struct berth_pool_stats stats;
	struct berth_heap_stats heap;
	uint64_t heap_max = atomic_load(&process->heap_pool_bytes_max);

	berth__pool_stats(control.pool, &stats);
	berth__heap_stats(&heap);
	/* What a store keeps is lent as well; as of the last look at it. */
	stats.lent_bytes += atomic_load(&process->store_bytes_now);
	add(&process->lent_samples, 1);
	add(&process->lent_bytes_sum, stats.lent_bytes);
	raise_to(&process->lent_bytes_max, stats.lent_bytes);
	set(&process->lent_bytes_now, stats.lent_bytes);
	set(&process->stall_ns_max, stats.longest_stall_ns);
	set(&process->stalled_runs, stats.stalled_runs);
	set(&process->moves_skipped, stats.moves_skipped);
	set(&process->heap_pool_bytes, heap.pool_bytes);
	set(&process->heap_outside_bytes, heap.outside_bytes);
	if (heap.pool_bytes > heap_max + heap_max / 32) {
		set(&process->heap_pool_bytes_max, heap.pool_bytes);
		set(&process->resident_bytes_at_max, resident_bytes(heap.pool_bytes));
	}
	if (!with_moments || now >= control.next_moment_ns)
		berth__sqlite_sample(process);
	if (with_moments && now >= control.next_moment_ns)
		record_moment(now, &stats);
}

/* ---- The threads ------------------------------------------------------------------------------------------------------ */

static void *shuffle(void *unused);
static void *run(void *unused)
{
	uint64_t next_sample = 0, next_look = 0;

	prctl(PR_SET_NAME, "berth-control");
	atomic_store(&control.threads[0].tid, (int)syscall(SYS_gettid));
	while (!atomic_load(&control.stop)) {
		uint64_t now = clock_ns(CLOCK_MONOTONIC);

		if (now >= next_sample) {
			sample(now, true);
			berth__pool_age(control.pool);
			next_sample = now + SAMPLE_NS;
		}
		if (now >= next_look) {
			if (is_alone()) { /* our threads end as the program's have: the last one by exit() */
				atomic_store(&control.stop, true);
				berth__pusher_stop();
			}
			next_look = now + LOOK_NS;
		}
		berth__server_round(next_sample);
	}
	return unused;
}

static void *shuffle(void *unused)
{
	uint64_t cursor = 0;

	prctl(PR_SET_NAME, "berth-stress");
	atomic_store(&control.threads[1].tid, (int)syscall(SYS_gettid));
	while (!atomic_load(&control.stop)) {
		int64_t moved = control.quarantine ?
					berth__quarantine_turn(control.pool, &cursor,
							       &control.process->late_writes) :
					berth__pool_shuffle(control.pool, &cursor);
		struct timespec pause = { .tv_nsec = 20000 };

		if (moved > 0)
			add(&control.process->shuffled_bytes, (uint64_t)moved);
		else if (moved < 0) /* held, or nowhere to go: not in a tight loop */
			nanosleep(&pause, NULL);
	}
	return unused;
}

static int start_one(void *(*body)(void *))
{
	struct own_thread *one = &control.threads[control.nr_threads];
	int error;

	atomic_store(&one->tid, 0);
	error = berth__start_thread(body, NULL, &one->thread);
	control.nr_threads += !error;
	return error;
}

static int start_threads(void)
{
	int error;

	atomic_store(&control.stop, false);
	error = start_one(run);
	if (!error && control.record->stress)
		error = start_one(shuffle);
	return error;
}

/* A thread that has been joined is still in the process for a moment, as far as the kernel is concerned. */
void berth__thread_gone(int tid)
{
	while (tid && syscall(SYS_tgkill, getpid(), tid, 0) == 0)
		sched_yield();
}

void berth__control_stop(void)
{
	atomic_store(&control.stop, true);
	while (control.nr_threads) {
		struct own_thread *one = &control.threads[--control.nr_threads];

		pthread_join(one->thread, NULL);
		berth__thread_gone(atomic_load(&one->tid));
		berth__fork_hooks.own_threads--;
	}
}

int berth__control_resume(void)
{
	return control.pool ? start_threads() : 0;
}

int berth__control_start(struct berth_pool_impl *pool, struct berth_run_record *record,
			 struct berth_run_process *process)
{
	const struct berth_server_params served = {
		.pool = pool,
		.program = process->program,
		.root_pid = record->root_pid,
		.tree = record->tool_pid,
		.observer = &observer,
	};
	int error, refused;

	control.pool = pool;
	control.record = record;
	control.process = process;
	control.moment_every_ns = MOMENT_NS;
	sample(clock_ns(CLOCK_MONOTONIC), true);
	(void)berth__view_is_at_hand(
		&status); /* now: later the program may want the lowest number */
	/* Refused, `serving` says why: the program runs on, without claims. */
	refused = berth__server_start(&served);
	control.nr_threads = 0;
	/* Children aren't watched: their pools are others, and most end soon. */
	control.quarantine = record->quarantine && record->stress && getpid() == record->root_pid &&
			     berth__quarantine_start(pool, record->poison) == 0;
	error = start_threads();
	if (error && !control.nr_threads && !refused) {
		berth__server_stop();
		berth__server_forget();
		serving(error, "the system refused a thread");
	}
	return error;
}

void berth__control_forget(void)
{
	control.pool = NULL;
	control.nr_threads = 0;
	berth__view_close(&status); /* the parent's */
}

void berth__control_finish(void)
{
	if (!control.pool)
		return;
	sample(clock_ns(CLOCK_MONOTONIC), false); /* moments are the thread's */
	berth__server_stop();
	atomic_store(&control.process->serving, 0);
}
