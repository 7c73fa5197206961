/* SPDX-License-Identifier: MIT */
/*
 * The pool's memory: one memfd, mapped once for good (the linear mapping). pfn = page offset in it.
 */
#ifndef BERTH_PORT_LINUX_POOL_H
#define BERTH_PORT_LINUX_POOL_H

#include <stdatomic.h>

#include <berth/types.h>

#define BERTH_HUGE_BYTES (2u << 20)

struct berth_memory {
	int fd;
	uint64_t device, inode; /* of the file, to know it again */
	char *linear;           /* aligned to BERTH_HUGE_BYTES */
	size_t bytes;           /* a multiple of BERTH_HUGE_BYTES */
	_Atomic bool huge;      /* the kernel collapses it to huge pages */
	_Atomic uint8_t *state; /* one for each huge page: enum berth_memory_state */
};

enum berth_memory_state {
	BERTH_MEMORY_ABSENT,
	BERTH_MEMORY_FRESH, /* resident, and zero: nobody has written to it yet */
	BERTH_MEMORY_USED,
};

/* Inaccessible addresses for `bytes`, at a multiple of a huge page; NULL: there are none. */
char *berth_reserve_aligned(size_t bytes);

/* Reserves; nothing is resident yet. `bytes` is a multiple of BERTH_HUGE_BYTES. -ENOMEM, -EPERM,
 * -EINVAL; then nothing is left behind. The descriptor is sealed: its size can't change. */
int berth_memory_open(struct berth_memory *memory, size_t bytes);
void berth_memory_close(struct berth_memory *memory);
/*
 * Makes the range resident, as huge pages where the kernel does that. Idempotent, any thread.
 * -ENOMEM: the system has no memory left.
 */
int berth_memory_populate(struct berth_memory *memory, size_t offset, size_t bytes);

/* False: somebody has closed the descriptor, or put another file under its number. */
bool berth_memory_has_fd(const struct berth_memory *memory);

/* Somebody may write to a resident range: it isn't fresh any more. */
void berth_memory_used(struct berth_memory *memory, size_t offset, size_t bytes);
/* Zeroes a resident range for whoever gets it now. Fresh memory isn't touched. */
void berth_memory_zero(struct berth_memory *memory, size_t offset, size_t bytes);

static inline char *berth_memory_at(const struct berth_memory *memory, berth_pfn_t pfn)
{
	return memory->linear + (pfn << BERTH_PAGE_SHIFT);
}

#endif
