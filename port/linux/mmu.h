/* SPDX-License-Identifier: MIT */
/*
 * The Linux machine behind a space: mmap of the pool's memfd, and writers stalled by userfaultfd or
 * mprotect.
 */
#ifndef BERTH_PORT_LINUX_MMU_H
#define BERTH_PORT_LINUX_MMU_H

#include <signal.h>

#include <berth/vm.h>

#include "port/linux/copiers.h"
#include "port/linux/latency.h"
#include "port/linux/pool.h"
#include "port/linux/uffd.h"

/* What a frame held when it was copied elsewhere; hash 0: nothing is noted. */
struct berth_moved {
	uint64_t hash;
	berth_pfn_t dst;
};

struct berth_mmu {
	struct berth_memory *memory;
	struct berth_space *space; /* set by the caller after berth_space_init() */
	char *base;                /* address of page 0, aligned to a huge page */
	size_t bytes;
	enum berth_mover mover;
	int uffd;
	/* For runs that are watched while they are copied: a userfaultfd that only notes writes until it stops
	 * them, and /proc/self/pagemap, which tells what it noted. -1: none. */
	int watch_fd, pagemap_fd;
	uint64_t watched_pages; /* being moved: watched or halted, and not remapped yet */
	sigset_t old_mask;      /* while begin() .. end() */
	/* mprotect only: odd while a range is in motion; writers that ran into it. */
	_Atomic uint32_t gate, waiting;
	uint64_t gated_pages; /* protected now; under the space's lock */
	/* While a fork's child is being filled (push.c): its userfaultfd; in the child itself, and after it in the
	 * parent. -1: none. */
	int child_uffd;
	struct berth_moved *moved;    /* one a frame, or NULL */
	struct berth_copiers copiers; /* help to copy, if the caller has started any */
	struct berth_latency latency; /* closed, if the caller doesn't open it */
};

static inline char *berth__mmu_address(const struct berth_mmu *mmu, uint64_t page)
{
	return mmu->base + (page << BERTH_PAGE_SHIFT);
}

static inline size_t berth__mmu_bytes(uint64_t nr_pages)
{
	return (size_t)nr_pages << BERTH_PAGE_SHIFT;
}

/* The calling thread's moves are noted in `moved`. */
void berth_mmu_note_moves(bool on);
/* Of a page; never 0. */
uint64_t berth_mmu_hash(const void *page);

extern const struct berth_mmu_ops berth_mmu_linux_ops;

/*
 * Reserves `bytes` of address space and readies the mover. -ENOMEM: no address space; -EPERM,
 * -ENOSYS: `mover` isn't AUTO and isn't to be had; -ENOSPC: too many instances use mprotect.
 */
int berth_mmu_open(struct berth_mmu *mmu, struct berth_memory *memory, size_t bytes,
		   enum berth_mover mover);
/* In a child, after forget_protection(): a mover of the child's own, the parent's kind if it can be had. Does
 * nothing when there is one. Errors as above. */
int berth_mmu_reopen(struct berth_mmu *mmu);
/* Only when nobody uses the addresses any more. */
void berth_mmu_close(struct berth_mmu *mmu);

/* Mappings (VMAs) that a space may cause: three quarters of vm.max_map_count less what the process
 * has. */
uint32_t berth_mmu_budget(void);

/* ---- push.c: memory that is pushed to a fork's child ---------------------------------------------- */

int berth_mmu_receive(void *mmu, uint64_t page, uint64_t nr_pages);
int berth_mmu_push(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages);
/* True when this mover can make a child wait for its pages, inside system calls too. */
bool berth_mmu_can_push(const struct berth_mmu *mmu);
/* Pages that somebody waits for: in the parent (to write) or in the child (to touch). Returns how many there are
 * in `pages`, at most `room`; never blocks. */
unsigned berth_mmu_faults(const struct berth_mmu *mmu, bool in_child, uint64_t *pages,
			  unsigned room);
/* After what was to be pushed: a page that the child waits for all the same it had given up, so it is zero. */
void berth_mmu_push_rest(const struct berth_mmu *mmu, uint64_t page);
/* Nobody waits for pages any more: in the parent, when all is pushed, or to give it up. */
void berth_mmu_push_done(struct berth_mmu *mmu);

/* ---- gate.c ------------------------------------------------------------------------------------------ */

/*
 * mprotect only: the program's own action for SIGSEGV, which is called for faults that aren't ours.
 * For those who interpose sigaction().
 */
int berth_mmu_sigsegv_action(const struct sigaction *action, struct sigaction *old);
bool berth_mmu_owns_sigsegv(void);

#endif
