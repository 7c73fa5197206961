/* SPDX-License-Identifier: MIT */
/*
 * Numbers by Zipf's law: 0 is the most frequent, and number i is (i + 1)^exponent times as rare.
 */
#ifndef BERTH_TOOLS_ZIPF_H
#define BERTH_TOOLS_ZIPF_H

#include <stdint.h>

struct berth__zipf {
	double exponent;
	double nr;
	double first, last; /* where the hat's integral begins and ends */
	double sure;        /* closer than this to a number, the hat is no higher than the law */
};

/* nr > 0; exponent > 0. */
void berth__zipf_init(struct berth__zipf *zipf, uint64_t nr, double exponent);
/* 0 .. nr - 1; *random as with berth__random(). */
uint64_t berth__zipf_next(const struct berth__zipf *zipf, uint64_t *random);

#endif
