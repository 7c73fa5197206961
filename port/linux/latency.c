/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "port/linux/latency.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "port/linux/fd.h"
#include "port/linux/raw.h"

#define PATH "/dev/cpu_dma_latency"
#define ANY_US 2000000000 /* PM_QOS_CPU_LATENCY_DEFAULT_VALUE */

void berth_latency_open(struct berth_latency *latency)
{
	int saved = errno, fd = open(PATH, O_WRONLY | O_CLOEXEC);
	struct stat status;

	latency->fd = -1;
	if (fd >= 0 && fstat(fd, &status) == 0 && S_ISCHR(status.st_mode)) {
		latency->device = status.st_rdev;
		latency->fd = berth_fd_move_up(fd);
	} else if (fd >= 0) {
		(void)berth_raw1(SYS_close, fd);
	}
	errno = saved;
}

/* The program may have closed it by means that we don't see, and the number be a file of its own, which we'd write to. */
static bool still_ours(const struct berth_latency *latency)
{
	struct stat status;

	return fstat(latency->fd, &status) == 0 && S_ISCHR(status.st_mode) &&
	       status.st_rdev == latency->device;
}

void berth_latency_request(struct berth_latency *latency, bool none)
{
	int32_t us = none ? 0 : ANY_US;
	int saved = errno;

	if (latency->fd < 0)
		return;
	if (still_ours(latency)) {
		(void)berth_raw3(SYS_write, latency->fd, &us, sizeof(us));
	} else {
		berth__fd_release(latency->fd);
		latency->fd = -1;
	}
	errno = saved;
}

void berth_latency_close(struct berth_latency *latency)
{
	if (latency->fd >= 0)
		berth_fd_close(latency->fd);
	latency->fd = -1;
}
