/* SPDX-License-Identifier: MIT */
/*
 * What `berth bench camera` makes of its photos.
 *
 * All ways take the same photos, by turns. So a ratio of two ways is one of pairs: intervals are found by drawing turns,
 * the same ones for both ways (blocks.h).
 *
 * I1  A result's photos are in the order of their numbers.
 */
#include "tools/camera.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- Adding up --------------------------------------------------------------------------------- */

static void add_error(struct berth__camera_result *result, int error)
{
	unsigned i = 0;

	while (i < BERTH__CAMERA_ERRORS - 1 && result->errors[i].nr &&
	       result->errors[i].error != error)
		i++;
	result->errors[i].error = error;
	result->errors[i].nr++;
	result->failed++;
}

static struct berth__camera_taken *new_photo(struct berth__camera_result *result)
{
	if (result->photos == result->room) {
		uint64_t room = result->room ? 2 * result->room : 64;
		void *taken = realloc(result->taken, room * sizeof(result->taken[0]));

		if (!taken) {
			fputs("berth: no memory for the photos\n", stderr);
			exit(1);
		}
		result->taken = taken;
		result->room = room;
	}
	return &result->taken[result->photos++];
}

void berth__camera_add(struct berth__camera_result *result, const struct berth__camera_photo *photo)
{
	*new_photo(result) = (struct berth__camera_taken){
		.number = photo->number,
		.bytes = photo->bytes,
		.weight = (double)photo->weight,
		.whole_us = (double)photo->whole_ns / 1000,
		.claim_us = (double)photo->claim_ns / 1000,
		.write_us = (double)photo->write_ns / 1000,
		.read_us = (double)photo->read_ns / 1000,
		.cpu_us = (double)photo->cpu_ns / 1000,
		.faults = photo->faults,
		.error = photo->error,
	};
	result->lent_bytes += (double)photo->lent_bytes;
	result->moved_bytes += photo->moved_bytes;
	if (photo->error)
		add_error(result, photo->error);
}

void berth__camera_add_figures(struct berth__camera_result *result,
			       const struct berth__camera_figures *figures)
{
	struct berth__camera_figures *sum = &result->figures;

	sum->ns += figures->ns;
	sum->reads += figures->reads;
	sum->looked_up += figures->looked_up;
	sum->hits += figures->hits;
	sum->updates += figures->updates;
	sum->lost += figures->lost;
	sum->blocks += figures->blocks;
	sum->heap_bytes += figures->heap_bytes;
	sum->refused += figures->refused;
	sum->waits += figures->waits;
	sum->wait_ns += figures->wait_ns;
	if (figures->longest_wait_ns > sum->longest_wait_ns)
		sum->longest_wait_ns = figures->longest_wait_ns;
}

/* ---- Choosing ---------------------------------------------------------------------------------- */

uint64_t berth__camera_size_limit(const struct berth__camera_config *config,
				  enum berth__camera_sizes sizes)
{
	return sizes == BERTH__CAMERA_SMALL  ? config->largest / 16 :
	       sizes == BERTH__CAMERA_MEDIUM ? config->largest / 4 :
					       config->largest;
}

static bool is_of(const struct berth__camera_config *config, uint64_t bytes,
		  enum berth__camera_sizes sizes)
{
	const uint64_t least = sizes == BERTH__CAMERA_SMALL || sizes == BERTH__CAMERA_ALL ?
				       0 :
				       berth__camera_size_limit(
					       config, (enum berth__camera_sizes)(sizes - 1));

	return bytes > least && bytes <= berth__camera_size_limit(config, sizes);
}

static double time_of(const struct berth__camera_taken *photo, enum berth__camera_time time)
{
	switch (time) {
	case BERTH__CAMERA_CLAIM:
		return photo->claim_us;
	case BERTH__CAMERA_CPU:
		return photo->cpu_us;
	case BERTH__CAMERA_WAITING: /* the two clocks are read one after the other */
		return photo->whole_us > photo->cpu_us ? photo->whole_us - photo->cpu_us : 0;
	default:
		return photo->whole_us;
	}
}

static uint32_t turn_of(const struct berth__camera_taken *photo)
{
	return (uint32_t)(photo->number / BERTH__CAMERA_TURN);
}

struct berth__blocks berth__camera_times(const struct berth__camera_config *config,
					 const struct berth__camera_result *result,
					 enum berth__camera_sizes sizes,
					 enum berth__camera_time time)
{
	struct berth__blocks times = { .nr = 0 };

	for (uint64_t i = 0; i < result->photos; i++) {
		const struct berth__camera_taken *photo = &result->taken[i];

		if (!photo->error && is_of(config, photo->bytes, sizes))
			berth__block_add(&times, time_of(photo, time), photo->weight,
					 turn_of(photo));
	}
	return times;
}

/* ---- Comparing --------------------------------------------------------------------------------- */

struct berth__camera_ratio berth__camera_compare(const struct berth__camera_config *config,
						 const struct berth__camera_result *part,
						 const struct berth__camera_result *whole,
						 enum berth__camera_sizes sizes,
						 enum berth__camera_time time, double percent)
{
	struct berth__blocks parts = berth__camera_times(config, part, sizes, time);
	struct berth__blocks wholes = berth__camera_times(config, whole, sizes, time);
	struct berth__camera_ratio ratio = { .figure = 0 };

	if (parts.nr && wholes.nr) {
		ratio.figure = berth__block_percentile(&parts, percent) /
			       berth__block_percentile(&wholes, percent);
		ratio.likely = berth__ratio_interval(&parts, &wholes, percent);
	}
	berth__blocks_free(&parts);
	berth__blocks_free(&wholes);
	return ratio;
}

struct berth__camera_ratio berth__camera_pairs(const struct berth__camera_result *part,
					       const struct berth__camera_result *whole)
{
	struct berth__blocks ratios = { .nr = 0 };
	struct berth__camera_ratio ratio;

	for (uint64_t i = 0, j = 0; i < part->photos && j < whole->photos;) {
		const struct berth__camera_taken *a = &part->taken[i], *b = &whole->taken[j];

		if (a->number == b->number && !a->error && !b->error)
			berth__block_add(&ratios, a->whole_us / b->whole_us, a->weight, turn_of(a));
		i += a->number <= b->number;
		j += b->number <= a->number;
	}
	ratio.figure = berth__block_percentile(&ratios, 50);
	ratio.likely = berth__ratio_interval(&ratios, NULL, 50);
	berth__blocks_free(&ratios);
	return ratio;
}

/* ---- Bars -------------------------------------------------------------------------------------- */

unsigned berth__camera_bars(const struct berth__camera_config *config,
			    struct berth__camera_result results[BERTH__CAMERA_NR_WAYS],
			    struct berth__camera_bar bars[BERTH__CAMERA_BARS])
{
	const struct berth__camera_result *gcma = &results[BERTH__CAMERA_GCMA];
	const struct berth__camera_result *reserve = &results[BERTH__CAMERA_RESERVE];
	const double failed = (double)gcma->failed;
	unsigned nr = 0;

	if (!config->ways[BERTH__CAMERA_GCMA])
		return 0;
	if (reserve->photos > reserve->failed && gcma->photos > gcma->failed) {
		struct berth__camera_ratio ratio = berth__camera_compare(
			config, gcma, reserve, BERTH__CAMERA_ALL, BERTH__CAMERA_WHOLE, 99);

		bars[nr++] = (struct berth__camera_bar){ "whole photo, p99 of GCMA / no lending",
							 "times", ratio.figure, 1.05,
							 ratio.likely };
	}
	bars[nr++] = (struct berth__camera_bar){ "photos that GCMA failed",
						 "photos",
						 failed,
						 0,
						 { failed, failed } };
	return nr;
}

bool berth__camera_is_met(const struct berth__camera_bar *bar)
{
	return bar->figure <= bar->limit;
}

bool berth__camera_is_sure(const struct berth__camera_bar *bar)
{
	return berth__camera_is_met(bar) ? bar->likely.high <= bar->limit :
					   bar->likely.low > bar->limit;
}
