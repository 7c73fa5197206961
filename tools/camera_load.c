/* SPDX-License-Identifier: MIT */
/*
 * The load beside the photos of `berth bench camera`: two threads that never wait, a heap's and a
 * cache's, behind a gate.
 *
 * The heap consists of blocks of 64 KiB to 2 MiB, each mapped by itself. A step takes one of them, looks
 * whether its contents are still what was written, unmaps it, maps another one of another size and writes
 * all of it; and it writes to a few pages of others, so that claims meet memory that is in use.
 *
 * I1  A thread writes its figures only while it is inside; they are read and cleared when nobody is.
 * I2  A page of a block holds its stamp in the first word and in the last one, but for a moment while it
 *     is written.
 */
#define _GNU_SOURCE
#include "tools/camera.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEAST_BLOCK ((uint64_t)64 << 10)
#define MOST_BLOCK_SHIFT 5 /* doublings: 2 MiB */
#define MEAN_BLOCK ((uint64_t)640 << 10)
#define WRITES 16u /* to other blocks, a step */
#define PAGE_WORDS (BERTH_PAGE_SIZE / sizeof(uint64_t))

struct block {
	uint64_t *at; /* NULL: none */
	uint64_t bytes, stamp;
};

struct berth__camera_load {
	struct berth__camera_place place;
	struct berth__camera_gate gate;
	struct berth__camera_figures heap_figures, reader_figures; /* each its thread's */
	uint64_t resumed_ns;
	pthread_t thread;
	bool has_thread;
	const struct berth__camera_reader_ops *ops;
	struct berth__camera_reader *reader;
	uint64_t random, heap_bytes; /* in blocks now */
	size_t nr_blocks;
	struct block blocks[];
};

/* ---- The gate ---------------------------------------------------------------------------------- */

bool berth__camera_pass(struct berth__camera_gate *gate)
{
	bool end;

	if (__builtin_expect(atomic_load_explicit(&gate->open, memory_order_relaxed), 1))
		return true;
	pthread_mutex_lock(&gate->mutex);
	gate->inside--;
	pthread_cond_broadcast(&gate->changed);
	while (!gate->open && !gate->end)
		pthread_cond_wait(&gate->changed, &gate->mutex);
	gate->inside++;
	end = gate->end;
	pthread_mutex_unlock(&gate->mutex);
	return !end;
}

void berth__camera_begin(struct berth__camera_gate *gate, enum berth__camera_thread which)
{
	const struct berth__camera_config *config = gate->config;

	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), (int)config->nice);
	if (config->nr_cpus > 1)
		berth__stay_on(config->cpus[which]);
}

void berth__camera_leave(struct berth__camera_gate *gate)
{
	pthread_mutex_lock(&gate->mutex);
	gate->inside--;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->mutex);
}

int berth__camera_start(struct berth__camera_gate *gate, void *(*body)(void *), void *arg,
			pthread_t *thread)
{
	int error;

	pthread_mutex_lock(&gate->mutex);
	error = pthread_create(thread, NULL, body, arg);
	if (!error)
		gate->inside++;
	pthread_mutex_unlock(&gate->mutex);
	return error ? -BERTH_ENOMEM : 0;
}

void berth__camera_fail(struct berth__camera_gate *gate, const char *format, ...)
{
	va_list args;

	pthread_mutex_lock(&gate->mutex);
	if (!gate->failed) {
		va_start(args, format);
		vsnprintf(gate->why, sizeof(gate->why), format, args);
		va_end(args);
		gate->failed = true;
	}
	pthread_mutex_unlock(&gate->mutex);
}

static void open_gate(struct berth__camera_gate *gate, bool end)
{
	pthread_mutex_lock(&gate->mutex);
	gate->open = !end;
	gate->end = end;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->mutex);
}

static void close_gate(struct berth__camera_gate *gate)
{
	pthread_mutex_lock(&gate->mutex);
	gate->open = false;
	while (gate->inside)
		pthread_cond_wait(&gate->changed, &gate->mutex);
	pthread_mutex_unlock(&gate->mutex);
}

/* ---- The heap ---------------------------------------------------------------------------------- */

static uint64_t page_stamp(const struct block *block, uint64_t page)
{
	return block->stamp + page * 0x9e3779b97f4a7c15ull;
}

static void write_block(const struct block *block)
{
	memset(block->at, (int)(block->stamp & 0xff), block->bytes);
	for (uint64_t page = 0; page < block->bytes >> BERTH_PAGE_SHIFT; page++)
		block->at[page * PAGE_WORDS] = block->at[(page + 1) * PAGE_WORDS - 1] = page_stamp(
			block, page);
}

static bool check_block(struct berth__camera_load *load, const struct block *block)
{
	for (uint64_t page = 0; page < block->bytes >> BERTH_PAGE_SHIFT; page++) {
		if (block->at[page * PAGE_WORDS] == page_stamp(block, page) &&
		    block->at[(page + 1) * PAGE_WORDS - 1] == page_stamp(block, page))
			continue;
		berth__camera_fail(&load->gate,
				   "the heap's memory has lost what was written to it, at %p",
				   (void *)&block->at[page * PAGE_WORDS]);
		return false;
	}
	return true;
}

static bool drop_block(struct berth__camera_load *load, struct block *block)
{
	int error;

	if (!block->at)
		return true;
	error = berth_unmap(load->place.pool, block->at, block->bytes);
	if (error) {
		berth__camera_fail(&load->gate, "the heap's memory can't be unmapped: %s",
				   berth_strerror(error));
		return false;
	}
	load->heap_bytes -= block->bytes;
	block->at = NULL;
	return true;
}

/* Between two doublings all sizes are as likely. */
static uint64_t some_bytes(struct berth__camera_load *load)
{
	uint64_t number = berth__random(&load->random);
	uint64_t bytes = LEAST_BLOCK << number % MOST_BLOCK_SHIFT;

	return (bytes + (number >> 32) % bytes) & ~(uint64_t)(BERTH_PAGE_SIZE - 1);
}

/* No memory is no failure: a claim may have it all. */
static void make_block(struct berth__camera_load *load, struct block *block)
{
	uint64_t bytes = some_bytes(load);
	void *at;

	if (load->heap_bytes + bytes > load->place.heap_bytes)
		return;
	if (berth_map(load->place.pool, bytes, 0, &at) != 0) {
		load->heap_figures.refused++;
		return;
	}
	load->heap_bytes += bytes;
	*block = (struct block){ at, bytes, berth__random(&load->random) };
	write_block(block);
	load->heap_figures.blocks++;
	load->heap_figures.heap_bytes += bytes;
}

static void write_somewhere(struct berth__camera_load *load)
{
	const uint64_t number = berth__random(&load->random);
	const struct block *block = &load->blocks[number % load->nr_blocks];
	uint64_t page;

	if (!block->at)
		return;
	page = (number >> 32) % (block->bytes >> BERTH_PAGE_SHIFT);
	*(volatile uint64_t *)&block->at[page * PAGE_WORDS + 1 + number % (PAGE_WORDS - 2)] =
		number;
}

static bool churn_once(struct berth__camera_load *load)
{
	struct block *block = &load->blocks[berth__random(&load->random) % load->nr_blocks];

	if (block->at && !(check_block(load, block) && drop_block(load, block)))
		return false;
	make_block(load, block);
	for (unsigned i = 0; i < WRITES; i++)
		write_somewhere(load);
	return true;
}

static void *churn(void *arg)
{
	struct berth__camera_load *load = arg;

	berth__camera_begin(&load->gate, BERTH__CAMERA_HEAP);
	while (berth__camera_pass(&load->gate) && churn_once(load))
		;
	berth__camera_leave(&load->gate);
	return NULL;
}

/* ---- Both -------------------------------------------------------------------------------------- */

struct berth__camera_load *berth__camera_load_open(const struct berth__camera_place *place,
						   char why[BERTH__CAMERA_TEXT_BYTES])
{
	size_t nr_blocks = place->heap_bytes / MEAN_BLOCK + 1;
	struct berth__camera_load *load = calloc(1, sizeof(*load) +
							    nr_blocks * sizeof(load->blocks[0]));

	if (!load) {
		snprintf(why, BERTH__CAMERA_TEXT_BYTES, "there is no memory for the load");
		return NULL;
	}
	load->place = *place;
	load->nr_blocks = nr_blocks;
	load->random = place->config->seed;
	load->gate.config = place->config;
	pthread_mutex_init(&load->gate.mutex, NULL);
	pthread_cond_init(&load->gate.changed, NULL);
	load->ops = place->config->sqlite ? &berth__camera_sqlite : &berth__camera_pages;
	load->reader = load->ops->open(place, &load->gate, &load->reader_figures, why);
	if (load->reader) {
		load->has_thread = berth__camera_start(&load->gate, churn, load, &load->thread) ==
				   0;
		if (load->has_thread) {
			close_gate(&load->gate); /* all have come to it */
			return load;
		}
		snprintf(why, BERTH__CAMERA_TEXT_BYTES, "the load's threads can't be started");
	}
	berth__camera_load_close(load);
	return NULL;
}

void berth__camera_load_resume(struct berth__camera_load *load)
{
	load->resumed_ns = berth__clock_ns(CLOCK_MONOTONIC);
	open_gate(&load->gate, false);
}

static void take_figures(struct berth__camera_figures *sum, struct berth__camera_figures *part)
{
	sum->reads += part->reads;
	sum->looked_up += part->looked_up;
	sum->hits += part->hits;
	sum->updates += part->updates;
	sum->blocks += part->blocks;
	sum->heap_bytes += part->heap_bytes;
	sum->refused += part->refused;
	memset(part, 0, sizeof(*part));
}

bool berth__camera_load_halt(struct berth__camera_load *load, struct berth__camera_figures *figures,
			     char why[BERTH__CAMERA_TEXT_BYTES])
{
	close_gate(&load->gate);
	memset(figures, 0, sizeof(*figures));
	figures->ns = berth__clock_ns(CLOCK_MONOTONIC) - load->resumed_ns;
	take_figures(figures, &load->heap_figures);
	take_figures(figures, &load->reader_figures);
	if (load->gate.failed)
		snprintf(why, BERTH__CAMERA_TEXT_BYTES, "%s", load->gate.why);
	return !load->gate.failed;
}

bool berth__camera_load_close(struct berth__camera_load *load)
{
	bool good = true;

	open_gate(&load->gate, true);
	if (load->has_thread)
		pthread_join(load->thread, NULL);
	if (load->reader)
		good = load->ops->close(load->reader);
	for (size_t i = 0; i < load->nr_blocks; i++)
		good &= drop_block(load, &load->blocks[i]);
	pthread_mutex_destroy(&load->gate.mutex);
	pthread_cond_destroy(&load->gate.changed);
	free(load);
	return good;
}
