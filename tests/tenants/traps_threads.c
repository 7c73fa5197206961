/* SPDX-License-Identifier: MIT */
/*
 * A tenant with futexes on its heap that the kernel finds by the page, and with stacks there. See
 * traps.h.
 */
#include "traps.h"

/* ---- Futexes that the kernel finds by the page ---------------------------------------------------------------- */

/* One thread waits for another on something in the heap, and the heap moves meanwhile. */
struct waiting {
	void (*wait)(void *object);
	void *object;
	_Atomic int tid;
};

static void *waiter_main(void *arg)
{
	struct waiting *waiting = arg;

	waiting->tid = (int)syscall(SYS_gettid);
	waiting->wait(waiting->object);
	return NULL;
}

/* Until the thread sleeps in the kernel: it does when it is seen so several times in a row. */
static void until_asleep(int tid)
{
	char path[64], text[256];

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	for (int seen = 0; seen < 5; usleep(2000)) {
		int fd = open(path, O_RDONLY);
		ssize_t length = read(fd, text, sizeof(text) - 1);
		const char *state;

		must(fd >= 0 && length > 0);
		close(fd);
		text[length] = 0;
		state = strrchr(text, ')');
		seen = state && state[2] == 'S' ? seen + 1 : 0;
	}
}

static void wait_and_move_once(void (*wait)(void *), void (*wake)(void *), void *object)
{
	static struct waiting waiting; /* not on the heap */
	pthread_t thread;

	waiting.wait = wait;
	waiting.object = object;
	waiting.tid = 0;
	must(pthread_create(&thread, NULL, waiter_main, &waiting) == 0);
	while (!waiting.tid)
		usleep(100);
	until_asleep(waiting.tid);
	let_move();
	wake(object);
	must(pthread_join(thread, NULL) == 0);
}

/* Several times: by chance a page may just be where it was when the wait began. */
static void wait_and_move(void (*begin)(void *), void (*wait)(void *), void (*wake)(void *),
			  void *object)
{
	for (int round = 0; round < 4; round++) {
		begin(object);
		wait_and_move_once(wait, wake, object);
	}
}

static void word_wait(void *word)
{
	while (*(_Atomic int *)word == 0)
		syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static void word_wake(void *word)
{
	*(_Atomic int *)word = 1;
	if (syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0) != 1)
		broken("FUTEX_WAKE found nobody");
}

static void word_begin(void *word)
{
	*(_Atomic int *)word = 0;
}

static void futex_call(void)
{
	wait_and_move(word_begin, word_wait, word_wake, in_pool(PAGE));
}

static void mutex_begin(void *mutex)
{
	must(pthread_mutex_lock(mutex) == 0);
}

static void mutex_wait(void *mutex)
{
	must(pthread_mutex_lock(mutex) == 0);
	must(pthread_mutex_unlock(mutex) == 0);
}

static void mutex_wake(void *mutex)
{
	must(pthread_mutex_unlock(mutex) == 0);
}

static void futex_mutex(void)
{
	pthread_mutex_t *mutex = in_pool(sizeof(*mutex));
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	must(pthread_mutex_init(mutex, &attr) == 0);
	wait_and_move(mutex_begin, mutex_wait, mutex_wake, mutex);
	must(pthread_mutex_destroy(mutex) == 0);
}

static pthread_mutex_t *robust_mutex(void)
{
	pthread_mutex_t *mutex = in_pool(sizeof(*mutex));
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	must(pthread_mutex_init(mutex, &attr) == 0);
	return mutex;
}

static void futex_robust(void)
{
	pthread_mutex_t *mutex = robust_mutex();

	wait_and_move(mutex_begin, mutex_wait, mutex_wake, mutex);
}

/* Its owner ends, and the kernel wakes who waits. */
static _Atomic int owner_may_end, owner_has_it;

static void *owner_main(void *mutex)
{
	must(pthread_mutex_lock(mutex) == 0);
	owner_has_it = 1;
	while (!owner_may_end)
		usleep(100);
	return NULL;
}

static pthread_t owner;

static void owner_begins(void *mutex)
{
	owner_may_end = owner_has_it = 0;
	must(pthread_create(&owner, NULL, owner_main, mutex) == 0);
	while (!owner_has_it)
		usleep(100);
}

static void heir_wait(void *mutex)
{
	must(pthread_mutex_lock(mutex) == EOWNERDEAD);
	must(pthread_mutex_consistent(mutex) == 0 && pthread_mutex_unlock(mutex) == 0);
}

static void owner_ends(void *mutex)
{
	(void)mutex;
	owner_may_end = 1;
	must(pthread_join(owner, NULL) == 0);
}

static void futex_owner_dies(void)
{
	wait_and_move(owner_begins, heir_wait, owner_ends, robust_mutex());
}

static void nothing(void *object)
{
	(void)object;
}

static void semaphore_wait(void *semaphore)
{
	must(sem_wait(semaphore) == 0);
}

static void semaphore_wake(void *semaphore)
{
	must(sem_post(semaphore) == 0);
}

static void futex_semaphore(void)
{
	sem_t *semaphore = in_pool(sizeof(*semaphore));

	must(sem_init(semaphore, 1, 0) == 0);
	wait_and_move(nothing, semaphore_wait, semaphore_wake, semaphore);
	must(sem_destroy(semaphore) == 0);
}

/* The rest of what the C library has, all in one object. */
struct shared_things {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	pthread_barrier_t barrier;
	pthread_rwlock_t lock;
	int go;
};

static void cond_begin(void *arg)
{
	((struct shared_things *)arg)->go = 0;
}

static void cond_wait(void *arg)
{
	struct shared_things *things = arg;

	must(pthread_mutex_lock(&things->mutex) == 0);
	while (!things->go)
		must(pthread_cond_wait(&things->cond, &things->mutex) == 0);
	must(pthread_mutex_unlock(&things->mutex) == 0);
}

static void cond_wake(void *arg)
{
	struct shared_things *things = arg;

	must(pthread_mutex_lock(&things->mutex) == 0);
	things->go = 1;
	must(pthread_cond_signal(&things->cond) == 0);
	must(pthread_mutex_unlock(&things->mutex) == 0);
}

static void futex_condition(void)
{
	struct shared_things *things = in_pool(sizeof(*things));
	pthread_condattr_t attr;

	memset(things, 0, sizeof(*things));
	pthread_condattr_init(&attr);
	pthread_condattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	must(pthread_mutex_init(&things->mutex, NULL) == 0);
	must(pthread_cond_init(&things->cond, &attr) == 0);
	wait_and_move(cond_begin, cond_wait, cond_wake, things);
}

static void barrier_wait(void *arg)
{
	int result = pthread_barrier_wait(&((struct shared_things *)arg)->barrier);

	must(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD);
}

static void futex_barrier(void)
{
	struct shared_things *things = in_pool(sizeof(*things));
	pthread_barrierattr_t attr;

	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	must(pthread_barrier_init(&things->barrier, &attr, 2) == 0);
	wait_and_move(nothing, barrier_wait, barrier_wait, things);
}

static void lock_begin(void *arg)
{
	must(pthread_rwlock_wrlock(&((struct shared_things *)arg)->lock) == 0);
}

static void lock_wait(void *arg)
{
	must(pthread_rwlock_rdlock(&((struct shared_things *)arg)->lock) == 0);
	must(pthread_rwlock_unlock(&((struct shared_things *)arg)->lock) == 0);
}

static void lock_wake(void *arg)
{
	must(pthread_rwlock_unlock(&((struct shared_things *)arg)->lock) == 0);
}

static void futex_rwlock(void)
{
	struct shared_things *things = in_pool(sizeof(*things));
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	must(pthread_rwlock_init(&things->lock, &attr) == 0);
	wait_and_move(lock_begin, lock_wait, lock_wake, things);
}

/* ---- Stacks ---------------------------------------------------------------------------------------------------- */

static _Atomic int sleeper_may_end;

static void *sleeper_main(void *arg)
{
	while (!sleeper_may_end)
		usleep(1000);
	return arg;
}

enum { STACK = 64 * 4096 };
static void *sleeper_stack;
static pthread_t sleeper;

static void sleeper_begins(void *thread)
{
	pthread_attr_t attr;

	sleeper_may_end = 0;
	pthread_attr_init(&attr);
	must(pthread_attr_setstack(&attr, sleeper_stack, STACK) == 0);
	must(pthread_create(thread, &attr, sleeper_main, NULL) == 0);
}

static void joiner_wait(void *thread)
{
	must(pthread_join(*(pthread_t *)thread, NULL) == 0);
}

static void sleeper_ends(void *thread)
{
	(void)thread;
	sleeper_may_end = 1;
}

static void stack_of_thread(void)
{
	sleeper_stack = in_pool(STACK);
	wait_and_move(sleeper_begins, joiner_wait, sleeper_ends, &sleeper);
}

static _Atomic int signals_seen;

static void on_signal(int number)
{
	volatile char on_stack[3000];

	memset((void *)on_stack, number, sizeof(on_stack));
	signals_seen += on_stack[2999] == (char)number;
}

static void stack_of_signals(void)
{
	stack_t stack = { .ss_sp = in_pool(64 << 10), .ss_size = 64 << 10 }, old;
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

	must(sigaltstack(&stack, &old) == 0);
	must(sigaction(SIGUSR1, &action, NULL) == 0);
	signals_seen = 0;
	for (int n = 0; n < 200; n++)
		pthread_kill(pthread_self(), SIGUSR1);
	let_move();
	for (int n = 0; n < 200; n++)
		pthread_kill(pthread_self(), SIGUSR1);
	must(signals_seen == 400);
	if (place_of(stack.ss_sp, "/proc/self/maps").pool)
		broken("a signal stack lies in memory that moves");
	must(sigaltstack(&old, NULL) == 0);
}

/* A coroutine that forks on its stack. */
static ucontext_t caller, coroutine;
static int coroutine_child = -1;

static void coroutine_main(void)
{
	volatile char on_stack[20000];

	memset((void *)on_stack, 0x61, sizeof(on_stack));
	let_move();
	coroutine_child = status_of_child(child_sees, (void *)(on_stack + 19999));
	check_bytes((const char *)on_stack, sizeof(on_stack), 0x61, "a coroutine's stack");
}

static void *writer_main(void *block)
{
	while (!sleeper_may_end)
		memset(block, 1, PAGE);
	return NULL;
}

static void stack_of_coroutine(void)
{
	pthread_t writer;

	sleeper_may_end = 0;
	must(pthread_create(&writer, NULL, writer_main, in_pool(PAGE)) == 0);
	must(getcontext(&coroutine) == 0);
	coroutine.uc_stack.ss_sp = in_pool(256 << 10);
	coroutine.uc_stack.ss_size = 256 << 10;
	coroutine.uc_link = &caller;
	makecontext(&coroutine, coroutine_main, 0);
	must(swapcontext(&caller, &coroutine) == 0);
	sleeper_may_end = 1;
	must(pthread_join(writer, NULL) == 0);
	must(coroutine_child == 0x61);
}

/* ---- The cases ---- */

static const struct trap traps[] = {
	{ "futex-call", "futex", futex_call },
	{ "futex-mutex", "futex", futex_mutex },
	{ "futex-robust", "futex", futex_robust },
	{ "futex-owner-dies", "futex", futex_owner_dies },
	{ "futex-semaphore", "futex", futex_semaphore },
	{ "futex-condition", "futex", futex_condition },
	{ "futex-barrier", "futex", futex_barrier },
	{ "futex-rwlock", "futex", futex_rwlock },
	{ "stack-thread", "stacks", stack_of_thread },
	{ "stack-signals", "stacks", stack_of_signals },
	{ "stack-coroutine", "stacks", stack_of_coroutine },
};

int main(int argc, char **argv)
{
	return traps_main(argc, argv, traps, sizeof(traps) / sizeof(traps[0]));
}
