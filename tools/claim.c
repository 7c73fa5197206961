/* SPDX-License-Identifier: MIT */
/*
 * `berth claim`: claims memory from a running tenant, and holds it or hands it to a command.
 *
 * The claim lives as long as any copy of its token is open. We hold one, which also tells when the
 * tenant has ended; a command and whatever it starts hold others. So nothing has to be undone here:
 * however we end, the kernel closes ours.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "tools/json.h"
#include "tools/launch.h"
#include "tools/measure.h"
#include "tools/options.h"
#include "tools/program.h"
#include "tools/tenants.h"
#include "tools/units.h"

#define COMMAND "berth claim"
#define MOST_ALIGN ((uint64_t)4 << 20)

static const char help[] =
	"usage: berth claim PID SIZE [OPTIONS] [-- COMMAND [ARGUMENTS]]\n"
	"\n"
	"Claims SIZE of contiguous memory from a running tenant. What the tenant keeps there is moved\n"
	"elsewhere in its pool; it runs on. PID is a tenant's, or that of a `berth run` or of its\n"
	"program's first process: then the process of the tree with most lent is asked first, and the\n"
	"others when that one fails.\n"
	"\n"
	"Without a COMMAND the claim is held until Ctrl-C or SIGTERM. With one it is run, and finds in its\n"
	"environment\n"
	"  BERTH_CLAIM_FD      a descriptor of the tenant's pool, to be mapped (mmap, MAP_SHARED)\n"
	"  BERTH_CLAIM_OFFSET  where in it the claim begins, in bytes\n"
	"  BERTH_CLAIM_BYTES   the claim's size\n"
	"  BERTH_CLAIM_TOKEN   a descriptor: the claim lives until the last copy of it is closed, so also\n"
	"                      in what the command leaves running in the background\n"
	"  BERTH_CLAIM_PID     the tenant\n"
	"\n"
	"  --area NAME   the area to claim from (the default one, or the first)\n"
	"  --device NAME the device to claim for: from the area that the tenant's --config names for it\n"
	"  --align SIZE  a multiple of this in the pool, a power of two up to 4M (a page)\n"
	"  --hold T      without a command: hold it for T and end\n"
	"  --timeout T   what the claim may take, with waiting for holders; without it they aren't waited\n"
	"                for, and moving may take what it takes, up to ten seconds\n"
	"  --no-zero     leave in the buffer what the tenant left there; it is zeroed otherwise\n"
	"  --json        one JSON object on stdout once it is held, or has failed (with a command: stderr)\n"
	"\n"
	"SIZE is in bytes, or with K, M, G or T. T is in seconds, or with ms or us.\n"
	"\n"
	"What a claimant can see: everything. BERTH_CLAIM_FD is the tenant's whole pool, and gives read\n"
	"and write access to all of it: the tenant's whole heap, passwords and keys in it too, and other\n"
	"claims. Nothing keeps COMMAND inside its range but COMMAND itself. So the tenant's user only (and\n"
	"root) can claim; run no COMMAND that you wouldn't let debug the tenant. Zeroing keeps the\n"
	"tenant's old data out of the buffer, not out of the claimant's reach.\n"
	"\n"
	"If the tenant ends or dies meanwhile, the bytes stay yours; stderr says so. Only the token's last\n"
	"copy gives them back. Writing after that corrupts the tenant.\n"
	"\n"
	"examples:\n"
	"  berth claim 1234 64M --hold 10\n"
	"  berth claim 1234 64M --area cam --timeout 500ms -- ./camera --frames 100\n"
	"\n"
	"exit codes: 0: held and released; a COMMAND's own, and if a signal kills it, berth dies of the\n"
	"same one. 2: a mistake in the command line, 123: refused for now (held by somebody, or no memory\n"
	"to move to; a retry may help), 124: the tenant doesn't answer in time, nothing was changed, 125:\n"
	"any other failure (no such tenant, not yours, never fits), 126: COMMAND can't be executed, 127:\n"
	"there is no such command.\n";

struct config {
	long pid;
	uint64_t bytes, align_bytes, timeout_ns, hold_ns;
	const char *area; /* or if for_device, the device's name */
	bool for_device;
	bool raw, json, holds; /* holds: --hold is given */
	char **argv;           /* of the command, or NULL */
};

/* The claim, and whose it was. */
struct holding {
	struct berth__claimed claimed;
	struct berth__tenant tenant;
};

/* ---- Options --------------------------------------------------------------------------------- */

enum { AREA = 256, DEVICE, ALIGN, HOLD, TIMEOUT, NO_ZERO, JSON };
static const struct option options[] = {
	{ "area", required_argument, NULL, AREA },
	{ "device", required_argument, NULL, DEVICE },
	{ "align", required_argument, NULL, ALIGN },
	{ "hold", required_argument, NULL, HOLD },
	{ "timeout", required_argument, NULL, TIMEOUT },
	{ "no-zero", no_argument, NULL, NO_ZERO },
	{ "json", no_argument, NULL, JSON },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool take_align(uint64_t *align)
{
	if (!berth__size_option(COMMAND, "--align", align))
		return false;
	if (*align <= MOST_ALIGN && (*align & (*align - 1)) == 0)
		return true;
	berth__complain(0, COMMAND, "--align '%s' is no power of two up to 4M", optarg);
	return false;
}

static bool take_area(struct config *config, bool for_device)
{
	if (config->area && config->for_device != for_device) {
		berth__complain(0, COMMAND,
				"a claim is for a --device or from an --area; give one");
		return false;
	}
	config->area = optarg;
	config->for_device = for_device;
	if (*optarg && strlen(optarg) < BERTH_CONTROL_NAME)
		return true;
	if (for_device) {
		berth__complain(0, COMMAND,
				"--device '%s' is no device's name of 1 to 31 characters", optarg);
		return false;
	}
	berth__complain(0, COMMAND, "--area '%s' is no area's name; `berth stat PID` lists them",
			optarg);
	return false;
}

static bool take_option(struct config *config, int option)
{
	switch (option) {
	case AREA:
	case DEVICE:
		return take_area(config, option == DEVICE);
	case ALIGN:
		return take_align(&config->align_bytes);
	case HOLD:
		config->holds = true;
		return berth__time_option(COMMAND, "--hold", &config->hold_ns);
	case TIMEOUT:
		return berth__time_option(COMMAND, "--timeout", &config->timeout_ns);
	default:
		config->raw |= option == NO_ZERO;
		config->json |= option == JSON;
		return true;
	}
}

static bool take_argument(struct config *config, char *argument)
{
	if (!config->pid) {
		config->pid = berth__tenant_pid(COMMAND, argument);
		return config->pid;
	}
	if (!config->bytes) {
		optarg = argument;
		return berth__size_option(COMMAND, "SIZE", &config->bytes);
	}
	berth__complain(0, COMMAND, "'%s' is too much; a command is written behind --", argument);
	return false;
}

static bool complete(const struct config *config)
{
	const char *missing = NULL;

	if (!config->pid)
		missing = "no PID is given; `berth ps` lists the tenants with theirs";
	else if (!config->bytes)
		missing = "no SIZE is given; write it behind the PID, as in `" COMMAND " 1234 64M`";
	else if (config->argv && !*config->argv)
		missing = "there is no command behind --; leave -- out to hold the claim";
	else if (config->argv && config->holds)
		missing =
			"--hold and a command don't go together: it holds the claim as long as it "
			"runs";
	if (missing)
		berth__complain(0, COMMAND, "%s", missing);
	return !missing;
}

/* -1: claim; else the exit code. */
static int take_options(struct config *config, int argc, char **argv)
{
	optind = 0;
	for (;;) {
		const int option = berth__next_option(COMMAND, argc, argv, options);

		if (option == 'h') {
			fputs(help, stdout);
			return 0;
		}
		if (option == BERTH__OPTIONS_BAD)
			return BERTH__EXIT_USAGE;
		if (option != BERTH__OPTIONS_END) {
			if (!take_option(config, option))
				return BERTH__EXIT_USAGE;
			continue;
		}
		if (optind > 1 && strcmp(argv[optind - 1], "--") == 0)
			config->argv = argv + optind;
		if (config->argv || optind == argc)
			break;
		if (!take_argument(config, argv[optind++]))
			return BERTH__EXIT_USAGE;
	}
	return complete(config) ? -1 : BERTH__EXIT_USAGE;
}

/* ---- What came of it ------------------------------------------------------------------------- */

/* Makes the texts of an answer printable, in place. */
static void clean(struct berth_control_claimed *reply)
{
	char text[BERTH__TEXT_BYTES];

	memcpy(reply->area, berth__printable(text, reply->area, sizeof(reply->area) - 1),
	       sizeof(reply->area));
	memcpy(reply->blocker_owner,
	       berth__printable(text, reply->blocker_owner, sizeof(reply->blocker_owner) - 1),
	       sizeof(reply->blocker_owner));
	memcpy(reply->blocker_holder,
	       berth__printable(text, reply->blocker_holder, sizeof(reply->blocker_holder) - 1),
	       sizeof(reply->blocker_holder));
}

static FILE *json_stream(const struct config *config)
{
	return config->argv ? stderr : stdout;
}

/* What success and failure have in common. */
static json_t *answer_json(const struct config *config, const struct holding *holding, int error)
{
	const struct berth_control_claimed *reply = &holding->claimed.reply;
	json_t *object = json_object();

	json_object_set_new(object, "claimed", json_boolean(!error));
	json_object_set_new(object, "pid", json_integer(holding->tenant.pid));
	berth__json_text(object, "program", holding->tenant.stat.program, BERTH_CONTROL_NAME);
	berth__json_text(object, "area", reply->area, sizeof(reply->area));
	berth__json_count(object, "bytes", error ? config->bytes : reply->bytes);
	berth__json_add(object, "claim_us", (double)reply->claim_ns / 1000);
	berth__json_add(object, "wait_us", (double)reply->wait_ns / 1000);
	berth__json_add(object, "zero_us", (double)reply->zero_ns / 1000);
	berth__json_add(object, "cpu_us", (double)reply->cpu_ns / 1000);
	berth__json_count(object, "moved_bytes", reply->moved_bytes);
	berth__json_count(object, "free_bytes_taken", reply->free_bytes_taken);
	berth__json_count(object, "tries", reply->tries);
	berth__json_count(object, "retries", reply->retries);
	return object;
}

static void print_claimed(const struct config *config, const struct holding *holding)
{
	const struct berth_control_claimed *reply = &holding->claimed.reply;
	char text[4][BERTH__UNIT_BYTES], program[BERTH__TEXT_BYTES];

	if (config->json) {
		json_t *object = answer_json(config, holding, 0);

		berth__json_count(object, "offset", reply->offset);
		berth__json_count(object, "pool_bytes", reply->pool_bytes);
		berth__json_print_to(json_stream(config), object);
		return;
	}
	if (config->argv)
		return;
	printf("%s of area %s of %s (%d), at %#llx of its pool: claimed in %s, %s moved\n",
	       berth__format_bytes(text[0], (double)reply->bytes), reply->area,
	       berth__printable(program, holding->tenant.stat.program, BERTH_CONTROL_NAME),
	       (int)holding->tenant.pid, (unsigned long long)reply->offset,
	       berth__format_ns(text[1], (double)reply->claim_ns),
	       berth__format_bytes(text[2], (double)reply->moved_bytes));
	if (config->holds)
		printf("held for %s\n", berth__format_ns(text[3], (double)config->hold_ns));
	else
		puts("held until Ctrl-C");
	fflush(stdout);
}

static void print_failed(const struct config *config, const struct holding *holding, int error)
{
	const struct berth_control_claimed *reply = &holding->claimed.reply;
	json_t *object;

	if (!config->json)
		return;
	object = answer_json(config, holding, error);
	berth__json_string(object, "error", berth_errname(error));
	berth__json_string(object, "text", berth_strerror(error));
	berth__json_string(object, "owner", reply->blocker_owner);
	berth__json_string(object, "holder", reply->blocker_holder);
	berth__json_count(object, "largest_free_bytes", reply->largest_free_bytes);
	berth__json_count(object, "largest_claimable_bytes", reply->largest_claimable_bytes);
	berth__json_print_to(json_stream(config), object);
}

/* Says why a tenant refused. */
static void explain(const struct config *config, const struct holding *holding, int error)
{
	const struct berth_control_claimed *reply = &holding->claimed.reply;
	const struct berth_control_stat *stat = &holding->tenant.stat;
	char program[BERTH__TEXT_BYTES], text[1024], size[BERTH__UNIT_BYTES];
	struct berth_claim_report report;

	berth__printable(program, stat->program, sizeof(stat->program));
	if (error == -BERTH_ENOENT) {
		berth__complain(0, COMMAND, "%s (%d) has no area '%s'; `berth stat %d` lists them",
				program, (int)holding->tenant.pid, config->area ? config->area : "",
				(int)holding->tenant.pid);
		return;
	}
	if (!reply->area[0]) {
		berth__complain(0, COMMAND, "%s of %s (%d): %s (%s)",
				berth__format_bytes(size, (double)config->bytes), program,
				(int)holding->tenant.pid, berth_strerror(error),
				berth_errname(error));
		return;
	}
	berth__claimed_report(reply, &report);
	report.error = error;
	report.nr_pages = (config->bytes + BERTH_PAGE_SIZE - 1) >> BERTH_PAGE_SHIFT;
	berth_report_text(&report, text, sizeof(text));
	berth__complain(0, COMMAND, "%s (%d): %s", program, (int)holding->tenant.pid, text);
}

/* ---- Claiming -------------------------------------------------------------------------------- */

/* Another tenant may do better. */
static bool is_for_now(int error)
{
	return error == -BERTH_EBUSY || error == -BERTH_ENOSPC || error == -BERTH_ENOMEM ||
	       error == -BERTH_EAGAIN;
}

static int exit_code(int error)
{
	if (is_for_now(error))
		return BERTH__EXIT_REFUSED;
	return error == -BERTH_ETIMEDOUT ? BERTH__EXIT_NO_ANSWER : BERTH__EXIT_CANT_RUN;
}

/* Asks one tenant; on an error that has been told. */
static int ask(const struct config *config, const struct berth__tenant *tenant, uint64_t timeout_ns,
	       struct holding *holding)
{
	struct berth_control_claim request = { .bytes = config->bytes,
					       .align_bytes = config->align_bytes,
					       .timeout_ns = timeout_ns,
					       .flags = (config->raw ? BERTH_CONTROL_RAW : 0u) |
							(config->for_device ? BERTH_CONTROL_DEVICE :
									      0u) };
	struct berth__client client;
	bool connected;
	int error;

	*holding = (struct holding){ .claimed = { .pool_fd = -1, .token_fd = -1 },
				     .tenant = *tenant };
	snprintf(request.area, sizeof(request.area), "%s", config->area ? config->area : "");
	snprintf(request.claimant, sizeof(request.claimant), "%s",
		 config->argv ? basename(config->argv[0]) : COMMAND);
	error = berth__client_connect(tenant->pid, BERTH__ANSWER_NS, &client);
	connected = !error;
	if (connected) {
		error = berth__client_claim(&client, &request, &holding->claimed);
		berth__client_close(&client);
	}
	clean(&holding->claimed.reply);
	if (error == -BERTH_ESRCH || error == -BERTH_ETIMEDOUT || (error && !connected))
		berth__tenant_complain(COMMAND, tenant->pid, error);
	else if (error)
		explain(config, holding, error);
	return error;
}

/* Asks one after the other. 0 or an exit code. */
static int ask_all(const struct config *config, const struct berth__target *target,
		   struct holding *holding)
{
	struct holding first;
	int first_error = 0;

	for (unsigned i = 0; i < target->nr; i++) {
		const int error = ask(config, &target->tenants[i],
				      config->timeout_ns ? config->timeout_ns / target->nr + 1 : 0,
				      holding);

		if (!error)
			return 0;
		if (!first_error) {
			first_error = error;
			first = *holding;
		}
		if (!is_for_now(error) && error != -BERTH_ESRCH && error != -BERTH_ETIMEDOUT)
			break;
	}
	print_failed(config, &first, first_error);
	return exit_code(first_error);
}

/* ---- Holding --------------------------------------------------------------------------------- */

/* The token has something to say: only that the tenant has ended. */
static bool tenant_ended(void *context)
{
	const struct holding *holding = context;
	char program[BERTH__TEXT_BYTES];

	if (berth__claimed_tenant_lives(&holding->claimed))
		return true;
	berth__complain(
		0, COMMAND,
		"the tenant %s (%d) has ended, or become another program; the bytes stay yours",
		berth__printable(program, holding->tenant.stat.program, BERTH_CONTROL_NAME),
		(int)holding->tenant.pid);
	return false;
}

static struct timespec left(uint64_t until)
{
	const uint64_t now = berth__clock_ns(CLOCK_MONOTONIC), ns = until > now ? until - now : 0;

	return (struct timespec){ .tv_sec = (time_t)(ns / 1000000000u),
				  .tv_nsec = (long)(ns % 1000000000u) };
}

static int hold(const struct config *config, struct holding *holding)
{
	const uint64_t until = berth__clock_ns(CLOCK_MONOTONIC) + config->hold_ns;
	struct pollfd watch[2] = { { .events = POLLIN },
				   { .fd = holding->claimed.token_fd, .events = POLLIN } };
	sigset_t ends;

	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	watch[0].fd = signalfd(-1, &ends, SFD_CLOEXEC);
	if (watch[0].fd < 0)
		return berth__complain(BERTH__EXIT_CANT_RUN, COMMAND, "the claim can't be held: %s",
				       strerror(errno));
	print_claimed(config, holding);
	while (!watch[0].revents) {
		const struct timespec timeout = left(until);

		if (config->holds && !timeout.tv_sec && !timeout.tv_nsec)
			break;
		if (ppoll(watch, 2, config->holds ? &timeout : NULL, NULL) < 0)
			continue; /* interrupted */
		if (watch[1].revents && !tenant_ended(holding))
			watch[1].fd = -1;
	}
	berth__claimed_close(&holding->claimed);
	return 0;
}

/* ---- A command ------------------------------------------------------------------------------- */

static bool set_number(const char *name, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return setenv(name, text, 1) == 0;
}

/* In the child: the descriptors stay open, and the environment names them. */
static int hand_over(void *context)
{
	const struct holding *holding = context;
	const struct berth__claimed *claimed = &holding->claimed;

	if (fcntl(claimed->pool_fd, F_SETFD, 0) != 0 || fcntl(claimed->token_fd, F_SETFD, 0) != 0)
		return -1;
	return set_number("BERTH_CLAIM_FD", (uint64_t)claimed->pool_fd) &&
			       set_number("BERTH_CLAIM_TOKEN", (uint64_t)claimed->token_fd) &&
			       set_number("BERTH_CLAIM_OFFSET", claimed->reply.offset) &&
			       set_number("BERTH_CLAIM_BYTES", claimed->reply.bytes) &&
			       set_number("BERTH_CLAIM_PID", (uint64_t)holding->tenant.pid) ?
		       0 :
		       -1;
}

static int run_command(const struct config *config, struct holding *holding)
{
	const struct berth__launch launch = { .argv = config->argv,
					      .prepare = hand_over,
					      .watched_fd = holding->claimed.token_fd,
					      .noticed = tenant_ended,
					      .context = holding };
	char why[256];
	int status, code;

	code = berth__program_find(config->argv[0], why, sizeof(why));
	if (code)
		return berth__complain(code, COMMAND, "%s %s", config->argv[0], why);
	print_claimed(config, holding);
	code = berth__launch(&launch, &status, why, sizeof(why));
	if (code)
		return berth__complain(code, COMMAND, "%s %s", config->argv[0], why);
	berth__claimed_close(&holding->claimed); /* what runs on in the background has its own */
	return berth__end_as(status);
}

int berth__claim(int argc, char **argv)
{
	struct config config = { .pid = 0 };
	struct berth__target target;
	struct holding holding = { .claimed = { .pool_fd = -1, .token_fd = -1 } };
	int code = take_options(&config, argc, argv);

	if (code >= 0)
		return code;
	code = berth__target_find(COMMAND, config.pid, BERTH__ANSWER_NS, &target);
	if (code) {
		holding.tenant.pid = (int32_t)config.pid;
		print_failed(&config, &holding,
			     code == BERTH__EXIT_NO_ANSWER ? -BERTH_ETIMEDOUT : -BERTH_ESRCH);
	}
	if (code == BERTH__EXIT_FAILED)
		code = BERTH__EXIT_CANT_RUN;
	if (!code)
		code = ask_all(&config, &target, &holding);
	berth__target_free(&target);
	if (code)
		return code;
	return config.argv ? run_command(&config, &holding) : hold(&config, &holding);
}
