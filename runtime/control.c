/* SPDX-License-Identifier: MIT */
/*
 * The control thread: a schedule of claims and samples on one timeline, and with --stress a second
 * thread that moves the heap without pause.
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
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "runtime/heap.h"

#define SAMPLE_NS 10000000ull       /* 10 ms */
#define MOMENT_NS 50000000ull       /* at first; doubles when the timeline is full */
#define CLAIM_WAIT_NS 2000000000ull /* what a claim may take, waiting for holders included */
#define NEVER UINT64_MAX

/* One claim's state: waiting to begin, or held until `next_ns`. */
struct scheduled {
	struct berth_run_claim *claim;
	uint64_t next_ns; /* NEVER: done */
	bool held;
	struct berth_buffer buffer;
};

static struct {
	struct berth_pool_impl *pool;
	struct berth_run_record *record;
	struct berth_run_process *process;
	struct scheduled claims[BERTH_RUN_CLAIMS];
	uint64_t moment_every_ns, next_moment_ns;
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
static void record_failure(const struct berth_claim_report *report)
{
	struct berth_run_process *process = control.process;
	uint32_t nr = atomic_load(&process->nr_failures);
	struct berth_run_failure failure = { .error = report->error };

	failure.bytes = report->nr_pages << BERTH_PAGE_SHIFT;
	failure.largest_free_bytes = report->largest_free_pages << BERTH_PAGE_SHIFT;
	failure.largest_claimable_bytes = report->largest_claimable_pages << BERTH_PAGE_SHIFT;
	if (report->blocker_owner)
		copy_text(failure.holder, sizeof(failure.holder), report->blocker_owner);
	if (report->blocker_holder) {
		copy_text(failure.holder, sizeof(failure.holder), ": ");
		copy_text(failure.holder, sizeof(failure.holder), report->blocker_holder);
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

static void claim(struct scheduled *scheduled)
{
	const struct berth_claim_options options = { .timeout_ns = CLAIM_WAIT_NS };
	struct berth_run_process *process = control.process;
	struct berth_claim_report report;
	uint64_t began = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID), took;
	int error = berth__pool_claim(control.pool, NULL, scheduled->claim->bytes, &options,
				      &scheduled->buffer, &report);

	took = clock_ns(CLOCK_MONOTONIC) - began;
	add(&process->cpu_ns, clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu);
	add(&process->moved_bytes, report.moved_pages << BERTH_PAGE_SHIFT);
	add(&process->free_bytes_taken, report.free_pages_taken << BERTH_PAGE_SHIFT);
	add(&process->retries, report.tries > 1 ? report.tries - 1 : 0);
	if (error) {
		add(&process->claims_failed, 1);
		record_failure(&report);
		return;
	}
	add(&process->claim_histogram[berth_run_bucket(took)], 1);
	raise_to(&process->claim_ns_max, took);
	add(&process->claims_ok, 1);
	add(&process->claims_held, 1);
	scheduled->held = true;
	/* A device would write it now; so do we, which also shows anybody who still uses it. */
	for (size_t at = 0; at < scheduled->buffer.bytes; at += BERTH_PAGE_SIZE)
		*(volatile uint64_t *)(void *)((char *)scheduled->buffer.address +
					       at) = 0xdeadbea7dead0000u + at;
}

static void release(struct scheduled *scheduled)
{
	if (berth__pool_release(control.pool, &scheduled->buffer) != 0)
		abort(); /* our own claim */
	add(&control.process->claims_held, UINT64_MAX);
	scheduled->held = false;
}

/* The next step of one claim, when its time has come. */
static void step(struct scheduled *scheduled, uint64_t now)
{
	struct berth_run_claim *wanted = scheduled->claim;

	if (scheduled->held) {
		release(scheduled);
	} else {
		claim(scheduled);
		atomic_fetch_add(&wanted->done, 1);
	}
	scheduled->next_ns = now + wanted->hold_ns;
	if (!scheduled->held && wanted->repeat != UINT64_MAX &&
	    atomic_load(&wanted->done) >= wanted->repeat)
		scheduled->next_ns = NEVER;
}

/* ---- Samples ---------------------------------------------------------------------------------------------------------- */

/* Kilobytes after a label of /proc/self/status. */
static uint64_t status_kb(const char *text, const char *label)
{
	const char *at = strstr(text, label);

	return at ? strtoull(at + strlen(label), NULL, 10) : 0;
}

/* The process's memory, the pool's linear mapping not counted twice. */
static uint64_t resident_bytes(uint64_t heap_in_pool)
{
	char text[4096];
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ssize_t length;

	if (fd < 0)
		return heap_in_pool;
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (length <= 0)
		return heap_in_pool;
	text[length] = 0;
	return heap_in_pool + (status_kb(text, "RssAnon:") + status_kb(text, "RssFile:")) * 1024;
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
		berth_cma_stats(control.pool->areas[0].cma, &area);
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
	add(&process->lent_samples, 1);
	add(&process->lent_bytes_sum, stats.lent_bytes);
	raise_to(&process->lent_bytes_max, stats.lent_bytes);
	set(&process->stall_ns_max, stats.longest_stall_ns);
	set(&process->stalled_runs, stats.stalled_runs);
	set(&process->moves_skipped, stats.moves_skipped);
	set(&process->heap_pool_bytes, heap.pool_bytes);
	set(&process->heap_outside_bytes, heap.outside_bytes);
	if (heap.pool_bytes > heap_max + heap_max / 32) {
		set(&process->heap_pool_bytes_max, heap.pool_bytes);
		set(&process->resident_bytes_at_max, resident_bytes(heap.pool_bytes));
	}
	if (with_moments && now >= control.next_moment_ns)
		record_moment(now, &stats);
}

/* ---- The threads ------------------------------------------------------------------------------------------------------ */

static void *run(void *unused)
{
	uint64_t next_sample = 0;

	prctl(PR_SET_NAME, "berth-control");
	for (;;) {
		uint64_t now = clock_ns(CLOCK_MONOTONIC), wake;
		struct timespec until;

		for (uint32_t i = 0; i < control.record->nr_claims; i++)
			if (control.claims[i].next_ns <= now)
				step(&control.claims[i], clock_ns(CLOCK_MONOTONIC));
		if (now >= next_sample) {
			sample(now, true);
			next_sample = now + SAMPLE_NS;
		}
		wake = next_sample;
		for (uint32_t i = 0; i < control.record->nr_claims; i++)
			if (control.claims[i].next_ns < wake)
				wake = control.claims[i].next_ns;
		until.tv_sec = (time_t)(wake / 1000000000u);
		until.tv_nsec = (long)(wake % 1000000000u);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
	}
	return unused;
}

static void *shuffle(void *unused)
{
	uint64_t cursor = 0;

	prctl(PR_SET_NAME, "berth-stress");
	for (;;) {
		int64_t moved = berth__pool_shuffle(control.pool, &cursor);
		struct timespec pause = { .tv_nsec = 20000 };

		if (moved > 0)
			add(&control.process->shuffled_bytes, (uint64_t)moved);
		else if (moved < 0) /* held, or nowhere to go: not in a tight loop */
			nanosleep(&pause, NULL);
	}
	return unused;
}

int berth__start_thread(void *(*body)(void *), pthread_t *thread)
{
	sigset_t all, old;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* the program's signals are the program's */
	error = pthread_create(thread, NULL, body, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error)
		return -BERTH_ENOMEM;
	berth__fork_hooks.own_threads++;
	return 0;
}

static int start_detached(void *(*body)(void *))
{
	pthread_t thread;
	int error = berth__start_thread(body, &thread);

	if (!error)
		pthread_detach(thread);
	return error;
}

int berth__control_start(struct berth_pool_impl *pool, struct berth_run_record *record,
			 struct berth_run_process *process)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC);
	int error;

	control.pool = pool;
	control.record = record;
	control.process = process;
	control.moment_every_ns = MOMENT_NS;
	for (uint32_t i = 0; i < record->nr_claims; i++) {
		struct berth_run_claim *wanted = &record->claims[i];
		uint64_t start = record->start_ns + wanted->start_ns;

		control.claims[i].claim = wanted;
		control.claims[i].next_ns = getpid() != record->root_pid ||
							    atomic_load(&wanted->done) >=
								    wanted->repeat ?
						    NEVER :
					    start > now ? start :
							  now;
	}
	sample(now, true);
	error = start_detached(run);
	if (!error && record->stress)
		error = start_detached(shuffle);
	return error;
}

void berth__control_forget(void)
{
	control.pool = NULL;
	berth__fork_hooks.own_threads = 0;
}

void berth__control_finish(void)
{
	if (control.pool)
		sample(clock_ns(CLOCK_MONOTONIC), false); /* moments are the thread's */
}
