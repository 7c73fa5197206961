/* SPDX-License-Identifier: MIT */
/*
 * Leases: memory that is used in place while it is locked, and taken by claims while it isn't.
 */
#include <berth/lease.h>
#include <berth/lru.h>

#include "testzone.h"

#define AREA_PAGES 1024u

struct tier {
	struct test_zone *tz;
	struct berth_leases *leases;
	struct berth_lease_params params;
	void *metadata;
	size_t metadata_bytes;
	struct berth_cma *area;
	uint64_t bitmap[AREA_PAGES / 64];
	char *memory;
};

static struct tier *tier_open(uint64_t max_locked_pages)
{
	struct tier *t = test_zalloc(1, sizeof(*t));
	struct berth_cma_params area = { .name = "area",
					 .nr_pages = AREA_PAGES,
					 .lend = BERTH_LEND_FIRST };

	t->tz = zone_open(.lru = true, .start_pfn = 0x1000, .nr_pages = 4096);
	area.start_pfn = 0x1000;
	area.bitmap = t->bitmap;
	assert_int_equal(berth_cma_declare(t->tz->zone, &area, &t->area), 0);
	t->memory = test_zalloc(4096, BERTH_PAGE_SIZE);
	t->params = (struct berth_lease_params){
		.zone = t->tz->zone,
		.name = "leases",
		.max_leases = 64,
		.max_locked_pages = max_locked_pages,
		.linear = t->memory,
		.linear_pfn = 0x1000,
		.port = &test_port_ops,
		.port_ctx = &t->tz->port,
	};
	t->metadata_bytes = berth_leases_metadata_size(&t->params);
	assert_int_equal(posix_memalign(&t->metadata, 64, t->metadata_bytes), 0);
	assert_int_equal(berth_leases_init(&t->leases, &t->params, t->metadata, t->metadata_bytes),
			 0);
	return t;
}

static void tier_verify(struct tier *t, const char *file, int line)
{
	struct berth_violation v = { 0 };

	test_zone_verify(t->tz, file, line);
	if (!berth_leases_check(t->leases, &v)) {
		print_error("leases check: %s at %#llx: value %#llx, expected %#llx\n", v.what,
			    (unsigned long long)v.where, (unsigned long long)v.value,
			    (unsigned long long)v.expected);
		_fail(file, line);
	}
}
#define tier_ok(t) tier_verify(t, __FILE__, __LINE__)

static struct berth_lease_stats stats_of(struct tier *t)
{
	struct berth_lease_stats stats;

	berth_lease_stats(t->leases, &stats);
	return stats;
}

static void tier_close(struct tier *t)
{
	tier_ok(t);
	assert_int_equal(stats_of(t).nr_leases, 0);
	assert_int_equal(stats_of(t).leased_pages, 0);
	assert_int_equal(stats_of(t).locked_pages, 0);
	berth_lru_add_drain_all(t->tz->zone);
	zone_close(t->tz);
	free(t->metadata);
	free(t->memory);
	free(t);
}

static berth_lease_t create(struct tier *t, uint64_t nr_pages, const char *name)
{
	berth_lease_t lease = 0;

	assert_int_equal(berth_lease_create(t->leases, nr_pages, name, &lease), 0);
	assert_int_not_equal(lease, 0);
	return lease;
}

static char *at(struct tier *t, berth_pfn_t pfn)
{
	return t->memory + (pfn - 0x1000) * BERTH_PAGE_SIZE;
}

/* Writes into a lease. */
static berth_pfn_t fill(struct tier *t, berth_lease_t lease, uint64_t nr_pages, char value)
{
	berth_pfn_t pfn;

	assert_int_equal(berth_lease_lock(t->leases, lease, &pfn), 0);
	memset(at(t, pfn), value, nr_pages * BERTH_PAGE_SIZE);
	assert_int_equal(berth_lease_unlock(t->leases, lease), 0);
	return pfn;
}

static void expect(struct tier *t, berth_lease_t lease, uint64_t nr_pages, char value)
{
	berth_pfn_t pfn;

	assert_int_equal(berth_lease_lock(t->leases, lease, &pfn), 0);
	for (uint64_t i = 0; i < nr_pages * BERTH_PAGE_SIZE; i++)
		assert_int_equal(at(t, pfn)[i], value);
	assert_int_equal(berth_lease_unlock(t->leases, lease), 0);
}

static int claim(struct tier *t, uint64_t nr_pages, berth_pfn_t *pfn,
		 struct berth_claim_report *report)
{
	struct berth_claim_params params = { .nr_pages = nr_pages };

	return berth_cma_alloc(t->area, &params, pfn, report);
}

static void test_lock_and_unlock(void **state)
{
	struct tier *t = tier_open(64);
	berth_lease_t a = create(t, 16, "a"), b = create(t, 5, NULL);
	berth_pfn_t pfn, again;

	(void)state;
	fill(t, a, 16, 1);
	fill(t, b, 5, 2);
	expect(t, a, 16, 1);
	expect(t, b, 5, 2);
	assert_int_equal(berth_lease_lock(t->leases, a, &pfn), 0);
	assert_int_equal(berth_lease_lock(t->leases, a, &again), 0);
	assert_int_equal(pfn, again);
	assert_int_equal(stats_of(t).locked_pages, 16);
	assert_int_equal(berth_lease_free(t->leases, a), -BERTH_EBUSY);
	assert_int_equal(berth_lease_unlock(t->leases, a), 0);
	assert_true(berth_page_pinned(t->tz->zone, pfn));
	assert_int_equal(berth_lease_unlock(t->leases, a), 0);
	assert_false(berth_page_pinned(t->tz->zone, pfn));
	assert_int_equal(berth_lease_unlock(t->leases, a), -BERTH_EINVAL);
	tier_ok(t);
	assert_int_equal(berth_lease_free(t->leases, a), 0);
	assert_int_equal(berth_lease_free(t->leases, a), -BERTH_EINVAL);
	assert_int_equal(berth_lease_lock(t->leases, a, &pfn), -BERTH_EINVAL);
	assert_int_equal(berth_lease_free(t->leases, b), 0);
	/* The record is another lease's now, and the old handle doesn't fit. */
	b = create(t, 1, "again");
	assert_int_equal(berth_lease_unlock(t->leases, a), -BERTH_EINVAL);
	assert_int_equal(berth_lease_free(t->leases, b), 0);
	tier_close(t);
}

/* Beyond the limit nothing can be locked, so claims find something to take. */
static void test_limit(void **state)
{
	struct tier *t = tier_open(20);
	berth_lease_t a = create(t, 16, "a"), b = create(t, 8, "b");
	berth_pfn_t pfn;

	(void)state;
	assert_int_equal(berth_lease_lock(t->leases, a, &pfn), 0);
	assert_int_equal(berth_lease_lock(t->leases, b, &pfn), -BERTH_ENOSPC);
	assert_int_equal(stats_of(t).refused, 1);
	assert_int_equal(berth_lease_lock(t->leases, a, &pfn), 0); /* no page more */
	assert_int_equal(berth_lease_unlock(t->leases, a), 0);
	assert_int_equal(berth_lease_unlock(t->leases, a), 0);
	assert_int_equal(berth_lease_lock(t->leases, b, &pfn), 0);
	assert_int_equal(berth_lease_unlock(t->leases, b), 0);
	tier_ok(t);
	assert_int_equal(berth_lease_free(t->leases, a), 0);
	assert_int_equal(berth_lease_free(t->leases, b), 0);
	tier_close(t);
}

/* A claim of all takes all leases that aren't locked, and moves nothing. */
static void test_a_claim_takes(void **state)
{
	struct tier *t = tier_open(1024);
	struct berth_claim_report report;
	berth_lease_t leases[32];
	berth_pfn_t pfn, where;
	unsigned lost = 0;

	(void)state;
	for (unsigned i = 0; i < 32; i++) {
		leases[i] = create(t, 32, "lease");
		fill(t, leases[i], 32, (char)i);
	}
	assert_int_equal(claim(t, AREA_PAGES, &pfn, &report), 0);
	assert_int_equal(report.moved_pages, 0);
	tier_ok(t);
	for (unsigned i = 0; i < 32; i++) {
		int error = berth_lease_lock(t->leases, leases[i], &where);

		lost += error == -BERTH_ENOENT;
		if (!error)
			assert_int_equal(berth_lease_unlock(t->leases, leases[i]), 0);
	}
	assert_int_equal(lost, 32); /* they were all in the area, which lends first */
	assert_int_equal(stats_of(t).lost, 32);
	assert_int_equal(stats_of(t).nr_lost_now, 32);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(berth_lease_free(t->leases, leases[i]), 0);
	assert_int_equal(berth_cma_release(t->area, pfn, AREA_PAGES), 0);
	tier_close(t);
}

/* A locked lease is in the way, and is named; a claim that fits elsewhere goes there. */
static void test_a_claim_avoids_what_is_locked(void **state)
{
	struct tier *t = tier_open(64);
	berth_lease_t free_one = create(t, 16, "free"), held = create(t, 16, "grabber");
	struct berth_claim_report report;
	berth_pfn_t pfn, where;

	(void)state;
	fill(t, free_one, 16, 7);
	assert_int_equal(berth_lease_lock(t->leases, held, &where), 0);
	memset(at(t, where), 9, 16 * BERTH_PAGE_SIZE);
	assert_in_range(where, 0x1000, 0x1000 + AREA_PAGES - 1);
	assert_int_equal(claim(t, AREA_PAGES, &pfn, &report), -BERTH_EBUSY);
	assert_non_null(report.blocker_holder);
	assert_string_equal(report.blocker_holder, "grabber");
	expect(t, free_one, 16, 7); /* it wasn't taken in vain */
	assert_int_equal(claim(t, AREA_PAGES / 2, &pfn, &report), 0);
	assert_true(where + 16 <= pfn || where >= pfn + AREA_PAGES / 2);
	for (unsigned i = 0; i < 16 * BERTH_PAGE_SIZE; i++)
		assert_int_equal(at(t, where)[i], 9);
	assert_int_equal(berth_cma_release(t->area, pfn, AREA_PAGES / 2), 0);
	assert_int_equal(berth_lease_unlock(t->leases, held), 0);
	assert_int_equal(claim(t, AREA_PAGES, &pfn, &report), 0);
	assert_int_equal(berth_lease_lock(t->leases, held, &where), -BERTH_ENOENT);
	assert_int_equal(berth_lease_free(t->leases, held), 0);
	assert_int_equal(berth_lease_free(t->leases, free_one), 0);
	assert_int_equal(berth_cma_release(t->area, pfn, AREA_PAGES), 0);
	tier_close(t);
}

/* A claim of a part of a lease takes the lease; what is left of it is given back by its holder. */
static void test_a_part_is_taken(void **state)
{
	struct tier *t = tier_open(512);
	berth_lease_t lease = create(t, 256, "large");
	struct berth_claim_params params = { .nr_pages = 4 };
	berth_pfn_t pfn, where = fill(t, lease, 256, 3);

	(void)state;
	params.min_pfn = where + 100;
	params.max_pfn = where + 103;
	assert_int_equal(berth_cma_alloc(t->area, &params, &pfn, NULL), 0);
	assert_int_equal(pfn, where + 100);
	tier_ok(t);
	assert_int_equal(berth_lease_lock(t->leases, lease, &where), -BERTH_ENOENT);
	assert_int_equal(stats_of(t).leased_pages, 252);
	assert_int_equal(berth_lease_free(t->leases, lease), 0);
	tier_ok(t);
	assert_int_equal(berth_cma_release(t->area, pfn, 4), 0);
	tier_close(t);
}

static void test_reclaim_takes(void **state)
{
	struct tier *t = tier_open(64);
	berth_lease_t a = create(t, 16, "a"), b = create(t, 16, "b");
	berth_pfn_t pfn;

	(void)state;
	assert_int_equal(berth_lease_lock(t->leases, b, &pfn), 0);
	berth_lru_add_drain_all(t->tz->zone);
	assert_true(berth_zone_reclaim(t->tz->zone, 32, 0) >= 16);
	assert_int_equal(berth_lease_unlock(t->leases, b), 0);
	assert_int_equal(berth_lease_lock(t->leases, a, &pfn), -BERTH_ENOENT);
	assert_int_equal(berth_lease_lock(t->leases, b, &pfn), 0);
	assert_int_equal(berth_lease_unlock(t->leases, b), 0);
	tier_ok(t);
	assert_int_equal(berth_lease_free(t->leases, a), 0);
	assert_int_equal(berth_lease_free(t->leases, b), 0);
	tier_close(t);
}

/* Compaction moves whole leases with what they hold; a locked one stays. */
static void test_compaction_moves(void **state)
{
	struct tier *t = tier_open(1024);
	const struct berth_compact_params compact = { .order = 9,
						      .mode = BERTH_COMPACT_SYNC,
						      .flags = BERTH_COMPACT_WHOLE_ZONE |
							       BERTH_COMPACT_FORCE };
	berth_lease_t leases[64];
	berth_pfn_t held, pfn;

	(void)state;
	for (unsigned i = 0; i < 64; i++) {
		leases[i] = create(t, 16, "lease");
		fill(t, leases[i], 16, (char)i);
	}
	for (unsigned i = 0; i < 64; i += 2)
		assert_int_equal(berth_lease_free(t->leases, leases[i]), 0);
	assert_int_equal(berth_lease_lock(t->leases, leases[1], &held), 0);
	berth_lru_add_drain_all(t->tz->zone);
	(void)!berth_compact(t->tz->zone, &compact, NULL);
	assert_true(stats_of(t).moved > 0);
	assert_int_equal(stats_of(t).lost, 0);
	tier_ok(t);
	for (unsigned i = 1; i < 64; i += 2)
		expect(t, leases[i], 16, (char)i);
	assert_int_equal(berth_lease_lock(t->leases, leases[1], &pfn), 0);
	assert_int_equal(pfn, held);
	assert_int_equal(berth_lease_unlock(t->leases, leases[1]), 0);
	assert_int_equal(berth_lease_unlock(t->leases, leases[1]), 0);
	for (unsigned i = 1; i < 64; i += 2)
		assert_int_equal(berth_lease_free(t->leases, leases[i]), 0);
	tier_close(t);
}

static void test_bad_arguments(void **state)
{
	struct tier *t = tier_open(64);
	struct test_zone *plain = zone_open(.lru = false);
	struct berth_lease_params bad = t->params;
	struct berth_leases *leases = NULL;
	void *metadata = NULL;
	berth_lease_t lease, many[64];
	berth_pfn_t pfn;

	(void)state;
	bad.max_leases = 0;
	assert_int_equal(berth_leases_metadata_size(&bad), 0);
	bad = t->params;
	bad.zone = plain->zone;
	assert_int_equal(posix_memalign(&metadata, 64, t->metadata_bytes), 0);
	assert_int_equal(berth_leases_init(&leases, &bad, metadata, t->metadata_bytes),
			 -BERTH_EINVAL);
	assert_int_equal(berth_leases_init(&leases, &t->params, metadata, t->metadata_bytes - 1),
			 -BERTH_EINVAL);
	assert_null(leases);
	assert_int_equal(berth_lease_create(t->leases, 0, "x", &lease), -BERTH_EINVAL);
	assert_int_equal(berth_lease_create(t->leases, 513, "x", &lease), -BERTH_EINVAL);
	assert_int_equal(berth_lease_create(t->leases, 1, "x", NULL), -BERTH_EINVAL);
	assert_int_equal(berth_lease_lock(t->leases, 0, &pfn), -BERTH_EINVAL);
	assert_int_equal(berth_lease_lock(t->leases, UINT64_MAX, &pfn), -BERTH_EINVAL);
	assert_int_equal(berth_lease_unlock(t->leases, 1), -BERTH_EINVAL);
	for (unsigned i = 0; i < 64; i++)
		many[i] = create(t, 1, "many");
	assert_int_equal(berth_lease_create(t->leases, 1, "x", &lease), -BERTH_ENOSPC);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(berth_lease_free(t->leases, many[i]), 0);
	/* No memory: nothing is left of the attempt. */
	for (unsigned i = 0; i < 8; i++)
		many[i] = create(t, 512, "large");
	assert_int_equal(berth_lease_create(t->leases, 512, "x", &lease), -BERTH_ENOMEM);
	tier_ok(t);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(berth_lease_free(t->leases, many[i]), 0);
	free(metadata);
	zone_close(plain);
	tier_close(t);
}

/* Random operations: what is locked never changes, what isn't lost is as it was. */
static void test_at_random(void **state)
{
	struct tier *t = tier_open(256);
	uint64_t random = 5, kept = 0, lost = 0;
	struct {
		berth_lease_t lease;
		uint64_t nr_pages;
		berth_pfn_t locked_at;
		bool locked;
		char value;
	} all[24] = { { 0 } };
	berth_pfn_t claimed = 0;
	uint64_t claimed_pages = 0;

	(void)state;
	for (unsigned n = 0; n < 6000 / TEST_SLOWDOWN; n++) {
		unsigned i = (unsigned)test_random_below(&random, 24);
		uint64_t op = test_random_below(&random, 8);
		berth_pfn_t pfn;

		if (op == 0 && claimed_pages) {
			assert_int_equal(berth_cma_release(t->area, claimed, claimed_pages), 0);
			claimed_pages = 0;
		} else if (op == 0) {
			claimed_pages = 1 + test_random_below(&random, AREA_PAGES / 2);
			if (claim(t, claimed_pages, &claimed, NULL) != 0)
				claimed_pages = 0;
			else
				memset(at(t, claimed), 0x77, claimed_pages * BERTH_PAGE_SIZE);
		} else if (!all[i].lease) {
			all[i].nr_pages = 1 + test_random_below(&random, 64);
			if (berth_lease_create(t->leases, all[i].nr_pages, "random",
					       &all[i].lease) != 0) {
				all[i].lease = 0;
				continue;
			}
			all[i].value = (char)n;
			if (berth_lease_lock(t->leases, all[i].lease, &pfn) != 0) {
				assert_int_equal(berth_lease_free(t->leases, all[i].lease), 0);
				all[i].lease = 0;
				continue;
			}
			memset(at(t, pfn), all[i].value, all[i].nr_pages * BERTH_PAGE_SIZE);
			assert_int_equal(berth_lease_unlock(t->leases, all[i].lease), 0);
		} else if (all[i].locked) {
			for (uint64_t k = 0; k < all[i].nr_pages * BERTH_PAGE_SIZE; k += 512)
				assert_int_equal(at(t, all[i].locked_at)[k], all[i].value);
			assert_int_equal(berth_lease_unlock(t->leases, all[i].lease), 0);
			all[i].locked = false;
		} else if (op < 6) {
			int error = berth_lease_lock(t->leases, all[i].lease, &pfn);

			kept += !error;
			lost += error == -BERTH_ENOENT;
			if (!error) {
				for (uint64_t k = 0; k < all[i].nr_pages * BERTH_PAGE_SIZE;
				     k += 512)
					assert_int_equal(at(t, pfn)[k], all[i].value);
				all[i].locked = true;
				all[i].locked_at = pfn;
			}
		} else {
			assert_int_equal(berth_lease_free(t->leases, all[i].lease), 0);
			all[i].lease = 0;
		}
		if (n % 16 == 0)
			tier_ok(t);
	}
	assert_true(kept > 100 / TEST_SLOWDOWN && lost > 50 / TEST_SLOWDOWN);
	for (unsigned i = 0; i < 24; i++) {
		if (all[i].locked)
			assert_int_equal(berth_lease_unlock(t->leases, all[i].lease), 0);
		if (all[i].lease)
			assert_int_equal(berth_lease_free(t->leases, all[i].lease), 0);
	}
	if (claimed_pages)
		assert_int_equal(berth_cma_release(t->area, claimed, claimed_pages), 0);
	tier_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lock_and_unlock),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_a_claim_takes),
		cmocka_unit_test(test_a_claim_avoids_what_is_locked),
		cmocka_unit_test(test_a_part_is_taken),
		cmocka_unit_test(test_reclaim_takes),
		cmocka_unit_test(test_compaction_moves),
		cmocka_unit_test(test_bad_arguments),
		cmocka_unit_test(test_at_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
