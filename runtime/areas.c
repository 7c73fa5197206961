/* SPDX-License-Identifier: MIT */
/*
 * A pool's areas: what is wanted of them, where they lie, declaring them in the registry (contig.h), at
 * opening and later, and who holds what of them.
 *
 * I1  pool->config says of each area that is declared where it lies; areas below nr_areas don't change.
 */
#define _GNU_SOURCE
#include "runtime/internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <berth/gcma.h>

#include "port/linux/port_linux.h"

#define MOST_BYTES ((size_t)1 << 43) /* 2^31 frames: within a zone's index */
#define MAX_ALIGN ((uint64_t)4 << 20)

/* ---- Plans ------------------------------------------------------------------------------------------ */

size_t berth__areas_bytes(const struct berth_config *config)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < config->nr_areas; i++)
		bytes += config->areas[i].bytes;
	return bytes;
}

/* What `params->areas` say. The first area is the default one. */
static int plan_of_params(const struct berth_pool_params *params, struct berth_config *config)
{
	memset(config, 0, sizeof(*config));
	if (params->nr_areas > BERTH_MAX_POOL_AREAS || (params->nr_areas && !params->areas))
		return -BERTH_EINVAL;
	for (unsigned i = 0; i < params->nr_areas; i++) {
		const struct berth_area_params *area = &params->areas[i];
		struct berth_config_area *planned = &config->areas[config->nr_areas++];

		if (!area->name || !*area->name || strlen(area->name) >= BERTH_AREA_NAME_BYTES ||
		    !area->bytes || area->bytes > MOST_BYTES || area->lend > BERTH_LEND_OFF)
			return -BERTH_EINVAL;
		for (unsigned j = 0; j < i; j++)
			if (strcmp(area->name, params->areas[j].name) == 0)
				return -BERTH_EINVAL;
		strcpy(planned->name, area->name);
		planned->bytes = area->bytes;
		planned->lend = area->lend;
		planned->node = BERTH_NODE_ANY;
	}
	if (config->nr_areas)
		strcpy(config->default_area, config->areas[0].name);
	return 0;
}

/* What a pool can't do of what can be written. The area, or nr_areas. */
static unsigned first_unsuitable(const struct berth_config *config)
{
	unsigned i = 0;

	while (i < config->nr_areas && config->areas[i].align <= MAX_ALIGN &&
	       config->areas[i].unit <= BERTH_HUGE_BYTES)
		i++;
	return i;
}

/* Gives the areas their places, within `limit` bytes. */
static int place(struct berth_config *config, size_t limit, unsigned *which)
{
	*which = first_unsuitable(config);
	if (*which < config->nr_areas)
		return -BERTH_EINVAL;
	return berth_config_place(config, 0, limit, BERTH_HUGE_BYTES, 1, which);
}

int berth__areas_plan(const struct berth_pool_params *params, struct berth_config *config,
		      size_t *bytes)
{
	const size_t rounding = BERTH_HUGE_BYTES - 1;
	size_t areas, end = 0;
	unsigned which;
	int error;

	if (params->bytes > MOST_BYTES || (params->config && params->nr_areas))
		return -BERTH_EINVAL;
	*bytes = (params->bytes + rounding) & ~rounding;
	error = params->config ? berth_config_parse(params->config, config, NULL) :
				 plan_of_params(params, config);
	if (error || place(config, *bytes ? *bytes : MOST_BYTES, &which) != 0)
		return -BERTH_EINVAL;
	areas = berth__areas_bytes(config);
	for (unsigned i = 0; i < config->nr_areas; i++)
		end = config->areas[i].end > end ? config->areas[i].end : end;
	if (!*bytes)
		*bytes = 2 * areas > end ? 2 * areas : end;
	return *bytes && *bytes <= MOST_BYTES ? 0 : -BERTH_EINVAL;
}

int berth_config_explain(const char *text, char *why, size_t why_bytes)
{
	struct berth_config_error wrong;
	struct berth_config config;
	unsigned which;
	int error;

	if (why_bytes)
		*why = 0;
	if (!text)
		return -BERTH_EINVAL;
	error = berth_config_parse(text, &config, &wrong);
	if (error) {
		snprintf(why, why_bytes, "at byte %zu, before '%.20s', there should be %s",
			 wrong.position, text + wrong.position, wrong.expected);
		return error;
	}
	error = place(&config, MOST_BYTES, &which);
	if (error == -BERTH_ENOSPC)
		snprintf(why, why_bytes,
			 "there is no room for the area %s where it should lie, or at all",
			 which < config.nr_areas ? config.areas[which].name : "of each node");
	else if (error)
		snprintf(
			why, why_bytes,
			"the area %s can't be as it says: places are multiples of 2M, align is at most "
			"4M and unit 2M, and the only node is 0",
			which < config.nr_areas ? config.areas[which].name : "of each node");
	return error;
}

/* ---- Declaring ---------------------------------------------------------------------------------------- */

static unsigned order_of(uint64_t bytes)
{
	return bytes > BERTH_PAGE_SIZE ? (unsigned)__builtin_ctzll(bytes) - BERTH_PAGE_SHIFT : 0;
}

/* policy NULL: the first one. */
static unsigned unit_order(const struct berth_contig_policy *policy, uint64_t unit)
{
	return !unit && policy && policy->gcma ? BERTH_GCMA_GRANULE_ORDER : order_of(unit);
}

/* The pool has memory in place of the area, all of it free or a claim. */
static int declare(struct berth_pool_impl *pool, const struct berth_config_area *planned)
{
	struct berth_pool_area *area = &pool->areas[pool->nr_areas];
	const struct berth_contig_policy *policy = berth_contig_policy_find(planned->policy);
	struct berth_contig_area_params params = {
		.name = planned->name,
		.policy = policy,
		.zone = pool->zone,
		.start_pfn = berth__pages_of(planned->start),
		.nr_pages = berth__pages_of(planned->bytes),
		.align_order = order_of(planned->align),
		.order_per_bit = unit_order(policy, planned->unit),
		.nr_cpus = BERTH_LINUX_SLOTS,
		.node = planned->node,
		.lend = planned->lend,
		.lend_min_pages = berth__pages_of(planned->keep + BERTH_PAGE_SIZE - 1),
	};
	int error;

	params.memory_bytes = berth_contig_area_bytes(&params);
	if (!params.memory_bytes)
		return -BERTH_EINVAL;
	params.memory = berth__map_anonymous(params.memory_bytes);
	if (!params.memory)
		return -BERTH_ENOMEM;
	error = berth_contig_declare(pool->contig, &params, &area->area);
	if (error) {
		munmap(params.memory, params.memory_bytes);
		return error;
	}
	area->name = berth_contig_area_name(area->area);
	area->bytes = planned->bytes;
	area->memory = params.memory;
	area->memory_bytes = params.memory_bytes;
	pool->nr_areas++;
	return 0;
}

/* Devices and the default area, as the plan says. */
static int map_devices(struct berth_pool_impl *pool, const struct berth_config *plan)
{
	int error = 0;

	for (unsigned i = 0; i < plan->nr_devices && !error; i++)
		error = berth_contig_map(pool->contig, plan->devices[i].device,
					 plan->devices[i].area);
	if (!error)
		error = berth_contig_set_default(pool->contig,
						 plan->default_area[0] ? plan->default_area : NULL);
	return error == -BERTH_ENOENT ? -BERTH_EINVAL : error;
}

int berth__areas_open(struct berth_pool_impl *pool, const struct berth_config *plan, bool resident)
{
	const struct berth_contig_params params = { .max_areas = BERTH_MAX_POOL_AREAS,
						    .max_devices = BERTH_CONFIG_DEVICES,
						    .port = &pool->port,
						    .port_ctx = pool };
	int error;

	pool->contig_bytes = berth_contig_bytes(&params);
	pool->contig_memory = berth__map_anonymous(pool->contig_bytes);
	if (!pool->contig_memory)
		return -BERTH_ENOMEM;
	error = berth_contig_init(&pool->contig, &params, pool->contig_memory, pool->contig_bytes);
	for (unsigned i = 0; i < plan->nr_areas && !error; i++) {
		error = declare(pool, &plan->areas[i]);
		if (!error && resident)
			error = berth_memory_populate(&pool->memory, plan->areas[i].start,
						      plan->areas[i].bytes);
	}
	if (!error)
		error = map_devices(pool, plan);
	pool->config = *plan;
	return error;
}

void berth__areas_close(struct berth_pool_impl *pool)
{
	berth__stores_close(pool);
	for (unsigned i = 0; i < pool->nr_areas; i++)
		munmap(pool->areas[i].memory, pool->areas[i].memory_bytes);
	pool->nr_areas = 0;
	if (pool->contig_memory)
		munmap(pool->contig_memory, pool->contig_bytes);
	pool->contig_memory = NULL;
	pool->contig = NULL;
}

/* ---- Later --------------------------------------------------------------------------------------------- */

/* Empties the area's place, unless its policy does that; the claim becomes the area. */
static int make_area(struct berth_pool_impl *pool, const struct berth_config_area *planned)
{
	const berth_pfn_t pfn = berth__pages_of(planned->start);
	const uint64_t nr_pages = berth__pages_of(planned->bytes);
	const struct berth_contig_policy *policy = berth_contig_policy_find(planned->policy);
	bool claims = policy && policy->takes_frames;
	int error;

	error = claims ? 0 : berth_alloc_contig_range(pool->zone, pfn, nr_pages, NULL, NULL);
	if (error)
		return error;
	error = berth_memory_populate(&pool->memory, planned->start, planned->bytes);
	if (!error)
		error = declare(pool, planned);
	if (error && !claims && berth_free_contig_range(pool->zone, pfn, nr_pages) != 0)
		pool->port.panic(NULL, "a claim for an area isn't there", pfn, nr_pages);
	return error;
}

static int configure(struct berth_pool_impl *pool, const char *text)
{
	static struct berth_config
		plan; /* too large for any stack; the caller has the lock for all */
	unsigned known = pool->config.nr_areas, which;
	int error;

	plan = pool->config;
	error = berth_config_extend(text, &plan, NULL);
	if (!error)
		error = place(&plan, pool->memory.bytes, &which);
	for (unsigned i = known; i < plan.nr_areas && !error; i++) {
		error = make_area(pool, &plan.areas[i]);
		if (!error)
			pool->config.areas[pool->config.nr_areas++] = plan.areas[i];
	}
	if (!error)
		error = map_devices(pool, &plan);
	if (!error)
		pool->config = plan;
	return error;
}

int berth__pool_configure(struct berth_pool_impl *pool, const char *text)
{
	static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
	int error;

	pthread_mutex_lock(&one_at_a_time);
	error = configure(pool, text);
	pthread_mutex_unlock(&one_at_a_time);
	return error;
}

/* ---- Looking ------------------------------------------------------------------------------------------- */

struct berth_pool_area *berth__pool_area_of(struct berth_pool_impl *pool, const char *device)
{
	const struct berth_contig_area *area = berth_contig_area_of(pool->contig, device,
								    device ? 0 : BERTH_NODE_ANY);
	unsigned nr_areas = pool->nr_areas;

	for (unsigned i = 0; i < nr_areas; i++)
		if (pool->areas[i].area == area)
			return &pool->areas[i];
	return NULL;
}

void berth__area_stats_brief(const struct berth_pool_area *area, struct berth_cma_stats *stats)
{
	struct berth_cma *cma = berth_contig_area_cma(area->area);

	if (cma)
		berth_cma_stats_brief(cma, stats);
	else
		berth_contig_area_stats(area->area, stats);
}

void berth__pool_each_held(struct berth_pool_impl *pool,
			   void (*each)(void *ctx, const struct berth_held *held), void *ctx)
{
	unsigned nr_areas = pool->nr_areas;

	for (unsigned i = 0; i < nr_areas; i++) {
		struct berth_claim_info claim;
		berth_pfn_t pfn = 0;

		while (berth_contig_area_next_claim(pool->areas[i].area, &pfn, &claim)) {
			struct berth_held held = {
				.offset = claim.pfn << BERTH_PAGE_SHIFT,
				.bytes = claim.nr_pages << BERTH_PAGE_SHIFT,
				.age_ns = claim.age_ns,
			};

			if (!claim.area) /* a range that is being emptied, and nobody's */
				continue;
			memcpy(held.name, claim.name, sizeof(held.name));
			strcpy(held.area, pool->areas[i].name);
			each(ctx, &held);
		}
	}
}
