// SPDX-License-Identifier: MIT
/*
 * Tenant: the edges of the heap.
 *
 * malloc, calloc, realloc, aligned_alloc, posix_memalign, memalign and their
 * like with sizes from 0 bytes to 300 MiB; fresh memory that must be zero;
 * memory that one thread allocates and another frees; threads that come and go,
 * some on stacks out of the heap; fork, with children and grandchildren that
 * check that parent and child no longer see each other's writes; requests that
 * must fail; and memory that the C library allocates itself.
 *
 * Standard output says the same for every run that went well.
 *
 *     heap_edges [--seconds S]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	MIB = 1 << 20,
	PAGE = 4096,
	STUCK_SECONDS = 90,
};

extern char **environ;
static _Atomic bool stop;

__attribute__((format(printf, 1, 2))) static void die(const char *format, ...)
{
	va_list args;

	flockfile(stderr);
	fputs("WRONG: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	fflush(stderr);
	_exit(1);
}

/* Through these a compiler can't see that it is the C library's function: nothing is folded or left out. */
static void *(*volatile opaque_malloc)(size_t) = malloc;
static void *(*volatile opaque_calloc)(size_t, size_t) = calloc;
static void *(*volatile opaque_realloc)(void *, size_t) = realloc;
static void *(*volatile opaque_reallocarray)(void *, size_t, size_t) = reallocarray;
static int (*volatile opaque_posix_memalign)(void **, size_t, size_t) = posix_memalign;
static void (*volatile opaque_free)(void *) = free;

static void *must(void *p)
{
	if (p == NULL)
		die("no memory");
	return p;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545F4914F6CDD1Du;
}

struct worker {
	const char *name;
	void (*turn)(struct worker *w);
	void (*begin)(struct worker *w);
	void (*end)(struct worker *w);
	_Atomic uint64_t turns;
	void *state;
	uint64_t random;
	pthread_t thread;
};

/* ---- a block that knows what it must hold */

struct block {
	uint8_t *p;
	size_t size;
	uint64_t seed;
};

/* Large blocks are filled and checked in steps, each of their pages included. */
static size_t step_of(size_t size)
{
	return size <= 65536 ? 1 : 509;
}

static uint8_t byte_of(uint64_t seed, size_t at)
{
	return (uint8_t)((seed ^ at) * 0x9E3779B97F4A7C15u >> 56);
}

static void block_fill(struct block *b, uint64_t seed, size_t from)
{
	size_t step = step_of(b->size);

	b->seed = seed;
	for (size_t at = (from + step - 1) / step * step; at < b->size; at += step)
		b->p[at] = byte_of(seed, at);
	if (b->size > 0)
		b->p[b->size - 1] = byte_of(seed, b->size - 1);
}

/* The first `size` bytes as they were written when the block had `written` bytes. */
static void block_check_part(const struct block *b, size_t size, size_t written, const char *what)
{
	size_t step = step_of(written);

	for (size_t at = 0; at < size; at += step) {
		if (b->p[at] != byte_of(b->seed, at))
			die("%s: byte %zu of %zu at %p has changed", what, at, written,
			    (void *)b->p);
	}
	if (size == written && size > 0 && b->p[size - 1] != byte_of(b->seed, size - 1))
		die("%s: the last byte of %zu at %p has changed", what, size, (void *)b->p);
}

static void block_free(struct block *b, const char *what)
{
	if (b->p == NULL)
		return;
	block_check_part(b, b->size, b->size, what);
	opaque_free(b->p);
	b->p = NULL;
}

static size_t random_size(uint64_t *random)
{
	uint64_t r = next_random(random);
	static const size_t limit[16] = { 16,     64,     64,      256,    256,   1024,
					  1024,   4096,   9000,    20000,  70000, 70000,
					  300000, 300000, 1500000, 5000000 };

	return next_random(random) % limit[r % 16] + 1;
}

static uint8_t *allocate(uint64_t *random, size_t size, bool *zeroed)
{
	size_t align = (size_t)16 << next_random(random) % 10; /* 16 B to 8 KiB */
	void *p = NULL;

	*zeroed = false;
	switch (next_random(random) % 8) {
	case 0:
		*zeroed = true;
		p = opaque_calloc(size, 1);
		break;
	case 1:
		*zeroed = true;
		p = opaque_calloc(1, size);
		break;
	case 2:
		if (opaque_posix_memalign(&p, align, size) != 0)
			p = NULL;
		if ((uintptr_t)p % align != 0)
			die("posix_memalign(%zu) gave %p", align, p);
		break;
	case 3:
		p = aligned_alloc(align, (size + align - 1) / align * align);
		if ((uintptr_t)p % align != 0)
			die("aligned_alloc(%zu) gave %p", align, p);
		break;
	case 4:
		p = memalign(align, size);
		if ((uintptr_t)p % align != 0)
			die("memalign(%zu) gave %p", align, p);
		break;
	default:
		p = opaque_malloc(size);
		break;
	}
	must(p);
	if ((uintptr_t)p % (size >= 16 ? 16 : 8) != 0)
		die("%zu bytes at %p aren't aligned", size, p);
	if (malloc_usable_size(p) < size)
		die("malloc_usable_size says %zu of %zu bytes", malloc_usable_size(p), size);
	return p;
}

/* ---- churn: all sizes and functions, and realloc in between */

enum { SLOTS = 300 };

static void churn_begin(struct worker *w)
{
	w->state = must(opaque_calloc(SLOTS, sizeof(struct block)));
}

static void churn_turn(struct worker *w)
{
	struct block *slots = w->state;

	for (int n = 0; n < 200; n++) {
		struct block *b = &slots[next_random(&w->random) % SLOTS];
		size_t size = random_size(&w->random);

		if (b->p == NULL || next_random(&w->random) % 3 != 0) {
			bool zeroed;
			block_free(b, w->name);
			b->p = allocate(&w->random, size, &zeroed);
			for (size_t at = 0; zeroed && at < size; at++) {
				if (b->p[at] != 0)
					die("calloc: byte %zu of %zu at %p is %02x", at, size,
					    (void *)b->p, b->p[at]);
			}
			b->size = size;
		} else {
			size_t old = b->size;
			block_check_part(b, old, old, w->name);
			b->p = must(next_random(&w->random) % 2 ?
					    opaque_realloc(b->p, size) :
					    opaque_reallocarray(b->p, size, 1));
			b->size = size;
			block_check_part(b, old < size ? old : size, old, "realloc");
		}
		block_fill(b, next_random(&w->random), 0);
	}
	if (w->turns % 16 == 15)
		malloc_trim(0);
}

static void churn_end(struct worker *w)
{
	struct block *slots = w->state;

	for (int i = 0; i < SLOTS; i++)
		block_free(&slots[i], w->name);
	opaque_free(slots);
}

/* ---- calloc gives zeros, also where dirty memory was just freed */

static void zero_turn(struct worker *w)
{
	static const size_t sizes[] = { 8,      100,     4096,           5000,    65536,
					200000, 2 * MIB, 2 * MIB + 4097, 16 * MIB };
	enum { N = sizeof(sizes) / sizeof(sizes[0]) };
	void *dirty[N];

	for (int i = 0; i < N; i++) {
		dirty[i] = must(opaque_malloc(sizes[i]));
		memset(dirty[i], 0xa5, sizes[i]);
	}
	for (int i = 0; i < N; i++)
		opaque_free(dirty[i]);
	for (int i = 0; i < N; i++) {
		uint64_t *p = must(opaque_calloc(sizes[i] / 4, 4));
		for (size_t k = 0; k < sizes[i] / 4 * 4 / 8; k++) {
			if (p[k] != 0)
				die("calloc: word %zu of %zu bytes at %p is %llx", k, sizes[i],
				    (void *)p, (unsigned long long)p[k]);
		}
		memset(p, 0x5a, sizes[i] / 4 * 4);
		opaque_free(p);
	}
	(void)w;
}

/* ---- huge blocks: grow by realloc to 300 MiB and back to one byte */

static void huge_turn(struct worker *w)
{
	static const size_t sizes[] = { 1,        100,          5000,     300000,
					3 * MIB,  20 * MIB + 1, 70 * MIB, 300 * (size_t)MIB,
					90 * MIB, MIB,          1 };
	struct block b = { .p = must(opaque_malloc(1)), .size = 1 };

	b.p[0] = 0;
	uint64_t *words = NULL;
	for (size_t i = 1; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t pages = sizes[i] / PAGE,
		       kept = sizes[i - 1] < sizes[i] ? sizes[i - 1] / PAGE : pages;
		b.p = must(opaque_realloc(b.p, sizes[i]));
		words = (uint64_t *)(void *)b.p;
		for (size_t k = 0; k < kept; k++) {
			if (words[k * (PAGE / 8)] != (k ^ w->random))
				die("realloc from %zu to %zu bytes: page %zu has changed",
				    sizes[i - 1], sizes[i], k);
		}
		for (size_t k = 0; k < pages; k++)
			words[k * (PAGE / 8)] = k ^ w->random;
		b.p[sizes[i] - 1] |= 1;
	}
	opaque_free(b.p);

	/* an aligned huge block, zeroed pages in a large calloc, and something that lies between */
	void *p = NULL;
	if (opaque_posix_memalign(&p, 4 * MIB, 40 * MIB) != 0 || (uintptr_t)p % (4 * MIB) != 0)
		die("posix_memalign of 40 MiB at 4 MiB gave %p", p);
	((volatile char *)p)[0] = 1;
	((volatile char *)p)[40 * MIB - 1] = 2;
	uint8_t *zero = must(opaque_calloc(80, MIB));
	for (size_t at = 0; at < 80 * (size_t)MIB; at += 1021) {
		if (zero[at] != 0)
			die("calloc of 80 MiB: byte %zu is %02x", at, zero[at]);
		zero[at] = 0xff;
	}
	if (((volatile char *)p)[0] != 1 || ((volatile char *)p)[40 * MIB - 1] != 2)
		die("a neighbour was overwritten");
	opaque_free(p);
	opaque_free(zero);
}

/* ---- one thread allocates, another frees */

enum { RING = 64 };
struct ring {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct block block[RING];
	unsigned head, tail;
	bool over;
	pthread_t consumer;
};

static void *consumer_main(void *arg)
{
	struct ring *r = arg;

	for (;;) {
		pthread_mutex_lock(&r->mutex);
		while (r->head == r->tail && !r->over)
			pthread_cond_wait(&r->changed, &r->mutex);
		if (r->head == r->tail) {
			pthread_mutex_unlock(&r->mutex);
			return NULL;
		}
		struct block b = r->block[r->tail++ % RING];
		pthread_cond_broadcast(&r->changed);
		pthread_mutex_unlock(&r->mutex);
		block_free(&b, "handed over");
	}
}

static void ring_begin(struct worker *w)
{
	struct ring *r = must(opaque_calloc(1, sizeof(*r)));

	pthread_mutex_init(&r->mutex, NULL);
	pthread_cond_init(&r->changed, NULL);
	w->state = r;
	if (pthread_create(&r->consumer, NULL, consumer_main, r) != 0)
		die("pthread_create");
}

static void ring_turn(struct worker *w)
{
	struct ring *r = w->state;

	for (int n = 0; n < 100; n++) {
		struct block b = { .size = random_size(&w->random) };
		b.p = must(opaque_malloc(b.size));
		block_fill(&b, next_random(&w->random), 0);
		pthread_mutex_lock(&r->mutex);
		while (r->head - r->tail == RING)
			pthread_cond_wait(&r->changed, &r->mutex);
		r->block[r->head++ % RING] = b;
		pthread_cond_broadcast(&r->changed);
		pthread_mutex_unlock(&r->mutex);
	}
}

static void ring_end(struct worker *w)
{
	struct ring *r = w->state;

	pthread_mutex_lock(&r->mutex);
	r->over = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mutex);
	pthread_join(r->consumer, NULL);
	opaque_free(r);
}

/* ---- threads that come and go */

static pthread_key_t key;

static void key_destroyed(void *p)
{
	struct block *b = p;

	block_free(b, "thread-specific");
	opaque_free(b);
}

static void *mayfly_main(void *arg)
{
	struct block *left = arg;
	struct block *own = must(opaque_malloc(sizeof(*own)));
	uint64_t random = left->seed | 1;
	volatile uint8_t on_stack[3000];

	memset((void *)on_stack, (int)(random & 0x7f), sizeof(on_stack));
	*own = (struct block){ .size = random_size(&random) };
	own->p = must(opaque_malloc(own->size));
	block_fill(own, random, 0);
	pthread_setspecific(key, own);
	for (int n = 0; n < 30; n++) {
		struct block b = { .size = random_size(&random) % 100000 + 1 };
		b.p = must(opaque_malloc(b.size));
		block_fill(&b, random, 0);
		block_free(&b, "short-lived");
	}
	left->size = random_size(&random);
	left->p = must(opaque_malloc(left->size));
	block_fill(left, random, 0);
	for (size_t i = 0; i < sizeof(on_stack); i++) {
		if (on_stack[i] != on_stack[0])
			die("a byte of a thread's stack has changed");
	}
	return left;
}

static void mayfly_turn(struct worker *w)
{
	enum { FLIES = 6, STACK = 256 << 10 };
	pthread_t thread[FLIES];
	struct block *left[FLIES];
	void *stack[FLIES] = { NULL };

	for (int i = 0; i < FLIES; i++) {
		pthread_attr_t attr;
		left[i] = must(opaque_calloc(1, sizeof(*left[i])));
		left[i]->seed = next_random(&w->random) | 1;
		pthread_attr_init(&attr);
		if (i % 3 == 2) { /* a stack out of the heap */
			if (opaque_posix_memalign(&stack[i], PAGE, STACK) != 0)
				die("no memory for a stack");
			if (pthread_attr_setstack(&attr, stack[i], STACK) != 0)
				die("pthread_attr_setstack");
		}
		int error = pthread_create(&thread[i], &attr, mayfly_main, left[i]);
		if (error != 0)
			die("pthread_create: %s", strerror(error));
		pthread_attr_destroy(&attr);
	}
	for (int i = 0; i < FLIES; i++) {
		void *result = NULL;
		if (pthread_join(thread[i], &result) != 0 || result != left[i])
			die("pthread_join");
		block_free(left[i], "left behind by a thread");
		opaque_free(left[i]);
		opaque_free(stack[i]);
	}
}

/* ---- fork: parent, child and grandchild go separate ways */

enum { FORK_BLOCKS = 40 };
struct forker {
	struct block block[FORK_BLOCKS];
};

static void forker_begin(struct worker *w)
{
	w->state = must(opaque_calloc(1, sizeof(struct forker)));
}

static void forker_fill(struct forker *f, uint64_t *random)
{
	for (int i = 0; i < FORK_BLOCKS; i++) {
		struct block *b = &f->block[i];
		if (b->p == NULL || next_random(random) % 4 == 0) {
			block_free(b, "fork");
			b->size = i == 0 ? 2 * MIB : random_size(random) % 200000 + 1;
			b->p = must(opaque_malloc(b->size));
		}
		block_fill(b, next_random(random), 0);
	}
}

static void forker_check(const struct forker *f, const char *what)
{
	for (int i = 0; i < FORK_BLOCKS; i++)
		block_check_part(&f->block[i], f->block[i].size, f->block[i].size, what);
}

/* In a child nothing but its own exit status may tell; the message goes to stderr through `die`. */
static void descendant(struct forker *f, uint64_t random, const int *go, const char *who)
{
	char byte;

	alarm(STUCK_SECONDS);
	close(go[1]);
	if (read(go[0], &byte, 1) < 0) /* by now the parent has overwritten its own copy */
		_exit(10);
	forker_check(f, who);
	forker_fill(f, &random); /* frees and allocates, too */
	void *zero = opaque_calloc(1, 300000), *p = opaque_malloc(3 * MIB);
	for (size_t i = 0; zero != NULL && i < 300000; i++) {
		if (((uint8_t *)zero)[i] != 0)
			_exit(13);
	}
	if (zero == NULL || p == NULL)
		_exit(14);
	memset(p, 1, 3 * MIB);
	p = opaque_realloc(p, 9 * MIB);
	opaque_free(p);
	opaque_free(zero);
	forker_check(f, who);
}

static _Noreturn void child_main(struct forker *f, uint64_t random, const int *go)
{
	descendant(f, random, go, "child");
	if (random % 4 == 0) {
		int go2[2], status = 0;
		if (pipe(go2) != 0)
			_exit(11);
		pid_t pid = fork();
		if (pid == 0) {
			descendant(f, random, go2, "grandchild");
			_exit(0);
		}
		forker_fill(f, &random);
		close(go2[0]);
		close(go2[1]);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			_exit(12);
		forker_check(f, "child beside its own child");
	}
	_exit(0);
}

static void forker_turn(struct worker *w)
{
	struct forker *f = w->state;
	int go[2];

	forker_fill(f, &w->random);
	if (pipe(go) != 0)
		die("pipe: %s", strerror(errno));
	uint64_t random = next_random(&w->random);
	pid_t pid = fork();
	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid == 0)
		child_main(f, random, go);
	close(go[0]);
	forker_fill(f, &w->random);
	if (write(go[1], "g", 1) != 1)
		die("a child went away: %s", strerror(errno));
	forker_check(f, "parent while the child writes");
	int status = 0;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			die("waitpid: %s", strerror(errno));
	}
	close(go[1]);
	if (status != 0)
		die("a child ended with wait status %04x", (unsigned)status);
	forker_check(f, "parent");
}

static void forker_end(struct worker *w)
{
	struct forker *f = w->state;

	for (int i = 0; i < FORK_BLOCKS; i++)
		block_free(&f->block[i], "fork, at the end");
	opaque_free(f);
}

/* ---- other programs: posix_spawn and system */

static void spawn_turn(struct worker *w)
{
	char *args[] = { "sh", "-c", "exit 7", NULL };
	pid_t pid;
	int status = 0;

	int error = posix_spawn(&pid, "/bin/sh", NULL, NULL, args, environ);
	if (error != 0)
		die("posix_spawn: %s", strerror(error));
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
		die("a spawned shell ended with wait status %04x", (unsigned)status);
	if (w->turns % 4 == 0) {
		status = system("exit 9");
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 9)
			die("system: wait status %04x", (unsigned)status);
	}
	usleep(200000);
}

/* ---- what must fail, and what must not */

static void edges_turn(struct worker *w)
{
	volatile size_t huge[] = { SIZE_MAX, SIZE_MAX - PAGE, (size_t)PTRDIFF_MAX + 1,
				   (size_t)1 << 60 };
	void *p = NULL;
	void *volatile q;

	for (size_t i = 0; i < sizeof(huge) / sizeof(huge[0]); i++) {
		errno = 0;
		q = opaque_malloc(huge[i]);
		if (q != NULL || errno != ENOMEM)
			die("malloc(%zu) gave %p, errno %d", huge[i], q, errno);
		char *kept = must(opaque_malloc(100));
		memset(kept, 'k', 100);
		errno = 0;
		q = opaque_realloc(kept, huge[i]);
		if (q != NULL || errno != ENOMEM || kept[0] != 'k' || kept[99] != 'k')
			die("realloc(%zu) gave %p, errno %d", huge[i], q, errno);
		errno = 0;
		q = opaque_reallocarray(kept, huge[i] / 2, 4);
		if (q != NULL || errno != ENOMEM)
			die("reallocarray gave %p, errno %d", q, errno);
		opaque_free(kept);
		errno = 0;
		q = opaque_calloc(huge[i] / 2, 4);
		if (q != NULL || errno != ENOMEM)
			die("calloc(%zu, 4) gave %p, errno %d", huge[i] / 2, q, errno);
	}
	volatile size_t bad_align = 24, small_align = 2;
	if (opaque_posix_memalign(&p, bad_align, 100) != EINVAL ||
	    opaque_posix_memalign(&p, small_align, 100) != EINVAL)
		die("posix_memalign took a bad alignment");
	if (opaque_posix_memalign(&p, 64, huge[0]) != ENOMEM)
		die("posix_memalign gave an impossible size");

	void *zero[8];
	for (int i = 0; i < 8; i++) {
		zero[i] = must(opaque_malloc(0));
		for (int k = 0; k < i; k++) {
			if (zero[i] == zero[k])
				die("malloc(0) gave the same address twice");
		}
	}
	for (int i = 0; i < 8; i++)
		opaque_free(zero[i]);
	opaque_free(NULL);
	q = valloc(100);
	if (q == NULL || (uintptr_t)q % PAGE != 0)
		die("valloc gave %p", q);
	opaque_free(q);
	q = pvalloc(100); /* a whole page */
	if (q == NULL || (uintptr_t)q % PAGE != 0 || malloc_usable_size(q) < PAGE)
		die("pvalloc gave %p", q);
	memset(q, 1, PAGE);
	opaque_free(q);
	q = opaque_realloc(NULL, 10);
	must(q);
	if (malloc_usable_size(NULL) != 0 || malloc_usable_size(q) < 10)
		die("malloc_usable_size");
	memset(q, 1, malloc_usable_size(q)); /* all of it may be used */
	opaque_free(q);

	q = must(opaque_malloc(8 * MIB));
	memset(q, 1, 8 * MIB);
	errno = 4242;
	opaque_free(q);
	if (errno != 4242)
		die("free changed errno to %d", errno);
	usleep(2000);
	(void)w;
}

/* ---- heap memory and the system calls for memory */

static _Atomic int signals_seen;

static void on_signal(int number)
{
	volatile char on_stack[2000];

	memset((void *)on_stack, number, sizeof(on_stack));
	signals_seen += on_stack[1999] == (char)number;
}

static void system_turn(struct worker *w)
{
	void *p = NULL;

	/* a large buffer is thrown away in place: it must read as zero afterwards */
	if (opaque_posix_memalign(&p, PAGE, 512 * PAGE) != 0)
		die("posix_memalign");
	memset(p, 0x77, 512 * PAGE);
	if (madvise((char *)p + PAGE, 510 * PAGE, MADV_DONTNEED) != 0)
		die("MADV_DONTNEED: %s", strerror(errno));
	for (size_t at = 0; at < 512 * PAGE; at++) {
		uint8_t wanted = at < PAGE || at >= 511 * PAGE ? 0x77 : 0;
		if (((uint8_t *)p)[at] != wanted)
			die("MADV_DONTNEED: byte %zu is %02x, not %02x", at, ((uint8_t *)p)[at],
			    wanted);
	}
	memset(p, 0x66, 512 * PAGE);
	/* locked memory keeps its contents; the limit may forbid it */
	if (mlock(p, 4 * PAGE) == 0) {
		if (((uint8_t *)p)[3 * PAGE] != 0x66)
			die("mlock changed the memory");
		munlock(p, 4 * PAGE);
	}
	opaque_free(p);

	/* a signal stack out of the heap */
	size_t size = 64 << 10;
	stack_t stack = { .ss_sp = must(opaque_malloc(size)), .ss_size = size }, old;
	if (sigaltstack(&stack, &old) != 0)
		die("sigaltstack: %s", strerror(errno));
	int before = signals_seen;
	for (int n = 0; n < 20; n++)
		pthread_kill(pthread_self(), SIGUSR2);
	if (signals_seen != before + 20)
		die("%d of 20 signals arrived", signals_seen - before);
	if (sigaltstack(&old, NULL) != 0)
		die("sigaltstack back: %s", strerror(errno));
	opaque_free(stack.ss_sp);
	(void)w;
}

/* ---- memory that the C library allocates and the program frees */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static void library_turn(struct worker *w)
{
	char *text = NULL, *line = NULL, *copy;
	size_t size = 0, capacity = 0;
	uint64_t sum = 0;

	FILE *memory = open_memstream(&text, &size);
	must(memory);
	for (int n = 0; n < 2000; n++)
		fprintf(memory, "%d:%llx\n", n, (unsigned long long)next_random(&w->random));
	fclose(memory);
	copy = must(strdup(text));
	FILE *reader = must(fmemopen(copy, size, "r"));
	int lines = 0;
	size_t at = 0;
	ssize_t length;
	while ((length = getline(&line, &capacity, reader)) > 0) {
		if (memcmp(line, text + at, (size_t)length) != 0)
			die("getline: line %d differs", lines);
		at += (size_t)length;
		lines++;
	}
	if (lines != 2000 || at != size)
		die("getline: %d lines", lines);
	fclose(reader);
	opaque_free(line);
	opaque_free(copy);
	opaque_free(text);
	if (asprintf(&text, "%*s", 30000, "x") != 30000 || text[29999] != 'x' || text[0] != ' ')
		die("asprintf");
	opaque_free(text);

	uint64_t *numbers = must(opaque_malloc(50000 * sizeof(*numbers)));
	for (int i = 0; i < 50000; i++)
		sum += numbers[i] = next_random(&w->random);
	qsort(numbers, 50000, sizeof(*numbers), by_value);
	for (int i = 0; i < 50000; i++) {
		sum -= numbers[i];
		if (i > 0 && numbers[i] < numbers[i - 1])
			die("qsort: not sorted at %d", i);
	}
	if (sum != 0)
		die("qsort lost a number");
	opaque_free(numbers);
}

static struct worker workers[] = {
	{ .name = "churn", .begin = churn_begin, .turn = churn_turn, .end = churn_end },
	{ .name = "churn two", .begin = churn_begin, .turn = churn_turn, .end = churn_end },
	{ .name = "zeroed memory", .turn = zero_turn },
	{ .name = "huge blocks", .turn = huge_turn },
	{ .name = "handed over", .begin = ring_begin, .turn = ring_turn, .end = ring_end },
	{ .name = "short-lived threads", .turn = mayfly_turn },
	{ .name = "fork", .begin = forker_begin, .turn = forker_turn, .end = forker_end },
	{ .name = "fork two", .begin = forker_begin, .turn = forker_turn, .end = forker_end },
	{ .name = "other programs", .turn = spawn_turn },
	{ .name = "limits", .turn = edges_turn },
	{ .name = "system calls", .turn = system_turn },
	{ .name = "the C library", .turn = library_turn },
};
enum { WORKERS = sizeof(workers) / sizeof(workers[0]) };

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	if (w->begin != NULL)
		w->begin(w);
	do {
		w->turn(w);
		w->turns++;
	} while (!stop);
	if (w->end != NULL)
		w->end(w);
	return NULL;
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Returns when the time is over; ends the program when one worker doesn't go on. */
static void watch(double seconds)
{
	double start = now_s(), changed[WORKERS];
	uint64_t last[WORKERS] = { 0 };
	bool all = false;

	for (int i = 0; i < WORKERS; i++)
		changed[i] = start;
	while (now_s() - start < seconds || !all) {
		all = true;
		for (int i = 0; i < WORKERS; i++) {
			if (workers[i].turns != last[i]) {
				last[i] = workers[i].turns;
				changed[i] = now_s();
			}
			if (now_s() - changed[i] > STUCK_SECONDS)
				die("%s: hangs", workers[i].name);
			all = all && last[i] > 0;
		}
		usleep(10000);
	}
}

int main(int argc, char **argv)
{
	double seconds = 2;
	const char *only = NULL;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--seconds") == 0)
			seconds = atof(argv[i + 1]);
		else if (strcmp(argv[i], "--only") ==
			 0) /* one worker, to look for the cause of a failure */
			only = argv[i + 1];
	}
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_RESTART };
	sigaction(SIGUSR2, &action, NULL);
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigaction(SIGPIPE, &ignore, NULL);
	pthread_key_create(&key, key_destroyed);
	for (int i = 0; i < WORKERS; i++) {
		if (only != NULL && strcmp(only, workers[i].name) != 0) {
			workers[i].turns = 1;
			continue;
		}
		workers[i].random = 0x9E3779B97F4A7C15u * (uint64_t)(i + 1);
		if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
			die("pthread_create");
	}
	watch(seconds);
	stop = true;
	alarm(STUCK_SECONDS);
	for (int i = 0; i < WORKERS; i++) {
		if (workers[i].thread != 0)
			pthread_join(workers[i].thread, NULL);
	}
	alarm(0);
	for (int i = 0; i < WORKERS; i++) {
		printf("%s: as it must be\n", workers[i].name);
		fprintf(stderr, "%s: %llu turns\n", workers[i].name,
			(unsigned long long)workers[i].turns);
	}
	return 0;
}
