/* SPDX-License-Identifier: MIT */
/*
 * The report as one JSON object. Sizes are bytes, times say their unit; null means that it isn't
 * known, or that there was none.
 */
#define _GNU_SOURCE
#include "tools/report.h"

#include <math.h>
#include <string.h>
#include <sys/wait.h>

#include <berth/berth.h>

#include "tools/json.h"

static void add_latency(json_t *object, const struct berth__figures *figures)
{
	static const struct {
		const char *name;
		double percent;
	} latencies[] = { { "p50_us", 50 }, { "p99_us", 99 }, { "max_us", 100 } };

	for (size_t i = 0; i < sizeof(latencies) / sizeof(latencies[0]); i++) {
		uint64_t ns = berth__figures_percentile(figures, latencies[i].percent);

		if (figures->claims_ok)
			berth__json_add(object, latencies[i].name, (double)ns / 1000);
		else
			json_object_set_new(object, latencies[i].name, json_null());
	}
}

/* What a process and the whole run have in common. */
static void add_figures(json_t *object, const struct berth__figures *figures)
{
	const double share = berth__figures_share(figures);

	berth__json_count(object, "claims_ok", figures->claims_ok);
	berth__json_count(object, "claims_failed", figures->claims_failed);
	add_latency(object, figures);
	berth__json_add(object, "cpu_ms", (double)figures->claim_cpu_ns / 1e6);
	berth__json_count(object, "moved_bytes",
			  figures->claim_moved_bytes + figures->stress_moved_bytes);
	berth__json_count(object, "claim_moved_bytes", figures->claim_moved_bytes);
	berth__json_count(object, "stress_moved_bytes", figures->stress_moved_bytes);
	berth__json_count(object, "retries", figures->retries);
	berth__json_add(object, "lent_bytes_mean", berth__figures_lent_mean(figures));
	berth__json_count(object, "lent_bytes_max", figures->lent_bytes_max);
	berth__json_count(object, "area_bytes", figures->area_bytes);
	berth__json_count(object, "pool_bytes", figures->pool_bytes);
	if (share >= 0)
		berth__json_add(object, "pool_share", share);
	else
		json_object_set_new(object, "pool_share", json_null());
	berth__json_count(object, "heap_pool_bytes_max", figures->heap_pool_bytes_max);
	berth__json_count(object, "heap_outside_bytes", figures->heap_outside_bytes);
	berth__json_count(object, "resident_bytes_at_max", figures->resident_bytes_at_max);
	berth__json_add(object, "stall_max_us", (double)figures->stall_ns_max / 1000);
	berth__json_count(object, "stalled_runs", figures->stalled_runs);
	berth__json_count(object, "moves_skipped", figures->moves_skipped);
	berth__json_count(object, "late_writes", figures->late_writes);
}

/* What SQLite's pages did, in the process or in all. */
static void add_sqlite(json_t *object, const struct berth__figures *figures)
{
	json_t *sqlite = json_object();

	berth__json_count(sqlite, "front_hits", figures->sqlite_front_hits);
	berth__json_count(sqlite, "store_hits", figures->sqlite_store_hits);
	berth__json_count(sqlite, "misses", figures->sqlite_misses);
	berth__json_count(sqlite, "puts", figures->sqlite_puts);
	berth__json_count(sqlite, "refused", figures->sqlite_refused);
	berth__json_count(sqlite, "lost_to_claims", figures->store_lost);
	berth__json_count(sqlite, "evicted", figures->store_evicted);
	berth__json_count(sqlite, "store_bytes_max", figures->store_bytes_max);
	berth__json_count(sqlite, "caches", figures->sqlite_caches);
	berth__json_count(sqlite, "distrusted", figures->sqlite_distrusted);
	json_object_set_new(object, "sqlite", sqlite);
}

static void add_course(json_t *object, const char *name, const struct berth__report *report,
		       const struct berth__course *course)
{
	static const char *const suffixes[] = { "", "_min", "_mean" };
	const double values[] = { (double)course->last, (double)course->least, course->mean };
	char key[64];

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		snprintf(key, sizeof(key), "%s%s", name, suffixes[i]);
		json_object_set_new(object, key,
				    report->nr_moments ?
					    json_integer((json_int_t)llround(values[i])) :
					    json_null());
	}
}

static json_t *timeline(const struct berth__report *report)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < report->nr_moments; i++) {
		const struct berth_run_moment *moment = &report->main->moments[i];
		json_t *item = json_object();

		berth__json_add(item, "at_ms", (double)moment->at_ns / 1e6);
		berth__json_count(item, "lent_bytes", moment->lent_bytes);
		berth__json_count(item, "claimed_bytes", moment->claimed_bytes);
		berth__json_count(item, "largest_free_bytes", moment->largest_free_bytes);
		berth__json_count(item, "largest_claimable_bytes", moment->largest_claimable_bytes);
		json_array_append_new(list, item);
	}
	return list;
}

static json_t *failures(const struct berth__report *report)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < report->nr_failures; i++) {
		const struct berth__failure *failure = &report->failures[i];
		json_t *item = json_object();

		berth__json_string(item, "error", berth_errname(failure->error));
		berth__json_string(item, "text", berth_strerror(failure->error));
		berth__json_count(item, "bytes", failure->bytes);
		berth__json_count(item, "count", failure->count);
		berth__json_string(item, "holder", failure->holder);
		berth__json_count(item, "largest_free_bytes", failure->largest_free_bytes);
		berth__json_count(item, "largest_claimable_bytes",
				  failure->largest_claimable_bytes);
		json_array_append_new(list, item);
	}
	return list;
}

/* The claims that were asked for, and how often each was made. */
static json_t *claims(const struct berth_run_record *record)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < record->nr_claims && i < BERTH_RUN_CLAIMS; i++) {
		const struct berth_run_claim *claim = &record->claims[i];
		json_t *item = json_object();

		berth__json_count(item, "bytes", claim->bytes);
		berth__json_add(item, "start_ms", (double)claim->start_ns / 1e6);
		berth__json_add(item, "hold_ms", (double)claim->hold_ns / 1e6);
		json_object_set_new(item, "repeat",
				    claim->repeat == UINT64_MAX ?
					    json_null() :
					    json_integer((json_int_t)claim->repeat));
		berth__json_count(item, "done", atomic_load(&claim->done));
		berth__json_count(item, "succeeded", atomic_load(&claim->succeeded));
		berth__json_count(item, "passed_on", atomic_load(&claim->passed_on));
		berth__json_count(item, "unanswered", atomic_load(&claim->unanswered));
		berth__json_count(item, "nobody_to_ask", atomic_load(&claim->nobody));
		json_array_append_new(list, item);
	}
	return list;
}

static json_t *processes(const struct berth__report *report)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < report->nr_processes; i++) {
		const struct berth_run_process *process = &report->outcome->record->processes[i];
		struct berth__figures figures = { .claims_ok = 0 };
		json_t *item = json_object();

		berth__figures_add(&figures, process);
		json_object_set_new(item, "pid", json_integer(process->pid));
		berth__json_text(item, "program", process->program, sizeof(process->program));
		json_object_set_new(item, "running", json_boolean(report->running[i]));
		json_object_set_new(item, "in_pool", json_boolean(figures.pool_bytes != 0));
		berth__json_text(item, "why_no_pool", process->why_no_pool,
				 sizeof(process->why_no_pool));
		berth__json_text(item, "mover", process->mover, sizeof(process->mover));
		berth__json_text(item, "notice", process->notice, sizeof(process->notice));
		add_figures(item, &figures);
		if (report->outcome->record->sqlite_cache) {
			add_sqlite(item, &figures);
			berth__json_text(item, "why_no_sqlite_cache", process->sqlite_note,
					 sizeof(process->sqlite_note));
		}
		json_array_append_new(list, item);
	}
	return list;
}

static void add_end(json_t *object, const struct berth__outcome *outcome)
{
	const bool killed = WIFSIGNALED(outcome->status);

	json_object_set_new(object, "exit_code",
			    killed ? json_null() : json_integer(WEXITSTATUS(outcome->status)));
	json_object_set_new(object, "signal",
			    killed ? json_integer(WTERMSIG(outcome->status)) : json_null());
	berth__json_add(object, "wall_ms", (double)outcome->wall_ns / 1e6);
}

void berth__report_json(FILE *out, const struct berth__report *report)
{
	const struct berth_run_process *process = report->main;
	json_t *object = json_object();

	berth__json_string(object, "program", report->outcome->program);
	add_end(object, report->outcome);
	add_figures(object, &report->total);
	if (report->outcome->record->sqlite_cache)
		add_sqlite(object, &report->total);
	berth__json_string(object, "pool_share_reason", report->share_reason);
	add_course(object, "largest_free_bytes", report, &report->largest_free);
	add_course(object, "largest_claimable_bytes", report, &report->largest_claimable);
	berth__json_text(object, "mover", process ? process->mover : "",
			 process ? sizeof(process->mover) : 0);
	berth__json_text(object, "notice", process ? process->notice : "",
			 process ? sizeof(process->notice) : 0);
	json_object_set_new(object, "claims", claims(report->outcome->record));
	json_object_set_new(object, "failures", failures(report));
	json_object_set_new(object, "processes", processes(report));
	berth__json_count(object, "claims_passed_on", report->requests.passed_on);
	berth__json_count(object, "claims_unanswered", report->requests.unanswered);
	berth__json_count(object, "nobody_to_ask", report->requests.nobody);
	berth__json_count(object, "pools", report->nr_pools);
	berth__json_count(object, "nr_processes", report->nr_there_were);
	berth__json_count(object, "processes_running", report->nr_running);
	json_object_set_new(object, "main_pid", process ? json_integer(process->pid) : json_null());
	json_object_set_new(object, "processes_truncated",
			    json_boolean(report->nr_there_were > report->nr_processes));
	json_object_set_new(object, "timeline", timeline(report));
	berth__json_print_to(out, object);
}
