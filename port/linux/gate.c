/* SPDX-License-Identifier: MIT */
/*
 * Stalling writers without userfaultfd: pages in motion are read-only, who writes to one takes SIGSEGV, and our handler
 * waits on the `gate` until the run has moved.
 *
 * I1  While any page is protected by mprotect, the gate is odd.
 */
#define _GNU_SOURCE
#include "port/linux/gate.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The C library's, past anybody who interposes sigaction(). */
#ifdef __GLIBC__
extern int __sigaction(int number, const struct sigaction *action, struct sigaction *old);
#define real_sigaction __sigaction
#else
#define real_sigaction sigaction
#endif

/* The instances that the SIGSEGV handler serves. */
#define MAX_GATED 16
static _Atomic(struct berth_mmu *) gated[MAX_GATED];
static struct sigaction program_action; /* what the program wants for SIGSEGV */
static pthread_mutex_t gate_mutex = PTHREAD_MUTEX_INITIALIZER;
static bool handler_installed;

/* The last fault of this thread that came when nothing was in motion. */
static _Thread_local struct {
	const char *address;
	uint32_t gate;
} quiet_fault __attribute__((tls_model("initial-exec")));

/*
 * Waits until the run has moved. False: nothing was in motion, neither now nor when the same address
 * faulted before; so the fault isn't ours (a page that the program itself has protected, say).
 */
static bool gate_wait(struct berth_mmu *mmu, const char *address)
{
	uint32_t gate = atomic_load(&mmu->gate);

	if (!(gate & 1)) { /* the move may have ended just now: one more try */
		bool again = quiet_fault.address == address && quiet_fault.gate == gate;

		quiet_fault.address = again ? NULL : address;
		quiet_fault.gate = gate;
		return !again;
	}
	atomic_fetch_add(&mmu->waiting, 1);
	do {
		syscall(SYS_futex, &mmu->gate, FUTEX_WAIT_PRIVATE, gate, NULL, NULL, 0);
		gate = atomic_load(&mmu->gate);
	} while (gate & 1);
	return true;
}

void berth__gate_open(struct berth_mmu *mmu)
{
	atomic_fetch_add(&mmu->gate, 1);
	syscall(SYS_futex, &mmu->gate, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

/* A fault that isn't ours, as if we weren't there. */
static void pass_on(int number, siginfo_t *info, void *context)
{
	struct sigaction action = program_action;

	if (action.sa_flags & SA_SIGINFO) {
		action.sa_sigaction(number, info, context);
	} else if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) {
		action.sa_handler(number);
	} else { /* returning repeats the fault, now with the default action */
		action = (struct sigaction){ .sa_handler = SIG_DFL };
		(void)real_sigaction(number, &action, NULL);
	}
}

static void on_sigsegv(int number, siginfo_t *info, void *context)
{
	int saved = errno;
	char *at = info->si_addr;

	for (int i = 0; i < MAX_GATED; i++) {
		struct berth_mmu *mmu = atomic_load(&gated[i]);
		uint64_t page;

		if (!mmu || at < mmu->base || at >= mmu->base + mmu->bytes)
			continue;
		page = (uint64_t)(at - mmu->base) >> BERTH_PAGE_SHIFT;
		if (berth_space_lookup(mmu->space, page) == BERTH_PFN_NONE)
			break; /* nothing is mapped there: the program's own fault */
		if (!gate_wait(mmu, at))
			break;
		errno = saved;
		return; /* try the write again */
	}
	errno = saved;
	pass_on(number, info, context);
}

int berth__gate_own_sigsegv(void)
{
	struct sigaction now, ours = { .sa_sigaction = on_sigsegv,
				       .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK };

	if (real_sigaction(SIGSEGV, NULL, &now) != 0)
		return -BERTH_EPERM;
	if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_sigsegv)
		return 0;
	sigemptyset(&ours.sa_mask);
	program_action = now;
	handler_installed = true;
	return real_sigaction(SIGSEGV, &ours, NULL) == 0 ? 0 : -BERTH_EPERM;
}

int berth__gate_register(struct berth_mmu *mmu)
{
	int error = -BERTH_ENOSPC;

	pthread_mutex_lock(&gate_mutex);
	for (int i = 0; i < MAX_GATED && error; i++) {
		if (atomic_load(&gated[i]))
			continue;
		atomic_store(&gated[i], mmu);
		error = berth__gate_own_sigsegv();
	}
	pthread_mutex_unlock(&gate_mutex);
	return error;
}

void berth__gate_unregister(struct berth_mmu *mmu)
{
	pthread_mutex_lock(&gate_mutex);
	for (int i = 0; i < MAX_GATED; i++)
		if (atomic_load(&gated[i]) == mmu)
			atomic_store(&gated[i], NULL);
	pthread_mutex_unlock(&gate_mutex);
}

bool berth_mmu_owns_sigsegv(void)
{
	return handler_installed;
}

int berth_mmu_sigsegv_action(const struct sigaction *action, struct sigaction *old)
{
	if (old)
		*old = program_action;
	if (action)
		program_action = *action;
	return 0;
}

void berth__gate_reopened(struct berth_mmu *mmu, uint64_t nr_pages)
{
	mmu->gated_pages -= nr_pages;
	if (mmu->gated_pages == 0)
		berth__gate_open(mmu);
}

int berth__gate_protect(struct berth_mmu *mmu, uint64_t page, uint64_t nr_pages)
{
	if (mmu->gated_pages == 0)
		atomic_fetch_add(&mmu->gate, 1);
	mmu->gated_pages += nr_pages;
	if (mprotect(berth__mmu_address(mmu, page), berth__mmu_bytes(nr_pages), PROT_READ) == 0)
		return 0;
	berth__gate_reopened(mmu, nr_pages);
	return -BERTH_ENOMEM;
}

void berth__gate_unprotect(struct berth_mmu *mmu, uint64_t page, uint64_t nr_pages)
{
	if (mprotect(berth__mmu_address(mmu, page), berth__mmu_bytes(nr_pages),
		     PROT_READ | PROT_WRITE) != 0)
		abort(); /* a writer could never go on: better to stop than to hang */
	berth__gate_reopened(mmu, nr_pages);
}
