/* SPDX-License-Identifier: MIT */
/*
 * Stacks that a program takes from its heap: they are pinned while they are in use.
 *
 * A thread's stack holds the word that pthread_join() waits for. The kernel wakes it as a shared
 * futex, whose key is the frame: after a move nobody would be woken. A signal stack is written by the
 * kernel while it delivers a signal, when a fault that has to wait ends the program.
 *
 * I1  stacks[] has an entry for every live thread that was started on heap memory, with its pin.
 *
 * A pin is long-term if possible, which moves the stack out of the areas first.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/heap.h"

#define EXPORT __attribute__((visibility("default")))
#define MAX_STACKS 1024
#define NO_PIN UINT64_MAX

static berth_lock_t create_lock;   /* from a thread's start until it is remembered */
static berth_lock_t lock;          /* stacks[] */
static _Atomic uint32_t nr_stacks; /* entries in use, or about to be: 0 in most programs */
static struct stack {
	bool used;
	pthread_t thread;
	const void *base;
	uint64_t pin;
} stacks[MAX_STACKS];

static void *next_function(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);

	if (!found)
		abort(); /* it is in every C library that could load us */
	return found;
}

/* Forgets the stack of `thread`, or the one at `base`: whoever ran there has ended. */
static void forget(const pthread_t *thread, const void *base)
{
	uint64_t pin = NO_PIN;

	if (!atomic_load(&nr_stacks))
		return;
	if (thread) {
		berth_lock(&create_lock);
		berth_unlock(&create_lock);
	}
	berth_lock(&lock);
	for (int i = 0; i < MAX_STACKS && pin == NO_PIN; i++) {
		struct stack *stack = &stacks[i];

		if (stack->used &&
		    (thread ? pthread_equal(stack->thread, *thread) : stack->base == base)) {
			stack->used = false;
			atomic_fetch_sub(&nr_stacks, 1);
			pin = stack->pin;
		}
	}
	berth_unlock(&lock);
	if (pin != NO_PIN)
		berth__heap_unpin(pin);
}

/* False: no place is left, and it stays pinned for good. */
static bool remember(pthread_t thread, const void *base, uint64_t pin)
{
	bool found = false;

	berth_lock(&lock);
	for (int i = 0; i < MAX_STACKS && !found; i++) {
		if (stacks[i].used)
			continue;
		stacks[i] = (struct stack){ true, thread, base, pin };
		found = true;
	}
	berth_unlock(&lock);
	return found;
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
			  void *arg)
{
	static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	uint64_t pin = NO_PIN;
	void *base = NULL;
	size_t bytes = 0;
	int error;

	if (!next)
		*(void **)&next = next_function("pthread_create");
	if (attr && pthread_attr_getstack(attr, &base, &bytes) == 0 && berth__heap_contains(base)) {
		forget(NULL, base); /* of a detached thread that nobody joined */
		if (berth__heap_pin(base, bytes, "a thread's stack", &pin) != 0)
			return EAGAIN;
	}
	if (pin == NO_PIN)
		return next(thread, attr, start, arg);
	/* Whoever joins it at once must find it remembered. */
	berth_lock(&create_lock);
	atomic_fetch_add(&nr_stacks, 1);
	error = next(thread, attr, start, arg);
	if (error || !remember(*thread, base, pin))
		atomic_fetch_sub(&nr_stacks, 1);
	berth_unlock(&create_lock);
	if (error)
		berth__heap_unpin(pin);
	return error;
}

EXPORT int pthread_join(pthread_t thread, void **result)
{
	static int (*next)(pthread_t, void **);
	int error;

	if (!next)
		*(void **)&next = next_function("pthread_join");
	error = next(thread, result);
	if (!error)
		forget(&thread, NULL);
	return error;
}

EXPORT int pthread_tryjoin_np(pthread_t thread, void **result)
{
	static int (*next)(pthread_t, void **);
	int error;

	if (!next)
		*(void **)&next = next_function("pthread_tryjoin_np");
	error = next(thread, result);
	if (!error)
		forget(&thread, NULL);
	return error;
}

EXPORT int pthread_timedjoin_np(pthread_t thread, void **result, const struct timespec *until)
{
	static int (*next)(pthread_t, void **, const struct timespec *);
	int error;

	if (!next)
		*(void **)&next = next_function("pthread_timedjoin_np");
	error = next(thread, result, until);
	if (!error)
		forget(&thread, NULL);
	return error;
}

EXPORT int pthread_clockjoin_np(pthread_t thread, void **result, clockid_t clock,
				const struct timespec *until)
{
	static int (*next)(pthread_t, void **, clockid_t, const struct timespec *);
	int error;

	if (!next)
		*(void **)&next = next_function("pthread_clockjoin_np");
	error = next(thread, result, clock, until);
	if (!error)
		forget(&thread, NULL);
	return error;
}

/* ---- Signal stacks -------------------------------------------------------------------------------- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key; /* the pin of the thread's signal stack, plus one */

static void unpin_signal_stack(void *value)
{
	if (value)
		berth__heap_unpin((uint64_t)(uintptr_t)value - 1);
}

static void make_key(void)
{
	if (pthread_key_create(&key, unpin_signal_stack) != 0)
		abort();
}

EXPORT int sigaltstack(const stack_t *restrict wanted, stack_t *restrict old)
{
	uint64_t pin = NO_PIN;
	void *before;

	if (wanted && !(wanted->ss_flags & SS_DISABLE) && berth__heap_contains(wanted->ss_sp) &&
	    berth__heap_pin(wanted->ss_sp, wanted->ss_size, "a signal stack", &pin) != 0) {
		errno = ENOMEM;
		return -1;
	}
	if (syscall(SYS_sigaltstack, wanted, old) != 0) {
		int saved = errno;

		if (pin != NO_PIN)
			berth__heap_unpin(pin);
		errno = saved;
		return -1;
	}
	if (!wanted)
		return 0;
	pthread_once(&once, make_key);
	before = pthread_getspecific(key);
	pthread_setspecific(key, pin == NO_PIN ? NULL : (void *)(uintptr_t)(pin + 1));
	unpin_signal_stack(before);
	return 0;
}
