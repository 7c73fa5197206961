/* SPDX-License-Identifier: MIT */
/*
 * The hot half of the Linux port (see <berth/port.h> for the contract): a thread's slot and locks
 * that spin briefly and then sleep on a futex, so that a preempted holder costs no time slice. A process
 * can't switch preemption off, so berth_lock_t is the same lock as berth_mutex_t in a type of its own.
 */
#ifndef BERTH_PORT_LINUX_HOT_H
#define BERTH_PORT_LINUX_HOT_H

#include <stdatomic.h>

#include <berth/port.h>

#include "port/linux/berth_restart.h"

/* 0 free, 1 held, 2 held and somebody sleeps. */
typedef struct {
	_Atomic uint32_t word;
} berth_lock_t;
#define BERTH_LOCK_INIT \
	{               \
		0       \
	}

typedef struct {
	_Atomic uint32_t word;
} berth_mutex_t;
#define BERTH_MUTEX_INIT \
	{                \
		0        \
	}

void berth__lock_slow(_Atomic uint32_t *word);
void berth__unlock_slow(_Atomic uint32_t *word);

static inline void berth__lock_word(_Atomic uint32_t *word)
{
	uint32_t free = 0;

	if (!atomic_compare_exchange_strong_explicit(word, &free, 1, memory_order_acquire,
						     memory_order_relaxed))
		berth__lock_slow(word);
}

static inline void berth__unlock_word(_Atomic uint32_t *word)
{
	if (atomic_exchange_explicit(word, 0, memory_order_release) == 2)
		berth__unlock_slow(word);
}

static inline void berth_lock(berth_lock_t *lock)
{
	berth__lock_word(&lock->word);
}

static inline void berth_unlock(berth_lock_t *lock)
{
	berth__unlock_word(&lock->word);
}

static inline void berth_mutex_lock(berth_mutex_t *mutex)
{
	berth__lock_word(&mutex->word);
}

static inline void berth_mutex_unlock(berth_mutex_t *mutex)
{
	berth__unlock_word(&mutex->word);
}

/*
 * Slots count from 0; a thread gets one at its first allocation and hands it back when it exits
 * (frames cached under the slot stay there for its next holder, and claims can drain them).
 * Stored plus one, so that zero-initialised thread storage means "none yet".
 */
#define BERTH_SLOT_REFUSED UINT32_MAX /* no slot free, or the thread is exiting */
extern _Thread_local uint32_t berth__thread_slot __attribute__((tls_model("initial-exec")));
uint32_t berth__thread_slot_acquire(void);

static inline unsigned berth_cpu(void)
{
	uint32_t slot = berth__thread_slot;

	if (__builtin_expect(slot == 0, 0))
		slot = berth__thread_slot_acquire();
	return slot == BERTH_SLOT_REFUSED ? BERTH_CPU_NONE : slot - 1;
}

/* As berth_cpu(), but a thread without a slot stays without: no call, no branch. */
static inline unsigned berth_cpu_fast(void)
{
	return berth__thread_slot - 1;
}
#define BERTH_HAVE_CPU_FAST 1

/* A slot belongs to one thread, so nothing else runs with it. */
static inline void berth_preempt_disable(void)
{
}

static inline void berth_preempt_enable(void)
{
}

#define BERTH_HAVE_DEVICE_BARRIER 1
static inline void berth_device_barrier(void)
{
#if defined(__aarch64__)
	__asm__ volatile("dmb osh" ::
				 : "memory"); /* a fence between threads is for the inner domain */
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

static inline void berth_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

#endif
