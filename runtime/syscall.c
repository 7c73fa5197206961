/* SPDX-License-Identifier: MIT */
/*
 * syscall(): system calls that a program makes by number get the treatment of their functions.
 *
 * The library's own calls never come here (inside.c). Only where the system call itself can be made
 * without the C library (port/linux/raw.h).
 */
#include <stdarg.h>
#include <unistd.h>

#include "port/linux/raw.h"
#include "runtime/inside.h"
#include "runtime/memory_calls.h"

#if defined(__x86_64__) || defined(__aarch64__)

__attribute__((visibility("default"))) long syscall(long number, ...)
{
	long a[6], result;
	va_list rest;

	va_start(rest, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(rest, long);
	va_end(rest);
	if (!berth__futex_call(number, a))
		return -1;
	if (berth__memory_call(number, a, &result))
		return result;
	return berth__result(berth_raw6(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

#endif
