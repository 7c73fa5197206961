/* SPDX-License-Identifier: MIT */
/*
 * The store of a pool's area: made once, taken from by claims, empty in forked children.
 */
#define _GNU_SOURCE
#include <berth/store.h>

#include "tests/include/testpool.h"

#define WORDS (BERTH_PAGE_SIZE / 8)
#define PAGES 2048u /* of the area */

static struct berth_pool *open_pool(void)
{
	const struct berth_pool_params params = {
		.config = "areas=plain:4M;cam:8M,policy=gcma;other:4M,policy=gcma default=plain",
	};
	struct berth_pool *pool = NULL;

	must(berth_pool_open(&params, &pool));
	return pool;
}

static int put(struct berth_store *store, uint64_t item, uint64_t value)
{
	const struct berth_store_key key = { 1, item };
	uint64_t page[WORDS];

	for (unsigned i = 0; i < WORDS; i++)
		page[i] = value + i;
	return berth_store_put(store, &key, page);
}

/* -1: it isn't there. */
static int64_t get(struct berth_store *store, uint64_t item)
{
	const struct berth_store_key key = { 1, item };
	uint64_t page[WORDS];

	if (berth_store_get(store, &key, page))
		return -1;
	for (unsigned i = 0; i < WORDS; i++)
		if (page[i] != page[0] + i)
			fail_msg("word %u is %llx", i, (unsigned long long)page[i]);
	return (int64_t)page[0];
}

static void a_store_is_made_once(void **state)
{
	struct berth_pool *pool = open_pool();
	struct berth_store *store = NULL, *again = NULL, *other = NULL;
	struct berth_store_stats stats;

	(void)state;
	must(berth_pool_store(pool, NULL, &store));
	must(berth_pool_store(pool, "cam", &again));
	must(berth_pool_store(pool, "other", &other));
	assert_ptr_equal(store, again);
	assert_ptr_not_equal(store, other);
	berth_store_stats(store, &stats);
	assert_int_equal(stats.nr_pages, PAGES);
	assert_int_equal(berth_pool_store(pool, "none", &again), -BERTH_ENOENT);
	assert_int_equal(berth_pool_store(pool, "plain", &again), -BERTH_EINVAL);
	assert_int_equal(berth_pool_store(pool, "cam", NULL), -BERTH_EINVAL);
	assert_int_equal(berth_pool_store(NULL, "cam", &again), -BERTH_ESTALE);
	must(put(store, 1, 10));
	must(put(other, 1, 20));
	assert_int_equal(get(store, 1), 10);
	assert_int_equal(get(other, 1), 20);
	pool_ok(pool);
	must(berth_pool_close(pool));
	assert_int_equal(berth_pool_store(pool, "cam", &again), -BERTH_ESTALE);
}

static void no_such_area(void **state)
{
	const struct berth_pool_params params = { .config = "areas=plain:4M" };
	struct berth_store *store = NULL;
	struct berth_pool *pool = NULL;

	(void)state;
	must(berth_pool_open(&params, &pool));
	assert_int_equal(berth_pool_store(pool, NULL, &store), -BERTH_ENOENT);
	/* One that comes later will do. */
	must(berth_pool_configure(pool, "areas=late:2M,policy=gcma"));
	must(berth_pool_store(pool, NULL, &store));
	must(put(store, 1, 1));
	assert_int_equal(get(store, 1), 1);
	must(berth_pool_close(pool));
}

static void claims_take_from_it(void **state)
{
	struct berth_pool *pool = open_pool();
	struct berth_store *store = NULL;
	struct berth_buffer buffer;
	unsigned there = 0;

	(void)state;
	must(berth_pool_store(pool, "cam", &store));
	for (uint64_t i = 0; i < 2 * PAGES; i++)
		must(put(store, i, i));
	must(berth_claim(pool, "cam", 4 * MIB, NULL, &buffer, NULL));
	memset(buffer.address, 0x42, buffer.bytes);
	for (uint64_t i = 0; i < 2 * PAGES; i++) {
		int64_t value = get(store, i);

		assert_true(value == -1 || value == (int64_t)i);
		there += value != -1;
	}
	assert_in_range(there, PAGES / 2 - 64, PAGES / 2);
	for (uint64_t i = 0; i < 2 * PAGES; i++)
		must(put(store, i, 7));
	for (size_t i = 0; i < buffer.bytes; i++)
		assert_int_equal(((char *)buffer.address)[i], 0x42);
	must(berth_release(pool, &buffer));
	must(berth_claim(pool, "cam", 8 * MIB, &(struct berth_claim_options){ .flags = BERTH_ZERO },
			 &buffer, NULL));
	for (size_t i = 0; i < buffer.bytes; i++)
		assert_int_equal(((char *)buffer.address)[i], 0);
	for (uint64_t i = 0; i < 2 * PAGES; i++)
		assert_int_equal(get(store, i), -1);
	assert_int_equal(put(store, 1, 1), -BERTH_ENOSPC);
	must(berth_release(pool, &buffer));
	must(put(store, 1, 1));
	pool_ok(pool);
	must(berth_pool_close(pool));
}

/* The child of any kind of fork doesn't see the parent's pages, nor do its puts reach them. */
static void use_as_child(struct berth_pool *pool, struct berth_store *store)
{
	struct berth_store *other = NULL;
	const struct berth_store_key key = { 1, 1 };
	struct berth_store_stats stats;

	if (get(store, 1) != -1 || put(store, 1, 99) != -BERTH_ESTALE ||
	    berth_store_drop(store, &key))
		_exit(1);
	berth_store_drop_group(store, 1);
	berth_store_stats(store, &stats);
	if (stats.stored_pages || stats.hits || !berth_store_check(store, NULL))
		_exit(2);
	if (pool && berth_pool_store(pool, "cam", &other) != -BERTH_ESTALE)
		_exit(3);
	_exit(0);
}

static void wait_for(pid_t pid)
{
	int status = -1;

	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void children_have_an_empty_store(void **state)
{
	struct berth_pool *pool = open_pool();
	struct berth_store *store = NULL;
	pid_t pid;

	(void)state;
	must(berth_pool_store(pool, "cam", &store));
	must(put(store, 1, 10));
	pid = fork();
	if (pid == 0)
		use_as_child(pool, store);
	wait_for(pid);
	/* No fork handlers at all. */
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0)
		use_as_child(NULL, store);
	wait_for(pid);
	assert_int_equal(get(store, 1), 10);
	must(put(store, 1, 11));
	assert_int_equal(get(store, 1), 11);
	pool_ok(pool);
	must(berth_pool_close(pool));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_store_is_made_once),
		cmocka_unit_test(no_such_area),
		cmocka_unit_test(claims_take_from_it),
		cmocka_unit_test(children_have_an_empty_store),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
