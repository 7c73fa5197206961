/* SPDX-License-Identifier: MIT */
/*
 * Reading BERTH_UNTREATED. Neither malloc nor stdio: it runs while the library starts.
 */
#include "runtime/untreated.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Atomic uint32_t berth__untreated_mask;

static const char *const names[BERTH_NR_TREATMENTS] = {
#define BERTH_TREAT_NAME(constant, name) [BERTH_TREAT_##constant] = name,
	BERTH_TREATMENTS(BERTH_TREAT_NAME)
#undef BERTH_TREAT_NAME
};

_Static_assert(BERTH_NR_TREATMENTS <= 32, "one bit of the mask each");

static uint32_t bit_of(const char *name, size_t length)
{
	for (unsigned i = 0; i < BERTH_NR_TREATMENTS; i++)
		if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0)
			return 1u << i;
	return 0;
}

static _Noreturn void refuse(const char *name, size_t length)
{
	static const char before[] = "berth: " BERTH_UNTREATED_ENV " knows no treatment \"";

	if (write(STDERR_FILENO, before, sizeof(before) - 1) < 0 ||
	    write(STDERR_FILENO, name, length) < 0 || write(STDERR_FILENO, "\"\n", 2) < 0) {
		/* nobody to tell */
	}
	_exit(125);
}

void berth__untreated_init(void)
{
	const char *at = getenv(BERTH_UNTREATED_ENV);
	uint32_t mask = 0;

	while (at && *at) {
		size_t length = strcspn(at, ",");
		uint32_t bit = bit_of(at, length);

		if (!bit && length)
			refuse(at, length);
		mask |= bit;
		at += length + (at[length] == ',');
	}
	atomic_store(&berth__untreated_mask, mask);
}
