/* SPDX-License-Identifier: MIT */
/*
 * fork, the pushing way: the parent goes on at once, and its memory's contents follow to the child.
 *
 * After prepare all mapped pages are write-protected. The child has put empty private memory in their
 * place, where whoever touches a page waits for it. From then on each page's contents go there once:
 * in the order of a sweep, or sooner because the child waits for them, or because the parent wants to
 * write, unmap or make the page private.
 *
 * I1  A page with its bit in `pending` holds the contents of the moment of the fork, and is protected
 *     (but for pinned ones: what a device writes has no moment).
 * I2  Pages without the bit are open for writers, and are not pushed again.
 * I3  A pending page's frame is the one it had at the fork: what moves is pushed before.
 *
 * Complexity: O(runs) for the fork itself; O(1) a page afterwards, of which a writer or the child waits
 * for at most SWEEP_PAGES of the sweep plus its own piece.
 */
#include "vm/internal.h"

#define SWEEP_PAGES 64u /* 256 KiB: what one step of the sweep pushes */
#define HUGE_PAGES (1u << BERTH_HUGE_ORDER)

static bool is_pending(const struct berth_space *space, uint64_t page)
{
	return space->pending[page / 64] >> (page % 64) & 1;
}

/* The first pending page at or after `page`; `end`: none. */
static uint64_t next_pending(const struct berth_space *space, uint64_t page, uint64_t end)
{
	while (page < end) {
		uint64_t word = space->pending[page / 64] >> (page % 64);

		if (word) {
			page += (uint64_t)__builtin_ctzll(word);
			return page < end ? page : end;
		}
		page = (page | 63) + 1;
	}
	return end;
}

static void set_pending(struct berth_space *space, uint64_t page, uint64_t end, bool on)
{
	while (page < end) {
		uint64_t first = page % 64, nr = end - page < 64 - first ? end - page : 64 - first;
		uint64_t mask = (nr == 64 ? UINT64_MAX : (1ull << nr) - 1) << first;

		if (on)
			space->pending[page / 64] |= mask;
		else
			space->pending[page / 64] &= ~mask;
		page += nr;
	}
}

/* Pushes the pending pages of [page, end) and opens them. */
static int push_locked(struct berth_space *space, uint64_t page, uint64_t end)
{
	while ((page = next_pending(space, page, end)) < end) {
		uint64_t run_end = berth__run_end(space, page, end), last = page + 1;
		int error;

		while (last < run_end && is_pending(space, last))
			last++;
		error = space->mmu->push(space->mmu_ctx, page,
					 berth__entry_pfn(space, berth__entry(space, page)),
					 last - page);
		if (error)
			return error;
		set_pending(space, page, last, false);
		space->mmu->open(space->mmu_ctx, page, last - page);
		page = last;
	}
	return 0;
}

void berth__push_before_locked(struct berth_space *space, uint64_t page, uint64_t nr_pages)
{
	int error;

	if (!space->pushing)
		return;
	error = push_locked(space, page, page + nr_pages);
	if (!error)
		return;
	space->push_error = error; /* for the next step: these contents are lost */
	set_pending(space, page, page + nr_pages, false);
}

/* ---- The fork itself -------------------------------------------------------------------------------- */

bool berth_space_can_push(const struct berth_space *space)
{
	if (space->detached || !space->pending || !space->protected_for_fork || !space->mmu->push)
		return false;
	/* The forking thread's own stack can't wait for anybody. */
	return space->own_page == UINT64_MAX ||
	       !berth__entry_is_frame(berth__entry(space, space->own_page));
}

static int receive_run(struct berth_space *space, uint64_t page, uint64_t nr_pages, berth_pfn_t pfn)
{
	(void)pfn;
	return space->mmu->receive(space->mmu_ctx, page, nr_pages);
}

int berth_space_fork_child_receives(struct berth_space *space)
{
	int error = berth__for_each_run(space, receive_run);

	if (error)
		return error;
	berth__detach_locked(space);
	berth_mutex_unlock(&space->lock);
	return 0;
}

static int pend_run(struct berth_space *space, uint64_t page, uint64_t nr_pages, berth_pfn_t pfn)
{
	(void)pfn;
	set_pending(space, page, page + nr_pages, true);
	return 0;
}

void berth_space_push_begin(struct berth_space *space)
{
	(void)!berth__for_each_run(space, pend_run);
	space->pushing = true;
	space->push_error = 0;
	space->push_page = 0;
	space->push_end = space->used_end;
	space->mmu->end(space->mmu_ctx);
	berth_mutex_unlock(&space->lock);
}

/* ---- Afterwards ----------------------------------------------------------------------------------- */

int berth_space_push(struct berth_space *space, uint64_t page, uint64_t nr_pages)
{
	int error = 0;

	if (!berth__in_space(space, page, nr_pages))
		return -BERTH_EINVAL;
	berth__space_lock(space);
	if (space->pushing)
		error = push_locked(space, page, page + nr_pages);
	berth_mutex_unlock(&space->lock);
	return error;
}

/* Protecting has torn huge mappings: a run that fills the huge page before `end` gets one again. */
static void mend_locked(struct berth_space *space, uint64_t end)
{
	uint64_t page = end - HUGE_PAGES;
	uint32_t entry = berth__entry(space, page);

	if (berth__entry_is_frame(entry) && berth__run_end(space, page, end) == end)
		(void)!space->mmu->map(space->mmu_ctx, page, berth__entry_pfn(space, entry),
				       HUGE_PAGES);
}

/* At most SWEEP_PAGES, and not beyond a huge page, which is mended then: nobody waits for long. */
static int sweep_locked(struct berth_space *space)
{
	uint64_t stop = (space->push_page | (HUGE_PAGES - 1)) + 1, page, end;
	int error = space->push_error;

	if (stop > space->push_end)
		stop = space->push_end;
	page = next_pending(space, space->push_page, stop);
	end = page < stop ? (page | (SWEEP_PAGES - 1)) + 1 : stop;
	if (end > stop)
		end = stop;
	if (!error && page < end)
		error = push_locked(space, page, end);
	if (error)
		return error;
	if (end % HUGE_PAGES == 0 && end > space->push_page)
		mend_locked(space, end);
	space->push_page = end;
	return end < space->push_end;
}

int berth_space_push_next(struct berth_space *space)
{
	int result = 0;

	berth__space_lock(space);
	if (space->pushing)
		result = sweep_locked(space);
	berth_mutex_unlock(&space->lock);
	return result;
}

static int open_run(struct berth_space *space, uint64_t page, uint64_t nr_pages, berth_pfn_t pfn)
{
	(void)pfn;
	space->mmu->unprotect(space->mmu_ctx, page, nr_pages);
	return 0;
}

void berth_space_push_end(struct berth_space *space)
{
	berth__space_lock(space);
	if (space->pushing) {
		set_pending(space, 0, space->push_end, false);
		(void)!berth__for_each_run(space, open_run);
		space->pushing = false;
	}
	berth_mutex_unlock(&space->lock);
}
