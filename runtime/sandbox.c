/* SPDX-License-Identifier: MIT */
/*
 * seccomp, unshare and setns.
 *
 * A filter of system calls knows what the program needs, not what we need: it may end the process for
 * a userfaultfd's ioctl, in the program's own threads (which map memory and make it private) and, with
 * TSYNC, in ours. So before the first filter is installed the heap leaves the pool: our threads end,
 * its memory becomes ordinary memory at the same addresses, and further memory is mapped as malloc would.
 * The process goes on as one without a pool, and the report says why.
 *
 * unshare() of a user namespace and of some others, and setns() into them, are for processes with one
 * thread. So our threads end before and begin again after. (Where a process can't have new threads
 * after that, in a new PID namespace, it goes on without claims.)
 *
 * Not seen: system calls by a program's own instructions.
 */
#define _GNU_SOURCE
#include "runtime/sandbox.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/prctl.h>

#include "port/linux/raw.h"
#include "runtime/inside.h"
#include "runtime/next.h"
#include "runtime/syscall.h"
#include "runtime/untreated.h"

static const struct berth__sandbox_hooks *_Atomic hooks; /* NULL: there is nothing to look after */

void berth__sandbox_init(const struct berth__sandbox_hooks *wanted)
{
	atomic_store(&hooks, wanted);
}

void berth__sandbox_forget(void)
{
	atomic_store(&hooks, NULL);
}

/* ---- seccomp ------------------------------------------------------------------------------------------- */

/* Before a filter, or the strict mode. */
static void before_filter(void)
{
	const struct berth__sandbox_hooks *ours;
	int saved = errno;

	if (berth__untreated(BERTH_TREAT_SECCOMP))
		return;
	ours = atomic_exchange(&hooks, NULL);
	if (ours) {
		ours->stop();
		ours->leave("a seccomp filter");
	}
	errno = saved;
}

/* Libraries try what the kernel can by calls without a filter: those change nothing. */
static void before_seccomp(long operation, const void *arguments)
{
	if (operation == SECCOMP_SET_MODE_STRICT ||
	    (operation == SECCOMP_SET_MODE_FILTER && arguments))
		before_filter();
}

static void before_prctl(long option, long mode, const void *filter)
{
	if (option == PR_SET_SECCOMP &&
	    (mode == SECCOMP_MODE_STRICT || (mode == SECCOMP_MODE_FILTER && filter)))
		before_filter();
}

BERTH_EXPORT int prctl(int option, ...)
{
	unsigned long a[4];
	va_list list;

	va_start(list, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(list, unsigned long);
	va_end(list);
	before_prctl(option, (long)a[0], (const void *)a[1]);
	return (int)berth__result(
		berth_raw6(SYS_prctl, option, (long)a[0], (long)a[1], (long)a[2], (long)a[3], 0));
}

/* ---- Namespaces ---------------------------------------------------------------------------------------- */

/* Makes the call, raw, as a process with no threads but the program's. */
static long alone(long number, long a, long b)
{
	const struct berth__sandbox_hooks *ours = berth__untreated(BERTH_TREAT_THREADS) ?
							  NULL :
							  atomic_load(&hooks);
	long result;

	if (ours)
		ours->stop();
	result = berth_raw2(number, a, b);
	if (ours)
		ours->start();
	return result;
}

BERTH_EXPORT int unshare(int flags)
{
	return (int)berth__result(alone(SYS_unshare, flags, 0));
}

BERTH_EXPORT int setns(int fd, int type)
{
	return (int)berth__result(alone(SYS_setns, fd, type));
}

/* ---- By syscall() ---------------------------------------------------------------------------------------- */

bool berth__call_sandbox(long number, const long arg[6], long *result)
{
	switch (number) {
	case SYS_seccomp:
		before_seccomp(arg[0], (const void *)arg[2]);
		return false;
	case SYS_prctl:
		before_prctl(arg[0], arg[1], (const void *)arg[2]);
		return false;
	default: /* unshare, setns */
		*result = alone(number, arg[0], arg[1]);
		return true;
	}
}
