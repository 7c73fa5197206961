/* SPDX-License-Identifier: MIT */
/*
 * Functions of the C library that need our hand in a program that lives in a pool.
 *
 * SIGSEGV: where memory moves by mprotect, writers are stalled in our handler. So the program's own
 * action for that signal is kept aside and called for faults that aren't ours.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>

#include "port/linux/mmu.h"

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
