/* SPDX-License-Identifier: MIT */
/*
 * The server's private header: its tables, and what its files share. Only the serving thread touches
 * them, but for what the lock guards and what a forked child puts in order.
 */
#ifndef BERTH_RUNTIME_SERVER_INTERNAL_H
#define BERTH_RUNTIME_SERVER_INTERNAL_H

#include <limits.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#include "runtime/server.h"

#define SERVER_CONNECTIONS 32

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

struct berth_server {
	bool started;
	berth_mutex_t lock; /* guards which descriptors are open: I2 */
	struct berth_server_params params;
	struct berth_control_hello hello;
	uid_t uid;
	char directory[PATH_MAX];
	struct own listener, pool;
	uint64_t accept_ns; /* not before */
	uint64_t next_order;
	uint64_t claims_ok, claims_failed;
	struct connection connections[SERVER_CONNECTIONS + 1]; /* the last: to be refused */
	struct token tokens[BERTH_CONTROL_TOKENS];
	struct berth_control_stat stat; /* too large for a stack */
};
extern struct berth_server berth__server;

static inline uint64_t server_clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void server_copy_text(char *to, size_t bytes, const char *from)
{
	size_t length = from ? strnlen(from, bytes - 1) : 0;

	memcpy(to, from ? from : "", length);
	to[length] = 0;
}

/* ---- Descriptors and messages (server.c) ----------------------------------------------------------- */

/* The file that a descriptor is now. */
struct own berth__server_own(int fd);
/* It still is. */
bool berth__server_is_ours(const struct own *one);
void berth__server_close(struct own *one);
/* False when it can't be delivered at once. */
bool berth__server_deliver(const struct connection *connection, void *message, size_t bytes,
			   const int *fds, unsigned nr_fds);
/* Whatever the connection was at, it ends, and nothing is left of it. */
void berth__server_hang_up(struct connection *connection);

/* ---- Claims (server_claims.c) ------------------------------------------------------------------------ */

/* A request has come: it will be tried in a round. */
void berth__server_take_claim(struct connection *connection,
			      const struct berth_control_claim *request, uint64_t now);
/* A step of the claim that is due and came first, if there is one. */
void berth__server_step(uint64_t now);
/* The token's range returns to the area, and those who wait try again. */
void berth__server_give_back(struct token *token);
/* The token's last holder is gone; or it isn't our token any more (I3), and stays. */
void berth__server_release(struct token *token);

#endif
