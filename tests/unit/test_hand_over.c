/* SPDX-License-Identifier: MIT */
/*
 * Handing memory over to zones, and freeing reserved memory late: the boot logo's journey, partial
 * frames, nodes, refusals, and random layouts against a model with one byte for each KiB.
 */
#include <berth/memblock.h>

#include "tests/include/testzone.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define ANY BERTH_MEMBLOCK_ANY_NODE

struct fixture {
	struct berth_memblock mb;
	struct berth_memblock_region memory[64], reserved[64];
};

static struct fixture *fixture_open(uint32_t max_reserved, const struct berth_memblock_ops *ops)
{
	struct fixture *f = test_zalloc(1, sizeof(*f));
	struct berth_memblock_params params = {
		.memory = f->memory,
		.reserved = f->reserved,
		.max_memory = ARRAY_SIZE(f->memory),
		.max_reserved = max_reserved,
		.ops = ops,
		.ctx = f,
	};

	assert_int_equal(berth_memblock_init(&f->mb, &params), 0);
	return f;
}

static void mb_verify(const struct berth_memblock *mb)
{
	struct berth_violation v = { 0 };

	if (!berth_memblock_check(mb, &v))
		fail_msg("memblock check: %s %#llx: value %#llx, expected %#llx", v.what,
			 (unsigned long long)v.where, (unsigned long long)v.value,
			 (unsigned long long)v.expected);
}

static void add(struct fixture *f, berth_phys_t base, uint64_t bytes, uint32_t node, unsigned flags)
{
	assert_int_equal(berth_memblock_add(&f->mb, base, bytes, node, flags), 0);
	mb_verify(&f->mb);
}

static void reserve(struct fixture *f, berth_phys_t base, uint64_t bytes)
{
	assert_int_equal(berth_memblock_reserve(&f->mb, base, bytes), 0);
	mb_verify(&f->mb);
}

static void hand_over(struct fixture *f, struct test_zone *tz)
{
	assert_int_equal(berth_memblock_hand_over(&f->mb, tz->zone, ANY), 0);
	mb_verify(&f->mb);
	zone_ok(tz);
}

/* The call fails with this error; zone and memblock are as they were. */
#define assert_late_refused(f, tz, error, base, bytes)                                       \
	do {                                                                                 \
		struct fixture before_f = *(f);                                              \
		assert_refused(tz, error,                                                    \
			       berth_memblock_free_late(&(f)->mb, (tz)->zone, base, bytes)); \
		assert_memory_equal(&before_f, f, sizeof(before_f));                         \
	} while (0)

/* spanned, present, managed, free */
static void zone_counts(struct test_zone *tz, uint64_t spanned, uint64_t present, uint64_t managed,
			uint64_t free_pages)
{
	struct berth_zone_stats s = zone_stats(tz);

	assert_int_equal(s.spanned_pages, spanned);
	assert_int_equal(s.present_pages, present);
	assert_int_equal(s.managed_pages, managed);
	assert_int_equal(s.free_pages, free_pages);
}

/* ---- The boot logo ----------------------------------------------------------------------------- */

/*
 * A board with 1 GiB from 0xc0000000. Its firmware shows a logo from 16 MiB at 0xe6c00000, which are
 * reserved. When the display driver takes over they are freed: free memory grows by 4096 pages.
 */
static void the_boot_logo_is_freed_late(void **state)
{
	struct fixture *f = fixture_open(8, NULL);
	struct test_zone *tz = zone_open_empty(.start_pfn = 0xc0000, .nr_pages = 0x40000);
	struct berth_memblock_request request = { .size_bytes = 4 * MIB, .node = ANY };
	berth_phys_t early = 0;
	uint64_t free_before;

	(void)state;
	add(f, 0xc0000000, 1 * GIB, 0, 0);
	reserve(f, 0xc0000000, 32 * MIB); /* the image */
	reserve(f, 0xe6c00000, 0x1000000);
	assert_int_equal(berth_memblock_alloc(&f->mb, &request, &early), 0);
	assert_int_equal(early, 0xffc00000);
	hand_over(f, tz);
	zone_counts(tz, 0x40000, 0x40000, 0x40000 - 8192 - 4096 - 1024, 0x40000 - 13312);
	assert_int_equal(frame_state(tz, 0xe6c00), 'r');
	assert_int_equal(frame_state(tz, 0xe6bff), 'f');

	zone_alloc(tz, 10); /* the zone is in use */
	free_before = zone_free_pages(tz);
	assert_int_equal(berth_memblock_free_late(&f->mb, tz->zone, 0xe6c00000, 0x1000000), 0);
	assert_int_equal(zone_free_pages(tz), free_before + 4096);
	assert_int_equal(zone_stats(tz).managed_pages, 0x40000 - 8192 - 1024);
	assert_int_equal(zone_stats(tz).present_pages, 0x40000);
	assert_int_equal(count_state(tz, 0xe6c00, 0xe7c00, 'f'), 4096);
	assert_false(berth_memblock_overlaps_reserved(&f->mb, 0xe6c00000, 0x1000000));
	mb_verify(&f->mb);
	zone_ok(tz);
	/* Twice is once too often. */
	assert_late_refused(f, tz, -BERTH_EINVAL, 0xe6c00000, 0x1000000);
	zone_close(tz);
	free(f);
}

/* A part, then the other parts: blocks are cut, and whole again in the end. */
static void the_logo_can_be_freed_in_parts(void **state)
{
	struct fixture *f = fixture_open(4, NULL);
	struct test_zone *tz = zone_open_empty(.start_pfn = 0, .nr_pages = 8192);

	(void)state;
	add(f, 0, 32 * MIB, ANY, 0);
	reserve(f, 8 * MIB, 16 * MIB);
	hand_over(f, tz);
	zone_counts(tz, 8192, 8192, 4096, 4096);
	assert_int_equal(berth_memblock_free_late(&f->mb, tz->zone, 10 * MIB + 20 * KIB, 4 * KIB),
			 0);
	zone_ok(tz);
	zone_counts(tz, 8192, 8192, 4097, 4097);
	assert_int_equal(frame_state(tz, 2560 + 4), 'r');
	assert_int_equal(frame_state(tz, 2560 + 5), 'f');
	assert_int_equal(frame_state(tz, 2560 + 6), 'r');
	/* the freed page is in it */
	assert_late_refused(f, tz, -BERTH_EINVAL, 8 * MIB, 16 * MIB);
	assert_late_refused(f, tz, -BERTH_EINVAL, 10 * MIB + 20 * KIB, 8 * KIB);
	assert_int_equal(berth_memblock_free_late(&f->mb, tz->zone, 8 * MIB, 2 * MIB + 20 * KIB),
			 0);
	assert_int_equal(berth_memblock_free_late(&f->mb, tz->zone, 10 * MIB + 24 * KIB,
						  14 * MIB - 24 * KIB),
			 0);
	zone_ok(tz);
	zone_counts(tz, 8192, 8192, 8192, 8192);
	assert_all_merged(tz);
	assert_int_equal(count_free_blocks(tz, 10), 8);
	zone_close(tz);
	free(f);
}

static void late_frees_are_refused(void **state)
{
	struct fixture *f = fixture_open(8, NULL);
	struct test_zone *tz = zone_open_empty(.start_pfn = 256, .nr_pages = 2048);

	(void)state;
	add(f, 0, 6 * MIB, ANY, 0);
	add(f, 8 * MIB, 4 * MIB, ANY, 0);
	add(f, 6 * MIB, 4 * KIB, ANY, BERTH_MEMBLOCK_NOMAP);
	reserve(f, 512 * KIB, 1 * MIB);
	reserve(f, 3 * MIB, 64 * KIB + 100);
	reserve(f, 6 * MIB, 3 * MIB); /* no memory from 6 to 8 MiB, but for one page withheld */
	hand_over(f, tz);
	zone_counts(tz, 2048, 1281 + 256, 1280 - 128 - 17, 1280 - 128 - 17);
	assert_late_refused(f, tz, -BERTH_EINVAL, 2 * MIB, 4 * KIB);           /* free already */
	assert_late_refused(f, tz, -BERTH_EINVAL, 3 * MIB - 4 * KIB, 8 * KIB); /* in part */
	assert_late_refused(f, tz, -BERTH_EINVAL, 3 * MIB, 0);
	assert_late_refused(f, tz, -BERTH_EINVAL, 3 * MIB + 1, 4 * KIB); /* no whole frame */
	assert_late_refused(f, tz, -BERTH_EINVAL, 3 * MIB, UINT64_MAX);
	assert_late_refused(f, tz, -BERTH_EINVAL, UINT64_MAX - 4 * KIB, 8 * KIB);
	assert_late_refused(f, tz, -BERTH_EINVAL, 1 * MIB - 4 * KIB, 8 * KIB); /* below the zone */
	assert_late_refused(f, tz, -BERTH_EINVAL, 512 * KIB, 4 * KIB);         /* likewise */
	assert_late_refused(f, tz, -BERTH_EINVAL, 9 * MIB - 4 * KIB, 8 * KIB);
	assert_late_refused(f, tz, -BERTH_EINVAL, 7 * MIB, 4 * KIB);           /* no memory */
	assert_late_refused(f, tz, -BERTH_EINVAL, 8 * MIB - 4 * KIB, 8 * KIB); /* in part */
	assert_late_refused(f, tz, -BERTH_EINVAL, 6 * MIB, 4 * KIB);           /* withheld */
	/* What is reserved of the last frame isn't all of it: it stays reserved. */
	assert_int_equal(berth_memblock_free_late(&f->mb, tz->zone, 3 * MIB, 64 * KIB + 100), 0);
	zone_ok(tz);
	zone_counts(tz, 2048, 1281 + 256, 1280 - 128 - 1, 1280 - 128 - 1);
	assert_int_equal(frame_state(tz, 768 + 15), 'f');
	assert_int_equal(frame_state(tz, 768 + 16), 'r');
	assert_true(berth_memblock_is_reserved(&f->mb, 3 * MIB + 64 * KIB, 100));
	assert_int_equal(berth_memblock_free_late(&f->mb, tz->zone, 8 * MIB, 1 * MIB), 0);
	zone_close(tz);
	free(f);
}

static void *late_alloc(void *ctx, size_t bytes)
{
	(void)ctx;
	return test_zalloc(1, bytes);
}

static void late_free(void *ctx, void *array, size_t bytes)
{
	(void)ctx;
	(void)bytes;
	free(array);
}

/* Memblock's own memory is the zones' now; only an allocator can make a full array larger. */
static void a_full_array_refuses_or_grows_late(void **state)
{
	static const struct berth_memblock_ops ops = { .alloc = late_alloc, .free = late_free };
	struct fixture *f = fixture_open(1, NULL);
	struct test_zone *tz = zone_open_empty(.start_pfn = 0, .nr_pages = 2048);

	(void)state;
	add(f, 0, 8 * MIB, ANY, 0);
	reserve(f, 4 * MIB, 1 * MIB);
	hand_over(f, tz);
	assert_late_refused(f, tz, -BERTH_ENOMEM, 4 * MIB + 64 * KIB, 4 * KIB);
	f->mb.ops = &ops;
	assert_int_equal(berth_memblock_free_late(&f->mb, tz->zone, 4 * MIB + 64 * KIB, 4 * KIB),
			 0);
	assert_int_equal(f->mb.reserved.nr, 2);
	mb_verify(&f->mb);
	zone_counts(tz, 2048, 2048, 2048 - 255, 2048 - 255);
	berth_memblock_destroy(&f->mb);
	zone_close(tz);
	free(f);
}

/* ---- Handing over ------------------------------------------------------------------------------ */

/*
 *	KiB 0     2     4     8    10    12    16    20
 *	    |  hole   |  A  |  A | r |  A  |  B  |
 *
 * A frame counts where it is wholly there, and is free where nothing of it is reserved.
 */
static void partial_frames_are_left_out(void **state)
{
	struct fixture *f = fixture_open(8, NULL);
	struct test_zone *tz = zone_open_empty(.start_pfn = 0, .nr_pages = 16);

	(void)state;
	add(f, 2 * KIB, 16 * KIB, 0, 0);  /* frames 1 .. 3, and parts of 0 and 4 */
	add(f, 18 * KIB, 10 * KIB, 1, 0); /* frames 5, 6, and the rest of 4 */
	reserve(f, 9 * KIB, 1);
	reserve(f, 21 * KIB, 6 * KIB); /* all of frame 5 but its first KiB, most of 6 */
	hand_over(f, tz);
	assert_int_equal(frame_state(tz, 0), '-');
	assert_int_equal(frame_state(tz, 1), 'f');
	assert_int_equal(frame_state(tz, 2), 'r');
	assert_int_equal(frame_state(tz, 3), 'f');
	assert_int_equal(frame_state(tz, 4), '-'); /* of two nodes: nobody's */
	assert_int_equal(frame_state(tz, 5), 'r');
	assert_int_equal(frame_state(tz, 6), 'r');
	assert_int_equal(frame_state(tz, 7), '-');
	zone_counts(tz, 16, 5, 2, 2);
	zone_close(tz);
	free(f);
}

static void what_is_withheld_is_reserved_in_the_zone(void **state)
{
	struct fixture *f = fixture_open(8, NULL);
	struct test_zone *tz = zone_open_empty(.start_pfn = 0, .nr_pages = 1024);

	(void)state;
	add(f, 0, 1 * MIB, ANY, 0);
	add(f, 1 * MIB, 1 * MIB, ANY, BERTH_MEMBLOCK_NOMAP);
	add(f, 2 * MIB, 1 * MIB, ANY, BERTH_MEMBLOCK_DRIVER);
	add(f, 3 * MIB, 1 * MIB, ANY, BERTH_MEMBLOCK_HOTPLUG | BERTH_MEMBLOCK_MIRROR);
	hand_over(f, tz);
	zone_counts(tz, 1024, 1024, 512, 512);
	assert_int_equal(count_state(tz, 256, 768, 'r'), 512);
	zone_close(tz);
	free(f);
}

/* A range goes to both zones that it lies in. */
static void two_zones_share_a_range(void **state)
{
	struct fixture *f = fixture_open(8, NULL);
	struct test_zone *dma = zone_open_empty(.start_pfn = 0, .nr_pages = 4096);
	struct test_zone *normal = zone_open_empty(.start_pfn = 4096, .nr_pages = 8192);

	(void)state;
	add(f, 1 * MIB, 40 * MIB, ANY, 0);
	reserve(f, 15 * MIB, 2 * MIB);
	hand_over(f, dma);
	hand_over(f, normal);
	zone_counts(dma, 4096, 3840, 3584, 3584);
	zone_counts(normal, 8192, 25 * 256, 24 * 256, 24 * 256);
	/* Each frees its own part. */
	assert_late_refused(f, dma, -BERTH_EINVAL, 15 * MIB, 2 * MIB);
	assert_int_equal(berth_memblock_free_late(&f->mb, dma->zone, 15 * MIB, 1 * MIB), 0);
	assert_late_refused(f, dma, -BERTH_EINVAL, 16 * MIB, 1 * MIB);
	assert_int_equal(berth_memblock_free_late(&f->mb, normal->zone, 16 * MIB, 1 * MIB), 0);
	assert_int_equal(f->mb.reserved.nr, 0);
	zone_close(dma);
	zone_close(normal);
	free(f);
}

/* Nodes may interleave: their zones span the same addresses, and each gets its own. */
static void a_zone_gets_its_nodes_memory(void **state)
{
	struct fixture *f = fixture_open(8, NULL);
	struct test_zone *zones[2];

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		add(f, 8 * i * MIB, 8 * MIB, i % 2, 0);
	reserve(f, 4 * MIB, 8 * MIB);
	for (uint32_t node = 0; node < 2; node++) {
		zones[node] = zone_open_empty(.start_pfn = 0, .nr_pages = 8192);
		assert_int_equal(berth_memblock_hand_over(&f->mb, zones[node]->zone, node), 0);
		zone_ok(zones[node]);
		zone_counts(zones[node], 8192, 4096, 3072, 3072);
	}
	assert_int_equal(frame_state(zones[0], 2047), 'r');
	assert_int_equal(frame_state(zones[0], 2048), '-');
	assert_int_equal(frame_state(zones[1], 2047), '-');
	assert_int_equal(frame_state(zones[1], 2048), 'r');
	zone_close(zones[0]);
	zone_close(zones[1]);
	free(f);
}

static void a_second_hand_over_is_refused(void **state)
{
	struct fixture *f = fixture_open(8, NULL);
	struct test_zone *tz = zone_open_empty(.start_pfn = 0, .nr_pages = 4096);

	(void)state;
	add(f, 0, 16 * MIB, ANY, 0);
	reserve(f, 5 * MIB, 1 * MIB);
	assert_int_equal(berth_zone_add_memory(tz->zone, 4095, 1), 0);
	assert_refused(tz, -BERTH_EINVAL, berth_memblock_hand_over(&f->mb, tz->zone, ANY));
	reserve(f, 1 * MIB, 1); /* nothing has been handed over: still open */
	zone_close(tz);
	tz = zone_open_empty(.start_pfn = 0, .nr_pages = 4096);
	hand_over(f, tz);
	assert_refused(tz, -BERTH_EINVAL, berth_memblock_hand_over(&f->mb, tz->zone, ANY));
	zone_close(tz);
	free(f);
}

/* Memory that the zones own can't be given away a second time. */
static void the_lists_are_closed_after_it(void **state)
{
	struct fixture *f = fixture_open(8, NULL), before;
	struct test_zone *tz = zone_open_empty(.start_pfn = 0, .nr_pages = 256);
	struct berth_memblock_request request = { .size_bytes = 64, .node = ANY };
	berth_phys_t base;

	(void)state;
	add(f, 0, 16 * MIB, ANY, 0);
	reserve(f, 0, 4 * KIB);
	hand_over(f, tz);
	before = *f;
	assert_int_equal(berth_memblock_alloc(&f->mb, &request, &base), -BERTH_EBUSY);
	assert_int_equal(berth_memblock_add(&f->mb, 64 * MIB, 1, ANY, 0), -BERTH_EBUSY);
	assert_int_equal(berth_memblock_remove(&f->mb, 0, 1), -BERTH_EBUSY);
	assert_int_equal(berth_memblock_reserve(&f->mb, 8 * MIB, 1), -BERTH_EBUSY);
	assert_int_equal(berth_memblock_free(&f->mb, 0, 1), -BERTH_EBUSY);
	assert_int_equal(berth_memblock_mark(&f->mb, 0, 1, 1, 0), -BERTH_EBUSY);
	assert_int_equal(berth_memblock_set_node(&f->mb, 0, 1, 1), -BERTH_EBUSY);
	assert_int_equal(berth_memblock_trim(&f->mb, 64 * KIB), -BERTH_EBUSY);
	assert_int_equal(berth_memblock_cap(&f->mb, 0, 1), -BERTH_EBUSY);
	assert_int_equal(berth_memblock_cap(&f->mb, 0, 0), -BERTH_EBUSY);
	assert_int_equal(berth_memblock_enforce_limit(&f->mb, 1), -BERTH_EBUSY);
	assert_memory_equal(&before, f, sizeof(before));
	zone_close(tz);
	free(f);
}

static void *zone_ram;

static void *ram_map(void *ctx, berth_phys_t base, uint64_t bytes)
{
	(void)ctx;
	return base + bytes <= 1 * MIB ? (char *)zone_ram + base : NULL;
}

/* An array that memblock has allocated for itself is in use as long as memblock is. */
static void memblocks_own_array_is_not_freed_late(void **state)
{
	static const struct berth_memblock_ops ops = { .map = ram_map };
	struct fixture *f = fixture_open(2, &ops);
	struct test_zone *tz = zone_open_empty(.start_pfn = 0, .nr_pages = 256);
	berth_phys_t array;

	(void)state;
	zone_ram = test_zalloc(1, 1 * MIB);
	add(f, 0, 1 * MIB, ANY, 0);
	for (unsigned i = 0; i < 3; i++)
		reserve(f, i * 64 * KIB, 4 * KIB);
	hand_over(f, tz);
	array = f->mb.reserved.array_base;
	assert_int_not_equal(array, 0);
	assert_int_equal(frame_state(tz, array / 4096), 'r');
	assert_refused(tz, -BERTH_EBUSY,
		       berth_memblock_free_late(&f->mb, tz->zone, array, 4 * KIB));
	zone_counts(tz, 256, 256, 252, 252);
	zone_close(tz);
	free(f);

	/* Nor can one grow into what the zone has. */
	f = fixture_open(1, &ops);
	tz = zone_open_empty(.start_pfn = 0, .nr_pages = 256);
	add(f, 0, 1 * MIB, ANY, 0);
	reserve(f, 64 * KIB, 64 * KIB);
	hand_over(f, tz);
	assert_late_refused(f, tz, -BERTH_ENOMEM, 80 * KIB, 4 * KIB);
	assert_int_equal(berth_memblock_free_late(&f->mb, tz->zone, 64 * KIB, 4 * KIB), 0);
	zone_close(tz);
	free(zone_ram);
	free(f);
}

/* ---- A zone's reserved frames, without memblock -------------------------------------------------- */

static void reserved_frames_are_present_and_not_managed(void **state)
{
	struct test_zone *tz = zone_open_empty(.start_pfn = 100, .nr_pages = 4000);

	(void)state;
	assert_int_equal(berth_zone_start_pfn(tz->zone), 100);
	assert_int_equal(berth_zone_end_pfn(tz->zone), 4100);
	assert_int_equal(berth_zone_add_reserved(tz->zone, 200, 1000), 0);
	zone_ok(tz);
	zone_counts(tz, 4000, 1000, 0, 0);
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_reserved(tz->zone, 1199, 2));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_reserved(tz->zone, 150, 51));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_memory(tz->zone, 1199, 1));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_reserved(tz->zone, 99, 1));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_reserved(tz->zone, 4100, 1));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_reserved(tz->zone, 2000, 0));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_reserved(tz->zone, 2000, UINT64_MAX));
	assert_int_equal(berth_zone_add_memory(tz->zone, 1200, 2900), 0);
	zone_ok(tz);
	zone_counts(tz, 4000, 3900, 2900, 2900);
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_reserved(tz->zone, 3000, 1));
	/* Nothing else takes them. */
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, 256));
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, 256, 8, BERTH_OWNER_NONE));
	assert_refused(tz, -BERTH_EINVAL, berth_page_pin(tz->zone, 256));
	assert_refused(tz, -BERTH_EINVAL, contig_claim(tz, 1190, 20, 0, NULL));
	assert_int_equal(contig_claim(tz, 1201, 20, 0, NULL), 0); /* in the same pageblock */
	assert_int_equal(zone_exhaust(tz), 2880);
	zone_close(tz);
}

static void only_reserved_frames_can_be_freed(void **state)
{
	struct test_zone *tz = zone_open_empty(.start_pfn = 100, .nr_pages = 4000);

	(void)state;
	assert_int_equal(berth_zone_add_reserved(tz->zone, 200, 1000), 0);
	assert_int_equal(berth_zone_add_memory(tz->zone, 1200, 400), 0);
	assert_refused(tz, -BERTH_EINVAL, berth_zone_free_reserved(tz->zone, 1200, 1));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_free_reserved(tz->zone, 1199, 2));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_free_reserved(tz->zone, 199, 2));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_free_reserved(tz->zone, 200, 0));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_free_reserved(tz->zone, 50, 10));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_free_reserved(tz->zone, 200, UINT64_MAX));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_free_reserved(tz->zone, UINT64_MAX, 1));
	assert_int_equal(berth_zone_free_reserved(tz->zone, 300, 777), 0);
	zone_ok(tz);
	zone_counts(tz, 4000, 1400, 400 + 777, 400 + 777);
	assert_refused(tz, -BERTH_EINVAL, berth_zone_free_reserved(tz->zone, 1000, 100));
	zone_close(tz);
}

/* A pageblock that a claim uses: the freed neighbour doesn't disturb it. */
static void a_late_free_beside_a_claim(void **state)
{
	struct test_zone *tz = zone_open_empty(.start_pfn = 0, .nr_pages = 2048);

	(void)state;
	assert_int_equal(berth_zone_add_reserved(tz->zone, 0, 100), 0);
	assert_int_equal(berth_zone_add_memory(tz->zone, 100, 1948), 0);
	assert_int_equal(contig_claim(tz, 101, 700, 0, NULL), 0);
	assert_int_equal(berth_zone_free_reserved(tz->zone, 10, 90), 0);
	zone_ok(tz);
	zone_counts(tz, 2048, 2048, 2038, 2038 - 700);
	assert_int_equal(berth_free_contig_range(tz->zone, 101, 700), 0);
	assert_int_equal(berth_zone_free_reserved(tz->zone, 0, 10), 0);
	zone_ok(tz);
	assert_int_equal(count_free_blocks(tz, 10), 2);
	zone_close(tz);
}

/* ---- Random layouts ---------------------------------------------------------------------------- */

#define FRAMES 600u
#define PARTS (4 * FRAMES) /* one for each KiB */

struct model {
	uint8_t memory[PARTS]; /* 0, or 1 + flags + 16 * node */
	bool reserved[PARTS];
	bool freed[FRAMES]; /* late */
};

/* What the zone makes of a frame. */
static char model_state(const struct model *m, unsigned frame)
{
	const uint8_t *memory = &m->memory[4 * frame];
	const bool *reserved = &m->reserved[4 * frame];

	if (!memory[0] || memory[1] != memory[0] || memory[2] != memory[0] ||
	    memory[3] != memory[0])
		return '-';
	if (m->freed[frame])
		return 'f';
	return reserved[0] || reserved[1] || reserved[2] || reserved[3] ||
			       ((memory[0] - 1) & (BERTH_MEMBLOCK_NOMAP | BERTH_MEMBLOCK_DRIVER)) ?
		       'r' :
		       'f';
}

static void model_fill(struct fixture *f, struct model *m, uint64_t *seed)
{
	for (unsigned i = 0; i < 30; i++) {
		unsigned start = (unsigned)test_random_below(seed, PARTS),
			 nr = (unsigned)test_random_below(seed, i % 4 ? 60 : 600);
		unsigned flags = test_random_below(seed, 3) ? 0 : test_random_below(seed, 16);
		uint32_t node = (uint32_t)test_random_below(seed, 2);

		if (start + nr > PARTS)
			nr = PARTS - start;
		if (test_random_below(seed, 2)) {
			add(f, start * KIB, nr * KIB, node, flags);
			for (unsigned p = start; p < start + nr; p++)
				if (!m->memory[p])
					m->memory[p] = (uint8_t)(1 + flags + 16 * node);
		} else {
			reserve(f, start * KIB, nr * KIB);
			for (unsigned p = start; p < start + nr; p++)
				m->reserved[p] = true;
		}
	}
}

/* A late free of random bounds, allowed or not. Returns the frames that it freed. */
static unsigned model_free_late(struct fixture *f, struct test_zone *tz, struct model *m,
				uint64_t *seed)
{
	unsigned zone_start = (unsigned)tz->params.start_pfn,
		 zone_stop = zone_start + (unsigned)tz->params.nr_pages;
	unsigned start = (unsigned)test_random_below(seed, PARTS),
		 end = start + (unsigned)test_random_below(seed, 24), from, to;
	struct berth_zone_stats before = zone_stats(tz);
	bool allowed = true;
	int error;

	/* Half of them are a whole run of reserved memory, which is more often right. */
	while (test_random_below(seed, 2) && start > 0 && m->reserved[start - 1])
		start--;
	if (end > PARTS)
		end = PARTS;
	from = (start + 3) / 4;
	to = end / 4;
	for (unsigned p = start; p < end; p++)
		allowed = allowed && m->reserved[p];
	for (unsigned i = from; i < to; i++)
		allowed = allowed && i >= zone_start && i < zone_stop && !m->freed[i] &&
			  model_state(m, i) == 'r' &&
			  !((m->memory[4 * i] - 1) &
			    (BERTH_MEMBLOCK_NOMAP | BERTH_MEMBLOCK_DRIVER));
	allowed = allowed && from < to;
	error = berth_memblock_free_late(&f->mb, tz->zone, start * KIB, (end - start) * KIB);
	assert_int_equal(error, allowed ? 0 : -BERTH_EINVAL);
	mb_verify(&f->mb);
	zone_ok(tz);
	for (unsigned i = from; i < to && allowed; i++) {
		m->freed[i] = true;
		for (unsigned p = 4 * i; p < 4 * i + 4; p++)
			m->reserved[p] = false;
	}
	assert_int_equal(zone_stats(tz).free_pages, before.free_pages + (allowed ? to - from : 0));
	assert_int_equal(zone_stats(tz).managed_pages,
			 before.managed_pages + (allowed ? to - from : 0));
	assert_int_equal(zone_stats(tz).present_pages, before.present_pages);
	return allowed ? to - from : 0;
}

static void model_compare(struct test_zone *tz, const struct model *m)
{
	uint64_t present = 0, managed = 0;

	for (berth_pfn_t pfn = tz->params.start_pfn; pfn < zone_end(tz); pfn++) {
		char expected = model_state(m, (unsigned)pfn);

		assert_int_equal(frame_state(tz, pfn), expected);
		present += expected != '-';
		managed += expected == 'f';
	}
	zone_counts(tz, tz->params.nr_pages, present, managed, managed);
}

static void random_layouts_are_handed_over_exactly(void **state)
{
	uint64_t first = test_env("BERTH_SEED", 1);
	unsigned freed = 0;

	(void)state;
	print_message("# seeds from %llu\n", (unsigned long long)first);
	for (uint64_t s = first; s < first + 150 / TEST_SLOWDOWN; s++) {
		uint64_t seed = s;
		struct fixture *f = fixture_open(64, NULL);
		struct model *m = test_zalloc(1, sizeof(*m));
		struct test_zone *tz =
			zone_open_empty(.start_pfn = 1 + test_random_below(&seed, 40),
					.nr_pages = 400 + test_random_below(&seed, 150),
					.max_order = 6, .pageblock_order = 4);

		model_fill(f, m, &seed);
		hand_over(f, tz);
		model_compare(tz, m);
		for (unsigned i = 0; i < 100; i++)
			freed += model_free_late(f, tz, m, &seed);
		model_compare(tz, m);
		zone_close(tz);
		free(m);
		free(f);
	}
	assert_true(freed > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_boot_logo_is_freed_late),
		cmocka_unit_test(the_logo_can_be_freed_in_parts),
		cmocka_unit_test(late_frees_are_refused),
		cmocka_unit_test(a_full_array_refuses_or_grows_late),
		cmocka_unit_test(partial_frames_are_left_out),
		cmocka_unit_test(what_is_withheld_is_reserved_in_the_zone),
		cmocka_unit_test(two_zones_share_a_range),
		cmocka_unit_test(a_zone_gets_its_nodes_memory),
		cmocka_unit_test(a_second_hand_over_is_refused),
		cmocka_unit_test(the_lists_are_closed_after_it),
		cmocka_unit_test(memblocks_own_array_is_not_freed_late),
		cmocka_unit_test(reserved_frames_are_present_and_not_managed),
		cmocka_unit_test(only_reserved_frames_can_be_freed),
		cmocka_unit_test(a_late_free_beside_a_claim),
		cmocka_unit_test(random_layouts_are_handed_over_exactly),
	};

	return cmocka_run_group_tests_name("hand_over", tests, NULL, NULL);
}
