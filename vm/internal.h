/* SPDX-License-Identifier: MIT */
/*
 * vm's private header: the space and what its files share.
 *
 * Field letters: c constant after init; S space->lock; a atomic.
 * Lock order: space->turn, then space->lock, then the core's.
 */
#ifndef BERTH_VM_INTERNAL_H
#define BERTH_VM_INTERNAL_H

#include <stdatomic.h>

#include <berth/vm.h>
#include <berth_port.h>

/* A table word: 0 not mapped, ENTRY_PRIVATE outside the zone, else the pfn - zone start + 1. */
#define BERTH_ENTRY_NONE 0u
#define BERTH_ENTRY_PRIVATE UINT32_MAX

#define BERTH_HUGE_ORDER 9u  /* runs of this order are kept whole for huge mappings */
#define BERTH_STEP_PAGES 16u /* 64 KiB: the grain of copying while a writer may wait */
#define BERTH_MAX_PINS 4096u

struct berth_pin {
	uint64_t page, nr_pages; /* nr_pages 0: not in use */
	uint32_t generation;
	char name[BERTH_PIN_NAME_BYTES];
};

struct berth_space {
	struct berth_zone *zone;           /* c */
	berth_pfn_t start_pfn;             /* c: of the zone */
	uint64_t nr_pages, page_offset;    /* c */
	const struct berth_mmu_ops *mmu;   /* c */
	void *mmu_ctx;                     /* c */
	const struct berth_port_ops *port; /* c */
	void *port_ctx;                    /* c */
	uint32_t mapping_budget;           /* c */
	unsigned owner;                    /* c */
	bool detached;                     /* S: in a fork's child */
	uint64_t own_page;                 /* S: during a fork */
	struct berth_owner_ops ops;        /* c: with this space's name */
	bool protected_for_fork;           /* S */
	const char *(*may_move)(void *);   /* c: the gate, or NULL */
	void *may_move_ctx;                /* c */
	bool pushing;                      /* S: from push_begin to push_end */
	int push_error;                    /* S: contents that were asked for couldn't be pushed */
	uint64_t push_page, push_end;      /* S: what is left of the sweep */
	uint64_t *pending;                 /* S: bit a page, its contents aren't pushed yet */
	_Atomic uint32_t *table;           /* a: written under S */

	berth_mutex_t turn;           /* of the one that moves a batch; nobody else wants it */
	_Atomic uint32_t next_movers; /* a: threads that want the turn */
	bool awake;                   /* who has the turn: CPUs are kept awake */
	bool others_wait; /* who has the turn: somebody waited for the last large batch */
	_Alignas(64) berth_mutex_t lock;
	_Atomic uint32_t waiters;       /* a: threads that want the lock */
	_Atomic uint32_t moves;         /* a: written under S; odd while something is moved */
	uint64_t used_end;              /* S: pages from here on were never mapped */
	uint64_t mapped, private_pages; /* S */
	uint64_t mappings;              /* S: runs that the machine can't merge */
	uint64_t moved_pages, moved_runs, stalled_runs, skipped, longest_stall_ns; /* S */
	uint32_t written_lately; /* S: pages of the run watched last that were written meanwhile */
	uint32_t grain;          /* S: how much moves in one last moment, in pages of a long run */
	uint32_t nr_pins;        /* S */
	struct berth_pin pins[BERTH_MAX_PINS]; /* S */
};

static inline uint32_t berth__entry(const struct berth_space *space, uint64_t page)
{
	return atomic_load_explicit(&space->table[page], memory_order_relaxed);
}

static inline bool berth__entry_is_frame(uint32_t entry)
{
	return entry != BERTH_ENTRY_NONE && entry != BERTH_ENTRY_PRIVATE;
}

static inline berth_pfn_t berth__entry_pfn(const struct berth_space *space, uint32_t entry)
{
	return space->start_pfn + entry - 1;
}

static inline uint32_t berth__pfn_entry(const struct berth_space *space, berth_pfn_t pfn)
{
	return (uint32_t)(pfn - space->start_pfn + 1);
}

static inline bool berth__in_space(const struct berth_space *space, uint64_t page,
				   uint64_t nr_pages)
{
	return nr_pages && page < space->nr_pages && nr_pages <= space->nr_pages - page;
}

/*
 * Writes the table words of a run, the only place that does: NONE, PRIVATE, or frames counting up
 * from `entry`. Keeps `mappings` and the page counts right. S.
 */
void berth__set_entries_locked(struct berth_space *space, uint64_t page, uint64_t nr_pages,
			       uint32_t entry);
/* For everybody but a mover, who lets those in first that it finds waiting here. */
static inline void berth__space_lock(struct berth_space *space)
{
	atomic_fetch_add_explicit(&space->waiters, 1, memory_order_relaxed);
	berth_mutex_lock(&space->lock);
	atomic_fetch_sub_explicit(&space->waiters, 1, memory_order_relaxed);
}

static inline uint64_t berth__space_now(const struct berth_space *space)
{
	return space->port->now_ns(space->port_ctx);
}

/* The end of the run that begins at `page`: pages of one kind, frames consecutive; at most `end`. */
uint64_t berth__run_end(const struct berth_space *space, uint64_t page, uint64_t end);

/* A broken invariant between space and zone: stops. */
_Noreturn void berth__space_panic(const struct berth_space *space, const char *what, uint64_t value,
				  uint64_t expected);

/* vm/move.c: the owner operations. */
extern const struct berth_owner_ops berth__space_owner_ops; /* but for the name */
/*
 * Moves the block [page, page + 2^order) from src to dst, both allocated to the space. 0, or -EBUSY
 * with *holder; then it is still at src. The caller settles the frames. S.
 */
int berth__move_block_locked(struct berth_space *space, uint64_t page, berth_pfn_t src,
			     berth_pfn_t dst, unsigned order, const char **holder);

/* vm/fork.c: calls fn for every run of frames. S. */
int berth__for_each_run(struct berth_space *space, int (*fn)(struct berth_space *, uint64_t page,
							     uint64_t nr_pages, berth_pfn_t pfn));
/* The child's side is complete: forgets the zone. S. */
void berth__detach_locked(struct berth_space *space);
/* vm/push.c: pushes what of a range is still pending, before its frames change hands. S. */
void berth__push_before_locked(struct berth_space *space, uint64_t page, uint64_t nr_pages);

/* vm/pin.c: the name of a pin that touches the pages, or NULL. S. */
const char *berth__pin_holder_locked(struct berth_space *space, uint64_t page, uint64_t nr_pages);

#endif
