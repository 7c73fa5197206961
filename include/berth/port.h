/* SPDX-License-Identifier: MIT */
/*
 * What the core asks of the machine below it.
 *
 * Hot things are a compile-time seam: the port supplies a header <berth_port.h> (found through the
 * include path) with
 *
 *	berth_lock_t, BERTH_LOCK_INIT                 a lock that is held short and spun for: the holder
 *	                                              never sleeps, waits or calls an owner. A kernel
 *	                                              takes a spinlock, which keeps out whatever may
 *	                                              take it on the same CPU.
 *	berth_lock(l), berth_unlock(l)                acquire / release semantics; also called in a
 *	                                              per-CPU section
 *	berth_mutex_t, BERTH_MUTEX_INIT               a lock whose holder may sleep, wait, call owners
 *	                                              and mmu operations, and take any other lock
 *	berth_mutex_lock(m), berth_mutex_unlock(m)    likewise; they may sleep, so never with a
 *	                                              berth_lock_t held or in a per-CPU section. The
 *	                                              holder is who unlocks.
 *	unsigned berth_cpu(void)                      slot of the calling CPU or thread, or
 *	                                              BERTH_CPU_NONE when it has none
 *	unsigned berth_cpu_fast(void)                 optional, with BERTH_HAVE_CPU_FAST defined: the
 *	                                              same without any slow step; may answer a number
 *	                                              that is no slot
 *	berth_preempt_disable(), berth_preempt_enable()   around a per-CPU section: nothing else may run
 *	                                              with the same slot in between. Empty where a slot
 *	                                              belongs to one thread.
 *	berth_relax()                                 a spin-wait hint
 *	berth_device_barrier()                        optional, with BERTH_HAVE_DEVICE_BARRIER defined: what
 *	                                              CPUs have written, as far as this one has seen it,
 *	                                              devices see before what it writes later; a
 *	                                              sequentially consistent fence where there is none
 *	BERTH_PORT_PAGE_WORDS                         for simulators: a store copies so many words of a page,
 *	                                              one by one, as atomic operations
 *	bool berth_copy_restarts(void)                optional, with BERTH_HAVE_COPY_IN defined: what the
 *	                                              caller copies by the next can be restarted
 *	bool berth_copy_in(to, from, bytes, generation, expected)
 *	                                              looks whether *generation is as expected, and copies;
 *	                                              both again from the beginning whenever
 *	                                              restart_copies() came in between, or something else.
 *	                                              False: it isn't, and something may have been copied
 *
 * Cold things are the operations below. A port supplies mechanisms, never policy.
 *
 * Contract: no operation may call back into the core, allocate from it, or touch memory that the
 * core can move. Every operation may be called with mutexes held; now_ns() and panic() with a
 * berth_lock_t as well, the others never.
 *
 * Zero bytes are a lock, and a mutex, that is free: the core clears its structures and no more.
 */
#ifndef BERTH_PORT_H
#define BERTH_PORT_H

#include <berth/types.h>

#define BERTH_CPU_NONE UINT32_MAX

struct berth_port_ops {
	/* Monotonic time in nanoseconds. Required. */
	uint64_t (*now_ns)(void *ctx);
	/*
	 * Makes every other CPU pass a full memory barrier before it returns (membarrier(2), an IPI).
	 * NULL where there is none: the per-CPU lists then pay a fence for each operation. A port
	 * with a single CPU may supply an empty function.
	 */
	void (*barrier_all)(void *ctx);
	/*
	 * Every berth_copy_in() that has begun, on whatever CPU, writes nothing any more before it has looked
	 * at its generation again; and every CPU passes a full barrier. False: it couldn't be done. NULL: it
	 * never can, and copies are waited for.
	 */
	bool (*restart_copies)(void *ctx);
	/* Gives the processor away for about `ns`. Required. */
	void (*wait)(void *ctx, uint64_t ns);
	/* A broken invariant: print and stop. Must not return. Required. */
	void (*panic)(void *ctx, const char *what, uint64_t value, uint64_t expected);
	/*
	 * Overwrites frames that were just moved away, as a detector of stale users (a debugging
	 * aid). NULL: off.
	 */
	void (*poison)(void *ctx, berth_pfn_t pfn, uint64_t nr_pages);
	/* Clears frames, for BERTH_GFP_ZERO. NULL: that flag is refused. */
	void (*zero)(void *ctx, berth_pfn_t pfn, uint64_t nr_pages);
};

#endif
