/* SPDX-License-Identifier: MIT */
/*
 * syscall(): calls that somebody cares for are dispatched, all others go straight to the kernel.
 *
 * On machines that we know it is written in assembler: a call that isn't in the table must leave no
 * trace on the stack. A program may start a thread with it (SYS_clone), and the child then returns
 * from here on a stack of its own.
 *
 * Complexity: a look-up in a table of bytes before the call.
 */
#define _GNU_SOURCE
#include "runtime/syscall.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>

#include "port/linux/raw.h"
#include "runtime/internal.h"
#include "runtime/memory_calls.h"
#include "runtime/next.h"

/* Who takes a call. The numbers below 512 are all that matter here; others are the kernel's. */
enum taker { KERNEL, DESCRIPTORS, DIRECT, MEMORY, FORK, SANDBOX };
#define NR_CALLS 512

/* clang-format off */
__attribute__((used)) const uint8_t berth__call_takers[NR_CALLS] = {
	[SYS_close] = DESCRIPTORS,
	[SYS_close_range] = DESCRIPTORS,
	[SYS_dup] = DESCRIPTORS,
#ifdef SYS_dup2
	[SYS_dup2] = DESCRIPTORS,
#endif
	[SYS_dup3] = DESCRIPTORS,
	[SYS_fcntl] = DESCRIPTORS,
#ifdef SYS_open
	[SYS_open] = DIRECT,
#endif
	[SYS_openat] = DIRECT,
	[SYS_openat2] = DIRECT,
	[SYS_io_setup] = DIRECT,
	[SYS_io_uring_setup] = DIRECT,
	[SYS_pidfd_getfd] = DIRECT,
	[SYS_recvmsg] = DIRECT,
	[SYS_seccomp] = SANDBOX,
	[SYS_prctl] = SANDBOX,
	[SYS_unshare] = SANDBOX,
	[SYS_setns] = SANDBOX,
	[SYS_mprotect] = MEMORY,
	[SYS_pkey_mprotect] = MEMORY,
	[SYS_mlock] = MEMORY,
	[SYS_mlock2] = MEMORY,
	[SYS_munmap] = MEMORY,
	[SYS_mremap] = MEMORY,
	[SYS_mmap] = MEMORY,
	[SYS_madvise] = MEMORY,
	[SYS_msync] = MEMORY,
	[SYS_mincore] = MEMORY,
	[SYS_vmsplice] = MEMORY,
	[SYS_futex] = MEMORY,
	[SYS_futex_waitv] = MEMORY,
	[SYS_futex_wait] = MEMORY,
	[SYS_futex_requeue] = MEMORY,
#ifdef SYS_fork
	[SYS_fork] = FORK,
#endif
};
/* clang-format on */

long berth__syscall_taken(long number, ...);
long berth__syscall_failed(long result);

/* The answer as the C library gives it. */
__attribute__((used)) long berth__syscall_failed(long result)
{
	errno = (int)-result;
	return -1;
}

/* A call from the table. */
__attribute__((used)) long berth__syscall_taken(long number, ...)
{
	bool taken = false;
	long arg[6], result = 0;
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++) /* as many as there can be; what wasn't given isn't looked at */
		arg[i] = va_arg(list, long);
	va_end(list);
	switch ((enum taker)berth__call_takers[number]) {
	case DESCRIPTORS:
		taken = berth__call_descriptors(number, arg, &result);
		break;
	case DIRECT:
		taken = berth__call_direct(number, arg, &result);
		break;
	case SANDBOX:
		taken = berth__call_sandbox(number, arg, &result);
		break;
	case MEMORY: /* these set errno themselves */
		if (!berth__futex_call(number, arg))
			return -1;
		if (berth__memory_call(number, arg, &result))
			return result;
		break;
	case FORK:
		taken = true;
		berth__fork_begin();
		result = berth_raw1(number, 0);
		berth__fork_end(result);
		break;
	case KERNEL:
		break;
	}
	if (!taken)
		result = berth_raw6(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	return (unsigned long)result > -4096ul ? berth__syscall_failed(result) : result;
}

#if defined(__x86_64__)
__asm__(".pushsection .text\n"
	".globl syscall\n"
	".type syscall, @function\n"
	".balign 16\n"
	"syscall:\n"
	"	endbr64\n"
	"	cmpq $512, %rdi\n"
	"	jae 1f\n"
	"	leaq berth__call_takers(%rip), %rax\n"
	"	cmpb $0, (%rax, %rdi)\n"
	"	jne 2f\n"
	"1:	movq %rdi, %rax\n"
	"	movq %rsi, %rdi\n"
	"	movq %rdx, %rsi\n"
	"	movq %rcx, %rdx\n"
	"	movq %r8, %r10\n"
	"	movq %r9, %r8\n"
	"	movq 8(%rsp), %r9\n"
	"	syscall\n"
	"	cmpq $-4095, %rax\n"
	"	jae 3f\n"
	"	ret\n"
	"2:	xorl %eax, %eax\n" /* no arguments in vector registers */
	"	jmp berth__syscall_taken\n"
	"3:	movq %rax, %rdi\n"
	"	jmp berth__syscall_failed\n"
	".size syscall, . - syscall\n"
	".popsection\n");
#elif defined(__aarch64__)
__asm__(".pushsection .text\n"
	".globl syscall\n"
	".type syscall, %function\n"
	".balign 16\n"
	"syscall:\n"
	"	bti c\n"
	"	cmp x0, #512\n"
	"	b.hs 1f\n"
	"	adrp x9, berth__call_takers\n"
	"	add x9, x9, :lo12:berth__call_takers\n"
	"	ldrb w9, [x9, x0]\n"
	"	cbnz w9, 2f\n"
	"1:	mov x8, x0\n"
	"	mov x0, x1\n"
	"	mov x1, x2\n"
	"	mov x2, x3\n"
	"	mov x3, x4\n"
	"	mov x4, x5\n"
	"	mov x5, x6\n"
	"	svc #0\n"
	"	cmn x0, #4095\n"
	"	b.cs 3f\n"
	"	ret\n"
	"2:	b berth__syscall_taken\n"
	"3:	b berth__syscall_failed\n"
	".size syscall, . - syscall\n"
	".popsection\n");
#endif
