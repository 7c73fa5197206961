/* SPDX-License-Identifier: MIT */
/*
 * Stacks that a program takes from its heap: they become private memory before they are used.
 *
 * A thread's stack holds the word that pthread_join() waits for. The kernel clears it and wakes it as a
 * shared futex when the thread ends: it would be found by the frame, which changes, and can't be written
 * while it moves, since a thread that ends doesn't wait for a fault. A signal stack is written by the
 * kernel while it delivers a signal, where a fault can end the program.
 *
 * Stacks of coroutines (makecontext and its like) are memory as any other; one that forks is looked
 * after in heap.c.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "port/linux/raw.h"
#include "runtime/heap.h"
#include "runtime/inside.h"
#include "runtime/untreated.h"

#define EXPORT __attribute__((visibility("default")))

/* The stack that `attr` gives; one without a size has the default one below its top. */
static const void *stack_of(const pthread_attr_t *attr, size_t *bytes)
{
	pthread_attr_t defaults;
	void *base;

	if (pthread_attr_getstack(attr, &base, bytes) != 0)
		return NULL;
	if (*bytes || pthread_getattr_default_np(&defaults) != 0)
		return base;
	if (pthread_attr_getstacksize(&defaults, bytes) == 0)
		base = (char *)base - *bytes;
	pthread_attr_destroy(&defaults);
	return base;
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
			  void *arg)
{
	static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	const void *base;
	size_t bytes = 0;

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
	if (!next)
		abort(); /* it is in every C library that could load us */
	base = attr ? stack_of(attr, &bytes) : NULL;
	if (base && berth__heap_overlaps(base, bytes) && !berth__untreated(BERTH_TREAT_STACKS) &&
	    berth__heap_make_private(base, bytes) != 0)
		return EAGAIN;
	return next(thread, attr, start, arg);
}

EXPORT int sigaltstack(const stack_t *restrict wanted, stack_t *restrict old)
{
	if (wanted && !(wanted->ss_flags & SS_DISABLE) &&
	    berth__heap_overlaps(wanted->ss_sp, wanted->ss_size) &&
	    !berth__untreated(BERTH_TREAT_STACKS) &&
	    berth__heap_make_private(wanted->ss_sp, wanted->ss_size) != 0) {
		errno = ENOMEM;
		return -1;
	}
	return (int)berth__result(berth_raw2(SYS_sigaltstack, wanted, old));
}
