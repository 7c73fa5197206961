/* SPDX-License-Identifier: MIT */
/*
 * A tenant whose heap is used in every way that is about pages instead of addresses: protected, locked,
 * remapped, advised, with futexes that the kernel finds by the page, as stacks, in pipes.
 *
 *	traps_memory --list           a line for each case: its name, and the treatments without which it fails
 *	traps_memory [CASE...]        runs these, or all; prints "CASE: as it must be" for each
 *
 * Each case lets the heap move in the middle: it waits until a page beside its own has changed its place
 * in the pool several times. In a bare run, or with TRAPS_STILL set, it doesn't wait. What breaks is said
 * on standard error, and the exit status is 1; a case that hangs ends after TRAPS_PATIENCE seconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define POOL_NAME "memfd:berth"

static const char *current = "start";
static unsigned patience = 30;
static bool still;

static _Noreturn void broken(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", current);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(1);
}

static void on_alarm(int number)
{
	static const char text[] = ": hangs\n";

	(void)number;
	if (write(STDERR_FILENO, current, strlen(current)) < 0 ||
	    write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(2);
	_exit(1);
}

#define must(what)                                                           \
	do {                                                                 \
		if (!(what))                                                 \
			broken("%s: %s (errno %d)", #what, "failed", errno); \
	} while (0)

/* ---- Where memory is ---------------------------------------------------------------------------------------- */

struct place {
	bool mapped, pool, locked;
	uint64_t offset; /* in the pool */
};

static bool parse_mapping(const char *line, uint64_t at, struct place *place)
{
	unsigned long long start, end, offset;

	if (sscanf(line, "%llx-%llx %*s %llx", &start, &end, &offset) != 3 || at < start ||
	    at >= end)
		return false;
	place->mapped = true;
	place->pool = strstr(line, POOL_NAME) != NULL;
	place->offset = offset + (at - start);
	return true;
}

/* Reads it without stdio, whose buffer is on the heap; `smaps` also tells whether it's locked. */
static struct place place_of(const volatile void *address, const char *file)
{
	static char text[1 << 20];
	struct place place = { 0 };
	size_t length = 0;
	ssize_t got;
	int fd = open(file, O_RDONLY);

	must(fd >= 0);
	while ((got = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += (size_t)got;
	close(fd);
	text[length] = 0;
	for (char *line = text, *next; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		if (place.mapped && strncmp(line, "VmFlags:", 8) == 0) {
			place.locked = strstr(line, " lo") != NULL;
			return place;
		}
		if (!place.mapped && parse_mapping(line, (uintptr_t)address, &place) &&
		    strcmp(file, "/proc/self/maps") == 0)
			return place;
	}
	return place;
}

static char *neighbour; /* a page in the pool, NULL in a bare run */

static void *in_pool(size_t bytes);

/* Until the neighbour has moved several times: whatever moves has then moved, too. */
static void let_move(void)
{
	enum { TIMES = 3 };
	uint64_t last;

	if (!neighbour || still)
		return;
	last = place_of(neighbour, "/proc/self/maps").offset;
	for (int moves = 0; moves < TIMES;) {
		struct place now = place_of(neighbour, "/proc/self/maps");

		if (now.offset != last)
			moves++;
		last = now.offset;
		usleep(1000);
	}
}

/* Whole pages of the heap, out of malloc. Under Berth: out of the pool. */
static void *in_pool(size_t bytes)
{
	static bool under_berth, known;

	for (int tries = 0; tries < 4096; tries++) {
		char *block = malloc(bytes + 2 * PAGE);
		char *at = block + (PAGE - (uintptr_t)block % PAGE);

		must(block);
		memset(block, 0x11, bytes + 2 * PAGE);
		if (!known) {
			const char *preload = getenv("BERTH_RUN");

			under_berth = preload && *preload;
			known = true;
		}
		if (!under_berth || place_of(at, "/proc/self/maps").pool)
			return at;
	}
	broken("no memory of the pool");
}

/* ---- Faults -------------------------------------------------------------------------------------------------- */

static sigjmp_buf after_fault;

static void on_fault(int number)
{
	siglongjmp(after_fault, number);
}

static bool faults(volatile char *at, bool writing)
{
	struct sigaction action = { .sa_handler = on_fault }, segv, bus;
	volatile bool fault = true;

	sigaction(SIGSEGV, &action, &segv);
	sigaction(SIGBUS, &action, &bus);
	if (sigsetjmp(after_fault, 1) == 0) {
		if (writing)
			*at = 1;
		else
			(void)*at;
		fault = false;
	}
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return fault;
}

static void check_bytes(const char *at, size_t bytes, int wanted, const char *what)
{
	for (size_t i = 0; i < bytes; i++)
		if (at[i] != (char)wanted)
			broken("%s: byte %zu is %02x instead of %02x", what, i, (uint8_t)at[i],
			       (uint8_t)wanted);
}

/* ---- Protection and locks --------------------------------------------------------------------------------- */

static void protect_read_only(void)
{
	char *at = in_pool(4 * PAGE);

	memset(at, 0x21, 4 * PAGE);
	must(mprotect(at + PAGE, PAGE, PROT_READ) == 0);
	let_move();
	if (!faults(at + PAGE, true))
		broken("a page that was made read-only can be written");
	must(mprotect(at + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
	check_bytes(at, 4 * PAGE, 0x21, "protected memory");
	at[PAGE] = 1;
	let_move();
	must(at[PAGE] == 1);
}

static void protect_guard(void)
{
	char *at = in_pool(600 * PAGE); /* more than one block of the pool */

	memset(at, 0x22, 600 * PAGE);
	must(syscall(SYS_mprotect, at + 100 * PAGE, 450 * PAGE, PROT_NONE) == 0);
	let_move();
	if (!faults(at + 100 * PAGE, false) || !faults(at + 549 * PAGE, false))
		broken("a guard page can be read");
	must(!faults(at + 99 * PAGE, true) && !faults(at + 550 * PAGE, true));
	must(mprotect(at, 600 * PAGE, PROT_READ | PROT_WRITE) == 0);
	check_bytes(at + 100 * PAGE, 450 * PAGE, 0x22, "guarded memory");
}

static void lock_pages(void)
{
	char *at = in_pool(4 * PAGE);

	memset(at, 0x23, 4 * PAGE);
	if (mlock(at + PAGE, 2 * PAGE) != 0) {
		must(errno == EPERM || errno == ENOMEM); /* the limit */
		return;
	}
	let_move();
	if (!place_of(at + PAGE, "/proc/self/smaps").locked)
		broken("locked memory isn't locked any more");
	check_bytes(at, 4 * PAGE, 0x23, "locked memory");
	must(munlock(at + PAGE, 2 * PAGE) == 0);
	must(!place_of(at + PAGE, "/proc/self/smaps").locked);
}

/* ---- Mappings ----------------------------------------------------------------------------------------------- */

static void remap_larger(void)
{
	enum { PAGES = 600, MORE = 700 };
	char *at = in_pool(PAGES * PAGE), *now;

	memset(at, 0x31, PAGES * PAGE);
	now = mremap(at, PAGES * PAGE, MORE * PAGE, MREMAP_MAYMOVE);
	must(now != MAP_FAILED);
	check_bytes(now, PAGES * PAGE, 0x31, "remapped memory");
	check_bytes(now + PAGES * PAGE, (MORE - PAGES) * PAGE, 0, "what it grew by");
	memset(now, 0x32, MORE * PAGE);
	let_move();
	check_bytes(now, MORE * PAGE, 0x32, "remapped memory, later");
	if (now != at && !faults(at, false))
		broken("memory that was remapped away can still be read");
	must(munmap(now, MORE * PAGE) == 0);
}

static void remap_onto(void)
{
	char *at = in_pool(6 * PAGE), *from;

	memset(at, 0x33, 6 * PAGE);
	from = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(from != MAP_FAILED);
	memset(from, 0x34, 2 * PAGE);
	must(mremap(from, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + 2 * PAGE) ==
	     at + 2 * PAGE);
	let_move();
	check_bytes(at, 2 * PAGE, 0x33, "before");
	check_bytes(at + 2 * PAGE, 2 * PAGE, 0x34, "memory remapped onto the heap");
	check_bytes(at + 4 * PAGE, 2 * PAGE, 0x33, "after");
}

static void map_onto(void)
{
	char *at = in_pool(6 * PAGE), path[] = "/tmp/traps-memory.XXXXXX", byte = 0;
	int fd = mkstemp(path);

	must(fd >= 0);
	unlink(path);
	memset(at, 0x35, 6 * PAGE);
	must(mmap(at + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at + 2 * PAGE);
	check_bytes(at + 2 * PAGE, 2 * PAGE, 0, "fresh memory");
	let_move();
	check_bytes(at + 2 * PAGE, 2 * PAGE, 0, "memory mapped onto the heap");
	must(ftruncate(fd, (off_t)(2 * PAGE)) == 0);
	must(mmap(at + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	     at + 2 * PAGE);
	memset(at + 2 * PAGE, 0x36, 2 * PAGE);
	let_move();
	at[2 * PAGE + 5] = 0x37;
	must(pread(fd, &byte, 1, 5) == 1);
	if (byte != 0x37)
		broken("a file that is mapped over heap memory doesn't see what is written");
	check_bytes(at, 2 * PAGE, 0x35, "before");
	check_bytes(at + 4 * PAGE, 2 * PAGE, 0x35, "after");
	close(fd);
}

static void unmap_middle(void)
{
	char *at = in_pool(6 * PAGE);

	memset(at, 0x38, 6 * PAGE);
	must(munmap(at + 2 * PAGE, 2 * PAGE) == 0);
	let_move();
	if (!faults(at + 2 * PAGE, false) || !faults(at + 4 * PAGE - 1, true))
		broken("memory that was unmapped can be used");
	check_bytes(at, 2 * PAGE, 0x38, "before");
	check_bytes(at + 4 * PAGE, 2 * PAGE, 0x38, "after");
}

/* ---- Advice --------------------------------------------------------------------------------------------------- */

static void advise_dont_need(void)
{
	char *at = in_pool(64 * PAGE);

	memset(at, 0x41, 64 * PAGE);
	must(mprotect(at + 5 * PAGE, PAGE, PROT_NONE) == 0);
	must(madvise(at, 0, MADV_DONTNEED) == 0);
	must(madvise(at + PAGE, 62 * PAGE, MADV_DONTNEED) == 0);
	must(mprotect(at + 5 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
	let_move();
	check_bytes(at, PAGE, 0x41, "before");
	check_bytes(at + PAGE, 62 * PAGE, 0, "memory that wasn't needed");
	check_bytes(at + 63 * PAGE, PAGE, 0x41, "after");
	errno = 0;
	must(madvise(at + 1, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
	must(madvise(at, PAGE, 4711) == -1 && errno == EINVAL);
}

static void advise_remove(void)
{
	char *at = in_pool(4 * PAGE);

	memset(at, 0x42, 4 * PAGE);
	errno = 0;
	if (madvise(at, 2 * PAGE, MADV_REMOVE) != -1 || errno != EINVAL)
		broken("MADV_REMOVE does something to a heap");
	check_bytes(at, 4 * PAGE, 0x42, "memory that can't be removed");
}

static int status_of_child(int (*child)(void *), void *arg)
{
	pid_t pid = fork();
	int status;

	must(pid >= 0);
	if (pid == 0)
		_exit(child(arg));
	must(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static int child_sees(void *arg)
{
	return *(volatile char *)arg;
}

static int child_faults(void *arg)
{
	return faults(arg, false);
}

static void advise_wipe_on_fork(void)
{
	char *at = in_pool(4 * PAGE);

	memset(at, 0x43, 4 * PAGE);
	must(madvise(at + PAGE, PAGE, MADV_WIPEONFORK) == 0);
	let_move();
	must(status_of_child(child_sees, at + PAGE) == 0);
	must(status_of_child(child_sees, at + 2 * PAGE) == 0x43);
	check_bytes(at, 4 * PAGE, 0x43, "the parent's memory");
}

static void advise_dont_fork(void)
{
	char *at = in_pool(4 * PAGE);

	memset(at, 0x44, 4 * PAGE);
	must(madvise(at + PAGE, PAGE, MADV_DONTFORK) == 0);
	let_move();
	if (status_of_child(child_faults, at + PAGE) != 1)
		broken("a child has memory that it wasn't to get");
	must(madvise(at + PAGE, PAGE, MADV_DOFORK) == 0);
	must(status_of_child(child_sees, at + PAGE) == 0x44);
}

/* A large heap comes to a child bit by bit: what it has thrown away must not come back. */
enum { LARGE = 100 << 20 };

static int child_throws_away(void *arg)
{
	char *at = arg;

	if (madvise(at + LARGE / 2, LARGE / 4, MADV_DONTNEED) != 0 ||
	    mprotect(at + LARGE / 4, PAGE, PROT_NONE) != 0 ||
	    mremap(at, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED)
		return 1;
	for (int times = 0; times < 2; times++, usleep(50000)) {
		check_bytes(at + LARGE / 2, LARGE / 4, 0, "what a child doesn't need");
		check_bytes(at + LARGE / 4 + PAGE, LARGE / 4 - PAGE, 0x45, "before");
		check_bytes(at + LARGE / 4 * 3, LARGE / 4, 0x45, "after");
		if (!faults(at, false) || !faults(at + LARGE / 4, true))
			return 2;
	}
	return 0;
}

static void advise_in_child(void)
{
	char *at = in_pool(LARGE);

	memset(at, 0x45, LARGE);
	must(status_of_child(child_throws_away, at) == 0);
	check_bytes(at, LARGE, 0x45, "the parent's memory");
}

/* ---- Asking ---------------------------------------------------------------------------------------------------- */

/* Some programs ask whether an address is mapped before they follow a pointer. */
static void ask_msync(void)
{
	char *at = in_pool(4 * PAGE);

	must(msync(at, 4 * PAGE, MS_SYNC) == 0);
	if (msync(at + ((size_t)16 << 30), PAGE, MS_ASYNC) != -1 || errno != ENOMEM)
		broken("msync takes a wild address for memory");
}

static void ask_mincore(void)
{
	unsigned char resident[4];
	char *at = in_pool(4 * PAGE);

	let_move();
	must(mincore(at, 4 * PAGE, resident) == 0);
	for (int i = 0; i < 4; i++)
		must(resident[i] & 1);
	if (mincore(at + ((size_t)16 << 30), PAGE, resident) != -1 || errno != ENOMEM)
		broken("mincore takes a wild address for memory");
}

/* ---- Pages in pipes ---------------------------------------------------------------------------------------- */

static void through_pipe(char *at)
{
	char got[PAGE];
	struct iovec piece = { at, PAGE };
	int ends[2];

	memset(at, 0x51, PAGE);
	must(pipe(ends) == 0);
	must(vmsplice(ends[1], &piece, 1, 0) == (ssize_t)PAGE);
	let_move();
	must(read(ends[0], got, PAGE) == (ssize_t)PAGE);
	check_bytes(got, PAGE, 0x51, "a page that was given to a pipe");
	close(ends[0]);
	close(ends[1]);
}

static void pipe_heap(void)
{
	through_pipe(in_pool(4 * PAGE));
}

/* What is aligned by the allocator doesn't move, however it is used. */
static void aligned_memory(void)
{
	enum { NR = 7 };
	void *at[NR] = { NULL };
	struct place place;

	must(posix_memalign(&at[0], 512, 3 * PAGE) == 0);
	at[1] = aligned_alloc(4096, 4 * PAGE);
	at[2] = memalign(1024, 5000);
	at[3] = valloc(10000);
	at[4] = pvalloc(1);
	must(posix_memalign(&at[5], 1 << 20, 3 << 20) == 0);
	must(posix_memalign(&at[6], 4096, 0) == 0);
	for (int i = 0; i < NR; i++) {
		must(at[i] && (uintptr_t)at[i] % 512 == 0);
		memset(at[i], i, malloc_usable_size(at[i]));
		place = place_of(at[i], "/proc/self/maps");
		if (place.pool)
			broken("aligned memory %d lies in the pool", i);
	}
	at[0] = realloc(at[0], 5 << 20);
	must(at[0] && malloc_usable_size(at[0]) >= 5 << 20);
	check_bytes(at[0], 3 * PAGE, 0, "grown memory");
	if (place_of(at[0], "/proc/self/maps").pool)
		broken("aligned memory that has grown lies in the pool");
	through_pipe(at[1]);
	must(status_of_child(child_sees, at[5]) == 5);
	for (int i = 0; i < NR; i++)
		free(at[i]);
}

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

/* ---- The cases ------------------------------------------------------------------------------------------------ */

static const struct trap {
	const char *name, *treatments; /* NULL: none is needed */
	void (*run)(void);
} traps[] = {
	{ "mprotect-read", "mprotect", protect_read_only },
	{ "mprotect-none", "mprotect", protect_guard },
	{ "mlock", "mlock", lock_pages },
	{ "mremap-grow", "mremap", remap_larger },
	{ "mremap-onto", "mremap", remap_onto },
	{ "mmap-onto", "mmap", map_onto },
	{ "munmap", "munmap", unmap_middle },
	{ "dontneed", "madvise", advise_dont_need },
	{ "remove", "madvise", advise_remove },
	{ "wipeonfork", "madvise", advise_wipe_on_fork },
	{ "dontfork", "madvise", advise_dont_fork },
	{ "child-of-large-heap", NULL, advise_in_child },
	{ "msync", "msync", ask_msync },
	{ "mincore", "mincore", ask_mincore },
	{ "vmsplice", "vmsplice", pipe_heap },
	{ "aligned", "aligned,vmsplice", aligned_memory },
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
enum { NR_TRAPS = sizeof(traps) / sizeof(traps[0]) };

static void run(const struct trap *trap)
{
	current = trap->name;
	alarm(patience);
	trap->run();
	alarm(0);
	printf("%s: as it must be\n", trap->name);
	fflush(stdout);
}

static void run_named(const char *name)
{
	for (int i = 0; i < NR_TRAPS; i++) {
		if (strcmp(traps[i].name, name) == 0) {
			run(&traps[i]);
			return;
		}
	}
	broken("no case \"%s\"", name);
}

int main(int argc, char **argv)
{
	const char *seconds = getenv("TRAPS_PATIENCE");

	if (argc > 1 && strcmp(argv[1], "--list") == 0) {
		for (int i = 0; i < NR_TRAPS; i++)
			printf("%s %s\n", traps[i].name,
			       traps[i].treatments ? traps[i].treatments : "-");
		return 0;
	}
	if (seconds)
		patience = (unsigned)atoi(seconds);
	still = getenv("TRAPS_STILL") != NULL;
	signal(SIGALRM, on_alarm);
	neighbour = in_pool(PAGE);
	if (!place_of(neighbour, "/proc/self/maps").pool)
		neighbour = NULL;
	if (argc == 1)
		for (int i = 0; i < NR_TRAPS; i++)
			run(&traps[i]);
	for (int i = 1; i < argc; i++)
		run_named(argv[i]);
	return 0;
}
