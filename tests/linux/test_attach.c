/* SPDX-License-Identifier: MIT */
/*
 * Claims from another process: the buffer is the claimant's as long as its token is open, whoever dies
 * first; and nothing that a client does or doesn't do disturbs the tenant or other clients.
 */
#define _GNU_SOURCE
#include <setjmp.h>

#include "tests/include/testtenant.h"

static bool hangs_up(int fd, int timeout_ms)
{
	struct pollfd one = { .fd = fd };

	return poll(&one, 1, timeout_ms) == 1 && one.revents & POLLHUP;
}

/* ---- The library ---------------------------------------------------------------------------------- */

static void attached_claims_are_buffers(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth_pool *pool;
	struct berth_buffer a, b;
	struct berth_claim_report report;
	const struct berth_claim_options aligned = { .align_bytes = 2 * MIB,
						     .timeout_ns = 10 * SECOND_NS };

	(void)state;
	must(berth_attach(tenant.pid, &pool));
	must(berth_claim(pool, NULL, 4 * MIB, &aligned, &a, &report));
	assert_int_equal(a.bytes, 4 * MIB);
	assert_int_equal(a.offset % (2 * MIB), 0);
	assert_string_equal(a.area, "video");
	assert_string_equal(report.area, "video");
	assert_true(report.moved_pages >= 2 * MIB / BERTH_PAGE_SIZE);
	assert_true(is_zero(a.address, a.bytes));
	pattern_fill(a.address, a.bytes, 1);
	must(berth_claim(pool, "audio", 5000, NULL, &b, NULL));
	assert_int_equal(b.bytes, 8192);
	assert_string_equal(b.area, "audio");
	assert_ptr_equal((char *)a.address - a.offset, (char *)b.address - b.offset);
	assert_int_equal(pool_stats(pool).claims_held, 2);
	assert_int_equal(pool_stats(pool).claimed_bytes, 4 * MIB + 8192);
	assert_int_equal(berth_pool_close(pool), -BERTH_EBUSY);
	assert_int_equal(tenant_do(&tenant, TENANT_CHECK), 0);
	pattern_ok(a.address, a.bytes, 1);
	must(berth_release(pool, &a));
	assert_int_equal(berth_release(pool, &a), -BERTH_EINVAL);
	must(berth_release(pool, &b));
	wait_until(pool_stats(pool).claims_held == 0);
	/* What the last claimant left isn't shown to the next. */
	must(berth_claim(pool, NULL, 8 * MIB, &aligned, &a, NULL));
	assert_true(is_zero(a.address, a.bytes));
	must(berth_release(pool, &a));
	must(berth_pool_close(pool));
	assert_int_equal(berth_release(pool, &a), -BERTH_ESTALE);
	tenant_close(&tenant);
}

static void attached_statistics(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth_pool_stats stats;
	struct berth_cma_stats area;
	struct berth_pool *pool;

	(void)state;
	must(berth_attach(tenant.pid, &pool));
	must(berth_pool_stats(pool, &stats));
	assert_int_equal(stats.pool_bytes, 20 * MIB);
	assert_int_equal(stats.area_bytes, 10 * MIB);
	assert_int_equal(stats.lent_bytes, TENANT_MEMORY);
	assert_int_equal(stats.mapped_bytes, TENANT_MEMORY);
	assert_int_equal(stats.free_bytes + stats.claimed_bytes + stats.used_bytes,
			 stats.pool_bytes);
	assert_non_null(stats.mover);
	must(berth_area_stats(pool, "audio", &area));
	assert_string_equal(area.name, "audio");
	assert_int_equal(area.start_pfn, TENANT_AREA / BERTH_PAGE_SIZE);
	assert_int_equal(area.largest_free_pages, 512);
	must(berth_area_stats(pool, NULL, &area));
	assert_string_equal(area.name, "video");
	assert_int_equal(area.lent_pages, TENANT_MEMORY / BERTH_PAGE_SIZE);
	assert_int_equal(berth_area_stats(pool, "none", &area), -BERTH_ENOENT);
	must(berth_pool_close(pool));
	tenant_close(&tenant);
}

static void attached_handles_refuse_the_rest(void **state)
{
	const struct berth_claim_options odd = { .align_bytes = 3000 }, bad = { .flags = 1u << 20 };
	struct tenant tenant = tenant_open();
	struct berth_violation violation;
	struct berth_buffer buffer;
	struct berth_claim_report report;
	struct berth_pool *pool, *own;
	uint64_t cursor = 0, pin;
	void *address = &pin;

	(void)state;
	must(berth_attach(tenant.pid, &pool));
	assert_int_equal(berth_map(pool, 4096, 0, &address), -BERTH_EOPNOTSUPP);
	assert_int_equal(berth_grow(pool, address, 4096, 8192), -BERTH_EOPNOTSUPP);
	assert_int_equal(berth_unmap(pool, address, 4096), -BERTH_EOPNOTSUPP);
	assert_int_equal(berth_pin(pool, address, 1, "x", 0, &pin), -BERTH_EOPNOTSUPP);
	assert_int_equal(berth_unpin(pool, 1), -BERTH_EOPNOTSUPP);
	assert_int_equal(berth_shuffle(pool, &cursor), -BERTH_EOPNOTSUPP);
	assert_int_equal(berth_offset_of(pool, address), (size_t)-1);
	assert_null(berth_pool_notice(pool));
	assert_false(berth_pool_check(pool, &violation));
	assert_int_equal(berth_claim(pool, NULL, 0, NULL, &buffer, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_claim(pool, NULL, 4096, &odd, &buffer, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_claim(pool, NULL, 4096, &bad, &buffer, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_claim(pool, "none", 4096, NULL, &buffer, &report), -BERTH_ENOENT);
	assert_int_equal(report.error, -BERTH_ENOENT);
	assert_int_equal(berth_claim(pool, NULL, 1 * GIB, NULL, &buffer, &report), -BERTH_E2BIG);
	assert_int_equal(report.error, -BERTH_E2BIG);
	buffer = (struct berth_buffer){ .bytes = 4096 };
	assert_int_equal(berth_claim_fd(pool, &buffer), -BERTH_EINVAL);
	assert_int_equal(berth_attach(tenant.pid, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_attach(0, &own), -BERTH_ESRCH);
	assert_int_equal(berth_attach(getpid(), &own), -BERTH_ESRCH);
	must(berth_pool_close(pool));
	assert_int_equal(berth_map(pool, 4096, 0, &address), -BERTH_ESTALE);
	own = pool_open(4 * MIB, 0, NULL);
	must(berth_claim(own, NULL, 4096, NULL, &buffer, NULL));
	assert_int_equal(berth_claim_fd(own, &buffer), -BERTH_EOPNOTSUPP);
	must(berth_release(own, &buffer));
	pool_close(own);
	tenant_close(&tenant);
}

static void attached_handles_are_stale_after_fork(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth_buffer buffer;
	struct berth_pool *pool;
	pid_t child;

	(void)state;
	must(berth_attach(tenant.pid, &pool));
	must(berth_claim(pool, NULL, 1 * MIB, NULL, &buffer, NULL));
	child = fork();
	if (child == 0) {
		child_no_core();
		child_check(berth_release(pool, &buffer) == -BERTH_ESTALE);
		child_check(berth_claim_fd(pool, &buffer) == -BERTH_ESTALE);
		child_check(berth_pool_close(pool) == -BERTH_ESTALE);
		_exit(0);
	}
	assert_int_equal(child_wait(child), 0);
	must(berth_release(pool, &buffer));
	must(berth_pool_close(pool));
	tenant_close(&tenant);
}

static void *claims_often(void *pool)
{
	const struct berth_claim_options patient = { .timeout_ns = TENANT_PATIENCE };
	uintptr_t wrong = 0;

	for (unsigned i = 0; i < 40; i++) {
		struct berth_buffer buffer;

		if (berth_claim(pool, NULL, 3 * MIB, &patient, &buffer, NULL) != 0)
			return (void *)1;
		wrong |= !is_zero(buffer.address, buffer.bytes);
		pattern_fill(buffer.address, buffer.bytes, i);
		wrong |= pattern_differs(buffer.address, buffer.bytes, i) < buffer.bytes / 8;
		wrong |= berth_release(pool, &buffer) != 0;
	}
	return (void *)wrong;
}

/* More than the area holds at a time: they wait for each other. */
static void threads_share_a_handle(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth_pool *pool;
	pthread_t threads[4];

	(void)state;
	must(berth_attach(tenant.pid, &pool));
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, claims_often, pool), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
		void *wrong = NULL;

		pthread_join(threads[i], &wrong);
		assert_null(wrong);
	}
	must(berth_pool_close(pool));
	tenant_close(&tenant);
}

/* ---- Whose the range is ----------------------------------------------------------------------------- */

static void token_in_a_child_keeps_the_claim(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth__claimed claimed, other;
	pid_t child;

	(void)state;
	must(tenant_claim(&tenant, 8 * MIB, 0, &claimed));
	child = fork();
	if (child == 0) {
		alarm(60);
		for (;;)
			pause();
	}
	berth__claimed_close(&claimed);
	assert_int_equal(tenant_claim(&tenant, 8 * MIB, 0, &other), -BERTH_ENOSPC);
	assert_int_equal(other.token_fd, -1);
	kill(child, SIGKILL);
	child_wait(child);
	must(tenant_claim(&tenant, 8 * MIB, TENANT_PATIENCE, &other));
	berth__claimed_close(&other);
	tenant_close(&tenant);
}

static void killed_claimants_leave_nothing(void **state)
{
	struct tenant tenant = tenant_open();
	int pipe_ends[2];
	char byte;
	pid_t child;

	(void)state;
	assert_int_equal(pipe(pipe_ends), 0);
	child = fork();
	if (child == 0) {
		struct berth_buffer buffer;
		struct berth_pool *pool;

		child_check(berth_attach(tenant.pid, &pool) == 0);
		child_check(berth_claim(pool, NULL, 6 * MIB, NULL, &buffer, NULL) == 0);
		child_check(write(pipe_ends[1], "x", 1) == 1);
		for (;;)
			memset(buffer.address, 0x55, buffer.bytes);
	}
	assert_int_equal(read(pipe_ends[0], &byte, 1), 1);
	assert_int_equal(tenant_claimed_bytes(&tenant), 6 * MIB);
	kill(child, SIGKILL);
	child_wait(child);
	wait_until(tenant_claimed_bytes(&tenant) == 0);
	close(pipe_ends[0]);
	close(pipe_ends[1]);
	tenant_close(&tenant);
}

/* At any moment of connecting, claiming, filling and releasing. */
static void claimants_killed_at_random_moments(void **state)
{
	struct tenant tenant = tenant_open();
	uint64_t seed = 5;

	(void)state;
	for (unsigned i = 0; i < 60; i++) {
		struct timespec moment = { .tv_nsec = (long)test_random_below(&seed, 12000000) };
		pid_t child = fork();

		if (child == 0) {
			struct berth__claimed claimed;

			for (;;) {
				child_check(tenant_claim(&tenant, 5 * MIB, TENANT_PATIENCE,
							 &claimed) == 0);
				berth__claimed_close(&claimed);
			}
		}
		nanosleep(&moment, NULL);
		kill(child, SIGKILL);
		child_wait(child);
	}
	wait_until(tenant_claimed_bytes(&tenant) == 0);
	tenant_close(&tenant);
}

static void killed_tenants_leave_the_bytes(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth_claim_report report;
	struct berth_pool_stats stats;
	struct berth_buffer buffer, more;
	struct berth_pool *pool;

	(void)state;
	must(berth_attach(tenant.pid, &pool));
	must(berth_claim(pool, NULL, 4 * MIB, NULL, &buffer, NULL));
	pattern_fill(buffer.address, buffer.bytes, 3);
	assert_false(hangs_up(berth_claim_fd(pool, &buffer), 0));
	tenant_kill(&tenant);
	assert_true(hangs_up(berth_claim_fd(pool, &buffer), 10000));
	pattern_ok(buffer.address, buffer.bytes, 3);
	pattern_fill(buffer.address, buffer.bytes, 4);
	pattern_ok(buffer.address, buffer.bytes, 4);
	assert_int_equal(berth_claim(pool, NULL, 4096, NULL, &more, &report), -BERTH_ESRCH);
	assert_int_equal(report.error, -BERTH_ESRCH);
	assert_int_equal(berth_pool_stats(pool, &stats), -BERTH_ESRCH);
	assert_int_equal(berth_pool_close(pool), -BERTH_EBUSY);
	must(berth_release(pool, &buffer));
	must(berth_pool_close(pool));
}

static void exec_ends_a_tenant(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth__claimed claimed;
	struct berth__client client;

	(void)state;
	must(tenant_claim(&tenant, 4 * MIB, 0, &claimed));
	assert_true(berth__claimed_tenant_lives(&claimed));
	atomic_store(&tenant.shared->command, TENANT_EXEC);
	assert_true(hangs_up(claimed.token_fd, 10000));
	assert_false(berth__claimed_tenant_lives(&claimed));
	assert_int_equal(berth__client_connect(tenant.pid, SECOND_NS, &client), -BERTH_ESRCH);
	berth__claimed_close(&claimed);
	tenant_kill(&tenant);
}

/* A child of the tenant's has copies of all its descriptors. */
static void tenants_children_keep_nothing_alive(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth__claimed claimed;
	struct berth__client client;
	pid_t child;

	(void)state;
	must(tenant_claim(&tenant, 4 * MIB, 0, &claimed));
	child = (pid_t)tenant_do(&tenant, TENANT_FORK);
	assert_true(child > 0);
	assert_false(hangs_up(claimed.token_fd, 0));
	tenant_kill(&tenant);
	assert_int_equal(kill(child, 0), 0);
	assert_true(hangs_up(claimed.token_fd, 10000));
	assert_int_equal(berth__client_connect(tenant.pid, SECOND_NS, &client), -BERTH_ESRCH);
	berth__claimed_close(&claimed);
	kill(child, SIGKILL);
}

static void the_pool_is_sealed(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth__claimed claimed;

	(void)state;
	must(tenant_claim(&tenant, 1 * MIB, 0, &claimed));
	assert_int_equal(ftruncate(claimed.pool_fd, 4096), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(claimed.pool_fd, (off_t)(1 * GIB)), -1);
	assert_int_equal(fcntl(claimed.pool_fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_true(fcntl(claimed.pool_fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(claimed.token_fd, F_GETFD) & FD_CLOEXEC);
	berth__claimed_close(&claimed);
	tenant_close(&tenant);
}

/* ---- Waiting ------------------------------------------------------------------------------------------ */

static void stopped_tenants_time_out(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth_control_claim request = { .bytes = 4 * MIB, .timeout_ns = SECOND_NS / 10 };
	struct berth__client before, client;
	struct berth__claimed claimed;
	struct berth_control_stat stat;
	uint64_t began = now_ns();

	(void)state;
	tenant_connect(&tenant, &before);
	kill(tenant.pid, SIGSTOP);
	assert_int_equal(berth__client_connect(tenant.pid, SECOND_NS / 5, &client),
			 -BERTH_ETIMEDOUT);
	assert_int_equal(client.fd, -1);
	assert_true(now_ns() - began < 5 * SECOND_NS);
	must(berth__client_claim_send(&before, &request));
	assert_int_equal(berth__client_claim_receive(&before, 0, &claimed), -BERTH_EAGAIN);
	assert_int_equal(berth__client_claim_receive(&before, SECOND_NS / 10, &claimed),
			 -BERTH_ETIMEDOUT);
	assert_int_equal(claimed.token_fd, -1);
	assert_int_equal(before.fd, -1);
	kill(tenant.pid, SIGCONT);
	stat = tenant_stat(&tenant); /* served after what came before */
	assert_int_equal(stat.claims_ok, 0);
	assert_int_equal(stat.claims_failed, 0);
	assert_int_equal(stat.claimed_bytes, 0);
	assert_int_equal(stat.moved_bytes, 0);
	assert_int_equal(stat.nr_pending, 0);
	tenant_close(&tenant);
}

static void claims_in_place_are_waited_for(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth_control_claim request = { .bytes = 8 * MIB, .timeout_ns = TENANT_PATIENCE };
	struct berth__claimed first, second;
	struct berth_control_stat stat;
	struct berth__client client;

	(void)state;
	must(tenant_claim(&tenant, 8 * MIB, 0, &first));
	assert_int_equal(tenant_claim(&tenant, 8 * MIB, SECOND_NS / 20, &second), -BERTH_ENOSPC);
	assert_true(second.reply.retries > 0);
	assert_true(second.reply.wait_ns > SECOND_NS / 40);
	tenant_connect(&tenant, &client);
	must(berth__client_claim_send(&client, &request));
	wait_until((stat = tenant_stat(&tenant)).nr_pending == 1); /* others are served */
	assert_int_equal(stat.nr_held, 1);
	assert_string_equal(stat.held[0].claimant, "test");
	assert_int_equal(stat.held[0].claimant_pid, getpid());
	assert_int_equal(stat.held[0].bytes, 8 * MIB);
	assert_int_equal(berth__client_claim_receive(&client, 0, &second), -BERTH_EAGAIN);
	berth__claimed_close(&first);
	must(berth__client_claim_receive(&client, TENANT_PATIENCE, &second));
	assert_int_equal(second.reply.bytes, 8 * MIB);
	berth__client_close(&client);
	assert_int_equal(tenant_claimed_bytes(&tenant), 8 * MIB); /* the token counts, only */
	berth__claimed_close(&second);
	tenant_close(&tenant);
}

static void holders_are_waited_for(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth_control_claim request = { .bytes = 8 * MIB, .timeout_ns = TENANT_PATIENCE };
	struct berth_claim_report report;
	struct berth__claimed claimed;
	struct berth__client client;
	struct berth_buffer buffer;
	struct berth_pool *pool;
	const struct berth_claim_options soon = { .timeout_ns = SECOND_NS / 20 };

	(void)state;
	assert_int_equal(tenant_do(&tenant, TENANT_PIN), 0);
	must(berth_attach(tenant.pid, &pool));
	assert_int_equal(berth_claim(pool, NULL, 8 * MIB, NULL, &buffer, &report), -BERTH_EBUSY);
	assert_string_equal(report.blocker_owner, "movable memory");
	assert_string_equal(report.blocker_holder, "camera");
	assert_int_equal(berth_claim(pool, NULL, 8 * MIB, &soon, &buffer, &report), -BERTH_EAGAIN);
	assert_string_equal(report.blocker_holder, "camera");
	must(berth_pool_close(pool));
	tenant_connect(&tenant, &client);
	must(berth__client_claim_send(&client, &request));
	wait_until(tenant_stat(&tenant).nr_pending == 1);
	assert_int_equal(tenant_do(&tenant, TENANT_UNPIN), 0);
	must(berth__client_claim_receive(&client, TENANT_PATIENCE, &claimed));
	assert_true(claimed.reply.retries > 0);
	berth__client_close(&client);
	berth__claimed_close(&claimed);
	tenant_close(&tenant);
}

static void pending_claims_end_with_their_client(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth_control_claim request = { .bytes = 8 * MIB, .timeout_ns = TENANT_PATIENCE };
	struct berth__claimed first;
	struct berth__client client;

	(void)state;
	must(tenant_claim(&tenant, 8 * MIB, 0, &first));
	tenant_connect(&tenant, &client);
	must(berth__client_claim_send(&client, &request));
	wait_until(tenant_stat(&tenant).nr_pending == 1);
	berth__client_close(&client);
	wait_until(tenant_stat(&tenant).nr_pending == 0);
	berth__claimed_close(&first);
	wait_until(tenant_claimed_bytes(&tenant) == 0);
	/* One that asks and doesn't wait for the answer. */
	tenant_connect(&tenant, &client);
	must(berth__client_claim_send(&client, &request));
	berth__client_close(&client);
	wait_until(tenant_claimed_bytes(&tenant) == 0);
	tenant_close(&tenant);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attached_claims_are_buffers),
		cmocka_unit_test(attached_statistics),
		cmocka_unit_test(attached_handles_refuse_the_rest),
		cmocka_unit_test(attached_handles_are_stale_after_fork),
		cmocka_unit_test(threads_share_a_handle),
		cmocka_unit_test(token_in_a_child_keeps_the_claim),
		cmocka_unit_test(killed_claimants_leave_nothing),
		cmocka_unit_test(claimants_killed_at_random_moments),
		cmocka_unit_test(killed_tenants_leave_the_bytes),
		cmocka_unit_test(exec_ends_a_tenant),
		cmocka_unit_test(tenants_children_keep_nothing_alive),
		cmocka_unit_test(the_pool_is_sealed),
		cmocka_unit_test(stopped_tenants_time_out),
		cmocka_unit_test(claims_in_place_are_waited_for),
		cmocka_unit_test(holders_are_waited_for),
		cmocka_unit_test(pending_claims_end_with_their_client),
	};

	return cmocka_run_group_tests(tests, runtime_directory_make, runtime_directory_remove);
}
