/* SPDX-License-Identifier: MIT */
/*
 * The page lists of a thread that has allocated much and does nothing any more: they shrink, once a second of the
 * pool's clock, while others use the pool. The clock is the test's.
 */
#define _GNU_SOURCE
#include "core/frames/pcp_fast.h"
#include "runtime/internal.h"
#include "tests/include/testpool.h"

#define AREA_BYTES (8 * MIB)
#define GROWN 256u            /* a limit that a list reaches in a pool of this size */
#define BATCH (GROWN / 2 - 1) /* what is left of one after the first pop */
#define SECOND 1000000000ull

static _Atomic uint64_t clock_ns;

static uint64_t test_now_ns(void *ctx)
{
	(void)ctx;
	return atomic_fetch_add(&clock_ns, 1); /* times aren't 0, but as good as nothing */
}

/* A thread that allocates unmovable frames until its list has grown and has many, and then stands still. What fails
 * in it, it only notes: a test fails in its own thread. */
struct idler {
	struct berth_zone *zone;
	pthread_t thread;
	pthread_barrier_t idle, end;
	bool there;
	int error;
	unsigned slot;
	uint32_t nr;
	berth_pfn_t pfns[8192];
};

static uint32_t most(const struct idler *idler)
{
	return berth__pcp_high(berth__pcp(idler->zone, idler->slot), BERTH_PCP_UNMOVABLE);
}

static uint32_t held(const struct idler *idler)
{
	return berth__pcp_count(berth__pcp(idler->zone, idler->slot), BERTH_PCP_UNMOVABLE);
}

static void *idler_run(void *argument)
{
	struct idler *idler = argument;

	idler->slot = berth_cpu();
	if (idler->slot == BERTH_CPU_NONE)
		idler->error = -BERTH_ENOSPC;
	while (!idler->error && idler->nr < ARRAY_SIZE(idler->pfns) &&
	       (most(idler) < GROWN || held(idler) < BATCH)) {
		idler->error = berth_alloc_pages(idler->zone, 0, BERTH_GFP_UNMOVABLE,
						 BERTH_OWNER_NONE, 0, &idler->pfns[idler->nr]);
		idler->nr += !idler->error;
	}
	pthread_barrier_wait(&idler->idle);
	pthread_barrier_wait(&idler->end);
	while (idler->nr) {
		int error = berth_free_pages(idler->zone, idler->pfns[--idler->nr]);

		idler->error = idler->error ? idler->error : error;
	}
	return NULL;
}

static void claim(struct berth_pool *pool, struct berth_claim_report *report)
{
	struct berth_buffer buffer;

	must(berth_claim(pool, "area", AREA_BYTES, NULL, &buffer, report));
	must(berth_release(pool, &buffer));
}

static void claim_two(struct berth_pool *pool, struct berth_claim_report *report)
{
	struct berth_buffer buffers[2];

	assert_int_equal(
		berth_claim_bulk(pool, "area", AREA_BYTES / 2, NULL, 2, 0, buffers, report), 2);
	must(berth_release_bulk(pool, buffers, 2));
}

static void claim_prepared(struct berth_pool *pool, struct berth_claim_report *report)
{
	const struct berth_claim_options plain = { 0 };
	struct berth_prepared *prepared;
	struct berth_buffer buffer;

	must(berth_prepare(pool, "area", AREA_BYTES, &plain, &prepared));
	must(berth_prepare_take(prepared, 10 * SECOND, &buffer, report));
	must(berth_release(pool, &buffer));
}

/* 8 MiB of memory that is lent out of the area are claimed, given back and unmapped: lists had to be emptied. */
static void claim_lent_memory(struct berth_pool *pool,
			      void (*how)(struct berth_pool *, struct berth_claim_report *))
{
	struct berth_claim_report report;
	void *memory = pool_map(pool, AREA_BYTES);

	pattern_fill(memory, AREA_BYTES, 1);
	how(pool, &report);
	assert_true(report.phase_ns[BERTH_PHASE_DRAIN] > 0);
	pattern_ok(memory, AREA_BYTES, 1);
	must(berth_unmap(pool, memory, AREA_BYTES));
}

static struct berth_pool *open_with_clock(struct berth_pool_impl **impl)
{
	const struct berth_area_params area = { "area", AREA_BYTES, BERTH_LEND_FIRST };
	const struct berth_pool_params params = { .bytes = GIB, .areas = &area, .nr_areas = 1 };
	struct berth_pool *pool;

	must(berth_pool_open(&params, &pool));
	*impl = berth__enter(pool);
	assert_non_null(*impl);
	berth__leave(pool);
	atomic_store(&clock_ns, 100 * SECOND);
	(*impl)->port.now_ns = test_now_ns;
	return pool;
}

static void start(struct idler *idler, struct berth_zone *zone)
{
	*idler = (struct idler){ .zone = zone };
	assert_int_equal(pthread_barrier_init(&idler->idle, NULL, 2), 0);
	assert_int_equal(pthread_barrier_init(&idler->end, NULL, 2), 0);
	assert_int_equal(pthread_create(&idler->thread, NULL, idler_run, idler), 0);
	idler->there = true;
	pthread_barrier_wait(&idler->idle);
	must(idler->error);
	assert_true(most(idler) >= GROWN);
	assert_true(held(idler) >= BATCH);
}

static void end(struct idler *idler)
{
	pthread_barrier_wait(&idler->end);
	pthread_join(idler->thread, NULL);
	idler->there = false;
	pthread_barrier_destroy(&idler->idle);
	pthread_barrier_destroy(&idler->end);
}

static struct idler idler;

/* A case that failed has left it behind. */
static int end_what_is_there(void **state)
{
	(void)state;
	if (idler.there)
		end(&idler);
	return 0;
}

/* Seconds pass, and `visit` comes by once in each: the list goes down to its minimum. */
static void shrinks_by_seconds(struct berth_pool *pool, struct berth_pool_impl *impl,
			       void (*visit)(struct berth_pool *, struct berth_pool_impl *))
{
	const uint32_t least = impl->zone->pcp_min[BERTH_PCP_UNMOVABLE];
	uint32_t high, count;

	start(&idler, impl->zone);
	high = most(&idler);
	count = held(&idler);
	assert_true(least < high);
	/* The first has seen that the list was used, the others come too early. */
	for (unsigned i = 0; i < 4; i++) {
		visit(pool, impl);
		assert_int_equal(most(&idler), high);
		assert_int_equal(held(&idler), count);
	}
	while (high > least) {
		high = high / 2 > least ? high / 2 : least;
		atomic_fetch_add(&clock_ns, SECOND);
		visit(pool, impl);
		assert_int_equal(most(&idler), high);
		assert_true(held(&idler) <= high);
		visit(pool, impl);
		assert_int_equal(most(&idler), high);
		pool_ok(pool);
	}
	end(&idler);
	must(idler.error);
}

static void by_claim(struct berth_pool *pool, struct berth_pool_impl *impl)
{
	(void)impl;
	claim_lent_memory(pool, claim);
}

static void by_claims_in_bulk(struct berth_pool *pool, struct berth_pool_impl *impl)
{
	(void)impl;
	claim_lent_memory(pool, claim_two);
}

static void by_prepared_claim(struct berth_pool *pool, struct berth_pool_impl *impl)
{
	(void)impl;
	claim_lent_memory(pool, claim_prepared);
}

static void by_housekeeping(struct berth_pool *pool, struct berth_pool_impl *impl)
{
	(void)pool;
	berth__pool_age(impl);
}

static void claims_that_empty_lists_age_those_of_idle_threads(void **state)
{
	void (*const visits[])(struct berth_pool *, struct berth_pool_impl *) = {
		by_claim,
		by_claims_in_bulk,
		by_prepared_claim,
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(visits); i++) {
		struct berth_pool_impl *impl;
		struct berth_pool *pool = open_with_clock(&impl);

		shrinks_by_seconds(pool, impl, visits[i]);
		pool_close(pool);
	}
}

static void whoever_comes_by_ages_them_once_a_second(void **state)
{
	struct berth_pool_impl *impl;
	struct berth_pool *pool = open_with_clock(&impl);

	(void)state;
	shrinks_by_seconds(pool, impl, by_housekeeping);
	pool_close(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(claims_that_empty_lists_age_those_of_idle_threads,
					  end_what_is_there),
		cmocka_unit_test_teardown(whoever_comes_by_ages_them_once_a_second,
					  end_what_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
