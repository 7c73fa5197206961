/* SPDX-License-Identifier: MIT */
/*
 * A tenant for tests: a child process with a pool and patterned memory in it, that serves its control
 * socket and does on command what programs do.
 */
#ifndef BERTH_TESTTENANT_H
#define BERTH_TESTTENANT_H

#include "tests/include/testpool.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "runtime/client.h"
#include "runtime/server.h"

#define TENANT_AREA (8 * MIB)
#define TENANT_MEMORY (6 * MIB)
#define TENANT_SEED 77u
#define TENANT_PATIENCE (20 * SECOND_NS)

enum tenant_command {
	TENANT_CHECK = 1, /* contents and invariants; result 0 when all is right */
	TENANT_PIN,       /* a page of what it has in the area */
	TENANT_UNPIN,
	TENANT_FORK,  /* a child that sleeps; result: its pid */
	TENANT_EXEC,  /* becomes `sleep` */
	TENANT_CLOSE, /* closes all descriptors from 3 on but those that the mover needs */
	TENANT_EXIT,
};

struct tenant_shared {
	_Atomic int ready, command, done;
	_Atomic int64_t result;
	_Atomic uint64_t claimed, failed, released;
};

struct tenant {
	pid_t pid;
	struct tenant_shared *shared;
};

/* ---- Where the sockets are --------------------------------------------------------------------------- */

static char runtime_directory[64], control_directory[80];

/* An $XDG_RUNTIME_DIR of our own, for a group of tests. */
static inline int runtime_directory_make(void **state)
{
	(void)state;
	strcpy(runtime_directory, "/tmp/berth-test-XXXXXX");
	if (!mkdtemp(runtime_directory))
		return -1;
	snprintf(control_directory, sizeof(control_directory), "%s/berth", runtime_directory);
	return setenv("XDG_RUNTIME_DIR", runtime_directory, 1);
}

/* Looking around removes what killed tenants left; then nothing is left. */
static inline int runtime_directory_remove(void **state)
{
	struct berth__tenant *tenants;

	(void)state;
	if (berth__client_list(SECOND_NS, &tenants) != 0)
		return -1;
	(void)rmdir(control_directory);
	return rmdir(runtime_directory);
}

/* ---- In the tenant --------------------------------------------------------------------------------- */

static struct tenant_shared *tenant_books;

static inline void tenant_claimed(const struct berth_control_claimed *claimed)
{
	atomic_fetch_add(claimed->header.error ? &tenant_books->failed : &tenant_books->claimed, 1);
}

static inline void tenant_released(void)
{
	atomic_fetch_add(&tenant_books->released, 1);
}

static inline void tenant_describe(struct berth_control_stat *stat)
{
	stat->heap_pool_bytes = 4711;
	strcpy(stat->notice, "a notice \033[31m");
}

static const struct berth_server_observer tenant_observer = {
	.claimed = tenant_claimed,
	.released = tenant_released,
	.describe = tenant_describe,
};

static inline int64_t tenant_is_right(struct berth_pool_impl *pool)
{
	struct berth_violation violation;
	struct berth_pool_stats stats;

	if (pattern_differs(pool->mmu.base, TENANT_MEMORY, TENANT_SEED) <
	    TENANT_MEMORY / sizeof(uint64_t))
		return 1;
	if (!berth_zone_check(pool->zone, &violation) ||
	    !berth_space_check(pool->space, &violation))
		return 2;
	berth__pool_stats(pool, &stats);
	return stats.free_bytes + stats.claimed_bytes + stats.used_bytes == stats.pool_bytes ? 0 :
											       3;
}

static inline int64_t tenant_forks(void)
{
	pid_t child;

	berth__server_fork_prepare();
	child = fork();
	if (child != 0) {
		berth__server_fork_parent();
		return child;
	}
	berth__server_forget();
	alarm(60);
	for (;;)
		pause();
}

static inline int64_t tenant_obeys(struct berth_pool_impl *pool, int command)
{
	static uint64_t pin;

	switch (command) {
	case TENANT_CHECK:
		return tenant_is_right(pool);
	case TENANT_PIN:
		return berth_space_pin(pool->space, 700, 1, "camera", 0, &pin);
	case TENANT_UNPIN:
		return berth_space_unpin(pool->space, pin);
	case TENANT_FORK:
		return tenant_forks();
	case TENANT_EXEC:
		execlp("sleep", "sleep", "60", (char *)NULL);
		_exit(3);
	case TENANT_CLOSE:
		for (int fd = 3; fd < 1024; fd++)
			if (fd != pool->memory.fd && fd != pool->mmu.uffd)
				close(fd);
		return 0;
	default:
		berth__server_stop();
		_exit(0);
	}
}

static inline _Noreturn void tenant_lives(struct tenant_shared *shared, size_t area_bytes)
{
	const struct berth_area_params areas[] = { { "video", area_bytes, BERTH_LEND_FIRST },
						   { "audio", 2 * MIB, BERTH_LEND_OFF } };
	const struct berth_pool_params params = { .areas = areas, .nr_areas = 2 };
	struct berth_server_params served = {
		.program = "tenant\033[2J",
		.root_pid = getppid(),
		.tree = 42,
		.observer = &tenant_observer,
	};

	child_no_core();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	tenant_books = shared;
	child_check(berth__pool_open(&params, 0, &served.pool) == 0);
	child_check(berth_space_map(served.pool->space, 0, TENANT_MEMORY / BERTH_PAGE_SIZE, 9, 0) ==
		    0);
	pattern_fill(served.pool->mmu.base, TENANT_MEMORY, TENANT_SEED);
	atomic_store(&shared->result, berth__server_start(&served));
	atomic_store(&shared->ready, 1);
	for (;;) {
		int command = atomic_exchange(&shared->command, 0);

		if (command) {
			atomic_store(&shared->result, tenant_obeys(served.pool, command));
			atomic_store(&shared->done, 1);
		}
		berth__server_round(now_ns() + 2000000);
	}
}

/* ---- Outside of it ------------------------------------------------------------------------------------ */

/* A tenant whose area has this size; `error` is what its server's start says. */
static inline struct tenant tenant_open_as(size_t area_bytes, int error)
{
	struct tenant tenant;

	tenant.shared = mmap(NULL, sizeof(*tenant.shared), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(tenant.shared, MAP_FAILED);
	tenant.pid = fork();
	assert_true(tenant.pid >= 0);
	if (tenant.pid == 0)
		tenant_lives(tenant.shared, area_bytes);
	wait_until(atomic_load(&tenant.shared->ready) || kill(tenant.pid, 0) != 0);
	assert_int_equal(atomic_load(&tenant.shared->result), error);
	return tenant;
}

static inline struct tenant tenant_open(void)
{
	return tenant_open_as(TENANT_AREA, 0);
}

static inline int64_t tenant_do(const struct tenant *tenant, enum tenant_command command)
{
	atomic_store(&tenant->shared->done, 0);
	atomic_store(&tenant->shared->command, command);
	wait_until(atomic_load(&tenant->shared->done));
	return atomic_load(&tenant->shared->result);
}

static inline void tenant_kill(struct tenant *tenant)
{
	kill(tenant->pid, SIGKILL);
	child_wait(tenant->pid);
	munmap(tenant->shared, sizeof(*tenant->shared));
}

/* Its memory is right, nothing is claimed any more, and as much was released as was claimed. */
static inline void tenant_close(struct tenant *tenant)
{
	struct tenant_shared *shared = tenant->shared;
	int status;

	wait_until(atomic_load(&shared->claimed) == atomic_load(&shared->released));
	assert_int_equal(tenant_do(tenant, TENANT_CHECK), 0);
	atomic_store(&shared->command, TENANT_EXIT);
	status = child_wait(tenant->pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	munmap(shared, sizeof(*shared));
}

static inline void tenant_connect(const struct tenant *tenant, struct berth__client *client)
{
	must(berth__client_connect(tenant->pid, TENANT_PATIENCE, client));
	assert_int_equal(client->tenant.pid, tenant->pid);
}

static inline struct berth_control_stat tenant_stat(const struct tenant *tenant)
{
	struct berth_control_stat stat;
	struct berth__client client;

	tenant_connect(tenant, &client);
	must(berth__client_stat(&client, TENANT_PATIENCE, &stat));
	berth__client_close(&client);
	return stat;
}

static inline uint64_t tenant_claimed_bytes(const struct tenant *tenant)
{
	return tenant_stat(tenant).claimed_bytes;
}

/* A claim by a connection of its own. */
static inline int tenant_claim(const struct tenant *tenant, size_t bytes, uint64_t timeout_ns,
			       struct berth__claimed *claimed)
{
	struct berth_control_claim request = { .bytes = bytes, .timeout_ns = timeout_ns };
	struct berth__client client;
	int error;

	strcpy(request.claimant, "test");
	tenant_connect(tenant, &client);
	error = berth__client_claim(&client, &request, claimed);
	berth__client_close(&client);
	return error;
}

#endif
