/* SPDX-License-Identifier: MIT */
/*
 * A space over a fake machine, random operations against a naive model.
 *
 *	BERTH_SPACE_SEED=n    runs only this seed
 */
#include "tests/include/testspace.h"
#include "vm/internal.h"

/* ---- Random operations against a naive model --------------------------------------------------------- */

#define MAX_MODEL_PINS 8u
#define MAX_MODEL_CLAIMS 4u

struct model_pin {
	uint64_t page, nr_pages, handle; /* nr_pages 0: none */
};

struct model_claim {
	berth_pfn_t pfn;
	uint64_t nr_pages;
};

struct space_model {
	struct rig *rig;
	uint64_t seed;
	struct model_pin pins[MAX_MODEL_PINS];
	struct model_claim claims[MAX_MODEL_CLAIMS];
	uint64_t counts[8], refused[8];
};

static uint64_t current_seed, current_op;

/* Once in a while somebody writes somewhere. */
static void write_at_random(struct rig *rig, enum rig_op op)
{
	(void)op;
	if (test_random_below(&rig->seed, 4) == 0)
		rig_write(rig, test_random_below(&rig->seed, rig->params.nr_pages));
}

static uint64_t below(struct space_model *m, uint64_t bound)
{
	return test_random_below(&m->seed, bound);
}

/* A random range, more often small. */
static void random_range(struct space_model *m, uint64_t *page, uint64_t *nr_pages)
{
	uint64_t nr = m->rig->params.nr_pages;

	*page = below(m, nr);
	*nr_pages = 1 + below(m, 1ull << below(m, 10));
	if (*nr_pages > nr - *page)
		*nr_pages = nr - *page;
	if (below(m, 3) == 0)
		*page &= ~63ull;
}

static bool model_all(struct space_model *m, uint64_t page, uint64_t nr_pages, bool frames)
{
	for (uint64_t at = page; at < page + nr_pages; at++)
		if (rig_is_frame(m->rig->pages[at].pfn) != frames ||
		    (!frames && m->rig->pages[at].pfn != BERTH_PFN_NONE))
			return false;
	return true;
}

/* Did the call fail because the machine was made to? */
static bool machine_failed(struct space_model *m, uint64_t failed_before)
{
	return m->rig->nr_failed != failed_before;
}

static uint64_t free_outside_area(struct space_model *m)
{
	return zone_free_pages(m->rig->tz) - area_stats(m->rig->area).free_pages;
}

static int model_map(struct space_model *m)
{
	uint64_t page, nr_pages, failed = m->rig->nr_failed;
	unsigned flags = below(m, 3) == 0 ? BERTH_MAP_NO_CMA : 0;
	uint64_t room = flags ? free_outside_area(m) : zone_free_pages(m->rig->tz);
	bool unmapped;
	int error;

	random_range(m, &page, &nr_pages);
	if (below(m, 8) == 0)
		flags |= BERTH_MAP_PRIVATE_OK;
	unmapped = model_all(m, page, nr_pages, false);
	error = berth_space_map(m->rig->space, page, nr_pages, (unsigned)below(m, 11), flags);
	if (!unmapped)
		assert_int_equal(error, -BERTH_EEXIST);
	else if (!machine_failed(m, failed))
		assert_int_equal(error, nr_pages <= room || (flags & BERTH_MAP_PRIVATE_OK) ?
						0 :
						-BERTH_ENOMEM);
	else
		assert_true(error == -BERTH_ENOMEM || (flags & BERTH_MAP_PRIVATE_OK));
	return error;
}

/* A pin on a page of the range, or on a block of which the range has only a part. */
static bool model_pinned(struct space_model *m, uint64_t page, uint64_t nr_pages)
{
	for (uint64_t at = page; at < page + nr_pages; at++)
		for (unsigned i = 0; i < MAX_MODEL_PINS; i++)
			if (m->pins[i].nr_pages && at >= m->pins[i].page &&
			    at < m->pins[i].page + m->pins[i].nr_pages)
				return true;
	for (uint64_t at = page; at < page + nr_pages; at++)
		if (rig_is_frame(m->rig->pages[at].pfn) &&
		    berth_page_pinned(m->rig->tz->zone, m->rig->pages[at].pfn))
			return true; /* no pin in the range: so the block sticks out */
	return false;
}

static int model_unmap(struct space_model *m)
{
	uint64_t page, nr_pages, failed = m->rig->nr_failed;
	bool pinned;
	int error;

	random_range(m, &page, &nr_pages);
	pinned = model_pinned(m, page, nr_pages);
	error = berth_space_unmap(m->rig->space, page, nr_pages);
	if (pinned)
		assert_int_equal(error, -BERTH_EBUSY);
	else
		assert_int_equal(error, machine_failed(m, failed) ? -BERTH_ENOMEM : 0);
	return error;
}

static int model_pin(struct space_model *m)
{
	struct model_pin *pin = &m->pins[below(m, MAX_MODEL_PINS)];
	bool long_term = below(m, 3) == 0;
	uint64_t page, nr_pages, handle;
	int error;

	if (pin->nr_pages) {
		assert_int_equal(berth_space_unpin(m->rig->space, pin->handle), 0);
		pin->nr_pages = 0;
		return 0;
	}
	random_range(m, &page, &nr_pages);
	if (nr_pages > 64)
		nr_pages = 64;
	error = berth_space_pin(m->rig->space, page, nr_pages, "model", long_term, &handle);
	if (!model_all(m, page, nr_pages, true))
		assert_int_equal(error, -BERTH_EINVAL);
	else if (!long_term)
		assert_int_equal(error, 0);
	else
		assert_true(error == 0 || error == -BERTH_ENOMEM || error == -BERTH_EBUSY);
	if (error)
		return error;
	*pin = (struct model_pin){ page, nr_pages, handle };
	for (uint64_t at = page; at < page + nr_pages; at++) {
		berth_pfn_t pfn = rig_pfn(m->rig, at);

		assert_true(berth_page_pinned(m->rig->tz->zone, pfn));
		assert_true(!long_term || pfn >= RIG_START_PFN + m->rig->tz->params.nr_pages / 2);
	}
	return 0;
}

static int model_make_private(struct space_model *m)
{
	uint64_t page, nr_pages, failed = m->rig->nr_failed;
	int error;

	random_range(m, &page, &nr_pages);
	if (nr_pages > 32) /* or soon nothing would move any more */
		nr_pages = 32;
	error = berth_space_make_private(m->rig->space, page, nr_pages);
	if (model_pinned(m, page, nr_pages))
		assert_int_equal(error, -BERTH_EBUSY);
	else
		assert_int_equal(error, machine_failed(m, failed) ? -BERTH_ENOMEM : 0);
	for (uint64_t at = page; !error && at < page + nr_pages; at++)
		assert_false(rig_is_frame(m->rig->pages[at].pfn));
	return error;
}

static int model_claim(struct space_model *m)
{
	struct model_claim *claim = &m->claims[below(m, MAX_MODEL_CLAIMS)];
	struct berth_claim_params params = { .nr_pages = 1 + below(m, 600) };
	struct berth_claim_report report;
	uint64_t failed = m->rig->nr_failed;
	int error;

	if (claim->nr_pages) {
		assert_int_equal(berth_cma_release(m->rig->area, claim->pfn, claim->nr_pages), 0);
		claim->nr_pages = 0;
		return 0;
	}
	error = berth_cma_alloc(m->rig->area, &params, &claim->pfn, &report);
	if (error == 0)
		claim->nr_pages = params.nr_pages;
	else if (error == -BERTH_EBUSY)
		assert_true(machine_failed(m, failed) || report.blocker_holder);
	else
		assert_true(error == -BERTH_ENOMEM || error == -BERTH_ENOSPC);
	return error;
}

static int model_shuffle(struct space_model *m)
{
	uint64_t nr_frames = m->rig->tz->params.nr_pages, start = below(m, nr_frames);
	uint64_t nr_pages = 1 + below(m, 600);

	if (nr_pages > nr_frames - start)
		nr_pages = nr_frames - start;
	return rig_empty_range(m->rig, RIG_START_PFN + start, nr_pages, NULL);
}

static int model_write(struct space_model *m)
{
	uint64_t page, nr_pages;

	random_range(m, &page, &nr_pages);
	for (uint64_t i = 0; i < nr_pages; i++)
		rig_write(m->rig, page + i);
	return 0;
}

static void run_model(uint64_t seed, uint64_t nr_ops, bool failing)
{
	static int (*const ops[])(struct space_model *) = {
		model_map,   model_unmap,   model_pin,   model_make_private,
		model_claim, model_shuffle, model_write, model_map,
	};
	struct space_model m = {
		.rig = rig_open(.page_offset = seed * 77),
		.seed = seed,
	};
	uint64_t kind;

	current_seed = seed;
	m.rig->seed = seed + 1000;
	m.rig->can_watch = seed % 2;
	m.rig->can_stop = seed % 4 > 1;
	m.rig->on_op = write_at_random;
	for (current_op = 0; current_op < nr_ops; current_op++) {
		kind = below(&m, ARRAY_SIZE(ops));
		if (failing && below(&m, 3) == 0) /* one failure: going back must work */
			rig_fail(m.rig, (enum rig_op)below(&m, RIG_NR_FAILING), 1 + below(&m, 6));
		m.counts[kind]++;
		m.refused[kind] += ops[kind](&m) != 0;
		m.rig->fail_op = -1;
		rig_ok(m.rig);
	}
	for (kind = 0; kind < ARRAY_SIZE(ops); kind++) /* each did something, also what it can */
		assert_true(m.counts[kind] > m.refused[kind]);
	assert_true(rig_stats(m.rig).moved_pages > 0);
	for (unsigned i = 0; i < MAX_MODEL_PINS; i++)
		if (m.pins[i].nr_pages)
			assert_int_equal(berth_space_unpin(m.rig->space, m.pins[i].handle), 0);
	assert_int_equal(berth_space_unmap(m.rig->space, 0, m.rig->params.nr_pages), 0);
	rig_close(m.rig);
	current_seed = 0;
}

static void random_operations(void **state)
{
	bool failing = *state != NULL;
	const char *seed = getenv("BERTH_SPACE_SEED");

	if (seed) {
		run_model(strtoull(seed, NULL, 0), 2500, failing);
		return;
	}
	for (uint64_t i = 1; i <= 4; i++)
		run_model(i + 100 * failing, 2500, failing);
}

static int say_seed(void **state)
{
	(void)state;
	if (current_seed)
		print_error("operation %llu: replay with BERTH_SPACE_SEED=%llu\n",
			    (unsigned long long)current_op, (unsigned long long)current_seed);
	current_seed = 0;
	return 0;
}

static char failing_machine[] = "failing";

int main(void)
{
	static const struct CMUnitTest tests[] = {
		{ "random operations", random_operations, NULL, say_seed, NULL },
		{ "random operations, failing machine", random_operations, NULL, say_seed,
		  failing_machine },
	};

	return cmocka_run_group_tests_name("space against a model", tests, NULL, NULL);
}
