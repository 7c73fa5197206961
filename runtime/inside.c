/* SPDX-License-Identifier: MIT */
/*
 * What the library itself (jemalloc included) gets when it calls a function that it interposes for the
 * program: the system call, and nothing else. The linker brings such calls here (--wrap).
 *
 * So a treatment never meets the mover's own calls, never runs inside the allocator, and needs no
 * guard against recursion. Nothing here takes a lock or looks a symbol up.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "port/linux/raw.h"
#include "runtime/inside.h"

void *__wrap_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mremap(void *old, size_t old_bytes, size_t bytes, int flags, ...);
int __wrap_munmap(void *address, size_t bytes);
int __wrap_mprotect(void *address, size_t bytes, int protection);
int __wrap_madvise(void *address, size_t bytes, int advice);
long __wrap_syscall(long number, ...);
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
