/* SPDX-License-Identifier: MIT */
/*
 * `berth bench choose`: does a claim take the cheapest range, and how long does it look for it?
 *
 * States: small areas are brought into random states, and each time every possible start is tried by
 * hand (the oracle): by the states of the frames as anybody may ask for them, and by the documented cost
 * model. A claim must take a range that is legal and costs hardly more than the least, must drop in it what the
 * model says that it drops, and must be refused exactly when there is none, for the right reason.
 *
 * Sizes: areas from 64 MiB up, of which there is only the metadata, in the states that a search meets.
 * The owner moves nothing but says so; what is measured is the search.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <berth/lru.h>

#include "port/linux/port_linux.h"
#include "tools/json.h"
#include "tools/measure.h"
#include "tools/options.h"
#include "tools/units.h"

#define COMMAND "berth bench choose"
#define BLOCKED UINT64_MAX
#define BOUND 1.02 /* times the least cost */

static const char help[] =
	"usage: berth bench choose [OPTIONS]\n"
	"\n"
	"Which range a claim takes, and how long it looks for it. Two parts:\n"
	"\n"
	"  states  small areas in random states (blocks of all orders, clean and dirty ones on LRU lists,\n"
	"          pins, claims, limits of address and boundary) and with several costs; each time the\n"
	"          range is compared with the cheapest of all, found by trying every start. Fails when\n"
	"          a range isn't legal or costs more than 1.02 times the least, when something else is\n"
	"          dropped in it than the costs say, or when a claim is refused though there is a\n"
	"          range, or for the wrong reason\n"
	"  sizes   the time of a search for 64 MiB in areas from 64 MiB up, with nothing behind the frames:\n"
	"          empty, full of blocks of 2 MiB, half full, full with a pin every 32 MiB; from 4 GiB on also\n"
	"          half full of blocks of 4 to 32 KiB (up to 16 GiB with the oracle beside it, for three sizes of\n"
	"          claims); up to 1 GiB also full of clean frames, all of which the claim drops\n"
	"\n"
	"  --states N        random states (10000; 0: not this part)\n"
	"  --most SIZE       the largest area of the second part, up to 1T (8G; 0: not this part); it takes\n"
	"                    2.5 GiB of memory for 1T\n"
	"  --seed N          of the states (1)\n"
	"  --json            one JSON object for the states, and one for each size and state\n"
	"\n"
	"example:\n"
	"  berth bench choose --states 1000 --most 64G\n"
	"\n"
	"exit codes: 0 done, 1 a choice was wrong or there is no memory, 2 a mistake in the command line.\n";

struct config {
	uint64_t states, most, seed;
	bool json;
};

/* A zone with one area and an owner that says that it has moved what it should. */
struct world {
	struct berth_zone *zone;
	void *metadata;
	size_t metadata_bytes;
	struct berth_cma *area;
	uint64_t *bitmap;
	size_t bitmap_bytes;
	unsigned owner;
	berth_pfn_t start; /* of the area */
	uint64_t nr;       /* its frames */
	uint64_t moved, dropped, cookie;
	bool lru;
};

/* ---- The world ------------------------------------------------------------------------------------ */

/* Real time, and what was let pass: where a claim was refused, the next ones don't look for a while. */
static uint64_t passed_ns;

static uint64_t now_ns(void *ctx)
{
	return berth_port_linux_ops()->now_ns(ctx) + passed_ns;
}

static void migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct world *world = ctx;

	for (unsigned i = 0; i < nr_moves; i++) {
		moves[i].result = BERTH_MOVE_BUSY;
		if (!berth_page_freeze(world->zone, moves[i].src))
			continue;
		moves[i].result = BERTH_MOVE_MOVED;
		world->moved += 1ull << moves[i].order;
	}
}

static void reclaim(void *ctx, struct berth_reclaim_item *items, unsigned nr_items)
{
	struct world *world = ctx;

	for (unsigned i = 0; i < nr_items; i++) {
		items[i].result = BERTH_RECLAIM_BUSY;
		if (!berth_reclaim_freeze(world->zone, &items[i]))
			continue;
		items[i].result = BERTH_RECLAIM_DROPPED;
		world->dropped += 1ull << items[i].order;
	}
}

static void *map(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

static void close_world(struct world *world)
{
	if (world->metadata)
		munmap(world->metadata, world->metadata_bytes);
	if (world->bitmap)
		munmap(world->bitmap, world->bitmap_bytes);
	*world = (struct world){ 0 };
}

/* The area [start, start + nr) in a zone of zone_nr frames from zone_start on. */
static bool open_world(struct world *world, berth_pfn_t zone_start, uint64_t zone_nr,
		       berth_pfn_t start, uint64_t nr, unsigned pageblock_order, unsigned max_order,
		       unsigned order_per_bit, unsigned nr_cpus, bool lru)
{
	static const struct berth_owner_ops ops = { .name = "bench",
						    .migrate = migrate,
						    .reclaim = reclaim };
	static struct berth_port_ops port;
	const struct berth_zone_params params = { .name = "bench",
						  .start_pfn = zone_start,
						  .nr_pages = zone_nr,
						  .max_order = max_order,
						  .pageblock_order = pageblock_order,
						  .nr_cpus = nr_cpus,
						  .max_areas = 1,
						  .lru = lru,
						  .metadata_is_zeroed = true,
						  .port = &port };
	struct berth_cma_params area = { .name = "area",
					 .start_pfn = start,
					 .nr_pages = nr,
					 .order_per_bit = order_per_bit,
					 .lend = BERTH_LEND_FIRST };

	port = *berth_port_linux_ops();
	port.now_ns = now_ns;
	*world = (struct world){ .start = start, .nr = nr, .lru = lru };
	world->metadata_bytes = berth_zone_metadata_size(&params);
	world->bitmap_bytes = berth_cma_bitmap_bytes(nr, order_per_bit);
	world->metadata = map(world->metadata_bytes);
	area.bitmap = world->bitmap = map(world->bitmap_bytes);
	if (world->metadata && world->bitmap &&
	    berth_zone_init(&world->zone, &params, world->metadata, world->metadata_bytes) == 0 &&
	    berth_zone_add_memory(world->zone, zone_start, zone_nr) == 0 &&
	    berth_owner_register(world->zone, &ops, world, &world->owner) == 0 &&
	    berth_cma_declare(world->zone, &area, &world->area) == 0)
		return true;
	close_world(world);
	berth__complain(0, COMMAND, "there is no memory for that; use a smaller --most");
	return false;
}

/* ---- The oracle ------------------------------------------------------------------------------------ */

struct request {
	struct berth_claim_params params;
	unsigned order_per_bit;
};

/* Sums over the frames before each one of the area. */
struct oracle {
	uint64_t nr;
	uint32_t *moved, *starts; /* frames that move; parts of blocks that move and begin */
	uint32_t *dropped;
	uint32_t *claimed, *held, *not_free;
	bool *moves; /* the frame itself */
	struct berth_cost_model cost;
	bool drop_used; /* as the request says */
};

static bool open_oracle(struct oracle *oracle, const struct world *world)
{
	uint64_t nr = oracle->nr = world->nr;

	oracle->moved = calloc(6 * (nr + 1), sizeof(uint32_t));
	oracle->moves = calloc(nr + 1, sizeof(bool));
	if (!oracle->moved || !oracle->moves)
		return false;
	oracle->starts = oracle->moved + (nr + 1);
	oracle->dropped = oracle->starts + (nr + 1);
	oracle->claimed = oracle->dropped + (nr + 1);
	oracle->held = oracle->claimed + (nr + 1);
	oracle->not_free = oracle->held + (nr + 1);
	berth_zone_cost(world->zone, &oracle->cost);
	return true;
}

static void close_oracle(struct oracle *oracle)
{
	free(oracle->moved);
	free(oracle->moves);
}

/* A claim drops the frame, by the documented cost model. */
static bool is_dropped(const struct oracle *oracle, const struct world *world, berth_pfn_t pfn)
{
	const unsigned not_now = BERTH_LRU_IS_DIRTY | BERTH_LRU_IS_WRITEBACK |
				 BERTH_LRU_IS_UNEVICTABLE;
	unsigned flags = 0;
	char list = berth_lru_where(world->zone, pfn, &flags);

	if ((list != 'i' && list != 'a') || (flags & not_now))
		return false;
	if (oracle->drop_used)
		return true;
	return list == 'i' && !(flags & BERTH_LRU_IS_REFERENCED) &&
	       oracle->cost.drop_ns <= (uint64_t)oracle->cost.copy_ns + oracle->cost.remap_ns;
}

/* What anybody can ask about each frame. */
static void look(struct oracle *oracle, const struct world *world, unsigned pageblock_order)
{
	for (uint64_t i = 0; i < oracle->nr; i++) {
		berth_pfn_t pfn = world->start + i, head = pfn;
		unsigned order = 0;
		char state = berth_frame_state(world->zone, pfn, &head, &order);
		bool used = state == 'u' || state == 'p' || state == '-';
		bool dropped = used && is_dropped(oracle, world, pfn), moves = used && !dropped;
		bool begins = moves && (head == pfn || state == '-' ||
					!(pfn & ((1ull << pageblock_order) - 1)));

		oracle->moves[i] = moves;
		oracle->moved[i + 1] = oracle->moved[i] + moves;
		oracle->dropped[i + 1] = oracle->dropped[i] + dropped;
		oracle->starts[i + 1] = oracle->starts[i] + begins;
		oracle->claimed[i + 1] = oracle->claimed[i] + (state == 'c');
		oracle->held[i + 1] = oracle->held[i] +
				      (state == 'u' && berth_page_pinned(world->zone, pfn));
		oracle->not_free[i + 1] = oracle->not_free[i] + (state != 'f');
	}
}

static bool legal(const struct world *world, const struct request *request, uint64_t at)
{
	const struct berth_claim_params *params = &request->params;
	berth_pfn_t first = world->start + at, last = first + params->nr_pages - 1;

	return at + params->nr_pages <= world->nr &&
	       !(first & ((1ull << params->align_order) - 1)) &&
	       !(at & ((1ull << request->order_per_bit) - 1)) && first >= params->min_pfn &&
	       (!params->max_pfn || last <= params->max_pfn) &&
	       (!params->boundary_pages ||
		first / params->boundary_pages == last / params->boundary_pages);
}

static uint64_t cost_at(const struct oracle *oracle, uint64_t at, uint64_t nr)
{
	uint64_t moved = oracle->moved[at + nr] - oracle->moved[at];
	uint64_t dropped = oracle->dropped[at + nr] - oracle->dropped[at];
	uint64_t blocks = oracle->starts[at + nr] - oracle->starts[at];

	/* A block that begins before the range counts as well. */
	blocks += oracle->moves[at] && oracle->starts[at + 1] == oracle->starts[at];
	return moved * oracle->cost.copy_ns + blocks * oracle->cost.remap_ns +
	       dropped * oracle->cost.drop_ns;
}

/* What the claim must answer, and the least cost. */
static int ask(const struct oracle *oracle, const struct world *world,
	       const struct request *request, uint64_t *least)
{
	uint64_t nr = request->params.nr_pages;
	bool possible = false, unclaimed = false, movable = false;

	*least = BLOCKED;
	for (uint64_t at = 0; at + nr <= world->nr; at++) {
		uint64_t cost;

		if (!legal(world, request, at))
			continue;
		possible = true;
		if (oracle->claimed[at + nr] != oracle->claimed[at])
			continue;
		unclaimed = true;
		if (oracle->held[at + nr] != oracle->held[at])
			continue;
		movable = true;
		if ((request->params.flags & BERTH_CLAIM_FREE_ONLY) &&
		    oracle->not_free[at + nr] != oracle->not_free[at])
			continue;
		cost = cost_at(oracle, at, nr);
		if (cost < *least)
			*least = cost;
	}
	if (*least != BLOCKED)
		return 0;
	return movable   ? -BERTH_EAGAIN :
	       unclaimed ? -BERTH_EBUSY :
	       possible  ? -BERTH_ENOSPC :
			   -BERTH_E2BIG;
}

/* ---- Random states ----------------------------------------------------------------------------------- */

struct tally {
	struct config config;
	uint64_t random;
	uint64_t chosen, refused, exact, by_error[5];
	uint64_t claimed, moved, dropped, cost_ns, least_ns;
	struct berth__samples ratio;
	bool failed;
};

static uint64_t below(struct tally *tally, uint64_t bound)
{
	return berth__random(&tally->random) % bound;
}

/* Small as often as large. */
static uint64_t any_size(struct tally *tally, uint64_t most)
{
	uint64_t up_to = 1ull << below(tally, 64 - (uint64_t)__builtin_clzll(most));

	up_to *= 2;
	return 1 + below(tally, up_to < most ? up_to : most);
}

static bool random_world(struct tally *tally, struct world *world, struct request *request,
			 unsigned *pageblock_order)
{
	unsigned order = below(tally, 16) ? 3 + (unsigned)below(tally, 5) : 9;
	uint64_t most = below(tally, 64) ? order == 9 ? 12 : 150 : order == 9 ? 600 : 2000;
	uint64_t size = 1ull << order, nr = 1 + below(tally, most);
	unsigned max_order = order + (unsigned)below(tally, 4);
	berth_pfn_t start = below(tally, 64) * size,
		    zone_start = start - below(tally, start / size + 1) * size;

	*pageblock_order = order;
	request->order_per_bit = below(tally, 4) ? 0 : (unsigned)below(tally, order + 1);
	return open_world(world, zone_start,
			  start - zone_start + 4 * nr * size + (2ull << max_order), start,
			  nr * size, order, max_order, request->order_per_bit,
			  below(tally, 4) ? 0 : 4, below(tally, 2));
}

/* Dropping costs little, nothing, more than copying, or more than moving. */
static void random_cost(struct tally *tally, struct world *world)
{
	static const uint32_t drops[] = { 0, 1, 600, 2370, 2371 };
	struct berth_cost_model cost = BERTH_COST_DEFAULT;

	if (below(tally, 2))
		return;
	cost.drop_ns = drops[below(tally, sizeof(drops) / sizeof(drops[0]))];
	berth_zone_set_cost(world->zone, &cost);
}

/* Claims that stay. */
static void random_claims(struct tally *tally, struct world *world, uint64_t nr)
{
	while (nr-- > 0) {
		struct berth_claim_params params = { .nr_pages = any_size(tally,
									  world->nr / 4 + 1) };
		berth_pfn_t pfn;

		if (below(tally, 2)) {
			if (berth_cma_alloc(world->area, &params, &pfn, NULL))
				return;
		} else {
			pfn = world->start + below(tally, world->nr);
			if (pfn + params.nr_pages <= world->start + world->nr &&
			    berth_alloc_contig_range(world->zone, pfn, params.nr_pages, NULL, NULL))
				return;
		}
	}
}

/* A block of a cache: on a list or not, used or not, clean or not. */
static bool random_lru(struct tally *tally, struct world *world, berth_pfn_t pfn, unsigned order)
{
	struct berth_zone *zone = world->zone;
	uint64_t nr = 1ull << order, dice = below(tally, 16);

	if (dice == 0)
		return true;
	if (berth_lru_add(zone, pfn, nr) || (dice == 1 && berth_lru_set_dirty(zone, pfn, nr)) ||
	    (dice == 2 && berth_lru_set_unevictable(zone, pfn, nr, true)))
		return false;
	if (dice == 3)
		berth_lru_activate(zone, pfn);
	if (dice == 4 || dice == 5)
		berth_lru_mark_accessed(zone, pfn);
	return true;
}

/* Movable blocks of random orders, of which some can be dropped, some go again and some are pinned. */
static void random_fill(struct tally *tally, struct world *world, unsigned max_order)
{
	uint64_t cached = world->lru ? below(tally, 5) : 0;
	uint64_t most = world->nr * below(tally, 5) / 4, nr = 0, cookie = 0;
	uint64_t keep = below(tally, 5), pin = below(tally, 3) ? 0 : 1 + below(tally, 200);
	unsigned orders = 1 + (unsigned)below(tally, max_order);

	while (nr < most) {
		unsigned order = below(tally, 2) ? 0 : (unsigned)below(tally, orders);
		bool cache = below(tally, 4) < cached;
		berth_pfn_t pfn;

		if (berth_alloc_pages(world->zone, order,
				      BERTH_GFP_MOVABLE | (cache ? BERTH_GFP_LRU : 0), world->owner,
				      cookie, &pfn))
			break;
		tally->failed |= cache && !random_lru(tally, world, pfn, order);
		cookie += 2ull << order; /* no two blocks belong together */
		nr += 1ull << order;
	}
	for (berth_pfn_t pfn = world->start; pfn < world->start + world->nr; pfn++) {
		berth_pfn_t head = pfn;
		unsigned order = 0;

		if (berth_frame_state(world->zone, pfn, &head, &order) != 'u' || head != pfn)
			continue;
		if (keep && below(tally, 4) >= keep)
			tally->failed |= berth_free_pages(world->zone, pfn) != 0;
		else if (pin && !below(tally, pin))
			tally->failed |= berth_page_pin(world->zone, pfn) != 0;
	}
}

static void random_request(struct tally *tally, const struct world *world, unsigned max_order,
			   struct request *request)
{
	struct berth_claim_params *params = &request->params;

	*params = (struct berth_claim_params){ .nr_pages = any_size(tally, world->nr) };
	if (below(tally, 2))
		params->align_order = (unsigned)below(tally, max_order + 1);
	if (!below(tally, 4))
		params->boundary_pages = 1ull << below(tally, max_order + 4);
	if (!below(tally, 4))
		params->min_pfn = world->start + below(tally, world->nr);
	if (!below(tally, 4))
		params->max_pfn = world->start + world->nr - 1 - below(tally, world->nr);
	if (params->max_pfn && params->max_pfn < params->min_pfn)
		params->max_pfn = 0;
	if (!below(tally, 6))
		params->flags = BERTH_CLAIM_FREE_ONLY;
	if (!below(tally, 4))
		params->flags |= BERTH_CLAIM_DROP;
}

static void complain(struct tally *tally, const struct world *world, const struct request *request,
		     const char *what, uint64_t is, uint64_t expected)
{
	const struct berth_claim_params *params = &request->params;

	if (!tally->failed)
		berth__complain(0, COMMAND,
				"%s: %lld, expected %lld (area %llu+%llu; %llu pages, align %u, "
				"boundary %llu, from %llu to %llu, flags %u, order_per_bit %u)",
				what, (long long)is, (long long)expected,
				(unsigned long long)world->start, (unsigned long long)world->nr,
				(unsigned long long)params->nr_pages, params->align_order,
				(unsigned long long)params->boundary_pages,
				(unsigned long long)params->min_pfn,
				(unsigned long long)params->max_pfn, params->flags,
				request->order_per_bit);
	tally->failed = true;
}

static void judge(struct tally *tally, const struct world *world, const struct oracle *oracle,
		  const struct request *request, int error, berth_pfn_t pfn,
		  const struct berth_claim_report *report)
{
	uint64_t least, cost, dropped;
	int expected = ask(oracle, world, request, &least);

	if (error != expected) {
		complain(tally, world, request, "answer", (uint64_t)error, (uint64_t)expected);
		return;
	}
	if (error) {
		tally->refused++;
		tally->by_error[error == -BERTH_EBUSY  ? 0 :
				error == -BERTH_ENOSPC ? 1 :
				error == -BERTH_EAGAIN ? 2 :
							 3]++;
		return;
	}
	if (pfn < world->start || !legal(world, request, pfn - world->start)) {
		complain(tally, world, request, "illegal start", pfn, world->start);
		return;
	}
	cost = cost_at(oracle, pfn - world->start, request->params.nr_pages);
	dropped = oracle->dropped[pfn - world->start + request->params.nr_pages] -
		  oracle->dropped[pfn - world->start];
	if (report->dropped_pages != dropped || world->dropped != dropped)
		complain(tally, world, request, "dropped", report->dropped_pages, dropped);
	tally->chosen++;
	tally->exact += cost == least;
	tally->claimed += request->params.nr_pages;
	tally->moved += report->moved_pages;
	tally->dropped += dropped;
	tally->cost_ns += cost;
	tally->least_ns += least;
	berth__sample_add(&tally->ratio, least ? (double)cost / (double)least : cost ? 1e9 : 1);
	if ((double)cost > BOUND * (double)least)
		complain(tally, world, request, "cost", cost, least);
}

static bool one_state(struct tally *tally)
{
	struct berth_violation violation = { 0 };
	struct berth_claim_report report;
	struct oracle oracle = { 0 };
	struct request request = { 0 };
	struct world world;
	berth_pfn_t pfn = 0;
	unsigned order;
	int error;

	if (!random_world(tally, &world, &request, &order))
		return false;
	random_cost(tally, &world);
	random_claims(tally, &world, below(tally, 2) ? 0 : below(tally, 6));
	random_fill(tally, &world, order + 1);
	random_claims(tally, &world, below(tally, 2) ? 0 : below(tally, 4));
	random_request(tally, &world, order, &request);
	if (!open_oracle(&oracle, &world)) {
		close_oracle(&oracle);
		close_world(&world);
		return false;
	}
	oracle.drop_used = request.params.flags & BERTH_CLAIM_DROP;
	berth_lru_add_drain_all(world.zone); /* claims do so before they move anything */
	look(&oracle, &world, order);
	passed_ns += 1000000000;
	world.dropped = 0; /* by random claims */
	error = berth_cma_alloc(world.area, &request.params, &pfn, &report);
	judge(tally, &world, &oracle, &request, error, pfn, &report);
	if (!berth_zone_check(world.zone, &violation)) {
		berth__complain(0, COMMAND, "an invariant is broken: %s", violation.what);
		tally->failed = true;
	}
	close_oracle(&oracle);
	close_world(&world);
	return true;
}

static void print_tally(struct tally *tally)
{
	char claimed[BERTH__UNIT_BYTES], moved[BERTH__UNIT_BYTES], dropped[BERTH__UNIT_BYTES],
		cost[BERTH__UNIT_BYTES], least[BERTH__UNIT_BYTES];

	if (tally->config.json) {
		json_t *line = json_pack("{ss, ss}", "bench", "choose", "part", "states");

		berth__json_count(line, "states", tally->config.states);
		berth__json_count(line, "seed", tally->config.seed);
		berth__json_count(line, "chosen", tally->chosen);
		berth__json_count(line, "cheapest", tally->exact);
		berth__json_add(line, "ratio_p50", berth__percentile(&tally->ratio, 50));
		berth__json_add(line, "ratio_p99", berth__percentile(&tally->ratio, 99));
		berth__json_add(line, "ratio_max", berth__sample_max(&tally->ratio));
		berth__json_count(line, "claimed_bytes", tally->claimed << BERTH_PAGE_SHIFT);
		berth__json_count(line, "moved_bytes", tally->moved << BERTH_PAGE_SHIFT);
		berth__json_count(line, "dropped_bytes", tally->dropped << BERTH_PAGE_SHIFT);
		berth__json_count(line, "cost_ns", tally->cost_ns);
		berth__json_count(line, "least_ns", tally->least_ns);
		berth__json_count(line, "ebusy", tally->by_error[0]);
		berth__json_count(line, "enospc", tally->by_error[1]);
		berth__json_count(line, "eagain", tally->by_error[2]);
		berth__json_count(line, "e2big", tally->by_error[3]);
		berth__json_print(line);
		return;
	}
	printf("%llu random states: %llu claims, %llu of them at the least cost; most %.4f times that\n",
	       (unsigned long long)tally->config.states, (unsigned long long)tally->chosen,
	       (unsigned long long)tally->exact, berth__sample_max(&tally->ratio));
	printf("  claimed %s: %s moved, %s dropped; by the costs %s, at least %s\n",
	       berth__format_bytes(claimed, (double)(tally->claimed << BERTH_PAGE_SHIFT)),
	       berth__format_bytes(moved, (double)(tally->moved << BERTH_PAGE_SHIFT)),
	       berth__format_bytes(dropped, (double)(tally->dropped << BERTH_PAGE_SHIFT)),
	       berth__format_ns(cost, (double)tally->cost_ns),
	       berth__format_ns(least, (double)tally->least_ns));
	printf("  refused    %llu, as they must be: EBUSY %llu, ENOSPC %llu, EAGAIN %llu, E2BIG %llu\n",
	       (unsigned long long)tally->refused, (unsigned long long)tally->by_error[0],
	       (unsigned long long)tally->by_error[1], (unsigned long long)tally->by_error[2],
	       (unsigned long long)tally->by_error[3]);
}

static bool run_states(const struct config *config)
{
	struct tally tally = { .config = *config, .random = config->seed };
	bool good = true;

	for (uint64_t i = 0; i < config->states && good && !tally.failed && !berth__interrupted();
	     i++) {
		good = one_state(&tally);
		berth__progress(COMMAND, i, config->states);
	}
	berth__progress_end();
	if (good && !tally.failed && !berth__interrupted())
		print_tally(&tally);
	berth__samples_free(&tally.ratio);
	return good && !tally.failed;
}

/* ---- Sizes ------------------------------------------------------------------------------------------- */

enum filling { EMPTY, FULL, HALF, PINNED, MIXED, CLEAN, NR_FILLINGS };
static const char *const filling_names[] = { "empty", "full", "half", "pinned", "mixed", "clean" };

#define BLOCK_PAGES 512u
#define REQUEST_PAGES 16384u
#define ROUNDS 20u

#define CLEAN_MOST ((uint64_t)1 << 30)   /* an area full of single frames takes time to fill */
#define ORACLE_MOST ((uint64_t)16 << 30) /* it takes 25 bytes a frame */
#define MIXED_LEAST ((uint64_t)4 << 30)  /* there is room for the claims of all rounds */

/* Single frames that can be dropped. */
static bool fill_clean(struct world *world, uint64_t nr)
{
	berth_pfn_t pfn;

	while (nr-- > 0)
		if (berth_alloc_pages(world->zone, 0, BERTH_GFP_MOVABLE | BERTH_GFP_LRU,
				      world->owner, 2 * (world->cookie++), &pfn) ||
		    berth_lru_add(world->zone, pfn, 1))
			return false;
	return true;
}

/* Blocks of up to 8 frames, of which a random half goes again: all pageblocks cost about the same, and none of them just
 * what another one does. Nothing is harder to search. */
static bool fill_mixed(struct world *world, uint64_t nr)
{
	uint64_t random = world->cookie + 1;
	berth_pfn_t pfn;

	while (nr > 0) {
		unsigned order = (unsigned)(berth__random(&random) % 4);

		while (1ull << order > nr)
			order--;
		if (berth_alloc_pages(world->zone, order, BERTH_GFP_MOVABLE, world->owner,
				      2 * (world->cookie++) * BLOCK_PAGES, &pfn))
			return false;
		nr -= 1ull << order;
	}
	for (pfn = world->start; pfn < world->start + world->nr;) {
		berth_pfn_t head = pfn;
		unsigned order = 0;
		char state = berth_frame_state(world->zone, pfn, &head, &order);

		if (state == 'u' && berth__random(&random) & 1 &&
		    berth_free_pages(world->zone, head))
			return false;
		pfn = head + (1ull << order);
	}
	return true;
}

/* In blocks of 2 MiB: all used, a random half, or all and a pin every 32 MiB; or clean single frames. */
static bool fill_area(struct world *world, enum filling filling)
{
	uint64_t random = 1, blocks = world->nr / BLOCK_PAGES;
	berth_pfn_t pfn;

	if (filling == CLEAN)
		return fill_clean(world, world->nr);
	if (filling == MIXED)
		return fill_mixed(world, world->nr);
	for (uint64_t i = 0; filling != EMPTY && i < blocks; i++)
		if (berth_alloc_pages(world->zone, 9, BERTH_GFP_MOVABLE, world->owner,
				      2 * (world->cookie++) * BLOCK_PAGES, &pfn))
			return false;
	for (uint64_t i = 0; i < blocks; i++) {
		pfn = world->start + i * BLOCK_PAGES;
		if (filling == HALF && berth__random(&random) & 1 &&
		    berth_free_pages(world->zone, pfn))
			return false;
		if (filling == PINNED && i % 16 == 0 && berth_page_pin(world->zone, pfn))
			return false;
	}
	return true;
}

static void print_size(const struct config *config, const struct world *world, enum filling filling,
		       struct berth__samples *search, struct berth__samples *total, double first,
		       uint64_t moved)
{
	char area[BERTH__UNIT_BYTES], one[BERTH__UNIT_BYTES], again[BERTH__UNIT_BYTES],
		all[BERTH__UNIT_BYTES];
	uint64_t bytes = world->nr << BERTH_PAGE_SHIFT;

	if (config->json) {
		json_t *line = json_pack("{ss, ss, ss}", "bench", "choose", "part", "sizes", "fill",
					 filling_names[filling]);

		berth__json_count(line, "area_bytes", bytes);
		berth__json_add(line, "first_search_us", first / 1000);
		berth__json_add(line, "search_us", berth__percentile(search, 50) / 1000);
		berth__json_add(line, "claim_us", berth__percentile(total, 50) / 1000);
		berth__json_count(line, "moved_pages", moved);
		berth__json_print(line);
		return;
	}
	printf("%10s %-7s first search %10s, then %10s; the whole call %10s\n",
	       berth__format_bytes(area, (double)bytes), filling_names[filling],
	       berth__format_ns(one, first), berth__format_ns(again, berth__percentile(search, 50)),
	       berth__format_ns(all, berth__percentile(total, 50)));
}

/* A claim that is released; false: it should have gone otherwise. */
static bool one_search(struct world *world, enum filling filling, double *search_ns, double *all_ns)
{
	const struct berth_claim_params params = { .nr_pages = REQUEST_PAGES };
	struct berth_claim_report report;
	uint64_t began = berth__clock_ns(CLOCK_MONOTONIC);
	berth_pfn_t pfn;
	int error = berth_cma_alloc(world->area, &params, &pfn, &report);

	*all_ns = (double)(berth__clock_ns(CLOCK_MONOTONIC) - began);
	*search_ns = (double)report.phase_ns[BERTH_PHASE_SEARCH];
	if (filling == PINNED)
		return error == -BERTH_EBUSY && !report.moved_pages;
	if (filling == MIXED) /* it stays: the next one has to find another range */
		return !error;
	if (error || berth_cma_release(world->area, pfn, params.nr_pages))
		return false;
	if (filling == CLEAN)
		return report.dropped_pages == REQUEST_PAGES &&
		       fill_clean(world, report.dropped_pages);
	/* What was moved out is lent again. */
	for (uint64_t i = 0; i < report.moved_pages / BLOCK_PAGES; i++)
		if (berth_alloc_pages(world->zone, 9, BERTH_GFP_MOVABLE, world->owner,
				      2 * (world->cookie++) * BLOCK_PAGES, &pfn))
			return false;
	return true;
}

/* Claims of several sizes out of a mixed area, against the oracle; false: one costs too much. */
static bool compare_mixed(const struct config *config, struct world *world)
{
	static const uint64_t sizes[] = { 700, 5000, REQUEST_PAGES };
	struct oracle oracle = { 0 };
	bool good = open_oracle(&oracle, world);

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && good; i++) {
		struct request request = { .params = { .nr_pages = sizes[i] } };
		char area[BERTH__UNIT_BYTES], size[BERTH__UNIT_BYTES], time[BERTH__UNIT_BYTES];
		uint64_t least, cost, bytes = world->nr << BERTH_PAGE_SHIFT;
		struct berth_claim_report report;
		berth_pfn_t pfn;
		double ratio;

		look(&oracle, world, 9);
		good = !ask(&oracle, world, &request, &least) &&
		       !berth_cma_alloc(world->area, &request.params, &pfn, &report);
		if (!good)
			break;
		cost = cost_at(&oracle, pfn - world->start, sizes[i]);
		ratio = least ? (double)cost / (double)least : cost ? 1e9 : 1;
		good = ratio <= BOUND;
		if (config->json) {
			json_t *line = json_pack("{ss, ss}", "bench", "choose", "part", "mixed");

			berth__json_count(line, "area_bytes", bytes);
			berth__json_count(line, "size_bytes", sizes[i] << BERTH_PAGE_SHIFT);
			berth__json_add(line, "search_us",
					(double)report.phase_ns[BERTH_PHASE_SEARCH] / 1000);
			berth__json_count(line, "cost_ns", cost);
			berth__json_count(line, "least_ns", least);
			berth__json_print(line);
			continue;
		}
		printf("%10s mixed   a claim of %s: search %s, %.4f times the least cost\n",
		       berth__format_bytes(area, (double)bytes),
		       berth__format_bytes(size, (double)(sizes[i] << BERTH_PAGE_SHIFT)),
		       berth__format_ns(time, (double)report.phase_ns[BERTH_PHASE_SEARCH]), ratio);
	}
	close_oracle(&oracle);
	return good;
}

static bool run_size(const struct config *config, uint64_t bytes, enum filling filling)
{
	uint64_t nr = bytes >> BERTH_PAGE_SHIFT;
	/* Each search finds the area as it was: there is room for all that the claims move. */
	uint64_t outside = (ROUNDS + 2) * REQUEST_PAGES;
	struct berth__samples search = { 0 }, total = { 0 };
	double first = 0, search_ns, all_ns;
	struct world world;
	bool good;

	if (!open_world(&world, 0, nr + outside, 0, nr, 9, 10, 0, 0, filling == CLEAN))
		return false;
	good = fill_area(&world, filling) && one_search(&world, filling, &first, &all_ns);
	for (unsigned i = 0; i < ROUNDS && good; i++) {
		good = one_search(&world, filling, &search_ns, &all_ns);
		berth__sample_add(&search, search_ns);
		berth__sample_add(&total, all_ns);
	}
	if (good)
		print_size(config, &world, filling, &search, &total, first, world.moved);
	if (good && filling == MIXED && bytes <= ORACLE_MOST)
		good = compare_mixed(config, &world);
	if (!good)
		berth__complain(0, COMMAND, "a claim didn't go as it should");
	berth__samples_free(&search);
	berth__samples_free(&total);
	close_world(&world);
	return good;
}

static bool run_sizes(const struct config *config)
{
	for (uint64_t bytes = (uint64_t)64 << 20; bytes <= config->most; bytes *= 4)
		for (int filling = EMPTY; filling < NR_FILLINGS && !berth__interrupted(); filling++)
			if ((filling != CLEAN || bytes <= CLEAN_MOST) &&
			    (filling != MIXED || bytes >= MIXED_LEAST) &&
			    !run_size(config, bytes, (enum filling)filling))
				return false;
	return true;
}

/* ---- The command -------------------------------------------------------------------------------------- */

enum { STATES = 256, MOST, SEED, JSON };
static const struct option options[] = {
	{ "states", required_argument, NULL, STATES },
	{ "most", required_argument, NULL, MOST },
	{ "seed", required_argument, NULL, SEED },
	{ "json", no_argument, NULL, JSON },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool take_option(void *ctx, int option)
{
	struct config *config = ctx;

	switch (option) {
	case STATES:
		return berth__count_option(COMMAND, "--states", 0, UINT32_MAX, &config->states);
	case MOST:
		config->most = 0;
		return strcmp(optarg, "0") == 0 ||
		       berth__size_option(COMMAND, "--most", &config->most);
	case SEED:
		return berth__count_option(COMMAND, "--seed", 0, INT64_MAX, &config->seed);
	default:
		config->json = true;
		return true;
	}
}

static const struct berth__command command = { COMMAND, help, options, take_option };

int berth__bench_choose(int argc, char **argv)
{
	struct config config = { .states = 10000, .most = (uint64_t)8 << 30, .seed = 1 };
	int code;
	bool good;

	code = berth__take_options(&command, argc, argv, &config);
	if (code >= 0)
		return code;
	if (config.most > (uint64_t)1 << 40)
		return berth__complain(BERTH__EXIT_USAGE, COMMAND, "--most can be 1T at most");
	berth__catch_interrupts();
	good = (!config.states || run_states(&config)) && (!config.most || run_sizes(&config));
	if (berth__interrupted())
		return berth__interrupted_code();
	return good ? 0 : BERTH__EXIT_FAILED;
}
