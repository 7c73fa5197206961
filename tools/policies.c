/* SPDX-License-Identifier: MIT */
/*
 * Traces and models of caches. Keys are small numbers, so a model is a few arrays.
 */
#include "tools/policies.h"

#include <stdlib.h>
#include <string.h>

#include "tools/measure.h"
#include "tools/zipf.h"

#define NONE UINT32_MAX

const char *const berth__trace_names[BERTH__NR_TRACES] = {
	"zipf 0.9", "zipf 1.0", "zipf 1.2", "zipf 1.0 + scans", "loop 1.2", "loop 2.0",
};

/* ---- Traces ------------------------------------------------------------------------------------ */

#define ZIPF_KEYS 10u /* for each page of the cache */

/* A scan over half as many pages as the cache holds, then three times as many uses. */
static void fill_scans(struct berth__trace *trace, const struct berth__zipf *zipf,
		       uint32_t capacity, uint64_t *random)
{
	uint32_t length = capacity / 2, next = ZIPF_KEYS * capacity;

	for (size_t i = 0; i < trace->nr; i++) {
		bool scans = i % (2 * capacity) < length;

		trace->keys[i] = scans ? next++ : (uint32_t)berth__zipf_next(zipf, random);
	}
	trace->nr_keys = next;
}

bool berth__trace_make(struct berth__trace *trace, enum berth__trace_kind kind, uint32_t capacity,
		       size_t nr, uint64_t seed)
{
	static const double exponents[] = { 0.9, 1.0, 1.2, 1.0 };
	struct berth__zipf zipf;
	uint64_t random = seed;

	*trace = (struct berth__trace){ .keys = malloc(nr * sizeof(*trace->keys)), .nr = nr };
	if (!trace->keys)
		return false;
	if (kind >= BERTH__TRACE_LOOP) {
		trace->nr_keys = kind == BERTH__TRACE_LOOP ? capacity + capacity / 5 : 2 * capacity;
		for (size_t i = 0; i < nr; i++)
			trace->keys[i] = (uint32_t)(i % trace->nr_keys);
		return true;
	}
	berth__zipf_init(&zipf, ZIPF_KEYS * (uint64_t)capacity, exponents[kind]);
	trace->nr_keys = ZIPF_KEYS * capacity;
	if (kind == BERTH__TRACE_SCANS)
		fill_scans(trace, &zipf, capacity, &random);
	else
		for (size_t i = 0; i < nr; i++)
			trace->keys[i] = (uint32_t)berth__zipf_next(&zipf, &random);
	return true;
}

void berth__trace_free(struct berth__trace *trace)
{
	free(trace->keys);
	trace->keys = NULL;
}

/* ---- LRU --------------------------------------------------------------------------------------- */

/* A ring of links, with the last entry as its anchor. */
struct ring {
	uint32_t *next, *prev;
	uint32_t anchor;
};

static bool ring_open(struct ring *ring, uint32_t nr)
{
	ring->next = malloc(2 * ((size_t)nr + 1) * sizeof(*ring->next));
	if (!ring->next)
		return false;
	ring->prev = ring->next + nr + 1;
	memset(ring->next, 0xff, 2 * ((size_t)nr + 1) * sizeof(*ring->next));
	ring->anchor = nr;
	ring->next[nr] = ring->prev[nr] = nr;
	return true;
}

static void ring_remove(struct ring *ring, uint32_t key)
{
	ring->next[ring->prev[key]] = ring->next[key];
	ring->prev[ring->next[key]] = ring->prev[key];
	ring->next[key] = NONE;
}

static void ring_add(struct ring *ring, uint32_t key)
{
	ring->next[key] = ring->next[ring->anchor];
	ring->prev[key] = ring->anchor;
	ring->prev[ring->next[key]] = key;
	ring->next[ring->anchor] = key;
}

double berth__lru_hit_rate(const struct berth__trace *trace, uint32_t capacity)
{
	struct ring ring;
	uint32_t nr = 0;
	uint64_t hits = 0;

	if (!ring_open(&ring, trace->nr_keys))
		return -1;
	for (size_t i = 0; i < trace->nr; i++) {
		uint32_t key = trace->keys[i];

		if (ring.next[key] != NONE) {
			hits++;
			ring_remove(&ring, key);
		} else if (nr == capacity) {
			ring_remove(&ring, ring.prev[ring.anchor]);
		} else {
			nr++;
		}
		ring_add(&ring, key);
	}
	free(ring.next);
	return (double)hits / (double)trace->nr;
}

/* ---- S3-FIFO ----------------------------------------------------------------------------------- */

enum { NOWHERE, SMALL, MAIN };

struct s3fifo {
	struct ring small, main;
	uint8_t *where, *freq;
	uint64_t *ghost_until; /* the count of ghosts at which a key is forgotten */
	uint64_t ghosts;
	uint32_t nr_small, nr_main, small_capacity, main_capacity;
};

static void evict_main(struct s3fifo *s)
{
	for (;;) {
		uint32_t key = s->main.prev[s->main.anchor];

		ring_remove(&s->main, key);
		if (s->freq[key] == 0) {
			s->where[key] = NOWHERE;
			s->nr_main--;
			return;
		}
		s->freq[key]--;
		ring_add(&s->main, key);
	}
}

/* True: something was evicted, rather than promoted. */
static bool evict_small(struct s3fifo *s)
{
	uint32_t key = s->small.prev[s->small.anchor];
	bool promoted = s->freq[key] > 1;

	ring_remove(&s->small, key);
	s->nr_small--;
	if (promoted) {
		s->freq[key] = 0;
		s->where[key] = MAIN;
		s->nr_main++;
		ring_add(&s->main, key);
		if (s->nr_main > s->main_capacity)
			evict_main(s);
	} else {
		s->where[key] = NOWHERE;
		s->ghost_until[key] = ++s->ghosts + s->main_capacity;
	}
	return !promoted;
}

static void make_room(struct s3fifo *s)
{
	while (s->nr_small + s->nr_main >= s->small_capacity + s->main_capacity) {
		if (s->nr_small >= s->small_capacity || !s->nr_main)
			(void)evict_small(s);
		else
			evict_main(s);
	}
}

static void bring_in(struct s3fifo *s, uint32_t key)
{
	bool ghost = s->ghost_until[key] > s->ghosts;

	make_room(s);
	s->freq[key] = 0;
	s->ghost_until[key] = 0;
	s->where[key] = ghost ? MAIN : SMALL;
	ring_add(ghost ? &s->main : &s->small, key);
	*(ghost ? &s->nr_main : &s->nr_small) += 1;
}

double berth__s3fifo_hit_rate(const struct berth__trace *trace, uint32_t capacity)
{
	struct s3fifo s = { .small_capacity = capacity / 10 };
	uint64_t hits = 0;
	bool ready;

	s.main_capacity = capacity - s.small_capacity;
	s.where = calloc(trace->nr_keys, 1);
	s.freq = calloc(trace->nr_keys, 1);
	s.ghost_until = calloc(trace->nr_keys, sizeof(*s.ghost_until));
	ready = ring_open(&s.small, trace->nr_keys) && ring_open(&s.main, trace->nr_keys) &&
		s.where && s.freq && s.ghost_until;
	for (size_t i = 0; ready && i < trace->nr; i++) {
		uint32_t key = trace->keys[i];

		if (s.where[key] == NOWHERE) {
			bring_in(&s, key);
			continue;
		}
		hits++;
		if (s.freq[key] < 3)
			s.freq[key]++;
	}
	free(s.small.next);
	free(s.main.next);
	free(s.where);
	free(s.freq);
	free(s.ghost_until);
	return ready ? (double)hits / (double)trace->nr : -1;
}
