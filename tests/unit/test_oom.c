/* SPDX-License-Identifier: MIT */
/*
 * Out of memory: the callback is told who holds most, and it is asked only when nothing else is left.
 */
#include "tests/include/testlru.h"
#include "tests/include/testnodes.h"

/* Two caches and somebody who can only move share 4096 frames, min 128, of which `left` are free. */
struct tight {
	struct machine *m;
	struct test_zone *tz;
	struct cache *large, *small;
};

static struct tight tight_open(unsigned in_large, unsigned in_small, uint64_t left)
{
	struct tight x = { .m = machine_open(.nr_nodes = 1), .tz = zone_open(.lru = true) };
	struct berth_tunables t;

	x.m->zones[x.m->nr_zones++] = x.tz;
	assert_int_equal(berth_nodes_add_zone(x.m->nodes, 0, NORMAL, x.tz->zone), 0);
	berth_nodes_tunables(x.m->nodes, &t);
	t.min_free_kbytes = 4 * 128;
	t.watermark_boost_factor = 0;
	assert_int_equal(berth_nodes_tune(x.m->nodes, &t), 0);
	x.small = cache_open(x.tz, "small");
	x.large = cache_open(x.tz, "large");
	cache_fill(x.large, in_large);
	cache_fill(x.small, in_small);
	hoard(x.m, x.tz, left); /* nobody's */
	return x;
}

static void busy(struct cache *c)
{
	for (uint64_t page = 0; page < c->o->next_page; page++)
		c->o->answers[page] = TEST_BUSY;
}

static void tight_close(struct tight x)
{
	machine_ok(x.m);
	cache_close(x.large);
	cache_close(x.small);
	machine_close(x.m);
}

static void the_largest_owner_is_named(void **state)
{
	struct tight x = tight_open(500, 300, 128);

	(void)state;
	busy(x.large);
	busy(x.small);
	x.m->oom_answers = 1;
	x.m->oom_step = 32;
	assert_non_null(take(x.m, 0, 0, 0, 0));
	assert_int_equal(x.m->ooms, 1);
	assert_ptr_equal(x.m->oom_zone, x.tz->zone);
	/* Frames without an owner are more, but whom to ask for them? */
	assert_int_equal(x.m->oom_owner, x.large->o->id);
	assert_string_equal(x.m->oom_owner_name, "large");
	assert_int_equal(x.m->oom_owner_pages, 500);
	tight_close(x);
}

static void where_nobody_owns_anything_nobody_is_named(void **state)
{
	struct tight x = tight_open(0, 0, 128);

	(void)state;
	assert_null(take(x.m, 0, 0, 0, 0));
	assert_int_equal(x.m->ooms, 1);
	assert_int_equal(x.m->oom_owner, BERTH_OWNER_NONE);
	assert_string_equal(x.m->oom_owner_name, "nobody");
	assert_int_equal(x.m->oom_owner_pages, 4096 - 128);
	tight_close(x);
}

/* Every page that can be dropped is, of both owners, before anybody is sacrificed. */
static void nobody_is_sacrificed_while_pages_can_be_dropped(void **state)
{
	struct tight x = tight_open(200, 100, 128);
	unsigned n = 0;

	(void)state;
	while (take(x.m, 0, 0, 0, 0)) {
		assert_int_equal(x.m->ooms, 0);
		n++;
	}
	assert_int_equal(x.m->ooms, 1);
	assert_int_equal(n, 300);
	assert_int_equal(x.large->nr_dropped, 200);
	assert_int_equal(x.small->nr_dropped, 100);
	tight_close(x);
}

/* What is being written will be free: the allocation waits some milliseconds for it. */
static struct cache *written;

static void end_writes_after_a_while(void *ctx)
{
	unsigned *waits = ctx;

	if (++*waits == 15)
		cache_end_writes(written, true);
}

static void nobody_is_sacrificed_while_pages_are_written(void **state)
{
	struct tight x = tight_open(200, 100, 128);
	unsigned waits = 0;

	(void)state;
	busy(x.small);
	for (uint64_t page = 0; page < 200; page++)
		cache_dirty(x.large, page);
	written = x.large;
	x.tz->port.on_wait = end_writes_after_a_while;
	x.tz->port.on_wait_ctx = &waits;
	assert_non_null(take(x.m, 0, 0, 0, 0));
	assert_true(waits >= 15);
	assert_int_equal(x.m->ooms, 0);
	assert_true(x.large->nr_dropped > 0);
	cache_end_writes(x.large, true);
	tight_close(x);
}

/* But not for ever. */
static void a_write_that_never_ends_is_not_waited_for(void **state)
{
	struct tight x = tight_open(200, 100, 128);

	(void)state;
	busy(x.small);
	for (uint64_t page = 0; page < 200; page++)
		cache_dirty(x.large, page);
	assert_null(take(x.m, 0, 0, 0, 0));
	assert_int_equal(x.m->ooms, 1);
	assert_true(x.tz->port.waited_ns < 1000000000);
	cache_end_writes(x.large, true);
	tight_close(x);
}

static void who_may_not_sacrifice_fails(void **state)
{
	static const unsigned gfp[] = { BERTH_GFP_NO_RECLAIM, BERTH_GFP_NORETRY, BERTH_GFP_MAYFAIL,
					BERTH_GFP_THISNODE };
	struct tight x = tight_open(0, 0, 128);

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(gfp); i++)
		assert_null(take(x.m, 0, 0, gfp[i], 0));
	assert_null(take(x.m, 0, 4, 0, 0)); /* nor for a large block */
	assert_int_equal(x.m->ooms, 0);
	tight_close(x);
}

/* The callback's own allocation finds that somebody is at it already, and fails in the end. */
static bool oom_that_allocates(void *ctx, const struct berth_oom *why)
{
	struct machine *m = ctx;

	m->ooms++;
	assert_int_equal(why->order, 0);
	assert_null(take(m, 0, 0, 0, 0));
	return false;
}

static void one_victim_at_a_time(void **state)
{
	static const struct berth_nodes_ops ops = { .oom = oom_that_allocates };
	const struct berth_nodes_params params = { .nr_nodes = 1, .ops = &ops };
	struct machine *m = machine_open_with(&params);
	struct test_zone *tz = add_zone(m, 0, NORMAL, 0, 4096);

	(void)state;
	hoard(m, tz, marks_of(tz).mark[BERTH_MARK_MIN]);
	assert_null(take(m, 0, 0, 0, 0));
	assert_int_equal(m->ooms, 1);
	machine_close(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_largest_owner_is_named),
		cmocka_unit_test(where_nobody_owns_anything_nobody_is_named),
		cmocka_unit_test(nobody_is_sacrificed_while_pages_can_be_dropped),
		cmocka_unit_test(nobody_is_sacrificed_while_pages_are_written),
		cmocka_unit_test(a_write_that_never_ends_is_not_waited_for),
		cmocka_unit_test(who_may_not_sacrifice_fails),
		cmocka_unit_test(one_victim_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
