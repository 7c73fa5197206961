/* SPDX-License-Identifier: MIT */
/*
 * `berth ps`: the tenants of this user.
 */
#include <stdlib.h>
#include <string.h>

#include "tools/json.h"
#include "tools/options.h"
#include "tools/tenants.h"
#include "tools/units.h"

#define COMMAND "berth ps"

static const char help[] =
	"usage: berth ps [OPTIONS]\n"
	"\n"
	"Lists your tenants: the processes whose heap lives in a pool. TREE is the `berth run` that a\n"
	"process was started under. LENT is how much of its areas holds its memory, CLAIMED how much\n"
	"devices have, HELD in how many claims.\n"
	"\n"
	"  --json       one JSON object with a list\n"
	"  --timeout T  what each may take to answer (2 s); one that is stopped doesn't\n"
	"\n"
	"example:\n"
	"  berth ps\n"
	"\n"
	"exit codes: 0: also when there are none, 1: they can't be listed, 2: a mistake in the command\n"
	"line.\n";

struct config {
	uint64_t timeout_ns;
	bool json;
};

static int take_options(struct config *config, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "timeout", required_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int option;

	optind = 0;
	while ((option = berth__next_option(COMMAND, argc, argv, options)) >= 0) {
		if (option == 'h') {
			fputs(help, stdout);
			return 0;
		}
		config->json |= option == 'j';
		if (option == 't' && !berth__time_option(COMMAND, "--timeout", &config->timeout_ns))
			return BERTH__EXIT_USAGE;
	}
	if (option == BERTH__OPTIONS_BAD)
		return BERTH__EXIT_USAGE;
	if (optind < argc)
		return berth__complain(BERTH__EXIT_USAGE, COMMAND,
				       "'%s' is too much; for one tenant, `berth stat PID`",
				       argv[optind]);
	return -1;
}

static void print_json(const struct berth__tenant *tenants, int nr)
{
	json_t *object = json_object(), *list = json_array();

	for (int i = 0; i < nr; i++) {
		const struct berth_control_stat *stat = &tenants[i].stat;
		json_t *item = json_object();

		json_object_set_new(item, "pid", json_integer(tenants[i].pid));
		json_array_append_new(list, item);
		berth__json_string(item, "error",
				   tenants[i].error ? berth_errname(tenants[i].error) : "");
		if (tenants[i].error)
			continue;
		json_object_set_new(item, "tree",
				    stat->tree ? json_integer(stat->tree) : json_null());
		json_object_set_new(item, "root_pid", json_integer(stat->root_pid));
		berth__json_text(item, "program", stat->program, sizeof(stat->program));
		berth__json_count(item, "pool_bytes", stat->pool_bytes);
		berth__json_count(item, "area_bytes", stat->area_bytes);
		berth__json_count(item, "lent_bytes", stat->lent_bytes);
		berth__json_count(item, "claimed_bytes", stat->claimed_bytes);
		berth__json_count(item, "claims_held", stat->claims_held);
		berth__json_count(item, "heap_pool_bytes", stat->heap_pool_bytes);
	}
	json_object_set_new(object, "tenants", list);
	berth__json_print(object);
}

static void print_one(const struct berth__tenant *tenant)
{
	const struct berth_control_stat *stat = &tenant->stat;
	char program[BERTH__TEXT_BYTES], tree[16] = "-", text[4][BERTH__UNIT_BYTES];

	if (tenant->error) {
		printf("%8d %8s %s\n", (int)tenant->pid, "?",
		       tenant->error == -BERTH_ETIMEDOUT ? "doesn't answer: stopped, or very busy" :
							   berth_strerror(tenant->error));
		return;
	}
	if (stat->tree)
		snprintf(tree, sizeof(tree), "%d", (int)stat->tree);
	printf("%8d %8s %-16.16s %10s %10s %10s %10s %5llu\n", (int)tenant->pid, tree,
	       berth__printable(program, stat->program, sizeof(stat->program)),
	       berth__format_bytes(text[0], (double)stat->pool_bytes),
	       berth__format_bytes(text[1], (double)stat->area_bytes),
	       berth__format_bytes(text[2], (double)stat->lent_bytes),
	       berth__format_bytes(text[3], (double)stat->claimed_bytes),
	       (unsigned long long)stat->claims_held);
}

int berth__ps(int argc, char **argv)
{
	struct config config = { .timeout_ns = BERTH__ANSWER_NS };
	struct berth__tenant *tenants = NULL;
	int code = take_options(&config, argc, argv), nr;

	if (code >= 0)
		return code;
	nr = berth__client_list(config.timeout_ns, &tenants);
	if (nr < 0)
		return berth__complain(BERTH__EXIT_FAILED, COMMAND,
				       "the tenants can't be listed: %s", berth_strerror(nr));
	if (config.json) {
		print_json(tenants, nr);
	} else {
		printf("%8s %8s %-16s %10s %10s %10s %10s %5s\n", "PID", "TREE", "PROGRAM", "POOL",
		       "AREA", "LENT", "CLAIMED", "HELD");
		for (int i = 0; i < nr; i++)
			print_one(&tenants[i]);
	}
	free(tenants);
	return 0;
}
