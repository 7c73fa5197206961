/* SPDX-License-Identifier: MIT */
/*
 * GCMA areas by real threads, more than there are CPUs, so that fillers are preempted within their copies:
 * what was read is what was stored, whole; a claim isn't written to, however late the filler goes on.
 *
 *	BERTH_TEST_MS=n   how long (1500)
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "port/linux/port_linux.h"
#include "tests/include/testgcma.h"
#include "tests/include/testthreads.h"

#define GRANULES 64u
#define WORDS (BERTH_PAGE_SIZE / 8) /* of a frame; a granule has one for each filler */
#define FILLERS 4u
#define CLAIMERS 2u
#define FRAMES (1u << 2)

struct shared {
	struct berth_gcma *area;
	_Atomic uint64_t *memory; /* [granule][frame][word] */
	/* What is there: generation << 32 | value; 0: nothing. Written by the frame's filler. */
	_Atomic uint64_t notes[GRANULES][FILLERS];
	_Atomic bool stop;
	_Atomic uint64_t nr_filled, nr_refused, nr_read, nr_claimed, nr_full;
};

struct thread {
	struct shared *shared;
	pthread_t thread;
	unsigned id;
	uint64_t random;
};

static _Atomic uint64_t *frame_of(struct shared *s, unsigned granule, unsigned frame)
{
	return s->memory + ((size_t)granule * FRAMES + frame) * WORDS;
}

#if defined(__SANITIZE_THREAD__) || TEST_HAS_FEATURE(thread_sanitizer)
#define BY_WORDS 1 /* readers are beside it by design: the sanitizer must see atomics */
#else
#define BY_WORDS 0
#endif

/* In a thread of its own an assertion couldn't end the test. */
static bool store(struct shared *s, unsigned granule, uint64_t generation, _Atomic uint64_t *to,
		  uint64_t value, bool by_words)
{
	uint64_t page[WORDS];

	for (unsigned i = 0; i < WORDS; i++)
		page[i] = value + i;
	if (!by_words)
		return berth_gcma_fill(s->area, granule, generation, (void *)to, page,
				       sizeof(page));
	if (!berth_gcma_fill_begin(s->area, granule, generation))
		return false;
	for (unsigned i = 0; i < WORDS; i++)
		atomic_store_explicit(&to[i], page[i], memory_order_relaxed);
	berth_gcma_fill_end(s->area);
	return true;
}

static void *fill(void *arg)
{
	struct thread *t = arg;
	struct shared *s = t->shared;
	uint64_t value = 0;

	while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
		unsigned granule = (unsigned)test_random_below(&t->random, GRANULES);
		uint64_t generation = berth_gcma_generation(s->area, granule);
		_Atomic uint64_t *note = &s->notes[granule][t->id];

		value = (value + 1) & 0xffffff;
		atomic_store_explicit(note, 0, memory_order_relaxed);
		atomic_thread_fence(memory_order_release);
		if (store(s, granule, generation, frame_of(s, granule, t->id), value << 32,
			  BY_WORDS || t->id == 0)) {
			atomic_store_explicit(note, generation << 32 | value, memory_order_release);
			atomic_fetch_add_explicit(&s->nr_filled, 1, memory_order_relaxed);
		} else {
			atomic_fetch_add_explicit(&s->nr_refused, 1, memory_order_relaxed);
		}
	}
	return NULL;
}

static void *read_all(void *arg)
{
	struct thread *t = arg;
	struct shared *s = t->shared;
	uint64_t copy[WORDS];

	while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
		unsigned granule = (unsigned)test_random_below(&t->random, GRANULES);
		unsigned frame = (unsigned)test_random_below(&t->random, FILLERS);
		_Atomic uint64_t *at = &s->notes[granule][frame];
		uint64_t note = atomic_load_explicit(at, memory_order_acquire);

		if (!note)
			continue;
		for (unsigned i = 0; i < WORDS; i++)
			copy[i] = atomic_load_explicit(&frame_of(s, granule, frame)[i],
						       memory_order_relaxed);
		if (!berth_gcma_still(s->area, granule, note >> 32) ||
		    atomic_load_explicit(at, memory_order_relaxed) != note)
			continue;
		for (unsigned i = 0; i < WORDS; i++)
			require_equal("a word that was read", copy[i],
				      ((note & 0xffffffff) << 32) + i);
		atomic_fetch_add_explicit(&s->nr_read, 1, memory_order_relaxed);
	}
	return NULL;
}

static void use_claim(struct thread *t, berth_pfn_t pfn, uint64_t nr_pages)
{
	_Atomic uint64_t *words = t->shared->memory + pfn * WORDS;
	uint64_t mark = 0xc1a1000000000000u + test_random_below(&t->random, 1u << 30);

	for (uint64_t i = 0; i < nr_pages * WORDS; i += 8)
		atomic_store_explicit(&words[i], mark, memory_order_relaxed);
	if (test_random_below(&t->random, 8) == 0) /* let them go on who were preempted */
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	else
		sched_yield();
	for (uint64_t i = 0; i < nr_pages * WORDS; i += 8)
		require_equal("a claim was written to",
			      atomic_load_explicit(&words[i], memory_order_relaxed), mark);
}

static void *claim(void *arg)
{
	struct thread *t = arg;
	struct shared *s = t->shared;

	while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
		struct berth_claim_params params = {
			.nr_pages = 1 + test_random_below(&t->random, GRANULES * FRAMES / 3),
		};
		berth_pfn_t pfn;
		int error = berth_gcma_alloc(s->area, &params, &pfn, NULL);

		if (error) {
			require_ret("a claim", error, -BERTH_ENOSPC);
			atomic_fetch_add_explicit(&s->nr_full, 1, memory_order_relaxed);
			continue;
		}
		use_claim(t, pfn, params.nr_pages);
		require_ret("a release", berth_gcma_release(s->area, pfn, params.nr_pages), 0);
		atomic_fetch_add_explicit(&s->nr_claimed, 1, memory_order_relaxed);
		nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
	}
	return NULL;
}

static void start(struct thread *t, struct shared *s, unsigned id, void *(*body)(void *))
{
	*t = (struct thread){ .shared = s, .id = id, .random = (uintptr_t)body + id };
	assert_int_equal(pthread_create(&t->thread, NULL, body, t), 0);
}

static void nobody_writes_to_a_claim(void **state)
{
	uint64_t run_ns = test_env("BERTH_TEST_MS", 1500) * 1000000u;
	struct shared *s = test_zalloc(1, sizeof(*s));
	struct thread threads[FILLERS + CLAIMERS + 1];
	struct berth_gcma_params params = { .name = "threads",
					    .nr_pages = GRANULES * FRAMES,
					    .granule_order = 2,
					    .nr_cpus = BERTH_LINUX_SLOTS,
					    .port = berth_port_linux_ops() };
	size_t bytes = berth_gcma_metadata_size(&params);
	struct berth_gcma_stats stats;
	struct berth_violation v;
	void *metadata = NULL;
	unsigned nr = 0;

	(void)state;
	assert_int_equal(posix_memalign(&metadata, 64, bytes), 0);
	assert_int_equal(posix_memalign((void **)&s->memory, BERTH_PAGE_SIZE,
					params.nr_pages * BERTH_PAGE_SIZE),
			 0);
	memset((void *)s->memory, 0, params.nr_pages * BERTH_PAGE_SIZE);
	assert_int_equal(berth_gcma_init(&s->area, &params, metadata, bytes), 0);
	for (unsigned i = 0; i < FILLERS; i++)
		start(&threads[nr++], s, i, fill);
	for (unsigned i = 0; i < CLAIMERS; i++)
		start(&threads[nr++], s, i, claim);
	start(&threads[nr++], s, 0, read_all);
	nanosleep(&(struct timespec){ (time_t)(run_ns / 1000000000u),
				      (long)(run_ns % 1000000000u) },
		  NULL);
	atomic_store(&s->stop, true);
	while (nr)
		assert_int_equal(pthread_join(threads[--nr].thread, NULL), 0);
	berth_gcma_stats(s->area, &stats);
	print_message("# %llu filled, %llu refused, %llu read, %llu claimed, %llu without room; "
		      "%llu waited for fillers, %llu us at most\n",
		      (unsigned long long)s->nr_filled, (unsigned long long)s->nr_refused,
		      (unsigned long long)s->nr_read, (unsigned long long)s->nr_claimed,
		      (unsigned long long)s->nr_full, (unsigned long long)stats.filler_waits,
		      (unsigned long long)stats.longest_wait_ns / 1000);
	if (!berth_gcma_check(s->area, &v))
		fail_msg("%s at %llu: %llu, expected %llu", v.what, (unsigned long long)v.where,
			 (unsigned long long)v.value, (unsigned long long)v.expected);
	assert_int_equal(stats.claimed_pages, 0);
	assert_true(s->nr_filled > 0 && s->nr_read > 0 && s->nr_claimed > 0);
	free((void *)s->memory);
	free(metadata);
	free(s);
}

/* ---- A copy that lasts ------------------------------------------------------------------------- */

#define LONG_BYTES ((size_t)BERTH_PAGE_SIZE << BERTH_GCMA_MAX_GRANULE_ORDER) /* of one copy */

struct long_copy {
	struct berth_gcma *area;
	_Atomic uint64_t *memory; /* one granule */
	char *source;
	_Atomic bool together; /* there are no two CPUs */
	_Atomic bool stop;
	_Atomic uint64_t nr_done,
		nr_ended; /* copies; those that ended since the granule was closed */
};

/* Filler and claimer don't share a CPU, or the kernel would preempt the one for the other. */
static bool stay_on(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0;
}

static void *fill_long(void *arg)
{
	struct long_copy *c = arg;

	if (!stay_on(1))
		atomic_store(&c->together, true);
	while (!atomic_load_explicit(&c->stop, memory_order_relaxed)) {
		uint64_t generation = berth_gcma_generation(c->area, 0);

		if (!berth_gcma_open(generation))
			sched_yield();
		else if (berth_gcma_fill(c->area, 0, generation, (void *)c->memory, c->source,
					 LONG_BYTES))
			atomic_fetch_add_explicit(&c->nr_done, 1, memory_order_relaxed);
		else
			atomic_fetch_add_explicit(&c->nr_ended, 1, memory_order_relaxed);
	}
	return NULL;
}

/* Claims in the middle of copies; how often somebody wrote to the claim after all. *nr_ended: copies that were
 * ended by a claim on another CPU. */
static uint64_t claim_amid_copies(const struct berth_port_ops *port, unsigned nr_claims,
				  uint64_t *nr_ended)
{
	struct berth_gcma_params params = { .name = "long",
					    .nr_pages = 1u << BERTH_GCMA_MAX_GRANULE_ORDER,
					    .granule_order = BERTH_GCMA_MAX_GRANULE_ORDER,
					    .nr_cpus = BERTH_LINUX_SLOTS,
					    .port = port };
	const struct berth_claim_params claim_params = { .nr_pages = 1 };
	size_t bytes = berth_gcma_metadata_size(&params);
	struct long_copy c = { .source = test_zalloc(1, LONG_BYTES) };
	void *metadata = NULL, *memory = NULL;
	uint64_t nr_written = 0;
	pthread_t thread;
	cpu_set_t before;

	assert_int_equal(posix_memalign(&metadata, 64, bytes), 0);
	assert_int_equal(posix_memalign(&memory, BERTH_PAGE_SIZE, LONG_BYTES), 0);
	memset(memory, 0, LONG_BYTES);
	memset(c.source, 0x5a, LONG_BYTES);
	c.memory = memory;
	assert_int_equal(berth_gcma_init(&c.area, &params, metadata, bytes), 0);
	assert_int_equal(pthread_create(&thread, NULL, fill_long, &c), 0);
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	if (!stay_on(0))
		atomic_store(&c.together, true);
	for (unsigned i = 0; i < nr_claims; i++) {
		const size_t last = LONG_BYTES / 8 - 1;
		berth_pfn_t pfn;

		nanosleep(&(struct timespec){ .tv_nsec = 300000 + 7000 * (i % 40) }, NULL);
		assert_int_equal(berth_gcma_alloc(c.area, &claim_params, &pfn, NULL), 0);
		atomic_store_explicit(&c.memory[last], i, memory_order_relaxed);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		nr_written += atomic_load_explicit(&c.memory[last], memory_order_relaxed) != i;
		assert_int_equal(berth_gcma_release(c.area, pfn, 1), 0);
	}
	atomic_store(&c.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
	*nr_ended = c.together ? 0 : atomic_load(&c.nr_ended);
	print_message("# %llu copies, %llu ended, %llu claims written to\n",
		      (unsigned long long)c.nr_done, (unsigned long long)c.nr_ended,
		      (unsigned long long)nr_written);
	free(metadata);
	free(memory);
	free(c.source);
	return nr_written;
}

#ifdef BERTH_HAVE_COPY_IN
static bool do_nothing(void *ctx)
{
	(void)ctx;
	return true;
}
#endif

static void a_long_copy_ends_when_its_granule_is_claimed(void **state)
{
	const struct berth_port_ops *port = berth_port_linux_ops();
	uint64_t nr_ended;

	(void)state;
	assert_int_equal(claim_amid_copies(port, 200, &nr_ended), 0);
#ifdef BERTH_HAVE_COPY_IN
	if (port->restart_copies && berth_copy_restarts() && nr_ended) {
		struct berth_port_ops lying = *port;

		/* Without the kernel's help they would go on: this test sees that. */
		lying.restart_copies = do_nothing;
		assert_true(claim_amid_copies(&lying, 200, &nr_ended) > 0);
	}
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_writes_to_a_claim),
		cmocka_unit_test(a_long_copy_ends_when_its_granule_is_claimed),
	};

	return cmocka_run_group_tests_name("gcma threads", tests, NULL, NULL);
}
