/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of ours in somebody else's process: which they are, and how they are closed.
 *
 * Programs close all descriptors that they don't know. So ours stand away from the numbers that
 * programs use, and in a table; the preload library's close() and its like leave those alone.
 *
 * Everything here is safe in signal handlers and after vfork: a few atomic loads and stores.
 */
#ifndef BERTH_PORT_LINUX_FD_H
#define BERTH_PORT_LINUX_FD_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>

#define BERTH_FD_NUMBERS (1u << 20) /* larger ones can't be protected */

/* No protected descriptor is smaller; INT_MAX: there are none. It may be too small. */
extern _Atomic int berth__fd_lowest;
bool berth__fd_in_table(int fd);

/* Enters a descriptor into the table. -ENOSPC: the number is too large. */
int berth__fd_protect(int fd);
/* Takes it out again; before it is closed, or the number is ours when the program gets it. */
void berth__fd_release(int fd);
/* The first of ours from `fd` on, or INT_MAX. */
int berth__fd_next(int fd);

/* One load and a compare for the numbers that programs use. */
static inline bool berth__fd_is_ours(int fd)
{
	return fd >= atomic_load_explicit(&berth__fd_lowest, memory_order_relaxed) &&
	       berth__fd_in_table(fd);
}

/* The same file under a number away from those that programs expect to be theirs, if there is one,
 * and protected. */
int berth_fd_move_up(int fd);
/* Releases and closes one of ours, past an interposed close(). */
void berth_fd_close(int fd);

#endif
