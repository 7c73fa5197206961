/* SPDX-License-Identifier: MIT */
/*
 * Which processes a PID on the command line means, and what to say when there are none.
 */
#ifndef BERTH_TOOLS_TENANTS_H
#define BERTH_TOOLS_TENANTS_H

#include "runtime/client.h"

/* What a tenant may take to answer, unless the user says otherwise. */
#define BERTH__ANSWER_NS 2000000000ull

/* The tenants that a PID means. */
struct berth__target {
	long pid;
	int32_t tree; /* pid of the `berth run` when the PID means all of its tree; 0: one tenant */
	int32_t first; /* the first process of that tree */
	unsigned nr;   /* > 0 */
	struct berth__tenant
		*tenants; /* the one with most lent first; those that don't answer last */
};

/* The PID in `text`, or 0 after a complaint. */
long berth__tenant_pid(const char *command, const char *text);

/*
 * Asks for all tenants that the PID means: one, or all of the tree when it is a `berth run` or its
 * program's first process. 0, or an exit code after a complaint. berth__target_free() in any case.
 */
int berth__target_find(const char *command, long pid, uint64_t timeout_ns,
		       struct berth__target *target);
void berth__target_free(struct berth__target *target);

/* Complains that the tenant couldn't be asked; returns the exit code. */
int berth__tenant_complain(const char *command, long pid, int error);

#endif
