/* SPDX-License-Identifier: MIT */
/*
 * The types and error codes that every layer of Berth shares. Freestanding.
 *
 * A frame is one page of memory that the core manages; a pfn is its number. Ranges are half-open
 * or (start, count). A unit ends each name: _pages, _bytes, _pfn, _order, _ns.
 */
#ifndef BERTH_TYPES_H
#define BERTH_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BERTH_PAGE_SHIFT 12u
#define BERTH_PAGE_SIZE (1u << BERTH_PAGE_SHIFT)

/* A page frame number in the caller's numbering (physical on bare metal, pool offset in Linux). */
typedef uint64_t berth_pfn_t;
#define BERTH_PFN_NONE UINT64_MAX

#if defined(__GNUC__)
#define BERTH_MUST_CHECK __attribute__((warn_unused_result))
#else
#define BERTH_MUST_CHECK
#endif

/*
 * Error codes: functions return 0 or one of these negated. The values are Linux' errno values, so
 * a kernel or a Linux program can pass them on; they are spelled out because the core has no libc.
 */
enum berth_error {
	BERTH_EAGAIN = 11,  /* the deadline passed, or the call may not wait */
	BERTH_ENOMEM = 12,  /* not enough memory to allocate, or to move borrowers to */
	BERTH_EBUSY = 16,   /* held by somebody; a retry may help */
	BERTH_EEXIST = 17,  /* the name or range is taken */
	BERTH_EINVAL = 22,  /* a bad argument; never becomes good */
	BERTH_ENOSPC = 28,  /* claims in place leave no run of that size now */
	BERTH_ENOSYS = 38,  /* the port or the kernel lacks the feature */
	BERTH_ENODEV = 19,  /* no area is configured for the device, and there is no default one */
	BERTH_ENOENT = 2,   /* no such area, owner or claim */
	BERTH_E2BIG = 7,    /* can never fit, whatever is released */
	BERTH_EPERM = 1,    /* the system refused */
	BERTH_ESTALE = 116, /* a handle that is closed, or from before a fork */
	BERTH_ESRCH = 3,    /* no such tenant: no process with this pid serves, or it has ended */
	BERTH_EPROTO = 71,  /* the other process speaks another version */
	BERTH_EOPNOTSUPP = 95, /* not on a handle of another process's pool */
	BERTH_ETIMEDOUT = 110, /* another process didn't answer in time: it's stopped or very busy */
};

#endif
