/* SPDX-License-Identifier: MIT */
/*
 * The program's heap in the pool: jemalloc's extents are pages of the pool's space.
 */
#ifndef BERTH_RUNTIME_HEAP_H
#define BERTH_RUNTIME_HEAP_H

#include "runtime/internal.h"

/* Puts all of jemalloc's arenas into the pool. Called once. -ENOMEM; -EINVAL: jemalloc refuses. */
int berth__heap_init(struct berth_pool_impl *pool);

/* The pool that the heap is in, or NULL. */
const struct berth_pool_impl *berth__heap_pool(void);
/* True for an address of the heap that lies in the pool's space. */
bool berth__heap_contains(const void *address);

/* True when a part of [address, address + bytes) does. A range test, for functions that are called often. */
bool berth__heap_overlaps(const void *address, size_t bytes);

/* What is behind an address. Exact for memory that the caller has allocated, but that frames can
 * become private at any time. */
enum berth_heap_kind {
	BERTH_HEAP_OUTSIDE, /* not in the space */
	BERTH_HEAP_NONE,    /* in the space, and nothing is there: nobody's memory */
	BERTH_HEAP_FRAMES,  /* in the pool: moves */
	BERTH_HEAP_PRIVATE, /* ordinary memory */
};
/* The bytes from `address` (up to `bytes`, > 0) that are of one kind, and which. */
size_t berth__heap_run(const void *address, size_t bytes, enum berth_heap_kind *kind);

/*
 * Zeroes [address, address + bytes) as MADV_DONTNEED would; both at page boundaries, in the space. False
 * when a part isn't committed heap memory: the rest is zeroed all the same, as the kernel does.
 */
bool berth__heap_zero(void *address, size_t bytes);
/*
 * Makes the pages of the space that contain [address, address + bytes) ordinary private memory for as
 * long as they are allocated: they stay at their address with their contents, and never move. What
 * lies outside is so already. Takes no lock when all of it is. Errors as berth_space_make_private();
 * errno is kept.
 */
int berth__heap_make_private(const void *address, size_t bytes);

/*
 * The heap leaves the pool: all of it becomes ordinary memory, what it needs later too. False: a part
 * had to stay, and never moves if the gate is shut.
 */
bool berth__heap_leave(void);

/* Memory of no pool, `alignment` a power of two; NULL: there is none. */
void *berth__map_aligned(size_t size, size_t alignment);

/* Readies the arena for allocations with a large alignment (aligned.c). -EINVAL: jemalloc refuses. */
int berth__aligned_init(void);
uint64_t berth__aligned_bytes(void); /* committed there */

struct berth_heap_stats {
	uint64_t pool_bytes;    /* mapped to pool frames */
	uint64_t outside_bytes; /* found no frame, must not move, or lies outside the space */
};
void berth__heap_stats(struct berth_heap_stats *stats);

#endif
