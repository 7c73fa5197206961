/* SPDX-License-Identifier: MIT */
/*
 * Copying a page into a frame and out of it.
 *
 * Out of it is the one data race by design: nobody holds the frame still. A filler may be writing another page
 * there, or a device, whose claim didn't ask. The copy is believed only if, afterwards,
 * the granule's generation and the entry's sequence number are what they were before. Then nobody has begun
 * to write between the two looks:
 *
 * - A filler stores an even sequence number, passes a release fence, and writes. Had the copy met one of its words,
 *   the acquire fence behind the copy would make that number (or a later one, never the old
 *   one again) what the reader sees.
 * - A claimer stores odd generations and passes a full fence before the frames are anybody's. Likewise.
 *
 * What a torn copy holds is never looked at: it is bytes in the caller's buffer, which is said to be
 * undefined after a miss. C11 has no name for a read that may be torn if it isn't used: memcpy is
 * one on all machines that we know, since it reads each byte at least once between the two looks and writes nothing.
 * Where a tool follows the words of the standard (thread sanitizer) or simulates memory (port/sim), both
 * directions go word by word, atomically.
 */
#ifndef BERTH_STORE_COPY_H
#define BERTH_STORE_COPY_H

#include <berth_port.h>
#include <stdatomic.h>

#include <berth/types.h>

#include "core/alloc/gcma_fast.h"

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define BERTH_STORE_BY_WORDS 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(BERTH_PORT_PAGE_WORDS)
#define BERTH_STORE_BY_WORDS 1
#endif
/* A port whose frames aren't whole pages (the simulator) says how many words of one count. */
#ifndef BERTH_PORT_PAGE_WORDS
#define BERTH_PORT_PAGE_WORDS (BERTH_PAGE_SIZE / 8)
#endif

static inline void berth__copy_out(void *to, const void *frame)
{
#ifdef BERTH_STORE_BY_WORDS
	const _Atomic uint64_t *from = frame;

	for (size_t i = 0; i < BERTH_PORT_PAGE_WORDS; i++) {
		uint64_t word = atomic_load_explicit(&from[i], memory_order_relaxed);

		__builtin_memcpy((char *)to + 8 * i, &word, 8);
	}
#else
	__builtin_memcpy(to, frame, BERTH_PAGE_SIZE);
#endif
}

/* By whoever has the frame, alone but for such readers. */
static inline void berth__copy_in(void *frame, const void *from)
{
#ifdef BERTH_STORE_BY_WORDS
	_Atomic uint64_t *to = frame;

	for (size_t i = 0; i < BERTH_PORT_PAGE_WORDS; i++) {
#ifdef BERTH_SIM_VALUE
		/* What the caller's memory holds may be any value that it may hold, too. */
		uint64_t word = atomic_load_explicit((const _Atomic uint64_t *)from + i,
						     memory_order_relaxed);
#else
		uint64_t word;

		__builtin_memcpy(&word, (const char *)from + 8 * i, 8);
#endif
		atomic_store_explicit(&to[i], word, memory_order_relaxed);
	}
#else
	__builtin_memcpy(frame, from, BERTH_PAGE_SIZE);
#endif
}

/* By a filler. False: the granule is closed; what was copied is lost. */
static inline bool berth__fill(struct berth_gcma_hot *hot, uint64_t granule, uint64_t generation,
			       void *frame, const void *from)
{
#ifdef BERTH_STORE_BY_WORDS
	struct berth_gcma_filler *filler;

#ifdef BERTH_HAVE_COPY_IN
	if (berth_copy_restarts())
		return berth__gcma_fill_restarting(hot, granule, generation, frame, from,
						   8 * BERTH_PORT_PAGE_WORDS);
#endif
	filler = berth__gcma_fill_begin(hot, granule, generation);
	if (!filler)
		return false;
	berth__copy_in(frame, from);
	berth__gcma_fill_end(filler);
	return true;
#else
	return berth__gcma_fill(hot, granule, generation, frame, from, BERTH_PAGE_SIZE);
#endif
}

#endif
