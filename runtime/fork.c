/* SPDX-License-Identifier: MIT */
/*
 * fork of a process with pools: the child gets private copies of all mapped memory.
 *
 * prepare: take the heap's lock, stall the other threads' writes, remember the locks of FILEs that
 * lie in movable memory. child: copy, then tell the parent through a pipe. parent: wait for the
 * child, put the FILE locks right, let the writers go on.
 *
 * The FILE locks: glibc resets the lock of every FILE in the child before any handler runs. For a
 * FILE in memory that is still shared that would unlock it in the parent under the thread that holds
 * it. So their words are saved once nobody can change them, and written back once the child has its
 * own copy. The stdio list lock, which walking the list needs, is taken before writes are stalled:
 * after that no lock may be waited for that a stalled thread can hold.
 *
 * The handlers must be the first that are registered: then prepare runs last, after the heap's own
 * prefork has written its metadata, and the child's part runs first, before anybody's hook.
 */
#define _GNU_SOURCE
#include "port/linux/fd.h"
#include "runtime/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_POOLS 64
#define MAX_FILE_LOCKS 4096

_Atomic uint32_t berth__fork_generation;
size_t berth__fork_push_bytes = 64u << 20;
struct berth_fork_hooks berth__fork_hooks;

static pthread_mutex_t fork_lock = PTHREAD_MUTEX_INITIALIZER; /* guards pools[] */
static struct berth_pool_impl *pools[MAX_POOLS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* While a fork is under way; the forking thread's. The parent hears from the child by a socket, which
 * also tells when the child dies; without a descriptor left, by a shared page. */
static int line[2] = { -1, -1 };
static struct berth_pool_impl *pushed; /* the pool that isn't copied at once, or NULL */
static struct {
	_Atomic int32_t child_pid;
	_Atomic uint32_t copied;
} * shared;
#define CHILD_SILENT_NS 10000000000ull /* no sign of life from a child: it was never born */
static bool writers_stalled;

int berth__fork_add(struct berth_pool_impl *pool)
{
	int error = -BERTH_ENOSPC;

	pthread_mutex_lock(&fork_lock);
	for (int i = 0; i < MAX_POOLS && error; i++) {
		if (pools[i])
			continue;
		pools[i] = pool;
		error = 0;
	}
	pthread_mutex_unlock(&fork_lock);
	return error;
}

void berth__fork_remove(struct berth_pool_impl *pool)
{
	pthread_mutex_lock(&fork_lock);
	for (int i = 0; i < MAX_POOLS; i++)
		if (pools[i] == pool)
			pools[i] = NULL;
	pthread_mutex_unlock(&fork_lock);
}

void berth__fork_block(void)
{
	pthread_mutex_lock(&fork_lock);
}

void berth__fork_unblock(void)
{
	pthread_mutex_unlock(&fork_lock);
}

int berth__start_thread(void *(*body)(void *), void *arg, pthread_t *thread)
{
	sigset_t all, old;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* the program's signals are the program's */
	error = pthread_create(thread, NULL, body, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error)
		return -BERTH_ENOMEM;
	berth__fork_hooks.own_threads++;
	return 0;
}

/* ---- FILE locks ------------------------------------------------------------------------------------------- */

#ifdef __GLIBC__
/* What glibc exports for its own family of libraries: the list of open FILEs and its lock. */
extern FILE *_IO_list_all;
extern void _IO_list_lock(void);
extern void _IO_list_unlock(void);
extern void _IO_list_resetlock(void);

struct file_lock { /* _IO_lock_t */
	int32_t lock, count;
	void *owner;
};

static struct {
	struct file_lock *place; /* through the linear mapping: never stalled, never moved */
	struct file_lock value;
} file_locks[MAX_FILE_LOCKS];
static unsigned nr_file_locks;

/* The same bytes in a linear mapping, or NULL when they aren't movable memory of a pool. */
static struct file_lock *in_linear_mapping(const void *address)
{
	for (int i = 0; i < MAX_POOLS; i++) {
		const struct berth_pool_impl *pool = pools[i];
		const char *at = address;
		berth_pfn_t pfn;

		if (!pool || at < pool->mmu.base || at >= pool->mmu.base + pool->mmu.bytes)
			continue;
		pfn = berth_space_lookup(pool->space,
					 (uint64_t)(at - pool->mmu.base) >> BERTH_PAGE_SHIFT);
		if (pfn >= BERTH_PFN_PRIVATE)
			return NULL;
		return (void *)(berth_memory_at(&pool->memory, pfn) +
				(uintptr_t)at % BERTH_PAGE_SIZE);
	}
	return NULL;
}

static void lock_file_list(void)
{
	_IO_list_lock();
}

static void unlock_file_list(void)
{
	_IO_list_unlock();
}

/* In the child glibc may have reset it already, or not: so whatever it is, make it free. */
static void reset_file_list_lock(void)
{
	_IO_list_resetlock();
}

static void save_file_locks(void)
{
	nr_file_locks = 0;
	for (FILE *file = _IO_list_all; file && nr_file_locks < MAX_FILE_LOCKS;
	     file = file->_chain) {
		struct file_lock *place = in_linear_mapping(file->_lock);

		if (!place)
			continue;
		file_locks[nr_file_locks].place = place;
		file_locks[nr_file_locks++].value = *place;
	}
}

static void restore_file_locks(void)
{
	for (unsigned i = 0; i < nr_file_locks; i++)
		*file_locks[i].place = file_locks[i].value;
}

/* In a child whose memory comes later, with the locks as the parent restores them. */
static void reset_file_locks(const struct berth_pool_impl *pool)
{
	for (FILE *file = _IO_list_all; file; file = file->_chain) {
		char *at = (char *)file->_lock;

		if (at >= pool->mmu.base && at < pool->mmu.base + pool->mmu.bytes)
			memset(at, 0, sizeof(struct file_lock));
	}
}
#else
static void lock_file_list(void)
{
}
static void unlock_file_list(void)
{
}
static void reset_file_list_lock(void)
{
}
static void save_file_locks(void)
{
}
static void restore_file_locks(void)
{
}
static void reset_file_locks(const struct berth_pool_impl *pool)
{
	(void)pool;
}
#endif

/* ---- The handlers ------------------------------------------------------------------------------------------- */

/* True when threads besides the caller and ours may write to movable memory. */
static bool others_may_write(void)
{
	struct stat tasks;

	if (stat("/proc/self/task", &tasks) != 0)
		return true;
	return tasks.st_nlink - 2 > 1 + berth__fork_hooks.own_threads;
}

static _Noreturn void die(const char *why)
{
	char text[256];
	int length = snprintf(text, sizeof(text), "berth: fork can't go on: %s\n", why);

	if (length > 0 && write(STDERR_FILENO, text, (size_t)length) < 0) {
		/* nobody to tell */
	}
	abort();
}

/* The page of this thread's stack in a space, or UINT64_MAX: somebody may fork on a stack of malloc's. */
static uint64_t own_page(const struct berth_pool_impl *pool)
{
	const char *here = __builtin_frame_address(0);

	if (here < pool->mmu.base || here >= pool->mmu.base + pool->mmu.bytes)
		return UINT64_MAX;
	return (uint64_t)(here - pool->mmu.base) >> BERTH_PAGE_SHIFT;
}

/* The largest matter first: at most one pool is pushed. */
static struct berth_pool_impl *choose_pushed(void)
{
	for (int i = 0; i < MAX_POOLS; i++)
		if (pools[i] && berth__pusher_wants(pools[i]))
			return pools[i];
	return NULL;
}

static void prepare(void)
{
	int saved = errno;

	if (atomic_load(&berth__fork_hooks.left))
		return;

	pthread_mutex_lock(&fork_lock);
	berth__pusher_settle(); /* one at a time */
	if (berth__fork_hooks.prepare)
		berth__fork_hooks.prepare();
	lock_file_list();
	atomic_store(&shared->child_pid, 0);
	atomic_store(&shared->copied, 0);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, line) != 0)
		line[0] = line[1] = -1;
	for (int i = 0; i < 2 && line[i] >= 0; i++)
		line[i] = berth_fd_move_up(line[i]); /* the child's low numbers are the program's */
	pushed = line[0] >= 0 ? choose_pushed() : NULL;
	writers_stalled = others_may_write();
	for (int i = 0; i < MAX_POOLS; i++)
		if (pools[i] &&
		    berth_space_fork_prepare(pools[i]->space, writers_stalled || pools[i] == pushed,
					     own_page(pools[i])) != 0)
			die("the system refused to write-protect movable memory");
	save_file_locks();
	errno = saved;
}

static void map_shared_page(void)
{
	shared = mmap(NULL, BERTH_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		die("no memory for a page");
}

/* Without a socket: looks every millisecond. */
static void poll_for_child(void)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	uint64_t waited_ns = 0;

	while (!atomic_load(&shared->copied)) {
		int32_t pid = atomic_load(&shared->child_pid);
		siginfo_t ended = { 0 };

		if (pid && (waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT) != 0 ||
			    ended.si_pid == pid))
			return;
		if (!pid && waited_ns >= CHILD_SILENT_NS)
			return;
		nanosleep(&pause, NULL);
		waited_ns += (uint64_t)pause.tv_nsec;
	}
}

/* Until the child needs us no more, or waits for its pages (true), or has died, or wasn't born. */
static bool wait_for_child(int *child_uffd, int *childs_end)
{
	if (line[0] < 0) {
		poll_for_child();
		return false;
	}
	berth_fd_close(line[1]); /* so that its death is heard */
	if (berth__line_receive(line[0], child_uffd, childs_end))
		return true;
	berth_fd_close(line[0]);
	return false;
}

static void parent(void)
{
	int saved = errno, child_uffd, childs_end;
	bool push;

	if (atomic_load(&berth__fork_hooks.left))
		return;
	push = wait_for_child(&child_uffd, &childs_end);
	restore_file_locks();
	for (int i = MAX_POOLS - 1; i >= 0; i--) {
		if (pools[i] && pools[i] == pushed && push)
			berth__pusher_hand_over(pools[i], child_uffd, line[0], childs_end);
		else if (pools[i])
			berth_space_fork_parent(pools[i]->space);
	}
	unlock_file_list();
	if (berth__fork_hooks.parent)
		berth__fork_hooks.parent();
	pthread_mutex_unlock(&fork_lock);
	errno = saved;
}

/* The parent may go on: we have copied all, or wait for what it pushes. */
static void tell_parent(bool receives)
{
	atomic_store(&shared->copied, 1);
	if (line[0] < 0)
		return;
	berth_fd_close(line[0]);
	if (!berth__line_send(line[1], receives ? pushed->mmu.child_uffd : -1) && receives)
		die("its pages can't be asked for");
	if (!receives)
		berth_fd_close(line[1]);
}

static void child(void)
{
	int saved = errno;
	bool receives = false;

	if (atomic_load(&berth__fork_hooks.left))
		return;
	atomic_store(&shared->child_pid, (int32_t)getpid());
	/* In reverse order: each restores the signals that it found blocked. */
	for (int i = MAX_POOLS - 1; i >= 0; i--) {
		if (pools[i] && pools[i] == pushed && berth__pusher_receive(pushed, line[1]))
			receives = true;
		else if (pools[i] && berth_space_fork_child(pools[i]->space) != 0)
			die("no memory for the child's copy of movable memory");
	}
	tell_parent(receives);
	berth__pusher_forget();
	if (receives)
		reset_file_locks(pushed);
	map_shared_page(); /* the parent's is the parent's */
	atomic_fetch_add(&berth__fork_generation, 1);
	reset_file_list_lock();
	berth__fork_hooks.own_threads = 0; /* they are the parent's */
	if (berth__fork_hooks.child)
		berth__fork_hooks.child();
	pthread_mutex_unlock(&fork_lock);
	errno = saved;
}

void berth__fork_begin(void)
{
	prepare();
}

void berth__fork_end(long pid)
{
	if (pid == 0)
		child();
	else
		parent();
}

static void register_handlers(void)
{
	map_shared_page();
	if (pthread_atfork(prepare, parent, child) != 0)
		die("no memory to register its handlers");
}

void berth__fork_register(void)
{
	pthread_once(&once, register_handlers);
}
