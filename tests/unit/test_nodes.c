/* SPDX-License-Identifier: MIT */
/*
 * Nodes: the order in which zones are tried, which zone serves what, tuning.
 */
#include "tests/include/testnodes.h"

/* ---- Setting up ----------------------------------------------------------------------------------- */

static void bad_parameters_are_refused(void **state)
{
	struct berth_nodes_params p = { .nr_nodes = 1 };
	struct berth_tunables t = BERTH_TUNABLES_DEFAULT;
	struct berth_nodes *nodes = (void *)0x1234;
	size_t bytes = berth_nodes_metadata_size(&p);
	char *memory = NULL;

	(void)state;
	assert_int_equal(posix_memalign((void **)&memory, 64, bytes + 64), 0);
	assert_int_equal(berth_nodes_metadata_size(NULL), 0);
	assert_int_equal(berth_nodes_init(&nodes, NULL, memory, bytes), -BERTH_EINVAL);
	assert_int_equal(berth_nodes_init(NULL, &p, memory, bytes), -BERTH_EINVAL);
	assert_int_equal(berth_nodes_init(&nodes, &p, NULL, bytes), -BERTH_EINVAL);
	assert_int_equal(berth_nodes_init(&nodes, &p, memory + 8, bytes), -BERTH_EINVAL);
	assert_int_equal(berth_nodes_init(&nodes, &p, memory, bytes - 1), -BERTH_EINVAL);
	p.tunables = &t;
	t.watermark_scale_factor = 0;
	assert_int_equal(berth_nodes_init(&nodes, &p, memory, bytes), -BERTH_EINVAL);
	t.watermark_scale_factor = BERTH_MAX_SCALE_FACTOR + 1;
	assert_int_equal(berth_nodes_init(&nodes, &p, memory, bytes), -BERTH_EINVAL);
	p.tunables = NULL;
	p.nr_nodes = 0;
	assert_int_equal(berth_nodes_metadata_size(&p), 0);
	assert_int_equal(berth_nodes_init(&nodes, &p, memory, bytes), -BERTH_EINVAL);
	p.nr_nodes = BERTH_MAX_NODES + 1;
	assert_int_equal(berth_nodes_metadata_size(&p), 0);
	assert_ptr_equal(nodes, (void *)0x1234);
	free(memory);
}

static void zones_are_added_once_and_apart(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 2);
	struct test_zone *a = zone_open(.start_pfn = 4096, .nr_pages = 4096),
			 *over = zone_open(.start_pfn = 8191, .nr_pages = 1024),
			 *next = zone_open(.start_pfn = 8192, .nr_pages = 1024);

	(void)state;
	assert_int_equal(berth_nodes_add_zone(m->nodes, 2, NORMAL, a->zone), -BERTH_EINVAL);
	assert_int_equal(berth_nodes_add_zone(m->nodes, 0, BERTH_NR_ZONE_KINDS, a->zone),
			 -BERTH_EINVAL);
	assert_int_equal(berth_nodes_add_zone(m->nodes, 0, NORMAL, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_nodes_add_zone(m->nodes, 0, NORMAL, a->zone), 0);
	assert_int_equal(berth_nodes_add_zone(m->nodes, 0, NORMAL, next->zone), -BERTH_EEXIST);
	assert_int_equal(berth_nodes_add_zone(m->nodes, 1, NORMAL, a->zone), -BERTH_EEXIST);
	assert_int_equal(berth_nodes_add_zone(m->nodes, 1, NORMAL, over->zone), -BERTH_EEXIST);
	assert_int_equal(berth_nodes_add_zone(m->nodes, 1, NORMAL, next->zone), 0);
	assert_ptr_equal(berth_nodes_zone(m->nodes, 0, NORMAL), a->zone);
	assert_ptr_equal(berth_nodes_zone(m->nodes, 1, NORMAL), next->zone);
	assert_null(berth_nodes_zone(m->nodes, 1, DMA));
	assert_null(berth_nodes_zone(m->nodes, 2, NORMAL));
	assert_null(berth_nodes_zone(m->nodes, 0, BERTH_NR_ZONE_KINDS));
	machine_close(m);
	zone_close(a);
	zone_close(over);
	zone_close(next);
}

static void a_zone_is_found_by_any_of_its_frames(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 2);
	struct test_zone *high = add_zone(m, 1, NORMAL, 65536, 4096);
	struct test_zone *low = add_zone(m, 0, DMA, 1024, 1024);
	struct test_zone *middle = add_zone(m, 0, NORMAL, 2048, 4096);

	(void)state;
	assert_null(berth_nodes_zone_of(m->nodes, 0));
	assert_null(berth_nodes_zone_of(m->nodes, 1023));
	assert_ptr_equal(berth_nodes_zone_of(m->nodes, 1024), low->zone);
	assert_ptr_equal(berth_nodes_zone_of(m->nodes, 2047), low->zone);
	assert_ptr_equal(berth_nodes_zone_of(m->nodes, 2048), middle->zone);
	assert_ptr_equal(berth_nodes_zone_of(m->nodes, 6143), middle->zone);
	assert_null(berth_nodes_zone_of(m->nodes, 6144));
	assert_null(berth_nodes_zone_of(m->nodes, 65535));
	assert_ptr_equal(berth_nodes_zone_of(m->nodes, 65536), high->zone);
	assert_ptr_equal(berth_nodes_zone_of(m->nodes, 69631), high->zone);
	assert_null(berth_nodes_zone_of(m->nodes, 69632));
	assert_null(berth_nodes_zone_of(m->nodes, BERTH_PFN_NONE));
	assert_int_equal(berth_node_free(m->nodes, 7000), -BERTH_EINVAL);
	assert_int_equal(berth_node_free(m->nodes, 1024), -BERTH_EINVAL);
	machine_close(m);
}

static void assert_list(struct machine *m, unsigned node, enum berth_zone_kind highest,
			struct test_zone *const *expected, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		assert_ptr_equal(berth_nodes_fallback(m->nodes, node, highest, i),
				 expected[i]->zone);
	assert_null(berth_nodes_fallback(m->nodes, node, highest, n));
}

/* Nodes 0 and 1 are close, 2 is far from both; DMA on node 0 only. */
static void zones_are_tried_by_distance_then_kind(void **state)
{
	static const uint8_t distances[] = { 10, 20, 40, /**/ 20, 10, 40, /**/ 30, 40, 10 };
	struct machine *m = machine_open(.nr_nodes = 3, .distances = distances);
	struct test_zone *dma = add_zone(m, 0, DMA, 0, 1024);
	struct test_zone *n0 = add_zone(m, 0, NORMAL, 1024, 1024);
	struct test_zone *n1 = add_zone(m, 1, NORMAL, 2048, 1024);
	struct test_zone *m1 = add_zone(m, 1, MOVABLE, 3072, 1024);
	struct test_zone *n2 = add_zone(m, 2, NORMAL, 4096, 1024);

	(void)state;
	assert_list(m, 0, MOVABLE, (struct test_zone *[]){ n0, dma, m1, n1, n2 }, 5);
	assert_list(m, 0, NORMAL, (struct test_zone *[]){ n0, dma, n1, n2 }, 4);
	assert_list(m, 0, DMA, (struct test_zone *[]){ dma }, 1);
	assert_list(m, 1, MOVABLE, (struct test_zone *[]){ m1, n1, n0, dma, n2 }, 5);
	assert_list(m, 2, NORMAL, (struct test_zone *[]){ n2, n0, dma, n1 }, 4);
	assert_null(berth_nodes_fallback(m->nodes, 3, NORMAL, 0));
	machine_close(m);
}

/* Of equally far nodes the next one after itself comes first: not everybody falls back to node 0. */
static void equal_nodes_fall_back_in_a_circle(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 3);
	struct test_zone *z[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		z[i] = add_zone(m, i, NORMAL, i * 1024, 1024);
	for (unsigned i = 0; i < 3; i++)
		assert_list(m, i, NORMAL,
			    (struct test_zone *[]){ z[i], z[(i + 1) % 3], z[(i + 2) % 3] }, 3);
	machine_close(m);
}

static void owners_have_one_number_in_all_zones(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1), *empty = machine_open(.nr_nodes = 1);
	struct test_zone *late;
	unsigned id = 0, count = 0;

	(void)state;
	add_zone(m, 0, DMA, 0, 1024);
	add_zone(m, 0, NORMAL, 1024, 1024);
	late = zone_open(.start_pfn = 4096, .nr_pages = 1024);
	assert_int_equal(berth_nodes_owner_register(empty->nodes, &owner_ops, m, &id),
			 -BERTH_EINVAL);
	assert_int_equal(berth_nodes_owner_register(m->nodes, NULL, NULL, &id), -BERTH_EINVAL);
	assert_int_equal(berth_nodes_owner_register(m->nodes, &owner_ops, m, &id), 0);
	assert_int_equal(id, 1);
	/* A zone that came now wouldn't know them. */
	assert_int_equal(berth_nodes_add_zone(m->nodes, 0, MOVABLE, late->zone), -BERTH_EINVAL);
	while (!berth_nodes_owner_register(m->nodes, &owner_ops, m, &id))
		count++;
	assert_int_equal(count, 7); /* eight by default */
	assert_int_equal(berth_nodes_owner_register(m->nodes, &owner_ops, m, &id), -BERTH_ENOSPC);
	zone_close(late);
	machine_close(empty);
	machine_close(m);
}

static void an_owner_of_one_zone_alone_is_found_out(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *dma = add_zone(m, 0, DMA, 0, 1024);
	unsigned id = 0;

	(void)state;
	add_zone(m, 0, NORMAL, 1024, 1024);
	assert_int_equal(berth_owner_register(dma->zone, &owner_ops, m, &id), 0);
	assert_int_equal(berth_nodes_owner_register(m->nodes, &owner_ops, m, &id), -BERTH_EINVAL);
	machine_close(m);
}

/* ---- Which zone ------------------------------------------------------------------------------------ */

/* One node with a zone of each kind: 1024, 2048, 8192, 4096 and 4096 pages. */
static struct machine *five_kinds(unsigned *owner)
{
	struct machine *m = machine_open(.nr_nodes = 1);

	add_zone(m, 0, DMA, 0, 1024);
	add_zone(m, 0, DMA32, 1024, 2048);
	add_zone(m, 0, NORMAL, 4096, 8192);
	add_zone(m, 0, HIGHMEM, 12288, 4096);
	add_zone(m, 0, MOVABLE, 16384, 4096);
	assert_int_equal(berth_nodes_owner_register(m->nodes, &owner_ops, m, owner), 0);
	return m;
}

static void each_request_starts_at_its_kind(void **state)
{
	unsigned owner;
	struct machine *m = five_kinds(&owner);

	(void)state;
	assert_ptr_equal(take(m, 0, 0, 0, 0), m->zones[NORMAL]->zone);
	assert_ptr_equal(take(m, 0, 0, BERTH_GFP_RECLAIMABLE, 0), m->zones[NORMAL]->zone);
	assert_ptr_equal(take(m, 0, 0, BERTH_GFP_MOVABLE, owner), m->zones[MOVABLE]->zone);
	/* What will be pinned doesn't go where all must stay movable. */
	assert_ptr_equal(take(m, 0, 0, BERTH_GFP_MOVABLE | BERTH_GFP_NO_CMA, owner),
			 m->zones[HIGHMEM]->zone);
	assert_ptr_equal(take(m, 0, 3, BERTH_GFP_DMA, 0), m->zones[DMA]->zone);
	assert_ptr_equal(take(m, 0, 3, BERTH_GFP_DMA32, 0), m->zones[DMA32]->zone);
	assert_ptr_equal(take(m, 0, 3, BERTH_GFP_DMA32 | BERTH_GFP_MOVABLE, owner),
			 m->zones[DMA32]->zone);
	machine_close(m);
}

static void bad_requests_are_refused(void **state)
{
	static const unsigned bad[] = {
		1u << 16,
		BERTH_GFP_COMPACT | BERTH_GFP_NO_RECLAIM,
		1u << 30, /* the core's own */
		1u << 31,
		BERTH_GFP_MOVABLE | BERTH_GFP_RECLAIMABLE,
		BERTH_GFP_ATOMIC | BERTH_GFP_NOFAIL,
		BERTH_GFP_NO_RECLAIM | BERTH_GFP_MAYFAIL,
		BERTH_GFP_DMA | BERTH_GFP_DMA32,
		BERTH_GFP_ZERO, /* the port can't */
	};
	unsigned owner;
	struct machine *m = five_kinds(&owner);
	berth_pfn_t pfn = 0x5ca1ab1e;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		for (unsigned order = 0; order < 2; order++)
			assert_int_equal(berth_node_alloc(m->nodes, 0, order, bad[i], owner, 0,
							  &pfn),
					 -BERTH_EINVAL);
	for (unsigned order = 0; order < 2; order++) {
		assert_int_equal(berth_node_alloc(m->nodes, 1, order, 0, 0, 0, &pfn),
				 -BERTH_EINVAL);
		assert_int_equal(berth_node_alloc(m->nodes, 0, order, 0, owner + 1, 0, &pfn),
				 -BERTH_EINVAL);
		assert_int_equal(berth_node_alloc(m->nodes, 0, order, BERTH_GFP_MOVABLE, 0, 0,
						  &pfn),
				 -BERTH_EINVAL);
		assert_int_equal(berth_node_alloc(m->nodes, 0, order, 0, 0, 0, NULL),
				 -BERTH_EINVAL);
	}
	assert_int_equal(berth_node_alloc(m->nodes, 0, BERTH_MAX_ORDER_LIMIT + 1, 0, 0, 0, &pfn),
			 -BERTH_EINVAL);
	assert_int_equal(berth_node_alloc(m->nodes, 0, 11, 0, 0, 0, &pfn), -BERTH_ENOMEM);
	assert_int_equal(pfn, 0x5ca1ab1e);
	machine_close(m);
}

static void without_a_zone_there_is_no_memory(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);

	(void)state;
	assert_null(take(m, 0, 0, 0, 0));
	assert_null(take(m, 0, 0, BERTH_GFP_NOFAIL, 0));
	add_zone(m, 0, MOVABLE, 0, 1024);
	assert_null(take(m, 0, 0, 0, 0)); /* only movable memory */
	assert_int_equal(m->wakes, 0);
	machine_close(m);
}

static void another_node_serves_unless_this_one_is_asked_for(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 2);
	struct test_zone *near = add_zone(m, 0, NORMAL, 0, 1024);
	struct test_zone *far = add_zone(m, 1, NORMAL, 1024, 4096);

	(void)state;
	assert_ptr_equal(take(m, 0, 0, BERTH_GFP_THISNODE, 0), near->zone);
	hoard(m, near, 0);
	assert_ptr_equal(take(m, 0, 0, 0, 0), far->zone);
	assert_int_equal(m->wakes, 0); /* nobody reclaims while another node has enough */
	assert_null(take(m, 0, 0, BERTH_GFP_THISNODE, 0));
	assert_int_equal(m->ooms, 0);
	machine_close(m);
}

/* The DMA zone serves others only as far as its reserve against them. */
static void lower_zones_keep_a_reserve(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *dma = add_zone(m, 0, DMA, 0, 4096);
	struct test_zone *normal = add_zone(m, 0, NORMAL, 4096, 4096);
	uint64_t reserve = 4096 / 256, low;

	(void)state;
	hoard(m, normal, 0);
	low = marks_of(dma).mark[BERTH_MARK_LOW];
	for (uint64_t free = 4096; free > low + reserve; free--)
		assert_ptr_equal(take(m, 0, 0, 0, 0), dma->zone);
	assert_int_equal(m->wakes, 0);
	/* The next one finds no zone above low. */
	assert_ptr_equal(take(m, 0, 0, 0, 0), dma->zone);
	assert_int_equal(m->wakes, 2);
	while (take(m, 0, 0, BERTH_GFP_NO_RECLAIM, 0))
		;
	assert_int_equal(zone_free_pages(dma), marks_of(dma).mark[BERTH_MARK_MIN] + reserve);
	/* A request for DMA itself goes on down to min. */
	while (take(m, 0, 0, BERTH_GFP_NO_RECLAIM | BERTH_GFP_DMA, 0))
		;
	assert_int_equal(zone_free_pages(dma), marks_of(dma).mark[BERTH_MARK_MIN]);
	machine_close(m);
}

/* ---- Marks ------------------------------------------------------------------------------------------ */

/* The example of the watermark tests, in a machine: 326626 pages of NORMAL and 13668 above. */
static void the_published_example_by_tuning_a_machine(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *normal = add_zone(m, 0, NORMAL, 0, 326626);
	struct test_zone *high = add_zone(m, 0, HIGHMEM, 1u << 20, 13668);
	struct berth_tunables t;
	struct berth_watermarks w;

	(void)state;
	berth_nodes_tunables(m->nodes, &t);
	assert_int_equal(t.min_free_kbytes, 4572);
	assert_int_equal(t.watermark_scale_factor, 10);
	t.min_free_kbytes = 4556;
	t.extra_free_kbytes = 24300;
	assert_int_equal(berth_nodes_tune(m->nodes, &t), 0);
	w = marks_of(normal);
	assert_int_equal(w.mark[BERTH_MARK_MIN], 1139);
	assert_int_equal(w.mark[BERTH_MARK_LOW], 7295);
	assert_int_equal(w.mark[BERTH_MARK_HIGH], 7621);
	assert_int_equal(marks_of(high).mark[BERTH_MARK_MIN], 32);
	t.extra_free_kbytes = 0;
	assert_int_equal(berth_nodes_tune(m->nodes, &t), 0);
	assert_int_equal(marks_of(normal).mark[BERTH_MARK_LOW], 1139 + 326);
	machine_close(m);
}

static void tuning_takes_effect_at_once(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *normal = add_zone(m, 0, NORMAL, 0, 4096);
	struct berth_tunables t, before;

	(void)state;
	hoard(m, normal, 1000);
	assert_non_null(take(m, 0, 0, BERTH_GFP_NO_RECLAIM, 0));
	tune_min(m, 4 * 999);
	assert_null(take(m, 0, 0, BERTH_GFP_NO_RECLAIM, 0));
	tune_min(m, 4 * 998);
	assert_non_null(take(m, 0, 0, BERTH_GFP_NO_RECLAIM, 0));
	assert_null(take(m, 0, 0, BERTH_GFP_NO_RECLAIM, 0));
	/* What is wrong changes nothing. */
	berth_nodes_tunables(m->nodes, &before);
	for (unsigned i = 0; i < 4; i++) {
		t = before;
		t.watermark_scale_factor = i == 0 ? 0 : i == 1 ? 3001 : 10;
		t.min_free_kbytes = i == 2 ? (1ull << 40) + 1 : 0;
		t.extra_free_kbytes = i == 3 ? UINT64_MAX : 0;
		assert_int_equal(berth_nodes_tune(m->nodes, &t), -BERTH_EINVAL);
	}
	assert_int_equal(berth_nodes_tune(m->nodes, NULL), -BERTH_EINVAL);
	berth_nodes_tunables(m->nodes, &t);
	assert_memory_equal(&t, &before, sizeof(t));
	machine_close(m);
}

/* What the user has set stays, unless the memory has grown so much that more is computed. */
static void memory_that_is_added_raises_the_marks(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *tz = zone_open_empty(.nr_pages = 65536);
	struct berth_tunables t;

	(void)state;
	m->zones[m->nr_zones++] = tz;
	assert_int_equal(berth_zone_add_memory(tz->zone, 0, 16384), 0);
	assert_int_equal(berth_nodes_add_zone(m->nodes, 0, NORMAL, tz->zone), 0);
	berth_nodes_tunables(m->nodes, &t);
	assert_int_equal(t.min_free_kbytes, 1024); /* 64 MiB */
	tune_min(m, 1200);
	assert_int_equal(marks_of(tz).mark[BERTH_MARK_MIN], 300);
	tune_min(m, 200);
	assert_int_equal(marks_of(tz).mark[BERTH_MARK_MIN], 50); /* a small value, if so wanted */
	tune_min(m, 1200);
	assert_int_equal(berth_zone_add_memory(tz->zone, 16384, 1024), 0);
	berth_nodes_resize(m->nodes);
	berth_nodes_tunables(m->nodes, &t);
	assert_int_equal(t.min_free_kbytes, 1200);
	assert_int_equal(berth_zone_add_memory(tz->zone, 17408, 65536 - 17408), 0);
	berth_nodes_resize(m->nodes);
	berth_nodes_tunables(m->nodes, &t);
	assert_int_equal(t.min_free_kbytes, 2048); /* 256 MiB */
	assert_int_equal(marks_of(tz).mark[BERTH_MARK_MIN], 512);
	machine_close(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_parameters_are_refused),
		cmocka_unit_test(zones_are_added_once_and_apart),
		cmocka_unit_test(a_zone_is_found_by_any_of_its_frames),
		cmocka_unit_test(zones_are_tried_by_distance_then_kind),
		cmocka_unit_test(equal_nodes_fall_back_in_a_circle),
		cmocka_unit_test(owners_have_one_number_in_all_zones),
		cmocka_unit_test(an_owner_of_one_zone_alone_is_found_out),
		cmocka_unit_test(each_request_starts_at_its_kind),
		cmocka_unit_test(bad_requests_are_refused),
		cmocka_unit_test(without_a_zone_there_is_no_memory),
		cmocka_unit_test(another_node_serves_unless_this_one_is_asked_for),
		cmocka_unit_test(lower_zones_keep_a_reserve),
		cmocka_unit_test(the_published_example_by_tuning_a_machine),
		cmocka_unit_test(tuning_takes_effect_at_once),
		cmocka_unit_test(memory_that_is_added_raises_the_marks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
