/* SPDX-License-Identifier: MIT */
/*
 * Leases: memory that is used in place while it is locked, and taken by claims while it isn't.
 */
#include <berth/lease.h>
#include <berth/lru.h>

#include "core/internal.h"
#include "testzone.h"

#define AREA_PAGES 1024u

struct tier {
	struct test_zone *tz;
	struct berth_leases *leases;
	struct berth_lease_params params;
	void *metadata;
	size_t metadata_bytes;
	struct berth_cma *area;
	uint64_t bitmap[AREA_PAGES / 64];
	char *memory;
};

static struct tier *tier_open(uint64_t max_locked_pages)
{
	struct tier *t = test_zalloc(1, sizeof(*t));
	struct berth_cma_params area = { .name = "area",
					 .nr_pages = AREA_PAGES,
					 .lend = BERTH_LEND_FIRST };

	t->tz = zone_open(.lru = true, .start_pfn = 0x1000, .nr_pages = 4096);
	area.start_pfn = 0x1000;
	area.bitmap = t->bitmap;
	assert_int_equal(berth_cma_declare(t->tz->zone, &area, &t->area), 0);
	t->memory = test_zalloc(4096, BERTH_PAGE_SIZE);
	t->params = (struct berth_lease_params){
		.zone = t->tz->zone,
		.name = "leases",
		.max_leases = 64,
		.max_locked_pages = max_locked_pages,
		.linear = t->memory,
		.linear_pfn = 0x1000,
		.port = &test_port_ops,
		.port_ctx = &t->tz->port,
	};
	t->metadata_bytes = berth_leases_metadata_size(&t->params);
	assert_int_equal(posix_memalign(&t->metadata, 64, t->metadata_bytes), 0);
	assert_int_equal(berth_leases_init(&t->leases, &t->params, t->metadata, t->metadata_bytes),
			 0);
	return t;
}

static void tier_verify(struct tier *t, const char *file, int line)
{
	struct berth_violation v = { 0 };

	test_zone_verify(t->tz, file, line);
	if (!berth_leases_check(t->leases, &v)) {
		print_error("leases check: %s at %#llx: value %#llx, expected %#llx\n", v.what,
			    (unsigned long long)v.where, (unsigned long long)v.value,
			    (unsigned long long)v.expected);
		_fail(file, line);
	}
}
#define tier_ok(t) tier_verify(t, __FILE__, __LINE__)

static struct berth_lease_stats stats_of(struct tier *t)
{
	struct berth_lease_stats stats;

	berth_lease_stats(t->leases, &stats);
	return stats;
}

static void tier_close(struct tier *t)
{
	tier_ok(t);
	assert_int_equal(stats_of(t).nr_leases, 0);
	assert_int_equal(stats_of(t).leased_pages, 0);
	assert_int_equal(stats_of(t).locked_pages, 0);
	berth_lru_add_drain_all(t->tz->zone);
	zone_close(t->tz);
	free(t->metadata);
	free(t->memory);
	free(t);
}

static berth_lease_t create(struct tier *t, uint64_t nr_pages, const char *name)
{
	berth_lease_t lease = 0;

	assert_int_equal(berth_lease_create(t->leases, nr_pages, name, &lease), 0);
	assert_int_not_equal(lease, 0);
	return lease;
}

static char *at(struct tier *t, berth_pfn_t pfn)
{
	return t->memory + (pfn - 0x1000) * BERTH_PAGE_SIZE;
}

/* Writes into a lease. */
static berth_pfn_t fill(struct tier *t, berth_lease_t lease, uint64_t nr_pages, char value)
{
	berth_pfn_t pfn;

	assert_int_equal(berth_lease_lock(t->leases, lease, &pfn), 0);
	memset(at(t, pfn), value, nr_pages * BERTH_PAGE_SIZE);
	assert_int_equal(berth_lease_unlock(t->leases, lease), 0);
	return pfn;
}

static void expect(struct tier *t, berth_lease_t lease, uint64_t nr_pages, char value)
{
	berth_pfn_t pfn;

	assert_int_equal(berth_lease_lock(t->leases, lease, &pfn), 0);
	for (uint64_t i = 0; i < nr_pages * BERTH_PAGE_SIZE; i++)
		assert_int_equal(at(t, pfn)[i], value);
	assert_int_equal(berth_lease_unlock(t->leases, lease), 0);
}

static int claim(struct tier *t, uint64_t nr_pages, berth_pfn_t *pfn,
		 struct berth_claim_report *report)
{
	struct berth_claim_params params = { .nr_pages = nr_pages };

	return berth_cma_alloc(t->area, &params, pfn, report);
}

static void test_lock_and_unlock(void **state)
{
	struct tier *t = tier_open(64);
	berth_lease_t a = create(t, 16, "a"), b = create(t, 5, NULL), old;
	berth_pfn_t pfn, again;

	(void)state;
	fill(t, a, 16, 1);
	fill(t, b, 5, 2);
	expect(t, a, 16, 1);
	expect(t, b, 5, 2);
	assert_int_equal(berth_lease_lock(t->leases, a, &pfn), 0);
	assert_int_equal(berth_lease_lock(t->leases, a, &again), 0);
	assert_int_equal(pfn, again);
	assert_int_equal(stats_of(t).locked_pages, 16);
	assert_int_equal(berth_lease_free(t->leases, a), -BERTH_EBUSY);
	assert_int_equal(berth_lease_unlock(t->leases, a), 0);
	assert_true(berth_page_pinned(t->tz->zone, pfn));
	assert_int_equal(berth_lease_unlock(t->leases, a), 0);
	assert_false(berth_page_pinned(t->tz->zone, pfn));
	assert_int_equal(berth_lease_unlock(t->leases, a), -BERTH_EINVAL);
	tier_ok(t);
	assert_int_equal(berth_lease_free(t->leases, a), 0);
	assert_int_equal(berth_lease_free(t->leases, a), -BERTH_EINVAL);
	assert_int_equal(berth_lease_lock(t->leases, a, &pfn), -BERTH_EINVAL);
	assert_int_equal(berth_lease_free(t->leases, b), 0);
	/* The record is another lease's now, and the old handle doesn't fit. */
	old = b;
	b = create(t, 1, "again");
	assert_int_equal((uint32_t)b, (uint32_t)old);
	assert_int_equal(berth_lease_pages(t->leases, b), 1);
	assert_int_equal(berth_lease_pages(t->leases, old), 0);
	assert_int_equal(berth_lease_lock(t->leases, old, &pfn), -BERTH_EINVAL);
	assert_int_equal(berth_lease_free(t->leases, old), -BERTH_EINVAL);
	assert_int_equal(berth_lease_unlock(t->leases, a), -BERTH_EINVAL);
	assert_int_equal(berth_lease_free(t->leases, b), 0);
	tier_close(t);
}

/* Beyond the limit nothing can be locked, so claims find something to take. */
static void test_limit(void **state)
{
	struct tier *t = tier_open(20);
	berth_lease_t a = create(t, 16, "a"), b = create(t, 8, "b");
	berth_pfn_t pfn;

	(void)state;
	assert_int_equal(berth_lease_lock(t->leases, a, &pfn), 0);
	assert_int_equal(berth_lease_lock(t->leases, b, &pfn), -BERTH_ENOSPC);
	assert_int_equal(stats_of(t).refused, 1);
	assert_int_equal(berth_lease_lock(t->leases, a, &pfn), 0); /* no page more */
	assert_int_equal(berth_lease_unlock(t->leases, a), 0);
	assert_int_equal(berth_lease_unlock(t->leases, a), 0);
	assert_int_equal(berth_lease_lock(t->leases, b, &pfn), 0);
	assert_int_equal(berth_lease_unlock(t->leases, b), 0);
	tier_ok(t);
	assert_int_equal(berth_lease_free(t->leases, a), 0);
	assert_int_equal(berth_lease_free(t->leases, b), 0);
	tier_close(t);
}

/* A claim of all takes all leases that aren't locked, and moves nothing. */
static void test_a_claim_takes(void **state)
{
	struct tier *t = tier_open(1024);
	struct berth_claim_report report;
	berth_lease_t leases[32];
	berth_pfn_t pfn, where;
	unsigned lost = 0;

	(void)state;
	for (unsigned i = 0; i < 32; i++) {
		leases[i] = create(t, 32, "lease");
		fill(t, leases[i], 32, (char)i);
	}
	assert_int_equal(claim(t, AREA_PAGES, &pfn, &report), 0);
	assert_int_equal(report.moved_pages, 0);
	tier_ok(t);
	for (unsigned i = 0; i < 32; i++) {
		int error = berth_lease_lock(t->leases, leases[i], &where);

		lost += error == -BERTH_ENOENT;
		if (!error)
			assert_int_equal(berth_lease_unlock(t->leases, leases[i]), 0);
	}
	assert_int_equal(lost, 32); /* they were all in the area, which lends first */
	assert_int_equal(stats_of(t).lost, 32);
	assert_int_equal(stats_of(t).nr_lost_now, 32);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(berth_lease_free(t->leases, leases[i]), 0);
	assert_int_equal(berth_cma_release(t->area, pfn, AREA_PAGES), 0);
	tier_close(t);
}

/* A locked lease is in the way, and is named; a claim that fits elsewhere goes there. */
static void test_a_claim_avoids_what_is_locked(void **state)
{
	struct tier *t = tier_open(64);
	berth_lease_t free_one = create(t, 16, "free"), held = create(t, 16, "grabber");
	struct berth_claim_report report;
	berth_pfn_t pfn, where;

	(void)state;
	fill(t, free_one, 16, 7);
	assert_int_equal(berth_lease_lock(t->leases, held, &where), 0);
	memset(at(t, where), 9, 16 * BERTH_PAGE_SIZE);
	assert_in_range(where, 0x1000, 0x1000 + AREA_PAGES - 1);
	assert_int_equal(claim(t, AREA_PAGES, &pfn, &report), -BERTH_EBUSY);
	assert_non_null(report.blocker_holder);
	assert_string_equal(report.blocker_holder, "grabber");
	expect(t, free_one, 16, 7); /* it wasn't taken in vain */
	assert_int_equal(claim(t, AREA_PAGES / 2, &pfn, &report), 0);
	assert_true(where + 16 <= pfn || where >= pfn + AREA_PAGES / 2);
	for (unsigned i = 0; i < 16 * BERTH_PAGE_SIZE; i++)
		assert_int_equal(at(t, where)[i], 9);
	assert_int_equal(berth_cma_release(t->area, pfn, AREA_PAGES / 2), 0);
	assert_int_equal(berth_lease_unlock(t->leases, held), 0);
	assert_int_equal(claim(t, AREA_PAGES, &pfn, &report), 0);
	assert_int_equal(berth_lease_lock(t->leases, held, &where), -BERTH_ENOENT);
	assert_int_equal(berth_lease_free(t->leases, held), 0);
	assert_int_equal(berth_lease_free(t->leases, free_one), 0);
	assert_int_equal(berth_cma_release(t->area, pfn, AREA_PAGES), 0);
	tier_close(t);
}

/* A claim of a part of a lease takes the lease; what is left of it is given back by its holder. */
static void test_a_part_is_taken(void **state)
{
	struct tier *t = tier_open(512);
	berth_lease_t lease = create(t, 256, "large");
	struct berth_claim_params params = { .nr_pages = 4 };
	berth_pfn_t pfn, where = fill(t, lease, 256, 3);

	(void)state;
	params.min_pfn = where + 100;
	params.max_pfn = where + 103;
	assert_int_equal(berth_cma_alloc(t->area, &params, &pfn, NULL), 0);
	assert_int_equal(pfn, where + 100);
	tier_ok(t);
	assert_int_equal(berth_lease_lock(t->leases, lease, &where), -BERTH_ENOENT);
	assert_int_equal(stats_of(t).leased_pages, 252);
	assert_int_equal(berth_lease_free(t->leases, lease), 0);
	tier_ok(t);
	assert_int_equal(berth_cma_release(t->area, pfn, 4), 0);
	tier_close(t);
}

static void test_reclaim_takes(void **state)
{
	struct tier *t = tier_open(64);
	berth_lease_t a = create(t, 16, "a"), b = create(t, 16, "b");
	berth_pfn_t pfn;

	(void)state;
	assert_int_equal(berth_lease_lock(t->leases, b, &pfn), 0);
	berth_lru_add_drain_all(t->tz->zone);
	assert_true(berth_zone_reclaim(t->tz->zone, 32, 0) >= 16);
	assert_int_equal(berth_lease_unlock(t->leases, b), 0);
	assert_int_equal(berth_lease_lock(t->leases, a, &pfn), -BERTH_ENOENT);
	assert_int_equal(berth_lease_lock(t->leases, b, &pfn), 0);
	assert_int_equal(berth_lease_unlock(t->leases, b), 0);
	tier_ok(t);
	assert_int_equal(berth_lease_free(t->leases, a), 0);
	assert_int_equal(berth_lease_free(t->leases, b), 0);
	tier_close(t);
}

/* Compaction moves whole leases with what they hold; a locked one stays. */
static void test_compaction_moves(void **state)
{
	struct tier *t = tier_open(1024);
	const struct berth_compact_params compact = { .order = 9,
						      .mode = BERTH_COMPACT_SYNC,
						      .flags = BERTH_COMPACT_WHOLE_ZONE |
							       BERTH_COMPACT_FORCE };
	berth_lease_t leases[64];
	berth_pfn_t held, pfn;

	(void)state;
	for (unsigned i = 0; i < 64; i++) {
		leases[i] = create(t, 16, "lease");
		fill(t, leases[i], 16, (char)i);
	}
	for (unsigned i = 0; i < 64; i += 2)
		assert_int_equal(berth_lease_free(t->leases, leases[i]), 0);
	assert_int_equal(berth_lease_lock(t->leases, leases[1], &held), 0);
	berth_lru_add_drain_all(t->tz->zone);
	(void)!berth_compact(t->tz->zone, &compact, NULL);
	assert_true(stats_of(t).moved > 0);
	assert_int_equal(stats_of(t).lost, 0);
	tier_ok(t);
	for (unsigned i = 1; i < 64; i += 2)
		expect(t, leases[i], 16, (char)i);
	assert_int_equal(berth_lease_lock(t->leases, leases[1], &pfn), 0);
	assert_int_equal(pfn, held);
	assert_int_equal(berth_lease_unlock(t->leases, leases[1]), 0);
	assert_int_equal(berth_lease_unlock(t->leases, leases[1]), 0);
	for (unsigned i = 1; i < 64; i += 2)
		assert_int_equal(berth_lease_free(t->leases, leases[i]), 0);
	tier_close(t);
}

/* ---- Answers to the core, and what it can ask too late ------------------------------------------- */

struct asked {
	const struct berth_owner_ops *ops;
	void *ctx;
	unsigned owner;
	uint64_t cookie;
};

/* What the core has of the block at pfn, to ask its owner. */
static struct asked asked_of(struct tier *t, berth_pfn_t pfn)
{
	struct asked asked = { 0 };

	assert_true(berth_frame_owner(t->tz->zone, pfn, &asked.owner, &asked.cookie));
	asked.ops = t->tz->zone->owners[asked.owner].ops;
	asked.ctx = t->tz->zone->owners[asked.owner].ctx;
	return asked;
}

static int ask_to_drop(struct asked asked, berth_pfn_t pfn, unsigned order)
{
	struct berth_reclaim_item item = { .pfn = pfn,
					   .cookie = asked.cookie,
					   .order = (uint8_t)order,
					   .owner = (uint16_t)asked.owner };

	asked.ops->reclaim(asked.ctx, &item, 1);
	return item.result;
}

/* It is refused in all these tests; the name of who is in the way. */
static const char *ask_to_move(struct asked asked, berth_pfn_t pfn, unsigned order)
{
	struct berth_move move = { .src = pfn,
				   .dst = pfn + 512,
				   .cookie = asked.cookie,
				   .order = (uint8_t)order,
				   .owner = (uint16_t)asked.owner };

	asked.ops->migrate(asked.ctx, &move, 1);
	assert_int_equal(move.result, BERTH_MOVE_BUSY);
	assert_false(move.arrived);
	return move.holder;
}

static const char *ask_for_holder(struct asked asked, berth_pfn_t pfn)
{
	return asked.ops->holder(asked.ctx, pfn, asked.cookie);
}

static void test_what_is_in_use_stays(void **state)
{
	struct tier *t = tier_open(64);
	const char *name = "a name of more than thirty-one characters";
	berth_lease_t lease = create(t, 16, name);
	berth_pfn_t pfn = fill(t, lease, 16, 5), at;
	struct asked asked = asked_of(t, pfn);

	(void)state;
	assert_null(ask_for_holder(asked, pfn));
	/* Locked. */
	assert_int_equal(berth_lease_lock(t->leases, lease, &at), 0);
	assert_int_equal(ask_to_drop(asked, pfn, 4), BERTH_RECLAIM_BUSY);
	assert_memory_equal(ask_to_move(asked, pfn, 4), name, BERTH_LEASE_NAME_BYTES - 1);
	assert_int_equal(strlen(ask_for_holder(asked, pfn)), BERTH_LEASE_NAME_BYTES - 1);
	assert_int_equal(berth_lease_unlock(t->leases, lease), 0);
	/* Pinned by somebody else, so that it can't be frozen. */
	assert_int_equal(berth_page_pin(t->tz->zone, pfn), 0);
	assert_int_equal(ask_to_drop(asked, pfn, 4), BERTH_RECLAIM_BUSY);
	assert_null(ask_to_move(asked, pfn, 4));
	assert_int_equal(berth_page_unpin(t->tz->zone, pfn), 0);
	/* A part of it doesn't move by itself. */
	assert_null(ask_to_move(asked, pfn, 3));
	/* While the core has it, it can't be locked, and what was pinned of it isn't any more. */
	assert_true(berth_page_freeze(t->tz->zone, pfn));
	assert_int_equal(berth_lease_lock(t->leases, lease, &at), -BERTH_EBUSY);
	assert_int_equal(stats_of(t).locked_pages, 0);
	berth_page_unfreeze(t->tz->zone, pfn);
	expect(t, lease, 16, 5);
	assert_int_equal(berth_lease_free(t->leases, lease), 0);
	tier_close(t);
}

/* A lease of two blocks, of which the second is frozen: the pin of the first is taken back. */
static void test_a_half_locked_lease_is_unlocked(void **state)
{
	struct tier *t = tier_open(64);
	berth_lease_t lease = create(t, 24, "two blocks");
	berth_pfn_t pfn = fill(t, lease, 24, 5), at;

	(void)state;
	assert_true(berth_page_freeze(t->tz->zone, pfn + 16));
	assert_int_equal(berth_lease_lock(t->leases, lease, &at), -BERTH_EBUSY);
	assert_false(berth_page_pinned(t->tz->zone, pfn));
	assert_int_equal(stats_of(t).locked_pages, 0);
	berth_page_unfreeze(t->tz->zone, pfn + 16);
	expect(t, lease, 24, 5);
	tier_ok(t);
	assert_int_equal(berth_lease_free(t->leases, lease), 0);
	tier_close(t);
}

/* What is lost has neither a place to move to nor a holder; what no lease has is nobody's. */
static void test_asked_too_late(void **state)
{
	struct tier *t = tier_open(512);
	struct berth_claim_params params = { .nr_pages = 4 };
	berth_lease_t lease = create(t, 256, "large"), other = create(t, 16, "other");
	berth_pfn_t pfn = fill(t, lease, 256, 3), claimed;
	struct asked asked = asked_of(t, pfn), gone = asked_of(t, pfn + 100), none = asked;

	(void)state;
	gone.cookie += 100 *
		       (gone.cookie == asked.cookie); /* the block's first page has one alone */
	params.min_pfn = pfn + 100;
	params.max_pfn = pfn + 103;
	assert_int_equal(berth_cma_alloc(t->area, &params, &claimed, NULL), 0);
	assert_null(ask_to_move(asked, pfn, 8));
	assert_int_equal(ask_to_drop(gone, pfn + 100, 2), BERTH_RECLAIM_GONE);
	assert_null(ask_to_move(gone, pfn + 100, 2));
	assert_null(ask_for_holder(gone, pfn + 100));
	/* Its page is elsewhere; no such lease; one that has been given back. */
	assert_int_equal(ask_to_drop(asked, pfn + 1, 0), BERTH_RECLAIM_GONE);
	none.cookie = UINT64_C(40) * BERTH_LEASE_MAX_PAGES;
	assert_int_equal(ask_to_drop(none, pfn, 0), BERTH_RECLAIM_GONE);
	assert_int_equal(berth_lease_free(t->leases, lease), 0);
	assert_int_equal(ask_to_drop(asked, pfn, 0), BERTH_RECLAIM_GONE);
	assert_int_equal(berth_lease_free(t->leases, other), 0);
	assert_int_equal(berth_cma_release(t->area, claimed, 4), 0);
	tier_close(t);
}

/* Leases without a mapping are dropped, but don't move. */
static void test_nothing_moves_without_a_mapping(void **state)
{
	struct tier *t = tier_open(64);
	struct berth_lease_params params = t->params;
	struct berth_leases *leases;
	void *metadata = NULL;
	berth_lease_t lease;
	berth_pfn_t pfn;

	(void)state;
	params.linear = NULL;
	assert_int_equal(posix_memalign(&metadata, 64, t->metadata_bytes), 0);
	assert_int_equal(berth_leases_init(&leases, &params, metadata, t->metadata_bytes), 0);
	assert_int_equal(berth_lease_create(leases, 16, "unmapped", &lease), 0);
	assert_int_equal(berth_lease_lock(leases, lease, &pfn), 0);
	assert_int_equal(berth_lease_unlock(leases, lease), 0);
	assert_null(ask_to_move(asked_of(t, pfn), pfn, 4));
	assert_int_equal(berth_lease_lock(leases, lease, &pfn), 0);
	assert_int_equal(berth_lease_unlock(leases, lease), 0);
	assert_int_equal(berth_lease_free(leases, lease), 0);
	assert_true(berth_leases_check(leases, NULL));
	tier_close(t);
	free(metadata);
}

/* J1: the frame of a lease is free, another owner's, another lease's. */
static void test_a_frame_that_is_lost_is_found(void **state)
{
	struct tier *t = tier_open(64);
	struct berth_zone *zone = t->tz->zone;
	berth_lease_t lease = create(t, 16, "robbed");
	berth_pfn_t pfn = fill(t, lease, 16, 1), again;
	struct asked asked = asked_of(t, pfn);
	const struct berth_owner_ops ops = { .name = "thief",
					     .migrate = asked.ops->migrate,
					     .reclaim = asked.ops->reclaim };
	struct berth_violation v = { 0 };
	unsigned thief;

	(void)state;
	assert_int_equal(berth_owner_register(zone, &ops, NULL, &thief), 0);
	for (unsigned i = 0; i < 3; i++) {
		unsigned owner = i == 0 ? thief : asked.owner;
		uint64_t cookie = asked.cookie + (i == 1) * BERTH_LEASE_MAX_PAGES;

		assert_int_equal(berth_free_pages(zone, pfn), 0);
		v.what = NULL;
		assert_false(berth_leases_check(t->leases, &v));
		assert_non_null(strstr(v.what, "J1"));
		assert_false(berth_leases_check(t->leases, NULL));
		assert_int_equal(berth_alloc_pages(zone, 4, BERTH_GFP_MOVABLE | BERTH_GFP_LRU,
						   owner, cookie, &again),
				 0);
		assert_int_equal(again, pfn);
		assert_int_equal(berth_leases_check(t->leases, &v), i == 2);
	}
	assert_int_equal(berth_lease_free(t->leases, lease), 0);
	tier_close(t);
}

static void test_init_without_room(void **state)
{
	struct tier *t = tier_open(64);
	struct berth_leases *leases = NULL;
	void *metadata = NULL, *kept[BERTH_MAX_OWNERS + 1];
	unsigned registered = 0;
	berth_lease_t lease, large[8];
	int error;

	(void)state;
	assert_int_equal(posix_memalign(&metadata, 64, t->metadata_bytes), 0);
	/* Without a free frame it begins all the same; a lease waits for one. */
	for (unsigned i = 0; i < 8; i++)
		large[i] = create(t, 512, "large");
	assert_int_equal(berth_leases_init(&leases, &t->params, metadata, t->metadata_bytes), 0);
	assert_int_equal(berth_lease_create(leases, 1, "x", &lease), -BERTH_ENOMEM);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(berth_lease_free(t->leases, large[i]), 0);
	assert_int_equal(berth_lease_create(leases, 1, "x", &lease), 0);
	assert_int_equal(berth_lease_free(leases, lease), 0);
	/* An owner too many. */
	do {
		struct berth_leases *none = NULL;
		void *more = NULL;

		assert_int_equal(posix_memalign(&more, 64, t->metadata_bytes), 0);
		error = berth_leases_init(&none, &t->params, more, t->metadata_bytes);
		kept[registered++] = more;
		if (error)
			assert_null(none);
	} while (!error);
	assert_int_equal(error, -BERTH_ENOSPC);
	tier_close(t);
	while (registered)
		free(kept[--registered]);
	free(metadata);
}

static void test_bad_parameters(void **state)
{
	struct tier *t = tier_open(64);
	struct berth_leases *leases = NULL;
	struct berth_lease_params bad;

	(void)state;
	assert_int_equal(berth_leases_metadata_size(NULL), 0);
#define BAD(field, value)                                                                          \
	do {                                                                                       \
		bad = t->params;                                                                   \
		bad.field = (value);                                                               \
		assert_int_equal(berth_leases_metadata_size(&bad), 0);                             \
		assert_int_equal(berth_leases_init(&leases, &bad, t->metadata, t->metadata_bytes), \
				 -BERTH_EINVAL);                                                   \
	} while (0)
	BAD(zone, NULL);
	BAD(name, NULL);
	BAD(max_leases, 0);
	BAD(max_leases, (1u << 20) + 1);
	BAD(port, NULL);
#undef BAD
	assert_int_equal(berth_leases_init(NULL, &t->params, t->metadata, t->metadata_bytes),
			 -BERTH_EINVAL);
	assert_int_equal(berth_leases_init(&leases, &t->params, NULL, t->metadata_bytes),
			 -BERTH_EINVAL);
	assert_int_equal(berth_leases_init(&leases, &t->params, (char *)t->metadata + 8,
					   t->metadata_bytes),
			 -BERTH_EINVAL);
	assert_null(leases);
	tier_close(t); /* the metadata is as it was */
}

static void test_bad_arguments(void **state)
{
	struct tier *t = tier_open(64);
	struct test_zone *plain = zone_open(.lru = false);
	struct berth_lease_params bad = t->params;
	struct berth_leases *leases = NULL;
	void *metadata = NULL;
	berth_lease_t lease, many[64];
	berth_pfn_t pfn;

	(void)state;
	bad.zone = plain->zone;
	assert_int_equal(posix_memalign(&metadata, 64, t->metadata_bytes), 0);
	/* Refused as often as one likes: it takes no owner's place, and leaves none that the zone would ask. */
	for (unsigned i = 0; i <= BERTH_MAX_OWNERS; i++)
		assert_int_equal(berth_leases_init(&leases, &bad, metadata, t->metadata_bytes),
				 -BERTH_EINVAL);
	assert_int_equal(berth_leases_init(&leases, &t->params, metadata, t->metadata_bytes - 1),
			 -BERTH_EINVAL);
	assert_null(leases);
	assert_int_equal(berth_lease_create(NULL, 1, "x", &lease), -BERTH_EINVAL);
	assert_int_equal(berth_lease_lock(NULL, 1, &pfn), -BERTH_EINVAL);
	assert_int_equal(berth_lease_lock(t->leases, 1, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_lease_unlock(NULL, 1), -BERTH_EINVAL);
	assert_int_equal(berth_lease_free(NULL, 1), -BERTH_EINVAL);
	assert_int_equal(berth_lease_pages(NULL, 1), 0);
	assert_int_equal(berth_lease_create(t->leases, 0, "x", &lease), -BERTH_EINVAL);
	assert_int_equal(berth_lease_create(t->leases, 513, "x", &lease), -BERTH_EINVAL);
	assert_int_equal(berth_lease_create(t->leases, 1, "x", NULL), -BERTH_EINVAL);
	assert_int_equal(berth_lease_lock(t->leases, 0, &pfn), -BERTH_EINVAL);
	assert_int_equal(berth_lease_lock(t->leases, UINT64_MAX, &pfn), -BERTH_EINVAL);
	assert_int_equal(berth_lease_unlock(t->leases, 1), -BERTH_EINVAL);
	for (unsigned i = 0; i < 64; i++)
		many[i] = create(t, 1, "many");
	assert_int_equal(berth_lease_create(t->leases, 1, "x", &lease), -BERTH_ENOSPC);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(berth_lease_free(t->leases, many[i]), 0);
	/* No memory: nothing is left of the attempt. */
	for (unsigned i = 0; i < 8; i++)
		many[i] = create(t, 512, "large");
	assert_int_equal(berth_lease_create(t->leases, 512, "x", &lease), -BERTH_ENOMEM);
	tier_ok(t);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(berth_lease_free(t->leases, many[i]), 0);
	free(metadata);
	zone_close(plain);
	tier_close(t);
}

/* Random operations: what is locked never changes, what isn't lost is as it was. */
static void test_at_random(void **state)
{
	struct tier *t = tier_open(256);
	uint64_t random = 5, kept = 0, lost = 0;
	struct {
		berth_lease_t lease;
		uint64_t nr_pages;
		berth_pfn_t locked_at;
		bool locked;
		char value;
	} all[24] = { { 0 } };
	berth_pfn_t claimed = 0;
	uint64_t claimed_pages = 0;

	(void)state;
	for (unsigned n = 0; n < 6000 / TEST_SLOWDOWN; n++) {
		unsigned i = (unsigned)test_random_below(&random, 24);
		uint64_t op = test_random_below(&random, 8);
		berth_pfn_t pfn;

		if (op == 0 && claimed_pages) {
			assert_int_equal(berth_cma_release(t->area, claimed, claimed_pages), 0);
			claimed_pages = 0;
		} else if (op == 0) {
			claimed_pages = 1 + test_random_below(&random, AREA_PAGES / 2);
			if (claim(t, claimed_pages, &claimed, NULL) != 0)
				claimed_pages = 0;
			else
				memset(at(t, claimed), 0x77, claimed_pages * BERTH_PAGE_SIZE);
		} else if (!all[i].lease) {
			all[i].nr_pages = 1 + test_random_below(&random, 64);
			if (berth_lease_create(t->leases, all[i].nr_pages, "random",
					       &all[i].lease) != 0) {
				all[i].lease = 0;
				continue;
			}
			all[i].value = (char)n;
			if (berth_lease_lock(t->leases, all[i].lease, &pfn) != 0) {
				assert_int_equal(berth_lease_free(t->leases, all[i].lease), 0);
				all[i].lease = 0;
				continue;
			}
			memset(at(t, pfn), all[i].value, all[i].nr_pages * BERTH_PAGE_SIZE);
			assert_int_equal(berth_lease_unlock(t->leases, all[i].lease), 0);
		} else if (all[i].locked) {
			for (uint64_t k = 0; k < all[i].nr_pages * BERTH_PAGE_SIZE; k += 512)
				assert_int_equal(at(t, all[i].locked_at)[k], all[i].value);
			assert_int_equal(berth_lease_unlock(t->leases, all[i].lease), 0);
			all[i].locked = false;
		} else if (op < 6) {
			int error = berth_lease_lock(t->leases, all[i].lease, &pfn);

			kept += !error;
			lost += error == -BERTH_ENOENT;
			if (!error) {
				for (uint64_t k = 0; k < all[i].nr_pages * BERTH_PAGE_SIZE;
				     k += 512)
					assert_int_equal(at(t, pfn)[k], all[i].value);
				all[i].locked = true;
				all[i].locked_at = pfn;
			}
		} else {
			assert_int_equal(berth_lease_free(t->leases, all[i].lease), 0);
			all[i].lease = 0;
		}
		if (n % 16 == 0)
			tier_ok(t);
	}
	assert_true(kept > 100 / TEST_SLOWDOWN && lost > 50 / TEST_SLOWDOWN);
	for (unsigned i = 0; i < 24; i++) {
		if (all[i].locked)
			assert_int_equal(berth_lease_unlock(t->leases, all[i].lease), 0);
		if (all[i].lease)
			assert_int_equal(berth_lease_free(t->leases, all[i].lease), 0);
	}
	if (claimed_pages)
		assert_int_equal(berth_cma_release(t->area, claimed, claimed_pages), 0);
	tier_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lock_and_unlock),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_a_claim_takes),
		cmocka_unit_test(test_a_claim_avoids_what_is_locked),
		cmocka_unit_test(test_a_part_is_taken),
		cmocka_unit_test(test_reclaim_takes),
		cmocka_unit_test(test_compaction_moves),
		cmocka_unit_test(test_what_is_in_use_stays),
		cmocka_unit_test(test_a_half_locked_lease_is_unlocked),
		cmocka_unit_test(test_asked_too_late),
		cmocka_unit_test(test_nothing_moves_without_a_mapping),
		cmocka_unit_test(test_a_frame_that_is_lost_is_found),
		cmocka_unit_test(test_init_without_room),
		cmocka_unit_test(test_bad_parameters),
		cmocka_unit_test(test_bad_arguments),
		cmocka_unit_test(test_at_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
