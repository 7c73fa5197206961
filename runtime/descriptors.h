/* SPDX-License-Identifier: MIT */
/*
 * Our descriptors in the program: see port/linux/fd.h for how they are protected.
 */
#ifndef BERTH_RUNTIME_DESCRIPTORS_H
#define BERTH_RUNTIME_DESCRIPTORS_H

#include <stdbool.h>

#include "port/linux/fd.h"

/*
 * Gives the calling thread, which is one of ours, a table of descriptors of its own, with nothing
 * in it but what is protected; threads that it starts share that one. From then on nothing the
 * program does to its descriptors, by whatever means, reaches this thread's, and what the thread opens
 * takes no number from the program's table. So descriptors that are opened afterwards are *not* to be
 * protected: their numbers mean something else to the program. Standard error isn't in the table.
 * False: the system refuses, and the table is the program's as before.
 */
bool berth__descriptors_separate(void);
/* The calling thread has done that. */
bool berth__descriptors_separated(void);
/* Some thread that has done that has this number (of gettid). */
bool berth__descriptors_own_thread(int tid);

#endif
