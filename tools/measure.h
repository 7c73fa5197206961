/* SPDX-License-Identifier: MIT */
/*
 * What the benchmarks share: clocks, samples, random numbers, memory and the cost of memcpy, being
 * interrupted, progress.
 */
#ifndef BERTH_TOOLS_MEASURE_H
#define BERTH_TOOLS_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

/* ---- Clocks ---------------------------------------------------------------------------------- */

static inline uint64_t berth__clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline double berth__us_since(clockid_t clock, uint64_t began_ns)
{
	return (double)(berth__clock_ns(clock) - began_ns) / 1000;
}

/*
 * The cheapest clock that all CPUs agree on: the time stamp counter where it is constant, else
 * CLOCK_MONOTONIC. berth__ticks_start() picks and calibrates it; call it before the first tick.
 */
extern bool berth__ticks_are_tsc;
void berth__ticks_start(void);
static inline uint64_t berth__ticks(void)
{
#if defined(__x86_64__)
	if (__builtin_expect(berth__ticks_are_tsc, 1))
		return __rdtsc();
#endif
	return berth__clock_ns(CLOCK_MONOTONIC);
}
double berth__ticks_ns(uint64_t ticks);

/* ---- Samples --------------------------------------------------------------------------------- */

struct berth__samples {
	double *values; /* NULL until the first one */
	size_t nr, room;
};
/* Stops the program when there is no memory. */
void berth__sample_add(struct berth__samples *samples, double value);
/* Nearest rank, 0 < percent <= 100; 0 of none. Sorts the samples. */
double berth__percentile(struct berth__samples *samples, double percent);
/* The smallest; 0 of none. */
double berth__sample_min(const struct berth__samples *samples);
double berth__sample_max(const struct berth__samples *samples);
void berth__samples_free(struct berth__samples *samples);

/* ---- Random numbers -------------------------------------------------------------------------- */

/* Mixes 64 bits: different values give unrelated ones (the finaliser of splitmix64). */
static inline uint64_t berth__mix(uint64_t value)
{
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ value >> 27) * 0x94d049bb133111ebull;
	return value ^ value >> 31;
}
/* The next number of a sequence (splitmix64). */
static inline uint64_t berth__random(uint64_t *state)
{
	return berth__mix(*state += 0x9e3779b97f4a7c15ull);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

/* Zeroed memory with pages behind it, or NULL. */
void *berth__map_resident(size_t bytes);
void berth__unmap_resident(void *at, size_t bytes);
/* Writes to each page of a claimed buffer; what that took, in us. `all`: after the clock, to the rest as well, which no
 * borrower may see. */
double berth__touch_us(void *buffer, size_t bytes, bool all);
/* What the system could give now without swapping, and all that it has, swap included; UINT64_MAX
 * where it can't be told. */
uint64_t berth__available_bytes(void);
uint64_t berth__total_bytes(void);

/* memcpy between two memories of `bytes` each that are mapped like a pool. */
struct berth__memcpy;
/* NULL: no memory. */
struct berth__memcpy *berth__memcpy_open(size_t bytes);
void berth__memcpy_close(struct berth__memcpy *copy);
/* Copies from one to the other, and back at the next call; what a MiB cost, in us. */
double berth__memcpy_us_per_mib(struct berth__memcpy *copy);

/* ---- CPUs ------------------------------------------------------------------------------------- */

/* The first ones that this thread may run on, at most `most`; returns how many. */
unsigned berth__find_cpus(int *cpus, unsigned most);
/* This thread runs on this one from now on, if it can. */
void berth__stay_on(int cpu);

/* ---- Being run ------------------------------------------------------------------------------- */

/* From now on SIGINT, SIGTERM and SIGHUP only make berth__interrupted() true; the third one
 * kills. */
void berth__catch_interrupts(void);
bool berth__interrupted(void);
/* The exit code after an interruption. */
int berth__interrupted_code(void);

/* Shows how far it is, on stderr, if that is a terminal and it takes more than a second. */
void berth__progress(const char *what, uint64_t done, uint64_t total);
void berth__progress_end(void);

#endif
