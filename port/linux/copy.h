/* SPDX-License-Identifier: MIT */
/*
 * Copying memory that moves: nobody needs it in this CPU's caches.
 */
#ifndef BERTH_PORT_LINUX_COPY_H
#define BERTH_PORT_LINUX_COPY_H

#include <stddef.h>

/*
 * As memcpy(). Large runs of whole pages are written past the caches where the machine can do that: the lines to be
 * written aren't fetched before, and what the program has in its caches stays there. Complete, also for other CPUs that
 * learn of it later, when it returns.
 */
void berth_copy(void *dst, const void *src, size_t bytes);

/* The page there is copied next: its first lines are fetched meanwhile. */
static inline void berth_copy_next(const void *src)
{
	/* More than the first ones the machine fetches by itself, when it sees them used one after the other. */
	for (size_t at = 0; at < 512; at += 64)
		__builtin_prefetch((const char *)src + at, 0, 0);
}

#endif
