/* SPDX-License-Identifier: MIT */
/*
 * Moving mapped memory under running threads: the space's answer to the core's "move these there".
 *
 * Small segments, and all of them where the machine can't watch (stall_and_move()):
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
 *	freeze the blocks -> watch -> copy while all go on -> halt: nobody reads or writes any more -> copy again
 *	what was written meanwhile -> map the copy over it, wake
 *
 * So a segment of 2 MiB stays in one piece, which costs a tenth of its pieces where somebody writes, and who
 * touches it at the end waits for two changes of its mapping and for what was written in the time of one copy.
 *
 * I1  At every moment each page is mapped to exactly one frame, and it holds the page's contents.
 * I2  A block has moved wholly or not at all when the batch returns.
 * I3  Nothing is moved while the gate is shut.
 * I4  Between protect or halt and wake: no lock is taken, nothing movable is touched, signals are blocked.
 *
 * Complexity: per segment one protect (or watch and halt) and one remap; per 64 KiB one copy and one look. The space's
 * lock is held for at most MAX_SEGMENT pages at a time.
 */
#include "vm/internal.h"

#define MAX_SEGMENT (1u << BERTH_HUGE_ORDER)
#define WATCH_PAGES 128u /* watching less costs more than it saves a writer */
#define MAX_COURTESY_NS 1000000u
#define COURTESY_STEP_NS 10000u
#define WAIT_STEP_NS 20000u
#define MAX_WAIT_NS 10000000000u

/* A stretch of pages that moves to consecutive frames. Its sources may be scattered. */
struct stretch {
	uint64_t page, nr_pages;
	berth_pfn_t dst;
};

static void copy_stretch(struct berth_space *space, const struct stretch *stretch, uint64_t from,
			 uint64_t to)
{
	while (from < to) { /* one copy for each run of source frames */
		uint64_t page = stretch->page + from;
		uint64_t end = berth__run_end(space, page, stretch->page + to);

		space->mmu->copy(space->mmu_ctx, stretch->dst + from,
				 berth__entry_pfn(space, berth__entry(space, page)), end - page);
		from = end - stretch->page;
	}
}

static void note_stall(struct berth_space *space, uint64_t since)
{
	uint64_t stall = berth__space_now(space) - since;

	space->stalled_runs++;
	if (stall > space->longest_stall_ns)
		space->longest_stall_ns = stall;
}

/* Copies again those of pages [from, to) that were written. */
static void copy_written(struct berth_space *space, const struct stretch *stretch, uint64_t from,
			 uint64_t to, const uint64_t *written)
{
	uint64_t nr = to - from;

	for (uint64_t i = 0, end; i < nr; i = end) {
		end = i + 1;
		if (!(written[i / 64] >> i % 64 & 1))
			continue;
		while (end < nr && written[end / 64] >> end % 64 & 1)
			end++;
		copy_stretch(space, stretch, from + i, from + end);
	}
}

/* Moves pages [from, to) of the stretch. False: the machine refused, nothing changed. *waited: somebody had to. */
static bool watch_and_move(struct berth_space *space, const struct stretch *stretch, uint64_t from,
			   uint64_t to, bool *waited)
{
	const struct berth_mmu_ops *mmu = space->mmu;
	uint64_t page = stretch->page + from, nr = to - from, since;
	uint64_t written[MAX_SEGMENT / 64];
	bool done;

	if (!mmu->watch || nr < WATCH_PAGES || mmu->watch(space->mmu_ctx, page, nr) != 0)
		return false;
	copy_stretch(space, stretch, from, to);
	mmu->begin(space->mmu_ctx);
	since = berth__space_now(space);
	done = mmu->halt(space->mmu_ctx, page, nr, written) == 0;
	if (done) {
		copy_written(space, stretch, from, to, written);
		/* Its word isn't that of those who wait for a page to be pushed: no such page is watched. */
		*waited = !space->pushing && mmu->writer_waits(space->mmu_ctx);
		done = mmu->remap(space->mmu_ctx, page, stretch->dst + from, nr) == 0;
	}
	if (!done)
		mmu->unprotect(space->mmu_ctx, page, nr);
	else if (*waited)
		note_stall(space, since);
	mmu->end(space->mmu_ctx);
	return done;
}

/*
 * Moves pages [from, to) of the stretch, or as many as are copied when a writer shows up. Returns
 * the page reached (from: the machine refused, nothing changed). *waited: a writer had to.
 */
static uint64_t stall_and_move(struct berth_space *space, const struct stretch *stretch,
			       uint64_t from, uint64_t to, bool *waited)
{
	const struct berth_mmu_ops *mmu = space->mmu;
	uint64_t page = stretch->page, done = from, since;

	*waited = false;
	mmu->begin(space->mmu_ctx);
	since = berth__space_now(space);
	if (mmu->protect(space->mmu_ctx, page + from, to - from) != 0) {
		mmu->end(space->mmu_ctx);
		return from;
	}
	while (done < to && !*waited) {
		uint64_t next = to - done > BERTH_STEP_PAGES ? done + BERTH_STEP_PAGES : to;

		copy_stretch(space, stretch, done, next);
		done = next;
		/* Looking takes the word of those who wait for a page to be pushed, too. */
		*waited = !space->pushing && mmu->writer_waits(space->mmu_ctx);
	}
	if (mmu->remap(space->mmu_ctx, page + from, stretch->dst + from, done - from) != 0) {
		mmu->unprotect(space->mmu_ctx, page + from, to - from);
		mmu->end(space->mmu_ctx);
		return from;
	}
	if (done < to)
		mmu->unprotect(space->mmu_ctx, page + done, to - done);
	if (*waited)
		note_stall(space, since);
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
		uint64_t end = berth__run_end(space, page, stretch->page + moved);
		berth_pfn_t old = berth__entry_pfn(space, berth__entry(space, page));

		mmu->copy(space->mmu_ctx, old, stretch->dst + at, end - page);
		if (mmu->remap(space->mmu_ctx, page, old, end - page) != 0)
			berth__space_panic(space, "half a block moved, and can't go back", page,
					   old);
		at = end - stretch->page;
	}
	mmu->end(space->mmu_ctx);
}

/* The whole stretch, all or nothing. The table still names the old frames until it is done. */
static int move_stretch(struct berth_space *space, const struct stretch *stretch)
{
	uint64_t at = 0, step = MAX_SEGMENT;
	bool stepped = false, waited;

	while (at < stretch->nr_pages) {
		uint64_t left = stretch->nr_pages - at;
		uint64_t to = at + (left < step ? left : step), reached;

		waited = false;
		if (watch_and_move(space, stretch, at, to, &waited)) {
			at = to;
			continue;
		}
		reached = stall_and_move(space, stretch, at, to, &waited);
		if (reached == at) {
			if (at)
				move_back(space, stretch, at);
			return -BERTH_EBUSY;
		}
		at = reached;
		stepped |= waited && at < stretch->nr_pages;
		step = waited ? BERTH_STEP_PAGES : step * 2;
		if (step > MAX_SEGMENT)
			step = MAX_SEGMENT;
	}
	/* Pieces of a huge block: one mapping again, so that the next move finds it huge. The
	 * frames are the same, so nobody notices; and if it fails nothing is lost. */
	if (stepped && stretch->nr_pages >= MAX_SEGMENT)
		(void)!space->mmu->map(space->mmu_ctx, stretch->page, stretch->dst,
				       stretch->nr_pages);
	berth__set_entries_locked(space, stretch->page, stretch->nr_pages,
				  berth__pfn_entry(space, stretch->dst));
	space->moved_pages += stretch->nr_pages;
	space->moved_runs++;
	return 0;
}

/* ---- Blocks and batches ------------------------------------------------------------------------- */

static uint64_t pages_of(const struct berth_move *move)
{
	return 1ull << move->order;
}

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

/* The blocks after the first that move with it: pages and destinations follow each other. */
static unsigned group_length(const struct berth_move *moves, unsigned nr_moves)
{
	uint64_t pages = pages_of(&moves[0]);
	unsigned nr = 1;

	while (nr < nr_moves && moves[nr].cookie == moves[0].cookie + pages &&
	       moves[nr].dst == moves[0].dst + pages && pages + pages_of(&moves[nr]) <= MAX_SEGMENT)
		pages += pages_of(&moves[nr++]);
	return nr;
}

static void answer(struct berth_move *moves, unsigned nr, enum berth_move_result result,
		   const char *holder)
{
	for (unsigned i = 0; i < nr; i++) {
		moves[i].result = (uint8_t)result;
		moves[i].holder = holder;
	}
}

/* Freezes all blocks or none. */
static bool freeze_all(struct berth_space *space, const struct berth_move *moves, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		if (berth_page_freeze(space->zone, moves[i].src))
			continue;
		while (i-- > 0)
			berth_page_unfreeze(space->zone, moves[i].src);
		return false;
	}
	return true;
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

/*
 * S. Moves consecutive blocks as one stretch. in_batch: the destinations are the core's, arriving. False:
 * somebody holds one of several blocks; try them one by one.
 */
static bool move_open_group_locked(struct berth_space *space, struct berth_move *moves, unsigned nr,
				   bool in_batch)
{
	struct stretch stretch = { .page = moves[0].cookie, .dst = moves[0].dst };
	int error;

	for (unsigned i = 0; i < nr; i++) {
		if (!still_there(space, &moves[i])) {
			answer(moves, nr, BERTH_MOVE_GONE, NULL);
			return true;
		}
		stretch.nr_pages += pages_of(&moves[i]);
	}
	/* Each end can cost a mapping, and the write-protected part another for a moment. */
	if (space->mapping_budget && space->mappings + 4 > space->mapping_budget) {
		space->skipped++;
		answer(moves, nr, BERTH_MOVE_BUSY, "the limit of mappings (vm.max_map_count)");
		return true;
	}
	if (space->mmu->prepare(space->mmu_ctx, stretch.dst, stretch.nr_pages) != 0) {
		answer(moves, nr, BERTH_MOVE_BUSY, "the system has no memory to move it to");
		return true;
	}
	berth__push_before_locked(space, stretch.page, stretch.nr_pages);
	if (!freeze_all(space, moves, nr)) {
		if (nr > 1)
			return false;
		answer(moves, 1, BERTH_MOVE_BUSY,
		       berth__pin_holder_locked(space, stretch.page, stretch.nr_pages));
		return true;
	}
	error = move_stretch(space, &stretch);
	if (error == 0) {
		answer(moves, nr, BERTH_MOVE_MOVED, NULL);
		/* Under the lock: whoever finds the page next finds an ordinary block. */
		for (unsigned i = 0; i < nr && in_batch; i++)
			berth_move_arrived(space->zone, &moves[i]);
		return true;
	}
	for (unsigned i = 0; i < nr; i++)
		berth_page_unfreeze(space->zone, moves[i].src);
	answer(moves, nr, BERTH_MOVE_BUSY, "the system refused to remap it");
	return true;
}

/* The same, if the gate is open. */
static bool move_group_locked(struct berth_space *space, struct berth_move *moves, unsigned nr,
			      bool in_batch)
{
	const char *holder = gate_enter(space);
	bool done = true;

	if (holder)
		answer(moves, nr, BERTH_MOVE_BUSY, holder);
	else
		done = move_open_group_locked(space, moves, nr, in_batch);
	gate_leave(space);
	return done;
}

/*
 * A lock that is free for a moment goes to whoever runs, and that is the mover: a thread that sleeps on
 * it would lose it again and again. So who waits goes first, if it comes within MAX_COURTESY_NS.
 */
static void let_others_in(struct berth_space *space)
{
	uint64_t until = 0;

	while (atomic_load_explicit(&space->waiters, memory_order_relaxed)) {
		uint64_t now = berth__space_now(space);

		if (!until)
			until = now + MAX_COURTESY_NS;
		if (now >= until)
			return;
		space->port->wait(space->port_ctx, COURTESY_STEP_NS);
	}
}

static void space_migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct berth_space *space = ctx;

	for (unsigned i = 0; i < nr_moves;) {
		unsigned nr = group_length(&moves[i], nr_moves - i);

		/* Between groups others get at the space: a move must not stall an allocation. */
		let_others_in(space);
		berth_mutex_lock(&space->lock);
		if (space->detached)
			answer(&moves[i], nr, BERTH_MOVE_GONE, NULL);
		else if (!move_group_locked(space, &moves[i], nr, true))
			for (unsigned j = i; j < i + nr; j++)
				(void)move_group_locked(space, &moves[j], 1, true);
		berth_mutex_unlock(&space->lock);
		i += nr;
	}
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

const struct berth_owner_ops berth__space_owner_ops = {
	.name = "movable memory",
	.migrate = space_migrate,
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
