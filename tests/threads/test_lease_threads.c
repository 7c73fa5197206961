/* SPDX-License-Identifier: MIT */
/*
 * Leases that real threads lock, use, unlock, lose and free while others claim their area, reclaim and compact: what is
 * locked keeps its place and contents, a claim's bytes stay as they are, and in the end nothing is missing.
 *
 *	BERTH_THREADS=n       holders, 4 by default
 *	BERTH_THREADS_OPS=n   operations of each
 */
#include <pthread.h>

#include <berth/lease.h>
#include <berth/lru.h>

#include "port/linux/port_linux.h"
#include "tests/include/testthreads.h"
#include "tests/include/testzone.h"

#define MAX_HOLDERS 24u
#define OWN 12u
#define MAX_PAGES 32u
#define ZONE_PAGES 4096u
#define AREA_PAGES 1024u
#define START 0x1000u
#define WORDS (BERTH_PAGE_SIZE / 8)

struct tier {
	struct test_zone *tz;
	struct berth_leases *leases;
	struct berth_cma *area;
	uint64_t bitmap[AREA_PAGES / 64];
	uint64_t *memory;
	uint64_t nr_ops;
	/* One that everybody locks at once. */
	berth_lease_t shared;
	_Atomic bool ended;
	_Atomic uint64_t nr_locks, nr_lost, nr_shared, nr_claims;
};

struct holder {
	struct tier *tier;
	unsigned id;
	uint64_t random;
	pthread_t thread;
};

static uint64_t *page_at(struct tier *t, berth_pfn_t pfn)
{
	return t->memory + (pfn - START) * WORDS;
}

static void write_pages(struct tier *t, berth_pfn_t pfn, uint64_t nr_pages, uint64_t value)
{
	for (uint64_t i = 0; i < nr_pages; i++)
		for (unsigned k = 0; k < WORDS; k += 64)
			page_at(t, pfn + i)[k] = value + i * WORDS + k;
}

static void look(struct tier *t, berth_pfn_t pfn, uint64_t nr_pages, uint64_t value)
{
	for (uint64_t i = 0; i < nr_pages; i++)
		for (unsigned k = 0; k < WORDS; k += 64)
			require(page_at(t, pfn + i)[k] == value + i * WORDS + k,
				"contents are wrong", page_at(t, pfn + i)[k]);
}

/* ---- Holders ------------------------------------------------------------------------------------- */

struct own {
	berth_lease_t handle;
	uint64_t nr_pages, value;
};

static void give_up(struct tier *t, struct own *own)
{
	require(berth_lease_free(t->leases, own->handle) == 0, "a free", own->handle);
	own->handle = 0;
}

static void make(struct holder *h, struct own *own)
{
	struct tier *t = h->tier;
	berth_pfn_t pfn;

	/* Compaction moves those that are a power of two. */
	own->nr_pages = test_random_below(&h->random, 2) ?
				1 + test_random_below(&h->random, MAX_PAGES) :
				1ull << test_random_below(&h->random, 6);
	own->value = test_random_below(&h->random, UINT64_C(1) << 40) << 20;
	if (berth_lease_create(t->leases, own->nr_pages, "holder", &own->handle) != 0) {
		own->handle = 0;
		return;
	}
	if (berth_lease_lock(t->leases, own->handle, &pfn) != 0) {
		give_up(t, own);
		return;
	}
	write_pages(t, pfn, own->nr_pages, own->value);
	require(berth_lease_unlock(t->leases, own->handle) == 0, "an unlock", own->handle);
}

static void use_own(struct holder *h, struct own *own)
{
	struct tier *t = h->tier;
	berth_pfn_t pfn;
	int error = berth_lease_lock(t->leases, own->handle, &pfn);

	if (error == -BERTH_ENOENT) {
		atomic_fetch_add(&t->nr_lost, 1);
		give_up(t, own);
		return;
	}
	if (error) {
		require(error == -BERTH_ENOSPC || error == -BERTH_EBUSY, "a lock",
			(uint64_t)(int64_t)error);
		return;
	}
	look(t, pfn, own->nr_pages, own->value);
	own->value ^= UINT64_C(1) << 50;
	write_pages(t, pfn, own->nr_pages, own->value);
	look(t, pfn, own->nr_pages, own->value);
	require(berth_lease_unlock(t->leases, own->handle) == 0, "an unlock", own->handle);
	atomic_fetch_add(&t->nr_locks, 1);
}

/* Locked by many, read by all. */
static void use_shared(struct holder *h)
{
	struct tier *t = h->tier;
	berth_pfn_t pfn;

	if (berth_lease_lock(t->leases, t->shared, &pfn) != 0)
		return;
	look(t, pfn, 4, 0x5a0000);
	require(berth_lease_unlock(t->leases, t->shared) == 0, "an unlock", t->shared);
	atomic_fetch_add(&t->nr_shared, 1);
}

static void *hold(void *arg)
{
	struct holder *h = arg;
	struct own owned[OWN] = { { 0 } };

	test_set_cpu(h->id);
	for (uint64_t i = 0; i < h->tier->nr_ops; i++) {
		struct own *own = &owned[test_random_below(&h->random, OWN)];

		if (!own->handle)
			make(h, own);
		else if (test_random_below(&h->random, 16) == 0)
			give_up(h->tier, own);
		else
			use_own(h, own);
		if (i % 4 == 0)
			use_shared(h);
	}
	for (unsigned i = 0; i < OWN; i++)
		if (owned[i].handle)
			give_up(h->tier, &owned[i]);
	return NULL;
}

/* ---- Those who are against them ------------------------------------------------------------------ */

static void *claim(void *arg)
{
	struct holder *h = arg;
	struct tier *t = h->tier;

	test_set_cpu(h->id);
	while (!atomic_load(&t->ended)) {
		struct berth_claim_params params = {
			.nr_pages = 1 + test_random_below(&h->random, AREA_PAGES / 2)
		};
		berth_pfn_t pfn;

		if (berth_cma_alloc(t->area, &params, &pfn, NULL) != 0)
			continue;
		write_pages(t, pfn, params.nr_pages, 0xc1a10000);
		look(t, pfn, params.nr_pages, 0xc1a10000);
		require(berth_cma_release(t->area, pfn, params.nr_pages) == 0, "a release", pfn);
		atomic_fetch_add(&t->nr_claims, 1);
	}
	return NULL;
}

static void *disturb(void *arg)
{
	const struct berth_compact_params params = { .order = 9,
						     .mode = BERTH_COMPACT_SYNC,
						     .flags = BERTH_COMPACT_WHOLE_ZONE |
							      BERTH_COMPACT_FORCE };
	struct holder *h = arg;
	struct tier *t = h->tier;

	test_set_cpu(h->id);
	while (!atomic_load(&t->ended)) {
		(void)berth_zone_reclaim(t->tz->zone, 1 + test_random_below(&h->random, 16), 0);
		berth_lru_add_drain_all(t->tz->zone);
		(void)!berth_compact(t->tz->zone, &params, NULL);
	}
	return NULL;
}

/* ---- Runs ---------------------------------------------------------------------------------------- */

static void open_tier(struct tier *t, void **metadata)
{
	struct berth_cma_params area = { .name = "area",
					 .start_pfn = START,
					 .nr_pages = AREA_PAGES,
					 .lend = BERTH_LEND_FIRST,
					 .bitmap = t->bitmap };
	struct berth_lease_params params = { .name = "leases",
					     .max_leases = MAX_HOLDERS * OWN + 1,
					     .max_locked_pages = 512,
					     .linear_pfn = START };
	void *memory = NULL;
	size_t bytes;

	t->tz = zone_open(.lru = true, .start_pfn = START, .nr_pages = ZONE_PAGES,
			  .nr_cpus = MAX_HOLDERS + 2, .port = berth_port_linux_ops());
	assert_int_equal(berth_cma_declare(t->tz->zone, &area, &t->area), 0);
	assert_int_equal(posix_memalign(&memory, BERTH_PAGE_SIZE, ZONE_PAGES * BERTH_PAGE_SIZE), 0);
	t->memory = memory;
	params.zone = t->tz->zone;
	params.linear = memory;
	params.port = berth_port_linux_ops();
	bytes = berth_leases_metadata_size(&params);
	assert_int_equal(posix_memalign(metadata, 64, bytes), 0);
	assert_int_equal(berth_leases_init(&t->leases, &params, *metadata, bytes), 0);
}

static void threads_share_leases(void **state)
{
	unsigned nr = test_env("BERTH_THREADS", 4);
	struct tier *t = test_zalloc(1, sizeof(*t));
	struct holder holders[MAX_HOLDERS + 2];
	struct berth_lease_stats stats;
	struct berth_violation v = { 0 };
	void *metadata = NULL;
	berth_pfn_t pfn;

	(void)state;
	nr = nr > MAX_HOLDERS ? MAX_HOLDERS : nr;
	t->nr_ops = test_env("BERTH_THREADS_OPS", 60000 / TEST_SLOWDOWN);
	open_tier(t, &metadata);
	test_set_cpu(0);
	assert_int_equal(berth_lease_create(t->leases, 4, "shared", &t->shared), 0);
	assert_int_equal(berth_lease_lock(t->leases, t->shared, &pfn), 0);
	write_pages(t, pfn, 4, 0x5a0000);
	for (unsigned i = 0; i < nr + 2; i++) {
		holders[i] = (struct holder){ .tier = t, .id = i, .random = i + 1 };
		assert_int_equal(pthread_create(&holders[i].thread, NULL,
						i < nr  ? hold :
						i == nr ? claim :
							  disturb,
						&holders[i]),
				 0);
	}
	for (unsigned i = 0; i < nr; i++)
		assert_int_equal(pthread_join(holders[i].thread, NULL), 0);
	atomic_store(&t->ended, true);
	for (unsigned i = nr; i < nr + 2; i++)
		assert_int_equal(pthread_join(holders[i].thread, NULL), 0);
	test_set_cpu(0);
	look(t, pfn, 4, 0x5a0000);
	assert_int_equal(berth_lease_unlock(t->leases, t->shared), 0);
	if (!berth_leases_check(t->leases, &v))
		fail_msg("%s at %#llx", v.what, (unsigned long long)v.where);
	zone_ok(t->tz);
	assert_int_equal(berth_lease_free(t->leases, t->shared), 0);
	berth_lease_stats(t->leases, &stats);
	assert_int_equal(stats.nr_leases + stats.leased_pages + stats.locked_pages, 0);
	print_message("# %llu locks, %llu of the shared one, %llu lost, %llu moved, %llu claims\n",
		      (unsigned long long)atomic_load(&t->nr_locks),
		      (unsigned long long)atomic_load(&t->nr_shared),
		      (unsigned long long)atomic_load(&t->nr_lost), (unsigned long long)stats.moved,
		      (unsigned long long)atomic_load(&t->nr_claims));
	assert_true(atomic_load(&t->nr_locks) > t->nr_ops / 4);
	assert_true(atomic_load(&t->nr_lost) > 0 && atomic_load(&t->nr_claims) > 0);
	berth_pcp_drain_all(t->tz->zone);
	zone_close(t->tz);
	free(metadata);
	free(t->memory);
	free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(threads_share_leases) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
