/* SPDX-License-Identifier: MIT */
/*
 * The claims of `berth run`, each made at its time by one thread, over the control sockets of the
 * program's processes.
 *
 * I1 A claim is first asked of the process with most lent (of equals, the one with the larger heap), then
 *    of the others while it is refused for a reason that another process may not have; only when all
 *    refuse without waiting is the first one asked to wait for holders.
 * I2 A process that ends or becomes another program while it is asked, or while a claim of it is held,
 *    is no failure: the claim goes on to the next process, or its memory is simply gone.
 * I3 A claim for which nobody is there is made as soon as somebody is. Every HOLD that it waits is
 *    counted apart ("nobody"), once some process of the tree has said whether it has a pool.
 * I4 A process is connected to, and its pool mapped, at the first claim of it, until it ends or becomes
 *    another program: a mapping that stays would keep the memory. Only claimed memory is written to,
 *    while the token is held.
 * I5 A process that didn't answer comes last for a while: a stopped one holds nobody up.
 * I6 While an answer is awaited, what is due to be released is released.
 *
 * Cost: with nothing due, one look at the record every 10 ms.
 */
#define _GNU_SOURCE
#include "tools/schedule.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/client.h"
#include "tools/measure.h"

#define LOOK_NS 10000000ull           /* at the tree */
#define NOBODY_NS 1000000ull          /* until the next look for somebody to ask */
#define CONNECT_NS 2000000000ull      /* what a process may take to say hello */
#define CLAIM_WAIT_NS 2000000000ull   /* what a claim may take, waiting for holders included */
#define ANSWER_NS 1000000000ull       /* to read an answer that is there */
#define STOP_NS 50000000ull           /* what the end of the run waits for the thread */
#define STOPPED (-ECANCELED)          /* an error: we are to stop */
#define TOUCH_BYTES ((size_t)1 << 20) /* written between two looks at whether to stop */
#define SILENCE_NS 10000000000ull     /* how long one that didn't answer comes last */
#define MOST_SERVERS 32
#define MOST_SILENT 32
#define NEVER UINT64_MAX

/* A process that was asked: its connection and its pool. */
struct server {
	struct berth__client client; /* fd -1: unused */
	char *base;                  /* NULL: not mapped yet */
	size_t bytes;
	uint64_t used_ns;
};

/* A process that didn't answer, and isn't asked before the others until then. */
struct silent {
	pid_t pid;
	uint64_t until_ns;
};

/* One claim's state: waiting to begin, or held until `next_ns`. */
struct scheduled {
	struct berth_run_claim *claim;
	uint64_t next_ns;  /* NEVER: done */
	uint64_t alone_ns; /* since when nobody is there to ask, or was counted; 0: somebody is */
	bool held;
	struct berth__claimed claimed;
};

struct berth__schedule {
	struct berth_run_record *record;
	struct scheduled claims[BERTH_RUN_CLAIMS];
	struct server servers[MOST_SERVERS];
	struct silent silent[MOST_SILENT];
	unsigned nr_silent; /* ever; the last ones are kept */
	uint64_t next_look_ns;
	pthread_t thread;
	int wake_fd; /* readable: stop */
	_Atomic bool stopping;
	pthread_mutex_t lock; /* guards `tree` and `finished` */
	pthread_cond_t ended;
	struct berth__tree tree;
	bool finished;
};

static uint64_t now_ns(void)
{
	return berth__clock_ns(CLOCK_MONOTONIC);
}

static uint64_t get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void count(_Atomic uint64_t *counter, uint64_t value)
{
	atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* ---- The tree -------------------------------------------------------------------------------- */

struct candidate {
	pid_t pid;
	bool silent;
	uint64_t lent_bytes, heap_bytes;
};

static bool serves(const struct berth_run_process *process)
{
	return atomic_load(&process->serving) && process->pid > 0 && kill(process->pid, 0) == 0;
}

static int most_lent_first(const void *left, const void *right)
{
	const struct candidate *a = left, *b = right;

	if (a->silent != b->silent)
		return a->silent ? 1 : -1;
	if (a->lent_bytes != b->lent_bytes)
		return a->lent_bytes < b->lent_bytes ? 1 : -1;
	if (a->heap_bytes != b->heap_bytes)
		return a->heap_bytes < b->heap_bytes ? 1 : -1;
	return (a->pid > b->pid) - (a->pid < b->pid);
}

static bool is_silent(const struct berth__schedule *schedule, pid_t pid)
{
	for (unsigned i = 0; i < MOST_SILENT; i++)
		if (schedule->silent[i].pid == pid && schedule->silent[i].until_ns > now_ns())
			return true;
	return false;
}

/* The processes that serve now. *decided: some process has said whether it has a pool. */
static unsigned find_candidates(const struct berth__schedule *schedule,
				struct candidate candidates[BERTH_RUN_PROCESSES], bool *decided)
{
	const struct berth_run_record *record = schedule->record;
	unsigned nr = 0;

	*decided = false;
	for (unsigned i = 0; i < BERTH_RUN_PROCESSES; i++) {
		const struct berth_run_process *process = &record->processes[i];

		if (!atomic_load(&process->used))
			break;
		*decided |= atomic_load(&process->serving) || process->why_no_pool[0] ||
			    process->why_not_serving[0];
		if (serves(process))
			candidates[nr++] = (struct candidate){
				.pid = process->pid,
				.silent = is_silent(schedule, process->pid),
				.lent_bytes = get(&process->lent_bytes_now),
				.heap_bytes = get(&process->heap_pool_bytes),
			};
	}
	qsort(candidates, nr, sizeof(candidates[0]), most_lent_first);
	return nr;
}

static void look_at_tree(struct berth__schedule *schedule)
{
	struct berth__tree *tree = &schedule->tree;
	uint64_t pools = 0, pool_bytes = 0, area_bytes = 0, lent_bytes = 0;

	for (unsigned i = 0; i < BERTH_RUN_PROCESSES; i++) {
		const struct berth_run_process *process = &schedule->record->processes[i];

		if (!atomic_load(&process->used))
			break;
		if (!serves(process))
			continue;
		pools++;
		pool_bytes += get(&process->pool_bytes);
		area_bytes += get(&process->area_bytes);
		lent_bytes += get(&process->lent_bytes_now);
	}
	if (!pools)
		return;
	pthread_mutex_lock(&schedule->lock);
	tree->samples++;
	tree->lent_bytes_sum += lent_bytes;
	tree->pools_max = most(tree->pools_max, pools);
	tree->pool_bytes_max = most(tree->pool_bytes_max, pool_bytes);
	tree->area_bytes_max = most(tree->area_bytes_max, area_bytes);
	tree->lent_bytes_max = most(tree->lent_bytes_max, lent_bytes);
	pthread_mutex_unlock(&schedule->lock);
}

/* ---- Servers --------------------------------------------------------------------------------- */

static void drop_server(struct server *server)
{
	berth__client_close(&server->client);
	if (server->base)
		munmap(server->base, server->bytes);
	*server = (struct server){ .client.fd = -1 };
}

static bool has_hung_up(const struct server *server)
{
	struct pollfd watch = { .fd = server->client.fd, .events = POLLIN };

	return poll(&watch, 1, 0) > 0; /* nobody says anything unasked but goodbye */
}

static void drop_ended_servers(struct berth__schedule *schedule)
{
	for (unsigned i = 0; i < MOST_SERVERS; i++)
		if (schedule->servers[i].client.fd >= 0 && has_hung_up(&schedule->servers[i]))
			drop_server(&schedule->servers[i]);
}

/* The process's server, connected. Full: instead of the one that wasn't used for longest. */
static int take_server(struct berth__schedule *schedule, pid_t pid, struct server **taken)
{
	struct server *server = &schedule->servers[0];
	int error;

	drop_ended_servers(schedule);
	for (unsigned i = 0; i < MOST_SERVERS; i++) {
		struct server *one = &schedule->servers[i];

		if (one->client.fd >= 0 && one->client.tenant.pid == pid) {
			*taken = one;
			return 0;
		}
		if (one->used_ns < server->used_ns)
			server = one;
	}
	drop_server(server);
	error = berth__client_connect(pid, CONNECT_NS, &server->client);
	if (error)
		server->client.fd = -1;
	*taken = server;
	return error;
}

static bool map_pool(struct server *server, const struct berth__claimed *claimed)
{
	struct stat file;
	void *base;

	if (fstat(claimed->pool_fd, &file) != 0 ||
	    claimed->reply.offset + claimed->reply.bytes > (uint64_t)file.st_size)
		return false;
	if (server->base)
		return claimed->reply.offset + claimed->reply.bytes <= server->bytes;
	base = mmap(NULL, (size_t)file.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		    claimed->pool_fd, 0);
	if (base == MAP_FAILED)
		return false;
	server->base = base;
	server->bytes = (size_t)file.st_size;
	return true;
}

/* A device would write it now; so do we, which also shows anybody who still uses it. */
static void touch(struct berth__schedule *schedule, struct server *server,
		  struct berth__claimed *claimed)
{
	const size_t bytes = claimed->reply.bytes;
	char *start;

	if (!map_pool(server, claimed))
		return;
	close(claimed->pool_fd); /* it would keep the pool as long as the claim is held */
	claimed->pool_fd = -1;
	start = server->base + claimed->reply.offset;
	for (size_t at = 0; at < bytes && !atomic_load(&schedule->stopping);) {
		const size_t end = at + least(bytes - at, TOUCH_BYTES);

		for (; at < end; at += BERTH_PAGE_SIZE)
			*(volatile uint64_t *)(void *)(start + at) = 0xdeadbea7dead0000u + at;
	}
}

/* ---- Claims ---------------------------------------------------------------------------------- */

static void release(struct scheduled *scheduled)
{
	const struct berth_run_claim *wanted = scheduled->claim;

	berth__claimed_close(&scheduled->claimed);
	scheduled->held = false;
	scheduled->next_ns = now_ns() + wanted->hold_ns;
	if (wanted->repeat != UINT64_MAX && get(&wanted->done) >= wanted->repeat)
		scheduled->next_ns = NEVER;
}

/* Releases what is due; when the next is. */
static uint64_t release_due(struct berth__schedule *schedule)
{
	uint64_t next = NEVER, now = now_ns();

	for (uint32_t i = 0; i < schedule->record->nr_claims; i++) {
		struct scheduled *one = &schedule->claims[i];

		if (one->held && one->next_ns <= now)
			release(one);
		else if (one->held)
			next = least(next, one->next_ns);
	}
	return next;
}

/* Waits until the descriptor can be read, it is `until`, or we are to stop: false. */
static bool wait_for(const struct berth__schedule *schedule, int fd, uint64_t until)
{
	struct pollfd watch[] = { { .fd = schedule->wake_fd, .events = POLLIN },
				  { .fd = fd, .events = POLLIN } };
	uint64_t now = now_ns(), ns = until > now ? until - now : 0;
	const struct timespec timeout = { .tv_sec = (time_t)(ns / 1000000000u),
					  .tv_nsec = (long)(ns % 1000000000u) };

	ppoll(watch, 2, &timeout, NULL);
	return !atomic_load(&schedule->stopping);
}

/* Waits for the answer to a claim, as long as an answer may take. */
static int await(struct berth__schedule *schedule, struct server *server,
		 struct berth__claimed *claimed)
{
	const uint64_t deadline = now_ns() + CLAIM_WAIT_NS + BERTH_CLIENT_SLACK_NS;

	while (wait_for(schedule, server->client.fd, least(deadline, release_due(schedule)))) {
		struct pollfd watch = { .fd = server->client.fd, .events = POLLIN };

		if (poll(&watch, 1, 0) > 0)
			return berth__client_claim_receive(&server->client, ANSWER_NS, claimed);
		if (now_ns() >= deadline)
			return -BERTH_ETIMEDOUT;
	}
	return STOPPED;
}

/* The process's own answer, which leaves the connection as it was. */
static bool is_refusal(int error)
{
	return error == -BERTH_EBUSY || error == -BERTH_ENOSPC || error == -BERTH_ENOMEM ||
	       error == -BERTH_EAGAIN || error == -BERTH_E2BIG || error == -BERTH_EINVAL ||
	       error == -BERTH_ENOENT;
}

/* Asks one process. A refusal leaves the connection; whatever else goes wrong ends it. */
static int ask(struct berth__schedule *schedule, pid_t pid, uint64_t bytes, uint64_t timeout_ns,
	       struct berth__claimed *claimed)
{
	struct berth_control_claim request = { .claimant = "berth run",
					       .bytes = bytes,
					       .timeout_ns = timeout_ns,
					       .flags = BERTH_CONTROL_RAW };
	struct server *server;
	int error = take_server(schedule, pid, &server);

	if (error)
		return error == -BERTH_ESRCH ? error : -BERTH_ETIMEDOUT; /* not asked */
	server->used_ns = now_ns();
	error = berth__client_claim_send(&server->client, &request);
	if (!error)
		error = await(schedule, server, claimed);
	if (!error)
		touch(schedule, server, claimed);
	else if (!is_refusal(error))
		drop_server(server);
	return error;
}

/* What came of asking: of the processes that didn't have it. */
struct asked {
	unsigned failed, unanswered;
};

static void count_failure(struct berth__schedule *schedule, pid_t pid, int error,
			  struct asked *asked)
{
	if (error == -BERTH_ESRCH)
		return; /* it has ended */
	asked->failed++;
	if (is_refusal(error))
		return;
	asked->unanswered++;
	schedule->silent[schedule->nr_silent++ % MOST_SILENT] =
		(struct silent){ .pid = pid, .until_ns = now_ns() + SILENCE_NS };
}

/* Asks one after the other (I1). 0: `claimed` is held. */
static int ask_all(struct berth__schedule *schedule, const struct candidate *candidates,
		   unsigned nr, uint64_t bytes, struct berth__claimed *claimed, struct asked *asked)
{
	bool busy = false;
	int error = -BERTH_ESRCH;

	for (unsigned i = 0; i < nr; i++) {
		error = ask(schedule, candidates[i].pid, bytes, nr > 1 ? 0 : CLAIM_WAIT_NS,
			    claimed);
		if (!error || error == STOPPED)
			return error;
		count_failure(schedule, candidates[i].pid, error, asked);
		busy |= error == -BERTH_EBUSY || error == -BERTH_ENOSPC;
		if (error == -BERTH_E2BIG || error == -BERTH_EINVAL)
			return error;
	}
	if (nr < 2 || !busy || candidates[0].silent)
		return error;
	error = ask(schedule, candidates[0].pid, bytes, CLAIM_WAIT_NS, claimed);
	if (error && error != STOPPED)
		count_failure(schedule, candidates[0].pid, error, asked);
	return error;
}

/* Nobody is there (I3): again soon. */
static void wait_for_somebody(struct scheduled *scheduled, bool decided)
{
	const uint64_t now = now_ns();

	if (!scheduled->alone_ns || !decided)
		scheduled->alone_ns = now;
	if (now - scheduled->alone_ns >= scheduled->claim->hold_ns) {
		count(&scheduled->claim->nobody, 1);
		scheduled->alone_ns = now;
	}
	scheduled->next_ns = now + NOBODY_NS;
}

static void make(struct berth__schedule *schedule, struct scheduled *scheduled)
{
	struct candidate candidates[BERTH_RUN_PROCESSES];
	struct berth_run_claim *wanted = scheduled->claim;
	struct asked asked = { .failed = 0 };
	uint64_t began = now_ns();
	bool decided;
	unsigned nr = find_candidates(schedule, candidates, &decided);
	int error = ask_all(schedule, candidates, nr, wanted->bytes, &scheduled->claimed, &asked);

	if (error == STOPPED)
		return;
	count(&wanted->unanswered, asked.unanswered);
	if (error && !asked.failed) {
		wait_for_somebody(scheduled, decided);
		return;
	}
	scheduled->alone_ns = 0;
	scheduled->held = !error;
	count(&wanted->passed_on, asked.failed - (error ? 1 : 0));
	count(&wanted->succeeded, !error);
	count(&wanted->done, 1);
	scheduled->next_ns = began + wanted->hold_ns;
	if (error && wanted->repeat != UINT64_MAX && get(&wanted->done) >= wanted->repeat)
		scheduled->next_ns = NEVER;
}

/* ---- The thread ------------------------------------------------------------------------------ */

static void *run(void *context)
{
	struct berth__schedule *schedule = context;

	for (bool go_on = true; go_on;) {
		uint64_t now = now_ns(), next;

		if (now >= schedule->next_look_ns) {
			look_at_tree(schedule);
			drop_ended_servers(schedule);
			schedule->next_look_ns = now + LOOK_NS;
		}
		next = least(release_due(schedule), schedule->next_look_ns);
		for (uint32_t i = 0; i < schedule->record->nr_claims; i++) {
			struct scheduled *one = &schedule->claims[i];

			if (!one->held && one->next_ns <= now)
				make(schedule, one);
			next = least(next, one->next_ns);
		}
		go_on = wait_for(schedule, -1, next);
	}
	for (uint32_t i = 0; i < schedule->record->nr_claims; i++)
		if (schedule->claims[i].held)
			berth__claimed_close(&schedule->claims[i].claimed);
	for (unsigned i = 0; i < MOST_SERVERS; i++)
		drop_server(&schedule->servers[i]);
	pthread_mutex_lock(&schedule->lock);
	schedule->finished = true;
	pthread_cond_signal(&schedule->ended);
	pthread_mutex_unlock(&schedule->lock);
	return NULL;
}

static bool start_thread(struct berth__schedule *schedule)
{
	pthread_condattr_t monotonic;
	sigset_t all, old;
	int error;

	pthread_mutex_init(&schedule->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&schedule->ended, &monotonic);
	pthread_condattr_destroy(&monotonic);
	schedule->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (schedule->wake_fd < 0)
		return false;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
	error = pthread_create(&schedule->thread, NULL, run, schedule);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error)
		close(schedule->wake_fd);
	return !error;
}

struct berth__schedule *berth__schedule_start(struct berth_run_record *record)
{
	struct berth__schedule *schedule = calloc(1, sizeof(*schedule));

	if (!schedule)
		return NULL;
	schedule->record = record;
	for (unsigned i = 0; i < MOST_SERVERS; i++)
		schedule->servers[i].client.fd = -1;
	for (uint32_t i = 0; i < record->nr_claims; i++) {
		schedule->claims[i].claim = &record->claims[i];
		schedule->claims[i].next_ns = record->start_ns + record->claims[i].start_ns;
	}
	if (start_thread(schedule))
		return schedule;
	free(schedule);
	return NULL;
}

void berth__schedule_stop(struct berth__schedule *schedule, struct berth__tree *tree)
{
	const uint64_t until = now_ns() + STOP_NS;
	const struct timespec limit = { .tv_sec = (time_t)(until / 1000000000u),
					.tv_nsec = (long)(until % 1000000000u) };
	bool finished;

	*tree = (struct berth__tree){ .samples = 0 };
	if (!schedule)
		return;
	atomic_store(&schedule->stopping, true);
	eventfd_write(schedule->wake_fd, 1);
	pthread_mutex_lock(&schedule->lock);
	while (!schedule->finished &&
	       pthread_cond_timedwait(&schedule->ended, &schedule->lock, &limit) == 0)
		;
	finished = schedule->finished;
	*tree = schedule->tree;
	pthread_mutex_unlock(&schedule->lock);
	/* It may be waiting for a stopped process to say hello. Then it is left to the end of ours, and
	 * with it what it holds. */
	if (!finished)
		return;
	pthread_join(schedule->thread, NULL);
	close(schedule->wake_fd);
	free(schedule);
}
