/* SPDX-License-Identifier: MIT */
/*
 * An owner of movable frames with a page table, as the layers above the core have.
 *
 * table[page] is the pfn of the owner's page; the cookie of a page is base + page. Its migrate
 * operation really moves: it verifies what the core says against the table, freezes the block,
 * copies the fake contents, updates table and reverse map and spoils the old frames. A script makes
 * it answer BUSY or GONE for chosen pages, or stop after some blocks.
 */
#ifndef BERTH_TESTOWNER_H
#define BERTH_TESTOWNER_H

#include "testzone.h"

enum test_answer {
	TEST_MOVES,
	TEST_BUSY,      /* always busy */
	TEST_BUSY_ONCE, /* busy the first time */
	TEST_GONE,      /* says gone though it isn't, always */
	TEST_GONE_ONCE,
};

struct test_owner {
	struct test_zone *tz;
	unsigned id;
	const char *name;
	struct berth_owner_ops ops;
	uint64_t base; /* cookie of page 0: has its top bit set, to see all 64 bits come back */
	berth_pfn_t *table; /* by page; BERTH_PFN_NONE: nothing there */
	uint32_t *contents; /* what the page must read */
	uint8_t *answers;   /* enum test_answer by page */
	uint64_t nr_pages;  /* of the arrays */
	uint64_t next_page; /* first page never used */
	uint32_t next_content;
	const char *busy_holder;
	bool arrives; /* tells the core of each arrival at once */
	bool stops;   /* leaves what comes after `stop_after` more blocks PENDING */
	uint64_t stop_after;
	/* Called before each batch; for tests that change something meanwhile. */
	void (*on_batch)(struct test_owner *owner);
	void *user; /* the test's */
	/* What happened. */
	uint64_t nr_batches, nr_blocks, nr_moved_pages, nr_holder_calls;
	unsigned largest_batch, largest_order;
};

#define TEST_SPOILED 0xdeadbeefu

static inline bool test_owner_has(const struct test_owner *o, uint64_t page)
{
	return page < o->nr_pages && o->table[page] != BERTH_PFN_NONE;
}

/* The block is what the core says it is, and its destination is nobody's. */
static inline void test_owner_check_move(struct test_owner *o, const struct berth_move *m)
{
	uint64_t page = m->cookie - o->base;

	assert_true(m->order <= zone_max_order(o->tz));
	assert_int_equal(m->owner, o->id);
	assert_int_equal(m->src & ((1ull << m->order) - 1), 0);
	assert_int_equal(m->dst & ((1ull << m->order) - 1), 0);
	for (uint64_t i = 0; i < 1ull << m->order; i++) {
		const struct test_frame *src = test_frame(o->tz, m->src + i);
		const struct test_frame *dst = test_frame(o->tz, m->dst + i);

		assert_true(test_owner_has(o, page + i));
		assert_int_equal(o->table[page + i], m->src + i);
		assert_int_equal(src->owner, o->id);
		assert_int_equal(src->page, page + i);
		assert_int_equal(dst->owner, 0);
		assert_false(m->dst + i >= o->tz->no_dst_start && m->dst + i < o->tz->no_dst_end);
	}
}

/* The scripted answer of a block: the first of its pages that has one. */
static inline enum test_answer test_owner_answer(struct test_owner *o, uint64_t page,
						 unsigned order)
{
	for (uint64_t i = 0; i < 1ull << order; i++) {
		enum test_answer answer = o->answers[page + i];

		if (answer == TEST_MOVES)
			continue;
		if (answer == TEST_BUSY_ONCE || answer == TEST_GONE_ONCE)
			o->answers[page + i] = TEST_MOVES;
		return answer;
	}
	return TEST_MOVES;
}

static inline void test_owner_move_contents(struct test_owner *o, const struct berth_move *m)
{
	uint64_t page = m->cookie - o->base;

	for (uint64_t i = 0; i < 1ull << m->order; i++) {
		struct test_frame *src = test_frame(o->tz, m->src + i);
		struct test_frame *dst = test_frame(o->tz, m->dst + i);

		*dst = *src;
		*src = (struct test_frame){ .content = TEST_SPOILED };
		o->table[page + i] = m->dst + i;
	}
	o->nr_moved_pages += 1ull << m->order;
}

static inline void test_owner_move(struct test_owner *o, struct berth_move *m)
{
	enum test_answer answer;

	test_owner_check_move(o, m);
	answer = test_owner_answer(o, m->cookie - o->base, m->order);
	if (answer == TEST_GONE || answer == TEST_GONE_ONCE) {
		m->result = BERTH_MOVE_GONE;
		return;
	}
	if (answer != TEST_MOVES) {
		m->result = BERTH_MOVE_BUSY;
		m->holder = o->busy_holder;
		return;
	}
	if (!berth_page_freeze(o->tz->zone, m->src)) {
		m->result = BERTH_MOVE_BUSY;
		m->holder = "frozen out";
		return;
	}
	test_owner_move_contents(o, m);
	m->result = BERTH_MOVE_MOVED;
	if (o->arrives)
		berth_move_arrived(o->tz->zone, m);
}

static inline void test_owner_migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct test_owner *o = ctx;

	assert_true(nr_moves > 0);
	o->nr_batches++;
	o->nr_blocks += nr_moves;
	if (nr_moves > o->largest_batch)
		o->largest_batch = nr_moves;
	if (o->on_batch)
		o->on_batch(o);
	for (unsigned i = 0; i < nr_moves; i++) {
		assert_int_equal(moves[i].result, BERTH_MOVE_PENDING);
		assert_true(i == 0 || moves[i].cookie > moves[i - 1].cookie);
		if (moves[i].order > o->largest_order)
			o->largest_order = moves[i].order;
		if (o->stops && o->stop_after == 0)
			continue;
		if (o->stops)
			o->stop_after--;
		test_owner_move(o, &moves[i]);
	}
}

static inline const char *test_owner_holder(void *ctx, berth_pfn_t pfn, uint64_t cookie)
{
	struct test_owner *o = ctx;

	o->nr_holder_calls++;
	assert_true(test_owner_has(o, cookie - o->base));
	assert_int_equal(o->table[cookie - o->base], pfn);
	return o->busy_holder;
}

/* An owner with room for nr_pages pages. */
static inline struct test_owner *owner_open_sized(struct test_zone *tz, const char *name,
						  uint64_t nr_pages)
{
	struct test_owner *o = test_zalloc(1, sizeof(*o));

	o->tz = tz;
	o->name = name;
	o->ops = (struct berth_owner_ops){
		.name = name,
		.migrate = test_owner_migrate,
		.holder = test_owner_holder,
	};
	assert_int_equal(berth_owner_register(tz->zone, &o->ops, o, &o->id), 0);
	assert_true(o->id >= 1);
	o->base = (1ull << 63) | ((uint64_t)o->id << 40);
	o->nr_pages = nr_pages;
	o->table = test_zalloc(o->nr_pages, sizeof(*o->table));
	o->contents = test_zalloc(o->nr_pages, sizeof(*o->contents));
	o->answers = test_zalloc(o->nr_pages, sizeof(*o->answers));
	for (uint64_t i = 0; i < o->nr_pages; i++)
		o->table[i] = BERTH_PFN_NONE;
	return o;
}

static inline struct test_owner *owner_open(struct test_zone *tz, const char *name)
{
	return owner_open_sized(tz, name, 4 * tz->params.nr_pages);
}

/* The page, if it's there, reads what was written to it and lives in a frame that is in use. */
static inline void owner_verify_page(struct test_owner *o, uint64_t page)
{
	const struct test_frame *f;

	if (!test_owner_has(o, page))
		return;
	f = test_frame(o->tz, o->table[page]);
	assert_int_equal(f->owner, o->id);
	assert_int_equal(f->page, page);
	assert_int_equal(f->content, o->contents[page]);
	assert_int_equal(frame_state(o->tz, o->table[page]), 'u');
}

/* Every page. */
static inline void owner_verify(struct test_owner *o)
{
	for (uint64_t page = 0; page < o->next_page; page++)
		owner_verify_page(o, page);
}

/* Verifies the contents once more; the zone must still be open. */
static inline void owner_close(struct test_owner *o)
{
	owner_verify(o);
	free(o->table);
	free(o->contents);
	free(o->answers);
	free(o);
}

/* Writes fresh contents to a block that was just allocated at `page`. */
static inline void owner_map(struct test_owner *o, uint64_t page, berth_pfn_t pfn,
			     uint64_t nr_pages)
{
	assert_true(page + nr_pages <= o->nr_pages);
	for (uint64_t i = 0; i < nr_pages; i++) {
		struct test_frame *f = test_frame(o->tz, pfn + i);

		assert_int_equal(f->owner, 0);
		assert_int_equal(o->table[page + i], BERTH_PFN_NONE);
		o->contents[page + i] = ((uint32_t)o->id << 24) | (++o->next_content & 0xffffff);
		*f = (struct test_frame){ o->contents[page + i], o->id, page + i };
		o->table[page + i] = pfn + i;
		o->answers[page + i] = TEST_MOVES;
	}
}

static inline void owner_unmap(struct test_owner *o, uint64_t page, uint64_t nr_pages)
{
	for (uint64_t i = 0; i < nr_pages; i++) {
		struct test_frame *f = test_frame(o->tz, o->table[page + i]);

		assert_int_equal(f->content, o->contents[page + i]);
		*f = (struct test_frame){ .content = TEST_SPOILED };
		o->table[page + i] = BERTH_PFN_NONE;
	}
}

/* Tries to allocate a block; 0 and its first page in *page, or the core's error. */
static inline int owner_try_alloc(struct test_owner *o, unsigned order, unsigned gfp,
				  uint64_t *page)
{
	berth_pfn_t pfn = BERTH_PFN_NONE;
	int ret = berth_alloc_pages(o->tz->zone, order, gfp, o->id, o->base + o->next_page, &pfn);

	if (ret)
		return ret;
	assert_int_equal(pfn & ((1ull << order) - 1), 0);
	owner_map(o, o->next_page, pfn, 1ull << order);
	*page = o->next_page;
	o->next_page += 1ull << order;
	return 0;
}

/* Allocates a movable block that must be there; returns its first page. */
static inline uint64_t owner_alloc_gfp(struct test_owner *o, unsigned order, unsigned gfp)
{
	uint64_t page = UINT64_MAX;

	assert_int_equal(owner_try_alloc(o, order, gfp, &page), 0);
	zone_ok(o->tz);
	return page;
}

static inline uint64_t owner_alloc(struct test_owner *o, unsigned order)
{
	return owner_alloc_gfp(o, order, BERTH_GFP_MOVABLE);
}

/* Frees the block that starts at `page`, as it is now. */
static inline void owner_free(struct test_owner *o, uint64_t page)
{
	berth_pfn_t pfn = o->table[page], head = BERTH_PFN_NONE;
	unsigned order = 99;

	assert_int_equal(berth_frame_state(o->tz->zone, pfn, &head, &order), 'u');
	assert_int_equal(head, pfn);
	owner_unmap(o, page, 1ull << order);
	assert_int_equal(berth_free_pages(o->tz->zone, pfn), 0);
	zone_ok(o->tz);
}

/* Frees every block of the owner that starts in [start, end), and verifies once. */
static inline void owner_free_all(struct test_owner *o, berth_pfn_t start, berth_pfn_t end)
{
	for (berth_pfn_t pfn = start; pfn < end; pfn++) {
		berth_pfn_t head = BERTH_PFN_NONE;
		unsigned order = 0;

		if (test_frame(o->tz, pfn)->owner != o->id ||
		    berth_frame_state(o->tz->zone, pfn, &head, &order) != 'u' || head != pfn)
			continue;
		owner_unmap(o, test_frame(o->tz, pfn)->page, 1ull << order);
		assert_int_equal(berth_free_pages(o->tz->zone, pfn), 0);
	}
	zone_ok(o->tz);
}

/* Allocates movable blocks of this order until none is left; returns how many. */
static inline uint64_t owner_exhaust(struct test_owner *o, unsigned order, unsigned gfp)
{
	uint64_t n = 0, page;

	while (owner_try_alloc(o, order, gfp, &page) == 0)
		n++;
	zone_ok(o->tz);
	return n;
}

/* Scripts the answer for [page, page + nr_pages). */
static inline void owner_script(struct test_owner *o, uint64_t page, uint64_t nr_pages,
				enum test_answer answer)
{
	memset(o->answers + page, (int)answer, nr_pages);
}

/* The owner's page in this frame; fails when there is none. */
static inline uint64_t owner_page_at(struct test_owner *o, berth_pfn_t pfn)
{
	const struct test_frame *f = test_frame(o->tz, pfn);

	assert_int_equal(f->owner, o->id);
	return f->page;
}

/*
 * Frees every block of the owner but those that cover one of the `nr_keep` frames of `keep`, so
 * that borrowed memory stands exactly where a test wants it.
 */
static inline void owner_keep_only(struct test_owner *o, const berth_pfn_t *keep, size_t nr_keep)
{
	uint64_t page = 0;

	while (page < o->next_page) {
		berth_pfn_t head = BERTH_PFN_NONE;
		unsigned order = 0;
		bool kept = false;

		if (!test_owner_has(o, page)) {
			page++;
			continue;
		}
		berth_frame_state(o->tz->zone, o->table[page], &head, &order);
		assert_int_equal(head, o->table[page]);
		for (size_t i = 0; i < nr_keep; i++)
			kept |= keep[i] >= head && keep[i] < head + (1ull << order);
		if (!kept) {
			owner_unmap(o, page, 1ull << order);
			assert_int_equal(berth_free_pages(o->tz->zone, head), 0);
		}
		page += 1ull << order;
	}
	berth_pcp_drain_all(o->tz->zone);
	zone_ok(o->tz);
}

#endif
