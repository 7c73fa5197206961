/* SPDX-License-Identifier: MIT */
/*
 * The Linux machine behind a space: mmap of the pool's memfd, and writers stalled by userfaultfd or
 * mprotect.
 */
#ifndef BERTH_PORT_LINUX_MMU_H
#define BERTH_PORT_LINUX_MMU_H

#include <signal.h>

#include <berth/vm.h>

#include "port/linux/pool.h"
#include "port/linux/uffd.h"

struct berth_mmu {
	struct berth_memory *memory;
	struct berth_space *space; /* set by the caller after berth_space_init() */
	char *base;                /* address of page 0, aligned to a huge page */
	size_t bytes;
	enum berth_mover mover;
	int uffd;
	sigset_t old_mask; /* while begin() .. end() */
	/* mprotect only: odd while a range is in motion; writers that ran into it. */
	_Atomic uint32_t gate, waiting;
	uint64_t gated_pages; /* protected now; under the space's lock */
};

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

/*
 * mprotect only: the program's own action for SIGSEGV, which is called for faults that aren't ours.
 * For those who interpose sigaction().
 */
int berth_mmu_sigsegv_action(const struct sigaction *action, struct sigaction *old);
bool berth_mmu_owns_sigsegv(void);

#endif
