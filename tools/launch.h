/* SPDX-License-Identifier: MIT */
/*
 * Starts a program for `berth run` or `berth claim` and stays beside it: signals go through, and
 * stopping and continuing.
 */
#ifndef BERTH_TOOLS_LAUNCH_H
#define BERTH_TOOLS_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct berth__launch {
	char **argv; /* of the program */
	/* In the child, just before it becomes the program, e.g. to set its environment; -1 and errno:
	 * that isn't possible. */
	int (*prepare)(void *context);
	/* Beside the program, once it is there. May be NULL. */
	void (*started)(void *context);
	/* A descriptor to look at meanwhile, or -1; `noticed` is called when it can be read or hung up,
	 * and returns whether to go on looking. */
	int watched_fd;
	bool (*noticed)(void *context);
	void *context;
};

/*
 * Runs the program until it has ended; *status is its wait status. 0, or the exit code of the command
 * when it couldn't be started, and `why` is the end of a sentence that begins with its name.
 */
int berth__launch(const struct berth__launch *launch, int *status, char *why, size_t why_bytes);

/* Ends this process by the signal that ended the program, without a core dump. */
void berth__die_by(int number);

/* The exit code for a wait status, unless the program died of a signal: then so do we. */
int berth__end_as(int status);

#endif
