/* SPDX-License-Identifier: MIT */
/*
 * The framework: which device claims from which area, and by which method; as configuration, so that a
 * driver's call stays what it is when either changes.
 *
 * A registry (struct berth_contig) has areas, a map from devices to them, and default areas. Each area
 * has a policy, a table of operations; the registry knows nothing of what is behind it. Freestanding;
 * the caller supplies all memory. Every function may be called by several CPUs or threads at a time.
 */
#ifndef BERTH_CONTIG_H
#define BERTH_CONTIG_H

#include <berth/claims.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BERTH_AREA_NAME_BYTES 32u   /* with the final zero */
#define BERTH_DEVICE_NAME_BYTES 32u /* likewise */
#define BERTH_NODE_ANY (-1)

/* ---- Policies --------------------------------------------------------------------------------- */

/* What an area is declared with. */
struct berth_contig_area_params {
	const char *name; /* 1 .. 31 bytes, unique in the registry; copied */
	const struct berth_contig_policy *policy; /* NULL: berth_contig_policies[0] */
	struct berth_zone
		*zone; /* whose frames they are; "reserve" and "gcma" need none, and no frame is
			* touched */
	berth_pfn_t start_pfn;
	uint64_t nr_pages;
	unsigned align_order; /* each claim is aligned to at least that */
	/* Claims are kept track of in units of 2^order_per_bit frames; "gcma": its granules, which it also
	 * lends by (BERTH_GCMA_GRANULE_ORDER is a good one). */
	unsigned order_per_bit;
	unsigned nr_cpus; /* "gcma": CPU slots that can fill; 0: those of the zone */
	int node;         /* of which it is the default area, or BERTH_NODE_ANY */
	enum berth_lend_policy lend;
	uint64_t lend_min_pages;
	void *memory; /* berth_contig_area_bytes(), aligned to 64; lasts as long as the registry and zone */
	size_t memory_bytes;
};

/*
 * A method of allocation. All operations are called without a lock of the registry; `state` is of
 * state_bytes(), aligned to 64. Errors as those of berth_cma_alloc() and its like.
 */
struct berth_contig_policy {
	const char *name;
	unsigned claim_flags; /* that every claim has, enum berth_claim_flags */
	bool takes_frames; /* init itself takes them out of the zone, for good; they may be in use */
	/* 0: such an area can't be. */
	size_t (*state_bytes)(const struct berth_contig_area_params *params);
	/* params->name is the registry's copy. port: for the time. */
	int (*init)(void *state, const struct berth_contig_area_params *params,
		    const struct berth_port_ops *port, void *port_ctx);
	int (*alloc)(void *state, const struct berth_claim_params *params, berth_pfn_t *pfn,
		     struct berth_claim_report *report);
	int (*release)(void *state, berth_pfn_t pfn, uint64_t nr_pages);
	/* As berth_cma_alloc_bulk() and its like. prepare NULL: nothing is ever to be moved. */
	int (*alloc_bulk)(void *state, const struct berth_claim_params *params, unsigned nr,
			  berth_pfn_t *pfns, unsigned flags, struct berth_claim_report *report);
	int (*release_bulk)(void *state, const berth_pfn_t *pfns, unsigned nr, uint64_t nr_pages);
	int (*prepare)(void *state, const struct berth_claim_params *params, void *memory,
		       struct berth_cma_prepared **prepared);
	void (*stats)(void *state, struct berth_cma_stats *stats);
	/* As berth_claim_next(), for the area's. */
	bool (*next_claim)(void *state, berth_pfn_t *pfn, struct berth_claim_info *claim);
	/* NULL: an area that can't lend. */
	int (*set_lend)(void *state, enum berth_lend_policy lend, uint64_t lend_min_pages);
	/* Verifies what is the policy's own; at a quiescent point. */
	bool (*check)(void *state, struct berth_violation *violation);
	/* The area behind it, or NULL: it has none. */
	struct berth_cma *(*cma)(void *state);
	struct berth_gcma *(*gcma)(void *state);
};

/*
 * Those that there are, with a last one without name:
 *	"cma"        a CMA area of the zone: the range that is cheapest to empty
 *	"first-fit"  likewise, the first range that can be had
 *	"reserve"    a reservation that never lends: first fit in a bitmap of its own. Without a zone it
 *	             may be memory that nobody else manages (no-map); with one its frames are taken out
 *	             of the zone for good, by a claim
 *	"gcma"       a GCMA area (<berth/gcma.h>), which lends only to stores of what can be dropped. Zone and
 *	             frames as with "reserve"
 */
extern const struct berth_contig_policy berth_contig_policies[];
/* By name; NULL: there is none. */
const struct berth_contig_policy *berth_contig_policy_find(const char *name);

/* ---- The registry ----------------------------------------------------------------------------- */

struct berth_contig;
struct berth_contig_area;
struct berth_gcma;

struct berth_contig_params {
	unsigned max_areas, max_devices; /* > 0; at most 1024 each */
	const struct berth_port_ops *port;
	void *port_ctx;
};

/* Bytes of a registry's memory, aligned to 64; 0 for parameters that berth_contig_init() refuses. */
size_t berth_contig_bytes(const struct berth_contig_params *params);
/* Makes an empty registry in `memory`. -EINVAL. */
int berth_contig_init(struct berth_contig **contig, const struct berth_contig_params *params,
		      void *memory, size_t memory_bytes) BERTH_MUST_CHECK;

/* Bytes that an area needs; 0: the policy can't have such an area. */
size_t berth_contig_area_bytes(const struct berth_contig_area_params *params);
/*
 * Declares an area, at any time. *area stays valid for good. -EINVAL: bad parameters; -EEXIST: the name
 * is taken, or a frame belongs to an area; -EBUSY: part of it is in use; -ENOSPC: the registry or the
 * zone is full. Unchanged on error.
 */
int berth_contig_declare(struct berth_contig *contig, const struct berth_contig_area_params *params,
			 struct berth_contig_area **area) BERTH_MUST_CHECK;

/* The area with this name, or NULL. The areas in the order of their declaration; NULL behind the last. */
struct berth_contig_area *berth_contig_area_find(struct berth_contig *contig, const char *name);
struct berth_contig_area *berth_contig_area_at(struct berth_contig *contig, unsigned i);
const char *berth_contig_area_name(const struct berth_contig_area *area);
const struct berth_contig_policy *berth_contig_area_policy(const struct berth_contig_area *area);
/* NULL: its policy has none. */
struct berth_cma *berth_contig_area_cma(struct berth_contig_area *area);
struct berth_gcma *berth_contig_area_gcma(struct berth_contig_area *area); /* likewise */

/*
 * From now on a device claims from this area: `device` is a name, or the beginning of names with a '*'
 * behind it. What was said of the same name or pattern before is replaced; area NULL: is forgotten.
 * -EINVAL: an empty name or one above 31 bytes; -ENOENT: no such area; nothing to forget; -ENOSPC: the
 * map is full.
 */
int berth_contig_map(struct berth_contig *contig, const char *device,
		     const char *area) BERTH_MUST_CHECK;
/* The area of devices that aren't mapped and whose node has none. NULL: none. -ENOENT. */
int berth_contig_set_default(struct berth_contig *contig, const char *area) BERTH_MUST_CHECK;

/*
 * The area that a device claims from: that of its name; else of the longest pattern that fits; else that
 * declared for its node (not for BERTH_NODE_ANY), the first one; else the default. NULL: none.
 * O(devices + areas).
 */
struct berth_contig_area *berth_contig_area_of(struct berth_contig *contig, const char *device,
					       int node);

/* ---- What a driver calls ---------------------------------------------------------------------- */

/*
 * Claims for a device. params->name: the claim's, NULL: the device's. Errors as berth_cma_alloc(), or
 * -ENODEV: nothing is configured for the device and its node, and there is no default area.
 */
int berth_contig_alloc(struct berth_contig *contig, const char *device, int node,
		       const struct berth_claim_params *params, berth_pfn_t *pfn,
		       struct berth_claim_report *report) BERTH_MUST_CHECK;
/* Claims from an area, whoever it is for. */
int berth_contig_area_alloc(struct berth_contig_area *area, const struct berth_claim_params *params,
			    berth_pfn_t *pfn, struct berth_claim_report *report) BERTH_MUST_CHECK;
/* Likewise many at once, and ahead of the need: as berth_cma_alloc_bulk() and its like. -EOPNOTSUPP of
 * prepare: the policy never moves anything, so that a claim doesn't wait. */
int berth_contig_area_alloc_bulk(struct berth_contig_area *area,
				 const struct berth_claim_params *params, unsigned nr,
				 berth_pfn_t *pfns, unsigned flags,
				 struct berth_claim_report *report) BERTH_MUST_CHECK;
int berth_contig_area_release_bulk(struct berth_contig_area *area, const berth_pfn_t *pfns,
				   unsigned nr, uint64_t nr_pages) BERTH_MUST_CHECK;
int berth_contig_area_prepare(struct berth_contig_area *area,
			      const struct berth_claim_params *params, void *memory,
			      struct berth_cma_prepared **prepared) BERTH_MUST_CHECK;
/* Gives back what either has claimed. -EINVAL: it isn't a claim. O(areas), and the release. */
int berth_contig_release(struct berth_contig *contig, berth_pfn_t pfn,
			 uint64_t nr_pages) BERTH_MUST_CHECK;

void berth_contig_area_stats(struct berth_contig_area *area, struct berth_cma_stats *stats);
/* As berth_cma_set_lend(); -EOPNOTSUPP: the policy never lends. */
int berth_contig_area_set_lend(struct berth_contig_area *area, enum berth_lend_policy lend,
			       uint64_t lend_min_pages) BERTH_MUST_CHECK;
/* As berth_claim_next(), over the claims of one area: before it goes, those that were never released. */
bool berth_contig_area_next_claim(struct berth_contig_area *area, berth_pfn_t *pfn,
				  struct berth_claim_info *claim);
/* Verifies the registry and its areas' policies (not their zones); at a quiescent point. */
bool berth_contig_check(struct berth_contig *contig,
			struct berth_violation *violation) BERTH_MUST_CHECK;

/* ---- Configuration ---------------------------------------------------------------------------- */

#define BERTH_CONFIG_AREAS 16u
#define BERTH_CONFIG_DEVICES 64u

/* An area as it is written. Sizes in bytes; what 0 means stands beside it. */
struct berth_config_area {
	char name[BERTH_AREA_NAME_BYTES];
	char policy[16]; /* empty: "cma" */
	uint64_t bytes;
	uint64_t start, end; /* lies within; end 0: anywhere; end = start + bytes: just there */
	uint64_t align;      /* of each claim: a power of two; 0: a page */
	uint64_t unit;       /* claims are kept track of in such units; likewise, gcma: 64K */
	uint64_t keep;       /* lent only as long as so much stays free */
	enum berth_lend_policy lend;
	int node;
};

struct berth_config_device {
	char device[BERTH_DEVICE_NAME_BYTES];
	char area[BERTH_AREA_NAME_BYTES];
};

struct berth_config {
	unsigned nr_areas, nr_devices;
	struct berth_config_area areas[BERTH_CONFIG_AREAS];
	struct berth_config_device devices[BERTH_CONFIG_DEVICES];
	char default_area[BERTH_AREA_NAME_BYTES]; /* empty: none */
	uint64_t pernuma_bytes;                   /* an area of that for each node; 0: no */
};

/* Where a text can't be understood: its first byte that can't be right, and what would be. */
struct berth_config_error {
	size_t position;
	const char *expected;
};

/*
 * Reads a configuration, items with spaces in between:
 *
 *	areas=AREA[;AREA]..           AREA: NAME:SIZE[@START[-END]][,OPTION]..
 *	devices=DEVICE:NAME[,..]..    DEVICE: a name, or the beginning of names and '*'
 *	default=NAME                  the area of all other devices
 *	cma=SIZE[@START[-END]]        of Linux: an area named "default", which is the default one; cma=0:
 *	                              no default area, whatever was said of it before
 *	numa_cma=NODE:SIZE[,..]..     of Linux: an area "numaNODE" for devices of that node
 *	cma_pernuma=SIZE              of Linux: for each node an area "pernumaNODE"
 *
 * SIZE, START, END: decimal, or hexadecimal behind 0x, and K, M, G or T (powers of 1024). START alone:
 * just there; with END: anywhere in between. NAME: letters, digits and _ - . +, 31 at most; DEVICE: those and : / , but
 * for what separates (so no comma, and the last colon separates). OPTIONs: policy=cma, first-fit, reserve or
 * gcma; lend=first, balanced, last or off; keep=SIZE; align=SIZE; unit=SIZE; node=NODE.
 *
 * -EINVAL, *error (may be NULL) says where and why; *config is as it was. -ENOSPC: too many areas or
 * devices, likewise. Names of areas that devices and default mean may come later in the text, but must be
 * there. O(bytes), but for the search of names.
 */
int berth_config_parse(const char *text, struct berth_config *config,
		       struct berth_config_error *error) BERTH_MUST_CHECK;

/*
 * Reads in addition to what *config says already: new areas, devices that are known or new, another
 * default area.
 */
int berth_config_extend(const char *text, struct berth_config *config,
			struct berth_config_error *error) BERTH_MUST_CHECK;

/*
 * Turns cma_pernuma into areas for nodes 0 .. nr_nodes - 1, and gives each area its place: bytes are
 * rounded up to `grain` (a power of two), then those that say where they lie, then the others, in this
 * order and as low as possible, within [base, limit), multiples of grain. Then start and end are exact for
 * each area. -EINVAL: a place isn't a multiple of grain, or a node is unknown; -ENOSPC: it doesn't fit, or
 * two want the same place; *which (may be NULL): the area, in all these cases.
 */
int berth_config_place(struct berth_config *config, uint64_t base, uint64_t limit, uint64_t grain,
		       unsigned nr_nodes, unsigned *which) BERTH_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
