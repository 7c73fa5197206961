/* SPDX-License-Identifier: MIT */
/*
 * What a zone has done: counters of events, and histograms of how long things took. Both may be read
 * at any time, without a lock and without holding anybody up.
 *
 * Counters are kept by CPU and added up by whoever reads them. An allocation or a free that a per-CPU
 * list serves counts nothing: frames are counted when they leave the buddy lists and when they return
 * to them. A sum is of no single moment, but no event is lost or counted twice, and once nobody
 * allocates or frees any more
 *
 *	BERTH_EVENT_PGALLOC - BERTH_EVENT_PGFREE = used_pages + pcp_pages of berth_zone_stats()
 */
#ifndef BERTH_STATS_H
#define BERTH_STATS_H

#include <berth/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Events ----------------------------------------------------------------------------------- */

/* In brackets: what is counted. Names of Linux' vm_event where the meaning is the same. */
enum berth_event {
	BERTH_EVENT_PGALLOC,         /* [frames] left the buddy lists, to callers and CPUs' lists */
	BERTH_EVENT_PGFREE,          /* [frames] came back to them from users and CPUs' lists */
	BERTH_EVENT_PCP_REFILL,      /* [frames] of PGALLOC that went to CPUs' lists */
	BERTH_EVENT_PCP_SPILL,       /* [frames] of PGFREE that a CPU's list gave back itself */
	BERTH_EVENT_PCP_DRAIN,       /* [frames] of PGFREE that were drained out of CPUs' lists */
	BERTH_EVENT_MIGRATE_SUCCESS, /* [frames] moved, for claims and by compaction */
	BERTH_EVENT_MIGRATE_FAIL,    /* [frames] of blocks whose owners couldn't move them now */
	BERTH_EVENT_COMPACT_STALL,   /* [runs] of compaction for an allocation that waited for it */
	BERTH_EVENT_COMPACT_SUCCESS, /* [runs] for one order that made a block */
	BERTH_EVENT_COMPACT_FAIL,    /* [runs] for one order that tried, and made none */
	BERTH_EVENT_CMA_SUCCESS,     /* [claims] */
	BERTH_EVENT_CMA_FAIL,        /* [claims] but for those that could never fit */
	BERTH_EVENT_CMA_RELEASE,     /* [claims] */
	BERTH_EVENT_CLAIM_DROP, /* [frames] that owners dropped for claims, instead of moving them */
	BERTH_EVENT_FALLBACK,   /* [blocks] taken from another migratetype */
	/* With the zone that the allocation prefers: */
	BERTH_EVENT_ALLOCSTALL, /* [calls] of reclaim, while an allocation waits */
	BERTH_EVENT_OOM,        /* [calls] of the OOM callback */
	BERTH_EVENT_ALLOC_FAIL, /* [allocations] from nodes that failed */
	BERTH_NR_EVENTS
};

/* The event's name in berth_vmstat(). */
const char *berth_event_name(enum berth_event event);
/* Sums since the zone's init. O(CPUs). */
void berth_zone_events(const struct berth_zone *zone, uint64_t events[BERTH_NR_EVENTS]);

/* ---- Histograms ------------------------------------------------------------------------------- */

/*
 * Log-linear: values below 16 have a bucket each, and each octave [2^k, 2^(k+1)) above has 16 of equal
 * width. So a bucket's ends differ by at most 1/16 of its lower end. The last bucket takes all that is
 * larger than 2^43 - 1, some 2.4 hours in nanoseconds.
 */
#define BERTH_HISTOGRAM_BUCKETS 640u

/* A histogram as it was read: count is the sum of the buckets. */
struct berth_histogram {
	uint64_t count, sum, max;
	uint64_t buckets[BERTH_HISTOGRAM_BUCKETS];
};

static inline unsigned berth_histogram_bucket(uint64_t value)
{
	unsigned octave, bucket;

	if (value < 16)
		return (unsigned)value;
	octave = 63 - (unsigned)__builtin_clzll(value);
	bucket = (octave - 3) * 16 + (unsigned)(value >> (octave - 4) & 15);
	return bucket < BERTH_HISTOGRAM_BUCKETS ? bucket : BERTH_HISTOGRAM_BUCKETS - 1;
}

/* The largest value of a bucket (as if the last one had an end). */
static inline uint64_t berth_histogram_bucket_end(unsigned bucket)
{
	unsigned octave = bucket / 16 + 3;

	if (bucket < 16)
		return bucket;
	return ((uint64_t)(bucket % 16 + 16 + 1) << (octave - 4)) - 1;
}

/*
 * The value that `ppm` millionths of all values don't exceed: p50 is 500000, p99.9 999000. It's the
 * end of the bucket of the value with rank ceil(count * ppm / 10^6) (at least 1), and at most max. So it
 * is at least the exact percentile, and less than 17/16 of it; exact below 16, and where the rank
 * is that of the largest. 0 of an empty histogram. O(buckets).
 */
uint64_t berth_histogram_percentile(const struct berth_histogram *histogram, uint32_t ppm);
/* Adds a histogram, of another zone for instance. */
void berth_histogram_merge(struct berth_histogram *to, const struct berth_histogram *from);

/* All in nanoseconds. */
enum berth_timing {
	BERTH_TIMING_CLAIM,         /* berth_cma_alloc() that succeeded, from call to return */
	BERTH_TIMING_CLAIM_SEARCH,  /* what all claims spent in each phase, if anything: */
	BERTH_TIMING_CLAIM_ISOLATE, /* the longest holds of the zone's lock are in here */
	BERTH_TIMING_CLAIM_DRAIN,
	BERTH_TIMING_CLAIM_MIGRATE,
	BERTH_TIMING_CLAIM_FINISH,
	BERTH_TIMING_COMPACT, /* a run of compaction that was worth trying */
	BERTH_TIMING_RECLAIM, /* a call of reclaim, while an allocation waits */
	BERTH_NR_TIMINGS
};
const char *berth_timing_name(enum berth_timing timing);

/*
 * Reads a histogram of the zone; the reclaim of an allocation from nodes is with the zone that the
 * allocation prefers. -ENOENT: the zone was set up without `histograms` (all 0 then).
 */
int berth_zone_histogram(struct berth_zone *zone, enum berth_timing timing,
			 struct berth_histogram *histogram);

#ifdef __cplusplus
}
#endif
#endif
