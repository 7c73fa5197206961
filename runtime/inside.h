/* SPDX-License-Identifier: MIT */
/*
 * System calls as the C library makes them, for functions that take its place.
 */
#ifndef BERTH_RUNTIME_INSIDE_H
#define BERTH_RUNTIME_INSIDE_H

#include <errno.h>

/* The kernel's result as the C library's: -1 and errno. */
static inline long berth__result(long result)
{
	if (result < 0 && result >= -4095) {
		errno = (int)-result;
		return -1;
	}
	return result;
}

#endif
