/* SPDX-License-Identifier: MIT */
/*
 * Opening a userfaultfd, in the order of what it can do.
 */
#define _GNU_SOURCE
#include "port/linux/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <berth/types.h>

#include "port/linux/fd.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif

#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

#define FEATURES                                                            \
	(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM | \
	 UFFD_FEATURE_MINOR_SHMEM)

#define WATCHER_FEATURES (FEATURES | UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED)

static int open_as(enum berth_mover mover)
{
	int flags = O_CLOEXEC | O_NONBLOCK, device, fd;

	switch (mover) {
	case BERTH_MOVER_UFFD:
	case BERTH_MOVER_UFFD_UNWATCHED:
		return (int)syscall(SYS_userfaultfd, flags);
	case BERTH_MOVER_UFFD_USER:
		return (int)syscall(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY);
	case BERTH_MOVER_UFFD_DEV:
		device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
		if (device < 0)
			return -1;
		fd = ioctl(device, USERFAULTFD_IOC_NEW, flags);
		close(device);
		return fd;
	default:
		errno = EINVAL;
		return -1;
	}
}

static int try_mover(enum berth_mover mover, uint64_t features, int *out)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = open_as(mover);

	if (fd < 0)
		return errno == EMFILE || errno == ENFILE                   ? -BERTH_ENOMEM :
		       errno == EPERM || errno == EACCES || errno == ENOENT ? -BERTH_EPERM :
									      -BERTH_ENOSYS;
	if (ioctl(fd, UFFDIO_API, &api) != 0) {
		close(fd);
		return -BERTH_ENOSYS;
	}
	*out = berth_fd_move_up(fd);
	return 0;
}

int berth_uffd_open(enum berth_mover *mover, int *fd)
{
	int saved = errno, error = -BERTH_ENOSYS;

	*fd = -1;
	if (*mover == BERTH_MOVER_MPROTECT)
		return 0;
	if (*mover != BERTH_MOVER_AUTO) {
		error = try_mover(*mover, FEATURES, fd);
	} else {
		for (enum berth_mover m = BERTH_MOVER_UFFD; m < BERTH_MOVER_MPROTECT && error;
		     m++) {
			error = try_mover(m, FEATURES, fd);
			*mover = m;
			if (error == -BERTH_ENOMEM)
				break; /* a worse one is no answer to that */
		}
		if (error && error != -BERTH_ENOMEM) { /* there is always mprotect */
			*mover = BERTH_MOVER_MPROTECT;
			error = 0;
		}
	}
	errno = saved;
	return error;
}

int berth_uffd_open_watcher(enum berth_mover mover, int *fd)
{
	int saved = errno, error = -BERTH_ENOSYS;

	*fd = -1;
	if (mover == BERTH_MOVER_UFFD || mover == BERTH_MOVER_UFFD_DEV)
		error = try_mover(mover, WATCHER_FEATURES, fd);
	errno = saved;
	return error;
}

const char *berth_mover_name(enum berth_mover mover)
{
	static const char *const names[] = {
		[BERTH_MOVER_AUTO] = "auto",
		[BERTH_MOVER_UFFD] = "userfaultfd",
		[BERTH_MOVER_UFFD_DEV] = "/dev/userfaultfd",
		[BERTH_MOVER_UFFD_USER] = "userfaultfd (user mode)",
		[BERTH_MOVER_MPROTECT] = "mprotect",
		[BERTH_MOVER_UFFD_UNWATCHED] = "userfaultfd-unwatched",
	};

	return mover <= BERTH_MOVER_UFFD_UNWATCHED ? names[mover] : "unknown";
}

const char *berth_mover_notice(enum berth_mover mover)
{
	switch (mover) {
	case BERTH_MOVER_UFFD_USER:
		return "full userfaultfd isn't allowed here: a system call that writes into a page "
		       "while it moves can fail with EFAULT. Run as root, set "
		       "vm.unprivileged_userfaultfd=1, or give access to /dev/userfaultfd";
	case BERTH_MOVER_MPROTECT:
		return "userfaultfd isn't available here: memory is moved by mprotect, a system call "
		       "that writes into a page while it moves can fail with EFAULT, and SIGSEGV is "
		       "used. Run as root, set vm.unprivileged_userfaultfd=1, or use Linux 5.19 or "
		       "newer";
	default:
		return NULL;
	}
}
