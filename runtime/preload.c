/* SPDX-License-Identifier: MIT */
/*
 * The preload library: started in every process of a program under `berth run`.
 *
 * The program's first process gets a pool, its heap moves in, and the control thread starts. Other
 * processes (children after exec, copies after fork) run on ordinary memory and say so in the record.
 * Whatever goes wrong here, the program runs on, and the record says what.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "port/linux/fd.h"
#include "runtime/control.h"
#include "runtime/heap.h"
#include "runtime/internal.h"
#include "runtime/run_record.h"
#include "runtime/untreated.h"

static struct berth_run_record *record;
static struct berth_run_process *process;

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
		return one;
	}
	for (int i = 0; i < BERTH_RUN_PROCESSES; i++) {
		struct berth_run_process *one = &record->processes[i];
		uint32_t unused = 0;

		if (!atomic_compare_exchange_strong(&one->used, &unused, 1))
			continue;
		one->pid = getpid();
		snprintf(one->program, sizeof(one->program), "%s", program_invocation_short_name);
		return one;
	}
	return NULL; /* too many processes: this one isn't listed */
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
	if (length > 0)
		berth_stderr(line, (size_t)length);
}

static int open_pool(struct berth_pool_impl **pool)
{
	struct berth_area_params areas[BERTH_RUN_AREAS];
	struct berth_pool_params params = {
		.bytes = record->pool_bytes,
		.areas = areas,
		.nr_areas = record->nr_areas,
		.flags = record->poison ? BERTH_POOL_POISON : 0,
		.mover = record->mover,
	};

	for (uint32_t i = 0; i < record->nr_areas; i++)
		areas[i] = (struct berth_area_params){
			.name = record->areas[i].name,
			.bytes = record->areas[i].bytes,
			.lend = BERTH_LEND_FIRST,
		};
	return berth__pool_open(&params, (size_t)256 << 30, pool);
}

static void live_in_pool(void)
{
	struct berth_pool_impl *pool;
	const char *notice;
	char why[160];
	int error = open_pool(&pool);

	if (!error)
		error = berth__heap_init(pool);
	if (error) {
		snprintf(why, sizeof(why), "%s (%s); the program runs on ordinary memory",
			 berth_errname(error), berth_strerror(error));
		go_without(why);
		say(why);
		return;
	}
	snprintf(process->mover, sizeof(process->mover), "%s", berth_mover_name(pool->mmu.mover));
	notice = berth_mover_notice(pool->mmu.mover);
	if (notice) {
		snprintf(process->notice, sizeof(process->notice), "%s", notice);
		say(notice);
	}
	atomic_store(&process->pool_bytes, pool->memory.bytes);
	atomic_store(&process->area_bytes, 0);
	for (unsigned i = 0; i < pool->nr_areas; i++)
		atomic_fetch_add(&process->area_bytes, pool->areas[i].bytes);
	if (berth__control_start(pool, record, process) != 0) {
		go_without("the system refused a thread; claims aren't made");
		say("the system refused a thread; claims aren't made");
	}
}

/* A forked child is a process of its own, on a private copy of the heap. */
static void (*heap_fork_child)(void);
static void fork_child(void)
{
	if (heap_fork_child)
		heap_fork_child();
	process = take_process_record();
	go_without("a forked child: its heap is a private copy");
}

__attribute__((constructor)) static void start(void)
{
	int saved = errno;

	berth__untreated_init();
	record = map_record();
	if (record)
		process = take_process_record();
	if (process && record->root_pid != getpid())
		go_without("a child process: only the program's first process has a pool");
	else if (process)
		live_in_pool();
	if (record) {
		heap_fork_child = berth__fork_hooks.child;
		berth__fork_hooks.child = fork_child;
	}
	errno = saved;
}

__attribute__((destructor)) static void finish(void)
{
	if (process && record && process->pid == getpid() && record->root_pid == getpid())
		berth__control_finish();
}
