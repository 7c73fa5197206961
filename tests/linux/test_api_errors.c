/* SPDX-License-Identifier: MIT */
/*
 * Every error that berth.h documents: what is answered, and that nothing has changed.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <sys/ioctl.h>

#include <linux/userfaultfd.h>

#include "tests/include/testpool.h"

#define AREA_BYTES (8 * MIB)

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/* ---- Opening: bad parameters -------------------------------------------------------------------- */

static void open_refused(int error, const struct berth_pool_params *params)
{
	struct berth_pool *pool = (struct berth_pool *)(uintptr_t)8;

	assert_int_equal(berth_pool_open(params, &pool), error);
	assert_int_equal((uintptr_t)pool, 8);
}

static void bad_pools_are_refused(void **state)
{
	static const struct berth_area_params area = { "a", 2 * MIB, BERTH_LEND_FIRST };
	const struct berth_pool_params bad[] = {
		{ 0 },
		{ .bytes = 0, .areas = &area, .nr_areas = 0 },
		{ .bytes = 1 * MIB, .areas = NULL, .nr_areas = 1 },
		{ .areas = &area, .nr_areas = 17 },
		{ .areas = &area, .nr_areas = UINT32_MAX },
		{ .areas = &area, .nr_areas = 1, .flags = 1u << 7 },
		{ .areas = &area, .nr_areas = 1, .mover = "magic" },
		{ .areas = &area, .nr_areas = 1, .mover = "mprotect " },
		{ .bytes = SIZE_MAX },
		{ .bytes = SIZE_MAX - 2 * MIB },
		{ .bytes = (size_t)1 << 63, .areas = &area, .nr_areas = 1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		open_refused(-BERTH_EINVAL, &bad[i]);
	open_refused(-BERTH_EINVAL, NULL);
	assert_int_equal(berth_pool_open(&(struct berth_pool_params){ .bytes = 2 * MIB }, NULL),
			 -BERTH_EINVAL);
}

static void bad_areas_are_refused(void **state)
{
	const struct berth_area_params bad[][2] = {
		{ { NULL, 2 * MIB, BERTH_LEND_FIRST } },
		{ { "", 2 * MIB, BERTH_LEND_FIRST } },
		{ { "0123456789012345678901234567890x", 2 * MIB, BERTH_LEND_FIRST } },
		{ { "a", 0, BERTH_LEND_FIRST } },
		{ { "a", SIZE_MAX, BERTH_LEND_FIRST } },
		{ { "a", SIZE_MAX - MIB, BERTH_LEND_FIRST } },
		{ { "a", 2 * MIB, (enum berth_lend_policy)(BERTH_LEND_OFF + 1) } },
		{ { "a", 2 * MIB, (enum berth_lend_policy) - 1 } },
		{ { "a", 2 * MIB, BERTH_LEND_FIRST }, { "a", 2 * MIB, BERTH_LEND_OFF } },
		{ { "a", (size_t)1 << 63, BERTH_LEND_FIRST },
		  { "b", (size_t)1 << 63, BERTH_LEND_OFF } },
		{ { "a", 2 * MIB, BERTH_LEND_FIRST }, { "b", 2 * MIB + 1, BERTH_LEND_FIRST } },
	};
	struct berth_pool_params params = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		params.areas = bad[i];
		params.nr_areas = bad[i][1].name ? 2 : 1;
		/* The last one: good areas, but the pool is smaller. */
		params.bytes = i + 1 == ARRAY_SIZE(bad) ? 4 * MIB : 0;
		open_refused(-BERTH_EINVAL, &params);
	}
}

static void pools_run_out(void **state)
{
	const struct berth_pool_params params = { .bytes = 2 * MIB };
	struct berth_pool *pools[200];
	unsigned nr = 0;
	int error = 0;

	(void)state;
	while (nr < ARRAY_SIZE(pools) && (error = berth_pool_open(&params, &pools[nr])) == 0)
		nr++;
	assert_int_equal(error, -BERTH_ENOSPC);
	assert_int_equal(nr, 64);
	must(berth_pool_close(pools[--nr]));
	must(berth_pool_open(&params, &pools[nr++]));
	while (nr)
		must(berth_pool_close(pools[--nr]));
}

/* ---- Opening: the system refuses ------------------------------------------------------------------ */

/* In a child: opening answers this, without filling the memory first. */
static void check_open(const struct berth_pool_params *params, int error)
{
	struct berth_pool *pool;

	alarm(10);
	child_check(berth_pool_open(params, &pool) == error);
}

/* If nobody stops it, the kernel shall choose this process first. */
static void be_the_first_victim(void)
{
	FILE *file = fopen("/proc/self/oom_score_adj", "w");

	if (file) {
		fputs("1000", file);
		fclose(file);
	}
	alarm(2); /* it can't fill much in that time */
}

static void want_an_absurd_pool(void *argument)
{
	const struct berth_pool_params params = { .bytes = (size_t)1 << 43 };
	struct berth_pool *pool;

	(void)argument;
	be_the_first_victim();
	child_check(berth_pool_open(&params, &pool) == -BERTH_ENOMEM);
}

static void want_an_absurd_area(void *argument)
{
	const struct berth_area_params area = { "a", (size_t)1 << 41, BERTH_LEND_FIRST };
	const struct berth_pool_params params = { .areas = &area, .nr_areas = 1 };
	struct berth_pool *pool;

	(void)argument;
	be_the_first_victim();
	child_check(berth_pool_open(&params, &pool) == -BERTH_ENOMEM);
}

static void more_memory_than_there_is_is_refused(void **state)
{
	(void)state;
	in_child(want_an_absurd_pool, NULL);
	in_child(want_an_absurd_area, NULL);
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
	const struct berth_area_params area = { "a", AREA_BYTES, BERTH_LEND_FIRST };
	const struct berth_pool_params params = { .areas = &area, .nr_areas = 1 };
	struct berth_pool *pool = NULL;
	unsigned failures = 0;
	size_t before;
	int error = 0;

	(void)argument;
	child_check(berth_pool_open(&params, &pool) == 0); /* what is set up once */
	child_check(berth_pool_close(pool) == 0);
	before = address_space_bytes();
	/* Wherever it runs out of addresses, nothing stays behind. */
	for (size_t room = 0; room < 64 * MIB; room += 192 * KIB) {
		const struct rlimit limit = { before + room, RLIM_INFINITY };

		child_check(setrlimit(RLIMIT_AS, &limit) == 0);
		error = berth_pool_open(&params, &pool);
		if (error) {
			child_check(error == -BERTH_ENOMEM);
			failures++;
		} else { /* with fewer addresses, but it works */
			void *memory;

			child_check(berth_map(pool, 4 * MIB, 0, &memory) == 0);
			memset(memory, 1, 4 * MIB);
			child_check(berth_unmap(pool, memory, 4 * MIB) == 0);
			child_check(berth_pool_close(pool) == 0);
		}
		child_check(address_space_bytes() <= before + 64 * KIB); /* malloc's, for stdio */
	}
	child_check(error == 0 && failures > 10);
}

static void a_limit_of_addresses_leaves_nothing_behind(void **state)
{
	(void)state;
	if (TEST_SANITIZED) {
		print_message("# SKIP: a sanitizer needs all addresses itself\n");
		skip();
	}
	in_child(limit_addresses, NULL);
}

static const struct berth_pool_params small_pool = { .bytes = 4 * MIB };

static void refuse_memory_files(void *argument)
{
	refuse_syscall(SYS_memfd_create, *(int *)argument);
	check_open(&small_pool, -*(int *)argument);
}

static void memory_files_can_be_refused(void **state)
{
	int errors[] = { EPERM, ENOSYS };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		in_child(refuse_memory_files, &errors[i]);
}

static void limit_files(void *argument)
{
	const struct rlimit small = { 2 * MIB, 2 * MIB };

	(void)argument;
	child_check(setrlimit(RLIMIT_FSIZE, &small) == 0);
	check_open(&small_pool, -BERTH_EPERM);
}

static void a_limit_of_file_sizes_is_an_error(void **state)
{
	(void)state;
	in_child(limit_files, NULL);
}

/* Memory of such a pool really moves. */
static void check_moving(struct berth_pool *pool)
{
	char *memory;
	uint64_t cursor = 0;
	struct berth_pool_stats stats;

	child_check(berth_map(pool, 1 * MIB, 0, (void **)&memory) == 0);
	pattern_fill(memory, 1 * MIB, 3);
	for (unsigned i = 0; i < 8; i++)
		child_check(berth_shuffle(pool, &cursor) >= 0);
	child_check(pattern_differs(memory, 1 * MIB, 3) == 1 * MIB / 8);
	child_check(berth_pool_stats(pool, &stats) == 0 && stats.moved_bytes > 0);
	child_check(berth_pool_check(pool, NULL));
	child_check(berth_unmap(pool, memory, 1 * MIB) == 0);
}

static void refuse_full_userfaultfd(int error)
{
	refuse_syscall_with(SYS_userfaultfd, 0, O_CLOEXEC | O_NONBLOCK, error);
	refuse_syscall_with(SYS_ioctl, 1, USERFAULTFD_IOC_NEW, error);
}

/* Only faults of user code: it falls back, and says what is lost. */
static void fall_back_to_user_faults(void *argument)
{
	struct berth_pool_params params = small_pool;
	struct berth_pool *pool;
	struct berth_pool_stats stats;

	refuse_full_userfaultfd(*(int *)argument);
	child_check(berth_pool_open(&params, &pool) == 0);
	child_check(berth_pool_stats(pool, &stats) == 0);
	if (strcmp(stats.mover, "mprotect") == 0)
		_exit(CHILD_SKIPS); /* a kernel without that */
	child_check(strcmp(stats.mover, "userfaultfd (user mode)") == 0);
	child_check(berth_pool_notice(pool) && strstr(berth_pool_notice(pool), "EFAULT"));
	check_moving(pool);
	child_check(berth_pool_close(pool) == 0);
	params.mover = "userfaultfd";
	check_open(&params, -*(int *)argument);
	params.mover = "/dev/userfaultfd";
	/* Who may not even open it is told that. */
	check_open(&params, access(params.mover, R_OK | W_OK) ? -BERTH_EPERM : -*(int *)argument);
}

static void a_refused_userfaultfd_is_said(void **state)
{
	int errors[] = { EPERM, ENOSYS };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		in_child(fall_back_to_user_faults, &errors[i]);
}

static void fall_back_to_mprotect(void *argument)
{
	struct berth_pool_params params = small_pool;
	struct berth_pool *pool;
	struct berth_pool_stats stats;

	refuse_syscall(SYS_userfaultfd, *(int *)argument);
	refuse_syscall_with(SYS_ioctl, 1, USERFAULTFD_IOC_NEW, *(int *)argument);
	signal(SIGSEGV, SIG_DFL);
	child_check(berth_pool_open(&params, &pool) == 0);
	child_check(berth_pool_stats(pool, &stats) == 0);
	child_check(strcmp(stats.mover, "mprotect") == 0);
	child_check(berth_pool_notice(pool) && strstr(berth_pool_notice(pool), "mprotect"));
	check_moving(pool);
	child_check(berth_pool_close(pool) == 0);
	params.mover = "userfaultfd";
	check_open(&params, -*(int *)argument);
	params.mover = "userfaultfd-user";
	check_open(&params, -*(int *)argument);
}

static void a_kernel_without_userfaultfd_will_do(void **state)
{
	int errors[] = { EPERM, ENOSYS };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		in_child(fall_back_to_mprotect, &errors[i]);
}

/* A kernel before 5.19: it has userfaultfd, but not for memory files. */
static void be_too_old(void *argument)
{
	struct berth_pool_params params = small_pool;
	struct berth_pool *pool;

	(void)argument;
	refuse_syscall_with(SYS_ioctl, 1, (uint32_t)UFFDIO_API, EINVAL);
	child_check(berth_pool_open(&params, &pool) == 0);
	child_check(berth_pool_notice(pool) && strstr(berth_pool_notice(pool), "mprotect"));
	child_check(berth_pool_close(pool) == 0);
	params.mover = "userfaultfd-user";
	check_open(&params, -BERTH_ENOSYS);
}

static void an_old_userfaultfd_is_not_used(void **state)
{
	(void)state;
	in_child(be_too_old, NULL);
}

static void be_nobody(void *argument)
{
	struct berth_pool_params params = small_pool;
	struct berth_pool *pool;

	(void)argument;
	if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0))
		_exit(CHILD_SKIPS);
	child_check(berth_pool_open(&params, &pool) == 0);
	check_moving(pool);
	child_check(berth_pool_close(pool) == 0);
}

static void anybody_can_have_a_pool(void **state)
{
	(void)state;
	in_child(be_nobody, NULL);
}

static void refuse_membarrier(void *argument)
{
	struct berth_pool *pool;

	refuse_syscall(SYS_membarrier, *(int *)argument);
	child_check(berth_pool_open(&small_pool, &pool) == 0);
	child_check(berth_pool_notice(pool) == NULL ||
		    !strstr(berth_pool_notice(pool), "membarrier"));
	check_moving(pool);
	child_check(berth_pool_close(pool) == 0);
}

static void a_kernel_without_membarrier_will_do(void **state)
{
	int errors[] = { ENOSYS, EPERM };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		in_child(refuse_membarrier, &errors[i]);
}

/* ---- Claims ------------------------------------------------------------------------------------------- */

static void bad_claims_are_refused(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	struct berth_claim_report report;
	struct berth_buffer buffer;
	void *memory = pool_map(pool, 4 * MIB);
	struct {
		const char *area;
		size_t bytes;
		struct berth_claim_options options;
		int error;
	} bad[] = {
		{ "area", 0, { 0 }, -BERTH_EINVAL },
		{ "area", 4096, { .align_bytes = 3 }, -BERTH_EINVAL },
		{ "area", 4096, { .align_bytes = 12288 }, -BERTH_EINVAL },
		{ "area", 4096, { .align_bytes = SIZE_MAX }, -BERTH_EINVAL },
		{ "area", 4096, { .align_bytes = 8 * MIB }, -BERTH_EINVAL },
		{ "area", 4096, { .align_bytes = (size_t)1 << 63 }, -BERTH_EINVAL },
		{ "area", 4096, { .flags = 1u << 20 }, -BERTH_EINVAL },
		{ "area", 4096, { .flags = UINT32_MAX }, -BERTH_EINVAL },
		{ "aera", 4096, { 0 }, -BERTH_ENOENT },
		{ "", 4096, { 0 }, -BERTH_ENOENT },
		{ "area ", 4096, { 0 }, -BERTH_ENOENT },
		{ "area", AREA_BYTES + 1, { 0 }, -BERTH_E2BIG },
		{ NULL, AREA_BYTES + 1, { 0 }, -BERTH_E2BIG },
		{ "area", 16 * MIB, { 0 }, -BERTH_E2BIG },
		{ "area", SIZE_MAX, { 0 }, -BERTH_E2BIG },
		{ "area", SIZE_MAX - 4095, { 0 }, -BERTH_E2BIG },
		{ "area", SIZE_MAX - 4096, { 0 }, -BERTH_E2BIG },
		{ "area", (size_t)1 << 44, { 0 }, -BERTH_E2BIG },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(&buffer, 0x55, sizeof(buffer));
		memset(&report, 0x55, sizeof(report));
		assert_refused(pool, bad[i].error,
			       berth_claim(pool, bad[i].area, bad[i].bytes, &bad[i].options,
					   &buffer, &report));
		assert_int_equal(report.error, bad[i].error);
		assert_int_equal(buffer.bytes, 0x5555555555555555);
		/* Without a report as well. */
		assert_refused(pool, bad[i].error,
			       berth_claim(pool, bad[i].area, bad[i].bytes, &bad[i].options,
					   &buffer, NULL));
	}
	assert_refused(pool, -BERTH_EINVAL, berth_claim(pool, "area", 4096, NULL, NULL, &report));
	must(berth_unmap(pool, memory, 4 * MIB));
	pool_close(pool);
}

static void claims_need_an_area(void **state)
{
	struct berth_pool *pool;
	struct berth_buffer buffer;
	struct berth_cma_stats stats;

	(void)state;
	must(berth_pool_open(&small_pool, &pool));
	assert_refused(pool, -BERTH_ENOENT, berth_claim(pool, NULL, 4096, NULL, &buffer, NULL));
	assert_refused(pool, -BERTH_ENOENT, berth_claim(pool, "area", 4096, NULL, &buffer, NULL));
	assert_int_equal(berth_area_stats(pool, NULL, &stats), -BERTH_ENOENT);
	pool_close(pool);
}

static void a_claimed_area_says_so(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	struct berth_claim_report report;
	struct berth_buffer buffer, other;

	(void)state;
	must(berth_claim(pool, NULL, 6 * MIB, NULL, &buffer, NULL));
	assert_refused(pool, -BERTH_ENOSPC,
		       berth_claim(pool, NULL, 2 * MIB + 4096, NULL, &other, &report));
	assert_int_equal(report.largest_free_pages, 512);
	assert_int_equal(report.largest_claimable_pages, 512);
	assert_int_equal(pool_stats(pool).claims_failed, 1);
	must(berth_claim(pool, NULL, 2 * MIB, NULL, &other, &report));
	assert_refused(pool, -BERTH_ENOSPC, berth_claim(pool, NULL, 1, NULL, &other, &report));
	must(berth_release(pool, &other));
	must(berth_release(pool, &buffer));
	pool_close(pool);
}

static void a_full_pool_has_no_place_to_move_to(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	struct berth_claim_report report;
	struct berth_buffer buffer;
	char *memory = pool_map(pool, 2 * AREA_BYTES);
	void *more;

	(void)state;
	pattern_fill(memory, 2 * AREA_BYTES, 1);
	assert_refused(pool, -BERTH_ENOMEM, berth_claim(pool, NULL, 4096, NULL, &buffer, &report));
	assert_int_equal(report.error, -BERTH_ENOMEM);
	assert_refused(pool, -BERTH_ENOMEM, berth_map(pool, 1, 0, &more));
	assert_refused(pool, -BERTH_ENOMEM,
		       berth_grow(pool, memory, 2 * AREA_BYTES, 2 * AREA_BYTES + 1));
	pattern_ok(memory, 2 * AREA_BYTES, 1);
	must(berth_unmap(pool, memory, 2 * AREA_BYTES));
	/* A bit of room: the claim that needs more than that fails, and changes nothing that matters. */
	memory = pool_map(pool, 2 * AREA_BYTES - 1 * MIB);
	pattern_fill(memory, 2 * AREA_BYTES - 1 * MIB, 2);
	assert_int_equal(berth_claim(pool, NULL, 4 * MIB, NULL, &buffer, &report), -BERTH_ENOMEM);
	pool_ok(pool);
	assert_int_equal(pool_stats(pool).claimed_bytes, 0);
	assert_int_equal(pool_stats(pool).free_bytes + pool_stats(pool).used_bytes, 2 * AREA_BYTES);
	pattern_ok(memory, 2 * AREA_BYTES - 1 * MIB, 2);
	must(berth_claim(pool, NULL, 1 * MIB, NULL, &buffer, &report));
	pattern_ok(memory, 2 * AREA_BYTES - 1 * MIB, 2);
	must(berth_release(pool, &buffer));
	must(berth_unmap(pool, memory, 2 * AREA_BYTES - 1 * MIB));
	pool_close(pool);
}

static void only_what_was_claimed_is_released(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL),
			  *other = pool_open(AREA_BYTES, 0, NULL);
	struct berth_buffer good, neighbour, bad[14], elsewhere;

	(void)state;
	must(berth_claim(pool, NULL, 4 * MIB, NULL, &good, NULL));
	must(berth_claim(pool, NULL, 2 * MIB, NULL, &neighbour, NULL));
	must(berth_claim(other, NULL, 4 * MIB, NULL, &elsewhere, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = good;
	bad[0].bytes -= 4096; /* a part: the first, the last */
	bad[1].offset += 4096;
	bad[1].address = (char *)bad[1].address + 4096;
	bad[1].bytes -= 4096;
	bad[2].bytes += 4096;
	bad[3].bytes += 2 * MIB;  /* two at once */
	bad[4].offset += 2 * MIB; /* changed */
	bad[5].address = (char *)bad[5].address + 4096;
	bad[6].address = NULL;
	bad[7].area = "aera";
	bad[8].area = NULL;
	bad[9].bytes = 0;
	bad[10].bytes = SIZE_MAX & ~(size_t)4095;
	bad[11].offset += (size_t)1 << 50;
	bad[11].address = (char *)bad[11].address + ((size_t)1 << 50);
	bad[12].bytes += 1;
	bad[13].offset += 1;
	bad[13].address = (char *)bad[13].address + 1;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_refused(pool, -BERTH_EINVAL, berth_release(pool, &bad[i]));
	assert_refused(pool, -BERTH_EINVAL, berth_release(pool, NULL));
	assert_refused(pool, -BERTH_EINVAL, berth_release(pool, &(struct berth_buffer){ 0 }));
	assert_refused(pool, -BERTH_EINVAL, berth_release(pool, &elsewhere));
	assert_refused(other, -BERTH_EINVAL, berth_release(other, &good));
	must(berth_release(pool, &good));
	assert_refused(pool, -BERTH_EINVAL, berth_release(pool, &good)); /* twice */
	must(berth_release(pool, &neighbour));
	assert_refused(pool, -BERTH_EINVAL, berth_release(pool, &neighbour));
	must(berth_release(other, &elsewhere));
	pool_close(other);
	pool_close(pool);
}

/* ---- Movable memory and pins ------------------------------------------------------------------------------- */

static void bad_maps_are_refused(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	void *memory = (void *)(uintptr_t)8;

	(void)state;
	assert_refused(pool, -BERTH_EINVAL, berth_map(pool, 0, 0, &memory));
	assert_refused(pool, -BERTH_EINVAL, berth_map(pool, 4096, 1u << 9, &memory));
	assert_refused(pool, -BERTH_EINVAL, berth_map(pool, 4096, 0, NULL));
	assert_refused(pool, -BERTH_ENOMEM, berth_map(pool, 2 * AREA_BYTES + 1, 0, &memory));
	assert_refused(pool, -BERTH_ENOMEM, berth_map(pool, (size_t)1 << 60, 0, &memory));
	assert_refused(pool, -BERTH_ENOMEM, berth_map(pool, SIZE_MAX, 0, &memory));
	assert_refused(pool, -BERTH_ENOMEM, berth_map(pool, SIZE_MAX - 4095, 0, &memory));
	for (size_t run = 0; run <= 4 * MIB; run = run < 4096 ? 2 * run + 1 : 2 * run + 4096)
		if (run & (run - 1) || run < 4096 || run > 2 * MIB)
			assert_refused(pool, -BERTH_EINVAL,
				       berth_map_runs(pool, 64 * KIB, run, 0, &memory));
	assert_refused(pool, -BERTH_EINVAL, berth_map_runs(pool, 64 * KIB, SIZE_MAX, 0, &memory));
	assert_int_equal((uintptr_t)memory, 8);
	pool_close(pool);
}

static void only_what_was_mapped_is_unmapped_or_grown(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL),
			  *other = pool_open(AREA_BYTES, 0, NULL);
	char *memory = pool_map(pool, 64 * KIB), *next = pool_map(pool, 64 * KIB), here[4096];
	struct {
		void *address;
		size_t bytes;
	} bad[] = {
		{ memory, 0 },
		{ memory, 60 * KIB },
		{ memory, 68 * KIB },
		{ memory, 128 * KIB },
		{ memory + 4096, 60 * KIB },
		{ memory + 1, 64 * KIB },
		{ memory + 64 * KIB - 1, 1 },
		{ here, 4096 },
		{ NULL, 64 * KIB },
		{ memory, SIZE_MAX },
		{ memory + 1 * GIB, 4096 },
		{ (void *)UINTPTR_MAX, 4096 },
	};

	(void)state;
	pattern_fill(memory, 64 * KIB, 1);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_refused(pool, -BERTH_EINVAL,
			       berth_unmap(pool, bad[i].address, bad[i].bytes));
		if (bad[i].bytes < SIZE_MAX - MIB)
			assert_refused(pool, -BERTH_EINVAL,
				       berth_grow(pool, bad[i].address, bad[i].bytes,
						  bad[i].bytes + MIB));
	}
	assert_refused(other, -BERTH_EINVAL, berth_unmap(other, memory, 64 * KIB));
	/* Not larger; or larger than anything. */
	assert_refused(pool, -BERTH_EINVAL, berth_grow(pool, memory, 64 * KIB, 64 * KIB));
	assert_refused(pool, -BERTH_EINVAL, berth_grow(pool, memory, 64 * KIB, 4096));
	assert_refused(pool, -BERTH_EINVAL, berth_grow(pool, memory, 64 * KIB, 0));
	assert_refused(pool, -BERTH_ENOMEM, berth_grow(pool, memory, 64 * KIB, SIZE_MAX));
	assert_refused(pool, -BERTH_ENOMEM,
		       berth_grow(pool, memory, 64 * KIB, 68 * KIB)); /* next */
	assert_refused(pool, -BERTH_ENOMEM, berth_grow(pool, next, 64 * KIB, 3 * AREA_BYTES));
	pattern_ok(memory, 64 * KIB, 1);
	must(berth_unmap(pool, memory, 64 * KIB));
	assert_refused(pool, -BERTH_EINVAL, berth_unmap(pool, memory, 64 * KIB)); /* twice */
	must(berth_unmap(pool, next, 64 * KIB));
	pool_close(pool);
	pool_close(other);
}

static void regions_run_out(void **state)
{
	struct berth_pool *pool = pool_open(32 * MIB, 0, NULL);
	static void *memory[5000];
	unsigned nr = 0;
	int error = 0;

	(void)state;
	while (nr < ARRAY_SIZE(memory) && (error = berth_map(pool, 4096, 0, &memory[nr])) == 0)
		nr++;
	assert_int_equal(error, -BERTH_ENOMEM);
	assert_int_equal(nr, 4096);
	pool_ok(pool);
	while (nr)
		must(berth_unmap(pool, memory[--nr], 4096));
	pool_close(pool);
}

static void pinned_memory_is_not_unmapped(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	char *memory = pool_map(pool, 64 * KIB);
	uint64_t pin;

	(void)state;
	must(berth_pin(pool, memory + 100, 1, "x", 0, &pin));
	assert_refused(pool, -BERTH_EBUSY, berth_unmap(pool, memory, 64 * KIB));
	must(berth_unpin(pool, pin));
	must(berth_unmap(pool, memory, 64 * KIB));
	pool_close(pool);
}

static void bad_pins_are_refused(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	char *memory = pool_map(pool, 64 * KIB), here;
	uint64_t pin = 7, good;

	(void)state;
	assert_refused(pool, -BERTH_EINVAL, berth_pin(pool, memory, 0, "x", 0, &pin));
	assert_refused(pool, -BERTH_EINVAL, berth_pin(pool, memory, 1, NULL, 0, &pin));
	assert_refused(pool, -BERTH_EINVAL, berth_pin(pool, memory, 1, "x", 0, NULL));
	assert_refused(pool, -BERTH_EINVAL, berth_pin(pool, memory, 1, "x", 1u << 5, &pin));
	assert_refused(pool, -BERTH_EINVAL, berth_pin(pool, &here, 1, "x", 0, &pin));
	assert_refused(pool, -BERTH_EINVAL, berth_pin(pool, NULL, 1, "x", 0, &pin));
	assert_refused(pool, -BERTH_EINVAL, berth_pin(pool, memory + 64 * KIB, 1, "x", 0, &pin));
	assert_refused(pool, -BERTH_EINVAL, berth_pin(pool, memory + 1, 64 * KIB, "x", 0, &pin));
	assert_refused(pool, -BERTH_EINVAL, berth_pin(pool, memory, SIZE_MAX, "x", 0, &pin));
	assert_refused(pool, -BERTH_EINVAL, berth_pin(pool, memory, (size_t)1 << 40, "x", 0, &pin));
	assert_int_equal(pin, 7);
	assert_refused(pool, -BERTH_EINVAL, berth_unpin(pool, 7));
	assert_refused(pool, -BERTH_EINVAL, berth_unpin(pool, UINT64_MAX));
	must(berth_pin(pool, memory, 64 * KIB, "x", 0, &good));
	assert_refused(pool, -BERTH_EINVAL, berth_unpin(pool, good + 1));
	must(berth_unpin(pool, good));
	assert_refused(pool, -BERTH_EINVAL, berth_unpin(pool, good));
	must(berth_unmap(pool, memory, 64 * KIB));
	pool_close(pool);
}

static void pins_run_out(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	char *memory = pool_map(pool, 64 * KIB);
	static uint64_t pins[5000];
	uint64_t nr = 0;
	int error = 0;

	(void)state;
	while (nr < ARRAY_SIZE(pins) &&
	       (error = berth_pin(pool, memory + nr % (64 * KIB), 1, "x", 0, &pins[nr])) == 0)
		nr++;
	assert_int_equal(error, -BERTH_ENOSPC);
	assert_int_equal(pool_stats(pool).pins, nr);
	assert_int_equal(nr, 4096);
	while (nr)
		must(berth_unpin(pool, pins[--nr]));
	must(berth_unmap(pool, memory, 64 * KIB));
	pool_close(pool);
}

static void a_long_term_pin_needs_room_outside(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	char *memory = pool_map(pool, AREA_BYTES), *rest;
	uint64_t pin = 7, held;

	(void)state;
	must(berth_map(pool, AREA_BYTES, BERTH_MEMORY_NO_AREA, (void **)&rest));
	assert_refused(pool, -BERTH_ENOMEM,
		       berth_pin(pool, memory, 4096, "x", BERTH_PIN_LONG_TERM, &pin));
	must(berth_unmap(pool, rest, AREA_BYTES));
	must(berth_pin(pool, memory, 1, "short", 0, &held));
	assert_refused(pool, -BERTH_EBUSY,
		       berth_pin(pool, memory, 4096, "x", BERTH_PIN_LONG_TERM, &pin));
	assert_int_equal(pin, 7);
	must(berth_unpin(pool, held));
	must(berth_unmap(pool, memory, AREA_BYTES));
	pool_close(pool);
}

/* ---- Closing, and afterwards --------------------------------------------------------------------------------- */

/* Every function answers -ESTALE, or what stands for it. */
static void all_is_stale(struct berth_pool *pool)
{
	const struct berth_buffer buffer = { (void *)(uintptr_t)4096, 4096, 0, "area" };
	struct berth_claim_report report = { 0 };
	struct berth_violation violation = { 0 };
	struct berth_pool_stats stats;
	struct berth_cma_stats area;
	struct berth_buffer claimed;
	uint64_t pin, cursor = 0;
	void *memory;

	assert_int_equal(berth_claim(pool, NULL, 4096, NULL, &claimed, &report), -BERTH_ESTALE);
	assert_int_equal(report.error, -BERTH_ESTALE);
	assert_int_equal(berth_claim(pool, NULL, 4096, NULL, &claimed, NULL), -BERTH_ESTALE);
	assert_int_equal(berth_release(pool, &buffer), -BERTH_ESTALE);
	assert_int_equal(berth_map(pool, 4096, 0, &memory), -BERTH_ESTALE);
	assert_int_equal(berth_map_runs(pool, 4096, 4096, 0, &memory), -BERTH_ESTALE);
	assert_int_equal(berth_grow(pool, &memory, 4096, 8192), -BERTH_ESTALE);
	assert_int_equal(berth_unmap(pool, &memory, 4096), -BERTH_ESTALE);
	assert_int_equal(berth_pin(pool, &memory, 4096, "x", 0, &pin), -BERTH_ESTALE);
	assert_int_equal(berth_unpin(pool, 0), -BERTH_ESTALE);
	assert_int_equal(berth_offset_of(pool, &memory), (size_t)-1);
	assert_int_equal(berth_pool_stats(pool, &stats), -BERTH_ESTALE);
	assert_int_equal(berth_area_stats(pool, NULL, &area), -BERTH_ESTALE);
	assert_int_equal(berth_shuffle(pool, &cursor), -BERTH_ESTALE);
	assert_int_equal(cursor, 0);
	assert_false(berth_pool_check(pool, &violation));
	assert_non_null(violation.what);
	assert_false(berth_pool_check(pool, NULL));
	assert_null(berth_pool_notice(pool));
	assert_int_equal(berth_pool_close(pool), -BERTH_ESTALE);
}

static void a_closed_pool_is_stale_for_ever(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL), *later;

	(void)state;
	must(berth_pool_close(pool));
	all_is_stale(pool);
	later = pool_open(AREA_BYTES, 0, NULL); /* its handle is another */
	assert_ptr_not_equal(pool, later);
	all_is_stale(pool);
	pool_close(later);
	all_is_stale(pool);
	all_is_stale(NULL);
}

static void a_pool_in_use_is_not_closed(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	struct berth_buffer buffer;
	char *memory = pool_map(pool, 4096);

	(void)state;
	assert_refused(pool, -BERTH_EBUSY, berth_pool_close(pool));
	must(berth_unmap(pool, memory, 4096));
	must(berth_claim(pool, NULL, 4096, NULL, &buffer, NULL));
	assert_refused(pool, -BERTH_EBUSY, berth_pool_close(pool));
	must(berth_release(pool, &buffer));
	pool_close(pool);
}

struct closer {
	struct berth_pool *pool;
	_Atomic bool stop;
	uint64_t nr_busy;
	int error;
};

static void *try_to_close(void *argument)
{
	struct closer *c = argument;

	while (!atomic_load(&c->stop)) {
		c->error = berth_pool_close(c->pool);
		if (c->error != -BERTH_EBUSY)
			break;
		c->nr_busy++;
	}
	return NULL;
}

/* Whoever tries to close a pool that is in use disturbs nobody. */
static void a_refused_close_is_not_seen(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	struct closer closer = { .pool = pool };
	char *held = pool_map(pool, 4096), *memory;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, try_to_close, &closer), 0);
	for (unsigned i = 0; i < 2000; i++) {
		must(berth_map(pool, 8192, 0, (void **)&memory));
		must(berth_unmap(pool, memory, 8192));
	}
	atomic_store(&closer.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(closer.error, -BERTH_EBUSY);
	assert_true(closer.nr_busy > 0);
	must(berth_unmap(pool, held, 4096));
	pool_close(pool);
}

static void missing_arguments_are_refused(void **state)
{
	struct berth_pool *pool = pool_open(AREA_BYTES, 0, NULL);
	struct berth_cma_stats stats;

	(void)state;
	assert_refused(pool, -BERTH_EINVAL, berth_pool_stats(pool, NULL));
	assert_refused(pool, -BERTH_EINVAL, berth_area_stats(pool, NULL, NULL));
	assert_refused(pool, -BERTH_ENOENT, berth_area_stats(pool, "aera", &stats));
	assert_refused(pool, -BERTH_EINVAL, berth_shuffle(pool, NULL));
	pool_close(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_pools_are_refused),
		cmocka_unit_test(bad_areas_are_refused),
		cmocka_unit_test(pools_run_out),
		cmocka_unit_test(more_memory_than_there_is_is_refused),
		cmocka_unit_test(a_limit_of_addresses_leaves_nothing_behind),
		cmocka_unit_test(memory_files_can_be_refused),
		cmocka_unit_test(a_limit_of_file_sizes_is_an_error),
		cmocka_unit_test(a_refused_userfaultfd_is_said),
		cmocka_unit_test(a_kernel_without_userfaultfd_will_do),
		cmocka_unit_test(an_old_userfaultfd_is_not_used),
		cmocka_unit_test(anybody_can_have_a_pool),
		cmocka_unit_test(a_kernel_without_membarrier_will_do),
		cmocka_unit_test(bad_claims_are_refused),
		cmocka_unit_test(claims_need_an_area),
		cmocka_unit_test(a_claimed_area_says_so),
		cmocka_unit_test(a_full_pool_has_no_place_to_move_to),
		cmocka_unit_test(only_what_was_claimed_is_released),
		cmocka_unit_test(bad_maps_are_refused),
		cmocka_unit_test(only_what_was_mapped_is_unmapped_or_grown),
		cmocka_unit_test(regions_run_out),
		cmocka_unit_test(pinned_memory_is_not_unmapped),
		cmocka_unit_test(bad_pins_are_refused),
		cmocka_unit_test(pins_run_out),
		cmocka_unit_test(a_long_term_pin_needs_room_outside),
		cmocka_unit_test(a_closed_pool_is_stale_for_ever),
		cmocka_unit_test(a_pool_in_use_is_not_closed),
		cmocka_unit_test(a_refused_close_is_not_seen),
		cmocka_unit_test(missing_arguments_are_refused),
	};

	return cmocka_run_group_tests_name("errors of berth.h", tests, NULL, NULL);
}
