/* SPDX-License-Identifier: MIT */
/*
 * Mapping pool frames at a space's addresses, and moving them there.
 *
 * Frames are mapped by duplicating the linear mapping, without a descriptor.
 *
 * Two ways to stall a writer between protect() and remap():
 *  - userfaultfd: the run is registered for the move only; mmap(MAP_FIXED) over it replaces the
 *    registered mapping, so nothing has to be unregistered on success, and UFFDIO_WAKE lets the
 *    writers go on. No handler thread: a writer sleeps in the kernel, also inside a system call.
 *  - mprotect: the writer takes SIGSEGV, and our handler waits until the run has moved (gate.c).
 * And a third, for large runs, where both the kernel and the way of userfaultfd allow it: writes are noted by
 * the kernel while the run is copied (WP_ASYNC), then its page tables are emptied, so that all who touch it wait
 * (MINOR), and only what was written meanwhile is copied once more.
 *
 * I1  A run outside a move isn't registered, so neighbours can merge to one mapping.
 */
#define _GNU_SOURCE
#include "port/linux/mmu.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "port/linux/copy.h"
#include "port/linux/fd.h"
#include "port/linux/gate.h"
#include "port/linux/raw.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef PAGEMAP_SCAN /* Linux 6.7; headers may be older */
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_WRITTEN (1 << 1)
#define PAGE_IS_SWAPPED (1 << 4)
#define PM_SCAN_WP_MATCHING (1 << 0)
struct pm_scan_arg {
	__u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
	__u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct page_region {
	__u64 start, end, categories;
};
#endif

/* ---- Mapping --------------------------------------------------------------------------------------- */

/*
 * By a copy of a part of the linear mapping: a shared mapping of size 0 "grows" to another address.
 * That needs no descriptor, so what the program does to ours doesn't matter: a file of its own under
 * the pool's number would be mapped otherwise. Populated afterwards (populate()); who comes first just faults.
 */
static bool map_from_linear(struct berth_mmu *mmu, uint64_t page, berth_pfn_t pfn, size_t bytes)
{
	long result = berth_raw6(SYS_mremap, (long)berth_memory_at(mmu->memory, pfn), 0,
				 (long)bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
				 (long)berth__mmu_address(mmu, page), 0);

	return result == (long)berth__mmu_address(mmu, page);
}

static void populate(void *ctx, uint64_t page, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;

	(void)berth_raw3(SYS_madvise, berth__mmu_address(mmu, page), berth__mmu_bytes(nr_pages),
			 MADV_POPULATE_READ);
}

static int place(struct berth_mmu *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages)
{
	int saved = errno;

	berth_memory_used(mmu->memory, berth__mmu_bytes(pfn), berth__mmu_bytes(nr_pages));
	if (map_from_linear(mmu, page, pfn, berth__mmu_bytes(nr_pages)))
		return 0;
	/* At the limit of mappings, or the like: mmap may still replace one by another. */
	if (!berth_memory_has_fd(mmu->memory) ||
	    mmap(berth__mmu_address(mmu, page), berth__mmu_bytes(nr_pages), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, mmu->memory->fd,
		 (off_t)berth__mmu_bytes(pfn)) == MAP_FAILED) {
		errno = saved;
		return -BERTH_ENOMEM;
	}
	return 0;
}

static int map_frames(void *ctx, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages)
{
	int error = place(ctx, page, pfn, nr_pages);

	if (!error)
		populate(ctx, page, nr_pages);
	return error;
}

static int map_private(void *ctx, uint64_t page, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;
	int saved = errno;

	if (mmap(berth__mmu_address(mmu, page), berth__mmu_bytes(nr_pages), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
		errno = saved;
		return -BERTH_ENOMEM;
	}
	return 0;
}

static int copy_private(void *ctx, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;
	int error = map_private(mmu, page, nr_pages);

	if (error)
		return error;
	(void)madvise(berth__mmu_address(mmu, page), berth__mmu_bytes(nr_pages), MADV_HUGEPAGE);
	memcpy(berth__mmu_address(mmu, page), berth_memory_at(mmu->memory, pfn),
	       berth__mmu_bytes(nr_pages));
	return 0;
}

static int unmap(void *ctx, uint64_t page, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;
	int saved = errno;

	if (mmap(berth__mmu_address(mmu, page), berth__mmu_bytes(nr_pages), PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
		errno = saved;
		return -BERTH_ENOMEM;
	}
	return 0;
}

/* ---- Moving: userfaultfd ---------------------------------------------------------------------------- */

static int uffd_write_protect(const struct berth_mmu *mmu, int fd, uint64_t page, uint64_t nr_pages,
			      bool on)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)berth__mmu_address(mmu, page), berth__mmu_bytes(nr_pages) },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	int result;

	do { /* EAGAIN: the address space is changing; try again */
		result = ioctl(fd, UFFDIO_WRITEPROTECT, &wp);
	} while (result != 0 && errno == EAGAIN);
	return result;
}

/* The program has closed it, by means that we don't see; the number may be its own by now. */
static bool uffd_open_again(struct berth_mmu *mmu)
{
	berth__fd_release(mmu->uffd);
	mmu->uffd = -1;
	return berth_mmu_reopen(mmu) == 0;
}

static int uffd_protect(struct berth_mmu *mmu, uint64_t page, uint64_t nr_pages)
{
	struct uffdio_register range = {
		.range = { (uintptr_t)berth__mmu_address(mmu, page), berth__mmu_bytes(nr_pages) },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int result = ioctl(mmu->uffd, UFFDIO_REGISTER, &range);

	if (result != 0 && (errno == EBADF || errno == ENOTTY) && uffd_open_again(mmu))
		result = ioctl(mmu->uffd, UFFDIO_REGISTER, &range);
	if (result != 0)
		return -BERTH_ENOMEM;
	if (uffd_write_protect(mmu, mmu->uffd, page, nr_pages, true) != 0) {
		ioctl(mmu->uffd, UFFDIO_UNREGISTER, &range.range);
		return -BERTH_ENOMEM;
	}
	return 0;
}

static void uffd_unprotect(struct berth_mmu *mmu, uint64_t page, uint64_t nr_pages)
{
	struct uffdio_range range = { (uintptr_t)berth__mmu_address(mmu, page),
				      berth__mmu_bytes(nr_pages) };

	/* Refused half-way where a part has been mapped anew (a push's huge pages), so not all are awake. */
	(void)uffd_write_protect(mmu, mmu->uffd, page, nr_pages, false);
	/* Takes the protection away too, but wakes nobody who waits to write. */
	(void)ioctl(mmu->uffd, UFFDIO_UNREGISTER, &range);
	(void)ioctl(mmu->uffd, UFFDIO_WAKE, &range);
}

/* Nobody is to touch the pages: who does meets an empty page table, and waits. */
static int uffd_stop(struct berth_mmu *mmu, uint64_t page, uint64_t nr_pages)
{
	struct uffdio_register range = {
		.range = { (uintptr_t)berth__mmu_address(mmu, page), berth__mmu_bytes(nr_pages) },
		.mode = UFFDIO_REGISTER_MODE_MINOR,
	};

	if (ioctl(mmu->uffd, UFFDIO_REGISTER, &range) != 0)
		return -BERTH_ENOMEM;
	if (madvise(berth__mmu_address(mmu, page), berth__mmu_bytes(nr_pages), MADV_DONTNEED) == 0)
		return 0;
	(void)ioctl(mmu->uffd, UFFDIO_UNREGISTER, &range.range);
	(void)ioctl(mmu->uffd, UFFDIO_WAKE, &range.range);
	return -BERTH_ENOMEM;
}

/* ---- Moving: watching -------------------------------------------------------------------------------- */

static void close_watcher(struct berth_mmu *mmu)
{
	if (mmu->watch_fd >= 0)
		berth_fd_close(mmu->watch_fd);
	if (mmu->pagemap_fd >= 0)
		berth_fd_close(mmu->pagemap_fd);
	mmu->watch_fd = mmu->pagemap_fd = -1;
}

/* Both or none; without them runs are moved in the other ways. */
static void open_watcher(struct berth_mmu *mmu)
{
	int saved = errno;

	if (berth_uffd_open_watcher(mmu->mover, &mmu->watch_fd) == 0) {
		int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

		if (fd >= 0)
			mmu->pagemap_fd = berth_fd_move_up(fd);
		else
			close_watcher(mmu);
	}
	errno = saved;
}

/* The program has closed them, by means that we don't see; the numbers may be its own by now. */
static void lose_watcher(struct berth_mmu *mmu)
{
	berth__fd_release(mmu->watch_fd);
	berth__fd_release(mmu->pagemap_fd);
	mmu->watch_fd = mmu->pagemap_fd = -1;
}

static int register_watched(const struct berth_mmu *mmu, uint64_t page, uint64_t nr_pages,
			    uint64_t mode)
{
	struct uffdio_register range = {
		.range = { (uintptr_t)berth__mmu_address(mmu, page), berth__mmu_bytes(nr_pages) },
		.mode = mode,
	};

	return ioctl(mmu->watch_fd, UFFDIO_REGISTER, &range);
}

static void end_watch(struct berth_mmu *mmu, uint64_t page, uint64_t nr_pages)
{
	struct uffdio_range range = { (uintptr_t)berth__mmu_address(mmu, page),
				      berth__mmu_bytes(nr_pages) };

	(void)ioctl(mmu->watch_fd, UFFDIO_UNREGISTER, &range); /* takes all marks away, too */
	(void)ioctl(mmu->watch_fd, UFFDIO_WAKE, &range);
	mmu->watched_pages -= nr_pages;
}

static int watch(void *ctx, uint64_t page, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;
	int saved = errno;

	if (mmu->watch_fd < 0)
		return -BERTH_ENOSYS;
	/*
	 * Marking takes a huge page's one entry apart, and a writer that comes in between would put it
	 * together again, and so on. The advice ends with this mapping.
	 */
	if (nr_pages >= BERTH_HUGE_BYTES >> BERTH_PAGE_SHIFT)
		(void)madvise(berth__mmu_address(mmu, page), berth__mmu_bytes(nr_pages),
			      MADV_NOHUGEPAGE);
	if (register_watched(mmu, page, nr_pages, UFFDIO_REGISTER_MODE_WP) != 0) {
		if (errno == EBADF || errno == ENOTTY)
			lose_watcher(mmu);
		errno = saved;
		return -BERTH_ENOSYS;
	}
	mmu->watched_pages = nr_pages;
	if (uffd_write_protect(mmu, mmu->watch_fd, page, nr_pages, true) != 0) {
		end_watch(mmu, page, nr_pages);
		errno = saved;
		return -BERTH_ENOMEM;
	}
	return 0;
}

/*
 * Sets the bits of pages that have lost their marks: they were written, or always had none. With `again` they are
 * marked anew. Returns how many.
 */
static uint64_t find_written(struct berth_mmu *mmu, uint64_t page, uint64_t nr_pages, bool again,
			     uint64_t *written)
{
	const uint64_t start = (uintptr_t)berth__mmu_address(mmu, page);
	/* As an unmapped page's mark is seen, when all are unmapped; a mapped page's mark is asked for itself. */
	const uint64_t category = again ? PAGE_IS_WRITTEN : PAGE_IS_SWAPPED;
	struct page_region regions[64];
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.flags = again ? PM_SCAN_WP_MATCHING : 0,
		.start = start,
		.end = start + berth__mmu_bytes(nr_pages),
		.vec = (uintptr_t)regions,
		.vec_len = sizeof(regions) / sizeof(regions[0]),
		.category_inverted = again ? 0 : category,
		.category_mask = category,
		.return_mask = category,
	};
	uint64_t count = 0;

	memset(written, 0, (nr_pages + 63) / 64 * sizeof(*written));
	while (scan.start < scan.end) {
		long nr = ioctl(mmu->pagemap_fd, PAGEMAP_SCAN, &scan);

		/* Not ours any more: all of them, then. */
		if (nr < 0 || scan.walk_end <= scan.start) {
			memset(written, 0xff, (nr_pages + 63) / 64 * sizeof(*written));
			return nr_pages;
		}
		for (long i = 0; i < nr; i++)
			for (uint64_t at = regions[i].start; at < regions[i].end;
			     at += BERTH_PAGE_SIZE) {
				uint64_t bit = (at - start) >> BERTH_PAGE_SHIFT;

				written[bit / 64] |= 1ull << bit % 64;
				count++;
			}
		scan.start = scan.walk_end;
	}
	return count;
}

static uint64_t look(void *ctx, uint64_t page, uint64_t nr_pages, uint64_t *written)
{
	struct berth_mmu *mmu = ctx;
	int saved = errno;
	uint64_t nr = find_written(mmu, page, nr_pages, true, written);

	errno = saved;
	return nr;
}

static int halt(void *ctx, uint64_t page, uint64_t nr_pages, uint64_t *written)
{
	struct berth_mmu *mmu = ctx;
	int saved = errno, error = 0;

	if (register_watched(mmu, page, nr_pages,
			     UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MINOR) != 0 ||
	    madvise(berth__mmu_address(mmu, page), berth__mmu_bytes(nr_pages), MADV_DONTNEED) != 0)
		error = -BERTH_ENOMEM;
	else
		(void)find_written(mmu, page, nr_pages, false, written);
	errno = saved;
	return error;
}

static void open_part(void *ctx, uint64_t page, uint64_t nr_pages)
{
	const struct berth_mmu *mmu = ctx;
	int saved = errno;

	(void)uffd_write_protect(mmu, mmu->uffd, page, nr_pages, false);
	errno = saved;
}

static void uffd_wake(const struct berth_mmu *mmu, uint64_t page, uint64_t nr_pages)
{
	struct uffdio_range range = { (uintptr_t)berth__mmu_address(mmu, page),
				      berth__mmu_bytes(nr_pages) };

	(void)ioctl(mmu->watched_pages ? mmu->watch_fd : mmu->uffd, UFFDIO_WAKE, &range);
}

/* ---- Moving: the operations --------------------------------------------------------------------------- */

static int protect(void *ctx, uint64_t page, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;
	int saved = errno, error;

	error = mmu->mover == BERTH_MOVER_MPROTECT ? berth__gate_protect(mmu, page, nr_pages) :
						     uffd_protect(mmu, page, nr_pages);
	errno = saved;
	return error;
}

static int stop(void *ctx, uint64_t page, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;
	int saved = errno, error = -BERTH_ENOSYS;

	if (mmu->mover != BERTH_MOVER_MPROTECT)
		error = uffd_stop(mmu, page, nr_pages);
	errno = saved;
	return error;
}

static void unprotect(void *ctx, uint64_t page, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;
	int saved = errno;

	if (mmu->watched_pages)
		end_watch(mmu, page, nr_pages);
	else if (mmu->mover == BERTH_MOVER_MPROTECT)
		berth__gate_unprotect(mmu, page, nr_pages);
	else
		uffd_unprotect(mmu, page, nr_pages);
	errno = saved;
}

/* Protected pages have got a new mapping: whoever waits for them goes on. */
static void remapped(struct berth_mmu *mmu, uint64_t page, uint64_t nr_pages)
{
	if (mmu->mover == BERTH_MOVER_MPROTECT)
		berth__gate_reopened(mmu, nr_pages);
	else
		uffd_wake(mmu, page, nr_pages);
	if (mmu->watched_pages)
		mmu->watched_pages -= nr_pages;
}

static int remap(void *ctx, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;
	int saved = errno, error;

	error = place(mmu, page, pfn, nr_pages);
	if (error)
		return error;
	remapped(mmu, page, nr_pages);
	errno = saved;
	return 0;
}

static bool writer_waits(void *ctx)
{
	struct berth_mmu *mmu = ctx;
	struct uffd_msg messages[16];
	bool any = false;
	int saved = errno;

	if (mmu->mover == BERTH_MOVER_MPROTECT)
		return atomic_exchange(&mmu->waiting, 0) != 0;
	while (read(mmu->watched_pages ? mmu->watch_fd : mmu->uffd, messages, sizeof(messages)) > 0)
		any = true;
	errno = saved;
	return any;
}

static int prepare(void *ctx, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;

	return berth_memory_populate(mmu->memory, berth__mmu_bytes(pfn),
				     berth__mmu_bytes(nr_pages));
}

static _Thread_local bool notes_moves __attribute__((tls_model("initial-exec")));

void berth_mmu_note_moves(bool on)
{
	notes_moves = on;
}

uint64_t berth_mmu_hash(const void *page)
{
	const uint64_t *words = page;
	uint64_t lanes[4] = { 1, 2, 3, 4 }, hash = 0;

	for (size_t i = 0; i < BERTH_PAGE_SIZE / sizeof(*words); i++)
		lanes[i % 4] = (lanes[i % 4] ^ words[i]) * 0x9E3779B97F4A7C15u;
	for (int i = 0; i < 4; i++)
		hash = (hash ^ lanes[i] ^ lanes[i] >> 32) * 0xD1B54A32D192ED03u;
	return hash ? hash : 1;
}

/* The sources can't be written now. */
static void note_moved(struct berth_mmu *mmu, berth_pfn_t dst, berth_pfn_t src, uint64_t nr_pages)
{
	for (uint64_t i = 0; i < nr_pages; i++)
		mmu->moved[src + i] = (struct berth_moved){
			berth_mmu_hash(berth_memory_at(mmu->memory, src + i)), dst + i
		};
}

static void copy(void *ctx, berth_pfn_t dst, berth_pfn_t src, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;

	berth_memory_used(mmu->memory, berth__mmu_bytes(dst), berth__mmu_bytes(nr_pages));
	berth_copiers_copy(&mmu->copiers, berth_memory_at(mmu->memory, dst),
			   berth_memory_at(mmu->memory, src), berth__mmu_bytes(nr_pages));
	if (mmu->moved && notes_moves)
		note_moved(mmu, dst, src, nr_pages);
}

static void copy_scattered(void *ctx, const berth_pfn_t *dst, const berth_pfn_t *src, unsigned nr)
{
	struct berth_mmu *mmu = ctx;

	for (unsigned i = 0; i < nr;) {
		void *to[BERTH_COPY_PAGES];
		const void *from[BERTH_COPY_PAGES];
		unsigned some = 0;

		for (; some < BERTH_COPY_PAGES && i < nr; some++, i++) {
			berth_memory_used(mmu->memory, berth__mmu_bytes(dst[i]), BERTH_PAGE_SIZE);
			to[some] = berth_memory_at(mmu->memory, dst[i]);
			from[some] = berth_memory_at(mmu->memory, src[i]);
		}
		berth_copy_pages(to, from, some);
	}
	for (unsigned i = 0; mmu->moved && notes_moves && i < nr; i++)
		note_moved(mmu, dst[i], src[i], 1);
}

static void zero(void *ctx, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;

	berth_memory_zero(mmu->memory, berth__mmu_bytes(pfn), berth__mmu_bytes(nr_pages));
}

static void keep_awake(void *ctx, bool on)
{
	struct berth_mmu *mmu = ctx;

	berth_latency_request(&mmu->latency, on);
}

static void begin(void *ctx)
{
	struct berth_mmu *mmu = ctx;
	sigset_t all;

	if (mmu->mover == BERTH_MOVER_MPROTECT)
		(void)berth__gate_own_sigsegv(); /* the program may have taken it since */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mmu->old_mask);
}

static void end(void *ctx)
{
	struct berth_mmu *mmu = ctx;

	pthread_sigmask(SIG_SETMASK, &mmu->old_mask, NULL);
}

static int make_private(void *ctx, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct berth_mmu *mmu = ctx;
	size_t bytes = berth__mmu_bytes(nr_pages);
	int saved = errno, error = 0;
	void *fresh = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (fresh == MAP_FAILED) {
		errno = saved;
		return -BERTH_ENOMEM;
	}
	begin(mmu);
	error = protect(mmu, page, nr_pages);
	if (!error) {
		memcpy(fresh, berth_memory_at(mmu->memory, pfn), bytes);
		if (mremap(fresh, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
			   berth__mmu_address(mmu, page)) == MAP_FAILED) {
			unprotect(mmu, page, nr_pages);
			error = -BERTH_ENOMEM;
		} else {
			remapped(mmu, page, nr_pages);
		}
	}
	end(mmu);
	if (error)
		munmap(fresh, bytes);
	errno = saved;
	return error;
}

static void forget_protection(void *ctx)
{
	struct berth_mmu *mmu = ctx;

	/* The userfaultfd is the parent's: it would act on the parent's memory. */
	if (mmu->uffd >= 0)
		berth_fd_close(mmu->uffd);
	mmu->uffd = -1;
	close_watcher(mmu);
	berth_latency_close(&mmu->latency);
	mmu->watched_pages = 0;
	mmu->copiers.nr = 0; /* its threads, too */
	mmu->moved = NULL;
	mmu->gated_pages = 0;
	if (atomic_load(&mmu->gate) & 1)
		berth__gate_open(mmu);
}

const struct berth_mmu_ops berth_mmu_linux_ops = {
	.map = map_frames,
	.map_private = map_private,
	.copy_private = copy_private,
	.make_private = make_private,
	.unmap = unmap,
	.protect = protect,
	.stop = stop,
	.watch = watch,
	.look = look,
	.halt = halt,
	.unprotect = unprotect,
	.remap = remap,
	.populate = populate,
	.writer_waits = writer_waits,
	.prepare = prepare,
	.copy = copy,
	.copy_scattered = copy_scattered,
	.zero = zero,
	.receive = berth_mmu_receive,
	.push = berth_mmu_push,
	.open = open_part,
	.forget_protection = forget_protection,
	.keep_awake = keep_awake,
	.begin = begin,
	.end = end,
};

/* ---- Opening ------------------------------------------------------------------------------------------ */

int berth_mmu_open(struct berth_mmu *mmu, struct berth_memory *memory, size_t bytes,
		   enum berth_mover mover)
{
	int error;

	*mmu = (struct berth_mmu){ .memory = memory,
				   .mover = mover,
				   .uffd = -1,
				   .watch_fd = -1,
				   .pagemap_fd = -1,
				   .child_uffd = -1,
				   .latency = { .fd = -1 } };
	bytes = (bytes + BERTH_HUGE_BYTES - 1) & ~(size_t)(BERTH_HUGE_BYTES - 1);
	error = berth_uffd_open(&mmu->mover, &mmu->uffd);
	if (error)
		return error;
	mmu->base = berth_reserve_aligned(bytes);
	if (!mmu->base) {
		if (mmu->uffd >= 0)
			berth_fd_close(mmu->uffd);
		return -BERTH_ENOMEM;
	}
	mmu->bytes = bytes;
	if (mmu->mover == BERTH_MOVER_MPROTECT)
		error = berth__gate_register(mmu);
	if (error)
		berth_mmu_close(mmu);
	else
		open_watcher(mmu);
	return error;
}

int berth_mmu_reopen(struct berth_mmu *mmu)
{
	int error;

	if (mmu->uffd >= 0 || mmu->mover == BERTH_MOVER_MPROTECT)
		return 0;
	error = berth_uffd_open(&mmu->mover, &mmu->uffd);
	if (!error && mmu->watch_fd < 0)
		open_watcher(mmu);
	return error;
}

void berth_mmu_close(struct berth_mmu *mmu)
{
	if (mmu->mover == BERTH_MOVER_MPROTECT)
		berth__gate_unregister(mmu);
	if (mmu->base)
		munmap(mmu->base, mmu->bytes);
	if (mmu->uffd >= 0)
		berth_fd_close(mmu->uffd);
	close_watcher(mmu);
	berth_latency_close(&mmu->latency);
	mmu->base = NULL;
	mmu->uffd = -1;
}

/* Reads a small file without stdio, which may allocate. */
static long read_number(const char *path, long fallback)
{
	char text[32];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	if (fd < 0)
		return fallback;
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (length <= 0)
		return fallback;
	text[length] = 0;
	return strtol(text, NULL, 10);
}

static long count_mappings(void)
{
	char buffer[4096];
	long lines = 0;
	ssize_t length;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 1000;
	while ((length = read(fd, buffer, sizeof(buffer))) > 0)
		for (ssize_t i = 0; i < length; i++)
			lines += buffer[i] == '\n';
	close(fd);
	return lines;
}

uint32_t berth_mmu_budget(void)
{
	long limit = read_number("/proc/sys/vm/max_map_count", 65530) / 4 * 3 - count_mappings();

	return limit < 256 ? 256 : (uint32_t)limit;
}
