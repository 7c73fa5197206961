/* SPDX-License-Identifier: MIT */
/*
 * Looks at the program that `berth run` is to start, before it is started, and finds the preload
 * library that goes into it.
 */
#ifndef BERTH_TOOLS_PROGRAM_H
#define BERTH_TOOLS_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

/*
 * 0: the preload library can get into the program `name`, looked up as execvp() does. Otherwise the
 * exit code of `berth run`, and `why` is the end of a sentence that begins with the program's name.
 */
int berth__program_check(const char *name, char *why, size_t why_bytes);

/* The same, but for whether it is there and can be executed. */
int berth__program_find(const char *name, char *why, size_t why_bytes);

/*
 * The absolute path of the preload library: $BERTH_PRELOAD if that is set, else beside this
 * executable, in the folder it was installed to, or in ../lib/berth. False: there is none, and
 * `why` is a sentence.
 */
bool berth__preload_find(char *path, size_t path_bytes, char *why, size_t why_bytes);

/* That of libberth-sqlite, beside the preload library; `path` has PATH_MAX bytes. False, likewise. */
bool berth__sqlite_find(const char *preload, char *path, char *why, size_t why_bytes);

#endif
