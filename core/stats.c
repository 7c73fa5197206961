/* SPDX-License-Identifier: MIT */
/*
 * Reading counters and histograms while they are written.
 *
 * I1  A read histogram's count is the sum of its buckets, and its max lies in its last bucket that
 *     isn't empty, or above: so percentiles are ordered whatever is recorded meanwhile.
 *
 * Complexity: counting and recording O(1), a relaxed read-modify-write each; reading O(slots) and
 * O(buckets).
 */
#include "core/stats.h"

const char *berth_event_name(enum berth_event event)
{
	static const char *const names[BERTH_NR_EVENTS] = {
		[BERTH_EVENT_PGALLOC] = "pgalloc",
		[BERTH_EVENT_PGFREE] = "pgfree",
		[BERTH_EVENT_PCP_REFILL] = "pcp_refill",
		[BERTH_EVENT_PCP_SPILL] = "pcp_spill",
		[BERTH_EVENT_PCP_DRAIN] = "pcp_drain",
		[BERTH_EVENT_MIGRATE_SUCCESS] = "pgmigrate_success",
		[BERTH_EVENT_MIGRATE_FAIL] = "pgmigrate_fail",
		[BERTH_EVENT_COMPACT_STALL] = "compact_stall",
		[BERTH_EVENT_COMPACT_SUCCESS] = "compact_success",
		[BERTH_EVENT_COMPACT_FAIL] = "compact_fail",
		[BERTH_EVENT_CMA_SUCCESS] = "cma_alloc_success",
		[BERTH_EVENT_CMA_FAIL] = "cma_alloc_fail",
		[BERTH_EVENT_CMA_RELEASE] = "cma_release_success",
		[BERTH_EVENT_CLAIM_DROP] = "claim_drop",
		[BERTH_EVENT_FALLBACK] = "fallback",
		[BERTH_EVENT_ALLOCSTALL] = "allocstall",
		[BERTH_EVENT_OOM] = "oom",
		[BERTH_EVENT_ALLOC_FAIL] = "alloc_fail",
	};

	return names[event];
}

void berth_zone_events(const struct berth_zone *zone, uint64_t events[BERTH_NR_EVENTS])
{
	for (unsigned event = 0; event < BERTH_NR_EVENTS; event++) {
		events[event] = 0;
		for (unsigned slot = 0; slot < zone->counter_mask + 2; slot++)
			events[event] += atomic_load_explicit(&zone->counters[slot].events[event],
							      memory_order_relaxed);
	}
}

/* ---- Histograms ------------------------------------------------------------------------------------ */

const char *berth_timing_name(enum berth_timing timing)
{
	static const char *const names[BERTH_NR_TIMINGS] = {
		[BERTH_TIMING_CLAIM] = "claim",
		[BERTH_TIMING_CLAIM_SEARCH] = "claim_search",
		[BERTH_TIMING_CLAIM_ISOLATE] = "claim_isolate",
		[BERTH_TIMING_CLAIM_DRAIN] = "claim_drain",
		[BERTH_TIMING_CLAIM_MIGRATE] = "claim_migrate",
		[BERTH_TIMING_CLAIM_FINISH] = "claim_finish",
		[BERTH_TIMING_COMPACT] = "compact",
		[BERTH_TIMING_RECLAIM] = "reclaim",
	};

	return names[timing];
}

void berth__timing_add(struct berth_zone *zone, enum berth_timing timing, uint64_t ns)
{
	struct berth__live_histogram *live;
	uint64_t max;

	if (!zone->timings)
		return;
	live = &zone->timings->of[timing];
	if (timing == BERTH_TIMING_CLAIM && berth_cpu_fast() % BERTH_CLAIM_TIMINGS)
		live = &zone->timings->of[BERTH_NR_TIMINGS - 1u +
					  berth_cpu_fast() % BERTH_CLAIM_TIMINGS];
	/* The maximum first: who sees the value in its bucket sees it there, too. */
	max = atomic_load_explicit(&live->max, memory_order_relaxed);
	while (max < ns &&
	       !atomic_compare_exchange_weak_explicit(&live->max, &max, ns, memory_order_relaxed,
						      memory_order_relaxed))
		;
	atomic_fetch_add_explicit(&live->sum, ns, memory_order_relaxed);
	atomic_fetch_add_explicit(&live->buckets[berth_histogram_bucket(ns)], 1,
				  memory_order_release);
}

static void add_live(struct berth_histogram *histogram, const struct berth__live_histogram *live)
{
	uint64_t max;

	for (unsigned i = 0; i < BERTH_HISTOGRAM_BUCKETS; i++) {
		uint64_t nr = atomic_load_explicit(&live->buckets[i], memory_order_acquire);

		histogram->buckets[i] += nr;
		histogram->count += nr;
	}
	histogram->sum += atomic_load_explicit(&live->sum, memory_order_relaxed);
	max = atomic_load_explicit(&live->max, memory_order_relaxed);
	if (max > histogram->max)
		histogram->max = max;
}

int berth_zone_histogram(struct berth_zone *zone, enum berth_timing timing,
			 struct berth_histogram *histogram)
{
	__builtin_memset(histogram, 0, sizeof(*histogram));
	if (!zone->timings)
		return -BERTH_ENOENT;
	add_live(histogram, &zone->timings->of[timing]);
	for (unsigned i = 1; timing == BERTH_TIMING_CLAIM && i < BERTH_CLAIM_TIMINGS; i++)
		add_live(histogram, &zone->timings->of[BERTH_NR_TIMINGS - 1u + i]);
	return 0;
}

void berth_histogram_merge(struct berth_histogram *to, const struct berth_histogram *from)
{
	to->count += from->count;
	to->sum += from->sum;
	if (to->max < from->max)
		to->max = from->max;
	for (unsigned i = 0; i < BERTH_HISTOGRAM_BUCKETS; i++)
		to->buckets[i] += from->buckets[i];
}

/* ceil(count * ppm / 10^6), without the product. */
static uint64_t rank_of(uint64_t count, uint32_t ppm)
{
	uint64_t rank;

	if (ppm >= 1000000u)
		return count;
	rank = count / 1000000u * ppm + (count % 1000000u * ppm + 999999u) / 1000000u;
	return rank ? rank : 1;
}

uint64_t berth_histogram_percentile(const struct berth_histogram *histogram, uint32_t ppm)
{
	uint64_t rank = rank_of(histogram->count, ppm), seen = 0, end;
	unsigned bucket = 0;

	if (!histogram->count || rank == histogram->count)
		return histogram->count ? histogram->max : 0;
	while (bucket < BERTH_HISTOGRAM_BUCKETS - 1 && (seen += histogram->buckets[bucket]) < rank)
		bucket++;
	end = bucket == BERTH_HISTOGRAM_BUCKETS - 1 ? UINT64_MAX :
						      berth_histogram_bucket_end(bucket);
	return end < histogram->max ? end : histogram->max;
}
