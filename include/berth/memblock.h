/* SPDX-License-Identifier: MIT */
/*
 * Memblock: which physical memory there is, and which of it is taken, before any zone exists.
 * Freestanding, under the rules of core.h.
 *
 * An instance keeps two sorted lists of regions: *memory*, what the machine has, and *reserved*, what
 * is in use (the kernel's image, a boot logo, an area for claims). Free is memory less reserved.
 * Reserving doesn't ask whether there is memory. The caller supplies the arrays of both lists.
 * At the end the zones take the free frames over (berth_memblock_hand_over()).
 *
 * Addresses and sizes are in bytes and need no alignment, ranges are half-open. The last address
 * that can be described is UINT64_MAX - 1: a range that reaches further is cut there.
 *
 * An instance belongs to one caller at a time: it has no lock, so that it works before locks do.
 * Nothing sleeps. Unless said otherwise a call costs O(regions), and after an error nothing has
 * changed, but that an array may have grown.
 */
#ifndef BERTH_MEMBLOCK_H
#define BERTH_MEMBLOCK_H

#include <berth/core.h>
#include <berth/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A physical address. */
typedef uint64_t berth_phys_t;
#define BERTH_PHYS_MAX UINT64_MAX

/* Of a region: belongs to no node. Of a request: any node will do. */
#define BERTH_MEMBLOCK_ANY_NODE UINT32_MAX

/* What is special about a region. */
enum berth_memblock_flags {
	BERTH_MEMBLOCK_HOTPLUG = 1u << 0, /* can be unplugged: see `movable_node` below */
	BERTH_MEMBLOCK_MIRROR = 1u << 1,  /* mirrored by the hardware: allocated first */
	BERTH_MEMBLOCK_NOMAP = 1u << 2,   /* memory, but not for this system: never allocated, and
					   * reserved in its zone for good */
	BERTH_MEMBLOCK_DRIVER = 1u << 3,  /* added by a driver, which decides about it: likewise */
	BERTH_MEMBLOCK_ALL_FLAGS = 15u
};

struct berth_memblock_region {
	berth_phys_t base;
	uint64_t size_bytes; /* > 0 */
	uint32_t flags;      /* enum berth_memblock_flags */
	uint32_t node;
};

/* ---- Setting up ------------------------------------------------------------------------------- */

/* Where the memory for larger arrays comes from. Either may be NULL, and the table as well. */
struct berth_memblock_ops {
	/*
	 * The place where the CPU reaches physical memory [base, base + bytes), NULL: it doesn't.
	 * With it a full array is doubled into memory that memblock allocates from itself.
	 */
	void *(*map)(void *ctx, berth_phys_t base, uint64_t bytes);
	/* Memory from elsewhere, preferred to the above; NULL: there is none. Aligned for any type. */
	void *(*alloc)(void *ctx, size_t bytes);
	/* Gives back what alloc() gave. Required with alloc. */
	void (*free)(void *ctx, void *array, size_t bytes);
};

/* One of the two lists; for memblock's own use. */
struct berth_memblock_list {
	struct berth_memblock_region *regions; /* ascending, disjoint, never mergeable neighbours */
	uint32_t nr, max;
	uint64_t total_bytes;
	berth_phys_t array_base; /* where the array is, if memblock has allocated it itself */
	uint64_t array_bytes;    /* 0: it hasn't */
	size_t allocated_bytes;  /* by ops->alloc; 0: not so */
};

/* An instance. Its fields are memblock's own. */
struct berth_memblock {
	struct berth_memblock_list memory, reserved;
	const struct berth_memblock_ops *ops;
	void *ctx;
	berth_phys_t limit;
	bool bottom_up, movable_node, has_mirror, handed_over;
};

struct berth_memblock_params {
	struct berth_memblock_region *memory;   /* array of max_memory regions */
	struct berth_memblock_region *reserved; /* array of max_reserved regions */
	uint32_t max_memory, max_reserved;      /* >= 1 each */
	const struct berth_memblock_ops *ops;   /* NULL: the arrays never grow */
	void *ctx;                              /* for the ops */
	bool bottom_up;    /* allocate at low addresses first; otherwise at high ones */
	bool movable_node; /* leave HOTPLUG memory alone, so that it can be unplugged */
};

/* An instance without any region. -EINVAL: no array, no room in it, alloc without free. */
int berth_memblock_init(struct berth_memblock *memblock,
			const struct berth_memblock_params *params) BERTH_MUST_CHECK;

/* Gives back the arrays that came from ops->alloc; the instance is gone. */
void berth_memblock_destroy(struct berth_memblock *memblock);

/* Allocations without an upper bound of their own stay below `limit`. At first there is none. */
void berth_memblock_set_limit(struct berth_memblock *memblock, berth_phys_t limit);
void berth_memblock_set_bottom_up(struct berth_memblock *memblock, bool bottom_up);

/* ---- Regions ----------------------------------------------------------------------------------- */

/*
 * All of these answer 0, -ENOMEM (the array is full and can't grow), -EINVAL (unknown flags, or one
 * to be set and cleared) or -EBUSY (frames have been handed over: the lists are closed). An empty range is no error and does
 * nothing. Neighbours that touch and have the same flags and node are always one region.
 */

/*
 * There is memory at [base, base + size). Where there was some already, that keeps its flags and
 * node; only what lies between is added.
 */
int berth_memblock_add(struct berth_memblock *memblock, berth_phys_t base, uint64_t size_bytes,
		       uint32_t node, unsigned flags) BERTH_MUST_CHECK;
/* There is none: cuts regions, drops what is inside. Reservations stay. -EBUSY also: memblock's own
 * array is there. */
int berth_memblock_remove(struct berth_memblock *memblock, berth_phys_t base,
			  uint64_t size_bytes) BERTH_MUST_CHECK;
/* The range is in use, whether there is memory or not, and reserved already or not. */
int berth_memblock_reserve(struct berth_memblock *memblock, berth_phys_t base,
			   uint64_t size_bytes) BERTH_MUST_CHECK;
/* It isn't any more. What wasn't reserved stays so. -EBUSY likewise. */
int berth_memblock_free(struct berth_memblock *memblock, berth_phys_t base,
			uint64_t size_bytes) BERTH_MUST_CHECK;
/* The memory in the range gets these flags and loses those. Where there is none nothing happens. */
int berth_memblock_mark(struct berth_memblock *memblock, berth_phys_t base, uint64_t size_bytes,
			unsigned set, unsigned clear) BERTH_MUST_CHECK;
/* The memory in the range belongs to this node. */
int berth_memblock_set_node(struct berth_memblock *memblock, berth_phys_t base, uint64_t size_bytes,
			    uint32_t node) BERTH_MUST_CHECK;

/*
 * Use only the first limit_bytes of memory (the kernel's mem=): memory and reservations above are
 * forgotten. 0, or more than there is, changes nothing. -EBUSY likewise.
 */
int berth_memblock_enforce_limit(struct berth_memblock *memblock,
				 uint64_t limit_bytes) BERTH_MUST_CHECK;
/* Use only [base, base + size): all else is forgotten, but for NOMAP memory. -EBUSY likewise. */
int berth_memblock_cap(struct berth_memblock *memblock, berth_phys_t base,
		       uint64_t size_bytes) BERTH_MUST_CHECK;
/* Rounds each memory region inwards to multiples of align_bytes. -EINVAL: no power of two. */
int berth_memblock_trim(struct berth_memblock *memblock, uint64_t align_bytes) BERTH_MUST_CHECK;

/* ---- Allocating --------------------------------------------------------------------------------- */

enum berth_memblock_request_flags {
	BERTH_MEMBLOCK_EXACT_NODE = 1u << 0, /* this node or none */
	BERTH_MEMBLOCK_PREFER_MIN = 1u << 1, /* min is a wish: below it if need be */
};

struct berth_memblock_request {
	uint64_t size_bytes;  /* > 0 */
	uint64_t align_bytes; /* a power of two; 0: 64 */
	berth_phys_t min;     /* the block lies in [min, max) */
	berth_phys_t max;     /* 0: below the instance's limit; BERTH_PHYS_MAX: anywhere */
	uint32_t node;        /* on this node if possible; BERTH_MEMBLOCK_ANY_NODE */
	unsigned flags;       /* enum berth_memblock_request_flags */
};

/*
 * Finds a free block, the highest or (bottom_up) the lowest, and reserves it; *base says where. The
 * contents are as they were. The first page of all memory is never allocated. In this order it gives up: the node, the
 * mirror, the lower bound (each only if the request allows). Cost: O(regions log regions).
 * -EINVAL: a bad request. -ENOMEM: no such block, or the array is full. -EBUSY: handed over.
 */
int berth_memblock_alloc(struct berth_memblock *memblock,
			 const struct berth_memblock_request *request,
			 berth_phys_t *base) BERTH_MUST_CHECK;
/* The same without reserving. */
int berth_memblock_find(const struct berth_memblock *memblock,
			const struct berth_memblock_request *request,
			berth_phys_t *base) BERTH_MUST_CHECK;

/* ---- Looking ------------------------------------------------------------------------------------ */

/* All of the range is memory / reserved. Cost: O(log regions + regions in the range). */
bool berth_memblock_is_memory(const struct berth_memblock *memblock, berth_phys_t base,
			      uint64_t size_bytes);
bool berth_memblock_is_reserved(const struct berth_memblock *memblock, berth_phys_t base,
				uint64_t size_bytes);
/* Some of it is. */
bool berth_memblock_overlaps_memory(const struct berth_memblock *memblock, berth_phys_t base,
				    uint64_t size_bytes);
bool berth_memblock_overlaps_reserved(const struct berth_memblock *memblock, berth_phys_t base,
				      uint64_t size_bytes);
/* The region of memory that holds an address; NULL: none. Valid until the next change. */
const struct berth_memblock_region *berth_memblock_region_at(const struct berth_memblock *memblock,
							     berth_phys_t address);

/*
 * Iteration: *at is where to go on, 0 at first; each step fills in the next range and is false at
 * the end. The lists may change between steps. Cost: O(log regions) a step.
 *
 *	for (berth_phys_t at = 0; berth_memblock_next_free(memblock, &at, &range);)
 */
bool berth_memblock_next_memory(const struct berth_memblock *memblock, berth_phys_t *at,
				struct berth_memblock_region *range);
bool berth_memblock_next_reserved(const struct berth_memblock *memblock, berth_phys_t *at,
				  struct berth_memblock_region *range);
/* Free ranges within each region of memory, whose flags and node they have; NOMAP and DRIVER memory
 * isn't free. Steps over regions that are wholly reserved cost as much. */
bool berth_memblock_next_free(const struct berth_memblock *memblock, berth_phys_t *at,
			      struct berth_memblock_region *range);
/* The same downwards; *at is BERTH_PHYS_MAX at first. */
bool berth_memblock_previous_free(const struct berth_memblock *memblock, berth_phys_t *at,
				  struct berth_memblock_region *range);

struct berth_memblock_stats {
	uint64_t memory_bytes, reserved_bytes;
	uint64_t free_bytes;               /* in the ranges of berth_memblock_next_free() */
	berth_phys_t start, end;           /* of all memory; 0, 0: there is none */
	uint32_t nr_memory, nr_reserved;   /* regions */
	uint32_t max_memory, max_reserved; /* that the arrays have room for */
};
/* Cost: O(regions log regions). */
void berth_memblock_stats(const struct berth_memblock *memblock,
			  struct berth_memblock_stats *stats);

/*
 * Both lists as text, a line for each region, in the format of the kernel's memblock=debug. Writes at
 * most `bytes`, the ending NUL included; returns the length of the whole text without it.
 */
size_t berth_memblock_dump(const struct berth_memblock *memblock, char *text, size_t bytes);

/* Verifies every invariant of the lists; read-only. True when all hold. */
bool berth_memblock_check(const struct berth_memblock *memblock,
			  struct berth_violation *violation) BERTH_MUST_CHECK;

/* ---- Handing over to zones ----------------------------------------------------------------------- */

/*
 * Hands the memory of `node` (or of BERTH_MEMBLOCK_ANY_NODE) that the zone spans to the zone: frames
 * that are wholly free become free and managed, all other frames of memory are present and reserved.
 * Frames that are only partly memory are neither. From the first call on, with whatever zone, nothing
 * can be allocated or changed here but by berth_memblock_free_late(); other zones can be handed
 * theirs. To be called before the zone is used.
 * -EINVAL: the zone has some of these frames already; nothing has changed. Cost: O(regions log
 * regions + pageblocks), and O(frames) in pageblocks that are handed over in parts.
 */
int berth_memblock_hand_over(struct berth_memblock *memblock, struct berth_zone *zone,
			     uint32_t node) BERTH_MUST_CHECK;

/*
 * Frees a reserved range when the zone is in use: the boot logo, once it isn't shown any more. The
 * zone's free and managed memory grow by the whole frames in the range. The zone may be used by
 * anybody meanwhile; memblock by nobody.
 * -EINVAL: no whole frame, a part isn't reserved (so also a second time), isn't the zone's, was never
 * present, or is NOMAP or DRIVER memory. -EBUSY: memblock's own array is there. -ENOMEM: the range is cut out of a region,
 * the array of reserved regions is full, and there is no ops->alloc. Then nothing has changed.
 */
int berth_memblock_free_late(struct berth_memblock *memblock, struct berth_zone *zone,
			     berth_phys_t base, uint64_t size_bytes) BERTH_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
