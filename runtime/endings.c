/* SPDX-License-Identifier: MIT */
/*
 * Where a process ends, becomes another program, or forks past the fork handlers.
 *
 * A process that still pushes memory to a forked child (pusher.c) finishes that first: else the child
 * would be killed. exit() runs the library's destructor; the other ways out are interposed here. A child of
 * vfork() shares our memory and isn't held up: what it ends is not us.
 *
 * _Fork() and the system calls behind fork() don't run fork handlers; here they run ours. (Not the
 * allocator's: as without Berth, its child must not allocate if there were other threads.)
 */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/heap.h"

#define EXPORT __attribute__((visibility("default")))

/* The next definition of a function that we interpose. */
#define NEXT(name)                                         \
	static __typeof__(&name) next;                     \
	if (!next)                                         \
		*(void **)&next = dlsym(RTLD_NEXT, #name); \
	if (!next) {                                       \
		errno = ENOSYS;                            \
		return -1;                                 \
	}

static void settle(void)
{
	int saved = errno;

	berth__pusher_settle_before_end();
	errno = saved;
}

/* ---- The end ------------------------------------------------------------------------------------ */

EXPORT _Noreturn void _exit(int status)
{
	settle();
	for (;;)
		syscall(SYS_exit_group, status);
}

EXPORT _Noreturn void _Exit(int status)
{
	_exit(status);
}

__attribute__((constructor)) static void at_start(void)
{
	at_quick_exit(settle);
}

__attribute__((destructor)) static void at_exit(void)
{
	settle();
}

/* As the C library's, whose own ends the parent past us. */
EXPORT int daemon(int keep_folder, int keep_files)
{
	int null;

	switch (fork()) {
	case -1:
		return -1;
	case 0:
		break;
	default:
		_exit(0);
	}
	if (setsid() < 0 || (!keep_folder && chdir("/") != 0))
		return -1;
	if (keep_files)
		return 0;
	null = open("/dev/null", O_RDWR);
	if (null < 0)
		return -1;
	for (int fd = 0; fd < 3; fd++)
		(void)dup2(null, fd);
	if (null > 2)
		close(null);
	return 0;
}

/* ---- Another program ---------------------------------------------------------------------------- */

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	NEXT(execve);
	settle();
	return next(path, argv, envp);
}

EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	NEXT(execvpe);
	settle();
	return next(file, argv, envp);
}

EXPORT int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	NEXT(fexecve);
	settle();
	return next(fd, argv, envp);
}

EXPORT int execveat(int folder, const char *path, char *const argv[], char *const envp[], int flags)
{
	settle();
	return (int)syscall(SYS_execveat, folder, path, argv, envp, flags);
}

/* execl and its like: the list as an array, on the stack. */
static size_t count(va_list list)
{
	size_t nr = 1;

	while (va_arg(list, char *))
		nr++;
	return nr;
}

static void collect(char **argv, const char *first, va_list *list)
{
	*argv++ = (char *)(uintptr_t)first;
	while ((*argv = va_arg(*list, char *)))
		argv++;
}

EXPORT int execl(const char *path, const char *argument, ...)
{
	va_list list;
	char **argv;

	va_start(list, argument);
	argv = alloca((count(list) + 1) * sizeof(*argv));
	va_end(list);
	va_start(list, argument);
	collect(argv, argument, &list);
	va_end(list);
	return execve(path, argv, environ);
}

EXPORT int execlp(const char *file, const char *argument, ...)
{
	va_list list;
	char **argv;

	va_start(list, argument);
	argv = alloca((count(list) + 1) * sizeof(*argv));
	va_end(list);
	va_start(list, argument);
	collect(argv, argument, &list);
	va_end(list);
	return execvpe(file, argv, environ);
}

EXPORT int execle(const char *path, const char *argument, ...)
{
	char *const *envp;
	va_list list;
	char **argv;

	va_start(list, argument);
	argv = alloca((count(list) + 1) * sizeof(*argv));
	va_end(list);
	va_start(list, argument);
	collect(argv, argument, &list);
	envp = va_arg(list, char *const *);
	va_end(list);
	return execve(path, argv, envp);
}

/* ---- Forks -------------------------------------------------------------------------------------- */

/* Here threads can be started yet, and malloc's locks are free. */
EXPORT pid_t fork(void)
{
	NEXT(fork);
	if (berth__heap_pool()) {
		int saved = errno;

		berth__pusher_wait(); /* not in the handlers, where malloc's locks are held */
		berth__pusher_ready(berth__heap_pool());
		errno = saved;
	}
	return next();
}

/* ---- Forks without handlers --------------------------------------------------------------------- */

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
EXPORT pid_t _Fork(void)
{
	pid_t pid;

	NEXT(_Fork);
	berth__fork_begin();
	pid = next();
	berth__fork_end(pid);
	return pid;
}
#endif
