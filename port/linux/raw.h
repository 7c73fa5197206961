/* SPDX-License-Identifier: MIT */
/*
 * System calls past the C library: for what may not run into a function that the preload library
 * interposes. The result is the kernel's: negative errno values; errno itself isn't touched.
 */
#ifndef BERTH_PORT_LINUX_RAW_H
#define BERTH_PORT_LINUX_RAW_H

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline long berth_raw6(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
#else /* elsewhere syscall() isn't interposed (runtime/syscall.c) */
	int saved = errno;
	long result = syscall(number, a, b, c, d, e, f);

	if (result == -1)
		result = -errno;
	errno = saved;
	return result;
#endif
}

#define berth_raw0(number) berth_raw6(number, 0, 0, 0, 0, 0, 0)
#define berth_raw1(number, a) berth_raw6(number, (long)(a), 0, 0, 0, 0, 0)
#define berth_raw2(number, a, b) berth_raw6(number, (long)(a), (long)(b), 0, 0, 0, 0)
#define berth_raw3(number, a, b, c) berth_raw6(number, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define berth_raw4(number, a, b, c, d) \
	berth_raw6(number, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

#endif
