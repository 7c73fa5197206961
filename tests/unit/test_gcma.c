/* SPDX-License-Identifier: MIT */
/*
 * GCMA areas: what readers, fillers and claimers see of each other; bulk; names and events; misuse; the check.
 */
#include "core/alloc/gcma.h"
#include "tests/include/testgcma.h"

/* ---- The protocol ------------------------------------------------------------------------------ */

static void a_claim_takes_what_is_lent(void **state)
{
	struct test_gcma *t = gcma_open(.start_pfn = 4096, .nr_pages = 1024, .granule_order = 4);
	struct berth_gcma *area = t->area;
	uint64_t before = berth_gcma_openings(area);
	berth_pfn_t pfn;

	(void)state;
	assert_int_equal(berth_gcma_nr_granules(area), 64);
	assert_int_equal(berth_gcma_start_pfn(area), 4096);
	assert_int_equal(berth_gcma_granule_order(area), 4);
	/* Somebody stores a page in granule 3, */
	assert_int_equal(berth_gcma_generation(area, 3), 0);
	assert_true(berth_gcma_fill_begin(area, 3, 0));
	berth_gcma_fill_end(area);
	/* and it is there, */
	assert_true(berth_gcma_still(area, 3, 0));
	/* until the granule is claimed. */
	pfn = gcma_claim(t, 100);
	assert_int_equal(pfn, 4096);
	assert_int_equal(berth_gcma_generation(area, 3), 1);
	assert_false(berth_gcma_still(area, 3, 0));
	assert_false(berth_gcma_still(area, 3, 1));
	assert_false(berth_gcma_fill_begin(area, 3, 0));
	assert_false(berth_gcma_fill_begin(area, 3, 1));
	/* 100 frames are 7 granules; the others know of nothing. */
	assert_int_equal(berth_gcma_generation(area, 6), 1);
	assert_int_equal(berth_gcma_generation(area, 7), 0);
	assert_int_equal(gcma_stats(t).claimed_pages, 7 * 16);
	assert_int_equal(berth_gcma_openings(area), before);
	/* Released it is empty: what was stored before never comes back. */
	gcma_release(t, pfn, 100);
	assert_int_equal(berth_gcma_generation(area, 3), 2);
	assert_false(berth_gcma_still(area, 3, 0));
	assert_false(berth_gcma_fill_begin(area, 3, 0));
	assert_true(berth_gcma_fill_begin(area, 3, 2));
	berth_gcma_fill_end(area);
	assert_true(berth_gcma_openings(area) > before);
	gcma_close(t);
}

static void a_copy_is_refused_when_the_granule_is_closed(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 32, .granule_order = 4);
	char from[64], to[64] = { 0 };
	berth_pfn_t pfn;

	(void)state;
	memset(from, 7, sizeof(from));
	assert_true(berth_gcma_fill(t->area, 0, 0, to, from, sizeof(to)));
	assert_memory_equal(to, from, sizeof(to));
	pfn = gcma_claim(t, 1);
	memset(to, 0, sizeof(to));
	assert_false(berth_gcma_fill(t->area, pfn / 16, 0, to, from, sizeof(to)));
	assert_int_equal(to[0], 0);
	gcma_release(t, pfn, 1);
	gcma_close(t);
}

/* Who has no slot, or one that the area doesn't know, can't be waited for. */
static void only_known_slots_fill(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 32, .granule_order = 4, .nr_cpus = 3);

	(void)state;
	test_set_cpu(TEST_NO_CPU);
	assert_false(berth_gcma_fill_begin(t->area, 0, 0));
	test_set_cpu(3);
	assert_false(berth_gcma_fill_begin(t->area, 0, 0));
	test_set_cpu(2);
	assert_true(berth_gcma_fill_begin(t->area, 0, 0));
	berth_gcma_fill_end(t->area);
	gcma_close(t);
}

/* The filler on slot 1 leaves when the claimer has waited often enough. */
struct leaving {
	struct test_gcma *t;
	unsigned after;
};

static void leave(void *ctx)
{
	struct leaving *leaving = ctx;

	if (--leaving->after)
		return;
	test_set_cpu(1);
	berth_gcma_fill_end(leaving->t->area);
	test_set_cpu(0);
}

static void a_claim_waits_for_the_filler_inside(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 128, .granule_order = 4, .nr_cpus = 2);
	struct leaving leaving = { t, 3 };
	struct berth_claim_report report;
	struct berth_claim_params params = { .nr_pages = 64 };
	berth_pfn_t pfn;

	(void)state;
	/* Nobody waits for a filler somewhere else. */
	test_set_cpu(1);
	assert_true(berth_gcma_fill_begin(t->area, 7, 0));
	test_set_cpu(0);
	pfn = gcma_claim(t, 64);
	assert_int_equal(pfn, 0);
	assert_int_equal(t->port.nr_waits, 0);
	assert_int_equal(gcma_stats(t).filler_waits, 0);
	/* This one is in the only gap. */
	t->port.on_wait = leave;
	t->port.on_wait_ctx = &leaving;
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, &report), 0);
	assert_int_equal(pfn, 64);
	assert_int_equal(t->port.nr_waits, 3);
	assert_int_equal(gcma_stats(t).filler_waits, 1);
	assert_true(gcma_stats(t).filler_wait_ns >= t->port.waited_ns);
	assert_int_equal(gcma_stats(t).longest_wait_ns, gcma_stats(t).filler_wait_ns);
	assert_true(report.phase_ns[BERTH_PHASE_DRAIN] >= gcma_stats(t).longest_wait_ns);
	gcma_release(t, 0, 64);
	gcma_release(t, 64, 64);
	gcma_close(t);
}

/* Two of them: one wait, of which the second is told, too. */
static void leave_one(void *ctx)
{
	struct leaving *leaving = ctx;

	if (!leaving->after)
		return;
	test_set_cpu(leaving->after--);
	berth_gcma_fill_end(leaving->t->area);
	test_set_cpu(0);
}

static void a_claim_waits_for_all_fillers_inside(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 64, .granule_order = 4, .nr_cpus = 3);
	struct leaving leaving = { t, 2 };

	(void)state;
	for (unsigned cpu = 1; cpu < 3; cpu++) {
		test_set_cpu(cpu);
		assert_true(berth_gcma_fill_begin(t->area, cpu, 0));
	}
	test_set_cpu(0);
	t->port.on_wait = leave_one;
	t->port.on_wait_ctx = &leaving;
	assert_int_equal(gcma_claim(t, 64), 0);
	assert_int_equal(leaving.after, 0);
	assert_int_equal(gcma_stats(t).filler_waits, 1);
	assert_true(gcma_stats(t).filler_wait_ns >= t->port.waited_ns);
	gcma_release(t, 0, 64);
	gcma_close(t);
}

/* What is being claimed is no claim yet, and what follows it is found. */
static void look_and_leave(void *ctx)
{
	struct leaving *leaving = ctx;
	struct berth_claim_info info;
	berth_pfn_t next = 0;

	assert_true(berth_gcma_claim_next(leaving->t->area, &next, &info));
	assert_int_equal(info.pfn, 64);
	assert_false(berth_gcma_claim_next(leaving->t->area, &next, &info));
	leave(ctx);
}

static void who_looks_at_claims_sees_no_half_one(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 128, .granule_order = 4, .nr_cpus = 2);
	struct leaving leaving = { t, 1 };
	struct berth_claim_params params = { .nr_pages = 64, .min_pfn = 64, .max_pfn = 127 };
	struct berth_claim_info info;
	berth_pfn_t pfn, next = 0;

	(void)state;
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, NULL), 0);
	test_set_cpu(1);
	assert_true(berth_gcma_fill_begin(t->area, 2, 0));
	test_set_cpu(0);
	t->port.on_wait = look_and_leave;
	t->port.on_wait_ctx = &leaving;
	assert_int_equal(gcma_claim(t, 64), 0);
	assert_int_equal(leaving.after, 0);
	assert_true(berth_gcma_claim_next(t->area, &next, &info));
	assert_int_equal(info.pfn, 0);
	gcma_release(t, 0, 64);
	gcma_release(t, 64, 64);
	gcma_close(t);
}

static void a_deadline_ends_the_wait(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 128, .granule_order = 4, .nr_cpus = 2);
	struct berth_claim_params params = { .nr_pages = 128, .name = "late" };
	struct berth_claim_report report;
	struct berth_claim_info info;
	berth_pfn_t pfn = 42, next = 0;

	(void)state;
	test_set_cpu(1);
	assert_true(berth_gcma_fill_begin(t->area, 5, 0));
	test_set_cpu(0);
	params.deadline_ns = t->port.clock_ns + 100000;
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, &report), -BERTH_EAGAIN);
	assert_int_equal(report.reason, BERTH_CLAIM_DEADLINE);
	assert_int_equal(report.error, -BERTH_EAGAIN);
	assert_int_equal(report.largest_free_pages, 128);
	assert_int_equal(pfn, 42);
	assert_true(t->port.clock_ns < params.deadline_ns + 100000);
	/* Nothing is claimed, and nothing that was lent is lost. */
	assert_int_equal(gcma_stats(t).claimed_pages, 0);
	assert_int_equal(gcma_stats(t).claims_failed, 1);
	assert_false(berth_gcma_claim_next(t->area, &next, &info));
	for (unsigned i = 0; i < 8; i++)
		assert_true(berth_gcma_still(t->area, i, 0));
	/* Whoever met it closed meanwhile finds out. */
	assert_int_equal(berth_gcma_openings(t->area), 1);
	/* A deadline in the past is no reason to fail when nobody is inside. */
	test_set_cpu(1);
	berth_gcma_fill_end(t->area);
	test_set_cpu(0);
	params.deadline_ns = 1;
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, &report), 0);
	gcma_release(t, pfn, 128);
	gcma_close(t);
}

static bool restart(void *ctx)
{
	struct test_port *port = ctx;

	port->nr_barriers++;
	return !port->on_wait_ctx; /* it is possible */
}

/* A copy that begins anew finds its granule closed: only who can't restart is waited for. */
static void a_copy_is_taken_away_from_who_was_preempted(void **state)
{
	struct berth_port_ops ops = test_port_ops;
	struct test_gcma *t;
	struct leaving leaving;
	berth_pfn_t pfn;

	(void)state;
	ops.restart_copies = restart;
	t = gcma_open(.nr_pages = 128, .granule_order = 4, .nr_cpus = 2, .port = &ops);
	test_set_cpu(1);
	assert_non_null(berth__gcma_fill_begin_with(&t->area->hot, 5, 0, BERTH_GCMA_RESTARTS));
	test_set_cpu(0);
	pfn = gcma_claim(t, 128);
	assert_int_equal(t->port.nr_barriers, 1);
	assert_int_equal(t->port.nr_waits, 0);
	assert_int_equal(gcma_stats(t).filler_waits, 1);
	gcma_release(t, pfn, 128);
	/* He has noticed, and fills again, but nothing that could restart. */
	test_set_cpu(1);
	berth_gcma_fill_end(t->area);
	assert_true(berth_gcma_fill_begin(t->area, 5, 2));
	test_set_cpu(0);
	leaving = (struct leaving){ t, 2 };
	t->port.on_wait = leave;
	t->port.on_wait_ctx = &leaving;
	pfn = gcma_claim(t, 128);
	assert_int_equal(t->port.nr_waits, 2);
	gcma_release(t, pfn, 128);
	/* Nor is it done without asking when it fails. */
	test_set_cpu(1);
	assert_non_null(berth__gcma_fill_begin_with(&t->area->hot, 5, 4, BERTH_GCMA_RESTARTS));
	test_set_cpu(0);
	leaving.after = 2;
	pfn = gcma_claim(t, 128);
	assert_int_equal(t->port.nr_waits, 4);
	gcma_release(t, pfn, 128);
	gcma_close(t);
}

/* ---- Bulk -------------------------------------------------------------------------------------- */

static void buffers_fill_small_gaps_first(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 64);
	struct berth_claim_params params = { .nr_pages = 2, .name = "many" };
	struct berth_claim_report report;
	berth_pfn_t pfns[16];

	(void)state;
	gcma_fill(t);
	gcma_open_gap(t, 1, 5);
	gcma_open_gap(t, 10, 3);
	gcma_open_gap(t, 20, 9);
	assert_int_equal(berth_gcma_alloc_bulk(t->area, &params, 5, pfns, 0, &report), 5);
	assert_int_equal(report.nr_pages, 10);
	assert_int_equal(report.free_pages_taken, 10);
	assert_int_equal(pfns[0], 10);
	assert_int_equal(pfns[1], 1);
	assert_int_equal(pfns[2], 3);
	assert_int_equal(pfns[3], 20);
	assert_int_equal(pfns[4], 22);
	gcma_verify(t);
	assert_int_equal(berth_gcma_release_bulk(t->area, pfns, 5, 2), 0);
	/* All or none, and none costs nobody his data; or as many as there are. */
	assert_int_equal(berth_gcma_generation(t->area, 20), 4);
	assert_int_equal(berth_gcma_alloc_bulk(t->area, &params, 8, pfns, 0, &report),
			 -BERTH_ENOSPC);
	assert_int_equal(berth_gcma_generation(t->area, 20), 4);
	gcma_verify(t);
	assert_int_equal(berth_gcma_alloc_bulk(t->area, &params, 8, pfns,
					       BERTH_BULK_AS_MANY_AS_POSSIBLE, &report),
			 7);
	assert_int_equal(report.error, -BERTH_ENOSPC);
	assert_int_equal(report.free_pages_taken, 14);
	gcma_verify(t);
	assert_int_equal(berth_gcma_release_bulk(t->area, pfns, 7, 2), 0);
	/* Aligned ones: what lies between them stays free. */
	params.align_order = 2;
	assert_int_equal(berth_gcma_alloc_bulk(t->area, &params, 3, pfns, 0, NULL), 3);
	assert_int_equal(pfns[0], 4);
	assert_int_equal(pfns[1], 20);
	assert_int_equal(pfns[2], 24);
	assert_int_equal(berth_gcma_release_bulk(t->area, pfns, 3, 2), 0);
	gcma_close(t);
}

static void many_more_than_a_batch(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 4096);
	struct berth_claim_params params = { .nr_pages = 3 };
	static berth_pfn_t pfns[1400];

	(void)state;
	assert_int_equal(berth_gcma_alloc_bulk(t->area, &params, 1365, pfns, 0, NULL), 1365);
	gcma_verify(t);
	for (unsigned i = 0; i < 1365; i++)
		assert_int_equal(pfns[i], 3 * i);
	assert_int_equal(gcma_stats(t).largest_free_pages, 1);
	assert_int_equal(berth_gcma_release_bulk(t->area, pfns, 1365, 3), 0);
	assert_int_equal(gcma_stats(t).largest_free_pages, 4096);
	assert_int_equal(gcma_stats(t).releases, 1365);
	assert_int_equal(berth_gcma_alloc_bulk(t->area, &params, 1366, pfns, 0, NULL),
			 -BERTH_ENOSPC);
	assert_int_equal(gcma_stats(t).largest_free_pages, 4096);
	gcma_close(t);
}

static void a_late_bulk_claim_leaves_nothing(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 64, .nr_cpus = 2);
	struct berth_claim_params params = { .nr_pages = 4, .name = "late" };
	berth_pfn_t pfns[8];

	(void)state;
	test_set_cpu(1);
	assert_true(berth_gcma_fill_begin(t->area, 30, 0));
	test_set_cpu(0);
	params.deadline_ns = t->port.clock_ns + 1000;
	assert_int_equal(berth_gcma_alloc_bulk(t->area, &params, 8, pfns, 0, NULL), -BERTH_EAGAIN);
	test_set_cpu(1);
	berth_gcma_fill_end(t->area);
	assert_int_equal(gcma_stats(t).claimed_pages, 0);
	gcma_close(t);
}

/* ---- Names and events -------------------------------------------------------------------------- */

static void claims_have_names_and_ages(void **state)
{
	struct test_gcma *t = gcma_open(.start_pfn = 16, .nr_pages = 64, .granule_order = 2,
					.max_claim_names = 1);
	struct berth_claim_params params = { .nr_pages = 5, .name = "camera" };
	struct berth_claim_info info;
	berth_pfn_t pfn, other, next = 0;

	(void)state;
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, NULL), 0);
	params.name = "one too many";
	assert_int_equal(berth_gcma_alloc(t->area, &params, &other, NULL), 0);
	t->port.clock_ns += 1000000;
	assert_true(berth_gcma_claim_next(t->area, &next, &info));
	assert_int_equal(info.pfn, pfn);
	assert_int_equal(info.nr_pages, 5);
	assert_string_equal(info.name, "camera");
	assert_string_equal(info.area, "test");
	assert_true(info.age_ns >= 1000000 - 65536 && info.age_ns < 1200000);
	assert_int_equal(next,
			 21); /* inside its last granule: the claim itself isn't found again */
	assert_true(berth_gcma_claim_next(t->area, &next, &info));
	assert_int_equal(info.pfn, other);
	assert_string_equal(info.name, "");
	assert_false(berth_gcma_claim_next(t->area, &next, &info));
	assert_int_equal(next, 80);
	assert_false(berth_gcma_claim_next(t->area, &next, &info));
	/* The name is free with its last claim. */
	gcma_release(t, pfn, 5);
	gcma_release(t, other, 5);
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, NULL), 0);
	next = 0;
	assert_true(berth_gcma_claim_next(t->area, &next, &info));
	assert_string_equal(info.name, "one too many");
	gcma_release(t, pfn, 5);
	gcma_close(t);
}

/* Further on than is looked at under one lock. */
static void a_claim_at_the_end_of_a_large_area_is_found(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 10000);
	struct berth_claim_params params = { .nr_pages = 1, .min_pfn = 9999, .max_pfn = 9999 };
	struct berth_claim_info info;
	berth_pfn_t pfn, next = 0;

	(void)state;
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, NULL), 0);
	assert_true(berth_gcma_claim_next(t->area, &next, &info));
	assert_int_equal(info.pfn, 9999);
	assert_int_equal(next, 10000);
	assert_false(berth_gcma_claim_next(t->area, &next, &info));
	gcma_release(t, pfn, 1);
	next = 0;
	assert_false(berth_gcma_claim_next(t->area, &next, &info));
	gcma_close(t);
}

static void seen_start(void *ctx, const char *name, uint64_t count, unsigned align)
{
	char *text = ctx;

	sprintf(text + strlen(text), "start %s %u %u;", name, (unsigned)count, align);
}

static void seen_finish(void *ctx, const char *name, berth_pfn_t pfn, uint64_t count,
			unsigned align, int errorno)
{
	char *text = ctx;

	sprintf(text + strlen(text), "finish %s %lld %u %u %d;", name, (long long)pfn,
		(unsigned)count, align, errorno);
}

static void seen_release(void *ctx, const char *name, berth_pfn_t pfn, uint64_t count)
{
	char *text = ctx;

	sprintf(text + strlen(text), "release %s %u %u;", name, (unsigned)pfn, (unsigned)count);
}

static void events_are_those_of_cma(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 64);
	char text[512] = "";
	struct berth_claim_events events = { .ctx = text,
					     .alloc_start = seen_start,
					     .alloc_finish = seen_finish,
					     .release = seen_release };
	struct berth_claim_params params = { .nr_pages = 8, .align_order = 1 };
	berth_pfn_t pfns[3];

	(void)state;
	berth_gcma_set_claim_events(t->area, &events);
	assert_int_equal(berth_gcma_alloc(t->area, &params, pfns, NULL), 0);
	gcma_release(t, pfns[0], 8);
	assert_int_equal(berth_gcma_alloc_bulk(t->area, &params, 3, pfns, 0, NULL), 3);
	assert_int_equal(berth_gcma_release_bulk(t->area, pfns, 1, 8), 0);
	params.nr_pages = 65;
	assert_int_equal(berth_gcma_alloc(t->area, &params, pfns, NULL), -BERTH_E2BIG);
	berth_gcma_set_claim_events(t->area, NULL);
	assert_int_equal(berth_gcma_release_bulk(t->area, pfns + 1, 2, 8), 0);
	assert_string_equal(text, "start test 8 1;finish test 0 8 1 0;release test 0 8;"
				  "start test 24 1;finish test 0 24 1 0;release test 0 8;"
				  "start test 65 1;finish test -1 65 1 -7;");
	gcma_close(t);
}

/* ---- Misuse ------------------------------------------------------------------------------------ */

static void what_is_no_claim_is_not_released(void **state)
{
	struct test_gcma *t = gcma_open(.start_pfn = 64, .nr_pages = 64, .granule_order = 2);
	berth_pfn_t a, b, both[2];

	(void)state;
	a = gcma_claim(t, 10);
	b = gcma_claim(t, 10);
	assert_int_equal(b, a + 12);
#define REFUSED(pfn, nr) assert_int_equal(berth_gcma_release(t->area, pfn, nr), -BERTH_EINVAL)
	REFUSED(a, 9);
	REFUSED(a, 11);
	REFUSED(a, 12); /* its granules, but that isn't what was claimed */
	REFUSED(a, 0);
	REFUSED(a + 4, 6);
	REFUSED(a, 65); /* more than there is */
	REFUSED(a, UINT64_MAX);
	REFUSED(a + 1, 10);
	REFUSED(a, 22); /* two at once */
	REFUSED(b + 12, 10);
	REFUSED(60, 10);
	REFUSED(128, 10);
	REFUSED(BERTH_PFN_NONE, 10);
	assert_int_equal(berth_gcma_release(NULL, a, 10), -BERTH_EINVAL);
	/* In bulk all or none: one of them twice, one that is none. */
	both[0] = both[1] = a;
	assert_int_equal(berth_gcma_release_bulk(t->area, both, 2, 10), -BERTH_EINVAL);
	both[1] = b + 4;
	assert_int_equal(berth_gcma_release_bulk(t->area, both, 2, 10), -BERTH_EINVAL);
	assert_int_equal(berth_gcma_release_bulk(t->area, NULL, 2, 10), -BERTH_EINVAL);
	assert_int_equal(berth_gcma_release_bulk(t->area, NULL, 0, 10), 0);
	assert_int_equal(gcma_stats(t).claimed_pages, 24);
	assert_int_equal(gcma_stats(t).releases, 0);
	gcma_verify(t);
	both[1] = b;
	assert_int_equal(berth_gcma_release_bulk(t->area, both, 2, 10), 0);
	REFUSED(a, 10);
	REFUSED(b, 10);
#undef REFUSED
	gcma_close(t);
}

static void bad_claims_are_refused(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 64);
	const struct berth_claim_params good = { .nr_pages = 4 };
	struct berth_claim_report report;
	struct berth_claim_params bad;
	berth_pfn_t pfn = 42;

	(void)state;
#define REFUSED(field, value)                                                                    \
	do {                                                                                     \
		bad = good;                                                                      \
		bad.field = value;                                                               \
		assert_int_equal(berth_gcma_alloc(t->area, &bad, &pfn, &report), -BERTH_EINVAL); \
		assert_int_equal(report.error, -BERTH_EINVAL);                                   \
		assert_int_equal(berth_gcma_alloc_bulk(t->area, &bad, 1, &pfn, 0, &report),      \
				 -BERTH_EINVAL);                                                 \
		assert_int_equal(pfn, 42);                                                       \
	} while (0)
	REFUSED(nr_pages, 0);
	REFUSED(align_order, BERTH_MAX_ORDER_LIMIT + 1);
	REFUSED(flags, BERTH_CLAIM_ALL_FLAGS + 1);
	REFUSED(boundary_pages, 12);
	bad = good;
	bad.min_pfn = 8;
	bad.max_pfn = 7;
	assert_int_equal(berth_gcma_alloc(t->area, &bad, &pfn, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_gcma_alloc(t->area, NULL, &pfn, &report), -BERTH_EINVAL);
	assert_int_equal(berth_gcma_alloc(t->area, &good, NULL, &report), -BERTH_EINVAL);
	assert_int_equal(berth_gcma_alloc(NULL, &good, &pfn, &report), -BERTH_EINVAL);
	assert_int_equal(berth_gcma_alloc_bulk(NULL, &good, 1, &pfn, 0, &report), -BERTH_EINVAL);
	assert_null(report.area);
	assert_int_equal(berth_gcma_alloc_bulk(t->area, &good, 0, &pfn, 0, &report), -BERTH_EINVAL);
	assert_int_equal(berth_gcma_alloc_bulk(t->area, &good, 1, NULL, 0, &report), -BERTH_EINVAL);
	assert_int_equal(berth_gcma_alloc_bulk(t->area, &good, 1, &pfn, 2, &report), -BERTH_EINVAL);
	assert_int_equal(berth_gcma_alloc_bulk(t->area, &good, 1u << 31, &pfn, 0, &report),
			 -BERTH_EINVAL);
	assert_int_equal(gcma_stats(t).claims_failed, 0);
#undef REFUSED
	gcma_close(t);
}

static void bad_areas_are_refused(void **state)
{
	static struct test_port port;
	const struct berth_gcma_params good = { .name = "a",
						.start_pfn = 16,
						.nr_pages = 64,
						.granule_order = 4,
						.nr_cpus = 1,
						.port = &test_port_ops,
						.port_ctx = &port };
	struct berth_port_ops no_clock = test_port_ops;
	struct berth_gcma *area = NULL;
	struct berth_gcma_params bad;
	size_t bytes = berth_gcma_metadata_size(&good);
	char *memory = NULL;

	(void)state;
	assert_int_equal(posix_memalign((void **)&memory, 64, bytes + 64), 0);
#define REFUSED(field, value)                                                                      \
	do {                                                                                       \
		bad = good;                                                                        \
		bad.field = value;                                                                 \
		assert_int_equal(berth_gcma_init(&area, &bad, memory, bytes + 64), -BERTH_EINVAL); \
		assert_null(area);                                                                 \
	} while (0)
	no_clock.now_ns = NULL;
	REFUSED(name, NULL);
	REFUSED(port, NULL);
	REFUSED(port, &no_clock);
	REFUSED(start_pfn, 8);
	REFUSED(start_pfn, UINT64_MAX - 127);
	REFUSED(nr_pages, 0);
	REFUSED(nr_pages, 72);
	REFUSED(nr_pages, 1ull << 32);
	REFUSED(granule_order, BERTH_GCMA_MAX_GRANULE_ORDER + 1);
	REFUSED(granule_order, 7); /* larger than the area */
	REFUSED(nr_cpus, 0);
	REFUSED(nr_cpus, 1u << 20);
	REFUSED(max_claim_names, 1u << 16);
#undef REFUSED
	assert_int_equal(berth_gcma_init(&area, &good, memory, bytes - 1), -BERTH_EINVAL);
	assert_int_equal(berth_gcma_init(&area, &good, memory + 8, bytes), -BERTH_EINVAL);
	assert_int_equal(berth_gcma_init(&area, &good, NULL, bytes), -BERTH_EINVAL);
	assert_int_equal(berth_gcma_init(NULL, &good, memory, bytes), -BERTH_EINVAL);
	assert_int_equal(berth_gcma_init(&area, NULL, memory, bytes), -BERTH_EINVAL);
	assert_null(area);
	assert_int_equal(berth_gcma_metadata_size(NULL), 0);
	assert_int_equal(berth_gcma_init(&area, &good, memory, bytes), 0);
	free(memory);
}

/* ---- The check --------------------------------------------------------------------------------- */

/* Each invariant that is broken is found, by its number; then the area is whole again. */
static void broken_invariants_are_found(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 256, .nr_cpus = 2);
	struct berth_claim_params params = { .nr_pages = 8, .name = "x" };
	struct berth_gcma *area = t->area;
	struct berth_extent *extents = area->extents;
	berth_pfn_t pfn;

	(void)state;
	/* Gaps of 4 at 0 and at 10, a claim of 8 at 20, the main gap at 30, and a gap of 6 at the end. */
	gcma_fill(t);
	gcma_open_gap(t, 0, 4);
	gcma_open_gap(t, 10, 4);
	gcma_open_gap(t, 20, 8);
	gcma_open_gap(t, 30, 200);
	gcma_open_gap(t, 250, 6);
	assert_int_equal(berth_gcma_alloc(area, &params, &pfn, NULL), 0);
	assert_int_equal(pfn, 20);
	assert_int_equal(berth__main_gap(area).first, 30);
	gcma_verify(t);
#define BROKEN(number, field, wrong)                                                      \
	do {                                                                              \
		__typeof__(field) good_ = field;                                          \
		struct berth_violation v_ = { 0 };                                        \
		field = (wrong);                                                          \
		assert_false(berth_gcma_check(area, &v_));                                \
		if (!strstr(v_.what, number))                                             \
			fail_msg("%s = %s: %s, not %s", #field, #wrong, v_.what, number); \
		assert_int_not_equal(v_.value, v_.expected);                              \
		field = good_;                                                            \
		gcma_verify(t);                                                           \
	} while (0)
	BROKEN("gcma.I1", extents[0].nr, 0);
	BROKEN("gcma.I1", extents[250].nr, 7);
	BROKEN("gcma.I1", area->main_gap, berth__main_gap_word(30, 227));
	BROKEN("gcma.I2", extents[3].gap_first, 1);
	BROKEN("gcma.I2", extents[13].gap_first, 0);
	BROKEN("gcma.I2", extents[255].gap_first, 255);
	BROKEN("gcma.I3", extents[11].what, berth__extent_what(BERTH_EXTENT_GAP, 0));
	BROKEN("gcma.I3", extents[10].u.gap.next, 250);
	BROKEN("gcma.I3", extents[0].u.gap.prev, 10);
	BROKEN("gcma.I3", area->bins[4], 10);
	BROKEN("gcma.I3", area->nonempty[0], 0);
	BROKEN("gcma.I3", area->nonempty[0], area->nonempty[0] & ~(1ull << 6));
	BROKEN("gcma.I3", area->nonempty[0], area->nonempty[0] | 1u << 9);
	BROKEN("gcma.I4", area->starts[0], area->starts[0] | 1);
	BROKEN("gcma.I4", area->starts[0], area->starts[0] | 1u << 22);
	BROKEN("gcma.I4", area->starts[0], area->starts[0] & ~(1ull << 20));
	BROKEN("gcma.I4", extents[22].what, berth__extent_what(BERTH_EXTENT_CLAIMED, 2));
	BROKEN("gcma.I5", area->hot.generations[5], 2);
	BROKEN("gcma.I5", area->hot.generations[0], 1);
	BROKEN("gcma.I5", area->hot.generations[27], 2);
	BROKEN("gcma.I6", extents[20].what, berth__extent_what(BERTH_EXTENT_CLAIMING, 8));
	BROKEN("gcma.I6", extents[20].what, berth__extent_what(BERTH_EXTENT_CLAIMED, 9));
	BROKEN("gcma.I6", extents[20].u.note, 0);
	BROKEN("gcma.I6", area->tallies[0].taken, 1);
	BROKEN("gcma.I6", area->tallies[0].given, area->tallies[0].taken + 1);
	BROKEN("gcma.I6", area->tallies[1].claims_ok, 1);
	BROKEN("gcma.I6", area->names.table[0].users, 2);
	BROKEN("gcma.I7", area->hot.fillers[1].record, 1);
	/* A main gap that isn't where one is. */
	gcma_release(t, pfn, 8);
	pfn = gcma_claim(t, 200);
	assert_int_equal(berth__main_gap(area).nr, 0);
	BROKEN("gcma.I3", area->main_gap, berth__main_gap_word(31, 2));
#undef BROKEN
	gcma_release(t, pfn, 200);
	/* A name without users, or a gap that is none, stops the process. */
	pfn = gcma_claim(t, 8);
	extents[28].what = berth__extent_what(BERTH_EXTENT_CLAIMED, 2);
	extents[pfn].u.note = berth__note(1, 0);
	assert_panics(&t->port, gcma_release(t, pfn, 8));
	free(t->metadata);
	free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_claim_takes_what_is_lent),
		cmocka_unit_test(a_copy_is_refused_when_the_granule_is_closed),
		cmocka_unit_test(only_known_slots_fill),
		cmocka_unit_test(a_claim_waits_for_the_filler_inside),
		cmocka_unit_test(a_claim_waits_for_all_fillers_inside),
		cmocka_unit_test(who_looks_at_claims_sees_no_half_one),
		cmocka_unit_test(a_copy_is_taken_away_from_who_was_preempted),
		cmocka_unit_test(a_deadline_ends_the_wait),
		cmocka_unit_test(buffers_fill_small_gaps_first),
		cmocka_unit_test(many_more_than_a_batch),
		cmocka_unit_test(a_late_bulk_claim_leaves_nothing),
		cmocka_unit_test(claims_have_names_and_ages),
		cmocka_unit_test(a_claim_at_the_end_of_a_large_area_is_found),
		cmocka_unit_test(events_are_those_of_cma),
		cmocka_unit_test(what_is_no_claim_is_not_released),
		cmocka_unit_test(bad_claims_are_refused),
		cmocka_unit_test(bad_areas_are_refused),
		cmocka_unit_test(broken_invariants_are_found),
	};

	return cmocka_run_group_tests_name("gcma", tests, NULL, NULL);
}
