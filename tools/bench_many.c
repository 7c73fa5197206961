/* SPDX-License-Identifier: MIT */
/*
 * `berth bench claim --claimers N`: the same claims by one thread, one after the other, and by N
 * threads at the same time, out of one area and out of an area for each.
 *
 * An empty area's claims take a microsecond or less, so each measurement is of LOOPS claims and
 * releases a thread, and each thread has a CPU of its own: how fast the system's scheduler spreads them
 * isn't the question. Full areas are filled again before each measurement, which is of one claim a
 * thread, and the contents are checked after it. Serial and parallel take turns, so both meet the same
 * load; the ratio is that of the minima.
 */
#define _GNU_SOURCE
#include "tools/bench_many.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <berth/berth.h>

#include "tools/fill.h"
#include "tools/json.h"
#include "tools/measure.h"
#include "tools/options.h"
#include "tools/units.h"

#define LOOPS 20000u /* claims and releases of a thread in a measurement of empty areas: some ms */
#define NAME_BYTES 16

struct pool {
	const struct berth__many *config;
	struct berth_pool *pool;
	struct berth__fill fill;
	bool apart; /* an area for each thread */
	char names[BERTH__MAX_CLAIMERS][NAME_BYTES];
	struct berth__samples serial_us, parallel_us;
};

struct claimer {
	struct pool *pool;
	unsigned id;
	pthread_t thread;
	struct berth_buffer buffer;
	int error;
	_Atomic unsigned *ready, *go;
};

static const char *area_of(const struct pool *pool, unsigned claimer)
{
	return pool->names[pool->apart ? claimer : 0];
}

static bool wrong(const struct pool *pool, const char *what, int error)
{
	berth__complain(0, pool->config->command, "%s: %s (%s)", what, berth_strerror(error),
			berth_errname(error));
	return false;
}

/* ---- One measurement --------------------------------------------------------------------------- */

/* A claimer's claims of one measurement. Of a full area the last buffer is kept. */
static void make_claims(struct claimer *claimer)
{
	const struct pool *pool = claimer->pool;
	unsigned loops = pool->config->movable ? 1 : LOOPS;

	for (unsigned i = 0; i < loops && !claimer->error; i++) {
		claimer->error = berth_claim(pool->pool, area_of(pool, claimer->id),
					     pool->config->size, NULL, &claimer->buffer, NULL);
		if (!claimer->error && !pool->config->movable)
			claimer->error = berth_release(pool->pool, &claimer->buffer);
	}
}

/* The n-th of the CPUs that the process may use; without a complaint if that can't be had. */
static void stay_on_cpu(unsigned n)
{
	cpu_set_t allowed, own;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		return;
	n %= (unsigned)CPU_COUNT(&allowed);
	CPU_ZERO(&own);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed) && n-- == 0)
			CPU_SET(cpu, &own);
	pthread_setaffinity_np(pthread_self(), sizeof(own), &own);
}

static void *claimer_main(void *arg)
{
	struct claimer *claimer = arg;

	stay_on_cpu(claimer->id);
	atomic_fetch_add(claimer->ready, 1);
	while (!atomic_load(claimer->go))
		;
	make_claims(claimer);
	return NULL;
}

/* All claimers at once. Returns us, from the moment at which all were ready, or -1. */
static double run_parallel(struct claimer *claimers, unsigned nr)
{
	_Atomic unsigned ready = 0, go = 0;
	unsigned started = 0;
	uint64_t began;
	double us;

	for (; started < nr; started++) {
		claimers[started].ready = &ready;
		claimers[started].go = &go;
		if (pthread_create(&claimers[started].thread, NULL, claimer_main,
				   &claimers[started]) != 0)
			break;
	}
	while (atomic_load(&ready) < started)
		;
	began = berth__clock_ns(CLOCK_MONOTONIC);
	atomic_store(&go, 1);
	for (unsigned i = 0; i < started; i++)
		pthread_join(claimers[i].thread, NULL);
	us = (double)(berth__clock_ns(CLOCK_MONOTONIC) - began) / 1000;
	return started == nr ? us : -1;
}

/* The same by a thread of its own, so that both measurements begin and end alike. */
static void *serial_main(void *arg)
{
	struct claimer *claimers = arg;

	atomic_fetch_add(claimers->ready, 1);
	while (!atomic_load(claimers->go))
		;
	for (unsigned i = 0; i < claimers->pool->config->claimers; i++)
		make_claims(&claimers[i]);
	return NULL;
}

static double run_serial(struct claimer *claimers)
{
	_Atomic unsigned ready = 0, go = 0;
	pthread_t thread;
	uint64_t began;

	claimers->ready = &ready;
	claimers->go = &go;
	if (pthread_create(&thread, NULL, serial_main, claimers) != 0)
		return -1;
	while (!atomic_load(&ready))
		;
	began = berth__clock_ns(CLOCK_MONOTONIC);
	atomic_store(&go, 1);
	pthread_join(thread, NULL);
	return (double)(berth__clock_ns(CLOCK_MONOTONIC) - began) / 1000;
}

static bool measure(struct pool *pool, bool parallel, bool warm_up)
{
	const struct berth__many *config = pool->config;
	struct claimer claimers[BERTH__MAX_CLAIMERS];
	const void *first;
	int error = config->movable ? berth__fill_refill(&pool->fill) : 0;
	double us;

	if (error)
		return wrong(pool, "the areas can't be filled again", error);
	memset(claimers, 0, sizeof(claimers));
	for (unsigned i = 0; i < config->claimers; i++)
		claimers[i] = (struct claimer){ .pool = pool, .id = i };
	us = parallel ? run_parallel(claimers, (unsigned)config->claimers) : run_serial(claimers);
	if (us < 0)
		return wrong(pool, "a thread can't be started", -BERTH_ENOMEM);
	if (!warm_up)
		berth__sample_add(parallel ? &pool->parallel_us : &pool->serial_us, us);
	for (unsigned i = 0; i < config->claimers; i++) {
		error = claimers[i].error;
		if (!error && config->movable)
			error = berth_release(pool->pool, &claimers[i].buffer);
		if (error)
			return wrong(pool, "a claim", error);
	}
	if (config->movable && berth__fill_check(&pool->fill, &first)) {
		berth__complain(0, config->command, "moved memory is wrong, first at %p", first);
		return false;
	}
	return true;
}

/* ---- One kind of areas ------------------------------------------------------------------------- */

static bool open_pool(struct pool *pool)
{
	const struct berth__many *config = pool->config;
	unsigned nr = pool->apart ? (unsigned)config->claimers : 1;
	struct berth_area_params areas[BERTH__MAX_CLAIMERS];
	const struct berth_pool_params params = { .areas = areas,
						  .nr_areas = nr,
						  .flags = BERTH_POOL_RESIDENT,
						  .mover = config->mover };
	int error;

	for (unsigned i = 0; i < nr; i++) {
		snprintf(pool->names[i], NAME_BYTES, "bench%u", i);
		areas[i] = (struct berth_area_params){ .name = pool->names[i],
						       .bytes = config->area / nr,
						       .lend = BERTH_LEND_FIRST };
	}
	error = berth_pool_open(&params, &pool->pool);
	if (error)
		return wrong(pool, "the pool can't be opened", error);
	if (!config->movable)
		return true;
	pool->fill = (struct berth__fill){ .pool = pool->pool,
					   .run_bytes = config->run,
					   .seed = config->seed };
	error = berth__fill_open(&pool->fill);
	return error ? wrong(pool, "the areas can't be filled", error) : true;
}

static bool run_kind(struct pool *pool)
{
	bool good = open_pool(pool);
	int error;

	for (uint64_t i = 0; i <= pool->config->count && good && !berth__interrupted(); i++) {
		good = measure(pool, false, i == 0) && measure(pool, true, i == 0);
		berth__progress(pool->config->command, i, pool->config->count);
	}
	berth__progress_end();
	if (!pool->pool)
		return good;
	error = pool->config->movable ? berth__fill_close(&pool->fill) : 0;
	if (!error)
		error = berth_pool_close(pool->pool);
	return error ? wrong(pool, "the pool can't be closed", error) : good;
}

/* ---- The command --------------------------------------------------------------------------------- */

static double ratio(const struct pool *pool)
{
	return berth__sample_min(&pool->serial_us) / berth__sample_min(&pool->parallel_us);
}

static void print_text(struct pool *pools)
{
	const struct berth__many *config = pools[0].config;
	unsigned loops = config->movable ? 1 : LOOPS;
	char size[BERTH__UNIT_BYTES], run[BERTH__UNIT_BYTES];

	printf("%llu threads, claims of %s, %s%s\n", (unsigned long long)config->claimers,
	       berth__format_bytes(size, (double)config->size),
	       config->movable ? "movable memory in runs of " : "empty",
	       config->movable ? berth__format_bytes(run, (double)config->run) : "");
	for (unsigned i = 0; i < 2; i++) {
		double claims = (double)(config->claimers * loops);
		char serial[BERTH__UNIT_BYTES], parallel[BERTH__UNIT_BYTES];

		printf("  %-16s %s a claim one after the other, %s at the same time: %.2f times the "
		       "rate (median %.2f)\n",
		       pools[i].apart ? "different areas" : "one area",
		       berth__format_ns(serial,
					berth__sample_min(&pools[i].serial_us) * 1000 / claims),
		       berth__format_ns(parallel,
					berth__sample_min(&pools[i].parallel_us) * 1000 / claims),
		       ratio(&pools[i]),
		       berth__percentile(&pools[i].serial_us, 50) /
			       berth__percentile(&pools[i].parallel_us, 50));
	}
}

static void print_json(struct pool *pools)
{
	const struct berth__many *config = pools[0].config;
	json_t *line = json_pack("{ss, sI, sI, ss, sI, sI}", "bench", "claimers", "claimers",
				 (json_int_t)config->claimers, "size_bytes",
				 (json_int_t)config->size, "fill",
				 config->movable ? "movable" : "empty", "run_bytes",
				 (json_int_t)config->run, "count", (json_int_t)config->count);

	for (unsigned i = 0; i < 2; i++) {
		json_t *kind = json_object();

		berth__json_add(kind, "serial_min_us", berth__sample_min(&pools[i].serial_us));
		berth__json_add(kind, "parallel_min_us", berth__sample_min(&pools[i].parallel_us));
		berth__json_add(kind, "serial_p50_us", berth__percentile(&pools[i].serial_us, 50));
		berth__json_add(kind, "parallel_p50_us",
				berth__percentile(&pools[i].parallel_us, 50));
		berth__json_add(kind, "ratio", ratio(&pools[i]));
		json_object_set_new(line, pools[i].apart ? "different_areas" : "one_area", kind);
	}
	berth__json_print(line);
}

int berth__bench_claimers(const struct berth__many *config)
{
	struct pool pools[2] = { { .config = config }, { .config = config, .apart = true } };
	bool good;

	berth__catch_interrupts();
	good = run_kind(&pools[0]) && run_kind(&pools[1]);
	if (good && !berth__interrupted())
		(config->json ? print_json : print_text)(pools);
	for (unsigned i = 0; i < 2; i++) {
		berth__samples_free(&pools[i].serial_us);
		berth__samples_free(&pools[i].parallel_us);
	}
	if (berth__interrupted())
		return berth__interrupted_code();
	return good ? 0 : BERTH__EXIT_FAILED;
}
