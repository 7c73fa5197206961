/* SPDX-License-Identifier: MIT */
/*
 * Zipf's law by rejection-inversion (W. Hoermann, G. Derflinger: Rejection-inversion to generate variates
 * from monotone discrete distributions, 1996): x^-exponent over reals is a hat whose integral can be inverted;
 * a real is rounded, and rejected where the hat is above the law. Costs two logarithms or so, and no table
 * that would displace what is measured from the caches. Ranks count from 1 in here.
 */
#include "tools/zipf.h"

#include <math.h>

#include "tools/measure.h"

static double law(const struct berth__zipf *zipf, double x)
{
	return exp(-zipf->exponent * log(x));
}

/* The hat's integral, but for a constant: near exponent 1 the difference of powers would be noise. */
static double integral(const struct berth__zipf *zipf, double x)
{
	double power = (1 - zipf->exponent) * log(x);

	return fabs(power) > 1e-8 ? log(x) * expm1(power) / power : log(x) * (1 + power / 2);
}

static double inverse(const struct berth__zipf *zipf, double area)
{
	double power = area * (1 - zipf->exponent);

	if (power < -1) /* by rounding */
		power = -1;
	return exp(fabs(power) > 1e-8 ? area * log1p(power) / power : area * (1 - power / 2));
}

void berth__zipf_init(struct berth__zipf *zipf, uint64_t nr, double exponent)
{
	zipf->exponent = exponent;
	zipf->nr = (double)nr;
	zipf->first = integral(zipf, 1.5) - 1;
	zipf->last = integral(zipf, zipf->nr + 0.5);
	zipf->sure = 2 - inverse(zipf, integral(zipf, 2.5) - law(zipf, 2));
}

uint64_t berth__zipf_next(const struct berth__zipf *zipf, uint64_t *random)
{
	for (;;) {
		double share = (double)(berth__random(random) >> 11) * 0x1p-53;
		double area = zipf->last + share * (zipf->first - zipf->last);
		double x = inverse(zipf, area), rank = floor(x + 0.5);

		rank = fmin(fmax(rank, 1), zipf->nr);
		if (rank - x <= zipf->sure || area >= integral(zipf, rank + 0.5) - law(zipf, rank))
			return (uint64_t)rank - 1;
	}
}
