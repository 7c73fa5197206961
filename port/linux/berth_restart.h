/* SPDX-License-Identifier: MIT */
/*
 * Copies that begin anew when their thread was preempted: berth_copy_in() of <berth/port.h>, by restartable
 * sequences (rseq(2)). Included by <berth_port.h> alone.
 *
 * The kernel makes a thread that it has taken off its CPU within a sequence, or delivered a signal to, or that
 * membarrier() was for, go on at the sequence's abort handler. Here that is the beginning, which looks at the
 * generation again. glibc has registered each thread (2.35 and later); where it hasn't, or where nobody has
 * written the assembly, BERTH_HAVE_COPY_IN isn't defined or a thread can't restart.
 */
#ifndef BERTH_PORT_LINUX_RESTART_H
#define BERTH_PORT_LINUX_RESTART_H

#if defined(__x86_64__) && defined(__LP64__) && defined(__has_include)
#if __has_include(<sys/rseq.h>)
#define BERTH_HAVE_COPY_IN 1
#endif
#endif
/* The thread sanitizer doesn't see what assembly writes. */
#if defined(__SANITIZE_THREAD__)
#undef BERTH_HAVE_COPY_IN
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#undef BERTH_HAVE_COPY_IN
#endif
#endif

#ifdef BERTH_HAVE_COPY_IN
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/rseq.h>

static inline struct rseq *berth__rseq(void)
{
	char *thread;

	__asm__("mov %%fs:0, %0" : "=r"(thread));
	return (struct rseq *)(void *)(thread + __rseq_offset);
}

static inline bool berth_copy_restarts(void)
{
	/* Registered: its CPU is known. It is negative otherwise. */
	return __rseq_size && (int32_t) * (volatile uint32_t *)&berth__rseq()->cpu_id >= 0;
}

/* The caller's thread has answered true to berth_copy_restarts(). */
static inline bool berth_copy_in(void *to, const void *from, size_t bytes,
				 const _Atomic uint64_t *generation, uint64_t expected)
{
	struct rseq *rseq = berth__rseq();
	uint64_t done;

	__asm__ volatile(
		/* struct rseq_cs: version, flags, start, length, abort */
		".pushsection __rseq_cs, \"aw\"\n\t"
		".balign 32\n"
		"3:\n\t"
		".long 0, 0\n\t"
		".quad 1f, 2f - 1f, 4f\n\t"
		".popsection\n"
		"5:\n\t" /* begin, again */
		"mov %[to], %%rdi\n\t"
		"mov %[from], %%rsi\n\t"
		"mov %[bytes], %%rcx\n\t"
		"lea 3b(%%rip), %%rax\n\t"
		"mov %%rax, %[sequence]\n"
		"1:\n\t"
		"xor %%eax, %%eax\n\t"
		"cmp %[expected], %[generation]\n\t"
		"jne 2f\n\t"
		"rep movsb\n\t"
		"inc %%eax\n"
		"2:\n\t"
		".pushsection __rseq_failure, \"ax\"\n\t"
		".byte 0x0f, 0xb9, 0x3d\n\t" /* the signature, as an instruction that traps */
		".long %c[signature]\n"
		"4:\n\t"
		"jmp 5b\n\t"
		".popsection\n"
		: "=&a"(done), [sequence] "=m"(rseq->rseq_cs)
		: [to] "r"(to), [from] "r"(from), [bytes] "r"(bytes), [expected] "r"(expected),
		  [generation] "m"(*generation), [signature] "i"(RSEQ_SIG)
		: "rdi", "rsi", "rcx", "cc", "memory");
	/* The description may be unloaded one day. */
	__asm__ volatile("movq $0, %0" : "=m"(rseq->rseq_cs));
	return done;
}
#endif

#endif
