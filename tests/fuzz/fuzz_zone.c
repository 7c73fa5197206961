/* SPDX-License-Identifier: MIT */
/* Fuzz target: allocations, frees of blocks and parts, pins, drains and nonsense on one zone. */
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static void (*const operations[])(struct fuzz * f) = {
		fuzz_alloc,     fuzz_alloc, fuzz_alloc, fuzz_free,     fuzz_free,
		fuzz_free_part, fuzz_pin,   fuzz_drain, fuzz_nonsense,
	};

	return fuzz_run_input(data, bytes, operations, sizeof(operations) / sizeof(operations[0]));
}
