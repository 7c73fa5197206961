/* SPDX-License-Identifier: MIT */
/*
 * The runtime's private header: the pool behind a handle, and what the runtime's files share.
 *
 * Lock order: fork_lock, then a pool's regions.lock, then the heap's lock, then the core's and vm's
 * (a preparation's, a space's, a zone's).
 */
#ifndef BERTH_RUNTIME_INTERNAL_H
#define BERTH_RUNTIME_INTERNAL_H

#include <pthread.h>

#include <berth/stats.h>
#include <berth/berth.h>
#include <berth/vm.h>
#include <berth_compiler.h>
#include <berth_port.h>

#include "port/linux/mmu.h"
#include "port/linux/fd.h"
#include "port/linux/pool.h"

#define BERTH_MAX_POOL_AREAS 16u
#define BERTH_MAX_REGIONS 4096u
#define BERTH_NAME_BYTES 32u
#define BERTH_POISON_BYTE 0xdb

/* ---- A counter that many threads change ----------------------------------------------------------- */

/* Each in a line of its own; the sum counts. */
#define BERTH_SPREAD 4u
struct berth__spread {
	struct {
		_Alignas(64) _Atomic uint64_t nr;
	} of[BERTH_SPREAD];
};

static inline void berth__spread_add(struct berth__spread *counter, uint64_t nr)
{
	atomic_fetch_add(&counter->of[berth_cpu() % BERTH_SPREAD].nr, nr);
}

static inline uint64_t berth__spread_sum(const struct berth__spread *counter)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < BERTH_SPREAD; i++)
		sum += atomic_load(&counter->of[i].nr);
	return sum;
}

/* ---- Regions: addresses that berth_map() gave out (regions.c) ------------------------------------- */

struct berth_region {
	uint64_t page, nr_pages;
	unsigned max_order, map_flags; /* how it was mapped, for growing it likewise */
};

/* Sorted by page, without overlaps. */
struct berth_regions {
	berth_mutex_t lock;
	uint32_t nr;
	uint64_t nr_pages; /* of the space */
	struct berth_region sorted[BERTH_MAX_REGIONS];
};

/* First fit for region->nr_pages, at a multiple of align_pages; fills in region->page. -ENOMEM. Lock
 * held. */
int berth__region_add_locked(struct berth_regions *regions, uint64_t align_pages,
			     struct berth_region *region);
/* -EINVAL: not exactly a region. -ENOMEM: the next region is in the way. Lock held. */
int berth__region_grow_locked(struct berth_regions *regions, uint64_t page, uint64_t old_pages,
			      uint64_t new_pages);
int berth__region_remove_locked(struct berth_regions *regions, uint64_t page, uint64_t nr_pages);
/* Exactly this region, or NULL. Lock held. */
const struct berth_region *berth__region_find_locked(const struct berth_regions *regions,
						     uint64_t page, uint64_t nr_pages);

/* ---- The pool (pool.c) ------------------------------------------------------------------------------ */

static inline uint64_t berth__pages_of(uint64_t bytes)
{
	return bytes >> BERTH_PAGE_SHIFT;
}

/* Zeroed memory, to be unmapped with this size; or NULL. */
void *berth__map_anonymous(size_t bytes);

struct berth_pool_area {
	struct berth_contig_area *area;
	const char *name; /* the area's */
	uint64_t bytes;
	void *memory; /* its metadata */
	size_t memory_bytes;
	/* Its store, if somebody asked for one; under stores.c's lock. */
	struct berth_store *store;
	void *store_memory;
	size_t store_bytes;
};

struct berth_pool_impl {
	/* What claims and releases use is in one page: they come rarely, and find nothing of theirs in the processor's
	 * caches, nor in its table of translations. */
	struct berth_memory memory;
	struct berth_port_ops port; /* the port's, with this pool's poison */
	struct berth_contig *contig;
	_Atomic unsigned nr_areas; /* those below don't change */
	struct berth_pool_area areas[BERTH_MAX_POOL_AREAS];
	struct berth__spread claims_held;

	struct berth_mmu mmu;
	struct berth_zone *zone;
	struct berth_space *space;
	void *metadata;
	size_t metadata_bytes;
	void *contig_memory;
	size_t contig_bytes;
	struct berth_config config; /* each area with its place; under areas.c's lock */
	struct berth_regions regions;
	_Atomic uint64_t age_at_ns;  /* when lists of threads are to be aged next; pool.c */
	struct berth_leases *leases; /* NULL: it has none */
	void *leases_memory;
	size_t leases_bytes;
};

/* For berth__pool_open(), besides the public flags: areas become resident as they are used. So a process can
 * have a pool that it hardly uses. */
#define BERTH_POOL_SPARSE (1u << 16)

/* Opens as berth_pool_open() does; space_bytes: addresses for movable memory, 0 picks. */
int berth__pool_open(const struct berth_pool_params *params, size_t space_bytes,
		     struct berth_pool_impl **pool);
void berth__pool_close(struct berth_pool_impl *pool);
/* In a forked child, after the copying: gives up what is the parent's. Nothing but the space, with its
 * addresses and what is mapped there, is left. */
void berth__pool_leave(struct berth_pool_impl *pool);
/*
 * After that: a new pool for the same space; `params` as for the first. Errors as berth_pool_open(); then it is as
 * before, and can be tried again. The caller has the lock that keeps forks away (berth__fork_block()).
 */
int berth__pool_revive(struct berth_pool_impl *pool, const struct berth_pool_params *params);
struct berth_pool_area *berth__pool_area(struct berth_pool_impl *pool, const char *name);
/* `device`: not NULL: the area is that of the device, and `area` is ignored. */
int berth__pool_claim(struct berth_pool_impl *pool, const char *area, const char *device,
		      size_t bytes, const struct berth_claim_options *options,
		      struct berth_buffer *buffer, struct berth_claim_report *report);
int berth__pool_release(struct berth_pool_impl *pool, const struct berth_buffer *buffer);
/* The pool of our own behind a handle, until berth__leave(), or NULL: then berth__refusal() is what the
 * caller is told. */
struct berth_pool_impl *berth__enter(struct berth_pool *handle);
void berth__leave(struct berth_pool *handle);
int berth__refusal(struct berth_pool *handle);
void berth__pool_stats(struct berth_pool_impl *pool, struct berth_pool_stats *stats);
/* How long claims took that succeeded, since the pool was opened. */
void berth__pool_claim_times(struct berth_pool_impl *pool, struct berth_histogram *claims);
/*
 * Ages the page lists of threads that are idle, if nobody has done so for a second; else costs a look at the
 * clock. For those who come by anyway: the control thread, and claims that had to empty lists. Any thread; no
 * lock of ours is held. May wait for a thread inside its list.
 */
void berth__pool_age(struct berth_pool_impl *pool);
int64_t berth__pool_shuffle(struct berth_pool_impl *pool, uint64_t *cursor);

/* ---- A pool's areas (areas.c) --------------------------------------------------------------------- */

/* What the caller wants, placed; *bytes: of the pool. -EINVAL. */
int berth__areas_plan(const struct berth_pool_params *params, struct berth_config *config,
		      size_t *bytes);
/* Bytes of all areas. */
size_t berth__areas_bytes(const struct berth_config *config);
/* Declares the areas of the plan in a pool that has none. */
int berth__areas_open(struct berth_pool_impl *pool, const struct berth_config *plan, bool resident);
void berth__areas_close(struct berth_pool_impl *pool);
int berth__pool_configure(struct berth_pool_impl *pool, const char *text);
/* The device's area, or NULL. */
struct berth_pool_area *berth__pool_area_of(struct berth_pool_impl *pool, const char *device);
/* Costs O(1) for all but policy=reserve. */
void berth__area_stats_brief(const struct berth_pool_area *area, struct berth_cma_stats *stats);
/* Calls `each` with every claim that is held. */
void berth__pool_each_held(struct berth_pool_impl *pool,
			   void (*each)(void *ctx, const struct berth_held *held), void *ctx);

/* ---- Stores in a pool's areas (stores.c) --------------------------------------------------------------- */

/* As berth_pool_store(). */
int berth__pool_store(struct berth_pool_impl *pool, const char *name, struct berth_store **store);
void berth__stores_close(struct berth_pool_impl *pool);
/* In a forked child: the stores stay where they are, empty, for whoever still has them. */
void berth__stores_leave(struct berth_pool_impl *pool);
bool berth__stores_check(struct berth_pool_impl *pool, struct berth_violation *violation);

/* ---- Leases (leases.c) ------------------------------------------------------------------------------------- */

/* In a pool whose zone has LRU lists; lease_bytes: what may be locked, 0: there are none. -ENOMEM. */
int berth__leases_open(struct berth_pool_impl *pool, size_t lease_bytes);
void berth__leases_close(struct berth_pool_impl *pool);
/* Drops leases that aren't locked, for about nr_pages. False: there are none. No lock of an owner's is held. */
bool berth__leases_make_room(struct berth_pool_impl *pool, uint64_t nr_pages);
bool berth__leases_check(struct berth_pool_impl *pool, struct berth_violation *violation);

/* ---- Another process's pool (attach.c); errors as the public functions' -------------------------- */

struct berth_attached;

int berth__attached_open(long pid, struct berth_attached **out);
/* No claims are held. */
bool berth__attached_is_idle(struct berth_attached *attached);
void berth__attached_close(struct berth_attached *attached);
/* `device` as with berth__pool_claim(). */
int berth__attached_claim(struct berth_attached *attached, const char *area, const char *device,
			  size_t bytes, const struct berth_claim_options *options,
			  struct berth_buffer *buffer, struct berth_claim_report *report);
int berth__attached_release(struct berth_attached *attached, const struct berth_buffer *buffer);
int berth__attached_claim_fd(struct berth_attached *attached, const struct berth_buffer *buffer);
int berth__attached_stats(struct berth_attached *attached, struct berth_pool_stats *stats);
int berth__attached_area_stats(struct berth_attached *attached, const char *area,
			       struct berth_cma_stats *stats);

/* ---- fork (fork.c) ------------------------------------------------------------------------------------ */

/* How often this process has forked to get here; a handle from an earlier generation is stale. */
extern _Atomic uint32_t berth__fork_generation;
/* Registers the process' fork handlers, once; before anybody else registers theirs if possible. */
void berth__fork_register(void);
/* Pools whose spaces a fork must copy. -ENOSPC: too many. */
int berth__fork_add(struct berth_pool_impl *pool);
void berth__fork_remove(struct berth_pool_impl *pool);
/* Starts a thread of ours: it blocks all signals, and a fork doesn't count it as a writer. -ENOMEM. */
int berth__start_thread(void *(*body)(void *), void *arg, pthread_t *thread);

/* ---- Forks of large pools (pusher.c) ------------------------------------------------------------------- */

/* Pools with more mapped than this are pushed to a child, if the thread is there; others are copied by it. */
extern size_t berth__fork_push_bytes;
/* Starts the thread, once. -ENOMEM. Not from a fork handler, nor with a lock that malloc needs. */
int berth__pusher_start(void);
/* Likewise, if a fork now would want it. */
void berth__pusher_ready(const struct berth_pool_impl *pool);
/* Ends the thread, when nobody waits for it. No fork may be under way. */
void berth__pusher_stop(void);
/* Waits until no child of ours, nor we ourselves, wait for pages: before a fork, and before a pool goes. */
void berth__pusher_settle(void);
/* Only waits for our children: before a fork takes locks that others want. */
void berth__pusher_wait(void);
/* In a forked child: waits until all its pages are there. Costs a load when they are. */
void berth__pusher_await_pages(void);
/* The same, but gives up when nothing goes on: who calls may hold what the thread needs. Does nothing in a child
 * of vfork(). */
void berth__pusher_settle_before_end(void);
/* Before a fork: is this pool to be pushed? */
bool berth__pusher_wants(const struct berth_pool_impl *pool);
/* In the child: false, and it has to copy. Then berth__line_send() with pool->mmu.child_uffd. */
bool berth__pusher_receive(struct berth_pool_impl *pool, int line);
/* In the child: thread and jobs are the parent's. */
void berth__pusher_forget(void);
/* In the parent: the space goes on, and the child is filled. */
void berth__pusher_hand_over(struct berth_pool_impl *pool, int child_uffd, int line,
			     int childs_end);
/* The message of a fork's child to its parent: with its userfaultfd, or -1, it needs nothing. */
bool berth__line_send(int line, int child_uffd);
/* The child's userfaultfd and its end of the line; false: it needs nothing, or is gone. */
bool berth__line_receive(int line, int *child_uffd, int *childs_end);

/* ---- For both ------------------------------------------------------------------------------------------ */

/* Around a system call that forks without running fork handlers; `pid`: what it returned. */
void berth__fork_begin(void);
void berth__fork_end(long pid);
/* Keeps forks away for a moment, as long as nothing that a forking thread may hold is waited for: it holds the
 * locks of the allocator, so no malloc, and no thread is started (see berth__control_start()). */
void berth__fork_block(void);
void berth__fork_unblock(void);
/* The heap's part, when there is one: called around the spaces' own. */
struct berth_fork_hooks {
	void (*prepare)(void);
	void (*parent)(void);
	void (*child)(void);
	_Atomic unsigned own_threads; /* threads of ours that never write to movable memory */
	_Atomic bool left; /* the process has no pool any more: a fork is nothing special */
};
extern struct berth_fork_hooks berth__fork_hooks;

#endif
