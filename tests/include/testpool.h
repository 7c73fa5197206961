/* SPDX-License-Identifier: MIT */
/*
 * What the tests of libberth need: pools that are checked, patterns, children whose failures count,
 * system calls that are refused, threads that write and notice every lost write.
 */
#ifndef BERTH_TESTPOOL_H
#define BERTH_TESTPOOL_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE first"
#endif

#include <berth/berth.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "testing.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TEST_SANITIZED 1
#endif
#endif
#ifndef TEST_SANITIZED
#define TEST_SANITIZED 0
#endif

/* ---- Pools ------------------------------------------------------------------------------------ */

/* Fails the test, with the error in words, unless the call returned 0. */
#define must(call)                                                              \
	do {                                                                    \
		int must_error_ = (call);                                       \
		if (must_error_)                                                \
			fail_msg("%s: %s", #call, berth_strerror(must_error_)); \
	} while (0)

/* Every invariant holds and the sums add up. Nobody else may use the pool. */
static inline void pool_verify(struct berth_pool *pool, const char *file, int line)
{
	struct berth_violation v = { 0 };
	struct berth_pool_stats s;

	if (!berth_pool_check(pool, &v)) {
		print_error("pool check: %s at %#llx: value %#llx, expected %#llx\n",
			    v.what ? v.what : "(null)", (unsigned long long)v.where,
			    (unsigned long long)v.value, (unsigned long long)v.expected);
		_fail(file, line);
	}
	_assert_int_equal(berth_pool_stats(pool, &s), 0, file, line);
	_assert_int_equal(s.free_bytes + s.claimed_bytes + s.used_bytes, s.pool_bytes, file, line);
}
#define pool_ok(pool) pool_verify(pool, __FILE__, __LINE__)

static inline struct berth_pool_stats pool_stats(struct berth_pool *pool)
{
	struct berth_pool_stats stats;

	must(berth_pool_stats(pool, &stats));
	return stats;
}

/* A pool with one area, "area", lent first, and as much memory outside it. */
static inline struct berth_pool *pool_open(size_t area_bytes, unsigned flags, const char *mover)
{
	const struct berth_area_params area = { "area", area_bytes, BERTH_LEND_FIRST };
	const struct berth_pool_params params = {
		.areas = &area,
		.nr_areas = 1,
		.flags = flags,
		.mover = mover,
	};
	struct berth_pool *pool = NULL;

	must(berth_pool_open(&params, &pool));
	assert_non_null(pool);
	pool_ok(pool);
	return pool;
}

static inline void pool_close(struct berth_pool *pool)
{
	pool_ok(pool);
	must(berth_pool_close(pool));
}

static inline void *pool_map(struct berth_pool *pool, size_t bytes)
{
	void *address = NULL;

	must(berth_map(pool, bytes, 0, &address));
	assert_non_null(address);
	return address;
}

/* What one call may not change, of the statistics that aren't counters of events. */
static inline void assert_same_state(const struct berth_pool_stats *a,
				     const struct berth_pool_stats *b, const char *file, int line)
{
	_assert_int_equal(a->pool_bytes, b->pool_bytes, file, line);
	_assert_int_equal(a->free_bytes, b->free_bytes, file, line);
	_assert_int_equal(a->claimed_bytes, b->claimed_bytes, file, line);
	_assert_int_equal(a->used_bytes, b->used_bytes, file, line);
	_assert_int_equal(a->mapped_bytes, b->mapped_bytes, file, line);
	_assert_int_equal(a->area_bytes, b->area_bytes, file, line);
	_assert_int_equal(a->lent_bytes, b->lent_bytes, file, line);
	_assert_int_equal(a->claims_ok, b->claims_ok, file, line);
	_assert_int_equal(a->claims_held, b->claims_held, file, line);
	_assert_int_equal(a->moved_bytes, b->moved_bytes, file, line);
	_assert_int_equal(a->pins, b->pins, file, line);
}

/* The call returns this error and changes nothing. */
#define assert_refused(pool, error, call)                                   \
	do {                                                                \
		struct berth_pool_stats before_ = pool_stats(pool), after_; \
		assert_int_equal(call, error);                              \
		after_ = pool_stats(pool);                                  \
		assert_same_state(&before_, &after_, __FILE__, __LINE__);   \
		pool_ok(pool);                                              \
	} while (0)

/* ---- Patterns ----------------------------------------------------------------------------------- */

static inline uint64_t pattern_word(uint64_t seed, size_t index)
{
	uint64_t state = seed ^ (index * 0x2545f4914f6cdd1dull);

	return test_random(&state);
}

static inline void pattern_fill(void *memory, size_t bytes, uint64_t seed)
{
	uint64_t *words = memory;

	for (size_t i = 0; i < bytes / sizeof(*words); i++)
		words[i] = pattern_word(seed, i);
}

/* The first word that differs, or bytes / 8. */
static inline size_t pattern_differs(const void *memory, size_t bytes, uint64_t seed)
{
	const uint64_t *words = memory;
	size_t i = 0;

	while (i < bytes / sizeof(*words) && words[i] == pattern_word(seed, i))
		i++;
	return i;
}

static inline void pattern_verify(const void *memory, size_t bytes, uint64_t seed, const char *file,
				  int line)
{
	size_t at = pattern_differs(memory, bytes, seed);

	if (at < bytes / sizeof(uint64_t)) {
		print_error("byte %#zx of %#zx reads %#llx, not %#llx\n", at * sizeof(uint64_t),
			    bytes, (unsigned long long)((const uint64_t *)memory)[at],
			    (unsigned long long)pattern_word(seed, at));
		_fail(file, line);
	}
}
#define pattern_ok(memory, bytes, seed) pattern_verify(memory, bytes, seed, __FILE__, __LINE__)

static inline bool is_zero(const void *memory, size_t bytes)
{
	const uint64_t *words = memory;

	for (size_t i = 0; i < bytes / sizeof(*words); i++)
		if (words[i])
			return false;
	return true;
}

/* ---- Children ------------------------------------------------------------------------------------- */

/* In a child, where cmocka must not get hold of a failure: says it and ends the process. */
#define child_check(condition)                                                                \
	do {                                                                                  \
		if (!(condition)) {                                                           \
			dprintf(STDERR_FILENO, "%s:%d: in a child: %s\n", __FILE__, __LINE__, \
				#condition);                                                  \
			_exit(1);                                                             \
		}                                                                             \
	} while (0)

#define CHILD_SKIPS 77 /* exit status: what is tested isn't to be had here */

static inline void child_no_core(void)
{
	const struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
}

/* Waits for a child, but not for ever. Its status as waitpid() tells. */
static inline int child_wait(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	return status;
}

/* Runs `act` in a child, which has a minute; its exit status must be 0. */
static inline void in_child(void (*act)(void *), void *argument)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		child_no_core();
		alarm(60);
		act(argument);
		_exit(0);
	}
	status = child_wait(pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_SKIPS) {
		print_message("# SKIP: the kernel refuses here what the test needs\n");
		skip();
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("the child's status is %#x", status);
}

/* ---- Refused system calls ---------------------------------------------------------------------------- */

#define ANY_ARGUMENT 6u

/*
 * From now on this process gets `error` from system call `number`, if the low half of argument
 * `position` (from 0) is `argument`. For good, so only in children.
 */
static inline void refuse_syscall_with(long number, unsigned position, uint32_t argument, int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 (uint32_t)(offsetof(struct seccomp_data, args) + position * 8)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, argument, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = ARRAY_SIZE(filter), .filter = filter };

	if (position == ANY_ARGUMENT)
		filter[2] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_IMM, argument);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		_exit(CHILD_SKIPS);
}

static inline void refuse_syscall(long number, int error)
{
	refuse_syscall_with(number, ANY_ARGUMENT, 0, error);
}

/* ---- Time --------------------------------------------------------------------------------------------- */

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#define SECOND_NS 1000000000ull

/* Waits for another thread's doing; fails after 20 s. */
#define wait_until(condition)                                                  \
	do {                                                                   \
		uint64_t wait_end_ = now_ns() + 20 * SECOND_NS;                \
		while (!(condition)) {                                         \
			if (now_ns() > wait_end_)                              \
				fail_msg("waited in vain for %s", #condition); \
			sched_yield();                                         \
		}                                                              \
	} while (0)

/* ---- Threads that write -------------------------------------------------------------------------------- */

/*
 * Writes to words all over its memory and remembers, elsewhere, what it wrote: a write that is lost,
 * doubled or torn shows when the word is visited again.
 */
struct writer {
	pthread_t thread;
	volatile uint64_t *words;
	size_t nr_words;
	size_t stride; /* in words */
	uint64_t seed;
	uint64_t *shadow; /* by word / stride */
	_Atomic bool *stop;
	_Atomic uint64_t nr_writes;
	uint64_t nr_wrong;
	size_t wrong_word;
	uint64_t wrong_value, right_value;
};

static inline void *writer_run(void *argument)
{
	struct writer *w = argument;
	size_t nr = w->nr_words / w->stride;

	while (!atomic_load_explicit(w->stop, memory_order_relaxed)) {
		size_t i = test_random_below(&w->seed, nr);
		volatile uint64_t *word = &w->words[i * w->stride];
		uint64_t value = *word;

		if (value != w->shadow[i] && !w->nr_wrong++) {
			w->wrong_word = i * w->stride;
			w->wrong_value = value;
			w->right_value = w->shadow[i];
		}
		*word = w->shadow[i] = (w->seed << 1) | 1;
		atomic_fetch_add_explicit(&w->nr_writes, 1, memory_order_relaxed);
	}
	return NULL;
}

/* Memory that reads zero. A word of each `stride` words is written. */
static inline void writer_start(struct writer *w, void *memory, size_t bytes, size_t stride,
				uint64_t seed, _Atomic bool *stop)
{
	*w = (struct writer){
		.words = memory,
		.nr_words = bytes / sizeof(uint64_t),
		.stride = stride,
		.seed = seed,
		.stop = stop,
	};
	w->shadow = test_zalloc(w->nr_words / stride, sizeof(uint64_t));
	assert_int_equal(pthread_create(&w->thread, NULL, writer_run, w), 0);
	wait_until(atomic_load(&w->nr_writes) > 0);
}

/* After *stop is set: every word must be what was written last. */
static inline void writer_finish(struct writer *w)
{
	pthread_join(w->thread, NULL);
	for (size_t i = 0; i < w->nr_words / w->stride && !w->nr_wrong; i++) {
		if (w->words[i * w->stride] == w->shadow[i])
			continue;
		w->nr_wrong++;
		w->wrong_word = i * w->stride;
		w->wrong_value = w->words[i * w->stride];
		w->right_value = w->shadow[i];
	}
	free(w->shadow);
	if (w->nr_wrong)
		fail_msg(
			"%llu of %llu writes were lost; the first: word %#zx reads %#llx, not %#llx",
			(unsigned long long)w->nr_wrong,
			(unsigned long long)atomic_load(&w->nr_writes), w->wrong_word,
			(unsigned long long)w->wrong_value, (unsigned long long)w->right_value);
}

/* ---- Movers --------------------------------------------------------------------------------------------- */

static const char *const test_movers[]
	__attribute__((unused)) = { "userfaultfd", "/dev/userfaultfd", "userfaultfd-user",
				    "mprotect", "userfaultfd-unwatched" };

/* A pool that moves memory in this way; skips the test where that is refused. */
static inline struct berth_pool *pool_open_mover(size_t area_bytes, unsigned flags,
						 const char *mover)
{
	const struct berth_area_params area = { "probe", 2 * MIB, BERTH_LEND_FIRST };
	const struct berth_pool_params params = { .areas = &area, .nr_areas = 1, .mover = mover };
	struct berth_pool *probe;
	int error = berth_pool_open(&params, &probe);

	if (error == -BERTH_EPERM || error == -BERTH_ENOSYS) {
		print_message("# SKIP: %s: %s\n", mover, berth_strerror(error));
		skip();
	}
	must(error);
	must(berth_pool_close(probe));
	return pool_open(area_bytes, flags, mover);
}

#endif
