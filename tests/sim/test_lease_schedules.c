/* SPDX-License-Identifier: MIT */
/*
 * Leases under thousands of schedules: holders that lock, use, unlock, lose and free them, against claims that drop them,
 * reclaim, compaction that moves them, and drains.
 *
 * What is watched: while a lease is locked its frames stay what and where they are, and nobody else gets them; what is
 * locked again reads what was written to it, or is lost; a claim's frames stay as the claim wrote them; a handle
 * of a lease that was given back is refused; no more is locked than may be; in the end all invariants hold and no frame
 * is missing.
 */
#include <berth/lease.h>
#include <berth/lru.h>

#include "testsim.h"

#define LEASES 3u     /* of each holder */
#define MAX_LEASED 8u /* pages of one */
#define MAX_HOLDERS 3u

struct lease_params {
	unsigned nr_holders, nr_ops;                             /* of each */
	unsigned nr_claims, nr_reclaims, nr_compacts, nr_drains; /* steps of each */
	uint64_t max_locked_pages;
};

struct own {
	berth_lease_t handle;
	uint64_t nr_pages, value;
};

/* One that all holders know of, and any of them may find stale. */
struct shared {
	berth_mutex_t lock; /* guards the others */
	berth_lease_t handle, stale;
	uint64_t nr_pages, value;
};

struct lease_world {
	struct world w;
	struct lease_params params;
	struct berth_leases *leases;
	void *metadata;
	uint64_t *memory;               /* a page a frame; its first word is looked at */
	unsigned locked_by[ZONE_PAGES]; /* locks of leases that have the frame */
	struct own own[MAX_HOLDERS][LEASES];
	struct shared shared;
	uint64_t value, nr_locks, nr_lost, nr_refused, nr_stale, nr_moved, nr_taken;
};

static struct lease_world *world_of(const struct worker *k)
{
	return (struct lease_world *)(void *)k->w;
}

static uint64_t *word_of(struct lease_world *l, berth_pfn_t pfn)
{
	return l->memory + (pfn - ZONE_START) * (BERTH_PAGE_SIZE / 8);
}

/* ---- Holders ------------------------------------------------------------------------------------- */

static void mark_locked(struct lease_world *l, berth_pfn_t pfn, uint64_t nr_pages, int locks)
{
	struct berth_lease_stats stats;

	for (uint64_t i = 0; i < nr_pages; i++) {
		require(&l->w, !l->w.taken[pfn + i - ZONE_START], "a locked frame is a claim's",
			pfn + i, 0);
		l->locked_by[pfn + i - ZONE_START] += (unsigned)locks;
	}
	berth_lease_stats(l->leases, &stats);
	require(&l->w, stats.locked_pages <= stats.max_locked_pages, "too much is locked",
		stats.locked_pages, stats.max_locked_pages);
}

static void look(struct lease_world *l, berth_pfn_t pfn, uint64_t nr_pages, uint64_t value)
{
	for (uint64_t i = 0; i < nr_pages; i++)
		require(&l->w, *word_of(l, pfn + i) == value + i, "a lease's contents are wrong",
			*word_of(l, pfn + i), value + i);
}

/* Any error that others can cause. */
static bool may_not_lock(int ret)
{
	return ret == -BERTH_ENOENT || ret == -BERTH_ENOSPC || ret == -BERTH_EBUSY;
}

/* The lease is locked; uses it for a while, and unlocks it. */
static void use_lease(struct worker *k, berth_lease_t handle, berth_pfn_t pfn, uint64_t nr_pages,
		      uint64_t value)
{
	struct lease_world *l = world_of(k);
	berth_pfn_t again;

	mark_locked(l, pfn, nr_pages, 1);
	look(l, pfn, nr_pages, value);
	for (uint64_t i = below(&k->random, 6); i; i--)
		berth_sim_yield(k->w->sim);
	if (below(&k->random, 3) == 0) {
		require_ret(k->w, "a lock of what is locked",
			    berth_lease_lock(l->leases, handle, &again), 0);
		require(k->w, again == pfn, "a locked lease has moved", again, pfn);
		require_ret(k->w, "an unlock of two", berth_lease_unlock(l->leases, handle), 0);
	}
	require_ret(k->w, "a free of what is locked", berth_lease_free(l->leases, handle),
		    -BERTH_EBUSY);
	look(l, pfn, nr_pages, value);
	mark_locked(l, pfn, nr_pages, -1);
	require_ret(k->w, "an unlock", berth_lease_unlock(l->leases, handle), 0);
	l->nr_locks++;
}

/* A new lease with contents; 0: there is no memory, or it was lost at once. */
static berth_lease_t make(struct worker *k, uint64_t nr_pages, uint64_t value)
{
	struct lease_world *l = world_of(k);
	berth_lease_t handle;
	berth_pfn_t pfn;
	int ret = berth_lease_create(l->leases, nr_pages, "holder", &handle);

	if (ret == -BERTH_ENOMEM)
		return 0;
	require_ret(k->w, "a new lease", ret, 0);
	ret = berth_lease_lock(l->leases, handle, &pfn);
	if (ret) {
		require(k->w, may_not_lock(ret), "a first lock", (uint64_t)(int64_t)ret, 0);
		require_ret(k->w, "a free", berth_lease_free(l->leases, handle), 0);
		return 0;
	}
	for (uint64_t i = 0; i < nr_pages; i++)
		*word_of(l, pfn + i) = value + i;
	use_lease(k, handle, pfn, nr_pages, value);
	return handle;
}

static void own_step(struct worker *k)
{
	struct lease_world *l = world_of(k);
	struct own *own = &l->own[k->id][below(&k->random, LEASES)];
	berth_pfn_t pfn;
	int ret;

	if (!own->handle) {
		own->nr_pages = 1 + below(&k->random, MAX_LEASED);
		own->value = l->value += 0x100;
		own->handle = make(k, own->nr_pages, own->value);
		return;
	}
	if (below(&k->random, 6)) {
		ret = berth_lease_lock(l->leases, own->handle, &pfn);
		if (ret == 0) {
			use_lease(k, own->handle, pfn, own->nr_pages, own->value);
			return;
		}
		require(k->w, may_not_lock(ret), "a lock", (uint64_t)(int64_t)ret, 0);
		l->nr_refused += ret == -BERTH_ENOSPC;
		if (ret != -BERTH_ENOENT)
			return;
		l->nr_lost++;
	}
	require_ret(k->w, "a free", berth_lease_free(l->leases, own->handle), 0);
	require_ret(k->w, "a second free", berth_lease_free(l->leases, own->handle), -BERTH_EINVAL);
	own->handle = 0;
}

/* Makes the shared one anew when it's lost, or at times when it isn't. */
static void renew(struct worker *k, berth_lease_t known)
{
	struct lease_world *l = world_of(k);
	struct shared *s = &l->shared;
	int ret;

	berth_mutex_lock(&s->lock);
	if (s->handle == known) {
		ret = s->handle ? berth_lease_free(l->leases, s->handle) : 0;
		require(k->w, ret == 0 || ret == -BERTH_EBUSY, "a free of the shared one",
			(uint64_t)(int64_t)ret, 0);
		if (ret == 0) {
			s->stale = s->handle;
			s->nr_pages = 1 + below(&k->random, MAX_LEASED);
			s->value = l->value += 0x100;
			s->handle = make(k, s->nr_pages, s->value);
		}
	}
	berth_mutex_unlock(&s->lock);
}

static void shared_step(struct worker *k)
{
	struct lease_world *l = world_of(k);
	struct shared *s = &l->shared;
	uint64_t nr_pages, value;
	berth_lease_t handle, stale;
	berth_pfn_t pfn;
	int ret;

	berth_mutex_lock(&s->lock);
	handle = s->handle;
	stale = s->stale;
	nr_pages = s->nr_pages;
	value = s->value;
	berth_mutex_unlock(&s->lock);
	if (stale) {
		require_ret(k->w, "a lock of what was given back",
			    berth_lease_lock(l->leases, stale, &pfn), -BERTH_EINVAL);
		l->nr_stale++;
	}
	ret = handle ? berth_lease_lock(l->leases, handle, &pfn) : -BERTH_ENOENT;
	if (ret == 0)
		use_lease(k, handle, pfn, nr_pages, value);
	else
		require(k->w, may_not_lock(ret) || ret == -BERTH_EINVAL, "a lock of the shared one",
			(uint64_t)(int64_t)ret, 0);
	if (ret == -BERTH_ENOENT || below(&k->random, 8) == 0)
		renew(k, handle);
}

static void holder_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		if (below(&k->random, 4))
			own_step(k);
		else
			shared_step(k);
	}
}

/* ---- Those who are against them ------------------------------------------------------------------ */

/* A device's buffer: nobody has a lock on it, and it stays as it is. */
static void use_claim(struct worker *k, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct lease_world *l = world_of(k);

	take_frames(k->w, pfn, nr_pages);
	for (uint64_t i = 0; i < nr_pages; i++) {
		require(k->w, !l->locked_by[pfn + i - ZONE_START], "a claim got locked frames",
			pfn + i, 0);
		*word_of(l, pfn + i) = 0xc1a10000 + i;
	}
	k->w->nr_claimed++;
	for (unsigned i = 0; i < 3; i++)
		berth_sim_yield(k->w->sim);
	for (uint64_t i = 0; i < nr_pages; i++)
		require(k->w, *word_of(l, pfn + i) == 0xc1a10000 + i, "a claim was written to",
			*word_of(l, pfn + i), 0xc1a10000 + i);
	leave_frames(k->w, pfn, nr_pages);
}

static void lease_claimer_main(void *arg)
{
	struct worker *k = arg;
	struct world *w = k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		struct berth_claim_params params = { .nr_pages = 1 +
								 below(&k->random, AREA_PAGES) };
		berth_pfn_t pfn;
		int ret = berth_cma_alloc(w->areas[0], &params, &pfn, NULL);

		if (ret) {
			require(w, may_fail_with(ret), "a claim", (uint64_t)(int64_t)ret, 0);
			continue;
		}
		use_claim(k, pfn, params.nr_pages);
		require_ret(w, "a release", berth_cma_release(w->areas[0], pfn, params.nr_pages),
			    0);
	}
}

static void reclaimer_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++)
		(void)berth_zone_reclaim(k->w->zone, 1 + below(&k->random, 12),
					 (unsigned)below(&k->random, 2));
}

static void compactor_main(void *arg)
{
	const struct berth_compact_params params = { .order = 4,
						     .mode = BERTH_COMPACT_SYNC,
						     .flags = BERTH_COMPACT_WHOLE_ZONE |
							      BERTH_COMPACT_FORCE };
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++)
		(void)!berth_compact(k->w->zone, &params, NULL);
}

static void lru_drainer_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++)
		berth_lru_add_drain_all(k->w->zone);
}

/* ---- Runs ---------------------------------------------------------------------------------------- */

static void build(struct lease_world *l)
{
	struct berth_lease_params params = { .name = "leases",
					     .max_leases = MAX_HOLDERS * LEASES + 2,
					     .max_locked_pages = l->params.max_locked_pages,
					     .linear = l->memory,
					     .linear_pfn = ZONE_START,
					     .port = &berth_sim_port_ops,
					     .port_ctx = l->w.sim };
	size_t bytes;

	init_zone(&l->w, true);
	declare_area(&l->w, 0, "first", ZONE_START, BERTH_LEND_FIRST);
	params.zone = l->w.zone;
	bytes = berth_leases_metadata_size(&params);
	if (!l->metadata)
		assert_int_equal(posix_memalign(&l->metadata, 64, bytes), 0);
	assert_int_equal(berth_leases_init(&l->leases, &params, l->metadata, bytes), 0);
}

static void begin(struct lease_world *l, uint64_t seed)
{
	const struct lease_params *params = &l->params;
	struct world *w = &l->w;
	uint64_t random = seed;

	berth_sim_reset(w->sim, seed);
	memset(w->taken, 0, sizeof(w->taken));
	memset(l->own, 0, sizeof(l->own));
	memset(l->locked_by, 0, sizeof(l->locked_by));
	l->shared = (struct shared){ .lock = BERTH_MUTEX_INIT };
	l->value = 0;
	build(l);
	for (unsigned i = 0; i < params->nr_holders; i++)
		(void)add_task(w, &w->workers[i], i, params->nr_ops, &random, holder_main);
	(void)add_task(w, &w->claimers[0], 0, params->nr_claims, &random, lease_claimer_main);
	(void)add_task(w, &w->claimers[1], 1, params->nr_reclaims, &random, reclaimer_main);
	(void)add_task(w, &w->claimers[2], 2, params->nr_compacts, &random, compactor_main);
	(void)add_task(w, &w->claimers[3], 3, params->nr_drains, &random, lru_drainer_main);
}

static const char *leases_problem(struct lease_world *l, uint64_t *where_is, uint64_t *value,
				  uint64_t *expected)
{
	struct berth_violation v = { 0 };

	if (berth_leases_check(l->leases, &v))
		return world_problem(&l->w, where_is, value, expected);
	*where_is = v.where;
	*value = v.value;
	*expected = v.expected;
	return v.what;
}

/* Verifies, frees everything, and verifies again. */
static const char *problem(struct lease_world *l, uint64_t *where_is, uint64_t *value,
			   uint64_t *expected)
{
	const char *what = leases_problem(l, where_is, value, expected);
	struct berth_lease_stats leases;
	struct berth_zone_stats zone;

	for (unsigned i = 0; i < MAX_HOLDERS * LEASES; i++) {
		berth_lease_t handle = l->own[i / LEASES][i % LEASES].handle;

		if (!what && handle && berth_lease_free(l->leases, handle))
			what = "a lease can't be freed";
	}
	if (!what && l->shared.handle && berth_lease_free(l->leases, l->shared.handle))
		what = "the shared lease can't be freed";
	if (what)
		return what;
	berth_pcp_drain_all(l->w.zone);
	what = leases_problem(l, where_is, value, expected);
	berth_lease_stats(l->leases, &leases);
	berth_zone_stats(l->w.zone, &zone);
	l->nr_moved += leases.moved;
	l->nr_taken += leases.lost;
	*value = what ? *value : zone.free_pages;
	*expected = what ? *expected : ZONE_PAGES;
	if (!what && (zone.free_pages != ZONE_PAGES || leases.leased_pages || leases.nr_leases))
		what = "frames are lost";
	return what;
}

static bool run_one(struct lease_world *l, uint64_t seed)
{
	const struct berth_sim_result *result = berth_sim_run(l->w.sim);
	uint64_t where_is = 0, value = result->value, expected = result->expected;
	const char *what = result->what;

	if (result->outcome == BERTH_SIM_DONE)
		what = problem(l, &where_is, &value, &expected);
	else if (!what)
		what = "the run didn't end";
	if (what)
		print_failure(&l->w, what, seed, value, expected);
	return !what;
}

static void run(const struct lease_params *params, uint64_t asked)
{
	const struct berth_sim_params sim = { .weak_memory = true, .leap_ns = 2000000 };
	const struct seeds seeds = choose_seeds(asked);
	struct lease_world *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	l->params = *params;
	l->memory = calloc(ZONE_PAGES, BERTH_PAGE_SIZE);
	assert_non_null(l->memory);
	l->w.sim = berth_sim_create(&sim);
	for (uint64_t seed = seeds.first; seed < seeds.first + seeds.nr; seed++) {
		begin(l, seed);
		if (!run_one(l, seed))
			fail_msg("seed %llu", (unsigned long long)seed);
	}
	print_message("# %llu schedules: %llu locks, %llu refused, %llu found lost of %llu, %llu "
		      "moved, %llu stale, %llu claims\n",
		      (unsigned long long)seeds.nr, (unsigned long long)l->nr_locks,
		      (unsigned long long)l->nr_refused, (unsigned long long)l->nr_lost,
		      (unsigned long long)l->nr_taken, (unsigned long long)l->nr_moved,
		      (unsigned long long)l->nr_stale, (unsigned long long)l->w.nr_claimed);
	/* The runs say something. */
	if (seeds.nr >= 100) {
		assert_true(l->nr_locks > seeds.nr && l->nr_stale > seeds.nr / 10);
		assert_true(!params->nr_claims || l->w.nr_claimed > seeds.nr / 2);
		assert_true(!(params->nr_claims + params->nr_reclaims) ||
			    l->nr_lost > seeds.nr / 10);
		assert_true(!params->nr_compacts || l->nr_moved > seeds.nr / 10);
		assert_true(params->max_locked_pages > 20 || l->nr_refused > seeds.nr / 10);
	}
	berth_sim_destroy(l->w.sim);
	free(l->w.metadata);
	free(l->metadata);
	free(l->memory);
	free(l);
}

static void test_claims_take(void **state)
{
	(void)state;
	run(&(struct lease_params){ .nr_holders = 3,
				    .nr_ops = 14,
				    .nr_claims = 6,
				    .nr_drains = 3,
				    .max_locked_pages = 64 },
	    1200);
}

static void test_reclaim_takes(void **state)
{
	(void)state;
	run(&(struct lease_params){ .nr_holders = 3,
				    .nr_ops = 14,
				    .nr_reclaims = 10,
				    .nr_drains = 5,
				    .max_locked_pages = 64 },
	    1200);
}

static void test_compaction_moves(void **state)
{
	(void)state;
	run(&(struct lease_params){ .nr_holders = 3,
				    .nr_ops = 14,
				    .nr_compacts = 3,
				    .nr_drains = 5,
				    .max_locked_pages = 64 },
	    1200);
}

/* All of it, and locks up to the limit. */
static void test_everything_at_once(void **state)
{
	(void)state;
	run(&(struct lease_params){ .nr_holders = 3,
				    .nr_ops = 14,
				    .nr_claims = 5,
				    .nr_reclaims = 4,
				    .nr_compacts = 2,
				    .nr_drains = 4,
				    .max_locked_pages = 12 },
	    1200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claims_take),
		cmocka_unit_test(test_reclaim_takes),
		cmocka_unit_test(test_compaction_moves),
		cmocka_unit_test(test_everything_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
