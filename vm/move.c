/* SPDX-License-Identifier: MIT */
/*
 * Moving mapped memory under running threads: the space's answer to the core's "move these there".
 *
 * Blocks whose pages follow each other, as far as one huge page reaches, are a stretch, wherever their frames are
 * and go. A stretch moves in segments.
 *
 * Small segments, and all of them where the machine can do nothing else (stall_and_move()):
 *
 *	freeze the blocks -> write-protect a segment -> copy it, looking after every 64 KiB whether a
 *	writer waits -> map the copy over it, wake
 *
 * A quiet segment moves in one piece. When a writer shows up, what is copied so far is mapped at
 * once, the rest is opened again, and the move goes on in 64 KiB steps that double while it stays
 * quiet. So throughput is that of large pieces where nobody writes, and a writer waits for one step
 * where somebody does.
 *
 * Large segments (watch_and_move()):
 *
 *	freeze the blocks -> watch -> copy while all go on -> where many write, look and copy again -> halt: nobody
 *	reads or writes any more -> copy what was written since -> map the copy over it, wake
 *
 * So a segment of 2 MiB stays in one piece, which costs a tenth of its pieces where somebody writes, and who
 * touches it at the end waits for two changes of its mapping and for what was written since the last look.
 *
 * Segments of many runs of frames (stop_and_move()):
 *
 *	freeze the blocks -> stop: nobody reads or writes any more -> copy -> map the copy over it, wake
 *
 * There each run is a mapping of its own, and to write-protect it would take a flush of all CPUs each. They are as
 * large as those who wait let them be: `grain` follows what was measured.
 *
 * I1  At every moment each page is mapped to exactly one frame, and it holds the page's contents.
 * I2  A block has moved wholly or not at all when the batch returns.
 * I3  Nothing is moved while the gate is shut.
 * I4  Between protect, stop or halt and wake: no lock is taken, nothing movable is touched, signals are blocked.
 *
 * Complexity: per segment one protect or stop (or watch, looks and halt); one remap for each run of destinations, one
 * copy for each run on either side; stalled, a look per 64 KiB. A block's destination is found in O(log blocks) where
 * those are scattered. The space's lock is held for at most MAX_SEGMENT pages at a time.
 */
#include "vm/internal.h"

#define MAX_SEGMENT (1u << BERTH_HUGE_ORDER)
#define WATCH_PAGES 128u /* watching less costs more than it saves a writer */
#define WATCH_RUN \
	16u /* and so does watching what is mapped in shorter runs than these, on average */
#define SHORT_RUN 8u      /* pages: copied with others, see copy_part() */
#define MAX_SCATTERED 64u /* copied in one call: 1 KiB of stack */
#define RUN_WEIGHT 4u /* a run of sources costs a segment's last moment as much as so many pages */
#define MANY_WRITTEN 32u
#define LEAST_GRAIN 64u
#define LONG_STALL_NS 70000u
#define SHORT_STALL_NS 25000u
#define TURN_NS 20000000u
#define MAX_COURTESY_NS 1000000u
#define COURTESY_STEP_NS 10000u
#define WAIT_STEP_NS 20000u
#define MAX_WAIT_NS 10000000000u

/* A stretch of pages that moves: blocks whose pages follow each other. Their frames may be scattered, before and
 * after. */
struct stretch {
	uint64_t page, nr_pages;
	const struct berth_move *moves; /* the blocks, in the order of their pages */
	unsigned nr_moves;
	bool gathered;   /* the destinations are one run */
	unsigned remaps; /* that it took so far */
};

static uint64_t pages_of(const struct berth_move *move)
{
	return 1ull << move->order;
}

/* Where page `at` of the stretch goes, and the end of the run of destinations that begins there; at most `to`. */
static uint64_t destination(const struct stretch *stretch, uint64_t at, uint64_t to,
			    berth_pfn_t *dst)
{
	const struct berth_move *moves = stretch->moves;
	unsigned low = 0, high = stretch->nr_moves;
	uint64_t page = stretch->page + at, end;

	if (stretch->gathered) {
		*dst = moves[0].dst + at;
		return to;
	}
	while (high - low > 1) {
		unsigned middle = (low + high) / 2;

		if (moves[middle].cookie <= page)
			low = middle;
		else
			high = middle;
	}
	*dst = moves[low].dst + (page - moves[low].cookie);
	end = moves[low].cookie + pages_of(&moves[low]);
	while (end < stretch->page + to && ++low < stretch->nr_moves &&
	       moves[low].dst == moves[low - 1].dst + pages_of(&moves[low - 1]))
		end += pages_of(&moves[low]);
	return end - stretch->page < to ? end - stretch->page : to;
}

/* Where a page is that is mapped to a frame. S. */
static berth_pfn_t frame_of(const struct berth_space *space, uint64_t page)
{
	return berth__entry_pfn(space, berth__entry(space, page));
}

/* Frames to be copied that don't follow each other. */
struct scattered {
	unsigned nr;
	berth_pfn_t dst[MAX_SCATTERED], src[MAX_SCATTERED];
};

static void copy_scattered(struct berth_space *space, struct scattered *frames)
{
	if (frames->nr)
		space->mmu->copy_scattered(space->mmu_ctx, frames->dst, frames->src, frames->nr);
	frames->nr = 0;
}

/* One copy for each long run of frames; short ones page by page, with others: some of them later, by
 * copy_scattered(). */
static void copy_part(struct berth_space *space, const struct stretch *stretch, uint64_t from,
		      uint64_t to, struct scattered *frames)
{
	const struct berth_mmu_ops *mmu = space->mmu;

	while (from < to) {
		uint64_t page = stretch->page + from;
		uint64_t end = berth__run_end(space, page, stretch->page + to) - stretch->page;
		berth_pfn_t src = frame_of(space, page), dst;

		end = destination(stretch, from, end, &dst);
		if (end - from >= SHORT_RUN || !mmu->copy_scattered) {
			mmu->copy(space->mmu_ctx, dst, src, end - from);
			from = end;
		}
		for (; from < end; from++) {
			frames->dst[frames->nr] = dst++;
			frames->src[frames->nr] = src++;
			if (++frames->nr == MAX_SCATTERED)
				copy_scattered(space, frames);
		}
	}
}

static void copy_stretch(struct berth_space *space, const struct stretch *stretch, uint64_t from,
			 uint64_t to)
{
	struct scattered frames;

	frames.nr = 0;
	copy_part(space, stretch, from, to, &frames);
	copy_scattered(space, &frames);
}

/* Maps the copies of pages [from, to) over them, and who waits goes on. Returns the page reached: `to`, or the
 * machine refused. */
static uint64_t remap_stretch(struct berth_space *space, struct stretch *stretch, uint64_t from,
			      uint64_t to)
{
	while (from < to) {
		berth_pfn_t dst;
		uint64_t end = destination(stretch, from, to, &dst);

		if (space->mmu->remap(space->mmu_ctx, stretch->page + from, dst, end - from) != 0)
			break;
		stretch->remaps++;
		from = end;
	}
	return from;
}

/*
 * A segment's last moment is over, in which somebody waited or not. Where it lasts long for them the next ones
 * are smaller. S.
 */
static void note_moment(struct berth_space *space, uint64_t since, bool waited)
{
	uint64_t stall = berth__space_now(space) - since;

	if (waited && stall > LONG_STALL_NS && space->grain > LEAST_GRAIN)
		space->grain /= 2;
	if ((!waited || stall < SHORT_STALL_NS) && space->grain < MAX_SEGMENT)
		space->grain *= 2;
	if (!waited)
		return;
	space->stalled_runs++;
	if (stall > space->longest_stall_ns)
		space->longest_stall_ns = stall;
}

/* Its word isn't that of those who wait for a page to be pushed: looking would take it from the pusher. */
static bool somebody_waits(struct berth_space *space)
{
	return !space->pushing && space->mmu->writer_waits(space->mmu_ctx);
}

/* Copies again those of pages [from, to) that were written. Returns how many. */
static uint64_t copy_written(struct berth_space *space, const struct stretch *stretch,
			     uint64_t from, uint64_t to, const uint64_t *written)
{
	uint64_t nr = to - from, count = 0;
	struct scattered frames;

	frames.nr = 0;
	for (uint64_t i = 0, end; i < nr; i = end) {
		end = i + 1;
		if (!(written[i / 64] >> i % 64 & 1))
			continue;
		while (end < nr && written[end / 64] >> end % 64 & 1)
			end++;
		copy_part(space, stretch, from + i, from + end, &frames);
		count += end - i;
	}
	copy_scattered(space, &frames);
	return count;
}

/* ---- Segments ----------------------------------------------------------------------------------- */

/*
 * The ways to move pages [from, to) of the stretch, or its first part. Each returns the page reached; `from`:
 * the machine refused, nothing changed. *waited: somebody had to, for the last moment at least.
 */

/*
 * What was written during the copy is copied before the last moment, as long as each time it's clearly less. Where
 * few write the looks would take longer than they save: so only if many pages of the last run were written.
 * Returns how many pages were.
 */
static uint64_t copy_more(struct berth_space *space, const struct stretch *stretch, uint64_t from,
			  uint64_t to)
{
	uint64_t written[MAX_SEGMENT / 64], nr = to - from, many = 0, before;

	do {
		before = nr;
		nr = space->mmu->look(space->mmu_ctx, stretch->page + from, to - from, written);
		many += copy_written(space, stretch, from, to, written);
	} while (nr > MANY_WRITTEN && nr <= before / 2);
	return many;
}

/* Everybody goes on while the segment is copied, but for the last moment. */
static uint64_t watch_and_move(struct berth_space *space, struct stretch *stretch, uint64_t from,
			       uint64_t to, bool *waited)
{
	const struct berth_mmu_ops *mmu = space->mmu;
	uint64_t page = stretch->page + from, since, done = from, many = 0;
	uint64_t written[MAX_SEGMENT / 64];

	if (!mmu->watch || mmu->watch(space->mmu_ctx, page, to - from) != 0)
		return from;
	copy_stretch(space, stretch, from, to);
	if (space->written_lately > MANY_WRITTEN)
		many = copy_more(space, stretch, from, to);
	mmu->begin(space->mmu_ctx);
	since = berth__space_now(space);
	if (mmu->halt(space->mmu_ctx, page, to - from, written) == 0) {
		many += copy_written(space, stretch, from, to, written);
		*waited = somebody_waits(space);
		done = remap_stretch(space, stretch, from, to);
	}
	if (done < to)
		mmu->unprotect(space->mmu_ctx, stretch->page + done, to - done);
	note_moment(space, since, *waited);
	mmu->end(space->mmu_ctx);
	space->written_lately = (uint32_t)many;
	return done;
}

/* Nobody touches the segment while it is copied. For what is mapped in many pieces. */
static uint64_t stop_and_move(struct berth_space *space, struct stretch *stretch, uint64_t from,
			      uint64_t to, bool *waited)
{
	const struct berth_mmu_ops *mmu = space->mmu;
	uint64_t page = stretch->page, since, done;

	if (!mmu->stop || space->pushing)
		return from;
	mmu->begin(space->mmu_ctx);
	since = berth__space_now(space);
	if (mmu->stop(space->mmu_ctx, page + from, to - from) != 0) {
		mmu->end(space->mmu_ctx);
		return from;
	}
	copy_stretch(space, stretch, from, to);
	*waited = somebody_waits(space);
	done = remap_stretch(space, stretch, from, to);
	if (done < to)
		mmu->unprotect(space->mmu_ctx, page + done, to - done);
	note_moment(space, since, *waited);
	mmu->end(space->mmu_ctx);
	return done;
}

/* Readers go on while the segment is copied; it ends with what is copied when a writer shows up. */
static uint64_t stall_and_move(struct berth_space *space, struct stretch *stretch, uint64_t from,
			       uint64_t to, bool *waited)
{
	const struct berth_mmu_ops *mmu = space->mmu;
	uint64_t page = stretch->page, copied = from, since, done;

	*waited = false;
	mmu->begin(space->mmu_ctx);
	since = berth__space_now(space);
	if (mmu->protect(space->mmu_ctx, page + from, to - from) != 0) {
		mmu->end(space->mmu_ctx);
		return from;
	}
	while (copied < to && !*waited) {
		uint64_t next = to - copied > BERTH_STEP_PAGES ? copied + BERTH_STEP_PAGES : to;

		copy_stretch(space, stretch, copied, next);
		copied = next;
		*waited = somebody_waits(space);
	}
	done = remap_stretch(space, stretch, from, copied);
	if (done < to)
		mmu->unprotect(space->mmu_ctx, page + done, to - done);
	note_moment(space, since, *waited);
	mmu->end(space->mmu_ctx);
	return done;
}

/* Brings pages [0, moved) of a stretch back to their old frames, so that it hasn't moved. */
static void move_back(struct berth_space *space, const struct stretch *stretch, uint64_t moved)
{
	const struct berth_mmu_ops *mmu = space->mmu;

	mmu->begin(space->mmu_ctx);
	if (mmu->protect(space->mmu_ctx, stretch->page, moved) != 0)
		berth__space_panic(space, "half a block moved, and the machine refuses to go back",
				   stretch->page, moved);
	for (uint64_t at = 0; at < moved;) {
		uint64_t page = stretch->page + at;
		uint64_t end = berth__run_end(space, page, stretch->page + moved) - stretch->page;
		berth_pfn_t old = frame_of(space, page), dst;

		end = destination(stretch, at, end, &dst);
		mmu->copy(space->mmu_ctx, old, dst, end - at);
		if (mmu->remap(space->mmu_ctx, page, old, end - at) != 0)
			berth__space_panic(space, "half a block moved, and can't go back", page,
					   old);
		at = end;
	}
	mmu->end(space->mmu_ctx);
}

/* The next segment from `at` on: at most `step` pages, in few enough runs on both sides; *runs: so many. */
static uint64_t segment_end(const struct berth_space *space, const struct stretch *stretch,
			    uint64_t at, uint64_t step, uint64_t *runs)
{
	uint64_t left = stretch->nr_pages - at, most = space->grain / RUN_WEIGHT;
	uint64_t to = at + (left < step ? left : step);
	berth_pfn_t dst;

	for (*runs = 0; at < to && *runs < most; ++*runs)
		at = destination(stretch, at,
				 berth__run_end(space, stretch->page + at, stretch->page + to) -
					 stretch->page,
				 &dst);
	return at;
}

static uint64_t move_segment(struct berth_space *space, struct stretch *stretch, uint64_t at,
			     uint64_t *step)
{
	uint64_t runs, to = segment_end(space, stretch, at, *step, &runs), nr = to - at;
	uint64_t reached = at;
	bool waited = false;

	if (nr >= WATCH_PAGES && nr >= runs * WATCH_RUN)
		reached = watch_and_move(space, stretch, at, to, &waited);
	else if (runs > 1)
		reached = stop_and_move(space, stretch, at, to, &waited);
	if (reached > at)
		return reached;
	reached = stall_and_move(space, stretch, at, to, &waited);
	*step = waited ? BERTH_STEP_PAGES : *step * 2;
	if (*step > MAX_SEGMENT)
		*step = MAX_SEGMENT;
	return reached;
}

/* The whole stretch, all or nothing. The table still names the old frames until it is done. */
static int move_stretch(struct berth_space *space, struct stretch *stretch)
{
	const struct berth_mmu_ops *mmu = space->mmu;
	uint64_t at = 0, end, step = MAX_SEGMENT;
	berth_pfn_t dst;

	while (at < stretch->nr_pages) {
		uint64_t reached = move_segment(space, stretch, at, &step);

		if (reached == at) {
			if (at)
				move_back(space, stretch, at);
			return -BERTH_EBUSY;
		}
		at = reached;
	}
	/* Pieces of a huge block: one mapping again, so that the next move finds it huge. The
	 * frames are the same, so nobody notices; and if it fails nothing is lost. */
	if (stretch->remaps > 1 && stretch->gathered && stretch->nr_pages >= MAX_SEGMENT)
		(void)!mmu->map(space->mmu_ctx, stretch->page, stretch->moves[0].dst,
				stretch->nr_pages);
	else if (mmu->populate)
		mmu->populate(space->mmu_ctx, stretch->page, stretch->nr_pages);
	for (at = 0; at < stretch->nr_pages; at = end) {
		end = destination(stretch, at, stretch->nr_pages, &dst);
		berth__set_entries_locked(space, stretch->page + at, end - at,
					  berth__pfn_entry(space, dst));
	}
	space->moved_pages += stretch->nr_pages;
	space->moved_runs++;
	return 0;
}

/* ---- Blocks and batches ------------------------------------------------------------------------- */

/* The table says that the block is where the core believes it is. S. */
static bool still_there(const struct berth_space *space, const struct berth_move *move)
{
	uint32_t entry;

	if (!berth__in_space(space, move->cookie, pages_of(move)))
		return false;
	entry = berth__entry(space, move->cookie);
	return berth__entry_is_frame(entry) && berth__entry_pfn(space, entry) == move->src &&
	       berth__run_end(space, move->cookie, move->cookie + pages_of(move)) ==
		       move->cookie + pages_of(move);
}

/* The first block and those that move with it: their pages follow each other, as far as one huge page reaches. */
static unsigned group_length(const struct berth_space *space, const struct berth_move *moves,
			     unsigned nr_moves)
{
	uint64_t end = moves[0].cookie + pages_of(&moves[0]);
	unsigned nr = 1;

	while (nr < nr_moves && moves[nr].cookie == end && (end + space->page_offset) % MAX_SEGMENT)
		end += pages_of(&moves[nr++]);
	return nr;
}

/* Fills in the rest of a stretch whose blocks follow each other. Returns how many runs it will be. */
static unsigned measure(struct stretch *stretch)
{
	const struct berth_move *moves = stretch->moves;
	unsigned runs = 1;

	stretch->page = moves[0].cookie;
	stretch->nr_pages = pages_of(&moves[0]);
	for (unsigned i = 1; i < stretch->nr_moves; i++) {
		runs += moves[i].dst != moves[i - 1].dst + pages_of(&moves[i - 1]);
		stretch->nr_pages += pages_of(&moves[i]);
	}
	stretch->gathered = runs == 1;
	return runs;
}

static void answer(struct berth_move *moves, unsigned nr, enum berth_move_result result,
		   const char *holder)
{
	for (unsigned i = 0; i < nr; i++) {
		moves[i].result = (uint8_t)result;
		moves[i].holder = holder;
	}
}

/* Freezes blocks until one is held by somebody. Returns how many. */
static unsigned freeze(struct berth_space *space, const struct berth_move *moves, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		if (!berth_page_freeze(space->zone, moves[i].src))
			return i;
	return nr;
}

static void unfreeze(struct berth_space *space, const struct berth_move *moves, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		berth_page_unfreeze(space->zone, moves[i].src);
}

/* ---- The gate ------------------------------------------------------------------------------------ */

void berth_space_set_gate(struct berth_space *space, const char *(*may_move)(void *ctx), void *ctx)
{
	space->may_move = may_move;
	space->may_move_ctx = ctx;
}

/*
 * NULL, and the caller may move memory until gate_leave(), which must follow in both cases; else who
 * forbids it. S.
 * The mover marks itself before it asks, and who shuts the gate looks for the mark afterwards: so
 * one of them sees the other (both are sequentially consistent).
 */
static const char *gate_enter(struct berth_space *space)
{
	atomic_fetch_add(&space->moves, 1);
	return space->may_move ? space->may_move(space->may_move_ctx) : NULL;
}

static void gate_leave(struct berth_space *space)
{
	atomic_fetch_add(&space->moves, 1);
}

void berth_space_wait_for_moves(struct berth_space *space)
{
	uint32_t seen = atomic_load(&space->moves);
	uint64_t waited_ns = 0;

	/* A mover that is found later asks the gate anew. In a process that was made by a raw clone
	 * there is nobody to end a move: so not for ever. */
	while (seen % 2 && atomic_load(&space->moves) == seen && waited_ns < MAX_WAIT_NS) {
		space->port->wait(space->port_ctx, WAIT_STEP_NS);
		waited_ns += WAIT_STEP_NS;
	}
}

/* ---- Groups --------------------------------------------------------------------------------------- */

/* Blocks that were frozen, as one stretch. S. */
static void move_frozen_locked(struct berth_space *space, struct stretch *stretch,
			       struct berth_move *moves, bool in_batch)
{
	unsigned nr = stretch->nr_moves;

	if (move_stretch(space, stretch) != 0) {
		unfreeze(space, moves, nr);
		answer(moves, nr, BERTH_MOVE_BUSY, "the system refused to remap it");
		return;
	}
	answer(moves, nr, BERTH_MOVE_MOVED, NULL);
	/* Under the lock: whoever finds the page next finds an ordinary block. */
	for (unsigned i = 0; i < nr && in_batch; i++)
		berth_move_arrived(space->zone, &moves[i]);
}

static const char too_many_mappings[] = "the limit of mappings (vm.max_map_count)";

/* NULL, or what the system lacks for moving the stretch to so many runs. S. */
static const char *lacking_locked(struct berth_space *space, const struct stretch *stretch,
				  unsigned runs)
{
	/* Each end can cost a mapping, and the write-protected part another for a moment. */
	if (space->mapping_budget && space->mappings + runs + 3 > space->mapping_budget)
		return too_many_mappings;
	for (uint64_t at = 0, end; at < stretch->nr_pages; at = end) {
		berth_pfn_t dst;

		end = destination(stretch, at, stretch->nr_pages, &dst);
		if (space->mmu->prepare(space->mmu_ctx, dst, end - at) != 0)
			return "the system has no memory to move it to";
	}
	return NULL;
}

/*
 * S. Moves consecutive blocks as one stretch, or as many of them as can move now. in_batch: the destinations are
 * the core's, arriving. Returns how many blocks have got their answer, at least one.
 */
static unsigned move_open_group_locked(struct berth_space *space, struct berth_move *moves,
				       unsigned nr, bool in_batch)
{
	struct stretch stretch = { .moves = moves };
	const char *lacks;

	while (stretch.nr_moves < nr && still_there(space, &moves[stretch.nr_moves]))
		stretch.nr_moves++;
	if (!stretch.nr_moves) {
		answer(moves, 1, BERTH_MOVE_GONE, NULL);
		return 1;
	}
	lacks = lacking_locked(space, &stretch, measure(&stretch));
	while (lacks && stretch.nr_moves > 1) { /* less needs less */
		stretch.nr_moves /= 2;
		lacks = lacking_locked(space, &stretch, measure(&stretch));
	}
	if (lacks) {
		space->skipped += lacks == too_many_mappings;
		answer(moves, 1, BERTH_MOVE_BUSY, lacks);
		return 1;
	}
	berth__push_before_locked(space, stretch.page, stretch.nr_pages);
	stretch.nr_moves = freeze(space, moves, stretch.nr_moves);
	if (!stretch.nr_moves) {
		answer(moves, 1, BERTH_MOVE_BUSY,
		       berth__pin_holder_locked(space, stretch.page, pages_of(&moves[0])));
		return 1;
	}
	(void)measure(&stretch);
	move_frozen_locked(space, &stretch, moves, in_batch);
	return stretch.nr_moves;
}

/* The same, if the gate is open. */
static unsigned move_group_locked(struct berth_space *space, struct berth_move *moves, unsigned nr,
				  bool in_batch)
{
	const char *holder = gate_enter(space);

	if (holder)
		answer(moves, nr, BERTH_MOVE_BUSY, holder);
	else
		nr = move_open_group_locked(space, moves, nr, in_batch);
	gate_leave(space);
	return nr;
}

/*
 * A lock that is free for a moment goes to whoever runs, and that is the mover: a thread that sleeps on
 * it would lose it again and again. So who waits goes first, if it comes within MAX_COURTESY_NS.
 */
static void let_others_in(struct berth_space *space, const _Atomic uint32_t *waiters)
{
	uint64_t until = 0;

	while (atomic_load_explicit(waiters, memory_order_relaxed)) {
		uint64_t now = berth__space_now(space);

		if (!until)
			until = now + MAX_COURTESY_NS;
		if (now >= until)
			return;
		space->port->wait(space->port_ctx, COURTESY_STEP_NS);
	}
}

/*
 * Two movers that take turns at each group are slower than one: each waits for the space's lock and is woken for
 * nothing, and changes of mappings interrupt a CPU on which the other one waits awake. So one has the turn for a
 * batch, or for TURN_NS if others want it: about as long as a batch of huge pages takes, since a hand-over costs some
 * 0.2 ms (a sleeping thread is woken, on a CPU that was idle). Returns when that began.
 */
static uint64_t begin_turn(struct berth_space *space)
{
	atomic_fetch_add_explicit(&space->next_movers, 1, memory_order_relaxed);
	berth_mutex_lock(&space->turn);
	atomic_fetch_sub_explicit(&space->next_movers, 1, memory_order_relaxed);
	return berth__space_now(space);
}

static uint64_t keep_turn(struct berth_space *space, uint64_t began)
{
	if (!atomic_load_explicit(&space->next_movers, memory_order_relaxed) ||
	    berth__space_now(space) - began < TURN_NS)
		return began;
	berth_mutex_unlock(&space->turn);
	let_others_in(space, &space->next_movers);
	return begin_turn(space);
}

/*
 * A CPU that sleeps takes some 30 us to wake, and each move that somebody waits for wakes one three times: to flush its
 * page tables, to free them, and for who waits. So CPUs are kept awake, for a batch that is worth asking for it, if
 * somebody waited for the last one, or from where somebody waits for this one. By who has the turn.
 */
static void keep_awake(struct berth_space *space, bool on)
{
	if (space->awake == on || !space->mmu->keep_awake)
		return;
	space->awake = on;
	space->mmu->keep_awake(space->mmu_ctx, on);
}

static bool is_large(const struct berth_move *moves, unsigned nr_moves)
{
	uint64_t pages = 0;

	for (unsigned i = 0; i < nr_moves && pages < WATCH_PAGES; i++)
		pages += pages_of(&moves[i]);
	return pages >= WATCH_PAGES;
}

static void space_migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct berth_space *space = ctx;
	uint64_t turn = begin_turn(space);
	const bool large = is_large(moves, nr_moves);
	bool waiters = space->others_wait, met = false;

	for (unsigned i = 0; i < nr_moves;) {
		unsigned nr = group_length(space, &moves[i], nr_moves - i);
		uint64_t stalled;

		/* Between groups others get at the space: a move must not stall an allocation. */
		let_others_in(space, &space->waiters);
		turn = keep_turn(space, turn);
		if (large)
			keep_awake(space, waiters || met);
		berth_mutex_lock(&space->lock);
		stalled = space->stalled_runs;
		if (space->detached)
			answer(&moves[i], nr, BERTH_MOVE_GONE, NULL);
		else
			nr = move_group_locked(space, &moves[i], nr, true);
		met |= space->stalled_runs != stalled;
		berth_mutex_unlock(&space->lock);
		i += nr;
	}
	if (large)
		space->others_wait = met;
	keep_awake(space, false);
	berth_mutex_unlock(&space->turn);
}

static const char *space_holder(void *ctx, berth_pfn_t pfn, uint64_t cookie)
{
	struct berth_space *space = ctx;
	const char *name;
	unsigned order;

	(void)berth_frame_state(space->zone, pfn, NULL, &order);
	berth__space_lock(space);
	name = berth__pin_holder_locked(space, cookie, 1ull << order);
	berth_mutex_unlock(&space->lock);
	return name;
}

static void space_neighbours(void *ctx, uint64_t cookie, berth_pfn_t *pfns, unsigned nr)
{
	const struct berth_space *space = ctx;

	for (unsigned i = 0; i < nr; i++) {
		pfns[i] = berth_space_lookup(space, cookie + i);
		if (pfns[i] == BERTH_PFN_PRIVATE)
			pfns[i] = BERTH_PFN_NONE;
	}
}

const struct berth_owner_ops berth__space_owner_ops = {
	.name = "movable memory",
	.migrate = space_migrate,
	.neighbours = space_neighbours,
	.holder = space_holder,
};

int berth__move_block_locked(struct berth_space *space, uint64_t page, berth_pfn_t src,
			     berth_pfn_t dst, unsigned order, const char **holder)
{
	struct berth_move move = { .src = src, .dst = dst, .cookie = page, .order = (uint8_t)order };

	(void)move_group_locked(space, &move, 1, false);
	*holder = move.holder;
	return move.result == BERTH_MOVE_MOVED ? 0 : -BERTH_EBUSY;
}
