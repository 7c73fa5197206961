/* SPDX-License-Identifier: MIT */
/*
 * The hot half of GCMA areas: what a borrower does for each page. For core/ and store/; everyone else calls
 * the functions of <berth/gcma.h>, which are these.
 *
 * A filler says in its CPU's record which granule it fills, and looks at the generation behind a full fence;
 * a claimer closes the generation, and looks at the records behind one. So one of them sees the other.
 */
#ifndef BERTH_CORE_GCMA_FAST_H
#define BERTH_CORE_GCMA_FAST_H

#include <stdatomic.h>

#include <berth/gcma.h>
#include <berth_port.h>

/* A line for each CPU slot, so that fillers share none. */
struct berth_gcma_filler {
	/* a: by the slot's owner: 1 + the granule that is being filled, and a flag; or 0 */
	_Alignas(64) _Atomic uint64_t record;
};
#define BERTH_GCMA_RESTARTS (1ull << 63) /* by berth_copy_in() */

/* What berth_gcma begins with. */
struct berth_gcma_hot {
	_Atomic uint64_t *generations;     /* c; each a: by whose claim it is, or becomes */
	struct berth_gcma_filler *fillers; /* c */
	unsigned nr_cpus;                  /* c */
	unsigned granule_order;            /* c */
	berth_pfn_t start_pfn;             /* c */
	_Atomic uint32_t nr_fillers;       /* a, grows: records below it may be in use */
};

/* A slot fills for the first time. False: it isn't one of the area's. */
bool berth__gcma_new_filler(struct berth_gcma_hot *hot, unsigned cpu);

static inline struct berth_gcma_hot *berth__gcma_hot(struct berth_gcma *area)
{
	return (struct berth_gcma_hot *)(void *)area;
}

static inline const struct berth_gcma_hot *berth__gcma_const_hot(const struct berth_gcma *area)
{
	return (const struct berth_gcma_hot *)(const void *)area;
}

static inline uint64_t berth__gcma_granule_of(const struct berth_gcma_hot *hot, berth_pfn_t pfn)
{
	return (pfn - hot->start_pfn) >> hot->granule_order;
}

/* berth_gcma_generation() */
static inline uint64_t berth__gcma_generation(const struct berth_gcma_hot *hot, uint64_t granule)
{
	return atomic_load_explicit(&hot->generations[granule], memory_order_acquire);
}

/* berth_gcma_still() */
static inline bool berth__gcma_still(const struct berth_gcma_hot *hot, uint64_t granule,
				     uint64_t generation)
{
	/* What was read before can't have been read after this look. */
	atomic_thread_fence(memory_order_acquire);
	return berth_gcma_open(generation) &&
	       atomic_load_explicit(&hot->generations[granule], memory_order_relaxed) == generation;
}

/* berth_gcma_fill_begin(); the record is for berth__gcma_fill_end(). NULL: refused. `flag`: 0, or
 * BERTH_GCMA_RESTARTS. */
static inline struct berth_gcma_filler *berth__gcma_fill_begin_with(struct berth_gcma_hot *hot,
								    uint64_t granule,
								    uint64_t generation,
								    uint64_t flag)
{
	struct berth_gcma_filler *filler;
	unsigned cpu;

	berth_preempt_disable();
	cpu = berth_cpu();
	if (__builtin_expect(cpu >= atomic_load_explicit(&hot->nr_fillers, memory_order_relaxed),
			     0) &&
	    !berth__gcma_new_filler(hot, cpu)) {
		berth_preempt_enable();
		return NULL;
	}
	filler = &hot->fillers[cpu];
	/* Release, here and below: a claimer who finds this in place of what berth__gcma_fill_end() left
	 * has been told all the same that what was filled before is there. */
	atomic_store_explicit(&filler->record, flag | (granule + 1), memory_order_release);
	/* Pairs with the claimer's: the record is seen there, or the closed generation here. */
	atomic_thread_fence(memory_order_seq_cst);
	/* Acquire: whoever had the frames before has done with them. */
	if (berth_gcma_open(generation) && berth__gcma_generation(hot, granule) == generation)
		return filler;
	atomic_store_explicit(&filler->record, 0, memory_order_release);
	berth_preempt_enable();
	return NULL;
}

static inline struct berth_gcma_filler *
berth__gcma_fill_begin(struct berth_gcma_hot *hot, uint64_t granule, uint64_t generation)
{
	return berth__gcma_fill_begin_with(hot, granule, generation, 0);
}

static inline void berth__gcma_fill_end(struct berth_gcma_filler *filler)
{
	/* What was written is there when a claimer sees this. */
	atomic_store_explicit(&filler->record, 0, memory_order_release);
	berth_preempt_enable();
}

#ifdef BERTH_HAVE_COPY_IN
/* By who has answered true to berth_copy_restarts(). */
static inline bool berth__gcma_fill_restarting(struct berth_gcma_hot *hot, uint64_t granule,
					       uint64_t generation, void *to, const void *from,
					       size_t bytes)
{
	struct berth_gcma_filler *filler = berth__gcma_fill_begin_with(hot, granule, generation,
								       BERTH_GCMA_RESTARTS);
	bool copied;

	if (__builtin_expect(!filler, 0))
		return false;
	copied = berth_copy_in(to, from, bytes, &hot->generations[granule], generation);
	berth__gcma_fill_end(filler);
	return copied;
}
#endif

/* berth_gcma_fill() */
static inline bool berth__gcma_fill(struct berth_gcma_hot *hot, uint64_t granule,
				    uint64_t generation, void *to, const void *from, size_t bytes)
{
	struct berth_gcma_filler *filler;

#ifdef BERTH_HAVE_COPY_IN
	if (__builtin_expect(berth_copy_restarts(), 1))
		return berth__gcma_fill_restarting(hot, granule, generation, to, from, bytes);
#endif
	filler = berth__gcma_fill_begin(hot, granule, generation);
	if (__builtin_expect(!filler, 0))
		return false;
	__builtin_memcpy(to, from, bytes);
	berth__gcma_fill_end(filler);
	return true;
}

#endif
