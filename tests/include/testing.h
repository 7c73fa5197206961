/* SPDX-License-Identifier: MIT */
/*
 * What every test needs: cmocka, a port whose clock and panics the test scripts, a seeded random
 * generator, and the slot of the calling thread.
 *
 * Header-only, so that each test is one translation unit beside the core.
 */
#ifndef BERTH_TESTING_H
#define BERTH_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <berth/core.h>
#include <berth_port.h>

/* Sanitizers make everything several times slower: long runs are cut by this. */
#ifdef __has_feature
#define TEST_HAS_FEATURE(x) __has_feature(x)
#else
#define TEST_HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || TEST_HAS_FEATURE(thread_sanitizer)
#define TEST_SLOWDOWN 12u
#elif defined(__SANITIZE_ADDRESS__) || TEST_HAS_FEATURE(address_sanitizer)
#define TEST_SLOWDOWN 4u
#else
#define TEST_SLOWDOWN 1u
#endif

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* ---- A scripted port ------------------------------------------------------------------------- */

struct test_port {
	uint64_t clock_ns; /* what now_ns() says next */
	uint64_t tick_ns;  /* by how much each reading advances it */
	uint64_t nr_waits;
	uint64_t waited_ns;
	uint64_t nr_barriers;
	uint64_t poisoned_pages;
	void (*on_wait)(void *ctx); /* changes the test's script; calls nothing of the core */
	void *on_wait_ctx;
	bool catches; /* a panic jumps to `caught` instead of failing the test */
	jmp_buf caught;
	const char *what; /* the last panic */
	uint64_t value, expected;
};

static inline uint64_t test_port_now_ns(void *ctx)
{
	struct test_port *port = ctx;

	port->clock_ns += port->tick_ns;
	return port->clock_ns;
}

static inline void test_port_barrier_all(void *ctx)
{
	((struct test_port *)ctx)->nr_barriers++;
}

static inline void test_port_wait(void *ctx, uint64_t ns)
{
	struct test_port *port = ctx;

	port->nr_waits++;
	port->waited_ns += ns;
	port->clock_ns += ns;
	if (port->on_wait)
		port->on_wait(port->on_wait_ctx);
}

static inline void test_port_panic(void *ctx, const char *what, uint64_t value, uint64_t expected)
{
	struct test_port *port = ctx;

	port->what = what;
	port->value = value;
	port->expected = expected;
	if (port->catches)
		longjmp(port->caught, 1);
	print_error("panic: %s: value %#llx, expected %#llx\n", what, (unsigned long long)value,
		    (unsigned long long)expected);
	fail();
	abort();
}

static inline void test_port_poison(void *ctx, berth_pfn_t pfn, uint64_t nr_pages)
{
	(void)pfn;
	((struct test_port *)ctx)->poisoned_pages += nr_pages;
}

static const struct berth_port_ops test_port_ops __attribute__((unused)) = {
	.now_ns = test_port_now_ns,
	.barrier_all = test_port_barrier_all,
	.wait = test_port_wait,
	.panic = test_port_panic,
	.poison = test_port_poison,
};

/* A port that can't make other CPUs pass a barrier: the per-CPU lists pay a fence instead. */
static const struct berth_port_ops test_port_ops_no_barrier __attribute__((unused)) = {
	.now_ns = test_port_now_ns,
	.wait = test_port_wait,
	.panic = test_port_panic,
};

/*
 * Passes when `statement` panics through `port`. The zone is lost afterwards: its locks may be
 * held.
 */
#define assert_panics(port, statement)                        \
	do {                                                  \
		(port)->catches = true;                       \
		(port)->what = NULL;                          \
		if (setjmp((port)->caught) == 0) {            \
			statement;                            \
			fail_msg("no panic: %s", #statement); \
		}                                             \
		(port)->catches = false;                      \
		assert_non_null((port)->what);                \
	} while (0)

/* ---- The calling thread's slot --------------------------------------------------------------- */

#define TEST_NO_CPU UINT32_MAX

/* Makes the calling thread act as this CPU, or as one without a slot. */
static inline void test_set_cpu(unsigned cpu)
{
	berth__thread_slot = cpu == TEST_NO_CPU ? BERTH_SLOT_REFUSED : cpu + 1;
}

/* ---- Random numbers -------------------------------------------------------------------------- */

/* SplitMix64 (Steele, Lea, Flood 2014): any seed is good, and equal seeds give equal runs. */
static inline uint64_t test_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* 0 .. bound - 1, nearly even. */
static inline uint64_t test_random_below(uint64_t *state, uint64_t bound)
{
	return bound ? test_random(state) % bound : 0;
}

static inline void test_shuffle(uint64_t *state, berth_pfn_t *a, size_t n)
{
	for (size_t i = n; i > 1; i--) {
		size_t j = test_random_below(state, i);
		berth_pfn_t t = a[i - 1];

		a[i - 1] = a[j];
		a[j] = t;
	}
}

/* ---- Beside ---------------------------------------------------------------------------------- */

/* A number from the environment: seeds, and how much to do. */
static inline uint64_t test_env(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 0) : otherwise;
}

/* calloc that fails the test instead of returning NULL. */
static inline void *test_zalloc(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size);

	assert_non_null(p);
	return p;
}

#endif
