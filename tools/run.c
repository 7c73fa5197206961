/* SPDX-License-Identifier: MIT */
/*
 * `berth run`: starts a program with the preload library, has claims made in it while it runs, and
 * reports. See runtime/run_record.h for what is shared with the library.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/internal.h"
#include "tools/launch.h"
#include "tools/measure.h"
#include "tools/options.h"
#include "tools/program.h"
#include "tools/report.h"
#include "tools/schedule.h"
#include "tools/units.h"

#ifndef BERTH_STATIC_TOOL
#define BERTH_STATIC_TOOL 0
#endif

#define COMMAND "berth run"
#define HUGE_BYTES ((uint64_t)2 << 20)
#define MOST_BYTES ((uint64_t)1 << 43) /* the library's limit for a pool */
#define SQLITE_AREA "sqlite"
#define SQLITE_BYTES ((uint64_t)256 << 20)
#define DEFAULT_AREA_NAME "cam"
#define DEFAULT_AREA_BYTES ((uint64_t)512 << 20)

static const char help[] =
	"usage: berth run [OPTIONS] [--] PROGRAM [ARGUMENTS]\n"
	"\n"
	"Runs an unmodified program whose heap lives in the idle part of a device's memory. Claims take\n"
	"that memory back, contiguous, while the program runs. At its end a report is written to stderr.\n"
	"\n"
	"  --area NAME=SIZE  an area of contiguous memory (cam=512M); several can be given\n"
	"  --config TEXT     instead: areas, what devices claim from them, and how; see below\n"
	"  --pool SIZE       the areas and ordinary memory to move to (twice the areas)\n"
	"  --claim SIZE@START[+HOLD][xN]\n"
	"                    claim SIZE out of the default area or the first, START after the program's\n"
	"                    start, hold it for HOLD (100ms), N times (1) with HOLD in between; x*: again and again\n"
	"                    until the program ends; several can be given\n"
	"  --sqlite-cache[=SIZE]\n"
	"                    SQLite in the program keeps pages that it doesn't need just now in memory that claims\n"
	"                    take without waiting: in an area `sqlite` of SIZE (256M), or in the first of TEXT\n"
	"                    with policy=gcma\n"
	"  --sqlite-front SIZE\n"
	"                    how much of its cache is ordinary memory (a sixteenth of that, 2M to 64M)\n"
	"  --report FILE     write the report to FILE\n"
	"  --json            as one JSON object\n"
	"  --quiet           no report on stderr\n"
	"  --mover NAME      how memory is moved: userfaultfd, /dev/userfaultfd, userfaultfd-user,\n"
	"                    mprotect (the best there is); or userfaultfd-unwatched, as the first one\n"
	"                    does before Linux 6.7\n"
	"  --let-cpus-sleep  don't keep CPUs awake while the program waits for moves, as those may who can\n"
	"                    write /dev/cpu_dma_latency (root): it waits longer, power is saved\n"
	"  --stress          move the heap to and fro without pause, to test the program\n"
	"  --poison          overwrite memory that was moved away, so that a stale use shows\n"
	"  --quarantine      with --stress: report writes to memory after it was moved away, as of\n"
	"                    direct I/O that Berth doesn't know of\n"
	"  --trust-direct-io claims move the heap even while the program holds O_DIRECT files,\n"
	"                    io_uring, aio, RDMA or VFIO descriptors. Without it they find the heap\n"
	"                    busy, held by that descriptor. Only for a program that keeps its heap out\n"
	"                    of direct I/O: in any other its data is corrupted without an error\n"
	"\n"
	"TEXT is items with spaces in between:\n"
	"  areas=AREA[;AREA].. of NAME:SIZE[@START[-END]][,OPTION].., in the pool at START, or anywhere from\n"
	"      START to END; OPTION: policy=cma (the cheapest range), first-fit, reserve (never lent)\n"
	"      or gcma (lent to caches alone: claims wait for nobody);\n"
	"      lend=first, balanced, last or off: when the program's memory may lie there; keep=SIZE stays\n"
	"      free; align=SIZE, unit=SIZE of claims; node=0\n"
	"  devices=DEVICE:NAME[,DEVICE:NAME].. which area is whose; DEVICE may end with * (nic*)\n"
	"  default=NAME for all other devices\n"
	"  cma=SIZE[@START[-END]], numa_cma=NODE:SIZE[,..], cma_pernuma=SIZE as on Linux' command line\n"
	"\n"
	"SIZE is in bytes, or with K, M, G or T (powers of 1024). START and HOLD are in seconds, or with\n"
	"ms or us.\n"
	"\n"
	"examples:\n"
	"  berth run -- python3 script.py\n"
	"  berth run --area cam=512M --claim 64M@1+200msx* --claim 256M@5 -- sqlite3 shop.db\n"
	"  berth run --config 'areas=cam:256M,lend=last;dma:16M,policy=reserve devices=cam*:cam\n"
	"                      default=dma' -- ./program\n"
	"  berth run --json --report report.json --stress --poison -- ./program\n"
	"\n"
	"The program must be dynamically linked with the C library of this system. Each process that it\n"
	"starts has a pool of its own; a claim goes to the process with the most memory in its area, and\n"
	"to the others if that one fails. The report lists them all, and why one has no pool.\n"
	"\n"
	"exit codes: the program's; if a signal kills it, berth dies of the same one. 2: a mistake in\n"
	"the command line, 125: berth can't set up the run, 126: the program can't be executed, 127:\n"
	"there is no such program.\n";

struct config {
	struct berth_run_record *record;
	int record_fd;
	const char *report_path;
	bool json, quiet;
	char **argv;           /* of the program */
	const char *preload;   /* the library's path */
	const char *sqlite;    /* that of libberth-sqlite, or NULL */
	uint64_t sqlite_bytes; /* of the area for it; 0: not said */
	pid_t tool;
	struct berth__schedule *schedule;
};

/* ---- Options --------------------------------------------------------------------------------- */

enum {
	POOL = 256,
	AREA,
	CONFIG,
	CLAIM,
	STRESS,
	POISON,
	QUARANTINE,
	TRUST_DIRECT_IO,
	LET_CPUS_SLEEP,
	MOVER,
	REPORT,
	JSON,
	QUIET,
	SQLITE_CACHE,
	SQLITE_FRONT,
};
static const struct option options[] = {
	{ "pool", required_argument, NULL, POOL },
	{ "area", required_argument, NULL, AREA },
	{ "config", required_argument, NULL, CONFIG },
	{ "claim", required_argument, NULL, CLAIM },
	{ "stress", no_argument, NULL, STRESS },
	{ "poison", no_argument, NULL, POISON },
	{ "quarantine", no_argument, NULL, QUARANTINE },
	{ "trust-direct-io", no_argument, NULL, TRUST_DIRECT_IO },
	{ "let-cpus-sleep", no_argument, NULL, LET_CPUS_SLEEP },
	{ "mover", required_argument, NULL, MOVER },
	{ "report", required_argument, NULL, REPORT },
	{ "json", no_argument, NULL, JSON },
	{ "quiet", no_argument, NULL, QUIET },
	{ "sqlite-cache", optional_argument, NULL, SQLITE_CACHE },
	{ "sqlite-front", required_argument, NULL, SQLITE_FRONT },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool add_area(struct berth_run_record *record)
{
	struct berth_run_area *area = &record->areas[record->nr_areas];

	if (record->config[0]) {
		berth__complain(
			0, COMMAND,
			"one of --area and --config declares the areas; leave the other out");
		return false;
	}

	if (record->nr_areas == BERTH_RUN_AREAS) {
		berth__complain(0, COMMAND, "there are more than %d --area; join some",
				BERTH_RUN_AREAS);
		return false;
	}
	if (!berth__area_option(COMMAND, area))
		return false;
	for (uint32_t i = 0; i < record->nr_areas; i++) {
		if (strcmp(record->areas[i].name, area->name) != 0)
			continue;
		berth__complain(0, COMMAND, "there are two areas named '%s'; rename one",
				area->name);
		return false;
	}
	record->nr_areas++;
	return true;
}

/* The pool's size is what its areas need at least: they may lie anywhere. `option`: who is to blame. */
static bool use_config(struct berth_run_record *record, const char *option, const char *text)
{
	const struct berth_pool_params params = { .config = text };
	struct berth_config config;
	size_t bytes;
	char why[256];

	if (strlen(text) >= sizeof(record->config)) {
		berth__complain(0, COMMAND, "%s has more than %d bytes; make it shorter", option,
				BERTH_RUN_CONFIG - 1);
		return false;
	}
	if (berth_config_explain(text, why, sizeof(why)) != 0 ||
	    berth__areas_plan(&params, &config, &bytes) != 0) {
		berth__complain(0, COMMAND, "%s: %s", option,
				*why ? why : "there is no area; declare one with areas= or cma=");
		return false;
	}
	strcpy(record->config, text);
	record->nr_areas = 0;
	for (unsigned i = 0; i < config.nr_areas; i++) {
		struct berth_run_area *area = &record->areas[record->nr_areas++];

		strcpy(area->name, config.areas[i].name);
		area->bytes = config.areas[i].bytes;
		/* First the one that --claim means. */
		if (strcmp(area->name, config.default_area) == 0) {
			const struct berth_run_area first = record->areas[0];

			record->areas[0] = *area;
			*area = first;
		}
	}
	record->least_bytes = bytes;
	return true;
}

static bool take_config(struct berth_run_record *record)
{
	if (!record->nr_areas)
		return use_config(record, "--config", optarg);
	berth__complain(
		0, COMMAND,
		record->config[0] ?
			"there are two --config; join them" :
			"one of --area and --config declares the areas; leave the other out");
	return false;
}

static bool has_discardable_area(const struct berth_run_record *record)
{
	const struct berth_pool_params params = { .config = record->config };
	struct berth_config config;
	size_t bytes;

	if (!record->config[0] || berth__areas_plan(&params, &config, &bytes) != 0)
		return false;
	for (unsigned i = 0; i < config.nr_areas; i++)
		if (strcmp(config.areas[i].policy, "gcma") == 0)
			return true;
	return false;
}

static bool take_sqlite_cache(struct config *config)
{
	config->record->sqlite_cache = 1;
	return !optarg || berth__size_option(COMMAND, "--sqlite-cache", &config->sqlite_bytes);
}

/* Behind the options: SQLite's area, beside the others. */
static bool add_sqlite_area(struct config *config)
{
	struct berth_run_record *record = config->record;
	const uint64_t bytes = config->sqlite_bytes ? config->sqlite_bytes : SQLITE_BYTES;
	char text[2 * BERTH_RUN_CONFIG];
	int length;

	if (!record->sqlite_cache || (!config->sqlite_bytes && has_discardable_area(record)))
		return true;
	length = snprintf(text, sizeof(text), "%s areas=", record->config);
	for (uint32_t i = 0; i < record->nr_areas && !record->config[0]; i++)
		length += snprintf(text + length, sizeof(text) - (size_t)length, "%s:%llu;",
				   record->areas[i].name,
				   (unsigned long long)record->areas[i].bytes);
	length += snprintf(text + length, sizeof(text) - (size_t)length,
			   SQLITE_AREA ":%llu,policy=gcma", (unsigned long long)bytes);
	if (!record->config[0])
		snprintf(text + length, sizeof(text) - (size_t)length, " default=%s",
			 record->nr_areas ? record->areas[0].name : SQLITE_AREA);
	return use_config(record, "--sqlite-cache", text);
}

static bool add_claim(struct berth_run_record *record)
{
	if (record->nr_claims == BERTH_RUN_CLAIMS) {
		berth__complain(0, COMMAND,
				"there are more than %d --claim; repeat one with xN or x*",
				BERTH_RUN_CLAIMS);
		return false;
	}
	return berth__claim_option(COMMAND, &record->claims[record->nr_claims]) &&
	       ++record->nr_claims;
}

static bool take_report(struct config *config)
{
	config->report_path = optarg;
	if (!*optarg)
		berth__complain(0, COMMAND, "--report has no name; write the file to make");
	return *optarg;
}

static bool take_option(struct config *config, int option)
{
	struct berth_run_record *record = config->record;

	switch (option) {
	case POOL:
		return berth__size_option(COMMAND, "--pool", &record->pool_bytes);
	case AREA:
		return add_area(record);
	case CONFIG:
		return take_config(record);
	case CLAIM:
		return add_claim(record);
	case MOVER:
		snprintf(record->mover, sizeof(record->mover), "%s", optarg);
		return berth__mover_option(COMMAND);
	case REPORT:
		return take_report(config);
	case SQLITE_CACHE:
		return take_sqlite_cache(config);
	case SQLITE_FRONT:
		return berth__size_option(COMMAND, "--sqlite-front", &record->sqlite_front_bytes);
	default:
		record->stress |= option == STRESS;
		record->poison |= option == POISON;
		record->quarantine |= option == QUARANTINE;
		record->trust_direct_io |= option == TRUST_DIRECT_IO;
		record->let_cpus_sleep |= option == LET_CPUS_SLEEP;
		config->json |= option == JSON;
		config->quiet |= option == QUIET;
		return true;
	}
}

/* ---- Do the sizes fit together? -------------------------------------------------------------- */

static uint64_t rounded(uint64_t bytes)
{
	return bytes > MOST_BYTES ? bytes : (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
}

static bool claims_fit(const struct berth_run_record *record)
{
	const struct berth_run_area *area = &record->areas[0];
	char claim[BERTH__UNIT_BYTES], room[BERTH__UNIT_BYTES];

	for (uint32_t i = 0; i < record->nr_claims; i++) {
		if (record->claims[i].bytes <= rounded(area->bytes))
			continue;
		berth__complain(
			0, COMMAND,
			"a --claim of %s is larger than the area %s of %s that it is made in; "
			"claim less, or make the area larger with --area %s=SIZE",
			berth__format_bytes(claim, (double)record->claims[i].bytes), area->name,
			berth__format_bytes(room, (double)area->bytes), area->name);
		return false;
	}
	return true;
}

/* Areas are resident from the start: what isn't there would be taken from others, by force. */
static int check_memory(uint64_t areas, uint64_t pool)
{
	const uint64_t have = berth__available_bytes(), total = berth__total_bytes();
	char wanted[BERTH__UNIT_BYTES], there[BERTH__UNIT_BYTES];

	if (pool > total)
		return berth__complain(BERTH__EXIT_CANT_RUN, COMMAND,
				       "a pool of %s is more than the memory of this machine, %s; "
				       "make --pool or --area smaller",
				       berth__format_bytes(wanted, (double)pool),
				       berth__format_bytes(there, (double)total));
	if (areas > have)
		return berth__complain(
			BERTH__EXIT_CANT_RUN, COMMAND,
			"the areas need %s of memory and the system has %s available; "
			"make --area smaller",
			berth__format_bytes(wanted, (double)areas),
			berth__format_bytes(there, (double)have));
	return 0;
}

/* Its areas have their places in a pool of the size that is wanted. */
static bool config_fits(const struct berth_run_record *record)
{
	const struct berth_pool_params params = { .config = record->config,
						  .bytes = record->pool_bytes };
	struct berth_config config;
	size_t bytes;

	return !record->config[0] || berth__areas_plan(&params, &config, &bytes) == 0;
}

/* 0 or an exit code. */
static int check_sizes(const struct berth_run_record *record)
{
	uint64_t areas = 0, pool;
	char wanted[BERTH__UNIT_BYTES], there[BERTH__UNIT_BYTES];
	bool too_large = false;

	for (uint32_t i = 0; i < record->nr_areas; i++) {
		too_large |= record->areas[i].bytes > MOST_BYTES;
		areas += too_large ? 0 : rounded(record->areas[i].bytes);
	}
	pool = record->pool_bytes ? rounded(record->pool_bytes) : 2 * areas;
	if (!record->pool_bytes && pool < record->least_bytes)
		pool = record->least_bytes;
	if (too_large || pool > MOST_BYTES || areas > MOST_BYTES)
		return berth__complain(
			BERTH__EXIT_CANT_RUN, COMMAND,
			"a pool can have 8 TiB at most; make --pool or --area smaller");
	if (pool < areas)
		return berth__complain(
			BERTH__EXIT_USAGE, COMMAND,
			"--pool of %s can't hold the areas of %s; leave --pool out, or "
			"make it twice as large as the areas",
			berth__format_bytes(there, (double)pool),
			berth__format_bytes(wanted, (double)areas));
	if (!config_fits(record))
		return berth__complain(BERTH__EXIT_USAGE, COMMAND,
				       "--pool of %s can't hold the areas where --config says that "
				       "they lie; leave --pool out",
				       berth__format_bytes(there, (double)pool));
	return claims_fit(record) ? check_memory(areas, pool) : BERTH__EXIT_USAGE;
}

/* ---- The report ------------------------------------------------------------------------------ */

/* What exists and isn't a regular file (a terminal, a pipe) is written to, not replaced. */
static bool is_special(const char *path)
{
	struct stat file;

	return stat(path, &file) == 0 && !S_ISREG(file.st_mode);
}

/* A new file beside `path`, its name in `temporary`. -1 and errno. */
static int open_beside(const char *path, char temporary[PATH_MAX])
{
	mode_t mask = umask(0);
	int fd;

	umask(mask);
	if (snprintf(temporary, PATH_MAX, "%s.XXXXXX", path) >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd >= 0)
		fchmod(fd, 0666 & ~mask);
	return fd;
}

/* Before the program has run for an hour: can the report be written? */
static bool report_can_be_written(const char *path)
{
	char temporary[PATH_MAX];
	struct stat file;
	int fd;

	if (!path || is_special(path)) {
		if (!path || stat(path, &file) != 0 || !S_ISDIR(file.st_mode))
			return true;
		errno = EISDIR;
	} else {
		fd = open_beside(path, temporary);
		if (fd >= 0) {
			close(fd);
			unlink(temporary);
			return true;
		}
	}
	berth__complain(0, COMMAND,
			"the report can't be written to %s: %s; choose another --report", path,
			strerror(errno));
	return false;
}

static void print_report(FILE *out, const struct config *config, const struct berth__report *report)
{
	if (config->json)
		berth__report_json(out, report);
	else
		berth__report_text(out, report);
}

/* 0, or the errno that kept it from being complete. */
static int write_and_close(int fd, const struct config *config, const struct berth__report *report)
{
	FILE *out = fdopen(fd, "w");
	int error;

	if (!out) {
		error = errno;
		close(fd);
		return error;
	}
	print_report(out, config, report);
	error = fflush(out) != 0 || ferror(out) ? errno : 0;
	if (fclose(out) != 0 && !error)
		error = errno;
	return error;
}

static void write_report(const struct config *config, const struct berth__report *report)
{
	const char *path = config->report_path;
	char temporary[PATH_MAX] = "";
	bool special = path && is_special(path);
	int fd, error;

	if (!path) {
		if (!config->quiet)
			print_report(stderr, config, report);
		return;
	}
	fd = special ? open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY) : open_beside(path, temporary);
	error = fd < 0 ? errno : write_and_close(fd, config, report);
	if (!error && !special && rename(temporary, path) != 0)
		error = errno;
	if (!error)
		return;
	if (fd >= 0 && !special)
		unlink(temporary);
	berth__complain(0, COMMAND, "the report couldn't be written to %s: %s", path,
			strerror(error));
}

/* ---- Running --------------------------------------------------------------------------------- */

static bool make_record(struct config *config)
{
	const size_t bytes = sizeof(*config->record);
	void *at = MAP_FAILED;

	config->record_fd = memfd_create("berth-run", MFD_CLOEXEC);
	if (config->record_fd >= 0 && ftruncate(config->record_fd, (off_t)bytes) == 0)
		at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, config->record_fd, 0);
	if (at == MAP_FAILED) {
		berth__complain(0, COMMAND, "the system gives no shared memory for the record: %s",
				strerror(errno));
		return false;
	}
	config->record = at;
	config->record->magic = BERTH_RUN_MAGIC;
	return true;
}

static int set_environment(const struct config *config)
{
	const char *others = getenv("LD_PRELOAD");
	char *libraries, path[64];
	int failed;

	if (asprintf(&libraries, "%s%s%s%s%s", config->preload, config->sqlite ? ":" : "",
		     config->sqlite ? config->sqlite : "", others && *others ? ":" : "",
		     others ? others : "") < 0) {
		errno = ENOMEM;
		return -1;
	}
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)config->tool, config->record_fd);
	failed = setenv("LD_PRELOAD", libraries, 1) | setenv(BERTH_RUN_ENV, path, 1);
	free(libraries);
	return failed;
}

/* In the child that becomes the program. */
static int prepare(void *context)
{
	const struct config *config = context;

	if (set_environment(config) != 0)
		return -1;
	config->record->root_pid = getpid();
	config->record->tool_pid = config->tool;
	config->record->start_ns = berth__clock_ns(CLOCK_MONOTONIC);
	return 0;
}

static void started(void *context)
{
	struct config *config = context;

	config->schedule = berth__schedule_start(config->record);
	if (!config->schedule && config->record->nr_claims)
		berth__complain(0, COMMAND, "the system refused a thread; no claims are made");
}

static int run(struct config *config)
{
	struct berth__outcome outcome = { .record = config->record, .program = config->argv[0] };
	const struct berth__launch launch = { .argv = config->argv,
					      .prepare = prepare,
					      .started = started,
					      .watched_fd = -1,
					      .context = config };
	static struct berth__report report;
	static char sqlite[PATH_MAX];
	uint64_t began = berth__clock_ns(CLOCK_MONOTONIC);
	char preload[PATH_MAX], why[PATH_MAX + 512];
	int code;

	code = berth__program_check(config->argv[0], why, sizeof(why));
	if (code)
		return berth__complain(code, COMMAND, "%s %s", config->argv[0], why);
	if (!berth__preload_find(preload, sizeof(preload), why, sizeof(why)))
		return berth__complain(BERTH__EXIT_CANT_RUN, COMMAND, "%s", why);
	if (config->record->sqlite_cache) {
		if (!berth__sqlite_find(preload, sqlite, why, sizeof(why)))
			return berth__complain(BERTH__EXIT_CANT_RUN, COMMAND, "%s", why);
		config->sqlite = sqlite;
	}
	if (!report_can_be_written(config->report_path))
		return BERTH__EXIT_CANT_RUN;
	config->preload = preload;
	config->tool = getpid();
	code = berth__launch(&launch, &outcome.status, why, sizeof(why));
	if (code)
		return berth__complain(code, COMMAND, "%s %s", config->argv[0], why);
	outcome.wall_ns = berth__clock_ns(CLOCK_MONOTONIC) - began;
	berth__schedule_stop(config->schedule, &outcome.tree);
	berth__report_gather(&report, &outcome);
	write_report(config, &report);
	return berth__end_as(outcome.status);
}

/* -1: run it; else the exit code. */
static int take_options(struct config *config, int argc, char **argv)
{
	struct berth_run_record *record = config->record;
	int option;

	optind = 0;
	while ((option = berth__next_option(COMMAND, argc, argv, options)) >= 0) {
		if (option == 'h') {
			fputs(help, stdout);
			return 0;
		}
		if (!take_option(config, option))
			return BERTH__EXIT_USAGE;
	}
	if (option == BERTH__OPTIONS_BAD)
		return BERTH__EXIT_USAGE;
	if (optind == argc)
		return berth__complain(
			BERTH__EXIT_USAGE, COMMAND,
			"no program is named; write it behind the options, as in `" COMMAND
			" -- sqlite3 shop.db`");
	config->argv = argv + optind;
	if (record->quarantine && !record->stress)
		return berth__complain(BERTH__EXIT_USAGE, COMMAND,
				       "--quarantine watches what --stress moves; give both");
	if (record->sqlite_front_bytes && !record->sqlite_cache)
		return berth__complain(BERTH__EXIT_USAGE, COMMAND,
				       "--sqlite-front is a part of --sqlite-cache; give both");
	if (!add_sqlite_area(config))
		return BERTH__EXIT_USAGE;
	if (!record->nr_areas) {
		record->areas[record->nr_areas].bytes = DEFAULT_AREA_BYTES;
		strcpy(record->areas[record->nr_areas++].name, DEFAULT_AREA_NAME);
	}
	return -1;
}

int berth__run(int argc, char **argv)
{
	struct config config = { .record_fd = -1 };
	int code;

	if (!make_record(&config))
		return BERTH__EXIT_CANT_RUN;
	code = take_options(&config, argc, argv);
	if (code >= 0)
		return code;
	if (BERTH_STATIC_TOOL)
		return berth__complain(BERTH__EXIT_CANT_RUN, COMMAND,
				       "this is the static build of berth, which has no preload "
				       "library and can't run programs; use the ordinary build");
	code = check_sizes(config.record);
	return code ? code : run(&config);
}
