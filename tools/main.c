/* SPDX-License-Identifier: MIT */
/*
 * The `berth` command: finds the command that is meant.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include <berth/berth.h>

#include "tools/options.h"

static const char help[] =
	"usage: berth COMMAND [OPTIONS]\n"
	"\n"
	"Berth lends memory that is reserved for devices, and takes it back whole and on time.\n"
	"\n"
	"commands:\n"
	"  run     run a program with its heap in the idle part of a device's memory\n"
	"  ps      list your tenants: the processes that live in a pool\n"
	"  stat    tell everything about one, or about a tree\n"
	"  claim   claim memory from a running tenant, for a device or a command\n"
	"  bench   measure claims, and the allocation of pages\n"
	"  help    help on a command: berth help run\n"
	"\n"
	"options:\n"
	"  --help, --version\n"
	"\n"
	"examples:\n"
	"  berth run --area cam=512M --claim 64M@1+200msx* -- sqlite3 shop.db\n"
	"  berth claim 1234 64M -- ./camera\n"
	"  berth bench claim --size 64M --fill movable\n"
	"\n"
	"exit codes: 0 done, 1 a check failed, 2 a mistake in the command line; `berth run` and\n"
	"`berth claim` end as their programs do. Each command's --help has more.\n";

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} commands[] = {
	{ "run", berth__run },     { "ps", berth__ps },       { "stat", berth__stat },
	{ "claim", berth__claim }, { "bench", berth__bench },
};

/* Letters that have to be changed to get from one word to the other, at most 64 letters long. */
static unsigned distance(const char *from, const char *to)
{
	size_t nr_to = strlen(to);
	unsigned row[65];

	if (nr_to > 64)
		return 64;
	for (unsigned i = 0; i <= nr_to; i++)
		row[i] = i;
	for (; *from; from++) {
		unsigned diagonal = row[0]++;

		for (size_t i = 1; i <= nr_to; i++) {
			unsigned best = diagonal + (*from != to[i - 1]);

			diagonal = row[i];
			if (row[i - 1] + 1 < best)
				best = row[i - 1] + 1;
			if (row[i] + 1 < best)
				best = row[i] + 1;
			row[i] = best;
		}
	}
	return row[nr_to];
}

static int unknown(const char *word)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (distance(word, commands[i].name) <= (strlen(commands[i].name) > 2 ? 2 : 1))
			return berth__complain(BERTH__EXIT_USAGE, "berth",
					       "there is no command '%s'; did you mean '%s'?", word,
					       commands[i].name);
	return berth__complain(BERTH__EXIT_USAGE, "berth",
			       "there is no command '%s'; `berth --help` lists them", word);
}

static int dispatch(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(argv[0], commands[i].name) == 0)
			return commands[i].main(argc, argv);
	return unknown(argv[0]);
}

/* `berth help bench claim` is `berth bench claim --help`. */
static int help_on(int argc, char **argv)
{
	char *words[4] = { NULL };
	int nr = 0;

	if (argc == 0) {
		fputs(help, stdout);
		return 0;
	}
	for (; nr < argc && nr < 2; nr++)
		words[nr] = argv[nr];
	words[nr++] = (char *)"--help";
	return dispatch(nr, words);
}

static int berth(int argc, char **argv)
{
	if (argc < 2)
		return berth__complain(BERTH__EXIT_USAGE, "berth",
				       "say what to do, as in `berth run -- PROGRAM`; `berth "
				       "--help` lists the commands");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return help_on(0, NULL);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		printf("berth %s\n", berth_version());
		return 0;
	}
	if (strcmp(argv[1], "help") == 0)
		return help_on(argc - 2, argv + 2);
	if (argv[1][0] == '-')
		return berth__complain(BERTH__EXIT_USAGE, "berth",
				       "there is no option %s; `berth --help` lists them", argv[1]);
	return dispatch(argc - 1, argv + 1);
}

/* Nothing we open may become a standard descriptor that the caller left closed; and a program that
 * we start must still find it closed. */
static void occupy_standard_descriptors(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", O_RDWR | O_CLOEXEC) < 0)
			return;
}

int main(int argc, char **argv)
{
	int code;

	occupy_standard_descriptors();
	code = berth(argc, argv);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		berth__complain(0, "berth", "the output can't be written: %s", strerror(errno));
		code = code ? code : BERTH__EXIT_FAILED;
	}
	return code;
}
