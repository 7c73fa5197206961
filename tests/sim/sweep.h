/* SPDX-License-Identifier: MIT */
/*
 * The failure-injection sweep. A scenario is run once, and what it calls is counted: each operation of the
 * simulator (the port's, its seam's and the machine's mapping), and each callback by which the core asks others. Then it
 * is repeated with one call failing, or late where there is no error to return: the first call from every place in
 * the code that makes one, and others spread over all. Callbacks fail in each way that they have.
 *
 * Whatever fails, the run must end, every invariant must hold, no page may lose its contents and no frame may be
 * lost, and a claim must succeed afterwards: that is for the scenario's `run`.
 *
 * At its end each program compares what has failed with the tables below, which have a row for each member of each
 * structure of operations. A new operation has none, which fails; and so does one that no scenario reaches.
 *
 *	BERTH_SIM_SEED=n    the scenarios' first seed
 *	BERTH_SIM_SEEDS=n   percent of the calls that are made to fail beside each place's first
 */
#ifndef BERTH_SWEEP_H
#define BERTH_SWEEP_H

#include <berth/contig.h>
#include <berth/lru.h>
#include <berth/memblock.h>
#include <berth/nodes.h>

#include "testsim.h"

/* Each place, but where changing stacks is slow. */
#define SWEEP_EACH (SEEDS_DIVISOR > 1 ? 6u : 1u)

static inline uint64_t scenario_seed(uint64_t otherwise)
{
	const char *seed = getenv("BERTH_SIM_SEED");

	return seed ? strtoull(seed, NULL, 0) : otherwise;
}

/* ---- Callbacks ------------------------------------------------------------------------------------ */

enum sweep_callback {
	/* struct berth_owner_ops */
	SWEEP_MIGRATE,
	SWEEP_HOLDER,
	SWEEP_NEIGHBOURS,
	SWEEP_RECLAIM,
	SWEEP_REFERENCED,
	SWEEP_WRITEBACK,
	/* struct berth_nodes_ops */
	SWEEP_WAKE_KSWAPD,
	SWEEP_NODES_RECLAIM,
	SWEEP_OOM,
	/* struct berth_shrinker */
	SWEEP_COUNT,
	SWEEP_SCAN,
	/* struct berth_memblock_ops */
	SWEEP_ARRAY_MAP,
	SWEEP_ARRAY_ALLOC,
	SWEEP_ARRAY_FREE,
	/* struct berth_contig_policy */
	SWEEP_POLICY_BYTES,
	SWEEP_POLICY_INIT,
	SWEEP_POLICY_ALLOC,
	SWEEP_POLICY_RELEASE,
	SWEEP_POLICY_ALLOC_BULK,
	SWEEP_POLICY_RELEASE_BULK,
	SWEEP_POLICY_PREPARE,
	SWEEP_POLICY_STATS,
	SWEEP_POLICY_NEXT,
	SWEEP_POLICY_LEND,
	SWEEP_POLICY_CHECK,
	SWEEP_POLICY_CMA,
	SWEEP_POLICY_GCMA,
	SWEEP_NR_CALLBACKS
};

/* Each can also be late: that is the way behind the last. */
static const struct {
	const char *name;
	unsigned nr_ways; /* to fail; what they are says the callback */
	bool never_late;
} sweep_callbacks[SWEEP_NR_CALLBACKS] = {
	[SWEEP_MIGRATE] = { "migrate", 5, false },
	[SWEEP_HOLDER] = { "holder", 1, false },
	[SWEEP_NEIGHBOURS] = { "neighbours", 3, false },
	[SWEEP_RECLAIM] = { "reclaim", 5, false },
	[SWEEP_REFERENCED] = { "referenced", 1, false },
	[SWEEP_WRITEBACK] = { "writeback", 2, false },
	[SWEEP_WAKE_KSWAPD] = { "wake_kswapd", 1, true },
	[SWEEP_NODES_RECLAIM] = { "reclaim of nodes", 1, false },
	[SWEEP_OOM] = { "oom", 2, false },
	[SWEEP_COUNT] = { "count", 2, false },
	[SWEEP_SCAN] = { "scan", 2, false },
	[SWEEP_ARRAY_MAP] = { "map of an array", 1, true },
	[SWEEP_ARRAY_ALLOC] = { "alloc of an array", 1, true },
	[SWEEP_ARRAY_FREE] = { "free of an array", 0, false },
	[SWEEP_POLICY_BYTES] = { "state_bytes", 1, false },
	[SWEEP_POLICY_INIT] = { "init", 2, false },
	[SWEEP_POLICY_ALLOC] = { "alloc", 3, false },
	[SWEEP_POLICY_RELEASE] = { "release", 1, false },
	[SWEEP_POLICY_ALLOC_BULK] = { "alloc_bulk", 3, false },
	[SWEEP_POLICY_RELEASE_BULK] = { "release_bulk", 1, false },
	[SWEEP_POLICY_PREPARE] = { "prepare", 2, false },
	[SWEEP_POLICY_STATS] = { "stats", 0, false },
	[SWEEP_POLICY_NEXT] = { "next_claim", 0, false },
	[SWEEP_POLICY_LEND] = { "set_lend", 1, false },
	[SWEEP_POLICY_CHECK] = { "check", 1, false },
	[SWEEP_POLICY_CMA] = { "cma", 0, false },
	[SWEEP_POLICY_GCMA] = { "gcma", 0, false },
};

static struct {
	struct berth_sim *sim;
	uint64_t calls[SWEEP_NR_CALLBACKS]; /* of this run */
	uint64_t fail_at;                   /* call of */
	enum sweep_callback callback;
	unsigned way;
	uint64_t nr_failed;
	/* In all runs. */
	uint64_t op_failures[BERTH_SIM_NR_OPS], callback_failures[SWEEP_NR_CALLBACKS], nr_sites;
} sweep_state;

#define SWEEP_LATE_NS 1500000u

/* For a callback, when it is called: in which way it is to fail, 0: not at all. Late ones are late in here. */
static inline unsigned sweep_called(enum sweep_callback callback)
{
	uint64_t call;

	if (berth_sim_task(sweep_state.sim) < 0) /* building, verifying */
		return 0;
	call = ++sweep_state.calls[callback];
	if (callback != sweep_state.callback || call != sweep_state.fail_at)
		return 0;
	sweep_state.nr_failed++;
	sweep_state.callback_failures[callback]++;
	if (sweep_state.way <= sweep_callbacks[callback].nr_ways)
		return sweep_state.way;
	berth_sim_port_ops.wait(sweep_state.sim, SWEEP_LATE_NS);
	return 0;
}

/* ---- Scenarios ------------------------------------------------------------------------------------ */

struct sweep {
	const char *name;
	void (*begin)(void *ctx, uint64_t seed);
	bool (*run)(void *ctx,
		    uint64_t seed); /* runs, verifies; false: something is wrong, and was said */
	void *ctx;
	struct berth_sim *sim;
	unsigned most; /* calls of an operation that fail beside those of new places, before BERTH_SIM_SEEDS */
	uint64_t nr_runs;
};

static inline void sweep_begin(struct sweep *s, uint64_t seed)
{
	memset(sweep_state.calls, 0, sizeof(sweep_state.calls));
	sweep_state.sim = s->sim;
	sweep_state.fail_at = 0;
	sweep_state.nr_failed = 0;
	s->begin(s->ctx, seed);
}

static inline void sweep_fail(struct sweep *s, const char *what, uint64_t call, unsigned way,
			      uint64_t seed)
{
	fail_msg("%s: seed %llu, with call %llu of %s failing (way %u)", s->name,
		 (unsigned long long)seed, (unsigned long long)call, what, way);
}

static inline void sweep_one_op(struct sweep *s, enum berth_sim_op op, uint64_t call, uint64_t seed)
{
	sweep_begin(s, seed);
	berth_sim_fail_at(s->sim, op, call);
	if (!s->run(s->ctx, seed) || berth_sim_nr_failed(s->sim) != 1)
		sweep_fail(s, berth_sim_op_name(op), call, 0, seed);
	sweep_state.op_failures[op]++;
	s->nr_runs++;
}

/* Every operation in [first, last]. */
static inline void sweep_ops(struct sweep *s, enum berth_sim_op first, enum berth_sim_op last,
			     uint64_t seed)
{
	static uint64_t sites[BERTH_SIM_NR_OPS][1024];
	uint64_t calls[BERTH_SIM_NR_OPS], most = nr_seeds(s->most);
	unsigned nr_sites[BERTH_SIM_NR_OPS];

	sweep_begin(s, seed);
	assert_true(s->run(s->ctx, seed));
	for (unsigned op = first; op <= (unsigned)last; op++) {
		calls[op] = berth_sim_run_calls(s->sim, (enum berth_sim_op)op);
		nr_sites[op] = berth_sim_nr_sites(s->sim, (enum berth_sim_op)op);
		for (unsigned i = 0; i < nr_sites[op]; i++)
			sites[op][i] = berth_sim_site_call(s->sim, (enum berth_sim_op)op, i);
	}
	for (unsigned op = first; op <= (unsigned)last; op++) {
		uint64_t stride = calls[op] / (most + 1) + 1;

		if (op == BERTH_SIM_PANIC)
			continue;
		for (unsigned i = 0; i < nr_sites[op]; i += SWEEP_EACH)
			sweep_one_op(s, (enum berth_sim_op)op, sites[op][i], seed);
		for (uint64_t call = 1 + seed % stride; call <= calls[op]; call += stride)
			sweep_one_op(s, (enum berth_sim_op)op, call, seed);
		sweep_state.nr_sites += (nr_sites[op] + SWEEP_EACH - 1) / SWEEP_EACH;
	}
}

/* Every callback in [first, last], in every way. */
static inline void sweep_calls(struct sweep *s, enum sweep_callback first, enum sweep_callback last,
			       uint64_t seed)
{
	uint64_t calls[SWEEP_NR_CALLBACKS], most = nr_seeds(s->most);

	sweep_begin(s, seed);
	assert_true(s->run(s->ctx, seed));
	memcpy(calls, sweep_state.calls, sizeof(calls));
	for (unsigned c = first; c <= (unsigned)last; c++) {
		unsigned ways = sweep_callbacks[c].nr_ways + !sweep_callbacks[c].never_late;
		uint64_t stride = calls[c] * ways / (most + 1) + 1;

		for (unsigned way = 1; way <= ways; way++) {
			for (uint64_t call = 1 + way % stride; call <= calls[c]; call += stride) {
				sweep_begin(s, seed);
				sweep_state.callback = (enum sweep_callback)c;
				sweep_state.fail_at = call;
				sweep_state.way = way;
				if (!s->run(s->ctx, seed) || sweep_state.nr_failed != 1)
					sweep_fail(s, sweep_callbacks[c].name, call, way, seed);
				s->nr_runs++;
			}
		}
	}
}

static inline void sweep_report(const struct sweep *s)
{
	print_message("# %s: %llu runs, one failure in each\n", s->name,
		      (unsigned long long)s->nr_runs);
}

/* ---- What a world is asked when its run is over ------------------------------------------------------ */

/* Whatever has failed, both areas can be claimed as soon as nobody pins anything: there is room for all that is
 * lent. False, with the reason printed. */
static inline bool world_claims_again(struct world *w, uint64_t seed)
{
	for (unsigned i = 0; i < w->params.nr_workers; i++)
		for (unsigned slot = 0; slot < SLOTS; slot++)
			if (w->workers[i].runs[slot].pinned)
				worker_unpin(&w->workers[i], slot);
	for (unsigned i = 0; i < 2; i++) {
		const struct berth_claim_params params = { .nr_pages = AREA_PAGES };
		struct berth_claim_report report;
		berth_pfn_t pfn = BERTH_PFN_NONE;
		int ret;

		if (!w->areas[i])
			continue;
		ret = berth_cma_alloc(w->areas[i], &params, &pfn, &report);
		if (ret) {
			print_failure(w, "the area can't be claimed any more", seed,
				      (uint64_t)(int64_t)ret, report.blocker_pfn);
			return false;
		}
		claimed(w, pfn, AREA_PAGES);
		ret = berth_cma_release(w->areas[i], pfn, AREA_PAGES);
		require_ret(w, "a release at the end", ret, 0);
	}
	return true;
}

/* Runs what was begun, claims again, and verifies. */
static inline bool world_sweep_run(struct world *w, uint64_t seed)
{
	const struct berth_sim_result *result = berth_sim_run(w->sim);

	if (result->outcome == BERTH_SIM_DONE && !world_claims_again(w, seed))
		return false;
	return world_finish(w, result, seed, false);
}

/* ---- What must have failed ----------------------------------------------------------------------------- */

enum sweep_program { SWEEP_NOWHERE, SWEEP_SPACE, SWEEP_OWNERS, SWEEP_STORE };

struct sweep_member {
	const char *name;
	size_t offset;
	enum sweep_program where; /* which program lets it fail; NOWHERE: `why` */
	int op, callback;         /* -1: not that */
	const char *why;
};
#define SWEEP_OP(type, name, where, op)                                             \
	{                                                                           \
#name, offsetof(struct type, name), where, BERTH_SIM_##op, -1, NULL \
	}
#define SWEEP_CALL(type, name, where, callback)                                       \
	{                                                                             \
#name, offsetof(struct type, name), where, -1, SWEEP_##callback, NULL \
	}
#define SWEEP_NOT(type, name, why)                                             \
	{                                                                      \
#name, offsetof(struct type, name), SWEEP_NOWHERE, -1, -1, why \
	}

static const struct sweep_member sweep_port[] = {
	SWEEP_OP(berth_port_ops, now_ns, SWEEP_SPACE, NOW),
	SWEEP_OP(berth_port_ops, barrier_all, SWEEP_SPACE, BARRIER),
	SWEEP_OP(berth_port_ops, restart_copies, SWEEP_STORE, RESTART),
	SWEEP_OP(berth_port_ops, wait, SWEEP_SPACE, WAIT),
	SWEEP_NOT(berth_port_ops, panic, "called for a bug only, and ends the run"),
	SWEEP_OP(berth_port_ops, poison, SWEEP_SPACE, POISON),
	SWEEP_OP(berth_port_ops, zero, SWEEP_OWNERS, CLEAR),
};

#define SWEEP_PUSHES "the simulator has no second process: tests/unit/test_push.c"
static const struct sweep_member sweep_mmu[] = {
	SWEEP_OP(berth_mmu_ops, map, SWEEP_SPACE, MAP),
	SWEEP_OP(berth_mmu_ops, map_private, SWEEP_SPACE, MAP_PRIVATE),
	SWEEP_OP(berth_mmu_ops, make_private, SWEEP_SPACE, MAKE_PRIVATE),
	SWEEP_OP(berth_mmu_ops, unmap, SWEEP_SPACE, UNMAP),
	SWEEP_OP(berth_mmu_ops, protect, SWEEP_SPACE, PROTECT),
	SWEEP_OP(berth_mmu_ops, stop, SWEEP_SPACE, STOP),
	SWEEP_OP(berth_mmu_ops, watch, SWEEP_SPACE, WATCH),
	SWEEP_OP(berth_mmu_ops, look, SWEEP_SPACE, LOOK),
	SWEEP_OP(berth_mmu_ops, halt, SWEEP_SPACE, HALT),
	SWEEP_OP(berth_mmu_ops, unprotect, SWEEP_SPACE, UNPROTECT),
	SWEEP_OP(berth_mmu_ops, remap, SWEEP_SPACE, REMAP),
	SWEEP_OP(berth_mmu_ops, populate, SWEEP_SPACE, POPULATE),
	SWEEP_OP(berth_mmu_ops, writer_waits, SWEEP_SPACE, WRITER_WAITS),
	SWEEP_OP(berth_mmu_ops, prepare, SWEEP_SPACE, PREPARE),
	SWEEP_OP(berth_mmu_ops, copy, SWEEP_SPACE, COPY),
	SWEEP_OP(berth_mmu_ops, copy_scattered, SWEEP_SPACE, COPY_SCATTERED),
	SWEEP_OP(berth_mmu_ops, zero, SWEEP_SPACE, ZERO),
	SWEEP_OP(berth_mmu_ops, copy_private, SWEEP_SPACE, COPY_PRIVATE),
	SWEEP_NOT(berth_mmu_ops, receive, SWEEP_PUSHES),
	SWEEP_NOT(berth_mmu_ops, push, SWEEP_PUSHES),
	SWEEP_NOT(berth_mmu_ops, open, SWEEP_PUSHES),
	SWEEP_OP(berth_mmu_ops, forget_protection, SWEEP_SPACE, FORGET_PROTECTION),
	SWEEP_OP(berth_mmu_ops, keep_awake, SWEEP_SPACE, KEEP_AWAKE),
	SWEEP_OP(berth_mmu_ops, begin, SWEEP_SPACE, BEGIN),
	SWEEP_OP(berth_mmu_ops, end, SWEEP_SPACE, END),
};

static const struct sweep_member sweep_owner[] = {
	SWEEP_NOT(berth_owner_ops, name, "data"),
	SWEEP_CALL(berth_owner_ops, migrate, SWEEP_OWNERS, MIGRATE),
	SWEEP_CALL(berth_owner_ops, holder, SWEEP_OWNERS, HOLDER),
	SWEEP_CALL(berth_owner_ops, neighbours, SWEEP_OWNERS, NEIGHBOURS),
	SWEEP_NOT(berth_owner_ops, unevictable, "data"),
	SWEEP_CALL(berth_owner_ops, reclaim, SWEEP_OWNERS, RECLAIM),
	SWEEP_CALL(berth_owner_ops, referenced, SWEEP_OWNERS, REFERENCED),
	SWEEP_CALL(berth_owner_ops, writeback, SWEEP_OWNERS, WRITEBACK),
};

static const struct sweep_member sweep_nodes[] = {
	SWEEP_CALL(berth_nodes_ops, wake_kswapd, SWEEP_OWNERS, WAKE_KSWAPD),
	SWEEP_CALL(berth_nodes_ops, reclaim, SWEEP_OWNERS, NODES_RECLAIM),
	SWEEP_CALL(berth_nodes_ops, oom, SWEEP_OWNERS, OOM),
};

static const struct sweep_member sweep_shrinker[] = {
	SWEEP_CALL(berth_shrinker, count, SWEEP_OWNERS, COUNT),
	SWEEP_CALL(berth_shrinker, scan, SWEEP_OWNERS, SCAN),
	SWEEP_NOT(berth_shrinker, ctx, "data"),
	SWEEP_NOT(berth_shrinker, seeks, "data"),
	SWEEP_NOT(berth_shrinker, next, "data"),
	SWEEP_NOT(berth_shrinker, nr_deferred, "data"),
	SWEEP_NOT(berth_shrinker, running, "data"),
};

static const struct sweep_member sweep_memblock[] = {
	SWEEP_CALL(berth_memblock_ops, map, SWEEP_OWNERS, ARRAY_MAP),
	SWEEP_CALL(berth_memblock_ops, alloc, SWEEP_OWNERS, ARRAY_ALLOC),
	SWEEP_CALL(berth_memblock_ops, free, SWEEP_OWNERS, ARRAY_FREE),
};

static const struct sweep_member sweep_policy[] = {
	SWEEP_NOT(berth_contig_policy, name, "data"),
	SWEEP_NOT(berth_contig_policy, claim_flags, "data"),
	SWEEP_CALL(berth_contig_policy, state_bytes, SWEEP_STORE, POLICY_BYTES),
	SWEEP_CALL(berth_contig_policy, init, SWEEP_STORE, POLICY_INIT),
	SWEEP_CALL(berth_contig_policy, alloc, SWEEP_STORE, POLICY_ALLOC),
	SWEEP_CALL(berth_contig_policy, release, SWEEP_STORE, POLICY_RELEASE),
	SWEEP_CALL(berth_contig_policy, alloc_bulk, SWEEP_STORE, POLICY_ALLOC_BULK),
	SWEEP_CALL(berth_contig_policy, release_bulk, SWEEP_STORE, POLICY_RELEASE_BULK),
	SWEEP_CALL(berth_contig_policy, prepare, SWEEP_STORE, POLICY_PREPARE),
	SWEEP_CALL(berth_contig_policy, stats, SWEEP_STORE, POLICY_STATS),
	SWEEP_CALL(berth_contig_policy, next_claim, SWEEP_STORE, POLICY_NEXT),
	SWEEP_CALL(berth_contig_policy, set_lend, SWEEP_STORE, POLICY_LEND),
	SWEEP_CALL(berth_contig_policy, check, SWEEP_STORE, POLICY_CHECK),
	SWEEP_CALL(berth_contig_policy, cma, SWEEP_STORE, POLICY_CMA),
	SWEEP_CALL(berth_contig_policy, gcma, SWEEP_STORE, POLICY_GCMA),
};

#define SWEEP_ROWS(table) table, sizeof(table) / sizeof(table[0])
static const struct {
	const char *name;
	const struct sweep_member *rows;
	size_t nr, bytes;
} sweep_structs[] = {
	{ "berth_port_ops", SWEEP_ROWS(sweep_port), sizeof(struct berth_port_ops) },
	{ "berth_mmu_ops", SWEEP_ROWS(sweep_mmu), sizeof(struct berth_mmu_ops) },
	{ "berth_owner_ops", SWEEP_ROWS(sweep_owner), sizeof(struct berth_owner_ops) },
	{ "berth_nodes_ops", SWEEP_ROWS(sweep_nodes), sizeof(struct berth_nodes_ops) },
	{ "berth_shrinker", SWEEP_ROWS(sweep_shrinker), sizeof(struct berth_shrinker) },
	{ "berth_memblock_ops", SWEEP_ROWS(sweep_memblock), sizeof(struct berth_memblock_ops) },
	{ "berth_contig_policy", SWEEP_ROWS(sweep_policy), sizeof(struct berth_contig_policy) },
};

/* The last test of each program. A seed that is given repeats what it does, and needn't reach all. */
static inline void sweep_check_members(enum sweep_program program)
{
	bool known[BERTH_SIM_NR_OPS] = { false };
	unsigned nr = 0;

	if (getenv("BERTH_SIM_SEED"))
		return;
	for (size_t i = 0; i < sizeof(sweep_structs) / sizeof(sweep_structs[0]); i++) {
		const char *of = sweep_structs[i].name;

		for (size_t at = 0; at < sweep_structs[i].bytes; at += sizeof(void *)) {
			bool found = false;

			for (size_t k = 0; k < sweep_structs[i].nr; k++)
				found |= sweep_structs[i].rows[k].offset / sizeof(void *) ==
					 at / sizeof(void *);
			if (!found)
				fail_msg("no row for what is at %zu of %s", at, of);
		}
		for (size_t k = 0; k < sweep_structs[i].nr; k++) {
			const struct sweep_member *m = &sweep_structs[i].rows[k];

			if (m->op >= 0)
				known[m->op] = true;
			if (m->where != program)
				continue;
			nr++;
			if (!(m->op >= 0 ? sweep_state.op_failures[m->op] :
					   sweep_state.callback_failures[m->callback]))
				fail_msg("%s of %s is never reached", m->name, of);
		}
	}
	/* The seam has no structure. */
	for (unsigned op = BERTH_SIM_LOCK; op < BERTH_SIM_FIRST_MMU_OP; op++, nr++) {
		known[op] = true;
		if (!sweep_state.op_failures[op])
			fail_msg("%s is never reached", berth_sim_op_name((enum berth_sim_op)op));
	}
	known[BERTH_SIM_PANIC] = true;
	for (unsigned op = 0; op < BERTH_SIM_NR_OPS; op++)
		if (!known[op])
			fail_msg("no row for %s", berth_sim_op_name((enum berth_sim_op)op));
	print_message("# %u operations and callbacks failed; calls from %llu places\n", nr,
		      (unsigned long long)sweep_state.nr_sites);
}

#endif
