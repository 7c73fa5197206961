/* SPDX-License-Identifier: MIT */
/*
 * The report for people.
 */
#define _GNU_SOURCE
#include "tools/report.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <berth/berth.h>

#include "tools/json.h"
#include "tools/units.h"

#define MOST_PROCESSES_SHOWN 20u

/* Space for the units of one line. */
struct texts {
	char at[8][BERTH__UNIT_BYTES];
	unsigned nr;
};

static const char *bytes(struct texts *texts, uint64_t value)
{
	return berth__format_bytes(texts->at[texts->nr++ % 8], (double)value);
}

static const char *ns(struct texts *texts, uint64_t value)
{
	return berth__format_ns(texts->at[texts->nr++ % 8], (double)value);
}

static void print_end(FILE *out, const struct berth__outcome *outcome)
{
	struct texts texts = { .nr = 0 };

	fprintf(out, "berth: %s ran %s and ", outcome->program, ns(&texts, outcome->wall_ns));
	if (WIFSIGNALED(outcome->status))
		fprintf(out, "was killed by signal %d (%s)\n", WTERMSIG(outcome->status),
			strsignal(WTERMSIG(outcome->status)));
	else
		fprintf(out, "ended with exit code %d\n", WEXITSTATUS(outcome->status));
}

static void print_claims(FILE *out, const struct berth__report *report)
{
	const struct berth__figures *figures = &report->total;
	const struct berth__requests *requests = &report->requests;
	struct texts texts = { .nr = 0 };

	if (requests->nobody)
		fprintf(out, "  nobody    to ask, %llu times: no process had a pool just then\n",
			(unsigned long long)requests->nobody);

	if (!figures->claims_ok && !figures->claims_failed)
		return;
	fprintf(out, "  claims    %llu succeeded, %llu failed%s\n",
		(unsigned long long)figures->claims_ok, (unsigned long long)figures->claims_failed,
		figures->claims_held ? "; some were held until the end" : "");
	if (requests->unanswered)
		fprintf(out, "  silent    %llu times a process didn't answer: it was stopped\n",
			(unsigned long long)requests->unanswered);
	if (requests->passed_on)
		fprintf(out,
			"  passed on %llu failures: another process of the tree was asked then\n",
			(unsigned long long)requests->passed_on);
	if (figures->claims_ok)
		fprintf(out, "  latency   p50 %s, p99 %s, longest %s\n",
			ns(&texts, berth__figures_percentile(figures, 50)),
			ns(&texts, berth__figures_percentile(figures, 99)),
			ns(&texts, figures->claim_ns_max));
	fprintf(out, "  work      %s moved, %s of CPU time, %llu retries\n",
		bytes(&texts, figures->claim_moved_bytes), ns(&texts, figures->claim_cpu_ns),
		(unsigned long long)figures->retries);
}

/* A claim that the program's end came before. */
static void print_missed(FILE *out, const struct berth_run_record *record)
{
	for (uint32_t i = 0; i < record->nr_claims && i < BERTH_RUN_CLAIMS; i++) {
		const struct berth_run_claim *claim = &record->claims[i];
		uint64_t done = atomic_load(&claim->done);
		struct texts texts = { .nr = 0 };

		if (!done)
			fprintf(out,
				"  not made  the claim of %s at %s: the program ended before it or has no pool\n",
				bytes(&texts, claim->bytes), ns(&texts, claim->start_ns));
		else if (claim->repeat != UINT64_MAX && done < claim->repeat)
			fprintf(out, "  not made  %llu of the %llu claims of %s\n",
				(unsigned long long)(claim->repeat - done),
				(unsigned long long)claim->repeat, bytes(&texts, claim->bytes));
	}
}

static void print_failures(FILE *out, const struct berth__report *report)
{
	for (unsigned i = 0; i < report->nr_failures; i++) {
		const struct berth__failure *failure = &report->failures[i];
		struct texts texts = { .nr = 0 };

		fprintf(out, "  failed    %llu of %s: %s (%s)", (unsigned long long)failure->count,
			bytes(&texts, failure->bytes), berth_strerror(failure->error),
			berth_errname(failure->error));
		if (failure->holder[0])
			fprintf(out, ", held by %s", failure->holder);
		fprintf(out, "; largest run free %s, claimable %s\n",
			bytes(&texts, failure->largest_free_bytes),
			bytes(&texts, failure->largest_claimable_bytes));
	}
}

static void print_area(FILE *out, const struct berth__report *report)
{
	const struct berth__figures *total = &report->total;
	struct texts texts = { .nr = 0 };

	if (!total->area_bytes)
		return;
	fprintf(out, "  lent      %s of the areas' %s on average, %s at most\n",
		bytes(&texts, (uint64_t)berth__figures_lent_mean(total)),
		bytes(&texts, total->area_bytes), bytes(&texts, total->lent_bytes_max));
	if (!report->nr_moments)
		return;
	texts.nr = 0;
	fprintf(out, "  largest   free run %s, %s at least; claimable run %s, %s at least\n",
		bytes(&texts, report->largest_free.last), bytes(&texts, report->largest_free.least),
		bytes(&texts, report->largest_claimable.last),
		bytes(&texts, report->largest_claimable.least));
}

static void print_pool(FILE *out, const struct berth__report *report)
{
	const struct berth__figures *total = &report->total;
	const double share = berth__figures_share(total);
	struct texts texts = { .nr = 0 };
	char mover[BERTH__TEXT_BYTES];

	if (share >= 0)
		fprintf(out, "  pool      held %.0f %% of the resident memory: %s of heap, of %s\n",
			share * 100, bytes(&texts, total->heap_pool_bytes_max),
			bytes(&texts, total->resident_bytes_at_max));
	if (report->share_reason[0])
		fprintf(out, "  why       %s\n", report->share_reason);
	if (total->stress_moved_bytes)
		fprintf(out, "  stress    %s moved to and fro\n",
			bytes(&texts, total->stress_moved_bytes));
	if (total->stalled_runs)
		fprintf(out, "  stalls    %llu moves met a writer; a write waited %s at most\n",
			(unsigned long long)total->stalled_runs, ns(&texts, total->stall_ns_max));
	if (total->late_writes)
		fprintf(out,
			"  LATE      %llu pages were written after they had moved away: their data is lost\n",
			(unsigned long long)total->late_writes);
	if (total->moves_skipped)
		fprintf(out,
			"  skipped   %llu moves, at the limit of mappings (vm.max_map_count)\n",
			(unsigned long long)total->moves_skipped);
	if (report->main && report->main->mover[0])
		fprintf(out, "  mover     %s\n",
			berth__printable(mover, report->main->mover, sizeof(report->main->mover)));
	if (report->main && report->main->notice[0])
		fprintf(out, "  notice    %s\n",
			berth__printable(mover, report->main->notice,
					 sizeof(report->main->notice)));
}

/* The pages of SQLite, if they were to be in the store. */
static void print_sqlite(FILE *out, const struct berth__report *report)
{
	const struct berth__figures *total = &report->total;
	const uint64_t fetches = total->sqlite_front_hits + total->sqlite_store_hits +
				 total->sqlite_misses;
	const double percent = fetches ? 100.0 / (double)fetches : 0;
	struct texts texts = { .nr = 0 };
	char note[BERTH__TEXT_BYTES];

	if (!report->outcome->record->sqlite_cache)
		return;
	fprintf(out,
		"  sqlite    %llu pages asked for: %.1f %% in ordinary memory, %.1f %% in the store, "
		"%.1f %% in neither\n",
		(unsigned long long)fetches, percent * (double)total->sqlite_front_hits,
		percent * (double)total->sqlite_store_hits, percent * (double)total->sqlite_misses);
	fprintf(out,
		"  store     %s at most; %llu pages stored, %llu lost to claims, %llu gave way to others\n",
		bytes(&texts, total->store_bytes_max), (unsigned long long)total->sqlite_puts,
		(unsigned long long)total->store_lost, (unsigned long long)total->store_evicted);
	if (total->sqlite_distrusted)
		fprintf(out,
			"  not kept  pages of %llu connections: something changes them between SQLite and "
			"the file\n",
			(unsigned long long)total->sqlite_distrusted);
	for (unsigned i = 0; i < report->nr_processes; i++) {
		const struct berth_run_process *process = &report->outcome->record->processes[i];

		if (process->sqlite_note[0])
			fprintf(out, "  no cache  in process %d: %s\n", (int)process->pid,
				berth__printable(note, process->sqlite_note,
						 sizeof(process->sqlite_note)));
	}
}

static uint64_t resident(const struct berth_run_process *process)
{
	return atomic_load_explicit(&process->resident_bytes_at_max, memory_order_relaxed);
}

static uint64_t in_pool(const struct berth_run_process *process)
{
	return atomic_load_explicit(&process->heap_pool_bytes_max, memory_order_relaxed);
}

static int larger_first(const void *left, const void *right)
{
	const struct berth_run_process *a = *(const struct berth_run_process *const *)left;
	const struct berth_run_process *b = *(const struct berth_run_process *const *)right;

	if (in_pool(a) != in_pool(b))
		return in_pool(a) < in_pool(b) ? 1 : -1;
	if (resident(a) != resident(b))
		return resident(a) < resident(b) ? 1 : -1;
	return (a->pid > b->pid) - (a->pid < b->pid);
}

static void print_figures(FILE *out, const struct berth__figures *figures)
{
	const double share = berth__figures_share(figures);
	struct texts texts = { .nr = 0 };

	fprintf(out, "%s of heap in the pool", bytes(&texts, figures->heap_pool_bytes_max));
	if (share >= 0)
		fprintf(out, " (%.0f %%)", share * 100);
	if (figures->heap_outside_bytes)
		fprintf(out, ", %s outside", bytes(&texts, figures->heap_outside_bytes));
	if (figures->claims_ok || figures->claims_failed)
		fprintf(out, "; claims %llu, failed %llu", (unsigned long long)figures->claims_ok,
			(unsigned long long)figures->claims_failed);
	if (figures->claim_moved_bytes || figures->stress_moved_bytes)
		fprintf(out, "; %s moved",
			bytes(&texts, figures->claim_moved_bytes + figures->stress_moved_bytes));
	if (figures->stalled_runs)
		fprintf(out, "; stall %s", ns(&texts, figures->stall_ns_max));
}

static void print_process(FILE *out, const struct berth_run_process *process, bool running)
{
	char program[BERTH__TEXT_BYTES], why[BERTH__TEXT_BYTES];
	struct berth__figures figures = { .claims_ok = 0 };

	berth__figures_add(&figures, process);
	fprintf(out, "  %9d %s: ", (int)process->pid,
		berth__printable(program, process->program, sizeof(process->program)));
	if (figures.pool_bytes)
		print_figures(out, &figures);
	if (process->why_no_pool[0])
		fprintf(out, "%s%s", figures.pool_bytes ? "; " : "",
			berth__printable(why, process->why_no_pool, sizeof(process->why_no_pool)));
	else if (!figures.pool_bytes)
		fputs("no pool yet when it ended", out);
	fputs(running ? "; still running\n" : "\n", out);
}

static void print_processes(FILE *out, const struct berth__report *report)
{
	const struct berth_run_process *first = report->outcome->record->processes;
	const struct berth_run_process *sorted[BERTH_RUN_PROCESSES];
	unsigned nr = report->nr_processes;

	if (nr < 2 && !report->nr_running)
		return;
	for (unsigned i = 0; i < nr; i++)
		sorted[i] = &first[i];
	qsort(sorted, nr, sizeof(sorted[0]), larger_first);
	fprintf(out, "  %llu processes, %u with a pool", (unsigned long long)report->nr_there_were,
		report->nr_pools);
	if (report->nr_there_were > nr)
		fprintf(out, " of the %u that are known still", nr);
	if (report->nr_running)
		fprintf(out, ", %u still running", report->nr_running);
	fputc('\n', out);
	for (unsigned i = 0; i < nr && i < MOST_PROCESSES_SHOWN; i++)
		print_process(out, sorted[i], report->running[sorted[i] - first]);
	if (nr > MOST_PROCESSES_SHOWN)
		fprintf(out, "        ... %u more (--json shows them)\n",
			nr - MOST_PROCESSES_SHOWN);
}

void berth__report_text(FILE *out, const struct berth__report *report)
{
	print_end(out, report->outcome);
	print_claims(out, report);
	print_failures(out, report);
	print_missed(out, report->outcome->record);
	print_area(out, report);
	print_pool(out, report);
	print_sqlite(out, report);
	print_processes(out, report);
}
