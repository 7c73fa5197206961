/* SPDX-License-Identifier: MIT */
/*
 * The sweep of failures (sweep.h) over stores, leases and the framework: puts, gets and drops beside claims of
 * their area, copies that are restarted and such that can't be; leases beside claims, compaction and reclaim; areas that are
 * declared out of a configuration, and drivers that claim from them by whatever policy.
 */
#include <berth/lease.h>

#include "storeworld.h"
#include "sweep.h"

/* ---- Stores --------------------------------------------------------------------------------------- */

static void begin_store(void *ctx, uint64_t seed)
{
	store_begin(ctx, seed);
}

/* All of the area can be claimed again, and the store takes and gives pages again. */
static const char *store_goes_on(struct store_world *w)
{
	const struct berth_claim_params all = { .nr_pages = w->params.nr_pages };
	const struct berth_store_key key = key_of(0);
	uint64_t page[WORDS], copy[WORDS];
	berth_pfn_t pfn;

	berth_sim_set_cpu(w->sim, MAX_STORE_TASKS);
	if (berth_gcma_alloc(w->area, &all, &pfn, NULL) != 0)
		return "the area can't be claimed any more";
	for (unsigned k = 0; k < w->params.nr_keys; k++) {
		const struct berth_store_key lost = key_of(k);

		if (berth_store_get(w->store, &lost, copy) != -BERTH_ENOENT)
			return "a page is found in a claim";
	}
	if (berth_gcma_release(w->area, pfn, all.nr_pages) != 0)
		return "the area can't be released";
	for (unsigned i = 0; i < WORDS; i++)
		page[i] = word_of(0, 1u << 20, i);
	if (berth_store_put(w->store, &key, page) != 0 ||
	    berth_store_get(w->store, &key, copy) != 0 || memcmp(page, copy, sizeof(page)) != 0)
		return "the store keeps nothing any more";
	return NULL;
}

static bool run_store(void *ctx, uint64_t seed)
{
	struct store_world *w = ctx;
	struct berth_violation v = { 0 };
	const char *what = store_finish(w, &v);

	if (!what)
		what = store_goes_on(w);
	if (!what && (!berth_store_check(w->store, &v) || !berth_gcma_check(w->area, &v)))
		what = v.what;
	if (what)
		print_error("seed %llu: %s: value %#llx, expected %#llx\n",
			    (unsigned long long)seed, what, (unsigned long long)v.value,
			    (unsigned long long)v.expected);
	return !what;
}

static void sweep_store(const char *name, const struct store_params *params, unsigned most)
{
	struct store_world *w = store_open(params);
	struct sweep s = { name, begin_store, run_store, w, w->sim, most, 0 };

	for (uint64_t seed = scenario_seed(1); seed < scenario_seed(1) + 4; seed++)
		sweep_ops(&s, BERTH_SIM_NOW, BERTH_SIM_FENCE, seed);
	sweep_report(&s);
	assert_true(w->hits > s.nr_runs && w->puts > s.nr_runs && w->claims > 0);
	store_close(w);
}

static void test_store_beside_claims(void **state)
{
	(void)state;
	sweep_store("store",
		    &(struct store_params){ .nr_putters = 2,
					    .nr_readers = 1,
					    .nr_claimers = 1,
					    .nr_droppers = 1,
					    .nr_ops = 8,
					    .nr_shards = 2,
					    .granule_order = 1,
					    .nr_keys = 8,
					    .nr_pages = 8,
					    .claim_pages = 6 },
		    40);
}

static void test_store_whose_copies_restart(void **state)
{
	(void)state;
	sweep_store("store whose copies restart",
		    &(struct store_params){ .nr_putters = 2,
					    .nr_readers = 1,
					    .nr_claimers = 1,
					    .nr_ops = 10,
					    .nr_shards = 1,
					    .granule_order = 1,
					    .nr_keys = 4,
					    .nr_pages = 8,
					    .restarts = true },
		    40);
}

/* ---- Leases --------------------------------------------------------------------------------------- */

#define LEASES 4u /* of each holder */
#define LEASE_MOST 8u

struct held_lease {
	berth_lease_t lease; /* 0: none */
	uint64_t nr_pages, value;
	bool written;
};

struct lease_world {
	struct world w; /* its zone; no workers */
	struct berth_leases *leases;
	void *leases_memory;
	char *linear;
	struct held_lease held[2][LEASES];
	struct worker holders[2], others[3];
	uint64_t nr_locked, nr_lost, nr_taken;
};

static struct lease_world *lease_world_of(const struct worker *k)
{
	return (struct lease_world *)(void *)k->w;
}

static uint64_t *lease_word(struct lease_world *l, berth_pfn_t pfn)
{
	return (uint64_t *)(void *)(l->linear + (pfn - ZONE_START) * BERTH_PAGE_SIZE);
}

static void lease_create(struct worker *k, struct held_lease *h)
{
	struct lease_world *l = lease_world_of(k);
	int ret;

	h->nr_pages = 1 + below(&k->random, LEASE_MOST);
	h->written = false;
	ret = berth_lease_create(l->leases, h->nr_pages, "holder", &h->lease);
	if (ret)
		h->lease = 0;
	require(k->w, !ret || ret == -BERTH_ENOMEM, "a lease", (uint64_t)(int64_t)ret, 0);
}

/* What it held at the last unlock is there. */
static void lease_use(struct worker *k, struct held_lease *h)
{
	struct lease_world *l = lease_world_of(k);
	berth_pfn_t pfn;
	int ret = berth_lease_lock(l->leases, h->lease, &pfn);

	if (ret == -BERTH_ENOENT) {
		l->nr_lost++;
		require_ret(k->w, "the end of a lost lease", berth_lease_free(l->leases, h->lease),
			    0);
		h->lease = 0;
		return;
	}
	if (ret) { /* too much is locked, or it is being moved */
		require(k->w, ret == -BERTH_ENOSPC || ret == -BERTH_EBUSY, "a lock of a lease",
			(uint64_t)(int64_t)ret, 0);
		return;
	}
	l->nr_locked++;
	take_frames(k->w, pfn, h->nr_pages);
	for (uint64_t i = 0; i < h->nr_pages && h->written; i++)
		require(k->w, *lease_word(l, pfn + i) == h->value + i,
			"a lease has lost its contents", *lease_word(l, pfn + i), h->value + i);
	h->value = next_random(&k->random);
	for (uint64_t i = 0; i < h->nr_pages; i++) {
		*lease_word(l, pfn + i) = h->value + i;
		if (i % 4 == 0)
			berth_sim_yield(k->w->sim);
	}
	for (uint64_t i = 0; i < h->nr_pages; i++)
		require(k->w, *lease_word(l, pfn + i) == h->value + i, "a locked lease was written",
			*lease_word(l, pfn + i), h->value + i);
	h->written = true;
	leave_frames(k->w, pfn, h->nr_pages);
	require_ret(k->w, "an unlock", berth_lease_unlock(l->leases, h->lease), 0);
}

static void holder_main(void *arg)
{
	struct worker *k = arg;
	struct lease_world *l = lease_world_of(k);

	for (unsigned i = 0; i < k->nr_ops; i++) {
		struct held_lease *h = &l->held[k->id][below(&k->random, LEASES)];

		if (!h->lease) {
			lease_create(k, h);
		} else if (below(&k->random, 4)) {
			lease_use(k, h);
		} else {
			require_ret(k->w, "the end of a lease",
				    berth_lease_free(l->leases, h->lease), 0);
			h->lease = 0;
		}
	}
}

static void lease_claimer_main(void *arg)
{
	struct worker *k = arg;
	struct lease_world *l = lease_world_of(k);
	struct world *w = k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		const struct berth_claim_params params = { .nr_pages = 16 + below(&k->random, 49) };
		berth_pfn_t pfn;
		int ret = berth_cma_alloc(w->areas[0], &params, &pfn, NULL);

		if (ret) {
			require(w, may_fail_with(ret), "a claim", (uint64_t)(int64_t)ret, 0);
			continue;
		}
		l->nr_taken++;
		for (uint64_t p = 0; p < params.nr_pages; p++)
			*lease_word(l, pfn + p) = 0xc1a1;
		claimed(w, pfn, params.nr_pages);
		require_ret(w, "a release", berth_cma_release(w->areas[0], pfn, params.nr_pages),
			    0);
	}
}

static void lease_compacter_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		const struct berth_compact_params params = { .order = 5,
							     .mode = BERTH_COMPACT_SYNC,
							     .flags = BERTH_COMPACT_WHOLE_ZONE,
							     .gfp = BERTH_GFP_MOVABLE };
		struct berth_compact_result r;

		require_ret(k->w, "a compaction", berth_compact(k->w->zone, &params, &r), 0);
	}
}

static void lease_reclaimer_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++)
		(void)berth_zone_reclaim(k->w->zone, 1 + below(&k->random, 12), 0);
}

static void begin_leases(void *ctx, uint64_t seed)
{
	struct lease_world *l = ctx;
	struct world *w = &l->w;
	struct berth_lease_params params = { .name = "leases",
					     .max_leases = 2 * LEASES,
					     .max_locked_pages = 12,
					     .linear = l->linear,
					     .linear_pfn = ZONE_START,
					     .port = &berth_sim_port_ops,
					     .port_ctx = w->sim };
	uint64_t random = seed;
	size_t bytes;

	berth_sim_reset(w->sim, seed);
	w->lock = (berth_mutex_t)BERTH_MUTEX_INIT;
	memset(w->taken, 0, sizeof(w->taken));
	memset(l->held, 0, sizeof(l->held));
	init_zone(w, true);
	declare_area(w, 0, "first", ZONE_START, BERTH_LEND_FIRST);
	params.zone = w->zone;
	bytes = berth_leases_metadata_size(&params);
	if (!l->leases_memory)
		assert_int_equal(posix_memalign(&l->leases_memory, 64, bytes), 0);
	assert_int_equal(berth_leases_init(&l->leases, &params, l->leases_memory, bytes), 0);
	for (unsigned i = 0; i < 2; i++)
		(void)add_task(w, &l->holders[i], i, 30, &random, holder_main);
	(void)add_task(w, &l->others[0], 0, 4, &random, lease_claimer_main);
	(void)add_task(w, &l->others[1], 1, 3, &random, lease_compacter_main);
	(void)add_task(w, &l->others[2], 2, 2, &random, lease_reclaimer_main);
}

static bool run_leases(void *ctx, uint64_t seed)
{
	struct lease_world *l = ctx;
	struct world *w = &l->w;
	const struct berth_sim_result *result = berth_sim_run(w->sim);
	struct berth_violation v = { 0 };

	if (result->outcome == BERTH_SIM_DONE) {
		if (!berth_leases_check(l->leases, &v) || !berth_zone_check(w->zone, &v)) {
			print_failure(w, v.what, seed, v.value, v.expected);
			return false;
		}
		if (!world_claims_again(w, seed))
			return false;
		for (unsigned i = 0; i < 2 * LEASES; i++) {
			struct held_lease *h = &l->held[i / LEASES][i % LEASES];

			if (h->lease && berth_lease_free(l->leases, h->lease) != 0) {
				print_failure(w, "a lease can't be given back", seed, i, 0);
				return false;
			}
		}
		berth_lru_add_drain_all(w->zone);
	}
	return world_finish(w, result, seed, false);
}

static void test_leases(void **state)
{
	const struct berth_sim_params sim = { .weak_memory = true, .leap_ns = 2000000 };
	struct lease_world *l = calloc(1, sizeof(*l));
	struct sweep s = { "leases", begin_leases, run_leases, l, NULL, 30, 0 };

	(void)state;
	assert_non_null(l);
	l->linear = calloc(ZONE_PAGES, BERTH_PAGE_SIZE);
	assert_non_null(l->linear);
	s.sim = l->w.sim = berth_sim_create(&sim);
	for (uint64_t seed = scenario_seed(1); seed < scenario_seed(1) + 2; seed++)
		sweep_ops(&s, BERTH_SIM_NOW, BERTH_SIM_FENCE, seed);
	sweep_report(&s);
	print_message("# %llu locks, %llu leases lost, %llu claims\n",
		      (unsigned long long)l->nr_locked, (unsigned long long)l->nr_lost,
		      (unsigned long long)l->nr_taken);
	assert_true(l->nr_locked > s.nr_runs && l->nr_lost > 0 && l->nr_taken > s.nr_runs);
	berth_sim_destroy(l->w.sim);
	free(l->w.metadata);
	free(l->leases_memory);
	free(l->linear);
	free(l);
}

/* ---- The framework ----------------------------------------------------------------------------------- */

/* A policy's operations, each of which may fail before it does anything. */
#define FAILING(name)                                                                             \
	static const struct berth_contig_policy *name##_policy(void)                              \
	{                                                                                         \
		return berth_contig_policy_find(#name);                                           \
	}                                                                                         \
	static size_t name##_bytes(const struct berth_contig_area_params *params)                 \
	{                                                                                         \
		return sweep_called(SWEEP_POLICY_BYTES) ? 0 :                                     \
							  name##_policy()->state_bytes(params);   \
	}                                                                                         \
	static int name##_init(void *state, const struct berth_contig_area_params *params,        \
			       const struct berth_port_ops *port, void *ctx)                      \
	{                                                                                         \
		unsigned way = sweep_called(SWEEP_POLICY_INIT);                                   \
                                                                                                  \
		return way ? refusal(way) : name##_policy()->init(state, params, port, ctx);      \
	}                                                                                         \
	static int name##_alloc(void *state, const struct berth_claim_params *params,             \
				berth_pfn_t *pfn, struct berth_claim_report *report)              \
	{                                                                                         \
		unsigned way = sweep_called(SWEEP_POLICY_ALLOC);                                  \
                                                                                                  \
		return way ? refusal(way) : name##_policy()->alloc(state, params, pfn, report);   \
	}                                                                                         \
	static int name##_release(void *state, berth_pfn_t pfn, uint64_t nr_pages)                \
	{                                                                                         \
		return sweep_called(SWEEP_POLICY_RELEASE) ?                                       \
			       -BERTH_EINVAL :                                                    \
			       name##_policy()->release(state, pfn, nr_pages);                    \
	}                                                                                         \
	static int name##_alloc_bulk(void *state, const struct berth_claim_params *params,        \
				     unsigned nr, berth_pfn_t *pfns, unsigned flags,              \
				     struct berth_claim_report *report)                           \
	{                                                                                         \
		unsigned way = sweep_called(SWEEP_POLICY_ALLOC_BULK);                             \
                                                                                                  \
		return way ? refusal(way) :                                                       \
			     name##_policy()->alloc_bulk(state, params, nr, pfns, flags, report); \
	}                                                                                         \
	static int name##_release_bulk(void *state, const berth_pfn_t *pfns, unsigned nr,         \
				       uint64_t nr_pages)                                         \
	{                                                                                         \
		return sweep_called(SWEEP_POLICY_RELEASE_BULK) ?                                  \
			       -BERTH_EINVAL :                                                    \
			       name##_policy()->release_bulk(state, pfns, nr, nr_pages);          \
	}                                                                                         \
	static void name##_stats(void *state, struct berth_cma_stats *stats)                      \
	{                                                                                         \
		(void)sweep_called(SWEEP_POLICY_STATS);                                           \
		name##_policy()->stats(state, stats);                                             \
	}                                                                                         \
	static bool name##_next(void *state, berth_pfn_t *pfn, struct berth_claim_info *claim)    \
	{                                                                                         \
		(void)sweep_called(SWEEP_POLICY_NEXT);                                            \
		return name##_policy()->next_claim(state, pfn, claim);                            \
	}

static int refusal(unsigned way)
{
	static const int errors[] = { 0, -BERTH_EBUSY, -BERTH_ENOMEM, -BERTH_EAGAIN };

	return errors[way];
}

FAILING(cma)
FAILING(gcma)

static int cma_prepare(void *state, const struct berth_claim_params *params, void *memory,
		       struct berth_cma_prepared **prepared)
{
	unsigned way = sweep_called(SWEEP_POLICY_PREPARE);

	return way ? refusal(way) : cma_policy()->prepare(state, params, memory, prepared);
}

static int cma_lend(void *state, enum berth_lend_policy lend, uint64_t least)
{
	return sweep_called(SWEEP_POLICY_LEND) ? -BERTH_EINVAL :
						 cma_policy()->set_lend(state, lend, least);
}

static struct berth_cma *cma_area(void *state)
{
	(void)sweep_called(SWEEP_POLICY_CMA);
	return cma_policy()->cma(state);
}

static bool gcma_check(void *state, struct berth_violation *violation)
{
	if (!sweep_called(SWEEP_POLICY_CHECK))
		return gcma_policy()->check(state, violation);
	*violation = (struct berth_violation){ .what = "what the sweep says" };
	return false;
}

static struct berth_gcma *gcma_area(void *state)
{
	(void)sweep_called(SWEEP_POLICY_GCMA);
	return gcma_policy()->gcma(state);
}

#define FAILING_OPS(name)                                                        \
	.state_bytes = name##_bytes, .init = name##_init, .alloc = name##_alloc, \
	.release = name##_release, .alloc_bulk = name##_alloc_bulk,              \
	.release_bulk = name##_release_bulk, .stats = name##_stats, .next_claim = name##_next

static const struct berth_contig_policy failing_cma = { .name = "cma",
							FAILING_OPS(cma),
							.prepare = cma_prepare,
							.set_lend = cma_lend,
							.cma = cma_area };
static const struct berth_contig_policy failing_gcma = { .name = "gcma",
							 .takes_frames = true,
							 FAILING_OPS(gcma),
							 .check = gcma_check,
							 .gcma = gcma_area };

#define NR_CONTIG 3u
#define CONTIG_MEMORY 65536u

struct contig_world {
	struct world w; /* its zone, and workers who borrow */
	struct berth_contig *contig;
	struct berth_contig_area *areas[NR_CONTIG];
	char *memory, *area_memory, *prepared;
	struct worker boot, drivers[2];
	bool ready;
	uint64_t nr_claims;
};

static struct contig_world *contig_of(const struct worker *k)
{
	return (struct contig_world *)(void *)k->w;
}

static int declare(struct contig_world *c, const struct berth_config_area *a, unsigned i)
{
	struct berth_contig_area_params params = {
		.name = a->name,
		.policy = berth_contig_policy_find(a->policy),
		.zone = c->w.zone,
		.start_pfn = a->start >> BERTH_PAGE_SHIFT,
		.nr_pages = a->bytes >> BERTH_PAGE_SHIFT,
		.node = a->node,
		.lend = a->lend,
		.nr_cpus = MAX_WORKERS,
		.memory = c->area_memory + i * CONTIG_MEMORY,
	};

	if (!params.policy) /* the default */
		params.policy = &failing_cma;
	if (params.policy == gcma_policy())
		params.policy = &failing_gcma;
	params.memory_bytes = berth_contig_area_bytes(&params);
	if (!params.memory_bytes)
		return -BERTH_EINVAL;
	require(&c->w, params.memory_bytes <= CONTIG_MEMORY, "memory of an area",
		params.memory_bytes, CONTIG_MEMORY);
	return berth_contig_declare(c->contig, &params, &c->areas[i]);
}

/* Reads a configuration and declares its areas while others use the zone; what fails is tried once more. */
static void boot_main(void *arg)
{
	static const char text[] =
		"areas=camera:256K@16M,lend=first;pages:256K@16640K,policy=gcma,unit=16K;"
		"fixed:128K@16896K,policy=reserve "
		"devices=cam*:camera,disk:pages default=fixed";
	struct worker *k = arg;
	struct contig_world *c = contig_of(k);
	struct world *w = k->w;
	struct berth_config config = { 0 };
	struct berth_violation v = { 0 };

	require_ret(w, "a configuration", berth_config_parse(text, &config, NULL), 0);
	require_ret(w, "its places",
		    berth_config_place(&config, 16 << 20, 17 << 20, 65536, 1, NULL), 0);
	for (unsigned i = 0; i < NR_CONTIG; i++) {
		int ret = declare(c, &config.areas[i], i);

		if (ret) {
			require(w, sweep_state.nr_failed, "an area", (uint64_t)(int64_t)ret, i);
			require(w, !berth_contig_area_find(c->contig, config.areas[i].name),
				"an area that isn't declared is found", i, 0);
			ret = declare(c, &config.areas[i], i);
		}
		require_ret(w, "an area", ret, 0);
	}
	for (unsigned i = 0; i < config.nr_devices; i++)
		require_ret(w, "a device",
			    berth_contig_map(c->contig, config.devices[i].device,
					     config.devices[i].area),
			    0);
	require_ret(w, "the default", berth_contig_set_default(c->contig, config.default_area), 0);
	if (!berth_contig_check(c->contig, &v))
		require(w, sweep_state.nr_failed, v.what, v.value, v.expected);
	w->areas[0] = berth_contig_area_cma(c->areas[0]);
	require(w, w->areas[0] && berth_contig_area_gcma(c->areas[1]), "areas behind it", 0, 0);
	c->ready = true;
}

static void contig_release(struct contig_world *c, berth_pfn_t pfn, uint64_t nr_pages)
{
	int ret = berth_contig_release(c->contig, pfn, nr_pages);

	if (ret && sweep_state.nr_failed)
		ret = berth_contig_release(c->contig, pfn, nr_pages);
	require_ret(&c->w, "a release", ret, 0);
}

static void claim_for(struct worker *k, const char *device)
{
	struct contig_world *c = contig_of(k);
	const struct berth_claim_params params = { .nr_pages = 1 + below(&k->random, 20) };
	berth_pfn_t pfn;
	int ret = berth_contig_alloc(c->contig, device, BERTH_NODE_ANY, &params, &pfn, NULL);

	if (ret) {
		require(k->w, may_fail_with(ret), "a claim", (uint64_t)(int64_t)ret, 0);
		return;
	}
	c->nr_claims++;
	claimed(k->w, pfn, params.nr_pages);
	contig_release(c, pfn, params.nr_pages);
}

static void claim_bulk_of(struct worker *k, struct berth_contig_area *area)
{
	struct contig_world *c = contig_of(k);
	const struct berth_claim_params params = { .nr_pages = 4 };
	berth_pfn_t pfns[4];
	int ret, got = berth_contig_area_alloc_bulk(area, &params, 4, pfns,
						    BERTH_BULK_AS_MANY_AS_POSSIBLE, NULL);

	if (got <= 0) {
		require(k->w, may_fail_with(got), "a bulk claim", (uint64_t)(int64_t)got, 0);
		return;
	}
	c->nr_claims += (unsigned)got;
	for (int i = 0; i < got; i++)
		claimed(k->w, pfns[i], 4);
	ret = berth_contig_area_release_bulk(area, pfns, (unsigned)got, 4);
	if (ret && sweep_state.nr_failed)
		ret = berth_contig_area_release_bulk(area, pfns, (unsigned)got, 4);
	require_ret(k->w, "a bulk release", ret, 0);
}

static void claim_prepared_of(struct worker *k, struct berth_contig_area *area)
{
	struct contig_world *c = contig_of(k);
	const struct berth_claim_params params = { .nr_pages = 12 };
	struct berth_cma_prepared *prepared;
	berth_pfn_t pfn;
	int ret = berth_contig_area_prepare(
		area, &params, c->prepared + k->id * berth_cma_prepared_bytes(), &prepared);

	if (ret) {
		require(k->w, sweep_state.nr_failed && may_fail_with(ret), "a preparation",
			(uint64_t)(int64_t)ret, 0);
		return;
	}
	ret = berth_cma_prepare_wait(prepared, 0);
	if (ret) {
		require(k->w, may_fail_with(ret), "a preparation", (uint64_t)(int64_t)ret, 0);
		return;
	}
	require_ret(k->w, "taking it", berth_cma_prepare_take(prepared, &pfn, NULL), 0);
	c->nr_claims++;
	claimed(k->w, pfn, params.nr_pages);
	contig_release(c, pfn, params.nr_pages);
}

static void driver_main(void *arg)
{
	static const char *const devices[] = { "cam0", "disk", "anything" };
	struct worker *k = arg;
	struct contig_world *c = contig_of(k);
	struct berth_cma_stats stats;
	struct berth_claim_info claim;
	bool prepared = false;

	while (!c->ready)
		berth_relax(); /* whoever has the highest priority, too */
	for (unsigned i = 0; i < k->nr_ops; i++) {
		unsigned at = (unsigned)below(&k->random, NR_CONTIG);
		berth_pfn_t pfn = 0;
		int ret;

		switch (below(&k->random, 6)) {
		case 0:
			claim_bulk_of(k, c->areas[at]);
			break;
		case 1:
			if (!prepared) /* its memory is one's own once */
				claim_prepared_of(k, c->areas[0]);
			prepared = true;
			break;
		case 2:
			ret = berth_contig_area_set_lend(
				c->areas[0], (enum berth_lend_policy)below(&k->random, 4), 0);
			require(k->w, !ret || sweep_state.nr_failed, "a change of lending",
				(uint64_t)(int64_t)ret, 0);
			berth_contig_area_stats(c->areas[at], &stats);
			while (berth_contig_area_next_claim(c->areas[at], &pfn, &claim))
				;
			break;
		default:
			claim_for(k, devices[at]);
			break;
		}
	}
}

static void begin_contig(void *ctx, uint64_t seed)
{
	struct contig_world *c = ctx;
	struct world *w = &c->w;
	const struct berth_contig_params params = { .max_areas = NR_CONTIG,
						    .max_devices = 4,
						    .port = &berth_sim_port_ops,
						    .port_ctx = w->sim };
	uint64_t random = seed;

	berth_sim_reset(w->sim, seed);
	w->lock = (berth_mutex_t)BERTH_MUTEX_INIT;
	memset(w->taken, 0, sizeof(w->taken));
	for (unsigned i = 0; i < NR_PAGES; i++)
		w->table[i] = BERTH_PFN_NONE;
	init_zone(w, false);
	w->areas[0] = NULL;
	assert_int_equal(berth_owner_register(w->zone, &world_owner_ops, w, &w->owner), 0);
	assert_true(berth_contig_bytes(&params) <= CONTIG_MEMORY);
	assert_int_equal(berth_contig_init(&c->contig, &params, c->memory, CONTIG_MEMORY), 0);
	c->ready = false;
	for (unsigned i = 0; i < 2; i++)
		(void)add_task(w, &w->workers[i], i, 25, &random, worker_main);
	(void)add_task(w, &c->boot, 0, 1, &random, boot_main);
	for (unsigned i = 0; i < 2; i++)
		(void)add_task(w, &c->drivers[i], i, 16, &random, driver_main);
}

static bool run_contig(void *ctx, uint64_t seed)
{
	struct contig_world *c = ctx;
	struct world *w = &c->w;
	const struct berth_sim_result *result = berth_sim_run(w->sim);
	struct berth_violation v = { 0 };
	struct berth_zone_stats stats;
	struct berth_claim_info claim;
	berth_pfn_t at = 0;

	if (result->outcome != BERTH_SIM_DONE) {
		print_failure(w, result->what, seed, result->value, result->expected);
		return false;
	}
	if (!berth_contig_check(c->contig, &v) || !berth_zone_check(w->zone, &v)) {
		print_failure(w, v.what, seed, v.value, v.expected);
		return false;
	}
	if (!world_claims_again(w, seed))
		return false;
	for (unsigned i = 0; i < NR_CONTIG; i++)
		if (berth_contig_area_next_claim(c->areas[i], &at, &claim)) {
			print_failure(w, "a claim is left", seed, claim.pfn, i);
			return false;
		}
	for (unsigned i = 0; i < 2; i++)
		for (unsigned slot = 0; slot < SLOTS; slot++)
			if (w->workers[i].runs[slot].nr_pages)
				worker_free(&w->workers[i], slot);
	berth_pcp_drain_all(w->zone);
	berth_zone_stats(w->zone, &stats);
	/* Two areas have taken their frames for good. */
	if (stats.free_pages != ZONE_PAGES - 64 - 32)
		print_failure(w, "frames are lost", seed, stats.free_pages, ZONE_PAGES - 96);
	return stats.free_pages == ZONE_PAGES - 64 - 32;
}

static void test_framework(void **state)
{
	const struct world_params params = { .nr_workers = 2, .max_order = 1, .movable = true };
	struct contig_world *c = calloc(1, sizeof(*c));
	struct sweep s = { "framework", begin_contig, run_contig, c, NULL, 60, 0 };

	(void)state;
	assert_non_null(c);
	world_setup(&c->w, &params, NULL);
	s.sim = c->w.sim;
	c->memory = aligned_alloc(64, CONTIG_MEMORY);
	c->area_memory = aligned_alloc(64, NR_CONTIG * CONTIG_MEMORY);
	c->prepared = aligned_alloc(16, 2 * berth_cma_prepared_bytes());
	assert_true(c->memory && c->area_memory && c->prepared);
	for (uint64_t seed = scenario_seed(1); seed < scenario_seed(1) + 3; seed++)
		sweep_calls(&s, SWEEP_POLICY_BYTES, SWEEP_POLICY_GCMA, seed);
	s.most = 10;
	sweep_ops(&s, BERTH_SIM_NOW, BERTH_SIM_FENCE, scenario_seed(1));
	sweep_report(&s);
	assert_true(c->nr_claims > s.nr_runs);
	world_teardown(&c->w);
	free(c->memory);
	free(c->area_memory);
	free(c->prepared);
	free(c);
}

static void test_everything_failed(void **state)
{
	(void)state;
	sweep_check_members(SWEEP_STORE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store_beside_claims),
		cmocka_unit_test(test_store_whose_copies_restart),
		cmocka_unit_test(test_leases),
		cmocka_unit_test(test_framework),
		cmocka_unit_test(test_everything_failed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
