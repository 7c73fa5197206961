/* SPDX-License-Identifier: MIT */
/*
 * Claims for other processes: tried until the deadline, zeroed, handed over with a token.
 *
 *	PENDING -> try -> (holders, claims in place: later again) -> ZEROING, 8 MiB a round -> token
 *
 * I1  A claimed range is a token's: at first one without a socket, its connection's; when the message
 *     with the socket's other end is on its way, nobody's but the token's. If that isn't delivered, or
 *     the connection ends before, the range returns.
 * I2  Before each step the claimant is looked for: one that has hung up, also while this process was
 *     stopped, gets nothing.
 */
#define _GNU_SOURCE
#include "port/linux/fd.h"
#include "runtime/server_internal.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "port/linux/raw.h"

#define ZERO_BYTES ((size_t)8 << 20) /* in one round: 1 .. 3 ms */
#define FIRST_PAUSE_NS 1000000ull    /* between tries; doubles */
#define LONGEST_PAUSE_NS 20000000ull

void berth__server_give_back(struct token *token)
{
	const struct berth_buffer *buffer = &token->buffer;
	struct berth_pool_impl *pool = berth__server.params.pool;

	if (berth__pool_release(pool, buffer) != 0)
		pool->port.panic(NULL, "a claim of the server's isn't there", buffer->offset,
				 buffer->bytes);
	token->used = false;
	for (unsigned i = 0; i < SERVER_CONNECTIONS; i++) /* perhaps what they wait for */
		berth__server.connections[i].next_ns = 0;
}

void berth__server_release(struct token *token)
{
	const struct berth_server_observer *observer = berth__server.params.observer;

	if (!berth__server_is_ours(&token->socket)) {
		token->socket.fd = -1; /* the program has closed it: nobody will tell us any more */
		return;
	}
	berth__server_close(&token->socket);
	berth__server_give_back(token);
	if (observer && observer->released)
		observer->released();
}

static bool has_hung_up(const struct connection *connection)
{
	struct pollfd look = { .fd = connection->socket.fd, .events = POLLRDHUP };

	return poll(&look, 1, 0) != 0;
}

static struct token *free_token(void)
{
	for (unsigned i = 0; i < BERTH_CONTROL_TOKENS; i++)
		if (!berth__server.tokens[i].used)
			return &berth__server.tokens[i];
	return NULL;
}

static void count_claim(const struct berth_control_claimed *reply)
{
	const struct berth_server_observer *observer = berth__server.params.observer;

	if (reply->header.error)
		berth__server.claims_failed++;
	else
		berth__server.claims_ok++;
	if (observer && observer->claimed)
		observer->claimed(reply);
}

static void fail_claim(struct connection *connection, int error)
{
	struct berth_control_claimed *reply = &connection->reply;

	if (connection->state == ZEROING)
		berth__server_give_back(connection->token);
	connection->state = IDLE;
	reply->header.error = error;
	reply->offset = 0;
	if (berth__server_deliver(connection, reply, sizeof(*reply), NULL, 0))
		count_claim(reply);
	else
		berth__server_hang_up(connection);
}

/* Sends the pool and the token. -ESRCH: the claimant can't be reached. */
static int send_token(struct connection *connection)
{
	struct token *token = connection->token;
	int pair[2], fds[2], error = 0;

	if (!berth__server_is_ours(&berth__server.pool))
		return -BERTH_ENOSYS; /* the program has closed the pool's file */
	berth_mutex_lock(
		&berth__server.lock); /* for both ends: a child's copy would keep the claim */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
		error = -BERTH_ENOMEM;
	} else {
		token->socket = berth__server_own(berth_fd_move_up(pair[0]));
		fds[0] = berth__server.pool.fd;
		fds[1] = pair[1];
		if (!berth__server_deliver(connection, &connection->reply,
					   sizeof(connection->reply), fds, 2))
			error = -BERTH_ESRCH;
		(void)berth_raw1(SYS_close, pair[1]);
	}
	berth_mutex_unlock(&berth__server.lock);
	if (error == -BERTH_ESRCH)
		berth__server_close(&token->socket);
	return error;
}

/* The range is ready: from here on it is the token's, if that gets there. */
static void hand_over(struct connection *connection)
{
	int error = send_token(connection);

	if (error == -BERTH_ESRCH) {
		berth__server_hang_up(connection);
	} else if (error) {
		fail_claim(connection, error);
	} else {
		connection->token->since_ns = server_clock_ns(CLOCK_MONOTONIC);
		connection->state = IDLE;
		count_claim(&connection->reply);
	}
}

static void zero_some(struct connection *connection)
{
	const struct berth_buffer *buffer = &connection->token->buffer;
	size_t bytes = buffer->bytes - connection->zeroed;
	uint64_t began = server_clock_ns(CLOCK_MONOTONIC);

	if (has_hung_up(connection)) {
		berth__server_hang_up(connection);
		return;
	}
	if (bytes > ZERO_BYTES)
		bytes = ZERO_BYTES;
	memset((char *)buffer->address + connection->zeroed, 0, bytes);
	connection->zeroed += bytes;
	connection->reply.zero_ns += server_clock_ns(CLOCK_MONOTONIC) - began;
	if (connection->zeroed == buffer->bytes)
		hand_over(connection);
}

/* What one try did, added to what earlier ones did. */
static void add_report(struct berth_control_claimed *reply, const struct berth_claim_report *report)
{
	reply->moved_bytes += report->moved_pages << BERTH_PAGE_SHIFT;
	reply->free_bytes_taken += report->free_pages_taken << BERTH_PAGE_SHIFT;
	reply->busy_blocks += report->busy_blocks;
	reply->tries += report->tries;
	for (unsigned i = 0; i < BERTH_CONTROL_PHASES; i++)
		reply->phase_ns[i] += report->phase_ns[i];
	reply->largest_free_bytes = report->largest_free_pages << BERTH_PAGE_SHIFT;
	reply->largest_claimable_bytes = report->largest_claimable_pages << BERTH_PAGE_SHIFT;
	/* Running out of time says nothing about who was in the way: that stays. */
	if (report->error == -BERTH_EAGAIN && report->blocker_pfn == BERTH_PFN_NONE)
		return;
	reply->blocker_offset = report->blocker_pfn == BERTH_PFN_NONE ?
					UINT64_MAX :
					report->blocker_pfn << BERTH_PAGE_SHIFT;
	reply->blocker_bytes = report->blocker_pages << BERTH_PAGE_SHIFT;
	server_copy_text(reply->blocker_owner, sizeof(reply->blocker_owner), report->blocker_owner);
	server_copy_text(reply->blocker_holder, sizeof(reply->blocker_holder),
			 report->blocker_holder);
}

static int try_range(struct connection *connection, struct token *token, uint64_t now)
{
	const struct berth_control_claim *request = &connection->request;
	uint64_t cpu = server_clock_ns(CLOCK_THREAD_CPUTIME_ID);
	struct berth_claim_options options = {
		.align_bytes = request->align_bytes,
		.flags = (request->flags & BERTH_CONTROL_FREE_ONLY ? BERTH_CLAIM_FREE_ONLY : 0) |
			 (request->flags & BERTH_CONTROL_FIRST_FIT ? BERTH_CLAIM_FIRST_FIT : 0),
		.name = request->claimant,
	};
	const char *device = request->flags & BERTH_CONTROL_DEVICE ? request->area : NULL;
	struct berth_claim_report report;
	int error;

	if (connection->deadline_ns) {
		options.flags |= BERTH_CLAIM_NORETRY;
		options.timeout_ns = connection->deadline_ns > now ? connection->deadline_ns - now :
								     1;
	}
	error = berth__pool_claim(berth__server.params.pool,
				  request->area[0] ? request->area : NULL, device, request->bytes,
				  &options, &token->buffer, &report);
	connection->reply.cpu_ns += server_clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
	add_report(&connection->reply, &report);
	return error;
}

/* Holders and claims in place may go away before the deadline. */
static bool try_again_later(struct connection *connection, int error, uint64_t now)
{
	uint64_t pause = connection->pause_ns;

	if ((error != -BERTH_EBUSY && error != -BERTH_ENOSPC) || now >= connection->deadline_ns)
		return false;
	if (pause > connection->deadline_ns - now)
		pause = connection->deadline_ns - now; /* a last try at the deadline */
	connection->next_ns = now + pause;
	connection->paused_ns = now;
	connection->pause_ns = pause * 2 < LONGEST_PAUSE_NS ? pause * 2 : LONGEST_PAUSE_NS;
	connection->reply.retries++;
	return true;
}

static void try_claim(struct connection *connection)
{
	struct berth_control_claimed *reply = &connection->reply;
	struct token *token = free_token();
	uint64_t began = server_clock_ns(CLOCK_MONOTONIC), now;
	int error = -BERTH_EBUSY;

	if (has_hung_up(connection)) { /* also while this process was stopped */
		berth__server_hang_up(connection);
		return;
	}
	if (connection->paused_ns) {
		reply->wait_ns += began - connection->paused_ns;
		reply->claim_ns += began - connection->paused_ns;
	}
	if (token)
		error = try_range(connection, token, began);
	now = server_clock_ns(CLOCK_MONOTONIC);
	reply->claim_ns += now - began;
	if (error) {
		if (!try_again_later(connection, error, now))
			fail_claim(connection, error == -BERTH_EBUSY && connection->deadline_ns ?
						       -BERTH_EAGAIN :
						       error);
		return;
	}
	token->used = true;
	token->socket.fd = -1;
	token->since_ns = 0; /* not handed over yet */
	token->pid = connection->pid;
	server_copy_text(token->claimant, sizeof(token->claimant), connection->request.claimant);
	connection->token = token;
	connection->state = ZEROING;
	connection->zeroed = connection->request.flags & BERTH_CONTROL_RAW ? token->buffer.bytes :
									     0;
	reply->offset = token->buffer.offset;
	reply->bytes = token->buffer.bytes;
	server_copy_text(reply->area, sizeof(reply->area), token->buffer.area);
	if (connection->zeroed)
		hand_over(connection);
}

/* The area that is meant, or NULL. */
static const char *area_name(const struct berth_control_claim *request)
{
	const struct berth_pool_area *area;

	if (!(request->flags & BERTH_CONTROL_DEVICE))
		return request->area;
	area = berth__pool_area_of(berth__server.params.pool, request->area);
	return area ? area->name : NULL;
}

void berth__server_take_claim(struct connection *connection,
			      const struct berth_control_claim *request, uint64_t now)
{
	const unsigned all_flags = BERTH_CONTROL_RAW | BERTH_CONTROL_FREE_ONLY |
				   BERTH_CONTROL_FIRST_FIT | BERTH_CONTROL_DEVICE;
	struct berth_control_claimed *reply = &connection->reply;

	connection->request = *request;
	connection->request.area[sizeof(request->area) - 1] = 0;
	connection->request.claimant[sizeof(request->claimant) - 1] = 0;
	connection->state = PENDING;
	connection->order = berth__server.next_order++;
	connection->next_ns = connection->paused_ns = 0;
	connection->pause_ns = FIRST_PAUSE_NS;
	connection->deadline_ns = !request->timeout_ns ? 0 :
				  request->timeout_ns < UINT64_MAX - now ?
							 now + request->timeout_ns :
							 UINT64_MAX;
	*reply = (struct berth_control_claimed){
		.bytes = request->bytes < SIZE_MAX - BERTH_PAGE_SIZE ?
				 (request->bytes + BERTH_PAGE_SIZE - 1) &
					 -(uint64_t)BERTH_PAGE_SIZE :
				 request->bytes,
		.pool_bytes = berth__server.params.pool->memory.bytes,
		.blocker_offset = UINT64_MAX,
	};
	berth__control_header(reply, BERTH_CONTROL_CLAIM_REPLY, sizeof(*reply));
	server_copy_text(reply->area, sizeof(reply->area), area_name(&connection->request));
	if (request->flags & ~all_flags)
		fail_claim(connection, -BERTH_EINVAL);
}

/* Whose turn it is: of the claims that are due, the one that came first. */
static struct connection *first_due(uint64_t now)
{
	struct connection *first = NULL;

	for (unsigned i = 0; i < SERVER_CONNECTIONS; i++) {
		struct connection *one = &berth__server.connections[i];

		if ((one->state == ZEROING || (one->state == PENDING && one->next_ns <= now)) &&
		    (!first || one->order < first->order))
			first = one;
	}
	return first;
}

void berth__server_step(uint64_t now)
{
	struct connection *due = first_due(now);

	if (due && due->state == ZEROING)
		zero_some(due);
	else if (due)
		try_claim(due);
}
