/* SPDX-License-Identifier: MIT */
/*
 * The Linux port's operations: monotonic clock, membarrier as the barrier of all threads, the futex
 * half of the lock, and the threads' slots.
 *
 * I1  A slot belongs to at most one live thread; a slot's bit is set while it is taken.
 * I2  lock word 2 while a thread may sleep on it: an unlocker that finds 2 wakes one.
 */
#define _GNU_SOURCE
#include "port/linux/port_linux.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <berth_compiler.h>
#include <berth_port.h>

#define SPINS_BEFORE_SLEEP 200

/* ---- Locks --------------------------------------------------------------------------------------- */

static void futex(_Atomic uint32_t *word, int op, uint32_t value)
{
	int saved = errno; /* callers sit inside malloc: errno must not change */

	(void)syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
	errno = saved;
}

void berth__lock_slow(_Atomic uint32_t *word)
{
	for (int spins = 0; spins < SPINS_BEFORE_SLEEP; spins++) {
		uint32_t free = 0;

		berth_relax();
		if (atomic_load_explicit(word, memory_order_relaxed) == 0 &&
		    atomic_compare_exchange_strong_explicit(word, &free, 1, memory_order_acquire,
							    memory_order_relaxed))
			return;
	}
	while (atomic_exchange_explicit(word, 2, memory_order_acquire) != 0)
		futex(word, FUTEX_WAIT, 2);
}

void berth__unlock_slow(_Atomic uint32_t *word)
{
	futex(word, FUTEX_WAKE, 1);
}

/* ---- Slots --------------------------------------------------------------------------------------- */

_Thread_local uint32_t berth__thread_slot __attribute__((tls_model("initial-exec")));

static _Atomic uint64_t slots_taken[BERTH_LINUX_SLOTS / 64];
static pthread_once_t slots_once = PTHREAD_ONCE_INIT;
static pthread_key_t slot_key;
static bool slot_key_made;

static void release_slot(void *value)
{
	uint32_t slot = (uint32_t)(uintptr_t)value - 1;

	/* Destructors that run later may still allocate: they take the zone lock. */
	berth__thread_slot = BERTH_SLOT_REFUSED;
	atomic_fetch_and(&slots_taken[slot / 64], ~(1ull << (slot % 64)));
}

static void make_slot_key(void)
{
	slot_key_made = pthread_key_create(&slot_key, release_slot) == 0;
}

uint32_t berth__thread_slot_acquire(void)
{
	pthread_once(&slots_once, make_slot_key);
	/* While pthread_setspecific runs, it may allocate: without a slot. */
	berth__thread_slot = BERTH_SLOT_REFUSED;
	for (uint32_t word = 0; word < BERTH_LINUX_SLOTS / 64 && slot_key_made; word++) {
		uint64_t taken = atomic_load(&slots_taken[word]);

		while (~taken) {
			uint32_t bit = (uint32_t)__builtin_ctzll(~taken);
			uint32_t slot = word * 64 + bit;

			if (!atomic_compare_exchange_weak(&slots_taken[word], &taken,
							  taken | 1ull << bit))
				continue;
			if (pthread_setspecific(slot_key, (void *)(uintptr_t)(slot + 1)) != 0) {
				atomic_fetch_and(&slots_taken[word], ~(1ull << bit));
				return BERTH_SLOT_REFUSED;
			}
			return berth__thread_slot = slot + 1;
		}
	}
	return BERTH_SLOT_REFUSED;
}

void berth_port_linux_fork_child(void)
{
	uint32_t slot = berth__thread_slot;

	for (uint32_t word = 0; word < BERTH_LINUX_SLOTS / 64; word++)
		atomic_store(&slots_taken[word], 0);
	if (slot && slot != BERTH_SLOT_REFUSED)
		atomic_store(&slots_taken[(slot - 1) / 64], 1ull << ((slot - 1) % 64));
}

/* ---- Operations ----------------------------------------------------------------------------------- */

static BERTH_HOT uint64_t now_ns(void *ctx)
{
	struct timespec now;

	(void)ctx;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void barrier_all(void *ctx)
{
	(void)ctx;
	syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

static void wait_ns(void *ctx, uint64_t ns)
{
	struct timespec pause = { .tv_sec = (time_t)(ns / 1000000000u),
				  .tv_nsec = (long)(ns % 1000000000u) };
	int saved = errno;

	(void)ctx;
	nanosleep(&pause, NULL);
	errno = saved;
}

static void panic(void *ctx, const char *what, uint64_t value, uint64_t expected)
{
	char line[512];
	int length;

	(void)ctx;
	length = snprintf(line, sizeof(line),
			  "berth: broken invariant, stopping before data is lost: %s (found %#llx, "
			  "against %#llx)\n",
			  what, (unsigned long long)value, (unsigned long long)expected);
	if (length > 0 && write(STDERR_FILENO, line, (size_t)length) < 0) {
		/* nobody to tell */
	}
	abort();
}

static bool restart_copies(void *ctx)
{
	int saved = errno;
	bool done;

	(void)ctx;
	/* In a forked child nobody may have registered: then it fails. */
	done = syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 0, 0) == 0;
	errno = saved;
	return done;
}

#define OPS .now_ns = now_ns, .wait = wait_ns, .panic = panic
static const struct berth_port_ops with_all = { OPS, .barrier_all = barrier_all,
						.restart_copies = restart_copies };
static const struct berth_port_ops with_barrier = { OPS, .barrier_all = barrier_all };
static const struct berth_port_ops without_barrier = { OPS };

const struct berth_port_ops *berth_port_linux_ops(void)
{
	int saved = errno;
	bool barrier, restart;

	/* Now, while keys are few: values of later keys are allocated, and slots are taken inside
	 * malloc. */
	pthread_once(&slots_once, make_slot_key);
	barrier = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
	restart = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0) ==
		  0;
	errno = saved;
	return barrier && restart ? &with_all : barrier ? &with_barrier : &without_barrier;
}
