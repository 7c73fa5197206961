/* SPDX-License-Identifier: MIT */
/*
 * The hot half of the smallest port there is (see <berth/port.h> for the contract): one CPU, no
 * preemption, no interrupts that allocate.
 *
 * Where more than one CPU runs, take the kernel's own: its spinlock for berth_lock_t, its mutex for
 * berth_mutex_t, its CPU number for berth_cpu(), and let berth_preempt_disable() turn preemption off.
 * Nothing else changes.
 */
#ifndef BERTH_PORT_EMBED_HOT_H
#define BERTH_PORT_EMBED_HOT_H

#include <stdatomic.h>

#include <berth/port.h>

typedef struct {
	atomic_bool held;
} berth_lock_t;
#define BERTH_LOCK_INIT \
	{               \
		false   \
	}

/* A spin-wait hint. */
static inline void berth_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
	__asm__ volatile("yield");
#endif
}

static inline void berth_lock(berth_lock_t *lock)
{
	while (atomic_exchange_explicit(&lock->held, true, memory_order_acquire))
		berth_relax();
}

static inline void berth_unlock(berth_lock_t *lock)
{
	atomic_store_explicit(&lock->held, false, memory_order_release);
}

/* Nobody else runs, so nobody can wait for a mutex: it is only held. */
typedef struct {
	bool held;
} berth_mutex_t;
#define BERTH_MUTEX_INIT \
	{                \
		false    \
	}

static inline void berth_mutex_lock(berth_mutex_t *mutex)
{
	if (mutex->held)
		__builtin_trap(); /* a bug: its only CPU holds it already */
	mutex->held = true;
}

static inline void berth_mutex_unlock(berth_mutex_t *mutex)
{
	mutex->held = false;
}

/* The calling CPU's number, below berth_zone_params.nr_cpus. */
static inline unsigned berth_cpu(void)
{
	return 0;
}

static inline void berth_preempt_disable(void)
{
}

static inline void berth_preempt_enable(void)
{
}

#endif
