/* SPDX-License-Identifier: MIT */
/*
 * `berth bench claim --bulk N`: N buffers of one size in one call; in N calls; and in N calls of the
 * kernel's kind: each looks for the first run of zero bits, isolates it, drains all lists of the CPUs
 * and takes it, as cma_alloc() does.
 *
 * On a zone without contents, so that nothing but the claiming is measured. The area is empty, and
 * this thread's list has been used.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <berth/core.h>

#include "port/linux/port_linux.h"
#include "tools/bench_many.h"
#include "tools/json.h"
#include "tools/measure.h"
#include "tools/options.h"
#include "tools/units.h"

#define AREA_BYTES_UNIT ((uint64_t)2 << 20)
#define CPUS 64u

struct bench {
	const struct berth__many *config;
	struct berth_zone *zone;
	struct berth_cma *area;
	void *metadata;
	size_t metadata_bytes;
	uint64_t nr_pages, area_pages;
	uint64_t *bitmap, *naive_bitmap;
	berth_pfn_t *pfns;
	struct berth__samples bulk_us, single_us, naive_us;
};

static bool wrong(const struct bench *bench, const char *what, int error)
{
	return berth__complain(0, bench->config->command, "%s (error %d)", what, error) != 0;
}

static bool open_zone(struct bench *bench)
{
	const struct berth__many *config = bench->config;
	struct berth_zone_params params = {
		.name = "bench",
		.nr_cpus = CPUS,
		.max_areas = 1,
		.metadata_is_zeroed = true,
		.port = berth_port_linux_ops(),
	};
	struct berth_cma_params area = { .name = "bench", .lend = BERTH_LEND_FIRST };

	bench->nr_pages = (config->size + BERTH_PAGE_SIZE - 1) >> BERTH_PAGE_SHIFT;
	bench->area_pages = (config->bulk * (bench->nr_pages << BERTH_PAGE_SHIFT) +
			     AREA_BYTES_UNIT - 1) /
			    AREA_BYTES_UNIT * (AREA_BYTES_UNIT >> BERTH_PAGE_SHIFT);
	params.nr_pages = 2 * bench->area_pages;
	area.nr_pages = bench->area_pages;
	bench->metadata_bytes = berth_zone_metadata_size(&params);
	bench->metadata = berth__map_resident(bench->metadata_bytes);
	bench->bitmap = area.bitmap = calloc(1, berth_cma_bitmap_bytes(area.nr_pages, 0));
	bench->naive_bitmap = calloc(1, berth_cma_bitmap_bytes(area.nr_pages, 0));
	bench->pfns = calloc(config->bulk, sizeof(*bench->pfns));
	if (!bench->metadata || !area.bitmap || !bench->naive_bitmap || !bench->pfns ||
	    berth_zone_init(&bench->zone, &params, bench->metadata, bench->metadata_bytes) != 0 ||
	    berth_zone_add_memory(bench->zone, 0, params.nr_pages) != 0 ||
	    berth_cma_declare(bench->zone, &area, &bench->area) != 0)
		return wrong(bench, "there is no memory for that", -BERTH_ENOMEM);
	return true;
}

/* ---- The kernel's kind -------------------------------------------------------------------------- */

/* Bits [first, first + nr), a word at a time. */
static void change_bits(uint64_t *bitmap, uint64_t first, uint64_t nr, bool value)
{
	while (nr) {
		uint64_t from = first % 64, part = 64 - from < nr ? 64 - from : nr;
		uint64_t mask = (part < 64 ? ((uint64_t)1 << part) - 1 : UINT64_MAX) << from;

		if (value)
			bitmap[first / 64] |= mask;
		else
			bitmap[first / 64] &= ~mask;
		first += part;
		nr -= part;
	}
}

/* The first bit from `at` on that is set, or clear; `bits` if none is. */
static uint64_t next_bit(const uint64_t *bitmap, uint64_t bits, uint64_t at, bool set)
{
	const uint64_t flip = set ? 0 : UINT64_MAX;
	uint64_t nr = at / 64, words = (bits + 63) / 64, word;

	if (at >= bits)
		return bits;
	for (word = (bitmap[nr] ^ flip) & UINT64_MAX << at % 64; !word && ++nr < words;)
		word = bitmap[nr] ^ flip;
	at = nr * 64 + (word ? (uint64_t)__builtin_ctzll(word) : 0);
	return at < bits ? at : bits;
}

/* The first nr zero bits, looked for from the beginning, as bitmap_find_next_zero_area() does. */
static uint64_t first_zeroes(const uint64_t *bitmap, uint64_t bits, uint64_t nr)
{
	uint64_t start = next_bit(bitmap, bits, 0, false), end;

	while ((end = next_bit(bitmap, bits, start, true)) - start < nr && end < bits)
		start = next_bit(bitmap, bits, end, false);
	return start;
}

static int claim_as_kernel(struct bench *bench, berth_pfn_t *pfn)
{
	uint64_t first = first_zeroes(bench->naive_bitmap, bench->area_pages, bench->nr_pages);

	change_bits(bench->naive_bitmap, first, bench->nr_pages, true);
	*pfn = first;
	berth_pcp_drain_all(bench->zone);
	return berth_alloc_contig_range(bench->zone, first, bench->nr_pages, NULL, NULL);
}

/* ---- One round ------------------------------------------------------------------------------------ */

/* This thread's list holds frames, as that of any thread that runs. */
static int warm_list(struct bench *bench)
{
	berth_pfn_t pfn;
	int error = berth_alloc_pages(bench->zone, 0, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, 0,
				      &pfn);

	return error ? error : berth_free_pages(bench->zone, pfn);
}

static int round_bulk(struct bench *bench, unsigned nr, double *us)
{
	struct berth_claim_params params = { .nr_pages = bench->nr_pages };
	uint64_t began = berth__clock_ns(CLOCK_MONOTONIC);
	int got = berth_cma_alloc_bulk(bench->area, &params, nr, bench->pfns,
				       BERTH_BULK_ALL_OR_NOTHING, NULL);

	*us = berth__us_since(CLOCK_MONOTONIC, began);
	if (got < 0)
		return got;
	return berth_cma_release_bulk(bench->area, bench->pfns, nr, bench->nr_pages);
}

static int round_single(struct bench *bench, unsigned nr, double *us)
{
	struct berth_claim_params params = { .nr_pages = bench->nr_pages };
	uint64_t began = berth__clock_ns(CLOCK_MONOTONIC);
	int error = 0;

	for (unsigned i = 0; i < nr && !error; i++)
		error = berth_cma_alloc(bench->area, &params, &bench->pfns[i], NULL);
	*us = berth__us_since(CLOCK_MONOTONIC, began);
	if (error)
		return error;
	return berth_cma_release_bulk(bench->area, bench->pfns, nr, bench->nr_pages);
}

static int round_naive(struct bench *bench, unsigned nr, double *us)
{
	uint64_t began = berth__clock_ns(CLOCK_MONOTONIC);
	int error = 0;

	for (unsigned i = 0; i < nr && !error; i++)
		error = claim_as_kernel(bench, &bench->pfns[i]);
	*us = berth__us_since(CLOCK_MONOTONIC, began);
	for (unsigned i = 0; i < nr && !error; i++) {
		error = berth_free_contig_range(bench->zone, bench->pfns[i], bench->nr_pages);
		change_bits(bench->naive_bitmap, bench->pfns[i], bench->nr_pages, false);
	}
	return error;
}

static bool run(struct bench *bench)
{
	static int (*const rounds[])(struct bench *, unsigned,
				     double *) = { round_bulk, round_single, round_naive };
	struct berth__samples *samples[] = { &bench->bulk_us, &bench->single_us, &bench->naive_us };
	int error = 0;

	for (uint64_t i = 0; i <= bench->config->count && !berth__interrupted(); i++) {
		for (unsigned kind = 0; kind < 3; kind++) {
			double us = 0;

			error = warm_list(bench);
			if (!error)
				error = rounds[kind](bench, (unsigned)bench->config->bulk, &us);
			if (error)
				return wrong(bench, "a claim failed", error);
			if (i)
				berth__sample_add(samples[kind], us);
		}
		berth__progress(bench->config->command, i, bench->config->count);
	}
	berth__progress_end();
	return true;
}

/* ---- The command --------------------------------------------------------------------------------- */

static void print(struct bench *bench)
{
	const struct berth__many *config = bench->config;
	double bulk = berth__sample_min(&bench->bulk_us);
	double single = berth__sample_min(&bench->single_us);
	double naive = berth__sample_min(&bench->naive_us);
	char size[BERTH__UNIT_BYTES], text[3][BERTH__UNIT_BYTES];

	if (config->json) {
		json_t *line = json_pack("{ss, sI, sI, sI}", "bench", "bulk", "buffers",
					 (json_int_t)config->bulk, "size_bytes",
					 (json_int_t)config->size, "count",
					 (json_int_t)config->count);

		berth__json_add(line, "bulk_min_us", bulk);
		berth__json_add(line, "bulk_p50_us", berth__percentile(&bench->bulk_us, 50));
		berth__json_add(line, "single_min_us", single);
		berth__json_add(line, "naive_min_us", naive);
		berth__json_add(line, "naive_p50_us", berth__percentile(&bench->naive_us, 50));
		berth__json_add(line, "ratio", naive / bulk);
		berth__json_print(line);
		return;
	}
	printf("%llu buffers of %s out of an empty area\n", (unsigned long long)config->bulk,
	       berth__format_bytes(size, (double)config->size));
	printf("  in one call          %s\n", berth__format_ns(text[0], bulk * 1000));
	printf("  one by one           %s: %.1f times as long\n",
	       berth__format_ns(text[1], single * 1000), single / bulk);
	printf("  as the kernel does   %s: %.1f times as long\n",
	       berth__format_ns(text[2], naive * 1000), naive / bulk);
}

int berth__bench_bulk(const struct berth__many *config)
{
	struct bench bench = { .config = config };
	bool good;

	berth__catch_interrupts();
	good = open_zone(&bench) && run(&bench);
	if (good && !berth__interrupted())
		print(&bench);
	if (bench.metadata)
		berth__unmap_resident(bench.metadata, bench.metadata_bytes);
	free(bench.bitmap);
	free(bench.naive_bitmap);
	free(bench.pfns);
	berth__samples_free(&bench.bulk_us);
	berth__samples_free(&bench.single_us);
	berth__samples_free(&bench.naive_us);
	if (berth__interrupted())
		return berth__interrupted_code();
	return good ? 0 : BERTH__EXIT_FAILED;
}
