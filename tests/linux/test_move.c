/* SPDX-License-Identifier: MIT */
/*
 * Moves under load: threads that write, read, pin, map, grow and unmap while claims and shuffles move
 * their memory. Old frames are poisoned, so whoever is left behind reads 0xdb.
 */
#define _GNU_SOURCE
#include "tests/include/testpool.h"

#define POOL_FLAGS (BERTH_POOL_POISON | BERTH_POOL_RESIDENT)
#define AREA_BYTES (16 * MIB)

static const size_t run_sizes[] = { 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1 * MIB, 2 * MIB };

/* ---- Who moves the memory --------------------------------------------------------------------- */

#define MAX_HELD 4u

/* Claims of random sizes, some held for a while. */
struct claims {
	struct berth_pool *pool;
	uint64_t seed;
	struct berth_buffer held[MAX_HELD]; /* bytes 0: none */
	uint64_t nr_ok, nr_busy, moved_pages;
	const char *holder; /* that a busy claim must name, if it names one */
};

static void claims_step(struct claims *c)
{
	struct berth_buffer *buffer = &c->held[test_random_below(&c->seed, MAX_HELD)];
	const struct berth_claim_options options = {
		.flags = test_random_below(&c->seed, 2) ? BERTH_CLAIM_FIRST_FIT : 0,
	};
	size_t most = (size_t)4096 << (6 + test_random_below(&c->seed, 7));
	struct berth_claim_report report;
	int error;

	if (buffer->bytes) {
		must(berth_release(c->pool, buffer));
		buffer->bytes = 0;
		return;
	}
	error = berth_claim(c->pool, NULL, 1 + test_random_below(&c->seed, most), &options, buffer,
			    &report);
	assert_int_equal(report.error, error);
	c->moved_pages += report.moved_pages;
	if (error == 0) {
		c->nr_ok++;
		memset(buffer->address, 0xcc, buffer->bytes); /* a device writes at once */
		return;
	}
	buffer->bytes = 0;
	assert_true(error == -BERTH_EBUSY || error == -BERTH_ENOSPC || error == -BERTH_ENOMEM);
	if (error != -BERTH_EBUSY)
		return;
	c->nr_busy++;
	assert_non_null(report.blocker_owner);
	assert_int_not_equal(report.blocker_pfn, BERTH_PFN_NONE);
	if (c->holder && report.blocker_holder) /* it may have let go before it was asked */
		assert_string_equal(report.blocker_holder, c->holder);
}

static void claims_end(struct claims *c)
{
	for (unsigned i = 0; i < MAX_HELD; i++)
		if (c->held[i].bytes)
			must(berth_release(c->pool, &c->held[i]));
	assert_true(c->nr_ok > 0 && c->moved_pages > 0);
}

/* ---- Writers and readers ------------------------------------------------------------------------ */

struct reader {
	pthread_t thread;
	const void *memory;
	size_t bytes;
	uint64_t seed;
	_Atomic bool *stop;
	uint64_t nr_wrong;
};

static void *reader_run(void *argument)
{
	struct reader *r = argument;

	do {
		r->nr_wrong += pattern_differs(r->memory, r->bytes, r->seed) != r->bytes / 8;
	} while (!atomic_load(r->stop));
	return NULL;
}

/*
 * Two threads write, one reads, this one moves, until `bytes` have moved. The memory is more than
 * there is beside the area, so that shuffles bring it back into the way of claims.
 */
static void move_under_load(size_t run_bytes, size_t bytes, bool by_claims)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, POOL_FLAGS, NULL);
	struct claims claims = { .pool = pool, .seed = run_bytes };
	struct writer writers[2];
	struct reader reader;
	_Atomic bool stop = false;
	uint64_t cursor = 0, end = now_ns() + 20 * SECOND_NS;
	char *memory;

	must(berth_map_runs(pool, 18 * MIB, run_bytes, 0, (void **)&memory));
	for (size_t i = 0; i < ARRAY_SIZE(writers); i++)
		writer_start(&writers[i], memory + i * 8 * MIB, 8 * MIB, 64, i, &stop);
	pattern_fill(memory + 16 * MIB, 2 * MIB, 9);
	reader = (struct reader){ .memory = memory + 16 * MIB,
				  .bytes = 2 * MIB,
				  .seed = 9,
				  .stop = &stop };
	assert_int_equal(pthread_create(&reader.thread, NULL, reader_run, &reader), 0);
	while (pool_stats(pool).moved_bytes < bytes && now_ns() < end) {
		int64_t moved = berth_shuffle(pool, &cursor);

		assert_true(moved >= 0 ||
			    (by_claims && (moved == -BERTH_EBUSY || moved == -BERTH_ENOMEM)));
		if (by_claims)
			claims_step(&claims);
	}
	atomic_store(&stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(writers); i++)
		writer_finish(&writers[i]);
	pthread_join(reader.thread, NULL);
	assert_int_equal(reader.nr_wrong, 0);
	if (by_claims)
		claims_end(&claims);
	assert_true(pool_stats(pool).moved_bytes >= bytes);
	must(berth_unmap(pool, memory, 18 * MIB));
	pool_close(pool);
}

static void writers_lose_nothing_to_claims(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(run_sizes); i++)
		move_under_load(run_sizes[i], i < 2 ? 32 * MIB : 128 * MIB, true);
}

static void writers_lose_nothing_to_shuffles(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(run_sizes); i++)
		move_under_load(run_sizes[i], i < 2 ? 32 * MIB : 256 * MIB, false);
}

static void all_writers_write_to_one_page(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, POOL_FLAGS, NULL);
	uint64_t cursor = 0, moves = 0, total = 0;
	_Atomic uint64_t *word = pool_map(pool, 4096);
	struct writer writer;
	_Atomic bool stop = false;

	(void)state;
	/* One counts in words of its own, this thread with atomic additions, both in one page. */
	writer_start(&writer, (char *)word + 64, 4096 - 64, 1, 1, &stop);
	while (moves < 2000) {
		int64_t moved = berth_shuffle(pool, &cursor);

		assert_true(moved >= 0);
		moves += moved > 0;
		total++;
		atomic_fetch_add(word, 1);
		cursor = berth_offset_of(pool, word) / (2 * MIB);
	}
	atomic_store(&stop, true);
	writer_finish(&writer);
	assert_int_equal(atomic_load(word), total);
	must(berth_unmap(pool, word, 4096));
	pool_close(pool);
}

/* Others help to copy. A child, which has none of them, still has its copy and can have a pool like it. */
static void child_opens_a_pool_with_copiers(void *argument)
{
	const struct berth_pool_params *params = argument;
	struct berth_pool *pool;
	struct berth_buffer buffer;
	void *memory;

	must(berth_pool_open(params, &pool));
	must(berth_map_runs(pool, 16 * MIB, 2 * MIB, 0, &memory));
	pattern_fill(memory, 16 * MIB, 5);
	must(berth_claim(pool, NULL, 16 * MIB, NULL, &buffer, NULL));
	assert_int_equal(pattern_differs(memory, 16 * MIB, 5), 16 * MIB / 8);
	must(berth_release(pool, &buffer));
	must(berth_unmap(pool, memory, 16 * MIB));
	pool_close(pool);
}

static void copiers_lose_nothing_either(void **state)
{
	const struct berth_area_params area = { "area", AREA_BYTES, BERTH_LEND_FIRST };
	struct berth_pool_params params = { .areas = &area,
					    .nr_areas = 1,
					    .flags = POOL_FLAGS,
					    .copiers = 8 };
	struct berth_pool *pool;
	struct berth_buffer buffer;
	struct writer writer;
	_Atomic bool stop = false;
	void *memory;

	(void)state;
	assert_int_equal(berth_pool_open(&params, &pool), -BERTH_EINVAL);
	params.copiers = 2;
	must(berth_pool_open(&params, &pool));
	must(berth_map_runs(pool, AREA_BYTES, 2 * MIB, 0, &memory));
	writer_start(&writer, memory, AREA_BYTES, 1, 3, &stop);
	for (unsigned i = 0; i < 40; i++) {
		must(berth_claim(pool, NULL, AREA_BYTES / 2 + i % 5 * 4096, NULL, &buffer, NULL));
		memset(buffer.address, 0xcc, buffer.bytes);
		must(berth_release(pool, &buffer));
		must(berth_unmap(pool, pool_map(pool, 2 * MIB), 2 * MIB));
	}
	in_child(child_opens_a_pool_with_copiers, &params);
	atomic_store(&stop, true);
	writer_finish(&writer);
	assert_true(pool_stats(pool).moved_bytes > 0);
	must(berth_unmap(pool, memory, AREA_BYTES));
	pool_close(pool);
}

/* ---- Pins --------------------------------------------------------------------------------------------- */

/* A device: pins, writes to the pool by offset, and the program must read it by address. */
struct device {
	pthread_t thread;
	struct berth_pool *pool;
	char *memory, *linear;
	size_t bytes;
	uint64_t seed;
	_Atomic bool *stop;
	_Atomic uint64_t nr_transfers;
	const char *wrong;
	int error;
};

static bool transfer(struct device *d, size_t at, size_t bytes, uint64_t seed)
{
	char *words = d->memory + at;

	for (size_t page = 0; page < bytes; page += 4096) {
		size_t offset = berth_offset_of(d->pool, words + page);

		if (offset == (size_t)-1)
			return false;
		pattern_fill(d->linear + offset, 4096, seed + page);
	}
	for (size_t page = 0; page < bytes; page += 4096)
		if (pattern_differs(words + page, 4096, seed + page) != 4096 / 8)
			return false;
	return true;
}

static void *device_run(void *argument)
{
	struct device *d = argument;

	while (!atomic_load(d->stop) && !d->wrong) {
		size_t bytes = 4096 * (1 + test_random_below(&d->seed, 64));
		size_t at = 4096 * test_random_below(&d->seed, (d->bytes - bytes) / 4096);
		bool long_term = test_random_below(&d->seed, 4) == 0;
		uint64_t pin;

		d->error = berth_pin(d->pool, d->memory + at, bytes, "the device",
				     long_term ? BERTH_PIN_LONG_TERM : 0, &pin);
		if (long_term && (d->error == -BERTH_ENOMEM || d->error == -BERTH_EBUSY))
			continue;
		if (d->error) {
			d->wrong = "berth_pin";
			break;
		}
		if (!transfer(d, at, bytes, d->seed))
			d->wrong = "a transfer went elsewhere";
		d->error = berth_unpin(d->pool, pin);
		if (d->error)
			d->wrong = "berth_unpin";
		atomic_fetch_add(&d->nr_transfers, 1);
	}
	return NULL;
}

/* Where the pool is in this process. */
static char *linear_mapping(struct berth_pool *pool)
{
	struct berth_buffer buffer;
	char *linear;

	must(berth_claim(pool, NULL, 4096, NULL, &buffer, NULL));
	linear = (char *)buffer.address - buffer.offset;
	must(berth_release(pool, &buffer));
	return linear;
}

static void transfers_go_where_the_memory_is(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(run_sizes); i += 2) {
		struct berth_pool *pool = pool_open(AREA_BYTES, POOL_FLAGS, NULL);
		struct claims claims = { .pool = pool, .seed = i, .holder = "the device" };
		struct device devices[2];
		_Atomic bool stop = false;
		uint64_t end = now_ns() + 20 * SECOND_NS;
		char *linear = linear_mapping(pool), *memory;

		must(berth_map_runs(pool, 18 * MIB, run_sizes[i], 0, (void **)&memory));
		for (size_t j = 0; j < ARRAY_SIZE(devices); j++) {
			devices[j] = (struct device){ .pool = pool,
						      .memory = memory + j * 9 * MIB,
						      .linear = linear,
						      .bytes = 9 * MIB,
						      .seed = j,
						      .stop = &stop };
			assert_int_equal(pthread_create(&devices[j].thread, NULL, device_run,
							&devices[j]),
					 0);
		}
		while (now_ns() < end && (pool_stats(pool).moved_bytes < 64 * MIB ||
					  atomic_load(&devices[0].nr_transfers) < 200))
			claims_step(&claims);
		atomic_store(&stop, true);
		for (size_t j = 0; j < ARRAY_SIZE(devices); j++) {
			pthread_join(devices[j].thread, NULL);
			if (devices[j].wrong)
				fail_msg("%s: %s", devices[j].wrong,
					 berth_strerror(devices[j].error));
		}
		claims_end(&claims);
		assert_true(pool_stats(pool).moved_bytes >= 64 * MIB);
		assert_int_equal(pool_stats(pool).pins, 0);
		pool_ok(pool);
		must(berth_unmap(pool, memory, 18 * MIB));
		pool_close(pool);
	}
}

static void holders_are_named(void **state)
{
	static const char *const names[] = { "io_uring 7", "a camera", "an RDMA card", "O_DIRECT" };
	struct berth_pool *pool = pool_open(AREA_BYTES, POOL_FLAGS, NULL);
	struct berth_claim_report report;
	struct berth_buffer buffer;
	struct writer writer;
	_Atomic bool stop = false;
	uint64_t pins[4];
	char *memory = pool_map(pool, AREA_BYTES);

	(void)state;
	writer_start(&writer, memory, AREA_BYTES, 64, 1, &stop);
	for (unsigned i = 0; i < 4; i++)
		must(berth_pin(pool, memory + 4 * i * MIB + 12345, 100, names[i], 0, &pins[i]));
	for (unsigned i = 0; i < 4; i++) {
		bool known = false;

		assert_int_equal(berth_claim(pool, NULL, AREA_BYTES, NULL, &buffer, &report),
				 -BERTH_EBUSY);
		for (unsigned j = i; j < 4; j++)
			known |= !strcmp(report.blocker_holder, names[j]);
		assert_true(known);
		assert_true(report.largest_claimable_pages >= 512 * i);
		must(berth_unpin(pool, pins[i]));
	}
	must(berth_claim(pool, NULL, AREA_BYTES, NULL, &buffer, &report));
	atomic_store(&stop, true);
	writer_finish(&writer);
	must(berth_release(pool, &buffer));
	must(berth_unmap(pool, memory, AREA_BYTES));
	pool_close(pool);
}

/* ---- Memory that comes and goes ------------------------------------------------------------------------- */

struct tenant {
	pthread_t thread;
	struct berth_pool *pool;
	uint64_t seed;
	_Atomic bool *stop;
	_Atomic uint64_t nr_rounds;
	uint64_t nr_grown;
	const char *wrong;
	int error;
};

/* Maps, writes, grows, and verifies all before it gives it back. */
static bool tenant_round(struct tenant *t)
{
	size_t bytes = 4096 * (1 + test_random_below(&t->seed, 400)), old = 0;
	size_t run = (size_t)4096 << test_random_below(&t->seed, 10);
	uint64_t seed = test_random(&t->seed);
	char *memory;

	t->error = berth_map_runs(t->pool, bytes, run, 0, (void **)&memory);
	if (t->error == -BERTH_ENOMEM)
		return true;
	t->wrong = "berth_map_runs";
	if (t->error)
		return false;
	for (unsigned step = 0; step < 4; step++) {
		t->wrong = "fresh memory isn't zero";
		if (!is_zero(memory + old, bytes - old))
			return false;
		pattern_fill(memory, bytes, seed);
		old = bytes;
		t->error = berth_grow(t->pool, memory, old, old + 64 * KIB);
		t->wrong = "berth_grow";
		if (t->error && t->error != -BERTH_ENOMEM)
			return false;
		if (t->error)
			break;
		t->nr_grown++;
		bytes += 64 * KIB;
		t->wrong = "contents lost in growing";
		if (pattern_differs(memory, old, seed) != old / 8)
			return false;
	}
	t->wrong = "contents lost";
	if (pattern_differs(memory, old, seed) != old / 8)
		return false;
	t->wrong = "berth_unmap";
	t->error = berth_unmap(t->pool, memory, bytes);
	return t->error == 0;
}

static void *tenant_run(void *argument)
{
	struct tenant *t = argument;

	while (!atomic_load(t->stop) && tenant_round(t)) {
		t->wrong = NULL;
		atomic_fetch_add(&t->nr_rounds, 1);
	}
	return NULL;
}

static void claims_beside_tenants_that_come_and_go(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, POOL_FLAGS, NULL);
	struct claims claims = { .pool = pool, .seed = 3 };
	struct tenant tenants[3];
	_Atomic bool stop = false;
	uint64_t cursor = 0, end = now_ns() + 20 * SECOND_NS, most = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(tenants); i++) {
		tenants[i] = (struct tenant){ .pool = pool, .seed = i, .stop = &stop };
		assert_int_equal(pthread_create(&tenants[i].thread, NULL, tenant_run, &tenants[i]),
				 0);
	}
	while (now_ns() < end && (most < 2 * AREA_BYTES || claims.nr_ok < 500 ||
				  atomic_load(&tenants[0].nr_rounds) < 200)) {
		int64_t moved;

		claims_step(&claims);
		moved = berth_shuffle(pool, &cursor);
		assert_true(moved >= 0 || moved == -BERTH_EBUSY || moved == -BERTH_ENOMEM);
		most = pool_stats(pool).moved_bytes;
	}
	atomic_store(&stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(tenants); i++) {
		pthread_join(tenants[i].thread, NULL);
		if (tenants[i].wrong)
			fail_msg("thread %zu: %s: %s", i, tenants[i].wrong,
				 berth_strerror(tenants[i].error));
		assert_true(tenants[i].nr_grown > 0);
	}
	claims_end(&claims);
	assert_true(most >= 2 * AREA_BYTES);
	assert_int_equal(pool_stats(pool).mapped_bytes, 0);
	assert_int_equal(pool_stats(pool).used_bytes,
			 pool_stats(pool).pool_bytes - pool_stats(pool).free_bytes);
	pool_close(pool);
}

/* ---- Claims in several threads ------------------------------------------------------------------------------ */

struct claimer {
	pthread_t thread;
	struct berth_pool *pool;
	const char *area;
	uint64_t seed, nr_ok;
	_Atomic bool *stop;
	const char *wrong;
	int error;
};

static void *claimer_run(void *argument)
{
	struct claimer *c = argument;
	const struct berth_claim_options options = { .timeout_ns = SECOND_NS };

	while (!atomic_load(c->stop) && !c->wrong) {
		uint64_t seed = test_random(&c->seed);
		struct berth_buffer buffer;

		c->error = berth_claim(c->pool, c->area, 1 + seed % (3 * MIB), &options, &buffer,
				       NULL);
		if (c->error == -BERTH_ENOSPC || c->error == -BERTH_ENOMEM ||
		    c->error == -BERTH_EAGAIN)
			continue;
		if (c->error) {
			c->wrong = "berth_claim";
			break;
		}
		pattern_fill(buffer.address, buffer.bytes, seed);
		if (pattern_differs(buffer.address, buffer.bytes, seed) != buffer.bytes / 8)
			c->wrong = "somebody else writes to a claimed buffer";
		c->error = berth_release(c->pool, &buffer);
		if (c->error)
			c->wrong = "berth_release";
		c->nr_ok++;
	}
	return NULL;
}

static void areas_are_claimed_at_the_same_time(void **state)
{
	const struct berth_area_params areas[] = { { "one", 8 * MIB, BERTH_LEND_FIRST },
						   { "two", 8 * MIB, BERTH_LEND_FIRST } };
	const struct berth_pool_params params = { .areas = areas,
						  .nr_areas = 2,
						  .flags = POOL_FLAGS };
	uint64_t cursor = 0, end = now_ns() + 20 * SECOND_NS;
	struct claimer claimers[3];
	struct berth_pool *pool;
	_Atomic bool stop = false;
	struct writer writer;
	char *memory;

	(void)state;
	must(berth_pool_open(&params, &pool));
	must(berth_map_runs(pool, 18 * MIB, 64 * KIB, 0, (void **)&memory));
	writer_start(&writer, memory, 18 * MIB, 64, 1, &stop);
	for (size_t i = 0; i < ARRAY_SIZE(claimers); i++) {
		claimers[i] = (struct claimer){ .pool = pool,
						.area = areas[i % 2].name,
						.seed = i,
						.stop = &stop };
		assert_int_equal(
			pthread_create(&claimers[i].thread, NULL, claimer_run, &claimers[i]), 0);
	}
	while (now_ns() < end &&
	       (pool_stats(pool).moved_bytes < 64 * MIB || pool_stats(pool).claims_ok < 100)) {
		int64_t moved = berth_shuffle(pool, &cursor);

		assert_true(moved >= 0 || moved == -BERTH_EBUSY || moved == -BERTH_ENOMEM);
	}
	assert_true(pool_stats(pool).moved_bytes >= 64 * MIB);
	atomic_store(&stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(claimers); i++) {
		pthread_join(claimers[i].thread, NULL);
		if (claimers[i].wrong)
			fail_msg("%s: %s", claimers[i].wrong, berth_strerror(claimers[i].error));
		assert_true(claimers[i].nr_ok > 0);
	}
	writer_finish(&writer);
	must(berth_unmap(pool, memory, 18 * MIB));
	pool_close(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writers_lose_nothing_to_claims),
		cmocka_unit_test(writers_lose_nothing_to_shuffles),
		cmocka_unit_test(all_writers_write_to_one_page),
		cmocka_unit_test(copiers_lose_nothing_either),
		cmocka_unit_test(transfers_go_where_the_memory_is),
		cmocka_unit_test(holders_are_named),
		cmocka_unit_test(claims_beside_tenants_that_come_and_go),
		cmocka_unit_test(areas_are_claimed_at_the_same_time),
	};

	return cmocka_run_group_tests_name("moves", tests, NULL, NULL);
}
