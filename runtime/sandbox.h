/* SPDX-License-Identifier: MIT */
/*
 * Programs that change what a process may do, or where it is: seccomp, namespaces.
 */
#ifndef BERTH_RUNTIME_SANDBOX_H
#define BERTH_RUNTIME_SANDBOX_H

#include <stdbool.h>

/*
 * What the library has to do around such a call; preload.c knows. stop: ends our threads, and returns
 * when the kernel has forgotten them. start: the same ones again. leave, after stop: the heap leaves
 * the pool for good; from then on the library makes no system call that malloc wouldn't make.
 */
struct berth__sandbox_hooks {
	void (*stop)(void);
	void (*start)(void);
	void (*leave)(const char *why);
};
void berth__sandbox_init(const struct berth__sandbox_hooks *hooks);
/* In a forked child: nothing is to be done until the next berth__sandbox_init(). */
void berth__sandbox_forget(void);

#endif
