/* SPDX-License-Identifier: MIT */
/*
 * Zones of 1 TiB, 2^28 frames: both ends serve allocations, claims and frees, and the metadata is
 * touched where it is used, not frame by frame.
 *
 * Two shapes: all of it managed, in pageblocks of 64 MiB, and memory at the two ends of the zone,
 * with a hole between, in pageblocks of 2 MiB.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "tests/include/testing.h"

#define ZONE_PAGES (1ull << 28)
#define ZONE_START (1ull << 40) /* pfns of more than 32 bits */
#define ZONE_END (ZONE_START + ZONE_PAGES)
#define AREA_PAGES 16384u /* 64 MiB, at each end */
#define NR_AREAS 2u
#define NR_PAGES (NR_AREAS * AREA_PAGES) /* of the owner: as many as the areas hold */
#define COOKIE 0x8000000000000000ull     /* of page 0 */

struct world {
	struct test_port port;
	struct berth_zone *zone;
	void *metadata;
	size_t metadata_bytes;
	struct berth_cma *areas[NR_AREAS];
	uint64_t bitmaps[NR_AREAS][AREA_PAGES / 64];
	unsigned owner;
	berth_pfn_t table[NR_PAGES];
	uint64_t nr_moved;
};

static struct world the_world;
static const berth_pfn_t area_starts[NR_AREAS] = { ZONE_START, ZONE_END - AREA_PAGES };

static void migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < nr_moves; i++) {
		for (uint64_t k = 0; k < 1ull << moves[i].order; k++) {
			uint64_t page = moves[i].cookie - COOKIE + k;

			assert_true(page < NR_PAGES);
			assert_int_equal(w->table[page], moves[i].src + k);
			w->table[page] = moves[i].dst + k;
		}
		assert_true(berth_page_freeze(w->zone, moves[i].src));
		moves[i].result = BERTH_MOVE_MOVED;
		w->nr_moved += 1ull << moves[i].order;
	}
}

/* Bytes of the metadata that have memory behind them; page by page, a part at a time. */
static uint64_t touched_bytes(const struct world *w)
{
	static unsigned char there[1u << 16];
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), touched = 0;
	size_t part = sizeof(there) * page;

	for (size_t at = 0; at < w->metadata_bytes; at += part) {
		size_t bytes = w->metadata_bytes - at < part ? w->metadata_bytes - at : part;

		if (mincore((char *)w->metadata + at, bytes, there) != 0)
			return 0;
		for (size_t i = 0; i < (bytes + page - 1) / page; i++)
			touched += (there[i] & 1) * page;
	}
	return touched;
}

static void open_world(struct world *w, unsigned pageblock_order)
{
	static const struct berth_owner_ops ops = { .name = "owner", .migrate = migrate };
	struct berth_zone_params params = {
		.name = "large",
		.start_pfn = ZONE_START,
		.nr_pages = ZONE_PAGES,
		.pageblock_order = pageblock_order,
		.max_order = pageblock_order > 10 ? pageblock_order : 10,
		.nr_cpus = 2,
		.max_areas = NR_AREAS,
		.metadata_is_zeroed = true,
		.port = &test_port_ops,
	};

	*w = (struct world){ .nr_moved = 0 };
	params.port_ctx = &w->port;
	w->metadata_bytes = berth_zone_metadata_size(&params);
	assert_true(w->metadata_bytes > 0);
	assert_true(w->metadata_bytes <= 32 * ZONE_PAGES);
	w->metadata = mmap(NULL, w->metadata_bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (w->metadata == MAP_FAILED) {
		print_message("no address space for %zu bytes of metadata\n", w->metadata_bytes);
		skip();
		return;
	}
	/* Huge pages would bring memory that nobody touched. */
	(void)madvise(w->metadata, w->metadata_bytes, MADV_NOHUGEPAGE);
	test_set_cpu(0);
	assert_int_equal(berth_zone_init(&w->zone, &params, w->metadata, w->metadata_bytes), 0);
	assert_int_equal(berth_zone_start_pfn(w->zone), ZONE_START);
	assert_int_equal(berth_zone_end_pfn(w->zone), ZONE_END);
	assert_int_equal(berth_owner_register(w->zone, &ops, w, &w->owner), 0);
}

static void declare_areas(struct world *w)
{
	static const char *const names[NR_AREAS] = { "low", "high" };

	for (unsigned i = 0; i < NR_AREAS; i++) {
		struct berth_cma_params params = { .name = names[i],
						   .start_pfn = area_starts[i],
						   .nr_pages = AREA_PAGES,
						   .lend = BERTH_LEND_FIRST,
						   .bitmap = w->bitmaps[i] };

		assert_int_equal(berth_cma_declare(w->zone, &params, &w->areas[i]), 0);
	}
}

static bool in_area(berth_pfn_t pfn, unsigned area)
{
	return pfn - area_starts[area] < AREA_PAGES;
}

/* Each page is where the table says, and `nr` of them are in the area. */
static void assert_pages(struct world *w, unsigned area, uint64_t nr)
{
	uint64_t found = 0;

	for (uint64_t page = 0; page < NR_PAGES; page++) {
		uint64_t cookie = 0;
		unsigned owner = 0;

		assert_true(berth_frame_owner(w->zone, w->table[page], &owner, &cookie));
		assert_int_equal(owner, w->owner);
		assert_int_equal(cookie, COOKIE + page);
		found += in_area(w->table[page], area);
	}
	assert_int_equal(found, nr);
}

static void assert_counts(struct world *w, uint64_t managed, uint64_t used, uint64_t claimed)
{
	struct berth_zone_stats stats;

	berth_zone_stats(w->zone, &stats);
	assert_int_equal(stats.spanned_pages, ZONE_PAGES);
	assert_int_equal(stats.managed_pages, managed);
	assert_int_equal(stats.used_pages, used);
	assert_int_equal(stats.claimed_pages, claimed);
	assert_int_equal(stats.free_pages + stats.pcp_pages, managed - used - claimed);
}

/* All of an area that is full of movable pages is claimed, and released. */
static void claim_area(struct world *w, unsigned area, uint64_t managed)
{
	struct berth_claim_params params = { .nr_pages = AREA_PAGES };
	berth_pfn_t pfn = BERTH_PFN_NONE, head;
	uint64_t moved = w->nr_moved;
	unsigned order;

	assert_pages(w, area, AREA_PAGES);
	assert_int_equal(berth_cma_alloc(w->areas[area], &params, &pfn, NULL), 0);
	assert_int_equal(pfn, area_starts[area]);
	assert_int_equal(w->nr_moved - moved, AREA_PAGES);
	assert_int_equal(berth_frame_state(w->zone, pfn, &head, &order), 'c');
	assert_int_equal(berth_frame_state(w->zone, pfn + AREA_PAGES - 1, &head, &order), 'c');
	assert_pages(w, area, 0);
	assert_counts(w, managed, NR_PAGES, AREA_PAGES);
	assert_int_equal(berth_cma_release(w->areas[area], pfn, AREA_PAGES), 0);
	assert_counts(w, managed, NR_PAGES, 0);
	assert_int_equal(berth_frame_state(w->zone, pfn + AREA_PAGES - 1, &head, &order), 'f');
}

/* The frames at the very ends are claimed without an area, and no frame beyond. */
static void claim_ends(struct world *w)
{
	struct berth_claim_params params = { .nr_pages = 1 };

	for (unsigned end = 0; end < 2; end++) {
		berth_pfn_t pfn = end ? ZONE_END - 1 : ZONE_START;

		assert_int_equal(berth_alloc_contig_range(w->zone, pfn, 1, &params, NULL), 0);
		assert_int_equal(berth_free_contig_range(w->zone, pfn, 1), 0);
	}
	params.nr_pages = 2;
	assert_int_equal(berth_alloc_contig_range(w->zone, ZONE_START - 1, 2, &params, NULL),
			 -BERTH_EINVAL);
	assert_int_equal(berth_alloc_contig_range(w->zone, ZONE_END - 1, 2, &params, NULL),
			 -BERTH_EINVAL);
}

/* Pages fill both areas; the high one is claimed, then the low one; all is freed. */
static void both_ends_serve(struct world *w, uint64_t managed)
{
	declare_areas(w);
	claim_ends(w);
	for (uint64_t page = 0; page < NR_PAGES; page++)
		assert_int_equal(berth_alloc_pages(w->zone, 0, BERTH_GFP_MOVABLE, w->owner,
						   COOKIE + page, &w->table[page]),
				 0);
	assert_counts(w, managed, NR_PAGES, 0);
	claim_area(w, 1, managed);
	claim_area(w, 0, managed);
	for (uint64_t page = 0; page < NR_PAGES; page++)
		assert_int_equal(berth_free_pages(w->zone, w->table[page]), 0);
	berth_pcp_drain_all(w->zone);
	assert_counts(w, managed, 0, 0);
}

static void close_world(struct world *w)
{
	munmap(w->metadata, w->metadata_bytes);
}

static void all_of_it_is_managed(void **state)
{
	struct world *w = &the_world;

	(void)state;
	open_world(w, 14);
	assert_int_equal(berth_zone_add_memory(w->zone, ZONE_START, ZONE_PAGES), 0);
	assert_counts(w, ZONE_PAGES, 0, 0);
	/* 2^14 pageblocks; a byte a frame would be 256 MiB. */
	assert_in_range(touched_bytes(w), 1, ZONE_PAGES / 2);
	both_ends_serve(w, ZONE_PAGES);
	close_world(w);
}

static void memory_at_both_ends(void **state)
{
	const uint64_t nr_pages = 4 * AREA_PAGES;
	struct world *w = &the_world;
	berth_pfn_t pfn;

	(void)state;
	open_world(w, 9);
	assert_int_equal(berth_zone_add_memory(w->zone, ZONE_START, nr_pages), 0);
	assert_int_equal(berth_zone_add_memory(w->zone, ZONE_END - nr_pages, nr_pages), 0);
	assert_int_equal(berth_zone_add_memory(w->zone, ZONE_END - 1, 1), -BERTH_EINVAL);
	/* 2^19 pageblocks. */
	assert_in_range(touched_bytes(w), 1, ZONE_PAGES / 4);
	both_ends_serve(w, 2 * nr_pages);
	/* Nobody gets a frame of the hole. */
	while (berth_alloc_pages(w->zone, 9, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, 0, &pfn) == 0)
		assert_true(pfn < ZONE_START + nr_pages || pfn >= ZONE_END - nr_pages);
	assert_counts(w, 2 * nr_pages, 2 * (nr_pages - AREA_PAGES), 0);
	close_world(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_of_it_is_managed),
		cmocka_unit_test(memory_at_both_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
