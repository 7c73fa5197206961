/* SPDX-License-Identifier: MIT */
/*
 * The thread that fills forked children (vm/push.c), and the line between the two processes.
 *
 * The fork handlers open a socket pair before the fork. The child sends one message when the parent may
 * go on: 'x', it has copied all, or 'P' with its userfaultfd, it waits for its pages. For such a child the
 * socket is a lifeline as well: when the parent dies before all is pushed, the kernel kills the child by it
 * (O_ASYNC, F_SETSIG). A child with holes in its memory must not run on.
 *
 * One pool of a process is pushed at a time; a further fork, exit and exec wait until it is done.
 *
 * I1  `busy` is 1 from the moment a child is handed over until its last page is pushed or it is gone.
 * I2  A child's memory isn't registered any more when its count has grown. (What it maps there later is its own.)
 * I3  A child that hasn't got all of its memory, and is still itself, dies by its line.
 *
 * The thread blocks all signals, uses no stdio and doesn't allocate, and takes no lock but the space's.
 */
#define _GNU_SOURCE
#include "port/linux/fd.h"
#include "port/linux/raw.h"
#include "runtime/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FAULTS 32u
#define IDLE 0u
#define BUSY 1u
#define IDLE_LOOKS 40u  /* of 50 ms */
#define PIECE_PAGES 16u /* 64 KiB: pushed for whoever waits for a page */

static struct {
	_Atomic uint32_t running; /* 1: the thread is being made, 2: it runs */
	_Atomic uint32_t stop;
	pthread_t thread;
	_Atomic uint32_t busy;
	_Atomic uint32_t nr_steps; /* that it goes on shows here */
	pid_t pid;                 /* whose thread it is */
	struct berth_pool_impl *pool;
	int line[2]; /* the child's end is kept too: its file is the child's */
} pusher;

/* Shared with children: how many of this process's children are complete. */
static struct shared {
	_Atomic uint32_t nr_pushed;
} * shared;

/* In a child that waits for pages: it has all of them when its parent's count exceeds this. `parents` stays mapped
 * when it becomes NULL: another thread may be looking. No lock: a signal handler may wait, too. */
static struct {
	_Atomic(struct shared *) parents;
	uint32_t nr_pushed;
	struct berth_pool_impl *pool;
	int line;
} receiving;

/* How often those look who wait for what may die. */
static const struct timespec look = { .tv_nsec = 50000000 };

static void futex_wait(_Atomic uint32_t *word, uint32_t value, int scope,
		       const struct timespec *timeout)
{
	(void)syscall(SYS_futex, word, FUTEX_WAIT | scope, value, timeout, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int scope)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE | scope, INT32_MAX, NULL, NULL, 0);
}

/* ---- Pushing ------------------------------------------------------------------------------------------- */

/* Serves those who wait. Returns an error of push, or how many there were. */
static int serve(bool in_child)
{
	struct berth_pool_impl *pool = pusher.pool;
	uint64_t pages[FAULTS];
	unsigned nr = berth_mmu_faults(&pool->mmu, in_child, pages, FAULTS);

	for (unsigned i = 0; i < nr; i++) {
		uint64_t first = pages[i] & ~(uint64_t)(PIECE_PAGES - 1);
		int error = berth_space_push(pool->space, first, PIECE_PAGES);

		if (error)
			return error;
		if (in_child)
			berth_mmu_push_rest(&pool->mmu, pages[i]);
	}
	return (int)nr;
}

static int push_all(void)
{
	int more = 1, error;

	while (more > 0) {
		error = serve(true);
		if (error >= 0)
			error = serve(false);
		if (error < 0)
			return error;
		more = berth_space_push_next(pusher.pool->space);
		atomic_fetch_add_explicit(&pusher.nr_steps, 1, memory_order_relaxed);
	}
	return more;
}

/* The child lives without its line from here on. */
static void release_line(int line)
{
	long flags = berth_raw3(SYS_fcntl, line, F_GETFL, 0);

	(void)berth_raw3(SYS_fcntl, line, F_SETFL, flags & ~O_ASYNC);
}

static void push_one_child(void)
{
	struct berth_pool_impl *pool = pusher.pool;
	int error = push_all();

	berth_space_push_end(pool->space);
	/* If it can't have its memory the line kills it, before its holes could be taken for zeros. One that has died
	 * doesn't mind, and one that has become another program may live: its end of the line closes a moment after
	 * its memory has gone. */
	if (error == 0 || error == -BERTH_ENOENT)
		release_line(pusher.line[1]);
	berth_fd_close(pusher.line[1]);
	berth_fd_close(pusher.line[0]);
	berth_mmu_push_done(&pool->mmu);
	if (error == 0) {
		atomic_fetch_add(&shared->nr_pushed, 1);
		futex_wake(&shared->nr_pushed, 0);
	}
}

static void *run(void *unused)
{
	prctl(PR_SET_NAME, "berth-fork");
	while (!atomic_load(&pusher.stop)) {
		if (atomic_load(&pusher.busy) != BUSY) {
			futex_wait(&pusher.busy, IDLE, FUTEX_PRIVATE_FLAG, NULL);
			continue;
		}
		push_one_child();
		atomic_store(&pusher.busy, IDLE);
		futex_wake(&pusher.busy, FUTEX_PRIVATE_FLAG);
	}
	return unused;
}

int berth__pusher_start(void)
{
	uint32_t none = 0;

	if (!atomic_compare_exchange_strong(&pusher.running, &none, 1))
		return 0;
	if (!shared) {
		void *page = mmap(NULL, BERTH_PAGE_SIZE, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		shared = page == MAP_FAILED ? NULL : page;
	}
	atomic_store(&pusher.stop, 0);
	if (!shared || berth__start_thread(run, NULL, &pusher.thread) != 0) {
		atomic_store(&pusher.running, 0);
		return -BERTH_ENOMEM;
	}
	pusher.pid = getpid();
	/* Not sooner: nobody could have served this thread, had its allocator just written to a page that a
	 * fork has protected. */
	atomic_store(&pusher.running, 2);
	return 0;
}

void berth__pusher_await_pages(void)
{
	struct shared *parents = atomic_load(&receiving.parents);

	if (!parents)
		return;
	while (atomic_load(&parents->nr_pushed) == receiving.nr_pushed)
		futex_wait(&parents->nr_pushed, receiving.nr_pushed, 0, &look);
	if (!atomic_compare_exchange_strong(&receiving.parents, &parents, NULL))
		return; /* another thread does the rest */
	berth_fd_close(receiving.line);
	/* With the parent's it's the last: what is missing from here on is just zero. */
	if (receiving.pool->mmu.child_uffd >= 0)
		berth_fd_close(receiving.pool->mmu.child_uffd);
	receiving.pool->mmu.child_uffd = -1;
}

void berth__pusher_wait(void)
{
	while (atomic_load(&pusher.busy))
		futex_wait(&pusher.busy, BUSY, FUTEX_PRIVATE_FLAG, &look);
}

void berth__pusher_stop(void)
{
	if (!atomic_load(&pusher.running))
		return;
	berth__pusher_settle();
	atomic_store(&pusher.stop, 1);
	while (pthread_tryjoin_np(pusher.thread, NULL) != 0) {
		futex_wake(&pusher.busy, FUTEX_PRIVATE_FLAG); /* it may just have looked */
		sched_yield();
	}
	berth__fork_hooks.own_threads--;
	atomic_store(&pusher.running, 0);
}

void berth__pusher_settle_before_end(void)
{
	unsigned idle = 0;

	if (!atomic_load(&pusher.busy) || getpid() != pusher.pid)
		return;
	while (atomic_load(&pusher.busy) && idle < IDLE_LOOKS) {
		uint32_t steps = atomic_load(&pusher.nr_steps);

		futex_wait(&pusher.busy, BUSY, FUTEX_PRIVATE_FLAG, &look);
		idle = steps == atomic_load(&pusher.nr_steps) ? idle + 1 : 0;
	}
}

void berth__pusher_settle(void)
{
	berth__pusher_wait();
	berth__pusher_await_pages();
}

/* ---- A fork ------------------------------------------------------------------------------------------------ */

static bool is_large(const struct berth_pool_impl *pool)
{
	struct berth_space_stats stats;

	if (!berth_mmu_can_push(&pool->mmu))
		return false;
	berth_space_stats(pool->space, &stats);
	return stats.mapped_pages << BERTH_PAGE_SHIFT > berth__fork_push_bytes;
}

void berth__pusher_ready(const struct berth_pool_impl *pool)
{
	if (!atomic_load(&pusher.running) && is_large(pool))
		(void)berth__pusher_start(); /* without it the child copies */
}

bool berth__pusher_wants(const struct berth_pool_impl *pool)
{
	return atomic_load(&pusher.running) == 2 && is_large(pool);
}

/* In the child: takes part in the line, so that the parent's death is ours. */
static bool hold_line(int line)
{
	long flags = berth_raw3(SYS_fcntl, line, F_GETFL, 0);

	return berth_raw3(SYS_fcntl, line, F_SETSIG, SIGKILL) == 0 &&
	       berth_raw3(SYS_fcntl, line, F_SETOWN, getpid()) == 0 &&
	       berth_raw3(SYS_fcntl, line, F_SETFL, flags | O_ASYNC) == 0;
}

bool berth__pusher_receive(struct berth_pool_impl *pool, int line)
{
	if (!berth_space_can_push(pool->space) || !hold_line(line))
		return false;
	if (berth_space_fork_child_receives(pool->space) != 0) {
		release_line(line);
		return false;
	}
	receiving.nr_pushed = atomic_load(&shared->nr_pushed);
	receiving.pool = pool;
	receiving.line = line;
	atomic_store(&receiving.parents, shared);
	return true;
}

void berth__pusher_forget(void)
{
	atomic_store(&pusher.running, 0);
	atomic_store(&pusher.busy, IDLE);
	pusher.pool = NULL;
	shared = NULL; /* the parent's */
}

void berth__pusher_hand_over(struct berth_pool_impl *pool, int child_uffd, int line, int childs_end)
{
	pool->mmu.child_uffd = child_uffd;
	pusher.pool = pool;
	pusher.line[0] = line;
	pusher.line[1] = childs_end;
	berth_space_push_begin(pool->space);
	atomic_store(&pusher.busy, BUSY);
	futex_wake(&pusher.busy, FUTEX_PRIVATE_FLAG);
}

/* ---- The line ---------------------------------------------------------------------------------------------- */

#define LINE_DESCRIPTORS (2 * sizeof(int))

bool berth__line_send(int line, int child_uffd)
{
	const int descriptors[2] = { child_uffd, line };
	char byte = child_uffd >= 0 ? 'P' : 'x';
	struct iovec data = { &byte, 1 };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(LINE_DESCRIPTORS)];
	} control;
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

	if (child_uffd >= 0) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(LINE_DESCRIPTORS);
		memcpy(CMSG_DATA(&control.header), descriptors, LINE_DESCRIPTORS);
	}
	return berth_raw3(SYS_sendmsg, line, (long)&message, MSG_NOSIGNAL) == 1;
}

bool berth__line_receive(int line, int *child_uffd, int *childs_end)
{
	char byte = 0;
	struct iovec data = { &byte, 1 };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(LINE_DESCRIPTORS)];
	} control;
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	int descriptors[2];
	long got;

	do {
		got = berth_raw3(SYS_recvmsg, line, (long)&message, MSG_CMSG_CLOEXEC);
	} while (got == -EINTR);
	if (got != 1 || byte != 'P' || message.msg_controllen < CMSG_LEN(sizeof(int)) ||
	    control.header.cmsg_type != SCM_RIGHTS)
		return false;
	if (control.header.cmsg_len <
	    CMSG_LEN(LINE_DESCRIPTORS)) { /* another thread took the last number */
		memcpy(descriptors, CMSG_DATA(&control.header), sizeof(int));
		(void)berth_raw1(SYS_close, descriptors[0]);
		return false; /* and the line kills the child */
	}
	memcpy(descriptors, CMSG_DATA(&control.header), LINE_DESCRIPTORS);
	*child_uffd = berth_fd_move_up(descriptors[0]);
	*childs_end = berth_fd_move_up(descriptors[1]);
	return true;
}
