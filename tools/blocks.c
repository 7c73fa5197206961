/* SPDX-License-Identifier: MIT */
/*
 * Samples in blocks. A drawing is a count for each block, how often it was drawn; the samples stay where they are,
 * sorted once. So a thousand drawings cost a thousand walks over them.
 */
#include "tools/blocks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/measure.h"

#define DRAWINGS 2000

static _Noreturn void no_memory(void)
{
	fputs("berth: no memory for the samples\n", stderr);
	exit(1);
}

void berth__block_add(struct berth__blocks *blocks, double value, double weight, uint32_t block)
{
	if (blocks->nr == blocks->room) {
		size_t room = blocks->room ? 2 * blocks->room : 64;
		void *values = realloc(blocks->values, room * sizeof(blocks->values[0]));

		if (!values)
			no_memory();
		blocks->values = values;
		blocks->room = room;
	}
	blocks->values[blocks->nr++] = (struct berth__block_sample){ value, weight, block };
}

void berth__blocks_free(struct berth__blocks *blocks)
{
	free(blocks->values);
	*blocks = (struct berth__blocks){ .nr = 0 };
}

static int compare(const void *left, const void *right)
{
	double a = ((const struct berth__block_sample *)left)->value;
	double b = ((const struct berth__block_sample *)right)->value;

	return (a > b) - (a < b);
}

static void sort(struct berth__blocks *blocks)
{
	if (blocks->nr)
		qsort(blocks->values, blocks->nr, sizeof(blocks->values[0]), compare);
}

/*
 * The percentile when each block is there so many times (NULL: once); they are sorted. NAN: there is no weight. A sum of
 * doubles may miss by a little what 99.9 % of 1000 are, so that much is forgiven.
 */
static double percentile_of(const struct berth__blocks *blocks, const uint32_t *times,
			    double percent)
{
	double left = 0, enough;
	size_t i = blocks->nr;

	for (size_t j = 0; j < blocks->nr; j++)
		left += blocks->values[j].weight * (times ? times[blocks->values[j].block] : 1);
	if (left <= 0)
		return NAN;
	enough = left * (percent / 100 - 1e-9);
	/* From the top, where percentiles that matter are: until what is left below isn't enough any more. */
	while (i && left >= enough) {
		i--;
		left -= blocks->values[i].weight * (times ? times[blocks->values[i].block] : 1);
	}
	return blocks->values[i].value;
}

double berth__block_percentile(struct berth__blocks *blocks, double percent)
{
	sort(blocks);
	return blocks->nr ? percentile_of(blocks, NULL, percent) : 0;
}

/* ---- Drawing ----------------------------------------------------------------------------------- */

static uint32_t nr_blocks_of(const struct berth__blocks *blocks)
{
	uint32_t nr = 0;

	for (size_t i = 0; i < blocks->nr; i++)
		if (blocks->values[i].block >= nr)
			nr = blocks->values[i].block + 1;
	return nr;
}

static void draw(uint32_t *times, uint32_t nr, uint64_t *random)
{
	memset(times, 0, nr * sizeof(*times));
	for (uint32_t i = 0; i < nr; i++)
		times[berth__random(random) % nr]++;
}

struct berth__interval berth__ratio_interval(struct berth__blocks *part,
					     struct berth__blocks *whole, double percent)
{
	struct berth__samples ratios = { .nr = 0 };
	struct berth__interval interval;
	uint32_t nr = nr_blocks_of(part), *times;
	uint64_t random = 1;

	if (whole && nr_blocks_of(whole) > nr)
		nr = nr_blocks_of(whole);
	times = calloc(nr + 1, sizeof(*times));
	if (!times)
		no_memory();
	sort(part);
	if (whole)
		sort(whole);
	for (int i = 0; i < DRAWINGS && nr; i++) {
		double ratio;

		draw(times, nr, &random);
		ratio = percentile_of(part, times, percent) /
			(whole ? percentile_of(whole, times, percent) : 1);
		if (isfinite(ratio))
			berth__sample_add(&ratios, ratio);
	}
	free(times);
	interval = (struct berth__interval){ berth__percentile(&ratios, 2.5),
					     berth__percentile(&ratios, 97.5) };
	berth__samples_free(&ratios);
	return interval;
}
