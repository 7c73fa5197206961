/* SPDX-License-Identifier: MIT */
/*
 * Random operations on memblock against a model with one byte for each page: the lists, every
 * refusal for want of room, where allocations go, iteration in both directions.
 *
 *	BERTH_SEED=n   begins with this seed
 */
#include "tests/include/testmemblock.h"

/* ---- The model --------------------------------------------------------------------------------- */

#define PAGES 200u
#define UNIT 4096ull
#define NR_FLAGS 16u

/* One element a page. memory: 0 or 1 + flags + 16 * (node + 1). */
struct model {
	uint8_t memory[PAGES], reserved[PAGES];
	bool has_mirror;
};

static uint8_t model_word(unsigned flags, uint32_t node)
{
	return (uint8_t)(1 + flags + NR_FLAGS * (node == ANY ? 0 : node + 1));
}

static unsigned model_flags(uint8_t word)
{
	return (word - 1u) % NR_FLAGS;
}

static uint32_t model_node(uint8_t word)
{
	return (word - 1u) / NR_FLAGS ? (word - 1u) / NR_FLAGS - 1 : ANY;
}

/* A page begins a region. */
static bool begins(const uint8_t *pages, unsigned i)
{
	return i < PAGES && pages[i] && (i == 0 || pages[i] != pages[i - 1]);
}

static unsigned model_regions(const uint8_t *pages, unsigned from, unsigned to)
{
	unsigned nr = 0;

	for (unsigned i = from; i < to; i++)
		nr += begins(pages, i);
	return nr;
}

static void model_compare(const uint8_t *pages, const struct berth_memblock_list *list)
{
	unsigned nr = 0, i = 0;

	while (i < PAGES) {
		unsigned end = i + 1;

		if (!pages[i]) {
			i++;
			continue;
		}
		while (end < PAGES && pages[end] == pages[i])
			end++;
		assert_true(nr < list->nr);
		assert_int_equal(list->regions[nr].base, i * UNIT);
		assert_int_equal(list->regions[nr].size_bytes, (end - i) * UNIT);
		assert_int_equal(list->regions[nr].flags, model_flags(pages[i]));
		assert_int_equal(list->regions[nr].node, model_node(pages[i]));
		nr++;
		i = end;
	}
	assert_int_equal(nr, list->nr);
}

/* An edit written from the left needs this much room at the most. */
static unsigned model_room(const uint8_t *before, const uint8_t *after)
{
	unsigned most = 0;

	for (unsigned i = 0; i <= PAGES; i++) {
		unsigned nr = model_regions(after, 0, i) + model_regions(before, i, PAGES);

		if (nr > most)
			most = nr;
	}
	return most;
}

static bool model_is_free(const struct model *m, unsigned i)
{
	return m->memory[i] && !m->reserved[i] &&
	       !(model_flags(m->memory[i]) & (NOMAP | BERTH_MEMBLOCK_DRIVER));
}

static bool model_fits(const struct model *m, const struct fixture *f, unsigned start, unsigned nr,
		       uint32_t node, bool mirror)
{
	for (unsigned i = start; i < start + nr; i++)
		if (!model_is_free(m, i) || m->memory[i] != m->memory[start])
			return false;
	return (node == ANY || model_node(m->memory[start]) == node) &&
	       (!mirror || (model_flags(m->memory[start]) & MIRROR)) &&
	       !(f->mb.movable_node && (model_flags(m->memory[start]) & HOTPLUG));
}

/* The page where one round of a search ends; PAGES: nowhere. */
static unsigned model_search(const struct model *m, const struct fixture *f,
			     const struct berth_memblock_request *r, unsigned min, uint32_t node,
			     bool mirror)
{
	unsigned nr = (unsigned)(r->size_bytes / UNIT), align = (unsigned)(r->align_bytes / UNIT);
	berth_phys_t limit = r->max ? r->max : f->mb.limit;
	unsigned max = limit / UNIT > PAGES ? PAGES : (unsigned)(limit / UNIT);

	for (unsigned k = 1; k < PAGES; k++) {
		unsigned i = f->mb.bottom_up ? k : PAGES - k;

		if (i >= min && i + nr <= max && i % align == 0 &&
		    model_fits(m, f, i, nr, node, mirror))
			return i;
	}
	return PAGES;
}

static unsigned model_find(const struct model *m, const struct fixture *f,
			   const struct berth_memblock_request *r)
{
	for (unsigned low = 0; low < (r->flags & BERTH_MEMBLOCK_PREFER_MIN ? 2u : 1u); low++) {
		unsigned min = low ? 0 : (unsigned)(r->min / UNIT);

		for (int mirror = m->has_mirror; mirror >= 0; mirror--) {
			unsigned at = model_search(m, f, r, min, r->node, mirror);

			if (at == PAGES && !(r->flags & BERTH_MEMBLOCK_EXACT_NODE))
				at = model_search(m, f, r, min, ANY, mirror);
			if (at < PAGES)
				return at;
		}
	}
	return PAGES;
}

/* A move of memblock's own arrays, which happens before the edit [start, end) of `edited`. */
static void model_follow_arrays(struct model *m, const struct berth_memblock *before,
				const struct berth_memblock *after, unsigned start, unsigned end,
				bool takes)
{
	const struct berth_memblock_list *old[] = { &before->memory, &before->reserved };
	const struct berth_memblock_list *new[] = { &after->memory, &after->reserved };

	for (unsigned l = 0; l < 2; l++) {
		if (old[l]->array_base == new[l]->array_base)
			continue;
		for (uint64_t i = 0; i < new[l]->array_bytes / UNIT; i++) {
			uint64_t page = new[l]->array_base / UNIT + i;

			assert_true(page && model_is_free(m, (unsigned)page));
			assert_false(takes && page >= start && page < end);
			m->reserved[page] = model_word(0, ANY);
		}
	}
	for (unsigned l = 0; l < 2; l++)
		if (old[l]->array_base != new[l]->array_base)
			for (uint64_t i = 0; i < old[l]->array_bytes / UNIT; i++)
				m->reserved[old[l]->array_base / UNIT + i] = 0;
}

/* The arrays lie in these pages. */
static bool model_in_use(const struct berth_memblock *mb, unsigned start, unsigned end)
{
	const struct berth_memblock_list *lists[] = { &mb->memory, &mb->reserved };

	for (unsigned l = 0; l < 2; l++)
		for (uint64_t i = 0; i < lists[l]->array_bytes / UNIT; i++)
			if (lists[l]->array_base / UNIT + i >= start &&
			    lists[l]->array_base / UNIT + i < end)
				return true;
	return false;
}

enum op { OP_ADD, OP_REMOVE, OP_RESERVE, OP_FREE, OP_MARK, OP_NODE, OP_ALLOC, NR_OPS };

/* What one operation does to a page of the model. */
static void model_apply(struct model *m, enum op op, unsigned start, unsigned end, unsigned set,
			unsigned clear, uint32_t node)
{
	for (unsigned i = start; i < end; i++) {
		uint8_t *memory = &m->memory[i];

		if (op == OP_ADD && !*memory)
			*memory = model_word(set, node);
		if (op == OP_REMOVE)
			*memory = 0;
		if (op == OP_RESERVE || op == OP_ALLOC)
			m->reserved[i] = model_word(0, ANY);
		if (op == OP_FREE)
			m->reserved[i] = 0;
		if (op == OP_MARK && *memory)
			*memory = model_word((model_flags(*memory) | set) & ~clear,
					     model_node(*memory));
		if (op == OP_NODE && *memory)
			*memory = model_word(model_flags(*memory), node);
	}
	if ((op == OP_ADD || op == OP_MARK) && (set & MIRROR) && start < end)
		m->has_mirror = true;
}

static int mb_apply(struct fixture *f, enum op op, unsigned start, unsigned end, unsigned set,
		    unsigned clear, uint32_t node)
{
	berth_phys_t base = start * UNIT;
	uint64_t bytes = (end - start) * UNIT;

	switch (op) {
	case OP_ADD:
		return berth_memblock_add(&f->mb, base, bytes, node, set);
	case OP_REMOVE:
		return berth_memblock_remove(&f->mb, base, bytes);
	case OP_RESERVE:
		return berth_memblock_reserve(&f->mb, base, bytes);
	case OP_FREE:
		return berth_memblock_free(&f->mb, base, bytes);
	case OP_MARK:
		return berth_memblock_mark(&f->mb, base, bytes, set, clear);
	default:
		return berth_memblock_set_node(&f->mb, base, bytes, node);
	}
}

/* A random request, compared with the model's search; *start, *end: its pages. */
static int model_alloc(struct fixture *f, struct model *m, uint64_t *seed, unsigned *start,
		       unsigned *end)
{
	struct berth_memblock_request r = {
		.size_bytes = (1 + test_random_below(seed, 6)) * UNIT,
		.align_bytes = UNIT << test_random_below(seed, 4),
		.min = test_random_below(seed, 3) ? 0 : test_random_below(seed, PAGES) * UNIT,
		.max = test_random_below(seed, 3) ? 0 : test_random_below(seed, PAGES) * UNIT,
		.node = test_random_below(seed, 2) ? ANY : (uint32_t)test_random_below(seed, 3),
		.flags = (unsigned)test_random_below(seed, 4),
	};
	unsigned expected = model_find(m, f, &r);
	berth_phys_t found = 0;
	int error = berth_memblock_find(&f->mb, &r, &found);

	assert_int_equal(error, expected == PAGES ? -BERTH_ENOMEM : 0);
	if (!error)
		assert_int_equal(found, expected * UNIT);
	*start = *end = expected;
	if (error)
		return error;
	*end = expected + (unsigned)(r.size_bytes / UNIT);
	return berth_memblock_alloc(&f->mb, &r, &found);
}

/* One random operation on both; true when it was refused for want of room. */
static bool model_step(struct fixture *f, struct model *m, uint64_t *seed)
{
	struct berth_memblock before = f->mb;
	struct model after = *m;
	enum op op = (enum op)test_random_below(seed, NR_OPS);
	unsigned start = (unsigned)test_random_below(seed, PAGES),
		 end = start + (unsigned)test_random_below(
				       seed, test_random_below(seed, 8) ? 8 : PAGES - start + 1);
	unsigned set = (unsigned)test_random_below(seed, 4) ? 0 : test_random_below(seed, NR_FLAGS),
		 clear = (unsigned)test_random_below(seed, NR_FLAGS) & ~set, room;
	uint32_t node = test_random_below(seed, 3) ? ANY : (uint32_t)test_random_below(seed, 3);
	bool on_memory = op == OP_ADD || op == OP_REMOVE || op == OP_MARK || op == OP_NODE;
	int error;

	if (end > PAGES)
		end = PAGES;
	error = op == OP_ALLOC ? model_alloc(f, m, seed, &start, &end) :
				 mb_apply(f, op, start, end, set, clear, node);
	mb_ok(f);
	if (error == -BERTH_EBUSY) {
		assert_true(op == OP_FREE || op == OP_REMOVE);
		assert_true(model_in_use(&before, start, end));
	} else if (error) {
		assert_int_equal(error, -BERTH_ENOMEM);
		model_apply(&after, op, start, end, set, clear, node);
		room = on_memory ? model_room(m->memory, after.memory) :
				   model_room(m->reserved, after.reserved);
		if (start != end)
			assert_true(room > (on_memory ? before.memory.max : before.reserved.max));
	} else {
		assert_false((op == OP_FREE || op == OP_REMOVE) && start < end &&
			     model_in_use(&before, start, end));
		model_follow_arrays(m, &before, &f->mb, start, end,
				    op == OP_RESERVE || op == OP_ALLOC || op == OP_REMOVE);
		model_apply(m, op, start, end, set, clear, node);
	}
	model_compare(m->memory, &f->mb.memory);
	model_compare(m->reserved, &f->mb.reserved);
	return error == -BERTH_ENOMEM && start != end;
}

/* Walks one list of all regions and compares each step with the list itself. */
static void model_walk(const struct fixture *f, const struct berth_memblock_list *list,
		       bool (*next)(const struct berth_memblock *, berth_phys_t *,
				    struct berth_memblock_region *))
{
	struct berth_memblock_region range;
	uint32_t nr = 0;

	for (berth_phys_t at = 0; next(&f->mb, &at, &range); nr++) {
		assert_true(nr < list->nr);
		assert_memory_equal(&range, &list->regions[nr], sizeof(range));
	}
	assert_int_equal(nr, list->nr);
}

/* Iteration in both directions and the questions, against the model. */
static void model_look(const struct fixture *f, const struct model *m, uint64_t *seed)
{
	struct berth_memblock_region range;
	uint8_t up[PAGES] = { 0 }, down[PAGES] = { 0 };
	unsigned start = (unsigned)test_random_below(seed, PAGES),
		 nr = 1 + (unsigned)test_random_below(seed, 5);
	bool all = true, any = false;
	berth_phys_t last = 0;

	model_walk(f, &f->mb.memory, berth_memblock_next_memory);
	model_walk(f, &f->mb.reserved, berth_memblock_next_reserved);
	for (berth_phys_t at = 0; berth_memblock_next_free(&f->mb, &at, &range);) {
		assert_true(range.size_bytes && range.base >= last);
		last = range.base + range.size_bytes;
		for (uint64_t i = range.base / UNIT; i < last / UNIT; i++)
			up[i] = model_word(range.flags, range.node);
	}
	for (berth_phys_t at = BERTH_PHYS_MAX; berth_memblock_previous_free(&f->mb, &at, &range);)
		for (uint64_t i = 0; i < range.size_bytes / UNIT; i++)
			down[range.base / UNIT + i] = model_word(range.flags, range.node);
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(up[i], model_is_free(m, i) ? m->memory[i] : 0);
		assert_int_equal(up[i], down[i]);
	}
	for (unsigned i = start; i < start + nr; i++) {
		all = all && i < PAGES && m->reserved[i];
		any = any || (i < PAGES && m->reserved[i]);
	}
	assert_int_equal(berth_memblock_is_reserved(&f->mb, start * UNIT, nr * UNIT), all);
	assert_int_equal(berth_memblock_overlaps_reserved(&f->mb, start * UNIT, nr * UNIT), any);
	assert_int_equal(berth_memblock_is_memory(&f->mb, start * UNIT, 1), m->memory[start] != 0);
}

static void model_run(uint64_t seed, uint32_t max, const struct berth_memblock_ops *ops,
		      unsigned nr_steps)
{
	uint64_t random = seed;
	struct fixture *f = fixture_open(max, ops);
	struct model *m = test_zalloc(1, sizeof(*m));
	unsigned refused = 0;

	fixture_ram(f, 0, PAGES * UNIT);
	for (unsigned i = 0; i < nr_steps; i++) {
		if (i % 64 == 0) {
			f->mb.bottom_up = test_random_below(&random, 2);
			f->mb.movable_node = test_random_below(&random, 2);
			f->mb.limit = test_random_below(&random, 2) ? BERTH_PHYS_MAX : 150 * UNIT;
		}
		refused += model_step(f, m, &random);
		if (i % 16 == 0)
			model_look(f, m, &random);
	}
	if (!ops && max <= 8)
		assert_true(refused > nr_steps / 50);
	if (ops == &alloc_ops)
		assert_int_equal(refused, 0);
	free(m);
	fixture_close(f);
}

static void random_operations(const struct berth_memblock_ops *ops)
{
	static const uint32_t sizes[] = { 1, 2, 5, 8, 20, 64 };
	uint64_t seed = test_env("BERTH_SEED", 1);
	unsigned steps = 6000 / TEST_SLOWDOWN;

	print_message("# seeds from %llu\n", (unsigned long long)seed);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++, seed++)
		model_run(seed, sizes[i], ops, steps);
}

static void random_operations_in_fixed_arrays(void **state)
{
	(void)state;
	random_operations(NULL);
}

static void random_operations_in_arrays_that_grow_inside(void **state)
{
	(void)state;
	random_operations(&map_ops);
}

static void random_operations_in_arrays_from_an_allocator(void **state)
{
	(void)state;
	random_operations(&alloc_ops);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_operations_in_fixed_arrays),
		cmocka_unit_test(random_operations_in_arrays_that_grow_inside),
		cmocka_unit_test(random_operations_in_arrays_from_an_allocator),
	};

	return cmocka_run_group_tests_name("memblock_model", tests, NULL, NULL);
}
