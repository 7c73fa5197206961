/* SPDX-License-Identifier: MIT */
/*
 * The policy "reserve": memory that is never lent, and allocated by a bitmap of its own. It touches no
 * frame's state, so the memory may be nobody else's (no-map), or a range that its zone has given away.
 *
 * I1  A unit's bit is set exactly if a claim covers it; a claim's first unit says how long it is.
 * I2  nr_claimed and nr_units_claimed = the sums of the claims' pages and units; a name has as many users as claims.
 *
 * Complexity: claiming O(units / 64 + claims in front of it), first fit; releasing O(units of the claim / 64).
 */
#include "core/alloc/framework.h"

#include "core/alloc/claims.h"

#define MAX_NAMES 32u
#define ALL_FLAGS ((unsigned)BERTH_CLAIM_ALL_FLAGS)

/* Of each unit; all zero but for a claim's first. */
struct unit {
	uint64_t nr_pages, note;
};

struct reserve {
	const char *name;
	const struct berth_port_ops *port;
	void *port_ctx;
	berth_pfn_t start_pfn;
	uint64_t nr_pages, nr_units;
	unsigned order; /* of a unit */
	berth_lock_t lock;
	struct berth_names names;
	uint64_t nr_claimed, nr_units_claimed, claims_ok, claims_failed, releases;
	uint64_t *bits;
	struct unit *units;
	struct berth_name table[MAX_NAMES];
};

static uint64_t words(uint64_t nr_units)
{
	return (nr_units + 63) / 64;
}

size_t berth__reserve_bytes(const struct berth_contig_area_params *params)
{
	uint64_t nr_units = params->nr_pages >> params->order_per_bit;

	if (!nr_units || params->nr_pages & ((1ull << params->order_per_bit) - 1) ||
	    params->nr_pages > UINT32_MAX)
		return 0;
	return sizeof(struct reserve) + words(nr_units) * sizeof(uint64_t) +
	       nr_units * sizeof(struct unit);
}

int berth__reserve_init(void *state, const struct berth_contig_area_params *params,
			const struct berth_port_ops *port, void *port_ctx)
{
	const struct berth_claim_params claim = { .nr_pages = params->nr_pages,
						  .name = params->name };
	struct reserve *reserve = state;

	reserve->name = params->name;
	reserve->port = port;
	reserve->port_ctx = port_ctx;
	reserve->start_pfn = params->start_pfn;
	reserve->nr_pages = params->nr_pages;
	reserve->order = params->order_per_bit;
	reserve->nr_units = params->nr_pages >> params->order_per_bit;
	reserve->names = (struct berth_names){ reserve->table, MAX_NAMES };
	reserve->bits = (uint64_t *)(void *)(reserve + 1);
	reserve->units = (struct unit *)(void *)(reserve->bits + words(reserve->nr_units));
	if (!params->zone)
		return 0;
	return berth_alloc_contig_range(params->zone, params->start_pfn, params->nr_pages, &claim,
					NULL);
}

/* ---- Bits ------------------------------------------------------------------------------------- */

/* Of a word, the bits of [first, end), of which at least one is in it. */
static uint64_t bits_of(uint64_t word, uint64_t first, uint64_t end)
{
	uint64_t from = first > word * 64 ? first & 63 : 0;
	uint64_t to = end < word * 64 + 64 ? end & 63 : 64;

	return (~0ull << from) & (~0ull >> (64 - to));
}

/* The last unit of [first, end) that is taken; UINT64_MAX: none. */
static uint64_t last_taken(const struct reserve *reserve, uint64_t first, uint64_t end)
{
	for (uint64_t word = (end - 1) / 64 + 1; word-- > first / 64;) {
		uint64_t taken = reserve->bits[word] & bits_of(word, first, end);

		if (taken)
			return word * 64 + 63 - (unsigned)__builtin_clzll(taken);
	}
	return UINT64_MAX;
}

static void set_bits(struct reserve *reserve, uint64_t first, uint64_t end, bool value)
{
	for (uint64_t word = first / 64; word <= (end - 1) / 64; word++) {
		if (value)
			reserve->bits[word] |= bits_of(word, first, end);
		else
			reserve->bits[word] &= ~bits_of(word, first, end);
	}
}

/* The first unit from `first` on whose pfn is aligned, or one that is too large. */
static uint64_t aligned(const struct reserve *reserve, uint64_t first, unsigned align_order)
{
	uint64_t align = 1ull << align_order;
	berth_pfn_t pfn = reserve->start_pfn + (first << reserve->order);
	uint64_t skip = -pfn & (align - 1);

	/* An area that begins inside a unit's alignment may have none. */
	return skip & ((1ull << reserve->order) - 1) ? UINT64_MAX :
						       first + (skip >> reserve->order);
}

/* Units for so many pages. */
static uint64_t units_for(const struct reserve *reserve, uint64_t nr_pages)
{
	return ((nr_pages - 1) >> reserve->order) + 1;
}

/* Lock held. */
static int find_locked(const struct reserve *reserve, uint64_t nr, unsigned align_order,
		       uint64_t *found)
{
	uint64_t at = aligned(reserve, 0, align_order), taken;

	if (at >= reserve->nr_units || nr > reserve->nr_units - at)
		return -BERTH_E2BIG;
	while (at < reserve->nr_units && nr <= reserve->nr_units - at) {
		taken = last_taken(reserve, at, at + nr);
		if (taken == UINT64_MAX) {
			*found = at;
			return 0;
		}
		at = aligned(reserve, taken + 1, align_order);
	}
	return -BERTH_ENOSPC;
}

/* ---- Claims ----------------------------------------------------------------------------------- */

/* The longest run of free units, in pages. Lock held. O(units / 64 + claims). */
static uint64_t largest_free_locked(const struct reserve *reserve)
{
	uint64_t best = 0, at = 0;

	while (at < reserve->nr_units) {
		uint64_t free = at;

		if (reserve->units[at].nr_pages) {
			at += units_for(reserve, reserve->units[at].nr_pages);
			continue;
		}
		while (free < reserve->nr_units && !reserve->units[free].nr_pages)
			free = free & 63 || reserve->bits[free / 64] ? free + 1 : free + 64;
		if (free > reserve->nr_units)
			free = reserve->nr_units;
		best = free - at > best ? free - at : best;
		at = free;
	}
	return best << reserve->order;
}

static enum berth_claim_reason reason_of(int error)
{
	return !error                ? BERTH_CLAIM_DONE :
	       error == -BERTH_E2BIG ? BERTH_CLAIM_TOO_LARGE :
				       BERTH_CLAIM_NO_RUN;
}

int berth__reserve_alloc(void *state, const struct berth_claim_params *params, berth_pfn_t *pfn,
			 struct berth_claim_report *report)
{
	struct reserve *reserve = state;
	uint64_t now_ns = reserve->port->now_ns(reserve->port_ctx), at = 0, nr;
	int error;

	*report = (struct berth_claim_report){ .area = reserve->name,
					       .nr_pages = params->nr_pages,
					       .blocker_pfn = BERTH_PFN_NONE };
	if (!pfn || !params->nr_pages || params->align_order > BERTH_MAX_ORDER_LIMIT ||
	    params->flags & ~ALL_FLAGS)
		return report->error = -BERTH_EINVAL;
	nr = units_for(reserve, params->nr_pages);
	berth_lock(&reserve->lock);
	error = find_locked(reserve, nr, params->align_order, &at);
	if (!error) {
		set_bits(reserve, at, at + nr, true);
		reserve->units[at].nr_pages = params->nr_pages;
		reserve->units[at].note = berth__note(
			berth__name_get(&reserve->names, params->name), now_ns);
		reserve->nr_claimed += params->nr_pages;
		reserve->nr_units_claimed += nr;
		reserve->claims_ok++;
		*pfn = reserve->start_pfn + (at << reserve->order);
		report->tries = 1;
		report->free_pages_taken = params->nr_pages;
	} else {
		reserve->claims_failed++;
		report->largest_free_pages = report->largest_claimable_pages = largest_free_locked(
			reserve);
	}
	berth_unlock(&reserve->lock);
	report->phase_ns[BERTH_PHASE_SEARCH] = reserve->port->now_ns(reserve->port_ctx) - now_ns;
	report->reason = reason_of(error);
	return report->error = error;
}

/* Takes the claim off what can be released; false: it isn't one. Lock held. */
static bool take_claim_locked(struct reserve *reserve, berth_pfn_t pfn, uint64_t nr_pages,
			      uint64_t *at)
{
	uint64_t offset = pfn - reserve->start_pfn;

	*at = offset >> reserve->order;
	if (!nr_pages || offset >= reserve->nr_pages || offset & ((1ull << reserve->order) - 1) ||
	    reserve->units[*at].nr_pages != nr_pages)
		return false;
	reserve->units[*at].nr_pages = 0;
	return true;
}

static void free_claim_locked(struct reserve *reserve, uint64_t at, uint64_t nr_pages)
{
	uint64_t nr = units_for(reserve, nr_pages);

	set_bits(reserve, at, at + nr, false);
	(void)berth__name_put(&reserve->names, berth__note_name(reserve->units[at].note));
	reserve->units[at].note = 0;
	reserve->nr_claimed -= nr_pages;
	reserve->nr_units_claimed -= nr;
	reserve->releases++;
}

int berth__reserve_release(void *state, berth_pfn_t pfn, uint64_t nr_pages)
{
	return berth__reserve_release_bulk(state, &pfn, 1, nr_pages);
}

int berth__reserve_release_bulk(void *state, const berth_pfn_t *pfns, unsigned nr,
				uint64_t nr_pages)
{
	struct reserve *reserve = state;
	uint64_t at;
	unsigned taken = 0;

	berth_lock(&reserve->lock);
	while (taken < nr && take_claim_locked(reserve, pfns[taken], nr_pages, &at))
		taken++;
	for (unsigned i = 0; i < taken; i++) {
		at = (pfns[i] - reserve->start_pfn) >> reserve->order;
		if (taken < nr)
			reserve->units[at].nr_pages = nr_pages; /* as it was */
		else
			free_claim_locked(reserve, at, nr_pages);
	}
	berth_unlock(&reserve->lock);
	return taken < nr ? -BERTH_EINVAL : 0;
}

int berth__reserve_alloc_bulk(void *state, const struct berth_claim_params *params, unsigned nr,
			      berth_pfn_t *pfns, unsigned flags, struct berth_claim_report *report)
{
	unsigned have = 0;
	int error = 0;

	if (!pfns || !nr || nr > INT32_MAX || flags & ~(unsigned)BERTH_BULK_AS_MANY_AS_POSSIBLE) {
		*report = (struct berth_claim_report){ .error = -BERTH_EINVAL,
						       .blocker_pfn = BERTH_PFN_NONE };
		return -BERTH_EINVAL;
	}
	while (have < nr && !error) {
		error = berth__reserve_alloc(state, params, &pfns[have], report);
		have += !error;
	}
	report->nr_pages = nr * params->nr_pages;
	report->free_pages_taken = have * params->nr_pages;
	if (have < nr && !(flags & BERTH_BULK_AS_MANY_AS_POSSIBLE)) {
		/* They are this call's alone. */
		(void)berth__reserve_release_bulk(state, pfns, have, params->nr_pages);
		have = 0;
	}
	return have ? (int)have : error;
}

/* What a claim's last unit has beyond its pages is free to nobody: it counts as neither. */
void berth__reserve_stats(void *state, struct berth_cma_stats *stats)
{
	struct reserve *reserve = state;

	berth_lock(&reserve->lock);
	*stats = (struct berth_cma_stats){
		.name = reserve->name,
		.start_pfn = reserve->start_pfn,
		.nr_pages = reserve->nr_pages,
		.claimed_pages = reserve->nr_claimed,
		.free_pages = (reserve->nr_units - reserve->nr_units_claimed) << reserve->order,
		.claims_ok = reserve->claims_ok,
		.claims_failed = reserve->claims_failed,
		.releases = reserve->releases,
		.lend = BERTH_LEND_OFF,
		.order_per_bit = reserve->order,
	};
	stats->largest_free_pages = stats->largest_claimable_pages = largest_free_locked(reserve);
	berth_unlock(&reserve->lock);
}

bool berth__reserve_next_claim(void *state, berth_pfn_t *pfn, struct berth_claim_info *claim)
{
	struct reserve *reserve = state;
	uint64_t now_ns = reserve->port->now_ns(reserve->port_ctx), at = 0;
	bool found;

	if (*pfn > reserve->start_pfn)
		at = units_for(reserve, *pfn - reserve->start_pfn);
	berth_lock(&reserve->lock);
	while (at < reserve->nr_units && !reserve->units[at].nr_pages)
		at++;
	found = at < reserve->nr_units;
	if (found) {
		const struct unit *unit = &reserve->units[at];

		claim->pfn = reserve->start_pfn + (at << reserve->order);
		claim->nr_pages = unit->nr_pages;
		claim->age_ns = berth__note_age_ns(unit->note, now_ns);
		claim->area = reserve->name;
		berth__copy_name(claim->name,
				 berth__name_text(&reserve->names, berth__note_name(unit->note)));
	}
	berth_unlock(&reserve->lock);
	*pfn = found ? claim->pfn + claim->nr_pages : reserve->start_pfn + reserve->nr_pages;
	return found;
}

static bool violated(struct berth_violation *violation, const char *what, uint64_t where,
		     uint64_t value, uint64_t expected)
{
	*violation = (struct berth_violation){ what, where, value, expected };
	return value == expected;
}

bool berth__reserve_check(void *state, struct berth_violation *violation)
{
	struct reserve *reserve = state;
	uint64_t claimed = 0, units = 0, named = 0, users = 0, covered = 0;

	for (uint64_t at = 0; at < reserve->nr_units; at++) {
		const struct unit *unit = &reserve->units[at];
		bool taken = reserve->bits[at / 64] >> (at & 63) & 1;

		if (unit->nr_pages) {
			if (!violated(violation, "reserve.I1 claims overlap, unit", at,
				      covered > at, false))
				return false;
			covered = at + units_for(reserve, unit->nr_pages);
			claimed += unit->nr_pages;
			named += berth__note_name(unit->note) != 0;
		}
		units += taken;
		if (!violated(violation, "reserve.I1 bit of unit", at, taken, at < covered))
			return false;
	}
	for (unsigned i = 0; i < MAX_NAMES; i++)
		users += reserve->table[i].users;
	return violated(violation, "reserve.I1 claim leaves the area", covered,
			covered <= reserve->nr_units, true) &&
	       violated(violation, "reserve.I2 nr_claimed", 0, reserve->nr_claimed, claimed) &&
	       violated(violation, "reserve.I2 nr_units_claimed", 0, reserve->nr_units_claimed,
			units) &&
	       violated(violation, "reserve.I2 users of names", 0, users, named);
}
