/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the suite `threads` share. Their threads can't use cmocka's assertions, which jump back into the
 * case: what doesn't hold in one ends the program.
 */
#ifndef BERTH_TESTS_TESTTHREADS_H
#define BERTH_TESTS_TESTTHREADS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline void require(bool cond, const char *what, uint64_t value)
{
	if (cond)
		return;
	fprintf(stderr, "%s: %#llx\n", what, (unsigned long long)value);
	abort();
}

static inline void require_equal(const char *what, uint64_t value, uint64_t expected)
{
	if (value == expected)
		return;
	fprintf(stderr, "%s: %#llx, expected %#llx\n", what, (unsigned long long)value,
		(unsigned long long)expected);
	abort();
}

/* What a call must return. */
static inline void require_ret(const char *what, int ret, int expected)
{
	require_equal(what, (uint64_t)(int64_t)ret, (uint64_t)(int64_t)expected);
}

#endif
