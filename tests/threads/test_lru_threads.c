/* SPDX-License-Identifier: MIT */
/*
 * A page cache that real threads share while memory is short: they read, write, lock and throw away its
 * pages and add new ones, which takes direct reclaim; a thread is kswapd, one ends writes, one claims
 * ranges.
 *
 * A page that is in the cache reads what was written to it; what is read for the first time, or again
 * after it was dropped, is computed. A dirty page that is dropped would read too old a version.
 *
 *	BERTH_THREADS=n       users, 4 by default
 *	BERTH_THREADS_OPS=n   operations of each
 */
#include <pthread.h>
#include <sched.h>

#include "port/linux/port_linux.h"
#include "tests/include/testnodes.h"
#include "tests/include/testthreads.h"

#define MAX_USERS 24u
#define ZONE_PAGES 4096u
#define FILE_PAGES 8192u /* twice what there is memory for */

struct page {
	pthread_mutex_t lock;
	berth_pfn_t pfn;  /* BERTH_PFN_NONE: not in the cache */
	uint32_t version; /* what it must read */
	uint32_t stored;  /* what its file has */
	bool dirty;
};

struct world {
	struct berth_nodes *nodes;
	struct berth_zone *zone;
	unsigned owner;
	uint64_t nr_ops;
	struct page pages[FILE_PAGES];
	uint32_t content[ZONE_PAGES]; /* by pfn; guarded by the lock of the page that is there */
	pthread_mutex_t writes_lock;
	berth_pfn_t writing[ZONE_PAGES];
	unsigned nr_writing;
	_Atomic bool ended;
	_Atomic uint64_t nr_dropped, nr_written, nr_misses, nr_claims, nr_refused;
};

struct user {
	struct world *world;
	unsigned id;
	uint64_t random;
	pthread_t thread;
};

static void count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- The owner: a page is what its lock's holder says -------------------------------------------- */

static void world_reclaim(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < nr; i++) {
		struct page *page = &w->pages[items[i].cookie];

		if (pthread_mutex_trylock(&page->lock)) /* somebody is at it */
			continue;
		if (page->pfn != items[i].pfn) {
			items[i].result = BERTH_RECLAIM_GONE;
		} else if (berth_reclaim_freeze(w->zone, &items[i])) {
			require(!page->dirty, "a dirty page is dropped", items[i].cookie);
			page->pfn = BERTH_PFN_NONE;
			items[i].result = BERTH_RECLAIM_DROPPED;
			count(&w->nr_dropped);
		}
		pthread_mutex_unlock(&page->lock);
	}
}

static void world_writeback(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < nr; i++) {
		struct page *page = &w->pages[items[i].cookie];

		if (pthread_mutex_trylock(&page->lock)) {
			items[i].result = BERTH_RECLAIM_BUSY;
			continue;
		}
		if (page->pfn == items[i].pfn) {
			page->stored = w->content[page->pfn];
			page->dirty = false;
		}
		pthread_mutex_unlock(&page->lock);
		count(&w->nr_written);
		pthread_mutex_lock(&w->writes_lock);
		w->writing[w->nr_writing++] = items[i].pfn;
		pthread_mutex_unlock(&w->writes_lock);
	}
}

static void world_migrate(void *ctx, struct berth_move *moves, unsigned nr)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < nr; i++) {
		struct page *page = &w->pages[moves[i].cookie];

		pthread_mutex_lock(&page->lock);
		if (page->pfn != moves[i].src) {
			moves[i].result = BERTH_MOVE_GONE;
		} else if (!berth_page_freeze(w->zone, moves[i].src)) {
			moves[i].result = BERTH_MOVE_BUSY;
		} else {
			w->content[moves[i].dst] = w->content[moves[i].src];
			page->pfn = moves[i].dst;
			moves[i].result = BERTH_MOVE_MOVED;
			berth_move_arrived(w->zone, &moves[i]);
		}
		pthread_mutex_unlock(&page->lock);
	}
}

static const struct berth_owner_ops cache_ops = {
	.name = "cache",
	.migrate = world_migrate,
	.reclaim = world_reclaim,
	.writeback = world_writeback,
};

/* ---- Users ----------------------------------------------------------------------------------------- */

/* Brings a page in. The lock isn't held while memory is looked for: reclaim may want it. */
static void read_page(struct user *u, struct page *page, uint64_t number)
{
	struct world *w = u->world;
	berth_pfn_t pfn;

	if (berth_node_alloc(w->nodes, 0, 0, BERTH_GFP_MOVABLE | BERTH_GFP_LRU, w->owner, number,
			     &pfn)) {
		count(&w->nr_refused);
		return;
	}
	pthread_mutex_lock(&page->lock);
	if (page->pfn != BERTH_PFN_NONE) { /* somebody else was faster */
		pthread_mutex_unlock(&page->lock);
		require(berth_node_free(w->nodes, pfn) == 0, "free of a page not needed", pfn);
		return;
	}
	count(&w->nr_misses);
	require(page->stored == page->version, "an old version is read", number);
	w->content[pfn] = page->stored;
	page->pfn = pfn;
	require(berth_lru_add(w->zone, pfn, 1) == 0, "add", pfn);
	pthread_mutex_unlock(&page->lock);
}

/* The lock is held. */
static void use_page(struct user *u, struct page *page)
{
	struct world *w = u->world;

	require(w->content[page->pfn] == page->version, "contents", page->pfn);
	switch (test_random_below(&u->random, 16)) {
	case 0:
	case 1:
		w->content[page->pfn] = ++page->version;
		page->dirty = true;
		require(berth_lru_set_dirty(w->zone, page->pfn, 1) == 0, "dirty", page->pfn);
		break;
	case 2:
		require(berth_lru_set_unevictable(w->zone, page->pfn, 1,
						  test_random_below(&u->random, 8) == 0) == 0,
			"lock", page->pfn);
		break;
	case 3:
		berth_lru_rotate(w->zone, page->pfn);
		break;
	case 4:
		if (page->dirty)
			break;
		require(berth_node_free(w->nodes, page->pfn) == 0, "free", page->pfn);
		page->pfn = BERTH_PFN_NONE;
		break;
	default:
		berth_lru_mark_accessed(w->zone, page->pfn);
		break;
	}
}

static void *use(void *arg)
{
	struct user *u = arg;
	struct world *w = u->world;

	test_set_cpu(u->id);
	for (uint64_t op = 0; op < w->nr_ops; op++) {
		bool hot = test_random_below(&u->random, 3) == 0;
		uint64_t number = test_random_below(&u->random, hot ? 512 : FILE_PAGES);
		struct page *page = &w->pages[number];
		bool there;

		pthread_mutex_lock(&page->lock);
		there = page->pfn != BERTH_PFN_NONE;
		if (there)
			use_page(u, page);
		pthread_mutex_unlock(&page->lock);
		if (!there)
			read_page(u, page, number);
	}
	test_set_cpu(TEST_NO_CPU);
	return NULL;
}

/* ---- Those beside them ----------------------------------------------------------------------------- */

static unsigned end_writes(struct world *w)
{
	berth_pfn_t ended[ZONE_PAGES];
	unsigned nr;

	pthread_mutex_lock(&w->writes_lock);
	nr = w->nr_writing;
	memcpy(ended, w->writing, nr * sizeof(*ended));
	w->nr_writing = 0;
	pthread_mutex_unlock(&w->writes_lock);
	for (unsigned i = 0; i < nr; i++)
		require(berth_lru_end_writeback(w->zone, ended[i], true) == 0, "end", ended[i]);
	return nr;
}

static void *write_out(void *arg)
{
	struct user *u = arg;

	test_set_cpu(u->id);
	while (!atomic_load(&u->world->ended))
		if (!end_writes(u->world))
			sched_yield();
	end_writes(u->world);
	test_set_cpu(TEST_NO_CPU);
	return NULL;
}

static void *kswapd(void *arg)
{
	struct user *u = arg;

	test_set_cpu(u->id);
	while (!atomic_load(&u->world->ended))
		if (berth_kswapd_step(u->world->nodes, 0, 256, NULL) != BERTH_KSWAPD_AGAIN)
			sched_yield();
	test_set_cpu(TEST_NO_CPU);
	return NULL;
}

static void *claim(void *arg)
{
	struct user *u = arg;
	struct world *w = u->world;

	test_set_cpu(u->id);
	while (!atomic_load(&w->ended)) {
		uint64_t nr = 1 + test_random_below(&u->random, 600);
		berth_pfn_t pfn = test_random_below(&u->random, ZONE_PAGES - nr);
		struct berth_claim_params params = {
			.flags = BERTH_CLAIM_NORETRY |
				 (test_random_below(&u->random, 2) ? BERTH_CLAIM_DROP : 0),
		};

		if (test_random_below(&u->random, 4) == 0)
			berth_lru_add_drain_all(w->zone);
		if (berth_alloc_contig_range(w->zone, pfn, nr, &params, NULL)) {
			sched_yield();
			continue;
		}
		count(&w->nr_claims);
		require(berth_free_contig_range(w->zone, pfn, nr) == 0, "claim", pfn);
	}
	test_set_cpu(TEST_NO_CPU);
	return NULL;
}

/* ---- The test ---------------------------------------------------------------------------------------- */

static struct world *world_open(struct machine *m, struct test_zone *tz)
{
	struct world *w = test_zalloc(1, sizeof(*w));

	m->zones[m->nr_zones++] = tz;
	assert_int_equal(berth_nodes_add_zone(m->nodes, 0, NORMAL, tz->zone), 0);
	assert_int_equal(berth_nodes_owner_register(m->nodes, &cache_ops, w, &w->owner), 0);
	w->nodes = m->nodes;
	w->zone = tz->zone;
	w->nr_ops = test_env("BERTH_THREADS_OPS", 200000 / TEST_SLOWDOWN);
	pthread_mutex_init(&w->writes_lock, NULL);
	for (uint64_t i = 0; i < FILE_PAGES; i++) {
		pthread_mutex_init(&w->pages[i].lock, NULL);
		w->pages[i].pfn = BERTH_PFN_NONE;
	}
	return w;
}

static void threads_share_a_cache(void **state)
{
	static void *(*const others[])(void *arg) = { write_out, kswapd, claim };
	struct machine *m = machine_open_with(&(struct berth_nodes_params){ .nr_nodes = 1 });
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES, .nr_cpus = 32, .lru = true,
					 .port = berth_port_linux_ops());
	struct world *w = world_open(m, tz);
	unsigned nr = (unsigned)test_env("BERTH_THREADS", 4);
	struct user users[MAX_USERS + 3];
	struct berth_lru_stats stats;

	(void)state;
	assert_in_range(nr, 1, MAX_USERS);
	for (unsigned i = 0; i < nr + 3; i++) {
		users[i] = (struct user){ .world = w, .id = i, .random = i };
		assert_int_equal(pthread_create(&users[i].thread, NULL,
						i < nr ? use : others[i - nr], &users[i]),
				 0);
	}
	for (unsigned i = 0; i < nr + 3; i++) {
		if (i == nr)
			atomic_store(&w->ended, true);
		assert_int_equal(pthread_join(users[i].thread, NULL), 0);
	}
	end_writes(w); /* kswapd may have begun some after the writer's last look */
	machine_ok(m);
	berth_lru_stats(w->zone, &stats);
	print_message("# %llu misses, %llu dropped, %llu written, %llu activated, %llu claims, "
		      "%llu refused\n",
		      (unsigned long long)w->nr_misses, (unsigned long long)w->nr_dropped,
		      (unsigned long long)w->nr_written, (unsigned long long)stats.activated,
		      (unsigned long long)w->nr_claims, (unsigned long long)w->nr_refused);
	assert_true(w->nr_dropped > 0);
	for (uint64_t i = 0; i < FILE_PAGES; i++)
		if (w->pages[i].pfn != BERTH_PFN_NONE) {
			assert_int_equal(w->content[w->pages[i].pfn], w->pages[i].version);
			assert_int_equal(berth_node_free(w->nodes, w->pages[i].pfn), 0);
		}
	berth_pcp_drain_all(w->zone);
	assert_int_equal(zone_stats(tz).free_pages, ZONE_PAGES);
	machine_close(m);
	free(w);
}

/* ---- Shrinkers that come and go ------------------------------------------------------------------------ */

struct coming {
	struct berth_shrinker shrinker;
	_Atomic bool here;
	_Atomic uint64_t nr_scans;
};

static uint64_t count_some(void *ctx)
{
	require(atomic_load(&((struct coming *)ctx)->here), "a shrinker that has gone is asked", 0);
	return 1000;
}

static uint64_t scan_some(void *ctx, uint64_t nr, uint64_t *pages)
{
	struct coming *c = ctx;

	require(atomic_load(&c->here), "a shrinker that has gone is used", nr);
	sched_yield();
	require(atomic_load(&c->here), "a shrinker goes while it's used", nr);
	count(&c->nr_scans);
	(void)pages;
	return 0;
}

static void coming_open(struct coming *c)
{
	memset(c, 0, sizeof(*c));
	c->shrinker.count = count_some;
	c->shrinker.scan = scan_some;
	c->shrinker.ctx = c;
	c->shrinker.seeks = 2;
	c->shrinker.batch = 10;
}

static void *shrink(void *arg)
{
	struct world *w = arg;

	while (!atomic_load(&w->ended))
		(void)berth_zone_reclaim(w->zone, 1, 0);
	return NULL;
}

static void a_shrinker_leaves_when_nobody_is_at_it(void **state)
{
	struct test_zone *tz = zone_open(.port = berth_port_linux_ops());
	struct world *w = test_zalloc(1, sizeof(*w));
	struct coming stays, goes;
	pthread_t threads[2];

	(void)state;
	coming_open(&stays);
	coming_open(&goes);
	atomic_store(&stays.here, true);
	assert_int_equal(berth_shrinker_register(tz->zone, &stays.shrinker), 0);
	w->zone = tz->zone;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, shrink, w), 0);
	for (unsigned i = 0; i < 200 || !atomic_load(&goes.nr_scans); i++) {
		atomic_store(&goes.here, true);
		assert_int_equal(berth_shrinker_register(tz->zone, &goes.shrinker), 0);
		sched_yield();
		berth_shrinker_unregister(tz->zone, &goes.shrinker);
		atomic_store(&goes.here, false);
	}
	atomic_store(&w->ended, true);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_true(atomic_load(&stays.nr_scans) > 0);
	berth_shrinker_unregister(tz->zone, &stays.shrinker);
	zone_close(tz);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_share_a_cache),
		cmocka_unit_test(a_shrinker_leaves_when_nobody_is_at_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
