/* SPDX-License-Identifier: MIT */
/*
 * `berth bench store`: measuring gets and puts beside memcpy, and hit rates beside models.
 *
 * All four works touch the same kinds of memory: one side is a random page of the area, the other a random page of a
 * buffer that is as large as the area, both cold. A get finds what it wants, a put brings in a new key, so
 * each one evicts. A round measures each of them in turn, with one thread and with all.
 */
#define _GNU_SOURCE
#include "tools/bench_store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tools/measure.h"
#include "tools/options.h"
#include "tools/store_world.h"

#define OPS 40000u /* of each thread in a round */
#define SAMPLE 16u /* one in so many is timed alone, in a round of its own */
#define MAX_THREADS 16u
#define GROUP 7u

struct bench {
	const struct berth__store_config *config;
	struct berth__store_world world;
	struct berth_memory buffer;
	uint64_t nr_pages, nr_stored; /* keys 0 .. nr_stored - 1 were put at first */
	void *(*volatile copy)(void *, const void *, size_t); /* not inlined */
};

struct thread {
	struct bench *bench;
	enum berth__store_work work;
	unsigned id, nr;
	uint64_t random, next_key, hits;
	double ns; /* an operation */
	pthread_barrier_t *barrier;
	struct berth__samples *samples; /* NULL: the whole is timed */
};

static void *area_page(const struct bench *bench, uint64_t nr)
{
	return bench->world.memory.linear + nr * BERTH_PAGE_SIZE;
}

static void *buffer_page(const struct bench *bench, uint64_t nr)
{
	return bench->buffer.linear + nr * BERTH_PAGE_SIZE;
}

/* ---- The works --------------------------------------------------------------------------------- */

static void do_one(struct thread *t)
{
	struct bench *bench = t->bench;
	uint64_t a = berth__random(&t->random) % bench->nr_pages;
	uint64_t b = berth__random(&t->random) % bench->nr_pages;
	struct berth_store_key key = { GROUP, 0 };

	switch (t->work) {
	case BERTH__COPY_OUT:
		bench->copy(buffer_page(bench, b), area_page(bench, a), BERTH_PAGE_SIZE);
		break;
	case BERTH__COPY_IN:
		bench->copy(area_page(bench, a), buffer_page(bench, b), BERTH_PAGE_SIZE);
		break;
	case BERTH__GET:
		key.item = a * bench->nr_stored / bench->nr_pages;
		t->hits += berth_store_get(bench->world.store, &key, buffer_page(bench, b)) == 0;
		break;
	default:
		key.group = GROUP + 1;
		key.item = t->next_key++;
		t->hits += berth_store_put(bench->world.store, &key, buffer_page(bench, b)) == 0;
		break;
	}
}

static void time_single(struct thread *t)
{
	for (unsigned i = 0; i < OPS; i++) {
		uint64_t began;

		if (i % SAMPLE) {
			do_one(t);
			continue;
		}
		began = berth__ticks();
		do_one(t);
		berth__sample_add(t->samples, berth__ticks_ns(berth__ticks() - began));
	}
}

static void *run_thread(void *arg)
{
	struct thread *t = arg;
	uint64_t began;

	pthread_barrier_wait(t->barrier);
	if (t->samples) {
		time_single(t);
		return NULL;
	}
	began = berth__ticks();
	for (unsigned i = 0; i < OPS; i++)
		do_one(t);
	t->ns = berth__ticks_ns(berth__ticks() - began) / OPS;
	return NULL;
}

/* ns an operation of a thread; below 0: no threads. */
static double run_threads(struct bench *bench, enum berth__store_work work, unsigned nr,
			  uint64_t round, struct berth__samples *samples, uint64_t *hits)
{
	struct thread threads[MAX_THREADS];
	pthread_t ids[MAX_THREADS];
	pthread_barrier_t barrier;
	unsigned started = 0;
	double ns = 0;

	if (pthread_barrier_init(&barrier, NULL, nr) != 0)
		return -1;
	for (unsigned i = 0; i < nr; i++)
		threads[i] = (struct thread){
			.bench = bench,
			.work = work,
			.id = i,
			.nr = nr,
			.random = berth__mix(bench->config->seed + round * 64 + i),
			.next_key = (round * 64 + i) << 24 | (uint64_t)nr << 60,
			.barrier = &barrier,
			.samples = samples,
		};
	/* The first one is ours; without another thread it would wait for ever. */
	for (unsigned i = 1; i < nr; i++)
		started += pthread_create(&ids[i], NULL, run_thread, &threads[i]) == 0;
	if (started != nr - 1) {
		berth__complain(0, BERTH__STORE_COMMAND, "no threads can be started");
		exit(BERTH__EXIT_FAILED);
	}
	(void)run_thread(&threads[0]);
	for (unsigned i = 1; i < nr; i++)
		pthread_join(ids[i], NULL);
	for (unsigned i = 0; i < nr; i++) {
		ns += threads[i].ns / nr;
		*hits += threads[i].hits;
	}
	pthread_barrier_destroy(&barrier);
	return ns;
}

/* ---- Setting up -------------------------------------------------------------------------------- */

/* The area is full; nearly all of the first keys are there. */
static void fill(struct bench *bench)
{
	for (uint64_t i = 0; i < bench->nr_stored; i++) {
		struct berth_store_key key = { GROUP, i };

		if (berth_store_put(bench->world.store, &key, buffer_page(bench, i)) != 0)
			break;
	}
}

static int open_bench(struct bench *bench, const struct berth__store_config *config)
{
	int error;

	*bench = (struct bench){ .config = config, .copy = memcpy, .buffer.fd = -1 };
	bench->nr_pages = config->area_bytes / BERTH_PAGE_SIZE;
	bench->nr_stored = bench->nr_pages - bench->nr_pages / 32;
	error = berth__store_world_open(&bench->world, bench->nr_pages, 0);
	if (error)
		return error;
	error = berth_memory_open(&bench->buffer, bench->world.memory.bytes);
	if (!error)
		error = berth_memory_populate(&bench->buffer, 0, bench->buffer.bytes);
	if (error) {
		berth_memory_close(&bench->buffer);
		berth__store_world_close(&bench->world);
	}
	return error;
}

/* What a round of puts has evicted is put again, untimed: gets are to find it. */
static void measure_round(struct bench *bench, uint64_t round, unsigned nr,
			  struct berth__samples samples[BERTH__NR_WORKS], uint64_t *gets,
			  uint64_t *hits)
{
	for (int work = 0; work < BERTH__NR_WORKS && !berth__interrupted(); work++) {
		uint64_t done = 0;
		double ns = run_threads(bench, (enum berth__store_work)work, nr, round, NULL,
					&done);

		if (round)
			berth__sample_add(&samples[work], ns);
		if (work == BERTH__GET) {
			*gets += (uint64_t)OPS * nr;
			*hits += done;
		}
	}
	fill(bench);
}

int berth__store_measure(const struct berth__store_config *config, struct berth__store_speed *speed)
{
	struct berth__samples one[BERTH__NR_WORKS] = { 0 }, many[BERTH__NR_WORKS] = { 0 };
	struct berth__samples single[BERTH__NR_WORKS] = { 0 };
	uint64_t gets = 0, hits = 0, done = 0;
	struct bench bench;
	int error = open_bench(&bench, config);

	if (error)
		return berth__complain(BERTH__EXIT_FAILED, BERTH__STORE_COMMAND,
				       "there is not enough memory; use a smaller --size");
	berth__ticks_start();
	fill(&bench);
	/* The first round warms up. */
	for (uint64_t round = 0; round <= config->rounds && !berth__interrupted(); round++) {
		berth__progress(BERTH__STORE_COMMAND, round, config->rounds + 1);
		measure_round(&bench, round, 1, one, &gets, &hits);
		measure_round(&bench, round, (unsigned)config->threads, many, &gets, &hits);
		for (int work = 0; work < BERTH__NR_WORKS && round; work++)
			(void)run_threads(&bench, (enum berth__store_work)work, 1,
					  config->rounds + round, &single[work], &done);
		fill(&bench);
	}
	berth__progress_end();
	for (int work = 0; work < BERTH__NR_WORKS; work++) {
		speed->one[work] = berth__percentile(&one[work], 50);
		speed->many[work] = berth__percentile(&many[work], 50);
		speed->p50[work] = berth__percentile(&single[work], 50);
		speed->p99[work] = berth__percentile(&single[work], 99);
		berth__samples_free(&one[work]);
		berth__samples_free(&many[work]);
		berth__samples_free(&single[work]);
	}
	speed->hits = (double)hits / (double)(gets ? gets : 1);
	speed->metadata_bytes = bench.world.metadata_bytes;
	speed->nr_pages = bench.nr_pages;
	berth_memory_close(&bench.buffer);
	berth__store_world_close(&bench.world);
	return berth__interrupted() ? berth__interrupted_code() : 0;
}

/* ---- Hit rates --------------------------------------------------------------------------------- */

#define TRACE_PAGES 8192u
#define TRACE_USES (60u * TRACE_PAGES)

/* Below 0: no memory. */
static double store_hit_rate(const struct berth__trace *trace)
{
	static uint64_t page[BERTH_PAGE_SIZE / 8];
	struct berth__store_world world;
	struct berth_store_stats stats;

	if (berth__store_world_open(&world, TRACE_PAGES, 0) != 0)
		return -1;
	for (size_t i = 0; i < trace->nr && !berth__interrupted(); i++) {
		struct berth_store_key key = { trace->keys[i] >> 16, trace->keys[i] };

		if (berth_store_get(world.store, &key, page) != 0)
			(void)berth_store_put(world.store, &key, page);
	}
	berth_store_stats(world.store, &stats);
	berth__store_world_close(&world);
	return (double)stats.hits / (double)trace->nr;
}

int berth__store_trace(const struct berth__store_config *config, struct berth__store_rates *rates)
{
	for (int kind = 0; kind < BERTH__NR_TRACES && !berth__interrupted(); kind++) {
		struct berth__trace trace;

		berth__progress(BERTH__STORE_COMMAND ": hit rates", (uint64_t)kind,
				BERTH__NR_TRACES);
		if (!berth__trace_make(&trace, (enum berth__trace_kind)kind, TRACE_PAGES,
				       TRACE_USES, config->seed))
			return berth__complain(BERTH__EXIT_FAILED, BERTH__STORE_COMMAND,
					       "there is not enough memory");
		rates->lru[kind] = berth__lru_hit_rate(&trace, TRACE_PAGES);
		rates->s3fifo[kind] = berth__s3fifo_hit_rate(&trace, TRACE_PAGES);
		rates->store[kind] = store_hit_rate(&trace);
		berth__trace_free(&trace);
		if (rates->lru[kind] < 0 || rates->s3fifo[kind] < 0 || rates->store[kind] < 0)
			return berth__complain(BERTH__EXIT_FAILED, BERTH__STORE_COMMAND,
					       "there is not enough memory");
	}
	berth__progress_end();
	return berth__interrupted() ? berth__interrupted_code() : 0;
}
