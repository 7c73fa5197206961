/* SPDX-License-Identifier: MIT */
/*
 * The load's cache in `berth bench camera`: one thread reads pages of a file, the popular ones more often
 * (Zipf's law with exponent 1), through a cache; one step in ten writes a page to the file and the cache.
 *
 * The cache has memory of its own, movable or ordinary (a table of sets of 8 pages, in which those that
 * weren't used lately give way), or is a discardable store.
 *
 * I1  A page holds its number, the version that was written last and words that follow from both; what a
 *     cache returns is looked at each time. So a page that is stale, foreign or torn is found.
 */
#define _GNU_SOURCE
#include "tools/camera.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/zipf.h"

#define GROUP 1u /* of the store's keys */
#define WAYS 8u
#define CHUNK_BYTES ((uint64_t)2 << 20)
#define CHUNK_PAGES (CHUNK_BYTES >> BERTH_PAGE_SHIFT)
#define UPDATES 10u /* a step in so many */
#define PAGE_WORDS (BERTH_PAGE_SIZE / sizeof(uint64_t))
#define STEPS 16u /* between two looks at the gate */

/* One place in the table. */
struct place {
	uint32_t page; /* + 1; 0: none */
	bool used;     /* since somebody looked for a place last */
};

struct berth__camera_reader {
	struct berth__camera_place place;
	struct berth__camera_gate *gate;
	struct berth__camera_figures *figures;
	int file;
	uint64_t nr_pages; /* of the file */
	struct berth__zipf zipf;
	uint32_t *versions;
	uint64_t random;
	pthread_t thread;
	bool has_thread;
	/* The table: */
	uint64_t nr_sets, nr_chunks;
	struct place *places;
	char **chunks;             /* 2 MiB each */
	uint64_t page[PAGE_WORDS]; /* what was read last, or is to be written */
};

/* ---- The file's pages -------------------------------------------------------------------------- */

static void write_page(uint64_t *words, uint64_t page, uint64_t version)
{
	words[0] = page;
	words[1] = version;
	for (unsigned word = 2; word < PAGE_WORDS; word++)
		words[word] = berth__camera_content(page, version, word);
}

static bool is_right(const struct berth__camera_reader *cache, const uint64_t *words, uint64_t page)
{
	const uint64_t version = cache->versions[page];

	if (words[0] != page || words[1] != version)
		return false;
	/* One word of each cache line */
	for (unsigned word = 7; word < PAGE_WORDS; word += 8)
		if (words[word] != berth__camera_content(page, version, word))
			return false;
	return true;
}

int berth__camera_file(char path[BERTH__CAMERA_PATH_BYTES])
{
	const char *folder = getenv("TMPDIR");

	snprintf(path, BERTH__CAMERA_PATH_BYTES, "%s/berth-camera.XXXXXX",
		 folder && *folder ? folder : "/tmp");
	return mkostemp(path, O_CLOEXEC);
}

static bool fill_file(const struct berth__camera_reader *cache)
{
	const uint64_t most = CHUNK_PAGES;
	char *pages = malloc(CHUNK_BYTES);
	bool good = pages;

	for (uint64_t page = 0; page < cache->nr_pages && good && !berth__interrupted();) {
		uint64_t left = cache->nr_pages - page, nr = left < most ? left : most;
		ssize_t bytes = (ssize_t)(nr << BERTH_PAGE_SHIFT);

		for (uint64_t i = 0; i < nr; i++)
			write_page((uint64_t *)(void *)(pages + (i << BERTH_PAGE_SHIFT)), page + i,
				   0);
		good = pwrite(cache->file, pages, (size_t)bytes,
			      (off_t)(page << BERTH_PAGE_SHIFT)) == bytes;
		page += nr;
	}
	free(pages);
	return good;
}

/* ---- The table --------------------------------------------------------------------------------- */

static char *place_at(const struct berth__camera_reader *cache, uint64_t index)
{
	return cache->chunks[index / CHUNK_PAGES] + (index % CHUNK_PAGES << BERTH_PAGE_SHIFT);
}

static uint64_t set_of(const struct berth__camera_reader *cache, uint64_t page)
{
	return berth__mix(page) % cache->nr_sets * WAYS;
}

/* The page's place, or UINT64_MAX. */
static uint64_t look_up(const struct berth__camera_reader *cache, uint64_t page)
{
	uint64_t set = set_of(cache, page);

	for (unsigned i = 0; i < WAYS; i++)
		if (cache->places[set + i].page == page + 1)
			return set + i;
	return UINT64_MAX;
}

static uint64_t make_room(struct berth__camera_reader *cache, uint64_t page)
{
	uint64_t set = set_of(cache, page), start = berth__random(&cache->random);

	for (unsigned i = 0; i < 2 * WAYS; i++) {
		struct place *place = &cache->places[set + (start + i) % WAYS];

		if (!place->page || !place->used)
			return set + (start + i) % WAYS;
		place->used = false;
	}
	return set + start % WAYS;
}

static bool table_get(struct berth__camera_reader *cache, uint64_t page)
{
	uint64_t index = look_up(cache, page);

	if (index == UINT64_MAX)
		return false;
	memcpy(cache->page, place_at(cache, index), BERTH_PAGE_SIZE);
	cache->places[index].used = true;
	return true;
}

static void table_put(struct berth__camera_reader *cache, uint64_t page)
{
	uint64_t index = look_up(cache, page);

	if (index == UINT64_MAX)
		index = make_room(cache, page);
	memcpy(place_at(cache, index), cache->page, BERTH_PAGE_SIZE);
	cache->places[index] = (struct place){ (uint32_t)page + 1, false };
}

static bool open_table(struct berth__camera_reader *cache)
{
	const struct berth__camera_place *place = &cache->place;
	bool good;

	cache->nr_chunks = (place->cache_bytes + CHUNK_BYTES - 1) / CHUNK_BYTES;
	cache->nr_sets = cache->nr_chunks * CHUNK_PAGES / WAYS;
	cache->places = calloc(cache->nr_chunks * CHUNK_PAGES, sizeof(cache->places[0]));
	cache->chunks = calloc(cache->nr_chunks, sizeof(cache->chunks[0]));
	good = cache->places && cache->chunks;
	for (uint64_t i = 0; i < cache->nr_chunks && good; i++) {
		void *at = NULL;

		if (!place->cache_is_movable)
			at = berth__map_resident(CHUNK_BYTES);
		else if (berth_map(place->pool, CHUNK_BYTES, 0, &at) != 0)
			at = NULL;
		cache->chunks[i] = at;
		good = at;
	}
	return good;
}

static bool close_table(struct berth__camera_reader *cache)
{
	int error = 0;

	for (uint64_t i = 0; i < cache->nr_chunks && cache->chunks && cache->chunks[i]; i++) {
		if (!cache->place.cache_is_movable)
			berth__unmap_resident(cache->chunks[i], CHUNK_BYTES);
		else if (!error)
			error = berth_unmap(cache->place.pool, cache->chunks[i], CHUNK_BYTES);
	}
	free(cache->places);
	free(cache->chunks);
	return !error;
}

/* ---- Table or store ---------------------------------------------------------------------------- */

static bool get(struct berth__camera_reader *cache, uint64_t page)
{
	const struct berth_store_key key = { .group = GROUP, .item = page };

	return cache->place.store ? berth_store_get(cache->place.store, &key, cache->page) == 0 :
				    table_get(cache, page);
}

static void put(struct berth__camera_reader *cache, uint64_t page)
{
	const struct berth_store_key key = { .group = GROUP, .item = page };

	/* Refused: it isn't cached then, and no older version either. */
	if (cache->place.store)
		(void)!berth_store_put(cache->place.store, &key, cache->page);
	else
		table_put(cache, page);
}

/* ---- Steps ------------------------------------------------------------------------------------- */

static bool transfer(struct berth__camera_reader *cache, uint64_t page, bool to_file)
{
	off_t at = (off_t)(page << BERTH_PAGE_SHIFT);
	ssize_t done = to_file ? pwrite(cache->file, cache->page, BERTH_PAGE_SIZE, at) :
				 pread(cache->file, cache->page, BERTH_PAGE_SIZE, at);

	if (done == BERTH_PAGE_SIZE)
		return true;
	berth__camera_fail(cache->gate, "the load's file can't be %s: %s",
			   to_file ? "written" : "read", done < 0 ? strerror(errno) : "cut short");
	return false;
}

static bool update(struct berth__camera_reader *cache, uint64_t page)
{
	write_page(cache->page, page, ++cache->versions[page]);
	if (!transfer(cache, page, true))
		return false;
	put(cache, page);
	cache->figures->updates++;
	return true;
}

static bool read_page(struct berth__camera_reader *cache, uint64_t page)
{
	bool hit = get(cache, page);

	cache->figures->reads++;
	cache->figures->looked_up++;
	cache->figures->hits += hit;
	if (!hit && !transfer(cache, page, false))
		return false;
	if (!is_right(cache, cache->page, page)) {
		berth__camera_fail(cache->gate, "the %s returned a wrong page %llu",
				   hit ? "cache" : "file", (unsigned long long)page);
		return false;
	}
	if (!hit)
		put(cache, page);
	return true;
}

static bool step(struct berth__camera_reader *cache)
{
	bool good = true;

	for (unsigned i = 0; i < STEPS && good; i++) {
		uint64_t page = berth__zipf_next(&cache->zipf, &cache->random);

		good = berth__random(&cache->random) % UPDATES ? read_page(cache, page) :
								 update(cache, page);
	}
	return good;
}

static void *cache_main(void *arg)
{
	struct berth__camera_reader *cache = arg;

	berth__camera_begin(cache->gate, BERTH__CAMERA_READER);
	while (berth__camera_pass(cache->gate) && step(cache))
		;
	berth__camera_leave(cache->gate);
	return NULL;
}

/* ---- Opening ----------------------------------------------------------------------------------- */

/* NULL, or what is missing. */
static const char *set_up(struct berth__camera_reader *cache)
{
	char path[BERTH__CAMERA_PATH_BYTES];

	cache->file = berth__camera_file(path);
	if (cache->file < 0)
		return BERTH__CAMERA_NO_FILE;
	unlink(path);
	if (!fill_file(cache))
		return BERTH__CAMERA_NO_FILE;
	cache->versions = calloc(cache->nr_pages, sizeof(cache->versions[0]));
	if (!cache->versions || (!cache->place.store && !open_table(cache)))
		return "there is no memory for the load's cache";
	cache->has_thread = berth__camera_start(cache->gate, cache_main, cache, &cache->thread) ==
			    0;
	return cache->has_thread ? NULL : "the load's threads can't be started";
}

static bool close_cache(struct berth__camera_reader *cache)
{
	bool good;

	if (cache->has_thread)
		pthread_join(cache->thread, NULL);
	good = close_table(cache);
	if (cache->file >= 0)
		close(cache->file);
	free(cache->versions);
	free(cache);
	return good;
}

static struct berth__camera_reader *open_cache(const struct berth__camera_place *place,
					       struct berth__camera_gate *gate,
					       struct berth__camera_figures *figures,
					       char why[BERTH__CAMERA_TEXT_BYTES])
{
	struct berth__camera_reader *cache = calloc(1, sizeof(*cache));
	const char *missing = "there is no memory for the load's cache";

	if (cache) {
		cache->place = *place;
		cache->gate = gate;
		cache->figures = figures;
		cache->random = place->config->seed + 1;
		cache->nr_pages = berth__camera_file_bytes(place->config) >> BERTH_PAGE_SHIFT;
		berth__zipf_init(&cache->zipf, cache->nr_pages, 1);
		missing = set_up(cache);
		if (!missing)
			return cache;
		(void)!close_cache(cache); /* what is missing is what is said */
	}
	snprintf(why, BERTH__CAMERA_TEXT_BYTES, "%s", missing);
	return NULL;
}

const struct berth__camera_reader_ops berth__camera_pages = { open_cache, close_cache };
