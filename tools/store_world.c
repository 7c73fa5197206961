/* SPDX-License-Identifier: MIT */
/*
 * Stores for benchmarks, and their verification under load.
 */
#define _GNU_SOURCE
#include "tools/store_world.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "port/linux/port_linux.h"
#include "store/copy.h"
#include "tools/measure.h"

/* ---- Worlds ------------------------------------------------------------------------------------ */

/* Looked at in random order: huge pages, if there are any. */
static void *map_metadata(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	(void)madvise(at, bytes, MADV_HUGEPAGE);
	return at;
}

static int open_area(struct berth__store_world *world)
{
	const struct berth_gcma_params params = {
		.name = "bench",
		.nr_pages = world->nr_pages,
		.granule_order = BERTH_GCMA_GRANULE_ORDER,
		.nr_cpus = BERTH_LINUX_SLOTS,
		.port = berth_port_linux_ops(),
	};

	world->area_metadata_bytes = berth_gcma_metadata_size(&params);
	if (!world->area_metadata_bytes)
		return -BERTH_EINVAL;
	world->area_metadata = map_metadata(world->area_metadata_bytes);
	if (!world->area_metadata)
		return -BERTH_ENOMEM;
	return berth_gcma_init(&world->area, &params, world->area_metadata,
			       world->area_metadata_bytes);
}

static int open_store(struct berth__store_world *world, unsigned nr_shards)
{
	const struct berth_store_params params = {
		.areas = &world->area,
		.nr_areas = 1,
		.linear = world->memory.linear,
		.nr_shards = nr_shards,
		.seed = 1,
		.port = berth_port_linux_ops(),
	};

	world->metadata_bytes = berth_store_metadata_size(&params);
	if (!world->metadata_bytes)
		return -BERTH_EINVAL;
	world->metadata = map_metadata(world->metadata_bytes);
	if (!world->metadata)
		return -BERTH_ENOMEM;
	return berth_store_init(&world->store, &params, world->metadata, world->metadata_bytes);
}

int berth__store_world_open(struct berth__store_world *world, uint64_t nr_pages, unsigned nr_shards)
{
	const size_t rounding = BERTH_HUGE_BYTES - 1;
	size_t bytes = ((size_t)nr_pages * BERTH_PAGE_SIZE + rounding) & ~rounding;
	int error;

	*world = (struct berth__store_world){ .nr_pages = nr_pages };
	error = berth_memory_open(&world->memory, bytes);
	if (error)
		return error;
	error = berth_memory_populate(&world->memory, 0, bytes);
	if (!error)
		error = open_area(world);
	if (!error)
		error = open_store(world, nr_shards);
	if (error)
		berth__store_world_close(world);
	return error;
}

void berth__store_world_close(struct berth__store_world *world)
{
	if (world->metadata)
		munmap(world->metadata, world->metadata_bytes);
	if (world->area_metadata)
		munmap(world->area_metadata, world->area_metadata_bytes);
	berth_memory_close(&world->memory);
}

/* ---- Pages and keys ---------------------------------------------------------------------------- */

#define WORDS (BERTH_PAGE_SIZE / 8)
#define GROUP_KEYS 64u /* keys of a group */

/* What is known of a key. */
struct key_state {
	_Atomic uint64_t floor;        /* a: what a get must not be older than */
	_Atomic uint64_t begun, ended; /* a: by the key's writer: versions of puts */
};

struct run {
	struct berth__store_verify *verify;
	struct berth__store_world world;
	struct key_state *keys;
	uint64_t nr_keys;
	_Atomic bool stop;
	_Atomic uint64_t gets_done;
	pthread_mutex_t lock; /* of verify's results */
};

struct worker {
	struct run *run;
	unsigned id;
	uint64_t random;
	uint64_t gets, hits, puts, overwrites, refused, drops, group_drops, claims;
	uint64_t page[WORDS];
};

static struct berth_store_key key_of(uint64_t key)
{
	return (struct berth_store_key){ key / GROUP_KEYS, key };
}

/* The words from the second on are a sequence that key and version begin. */
static uint64_t sequence(uint64_t key, uint64_t version)
{
	return berth__mix(key << 32 ^ version);
}

#define STEP UINT64_C(0x9e3779b97f4a7c15)

static void make_page(uint64_t *page, uint64_t key, uint64_t version)
{
	uint64_t first = sequence(key, version);

	page[0] = key;
	page[1] = version;
	for (size_t i = 2; i < WORDS; i++)
		page[i] = first + i * STEP;
}

static bool page_is_whole(const uint64_t *page, uint64_t key)
{
	uint64_t first = sequence(key, page[1]), differ = page[0] ^ key;

	for (size_t i = 2; i < WORDS; i++)
		differ |= page[i] ^ (first + i * STEP);
	return !differ;
}

static void report(struct run *run, const char *what, uint64_t key, uint64_t value,
		   uint64_t expected)
{
	pthread_mutex_lock(&run->lock);
	if (!run->verify->problem[0])
		snprintf(run->verify->problem, sizeof(run->verify->problem),
			 "%s: key %llu, %llu, expected %llu", what, (unsigned long long)key,
			 (unsigned long long)value, (unsigned long long)expected);
	pthread_mutex_unlock(&run->lock);
	atomic_store(&run->stop, true);
}

/* Half of all goes to an eighth of the keys. */
static uint64_t some_key(struct worker *w)
{
	uint64_t random = berth__random(&w->random), nr = w->run->nr_keys;

	return (random >> 1) % (random & 1 ? nr / 8 : nr);
}

static void raise_floor(struct key_state *state, uint64_t version)
{
	uint64_t now = atomic_load_explicit(&state->floor, memory_order_relaxed);

	while (now < version &&
	       !atomic_compare_exchange_weak_explicit(&state->floor, &now, version,
						      memory_order_release, memory_order_relaxed))
		;
}

/* ---- What workers do --------------------------------------------------------------------------- */

static void get_one(struct worker *w)
{
	struct run *run = w->run;
	uint64_t k = some_key(w), version;
	struct berth_store_key key = key_of(k);
	struct key_state *state = &run->keys[k];
	uint64_t least = atomic_load_explicit(&state->floor, memory_order_acquire);

	w->gets++;
	if (berth_store_get(run->world.store, &key, w->page) != 0)
		return;
	w->hits++;
	version = w->page[1];
	if (!page_is_whole(w->page, k))
		report(run, "a torn or foreign page", k, w->page[0], k);
	else if (version < least)
		report(run, "a stale page", k, version, least);
	else if (version > atomic_load_explicit(&state->begun, memory_order_relaxed))
		report(run, "a page that nobody has put", k, version, least);
}

/* A key that is this writer's alone. */
static uint64_t own_key(struct worker *w)
{
	uint64_t nr = w->run->verify->nr_writers, k = some_key(w);

	k = k - k % nr + w->id;
	return k < w->run->nr_keys ? k : w->id;
}

static void put_one(struct worker *w)
{
	struct run *run = w->run;
	uint64_t k = own_key(w);
	struct berth_store_key key = key_of(k);
	struct key_state *state = &run->keys[k];
	uint64_t version = atomic_load_explicit(&state->begun, memory_order_relaxed) + 1;
	int error;

	make_page(w->page, k, version);
	atomic_store_explicit(&state->begun, version, memory_order_relaxed);
	error = berth_store_put(run->world.store, &key, w->page);
	w->puts += !error;
	w->overwrites += version > 1;
	w->refused += error == -BERTH_ENOSPC;
	if (error && error != -BERTH_ENOSPC)
		report(run, "a put failed", k, (uint64_t)-error, BERTH_ENOSPC);
	atomic_store_explicit(&state->ended, version, memory_order_release);
	raise_floor(state, error ? version + 1 : version);
}

static void drop_one(struct worker *w)
{
	uint64_t k = own_key(w);
	struct berth_store_key key = key_of(k);
	struct key_state *state = &w->run->keys[k];

	w->drops += berth_store_drop(w->run->world.store, &key);
	raise_floor(state, atomic_load_explicit(&state->begun, memory_order_relaxed) + 1);
}

/* Puts that had ended when the drop began are void; of others we don't know. */
static void drop_group(struct worker *w)
{
	struct run *run = w->run;
	uint64_t group = some_key(w) / GROUP_KEYS, first = group * GROUP_KEYS;
	uint64_t ended[GROUP_KEYS];

	for (unsigned i = 0; i < GROUP_KEYS && first + i < run->nr_keys; i++)
		ended[i] = atomic_load_explicit(&run->keys[first + i].ended, memory_order_acquire);
	berth_store_drop_group(run->world.store, group);
	for (unsigned i = 0; i < GROUP_KEYS && first + i < run->nr_keys; i++)
		raise_floor(&run->keys[first + i], ended[i] + 1);
	w->group_drops++;
}

static bool has_ended(const struct run *run)
{
	return atomic_load_explicit(&run->stop, memory_order_relaxed);
}

static void add_up(struct worker *w)
{
	struct berth__store_verify *verify = w->run->verify;

	pthread_mutex_lock(&w->run->lock);
	verify->gets += w->gets;
	verify->hits += w->hits;
	verify->puts += w->puts;
	verify->overwrites += w->overwrites;
	verify->refused += w->refused;
	verify->drops += w->drops;
	verify->group_drops += w->group_drops;
	verify->claims += w->claims;
	pthread_mutex_unlock(&w->run->lock);
}

/* Each key has its first version, so that readers find something from the beginning. */
static void fill(struct run *run)
{
	uint64_t page[WORDS];

	for (uint64_t k = 0; k < run->nr_keys; k++) {
		struct berth_store_key key = key_of(k);

		make_page(page, k, 1);
		if (berth_store_put(run->world.store, &key, page) != 0)
			report(run, "a put failed", k, 0, 0);
		run->verify->puts++;
		run->keys[k] = (struct key_state){ 1, 1, 1 };
	}
}

static void *read_pages(void *arg)
{
	struct worker *w = arg;
	const struct berth__store_verify *verify = w->run->verify;

	while (!has_ended(w->run)) {
		for (unsigned i = 0; i < 256; i++)
			get_one(w);
		if (atomic_fetch_add(&w->run->gets_done, 256) + 256 >= verify->nr_gets)
			atomic_store(&w->run->stop, true);
	}
	add_up(w);
	return NULL;
}

static void *write_pages(void *arg)
{
	struct worker *w = arg;

	while (!has_ended(w->run)) {
		uint64_t op = berth__random(&w->random) % 4096;

		if (op == 0)
			drop_group(w);
		else if (op < 512)
			drop_one(w);
		else
			put_one(w);
	}
	add_up(w);
	return NULL;
}

/* ---- Claimers ---------------------------------------------------------------------------------- */

#define MAX_HELD 3u

struct held {
	berth_pfn_t pfn;
	uint64_t nr_pages, mark;
};

static uint64_t *page_at(struct run *run, berth_pfn_t pfn)
{
	return (uint64_t *)(void *)berth_memory_at(&run->world.memory, pfn);
}

/* A device writes without asking; it does so by the store's copy, which readers' may meet. */
static void use_claim(struct worker *w, const struct held *held)
{
	for (size_t i = 0; i < WORDS; i++)
		w->page[i] = held->mark + i;
	for (uint64_t i = 0; i < held->nr_pages; i++)
		berth__copy_in(page_at(w->run, held->pfn + i), w->page);
}

static void give_back(struct worker *w, const struct held *held)
{
	struct run *run = w->run;

	for (uint64_t i = 0; i < held->nr_pages; i++) {
		berth__copy_out(w->page, page_at(run, held->pfn + i));
		for (size_t k = 0; k < WORDS; k++)
			if (w->page[k] != held->mark + k) {
				report(run, "somebody wrote into a claim", held->pfn + i,
				       w->page[k], held->mark + k);
				break;
			}
	}
	if (berth_gcma_release(run->world.area, held->pfn, held->nr_pages) != 0)
		report(run, "a claim can't be released", held->pfn, 1, 0);
}

static bool claim_one(struct worker *w, struct held *held)
{
	uint64_t random = berth__random(&w->random);
	struct berth_claim_params params = { .nr_pages = 1 +
							 random % (w->run->world.nr_pages / 4) };
	int error = berth_gcma_alloc(w->run->world.area, &params, &held->pfn, NULL);

	if (error && error != -BERTH_ENOSPC)
		report(w->run, "a claim failed", 0, (uint64_t)-error, BERTH_ENOSPC);
	if (error)
		return false;
	held->nr_pages = params.nr_pages;
	held->mark = random << 12;
	w->claims++;
	return true;
}

static void *claim_pages(void *arg)
{
	const struct timespec pause = { .tv_nsec = 200000 }; /* so that there is something to take */
	struct worker *w = arg;
	struct held held[MAX_HELD];
	unsigned nr = 0;

	while (!has_ended(w->run)) {
		if (nr < MAX_HELD && berth__random(&w->random) % 2) {
			if (claim_one(w, &held[nr])) {
				use_claim(w, &held[nr]);
				nr++;
			}
		} else if (nr) {
			give_back(w, &held[0]);
			held[0] = held[--nr];
		}
		nanosleep(&pause, NULL);
	}
	while (nr)
		give_back(w, &held[--nr]);
	add_up(w);
	return NULL;
}

/* ---- The run ----------------------------------------------------------------------------------- */

#define MAX_WORKERS 32u

static unsigned start(struct run *run, struct worker *workers, pthread_t *threads)
{
	const struct berth__store_verify *verify = run->verify;
	const struct {
		unsigned nr;
		void *(*body)(void *);
	} kinds[] = { { verify->nr_readers, read_pages },
		      { verify->nr_writers, write_pages },
		      { verify->nr_claimers, claim_pages } };
	uint64_t random = verify->seed;
	unsigned nr = 0;

	for (unsigned kind = 0; kind < 3; kind++)
		for (unsigned i = 0; i < kinds[kind].nr && nr < MAX_WORKERS; i++) {
			struct worker *w = &workers[nr];

			w->run = run;
			w->id = i;
			w->random = berth__random(&random);
			if (pthread_create(&threads[nr], NULL, kinds[kind].body, w) != 0) {
				report(run, "no thread", nr, 0, 0);
				return nr;
			}
			nr++;
		}
	return nr;
}

static void watch(struct run *run)
{
	const struct timespec pause = { .tv_nsec = 10000000 };
	const struct berth__store_verify *verify = run->verify;

	while (!has_ended(run)) {
		nanosleep(&pause, NULL);
		if (verify->interrupted && verify->interrupted())
			atomic_store(&run->stop, true);
		if (verify->progress)
			verify->progress(atomic_load(&run->gets_done), verify->nr_gets);
	}
}

static void check_at_the_end(struct run *run)
{
	struct berth_violation v = { 0 };

	if (!berth_store_check(run->world.store, &v) || !berth_gcma_check(run->world.area, &v))
		report(run, v.what, v.where, v.value, v.expected);
	berth_store_stats(run->world.store, &run->verify->stats);
}

bool berth__store_verify(struct berth__store_verify *verify)
{
	struct run run = { .verify = verify, .lock = PTHREAD_MUTEX_INITIALIZER };
	struct worker *workers = calloc(MAX_WORKERS, sizeof(*workers));
	pthread_t threads[MAX_WORKERS];
	unsigned nr = 0;

	verify->problem[0] = 0;
	run.nr_keys = verify->nr_pages + verify->nr_pages / 2;
	run.keys = calloc(run.nr_keys, sizeof(*run.keys));
	if (!workers || !run.keys ||
	    berth__store_world_open(&run.world, verify->nr_pages, 0) != 0) {
		snprintf(verify->problem, sizeof(verify->problem), "there is not enough memory");
	} else {
		fill(&run);
		nr = start(&run, workers, threads);
		watch(&run);
		for (unsigned i = 0; i < nr; i++)
			pthread_join(threads[i], NULL);
		check_at_the_end(&run);
		berth__store_world_close(&run.world);
	}
	free(run.keys);
	free(workers);
	return !verify->problem[0];
}
