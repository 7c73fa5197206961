/* SPDX-License-Identifier: MIT */
/*
 * Real threads that allocate from the same nodes while memory is short: zones are fallen back to,
 * pageblocks change their types, the HIGHATOMIC reserve comes and goes, marks are tuned, and somebody
 * looks at it all.
 *
 * Each thread writes its number into every frame that it holds, and must find it there again.
 *
 *	BERTH_THREADS=n       threads, 4 by default
 *	BERTH_THREADS_OPS=n   operations of each
 */
#include <pthread.h>

#include <berth/views.h>

#include "port/linux/port_linux.h"
#include "tests/include/testnodes.h"
#include "tests/include/testthreads.h"

#define MAX_THREADS 32u
#define HELD 1200u   /* blocks that a thread can hold */
#define PAGES 65536u /* more than the pfns of all zones */

struct world {
	struct berth_nodes *nodes;
	uint32_t *content; /* by pfn */
	unsigned owner;
	uint64_t nr_ops;
	_Atomic uint64_t failed;
};

struct worker {
	struct world *world;
	unsigned id;
	uint64_t random;
	unsigned nr_held;
	struct {
		berth_pfn_t pfn;
		unsigned order;
	} held[HELD];
	pthread_t thread;
};

/* As an assertion, but usable outside the main thread. */
/* Whatever compaction wants to move is in use: pages are known by their frames here. Called by several threads. */
static void refuse_to_move(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	(void)ctx;
	for (unsigned i = 0; i < nr_moves; i++)
		moves[i].result = BERTH_MOVE_BUSY;
}

static const struct berth_owner_ops busy_owner = { .name = "busy", .migrate = refuse_to_move };

static void drop(struct worker *w, unsigned i)
{
	uint32_t *content = &w->world->content[w->held[i].pfn];

	for (unsigned page = 0; page < 1u << w->held[i].order; page++) {
		require(content[page] == w->id, "somebody else's frame", w->held[i].pfn + page);
		content[page] = 0;
	}
	require(berth_node_free(w->world->nodes, w->held[i].pfn) == 0, "free", w->held[i].pfn);
	w->held[i] = w->held[--w->nr_held];
}

static void take_one(struct worker *w)
{
	static const unsigned flags[] = {
		BERTH_GFP_UNMOVABLE, BERTH_GFP_MOVABLE,  BERTH_GFP_RECLAIMABLE, BERTH_GFP_ATOMIC,
		BERTH_GFP_MOVABLE,   BERTH_GFP_THISNODE, BERTH_GFP_NORETRY,     BERTH_GFP_DMA,
	};
	unsigned gfp = flags[test_random_below(&w->random, ARRAY_SIZE(flags))];
	unsigned order = test_random_below(&w->random, 3) ?
				 0 :
				 (unsigned)test_random_below(&w->random, 5);
	struct berth_zone *zone;
	berth_pfn_t pfn;

	if (berth_node_alloc(w->world->nodes, w->id % 2, order, gfp, w->world->owner, 0, &pfn)) {
		atomic_fetch_add(&w->world->failed, 1);
		return;
	}
	zone = berth_nodes_zone_of(w->world->nodes, pfn);
	require(zone != NULL, "a frame of no zone", pfn);
	require(!(gfp & BERTH_GFP_DMA) || zone == berth_nodes_zone(w->world->nodes, 0, DMA),
		"not from DMA", pfn);
	for (unsigned page = 0; page < 1u << order; page++) {
		require(w->world->content[pfn + page] == 0, "a frame in use", pfn + page);
		w->world->content[pfn + page] = w->id;
	}
	w->held[w->nr_held].pfn = pfn;
	w->held[w->nr_held++].order = order;
}

static void look(struct world *world, unsigned what)
{
	char text[2048];
	struct berth_tunables t;

	switch (what) {
	case 0:
		berth_nodes_tunables(world->nodes, &t);
		t.min_free_kbytes = t.min_free_kbytes == 700 ? 1500 : 700;
		require(berth_nodes_tune(world->nodes, &t) == 0, "tune", 0);
		break;
	case 1:
		require(berth_zoneinfo(world->nodes, text, sizeof(text)) > 100, "zoneinfo", 0);
		break;
	case 2:
		require(berth_pagetypeinfo(world->nodes, text, sizeof(text)) > 100, "types", 0);
		break;
	default:
		require(berth_buddyinfo(world->nodes, text, sizeof(text)) > 100, "buddyinfo", 0);
		break;
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	test_set_cpu(w->id - 1);
	for (uint64_t op = 0; op < w->world->nr_ops; op++) {
		if (w->nr_held < HELD && test_random_below(&w->random, 100) < 52)
			take_one(w);
		else if (w->nr_held)
			drop(w, (unsigned)test_random_below(&w->random, w->nr_held));
		if (op % 500 == 0)
			look(w->world, (unsigned)(op / 500 + w->id) % 4);
	}
	while (w->nr_held)
		drop(w, w->nr_held - 1);
	test_set_cpu(TEST_NO_CPU);
	return NULL;
}

static struct test_zone *add_shared_zone(struct machine *m, unsigned node,
					 enum berth_zone_kind kind, berth_pfn_t start,
					 uint64_t nr_pages)
{
	struct test_zone *tz = zone_open(.start_pfn = start, .nr_pages = nr_pages,
					 .nr_cpus = MAX_THREADS, .port = berth_port_linux_ops());

	m->zones[m->nr_zones++] = tz;
	assert_int_equal(berth_nodes_add_zone(m->nodes, node, kind, tz->zone), 0);
	return tz;
}

static void threads_share_nodes_that_run_low(void **state)
{
	struct machine *m = machine_open_with(&(struct berth_nodes_params){ .nr_nodes = 2 });
	struct worker *workers = test_zalloc(MAX_THREADS, sizeof(*workers));
	unsigned nr = (unsigned)test_env("BERTH_THREADS", 4);
	struct world world = { .nodes = m->nodes };
	struct berth_nodes_stats stats;

	(void)state;
	assert_in_range(nr, 1, MAX_THREADS);
	add_shared_zone(m, 0, DMA, 0, 512);
	add_shared_zone(m, 0, NORMAL, 4096, 2048);
	add_shared_zone(m, 0, MOVABLE, 8192, 1024);
	add_shared_zone(m, 1, NORMAL, 16384, 2048);
	assert_int_equal(berth_nodes_owner_register(m->nodes, &busy_owner, NULL, &world.owner), 0);
	world.content = test_zalloc(PAGES, sizeof(*world.content));
	world.nr_ops = test_env("BERTH_THREADS_OPS", 400000 / TEST_SLOWDOWN);
	for (unsigned i = 0; i < nr; i++) {
		workers[i] = (struct worker){ .world = &world, .id = i + 1, .random = i };
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < nr; i++)
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
	berth_nodes_stats(m->nodes, &stats);
	assert_int_equal(stats.failures, atomic_load(&world.failed));
	if (nr > 1)
		assert_true(stats.slow_allocs > 0);
	for (unsigned i = 0; i < m->nr_zones; i++) {
		berth_pcp_drain_all(m->zones[i]->zone);
		assert_int_equal(zone_stats(m->zones[i]).free_pages, m->zones[i]->params.nr_pages);
	}
	machine_close(m);
	free(world.content);
	free(workers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_share_nodes_that_run_low),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
