/* SPDX-License-Identifier: MIT */
/*
 * Samples that were taken in blocks, and how far a ratio of two percentiles of them is chance.
 *
 * What disturbs a sample often disturbs its neighbours as well, and both sides of a comparison when they
 * take turns. So whoever asks how sure such a ratio is draws whole blocks, the same ones for both sides (a block
 * bootstrap of pairs).
 */
#ifndef BERTH_TOOLS_BLOCKS_H
#define BERTH_TOOLS_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct berth__block_sample {
	double value, weight; /* weight: of how many samples it is one, > 0 */
	uint32_t block;       /* from 0 on; gaps cost memory */
};

struct berth__blocks {
	struct berth__block_sample *values; /* NULL until the first one */
	size_t nr, room;
};

/* Stops the program when there is no memory. */
void berth__block_add(struct berth__blocks *blocks, double value, double weight, uint32_t block);
/* The least value with so much of the weight up to it (without weights: nearest rank), 0 < percent <= 100; 0 of none.
 * Sorts the samples. */
double berth__block_percentile(struct berth__blocks *blocks, double percent);
void berth__blocks_free(struct berth__blocks *blocks);

struct berth__interval {
	double low, high;
};
/*
 * Where 95 % of the ratios of the two percentiles are when as many blocks as there are get drawn at random, again and
 * again; of the one percentile if `whole` is NULL. The same samples give the same interval. Sorts the samples.
 * {0, 0}: there is nothing to draw from.
 */
struct berth__interval berth__ratio_interval(struct berth__blocks *part,
					     struct berth__blocks *whole, double percent);

#endif
