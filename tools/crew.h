/* SPDX-License-Identifier: MIT */
/*
 * A crew: threads with a CPU each that do the same work in turn, or at the same time. How much less time the second
 * takes says what the work's parts share.
 */
#ifndef BERTH_TOOLS_CREW_H
#define BERTH_TOOLS_CREW_H

#include "tools/measure.h"

struct berth__crew;
/*
 * Returns how much of the work it did. Work that can be cut returns soon after berth__crew_is_over(): with that, all
 * work until the first one is done, so nobody has the machine for himself at the end.
 */
typedef uint64_t (*berth__crew_work)(void *ctx, unsigned member);

/* NULL: a thread can't be started. */
struct berth__crew *berth__crew_start(unsigned nr);
void berth__crew_stop(struct berth__crew *crew);
bool berth__crew_is_over(const struct berth__crew *crew);
/* What all of them did together, a us of the time in which they did it: one after the other; or all at once, from the
 * moment at which all were ready until the last one returned. `can_be_cut`: in turn each counts as if all had had as
 * much time. */
double berth__crew_in_turn(struct berth__crew *crew, berth__crew_work work, void *ctx,
			   bool can_be_cut);
/* The first of these, with something done between the parts that doesn't count; it may have the crew do it. */
typedef void (*berth__crew_between)(void *ctx);
double berth__crew_in_turn_between(struct berth__crew *crew, berth__crew_work work,
				   berth__crew_between between, void *ctx, bool can_be_cut);
double berth__crew_at_once(struct berth__crew *crew, berth__crew_work work, void *ctx);

/*
 * Pairs of such rates, measured one close behind the other, so that both met the same load: the ratio of each pair
 * counts, at once / in turn.
 */
struct berth__speedup {
	struct berth__samples in_turn, at_once, ratios;
};
void berth__speedup_add(struct berth__speedup *speedup, double in_turn, double at_once);
void berth__speedup_free(struct berth__speedup *speedup);
/* The median's bounds, with 95 % certainty whatever the distribution: by ranks, n / 2 +- 0.98 sqrt(n). */
void berth__speedup_bounds(struct berth__speedup *speedup, double *low, double *high);

#endif
