/* SPDX-License-Identifier: MIT */
/*
 * `berth bench camera`: photos beside a load that uses the camera's memory, in several ways.
 *
 * Each way is a process of its own, so that none finds another one's memory or caches. They take turns
 * of a few photos each, in another order each time, so that whatever else the machine does meets all
 * alike; a way that doesn't have its turn stands still.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/camera.h"
#include "tools/options.h"

#define COMMAND BERTH__CAMERA_COMMAND
#define MIB ((uint64_t)1 << 20)
#define LARGEST_PHOTO (128 * MIB)
#define LEAST_SIZE (16 * MIB)
#define MOST_SIZE ((uint64_t)1 << 40)

struct way {
	pid_t pid; /* 0: none */
	int line;
};

struct experiment {
	struct berth__camera_config config;
	struct way ways[BERTH__CAMERA_NR_WAYS];
	struct berth__camera_result results[BERTH__CAMERA_NR_WAYS];
	uint64_t began_ns;
	double seconds;
};

/* ---- Processes --------------------------------------------------------------------------------- */

static bool start(struct experiment *experiment, enum berth__camera_way which)
{
	struct way *way = &experiment->ways[which];
	int lines[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, lines) != 0) {
		berth__complain(0, COMMAND, "no line to a process: %s", strerror(errno));
		return false;
	}
	way->pid = fork();
	if (way->pid == 0) {
		for (int i = 0; i < BERTH__CAMERA_NR_WAYS; i++)
			if (experiment->ways[i].line > 0)
				close(experiment->ways[i].line);
		close(lines[0]);
		_exit(berth__camera_live(&experiment->config, which, lines[1]));
	}
	close(lines[1]);
	if (way->pid < 0) {
		berth__complain(0, COMMAND, "no process: %s", strerror(errno));
		way->pid = 0;
		close(lines[0]);
		return false;
	}
	way->line = lines[0];
	return true;
}

/* Waits for the ways' ends. False: one didn't end well. */
static bool end(struct experiment *experiment)
{
	bool good = true;

	for (int i = 0; i < BERTH__CAMERA_NR_WAYS; i++) {
		struct way *way = &experiment->ways[i];
		int status;

		if (!way->pid)
			continue;
		close(way->line);
		while (waitpid(way->pid, &status, 0) < 0 && errno == EINTR)
			;
		good &= WIFEXITED(status) && WEXITSTATUS(status) == 0;
		way->pid = 0;
	}
	return good;
}

/* The next message but photos, which are added up. False: there is none, or it is bad news. */
static bool listen_to(struct experiment *experiment, enum berth__camera_way which)
{
	struct berth__camera_result *result = &experiment->results[which];
	struct berth__camera_message message;

	for (;;) {
		ssize_t got = recv(experiment->ways[which].line, &message, sizeof(message), 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got != (ssize_t)sizeof(message)) {
			if (!berth__interrupted())
				berth__complain(0, COMMAND, "%s: its process has ended",
						berth__camera_way_names[which]);
			return false;
		}
		if (message.kind == BERTH__CAMERA_WRONG) {
			berth__complain(0, COMMAND, "%s: %s", berth__camera_way_names[which],
					message.text);
			return false;
		}
		if (message.kind == BERTH__CAMERA_READY)
			return true;
		if (message.kind == BERTH__CAMERA_ROUND) {
			berth__camera_add_figures(result, &message.figures);
			return true;
		}
		berth__camera_add(result, &message.photo);
	}
}

/* ---- Turns ------------------------------------------------------------------------------------- */

static bool give_turn(struct experiment *experiment, enum berth__camera_way which, uint64_t first,
		      uint64_t nr)
{
	const struct berth__camera_order order = { first, nr };

	if (send(experiment->ways[which].line, &order, sizeof(order), MSG_NOSIGNAL) < 0)
		return listen_to(experiment, which); /* it has said why */
	return listen_to(experiment, which);
}

static bool set_up(struct experiment *experiment)
{
	for (int i = 0; i < BERTH__CAMERA_NR_WAYS; i++) {
		if (!experiment->config.ways[i])
			continue;
		/* One after the other: each warms up alone, and takes a turn that doesn't count. */
		if (!start(experiment, (enum berth__camera_way)i) ||
		    !listen_to(experiment, (enum berth__camera_way)i) ||
		    !give_turn(experiment, (enum berth__camera_way)i, 0, 0) ||
		    !give_turn(experiment, (enum berth__camera_way)i, 0, BERTH__CAMERA_TURN))
			return false;
		free(experiment->results[i].taken);
		experiment->results[i] = (struct berth__camera_result){ .photos = 0 };
	}
	return true;
}

static bool is_over(const struct experiment *experiment, uint64_t photos)
{
	const struct berth__camera_config *config = &experiment->config;

	return photos >= config->photos || berth__interrupted() ||
	       berth__clock_ns(CLOCK_MONOTONIC) - experiment->began_ns >= config->duration_ns;
}

/*
 * Each way is in each place of a round as often as any other, and follows each other one as often: so neither drift nor
 * what a turn leaves behind is anybody's alone. (Williams' square.)
 */
#define NR_WAYS BERTH__CAMERA_NR_WAYS
static const enum berth__camera_way orders[NR_WAYS][NR_WAYS] = {
	{ BERTH__CAMERA_RESERVE, BERTH__CAMERA_CMA, BERTH__CAMERA_MIXED, BERTH__CAMERA_GCMA },
	{ BERTH__CAMERA_CMA, BERTH__CAMERA_GCMA, BERTH__CAMERA_RESERVE, BERTH__CAMERA_MIXED },
	{ BERTH__CAMERA_GCMA, BERTH__CAMERA_MIXED, BERTH__CAMERA_CMA, BERTH__CAMERA_RESERVE },
	{ BERTH__CAMERA_MIXED, BERTH__CAMERA_RESERVE, BERTH__CAMERA_GCMA, BERTH__CAMERA_CMA },
};

/*
 * Reservation and GCMA are what is compared to within some percent, and need more photos than the others, which differ by
 * factors: these take every fourth turn, where both are there.
 */
static bool has_turn(const struct berth__camera_config *config, enum berth__camera_way which,
		     uint64_t round)
{
	const bool compared = config->ways[BERTH__CAMERA_RESERVE] &&
			      config->ways[BERTH__CAMERA_GCMA];

	return config->ways[which] &&
	       (!compared || round % NR_WAYS == 0 || which == BERTH__CAMERA_RESERVE ||
		which == BERTH__CAMERA_GCMA);
}

/* Through all orders where all have turns; where two have, by the first and the third, which are opposite. */
static const enum berth__camera_way *order_of(uint64_t round)
{
	const uint64_t turns = round / NR_WAYS;

	return orders[round % NR_WAYS == 0 ? turns % NR_WAYS : (round + turns) % 2 * 2];
}

/* All ways take the same photos, as far as they have turns. */
static bool take_photos(struct experiment *experiment)
{
	const struct berth__camera_config *config = &experiment->config;
	uint64_t photos = 0, round = 0;

	experiment->began_ns = berth__clock_ns(CLOCK_MONOTONIC);
	for (; !is_over(experiment, photos); round++) {
		uint64_t left = config->photos - photos;
		uint64_t nr = left < BERTH__CAMERA_TURN ? left : BERTH__CAMERA_TURN;

		for (unsigned i = 0; i < NR_WAYS; i++) {
			enum berth__camera_way which = order_of(round)[i];

			if (has_turn(config, which, round) &&
			    !give_turn(experiment, which, photos, nr))
				return false;
		}
		photos += nr;
		berth__progress(COMMAND, photos, config->photos);
	}
	experiment->seconds = (double)(berth__clock_ns(CLOCK_MONOTONIC) - experiment->began_ns) /
			      1e9;
	return true;
}

static bool run(struct experiment *experiment)
{
	bool good;

	berth__catch_interrupts();
	good = set_up(experiment) && take_photos(experiment);
	berth__progress_end();
	/* Not after an interruption: its signal has reached all of them. */
	return end(experiment) && good;
}

/* ---- The command ------------------------------------------------------------------------------- */

static const char help[] =
	"usage: berth bench camera [OPTIONS]\n"
	"\n"
	"A camera takes photos: it claims a buffer of 1 to 128 MiB, writes all of it, reads all of it and\n"
	"releases it. Beside it runs a load that never waits, of a heap that churns and a file that is read\n"
	"through a cache. How long does a photo take, and what does the load get, when the memory that is\n"
	"set aside for the camera is used in one way or another?\n"
	"\n"
	"  reserve  nothing is lent: the heap is elsewhere, and the cache small\n"
	"  cma      heap and cache live in the camera's memory, and photos move them out of the way\n"
	"  gcma     the cache is a discardable store in the camera's memory, and photos just take it;\n"
	"           the heap is elsewhere\n"
	"  mixed    a quarter is as with gcma, for the cache and for photos that fit in there; the rest is as\n"
	"           with cma, for the heap and the other photos\n"
	"\n"
	"The ways take turns of eight photos, each in a process of its own; where both reserve and gcma are\n"
	"there, the others take every fourth turn. All take the same photos. The load's two threads have nice\n"
	"19 (see --nice) and stay on a CPU each, and the camera shares the one or the other's, by turns.\n"
	"\n"
	"  --size SIZE      the camera's memory (256M), with as much again for the load outside it. Photos\n"
	"                   are at most half as large\n"
	"  --photos N       photos of reserve and gcma, or of the ways that there are (3000)\n"
	"  --duration TIME  end after that even if photos are left (150 s)\n"
	"  --background WHAT  reads what file: sqlite, a database; store, pages without a database. With\n"
	"                   store, cma's cache is a table of pages in movable memory (sqlite, or else\n"
	"                   store where libsqlite3 can't be loaded)\n"
	"  --ways LIST      only these, with commas between (reserve,cma,gcma,mixed)\n"
	"  --seed N         of sizes, pauses and the load (1)\n"
	"  --nice N         of the load's threads, 0 to 19 (19): a camera comes first\n"
	"  --json           one JSON object; times in us, bytes in bytes\n"
	"  --each           with --json: before it one for each photo of each way\n"
	"\n"
	"Sizes are as frequent in each doubling, but the largest eighth is taken seven times as often, and\n"
	"counts accordingly less: it decides over p99. Between photos are 1 to 9 ms, and 50 ms more in front\n"
	"of a turn. The file is 1.5 times --size and lies in TMPDIR, else in /tmp, one for each way. Lent is\n"
	"the share of the camera's memory that others use at the moment when a photo begins, on average; a\n"
	"cache hit is a page that wasn't read from the file. Behind a ratio of two ways stands where 95 %\n"
	"of such ratios are when turns are drawn from these at random, the same ones for both ways; a\n"
	"verdict is sure when all of that is on one side.\n"
	"\n"
	"examples:\n"
	"  berth bench camera\n"
	"  berth bench camera --size 128M --photos 200 --duration 20 --json\n"
	"\n"
	"exit codes: 0 done, 1 contents were wrong or there is no memory, 2 a mistake in the command line,\n"
	"130 interrupted.\n";

enum { SIZE = 256, PHOTOS, DURATION, BACKGROUND, WAYS, SEED, NICE, JSON, EACH };
static const struct option options[] = {
	{ "size", required_argument, NULL, SIZE },
	{ "photos", required_argument, NULL, PHOTOS },
	{ "duration", required_argument, NULL, DURATION },
	{ "background", required_argument, NULL, BACKGROUND },
	{ "ways", required_argument, NULL, WAYS },
	{ "seed", required_argument, NULL, SEED },
	{ "nice", required_argument, NULL, NICE },
	{ "json", no_argument, NULL, JSON },
	{ "each", no_argument, NULL, EACH },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool take_way(struct berth__camera_config *config, const char *name, size_t length)
{
	for (int i = 0; i < BERTH__CAMERA_NR_WAYS; i++) {
		if (strlen(berth__camera_way_names[i]) != length ||
		    strncmp(name, berth__camera_way_names[i], length) != 0)
			continue;
		config->ways[i] = true;
		return true;
	}
	berth__complain(0, COMMAND, "--ways: there is no way '%.*s'; choose from %s", (int)length,
			name, BERTH__CAMERA_WAYS);
	return false;
}

static bool take_ways(struct berth__camera_config *config)
{
	memset(config->ways, 0, sizeof(config->ways));
	for (const char *at = optarg;; at++) {
		size_t length = strcspn(at, ",");

		if (!take_way(config, at, length))
			return false;
		at += length;
		if (!*at)
			return true;
	}
}

static bool take_background(struct berth__camera_config *config)
{
	config->sqlite = strcmp(optarg, "sqlite") == 0;
	config->choose = false;
	if (config->sqlite || strcmp(optarg, "store") == 0)
		return true;
	berth__complain(0, COMMAND, "there is no --background '%s'; choose sqlite or store",
			optarg);
	return false;
}

static bool take_option(void *ctx, int option)
{
	struct berth__camera_config *config = ctx;

	switch (option) {
	case SIZE:
		return berth__size_option(COMMAND, "--size", &config->size);
	case PHOTOS:
		return berth__count_option(COMMAND, "--photos", 1, 1000000, &config->photos);
	case DURATION:
		return berth__time_option(COMMAND, "--duration", &config->duration_ns);
	case BACKGROUND:
		return take_background(config);
	case WAYS:
		return take_ways(config);
	case SEED:
		return berth__count_option(COMMAND, "--seed", 0, INT64_MAX, &config->seed);
	case NICE:
		return berth__count_option(COMMAND, "--nice", 0, 19, &config->nice);
	case EACH:
		config->each = true;
		return true;
	default:
		config->json = true;
		return true;
	}
}

/* Asks a process that is there for nothing else. False: `why` says why. */
static bool sqlite_works(const struct berth__camera_config *config,
			 char why[BERTH__CAMERA_TEXT_BYTES])
{
	int line[2], status;
	ssize_t got = 0;
	pid_t pid;

	snprintf(why, BERTH__CAMERA_TEXT_BYTES, "the process that looked for it failed");
	if (pipe2(line, O_CLOEXEC) != 0)
		return false;
	pid = fork();
	if (pid == 0) {
		char text[BERTH__CAMERA_TEXT_BYTES] = "";
		bool works = berth__camera_sqlite_works(config, text);

		if (!works && write(line[1], text, sizeof(text)) < 0)
			_exit(2);
		_exit(!works);
	}
	close(line[1]);
	if (pid > 0) {
		got = read(line[0], why, BERTH__CAMERA_TEXT_BYTES);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	close(line[0]);
	return pid > 0 && got == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Which load? -1, or an exit code. */
static int choose_background(struct berth__camera_config *config)
{
	char why[BERTH__CAMERA_TEXT_BYTES];

	if (!config->sqlite || sqlite_works(config, why))
		return -1;
	config->sqlite = false;
	if (!config->choose)
		return berth__complain(BERTH__EXIT_FAILED, COMMAND,
				       "SQLite can't be the load: %s; use --background store", why);
	berth__complain(0, COMMAND, "SQLite is left out, the load is `store`: %s", why);
	return -1;
}

/* -1, or an exit code: the user knows why. */
static int complete(struct berth__camera_config *config)
{
	unsigned nr_ways = 0;

	for (int i = 0; i < BERTH__CAMERA_NR_WAYS; i++)
		nr_ways += config->ways[i];
	if (config->size < LEAST_SIZE || config->size > MOST_SIZE)
		return berth__complain(BERTH__EXIT_USAGE, COMMAND,
				       "--size is %s; choose from 16M to 1T",
				       config->size < LEAST_SIZE ? "too small" : "too large");
	config->nr_cpus = berth__find_cpus(config->cpus, 2);
	config->size = (config->size + 8 * MIB - 1) / (8 * MIB) * (8 * MIB);
	config->largest = config->size / 2 < LARGEST_PHOTO ? config->size / 2 : LARGEST_PHOTO;
	if (!berth__has_memory(COMMAND, nr_ways * berth__camera_needs(config),
			       "--size, or fewer --ways"))
		return BERTH__EXIT_FAILED;
	return choose_background(config);
}

static const struct berth__command command = { COMMAND, help, options, take_option };

int berth__bench_camera(int argc, char **argv)
{
	static struct experiment experiment = {
		.config = { .size = 256 * MIB,
			    .photos = 3000,
			    .duration_ns = 150000000000u,
			    .seed = 1,
			    .nice = 19,
			    .sqlite = true,
			    .choose = true },
	};
	struct berth__camera_config *config = &experiment.config;
	int code;

	for (int i = 0; i < BERTH__CAMERA_NR_WAYS; i++)
		config->ways[i] = true;
	code = berth__take_options(&command, argc, argv, config);
	if (code < 0)
		code = complete(config);
	if (code >= 0)
		return code;
	if (!run(&experiment) && !berth__interrupted())
		return BERTH__EXIT_FAILED;
	if (berth__interrupted())
		return berth__interrupted_code();
	berth__camera_print(config, experiment.results, experiment.seconds);
	return 0;
}
