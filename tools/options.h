/* SPDX-License-Identifier: MIT */
/*
 * Command lines: the next option, and one voice for everything that is wrong with one.
 */
#ifndef BERTH_TOOLS_OPTIONS_H
#define BERTH_TOOLS_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/run_record.h"
#include "tools/tool.h"

/* Prints "COMMAND: the sentence" to stderr and returns `code`. */
int berth__complain(int code, const char *command, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The system has so much memory available. False: the user knows, and that smaller `options` would do. */
bool berth__has_memory(const char *command, uint64_t bytes, const char *options);

enum berth__option_result {
	BERTH__OPTIONS_END = -1, /* optind is at the first argument that is no option */
	BERTH__OPTIONS_BAD = -2, /* and the user knows */
};

/*
 * The next option's `val`, with its value in optarg; or one of the above. `options` ends with a
 * zero entry; -h is --help. Set optind to 0 before the first call.
 */
int berth__next_option(const char *command, int argc, char **argv, const struct option *options);

/* A command that takes options and nothing else. */
struct berth__command {
	const char *name, *help;
	const struct option *options;
	/* An option but --help, with its value in optarg, goes into the configuration. False: it was wrong, and the
	 * user knows. */
	bool (*take)(void *config, int option);
};
/* Takes the whole command line. -1: go on; otherwise the exit code: help was printed, or a complaint. */
int berth__take_options(const struct berth__command *command, int argc, char **argv, void *config);

/* The value of an option: as the functions of units.h, but they complain and return false. */
bool berth__size_option(const char *command, const char *option, uint64_t *bytes);
bool berth__count_option(const char *command, const char *option, uint64_t least, uint64_t most,
			 uint64_t *count);

/* Likewise: a time, 0 is allowed. */
bool berth__time_option(const char *command, const char *option, uint64_t *ns);

/* NAME=SIZE and SIZE@START[+HOLD][xN] of `berth run`. Likewise. */
bool berth__area_option(const char *command, struct berth_run_area *area);
bool berth__claim_option(const char *command, struct berth_run_claim *claim);

/* A way to move memory that the library knows by this name. Likewise; optarg names it. */
bool berth__mover_option(const char *command);

#endif
