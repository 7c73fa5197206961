/* SPDX-License-Identifier: MIT */
/*
 * What the library itself (jemalloc included) gets when it calls a function that it interposes for the
 * program: the system call, and nothing else. The linker brings such calls here (--wrap).
 *
 * So a treatment never meets the mover's own calls, never runs inside the allocator, and needs no
 * guard against recursion. Nothing here takes a lock or looks a symbol up.
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS /* open() and fcntl() would be other names */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "port/linux/fd.h"
#include "port/linux/raw.h"
#include "runtime/inside.h"

void *__wrap_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mremap(void *old, size_t old_bytes, size_t bytes, int flags, ...);
int __wrap_munmap(void *address, size_t bytes);
int __wrap_mprotect(void *address, size_t bytes, int protection);
int __wrap_madvise(void *address, size_t bytes, int advice);
long __wrap_syscall(long number, ...);
int __wrap_close(int fd);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_openat(int directory, const char *path, int flags, ...);
int __wrap_openat64(int directory, const char *path, int flags, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr);

void *__wrap_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	return (void *)berth__result(
		berth_raw6(SYS_mmap, (long)address, (long)bytes, protection, flags, fd, offset));
}

void *__wrap_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	return __wrap_mmap(address, bytes, protection, flags, fd, offset);
}

void *__wrap_mremap(void *old, size_t old_bytes, size_t bytes, int flags, ...)
{
	va_list rest;
	long to;

	va_start(rest, flags);
	to = va_arg(rest, long);
	va_end(rest);
	return (void *)berth__result(
		berth_raw6(SYS_mremap, (long)old, (long)old_bytes, (long)bytes, flags, to, 0));
}

int __wrap_munmap(void *address, size_t bytes)
{
	return (int)berth__result(berth_raw2(SYS_munmap, address, bytes));
}

int __wrap_mprotect(void *address, size_t bytes, int protection)
{
	return (int)berth__result(berth_raw3(SYS_mprotect, address, bytes, protection));
}

int __wrap_madvise(void *address, size_t bytes, int advice)
{
	return (int)berth__result(berth_raw3(SYS_madvise, address, bytes, advice));
}

long __wrap_syscall(long number, ...)
{
	long a[6];
	va_list rest;

	va_start(rest, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(rest, long);
	va_end(rest);
	return berth__result(berth_raw6(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

/* Whatever we close isn't ours from then on. */
int __wrap_close(int fd)
{
	berth__fd_release(fd);
	return (int)berth__result(berth_raw1(SYS_close, fd));
}

#define OPEN(name)                                                                              \
	int name(const char *path, int flags, ...)                                              \
	{                                                                                       \
		va_list rest;                                                                   \
		int mode;                                                                       \
                                                                                                \
		va_start(rest, flags);                                                          \
		mode = va_arg(rest, int);                                                       \
		va_end(rest);                                                                   \
		return (int)berth__result(berth_raw4(SYS_openat, AT_FDCWD, path, flags, mode)); \
	}
OPEN(__wrap_open)
OPEN(__wrap_open64)

#define OPENAT(name)                                                                             \
	int name(int directory, const char *path, int flags, ...)                                \
	{                                                                                        \
		va_list rest;                                                                    \
		int mode;                                                                        \
                                                                                                 \
		va_start(rest, flags);                                                           \
		mode = va_arg(rest, int);                                                        \
		va_end(rest);                                                                    \
		return (int)berth__result(berth_raw4(SYS_openat, directory, path, flags, mode)); \
	}
OPENAT(__wrap_openat)
OPENAT(__wrap_openat64)

#define FCNTL(name)                                                                      \
	int name(int fd, int command, ...)                                               \
	{                                                                                \
		va_list rest;                                                            \
		long argument;                                                           \
                                                                                         \
		va_start(rest, command);                                                 \
		argument = va_arg(rest, long);                                           \
		va_end(rest);                                                            \
		return (int)berth__result(berth_raw3(SYS_fcntl, fd, command, argument)); \
	}
FCNTL(__wrap_fcntl)
FCNTL(__wrap_fcntl64)

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
	return berth__result(berth_raw3(SYS_recvmsg, fd, message, flags));
}

/*
 * jemalloc makes its mutexes before anything can be looked up. They are process-private ones of some
 * type, which is what the C library's own static initialisers write, too.
 */
int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
	int type = PTHREAD_MUTEX_DEFAULT;

	if (attr)
		(void)pthread_mutexattr_gettype(attr, &type);
	*mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	mutex->__data.__kind = type;
	return 0;
}
