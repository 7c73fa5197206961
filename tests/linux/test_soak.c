/* SPDX-License-Identifier: MIT */
/*
 * A pool used by everybody at once, for as long as is asked: threads that map, grow, write, pin and unmap
 * memory, claim in every mode from areas of every kind, bulk and ahead of the need, with deadlines, change
 * how areas lend, keep pages in a store, and fork; the machine's operations fail now and then.
 *
 * Every so often all stop, and everything is looked at: each byte of mapped memory and of held buffers, every
 * invariant of the pool, and the sums, which must be those of what the threads have. Every few rounds they
 * give all of it back, and then no frame may be missing.
 *
 *	BERTH_SOAK_SECONDS=n  for how long (2)
 *	BERTH_SOAK_SEED=n     the threads' seed; by default the clock, which is printed
 */
#define _GNU_SOURCE
#include <berth/store.h>

#include "core/internal.h"
#include "runtime/internal.h"
#include "tests/include/testpool.h"
#include "vm/internal.h"

#define NR_USERS 3u
#define NR_REGIONS 16u
#define NR_HELD 4u
#define NR_BULK 16u
#define NR_KEYS 150u
#define PAGE 4096u

struct region {
	char *address; /* NULL: none */
	size_t bytes;
	uint64_t seed, pin;
	bool pinned;
};

struct held {
	struct berth_buffer buffer; /* bytes 0: none */
	uint64_t seed;
};

struct counts {
	uint64_t ops, claims, refused, bulks, prepared, pins, forks, gets, hits, puts;
};

struct user {
	pthread_t thread;
	unsigned id;
	uint64_t random;
	struct region regions[NR_REGIONS];
	struct held held[NR_HELD];
	struct berth_prepared *prepared;
	uint32_t versions[NR_KEYS]; /* 0: nothing under the key, as far as it knows */
	char *page;
	struct counts did;
};

static struct {
	struct berth_pool *pool;
	struct berth_pool_impl *impl;
	struct berth_store *store;
	struct user users[NR_USERS];
	_Atomic bool stop;
	_Atomic uint64_t injected;
	uint64_t seed;
} soak;

static const char *const areas[] = { "camera", "video", "dma", "guard" };
static const char *const devices[] = { "cam0", "nic0", "gpu0", "other" };

static uint64_t below(struct user *u, uint64_t bound)
{
	return test_random_below(&u->random, bound);
}

static bool chance(struct user *u, unsigned percent)
{
	return below(u, 100) < percent;
}

/* Ends the process: a thread's failure is the test's. */
#define check(u, condition, error)                                                      \
	do {                                                                            \
		if (!(condition)) {                                                     \
			print_error("seed %llu, thread %u: %s (%s)\n",                  \
				    (unsigned long long)soak.seed, (u)->id, #condition, \
				    berth_strerror(error));                             \
			abort();                                                        \
		}                                                                       \
	} while (0)

/* ---- A machine that fails now and then ----------------------------------------------------------------- */

/* One call in so many; then it works for so long that what failed can be undone: a move that can't go
 * back stops the process. */
#define FAIL_ONE_IN 400u
#define CALM_CALLS 300u

static _Thread_local bool may_fail;
static _Thread_local unsigned calm;
static _Thread_local uint64_t fail_random;

/* For a test of one thread: so many unmaps from now on fail. */
static unsigned refused_unmaps;

static bool fails(void)
{
	if (!may_fail || (calm && calm--) || test_random_below(&fail_random, FAIL_ONE_IN))
		return false;
	calm = CALM_CALLS;
	atomic_fetch_add_explicit(&soak.injected, 1, memory_order_relaxed);
	return true;
}

static int failing_map(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr)
{
	return fails() ? -BERTH_ENOMEM : berth_mmu_linux_ops.map(mmu, page, pfn, nr);
}

static int failing_map_private(void *mmu, uint64_t page, uint64_t nr)
{
	return fails() ? -BERTH_ENOMEM : berth_mmu_linux_ops.map_private(mmu, page, nr);
}

static int failing_unmap(void *mmu, uint64_t page, uint64_t nr)
{
	if (refused_unmaps) {
		refused_unmaps--;
		return -BERTH_ENOMEM;
	}
	return fails() ? -BERTH_ENOMEM : berth_mmu_linux_ops.unmap(mmu, page, nr);
}

static int failing_protect(void *mmu, uint64_t page, uint64_t nr)
{
	return fails() ? -BERTH_ENOMEM : berth_mmu_linux_ops.protect(mmu, page, nr);
}

static int failing_watch(void *mmu, uint64_t page, uint64_t nr)
{
	return fails() ? -BERTH_ENOMEM : berth_mmu_linux_ops.watch(mmu, page, nr);
}

static int failing_halt(void *mmu, uint64_t page, uint64_t nr, uint64_t *written)
{
	return fails() ? -BERTH_ENOMEM : berth_mmu_linux_ops.halt(mmu, page, nr, written);
}

static int failing_remap(void *mmu, uint64_t page, berth_pfn_t pfn, uint64_t nr)
{
	return fails() ? -BERTH_ENOMEM : berth_mmu_linux_ops.remap(mmu, page, pfn, nr);
}

static int failing_prepare(void *mmu, berth_pfn_t pfn, uint64_t nr)
{
	return fails() ? -BERTH_ENOMEM : berth_mmu_linux_ops.prepare(mmu, pfn, nr);
}

static struct berth_mmu_ops failing_ops;

/* Before anybody else has the pool. */
static void let_it_fail(void)
{
	failing_ops = *soak.impl->space->mmu;
	failing_ops.map = failing_map;
	failing_ops.map_private = failing_map_private;
	failing_ops.unmap = failing_unmap;
	failing_ops.protect = failing_protect;
	if (failing_ops.watch) {
		failing_ops.watch = failing_watch;
		failing_ops.halt = failing_halt;
	}
	failing_ops.remap = failing_remap;
	failing_ops.prepare = failing_prepare;
	soak.impl->space->mmu = &failing_ops;
}

/* ---- Memory ---------------------------------------------------------------------------------------------- */

static void verify_region(struct user *u, const struct region *r)
{
	size_t at = pattern_differs(r->address, r->bytes, r->seed);

	check(u, at == r->bytes / 8, 0);
}

static void unpin(struct user *u, struct region *r)
{
	int error = berth_unpin(soak.pool, r->pin);

	check(u, error == 0, error);
	r->pinned = false;
}

static void pin(struct user *u, struct region *r)
{
	size_t pages = r->bytes / PAGE, first = below(u, pages);
	int error = berth_pin(soak.pool, r->address + first * PAGE,
			      PAGE * (1 + below(u, pages - first)), "soak",
			      chance(u, 50) ? BERTH_PIN_LONG_TERM : 0, &r->pin);

	check(u, !error || error == -BERTH_ENOMEM || error == -BERTH_EBUSY, error);
	r->pinned = !error;
	u->did.pins += !error;
}

static void drop(struct user *u, struct region *r)
{
	int error;

	verify_region(u, r);
	if (r->pinned) {
		error = berth_unmap(soak.pool, r->address, r->bytes);
		check(u, error == -BERTH_EBUSY, error);
		unpin(u, r);
	}
	error = berth_unmap(soak.pool, r->address, r->bytes);
	check(u, !error || (error == -BERTH_ENOMEM && may_fail), error);
	if (!error)
		r->address = NULL;
	else /* as if nothing had happened */
		verify_region(u, r);
}

static void take(struct user *u, struct region *r)
{
	size_t run = (size_t)PAGE << below(u, 10);
	unsigned flags = chance(u, 10) ? BERTH_MEMORY_NO_AREA : 0;
	void *address = NULL;
	int error;

	*r = (struct region){ .bytes = PAGE * (1 + below(u, chance(u, 80) ? 300 : 1500)),
			      .seed = test_random(&u->random) };
	error = berth_map_runs(soak.pool, r->bytes, run, flags, &address);
	check(u, !error || error == -BERTH_ENOMEM, error);
	if (error)
		return;
	r->address = address;
	check(u, is_zero(r->address, r->bytes), 0);
	pattern_fill(r->address, r->bytes, r->seed);
}

static void grow(struct user *u, struct region *r)
{
	size_t more = PAGE * (1 + below(u, 40));
	int error = berth_grow(soak.pool, r->address, r->bytes, r->bytes + more);

	check(u, !error || error == -BERTH_ENOMEM, error);
	if (error)
		return;
	check(u, is_zero(r->address + r->bytes, more), 0);
	r->bytes += more;
	pattern_fill(r->address, r->bytes, r->seed);
}

static void use_region(struct user *u)
{
	struct region *r = &u->regions[below(u, NR_REGIONS)];
	unsigned choice = (unsigned)below(u, 10);

	if (!r->address) {
		take(u, r);
	} else if (choice < 3) {
		drop(u, r);
	} else if (choice < 5) {
		verify_region(u, r);
	} else if (choice < 7) {
		r->seed = test_random(&u->random);
		pattern_fill(r->address, r->bytes, r->seed);
	} else if (choice < 8) {
		grow(u, r);
	} else if (r->pinned) {
		unpin(u, r);
	} else if (chance(u, 40)) {
		pin(u, r);
	}
}

/* ---- Claims ---------------------------------------------------------------------------------------------- */

static struct berth_claim_options random_options(struct user *u)
{
	static const unsigned flags[] = {
		0,
		0,
		0,
		BERTH_ZERO,
		BERTH_CLAIM_FIRST_FIT,
		BERTH_CLAIM_FREE_ONLY,
		BERTH_CLAIM_NORETRY,
		BERTH_CLAIM_ASYNC,
		BERTH_CLAIM_SYNC_LIGHT,
		BERTH_CLAIM_DROP | BERTH_ZERO,
	};
	static const uint64_t timeouts[] = { 0, 0, 50000, 1000000, 20000000 };
	struct berth_claim_options options = {
		.flags = flags[below(u, ARRAY_SIZE(flags))],
		.timeout_ns = timeouts[below(u, ARRAY_SIZE(timeouts))],
		.name = "soak",
	};

	if (chance(u, 30))
		options.align_bytes = (size_t)PAGE << below(u, 11);
	return options;
}

static bool may_be_refused(int error)
{
	return error == -BERTH_EBUSY || error == -BERTH_ENOMEM || error == -BERTH_ENOSPC ||
	       error == -BERTH_EAGAIN || error == -BERTH_E2BIG;
}

static void fill_claim(struct user *u, const struct berth_buffer *buffer, bool zeroed,
		       uint64_t seed)
{
	if (zeroed)
		check(u, is_zero(buffer->address, buffer->bytes), 0);
	pattern_fill(buffer->address, buffer->bytes, seed);
	u->did.claims++;
}

static void verify_claim(struct user *u, const struct berth_buffer *buffer, uint64_t seed)
{
	size_t at = pattern_differs(buffer->address, buffer->bytes, seed);

	check(u, at == buffer->bytes / 8, 0);
}

static void give_back(struct user *u, struct held *h)
{
	int error;

	verify_claim(u, &h->buffer, h->seed);
	error = berth_release(soak.pool, &h->buffer);
	check(u, error == 0, error);
	h->buffer.bytes = 0;
}

static size_t random_size(struct user *u, size_t most)
{
	return PAGE * (1 + below(u, chance(u, 60) ? 64 : most / PAGE));
}

static void claim(struct user *u, struct held *h)
{
	struct berth_claim_options options = random_options(u);
	bool by_device = chance(u, 30);
	const char *area = chance(u, 20) ? NULL : areas[below(u, ARRAY_SIZE(areas))];
	struct berth_claim_report report;
	int error;

	if (by_device)
		error = berth_claim_for(soak.pool, devices[below(u, ARRAY_SIZE(devices))],
					random_size(u, 8 * MIB), &options, &h->buffer, &report);
	else
		error = berth_claim(soak.pool, area, random_size(u, 8 * MIB), &options, &h->buffer,
				    &report);
	if (error) {
		check(u, may_be_refused(error) && report.error == error, error);
		h->buffer.bytes = 0;
		u->did.refused++;
		return;
	}
	h->seed = test_random(&u->random);
	fill_claim(u, &h->buffer, options.flags & BERTH_ZERO, h->seed);
}

static void bulk(struct user *u)
{
	struct berth_claim_options options = random_options(u);
	unsigned nr = 1 + (unsigned)below(u, NR_BULK);
	unsigned flags = chance(u, 50) ? BERTH_BULK_AS_MANY_AS_POSSIBLE : 0;
	struct berth_buffer buffers[NR_BULK];
	uint64_t seed = test_random(&u->random);
	int got = berth_claim_bulk(soak.pool, areas[below(u, ARRAY_SIZE(areas))],
				   random_size(u, 256 * KIB), &options, nr, flags, buffers, NULL);

	if (got < 0) {
		check(u, may_be_refused(got), got);
		u->did.refused++;
		return;
	}
	check(u, flags ? got > 0 && got <= (int)nr : got == (int)nr, 0);
	for (int i = 0; i < got; i++)
		fill_claim(u, &buffers[i], options.flags & BERTH_ZERO, seed + (unsigned)i);
	for (int i = 0; i < got; i++)
		verify_claim(u, &buffers[i], seed + (unsigned)i);
	got = berth_release_bulk(soak.pool, buffers, (unsigned)got);
	check(u, got == 0, got);
	u->did.bulks++;
}

/* The preparation is over after it. */
static void end_prepared(struct user *u)
{
	struct berth_buffer buffer;
	uint64_t seed = test_random(&u->random);
	int error;

	if (!u->prepared)
		return;
	if (chance(u, 30)) {
		error = berth_prepare_cancel(u->prepared);
		check(u, error == 0, error);
		u->prepared = NULL;
		return;
	}
	error = berth_prepare_take(u->prepared, 60 * SECOND_NS, &buffer, NULL);
	u->prepared = NULL;
	if (error) {
		check(u, may_be_refused(error), error);
		u->did.refused++;
		return;
	}
	fill_claim(u, &buffer, false, seed);
	verify_claim(u, &buffer, seed);
	error = berth_release(soak.pool, &buffer);
	check(u, error == 0, error);
	u->did.prepared++;
}

static void prepare(struct user *u)
{
	struct berth_claim_options options = random_options(u);
	int error;

	if (u->prepared) {
		end_prepared(u);
		return;
	}
	error = berth_prepare(soak.pool, areas[below(u, 2)], random_size(u, 8 * MIB), &options,
			      &u->prepared);
	check(u, !error || error == -BERTH_E2BIG || error == -BERTH_ENOMEM, error);
	if (error)
		u->prepared = NULL;
}

static void use_claims(struct user *u)
{
	struct held *h = &u->held[below(u, NR_HELD)];
	unsigned choice = (unsigned)below(u, 10);

	if (choice < 2)
		bulk(u);
	else if (choice < 4)
		prepare(u);
	else if (h->buffer.bytes)
		give_back(u, h);
	else
		claim(u, h);
}

static void change_lending(struct user *u)
{
	size_t keep = chance(u, 50) ? 0 : below(u, 8 * MIB);
	int error = berth_area_set_lend(soak.pool, areas[below(u, 2)],
					(enum berth_lend_policy)below(u, 4), keep);

	check(u, error == 0, error);
}

/* ---- The store: a page says whose it is and which version ------------------------------------------------- */

static void use_store(struct user *u)
{
	unsigned at = (unsigned)below(u, NR_KEYS);
	struct berth_store_key key = { u->id + 1, at };
	uint64_t seed = ((uint64_t)u->id << 48) + ((uint64_t)at << 32);
	int error;

	if (chance(u, 40)) {
		pattern_fill(u->page, PAGE, seed + u->versions[at] + 1);
		error = berth_store_put(soak.store, &key, u->page);
		check(u, !error || error == -BERTH_ENOSPC, error);
		u->versions[at]++;
		u->did.puts++;
	} else if (chance(u, 5)) {
		(void)berth_store_drop(soak.store, &key);
		error = berth_store_get(soak.store, &key, u->page);
		check(u, error == -BERTH_ENOENT, error);
	} else {
		error = berth_store_get(soak.store, &key, u->page);
		check(u, !error || error == -BERTH_ENOENT, error);
		check(u,
		      error || pattern_differs(u->page, PAGE, seed + u->versions[at]) == PAGE / 8,
		      0);
		u->did.gets++;
		u->did.hits += !error;
	}
}

/* ---- Forks ------------------------------------------------------------------------------------------------- */

/* The child has this thread's memory, as it was; its handle is stale. */
static void fork_and_look(struct user *u)
{
	bool could_fail = may_fail;
	pid_t pid;
	int status;

	may_fail = false; /* a handler of fork has nobody to tell */
	pid = fork();
	check(u, pid >= 0, 0);
	if (pid == 0) {
		struct berth_buffer buffer;

		child_no_core();
		alarm(120);
		for (unsigned i = 0; i < NR_REGIONS; i++)
			child_check(!u->regions[i].address ||
				    pattern_differs(u->regions[i].address, u->regions[i].bytes,
						    u->regions[i].seed) == u->regions[i].bytes / 8);
		child_check(berth_claim(soak.pool, NULL, PAGE, NULL, &buffer, NULL) ==
			    -BERTH_ESTALE);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		check(u, errno == EINTR, 0);
	check(u, WIFEXITED(status) && WEXITSTATUS(status) == 0, 0);
	may_fail = could_fail;
	u->did.forks++;
}

/* ---- Rounds ------------------------------------------------------------------------------------------------- */

static void *user_run(void *argument)
{
	struct user *u = argument;
	bool injects = chance(u, 50);

	fail_random = test_random(&u->random);
	while (!atomic_load_explicit(&soak.stop, memory_order_relaxed)) {
		unsigned choice = (unsigned)below(u, 1000);

		may_fail = injects;
		if (choice < 500)
			use_region(u);
		else if (choice < 700)
			use_claims(u);
		else if (choice < 990)
			for (unsigned i = 0; i < 20; i++)
				use_store(u);
		else if (choice < 997)
			change_lending(u);
		else
			fork_and_look(u);
		u->did.ops++;
	}
	may_fail = false;
	end_prepared(u);
	return NULL;
}

static void run_round(uint64_t milliseconds)
{
	uint64_t end = now_ns() + milliseconds * 1000000, cursor = 0;

	atomic_store(&soak.stop, false);
	for (unsigned i = 0; i < NR_USERS; i++)
		assert_int_equal(
			pthread_create(&soak.users[i].thread, NULL, user_run, &soak.users[i]), 0);
	while (now_ns() < end) {
		int64_t moved = berth_shuffle(soak.pool, &cursor);

		assert_true(moved >= 0 || moved == -BERTH_EBUSY || moved == -BERTH_ENOMEM);
		usleep(2000);
	}
	atomic_store(&soak.stop, true);
	for (unsigned i = 0; i < NR_USERS; i++)
		pthread_join(soak.users[i].thread, NULL);
}

/* Nobody is at it: the pool has what the threads have, and each byte of that is right. */
static void look_at_everything(void)
{
	struct berth_pool_stats s = pool_stats(soak.pool);
	struct berth_violation v = { 0 };
	uint64_t mapped = 0, claimed = 0, held = 0, pins = 0;

	pool_ok(soak.pool);
	if (!berth_store_check(soak.store, &v))
		fail_msg("store check: %s at %#llx", v.what, (unsigned long long)v.where);
	for (unsigned i = 0; i < NR_USERS; i++) {
		struct user *u = &soak.users[i];

		for (unsigned j = 0; j < NR_REGIONS; j++) {
			if (!u->regions[j].address)
				continue;
			verify_region(u, &u->regions[j]);
			mapped += u->regions[j].bytes;
			pins += u->regions[j].pinned;
		}
		for (unsigned j = 0; j < NR_HELD; j++) {
			if (!u->held[j].buffer.bytes)
				continue;
			verify_claim(u, &u->held[j].buffer, u->held[j].seed);
			claimed += u->held[j].buffer.bytes;
			held++;
		}
	}
	assert_int_equal(s.mapped_bytes, mapped);
	assert_int_equal(s.pins, pins);
	assert_int_equal(s.claims_held, held);
	assert_int_equal(berth_pool_held(soak.pool, NULL, 0), held);
	assert_true(s.claimed_bytes >= claimed);
}

/* All of it goes back: the pool is as it was at first. */
static void give_everything_back(uint64_t free_bytes, uint64_t claimed_bytes)
{
	for (unsigned i = 0; i < NR_USERS; i++) {
		struct user *u = &soak.users[i];

		for (unsigned j = 0; j < NR_REGIONS; j++)
			if (u->regions[j].address)
				drop(u, &u->regions[j]);
		for (unsigned j = 0; j < NR_HELD; j++)
			if (u->held[j].buffer.bytes)
				give_back(u, &u->held[j]);
	}
	berth_pcp_drain_all(soak.impl->zone);
	pool_ok(soak.pool);
	assert_int_equal(pool_stats(soak.pool).mapped_bytes, 0);
	assert_int_equal(pool_stats(soak.pool).claims_held, 0);
	assert_int_equal(pool_stats(soak.pool).claimed_bytes, claimed_bytes);
	assert_int_equal(pool_stats(soak.pool).free_bytes, free_bytes);
}

static void open_pool(void)
{
	const struct berth_pool_params params = {
		.bytes = 80 * MIB,
		.config =
			"areas=camera:24M,lend=first;video:12M,lend=balanced;dma:4M,policy=reserve;"
			"guard:8M,policy=gcma devices=cam*:camera,nic0:dma,gpu0:guard "
			"default=video",
		.flags = BERTH_POOL_POISON,
	};

	must(berth_pool_open(&params, &soak.pool));
	soak.impl = berth__enter(soak.pool);
	assert_non_null(soak.impl);
	berth__leave(soak.pool);
	must(berth_pool_store(soak.pool, "guard", &soak.store));
	let_it_fail();
	for (unsigned i = 0; i < NR_USERS; i++) {
		soak.users[i] = (struct user){ .id = i, .random = soak.seed * NR_USERS + i };
		soak.users[i].page = aligned_alloc(64, PAGE);
		assert_non_null(soak.users[i].page);
	}
}

static struct counts totals(void)
{
	struct counts sum = { 0 };

	for (unsigned i = 0; i < NR_USERS; i++) {
		const struct counts *did = &soak.users[i].did;

		sum.ops += did->ops;
		sum.claims += did->claims;
		sum.refused += did->refused;
		sum.bulks += did->bulks;
		sum.prepared += did->prepared;
		sum.pins += did->pins;
		sum.forks += did->forks;
		sum.gets += did->gets;
		sum.hits += did->hits;
		sum.puts += did->puts;
	}
	return sum;
}

static void everybody_at_once(void **state)
{
	uint64_t seconds = test_env("BERTH_SOAK_SECONDS", 2), end = now_ns() + seconds * SECOND_NS;
	uint64_t free_bytes, claimed_bytes, rounds = 0;
	struct berth_pool_stats s;
	struct counts did;

	(void)state;
	soak.seed = test_env("BERTH_SOAK_SEED", now_ns() % 1000000);
	open_pool();
	berth_pcp_drain_all(soak.impl->zone);
	free_bytes = pool_stats(soak.pool).free_bytes;
	claimed_bytes = pool_stats(soak.pool).claimed_bytes;
	do {
		run_round(500);
		look_at_everything();
		if (++rounds % 3 == 0)
			give_everything_back(free_bytes, claimed_bytes);
	} while (now_ns() < end);
	give_everything_back(free_bytes, claimed_bytes);
	did = totals();
	s = pool_stats(soak.pool);
	print_message(
		"# seed %llu: %llu rounds in %llu s, %llu operations, %llu claims (%llu bulk calls, "
		"%llu prepared), %llu refused, %llu pins, %llu forks\n",
		(unsigned long long)soak.seed, (unsigned long long)rounds,
		(unsigned long long)((now_ns() - end) / SECOND_NS + seconds),
		(unsigned long long)did.ops, (unsigned long long)did.claims,
		(unsigned long long)did.bulks, (unsigned long long)did.prepared,
		(unsigned long long)did.refused, (unsigned long long)did.pins,
		(unsigned long long)did.forks);
	print_message(
		"# %llu MiB moved, %llu failures injected, %llu gets of the store, %llu hits, %llu puts\n",
		(unsigned long long)(s.moved_bytes / MIB),
		(unsigned long long)atomic_load(&soak.injected), (unsigned long long)did.gets,
		(unsigned long long)did.hits, (unsigned long long)did.puts);
	for (unsigned i = 0; i < NR_USERS; i++)
		free(soak.users[i].page);
	pool_close(soak.pool);
}

/* Memory ends in the middle of a map, and then it can't be undone at once, or not even at second try: it fails
 * all the same, and nothing of it is lost. */
static void a_map_that_can_not_be_undone_leaves_nothing(void **state)
{
	(void)state;
	soak.seed = 1;
	open_pool();
	for (unsigned refused = 0; refused <= 2; refused++) {
		struct berth_pool_stats before = pool_stats(soak.pool), after;
		void *address = NULL, *small = NULL;

		refused_unmaps = refused;
		assert_int_equal(berth_map(soak.pool, 200 * MIB, 0, &address), -BERTH_ENOMEM);
		assert_int_equal(refused_unmaps, 0);
		after = pool_stats(soak.pool);
		assert_true(refused == 2 || after.mapped_bytes == before.mapped_bytes);
		/* The same addresses, free of what was left there. */
		must(berth_map(soak.pool, 4 * MIB, 0, &small));
		assert_true(is_zero(small, 4 * MIB));
		must(berth_unmap(soak.pool, small, 4 * MIB));
		refused_unmaps = 0;
		if (refused == 2) { /* all of them */
			must(berth_map(soak.pool, 8 * MIB, 0, &small));
			must(berth_grow(soak.pool, small, 8 * MIB, 20 * MIB));
			must(berth_unmap(soak.pool, small, 20 * MIB));
		}
		pool_ok(soak.pool);
	}
	for (unsigned i = 0; i < NR_USERS; i++)
		free(soak.users[i].page);
	pool_close(soak.pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_map_that_can_not_be_undone_leaves_nothing),
		cmocka_unit_test(everybody_at_once),
	};

	return cmocka_run_group_tests_name("soak", tests, NULL, NULL);
}
