/* SPDX-License-Identifier: MIT */
/*
 * The tenant's side of the control socket.
 *
 * I1  A range is claimed for a connection (it zeroes) or for a token, or isn't claimed: it is released
 *     when its connection ends before the token is on its way, and when its token hangs up.
 * I2  Every descriptor is in the tables, or the lock is held: so a forked child finds all.
 * I3  A descriptor is used only while it is still the file that was put in the table: a program may
 *     close descriptors that it doesn't know, and open others under their numbers. A token lost in
 *     this way never hangs up for us: its range stays claimed.
 * I4  Nothing waits but the ppoll() of a round; tables are bounded.
 *
 * Cost of a round: one ppoll() of 1 + connections + tokens, and what there is to do.
 */
#define _GNU_SOURCE
#include "runtime/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 32
#define BACKLOG 64
#define ZERO_BYTES ((size_t)8 << 20) /* in one round: 1 .. 3 ms */
#define FIRST_PAUSE_NS 1000000ull    /* between tries; doubles */
#define LONGEST_PAUSE_NS 20000000ull
#define RELISTEN_NS 1000000000ull /* after the socket was lost, or descriptors ran out */

/* A descriptor, and the file that it was. */
struct own {
	int fd; /* -1: none */
	dev_t device;
	ino_t inode;
};

enum state {
	UNUSED,
	IDLE,    /* may send a request */
	PENDING, /* its claim is to be tried at next_ns */
	ZEROING, /* claimed; zeroed bytes are ready */
};

struct token {
	bool used;
	struct own socket; /* -1: not handed over yet, or lost */
	int32_t pid;
	uint64_t since_ns;
	char claimant[BERTH_CONTROL_NAME];
	struct berth_buffer buffer;
};

struct connection {
	enum state state;
	struct own socket;
	int32_t pid;
	uint64_t used_ns; /* when it last said something */
	/* Of its claim: */
	uint64_t order; /* of arrival */
	uint64_t deadline_ns, next_ns, pause_ns, paused_ns;
	size_t zeroed;
	struct token *token; /* ZEROING: the claim's, without a socket yet */
	struct berth_control_claim request;
	struct berth_control_claimed reply;
};

static struct {
	bool started;
	berth_lock_t lock; /* guards which descriptors are open: I2 */
	struct berth_server_params params;
	struct berth_control_hello hello;
	uid_t uid;
	char directory[PATH_MAX];
	struct own listener, pool;
	uint64_t accept_ns; /* not before */
	uint64_t next_order;
	uint64_t claims_ok, claims_failed;
	struct connection connections[CONNECTIONS + 1]; /* the last: to be refused */
	struct token tokens[BERTH_CONTROL_TOKENS];
	struct berth_control_stat stat; /* too large for a stack */
} server = { .listener.fd = -1, .pool.fd = -1 };

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void copy_text(char *to, size_t bytes, const char *from)
{
	size_t length = from ? strnlen(from, bytes - 1) : 0;

	memcpy(to, from ? from : "", length);
	to[length] = 0;
}

/* ---- Descriptors -------------------------------------------------------------------------------------- */

static struct own own(int fd)
{
	struct own one = { .fd = fd };
	struct stat file;

	if (fd >= 0 && fstat(fd, &file) == 0) {
		one.device = file.st_dev;
		one.inode = file.st_ino;
	}
	return one;
}

/* I3 */
static bool is_ours(const struct own *one)
{
	struct stat file;

	return one->fd >= 0 && fstat(one->fd, &file) == 0 && file.st_ino == one->inode &&
	       file.st_dev == one->device;
}

static void close_own(struct own *one)
{
	berth_lock(&server.lock);
	if (is_ours(one))
		close(one->fd);
	one->fd = -1;
	berth_unlock(&server.lock);
}

/* ---- Listening ------------------------------------------------------------------------------------------- */

/* Somebody answers at the address: a process with our pid in another PID namespace. */
static bool is_served(const struct sockaddr_un *address, socklen_t bytes)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool served;

	if (fd < 0)
		return false;
	served = connect(fd, (const struct sockaddr *)address, bytes) == 0 || errno == EAGAIN;
	close(fd);
	return served;
}

static int listen_in(int directory)
{
	struct sockaddr_un address;
	socklen_t bytes = berth__control_address(directory, server.hello.pid, &address);
	char name[24];
	int fd, error = 0;

	if (is_served(&address, bytes))
		return -BERTH_EEXIST;
	berth__control_name(server.hello.pid, name, sizeof(name));
	(void)unlinkat(directory, name, 0); /* an earlier process's, or our own before an exec */
	berth_lock(&server.lock);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0)
		fd = berth_fd_move_up(fd);
	if (fd < 0)
		error = -BERTH_ENOMEM;
	else if (bind(fd, (const struct sockaddr *)&address, bytes) != 0 ||
		 fchmodat(directory, name, 0600, 0) != 0 || listen(fd, BACKLOG) != 0)
		error = -BERTH_EPERM;
	if (error && fd >= 0)
		close(fd);
	else
		server.listener = own(fd);
	berth_unlock(&server.lock);
	return error;
}

static void say_serving(int error)
{
	const struct berth_server_observer *observer = server.params.observer;

	if (observer && observer->serving)
		observer->serving(
			error, error == -BERTH_EPERM ? "the control socket's directory is refused" :
			       error == -BERTH_EEXIST ? "another process serves under this pid" :
			       error                  ? "the control socket can't be opened" :
							"");
}

int berth__server_start(const struct berth_server_params *params)
{
	int directory, error;

	server.params = *params;
	server.uid = geteuid();
	server.listener.fd = -1;
	server.pool = own(params->pool->memory.fd);
	berth__control_header(&server.hello, BERTH_CONTROL_HELLO, sizeof(server.hello));
	server.hello.pid = (int32_t)getpid();
	server.hello.root_pid = params->root_pid;
	server.hello.tree = params->tree;
	server.hello.instance = clock_ns(CLOCK_MONOTONIC);
	copy_text(server.hello.program, sizeof(server.hello.program), params->program);
	directory = berth__control_directory(server.uid, true, server.directory,
					     sizeof(server.directory));
	error = directory < 0 ? directory : listen_in(directory);
	if (directory >= 0)
		close(directory);
	server.started = !error;
	say_serving(error);
	return error;
}

/* The program has closed our socket: under the same name again. */
static void listen_anew(uint64_t now)
{
	int directory = berth__control_open(server.directory, server.uid, true), error = directory;

	server.listener.fd = -1;
	if (directory >= 0) {
		error = listen_in(directory);
		close(directory);
	}
	if (error)
		server.accept_ns = now + RELISTEN_NS;
	say_serving(error < 0 ? error : 0);
}

void berth__server_stop(void)
{
	char name[24];
	int directory;

	if (!server.started || server.hello.pid != (int32_t)getpid())
		return;
	berth__control_name(server.hello.pid, name, sizeof(name));
	directory = berth__control_open(server.directory, server.uid, false);
	if (directory >= 0) {
		(void)unlinkat(directory, name, 0);
		close(directory);
	}
}

/* ---- Connections ------------------------------------------------------------------------------------------- */

static void give_back(const struct berth_buffer *buffer)
{
	if (berth__pool_release(server.params.pool, buffer) != 0)
		server.params.pool->port.panic(NULL, "a claim of the server's isn't there",
					       buffer->offset, buffer->bytes);
	for (unsigned i = 0; i < CONNECTIONS; i++) /* perhaps what they wait for */
		server.connections[i].next_ns = 0;
}

/* Whatever it was at, it ends, and nothing is left of it. */
static void hang_up(struct connection *connection)
{
	if (connection->state == ZEROING) {
		give_back(&connection->token->buffer);
		connection->token->used = false;
	}
	connection->state = UNUSED;
	close_own(&connection->socket);
}

/* False when it can't be delivered at once. `fds` may be NULL. */
static bool deliver(const struct connection *connection, void *message, size_t bytes,
		    const int *fds, unsigned nr_fds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control = { 0 };
	struct iovec part = { message, bytes };
	struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };
	struct cmsghdr *rights;

	if (nr_fds) {
		header.msg_control = &control;
		header.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		rights = CMSG_FIRSTHDR(&header);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(rights), fds, nr_fds * sizeof(int));
	}
	return sendmsg(connection->socket.fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) ==
	       (ssize_t)bytes;
}

/* Says why, if that is possible, and hangs up. */
static void refuse(struct connection *connection, int error)
{
	struct berth_control_header header;

	berth__control_header(&header, BERTH_CONTROL_ERROR, sizeof(header));
	header.error = error;
	(void)deliver(connection, &header, sizeof(header), NULL, 0);
	hang_up(connection);
}

/* A place for a new connection: a free one, else of who has been silent for longest. */
static struct connection *make_room(void)
{
	struct connection *oldest = NULL;

	for (unsigned i = 0; i < CONNECTIONS; i++) {
		struct connection *one = &server.connections[i];

		if (one->state == UNUSED)
			return one;
		if (one->state == IDLE && (!oldest || one->used_ns < oldest->used_ns))
			oldest = one;
	}
	if (oldest)
		hang_up(oldest);
	return oldest;
}

static bool is_allowed(int fd, int32_t *pid)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t bytes = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0)
		return false;
	*pid = (int32_t)peer.pid;
	return peer.uid == 0 || (peer.uid == server.uid && peer.uid == geteuid());
}

static void accept_one(uint64_t now)
{
	struct connection *place = make_room();
	bool full = !place;
	int fd;

	if (full)
		place = &server.connections[CONNECTIONS];
	berth_lock(&server.lock);
	fd = accept4(server.listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0) {
		*place = (struct connection){ .state = IDLE, .used_ns = now };
		place->socket = own(berth_fd_move_up(fd));
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		server.accept_ns = now + RELISTEN_NS; /* no descriptors, for instance */
	}
	berth_unlock(&server.lock);
	if (fd < 0)
		return;
	if (!is_allowed(place->socket.fd, &place->pid))
		refuse(place, -BERTH_EPERM);
	else if (full)
		refuse(place, -BERTH_EBUSY);
	else if (!deliver(place, &server.hello, sizeof(server.hello), NULL, 0))
		hang_up(place);
}

/* ---- Claims ----------------------------------------------------------------------------------------------- */

static bool has_hung_up(const struct connection *connection)
{
	struct pollfd look = { .fd = connection->socket.fd, .events = POLLRDHUP };

	return poll(&look, 1, 0) != 0;
}

static struct token *free_token(void)
{
	for (unsigned i = 0; i < BERTH_CONTROL_TOKENS; i++)
		if (!server.tokens[i].used)
			return &server.tokens[i];
	return NULL;
}

static void count_claim(const struct berth_control_claimed *reply)
{
	const struct berth_server_observer *observer = server.params.observer;

	if (reply->header.error)
		server.claims_failed++;
	else
		server.claims_ok++;
	if (observer && observer->claimed)
		observer->claimed(reply);
}

static void fail_claim(struct connection *connection, int error)
{
	struct berth_control_claimed *reply = &connection->reply;

	if (connection->state == ZEROING) {
		give_back(&connection->token->buffer);
		connection->token->used = false;
	}
	connection->state = IDLE;
	reply->header.error = error;
	reply->offset = 0;
	if (deliver(connection, reply, sizeof(*reply), NULL, 0))
		count_claim(reply);
	else
		hang_up(connection);
}

/* Sends the pool and the token. -ESRCH: the claimant can't be reached. */
static int send_token(struct connection *connection)
{
	struct token *token = connection->token;
	int pair[2], fds[2], error = 0;

	if (!is_ours(&server.pool))
		return -BERTH_ENOSYS; /* the program has closed the pool's file */
	berth_lock(&server.lock);     /* for both ends: a child's copy would keep the claim */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
		error = -BERTH_ENOMEM;
	} else {
		token->socket = own(berth_fd_move_up(pair[0]));
		fds[0] = server.pool.fd;
		fds[1] = pair[1];
		if (!deliver(connection, &connection->reply, sizeof(connection->reply), fds, 2))
			error = -BERTH_ESRCH;
		close(pair[1]);
	}
	berth_unlock(&server.lock);
	if (error == -BERTH_ESRCH)
		close_own(&token->socket);
	return error;
}

/* The range is ready: from here on it is the token's, if that gets there. */
static void hand_over(struct connection *connection)
{
	int error = send_token(connection);

	if (error == -BERTH_ESRCH) {
		hang_up(connection);
	} else if (error) {
		fail_claim(connection, error);
	} else {
		connection->token->since_ns = clock_ns(CLOCK_MONOTONIC);
		connection->state = IDLE;
		count_claim(&connection->reply);
	}
}

static void zero_some(struct connection *connection)
{
	const struct berth_buffer *buffer = &connection->token->buffer;
	size_t bytes = buffer->bytes - connection->zeroed;
	uint64_t began = clock_ns(CLOCK_MONOTONIC);

	if (has_hung_up(connection)) {
		hang_up(connection);
		return;
	}
	if (bytes > ZERO_BYTES)
		bytes = ZERO_BYTES;
	memset((char *)buffer->address + connection->zeroed, 0, bytes);
	connection->zeroed += bytes;
	connection->reply.zero_ns += clock_ns(CLOCK_MONOTONIC) - began;
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
	copy_text(reply->blocker_owner, sizeof(reply->blocker_owner), report->blocker_owner);
	copy_text(reply->blocker_holder, sizeof(reply->blocker_holder), report->blocker_holder);
}

static int try_range(struct connection *connection, struct token *token, uint64_t now)
{
	const struct berth_control_claim *request = &connection->request;
	uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	struct berth_claim_options options = {
		.align_bytes = request->align_bytes,
		.flags = (request->flags & BERTH_CONTROL_FREE_ONLY ? BERTH_CLAIM_FREE_ONLY : 0) |
			 (request->flags & BERTH_CONTROL_FIRST_FIT ? BERTH_CLAIM_FIRST_FIT : 0),
	};
	struct berth_claim_report report;
	int error;

	if (connection->deadline_ns) {
		options.flags |= BERTH_CLAIM_NORETRY;
		options.timeout_ns = connection->deadline_ns > now ? connection->deadline_ns - now :
								     1;
	}
	error = berth__pool_claim(server.params.pool, request->area[0] ? request->area : NULL,
				  request->bytes, &options, &token->buffer, &report);
	connection->reply.cpu_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
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
	uint64_t began = clock_ns(CLOCK_MONOTONIC), now;
	int error = -BERTH_EBUSY;

	if (has_hung_up(connection)) { /* also while this process was stopped */
		hang_up(connection);
		return;
	}
	if (connection->paused_ns) {
		reply->wait_ns += began - connection->paused_ns;
		reply->claim_ns += began - connection->paused_ns;
	}
	if (token)
		error = try_range(connection, token, began);
	now = clock_ns(CLOCK_MONOTONIC);
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
	copy_text(token->claimant, sizeof(token->claimant), connection->request.claimant);
	connection->token = token;
	connection->state = ZEROING;
	connection->zeroed = connection->request.flags & BERTH_CONTROL_RAW ? token->buffer.bytes :
									     0;
	reply->offset = token->buffer.offset;
	reply->bytes = token->buffer.bytes;
	copy_text(reply->area, sizeof(reply->area), token->buffer.area);
	if (connection->zeroed)
		hand_over(connection);
}

static void take_claim(struct connection *connection, const struct berth_control_claim *request,
		       uint64_t now)
{
	const unsigned all_flags = BERTH_CONTROL_RAW | BERTH_CONTROL_FREE_ONLY |
				   BERTH_CONTROL_FIRST_FIT;
	struct berth_control_claimed *reply = &connection->reply;

	connection->request = *request;
	connection->request.area[sizeof(request->area) - 1] = 0;
	connection->request.claimant[sizeof(request->claimant) - 1] = 0;
	connection->state = PENDING;
	connection->order = server.next_order++;
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
		.pool_bytes = server.params.pool->memory.bytes,
		.blocker_offset = UINT64_MAX,
	};
	berth__control_header(reply, BERTH_CONTROL_CLAIM_REPLY, sizeof(*reply));
	copy_text(reply->area, sizeof(reply->area), connection->request.area);
	if (request->flags & ~all_flags)
		fail_claim(connection, -BERTH_EINVAL);
}

/* ---- Other requests ------------------------------------------------------------------------------------------ */

static void describe_areas(struct berth_control_stat *stat)
{
	const struct berth_pool_impl *pool = server.params.pool;

	stat->nr_areas = pool->nr_areas;
	for (unsigned i = 0; i < pool->nr_areas; i++) {
		struct berth_control_area *area = &stat->areas[i];
		struct berth_cma_stats stats;

		berth_cma_stats(pool->areas[i].cma, &stats);
		copy_text(area->name, sizeof(area->name), pool->areas[i].name);
		area->bytes = stats.nr_pages << BERTH_PAGE_SHIFT;
		area->free_bytes = stats.free_pages << BERTH_PAGE_SHIFT;
		area->claimed_bytes = stats.claimed_pages << BERTH_PAGE_SHIFT;
		area->lent_bytes = stats.lent_pages << BERTH_PAGE_SHIFT;
		area->largest_free_bytes = stats.largest_free_pages << BERTH_PAGE_SHIFT;
		area->largest_claimable_bytes = stats.largest_claimable_pages << BERTH_PAGE_SHIFT;
	}
}

static void describe_claims(struct berth_control_stat *stat, uint64_t now)
{
	const struct berth_pool_impl *pool = server.params.pool;

	for (unsigned i = 0; i < BERTH_CONTROL_TOKENS; i++) {
		const struct token *token = &server.tokens[i];
		struct berth_control_held *held = &stat->held[stat->nr_held];

		if (!token->used || !token->since_ns)
			continue;
		copy_text(held->claimant, sizeof(held->claimant), token->claimant);
		held->claimant_pid = token->pid;
		while (held->area + 1 < pool->nr_areas &&
		       pool->areas[held->area].name != token->buffer.area)
			held->area++;
		held->offset = token->buffer.offset;
		held->bytes = token->buffer.bytes;
		held->held_ns = now - token->since_ns;
		stat->nr_held++;
	}
	for (unsigned i = 0; i < CONNECTIONS; i++)
		stat->nr_pending += server.connections[i].state == PENDING;
}

static void answer_stat(struct connection *connection, uint64_t now)
{
	const struct berth_server_observer *observer = server.params.observer;
	struct berth_control_stat *stat = &server.stat;
	struct berth_pool_stats stats;

	berth__pool_stats(server.params.pool, &stats);
	*stat = (struct berth_control_stat){
		.pid = server.hello.pid,
		.root_pid = server.hello.root_pid,
		.tree = server.hello.tree,
		.instance = server.hello.instance,
		.pool_bytes = stats.pool_bytes,
		.area_bytes = stats.area_bytes,
		.free_bytes = stats.free_bytes,
		.claimed_bytes = stats.claimed_bytes,
		.used_bytes = stats.used_bytes,
		.mapped_bytes = stats.mapped_bytes,
		.lent_bytes = stats.lent_bytes,
		.metadata_bytes = stats.metadata_bytes,
		.claims_ok = server.claims_ok,
		.claims_failed = server.claims_failed,
		.moved_bytes = stats.moved_bytes,
		.moved_runs = stats.moved_runs,
		.stalled_runs = stats.stalled_runs,
		.moves_skipped = stats.moves_skipped,
		.longest_stall_ns = stats.longest_stall_ns,
		.pins = stats.pins,
	};
	berth__control_header(stat, BERTH_CONTROL_STAT_REPLY, sizeof(*stat));
	copy_text(stat->program, sizeof(stat->program), server.hello.program);
	copy_text(stat->mover, sizeof(stat->mover), stats.mover);
	describe_areas(stat);
	describe_claims(stat, now);
	stat->claims_held = stat->nr_held;
	if (observer && observer->describe)
		observer->describe(stat);
	if (!deliver(connection, stat, sizeof(*stat), NULL, 0))
		hang_up(connection);
}

static void answer_attach(struct connection *connection)
{
	struct berth_control_attached reply = {
		.pool_bytes = server.params.pool->memory.bytes,
		.instance = server.hello.instance,
	};
	bool ours = is_ours(&server.pool);

	berth__control_header(&reply, BERTH_CONTROL_ATTACH_REPLY, sizeof(reply));
	reply.header.error = ours ? 0 : -BERTH_ENOSYS;
	if (!deliver(connection, &reply, sizeof(reply), &server.pool.fd, ours ? 1 : 0))
		hang_up(connection);
}

/* One datagram. What isn't a request as it should be ends the connection. */
static void take_request(struct connection *connection, uint64_t now)
{
	union {
		struct berth_control_header header;
		struct berth_control_claim claim;
	} request;
	const struct berth_control_header *header = &request.header;
	/* MSG_TRUNC: the datagram's real length. Descriptors in it are dropped by the kernel. */
	ssize_t bytes = recv(connection->socket.fd, &request, sizeof(request),
			     MSG_DONTWAIT | MSG_TRUNC);

	if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	connection->used_ns = now;
	if (bytes <= 0)
		hang_up(connection);
	else if (bytes < (ssize_t)sizeof(*header) || header->magic != BERTH_CONTROL_MAGIC)
		refuse(connection, -BERTH_EINVAL);
	else if (header->version != BERTH_CONTROL_VERSION)
		refuse(connection, -BERTH_EPROTO);
	else if (header->bytes != (size_t)bytes)
		refuse(connection, -BERTH_EINVAL);
	else if (header->type == BERTH_CONTROL_STAT && bytes == sizeof(*header))
		answer_stat(connection, now);
	else if (header->type == BERTH_CONTROL_ATTACH && bytes == sizeof(*header))
		answer_attach(connection);
	else if (header->type == BERTH_CONTROL_CLAIM && bytes == sizeof(request.claim))
		take_claim(connection, &request.claim, now);
	else
		refuse(connection, -BERTH_EINVAL);
}

/* ---- A round -------------------------------------------------------------------------------------------------- */

/* Whose turn it is: of the claims that are due, the one that came first. */
static struct connection *first_due(uint64_t now)
{
	struct connection *first = NULL;

	for (unsigned i = 0; i < CONNECTIONS; i++) {
		struct connection *one = &server.connections[i];

		if ((one->state == ZEROING || (one->state == PENDING && one->next_ns <= now)) &&
		    (!first || one->order < first->order))
			first = one;
	}
	return first;
}

/* When to look again though nobody says anything. */
static uint64_t next_wake(uint64_t now, uint64_t until_ns)
{
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		const struct connection *one = &server.connections[i];

		if (one->state == ZEROING)
			return 0;
		if (one->state == PENDING && one->next_ns < until_ns)
			until_ns = one->next_ns;
	}
	if (server.started && (server.listener.fd < 0 || server.accept_ns > now) &&
	    server.accept_ns < until_ns)
		until_ns = server.accept_ns;
	return until_ns;
}

struct waited {
	struct pollfd fds[1 + CONNECTIONS + BERTH_CONTROL_TOKENS];
	struct connection *connections[CONNECTIONS];
	struct token *tokens[BERTH_CONTROL_TOKENS];
	unsigned nr_connections, nr_tokens;
};

static void collect(struct waited *waited, uint64_t now)
{
	unsigned nr = 1;

	waited->nr_connections = waited->nr_tokens = 0;
	waited->fds[0] = (struct pollfd){ .fd = -1, .events = POLLIN };
	if (server.started && server.accept_ns <= now)
		waited->fds[0].fd = server.listener.fd;
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		struct connection *one = &server.connections[i];

		if (one->state == UNUSED)
			continue;
		waited->connections[waited->nr_connections++] = one;
		waited->fds[nr++] = (struct pollfd){
			.fd = one->socket.fd,
			.events = one->state == IDLE ? POLLIN | POLLRDHUP : POLLRDHUP,
		};
	}
	for (unsigned i = 0; i < BERTH_CONTROL_TOKENS; i++) {
		struct token *one = &server.tokens[i];

		if (!one->used || one->socket.fd < 0)
			continue;
		waited->tokens[waited->nr_tokens++] = one;
		waited->fds[nr++] = (struct pollfd){ .fd = one->socket.fd }; /* POLLHUP only */
	}
}

/* The token's last holder is gone, unless it isn't our token any more (I3). */
static void token_has_hung_up(struct token *token)
{
	const struct berth_server_observer *observer = server.params.observer;

	if (!is_ours(&token->socket)) {
		token->socket.fd = -1;
		return;
	}
	close_own(&token->socket);
	token->used = false;
	give_back(&token->buffer);
	if (observer && observer->released)
		observer->released();
}

static void serve(const struct waited *waited, uint64_t now)
{
	const struct pollfd *connections = &waited->fds[1];
	const struct pollfd *tokens = &connections[waited->nr_connections];
	struct connection *due;

	for (unsigned i = 0; i < waited->nr_tokens; i++)
		if (tokens[i].revents)
			token_has_hung_up(waited->tokens[i]);
	for (unsigned i = 0; i < waited->nr_connections; i++) {
		struct connection *one = waited->connections[i];

		if (!connections[i].revents)
			continue;
		if (is_ours(&one->socket) && one->state == IDLE && connections[i].revents & POLLIN)
			take_request(one, now);
		else
			hang_up(one);
	}
	if (waited->fds[0].revents & POLLIN)
		accept_one(now);
	else if (server.started && server.listener.fd < 0 && server.accept_ns <= now)
		listen_anew(now);
	due = first_due(now);
	if (due && due->state == ZEROING)
		zero_some(due);
	else if (due)
		try_claim(due);
}

void berth__server_round(uint64_t until_ns)
{
	static struct waited waited;
	uint64_t now = clock_ns(CLOCK_MONOTONIC), wake, left;
	struct timespec timeout;

	if (server.started && !is_ours(&server.listener))
		server.listener.fd = -1; /* the program has closed it */
	wake = next_wake(now, until_ns);
	collect(&waited, now);
	left = wake > now ? wake - now : 0;
	timeout.tv_sec = (time_t)(left / 1000000000u);
	timeout.tv_nsec = (long)(left % 1000000000u);
	if (ppoll(waited.fds, 1 + waited.nr_connections + waited.nr_tokens, &timeout, NULL) < 0)
		return;
	serve(&waited, clock_ns(CLOCK_MONOTONIC));
}

/* ---- fork ------------------------------------------------------------------------------------------------------ */

void berth__server_fork_prepare(void)
{
	berth_lock(&server.lock);
}

void berth__server_fork_parent(void)
{
	berth_unlock(&server.lock);
}

static void forget(struct own *one)
{
	if (is_ours(one))
		close(one->fd);
	one->fd = -1;
}

void berth__server_forget(void)
{
	for (unsigned i = 0; i <= CONNECTIONS; i++) {
		if (server.connections[i].state != UNUSED)
			forget(&server.connections[i].socket);
		server.connections[i].state = UNUSED;
	}
	for (unsigned i = 0; i < BERTH_CONTROL_TOKENS; i++) {
		if (server.tokens[i].used)
			forget(&server.tokens[i].socket);
		server.tokens[i] = (struct token){ 0 };
	}
	if (server.started)
		forget(&server.listener);
	server.started = false;
	server.listener.fd = server.pool.fd = -1;
	server.claims_ok = server.claims_failed = 0;
	server.lock = (berth_lock_t){ 0 };
}
