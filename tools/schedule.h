/* SPDX-License-Identifier: MIT */
/*
 * The claims of `berth run`: a thread beside the program makes each at its time, in a process of the
 * program's tree, and looks at the tree as a whole meanwhile.
 */
#ifndef BERTH_TOOLS_SCHEDULE_H
#define BERTH_TOOLS_SCHEDULE_H

#include "runtime/run_record.h"

/* The tree's pools together, looked at every few milliseconds. */
struct berth__tree {
	uint64_t samples; /* while there was a pool */
	uint64_t pools_max;
	uint64_t pool_bytes_max, area_bytes_max;
	uint64_t lent_bytes_sum, lent_bytes_max; /* mean = sum / samples */
};

struct berth__schedule;

/* Starts the thread. NULL: the system refuses one. */
struct berth__schedule *berth__schedule_start(struct berth_run_record *record);
/*
 * Stops it at once, also in the middle of a claim; what is held is released. NULL is allowed, and
 * then *tree is zero.
 */
void berth__schedule_stop(struct berth__schedule *schedule, struct berth__tree *tree);

#endif
