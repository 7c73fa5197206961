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

#define BERTH_COPY_PAGES 8u

/*
 * Copies up to that many pages that needn't follow each other, a part of each in turn: the machine finds out what is read
 * next in several pages at a time, where it would begin anew with each of them. Past the caches, likewise.
 */
void berth_copy_pages(void *const *dst, const void *const *src, unsigned nr);

#endif
