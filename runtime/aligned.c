/* SPDX-License-Identifier: MIT */
/*
 * Memory that a program asks for with a large alignment: it stays out of the pool.
 *
 * Who wants an alignment of a disk's block or more mostly wants a buffer for direct I/O, a ring that a
 * device reads, or pages to protect. All that is done to pages, not to addresses, and a move would
 * break it without a word. So such allocations come from an arena of their own, whose memory is
 * ordinary private memory: fork, protection and direct transfers are the kernel's business there. The
 * report counts it as outside.
 *
 * I1  A pointer with an alignment that was asked for to be LARGE_ALIGNMENT or more is never in the
 *     space, nor is what realloc() makes of it.
 *
 * jemalloc's free() may keep a small one in the thread's cache and give it to the next malloc() of that
 * size: then a little less of the heap lives in the pool, and nothing else happens. Costs: an
 * aligned allocation takes the arena's lock for its size; free is as fast as any.
 *
 * The functions here wrap jemalloc's, which are linked under the names berth__je_...; realloc()
 * is also wrapped because jemalloc's doesn't set errno for impossible sizes, and pvalloc() is made
 * here because jemalloc has none.
 */
#define _GNU_SOURCE
#include "runtime/heap.h"

#include <errno.h>
#include <jemalloc/jemalloc.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>

#include "runtime/untreated.h"

#define EXPORT __attribute__((visibility("default")))
#define LARGE_ALIGNMENT 512u

int berth__je_posix_memalign(void **memory, size_t alignment, size_t size);
void *berth__je_aligned_alloc(size_t alignment, size_t size);
void *berth__je_memalign(size_t alignment, size_t size);
void *berth__je_realloc(void *old, size_t size);

static struct {
	_Atomic uint32_t arena_plus_1; /* 0: there is none */
	size_t lookup_mib[2];          /* of "arenas.lookup" */
	_Atomic uint64_t bytes;        /* committed */
} aligned;

/* ---- The arena's hooks: true means failure, as jemalloc has it ------------------------------------------ */

static void *hook_alloc(extent_hooks_t *hooks, void *wanted, size_t size, size_t alignment,
			bool *zero, bool *commit, unsigned arena)
{
	void *at;

	(void)hooks;
	(void)arena;
	if (wanted)
		return NULL;
	at = berth__map_aligned(size, alignment);
	if (!at)
		return NULL;
	*zero = true;
	if (*commit)
		atomic_fetch_add(&aligned.bytes, size);
	return at;
}

static bool hook_dalloc(extent_hooks_t *hooks, void *address, size_t size, bool committed,
			unsigned arena)
{
	(void)hooks;
	(void)address;
	(void)size;
	(void)committed;
	(void)arena;
	return true; /* jemalloc keeps the addresses and decommits */
}

static void hook_destroy(extent_hooks_t *hooks, void *address, size_t size, bool committed,
			 unsigned arena)
{
	(void)hooks;
	(void)arena;
	munmap(address, size);
	if (committed)
		atomic_fetch_sub(&aligned.bytes, size);
}

static bool hook_commit(extent_hooks_t *hooks, void *address, size_t size, size_t offset,
			size_t length, unsigned arena)
{
	(void)hooks;
	(void)address;
	(void)size;
	(void)offset;
	(void)arena;
	atomic_fetch_add(&aligned.bytes, length);
	return false; /* it is accessible all the time */
}

/* Mapped anew: the last user may have protected or locked it, or replaced it by something else. */
static bool hook_decommit(extent_hooks_t *hooks, void *address, size_t size, size_t offset,
			  size_t length, unsigned arena)
{
	(void)hooks;
	(void)size;
	(void)arena;
	if (mmap((char *)address + offset, length, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		return true; /* then it is purged */
	atomic_fetch_sub(&aligned.bytes, length);
	return false;
}

static bool hook_purge_forced(extent_hooks_t *hooks, void *address, size_t size, size_t offset,
			      size_t length, unsigned arena)
{
	(void)hooks;
	(void)size;
	(void)arena;
	return madvise((char *)address + offset, length, MADV_DONTNEED) != 0;
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
	(void)a;
	(void)size_a;
	(void)b;
	(void)size_b;
	(void)committed;
	(void)arena;
	return false;
}

static extent_hooks_t aligned_hooks = {
	.alloc = hook_alloc,
	.dalloc = hook_dalloc,
	.destroy = hook_destroy,
	.commit = hook_commit,
	.decommit = hook_decommit,
	.purge_forced = hook_purge_forced,
	.split = hook_split,
	.merge = hook_merge,
};

int berth__aligned_init(void)
{
	extent_hooks_t *hooks = &aligned_hooks;
	size_t nr_mib = 2, size = sizeof(unsigned);
	unsigned arena;

	if (berth__untreated(BERTH_TREAT_ALIGNED))
		return 0;
	if (mallctlnametomib("arenas.lookup", aligned.lookup_mib, &nr_mib) != 0 ||
	    mallctl("arenas.create", &arena, &size, &hooks, sizeof(hooks)) != 0)
		return -BERTH_EINVAL;
	atomic_store(&aligned.arena_plus_1, arena + 1);
	return 0;
}

uint64_t berth__aligned_bytes(void)
{
	return atomic_load(&aligned.bytes);
}

/* ---- The functions --------------------------------------------------------------------------------------- */

static int arena_flags(uint32_t arena_plus_1)
{
	return MALLOCX_ARENA(arena_plus_1 - 1) | MALLOCX_TCACHE_NONE;
}

/* True when it's for us to allocate: then *memory is it, or NULL if there is none. */
static bool allocate(size_t alignment, size_t size, void **memory)
{
	uint32_t arena = atomic_load_explicit(&aligned.arena_plus_1, memory_order_relaxed);

	if (!arena || alignment < LARGE_ALIGNMENT || (alignment & (alignment - 1)))
		return false;
	*memory = mallocx(size ? size : 1, MALLOCX_ALIGN(alignment) | arena_flags(arena));
	return true;
}

EXPORT int posix_memalign(void **memory, size_t alignment, size_t size)
{
	int saved = errno;
	void *at;

	if (!allocate(alignment, size, &at))
		return berth__je_posix_memalign(memory, alignment, size);
	errno = saved;
	if (!at)
		return ENOMEM;
	*memory = at;
	return 0;
}

static void *or_enomem(void *at)
{
	if (!at)
		errno = ENOMEM;
	return at;
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
	void *at;

	return allocate(alignment, size, &at) ? or_enomem(at) :
						berth__je_aligned_alloc(alignment, size);
}

EXPORT void *memalign(size_t alignment, size_t size)
{
	void *at;

	return allocate(alignment, size, &at) ? or_enomem(at) : berth__je_memalign(alignment, size);
}

EXPORT void *valloc(size_t size)
{
	return memalign(BERTH_PAGE_SIZE, size);
}

EXPORT void *pvalloc(size_t size)
{
	const size_t page = BERTH_PAGE_SIZE;

	if (size > SIZE_MAX - page)
		return or_enomem(NULL);
	return memalign(page, size ? (size + page - 1) / page * page : page);
}

/* What was aligned stays outside, wherever it moves to. */
static void *realloc_aligned(void *old, size_t size, bool *ours)
{
	uint32_t arena_plus_1 = atomic_load_explicit(&aligned.arena_plus_1, memory_order_relaxed);
	size_t length = sizeof(unsigned);
	unsigned arena;

	*ours = arena_plus_1 && size && !berth__heap_contains(old) &&
		mallctlbymib(aligned.lookup_mib, 2, &arena, &length, &old, sizeof(old)) == 0 &&
		arena == arena_plus_1 - 1;
	return *ours ? rallocx(old, size, arena_flags(arena_plus_1)) : NULL;
}

EXPORT void *realloc(void *old, size_t size)
{
	bool ours = false;
	void *now = old ? realloc_aligned(old, size, &ours) : NULL;

	if (!ours)
		now = berth__je_realloc(old, size);
	if (!now && size)
		errno = ENOMEM;
	return now;
}
