/* SPDX-License-Identifier: MIT */
/*
 * What berth.h promises when everything goes well: pools, areas, movable memory, pins, statistics, one
 * thread and several. Buffers are in test_buffers.c.
 */
#define _GNU_SOURCE
#include "tests/include/testpool.h"

#define AREA_BYTES (32 * MIB)

/* ---- Pools ------------------------------------------------------------------------------------ */

static void a_pool_is_as_large_as_asked(void **state)
{
	static const struct {
		size_t pool, area, pool_is, area_is;
	} sizes[] = {
		{ 0, 8 * MIB, 16 * MIB, 8 * MIB },        { 0, 1, 4 * MIB, 2 * MIB },
		{ 8 * MIB, 8 * MIB, 8 * MIB, 8 * MIB },   { 9 * MIB, 3 * MIB, 10 * MIB, 4 * MIB },
		{ 33 * MIB, 2 * MIB, 34 * MIB, 2 * MIB },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		const struct berth_area_params area = { "a", sizes[i].area, BERTH_LEND_FIRST };
		const struct berth_pool_params params = { .bytes = sizes[i].pool,
							  .areas = &area,
							  .nr_areas = 1 };
		struct berth_pool_stats stats;
		struct berth_pool *pool;

		must(berth_pool_open(&params, &pool));
		stats = pool_stats(pool);
		assert_int_equal(stats.pool_bytes, sizes[i].pool_is);
		assert_int_equal(stats.area_bytes, sizes[i].area_is);
		assert_int_equal(stats.free_bytes, sizes[i].pool_is);
		assert_int_equal(stats.used_bytes + stats.claimed_bytes + stats.mapped_bytes +
					 stats.lent_bytes + stats.pins + stats.claims_held,
				 0);
		assert_true(stats.metadata_bytes > 0);
		assert_non_null(stats.mover);
		pool_close(pool);
	}
}

static void a_pool_needs_no_areas(void **state)
{
	const struct berth_pool_params params = { .bytes = 4 * MIB };
	struct berth_pool *pool;
	void *memory;

	(void)state;
	must(berth_pool_open(&params, &pool));
	must(berth_map(pool, 4 * MIB, 0, &memory));
	pattern_fill(memory, 4 * MIB, 1);
	pattern_ok(memory, 4 * MIB, 1);
	must(berth_unmap(pool, memory, 4 * MIB));
	pool_close(pool);
}

static void a_pool_has_up_to_sixteen_areas(void **state)
{
	struct berth_area_params areas[16];
	struct berth_pool_params params = { .areas = areas, .nr_areas = 16 };
	char names[16][32];
	struct berth_buffer buffers[16];
	struct berth_pool *pool;

	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		snprintf(names[i], sizeof(names[i]), "area number %02u, a longish name", i);
		names[i][31] = 0;
		areas[i] = (struct berth_area_params){ names[i], 2 * MIB, BERTH_LEND_FIRST };
	}
	must(berth_pool_open(&params, &pool));
	for (unsigned i = 0; i < 16; i++) {
		must(berth_claim(pool, names[i], 2 * MIB, NULL, &buffers[i], NULL));
		assert_string_equal(buffers[i].area, names[i]);
		for (unsigned j = 0; j < i; j++)
			assert_int_not_equal(buffers[i].offset, buffers[j].offset);
	}
	memset(names, 'x', sizeof(names)); /* they were copied */
	for (unsigned i = 0; i < 16; i++)
		must(berth_release(pool, &buffers[i]));
	pool_close(pool);
}

static void two_pools_live_side_by_side(void **state)
{
	struct berth_pool *one = pool_open(8 * MIB, 0, NULL), *two = pool_open(8 * MIB, 0, NULL);
	char *in_one = pool_map(one, 8 * MIB), *in_two = pool_map(two, 8 * MIB);
	struct berth_buffer a, b;

	(void)state;
	pattern_fill(in_one, 8 * MIB, 1);
	pattern_fill(in_two, 8 * MIB, 2);
	must(berth_claim(one, NULL, 8 * MIB, NULL, &a, NULL));
	must(berth_claim(two, NULL, 8 * MIB, NULL, &b, NULL));
	memset(a.address, 0xaa, a.bytes);
	memset(b.address, 0xbb, b.bytes);
	pattern_ok(in_one, 8 * MIB, 1);
	pattern_ok(in_two, 8 * MIB, 2);
	must(berth_release(one, &a));
	must(berth_unmap(one, in_one, 8 * MIB));
	pool_close(one);
	pattern_ok(in_two, 8 * MIB, 2);
	must(berth_release(two, &b));
	must(berth_unmap(two, in_two, 8 * MIB));
	pool_close(two);
}

/* ---- Areas ---------------------------------------------------------------------------------------- */

static void areas_lend_as_they_are_told(void **state)
{
	const struct berth_area_params areas[] = {
		{ "first", 4 * MIB, BERTH_LEND_FIRST },
		{ "last", 4 * MIB, BERTH_LEND_LAST },
		{ "off", 4 * MIB, BERTH_LEND_OFF },
	};
	const struct berth_pool_params params = { .bytes = 16 * MIB,
						  .areas = areas,
						  .nr_areas = 3 };
	struct berth_pool *pool;
	struct berth_cma_stats stats;
	void *memory[3], *more;

	(void)state;
	must(berth_pool_open(&params, &pool));
	must(berth_map(pool, 4 * MIB, 0, &memory[0]));
	assert_true(berth_offset_of(pool, memory[0]) < 4 * MIB);
	must(berth_map(pool, 4 * MIB, 0, &memory[1])); /* beside the areas */
	assert_true(berth_offset_of(pool, memory[1]) >= 12 * MIB);
	assert_int_equal(berth_map(pool, 4096, BERTH_MEMORY_NO_AREA, &more), -BERTH_ENOMEM);
	must(berth_map(pool, 4 * MIB, 0, &memory[2]));
	assert_in_range(berth_offset_of(pool, memory[2]), 4 * MIB, 8 * MIB - 1);
	assert_int_equal(berth_map(pool, 4096, 0, &more), -BERTH_ENOMEM);
	must(berth_area_stats(pool, "first", &stats));
	assert_int_equal(stats.lent_pages, 1024);
	must(berth_area_stats(pool, "last", &stats));
	assert_int_equal(stats.lent_pages, 1024);
	must(berth_area_stats(pool, "off", &stats));
	assert_int_equal(stats.lent_pages, 0);
	assert_int_equal(stats.free_pages, 1024);
	assert_int_equal(stats.largest_free_pages, 1024);
	assert_int_equal(pool_stats(pool).lent_bytes, 8 * MIB);
	for (unsigned i = 0; i < 3; i++)
		must(berth_unmap(pool, memory[i], 4 * MIB));
	must(berth_area_stats(pool, NULL, &stats));
	assert_string_equal(stats.name, "first");
	pool_close(pool);
}

static void memory_without_area_stays_out_of_it(void **state)
{
	struct berth_pool *pool = pool_open(8 * MIB, 0, NULL);
	void *memory;

	(void)state;
	must(berth_map_runs(pool, 2 * MIB, 4096, BERTH_MEMORY_NO_AREA, &memory));
	must(berth_grow(pool, memory, 2 * MIB, 5 * MIB));
	for (size_t at = 0; at < 5 * MIB; at += 4096)
		assert_true(berth_offset_of(pool, (char *)memory + at) >= 8 * MIB);
	assert_int_equal(pool_stats(pool).lent_bytes, 0);
	must(berth_unmap(pool, memory, 5 * MIB));
	pool_close(pool);
}

static void statistics_add_up(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	struct berth_buffer buffer;
	struct berth_cma_stats area;
	struct berth_pool_stats s;
	char *memory = pool_map(pool, 20 * MIB);

	(void)state;
	for (unsigned round = 0; round < 5; round++) {
		must(berth_claim(pool, NULL, 30 * MIB, NULL, &buffer, NULL));
		s = pool_stats(pool);
		must(berth_area_stats(pool, "area", &area));
		assert_int_equal(s.mapped_bytes, 20 * MIB);
		assert_int_equal(s.claimed_bytes, 30 * MIB);
		assert_true(s.used_bytes >= s.mapped_bytes);
		assert_int_equal(area.claimed_pages * 4096, 30 * MIB);
		assert_int_equal(area.nr_pages * 4096, AREA_BYTES);
		assert_int_equal(area.claimed_pages + area.free_pages + area.lent_pages,
				 area.nr_pages);
		assert_int_equal(area.lent_pages * 4096, s.lent_bytes);
		assert_int_equal(area.claims_ok, round + 1);
		assert_int_equal(area.releases, round);
		assert_int_equal(s.claims_ok, round + 1);
		must(berth_release(pool, &buffer));
		pool_ok(pool);
	}
	assert_true(s.moved_bytes >= 18 * MIB && s.moved_runs > 0);
	must(berth_unmap(pool, memory, 20 * MIB));
	s = pool_stats(pool);
	assert_int_equal(s.mapped_bytes + s.claimed_bytes + s.used_bytes + s.lent_bytes, 0);
	pool_close(pool);
}

/* ---- Movable memory --------------------------------------------------------------------------------- */

static void memory_of_any_size(void **state)
{
	static const size_t sizes[] = { 1,       4095,        4096,    4097,        100 * KIB,
					2 * MIB, 2 * MIB + 1, 5 * MIB, 15 * MIB - 1 };
	struct berth_pool *pool = pool_open(8 * MIB, 0, NULL);
	void *memory;

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			memory = pool_map(pool, sizes[i]);
			assert_int_equal((uintptr_t)memory % 4096, 0);
			if (sizes[i] >= 2 * MIB)
				assert_int_equal((uintptr_t)memory % (2 * MIB), 0);
			assert_true(is_zero(memory, sizes[i]));
			memset(memory, 0xee, sizes[i]);
			assert_int_equal(pool_stats(pool).mapped_bytes,
					 (sizes[i] + 4095) & ~(size_t)4095);
			must(berth_unmap(pool, memory, sizes[i]));
		}
	}
	pool_close(pool);
}

static void memory_comes_in_runs(void **state)
{
	struct berth_pool *pool = pool_open(16 * MIB, 0, NULL);
	char *memory;

	(void)state;
	for (size_t run = 4096; run <= 2 * MIB; run *= 2) {
		must(berth_map_runs(pool, 8 * MIB, run, 0, (void **)&memory));
		for (size_t at = 0; at < 8 * MIB; at += run) {
			size_t offset = berth_offset_of(pool, memory + at);

			assert_int_equal(offset % run, 0);
			assert_int_equal(berth_offset_of(pool, memory + at + run - 1),
					 offset + run - 1);
		}
		must(berth_unmap(pool, memory, 8 * MIB));
	}
	pool_close(pool);
}

static void memory_grows_in_place(void **state)
{
	struct berth_pool *pool = pool_open(8 * MIB, 0, NULL);
	char *memory = pool_map(pool, 100), *behind;

	(void)state;
	must(berth_grow(pool, memory, 100, 4000)); /* its page has room */
	pattern_fill(memory, 4096, 1);
	must(berth_grow(pool, memory, 4000, 3 * MIB));
	pattern_ok(memory, 4096, 1);
	assert_true(is_zero(memory + 4096, 3 * MIB - 4096));
	pattern_fill(memory, 3 * MIB, 2);
	must(berth_grow(pool, memory, 3 * MIB, 10 * MIB));
	pattern_ok(memory, 3 * MIB, 2);
	assert_true(is_zero(memory + 3 * MIB, 7 * MIB));
	behind = pool_map(pool, 4096);
	if (behind == memory + 10 * MIB) { /* first fit */
		assert_refused(pool, -BERTH_ENOMEM, berth_grow(pool, memory, 10 * MIB, 11 * MIB));
		pattern_ok(memory, 3 * MIB, 2);
	}
	must(berth_unmap(pool, behind, 4096));
	must(berth_unmap(pool, memory, 10 * MIB));
	pool_close(pool);
}

static void offsets_follow_the_memory(void **state)
{
	struct berth_pool *pool = pool_open(8 * MIB, 0, NULL);
	char *memory = pool_map(pool, 4 * MIB), here;
	size_t offset = berth_offset_of(pool, memory);
	uint64_t cursor = 0;

	(void)state;
	assert_int_equal(berth_offset_of(pool, memory + 12345), offset + 12345);
	assert_int_equal(berth_offset_of(pool, &here), (size_t)-1);
	assert_int_equal(berth_offset_of(pool, NULL), (size_t)-1);
	assert_int_equal(berth_offset_of(pool, memory + 4 * MIB), (size_t)-1);
	for (unsigned i = 0; i < 8; i++)
		assert_true(berth_shuffle(pool, &cursor) >= 0);
	assert_int_not_equal(berth_offset_of(pool, memory), offset);
	must(berth_unmap(pool, memory, 4 * MIB));
	assert_int_equal(berth_offset_of(pool, memory), (size_t)-1);
	pool_close(pool);
}

static void a_shuffle_moves_everything_round_and_round(void **state)
{
	struct berth_pool *pool = pool_open(8 * MIB, BERTH_POOL_POISON, NULL);
	char *memory = pool_map(pool, 6 * MIB);
	struct berth_buffer buffer;
	int64_t moved = 0;
	uint64_t cursor = 0;

	(void)state;
	pattern_fill(memory, 6 * MIB, 5);
	for (unsigned i = 0; i < 80; i++) {
		int64_t bytes = berth_shuffle(pool, &cursor);

		assert_true(bytes >= 0 && bytes <= (int64_t)(2 * MIB));
		moved += bytes;
		pattern_ok(memory, 6 * MIB, 5);
	}
	assert_int_equal(cursor, 80);
	assert_true(moved >= (int64_t)(6 * MIB));
	assert_int_equal(pool_stats(pool).moved_bytes, moved);
	pool_ok(pool);
	must(berth_claim(pool, NULL, 2 * MIB, NULL, &buffer, NULL));
	cursor = buffer.offset / (2 * MIB);
	assert_int_equal(berth_shuffle(pool, &cursor), -BERTH_EBUSY);
	must(berth_release(pool, &buffer));
	must(berth_unmap(pool, memory, 6 * MIB));
	pool_close(pool);
}

/* ---- Pins --------------------------------------------------------------------------------------------- */

static void pinned_memory_stays(void **state)
{
	struct berth_pool *pool = pool_open(8 * MIB, 0, NULL);
	char *memory = pool_map(pool, 4 * MIB);
	size_t offset = berth_offset_of(pool, memory + 3 * MIB);
	struct berth_claim_report report;
	struct berth_buffer buffer;
	uint64_t cursor = 0, pin;

	(void)state;
	pattern_fill(memory, 4 * MIB, 1);
	/* Across a page's end. */
	must(berth_pin(pool, memory + 3 * MIB + 4000, 200, "io_uring", 0, &pin));
	assert_int_equal(pool_stats(pool).pins, 1);
	for (unsigned i = 0; i < 16; i++) {
		int64_t moved = berth_shuffle(pool, &cursor);

		assert_true(moved >= 0 || moved == -BERTH_EBUSY);
	}
	assert_int_equal(berth_offset_of(pool, memory + 3 * MIB), offset);
	assert_refused(pool, -BERTH_EBUSY,
		       berth_claim(pool, NULL, 8 * MIB, NULL, &buffer, &report));
	assert_string_equal(report.blocker_holder, "io_uring");
	assert_non_null(report.blocker_owner);
	assert_true(report.blocker_pfn <= (offset + 4000) / 4096 &&
		    report.blocker_pfn + report.blocker_pages > (offset + 4000) / 4096);
	must(berth_unpin(pool, pin));
	must(berth_claim(pool, NULL, 8 * MIB, NULL, &buffer, &report));
	assert_int_not_equal(berth_offset_of(pool, memory + 3 * MIB), offset);
	pattern_ok(memory, 4 * MIB, 1);
	must(berth_release(pool, &buffer));
	must(berth_unmap(pool, memory, 4 * MIB));
	pool_close(pool);
}

static void long_term_pins_are_in_nobodys_way(void **state)
{
	struct berth_pool *pool = pool_open(8 * MIB, BERTH_POOL_POISON, NULL);
	char *memory = pool_map(pool, 4 * MIB);
	struct berth_buffer buffer;
	uint64_t pin;

	(void)state;
	pattern_fill(memory, 4 * MIB, 1);
	assert_true(berth_offset_of(pool, memory) < 8 * MIB);
	must(berth_pin(pool, memory, 4 * MIB, "RDMA", BERTH_PIN_LONG_TERM, &pin));
	for (size_t at = 0; at < 4 * MIB; at += 4096)
		assert_true(berth_offset_of(pool, memory + at) >= 8 * MIB);
	pattern_ok(memory, 4 * MIB, 1);
	must(berth_claim(pool, NULL, 8 * MIB, NULL, &buffer, NULL));
	pattern_ok(memory, 4 * MIB, 1);
	must(berth_release(pool, &buffer));
	must(berth_unpin(pool, pin));
	must(berth_unmap(pool, memory, 4 * MIB));
	pool_close(pool);
}

/* ---- Words ---------------------------------------------------------------------------------------------- */

static void every_code_has_words(void **state)
{
	static const struct {
		int code;
		const char *name;
	} codes[] = {
		{ 0, "OK" },
		{ BERTH_EAGAIN, "EAGAIN" },
		{ BERTH_ENOMEM, "ENOMEM" },
		{ BERTH_EBUSY, "EBUSY" },
		{ BERTH_EEXIST, "EEXIST" },
		{ BERTH_EINVAL, "EINVAL" },
		{ BERTH_ENOSPC, "ENOSPC" },
		{ BERTH_ENOSYS, "ENOSYS" },
		{ BERTH_ENOENT, "ENOENT" },
		{ BERTH_E2BIG, "E2BIG" },
		{ BERTH_EPERM, "EPERM" },
		{ BERTH_ESTALE, "ESTALE" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		assert_string_equal(berth_errname(codes[i].code), codes[i].name);
		assert_string_equal(berth_errname(-codes[i].code), codes[i].name);
		assert_string_equal(berth_strerror(codes[i].code), berth_strerror(-codes[i].code));
		assert_true(strlen(berth_strerror(codes[i].code)) > 5);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(berth_strerror(codes[i].code),
						berth_strerror(codes[j].code));
	}
	assert_non_null(berth_strerror(9999));
	assert_non_null(berth_errname(-9999));
	assert_non_null(berth_strerror(INT32_MIN));
	assert_string_equal(berth_version(), BERTH_VERSION_STRING);
}

static void reports_are_worded(void **state)
{
	struct berth_pool *pool = pool_open(8 * MIB, 0, NULL);
	char *memory = pool_map(pool, 8 * MIB), text[2000], part[20];
	struct berth_claim_report report;
	struct berth_buffer buffer;
	uint64_t pin;
	size_t length;

	(void)state;
	must(berth_pin(pool, memory, 4096, "the frame grabber", 0, &pin));
	assert_int_equal(berth_claim(pool, "area", 8 * MIB, NULL, &buffer, &report), -BERTH_EBUSY);
	length = berth_report_text(&report, text, sizeof(text));
	assert_int_equal(length, strlen(text));
	assert_non_null(strstr(text, "8.0 MiB"));
	assert_non_null(strstr(text, "area"));
	assert_non_null(strstr(text, "EBUSY"));
	assert_non_null(strstr(text, "the frame grabber"));
	/* Cut as snprintf cuts. */
	assert_int_equal(berth_report_text(&report, part, sizeof(part)), length);
	assert_int_equal(strlen(part), sizeof(part) - 1);
	assert_memory_equal(part, text, sizeof(part) - 1);
	assert_int_equal(berth_report_text(&report, NULL, 0), length);
	must(berth_unpin(pool, pin));
	must(berth_claim(pool, "area", 8 * MIB, NULL, &buffer, &report));
	berth_report_text(&report, text, sizeof(text));
	assert_non_null(strstr(text, "done"));
	assert_non_null(strstr(text, "8.0 MiB moved"));
	must(berth_release(pool, &buffer));
	must(berth_unmap(pool, memory, 8 * MIB));
	pool_close(pool);
}

/* ---- Threads ---------------------------------------------------------------------------------------------- */

/* A thread that uses everything, and keeps its own memory's contents. */
struct user {
	pthread_t thread;
	struct berth_pool *pool;
	uint64_t seed;
	_Atomic bool *stop;
	_Atomic uint64_t nr_claims, nr_pins;
	const char *wrong;
	int error;
};

struct user_memory {
	char *address;
	size_t bytes;
	uint64_t seed, pin;
	bool pinned;
};

#define USER_FAILS(user, condition, code)                                           \
	do {                                                                        \
		if (condition) {                                                    \
			(user)->wrong = (user)->wrong ? (user)->wrong : #condition; \
			(user)->error = (code);                                     \
			return false;                                               \
		}                                                                   \
	} while (0)

static bool user_drop(struct user *u, struct user_memory *m)
{
	int error;

	if (m->pinned) {
		error = berth_unmap(u->pool, m->address, m->bytes);
		USER_FAILS(u, error != -BERTH_EBUSY, error);
		error = berth_unpin(u->pool, m->pin);
		USER_FAILS(u, error, error);
	}
	USER_FAILS(u, pattern_differs(m->address, m->bytes, m->seed) != m->bytes / 8, 0);
	error = berth_unmap(u->pool, m->address, m->bytes);
	USER_FAILS(u, error, error);
	m->address = NULL;
	return true;
}

static bool user_take(struct user *u, struct user_memory *m)
{
	size_t run = (size_t)4096 << test_random_below(&u->seed, 10);
	int error;

	*m = (struct user_memory){ .bytes = 4096 * (1 + test_random_below(&u->seed, 300)),
				   .seed = test_random(&u->seed) };
	error = berth_map_runs(u->pool, m->bytes, run, 0, (void **)&m->address);
	if (error == -BERTH_ENOMEM) { /* claims hold the memory */
		m->address = NULL;
		return true;
	}
	USER_FAILS(u, error, error);
	USER_FAILS(u, !is_zero(m->address, m->bytes), 0);
	pattern_fill(m->address, m->bytes, m->seed);
	if (test_random_below(&u->seed, 4) == 0) {
		error = berth_pin(u->pool,
				  m->address + 4096 * test_random_below(&u->seed, m->bytes / 4096),
				  1, "user", test_random_below(&u->seed, 2), &m->pin);
		m->pinned = !error;
		atomic_fetch_add(&u->nr_pins, m->pinned);
		USER_FAILS(u, error && error != -BERTH_ENOMEM && error != -BERTH_EBUSY, error);
	}
	return true;
}

static bool user_claim(struct user *u)
{
	struct berth_claim_report report;
	struct berth_buffer buffer;
	int error = berth_claim(u->pool, NULL, 4096 * (1 + test_random_below(&u->seed, 1500)), NULL,
				&buffer, &report);

	if (error == 0) {
		uint64_t seed = test_random(&u->seed);

		atomic_fetch_add(&u->nr_claims, 1);
		pattern_fill(buffer.address, buffer.bytes, seed);
		USER_FAILS(u,
			   pattern_differs(buffer.address, buffer.bytes, seed) != buffer.bytes / 8,
			   0);
		error = berth_release(u->pool, &buffer);
		USER_FAILS(u, error, error);
		return true;
	}
	USER_FAILS(u, error != -BERTH_EBUSY && error != -BERTH_ENOMEM && error != -BERTH_ENOSPC,
		   error);
	USER_FAILS(u, report.error != error, report.error);
	return true;
}

static void *user_run(void *argument)
{
	struct user *u = argument;
	struct user_memory memory[8] = { 0 };
	bool fine = true;

	while (fine && !atomic_load(u->stop)) {
		struct user_memory *m = &memory[test_random_below(&u->seed, ARRAY_SIZE(memory))];

		if (test_random_below(&u->seed, 8) == 0)
			fine = user_claim(u);
		else if (m->address)
			fine = user_drop(u, m);
		else
			fine = user_take(u, m);
	}
	for (size_t i = 0; i < ARRAY_SIZE(memory); i++)
		if (fine && memory[i].address)
			fine = user_drop(u, &memory[i]);
	return NULL;
}

/* Each has claimed and pinned often enough. */
static bool users_are_done(struct user *users, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (atomic_load(&users[i].nr_claims) < 50 || atomic_load(&users[i].nr_pins) < 50)
			return false;
	return true;
}

static void threads_use_everything_at_once(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, BERTH_POOL_POISON, NULL);
	struct user users[3];
	_Atomic bool stop = false;
	uint64_t cursor = 0, end = now_ns() + 30 * SECOND_NS;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		users[i] = (struct user){ .pool = pool, .seed = i + 1, .stop = &stop };
		assert_int_equal(pthread_create(&users[i].thread, NULL, user_run, &users[i]), 0);
	}
	while (!users_are_done(users, ARRAY_SIZE(users)) && now_ns() < end) {
		int64_t moved = berth_shuffle(pool, &cursor);

		assert_true(moved >= 0 || moved == -BERTH_EBUSY || moved == -BERTH_ENOMEM);
	}
	atomic_store(&stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(users); i++)
		pthread_join(users[i].thread, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		if (users[i].wrong)
			fail_msg("thread %zu: %s (%s)", i, users[i].wrong,
				 berth_strerror(users[i].error));
	}
	assert_true(users_are_done(users, ARRAY_SIZE(users)));
	assert_int_equal(pool_stats(pool).mapped_bytes, 0);
	assert_int_equal(pool_stats(pool).claimed_bytes, 0);
	pool_close(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pool_is_as_large_as_asked),
		cmocka_unit_test(a_pool_needs_no_areas),
		cmocka_unit_test(a_pool_has_up_to_sixteen_areas),
		cmocka_unit_test(two_pools_live_side_by_side),
		cmocka_unit_test(areas_lend_as_they_are_told),
		cmocka_unit_test(memory_without_area_stays_out_of_it),
		cmocka_unit_test(statistics_add_up),
		cmocka_unit_test(memory_of_any_size),
		cmocka_unit_test(memory_comes_in_runs),
		cmocka_unit_test(memory_grows_in_place),
		cmocka_unit_test(offsets_follow_the_memory),
		cmocka_unit_test(a_shuffle_moves_everything_round_and_round),
		cmocka_unit_test(pinned_memory_stays),
		cmocka_unit_test(long_term_pins_are_in_nobodys_way),
		cmocka_unit_test(every_code_has_words),
		cmocka_unit_test(reports_are_worded),
		cmocka_unit_test(threads_use_everything_at_once),
	};

	return cmocka_run_group_tests_name("berth.h", tests, NULL, NULL);
}
