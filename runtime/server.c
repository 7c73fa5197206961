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
#include "runtime/server_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "port/linux/fd.h"
#include "port/linux/raw.h"

#define BACKLOG 64
#define RELISTEN_NS 1000000000ull /* after the socket was lost, or descriptors ran out */

struct berth_server berth__server = { .listener.fd = -1, .pool.fd = -1 };

/* ---- Descriptors -------------------------------------------------------------------------------------- */

struct own berth__server_own(int fd)
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
bool berth__server_is_ours(const struct own *one)
{
	struct stat file;

	return one->fd >= 0 && fstat(one->fd, &file) == 0 && file.st_ino == one->inode &&
	       file.st_dev == one->device;
}

void berth__server_close(struct own *one)
{
	berth_mutex_lock(&berth__server.lock);
	if (berth__server_is_ours(one))
		berth_fd_close(one->fd);
	one->fd = -1;
	berth_mutex_unlock(&berth__server.lock);
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
	(void)berth_raw1(SYS_close, fd);
	return served;
}

static int listen_in(int directory)
{
	struct sockaddr_un address;
	socklen_t bytes = berth__control_address(directory, berth__server.hello.pid, &address);
	char name[24];
	int fd, error = 0;

	if (is_served(&address, bytes))
		return -BERTH_EEXIST;
	berth__control_name(berth__server.hello.pid, name, sizeof(name));
	(void)unlinkat(directory, name, 0); /* an earlier process's, or our own before an exec */
	berth_mutex_lock(&berth__server.lock);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0)
		fd = berth_fd_move_up(fd);
	if (fd < 0)
		error = -BERTH_ENOMEM;
	else if (bind(fd, (const struct sockaddr *)&address, bytes) != 0 ||
		 fchmodat(directory, name, 0600, 0) != 0 || listen(fd, BACKLOG) != 0)
		error = -BERTH_EPERM;
	if (error && fd >= 0)
		berth_fd_close(fd);
	else
		berth__server.listener = berth__server_own(fd);
	berth_mutex_unlock(&berth__server.lock);
	return error;
}

static void say_serving(int error)
{
	const struct berth_server_observer *observer = berth__server.params.observer;

	if (observer && observer->serving)
		observer->serving(
			error, error == -BERTH_EPERM ? "the control socket's directory is refused" :
			       error == -BERTH_EEXIST ? "another process serves under this pid" :
			       error                  ? "the control socket can't be opened" :
							"");
}

/*
 * A forked child looks where its parent did: other threads may change the environment by now. When it
 * has become another user meanwhile, that user's usual place.
 */
static int find_directory(uid_t before)
{
	const uid_t uid = berth__server.uid;

	if (!berth__server.directory[0])
		return berth__control_directory(uid, true, berth__server.directory,
						sizeof(berth__server.directory));
	if (uid != before)
		(void)berth__control_usual_path(uid, berth__server.directory,
						sizeof(berth__server.directory));
	return berth__control_open(berth__server.directory, uid, true);
}

int berth__server_start(const struct berth_server_params *params)
{
	const uid_t before = berth__server.uid;
	int directory, error;

	berth__server.params = *params;
	berth__server.uid = geteuid();
	berth__server.listener.fd = -1;
	berth__server.pool = berth__server_own(params->pool->memory.fd);
	berth__control_header(&berth__server.hello, BERTH_CONTROL_HELLO,
			      sizeof(berth__server.hello));
	berth__server.hello.pid = (int32_t)getpid();
	berth__server.hello.root_pid = params->root_pid;
	berth__server.hello.tree = params->tree;
	berth__server.hello.instance = server_clock_ns(CLOCK_MONOTONIC);
	server_copy_text(berth__server.hello.program, sizeof(berth__server.hello.program),
			 params->program);
	directory = find_directory(before);
	error = directory < 0 ? directory : listen_in(directory);
	if (directory >= 0)
		(void)berth_raw1(SYS_close, directory);
	berth__server.started = !error;
	say_serving(error);
	return error;
}

/* The program has closed our socket: under the same name again. */
static void listen_anew(uint64_t now)
{
	int directory = berth__control_open(berth__server.directory, berth__server.uid, true),
	    error = directory;

	berth__server.listener.fd = -1;
	if (directory >= 0) {
		error = listen_in(directory);
		(void)berth_raw1(SYS_close, directory);
	}
	if (error)
		berth__server.accept_ns = now + RELISTEN_NS;
	say_serving(error < 0 ? error : 0);
}

void berth__server_stop(void)
{
	char name[24];
	int directory;

	if (!berth__server.started || berth__server.hello.pid != (int32_t)getpid())
		return;
	berth__control_name(berth__server.hello.pid, name, sizeof(name));
	directory = berth__control_open(berth__server.directory, berth__server.uid, false);
	if (directory >= 0) {
		(void)unlinkat(directory, name, 0);
		(void)berth_raw1(SYS_close, directory);
	}
}

/* ---- Connections ------------------------------------------------------------------------------------------- */

void berth__server_hang_up(struct connection *connection)
{
	if (connection->state == ZEROING)
		berth__server_give_back(connection->token);
	connection->state = UNUSED;
	berth__server_close(&connection->socket);
}

/* False when it can't be delivered at once. `fds` may be NULL. */
bool berth__server_deliver(const struct connection *connection, void *message, size_t bytes,
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
	(void)berth__server_deliver(connection, &header, sizeof(header), NULL, 0);
	berth__server_hang_up(connection);
}

/* A place for a new connection: a free one, else of who has been silent for longest. */
static struct connection *make_room(void)
{
	struct connection *oldest = NULL;

	for (unsigned i = 0; i < SERVER_CONNECTIONS; i++) {
		struct connection *one = &berth__server.connections[i];

		if (one->state == UNUSED)
			return one;
		if (one->state == IDLE && (!oldest || one->used_ns < oldest->used_ns))
			oldest = one;
	}
	if (oldest)
		berth__server_hang_up(oldest);
	return oldest;
}

static bool is_allowed(int fd, int32_t *pid)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t bytes = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0)
		return false;
	*pid = (int32_t)peer.pid;
	return peer.uid == 0 || (peer.uid == berth__server.uid && peer.uid == geteuid());
}

static void accept_one(uint64_t now)
{
	struct connection *place = make_room();
	bool full = !place;
	int fd;

	if (full)
		place = &berth__server.connections[SERVER_CONNECTIONS];
	berth_mutex_lock(&berth__server.lock);
	fd = accept4(berth__server.listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0) {
		*place = (struct connection){ .state = IDLE, .used_ns = now };
		place->socket = berth__server_own(berth_fd_move_up(fd));
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		berth__server.accept_ns = now + RELISTEN_NS; /* no descriptors, for instance */
	}
	berth_mutex_unlock(&berth__server.lock);
	if (fd < 0)
		return;
	if (!is_allowed(place->socket.fd, &place->pid))
		refuse(place, -BERTH_EPERM);
	else if (full)
		refuse(place, -BERTH_EBUSY);
	else if (!berth__server_deliver(place, &berth__server.hello, sizeof(berth__server.hello),
					NULL, 0))
		berth__server_hang_up(place);
}

/* ---- Other requests ------------------------------------------------------------------------------------------ */

static void describe_areas(struct berth_control_stat *stat)
{
	const struct berth_pool_impl *pool = berth__server.params.pool;

	stat->nr_areas = pool->nr_areas;
	for (unsigned i = 0; i < pool->nr_areas; i++) {
		struct berth_control_area *area = &stat->areas[i];
		struct berth_cma_stats stats;

		berth_contig_area_stats(pool->areas[i].area, &stats);
		server_copy_text(area->name, sizeof(area->name), pool->areas[i].name);
		area->bytes = stats.nr_pages << BERTH_PAGE_SHIFT;
		area->free_bytes = stats.free_pages << BERTH_PAGE_SHIFT;
		area->claimed_bytes = stats.claimed_pages << BERTH_PAGE_SHIFT;
		area->lent_bytes = stats.lent_pages << BERTH_PAGE_SHIFT;
		area->largest_free_bytes = stats.largest_free_pages << BERTH_PAGE_SHIFT;
		area->largest_claimable_bytes = stats.largest_claimable_pages << BERTH_PAGE_SHIFT;
		server_copy_text(area->policy, sizeof(area->policy),
				 berth_contig_area_policy(pool->areas[i].area)->name);
		area->keep_bytes = stats.lend_min_pages << BERTH_PAGE_SHIFT;
		area->lend = (uint32_t)stats.lend;
	}
}

static void describe_times(struct berth_control_stat *stat)
{
	struct berth_histogram claims;

	berth__pool_claim_times(berth__server.params.pool, &claims);
	stat->claim_p50_ns = berth_histogram_percentile(&claims, 500000);
	stat->claim_p99_ns = berth_histogram_percentile(&claims, 990000);
	stat->claim_max_ns = claims.max;
}

static void describe_claims(struct berth_control_stat *stat, uint64_t now)
{
	const struct berth_pool_impl *pool = berth__server.params.pool;

	for (unsigned i = 0; i < BERTH_CONTROL_TOKENS; i++) {
		const struct token *token = &berth__server.tokens[i];
		struct berth_control_held *held = &stat->held[stat->nr_held];

		if (!token->used || !token->since_ns)
			continue;
		server_copy_text(held->claimant, sizeof(held->claimant), token->claimant);
		held->claimant_pid = token->pid;
		while (held->area + 1 < pool->nr_areas &&
		       pool->areas[held->area].name != token->buffer.area)
			held->area++;
		held->offset = token->buffer.offset;
		held->bytes = token->buffer.bytes;
		held->held_ns = now - token->since_ns;
		stat->nr_held++;
	}
	for (unsigned i = 0; i < SERVER_CONNECTIONS; i++)
		stat->nr_pending += berth__server.connections[i].state == PENDING;
}

static void answer_stat(struct connection *connection, uint64_t now)
{
	const struct berth_server_observer *observer = berth__server.params.observer;
	struct berth_control_stat *stat = &berth__server.stat;
	struct berth_pool_stats stats;

	berth__pool_stats(berth__server.params.pool, &stats);
	*stat = (struct berth_control_stat){
		.pid = berth__server.hello.pid,
		.root_pid = berth__server.hello.root_pid,
		.tree = berth__server.hello.tree,
		.instance = berth__server.hello.instance,
		.pool_bytes = stats.pool_bytes,
		.area_bytes = stats.area_bytes,
		.free_bytes = stats.free_bytes,
		.claimed_bytes = stats.claimed_bytes,
		.used_bytes = stats.used_bytes,
		.mapped_bytes = stats.mapped_bytes,
		.lent_bytes = stats.lent_bytes,
		.metadata_bytes = stats.metadata_bytes,
		.claims_ok = berth__server.claims_ok,
		.claims_failed = berth__server.claims_failed,
		.moved_bytes = stats.moved_bytes,
		.moved_runs = stats.moved_runs,
		.stalled_runs = stats.stalled_runs,
		.moves_skipped = stats.moves_skipped,
		.longest_stall_ns = stats.longest_stall_ns,
		.pins = stats.pins,
	};
	berth__control_header(stat, BERTH_CONTROL_STAT_REPLY, sizeof(*stat));
	server_copy_text(stat->program, sizeof(stat->program), berth__server.hello.program);
	server_copy_text(stat->mover, sizeof(stat->mover), stats.mover);
	describe_areas(stat);
	describe_times(stat);
	describe_claims(stat, now);
	stat->claims_held = stat->nr_held;
	if (observer && observer->describe)
		observer->describe(stat);
	if (!berth__server_deliver(connection, stat, sizeof(*stat), NULL, 0))
		berth__server_hang_up(connection);
}

static void answer_attach(struct connection *connection)
{
	struct berth_control_attached reply = {
		.pool_bytes = berth__server.params.pool->memory.bytes,
		.instance = berth__server.hello.instance,
	};
	bool ours = berth__server_is_ours(&berth__server.pool);

	berth__control_header(&reply, BERTH_CONTROL_ATTACH_REPLY, sizeof(reply));
	reply.header.error = ours ? 0 : -BERTH_ENOSYS;
	if (!berth__server_deliver(connection, &reply, sizeof(reply), &berth__server.pool.fd,
				   ours ? 1 : 0))
		berth__server_hang_up(connection);
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
		berth__server_hang_up(connection);
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
		berth__server_take_claim(connection, &request.claim, now);
	else
		refuse(connection, -BERTH_EINVAL);
}

/* ---- A round -------------------------------------------------------------------------------------------------- */

/* When to look again though nobody says anything. */
static uint64_t next_wake(uint64_t now, uint64_t until_ns)
{
	for (unsigned i = 0; i < SERVER_CONNECTIONS; i++) {
		const struct connection *one = &berth__server.connections[i];

		if (one->state == ZEROING)
			return 0;
		if (one->state == PENDING && one->next_ns < until_ns)
			until_ns = one->next_ns;
	}
	if (berth__server.started &&
	    (berth__server.listener.fd < 0 || berth__server.accept_ns > now) &&
	    berth__server.accept_ns < until_ns)
		until_ns = berth__server.accept_ns;
	return until_ns;
}

struct waited {
	struct pollfd fds[1 + SERVER_CONNECTIONS + BERTH_CONTROL_TOKENS];
	struct connection *connections[SERVER_CONNECTIONS];
	struct token *tokens[BERTH_CONTROL_TOKENS];
	unsigned nr_connections, nr_tokens;
};

static void collect(struct waited *waited, uint64_t now)
{
	unsigned nr = 1;

	waited->nr_connections = waited->nr_tokens = 0;
	waited->fds[0] = (struct pollfd){ .fd = -1, .events = POLLIN };
	if (berth__server.started && berth__server.accept_ns <= now)
		waited->fds[0].fd = berth__server.listener.fd;
	for (unsigned i = 0; i < SERVER_CONNECTIONS; i++) {
		struct connection *one = &berth__server.connections[i];

		if (one->state == UNUSED)
			continue;
		waited->connections[waited->nr_connections++] = one;
		waited->fds[nr++] = (struct pollfd){
			.fd = one->socket.fd,
			.events = one->state == IDLE ? POLLIN | POLLRDHUP : POLLRDHUP,
		};
	}
	for (unsigned i = 0; i < BERTH_CONTROL_TOKENS; i++) {
		struct token *one = &berth__server.tokens[i];

		if (!one->used || one->socket.fd < 0)
			continue;
		waited->tokens[waited->nr_tokens++] = one;
		waited->fds[nr++] = (struct pollfd){ .fd = one->socket.fd }; /* POLLHUP only */
	}
}

static void serve(const struct waited *waited, uint64_t now)
{
	const struct pollfd *connections = &waited->fds[1];
	const struct pollfd *tokens = &connections[waited->nr_connections];

	for (unsigned i = 0; i < waited->nr_tokens; i++)
		if (tokens[i].revents)
			berth__server_release(waited->tokens[i]);
	for (unsigned i = 0; i < waited->nr_connections; i++) {
		struct connection *one = waited->connections[i];

		if (!connections[i].revents)
			continue;
		if (berth__server_is_ours(&one->socket) && one->state == IDLE &&
		    connections[i].revents & POLLIN)
			take_request(one, now);
		else
			berth__server_hang_up(one);
	}
	if (waited->fds[0].revents & POLLIN)
		accept_one(now);
	else if (berth__server.started && berth__server.listener.fd < 0 &&
		 berth__server.accept_ns <= now)
		listen_anew(now);
	berth__server_step(now);
}

void berth__server_round(uint64_t until_ns)
{
	static struct waited waited;
	uint64_t now = server_clock_ns(CLOCK_MONOTONIC), wake, left;
	struct timespec timeout;

	if (berth__server.started && !berth__server_is_ours(&berth__server.listener))
		berth__server.listener.fd = -1; /* the program has closed it */
	wake = next_wake(now, until_ns);
	collect(&waited, now);
	left = wake > now ? wake - now : 0;
	timeout.tv_sec = (time_t)(left / 1000000000u);
	timeout.tv_nsec = (long)(left % 1000000000u);
	if (ppoll(waited.fds, 1 + waited.nr_connections + waited.nr_tokens, &timeout, NULL) < 0)
		return;
	serve(&waited, server_clock_ns(CLOCK_MONOTONIC));
}

/* ---- fork ------------------------------------------------------------------------------------------------------ */

void berth__server_fork_prepare(void)
{
	berth_mutex_lock(&berth__server.lock);
}

void berth__server_fork_parent(void)
{
	berth_mutex_unlock(&berth__server.lock);
}

static void forget(struct own *one)
{
	if (berth__server_is_ours(one))
		berth_fd_close(one->fd);
	one->fd = -1;
}

void berth__server_forget(void)
{
	for (unsigned i = 0; i <= SERVER_CONNECTIONS; i++) {
		if (berth__server.connections[i].state != UNUSED)
			forget(&berth__server.connections[i].socket);
		berth__server.connections[i].state = UNUSED;
	}
	for (unsigned i = 0; i < BERTH_CONTROL_TOKENS; i++) {
		if (berth__server.tokens[i].used)
			forget(&berth__server.tokens[i].socket);
		berth__server.tokens[i] = (struct token){ 0 };
	}
	if (berth__server.started)
		forget(&berth__server.listener);
	berth__server.started = false;
	berth__server.listener.fd = berth__server.pool.fd = -1;
	berth__server.claims_ok = berth__server.claims_failed = 0;
	berth__server.lock = (berth_mutex_t){ 0 };
}
