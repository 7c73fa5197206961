/* SPDX-License-Identifier: MIT */
/*
 * dlopen without RTLD_DEEPBIND, in a program that lives in a pool.
 *
 * A module that is loaded with this flag finds its symbols in its own dependencies first, so its
 * free() is the C library's and not the one of this library: it would be given blocks of a heap that
 * it doesn't know (PHP loads all of its extensions so). There is no way to make the flag and another
 * allocator agree, so the flag is taken away.
 *
 * The real dlopen looks at the address it returns to: the search path, $ORIGIN and the namespace are
 * those of the object that has called it. So it is jumped to, not called.
 *
 * Cost: one load, one branch.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

typedef void *dlopen_function(const char *, int);

_Static_assert(RTLD_DEEPBIND == 8, "the flag stands as a number in the assembly below");

__attribute__((visibility("hidden"))) dlopen_function *berth__next_dlopen;
__attribute__((visibility("hidden"))) dlopen_function *berth__find_dlopen(void);

/* Threads that look at the same time find the same. */
dlopen_function *berth__find_dlopen(void)
{
	dlopen_function *next;

	*(void **)&next = dlsym(RTLD_NEXT, "dlopen");
	if (!next)
		abort(); /* nobody can call what isn't there */
	__atomic_store_n(&berth__next_dlopen, next, __ATOMIC_RELAXED);
	return next;
}

#if defined(__x86_64__)
__asm__(".pushsection .text\n"
	".globl dlopen\n"
	".type dlopen, @function\n"
	"dlopen:\n"
	"	.cfi_startproc\n"
	"	endbr64\n"
	"	mov berth__next_dlopen(%rip), %rax\n"
	"	test %rax, %rax\n"
	"	jnz 1f\n"
	"	push %rdi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	push %rsi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	sub $8, %rsp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	call berth__find_dlopen\n"
	"	add $8, %rsp\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %rsi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %rdi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"1:	and $~8, %esi\n"
	"	jmp *%rax\n"
	"	.cfi_endproc\n"
	".size dlopen, . - dlopen\n"
	".popsection\n");
#elif defined(__aarch64__)
__asm__(".pushsection .text\n"
	".globl dlopen\n"
	".type dlopen, %function\n"
	"dlopen:\n"
	"	.cfi_startproc\n"
	"	hint #34\n" /* bti c */
	"	adrp x16, berth__next_dlopen\n"
	"	ldr x16, [x16, :lo12:berth__next_dlopen]\n"
	"	cbnz x16, 1f\n"
	"	stp x29, x30, [sp, #-32]!\n"
	"	.cfi_adjust_cfa_offset 32\n"
	"	.cfi_rel_offset x29, 0\n"
	"	.cfi_rel_offset x30, 8\n"
	"	stp x0, x1, [sp, #16]\n"
	"	bl berth__find_dlopen\n"
	"	mov x16, x0\n"
	"	ldp x0, x1, [sp, #16]\n"
	"	ldp x29, x30, [sp], #32\n"
	"	.cfi_adjust_cfa_offset -32\n"
	"	.cfi_restore x29\n"
	"	.cfi_restore x30\n"
	"1:	and w1, w1, #0xfffffff7\n"
	"	br x16\n"
	"	.cfi_endproc\n"
	".size dlopen, . - dlopen\n"
	".popsection\n");
#else
__attribute__((visibility("default"))) void *dlopen(const char *file, int mode)
{
	dlopen_function *next = berth__next_dlopen ? berth__next_dlopen : berth__find_dlopen();

	return next(file, mode & ~RTLD_DEEPBIND); /* with -O2 this is a jump, too */
}
#endif
