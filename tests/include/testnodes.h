/* SPDX-License-Identifier: MIT */
/*
 * A machine of several zones in a test, and somebody who frees memory as the test says.
 */
#ifndef BERTH_TESTNODES_H
#define BERTH_TESTNODES_H

#include <berth/nodes.h>

#include "testzone.h"

#define DMA BERTH_ZONE_DMA
#define DMA32 BERTH_ZONE_DMA32
#define NORMAL BERTH_ZONE_NORMAL
#define HIGHMEM BERTH_ZONE_HIGHMEM
#define MOVABLE BERTH_ZONE_MOVABLE

/* ---- A machine: zones, and somebody who frees memory as the test says --------------------------- */

#define MAX_HOARD 65536u

struct machine {
	struct berth_nodes *nodes;
	void *memory;
	struct test_zone *zones[8];
	unsigned nr_zones;
	/* What reclaim and OOM can free, last first, and how much at a time. */
	berth_pfn_t hoard[MAX_HOARD];
	unsigned nr_hoard, reclaim_step, oom_step, oom_answers;
	/* What was called. */
	unsigned wakes, reclaims, ooms;
	struct berth_zone *woken[8];
	struct berth_zone *oom_zone;
	unsigned oom_owner;
	const char *oom_owner_name;
	uint64_t oom_owner_pages;
	enum berth_zone_kind woken_for;
	bool movable;
	char order_of_calls[64]; /* "mro": first moves, then reclaim, then OOM */
};

static inline void note(struct machine *m, char call)
{
	size_t length = strlen(m->order_of_calls);

	if (length + 1 < sizeof(m->order_of_calls))
		m->order_of_calls[length] = call;
}

static inline void wake_kswapd(void *ctx, struct berth_zone *zone, unsigned order,
			       enum berth_zone_kind highest)
{
	struct machine *m = ctx;

	(void)order;
	if (m->wakes < ARRAY_SIZE(m->woken))
		m->woken[m->wakes] = zone;
	m->woken_for = highest;
	m->wakes++;
}

static inline uint64_t free_hoard(struct machine *m, unsigned nr)
{
	uint64_t freed = 0;

	for (; nr > 0 && m->nr_hoard > 0; nr--, freed++)
		assert_int_equal(berth_node_free(m->nodes, m->hoard[--m->nr_hoard]), 0);
	return freed;
}

static inline uint64_t reclaim(void *ctx, unsigned node, enum berth_zone_kind highest,
			       unsigned order, unsigned gfp)
{
	struct machine *m = ctx;

	(void)node;
	(void)highest;
	(void)order;
	(void)gfp;
	m->reclaims++;
	note(m, 'r');
	return free_hoard(m, m->reclaim_step);
}

static inline bool oom(void *ctx, const struct berth_oom *why)
{
	struct machine *m = ctx;

	m->ooms++;
	note(m, 'o');
	m->oom_zone = why->zone;
	m->oom_owner = why->owner;
	m->oom_owner_name = why->owner_name;
	m->oom_owner_pages = why->owner_pages;
	if (!m->oom_answers)
		return false;
	m->oom_answers--;
	free_hoard(m, m->oom_step);
	return true;
}

static const struct berth_nodes_ops helpful __attribute__((unused)) = {
	.wake_kswapd = wake_kswapd,
	.reclaim = reclaim,
	.oom = oom,
};

static inline struct machine *machine_open_with(const struct berth_nodes_params *base)
{
	struct machine *m = test_zalloc(1, sizeof(*m));
	struct berth_nodes_params params = *base;
	size_t bytes;

	params.ctx = m;
	bytes = berth_nodes_metadata_size(&params);
	assert_int_not_equal(bytes, 0);
	assert_int_equal(posix_memalign(&m->memory, 64, bytes), 0);
	memset(m->memory, 0xa5, bytes);
	assert_int_equal(berth_nodes_init(&m->nodes, &params, m->memory, bytes), 0);
	return m;
}
#define machine_open(...) \
	machine_open_with(&(struct berth_nodes_params){ .ops = &helpful, __VA_ARGS__ })

static inline struct test_zone *add_zone(struct machine *m, unsigned node,
					 enum berth_zone_kind kind, berth_pfn_t start,
					 uint64_t nr_pages)
{
	struct test_zone *tz = zone_open(.start_pfn = start, .nr_pages = nr_pages);

	m->zones[m->nr_zones++] = tz;
	assert_int_equal(berth_nodes_add_zone(m->nodes, node, kind, tz->zone), 0);
	return tz;
}

static inline void machine_ok(struct machine *m)
{
	for (unsigned i = 0; i < m->nr_zones; i++)
		zone_ok(m->zones[i]);
}

static inline void machine_close(struct machine *m)
{
	machine_ok(m);
	for (unsigned i = 0; i < m->nr_zones; i++)
		zone_close(m->zones[i]);
	free(m->memory);
	free(m);
}

/* Where the block came from, NULL: -ENOMEM. */
static inline struct berth_zone *take(struct machine *m, unsigned node, unsigned order,
				      unsigned gfp, unsigned owner)
{
	berth_pfn_t pfn = BERTH_PFN_NONE;
	int error = berth_node_alloc(m->nodes, node, order, gfp, owner, 0, &pfn);

	if (error) {
		assert_int_equal(error, -BERTH_ENOMEM);
		assert_int_equal(pfn, BERTH_PFN_NONE);
		return NULL;
	}
	assert_int_equal(pfn & ((1ull << order) - 1), 0);
	assert_non_null(berth_nodes_zone_of(m->nodes, pfn));
	return berth_nodes_zone_of(m->nodes, pfn);
}

/* Takes frames straight out of a zone, past all marks, until `left` are free; reclaim can free them. */
static inline void hoard(struct machine *m, struct test_zone *tz, uint64_t left)
{
	while (zone_free_pages(tz) > left) {
		assert_true(m->nr_hoard < MAX_HOARD);
		assert_int_equal(berth_alloc_pages(tz->zone, 0, 0, BERTH_OWNER_NONE, 0,
						   &m->hoard[m->nr_hoard++]),
				 0);
	}
	assert_int_equal(zone_free_pages(tz), left);
}

static inline struct berth_watermarks marks_of(struct test_zone *tz)
{
	struct berth_watermarks w;

	berth_zone_watermarks(tz->zone, &w);
	return w;
}

static inline void tune_min(struct machine *m, uint64_t kbytes)
{
	struct berth_tunables t;

	berth_nodes_tunables(m->nodes, &t);
	t.min_free_kbytes = kbytes;
	assert_int_equal(berth_nodes_tune(m->nodes, &t), 0);
}

/* An owner whose blocks can all move, if it says so; ctx: the machine. */
static inline void migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct machine *m = ctx;

	note(m, 'm');
	for (unsigned i = 0; i < nr_moves; i++)
		moves[i].result = m->movable && berth_page_freeze(berth_nodes_zone_of(m->nodes,
										      moves[i].src),
								  moves[i].src) ?
					  BERTH_MOVE_MOVED :
					  BERTH_MOVE_BUSY;
}

static const struct berth_owner_ops owner_ops
	__attribute__((unused)) = { .name = "owner", .migrate = migrate };

#endif
