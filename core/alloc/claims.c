/* SPDX-License-Identifier: MIT */
/*
 * Claims that are held: names, ages, the list, events.
 *
 * A claim's first frame has no use for its list links; they hold the claim's note: since when, in
 * units of 65536 ns, and 16 bits that say which of the table's names it has.
 *
 * I1  A name in the table has as many users as there are claims whose note refers to it.
 * I2  A claim has its note as soon as anybody can see that it is one.
 *
 * Complexity: naming a claim O(names in the table), for those that have one; else O(1).
 */
#include "core/alloc/claims.h"
#include "core/frames/internal.h"

/* ---- Names ------------------------------------------------------------------------------------ */

static bool is_text(const struct berth_name *name, const char *text)
{
	unsigned i = 0;

	while (i < BERTH_CLAIM_NAME_BYTES - 1 && text[i] && name->text[i] == text[i])
		i++;
	return i == BERTH_CLAIM_NAME_BYTES - 1 || name->text[i] == text[i];
}

void berth__copy_name(char to[BERTH_CLAIM_NAME_BYTES], const char *from)
{
	unsigned i = 0;

	for (; from && i < BERTH_CLAIM_NAME_BYTES - 1 && from[i]; i++)
		to[i] = from[i];
	to[i] = 0;
}

unsigned berth__name_get(struct berth_names *names, const char *text)
{
	unsigned at = names->max;

	if (!text || !*text)
		return 0;
	for (unsigned i = 0; i < names->max; i++) {
		if (!names->table[i].users) {
			at = at == names->max ? i : at;
		} else if (is_text(&names->table[i], text)) {
			at = i;
			break;
		}
	}
	if (at == names->max)
		return 0;
	if (!names->table[at].users++)
		berth__copy_name(names->table[at].text, text);
	return at + 1;
}

bool berth__name_put(struct berth_names *names, unsigned number)
{
	if (!number)
		return true;
	return number <= names->max && names->table[number - 1].users &&
	       (names->table[number - 1].users--, true);
}

const char *berth__name_text(const struct berth_names *names, unsigned number)
{
	return number && number <= names->max ? names->table[number - 1].text : "";
}

/* ---- Notes ------------------------------------------------------------------------------------ */

/* Of a claim out of an area's stock it changes without the zone lock. */
static uint64_t note_of(const struct berth_zone *zone, berth_idx_t start)
{
	return __atomic_load_n(&zone->links[start].note, __ATOMIC_RELAXED);
}

static void set_note(struct berth_zone *zone, berth_idx_t start, uint64_t note)
{
	__atomic_store_n(&zone->links[start].note, note, __ATOMIC_RELAXED);
}

void berth__claim_note_locked(struct berth_zone *zone, berth_idx_t start, const char *name,
			      uint64_t now_ns)
{
	set_note(zone, start, berth__note(berth__name_get(&zone->names, name), now_ns));
}

void berth__claim_forget_locked(struct berth_zone *zone, berth_idx_t start)
{
	unsigned name = berth__note_name(note_of(zone, start));

	BERTH_ASSERT(zone, berth__name_put(&zone->names, name), name, start);
	set_note(zone, start, 0);
}

void berth__claim_note(struct berth_zone *zone, berth_idx_t start, const char *name)
{
	uint64_t now_ns = berth__now(zone);

	if (!name || !*name) {
		set_note(zone, start, berth__note(0, now_ns));
		return;
	}
	berth_lock(&zone->lock);
	berth__claim_note_locked(zone, start, name, now_ns);
	berth_unlock(&zone->lock);
}

void berth__claim_forget(struct berth_zone *zone, berth_idx_t start)
{
	if (!berth__note_name(note_of(zone, start)))
		return;
	berth_lock(&zone->lock);
	berth__claim_forget_locked(zone, start);
	berth_unlock(&zone->lock);
}

void berth__claim_renew(struct berth_zone *zone, berth_idx_t start, const char *name)
{
	unsigned number = berth__note_name(note_of(zone, start));
	uint64_t now_ns = berth__now(zone);

	/* The text of a name that has users doesn't change. */
	if (number ? name && is_text(&zone->names.table[number - 1], name) : !name || !*name) {
		set_note(zone, start, berth__note(number, now_ns));
		return;
	}
	berth_lock(&zone->lock);
	berth__claim_forget_locked(zone, start);
	berth__claim_note_locked(zone, start, name, now_ns);
	berth_unlock(&zone->lock);
}

unsigned berth__claim_name_number(const struct berth_zone *zone, berth_idx_t start)
{
	return berth__note_name(note_of(zone, start));
}

/* ---- The list --------------------------------------------------------------------------------- */

/* What the claim at `start` is. False: it has just ended. Z, which holds only those claims that
 * aren't out of a stock: of the others, the pageblock's word says whether it is one and the same. */
static bool describe_locked(const struct berth_zone *zone, berth_idx_t start, uint64_t now_ns,
			    struct berth_claim_info *claim)
{
	const struct berth_frame *frame = &zone->frames[start];
	const struct berth_pageblock *pageblock = berth__pageblock(zone, start);
	uint32_t before = atomic_load_explicit(&pageblock->stock, memory_order_acquire);
	uint32_t tag = atomic_load_explicit(&frame->tag, memory_order_acquire);

	claim->pfn = berth__pfn(zone, start);
	claim->nr_pages = berth__cookie(zone, start);
	claim->age_ns = berth__note_age_ns(note_of(zone, start), now_ns);
	claim->area = tag & BERTH_TAG_AREA ? zone->areas[pageblock->home_set - BERTH_CMA].name :
					     NULL;
	berth__copy_name(claim->name,
			 berth__name_text(&zone->names, berth__note_name(note_of(zone, start))));
	atomic_thread_fence(memory_order_acquire);
	return (tag & BERTH_TAG_START) && berth__tag(frame) == tag &&
	       atomic_load_explicit(&pageblock->stock, memory_order_relaxed) == before;
}

/* The first claim that begins in [idx, stop), which is in one pageblock; `stop`: none. Z. */
static berth_idx_t first_claim_locked(const struct berth_zone *zone, berth_idx_t idx,
				      berth_idx_t stop)
{
	if (!berth__nr_claimed(berth__pageblock(zone, idx)))
		return stop;
	while (idx < stop) {
		uint32_t tag;
		berth_idx_t head = berth__find(zone, idx, &tag);

		if (berth__tag_kind(tag) == BERTH_FRAME_CLAIMED && tag & BERTH_TAG_START &&
		    head == idx)
			break;
		idx = head == BERTH_IDX_NONE ? idx + 1 : head + berth__pages(berth__tag_order(tag));
	}
	return idx < stop ? idx : stop;
}

bool berth_claim_next(struct berth_zone *zone, berth_pfn_t *pfn, struct berth_claim_info *claim)
{
	berth_idx_t size = berth__pages(zone->pageblock_order), idx = zone->first;
	uint64_t now_ns = berth__now(zone);
	bool found = false;

	if (*pfn > zone->start_pfn && !berth__idx_one(zone, *pfn, &idx))
		return false;
	while (idx < zone->end && !found) {
		berth_idx_t stop = (idx & ~(size - 1)) + size;

		if (stop > zone->end)
			stop = zone->end;
		berth_lock(&zone->lock);
		idx = first_claim_locked(zone, idx, stop);
		found = idx < stop && describe_locked(zone, idx, now_ns, claim);
		if (idx < stop && !found)
			idx++; /* it began and ended under the look: so its pageblock had no other */
		berth_unlock(&zone->lock);
	}
	*pfn = found ? claim->pfn + claim->nr_pages : berth__pfn(zone, zone->end);
	return found;
}

/* ---- Events ----------------------------------------------------------------------------------- */

void berth_zone_set_claim_events(struct berth_zone *zone, const struct berth_claim_events *events)
{
	atomic_store_explicit(&zone->events, events, memory_order_release);
}

void berth__event_start(const struct berth_claim_events *events, const char *area,
			const struct berth_claim_params *params)
{
	if (events->alloc_start)
		events->alloc_start(events->ctx, area, params->nr_pages, params->align_order);
}

void berth__event_busy_retry(const struct berth_claim_events *events, const char *area,
			     const struct berth_claim_params *params, berth_pfn_t pfn)
{
	if (events->alloc_busy_retry)
		events->alloc_busy_retry(events->ctx, area, pfn, params->nr_pages,
					 params->align_order);
}

void berth__event_finish(const struct berth_claim_events *events, const char *area,
			 const struct berth_claim_params *params, berth_pfn_t pfn, int error)
{
	if (events->alloc_finish)
		events->alloc_finish(events->ctx, area, pfn, params->nr_pages, params->align_order,
				     error);
}

/* Of all the claims at once. */
static struct berth_claim_params in_bulk(const struct berth_claim_params *params, unsigned nr)
{
	struct berth_claim_params all = *params;

	all.nr_pages *= nr;
	return all;
}

void berth__event_bulk_start(const struct berth_claim_events *events, const char *area,
			     const struct berth_claim_params *params, unsigned nr)
{
	struct berth_claim_params all = in_bulk(params, nr);

	berth__event_start(events, area, &all);
}

void berth__event_bulk_finish(const struct berth_claim_events *events, const char *area,
			      const struct berth_claim_params *params, berth_pfn_t pfn, unsigned nr,
			      int error)
{
	struct berth_claim_params all = in_bulk(params, nr);

	berth__event_finish(events, area, &all, pfn, error);
}

void berth__event_release(const struct berth_claim_events *events, const char *area,
			  berth_pfn_t pfn, uint64_t nr_pages)
{
	if (events->release)
		events->release(events->ctx, area, pfn, nr_pages);
}
