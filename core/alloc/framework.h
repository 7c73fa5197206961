/* SPDX-License-Identifier: MIT */
/* The policies "reserve" (reserve.c) and "gcma" (gcma_policy.c), for the framework's table. Private to the core. */
#ifndef BERTH_CORE_FRAMEWORK_H
#define BERTH_CORE_FRAMEWORK_H

#include <berth/contig.h>

size_t berth__reserve_bytes(const struct berth_contig_area_params *params);
int berth__reserve_init(void *state, const struct berth_contig_area_params *params,
			const struct berth_port_ops *port, void *port_ctx);
int berth__reserve_alloc(void *state, const struct berth_claim_params *params, berth_pfn_t *pfn,
			 struct berth_claim_report *report);
int berth__reserve_release(void *state, berth_pfn_t pfn, uint64_t nr_pages);
int berth__reserve_alloc_bulk(void *state, const struct berth_claim_params *params, unsigned nr,
			      berth_pfn_t *pfns, unsigned flags, struct berth_claim_report *report);
int berth__reserve_release_bulk(void *state, const berth_pfn_t *pfns, unsigned nr,
				uint64_t nr_pages);
void berth__reserve_stats(void *state, struct berth_cma_stats *stats);
bool berth__reserve_next_claim(void *state, berth_pfn_t *pfn, struct berth_claim_info *claim);
bool berth__reserve_check(void *state, struct berth_violation *violation);

size_t berth__gcma_policy_bytes(const struct berth_contig_area_params *params);
int berth__gcma_policy_init(void *state, const struct berth_contig_area_params *params,
			    const struct berth_port_ops *port, void *port_ctx);
int berth__gcma_policy_alloc(void *state, const struct berth_claim_params *params, berth_pfn_t *pfn,
			     struct berth_claim_report *report);
int berth__gcma_policy_release(void *state, berth_pfn_t pfn, uint64_t nr_pages);
int berth__gcma_policy_alloc_bulk(void *state, const struct berth_claim_params *params, unsigned nr,
				  berth_pfn_t *pfns, unsigned flags,
				  struct berth_claim_report *report);
int berth__gcma_policy_release_bulk(void *state, const berth_pfn_t *pfns, unsigned nr,
				    uint64_t nr_pages);
void berth__gcma_policy_stats(void *state, struct berth_cma_stats *stats);
bool berth__gcma_policy_next_claim(void *state, berth_pfn_t *pfn, struct berth_claim_info *claim);
bool berth__gcma_policy_check(void *state, struct berth_violation *violation);
struct berth_gcma *berth__gcma_policy_area(void *state);

#endif
