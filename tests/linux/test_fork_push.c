/* SPDX-License-Identifier: MIT */
/*
 * fork with large pools: the child's memory comes after the fork.
 */
#define _GNU_SOURCE
#include "tests/include/testfork.h"

#define LARGE (48 * MIB)

static struct berth_pool *large_pool(char **memory)
{
	struct berth_pool *pool = pool_open(LARGE, POOL_FLAGS, NULL);

	*memory = pool_map(pool, LARGE);
	pattern_fill(*memory, LARGE, 1);
	return pool;
}

static void close_large(struct berth_pool *pool, char *memory)
{
	must(berth_unmap(pool, memory, LARGE));
	pool_close(pool);
}

/* What the child doesn't want any more, or has replaced, is no matter. */
static void a_child_may_give_memory_up(void **state)
{
	char *memory;
	struct berth_pool *pool = large_pool(&memory);
	pid_t pid = fork_child();

	(void)state;
	if (pid == 0) {
		char *gone = memory + LARGE - 8 * MIB, *anew = memory + LARGE - 4 * MIB;
		const size_t first = (LARGE - 16 * MIB) / 8; /* word of what is given up */
		const uint64_t *words = (const uint64_t *)(void *)memory;

		child_check(munmap(gone, 2 * MIB) == 0);
		child_check(mmap(anew, 2 * MIB, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
		child_check(is_zero(anew, 2 * MIB));
		child_check(madvise(memory + LARGE - 16 * MIB, 2 * MIB, MADV_DONTNEED) == 0);
		for (size_t i = first; i < first + 2 * MIB / 8;
		     i++) /* nothing, or what comes yet */
			child_check(words[i] == 0 || words[i] == pattern_word(1, i));
		child_check(pattern_differs(memory, 32 * MIB, 1) == 32 * MIB / 8);
		_exit(0);
	}
	child_ends_well(pid);
	pattern_ok(memory, LARGE, 1);
	close_large(pool, memory);
}

/* The parent's calls go on meanwhile, and the child has the moment of the fork all the same. */
static void a_parent_uses_its_pool_while_it_pushes(void **state)
{
	char *memory, *more;
	struct berth_pool *pool = large_pool(&memory);
	struct talk talk = talk_open();
	struct berth_buffer buffer;
	uint64_t cursor = 0;
	pid_t pid = fork_child();

	(void)state;
	if (pid == 0) {
		await(talk.to_child);
		child_check(pattern_differs(memory, LARGE, 1) == LARGE / 8);
		_exit(0);
	}
	pattern_fill(memory + LARGE - 4 * MIB, 4 * MIB, 2);
	for (unsigned i = 0; i < LARGE / (2 * MIB); i++)
		assert_true(berth_shuffle(pool, &cursor) >= 0);
	must(berth_claim(pool, NULL, 16 * MIB, NULL, &buffer, NULL));
	memset(buffer.address, 0xee, buffer.bytes);
	more = pool_map(pool, 4 * MIB);
	must(berth_unmap(pool, more, 4 * MIB));
	pattern_ok(memory, LARGE - 4 * MIB, 1);
	must(berth_unmap(pool, memory, LARGE));
	must(berth_release(pool, &buffer));
	tell(talk.to_child);
	child_ends_well(pid);
	talk_close(&talk);
	assert_true(berth_pool_check(pool, NULL));
	pool_close(pool);
}

/* A child that dies at any moment, or becomes another program, costs nothing. */
static void children_may_die_early(void **state)
{
	char *memory;
	struct berth_pool *pool = large_pool(&memory);
	uint64_t seed = 1;

	(void)state;
	for (unsigned i = 0; i < 30; i++) {
		pid_t pid = fork_child();

		if (pid == 0) {
			pattern_differs(memory, test_random_below(&seed, LARGE / 8 / MIB) * MIB, 1);
			if (i % 3 == 0)
				execl("/bin/true", "true", (char *)NULL);
			_exit(0);
		}
		if (i % 3 == 1)
			kill(pid, SIGKILL);
		memory[i * MIB]++;
		(void)child_wait(pid);
		memory[i * MIB]--;
		test_random_below(&seed, 2);
	}
	berth__pusher_settle();
	pattern_ok(memory, LARGE, 1);
	close_large(pool, memory);
}

/* A parent that is killed takes the child along: it would have holes. One that ends well waits. */
static void nobody_lives_with_holes(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 12; round++) {
		int result[2];
		char byte = 0;
		ssize_t got;
		pid_t parent;

		assert_int_equal(pipe(result), 0);
		parent = fork_child();
		if (parent == 0) {
			char *memory;
			pid_t child;

			push_from_now_on();
			large_pool(&memory);
			child = fork();
			if (child == 0) {
				close(result[0]);
				child_check(pattern_differs(memory, LARGE, 1) == LARGE / 8);
				child_check(write(result[1], "g", 1) == 1);
				_exit(0);
			}
			if (round % 2)
				kill(getpid(), SIGKILL);
			berth__pusher_settle();
			_exit(0);
		}
		close(result[1]);
		(void)child_wait(parent);
		got = read(result[0], &byte, 1); /* ends when the child has */
		assert_true(got == 1 || (round % 2 && got == 0));
		close(result[0]);
	}
}

/* Open descriptors; each number of ours is one of them. */
static unsigned count_descriptors(void)
{
	unsigned nr = 0;

	for (int fd = 0; fd < 2048; fd++) {
		bool open = fcntl(fd, F_GETFD) >= 0;

		child_check(open || !berth__fd_in_table(fd));
		nr += open;
	}
	return nr;
}

/* Neither side keeps one, nor takes a closed one for its own, whatever becomes of the child. */
static void a_push_leaves_no_descriptor(void **state)
{
	char *memory;
	struct berth_pool *pool = large_pool(&memory);
	unsigned before = count_descriptors();

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		pid_t pid = fork_child();

		if (pid == 0) {
			if (i % 3 == 1)
				execl("/bin/true", "true", (char *)NULL);
			if (i % 3 == 2)
				_exit(0);
			berth__pusher_settle();
			child_check(count_descriptors() < before); /* the pool's are the parent's */
			_exit(0);
		}
		child_ends_well(pid);
		berth__pusher_settle();
		assert_int_equal(count_descriptors(), before);
	}
	close_large(pool, memory);
}

/* A file over memory that is still to come: the rest of it is released all the same when all has come. */
static void a_child_may_map_files_there(void **state)
{
	char *memory;
	struct berth_pool *pool = large_pool(&memory);
	pid_t pid = fork_child();

	(void)state;
	if (pid == 0) {
		int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
		char *place = memory + LARGE - 4 * MIB;

		child_check(mmap(place, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == place);
		child_check(memcmp(place, "\177ELF", 4) == 0);
		child_check(pattern_differs(memory, LARGE - 4 * MIB, 1) == LARGE / 8 - 4 * MIB / 8);
		/* Nobody is there to answer for what is missing from here on: it must just be zero. */
		berth__pusher_settle();
		child_check(madvise(memory, 8 * MIB, MADV_DONTNEED) == 0);
		child_check(memory[4 * MIB] == 0);
		_exit(0);
	}
	child_ends_well(pid);
	close_large(pool, memory);
}

/* What a child gives up is zero at once, even while its neighbours are still to come. */
static void given_up_pages_are_answered_at_once(void **state)
{
	char *memory;
	struct berth_pool *pool = large_pool(&memory);

	(void)state;
	for (unsigned round = 0; round < 5; round++) {
		pid_t pid = fork_child();

		if (pid == 0) {
			for (size_t at = LARGE; at >= 2 * MIB; at -= 64 * KIB) {
				char *page = memory + at - 64 * KIB + round * 4096;

				(void)*(volatile char *)page;
				child_check(madvise(page, 4096, MADV_DONTNEED) == 0);
				child_check(page[0] == 0 && page[4095] == 0);
			}
			_exit(0);
		}
		child_ends_well(pid);
	}
	close_large(pool, memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_child_may_give_memory_up),
		cmocka_unit_test(a_parent_uses_its_pool_while_it_pushes),
		cmocka_unit_test(children_may_die_early),
		cmocka_unit_test(nobody_lives_with_holes),
		cmocka_unit_test(a_push_leaves_no_descriptor),
		cmocka_unit_test(a_child_may_map_files_there),
		cmocka_unit_test(given_up_pages_are_answered_at_once),
	};

	push_from_now_on();
	return cmocka_run_group_tests_name("fork of large pools", tests, NULL, NULL);
}
