/* SPDX-License-Identifier: MIT */
/*
 * A handle on another process's pool: claims through its control socket.
 *
 * The pool is mapped once. Each claim and each question has a connection of its own, so threads don't
 * wait for each other, and nothing of a connection is left to go wrong in between; what lasts is the
 * claim's token.
 *
 * I1  In the list: exactly the claims whose tokens are open in this process.
 * I2  A claim is of the instance that was attached to: not of another program under the same pid.
 */
#define _GNU_SOURCE
#include "runtime/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "runtime/client.h"

#define MAX_TEXTS 64u

/* A claim that this process holds. */
struct held {
	struct held *next;
	struct berth_buffer buffer;
	int token_fd;
};

struct berth_attached {
	long pid;
	uint64_t instance;
	char *base; /* of the mapping */
	size_t bytes;
	int fd; /* the pool's */
	unsigned nr_areas;
	char areas[BERTH_CONTROL_AREAS][BERTH_CONTROL_NAME];
	char mover[BERTH_CONTROL_NAME];
	berth_mutex_t lock; /* guards what follows */
	struct held *held;
	unsigned nr_texts; /* of reports: they live as long as the handle */
	char texts[MAX_TEXTS][BERTH_CONTROL_TEXT];
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int connect_again(const struct berth_attached *attached, uint64_t timeout_ns,
			 struct berth__client *client)
{
	int error = berth__client_connect(attached->pid, timeout_ns, client);

	if (!error && client->tenant.instance != attached->instance) { /* I2 */
		berth__client_close(client);
		error = -BERTH_ESRCH;
	}
	return error;
}

static int ask(const struct berth_attached *attached, struct berth_control_stat *stat)
{
	struct berth__client client;
	int error = connect_again(attached, BERTH_CLIENT_PATIENCE_NS, &client);

	if (!error)
		error = berth__client_stat(&client, BERTH_CLIENT_PATIENCE_NS, stat);
	berth__client_close(&client);
	return error;
}

/* ---- Opening ---------------------------------------------------------------------------------------- */

static int map_pool(struct berth_attached *attached)
{
	char *base = berth_reserve_aligned(attached->bytes);

	if (!base)
		return -BERTH_ENOMEM;
	if (mmap(base, attached->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 attached->fd, 0) == MAP_FAILED) {
		munmap(base, attached->bytes);
		return -BERTH_ENOMEM;
	}
	attached->base = base;
	return 0;
}

static void remember_names(struct berth_attached *attached, const struct berth_control_stat *stat)
{
	attached->nr_areas = stat->nr_areas;
	for (unsigned i = 0; i < stat->nr_areas; i++)
		memcpy(attached->areas[i], stat->areas[i].name, sizeof(attached->areas[i]));
	memcpy(attached->mover, stat->mover, sizeof(attached->mover));
}

void berth__attached_close(struct berth_attached *attached)
{
	if (attached->base)
		munmap(attached->base, attached->bytes);
	if (attached->fd >= 0)
		close(attached->fd);
	free(attached);
}

int berth__attached_open(long pid, struct berth_attached **out)
{
	struct berth_attached *attached = calloc(1, sizeof(*attached));
	struct berth_control_stat *stat = malloc(sizeof(*stat));
	struct berth__client client = { .fd = -1 };
	int error = attached && stat ? 0 : -BERTH_ENOMEM;

	if (attached)
		*attached = (struct berth_attached){ .pid = pid, .fd = -1 };
	if (!error)
		error = berth__client_connect(pid, BERTH_CLIENT_PATIENCE_NS, &client);
	if (!error)
		error = berth__client_stat(&client, BERTH_CLIENT_PATIENCE_NS, stat);
	if (!error)
		error = berth__client_attach(&client, BERTH_CLIENT_PATIENCE_NS, &attached->fd,
					     &attached->bytes);
	if (!error) {
		attached->instance = client.tenant.instance;
		remember_names(attached, stat);
		error = map_pool(attached);
	}
	berth__client_close(&client);
	free(stat);
	if (error) {
		if (attached)
			berth__attached_close(attached);
		return error;
	}
	*out = attached;
	return 0;
}

bool berth__attached_is_idle(struct berth_attached *attached)
{
	bool idle;

	berth_mutex_lock(&attached->lock);
	idle = !attached->held;
	berth_mutex_unlock(&attached->lock);
	return idle;
}

/* ---- Claims -------------------------------------------------------------------------------------------- */

/* The handle's own copy of an area's name, or NULL. */
static const char *area_name(const struct berth_attached *attached, const char *name)
{
	for (unsigned i = 0; i < attached->nr_areas; i++)
		if (strcmp(attached->areas[i], name) == 0)
			return attached->areas[i];
	return NULL;
}

/* A copy of the text that lives as long as the handle. */
static const char *keep_text(struct berth_attached *attached, const char *text)
{
	const char *kept = NULL;

	if (!text)
		return NULL;
	berth_mutex_lock(&attached->lock);
	for (unsigned i = 0; i < attached->nr_texts && !kept; i++)
		if (strcmp(attached->texts[i], text) == 0)
			kept = attached->texts[i];
	if (!kept && attached->nr_texts < MAX_TEXTS) {
		char *place = attached->texts[attached->nr_texts++];

		strncpy(place, text, BERTH_CONTROL_TEXT - 1);
		kept = place;
	}
	berth_mutex_unlock(&attached->lock);
	return kept ? kept : "somebody whose name isn't kept any more";
}

static void fill_report(struct berth_attached *attached, const struct berth_control_claimed *reply,
			const char *area, struct berth_claim_report *report)
{
	const char *known = report ? area_name(attached, reply->area) : NULL;

	if (!report)
		return;
	berth__claimed_report(reply, report);
	report->area = known ? known : area;
	report->blocker_owner = keep_text(attached, report->blocker_owner);
	report->blocker_holder = keep_text(attached, report->blocker_holder);
}

/* Makes the claim, whose time `options` limits, connecting included. */
static int claim(const struct berth_attached *attached, struct berth_control_claim *request,
		 struct berth__claimed *claimed)
{
	uint64_t timeout_ns = request->timeout_ns, began = now_ns(), took;
	struct berth__client client;
	int error = connect_again(attached, timeout_ns ? timeout_ns : BERTH_CLIENT_PATIENCE_NS,
				  &client);

	*claimed = (struct berth__claimed){
		.reply.header.error = error,
		.reply.bytes = request->bytes,
		.reply.blocker_offset = UINT64_MAX,
		.pool_fd = -1,
		.token_fd = -1,
	};
	if (error)
		return error;
	took = now_ns() - began;
	if (timeout_ns)
		request->timeout_ns = took < timeout_ns ? timeout_ns - took : 1;
	error = berth__client_claim(&client, request, claimed);
	berth__client_close(&client);
	return error;
}

/* The arguments as a request; -EINVAL, -ENOENT as the tenant would answer. */
static int make_request(const struct berth_attached *attached, const char *area, const char *device,
			size_t bytes, const struct berth_claim_options *options,
			struct berth_control_claim *request)
{
	const unsigned all_flags = BERTH_ZERO | BERTH_CLAIM_FREE_ONLY | BERTH_CLAIM_FIRST_FIT |
				   BERTH_CLAIM_NORETRY;

	*request = (struct berth_control_claim){ .bytes = bytes };
	strncpy(request->claimant, program_invocation_short_name, sizeof(request->claimant) - 1);
	if (area && !area_name(attached, area))
		return -BERTH_ENOENT;
	if (area)
		strcpy(request->area, area_name(attached, area));
	if (device && strlen(device) >= sizeof(request->area))
		return -BERTH_ENODEV;
	if (device) {
		strcpy(request->area, device);
		request->flags = BERTH_CONTROL_DEVICE;
	}
	if (!options)
		return 0;
	if (options->flags & ~all_flags || options->align_bytes & (options->align_bytes - 1))
		return -BERTH_EINVAL;
	request->align_bytes = options->align_bytes;
	request->timeout_ns = options->flags & BERTH_CLAIM_NORETRY ? 0 : options->timeout_ns;
	request->flags |= (options->flags & BERTH_CLAIM_FREE_ONLY ? BERTH_CONTROL_FREE_ONLY : 0) |
			  (options->flags & BERTH_CLAIM_FIRST_FIT ? BERTH_CONTROL_FIRST_FIT : 0);
	return 0;
}

int berth__attached_claim(struct berth_attached *attached, const char *area, const char *device,
			  size_t bytes, const struct berth_claim_options *options,
			  struct berth_buffer *buffer, struct berth_claim_report *report)
{
	struct berth_control_claim request;
	struct berth__claimed claimed = { .reply.blocker_offset = UINT64_MAX };
	struct held *held;
	int error = !buffer || !bytes ?
			    -BERTH_EINVAL :
			    make_request(attached, area, device, bytes, options, &request);

	if (error) {
		claimed.reply.header.error = error;
		fill_report(attached, &claimed.reply, area, report);
		return error;
	}
	held = malloc(sizeof(*held)); /* first: afterwards nothing may fail */
	if (!held)
		return -BERTH_ENOMEM;
	error = claim(attached, &request, &claimed);
	if (!error && claimed.reply.pool_bytes != attached->bytes) {
		berth__claimed_close(&claimed);
		error = claimed.reply.header.error = -BERTH_EPROTO;
	}
	fill_report(attached, &claimed.reply, area, report);
	if (error) {
		free(held);
		return error;
	}
	close(claimed.pool_fd); /* it's mapped */
	*buffer = (struct berth_buffer){
		.address = attached->base + claimed.reply.offset,
		.bytes = claimed.reply.bytes,
		.offset = claimed.reply.offset,
		.area = area_name(attached, claimed.reply.area),
	};
	*held = (struct held){ .buffer = *buffer, .token_fd = claimed.token_fd };
	berth_mutex_lock(&attached->lock);
	held->next = attached->held;
	attached->held = held;
	berth_mutex_unlock(&attached->lock);
	return 0;
}

/* The link to the buffer's claim, or to NULL. Lock held. */
static struct held **find_locked(struct berth_attached *attached, const struct berth_buffer *buffer)
{
	struct held **at = &attached->held;

	while (*at &&
	       ((*at)->buffer.address != buffer->address || (*at)->buffer.bytes != buffer->bytes ||
		(*at)->buffer.offset != buffer->offset))
		at = &(*at)->next;
	return at;
}

int berth__attached_release(struct berth_attached *attached, const struct berth_buffer *buffer)
{
	struct held **at, *held;

	if (!buffer)
		return -BERTH_EINVAL;
	berth_mutex_lock(&attached->lock);
	at = find_locked(attached, buffer);
	held = *at;
	if (held)
		*at = held->next;
	berth_mutex_unlock(&attached->lock);
	if (!held)
		return -BERTH_EINVAL;
	close(held->token_fd);
	free(held);
	return 0;
}

int berth__attached_claim_fd(struct berth_attached *attached, const struct berth_buffer *buffer)
{
	const struct held *held;
	int fd;

	if (!buffer)
		return -BERTH_EINVAL;
	berth_mutex_lock(&attached->lock);
	held = *find_locked(attached, buffer);
	fd = held ? held->token_fd : -BERTH_EINVAL;
	berth_mutex_unlock(&attached->lock);
	return fd;
}

/* ---- Statistics ------------------------------------------------------------------------------------------ */

int berth__attached_stats(struct berth_attached *attached, struct berth_pool_stats *stats)
{
	struct berth_control_stat *stat = malloc(sizeof(*stat));
	int error = stat ? ask(attached, stat) : -BERTH_ENOMEM;

	if (!error)
		*stats = (struct berth_pool_stats){
			.pool_bytes = stat->pool_bytes,
			.free_bytes = stat->free_bytes,
			.claimed_bytes = stat->claimed_bytes,
			.used_bytes = stat->used_bytes,
			.mapped_bytes = stat->mapped_bytes,
			.area_bytes = stat->area_bytes,
			.lent_bytes = stat->lent_bytes,
			.metadata_bytes = stat->metadata_bytes,
			.claims_ok = stat->claims_ok,
			.claims_failed = stat->claims_failed,
			.claims_held = stat->claims_held,
			.moved_bytes = stat->moved_bytes,
			.moved_runs = stat->moved_runs,
			.stalled_runs = stat->stalled_runs,
			.moves_skipped = stat->moves_skipped,
			.longest_stall_ns = stat->longest_stall_ns,
			.pins = stat->pins,
			.mover = attached->mover,
		};
	free(stat);
	return error;
}

int berth__attached_area_stats(struct berth_attached *attached, const char *area,
			       struct berth_cma_stats *stats)
{
	const char *name = area               ? area_name(attached, area) :
			   attached->nr_areas ? attached->areas[0] :
						NULL;
	struct berth_control_stat *stat;
	uint64_t start_pfn = 0;
	int error;

	if (!name)
		return -BERTH_ENOENT;
	stat = malloc(sizeof(*stat));
	error = stat ? ask(attached, stat) : -BERTH_ENOMEM;
	for (unsigned i = 0; !error && i < stat->nr_areas; i++) {
		const struct berth_control_area *one = &stat->areas[i];

		if (strcmp(one->name, name) == 0)
			*stats = (struct berth_cma_stats){
				.name = name,
				.start_pfn = start_pfn,
				.nr_pages = one->bytes >> BERTH_PAGE_SHIFT,
				.claimed_pages = one->claimed_bytes >> BERTH_PAGE_SHIFT,
				.free_pages = one->free_bytes >> BERTH_PAGE_SHIFT,
				.lent_pages = one->lent_bytes >> BERTH_PAGE_SHIFT,
				.largest_free_pages = one->largest_free_bytes >> BERTH_PAGE_SHIFT,
				.largest_claimable_pages = one->largest_claimable_bytes >>
							   BERTH_PAGE_SHIFT,
			};
		start_pfn += one->bytes >> BERTH_PAGE_SHIFT; /* areas follow each other */
	}
	free(stat);
	return error;
}
