/* SPDX-License-Identifier: MIT */
/*
 * See view.h. One system call to see that a view is still itself.
 */
#define _GNU_SOURCE
#include "runtime/view.h"

#include <fcntl.h>
#include <linux/stat.h>
#include <sys/stat.h>

#include "port/linux/fd.h"
#include "port/linux/raw.h"

static bool identify(int fd, struct statx *file)
{
	return fd >= 0 &&
	       berth_raw6(SYS_statx, fd, (long)"", AT_EMPTY_PATH, STATX_INO, (long)file, 0) == 0;
}

void berth__view_open(struct berth__view *view)
{
	long fd = berth_raw4(SYS_openat, AT_FDCWD, view->path, view->flags | O_CLOEXEC, 0);
	struct statx file;

	view->fd = fd < 0 ? -1 : berth_fd_move_up((int)fd);
	if (!identify(view->fd, &file))
		return;
	view->inode = file.stx_ino;
	view->major = file.stx_dev_major;
	view->minor = file.stx_dev_minor;
}

static bool is_open(const struct berth__view *view)
{
	struct statx file;

	return identify(view->fd, &file) && file.stx_ino == view->inode &&
	       file.stx_dev_major == view->major && file.stx_dev_minor == view->minor;
}

bool berth__view_is_at_hand(struct berth__view *view)
{
	if (is_open(view))
		return true;
	berth__fd_release(view->fd);
	berth__view_open(view);
	return view->fd >= 0;
}

void berth__view_close(struct berth__view *view)
{
	if (is_open(view))
		berth_fd_close(view->fd);
	else
		berth__fd_release(view->fd);
	view->fd = -1;
}
