/* SPDX-License-Identifier: MIT */
/*
 * Views: what the structures say, and texts byte for byte as Linux writes them.
 */
#include <berth/views.h>

#include "tests/include/testnodes.h"

/* DMA with 1024 pages and NORMAL with 4096, of which three single frames of each type are used, and a
 * block of 32 by an owner; marks by a min_free_kbytes of 512 KiB. */
static struct machine *two_zones(unsigned *owner)
{
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *normal;
	berth_pfn_t pfn;

	add_zone(m, 0, DMA, 0, 1024);
	normal = add_zone(m, 0, NORMAL, 4096, 4096);
	tune_min(m, 512);
	assert_int_equal(berth_nodes_owner_register(m->nodes, &owner_ops, m, owner), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(berth_alloc_pages(normal->zone, 0, 0, 0, 0, &pfn), 0);
		assert_int_equal(
			berth_alloc_pages(normal->zone, 0, BERTH_GFP_MOVABLE, *owner, 0, &pfn), 0);
		assert_int_equal(
			berth_alloc_pages(normal->zone, 0, BERTH_GFP_RECLAIMABLE, 0, 0, &pfn), 0);
	}
	assert_int_equal(berth_alloc_pages(normal->zone, 5, BERTH_GFP_MOVABLE, *owner, 0, &pfn), 0);
	return m;
}

typedef size_t text_fn(const struct berth_nodes *nodes, char *text, size_t size);

/* The text is exactly this; and a buffer of any smaller size holds its beginning and a 0. */
static void assert_text(const struct berth_nodes *nodes, text_fn *write, const char *expected)
{
	size_t length = strlen(expected);
	char *text = test_zalloc(1, length + 100);

	assert_int_equal(write(nodes, text, length + 100), length);
	assert_string_equal(text, expected);
	assert_int_equal(write(nodes, NULL, 0), length);
	for (size_t size = 1; size <= length + 1; size += size < 100 ? 1 : 17) {
		memset(text, '#', length + 100);
		assert_int_equal(write(nodes, text, size), length);
		assert_memory_equal(text, expected, size - 1);
		assert_int_equal(text[size - 1], 0);
		assert_int_equal(text[size], '#');
	}
	free(text);
}

static void buddyinfo_is_as_in_linux(void **state)
{
	unsigned owner;
	struct machine *m = two_zones(&owner);

	(void)state;
	assert_text(m->nodes, berth_buddyinfo,
		    "Node 0, zone      DMA      0      0      0      0      0      0      0      0"
		    "      0      0      1 \n"
		    "Node 0, zone   Normal      3      0      3      3      3      2      3      3"
		    "      3      1      2 \n");
	machine_close(m);
}

static void pagetypeinfo_is_as_in_linux(void **state)
{
	unsigned owner;
	struct machine *m = two_zones(&owner);
	char text[4096];

	(void)state;
	assert_in_range(berth_pagetypeinfo(m->nodes, text, sizeof(text)), 1, sizeof(text) - 1);
	assert_non_null(strstr(text, "Page block order: 9\nPages per block:  512\n\n"
				     "Free pages count per migrate type at order       0      1 "));
	assert_non_null(strstr(text, "     9     10 \n"
				     "Node    0, zone      DMA, type    Unmovable      0      0 "));
	assert_non_null(strstr(text, "Node    0, zone   Normal, type    Unmovable      1      0"
				     "      1      1      1      1      1      1      1      0"
				     "      0 \n"
				     "Node    0, zone   Normal, type      Movable      1      0"
				     "      1      1      1      0      1      1      1      1"
				     "      2 \n"
				     "Node    0, zone   Normal, type  Reclaimable      1      0"
				     "      1      1      1      1      1      1      1      0"
				     "      0 \n"
				     "Node    0, zone   Normal, type   HighAtomic      0"));
	assert_non_null(strstr(
		text,
		"\n\nNumber of blocks type     Unmovable      Movable  Reclaimable   HighAtomic"
		"          CMA      Isolate \n"
		"Node 0, zone      DMA            0            2            0            0"
		"            0            0 \n"
		"Node 0, zone   Normal            1            6            1            0"
		"            0            0 \n"));
	machine_close(m);
}

static void zoneinfo_is_as_in_linux(void **state)
{
	unsigned owner;
	struct machine *m = two_zones(&owner);
	berth_pfn_t pfn;

	(void)state;
	test_set_cpu(1);
	assert_int_equal(berth_alloc_pages(m->zones[0]->zone, 0, 0, 0, 0, &pfn), 0);
	assert_int_equal(berth_free_pages(m->zones[0]->zone, pfn), 0);
	berth_pcp_drain_all(m->zones[0]->zone);
	test_set_cpu(TEST_NO_CPU);
	assert_text(m->nodes, berth_zoneinfo,
		    "Node 0, zone      DMA\n"
		    "  per-node stats\n"
		    "      nr_inactive_anon 0\n"
		    "      nr_active_anon 0\n"
		    "      nr_inactive_file 0\n"
		    "      nr_active_file 0\n"
		    "      nr_unevictable 0\n"
		    "      nr_isolated_anon 0\n"
		    "      nr_isolated_file 0\n"
		    "      nr_dirty     0\n"
		    "      nr_writeback 0\n"
		    "  pages free     1024\n"
		    "        boost    0\n"
		    "        min      25\n"
		    "        low      31\n"
		    "        high     37\n"
		    "        promo    43\n"
		    "        spanned  1024\n"
		    "        present  1024\n"
		    "        managed  1024\n"
		    "        cma      0\n"
		    "        protection: (0, 0, 16, 16, 16)\n"
		    "      nr_free_pages 1024\n"
		    "      nr_zone_inactive_anon 0\n"
		    "      nr_zone_active_anon 0\n"
		    "      nr_zone_inactive_file 0\n"
		    "      nr_zone_active_file 0\n"
		    "      nr_zone_unevictable 0\n"
		    "      nr_zone_write_pending 0\n"
		    "      nr_mlock     0\n"
		    "      nr_free_cma  0\n"
		    "      nr_free_highatomic 0\n"
		    "  pagesets\n"
		    "    cpu: 0\n"
		    "              count:    0\n"
		    "              high:     52\n"
		    "              batch:    2\n"
		    "              high_min: 52\n"
		    "              high_max: 180\n"
		    "    cpu: 1\n"
		    "              count:    0\n"
		    "              high:     52\n"
		    "              batch:    2\n"
		    "              high_min: 52\n"
		    "              high_max: 180\n"
		    "  node_unreclaimable:  0\n"
		    "  start_pfn:           0\n"
		    "Node 0, zone   Normal\n"
		    "  pages free     4055\n"
		    "        boost    0\n"
		    "        min      102\n"
		    "        low      127\n"
		    "        high     152\n"
		    "        promo    177\n"
		    "        spanned  4096\n"
		    "        present  4096\n"
		    "        managed  4096\n"
		    "        cma      0\n"
		    "        protection: (0, 0, 0, 0, 0)\n"
		    "      nr_free_pages 4055\n"
		    "      nr_zone_inactive_anon 0\n"
		    "      nr_zone_active_anon 0\n"
		    "      nr_zone_inactive_file 0\n"
		    "      nr_zone_active_file 0\n"
		    "      nr_zone_unevictable 0\n"
		    "      nr_zone_write_pending 0\n"
		    "      nr_mlock     0\n"
		    "      nr_free_cma  0\n"
		    "      nr_free_highatomic 0\n"
		    "  pagesets\n"
		    "  node_unreclaimable:  0\n"
		    "  start_pfn:           4096\n");
	machine_close(m);
}

static void without_zones_texts_are_empty(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 2);
	struct berth_owner_pages top[2];
	char text[8] = "x";

	(void)state;
	assert_int_equal(berth_nodes_owners(m->nodes, top, 2), 0);
	assert_int_equal(berth_buddyinfo(m->nodes, text, sizeof(text)), 0);
	assert_string_equal(text, "");
	assert_int_equal(berth_zoneinfo(m->nodes, text, sizeof(text)), 0);
	assert_true(berth_pagetypeinfo(m->nodes, text, sizeof(text)) > 0);
	assert_string_equal(text, "Page bl");
	machine_close(m);
}

/* ---- Structures ----------------------------------------------------------------------------------- */

static void a_view_says_what_the_zone_has(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 1024, .nr_pages = 8192);
	struct berth_zone_view v;
	uint64_t counts[BERTH_NR_MIGRATETYPES], free = 0;

	(void)state;
	area_declare(tz, "area", 2048, 1024, 0, BERTH_LEND_LAST);
	zone_alloc(tz, 3);
	assert_int_equal(contig_claim(tz, 4096, 1000, 0, NULL), 0);
	berth_zone_view(tz->zone, &v);
	assert_string_equal(v.name, "test");
	assert_int_equal(v.node, 0);
	assert_int_equal(v.kind, BERTH_ZONE_NORMAL);
	assert_int_equal(v.start_pfn, 1024);
	assert_int_equal(v.max_order, 10);
	assert_int_equal(v.pageblock_order, 9);
	assert_int_equal(v.spanned_pages, 8192);
	assert_int_equal(v.present_pages, 8192);
	assert_int_equal(v.managed_pages, 8192);
	assert_int_equal(v.free_pages, 8192 - 8 - 1000);
	assert_int_equal(v.claimed_pages, 1000);
	assert_int_equal(v.cma_pages, 1024);
	assert_int_equal(v.free_cma_pages, 1024);
	assert_int_equal(v.free_blocks[BERTH_CMA][9], 2);
	assert_int_equal(v.pcp_pages, 0);
	for (unsigned type = 0; type < BERTH_NR_MIGRATETYPES; type++)
		for (unsigned order = 0; order <= v.max_order; order++)
			free += (uint64_t)v.free_blocks[type][order] << order;
	assert_int_equal(free, v.free_pages);
	berth_zone_count_pageblocks(tz->zone, counts);
	assert_int_equal(counts[BERTH_CMA], 2);
	assert_int_equal(counts[BERTH_UNMOVABLE], 1);
	assert_int_equal(counts[BERTH_MOVABLE], 13);
	zone_close(tz);
}

static void owners_are_ranked_by_what_they_hold(void **state)
{
	static struct berth_owner_ops ops[70];
	static char names[70][8];
	struct machine *m = machine_open(.nr_nodes = 1);
	struct test_zone *a, *b;
	struct berth_owner_pages top[4];
	unsigned ids[70];
	berth_pfn_t pfn;

	(void)state;
	/* More owners than are counted at a time. */
	a = zone_open(.start_pfn = 0, .nr_pages = 4096, .max_owners = 70);
	b = zone_open(.start_pfn = 4096, .nr_pages = 4096, .max_owners = 70);
	m->zones[m->nr_zones++] = a;
	m->zones[m->nr_zones++] = b;
	assert_int_equal(berth_nodes_add_zone(m->nodes, 0, NORMAL, a->zone), 0);
	assert_int_equal(berth_nodes_add_zone(m->nodes, 0, MOVABLE, b->zone), 0);
	assert_int_equal(berth_nodes_owners(m->nodes, top, 4), 0);
	for (unsigned i = 0; i < 70; i++) {
		snprintf(names[i], sizeof(names[i]), "o%u", i);
		ops[i] = (struct berth_owner_ops){ .name = names[i], .migrate = migrate };
		assert_int_equal(berth_nodes_owner_register(m->nodes, &ops[i], m, &ids[i]), 0);
	}
	assert_int_equal(berth_alloc_pages(a->zone, 3, 0, 0, 0, &pfn), 0);
	assert_int_equal(berth_alloc_pages(a->zone, 6, BERTH_GFP_MOVABLE, ids[69], 0, &pfn), 0);
	assert_int_equal(berth_alloc_pages(b->zone, 10, BERTH_GFP_MOVABLE, ids[2], 0, &pfn), 0);
	assert_int_equal(berth_alloc_pages(b->zone, 0, BERTH_GFP_MOVABLE, ids[2], 0, &pfn), 0);
	assert_int_equal(berth_alloc_pages(b->zone, 5, BERTH_GFP_MOVABLE, ids[69], 0, &pfn), 0);
	assert_int_equal(berth_alloc_pages(b->zone, 0, BERTH_GFP_MOVABLE, ids[5], 0, &pfn), 0);
	assert_int_equal(berth_alloc_pages(b->zone, 1, BERTH_GFP_MOVABLE, ids[6], 0, &pfn), 0);
	assert_int_equal(berth_nodes_owners(m->nodes, top, 4), 4);
	assert_string_equal(top[0].name, "o2");
	assert_int_equal(top[0].pages, 1025);
	assert_int_equal(top[0].owner, ids[2]);
	assert_string_equal(top[1].name, "o69");
	assert_int_equal(top[1].pages, 96);
	assert_string_equal(top[2].name, "nobody");
	assert_int_equal(top[2].pages, 8);
	assert_string_equal(top[3].name, "o6");
	assert_int_equal(top[3].pages, 2);
	assert_int_equal(berth_zone_owners(a->zone, top, 4), 2);
	assert_string_equal(top[0].name, "o69");
	assert_int_equal(top[0].pages, 64);
	assert_int_equal(berth_zone_owners(a->zone, top, 1), 1);
	assert_int_equal(berth_zone_owners(a->zone, top, 0), 0);
	machine_close(m);
}

/* ---- Failures -------------------------------------------------------------------------------------- */

static void a_failure_says_why_in_each_zone(void **state)
{
	unsigned owner;
	struct machine *m = two_zones(&owner);
	struct berth_alloc_failure *f = test_zalloc(1, sizeof(*f));
	struct berth_alloc_request r = { .order = 10, .gfp = BERTH_GFP_MAYFAIL };
	berth_pfn_t pfn = 5;
	char text[4096];

	(void)state;
	/* NORMAL loses its two blocks of order 10; DMA would have too little left. */
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(berth_alloc_pages(m->zones[1]->zone, 10, 0, 0, 0, &pfn), 0);
	pfn = 5;
	assert_int_equal(berth_alloc(m->nodes, &r, &pfn, f), -BERTH_ENOMEM);
	assert_int_equal(pfn, 5);
	assert_int_equal(f->nr_zones, 2);
	assert_int_equal(f->nr_shown, 2);
	assert_int_equal(f->reclaims, 1);
	assert_int_equal(f->ooms, 0);
	assert_string_equal(f->zones[0].name, "Normal");
	assert_int_equal(f->verdict[0], BERTH_ZONE_NO_BLOCK);
	assert_string_equal(f->zones[1].name, "DMA");
	assert_int_equal(f->verdict[1], BERTH_ZONE_BELOW_MARK);
	assert_int_equal(f->nr_owners, 0);
	berth_alloc_failure_owners(m->nodes, f);
	assert_int_equal(f->nr_owners, 2);
	assert_in_range(berth_alloc_failure_text(f, text, sizeof(text)), 1, sizeof(text) - 1);
	assert_string_equal(
		text,
		"page allocation failure: order:10, mode:0x400(MAYFAIL), node=0, owner=0\n"
		"tried: 1 reclaims (0kB freed), 0 victims, 0 waits\n"
		"Node 0 Normal free:8028kB boost:0kB min:408kB low:508kB high:608kB"
		" reserved_highatomic:0KB free_highatomic:0KB active_file:0kB inactive_file:0kB"
		" unevictable:0kB writepending:0kB present:16384kB managed:16384kB"
		" free_pcp:0kB claimed:0kB free_cma:0kB: no free block is large enough\n"
		"lowmem_reserve[]: 0 0 0 0 0\n"
		"Node 0 DMA free:4096kB boost:0kB min:100kB low:124kB high:148kB"
		" reserved_highatomic:0KB free_highatomic:0KB active_file:0kB inactive_file:0kB"
		" unevictable:0kB writepending:0kB present:4096kB managed:4096kB"
		" free_pcp:0kB claimed:0kB free_cma:0kB: too little is free\n"
		"lowmem_reserve[]: 0 0 16 16 16\n"
		"Node 0 Normal: 3*4kB (UME) 0*8kB 3*16kB (UME) 3*32kB (UME) 3*64kB (UME)"
		" 2*128kB (UE) 3*256kB (UME) 3*512kB (UME) 3*1024kB (UME) 1*2048kB (M) 0*4096kB"
		" = 8028kB\n"
		"Node 0 DMA: 0*4kB 0*8kB 0*16kB 0*32kB 0*64kB 0*128kB 0*256kB 0*512kB 0*1024kB"
		" 0*2048kB 1*4096kB (M) = 4096kB\n"
		"holds most: 8216kB nobody (owner 0)\n"
		"holds most: 140kB owner (owner 1)\n");
	free(f);
	machine_close(m);
}

static void a_failure_counts_what_was_tried(void **state)
{
	unsigned owner;
	struct machine *m = two_zones(&owner);
	struct berth_alloc_failure *f = test_zalloc(1, sizeof(*f));
	struct berth_alloc_request r = { .order = 0,
					 .gfp = BERTH_GFP_NOFAIL | BERTH_GFP_DMA | BERTH_GFP_ZERO };
	berth_pfn_t pfn;

	(void)state;
	assert_int_equal(berth_alloc(m->nodes, &r, &pfn, f), -BERTH_EINVAL); /* no zero() */
	r.gfp &= ~(unsigned)BERTH_GFP_ZERO;
	assert_int_equal(berth_alloc(m->nodes, &r, &pfn, f), 0);
	hoard(m, m->zones[0], 0);
	m->reclaim_step = 1;
	m->oom_answers = 3;
	m->nr_hoard = 2;
	assert_int_equal(berth_alloc(m->nodes, &r, &pfn, f), -BERTH_ENOMEM);
	assert_int_equal(f->ooms, 3 + 1 + 64);
	assert_int_equal(f->waits, 64);
	assert_int_equal(f->reclaimed_pages, 2);
	assert_int_equal(f->nr_zones, 1);
	assert_int_equal(f->verdict[0], BERTH_ZONE_BELOW_MARK);
	assert_int_equal(f->zones[0].free_pages, 2);
	r.order = 11;
	r.gfp = BERTH_GFP_NORETRY;
	assert_int_equal(berth_alloc(m->nodes, &r, &pfn, f), -BERTH_ENOMEM);
	assert_int_equal(f->verdict[0], BERTH_ZONE_TOO_SMALL);
	assert_int_equal(berth_alloc(m->nodes, &r, &pfn, NULL), -BERTH_ENOMEM);
	free(f);
	machine_close(m);
}

/* More zones than a report shows. */
static void a_failure_shows_the_first_zones(void **state)
{
	struct machine *m = machine_open(.nr_nodes = 10);
	struct berth_alloc_failure *f = test_zalloc(1, sizeof(*f));
	struct berth_alloc_request r = { .node = 3, .order = 11, .gfp = BERTH_GFP_ATOMIC };
	struct test_zone *zones[10];
	berth_pfn_t pfn;
	char text[16384];

	(void)state;
	for (unsigned i = 0; i < 10; i++) {
		zones[i] = zone_open(.start_pfn = i * 1024, .nr_pages = 1024);
		assert_int_equal(berth_nodes_add_zone(m->nodes, i, NORMAL, zones[i]->zone), 0);
	}
	assert_int_equal(berth_alloc(m->nodes, &r, &pfn, f), -BERTH_ENOMEM);
	assert_int_equal(f->nr_zones, 10);
	assert_int_equal(f->nr_shown, 8);
	assert_int_equal(f->zones[0].node, 3);
	assert_int_equal(f->zones[7].node, 0);
	assert_int_equal(f->reclaims, 0);
	berth_alloc_failure_text(f, text, sizeof(text));
	assert_non_null(strstr(text, "mode:0x60(HIGH|NO_RECLAIM), node=3, owner=0\n"));
	assert_non_null(strstr(text, "\n2 more zones\n"));
	r.gfp = BERTH_GFP_UNMOVABLE; /* not a flag */
	assert_int_equal(berth_alloc(m->nodes, &r, &pfn, f), -BERTH_ENOMEM);
	berth_alloc_failure_text(f, text, sizeof(text));
	assert_non_null(strstr(text, "mode:0x0(UNMOVABLE), node=3, owner=0\n"));
	free(f);
	for (unsigned i = 0; i < 10; i++)
		zone_close(zones[i]);
	machine_close(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buddyinfo_is_as_in_linux),
		cmocka_unit_test(pagetypeinfo_is_as_in_linux),
		cmocka_unit_test(zoneinfo_is_as_in_linux),
		cmocka_unit_test(without_zones_texts_are_empty),
		cmocka_unit_test(a_view_says_what_the_zone_has),
		cmocka_unit_test(owners_are_ranked_by_what_they_hold),
		cmocka_unit_test(a_failure_says_why_in_each_zone),
		cmocka_unit_test(a_failure_counts_what_was_tried),
		cmocka_unit_test(a_failure_shows_the_first_zones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
