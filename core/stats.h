/* SPDX-License-Identifier: MIT */
/*
 * Counting events and recording times, for the core's own files; core/stats.c reads them.
 *
 * I1  Whoever changes what the buddy lists give to users and CPUs' lists, or get from them, counts
 *     it: PGALLOC - PGFREE is what is out there.
 */
#ifndef BERTH_CORE_STATS_H
#define BERTH_CORE_STATS_H

#include <berth/stats.h>

#include "core/internal.h"

#ifndef BERTH_HAVE_CPU_FAST
#define berth_cpu_fast berth_cpu
#endif

/*
 * A slot's counters, in cache lines of their own. The first slot is for who holds the zone's lock, and
 * plain stores do. The others are the CPUs', written with read-modify-writes, since a task may change
 * its CPU meanwhile, or have none: so any of them will do, and a small zone has few.
 */
struct berth_counters {
	_Alignas(64) _Atomic uint64_t events[BERTH_NR_EVENTS];
};

#define BERTH_CLAIM_TIMINGS 4u /* claims are short: their CPUs record them apart */

struct berth_timings {
	struct berth__live_histogram {
		_Alignas(64) _Atomic uint64_t sum, max;
		_Atomic uint64_t buckets[BERTH_HISTOGRAM_BUCKETS];
	} of[BERTH_NR_TIMINGS + BERTH_CLAIM_TIMINGS - 1]; /* the last: BERTH_TIMING_CLAIM, too */
};

static inline void berth__count_locked(struct berth_zone *zone, enum berth_event event, uint64_t nr)
{
	_Atomic uint64_t *at = &zone->counters[0].events[event];

	atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + nr,
			      memory_order_relaxed);
}

static inline void berth__count(struct berth_zone *zone, enum berth_event event, uint64_t nr)
{
	struct berth_counters *counters =
		&zone->counters[1 + (berth_cpu_fast() & zone->counter_mask)];

	atomic_fetch_add_explicit(&counters->events[event], nr, memory_order_relaxed);
}

/* The clock, where times are recorded at all. */
static inline uint64_t berth__timing_begin(const struct berth_zone *zone)
{
	return zone->timings ? berth__now(zone) : 0;
}

/* Records a time that was measured anyway. */
void berth__timing_add(struct berth_zone *zone, enum berth_timing timing, uint64_t ns);

static inline void berth__timing_end(struct berth_zone *zone, enum berth_timing timing,
				     uint64_t began_ns)
{
	if (zone->timings)
		berth__timing_add(zone, timing, berth__now(zone) - began_ns);
}

#endif
