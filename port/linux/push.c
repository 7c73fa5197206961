/* SPDX-License-Identifier: MIT */
/*
 * Memory that a forked child gets after it has begun to run.
 *
 * The child maps empty private memory, registers it with a userfaultfd of its own for missing pages,
 * and hands that descriptor to the parent. The parent fills pages through it (UFFDIO_COPY), from its
 * linear mapping; a child that touches a page before sleeps in the fault, also inside a system call.
 * The child keeps its copy of the descriptor open: if the parent dies, missing pages must not become
 * zero pages.
 */
#define _GNU_SOURCE
#include "port/linux/mmu.h"

#include "port/linux/fd.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t bytes_of(uint64_t nr_pages)
{
	return (size_t)nr_pages << BERTH_PAGE_SHIFT;
}

static uint64_t address(const struct berth_mmu *mmu, uint64_t page)
{
	return (uintptr_t)mmu->base + (page << BERTH_PAGE_SHIFT);
}

bool berth_mmu_can_push(const struct berth_mmu *mmu)
{
	return mmu->mover != BERTH_MOVER_UFFD_USER && mmu->mover != BERTH_MOVER_MPROTECT;
}

/* ---- In the child ---------------------------------------------------------------------------------- */

static int receive(struct berth_mmu *mmu, uint64_t page, uint64_t nr_pages)
{
	struct uffdio_register range = {
		.range = { address(mmu, page), bytes_of(nr_pages) },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	enum berth_mover mover = mmu->mover;

	if (mmu->child_uffd < 0 && berth_uffd_open(&mover, &mmu->child_uffd) != 0)
		return -BERTH_EPERM;
	if (mmap(mmu->base + bytes_of(page), bytes_of(nr_pages), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    ioctl(mmu->child_uffd, UFFDIO_REGISTER, &range) != 0)
		return -BERTH_ENOMEM;
	return 0;
}

int berth_mmu_receive(void *ctx, uint64_t page, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;
	int saved = errno, error = receive(mmu, page, nr_pages);

	if (error && mmu->child_uffd >= 0) { /* nothing is registered any more */
		berth_fd_close(mmu->child_uffd);
		mmu->child_uffd = -1;
	}
	errno = saved;
	return error;
}

/* ---- In the parent --------------------------------------------------------------------------------- */

static void wake(const struct berth_mmu *mmu, uint64_t at)
{
	struct uffdio_range range = { at, BERTH_PAGE_SIZE };

	(void)ioctl(mmu->child_uffd, UFFDIO_WAKE, &range);
}

int berth_mmu_push(void *ctx, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;
	uint64_t at = address(mmu, page), end = at + bytes_of(nr_pages);
	uint64_t from = (uintptr_t)berth_memory_at(mmu->memory, pfn);
	int saved = errno, error = 0;

	while (at < end && !error) {
		struct uffdio_copy copy = { .dst = at, .src = from, .len = end - at };

		if (ioctl(mmu->child_uffd, UFFDIO_COPY, &copy) == 0)
			break;
		if (copy.copy > 0) {
			at += (uint64_t)copy.copy;
			from += (uint64_t)copy.copy;
		} else if (errno == EEXIST || errno == ENOENT) {
			/* The child has its own there by now: mapped anew, or given up. */
			wake(mmu, at);
			at += BERTH_PAGE_SIZE;
			from += BERTH_PAGE_SIZE;
		} else if (errno == ESRCH) {
			error = -BERTH_ENOENT;
		} else if (errno != EAGAIN) {
			error = -BERTH_ENOMEM;
		}
	}
	errno = saved;
	return error;
}

void berth_mmu_push_rest(const struct berth_mmu *mmu, uint64_t page)
{
	struct uffdio_zeropage zero = { .range = { address(mmu, page), BERTH_PAGE_SIZE } };
	int saved = errno;

	if (ioctl(mmu->child_uffd, UFFDIO_ZEROPAGE, &zero) != 0)
		wake(mmu, zero.range.start);
	errno = saved;
}

unsigned berth_mmu_faults(const struct berth_mmu *mmu, bool in_child, uint64_t *pages,
			  unsigned room)
{
	const uint64_t base = (uintptr_t)mmu->base;
	int fd = in_child ? mmu->child_uffd : mmu->uffd, saved = errno;
	struct uffd_msg message;
	unsigned nr = 0;

	while (nr < room && read(fd, &message, sizeof(message)) == (ssize_t)sizeof(message)) {
		uint64_t at = message.arg.pagefault.address;

		if (message.event == UFFD_EVENT_PAGEFAULT && at >= base && at < base + mmu->bytes)
			pages[nr++] = (at - base) >> BERTH_PAGE_SHIFT;
	}
	errno = saved;
	return nr;
}

/* The kernel refuses a range in which the child has mapped something that can't be registered, a file say: then
 * what is around it. */
static void unregister(const struct berth_mmu *mmu)
{
	struct uffdio_range range = { (uintptr_t)mmu->base, mmu->bytes };
	uint64_t end = range.start + range.len;

	if (ioctl(mmu->child_uffd, UFFDIO_UNREGISTER, &range) == 0 || errno != EINVAL)
		return;
	for (range.len = BERTH_HUGE_BYTES; range.start < end; range.start += BERTH_HUGE_BYTES)
		(void)ioctl(mmu->child_uffd, UFFDIO_UNREGISTER, &range);
}

void berth_mmu_push_done(struct berth_mmu *mmu)
{
	int saved = errno;

	if (mmu->child_uffd >= 0) {
		unregister(mmu);
		berth_fd_close(mmu->child_uffd);
	}
	mmu->child_uffd = -1;
	errno = saved;
}
