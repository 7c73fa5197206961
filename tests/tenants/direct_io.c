// SPDX-License-Identifier: MIT
/*
 * Tenant: transfers for which the kernel holds pages where nobody sees it.
 *
 * The data cases read and write the heap by O_DIRECT, by io_uring's registered buffers and by native
 * aio, and check each word: a move in the middle loses what is on its way. The case `watch` gets at
 * such descriptors in every way there is, and looks at the offset of its heap in the pool: it must stay
 * while there is one, and change again afterwards. `hold` holds one and waits. `io_uring-blind` doesn't look at
 * what it has read.
 *
 * Standard output says the same for every run that went well, in the pool or not. Exit 77: the system
 * lacks the interface.
 *
 *     direct_io --seconds S --dir DIR CASE
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FILE_BYTES = 8 << 20, CHUNK = 1 << 20, ALIGNMENT = 4096 };

static char path[4096];
static double seconds = 1;
static char *heap; /* FILE_BYTES of it, aligned by hand */
static _Alignas(4096) char outside[FILE_BYTES];

__attribute__((format(printf, 1, 2))) static _Noreturn void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("WRONG: ", stderr);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	unlink(path);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static _Noreturn void lacking(const char *what)
{
	printf("%s: not here (%s)\n", what, strerror(errno));
	unlink(path);
	exit(77);
}

/* ---- Contents ---------------------------------------------------------------------------------------- */

static uint64_t word_at(uint64_t round, size_t at)
{
	return (at + 1) * 0x9E3779B97F4A7C15u + round * 0xD1B54A32D192ED03u;
}

static void fill(char *to, size_t bytes, uint64_t round, size_t at)
{
	for (size_t i = 0; i < bytes; i += 8) {
		uint64_t word = word_at(round, at + i);
		memcpy(to + i, &word, 8);
	}
}

static void check(const char *from, size_t bytes, uint64_t round, size_t at, const char *what)
{
	size_t wrong = 0;

	for (size_t i = 0; i < bytes; i += 8) {
		uint64_t word;
		memcpy(&word, from + i, 8);
		wrong += word != word_at(round, at + i);
	}
	if (wrong)
		die("%s: %zu of %zu words", what, wrong, bytes / 8);
}

static int open_file(int flags)
{
	int fd = open(path, O_RDWR | O_CREAT | flags, 0600);

	if (fd < 0 && (flags & O_DIRECT))
		lacking("O_DIRECT");
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

static void make_file(void)
{
	int fd = open_file(0);

	fill(outside, FILE_BYTES, 0, 0);
	if (write(fd, outside, FILE_BYTES) != FILE_BYTES || fsync(fd) != 0)
		die("write: %s", strerror(errno));
	close(fd);
}

/* ---- O_DIRECT ------------------------------------------------------------------------------------------ */

static void direct_reads(void)
{
	int fd = open_file(O_DIRECT);

	for (double end = now() + seconds; now() < end;) {
		memset(heap, 0xee, FILE_BYTES);
		for (size_t at = 0; at < FILE_BYTES; at += CHUNK)
			if (pread(fd, heap + at, CHUNK, (off_t)at) != CHUNK)
				die("pread: %s", strerror(errno));
		check(heap, FILE_BYTES, 0, 0, "read");
	}
	close(fd);
}

static void direct_writes(void)
{
	int fd = open_file(O_DIRECT);

	for (uint64_t round = 1; seconds > 0; round++) {
		double began = now();

		fill(heap, FILE_BYTES, round, 0);
		for (size_t at = 0; at < FILE_BYTES; at += CHUNK)
			if (pwrite(fd, heap + at, CHUNK, (off_t)at) != CHUNK)
				die("pwrite: %s", strerror(errno));
		if (pread(fd, outside, FILE_BYTES, 0) != FILE_BYTES)
			die("pread: %s", strerror(errno));
		check(outside, FILE_BYTES, round, 0, "write");
		seconds -= now() - began;
	}
	close(fd);
}

/* ---- io_uring, without its library ------------------------------------------------------------------------ */

struct ring {
	int fd;
	size_t bytes;
	char *rings;
	struct io_uring_sqe *sqes;
	struct io_uring_params params;
};

static bool ring_open(struct ring *ring)
{
	*ring = (struct ring){ .fd = -1 };
	ring->fd = (int)syscall(SYS_io_uring_setup, 8, &ring->params);
	if (ring->fd < 0)
		return false;
	ring->bytes = ring->params.sq_off.array + 8 * 4 + ring->params.cq_off.cqes +
		      16 * sizeof(struct io_uring_cqe);
	ring->rings = mmap(NULL, ring->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			   ring->fd, IORING_OFF_SQ_RING);
	ring->sqes = mmap(NULL, 8 * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
	if (ring->rings == MAP_FAILED || ring->sqes == MAP_FAILED)
		die("mmap of a ring: %s", strerror(errno));
	return true;
}

static void ring_close(struct ring *ring, bool mappings_too)
{
	close(ring->fd);
	if (!mappings_too)
		return;
	munmap(ring->rings, ring->bytes);
	munmap(ring->sqes, 8 * sizeof(struct io_uring_sqe));
}

/* One read into the registered buffer. */
static void ring_read(struct ring *ring, int fd, char *to, unsigned bytes, size_t at)
{
	uint32_t *sq_tail = (void *)(ring->rings + ring->params.sq_off.tail);
	uint32_t *sq_array = (void *)(ring->rings + ring->params.sq_off.array);
	uint32_t sq_mask = *(uint32_t *)(void *)(ring->rings + ring->params.sq_off.ring_mask);
	uint32_t *cq_head = (void *)(ring->rings + ring->params.cq_off.head);
	uint32_t cq_mask = *(uint32_t *)(void *)(ring->rings + ring->params.cq_off.ring_mask);
	struct io_uring_cqe *cqes = (void *)(ring->rings + ring->params.cq_off.cqes);
	uint32_t tail = *sq_tail, index = tail & sq_mask;

	ring->sqes[index] = (struct io_uring_sqe){ .opcode = IORING_OP_READ_FIXED,
						   .fd = fd,
						   .off = at,
						   .addr = (uintptr_t)to,
						   .len = bytes };
	sq_array[index] = index;
	__atomic_store_n(sq_tail, tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		die("io_uring_enter: %s", strerror(errno));
	if (cqes[*cq_head & cq_mask].res != (int)bytes)
		die("read by io_uring: %d", cqes[*cq_head & cq_mask].res);
	__atomic_store_n(cq_head, *cq_head + 1, __ATOMIC_RELEASE);
}

static void ring_reads(bool checked)
{
	struct iovec buffer = { heap, CHUNK };
	int fd = open_file(0);
	struct ring ring;

	if (!ring_open(&ring))
		lacking("io_uring");
	if (syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, &buffer, 1) != 0)
		lacking("io_uring's registered buffers");
	for (double end = now() + seconds; now() < end;) {
		size_t at = (size_t)rand() % (FILE_BYTES / CHUNK) * CHUNK;

		memset(heap, 0xee, CHUNK);
		ring_read(&ring, fd, heap, CHUNK, at);
		if (checked)
			check(heap, CHUNK, 0, at, "read by io_uring");
	}
	ring_close(&ring, true);
	close(fd);
}

/* ---- Native aio ---------------------------------------------------------------------------------------------- */

static void aio_reads(void)
{
	int fd = open_file(O_DIRECT);
	aio_context_t context = 0;

	if (syscall(SYS_io_setup, 8, &context) != 0)
		lacking("aio");
	for (double end = now() + seconds; now() < end;) {
		struct iocb blocks[8], *list[8];
		struct io_event events[8];

		memset(heap, 0xee, FILE_BYTES);
		for (unsigned i = 0; i < 8; i++) {
			blocks[i] = (struct iocb){ .aio_lio_opcode = IOCB_CMD_PREAD,
						   .aio_fildes = (uint32_t)fd,
						   .aio_buf = (uintptr_t)heap + i * CHUNK,
						   .aio_nbytes = CHUNK,
						   .aio_offset = i * CHUNK };
			list[i] = &blocks[i];
		}
		if (syscall(SYS_io_submit, context, 8, list) != 8 ||
		    syscall(SYS_io_getevents, context, 8, 8, events, NULL) != 8)
			die("aio: %s", strerror(errno));
		check(heap, FILE_BYTES, 0, 0, "read by aio");
	}
	syscall(SYS_io_destroy, context);
	close(fd);
}

/* ---- Watching ---------------------------------------------------------------------------------------------------- */

/* Where an address is in the pool's file; -1: it isn't there. */
static int64_t place_of(const void *address)
{
	static char text[1 << 20];
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t more;

	while (fd >= 0 && (more = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += (size_t)more;
	close(fd);
	text[length] = 0;
	for (char *line = text; line && *line; line = strchr(line, '\n')) {
		unsigned long start, end, offset;

		line += *line == '\n';
		if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 &&
		    (uintptr_t)address >= start && (uintptr_t)address < end)
			return strstr(line, "memfd:berth-pool") &&
					       strstr(line, "memfd:berth-pool") <
						       strchr(line, '\n') ?
				       (int64_t)(offset + ((uintptr_t)address - start)) :
				       -1;
	}
	return -1;
}

/* It moves within the time: true. */
static bool moves_within(double time)
{
	const int64_t place = place_of(heap);
	const double end = now() + time;

	while (now() < end) {
		if (place_of(heap) != place)
			return true;
		usleep(500);
	}
	return false;
}

static bool in_pool;

/* Something holds frames now. */
static void expect_still(const char *what)
{
	if (in_pool && moves_within(0.08))
		die("%s: the heap moves while there is one", what);
}

static void expect_moving(const char *what)
{
	if (in_pool && !moves_within(10))
		die("%s: the heap never moves again", what);
	printf("%s: right\n", what);
}

static int raw_open(void)
{
#ifdef __x86_64__
	long fd;

	__asm__ volatile("syscall"
			 : "=a"(fd)
			 : "0"(SYS_openat), "D"(AT_FDCWD), "S"(path), "d"(O_RDWR | O_DIRECT)
			 : "rcx", "r11", "memory");
	return (int)fd;
#else
	return open(path, O_RDWR | O_DIRECT);
#endif
}

/* A descriptor that another process has opened. */
static int passed_descriptor(void)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	char byte = 0;
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	int ends[2], fd = -1;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
		die("socketpair: %s", strerror(errno));
	child = fork();
	if (child == 0) {
		fd = open_file(O_DIRECT);
		control.header = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		_exit(sendmsg(ends[0], &message, 0) != 1);
	}
	if (recvmsg(ends[1], &message, 0) == 1 && control.header.cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
	waitpid(child, NULL, 0);
	close(ends[0]);
	close(ends[1]);
	if (fd < 0)
		die("no descriptor came");
	return fd;
}

static void watch_rings(void)
{
	struct ring ring;
	aio_context_t context = 0;

	if (ring_open(&ring)) {
		expect_still("io_uring");
		ring_close(&ring, false);
		expect_still("io_uring without its descriptor");
		ring_close(&(struct ring){ .fd = -1,
					   .bytes = ring.bytes,
					   .rings = ring.rings,
					   .sqes = ring.sqes },
			   true);
	}
	expect_moving("io_uring");
	if (syscall(SYS_io_setup, 8, &context) == 0) {
		expect_still("aio");
		syscall(SYS_io_destroy, context);
	}
	expect_moving("aio");
}

static void watch(int inherited)
{
	int fd, other;

	in_pool = place_of(heap) >= 0;
	if (inherited >= 0) {
		expect_still("an inherited descriptor");
		close(inherited);
	}
	expect_moving("an inherited descriptor");
	fd = open_file(O_DIRECT);
	expect_still("open");
	other = dup(fd);
	close(fd);
	expect_still("dup");
	close(other);
	expect_moving("open and dup");
	fd = open_file(0);
	expect_moving("a file that is buffered");
	fcntl(fd, F_SETFL, O_DIRECT);
	expect_still("fcntl");
	fcntl(fd, F_SETFL, 0);
	expect_moving("fcntl");
	close(fd);
	fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_DIRECT);
	expect_still("syscall");
	close(fd);
	expect_moving("syscall");
	fd = raw_open();
	usleep(100000); /* nobody is told: seen by the next look */
	expect_still("an instruction");
	close(fd);
	expect_moving("an instruction");
	fd = passed_descriptor();
	expect_still("a descriptor from another process");
	close(fd);
	expect_moving("a descriptor from another process");
	watch_rings();
}

/* ---- Main --------------------------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
	const char *name = argv[argc - 1], *inherited = getenv("DIRECT_IO_INHERITED");
	char *junk;

	for (int i = 1; i + 1 < argc; i++) {
		if (strcmp(argv[i], "--seconds") == 0)
			seconds = atof(argv[i + 1]);
		if (strcmp(argv[i], "--dir") == 0)
			snprintf(path, sizeof(path), "%s/direct_io.file", argv[i + 1]);
	}
	make_file();
	if (strcmp(name, "watch") == 0 && !inherited) { /* so that one is there from the start */
		char number[16];

		snprintf(number, sizeof(number), "%d", open_file(O_DIRECT));
		setenv("DIRECT_IO_INHERITED", number, 1);
		execv("/proc/self/exe", argv);
		die("exec: %s", strerror(errno));
	}
	junk = malloc(16 << 20);
	heap = malloc(FILE_BYTES + ALIGNMENT);
	if (!junk || !heap)
		die("no memory");
	memset(junk, 1, 16 << 20);
	heap = (char *)(((uintptr_t)heap + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
	memset(heap, 2, FILE_BYTES);
	if (strcmp(name, "read") == 0)
		direct_reads();
	else if (strcmp(name, "write") == 0)
		direct_writes();
	else if (strcmp(name, "io_uring") == 0)
		ring_reads(true);
	else if (strcmp(name, "io_uring-blind") == 0)
		ring_reads(false);
	else if (strcmp(name, "aio") == 0)
		aio_reads();
	else if (strcmp(name, "watch") == 0)
		watch(atoi(inherited));
	else if (strcmp(name, "hold") == 0 && open_file(O_DIRECT) >= 0)
		usleep((unsigned)(seconds * 1e6));
	else if (strcmp(name, "probe") == 0)
		close(open_file(O_DIRECT));
	else
		die("no such case: %s", name);
	printf("%s: right\n", name);
	unlink(path);
	free(junk);
	return 0;
}
