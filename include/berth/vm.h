/* SPDX-License-Identifier: MIT */
/*
 * Address spaces over frames: movable memory that is mapped somewhere, and can move beneath its
 * address. Freestanding; the machine's mapping is behind struct berth_mmu_ops.
 *
 * A space is a range of virtual pages with a flat table: one word a page that says which frame is
 * there. It registers as an owner with the core; a frame's cookie is its page number in the space:
 * that is the rmap.
 *
 * Thread safety: every function may be called by any thread, except init. A space has one lock,
 * which a move holds for one batch. None may be called from memory that the space itself maps, nor
 * from a signal handler.
 */
#ifndef BERTH_VM_H
#define BERTH_VM_H

#include <berth/core.h>

#ifdef __cplusplus
extern "C" {
#endif

struct berth_space;

/*
 * What a space asks of the machine. Pages are the space's own numbers; frames are pfns. All return 0
 * or a negative error and must leave the old mapping intact on error.
 *
 * Between protect() and the matching remap() or unprotect() threads may be stalled in the middle of
 * anything, malloc and stdio included: the operations in between take no lock that such a thread can
 * hold and touch no movable memory. begin() and end() bracket that time on the moving thread.
 */
struct berth_mmu_ops {
	/* Maps nr pages to the frames from pfn on, replacing what was there at once, populated. */
	int (*map)(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages);
	/* Maps nr pages to fresh zeroed memory outside the zone. */
	int (*map_private)(void *mmu, uint64_t page, uint64_t nr_pages);
	/* Replaces nr pages that are mapped to the frames from pfn on by fresh memory outside the zone
	 * with the same contents. Readers go on, writers wait for the time it takes. Not called between
	 * begin() and end(). */
	int (*make_private)(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages);
	/* Makes nr pages inaccessible, keeping the addresses reserved. */
	int (*unmap)(void *mmu, uint64_t page, uint64_t nr_pages);
	/* Readers go on, writers wait. The pages are mapped to frames. */
	int (*protect)(void *mmu, uint64_t page, uint64_t nr_pages);
	/* As protect(), but readers wait, too: less work where the pages are mapped in many pieces. NULL, or an error:
	 * they can be protected instead. */
	int (*stop)(void *mmu, uint64_t page, uint64_t nr_pages);
	/*
	 * The other way, for large runs: who writes goes on until the last moment. All NULL: there is none.
	 * watch(): from now on it is noted which of the pages are written; outside begin() and end().
	 * look(): for all pages that are watched: which have been written since, in bits as below. From now on they are
	 * noted anew. Returns how many.
	 * halt(): after watch(), for all of its pages or a part at a time, in ascending order: nobody touches these
	 * any more, readers wait too, and each that may have been written has its bit set in `written` (bit i of the
	 * words: page + i). Then remap() or unprotect(), as after protect(). An error of watch() has changed nothing;
	 * after one of halt(), unprotect() follows for all pages that aren't remapped.
	 */
	int (*watch)(void *mmu, uint64_t page, uint64_t nr_pages);
	uint64_t (*look)(void *mmu, uint64_t page, uint64_t nr_pages, uint64_t *written);
	int (*halt)(void *mmu, uint64_t page, uint64_t nr_pages, uint64_t *written);
	/* Undoes protect(), stop(), watch() and halt(), and wakes who waits. Can't fail: a writer would sleep for
	 * ever. */
	void (*unprotect)(void *mmu, uint64_t page, uint64_t nr_pages);
	/* map() for protected, stopped or halted pages, but not populated, then wakes who waits for them. */
	int (*remap)(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages);
	/*
	 * Others wait for this thread's moves: until keep_awake(off), CPUs that have nothing to do are to wait for work
	 * awake, so that waking threads there, and changes of mappings that interrupt them, are quick. Outside begin() and
	 * end(), in turn on and off. May be NULL.
	 */
	void (*keep_awake)(void *mmu, bool on);
	/* After remap(), outside begin() and end(): makes pages ready, so that the first touch of each needn't. May be NULL. */
	void (*populate)(void *mmu, uint64_t page, uint64_t nr_pages);
	/* True when a writer began to wait since the last call. Never blocks. Not called while a child's pages are
	 * pending: the pusher hears of waiting writers in the same way, and each is heard of once. */
	bool (*writer_waits)(void *mmu);
	/* Makes frames ready to be written without delay (resident); called before protect(). -ENOMEM:
	 * the machine has no memory behind them. */
	int (*prepare)(void *mmu, berth_pfn_t pfn, uint64_t nr_pages);
	/* Copies frames / zeroes frames, through a mapping that never moves. */
	void (*copy)(void *mmu, berth_pfn_t dst, berth_pfn_t src, uint64_t nr_pages);
	/* The same for frames that needn't follow each other, src[i] to dst[i]: the machine may copy some at a time. May be
	 * NULL. */
	void (*copy_scattered)(void *mmu, const berth_pfn_t *dst, const berth_pfn_t *src,
			       unsigned nr);
	void (*zero)(void *mmu, berth_pfn_t pfn, uint64_t nr_pages);
	/* For a fork's child: private memory at `page` with the contents of the frames. */
	int (*copy_private)(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages);
	/*
	 * For a fork that copies later; NULL where the machine can't. receive(): in the child, private
	 * memory at `page` whose contents the parent will push; whoever touches it before waits.
	 * push(): in the parent, the contents of frames go to the child's pages; pages that the child has
	 * replaced meanwhile are skipped. -ENOENT: the child is gone; -ENOMEM: it has no memory.
	 * open(): undoes a part of protect(), as unprotect() does, but it stays ready to be protected.
	 */
	int (*receive)(void *mmu, uint64_t page, uint64_t nr_pages);
	int (*push)(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages);
	void (*open)(void *mmu, uint64_t page, uint64_t nr_pages);
	/* In a fork's child, where what the parent has protected is private by now, and when the space leaves
	 * its zone: forgets it. */
	void (*forget_protection)(void *mmu);
	/* Brackets protected time: blocks signals, if the machine has them. */
	void (*begin)(void *mmu);
	void (*end)(void *mmu);
};

struct berth_space_params {
	const char *name; /* the owner's name in reports; lives as long as the space */
	struct berth_zone *zone;
	uint64_t nr_pages;    /* size of the space, 1 .. 2^32 - 2 */
	uint64_t page_offset; /* number of the first page for alignment: VA / page size modulo 2^20 */
	const struct berth_mmu_ops *mmu;
	void *mmu_ctx;
	const struct berth_port_ops *port; /* its clock and panic are used */
	void *port_ctx;
	uint32_t *table;         /* nr_pages words of zero, outside movable memory */
	uint64_t *pending;       /* a bit for each page, zero; for pushing forks; NULL: none */
	uint32_t mapping_budget; /* separate mappings (VMAs) the space may cause; 0: no limit */
};

size_t berth_space_size(void);
/* Builds a space in `memory` (berth_space_size() bytes, aligned to 64). -EINVAL; -ENOSPC: the zone
 * has no owner slot left. */
int berth_space_init(struct berth_space **space, const struct berth_space_params *params,
		     void *memory) BERTH_MUST_CHECK;

/*
 * The gate: asked before anything is moved, once for each hold of the space's lock,
 * under that lock. It answers NULL, or the name of who may use frames behind the space's back (a
 * device, a transfer): then memory stays where it is, and a claim's report names that holder. The
 * text must stay readable. Making pages private isn't asked for: that acts on what the caller names,
 * as mprotect() does. Set before the space is used; NULL takes it away.
 */
void berth_space_set_gate(struct berth_space *space, const char *(*may_move)(void *ctx), void *ctx);
/*
 * Waits until no move is under way that asked the gate before this call. For whoever has just found a
 * reason to shut the gate. Takes no lock; about as long as moving 2 MiB takes.
 */
void berth_space_wait_for_moves(struct berth_space *space);

/* The table that was given, for the caller to free in the end. */
uint32_t *berth_space_table(const struct berth_space *space);

enum berth_map_flags {
	BERTH_MAP_PRIVATE_OK = 1u << 0,   /* pages that find no frame are mapped outside the zone */
	BERTH_MAP_NO_CMA = 1u << 1,       /* not from CMA areas */
	BERTH_MAP_PRIVATE_ONLY = 1u << 2, /* with PRIVATE_OK: all of them outside the zone */
};

/*
 * Maps [page, page + nr_pages) to zeroed frames, in blocks as large as there are and as the
 * alignment of `page` allows, at most 2^max_order.
 * 0; -EINVAL: outside the space; -EEXIST: some page is mapped; -ENOMEM: no frames, no mapping left in
 * the budget, or the machine refused. Unchanged on error, unless the machine refuses to undo it, too: what is mapped by
 * then stays so (berth_space_is_unmapped()), for the caller to unmap.
 */
int berth_space_map(struct berth_space *space, uint64_t page, uint64_t nr_pages, unsigned max_order,
		    unsigned flags) BERTH_MUST_CHECK;

/*
 * Unmaps whatever is mapped in the range and frees the frames. -EBUSY: a page is pinned, or shares a
 * block with one that is. -EINVAL: outside the space. -ENOMEM: the machine can't split its mappings. Unchanged on error.
 */
int berth_space_unmap(struct berth_space *space, uint64_t page, uint64_t nr_pages) BERTH_MUST_CHECK;

/*
 * Puts memory outside the zone, with the same contents, at pages that are mapped to frames, and frees the
 * frames: these pages never move again, until they are unmapped. For memory that is used in a way that
 * a move would break. Pages that aren't mapped to frames are left as they are.
 * 0; -EINVAL: outside the space; -EBUSY: a page is pinned, or shares a block with one that is; -ENOMEM: the
 * machine has no memory or mapping for it. On -ENOMEM a part may have been done, which is no harm.
 */
int berth_space_make_private(struct berth_space *space, uint64_t page,
			     uint64_t nr_pages) BERTH_MUST_CHECK;

/*
 * Forgets the zone, if no page is mapped to its frames (any more): from then on the space serves
 * private memory only, and needs nothing of the machine but map_private and unmap. False: some page is.
 */
bool berth_space_leave(struct berth_space *space);

/* Where a page is: a frame, BERTH_PFN_NONE when unmapped, BERTH_PFN_PRIVATE outside the zone. Takes
 * no lock: exact only while nothing moves. */
#define BERTH_PFN_PRIVATE (UINT64_MAX - 1)
berth_pfn_t berth_space_lookup(const struct berth_space *space, uint64_t page);
/* True when every page of the range is mapped (is unmapped). Takes the lock. */
bool berth_space_is_mapped(struct berth_space *space, uint64_t page, uint64_t nr_pages);
bool berth_space_is_unmapped(struct berth_space *space, uint64_t page, uint64_t nr_pages);

/*
 * Pins the pages of a range: their frames stay until berth_space_unpin(). A block is pinned whole.
 * `name` appears in claims' reports; its first 31 bytes are copied. With `long_term` pages in CMA areas
 * are moved out first, so that the pin never stands in a claim's way.
 * 0 and *handle; -EINVAL: not mapped to frames; -ENOSPC: too many pins; -ENOMEM, -EBUSY: a long-term
 * pin couldn't move pages out. Nothing is pinned on error.
 */
#define BERTH_PIN_NAME_BYTES 32u
int berth_space_pin(struct berth_space *space, uint64_t page, uint64_t nr_pages, const char *name,
		    bool long_term, uint64_t *handle) BERTH_MUST_CHECK;
/* -EINVAL: no such pin. */
int berth_space_unpin(struct berth_space *space, uint64_t handle) BERTH_MUST_CHECK;

/* ---- fork -------------------------------------------------------------------------------------- */

/*
 * The eager way: the space is frozen while a child copies it.
 * prepare: takes the lock and, with protect, stalls the other threads' writes, but not those to
 * pinned pages (stacks, devices' buffers), nor around own_page: the page of the caller's stack when
 * that lies in the space, UINT64_MAX otherwise. parent: undoes both.
 * child: copies every mapped frame into private memory at the same address and forgets the zone;
 * from then on the space serves private memory only. In the child nothing else of the zone may be
 * used. -ENOMEM: the child can't get memory for its copy.
 */
int berth_space_fork_prepare(struct berth_space *space, bool protect,
			     uint64_t own_page) BERTH_MUST_CHECK;
void berth_space_fork_parent(struct berth_space *space);
int berth_space_fork_child(struct berth_space *space) BERTH_MUST_CHECK;
/*
 * The pushing way, for spaces that are large: the parent goes on as soon as the child has places for all
 * pages, and pushes their contents from then on. A page's contents are pushed before a writer changes
 * them, and before the page is unmapped, made private or moved.
 *
 * berth_space_can_push(): asked between prepare (with protect) and parent.
 * berth_space_fork_child_receives(): instead of berth_space_fork_child(). On error nothing has changed
 * and that function still works.
 * berth_space_push_begin(): instead of berth_space_fork_parent(), when the child receives.
 * berth_space_push(): the contents of a range that somebody waits for, at once. Pages that the child
 * asks for and that aren't pending are left to the caller.
 * berth_space_push_next(): some more, in order; 1: there is more, 0: all is pushed, -ENOENT, -ENOMEM:
 * as push() of the machine said; then nothing more is pushed, and writers go on.
 * berth_space_push_end() ends it, or gives it up. Between begin and end no other fork of the space.
 */
bool berth_space_can_push(const struct berth_space *space);
int berth_space_fork_child_receives(struct berth_space *space) BERTH_MUST_CHECK;
void berth_space_push_begin(struct berth_space *space);
int berth_space_push(struct berth_space *space, uint64_t page, uint64_t nr_pages) BERTH_MUST_CHECK;
int berth_space_push_next(struct berth_space *space) BERTH_MUST_CHECK;
void berth_space_push_end(struct berth_space *space);
/*
 * In a child: from now on the space maps the frames of `zone`, the child's own. What is mapped already
 * stays where it is, outside. -EINVAL: the space has a zone; -ENOSPC: this one has no owner slot left.
 */
int berth_space_attach(struct berth_space *space, struct berth_zone *zone) BERTH_MUST_CHECK;

/* ---- Statistics ---------------------------------------------------------------------------------- */

struct berth_space_stats {
	uint64_t mapped_pages;  /* to frames */
	uint64_t private_pages; /* outside the zone */
	uint64_t mappings;      /* separate runs, as the machine counts them */
	uint64_t moved_pages, moved_runs;
	uint64_t stalled_runs;       /* runs where a writer had to wait */
	uint64_t skipped_for_budget; /* moves not made because of mapping_budget */
	uint64_t longest_stall_ns; /* upper bound: protect to wake of a run with a waiting writer */
	uint64_t pins;
};
void berth_space_stats(struct berth_space *space, struct berth_space_stats *stats);

/* Verifies table against frames: each mapped page's frame is this space's, with the right cookie. At
 * a quiescent point. O(pages). */
bool berth_space_check(struct berth_space *space,
		       struct berth_violation *violation) BERTH_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
