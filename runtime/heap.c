/* SPDX-License-Identifier: MIT */
/*
 * jemalloc's extent hooks over a space of the pool.
 *
 * Addresses are handed out once, upwards, and jemalloc keeps them for good (dalloc is refused).
 * Memory behind them comes and goes by commit and decommit. It is populated by granules of 2 MiB, so
 * that the heap lives in the largest blocks the pool has, and moves in them: the first commit in a
 * granule maps all of it. Decommit gives back whole granules, and inside one the pieces of 64 KiB
 * that nobody uses; what is less stays mapped and is zeroed. When the pool has no frame left, a page
 * gets ordinary memory at the same address; the report counts it as outside.
 *
 * I1  A page that jemalloc believes committed is mapped, to a frame or privately.
 * I2  A mapped page that isn't committed is zero.
 *
 * Complexity: commit and decommit O(pages of the range), one call of the machine for each run.
 */
#define _GNU_SOURCE
#include "runtime/heap.h"

#include <errno.h>
#include <jemalloc/jemalloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "runtime/untreated.h"

#define GRANULE_PAGES (BERTH_HUGE_BYTES >> BERTH_PAGE_SHIFT)
#define PIECE_PAGES 16u

/* Read by jemalloc when it starts. No thread of its own, everything in our arenas, addresses kept. */
const char *malloc_conf = "narenas:8,oversize_threshold:0,retain:true,background_thread:false,"
			  "muzzy_decay_ms:0,metadata_thp:disabled,thp:default";

static struct {
	berth_mutex_t lock;
	struct berth_pool_impl *pool;
	bool private_only;  /* the heap has left the pool */
	uint64_t next_page; /* addresses are handed out from here */
	uint64_t nr_pages;
	uint64_t *committed;            /* bit a page */
	_Atomic uint64_t foreign_bytes; /* mapped by us outside the space */
	char *base_blocks; /* while starting: ordinary memory for jemalloc's own needs */
	size_t base_bytes;
	_Atomic uint32_t
		*ours; /* 1 in the process that the heap is of; the kernel clears it in any child */
} heap;

/*
 * A child that was made without fork handlers (by a bare clone()) shares our memory with its parent, and each would
 * spoil the other's. It is stopped as soon as it asks for memory.
 */
static void stop_strangers(void)
{
	static const char text[] =
		"berth: this process was forked past the C library (by a bare clone() system call) and "
		"shares its heap with its parent: it is stopped before it spoils it\n";

	if (atomic_load_explicit(heap.ours, memory_order_relaxed) ||
	    atomic_load(&berth__fork_hooks.left))
		return;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0) {
		/* nobody to tell */
	}
	abort();
}

/* ---- Addresses ------------------------------------------------------------------------------------------- */

static bool in_space(const void *address)
{
	const char *at = address;

	return heap.pool && at >= heap.pool->mmu.base &&
	       at < heap.pool->mmu.base + heap.pool->mmu.bytes;
}

static uint64_t page_of(const void *address)
{
	return (uint64_t)((const char *)address - heap.pool->mmu.base) >> BERTH_PAGE_SHIFT;
}

/* Takes new addresses; 0 pages left: false. Lock held. */
static bool take_addresses_locked(uint64_t nr_pages, uint64_t align_pages, uint64_t *page)
{
	uint64_t at = (heap.next_page + align_pages - 1) & ~(align_pages - 1);

	if (nr_pages > heap.nr_pages || at > heap.nr_pages - nr_pages)
		return false;
	*page = at;
	heap.next_page = at + nr_pages;
	return true;
}

const struct berth_pool_impl *berth__heap_pool(void)
{
	return heap.pool;
}

bool berth__heap_contains(const void *address)
{
	return in_space(address);
}

bool berth__heap_overlaps(const void *address, size_t bytes)
{
	uintptr_t at = (uintptr_t)address, base;

	if (!heap.pool)
		return false;
	base = (uintptr_t)heap.pool->mmu.base;
	return at < base ? bytes > base - at : bytes && at - base < heap.pool->mmu.bytes;
}

static enum berth_heap_kind kind_of(const void *address)
{
	berth_pfn_t pfn;

	if (!in_space(address))
		return BERTH_HEAP_OUTSIDE;
	pfn = berth_space_lookup(heap.pool->space, page_of(address));
	return pfn == BERTH_PFN_NONE    ? BERTH_HEAP_NONE :
	       pfn == BERTH_PFN_PRIVATE ? BERTH_HEAP_PRIVATE :
					  BERTH_HEAP_FRAMES;
}

size_t berth__heap_run(const void *address, size_t bytes, enum berth_heap_kind *kind)
{
	const char *at = address;
	size_t run;

	*kind = kind_of(at);
	if (*kind == BERTH_HEAP_OUTSIDE) {
		if (!berth__heap_overlaps(at, bytes))
			return bytes;
		return (size_t)(heap.pool->mmu.base - at);
	}
	for (run = BERTH_PAGE_SIZE - (uintptr_t)at % BERTH_PAGE_SIZE; run < bytes;
	     run += BERTH_PAGE_SIZE)
		if (kind_of(at + run) != *kind)
			return run;
	return bytes;
}

/* Pages [page, next), at most up to `end`, that are all private. */
static uint64_t private_run_end(uint64_t page, uint64_t end)
{
	while (page < end && berth_space_lookup(heap.pool->space, page) == BERTH_PFN_PRIVATE)
		page++;
	return page;
}

bool berth__heap_zero(void *address, size_t bytes)
{
	uint64_t page = page_of(address), nr_pages = bytes >> BERTH_PAGE_SHIFT;
	bool all = nr_pages <= heap.nr_pages - page;

	berth_mutex_lock(&heap.lock); /* nothing is decommitted meanwhile */
	for (uint64_t end = all ? page + nr_pages : heap.nr_pages; page < end;) {
		char *at = heap.pool->mmu.base + (page << BERTH_PAGE_SHIFT);
		uint64_t next = private_run_end(page, end);

		if (next > page) { /* the program may have protected or locked it */
			all &= madvise(at, (next - page) << BERTH_PAGE_SHIFT, MADV_DONTNEED) == 0;
			page = next;
			continue;
		}
		if (berth_space_lookup(heap.pool->space, page) == BERTH_PFN_NONE)
			all = false;
		else
			memset(at, 0, BERTH_PAGE_SIZE);
		page++;
	}
	berth_mutex_unlock(&heap.lock);
	return all;
}

/*
 * Whoever makes its own stack private (a coroutine's, on heap memory) can't stand on it meanwhile: its first
 * write there would wait for itself. So it steps onto a stack of ours.
 */
static struct {
	berth_mutex_t lock; /* the rest */
	ucontext_t caller, here;
	uint64_t page, nr_pages;
	int error;
	_Alignas(64) char stack[64 << 10];
} aside;
#define OWN_STACK_BYTES \
	((size_t)64 << BERTH_PAGE_SHIFT) /* written at most, around a caller's frame */

static void make_private_aside(void)
{
	aside.error = berth_space_make_private(heap.pool->space, aside.page, aside.nr_pages);
}

static int make_own_stack_private(uint64_t page, uint64_t nr_pages)
{
	sigset_t all, old;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* no handler may run, or leave, on that stack */
	berth_mutex_lock(&aside.lock);
	aside.page = page;
	aside.nr_pages = nr_pages;
	aside.error = -BERTH_ENOMEM;
	if (getcontext(&aside.here) == 0) {
		aside.here.uc_stack.ss_sp = aside.stack;
		aside.here.uc_stack.ss_size = sizeof(aside.stack);
		aside.here.uc_link = &aside.caller;
		makecontext(&aside.here, make_private_aside, 0);
		(void)swapcontext(&aside.caller, &aside.here);
	}
	error = aside.error;
	berth_mutex_unlock(&aside.lock);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return error;
}

/* The pages are near the caller's frame, so they may be written on the way. */
static bool is_own_stack(uint64_t page, uint64_t end)
{
	const char *here = __builtin_frame_address(0);
	const uint64_t margin = OWN_STACK_BYTES >> BERTH_PAGE_SHIFT;

	return in_space(here) && page <= page_of(here) + margin && end + margin > page_of(here);
}

int berth__heap_make_private(const void *address, size_t bytes)
{
	const char *at = address, *base = heap.pool ? heap.pool->mmu.base : NULL;
	uint64_t page, end;
	int saved = errno, error;

	if (!berth__heap_overlaps(address, bytes))
		return 0;
	if (at < base) {
		bytes -= (size_t)(base - at);
		at = base;
	}
	if (bytes > (size_t)(base + heap.pool->mmu.bytes - at))
		bytes = (size_t)(base + heap.pool->mmu.bytes - at);
	page = page_of(at);
	end = page_of(at + bytes - 1) + 1;
	page = private_run_end(page, end);
	if (page == end)
		return 0;
	error = is_own_stack(page, end) ?
			make_own_stack_private(page, end - page) :
			berth_space_make_private(heap.pool->space, page, end - page);
	errno = saved;
	return error;
}

bool berth__heap_leave(void)
{
	const uint64_t piece = BERTH_HUGE_BYTES;
	uint64_t bytes;
	bool left;

	berth_mutex_lock(&heap.lock); /* nothing is mapped meanwhile */
	bytes = heap.next_page << BERTH_PAGE_SHIFT;
	for (uint64_t at = 0; at < bytes; at += piece)
		(void)!berth__heap_make_private(heap.pool->mmu.base + at,
						bytes - at < piece ? bytes - at : piece);
	left = berth_space_leave(heap.pool->space);
	heap.private_only = true;
	berth_mutex_unlock(&heap.lock);
	return left;
}

/* ---- Committed bits ---------------------------------------------------------------------------------------- */

static void set_committed(uint64_t page, uint64_t end, bool value)
{
	for (; page < end; page++) {
		if (value)
			heap.committed[page / 64] |= 1ull << (page % 64);
		else
			heap.committed[page / 64] &= ~(1ull << (page % 64));
	}
}

static bool any_committed(uint64_t page, uint64_t end)
{
	for (; page < end; page++) {
		if (page % 64 == 0 && end - page >= 64 && !heap.committed[page / 64]) {
			page += 63;
			continue;
		}
		if (heap.committed[page / 64] >> (page % 64) & 1)
			return true;
	}
	return false;
}

/* ---- Commit -------------------------------------------------------------------------------------------------- */

static uint64_t granule_end(uint64_t page, uint64_t end)
{
	uint64_t limit = (page | (GRANULE_PAGES - 1)) + 1;

	return limit < end ? limit : end;
}

/* Maps the unmapped pages of [page, end), gap by gap. Lock held. */
static bool map_gaps_locked(uint64_t page, uint64_t end)
{
	struct berth_space *space = heap.pool->space;

	while (page < end) {
		uint64_t gap_end = page;

		while (gap_end < end && berth_space_lookup(space, gap_end) == BERTH_PFN_NONE)
			gap_end++;
		if (gap_end > page &&
		    berth_space_map(space, page, gap_end - page, BERTH_MAX_ORDER_LIMIT,
				    BERTH_MAP_PRIVATE_OK |
					    (heap.private_only ? BERTH_MAP_PRIVATE_ONLY : 0u)) != 0)
			return false;
		page = gap_end;
		while (page < end && berth_space_lookup(space, page) != BERTH_PFN_NONE)
			page++;
	}
	return true;
}

static bool commit_locked(uint64_t page, uint64_t end)
{
	for (uint64_t at = page; at < end;) {
		uint64_t next = granule_end(at, end);
		uint64_t first = at & ~(uint64_t)(GRANULE_PAGES - 1);
		uint64_t last = first + GRANULE_PAGES;

		if (last <= heap.nr_pages &&
		    berth_space_is_unmapped(heap.pool->space, first, GRANULE_PAGES)) {
			if (!map_gaps_locked(first, last))
				return false;
		} else if (!map_gaps_locked(at, next)) {
			return false;
		}
		at = next;
	}
	set_committed(page, end, true);
	return true;
}

/* ---- Decommit ------------------------------------------------------------------------------------------------ */

/*
 * Zeroes what stays mapped of [page, end): the next user expects fresh memory. Private pages are given
 * back all the same: the last user may have protected or locked them, and the next gets frames again.
 */
static void zero_pages(uint64_t page, uint64_t end)
{
	while (page < end) {
		char *at = heap.pool->mmu.base + (page << BERTH_PAGE_SHIFT);
		uint64_t next = private_run_end(page, end);

		if (next == page) {
			if (berth_space_lookup(heap.pool->space, page) != BERTH_PFN_NONE)
				memset(at, 0, BERTH_PAGE_SIZE);
			next++;
		} else if (berth_space_unmap(heap.pool->space, page, next - page) != 0) {
			memset(at, 0, (next - page) << BERTH_PAGE_SHIFT);
		}
		page = next;
	}
}

/* Gives [page, end) back, or zeroes it when it must stay. Lock held. */
static void unmap_or_zero_locked(uint64_t page, uint64_t end)
{
	if (berth_space_unmap(heap.pool->space, page, end - page) != 0)
		zero_pages(page, end); /* pinned, or no mapping left to split with */
}

/* Inside a granule: pieces that nobody uses go back, a run of them at a time; the rest is zeroed. */
static void decommit_pieces_locked(uint64_t page, uint64_t end)
{
	while (page < end) {
		uint64_t first = page & ~(uint64_t)(PIECE_PAGES - 1), last = first;

		while (last < end && last + PIECE_PAGES <= heap.nr_pages &&
		       !any_committed(last, last + PIECE_PAGES))
			last += PIECE_PAGES;
		if (last > first) {
			unmap_or_zero_locked(first, last);
		} else {
			last = first + PIECE_PAGES;
			zero_pages(page, last < end ? last : end);
		}
		page = last;
	}
}

static void decommit_locked(uint64_t page, uint64_t end)
{
	set_committed(page, end, false);
	while (page < end) {
		uint64_t next = granule_end(page, end);
		uint64_t first = page & ~(uint64_t)(GRANULE_PAGES - 1);
		uint64_t last = first + GRANULE_PAGES;

		if (last <= heap.nr_pages && !any_committed(first, last)) {
			unmap_or_zero_locked(first, last);
			page = next;
			continue;
		}
		decommit_pieces_locked(page, next);
		page = next;
	}
}

/* ---- The hooks: true means failure, as jemalloc has it ---------------------------------------------------------- */

void *berth__map_aligned(size_t size, size_t alignment)
{
	size_t padded = size + alignment;
	char *start, *at;

	if (padded < size)
		return NULL;
	start = mmap(NULL, padded, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED)
		return NULL;
	at = (char *)(((uintptr_t)start + alignment - 1) & ~(alignment - 1));
	if (at > start)
		munmap(start, (size_t)(at - start));
	if (start + padded > at + size)
		munmap(at + size, (size_t)(start + padded - (at + size)));
	return at;
}

/* Memory outside the space, for when its addresses are used up. */
static void *alloc_foreign(size_t size, size_t alignment)
{
	void *at = berth__map_aligned(size, alignment);

	if (at)
		atomic_fetch_add(&heap.foreign_bytes, size);
	return at;
}

/*
 * Each arena begins with a block for its own records, of which little is used: out of the pool it would
 * hold 2 MiB resident for each.
 */
static void *take_base_block(size_t size, size_t alignment)
{
	size_t skip = -(uintptr_t)heap.base_blocks & (alignment - 1);
	char *at = heap.base_blocks + skip;

	if (skip + size < size || skip + size > heap.base_bytes)
		return NULL;
	heap.base_blocks = at + size;
	heap.base_bytes -= skip + size;
	return at;
}

static void *hook_alloc(extent_hooks_t *hooks, void *wanted, size_t size, size_t alignment,
			bool *zero, bool *commit, unsigned arena)
{
	uint64_t align_pages = alignment >> BERTH_PAGE_SHIFT, page;
	bool taken, committed = true;

	(void)hooks;
	(void)arena;
	if (wanted)
		return NULL; /* addresses only ever grow */
	if (heap.base_blocks) {
		void *block = take_base_block(size, alignment);

		*zero = *commit = true;
		if (block)
			return block;
	}
	stop_strangers();
	berth_mutex_lock(&heap.lock);
	taken = take_addresses_locked(size >> BERTH_PAGE_SHIFT, align_pages ? align_pages : 1,
				      &page);
	if (taken && *commit)
		committed = commit_locked(page, page + (size >> BERTH_PAGE_SHIFT));
	berth_mutex_unlock(&heap.lock);
	if (!committed)
		return NULL;
	*zero = true;
	if (!taken) {
		*commit = true;
		return alloc_foreign(size, alignment);
	}
	return heap.pool->mmu.base + (page << BERTH_PAGE_SHIFT);
}

static bool hook_dalloc(extent_hooks_t *hooks, void *address, size_t size, bool committed,
			unsigned arena)
{
	(void)hooks;
	(void)address;
	(void)size;
	(void)committed;
	(void)arena;
	return true; /* jemalloc keeps the addresses and decommits or purges them */
}

static void hook_destroy(extent_hooks_t *hooks, void *address, size_t size, bool committed,
			 unsigned arena)
{
	(void)hooks;
	(void)committed;
	(void)arena;
	if (!in_space(address)) {
		munmap(address, size);
		atomic_fetch_sub(&heap.foreign_bytes, size);
		return;
	}
	berth_mutex_lock(&heap.lock);
	decommit_locked(page_of(address), page_of(address) + (size >> BERTH_PAGE_SHIFT));
	berth_mutex_unlock(&heap.lock);
}

static bool hook_commit(extent_hooks_t *hooks, void *address, size_t size, size_t offset,
			size_t length, unsigned arena)
{
	uint64_t page;
	bool done;

	(void)hooks;
	(void)size;
	(void)arena;
	if (!in_space(address))
		return true;
	page = page_of((char *)address + offset);
	stop_strangers();
	berth_mutex_lock(&heap.lock);
	done = commit_locked(page, page + (length >> BERTH_PAGE_SHIFT));
	berth_mutex_unlock(&heap.lock);
	return !done;
}

static bool hook_decommit(extent_hooks_t *hooks, void *address, size_t size, size_t offset,
			  size_t length, unsigned arena)
{
	uint64_t page;

	(void)hooks;
	(void)size;
	(void)arena;
	if (!in_space(address))
		return true;
	page = page_of((char *)address + offset);
	stop_strangers();
	berth_mutex_lock(&heap.lock);
	decommit_locked(page, page + (length >> BERTH_PAGE_SHIFT));
	berth_mutex_unlock(&heap.lock);
	return false;
}

static bool hook_purge_lazy(extent_hooks_t *hooks, void *address, size_t size, size_t offset,
			    size_t length, unsigned arena)
{
	(void)hooks;
	(void)address;
	(void)size;
	(void)offset;
	(void)length;
	(void)arena;
	return true; /* MADV_FREE does nothing for shared memory */
}

static bool hook_purge_forced(extent_hooks_t *hooks, void *address, size_t size, size_t offset,
			      size_t length, unsigned arena)
{
	char *at = (char *)address + offset;

	(void)hooks;
	(void)size;
	(void)arena;
	if (!in_space(address))
		return madvise(at, length, MADV_DONTNEED) != 0;
	memset(at, 0, length); /* must read as zero; MADV_DONTNEED doesn't do that here */
	return false;
}

static bool hook_split(extent_hooks_t *hooks, void *address, size_t size, size_t size_a,
		       size_t size_b, bool committed, unsigned arena)
{
	(void)hooks;
	(void)address;
	(void)size;
	(void)size_a;
	(void)size_b;
	(void)committed;
	(void)arena;
	return false;
}

static bool hook_merge(extent_hooks_t *hooks, void *a, size_t size_a, void *b, size_t size_b,
		       bool committed, unsigned arena)
{
	(void)hooks;
	(void)size_a;
	(void)size_b;
	(void)committed;
	(void)arena;
	return in_space(a) != in_space(b);
}

static extent_hooks_t heap_hooks = {
	.alloc = hook_alloc,
	.dalloc = hook_dalloc,
	.destroy = hook_destroy,
	.commit = hook_commit,
	.decommit = hook_decommit,
	.purge_lazy = hook_purge_lazy,
	.purge_forced = hook_purge_forced,
	.split = hook_split,
	.merge = hook_merge,
};

/* ---- fork ----------------------------------------------------------------------------------------------------------- */

/*
 * Who forks on a stack of malloc's (a coroutine) must be able to write to it while everybody else is
 * stalled, and in the child while the heap is being copied.
 */
static void free_own_stack(void)
{
	const char *here = __builtin_frame_address(0);

	if (in_space(here) && !berth__untreated(BERTH_TREAT_STACKS))
		(void)!berth__heap_make_private(here - OWN_STACK_BYTES, 2 * OWN_STACK_BYTES);
}

static void fork_prepare(void)
{
	free_own_stack();
	berth_mutex_lock(&aside.lock);
	berth_mutex_lock(&heap.lock);
}

static void fork_parent(void)
{
	berth_mutex_unlock(&heap.lock);
	berth_mutex_unlock(&aside.lock);
}

static void fork_child(void)
{
	atomic_store(heap.ours, 1);
	fork_parent();
}

/* ---- Starting ------------------------------------------------------------------------------------------------------- */

static int use_hooks(void)
{
	extent_hooks_t *ours = &heap_hooks;
	unsigned nr_arenas;
	size_t size = sizeof(nr_arenas);
	int error = 0;

	if (mallctl("opt.narenas", &nr_arenas, &size, NULL, 0) != 0)
		return -BERTH_EINVAL;
	heap.base_bytes = nr_arenas * (size_t)BERTH_HUGE_BYTES;
	heap.base_blocks = berth_reserve_aligned(heap.base_bytes);
	if (heap.base_blocks && mprotect(heap.base_blocks, heap.base_bytes, PROT_READ | PROT_WRITE))
		heap.base_blocks = NULL;
	for (unsigned i = 0; i < nr_arenas && !error; i++) {
		char name[48];

		snprintf(name, sizeof(name), "arena.%u.extent_hooks", i);
		if (mallctl(name, NULL, NULL, &ours, sizeof(ours)) != 0)
			error = -BERTH_EINVAL;
	}
	heap.base_blocks = NULL;
	return error;
}

int berth__heap_init(struct berth_pool_impl *pool)
{
	size_t bitmap_bytes = (pool->regions.nr_pages / 64 + 1) * sizeof(uint64_t);
	void *bitmap = mmap(NULL, bitmap_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	void *ours = mmap(NULL, BERTH_PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int error;

	if (bitmap == MAP_FAILED || ours == MAP_FAILED)
		return -BERTH_ENOMEM;
	(void)madvise(ours, BERTH_PAGE_SIZE, MADV_WIPEONFORK);
	heap.ours = ours;
	atomic_store(heap.ours, 1);
	heap.committed = bitmap;
	heap.nr_pages = pool->regions.nr_pages;
	heap.pool = pool;
	berth__fork_hooks.prepare = fork_prepare;
	berth__fork_hooks.parent = fork_parent;
	berth__fork_hooks.child = fork_child;
	error = use_hooks();
	return error ? error : berth__aligned_init();
}

void berth__heap_stats(struct berth_heap_stats *stats)
{
	struct berth_space_stats space;

	berth_space_stats(heap.pool->space, &space);
	stats->pool_bytes = space.mapped_pages << BERTH_PAGE_SHIFT;
	stats->outside_bytes = (space.private_pages << BERTH_PAGE_SHIFT) +
			       atomic_load(&heap.foreign_bytes) + berth__aligned_bytes();
}
