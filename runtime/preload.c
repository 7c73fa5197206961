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
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/control.h"
#include "runtime/direct.h"
#include "runtime/heap.h"
#include "runtime/internal.h"
#include "runtime/run_record.h"
#include "runtime/sandbox.h"
#include "runtime/server.h"
#include "runtime/sqlite_lend.h"
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
		.nr_areas = record->config[0] ? 0 : record->nr_areas,
		.config = record->config[0] ? record->config : NULL,
		.flags = (record->poison ? BERTH_POOL_POISON : 0u) |
			 (record->let_cpus_sleep ? BERTH_POOL_LET_CPUS_SLEEP : 0u) |
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

/* A limit that explains an error when the pool is opened, or an empty text. */
static const char *limit_in_the_way(int error)
{
	struct rlimit limit;

	if (error == -BERTH_EPERM && getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
	    limit.rlim_max < record->areas[0].bytes)
		return "RLIMIT_FSIZE is smaller than the pool; ";
	if (error == -BERTH_ENOMEM && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 16)
		return "RLIMIT_NOFILE leaves no descriptor; ";
	if (error == -BERTH_ENOMEM && getrlimit(RLIMIT_AS, &limit) == 0 &&
	    limit.rlim_cur != RLIM_INFINITY)
		return "RLIMIT_AS leaves too few addresses; ";
	return "";
}

static void go_without_error(int error)
{
	char why[128];

	snprintf(why, sizeof(why), "%s (%s); %sthe program runs on ordinary memory",
		 berth_errname(error), berth_strerror(error), limit_in_the_way(error));
	go_without(why);
	say(why);
}

/* The pool is there and the heap is in it: says so, and starts the control thread. */
static void serve(bool aloud)
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
	berth__sqlite_lend_start(pool, record, process);
	atomic_store(&process->pool_bytes, pool->memory.bytes);
	atomic_store(&process->area_bytes, 0);
	for (unsigned i = 0; i < pool->nr_areas; i++)
		atomic_fetch_add(&process->area_bytes, pool->areas[i].bytes);
	if (berth__control_start(pool, record, process) != 0) {
		go_without("the system refused a thread; claims aren't made");
		say("the system refused a thread; claims aren't made");
	}
}

/* A pool and its addresses count as the program's memory there: at least half is left to it. */
static bool addresses_suffice(void)
{
	const rlim_t least = (rlim_t)16 << 30;
	struct rlimit limit;

	return getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
	       limit.rlim_cur / 2 >= least + 2 * record->pool_bytes;
}

static void live_in_pool(void)
{
	struct wanted_pool wanted;
	struct berth_pool_impl *opened;
	int error;

	if (!addresses_suffice()) {
		go_without_error(-BERTH_ENOMEM);
		return;
	}
	describe_pool(&wanted);
	error = berth__pool_open(&wanted.params, (size_t)256 << 30, &opened);
	if (!error)
		error = berth__heap_init(opened);
	if (error) {
		go_without_error(error);
		return;
	}
	pool = opened;
	serve(record->root_pid == getpid());
}

/* ---- Sandboxes: our threads must go, or the heap must leave the pool ------------------------------- */

static void stop_threads(void);
static void start_threads(void);

/* After stop_threads(). What is left of us makes no system calls of its own. */
static void leave_pool(const char *why)
{
	if (pool_pid == getpid()) {
		berth__direct_shut(why);
		berth__sqlite_lend_stop(process);
		berth__control_finish();
		berth__control_forget();
		atomic_store(&berth__fork_hooks.left, berth__heap_leave());
		snprintf(process->notice, sizeof(process->notice),
			 "%s was installed, and the heap has left the pool for it", why);
		pool_pid = 0;
	}
	pool = NULL;
	atomic_store(&process->sandboxed, 1);
}

static const struct berth__sandbox_hooks sandbox_hooks = { stop_threads, start_threads,
							   leave_pool };

/* ---- Forked children ---------------------------------------------------------------------------- */

/* The thread that waits for the child to live on. */
static struct {
	pthread_t thread;
	bool joinable;
	_Atomic uint32_t cancel; /* 1: it isn't to wait, and to do nothing */
	_Atomic bool cancelled;  /* it did nothing */
	_Atomic int tid;
} late;

static void *live_in_pool_late(void *unused)
{
	const struct timespec pause = { .tv_nsec = LATE_NS };
	struct wanted_pool wanted;
	int error;

	prctl(PR_SET_NAME, "berth-control");
	atomic_store(&late.tid, (int)syscall(SYS_gettid));
	(void)syscall(SYS_futex, &late.cancel, FUTEX_WAIT_PRIVATE, 0, &pause, NULL, 0);
	if (atomic_load(&late.cancel)) {
		atomic_store(&late.cancelled, true);
		berth__fork_hooks.own_threads--;
		return unused;
	}
	describe_pool(&wanted);
	berth__pusher_await_pages(); /* then our parent unregisters all that is mapped there */
	berth__fork_block();
	error = berth__pool_revive(pool, &wanted.params);
	berth__fork_unblock();
	/* Not before: a fork's first handlers take the allocator's locks, and then wait for us; who keeps
	 * forks away must not use malloc, and starting a thread does. */
	if (error)
		go_without_error(error);
	else
		serve(false);
	berth__fork_hooks.own_threads--; /* this one */
	return unused;
}

static void start_late(void)
{
	atomic_store(&late.cancel, 0);
	atomic_store(&late.cancelled, false);
	late.joinable = berth__start_thread(live_in_pool_late, NULL, &late.thread) == 0;
}

static void stop_threads(void)
{
	if (late.joinable) {
		atomic_store(&late.cancel, 1);
		(void)syscall(SYS_futex, &late.cancel, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
		pthread_join(late.thread, NULL);
		berth__thread_gone(atomic_load(&late.tid));
		late.joinable = false;
	}
	berth__pusher_stop();
	berth__control_stop();
}

static void start_threads(void)
{
	if (atomic_exchange(&late.cancelled, false))
		start_late();
	else if (berth__control_resume() != 0)
		go_without("the system refused a thread after a change of namespaces");
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
	berth__sandbox_forget();
	late.joinable = false;
	if (heap_fork.child)
		heap_fork.child();
	if (pool) {
		berth__direct_forget();
		berth__control_forget();
		berth__pool_leave(pool);
	}
	process = take_process_record();
	berth__sqlite_lend_stop(process);
	go_without("a forked child: its heap is a private copy");
}

/* The last: malloc and threads can be used again. */
static void fork_child_late(void)
{
	if (atomic_load(&berth__fork_hooks.left)) { /* nothing but what malloc does */
		process = take_process_record();
		go_without("a seccomp filter that its parent has installed");
		if (process)
			atomic_store(&process->sandboxed, 1);
		return;
	}
	if (!pool || !process)
		return;
	berth__sandbox_init(&sandbox_hooks);
	start_late();
}

/* A filter stays over an exec, and children have it too. */
static bool is_sandboxed(void)
{
	const pid_t parent = getppid();

	for (int i = 0; i < BERTH_RUN_PROCESSES && atomic_load(&record->processes[i].used); i++)
		if (record->processes[i].pid == parent &&
		    atomic_load(&record->processes[i].sandboxed))
			atomic_store(&process->sandboxed, 1);
	return atomic_load(&process->sandboxed);
}

__attribute__((constructor)) static void start(void)
{
	int saved = errno;

	berth__untreated_init();
	record = map_record();
	if (record)
		process = take_process_record();
	if (process && is_sandboxed())
		go_without("a seccomp filter that the program has installed before");
	else if (process)
		live_in_pool();
	if (pool)
		berth__sandbox_init(&sandbox_hooks);
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
