/* SPDX-License-Identifier: MIT */
/*
 * `berth bench claim`: how long a claim takes, in this process, and what it costs beside memcpy.
 *
 * The pool is an area and as much memory again outside it, all resident. Before each claim the area
 * is brought into the state that is asked for, and that it is so is checked: `movable` and `pinned`
 * mean that nothing of it is free. After each claim the contents of what was moved are checked.
 * None of that is in the measured time.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <berth/berth.h>

#include "tools/bench_claim.h"
#include "tools/bench_gcma.h"
#include "tools/bench_many.h"
#include "tools/fill.h"
#include "tools/json.h"
#include "tools/measure.h"
#include "tools/options.h"
#include "tools/units.h"

#define COMMAND BERTH__CLAIM_COMMAND
#define AREA "bench"
#define MEMCPY_BYTES ((uint64_t)256 << 20) /* larger memories cost the same a byte */
#define MEMCPYS_BESIDE 10
#define MOST_MEMCPY 50u /* samples; there can be many claims of an empty area */

struct bench {
	struct berth__claim_config config;
	struct berth_pool *pool;
	struct berth__fill fill, outside;
	struct berth__memcpy *copy;
	uint64_t pins[BERTH__CLAIM_MOST_PINS];
	const char *pinned_at[BERTH__CLAIM_MOST_PINS]; /* the address, */
	size_t pinned_offset[BERTH__CLAIM_MOST_PINS];  /* and its place in the pool */
	unsigned nr_pins;
	/* The results. */
	struct berth__samples ok_us, failed_us, cpu_us, touch_us, stall_us, page_us, memcpy_us,
		beside_us, peer_us;
	uint64_t moved_bytes, preempted, stalls_lost, writes;
	double preempted_max_us;
	size_t runs;                   /* in the full area */
	int error;                     /* of the first claim that failed, */
	char holder[80], failure[512]; /* and what its report said */
	bool bad;                      /* something was wrong; it was said */
};

/* ---- Opening --------------------------------------------------------------------------------- */

/* Says what went wrong and remembers it; false. */
static bool wrong(struct bench *bench, const char *what, int error)
{
	bench->bad = true;
	berth__complain(0, COMMAND, "%s: %s (%s)", what, berth_strerror(error),
			berth_errname(error));
	return false;
}

/* Not even an attempt to take more than there is: the system would kill somebody for it. */
static bool has_memory(struct bench *bench)
{
	const bool scattered = bench->config.destination == BERTH__DESTINATION_SCATTERED;
	uint64_t need = (scattered ? 4 : 2) * bench->config.area + (64u << 20);

	need += 2 * (bench->config.size < MEMCPY_BYTES ? bench->config.size : MEMCPY_BYTES);
	if (berth__has_memory(COMMAND, need, "--size or --area-size"))
		return true;
	bench->bad = true;
	return false;
}

static bool fill_pool(struct bench *bench)
{
	int error = 0;

	bench->fill = (struct berth__fill){ .pool = bench->pool,
					    .run_bytes = bench->config.run,
					    .seed = bench->config.seed,
					    .every_word = bench->config.verify };
	bench->outside = (struct berth__fill){ .pool = bench->pool,
					       .run_bytes = BERTH_PAGE_SIZE,
					       .flags = BERTH_MEMORY_NO_AREA };
	error = berth__fill_open(&bench->fill);
	if (!error)
		error = berth__fill_refill(&bench->fill);
	if (!error && bench->config.destination == BERTH__DESTINATION_SCATTERED)
		error = berth__fill_outside(&bench->outside);
	if (error)
		return wrong(bench,
			     error == -BERTH_ENOMEM ?
				     "the area can't be filled with movable memory; each run is a "
				     "mapping of the process, of which vm.max_map_count allows so "
				     "many: use a larger --run-size or a smaller area" :
				     "the area can't be filled with movable memory",
			     error);
	bench->runs = berth__fill_runs(&bench->fill);
	return true;
}

static bool open_pool(struct bench *bench)
{
	const struct berth__claim_config *config = &bench->config;
	const bool fresh = config->destination == BERTH__DESTINATION_FRESH;
	const bool scattered = config->destination == BERTH__DESTINATION_SCATTERED;
	const struct berth_area_params area = { .name = AREA,
						.bytes = config->area,
						.lend = BERTH_LEND_FIRST };
	const struct berth_pool_params params = {
		.areas = &area,
		.nr_areas = 1,
		.bytes = scattered ? 3 * config->area + (16u << 20) : 0,
		.flags = (fresh ? 0u : BERTH_POOL_RESIDENT) |
			 (config->let_cpus_sleep ? BERTH_POOL_LET_CPUS_SLEEP : 0u),
		.mover = config->mover,
		.copiers = (unsigned)config->copiers,
	};
	int error;

	if (!has_memory(bench))
		return false;
	error = berth_pool_open(&params, &bench->pool);
	if (error)
		return wrong(bench, "the pool can't be opened", error);
	return config->fill == BERTH__FILL_EMPTY || fill_pool(bench);
}

/* The first page of each stretch of pin_every bytes of the area, wherever it is mapped. */
static bool pin(struct bench *bench)
{
	const struct berth__fill *fill = &bench->fill;
	const struct berth__claim_config *config = &bench->config;
	uint64_t wanted = (fill->area_bytes - 1) / config->pin_every + 1;

	for (uint64_t page = 0; page < berth__fill_pages(fill); page++) {
		const char *at = (const char *)berth__fill_page(fill, page);
		size_t offset = berth_offset_of(bench->pool, at);
		char name[32];
		int error;

		if ((offset - fill->area_offset) % config->pin_every)
			continue;
		snprintf(name, sizeof(name), "bench pin %u", bench->nr_pins);
		error = berth_pin(bench->pool, at, BERTH_PAGE_SIZE, name, 0,
				  &bench->pins[bench->nr_pins]);
		if (error)
			return wrong(bench, "memory can't be pinned", error);
		bench->pinned_at[bench->nr_pins] = at;
		bench->pinned_offset[bench->nr_pins++] = offset;
	}
	if (bench->nr_pins == wanted)
		return true;
	bench->bad = true;
	berth__complain(0, COMMAND, "%u pins could be placed, not %llu", bench->nr_pins,
			(unsigned long long)wanted);
	return false;
}

static void close_pool(struct bench *bench)
{
	int error = 0;

	if (!bench->pool)
		return;
	while (bench->nr_pins && !error)
		error = berth_unpin(bench->pool, bench->pins[--bench->nr_pins]);
	if (!error)
		error = berth__fill_close(&bench->fill);
	if (!error && bench->outside.pool)
		error = berth__fill_close(&bench->outside);
	if (!error)
		error = berth_pool_close(bench->pool);
	if (error && !bench->bad) /* or what went wrong before is in the way */
		wrong(bench, "the pool can't be closed", error);
}

/* ---- One claim ------------------------------------------------------------------------------- */

/* The first one's words, in one line. */
static void keep_failure(struct bench *bench, const struct berth_claim_report *report)
{
	if (bench->error)
		return;
	bench->error = report->error;
	if (report->blocker_owner)
		snprintf(bench->holder, sizeof(bench->holder), "%s%s%s", report->blocker_owner,
			 report->blocker_holder ? ": " : "",
			 report->blocker_holder ? report->blocker_holder : "");
	berth_report_text(report, bench->failure, sizeof(bench->failure));
	for (char *at = bench->failure; (at = strchr(at, '\n'));)
		*at = ';';
}

struct one_claim {
	int error;
	uint64_t from, to; /* ticks */
	double us, cpu_us;
	struct berth_buffer buffer;
	struct berth_claim_report report;
};

static void make_claim(const struct bench *bench, struct one_claim *claim)
{
	const struct berth_claim_options options = { .flags = bench->config.first_fit ?
								      BERTH_CLAIM_FIRST_FIT :
								      0 };
	/* Whoever works for the claim: with copiers the whole process, but then no writer may be among it. */
	const clockid_t clock = bench->config.copiers && !bench->config.writers ?
					CLOCK_PROCESS_CPUTIME_ID :
					CLOCK_THREAD_CPUTIME_ID;
	uint64_t cpu = berth__clock_ns(clock), began;

	claim->from = berth__ticks();
	began = berth__clock_ns(CLOCK_MONOTONIC);
	claim->error = berth_claim(bench->pool, AREA, bench->config.size, &options, &claim->buffer,
				   &claim->report);
	claim->us = berth__us_since(CLOCK_MONOTONIC, began);
	claim->to = berth__ticks();
	claim->cpu_us = berth__us_since(clock, cpu);
}

static void keep_stall(void *ctx, const struct berth__stall *stall)
{
	struct bench *bench = ctx;
	double us = berth__ticks_ns(stall->ended - stall->began) / 1000;

	if (!stall->preempted) {
		double queued_us = (double)stall->queued_ns / 1000;

		berth__sample_add(&bench->stall_us, us);
		berth__sample_add(&bench->page_us, us > queued_us ? us - queued_us : 0);
		return;
	}
	bench->preempted++;
	if (us > bench->preempted_max_us)
		bench->preempted_max_us = us;
}

static void keep(struct bench *bench, const struct one_claim *claim,
		 const struct berth__writers *writers)
{
	berth__sample_add(claim->error ? &bench->failed_us : &bench->ok_us, claim->us);
	berth__sample_add(&bench->cpu_us, claim->cpu_us);
	bench->moved_bytes += claim->report.moved_pages << BERTH_PAGE_SHIFT;
	if (!writers)
		return;
	bench->writes += berth__writers_writes(writers);
	bench->stalls_lost += berth__writers_stalls(writers, claim->from, claim->to, keep_stall,
						    bench);
}

/* ---- Checks ---------------------------------------------------------------------------------- */

static bool check_contents(struct bench *bench, const struct berth__writers *writers)
{
	const void *first = NULL;
	uint64_t words;

	if (bench->config.fill == BERTH__FILL_EMPTY)
		return true;
	words = writers ? berth__writers_check(writers, &first) :
			  berth__fill_check(&bench->fill, &first);
	if (!words)
		return true;
	bench->bad = true;
	berth__complain(0, COMMAND, "%llu words of the moved memory are wrong, the first at %p",
			(unsigned long long)words, first);
	return false;
}

static bool check_pins(struct bench *bench)
{
	for (unsigned i = 0; i < bench->nr_pins; i++) {
		if (berth_offset_of(bench->pool, bench->pinned_at[i]) == bench->pinned_offset[i])
			continue;
		bench->bad = true;
		berth__complain(0, COMMAND, "pinned memory was moved");
		return false;
	}
	return true;
}

static bool check_pool(struct bench *bench)
{
	struct berth_violation violation;

	if (!bench->config.verify || berth_pool_check(bench->pool, &violation))
		return true;
	bench->bad = true;
	berth__complain(0, COMMAND, "an invariant is broken: %s (at %llu: %llu, expected %llu)",
			violation.what, (unsigned long long)violation.where,
			(unsigned long long)violation.value,
			(unsigned long long)violation.expected);
	return false;
}

/* A claim that must succeed or must fail did so. */
static bool check_outcome(struct bench *bench, const struct one_claim *claim)
{
	const struct berth__claim_config *config = &bench->config;
	bool impossible = config->fill == BERTH__FILL_PINNED && config->size >= config->pin_every;

	if (config->fill == BERTH__FILL_PINNED && !impossible)
		return true; /* depends on how the pins lie */
	if (!claim->error == !impossible)
		return true;
	bench->bad = true;
	berth__complain(0, COMMAND, "%s",
			claim->error ? bench->failure :
				       "a claim succeeded although pins stand everywhere");
	return false;
}

/* ---- All claims ------------------------------------------------------------------------------ */

static bool prepare(struct bench *bench)
{
	int error;

	if (bench->config.fill == BERTH__FILL_EMPTY)
		return true;
	error = berth__fill_refill(&bench->fill);
	if (error && !(error == -BERTH_EAGAIN && bench->nr_pins))
		return wrong(bench, "the area can't be filled again", error);
	if (bench->config.writers)
		berth__fill_restore(&bench->fill);
	return true;
}

static bool start_writers(struct bench *bench, struct berth__writers **writers)
{
	*writers = NULL;
	if (!bench->config.writers)
		return true;
	*writers = berth__writers_start(&bench->fill, (unsigned)bench->config.writers);
	return *writers ? true : wrong(bench, "writers can't be started", -BERTH_ENOMEM);
}

/* Beside the claims: nothing runs hot that the other has cold, and both meet the same load. */
static void sample_memcpy(struct bench *bench)
{
	if (bench->memcpy_us.nr < MOST_MEMCPY)
		berth__sample_add(&bench->memcpy_us, berth__memcpy_us_per_mib(bench->copy));
}

/* One round: fill, claim, check, release. Kept unless it is to warm up. */
static bool run_once(struct bench *bench, bool warm_up)
{
	struct berth__writers *writers;
	struct one_claim claim;
	bool good;

	if (!prepare(bench))
		return false;
	sample_memcpy(bench);
	if (!start_writers(bench, &writers))
		return false;
	make_claim(bench, &claim);
	if (writers)
		berth__writers_stop(writers);
	if (claim.error)
		keep_failure(bench, &claim.report);
	if (!warm_up)
		keep(bench, &claim, writers);
	if (!claim.error) {
		double us = berth__touch_us(claim.buffer.address, claim.buffer.bytes,
					    bench->config.verify);

		if (!warm_up)
			berth__sample_add(&bench->touch_us, us);
	}
	good = check_outcome(bench, &claim) && check_contents(bench, writers) &&
	       check_pins(bench) && check_pool(bench);
	berth__writers_free(writers);
	if (!claim.error) {
		int error = berth_release(bench->pool, &claim.buffer);

		if (error)
			return wrong(bench, "the claim can't be released", error);
	}
	return good;
}

static void keep_peer_stall(void *ctx, const struct berth__stall *stall)
{
	struct bench *bench = ctx;

	if (!stall->preempted)
		berth__sample_add(&bench->peer_us,
				  berth__ticks_ns(stall->ended - stall->began) / 1000);
}

/*
 * The cost of memcpy while the writers are writing, and what they stall for when the thread beside them does only
 * that: nothing of it is a page's.
 */
static bool sample_memcpy_beside_writers(struct bench *bench)
{
	struct berth__writers *writers;
	uint64_t from;
	bool good;

	if (!bench->config.writers)
		return true;
	if (!prepare(bench) || !start_writers(bench, &writers))
		return false;
	from = berth__ticks();
	for (int i = 0; i < MEMCPYS_BESIDE; i++)
		berth__sample_add(&bench->beside_us, berth__memcpy_us_per_mib(bench->copy));
	berth__writers_stop(writers);
	(void)berth__writers_stalls(writers, from, berth__ticks(), keep_peer_stall, bench);
	good = check_contents(bench, writers);
	berth__writers_free(writers);
	return good;
}

static void run_all(struct bench *bench)
{
	bool good;

	bench->copy = berth__memcpy_open(bench->config.size < MEMCPY_BYTES ? bench->config.size :
									     MEMCPY_BYTES);
	if (!bench->copy) {
		wrong(bench, "there is no memory for memcpy", -BERTH_ENOMEM);
		return;
	}
	good = sample_memcpy_beside_writers(bench);
	for (uint64_t i = 0; i <= bench->config.count && good && !berth__interrupted(); i++) {
		if (i && bench->config.destination == BERTH__DESTINATION_FRESH) {
			close_pool(bench); /* what was used once stays resident */
			good = !bench->bad && open_pool(bench);
		}
		good = good && run_once(bench, i == 0);
		berth__progress(COMMAND, i, bench->config.count);
	}
	berth__progress_end();
	if (good && !berth__interrupted())
		sample_memcpy_beside_writers(bench);
	berth__memcpy_close(bench->copy);
}

/* ---- Printing -------------------------------------------------------------------------------- */

struct result {
	struct berth__samples *us; /* of the claims that went as most did */
	double memcpy_us, beside_us, moved_a_claim, factor;
	double page_us; /* beyond memcpy */
	const char *mover;
	bool keeps_awake;
};

static struct result evaluate(struct bench *bench)
{
	struct result result = {
		.us = bench->ok_us.nr >= bench->failed_us.nr ? &bench->ok_us : &bench->failed_us,
		.memcpy_us = berth__percentile(&bench->memcpy_us, 50),
		.beside_us = berth__percentile(&bench->beside_us, 50),
		.moved_a_claim = (double)bench->moved_bytes / (double)bench->config.count,
	};
	double copy_us = result.memcpy_us * result.moved_a_claim / (1 << 20);
	struct berth_pool_stats stats;

	if (copy_us > 0) {
		double pages = result.moved_a_claim / BERTH_PAGE_SIZE;

		result.factor = berth__percentile(result.us, 50) / copy_us;
		result.page_us = (berth__percentile(result.us, 50) - copy_us) / pages;
	}
	if (berth_pool_stats(bench->pool, &stats) == 0) {
		result.mover = stats.mover;
		result.keeps_awake = stats.keeps_awake;
	}
	return result;
}

/* null where there is nothing to say. */
static void add_number(json_t *line, const char *name, bool known, double value)
{
	if (known)
		berth__json_add(line, name, value);
	else
		json_object_set_new(line, name, json_null());
}

static void add_count(json_t *line, const char *name, bool known, uint64_t count)
{
	json_object_set_new(line, name, known ? json_integer((json_int_t)count) : json_null());
}

static void add_parameters(const struct bench *bench, json_t *line)
{
	const struct berth__claim_config *config = &bench->config;
	json_t *more = json_pack("{ss, ss, sI, sI, ss, sI, sI, sI, sI, sI, sI, sb, sb, sI}",
				 "bench", "claim", "area_kind", berth__kind_names[config->kind],
				 "size_bytes", (json_int_t)config->size, "area_bytes",
				 (json_int_t)config->area, "fill", berth__fill_names[config->fill],
				 "run_bytes", (json_int_t)config->run, "writers",
				 (json_int_t)config->writers, "copiers",
				 (json_int_t)config->copiers, "count", (json_int_t)config->count,
				 "ok", (json_int_t)bench->ok_us.nr, "failed",
				 (json_int_t)bench->failed_us.nr, "first_fit", config->first_fit,
				 "verify", config->verify, "seed", (json_int_t)config->seed);

	json_object_update(line, more);
	json_decref(more);
	json_object_set_new(line, "destination",
			    json_string(berth__destination_names[config->destination]));
	add_count(line, "run_bytes_mean", bench->runs,
		  bench->runs ? config->area / bench->runs : 0);
}

static void print_json(struct bench *bench)
{
	struct result result = evaluate(bench);
	bool writers = bench->config.writers > 0;
	json_t *line = json_object();

	add_parameters(bench, line);
	json_object_set_new(line, "mover", json_string(result.mover));
	json_object_set_new(line, "keeps_awake", json_boolean(result.keeps_awake));
	json_object_set_new(line, "error",
			    bench->error ? json_string(berth_errname(bench->error)) : json_null());
	json_object_set_new(line, "holder",
			    bench->holder[0] ? json_string(bench->holder) : json_null());
	add_number(line, "min_us", true, berth__sample_min(result.us));
	add_number(line, "p50_us", true, berth__percentile(result.us, 50));
	add_number(line, "p99_us", true, berth__percentile(result.us, 99));
	add_number(line, "max_us", true, berth__sample_max(result.us));
	add_number(line, "cpu_us", true, berth__percentile(&bench->cpu_us, 50));
	add_number(line, "touch_us", bench->touch_us.nr, berth__percentile(&bench->touch_us, 50));
	json_object_set_new(line, "moved_bytes", json_integer((json_int_t)bench->moved_bytes));
	add_number(line, "memcpy_us_per_mib", true, result.memcpy_us);
	add_number(line, "factor", result.factor > 0, result.factor);
	add_number(line, "beyond_memcpy_us_per_page", result.factor > 0, result.page_us);
	add_number(line, "memcpy_beside_writers_us_per_mib", writers, result.beside_us);
	add_number(line, "memcpy_stall_p99_us", writers, berth__percentile(&bench->peer_us, 99));
	add_count(line, "memcpy_stalls", writers, bench->peer_us.nr);
	add_number(line, "stall_p99_us", writers, berth__percentile(&bench->stall_us, 99));
	add_number(line, "stall_page_p99_us", writers, berth__percentile(&bench->page_us, 99));
	add_number(line, "stall_max_us", writers, berth__sample_max(&bench->stall_us));
	add_count(line, "stalls", writers, bench->stall_us.nr + bench->stalls_lost);
	add_count(line, "preempted", writers, bench->preempted);
	add_number(line, "preempted_max_us", writers, bench->preempted_max_us);
	add_count(line, "writes", writers, bench->writes);
	berth__json_print(line);
}

/* "NAME  TEXT" with a time in us. */
static void print_us(const char *name, double us)
{
	char text[BERTH__UNIT_BYTES];

	printf("  %-10s %s\n", name, berth__format_ns(text, us * 1000));
}

static void print_writers(struct bench *bench, const struct result *result)
{
	char p99[BERTH__UNIT_BYTES], most[BERTH__UNIT_BYTES], beside[BERTH__UNIT_BYTES];
	char lost[BERTH__UNIT_BYTES];

	printf("  stalls     %llu of %llu writes; p99 %s, longest %s\n",
	       (unsigned long long)(bench->stall_us.nr + bench->stalls_lost),
	       (unsigned long long)bench->writes,
	       berth__format_ns(p99, berth__percentile(&bench->stall_us, 99) * 1000),
	       berth__format_ns(most, berth__sample_max(&bench->stall_us) * 1000));
	printf("  CPUs       %s while writers wait for a move\n",
	       result->keeps_awake ? "kept awake" : "may sleep");
	printf("  page       p99 %s: the same without the time in which the writer was ready, but "
	       "others had the CPUs\n",
	       berth__format_ns(p99, berth__percentile(&bench->page_us, 99) * 1000));
	if (bench->preempted)
		printf("  preempted  %llu writes more lost their CPU, for %s at most\n",
		       (unsigned long long)bench->preempted,
		       berth__format_ns(lost, bench->preempted_max_us * 1000));
	printf("  memcpy     %s a MiB beside the writers, whose stalls are then %zu, p99 %s",
	       berth__format_ns(beside, result->beside_us * 1000), bench->peer_us.nr,
	       berth__format_ns(p99, berth__percentile(&bench->peer_us, 99) * 1000));
	if (result->beside_us > 0 && result->moved_a_claim > 0)
		printf("; p50 is %.2f times that",
		       berth__percentile(result->us, 50) /
			       (result->beside_us * result->moved_a_claim / (1 << 20)));
	printf("\n");
}

static void print_title(const struct bench *bench)
{
	const struct berth__claim_config *config = &bench->config;
	char size[BERTH__UNIT_BYTES], area[BERTH__UNIT_BYTES], run[BERTH__UNIT_BYTES];

	printf("%llu claims of %s out of an area of %s", (unsigned long long)config->count,
	       berth__format_bytes(size, (double)config->size),
	       berth__format_bytes(area, (double)config->area));
	if (config->fill == BERTH__FILL_EMPTY)
		printf(", empty\n");
	else
		printf(" full of movable memory in runs of %s%s%s%s\n",
		       berth__format_bytes(run, (double)config->area / (double)bench->runs),
		       config->fill == BERTH__FILL_PINNED ? ", with pins" : "",
		       config->destination ? ", destination " : "",
		       config->destination ? berth__destination_names[config->destination] : "");
}

static void print_text(struct bench *bench)
{
	struct result result = evaluate(bench);
	char text[BERTH__UNIT_BYTES], memcpy_text[BERTH__UNIT_BYTES];

	print_title(bench);
	printf("  ok         %zu, failed %zu", bench->ok_us.nr, bench->failed_us.nr);
	if (bench->error)
		printf(" (%s%s%s)", berth_errname(bench->error),
		       bench->holder[0] ? ", held by " : "", bench->holder);
	printf("\n");
	print_us("min", berth__sample_min(result.us));
	print_us("p50", berth__percentile(result.us, 50));
	print_us("p99", berth__percentile(result.us, 99));
	print_us("max", berth__sample_max(result.us));
	print_us("CPU", berth__percentile(&bench->cpu_us, 50));
	if (bench->touch_us.nr)
		print_us("touch", berth__percentile(&bench->touch_us, 50));
	printf("  moved      %s a claim, by %s\n", berth__format_bytes(text, result.moved_a_claim),
	       result.mover);
	printf("  memcpy     %s a MiB", berth__format_ns(memcpy_text, result.memcpy_us * 1000));
	if (result.factor > 0)
		printf("; p50 is %.2f times memcpy of what was moved, or memcpy and %.2f us a page",
		       result.factor, result.page_us);
	printf("\n");
	if (bench->config.writers)
		print_writers(bench, &result);
}

/* ---- The command ----------------------------------------------------------------------------- */

/* More than one claim at a time. */
static int run_many(const struct berth__claim_config *config)
{
	struct berth__many many = {
		.command = COMMAND,
		.size = config->size,
		.area = config->area,
		.run = config->run,
		.count = config->count,
		.seed = config->seed,
		.claimers = config->claimers,
		.bulk = config->bulk,
		.fill = config->fill,
		.kind = config->kind,
		.json = config->json,
		.mover = config->mover,
	};

	return config->bulk ? berth__bench_bulk(&many) : berth__bench_claimers(&many);
}

/* Areas whose memory needn't be moved. */
static int run_without_moves(const struct berth__claim_config *config)
{
	const struct berth__gcma_bench gcma = {
		.command = COMMAND,
		.size = config->size,
		.area = config->area,
		.count = config->count,
		.writers = config->writers,
		.seed = config->seed,
		.lends = config->kind == BERTH__AREA_GCMA,
		.full = config->fill == BERTH__FILL_DISCARDABLE,
		.verify = config->verify,
		.json = config->json,
	};

	return berth__bench_gcma(&gcma);
}

static int run(struct bench *bench)
{
	if (bench->config.bulk || bench->config.claimers)
		return run_many(&bench->config);
	if (bench->config.kind != BERTH__AREA_CMA)
		return run_without_moves(&bench->config);
	berth__catch_interrupts();
	berth__ticks_start();
	if (open_pool(bench) && (bench->config.fill != BERTH__FILL_PINNED || pin(bench)))
		run_all(bench);
	if (!bench->bad && !berth__interrupted())
		(bench->config.json ? print_json : print_text)(bench);
	close_pool(bench);
	if (berth__interrupted())
		return berth__interrupted_code();
	return bench->bad ? BERTH__EXIT_FAILED : 0;
}

int berth__bench_claim(int argc, char **argv)
{
	static struct bench bench;
	int code = berth__claim_options(argc, argv, &bench.config);

	return code >= 0 ? code : run(&bench);
}
