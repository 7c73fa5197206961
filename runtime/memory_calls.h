/* SPDX-License-Identifier: MIT */
/*
 * System calls about memory that come in by syscall() get the treatment of their functions.
 */
#ifndef BERTH_RUNTIME_MEMORY_CALLS_H
#define BERTH_RUNTIME_MEMORY_CALLS_H

#include <stdbool.h>
#include <sys/syscall.h>

/* Younger than some C libraries' headers. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SYS_futex_wait
#define SYS_futex_wait 455
#define SYS_futex_requeue 456
#endif

/* True when `number` is one that is treated: *result is what syscall() returns then, errno set. */
bool berth__memory_call(long number, const long argument[6], long *result);
/* Readies heap memory for a futex call that would break when it moves (futexes.c). False: there is no
 * memory to do so, and errno is ENOMEM. */
bool berth__futex_call(long number, const long argument[6]);

#endif
