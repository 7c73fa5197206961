/* SPDX-License-Identifier: MIT */
/*
 * The naive model that random operations are compared with: one byte a frame says who has it, one
 * whether its block is pinned, one whether an area's claim covers its bit. Blocks, lists, lending
 * and moving are unknown to it; what it can't know (which frame an allocation gets, where a block
 * moves to, which list a block is on) it takes from the core and verifies.
 */
#ifndef BERTH_TEST_MODEL_H
#define BERTH_TEST_MODEL_H

#include <berth/lru.h>

#include "tests/include/testowner.h"

#define MODEL_OWNERS 3u
#define MODEL_MAX_PINS 64u
#define MODEL_MAX_CLAIMS 256u
#define MODEL_MAX_AREAS 6u
#define MODEL_MAX_WRITES 64u
#define MODEL_MAX_PREPARED 4u
/* The owner whose blocks are on LRU lists, in zones that have them. */
#define MODEL_CACHE MODEL_OWNERS

/* What the model's byte says of a frame; MODEL_USED + id: allocated to that owner. */
enum model_kind {
	MODEL_HOLE,
	MODEL_FREE,
	MODEL_CLAIMED,
	MODEL_TAKEN,  /* by a claim that is being prepared */
	MODEL_ORPHAN, /* freed by its owner, but pinned */
	MODEL_USED,   /* + 0: nobody's, so unmovable */
};

/* What the model's second byte says of a frame of the cache. */
enum model_lru {
	MODEL_LRU_TAGGED = 1, /* allocated with BERTH_GFP_LRU */
	MODEL_LRU_ON = 2,     /* on some list, or on its way there */
	MODEL_LRU_DIRTY = 4,
	MODEL_LRU_LOCKED = 8,     /* unevictable */
	MODEL_LRU_WRITEBACK = 16, /* so it is pinned; stays when its owner frees it */
};

struct model_area_shape {
	uint64_t start, nr_pages; /* from the zone's first pageblock boundary, in pageblocks */
	unsigned order_per_bit;
	enum berth_lend_policy lend;
};

struct model_shape {
	const char *name;
	struct berth_zone_params params;
	uint64_t hole_start, hole_pages; /* from start_pfn */
	struct model_area_shape areas[MODEL_MAX_AREAS];
	unsigned nr_areas;
	unsigned full_every;       /* operations between two full comparisons */
	unsigned nr_seeds, nr_ops; /* in a default run */
};

struct model_claim {
	struct model_area *area; /* NULL: berth_alloc_contig_range() */
	berth_pfn_t pfn;
	uint64_t nr_pages;
};

struct model_area {
	struct berth_cma *cma;
	berth_pfn_t start;
	uint64_t nr_pages;
	uint64_t bit_pages;
	enum berth_lend_policy lend;
	uint64_t keep;    /* it is lent as long as so many of its frames stay free */
	uint64_t nr_free; /* frames, by the model */
	uint64_t nr_claimed;
};

/* A claim that is being prepared, or ready. */
struct model_prepared {
	struct berth_cma_prepared *prepared; /* NULL: this place is free */
	void *memory;
	struct model_area *area;
	struct berth_claim_params params;
	berth_pfn_t pfn; /* of what is ready; BERTH_PFN_NONE: pending */
};

struct model {
	const struct model_shape *shape;
	struct test_zone *tz;
	uint64_t random;
	uint64_t seed, op;
	unsigned max_order;
	/* By pfn - start_pfn. */
	uint8_t *kind, *pinned, *bit, *lru;
	uint8_t *taker;    /* of TAKEN frames: which preparation, from 1 */
	uint16_t *pins_at; /* pins of the block whose head this is */
	uint64_t nr_free, nr_used, nr_claimed, nr_pinned, nr_managed;
	struct test_owner *owners[MODEL_OWNERS + 1]; /* by id; 0 is nobody */
	uint32_t *slot_pages[MODEL_OWNERS + 1];      /* see model_find_pages() */
	uint64_t slot_hint;
	uint64_t region_pages;
	struct model_area areas[MODEL_MAX_AREAS];
	unsigned nr_areas;
	berth_pfn_t pins[MODEL_MAX_PINS];
	unsigned nr_pins;
	struct model_claim claims[MODEL_MAX_CLAIMS];
	unsigned nr_claims;
	berth_pfn_t writing[MODEL_MAX_WRITES]; /* blocks under write-back */
	unsigned nr_writing;
	uint64_t nr_dirty, nr_writeback, nr_on;
	unsigned lru_disabled;
	/* What the cache answers when it is asked to drop or write, in percent. */
	unsigned busy_percent, used_percent, dirty_percent;
	uint64_t nr_dropped; /* frames, by the cache */
	bool writes_may_end; /* while somebody waits */
	struct model_prepared prepared[MODEL_MAX_PREPARED];
	unsigned nr_pending;
	unsigned cpu;
	bool disturbs;  /* owners answer busy and gone now and then */
	bool disturbed; /* one did, during this operation */
	uint64_t target_used;
};

static inline uint64_t model_below(struct model *m, uint64_t bound)
{
	return test_random_below(&m->random, bound);
}

static inline bool model_chance(struct model *m, unsigned percent)
{
	return model_below(m, 100) < percent;
}

static inline uint64_t model_index(const struct model *m, berth_pfn_t pfn)
{
	return pfn - m->tz->params.start_pfn;
}

static inline struct model_area *model_area_of(struct model *m, berth_pfn_t pfn)
{
	for (unsigned i = 0; i < m->nr_areas; i++)
		if (pfn >= m->areas[i].start && pfn < m->areas[i].start + m->areas[i].nr_pages)
			return &m->areas[i];
	return NULL;
}

/* ---- The only place that changes a byte ------------------------------------------------------ */

static inline void model_count(struct model *m, struct model_area *area, uint8_t kind, int64_t by)
{
	if (kind == MODEL_FREE) {
		m->nr_free += (uint64_t)by;
		if (area)
			area->nr_free += (uint64_t)by;
	} else if (kind == MODEL_CLAIMED || kind == MODEL_TAKEN) {
		m->nr_claimed += (uint64_t)by;
	} else if (kind >= MODEL_ORPHAN) {
		m->nr_used += (uint64_t)by;
	}
}

/* Every frame of the range was `from` and becomes `to`. */
static inline void model_set(struct model *m, berth_pfn_t pfn, uint64_t nr_pages, uint8_t from,
			     uint8_t to)
{
	for (uint64_t i = 0; i < nr_pages; i++) {
		struct model_area *area = model_area_of(m, pfn + i);
		uint8_t *kind = &m->kind[model_index(m, pfn + i)];
		struct test_frame *frame = test_frame(m->tz, pfn + i);

		if (*kind != from)
			fail_msg("frame %#llx is %u, not %u", (unsigned long long)(pfn + i), *kind,
				 from);
		model_count(m, area, from, -1);
		model_count(m, area, to, 1);
		*kind = to;
		/* Owners keep the reverse map of their frames themselves. */
		if (to == MODEL_FREE && from <= MODEL_USED)
			frame->owner = 0;
		else if (to <= MODEL_USED && to != MODEL_FREE)
			frame->owner = 1000u + to;
	}
}

static inline bool model_all(const struct model *m, berth_pfn_t pfn, uint64_t nr_pages,
			     uint8_t kind)
{
	for (uint64_t i = 0; i < nr_pages; i++)
		if (m->kind[model_index(m, pfn + i)] != kind)
			return false;
	return true;
}

/* Likewise the flags of blocks on LRU lists. */
static inline void model_lru_change(struct model *m, berth_pfn_t pfn, uint64_t nr_pages,
				    unsigned set, unsigned clear)
{
	for (uint64_t i = model_index(m, pfn); i < model_index(m, pfn) + nr_pages; i++) {
		unsigned old = m->lru[i], now = (old & ~clear) | set;

		m->nr_dirty += !!(now & MODEL_LRU_DIRTY) - !!(old & MODEL_LRU_DIRTY);
		m->nr_writeback += !!(now & MODEL_LRU_WRITEBACK) - !!(old & MODEL_LRU_WRITEBACK);
		m->nr_on += !!(now & MODEL_LRU_ON) - !!(old & MODEL_LRU_ON);
		m->lru[i] = (uint8_t)now;
	}
}

/* Every pin of the block [head, head + 2^order). */
static inline void model_pin(struct model *m, berth_pfn_t head, unsigned order)
{
	if (m->pins_at[model_index(m, head)]++ == 0) {
		memset(&m->pinned[model_index(m, head)], 1, 1ull << order);
		m->nr_pinned++;
	}
}

/* The last one frees what its owner has freed. */
static inline void model_unpin(struct model *m, berth_pfn_t head, unsigned order)
{
	if (--m->pins_at[model_index(m, head)] == 0) {
		memset(&m->pinned[model_index(m, head)], 0, 1ull << order);
		m->nr_pinned--;
		if (m->kind[model_index(m, head)] == MODEL_ORPHAN)
			model_set(m, head, 1ull << order, MODEL_ORPHAN, MODEL_FREE);
	}
}

/* ---- Owners' pages --------------------------------------------------------------------------- */

/*
 * Each order has a region of the page table of its own, in slots of 2^order pages, twice as many as
 * blocks of that order fit the zone: so a run of unused pages is found at once.
 */
static inline uint64_t model_slot(const struct model *m, uint64_t page)
{
	uint64_t order = page / m->region_pages;

	return order * m->region_pages + (page % m->region_pages >> order);
}

static inline uint64_t model_find_pages(struct model *m, unsigned id, unsigned order)
{
	uint64_t slots = m->region_pages >> order;

	for (uint64_t i = 0; i < slots; i++) {
		uint64_t slot = m->slot_hint++ % slots;

		if (m->slot_pages[id][order * m->region_pages + slot] == 0)
			return order * m->region_pages + (slot << order);
	}
	fail_msg("no unused pages for order %u", order);
	return 0;
}

static inline void model_map(struct model *m, unsigned id, uint64_t page, berth_pfn_t pfn,
			     uint64_t nr_pages)
{
	owner_map(m->owners[id], page, pfn, nr_pages);
	m->slot_pages[id][model_slot(m, page)] = (uint32_t)nr_pages;
}

/* The frames [pfn, pfn + nr) are no longer the owner's. */
static inline void model_unmap(struct model *m, unsigned id, berth_pfn_t pfn, uint64_t nr_pages)
{
	for (uint64_t i = 0; i < nr_pages; i++) {
		uint64_t page = owner_page_at(m->owners[id], pfn + i);

		owner_unmap(m->owners[id], page, 1);
		m->slot_pages[id][model_slot(m, page)]--;
	}
}

/* As test_owner_migrate(), with answers by chance, and told to the model. */
static inline void model_disturb(struct model *m, struct test_owner *o,
				 const struct berth_move *move)
{
	uint64_t page = move->cookie - o->base + model_below(m, 1ull << move->order);

	m->disturbed = true;
	o->answers[page] = model_chance(m, 80) ? TEST_BUSY_ONCE : TEST_GONE_ONCE;
}

static inline void model_migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct test_owner *o = ctx;
	struct model *m = o->user;

	o->stops = false;
	if (m->disturbs && model_chance(m, 20))
		model_disturb(m, o, &moves[model_below(m, nr_moves)]);
	if (m->disturbs && model_chance(m, 3)) {
		m->disturbed = true;
		o->stops = true;
		o->stop_after = model_below(m, nr_moves);
	}
	test_owner_migrate(o, moves, nr_moves);
	for (unsigned i = 0; i < nr_moves; i++) {
		uint64_t nr = 1ull << moves[i].order;

		/* What was scripted but not reached mustn't surprise a later operation. */
		owner_script(o, moves[i].cookie - o->base, nr, TEST_MOVES);
		if (moves[i].result != BERTH_MOVE_MOVED)
			continue;
		/* Never into a range that somebody empties. */
		assert_int_not_equal(berth_pageblock_migratetype(m->tz->zone, moves[i].dst),
				     BERTH_ISOLATE);
		model_set(m, moves[i].dst, nr, MODEL_FREE, (uint8_t)(MODEL_USED + o->id));
		model_set(m, moves[i].src, nr, (uint8_t)(MODEL_USED + o->id), MODEL_FREE);
		model_lru_change(m, moves[i].dst, nr, m->lru[model_index(m, moves[i].src)], 255);
		model_lru_change(m, moves[i].src, nr, 0, 255);
	}
}

static inline const char *model_holder(void *ctx, berth_pfn_t pfn, uint64_t cookie)
{
	(void)ctx;
	(void)pfn;
	(void)cookie;
	return "holder";
}

/* ---- Setting up ------------------------------------------------------------------------------ */

static inline void model_open_owners(struct model *m)
{
	uint64_t largest = 1ull << m->max_order, seed_bits = m->seed;

	m->region_pages = 2 * ((m->tz->params.nr_pages + largest - 1) & ~(largest - 1));
	for (unsigned i = 1; i <= MODEL_OWNERS; i++) {
		static const char *const names[] = { "", "one", "two", "three" };
		uint64_t nr = m->region_pages * (m->max_order + 1);
		struct test_owner *o = owner_open_sized(m->tz, names[i], nr);

		assert_int_equal(o->id, i);
		o->next_page = o->nr_pages;
		/* The registered operations stay where they are; only what they call changes. */
		o->ops.migrate = model_migrate;
		o->ops.holder = model_holder;
		o->user = m;
		o->arrives = (seed_bits >> i) & 1;
		m->owners[i] = o;
		m->slot_pages[i] = test_zalloc(nr, sizeof(uint32_t));
	}
}

static inline void model_open_areas(struct model *m)
{
	static const char *const names[] = { "a", "b", "c", "d", "e", "f" };
	uint64_t size = 1ull << zone_pageblock_order(m->tz);
	berth_pfn_t base = (m->tz->params.start_pfn + size - 1) & ~(size - 1);

	for (unsigned i = 0; i < m->shape->nr_areas; i++) {
		const struct model_area_shape *shape = &m->shape->areas[i];
		struct model_area *area = &m->areas[i];

		area->start = base + shape->start * size;
		area->nr_pages = shape->nr_pages * size;
		area->bit_pages = 1ull << shape->order_per_bit;
		area->lend = shape->lend;
		area->cma = area_declare(m->tz, names[i], area->start, area->nr_pages,
					 shape->order_per_bit, shape->lend);
		area->nr_free = area->nr_pages;
		m->nr_areas++;
	}
}

static inline void model_add_memory(struct model *m)
{
	const struct model_shape *shape = m->shape;
	berth_pfn_t start = shape->params.start_pfn;
	uint64_t nr = shape->params.nr_pages, before = shape->hole_start;
	uint64_t after = before + shape->hole_pages;

	if (before)
		assert_int_equal(berth_zone_add_memory(m->tz->zone, start, before), 0);
	assert_int_equal(berth_zone_add_memory(m->tz->zone, start + after, nr - after), 0);
	m->nr_managed = nr - shape->hole_pages;
	m->nr_free = m->nr_managed;
	memset(m->kind, MODEL_FREE, nr);
	memset(m->kind + before, MODEL_HOLE, shape->hole_pages);
}

static inline struct model *model_open(const struct model_shape *shape, uint64_t seed)
{
	struct model *m = test_zalloc(1, sizeof(*m));
	uint64_t nr = shape->params.nr_pages;

	m->shape = shape;
	m->seed = seed;
	m->random = seed;
	m->tz = test_zone_open_empty(&shape->params);
	m->max_order = zone_max_order(m->tz);
	m->kind = test_zalloc(nr, 1);
	m->pinned = test_zalloc(nr, 1);
	m->bit = test_zalloc(nr, 1);
	m->lru = test_zalloc(nr, 1);
	m->taker = test_zalloc(nr, 1);
	m->cpu = TEST_NO_CPU;
	m->pins_at = test_zalloc(nr, sizeof(*m->pins_at));
	model_add_memory(m);
	model_open_areas(m);
	model_open_owners(m);
	return m;
}

static inline void model_close(struct model *m)
{
	for (unsigned i = 1; i <= MODEL_OWNERS; i++) {
		free(m->slot_pages[i]);
		owner_close(m->owners[i]);
	}
	free(m->kind);
	free(m->pinned);
	free(m->bit);
	free(m->lru);
	free(m->taker);
	free(m->pins_at);
	zone_close(m->tz);
	free(m);
}

/* ---- Comparing ------------------------------------------------------------------------------- */

static inline void model_compare_lists(struct model *m)
{
	struct berth_lru_stats s;
	uint64_t on;

	berth_lru_stats(m->tz->zone, &s);
	on = s.nr_pages[BERTH_LRU_INACTIVE] + s.nr_pages[BERTH_LRU_ACTIVE] +
	     s.nr_pages[BERTH_LRU_UNEVICTABLE];
	assert_int_equal(s.dirty, m->nr_dirty);
	assert_int_equal(s.writeback, m->nr_writeback);
	assert_int_equal(s.isolated, 0);
	assert_true(s.batched ? on <= m->nr_on : on == m->nr_on);
}

/* O(1): the sums. */
static inline void model_compare_sums(struct model *m)
{
	struct berth_zone_stats s = zone_stats(m->tz);

	assert_int_equal(s.managed_pages, m->nr_managed);
	assert_int_equal(s.free_pages + s.pcp_pages, m->nr_free);
	assert_int_equal(s.used_pages, m->nr_used);
	assert_int_equal(s.claimed_pages, m->nr_claimed);
	assert_int_equal(s.pinned_blocks, m->nr_pinned);
	model_compare_lists(m);
}

static inline void model_compare_frame(struct model *m, berth_pfn_t pfn)
{
	char state = frame_state(m->tz, pfn);
	bool same;

	switch (m->kind[model_index(m, pfn)]) {
	case MODEL_HOLE:
		same = state == '-';
		break;
	case MODEL_FREE:
		same = state == 'f' || state == 'p';
		break;
	case MODEL_CLAIMED:
	case MODEL_TAKEN:
		same = state == 'c';
		break;
	default:
		same = state == 'u';
		break;
	}
	if (!same)
		fail_msg("frame %#llx is '%c', the model says %u", (unsigned long long)pfn, state,
			 m->kind[model_index(m, pfn)]);
	if (state == 'u')
		assert_int_equal(berth_page_pinned(m->tz->zone, pfn),
				 m->pinned[model_index(m, pfn)]);
}

/* What the lists say of a frame; frames by list are added to nr. */
static inline void model_compare_lru(struct model *m, berth_pfn_t pfn, uint64_t nr[128])
{
	unsigned lru = m->lru[model_index(m, pfn)], flags = 0;
	char where = berth_lru_where(m->tz->zone, pfn, &flags);

	nr[(unsigned char)where & 127]++;
	flags &= ~BERTH_LRU_IS_REFERENCED;
	if (m->kind[model_index(m, pfn)] == MODEL_ORPHAN) {
		assert_int_equal(lru & ~MODEL_LRU_WRITEBACK, 0);
		assert_true(where == '-' && !flags);
		return;
	}
	assert_int_equal(!!(lru & MODEL_LRU_DIRTY), !!(flags & BERTH_LRU_IS_DIRTY));
	assert_int_equal(!!(lru & MODEL_LRU_LOCKED), !!(flags & BERTH_LRU_IS_UNEVICTABLE));
	assert_int_equal(!!(lru & MODEL_LRU_WRITEBACK), !!(flags & BERTH_LRU_IS_WRITEBACK));
	if (!(lru & MODEL_LRU_ON))
		assert_int_equal(where, '-');
	else if (lru & MODEL_LRU_LOCKED)
		assert_true(where == 'u' || where == 'b');
	else
		assert_true(where == 'i' || where == 'a' || where == 'b');
}

static inline void model_compare_area(struct model *m, struct model_area *area)
{
	struct berth_cma_stats s = area_stats(area->cma);
	uint64_t free = 0, claimable = 0, free_best = 0, claimable_best = 0, nr_free = 0;

	for (berth_pfn_t pfn = area->start; pfn < area->start + area->nr_pages; pfn++) {
		uint64_t i = model_index(m, pfn);
		bool is_free = frame_state(m->tz, pfn) == 'f';

		nr_free += is_free;
		free = is_free ? free + 1 : 0;
		claimable = m->kind[i] == MODEL_CLAIMED || m->pinned[i] ? 0 : claimable + 1;
		free_best = free > free_best ? free : free_best;
		claimable_best = claimable > claimable_best ? claimable : claimable_best;
	}
	assert_int_equal(s.claimed_pages, area->nr_claimed);
	assert_int_equal(s.free_pages, nr_free);
	assert_int_equal(s.largest_free_pages, free_best);
	assert_int_equal(s.largest_claimable_pages, claimable_best);
}

/* Every page of the owner, without a look at slots that are empty. */
static inline void model_verify_owner(struct model *m, unsigned id)
{
	for (unsigned order = 0; order <= zone_max_order(m->tz); order++) {
		uint64_t first = order * m->region_pages;

		for (uint64_t slot = 0; slot < m->region_pages >> order; slot++) {
			uint64_t page = first + (slot << order);

			if (!m->slot_pages[id][first + slot])
				continue;
			for (uint64_t i = 0; i < 1ull << order; i++)
				owner_verify_page(m->owners[id], page + i);
		}
	}
}

/* O(frames): every byte, every content, every area, and the core's own check. */
static inline void model_compare_all(struct model *m)
{
	uint64_t nr[128] = { 0 };
	struct berth_lru_stats s;

	zone_ok(m->tz);
	for (uint64_t i = 0; i < m->tz->params.nr_pages; i++)
		model_compare_frame(m, m->tz->params.start_pfn + i);
	/* What a preparation has fenced off is in none of an area's numbers. */
	for (unsigned i = 0; i < m->nr_areas && !m->nr_pending; i++)
		model_compare_area(m, &m->areas[i]);
	if (m->tz->params.lru) {
		for (uint64_t i = 0; i < m->tz->params.nr_pages; i++)
			model_compare_lru(m, m->tz->params.start_pfn + i, nr);
		berth_lru_stats(m->tz->zone, &s);
		assert_int_equal(s.nr_pages[BERTH_LRU_INACTIVE], nr['i']);
		assert_int_equal(s.nr_pages[BERTH_LRU_ACTIVE], nr['a']);
		assert_int_equal(s.nr_pages[BERTH_LRU_UNEVICTABLE], nr['u']);
	}
	for (unsigned i = 1; i <= MODEL_OWNERS; i++)
		model_verify_owner(m, i);
}

#endif
