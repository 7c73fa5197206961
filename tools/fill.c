/* SPDX-License-Identifier: MIT */
/*
 * An area full of movable memory whose contents are known.
 *
 * I1  After a refill each page lies in the area; since there is as much memory as area, nothing of
 *     the area is free.
 * I2  Chunks are mapped and unmapped in pairs when runs are scattered, so that the two always find
 *     their addresses (a pair is a multiple of 2 MiB) free again.
 */
#include "tools/fill.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/internal.h"
#include "tools/measure.h"

#define HUGE_BYTES ((size_t)2 << 20)
#define MOST_CHUNKS 2048u /* a pool has 4096 regions */
#define TRIES 8
#define LEFT_BYTES ((size_t)16 << 10)
#define MOST_LEFT 512

static bool is_scattered(const struct berth__fill *fill)
{
	return fill->run_bytes < HUGE_BYTES;
}

int berth__fill_open(struct berth__fill *fill)
{
	struct berth_cma_stats area;
	struct berth_pool_stats stats;
	int error = berth_area_stats(fill->pool, NULL, &area);

	if (!error)
		error = berth_pool_stats(fill->pool, &stats);
	if (error)
		return error;
	fill->area_offset = area.start_pfn << BERTH_PAGE_SHIFT;
	fill->area_bytes = stats.area_bytes; /* one behind the other */
	fill->chunk_bytes = is_scattered(fill) ? HUGE_BYTES / 2 : HUGE_BYTES;
	while (fill->area_bytes / fill->chunk_bytes > MOST_CHUNKS &&
	       fill->area_bytes % (4 * fill->chunk_bytes) == 0)
		fill->chunk_bytes *= 2;
	fill->chunk_shift = (unsigned)__builtin_ctzll(fill->chunk_bytes);
	fill->nr_chunks = fill->area_bytes / fill->chunk_bytes;
	fill->chunks = calloc(fill->nr_chunks, sizeof(fill->chunks[0]));
	return fill->chunks ? 0 : -BERTH_ENOMEM;
}

/* ---- Contents -------------------------------------------------------------------------------- */

uint64_t berth__fill_pages(const struct berth__fill *fill)
{
	return fill->area_bytes >> BERTH_PAGE_SHIFT;
}

uint64_t berth__fill_word(const struct berth__fill *fill, uint64_t page, unsigned word)
{
	if (!fill->every_word && word != 0 && word != BERTH__PAGE_WORDS - 1)
		return 0;
	return berth__mix(fill->seed + page * BERTH__PAGE_WORDS + word);
}

/* The distance between words that have contents. */
static unsigned stride(const struct berth__fill *fill)
{
	return fill->every_word ? 1 : BERTH__PAGE_WORDS - 1;
}

/* The memory of a fresh chunk is zero. */
static void write_chunk(const struct berth__fill *fill, size_t chunk)
{
	uint64_t chunk_pages = fill->chunk_bytes >> BERTH_PAGE_SHIFT;

	for (uint64_t page = chunk * chunk_pages; page < (chunk + 1) * chunk_pages; page++)
		for (unsigned word = 0; word < BERTH__PAGE_WORDS; word += stride(fill))
			berth__fill_page(fill, page)[word] = berth__fill_word(fill, page, word);
}

void berth__fill_restore(const struct berth__fill *fill)
{
	for (size_t i = 0; i < fill->nr_chunks; i++) {
		memset(fill->chunks[i], 0, fill->chunk_bytes);
		write_chunk(fill, i);
	}
}

uint64_t berth__fill_check(const struct berth__fill *fill, const void **first)
{
	uint64_t wrong = 0;

	for (uint64_t page = 0; page < berth__fill_pages(fill); page++) {
		const uint64_t *words = berth__fill_page(fill, page);

		for (unsigned word = 0; word < BERTH__PAGE_WORDS; word += stride(fill)) {
			if (words[word] == berth__fill_word(fill, page, word))
				continue;
			if (!wrong++)
				*first = &words[word];
		}
	}
	return wrong;
}

/* ---- Mapping --------------------------------------------------------------------------------- */

static int map(const struct berth__fill *fill, size_t bytes, unsigned flags, char **chunk)
{
	void *address;
	int error = berth_map_runs(fill->pool, bytes, fill->run_bytes, flags, &address);

	*chunk = error ? NULL : address;
	return error;
}

/* Else the next mapping would get what was unmapped last, out of this thread's lists, and not the area's. */
static void drain(struct berth_pool *handle)
{
	struct berth_pool_impl *pool = berth__enter(handle);

	if (!pool)
		return;
	berth_pcp_drain_all(pool->zone);
	berth__leave(handle);
}

/*
 * Maps two chunks so that every run is followed by a run of the other: the first chunk's place is
 * kept free for it, then both grow by turns, the second chunk first. The memory is taken in
 * ascending order, so no run continues the one before it.
 */
static int map_pair(const struct berth__fill *fill, char **pair)
{
	size_t bytes = fill->run_bytes;
	char *place;
	int error = map(fill, fill->chunk_bytes, BERTH_MEMORY_NO_AREA, &place);

	if (!error)
		error = map(fill, bytes, fill->flags, &pair[1]);
	if (place) { /* refused at the system's limit of mappings: each run is one */
		int refused = berth_unmap(fill->pool, place, fill->chunk_bytes);

		drain(fill->pool);
		error = error ? error : refused;
	}
	if (!error)
		error = map(fill, bytes, fill->flags, &pair[0]);
	for (; !error && bytes < fill->chunk_bytes; bytes += fill->run_bytes) {
		for (int i = 1; i >= 0 && !error; i--) {
			error = berth_grow(fill->pool, pair[i], bytes, bytes + fill->run_bytes);
			if (error && i == 0 &&
			    berth_unmap(fill->pool, pair[1], bytes + fill->run_bytes) == 0)
				pair[1] = NULL;
		}
	}
	for (int i = 0; i < 2 && error; i++) { /* whatever is mapped has `bytes` */
		if (pair[i])
			(void)!berth_unmap(fill->pool, pair[i],
					   bytes); /* as above; the pool goes, too */
		pair[i] = NULL;
	}
	return error;
}

/* Maps what is missing of `nr` chunks that belong together. */
static int map_missing(const struct berth__fill *fill, size_t first, size_t nr)
{
	char **chunks = &fill->chunks[first];
	int error = 0;

	if (nr == 2 && !chunks[0] && !chunks[1]) {
		error = map_pair(fill, chunks);
		for (size_t i = 0; i < 2 && !error; i++)
			write_chunk(fill, first + i);
		return error;
	}
	for (size_t i = 0; i < nr && !error; i++) {
		if (chunks[i])
			continue;
		error = map(fill, fill->chunk_bytes, 0, &chunks[i]);
		if (!error)
			write_chunk(fill, first + i);
	}
	return error;
}

static bool is_in_area(const struct berth__fill *fill, const char *chunk)
{
	for (size_t at = 0; at < fill->chunk_bytes; at += BERTH_PAGE_SIZE) {
		size_t offset = berth_offset_of(fill->pool, chunk + at);

		if (offset < fill->area_offset || offset - fill->area_offset >= fill->area_bytes)
			return false;
	}
	return true;
}

/* Unmaps the chunks that belong together when one has moved out. *out: some had. */
static int unmap_moved(const struct berth__fill *fill, size_t first, size_t nr, bool *out)
{
	bool moved = false;

	for (size_t i = first; i < first + nr; i++)
		moved |= !fill->chunks[i] || !is_in_area(fill, fill->chunks[i]);
	for (size_t i = first; i < first + nr && moved; i++) {
		int error = fill->chunks[i] ?
				    berth_unmap(fill->pool, fill->chunks[i], fill->chunk_bytes) :
				    0;

		if (!error)
			fill->chunks[i] = NULL;
		else if (error != -BERTH_EBUSY) /* pinned: it stays */
			return error;
	}
	*out |= moved;
	return 0;
}

int berth__fill_refill(struct berth__fill *fill)
{
	const size_t nr = is_scattered(fill) ? 2 : 1;
	struct berth_pool_stats stats;
	bool out = true;
	int error = 0;

	/* Frames that a thread's list still caches for the area come with the next try. */
	for (int tries = 0; tries < TRIES && out && !error; tries++) {
		out = false;
		for (size_t i = 0; i < fill->nr_chunks && !error; i += nr)
			error = unmap_moved(fill, i, nr, &out);
		for (size_t i = 0; i < fill->nr_chunks && !error && out; i += nr)
			error = map_missing(fill, i, nr);
	}
	if (!error)
		error = berth_pool_stats(fill->pool, &stats);
	if (!error && (out || stats.lent_bytes < stats.area_bytes)) /* nobody claims */
		error = -BERTH_EAGAIN;
	return error;
}

int berth__fill_outside(struct berth__fill *fill)
{
	struct berth_pool_stats stats;
	size_t nr;
	int error = berth_pool_stats(fill->pool, &stats);

	if (error)
		return error;
	fill->chunk_bytes = HUGE_BYTES / 2;
	nr = stats.free_bytes / fill->chunk_bytes;
	fill->chunks = calloc(nr, sizeof(fill->chunks[0]));
	fill->left = calloc(MOST_LEFT, sizeof(fill->left[0]));
	if (!fill->chunks || !fill->left)
		return -BERTH_ENOMEM;
	while (!error && fill->nr_chunks + 2 <= nr) {
		error = map_pair(fill, &fill->chunks[fill->nr_chunks]);
		fill->nr_chunks += 2;
	}
	while (fill->nr_left < MOST_LEFT &&
	       berth_map(fill->pool, LEFT_BYTES, fill->flags, &fill->left[fill->nr_left]) == 0)
		fill->nr_left++;
	for (size_t i = 0; i < fill->nr_chunks; i += 2) {
		error = fill->chunks[i] ?
				berth_unmap(fill->pool, fill->chunks[i], fill->chunk_bytes) :
				0;
		if (error)
			return error;
		fill->chunks[i] = NULL;
	}
	return 0;
}

int berth__fill_close(struct berth__fill *fill)
{
	int error = 0;

	for (size_t i = 0; i < fill->nr_chunks && fill->chunks; i++)
		if (fill->chunks[i] && !error)
			error = berth_unmap(fill->pool, fill->chunks[i], fill->chunk_bytes);
	while (fill->nr_left && !error)
		error = berth_unmap(fill->pool, fill->left[--fill->nr_left], LEFT_BYTES);
	free(fill->left);
	fill->left = NULL;
	free(fill->chunks);
	fill->chunks = NULL;
	return error;
}

size_t berth__fill_runs(const struct berth__fill *fill)
{
	size_t expected = (size_t)-1, runs = 0;

	for (uint64_t page = 0; page < berth__fill_pages(fill); page++) {
		size_t offset = berth_offset_of(fill->pool, berth__fill_page(fill, page));

		runs += offset != expected || page % (HUGE_BYTES >> BERTH_PAGE_SHIFT) == 0;
		expected = offset + BERTH_PAGE_SIZE;
	}
	return runs;
}
