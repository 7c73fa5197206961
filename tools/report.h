/* SPDX-License-Identifier: MIT */
/*
 * The report of `berth run`: what the record says, added up (report.c), as text (report_text.c) or
 * as one JSON object (report_json.c).
 */
#ifndef BERTH_TOOLS_REPORT_H
#define BERTH_TOOLS_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "runtime/run_record.h"
#include "tools/json.h"
#include "tools/schedule.h"

struct berth__outcome {
	const struct berth_run_record *record; /* processes may still be writing to it */
	struct berth__tree tree;
	const char *program;
	int status; /* its wait status */
	uint64_t wall_ns;
};

/* One process's figures, or those of several together. */
struct berth__figures {
	uint64_t claims_ok, claims_failed, claims_held, retries;
	uint64_t claim_ns_max, claim_cpu_ns, claim_moved_bytes, stress_moved_bytes;
	uint64_t stall_ns_max, stalled_runs, moves_skipped, late_writes;
	uint64_t pool_bytes, area_bytes; /* of several: of those there were at one time */
	uint64_t lent_samples, lent_bytes_sum, lent_bytes_max;
	uint64_t heap_outside_bytes, heap_pool_bytes_max, resident_bytes_at_max;
	uint64_t histogram[BERTH_RUN_BUCKETS];
	uint64_t sqlite_front_hits, sqlite_store_hits, sqlite_misses, sqlite_puts, sqlite_refused;
	uint64_t sqlite_front_bytes, sqlite_caches, sqlite_distrusted;
	uint64_t store_lost, store_evicted, store_bytes_max;
};

/* What became of the claims that were asked for. */
struct berth__requests {
	uint64_t succeeded, failed;
	uint64_t passed_on, unanswered, nobody; /* see struct berth_run_claim */
};

/* The failures of one kind. */
struct berth__failure {
	int error;
	uint64_t bytes, count, largest_free_bytes, largest_claimable_bytes;
	char holder[2 * BERTH_RUN_NAME];
};

/* Of a number over the timeline. */
struct berth__course {
	uint64_t least, last;
	double mean;
};

struct berth__report {
	const struct berth__outcome *outcome;
	struct berth__figures total;
	struct berth__requests requests;
	unsigned nr_processes, nr_pools, nr_running; /* in the record */
	uint64_t nr_there_were;            /* more, when the record lost some that had ended */
	bool running[BERTH_RUN_PROCESSES]; /* still, when the first process had ended */
	/* The process with the most heap in a pool, or else the first one. NULL: the library never came
	 * up in either. */
	const struct berth_run_process *main;
	unsigned nr_failures; /* kinds, the most frequent first */
	struct berth__failure failures[BERTH_RUN_FAILURES];
	uint32_t nr_moments; /* of `main` */
	struct berth__course largest_free, largest_claimable;
	char share_reason[BERTH__TEXT_BYTES]; /* why so little is in the pool; empty: it isn't little */
};

void berth__report_gather(struct berth__report *report, const struct berth__outcome *outcome);
void berth__report_text(FILE *out, const struct berth__report *report);
/* One line. */
void berth__report_json(FILE *out, const struct berth__report *report);

/* Adds a process's figures. */
void berth__figures_add(struct berth__figures *figures, const struct berth_run_process *process);
/* The latency in ns that `percent` of the successful claims didn't exceed; 0 of none. */
uint64_t berth__figures_percentile(const struct berth__figures *figures, double percent);
/* The part of the resident memory that was in the pool, 0 .. 1; negative: not known. */
double berth__figures_share(const struct berth__figures *figures);
double berth__figures_lent_mean(const struct berth__figures *figures);

#endif
