/* SPDX-License-Identifier: MIT */
/*
 * GCMA areas: claims of memory that is lent only to what can be dropped (<berth/gcma.h>).
 *
 * A claim is cut off the main gap by a compare-and-swap, or chosen and marked under area->lock (gcma_gaps.c); then it is
 * this call's alone, and its granules are closed without the lock. Release is the same backwards: of those who release a
 * claim the first one gets it, by a compare-and-swap. So claims exclude each other for the search and for becoming a gap
 * only, and borrowers not at all.
 *
 * I5  A granule's generation is odd exactly while a claim has it. It only grows, but for the step back of a claim
 *     that was too late.
 * I6  The tallies' `taken` without `given` and claims without releases are the granules and the number of the claims; a
 *     name has as many users as claims have its number in their notes, nr_named altogether.
 * I7  A slot at or above nr_fillers has no record; between fills none has.
 *
 * Order: the claimer stores closed generations, passes a full fence, reads the fillers' records. A filler
 * stores its record, passes one, reads the generation. Whoever comes second sees the other. A reader copies,
 * passes an acquire fence, reads the generation; whoever got the frames writes to them behind the claimer's
 * fence. So a reader that has read any of that sees the closed generation. Opening is a release, read by acquire:
 * a filler writes behind whatever was done to the frames while they were claimed.
 *
 * Complexity: claiming and releasing O(granules) plain stores, and the search; waiting O(slots that have
 * ever filled).
 */
#include "core/alloc/gcma.h"

#define ALL_FLAGS ((unsigned)BERTH_CLAIM_ALL_FLAGS)
#define DEFAULT_NAMES 32u
#define MAX_NAMES 65535u
#define MAX_CPUS 65536u
#define SPINS 16u     /* between two looks at the clock while a filler is waited for */
#define SPIN_NS 2000u /* a copy of a page takes less: then its filler has probably been preempted */
#define MAX_SLEEP_NS 50000u
#define BATCH 256u /* claims that are made or given back while the lock is held */

_Noreturn void berth__gcma_panic(const struct berth_gcma *area, const char *what, uint64_t value,
				 uint64_t expected)
{
	area->port->panic(area->port_ctx, what, value, expected);
	__builtin_trap();
}

static BERTH_HOT uint64_t now_ns(const struct berth_gcma *area)
{
	return area->port->now_ns(area->port_ctx);
}

/* ---- Set-up ------------------------------------------------------------------------------------ */

/* Where the parts of the metadata begin. */
struct layout {
	size_t starts, generations, fillers, extents, names, bytes;
	unsigned nr_names;
};

static size_t rounded(size_t bytes)
{
	return (bytes + 63) & ~(size_t)63;
}

static bool lay_out(const struct berth_gcma_params *params, struct layout *layout)
{
	uint64_t granule, nr;

	if (!params || !params->nr_cpus || params->nr_cpus > MAX_CPUS ||
	    params->max_claim_names > MAX_NAMES ||
	    params->granule_order > BERTH_GCMA_MAX_GRANULE_ORDER || !params->nr_pages ||
	    params->nr_pages > UINT32_MAX || params->start_pfn > UINT64_MAX >> 8)
		return false;
	granule = 1ull << params->granule_order;
	if ((params->start_pfn | params->nr_pages) & (granule - 1))
		return false;
	nr = params->nr_pages >> params->granule_order;
	layout->nr_names = params->max_claim_names ? params->max_claim_names : DEFAULT_NAMES;
	/* The small parts that each claim writes to lie together. */
	layout->starts = rounded(sizeof(struct berth_gcma));
	layout->generations = layout->starts + rounded((nr + 63) / 64 * sizeof(uint64_t));
	layout->fillers = layout->generations + rounded(nr * sizeof(uint64_t));
	layout->extents = layout->fillers + params->nr_cpus * sizeof(struct berth_gcma_filler);
	layout->names = layout->extents + rounded(nr * sizeof(struct berth_extent));
	layout->bytes = layout->names + rounded(layout->nr_names * sizeof(struct berth_name));
	return true;
}

size_t berth_gcma_metadata_size(const struct berth_gcma_params *params)
{
	struct layout layout;

	return lay_out(params, &layout) ? layout.bytes : 0;
}

int berth_gcma_init(struct berth_gcma **out, const struct berth_gcma_params *params, void *metadata,
		    size_t metadata_bytes)
{
	struct berth_gcma *area = metadata;
	char *base = metadata;
	struct layout layout;

	if (!out || !metadata || ((uintptr_t)metadata & 63) || !lay_out(params, &layout) ||
	    metadata_bytes < layout.bytes || !params->name || !params->port ||
	    !params->port->now_ns || !params->port->wait || !params->port->panic)
		return -BERTH_EINVAL;
	__builtin_memset(metadata, 0, layout.bytes);
	area->hot.generations = (void *)(base + layout.generations);
	area->hot.fillers = (void *)(base + layout.fillers);
	area->hot.nr_cpus = params->nr_cpus;
	area->hot.granule_order = params->granule_order;
	area->hot.start_pfn = params->start_pfn;
	area->name = params->name;
	area->port = params->port;
	area->port_ctx = params->port_ctx;
	area->nr_pages = params->nr_pages;
	area->nr_granules = (berth_granule_t)(params->nr_pages >> params->granule_order);
	area->extents = (void *)(base + layout.extents);
	area->starts = (void *)(base + layout.starts);
	area->names = (struct berth_names){ (void *)(base + layout.names), layout.nr_names };
	berth__gaps_init(area);
	*out = area;
	return 0;
}

/* ---- Fillers ----------------------------------------------------------------------------------- */

bool berth__gcma_new_filler(struct berth_gcma_hot *hot, unsigned cpu)
{
	uint32_t nr = atomic_load_explicit(&hot->nr_fillers, memory_order_relaxed);

	if (cpu >= hot->nr_cpus)
		return false;
	/* Relaxed: the filler's fence comes behind it, and claimers read it behind theirs. */
	while (nr <= cpu &&
	       !atomic_compare_exchange_weak_explicit(&hot->nr_fillers, &nr, cpu + 1,
						      memory_order_relaxed, memory_order_relaxed))
		;
	return true;
}

/* A claim's wait for the fillers of the granules [first, end). */
struct wait {
	berth_granule_t first, end;
	uint64_t deadline_ns;
	uint64_t began_ns; /* 0: nobody was inside yet */
	bool restarted;    /* copies that can begin anew have: they find their granules closed */
};

/* A filler may be in a granule that is closed, and write to it. */
static bool inside(const struct berth_gcma *area, unsigned slot, const struct wait *wait)
{
	/* Acquire: when it has left, what it wrote is there. */
	uint64_t record = atomic_load_explicit(&area->hot.fillers[slot].record,
					       memory_order_acquire);

	if (record & BERTH_GCMA_RESTARTS) {
		if (wait->restarted)
			return false;
		record &= ~BERTH_GCMA_RESTARTS;
	}
	return record > wait->first && record <= wait->end &&
	       !berth_gcma_open(atomic_load_explicit(&area->hot.generations[record - 1],
						     memory_order_relaxed));
}

static void count_wait(struct berth_gcma *area, uint64_t waited_ns)
{
	uint64_t longest = atomic_load_explicit(&area->longest_wait_ns, memory_order_relaxed);

	atomic_fetch_add_explicit(&area->filler_waits, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&area->filler_wait_ns, waited_ns, memory_order_relaxed);
	while (longest < waited_ns &&
	       !atomic_compare_exchange_weak_explicit(&area->longest_wait_ns, &longest, waited_ns,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

/* Who can't be waited for by spinning has probably been preempted. Takes his copy away if that can be done. */
static void wait_longer(const struct berth_gcma *area, struct wait *wait, uint64_t *sleep_ns)
{
	const struct berth_port_ops *port = area->port;

	if (!wait->restarted && port->restart_copies && port->restart_copies(area->port_ctx)) {
		wait->restarted = true;
		return;
	}
	port->wait(area->port_ctx, *sleep_ns);
	*sleep_ns = *sleep_ns * 2 < MAX_SLEEP_NS ? *sleep_ns * 2 : MAX_SLEEP_NS;
}

static int wait_for_filler(const struct berth_gcma *area, unsigned slot, struct wait *wait)
{
	uint64_t sleep_ns = 1000, now;

	for (;;) {
		for (unsigned spins = 0; spins < SPINS; spins++) {
			if (!inside(area, slot, wait))
				return 0;
			berth_relax();
		}
		now = now_ns(area);
		if (wait->deadline_ns && now >= wait->deadline_ns)
			return -BERTH_EAGAIN;
		if (now - wait->began_ns >= SPIN_NS)
			wait_longer(area, wait, &sleep_ns);
	}
}

/* The granules of [first, end) that are closed now have no filler any more. Behind the fence. */
static BERTH_HOT int wait_for_fillers(struct berth_gcma *area, berth_granule_t first,
				      berth_granule_t end, uint64_t deadline_ns)
{
	uint32_t nr = atomic_load_explicit(&area->hot.nr_fillers, memory_order_relaxed);
	struct wait wait = { .first = first, .end = end, .deadline_ns = deadline_ns };
	int error = 0;

	for (uint32_t slot = 0; slot < nr && !error; slot++) {
		if (!inside(area, slot, &wait))
			continue;
		wait.began_ns = wait.began_ns ? wait.began_ns : now_ns(area);
		error = wait_for_filler(area, slot, &wait);
	}
	if (wait.began_ns)
		count_wait(area, now_ns(area) - wait.began_ns);
	return error;
}

/* ---- Generations ------------------------------------------------------------------------------- */

static inline void step_one(_Atomic uint64_t *generation, uint64_t by, memory_order order)
{
	uint64_t was = atomic_load_explicit(generation, memory_order_relaxed);

	atomic_store_explicit(generation, was + by, order);
}

/*
 * Each generation of the claim, which nobody else writes to, changes by as much. By fours: one by one takes up to twice as
 * long where the loop's code happens to lie across two lines.
 */
static inline void step(struct berth_gcma *area, berth_granule_t first, berth_granule_t nr,
			uint64_t by, memory_order order)
{
	_Atomic uint64_t *generation = &area->hot.generations[first];
	_Atomic uint64_t *end = generation + nr;

	for (; end - generation >= 4; generation += 4) {
		step_one(&generation[0], by, order);
		step_one(&generation[1], by, order);
		step_one(&generation[2], by, order);
		step_one(&generation[3], by, order);
	}
	while (generation < end)
		step_one(generation++, by, order);
}

static void close_granules(struct berth_gcma *area, berth_granule_t first, berth_granule_t nr)
{
	step(area, first, nr, 1, memory_order_relaxed);
}

/* Release: whatever was done to the frames comes before it. */
static void open_granules(struct berth_gcma *area, berth_granule_t first, berth_granule_t nr)
{
	step(area, first, nr, 1, memory_order_release);
}

/* They were closed in vain, nobody else has got the frames: what was lent is lent, and fillers that are still
 * inside are right. Release: they may not know who had the frames before. */
static void uncover_granules(struct berth_gcma *area, berth_granule_t first, berth_granule_t nr)
{
	step(area, first, nr, UINT64_MAX, memory_order_release);
}

static struct berth_gcma_tally *tally_of(struct berth_gcma *area)
{
	return &area->tallies[berth_cpu() % BERTH_GCMA_TALLIES];
}

static berth_granule_t granule_of(const struct berth_gcma *area, berth_pfn_t pfn)
{
	return (berth_granule_t)berth__gcma_granule_of(&area->hot, pfn);
}

static struct berth_extent *extent_at(const struct berth_gcma *area, berth_pfn_t pfn)
{
	return &area->extents[granule_of(area, pfn)];
}

/* ---- Giving back ------------------------------------------------------------------------------- */

/* The claims, which nobody else deals with (CLAIMING or RELEASING), become gaps. Their granules are open. */
static BERTH_HOT void give_back(struct berth_gcma *area, const berth_pfn_t *pfns, unsigned nr)
{
	for (unsigned done = 0; done < nr;) {
		unsigned stop = nr - done > BATCH ? done + BATCH : nr;

		berth_lock(&area->lock);
		for (; done < stop; done++) {
			struct berth_extent *claim = extent_at(area, pfns[done]);
			unsigned name = berth__note_name(claim->u.note);

			if (name) {
				BERTH_GCMA_ASSERT(area, berth__name_put(&area->names, name), name,
						  pfns[done]);
				area->nr_named--;
			}
			berth__gap_give_locked(area, granule_of(area, pfns[done]));
		}
		berth_unlock(&area->lock);
	}
}

/* Takes the claim at pfn off what can be released. False: there is none that was made with so many pages and is
 * complete, or somebody else was faster. */
static bool mark_releasing(struct berth_gcma *area, berth_pfn_t pfn, uint64_t nr_pages)
{
	uint64_t offset = pfn - area->hot.start_pfn;
	uint64_t what = berth__extent_what(BERTH_EXTENT_CLAIMED, nr_pages);

	/* What isn't a claim's first granule never says CLAIMED. Acquire: its size belongs to that. */
	return offset < area->nr_pages && !(offset & ((1ull << area->hot.granule_order) - 1)) &&
	       nr_pages <= area->nr_pages &&
	       atomic_compare_exchange_strong_explicit(&extent_at(area, pfn)->what, &what,
						       berth__extent_what(BERTH_EXTENT_RELEASING,
									  nr_pages),
						       memory_order_acquire, memory_order_relaxed);
}

/* The claim, which nobody else deals with, is one like any other, which may be released. */
static void mark_claimed(struct berth_gcma *area, berth_pfn_t pfn)
{
	struct berth_extent *claim = extent_at(area, pfn);

	atomic_store_explicit(&claim->what,
			      berth__extent_what(BERTH_EXTENT_CLAIMED, berth__extent_pages(claim)),
			      memory_order_release);
}

BERTH_HOT int berth_gcma_release_bulk(struct berth_gcma *area, const berth_pfn_t *pfns, unsigned nr,
				      uint64_t nr_pages)
{
	struct berth_gcma_tally *tally;
	uint64_t granules = 0;
	unsigned marked = 0;

	if (!area || (nr && !pfns))
		return -BERTH_EINVAL;
	while (marked < nr && mark_releasing(area, pfns[marked], nr_pages))
		marked++;
	if (marked < nr) { /* as they were */
		for (unsigned i = 0; i < marked; i++)
			mark_claimed(area, pfns[i]);
		return -BERTH_EINVAL;
	}
	for (unsigned i = 0; i < nr; i++) {
		berth_granule_t of_this = extent_at(area, pfns[i])->nr;

		open_granules(area, granule_of(area, pfns[i]), of_this);
		granules += of_this;
	}
	give_back(area, pfns, nr);
	tally = tally_of(area);
	atomic_fetch_add_explicit(&tally->releases, nr, memory_order_relaxed);
	atomic_fetch_add_explicit(&tally->given, granules, memory_order_release);
	if (nr)
		atomic_fetch_add_explicit(&tally->openings, 1, memory_order_release);
	for (unsigned i = 0; i < nr; i++)
		BERTH_TRACE(area, release, area->name, pfns[i], nr_pages);
	return 0;
}

BERTH_HOT int berth_gcma_release(struct berth_gcma *area, berth_pfn_t pfn, uint64_t nr_pages)
{
	return berth_gcma_release_bulk(area, &pfn, 1, nr_pages);
}

/* ---- Claiming ---------------------------------------------------------------------------------- */

static bool params_valid(const struct berth_claim_params *params)
{
	return params && params->nr_pages && params->align_order <= BERTH_MAX_ORDER_LIMIT &&
	       !(params->flags & ~ALL_FLAGS) &&
	       !(params->boundary_pages & (params->boundary_pages - 1)) &&
	       (!params->max_pfn || params->min_pfn <= params->max_pfn);
}

/* False: not even an area without claims could serve it. */
static BERTH_HOT bool make_request(const struct berth_gcma *area,
				   const struct berth_claim_params *params,
				   struct berth_gcma_request *request)
{
	berth_pfn_t granule = 1ull << area->hot.granule_order;
	berth_pfn_t align = 1ull << params->align_order;

	if (params->nr_pages > area->nr_pages ||
	    (params->boundary_pages && params->nr_pages > params->boundary_pages))
		return false;
	*request = (struct berth_gcma_request){
		.nr_pages = params->nr_pages,
		.run_pages = (params->nr_pages + granule - 1) & ~(granule - 1),
		.align = align > granule ? align : granule,
		.boundary = params->boundary_pages,
		.min_pfn = params->min_pfn,
		.max_pfn = params->max_pfn ? params->max_pfn : UINT64_MAX,
		.first_fit = params->flags & BERTH_CLAIM_FIRST_FIT,
	};
	request->nr = (berth_granule_t)(request->run_pages >> area->hot.granule_order);
	return berth__gap_fit(area, request, 0, area->nr_granules) != BERTH_GRANULE_NONE;
}

/* Names the claims. G. */
static BERTH_HOT void note_locked(struct berth_gcma *area, const char *name, uint64_t now,
				  const berth_pfn_t *pfns, unsigned nr)
{
	unsigned number = name ? berth__name_get(&area->names, name) : 0;
	uint64_t note = berth__note(number, now);

	if (number) {
		area->names.table[number - 1].users += nr - 1;
		area->nr_named += nr;
	}
	for (unsigned i = 0; i < nr; i++)
		extent_at(area, pfns[i])->u.note = note;
}

/* Runs for up to `nr` claims, which are then this call's alone; returns how many there are. */
static BERTH_HOT unsigned take_runs(struct berth_gcma *area,
				    const struct berth_gcma_request *request, const char *name,
				    uint64_t now, unsigned nr, berth_pfn_t *pfns)
{
	unsigned have = 0, before;

	if (nr == 1 && !name && berth__gap_cut(area, request, berth__note(0, now), pfns))
		return 1;
	do {
		before = have;
		berth_lock(&area->lock);
		while (have < nr && have - before < BATCH) {
			struct berth_gap gap = berth__gap_find_locked(area, request);
			unsigned most = nr - have < BATCH ? nr - have : BATCH, taken;

			if (!gap.nr)
				break;
			taken = berth__gap_take_locked(area, gap, request, most, &pfns[have]);
			note_locked(area, name, now, &pfns[have], taken);
			have += taken;
		}
		berth_unlock(&area->lock);
	} while (have < nr && have > before);
	return have;
}

/* Closes the claims, and waits until nobody fills them any more. */
static BERTH_HOT int close_runs(struct berth_gcma *area, const struct berth_gcma_request *request,
				uint64_t deadline_ns, const berth_pfn_t *pfns, unsigned nr,
				struct berth_claim_report *report, uint64_t began_ns)
{
	berth_granule_t first = BERTH_GRANULE_NONE, last = 0;
	uint64_t closed_ns;
	int error;

	for (unsigned i = 0; i < nr; i++) {
		berth_granule_t at = granule_of(area, pfns[i]);

		close_granules(area, at, request->nr);
		first = at < first ? at : first;
		last = at > last ? at : last;
	}
	/* Pairs with the fillers': see above. */
	atomic_thread_fence(memory_order_seq_cst);
	closed_ns = now_ns(area);
	report->phase_ns[BERTH_PHASE_ISOLATE] = closed_ns - began_ns;
	error = wait_for_fillers(area, first, last + request->nr, deadline_ns);
	report->phase_ns[BERTH_PHASE_DRAIN] = now_ns(area) - closed_ns;
	return error;
}

/* They are claims like any other, which may be released. */
static BERTH_HOT void complete(struct berth_gcma *area, const berth_pfn_t *pfns, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		mark_claimed(area, pfns[i]);
	/* What fillers wrote is in memory before the caller tells a device. */
	berth_device_barrier();
}

/* Counts claims of `nr` granules each, and says what is free. */
static BERTH_HOT int ended(struct berth_gcma *area, int error, unsigned have, berth_granule_t nr,
			   uint64_t began_ns, struct berth_claim_report *report)
{
	struct berth_gcma_tally *tally = tally_of(area);

	atomic_fetch_add_explicit(&tally->claims_ok, have, memory_order_relaxed);
	atomic_fetch_add_explicit(&tally->taken, (uint64_t)have * nr, memory_order_relaxed);
	if (error) {
		atomic_fetch_add_explicit(&tally->claims_failed, 1, memory_order_relaxed);
		berth_lock(&area->lock);
		report->largest_free_pages = report->largest_claimable_pages =
			(uint64_t)berth__gap_longest_locked(area) << area->hot.granule_order;
		berth_unlock(&area->lock);
	}
	report->reason = !error                 ? BERTH_CLAIM_DONE :
			 error == -BERTH_E2BIG  ? BERTH_CLAIM_TOO_LARGE :
			 error == -BERTH_ENOSPC ? BERTH_CLAIM_NO_RUN :
						  BERTH_CLAIM_DEADLINE;
	report->phase_ns[BERTH_PHASE_FINISH] = now_ns(area) - began_ns -
					       report->phase_ns[BERTH_PHASE_SEARCH] -
					       report->phase_ns[BERTH_PHASE_ISOLATE] -
					       report->phase_ns[BERTH_PHASE_DRAIN];
	return report->error = error;
}

/* Claims of checked parameters: all, or as many as there are with `fewer`; *have: how many. */
static BERTH_HOT int claim_runs(struct berth_gcma *area, const struct berth_claim_params *params,
				unsigned nr, bool fewer, berth_pfn_t *pfns, unsigned *have,
				struct berth_claim_report *report)
{
	uint64_t began_ns = now_ns(area), found_ns;
	struct berth_gcma_request request = { .nr = 0 };
	int error = -BERTH_E2BIG;

	*have = 0;
	if (make_request(area, params, &request)) {
		*have = take_runs(area, &request, params->name, began_ns, nr, pfns);
		error = *have < nr ? -BERTH_ENOSPC : 0;
	}
	found_ns = now_ns(area);
	report->phase_ns[BERTH_PHASE_SEARCH] = found_ns - began_ns;
	report->tries = *have != 0;
	if (*have && (!error || fewer)) {
		int late = close_runs(area, &request, params->deadline_ns, pfns, *have, report,
				      found_ns);

		for (unsigned i = 0; late && i < *have; i++)
			uncover_granules(area, granule_of(area, pfns[i]), request.nr);
		if (late) /* who met them closed looks again */
			atomic_fetch_add_explicit(&tally_of(area)->openings, 1,
						  memory_order_release);
		error = late ? late : error;
	}
	/* A claim that fails has cost nobody his data. */
	if (error == -BERTH_EAGAIN || (error && !fewer)) {
		give_back(area, pfns, *have);
		*have = 0;
	} else {
		complete(area, pfns, *have);
	}
	report->free_pages_taken = *have * params->nr_pages;
	return ended(area, error, *have, request.nr, began_ns, report);
}

BERTH_HOT int berth_gcma_alloc(struct berth_gcma *area, const struct berth_claim_params *params,
			       berth_pfn_t *pfn, struct berth_claim_report *report)
{
	struct berth_claim_report own;
	berth_pfn_t found;
	unsigned have;
	int error;

	report = report ? report : &own;
	*report = (struct berth_claim_report){ .error = -BERTH_EINVAL,
					       .area = area ? area->name : NULL,
					       .blocker_pfn = BERTH_PFN_NONE };
	if (!area || !pfn || !params_valid(params))
		return -BERTH_EINVAL;
	/* Another claimer may have had the line last: it is on its way while the request is made. */
	__builtin_prefetch(&area->main_gap, 1);
	BERTH_TRACE(area, start, area->name, params);
	report->nr_pages = params->nr_pages;
	error = claim_runs(area, params, 1, false, &found, &have, report);
	if (!error)
		*pfn = found;
	BERTH_TRACE(area, finish, area->name, params, error ? BERTH_PFN_NONE : found, error);
	return error;
}

int berth_gcma_alloc_bulk(struct berth_gcma *area, const struct berth_claim_params *params,
			  unsigned nr, berth_pfn_t *pfns, unsigned flags,
			  struct berth_claim_report *report)
{
	struct berth_claim_report own;
	unsigned have;
	int error;

	report = report ? report : &own;
	*report = (struct berth_claim_report){ .error = -BERTH_EINVAL,
					       .area = area ? area->name : NULL,
					       .blocker_pfn = BERTH_PFN_NONE };
	if (!area || !pfns || !nr || nr > INT32_MAX || !params_valid(params) ||
	    (flags & ~(unsigned)BERTH_BULK_AS_MANY_AS_POSSIBLE))
		return -BERTH_EINVAL;
	BERTH_TRACE(area, bulk_start, area->name, params, nr);
	report->nr_pages = nr * params->nr_pages;
	error = claim_runs(area, params, nr, flags & BERTH_BULK_AS_MANY_AS_POSSIBLE, pfns, &have,
			   report);
	BERTH_TRACE(area, bulk_finish, area->name, params, have ? pfns[0] : BERTH_PFN_NONE, have,
		    have ? 0 : error);
	return have ? (int)have : error;
}

void berth_gcma_set_claim_events(struct berth_gcma *area, const struct berth_claim_events *events)
{
	atomic_store_explicit(&area->events, events, memory_order_release);
}

/* ---- What there is ----------------------------------------------------------------------------- */

bool berth_gcma_claim_next(struct berth_gcma *area, berth_pfn_t *pfn,
			   struct berth_claim_info *claim)
{
	const berth_granule_t chunk = 4096; /* granules of one look */
	uint64_t now = now_ns(area);
	berth_granule_t at = 0;
	bool found = false;

	if (*pfn > area->hot.start_pfn)
		at = *pfn - area->hot.start_pfn >= area->nr_pages ?
			     area->nr_granules :
			     granule_of(area, *pfn + (1ull << area->hot.granule_order) - 1);
	while (at < area->nr_granules && !found) {
		berth_granule_t end = area->nr_granules - at > chunk ? at + chunk :
								       area->nr_granules;

		berth_lock(&area->lock);
		at = berth__gap_next_claim_locked(area, at, end);
		if (at < end && berth__extent_kind(&area->extents[at]) == BERTH_EXTENT_CLAIMED) {
			const struct berth_extent *extent = &area->extents[at];

			found = true;
			claim->pfn = berth__granule_pfn(area, at);
			claim->nr_pages = berth__extent_pages(extent);
			claim->age_ns = berth__note_age_ns(extent->u.note, now);
			claim->area = area->name;
			berth__copy_name(claim->name,
					 berth__name_text(&area->names,
							  berth__note_name(extent->u.note)));
		} else if (at < end) {
			at += area->extents[at].nr;
		}
		berth_unlock(&area->lock);
	}
	*pfn = found ? claim->pfn + claim->nr_pages : area->hot.start_pfn + area->nr_pages;
	return found;
}

/* Exact while nobody claims or releases. */
static uint64_t claimed_granules(const struct berth_gcma *area)
{
	uint64_t given = 0, taken = 0;

	/* Acquire: the claims of those that were given are counted below. */
	for (unsigned i = 0; i < BERTH_GCMA_TALLIES; i++)
		given += atomic_load_explicit(&area->tallies[i].given, memory_order_acquire);
	for (unsigned i = 0; i < BERTH_GCMA_TALLIES; i++)
		taken += atomic_load_explicit(&area->tallies[i].taken, memory_order_relaxed);
	return taken - given < area->nr_granules ? taken - given : area->nr_granules;
}

void berth_gcma_stats(struct berth_gcma *area, struct berth_gcma_stats *stats)
{
	*stats = (struct berth_gcma_stats){
		.name = area->name,
		.start_pfn = area->hot.start_pfn,
		.nr_pages = area->nr_pages,
		.granule_order = area->hot.granule_order,
		.filler_waits = atomic_load_explicit(&area->filler_waits, memory_order_relaxed),
		.filler_wait_ns = atomic_load_explicit(&area->filler_wait_ns, memory_order_relaxed),
		.longest_wait_ns = atomic_load_explicit(&area->longest_wait_ns,
							memory_order_relaxed),
	};
	berth_lock(&area->lock);
	stats->claimed_pages = claimed_granules(area) << area->hot.granule_order;
	stats->largest_free_pages = (uint64_t)berth__gap_longest_locked(area)
				    << area->hot.granule_order;
	berth_unlock(&area->lock);
	for (unsigned i = 0; i < BERTH_GCMA_TALLIES; i++) {
		const struct berth_gcma_tally *tally = &area->tallies[i];

		stats->claims_ok += atomic_load_explicit(&tally->claims_ok, memory_order_relaxed);
		stats->claims_failed += atomic_load_explicit(&tally->claims_failed,
							     memory_order_relaxed);
		stats->releases += atomic_load_explicit(&tally->releases, memory_order_relaxed);
	}
}

/* ---- For borrowers ----------------------------------------------------------------------------- */

uint64_t berth_gcma_nr_granules(const struct berth_gcma *area)
{
	return area->nr_granules;
}

berth_pfn_t berth_gcma_start_pfn(const struct berth_gcma *area)
{
	return area->hot.start_pfn;
}

unsigned berth_gcma_granule_order(const struct berth_gcma *area)
{
	return area->hot.granule_order;
}

uint64_t berth_gcma_generation(const struct berth_gcma *area, uint64_t granule)
{
	return berth__gcma_generation(&area->hot, granule);
}

uint64_t berth_gcma_openings(const struct berth_gcma *area)
{
	uint64_t openings = 0;

	for (unsigned i = 0; i < BERTH_GCMA_TALLIES; i++)
		openings += atomic_load_explicit(&area->tallies[i].openings, memory_order_acquire);
	return openings;
}

bool berth_gcma_still(const struct berth_gcma *area, uint64_t granule, uint64_t generation)
{
	return berth__gcma_still(&area->hot, granule, generation);
}

bool berth_gcma_fill_begin(struct berth_gcma *area, uint64_t granule, uint64_t generation)
{
	return berth__gcma_fill_begin(&area->hot, granule, generation) != NULL;
}

void berth_gcma_fill_end(struct berth_gcma *area)
{
	berth__gcma_fill_end(&area->hot.fillers[berth_cpu()]);
}

bool berth_gcma_fill(struct berth_gcma *area, uint64_t granule, uint64_t generation, void *to,
		     const void *from, size_t bytes)
{
	return berth__gcma_fill(&area->hot, granule, generation, to, from, bytes);
}

/* ---- Check ------------------------------------------------------------------------------------- */

#define EXPECT(what, where, value, expected)                                            \
	do {                                                                            \
		uint64_t value_ = (value), expected_ = (expected);                      \
		if (value_ != expected_) {                                              \
			*violation = (struct berth_violation){ (what), (where), value_, \
							       expected_ };             \
			return false;                                                   \
		}                                                                       \
	} while (0)

/* I5, I6, of the extents that berth__gaps_check() found right. */
static bool check_claims(const struct berth_gcma *area, struct berth_violation *violation)
{
	const struct berth_gap main = berth__main_gap(area);
	uint64_t granules = 0, claims = 0, named = 0, users = 0, counted = 0;

	for (berth_granule_t at = 0, nr; at < area->nr_granules; at += nr) {
		const struct berth_extent *extent = &area->extents[at];
		bool main_gap = main.nr && at == main.first;
		enum berth_extent_kind kind = main_gap ? BERTH_EXTENT_GAP :
							 berth__extent_kind(extent);
		bool claimed = kind == BERTH_EXTENT_CLAIMED;
		unsigned name;

		nr = main_gap ? main.nr : extent->nr;
		EXPECT("gcma.I6 claim under way at granule", at,
		       kind == BERTH_EXTENT_CLAIMING || kind == BERTH_EXTENT_RELEASING, false);
		for (berth_granule_t i = 0; i < nr; i++)
			EXPECT("gcma.I5 granule is closed, number", at + i,
			       !berth_gcma_open(berth__gcma_generation(&area->hot, at + i)),
			       claimed);
		if (!claimed)
			continue;
		name = berth__note_name(extent->u.note);
		EXPECT("gcma.I6 pages of the claim at granule", at,
		       berth__extent_pages(extent) &&
			       (berth__extent_pages(extent) - 1) >> area->hot.granule_order ==
				       nr - 1,
		       true);
		EXPECT("gcma.I6 name of the claim at granule", at,
		       name <= area->names.max && (!name || area->names.table[name - 1].users),
		       true);
		granules += nr;
		claims++;
		named += name != 0;
	}
	for (unsigned i = 0; i < area->names.max; i++)
		users += area->names.table[i].users;
	for (unsigned i = 0; i < BERTH_GCMA_TALLIES; i++)
		counted += atomic_load_explicit(&area->tallies[i].claims_ok, memory_order_relaxed) -
			   atomic_load_explicit(&area->tallies[i].releases, memory_order_relaxed);
	EXPECT("gcma.I6 claims that are counted", 0, counted, claims);
	EXPECT("gcma.I6 granules that are counted", 0, claimed_granules(area), granules);
	EXPECT("gcma.I6 nr_named", 0, area->nr_named, named);
	EXPECT("gcma.I6 users of names", 0, users, named);
	return true;
}

bool berth_gcma_check(struct berth_gcma *area, struct berth_violation *violation)
{
	struct berth_violation ignored;

	violation = violation ? violation : &ignored;
	for (unsigned slot = 0; slot < area->hot.nr_cpus; slot++)
		EXPECT("gcma.I7 record of slot", slot,
		       atomic_load_explicit(&area->hot.fillers[slot].record, memory_order_relaxed),
		       0);
	return berth__gaps_check(area, violation) && check_claims(area, violation);
}
