/* SPDX-License-Identifier: MIT */
/*
 * Transfers that use the heap's frames behind everybody's back: direct I/O and what else holds pages
 * where nothing shows it. While the process has a descriptor for such a thing, its heap is busy.
 */
#ifndef BERTH_RUNTIME_DIRECT_H
#define BERTH_RUNTIME_DIRECT_H

#include "runtime/internal.h"

/*
 * Puts the gate of the pool's space in place; before our threads start. trust: the user says that
 * no such transfer touches the heap.
 */
void berth__direct_start(struct berth_pool_impl *pool, bool trust);
/* From now on nothing moves: `why` is the holder. */
void berth__direct_shut(const char *why);
/* In a forked child: everything is the parent's. */
void berth__direct_forget(void);

/*
 * A descriptor may have come into being by which the kernel or a device gets at the heap's frames.
 * To be called before the program gets it: returns when no move is under way that didn't know of it.
 * errno stays.
 */
void berth__direct_opened(void);
/* The same for a ring of io_uring. hidden: it has no descriptor, and nobody will see when it goes. */
void berth__direct_ring(bool hidden);
/* Moves heed such descriptors in this process. */
bool berth__direct_gated(void);

#endif
