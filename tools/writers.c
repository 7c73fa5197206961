/* SPDX-License-Identifier: MIT */
/*
 * Threads that write to memory while it is moved.
 *
 * A page's words are dealt out to the writers in turn. A writer goes through its words in an order
 * that looks random but is a permutation that can be inverted, again and again; a word's value says
 * in which pass it was written. So it is known what each word must hold without remembering
 * anything.
 *
 * A stall is a write that took more than 5 us. The clock is read once a write, so a stall includes
 * what the loop does around it, and also how long the thread was ready again while others had the CPUs, which
 * is told apart. A thread that only lost its CPU to another (its involuntary context
 * switches went up, its voluntary ones didn't) is marked as preempted: no page made it wait.
 *
 * I1  The value of word i is value_of(i, pass) of the last pass that reached it, or what was there
 *     before the writers started.
 */
#define _GNU_SOURCE
#include "tools/fill.h"

#include <pthread.h>
#include <stdatomic.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tools/measure.h"

#define STALL_NS 5000
#define MAX_STALLS 16384u
#define WARM_UP 20000u /* writes before the writers count as started */
#define MULTIPLIER 0x9e3779b97f4a7c15ull

/* A permutation of the numbers below 2^bits. */
struct permutation {
	unsigned bits;
	uint64_t multiplier, inverse; /* of each other, modulo 2^bits */
	uint64_t start;
};

struct writer {
	struct berth__writers *all;
	unsigned number;
	struct permutation order;
	uint64_t steps; /* taken, also those that met no word */
	_Atomic bool started;
	uint64_t nr_stalls; /* entries in `stalls`, and those that found no room */
	struct berth__stall *stalls;
	pthread_t thread;
};

struct berth__writers {
	const struct berth__fill *fill;
	unsigned nr;
	unsigned share_shift; /* the words are dealt out to 2^share_shift >= nr */
	unsigned page_shift;  /* log2 of a writer's words in a page */
	uint64_t nr_words;    /* a writer's */
	uint64_t stall_ticks;
	_Atomic bool stop;
	struct writer writers[BERTH__MAX_WRITERS];
};

/* ---- The order of the words ------------------------------------------------------------------ */

static uint64_t mask_of(const struct permutation *order)
{
	return (1ull << order->bits) - 1;
}

/* Its own inverse: the upper half of the bits stays and is mixed into the lower one. */
static uint64_t fold(const struct permutation *order, uint64_t x)
{
	return x ^ x >> (order->bits + 1) / 2;
}

static uint64_t permute(const struct permutation *order, uint64_t x)
{
	x = fold(order, (x + order->start) * order->multiplier & mask_of(order));
	return fold(order, x * order->multiplier & mask_of(order));
}

static uint64_t unpermute(const struct permutation *order, uint64_t x)
{
	x = fold(order, x) * order->inverse & mask_of(order);
	return (fold(order, x) * order->inverse - order->start) & mask_of(order);
}

static struct permutation make_order(uint64_t nr_words, uint64_t start)
{
	struct permutation order = { .bits = 2, .multiplier = MULTIPLIER, .inverse = MULTIPLIER };

	while (1ull << order.bits < nr_words)
		order.bits++;
	order.start = start;
	for (int i = 0; i < 5; i++) /* Newton: the correct bits double, from 3 on */
		order.inverse *= 2 - order.multiplier * order.inverse;
	return order;
}

static uint64_t value_of(uint64_t i, uint64_t pass)
{
	return ((i + 1) * MULTIPLIER ^ pass << 32) | 1ull << 63;
}

static uint64_t *word_at(const struct writer *writer, uint64_t i)
{
	const struct berth__writers *all = writer->all;

	return berth__fill_page(all->fill, i >> all->page_shift) +
	       ((i & ((1u << all->page_shift) - 1)) << all->share_shift) + writer->number;
}

/* ---- Writing --------------------------------------------------------------------------------- */

/* What a thread knows of its own scheduling. */
struct scheduling {
	int schedstat; /* /proc/thread-self/schedstat; -1: there is none */
	struct rusage usage;
	uint64_t queued_ns;
};

/* For how long the thread has been ready to run and had no CPU, in all; 0: unknown. */
static uint64_t queued_ns(const struct scheduling *scheduling)
{
	char text[96];
	ssize_t length = pread(scheduling->schedstat, text, sizeof(text) - 1, 0);
	char *second;

	if (length <= 0)
		return 0;
	text[length] = 0;
	second = strchr(text, ' ');
	return second ? strtoull(second, NULL, 10) : 0;
}

static void note_stall(struct writer *writer, struct scheduling *scheduling, uint64_t began,
		       uint64_t ended)
{
	struct rusage *before = &scheduling->usage, now;
	uint64_t queued = queued_ns(scheduling), queued_before = scheduling->queued_ns;
	bool lost_cpu, slept;

	scheduling->queued_ns = queued;
	getrusage(RUSAGE_THREAD, &now);
	lost_cpu = now.ru_nivcsw != before->ru_nivcsw;
	slept = now.ru_nvcsw != before->ru_nvcsw;
	*before = now;
	if (writer->nr_stalls++ < MAX_STALLS)
		writer->stalls[writer->nr_stalls - 1] =
			(struct berth__stall){ .began = began,
					       .ended = ended,
					       .queued_ns = queued - queued_before,
					       .preempted = lost_cpu && !slept };
}

static void *write_all_over(void *argument)
{
	struct writer *writer = argument;
	const struct berth__writers *all = writer->all;
	const struct permutation order = writer->order;
	uint64_t step = 0, last;
	struct scheduling scheduling = {
		.schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC),
	};

	getrusage(RUSAGE_THREAD, &scheduling.usage);
	scheduling.queued_ns = queued_ns(&scheduling);
	last = berth__ticks();
	while (!atomic_load_explicit(&all->stop, memory_order_relaxed)) {
		uint64_t i = permute(&order, step & mask_of(&order)), now;

		if (i < all->nr_words)
			*(volatile uint64_t *)word_at(writer, i) = value_of(i, step >> order.bits);
		now = berth__ticks();
		if (__builtin_expect(now - last > all->stall_ticks, 0)) {
			note_stall(writer, &scheduling, last, now);
			now = berth__ticks();
		}
		last = now;
		if (++step == WARM_UP)
			atomic_store(&writer->started, true);
	}
	writer->steps = step;
	if (scheduling.schedstat >= 0)
		close(scheduling.schedstat);
	return NULL;
}

static bool start_one(struct berth__writers *all, unsigned number)
{
	struct writer *writer = &all->writers[number];

	*writer = (struct writer){ .all = all, .number = number };
	writer->order = make_order(all->nr_words, berth__mix(all->fill->seed + number));
	writer->stalls = calloc(MAX_STALLS, sizeof(writer->stalls[0]));
	if (!writer->stalls)
		return false;
	if (pthread_create(&writer->thread, NULL, write_all_over, writer) == 0)
		return true;
	free(writer->stalls);
	return false;
}

struct berth__writers *berth__writers_start(const struct berth__fill *fill, unsigned nr)
{
	struct berth__writers *all = calloc(1, sizeof(*all));
	const struct timespec pause = { .tv_nsec = 100000 };

	if (!all)
		return NULL;
	all->fill = fill;
	all->stall_ticks = (uint64_t)(STALL_NS / berth__ticks_ns(1));
	while (1u << all->share_shift < nr)
		all->share_shift++;
	all->page_shift = (unsigned)__builtin_ctz(BERTH__PAGE_WORDS) - all->share_shift;
	all->nr_words = berth__fill_pages(fill) << all->page_shift;
	while (all->nr < nr && start_one(all, all->nr))
		all->nr++;
	if (all->nr < nr) {
		berth__writers_stop(all);
		berth__writers_free(all);
		return NULL;
	}
	for (unsigned i = 0; i < nr; i++)
		while (!atomic_load(&all->writers[i].started))
			nanosleep(&pause, NULL);
	return all;
}

void berth__writers_stop(struct berth__writers *all)
{
	atomic_store(&all->stop, true);
	for (unsigned i = 0; i < all->nr; i++)
		pthread_join(all->writers[i].thread, NULL);
}

void berth__writers_free(struct berth__writers *all)
{
	if (!all)
		return;
	for (unsigned i = 0; i < all->nr; i++)
		free(all->writers[i].stalls);
	free(all);
}

/* ---- Afterwards ------------------------------------------------------------------------------ */

uint64_t berth__writers_writes(const struct berth__writers *all)
{
	uint64_t steps = 0;

	for (unsigned i = 0; i < all->nr; i++)
		steps += all->writers[i].steps;
	return steps;
}

uint64_t berth__writers_stalls(const struct berth__writers *all, uint64_t from, uint64_t to,
			       void (*each)(void *ctx, const struct berth__stall *stall), void *ctx)
{
	uint64_t lost = 0;

	for (unsigned i = 0; i < all->nr; i++) {
		const struct writer *writer = &all->writers[i];
		uint64_t kept = writer->nr_stalls < MAX_STALLS ? writer->nr_stalls : MAX_STALLS;

		lost += writer->nr_stalls - kept;
		for (uint64_t j = 0; j < kept; j++)
			if (writer->stalls[j].ended > from && writer->stalls[j].began < to)
				each(ctx, &writer->stalls[j]);
	}
	return lost;
}

/* What the word must hold now. */
static uint64_t expected(const struct berth__writers *all, uint64_t page, unsigned word)
{
	const unsigned number = word & ((1u << all->share_shift) - 1);
	const struct writer *writer = &all->writers[number];
	uint64_t i = (page << all->page_shift) + (word >> all->share_shift), pass, step;

	if (number >= all->nr)
		return berth__fill_word(all->fill, page, word);
	step = unpermute(&writer->order, i);
	pass = writer->steps >> writer->order.bits;
	if (step >= (writer->steps & mask_of(&writer->order))) { /* not reached in this pass */
		if (!pass)
			return berth__fill_word(all->fill, page, word);
		pass--;
	}
	return value_of(i, pass);
}

uint64_t berth__writers_check(const struct berth__writers *all, const void **first)
{
	uint64_t wrong = 0;

	for (uint64_t page = 0; page < berth__fill_pages(all->fill); page++) {
		const uint64_t *words = berth__fill_page(all->fill, page);

		for (unsigned word = 0; word < BERTH__PAGE_WORDS; word++) {
			if (words[word] == expected(all, page, word))
				continue;
			if (!wrong++)
				*first = &words[word];
		}
	}
	return wrong;
}
