/* SPDX-License-Identifier: MIT */
/*
 * What the fuzz targets share: bytes decoded to operations, a zone whose shape the first bytes choose, and an owner
 * with a table, so that memory can move. After each operation every invariant of the zone is checked, and that as
 * many frames are in use as the model says. On the port of examples/embed: one CPU.
 *
 * A target is a table of operations; a byte chooses one, the bytes after it are its arguments, and where
 * the input ends they are zero. So every input means something, and cutting pieces out of one leaves
 * another that does.
 */
#ifndef BERTH_FUZZ_H
#define BERTH_FUZZ_H

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <berth/core.h>
#include <berth_port.h>

#define MAX_PAGES 1024u
#define MAX_RUNS 48u
#define MAX_CLAIMS 16u
#define RUN_PAGES 64u /* cookies of a run: its number * RUN_PAGES + page */

struct fuzz_run {
	uint32_t nr_pages; /* 0: none */
	bool movable, pinned;
	unsigned owner;               /* its id */
	berth_pfn_t table[RUN_PAGES]; /* BERTH_PFN_NONE: freed */
};

struct fuzz_claim {
	berth_pfn_t pfn;
	uint64_t nr_pages; /* 0: none */
	unsigned area;     /* nr + 1; 0: a range */
};

struct fuzz {
	const uint8_t *data;
	size_t left;
	struct berth_zone *zone;
	struct berth_zone_params params;
	void *metadata;
	struct berth_cma *areas[4];
	uint64_t bitmaps[4][MAX_PAGES / 64];
	unsigned nr_areas, owner;
	struct fuzz_run runs[MAX_RUNS];
	struct fuzz_claim claims[MAX_CLAIMS];
	uint64_t used, claimed; /* pages */
	uint64_t content[MAX_PAGES];
	uint64_t clock_ns;
	unsigned busy_once; /* moves that the owner refuses */
};

#define FUZZ_REQUIRE(cond)                                                         \
	do {                                                                       \
		if (!(cond)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                   \
		}                                                                  \
	} while (0)

/* ---- Input ------------------------------------------------------------------------------------- */

static inline uint64_t fuzz_bytes(struct fuzz *f, unsigned nr)
{
	uint64_t value = 0;

	while (nr--) {
		value <<= 8;
		if (f->left) {
			value |= *f->data++;
			f->left--;
		}
	}
	return value;
}

static inline uint64_t fuzz_below(struct fuzz *f, uint64_t bound)
{
	return fuzz_bytes(f, bound > 256 ? 2 : 1) % bound;
}

/* ---- The port ---------------------------------------------------------------------------------- */

static inline uint64_t fuzz_now_ns(void *ctx)
{
	return ((struct fuzz *)ctx)->clock_ns += 100;
}

static inline void fuzz_barrier_all(void *ctx)
{
	(void)ctx;
}

static inline void fuzz_wait(void *ctx, uint64_t ns)
{
	((struct fuzz *)ctx)->clock_ns += ns;
}

static inline void fuzz_panic(void *ctx, const char *what, uint64_t value, uint64_t expected)
{
	(void)ctx;
	fprintf(stderr, "panic: %s: value %#llx, expected %#llx\n", what, (unsigned long long)value,
		(unsigned long long)expected);
	abort();
}

static const struct berth_port_ops fuzz_port_ops = { .now_ns = fuzz_now_ns,
						     .barrier_all = fuzz_barrier_all,
						     .wait = fuzz_wait,
						     .panic = fuzz_panic };

/* ---- The owner: cookie = run * RUN_PAGES + page -------------------------------------------------- */

static inline uint64_t *fuzz_content(struct fuzz *f, berth_pfn_t pfn)
{
	uint64_t index = pfn - f->params.start_pfn;

	FUZZ_REQUIRE(index < f->params.nr_pages);
	return &f->content[index];
}

static inline void fuzz_migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct fuzz *f = ctx;

	for (unsigned i = 0; i < nr_moves; i++) {
		struct berth_move *m = &moves[i];
		struct fuzz_run *run = &f->runs[m->cookie / RUN_PAGES];
		uint64_t page = m->cookie % RUN_PAGES, nr = 1ull << m->order;

		FUZZ_REQUIRE(m->cookie < MAX_RUNS * RUN_PAGES && page + nr <= RUN_PAGES);
		for (uint64_t j = 0; j < nr; j++)
			FUZZ_REQUIRE(run->table[page + j] == m->src + j);
		if (f->busy_once) {
			f->busy_once--;
			m->result = BERTH_MOVE_BUSY;
			continue;
		}
		FUZZ_REQUIRE(berth_page_freeze(f->zone, m->src));
		for (uint64_t j = 0; j < nr; j++) {
			*fuzz_content(f, m->dst + j) = *fuzz_content(f, m->src + j);
			run->table[page + j] = m->dst + j;
		}
		m->result = BERTH_MOVE_MOVED;
	}
}

static const struct berth_owner_ops fuzz_owner_ops = { .name = "fuzz", .migrate = fuzz_migrate };

/* ---- The zone ------------------------------------------------------------------------------------ */

static inline void fuzz_check(struct fuzz *f)
{
	struct berth_violation v = { 0 };
	struct berth_zone_stats stats;

	if (!berth_zone_check(f->zone, &v)) {
		fprintf(stderr, "zone check: %s at %#llx: value %#llx, expected %#llx\n", v.what,
			(unsigned long long)v.where, (unsigned long long)v.value,
			(unsigned long long)v.expected);
		abort();
	}
	berth_zone_stats(f->zone, &stats);
	FUZZ_REQUIRE(stats.used_pages == f->used);
	FUZZ_REQUIRE(stats.claimed_pages == f->claimed);
	for (unsigned i = 0; i < MAX_RUNS; i++)
		for (unsigned page = 0; page < f->runs[i].nr_pages; page++)
			if (f->runs[i].table[page] != BERTH_PFN_NONE)
				FUZZ_REQUIRE(*fuzz_content(f, f->runs[i].table[page]) ==
					     i * RUN_PAGES + page);
}

static inline void fuzz_declare_areas(struct fuzz *f)
{
	static const char *const names[] = { "a", "b", "c", "d" };
	uint64_t pageblock = 1ull << f->params.pageblock_order;
	uint64_t blocks = f->params.nr_pages / pageblock;

	for (unsigned i = 0; i < f->params.max_areas; i++) {
		struct berth_cma_params params = {
			.name = names[i],
			.start_pfn = ((f->params.start_pfn + pageblock - 1) & ~(pageblock - 1)) +
				     fuzz_below(f, blocks + 1) * pageblock,
			.nr_pages = fuzz_below(f, 6) * pageblock,
			.order_per_bit = (unsigned)fuzz_below(f, 3),
			.lend = (enum berth_lend_policy)fuzz_below(f, 3),
			.bitmap = f->bitmaps[f->nr_areas],
		};

		memset(params.bitmap, 0, sizeof(f->bitmaps[0]));
		if (berth_cma_declare(f->zone, &params, &f->areas[f->nr_areas]) == 0)
			f->nr_areas++;
	}
}

/* False: the bytes don't make a zone. */
static inline bool fuzz_open(struct fuzz *f, const uint8_t *data, size_t bytes)
{
	size_t metadata_bytes;

	memset(f, 0, sizeof(*f));
	f->data = data;
	f->left = bytes;
	f->params = (struct berth_zone_params){
		.start_pfn = fuzz_below(f, 300),
		.nr_pages = 1 + fuzz_below(f, MAX_PAGES),
		.pageblock_order = 1 + (unsigned)fuzz_below(f, 6),
		.nr_cpus = (unsigned)fuzz_below(f, 2),
		.pcp_high = (unsigned)fuzz_below(f, 40),
		.max_areas = (unsigned)fuzz_below(f, 5),
		.port = &fuzz_port_ops,
		.port_ctx = f,
	};
	f->params.max_order = f->params.pageblock_order + (unsigned)fuzz_below(f, 4);
	metadata_bytes = berth_zone_metadata_size(&f->params);
	if (!metadata_bytes)
		return false;
	FUZZ_REQUIRE(posix_memalign(&f->metadata, 64, metadata_bytes) == 0);
	FUZZ_REQUIRE(berth_zone_init(&f->zone, &f->params, f->metadata, metadata_bytes) == 0);
	/* In two parts, so that the boundary is anywhere, and perhaps with a hole. */
	{
		uint64_t first = fuzz_below(f, f->params.nr_pages + 1);
		uint64_t hole = fuzz_below(f, 8);

		if (first)
			FUZZ_REQUIRE(berth_zone_add_memory(f->zone, f->params.start_pfn, first) ==
				     0);
		if (first + hole < f->params.nr_pages)
			FUZZ_REQUIRE(berth_zone_add_memory(f->zone,
							   f->params.start_pfn + first + hole,
							   f->params.nr_pages - first - hole) == 0);
	}
	fuzz_check(f);
	fuzz_declare_areas(f);
	FUZZ_REQUIRE(berth_owner_register(f->zone, &fuzz_owner_ops, f, &f->owner) == 0);
	fuzz_check(f);
	return true;
}

/* ---- Operations ---------------------------------------------------------------------------------- */

static inline void fuzz_alloc(struct fuzz *f)
{
	struct fuzz_run *run = &f->runs[fuzz_below(f, MAX_RUNS)];
	unsigned order = (unsigned)fuzz_below(f, 10), gfp = (unsigned)fuzz_below(f, 17);
	unsigned owner = (unsigned)fuzz_below(f, 3);
	uint64_t cookie = (uint64_t)(run - f->runs) * RUN_PAGES;
	berth_pfn_t pfn;

	if (run->nr_pages || 1u << order > RUN_PAGES)
		return;
	if (berth_alloc_pages(f->zone, order, gfp, owner, cookie, &pfn) != 0)
		return;
	FUZZ_REQUIRE(pfn % (1u << order) == 0 && gfp < 16 && owner <= f->owner);
	*run = (struct fuzz_run){ .nr_pages = 1u << order, .movable = gfp & BERTH_GFP_MOVABLE };
	for (unsigned i = 0; i < run->nr_pages; i++) {
		run->table[i] = pfn + i;
		*fuzz_content(f, pfn + i) = cookie + i;
	}
	f->used += run->nr_pages;
	run->owner = owner;
}

/* Frees a part of a run. A pinned run is left whole. */
static inline void fuzz_free_part(struct fuzz *f)
{
	struct fuzz_run *run = &f->runs[fuzz_below(f, MAX_RUNS)];
	uint32_t from = (uint32_t)fuzz_below(f, RUN_PAGES), nr = 1 + (uint32_t)fuzz_below(f, 16);

	if (!run->nr_pages || run->pinned)
		return;
	for (uint32_t i = from; i < from + nr && i < run->nr_pages; i++) {
		berth_pfn_t pfn = run->table[i];

		if (pfn == BERTH_PFN_NONE)
			continue;
		FUZZ_REQUIRE(berth_free_range(f->zone, pfn, 1, run->owner) == 0);
		FUZZ_REQUIRE(berth_free_range(f->zone, pfn, 1, run->owner) != 0);
		run->table[i] = BERTH_PFN_NONE;
		f->used--;
	}
}

static inline void fuzz_free(struct fuzz *f)
{
	struct fuzz_run *run = &f->runs[fuzz_below(f, MAX_RUNS)];

	if (!run->nr_pages || run->pinned)
		return;
	for (uint32_t i = 0; i < run->nr_pages; i++) {
		berth_pfn_t pfn = run->table[i], head;
		unsigned order;

		if (pfn == BERTH_PFN_NONE)
			continue;
		FUZZ_REQUIRE(berth_frame_state(f->zone, pfn, &head, &order) == 'u');
		FUZZ_REQUIRE(head == pfn && i + (1u << order) <= run->nr_pages);
		FUZZ_REQUIRE(berth_free_pages(f->zone, pfn) == 0);
		FUZZ_REQUIRE(berth_free_pages(f->zone, pfn) == -BERTH_EINVAL);
		f->used -= 1u << order;
		i += (1u << order) - 1;
	}
	run->nr_pages = 0;
}

static inline void fuzz_pin(struct fuzz *f)
{
	struct fuzz_run *run = &f->runs[fuzz_below(f, MAX_RUNS)];

	if (!run->nr_pages || run->table[0] == BERTH_PFN_NONE)
		return;
	if (run->pinned)
		FUZZ_REQUIRE(berth_page_unpin(f->zone, run->table[0]) == 0);
	else
		FUZZ_REQUIRE(berth_page_pin(f->zone, run->table[0]) == 0);
	run->pinned = !run->pinned;
	FUZZ_REQUIRE(berth_page_pinned(f->zone, run->table[0]) == run->pinned);
}

static inline void fuzz_drain(struct fuzz *f)
{
	struct berth_zone_stats stats;

	berth_pcp_drain_all(f->zone);
	berth_zone_stats(f->zone, &stats);
	FUZZ_REQUIRE(stats.pcp_pages == 0);
}

/* What nobody has, with any numbers: refused, and nothing changes. */
static inline void fuzz_nonsense(struct fuzz *f)
{
	berth_pfn_t pfn = fuzz_bytes(f, 2), head;
	uint64_t nr = fuzz_below(f, 64);
	unsigned order;
	char state = berth_frame_state(f->zone, pfn, &head, &order);

	if (state == 'u')
		return;
	FUZZ_REQUIRE(berth_free_pages(f->zone, pfn) == -BERTH_EINVAL);
	FUZZ_REQUIRE(berth_free_range(f->zone, pfn, nr, f->owner) == -BERTH_EINVAL);
	FUZZ_REQUIRE(berth_page_unpin(f->zone, pfn) == -BERTH_EINVAL);
	FUZZ_REQUIRE(berth_page_pin(f->zone, pfn) == -BERTH_EINVAL);
	FUZZ_REQUIRE(!berth_page_freeze(f->zone, pfn));
	if (state != 'c')
		FUZZ_REQUIRE(berth_free_contig_range(f->zone, pfn, nr) == -BERTH_EINVAL);
}

static inline struct berth_claim_params fuzz_claim_params(struct fuzz *f, uint64_t nr_pages)
{
	struct berth_claim_params params = { .nr_pages = nr_pages };

	params.flags = (unsigned)fuzz_below(f, 8);
	params.align_order = (unsigned)fuzz_below(f, 4);
	params.deadline_ns = fuzz_below(f, 2) ? f->clock_ns + fuzz_bytes(f, 2) : 0;
	f->busy_once = (unsigned)fuzz_below(f, 4);
	return params;
}

static inline void fuzz_claimed(struct fuzz *f, struct fuzz_claim *claim, berth_pfn_t pfn,
				uint64_t nr_pages, unsigned area)
{
	*claim = (struct fuzz_claim){ pfn, nr_pages, area };
	f->claimed += nr_pages;
	for (uint64_t i = 0; i < nr_pages; i++)
		*fuzz_content(f, pfn + i) = UINT64_MAX; /* nobody's page may be there */
}

static inline void fuzz_claim_area(struct fuzz *f)
{
	struct fuzz_claim *claim = &f->claims[fuzz_below(f, MAX_CLAIMS)];
	unsigned nr = (unsigned)fuzz_below(f, 4);
	struct berth_claim_params params = fuzz_claim_params(f, fuzz_below(f, 300));
	struct berth_claim_report report;
	berth_pfn_t pfn;

	if (claim->nr_pages || nr >= f->nr_areas)
		return;
	if (berth_cma_alloc(f->areas[nr], &params, &pfn, &report) != 0) {
		FUZZ_REQUIRE(report.error != 0);
		return;
	}
	FUZZ_REQUIRE(pfn % (1u << params.align_order) == 0 && report.error == 0);
	fuzz_claimed(f, claim, pfn, params.nr_pages, nr + 1);
}

static inline void fuzz_claim_range(struct fuzz *f)
{
	struct fuzz_claim *claim = &f->claims[fuzz_below(f, MAX_CLAIMS)];
	berth_pfn_t pfn = fuzz_bytes(f, 2);
	struct berth_claim_params params = fuzz_claim_params(f, fuzz_below(f, 300));
	struct berth_claim_report report;

	if (claim->nr_pages)
		return;
	if (berth_alloc_contig_range(f->zone, pfn, params.nr_pages, &params, &report) == 0)
		fuzz_claimed(f, claim, pfn, params.nr_pages, 0);
	else
		FUZZ_REQUIRE(report.error != 0);
}

static inline void fuzz_release(struct fuzz *f)
{
	struct fuzz_claim *claim = &f->claims[fuzz_below(f, MAX_CLAIMS)];
	int64_t wrong = (int64_t)fuzz_below(f, 5) - 2;

	if (!claim->nr_pages)
		return;
	if (claim->area) {
		struct berth_cma *area = f->areas[claim->area - 1];

		FUZZ_REQUIRE(berth_free_contig_range(f->zone, claim->pfn, claim->nr_pages) ==
			     -BERTH_EINVAL);
		if (wrong)
			FUZZ_REQUIRE(berth_cma_release(area, claim->pfn,
						       claim->nr_pages + (uint64_t)wrong) ==
				     -BERTH_EINVAL);
		FUZZ_REQUIRE(berth_cma_release(area, claim->pfn, claim->nr_pages) == 0);
		FUZZ_REQUIRE(berth_cma_release(area, claim->pfn, claim->nr_pages) == -BERTH_EINVAL);
	} else {
		if (wrong)
			FUZZ_REQUIRE(berth_free_contig_range(f->zone, claim->pfn,
							     claim->nr_pages + (uint64_t)wrong) ==
				     -BERTH_EINVAL);
		FUZZ_REQUIRE(berth_free_contig_range(f->zone, claim->pfn, claim->nr_pages) == 0);
		FUZZ_REQUIRE(berth_free_contig_range(f->zone, claim->pfn, claim->nr_pages) ==
			     -BERTH_EINVAL);
	}
	f->claimed -= claim->nr_pages;
	claim->nr_pages = 0;
}

/* Runs an input: operations of the table until the bytes end. */
static inline int fuzz_run_input(const uint8_t *data, size_t bytes,
				 void (*const *operations)(struct fuzz *f), unsigned nr_operations)
{
	static struct fuzz f;

	if (!fuzz_open(&f, data, bytes))
		return 0;
	while (f.left) {
		operations[fuzz_below(&f, nr_operations)](&f);
		fuzz_check(&f);
	}
	free(f.metadata);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#endif
