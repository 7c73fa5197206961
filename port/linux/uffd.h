/* SPDX-License-Identifier: MIT */
/*
 * Stalling writers: userfaultfd in its variants, and what is used where there is none.
 */
#ifndef BERTH_PORT_LINUX_UFFD_H
#define BERTH_PORT_LINUX_UFFD_H

#include <stddef.h>

/* How a writer of memory in motion is stalled, best first. */
enum berth_mover {
	BERTH_MOVER_AUTO,      /* the best one that the system allows */
	BERTH_MOVER_UFFD,      /* userfaultfd(2), faults of the kernel included */
	BERTH_MOVER_UFFD_DEV,  /* the same through /dev/userfaultfd */
	BERTH_MOVER_UFFD_USER, /* userfaultfd for faults of user code only: a system call that writes
				* to a page in motion fails with EFAULT */
	BERTH_MOVER_MPROTECT,  /* mprotect and a SIGSEGV handler that waits; EFAULT likewise */
	BERTH_MOVER_UFFD_UNWATCHED, /* as UFFD, but runs aren't watched, as before Linux 6.7: by name only */
};

/*
 * Opens a userfaultfd that can write-protect shared memory. *mover: which to try; on success, which
 * one it is. *fd is -1 for MPROTECT. 0; -EPERM: refused; -ENOSYS: the kernel can't (before 5.19);
 * -ENOMEM: no descriptor is left.
 */
int berth_uffd_open(enum berth_mover *mover, int *fd);

/*
 * Opens a userfaultfd that notes writes without stopping them, and can stop all accesses later. Only for those
 * that handle faults of the kernel, too. -ENOSYS: not this mover, or the kernel can't (before 6.7); -EPERM, -ENOMEM:
 * as above.
 */
int berth_uffd_open_watcher(enum berth_mover mover, int *fd);

/* "userfaultfd", "/dev/userfaultfd", "userfaultfd (user mode)", "mprotect". */
const char *berth_mover_name(enum berth_mover mover);
/* What a user should know about a mover, or NULL when nothing is lost. */
const char *berth_mover_notice(enum berth_mover mover);

#endif
