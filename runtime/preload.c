/* SPDX-License-Identifier: MIT */
/*
 * The preload library: started in every process of a program under `berth run`.
 *
 * Each process has a pool of its own. One that was started by exec gets it here, before main: its heap
 * moves in, and the control thread starts. A forked child begins with a private copy of its parent's heap; when
 * it has lived for LATE_NS without an exec, it gets a pool too, for what its heap needs from then on. The
 * areas of the program's first process are resident from the start; those of the others become so as they are used,
 * since there may be many and most end soon.
 *
 * Whatever goes wrong here, the program runs on, and the record says what.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/control.h"
#include "runtime/direct.h"
#include "runtime/heap.h"
#include "runtime/internal.h"
#include "runtime/run_record.h"
#include "runtime/server.h"
#include "runtime/untreated.h"

#define LATE_NS 20000000 /* most forked children exec or end sooner */

static struct berth_run_record *record;
static struct berth_run_process *process;
static struct berth_pool_impl *pool; /* this process's; NULL: it has none */
static pid_t pool_pid; /* whose it is: a forked child has only the addresses of its parent's */

/*
 * jemalloc registers its fork handlers when it starts, which is before any constructor. Ours have to
 * be there first (see fork.c), so its call comes through here.
 */
int __real_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
int __wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
int __wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	static _Atomic uint32_t registering;

	/* Our own registration comes through here as well. */
	if (atomic_exchange(&registering, 1) == 0)
		berth__fork_register();
	return __real_pthread_atfork(prepare, parent, child);
}

static struct berth_run_record *map_record(void)
{
	const char *path = getenv(BERTH_RUN_ENV);
	struct berth_run_record *at;
	struct stat file;
	int fd;

	if (!path)
		return NULL;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	if (fstat(fd, &file) != 0 || (size_t)file.st_size < sizeof(*at)) {
		close(fd);
		return NULL;
	}
	at = mmap(NULL, sizeof(*at), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (at == MAP_FAILED)
		return NULL;
	if (at->magic != BERTH_RUN_MAGIC || at->nr_areas > BERTH_RUN_AREAS ||
	    at->nr_claims > BERTH_RUN_CLAIMS) {
		munmap(at, sizeof(*at));
		return NULL;
	}
	return at;
}

static void fill_process_record(struct berth_run_process *one)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	one->since_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	snprintf(one->program, sizeof(one->program), "%s", program_invocation_short_name);
	one->pid = getpid();
}

/* The table is full: takes the place of a process that has ended without a claim. NULL: none, and this
 * process isn't listed. */
static struct berth_run_process *replace_process_record(void)
{
	for (int i = 0; i < BERTH_RUN_PROCESSES; i++) {
		struct berth_run_process *one = &record->processes[i];
		uint32_t used = 1;

		if (one->pid == record->root_pid || atomic_load(&one->claims_ok) ||
		    atomic_load(&one->claims_failed) || kill(one->pid, 0) == 0 || errno != ESRCH ||
		    !atomic_compare_exchange_strong(&one->used, &used, 2))
			continue;
		memset((char *)one + sizeof(one->used), 0, sizeof(*one) - sizeof(one->used));
		fill_process_record(one);
		atomic_store(&one->used, 1);
		return one;
	}
	return NULL;
}

/* This process's record: the one it had before an exec, or a new one. */
static struct berth_run_process *take_process_record(void)
{
	for (int i = 0; i < BERTH_RUN_PROCESSES; i++) {
		struct berth_run_process *one = &record->processes[i];

		if (!atomic_load(&one->used))
			break;
		if (one->pid != getpid())
			continue;
		snprintf(one->program, sizeof(one->program), "%s", program_invocation_short_name);
		one->why_no_pool[0] = 0;
		/* Who claimed from the image before the exec was told by its token. */
		atomic_store(&one->serving, 0);
		atomic_store(&one->claims_held, 0);
		return one;
	}
	atomic_fetch_add(&record->nr_processes, 1);
	for (int i = 0; i < BERTH_RUN_PROCESSES; i++) {
		struct berth_run_process *one = &record->processes[i];
		uint32_t unused = 0;

		if (!atomic_compare_exchange_strong(&one->used, &unused, 1))
			continue;
		fill_process_record(one);
		return one;
	}
	return replace_process_record();
}

/* The program must not be harmed by what Berth can't do: it runs on without a pool. */
static void go_without(const char *why)
{
	if (process)
		snprintf(process->why_no_pool, sizeof(process->why_no_pool), "%s", why);
}

static void say(const char *what)
{
	char line[512];
	int length = snprintf(line, sizeof(line), "berth: %s\n", what);

	if (length > (int)sizeof(line) - 1)
		length = sizeof(line) - 1;
	if (length > 0 && write(STDERR_FILENO, line, (size_t)length) < 0) {
		/* nobody to tell */
	}
}

struct wanted_pool {
	struct berth_pool_params params;
	struct berth_area_params areas[BERTH_RUN_AREAS];
};

/* What the record asks for. */
static void describe_pool(struct wanted_pool *wanted)
{
	const bool first = record->root_pid == getpid();

	wanted->params = (struct berth_pool_params){
		.bytes = record->pool_bytes,
		.areas = wanted->areas,
		.nr_areas = record->nr_areas,
		.flags = (record->poison ? BERTH_POOL_POISON : 0u) |
			 (first ? 0u : BERTH_POOL_SPARSE),
		.mover = record->mover,
	};
	for (uint32_t i = 0; i < record->nr_areas; i++)
		wanted->areas[i] = (struct berth_area_params){
			.name = record->areas[i].name,
			.bytes = record->areas[i].bytes,
			.lend = BERTH_LEND_FIRST,
		};
}

static void go_without_error(int error)
{
	char why[128];

	snprintf(why, sizeof(why), "%s (%s); the program runs on ordinary memory",
		 berth_errname(error), berth_strerror(error));
	go_without(why);
	say(why);
}

/* The pool is there and the heap is in it: says so, and starts the control thread, unless the caller is to
 * become that. False when there is none. */
static bool serve(bool aloud, bool own_thread)
{
	const char *notice = berth_mover_notice(pool->mmu.mover);

	pool_pid = getpid();
	process->why_no_pool[0] = 0;
	snprintf(process->mover, sizeof(process->mover), "%s", berth_mover_name(pool->mmu.mover));
	if (notice)
		snprintf(process->notice, sizeof(process->notice), "%s", notice);
	if (notice && aloud)
		say(notice);
	berth__direct_start(pool, record->trust_direct_io);
	atomic_store(&process->pool_bytes, pool->memory.bytes);
	atomic_store(&process->area_bytes, 0);
	for (unsigned i = 0; i < pool->nr_areas; i++)
		atomic_fetch_add(&process->area_bytes, pool->areas[i].bytes);
	if (berth__control_start(pool, record, process, own_thread) != 0) {
		go_without("the system refused a thread; claims aren't made");
		say("the system refused a thread; claims aren't made");
		return false;
	}
	return true;
}

static void live_in_pool(void)
{
	struct wanted_pool wanted;
	struct berth_pool_impl *opened;
	int error;

	describe_pool(&wanted);
	error = berth__pool_open(&wanted.params, (size_t)256 << 30, &opened);
	if (!error)
		error = berth__heap_init(opened);
	if (error) {
		go_without_error(error);
		return;
	}
	pool = opened;
	(void)serve(record->root_pid == getpid(), false);
}

/* ---- Forked children ---------------------------------------------------------------------------- */

static void *live_in_pool_late(void *unused)
{
	const struct timespec pause = { .tv_nsec = LATE_NS };
	struct wanted_pool wanted;
	bool serves = false;
	int error;

	prctl(PR_SET_NAME, "berth-control");
	nanosleep(&pause, NULL);
	describe_pool(&wanted);
	berth__pusher_await_pages(); /* then our parent unregisters all that is mapped there */
	berth__fork_block();
	error = berth__pool_revive(pool, &wanted.params);
	if (error)
		go_without_error(error);
	else
		serves = serve(false, true);
	berth__fork_unblock();
	if (serves)
		berth__control_run();
	berth__fork_hooks.own_threads--; /* this one */
	return unused;
}

static struct berth_fork_hooks heap_fork;

static void fork_prepare(void)
{
	if (heap_fork.prepare)
		heap_fork.prepare();
	berth__server_fork_prepare();
}

static void fork_parent(void)
{
	berth__server_fork_parent();
	if (heap_fork.parent)
		heap_fork.parent();
}

/* The first thing in a forked child. */
static void fork_child(void)
{
	berth__server_forget();
	if (heap_fork.child)
		heap_fork.child();
	if (pool) {
		berth__direct_forget();
		berth__control_forget();
		berth__pool_leave(pool);
	}
	process = take_process_record();
	go_without("a forked child: its heap is a private copy");
}

/* The last: malloc and threads can be used again. */
static void fork_child_late(void)
{
	pthread_t thread;

	if (!pool || !process)
		return;
	if (berth__start_thread(live_in_pool_late, &thread) == 0)
		pthread_detach(thread);
}

__attribute__((constructor)) static void start(void)
{
	int saved = errno;

	berth__untreated_init();
	record = map_record();
	if (record)
		process = take_process_record();
	if (process)
		live_in_pool();
	if (record) {
		heap_fork = berth__fork_hooks;
		berth__fork_hooks.prepare = fork_prepare;
		berth__fork_hooks.parent = fork_parent;
		berth__fork_hooks.child = fork_child;
		pthread_atfork(NULL, NULL, fork_child_late);
	}
	errno = saved;
}

__attribute__((destructor)) static void finish(void)
{
	if (process && pool_pid == getpid())
		berth__control_finish();
}
