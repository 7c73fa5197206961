/* SPDX-License-Identifier: MIT */
/*
 * Functions by which descriptors for direct transfers come into being, and those transfers that have
 * a form which copies: see direct.c.
 *
 * Each does its work first and then has direct.c know, before the program gets the result.
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS /* open() would be another name for open64() */
#undef _FORTIFY_SOURCE   /* and an inline function */
#include "runtime/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include "port/linux/raw.h"
#include "runtime/next.h"
#include "runtime/syscall.h"

#ifndef IORING_SETUP_REGISTERED_FD_ONLY
#define IORING_SETUP_REGISTERED_FD_ONLY (1u << 15)
#endif
#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif

/* What an open file may be used for is told by its flags, and of devices by its name. */
static int opened(int fd, const char *path, long flags)
{
	if (fd >= 0 && ((flags & O_DIRECT) || strncmp(path, "/dev/", 5) == 0))
		berth__direct_opened();
	return fd;
}

#define OPEN(name)                                                   \
	BERTH_EXPORT int name(const char *path, int flags, ...)      \
	{                                                            \
		va_list list;                                        \
		mode_t mode;                                         \
                                                                     \
		BERTH_NEXT(name);                                    \
		va_start(list, flags);                               \
		mode = va_arg(list, mode_t);                         \
		va_end(list);                                        \
		return opened(next(path, flags, mode), path, flags); \
	}
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                            \
	BERTH_EXPORT int name(int directory, const char *path, int flags, ...)  \
	{                                                                       \
		va_list list;                                                   \
		mode_t mode;                                                    \
                                                                                \
		BERTH_NEXT(name);                                               \
		va_start(list, flags);                                          \
		mode = va_arg(list, mode_t);                                    \
		va_end(list);                                                   \
		return opened(next(directory, path, flags, mode), path, flags); \
	}
OPENAT(openat)
OPENAT(openat64)

/* What calls with checks become (_FORTIFY_SOURCE). */
#define OPEN_2(name)                                           \
	int name(const char *path, int flags);                 \
	BERTH_EXPORT int name(const char *path, int flags)     \
	{                                                      \
		BERTH_NEXT(name);                              \
		return opened(next(path, flags), path, flags); \
	}
OPEN_2(__open_2)
OPEN_2(__open64_2)

#define OPENAT_2(name)                                                    \
	int name(int directory, const char *path, int flags);             \
	BERTH_EXPORT int name(int directory, const char *path, int flags) \
	{                                                                 \
		BERTH_NEXT(name);                                         \
		return opened(next(directory, path, flags), path, flags); \
	}
OPENAT_2(__openat_2)
OPENAT_2(__openat64_2)

/* A descriptor from another process may be anything. */
BERTH_EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	ssize_t length;

	BERTH_NEXT(recvmsg);
	length = next(fd, message, flags);
	if (length < 0 || !message->msg_controllen)
		return length;
	for (struct cmsghdr *one = CMSG_FIRSTHDR(message); one; one = CMSG_NXTHDR(message, one))
		if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SCM_RIGHTS)
			berth__direct_opened();
	return length;
}

/* ---- io_uring and aio, by the functions of their libraries -------------------------------------------- */

struct io_uring;
typedef struct io_context *io_context_t;

/* A library that the program doesn't have can't be called. */
static void *library_function(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

#define RING(name, parameters, arguments, setup_flags)                                     \
	int name parameters;                                                               \
	BERTH_EXPORT int name parameters                                                   \
	{                                                                                  \
		static __typeof__(name) *next;                                             \
		int result;                                                                \
                                                                                           \
		if (!next)                                                                 \
			*(void **)&next = library_function(#name);                         \
		if (!next)                                                                 \
			return -ENOSYS;                                                    \
		result = next arguments;                                                   \
		if (result >= 0)                                                           \
			berth__direct_ring((setup_flags)&IORING_SETUP_REGISTERED_FD_ONLY); \
		return result;                                                             \
	}
RING(io_uring_setup, (unsigned nr, struct io_uring_params *params), (nr, params), params->flags)
RING(io_uring_queue_init, (unsigned nr, struct io_uring *ring, unsigned flags), (nr, ring, flags),
     flags)
RING(io_uring_queue_init_params,
     (unsigned nr, struct io_uring *ring, struct io_uring_params *params), (nr, ring, params),
     params->flags)
RING(io_uring_queue_init_try_nosqarr,
     (unsigned nr, struct io_uring *ring, struct io_uring_params *params), (nr, ring, params),
     params->flags)
RING(io_uring_queue_init_mem,
     (unsigned nr, struct io_uring *ring, struct io_uring_params *params, void *memory,
      size_t bytes),
     (nr, ring, params, memory, bytes), params->flags)

int io_setup(int nr, io_context_t *context);
BERTH_EXPORT int io_setup(int nr, io_context_t *context)
{
	static __typeof__(io_setup) *next;
	int result;

	if (!next)
		*(void **)&next = library_function("io_setup");
	if (!next)
		return -ENOSYS;
	result = next(nr, context);
	if (result == 0)
		berth__direct_opened();
	return result;
}

/* ---- By syscall() ---------------------------------------------------------------------------------------- */

bool berth__call_direct(long number, const long arg[6], long *result)
{
	long flags = 0;

	*result = berth_raw6(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	if (*result < 0)
		return true;
	switch (number) {
#ifdef SYS_open
	case SYS_open:
		flags = arg[1];
		(void)opened(0, (const char *)arg[0], flags);
		return true;
#endif
	case SYS_openat:
		(void)opened(0, (const char *)arg[1], arg[2]);
		return true;
	case SYS_openat2:
		flags = (long)((const struct open_how *)arg[2])->flags;
		(void)opened(0, (const char *)arg[1], flags);
		return true;
	case SYS_io_uring_setup:
		flags = (long)((const struct io_uring_params *)arg[1])->flags;
		berth__direct_ring((flags & IORING_SETUP_REGISTERED_FD_ONLY) != 0);
		return true;
	default: /* io_setup, pidfd_getfd, recvmsg */
		berth__direct_opened();
		return true;
	}
}

/* ---- Sends without a copy, which have a form that copies ----------------------------------------------------- */

BERTH_EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t bytes)
{
	BERTH_NEXT(setsockopt);
	if (level == SOL_SOCKET && option == SO_ZEROCOPY && berth__direct_gated()) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return next(fd, level, option, value, bytes);
}
