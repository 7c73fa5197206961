/* SPDX-License-Identifier: MIT */
/*
 * System calls about memory, when a program makes them for its heap.
 *
 * They act on the mapping at an address, and a move replaces that mapping. So before such a call the pages
 * become private memory at the same address, where the kernel's semantics hold exactly, until the
 * allocator gives them back:
 *
 *	mprotect, pkey_mprotect, mlock, mlock2    private, then the call; but making frames readable and
 *	                                          writable is nothing to do, for that is what they are
 *	munmap                                    private, then inaccessible: the addresses stay the heap's
 *	mremap                                    private, then moved piece by piece
 *	mmap with MAP_FIXED                       private, then the call
 *	madvise                                   see treatments[]
 *	vmsplice                                  private, then the call: a pipe refers to the page
 *	msync, mincore                            as they are; but addresses that the heap has reserved and
 *	                                          doesn't use aren't mapped, as far as a program can tell
 *
 * munlock needs nothing, for frames are never locked; nor does mlockall: it locks the pool's linear
 * mapping as well, so frames stay in memory wherever they are mapped.
 *
 * Addresses outside the heap cost a range test. All of them may be called in a signal handler: what is
 * private already takes no lock. The library's own calls never come here (inside.c).
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS /* with it mmap would be another name of mmap64; off_t has 64 bits anyhow */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "port/linux/raw.h"
#include "runtime/heap.h"
#include "runtime/inside.h"
#include "runtime/memory_calls.h"
#include "runtime/untreated.h"

#define EXPORT __attribute__((visibility("default")))

static bool treated(const void *address, size_t bytes, enum berth_treatment treatment)
{
	if (!berth__heap_overlaps(address, bytes) || berth__untreated(treatment))
		return false;
	berth__pusher_await_pages(); /* or its parent would fill what was just emptied */
	return true;
}

static bool make_private(const void *address, size_t bytes)
{
	if (berth__heap_make_private(address, bytes) == 0)
		return true;
	errno = ENOMEM;
	return false;
}

static bool at_page(const void *address)
{
	return (uintptr_t)address % BERTH_PAGE_SIZE == 0;
}

/* To whole pages; 0 for what the kernel refuses as too large. */
static size_t whole_pages(size_t bytes)
{
	return (bytes + BERTH_PAGE_SIZE - 1) & ~(size_t)(BERTH_PAGE_SIZE - 1);
}

/* Some page of it is the heap's, and nobody's. */
static bool has_holes(const char *at, size_t bytes)
{
	enum berth_heap_kind kind;

	for (size_t run; bytes; at += run, bytes -= run) {
		run = berth__heap_run(at, bytes, &kind);
		if (kind == BERTH_HEAP_NONE)
			return true;
	}
	return false;
}

/* A call(address, bytes, third) for the parts that aren't frames. -1 and errno as the kernel has it. */
static int call_but_frames(long number, char *at, size_t bytes, int third)
{
	bool holes = false;

	while (bytes) {
		enum berth_heap_kind kind;
		size_t run = berth__heap_run(at, bytes, &kind);

		holes |= kind == BERTH_HEAP_NONE;
		if (kind != BERTH_HEAP_NONE && kind != BERTH_HEAP_FRAMES &&
		    berth__result(berth_raw3(number, at, run, third)) != 0)
			return -1;
		at += run;
		bytes -= run;
	}
	if (holes)
		errno = ENOMEM;
	return holes ? -1 : 0;
}

/* ---- Protection and locks ---------------------------------------------------------------------------- */

EXPORT int mprotect(void *address, size_t bytes, int protection)
{
	if (treated(address, bytes, BERTH_TREAT_MPROTECT) && at_page(address)) {
		bytes = whole_pages(bytes);
		if (protection == (PROT_READ | PROT_WRITE))
			return call_but_frames(SYS_mprotect, address, bytes, protection);
		if (!make_private(address, bytes))
			return -1;
	}
	return (int)berth__result(berth_raw3(SYS_mprotect, address, bytes, protection));
}

EXPORT int pkey_mprotect(void *address, size_t bytes, int protection, int key)
{
	if (key == -1)
		return mprotect(address, bytes, protection);
	if (treated(address, bytes, BERTH_TREAT_MPROTECT) && !make_private(address, bytes))
		return -1;
	return (int)berth__result(berth_raw4(SYS_pkey_mprotect, address, bytes, protection, key));
}

EXPORT int mlock(const void *address, size_t bytes)
{
	if (treated(address, bytes, BERTH_TREAT_MLOCK) && !make_private(address, bytes))
		return -1;
	return (int)berth__result(berth_raw2(SYS_mlock, address, bytes));
}

EXPORT int mlock2(const void *address, size_t bytes, unsigned flags)
{
	if (treated(address, bytes, BERTH_TREAT_MLOCK) && !make_private(address, bytes))
		return -1;
	return (int)berth__result(berth_raw3(SYS_mlock2, address, bytes, flags));
}

/* ---- Taking away and moving ----------------------------------------------------------------------------- */

/* Puts inaccessible memory over private pages, so that nobody else gets the heap's addresses. */
static int close_off(char *at, size_t bytes)
{
	return berth__result(berth_raw6(SYS_mmap, (long)at, (long)bytes, PROT_NONE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
					0)) == -1 ?
		       -1 :
		       0;
}

EXPORT int munmap(void *address, size_t bytes)
{
	char *at = address;

	if (!treated(address, bytes, BERTH_TREAT_MUNMAP) || !at_page(address))
		return (int)berth__result(berth_raw2(SYS_munmap, address, bytes));
	bytes = whole_pages(bytes);
	if (!make_private(address, bytes))
		return -1;
	while (bytes) {
		enum berth_heap_kind kind;
		size_t run = berth__heap_run(at, bytes, &kind);

		if (kind == BERTH_HEAP_PRIVATE && close_off(at, run) != 0)
			return -1;
		if (kind == BERTH_HEAP_OUTSIDE &&
		    berth__result(berth_raw2(SYS_munmap, at, run)) != 0)
			return -1;
		at += run;
		bytes -= run;
	}
	return 0;
}

/*
 * Moves the pages of [from, from + bytes) to `to`, leaving fresh memory behind; returns how far it got. The
 * kernel moves only what is one mapping, and tells by EFAULT that it is more: then half of it.
 */
static size_t move_pages(char *from, char *to, size_t bytes)
{
	size_t done = 0, piece = bytes;

	while (done < bytes) {
		long result;

		if (piece > bytes - done)
			piece = bytes - done;
		result = berth_raw6(SYS_mremap, (long)(from + done), (long)piece, (long)piece,
				    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
				    (long)(to + done), 0);
		if (result == (long)(to + done)) {
			done += piece;
		} else if (result == -EFAULT && piece > BERTH_PAGE_SIZE) {
			piece = whole_pages(piece / 2);
		} else {
			errno = (int)-result;
			break;
		}
	}
	return done;
}

struct remapping {
	char *old;
	size_t old_bytes, bytes;
	int flags;
	void *wanted; /* with MREMAP_FIXED */
};

/* What mremap(2) says about arguments that can't be. 0: they can. */
static int remapping_error(const struct remapping *r)
{
	bool fixed = r->flags & MREMAP_FIXED, keep = r->flags & MREMAP_DONTUNMAP;
	const char *to = r->wanted;

	if (!at_page(r->old) || !r->bytes || !r->old_bytes ||
	    r->flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) ||
	    ((fixed || keep) && !(r->flags & MREMAP_MAYMOVE)) ||
	    (keep && r->bytes != r->old_bytes) || (fixed && !at_page(to)))
		return EINVAL;
	if (fixed && to < r->old + r->old_bytes && r->old < to + r->bytes)
		return EINVAL;
	if (has_holes(r->old, r->old_bytes))
		return EFAULT;
	return 0;
}

/* Heap memory elsewhere. The old place stays closed off, or fresh with MREMAP_DONTUNMAP. */
static void *remap_heap(const struct remapping *r)
{
	size_t moving = r->bytes < r->old_bytes ? r->bytes : r->old_bytes, moved;
	bool fixed = r->flags & MREMAP_FIXED;
	int saved = errno;
	char *to;

	if (!make_private(r->old, r->old_bytes))
		return MAP_FAILED;
	if (fixed && !make_private(r->wanted, r->bytes))
		return MAP_FAILED;
	to = (char *)berth__result(berth_raw6(
		SYS_mmap, (long)(fixed ? r->wanted : NULL), (long)r->bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | (fixed ? MAP_FIXED : 0), -1, 0));
	if (to == MAP_FAILED)
		return to;
	moved = move_pages(r->old, to, moving);
	if (moved < moving) {
		int error = errno;

		(void)!move_pages(to, r->old, moved);
		if (!fixed)
			(void)berth_raw2(SYS_munmap, to, r->bytes);
		errno = error;
		return MAP_FAILED;
	}
	if (!(r->flags & MREMAP_DONTUNMAP))
		(void)close_off(r->old, r->old_bytes);
	errno = saved;
	return to;
}

EXPORT void *mremap(void *old, size_t old_bytes, size_t bytes, int flags, ...)
{
	struct remapping r = { old, whole_pages(old_bytes), whole_pages(bytes), flags, NULL };
	va_list rest;
	int error;

	va_start(rest, flags);
	if (flags & MREMAP_FIXED)
		r.wanted = va_arg(rest, void *);
	va_end(rest);
	if (!treated(old, old_bytes ? old_bytes : 1, BERTH_TREAT_MREMAP)) {
		if (flags & MREMAP_FIXED && treated(r.wanted, bytes, BERTH_TREAT_MREMAP) &&
		    !make_private(r.wanted, bytes))
			return MAP_FAILED;
		return (void *)berth__result(berth_raw6(SYS_mremap, (long)old, (long)old_bytes,
							(long)bytes, flags, (long)r.wanted, 0));
	}
	error = remapping_error(&r);
	if (error) {
		errno = error;
		return MAP_FAILED;
	}
	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) || r.bytes > r.old_bytes) {
		if (flags & MREMAP_MAYMOVE)
			return remap_heap(&r);
		errno = ENOMEM; /* what is behind it is the heap's, too */
		return MAP_FAILED;
	}
	if (r.bytes < r.old_bytes && munmap(r.old + r.bytes, r.old_bytes - r.bytes) != 0)
		return MAP_FAILED;
	return old;
}

EXPORT void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	if (flags & MAP_FIXED && treated(address, bytes, BERTH_TREAT_MMAP) &&
	    !make_private(address, bytes))
		return MAP_FAILED;
	return (void *)berth__result(
		berth_raw6(SYS_mmap, (long)address, (long)bytes, protection, flags, fd, offset));
}

void *mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
EXPORT void *mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	return mmap(address, bytes, protection, flags, fd, offset);
}

/* ---- Advice ---------------------------------------------------------------------------------------------- */

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

/* Advice that frames need not hear: it is about speed, undoes what only private memory can have, or may
 * be ignored (MADV_FREE). */
static bool may_be_ignored(int advice)
{
	switch (advice) {
	case MADV_NORMAL:
	case MADV_RANDOM:
	case MADV_SEQUENTIAL:
	case MADV_WILLNEED:
	case MADV_FREE:
	case MADV_DOFORK:
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_DODUMP:
	case MADV_KEEPONFORK:
	case MADV_COLD:
	case MADV_PAGEOUT:
	case MADV_POPULATE_READ:
	case MADV_POPULATE_WRITE:
	case MADV_COLLAPSE:
	case MADV_GUARD_REMOVE:
		return true;
	default: /* also what doesn't exist yet: the kernel decides, about private memory */
		return false;
	}
}

static int advise_heap(char *address, size_t bytes, int advice)
{
	if (!at_page(address) || !bytes || advice == MADV_REMOVE) {
		errno = EINVAL; /* a heap has no file that MADV_REMOVE could punch a hole into */
		return -1;
	}
	if (advice == MADV_DONTNEED && berth__heap_overlaps(address, 1)) {
		if (berth__heap_zero(address, bytes))
			return 0;
		errno = ENOMEM;
		return -1;
	}
	if (may_be_ignored(advice))
		return call_but_frames(SYS_madvise, address, bytes, advice);
	if (!make_private(address, bytes))
		return -1;
	return (int)berth__result(berth_raw3(SYS_madvise, address, bytes, advice));
}

EXPORT int madvise(void *address, size_t bytes, int advice)
{
	if (treated(address, bytes, BERTH_TREAT_MADVISE))
		return advise_heap(address, whole_pages(bytes), advice);
	return (int)berth__result(berth_raw3(SYS_madvise, address, bytes, advice));
}

/* ---- Asking ---------------------------------------------------------------------------------------------- */

EXPORT int msync(void *address, size_t bytes, int flags)
{
	static int (*next)(void *, size_t, int);

	if (treated(address, bytes, BERTH_TREAT_MSYNC) && at_page(address) &&
	    has_holes(address, whole_pages(bytes))) {
		errno = ENOMEM;
		return -1;
	}
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "msync"); /* waits, and can be cancelled */
	return next(address, bytes, flags);
}

EXPORT int mincore(void *address, size_t bytes, unsigned char *resident)
{
	if (treated(address, bytes, BERTH_TREAT_MINCORE) && at_page(address) &&
	    has_holes(address, whole_pages(bytes))) {
		errno = ENOMEM;
		return -1;
	}
	return (int)berth__result(berth_raw3(SYS_mincore, address, bytes, resident));
}

/* ---- Giving pages to a pipe ------------------------------------------------------------------------------ */

EXPORT ssize_t vmsplice(int fd, const struct iovec *pieces, size_t nr_pieces, unsigned flags)
{
	static ssize_t (*next)(int, const struct iovec *, size_t, unsigned);

	for (size_t i = 0; pieces && i < nr_pieces && i < 1024; i++)
		if (treated(pieces[i].iov_base, pieces[i].iov_len, BERTH_TREAT_VMSPLICE) &&
		    !make_private(pieces[i].iov_base, pieces[i].iov_len))
			return -1;
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "vmsplice");
	return next(fd, pieces, nr_pieces, flags);
}

/* ---- The same by number ---------------------------------------------------------------------------------- */

bool berth__memory_call(long number, const long a[6], long *result)
{
	void *address = (void *)a[0];
	size_t bytes = (size_t)a[1];

	switch (number) {
	case SYS_mprotect:
		*result = mprotect(address, bytes, (int)a[2]);
		return true;
	case SYS_pkey_mprotect:
		*result = pkey_mprotect(address, bytes, (int)a[2], (int)a[3]);
		return true;
	case SYS_mlock:
		*result = mlock(address, bytes);
		return true;
	case SYS_mlock2:
		*result = mlock2(address, bytes, (unsigned)a[2]);
		return true;
	case SYS_munmap:
		*result = munmap(address, bytes);
		return true;
	case SYS_mremap:
		*result = (long)mremap(address, bytes, (size_t)a[2], (int)a[3], (void *)a[4]);
		return true;
	case SYS_mmap:
		*result = (long)mmap(address, bytes, (int)a[2], (int)a[3], (int)a[4], a[5]);
		return true;
	case SYS_madvise:
		*result = madvise(address, bytes, (int)a[2]);
		return true;
	case SYS_msync:
		*result = msync(address, bytes, (int)a[2]);
		return true;
	case SYS_mincore:
		*result = mincore(address, bytes, (unsigned char *)a[2]);
		return true;
	case SYS_vmsplice:
		*result = vmsplice((int)a[0], (const struct iovec *)a[1], (size_t)a[2],
				   (unsigned)a[3]);
		return true;
	default:
		return false;
	}
}
