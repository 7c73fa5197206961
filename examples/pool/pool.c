/* SPDX-License-Identifier: MIT */
/*
 * A camera needs 64 MiB in one piece, now and then. Meanwhile a cache lives in the same memory. When
 * the camera claims its buffer, the cache moves aside: same addresses, same contents.
 *
 *	cc pool.c $(pkg-config --cflags --libs berth) && ./a.out
 */
#include <berth/berth.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

static void must(const char *what, int error)
{
	if (!error)
		return;
	fprintf(stderr, "%s: %s\n", what, berth_strerror(error));
	exit(1);
}

int main(void)
{
	const struct berth_area_params camera = { "camera", 64 * MIB, BERTH_LEND_FIRST };
	const struct berth_pool_params params = { .areas = &camera,
						  .nr_areas = 1,
						  .flags = BERTH_POOL_RESIDENT };
	struct berth_claim_report report;
	struct berth_buffer buffer;
	struct berth_pool *pool;
	uint64_t latency_ns = 0;
	size_t offset;
	void *cache;

	must("open", berth_pool_open(&params, &pool));

	/* Nobody films, so the area's memory is lent: it is as good as any other. */
	must("map", berth_map(pool, 48 * MIB, 0, &cache));
	strcpy(cache, "still here");
	offset = berth_offset_of(pool, cache);

	/* The camera starts. Contiguous in the pool is contiguous for a device that registered it. */
	must("claim", berth_claim(pool, "camera", 64 * MIB, NULL, &buffer, &report));
	memset(buffer.address, 0xff, buffer.bytes);
	for (unsigned phase = 0; phase < BERTH_NR_PHASES; phase++)
		latency_ns += report.phase_ns[phase];
	printf("claimed %zu MiB at offset %#zx in %.2f ms, %zu MiB of it moved out\n",
	       buffer.bytes / MIB, buffer.offset, (double)latency_ns / 1e6,
	       (size_t)report.moved_pages * BERTH_PAGE_SIZE / MIB);
	printf("the cache at %p moved from offset %#zx to %#zx and says: %s\n", cache, offset,
	       berth_offset_of(pool, cache), (char *)cache);

	must("release", berth_release(pool, &buffer));
	must("unmap", berth_unmap(pool, cache, 48 * MIB));
	must("close", berth_pool_close(pool));
	return 0;
}
