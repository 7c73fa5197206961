/* SPDX-License-Identifier: MIT */
/*
 * Forks whose child and parent wait for each other.
 */
#ifndef BERTH_TEST_FORK_H
#define BERTH_TEST_FORK_H

#include "runtime/internal.h"
#include "tests/include/testpool.h"

#define AREA_BYTES (8 * MIB)
#define POOL_FLAGS (BERTH_POOL_POISON | BERTH_POOL_RESIDENT)

/* ---- Who waits for whom ------------------------------------------------------------------------- */

/* Two pipes: each side can wait for the other's word. */
struct talk {
	int to_child[2], to_parent[2];
};

static inline struct talk talk_open(void)
{
	struct talk talk;

	child_check(pipe2(talk.to_child, O_CLOEXEC) == 0 && pipe2(talk.to_parent, O_CLOEXEC) == 0);
	return talk;
}

static inline void talk_close(struct talk *talk)
{
	for (int i = 0; i < 2; i++) {
		close(talk->to_child[i]);
		close(talk->to_parent[i]);
	}
}

static inline void tell(const int *pipe_ends)
{
	child_check(write(pipe_ends[1], "x", 1) == 1);
}

static inline void await(const int *pipe_ends)
{
	char byte;

	child_check(read(pipe_ends[0], &byte, 1) == 1);
}

/* A fork whose child has a minute to live. */
static inline pid_t fork_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		child_no_core();
		alarm(60);
	}
	return pid;
}

static inline void child_ends_well(pid_t pid)
{
	int status;

	assert_true(pid > 0);
	status = child_wait(pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("the child's status is %#x", status);
}

/* From here on the parent pushes, whatever the size. */
static inline void push_from_now_on(void)
{
	berth__fork_push_bytes = 0;
	must(berth__pusher_start());
}

#endif
