/* SPDX-License-Identifier: MIT */
/*
 * LRU lists against the naive model, which knows of each block whether it is on a list, dirty, locked or
 * being written, but not in which order lists are. The cache drops what the core asks it to drop, and the
 * core may ask for nothing else than the model allows.
 */
#ifndef BERTH_TEST_MODEL_LRU_H
#define BERTH_TEST_MODEL_LRU_H

#include "tests/model/model.h"

#define MODEL_OF_CACHE ((uint8_t)(MODEL_USED + MODEL_CACHE))

/* ---- Blocks ----------------------------------------------------------------------------------- */

static inline unsigned model_lru_at(const struct model *m, berth_pfn_t pfn)
{
	return m->lru[model_index(m, pfn)];
}

/* The blocks that touch a range, as they are now. */
struct model_blocks {
	berth_pfn_t start, end;
	bool tagged; /* all of them can be on lists */
	bool on;     /* one is */
};

static inline struct model_blocks model_blocks(struct model *m, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct model_blocks b = { .start = pfn, .end = pfn, .tagged = true };

	while (b.end < pfn + nr_pages) {
		berth_pfn_t head = BERTH_PFN_NONE;
		unsigned order = 0;

		if (berth_frame_state(m->tz->zone, b.end, &head, &order) != 'u' ||
		    m->kind[model_index(m, b.end)] != MODEL_OF_CACHE ||
		    !(model_lru_at(m, b.end) & MODEL_LRU_TAGGED)) {
			b.tagged = false;
			return b;
		}
		if (b.end == pfn)
			b.start = head;
		b.on |= model_lru_at(m, head) & MODEL_LRU_ON;
		b.end = head + (1ull << order);
	}
	return b;
}

/* Some frame of the cache; BERTH_PFN_NONE: it has few. */
static inline berth_pfn_t model_cached(struct model *m)
{
	for (unsigned i = 0; i < 30; i++) {
		uint64_t at = model_below(m, m->tz->params.nr_pages);

		if (m->kind[at] == MODEL_OF_CACHE)
			return m->tz->params.start_pfn + at;
	}
	return BERTH_PFN_NONE;
}

/* ---- What the cache answers ------------------------------------------------------------------- */

/* A block that the core asks about is what it says. */
static inline void model_check_item(struct model *m, const struct test_owner *o,
				    const struct berth_reclaim_item *item)
{
	berth_pfn_t head = BERTH_PFN_NONE;
	unsigned order = 99;

	assert_int_equal(item->owner, o->id);
	assert_int_equal(o->table[item->cookie - o->base], item->pfn);
	assert_int_equal(berth_frame_state(m->tz->zone, item->pfn, &head, &order), 'u');
	assert_int_equal(head, item->pfn);
	assert_int_equal(order, item->order);
	assert_true(model_lru_at(m, head) & MODEL_LRU_TAGGED);
}

static inline void model_drop(struct model *m, struct berth_reclaim_item *item)
{
	uint64_t nr = 1ull << item->order;
	unsigned lru = model_lru_at(m, item->pfn);
	bool may = (lru & MODEL_LRU_ON) &&
		   !(lru & (MODEL_LRU_DIRTY | MODEL_LRU_LOCKED | MODEL_LRU_WRITEBACK)) &&
		   !m->pinned[model_index(m, item->pfn)];

	assert_int_equal(berth_reclaim_freeze(m->tz->zone, item), may);
	item->result = may ? BERTH_RECLAIM_DROPPED : BERTH_RECLAIM_BUSY;
	if (!may)
		return;
	model_unmap(m, MODEL_CACHE, item->pfn, nr);
	model_lru_change(m, item->pfn, nr, 0, 255);
	model_set(m, item->pfn, nr, MODEL_OF_CACHE, MODEL_FREE);
	m->nr_dropped += nr;
}

static inline void model_reclaim(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	struct test_owner *o = ctx;
	struct model *m = o->user;

	for (unsigned i = 0; i < nr; i++) {
		assert_int_equal(items[i].result, BERTH_RECLAIM_PENDING);
		model_check_item(m, o, &items[i]);
		if (model_chance(m, m->busy_percent)) {
			items[i].result = model_chance(m, 50) ? BERTH_RECLAIM_BUSY :
								BERTH_RECLAIM_PENDING;
		} else if (model_chance(m, m->used_percent)) {
			items[i].result = BERTH_RECLAIM_REFERENCED;
		} else if (model_chance(m, m->dirty_percent)) {
			items[i].result = BERTH_RECLAIM_DIRTY;
			model_lru_change(m, items[i].pfn, 1ull << items[i].order, MODEL_LRU_DIRTY,
					 0);
		} else {
			model_drop(m, &items[i]);
		}
	}
}

static inline void model_referenced(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	struct test_owner *o = ctx;
	struct model *m = o->user;

	for (unsigned i = 0; i < nr; i++) {
		model_check_item(m, o, &items[i]);
		items[i].referenced = model_chance(m, m->used_percent) ?
					      1 + (uint8_t)model_below(m, 3) :
					      0;
	}
}

/* A write of the block that starts at pfn begins: the core has pinned it. */
static inline void model_writes(struct model *m, berth_pfn_t pfn, unsigned order)
{
	model_lru_change(m, pfn, 1ull << order, MODEL_LRU_WRITEBACK, MODEL_LRU_DIRTY);
	model_pin(m, pfn, order);
	m->writing[m->nr_writing++] = pfn;
}

/* One that is under way ends. */
static inline void model_end_write(struct model *m, unsigned at, bool ok)
{
	berth_pfn_t pfn = m->writing[at], head = BERTH_PFN_NONE;
	bool orphan = m->kind[model_index(m, pfn)] == MODEL_ORPHAN;
	unsigned order = 0;

	m->writing[at] = m->writing[--m->nr_writing];
	assert_int_equal(berth_frame_state(m->tz->zone, pfn, &head, &order), 'u');
	assert_int_equal(head, pfn);
	model_lru_change(m, pfn, 1ull << order, ok || orphan ? 0 : MODEL_LRU_DIRTY,
			 MODEL_LRU_WRITEBACK);
	model_unpin(m, pfn, order);
	assert_int_equal(berth_lru_end_writeback(m->tz->zone, pfn, ok), 0);
}

static inline void model_writeback(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	struct test_owner *o = ctx;
	struct model *m = o->user;

	for (unsigned i = 0; i < nr; i++) {
		model_check_item(m, o, &items[i]);
		assert_true(model_lru_at(m, items[i].pfn) & MODEL_LRU_DIRTY);
		assert_true(berth_page_pinned(m->tz->zone, items[i].pfn));
		if (m->nr_writing == MODEL_MAX_WRITES || model_chance(m, m->busy_percent)) {
			items[i].result = BERTH_RECLAIM_BUSY;
			continue;
		}
		model_writes(m, items[i].pfn, items[i].order);
		if (model_chance(m, 20))
			model_end_write(m, m->nr_writing - 1, model_chance(m, 80));
	}
}

/* Writes end while reclaim waits for them, too. */
static inline void model_on_wait(void *ctx)
{
	struct model *m = ctx;

	if (m->writes_may_end && m->nr_writing && model_chance(m, 50))
		model_end_write(m, (unsigned)model_below(m, m->nr_writing), model_chance(m, 90));
}

static inline void model_open_cache(struct model *m)
{
	struct test_owner *o = m->owners[MODEL_CACHE];

	if (!m->tz->params.lru)
		return;
	o->ops.reclaim = model_reclaim;
	o->ops.referenced = model_referenced;
	o->ops.writeback = model_writeback;
	m->tz->port.on_wait = model_on_wait;
	m->tz->port.on_wait_ctx = m;
}

/* ---- Operations ------------------------------------------------------------------------------- */

struct model_change {
	unsigned set, clear;
	bool unless_on;
};

/* Mostly the whole block, often several, sometimes frames that aren't the cache's. */
static inline void op_lru_change(struct model *m, berth_pfn_t pfn)
{
	static const struct model_change changes[] = {
		{ MODEL_LRU_ON, 0, true },      { 0, MODEL_LRU_ON, false },
		{ MODEL_LRU_LOCKED, 0, false }, { 0, MODEL_LRU_LOCKED, false },
		{ MODEL_LRU_DIRTY, 0, false },  { 0, MODEL_LRU_DIRTY, false },
	};
	unsigned which = model_chance(m, 60) ? 0 : (unsigned)model_below(m, ARRAY_SIZE(changes));
	const struct model_change *change = &changes[which];
	uint64_t nr = model_chance(m, 70) ? 1 : 1 + model_below(m, 40);
	struct berth_zone *zone = m->tz->zone;
	struct model_blocks b;
	int ret = 0, expected;

	if (nr > zone_end(m->tz) - pfn)
		nr = zone_end(m->tz) - pfn;
	b = model_blocks(m, pfn, nr);
	expected = !b.tagged || (change->unless_on && b.on) ? -BERTH_EINVAL : 0;
	switch (which) {
	case 0:
		ret = berth_lru_add(zone, pfn, nr);
		break;
	case 1:
		ret = berth_lru_del(zone, pfn, nr);
		break;
	case 2:
	case 3:
		ret = berth_lru_set_unevictable(zone, pfn, nr, which == 2);
		break;
	case 4:
		ret = berth_lru_set_dirty(zone, pfn, nr);
		break;
	default:
		ret = berth_lru_clear_dirty(zone, pfn, nr);
		break;
	}
	assert_int_equal(ret, expected);
	if (!ret)
		model_lru_change(m, b.start, b.end - b.start, change->set, change->clear);
}

/* At once, or by way of a batch: a block goes where it was told to, or stays. */
static inline void op_lru_move(struct model *m, berth_pfn_t pfn)
{
	void (*const moves[])(struct berth_zone * zone, berth_pfn_t pfn) = {
		berth_lru_activate,
		berth_lru_deactivate,
		berth_lru_rotate,
		berth_lru_mark_accessed,
	};
	unsigned which = (unsigned)model_below(m, ARRAY_SIZE(moves)), before_flags, flags;
	char before = berth_lru_where(m->tz->zone, pfn, &before_flags), after;
	bool referenced = before_flags & BERTH_LRU_IS_REFERENCED, asked = which != 3 || referenced;
	char to = before == 'i' && (which == 0 || which == 3) ? 'a' :
		  before == 'a' && which == 1                 ? 'i' :
								before;
	bool tagged = model_blocks(m, pfn, 1).tagged;

	moves[which](m->tz->zone, pfn);
	after = berth_lru_where(m->tz->zone, pfn, &flags);
	if (!tagged)
		assert_true(after == '-' && !flags);
	else if (!asked)
		assert_true(after == before && (flags & BERTH_LRU_IS_REFERENCED));
	else if (before == 'b') /* the batch may have been full, and asked for more than that */
		assert_true(after == 'b' || after == 'i' || after == 'a' || after == 'u');
	else if (m->cpu == TEST_NO_CPU || m->lru_disabled)
		assert_int_equal(after, to);
	else
		assert_true(after == before || after == to || (before == 'i' && after == 'a') ||
			    (before == 'a' && after == 'i'));
}

static inline void op_lru_write(struct model *m, berth_pfn_t pfn)
{
	berth_pfn_t head = BERTH_PFN_NONE;
	unsigned order = 99, given = 98;
	bool is_head = berth_frame_state(m->tz->zone, pfn, &head, &order) == 'u' && head == pfn;
	bool tagged = is_head && model_blocks(m, pfn, 1).tagged;
	bool begun = tagged && (model_lru_at(m, pfn) & MODEL_LRU_WRITEBACK);
	int ret;

	if (m->nr_writing == MODEL_MAX_WRITES)
		return;
	ret = berth_lru_begin_writeback(m->tz->zone, pfn, &given);
	assert_int_equal(ret, begun ? -BERTH_EBUSY : tagged ? 0 : -BERTH_EINVAL);
	if (ret)
		return;
	assert_int_equal(given, order);
	model_writes(m, pfn, order);
}

static inline void op_lru_end_write(struct model *m, berth_pfn_t pfn)
{
	if (m->nr_writing && model_chance(m, 90))
		model_end_write(m, (unsigned)model_below(m, m->nr_writing), model_chance(m, 80));
	else if (!(model_lru_at(m, pfn) & MODEL_LRU_WRITEBACK))
		assert_int_equal(berth_lru_end_writeback(m->tz->zone, pfn, true), -BERTH_EINVAL);
}

/* Batches, for one CPU, for all, or for nobody. */
static inline void op_lru_batches(struct model *m)
{
	struct berth_lru_stats s;

	if (model_chance(m, 40)) {
		berth_lru_add_drain(m->tz->zone);
		return;
	}
	if (m->lru_disabled && model_chance(m, 60)) {
		berth_lru_cache_enable(m->tz->zone);
		m->lru_disabled--;
		return;
	}
	if (m->lru_disabled < 2 && model_chance(m, 30)) {
		berth_lru_cache_disable(m->tz->zone);
		m->lru_disabled++;
	} else {
		berth_lru_add_drain_all(m->tz->zone);
	}
	berth_lru_stats(m->tz->zone, &s);
	assert_int_equal(s.batched, 0);
}

/* What a reclaim of everything has to take: inactive, clean and held by nobody. */
static inline uint64_t model_mark_reclaimable(struct model *m, uint8_t *marks)
{
	uint64_t nr = 0;

	for (uint64_t i = 0; i < m->tz->params.nr_pages; i++) {
		marks[i] = m->kind[i] == MODEL_OF_CACHE && !m->pinned[i] &&
			   m->lru[i] == (MODEL_LRU_TAGGED | MODEL_LRU_ON) &&
			   berth_lru_where(m->tz->zone, m->tz->params.start_pfn + i, NULL) == 'i';
		nr += marks[i];
	}
	return nr;
}

static inline void op_reclaim(struct model *m)
{
	bool all = m->tz->params.nr_pages <= 4096 && model_chance(m, 20);
	uint64_t want = all ? UINT64_MAX : 1 + model_below(m, 64), must = 0, freed;
	uint64_t before = m->nr_dropped;
	uint8_t *marks = all ? test_zalloc(m->tz->params.nr_pages, 1) : NULL;

	if (all) {
		m->busy_percent = m->used_percent = m->dirty_percent = 0;
		berth_lru_add_drain_all(m->tz->zone);
		must = model_mark_reclaimable(m, marks);
	}
	m->writes_may_end = true;
	freed = berth_zone_reclaim(m->tz->zone, want,
				   model_chance(m, 50) ? BERTH_RECLAIM_WRITE : 0);
	m->writes_may_end = false;
	assert_int_equal(freed, m->nr_dropped - before);
	assert_true(freed >= must);
	for (uint64_t i = 0; all && i < m->tz->params.nr_pages; i++)
		if (marks[i])
			assert_int_equal(m->kind[i], MODEL_FREE);
	free(marks);
}

static inline void op_lru(struct model *m)
{
	berth_pfn_t pfn = model_cached(m);
	unsigned dice = (unsigned)model_below(m, 100);

	if (pfn == BERTH_PFN_NONE || model_chance(m, 2))
		pfn = m->tz->params.start_pfn + model_below(m, m->tz->params.nr_pages);
	if (!m->tz->params.lru)
		return;
	if (dice < 50)
		op_lru_change(m, pfn);
	else if (dice < 75)
		op_lru_move(m, pfn);
	else if (dice < 83)
		op_lru_write(m, pfn);
	else if (dice < 94)
		op_lru_end_write(m, pfn);
	else if (dice < 97)
		op_lru_batches(m);
	else
		op_reclaim(m);
}

#endif
