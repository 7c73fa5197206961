/* SPDX-License-Identifier: MIT */
/*
 * fork with pools: a child has a consistent copy of all mapped memory, at the same addresses and its
 * own; its handles are stale; the parent goes on. More of large pools is in test_fork_push.c.
 */
#define _GNU_SOURCE
#include <setjmp.h>

#include "tests/include/testfork.h"

/* ---- Isolation ------------------------------------------------------------------------------------- */

/* Neither sees what the other writes after the fork, by whichever mover. */
static void memory_is_copied(void **state)
{
	struct berth_pool *pool = pool_open_mover(AREA_BYTES, POOL_FLAGS, *state);
	char *memory = pool_map(pool, 6 * MIB), *pages;
	struct talk talk = talk_open();
	uint64_t cursor = 0;
	pid_t pid;

	must(berth_map_runs(pool, 1 * MIB, 4096, 0, (void **)&pages));
	pattern_fill(memory, 6 * MIB, 1);
	pattern_fill(pages, 1 * MIB, 2);
	pid = fork_child();
	if (pid == 0) {
		child_check(pattern_differs(memory, 6 * MIB, 1) == 6 * MIB / 8);
		child_check(pattern_differs(pages, 1 * MIB, 2) == 1 * MIB / 8);
		pattern_fill(memory, 6 * MIB, 3);
		tell(talk.to_parent);
		await(talk.to_child);
		child_check(pattern_differs(memory, 6 * MIB, 3) == 6 * MIB / 8);
		child_check(pattern_differs(pages, 1 * MIB, 2) == 1 * MIB / 8);
		_exit(0);
	}
	await(talk.to_parent);
	pattern_ok(memory, 6 * MIB, 1);
	pattern_fill(memory, 6 * MIB, 4);
	pattern_fill(pages, 1 * MIB, 5);
	for (unsigned i = 0; i < 8; i++) /* the child's copy has nothing to do with the pool */
		assert_true(berth_shuffle(pool, &cursor) >= 0);
	tell(talk.to_child);
	child_ends_well(pid);
	pattern_ok(memory, 6 * MIB, 4);
	pattern_ok(pages, 1 * MIB, 5);
	talk_close(&talk);
	must(berth_unmap(pool, memory, 6 * MIB));
	must(berth_unmap(pool, pages, 1 * MIB));
	pool_close(pool);
}

static void every_pool_is_copied(void **state)
{
	struct berth_pool *pools[5];
	char *memory[5];
	pid_t pid;

	(void)state;
	for (uint64_t i = 0; i < ARRAY_SIZE(pools); i++) {
		pools[i] = pool_open(2 * MIB, 0, i % 2 ? "mprotect" : NULL);
		memory[i] = pool_map(pools[i], 3 * MIB);
		pattern_fill(memory[i], 3 * MIB, i);
	}
	pid = fork_child();
	for (uint64_t i = 0; i < ARRAY_SIZE(pools) && pid == 0; i++) {
		child_check(pattern_differs(memory[i], 3 * MIB, i) == 3 * MIB / 8);
		memset(memory[i], 0, 3 * MIB);
	}
	if (pid == 0)
		_exit(0);
	child_ends_well(pid);
	for (uint64_t i = 0; i < ARRAY_SIZE(pools); i++) {
		pattern_ok(memory[i], 3 * MIB, i);
		must(berth_unmap(pools[i], memory[i], 3 * MIB));
		pool_close(pools[i]);
	}
}

/* ---- Handles ----------------------------------------------------------------------------------------- */

static void all_is_stale(struct berth_pool *pool, void *memory, const struct berth_buffer *buffer,
			 uint64_t pin)
{
	struct berth_claim_report report = { 0 };
	struct berth_pool_stats stats;
	struct berth_cma_stats area;
	struct berth_buffer claimed;
	uint64_t cursor = 0;
	void *more;

	child_check(berth_claim(pool, NULL, 4096, NULL, &claimed, &report) == -BERTH_ESTALE);
	child_check(report.error == -BERTH_ESTALE);
	child_check(berth_release(pool, buffer) == -BERTH_ESTALE);
	child_check(berth_map(pool, 4096, 0, &more) == -BERTH_ESTALE);
	child_check(berth_map_runs(pool, 4096, 4096, 0, &more) == -BERTH_ESTALE);
	child_check(berth_grow(pool, memory, 4096, 8192) == -BERTH_ESTALE);
	child_check(berth_unmap(pool, memory, 4096) == -BERTH_ESTALE);
	child_check(berth_pin(pool, memory, 4096, "x", 0, &cursor) == -BERTH_ESTALE);
	child_check(berth_unpin(pool, pin) == -BERTH_ESTALE);
	child_check(berth_offset_of(pool, memory) == (size_t)-1);
	child_check(berth_pool_stats(pool, &stats) == -BERTH_ESTALE);
	child_check(berth_area_stats(pool, NULL, &area) == -BERTH_ESTALE);
	child_check(berth_shuffle(pool, &cursor) == -BERTH_ESTALE);
	child_check(!berth_pool_check(pool, NULL));
	child_check(berth_pool_notice(pool) == NULL);
	child_check(berth_pool_close(pool) == -BERTH_ESTALE);
}

static void a_childs_handles_are_stale(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	char *memory = pool_map(pool, 4096);
	struct berth_pool_stats before, after;
	struct berth_buffer buffer;
	uint64_t pin;
	pid_t pid;

	(void)state;
	strcpy(memory, "mine");
	must(berth_claim(pool, NULL, 4 * MIB, NULL, &buffer, NULL));
	must(berth_pin(pool, memory, 1, "x", 0, &pin));
	before = pool_stats(pool);
	pid = fork_child();
	if (pid == 0) {
		all_is_stale(pool, memory, &buffer, pin);
		child_check(strcmp(memory, "mine") == 0);
		strcpy(memory, "the child's");
		_exit(0);
	}
	child_ends_well(pid);
	after = pool_stats(pool);
	assert_same_state(&before, &after, __FILE__, __LINE__);
	assert_string_equal(memory, "mine");
	must(berth_unpin(pool, pin));
	must(berth_release(pool, &buffer));
	must(berth_unmap(pool, memory, 4096));
	pool_close(pool);
}

static void a_child_can_have_a_pool_of_its_own(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL), *own;
	char *memory = pool_map(pool, 64 * KIB), *more;
	struct berth_buffer buffer;
	pid_t pid;

	(void)state;
	pattern_fill(memory, 64 * KIB, 1);
	pid = fork_child();
	if (pid == 0) {
		const struct berth_area_params area = { "own", 4 * MIB, BERTH_LEND_FIRST };
		const struct berth_pool_params params = { .areas = &area, .nr_areas = 1 };
		pid_t grandchild;

		child_check(berth_pool_open(&params, &own) == 0);
		child_check(berth_map(own, 4 * MIB, 0, (void **)&more) == 0);
		pattern_fill(more, 4 * MIB, 2);
		child_check(berth_claim(own, "own", 4 * MIB, NULL, &buffer, NULL) == 0);
		child_check(pattern_differs(more, 4 * MIB, 2) == 4 * MIB / 8);
		child_check(berth_pool_stats(pool, NULL) == -BERTH_ESTALE);
		/* And forks in its turn. */
		grandchild = fork();
		if (grandchild == 0) {
			child_check(pattern_differs(memory, 64 * KIB, 1) == 64 * KIB / 8);
			child_check(pattern_differs(more, 4 * MIB, 2) == 4 * MIB / 8);
			child_check(berth_release(own, &buffer) == -BERTH_ESTALE);
			memset(memory, 0, 64 * KIB);
			memset(more, 0, 4 * MIB);
			_exit(0);
		}
		child_check(child_wait(grandchild) == 0);
		child_check(pattern_differs(memory, 64 * KIB, 1) == 64 * KIB / 8);
		child_check(pattern_differs(more, 4 * MIB, 2) == 4 * MIB / 8);
		child_check(berth_release(own, &buffer) == 0);
		child_check(berth_pool_check(own, NULL));
		child_check(berth_unmap(own, more, 4 * MIB) == 0);
		child_check(berth_pool_close(own) == 0);
		_exit(0);
	}
	child_ends_well(pid);
	pattern_ok(memory, 64 * KIB, 1);
	must(berth_unmap(pool, memory, 64 * KIB));
	pool_close(pool);
}

/* What is claimed is the device's: shared, as before the fork. */
static void a_claimed_buffer_stays_shared(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	struct berth_buffer buffer;
	pid_t pid;

	(void)state;
	must(berth_claim(pool, NULL, 1 * MIB, NULL, &buffer, NULL));
	pattern_fill(buffer.address, buffer.bytes, 1);
	pid = fork_child();
	if (pid == 0) {
		child_check(pattern_differs(buffer.address, buffer.bytes, 1) == buffer.bytes / 8);
		pattern_fill(buffer.address, buffer.bytes, 2);
		_exit(0);
	}
	child_ends_well(pid);
	pattern_ok(buffer.address, buffer.bytes, 2);
	must(berth_release(pool, &buffer));
	pool_close(pool);
}

/* ---- Threads that write meanwhile ----------------------------------------------------------------------- */

/*
 * Two ways to see that a child's copy is of one moment:
 *  - pairs of counters, on pages far apart, that are equal whenever the lock is free. Who forks holds
 *    the lock, so the child must find all pairs equal;
 *  - a thread that writes without a lock: 1 to each page, first to last, then 2, and so on. In one
 *    moment no page can be ahead of one before it. A copy that takes its time under running writers
 *    has more in its last pages.
 */
struct scene {
	pthread_mutex_t lock;
	volatile uint64_t *pairs;    /* PAIR_PAGES pages */
	volatile uint64_t *sequence; /* SEQUENCE_PAGES pages */
	_Atomic bool stop;
	_Atomic uint64_t nr_pairs, nr_rounds;
};

#define PAIR_PAGES 1024u
#define SEQUENCE_PAGES 1024u

static volatile uint64_t *pair(struct scene *s, size_t page, unsigned which)
{
	return &s->pairs[(which ? PAIR_PAGES - 1 - page : page) * 512 + 64 * (1 + which)];
}

static void *write_pairs(void *argument)
{
	struct scene *s = argument;
	uint64_t seed = (uint64_t)(uintptr_t)&seed;

	while (!atomic_load(&s->stop)) {
		size_t page = test_random_below(&seed, PAIR_PAGES);

		pthread_mutex_lock(&s->lock);
		++*pair(s, page, 0);
		++*pair(s, page, 1);
		pthread_mutex_unlock(&s->lock);
		atomic_fetch_add(&s->nr_pairs, 1);
	}
	return NULL;
}

static void *write_sequence(void *argument)
{
	struct scene *s = argument;

	for (uint64_t round = 1; !atomic_load(&s->stop); round++) {
		for (size_t page = 0; page < SEQUENCE_PAGES; page++) {
			s->sequence[page * 512] = round;
			atomic_thread_fence(memory_order_release);
		}
		atomic_store(&s->nr_rounds, round);
	}
	return NULL;
}

/* The sum of the counters; UINT64_MAX: a pair isn't equal. */
static uint64_t pairs_sum(struct scene *s)
{
	uint64_t sum = 0;

	for (size_t page = 0; page < PAIR_PAGES; page++) {
		if (*pair(s, page, 0) != *pair(s, page, 1))
			return UINT64_MAX;
		sum += *pair(s, page, 0);
	}
	return sum;
}

static bool sequence_is_of_one_moment(struct scene *s)
{
	uint64_t first = s->sequence[0], before = first;

	for (size_t page = 0; page < SEQUENCE_PAGES; page++) {
		uint64_t round = s->sequence[page * 512];

		if (round > before || round + 1 < first)
			return false;
		before = round;
	}
	return true;
}

static void child_of_one_moment(struct scene *s, uint64_t sum)
{
	child_check(pairs_sum(s) == sum);
	child_check(sequence_is_of_one_moment(s));
	for (size_t page = 0; page < PAIR_PAGES; page++)
		*pair(s, page, 0) += 1000;
	memset((void *)(uintptr_t)s->sequence, 0x11, SEQUENCE_PAGES * 4096);
	child_check(pairs_sum(s) == UINT64_MAX);
	_exit(0);
}

static void fork_under_writers(const char *mover, bool moves)
{
	static void *(*const writers[])(void *) = { write_pairs, write_pairs, write_sequence };
	struct berth_pool *pool = pool_open_mover(AREA_BYTES, POOL_FLAGS, mover);
	struct scene scene = { .lock = PTHREAD_MUTEX_INITIALIZER };
	pthread_t threads[ARRAY_SIZE(writers)];
	uint64_t cursor = 0;
	void *sequence;

	must(berth_map_runs(pool, SEQUENCE_PAGES * 4096, moves ? 64 * KIB : 2 * MIB, 0, &sequence));
	scene.sequence = sequence;
	scene.pairs = (uint64_t *)(void *)pool_map(pool, PAIR_PAGES * 4096);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, writers[i], &scene), 0);
	wait_until(atomic_load(&scene.nr_pairs) > 100 && atomic_load(&scene.nr_rounds) > 1);
	for (unsigned round = 0; round < 8; round++) {
		uint64_t sum, nr_pairs, nr_rounds = atomic_load(&scene.nr_rounds);
		pid_t pid;

		for (unsigned i = 0; moves && i < 5; i++)
			assert_true(berth_shuffle(pool, &cursor) >= 0);
		pthread_mutex_lock(&scene.lock);
		sum = pairs_sum(&scene);
		nr_pairs = atomic_load(&scene.nr_pairs);
		assert_int_not_equal(sum, UINT64_MAX);
		pid = fork_child();
		if (pid == 0)
			child_of_one_moment(&scene, sum);
		pthread_mutex_unlock(&scene.lock);
		child_ends_well(pid);
		/* They go on. */
		wait_until(atomic_load(&scene.nr_pairs) > nr_pairs &&
			   atomic_load(&scene.nr_rounds) > nr_rounds);
	}
	atomic_store(&scene.stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_not_equal(pairs_sum(&scene), UINT64_MAX);
	assert_true(sequence_is_of_one_moment(&scene));
	must(berth_unmap(pool, (void *)(uintptr_t)scene.sequence, SEQUENCE_PAGES * 4096));
	must(berth_unmap(pool, (void *)(uintptr_t)scene.pairs, PAIR_PAGES * 4096));
	pool_close(pool);
}

static void a_child_sees_one_moment(void **state)
{
	fork_under_writers(*state, false);
}

static void a_child_sees_one_moment_of_moving_memory(void **state)
{
	fork_under_writers(*state, true);
}

/* ---- Forks while others move, claim, map ------------------------------------------------------------------ */

struct mover {
	pthread_t thread;
	struct berth_pool *pool;
	uint64_t seed;
	_Atomic bool *stop;
	_Atomic uint64_t nr_rounds;
	int error;
};

static void *mover_run(void *argument)
{
	struct mover *m = argument;
	uint64_t cursor = m->seed;

	while (!atomic_load(m->stop) && !m->error) {
		struct berth_buffer buffer;
		char *memory;
		int64_t moved = berth_shuffle(m->pool, &cursor);

		if (moved < 0 && moved != -BERTH_EBUSY && moved != -BERTH_ENOMEM)
			m->error = (int)moved;
		if (berth_claim(m->pool, NULL, 1 * MIB, NULL, &buffer, NULL) == 0)
			m->error = berth_release(m->pool, &buffer);
		if (berth_map(m->pool, 32 * KIB, 0, (void **)&memory) == 0) {
			memset(memory, 1, 32 * KIB);
			m->error = berth_unmap(m->pool, memory, 32 * KIB);
		}
		atomic_fetch_add(&m->nr_rounds, 1);
	}
	return NULL;
}

static void forks_under_moves(void **state)
{
	struct berth_pool *pool = pool_open_mover(AREA_BYTES, POOL_FLAGS, *state);
	char *memory = pool_map(pool, 4 * MIB);
	_Atomic bool stop = false;
	struct mover movers[2];

	pattern_fill(memory, 4 * MIB, 1);
	for (size_t i = 0; i < ARRAY_SIZE(movers); i++) {
		movers[i] = (struct mover){ .pool = pool, .seed = i, .stop = &stop };
		assert_int_equal(pthread_create(&movers[i].thread, NULL, mover_run, &movers[i]), 0);
	}
	for (unsigned round = 0; round < 20; round++) {
		uint64_t rounds = atomic_load(&movers[0].nr_rounds);
		pid_t pid = fork_child();

		if (pid == 0) {
			child_check(pattern_differs(memory, 4 * MIB, 1) == 4 * MIB / 8);
			memset(memory, 2, 4 * MIB);
			_exit(0);
		}
		child_ends_well(pid);
		wait_until(atomic_load(&movers[0].nr_rounds) > rounds);
	}
	atomic_store(&stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(movers); i++) {
		pthread_join(movers[i].thread, NULL);
		must(movers[i].error);
	}
	pattern_ok(memory, 4 * MIB, 1);
	must(berth_unmap(pool, memory, 4 * MIB));
	pool_close(pool);
}

static void *fork_run(void *argument)
{
	const char *memory = argument;

	for (unsigned i = 0; i < 10; i++) {
		pid_t pid = fork_child();

		if (pid == 0)
			_exit(pattern_differs(memory, 2 * MIB, 1) != 2 * MIB / 8);
		if (pid < 0 || child_wait(pid) != 0)
			return (void *)1;
	}
	return NULL;
}

static void threads_fork_at_the_same_time(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, POOL_FLAGS, NULL);
	char *memory = pool_map(pool, 2 * MIB);
	pthread_t threads[3];

	(void)state;
	pattern_fill(memory, 2 * MIB, 1);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fork_run, memory), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	must(berth_unmap(pool, memory, 2 * MIB));
	pool_close(pool);
}

/* ---- A child of a child ---------------------------------------------------------------------------------------- */

/* In a child: checks, writes, and has a child that does the same, some generations deep. */
static _Noreturn void descend(struct berth_pool *pool, char *memory)
{
	for (uint64_t depth = 0; depth < 5; depth++) {
		pid_t pid;

		child_check(pattern_differs(memory, 1 * MIB, depth) == 1 * MIB / 8);
		child_check(berth_pool_close(pool) == -BERTH_ESTALE);
		pattern_fill(memory, 1 * MIB, depth + 1);
		pid = fork();
		if (pid == 0)
			continue; /* one deeper */
		child_check(pid > 0 && child_wait(pid) == 0);
		child_check(pattern_differs(memory, 1 * MIB, depth + 1) == 1 * MIB / 8);
		_exit(0);
	}
	_exit(0);
}

static void children_have_children(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, POOL_FLAGS, NULL);
	char *memory = pool_map(pool, 1 * MIB);
	pid_t pid;

	(void)state;
	pattern_fill(memory, 1 * MIB, 0);
	pid = fork_child();
	if (pid == 0)
		descend(pool, memory);
	child_ends_well(pid);
	pattern_ok(memory, 1 * MIB, 0);
	must(berth_unmap(pool, memory, 1 * MIB));
	pool_close(pool);
}

/* ---- SIGSEGV in a child ------------------------------------------------------------------------------------------ */

static sigjmp_buf after_fault;

static void on_fault(int number)
{
	(void)number;
	siglongjmp(after_fault, 1);
}

/* The parent's writers were stalled by mprotect when the child was made: that is over in the child. */
static void fault_in_a_child(void *argument)
{
	const struct sigaction action = { .sa_handler = on_fault };
	struct berth_pool *pool;
	_Atomic bool stop = false;
	struct writer writer;
	volatile char *memory;
	pid_t pid;

	(void)argument;
	child_check(sigaction(SIGSEGV, &action, NULL) == 0);
	pool = pool_open(AREA_BYTES, POOL_FLAGS, "mprotect");
	memory = pool_map(pool, 2 * MIB);
	writer_start(&writer, (char *)(uintptr_t)memory + 1 * MIB, 1 * MIB, 8, 1, &stop);
	pid = fork();
	if (pid == 0) {
		alarm(20);
		memory[5] = 5;
		child_check(mprotect((char *)(uintptr_t)memory, 4096, PROT_READ) == 0);
		if (sigsetjmp(after_fault, 1) == 0) {
			memory[5] = 6;
			_exit(3);
		}
		child_check(memory[5] == 5);
		_exit(0);
	}
	child_check(pid > 0 && child_wait(pid) == 0);
	atomic_store(&stop, true);
	writer_finish(&writer);
}

static void a_childs_own_fault_is_its_own(void **state)
{
	(void)state;
	in_child(fault_in_a_child, NULL);
}

/* ---- FILEs, descriptors, odd ways -------------------------------------------------------------------------------- */

struct printer {
	pthread_t thread;
	FILE **files;
	size_t nr_files;
	uint64_t seed;
	_Atomic bool *stop;
	_Atomic uint64_t nr_lines;
};

static void *printer_run(void *argument)
{
	struct printer *p = argument;

	while (!atomic_load(p->stop)) {
		FILE *file = p->files[test_random_below(&p->seed, p->nr_files)];

		flockfile(file);
		fprintf(file, "a line of %d characters, or so\n", 30);
		fflush(file);
		funlockfile(file);
		if (test_random_below(&p->seed, 16) == 0)
			fflush(NULL); /* takes the list's lock, then each file's */
		atomic_fetch_add(&p->nr_lines, 1);
	}
	return NULL;
}

/* glibc resets the locks of all FILEs in a child: none of ours may be caught by that, and none hang. */
static void forks_with_many_files(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, POOL_FLAGS, NULL);
	char *memory = pool_map(pool, 2 * MIB);
	struct printer printers[2];
	static char buffers[300][1024];
	_Atomic bool stop = false;
	FILE *files[300];

	(void)state;
	pattern_fill(memory, 2 * MIB, 1);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		files[i] = fopen("/dev/null", "w");
		assert_non_null(files[i]);
		/* A third of the buffers in memory that moves, and is copied. The others aren't left to
		 * malloc: a sanitizer's allocator can't be used in a child forked between threads. */
		setvbuf(files[i], i % 3 == 0 ? memory + 1 * MIB + i * 1024 : buffers[i], _IOFBF,
			1024);
	}
	for (size_t i = 0; i < ARRAY_SIZE(printers); i++) {
		printers[i] = (struct printer){ .files = files,
						.nr_files = ARRAY_SIZE(files),
						.seed = i,
						.stop = &stop };
		assert_int_equal(
			pthread_create(&printers[i].thread, NULL, printer_run, &printers[i]), 0);
	}
	for (unsigned round = 0; round < 20; round++) {
		uint64_t lines = atomic_load(&printers[0].nr_lines);
		pid_t pid = fork_child();

		if (pid == 0) {
			child_check(pattern_differs(memory, 1 * MIB, 1) == 1 * MIB / 8);
			for (size_t i = 0; i < ARRAY_SIZE(files); i++)
				child_check(fprintf(files[i], "from the child\n") > 0);
			child_check(fflush(NULL) == 0);
			_exit(0);
		}
		child_ends_well(pid);
		wait_until(atomic_load(&printers[0].nr_lines) > lines);
	}
	atomic_store(&stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(printers); i++)
		pthread_join(printers[i].thread, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		fclose(files[i]);
	must(berth_unmap(pool, memory, 2 * MIB));
	pool_close(pool);
}

/* In a child, since it spoils the descriptors. */
static void fork_without_descriptors(void *argument)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, POOL_FLAGS, NULL);
	char *memory = pool_map(pool, 4 * MIB);
	_Atomic bool stop = false;
	struct writer writer;

	(void)argument;
	pattern_fill(memory, 2 * MIB, 1);
	writer_start(&writer, memory + 2 * MIB, 2 * MIB, 64, 1, &stop);
	while (dup(0) >= 0)
		;
	child_check(errno == EMFILE);
	for (unsigned i = 0; i < 5; i++) {
		pid_t pid = fork_child();

		if (pid == 0) {
			child_check(pattern_differs(memory, 2 * MIB, 1) == 2 * MIB / 8);
			memset(memory, 7, 4 * MIB);
			_exit(0);
		}
		child_check(pid > 0 && child_wait(pid) == 0);
	}
	atomic_store(&stop, true);
	writer_finish(&writer);
	child_check(pattern_differs(memory, 2 * MIB, 1) == 2 * MIB / 8);
}

static void a_fork_needs_no_descriptor(void **state)
{
	(void)state;
	in_child(fork_without_descriptors, NULL);
}

static void limit_processes(void *argument)
{
	struct berth_pool *pool;
	char *memory;
	pid_t pid;

	(void)argument;
	pool = pool_open(AREA_BYTES, POOL_FLAGS, NULL);
	memory = pool_map(pool, 1 * MIB);
	pattern_fill(memory, 1 * MIB, 1);
	refuse_syscall(SYS_clone, EAGAIN);
	pid = fork();
	child_check(pid < 0 && errno == EAGAIN);
	/* As if nobody had tried. */
	child_check(pattern_differs(memory, 1 * MIB, 1) == 1 * MIB / 8);
	memset(memory, 2, 1 * MIB);
	child_check(berth_pool_check(pool, NULL));
	child_check(berth_unmap(pool, memory, 1 * MIB) == 0);
	child_check(berth_pool_close(pool) == 0);
}

static void a_fork_that_fails_changes_nothing(void **state)
{
	(void)state;
	in_child(limit_processes, NULL);
}

static void programs_can_be_started(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, POOL_FLAGS, NULL);
	char *memory = pool_map(pool, 1 * MIB), line[64] = { 0 };
	FILE *output;
	pid_t pid;

	(void)state;
	/* The arguments lie in movable memory. */
	strcpy(memory, "exit 3");
	pid = fork_child();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", memory, (char *)NULL);
		_exit(99);
	}
	assert_int_equal(WEXITSTATUS(child_wait(pid)), 3);
	pid = vfork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", memory, (char *)NULL);
		_exit(99);
	}
	assert_int_equal(WEXITSTATUS(child_wait(pid)), 3);
	strcpy(memory, "echo started");
	output = popen(memory, "r");
	assert_non_null(output);
	assert_non_null(fgets(line, sizeof(line), output));
	assert_string_equal(line, "started\n");
	assert_int_equal(pclose(output), 0);
	strcpy(memory, "exit 4");
	assert_int_equal(WEXITSTATUS(system(memory)), 4);
	must(berth_unmap(pool, memory, 1 * MIB));
	pool_close(pool);
}

static void a_fork_keeps_errno_and_signals(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, POOL_FLAGS, NULL);
	char *memory = pool_map(pool, 1 * MIB);
	sigset_t mask, after;
	pid_t pid;

	(void)state;
	memset(memory, 1, 1 * MIB);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	assert_int_equal(pthread_sigmask(SIG_BLOCK, &mask, NULL), 0);
	errno = 77;
	pid = fork();
	if (pid == 0) {
		child_check(errno == 77);
		child_check(pthread_sigmask(SIG_BLOCK, NULL, &after) == 0);
		child_check(sigismember(&after, SIGUSR2) && !sigismember(&after, SIGUSR1) &&
			    !sigismember(&after, SIGTERM));
		_exit(0);
	}
	assert_int_equal(errno, 77);
	child_ends_well(pid);
	assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &mask, &after), 0);
	assert_true(sigismember(&after, SIGUSR2) && !sigismember(&after, SIGTERM));
	must(berth_unmap(pool, memory, 1 * MIB));
	pool_close(pool);
}

int main(void)
{
	static const struct {
		const char *name;
		CMUnitTestFunction test;
	} each[] = {
		{ "memory_is_copied", memory_is_copied },
		{ "a_child_sees_one_moment", a_child_sees_one_moment },
		{ "a_child_sees_one_moment_of_moving_memory",
		  a_child_sees_one_moment_of_moving_memory },
		{ "forks_under_moves", forks_under_moves },
	};
	static const char *const movers[] = { "userfaultfd", "userfaultfd-user", "mprotect" };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_pool_is_copied),
		cmocka_unit_test(a_childs_handles_are_stale),
		cmocka_unit_test(a_child_can_have_a_pool_of_its_own),
		cmocka_unit_test(a_claimed_buffer_stays_shared),
		cmocka_unit_test(threads_fork_at_the_same_time),
		cmocka_unit_test(children_have_children),
		cmocka_unit_test(a_childs_own_fault_is_its_own),
		cmocka_unit_test(forks_with_many_files),
		cmocka_unit_test(a_fork_needs_no_descriptor),
		cmocka_unit_test(a_fork_that_fails_changes_nothing),
		cmocka_unit_test(programs_can_be_started),
		cmocka_unit_test(a_fork_keeps_errno_and_signals),
	};
	struct CMUnitTest group[ARRAY_SIZE(each)];
	int failed = cmocka_run_group_tests_name("fork", tests, NULL, NULL);

	for (size_t i = 0; i < ARRAY_SIZE(movers); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(each); j++)
			group[j] = (struct CMUnitTest){
				.name = each[j].name,
				.test_func = each[j].test,
				.initial_state = (void *)(uintptr_t)movers[i]
			};
		failed += _cmocka_run_group_tests(movers[i], group, ARRAY_SIZE(each), NULL, NULL);
	}
	push_from_now_on();
	failed += cmocka_run_group_tests_name("fork, pushed", tests, NULL, NULL);
	group[0].initial_state = group[1].initial_state = group[2].initial_state =
		group[3].initial_state = (void *)(uintptr_t)movers[0];
	return failed +
	       _cmocka_run_group_tests("userfaultfd, pushed", group, ARRAY_SIZE(each), NULL, NULL);
}
