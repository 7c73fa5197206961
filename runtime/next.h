/* SPDX-License-Identifier: MIT */
/*
 * The function behind one that we interpose.
 */
#ifndef BERTH_RUNTIME_NEXT_H
#define BERTH_RUNTIME_NEXT_H

#include <dlfcn.h>
#include <stdlib.h>

#define BERTH_EXPORT __attribute__((visibility("default")))

/* The next library's function of that name; stops when there is none: for those that each C library
 * has. May be called at any time, also by several threads at once: they find the same. */
static inline void *berth__next(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);

	if (!found)
		abort();
	return found;
}

/* Declares `next` with the type of the function, found at the first call. */
#define BERTH_NEXT(function)               \
	static __typeof__(function) *next; \
	if (!next)                         \
	*(void **)&next = berth__next(#function)

#endif
