/* SPDX-License-Identifier: MIT */
/*
 * The tenant's side of the control socket: one thread serves, in rounds.
 */
#ifndef BERTH_RUNTIME_SERVER_H
#define BERTH_RUNTIME_SERVER_H

#include "runtime/control_protocol.h"
#include "runtime/internal.h"

/* Who keeps the books; called by the serving thread. Any may be NULL. */
struct berth_server_observer {
	/* A claim was made, or has failed for good (header.error). */
	void (*claimed)(const struct berth_control_claimed *claimed);
	void (*released)(void);
	/* Adds what the server doesn't know: the heap, why there is no pool, notices. */
	void (*describe)(struct berth_control_stat *stat);
	/* Serving has begun, 0, or can't at the moment, and why. */
	void (*serving)(int error, const char *why);
};

struct berth_server_params {
	struct berth_pool_impl *pool;
	const char *program; /* copied */
	int32_t root_pid, tree;
	const struct berth_server_observer *observer;
};

/*
 * Opens the socket; one server in a process. -EPERM, -ENOMEM, -EINVAL: no directory, or not a safe one;
 * -EEXIST: another process serves under this pid (of another PID namespace).
 */
int berth__server_start(const struct berth_server_params *params) BERTH_MUST_CHECK;
/*
 * One round: waits for something to do, at most until `until_ns` (CLOCK_MONOTONIC), and does it. At
 * most one try of a claim or one piece of zeroing, so that nobody waits for long. Without a server it
 * waits only. Allocates nothing, uses no stdio, blocks on no client.
 */
void berth__server_round(uint64_t until_ns);
/* At the process's end: removes the socket's name. Claims stay, tokens hang up by themselves. */
void berth__server_stop(void);

/*
 * Around a fork: the lock makes sure that no descriptor is in nobody's books. The child closes
 * the server's descriptors, without which tokens would outlive the tenant, and may start anew.
 */
void berth__server_fork_prepare(void);
void berth__server_fork_parent(void);
void berth__server_forget(void);

#endif
