/* SPDX-License-Identifier: MIT */
/*
 * The framework: areas under each policy, devices and defaults, claims through one call whatever the
 * policy, the bitmap of "reserve" against a model, what isn't released.
 */
#include <berth/contig.h>
#include <berth/gcma.h>

#include "core/alloc/gcma.h"
#include "tests/include/testowner.h"

#define ZONE_PAGES 8192u

struct fixture {
	struct test_zone *tz;
	struct berth_contig *contig;
	void *memory[16];
	unsigned nr_memory;
};

static void *keep(struct fixture *f, size_t bytes)
{
	void *memory = NULL;

	assert_int_not_equal(bytes, 0);
	assert_int_equal(posix_memalign(&memory, 64, bytes), 0);
	memset(memory, 0xa5, bytes);
	f->memory[f->nr_memory++] = memory;
	return memory;
}

static struct fixture *fixture_open(unsigned max_areas, unsigned max_devices)
{
	struct fixture *f = test_zalloc(1, sizeof(*f));
	struct berth_contig_params params = { .max_areas = max_areas, .max_devices = max_devices };
	size_t bytes;

	f->tz = zone_open(.nr_pages = ZONE_PAGES);
	params.port = f->tz->params.port;
	params.port_ctx = f->tz->params.port_ctx;
	bytes = berth_contig_bytes(&params);
	assert_int_equal(berth_contig_init(&f->contig, &params, keep(f, bytes), bytes), 0);
	return f;
}

static void verify(struct fixture *f)
{
	struct berth_violation v = { 0 };

	if (!berth_contig_check(f->contig, &v))
		fail_msg("%s at %llu: %llu, expected %llu", v.what, (unsigned long long)v.where,
			 (unsigned long long)v.value, (unsigned long long)v.expected);
	zone_ok(f->tz);
}

static void fixture_close(struct fixture *f)
{
	verify(f);
	zone_close(f->tz);
	while (f->nr_memory)
		free(f->memory[--f->nr_memory]);
	free(f);
}

static struct berth_contig_area *declare(struct fixture *f, const char *name, const char *policy,
					 berth_pfn_t start, uint64_t nr_pages, int node)
{
	struct berth_contig_area_params params = {
		.name = name,
		.policy = berth_contig_policy_find(policy),
		.zone = f->tz->zone,
		.start_pfn = start,
		.nr_pages = nr_pages,
		.node = node,
	};
	struct berth_contig_area *area = NULL;

	assert_true(params.policy || !policy);
	params.memory_bytes = berth_contig_area_bytes(&params);
	params.memory = keep(f, params.memory_bytes);
	assert_int_equal(berth_contig_declare(f->contig, &params, &area), 0);
	assert_non_null(area);
	assert_string_equal(berth_contig_area_name(area), name);
	verify(f);
	return area;
}

static berth_pfn_t claim(struct fixture *f, const char *device, uint64_t nr_pages)
{
	struct berth_claim_params params = { .nr_pages = nr_pages };
	berth_pfn_t pfn = BERTH_PFN_NONE;

	assert_int_equal(berth_contig_alloc(f->contig, device, BERTH_NODE_ANY, &params, &pfn, NULL),
			 0);
	verify(f);
	return pfn;
}

static const char *area_of(struct fixture *f, const char *device, int node)
{
	struct berth_contig_area *area = berth_contig_area_of(f->contig, device, node);

	return area ? berth_contig_area_name(area) : "none";
}

/* ---- Devices --------------------------------------------------------------------------------- */

static void devices_find_their_areas(void **state)
{
	struct fixture *f = fixture_open(8, 6);

	(void)state;
	assert_string_equal(area_of(f, "nic0", 0), "none");
	declare(f, "a", "cma", 512, 512, BERTH_NODE_ANY);
	declare(f, "b", "first-fit", 1024, 512, BERTH_NODE_ANY);
	declare(f, "c", "reserve", 1536, 512, BERTH_NODE_ANY);
	declare(f, "n1", NULL, 2048, 512, 1);
	declare(f, "n1too", NULL, 2560, 512, 1);
	assert_string_equal(area_of(f, "nic0", BERTH_NODE_ANY), "none");
	assert_string_equal(area_of(f, "nic0", 0), "none");
	assert_string_equal(area_of(f, "nic0", 1), "n1");
	assert_int_equal(berth_contig_set_default(f->contig, "a"), 0);
	assert_string_equal(area_of(f, "nic0", 0), "a");
	assert_string_equal(area_of(f, "nic0", 1), "n1");
	assert_string_equal(area_of(f, NULL, BERTH_NODE_ANY), "a");
	assert_string_equal(area_of(f, NULL, 1), "n1");
	assert_int_equal(berth_contig_map(f->contig, "nic*", "b"), 0);
	assert_int_equal(berth_contig_map(f->contig, "nic0", "c"), 0);
	assert_int_equal(berth_contig_map(f->contig, "nic1*", "a"), 0);
	assert_string_equal(area_of(f, "nic0", 1), "c");
	assert_string_equal(area_of(f, "nic00", 1), "b");
	assert_string_equal(area_of(f, "nic", 1), "b");
	assert_string_equal(area_of(f, "ni", 1), "n1");
	assert_string_equal(area_of(f, "nic1", 1), "a");
	assert_string_equal(area_of(f, "nic12", 1), "a");
	/* A pattern and a name are two things. */
	assert_int_equal(berth_contig_map(f->contig, "nic", "c"), 0);
	assert_string_equal(area_of(f, "nic", 1), "c");
	assert_string_equal(area_of(f, "nic2", 1), "b");
	assert_int_equal(berth_contig_map(f->contig, "*", "n1"), 0);
	assert_string_equal(area_of(f, "x", BERTH_NODE_ANY), "n1");
	assert_string_equal(area_of(f, "", BERTH_NODE_ANY), "n1");
	/* Said anew, and forgotten. */
	assert_int_equal(berth_contig_map(f->contig, "nic0", "a"), 0);
	assert_string_equal(area_of(f, "nic0", 1), "a");
	assert_int_equal(berth_contig_map(f->contig, "nic0", NULL), 0);
	assert_string_equal(area_of(f, "nic0", 1), "b");
	assert_int_equal(berth_contig_map(f->contig, "nic0", NULL), -BERTH_ENOENT);
	assert_int_equal(berth_contig_map(f->contig, "d", "c"), 0);
	assert_int_equal(berth_contig_map(f->contig, "e", "c"), 0);
	assert_int_equal(berth_contig_map(f->contig, "f", "c"), -BERTH_ENOSPC);
	assert_int_equal(berth_contig_map(f->contig, "e", "b"), 0);
	assert_int_equal(berth_contig_map(f->contig, "e", "zz"), -BERTH_ENOENT);
	assert_int_equal(berth_contig_map(f->contig, "", "b"), -BERTH_EINVAL);
	assert_int_equal(berth_contig_map(f->contig, NULL, "b"), -BERTH_EINVAL);
	assert_int_equal(berth_contig_map(f->contig, "0123456789012345678901234567890x", "b"),
			 -BERTH_EINVAL);
	assert_int_equal(berth_contig_set_default(f->contig, "zz"), -BERTH_ENOENT);
	assert_int_equal(berth_contig_map(f->contig, "*", NULL), 0);
	assert_string_equal(area_of(f, "x", BERTH_NODE_ANY), "a");
	assert_int_equal(berth_contig_set_default(f->contig, NULL), 0);
	assert_string_equal(area_of(f, "x", BERTH_NODE_ANY), "none");
	fixture_close(f);
}

static void without_an_area_a_claim_says_so(void **state)
{
	struct fixture *f = fixture_open(1, 1);
	struct berth_claim_params params = { .nr_pages = 5 };
	struct berth_claim_report report;
	berth_pfn_t pfn = 77;

	(void)state;
	declare(f, "a", "cma", 512, 512, 3);
	assert_int_equal(berth_contig_alloc(f->contig, "x", 2, &params, &pfn, &report),
			 -BERTH_ENODEV);
	assert_int_equal(report.error, -BERTH_ENODEV);
	assert_int_equal(report.nr_pages, 5);
	assert_int_equal(report.blocker_pfn, BERTH_PFN_NONE);
	assert_int_equal(berth_contig_alloc(f->contig, "x", 2, &params, &pfn, NULL), -BERTH_ENODEV);
	assert_int_equal(pfn, 77);
	assert_int_equal(berth_contig_alloc(f->contig, "x", 3, NULL, &pfn, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_contig_alloc(f->contig, "x", 3, &params, &pfn, NULL), 0);
	assert_int_equal(berth_contig_release(f->contig, pfn, 5), 0);
	assert_int_equal(berth_contig_release(f->contig, pfn, 5), -BERTH_EINVAL);
	assert_int_equal(berth_contig_release(f->contig, 400, 5), -BERTH_EINVAL);
	fixture_close(f);
}

/* ---- One call, whatever the policy ------------------------------------------------------------ */

static void a_call_stays_when_the_policy_changes(void **state)
{
	static const char *const policies[] = { "cma", "first-fit", "reserve", "gcma" };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct fixture *f = fixture_open(2, 2);
		struct berth_contig_area *area = declare(f, "area", policies[i], 1024, 1024,
							 BERTH_NODE_ANY);
		struct berth_claim_params params = { .nr_pages = 1025 };
		struct berth_claim_report report;
		struct berth_cma_stats stats;
		struct berth_claim_info info;
		berth_pfn_t a, b, pfn = 0;

		assert_string_equal(berth_contig_area_policy(area)->name, policies[i]);
		assert_int_equal(berth_contig_map(f->contig, "camera*", "area"), 0);
		a = claim(f, "camera0", 512);
		b = claim(f, "camera1", 100);
		assert_true(a >= 1024 && a + 512 <= 2048 && b >= 1024 && b + 100 <= 2048);
		berth_contig_area_stats(area, &stats);
		assert_string_equal(stats.name, "area");
		assert_int_equal(stats.start_pfn, 1024);
		assert_int_equal(stats.nr_pages, 1024);
		assert_int_equal(stats.claimed_pages, 612);
		assert_int_equal(stats.free_pages, 412);
		assert_int_equal(stats.largest_free_pages, 412);
		assert_int_equal(stats.claims_ok, 2);
		/* Who has never released. */
		assert_true(berth_contig_area_next_claim(area, &pfn, &info));
		assert_int_equal(info.pfn, a);
		assert_int_equal(info.nr_pages, 512);
		assert_string_equal(info.name, "camera0");
		assert_string_equal(info.area, "area");
		assert_true(berth_contig_area_next_claim(area, &pfn, &info));
		assert_string_equal(info.name, "camera1");
		assert_false(berth_contig_area_next_claim(area, &pfn, &info));
		assert_int_equal(pfn, 2048);
		/* Errors are the same ones. */
		assert_int_equal(berth_contig_alloc(f->contig, "camera2", 0, &params, &pfn,
						    &report),
				 -BERTH_E2BIG);
		assert_int_equal(report.reason, BERTH_CLAIM_TOO_LARGE);
		params.nr_pages = 500;
		assert_int_equal(berth_contig_alloc(f->contig, "camera2", 0, &params, &pfn,
						    &report),
				 -BERTH_ENOSPC);
		assert_int_equal(report.error, -BERTH_ENOSPC);
		if (!berth_contig_area_cma(area))
			assert_int_equal(report.reason, BERTH_CLAIM_NO_RUN);
		assert_int_equal(report.largest_free_pages, 412);
		assert_string_equal(report.area, "area");
		params.nr_pages = 0;
		assert_int_equal(berth_contig_alloc(f->contig, "camera2", 0, &params, &pfn,
						    &report),
				 -BERTH_EINVAL);
		params.nr_pages = 1;
		params.flags = 1u << 30;
		assert_int_equal(berth_contig_alloc(f->contig, "camera2", 0, &params, &pfn,
						    &report),
				 -BERTH_EINVAL);
		assert_int_equal(berth_contig_release(f->contig, a, 511), -BERTH_EINVAL);
		assert_int_equal(berth_contig_release(f->contig, a + 1, 511), -BERTH_EINVAL);
		assert_int_equal(berth_contig_release(f->contig, a, 512), 0);
		assert_int_equal(berth_contig_release(f->contig, b, 100), 0);
		assert_int_equal(berth_contig_release(f->contig, b, 100), -BERTH_EINVAL);
		berth_contig_area_stats(area, &stats);
		assert_int_equal(stats.free_pages, 1024);
		assert_int_equal(stats.releases, 2);
		fixture_close(f);
	}
}

static void policies_differ_where_they_should(void **state)
{
	struct fixture *f = fixture_open(4, 4);
	struct test_owner *o = owner_open(f->tz, "owner");
	struct berth_contig_area *cheap = declare(f, "cheap", "cma", 1024, 1024, BERTH_NODE_ANY);
	struct berth_contig_area *first = declare(f, "first", "first-fit", 2048, 1024,
						  BERTH_NODE_ANY);
	struct berth_contig_area *own = declare(f, "own", "reserve", 4096, 1024, BERTH_NODE_ANY);
	struct berth_contig_area *free = declare(f, "free", "gcma", 5120, 1024, BERTH_NODE_ANY);

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		owner_alloc(o, 9);
	owner_free(o, owner_page_at(o, 1024 + 512));
	owner_free(o, owner_page_at(o, 2048 + 512));
	assert_int_equal(berth_contig_map(f->contig, "c", "cheap"), 0);
	assert_int_equal(berth_contig_map(f->contig, "f", "first"), 0);
	assert_int_equal(berth_contig_map(f->contig, "o", "own"), 0);
	assert_int_equal(claim(f, "c", 512), 1024 + 512);
	assert_int_equal(claim(f, "f", 512), 2048);
	assert_int_equal(claim(f, "o", 512), 4096);
	assert_int_equal(berth_contig_area_set_lend(cheap, BERTH_LEND_OFF, 0), 0);
	assert_int_equal(berth_contig_area_set_lend(first, BERTH_LEND_LAST, 7), 0);
	assert_int_equal(berth_contig_area_set_lend(own, BERTH_LEND_LAST, 0), -BERTH_EOPNOTSUPP);
	assert_non_null(berth_contig_area_cma(cheap));
	assert_null(berth_contig_area_cma(own));
	assert_null(berth_contig_area_gcma(own));
	assert_non_null(berth_contig_area_gcma(free));
	assert_null(berth_contig_area_cma(free));
	assert_int_equal(berth_contig_area_set_lend(free, BERTH_LEND_LAST, 0), -BERTH_EOPNOTSUPP);
	/* What is reserved is lent to nobody, what is GCMA's not to those who would have to be moved. */
	owner_exhaust(o, 0, BERTH_GFP_MOVABLE);
	assert_int_equal(count_state(f->tz, 4096, 6144, 'c'), 2048);
	owner_close(o);
	fixture_close(f);
}

/* Many at once, and ahead of the need, under each policy: what never moves anything prepares nothing. */
/* Areas of one zone see their own claims alone. */
static void an_area_lists_its_own_claims(void **state)
{
	struct fixture *f = fixture_open(2, 2);
	struct berth_contig_area *low = declare(f, "low", "cma", 1024, 1024, BERTH_NODE_ANY);
	struct berth_contig_area *high = declare(f, "high", "cma", 4096, 1024, BERTH_NODE_ANY);
	struct berth_claim_info info;
	berth_pfn_t next = 0;

	(void)state;
	assert_int_equal(berth_contig_map(f->contig, "l", "low"), 0);
	assert_int_equal(berth_contig_map(f->contig, "h", "high"), 0);
	assert_int_equal(claim(f, "l", 16), 1024);
	assert_int_equal(claim(f, "h", 16), 4096);
	assert_true(berth_contig_area_next_claim(low, &next, &info));
	assert_int_equal(info.pfn, 1024);
	assert_false(berth_contig_area_next_claim(low, &next, &info));
	assert_int_equal(next, 2048);
	assert_false(berth_contig_area_next_claim(low, &next, &info));
	next = 0;
	assert_true(berth_contig_area_next_claim(high, &next, &info));
	assert_int_equal(info.pfn, 4096);
	assert_false(berth_contig_area_next_claim(high, &next, &info));
	fixture_close(f);
}

/* What is wrong in an area's own books is wrong in the registry. */
static void the_check_asks_each_policy(void **state)
{
	struct fixture *f = fixture_open(2, 2);
	struct berth_contig_area *area = declare(f, "free", "gcma", 5120, 1024, BERTH_NODE_ANY);
	struct berth_gcma *gcma = berth_contig_area_gcma(area);
	struct berth_violation v = { 0 };

	(void)state;
	gcma->main_gap--; /* its first granule */
	assert_false(berth_contig_check(f->contig, &v));
	assert_non_null(strstr(v.what, "gcma.I"));
	assert_false(berth_contig_check(f->contig, NULL));
	gcma->main_gap++;
	fixture_close(f);
}

static void many_and_prepared_claims_stay_too(void **state)
{
	static const char *const policies[] = { "cma", "first-fit", "reserve", "gcma" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
		struct fixture *f = fixture_open(2, 2);
		struct berth_contig_area *area = declare(f, "a", policies[i], 1024, 512,
							 BERTH_NODE_ANY);
		struct berth_claim_params params = { .nr_pages = 64 };
		bool moves = i < 2;
		void *memory = keep(f, berth_cma_prepared_bytes());
		struct berth_cma_prepared *prepared = NULL;
		struct berth_claim_report r;
		berth_pfn_t pfns[9], pfn = BERTH_PFN_NONE;

		assert_int_equal(berth_contig_area_alloc_bulk(area, &params, 8, pfns, 0, &r), 8);
		verify(f);
		for (unsigned k = 0; k < 8; k++)
			assert_true(pfns[k] >= 1024 && pfns[k] + 64 <= 1536);
		/* Nothing is left, for one or for a few; what there was is kept. */
		assert_int_equal(berth_contig_area_alloc_bulk(area, &params, 2, &pfns[8], 0, NULL),
				 -BERTH_ENOSPC);
		assert_int_equal(berth_contig_area_alloc_bulk(area, &params, 2, &pfns[8],
							      BERTH_BULK_AS_MANY_AS_POSSIBLE, &r),
				 -BERTH_ENOSPC);
		pfns[8] = pfns[0];
		assert_int_equal(berth_contig_area_release_bulk(area, pfns, 9, 64), -BERTH_EINVAL);
		verify(f);
		assert_int_equal(berth_contig_area_release_bulk(area, pfns, 8, 64), 0);
		params.nr_pages = 200;
		assert_int_equal(berth_contig_area_alloc_bulk(area, &params, 3, pfns, 0, &r),
				 -BERTH_ENOSPC);
		assert_int_equal(r.error, -BERTH_ENOSPC);
		verify(f);
		assert_int_equal(berth_contig_area_alloc_bulk(area, &params, 3, pfns,
							      BERTH_BULK_AS_MANY_AS_POSSIBLE, &r),
				 2);
		assert_int_equal(berth_contig_area_release_bulk(area, pfns, 2, 200), 0);
		assert_int_equal(berth_contig_area_alloc_bulk(area, &params, 0, pfns, 0, &r),
				 -BERTH_EINVAL);
		assert_int_equal(berth_contig_area_alloc_bulk(area, NULL, 1, pfns, 0, &r),
				 -BERTH_EINVAL);
		assert_int_equal(berth_contig_area_prepare(area, NULL, memory, &prepared),
				 -BERTH_EINVAL);
		assert_int_equal(berth_contig_area_prepare(area, &params, memory, &prepared),
				 moves ? 0 : -BERTH_EOPNOTSUPP);
		if (moves) {
			assert_int_equal(berth_cma_prepare_wait(prepared, 0), 0);
			assert_int_equal(berth_cma_prepare_take(prepared, &pfn, NULL), 0);
			assert_int_equal(berth_contig_release(f->contig, pfn, 200), 0);
		}
		fixture_close(f);
	}
}

static void bad_areas_are_refused(void **state)
{
	struct fixture *f = fixture_open(3, 1);
	struct berth_contig_area_params good = { .name = "b",
						 .zone = f->tz->zone,
						 .start_pfn = 2048,
						 .nr_pages = 512 },
					bad;
	struct berth_contig_params params = { .max_areas = 1, .max_devices = 1 };
	struct berth_contig_area *area = NULL;
	berth_pfn_t used;

	(void)state;
	assert_int_equal(berth_contig_bytes(&params), 0);
	assert_int_equal(berth_contig_bytes(NULL), 0);
	assert_null(berth_contig_policy_find("gcm"));
	assert_null(berth_contig_policy_find(NULL));
	declare(f, "a", "cma", 512, 1024, BERTH_NODE_ANY);
	good.memory_bytes = berth_contig_area_bytes(&good);
	good.memory = keep(f, good.memory_bytes + 64);
#define REFUSED(error_, field, value)                                                   \
	do {                                                                            \
		bad = good;                                                             \
		bad.field = value;                                                      \
		assert_int_equal(berth_contig_declare(f->contig, &bad, &area), error_); \
		assert_null(area);                                                      \
	} while (0)
	REFUSED(-BERTH_EINVAL, name, NULL);
	REFUSED(-BERTH_EINVAL, name, "");
	REFUSED(-BERTH_EINVAL, name, "0123456789012345678901234567890x");
	REFUSED(-BERTH_EEXIST, name, "a");
	REFUSED(-BERTH_EEXIST, start_pfn, 1024);
	REFUSED(-BERTH_EINVAL, start_pfn, 2049);
	REFUSED(-BERTH_EINVAL, start_pfn, UINT64_MAX - 100);
	REFUSED(-BERTH_EINVAL, nr_pages, 0);
	REFUSED(-BERTH_EINVAL, zone, NULL);
	REFUSED(-BERTH_EINVAL, memory, NULL);
	REFUSED(-BERTH_EINVAL, memory, (char *)good.memory + 8);
	REFUSED(-BERTH_EINVAL, memory_bytes, good.memory_bytes - 1);
	REFUSED(-BERTH_EINVAL, order_per_bit, BERTH_MAX_ORDER_LIMIT + 1);
	REFUSED(-BERTH_EINVAL, align_order, BERTH_MAX_ORDER_LIMIT + 1);
	REFUSED(-BERTH_EINVAL, lend, (enum berth_lend_policy)(BERTH_LEND_OFF + 1));
	declare(f, "c", "reserve", 4096, 512, BERTH_NODE_ANY);
	used = zone_alloc(f->tz, 0) & ~511ull;
	REFUSED(-BERTH_EBUSY, start_pfn, used);
	/* The registry is full; what was refused hasn't used it up. */
	declare(f, "d", "cma", 5120, 512, BERTH_NODE_ANY);
	REFUSED(-BERTH_ENOSPC, name, "e");
	verify(f);
	fixture_close(f);
}

/* ---- "reserve" ------------------------------------------------------------------------------- */

static void alignment_is_that_of_the_frames(void **state)
{
	struct fixture *f = fixture_open(2, 1);
	/* Memory of no zone, that begins inside of a unit's alignment. */
	struct berth_contig_area_params params = {
		.name = "nomap",
		.policy = berth_contig_policy_find("reserve"),
		.start_pfn = 1000003,
		.nr_pages = 64,
		.order_per_bit = 2,
		.align_order = 1,
	};
	struct berth_claim_params claim = { .nr_pages = 1 };
	struct berth_contig_area *area;
	berth_pfn_t pfn;

	(void)state;
	params.memory_bytes = berth_contig_area_bytes(&params);
	params.memory = keep(f, params.memory_bytes);
	assert_int_equal(berth_contig_declare(f->contig, &params, &area), 0);
	assert_int_equal(berth_contig_area_alloc(area, &claim, &pfn, NULL), -BERTH_E2BIG);
	params.name = "aligned";
	params.start_pfn = 2000004;
	params.memory = keep(f, params.memory_bytes);
	assert_int_equal(berth_contig_declare(f->contig, &params, &area), 0);
	assert_int_equal(berth_contig_area_alloc(area, &claim, &pfn, NULL), 0);
	assert_int_equal(pfn, 2000004);
	claim.align_order = 4;
	assert_int_equal(berth_contig_area_alloc(area, &claim, &pfn, NULL), 0);
	assert_int_equal(pfn, 2000016);
	claim.align_order = 20;
	assert_int_equal(berth_contig_area_alloc(area, &claim, &pfn, NULL), -BERTH_E2BIG);
	fixture_close(f);
}

/* GCMA areas lie anywhere, too, with their granules; claims and stores find the same one. */
static void a_gcma_area_needs_no_zone(void **state)
{
	struct fixture *f = fixture_open(2, 1);
	struct berth_contig_area_params params = {
		.name = "cache",
		.policy = berth_contig_policy_find("gcma"),
		.start_pfn = 1000000 & ~15ull,
		.nr_pages = 1024,
		.order_per_bit = BERTH_GCMA_GRANULE_ORDER,
		.nr_cpus = 2,
	};
	struct berth_claim_params claim = { .nr_pages = 17 };
	struct berth_claim_info info;
	struct berth_cma_stats stats;
	struct berth_contig_area *area;
	struct berth_gcma *gcma;
	berth_pfn_t pfn, next = 0;

	(void)state;
	params.memory_bytes = berth_contig_area_bytes(&params);
	params.memory = keep(f, params.memory_bytes);
	params.nr_cpus = 0; /* of no zone */
	assert_int_equal(berth_contig_area_bytes(&params), 0);
	params.nr_cpus = 2;
	assert_int_equal(berth_contig_declare(f->contig, &params, &area), 0);
	gcma = berth_contig_area_gcma(area);
	assert_int_equal(berth_gcma_nr_granules(gcma), 64);
	assert_int_equal(berth_contig_map(f->contig, "codec", "cache"), 0);
	assert_int_equal(berth_contig_alloc(f->contig, "codec", BERTH_NODE_ANY, &claim, &pfn, NULL),
			 0);
	assert_int_equal(pfn, params.start_pfn);
	assert_int_equal(berth_gcma_generation(gcma, 0), 1);
	assert_int_equal(berth_gcma_generation(gcma, 1), 1);
	assert_int_equal(berth_gcma_generation(gcma, 2), 0);
	berth_contig_area_stats(area, &stats);
	assert_int_equal(stats.claimed_pages, 32); /* whole granules */
	assert_int_equal(stats.free_pages, 992);
	assert_int_equal(stats.lent_pages, 0);
	assert_true(berth_contig_area_next_claim(area, &next, &info));
	assert_string_equal(info.name, "codec");
	assert_int_equal(info.nr_pages, 17);
	assert_false(berth_contig_area_next_claim(area, &next, &info));
	assert_int_equal(berth_contig_release(f->contig, pfn, 17), 0);
	assert_int_equal(berth_gcma_generation(gcma, 0), 2);
	params.name = "odd";
	params.start_pfn += 1024 + 8; /* no multiple of a granule */
	params.memory = keep(f, params.memory_bytes);
	assert_int_equal(berth_contig_declare(f->contig, &params, &area), -BERTH_EINVAL);
	fixture_close(f);
}

/* Random claims and releases, against an array that says whose each unit is. */
static void a_reservation_is_as_the_model(void **state)
{
	enum { UNITS = 200, CLAIMS = 40 };
	struct fixture *f = fixture_open(1, 1);
	struct berth_contig_area_params params = {
		.name = "r",
		.policy = berth_contig_policy_find("reserve"),
		.start_pfn = 4096,
		.nr_pages = UNITS * 4,
		.order_per_bit = 2,
	};
	struct berth_contig_area *area;
	unsigned char units[UNITS] = { 0 };
	struct {
		berth_pfn_t pfn;
		uint64_t nr_pages;
	} held[CLAIMS] = { { 0, 0 } };
	uint64_t seed = 42;

	(void)state;
	params.memory_bytes = berth_contig_area_bytes(&params);
	params.memory = keep(f, params.memory_bytes);
	assert_int_equal(berth_contig_declare(f->contig, &params, &area), 0);
	for (unsigned step = 0; step < 20000; step++) {
		struct berth_claim_params claim = { .name = step % 3 ? "x" : NULL };
		unsigned i, nr, align, at;
		int error, expected = -BERTH_ENOSPC;
		berth_pfn_t pfn = 0;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		i = (unsigned)(seed >> 33) % CLAIMS;
		if (held[i].nr_pages) {
			assert_int_equal(
				berth_contig_release(f->contig, held[i].pfn, held[i].nr_pages), 0);
			memset(units + (held[i].pfn - 4096) / 4, 0, (held[i].nr_pages + 3) / 4);
			held[i].nr_pages = 0;
			continue;
		}
		claim.nr_pages = 1 + (seed >> 40) % 60;
		claim.align_order = (unsigned)(seed >> 50) % 6;
		nr = (unsigned)(claim.nr_pages + 3) / 4;
		align = claim.align_order > 2 ? 1u << (claim.align_order - 2) : 1;
		for (at = 0; expected && at + nr <= UNITS; at += align) {
			expected = memchr(units + at, 1, nr) ? -BERTH_ENOSPC : 0;
			if (!expected)
				break;
		}
		error = berth_contig_area_alloc(area, &claim, &pfn, NULL);
		assert_int_equal(error, expected);
		if (error)
			continue;
		assert_int_equal(pfn, 4096 + at * 4);
		memset(units + at, 1, nr);
		held[i].pfn = pfn;
		held[i].nr_pages = claim.nr_pages;
		if (step % 64 == 0)
			verify(f);
	}
	fixture_close(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(devices_find_their_areas),
		cmocka_unit_test(without_an_area_a_claim_says_so),
		cmocka_unit_test(a_call_stays_when_the_policy_changes),
		cmocka_unit_test(policies_differ_where_they_should),
		cmocka_unit_test(an_area_lists_its_own_claims),
		cmocka_unit_test(the_check_asks_each_policy),
		cmocka_unit_test(many_and_prepared_claims_stay_too),
		cmocka_unit_test(bad_areas_are_refused),
		cmocka_unit_test(alignment_is_that_of_the_frames),
		cmocka_unit_test(a_gcma_area_needs_no_zone),
		cmocka_unit_test(a_reservation_is_as_the_model),
	};

	return cmocka_run_group_tests_name("framework", tests, NULL, NULL);
}
