/* SPDX-License-Identifier: MIT */
/*
 * The program's heap in the pool: jemalloc's extents are pages of the pool's space.
 */
#ifndef BERTH_RUNTIME_HEAP_H
#define BERTH_RUNTIME_HEAP_H

#include "runtime/internal.h"

/* Puts all of jemalloc's arenas into the pool. Called once. -ENOMEM; -EINVAL: jemalloc refuses. */
int berth__heap_init(struct berth_pool_impl *pool);

/* True for an address of the heap that lies in the pool's space. */
bool berth__heap_contains(const void *address);

/*
 * Zeroes [address, address + bytes) as MADV_DONTNEED would; both at page boundaries. False when a part
 * isn't committed heap memory: the rest is zeroed all the same, as the kernel does.
 */
bool berth__heap_zero(void *address, size_t bytes);
/*
 * Makes the pages that contain [address, address + bytes) ordinary private memory for as long as they are
 * allocated: they stay at their address with their contents, and never move. What lies outside the
 * pool is so already. Errors as berth_space_make_private().
 */
int berth__heap_make_private(const void *address, size_t bytes);
/*
 * Pins heap memory, long-term if it can be moved out of the areas. What of it lies outside the pool
 * never moves: then only the part after it is pinned. Errors as berth_space_pin().
 */
int berth__heap_pin(const void *address, size_t bytes, const char *name, uint64_t *pin);
void berth__heap_unpin(uint64_t pin);

struct berth_heap_stats {
	uint64_t pool_bytes;    /* mapped to pool frames */
	uint64_t outside_bytes; /* found no frame, or lies outside the space */
};
void berth__heap_stats(struct berth_heap_stats *stats);

#endif
