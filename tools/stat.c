/* SPDX-License-Identifier: MIT */
/*
 * `berth stat`: everything that a tenant, or each tenant of a tree, tells about itself.
 *
 * What comes from a tenant isn't trusted: counts are bounded, texts made printable.
 */
#include <string.h>

#include "tools/json.h"
#include "tools/options.h"
#include "tools/tenants.h"
#include "tools/units.h"

#define COMMAND "berth stat"

static const char help[] =
	"usage: berth stat PID [OPTIONS]\n"
	"\n"
	"Tells what a tenant's pool holds, area by area; its claims, how long they took, and who holds\n"
	"them; what was moved, and how long a write waited for that. PID is a tenant's, or that of a\n"
	"`berth run` or of its program's first process: then each process of the tree is told, and\n"
	"the sum.\n"
	"\n"
	"  --json       one JSON object; for a tree with \"tenants\", a list, and \"total\"\n"
	"  --timeout T  what each may take to answer (2 s); one that is stopped doesn't\n"
	"\n"
	"examples:\n"
	"  berth stat 1234\n"
	"  berth stat 1230 --json\n"
	"\n"
	"exit codes: 0, 1: there is no such tenant, or it isn't yours, 2: a mistake in the command line,\n"
	"124: it doesn't answer in time.\n";

struct config {
	uint64_t timeout_ns;
	bool json;
	long pid;
};

/* ---- Options --------------------------------------------------------------------------------- */

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
	for (;;) {
		option = berth__next_option(COMMAND, argc, argv, options);
		if (option == 'h') {
			fputs(help, stdout);
			return 0;
		}
		config->json |= option == 'j';
		if (option == BERTH__OPTIONS_BAD ||
		    (option == 't' &&
		     !berth__time_option(COMMAND, "--timeout", &config->timeout_ns)))
			return BERTH__EXIT_USAGE;
		if (option != BERTH__OPTIONS_END)
			continue;
		if (optind == argc)
			break;
		if (config->pid)
			return berth__complain(BERTH__EXIT_USAGE, COMMAND,
					       "'%s' is too much; one PID is enough", argv[optind]);
		config->pid = berth__tenant_pid(COMMAND, argv[optind++]);
		if (!config->pid)
			return BERTH__EXIT_USAGE;
	}
	if (config->pid)
		return -1;
	return berth__complain(BERTH__EXIT_USAGE, COMMAND,
			       "no PID is given; `berth ps` lists the tenants with theirs");
}

/* ---- Numbers --------------------------------------------------------------------------------- */

/* The numbers of a tenant, or their sum. */
static const struct {
	const char *name;
	size_t offset;
} numbers[] = {
#define NUMBER(name)                                             \
	{                                                        \
#name, offsetof(struct berth_control_stat, name) \
	}
	NUMBER(pool_bytes),    NUMBER(area_bytes),      NUMBER(free_bytes),
	NUMBER(claimed_bytes), NUMBER(used_bytes),      NUMBER(mapped_bytes),
	NUMBER(lent_bytes),    NUMBER(metadata_bytes),  NUMBER(claims_ok),
	NUMBER(claims_failed), NUMBER(claims_held),     NUMBER(moved_bytes),
	NUMBER(moved_runs),    NUMBER(stalled_runs),    NUMBER(moves_skipped),
	NUMBER(pins),          NUMBER(heap_pool_bytes), NUMBER(heap_outside_bytes),
#undef NUMBER
};
#define NR_NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static uint64_t *number(struct berth_control_stat *stat, size_t i)
{
	return (uint64_t *)(void *)((char *)stat + numbers[i].offset);
}

static uint64_t value(const struct berth_control_stat *stat, size_t i)
{
	return *(const uint64_t *)(const void *)((const char *)stat + numbers[i].offset);
}

/* What the tenants have together; the longest of the stalls and claims. */
static void add_up(const struct berth__target *target, struct berth_control_stat *total)
{
	*total = (struct berth_control_stat){ .pool_bytes = 0 };
	for (unsigned i = 0; i < target->nr; i++) {
		const struct berth_control_stat *one = &target->tenants[i].stat;

		for (size_t j = 0; j < NR_NUMBERS; j++)
			*number(total, j) += value(one, j);
		total->nr_pending += one->nr_pending;
		if (one->longest_stall_ns > total->longest_stall_ns)
			total->longest_stall_ns = one->longest_stall_ns;
		if (one->claim_max_ns > total->claim_max_ns)
			total->claim_max_ns = one->claim_max_ns;
	}
}

static uint32_t at_most(uint32_t nr, uint32_t limit)
{
	return nr < limit ? nr : limit;
}

/* The area of a claim that is held; empty: it names none. */
static const char *area_name(const struct berth_control_stat *stat, uint32_t area)
{
	return area < BERTH_CONTROL_AREAS ? stat->areas[area].name : "";
}

/* When movable memory may lie there, or "discardable": never, but what can be dropped. */
static const char *lend_word(const struct berth_control_area *area)
{
	static const char *const words[] = { "first", "balanced", "last", "off" };

	if (strncmp(area->policy, "gcma", sizeof(area->policy)) == 0)
		return "discardable";
	return area->lend < 4 ? words[area->lend] : "unknown";
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t *areas_json(const struct berth_control_stat *stat)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < at_most(stat->nr_areas, BERTH_CONTROL_AREAS); i++) {
		const struct berth_control_area *area = &stat->areas[i];
		json_t *item = json_object();

		berth__json_text(item, "name", area->name, sizeof(area->name));
		berth__json_count(item, "bytes", area->bytes);
		berth__json_count(item, "free_bytes", area->free_bytes);
		berth__json_count(item, "claimed_bytes", area->claimed_bytes);
		berth__json_count(item, "lent_bytes", area->lent_bytes);
		berth__json_count(item, "largest_free_bytes", area->largest_free_bytes);
		berth__json_count(item, "largest_claimable_bytes", area->largest_claimable_bytes);
		berth__json_text(item, "policy", area->policy, sizeof(area->policy));
		berth__json_string(item, "lend", lend_word(area));
		berth__json_count(item, "keep_bytes", area->keep_bytes);
		json_array_append_new(list, item);
	}
	return list;
}

static json_t *held_json(const struct berth_control_stat *stat)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < at_most(stat->nr_held, BERTH_CONTROL_TOKENS); i++) {
		const struct berth_control_held *held = &stat->held[i];
		json_t *item = json_object();

		berth__json_text(item, "claimant", held->claimant, sizeof(held->claimant));
		json_object_set_new(item, "claimant_pid", json_integer(held->claimant_pid));
		berth__json_text(item, "area", area_name(stat, held->area), BERTH_CONTROL_NAME);
		berth__json_count(item, "offset", held->offset);
		berth__json_count(item, "bytes", held->bytes);
		berth__json_add(item, "held_ms", (double)held->held_ns / 1e6);
		json_array_append_new(list, item);
	}
	return list;
}

static void add_numbers(json_t *object, const struct berth_control_stat *stat)
{
	for (size_t i = 0; i < NR_NUMBERS; i++)
		berth__json_count(object, numbers[i].name, value(stat, i));
	berth__json_count(object, "claims_pending", stat->nr_pending);
	berth__json_add(object, "longest_stall_us", (double)stat->longest_stall_ns / 1000);
	if (stat->claim_p50_ns) {
		berth__json_add(object, "claim_p50_us", (double)stat->claim_p50_ns / 1000);
		berth__json_add(object, "claim_p99_us", (double)stat->claim_p99_ns / 1000);
	}
	if (stat->claim_max_ns)
		berth__json_add(object, "claim_max_us", (double)stat->claim_max_ns / 1000);
}

static json_t *tenant_json(const struct berth__tenant *tenant)
{
	const struct berth_control_stat *stat = &tenant->stat;
	json_t *object = json_object();

	json_object_set_new(object, "pid", json_integer(tenant->pid));
	json_object_set_new(object, "tree", stat->tree ? json_integer(stat->tree) : json_null());
	json_object_set_new(object, "root_pid", json_integer(stat->root_pid));
	berth__json_text(object, "program", stat->program, sizeof(stat->program));
	berth__json_text(object, "mover", stat->mover, sizeof(stat->mover));
	berth__json_text(object, "notice", stat->notice, sizeof(stat->notice));
	berth__json_text(object, "why_no_pool", stat->why_no_pool, sizeof(stat->why_no_pool));
	add_numbers(object, stat);
	json_object_set_new(object, "areas", areas_json(stat));
	json_object_set_new(object, "held", held_json(stat));
	return object;
}

static void print_json(const struct berth__target *target)
{
	struct berth_control_stat total;
	json_t *object, *list, *sum;

	if (!target->tree) {
		berth__json_print(tenant_json(&target->tenants[0]));
		return;
	}
	object = json_object();
	list = json_array();
	sum = json_object();
	for (unsigned i = 0; i < target->nr; i++)
		json_array_append_new(list, tenant_json(&target->tenants[i]));
	add_up(target, &total);
	add_numbers(sum, &total);
	json_object_set_new(object, "tree", json_integer(target->tree));
	json_object_set_new(object, "root_pid", json_integer(target->first));
	json_object_set_new(object, "tenants", list);
	json_object_set_new(object, "total", sum);
	berth__json_print(object);
}

/* ---- Text ------------------------------------------------------------------------------------ */

/* Space for the units of one line. */
struct texts {
	char at[8][BERTH__UNIT_BYTES];
	unsigned nr;
};

static const char *bytes(struct texts *texts, uint64_t number)
{
	return berth__format_bytes(texts->at[texts->nr++ % 8], (double)number);
}

static const char *ns(struct texts *texts, uint64_t number)
{
	return berth__format_ns(texts->at[texts->nr++ % 8], (double)number);
}

/* Percentiles of several tenants can't be put together. */
static void print_claim_times(const struct berth_control_stat *stat)
{
	struct texts texts = { .nr = 0 };

	if (stat->claim_p50_ns)
		printf("  latency   p50 %s, p99 %s, longest %s\n", ns(&texts, stat->claim_p50_ns),
		       ns(&texts, stat->claim_p99_ns), ns(&texts, stat->claim_max_ns));
	else
		printf("  latency   longest %s\n", ns(&texts, stat->claim_max_ns));
}

static void print_numbers(const struct berth_control_stat *stat)
{
	struct texts texts = { .nr = 0 };

	printf("  pool      %s: %s used, %s claimed, %s free; %s of metadata\n",
	       bytes(&texts, stat->pool_bytes), bytes(&texts, stat->used_bytes),
	       bytes(&texts, stat->claimed_bytes), bytes(&texts, stat->free_bytes),
	       bytes(&texts, stat->metadata_bytes));
	printf("  heap      %s in the pool, %s outside; %llu pins\n",
	       bytes(&texts, stat->heap_pool_bytes), bytes(&texts, stat->heap_outside_bytes),
	       (unsigned long long)stat->pins);
	printf("  claims    %llu succeeded, %llu failed, %llu held, %u waiting\n",
	       (unsigned long long)stat->claims_ok, (unsigned long long)stat->claims_failed,
	       (unsigned long long)stat->claims_held, stat->nr_pending);
	if (stat->claim_max_ns)
		print_claim_times(stat);
	printf("  moved     %s in %llu runs; %llu met a writer, which waited %s at most\n",
	       bytes(&texts, stat->moved_bytes), (unsigned long long)stat->moved_runs,
	       (unsigned long long)stat->stalled_runs, ns(&texts, stat->longest_stall_ns));
	if (stat->moves_skipped)
		printf("  skipped   %llu moves, at the limit of mappings (vm.max_map_count)\n",
		       (unsigned long long)stat->moves_skipped);
}

static void print_areas(const struct berth_control_stat *stat)
{
	char name[BERTH__TEXT_BYTES];

	for (uint32_t i = 0; i < at_most(stat->nr_areas, BERTH_CONTROL_AREAS); i++) {
		const struct berth_control_area *area = &stat->areas[i];
		struct texts texts = { .nr = 0 };

		printf("  area      %s, %s: %s lent, %s claimed, %s free; largest run free %s, "
		       "claimable %s; ",
		       berth__printable(name, area->name, sizeof(area->name)),
		       bytes(&texts, area->bytes), bytes(&texts, area->lent_bytes),
		       bytes(&texts, area->claimed_bytes), bytes(&texts, area->free_bytes),
		       bytes(&texts, area->largest_free_bytes),
		       bytes(&texts, area->largest_claimable_bytes));
		printf("%s, lent %s", berth__printable(name, area->policy, sizeof(area->policy)),
		       lend_word(area));
		if (area->keep_bytes)
			printf(" down to %s", bytes(&texts, area->keep_bytes));
		putchar('\n');
	}
}

static void print_held(const struct berth_control_stat *stat)
{
	char claimant[BERTH__TEXT_BYTES], name[BERTH__TEXT_BYTES];

	for (uint32_t i = 0; i < at_most(stat->nr_held, BERTH_CONTROL_TOKENS); i++) {
		const struct berth_control_held *held = &stat->held[i];
		struct texts texts = { .nr = 0 };

		printf("  held      %s of %s at %#llx, for %s, by %s (%d)\n",
		       bytes(&texts, held->bytes),
		       berth__printable(name, area_name(stat, held->area), BERTH_CONTROL_NAME),
		       (unsigned long long)held->offset, ns(&texts, held->held_ns),
		       berth__printable(claimant, held->claimant, sizeof(held->claimant)),
		       (int)held->claimant_pid);
	}
}

static void print_text(const char *label, const char *from, size_t room)
{
	char text[BERTH__TEXT_BYTES];

	if (*berth__printable(text, from, room))
		printf("  %-9s %s\n", label, text);
}

static void print_tenant(const struct berth__tenant *tenant)
{
	const struct berth_control_stat *stat = &tenant->stat;
	char program[BERTH__TEXT_BYTES];

	printf("%s (%d)", berth__printable(program, stat->program, sizeof(stat->program)),
	       (int)tenant->pid);
	if (stat->tree)
		printf(", of the tree of `berth run` %d", (int)stat->tree);
	putchar('\n');
	print_numbers(stat);
	print_areas(stat);
	print_held(stat);
	print_text("why", stat->why_no_pool, sizeof(stat->why_no_pool));
	print_text("mover", stat->mover, sizeof(stat->mover));
	print_text("notice", stat->notice, sizeof(stat->notice));
}

int berth__stat(int argc, char **argv)
{
	struct config config = { .timeout_ns = BERTH__ANSWER_NS };
	struct berth_control_stat total;
	struct berth__target target;
	int code = take_options(&config, argc, argv);

	if (code >= 0)
		return code;
	code = berth__target_find(COMMAND, config.pid, config.timeout_ns, &target);
	if (!code && config.json) {
		print_json(&target);
	} else if (!code) {
		for (unsigned i = 0; i < target.nr; i++)
			print_tenant(&target.tenants[i]);
		add_up(&target, &total);
		if (target.nr > 1) {
			printf("all %u\n", target.nr);
			print_numbers(&total);
		}
	}
	berth__target_free(&target);
	return code;
}
