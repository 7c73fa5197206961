/* SPDX-License-Identifier: MIT */
/*
 * The whole table of `berth bench pages`: the cells of all allocators, measured in turns, and the
 * bars that Berth is held to, by figures of the same run.
 */
#define _GNU_SOURCE
#include "tools/bench_pages.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <berth/types.h>

#include "tools/options.h"
#include "tools/units.h"

enum cell { BULK, REPEAT, RANDOM, LARGE, THREADS, NR_CELLS };

#define LARGE_ORDER 9u
#define PEER_ROUNDS 3u /* allocators of others take part in so many: they take most of the time */

/* What is known of a row: ns; NAN: not measured. */
struct row {
	bool shown;
	const struct berth__peer *peer;
	struct berth__pages_figures figures[NR_CELLS];
	bool measured[NR_CELLS];
	double alloc[NR_CELLS], free[NR_CELLS], pair[NR_CELLS];
	double metadata;
	struct berth__pages_figures alone; /* the threads' cell, one thread after the other */
	struct berth__samples threads;     /* an operation's time at once / alone, by rounds */
};

struct table {
	const struct berth__pages_config *config;
	struct berth__pages cells[NR_CELLS];
	struct berth__peer peers[BERTH__NR_ROWS];
	struct row rows[BERTH__NR_ROWS];
};

/* Whether this says something: a stack knows one size, and touching is about places. */
static bool makes_sense(enum berth__pages_row row, enum cell cell)
{
	if (row == BERTH__ROW_TOUCH)
		return cell == RANDOM;
	return row != BERTH__ROW_STACK || cell != LARGE;
}

/* ---- Setting up -------------------------------------------------------------------------------- */

/*
 * mimalloc keeps its list of free blocks in the blocks, so all the memory comes to be there; the
 * others leave it alone. False: there isn't as much.
 */
static bool has_room(const struct berth__pages_config *config, enum berth__pages_row row)
{
	uint64_t available = berth__available_bytes();
	char size[BERTH__UNIT_BYTES];

	if (row != BERTH__ROW_MIMALLOC || available / 2 > config->memory_bytes)
		return true;
	berth__complain(0, BERTH__PAGES_COMMAND,
			"mimalloc is left out: it writes to free blocks, which needs twice %s; use "
			"a smaller --memory",
			berth__format_bytes(size, (double)config->memory_bytes));
	return false;
}

static bool choose_rows(struct table *table, char **argv)
{
	int only = table->config->row;
	bool any = false;

	for (int i = 0; i < BERTH__NR_ROWS; i++) {
		struct row *row = &table->rows[i];

		if (only >= 0 && i != only)
			continue;
		row->shown = true;
		if (i >= BERTH__ROW_JEMALLOC) {
			row->peer = &table->peers[i];
			row->shown = has_room(table->config, (enum berth__pages_row)i) &&
				     berth__peer_open(&table->peers[i], (enum berth__pages_row)i,
						      argv);
		}
		for (int cell = 0; cell < NR_CELLS; cell++)
			row->measured[cell] = row->shown && makes_sense((enum berth__pages_row)i,
									(enum cell)cell);
		any |= row->shown;
	}
	return any;
}

static bool open_cells(struct table *table)
{
	static const struct {
		unsigned order;
		enum berth__pattern pattern;
	} cells[NR_CELLS] = {
		[BULK] = { 0, BERTH__BULK },    [REPEAT] = { 0, BERTH__REPEAT },
		[RANDOM] = { 0, BERTH__RAND },  [LARGE] = { LARGE_ORDER, BERTH__BULK },
		[THREADS] = { 0, BERTH__BULK },
	};

	for (int i = 0; i < NR_CELLS; i++) {
		struct berth__pages *cell = &table->cells[i];

		cell->order = cells[i].order;
		cell->pattern = cells[i].pattern;
		cell->threads = i == THREADS ? (unsigned)table->config->threads : 1;
		cell->memory_bytes = table->config->memory_bytes;
		cell->seed = table->config->seed;
		cell->touches = i == RANDOM;
		if (!berth__pages_open(cell))
			return false;
	}
	return true;
}

/* ---- Measuring --------------------------------------------------------------------------------- */

/* What the threads' figures are compared with, just after them: CPUs differ, so each thread stays on its own. */
static bool measure_alone(struct table *table, uint64_t round)
{
	struct row *berth = &table->rows[BERTH__ROW_BERTH];

	return !berth->measured[THREADS] || berth__interrupted() ||
	       berth__pages_round_alone(&table->cells[THREADS], BERTH__ROW_BERTH,
					round ? &berth->alone : NULL);
}

/* One round of a cell for all; round 0 warms up. An allocator of others that can't do it (a size that it doesn't
 * align, say) has no figure; Berth or a bound that can't is a fault. */
static bool measure_cell(struct table *table, int cell, uint64_t round)
{
	int nr = round > PEER_ROUNDS ? BERTH__ROW_JEMALLOC : BERTH__NR_ROWS;

	for (int i = 0; i < nr; i++) {
		struct row *row = &table->rows[i];

		if (!row->measured[cell] || berth__interrupted())
			continue;
		row->measured[cell] = berth__pages_round(&table->cells[cell],
							 (enum berth__pages_row)i, row->peer,
							 round ? &row->figures[cell] : NULL);
		if (!row->measured[cell] && i < BERTH__ROW_JEMALLOC) {
			berth__complain(0, BERTH__PAGES_COMMAND,
					"a block couldn't be allocated or freed");
			return false;
		}
	}
	return cell != THREADS || measure_alone(table, round);
}

/* Of what the round has measured last. */
static void compare_threads(struct row *row)
{
	const struct berth__samples *many = &row->figures[THREADS].pair;
	const struct berth__samples *one = &row->alone.pair;

	if (many->nr && one->nr)
		berth__sample_add(&row->threads,
				  many->values[many->nr - 1] / one->values[one->nr - 1]);
}

static void take_medians(struct row *row)
{
	for (int cell = 0; cell < NR_CELLS; cell++) {
		bool split = row->measured[cell] && cell != REPEAT;

		row->alloc[cell] = split ? berth__percentile(&row->figures[cell].alloc, 50) : NAN;
		row->free[cell] = split ? berth__percentile(&row->figures[cell].free, 50) : NAN;
		row->pair[cell] = row->measured[cell] ?
					  berth__percentile(&row->figures[cell].pair, 50) :
					  NAN;
	}
}

static int measure(struct table *table)
{
	uint64_t rounds = table->config->rounds;

	for (int i = 0; i < BERTH__NR_ROWS; i++)
		if (table->rows[i].shown)
			table->rows[i].metadata = berth__pages_metadata(
				&table->cells[BULK], (enum berth__pages_row)i, table->rows[i].peer);
	/* A round warms all up; then they take turns. */
	for (uint64_t round = 0; round <= rounds; round++) {
		for (unsigned turn = 0; turn < NR_CELLS && !berth__interrupted(); turn++) {
			berth__progress(BERTH__PAGES_COMMAND, round * NR_CELLS + turn,
					(rounds + 1) * NR_CELLS);
			if (!measure_cell(table, (int)turn, round)) {
				berth__progress_end();
				return BERTH__EXIT_FAILED;
			}
		}
		compare_threads(&table->rows[BERTH__ROW_BERTH]);
	}
	berth__progress_end();
	if (berth__interrupted())
		return berth__interrupted_code();
	for (int i = 0; i < BERTH__NR_ROWS; i++)
		take_medians(&table->rows[i]);
	for (int cell = 0; cell < NR_CELLS && table->rows[BERTH__ROW_BERTH].shown; cell++)
		if (!berth__pages_check(&table->cells[cell]))
			return BERTH__EXIT_FAILED;
	return 0;
}

/* ---- The bars ----------------------------------------------------------------------------------- */

struct bar {
	const char *name, *unit, *of;
	double figure, limit;
};
#define NR_BARS 5

static void find_bars(struct table *table, struct bar bars[NR_BARS])
{
	struct row *berth = &table->rows[BERTH__ROW_BERTH];
	const struct row *stack = &table->rows[BERTH__ROW_STACK];
	const struct row *touch = &table->rows[BERTH__ROW_TOUCH];

	bars[0] = (struct bar){ "bulk", "x", "the stack", berth->pair[BULK] / stack->pair[BULK],
				3 };
	bars[1] = (struct bar){ "repeat", "x", "the stack",
				berth->pair[REPEAT] / stack->pair[REPEAT], 3 };
	bars[2] = (struct bar){ "random", "x", "touching the frames' metadata",
				berth->pair[RANDOM] / touch->pair[RANDOM], 4 };
	bars[3] = (struct bar){ "order 9", "ns", "the slower of allocate and free",
				fmax(berth->alloc[LARGE], berth->free[LARGE]), 40 };
	bars[4] = (struct bar){ "threads", "x",
				"these threads one after the other, for an operation",
				berth__percentile(&berth->threads, 50), 1.25 };
}

static const char *verdict(const struct bar *bar)
{
	return bar->figure <= bar->limit ? "met" : "missed";
}

/* ---- Printing ------------------------------------------------------------------------------------ */

static const char *label(const struct row *row, int i)
{
	static const char *const labels[] = { "array stack", "touching metadata", "Berth" };

	return row->peer ? row->peer->label : labels[i];
}

static void print_figure(double ns)
{
	if (isnan(ns))
		printf("%8s", "-");
	else
		printf("%8.1f", ns);
}

static void print_row(const struct row *row, int i)
{
	printf("%-18s", label(row, i));
	for (int cell = 0; cell < NR_CELLS; cell++) {
		if (cell == REPEAT) {
			print_figure(row->pair[cell]);
			continue;
		}
		print_figure(row->alloc[cell]);
		print_figure(row->free[cell]);
	}
	print_figure(row->metadata > 0 ? row->metadata : NAN);
	printf("\n");
}

static void print_text(struct table *table)
{
	const struct berth__pages_config *config = table->config;
	struct bar bars[NR_BARS];
	char size[BERTH__UNIT_BYTES], threads[32];

	printf("%s of pages of 4 KiB; ns an operation, median of %llu rounds\n\n",
	       berth__format_bytes(size, (double)config->memory_bytes),
	       (unsigned long long)config->rounds);
	snprintf(threads, sizeof(threads), "%llu thread%s", (unsigned long long)config->threads,
		 config->threads > 1 ? "s" : "");
	printf("%-18s%16s%8s%16s%16s%16s%8s\n", "", "bulk", "repeat", "random", "order 9", threads,
	       "bytes");
	printf("%-18s", "");
	for (int cell = 0; cell < NR_CELLS; cell++)
		printf(cell == REPEAT ? "%8s" : "%8s%8s", cell == REPEAT ? "pair" : "alloc",
		       "free");
	printf("%8s\n", "a page");
	for (int i = 0; i < BERTH__NR_ROWS; i++)
		if (table->rows[i].shown)
			print_row(&table->rows[i], i);
	if (config->row >= 0 && config->row != BERTH__ROW_BERTH)
		return;
	printf("\nchecked: no two blocks of Berth overlap, all invariants hold\n");
	if (config->row >= 0)
		return;
	printf("\nBerth's bars, of the medians above\n");
	find_bars(table, bars);
	for (int i = 0; i < NR_BARS; i++)
		printf("  %-8s %6.2f %-2s %-42s at most %-5g %s\n", bars[i].name, bars[i].figure,
		       bars[i].unit, bars[i].of, bars[i].limit, verdict(&bars[i]));
}

static void add_figure(json_t *object, const char *name, double value)
{
	if (isnan(value))
		json_object_set_new(object, name, json_null());
	else
		berth__json_add(object, name, value);
}

static json_t *json_row(const struct row *row, int i)
{
	static const char *const names[NR_CELLS] = { "bulk", "repeat", "random", "order9",
						     "threads" };
	json_t *object = json_pack("{ss, ss}", "allocator", berth__row_names[i], "label",
				   label(row, i));

	for (int cell = 0; cell < NR_CELLS; cell++) {
		json_t *one = json_object();

		if (!row->measured[cell]) {
			json_decref(one);
			json_object_set_new(object, names[cell], json_null());
			continue;
		}
		add_figure(one, "alloc_ns", row->alloc[cell]);
		add_figure(one, "free_ns", row->free[cell]);
		add_figure(one, "pair_ns", row->pair[cell]);
		json_object_set_new(object, names[cell], one);
	}
	add_figure(object, "metadata_bytes_per_frame", row->metadata > 0 ? row->metadata : NAN);
	return object;
}

static void print_json(struct table *table)
{
	const struct berth__pages_config *config = table->config;
	json_t *line = json_pack("{ss}", "bench", "pages"), *rows = json_array(), *list;
	struct bar bars[NR_BARS];

	for (int i = 0; i < BERTH__NR_ROWS; i++)
		if (table->rows[i].shown)
			json_array_append_new(rows, json_row(&table->rows[i], i));
	json_object_set_new(line, "rows", rows);
	if (config->row < 0) {
		list = json_array();
		find_bars(table, bars);
		for (int i = 0; i < NR_BARS; i++) {
			json_t *bar = json_pack("{ss, sb}", "name", bars[i].name, "met",
						bars[i].figure <= bars[i].limit);

			berth__json_add(bar, "figure", bars[i].figure);
			berth__json_add(bar, "limit", bars[i].limit);
			json_array_append_new(list, bar);
		}
		json_object_set_new(line, "bars", list);
	}
	berth__json_count(line, "threads", config->threads);
	berth__json_count(line, "rounds", config->rounds);
	berth__json_count(line, "memory_bytes", config->memory_bytes);
	berth__json_count(line, "seed", config->seed);
	berth__json_print(line);
}

int berth__pages_table(const struct berth__pages_config *config, char **argv)
{
	static struct table table; /* large */
	int code;

	table.config = config;
	if (!choose_rows(&table, argv))
		return 0;
	berth__catch_interrupts();
	code = open_cells(&table) ? measure(&table) : BERTH__EXIT_FAILED;
	if (code == 0)
		(config->json ? print_json : print_text)(&table);
	for (int cell = 0; cell < NR_CELLS; cell++)
		berth__pages_close(&table.cells[cell]);
	for (int i = 0; i < BERTH__NR_ROWS; i++) {
		for (int cell = 0; cell < NR_CELLS; cell++)
			berth__pages_figures_free(&table.rows[i].figures[cell]);
		berth__samples_free(&table.rows[i].threads);
		berth__pages_figures_free(&table.rows[i].alone);
	}
	return code;
}
