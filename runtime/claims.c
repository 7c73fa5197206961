/* SPDX-License-Identifier: MIT */
/*
 * Claims of a pool in bytes: single, in bulk, and prepared by a thread ahead of the need.
 *
 * I1  A preparation counts as a held claim from its beginning: so the pool isn't closed under it.
 * I2  A preparation's buffer and error are its thread's until `done`; then they are the caller's.
 */
#define _GNU_SOURCE
#include "runtime/internal.h"

#include <stdlib.h>
#include <string.h>

#define STEP_PAGES 512u /* between two looks at whether it was cancelled */

/* ---- One claim --------------------------------------------------------------------------------------- */

/* What the caller wants, in the core's terms. -EINVAL, -ENOENT, -ENODEV. */
static BERTH_HOT int take_options(struct berth_pool_impl *pool, const char *name,
				  const char *device, size_t bytes,
				  const struct berth_claim_options *options,
				  struct berth_claim_params *params, struct berth_pool_area **area)
{
	*params = (struct berth_claim_params){ 0 };
	if (!bytes ||
	    (options->flags & ~((unsigned)BERTH_CLAIM_ALL_FLAGS | (unsigned)BERTH_ZERO)) ||
	    (options->align_bytes & (options->align_bytes - 1)))
		return -BERTH_EINVAL;
	*area = device ? berth__pool_area_of(pool, device) : berth__pool_area(pool, name);
	if (!*area)
		return device ? -BERTH_ENODEV : -BERTH_ENOENT;
	params->name = options->name ? options->name : device;
	/* Rounded without overflow; whatever doesn't fit the area is refused below. */
	params->nr_pages = berth__pages_of(bytes) + (bytes % BERTH_PAGE_SIZE != 0);
	if (options->align_bytes > BERTH_PAGE_SIZE)
		params->align_order = (unsigned)__builtin_ctzll(options->align_bytes) -
				      BERTH_PAGE_SHIFT;
	params->flags = options->flags & (unsigned)BERTH_CLAIM_ALL_FLAGS;
	if (options->timeout_ns) {
		uint64_t now = pool->port.now_ns(NULL);

		params->deadline_ns = options->timeout_ns < UINT64_MAX - now ?
					      now + options->timeout_ns :
					      UINT64_MAX;
	}
	return 0;
}

/* The frames are claimed: makes the buffer usable. -ENOMEM: there is no memory behind them; then they
 * are still claimed. */
static BERTH_HOT int make_buffer(struct berth_pool_impl *pool, const struct berth_pool_area *area,
				 berth_pfn_t pfn, uint64_t nr_pages, bool zero,
				 struct berth_buffer *buffer)
{
	/* No work, but for areas that become resident as they are used. */
	if (berth_memory_populate(&pool->memory, pfn << BERTH_PAGE_SHIFT,
				  nr_pages << BERTH_PAGE_SHIFT) != 0)
		return -BERTH_ENOMEM;
	*buffer = (struct berth_buffer){
		.address = berth_memory_at(&pool->memory, pfn),
		.bytes = nr_pages << BERTH_PAGE_SHIFT,
		.offset = pfn << BERTH_PAGE_SHIFT,
		.area = area->name,
	};
	if (zero) {
		if (berth_contig_area_gcma(area->area)) /* a store may have written there */
			berth_memory_used(&pool->memory, buffer->offset, buffer->bytes);
		berth_memory_zero(&pool->memory, buffer->offset, buffer->bytes);
	}
	berth_memory_used(&pool->memory, buffer->offset, buffer->bytes);
	return 0;
}

/* Lists had to be looked at: those of idle threads are to hold less next time. Claims of what is free don't look at
 * the clock, and in a GCMA area it was fillers that were looked at. */
static void age_if_drained(struct berth_pool_impl *pool, const struct berth_pool_area *area,
			   const struct berth_claim_report *report)
{
	if (report->phase_ns[BERTH_PHASE_DRAIN] && berth_contig_area_cma(area->area))
		berth__pool_age(pool);
}

BERTH_HOT int berth__pool_claim(struct berth_pool_impl *pool, const char *name, const char *device,
				size_t bytes, const struct berth_claim_options *options,
				struct berth_buffer *buffer, struct berth_claim_report *report)
{
	static const struct berth_claim_options plain;
	struct berth_claim_params params;
	struct berth_claim_report own;
	struct berth_pool_area *area;
	berth_pfn_t pfn;
	int error;

	if (!report)
		report = &own;
	if (!options)
		options = &plain;
	*report = (struct berth_claim_report){ .area = name, .blocker_pfn = BERTH_PFN_NONE };
	error = buffer ? take_options(pool, name, device, bytes, options, &params, &area) :
			 -BERTH_EINVAL;
	if (error)
		return report->error = error;
	error = berth_contig_area_alloc(area->area, &params, &pfn, report);
	/* No place for what is in the way: leases give way. */
	if (error == -BERTH_ENOMEM && berth__leases_make_room(pool, params.nr_pages))
		error = berth_contig_area_alloc(area->area, &params, &pfn, report);
	age_if_drained(pool, area, report);
	if (error)
		return error;
	error = make_buffer(pool, area, pfn, params.nr_pages, options->flags & BERTH_ZERO, buffer);
	if (error) {
		if (berth_contig_release(pool->contig, pfn, params.nr_pages) != 0)
			abort(); /* it was claimed some lines above */
		return report->error = error;
	}
	berth__spread_add(&pool->claims_held, 1);
	return 0;
}

/* The area of a buffer that could be one of ours, or NULL. */
static BERTH_HOT struct berth_pool_area *area_of(struct berth_pool_impl *pool,
						 const struct berth_buffer *buffer)
{
	if (!buffer || !buffer->area || !buffer->bytes || buffer->bytes % BERTH_PAGE_SIZE ||
	    buffer->offset % BERTH_PAGE_SIZE || buffer->offset >= pool->memory.bytes ||
	    buffer->address != pool->memory.linear + buffer->offset)
		return NULL;
	return berth__pool_area(pool, buffer->area);
}

BERTH_HOT int berth__pool_release(struct berth_pool_impl *pool, const struct berth_buffer *buffer)
{
	struct berth_pool_area *area = area_of(pool, buffer);
	int error;

	if (!area)
		return -BERTH_EINVAL;
	error = berth_contig_release(pool->contig, berth__pages_of(buffer->offset),
				     berth__pages_of(buffer->bytes));
	if (!error)
		berth__spread_add(&pool->claims_held, -(uint64_t)1);
	return error;
}

/* ---- Many ---------------------------------------------------------------------------------------------- */

static int claim_many(struct berth_pool_impl *pool, const struct berth_pool_area *area,
		      const struct berth_claim_params *params, unsigned nr, unsigned flags,
		      bool zero, struct berth_buffer *buffers, struct berth_claim_report *report)
{
	berth_pfn_t *pfns = malloc(nr * sizeof(*pfns));
	int got, error = 0;

	if (!pfns)
		return report->error = -BERTH_ENOMEM;
	flags &= BERTH_BULK_AS_MANY_AS_POSSIBLE;
	got = berth_contig_area_alloc_bulk(area->area, params, nr, pfns, flags, report);
	if (got == -BERTH_ENOMEM && berth__leases_make_room(pool, nr * params->nr_pages))
		got = berth_contig_area_alloc_bulk(area->area, params, nr, pfns, flags, report);
	age_if_drained(pool, area, report);
	for (int i = 0; i < got && !error; i++)
		error = make_buffer(pool, area, pfns[i], params->nr_pages, zero, &buffers[i]);
	if (error) {
		if (berth_contig_area_release_bulk(area->area, pfns, (unsigned)got,
						   params->nr_pages) != 0)
			abort(); /* they were claimed some lines above */
		got = report->error = error;
	}
	if (got > 0)
		berth__spread_add(&pool->claims_held, (uint64_t)got);
	free(pfns);
	return got;
}

int berth_claim_bulk(struct berth_pool *handle, const char *name, size_t bytes,
		     const struct berth_claim_options *options, unsigned nr, unsigned flags,
		     struct berth_buffer *buffers, struct berth_claim_report *report)
{
	static const struct berth_claim_options plain;
	struct berth_pool_impl *pool = berth__enter(handle);
	struct berth_claim_params params;
	struct berth_claim_report own;
	struct berth_pool_area *area;
	int got;

	if (!report)
		report = &own;
	if (!options)
		options = &plain;
	*report = (struct berth_claim_report){ .area = name, .blocker_pfn = BERTH_PFN_NONE };
	if (!pool)
		return report->error = berth__refusal(handle);
	if (!buffers || !nr || (flags & ~(unsigned)BERTH_BULK_AS_MANY_AS_POSSIBLE))
		got = -BERTH_EINVAL;
	else
		got = take_options(pool, name, NULL, bytes, options, &params, &area);
	if (got)
		report->error = got;
	else
		got = claim_many(pool, area, &params, nr, flags, options->flags & BERTH_ZERO,
				 buffers, report);
	berth__leave(handle);
	return got;
}

int berth_release_bulk(struct berth_pool *handle, const struct berth_buffer *buffers, unsigned nr)
{
	struct berth_pool_impl *pool = berth__enter(handle);
	struct berth_pool_area *area = NULL;
	berth_pfn_t *pfns;
	int error = 0;

	if (!pool)
		return berth__refusal(handle);
	pfns = nr && buffers ? malloc(nr * sizeof(*pfns)) : NULL;
	if (!pfns)
		error = nr && buffers ? -BERTH_ENOMEM : -BERTH_EINVAL;
	for (unsigned i = 0; i < nr && !error; i++) {
		struct berth_pool_area *its = area_of(pool, &buffers[i]);

		if (!its || (area && its != area) || buffers[i].bytes != buffers[0].bytes)
			error = -BERTH_EINVAL;
		area = its;
		pfns[i] = berth__pages_of(buffers[i].offset);
	}
	if (!error)
		error = berth_contig_area_release_bulk(area->area, pfns, nr,
						       berth__pages_of(buffers[0].bytes));
	if (!error)
		berth__spread_add(&pool->claims_held, -(uint64_t)nr);
	free(pfns);
	berth__leave(handle);
	return error;
}

/* ---- Ahead of the need --------------------------------------------------------------------------------- */

struct berth_prepared {
	struct berth_pool *handle;
	struct berth_pool_impl *pool;
	const struct berth_pool_area *area;
	struct berth_cma_prepared *core; /* its memory */
	bool at_once; /* nothing is to be moved: claimed when the thread begins */
	struct berth_claim_params params;
	char name[BERTH_CLAIM_NAME_BYTES]; /* params.name */
	uint64_t nr_pages;
	bool zero, has_thread;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool done; /* mutex */
	/* The thread's until done: */
	int error;
	struct berth_buffer buffer;
	struct berth_claim_report report;
};

/* Empties the range, takes it and clears it. */
static void make_ready(struct berth_prepared *prepared)
{
	struct berth_pool_impl *pool = prepared->pool;
	uint64_t wait_ns;
	berth_pfn_t pfn;
	int error;

	while (!prepared->at_once &&
	       berth_cma_prepare_step(prepared->core, STEP_PAGES, &wait_ns) > 0)
		if (wait_ns)
			pool->port.wait(pool, wait_ns);
	error = prepared->at_once ? berth_contig_area_alloc(prepared->area->area, &prepared->params,
							    &pfn, &prepared->report) :
				    berth_cma_prepare_take(prepared->core, &pfn, &prepared->report);
	if (error == -BERTH_ENOMEM && berth__leases_make_room(pool, prepared->nr_pages))
		error = berth_contig_area_alloc(prepared->area->area, &prepared->params, &pfn,
						&prepared->report);
	age_if_drained(pool, prepared->area, &prepared->report);
	if (!error) {
		error = make_buffer(pool, prepared->area, pfn, prepared->nr_pages, prepared->zero,
				    &prepared->buffer);
		if (error && berth_contig_release(pool->contig, pfn, prepared->nr_pages) != 0)
			abort(); /* it was claimed some lines above */
	}
	prepared->report.error = error;
	pthread_mutex_lock(&prepared->mutex);
	prepared->error = error;
	prepared->done = true;
	pthread_cond_broadcast(&prepared->changed);
	pthread_mutex_unlock(&prepared->mutex);
}

static void *prepare_main(void *arg)
{
	make_ready(arg);
	/* While the thread still is one of the process's, a fork rather takes it for a writer. */
	berth__fork_hooks.own_threads--;
	return NULL;
}

static void free_prepared(struct berth_prepared *prepared)
{
	if (prepared->has_thread)
		pthread_join(prepared->thread, NULL);
	pthread_mutex_destroy(&prepared->mutex);
	pthread_cond_destroy(&prepared->changed);
	free(prepared->core);
	free(prepared);
}

static struct berth_prepared *new_prepared(void)
{
	struct berth_prepared *prepared = calloc(1, sizeof(*prepared));
	pthread_condattr_t attr;

	if (!prepared)
		return NULL;
	prepared->core = aligned_alloc(16, berth_cma_prepared_bytes());
	if (!prepared->core) {
		free(prepared);
		return NULL;
	}
	pthread_mutex_init(&prepared->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&prepared->changed, &attr);
	pthread_condattr_destroy(&attr);
	return prepared;
}

static int prepare(struct berth_pool_impl *pool, struct berth_pool *handle, const char *name,
		   size_t bytes, const struct berth_claim_options *options,
		   struct berth_prepared **out)
{
	struct berth_claim_params params;
	struct berth_prepared *prepared;
	struct berth_pool_area *area;
	int error = take_options(pool, name, NULL, bytes, options, &params, &area);

	if (error)
		return error;
	prepared = new_prepared();
	if (!prepared)
		return -BERTH_ENOMEM;
	prepared->handle = handle;
	prepared->pool = pool;
	prepared->area = area;
	prepared->nr_pages = params.nr_pages;
	prepared->zero = options->flags & BERTH_ZERO;
	if (params.name) {
		strncpy(prepared->name, params.name, sizeof(prepared->name) - 1);
		params.name = prepared->name;
	}
	prepared->params = params;
	error = berth_contig_area_prepare(area->area, &params, prepared->core, &prepared->core);
	prepared->at_once = error == -BERTH_EOPNOTSUPP;
	if (prepared->at_once)
		error = 0;
	if (!error)
		error = berth__start_thread(prepare_main, prepared, &prepared->thread);
	if (error) {
		free_prepared(prepared);
		return error;
	}
	prepared->has_thread = true;
	berth__spread_add(&pool->claims_held, 1);
	*out = prepared;
	return 0;
}

int berth_prepare(struct berth_pool *handle, const char *name, size_t bytes,
		  const struct berth_claim_options *options, struct berth_prepared **prepared)
{
	static const struct berth_claim_options plain;
	struct berth_pool_impl *pool = berth__enter(handle);
	int error;

	if (!pool)
		return berth__refusal(handle);
	error = prepared ?
			prepare(pool, handle, name, bytes, options ? options : &plain, prepared) :
			-BERTH_EINVAL;
	berth__leave(handle);
	return error;
}

/* True when it is done, at the latest after timeout_ns. */
static bool await_done(struct berth_prepared *prepared, uint64_t timeout_ns)
{
	struct timespec until;
	bool done;
	int error = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(timeout_ns / 1000000000u);
	until.tv_nsec += (long)(timeout_ns % 1000000000u);
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_mutex_lock(&prepared->mutex);
	while (!prepared->done && timeout_ns && !error)
		error = pthread_cond_timedwait(&prepared->changed, &prepared->mutex, &until);
	done = prepared->done;
	pthread_mutex_unlock(&prepared->mutex);
	return done;
}

int berth_prepare_take(struct berth_prepared *prepared, uint64_t timeout_ns,
		       struct berth_buffer *buffer, struct berth_claim_report *report)
{
	int error;

	if (!prepared || !buffer)
		return -BERTH_EINVAL;
	if (!berth__enter(prepared->handle)) /* a forked child: the thread is its parent's */
		return berth__refusal(prepared->handle);
	if (!await_done(prepared, timeout_ns)) {
		berth__leave(prepared->handle);
		return -BERTH_EAGAIN;
	}
	error = prepared->error;
	if (report)
		*report = prepared->report;
	if (error)
		berth__spread_add(&prepared->pool->claims_held, -(uint64_t)1);
	else
		*buffer = prepared->buffer;
	berth__leave(prepared->handle);
	free_prepared(prepared);
	return error;
}

int berth_prepare_cancel(struct berth_prepared *prepared)
{
	struct berth_pool_impl *pool;

	if (!prepared)
		return -BERTH_EINVAL;
	pool = berth__enter(prepared->handle);
	if (!pool)
		return berth__refusal(prepared->handle);
	/* -EINVAL: the thread has taken it. */
	if (!prepared->at_once)
		(void)berth_cma_prepare_cancel(prepared->core);
	while (!await_done(prepared, 1000000000))
		;
	if (!prepared->error &&
	    berth_contig_release(pool->contig, berth__pages_of(prepared->buffer.offset),
				 prepared->nr_pages) != 0)
		abort(); /* it is the preparation's alone */
	berth__spread_add(&pool->claims_held, -(uint64_t)1);
	berth__leave(prepared->handle);
	free_prepared(prepared);
	return 0;
}
