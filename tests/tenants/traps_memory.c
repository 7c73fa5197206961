/* SPDX-License-Identifier: MIT */
/*
 * A tenant whose heap is used in ways that are about pages instead of addresses: protected, locked,
 * remapped, advised, given to pipes. See traps.h.
 */
#include "traps.h"

/* ---- Protection and locks --------------------------------------------------------------------------------- */

static void protect_read_only(void)
{
	char *at = in_pool(4 * PAGE);

	memset(at, 0x21, 4 * PAGE);
	must(mprotect(at + PAGE, PAGE, PROT_READ) == 0);
	let_move();
	if (!faults(at + PAGE, true))
		broken("a page that was made read-only can be written");
	must(mprotect(at + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
	check_bytes(at, 4 * PAGE, 0x21, "protected memory");
	at[PAGE] = 1;
	let_move();
	must(at[PAGE] == 1);
}

static void protect_guard(void)
{
	char *at = in_pool(600 * PAGE); /* more than one block of the pool */

	memset(at, 0x22, 600 * PAGE);
	must(syscall(SYS_mprotect, at + 100 * PAGE, 450 * PAGE, PROT_NONE) == 0);
	let_move();
	if (!faults(at + 100 * PAGE, false) || !faults(at + 549 * PAGE, false))
		broken("a guard page can be read");
	must(!faults(at + 99 * PAGE, true) && !faults(at + 550 * PAGE, true));
	must(mprotect(at, 600 * PAGE, PROT_READ | PROT_WRITE) == 0);
	check_bytes(at + 100 * PAGE, 450 * PAGE, 0x22, "guarded memory");
}

static void lock_pages(void)
{
	char *at = in_pool(4 * PAGE);

	memset(at, 0x23, 4 * PAGE);
	if (mlock(at + PAGE, 2 * PAGE) != 0) {
		must(errno == EPERM || errno == ENOMEM); /* the limit */
		return;
	}
	let_move();
	if (!place_of(at + PAGE, "/proc/self/smaps").locked)
		broken("locked memory isn't locked any more");
	check_bytes(at, 4 * PAGE, 0x23, "locked memory");
	must(munlock(at + PAGE, 2 * PAGE) == 0);
	must(!place_of(at + PAGE, "/proc/self/smaps").locked);
}

/* Nothing has to be done for it: what a move maps is locked like what it came from. */
static void lock_all(void)
{
	char *at = in_pool(4 * PAGE);

	memset(at, 0x24, 4 * PAGE);
	if (mlockall(MCL_CURRENT) != 0) {
		must(errno == EPERM || errno == ENOMEM); /* the limit */
		return;
	}
	let_move();
	if (!place_of(at, "/proc/self/smaps").locked)
		broken("locked memory isn't locked any more");
	check_bytes(at, 4 * PAGE, 0x24, "locked memory");
	must(munlockall() == 0);
	let_move();
	must(!place_of(at, "/proc/self/smaps").locked);
}

/* ---- Mappings ----------------------------------------------------------------------------------------------- */

static void remap_larger(void)
{
	enum { PAGES = 600, MORE = 700 };
	char *at = in_pool(PAGES * PAGE), *now;

	memset(at, 0x31, PAGES * PAGE);
	now = mremap(at, PAGES * PAGE, MORE * PAGE, MREMAP_MAYMOVE);
	must(now != MAP_FAILED);
	check_bytes(now, PAGES * PAGE, 0x31, "remapped memory");
	check_bytes(now + PAGES * PAGE, (MORE - PAGES) * PAGE, 0, "what it grew by");
	memset(now, 0x32, MORE * PAGE);
	let_move();
	check_bytes(now, MORE * PAGE, 0x32, "remapped memory, later");
	if (now != at && !faults(at, false))
		broken("memory that was remapped away can still be read");
	must(munmap(now, MORE * PAGE) == 0);
}

static void remap_onto(void)
{
	char *at = in_pool(6 * PAGE), *from;

	memset(at, 0x33, 6 * PAGE);
	from = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(from != MAP_FAILED);
	memset(from, 0x34, 2 * PAGE);
	must(mremap(from, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + 2 * PAGE) ==
	     at + 2 * PAGE);
	let_move();
	check_bytes(at, 2 * PAGE, 0x33, "before");
	check_bytes(at + 2 * PAGE, 2 * PAGE, 0x34, "memory remapped onto the heap");
	check_bytes(at + 4 * PAGE, 2 * PAGE, 0x33, "after");
}

static void map_onto(void)
{
	char *at = in_pool(6 * PAGE), path[] = "/tmp/traps-memory.XXXXXX", byte = 0;
	int fd = mkstemp(path);

	must(fd >= 0);
	unlink(path);
	memset(at, 0x35, 6 * PAGE);
	must(mmap(at + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at + 2 * PAGE);
	check_bytes(at + 2 * PAGE, 2 * PAGE, 0, "fresh memory");
	let_move();
	check_bytes(at + 2 * PAGE, 2 * PAGE, 0, "memory mapped onto the heap");
	must(ftruncate(fd, (off_t)(2 * PAGE)) == 0);
	must(mmap(at + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	     at + 2 * PAGE);
	memset(at + 2 * PAGE, 0x36, 2 * PAGE);
	let_move();
	at[2 * PAGE + 5] = 0x37;
	must(pread(fd, &byte, 1, 5) == 1);
	if (byte != 0x37)
		broken("a file that is mapped over heap memory doesn't see what is written");
	check_bytes(at, 2 * PAGE, 0x35, "before");
	check_bytes(at + 4 * PAGE, 2 * PAGE, 0x35, "after");
	close(fd);
}

static void unmap_middle(void)
{
	char *at = in_pool(6 * PAGE);

	memset(at, 0x38, 6 * PAGE);
	must(munmap(at + 2 * PAGE, 2 * PAGE) == 0);
	let_move();
	if (!faults(at + 2 * PAGE, false) || !faults(at + 4 * PAGE - 1, true))
		broken("memory that was unmapped can be used");
	check_bytes(at, 2 * PAGE, 0x38, "before");
	check_bytes(at + 4 * PAGE, 2 * PAGE, 0x38, "after");
}

/* ---- Advice --------------------------------------------------------------------------------------------------- */

static void advise_dont_need(void)
{
	char *at = in_pool(64 * PAGE);

	memset(at, 0x41, 64 * PAGE);
	must(mprotect(at + 5 * PAGE, PAGE, PROT_NONE) == 0);
	must(madvise(at, 0, MADV_DONTNEED) == 0);
	must(madvise(at + PAGE, 62 * PAGE, MADV_DONTNEED) == 0);
	must(mprotect(at + 5 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
	let_move();
	check_bytes(at, PAGE, 0x41, "before");
	check_bytes(at + PAGE, 62 * PAGE, 0, "memory that wasn't needed");
	check_bytes(at + 63 * PAGE, PAGE, 0x41, "after");
	errno = 0;
	must(madvise(at + 1, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
	must(madvise(at, PAGE, 4711) == -1 && errno == EINVAL);
}

static void advise_remove(void)
{
	char *at = in_pool(4 * PAGE);

	memset(at, 0x42, 4 * PAGE);
	errno = 0;
	if (madvise(at, 2 * PAGE, MADV_REMOVE) != -1 || errno != EINVAL)
		broken("MADV_REMOVE does something to a heap");
	check_bytes(at, 4 * PAGE, 0x42, "memory that can't be removed");
}

static int child_faults(void *arg)
{
	return faults(arg, false);
}

static void advise_wipe_on_fork(void)
{
	char *at = in_pool(4 * PAGE);

	memset(at, 0x43, 4 * PAGE);
	must(madvise(at + PAGE, PAGE, MADV_WIPEONFORK) == 0);
	let_move();
	must(status_of_child(child_sees, at + PAGE) == 0);
	must(status_of_child(child_sees, at + 2 * PAGE) == 0x43);
	check_bytes(at, 4 * PAGE, 0x43, "the parent's memory");
}

static void advise_dont_fork(void)
{
	char *at = in_pool(4 * PAGE);

	memset(at, 0x44, 4 * PAGE);
	must(madvise(at + PAGE, PAGE, MADV_DONTFORK) == 0);
	let_move();
	if (status_of_child(child_faults, at + PAGE) != 1)
		broken("a child has memory that it wasn't to get");
	must(madvise(at + PAGE, PAGE, MADV_DOFORK) == 0);
	must(status_of_child(child_sees, at + PAGE) == 0x44);
}

/* A large heap comes to a child bit by bit: what it has thrown away must not come back. */
enum { LARGE = 100 << 20 };

static int child_throws_away(void *arg)
{
	char *at = arg;

	if (madvise(at + LARGE / 2, LARGE / 4, MADV_DONTNEED) != 0 ||
	    mprotect(at + LARGE / 4, PAGE, PROT_NONE) != 0 ||
	    mremap(at, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED)
		return 1;
	for (int times = 0; times < 2; times++, usleep(50000)) {
		check_bytes(at + LARGE / 2, LARGE / 4, 0, "what a child doesn't need");
		check_bytes(at + LARGE / 4 + PAGE, LARGE / 4 - PAGE, 0x45, "before");
		check_bytes(at + LARGE / 4 * 3, LARGE / 4, 0x45, "after");
		if (!faults(at, false) || !faults(at + LARGE / 4, true))
			return 2;
	}
	return 0;
}

static void advise_in_child(void)
{
	char *at = in_pool(LARGE);

	memset(at, 0x45, LARGE);
	must(status_of_child(child_throws_away, at) == 0);
	check_bytes(at, LARGE, 0x45, "the parent's memory");
}

/* ---- Asking ---------------------------------------------------------------------------------------------------- */

/* Some programs ask whether an address is mapped before they follow a pointer. */
static void ask_msync(void)
{
	char *at = in_pool(4 * PAGE);

	must(msync(at, 4 * PAGE, MS_SYNC) == 0);
	if (msync(at + ((size_t)16 << 30), PAGE, MS_ASYNC) != -1 || errno != ENOMEM)
		broken("msync takes a wild address for memory");
}

static void ask_mincore(void)
{
	unsigned char resident[4];
	char *at = in_pool(4 * PAGE);

	let_move();
	must(mincore(at, 4 * PAGE, resident) == 0);
	for (int i = 0; i < 4; i++)
		must(resident[i] & 1);
	if (mincore(at + ((size_t)16 << 30), PAGE, resident) != -1 || errno != ENOMEM)
		broken("mincore takes a wild address for memory");
}

/* ---- Pages in pipes ---------------------------------------------------------------------------------------- */

static void through_pipe(char *at)
{
	char got[PAGE];
	struct iovec piece = { at, PAGE };
	int ends[2];

	memset(at, 0x51, PAGE);
	must(pipe(ends) == 0);
	must(vmsplice(ends[1], &piece, 1, 0) == (ssize_t)PAGE);
	let_move();
	memset(at, 0x52,
	       PAGE); /* the pipe has the page itself: its reader sees this, wherever it is now */
	must(read(ends[0], got, PAGE) == (ssize_t)PAGE);
	check_bytes(got, PAGE, 0x52, "a page that was given to a pipe");
	close(ends[0]);
	close(ends[1]);
}

static void pipe_heap(void)
{
	through_pipe(in_pool(4 * PAGE));
}

/* What is aligned by the allocator doesn't move, however it is used. */
static void aligned_memory(void)
{
	enum { NR = 7 };
	void *at[NR] = { NULL };
	struct place place;

	must(posix_memalign(&at[0], 512, 3 * PAGE) == 0);
	at[1] = aligned_alloc(4096, 4 * PAGE);
	at[2] = memalign(1024, 5000);
	at[3] = valloc(10000);
	at[4] = pvalloc(1);
	must(posix_memalign(&at[5], 1 << 20, 3 << 20) == 0);
	must(posix_memalign(&at[6], 4096, 0) == 0);
	for (int i = 0; i < NR; i++) {
		must(at[i] && (uintptr_t)at[i] % 512 == 0);
		memset(at[i], i, malloc_usable_size(at[i]));
		place = place_of(at[i], "/proc/self/maps");
		if (place.pool)
			broken("aligned memory %d lies in the pool", i);
	}
	at[0] = realloc(at[0], 5 << 20);
	must(at[0] && malloc_usable_size(at[0]) >= 5 << 20);
	check_bytes(at[0], 3 * PAGE, 0, "grown memory");
	if (place_of(at[0], "/proc/self/maps").pool)
		broken("aligned memory that has grown lies in the pool");
	through_pipe(at[1]);
	must(status_of_child(child_sees, at[5]) == 5);
	for (int i = 0; i < NR; i++)
		free(at[i]);
}

/* ---- The cases ---- */

static const struct trap traps[] = {
	{ "mprotect-read", "mprotect", protect_read_only },
	{ "mprotect-none", "mprotect", protect_guard },
	{ "mlock", "mlock", lock_pages },
	{ "mremap-grow", "mremap", remap_larger },
	{ "mremap-onto", "mremap", remap_onto },
	{ "mmap-onto", "mmap", map_onto },
	{ "munmap", "munmap", unmap_middle },
	{ "dontneed", "madvise", advise_dont_need },
	{ "remove", "madvise", advise_remove },
	{ "wipeonfork", "madvise", advise_wipe_on_fork },
	{ "dontfork", "madvise", advise_dont_fork },
	{ "child-of-large-heap", NULL, advise_in_child },
	{ "msync", "msync", ask_msync },
	{ "mincore", "mincore", ask_mincore },
	{ "vmsplice", "vmsplice", pipe_heap },
	{ "aligned", "aligned,vmsplice", aligned_memory },
	{ "mlockall", NULL, lock_all },
};

int main(int argc, char **argv)
{
	return traps_main(argc, argv, traps, sizeof(traps) / sizeof(traps[0]));
}
