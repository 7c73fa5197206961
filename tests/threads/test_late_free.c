/* SPDX-License-Identifier: MIT */
/*
 * Reserved frames are freed late while threads allocate, free and claim in the same pageblocks.
 *
 *	BERTH_SEED=n   the order of the late frees and of the threads' operations
 */
#include <pthread.h>
#include <sched.h>

#include <berth/memblock.h>

#include "port/linux/port_linux.h"
#include "tests/include/testthreads.h"
#include "tests/include/testzone.h"

#define ZONE_PAGES 8192u
#define PIECE_PAGES 16u /* every second piece is reserved at first */
#define NR_WORKERS 3u
#define HELD 64u

struct worker {
	struct berth_zone *zone;
	uint64_t random;
	atomic_bool *stop;
	atomic_uint_fast64_t nr_done;
	pthread_t thread;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	berth_pfn_t held[HELD];
	unsigned nr = 0;

	while (!atomic_load(w->stop)) {
		if (nr < HELD && test_random_below(&w->random, 2)) {
			unsigned order = (unsigned)test_random_below(&w->random, 4);

			if (berth_alloc_pages(w->zone, order, 0, BERTH_OWNER_NONE, 0, &held[nr]))
				continue;
			nr++;
			atomic_fetch_add(&w->nr_done, 1);
		} else if (nr) {
			unsigned i = (unsigned)test_random_below(&w->random, nr);

			require_ret("free", berth_free_pages(w->zone, held[i]), 0);
			held[i] = held[--nr];
		}
	}
	while (nr)
		require_ret("free at the end", berth_free_pages(w->zone, held[--nr]), 0);
	return NULL;
}

/* Claims what happens to be free; ranges with reserved frames are no range for a claim. */
static void *claim(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(w->stop)) {
		struct berth_claim_params params = { .nr_pages = 1 +
								 test_random_below(&w->random, 40),
						     .flags = BERTH_CLAIM_FREE_ONLY };
		berth_pfn_t pfn = test_random_below(&w->random, ZONE_PAGES - 40);
		int error = berth_alloc_contig_range(w->zone, pfn, params.nr_pages, &params, NULL);

		if (!error) {
			require_ret("free a claim",
				    berth_free_contig_range(w->zone, pfn, params.nr_pages), 0);
			atomic_fetch_add(&w->nr_done, 1);
		}
		sched_yield();
	}
	return NULL;
}

static void late_frees_beside_allocations_and_claims(void **state)
{
	static struct berth_memblock_region memory[1], reserved[ZONE_PAGES / PIECE_PAGES];
	struct berth_memblock_params params = { .memory = memory,
						.reserved = reserved,
						.max_memory = 1,
						.max_reserved = ARRAY_SIZE(reserved) };
	struct test_zone *tz = zone_open_empty(.nr_pages = ZONE_PAGES, .nr_cpus = 4,
					       .port = berth_port_linux_ops());
	static struct worker workers[NR_WORKERS];
	uint64_t random = test_env("BERTH_SEED", 1);
	berth_pfn_t pieces[ZONE_PAGES / PIECE_PAGES / 2];
	struct berth_memblock mb;
	atomic_bool stop = false;

	(void)state;
	print_message("# seed %llu\n", (unsigned long long)random);
	assert_int_equal(berth_memblock_init(&mb, &params), 0);
	assert_int_equal(berth_memblock_add(&mb, 0, ZONE_PAGES * 4096ull, 0, 0), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
		pieces[i] = 2ull * i * PIECE_PAGES;
		assert_int_equal(berth_memblock_reserve(&mb, pieces[i] * 4096, PIECE_PAGES * 4096),
				 0);
	}
	test_shuffle(&random, pieces, ARRAY_SIZE(pieces));
	assert_int_equal(berth_memblock_hand_over(&mb, tz->zone, BERTH_MEMBLOCK_ANY_NODE), 0);
	assert_int_equal(zone_stats(tz).managed_pages, ZONE_PAGES / 2);
	for (unsigned i = 0; i < NR_WORKERS; i++) {
		workers[i].zone = tz->zone;
		workers[i].random = random + i + 1;
		workers[i].stop = &stop;
		assert_int_equal(
			pthread_create(&workers[i].thread, NULL, i ? work : claim, &workers[i]), 0);
	}
	for (unsigned i = 0; i < NR_WORKERS; i++) /* until all are at it */
		while (!atomic_load(&workers[i].nr_done))
			sched_yield();
	for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
		assert_int_equal(berth_memblock_free_late(&mb, tz->zone, pieces[i] * 4096,
							  PIECE_PAGES * 4096),
				 0);
		assert_int_equal(zone_stats(tz).managed_pages,
				 ZONE_PAGES / 2 + (i + 1) * PIECE_PAGES);
		assert_int_equal(berth_memblock_free_late(&mb, tz->zone, pieces[i] * 4096,
							  PIECE_PAGES * 4096),
				 -BERTH_EINVAL);
		for (unsigned k = 0; k < 20; k++)
			sched_yield();
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < NR_WORKERS; i++)
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
	berth_pcp_drain_all(tz->zone);
	assert_int_equal(zone_stats(tz).free_pages, ZONE_PAGES);
	assert_int_equal(mb.reserved.nr, 0);
	assert_all_merged(tz);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(late_frees_beside_allocations_and_claims),
	};

	return cmocka_run_group_tests_name("late_free", tests, NULL, NULL);
}
