/* SPDX-License-Identifier: MIT */
/*
 * The simulator's mapping: pages, frames of one word each, and protection that makes writers wait.
 *
 * I1  A frame is mapped at one page at most.
 * I2  Between begin() and end(), and only there, something is protected; nothing slow happens there.
 * I3  Only frames that were prepared are copied to or zeroed.
 *
 * The fork that pushes isn't there: a space on this machine copies.
 */
#include <stdlib.h>
#include <string.h>

#include "port/sim/internal.h"

static void require(struct berth_sim *sim, bool cond, const char *what, uint64_t where)
{
	if (!cond)
		berth_sim_fail(sim, what, where, 0);
}

static bool is_frame(berth_pfn_t pfn)
{
	return pfn < BERTH_PFN_PRIVATE;
}

/* Index of a frame of which nr exist from there on. */
static uint64_t frame_index(struct berth_sim *sim, berth_pfn_t pfn, uint64_t nr)
{
	uint64_t index = pfn - sim->params.start_pfn;

	require(sim, index < sim->params.nr_frames && nr <= sim->params.nr_frames - index,
		"mmu: there is no such frame", pfn);
	return index;
}

static void check_pages(struct berth_sim *sim, uint64_t page, uint64_t nr)
{
	require(sim, nr && page < sim->params.nr_pages && nr <= sim->params.nr_pages - page,
		"mmu: there is no such page", page);
}

static void check_protection(struct berth_sim *sim, uint64_t page, uint64_t nr, bool protected)
{
	for (uint64_t at = page; at < page + nr; at++)
		require(sim, sim->pages[at].protected == protected,
			"mmu: a page's protection isn't as it should be", at);
}

static void set_page(struct berth_sim *sim, uint64_t page, berth_pfn_t pfn)
{
	struct sim_page *p = &sim->pages[page];

	if (is_frame(p->pfn) && sim->mapper[p->pfn - sim->params.start_pfn] == page + 1)
		sim->mapper[p->pfn - sim->params.start_pfn] = 0;
	p->pfn = pfn;
	if (is_frame(pfn)) {
		uint64_t *mapper = &sim->mapper[pfn - sim->params.start_pfn];

		require(sim, *mapper == 0, "mmu: a frame is mapped twice", pfn);
		*mapper = page + 1;
	}
}

static void open_page(struct berth_sim *sim, uint64_t page)
{
	sim->nr_protected -= sim->pages[page].protected;
	sim->pages[page].protected = sim->pages[page].watched = false;
	berth__sim_wake(sim, &sim->pages[page]);
}

static int sim_map(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr)
{
	struct berth_sim *sim = mmu;

	check_pages(sim, page, nr);
	check_protection(sim, page, nr, false);
	(void)frame_index(sim, pfn, nr);
	if (berth__sim_step(sim, BERTH_SIM_MAP, page, pfn, nr, true))
		return -BERTH_ENOMEM;
	for (uint64_t i = 0; i < nr; i++)
		set_page(sim, page + i, pfn + i);
	return 0;
}

static int sim_map_private(void *mmu, uint64_t page, uint64_t nr)
{
	struct berth_sim *sim = mmu;

	check_pages(sim, page, nr);
	if (berth__sim_step(sim, BERTH_SIM_MAP_PRIVATE, page, 0, nr, true))
		return -BERTH_ENOMEM;
	for (uint64_t at = page; at < page + nr; at++) {
		require(sim, sim->pages[at].pfn == BERTH_PFN_NONE,
			"mmu: private memory over a mapped page", at);
		set_page(sim, at, BERTH_PFN_PRIVATE);
		sim->pages[at].private_word = 0;
	}
	return 0;
}

/* Copies the frames' contents into private memory at their pages. */
static void to_private(struct berth_sim *sim, uint64_t page, berth_pfn_t pfn, uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++) {
		require(sim, sim->pages[page + i].pfn == pfn + i,
			"mmu: the page isn't mapped to that frame", page + i);
		sim->pages[page + i].private_word = *berth_sim_frame(sim, pfn + i);
		set_page(sim, page + i, BERTH_PFN_PRIVATE);
	}
}

static int sim_make_private(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr)
{
	struct berth_sim *sim = mmu;

	check_pages(sim, page, nr);
	check_protection(sim, page, nr, false);
	require(sim, !sim->begun, "mmu: slow work while writers are stalled", page);
	if (berth__sim_step(sim, BERTH_SIM_MAKE_PRIVATE, page, pfn, nr, true))
		return -BERTH_ENOMEM;
	to_private(sim, page, pfn, nr);
	return 0;
}

static int sim_copy_private(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr)
{
	struct berth_sim *sim = mmu;

	check_pages(sim, page, nr);
	sim->in_child = true;
	if (berth__sim_step(sim, BERTH_SIM_COPY_PRIVATE, page, pfn, nr, true))
		return -BERTH_ENOMEM;
	to_private(sim, page, pfn, nr);
	for (uint64_t at = page; at < page + nr; at++)
		open_page(sim, at);
	return 0;
}

static int sim_unmap(void *mmu, uint64_t page, uint64_t nr)
{
	struct berth_sim *sim = mmu;

	check_pages(sim, page, nr);
	check_protection(sim, page, nr, false);
	if (berth__sim_step(sim, BERTH_SIM_UNMAP, page, 0, nr, true))
		return -BERTH_ENOMEM;
	for (uint64_t at = page; at < page + nr; at++)
		set_page(sim, at, BERTH_PFN_NONE);
	return 0;
}

SIM_INLINE int protect_by(struct berth_sim *sim, enum berth_sim_op op, uint64_t page, uint64_t nr)
{
	check_pages(sim, page, nr);
	check_protection(sim, page, nr, false);
	require(sim, sim->begun, "mmu: protect() or stop() outside begin() and end()", page);
	if (berth__sim_step(sim, op, page, 0, nr, true))
		return -BERTH_ENOMEM;
	for (uint64_t at = page; at < page + nr; at++) {
		require(sim, is_frame(sim->pages[at].pfn), "mmu: no frame to protect", at);
		sim->pages[at].protected = true;
	}
	sim->nr_protected += nr;
	return 0;
}

static int sim_protect(void *mmu, uint64_t page, uint64_t nr)
{
	return protect_by(mmu, BERTH_SIM_PROTECT, page, nr);
}

/* As with halt(): readers go on. */
static int sim_stop(void *mmu, uint64_t page, uint64_t nr)
{
	return protect_by(mmu, BERTH_SIM_STOP, page, nr);
}

static int sim_watch(void *mmu, uint64_t page, uint64_t nr)
{
	struct berth_sim *sim = mmu;

	check_pages(sim, page, nr);
	check_protection(sim, page, nr, false);
	require(sim, !sim->begun, "mmu: watch() between begin() and end()", page);
	if (berth__sim_step(sim, BERTH_SIM_WATCH, page, 0, nr, true))
		return -BERTH_ENOSYS;
	for (uint64_t at = page; at < page + nr; at++) {
		require(sim, is_frame(sim->pages[at].pfn), "mmu: no frame to watch", at);
		sim->pages[at].watched = true;
		sim->pages[at].written = false;
	}
	return 0;
}

static uint64_t sim_look(void *mmu, uint64_t page, uint64_t nr, uint64_t *written)
{
	struct berth_sim *sim = mmu;
	uint64_t count = 0;

	check_pages(sim, page, nr);
	require(sim, !sim->begun, "mmu: look() between begin() and end()", page);
	(void)berth__sim_step(sim, BERTH_SIM_LOOK, page, 0, nr, false);
	memset(written, 0, (nr + 63) / 64 * sizeof(*written));
	for (uint64_t i = 0; i < nr; i++) {
		struct sim_page *p = &sim->pages[page + i];

		require(sim, p->watched && !p->protected, "mmu: look() without watch()", page + i);
		written[i / 64] |= (uint64_t)p->written << i % 64;
		count += p->written;
		p->written = false;
	}
	return count;
}

/* Unlike a real machine's, its readers go on: that can only show more. */
static int sim_halt(void *mmu, uint64_t page, uint64_t nr, uint64_t *written)
{
	struct berth_sim *sim = mmu;

	check_pages(sim, page, nr);
	require(sim, sim->begun, "mmu: halt() outside begin() and end()", page);
	if (berth__sim_step(sim, BERTH_SIM_HALT, page, 0, nr, true))
		return -BERTH_ENOMEM;
	memset(written, 0, (nr + 63) / 64 * sizeof(*written));
	for (uint64_t i = 0; i < nr; i++) {
		struct sim_page *p = &sim->pages[page + i];

		require(sim, p->watched && !p->protected, "mmu: halt() without watch()", page + i);
		p->protected = true;
		written[i / 64] |= (uint64_t)p->written << i % 64;
	}
	sim->nr_protected += nr;
	return 0;
}

static void sim_unprotect(void *mmu, uint64_t page, uint64_t nr)
{
	struct berth_sim *sim = mmu;

	check_pages(sim, page, nr);
	require(sim, sim->begun, "mmu: unprotect() outside begin() and end()", page);
	(void)berth__sim_step(sim, BERTH_SIM_UNPROTECT, page, 0, nr, false);
	for (uint64_t at = page; at < page + nr; at++)
		open_page(sim, at);
}

static int sim_remap(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr)
{
	struct berth_sim *sim = mmu;

	check_pages(sim, page, nr);
	check_protection(sim, page, nr, true);
	require(sim, sim->begun, "mmu: remap() outside begin() and end()", page);
	(void)frame_index(sim, pfn, nr);
	if (berth__sim_step(sim, BERTH_SIM_REMAP, page, pfn, nr, true))
		return -BERTH_ENOMEM;
	for (uint64_t i = 0; i < nr; i++) {
		set_page(sim, page + i, pfn + i);
		open_page(sim, page + i);
	}
	return 0;
}

static void sim_populate(void *mmu, uint64_t page, uint64_t nr)
{
	struct berth_sim *sim = mmu;

	check_pages(sim, page, nr);
	require(sim, !sim->begun, "mmu: slow work while writers are stalled", page);
	(void)berth__sim_step(sim, BERTH_SIM_POPULATE, page, 0, nr, false);
}

static bool sim_writer_waits(void *mmu)
{
	struct berth_sim *sim = mmu;
	bool late = berth__sim_step(sim, BERTH_SIM_WRITER_WAITS, 0, 0, 0, true);
	bool waits = sim->waits || late; /* its failure is a false alarm */

	sim->waits = false;
	return waits;
}

static int sim_prepare(void *mmu, berth_pfn_t pfn, uint64_t nr)
{
	struct berth_sim *sim = mmu;
	uint64_t index = frame_index(sim, pfn, nr);

	require(sim, !sim->begun, "mmu: slow work while writers are stalled", pfn);
	if (berth__sim_step(sim, BERTH_SIM_PREPARE, pfn, 0, nr, true))
		return -BERTH_ENOMEM;
	memset(&sim->prepared[index], 1, nr);
	return 0;
}

static void copy_frame(struct berth_sim *sim, uint64_t to, uint64_t from)
{
	require(sim, sim->prepared[to], "mmu: a copy to what isn't prepared", to);
	sim->frames[to] = sim->frames[from];
	berth_sim_yield(sim); /* copying takes its time */
}

static void sim_copy(void *mmu, berth_pfn_t dst, berth_pfn_t src, uint64_t nr)
{
	struct berth_sim *sim = mmu;
	uint64_t to = frame_index(sim, dst, nr), from = frame_index(sim, src, nr);

	(void)berth__sim_step(sim, BERTH_SIM_COPY, dst, src, nr, false);
	for (uint64_t i = 0; i < nr; i++)
		copy_frame(sim, to + i, from + i);
}

static void sim_copy_scattered(void *mmu, const berth_pfn_t *dst, const berth_pfn_t *src,
			       unsigned nr)
{
	struct berth_sim *sim = mmu;

	require(sim, nr > 0, "mmu: nothing to copy", nr);
	(void)berth__sim_step(sim, BERTH_SIM_COPY_SCATTERED, dst[0], src[0], nr, false);
	for (unsigned i = 0; i < nr; i++)
		copy_frame(sim, frame_index(sim, dst[i], 1), frame_index(sim, src[i], 1));
}

static void sim_zero(void *mmu, berth_pfn_t pfn, uint64_t nr)
{
	struct berth_sim *sim = mmu;
	uint64_t index = frame_index(sim, pfn, nr);

	(void)berth__sim_step(sim, BERTH_SIM_ZERO, pfn, 0, nr, false);
	for (uint64_t i = 0; i < nr; i++) {
		require(sim, sim->prepared[index + i] && !sim->mapper[index + i],
			"mmu: zeroing what isn't prepared, or is mapped", pfn + i);
		sim->frames[index + i] = 0;
	}
}

static void sim_forget_protection(void *mmu)
{
	struct berth_sim *sim = mmu;

	(void)berth__sim_step(sim, BERTH_SIM_FORGET_PROTECTION, 0, 0, 0, false);
	for (uint64_t page = 0; page < sim->params.nr_pages; page++)
		open_page(sim, page);
	sim->awake = false; /* that was the parent's */
}

static void sim_keep_awake(void *mmu, bool on)
{
	struct berth_sim *sim = mmu;

	require(sim, !sim->begun, "mmu: slow work while writers are stalled", on);
	require(sim, sim->awake != on, "mmu: keep_awake() on or off twice", on);
	sim->awake = on;
	(void)berth__sim_step(sim, BERTH_SIM_KEEP_AWAKE, on, 0, 0, false);
}

static void sim_begin(void *mmu)
{
	struct berth_sim *sim = mmu;

	(void)berth__sim_step(sim, BERTH_SIM_BEGIN, 0, 0, 0, false);
	require(sim, !sim->begun, "mmu: begin() twice", 0);
	sim->begun = true;
}

static void sim_end(void *mmu)
{
	struct berth_sim *sim = mmu;

	require(sim, sim->begun && !sim->nr_protected, "mmu: end() with pages protected",
		sim->nr_protected);
	sim->begun = false;
	(void)berth__sim_step(sim, BERTH_SIM_END, 0, 0, 0, false);
}

const struct berth_mmu_ops berth_sim_mmu_ops = {
	.map = sim_map,
	.map_private = sim_map_private,
	.make_private = sim_make_private,
	.unmap = sim_unmap,
	.protect = sim_protect,
	.stop = sim_stop,
	.watch = sim_watch,
	.look = sim_look,
	.halt = sim_halt,
	.unprotect = sim_unprotect,
	.remap = sim_remap,
	.populate = sim_populate,
	.writer_waits = sim_writer_waits,
	.prepare = sim_prepare,
	.copy = sim_copy,
	.copy_scattered = sim_copy_scattered,
	.zero = sim_zero,
	.copy_private = sim_copy_private,
	.forget_protection = sim_forget_protection,
	.keep_awake = sim_keep_awake,
	.begin = sim_begin,
	.end = sim_end,
};

/* ---- Accesses of tasks --------------------------------------------------------------------------- */

uint64_t *berth_sim_frame(struct berth_sim *sim, berth_pfn_t pfn)
{
	return &sim->frames[frame_index(sim, pfn, 1)];
}

static uint64_t *page_word(struct berth_sim *sim, uint64_t page)
{
	struct sim_page *p = &sim->pages[page];

	require(sim, p->pfn != BERTH_PFN_NONE, "a task touched a page that isn't mapped", page);
	return is_frame(p->pfn) ? berth_sim_frame(sim, p->pfn) : &p->private_word;
}

uint64_t berth_sim_read(struct berth_sim *sim, uint64_t page)
{
	check_pages(sim, page, 1);
	berth_sim_yield(sim);
	return *page_word(sim, page);
}

void berth_sim_write(struct berth_sim *sim, uint64_t page, uint64_t value)
{
	check_pages(sim, page, 1);
	berth_sim_yield(sim);
	while (sim->pages[page].protected) {
		sim->waits = true;
		berth__sim_block(sim, &sim->pages[page]);
	}
	sim->pages[page].written = true;
	*page_word(sim, page) = value;
}

berth_pfn_t berth_sim_mapped(const struct berth_sim *sim, uint64_t page)
{
	return sim->pages[page].pfn;
}

/* ---- Setting up ---------------------------------------------------------------------------------- */

static void *zeroes(uint64_t nr, size_t bytes)
{
	void *memory = calloc(nr, bytes);

	if (!memory)
		abort();
	return memory;
}

void berth__sim_mmu_reset(struct berth_sim *sim)
{
	uint64_t nr_frames = sim->params.nr_frames;

	sim->nr_protected = 0;
	sim->begun = sim->waits = sim->in_child = sim->awake = false;
	if (!nr_frames)
		return;
	if (!sim->frames) {
		sim->frames = zeroes(nr_frames, sizeof(*sim->frames));
		sim->mapper = zeroes(nr_frames, sizeof(*sim->mapper));
		sim->prepared = zeroes(nr_frames, sizeof(*sim->prepared));
		sim->pages = zeroes(sim->params.nr_pages + 1, sizeof(*sim->pages));
	}
	memset(sim->frames, 0xa5, nr_frames * sizeof(*sim->frames)); /* none is clean by chance */
	memset(sim->mapper, 0, nr_frames * sizeof(*sim->mapper));
	memset(sim->prepared, 0, nr_frames * sizeof(*sim->prepared));
	for (uint64_t page = 0; page < sim->params.nr_pages; page++)
		sim->pages[page] = (struct sim_page){ .pfn = BERTH_PFN_NONE };
}

void berth__sim_mmu_free(struct berth_sim *sim)
{
	free(sim->frames);
	free(sim->mapper);
	free(sim->prepared);
	free(sim->pages);
}
