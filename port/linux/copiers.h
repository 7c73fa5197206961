/* SPDX-License-Identifier: MIT */
/*
 * Threads that help one thread to copy: large runs of memory are cut into parts, and whoever is free takes
 * the next one.
 */
#ifndef BERTH_PORT_LINUX_COPIERS_H
#define BERTH_PORT_LINUX_COPIERS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define BERTH_MAX_COPIERS 7u
#define BERTH_COPIERS_LEAST ((size_t)1 << 20) /* less isn't worth waking anybody */

struct berth_copiers {
	/* The job's number in the upper half, the next part to be taken in the lower one. */
	_Alignas(64) _Atomic uint64_t ticket;
	_Alignas(64) _Atomic uint32_t copied; /* parts of the job that are complete */
	_Atomic uint32_t owner_sleeps;        /* on `copied` */
	_Alignas(64) _Atomic uint32_t job;    /* its number; copiers without work sleep on it */
	_Atomic uint32_t sleepers, stop;
	_Atomic(char *) dst;
	_Atomic(const char *) src;
	_Atomic size_t bytes;
	unsigned nr;
	pthread_t threads[BERTH_MAX_COPIERS];
};

/* What the caller starts one with: with all signals blocked, and however it keeps its books. */
typedef int (*berth_start_thread_fn)(void *(*body)(void *), void *arg, pthread_t *thread);

/* Zeroed memory becomes `nr` threads that wait for work. -ENOMEM: the system has no thread left; then none is. */
int berth_copiers_start(struct berth_copiers *copiers, unsigned nr, berth_start_thread_fn start);
/* Ends them; no copy is under way. Does nothing when there are none. */
void berth_copiers_stop(struct berth_copiers *copiers);
/*
 * As memcpy(), by all of them and the caller, one call at a time. The bytes are there when it returns. A copier that
 * loses its CPU in the middle of a part (64 KiB) is waited for.
 */
void berth_copiers_copy(struct berth_copiers *copiers, void *dst, const void *src, size_t bytes);

#endif
