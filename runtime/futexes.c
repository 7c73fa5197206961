/* SPDX-License-Identifier: MIT */
/*
 * Futexes in heap memory that the kernel doesn't know as private to the process.
 *
 * Such a futex on a page of the pool is found by the file and the offset, which change with a move: who
 * waits since before isn't woken after. On private memory it is found by the address. So their pages become
 * private: when a primitive is made that uses them (shared between processes, or a robust mutex, which the
 * C library treats so and the kernel itself unlocks when its owner dies), and before a thread waits
 * on one by a system call of its own (std::future of libstdc++ does, for one). A wake that nobody waits for
 * needs nothing, and a waiter's page is private before it looks at the word: so whoever changes the
 * word after that and wakes finds it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "runtime/heap.h"
#include "runtime/memory_calls.h"
#include "runtime/untreated.h"

#define EXPORT __attribute__((visibility("default")))

static void *next_function(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);

	if (!found)
		abort(); /* it is in every C library that could load us */
	return found;
}

static bool treated(const void *object, size_t bytes)
{
	return berth__heap_overlaps(object, bytes) && !berth__untreated(BERTH_TREAT_FUTEX);
}

/* ---- Primitives of the C library ------------------------------------------------------------------------- */

EXPORT int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
	static int (*next)(pthread_mutex_t *, const pthread_mutexattr_t *);

	if (attr && treated(mutex, sizeof(*mutex))) {
		int shared = PTHREAD_PROCESS_PRIVATE, robust = PTHREAD_MUTEX_STALLED;

		(void)pthread_mutexattr_getpshared(attr, &shared);
		(void)pthread_mutexattr_getrobust(attr, &robust);
		if ((shared == PTHREAD_PROCESS_SHARED || robust == PTHREAD_MUTEX_ROBUST) &&
		    berth__heap_make_private(mutex, sizeof(*mutex)) != 0)
			return ENOMEM;
	}
	if (!next)
		*(void **)&next = next_function("pthread_mutex_init");
	return next(mutex, attr);
}

EXPORT int pthread_cond_init(pthread_cond_t *restrict cond, const pthread_condattr_t *restrict attr)
{
	static int (*next)(pthread_cond_t *, const pthread_condattr_t *);
	int shared = PTHREAD_PROCESS_PRIVATE;

	if (attr && treated(cond, sizeof(*cond)) &&
	    pthread_condattr_getpshared(attr, &shared) == 0 && shared == PTHREAD_PROCESS_SHARED &&
	    berth__heap_make_private(cond, sizeof(*cond)) != 0)
		return ENOMEM;
	if (!next)
		*(void **)&next = next_function("pthread_cond_init");
	return next(cond, attr);
}

EXPORT int pthread_rwlock_init(pthread_rwlock_t *restrict lock,
			       const pthread_rwlockattr_t *restrict attr)
{
	static int (*next)(pthread_rwlock_t *, const pthread_rwlockattr_t *);
	int shared = PTHREAD_PROCESS_PRIVATE;

	if (attr && treated(lock, sizeof(*lock)) &&
	    pthread_rwlockattr_getpshared(attr, &shared) == 0 && shared == PTHREAD_PROCESS_SHARED &&
	    berth__heap_make_private(lock, sizeof(*lock)) != 0)
		return ENOMEM;
	if (!next)
		*(void **)&next = next_function("pthread_rwlock_init");
	return next(lock, attr);
}

EXPORT int pthread_barrier_init(pthread_barrier_t *restrict barrier,
				const pthread_barrierattr_t *restrict attr, unsigned count)
{
	static int (*next)(pthread_barrier_t *, const pthread_barrierattr_t *, unsigned);
	int shared = PTHREAD_PROCESS_PRIVATE;

	if (attr && treated(barrier, sizeof(*barrier)) &&
	    pthread_barrierattr_getpshared(attr, &shared) == 0 &&
	    shared == PTHREAD_PROCESS_SHARED &&
	    berth__heap_make_private(barrier, sizeof(*barrier)) != 0)
		return ENOMEM;
	if (!next)
		*(void **)&next = next_function("pthread_barrier_init");
	return next(barrier, attr, count);
}

EXPORT int sem_init(sem_t *semaphore, int shared, unsigned value)
{
	static int (*next)(sem_t *, int, unsigned);

	if (shared && treated(semaphore, sizeof(*semaphore)) &&
	    berth__heap_make_private(semaphore, sizeof(*semaphore)) != 0) {
		errno = ENOSPC;
		return -1;
	}
	if (!next)
		*(void **)&next = next_function("sem_init");
	return next(semaphore, shared, value);
}

/* ---- System calls ---------------------------------------------------------------------------------------- */

#define FUTEX2_PRIVATE_BIT 128u
#define MAX_WAITERS 128

/* As the kernel has it (struct futex_waitv). */
struct waiter {
	uint64_t value, address;
	uint32_t flags, reserved;
};

static bool ready(const void *word)
{
	if (!treated(word, sizeof(uint32_t)) ||
	    berth__heap_make_private(word, sizeof(uint32_t)) == 0)
		return true;
	errno = ENOMEM;
	return false;
}

static bool ready_waiters(const struct waiter *waiters, long nr)
{
	for (long i = 0; waiters && i < nr && i < MAX_WAITERS; i++)
		if (!(waiters[i].flags & FUTEX2_PRIVATE_BIT) &&
		    !ready((const void *)(uintptr_t)waiters[i].address))
			return false;
	return true;
}

static bool ready_for_operation(const long a[6])
{
	const void *first = (const void *)a[0], *second = (const void *)a[4];

	if (a[1] & FUTEX_PRIVATE_FLAG)
		return true;
	switch (a[1] & FUTEX_CMD_MASK) {
	case FUTEX_WAKE:
	case FUTEX_WAKE_BITSET:
	case FUTEX_WAKE_OP:
		return true; /* who waits has readied it */
	case FUTEX_REQUEUE:
	case FUTEX_CMP_REQUEUE:
	case FUTEX_CMP_REQUEUE_PI:
	case FUTEX_WAIT_REQUEUE_PI: /* the waiters come to wait on the second */
		return ready(first) && ready(second);
	default:
		return ready(first);
	}
}

bool berth__futex_call(long number, const long a[6])
{
	switch (number) {
	case SYS_futex:
		return ready_for_operation(a);
	case SYS_futex_wait:
		return a[4] & FUTEX2_PRIVATE_BIT || ready((const void *)a[0]);
	case SYS_futex_waitv:
	case SYS_futex_requeue: /* two waiters: from where to where */
		return ready_waiters((const struct waiter *)a[0],
				     number == SYS_futex_waitv ? a[1] : 2);
	default:
		return true;
	}
}
