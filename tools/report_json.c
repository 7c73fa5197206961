/* SPDX-License-Identifier: MIT */
/*
 * The report as one JSON object. Sizes are bytes, times say their unit; null means that it isn't
 * known, or that there was none.
 */
#define _GNU_SOURCE
#include "tools/report.h"

#include <jansson.h>
#include <math.h>
#include <string.h>
#include <sys/wait.h>

#include <berth/berth.h>

#include "tools/measure.h"

static void add_count(json_t *object, const char *name, uint64_t value)
{
	json_object_set_new(object, name, json_integer((json_int_t)value));
}

/* Empty text becomes null. */
static void add_text(json_t *object, const char *name, const char *from, size_t room)
{
	char text[BERTH__TEXT_BYTES];

	json_object_set_new(object, name,
			    *berth__record_text(text, from, room) ? json_string(text) :
								    json_null());
}

static void add_string(json_t *object, const char *name, const char *text)
{
	add_text(object, name, text, strlen(text));
}

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

	add_count(object, "claims_ok", figures->claims_ok);
	add_count(object, "claims_failed", figures->claims_failed);
	add_latency(object, figures);
	berth__json_add(object, "cpu_ms", (double)figures->claim_cpu_ns / 1e6);
	add_count(object, "moved_bytes", figures->claim_moved_bytes + figures->stress_moved_bytes);
	add_count(object, "claim_moved_bytes", figures->claim_moved_bytes);
	add_count(object, "stress_moved_bytes", figures->stress_moved_bytes);
	add_count(object, "retries", figures->retries);
	berth__json_add(object, "lent_bytes_mean", berth__figures_lent_mean(figures));
	add_count(object, "lent_bytes_max", figures->lent_bytes_max);
	add_count(object, "area_bytes", figures->area_bytes);
	add_count(object, "pool_bytes", figures->pool_bytes);
	if (share >= 0)
		berth__json_add(object, "pool_share", share);
	else
		json_object_set_new(object, "pool_share", json_null());
	add_count(object, "heap_pool_bytes_max", figures->heap_pool_bytes_max);
	add_count(object, "heap_outside_bytes", figures->heap_outside_bytes);
	add_count(object, "resident_bytes_at_max", figures->resident_bytes_at_max);
	berth__json_add(object, "stall_max_us", (double)figures->stall_ns_max / 1000);
	add_count(object, "stalled_runs", figures->stalled_runs);
	add_count(object, "moves_skipped", figures->moves_skipped);
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
		add_count(item, "lent_bytes", moment->lent_bytes);
		add_count(item, "claimed_bytes", moment->claimed_bytes);
		add_count(item, "largest_free_bytes", moment->largest_free_bytes);
		add_count(item, "largest_claimable_bytes", moment->largest_claimable_bytes);
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

		add_string(item, "error", berth_errname(failure->error));
		add_string(item, "text", berth_strerror(failure->error));
		add_count(item, "bytes", failure->bytes);
		add_count(item, "count", failure->count);
		add_string(item, "holder", failure->holder);
		add_count(item, "largest_free_bytes", failure->largest_free_bytes);
		add_count(item, "largest_claimable_bytes", failure->largest_claimable_bytes);
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

		add_count(item, "bytes", claim->bytes);
		berth__json_add(item, "start_ms", (double)claim->start_ns / 1e6);
		berth__json_add(item, "hold_ms", (double)claim->hold_ns / 1e6);
		json_object_set_new(item, "repeat",
				    claim->repeat == UINT64_MAX ?
					    json_null() :
					    json_integer((json_int_t)claim->repeat));
		add_count(item, "done", atomic_load(&claim->done));
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
		add_text(item, "program", process->program, sizeof(process->program));
		json_object_set_new(item, "in_pool", json_boolean(figures.pool_bytes != 0));
		add_text(item, "why_no_pool", process->why_no_pool, sizeof(process->why_no_pool));
		add_text(item, "mover", process->mover, sizeof(process->mover));
		add_text(item, "notice", process->notice, sizeof(process->notice));
		add_figures(item, &figures);
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

	add_string(object, "program", report->outcome->program);
	add_end(object, report->outcome);
	add_figures(object, &report->total);
	add_string(object, "pool_share_reason", report->share_reason);
	add_course(object, "largest_free_bytes", report, &report->largest_free);
	add_course(object, "largest_claimable_bytes", report, &report->largest_claimable);
	add_text(object, "mover", process ? process->mover : "",
		 process ? sizeof(process->mover) : 0);
	add_text(object, "notice", process ? process->notice : "",
		 process ? sizeof(process->notice) : 0);
	json_object_set_new(object, "claims", claims(report->outcome->record));
	json_object_set_new(object, "failures", failures(report));
	json_object_set_new(object, "processes", processes(report));
	json_object_set_new(object, "processes_truncated", json_boolean(report->truncated));
	json_object_set_new(object, "timeline", timeline(report));
	json_dumpf(object, out, JSON_COMPACT | JSON_REAL_PRECISION(15));
	fputc('\n', out);
	json_decref(object);
}
