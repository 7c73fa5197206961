/* SPDX-License-Identifier: MIT */
/*
 * Notes of claims that are held, tables of names, and events (claims.c). Private to the core.
 */
#ifndef BERTH_CORE_CLAIMS_H
#define BERTH_CORE_CLAIMS_H

#include <berth/claims.h>

#include "core/internal.h"

/* A table of names. Its owner's lock guards it. */
struct berth_name {
	char text[BERTH_CLAIM_NAME_BYTES];
	uint32_t users; /* 0: free */
};

/* The name's number, from 1, with one user more; 0: no name, or no room. */
unsigned berth__name_get(struct berth_names *names, const char *text);
/* One user less. False: it has none. Number 0 is ignored. */
bool berth__name_put(struct berth_names *names, unsigned number);
/* Empty for 0. */
const char *berth__name_text(const struct berth_names *names, unsigned number);
void berth__copy_name(char to[BERTH_CLAIM_NAME_BYTES], const char *from);

/* A note: a name's number and the time in one word. */
#define BERTH_NOTE_SHIFT 16u /* of ns */
static inline uint64_t berth__note(unsigned name, uint64_t now_ns)
{
	return (uint64_t)name << 48 | now_ns >> BERTH_NOTE_SHIFT;
}

static inline unsigned berth__note_name(uint64_t note)
{
	return (unsigned)(note >> 48);
}

static inline uint64_t berth__note_age_ns(uint64_t note, uint64_t now_ns)
{
	return (((now_ns >> BERTH_NOTE_SHIFT) - note) & UINT64_MAX >> 16) << BERTH_NOTE_SHIFT;
}

/* What begins at `start` becomes a claim (name: NULL: none), or isn't one any more. Z. */
void berth__claim_note_locked(struct berth_zone *zone, berth_idx_t start, const char *name,
			      uint64_t now_ns);
void berth__claim_forget_locked(struct berth_zone *zone, berth_idx_t start);
/* The same of a claim out of a stock, without locks unless it has a name; before it is to be seen. */
void berth__claim_note(struct berth_zone *zone, berth_idx_t start, const char *name);
void berth__claim_forget(struct berth_zone *zone, berth_idx_t start);
/* What is kept becomes a claim again: without locks unless the name is another one. */
void berth__claim_renew(struct berth_zone *zone, berth_idx_t start, const char *name);
/* The number of the claim's name. */
unsigned berth__claim_name_number(const struct berth_zone *zone, berth_idx_t start);

/* Tells of an event, if anybody wants to know. */
#define BERTH_TRACE(zone, event, ...)                                            \
	do {                                                                     \
		const struct berth_claim_events *events_ = atomic_load_explicit( \
			&(zone)->events, memory_order_acquire);                  \
		if (BERTH_UNLIKELY(events_ != NULL))                             \
			berth__event_##event(events_, __VA_ARGS__);              \
	} while (0)
BERTH_COLD void berth__event_start(const struct berth_claim_events *events, const char *area,
				   const struct berth_claim_params *params);
BERTH_COLD void berth__event_busy_retry(const struct berth_claim_events *events, const char *area,
					const struct berth_claim_params *params, berth_pfn_t pfn);
BERTH_COLD void berth__event_finish(const struct berth_claim_events *events, const char *area,
				    const struct berth_claim_params *params, berth_pfn_t pfn,
				    int error);
BERTH_COLD void berth__event_bulk_start(const struct berth_claim_events *events, const char *area,
					const struct berth_claim_params *params, unsigned nr);
BERTH_COLD void berth__event_bulk_finish(const struct berth_claim_events *events, const char *area,
					 const struct berth_claim_params *params, berth_pfn_t pfn,
					 unsigned nr, int error);
BERTH_COLD void berth__event_release(const struct berth_claim_events *events, const char *area,
				     berth_pfn_t pfn, uint64_t nr_pages);

#endif
