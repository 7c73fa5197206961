/* SPDX-License-Identifier: MIT */
/*
 * Programs that close, replace and look through descriptors they don't know.
 *
 * Ours look as if they weren't open: EBADF for whoever closes, duplicates or asks for one, and for
 * whoever wants to put something in its place (as for a number beyond the limit); ranges are closed
 * around them. A program that makes system calls by instructions of its own gets past this. Then
 * each user of a descriptor of ours finds that it isn't what it was, and opens it again.
 *
 * I1  A descriptor in the table of port/linux/fd.h is closed by nobody but us.
 *
 * Complexity: one load and a compare for descriptors below ours.
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS /* fcntl() would be another name for fcntl64() */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#include "port/linux/fd.h"
#include "port/linux/raw.h"
#include "runtime/direct.h"
#include "runtime/next.h"
#include "runtime/syscall.h"
#include "runtime/untreated.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1u << 1)
#endif

static bool is_ours(int fd)
{
	return berth__fd_is_ours(fd) && !berth__untreated(BERTH_TREAT_DESCRIPTORS);
}

static int first_of_ours(unsigned fd)
{
	return fd > INT_MAX || berth__untreated(BERTH_TREAT_DESCRIPTORS) ? INT_MAX :
									   berth__fd_next((int)fd);
}

static int not_open(void)
{
	errno = EBADF;
	return -1;
}

static int answer(long result)
{
	if (result >= 0)
		return (int)result;
	errno = (int)-result;
	return -1;
}

/* ---- Ranges ------------------------------------------------------------------------------------------ */

/* close_range() for everything but ours. As the kernel answers: a negative errno value. */
static long close_around(unsigned first, unsigned last, unsigned flags)
{
	bool called = false;

	while (first <= last) {
		unsigned ours = (unsigned)first_of_ours(first);
		unsigned end = ours <= last && ours != INT_MAX ? ours - 1 : last;
		long result;

		if (ours != first) {
			result = berth_raw3(SYS_close_range, first, end, flags);
			if (result < 0)
				return result;
			called = true;
			flags &= ~CLOSE_RANGE_UNSHARE; /* once is enough */
		}
		if (end == last)
			break;
		first = ours + 1;
	}
	if (!called) /* nothing left to close: the kernel looks at the arguments */
		return berth_raw3(SYS_close_range, first > last ? first : UINT_MAX, last, flags);
	return 0;
}

BERTH_EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	return answer(close_around(first, last, (unsigned)flags));
}

BERTH_EXPORT void closefrom(int low)
{
	int saved = errno;
	struct rlimit limit;

	if (low < 0)
		low = 0;
	if (close_around((unsigned)low, UINT_MAX, 0) < 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0)
		for (int fd = low; fd < INT_MAX && (rlim_t)fd < limit.rlim_cur; fd++)
			if (!is_ours(fd)) /* a filter forbids it, or the kernel is old */
				(void)berth_raw1(SYS_close, fd);
	errno = saved;
}

/* ---- Single ones --------------------------------------------------------------------------------------- */

BERTH_EXPORT int close(int fd)
{
	BERTH_NEXT(close);
	return is_ours(fd) ? not_open() : next(fd);
}

BERTH_EXPORT int dup(int fd)
{
	return is_ours(fd) ? not_open() : answer(berth_raw1(SYS_dup, fd));
}

BERTH_EXPORT int dup2(int from, int to)
{
	if (is_ours(from) || is_ours(to))
		return not_open();
#ifdef SYS_dup2
	return answer(berth_raw2(SYS_dup2, from, to));
#else
	if (from == to) /* dup3() refuses that */
		return answer(berth_raw2(SYS_fcntl, from, F_GETFD)) < 0 ? -1 : to;
	return answer(berth_raw3(SYS_dup3, from, to, 0));
#endif
}

BERTH_EXPORT int dup3(int from, int to, int flags)
{
	if (is_ours(from) || is_ours(to))
		return not_open();
	return answer(berth_raw3(SYS_dup3, from, to, flags));
}

/* A file may become one for direct I/O after it was opened. */
static int after_fcntl(int result, int command, const void *argument)
{
	if (result == 0 && command == F_SETFL && ((uintptr_t)argument & O_DIRECT))
		berth__direct_opened();
	return result;
}

/* All commands take nothing, an int or a pointer. */
#define FCNTL(name)                                                                 \
	BERTH_EXPORT int name(int fd, int command, ...)                             \
	{                                                                           \
		va_list list;                                                       \
		void *argument;                                                     \
                                                                                    \
		BERTH_NEXT(name);                                                   \
		va_start(list, command);                                            \
		argument = va_arg(list, void *);                                    \
		va_end(list);                                                       \
		if (is_ours(fd))                                                    \
			return not_open();                                          \
		return after_fcntl(next(fd, command, argument), command, argument); \
	}
FCNTL(fcntl)
FCNTL(fcntl64)

/* ---- By syscall() ---------------------------------------------------------------------------------------- */

bool berth__call_descriptors(long number, const long arg[6], long *result)
{
	switch (number) {
	case SYS_close_range:
		*result = close_around((unsigned)arg[0], (unsigned)arg[1], (unsigned)arg[2]);
		return true;
#ifdef SYS_dup2
	case SYS_dup2:
#endif
	case SYS_dup3:
		*result = -EBADF;
		return is_ours((int)arg[0]) || is_ours((int)arg[1]);
	case SYS_fcntl:
		*result = is_ours((int)arg[0]) ? -EBADF :
						 berth_raw3(number, arg[0], arg[1], arg[2]);
		(void)after_fcntl((int)*result, (int)arg[1], (const void *)arg[2]);
		return true;
	default: /* close, dup */
		*result = -EBADF;
		return is_ours((int)arg[0]);
	}
}
