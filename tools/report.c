/* SPDX-License-Identifier: MIT */
/*
 * What the record says, added up. The record is shared memory of processes that may have crashed,
 * or still run: nothing in it is trusted to be in bounds.
 */
#include "tools/report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/json.h"
#include "tools/units.h"

/* Below this share the report says why. */
#define LOW_SHARE 0.5

static uint64_t get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* ---- Figures --------------------------------------------------------------------------------- */

void berth__figures_add(struct berth__figures *figures, const struct berth_run_process *process)
{
	figures->claims_ok += get(&process->claims_ok);
	figures->claims_failed += get(&process->claims_failed);
	figures->claims_held += get(&process->claims_held);
	figures->retries += get(&process->retries);
	figures->claim_ns_max = larger(figures->claim_ns_max, get(&process->claim_ns_max));
	figures->claim_cpu_ns += get(&process->cpu_ns);
	figures->claim_moved_bytes += get(&process->moved_bytes);
	figures->stress_moved_bytes += get(&process->shuffled_bytes);
	figures->stall_ns_max = larger(figures->stall_ns_max, get(&process->stall_ns_max));
	figures->stalled_runs += get(&process->stalled_runs);
	figures->moves_skipped += get(&process->moves_skipped);
	figures->late_writes += get(&process->late_writes);
	figures->pool_bytes = larger(figures->pool_bytes, get(&process->pool_bytes));
	figures->area_bytes = larger(figures->area_bytes, get(&process->area_bytes));
	figures->lent_samples += get(&process->lent_samples);
	figures->lent_bytes_sum += get(&process->lent_bytes_sum);
	figures->lent_bytes_max = larger(figures->lent_bytes_max, get(&process->lent_bytes_max));
	figures->heap_outside_bytes += get(&process->heap_outside_bytes);
	figures->heap_pool_bytes_max += get(&process->heap_pool_bytes_max);
	figures->resident_bytes_at_max += get(&process->resident_bytes_at_max);
	for (unsigned i = 0; i < BERTH_RUN_BUCKETS; i++)
		figures->histogram[i] += get(&process->claim_histogram[i]);
	figures->sqlite_front_hits += get(&process->sqlite.front_hits);
	figures->sqlite_store_hits += get(&process->sqlite.store_hits);
	figures->sqlite_misses += get(&process->sqlite.misses);
	figures->sqlite_puts += get(&process->sqlite.puts);
	figures->sqlite_refused += get(&process->sqlite.refused);
	figures->sqlite_front_bytes += get(&process->sqlite.front_bytes);
	figures->sqlite_caches += get(&process->sqlite.caches);
	figures->sqlite_distrusted += get(&process->sqlite.distrusted);
	figures->store_lost += get(&process->store_lost);
	figures->store_evicted += get(&process->store_evicted);
	figures->store_bytes_max += get(&process->store_bytes_max);
}

uint64_t berth__figures_percentile(const struct berth__figures *figures, double percent)
{
	uint64_t all = 0, seen = 0, rank;

	for (unsigned i = 0; i < BERTH_RUN_BUCKETS; i++)
		all += figures->histogram[i];
	rank = (uint64_t)ceil(percent / 100 * (double)all);
	for (unsigned i = 0; i < BERTH_RUN_BUCKETS && all; i++) {
		seen += figures->histogram[i];
		if (seen < rank || !seen)
			continue;
		/* A bucket's end may lie beyond the largest value in it. */
		return berth_histogram_bucket_end(i) < figures->claim_ns_max ?
			       berth_histogram_bucket_end(i) :
			       figures->claim_ns_max;
	}
	return 0;
}

double berth__figures_share(const struct berth__figures *figures)
{
	if (!figures->resident_bytes_at_max)
		return -1;
	return fmin(1,
		    (double)figures->heap_pool_bytes_max / (double)figures->resident_bytes_at_max);
}

double berth__figures_lent_mean(const struct berth__figures *figures)
{
	return figures->lent_samples ?
		       (double)figures->lent_bytes_sum / (double)figures->lent_samples :
		       0;
}

/* ---- Processes ------------------------------------------------------------------------------- */

/*
 * Is it there still? A process that started after the record was taken has only got the same pid. The
 * kernel tells in ticks when one started.
 */
static bool is_running(const struct berth_run_process *process)
{
	char path[64], line[1024] = "", state = 0;
	unsigned long long ticks = 0;
	const char *rest;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)process->pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (!fgets(line, sizeof(line), file))
		line[0] = 0;
	fclose(file);
	rest = strrchr(line, ')'); /* behind the name, which can hold anything */
	if (!rest || sscanf(rest + 1,
			    " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
			    "%*d %*d %llu",
			    &state, &ticks) != 2)
		return false;
	return state != 'Z' && state != 'X' &&
	       ticks <= process->since_ns / (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

static bool is_better_main(const struct berth_run_process *process,
			   const struct berth_run_process *main)
{
	uint64_t heap = get(&process->heap_pool_bytes_max), most = get(&main->heap_pool_bytes_max);

	if (!get(&process->pool_bytes) != !get(&main->pool_bytes))
		return get(&process->pool_bytes);
	return heap > most;
}

static void gather_processes(struct berth__report *report)
{
	const struct berth_run_record *record = report->outcome->record;
	const struct berth_run_process *root = NULL, *main = NULL;

	for (unsigned i = 0; i < BERTH_RUN_PROCESSES; i++) {
		const struct berth_run_process *process = &record->processes[i];

		if (!atomic_load(&process->used))
			break;
		report->nr_processes++;
		report->nr_pools += get(&process->pool_bytes) != 0;
		report->running[i] = is_running(process);
		report->nr_running += report->running[i];
		berth__figures_add(&report->total, process);
		if (process->pid == record->root_pid)
			root = process;
		if (!main || is_better_main(process, main))
			main = process;
	}
	report->nr_there_were = larger(report->nr_processes, get(&record->nr_processes));
	report->main = main && get(&main->pool_bytes) ? main : root;
}

/* One process's figures are its own; several pools add up as far as they existed together. */
static void total_of_pools(struct berth__report *report)
{
	const struct berth__tree *tree = &report->outcome->tree;
	struct berth__figures *total = &report->total;

	if (report->nr_pools < 2 || !tree->samples)
		return;
	total->pool_bytes = larger(total->pool_bytes, tree->pool_bytes_max);
	total->area_bytes = larger(total->area_bytes, tree->area_bytes_max);
	total->lent_samples = tree->samples;
	total->lent_bytes_sum = tree->lent_bytes_sum;
	total->lent_bytes_max = larger(total->lent_bytes_max, tree->lent_bytes_max);
}

static void gather_requests(struct berth__report *report)
{
	const struct berth_run_record *record = report->outcome->record;
	struct berth__requests *requests = &report->requests;
	struct berth__figures *total = &report->total;

	for (uint32_t i = 0; i < record->nr_claims && i < BERTH_RUN_CLAIMS; i++) {
		const struct berth_run_claim *claim = &record->claims[i];
		uint64_t done = get(&claim->done), succeeded = get(&claim->succeeded);

		requests->succeeded += succeeded;
		requests->failed += done > succeeded ? done - succeeded : 0;
		requests->passed_on += get(&claim->passed_on);
		requests->unanswered += get(&claim->unanswered);
		requests->nobody += get(&claim->nobody);
	}
	/* A claim fails once, however many processes were asked; a process that never answered has
	 * counted nothing. */
	total->claims_failed += requests->unanswered;
	total->claims_failed -= requests->passed_on < total->claims_failed ? requests->passed_on :
									     total->claims_failed;
}

/* ---- Failures -------------------------------------------------------------------------------- */

static void add_failure(struct berth__report *report, const struct berth_run_failure *from)
{
	struct berth__failure failure = {
		.error = from->error,
		.bytes = from->bytes,
		.count = from->count,
		.largest_free_bytes = from->largest_free_bytes,
		.largest_claimable_bytes = from->largest_claimable_bytes,
	};
	char text[BERTH__TEXT_BYTES];

	berth__printable(text, from->holder, sizeof(from->holder) - 1);
	memcpy(failure.holder, text, sizeof(failure.holder));
	failure.holder[sizeof(failure.holder) - 1] = 0;
	for (unsigned i = 0; i < report->nr_failures; i++) {
		struct berth__failure *known = &report->failures[i];

		if (known->error == failure.error && known->bytes == failure.bytes &&
		    strcmp(known->holder, failure.holder) == 0) {
			known->count += failure.count;
			return;
		}
	}
	if (report->nr_failures < BERTH_RUN_FAILURES)
		report->failures[report->nr_failures++] = failure;
}

static int more_frequent(const void *left, const void *right)
{
	const struct berth__failure *a = left, *b = right;

	return (a->count < b->count) - (a->count > b->count);
}

static void gather_failures(struct berth__report *report)
{
	for (unsigned i = 0; i < report->nr_processes; i++) {
		const struct berth_run_process *process = &report->outcome->record->processes[i];
		uint32_t nr = atomic_load(&process->nr_failures);

		for (uint32_t j = 0; j < nr && j < BERTH_RUN_FAILURES; j++)
			add_failure(report, &process->failures[j]);
	}
	qsort(report->failures, report->nr_failures, sizeof(report->failures[0]), more_frequent);
}

/* ---- The timeline ---------------------------------------------------------------------------- */

static void follow(struct berth__course *course, uint64_t value, uint32_t before)
{
	course->least = before && course->least < value ? course->least : value;
	course->last = value;
	course->mean = (course->mean * before + (double)value) / (before + 1);
}

static void gather_timeline(struct berth__report *report)
{
	uint32_t nr = report->main ? atomic_load(&report->main->nr_moments) : 0;

	report->nr_moments = nr < BERTH_RUN_TIMELINE ? nr : BERTH_RUN_TIMELINE;
	for (uint32_t i = 0; i < report->nr_moments; i++) {
		const struct berth_run_moment *moment = &report->main->moments[i];

		follow(&report->largest_free, moment->largest_free_bytes, i);
		follow(&report->largest_claimable, moment->largest_claimable_bytes, i);
	}
}

/* ---- Why little is in the pool --------------------------------------------------------------- */

/* The process without a pool that had as much memory as all pools held of theirs, or NULL. */
static const struct berth_run_process *largest_outside(const struct berth__report *report)
{
	const struct berth_run_process *largest = NULL;
	uint64_t most = report->total.heap_pool_bytes_max;

	for (unsigned i = 0; i < report->nr_processes; i++) {
		const struct berth_run_process *process = &report->outcome->record->processes[i];

		if (!process->why_no_pool[0] || get(&process->resident_bytes_at_max) <= most)
			continue;
		largest = process;
		most = get(&process->resident_bytes_at_max);
	}
	return largest;
}

static void explain_share(struct berth__report *report)
{
	const struct berth__figures *total = &report->total;
	const double share = berth__figures_share(total);
	char *reason = report->share_reason;
	char heap[BERTH__UNIT_BYTES], all[BERTH__UNIT_BYTES];
	const size_t room = sizeof(report->share_reason);

	const struct berth_run_process *outside = largest_outside(report);

	if (!report->main) {
		snprintf(
			reason, room,
			"the preload library never came up in the program: it is linked statically, "
			"it cleared LD_PRELOAD or " BERTH_RUN_ENV
			", or it gained rights by setuid");
	} else if (report->main->why_no_pool[0]) {
		berth__printable(reason, report->main->why_no_pool,
				 sizeof(report->main->why_no_pool));
	} else if (share >= 0 && share < LOW_SHARE && outside) {
		char program[BERTH__TEXT_BYTES], why[BERTH__TEXT_BYTES];

		berth__printable(program, outside->program, sizeof(outside->program));
		berth__printable(why, outside->why_no_pool, sizeof(outside->why_no_pool));
		snprintf(reason, room, "%.32s (%d) has no pool: %.128s", program, (int)outside->pid,
			 why);
	} else if (share >= 0 && share < LOW_SHARE &&
		   total->heap_outside_bytes > total->heap_pool_bytes_max / 8) {
		snprintf(
			reason, room,
			"%s of heap lie outside: they must not move (aligned, locked, shared or protected "
			"memory), or found no room (then make it larger with --pool or --area)",
			berth__format_bytes(heap, (double)total->heap_outside_bytes));
	} else if (share >= 0 && share < LOW_SHARE) {
		snprintf(reason, room,
			 "the heap is small: %s of the %s that were resident; the rest is code, "
			 "libraries, stacks and memory that the program maps by itself",
			 berth__format_bytes(heap, (double)total->heap_pool_bytes_max),
			 berth__format_bytes(all, (double)total->resident_bytes_at_max));
	}
}

void berth__report_gather(struct berth__report *report, const struct berth__outcome *outcome)
{
	*report = (struct berth__report){ .outcome = outcome };
	gather_processes(report);
	total_of_pools(report);
	gather_requests(report);
	gather_failures(report);
	gather_timeline(report);
	explain_share(report);
}
