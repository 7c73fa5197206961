/* SPDX-License-Identifier: MIT */
/*
 * The pool's memory: sizes, seals, when it is resident, and what the system can refuse.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <sys/stat.h>

#include "port/linux/pool.h"
#include "tests/include/testpool.h"

/* Bytes that the system has given to the file. */
static size_t resident_bytes(const struct berth_memory *memory)
{
	struct stat file;

	assert_int_equal(fstat(memory->fd, &file), 0);
	return (size_t)file.st_blocks * 512;
}

static void only_whole_huge_pages(void **state)
{
	static const size_t bad[] = { 0, 1, 4096, 2 * MIB - 4096, 2 * MIB + 1, 3 * MIB };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct berth_memory memory = { .fd = -5 };

		assert_int_equal(berth_memory_open(&memory, bad[i]), -BERTH_EINVAL);
		assert_int_equal(memory.fd, -5);
	}
}

static void a_memory_is_one_file_and_one_mapping(void **state)
{
	struct berth_memory memory;
	struct rlimit descriptors;
	uint64_t word = 0;

	(void)state;
	must(berth_memory_open(&memory, 16 * MIB));
	assert_int_equal(memory.bytes, 16 * MIB);
	assert_int_equal((uintptr_t)memory.linear % BERTH_HUGE_BYTES, 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &descriptors), 0);
	if (descriptors.rlim_cur > 910) /* out of the program's way */
		assert_true(memory.fd >= 900);
	assert_int_equal(fcntl(memory.fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(resident_bytes(&memory), 0);
	for (berth_pfn_t pfn = 0; pfn < 4096; pfn += 333) {
		char *at = berth_memory_at(&memory, pfn);

		assert_ptr_equal(at, memory.linear + pfn * 4096);
		*(uint64_t *)(void *)at = pfn + 1;
		assert_int_equal(pread(memory.fd, &word, 8, (off_t)pfn * 4096), 8);
		assert_int_equal(word, pfn + 1);
	}
	berth_memory_close(&memory);
	assert_int_equal(memory.fd, -1);
	assert_null(memory.linear);
	berth_memory_close(&memory); /* nothing more to close */
}

static void nobody_can_change_the_size(void **state)
{
	struct berth_memory memory;
	char path[64];

	(void)state;
	must(berth_memory_open(&memory, 4 * MIB));
	pattern_fill(memory.linear, 4 * MIB, 1);
	assert_int_equal(ftruncate(memory.fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(memory.fd, 8 * MIB), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(memory.fd, 4 * MIB - 4096), -1);
	assert_int_equal(pwrite(memory.fd, "x", 1, 4 * MIB), -1); /* would make it longer */
	assert_int_equal(fcntl(memory.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(errno, EPERM);
	/* What `echo > /dev/fd/N` does. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memory.fd);
	assert_int_equal(open(path, O_WRONLY | O_TRUNC | O_CLOEXEC), -1);
	pattern_ok(memory.linear, 4 * MIB, 1);
	berth_memory_close(&memory);
}

static void populating_makes_resident_once(void **state)
{
	struct berth_memory memory;

	(void)state;
	must(berth_memory_open(&memory, 16 * MIB));
	must(berth_memory_populate(&memory, 4 * MIB, 4 * MIB));
	assert_int_equal(resident_bytes(&memory), 4 * MIB);
	pattern_fill(memory.linear + 4 * MIB, 4 * MIB, 2);
	must(berth_memory_populate(&memory, 4 * MIB, 4 * MIB));
	/* Parts of huge pages: the whole of each. */
	must(berth_memory_populate(&memory, 8 * MIB - 4096, 8192));
	assert_int_equal(resident_bytes(&memory), 6 * MIB);
	must(berth_memory_populate(&memory, 0, 1));
	assert_int_equal(resident_bytes(&memory), 8 * MIB);
	must(berth_memory_populate(&memory, 0, 16 * MIB));
	assert_int_equal(resident_bytes(&memory), 16 * MIB);
	pattern_ok(memory.linear + 4 * MIB, 4 * MIB, 2);
	assert_true(is_zero(memory.linear + 8 * MIB, 8 * MIB));
	berth_memory_close(&memory);
}

static void *populate_all(void *argument)
{
	struct berth_memory *memory = argument;

	return (void *)(intptr_t)berth_memory_populate(memory, 0, memory->bytes);
}

static void threads_populate_together(void **state)
{
	struct berth_memory memory;
	pthread_t threads[4];

	(void)state;
	must(berth_memory_open(&memory, 64 * MIB));
	pattern_fill(memory.linear, 4 * MIB, 3);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, populate_all, &memory), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		void *error;

		assert_int_equal(pthread_join(threads[i], &error), 0);
		assert_null(error);
	}
	assert_int_equal(resident_bytes(&memory), 64 * MIB);
	pattern_ok(memory.linear, 4 * MIB, 3);
	berth_memory_close(&memory);
}

/* ---- What the system can refuse ------------------------------------------------------------------ */

static void refused(void *argument)
{
	struct berth_memory memory;
	const int *expected = argument;

	child_check(berth_memory_open(&memory, 16 * MIB) == *expected);
}

static void refuse_memory_files(void *argument)
{
	const int *expected = argument;

	refuse_syscall(SYS_memfd_create, *expected == -BERTH_EPERM  ? EPERM :
					 *expected == -BERTH_ENOSYS ? ENOSYS :
								      ENFILE);
	refused(argument);
}

static void memory_files_can_be_refused(void **state)
{
	int errors[] = { -BERTH_EPERM, -BERTH_ENOSYS, -BERTH_ENOMEM };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		in_child(refuse_memory_files, &errors[i]);
}

static void limit_files(void *argument)
{
	const struct rlimit small = { 8 * MIB, 8 * MIB };
	struct berth_memory memory;

	(void)argument;
	child_check(setrlimit(RLIMIT_FSIZE, &small) == 0);
	child_check(berth_memory_open(&memory, 16 * MIB) == -BERTH_EPERM);
	child_check(berth_memory_open(&memory, 8 * MIB) == 0);
	child_check(berth_memory_populate(&memory, 0, 8 * MIB) == 0);
}

/* Growing a file past the limit would be a deadly signal. */
static void a_limit_of_file_sizes_is_an_error(void **state)
{
	(void)state;
	in_child(limit_files, NULL);
}

static unsigned count_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned n = 0;

	child_check(directory != NULL);
	while (readdir(directory))
		n++;
	closedir(directory);
	return n;
}

static size_t address_space_bytes(void)
{
	unsigned long pages = 0;
	FILE *statm = fopen("/proc/self/statm", "r");

	child_check(statm && fscanf(statm, "%lu", &pages) == 1);
	fclose(statm);
	return pages * 4096;
}

static void limit_addresses(void *argument)
{
	size_t before = address_space_bytes();
	unsigned descriptors = count_descriptors(), failures = 0;
	struct berth_memory memory;
	int error = 0;

	(void)argument;
	/* Wherever it runs out of addresses, nothing stays behind. */
	for (size_t room = 1 * MIB; room < 40 * MIB; room += 256 * KIB) {
		const struct rlimit limit = { before + room, RLIM_INFINITY };

		child_check(setrlimit(RLIMIT_AS, &limit) == 0);
		error = berth_memory_open(&memory, 32 * MIB);
		if (error) {
			child_check(error == -BERTH_ENOMEM);
			failures++;
		} else {
			berth_memory_close(&memory);
		}
		child_check(address_space_bytes() == before);
	}
	child_check(error == 0 && failures > 0);
	child_check(count_descriptors() == descriptors);
}

static void a_limit_of_addresses_is_an_error(void **state)
{
	(void)state;
	if (TEST_SANITIZED) {
		print_message("# SKIP: a sanitizer needs all addresses itself\n");
		skip();
	}
	in_child(limit_addresses, NULL);
}

static void limit_descriptors(void *argument)
{
	const struct rlimit few = { 100, 100 }, none = { 3, 100 };
	struct berth_memory memory;

	(void)argument;
	child_check(setrlimit(RLIMIT_NOFILE, &few) == 0);
	child_check(berth_memory_open(&memory, 2 * MIB) == 0 && memory.fd < 100);
	berth_memory_close(&memory);
	child_check(setrlimit(RLIMIT_NOFILE, &none) == 0);
	for (int fd = 3; fd < 100; fd++)
		close(fd);
	child_check(berth_memory_open(&memory, 2 * MIB) == -BERTH_ENOMEM);
}

static void descriptors_can_be_few(void **state)
{
	(void)state;
	in_child(limit_descriptors, NULL);
}

#define MADV_POPULATE_WRITE_NUMBER 23
#define MADV_COLLAPSE_NUMBER 25

static void refuse_memory(void *argument)
{
	struct berth_memory memory;

	(void)argument;
	child_check(berth_memory_open(&memory, 8 * MIB) == 0);
	child_check(berth_memory_populate(&memory, 0, 2 * MIB) == 0);
	refuse_syscall_with(SYS_madvise, 2, MADV_POPULATE_WRITE_NUMBER, ENOMEM);
	child_check(berth_memory_populate(&memory, 2 * MIB, 4 * MIB) == -BERTH_ENOMEM);
	/* What is there needs nothing. */
	child_check(berth_memory_populate(&memory, 0, 2 * MIB) == 0);
}

static void a_system_without_memory_is_an_error(void **state)
{
	(void)state;
	in_child(refuse_memory, NULL);
}

static void refuse_huge_pages(void *argument)
{
	struct berth_memory memory;

	(void)argument;
	refuse_syscall_with(SYS_madvise, 2, MADV_COLLAPSE_NUMBER, EINVAL);
	child_check(berth_memory_open(&memory, 8 * MIB) == 0);
	child_check(berth_memory_populate(&memory, 0, 8 * MIB) == 0);
	child_check(resident_bytes(&memory) == 8 * MIB);
	child_check(!memory.huge);
	child_check(is_zero(memory.linear, 8 * MIB));
}

static void a_kernel_without_huge_pages_will_do(void **state)
{
	(void)state;
	in_child(refuse_huge_pages, NULL);
}

static void be_too_old(void *argument)
{
	struct berth_memory memory;

	(void)argument;
	refuse_syscall_with(SYS_madvise, 2, MADV_POPULATE_WRITE_NUMBER, EINVAL);
	child_check(berth_memory_open(&memory, 8 * MIB) == 0);
	child_check(berth_memory_populate(&memory, 0, 8 * MIB) == -BERTH_ENOSYS);
}

static void a_kernel_that_is_too_old_is_an_error(void **state)
{
	(void)state;
	in_child(be_too_old, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_whole_huge_pages),
		cmocka_unit_test(a_memory_is_one_file_and_one_mapping),
		cmocka_unit_test(nobody_can_change_the_size),
		cmocka_unit_test(populating_makes_resident_once),
		cmocka_unit_test(threads_populate_together),
		cmocka_unit_test(memory_files_can_be_refused),
		cmocka_unit_test(a_limit_of_file_sizes_is_an_error),
		cmocka_unit_test(a_limit_of_addresses_is_an_error),
		cmocka_unit_test(descriptors_can_be_few),
		cmocka_unit_test(a_system_without_memory_is_an_error),
		cmocka_unit_test(a_kernel_without_huge_pages_will_do),
		cmocka_unit_test(a_kernel_that_is_too_old_is_an_error),
	};

	return cmocka_run_group_tests_name("pool memory", tests, NULL, NULL);
}
