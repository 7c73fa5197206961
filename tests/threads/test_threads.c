/* SPDX-License-Identifier: MIT */
/*
 * Real threads on the Linux port: workers allocate, write, read, pin and free while claimers take
 * and give back areas and ranges, and so move the workers' pages under them, as compaction does.
 *
 * A page has one word of content, in the array `content` at the frame where the page is. Only its
 * worker touches it - under the owner's lock, or without it while the page is pinned - and the
 * mover, under the lock. So the test has no race of its own: what a sanitizer reports is
 * the core's, and a lost write shows as a wrong word.
 *
 *	BERTH_THREADS=n       workers, 4 by default
 *	BERTH_THREADS_OPS=n   operations of each worker
 */
#include <pthread.h>
#include <sched.h>

#include "port/linux/port_linux.h"
#include "tests/include/testthreads.h"
#include "tests/include/testzone.h"

#define ZONE_PAGES 8192u
#define AREA_PAGES 2048u
#define MAX_WORKERS 32u
#define SLOTS 400u /* runs of pages that a worker can hold */
#define SLOT_PAGES 16u
#define CLAIMED 0xc1a1000000000000u
#define FREED 0xf4eeu

struct world;

struct run {
	uint32_t nr_pages; /* 0: none */
	bool movable;
	berth_pfn_t fixed; /* where it is, when it isn't movable */
	uint64_t value;    /* what page 0 must read; page i reads value + i */
};

struct worker {
	struct world *world;
	unsigned id;
	uint64_t random;
	struct run runs[SLOTS];
	uint64_t nr_allocs, nr_failed, nr_pins;
	pthread_t thread;
};

struct config {
	unsigned nr_claimers; /* of an area each, */
	bool one_area;        /* or all of the first one */
	bool claims_ranges;   /* one more, of ranges anywhere */
	unsigned nr_compacters;
	bool pins, restarts, watches;
	unsigned max_order;
	unsigned nr_cpus;
	bool no_barrier;
	uint64_t ballast; /* frames that nobody can use or move */
};

struct world {
	struct config config;
	struct test_zone *tz;
	struct berth_zone *zone;
	struct berth_port_ops ops;
	struct berth_cma *areas[2];
	unsigned owner;
	pthread_mutex_t lock; /* guards `table` */
	berth_pfn_t *table;   /* by page = (worker * SLOTS + slot) * SLOT_PAGES + i */
	uint64_t *content;    /* by pfn */
	berth_pfn_t *ballast;
	struct worker workers[MAX_WORKERS];
	unsigned nr_workers;
	uint64_t nr_ops;
	atomic_bool stop;
	atomic_uint_fast64_t nr_claims, nr_moved, nr_large;
};

/* ---- The owner ------------------------------------------------------------------------------- */

static bool still_there(const struct world *w, const struct berth_move *m)
{
	for (uint64_t i = 0; i < 1ull << m->order; i++)
		if (w->table[m->cookie + i] != m->src + i)
			return false;
	return true;
}

static void move_one(struct world *w, struct berth_move *m)
{
	if (!still_there(w, m)) {
		m->result = BERTH_MOVE_GONE;
		return;
	}
	if (!berth_page_freeze(w->zone, m->src)) {
		m->result = BERTH_MOVE_BUSY;
		m->holder = "pin";
		return;
	}
	for (uint64_t i = 0; i < 1ull << m->order; i++) {
		w->content[m->dst + i] = w->content[m->src + i];
		w->content[m->src + i] = FREED;
		w->table[m->cookie + i] = m->dst + i;
	}
	m->result = BERTH_MOVE_MOVED;
	berth_move_arrived(w->zone, m);
	atomic_fetch_add(&w->nr_moved, 1ull << m->order);
}

static void migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct world *w = ctx;

	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < nr_moves; i++)
		move_one(w, &moves[i]);
	pthread_mutex_unlock(&w->lock);
}

static const struct berth_owner_ops owner_ops = { .name = "workers", .migrate = migrate };

/* ---- Workers --------------------------------------------------------------------------------- */

static uint64_t first_page(const struct worker *k, unsigned slot)
{
	return ((uint64_t)k->id * SLOTS + slot) * SLOT_PAGES;
}

/* Where page i of the run is. The owner's lock is held, or the page is pinned or immovable. */
static berth_pfn_t where(const struct worker *k, unsigned slot, uint32_t i)
{
	const struct run *run = &k->runs[slot];

	return run->movable ? k->world->table[first_page(k, slot) + i] : run->fixed + i;
}

static void verify_run(const struct worker *k, unsigned slot)
{
	const struct run *run = &k->runs[slot];

	for (uint32_t i = 0; i < run->nr_pages; i++) {
		uint64_t value = k->world->content[where(k, slot, i)];

		require_equal("content", value, run->value + i);
	}
}

static void write_run(struct worker *k, unsigned slot)
{
	struct run *run = &k->runs[slot];

	run->value = test_random(&k->random) >> 16;
	for (uint32_t i = 0; i < run->nr_pages; i++)
		k->world->content[where(k, slot, i)] = run->value + i;
}

/*
 * A block can be asked to move as soon as it's allocated; until it's in the table the owner says
 * that it's gone, and the claimer looks again.
 */
static void alloc_run(struct worker *k, unsigned slot)
{
	struct world *w = k->world;
	struct run *run = &k->runs[slot];
	unsigned order = (unsigned)test_random_below(&k->random, 3) ?
				 0 :
				 (unsigned)test_random_below(&k->random, w->config.max_order + 1);
	bool movable = test_random_below(&k->random, 8) != 0;
	berth_pfn_t pfn;
	int ret = berth_alloc_pages(w->zone, order, movable ? BERTH_GFP_MOVABLE : 0,
				    movable ? w->owner : BERTH_OWNER_NONE, first_page(k, slot),
				    &pfn);

	if (ret) {
		require_ret("alloc", ret, -BERTH_ENOMEM);
		k->nr_failed++;
		return;
	}
	k->nr_allocs++;
	pthread_mutex_lock(&w->lock);
	*run = (struct run){ .nr_pages = 1u << order, .movable = movable, .fixed = pfn };
	for (uint32_t i = 0; i < run->nr_pages && movable; i++)
		w->table[first_page(k, slot) + i] = pfn + i;
	write_run(k, slot);
	pthread_mutex_unlock(&w->lock);
}

static void free_fixed(struct worker *k, struct run *run)
{
	for (uint32_t i = 0; i < run->nr_pages; i++)
		k->world->content[run->fixed + i] = FREED;
	require_ret("free", berth_free_pages(k->world->zone, run->fixed), 0);
	run->nr_pages = 0;
}

/* Takes the run's last pages out of the table and frees them: one call for each piece in a row. */
static void free_pages(struct worker *k, unsigned slot, uint32_t keep)
{
	struct world *w = k->world;
	struct run *run = &k->runs[slot];
	berth_pfn_t gone[SLOT_PAGES];
	uint32_t nr = run->nr_pages - keep;

	pthread_mutex_lock(&w->lock);
	verify_run(k, slot);
	for (uint32_t i = 0; i < nr; i++) {
		gone[i] = w->table[first_page(k, slot) + keep + i];
		w->table[first_page(k, slot) + keep + i] = BERTH_PFN_NONE;
		w->content[gone[i]] = FREED;
	}
	run->nr_pages = keep;
	pthread_mutex_unlock(&w->lock);
	for (uint32_t i = 0, n; i < nr; i += n) {
		int ret;

		for (n = 1; i + n < nr && gone[i + n] == gone[i] + n; n++)
			;
		/* Busy: a claim is just cutting the block. */
		while ((ret = berth_free_range(w->zone, gone[i], n, w->owner)) == -BERTH_EBUSY)
			sched_yield();
		require_ret("free_range", ret, 0);
	}
}

static void free_run(struct worker *k, unsigned slot)
{
	struct run *run = &k->runs[slot];

	if (!run->movable) {
		verify_run(k, slot);
		free_fixed(k, run);
	} else {
		free_pages(k, slot,
			   test_random_below(&k->random, 4) ?
				   0 :
				   (uint32_t)test_random_below(&k->random, run->nr_pages));
	}
}

/* Pins a page and writes to it as a device would: without any lock. */
static void pin_and_write(struct worker *k, unsigned slot)
{
	struct world *w = k->world;
	struct run *run = &k->runs[slot];
	berth_pfn_t pfn;
	int ret;

	do {
		pthread_mutex_lock(&w->lock);
		pfn = where(k, slot, 0);
		ret = berth_page_pin(w->zone, pfn);
		pthread_mutex_unlock(&w->lock);
	} while (ret == -BERTH_EAGAIN);
	require_ret("pin", ret, 0);
	k->nr_pins++;
	require_equal("content of a pinned page", w->content[pfn], run->value);
	w->content[pfn] = run->value ^ 0x5555;
	if (test_random_below(&k->random, 4) == 0)
		sched_yield();
	require_equal("pinned page moved", w->content[pfn], run->value ^ 0x5555);
	w->content[pfn] = run->value;
	require_ret("unpin", berth_page_unpin(w->zone, pfn), 0);
}

static void *work(void *arg)
{
	struct worker *k = arg;
	struct world *w = k->world;

	for (uint64_t op = 0; op < w->nr_ops; op++) {
		unsigned slot = (unsigned)test_random_below(&k->random, SLOTS);

		if (!k->runs[slot].nr_pages) {
			alloc_run(k, slot);
		} else if (w->config.pins && test_random_below(&k->random, 4) == 0) {
			pin_and_write(k, slot);
		} else if (test_random_below(&k->random, 3) == 0) {
			pthread_mutex_lock(&w->lock);
			verify_run(k, slot);
			write_run(k, slot);
			pthread_mutex_unlock(&w->lock);
		} else {
			free_run(k, slot);
		}
	}
	return NULL;
}

/* ---- Claimers -------------------------------------------------------------------------------- */

static bool may_fail(int ret)
{
	return ret == -BERTH_EBUSY || ret == -BERTH_ENOMEM || ret == -BERTH_ENOSPC ||
	       ret == -BERTH_EAGAIN;
}

/* A device writes to what was claimed, and nobody else does. */
static void use_claim(struct world *w, berth_pfn_t pfn, uint64_t nr_pages)
{
	atomic_fetch_add(&w->nr_claims, 1);
	for (uint64_t i = 0; i < nr_pages; i++)
		w->content[pfn + i] = CLAIMED + i;
	sched_yield();
	for (uint64_t i = 0; i < nr_pages; i++)
		require_equal("claimed frame", w->content[pfn + i], CLAIMED + i);
}

struct claimer {
	struct world *world;
	struct berth_cma *area; /* NULL: ranges */
	uint64_t random;
	pthread_t thread;
};

static int claim_area(struct claimer *c, berth_pfn_t *pfn, uint64_t nr_pages)
{
	struct berth_claim_params params = {
		.nr_pages = nr_pages,
		.align_order = (unsigned)test_random_below(&c->random, 5),
		.flags = test_random_below(&c->random, 4) ? 0 : BERTH_CLAIM_FREE_ONLY,
	};
	struct berth_claim_report r;
	int ret = berth_cma_alloc(c->area, &params, pfn, &r);

	require_ret("report", r.error, ret);
	return ret;
}

/* Several buffers in one call. */
static void claim_bulk(struct claimer *c)
{
	struct world *w = c->world;
	struct berth_claim_params params = { .nr_pages = 1 + test_random_below(&c->random, 40) };
	berth_pfn_t pfns[32];
	int got = berth_cma_alloc_bulk(c->area, &params, 32, pfns, BERTH_BULK_AS_MANY_AS_POSSIBLE,
				       NULL);

	require(got > 0 || may_fail(got), "bulk claim", (uint64_t)(int64_t)got);
	for (int i = 0; i < got; i++)
		use_claim(w, pfns[i], params.nr_pages);
	if (got > 0)
		require_ret("bulk release",
			    berth_cma_release_bulk(c->area, pfns, (unsigned)got, params.nr_pages),
			    0);
}

/* Prepared, and given up half-way every other time. */
static void claim_prepared(struct claimer *c)
{
	struct world *w = c->world;
	struct berth_claim_params params = { .nr_pages = 1 + test_random_below(&c->random, 900) };
	void *memory = aligned_alloc(16, berth_cma_prepared_bytes());
	struct berth_cma_prepared *prepared = NULL;
	berth_pfn_t pfn;
	int ret;

	require_ret("prepare", berth_cma_prepare(c->area, &params, memory, &prepared), 0);
	for (uint64_t steps = test_random_below(&c->random, 8); steps; steps--)
		(void)berth_cma_prepare_step(prepared, 64, NULL);
	if (test_random_below(&c->random, 2)) {
		require_ret("cancel", berth_cma_prepare_cancel(prepared), 0);
	} else if ((ret = berth_cma_prepare_wait(prepared, 0)) != 0) {
		require(may_fail(ret), "prepare", (uint64_t)(int64_t)ret);
	} else {
		require_ret("take", berth_cma_prepare_take(prepared, &pfn, NULL), 0);
		use_claim(w, pfn, params.nr_pages);
		require_ret("release", berth_cma_release(c->area, pfn, params.nr_pages), 0);
	}
	free(memory);
}

static void *claim(void *arg)
{
	struct claimer *c = arg;
	struct world *w = c->world;

	while (!atomic_load(&w->stop)) {
		uint64_t way = w->config.one_area ? test_random_below(&c->random, 4) : 2;
		uint64_t nr = 1 + test_random_below(&c->random, AREA_PAGES / 2);
		berth_pfn_t pfn = test_random_below(&c->random, ZONE_PAGES - nr);
		struct berth_claim_params params = { .nr_pages = nr };
		int ret;

		if (way < 2) {
			(way ? claim_bulk : claim_prepared)(c);
			continue;
		}
		ret = c->area ? claim_area(c, &pfn, nr) :
				berth_alloc_contig_range(w->zone, pfn, nr, &params, NULL);
		if (ret) {
			require(may_fail(ret), "claim", (uint64_t)(int64_t)ret);
			sched_yield();
			continue;
		}
		use_claim(w, pfn, nr);
		require_ret("release",
			    c->area ? berth_cma_release(c->area, pfn, nr) :
				      berth_free_contig_range(w->zone, pfn, nr),
			    0);
	}
	return NULL;
}

/* ---- Compaction ------------------------------------------------------------------------------ */

struct compacter {
	struct world *world;
	uint64_t random;
	pthread_t thread;
};

/* A block that compaction may have to make: nobody else's, like a claim. */
static void take_large_block(struct compacter *c)
{
	struct world *w = c->world;
	unsigned order = 7 + (unsigned)test_random_below(&c->random, 3);
	berth_pfn_t pfn;

	if (berth_alloc_pages(w->zone, order, BERTH_GFP_COMPACT, BERTH_OWNER_NONE, 0, &pfn))
		return;
	atomic_fetch_add(&w->nr_large, 1);
	use_claim(w, pfn, 1ull << order);
	for (uint64_t i = 0; i < 1ull << order; i++)
		w->content[pfn + i] = FREED;
	require_ret("free", berth_free_pages(w->zone, pfn), 0);
}

static void *compact(void *arg)
{
	struct compacter *c = arg;
	struct world *w = c->world;

	while (!atomic_load(&w->stop)) {
		struct berth_compact_params params = {
			.order = (unsigned)test_random_below(&c->random, 11),
			.mode = (enum berth_compact_mode)test_random_below(&c->random, 3),
			.flags = (unsigned)test_random_below(&c->random, 4),
			.gfp = test_random_below(&c->random, 2) ? BERTH_GFP_MOVABLE : 0,
			.max_pages = 2000,
		};
		int ret = berth_compact(w->zone, &params, NULL);

		require(ret == 0 || may_fail(ret), "compact", (uint64_t)(int64_t)ret);
		take_large_block(c);
		sched_yield();
	}
	return NULL;
}

static void *drain(void *arg)
{
	struct world *w = arg;

	while (!atomic_load(&w->stop)) {
		berth_pcp_drain_all(w->zone);
		sched_yield();
	}
	return NULL;
}

/* Reads statistics all the while. */
static void *watch(void *arg)
{
	struct world *w = arg;
	struct berth_zone_stats s;
	struct berth_cma_stats a;

	while (!atomic_load(&w->stop)) {
		berth_zone_stats(w->zone, &s);
		require_equal("managed", s.managed_pages, ZONE_PAGES);
		require(s.used_pages <= ZONE_PAGES, "used", s.used_pages);
		require(s.free_pages <= ZONE_PAGES, "free", s.free_pages);
		berth_cma_stats(w->areas[0], &a);
		require(a.largest_free_pages <= AREA_PAGES, "largest", a.largest_free_pages);
		sched_yield();
	}
	return NULL;
}

/* ---- A run ----------------------------------------------------------------------------------- */

static void world_open(struct world *w, const struct config *config)
{
	struct berth_zone_params params = { .nr_pages = ZONE_PAGES, .nr_cpus = config->nr_cpus };
	uint64_t nr_table;

	memset(w, 0, sizeof(*w));
	w->config = *config;
	w->ops = *berth_port_linux_ops();
	if (config->no_barrier)
		w->ops.barrier_all = NULL;
	params.port = &w->ops;
	w->tz = test_zone_open(&params);
	w->zone = w->tz->zone;
	w->areas[0] = area_declare(w->tz, "a", 1024, AREA_PAGES, 0, BERTH_LEND_FIRST);
	w->areas[1] = area_declare(w->tz, "b", 4096, AREA_PAGES, 2, BERTH_LEND_LAST);
	assert_int_equal(berth_owner_register(w->zone, &owner_ops, w, &w->owner), 0);
	assert_int_equal(pthread_mutex_init(&w->lock, NULL), 0);
	w->nr_workers = (unsigned)test_env("BERTH_THREADS", 4);
	w->nr_ops = test_env("BERTH_THREADS_OPS", TEST_SLOWDOWN > 1 ? 30000 : 100000);
	assert_true(w->nr_workers <= MAX_WORKERS);
	nr_table = (uint64_t)w->nr_workers * SLOTS * SLOT_PAGES;
	w->table = test_zalloc(nr_table, sizeof(*w->table));
	for (uint64_t i = 0; i < nr_table; i++)
		w->table[i] = BERTH_PFN_NONE;
	w->content = test_zalloc(ZONE_PAGES, sizeof(*w->content));
	w->ballast = test_zalloc(config->ballast, sizeof(*w->ballast));
	for (unsigned i = 0; i < w->nr_workers; i++)
		w->workers[i] = (struct worker){ .world = w, .id = i, .random = i + 1 };
}

static void world_close(struct world *w)
{
	zone_close(w->tz);
	pthread_mutex_destroy(&w->lock);
	free(w->table);
	free(w->content);
	free(w->ballast);
}

/* Takes all but a few frames away, so that allocations and moves fail now and then. */
static void load_ballast(struct world *w)
{
	berth_pfn_t pfn;

	test_set_cpu(TEST_NO_CPU);
	for (uint64_t i = 0; i < w->config.ballast; i++)
		assert_int_equal(berth_alloc_pages(w->zone, 0, BERTH_GFP_UNMOVABLE,
						   BERTH_OWNER_NONE, 0, &w->ballast[i]),
				 0);
	/* Nobody's frames have no content of their own; spoil what is free with them. */
	for (pfn = 0; pfn < ZONE_PAGES; pfn++)
		w->content[pfn] = FREED;
}

static void unload_ballast(struct world *w)
{
	for (uint64_t i = 0; i < w->config.ballast; i++)
		assert_int_equal(berth_free_pages(w->zone, w->ballast[i]), 0);
}

/* Everybody is at rest: the core's own check, the sums and every content. */
static uint64_t verify_at_rest(struct world *w)
{
	struct berth_zone_stats s;
	uint64_t held = w->config.ballast;

	zone_ok(w->tz);
	for (unsigned i = 0; i < w->nr_workers; i++) {
		for (unsigned slot = 0; slot < SLOTS; slot++) {
			held += w->workers[i].runs[slot].nr_pages;
			verify_run(&w->workers[i], slot);
		}
	}
	s = zone_stats(w->tz);
	assert_int_equal(s.used_pages, held);
	assert_int_equal(s.claimed_pages, 0);
	assert_int_equal(s.pinned_blocks, 0);
	assert_int_equal(s.free_pages + s.pcp_pages, ZONE_PAGES - held);
	assert_int_equal(s.moved_pages, atomic_load(&w->nr_moved));
	return held;
}

/* What is left can be brought together, and all is still there. */
static void compact_at_rest(struct world *w)
{
	const struct berth_compact_params params = { .mode = BERTH_COMPACT_SYNC,
						     .flags = BERTH_COMPACT_WHOLE_ZONE };
	struct berth_compact_result r;

	assert_int_equal(berth_compact(w->zone, &params, &r), 0);
	assert_int_equal(r.outcome, BERTH_COMPACT_COMPLETE);
	verify_at_rest(w);
}

static void free_everything(struct world *w)
{
	for (unsigned i = 0; i < w->nr_workers; i++)
		for (unsigned slot = 0; slot < SLOTS; slot++)
			while (w->workers[i].runs[slot].nr_pages)
				free_run(&w->workers[i], slot);
	unload_ballast(w);
	berth_pcp_drain_all(w->zone);
	zone_ok(w->tz);
	assert_int_equal(zone_stats(w->tz).free_pages, ZONE_PAGES);
	assert_all_merged(w->tz);
}

static void start(pthread_t *thread, void *(*run)(void *), void *arg)
{
	assert_int_equal(pthread_create(thread, NULL, run, arg), 0);
}

static void let_workers_work(struct world *w)
{
	unsigned rounds = w->config.restarts ? 20 : 1;

	w->nr_ops = w->nr_ops / rounds + 1;
	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < w->nr_workers; i++)
			start(&w->workers[i].thread, work, &w->workers[i]);
		for (unsigned i = 0; i < w->nr_workers; i++)
			assert_int_equal(pthread_join(w->workers[i].thread, NULL), 0);
	}
}

static void run_world(void **state)
{
	static struct world w;
	struct claimer claimers[5];
	struct compacter compacters[2];
	pthread_t watcher, drainer;
	unsigned nr = 0;

	world_open(&w, *state);
	load_ballast(&w);
	for (; nr < w.config.nr_claimers; nr++)
		claimers[nr] = (struct claimer){ &w, w.areas[w.config.one_area ? 0 : nr], 100 + nr,
						 0 };
	if (w.config.claims_ranges)
		claimers[nr++] = (struct claimer){ &w, NULL, 99, 0 };
	for (unsigned i = 0; i < nr; i++)
		start(&claimers[i].thread, claim, &claimers[i]);
	for (unsigned i = 0; i < w.config.nr_compacters; i++) {
		compacters[i] = (struct compacter){ &w, 200 + i, 0 };
		start(&compacters[i].thread, compact, &compacters[i]);
	}
	if (w.config.watches) {
		start(&watcher, watch, &w);
		start(&drainer, drain, &w);
	}
	let_workers_work(&w);
	atomic_store(&w.stop, true);
	for (unsigned i = 0; i < nr; i++)
		assert_int_equal(pthread_join(claimers[i].thread, NULL), 0);
	for (unsigned i = 0; i < w.config.nr_compacters; i++)
		assert_int_equal(pthread_join(compacters[i].thread, NULL), 0);
	if (w.config.watches) {
		assert_int_equal(pthread_join(watcher, NULL), 0);
		assert_int_equal(pthread_join(drainer, NULL), 0);
	}
	assert_true(verify_at_rest(&w) > 0);
	if (w.config.nr_compacters)
		compact_at_rest(&w);
	if (nr)
		assert_true(atomic_load(&w.nr_claims) > 0);
	if (w.config.nr_compacters)
		assert_true(atomic_load(&w.nr_large) > 0);
	free_everything(&w);
	world_close(&w);
}

/* ---- Cases ----------------------------------------------------------------------------------- */

#define CASE(name_, ...)                                                                   \
	{                                                                                  \
		.name = (name_), .test_func = run_world, .initial_state = &(struct config) \
		{                                                                          \
			__VA_ARGS__                                                        \
		}                                                                          \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE("single frames", .nr_cpus = 8),
		CASE("orders 0 to 4", .nr_cpus = 8, .max_order = 4),
		CASE("more threads than slots", .nr_cpus = 2, .max_order = 2),
		CASE("threads come and go", .nr_cpus = 8, .max_order = 1, .restarts = true),
		CASE("counters at any time", .nr_cpus = 8, .watches = true),
		CASE("a claimer moves single frames", .nr_cpus = 8, .nr_claimers = 1),
		CASE("a claimer moves blocks", .nr_cpus = 8, .nr_claimers = 1, .max_order = 4),
		CASE("pins against a claimer", .nr_cpus = 8, .nr_claimers = 1, .max_order = 3,
		     .pins = true),
		CASE("ranges anywhere", .nr_cpus = 8, .claims_ranges = true, .max_order = 4,
		     .pins = true),
		CASE("two areas, ranges, pins, statistics", .nr_cpus = 3, .nr_claimers = 2,
		     .claims_ranges = true, .max_order = 4, .pins = true, .watches = true,
		     .restarts = true),
		CASE("four claimers of one area", .nr_cpus = 8, .nr_claimers = 4, .one_area = true,
		     .max_order = 4, .pins = true),
		CASE("short of memory", .nr_cpus = 8, .nr_claimers = 2, .claims_ranges = true,
		     .max_order = 4, .pins = true, .ballast = ZONE_PAGES - 2 * AREA_PAGES),
		CASE("compaction", .nr_cpus = 8, .nr_compacters = 1, .max_order = 4),
		CASE("two compact blocks", .nr_cpus = 3, .nr_compacters = 2, .max_order = 4,
		     .restarts = true),
		CASE("compaction against claims and pins", .nr_cpus = 8, .nr_claimers = 2,
		     .claims_ranges = true, .nr_compacters = 2, .max_order = 4, .pins = true,
		     .watches = true),
		CASE("all of it without a barrier", .nr_cpus = 8, .nr_claimers = 2,
		     .nr_compacters = 1, .claims_ranges = true, .max_order = 4, .pins = true,
		     .watches = true, .no_barrier = true),
	};

	return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
