/* SPDX-License-Identifier: MIT */
/*
 * A space over a fake machine: an array that says which frame is at which page, one word of contents
 * a frame, protection, and threads that write at any moment.
 *
 * Every operation is counted, can be made to fail at its n-th call, and calls the test's hook first,
 * as if other threads ran just then. A write to a protected page waits until the page is opened or
 * moved, and lands where the page is then. The machine verifies what vm.h promises it: no operation
 * on protected pages outside begin() .. end(), frames prepared before they are written, nothing
 * copied over a mapped frame.
 */
#ifndef BERTH_TESTSPACE_H
#define BERTH_TESTSPACE_H

#include <berth/vm.h>

#include "testzone.h"

enum rig_op {
	RIG_MAP,
	RIG_MAP_PRIVATE,
	RIG_UNMAP,
	RIG_PROTECT,
	RIG_STOP,
	RIG_WATCH,
	RIG_HALT,
	RIG_REMAP,
	RIG_PREPARE,
	RIG_COPY_PRIVATE,
	RIG_MAKE_PRIVATE,
	RIG_NR_FAILING, /* the operations above can fail */
	RIG_UNPROTECT = RIG_NR_FAILING,
	RIG_LOOK,
	RIG_WRITER_WAITS,
	RIG_COPY,
	RIG_COPY_SCATTERED,
	RIG_ZERO,
	RIG_KEEP_AWAKE,
	RIG_BEGIN,
	RIG_END,
	RIG_NR_OPS
};

static const char *const rig_op_names[] __attribute__((unused)) = {
	"map",   "map_private",  "unmap",   "protect",        "stop",         "watch",
	"halt",  "remap",        "prepare", "copy_private",   "make_private", "unprotect",
	"look",  "writer_waits", "copy",    "copy_scattered", "zero",         "keep_awake",
	"begin", "end",
};

struct rig_page {
	berth_pfn_t pfn; /* where the machine has it: a frame, BERTH_PFN_NONE or _PRIVATE */
	uint32_t private_content;
	uint32_t expected; /* what it must read; when a writer waits: what it will write */
	bool protected;    /* or halted */
	bool watched, written;
	bool pending; /* a writer waits here */
};

#define RIG_START_PFN 0x4000u
#define RIG_FRAMES 2048u
#define RIG_MAX_REMAPS 256u

struct rig {
	struct test_zone *tz;
	struct berth_cma *area; /* the first half of the zone, lent first */
	struct berth_space *space;
	struct berth_space_params params;
	void *memory;
	struct rig_page *pages;
	uint64_t *mapper; /* by frame: the page that maps it, + 1 */
	bool *prepared;   /* by frame */
	uint64_t nr_protected, nr_watched, nr_pending;
	bool leaving; /* the space forgets its zone, without a fork */
	bool begun, waits, in_child, awake;
	uint64_t nr_scattered; /* frames that copy_scattered() got */
	bool can_watch, can_stop;
	uint32_t next_value;
	uint64_t calls[RIG_NR_OPS];
	/* The next failure: the fail_call-th call of fail_op from now. */
	int fail_op;
	uint64_t fail_call;
	uint64_t nr_failed;
	/* Called before each operation takes effect; calls[op] counts it already. */
	void (*on_op)(struct rig *rig, enum rig_op op);
	uint64_t script[4], seed; /* the hook's */
	uint64_t nr_others;       /* frames in use that aren't the space's */
	/* Lengths of the remaps since rig_forget_calls(). */
	uint64_t remaps[RIG_MAX_REMAPS], nr_remaps;
};

static inline bool rig_is_frame(berth_pfn_t pfn)
{
	return pfn < BERTH_PFN_PRIVATE;
}

static inline uint32_t *rig_word(struct rig *rig, uint64_t page)
{
	struct rig_page *p = &rig->pages[page];

	return rig_is_frame(p->pfn) ? &test_frame(rig->tz, p->pfn)->content : &p->private_content;
}

/* A thread writes to a page, now or as soon as the page lets it. */
static inline void rig_write(struct rig *rig, uint64_t page)
{
	struct rig_page *p = &rig->pages[page];

	if (p->pfn == BERTH_PFN_NONE)
		return;
	if (!p->protected) {
		p->expected = ++rig->next_value;
		*rig_word(rig, page) = p->expected;
		p->written = true;
	} else if (!p->pending) {
		p->expected = ++rig->next_value;
		p->pending = true;
		rig->nr_pending++;
		rig->waits = true;
	}
}

/* ---- The machine ------------------------------------------------------------------------------ */

/* Counts a call, lets the others run, and says whether this call is to fail. */
static inline bool rig_call(struct rig *rig, enum rig_op op)
{
	rig->calls[op]++;
	if (rig->on_op)
		rig->on_op(rig, op);
	if ((int)op != rig->fail_op || --rig->fail_call)
		return false;
	rig->fail_op = -1;
	rig->nr_failed++;
	return true;
}

static inline void rig_set(struct rig *rig, uint64_t page, berth_pfn_t pfn)
{
	struct rig_page *p = &rig->pages[page];

	if (rig_is_frame(p->pfn) && rig->mapper[p->pfn - RIG_START_PFN] == page + 1)
		rig->mapper[p->pfn - RIG_START_PFN] = 0;
	p->pfn = pfn;
	if (rig_is_frame(pfn)) {
		assert_int_equal(rig->mapper[pfn - RIG_START_PFN], 0);
		rig->mapper[pfn - RIG_START_PFN] = page + 1;
	}
}

/* The page is open: who waits for it goes on. */
static inline void rig_open_page(struct rig *rig, uint64_t page)
{
	struct rig_page *p = &rig->pages[page];

	rig->nr_protected -= p->protected;
	rig->nr_watched -= p->watched;
	p->protected = p->watched = false;
	if (!p->pending)
		return;
	p->pending = false;
	rig->nr_pending--;
	*rig_word(rig, page) = p->expected;
}

static inline void rig_check_range(struct rig *rig, uint64_t page, uint64_t nr_pages,
				   bool protected)
{
	assert_true(nr_pages > 0);
	assert_true(page < rig->params.nr_pages && nr_pages <= rig->params.nr_pages - page);
	for (uint64_t at = page; at < page + nr_pages; at++)
		assert_int_equal(rig->pages[at].protected, protected);
}

static inline int rig_map(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct rig *rig = mmu;

	rig_check_range(rig, page, nr_pages, false);
	if (rig_call(rig, RIG_MAP))
		return -BERTH_ENOMEM;
	for (uint64_t i = 0; i < nr_pages; i++) {
		if (rig->pages[page + i].pfn == BERTH_PFN_NONE) /* fresh memory reads zero */
			rig->pages[page + i].expected = 0;
		rig_set(rig, page + i, pfn + i);
	}
	return 0;
}

static inline int rig_map_private(void *mmu, uint64_t page, uint64_t nr_pages)
{
	struct rig *rig = mmu;

	rig_check_range(rig, page, nr_pages, false);
	if (rig_call(rig, RIG_MAP_PRIVATE))
		return -BERTH_ENOMEM;
	for (uint64_t at = page; at < page + nr_pages; at++) {
		assert_int_equal(rig->pages[at].pfn, BERTH_PFN_NONE);
		rig_set(rig, at, BERTH_PFN_PRIVATE);
		rig->pages[at].private_content = rig->pages[at].expected = 0;
	}
	return 0;
}

static inline int rig_unmap(void *mmu, uint64_t page, uint64_t nr_pages)
{
	struct rig *rig = mmu;

	rig_check_range(rig, page, nr_pages, false);
	if (rig_call(rig, RIG_UNMAP))
		return -BERTH_ENOMEM;
	for (uint64_t at = page; at < page + nr_pages; at++)
		rig_set(rig, at, BERTH_PFN_NONE);
	return 0;
}

static inline int rig_protect(void *mmu, uint64_t page, uint64_t nr_pages)
{
	struct rig *rig = mmu;

	assert_true(rig->begun);
	rig_check_range(rig, page, nr_pages, false);
	if (rig_call(rig, RIG_PROTECT))
		return -BERTH_ENOMEM;
	for (uint64_t at = page; at < page + nr_pages; at++) {
		assert_true(rig_is_frame(rig->pages[at].pfn));
		rig->pages[at].protected = true;
	}
	rig->nr_protected += nr_pages;
	return 0;
}

static inline int rig_stop(void *mmu, uint64_t page, uint64_t nr_pages)
{
	struct rig *rig = mmu;

	assert_true(rig->begun);
	rig_check_range(rig, page, nr_pages, false);
	if (!rig->can_stop || rig_call(rig, RIG_STOP))
		return -BERTH_ENOSYS;
	for (uint64_t at = page; at < page + nr_pages; at++) {
		assert_true(rig_is_frame(rig->pages[at].pfn));
		rig->pages[at].protected = true;
	}
	rig->nr_protected += nr_pages;
	return 0;
}

static inline int rig_watch(void *mmu, uint64_t page, uint64_t nr_pages)
{
	struct rig *rig = mmu;

	assert_false(rig->begun);
	rig_check_range(rig, page, nr_pages, false);
	if (!rig->can_watch || rig_call(rig, RIG_WATCH))
		return -BERTH_ENOSYS;
	for (uint64_t at = page; at < page + nr_pages; at++) {
		assert_true(rig_is_frame(rig->pages[at].pfn) && !rig->pages[at].watched);
		rig->pages[at].watched = true;
		rig->pages[at].written = false;
	}
	rig->nr_watched += nr_pages;
	return 0;
}

static inline uint64_t rig_look(void *mmu, uint64_t page, uint64_t nr_pages, uint64_t *written)
{
	struct rig *rig = mmu;
	uint64_t nr = 0;

	assert_false(rig->begun);
	assert_int_equal(rig->nr_watched, nr_pages);
	(void)rig_call(rig, RIG_LOOK);
	memset(written, 0, (nr_pages + 63) / 64 * sizeof(*written));
	for (uint64_t i = 0; i < nr_pages; i++) {
		struct rig_page *p = &rig->pages[page + i];

		assert_true(p->watched);
		written[i / 64] |= (uint64_t)p->written << i % 64;
		nr += p->written;
		p->written = false;
	}
	return nr;
}

static inline int rig_halt(void *mmu, uint64_t page, uint64_t nr_pages, uint64_t *written)
{
	struct rig *rig = mmu;

	assert_true(rig->begun);
	rig_check_range(rig, page, nr_pages, false);
	memset(written, 0xa5, (nr_pages + 63) / 64 * sizeof(*written));
	if (rig_call(rig, RIG_HALT))
		return -BERTH_ENOMEM;
	memset(written, 0, (nr_pages + 63) / 64 * sizeof(*written));
	for (uint64_t i = 0; i < nr_pages; i++) {
		struct rig_page *p = &rig->pages[page + i];

		assert_true(p->watched);
		p->protected = true;
		written[i / 64] |= (uint64_t)p->written << i % 64;
	}
	rig->nr_protected += nr_pages;
	return 0;
}

static inline void rig_unprotect(void *mmu, uint64_t page, uint64_t nr_pages)
{
	struct rig *rig = mmu;

	assert_true(rig->begun);
	(void)rig_call(rig, RIG_UNPROTECT);
	for (uint64_t at = page; at < page + nr_pages; at++)
		rig_open_page(rig, at);
}

static inline int rig_remap(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct rig *rig = mmu;

	assert_true(rig->begun);
	rig_check_range(rig, page, nr_pages, true);
	if (rig_call(rig, RIG_REMAP))
		return -BERTH_ENOMEM;
	for (uint64_t i = 0; i < nr_pages; i++) {
		rig_set(rig, page + i, pfn + i);
		rig_open_page(rig, page + i);
	}
	if (rig->nr_remaps < RIG_MAX_REMAPS)
		rig->remaps[rig->nr_remaps++] = nr_pages;
	return 0;
}

static inline bool rig_writer_waits(void *mmu)
{
	struct rig *rig = mmu;
	bool waits;

	assert_true(rig->begun);
	(void)rig_call(rig, RIG_WRITER_WAITS);
	waits = rig->waits;
	rig->waits = false;
	return waits;
}

static inline int rig_prepare(void *mmu, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct rig *rig = mmu;

	assert_false(rig->begun); /* it can be slow: nobody may be stalled */
	if (rig_call(rig, RIG_PREPARE))
		return -BERTH_ENOMEM;
	for (uint64_t i = 0; i < nr_pages; i++)
		rig->prepared[pfn + i - RIG_START_PFN] = true;
	return 0;
}

static inline void rig_copy_frame(struct rig *rig, berth_pfn_t dst, berth_pfn_t src)
{
	assert_true(rig->prepared[dst - RIG_START_PFN]);
	assert_int_equal(rig->mapper[dst - RIG_START_PFN], 0);
	test_frame(rig->tz, dst)->content = test_frame(rig->tz, src)->content;
}

static inline void rig_copy(void *mmu, berth_pfn_t dst, berth_pfn_t src, uint64_t nr_pages)
{
	struct rig *rig = mmu;

	assert_true(rig->begun || rig->nr_watched);
	(void)rig_call(rig, RIG_COPY);
	for (uint64_t i = 0; i < nr_pages; i++)
		rig_copy_frame(rig, dst + i, src + i);
}

static inline void rig_copy_scattered(void *mmu, const berth_pfn_t *dst, const berth_pfn_t *src,
				      unsigned nr)
{
	struct rig *rig = mmu;

	assert_true(rig->begun || rig->nr_watched);
	assert_true(nr > 0);
	(void)rig_call(rig, RIG_COPY_SCATTERED);
	rig->nr_scattered += nr;
	for (unsigned i = 0; i < nr; i++)
		rig_copy_frame(rig, dst[i], src[i]);
}

static inline void rig_zero(void *mmu, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct rig *rig = mmu;

	(void)rig_call(rig, RIG_ZERO);
	for (uint64_t i = 0; i < nr_pages; i++) {
		assert_true(rig->prepared[pfn + i - RIG_START_PFN]);
		test_frame(rig->tz, pfn + i)->content = 0;
	}
}

static inline int rig_copy_private(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct rig *rig = mmu;

	rig->in_child = true;
	if (rig_call(rig, RIG_COPY_PRIVATE))
		return -BERTH_ENOMEM;
	for (uint64_t i = 0; i < nr_pages; i++) {
		struct rig_page *p = &rig->pages[page + i];

		assert_int_equal(p->pfn, pfn + i);
		p->private_content = test_frame(rig->tz, pfn + i)->content;
		/* The child's threads are gone, and with them who waited. */
		rig->nr_pending -= p->pending;
		rig->nr_protected -= p->protected;
		if (p->pending)
			p->expected = p->private_content;
		p->pending = p->protected = false;
		rig_set(rig, page + i, BERTH_PFN_PRIVATE);
	}
	return 0;
}

static inline int rig_make_private(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct rig *rig = mmu;

	assert_false(rig->begun);
	if (rig_call(rig, RIG_MAKE_PRIVATE))
		return -BERTH_ENOMEM;
	for (uint64_t i = 0; i < nr_pages; i++) {
		assert_int_equal(rig->pages[page + i].pfn, pfn + i);
		rig->pages[page + i].private_content = test_frame(rig->tz, pfn + i)->content;
		rig_set(rig, page + i, BERTH_PFN_PRIVATE);
	}
	return 0;
}

static inline void rig_forget_protection(void *mmu)
{
	struct rig *rig = mmu;

	assert_true(rig->in_child || rig->leaving);
	rig->nr_protected = 0;
	rig->awake = false; /* that was the parent's */
}

static inline void rig_keep_awake(void *mmu, bool on)
{
	struct rig *rig = mmu;

	assert_false(rig->begun);
	assert_int_not_equal(rig->awake, on);
	rig->awake = on;
	(void)rig_call(rig, RIG_KEEP_AWAKE);
}

static inline void rig_begin(void *mmu)
{
	struct rig *rig = mmu;

	assert_false(rig->begun);
	(void)rig_call(rig, RIG_BEGIN);
	rig->begun = true;
}

static inline void rig_end(void *mmu)
{
	struct rig *rig = mmu;

	assert_true(rig->begun);
	assert_int_equal(rig->nr_protected, 0);
	assert_int_equal(rig->nr_watched, 0);
	(void)rig_call(rig, RIG_END);
	rig->begun = false;
}

static const struct berth_mmu_ops rig_mmu_ops __attribute__((unused)) = {
	.map = rig_map,
	.map_private = rig_map_private,
	.unmap = rig_unmap,
	.protect = rig_protect,
	.stop = rig_stop,
	.watch = rig_watch,
	.look = rig_look,
	.halt = rig_halt,
	.unprotect = rig_unprotect,
	.remap = rig_remap,
	.writer_waits = rig_writer_waits,
	.prepare = rig_prepare,
	.copy = rig_copy,
	.copy_scattered = rig_copy_scattered,
	.zero = rig_zero,
	.copy_private = rig_copy_private,
	.make_private = rig_make_private,
	.forget_protection = rig_forget_protection,
	.keep_awake = rig_keep_awake,
	.begin = rig_begin,
	.end = rig_end,
};

/* ---- Opening, verifying, closing ---------------------------------------------------------------- */

/* Frames that were moved away from are spoilt, so that a page left there shows. */
static inline void rig_poison(void *ctx, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct test_port *port = ctx;
	struct test_zone *tz = (struct test_zone *)(void *)((char *)port -
							    offsetof(struct test_zone, port));

	port->poisoned_pages += nr_pages;
	for (uint64_t i = 0; i < nr_pages; i++)
		test_frame(tz, pfn + i)->content = 0xdbdbdbdb;
}

static const struct berth_port_ops rig_port_ops __attribute__((unused)) = {
	.now_ns = test_port_now_ns,
	.barrier_all = test_port_barrier_all,
	.wait = test_port_wait,
	.panic = test_port_panic,
	.poison = rig_poison,
};

/*
 * A zone of RIG_FRAMES, its first half a CMA area, and a space of twice as many pages. The other fields of `params` are taken from the caller when set.
 */
static inline struct rig *rig_open_with(const struct berth_space_params *params)
{
	struct rig *rig = test_zalloc(1, sizeof(*rig));

	rig->fail_op = -1;
	rig->seed = 1;
	rig->tz = zone_open(.start_pfn = RIG_START_PFN, .nr_pages = RIG_FRAMES,
			    .port = &rig_port_ops);
	rig->area = area_declare(rig->tz, "area", RIG_START_PFN, RIG_FRAMES / 2, 0,
				 BERTH_LEND_FIRST);
	rig->params = *params;
	rig->params.zone = rig->tz->zone;
	if (!rig->params.mmu)
		rig->params.mmu = &rig_mmu_ops;
	rig->params.mmu_ctx = rig;
	rig->params.port = &rig_port_ops;
	rig->params.port_ctx = &rig->tz->port;
	if (!rig->params.nr_pages)
		rig->params.nr_pages = 2 * RIG_FRAMES;
	rig->params.table = test_zalloc(rig->params.nr_pages, sizeof(uint32_t));
	rig->pages = test_zalloc(rig->params.nr_pages, sizeof(*rig->pages));
	rig->mapper = test_zalloc(RIG_FRAMES, sizeof(*rig->mapper));
	rig->prepared = test_zalloc(RIG_FRAMES, sizeof(*rig->prepared));
	for (uint64_t page = 0; page < rig->params.nr_pages; page++)
		rig->pages[page].pfn = BERTH_PFN_NONE;
	for (uint64_t i = 0; i < RIG_FRAMES; i++) /* no frame is clean by chance */
		rig->tz->frames[i].content = 0xa5a5a5a5;
	assert_int_equal(posix_memalign(&rig->memory, 64, berth_space_size()), 0);
	memset(rig->memory, 0xa5, berth_space_size());
	assert_int_equal(berth_space_init(&rig->space, &rig->params, rig->memory), 0);
	assert_ptr_equal(berth_space_table(rig->space), rig->params.table);
	return rig;
}
#define rig_open(...) rig_open_with(&(struct berth_space_params){ .name = "memory", __VA_ARGS__ })

static inline struct berth_space_stats rig_stats(struct rig *rig)
{
	struct berth_space_stats stats;

	berth_space_stats(rig->space, &stats);
	return stats;
}

/* Table, machine, frames and contents agree, and no frame is lost. */
static inline void rig_verify(struct rig *rig, const char *file, int line)
{
	struct berth_violation v = { 0 };
	struct berth_space_stats stats = rig_stats(rig);
	uint64_t mapped = 0, private_pages = 0;

	test_zone_verify(rig->tz, file, line);
	if (!berth_space_check(rig->space, &v)) {
		print_error("space check: %s at %#llx: value %#llx, expected %#llx\n",
			    v.what ? v.what : "(null)", (unsigned long long)v.where,
			    (unsigned long long)v.value, (unsigned long long)v.expected);
		_fail(file, line);
	}
	_assert_int_equal(rig->begun, false, file, line);
	_assert_int_equal(rig->awake, false, file, line);
	_assert_int_equal(rig->nr_protected, 0, file, line);
	_assert_int_equal(rig->nr_pending, 0, file, line);
	for (uint64_t page = 0; page < rig->params.nr_pages; page++) {
		const struct rig_page *p = &rig->pages[page];

		_assert_int_equal(berth_space_lookup(rig->space, page), p->pfn, file, line);
		mapped += rig_is_frame(p->pfn);
		private_pages += p->pfn == BERTH_PFN_PRIVATE;
		if (p->pfn == BERTH_PFN_NONE || *rig_word(rig, page) == p->expected)
			continue;
		print_error("page %#llx at pfn %#llx reads %#x, not %#x\n",
			    (unsigned long long)page, (unsigned long long)p->pfn,
			    *rig_word(rig, page), p->expected);
		_fail(file, line);
	}
	_assert_int_equal(stats.mapped_pages, mapped, file, line);
	_assert_int_equal(stats.private_pages, private_pages, file, line);
	_assert_int_equal(zone_stats(rig->tz).used_pages, mapped + rig->nr_others, file, line);
}
#define rig_ok(rig) rig_verify(rig, __FILE__, __LINE__)

/* For a rig that a panic has left locked, or a fork's child has left for good. */
static inline void rig_abandon(struct rig *rig)
{
	zone_abandon(rig->tz);
	free(rig->params.table);
	free(rig->pages);
	free(rig->mapper);
	free(rig->prepared);
	free(rig->memory);
	free(rig);
}

static inline void rig_close(struct rig *rig)
{
	rig_ok(rig);
	rig_abandon(rig);
}

/* ---- Steps of a test -------------------------------------------------------------------------- */

static inline void rig_forget_calls(struct rig *rig)
{
	memset(rig->calls, 0, sizeof(rig->calls));
	rig->nr_remaps = 0;
}

/* The n-th call of `op` from now fails, n from 1. */
static inline void rig_fail(struct rig *rig, enum rig_op op, uint64_t n)
{
	rig->fail_op = (int)op;
	rig->fail_call = n;
}

/* Maps what must be mappable, and writes to each page. */
static inline void rig_map_and_write(struct rig *rig, uint64_t page, uint64_t nr_pages,
				     unsigned max_order, unsigned flags)
{
	assert_int_equal(berth_space_map(rig->space, page, nr_pages, max_order, flags), 0);
	for (uint64_t i = 0; i < nr_pages; i++)
		rig_write(rig, page + i);
	rig_ok(rig);
}

/*
 * Maps nr_pages whose frames don't follow each other, outside the area: frames of single pages that
 * are mapped backwards.
 */
static inline void rig_map_scattered(struct rig *rig, uint64_t page, uint64_t nr_pages,
				     unsigned flags)
{
	for (uint64_t i = nr_pages; i-- > 0;)
		rig_map_and_write(rig, page + i, 1, 0, flags);
}

static inline berth_pfn_t rig_pfn(struct rig *rig, uint64_t page)
{
	return berth_space_lookup(rig->space, page);
}

/* The order of the block that holds a page, and its head. */
static inline unsigned rig_order(struct rig *rig, uint64_t page, berth_pfn_t *head)
{
	unsigned order = 99;

	assert_int_equal(berth_frame_state(rig->tz->zone, rig_pfn(rig, page), head, &order), 'u');
	return order;
}

/* Empties exactly these frames and gives them back. */
static inline int rig_empty_range(struct rig *rig, berth_pfn_t start, uint64_t nr_pages,
				  struct berth_claim_report *report)
{
	int error = berth_alloc_contig_range(rig->tz->zone, start, nr_pages, NULL, report);

	if (!error) {
		for (uint64_t i = 0; i < nr_pages; i++)
			assert_int_equal(rig->mapper[start + i - RIG_START_PFN], 0);
		assert_int_equal(berth_free_contig_range(rig->tz->zone, start, nr_pages), 0);
	}
	return error;
}

/* The frames of [page, page + nr) are consecutive: empties them. */
static inline int rig_move_away(struct rig *rig, uint64_t page, uint64_t nr_pages,
				struct berth_claim_report *report)
{
	return rig_empty_range(rig, rig_pfn(rig, page), nr_pages, report);
}

/* Somebody writes to a page of [script[1], script[2]) at every call. */
static inline void rig_write_always(struct rig *rig, enum rig_op op)
{
	(void)op;
	rig_write(rig,
		  rig->script[1] + test_random_below(&rig->seed, rig->script[2] - rig->script[1]));
}

#endif
