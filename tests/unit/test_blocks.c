/* SPDX-License-Identifier: MIT */
/*
 * The benches' ratios of percentiles: are their intervals where the truth is as often as they say, and narrower
 * where both sides of a comparison are disturbed alike?
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tools/blocks.h"
#include "tools/measure.h"

static void no_samples(void **state)
{
	struct berth__blocks none = { .nr = 0 }, one = { .nr = 0 };
	struct berth__interval interval = berth__ratio_interval(&none, NULL, 99);

	(void)state;
	assert_true(interval.low == 0 && interval.high == 0);
	assert_true(berth__block_percentile(&none, 50) == 0);
	berth__block_add(&one, 3, 1, 0);
	interval = berth__ratio_interval(&one, &none, 99);
	assert_true(interval.low == 0 && interval.high == 0);
	interval = berth__ratio_interval(&one, NULL, 99);
	assert_true(interval.low == 3 && interval.high == 3);
	assert_true(berth__block_percentile(&one, 50) == 3);
	berth__blocks_free(&one);
}

static void percentiles_are_nearest_ranks(void **state)
{
	struct berth__blocks blocks = { .nr = 0 };

	(void)state;
	for (int i = 1000; i > 0; i--)
		berth__block_add(&blocks, i, 1, (uint32_t)i % 7);
	assert_true(berth__block_percentile(&blocks, 50) == 500);
	assert_true(berth__block_percentile(&blocks, 99) == 990);
	assert_true(berth__block_percentile(&blocks, 99.9) == 999);
	assert_true(berth__block_percentile(&blocks, 100) == 1000);
	assert_true(berth__block_percentile(&blocks, 0.001) == 1);
	berth__blocks_free(&blocks);
}

/* One sample that stands for seven is seven samples. */
static void weights_are_repetitions(void **state)
{
	struct berth__blocks weighted = { .nr = 0 }, repeated = { .nr = 0 };
	uint64_t random = 3;

	(void)state;
	for (uint32_t i = 0; i < 400; i++) {
		const double value = (double)(berth__random(&random) % 1000);
		const unsigned weight = i % 2 ? 7 : 1;

		berth__block_add(&weighted, value, weight, i / 8);
		for (unsigned j = 0; j < weight; j++)
			berth__block_add(&repeated, value, 1, i / 8);
	}
	for (double percent = 0.5; percent <= 100; percent += 0.5) {
		struct berth__interval a, b;

		assert_true(berth__block_percentile(&weighted, percent) ==
			    berth__block_percentile(&repeated, percent));
		if (percent < 98)
			continue;
		a = berth__ratio_interval(&weighted, NULL, percent);
		b = berth__ratio_interval(&repeated, NULL, percent);
		assert_true(a.low == b.low && a.high == b.high);
	}
	berth__blocks_free(&weighted);
	berth__blocks_free(&repeated);
}

/* All of the disturbance is the blocks', and both sides': nothing of the ratio is chance. */
static void pairs_cancel_what_meets_both(void **state)
{
	struct berth__blocks part = { .nr = 0 }, whole = { .nr = 0 };
	struct berth__interval paired, alone;
	uint64_t random = 5;

	(void)state;
	for (uint32_t block = 0; block < 200; block++) {
		double disturbance = 1 + (double)(berth__random(&random) % 1000) / 1000;

		for (int i = 0; i < 8; i++) {
			berth__block_add(&part, (i + 10) * disturbance * 1.25, 1, block);
			berth__block_add(&whole, (i + 10) * disturbance, 1, block);
		}
	}
	paired = berth__ratio_interval(&part, &whole, 99);
	alone = berth__ratio_interval(&part, NULL, 99);
	assert_true(fabs(paired.low - 1.25) < 1e-9 && fabs(paired.high - 1.25) < 1e-9);
	assert_true(alone.high - alone.low > 0.01 * alone.low);
	berth__blocks_free(&part);
	berth__blocks_free(&whole);
}

static double exponential(uint64_t *random)
{
	return -log(((double)(berth__random(random) >> 11) + 1) * 0x1p-53);
}

/*
 * Of 200 experiments whose truth is known (the p90 of an exponential distribution, 1.1 times another's) some 190 intervals
 * have it; much fewer would be as wrong as all of them.
 */
static void intervals_hold_the_truth(void **state)
{
	uint64_t random = 7919;
	int held = 0;
	double width = 0;

	(void)state;
	for (int experiment = 0; experiment < 200; experiment++) {
		struct berth__blocks part = { .nr = 0 }, whole = { .nr = 0 };
		struct berth__interval interval;

		for (uint32_t block = 0; block < 100; block++)
			for (int i = 0; i < 8; i++) {
				berth__block_add(&part, 1.1 * exponential(&random), 1, block);
				berth__block_add(&whole, exponential(&random), 1, block);
			}
		interval = berth__ratio_interval(&part, &whole, 90);
		held += interval.low <= 1.1 && 1.1 <= interval.high;
		width += (interval.high - interval.low) / 200;
		berth__blocks_free(&part);
		berth__blocks_free(&whole);
	}
	assert_in_range(held, 180, 199);
	/* The p90's own spread is sqrt(0.9 / 0.1 / 800) / ln 10 of it. */
	assert_true(width > 0.2 && width < 0.4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_samples),
		cmocka_unit_test(percentiles_are_nearest_ranks),
		cmocka_unit_test(weights_are_repetitions),
		cmocka_unit_test(pairs_cancel_what_meets_both),
		cmocka_unit_test(intervals_hold_the_truth),
	};

	return cmocka_run_group_tests_name("blocks", tests, NULL, NULL);
}
