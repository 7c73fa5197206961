/* SPDX-License-Identifier: MIT */
/*
 * The registry of areas, devices and policies (<berth/contig.h>).
 *
 * I1  Areas are only added; those below nr_areas are complete and never change, so that they need no
 *     lock. The map and the default change under the lock.
 * I2  No two areas of a registry share a frame.
 *
 * Nothing in here knows how an area allocates; the policies that are built on CMA areas are at the
 * end, "reserve" is in alloc/reserve.c, "gcma" in alloc/gcma_policy.c.
 *
 * Complexity: finding a device's area O(devices + areas), the rest is the policy's.
 */
#include "core/alloc/framework.h"

#include "core/alloc/claims.h"

#define MOST 1024u /* areas and devices */

struct mapping {
	char device[BERTH_DEVICE_NAME_BYTES]; /* without the '*'; empty with `prefix`: all devices */
	uint8_t length;
	bool used, prefix;
	struct berth_contig_area *area;
};

struct berth_contig {
	berth_mutex_t declaring; /* one at a time */
	berth_lock_t lock;
	const struct berth_port_ops *port;      /* c */
	void *port_ctx;                         /* c */
	unsigned max_areas, max_devices;        /* c */
	_Atomic uint32_t nr_areas;              /* a: grows under `declaring` */
	struct berth_contig_area *default_area; /* lock */
	struct berth_contig_area **areas;       /* those below nr_areas: c */
	struct mapping *devices;                /* lock */
};

struct berth_contig_area {
	char name[BERTH_AREA_NAME_BYTES];
	const struct berth_contig_policy *policy;
	berth_pfn_t start_pfn;
	uint64_t nr_pages;
	unsigned align_order;
	int node;
	void *state;
};

static bool same_name(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

/* 0: longer than `most`. */
static size_t length_of(const char *name, size_t most)
{
	size_t length = 0;

	while (length <= most && name[length])
		length++;
	return length <= most ? length : 0;
}

static size_t rounded(size_t bytes)
{
	return (bytes + 63) & ~(size_t)63;
}

/* ---- The registry ----------------------------------------------------------------------------- */

size_t berth_contig_bytes(const struct berth_contig_params *params)
{
	if (!params || !params->port || !params->max_areas || !params->max_devices ||
	    params->max_areas > MOST || params->max_devices > MOST)
		return 0;
	return rounded(sizeof(struct berth_contig)) +
	       rounded(params->max_areas * sizeof(struct berth_contig_area *)) +
	       params->max_devices * sizeof(struct mapping);
}

int berth_contig_init(struct berth_contig **out, const struct berth_contig_params *params,
		      void *memory, size_t memory_bytes)
{
	size_t bytes = berth_contig_bytes(params);
	struct berth_contig *contig = memory;
	char *at = memory;

	if (!out || !memory || ((uintptr_t)memory & 63) || !bytes || memory_bytes < bytes)
		return -BERTH_EINVAL;
	__builtin_memset(memory, 0, bytes);
	contig->port = params->port;
	contig->port_ctx = params->port_ctx;
	contig->max_areas = params->max_areas;
	contig->max_devices = params->max_devices;
	at += rounded(sizeof(*contig));
	contig->areas = (void *)at;
	at += rounded(params->max_areas * sizeof(*contig->areas));
	contig->devices = (void *)at;
	*out = contig;
	return 0;
}

static unsigned nr_areas(struct berth_contig *contig)
{
	return atomic_load_explicit(&contig->nr_areas, memory_order_acquire);
}

const struct berth_contig_policy *berth_contig_policy_find(const char *name)
{
	const struct berth_contig_policy *policy = berth_contig_policies;

	while (policy->name && !(name && same_name(policy->name, name)))
		policy++;
	return policy->name ? policy : NULL;
}

/* ---- Areas ------------------------------------------------------------------------------------ */

static const struct berth_contig_policy *policy_of(const struct berth_contig_area_params *params)
{
	return params->policy ? params->policy : &berth_contig_policies[0];
}

size_t berth_contig_area_bytes(const struct berth_contig_area_params *params)
{
	size_t bytes = 0;

	if (params && params->nr_pages &&
	    params->start_pfn + params->nr_pages > params->start_pfn &&
	    params->align_order <= BERTH_MAX_ORDER_LIMIT && params->lend <= BERTH_LEND_OFF &&
	    params->order_per_bit <= BERTH_MAX_ORDER_LIMIT)
		bytes = policy_of(params)->state_bytes(params);
	return bytes ? rounded(sizeof(struct berth_contig_area)) + bytes : 0;
}

/* contig->declaring held. */
static int check_new_area(struct berth_contig *contig,
			  const struct berth_contig_area_params *params)
{
	unsigned nr = nr_areas(contig);

	for (unsigned i = 0; i < nr; i++) {
		const struct berth_contig_area *area = contig->areas[i];

		if (same_name(area->name, params->name) ||
		    (area->start_pfn < params->start_pfn + params->nr_pages &&
		     params->start_pfn < area->start_pfn + area->nr_pages))
			return -BERTH_EEXIST;
	}
	return nr == contig->max_areas ? -BERTH_ENOSPC : 0;
}

int berth_contig_declare(struct berth_contig *contig, const struct berth_contig_area_params *params,
			 struct berth_contig_area **out)
{
	size_t bytes = berth_contig_area_bytes(params);
	struct berth_contig_area_params own;
	struct berth_contig_area *area;
	int error;

	if (!bytes || !out || !params->name || !params->memory ||
	    ((uintptr_t)params->memory & 63) || params->memory_bytes < bytes ||
	    !length_of(params->name, BERTH_AREA_NAME_BYTES - 1))
		return -BERTH_EINVAL;
	area = params->memory;
	own = *params;
	own.name = area->name;
	berth_mutex_lock(&contig->declaring);
	error = check_new_area(contig, params);
	if (!error) {
		__builtin_memset(params->memory, 0, bytes);
		berth__copy_name(area->name, params->name);
		area->policy = policy_of(params);
		area->start_pfn = params->start_pfn;
		area->nr_pages = params->nr_pages;
		area->align_order = params->align_order;
		area->node = params->node;
		area->state = (char *)params->memory + rounded(sizeof(*area));
		error = area->policy->init(area->state, &own, contig->port, contig->port_ctx);
	}
	if (!error) {
		contig->areas[nr_areas(contig)] = area;
		atomic_fetch_add_explicit(&contig->nr_areas, 1, memory_order_release);
		*out = area;
	}
	berth_mutex_unlock(&contig->declaring);
	return error;
}

BERTH_HOT struct berth_contig_area *berth_contig_area_at(struct berth_contig *contig, unsigned i)
{
	return i < nr_areas(contig) ? contig->areas[i] : NULL;
}

struct berth_contig_area *berth_contig_area_find(struct berth_contig *contig, const char *name)
{
	struct berth_contig_area *area = NULL;

	for (unsigned i = 0; name && (area = berth_contig_area_at(contig, i)); i++)
		if (same_name(area->name, name))
			break;
	return area;
}

const char *berth_contig_area_name(const struct berth_contig_area *area)
{
	return area->name;
}

const struct berth_contig_policy *berth_contig_area_policy(const struct berth_contig_area *area)
{
	return area->policy;
}

BERTH_HOT struct berth_cma *berth_contig_area_cma(struct berth_contig_area *area)
{
	return area->policy->cma ? area->policy->cma(area->state) : NULL;
}

BERTH_HOT struct berth_gcma *berth_contig_area_gcma(struct berth_contig_area *area)
{
	return area->policy->gcma ? area->policy->gcma(area->state) : NULL;
}

/* ---- Devices ---------------------------------------------------------------------------------- */

/* Splits "nic*" into its parts. */
static int parse_device(const char *device, struct mapping *mapping)
{
	size_t length = device ? length_of(device, BERTH_DEVICE_NAME_BYTES - 1) : 0;

	*mapping = (struct mapping){ .used = true };
	if (!length)
		return -BERTH_EINVAL;
	berth__copy_name(mapping->device, device);
	if (device[length - 1] == '*') {
		mapping->prefix = true;
		mapping->device[--length] = 0;
	}
	mapping->length = (uint8_t)length;
	return 0;
}

/* Lock held. */
static struct mapping *find_mapping(struct berth_contig *contig, const struct mapping *wanted)
{
	for (unsigned i = 0; i < contig->max_devices; i++) {
		struct mapping *one = &contig->devices[i];

		if (one->used == wanted->used &&
		    (!wanted->used ||
		     (one->prefix == wanted->prefix && same_name(one->device, wanted->device))))
			return one;
	}
	return NULL;
}

int berth_contig_map(struct berth_contig *contig, const char *device, const char *area)
{
	static const struct mapping unused;
	struct mapping wanted, *place;
	int error = parse_device(device, &wanted);

	wanted.area = area ? berth_contig_area_find(contig, area) : NULL;
	if (!error && area && !wanted.area)
		error = -BERTH_ENOENT;
	if (error)
		return error;
	berth_lock(&contig->lock);
	place = find_mapping(contig, &wanted);
	if (!area && !place)
		error = -BERTH_ENOENT;
	if (area && !place)
		place = find_mapping(contig, &unused);
	if (area && !place)
		error = -BERTH_ENOSPC;
	if (!error)
		*place = area ? wanted : unused;
	berth_unlock(&contig->lock);
	return error;
}

int berth_contig_set_default(struct berth_contig *contig, const char *name)
{
	struct berth_contig_area *area = name ? berth_contig_area_find(contig, name) : NULL;

	if (name && !area)
		return -BERTH_ENOENT;
	berth_lock(&contig->lock);
	contig->default_area = area;
	berth_unlock(&contig->lock);
	return 0;
}

/* How well a mapping fits: 0 not at all, else the better the longer, and a whole name best. */
static unsigned fit(const struct mapping *mapping, const char *device)
{
	for (unsigned i = 0; i < mapping->length; i++)
		if (device[i] != mapping->device[i]) /* also where the device's name ends */
			return 0;
	if (mapping->prefix)
		return 1u + mapping->length;
	return device[mapping->length] ? 0 : 2u * BERTH_DEVICE_NAME_BYTES;
}

struct berth_contig_area *berth_contig_area_of(struct berth_contig *contig, const char *device,
					       int node)
{
	struct berth_contig_area *best = NULL, *area;
	unsigned best_fit = 0;

	berth_lock(&contig->lock);
	for (unsigned i = 0; device && i < contig->max_devices; i++) {
		const struct mapping *one = &contig->devices[i];
		unsigned this_fit = one->used ? fit(one, device) : 0;

		if (this_fit > best_fit) {
			best_fit = this_fit;
			best = one->area;
		}
	}
	for (unsigned i = 0; !best && node >= 0 && (area = berth_contig_area_at(contig, i)); i++)
		if (area->node == node)
			best = area;
	if (!best)
		best = contig->default_area;
	berth_unlock(&contig->lock);
	return best;
}

/* ---- Claims ----------------------------------------------------------------------------------- */

/* What the area and its policy ask for in addition. */
static BERTH_HOT struct berth_claim_params adjusted(const struct berth_contig_area *area,
						    const struct berth_claim_params *params)
{
	struct berth_claim_params own = *params;

	if (own.align_order < area->align_order)
		own.align_order = area->align_order;
	own.flags |= area->policy->claim_flags;
	return own;
}

static int refuse(const struct berth_contig_area *area, struct berth_claim_report *report)
{
	*report = (struct berth_claim_report){ .error = -BERTH_EINVAL,
					       .area = area->name,
					       .blocker_pfn = BERTH_PFN_NONE };
	return -BERTH_EINVAL;
}

BERTH_HOT int berth_contig_area_alloc(struct berth_contig_area *area,
				      const struct berth_claim_params *params, berth_pfn_t *pfn,
				      struct berth_claim_report *report)
{
	struct berth_claim_report ignored;
	struct berth_claim_params own;

	if (!report)
		report = &ignored;
	if (!params)
		return refuse(area, report);
	own = adjusted(area, params);
	return area->policy->alloc(area->state, &own, pfn, report);
}

int berth_contig_area_alloc_bulk(struct berth_contig_area *area,
				 const struct berth_claim_params *params, unsigned nr,
				 berth_pfn_t *pfns, unsigned flags,
				 struct berth_claim_report *report)
{
	struct berth_claim_report ignored;
	struct berth_claim_params own;

	if (!report)
		report = &ignored;
	if (!params)
		return refuse(area, report);
	own = adjusted(area, params);
	return area->policy->alloc_bulk(area->state, &own, nr, pfns, flags, report);
}

int berth_contig_area_release_bulk(struct berth_contig_area *area, const berth_pfn_t *pfns,
				   unsigned nr, uint64_t nr_pages)
{
	return area->policy->release_bulk(area->state, pfns, nr, nr_pages);
}

int berth_contig_area_prepare(struct berth_contig_area *area,
			      const struct berth_claim_params *params, void *memory,
			      struct berth_cma_prepared **prepared)
{
	struct berth_claim_params own;

	if (!params)
		return -BERTH_EINVAL;
	if (!area->policy->prepare)
		return -BERTH_EOPNOTSUPP;
	own = adjusted(area, params);
	return area->policy->prepare(area->state, &own, memory, prepared);
}

int berth_contig_alloc(struct berth_contig *contig, const char *device, int node,
		       const struct berth_claim_params *params, berth_pfn_t *pfn,
		       struct berth_claim_report *report)
{
	struct berth_contig_area *area = berth_contig_area_of(contig, device, node);
	struct berth_claim_params own;

	if (!area) {
		if (report)
			*report = (struct berth_claim_report){
				.error = -BERTH_ENODEV,
				.nr_pages = params ? params->nr_pages : 0,
				.blocker_pfn = BERTH_PFN_NONE
			};
		return -BERTH_ENODEV;
	}
	if (!params || params->name)
		return berth_contig_area_alloc(area, params, pfn, report);
	own = *params;
	own.name = device;
	return berth_contig_area_alloc(area, &own, pfn, report);
}

BERTH_HOT int berth_contig_release(struct berth_contig *contig, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct berth_contig_area *area;

	for (unsigned i = 0; (area = berth_contig_area_at(contig, i)); i++)
		if (pfn - area->start_pfn < area->nr_pages)
			return area->policy->release(area->state, pfn, nr_pages);
	return -BERTH_EINVAL;
}

void berth_contig_area_stats(struct berth_contig_area *area, struct berth_cma_stats *stats)
{
	area->policy->stats(area->state, stats);
}

int berth_contig_area_set_lend(struct berth_contig_area *area, enum berth_lend_policy lend,
			       uint64_t lend_min_pages)
{
	return area->policy->set_lend ? area->policy->set_lend(area->state, lend, lend_min_pages) :
					-BERTH_EOPNOTSUPP;
}

bool berth_contig_area_next_claim(struct berth_contig_area *area, berth_pfn_t *pfn,
				  struct berth_claim_info *claim)
{
	return area->policy->next_claim(area->state, pfn, claim);
}

bool berth_contig_check(struct berth_contig *contig, struct berth_violation *violation)
{
	struct berth_violation ignored, *out = violation ? violation : &ignored;
	struct berth_contig_area *area, *other;

	for (unsigned i = 0; (area = berth_contig_area_at(contig, i)); i++) {
		for (unsigned j = 0; j < i && (other = contig->areas[j]); j++) {
			if (!same_name(area->name, other->name) &&
			    (area->start_pfn >= other->start_pfn + other->nr_pages ||
			     other->start_pfn >= area->start_pfn + area->nr_pages))
				continue;
			*out = (struct berth_violation){ "framework.I2 two areas are one", i, i,
							 j };
			return false;
		}
		if (area->policy->check && !area->policy->check(area->state, out))
			return false;
	}
	return true;
}

/* ---- Policies on CMA areas -------------------------------------------------------------------- */

struct cma_state {
	struct berth_cma *area;
	_Alignas(64) uint64_t bitmap[]; /* whole pageblocks' words are lines of their own */
};

static size_t cma_bytes(const struct berth_contig_area_params *params)
{
	if (!params->zone || params->align_order > params->zone->max_order)
		return 0;
	return sizeof(struct cma_state) +
	       berth_cma_bitmap_bytes(params->nr_pages, params->order_per_bit);
}

static int cma_init(void *state, const struct berth_contig_area_params *params,
		    const struct berth_port_ops *port, void *port_ctx)
{
	struct cma_state *cma = state;
	const struct berth_cma_params own = { .name = params->name,
					      .start_pfn = params->start_pfn,
					      .nr_pages = params->nr_pages,
					      .order_per_bit = params->order_per_bit,
					      .lend = params->lend,
					      .lend_min_pages = params->lend_min_pages,
					      .bitmap = cma->bitmap };

	(void)port; /* the zone has its own */
	(void)port_ctx;
	return berth_cma_declare(params->zone, &own, &cma->area);
}

static int cma_alloc(void *state, const struct berth_claim_params *params, berth_pfn_t *pfn,
		     struct berth_claim_report *report)
{
	return berth_cma_alloc(((struct cma_state *)state)->area, params, pfn, report);
}

static int cma_alloc_bulk(void *state, const struct berth_claim_params *params, unsigned nr,
			  berth_pfn_t *pfns, unsigned flags, struct berth_claim_report *report)
{
	return berth_cma_alloc_bulk(((struct cma_state *)state)->area, params, nr, pfns, flags,
				    report);
}

static int cma_release_bulk(void *state, const berth_pfn_t *pfns, unsigned nr, uint64_t nr_pages)
{
	return berth_cma_release_bulk(((struct cma_state *)state)->area, pfns, nr, nr_pages);
}

static int cma_prepare(void *state, const struct berth_claim_params *params, void *memory,
		       struct berth_cma_prepared **prepared)
{
	return berth_cma_prepare(((struct cma_state *)state)->area, params, memory, prepared);
}

static int cma_release(void *state, berth_pfn_t pfn, uint64_t nr_pages)
{
	return berth_cma_release(((struct cma_state *)state)->area, pfn, nr_pages);
}

static void cma_stats(void *state, struct berth_cma_stats *stats)
{
	berth_cma_stats(((struct cma_state *)state)->area, stats);
}

static bool cma_next_claim(void *state, berth_pfn_t *pfn, struct berth_claim_info *claim)
{
	const struct berth_cma *area = ((struct cma_state *)state)->area;
	berth_pfn_t start = berth__pfn(area->zone, area->start);
	berth_pfn_t end = berth__pfn(area->zone, area->end);

	if (*pfn < start)
		*pfn = start;
	if (*pfn < end && berth_claim_next(area->zone, pfn, claim) && claim->pfn < end)
		return true;
	*pfn = end;
	return false;
}

static int cma_set_lend(void *state, enum berth_lend_policy lend, uint64_t lend_min_pages)
{
	return berth_cma_set_lend(((struct cma_state *)state)->area, lend, lend_min_pages);
}

static struct berth_cma *cma_of(void *state)
{
	return ((struct cma_state *)state)->area;
}

#define CMA_POLICY(name_, claim_flags_)                                                   \
	{                                                                                 \
		.name = (name_), .claim_flags = (claim_flags_), .state_bytes = cma_bytes, \
		.init = cma_init, .alloc = cma_alloc, .release = cma_release,             \
		.alloc_bulk = cma_alloc_bulk, .release_bulk = cma_release_bulk,           \
		.prepare = cma_prepare, .stats = cma_stats, .next_claim = cma_next_claim, \
		.set_lend = cma_set_lend, .cma = cma_of                                   \
	}

const struct berth_contig_policy berth_contig_policies[] = {
	CMA_POLICY("cma", 0),
	CMA_POLICY("first-fit", BERTH_CLAIM_FIRST_FIT),
	{ .name = "reserve",
	  .takes_frames = true,
	  .state_bytes = berth__reserve_bytes,
	  .init = berth__reserve_init,
	  .alloc = berth__reserve_alloc,
	  .release = berth__reserve_release,
	  .alloc_bulk = berth__reserve_alloc_bulk,
	  .release_bulk = berth__reserve_release_bulk,
	  .stats = berth__reserve_stats,
	  .next_claim = berth__reserve_next_claim,
	  .check = berth__reserve_check },
	{ .name = "gcma",
	  .takes_frames = true,
	  .state_bytes = berth__gcma_policy_bytes,
	  .init = berth__gcma_policy_init,
	  .alloc = berth__gcma_policy_alloc,
	  .release = berth__gcma_policy_release,
	  .alloc_bulk = berth__gcma_policy_alloc_bulk,
	  .release_bulk = berth__gcma_policy_release_bulk,
	  .stats = berth__gcma_policy_stats,
	  .next_claim = berth__gcma_policy_next_claim,
	  .check = berth__gcma_policy_check,
	  .gcma = berth__gcma_policy_area },
	{ .name = NULL },
};
