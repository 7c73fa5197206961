/* SPDX-License-Identifier: MIT */
/*
 * Threads that help to copy: every byte is copied once, whoever takes which part.
 */
#define _GNU_SOURCE
#include "port/linux/copiers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/include/testing.h"

#define MIB ((size_t)1 << 20)
#define MOST (5 * MIB)

static int start_thread(void *(*body)(void *), void *arg, pthread_t *thread)
{
	return pthread_create(thread, NULL, body, arg) ? -ENOMEM : 0;
}

/* The third thread isn't to be had. */
static unsigned started;
static int start_two(void *(*body)(void *), void *arg, pthread_t *thread)
{
	return started++ < 2 ? start_thread(body, arg, thread) : -ENOMEM;
}

struct memory {
	unsigned char *src, *dst;
};

static struct memory memory_open(void)
{
	struct memory memory = { malloc(MOST), malloc(MOST + 64) };

	assert_true(memory.src && memory.dst);
	for (size_t i = 0; i < MOST; i++)
		memory.src[i] = (unsigned char)(i * 31 + (i >> 12) * 7);
	return memory;
}

static void copy_and_look(struct berth_copiers *copiers, const struct memory *memory, size_t from,
			  size_t bytes)
{
	memset(memory->dst, 0xee, MOST + 64);
	berth_copiers_copy(copiers, memory->dst, memory->src + from, bytes);
	assert_memory_equal(memory->dst, memory->src + from, bytes);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(memory->dst[bytes + i], 0xee);
}

static void all_bytes_arrive_and_no_others(void **state)
{
	static struct berth_copiers copiers;
	struct memory memory = memory_open();

	(void)state;
	for (unsigned nr = 0; nr <= 3; nr++) {
		assert_int_equal(berth_copiers_start(&copiers, nr, start_thread), 0);
		copy_and_look(&copiers, &memory, 0, 1);
		copy_and_look(&copiers, &memory, 3, BERTH_COPIERS_LEAST - 1);
		copy_and_look(&copiers, &memory, 0, BERTH_COPIERS_LEAST);
		copy_and_look(&copiers, &memory, 1, BERTH_COPIERS_LEAST + 1);
		copy_and_look(&copiers, &memory, 0, MOST);
		berth_copiers_stop(&copiers);
		copy_and_look(&copiers, &memory, 0, MOST); /* alone, as before */
	}
	free(memory.src);
	free(memory.dst);
}

/* Jobs that follow each other at once, so that copiers still look at the one before. */
static void many_jobs_in_a_row(void **state)
{
	static struct berth_copiers copiers;
	struct memory memory = memory_open();

	(void)state;
	assert_int_equal(berth_copiers_start(&copiers, 2, start_thread), 0);
	memset(memory.dst, 0, MOST);
	for (unsigned i = 0; i < 200; i++) {
		size_t from = i % 7 * 4099;

		memory.src[from + i] ^= 0xff;
		berth_copiers_copy(&copiers, memory.dst, memory.src + from,
				   BERTH_COPIERS_LEAST + i);
		if (memcmp(memory.dst, memory.src + from, BERTH_COPIERS_LEAST + i) != 0)
			fail_msg("job %u", i);
	}
	berth_copiers_stop(&copiers);
	free(memory.src);
	free(memory.dst);
}

static void all_or_none_are_started(void **state)
{
	static struct berth_copiers copiers;

	(void)state;
	assert_int_equal(berth_copiers_start(&copiers, 3, start_two), -ENOMEM);
	assert_int_equal(copiers.nr, 0);
	assert_int_equal(started, 3);
	assert_int_equal(berth_copiers_start(&copiers, 1, start_thread), 0);
	assert_int_equal(copiers.nr, 1);
	berth_copiers_stop(&copiers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_bytes_arrive_and_no_others),
		cmocka_unit_test(many_jobs_in_a_row),
		cmocka_unit_test(all_or_none_are_started),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
