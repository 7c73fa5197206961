/* SPDX-License-Identifier: MIT */
/*
 * The control socket itself: who may speak to whom, what a server does with nonsense, floods and lost
 * descriptors, and how tenants are found.
 */
#define _GNU_SOURCE
#include <setjmp.h>

#include "tests/include/testtenant.h"

#define NOBODY 65534

/* ---- Nonsense ------------------------------------------------------------------------------------- */

/* The server's answer to a datagram: 0 when it hangs up without a word. */
static int answer_to(const struct tenant *tenant, const void *message, size_t bytes)
{
	struct berth_control_header reply = { 0 };
	struct berth__client client;
	struct pollfd one;
	ssize_t length;

	tenant_connect(tenant, &client);
	if (send(client.fd, message, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
		fail_msg("%zu bytes: %s", bytes, strerror(errno));
	one = (struct pollfd){ .fd = client.fd, .events = POLLIN };
	assert_int_equal(poll(&one, 1, 10000), 1);
	length = recv(client.fd, &reply, sizeof(reply), 0);
	if (length > 0 && reply.type == BERTH_CONTROL_ERROR) {
		assert_int_equal(length, sizeof(reply));
		one.events = 0;
		assert_int_equal(poll(&one, 1, 10000), 1); /* and hangs up */
	}
	berth__client_close(&client);
	return length > 0 ? reply.error : 0;
}

static void nonsense_is_refused(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth_control_claim claim = { .bytes = 4096 };
	struct berth_control_header stat, wrong;
	static char large[100000];

	(void)state;
	berth__control_header(&claim, BERTH_CONTROL_CLAIM, sizeof(claim));
	berth__control_header(&stat, BERTH_CONTROL_STAT, sizeof(stat));
	assert_int_equal(answer_to(&tenant, &stat, sizeof(stat)), 0);
	assert_int_equal(answer_to(&tenant, "x", 1), -BERTH_EINVAL);
	assert_int_equal(answer_to(&tenant, large, sizeof(large)), -BERTH_EINVAL);
	memcpy(large, &claim, sizeof(claim));
	assert_int_equal(answer_to(&tenant, large, sizeof(large)), -BERTH_EINVAL);
	assert_int_equal(answer_to(&tenant, &claim, sizeof(claim) - 1), -BERTH_EINVAL);
	assert_int_equal(answer_to(&tenant, &claim, sizeof(claim.header)), -BERTH_EINVAL);
	wrong = stat;
	wrong.magic++;
	assert_int_equal(answer_to(&tenant, &wrong, sizeof(wrong)), -BERTH_EINVAL);
	wrong = stat;
	wrong.version++;
	assert_int_equal(answer_to(&tenant, &wrong, sizeof(wrong)), -BERTH_EPROTO);
	for (unsigned type = 0; type < 20; type++) {
		wrong = stat;
		wrong.type = (uint16_t)type;
		if (type != BERTH_CONTROL_STAT && type != BERTH_CONTROL_ATTACH)
			assert_int_equal(answer_to(&tenant, &wrong, sizeof(wrong)), -BERTH_EINVAL);
	}
	assert_int_equal(tenant_stat(&tenant).claims_ok, 0);
	tenant_close(&tenant);
}

/* Requests with one field gone wrong, and noise, come in a row; the tenant goes on. */
static void random_messages_change_nothing(void **state)
{
	struct tenant tenant = tenant_open();
	uint64_t seed = 11;

	(void)state;
	for (unsigned i = 0; i < 2000 / TEST_SLOWDOWN; i++) {
		struct berth_control_claim claim = { .bytes = test_random(&seed),
						     .timeout_ns = test_random_below(&seed, 3) };
		unsigned char *raw = (unsigned char *)&claim;
		struct berth__client client;
		size_t bytes = sizeof(claim);

		memset(claim.area, 'a', sizeof(claim.area)); /* without an end */
		memset(claim.claimant, 'b', sizeof(claim.claimant));
		berth__control_header(&claim, BERTH_CONTROL_CLAIM, sizeof(claim));
		for (unsigned n = (unsigned)test_random_below(&seed, 4); n > 0; n--)
			raw[test_random_below(&seed, bytes)] = (unsigned char)test_random(&seed);
		if (test_random_below(&seed, 8) == 0)
			bytes = 1 + test_random_below(&seed, bytes - 1);
		tenant_connect(&tenant, &client);
		(void)send(client.fd, raw, bytes, MSG_NOSIGNAL);
		berth__client_close(&client);
	}
	wait_until(tenant_claimed_bytes(&tenant) == 0);
	tenant_close(&tenant);
}

/* Descriptors that a client sends don't stay in the tenant. */
static void descriptors_of_clients_are_dropped(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth_control_header stat;
	struct iovec part = { &stat, sizeof(stat) };
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr header = { .msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control) };
	struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
	struct berth__client client;
	struct pollfd end;
	int pipe_ends[2];

	(void)state;
	assert_int_equal(pipe(pipe_ends), 0);
	tenant_connect(&tenant, &client);
	berth__control_header(&stat, BERTH_CONTROL_STAT, sizeof(stat));
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(rights), &pipe_ends[1], sizeof(int));
	assert_int_equal(sendmsg(client.fd, &header, 0), sizeof(stat));
	close(pipe_ends[1]);
	end = (struct pollfd){ .fd = pipe_ends[0] };
	assert_int_equal(poll(&end, 1, 10000), 1); /* nobody has the other end */
	assert_true(end.revents & POLLHUP);
	close(pipe_ends[0]);
	berth__client_close(&client);
	tenant_close(&tenant);
}

/* ---- Too much ------------------------------------------------------------------------------------------ */

static void silent_connections_make_room(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth__client clients[100];
	struct berth_control_stat stat;
	unsigned closed = 0;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(clients); i++)
		tenant_connect(&tenant, &clients[i]); /* each is served */
	must(berth__client_stat(&clients[99], TENANT_PATIENCE, &stat));
	assert_int_equal(berth__client_stat(&clients[0], TENANT_PATIENCE, &stat), -BERTH_ESRCH);
	for (unsigned i = 0; i < ARRAY_SIZE(clients); i++) {
		closed += clients[i].fd < 0 ||
			  berth__client_stat(&clients[i], TENANT_PATIENCE, &stat) != 0;
		berth__client_close(&clients[i]);
	}
	assert_true(closed >= 60 && closed < 80);
	tenant_close(&tenant);
}

static void pending_claims_are_bounded(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth_control_claim request = { .bytes = 8 * MIB, .timeout_ns = TENANT_PATIENCE };
	struct berth__client clients[40];
	struct berth__claimed first, claimed;
	unsigned nr = 0;
	int error = 0;

	(void)state;
	must(tenant_claim(&tenant, 8 * MIB, 0, &first));
	while (nr < ARRAY_SIZE(clients) && !error) {
		error = berth__client_connect(tenant.pid, TENANT_PATIENCE, &clients[nr]);
		if (!error)
			error = berth__client_claim_send(&clients[nr], &request);
		nr += !error;
	}
	assert_int_equal(error, -BERTH_EBUSY);
	assert_true(nr >= 16);
	berth__claimed_close(&first);
	for (unsigned i = 0; i < nr; i++) { /* all of them, in the order of their requests */
		must(berth__client_claim_receive(&clients[i], TENANT_PATIENCE, &claimed));
		berth__client_close(&clients[i]);
		berth__claimed_close(&claimed);
	}
	tenant_close(&tenant);
}

static void held_claims_are_bounded(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth_control_claim request = { .bytes = 4096 };
	struct berth__claimed claimed[BERTH_CONTROL_TOKENS], more;
	struct berth__client client;

	(void)state;
	tenant_connect(&tenant, &client);
	for (unsigned i = 0; i < BERTH_CONTROL_TOKENS; i++)
		must(berth__client_claim(&client, &request, &claimed[i]));
	assert_int_equal(berth__client_claim(&client, &request, &more), -BERTH_EBUSY);
	assert_int_equal(tenant_stat(&tenant).nr_held, BERTH_CONTROL_TOKENS);
	berth__claimed_close(&claimed[7]);
	request.timeout_ns = TENANT_PATIENCE;
	must(berth__client_claim(&client, &request, &claimed[7]));
	for (unsigned i = 0; i < BERTH_CONTROL_TOKENS; i++)
		berth__claimed_close(&claimed[i]);
	berth__client_close(&client);
	tenant_close(&tenant);
}

/* A client without room for descriptors: the claim isn't made. */
static void claimant_without_descriptors(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth_control_claim request = { .bytes = 4 * MIB };
	struct berth__claimed claimed;
	struct berth__client client;
	struct rlimit limit, low;

	(void)state;
	tenant_connect(&tenant, &client);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = (rlim_t)client.fd + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(berth__client_claim(&client, &request, &claimed), -BERTH_ENOMEM);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(client.fd, -1);
	wait_until(tenant_claimed_bytes(&tenant) == 0);
	tenant_close(&tenant);
}

/* ---- A program that closes what it doesn't know --------------------------------------------------------- */

static void lost_descriptors(void **state)
{
	struct tenant tenant = tenant_open();
	struct berth__claimed lost, claimed;
	struct berth__client client;

	(void)state;
	tenant_connect(&tenant, &client);
	must(tenant_claim(&tenant, 2 * MIB, 0, &lost));
	assert_int_equal(tenant_do(&tenant, TENANT_CLOSE), 0);
	/* Under its old name there is a new socket. */
	wait_until(berth__client_connect(tenant.pid, SECOND_NS, &client) == 0);
	berth__client_close(&client);
	must(tenant_claim(&tenant, 4 * MIB, 0, &claimed));
	berth__claimed_close(&claimed);
	/* Nobody can tell any more when this one ends: it stays claimed rather than being lent. */
	berth__claimed_close(&lost);
	wait_until(tenant_claimed_bytes(&tenant) == 2 * MIB);
	assert_int_equal(tenant_claim(&tenant, 8 * MIB, SECOND_NS / 5, &claimed), -BERTH_ENOSPC);
	assert_int_equal(tenant_do(&tenant, TENANT_CHECK), 0);
	tenant_kill(&tenant);
	assert_int_equal(berth__client_connect(tenant.pid, SECOND_NS, &client), -BERTH_ESRCH);
}

/* ---- Who is who --------------------------------------------------------------------------------------------- */

static void must_be_root(void)
{
	if (geteuid() != 0) {
		print_message("# SKIP: only root can be another user\n");
		skip();
	}
}

static void become_nobody(void *unused)
{
	(void)unused;
	child_check(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
}

struct stranger {
	pid_t tenant;
	char path[120];
};

/* The directory would have kept it out: but it doesn't depend on that. */
static void knock_as_a_stranger(void *argument)
{
	const struct stranger *stranger = argument;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	struct berth_control_header answer;

	strcpy(address.sun_path, stranger->path);
	become_nobody(NULL);
	child_check(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	child_check(recv(fd, &answer, sizeof(answer), 0) == sizeof(answer));
	child_check(answer.type == BERTH_CONTROL_ERROR && answer.error == -BERTH_EPERM);
	child_check(recv(fd, &answer, sizeof(answer), 0) == 0);
}

static void strangers_are_refused(void **state)
{
	struct tenant tenant;
	struct stranger stranger;

	(void)state;
	must_be_root();
	tenant = tenant_open();
	snprintf(stranger.path, sizeof(stranger.path), "%s/%d", control_directory, (int)tenant.pid);
	assert_int_equal(chmod(runtime_directory, 0755), 0);
	assert_int_equal(chmod(control_directory, 0755), 0);
	assert_int_equal(chmod(stranger.path, 0777), 0);
	in_child(knock_as_a_stranger, &stranger);
	assert_int_equal(chmod(control_directory, 0700), 0);
	assert_int_equal(chmod(runtime_directory, 0700), 0);
	tenant_close(&tenant);
}

/* A socket of this name in our directory, on which `uid` listens until killed. */
static pid_t fake_server(const char *path, uid_t uid, const void *hello, size_t bytes)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0), pipe_ends[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(pipe_ends), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (path)
			strcpy(address.sun_path, path);
		else
			snprintf(address.sun_path, sizeof(address.sun_path), "%s/%d",
				 control_directory, (int)getpid());
		child_check(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
		if (uid)
			become_nobody(NULL);
		child_check(listen(fd, 5) == 0);
		child_check(write(pipe_ends[1], "x", 1) == 1);
		for (;;) {
			int client = accept(fd, NULL, NULL);

			if (bytes)
				(void)send(client, hello, bytes, MSG_NOSIGNAL);
			close(client);
		}
	}
	assert_int_equal(read(pipe_ends[0], &byte, 1), 1);
	close(fd);
	close(pipe_ends[0]);
	close(pipe_ends[1]);
	return pid;
}

static void fake_server_end(pid_t pid)
{
	struct berth__client client;

	kill(pid, SIGKILL);
	child_wait(pid);
	assert_int_equal(berth__client_connect(pid, SECOND_NS, &client), -BERTH_ESRCH);
}

static void foreign_servers_are_refused(void **state)
{
	struct berth__client client;
	pid_t pid;

	(void)state;
	must_be_root();
	(void)mkdir(control_directory, 0700);
	pid = fake_server(NULL, NOBODY, NULL, 0);
	assert_int_equal(berth__client_connect(pid, SECOND_NS, &client), -BERTH_EPERM);
	assert_int_equal(client.fd, -1);
	fake_server_end(pid);
}

/* One process may not speak for another. */
static void servers_under_a_wrong_name(void **state)
{
	struct berth__client client;
	char path[120];
	pid_t pid;

	(void)state;
	(void)mkdir(control_directory, 0700);
	snprintf(path, sizeof(path), "%s/1", control_directory);
	pid = fake_server(path, 0, NULL, 0);
	assert_int_equal(berth__client_connect(1, SECOND_NS, &client), -BERTH_ESRCH);
	kill(pid, SIGKILL);
	child_wait(pid);
	assert_int_equal(unlink(path), 0);
}

static void other_versions_are_told(void **state)
{
	struct berth_control_hello hello = { 0 };
	struct berth__client client;
	pid_t pid;

	(void)state;
	(void)mkdir(control_directory, 0700);
	berth__control_header(&hello, BERTH_CONTROL_HELLO, sizeof(hello));
	hello.header.version++;
	pid = fake_server(NULL, 0, &hello, sizeof(hello));
	assert_int_equal(berth__client_connect(pid, SECOND_NS, &client), -BERTH_EPROTO);
	fake_server_end(pid);
	pid = fake_server(NULL, 0, &hello, 5);
	assert_int_equal(berth__client_connect(pid, SECOND_NS, &client), -BERTH_EPROTO);
	fake_server_end(pid);
	pid = fake_server(NULL, 0, NULL, 0);
	assert_int_equal(berth__client_connect(pid, SECOND_NS, &client), -BERTH_ESRCH);
	fake_server_end(pid);
}

/* ---- The directory -------------------------------------------------------------------------------------------- */

/* Neither side uses the directory as it is now. */
static void assert_directory_refused(void)
{
	struct berth__tenant *tenants;
	struct berth__client client;
	struct tenant tenant;

	assert_int_equal(berth__client_connect(getpid(), SECOND_NS, &client), -BERTH_EPERM);
	assert_int_equal(berth__client_list(SECOND_NS, &tenants), -BERTH_EPERM);
	tenant = tenant_open_as(TENANT_AREA, -BERTH_EPERM);
	assert_int_equal(tenant_do(&tenant, TENANT_CHECK), 0); /* it runs on */
	tenant_kill(&tenant);
}

static void unsafe_directories_are_refused(void **state)
{
	char real[100];
	int fd;

	(void)state;
	(void)rmdir(control_directory);
	snprintf(real, sizeof(real), "%s/real", runtime_directory);
	assert_int_equal(mkdir(real, 0700), 0);
	assert_int_equal(symlink(real, control_directory), 0);
	assert_directory_refused();
	assert_int_equal(unlink(control_directory), 0);
	assert_int_equal(rmdir(real), 0);
	fd = open(control_directory, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_directory_refused();
	assert_int_equal(unlink(control_directory), 0);
	assert_int_equal(mkdir(control_directory, 0700), 0);
	assert_int_equal(chmod(control_directory, 0710), 0);
	assert_directory_refused();
	assert_int_equal(chmod(control_directory, 0700), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(control_directory, NOBODY, NOBODY), 0);
		assert_directory_refused();
	}
	assert_int_equal(rmdir(control_directory), 0);
}

static void long_directories_work(void **state)
{
	char path[400], deep[300];
	struct tenant tenant;

	(void)state;
	memset(deep, 'd', 200);
	deep[200] = 0;
	snprintf(path, sizeof(path), "%s/%s", runtime_directory, deep);
	assert_int_equal(mkdir(path, 0700), 0);
	setenv("XDG_RUNTIME_DIR", path, 1);
	tenant = tenant_open();
	assert_int_equal(tenant_stat(&tenant).pid, tenant.pid);
	tenant_close(&tenant);
	setenv("XDG_RUNTIME_DIR", runtime_directory, 1);
	strcat(path, "/berth");
	assert_int_equal(rmdir(path), 0); /* the tenant left nothing in it */
	*strrchr(path, '/') = 0;
	assert_int_equal(rmdir(path), 0);
}

/* ---- The list ---------------------------------------------------------------------------------------------------- */

static void the_list_is_complete(void **state)
{
	struct tenant one = tenant_open(), two = tenant_open(), stopped = tenant_open(),
		      dead = tenant_open();
	struct berth__tenant *tenants;
	char junk[120], stale[120];
	struct stat file;
	int nr;

	(void)state;
	snprintf(junk, sizeof(junk), "%s/12junk", control_directory);
	snprintf(stale, sizeof(stale), "%s/%d", control_directory, (int)dead.pid);
	close(open(junk, O_CREAT | O_WRONLY, 0600));
	kill(stopped.pid, SIGSTOP);
	tenant_kill(&dead);
	assert_int_equal(lstat(stale, &file), 0);
	nr = berth__client_list(SECOND_NS, &tenants);
	assert_int_equal(nr, 3);
	for (int i = 0; i < nr; i++) {
		assert_true(i == 0 || tenants[i].pid > tenants[i - 1].pid);
		assert_int_equal(tenants[i].error,
				 tenants[i].pid == stopped.pid ? -BERTH_ETIMEDOUT : 0);
		if (tenants[i].error)
			continue;
		assert_true(tenants[i].pid == one.pid || tenants[i].pid == two.pid);
		assert_int_equal(tenants[i].stat.pid, tenants[i].pid);
		assert_int_equal(tenants[i].stat.tree, 42);
		assert_int_equal(tenants[i].stat.root_pid, getpid());
		assert_int_equal(tenants[i].stat.heap_pool_bytes, 4711);
		/* What it calls itself doesn't reach a terminal as it is. */
		assert_string_equal(tenants[i].stat.program, "tenant?[2J");
		assert_string_equal(tenants[i].stat.notice, "a notice ?[31m");
	}
	free(tenants);
	assert_int_equal(lstat(stale, &file), -1);
	assert_int_equal(lstat(junk, &file), 0);
	assert_int_equal(unlink(junk), 0);
	kill(stopped.pid, SIGCONT);
	tenant_close(&one);
	tenant_close(&two);
	tenant_close(&stopped);
	assert_int_equal(berth__client_list(SECOND_NS, &tenants), 0);
	free(tenants);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(random_messages_change_nothing),
		cmocka_unit_test(descriptors_of_clients_are_dropped),
		cmocka_unit_test(silent_connections_make_room),
		cmocka_unit_test(pending_claims_are_bounded),
		cmocka_unit_test(held_claims_are_bounded),
		cmocka_unit_test(claimant_without_descriptors),
		cmocka_unit_test(lost_descriptors),
		cmocka_unit_test(strangers_are_refused),
		cmocka_unit_test(foreign_servers_are_refused),
		cmocka_unit_test(servers_under_a_wrong_name),
		cmocka_unit_test(other_versions_are_told),
		cmocka_unit_test(unsafe_directories_are_refused),
		cmocka_unit_test(long_directories_work),
		cmocka_unit_test(the_list_is_complete),
	};

	return cmocka_run_group_tests(tests, runtime_directory_make, runtime_directory_remove);
}
