/* SPDX-License-Identifier: MIT */
/*
 * Threads that work in turn or at the same time (crew.h).
 *
 * The threads are there all the time, each on its CPU: so a measurement has neither their start in it, nor what
 * the scheduler makes of them, and a member finds in its CPU's caches what it left there. Between two pieces of
 * work they sleep, but before work at the same time, they wait for each other awake, and begin at a moment that the
 * last one sets: whoever waits on a word learns of its change when the other is already at work, and then has to bring
 * what comes next into his caches.
 */
#define _GNU_SOURCE
#include "tools/crew.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define EVERYBODY UINT32_MAX
#define MOST_CPUS 64u
#define START_NS 10000u /* from the moment when all are there until they begin */

struct member {
	_Alignas(256) struct berth__crew *crew; /* nothing of its neighbour's is near */
	unsigned number;
	int cpu; /* -1: any */
	pthread_t thread;
	uint64_t began_ns, ended_ns, done;
};

struct berth__crew {
	pthread_mutex_t mutex;
	pthread_cond_t begin, done;
	/* mutex: */
	unsigned nr;           /* members, all that have been started */
	unsigned piece;        /* of work: how many there have been, */
	unsigned busy;         /* and who hasn't heard of it or isn't done with it */
	berth__crew_work work; /* NULL: go home */
	void *ctx;
	unsigned who;
	_Alignas(256) _Atomic unsigned ready;
	_Atomic uint64_t start_ns; /* 0: somebody isn't ready */
	_Alignas(256) _Atomic bool over;
	struct member members[];
};

/* With fewer CPUs than members somebody has to make room. */
static void wait_for_others(struct berth__crew *crew)
{
	uint64_t start_ns;

	if (atomic_fetch_add(&crew->ready, 1) + 1 == crew->nr)
		atomic_store(&crew->start_ns, berth__clock_ns(CLOCK_MONOTONIC) + START_NS);
	for (unsigned spins = 0; !(start_ns = atomic_load(&crew->start_ns)); spins++)
		if (spins >= 1000000)
			sched_yield();
	while (berth__clock_ns(CLOCK_MONOTONIC) < start_ns)
		;
}

static void do_work(struct member *member)
{
	struct berth__crew *crew = member->crew;

	if (crew->who == EVERYBODY)
		wait_for_others(crew);
	else if (crew->who != member->number)
		return;
	member->began_ns = berth__clock_ns(CLOCK_MONOTONIC);
	member->done = crew->work(crew->ctx, member->number);
	member->ended_ns = berth__clock_ns(CLOCK_MONOTONIC);
	atomic_store_explicit(&crew->over, true, memory_order_relaxed);
}

static void *member_main(void *arg)
{
	struct member *member = arg;
	struct berth__crew *crew = member->crew;
	bool stays = true;

	if (member->cpu >= 0)
		berth__stay_on(member->cpu);
	for (unsigned seen = 0; stays; seen++) {
		pthread_mutex_lock(&crew->mutex);
		while (crew->piece == seen)
			pthread_cond_wait(&crew->begin, &crew->mutex);
		pthread_mutex_unlock(&crew->mutex);
		/* What the piece is doesn't change before all are done with it. */
		stays = crew->work;
		if (stays)
			do_work(member);
		pthread_mutex_lock(&crew->mutex);
		if (--crew->busy == 0)
			pthread_cond_signal(&crew->done);
		pthread_mutex_unlock(&crew->mutex);
	}
	return NULL;
}

static void let_work(struct berth__crew *crew, berth__crew_work work, void *ctx, unsigned who)
{
	pthread_mutex_lock(&crew->mutex);
	crew->work = work;
	crew->ctx = ctx;
	crew->who = who;
	crew->busy = crew->nr;
	crew->piece++;
	atomic_store(&crew->ready, 0);
	atomic_store(&crew->start_ns, 0);
	atomic_store(&crew->over, false);
	pthread_cond_broadcast(&crew->begin);
	while (crew->busy)
		pthread_cond_wait(&crew->done, &crew->mutex);
	pthread_mutex_unlock(&crew->mutex);
}

bool berth__crew_is_over(const struct berth__crew *crew)
{
	return atomic_load_explicit(&crew->over, memory_order_relaxed);
}

double berth__crew_in_turn_between(struct berth__crew *crew, berth__crew_work work,
				   berth__crew_between between, void *ctx, bool can_be_cut)
{
	double rates = 0, done = 0, us = 0;

	for (unsigned i = 0; i < crew->nr; i++) {
		const struct member *member = &crew->members[i];
		double took_us;

		if (between && i)
			between(ctx);
		let_work(crew, work, ctx, i);
		took_us = (double)(member->ended_ns - member->began_ns) / 1000;
		rates += (double)member->done / took_us;
		done += (double)member->done;
		us += took_us;
	}
	return can_be_cut ? rates / crew->nr : done / us;
}

double berth__crew_in_turn(struct berth__crew *crew, berth__crew_work work, void *ctx,
			   bool can_be_cut)
{
	return berth__crew_in_turn_between(crew, work, NULL, ctx, can_be_cut);
}

double berth__crew_at_once(struct berth__crew *crew, berth__crew_work work, void *ctx)
{
	uint64_t began_ns = UINT64_MAX, ended_ns = 0;
	double done = 0;

	let_work(crew, work, ctx, EVERYBODY);
	for (unsigned i = 0; i < crew->nr; i++) {
		const struct member *member = &crew->members[i];

		began_ns = member->began_ns < began_ns ? member->began_ns : began_ns;
		ended_ns = member->ended_ns > ended_ns ? member->ended_ns : ended_ns;
		done += (double)member->done;
	}
	return done * 1000 / (double)(ended_ns - began_ns);
}

void berth__crew_stop(struct berth__crew *crew)
{
	if (!crew)
		return;
	let_work(crew, NULL, NULL, 0);
	for (unsigned i = 0; i < crew->nr; i++)
		pthread_join(crew->members[i].thread, NULL);
	pthread_cond_destroy(&crew->begin);
	pthread_cond_destroy(&crew->done);
	pthread_mutex_destroy(&crew->mutex);
	free(crew);
}

struct berth__crew *berth__crew_start(unsigned nr)
{
	struct berth__crew *crew = aligned_alloc(_Alignof(struct berth__crew),
						 sizeof(struct berth__crew) +
							 nr * sizeof(struct member));
	int cpus[MOST_CPUS];
	unsigned nr_cpus = berth__find_cpus(cpus, MOST_CPUS);

	if (!crew)
		return NULL;
	*crew = (struct berth__crew){ .nr = 0 };
	pthread_mutex_init(&crew->mutex, NULL);
	pthread_cond_init(&crew->begin, NULL);
	pthread_cond_init(&crew->done, NULL);
	for (unsigned i = 0; i < nr; i++) {
		struct member *member = &crew->members[i];

		*member = (struct member){ .crew = crew,
					   .number = i,
					   .cpu = nr_cpus ? cpus[i % nr_cpus] : -1 };
		if (pthread_create(&member->thread, NULL, member_main, member) != 0) {
			berth__crew_stop(crew);
			return NULL;
		}
		crew->nr++;
	}
	return crew;
}

/* ---- Pairs of measurements -------------------------------------------------------------------- */

void berth__speedup_add(struct berth__speedup *speedup, double in_turn, double at_once)
{
	berth__sample_add(&speedup->in_turn, in_turn);
	berth__sample_add(&speedup->at_once, at_once);
	berth__sample_add(&speedup->ratios, at_once / in_turn);
}

void berth__speedup_bounds(struct berth__speedup *speedup, double *low, double *high)
{
	double nr = (double)speedup->ratios.nr;
	double off = nr > 0 ? 98 / sqrt(nr) : 0; /* of the ranks, in percent */

	*low = berth__percentile(&speedup->ratios, fmax(50 - off, 1e-3));
	*high = berth__percentile(&speedup->ratios, fmin(50 + off + 100 / fmax(nr, 1), 100));
}

void berth__speedup_free(struct berth__speedup *speedup)
{
	berth__samples_free(&speedup->in_turn);
	berth__samples_free(&speedup->at_once);
	berth__samples_free(&speedup->ratios);
}
