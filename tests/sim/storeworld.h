/* SPDX-License-Identifier: MIT */
/*
 * A store on the simulator: putters, readers, droppers of pages and of groups, and a device that claims its
 * area. A page that is read must be whole, of its key, and not older than the last put or drop that had returned
 * when the read began; what a device writes into a claim must stay there.
 */
#ifndef BERTH_STOREWORLD_H
#define BERTH_STOREWORLD_H

#include <berth/store.h>

#include "testsim.h"

#define MAX_PAGES 16u
#define FIRST_PFN 0x100u
#define KEYS 8u
#define GROUPS 2u
#define WORDS BERTH_PORT_PAGE_WORDS
#define DEVICE UINT64_C(0xdede000000000000)
#define MAX_STORE_TASKS 6u

struct store_params {
	unsigned nr_putters, nr_readers, nr_claimers, nr_droppers; /* of groups */
	unsigned nr_ops;                                           /* of each */
	unsigned nr_shards, granule_order, nr_keys;
	unsigned nr_pages;    /* 0: 16 */
	unsigned claim_pages; /* at most; 0: all */
	bool live;            /* putters put straight from a source that changes */
	bool restarts;        /* fillers are preempted, and claims take their copies away */
};

struct store_task {
	struct store_world *w;
	unsigned id;
	uint64_t random;
	_Atomic uint64_t page[WORDS]; /* what is put: the simulated copy reads it atomically */
};

struct store_world {
	struct berth_sim *sim;
	struct store_params params;
	struct berth_gcma *area;
	struct berth_store *store;
	void *area_metadata, *metadata;
	char *linear;
	/* a: by a key's putter: what get must not be older than; versions begun, and ended */
	_Atomic uint64_t floor[KEYS], begun[KEYS], ended[KEYS];
	_Atomic uint64_t source[WORDS]; /* a: by the one dropper, when `live` */
	struct store_task tasks[MAX_STORE_TASKS];
	unsigned nr_tasks;
	uint64_t hits, misses, puts, claims;
};

static inline void need(struct store_world *w, bool cond, const char *what, uint64_t value,
			uint64_t expected)
{
	if (!cond)
		berth_sim_fail(w->sim, what, value, expected);
}

static inline struct berth_store_key key_of(unsigned key)
{
	return (struct berth_store_key){ key % GROUPS, key };
}

static inline uint64_t word_of(unsigned key, uint64_t version, unsigned i)
{
	return version << 16 | key << 8 | i;
}

/* A key isn't older than this from now on. Several may say so. */
static inline void raise_floor(struct store_world *w, unsigned key, uint64_t version)
{
	uint64_t now = atomic_load_explicit(&w->floor[key], memory_order_relaxed);

	while (now < version &&
	       !atomic_compare_exchange_weak_explicit(&w->floor[key], &now, version,
						      memory_order_release, memory_order_relaxed))
		;
}

/* ---- Tasks ------------------------------------------------------------------------------------- */

/* Each putter has its own keys. */
static inline unsigned own_key(struct store_task *t)
{
	unsigned nr = t->w->params.nr_putters;

	return t->id + nr * (unsigned)below(&t->random, t->w->params.nr_keys / nr);
}

static inline void put_one(struct store_task *t)
{
	struct store_world *w = t->w;
	unsigned k = own_key(t);
	struct berth_store_key key = key_of(k);
	uint64_t version = atomic_load_explicit(&w->begun[k], memory_order_relaxed) + 1;
	int error;

	for (unsigned i = 0; i < WORDS; i++)
		atomic_store_explicit(&t->page[i], word_of(k, version, i), memory_order_relaxed);
	atomic_store_explicit(&w->begun[k], version, memory_order_relaxed);
	error = berth_store_put(w->store, &key, (const void *)t->page);
	need(w, !error || error == -BERTH_ENOSPC, "put", (uint64_t)error, 0);
	w->puts += !error;
	atomic_store_explicit(&w->ended[k], version, memory_order_release);
	raise_floor(w, k, error ? version + 1 : version);
}

static inline void drop_one(struct store_task *t)
{
	struct store_world *w = t->w;
	unsigned k = (unsigned)below(&t->random, w->params.nr_keys);
	struct berth_store_key key = key_of(k);
	uint64_t ended = atomic_load_explicit(&w->ended[k], memory_order_acquire);

	(void)berth_store_drop(w->store, &key);
	raise_floor(w, k, ended + 1);
}

static inline void get_one(struct store_task *t)
{
	struct store_world *w = t->w;
	unsigned k = (unsigned)below(&t->random, w->params.nr_keys);
	struct berth_store_key key = key_of(k);
	uint64_t page[WORDS] = { 0 }, version;
	uint64_t least = atomic_load_explicit(&w->floor[k], memory_order_acquire);
	int error = berth_store_get(w->store, &key, page);

	w->misses += error != 0;
	w->hits += error == 0;
	if (error)
		return;
	version = page[0] >> 16;
	if (w->params.live) {
		/* Only the first word of the source changes. */
		need(w, version >= least, "a stale source", version, least);
		return;
	}
	for (unsigned i = 0; i < WORDS; i++)
		need(w, page[i] == word_of(k, version, i), "a torn or foreign page", page[i],
		     word_of(k, version, i));
	need(w, version >= least, "a stale page", version, least);
}

static inline void putter_main(void *arg)
{
	struct store_task *t = arg;

	for (unsigned i = 0; i < t->w->params.nr_ops; i++) {
		uint64_t op = below(&t->random, 8);

		if (op < 5)
			put_one(t);
		else if (op < 6)
			drop_one(t);
		else
			get_one(t);
	}
}

/* Puts what the source says at that moment, under the first key. */
static inline void live_putter_main(void *arg)
{
	struct store_task *t = arg;
	struct berth_store_key key = key_of(0);

	for (unsigned i = 0; i < t->w->params.nr_ops; i++) {
		int error = berth_store_put(t->w->store, &key, (const void *)t->w->source);

		need(t->w, !error || error == -BERTH_ENOSPC, "put", (uint64_t)error, 0);
		t->w->puts += !error;
	}
}

static inline void reader_main(void *arg)
{
	struct store_task *t = arg;

	for (unsigned i = 0; i < t->w->params.nr_ops; i++)
		get_one(t);
}

/* Puts that have ended before the drop began are void, however it goes on. */
static inline void dropper_main(void *arg)
{
	struct store_task *t = arg;
	struct store_world *w = t->w;

	for (unsigned n = 0; n < w->params.nr_ops; n++) {
		unsigned group = (unsigned)below(&t->random, GROUPS);
		uint64_t ended[KEYS];

		if (w->params.live) {
			uint64_t version = n + 1;

			atomic_store_explicit(&w->source[0], version << 16, memory_order_relaxed);
			berth_store_drop_group(w->store, 0);
			raise_floor(w, 0, version);
			continue;
		}
		for (unsigned k = group; k < w->params.nr_keys; k += GROUPS)
			ended[k] = atomic_load_explicit(&w->ended[k], memory_order_acquire);
		berth_store_drop_group(w->store, group);
		for (unsigned k = group; k < w->params.nr_keys; k += GROUPS)
			raise_floor(w, k, ended[k] + 1);
	}
}

static inline _Atomic uint64_t *frame_words(struct store_world *w, berth_pfn_t pfn)
{
	return (_Atomic uint64_t *)(void *)(w->linear + (pfn - FIRST_PFN) * BERTH_PAGE_SIZE);
}

/* A device that writes into its buffer and finds there what it wrote. */
static inline void use_claim(struct store_task *t, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct store_world *w = t->w;
	uint64_t mark = DEVICE | next_random(&t->random) >> 24;

	for (uint64_t i = 0; i < nr_pages; i++)
		for (unsigned k = 0; k < WORDS; k++)
			atomic_store_explicit(&frame_words(w, pfn + i)[k], mark + i * WORDS + k,
					      memory_order_relaxed);
	for (uint64_t i = 0; i < nr_pages; i++)
		for (unsigned k = 0; k < WORDS; k++) {
			uint64_t word = atomic_load_explicit(&frame_words(w, pfn + i)[k],
							     memory_order_relaxed);

			need(w, word == mark + i * WORDS + k, "somebody writes into a claim", word,
			     mark + i * WORDS + k);
		}
}

static inline void device_main(void *arg)
{
	struct store_task *t = arg;
	struct store_world *w = t->w;
	uint64_t most = w->params.claim_pages ? w->params.claim_pages : w->params.nr_pages;

	for (unsigned n = 0; n < w->params.nr_ops; n++) {
		struct berth_claim_params claim = { .nr_pages = 1 + below(&t->random, most) };
		berth_pfn_t pfn;
		int error = berth_gcma_alloc(w->area, &claim, &pfn, NULL);

		if (error) {
			need(w, error == -BERTH_ENOSPC, "claim", (uint64_t)error, 0);
			continue;
		}
		w->claims++;
		use_claim(t, pfn, claim.nr_pages);
		error = berth_gcma_release(w->area, pfn, claim.nr_pages);
		need(w, !error, "release", (uint64_t)error, 0);
	}
}

/* ---- Worlds ------------------------------------------------------------------------------------ */

static inline void build(struct store_world *w)
{
	const struct berth_gcma_params area = {
		.name = "sim",
		.start_pfn = FIRST_PFN,
		.nr_pages = w->params.nr_pages,
		.granule_order = w->params.granule_order,
		.nr_cpus = MAX_STORE_TASKS + 1,
		.port = &berth_sim_port_ops,
		.port_ctx = w->sim,
	};
	struct berth_store_params store = {
		.areas = &w->area,
		.nr_areas = 1,
		.linear = w->linear,
		.linear_pfn = FIRST_PFN,
		.nr_shards = w->params.nr_shards,
		.seed = 3,
		.port = &berth_sim_port_ops,
		.port_ctx = w->sim,
	};
	size_t bytes = berth_gcma_metadata_size(&area);

	if (!w->area_metadata)
		assert_int_equal(posix_memalign(&w->area_metadata, 64, bytes), 0);
	assert_int_equal(berth_gcma_init(&w->area, &area, w->area_metadata, bytes), 0);
	bytes = berth_store_metadata_size(&store);
	if (!w->metadata)
		assert_int_equal(posix_memalign(&w->metadata, 64, bytes), 0);
	assert_int_equal(berth_store_init(&w->store, &store, w->metadata, bytes), 0);
}

static inline void spawn(struct store_world *w, unsigned nr, uint64_t *random,
			 void (*fn)(void *arg))
{
	for (unsigned i = 0; i < nr; i++) {
		struct store_task *t = &w->tasks[w->nr_tasks++];

		t->w = w;
		t->id = i;
		t->random = next_random(random);
		berth_sim_spawn(w->sim, fn, t);
	}
}

/* Each key has its first version. */
static inline void prefill(struct store_world *w)
{
	berth_sim_set_cpu(w->sim, MAX_STORE_TASKS);
	for (unsigned k = 0; k < w->params.nr_keys; k++) {
		struct berth_store_key key = key_of(k);
		uint64_t page[WORDS];

		for (unsigned i = 0; i < WORDS; i++)
			page[i] = w->params.live ? 0 : word_of(k, 1, i);
		assert_int_equal(berth_store_put(w->store, &key, page), 0);
		w->floor[k] = w->begun[k] = w->ended[k] = !w->params.live;
	}
}

static inline void store_begin(struct store_world *w, uint64_t seed)
{
	const struct store_params *params = &w->params;
	uint64_t random = seed;

	berth_sim_reset(w->sim, seed);
	w->nr_tasks = 0;
	for (unsigned k = 0; k < KEYS; k++)
		w->floor[k] = w->begun[k] = w->ended[k] = 0;
	for (unsigned i = 0; i < WORDS; i++)
		w->source[i] = 0;
	build(w);
	prefill(w);
	spawn(w, params->nr_putters, &random, params->live ? live_putter_main : putter_main);
	spawn(w, params->nr_readers, &random, reader_main);
	spawn(w, params->nr_claimers, &random, device_main);
	spawn(w, params->nr_droppers, &random, dropper_main);
}

static inline const char *store_finish(struct store_world *w, struct berth_violation *v)
{
	const struct berth_sim_result *result = berth_sim_run(w->sim);

	if (result->outcome != BERTH_SIM_DONE) {
		v->value = result->value;
		v->expected = result->expected;
		return result->what ? result->what : "deadlock or livelock";
	}
	if (!berth_store_check(w->store, v) || !berth_gcma_check(w->area, v))
		return v->what;
	return NULL;
}

static inline struct store_world *store_open(const struct store_params *params)
{
	const struct berth_sim_params sim = { .weak_memory = true,
					      .leap_ns = 2000000,
					      .restarts = params->restarts };
	struct store_world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->params = *params;
	if (!w->params.nr_pages)
		w->params.nr_pages = MAX_PAGES;
	w->sim = berth_sim_create(&sim);
	w->linear = calloc(MAX_PAGES, BERTH_PAGE_SIZE);
	assert_non_null(w->linear);
	return w;
}

static inline void store_close(struct store_world *w)
{
	berth_sim_destroy(w->sim);
	free(w->linear);
	free(w->area_metadata);
	free(w->metadata);
	free(w);
}

#endif
