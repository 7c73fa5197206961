/* SPDX-License-Identifier: MIT */
/*
 * Functions of the C library that need our hand in a program that lives in a pool.
 *
 * SIGSEGV: where memory moves by mprotect, writers are stalled in our handler. So the program's own
 * action for that signal is kept aside and called for faults that aren't ours.
 * madvise: heap memory is shared memory of the pool: there MADV_DONTNEED keeps the contents that a
 * program expects to be zero, and MADV_REMOVE would tear a hole into the pool.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "port/linux/mmu.h"
#include "runtime/heap.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
	static int (*next)(int, const struct sigaction *, struct sigaction *);

	if (number == SIGSEGV && berth_mmu_owns_sigsegv())
		return berth_mmu_sigsegv_action(action, old);
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "sigaction");
	if (!next) {
		errno = ENOSYS;
		return -1;
	}
	return next(number, action, old);
}

EXPORT sighandler_t signal(int number, sighandler_t handler)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART }, old;

	sigemptyset(&action.sa_mask);
	return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

EXPORT int madvise(void *address, size_t bytes, int advice)
{
	const size_t page = BERTH_PAGE_SIZE;

	if (!bytes || !berth__heap_contains(address)) /* jemalloc calls this too: no look-up here */
		return (int)syscall(SYS_madvise, address, bytes, advice);
	if ((uintptr_t)address % page || bytes > SIZE_MAX - page || advice == MADV_WIPEONFORK) {
		errno = EINVAL; /* as the kernel says, also of wiping shared memory on fork */
		return -1;
	}
	if ((advice == MADV_DONTNEED || advice == MADV_REMOVE) &&
	    !berth__heap_zero(address, (bytes + page - 1) / page * page)) {
		errno = ENOMEM;
		return -1;
	}
	return 0; /* the rest is advice, and what is best for the pool is done anyway */
}
