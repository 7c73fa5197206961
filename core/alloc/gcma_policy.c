/* SPDX-License-Identifier: MIT */
/*
 * The policy "gcma": a GCMA area (<berth/gcma.h>) behind the framework. Its granules are the units in which
 * claims are kept track of. In a zone all its frames are one claim, for good.
 */
#include <berth/gcma.h>

#include "core/alloc/framework.h"
#include "core/internal.h"

struct gcma_state {
	struct berth_gcma *area;
	_Alignas(64) char metadata[];
};

static struct berth_gcma_params gcma_params(const struct berth_contig_area_params *params,
					    const struct berth_port_ops *port, void *port_ctx)
{
	struct berth_gcma_params own = { .name = params->name,
					 .start_pfn = params->start_pfn,
					 .nr_pages = params->nr_pages,
					 .granule_order = params->order_per_bit,
					 .nr_cpus = params->nr_cpus,
					 .port = port,
					 .port_ctx = port_ctx };

	if (!own.nr_cpus && params->zone)
		own.nr_cpus = params->zone->nr_cpus;
	return own;
}

struct berth_gcma *berth__gcma_policy_area(void *state)
{
	return ((struct gcma_state *)state)->area;
}

size_t berth__gcma_policy_bytes(const struct berth_contig_area_params *params)
{
	const struct berth_gcma_params own = gcma_params(params, NULL, NULL);
	size_t bytes = berth_gcma_metadata_size(&own);

	return bytes ? sizeof(struct gcma_state) + bytes : 0;
}

int berth__gcma_policy_init(void *state, const struct berth_contig_area_params *params,
			    const struct berth_port_ops *port, void *port_ctx)
{
	const struct berth_claim_params claim = { .nr_pages = params->nr_pages,
						  .name = params->name };
	const struct berth_gcma_params own = gcma_params(params, port, port_ctx);
	struct gcma_state *gcma = state;
	int error = berth_gcma_init(&gcma->area, &own, gcma->metadata,
				    berth_gcma_metadata_size(&own));

	if (error || !params->zone)
		return error;
	return berth_alloc_contig_range(params->zone, params->start_pfn, params->nr_pages, &claim,
					NULL);
}

BERTH_HOT int berth__gcma_policy_alloc(void *state, const struct berth_claim_params *params,
				       berth_pfn_t *pfn, struct berth_claim_report *report)
{
	return berth_gcma_alloc(berth__gcma_policy_area(state), params, pfn, report);
}

BERTH_HOT int berth__gcma_policy_release(void *state, berth_pfn_t pfn, uint64_t nr_pages)
{
	return berth_gcma_release(berth__gcma_policy_area(state), pfn, nr_pages);
}

int berth__gcma_policy_alloc_bulk(void *state, const struct berth_claim_params *params, unsigned nr,
				  berth_pfn_t *pfns, unsigned flags,
				  struct berth_claim_report *report)
{
	return berth_gcma_alloc_bulk(berth__gcma_policy_area(state), params, nr, pfns, flags,
				     report);
}

int berth__gcma_policy_release_bulk(void *state, const berth_pfn_t *pfns, unsigned nr,
				    uint64_t nr_pages)
{
	return berth_gcma_release_bulk(berth__gcma_policy_area(state), pfns, nr, nr_pages);
}

/* What isn't claimed counts as free, whatever a store keeps there: it doesn't have to be asked. */
void berth__gcma_policy_stats(void *state, struct berth_cma_stats *stats)
{
	struct berth_gcma_stats own;

	berth_gcma_stats(berth__gcma_policy_area(state), &own);
	*stats = (struct berth_cma_stats){
		.name = own.name,
		.start_pfn = own.start_pfn,
		.nr_pages = own.nr_pages,
		.claimed_pages = own.claimed_pages,
		.free_pages = own.nr_pages - own.claimed_pages,
		.largest_free_pages = own.largest_free_pages,
		.largest_claimable_pages = own.largest_free_pages,
		.claims_ok = own.claims_ok,
		.claims_failed = own.claims_failed,
		.releases = own.releases,
		.lend = BERTH_LEND_OFF, /* to those who would have to be moved */
		.order_per_bit = own.granule_order,
	};
}

bool berth__gcma_policy_next_claim(void *state, berth_pfn_t *pfn, struct berth_claim_info *claim)
{
	return berth_gcma_claim_next(berth__gcma_policy_area(state), pfn, claim);
}

bool berth__gcma_policy_check(void *state, struct berth_violation *violation)
{
	return berth_gcma_check(berth__gcma_policy_area(state), violation);
}
