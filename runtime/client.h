/* SPDX-License-Identifier: MIT */
/*
 * The claimant's side of the control socket: finding tenants, asking them, claiming from them.
 *
 * Every wait ends by its timeout. Whatever fails, nothing is half done: a claim whose answer this side
 * doesn't get to see is undone by the tenant, at the latest when it runs again. No function is for a
 * signal handler; a client is used by one thread at a time. Descriptors are CLOEXEC.
 *
 * Errors: -BERTH_ESRCH: no such tenant: nobody with this pid serves, or it has ended meanwhile;
 * -BERTH_EPERM: the socket's directory or its owner isn't this user's; -BERTH_EPROTO: it speaks another
 * version; -BERTH_ETIMEDOUT: no answer in time: it is stopped (SIGSTOP), or much too busy; -BERTH_EBUSY: it serves
 * too many others; -BERTH_ENOMEM: no descriptor or memory here; and those of a claim.
 */
#ifndef BERTH_RUNTIME_CLIENT_H
#define BERTH_RUNTIME_CLIENT_H

#include <berth/berth.h>

#include "runtime/control_protocol.h"

/* What an answer may take beyond the time that a claim may: for zeroing and a busy machine. */
#define BERTH_CLIENT_SLACK_NS 2000000000ull
/* What a claim without a timeout may take, and a good choice for everything else. */
#define BERTH_CLIENT_PATIENCE_NS 10000000000ull

struct berth__client {
	int fd; /* may be polled; -1: closed */
	struct berth_control_hello tenant;
};

/* Connects to the tenant with this pid and hears who it is. On error there is nothing to close. */
int berth__client_connect(long pid, uint64_t timeout_ns,
			  struct berth__client *client) BERTH_MUST_CHECK;
/* Idempotent. Claims that were made stay. A claim that is still being waited for is given up. */
void berth__client_close(struct berth__client *client);

int berth__client_stat(struct berth__client *client, uint64_t timeout_ns,
		       struct berth_control_stat *stat) BERTH_MUST_CHECK;

/* ---- Claims --------------------------------------------------------------------------------------- */

/* A claim that this process holds. */
struct berth__claimed {
	struct berth_control_claimed reply;
	int pool_fd; /* the tenant's pool, to be mapped: [reply.offset, + reply.bytes) is the claimant's */
	int token_fd; /* closing all copies releases; POLLHUP: the tenant has ended */
};

/*
 * Claims and waits for the answer, for request->timeout_ns and what zeroing may take, or without one
 * BERTH_CLIENT_PATIENCE_NS. Fills in the request's header itself. Returns the claim's error; then both descriptors
 * are -1, and claimed->reply explains it (header.error is the code; for errors of the connection the
 * rest is zero, blocker_offset UINT64_MAX). After -ETIMEDOUT the client is closed, so that the tenant drops the
 * request.
 */
int berth__client_claim(struct berth__client *client, struct berth_control_claim *request,
			struct berth__claimed *claimed) BERTH_MUST_CHECK;
/* The same in two steps, for callers that poll client->fd (POLLIN) in between. Receiving with a
 * timeout of 0 answers -BERTH_EAGAIN when there is no answer yet, and the request stays. */
int berth__client_claim_send(struct berth__client *client,
			     struct berth_control_claim *request) BERTH_MUST_CHECK;
int berth__client_claim_receive(struct berth__client *client, uint64_t timeout_ns,
				struct berth__claimed *claimed) BERTH_MUST_CHECK;
/* Gives the claim back, if no copy of its token is left elsewhere. Idempotent. */
void berth__claimed_close(struct berth__claimed *claimed);
/* True while the tenant that the claim was made from lives. */
bool berth__claimed_tenant_lives(const struct berth__claimed *claimed);
/* The reply as a report for berth_report_text(); its texts are those of `reply`. */
void berth__claimed_report(const struct berth_control_claimed *reply,
			   struct berth_claim_report *report);

/* The pool's descriptor, to map it whole; for berth_attach(). */
int berth__client_attach(struct berth__client *client, uint64_t timeout_ns, int *pool_fd,
			 size_t *pool_bytes) BERTH_MUST_CHECK;

/* ---- Who there is ----------------------------------------------------------------------------------- */

struct berth__tenant {
	int32_t pid;
	int error; /* 0: `stat` is filled; otherwise why there is none, e.g. -BERTH_ETIMEDOUT */
	struct berth_control_stat stat;
};

/*
 * All tenants of this user, sorted by pid; each may take timeout_ns to answer. Sockets that dead
 * processes left behind are removed. *tenants is malloc()ed or NULL, the caller frees it. Returns their
 * number, 0 also when there is no directory yet; -BERTH_EPERM, -BERTH_ENOMEM.
 */
int berth__client_list(uint64_t timeout_ns, struct berth__tenant **tenants) BERTH_MUST_CHECK;

#endif
