/* SPDX-License-Identifier: MIT */
/*
 * The pool's memory. Populating touches one page of a huge page and has the kernel collapse it:
 * half the cost of touching all 512, and tenants get huge mappings of it (MADV_COLLAPSE works
 * whatever shmem_enabled says). Where the kernel can't, the pages are touched.
 */
#define _GNU_SOURCE
#include "port/linux/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <berth_compiler.h>

#include "port/linux/fd.h"
#include "port/linux/raw.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static int as_error(int error)
{
	return error == ENOSYS                   ? -BERTH_ENOSYS :
	       error == EPERM || error == EACCES ? -BERTH_EPERM :
	       error == EINVAL                   ? -BERTH_EINVAL :
						   -BERTH_ENOMEM;
}

char *berth_reserve_aligned(size_t bytes)
{
	char *start = mmap(NULL, bytes + BERTH_HUGE_BYTES, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t before;

	if (start == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)start & (BERTH_HUGE_BYTES - 1);
	if (before)
		munmap(start, before);
	munmap(start + before + bytes, BERTH_HUGE_BYTES - before);
	return start + before;
}

/*
 * Growing a file past the limit is a deadly signal, not an error. The limit isn't meant for memory, so
 * the soft one is lifted for the moment; a hard one that is too small is an error.
 */
static int set_size(int fd, size_t bytes)
{
	struct rlimit limit, lifted;
	int result;

	if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur >= bytes)
		return ftruncate(fd, (off_t)bytes);
	errno = EPERM;
	if (limit.rlim_max < bytes)
		return -1;
	lifted = limit;
	lifted.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_FSIZE, &lifted) != 0)
		return -1;
	result = ftruncate(fd, (off_t)bytes);
	(void)setrlimit(RLIMIT_FSIZE, &limit);
	return result;
}

static void remember_file(struct berth_memory *memory)
{
	struct stat file;

	if (fstat(memory->fd, &file) == 0) {
		memory->device = file.st_dev;
		memory->inode = file.st_ino;
	}
}

bool berth_memory_has_fd(const struct berth_memory *memory)
{
	int saved = errno;
	struct stat file;
	bool has = fstat(memory->fd, &file) == 0 && file.st_dev == memory->device &&
		   file.st_ino == memory->inode;

	errno = saved;
	return has;
}

int berth_memory_open(struct berth_memory *memory, size_t bytes)
{
	size_t nr_huge = bytes / BERTH_HUGE_BYTES;
	int error, fd;

	if (!bytes || bytes % BERTH_HUGE_BYTES)
		return -BERTH_EINVAL;
	*memory = (struct berth_memory){ .fd = -1, .bytes = bytes, .huge = true };
	fd = memfd_create("berth-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return as_error(errno);
	fd = berth_fd_move_up(fd);
	memory->fd = fd;
	remember_file(memory);
	memory->linear = berth_reserve_aligned(bytes);
	memory->state = mmap(NULL, nr_huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			     0);
	if (!memory->linear || memory->state == MAP_FAILED || set_size(fd, bytes) != 0 ||
	    berth_raw3(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) !=
		    0 ||
	    mmap(memory->linear, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
		    MAP_FAILED) {
		error = as_error(errno);
		berth_memory_close(memory);
		return error;
	}
	return 0;
}

void berth_memory_close(struct berth_memory *memory)
{
	if (memory->linear)
		munmap(memory->linear, memory->bytes);
	if (memory->state && memory->state != MAP_FAILED)
		munmap((void *)memory->state, memory->bytes / BERTH_HUGE_BYTES);
	if (memory->fd >= 0 && berth_memory_has_fd(memory))
		berth_fd_close(memory->fd);
	else if (memory->fd >= 0)
		berth__fd_release(memory->fd);
	*memory = (struct berth_memory){ .fd = -1 };
}

static int populate_one(struct berth_memory *memory, size_t index)
{
	char *at = memory->linear + index * BERTH_HUGE_BYTES;

	/* A write, by a system call, so that a lack of memory is an error and no signal. */
	if (madvise(at, BERTH_PAGE_SIZE, MADV_POPULATE_WRITE) != 0)
		return errno == EINVAL ? -BERTH_ENOSYS : -BERTH_ENOMEM;
	if (memory->huge) {
		if (madvise(at, BERTH_HUGE_BYTES, MADV_COLLAPSE) == 0)
			return 0;
		if (errno == EINVAL)
			memory->huge = false; /* not this kernel: don't ask again */
	}
	return madvise(at, BERTH_HUGE_BYTES, MADV_POPULATE_WRITE) == 0 ? 0 : -BERTH_ENOMEM;
}

/* From one state to the next, unless somebody else did it. */
static void mark(struct berth_memory *memory, size_t index, uint8_t from, uint8_t to)
{
	atomic_compare_exchange_strong(&memory->state[index], &from, to);
}

/* The first one of index ... last that isn't resident, or last + 1. */
static BERTH_HOT size_t next_absent(const struct berth_memory *memory, size_t index, size_t last)
{
	while (index <= last && atomic_load_explicit(&memory->state[index], memory_order_acquire))
		index++;
	return index;
}

BERTH_HOT int berth_memory_populate(struct berth_memory *memory, size_t offset, size_t bytes)
{
	size_t last = (offset + bytes - 1) / BERTH_HUGE_BYTES;
	size_t index = next_absent(memory, offset / BERTH_HUGE_BYTES, last);
	int saved, error = 0;

	if (index > last) /* the usual case, which touches nothing of the C library's */
		return 0;
	saved = errno;
	for (; index <= last && !error; index = next_absent(memory, index + 1, last)) {
		error = populate_one(memory, index);
		if (!error)
			mark(memory, index, BERTH_MEMORY_ABSENT, BERTH_MEMORY_FRESH);
	}
	errno = saved;
	return error;
}

BERTH_HOT void berth_memory_used(struct berth_memory *memory, size_t offset, size_t bytes)
{
	size_t last = (offset + bytes - 1) / BERTH_HUGE_BYTES;

	for (size_t index = offset / BERTH_HUGE_BYTES; index <= last; index++)
		if (atomic_load_explicit(&memory->state[index], memory_order_relaxed) !=
		    BERTH_MEMORY_USED)
			mark(memory, index, BERTH_MEMORY_FRESH, BERTH_MEMORY_USED);
}

void berth_memory_zero(struct berth_memory *memory, size_t offset, size_t bytes)
{
	while (bytes) {
		size_t index = offset / BERTH_HUGE_BYTES;
		size_t part = BERTH_HUGE_BYTES - offset % BERTH_HUGE_BYTES;
		uint8_t fresh = BERTH_MEMORY_FRESH;

		if (part > bytes)
			part = bytes;
		/* Whoever had a part of a fresh page before would have marked it. */
		if (!atomic_compare_exchange_strong(&memory->state[index], &fresh,
						    BERTH_MEMORY_USED))
			memset(memory->linear + offset, 0, part);
		offset += part;
		bytes -= part;
	}
}
