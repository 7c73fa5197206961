/* SPDX-License-Identifier: MIT */
/*
 * Operation sequences on GCMA areas and a store over them: claims of every kind and limit succeed whenever the
 * model has a gap that fits, nobody writes to what is claimed, and a page that the store returns is the last one
 * that was put under its key. What it has forgotten is its own business, but for what was dropped.
 */
#include <berth/store.h>

#include "tests/fuzz/fuzz.h"

#define STORE_PAGES 256u /* of an area, at most */
#define STORE_AREAS 3u
#define STORE_START 0x1000u
#define NR_GROUPS 4u
#define NR_ITEMS 24u
#define MOST_CLAIMS 24u

struct claim {
	unsigned area;
	berth_pfn_t pfn;
	uint64_t nr_pages; /* 0: none */
};

struct target {
	struct fuzz f; /* the input and the clock */
	struct berth_gcma *areas[STORE_AREAS];
	struct berth_store *store;
	void *metadata[STORE_AREAS + 1];
	unsigned nr_areas, granule_order;
	uint64_t nr_pages; /* of an area */
	bool claimed[STORE_AREAS][STORE_PAGES];
	struct claim claims[MOST_CLAIMS];
	uint32_t version[NR_GROUPS][NR_ITEMS]; /* of the last put */
	bool gone[NR_GROUPS][NR_ITEMS];        /* it mustn't be there */
};

static _Alignas(4096) char memory[(size_t)STORE_AREAS * STORE_PAGES * BERTH_PAGE_SIZE];

/* ---- Contents ----------------------------------------------------------------------------------------- */

static uint64_t *frame(const struct target *t, berth_pfn_t pfn)
{
	(void)t;
	return (uint64_t *)(void *)(memory + (pfn - STORE_START) * BERTH_PAGE_SIZE);
}

static void fill(uint64_t *page, uint64_t value)
{
	for (unsigned i = 0; i < BERTH_PAGE_SIZE / 8; i++)
		page[i] = value + i;
}

static bool reads(const uint64_t *page, uint64_t value)
{
	for (unsigned i = 0; i < BERTH_PAGE_SIZE / 8; i++)
		if (page[i] != value + i)
			return false;
	return true;
}

static uint64_t value_of(const struct target *t, unsigned group, unsigned item)
{
	return ((uint64_t)group << 48) + ((uint64_t)item << 40) +
	       ((uint64_t)t->version[group][item] << 10);
}

/* ---- What can be claimed -------------------------------------------------------------------------------- */

static berth_pfn_t start_of(const struct target *t, unsigned area)
{
	return STORE_START + area * t->nr_pages;
}

/* Frames of a claim, whole granules. */
static uint64_t granules_of(const struct target *t, uint64_t nr_pages)
{
	uint64_t size = 1ull << t->granule_order;

	return (nr_pages + size - 1) & ~(size - 1);
}

static bool fits_at(const struct target *t, unsigned area, const struct berth_claim_params *p,
		    uint64_t at, bool anywhere)
{
	berth_pfn_t pfn = start_of(t, area) + at, last = pfn + p->nr_pages - 1;
	uint64_t whole = granules_of(t, p->nr_pages);

	if (at + whole > t->nr_pages || pfn & ((1ull << p->align_order) - 1) || pfn < p->min_pfn ||
	    (p->max_pfn && last > p->max_pfn) ||
	    (p->boundary_pages && pfn / p->boundary_pages != last / p->boundary_pages))
		return false;
	for (uint64_t i = at; i < at + whole && !anywhere; i++)
		if (t->claimed[area][i])
			return false;
	return true;
}

/* Is there a place for it, or, `anywhere`, would there be without claims? */
static bool fits(const struct target *t, unsigned area, const struct berth_claim_params *p,
		 bool anywhere)
{
	for (uint64_t at = 0; at < t->nr_pages; at += 1ull << t->granule_order)
		if (fits_at(t, area, p, at, anywhere))
			return true;
	return false;
}

static struct berth_claim_params some_claim(struct target *t, uint64_t most)
{
	struct fuzz *f = &t->f;
	struct berth_claim_params p = { .nr_pages = 1 + fuzz_below(f, most) };
	uint64_t how = fuzz_bytes(f, 1);

	if (how & 1)
		p.align_order = (unsigned)fuzz_below(f, 9);
	if (how & 2)
		p.flags = BERTH_CLAIM_FIRST_FIT;
	if (how & 4)
		p.boundary_pages = 1ull << fuzz_below(f, 9);
	if (how & 8)
		p.min_pfn = STORE_START + fuzz_below(f, STORE_AREAS * STORE_PAGES);
	if (how & 16)
		p.max_pfn = STORE_START + fuzz_below(f, STORE_AREAS * STORE_PAGES);
	if (p.max_pfn && p.max_pfn < p.min_pfn)
		p.max_pfn = 0;
	return p;
}

static void mark(struct target *t, unsigned area, berth_pfn_t pfn, uint64_t nr_pages, bool claimed)
{
	uint64_t at = pfn - start_of(t, area);

	for (uint64_t i = at; i < at + granules_of(t, nr_pages); i++) {
		FUZZ_REQUIRE(t->claimed[area][i] != claimed);
		t->claimed[area][i] = claimed;
	}
}

static struct claim *free_place(struct target *t)
{
	for (unsigned i = 0; i < MOST_CLAIMS; i++)
		if (!t->claims[i].nr_pages)
			return &t->claims[i];
	return NULL;
}

static void got(struct target *t, unsigned area, const struct berth_claim_params *p,
		berth_pfn_t pfn)
{
	struct claim *claim = free_place(t);

	FUZZ_REQUIRE(pfn >= start_of(t, area) && pfn < start_of(t, area) + t->nr_pages);
	FUZZ_REQUIRE(fits_at(t, area, p, pfn - start_of(t, area), false));
	mark(t, area, pfn, p->nr_pages, true);
	*claim = (struct claim){ area, pfn, p->nr_pages };
	for (uint64_t i = 0; i < p->nr_pages; i++)
		fill(frame(t, pfn + i), ~(pfn + i));
}

static void op_claim(struct target *t)
{
	unsigned area = (unsigned)fuzz_below(&t->f, t->nr_areas);
	struct berth_claim_params p = some_claim(t, t->nr_pages);
	bool possible = fits(t, area, &p, false);
	berth_pfn_t pfn = BERTH_PFN_NONE;
	struct berth_claim_report r;
	int ret;

	if (!free_place(t))
		return;
	ret = berth_gcma_alloc(t->areas[area], &p, &pfn, &r);
	FUZZ_REQUIRE(r.error == ret);
	FUZZ_REQUIRE((ret == 0) == possible);
	if (ret == 0)
		got(t, area, &p, pfn);
	else
		FUZZ_REQUIRE(ret == (fits(t, area, &p, true) ? -BERTH_ENOSPC : -BERTH_E2BIG));
}

static void op_bulk(struct target *t)
{
	unsigned area = (unsigned)fuzz_below(&t->f, t->nr_areas);
	unsigned nr = 1 + (unsigned)fuzz_below(&t->f, 6), room = 0;
	unsigned flags = fuzz_below(&t->f, 2) ? BERTH_BULK_AS_MANY_AS_POSSIBLE : 0;
	struct berth_claim_params p = some_claim(t, 40);
	berth_pfn_t pfns[6];
	int ret;

	p.boundary_pages = 0; /* about the run that is cut up, which may be any number of them */
	for (unsigned i = 0; i < MOST_CLAIMS; i++)
		room += !t->claims[i].nr_pages;
	if (room < nr)
		return;
	ret = berth_gcma_alloc_bulk(t->areas[area], &p, nr, pfns, flags, NULL);
	if (ret < 0) {
		FUZZ_REQUIRE(ret == -BERTH_ENOSPC || ret == -BERTH_E2BIG);
		FUZZ_REQUIRE(!(flags || nr == 1) || !fits(t, area, &p, false));
		return;
	}
	FUZZ_REQUIRE(flags ? ret >= 1 && ret <= (int)nr : ret == (int)nr);
	for (int i = 0; i < ret; i++)
		got(t, area, &p, pfns[i]);
	FUZZ_REQUIRE(ret == (int)nr || !fits(t, area, &p, false));
}

static void op_release(struct target *t)
{
	struct claim *c = &t->claims[fuzz_below(&t->f, MOST_CLAIMS)];
	struct berth_gcma *area = t->areas[c->area];

	if (!c->nr_pages)
		return;
	for (uint64_t i = 0; i < c->nr_pages; i++)
		FUZZ_REQUIRE(reads(frame(t, c->pfn + i), ~(c->pfn + i)));
	FUZZ_REQUIRE(berth_gcma_release(area, c->pfn, granules_of(t, c->nr_pages) + 1) ==
		     -BERTH_EINVAL);
	if (granules_of(t, c->nr_pages) > 1ull << t->granule_order) /* from its second granule */
		FUZZ_REQUIRE(berth_gcma_release(area, c->pfn + (1ull << t->granule_order),
						c->nr_pages) == -BERTH_EINVAL);
	FUZZ_REQUIRE(berth_gcma_release(area, c->pfn, c->nr_pages) == 0);
	FUZZ_REQUIRE(berth_gcma_release(area, c->pfn, c->nr_pages) == -BERTH_EINVAL);
	mark(t, c->area, c->pfn, c->nr_pages, false);
	c->nr_pages = 0;
}

/* ---- Pages by key ---------------------------------------------------------------------------------------- */

static struct berth_store_key some_key(struct target *t, unsigned *group, unsigned *item)
{
	*group = (unsigned)fuzz_below(&t->f, NR_GROUPS);
	*item = (unsigned)fuzz_below(&t->f, NR_ITEMS);
	return (struct berth_store_key){ *group, *item };
}

static bool all_open(const struct target *t)
{
	for (unsigned i = 0; i < MOST_CLAIMS; i++)
		if (t->claims[i].nr_pages)
			return false;
	return true;
}

static void op_put(struct target *t)
{
	static uint64_t page[BERTH_PAGE_SIZE / 8];
	unsigned group, item;
	struct berth_store_key key = some_key(t, &group, &item);
	int ret;

	t->version[group][item]++;
	fill(page, value_of(t, group, item));
	ret = berth_store_put(t->store, &key, page);
	FUZZ_REQUIRE(ret == 0 || (ret == -BERTH_ENOSPC && !all_open(t)));
	t->gone[group][item] = ret != 0;
}

static void op_get(struct target *t)
{
	static uint64_t page[BERTH_PAGE_SIZE / 8];
	unsigned group, item;
	struct berth_store_key key = some_key(t, &group, &item);
	int ret = berth_store_get(t->store, &key, page);

	FUZZ_REQUIRE(ret == 0 || ret == -BERTH_ENOENT);
	if (ret == 0)
		FUZZ_REQUIRE(!t->gone[group][item] && reads(page, value_of(t, group, item)));
	else
		t->gone[group][item] = true; /* what is lost doesn't come back */
}

static void op_drop(struct target *t)
{
	unsigned group, item;
	struct berth_store_key key = some_key(t, &group, &item);
	bool was = berth_store_drop(t->store, &key);

	FUZZ_REQUIRE(!was || !t->gone[group][item]);
	t->gone[group][item] = true;
}

static void op_drop_group(struct target *t)
{
	unsigned group = (unsigned)fuzz_below(&t->f, NR_GROUPS);

	berth_store_drop_group(t->store, group);
	for (unsigned item = 0; item < NR_ITEMS; item++)
		t->gone[group][item] = true;
}

static void op_stats(struct target *t)
{
	struct berth_store_stats s;
	uint64_t open = 0;

	berth_store_stats(t->store, &s);
	for (unsigned i = 0; i < t->nr_areas; i++)
		for (uint64_t at = 0; at < t->nr_pages; at++)
			open += !t->claimed[i][at];
	FUZZ_REQUIRE(s.nr_pages == t->nr_areas * t->nr_pages);
	FUZZ_REQUIRE(s.open_pages == open && s.stored_pages <= open);
}

/* ---- A run ------------------------------------------------------------------------------------------------- */

static void (*const ops[])(struct target *t) = {
	op_claim, op_release, op_put,  op_put,  op_put,        op_get,   op_get,
	op_get,   op_get,     op_drop, op_bulk, op_drop_group, op_stats, op_release,
};

static void *metadata(size_t bytes)
{
	void *at = NULL;

	FUZZ_REQUIRE(bytes && !posix_memalign(&at, 64, bytes));
	memset(at, 0xa5, bytes);
	return at;
}

static void open_target(struct target *t)
{
	struct berth_store_params params = { .areas = t->areas,
					     .linear = memory,
					     .linear_pfn = STORE_START,
					     .seed = 1,
					     .port = &fuzz_port_ops,
					     .port_ctx = &t->f };

	t->granule_order = (unsigned)fuzz_below(&t->f, 5);
	t->nr_areas = 1 + (unsigned)fuzz_below(&t->f, STORE_AREAS);
	t->nr_pages = STORE_PAGES >> fuzz_below(&t->f, 3);
	for (unsigned i = 0; i < t->nr_areas; i++) {
		const struct berth_gcma_params area = { .name = "fuzz",
							.start_pfn = start_of(t, i),
							.nr_pages = t->nr_pages,
							.granule_order = t->granule_order,
							.nr_cpus = 1,
							.port = &fuzz_port_ops,
							.port_ctx = &t->f };
		size_t bytes = berth_gcma_metadata_size(&area);

		t->metadata[i] = metadata(bytes);
		FUZZ_REQUIRE(!berth_gcma_init(&t->areas[i], &area, t->metadata[i], bytes));
	}
	params.nr_areas = t->nr_areas;
	params.nr_shards = 1u << fuzz_below(&t->f, 3);
	t->metadata[STORE_AREAS] = metadata(berth_store_metadata_size(&params));
	FUZZ_REQUIRE(!berth_store_init(&t->store, &params, t->metadata[STORE_AREAS],
				       berth_store_metadata_size(&params)));
	memset(t->gone, 1, sizeof(t->gone));
}

static void check_target(struct target *t)
{
	struct berth_violation v = { 0 };
	bool fine = berth_store_check(t->store, &v);

	for (unsigned i = 0; fine && i < t->nr_areas; i++)
		fine = berth_gcma_check(t->areas[i], &v);
	if (!fine)
		fprintf(stderr, "%s at %#llx: value %#llx, expected %#llx\n", v.what,
			(unsigned long long)v.where, (unsigned long long)v.value,
			(unsigned long long)v.expected);
	FUZZ_REQUIRE(fine);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct target *t = calloc(1, sizeof(*t));

	FUZZ_REQUIRE(t);
	t->f.data = data;
	t->f.left = size;
	open_target(t);
	while (t->f.left) {
		ops[fuzz_below(&t->f, sizeof(ops) / sizeof(*ops))](t);
		check_target(t);
	}
	for (unsigned i = 0; i < STORE_AREAS + 1; i++)
		free(t->metadata[i]);
	free(t);
	return 0;
}
