/* SPDX-License-Identifier: MIT */
/*
 * Counters and histograms are read while threads allocate, free, drain and claim: nothing ever falls, and
 * when all is over the counters add up.
 *
 *	BERTH_SEED=n   of the threads' operations
 */
#include <pthread.h>
#include <sched.h>

#include <berth/stats.h>

#include "port/linux/port_linux.h"
#include "tests/include/testthreads.h"
#include "tests/include/testzone.h"

#define ZONE_PAGES 8192u
#define AREA_PAGES 2048u
#define NR_WORKERS 3u
#define NR_READERS 2u
#define HELD 300u
#define NR_READS 300u

struct worker {
	struct test_zone *tz;
	struct berth_cma *area; /* NULL: allocates */
	uint64_t random, nr_claims;
	pthread_t thread;
};

static atomic_bool stop;
static atomic_uint_fast64_t nr_done;

static void *allocate(void *arg)
{
	struct worker *w = arg;
	berth_pfn_t held[HELD];
	unsigned nr = 0;

	while (!atomic_load(&stop)) {
		if (nr < HELD && test_random_below(&w->random, 2)) {
			unsigned order = test_random_below(&w->random, 8) ? 0 : 3;

			nr += berth_alloc_pages(w->tz->zone, order, 0, 0, 0, &held[nr]) == 0;
		} else if (nr) {
			unsigned i = (unsigned)test_random_below(&w->random, nr);

			require_ret("free", berth_free_pages(w->tz->zone, held[i]), 0);
			held[i] = held[--nr];
		}
		atomic_fetch_add_explicit(&nr_done, 1, memory_order_relaxed);
	}
	while (nr)
		require_ret("free at the end", berth_free_pages(w->tz->zone, held[--nr]), 0);
	return NULL;
}

static void *claim(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&stop)) {
		struct berth_claim_params params = {
			.nr_pages = 1 + test_random_below(&w->random, AREA_PAGES),
		};
		berth_pfn_t pfn;

		if (berth_cma_alloc(w->area, &params, &pfn, NULL) == 0) {
			w->nr_claims++;
			require_ret("release", berth_cma_release(w->area, pfn, params.nr_pages), 0);
		}
		berth_pcp_drain_all(w->tz->zone);
		atomic_fetch_add_explicit(&nr_done, 1, memory_order_relaxed);
	}
	return NULL;
}

static void *read_stats(void *arg)
{
	struct worker *w = arg;
	uint64_t events[BERTH_NR_EVENTS], last[BERTH_NR_EVENTS] = { 0 }, last_count = 0;
	struct berth_histogram h;

	for (unsigned i = 0; i < NR_READS; i++) {
		berth_zone_events(w->tz->zone, events);
		for (unsigned event = 0; event < BERTH_NR_EVENTS; event++) {
			require(events[event] >= last[event], "an event was taken back", event);
			last[event] = events[event];
		}
		require_ret("no histogram",
			    berth_zone_histogram(w->tz->zone, BERTH_TIMING_CLAIM, &h), 0);
		require(h.count >= last_count, "a histogram lost a value", h.count);
		last_count = h.count;
		require(berth_histogram_percentile(&h, 500000) <=
				berth_histogram_percentile(&h, 990000),
			"p50 is above p99", h.count);
		require(berth_histogram_percentile(&h, 990000) <= h.max, "p99 is above max", h.max);
		sched_yield();
	}
	return NULL;
}

static void statistics_are_read_while_they_grow(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES, .nr_cpus = 4, .histograms = true,
					 .port = berth_port_linux_ops());
	struct berth_cma *area = area_declare(tz, "area", 2048, AREA_PAGES, 0, BERTH_LEND_FIRST);
	uint64_t seed = test_env("BERTH_SEED", 1);
	struct worker workers[NR_WORKERS + NR_READERS] = { { 0 } };
	uint64_t events[BERTH_NR_EVENTS];
	struct berth_histogram h;

	(void)state;
	print_message("# seed %llu\n", (unsigned long long)seed);
	for (unsigned i = 0; i < NR_WORKERS + NR_READERS; i++) {
		workers[i] = (struct worker){ .tz = tz, .area = area, .random = seed + i };
		assert_int_equal(pthread_create(&workers[i].thread, NULL,
						i >= NR_WORKERS ? read_stats :
						i == 0          ? claim :
								  allocate,
						&workers[i]),
				 0);
	}
	for (unsigned i = NR_WORKERS; i < NR_WORKERS + NR_READERS; i++)
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
	while (atomic_load(&nr_done) < 10000) /* the readers may have been quicker */
		sched_yield();
	atomic_store(&stop, true);
	for (unsigned i = 0; i < NR_WORKERS; i++)
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
	berth_zone_events(tz->zone, events);
	assert_int_equal(events[BERTH_EVENT_PGALLOC] - events[BERTH_EVENT_PGFREE],
			 zone_stats(tz).pcp_pages);
	assert_true(events[BERTH_EVENT_PGALLOC] > 0);
	assert_int_equal(events[BERTH_EVENT_CMA_SUCCESS], workers[0].nr_claims);
	assert_int_equal(events[BERTH_EVENT_CMA_RELEASE], workers[0].nr_claims);
	assert_int_equal(berth_zone_histogram(tz->zone, BERTH_TIMING_CLAIM, &h), 0);
	assert_int_equal(h.count, workers[0].nr_claims);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(statistics_are_read_while_they_grow),
	};

	return cmocka_run_group_tests_name("stats_threads", tests, NULL, NULL);
}
