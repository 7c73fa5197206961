/* SPDX-License-Identifier: MIT */
/*
 * The table of our descriptors: a bit for each number.
 *
 * I1  berth__fd_lowest <= each number whose bit is set.
 *
 * Complexity: O(1); berth__fd_next() O(highest number / 64).
 */
#define _GNU_SOURCE
#include "port/linux/fd.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/resource.h>

#include <berth/types.h>

#include "port/linux/raw.h"

#define PREFERRED 900 /* below the usual limit of 1024, above what programs use */
#define FEW 32        /* numbers that are left to us below a low limit */

_Atomic int berth__fd_lowest = INT_MAX;
static _Atomic uint64_t ours[BERTH_FD_NUMBERS / 64];
static _Atomic int highest = -1;

bool berth__fd_in_table(int fd)
{
	return fd >= 0 && (unsigned)fd < BERTH_FD_NUMBERS &&
	       (atomic_load(&ours[fd / 64]) >> (fd % 64) & 1);
}

int berth__fd_protect(int fd)
{
	int lowest = atomic_load(&berth__fd_lowest), high = atomic_load(&highest);

	if (fd < 0 || (unsigned)fd >= BERTH_FD_NUMBERS)
		return -BERTH_ENOSPC;
	while (fd < lowest && !atomic_compare_exchange_weak(&berth__fd_lowest, &lowest, fd))
		;
	while (fd > high && !atomic_compare_exchange_weak(&highest, &high, fd))
		;
	atomic_fetch_or(&ours[fd / 64], 1ull << (fd % 64));
	return 0;
}

void berth__fd_release(int fd)
{
	if (fd >= 0 && (unsigned)fd < BERTH_FD_NUMBERS)
		atomic_fetch_and(&ours[fd / 64], ~(1ull << (fd % 64)));
}

int berth__fd_next(int fd)
{
	int lowest = atomic_load(&berth__fd_lowest), last = atomic_load(&highest);

	if (fd < lowest)
		fd = lowest;
	while (fd <= last) {
		uint64_t word = atomic_load(&ours[fd / 64]) >> (fd % 64);

		if (word)
			return fd + __builtin_ctzll(word);
		fd = (fd / 64 + 1) * 64;
	}
	return INT_MAX;
}

int berth_fd_move_up(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, PREFERRED);
	struct rlimit limit;

	/* A low limit: the last numbers below it. */
	if (high < 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > FEW)
		high = fcntl(fd, F_DUPFD_CLOEXEC,
			     (int)(limit.rlim_cur < PREFERRED ? limit.rlim_cur : PREFERRED) - FEW);
	if (high < 0)
		high = fd; /* any number will do */
	else
		(void)berth_raw1(SYS_close, fd);
	(void)berth__fd_protect(high);
	return high;
}

void berth_fd_close(int fd)
{
	berth__fd_release(fd);
	(void)berth_raw1(SYS_close, fd);
}
