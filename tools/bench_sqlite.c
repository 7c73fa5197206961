/* SPDX-License-Identifier: MIT */
/*
 * `berth bench sqlite`: SQLite with its pages in lent memory, beside SQLite with as much memory of its own and SQLite as
 * it is.
 *
 * Each way is a process of its own, this program again, which doesn't know which way it is (bench_sqlite_worker.c); the one
 * whose pages are lent is started by `berth run --sqlite-cache`, as any program would be. They take turns, in the
 * opposite order each time, so that whatever else the machine does meets all alike; who doesn't have its turn
 * waits for its next order. A process that outlives this one finds no more orders, and ends; another one is there to
 * remove the files then.
 */
#define _GNU_SOURCE
#include "tools/bench_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/measure.h"
#include "tools/options.h"

#define COMMAND BERTH__SQLITE_COMMAND
#define MIB ((uint64_t)1 << 20)
#define ROW_FILE_BYTES 229u /* what a row takes of the file, about */
#define MOST_ARGUMENTS 20   /* 16, and NULL */
#define MOST_TEXT 32

struct worker {
	pid_t pid; /* 0: none */
	FILE *orders, *answers;
};

struct bench {
	struct berth__sqlite_config config;
	struct worker workers[BERTH__SQLITE_NR_WAYS];
	struct berth__sqlite_result results[BERTH__SQLITE_NR_PHASES];
	char self[PATH_MAX];
	char folder[PATH_MAX - 16], database[PATH_MAX], report[PATH_MAX];
	pid_t remover;        /* 0: none */
	int remover_line;     /* see start_remover() */
	uint64_t done, turns; /* for those who wait */
};

static const char *const way_names[BERTH__SQLITE_NR_WAYS] = { "lent", "same memory",
							      "default cache" };

/* ---- Processes --------------------------------------------------------------------------------- */

struct arguments {
	const char *words[MOST_ARGUMENTS];
	char lent[MOST_TEXT], front[MOST_TEXT], rows[MOST_TEXT], cache[MOST_TEXT];
};

/* The command line of a way's process. */
static void find_arguments(const struct bench *bench, enum berth__sqlite_way which,
			   struct arguments *arguments)
{
	const struct berth__sqlite_config *config = &bench->config;
	const uint64_t cache_kib = which == BERTH__SQLITE_SAME ?
					   (config->lent + config->front) / 1024 :
					   0;
	const char **word = arguments->words;

	snprintf(arguments->lent, MOST_TEXT, "--sqlite-cache=%llu",
		 (unsigned long long)config->lent);
	snprintf(arguments->front, MOST_TEXT, "%llu", (unsigned long long)config->front);
	snprintf(arguments->rows, MOST_TEXT, "%llu", (unsigned long long)config->rows);
	snprintf(arguments->cache, MOST_TEXT, "%llu", (unsigned long long)cache_kib);
	if (which == BERTH__SQLITE_LENT) {
		const char *const before[] = { bench->self,
					       "run",
					       arguments->lent,
					       "--sqlite-front",
					       arguments->front,
					       "--json",
					       "--report",
					       bench->report,
					       "--" };

		memcpy(word, before, sizeof(before));
		word += sizeof(before) / sizeof(before[0]);
	}
	*word++ = bench->self;
	*word++ = "bench";
	*word++ = "sqlite";
	*word++ = BERTH__SQLITE_WORKER;
	*word++ = bench->database;
	*word++ = arguments->rows;
	*word++ = arguments->cache;
	*word = NULL;
}

static void become(const struct arguments *arguments, int orders, int answers)
{
	if (dup2(orders, STDIN_FILENO) >= 0 && dup2(answers, STDOUT_FILENO) >= 0)
		execv(arguments->words[0], (char *const *)(uintptr_t)arguments->words);
	_exit(127);
}

static bool start(struct bench *bench, enum berth__sqlite_way which)
{
	struct worker *worker = &bench->workers[which];
	struct arguments arguments;
	int orders[2] = { -1, -1 }, answers[2] = { -1, -1 };

	find_arguments(bench, which, &arguments);
	if (pipe2(orders, O_CLOEXEC) == 0 && pipe2(answers, O_CLOEXEC) == 0) {
		worker->pid = fork();
		if (worker->pid == 0)
			become(&arguments, orders[0], answers[1]);
		if (worker->pid > 0) {
			worker->orders = fdopen(orders[1], "w");
			worker->answers = fdopen(answers[0], "r");
		}
	}
	close(orders[0]);
	close(answers[1]);
	if (worker->orders && worker->answers)
		return true;
	berth__complain(0, COMMAND, "a process can't be started: %s", strerror(errno));
	return false;
}

/* Its time in ns. False: it has said what is wrong, or we do. */
static bool order(struct bench *bench, enum berth__sqlite_way which, const char *text, double *ns)
{
	struct worker *worker = &bench->workers[which];
	unsigned long long answer;

	if (fputs(text, worker->orders) != EOF && fflush(worker->orders) == 0 &&
	    fscanf(worker->answers, "%llu", &answer) == 1) {
		*ns = (double)answer;
		return true;
	}
	if (!berth__interrupted())
		berth__complain(0, COMMAND, "%s: its process has ended", way_names[which]);
	return false;
}

/* No more orders; waits for its end. False: it didn't end well. */
static bool stop(struct bench *bench, enum berth__sqlite_way which)
{
	struct worker *worker = &bench->workers[which];
	int status = 0;

	if (!worker->pid)
		return true;
	if (worker->orders)
		fclose(worker->orders);
	if (worker->answers)
		fclose(worker->answers);
	while (worker->pid > 0 && waitpid(worker->pid, &status, 0) < 0 && errno == EINTR)
		;
	*worker = (struct worker){ .pid = 0 };
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool stop_all(struct bench *bench)
{
	bool good = true;

	for (int which = 0; which < BERTH__SQLITE_NR_WAYS; which++)
		good &= stop(bench, (enum berth__sqlite_way)which);
	return good;
}

/* ---- Turns ------------------------------------------------------------------------------------- */

/* Number `round` of a phase; the first one, which is the warm-up, is number 0. */
static void describe(const struct berth__sqlite_config *config, enum berth__sqlite_phase phase,
		     uint64_t round, char text[2 * MOST_TEXT])
{
	if (phase == BERTH__SQLITE_SCAN)
		snprintf(text, 2 * MOST_TEXT, "scan\n");
	else
		snprintf(text, 2 * MOST_TEXT, "query %llu %llu\n",
			 (unsigned long long)(config->seed * BERTH__SQLITE_MOST_ROUNDS + round),
			 (unsigned long long)(round ? config->queries : config->warm_up));
}

static bool take_round(struct bench *bench, enum berth__sqlite_phase phase, uint64_t round)
{
	const double nr = phase == BERTH__SQLITE_QUERY ? (double)bench->config.queries : 1;
	char text[2 * MOST_TEXT];

	describe(&bench->config, phase, round, text);
	for (int i = 0; i < BERTH__SQLITE_NR_WAYS; i++) {
		int which = round & 1 ? BERTH__SQLITE_NR_WAYS - 1 - i : i;
		double ns;

		if (berth__interrupted() || !order(bench, (enum berth__sqlite_way)which, text, &ns))
			return false;
		if (round)
			bench->results[phase].ns[which][round - 1] = ns / nr;
		berth__progress(COMMAND, ++bench->done, bench->turns);
	}
	bench->results[phase].rounds = round;
	return true;
}

static json_t *read_report(const struct bench *bench)
{
	json_t *report = json_load_file(bench->report, 0, NULL);
	json_t *pages = json_incref(json_object_get(report, "sqlite"));

	json_decref(report);
	return pages;
}

static bool take_phase(struct bench *bench, enum berth__sqlite_phase phase)
{
	bool good = true;

	if (!bench->config.rounds[phase])
		return true;
	for (int which = 0; which < BERTH__SQLITE_NR_WAYS && good; which++)
		good = start(bench, (enum berth__sqlite_way)which);
	for (uint64_t round = 0; round <= bench->config.rounds[phase] && good; round++)
		good = take_round(bench, phase, round);
	good &= stop_all(bench);
	if (good)
		bench->results[phase].pages = read_report(bench);
	return good;
}

/* ---- The database ------------------------------------------------------------------------------ */

static bool make_folder(struct bench *bench)
{
	const char *folder = getenv("TMPDIR");

	snprintf(bench->folder, sizeof(bench->folder), "%s/berth-sqlite.XXXXXX",
		 folder && *folder ? folder : "/tmp");
	if (!mkdtemp(bench->folder)) {
		berth__complain(0, COMMAND,
				"there is no folder for the database (%s); is TMPDIR, or else "
				"/tmp, one that can be written to?",
				strerror(errno));
		return false;
	}
	snprintf(bench->database, sizeof(bench->database), "%s/database", bench->folder);
	snprintf(bench->report, sizeof(bench->report), "%s/report", bench->folder);
	return true;
}

static void remove_folder(const struct bench *bench)
{
	unlink(bench->database);
	unlink(bench->report);
	rmdir(bench->folder);
}

/* The folder is removed by a process of no terminal, once this one and those that it starts have ended, in whatever
 * way they do: all of them have the line that it reads, and nobody writes to it. */
static bool start_remover(struct bench *bench)
{
	int line[2];
	char nothing;

	if (pipe(line) == 0) {
		bench->remover = fork();
		if (bench->remover == 0) {
			setsid();
			close(line[1]);
			while (read(line[0], &nothing, 1) < 0 && errno == EINTR)
				;
			remove_folder(bench);
			_exit(0);
		}
		close(line[0]);
		if (bench->remover > 0) {
			bench->remover_line = line[1];
			return true;
		}
		close(line[1]);
	}
	berth__complain(0, COMMAND, "a process can't be started: %s", strerror(errno));
	remove_folder(bench);
	return false;
}

static void end_remover(struct bench *bench)
{
	if (bench->remover <= 0)
		return;
	close(bench->remover_line);
	while (waitpid(bench->remover, NULL, 0) < 0 && errno == EINTR)
		;
}

static bool make_database(struct bench *bench)
{
	double ns;
	bool good = start(bench, BERTH__SQLITE_DEFAULT) &&
		    order(bench, BERTH__SQLITE_DEFAULT, "make\n", &ns);

	return stop_all(bench) && good;
}

static bool run(struct bench *bench)
{
	ssize_t length = readlink("/proc/self/exe", bench->self, sizeof(bench->self) - 1);
	bool good = length > 0 && make_folder(bench) && start_remover(bench);

	if (length <= 0)
		berth__complain(0, COMMAND, "this program can't find itself: %s", strerror(errno));
	signal(SIGPIPE, SIG_IGN);
	berth__catch_interrupts();
	for (int phase = 0; phase < BERTH__SQLITE_NR_PHASES; phase++)
		if (bench->config.rounds[phase])
			bench->turns += (bench->config.rounds[phase] + 1) * BERTH__SQLITE_NR_WAYS;
	good = good && make_database(bench);
	for (int phase = 0; phase < BERTH__SQLITE_NR_PHASES && good; phase++)
		good = take_phase(bench, (enum berth__sqlite_phase)phase);
	stop_all(bench);
	berth__progress_end();
	end_remover(bench);
	return good;
}

/* ---- The command ------------------------------------------------------------------------------- */

static const char help[] =
	"usage: berth bench sqlite [OPTIONS]\n"
	"\n"
	"What is lent memory worth to SQLite? Three processes take turns with one database: one whose pages\n"
	"are in memory that is lent (`berth run --sqlite-cache`), one with as much memory of its own (PRAGMA\n"
	"cache_size), one with SQLite's default cache. They ask for random rows by number, the popular\n"
	"ones more often (Zipf's law with exponent 1); then others scan the whole table. Each answer is\n"
	"looked at.\n"
	"\n"
	"  --database SIZE  of its file (1G), which lies in TMPDIR, else in /tmp\n"
	"  --lent SIZE      memory that is lent to SQLite (256M)\n"
	"  --front SIZE     ordinary memory in front of it (16M); `same memory` is the sum\n"
	"  --warm-up N      queries of each way before it is measured (2500000)\n"
	"  --queries N      queries of a turn (100000)\n"
	"  --rounds N       turns of each way (15); 0: no queries\n"
	"  --scans N        scans of each way, behind one that isn't measured (9); 0: none\n"
	"  --seed N         of the queries (1)\n"
	"  --json           one JSON object; times in ns, bytes in bytes\n"
	"\n"
	"Times are medians over the rounds. A ratio is the median of the rounds' ratios, in which both have\n"
	"asked the same; behind it stands where 95 % of such ratios are when rounds are drawn from these at\n"
	"random. The file is in the kernel's page cache: a page that isn't found costs a system call.\n"
	"\n"
	"examples:\n"
	"  berth bench sqlite\n"
	"  berth bench sqlite --database 256M --lent 64M --front 4M --warm-up 500000 --json\n"
	"\n"
	"exit codes: 0 done, 1 an answer was wrong, or there is no SQLite or no memory, 2 a mistake in the\n"
	"command line, 130 interrupted.\n";

enum { DATABASE = 256, LENT, FRONT, WARM_UP, QUERIES, ROUNDS, SCANS, SEED, JSON };
static const struct option options[] = {
	{ "database", required_argument, NULL, DATABASE },
	{ "lent", required_argument, NULL, LENT },
	{ "front", required_argument, NULL, FRONT },
	{ "warm-up", required_argument, NULL, WARM_UP },
	{ "queries", required_argument, NULL, QUERIES },
	{ "rounds", required_argument, NULL, ROUNDS },
	{ "scans", required_argument, NULL, SCANS },
	{ "seed", required_argument, NULL, SEED },
	{ "json", no_argument, NULL, JSON },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool take_option(void *ctx, int option)
{
	struct berth__sqlite_config *config = ctx;

	switch (option) {
	case DATABASE:
		return berth__size_option(COMMAND, "--database", &config->database);
	case LENT:
		return berth__size_option(COMMAND, "--lent", &config->lent);
	case FRONT:
		return berth__size_option(COMMAND, "--front", &config->front);
	case WARM_UP:
		return berth__count_option(COMMAND, "--warm-up", 0, 1000000000, &config->warm_up);
	case QUERIES:
		return berth__count_option(COMMAND, "--queries", 1, 100000000, &config->queries);
	case ROUNDS:
		return berth__count_option(COMMAND, "--rounds", 0, BERTH__SQLITE_MOST_ROUNDS - 1,
					   &config->rounds[BERTH__SQLITE_QUERY]);
	case SCANS:
		return berth__count_option(COMMAND, "--scans", 0, BERTH__SQLITE_MOST_ROUNDS - 1,
					   &config->rounds[BERTH__SQLITE_SCAN]);
	case SEED:
		return berth__count_option(COMMAND, "--seed", 0, INT32_MAX, &config->seed);
	default:
		config->json = true;
		return true;
	}
}

/* -1, or an exit code: the user knows why. */
static int complete(struct berth__sqlite_config *config)
{
	const uint64_t need = config->database + 2 * (config->lent + config->front) + 64 * MIB;

	if (config->database < 2 * MIB || config->database > (uint64_t)512 << 30)
		return berth__complain(BERTH__EXIT_USAGE, COMMAND,
				       "--database is too %s; choose from 2M to 512G",
				       config->database < 2 * MIB ? "small" : "large");
	if (config->lent > (uint64_t)1 << 40 || config->front > (uint64_t)1 << 40)
		return berth__complain(BERTH__EXIT_USAGE, COMMAND,
				       "--lent and --front are too large; choose up to 1T");
	config->rows = config->database / ROW_FILE_BYTES;
	return berth__has_memory(COMMAND, need, "--database or --lent") ? -1 : BERTH__EXIT_FAILED;
}

static const struct berth__command command = { COMMAND, help, options, take_option };

int berth__bench_sqlite(int argc, char **argv)
{
	static struct bench bench = {
		.config = { .database = 1024 * MIB,
			    .lent = 256 * MIB,
			    .front = 16 * MIB,
			    .warm_up = 2500000,
			    .queries = 100000,
			    .rounds = { 15, 9 },
			    .seed = 1 },
	};
	int code;
	bool good;

	if (argc > 1 && strcmp(argv[1], BERTH__SQLITE_WORKER) == 0)
		return berth__sqlite_work(argc - 1, argv + 1);
	code = berth__take_options(&command, argc, argv, &bench.config);
	if (code < 0)
		code = complete(&bench.config);
	if (code >= 0)
		return code;
	good = run(&bench);
	if (berth__interrupted())
		return berth__interrupted_code();
	if (good)
		berth__sqlite_print(&bench.config, bench.results);
	for (int phase = 0; phase < BERTH__SQLITE_NR_PHASES; phase++)
		json_decref(bench.results[phase].pages);
	return good ? 0 : BERTH__EXIT_FAILED;
}
