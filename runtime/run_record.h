/* SPDX-License-Identifier: MIT */
/*
 * What `berth run` and the preload library in the program share: one memory file, mapped by both.
 * The tool writes the header before it starts the program; each process of the program fills a
 * record of its own and keeps it current, so that the figures survive however the process ends.
 *
 * The file reaches the program as a path in the environment variable BERTH_RUN,
 * /proc/<tool's pid>/fd/<n>: no descriptor of the program's is used up.
 */
#ifndef BERTH_RUN_RECORD_H
#define BERTH_RUN_RECORD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <berth/stats.h>

#include "runtime/sqlite_backend.h"

#define BERTH_RUN_ENV "BERTH_RUN"
#define BERTH_RUN_MAGIC 0x6265727468303105ull
#define BERTH_RUN_AREAS 16
#define BERTH_RUN_CLAIMS 64
#define BERTH_RUN_PROCESSES 256
#define BERTH_RUN_NAME 32
#define BERTH_RUN_FAILURES 16
#define BERTH_RUN_TIMELINE 512
#define BERTH_RUN_CONFIG 1024 /* bytes of --config, with the final zero */

/* One --area. */
struct berth_run_area {
	char name[BERTH_RUN_NAME];
	uint64_t bytes;
};

/*
 * One --claim. The tool makes it, in a process of the tree, and counts here; what it cost stands in
 * the record of the process that answered.
 */
struct berth_run_claim {
	uint64_t bytes;
	uint64_t start_ns, hold_ns;  /* start: after the run's start */
	uint64_t repeat;             /* UINT64_MAX: until the program ends */
	_Atomic uint64_t done;       /* times it was made: succeeded + failed */
	_Atomic uint64_t succeeded;  /* one process had it */
	_Atomic uint64_t passed_on;  /* failures that another process was asked after */
	_Atomic uint64_t unanswered; /* failures of processes that never answered (stopped ones) */
	_Atomic uint64_t nobody;     /* times that nobody was there to ask; not in `done` */
};

/* Latencies in a log-linear histogram of nanoseconds: that of <berth/stats.h>. */
#define BERTH_RUN_BUCKETS BERTH_HISTOGRAM_BUCKETS

/* One kind of failure: the first such claim's details, and how many there were. */
struct berth_run_failure {
	int32_t error;
	uint64_t bytes, count;
	uint64_t largest_free_bytes, largest_claimable_bytes;
	char holder[2 * BERTH_RUN_NAME]; /* "owner: name" or empty */
};

/* The state of the areas at a moment. */
struct berth_run_moment {
	uint64_t at_ns; /* after the run's start */
	uint64_t lent_bytes, claimed_bytes, largest_free_bytes, largest_claimable_bytes;
};

struct berth_run_process {
	_Atomic uint32_t used; /* 1: taken; 2: just changing hands */
	int32_t pid;
	uint64_t since_ns; /* CLOCK_BOOTTIME; the process had started then, another with its pid hadn't */
	char program[BERTH_RUN_NAME];
	char why_no_pool[128]; /* empty: it has a pool */
	_Atomic uint32_t
		sandboxed; /* it has left the pool for a seccomp filter, which survives exec */
	char mover[BERTH_RUN_NAME];
	char notice[256];
	char why_not_serving[128]; /* empty, or why nobody can claim from it */
	_Atomic uint32_t serving;  /* 1: its control socket takes claims */
	/* Below: written by the process while it lives; plain counters, 64 bits each. */
	_Atomic uint64_t claims_ok, claims_failed, claims_held, retries;
	_Atomic uint64_t claim_ns_max, cpu_ns, moved_bytes, free_bytes_taken;
	_Atomic uint64_t claim_histogram[BERTH_RUN_BUCKETS];
	_Atomic uint64_t stall_ns_max, stalled_runs, moves_skipped, shuffled_bytes;
	_Atomic uint64_t late_writes; /* pages written after they had moved away (quarantine) */
	_Atomic uint64_t pool_bytes, area_bytes;
	_Atomic uint64_t lent_samples, lent_bytes_sum, lent_bytes_max; /* mean = sum / samples */
	_Atomic uint64_t lent_bytes_now;                               /* at the last sample */
	_Atomic uint64_t heap_pool_bytes, heap_outside_bytes;          /* now */
	_Atomic uint64_t heap_pool_bytes_max;
	_Atomic uint64_t resident_bytes_at_max; /* the process's, when heap_pool_bytes was largest */
	struct berth__sqlite_counters sqlite;   /* written by libberth-sqlite */
	_Atomic uint64_t store_lost, store_evicted, store_bytes_now, store_bytes_max;
	char sqlite_note[BERTH__SQLITE_NOTE_BYTES]; /* why SQLite has no cache in the store, or empty */
	_Atomic uint32_t nr_failures, nr_moments;
	struct berth_run_failure failures[BERTH_RUN_FAILURES];
	struct berth_run_moment moments[BERTH_RUN_TIMELINE]; /* thinned out as the run gets long */
};

struct berth_run_record {
	uint64_t magic;
	int32_t root_pid;     /* the program's first process */
	int32_t tool_pid;     /* the `berth run`; 0: none */
	uint64_t start_ns;    /* CLOCK_MONOTONIC at the program's start */
	uint64_t pool_bytes;  /* 0: by the areas */
	uint64_t least_bytes; /* of config: up to the last area's end */
	uint32_t nr_areas, nr_claims;
	uint32_t stress, poison, let_cpus_sleep;
	uint32_t trust_direct_io;    /* move the heap although direct I/O may be under way in it */
	uint32_t sqlite_cache;       /* SQLite keeps its pages in the areas with policy=gcma */
	uint64_t sqlite_front_bytes; /* 0: by the areas */
	uint32_t quarantine;         /* with stress: report writes to memory after it was moved */
	char mover[BERTH_RUN_NAME];  /* empty: the best */
	char config[BERTH_RUN_CONFIG]; /* not empty: what the areas are made by; `areas` are the same */
	_Atomic uint64_t nr_processes; /* that there were; `processes` may have lost some of them */
	struct berth_run_area areas[BERTH_RUN_AREAS];
	struct berth_run_claim claims[BERTH_RUN_CLAIMS]; /* from the first area */
	struct berth_run_process processes[BERTH_RUN_PROCESSES];
};

#endif
