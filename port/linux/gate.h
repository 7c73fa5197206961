/* SPDX-License-Identifier: MIT */
/*
 * The mprotect mover's part of mmu.c. Protecting and reopening: under the space's lock.
 */
#ifndef BERTH_PORT_LINUX_GATE_H
#define BERTH_PORT_LINUX_GATE_H

#include "port/linux/mmu.h"

/* Enters an mmu among those that the SIGSEGV handler serves. -ENOSPC: it serves 16; -EPERM: no handler is allowed. */
int berth__gate_register(struct berth_mmu *mmu);
void berth__gate_unregister(struct berth_mmu *mmu);
/* Ours is in front: installs the handler, or again when the program has put its own over it. */
int berth__gate_own_sigsegv(void);

/* Writers wait. -ENOMEM: nothing changed. */
int berth__gate_protect(struct berth_mmu *mmu, uint64_t page, uint64_t nr_pages);
void berth__gate_unprotect(struct berth_mmu *mmu, uint64_t page, uint64_t nr_pages);
/* nr_pages are writable again, by a new mapping; with the last ones the gate opens. */
void berth__gate_reopened(struct berth_mmu *mmu, uint64_t nr_pages);
/* Whoever waits tries again. */
void berth__gate_open(struct berth_mmu *mmu);

#endif
