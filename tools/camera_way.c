/* SPDX-License-Identifier: MIT */
/*
 * One way of using a camera's memory, in a process of its own: a pool, the load in it, and the photos of
 * `berth bench camera`. The load runs only while this way has its turn.
 *
 * A photo: a buffer is claimed, all of it is written, as a sensor does, then all of it is read, and it is
 * released. What is read must be what was written: so nobody else has used the buffer meanwhile. Sizes
 * and pauses follow from the seed and the photo's number alone, and are the same in all ways.
 *
 * In the mixed way a quarter of the memory is an area that lends what can be dropped, and the rest one that
 * lends movable memory. A photo is taken from the first one if it fits in there, and from the other one if not.
 */
#define _GNU_SOURCE
#include "tools/camera.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/internal.h"
#include "tools/tool.h"

#define AREA "camera"
#define LARGE_AREA "large" /* of the mixed way: movable */
#define MIB ((uint64_t)1 << 20)
#define LEAST_PHOTO MIB
#define LEAST_PAUSE_NS 2000000u
#define PAUSES_NS 16000000u   /* from the least on */
#define REST_NS 100000000u    /* more, in front of a turn's first photo */
#define WARM_UP_NS 200000000u /* and 5 ms for each MiB, up to: */
#define MOST_WARM_UP_NS 3000000000u

struct way {
	const struct berth__camera_config *config;
	enum berth__camera_way way;
	int line;
	struct berth_pool *pool;
	struct berth_store *store;
	struct berth_gcma *gcma; /* the store's area */
	/* When the turn began: */
	struct berth_gcma_stats gcma_before;
	struct berth_store_stats store_before;
	struct berth__camera_load *load;
	struct berth__camera_message message;
};

const char *const berth__camera_way_names[BERTH__CAMERA_NR_WAYS] = { "reserve", "cma", "gcma",
								     "mixed" };

/* ---- Sizes ------------------------------------------------------------------------------------- */

/* The file is larger than what could cache it. */
uint64_t berth__camera_file_bytes(const struct berth__camera_config *config)
{
	return config->size / 2 * 3;
}

uint64_t berth__camera_needs(const struct berth__camera_config *config)
{
	return 2 * config->size + 8 * MIB;
}

static uint64_t number_of(const struct way *way, uint64_t photo, unsigned what)
{
	return berth__mix(berth__mix(way->config->seed) + 2 * photo + what);
}

/* From 0 to 1, without 1. */
static double share_of(uint64_t number)
{
	return (double)(number >> 11) * 0x1p-53;
}

/*
 * Sizes are from 1 MiB to the largest, and of each doubling there are as many. The largest eighth of these (by doublings)
 * decides over the high percentiles, so half of a turn's photos are of that eighth, and seven of the others count for
 * one of those: the weight. Either half goes through its range in four parts, in some order, and over the turns sizes fill each
 * part evenly (by the golden ratio): how many photos are large is no chance.
 */
#define HALF (BERTH__CAMERA_TURN / 2)
#define LARGE_WEIGHT 1u
#define OTHER_WEIGHT 7u
#define ALL_WEIGHTS ((double)(HALF * (LARGE_WEIGHT + OTHER_WEIGHT)))

static void choose_size(const struct way *way, struct berth__camera_photo *photo)
{
	const uint64_t turn = photo->number / BERTH__CAMERA_TURN;
	const uint64_t number = number_of(way, turn * BERTH__CAMERA_TURN, 0);
	/* An odd factor makes some order of 0 .. 7. */
	const uint64_t part = (photo->number * (number % BERTH__CAMERA_TURN | 1) + (number >> 8)) %
			      BERTH__CAMERA_TURN;
	const bool large = part >= HALF;
	const double evenly = share_of(berth__mix(way->config->seed + part)) +
			      (double)turn * 0.61803398874989485;
	const double place = (double)(part % HALF) + evenly - floor(evenly);
	const double share = large ? (HALF * OTHER_WEIGHT + place * LARGE_WEIGHT) / ALL_WEIGHTS :
				     place * OTHER_WEIGHT / ALL_WEIGHTS;
	const double least = (double)LEAST_PHOTO, most = (double)way->config->largest;
	const uint64_t bytes = (uint64_t)(least * pow(most / least, share));

	photo->weight = large ? LARGE_WEIGHT : OTHER_WEIGHT;
	photo->bytes = (bytes + BERTH_PAGE_SIZE - 1) & ~(uint64_t)(BERTH_PAGE_SIZE - 1);
}

static uint64_t pause_ns(const struct way *way, uint64_t photo)
{
	return LEAST_PAUSE_NS + number_of(way, photo, 1) % PAUSES_NS +
	       (photo % BERTH__CAMERA_TURN ? 0 : REST_NS);
}

/* ---- Telling ----------------------------------------------------------------------------------- */

static bool tell(struct way *way, enum berth__camera_kind kind)
{
	way->message.kind = kind;
	return send(way->line, &way->message, sizeof(way->message), MSG_NOSIGNAL) ==
	       (ssize_t)sizeof(way->message);
}

static bool wrong(struct way *way, const char *what, int error)
{
	snprintf(way->message.text, sizeof(way->message.text), "%s: %s (%s)", what,
		 berth_strerror(error), berth_errname(error));
	tell(way, BERTH__CAMERA_WRONG);
	return false;
}

/* ---- Setting up -------------------------------------------------------------------------------- */

static bool has_store(const struct way *way)
{
	return way->way == BERTH__CAMERA_GCMA || way->way == BERTH__CAMERA_MIXED;
}

/* What the store's area has of the camera's memory. */
static uint64_t store_bytes(const struct way *way)
{
	return way->way == BERTH__CAMERA_MIXED ? way->config->size / 4 : way->config->size;
}

static void describe_areas(const struct way *way, char *text, size_t text_bytes)
{
	static const char *const policies[BERTH__CAMERA_NR_WAYS] = { "policy=reserve", "lend=first",
								     "policy=gcma", "policy=gcma" };
	unsigned long long size = way->config->size, first = store_bytes(way);

	snprintf(text, text_bytes, "areas=" AREA ":%llu,%s", first, policies[way->way]);
	if (first < size)
		snprintf(text + strlen(text), text_bytes - strlen(text),
			 ";" LARGE_AREA ":%llu,lend=first", size - first);
}

static bool open_store(struct way *way)
{
	struct berth_pool_impl *pool;
	int error = berth_pool_store(way->pool, AREA, &way->store);

	if (error)
		return wrong(way, "the area has no store", error);
	pool = berth__enter(way->pool);
	if (!pool)
		return wrong(way, "the pool can't be used", berth__refusal(way->pool));
	way->gcma = berth_contig_area_gcma(berth__pool_area(pool, AREA)->area);
	berth__leave(way->pool);
	return true;
}

static bool set_up(struct way *way)
{
	const struct berth__camera_config *config = way->config;
	struct berth__camera_place place = { .config = config, .heap_bytes = config->size / 8 * 3 };
	char areas[128];
	struct berth_pool_params params = { .bytes = 2 * config->size,
					    .config = areas,
					    .flags = BERTH_POOL_RESIDENT };
	int error;

	describe_areas(way, areas, sizeof(areas));
	error = berth_pool_open(&params, &way->pool);
	if (error)
		return wrong(way, "the pool can't be opened", error);
	if (has_store(way) && !open_store(way))
		return false;
	place.pool = way->pool;
	place.store = way->store;
	place.cache_is_movable = way->way == BERTH__CAMERA_CMA;
	place.cache_bytes = has_store(way)         ? store_bytes(way) :
			    place.cache_is_movable ? config->size / 2 :
						     2 * MIB;
	way->load = berth__camera_load_open(&place, way->message.text);
	if (!way->load)
		tell(way, BERTH__CAMERA_WRONG);
	return way->load;
}

static void tear_down(struct way *way)
{
	bool good = true;
	int error;

	if (way->load)
		good = berth__camera_load_close(way->load);
	if (!way->pool)
		return;
	error = berth_pool_close(way->pool);
	if (error || !good)
		wrong(way, "the pool can't be closed", error);
}

/* ---- A photo ----------------------------------------------------------------------------------- */

static bool use_buffer(const struct berth_buffer *buffer, uint64_t value,
		       struct berth__camera_photo *photo)
{
	uint64_t *words = buffer->address, nr = buffer->bytes / sizeof(*words), sum = 0;
	uint64_t began = berth__clock_ns(CLOCK_MONOTONIC), written;

	for (uint64_t i = 0; i < nr; i++)
		words[i] = value + i;
	__asm__ volatile("" : : "r"(words) : "memory"); /* it goes through memory */
	written = berth__clock_ns(CLOCK_MONOTONIC);
	for (uint64_t i = 0; i < nr; i++)
		sum += words[i];
	photo->write_ns = written - began;
	photo->read_ns = berth__clock_ns(CLOCK_MONOTONIC) - written;
	return sum == nr * value + nr / 2 * (nr - 1); /* nr is even */
}

/* Of the camera's memory: movable memory, and pages of the store. */
static uint64_t lent_bytes(const struct way *way)
{
	struct berth_store_stats store = { .nr_pages = 0 };
	struct berth_pool_stats stats;

	if (berth_pool_stats(way->pool, &stats) != 0)
		return 0;
	if (way->store)
		berth_store_stats(way->store, &store);
	return stats.lent_bytes + (store.stored_pages << BERTH_PAGE_SHIFT);
}

static uint64_t faults(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_THREAD, &usage) == 0 ? (uint64_t)usage.ru_minflt : 0;
}

static const char *area_for(const struct way *way, uint64_t bytes)
{
	return bytes <= store_bytes(way) ? AREA : LARGE_AREA;
}

static bool take_photo(struct way *way, uint64_t number)
{
	struct berth__camera_photo *photo = &way->message.photo;
	struct berth_claim_report report;
	struct berth_buffer buffer;
	uint64_t began, cpu;
	bool intact = true;
	int error = 0;

	*photo = (struct berth__camera_photo){ .number = number,
					       .lent_bytes = lent_bytes(way),
					       .faults = faults() };
	choose_size(way, photo);
	cpu = berth__clock_ns(CLOCK_THREAD_CPUTIME_ID);
	began = berth__clock_ns(CLOCK_MONOTONIC);
	photo->error = berth_claim(way->pool, area_for(way, photo->bytes), photo->bytes, NULL,
				   &buffer, &report);
	photo->claim_ns = berth__clock_ns(CLOCK_MONOTONIC) - began;
	if (!photo->error) {
		intact = use_buffer(&buffer, number_of(way, number, 0), photo);
		error = berth_release(way->pool, &buffer);
	}
	photo->whole_ns = berth__clock_ns(CLOCK_MONOTONIC) - began;
	photo->cpu_ns = berth__clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
	photo->faults = faults() - photo->faults;
	photo->moved_bytes = report.moved_pages << BERTH_PAGE_SHIFT;
	if (error)
		return wrong(way, "a photo can't be released", error);
	if (!intact) {
		snprintf(way->message.text, sizeof(way->message.text),
			 "somebody has written to photo %llu", (unsigned long long)number);
		tell(way, BERTH__CAMERA_WRONG);
		return false;
	}
	return tell(way, BERTH__CAMERA_PHOTO);
}

static uint64_t warm_up_ns(const struct berth__camera_config *config)
{
	uint64_t ns = WARM_UP_NS + config->size / MIB * 5000000u;

	return ns < MOST_WARM_UP_NS ? ns : MOST_WARM_UP_NS;
}

static void pause_for(uint64_t ns)
{
	struct timespec left = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

	while (nanosleep(&left, &left) != 0 && errno == EINTR && !berth__interrupted())
		;
}

/* What claims did to the store in this turn, and it to them. */
static void add_figures(struct way *way)
{
	struct berth__camera_figures *figures = &way->message.figures;
	struct berth_store_stats store;
	struct berth_gcma_stats gcma;

	if (!way->gcma)
		return;
	berth_gcma_stats(way->gcma, &gcma);
	berth_store_stats(way->store, &store);
	figures->waits = gcma.filler_waits - way->gcma_before.filler_waits;
	figures->wait_ns = gcma.filler_wait_ns - way->gcma_before.filler_wait_ns;
	figures->longest_wait_ns = gcma.longest_wait_ns;
	figures->lost = store.lost_to_claims - way->store_before.lost_to_claims;
}

/*
 * Which of the load's threads the camera displaces, and which goes on beside it, decides what is left of the memory's
 * bandwidth. Left to the scheduler that stays as it happens to be for many turns, in each way differently. So it is
 * changed every four turns, when each order of the ways has been there once.
 */
static void choose_cpu(const struct way *way, const struct berth__camera_order *order)
{
	const struct berth__camera_config *config = way->config;

	if (config->nr_cpus > 1)
		berth__stay_on(
			config->cpus[order->first / BERTH__CAMERA_TURN / BERTH__CAMERA_NR_WAYS % 2]);
}

/* One turn. */
static bool obey(struct way *way, const struct berth__camera_order *order)
{
	bool good = true;

	if (way->gcma) {
		berth_gcma_stats(way->gcma, &way->gcma_before);
		berth_store_stats(way->store, &way->store_before);
	}
	choose_cpu(way, order);
	berth__camera_load_resume(way->load);
	if (!order->nr)
		pause_for(warm_up_ns(way->config));
	for (uint64_t i = 0; i < order->nr && good && !berth__interrupted(); i++) {
		pause_for(pause_ns(way, order->first + i));
		good = take_photo(way, order->first + i);
	}
	if (!berth__camera_load_halt(way->load, &way->message.figures, way->message.text)) {
		tell(way, BERTH__CAMERA_WRONG);
		return false;
	}
	add_figures(way);
	return good && tell(way, BERTH__CAMERA_ROUND);
}

int berth__camera_live(const struct berth__camera_config *config, enum berth__camera_way which,
		       int line)
{
	struct way way = { .config = config, .way = which, .line = line };
	struct berth__camera_order order;
	bool good;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	good = set_up(&way) && tell(&way, BERTH__CAMERA_READY);
	while (good && recv(line, &order, sizeof(order), 0) == (ssize_t)sizeof(order))
		good = obey(&way, &order);
	tear_down(&way);
	return good ? 0 : BERTH__EXIT_FAILED;
}
