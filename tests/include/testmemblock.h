/* SPDX-License-Identifier: MIT */
/*
 * A memblock in a test: its arrays, memory for larger ones, and calls that verify it after each
 * operation.
 */
#ifndef BERTH_TESTMEMBLOCK_H
#define BERTH_TESTMEMBLOCK_H

#include <berth/memblock.h>

#include "testing.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define ANY BERTH_MEMBLOCK_ANY_NODE
#define HOTPLUG BERTH_MEMBLOCK_HOTPLUG
#define MIRROR BERTH_MEMBLOCK_MIRROR
#define NOMAP BERTH_MEMBLOCK_NOMAP

#define MAX_REGIONS 64u

struct fixture {
	struct berth_memblock mb;
	struct berth_memblock_region memory[MAX_REGIONS], reserved[MAX_REGIONS];
	/* For growth: memory that map() reaches, and what alloc() has given. */
	char *ram;
	berth_phys_t ram_base;
	uint64_t ram_bytes;
	unsigned nr_maps, nr_allocated;
	bool refuses;
};

static inline void *fixture_map(void *ctx, berth_phys_t base, uint64_t bytes)
{
	struct fixture *f = ctx;

	f->nr_maps++;
	if (f->refuses || base < f->ram_base || base + bytes > f->ram_base + f->ram_bytes)
		return NULL;
	return f->ram + (base - f->ram_base);
}

static inline void *fixture_alloc(void *ctx, size_t bytes)
{
	struct fixture *f = ctx;

	if (f->refuses)
		return NULL;
	f->nr_allocated++;
	return test_zalloc(1, bytes);
}

static inline void fixture_free(void *ctx, void *array, size_t bytes)
{
	memset(array, 0xa5, bytes);
	free(array);
	((struct fixture *)ctx)->nr_allocated--;
}

static const struct berth_memblock_ops map_ops __attribute__((unused)) = { .map = fixture_map };
static const struct berth_memblock_ops alloc_ops
	__attribute__((unused)) = { .alloc = fixture_alloc, .free = fixture_free };

static inline void mb_verify(const struct berth_memblock *mb, const char *file, int line)
{
	struct berth_violation v = { 0 };

	if (!berth_memblock_check(mb, &v)) {
		print_error("memblock check: %s %#llx: value %#llx, expected %#llx\n", v.what,
			    (unsigned long long)v.where, (unsigned long long)v.value,
			    (unsigned long long)v.expected);
		_fail(file, line);
	}
}
#define mb_ok(f) mb_verify(&(f)->mb, __FILE__, __LINE__)

/* `max` regions in each list; ops may be NULL. */
static inline struct fixture *fixture_open(uint32_t max, const struct berth_memblock_ops *ops)
{
	struct fixture *f = test_zalloc(1, sizeof(*f));
	struct berth_memblock_params params = {
		.memory = f->memory,
		.reserved = f->reserved,
		.max_memory = max,
		.max_reserved = max,
		.ops = ops,
		.ctx = f,
	};

	assert_true(max <= MAX_REGIONS);
	assert_int_equal(berth_memblock_init(&f->mb, &params), 0);
	mb_ok(f);
	return f;
}

static inline void fixture_close(struct fixture *f)
{
	mb_ok(f);
	berth_memblock_destroy(&f->mb);
	assert_int_equal(f->nr_allocated, 0);
	free(f->ram);
	free(f);
}

/* Memory that the CPU can reach, so that arrays can grow into it. */
static inline void fixture_ram(struct fixture *f, berth_phys_t base, uint64_t bytes)
{
	f->ram = test_zalloc(1, bytes);
	f->ram_base = base;
	f->ram_bytes = bytes;
}

/* Calls that must succeed. */
#define must(f, call)                      \
	do {                               \
		assert_int_equal(call, 0); \
		mb_ok(f);                  \
	} while (0)
#define add(f, base, size) must(f, berth_memblock_add(&(f)->mb, base, size, ANY, 0))
#define reserve(f, base, size) must(f, berth_memblock_reserve(&(f)->mb, base, size))

/* The call returns this error; both lists stay what they were. */
#define assert_mb_refused(f, error, call)                                                         \
	do {                                                                                      \
		struct berth_memblock before_ = (f)->mb;                                          \
		struct berth_memblock_region m_[MAX_REGIONS], r_[MAX_REGIONS];                    \
		memcpy(m_, before_.memory.regions, before_.memory.nr * sizeof(m_[0]));            \
		memcpy(r_, before_.reserved.regions, before_.reserved.nr * sizeof(r_[0]));        \
		assert_int_equal(call, error);                                                    \
		assert_memory_equal(&before_, &(f)->mb, sizeof(before_));                         \
		assert_memory_equal(m_, before_.memory.regions, before_.memory.nr * sizeof(*m_)); \
		assert_memory_equal(r_, before_.reserved.regions,                                 \
				    before_.reserved.nr * sizeof(*r_));                           \
		mb_ok(f);                                                                         \
	} while (0)

static inline void list_is(const struct berth_memblock_list *list,
			   const struct berth_memblock_region *expected, size_t nr,
			   const char *file, int line)
{
	_assert_int_equal(list->nr, nr, file, line);
	for (size_t i = 0; i < nr; i++) {
		_assert_int_equal(list->regions[i].base, expected[i].base, file, line);
		_assert_int_equal(list->regions[i].size_bytes, expected[i].size_bytes, file, line);
		_assert_int_equal(list->regions[i].flags, expected[i].flags, file, line);
		_assert_int_equal(list->regions[i].node, expected[i].node, file, line);
	}
}

/* The list's regions are exactly these: { base, size, flags, node }. */
#define assert_list(list, ...)                                             \
	do {                                                               \
		const struct berth_memblock_region e_[] = { __VA_ARGS__ }; \
		list_is(&(list), e_, ARRAY_SIZE(e_), __FILE__, __LINE__);  \
	} while (0)
/* A region without flags and node. */
#define R(base, size)                  \
	{                              \
		(base), (size), 0, ANY \
	}

#endif
