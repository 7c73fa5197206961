/* SPDX-License-Identifier: MIT */
/*
 * The Linux machine behind a space, in each way that it can stall writers: what protect, remap and
 * unprotect do to threads and system calls, and what becomes of SIGSEGV.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <sys/socket.h>

#include "port/linux/fd.h"
#include "port/linux/mmu.h"
#include "port/linux/port_linux.h"
#include "tests/include/testpool.h"

#define POOL_BYTES (64 * MIB)
#define POOL_PAGES (POOL_BYTES / 4096)

/* ---- A machine with a space on it -------------------------------------------------------------- */

struct machine {
	struct berth_memory memory;
	struct berth_mmu mmu;
	struct berth_zone *zone;
	struct berth_space *space;
	void *metadata, *space_memory;
	uint32_t *table;
	const struct berth_mmu_ops *ops;
};

static struct machine *machine_open(enum berth_mover mover)
{
	struct machine *m = test_zalloc(1, sizeof(*m));
	struct berth_zone_params zone = {
		.name = "pool",
		.nr_pages = POOL_PAGES,
		.nr_cpus = 4,
		.port = berth_port_linux_ops(),
	};
	struct berth_space_params space = { .name = "memory",
					    .mmu = &berth_mmu_linux_ops,
					    .port = berth_port_linux_ops() };
	int error;

	must(berth_memory_open(&m->memory, POOL_BYTES));
	error = berth_mmu_open(&m->mmu, &m->memory, 2 * POOL_BYTES, mover);
	if (error == -BERTH_EPERM || error == -BERTH_ENOSYS) {
		berth_memory_close(&m->memory);
		free(m);
		print_message("# SKIP: %s: %s\n", berth_mover_name(mover), berth_strerror(error));
		skip();
	}
	must(error);
	assert_int_equal(posix_memalign(&m->metadata, 64, berth_zone_metadata_size(&zone)), 0);
	must(berth_zone_init(&m->zone, &zone, m->metadata, berth_zone_metadata_size(&zone)));
	must(berth_zone_add_memory(m->zone, 0, POOL_PAGES));
	assert_int_equal(posix_memalign(&m->space_memory, 64, berth_space_size()), 0);
	space.zone = m->zone;
	space.nr_pages = m->mmu.bytes >> BERTH_PAGE_SHIFT;
	space.mmu_ctx = &m->mmu;
	space.table = m->table = test_zalloc(space.nr_pages, sizeof(uint32_t));
	must(berth_space_init(&m->space, &space, m->space_memory));
	m->mmu.space = m->space;
	m->ops = &berth_mmu_linux_ops;
	return m;
}

static void machine_close(struct machine *m)
{
	berth_mmu_close(&m->mmu);
	berth_memory_close(&m->memory);
	free(m->metadata);
	free(m->space_memory);
	free(m->table);
	free(m);
}

static char *address_of(struct machine *m, uint64_t page)
{
	return m->mmu.base + page * 4096;
}

/* Maps pages through the space, so that the machine knows them, and says which frames they have. */
static berth_pfn_t machine_map(struct machine *m, uint64_t page, uint64_t nr_pages)
{
	berth_pfn_t pfn;

	must(berth_space_map(m->space, page, nr_pages, BERTH_MAX_ORDER_LIMIT, 0));
	pfn = berth_space_lookup(m->space, page);
	for (uint64_t i = 0; i < nr_pages; i++)
		assert_int_equal(berth_space_lookup(m->space, page + i), pfn + i);
	return pfn;
}

/* Frames that nobody has. */
static berth_pfn_t spare_frames(struct machine *m, unsigned order)
{
	berth_pfn_t pfn;

	must(berth_alloc_pages(m->zone, order, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, 0, &pfn));
	must(m->ops->prepare(&m->mmu, pfn, 1ull << order));
	return pfn;
}

static enum berth_mover mover_of(void **state)
{
	return *(const enum berth_mover *)*state;
}

/* ---- One operation after the other ---------------------------------------------------------------- */

static void frames_appear_at_their_pages(void **state)
{
	struct machine *m = machine_open(mover_of(state));
	berth_pfn_t pfn = machine_map(m, 512, 512), spare = spare_frames(m, 4);

	assert_int_equal((uintptr_t)m->mmu.base % BERTH_HUGE_BYTES, 0);
	assert_true(is_zero(address_of(m, 512), 512 * 4096));
	pattern_fill(address_of(m, 512), 512 * 4096, 1);
	pattern_ok(berth_memory_at(&m->memory, pfn), 512 * 4096, 1);
	/* A part of it elsewhere. */
	pattern_fill(berth_memory_at(&m->memory, spare), 16 * 4096, 2);
	must(m->ops->map(&m->mmu, 600, spare, 16));
	pattern_ok(address_of(m, 600), 16 * 4096, 2);
	pattern_ok(address_of(m, 512), 88 * 4096, 1);
	m->ops->zero(&m->mmu, spare, 16);
	assert_true(is_zero(address_of(m, 600), 16 * 4096));
	m->ops->copy(&m->mmu, spare, pfn + 88, 16);
	pattern_ok(address_of(m, 512), 512 * 4096, 1);
	/* Private memory has nothing to do with the pool. */
	must(m->ops->map_private(&m->mmu, 600, 16));
	assert_true(is_zero(address_of(m, 600), 16 * 4096));
	memset(address_of(m, 600), 1, 16 * 4096);
	must(m->ops->copy_private(&m->mmu, 512, pfn, 512));
	pattern_ok(address_of(m, 512), 512 * 4096, 1);
	memset(address_of(m, 512), 1, 512 * 4096);
	pattern_ok(berth_memory_at(&m->memory, pfn), 512 * 4096, 1);
	/* Likewise, in place of frames that are in use. */
	must(m->ops->map(&m->mmu, 512, pfn, 512));
	must(m->ops->make_private(&m->mmu, 700, pfn + 188, 40));
	pattern_ok(address_of(m, 512), 512 * 4096, 1);
	memset(address_of(m, 700), 1, 40 * 4096);
	pattern_ok(berth_memory_at(&m->memory, pfn), 512 * 4096, 1);
	machine_close(m);
}

/* A thread that writes one word, and says when it has. */
struct one_write {
	volatile uint64_t *word;
	uint64_t value;
	_Atomic bool done;
};

static void *write_once(void *argument)
{
	struct one_write *write = argument;
	sigset_t none;

	/* It was started between begin() and end(), where every signal is blocked. */
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	*write->word = write->value;
	atomic_store(&write->done, true);
	return NULL;
}

static struct one_write prepare_write(struct machine *m, uint64_t page)
{
	return (struct one_write){
		.word = (uint64_t *)(void *)(address_of(m, 512 + page) + 8),
		.value = 0xfeed0000 + page,
	};
}

static void start_write(struct machine *m, struct one_write *write, pthread_t *thread)
{
	(void)m->ops->writer_waits(&m->mmu); /* whoever waited before */
	assert_int_equal(pthread_create(thread, NULL, write_once, write), 0);
	wait_until(m->ops->writer_waits(&m->mmu));
	assert_false(m->ops->writer_waits(&m->mmu)); /* it began to wait once */
	assert_false(atomic_load(&write->done));
}

/* The write is done, in the frame where its page is, and not where the page was or might be. */
static void check_write(struct machine *m, struct one_write *write, pthread_t thread, uint64_t old,
			berth_pfn_t now, berth_pfn_t not_now)
{
	wait_until(atomic_load(&write->done));
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(*write->word, write->value);
	assert_int_equal(((uint64_t *)(void *)berth_memory_at(&m->memory, now))[1], write->value);
	assert_int_equal(((uint64_t *)(void *)berth_memory_at(&m->memory, not_now))[1], old);
	*write->word = old;
}

/*
 * Protects 16 pages, has a thread write to one of them, copies, maps the first nr_moved to their
 * copies and opens the rest. The write waits meanwhile, and then lands where its page is. So does one
 * to the rest that comes after the first part is open.
 */
static void write_during_a_move(struct machine *m, berth_pfn_t pfn, berth_pfn_t spare,
				uint64_t nr_moved, uint64_t page)
{
	struct one_write write = prepare_write(m, page), late = prepare_write(m, 14);
	bool is_late = nr_moved > 0 && nr_moved < 16 && page != 14, moved = page < nr_moved;
	uint64_t old = pattern_word(3, page * 512 + 1), old_late = pattern_word(3, 14 * 512 + 1);
	pthread_t thread, late_thread;

	pattern_fill(address_of(m, 512), 16 * 4096, 3);
	m->ops->begin(&m->mmu);
	must(m->ops->protect(&m->mmu, 512, 16));
	start_write(m, &write, &thread);
	pattern_ok(address_of(m, 512), 16 * 4096, 3); /* readers go on */
	m->ops->copy(&m->mmu, spare, pfn, 16);
	assert_false(atomic_load(&write.done));
	if (nr_moved)
		must(m->ops->remap(&m->mmu, 512, spare, nr_moved));
	if (is_late)
		start_write(m, &late, &late_thread);
	if (nr_moved < 16)
		m->ops->unprotect(&m->mmu, 512 + nr_moved, 16 - nr_moved);
	m->ops->end(&m->mmu);
	check_write(m, &write, thread, old, (moved ? spare : pfn) + page,
		    (moved ? pfn : spare) + page);
	if (is_late)
		check_write(m, &late, late_thread, old_late, pfn + 14, spare + 14);
	/* Everything is open again, and nothing refers to the old frames; back to where it was. */
	memset(berth_memory_at(&m->memory, pfn), 0xdb, nr_moved * 4096);
	pattern_ok(address_of(m, 512), 16 * 4096, 3);
	must(m->ops->map(&m->mmu, 512, pfn, 16));
}

static void a_write_waits_and_lands_where_its_page_is(void **state)
{
	struct machine *m = machine_open(mover_of(state));
	berth_pfn_t pfn = machine_map(m, 512, 16), spare = spare_frames(m, 4);

	for (uint64_t page = 0; page < 16; page += 5) {
		write_during_a_move(m, pfn, spare, 16, page);
		write_during_a_move(m, pfn, spare, 8, page);
		write_during_a_move(m, pfn, spare, 0, page);
	}
	machine_close(m);
}

static bool bit_of(const uint64_t *bits, uint64_t i)
{
	return bits[i / 64] >> i % 64 & 1;
}

/*
 * A huge page that is watched: what is written is noted, and nobody waits. Halted: a write waits, and lands where the
 * page is then. fail: it isn't moved after all.
 */
static void watch_a_huge_page(struct machine *m, berth_pfn_t pfn, berth_pfn_t spare, bool fail)
{
	struct one_write write = prepare_write(m, 77);
	uint64_t written[512 / 64];
	pthread_t thread;

	pattern_fill(address_of(m, 512), 512 * 4096, 3);
	must(m->ops->watch(&m->mmu, 512, 512));
	for (uint64_t page = 0; page < 512; page += 7) /* with what is there: the pattern stays */
		*(volatile char *)address_of(m, 512 + page) = *address_of(m, 512 + page);
	pattern_ok(address_of(m, 512), 512 * 4096, 3);
	assert_int_equal(m->ops->look(&m->mmu, 512, 512, written), (512 + 6) / 7);
	for (uint64_t page = 0; page < 512; page++)
		assert_int_equal(bit_of(written, page), page % 7 == 0);
	for (uint64_t page = 0; page < 512; page += 5) /* noted anew */
		*(volatile char *)address_of(m, 512 + page) = *address_of(m, 512 + page);
	m->ops->copy(&m->mmu, spare, pfn, 512);
	m->ops->begin(&m->mmu);
	must(m->ops->halt(&m->mmu, 512, 512, written));
	for (uint64_t page = 0; page < 512; page++)
		assert_int_equal(bit_of(written, page), page % 5 == 0);
	start_write(m, &write, &thread);
	if (fail)
		m->ops->unprotect(&m->mmu, 512, 512);
	else
		must(m->ops->remap(&m->mmu, 512, spare, 512));
	m->ops->end(&m->mmu);
	check_write(m, &write, thread, pattern_word(3, 77 * 512 + 1), (fail ? pfn : spare) + 77,
		    (fail ? spare : pfn) + 77);
	if (!fail)
		memset(berth_memory_at(&m->memory, pfn), 0xdb, 512 * 4096);
	pattern_ok(address_of(m, 512), 512 * 4096, 3);
	must(m->ops->map(&m->mmu, 512, pfn, 512));
}

static void a_watched_page_is_halted_at_last(void **state)
{
	struct machine *m = machine_open(mover_of(state));
	berth_pfn_t pfn = machine_map(m, 512, 512), spare = spare_frames(m, 9);
	uint64_t written[512 / 64];

	if (mover_of(state) > BERTH_MOVER_UFFD_DEV || m->mmu.watch_fd < 0) {
		assert_int_equal(m->ops->watch(&m->mmu, 512, 512), -BERTH_ENOSYS);
	} else {
		for (int i = 0; i < 3; i++) {
			watch_a_huge_page(m, pfn, spare, false);
			watch_a_huge_page(m, pfn, spare, true);
		}
		/* Without /proc/self/pagemap all counts as written. */
		must(m->ops->watch(&m->mmu, 512, 512));
		berth_fd_close(m->mmu.pagemap_fd);
		m->ops->begin(&m->mmu);
		must(m->ops->halt(&m->mmu, 512, 512, written));
		m->ops->unprotect(&m->mmu, 512, 512);
		m->ops->end(&m->mmu);
		for (uint64_t page = 0; page < 512; page++)
			assert_true(bit_of(written, page));
		/* Without its descriptor there is no watching. */
		berth_fd_close(m->mmu.watch_fd);
		assert_int_equal(m->ops->watch(&m->mmu, 512, 512), -BERTH_ENOSYS);
		assert_int_equal(m->mmu.watch_fd, -1);
	}
	machine_close(m);
}

/* Mappings (VMAs) that lie in the range. */
static unsigned count_mappings(const char *start, size_t bytes)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned nr = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		uintptr_t from = strtoull(line, NULL, 16);

		nr += from >= (uintptr_t)start && from < (uintptr_t)start + bytes;
	}
	fclose(maps);
	return nr;
}

/*
 * Pages that are mapped apart, each a mapping of its own. Stopped: nobody touches them until the copies are there in
 * one mapping, or it is undone.
 */
static void stop_pieces(struct machine *m, berth_pfn_t pfn, berth_pfn_t spare, bool undo)
{
	struct one_write write = prepare_write(m, 5);
	pthread_t thread;

	for (uint64_t i = 0; i < 16; i++)
		must(m->ops->map(&m->mmu, 512 + i, pfn + 15 - i, 1));
	pattern_fill(address_of(m, 512), 16 * 4096, 4);
	assert_int_equal(count_mappings(address_of(m, 512), 16 * 4096), 16);
	m->ops->begin(&m->mmu);
	must(m->ops->stop(&m->mmu, 512, 16));
	start_write(m, &write, &thread);
	for (uint64_t i = 0; i < 16; i++)
		m->ops->copy(&m->mmu, spare + i, pfn + 15 - i, 1);
	assert_false(atomic_load(&write.done));
	if (undo)
		m->ops->unprotect(&m->mmu, 512, 16);
	else
		must(m->ops->remap(&m->mmu, 512, spare, 16));
	m->ops->end(&m->mmu);
	m->ops->populate(&m->mmu, 512, 16);
	check_write(m, &write, thread, pattern_word(4, 5 * 512 + 1), undo ? pfn + 10 : spare + 5,
		    undo ? spare + 5 : pfn + 10);
	pattern_ok(address_of(m, 512), 16 * 4096, 4);
	assert_int_equal(count_mappings(address_of(m, 512), 16 * 4096), undo ? 16 : 1);
}

static void pieces_are_stopped_as_one(void **state)
{
	struct machine *m = machine_open(mover_of(state));
	berth_pfn_t pfn = machine_map(m, 512, 16), spare = spare_frames(m, 4);

	if (mover_of(state) == BERTH_MOVER_MPROTECT)
		assert_int_equal(m->ops->stop(&m->mmu, 512, 16), -BERTH_ENOSYS);
	for (int i = 0; i < 6 && mover_of(state) != BERTH_MOVER_MPROTECT; i++)
		stop_pieces(m, pfn, spare, i % 2);
	machine_close(m);
}

static void protection_ends_without_a_trace(void **state)
{
	struct machine *m = machine_open(mover_of(state));
	berth_pfn_t pfn = machine_map(m, 512, 512);
	sigset_t before, during, after;

	(void)pfn;
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	for (unsigned round = 0; round < 50; round++) {
		m->ops->begin(&m->mmu);
		pthread_sigmask(SIG_SETMASK, NULL, &during);
		assert_true(sigismember(&during, SIGUSR1) && sigismember(&during, SIGTERM));
		errno = 123;
		must(m->ops->protect(&m->mmu, 512 + round, 100));
		m->ops->unprotect(&m->mmu, 512 + round, 100);
		assert_int_equal(errno, 123);
		m->ops->end(&m->mmu);
		/* What is left registered or protected wouldn't be one mapping with the rest. */
		assert_int_equal(count_mappings(address_of(m, 512), 512 * 4096), 1);
		pattern_fill(address_of(m, 512), 512 * 4096, round);
		pattern_ok(address_of(m, 512), 512 * 4096, round);
	}
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (int number = 1; number < 32; number++)
		assert_int_equal(sigismember(&before, number), sigismember(&after, number));
	machine_close(m);
}

static void no_handler_of_ours_stays_in_the_way(void **state)
{
	struct machine *one = machine_open(mover_of(state)), *two = machine_open(mover_of(state));

	/* Two machines at once, closed in the order of opening; a third finds everything free. */
	machine_map(one, 0, 16);
	machine_map(two, 0, 16);
	memset(address_of(one, 0), 1, 16 * 4096);
	memset(address_of(two, 0), 2, 16 * 4096);
	machine_close(one);
	assert_int_equal(*address_of(two, 5), 2);
	for (unsigned i = 0; i < 40; i++) /* more than can be open at once */
		machine_close(machine_open(mover_of(state)));
	machine_close(two);
}

/* ---- Threads and system calls while it moves ---------------------------------------------------------- */

static void writers_lose_nothing(void **state)
{
	struct berth_pool *pool = pool_open_mover(16 * MIB, BERTH_POOL_POISON | BERTH_POOL_RESIDENT,
						  *state);
	_Atomic bool stop = false;
	struct writer writers[2];
	uint64_t cursor = 0, end = now_ns() + 60 * SECOND_NS;
	char *memory = pool_map(pool, 4 * MIB);

	for (size_t i = 0; i < ARRAY_SIZE(writers); i++)
		writer_start(&writers[i], memory + i * 2 * MIB, 2 * MIB, 8, i, &stop);
	/* Until a writer has met a move, too: on a busy machine that takes its time. */
	while ((pool_stats(pool).moved_bytes < 400 * MIB || !pool_stats(pool).stalled_runs) &&
	       now_ns() < end)
		assert_true(berth_shuffle(pool, &cursor) >= 0);
	atomic_store(&stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(writers); i++)
		writer_finish(&writers[i]);
	assert_true(pool_stats(pool).moved_bytes >= 400 * MIB);
	assert_true(pool_stats(pool).stalled_runs > 0);
	must(berth_unmap(pool, memory, 4 * MIB));
	pool_close(pool);
}

/* Moves everything until told to stop. */
struct shuffler {
	pthread_t thread;
	struct berth_pool *pool;
	_Atomic bool stop;
	_Atomic int error;
};

static void *shuffler_run(void *argument)
{
	struct shuffler *s = argument;
	uint64_t cursor = 0;

	while (!atomic_load(&s->stop)) {
		int64_t moved = berth_shuffle(s->pool, &cursor);

		if (moved < 0)
			atomic_store(&s->error, (int)moved);
	}
	return NULL;
}

static void shuffler_start(struct shuffler *s, struct berth_pool *pool)
{
	*s = (struct shuffler){ .pool = pool };
	assert_int_equal(pthread_create(&s->thread, NULL, shuffler_run, s), 0);
}

static void shuffler_finish(struct shuffler *s)
{
	atomic_store(&s->stop, true);
	assert_int_equal(pthread_join(s->thread, NULL), 0);
	must(atomic_load(&s->error));
}

struct sender {
	pthread_t thread;
	int fd;
	size_t bytes;
	uint64_t rounds;
};

static void *sender_run(void *argument)
{
	struct sender *s = argument;
	uint64_t *words = calloc(1, s->bytes);

	for (uint64_t round = 0; round < s->rounds; round++) {
		size_t sent = 0;

		pattern_fill(words, s->bytes, round);
		while (sent < s->bytes) {
			ssize_t n = write(s->fd, (char *)words + sent, s->bytes - sent);

			if (n <= 0)
				break;
			sent += (size_t)n;
		}
	}
	free(words);
	return NULL;
}

/* What arrives through a pipe or socket, in memory that moves all the time, is whole. */
static void receive(const char *mover, int in, int out, size_t bytes, uint64_t rounds, bool whole)
{
	struct berth_pool *pool = pool_open_mover(8 * MIB, BERTH_POOL_RESIDENT, mover);
	struct sender sender = { .fd = out, .bytes = bytes, .rounds = rounds };
	struct shuffler shuffler;
	char *memory = pool_map(pool, 2 * MIB);

	assert_int_equal(pthread_create(&sender.thread, NULL, sender_run, &sender), 0);
	shuffler_start(&shuffler, pool);
	wait_until(pool_stats(pool).moved_bytes > 0);
	for (uint64_t round = 0; round < rounds; round++) {
		char *at = memory + round % 7 * 8192;
		size_t got = 0;

		while (got < bytes) {
			ssize_t n = read(in, at + got, bytes - got);

			if (n <= 0)
				fail_msg("read() into moving memory: %zd, %s", n, strerror(errno));
			assert_true(!whole || (size_t)n == bytes);
			got += (size_t)n;
		}
		pattern_ok(at, bytes, round);
	}
	shuffler_finish(&shuffler);
	assert_int_equal(pthread_join(sender.thread, NULL), 0);
	assert_true(pool_stats(pool).moved_bytes > 0);
	must(berth_unmap(pool, memory, 2 * MIB));
	pool_close(pool);
	close(in);
	close(out);
}

static void system_calls_read_into_moving_memory(void **state)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	receive(*state, fds[0], fds[1], 256 * KIB, 300, false);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	receive(*state, fds[0], fds[1], 256 * KIB, 300, false);
	/* A datagram that isn't taken whole is lost. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
	receive(*state, fds[0], fds[1], 64 * KIB, 1000, true);
}

/* ---- Choosing a mover ------------------------------------------------------------------------------------ */

static void movers_have_names_and_notices(void **state)
{
	(void)state;
	assert_string_equal(berth_mover_name(BERTH_MOVER_UFFD), "userfaultfd");
	assert_string_equal(berth_mover_name(BERTH_MOVER_UFFD_DEV), "/dev/userfaultfd");
	assert_string_equal(berth_mover_name(BERTH_MOVER_MPROTECT), "mprotect");
	assert_non_null(berth_mover_name((enum berth_mover)99));
	assert_null(berth_mover_notice(BERTH_MOVER_UFFD));
	assert_null(berth_mover_notice(BERTH_MOVER_UFFD_DEV));
	assert_string_equal(berth_mover_name(BERTH_MOVER_UFFD_UNWATCHED), "userfaultfd-unwatched");
	assert_null(berth_mover_notice(BERTH_MOVER_UFFD_UNWATCHED));
	assert_non_null(strstr(berth_mover_notice(BERTH_MOVER_UFFD_USER), "EFAULT"));
	assert_non_null(strstr(berth_mover_notice(BERTH_MOVER_MPROTECT), "SIGSEGV"));
}

static void a_budget_leaves_room(void **state)
{
	uint32_t budget = berth_mmu_budget();

	(void)state;
	assert_true(budget >= 256);
	assert_true(budget < 3u << 28);
}

/* ---- SIGSEGV under mprotect --------------------------------------------------------------------------------- */

static volatile sig_atomic_t faults;
static void *volatile fault_address;
static sigjmp_buf after_fault;

static void on_fault(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	faults++;
	fault_address = info->si_addr;
	siglongjmp(after_fault, 1);
}

static void on_plain_fault(int number)
{
	faults += number == SIGSEGV ? 1 : 100;
	siglongjmp(after_fault, 1);
}

/* Address 8, in a way that compilers and sanitizers don't understand. */
static volatile uint64_t *nowhere(void)
{
	volatile uintptr_t address = 8;

	return (volatile uint64_t *)address;
}

__attribute__((no_sanitize("address", "undefined"))) static void write_to(volatile uint64_t *word)
{
	*word = 1;
}

/* True when the write faulted. */
static bool write_faults(volatile uint64_t *word)
{
	if (sigsetjmp(after_fault, 1) != 0)
		return true;
	write_to(word);
	return false;
}

static void faults_of_the_program(bool plain)
{
	struct sigaction action = { .sa_flags = plain ? 0 : SA_SIGINFO };
	_Atomic bool stop = false;
	struct berth_pool *pool;
	struct writer writer;
	char *memory;
	uint64_t cursor = 0;

	if (plain)
		action.sa_handler = on_plain_fault;
	else
		action.sa_sigaction = on_fault;
	child_check(sigaction(SIGSEGV, &action, NULL) == 0);
	pool = pool_open(8 * MIB, 0, "mprotect");
	memory = pool_map(pool, 64 * KIB);
	child_check(write_faults(nowhere()) && faults == 1);
	child_check(plain || fault_address == (void *)8);
	/* An address of the pool where nothing is mapped is as bad as any other. */
	child_check(write_faults((uint64_t *)(void *)(memory + 64 * KIB)) && faults == 2);
	child_check(plain || fault_address == memory + 64 * KIB);
	/* What the program itself protects is its own business. */
	child_check(mprotect(memory + 4096, 4096, PROT_READ) == 0);
	child_check(write_faults((uint64_t *)(void *)(memory + 4096)) && faults == 3);
	child_check(plain || fault_address == memory + 4096);
	child_check(mprotect(memory + 4096, 4096, PROT_READ | PROT_WRITE) == 0);
	/* Ours don't get there. */
	writer_start(&writer, memory, 64 * KIB, 8, 1, &stop);
	for (unsigned i = 0; i < 200; i++)
		child_check(berth_shuffle(pool, &cursor) >= 0);
	atomic_store(&stop, true);
	writer_finish(&writer);
	child_check(faults == 3);
}

static void faults_reach_a_handler(void *argument)
{
	(void)argument;
	faults_of_the_program(false);
}

static void faults_reach_a_plain_handler(void *argument)
{
	(void)argument;
	faults_of_the_program(true);
}

static void the_programs_own_handler_is_called(void **state)
{
	(void)state;
	in_child(faults_reach_a_handler, NULL);
	in_child(faults_reach_a_plain_handler, NULL);
}

static void fault_and_die(const char *mover, int ignore)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct berth_pool *pool;

		child_no_core();
		alarm(60);
		signal(SIGSEGV, ignore ? SIG_IGN : SIG_DFL);
		pool = pool_open(8 * MIB, 0, mover);
		memset(pool_map(pool, 64 * KIB), 1, 64 * KIB);
		write_to(nowhere());
		_exit(3);
	}
	status = child_wait(pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
}

static void a_fault_of_the_program_still_kills(void **state)
{
	(void)state;
	fault_and_die(NULL, false);
	fault_and_die("mprotect", false);
	fault_and_die("mprotect", true); /* as the kernel does for those who ignore it */
}

/* ---- All of it, in every way ---------------------------------------------------------------------------------- */

static enum berth_mover movers[] = { BERTH_MOVER_UFFD, BERTH_MOVER_UFFD_DEV, BERTH_MOVER_UFFD_USER,
				     BERTH_MOVER_MPROTECT, BERTH_MOVER_UFFD_UNWATCHED };

int main(void)
{
	static const struct {
		const char *name;
		CMUnitTestFunction test;
		bool by_name, only_full;
	} each[] = {
		{ "frames_appear_at_their_pages", frames_appear_at_their_pages, false, false },
		{ "a_write_waits_and_lands_where_its_page_is",
		  a_write_waits_and_lands_where_its_page_is, false, false },
		{ "a_watched_page_is_halted_at_last", a_watched_page_is_halted_at_last, false,
		  false },
		{ "pieces_are_stopped_as_one", pieces_are_stopped_as_one, false, false },
		{ "protection_ends_without_a_trace", protection_ends_without_a_trace, false,
		  false },
		{ "no_handler_of_ours_stays_in_the_way", no_handler_of_ours_stays_in_the_way, false,
		  false },
		{ "writers_lose_nothing", writers_lose_nothing, true, false },
		{ "system_calls_read_into_moving_memory", system_calls_read_into_moving_memory,
		  true, true },
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(movers_have_names_and_notices),
		cmocka_unit_test(a_budget_leaves_room),
		cmocka_unit_test(the_programs_own_handler_is_called),
		cmocka_unit_test(a_fault_of_the_program_still_kills),
	};
	struct CMUnitTest group[ARRAY_SIZE(each)];
	int failed = cmocka_run_group_tests_name("mmu", tests, NULL, NULL);

	for (size_t i = 0; i < ARRAY_SIZE(movers); i++) {
		size_t n = 0;

		for (size_t j = 0; j < ARRAY_SIZE(each); j++) {
			if (each[j].only_full && berth_mover_notice(movers[i]))
				continue;
			group[n++] = (struct CMUnitTest){
				.name = each[j].name,
				.test_func = each[j].test,
				.initial_state = each[j].by_name ?
							 (void *)(uintptr_t)test_movers[i] :
							 (void *)&movers[i],
			};
		}
		failed += _cmocka_run_group_tests(test_movers[i], group, n, NULL, NULL);
	}
	return failed;
}
