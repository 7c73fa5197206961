/* SPDX-License-Identifier: MIT */
/*
 * The claimant's side of the control socket.
 *
 * I1  A client whose connection isn't as it should be any more is closed: fd is -1.
 * I2  Nothing of a message is used before its size, version and type are right; its texts are ended
 *     and without control characters, so that they may be printed.
 */
#define _GNU_SOURCE
#include "runtime/client.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS 2
#define ZERO_NS_A_BYTE 4 /* for what zeroing may take at most */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t add(uint64_t a, uint64_t b)
{
	return a < UINT64_MAX - b ? a + b : UINT64_MAX;
}

/* Waits until there is something to read or the other side has hung up. -ETIMEDOUT. */
static int wait_readable(int fd, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd one = { .fd = fd, .events = POLLIN };
		uint64_t now = now_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
		struct timespec timeout;

		if (left > 86400 * 1000000000ull) /* a day; asked again then */
			left = 86400 * 1000000000ull;
		timeout.tv_sec = (time_t)(left / 1000000000u);
		timeout.tv_nsec = (long)(left % 1000000000u);
		if (ppoll(&one, 1, &timeout, NULL) > 0)
			return 0;
		if (now >= deadline_ns)
			return -BERTH_ETIMEDOUT;
	}
}

static void pause_for(uint64_t ns)
{
	const struct timespec pause = { .tv_nsec = (long)ns };

	nanosleep(&pause, NULL);
}

static void clean_text(char *text, size_t bytes)
{
	text[bytes - 1] = 0;
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}
#define CLEAN(array) clean_text(array, sizeof(array))

/* ---- Messages ------------------------------------------------------------------------------------------ */

static void close_all(int *fds, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

/* The descriptors of a message; more than MAX_FDS can't come. */
static unsigned take_fds(struct msghdr *header, int *fds)
{
	unsigned nr = 0;

	for (struct cmsghdr *at = CMSG_FIRSTHDR(header); at; at = CMSG_NXTHDR(header, at)) {
		size_t bytes = at->cmsg_len - CMSG_LEN(0);

		if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < bytes / sizeof(int); i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(at) + i * sizeof(int), sizeof(fd));
			if (nr < MAX_FDS)
				fds[nr++] = fd;
			else
				close(fd);
		}
	}
	return nr;
}

/* 0: the message is exactly of this type and size. */
static int check_message(const struct berth_control_header *header, size_t received,
			 enum berth_control_type type, size_t bytes)
{
	if (received < sizeof(*header) || header->magic != BERTH_CONTROL_MAGIC ||
	    header->version != BERTH_CONTROL_VERSION || header->bytes != received)
		return -BERTH_EPROTO;
	if (header->type == BERTH_CONTROL_ERROR && received == sizeof(*header))
		return header->error < 0 ? header->error : -BERTH_EPROTO;
	return header->type == type && received == bytes && header->error <= 0 ? 0 : -BERTH_EPROTO;
}

/*
 * Receives one message of this type; fds[] gets MAX_FDS descriptors or -1. On errors the connection is
 * closed.
 */
static int receive(struct berth__client *client, uint64_t deadline_ns, enum berth_control_type type,
		   void *message, size_t bytes, int *fds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control;
	struct iovec part = { message, bytes };
	struct msghdr header = { .msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control) };
	int got[MAX_FDS] = { -1, -1 }, error;
	ssize_t length = -1;

	error = client->fd < 0 ? -BERTH_ESRCH : wait_readable(client->fd, deadline_ns);
	if (!error) {
		length = recvmsg(client->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (length <= 0)
			error = -BERTH_ESRCH; /* it has ended, or closed the connection */
	}
	if (!error) {
		take_fds(&header, got);
		error = header.msg_flags & MSG_TRUNC  ? -BERTH_EPROTO :
			header.msg_flags & MSG_CTRUNC ? -BERTH_ENOMEM : /* no descriptor left */
							check_message(message, (size_t)length, type,
								      bytes);
	}
	if (error || !fds)
		close_all(got, MAX_FDS);
	if (fds)
		memcpy(fds, got, sizeof(got));
	if (error)
		berth__client_close(client);
	return error;
}

static int send_message(struct berth__client *client, const void *message, size_t bytes)
{
	struct berth_control_header header;

	if (client->fd < 0)
		return -BERTH_ESRCH;
	/* One request at a time: there is always room for it, unless nobody reads. */
	if (send(client->fd, message, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)bytes)
		return 0;
	if (errno == EAGAIN)
		return -BERTH_ETIMEDOUT;
	if (errno == ENOMEM || errno == ENOBUFS)
		return -BERTH_ENOMEM;
	/* Refused before it was asked: the reason may be there to be read. */
	return receive(client, 0, BERTH_CONTROL_ERROR, &header, sizeof(header), NULL);
}

/* ---- Connecting ------------------------------------------------------------------------------------------ */

/* Nobody listens at this name: removes it, if there is no such process either. */
static void remove_stale(int directory, long pid)
{
	char name[24];

	if (kill((pid_t)pid, 0) == 0 || errno != ESRCH)
		return;
	berth__control_name(pid, name, sizeof(name));
	(void)unlinkat(directory, name, 0);
}

/* A connected socket, or an error. */
static int connect_in(int directory, long pid, uint64_t deadline_ns)
{
	struct sockaddr_un address;
	socklen_t bytes = berth__control_address(directory, pid, &address);
	uint64_t pause = 500000;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error = 0;

	if (fd < 0)
		return -BERTH_ENOMEM;
	while (!error && connect(fd, (const struct sockaddr *)&address, bytes) != 0) {
		if (errno == EINTR)
			continue;
		if (errno == ECONNREFUSED)
			remove_stale(directory, pid);
		if (errno != EAGAIN)
			error = errno == EACCES || errno == EPERM ? -BERTH_EPERM :
				errno == EPROTOTYPE               ? -BERTH_EPROTO :
				errno == ENOMEM                   ? -BERTH_ENOMEM :
								    -BERTH_ESRCH;
		else if (now_ns() >= deadline_ns) /* its queue stays full */
			error = -BERTH_ETIMEDOUT;
		else
			pause_for(pause = pause < 8000000 ? pause * 2 : pause);
	}
	if (!error)
		return fd;
	close(fd);
	return error;
}

/* The listener is the process that was asked for, and the user's. */
static int check_peer(int fd, long pid, uid_t owner)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t bytes = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0 || peer.uid != owner)
		return -BERTH_EPERM;
	return peer.pid == pid ? 0 : -BERTH_ESRCH;
}

static int connect_to(int directory, uid_t owner, long pid, uint64_t deadline_ns,
		      struct berth__client *client)
{
	int fd = connect_in(directory, pid, deadline_ns), error;

	if (fd < 0)
		return fd;
	client->fd = fd;
	error = check_peer(fd, pid, owner);
	if (!error)
		error = receive(client, deadline_ns, BERTH_CONTROL_HELLO, &client->tenant,
				sizeof(client->tenant), NULL);
	if (error)
		berth__client_close(client);
	else
		CLEAN(client->tenant.program);
	return error;
}

static int connect_as(uid_t owner, long pid, uint64_t deadline_ns, struct berth__client *client)
{
	int directory = berth__control_directory(owner, false, NULL, 0), error;

	if (directory < 0)
		return directory;
	error = connect_to(directory, owner, pid, deadline_ns, client);
	close(directory);
	return error;
}

int berth__client_connect(long pid, uint64_t timeout_ns, struct berth__client *client)
{
	uint64_t deadline_ns = add(now_ns(), timeout_ns);
	char path[40] = "/proc/";
	struct stat file;
	int error;

	*client = (struct berth__client){ .fd = -1 };
	if (pid <= 0 || pid > INT32_MAX)
		return -BERTH_ESRCH;
	error = connect_as(geteuid(), pid, deadline_ns, client);
	if (error != -BERTH_ESRCH || geteuid() != 0)
		return error;
	/* Root may claim from everybody. */
	berth__control_name(pid, path + strlen(path), sizeof(path) - strlen(path));
	if (stat(path, &file) != 0 || file.st_uid == 0)
		return error;
	return connect_as(file.st_uid, pid, deadline_ns, client);
}

void berth__client_close(struct berth__client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
}

/* ---- Asking ------------------------------------------------------------------------------------------------ */

static int send_bare(struct berth__client *client, enum berth_control_type type)
{
	struct berth_control_header header;

	berth__control_header(&header, type, sizeof(header));
	return send_message(client, &header, sizeof(header));
}

static void clean_stat(struct berth_control_stat *stat)
{
	if (stat->nr_areas > BERTH_CONTROL_AREAS)
		stat->nr_areas = BERTH_CONTROL_AREAS;
	if (stat->nr_held > BERTH_CONTROL_TOKENS)
		stat->nr_held = BERTH_CONTROL_TOKENS;
	CLEAN(stat->program);
	CLEAN(stat->mover);
	CLEAN(stat->why_no_pool);
	CLEAN(stat->notice);
	for (unsigned i = 0; i < stat->nr_areas; i++) {
		CLEAN(stat->areas[i].name);
		CLEAN(stat->areas[i].policy);
	}
	for (unsigned i = 0; i < stat->nr_held; i++) {
		CLEAN(stat->held[i].claimant);
		if (stat->held[i].area >= stat->nr_areas)
			stat->held[i].area = 0;
	}
}

int berth__client_stat(struct berth__client *client, uint64_t timeout_ns,
		       struct berth_control_stat *stat)
{
	uint64_t deadline_ns = add(now_ns(), timeout_ns);
	int error = send_bare(client, BERTH_CONTROL_STAT);

	if (!error)
		error = receive(client, deadline_ns, BERTH_CONTROL_STAT_REPLY, stat, sizeof(*stat),
				NULL);
	if (!error)
		clean_stat(stat);
	return error;
}

/* The file is a pool of this size, and stays so. */
static bool is_pool(int fd, uint64_t bytes)
{
	const int sealed = F_SEAL_SHRINK | F_SEAL_GROW;
	struct stat file;

	return fstat(fd, &file) == 0 && (uint64_t)file.st_size == bytes &&
	       (fcntl(fd, F_GET_SEALS) & sealed) == sealed;
}

int berth__client_attach(struct berth__client *client, uint64_t timeout_ns, int *pool_fd,
			 size_t *pool_bytes)
{
	uint64_t deadline_ns = add(now_ns(), timeout_ns);
	struct berth_control_attached reply;
	int fds[MAX_FDS], error = send_bare(client, BERTH_CONTROL_ATTACH);

	if (!error)
		error = receive(client, deadline_ns, BERTH_CONTROL_ATTACH_REPLY, &reply,
				sizeof(reply), fds);
	if (error)
		return error;
	if (!reply.header.error && is_pool(fds[0], reply.pool_bytes)) {
		close_all(&fds[1], 1);
		*pool_fd = fds[0];
		*pool_bytes = reply.pool_bytes;
		return 0;
	}
	close_all(fds, MAX_FDS);
	return reply.header.error ? reply.header.error : -BERTH_EPROTO;
}

/* ---- Claims ------------------------------------------------------------------------------------------------- */

int berth__client_claim_send(struct berth__client *client, struct berth_control_claim *request)
{
	berth__control_header(request, BERTH_CONTROL_CLAIM, sizeof(*request));
	return send_message(client, request, sizeof(*request));
}

static int failed(struct berth__claimed *claimed, int error)
{
	*claimed = (struct berth__claimed){
		.reply.header.error = error,
		.reply.blocker_offset = UINT64_MAX,
		.pool_fd = -1,
		.token_fd = -1,
	};
	return error;
}

int berth__client_claim_receive(struct berth__client *client, uint64_t timeout_ns,
				struct berth__claimed *claimed)
{
	struct berth_control_claimed *reply = &claimed->reply;
	int fds[MAX_FDS], error;

	if (!timeout_ns && client->fd >= 0 && wait_readable(client->fd, 0) != 0)
		return failed(claimed, -BERTH_EAGAIN);
	error = receive(client, add(now_ns(), timeout_ns), BERTH_CONTROL_CLAIM_REPLY, reply,
			sizeof(*reply), fds);
	if (error)
		return failed(claimed, error);
	CLEAN(reply->area);
	CLEAN(reply->blocker_owner);
	CLEAN(reply->blocker_holder);
	claimed->pool_fd = fds[0];
	claimed->token_fd = fds[1];
	if (reply->header.error) {
		berth__claimed_close(claimed);
		return reply->header.error;
	}
	if (fds[0] < 0 || fds[1] < 0 || !is_pool(fds[0], reply->pool_bytes) || !reply->bytes ||
	    (reply->bytes | reply->offset) % BERTH_PAGE_SIZE ||
	    reply->offset >= reply->pool_bytes ||
	    reply->bytes > reply->pool_bytes - reply->offset) {
		berth__claimed_close(claimed);
		berth__client_close(client);
		return failed(claimed, -BERTH_EPROTO);
	}
	return 0;
}

int berth__client_claim(struct berth__client *client, struct berth_control_claim *request,
			struct berth__claimed *claimed)
{
	uint64_t wait = request->timeout_ns ? add(request->timeout_ns, BERTH_CLIENT_SLACK_NS) :
					      BERTH_CLIENT_PATIENCE_NS;
	int error = berth__client_claim_send(client, request);

	if (!(request->flags & BERTH_CONTROL_RAW))
		wait = add(wait, request->bytes < UINT64_MAX / ZERO_NS_A_BYTE ?
					 request->bytes * ZERO_NS_A_BYTE :
					 UINT64_MAX);
	return error ? failed(claimed, error) : berth__client_claim_receive(client, wait, claimed);
}

void berth__claimed_close(struct berth__claimed *claimed)
{
	close_all(&claimed->pool_fd, 1);
	close_all(&claimed->token_fd, 1);
}

bool berth__claimed_tenant_lives(const struct berth__claimed *claimed)
{
	struct pollfd token = { .fd = claimed->token_fd };

	return poll(&token, 1, 0) == 0 && claimed->token_fd >= 0;
}

void berth__claimed_report(const struct berth_control_claimed *reply,
			   struct berth_claim_report *report)
{
	*report = (struct berth_claim_report){
		.error = reply->header.error,
		.area = reply->area[0] ? reply->area : NULL,
		.nr_pages = reply->bytes >> BERTH_PAGE_SHIFT,
		.tries = reply->tries,
		.moved_pages = reply->moved_bytes >> BERTH_PAGE_SHIFT,
		.free_pages_taken = reply->free_bytes_taken >> BERTH_PAGE_SHIFT,
		.busy_blocks = reply->busy_blocks,
		.blocker_pfn = reply->blocker_offset == UINT64_MAX ?
				       BERTH_PFN_NONE :
				       reply->blocker_offset >> BERTH_PAGE_SHIFT,
		.blocker_pages = reply->blocker_bytes >> BERTH_PAGE_SHIFT,
		.blocker_owner = reply->blocker_owner[0] ? reply->blocker_owner : NULL,
		.blocker_holder = reply->blocker_holder[0] ? reply->blocker_holder : NULL,
		.largest_free_pages = reply->largest_free_bytes >> BERTH_PAGE_SHIFT,
		.largest_claimable_pages = reply->largest_claimable_bytes >> BERTH_PAGE_SHIFT,
	};
	_Static_assert(BERTH_NR_PHASES == BERTH_CONTROL_PHASES, "phases of the protocol");
	memcpy(report->phase_ns, reply->phase_ns, sizeof(report->phase_ns));
}

/* ---- Who there is -------------------------------------------------------------------------------------------- */

static int by_pid(const void *a, const void *b)
{
	const struct berth__tenant *one = a, *other = b;

	return (one->pid > other->pid) - (one->pid < other->pid);
}

/* Asks one; false when there is nobody. */
static bool ask(int directory, long pid, uint64_t timeout_ns, struct berth__tenant *tenant)
{
	uint64_t deadline_ns = add(now_ns(), timeout_ns), now;
	struct berth__client client = { .fd = -1 };

	*tenant = (struct berth__tenant){ .pid = (int32_t)pid };
	tenant->error = connect_to(directory, geteuid(), pid, deadline_ns, &client);
	now = now_ns();
	if (!tenant->error)
		tenant->error = berth__client_stat(
			&client, deadline_ns > now ? deadline_ns - now : 0, &tenant->stat);
	berth__client_close(&client);
	return tenant->error != -BERTH_ESRCH;
}

/* The pid that a file name is, or 0. */
static long as_pid(const char *name)
{
	char *end;
	long pid;

	if (*name < '1' || *name > '9')
		return 0;
	errno = 0;
	pid = strtol(name, &end, 10);
	return *end || errno || pid > INT32_MAX ? 0 : pid;
}

/* Grows by doubling. NULL: no memory; what there was stays. */
static struct berth__tenant *make_room(struct berth__tenant *tenants, int nr)
{
	if (nr & (nr - 1))
		return tenants;
	return realloc(tenants, (size_t)(nr ? 2 * nr : 1) * sizeof(*tenants));
}

int berth__client_list(uint64_t timeout_ns, struct berth__tenant **tenants)
{
	int directory = berth__control_directory(geteuid(), false, NULL, 0), nr = 0;
	struct dirent *entry;
	DIR *files;

	*tenants = NULL;
	if (directory < 0)
		return directory == -BERTH_ESRCH ? 0 : directory;
	files = fdopendir(directory);
	if (!files) {
		close(directory);
		return -BERTH_ENOMEM;
	}
	while ((entry = readdir(files))) {
		long pid = as_pid(entry->d_name);
		struct berth__tenant *room = pid ? make_room(*tenants, nr) : *tenants;

		if (!pid)
			continue;
		if (!room) {
			nr = -BERTH_ENOMEM;
			break;
		}
		*tenants = room;
		nr += ask(directory, pid, timeout_ns, &room[nr]);
	}
	closedir(files);
	if (nr > 0) {
		qsort(*tenants, (size_t)nr, sizeof(**tenants), by_pid);
	} else {
		free(*tenants);
		*tenants = NULL;
	}
	return nr;
}
