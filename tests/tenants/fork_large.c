// SPDX-License-Identifier: MIT
/*
 * Tenant: fork of a large heap that is written all the time.
 *
 * Most of the heap is blocks of a static pattern, of 4 KiB to 3 MiB, freed, renewed and allocated again
 * between the forks. Three threads write to the rest, and in a child it must be of one moment:
 *  - pairs of counters, at the two ends of the heap, which two threads keep equal under a lock. Who forks
 *    holds the lock, so a child finds all of them equal, with the sum that the parent had;
 *  - a thread without a lock writes 1 to a word of each page, first to last, then 2, and so on. In one
 *    moment no page can be ahead of one before it.
 * A child checks all of it, writes to its copy, uses malloc, and checks what it hasn't written again. One in
 * four has a child of its own, before or after that, another becomes a program at once, by arguments that lie in
 * the heap. The parent renews blocks meanwhile.
 *
 * Standard output says the same for every run that went well; how long fork() took, and the longest time
 * between two writes of each kind from before a fork until its child had ended, goes to standard error.
 *
 *     fork_large [--mib N] [--rounds R]
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	KIB = 1 << 10,
	MIB = 1 << 20,
	PAGE = 4096,
	PAGE_WORDS = PAGE / 8,
	PAIR_PAGES = 1024,
	SEQUENCE_PAGES = 4096,
	MAX_BLOCKS = 1 << 16,
	RENEWED = 24, /* blocks that the parent renews after a fork */
	STUCK_SECONDS = 120,
};

__attribute__((format(printf, 1, 2))) static void die(const char *format, ...)
{
	char text[256];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (dprintf(STDERR_FILENO, "WRONG (process %d): %.*s\n", (int)getpid(), length, text) < 0)
		_exit(2);
	_exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t random_next(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* ---- The static part ------------------------------------------------------------------------------- */

struct block {
	uint64_t *words;
	size_t nr_words;
	uint64_t pattern;
};

static struct {
	struct block *blocks; /* in the heap, too */
	size_t nr_blocks;
	uint64_t seed, next_pattern;
} statics;

static void block_fill(struct block *block, uint64_t pattern)
{
	block->pattern = pattern;
	for (size_t i = 0; i < block->nr_words; i++)
		block->words[i] = pattern + i;
}

static void block_check(const struct block *block, size_t index, const char *who)
{
	for (size_t i = 0; i < block->nr_words; i++)
		if (block->words[i] != block->pattern + i)
			die("%s: block %zu of %zu words has %#llx instead of %#llx at %zu", who,
			    index, block->nr_words, (unsigned long long)block->words[i],
			    (unsigned long long)(block->pattern + i), i);
}

static void block_new(struct block *block)
{
	uint64_t size = random_next(&statics.seed);
	size_t bytes = (size >> 32) % 4 ? (size_t)(size % (64 * KIB)) + 4 * KIB :
					  (size_t)(size % (3 * MIB)) + 4 * KIB;

	block->nr_words = bytes / 8;
	block->words = malloc(block->nr_words * 8);
	if (!block->words)
		die("no memory for a block of %zu bytes", bytes);
	block_fill(block, statics.next_pattern += (uint64_t)1 << 32);
}

static void statics_make(size_t bytes)
{
	if (!statics.blocks)
		statics.blocks = malloc(MAX_BLOCKS * sizeof(*statics.blocks));
	if (!statics.blocks)
		die("no memory");
	for (size_t made = 0; made < bytes && statics.nr_blocks < MAX_BLOCKS;) {
		struct block *block = &statics.blocks[statics.nr_blocks++];

		block_new(block);
		made += block->nr_words * 8;
	}
}

static void statics_check(const char *who)
{
	for (size_t i = 0; i < statics.nr_blocks; i++)
		block_check(&statics.blocks[i], i, who);
}

/* Some blocks are written anew in place, some freed and allocated anew. */
static void statics_renew(void)
{
	for (int i = 0; i < RENEWED; i++) {
		struct block *block =
			&statics.blocks[random_next(&statics.seed) % statics.nr_blocks];

		if (i % 2) {
			block_fill(block, statics.next_pattern += (uint64_t)1 << 32);
			continue;
		}
		free(block->words);
		block_new(block);
	}
}

/* ---- The part that is written ------------------------------------------------------------------------ */

enum { PAIRS, SEQUENCE, NR_KINDS };

static struct {
	pthread_mutex_t lock;
	volatile uint64_t *low, *high; /* PAIR_PAGES pages each */
	volatile uint64_t *sequence;
	_Atomic bool stop;
	_Atomic uint64_t nr[NR_KINDS];      /* how often all of it was written */
	_Atomic uint64_t longest[NR_KINDS]; /* ns between two writes */
} written = { .lock = PTHREAD_MUTEX_INITIALIZER };

static volatile uint64_t *pages_new(size_t nr_pages)
{
	void *pages = calloc(nr_pages, PAGE);

	if (!pages)
		die("no memory for %zu pages", nr_pages);
	return pages;
}

/* Notes a write; `last` is when this thread wrote before. */
static void wrote(int kind, uint64_t *last)
{
	uint64_t now = now_ns(), gap = now - *last, longest = atomic_load(&written.longest[kind]);

	*last = now;
	while (gap > longest &&
	       !atomic_compare_exchange_weak(&written.longest[kind], &longest, gap))
		;
}

static volatile uint64_t *pair_low(size_t page)
{
	return &written.low[page * PAGE_WORDS + 64];
}

static volatile uint64_t *pair_high(size_t page)
{
	return &written.high[(PAIR_PAGES - 1 - page) * PAGE_WORDS + 128];
}

static void *write_pairs(void *seed_bits)
{
	uint64_t seed = (uintptr_t)seed_bits, last = now_ns();

	while (!atomic_load(&written.stop)) {
		size_t page = random_next(&seed) % PAIR_PAGES;

		pthread_mutex_lock(&written.lock);
		++*pair_low(page);
		++*pair_high(page);
		pthread_mutex_unlock(&written.lock);
		wrote(PAIRS, &last);
		atomic_fetch_add(&written.nr[PAIRS], 1);
	}
	return NULL;
}

static void *write_sequence(void *unused)
{
	uint64_t last = now_ns();

	for (uint64_t round = 1; !atomic_load(&written.stop); round++) {
		for (size_t page = 0; page < SEQUENCE_PAGES; page++) {
			written.sequence[page * PAGE_WORDS] = round;
			atomic_thread_fence(memory_order_release);
			wrote(SEQUENCE, &last);
		}
		atomic_fetch_add(&written.nr[SEQUENCE], 1);
	}
	return unused;
}

static uint64_t pairs_sum(const char *who)
{
	uint64_t sum = 0;

	for (size_t page = 0; page < PAIR_PAGES; page++) {
		uint64_t low = *pair_low(page), high = *pair_high(page);

		if (low != high)
			die("%s: pair %zu is %llu and %llu", who, page, (unsigned long long)low,
			    (unsigned long long)high);
		sum += low;
	}
	return sum;
}

static void sequence_check(const char *who)
{
	uint64_t first = written.sequence[0], before = first;

	for (size_t page = 0; page < SEQUENCE_PAGES; page++) {
		uint64_t round = written.sequence[page * PAGE_WORDS];

		if (round > before || round + 1 < first)
			die("%s: page %zu of the sequence is of round %llu, the one before it of %llu, "
			    "the first of %llu",
			    who, page, (unsigned long long)round, (unsigned long long)before,
			    (unsigned long long)first);
		before = round;
	}
}

/* ---- Children ------------------------------------------------------------------------------------------ */

enum { PLAIN, GRANDCHILD_FIRST, PROGRAM, GRANDCHILD_LAST, NR_ERRANDS };

static const char *const errands[] = { "checks", "forks, then checks", "becomes a program",
				       "checks, then forks" };

static void wait_for(pid_t pid, const char *who)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		die("%s can't be waited for", who);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		die("%s ended with status %#x", who, (unsigned)status);
}

/* malloc works, of all sizes, and gives what is nobody else's. */
static void use_malloc(uint64_t seed)
{
	struct block mine[64];
	size_t nr = sizeof(mine) / sizeof(mine[0]);

	for (size_t i = 0; i < nr; i++) {
		mine[i].nr_words = random_next(&seed) % (i % 8 ? 4096 : 65536) + 1;
		mine[i].words = malloc(mine[i].nr_words * 8);
		if (!mine[i].words)
			die("no memory in a child");
		block_fill(&mine[i], random_next(&seed));
		if (i % 3 == 2)
			free(mine[i - 1].words);
	}
	for (size_t i = 0; i < nr; i++) {
		if (i % 3 == 1 && i + 1 < nr)
			continue; /* freed */
		block_check(&mine[i], i, "a child's own memory");
		free(mine[i].words);
	}
}

static void child_checks(uint64_t sum, const char *who)
{
	if (pairs_sum(who) != sum)
		die("%s: the pairs are of another moment than the fork", who);
	sequence_check(who);
	statics_check(who);
}

static void child_writes(void)
{
	for (size_t i = 0; i < statics.nr_blocks; i += 3)
		block_fill(&statics.blocks[i], ~(uint64_t)0 << 48 | (uint64_t)i << 32);
	for (size_t i = 1; i < statics.nr_blocks; i += 30) {
		free(statics.blocks[i].words);
		statics.blocks[i] = (struct block){ 0 };
	}
	for (size_t page = 0; page < PAIR_PAGES; page++) {
		*pair_low(page) += 7;
		*pair_high(page) += 7;
	}
	use_malloc(42);
}

static void grandchild(uint64_t sum)
{
	pid_t pid = fork();

	if (pid < 0)
		die("a child can't fork");
	if (pid == 0) {
		alarm(STUCK_SECONDS);
		child_checks(sum, "grandchild");
		child_writes();
		child_checks(sum + 7 * PAIR_PAGES, "grandchild, after its writes");
		_exit(0);
	}
	wait_for(pid, "a grandchild");
}

static void become_program(void)
{
	static const char script[] = "[ \"$1\" = \"a word out of the heap\" ]";
	char *words[6] = { strdup("sh"),
			   strdup("-c"),
			   strdup(script),
			   strdup("-"),
			   strdup("a word out of the heap"),
			   NULL };
	char **argv = malloc(sizeof(words));

	if (!argv || !words[4])
		die("no memory in a child");
	memcpy(argv, words, sizeof(words));
	execv("/bin/sh", argv);
	die("/bin/sh can't be executed");
}

static _Noreturn void be_child(int errand, uint64_t sum)
{
	signal(SIGALRM, SIG_DFL);
	alarm(STUCK_SECONDS);
	if (errand == PROGRAM)
		become_program();
	if (errand == GRANDCHILD_FIRST)
		grandchild(sum);
	child_checks(sum, "child");
	child_writes();
	child_checks(sum + 7 * PAIR_PAGES, "child, after its writes");
	if (errand == GRANDCHILD_LAST)
		grandchild(sum + 7 * PAIR_PAGES);
	_exit(0);
}

/* ---- The parent ------------------------------------------------------------------------------------------ */

static struct {
	uint64_t fork_ns, write_ns[NR_KINDS];
} worst;

static void worst_of(uint64_t *value, uint64_t other)
{
	if (other > *value)
		*value = other;
}

/* All writers write again, everywhere. */
static void writers_go_on(void)
{
	uint64_t before[NR_KINDS], until = now_ns() + STUCK_SECONDS * 1000000000ull;

	for (int kind = 0; kind < NR_KINDS; kind++)
		before[kind] = atomic_load(&written.nr[kind]);
	for (int kind = 0; kind < NR_KINDS; kind++)
		while (atomic_load(&written.nr[kind]) < before[kind] + 2) {
			const struct timespec pause = { .tv_nsec = 1000000 };

			if (now_ns() > until)
				die("a writer doesn't go on");
			nanosleep(&pause, NULL);
		}
}

static void one_round(int round)
{
	int errand = round % NR_ERRANDS;
	uint64_t sum, since;
	pid_t pid;

	writers_go_on();
	pthread_mutex_lock(&written.lock);
	sum = pairs_sum("parent");
	for (int kind = 0; kind < NR_KINDS; kind++)
		atomic_store(&written.longest[kind], 0);
	since = now_ns();
	pid = fork();
	if (pid == 0)
		be_child(errand, sum);
	worst_of(&worst.fork_ns, now_ns() - since);
	pthread_mutex_unlock(&written.lock);
	if (pid < 0)
		die("fork fails");
	statics_renew();
	wait_for(pid, "a child");
	for (int kind = 0; kind < NR_KINDS; kind++)
		worst_of(&worst.write_ns[kind], atomic_load(&written.longest[kind]));
	pthread_mutex_lock(&written.lock);
	(void)pairs_sum("parent, after a fork");
	pthread_mutex_unlock(&written.lock);
	printf("child %d %s: right\n", round, errands[errand]);
	fflush(stdout);
}

static long option(int argc, char **argv, const char *name, long fallback)
{
	for (int i = 1; i + 1 < argc; i += 2)
		if (strcmp(argv[i], name) == 0)
			return strtol(argv[i + 1], NULL, 10);
	return fallback;
}

int main(int argc, char **argv)
{
	const size_t written_bytes = (size_t)(2 * PAIR_PAGES + SEQUENCE_PAGES) * PAGE;
	long mib = option(argc, argv, "--mib", 512), rounds = option(argc, argv, "--rounds", 8);
	size_t bytes = (size_t)mib * MIB;
	pthread_t threads[3];

	written.low = pages_new(PAIR_PAGES);
	statics_make(bytes > written_bytes ? (bytes - written_bytes) / 2 : 0);
	written.sequence = pages_new(SEQUENCE_PAGES);
	statics_make(bytes > written_bytes ? (bytes - written_bytes) / 2 : 0);
	written.high = pages_new(PAIR_PAGES);
	if (pthread_create(&threads[0], NULL, write_pairs, (void *)1) ||
	    pthread_create(&threads[1], NULL, write_pairs, (void *)2) ||
	    pthread_create(&threads[2], NULL, write_sequence, NULL))
		die("no threads");
	for (long round = 0; round < rounds; round++)
		one_round((int)round);
	atomic_store(&written.stop, true);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	(void)pairs_sum("parent, at the end");
	sequence_check("parent, at the end");
	statics_check("parent, at the end");
	printf("%zu blocks, %ld children: all right\n", statics.nr_blocks, rounds);
	fprintf(stderr, "stall: fork %.1f ms, write %.1f ms, write under the lock %.1f ms\n",
		(double)worst.fork_ns / 1e6, (double)worst.write_ns[SEQUENCE] / 1e6,
		(double)worst.write_ns[PAIRS] / 1e6);
	return 0;
}
