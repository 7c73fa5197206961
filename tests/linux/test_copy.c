/* SPDX-License-Identifier: MIT */
/*
 * What a mover asks of the machine beside mappings: copying past the caches, and CPUs that don't sleep.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "port/linux/copy.h"
#include "port/linux/fd.h"
#include "port/linux/latency.h"
#include "tests/include/testing.h"

#define PAGE 4096u

/* ---- Copying ------------------------------------------------------------------------------------------ */

/* Random bytes to copy, and room for them. */
struct buffers {
	unsigned char *src, *dst;
};

static struct buffers make_buffers(size_t bytes)
{
	struct buffers buffers = { aligned_alloc(PAGE, bytes), aligned_alloc(PAGE, bytes) };
	uint64_t seed = 7;

	assert_non_null(buffers.src);
	assert_non_null(buffers.dst);
	for (size_t i = 0; i < bytes; i++)
		buffers.src[i] = (unsigned char)test_random(&seed);
	return buffers;
}

static void free_buffers(struct buffers *buffers)
{
	free(buffers->src);
	free(buffers->dst);
}

/* Runs of every size that is copied in one way or the other, and nothing before or behind them. */
static void a_copy_is_whole_and_no_more(void **state)
{
	static const size_t pages[] = { 1, 2, 15, 16, 17, 33, 512, 700 };
	const size_t most = 702 * PAGE;
	struct buffers buffers = make_buffers(most);
	unsigned char *src = buffers.src, *dst = buffers.dst;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		const size_t bytes = pages[i] * PAGE;

		memset(dst, 0x5a, most);
		berth_copy(dst + PAGE, src + PAGE, bytes);
		assert_memory_equal(dst + PAGE, src + PAGE, bytes);
		for (size_t at = 0; at < PAGE; at++) {
			assert_int_equal(dst[at], 0x5a);
			assert_int_equal(dst[PAGE + bytes + at], 0x5a);
		}
	}
	free_buffers(&buffers);
}

static void pages_are_copied_from_and_to_everywhere(void **state)
{
	const size_t most = 4 * BERTH_COPY_PAGES * PAGE;
	struct buffers buffers = make_buffers(most);
	unsigned char *src = buffers.src, *dst = buffers.dst;

	(void)state;
	for (unsigned nr = 1; nr <= BERTH_COPY_PAGES; nr++) {
		const void *from[BERTH_COPY_PAGES];
		void *to[BERTH_COPY_PAGES];

		memset(dst, 0x5a, most);
		for (unsigned i = 0; i < nr; i++) {
			from[i] = src + (size_t)(4 * i + 1) * PAGE;
			to[i] = dst + (size_t)(4 * (nr - i) - 2) * PAGE;
		}
		berth_copy_pages(to, from, nr);
		for (unsigned page = 0; page < 4 * BERTH_COPY_PAGES; page++) {
			const unsigned char *at = dst + (size_t)page * PAGE;

			if (page % 4 == 2 && page / 4 < nr)
				assert_memory_equal(at, from[nr - page / 4 - 1], PAGE);
			else
				assert_true(at[0] == 0x5a && !memcmp(at, at + 1, PAGE - 1));
		}
	}
	free_buffers(&buffers);
}

/* ---- CPUs that don't sleep ------------------------------------------------------------------------------ */

#define PATH "/dev/cpu_dma_latency"

/* What all processes together ask for, in us. */
static int32_t latency_now(void)
{
	int fd = open(PATH, O_RDONLY | O_CLOEXEC);
	int32_t us = -1;

	assert_true(fd >= 0);
	assert_int_equal(read(fd, &us, sizeof(us)), sizeof(us));
	close(fd);
	return us;
}

/* Other processes may ask for the same for a while. */
static void wait_until_cpus_may_sleep(void)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	for (int i = 0; latency_now() == 0; i++) {
		assert_true(i < 60000);
		nanosleep(&pause, NULL);
	}
}

static void open_or_skip(struct berth_latency *latency)
{
	berth_latency_open(latency);
	if (latency->fd >= 0)
		return;
	assert_int_not_equal(access(PATH, W_OK), 0);
	skip();
}

static void cpus_stay_awake_until_they_need_not(void **state)
{
	struct berth_latency latency;

	(void)state;
	open_or_skip(&latency);
	assert_true(berth__fd_is_ours(latency.fd));
	for (int i = 0; i < 3; i++) {
		berth_latency_request(&latency, true);
		assert_int_equal(latency_now(), 0);
		berth_latency_request(&latency, false);
		wait_until_cpus_may_sleep();
	}
	berth_latency_request(&latency, true);
	berth_latency_close(&latency);
	assert_int_equal(latency.fd, -1);
	wait_until_cpus_may_sleep();
	berth_latency_request(&latency, true); /* closed: nothing to ask */
	berth_latency_close(&latency);
	wait_until_cpus_may_sleep();
}

/* A process that dies in the middle of a move leaves nothing behind. */
static void a_request_ends_with_its_process(void **state)
{
	struct berth_latency latency;
	pid_t child;

	(void)state;
	open_or_skip(&latency);
	berth_latency_close(&latency);
	child = fork();
	if (child == 0) {
		berth_latency_open(&latency);
		berth_latency_request(&latency, true);
		raise(SIGKILL);
	}
	assert_true(child > 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	wait_until_cpus_may_sleep();
}

/* The program closes all numbers by a system call, and gets ours for a file of its own. */
static void a_number_that_is_the_programs_now_is_left_alone(void **state)
{
	struct berth_latency latency;
	FILE *file = tmpfile();
	int number;

	(void)state;
	assert_non_null(file);
	open_or_skip(&latency);
	number = latency.fd;
	assert_int_equal(dup2(fileno(file), number), number);
	berth_latency_request(&latency, true);
	assert_int_equal(latency.fd, -1);
	assert_false(berth__fd_is_ours(number));
	assert_int_equal(lseek(number, 0, SEEK_END), 0);
	close(number);
	fclose(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_copy_is_whole_and_no_more),
		cmocka_unit_test(pages_are_copied_from_and_to_everywhere),
		cmocka_unit_test(cpus_stay_awake_until_they_need_not),
		cmocka_unit_test(a_request_ends_with_its_process),
		cmocka_unit_test(a_number_that_is_the_programs_now_is_left_alone),
	};

	return cmocka_run_group_tests_name("copying, CPUs kept awake", tests, NULL, NULL);
}
