/* SPDX-License-Identifier: MIT */
/*
 * What the benchmarks share.
 */
#define _GNU_SOURCE
#include "tools/measure.h"

#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "port/linux/pool.h"

/* ---- Clocks ---------------------------------------------------------------------------------- */

bool berth__ticks_are_tsc;
static double ns_per_tick = 1;

static bool tsc_is_constant(void)
{
#if defined(__x86_64__)
	unsigned a, b, c, d;

	return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & 1u << 8);
#else
	return false;
#endif
}

void berth__ticks_start(void)
{
	uint64_t ticks, ns, now;

	if (!tsc_is_constant())
		return;
	berth__ticks_are_tsc = true;
	ns = berth__clock_ns(CLOCK_MONOTONIC);
	ticks = berth__ticks();
	do
		now = berth__clock_ns(CLOCK_MONOTONIC);
	while (now - ns < 20000000);
	ns_per_tick = (double)(now - ns) / (double)(berth__ticks() - ticks);
}

double berth__ticks_ns(uint64_t ticks)
{
	return (double)ticks * ns_per_tick;
}

/* ---- Samples --------------------------------------------------------------------------------- */

void berth__sample_add(struct berth__samples *samples, double value)
{
	if (samples->nr == samples->room) {
		size_t room = samples->room ? 2 * samples->room : 64;
		double *values = realloc(samples->values, room * sizeof(*values));

		if (!values) {
			fputs("berth: no memory for the samples\n", stderr);
			exit(1);
		}
		samples->values = values;
		samples->room = room;
	}
	samples->values[samples->nr++] = value;
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

double berth__percentile(struct berth__samples *samples, double percent)
{
	size_t rank;

	if (!samples->nr)
		return 0;
	qsort(samples->values, samples->nr, sizeof(samples->values[0]), compare);
	/* 99.9 % of 1000 are 999, whatever a double makes of it. */
	rank = (size_t)ceil(percent * (double)samples->nr / 100 - 1e-6);
	return samples->values[rank ? rank - 1 : 0];
}

double berth__sample_min(const struct berth__samples *samples)
{
	double least = samples->nr ? samples->values[0] : 0;

	for (size_t i = 0; i < samples->nr; i++)
		least = fmin(least, samples->values[i]);
	return least;
}

double berth__sample_max(const struct berth__samples *samples)
{
	double most = 0;

	for (size_t i = 0; i < samples->nr; i++)
		most = fmax(most, samples->values[i]);
	return most;
}

void berth__samples_free(struct berth__samples *samples)
{
	free(samples->values);
	*samples = (struct berth__samples){ .nr = 0 };
}

/* ---- Memory ---------------------------------------------------------------------------------- */

void *berth__map_resident(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

void berth__unmap_resident(void *at, size_t bytes)
{
	if (at)
		munmap(at, bytes);
}

double berth__touch_us(void *buffer, size_t bytes, bool all)
{
	uint64_t began = berth__clock_ns(CLOCK_MONOTONIC);
	double us;

	for (size_t at = 0; at < bytes; at += BERTH_PAGE_SIZE)
		*((volatile char *)buffer + at) = 0x5a;
	us = berth__us_since(CLOCK_MONOTONIC, began);
	if (all)
		memset(buffer, 0x5a, bytes);
	return us;
}

/* The bytes on a line of /proc/meminfo; UINT64_MAX: there is no such line. */
static uint64_t meminfo(const char *label)
{
	FILE *file = fopen("/proc/meminfo", "re");
	uint64_t bytes = UINT64_MAX;
	char line[128];

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, label, strlen(label)) == 0)
			bytes = strtoull(line + strlen(label), NULL, 10) * 1024;
	if (file)
		fclose(file);
	return bytes;
}

uint64_t berth__available_bytes(void)
{
	return meminfo("MemAvailable:");
}

uint64_t berth__total_bytes(void)
{
	uint64_t memory = meminfo("MemTotal:"), swap = meminfo("SwapTotal:");

	return memory > UINT64_MAX - swap ? UINT64_MAX : memory + swap;
}

struct berth__memcpy {
	struct berth_memory memory; /* two halves */
	size_t half;
	bool back; /* the next copy goes from the second to the first */
};

struct berth__memcpy *berth__memcpy_open(size_t bytes)
{
	struct berth__memcpy *copy = calloc(1, sizeof(*copy));

	if (!copy)
		return NULL;
	copy->half = (bytes + BERTH_HUGE_BYTES - 1) / BERTH_HUGE_BYTES * BERTH_HUGE_BYTES;
	if (berth_memory_open(&copy->memory, 2 * copy->half) != 0) {
		free(copy);
		return NULL;
	}
	if (berth_memory_populate(&copy->memory, 0, copy->memory.bytes) != 0) {
		berth__memcpy_close(copy);
		return NULL;
	}
	return copy;
}

void berth__memcpy_close(struct berth__memcpy *copy)
{
	if (!copy)
		return;
	berth_memory_close(&copy->memory);
	free(copy);
}

double berth__memcpy_us_per_mib(struct berth__memcpy *copy)
{
	void *(*volatile copy_bytes)(void *, const void *, size_t) = memcpy;
	char *first = copy->memory.linear, *second = first + copy->half;
	uint64_t began = berth__clock_ns(CLOCK_MONOTONIC), ns;

	copy_bytes(copy->back ? first : second, copy->back ? second : first, copy->half);
	ns = berth__clock_ns(CLOCK_MONOTONIC) - began;
	copy->back = !copy->back;
	return (double)ns / 1000 / ((double)copy->half / (1 << 20));
}

/* ---- CPUs ------------------------------------------------------------------------------------- */

unsigned berth__find_cpus(int *cpus, unsigned most)
{
	unsigned nr = 0;
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		return 0;
	for (int cpu = 0; cpu < CPU_SETSIZE && nr < most; cpu++)
		if (CPU_ISSET(cpu, &allowed))
			cpus[nr++] = cpu;
	return nr;
}

void berth__stay_on(int cpu)
{
	cpu_set_t only;

	CPU_ZERO(&only);
	CPU_SET(cpu, &only);
	(void)!sched_setaffinity(0, sizeof(only), &only);
}

/* ---- Being run ------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted_by, interruptions;

static void on_interrupt(int number)
{
	interrupted_by = number;
	if (++interruptions == 3) { /* somebody insists */
		signal(number, SIG_DFL);
		raise(number);
	}
}

void berth__catch_interrupts(void)
{
	struct sigaction action = { .sa_handler = on_interrupt };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

bool berth__interrupted(void)
{
	return interrupted_by != 0;
}

int berth__interrupted_code(void)
{
	fputs("berth: interrupted\n", stderr);
	return 128 + interrupted_by;
}

static uint64_t progress_began_ns, progress_shown_ns;

void berth__progress(const char *what, uint64_t done, uint64_t total)
{
	uint64_t now = berth__clock_ns(CLOCK_MONOTONIC);

	if (!progress_began_ns)
		progress_began_ns = now;
	if (now - progress_began_ns < 1000000000 || now - progress_shown_ns < 200000000 ||
	    !isatty(STDERR_FILENO))
		return;
	progress_shown_ns = now;
	fprintf(stderr, "\r%s: %llu of %llu\033[K", what, (unsigned long long)done,
		(unsigned long long)total);
	fflush(stderr);
}

void berth__progress_end(void)
{
	if (progress_shown_ns)
		fputs("\r\033[K", stderr);
	progress_began_ns = progress_shown_ns = 0;
}
