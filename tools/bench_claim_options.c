/* SPDX-License-Identifier: MIT */
/*
 * The command line of `berth bench claim`.
 */
#include <stdio.h>
#include <string.h>

#include <berth/berth.h>

#include "tools/bench_claim.h"
#include "tools/bench_many.h"
#include "tools/fill.h"
#include "tools/options.h"

#define COMMAND BERTH__CLAIM_COMMAND
#define HUGE_BYTES ((uint64_t)2 << 20)
#define MOST_BYTES ((uint64_t)1 << 40)

static const char help[] =
	"usage: berth bench claim --size SIZE --fill empty|movable|pinned|discardable [OPTIONS]\n"
	"\n"
	"How long it takes to claim SIZE contiguous bytes out of an area, and what that is in times of\n"
	"memcpy of the bytes that had to be moved, measured in the same run.\n"
	"\n"
	"  --size SIZE       of each claim: bytes, or with K, M, G or T\n"
	"  --fill empty      nothing is lent\n"
	"  --fill movable    the area is full of movable memory; claims move it out\n"
	"  --fill pinned     likewise, with a short-term pin every 32 MiB; claims that can't avoid a pin\n"
	"                    fail, and that is expected\n"
	"  --fill discardable  with --area-kind gcma: the area is full of pages of a discardable store;\n"
	"                    claims of the full area and of the same one empty take turns\n"
	"  --area-kind KIND  cma, which lends movable memory (default); gcma, which lends what can be\n"
	"                    dropped; or reserve, which lends nothing; the last two move nothing\n"
	"  --run-size SIZE   the movable memory's contiguous runs, 4K to 2M (2M); smaller ones are\n"
	"                    scattered\n"
	"  --destination KIND  what movable memory finds outside the area to move to: resident (default);\n"
	"                    fresh, which the system has to supply first; or scattered, where no two\n"
	"                    free pages follow each other\n"
	"  --count N         claims to measure (200, or 20 when there is something to move; gcma and reserve:\n"
	"                    2000, above 64M of a full area fewer)\n"
	"  --writers N       threads that write all over the movable memory meanwhile, or put and get\n"
	"                    pages of the discardable store (0)\n"
	"  --copiers N       threads that help to copy runs of 1 MiB and more, up to 7 (0)\n"
	"  --let-cpus-sleep  as for a user who may not keep CPUs awake while others wait for moves\n"
	"  --area-size SIZE  the area (SIZE; for pinned at least 512M)\n"
	"  --pin-every SIZE  the distance between pins (32M)\n"
	"  --claimers N      instead: the claims of N threads, 2 to 8, at the same time and one after the\n"
	"                    other, out of one area and out of an area for each, and what the same threads\n"
	"                    make of work by which they share nothing\n"
	"  --bulk N          instead: N buffers of SIZE in one call, in N, and in N of the kernel's kind\n"
	"                    (one search, isolation and drain each), out of an empty area\n"
	"  --first-fit       claim the first range that fits, not the cheapest\n"
	"  --mover NAME      how memory is moved: userfaultfd, /dev/userfaultfd, userfaultfd-user,\n"
	"                    mprotect (the best there is); or userfaultfd-unwatched, as the first one\n"
	"                    does before Linux 6.7\n"
	"  --verify          check every word and every invariant of the pool after each claim\n"
	"  --seed N          of the contents and the writers' order (1)\n"
	"  --json            one JSON object; times in us, moved_bytes of all claims together\n"
	"\n"
	"A stall is a write by --writers that took more than 5 us while a claim was running, unless the\n"
	"thread merely lost its CPU to another one (those are counted apart, as preempted). What a\n"
	"stalled thread waited for a CPU after its page was there is left out of stall_page. factor is\n"
	"p50_us divided by the time of memcpy for the bytes that one claim moved, with no writer;\n"
	"touch_us is the writing of one byte to each claimed page, after the clock has stopped. With gcma\n"
	"and reserve, idle is what as much work as a claim's took that needs no memory, before each claim:\n"
	"what of the longest times is the machine's own.\n"
	"\n"
	"examples:\n"
	"  berth bench claim --size 64M --fill empty\n"
	"  berth bench claim --size 64M --fill movable --run-size 64K --writers 1 --json\n"
	"  berth bench claim --size 64M --area-kind gcma --fill discardable\n"
	"\n"
	"exit codes: 0 done, 1 a claim failed that shouldn't, contents were wrong or there is no memory,\n"
	"2 a mistake in the command line.\n";

const char *const berth__fill_names[BERTH__NR_FILLS] = { "empty", "movable", "pinned",
							 "discardable" };
const char *const berth__destination_names[BERTH__NR_DESTINATIONS] = { "resident", "fresh",
								       "scattered" };
const char *const berth__kind_names[BERTH__NR_KINDS] = { "cma", "gcma", "reserve" };

/* ---- Options ----------------------------------------------------------------------------- */

enum {
	SIZE = 256,
	FILL,
	AREA_KIND,
	RUN_SIZE,
	DESTINATION,
	COUNT,
	WRITERS,
	AREA_SIZE,
	PIN_EVERY,
	CLAIMERS,
	BULK,
	COPIERS,
	LET_CPUS_SLEEP,
	FIRST_FIT,
	MOVER,
	VERIFY,
	SEED,
	JSON
};
static const struct option options[] = {
	{ "size", required_argument, NULL, SIZE },
	{ "fill", required_argument, NULL, FILL },
	{ "area-kind", required_argument, NULL, AREA_KIND },
	{ "run-size", required_argument, NULL, RUN_SIZE },
	{ "destination", required_argument, NULL, DESTINATION },
	{ "count", required_argument, NULL, COUNT },
	{ "writers", required_argument, NULL, WRITERS },
	{ "area-size", required_argument, NULL, AREA_SIZE },
	{ "pin-every", required_argument, NULL, PIN_EVERY },
	{ "claimers", required_argument, NULL, CLAIMERS },
	{ "bulk", required_argument, NULL, BULK },
	{ "copiers", required_argument, NULL, COPIERS },
	{ "let-cpus-sleep", no_argument, NULL, LET_CPUS_SLEEP },
	{ "first-fit", no_argument, NULL, FIRST_FIT },
	{ "mover", required_argument, NULL, MOVER },
	{ "verify", no_argument, NULL, VERIFY },
	{ "seed", required_argument, NULL, SEED },
	{ "json", no_argument, NULL, JSON },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool choose_fill(struct berth__claim_config *config)
{
	config->fill = -1;
	for (int i = 0; i < BERTH__NR_FILLS; i++)
		if (strcmp(optarg, berth__fill_names[i]) == 0)
			config->fill = i;
	if (config->fill < 0)
		berth__complain(0, COMMAND,
				"there is no --fill '%s'; choose empty, movable, pinned or "
				"discardable",
				optarg);
	return config->fill >= 0;
}

static bool choose_kind(struct berth__claim_config *config)
{
	config->kind = -1;
	for (int i = 0; i < BERTH__NR_KINDS; i++)
		if (strcmp(optarg, berth__kind_names[i]) == 0)
			config->kind = i;
	if (config->kind < 0)
		berth__complain(0, COMMAND,
				"there is no --area-kind '%s'; choose cma, gcma or reserve",
				optarg);
	return config->kind >= 0;
}

static bool choose_destination(struct berth__claim_config *config)
{
	config->destination = -1;
	for (int i = 0; i < BERTH__NR_DESTINATIONS; i++)
		if (strcmp(optarg, berth__destination_names[i]) == 0)
			config->destination = i;
	if (config->destination < 0)
		berth__complain(0, COMMAND,
				"there is no --destination '%s'; choose resident, fresh or "
				"scattered",
				optarg);
	return config->destination >= 0;
}

static bool take_run_size(struct berth__claim_config *config)
{
	if (!berth__size_option(COMMAND, "--run-size", &config->run))
		return false;
	if (config->run >= BERTH_PAGE_SIZE && config->run <= HUGE_BYTES &&
	    !(config->run & (config->run - 1)))
		return true;
	berth__complain(0, COMMAND, "--run-size '%s' isn't a power of two from 4K to 2M", optarg);
	return false;
}

static bool take_flag(struct berth__claim_config *config, int option)
{
	config->first_fit |= option == FIRST_FIT;
	config->let_cpus_sleep |= option == LET_CPUS_SLEEP;
	config->verify |= option == VERIFY;
	config->json |= option == JSON;
	return true;
}

static bool take_option(void *ctx, int option)
{
	struct berth__claim_config *config = ctx;

	switch (option) {
	case SIZE:
		return berth__size_option(COMMAND, "--size", &config->size);
	case FILL:
		return choose_fill(config);
	case AREA_KIND:
		return choose_kind(config);
	case RUN_SIZE:
		return take_run_size(config);
	case DESTINATION:
		return choose_destination(config);
	case COUNT:
		return berth__count_option(COMMAND, "--count", 1, 10000000, &config->count);
	case WRITERS:
		return berth__count_option(COMMAND, "--writers", 0, BERTH__MAX_WRITERS,
					   &config->writers);
	case AREA_SIZE:
		return berth__size_option(COMMAND, "--area-size", &config->area);
	case PIN_EVERY:
		return berth__size_option(COMMAND, "--pin-every", &config->pin_every);
	case CLAIMERS:
		return berth__count_option(COMMAND, "--claimers", 2, BERTH__MAX_CLAIMERS,
					   &config->claimers);
	case BULK:
		return berth__count_option(COMMAND, "--bulk", 1, 1000000, &config->bulk);
	case COPIERS:
		return berth__count_option(COMMAND, "--copiers", 0, 7, &config->copiers);
	case MOVER:
		config->mover = optarg;
		return berth__mover_option(COMMAND);
	case SEED:
		return berth__count_option(COMMAND, "--seed", 0, INT64_MAX, &config->seed);
	default:
		return take_flag(config, option);
	}
}

/* NULL, or what doesn't fit together. */
static const char *misfit(const struct berth__claim_config *config)
{
	if (!config->size)
		return "--size is missing, as in --size 64M";
	if (config->bulk && config->claimers)
		return "--bulk and --claimers don't go together; choose one";
	if (config->bulk && config->fill > BERTH__FILL_EMPTY)
		return "--bulk is measured with an empty area; leave --fill out";
	if (config->fill < 0 && !config->bulk)
		return "--fill is missing; choose empty, movable, pinned or discardable";
	if (config->fill == BERTH__FILL_DISCARDABLE && config->kind != BERTH__AREA_GCMA)
		return "--fill discardable needs an area that lends so; add --area-kind gcma";
	if (config->kind != BERTH__AREA_CMA &&
	    (config->fill == BERTH__FILL_MOVABLE || config->fill == BERTH__FILL_PINNED))
		return "only --area-kind cma lends movable memory; use --fill empty, or discardable "
		       "with gcma";
	if (config->kind != BERTH__AREA_CMA && (config->bulk || config->first_fit || config->mover))
		return "--bulk, --first-fit and --mover are for --area-kind cma; leave them out";
	if (config->claimers && (config->fill == BERTH__FILL_PINNED || config->writers))
		return "--claimers take neither pins nor writers; use --fill empty, movable or "
		       "discardable";
	if (config->let_cpus_sleep && (config->fill != BERTH__FILL_MOVABLE || config->claimers))
		return "--let-cpus-sleep is for moves; use --fill movable, without --claimers";
	if (config->destination && (config->fill != BERTH__FILL_MOVABLE || config->claimers))
		return "--destination is for one claimer of movable memory; use --fill movable";
	if (config->writers && config->fill == BERTH__FILL_EMPTY)
		return "--writers have nothing to write to in an empty area; use --fill movable, or "
		       "discardable with --area-kind gcma";
	if (config->size > MOST_BYTES || config->area > MOST_BYTES)
		return "--size and --area-size can be 1T at most; use less";
	if (config->area && config->area < config->size)
		return "--area-size is smaller than --size; make the area larger, or claim less";
	if (config->pin_every % HUGE_BYTES)
		return "--pin-every isn't a multiple of 2M; round it up";
	return NULL;
}

/* Enough for a p99.9, where filling takes no longer than half a minute. */
static uint64_t count_of_discarding(const struct berth__claim_config *config)
{
	const uint64_t small = (uint64_t)64 << 20, all = (uint64_t)32 << 30;

	if (config->size <= small || config->fill != BERTH__FILL_DISCARDABLE)
		return 2000;
	return all / config->size > 20 ? all / config->size : 20;
}

static bool complete_config(struct berth__claim_config *config)
{
	const char *why = misfit(config);
	uint64_t least = config->fill == BERTH__FILL_PINNED ? (uint64_t)512 << 20 : 0;

	if (!why) {
		if (!config->area)
			config->area = config->size > least ? config->size : least;
		config->area = (config->area + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
		if (!config->count && config->claimers)
			config->count = config->fill == BERTH__FILL_EMPTY ? 200 : 20;
		if (!config->count && config->kind != BERTH__AREA_CMA)
			config->count = count_of_discarding(config);
		if (!config->count)
			config->count = config->fill == BERTH__FILL_EMPTY ? 200 : 20;
		if (config->fill == BERTH__FILL_PINNED &&
		    config->area / config->pin_every >= BERTH__CLAIM_MOST_PINS)
			why = "there would be more than 1023 pins; use a larger --pin-every";
	}
	if (why)
		berth__complain(0, COMMAND, "%s", why);
	return !why;
}

static const struct berth__command command = { COMMAND, help, options, take_option };

int berth__claim_options(int argc, char **argv, struct berth__claim_config *config)
{
	int code;

	*config = (struct berth__claim_config){ .fill = -1,
						.run = HUGE_BYTES,
						.pin_every = (uint64_t)32 << 20,
						.seed = 1 };
	code = berth__take_options(&command, argc, argv, config);
	if (code >= 0)
		return code;
	return complete_config(config) ? -1 : BERTH__EXIT_USAGE;
}
