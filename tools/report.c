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

/* ---- Text of the record ---------------------------------------------------------------------- */

const char *berth__record_text(char text[BERTH__TEXT_BYTES], const char *from, size_t room)
{
	size_t length = strnlen(from, room < BERTH__TEXT_BYTES ? room : BERTH__TEXT_BYTES - 1);

	memcpy(text, from, length);
	text[length] = 0;
	for (char *at = text; *at; at++)
		if ((unsigned char)*at < ' ' || (unsigned char)*at >= 0x7f)
			*at = '?';
	return text;
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
		return berth_run_bucket_ns(i) < figures->claim_ns_max ? berth_run_bucket_ns(i) :
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

static void gather_processes(struct berth__report *report)
{
	const struct berth_run_record *record = report->outcome->record;

	for (unsigned i = 0; i < BERTH_RUN_PROCESSES; i++) {
		const struct berth_run_process *process = &record->processes[i];

		if (!atomic_load(&process->used))
			break;
		report->nr_processes++;
		berth__figures_add(&report->total, process);
		/* The first process may have become other programs (exec): the last one with a
		 * pool counts. */
		if (process->pid == record->root_pid &&
		    (!report->main || get(&process->pool_bytes)))
			report->main = process;
	}
	report->truncated = report->nr_processes == BERTH_RUN_PROCESSES;
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

	berth__record_text(text, from->holder, sizeof(from->holder) - 1);
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

static void explain_share(struct berth__report *report)
{
	const struct berth__figures *total = &report->total;
	const double share = berth__figures_share(total);
	char *reason = report->share_reason;
	char heap[BERTH__UNIT_BYTES], all[BERTH__UNIT_BYTES];
	const size_t room = sizeof(report->share_reason);

	if (!report->main) {
		snprintf(
			reason, room,
			"the preload library never came up in the program: it is linked statically, "
			"it cleared LD_PRELOAD or " BERTH_RUN_ENV
			", or it gained rights by setuid");
	} else if (report->main->why_no_pool[0]) {
		berth__record_text(reason, report->main->why_no_pool,
				   sizeof(report->main->why_no_pool));
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
	gather_failures(report);
	gather_timeline(report);
	explain_share(report);
}
