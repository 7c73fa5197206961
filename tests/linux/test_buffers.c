/* SPDX-License-Identifier: MIT */
/*
 * Buffers as berth.h promises them: claims of all sizes, what they contain, which range they get, whom
 * they wait for; many in one call; prepared ones.
 */
#define _GNU_SOURCE
#include "tests/include/testpool.h"

#define AREA_BYTES (32 * MIB)

/* ---- Claims ------------------------------------------------------------------------------------- */

static void claims_of_many_sizes(void **state)
{
	static const size_t sizes[] = {
		1,
		4096,
		4097,
		12 * KIB,
		64 * KIB,
		1 * MIB - 4096,
		2 * MIB - 4096,
		2 * MIB,
		2 * MIB + 4096,
		3 * MIB + 20 * KIB,
		4 * MIB,
		5 * MIB - 1,
		8 * MIB + 4096,
		16 * MIB,
		31 * MIB,
		AREA_BYTES - 1,
		AREA_BYTES,
	};
	struct berth_pool *pool = pool_open(AREA_BYTES, BERTH_POOL_POISON, NULL);
	char *memory = pool_map(pool, 24 * MIB), *small;
	uint64_t claims = 0;

	(void)state;
	must(berth_map_runs(pool, 4 * MIB, 4096, 0, (void **)&small));
	pattern_fill(memory, 24 * MIB, 7);
	pattern_fill(small, 4 * MIB, 8);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct berth_claim_report report;
		struct berth_buffer buffer = { 0 };

		must(berth_claim(pool, "area", sizes[i], NULL, &buffer, &report));
		claims++;
		assert_int_equal(buffer.bytes, (sizes[i] + 4095) & ~(size_t)4095);
		assert_true(buffer.offset + buffer.bytes <= AREA_BYTES);
		assert_string_equal(buffer.area, "area");
		assert_int_equal(report.error, 0);
		assert_int_equal(report.nr_pages, buffer.bytes / 4096);
		assert_int_equal(report.free_pages_taken + report.moved_pages, report.nr_pages);
		assert_int_equal(report.blocker_pfn, BERTH_PFN_NONE);
		assert_int_equal(pool_stats(pool).claimed_bytes, buffer.bytes);
		assert_int_equal(pool_stats(pool).claims_held, 1);
		assert_int_equal(pool_stats(pool).claims_ok, claims);
		/* The buffer is whole and nobody else's. */
		pattern_fill(buffer.address, buffer.bytes, i);
		pattern_ok(memory, 24 * MIB, 7);
		pattern_ok(small, 4 * MIB, 8);
		pattern_ok(buffer.address, buffer.bytes, i);
		pool_ok(pool);
		must(berth_release(pool, &buffer));
		assert_int_equal(pool_stats(pool).claimed_bytes, 0);
		pool_ok(pool);
	}
	must(berth_unmap(pool, memory, 24 * MIB));
	must(berth_unmap(pool, small, 4 * MIB));
	assert_int_equal(pool_stats(pool).free_bytes, 2 * AREA_BYTES);
	pool_close(pool);
}

static void many_claims_fill_an_area(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	struct berth_buffer buffers[64], another;
	struct berth_claim_report report;
	char *memory = pool_map(pool, AREA_BYTES);
	size_t nr = 0, total = 0;
	int error = 0;

	(void)state;
	pattern_fill(memory, AREA_BYTES, 1);
	for (size_t bytes = 2 * MIB; nr < ARRAY_SIZE(buffers); bytes -= 4096 * 9) {
		error = berth_claim(pool, NULL, bytes, NULL, &buffers[nr], &report);
		if (error) {
			assert_int_equal(error, -BERTH_ENOSPC);
			assert_true(report.largest_claimable_pages * 4096 < bytes);
			break;
		}
		memset(buffers[nr].address, (int)nr + 1, buffers[nr].bytes);
		total += buffers[nr++].bytes;
	}
	assert_int_equal(error, -BERTH_ENOSPC);
	assert_true(nr > 15);
	assert_int_equal(pool_stats(pool).claims_held, nr);
	assert_int_equal(pool_stats(pool).claimed_bytes, total);
	for (size_t i = 0; i < nr; i++) {
		const unsigned char *bytes = buffers[i].address;

		assert_int_equal(bytes[0], i + 1);
		assert_int_equal(bytes[buffers[i].bytes - 1], i + 1);
	}
	pattern_ok(memory, AREA_BYTES, 1);
	pool_ok(pool);
	for (size_t i = 0; i < nr; i += 2) /* every other, then a claim in the gaps */
		must(berth_release(pool, &buffers[i]));
	must(berth_claim(pool, NULL, 1 * MIB, NULL, &another, NULL));
	for (size_t i = 1; i < nr; i += 2)
		must(berth_release(pool, &buffers[i]));
	must(berth_release(pool, &another));
	must(berth_unmap(pool, memory, AREA_BYTES));
	pool_close(pool);
}

static void claims_are_aligned(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	struct berth_buffer off, buffer;

	(void)state;
	must(berth_claim(pool, NULL, 12 * KIB, NULL, &off, NULL)); /* so that not all is aligned */
	for (size_t align = 1; align <= 4 * MIB; align *= 2) {
		const struct berth_claim_options options = { .align_bytes = align };

		must(berth_claim(pool, NULL, 20 * KIB, &options, &buffer, NULL));
		assert_int_equal(buffer.offset % align, 0);
		must(berth_release(pool, &buffer));
	}
	must(berth_release(pool, &off));
	pool_close(pool);
}

static void claims_are_zeroed_when_asked(void **state)
{
	const struct berth_claim_options zero = { .flags = BERTH_ZERO };
	struct berth_pool *pool = pool_open(8 * MIB, BERTH_POOL_POISON, NULL);
	char *memory = pool_map(pool, 8 * MIB);
	struct berth_buffer buffer;

	(void)state;
	memset(memory, 0x77, 8 * MIB);
	must(berth_claim(pool, NULL, 8 * MIB, &zero, &buffer, NULL));
	assert_true(is_zero(buffer.address, buffer.bytes));
	memset(buffer.address, 0x66, buffer.bytes);
	must(berth_release(pool, &buffer));
	/* What a device left behind isn't shown to a borrower. */
	must(berth_unmap(pool, memory, 8 * MIB));
	memory = pool_map(pool, 16 * MIB);
	assert_true(is_zero(memory, 16 * MIB));
	must(berth_unmap(pool, memory, 16 * MIB));
	pool_close(pool);
}

static void old_frames_are_poisoned(void **state)
{
	struct berth_pool *pool = pool_open(8 * MIB, BERTH_POOL_POISON, NULL);
	char *memory = pool_map(pool, 8 * MIB);
	struct berth_buffer buffer;

	(void)state;
	pattern_fill(memory, 8 * MIB, 1);
	must(berth_claim(pool, NULL, 8 * MIB, NULL, &buffer, NULL));
	for (size_t i = 0; i < buffer.bytes; i += 512)
		assert_int_equal(((unsigned char *)buffer.address)[i], 0xdb);
	pattern_ok(memory, 8 * MIB, 1);
	must(berth_release(pool, &buffer));
	must(berth_unmap(pool, memory, 8 * MIB));
	pool_close(pool);
}

static void free_only_claims_move_nothing(void **state)
{
	const struct berth_claim_options now = { .flags = BERTH_CLAIM_FREE_ONLY };
	struct berth_pool *pool = pool_open(8 * MIB, 0, NULL);
	struct berth_claim_report report;
	struct berth_buffer buffer;
	void *memory;

	(void)state;
	must(berth_claim(pool, NULL, 8 * MIB, &now, &buffer, &report));
	assert_int_equal(report.moved_pages, 0);
	must(berth_release(pool, &buffer));
	memory = pool_map(pool, 4 * MIB);
	assert_int_equal(pool_stats(pool).lent_bytes, 4 * MIB);
	must(berth_claim(pool, NULL, 4 * MIB, &now, &buffer, &report));
	assert_int_equal(report.moved_pages, 0);
	assert_refused(pool, -BERTH_EAGAIN,
		       berth_claim(pool, NULL, 4096, &now, &(struct berth_buffer){ 0 }, &report));
	assert_int_equal(report.error, -BERTH_EAGAIN);
	must(berth_release(pool, &buffer));
	must(berth_unmap(pool, memory, 4 * MIB));
	pool_close(pool);
}

static void the_cheapest_range_is_claimed_unless_the_first_will_do(void **state)
{
	const struct berth_claim_options first = { .flags = BERTH_CLAIM_FIRST_FIT };
	struct berth_pool *pool = pool_open(8 * MIB, 0, NULL);
	struct berth_claim_report report;
	struct berth_buffer buffer;
	char *memory = pool_map(pool, 8 * MIB);

	(void)state;
	/* One free huge page: the last one. */
	for (size_t at = 0; at < 8 * MIB; at += 2 * MIB)
		*(uint64_t *)(void *)(memory + at) = at;
	for (size_t at = 0; at < 8 * MIB; at += 2 * MIB) {
		if (berth_offset_of(pool, memory + at) != 6 * MIB)
			continue;
		must(berth_claim(pool, NULL, 2 * MIB, NULL, &buffer, &report));
		assert_int_equal(report.moved_pages, 512); /* all the same so far */
		must(berth_release(pool, &buffer));
	}
	must(berth_claim(pool, NULL, 2 * MIB, NULL, &buffer, &report));
	assert_int_equal(report.moved_pages, 0);
	must(berth_release(pool, &buffer));
	must(berth_claim(pool, NULL, 2 * MIB, &first, &buffer, &report));
	assert_int_equal(buffer.offset, 0);
	must(berth_release(pool, &buffer));
	must(berth_unmap(pool, memory, 8 * MIB));
	pool_close(pool);
}

struct unpinner {
	struct berth_pool *pool;
	uint64_t pin;
	int error;
};

static void *unpin_when_a_claim_waits(void *argument)
{
	struct unpinner *u = argument;
	struct berth_pool_stats stats;

	/* The claim has looked at everything at least once: it isolates, finds the pin, undoes. */
	for (unsigned i = 0; i < 1000; i++)
		if (berth_pool_stats(u->pool, &stats) != 0)
			break;
	u->error = berth_unpin(u->pool, u->pin);
	return NULL;
}

static void claims_wait_for_holders(void **state)
{
	const struct berth_claim_options brief = { .timeout_ns = 30000000 };
	const struct berth_claim_options patient = { .timeout_ns = UINT64_MAX };
	struct berth_pool *pool = pool_open(8 * MIB, 0, NULL);
	struct unpinner unpinner = { .pool = pool };
	char *memory = pool_map(pool, 8 * MIB);
	struct berth_claim_report report;
	struct berth_buffer buffer;
	pthread_t thread;
	uint64_t start;

	(void)state;
	must(berth_pin(pool, memory + 5 * MIB, 4096, "a camera", 0, &unpinner.pin));
	start = now_ns();
	assert_refused(pool, -BERTH_EAGAIN,
		       berth_claim(pool, NULL, 8 * MIB, &brief, &buffer, &report));
	assert_true(now_ns() - start >= 30000000);
	assert_int_equal(report.error, -BERTH_EAGAIN);
	assert_string_equal(report.blocker_holder, "a camera");
	assert_int_equal(pthread_create(&thread, NULL, unpin_when_a_claim_waits, &unpinner), 0);
	must(berth_claim(pool, NULL, 8 * MIB, &patient, &buffer, &report));
	assert_int_equal(pthread_join(thread, NULL), 0);
	must(unpinner.error);
	must(berth_release(pool, &buffer));
	must(berth_unmap(pool, memory, 8 * MIB));
	pool_close(pool);
}

/* ---- In bulk, and ahead of the need --------------------------------------------------------------- */

static void many_buffers_in_one_call(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	const struct berth_claim_options zero = { .flags = BERTH_ZERO };
	struct berth_buffer buffers[256];
	struct berth_claim_report report;
	void *memory = pool_map(pool, AREA_BYTES);

	(void)state;
	pattern_fill(memory, AREA_BYTES, 7);
	assert_int_equal(berth_claim_bulk(pool, NULL, 64 * 1024, &zero, 256, 0, buffers, &report),
			 256);
	assert_int_equal(report.moved_pages << 12, 256 * 64 * 1024);
	for (unsigned i = 0; i < 256; i++) {
		assert_true(is_zero(buffers[i].address, 64 * 1024));
		memset(buffers[i].address, 0x5a, buffers[i].bytes);
	}
	pattern_ok(memory, AREA_BYTES, 7);
	assert_int_equal(pool_stats(pool).claims_held, 256);
	assert_int_equal(berth_pool_close(pool), -BERTH_EBUSY);
	/* One of them by itself, then the others; what was released can't be again. */
	must(berth_release(pool, &buffers[0]));
	assert_int_equal(berth_release_bulk(pool, buffers, 256), -BERTH_EINVAL);
	must(berth_release_bulk(pool, buffers + 1, 255));
	assert_int_equal(pool_stats(pool).claims_held, 0);
	/* More than there are: none, or what there is. */
	assert_int_equal(berth_claim_bulk(pool, NULL, 12 * MIB, NULL, 3, 0, buffers, &report),
			 -BERTH_ENOSPC);
	assert_int_equal(berth_claim_bulk(pool, NULL, 12 * MIB, NULL, 3,
					  BERTH_BULK_AS_MANY_AS_POSSIBLE, buffers, &report),
			 2);
	must(berth_release_bulk(pool, buffers, 2));
	assert_int_equal(berth_claim_bulk(pool, "no", 1, NULL, 3, 0, buffers, NULL), -BERTH_ENOENT);
	assert_int_equal(berth_claim_bulk(pool, NULL, 0, NULL, 3, 0, buffers, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_claim_bulk(pool, NULL, 1, NULL, 0, 0, buffers, NULL), -BERTH_EINVAL);
	must(berth_unmap(pool, memory, AREA_BYTES));
	pool_close(pool);
}

/* The thread empties and clears it while the memory is in use. */
static void a_prepared_buffer_is_taken_without_moving_anything(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	const struct berth_claim_options zero = { .flags = BERTH_ZERO };
	void *memory = pool_map(pool, AREA_BYTES);
	struct berth_claim_report report;
	struct berth_prepared *prepared;
	struct berth_buffer buffer;
	uint64_t moved;

	(void)state;
	pattern_fill(memory, AREA_BYTES, 8);
	must(berth_prepare(pool, NULL, 16 * MIB, &zero, &prepared));
	assert_int_equal(berth_pool_close(pool), -BERTH_EBUSY);
	pattern_ok(memory, AREA_BYTES, 8);
	while (pool_stats(pool).claimed_bytes < 16 * MIB)
		sched_yield();
	moved = pool_stats(pool).moved_bytes;
	must(berth_prepare_take(prepared, 10000000000u, &buffer, &report));
	assert_int_equal(pool_stats(pool).moved_bytes, moved);
	assert_int_equal(report.moved_pages << 12, 16 * MIB);
	assert_true(is_zero(buffer.address, buffer.bytes));
	memset(buffer.address, 1, buffer.bytes);
	pattern_ok(memory, AREA_BYTES, 8);
	must(berth_release(pool, &buffer));
	must(berth_unmap(pool, memory, AREA_BYTES));
	pool_close(pool);
}

static void a_preparation_is_given_up_at_any_time(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		void *memory = pool_map(pool, AREA_BYTES);
		struct berth_prepared *prepared;
		struct berth_buffer buffer;

		pattern_fill(memory, AREA_BYTES, i);
		must(berth_prepare(pool, NULL, 16 * MIB, NULL, &prepared));
		if (i % 4 == 1 && berth_prepare_take(prepared, i * 100000, &buffer, NULL) == 0)
			must(berth_release(pool, &buffer));
		else
			must(berth_prepare_cancel(prepared));
		assert_int_equal(pool_stats(pool).claims_held, 0);
		assert_int_equal(pool_stats(pool).claimed_bytes, 0);
		pattern_ok(memory, AREA_BYTES, i);
		must(berth_unmap(pool, memory, AREA_BYTES));
	}
	pool_close(pool);
}

/* Who pins it is named, by the preparation's report as by any other. */
static void a_preparation_fails_as_a_claim_does(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	void *memory = pool_map(pool, AREA_BYTES);
	struct berth_claim_report report;
	struct berth_prepared *prepared;
	struct berth_buffer buffer;
	uint64_t pin;

	(void)state;
	must(berth_pin(pool, memory, 4096, "a device", 0, &pin));
	must(berth_prepare(pool, NULL, AREA_BYTES, NULL, &prepared));
	assert_int_equal(berth_prepare_take(prepared, 10000000000u, &buffer, &report),
			 -BERTH_EBUSY);
	assert_int_equal(report.reason, BERTH_CLAIM_PINNED);
	assert_string_equal(report.blocker_holder, "a device");
	assert_int_equal(berth_prepare(pool, NULL, 2 * AREA_BYTES, NULL, &prepared), -BERTH_E2BIG);
	assert_int_equal(berth_prepare(pool, "no", 1, NULL, &prepared), -BERTH_ENOENT);
	must(berth_unpin(pool, pin));
	must(berth_unmap(pool, memory, AREA_BYTES));
	pool_close(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(claims_of_many_sizes),
		cmocka_unit_test(many_buffers_in_one_call),
		cmocka_unit_test(a_prepared_buffer_is_taken_without_moving_anything),
		cmocka_unit_test(a_preparation_is_given_up_at_any_time),
		cmocka_unit_test(a_preparation_fails_as_a_claim_does),
		cmocka_unit_test(many_claims_fill_an_area),
		cmocka_unit_test(claims_are_aligned),
		cmocka_unit_test(claims_are_zeroed_when_asked),
		cmocka_unit_test(old_frames_are_poisoned),
		cmocka_unit_test(free_only_claims_move_nothing),
		cmocka_unit_test(the_cheapest_range_is_claimed_unless_the_first_will_do),
		cmocka_unit_test(claims_wait_for_holders),
	};

	return cmocka_run_group_tests_name("berth.h, buffers", tests, NULL, NULL);
}
