/* SPDX-License-Identifier: MIT */
/*
 * The commands behind `berth`, and their exit codes. Each takes the arguments that follow `berth`,
 * its own name first, and returns the exit code.
 */
#ifndef BERTH_TOOLS_TOOL_H
#define BERTH_TOOLS_TOOL_H

#include <stdio.h>

enum berth__exit {
	BERTH__EXIT_FAILED = 1, /* a check or a measurement failed */
	BERTH__EXIT_USAGE = 2,
	BERTH__EXIT_REFUSED = 123,   /* a claim failed for now; a retry may help */
	BERTH__EXIT_NO_ANSWER = 124, /* a tenant didn't answer in time */
	BERTH__EXIT_CANT_RUN = 125,  /* the run or the claim can't be set up */
	BERTH__EXIT_NOT_EXECUTABLE = 126,
	BERTH__EXIT_NOT_FOUND = 127,
};

int berth__run(int argc, char **argv);
int berth__ps(int argc, char **argv);
int berth__stat(int argc, char **argv);
int berth__claim(int argc, char **argv);
int berth__bench(int argc, char **argv);
int berth__bench_claim(int argc, char **argv);
int berth__bench_pages(int argc, char **argv);
int berth__bench_scale(int argc, char **argv);
int berth__bench_frag(int argc, char **argv);
int berth__bench_choose(int argc, char **argv);
int berth__bench_camera(int argc, char **argv);
int berth__bench_compact(int argc, char **argv);
int berth__bench_store(int argc, char **argv);
int berth__bench_sqlite(int argc, char **argv);

#endif
