/* SPDX-License-Identifier: MIT */
/*
 * Leases of a pool: used in place while they are locked, taken by claims and by want of memory while they aren't.
 * And what is killed, of those who have pools with such memory, loses only its own.
 */
#define _GNU_SOURCE
#include <berth/lease.h>
#include <berth/store.h>

#include "tests/include/testpool.h"

#define WORDS (BERTH_PAGE_SIZE / 8)

/* An area that lends first, so that leases lie there. */
static struct berth_pool *open_pool(size_t lease_bytes)
{
	static const struct berth_area_params area = { .name = "cam",
						       .bytes = 8 * MIB,
						       .lend = BERTH_LEND_FIRST };
	const struct berth_pool_params params = { .bytes = 24 * MIB,
						  .areas = &area,
						  .nr_areas = 1,
						  .lease_bytes = lease_bytes };
	struct berth_pool *pool = NULL;

	must(berth_pool_open(&params, &pool));
	return pool;
}

static void fill(uint64_t *words, size_t bytes, uint64_t value)
{
	for (size_t i = 0; i < bytes / 8; i++)
		words[i] = value + i;
}

static void expect(const uint64_t *words, size_t bytes, uint64_t value)
{
	for (size_t i = 0; i < bytes / 8; i++)
		if (words[i] != value + i)
			fail_msg("word %zu is %llx", i, (unsigned long long)words[i]);
}

static berth_lease_t make(struct berth_pool *pool, size_t bytes, uint64_t value)
{
	berth_lease_t lease = 0;
	void *address = NULL;
	size_t got = 0;

	must(berth_pool_lease(pool, bytes, "a test", &lease));
	must(berth_pool_lease_lock(pool, lease, &address, &got));
	assert_true(got >= bytes && got < bytes + BERTH_PAGE_SIZE);
	fill(address, got, value);
	must(berth_pool_lease_unlock(pool, lease));
	return lease;
}

/* False: it's lost. */
static bool is_there(struct berth_pool *pool, berth_lease_t lease, uint64_t value)
{
	void *address = NULL;
	size_t bytes = 0;
	int error = berth_pool_lease_lock(pool, lease, &address, &bytes);

	if (error == -BERTH_ENOENT)
		return false;
	must(error);
	expect(address, bytes, value);
	must(berth_pool_lease_unlock(pool, lease));
	return true;
}

static struct berth_lease_stats stats_of(struct berth_pool *pool)
{
	struct berth_lease_stats stats;

	must(berth_pool_lease_stats(pool, &stats));
	return stats;
}

static void locked_memory_is_used_in_place(void **state)
{
	struct berth_pool *pool = open_pool(2 * MIB);
	berth_lease_t a = make(pool, 100000, 1), b = make(pool, 2 * MIB, 2), other;
	void *address = NULL, *again = NULL;

	(void)state;
	assert_true(is_there(pool, a, 1));
	must(berth_pool_lease_lock(pool, a, &address, NULL));
	must(berth_pool_lease_lock(pool, a, &again, NULL));
	assert_ptr_equal(address, again);
	assert_int_equal(stats_of(pool).locked_pages, 25);
	assert_int_equal(berth_pool_lease_free(pool, a), -BERTH_EBUSY);
	/* Beyond the limit. */
	assert_int_equal(berth_pool_lease_lock(pool, b, &again, NULL), -BERTH_ENOSPC);
	must(berth_pool_lease_unlock(pool, a));
	must(berth_pool_lease_unlock(pool, a));
	assert_int_equal(berth_pool_lease_unlock(pool, a), -BERTH_EINVAL);
	must(berth_pool_lease_free(pool, a));
	assert_int_equal(berth_pool_lease_free(pool, a), -BERTH_EINVAL);
	assert_int_equal(berth_pool_lease_lock(pool, a, &address, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_pool_lease(pool, 0, "x", &other), -BERTH_EINVAL);
	assert_int_equal(berth_pool_lease(pool, 2 * MIB + 1, "x", &other), -BERTH_EINVAL);
	assert_int_equal(berth_pool_lease(pool, 1, "x", NULL), -BERTH_EINVAL);
	assert_int_equal(berth_pool_lease_lock(pool, b, NULL, NULL), -BERTH_EINVAL);
	pool_ok(pool);
	must(berth_pool_lease_free(pool, b));
	assert_int_equal(stats_of(pool).leased_pages, 0);
	pool_ok(pool);
	must(berth_pool_close(pool));
	assert_int_equal(berth_pool_lease(pool, 1, "x", &other), -BERTH_ESTALE);
	assert_int_equal(berth_pool_lease_lock(pool, b, &address, NULL), -BERTH_ESTALE);
}

static void claims_take_what_is_not_locked(void **state)
{
	struct berth_pool *pool = open_pool(4 * MIB);
	struct berth_claim_report report;
	struct berth_buffer buffer;
	berth_lease_t leases[16];
	unsigned lost = 0;
	void *address;

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		leases[i] = make(pool, 256 * KIB, i << 20);
	must(berth_pool_lease_lock(pool, leases[5], &address, NULL));
	/* What is locked is in the way, by its name; */
	assert_int_equal(berth_claim(pool, "cam", 8 * MIB, NULL, &buffer, &report), -BERTH_EBUSY);
	assert_string_equal(report.blocker_holder, "a test");
	expect(address, 256 * KIB, 5 << 20);
	must(berth_pool_lease_unlock(pool, leases[5]));
	/* what isn't gives way, and nothing moves. */
	must(berth_claim(pool, "cam", 8 * MIB, NULL, &buffer, &report));
	assert_int_equal(report.moved_pages, 0);
	memset(buffer.address, 0x42, buffer.bytes);
	for (unsigned i = 0; i < 16; i++)
		lost += !is_there(pool, leases[i], i << 20);
	assert_int_equal(lost, 16);
	for (unsigned i = 0; i < 16; i++)
		must(berth_pool_lease_free(pool, leases[i]));
	for (size_t i = 0; i < buffer.bytes; i++)
		assert_int_equal(((char *)buffer.address)[i], 0x42);
	must(berth_release(pool, &buffer));
	pool_ok(pool);
	must(berth_pool_close(pool));
}

/* Leases are made until the pool is full, of which the oldest go; then a program maps all of it. */
static void want_of_memory_takes_them(void **state)
{
	struct berth_pool *pool = open_pool(MIB);
	berth_lease_t leases[64];
	unsigned there = 0;
	char *address = NULL;

	(void)state;
	for (unsigned i = 0; i < 64; i++)
		leases[i] = make(pool, MIB, i << 20);
	for (unsigned i = 0; i < 64; i++)
		there += is_there(pool, leases[i], i << 20);
	assert_in_range(there, 8, 24);
	assert_true(is_there(pool, leases[63], 63 << 20));
	must(berth_map(pool, 20 * MIB, 0, (void **)&address));
	/* Nobody sees what they held. */
	for (size_t i = 0; i < 20 * MIB; i++)
		if (address[i])
			fail_msg("byte %zu is %d", i, address[i]);
	there = 0;
	for (unsigned i = 0; i < 64; i++)
		there += is_there(pool, leases[i], i << 20);
	assert_in_range(there, 0, 4);
	pool_ok(pool);
	for (unsigned i = 0; i < 64; i++)
		must(berth_pool_lease_free(pool, leases[i]));
	must(berth_unmap(pool, address, 20 * MIB));
	pool_ok(pool);
	must(berth_pool_close(pool));
}

/* An area full of a program's memory, and leases everywhere else: what is to move has no place but theirs. */
static void full_of_leases(struct berth_pool *pool, void **memory, berth_lease_t *leases)
{
	must(berth_map(pool, 8 * MIB, 0, memory));
	pattern_fill(*memory, 8 * MIB, 1);
	for (unsigned i = 0; i < 16; i++)
		leases[i] = make(pool, MIB, i << 20);
}

static void ends_as_before(struct berth_pool *pool, void *memory, const berth_lease_t *leases)
{
	pattern_ok(memory, 8 * MIB, 1);
	for (unsigned i = 0; i < 16; i++)
		must(berth_pool_lease_free(pool, leases[i]));
	must(berth_unmap(pool, memory, 8 * MIB));
	pool_ok(pool);
}

static void claims_take_their_place(void **state)
{
	const struct berth_claim_options plain = { 0 };
	struct berth_pool *pool = open_pool(2 * MIB);
	struct berth_prepared *prepared = NULL;
	struct berth_claim_report report;
	struct berth_buffer buffers[2];
	berth_lease_t leases[16];
	void *memory = NULL;

	(void)state;
	full_of_leases(pool, &memory, leases);
	must(berth_claim(pool, "cam", 8 * MIB, NULL, &buffers[0], &report));
	assert_true(report.moved_pages > 0);
	must(berth_release(pool, &buffers[0]));
	ends_as_before(pool, memory, leases);

	full_of_leases(pool, &memory, leases);
	assert_int_equal(berth_claim_bulk(pool, "cam", 4 * MIB, NULL, 2, 0, buffers, &report), 2);
	assert_true(report.moved_pages > 0);
	must(berth_release_bulk(pool, buffers, 2));
	ends_as_before(pool, memory, leases);

	full_of_leases(pool, &memory, leases);
	must(berth_prepare(pool, "cam", 8 * MIB, &plain, &prepared));
	must(berth_prepare_take(prepared, 10000000000, &buffers[0], &report));
	assert_true(report.moved_pages > 0);
	must(berth_release(pool, &buffers[0]));
	ends_as_before(pool, memory, leases);
	must(berth_pool_close(pool));
}

static void pools_without_leases(void **state)
{
	const struct berth_pool_params large = { .bytes = 8 * MIB, .lease_bytes = 8 * MIB + 1 };
	struct berth_pool *pool = open_pool(0);
	struct berth_lease_stats stats;
	berth_lease_t lease;
	void *address;

	(void)state;
	assert_int_equal(berth_pool_lease(pool, 1, "x", &lease), -BERTH_EINVAL);
	assert_int_equal(berth_pool_lease_lock(pool, 1, &address, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_pool_lease_unlock(pool, 1), -BERTH_EINVAL);
	assert_int_equal(berth_pool_lease_free(pool, 1), -BERTH_EINVAL);
	assert_int_equal(berth_pool_lease_stats(pool, &stats), -BERTH_EINVAL);
	must(berth_pool_close(pool));
	assert_int_equal(berth_pool_open(&large, &pool), -BERTH_EINVAL);
}

/* ---- Killed -------------------------------------------------------------------------------------- */

static void put_some(struct berth_store *store, uint64_t round)
{
	uint64_t page[WORDS];

	for (uint64_t i = 0; i < 64; i++) {
		const struct berth_store_key key = { 1, i };

		fill(page, sizeof(page), (round << 32) + (i << 16));
		(void)!berth_store_put(store, &key, page);
	}
}

static void look_for_some(struct berth_store *store, uint64_t round, uint64_t *hits)
{
	uint64_t page[WORDS];

	for (uint64_t i = 0; i < 64; i++) {
		const struct berth_store_key key = { 1, i };

		if (berth_store_get(store, &key, page))
			continue;
		expect(page, sizeof(page), (round << 32) + (i << 16));
		++*hits;
	}
}

/* Puts, gets, claims and leases, in a pool of one's own, until somebody kills us. */
static void live_until_killed(struct berth_pool *parents, struct berth_store *parents_store,
			      _Atomic uint64_t *rounds)
{
	const struct berth_pool_params params = { .config = "areas=cam:4M,policy=gcma;plain:4M",
						  .lease_bytes = 2 * MIB };
	struct berth_store *store = NULL;
	struct berth_pool *pool = NULL;
	struct berth_buffer buffer;
	berth_lease_t lease;
	void *address;

	alarm(60);
	if (berth_pool_open(&params, &pool) || berth_pool_store(pool, "cam", &store))
		_exit(1);
	for (uint64_t round = 0;; round++) {
		put_some(store, round);
		put_some(parents_store, round); /* to no avail */
		if (berth_pool_lease(parents, 1, "x", &lease) != -BERTH_ESTALE)
			_exit(2);
		if (berth_pool_lease(pool, MIB, "x", &lease) ||
		    berth_pool_lease_lock(pool, lease, &address, NULL))
			_exit(3);
		fill(address, MIB, round);
		if (berth_claim(pool, round % 2 ? "cam" : "plain", 2 * MIB, NULL, &buffer, NULL))
			_exit(4);
		memset(buffer.address, 0x66, buffer.bytes);
		if (berth_release(pool, &buffer) || berth_pool_lease_unlock(pool, lease) ||
		    berth_pool_lease_free(pool, lease))
			_exit(5);
		atomic_fetch_add(rounds, 1);
	}
}

/*
 * Two at a time are killed at random moments, while their parent goes on with its store, its leases and its claims:
 * it loses nothing by it.
 */
static void what_is_killed_loses_its_own_cache_only(void **state)
{
	const struct berth_pool_params params = { .config = "areas=cam:4M,policy=gcma;plain:4M",
						  .lease_bytes = 2 * MIB };
	struct berth_store *store = NULL;
	struct berth_pool *pool = NULL;
	struct berth_store_stats stats;
	_Atomic uint64_t *rounds = mmap(NULL, BERTH_PAGE_SIZE, PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t seed = 3, hits = 0;
	berth_lease_t lease;

	(void)state;
	assert_ptr_not_equal(rounds, MAP_FAILED);
	must(berth_pool_open(&params, &pool));
	must(berth_pool_store(pool, "cam", &store));
	lease = make(pool, MIB, 77);
	for (uint64_t round = 0; round < 30; round++) {
		struct timespec moment = { .tv_nsec = (long)test_random_below(&seed, 30000000) };
		struct berth_buffer buffer;
		pid_t children[2];
		int status;

		put_some(store, round);
		for (unsigned i = 0; i < 2; i++) {
			children[i] = fork();
			assert_true(children[i] >= 0);
			if (children[i] == 0)
				live_until_killed(pool, store, rounds);
		}
		for (unsigned i = 0; i < 2; i++) {
			nanosleep(&moment, NULL);
			look_for_some(store, round, &hits);
			must(kill(children[i], SIGKILL));
			assert_int_equal(waitpid(children[i], &status, 0), children[i]);
			assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
			look_for_some(store, round, &hits);
		}
		must(berth_claim(pool, "cam", 2 * MIB, NULL, &buffer, NULL));
		must(berth_release(pool, &buffer));
		assert_true(is_there(pool, lease, 77));
	}
	/* All was there each time: nobody but this process takes its pages. */
	assert_int_equal(hits, 30 * 4 * 64);
	assert_true(atomic_load(rounds) > 30);
	munmap((void *)rounds, BERTH_PAGE_SIZE);
	berth_store_stats(store, &stats);
	assert_int_equal(stats.refused, 0);
	pool_ok(pool);
	must(berth_pool_lease_free(pool, lease));
	must(berth_pool_close(pool));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(locked_memory_is_used_in_place),
		cmocka_unit_test(claims_take_what_is_not_locked),
		cmocka_unit_test(want_of_memory_takes_them),
		cmocka_unit_test(claims_take_their_place),
		cmocka_unit_test(pools_without_leases),
		cmocka_unit_test(what_is_killed_loses_its_own_cache_only),
	};

	return cmocka_run_group_tests_name("leases", tests, NULL, NULL);
}
