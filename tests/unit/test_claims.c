/* SPDX-License-Identifier: MIT */
/*
 * Claims that are held: names, ages, the list of them, and the events of making and releasing them.
 */
#include <berth/claims.h>

#include "tests/include/testowner.h"

#define ZONE_PAGES 8192u
#define AREA 2048u
#define AREA_PAGES 2048u

static struct test_zone *zone_with_area(struct berth_cma **area)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES, .max_claim_names = 3);

	*area = area_declare(tz, "area", AREA, AREA_PAGES, 0, BERTH_LEND_FIRST);
	return tz;
}

static berth_pfn_t claim_as(struct test_zone *tz, struct berth_cma *area, uint64_t nr_pages,
			    const char *name)
{
	struct berth_claim_params params = { .nr_pages = nr_pages, .name = name };
	berth_pfn_t pfn = BERTH_PFN_NONE;

	assert_int_equal(berth_cma_alloc(area, &params, &pfn, NULL), 0);
	zone_ok(tz);
	return pfn;
}

/* The claims of the zone from `from` on, as "name:pages " one after the other. */
static const char *list(struct test_zone *tz, berth_pfn_t from)
{
	static char text[1024];
	struct berth_claim_info claim;
	size_t at = 0;

	text[0] = 0;
	while (berth_claim_next(tz->zone, &from, &claim)) {
		assert_int_equal(from, claim.pfn + claim.nr_pages);
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s:%llu ",
				       claim.area ? claim.area : "", claim.name,
				       (unsigned long long)claim.nr_pages);
	}
	assert_int_equal(from, zone_end(tz));
	return text;
}

static void claims_are_listed_with_their_names(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area);
	struct berth_claim_params params = { .nr_pages = 100, .name = "range" };
	berth_pfn_t a, b, c;

	(void)state;
	assert_string_equal(list(tz, 0), "");
	a = claim_as(tz, area, 1, "/a");
	b = claim_as(tz, area, 1200, "/b");
	c = claim_as(tz, area, 1, NULL);
	assert_true(a < b && b < c);
	assert_string_equal(list(tz, 0), "area/a:1 area/b:1200 area:1 ");
	assert_string_equal(list(tz, a + 1), "area/b:1200 area:1 ");
	assert_string_equal(list(tz, b + 1), "area:1 ");
	assert_string_equal(list(tz, ZONE_PAGES), "");
	assert_int_equal(berth_alloc_contig_range(tz->zone, 5000, 100, &params, NULL), 0);
	assert_string_equal(list(tz, 0), "area/a:1 area/b:1200 area:1 range:100 ");
	area_release(tz, area, a, 1);
	area_release(tz, area, b, 1200);
	assert_string_equal(list(tz, 0), "area:1 range:100 ");
	assert_int_equal(berth_free_contig_range(tz->zone, 5000, 100), 0);
	area_release(tz, area, c, 1);
	assert_string_equal(list(tz, 0), "");
	zone_close(tz);
}

static void a_name_is_kept_once_for_all_its_claims(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area);
	berth_pfn_t pfns[6];

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		pfns[i] = claim_as(tz, area, 16, "x");
	pfns[4] = claim_as(tz, area, 16, "y");
	pfns[5] = claim_as(tz, area, 16, "z");
	/* The table is full: only known names get in, and claims go on without. */
	area_release(tz, area, claim_as(tz, area, 8, "w"), 8);
	claim_as(tz, area, 8, "w");
	claim_as(tz, area, 8, "y");
	assert_non_null(strstr(list(tz, 0), "area:8 areay:8"));
	/* Its last claim takes a name along. */
	area_release(tz, area, pfns[5], 16);
	claim_as(tz, area, 4, "v");
	assert_non_null(strstr(list(tz, 0), "areav:4"));
	for (unsigned i = 0; i < 4; i++) {
		assert_non_null(strstr(list(tz, 0), "areax:16"));
		area_release(tz, area, pfns[i], 16);
	}
	assert_null(strstr(list(tz, 0), "areax"));
	zone_close(tz);
}

static void long_names_are_cut(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area);
	char name[64] = "0123456789012345678901234567890123456789";

	(void)state;
	claim_as(tz, area, 1, name);
	name[31] = 0; /* as long as can be: the same */
	claim_as(tz, area, 2, name);
	name[30] = 0;
	claim_as(tz, area, 3, name);
	memset(name, 'x', sizeof(name) - 1); /* they were copied */
	claim_as(tz, area, 4, "");
	assert_string_equal(list(tz, 0), "area0123456789012345678901234567890:1 "
					 "area0123456789012345678901234567890:2 "
					 "area012345678901234567890123456789:3 area:4 ");
	zone_close(tz);
}

static void claims_have_an_age(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area);
	struct berth_claim_info claim;
	berth_pfn_t pfn = 0;

	(void)state;
	tz->port.tick_ns = 0;
	claim_as(tz, area, 1, "x");
	tz->port.clock_ns += 3600000000000ull;
	assert_true(berth_claim_next(tz->zone, &pfn, &claim));
	assert_in_range(claim.age_ns, 3600000000000ull - 65536, 3600000000000ull + 65536);
	/* What wraps around is taken for what it is. */
	tz->port.clock_ns = UINT64_MAX - 1000000;
	claim_as(tz, area, 1, "x");
	tz->port.clock_ns += 3000000;
	assert_true(berth_claim_next(tz->zone, &pfn, &claim));
	assert_in_range(claim.age_ns, 3000000 - 65536, 3000000 + 65536);
	zone_close(tz);
}

/* ---- Events ---------------------------------------------------------------------------------- */

static struct {
	char text[512];
	size_t at;
} heard;

#define HEAR(...)                                                                           \
	(heard.at += (size_t)snprintf(heard.text + heard.at, sizeof(heard.text) - heard.at, \
				      __VA_ARGS__))

static void hear_start(void *ctx, const char *name, uint64_t count, unsigned align)
{
	assert_ptr_equal(ctx, &heard);
	HEAR("start %s %llu %u;", name, (unsigned long long)count, align);
}

static void hear_retry(void *ctx, const char *name, berth_pfn_t pfn, uint64_t count, unsigned align)
{
	assert_ptr_equal(ctx, &heard);
	HEAR("retry %s %llu %llu %u;", name, (unsigned long long)pfn, (unsigned long long)count,
	     align);
}

static void hear_finish(void *ctx, const char *name, berth_pfn_t pfn, uint64_t count,
			unsigned align, int errorno)
{
	assert_ptr_equal(ctx, &heard);
	HEAR("finish %s %lld %llu %u %d;", name, (long long)pfn, (unsigned long long)count, align,
	     errorno);
}

static void hear_release(void *ctx, const char *name, berth_pfn_t pfn, uint64_t count)
{
	assert_ptr_equal(ctx, &heard);
	HEAR("release %s %llu %llu;", name, (unsigned long long)pfn, (unsigned long long)count);
}

#define assert_heard(text_)                             \
	do {                                            \
		assert_string_equal(heard.text, text_); \
		heard.text[heard.at = 0] = 0;           \
	} while (0)

static const struct berth_claim_events all_events = { &heard, hear_start, hear_retry, hear_finish,
						      hear_release };

static void claims_make_events(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area);
	berth_pfn_t pfn;

	(void)state;
	area_release(tz, area, area_claim(tz, area, 512, 9), 512);
	assert_heard("");
	berth_zone_set_claim_events(tz->zone, &all_events);
	pfn = area_claim(tz, area, 512, 9);
	assert_heard("start area 512 9;finish area 2048 512 9 0;");
	assert_int_equal(berth_cma_release(area, pfn, 511), -BERTH_EINVAL);
	area_release(tz, area, pfn, 512);
	assert_heard("release area 2048 512;");
	assert_int_equal(area_claim_flags(tz, area, AREA_PAGES + 1, 0, 0, &pfn, NULL),
			 -BERTH_E2BIG);
	assert_heard("start area 2049 0;finish area -1 2049 0 -7;");
	berth_zone_set_claim_events(tz->zone, NULL);
	area_claim(tz, area, 1, 0);
	assert_heard("");
	zone_close(tz);
}

static void a_range_that_is_busy_makes_an_event(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area);
	struct test_owner *o = owner_open(tz, "owner");
	static const struct berth_claim_events only_retry = { .ctx = &heard,
							      .alloc_busy_retry = hear_retry };
	berth_pfn_t pfn;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		owner_alloc(o, 9);
	owner_script(o, owner_page_at(o, AREA), 512, TEST_BUSY);
	berth_zone_set_claim_events(tz->zone, &only_retry);
	assert_int_equal(area_claim_flags(tz, area, 512, 9, 0, &pfn, NULL), 0);
	assert_int_equal(pfn, AREA + 512);
	assert_heard("retry area 2048 512 9;");
	owner_script(o, owner_page_at(o, AREA), 512, TEST_MOVES);
	owner_close(o);
	zone_close(tz);
}

/* What is claimed in bulk, or prepared, has its name from the moment when it is a claim. */
static void bulk_and_prepared_claims_are_claims(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area);
	struct berth_claim_params params = { .nr_pages = 16, .align_order = 4, .name = "/n" };
	struct berth_cma_prepared *prepared;
	void *memory = test_zalloc(1, berth_cma_prepared_bytes());
	berth_pfn_t pfns[5], pfn;

	(void)state;
	berth_zone_set_claim_events(tz->zone, &all_events);
	assert_int_equal(berth_cma_alloc_bulk(area, &params, 5, pfns, 0, NULL), 5);
	assert_heard("start area 80 4;finish area 2048 80 4 0;");
	assert_string_equal(list(tz, 0), "area/n:16 area/n:16 area/n:16 area/n:16 area/n:16 ");
	assert_int_equal(berth_cma_release_bulk(area, pfns + 1, 2, 16), 0);
	zone_ok(tz);
	assert_heard("release area 2064 16;release area 2080 16;");
	params.nr_pages = 700;
	assert_int_equal(berth_cma_prepare(area, &params, memory, &prepared), 0);
	assert_heard("start area 700 4;");
	assert_int_equal(berth_cma_prepare_wait(prepared, 0), 0);
	assert_int_equal(berth_cma_prepare_take(prepared, &pfn, NULL), 0);
	assert_non_null(strstr(list(tz, 0), "area/n:700 "));
	zone_ok(tz);
	assert_non_null(strstr(heard.text, "finish area"));
	heard.text[heard.at = 0] = 0;
	params.nr_pages = AREA_PAGES + 1;
	assert_int_equal(berth_cma_prepare(area, &params, memory, &prepared), -BERTH_E2BIG);
	assert_heard("start area 2049 4;finish area -1 2049 4 -7;");
	/* All or none: what was undone is told of as well. */
	params.nr_pages = 512;
	assert_int_equal(berth_cma_alloc_bulk(area, &params, 5, pfns, 0, NULL), -BERTH_ENOSPC);
	assert_non_null(strstr(heard.text, "finish area -1 0 4 -28;"));
	heard.text[heard.at = 0] = 0;
	zone_ok(tz);
	free(memory);
	zone_close(tz);
}

static void events_may_be_left_out(void **state)
{
	static const struct berth_claim_events none = { .ctx = NULL };
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area);
	berth_pfn_t pfn;

	(void)state;
	berth_zone_set_claim_events(tz->zone, &none);
	area_release(tz, area, area_claim(tz, area, 512, 9), 512);
	assert_int_equal(area_claim_flags(tz, area, AREA_PAGES + 1, 0, 0, &pfn, NULL),
			 -BERTH_E2BIG);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(claims_are_listed_with_their_names),
		cmocka_unit_test(a_name_is_kept_once_for_all_its_claims),
		cmocka_unit_test(long_names_are_cut),
		cmocka_unit_test(claims_have_an_age),
		cmocka_unit_test(claims_make_events),
		cmocka_unit_test(a_range_that_is_busy_makes_an_event),
		cmocka_unit_test(bulk_and_prepared_claims_are_claims),
		cmocka_unit_test(events_may_be_left_out),
	};

	return cmocka_run_group_tests_name("claims", tests, NULL, NULL);
}
