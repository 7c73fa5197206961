/* SPDX-License-Identifier: MIT */
/*
 * Starts the program of `berth run` and stays beside it: signals go through, and stopping and
 * continuing.
 */
#ifndef BERTH_TOOLS_LAUNCH_H
#define BERTH_TOOLS_LAUNCH_H

#include "runtime/run_record.h"

struct berth__launch {
	char **argv;                     /* of the program */
	const char *preload;             /* the library's path */
	struct berth_run_record *record; /* root_pid and start_ns are set just before it starts */
	int record_fd;
};

/*
 * Runs the program until it has ended; *status is its wait status. 0, or the exit code of `berth
 * run` when it couldn't be started, and `why` is the end of a sentence that begins with its name.
 */
int berth__launch(const struct berth__launch *launch, int *status, char *why, size_t why_bytes);

/* Ends this process by the signal that ended the program, without a core dump. */
void berth__die_by(int number);

#endif
