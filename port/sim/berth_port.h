/* SPDX-License-Identifier: MIT */
/*
 * The hot half of the simulator's port (see <berth/port.h> for the contract). Core and vm are
 * compiled once more against it, and then every lock, every atomic operation, every per-CPU section
 * and every spin is a step of port/sim: there the simulated CPUs change places, and there loads may
 * see older values as C11's memory model allows.
 *
 * The operations of <stdatomic.h> are replaced by macros, which is why this header must be included
 * before any code uses them (core and vm do). Only integers up to 64 bits are supported. Outside a
 * run of the simulator they act at once.
 */
#ifndef BERTH_PORT_SIM_HOT_H
#define BERTH_PORT_SIM_HOT_H

#include <stdatomic.h>

#include <berth/port.h>

/* ---- Locks, slots ------------------------------------------------------------------------------ */

typedef struct {
	_Atomic uint32_t word; /* 0 free, else the holder's task + 1 */
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

/* What may sleep while a berth_lock_t is held, or with preemption disabled, ends the run: mutexes, waits,
 * the operations of the memory, and whoever calls berth_sim_may_sleep(). */
void berth_lock(berth_lock_t *lock);
void berth_unlock(berth_lock_t *lock);
void berth_mutex_lock(berth_mutex_t *mutex);
void berth_mutex_unlock(berth_mutex_t *mutex);
unsigned berth_cpu(void);
void berth_preempt_disable(void);
void berth_preempt_enable(void);
void berth_relax(void);

/* A page that is copied into a store and out of it, word by word: each is a step. */
#define BERTH_PORT_PAGE_WORDS 4u

/* Of whole words, in a simulation whose copies can be restarted. */
#define BERTH_HAVE_COPY_IN 1
bool berth_copy_restarts(void);
bool berth_copy_in(void *to, const void *from, size_t bytes, const _Atomic uint64_t *generation,
		   uint64_t expected);

/* ---- Atomic operations ------------------------------------------------------------------------- */

enum berth_sim_rmw { BERTH_SIM_ADD, BERTH_SIM_SUB, BERTH_SIM_OR, BERTH_SIM_AND, BERTH_SIM_SWAP };

uint64_t berth__sim_load(const volatile void *at, unsigned bytes, int order);
void berth__sim_store(volatile void *at, unsigned bytes, uint64_t value, int order);
uint64_t berth__sim_rmw(volatile void *at, unsigned bytes, enum berth_sim_rmw op, uint64_t operand,
			int order);
/* *expected, widened, is compared, and replaced on failure. */
bool berth__sim_cas(volatile void *at, unsigned bytes, uint64_t *expected, uint64_t desired,
		    int order, int failure_order, bool weak);
void berth__sim_fence(int order);

/* The type of *p without _Atomic: a comma's right side is a value. */
#define BERTH_SIM_VALUE(p) __typeof__((void)0, *(p))

#undef atomic_load_explicit
#undef atomic_load
#define atomic_load_explicit(p, mo) ((BERTH_SIM_VALUE(p))berth__sim_load((p), sizeof(*(p)), (mo)))
#define atomic_load(p) atomic_load_explicit(p, memory_order_seq_cst)

#undef atomic_store_explicit
#undef atomic_store
#define atomic_store_explicit(p, v, mo) \
	berth__sim_store((p), sizeof(*(p)), (uint64_t)(BERTH_SIM_VALUE(p))(v), (mo))
#define atomic_store(p, v) atomic_store_explicit(p, v, memory_order_seq_cst)

#define BERTH_SIM_RMW(p, op, v, mo)                                                      \
	__extension__({                                                                  \
		BERTH_SIM_VALUE(p)                                                       \
		sim_old_ = (BERTH_SIM_VALUE(p))berth__sim_rmw(                           \
			(p), sizeof(*(p)), op, (uint64_t)(BERTH_SIM_VALUE(p))(v), (mo)); \
		sim_old_;                                                                \
	})
#undef atomic_fetch_add_explicit
#undef atomic_fetch_add
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_sub
#undef atomic_fetch_or_explicit
#undef atomic_fetch_or
#undef atomic_fetch_and_explicit
#undef atomic_fetch_and
#undef atomic_exchange_explicit
#undef atomic_exchange
#define atomic_fetch_add_explicit(p, v, mo) BERTH_SIM_RMW(p, BERTH_SIM_ADD, v, mo)
#define atomic_fetch_add(p, v) BERTH_SIM_RMW(p, BERTH_SIM_ADD, v, memory_order_seq_cst)
#define atomic_fetch_sub_explicit(p, v, mo) BERTH_SIM_RMW(p, BERTH_SIM_SUB, v, mo)
#define atomic_fetch_sub(p, v) BERTH_SIM_RMW(p, BERTH_SIM_SUB, v, memory_order_seq_cst)
#define atomic_fetch_or_explicit(p, v, mo) BERTH_SIM_RMW(p, BERTH_SIM_OR, v, mo)
#define atomic_fetch_or(p, v) BERTH_SIM_RMW(p, BERTH_SIM_OR, v, memory_order_seq_cst)
#define atomic_fetch_and_explicit(p, v, mo) BERTH_SIM_RMW(p, BERTH_SIM_AND, v, mo)
#define atomic_fetch_and(p, v) BERTH_SIM_RMW(p, BERTH_SIM_AND, v, memory_order_seq_cst)
#define atomic_exchange_explicit(p, v, mo) BERTH_SIM_RMW(p, BERTH_SIM_SWAP, v, mo)
#define atomic_exchange(p, v) BERTH_SIM_RMW(p, BERTH_SIM_SWAP, v, memory_order_seq_cst)

#define BERTH_SIM_CAS(p, e, v, mo, fail, weak)                                                   \
	__extension__({                                                                          \
		BERTH_SIM_VALUE(p) *sim_expected_ = (e);                                         \
		uint64_t sim_seen_ = (uint64_t)*sim_expected_;                                   \
		bool sim_done_ = berth__sim_cas((p), sizeof(*(p)), &sim_seen_,                   \
						(uint64_t)(BERTH_SIM_VALUE(p))(v), (mo), (fail), \
						(weak));                                         \
		*sim_expected_ = (BERTH_SIM_VALUE(p))sim_seen_;                                  \
		sim_done_;                                                                       \
	})
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_weak_explicit
#undef atomic_compare_exchange_weak
#define atomic_compare_exchange_strong_explicit(p, e, v, mo, fail) \
	BERTH_SIM_CAS(p, e, v, mo, fail, false)
#define atomic_compare_exchange_weak_explicit(p, e, v, mo, fail) \
	BERTH_SIM_CAS(p, e, v, mo, fail, true)
#define atomic_compare_exchange_strong(p, e, v) \
	BERTH_SIM_CAS(p, e, v, memory_order_seq_cst, memory_order_seq_cst, false)
#define atomic_compare_exchange_weak(p, e, v) \
	BERTH_SIM_CAS(p, e, v, memory_order_seq_cst, memory_order_seq_cst, true)

#undef atomic_thread_fence
#undef atomic_signal_fence
#define atomic_thread_fence(mo) berth__sim_fence(mo)
#define atomic_signal_fence(mo) __atomic_signal_fence(mo)

#endif
