/* SPDX-License-Identifier: MIT */
/*
 * Command lines: getopt_long with messages that say what to do, and the values of options.
 */
#include "tools/options.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tools/measure.h"
#include "tools/units.h"

#define DEFAULT_HOLD_NS 100000000ull

int berth__complain(int code, const char *command, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", command);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return code;
}

bool berth__has_memory(const char *command, uint64_t bytes, const char *options)
{
	const uint64_t have = berth__available_bytes();
	char needed[BERTH__UNIT_BYTES], there[BERTH__UNIT_BYTES];

	if (bytes <= have)
		return true;
	berth__complain(0, command,
			"it needs %s of memory and the system has %s available; use a smaller %s",
			berth__format_bytes(needed, (double)bytes),
			berth__format_bytes(there, (double)have), options);
	return false;
}

/* ---- Options --------------------------------------------------------------------------------- */

static bool is_known(const struct option *options, int val)
{
	for (; options->name; options++)
		if (options->val == val)
			return true;
	return false;
}

int berth__next_option(const char *command, int argc, char **argv, const struct option *options)
{
	int next;

	opterr = 0;
	next = getopt_long(argc, argv, "+:h", options, NULL);
	if (next == ':') {
		berth__complain(0, command, "%s needs a value; `%s --help` has examples",
				argv[optind - 1], command);
	} else if (next == '?' && optopt && is_known(options, optopt)) {
		berth__complain(0, command, "%s takes no value", argv[optind - 1]);
	} else if (next == '?' && optopt) {
		berth__complain(0, command, "there is no option -%c; `%s --help` lists them",
				optopt, command);
	} else if (next == '?') {
		berth__complain(0, command, "there is no option %s; `%s --help` lists them",
				argv[optind - 1], command);
	} else {
		return next;
	}
	return BERTH__OPTIONS_BAD;
}

int berth__take_options(const struct berth__command *command, int argc, char **argv, void *config)
{
	int option;

	optind = 0;
	while ((option = berth__next_option(command->name, argc, argv, command->options)) >= 0) {
		if (option == 'h') {
			fputs(command->help, stdout);
			return 0;
		}
		if (!command->take(config, option))
			return BERTH__EXIT_USAGE;
	}
	if (option == BERTH__OPTIONS_BAD)
		return BERTH__EXIT_USAGE;
	if (optind < argc)
		return berth__complain(BERTH__EXIT_USAGE, command->name,
				       "'%s' is no option; `%s --help` lists them", argv[optind],
				       command->name);
	return -1;
}

/* ---- Values ---------------------------------------------------------------------------------- */

static bool accept_value(const char *command, const char *option, const char *why)
{
	if (why)
		berth__complain(0, command, "%s '%s' %s", option, optarg, why);
	return !why;
}

bool berth__size_option(const char *command, const char *option, uint64_t *bytes)
{
	return accept_value(command, option, berth__parse_size(optarg, bytes));
}

bool berth__time_option(const char *command, const char *option, uint64_t *ns)
{
	const char *at = optarg;

	if (berth__scan_time(&at, ns) && !*at)
		return true;
	return accept_value(command, option, "is no time; write seconds, or ms or us, as in 500ms");
}

bool berth__count_option(const char *command, const char *option, uint64_t least, uint64_t most,
			 uint64_t *count)
{
	if (berth__parse_count(optarg, least, most, count))
		return true;
	berth__complain(0, command, "%s '%s' is no number from %llu to %llu", option, optarg,
			(unsigned long long)least, (unsigned long long)most);
	return false;
}

bool berth__mover_option(const char *command)
{
	static const char *const movers[] = { "userfaultfd", "/dev/userfaultfd", "userfaultfd-user",
					      "mprotect", "userfaultfd-unwatched" };

	for (size_t i = 0; i < sizeof(movers) / sizeof(movers[0]); i++)
		if (strcmp(optarg, movers[i]) == 0)
			return true;
	return accept_value(
		command, "--mover",
		"is unknown; choose userfaultfd, /dev/userfaultfd, userfaultfd-user, "
		"mprotect or userfaultfd-unwatched, or leave it out for the best there is");
}

static bool is_name(const char *text, size_t length)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_-.:";

	return length && strspn(text, allowed) >= length;
}

static const char *parse_area(const char *text, struct berth_run_area *area)
{
	const char *equals = strchr(text, '=');
	size_t length = equals ? (size_t)(equals - text) : 0;

	if (!equals)
		return "is no area; write NAME=SIZE, as in cam=512M";
	if (!is_name(text, length))
		return "has no proper name; use letters, digits and . : _ - before the =";
	if (length >= sizeof(area->name))
		return "has too long a name; 31 characters are the limit";
	memcpy(area->name, text, length);
	area->name[length] = 0;
	return berth__parse_size(equals + 1, &area->bytes);
}

bool berth__area_option(const char *command, struct berth_run_area *area)
{
	struct berth_run_area parsed = { .bytes = 0 };
	bool good = accept_value(command, "--area", parse_area(optarg, &parsed));

	if (good)
		*area = parsed;
	return good;
}

/* ---- Claims ---------------------------------------------------------------------------------- */

/* START[+HOLD][xN], behind the @. */
static const char *parse_schedule(const char *at, struct berth_run_claim *claim)
{
	if (!berth__scan_time(&at, &claim->start_ns))
		return "has no start; write it behind the @, as in 64M@2 or 64M@500ms";
	if (*at == '+') {
		at++;
		if (!berth__scan_time(&at, &claim->hold_ns) || !claim->hold_ns)
			return "has no time to hold behind the +; write one above 0, as in "
			       "64M@2+100ms";
	}
	if (*at == 'x') {
		if (strcmp(++at, "*") == 0) {
			claim->repeat = UINT64_MAX;
			return NULL;
		}
		return berth__parse_count(at, 1, 1000000000, &claim->repeat) ?
			       NULL :
			       "is repeated by no number; write x and a number above 0, or x* for "
			       "as long as the program runs";
	}
	return *at ? "is no claim; write SIZE@START+HOLDxN, as in 64M@2+100msx5" : NULL;
}

static const char *parse_claim(const char *text, struct berth_run_claim *claim)
{
	const char *at = strchr(text, '@'), *why;
	char size[32];

	if (!at || at == text)
		return "is no claim; write SIZE@START, as in 64M@2 for 64 MiB after 2 seconds";
	if ((size_t)(at - text) >= sizeof(size))
		return "is too large for any machine; write a smaller size, as in 64M@2";
	memcpy(size, text, (size_t)(at - text));
	size[at - text] = 0;
	claim->hold_ns = DEFAULT_HOLD_NS;
	claim->repeat = 1;
	why = berth__parse_size(size, &claim->bytes);
	return why ? why : parse_schedule(at + 1, claim);
}

bool berth__claim_option(const char *command, struct berth_run_claim *claim)
{
	struct berth_run_claim parsed = { .bytes = 0 };
	bool good = accept_value(command, "--claim", parse_claim(optarg, &parsed));

	if (good) {
		claim->bytes = parsed.bytes;
		claim->start_ns = parsed.start_ns;
		claim->hold_ns = parsed.hold_ns;
		claim->repeat = parsed.repeat;
	}
	return good;
}
