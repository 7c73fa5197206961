// SPDX-License-Identifier: MIT
/*
 * Tenant: closes all descriptors that it doesn't know, as daemons do, in every way there is, and puts a
 * file of its own under each number. Its heap must not notice, and must go on moving; its file must
 * hold what it wrote there, and nothing of the heap.
 *
 *     descriptors --dir DIR WAY
 *
 * WAY: close, close_range, closefrom, syscall, dup2, listed (what /proc/self/fd shows), instruction (system
 * calls that no library sees), standard (the numbers 0 to 2)
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 1 << 20, BLOCKS = 24, FILE_BYTES = 64 << 10 };
#define WATCHED blocks[BLOCKS / 2 - 1] /* the first ones may lie outside the pool */

static char path[4096];
static int output; /* a copy of standard output that is kept */

enum { LEFT = 12 }; /* numbers that the program leaves to others, of those above */

__attribute__((format(printf, 1, 2))) static _Noreturn void die(const char *format, ...)
{
	char text[512] = "WRONG: ";
	va_list args;

	va_start(args, format);
	vsnprintf(text + 7, sizeof(text) - 8, format, args);
	va_end(args);
	strcat(text, "\n");
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		_exit(2);
	_exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- A heap with known contents ---------------------------------------------------------------------- */

static uint64_t *blocks[BLOCKS];

static void make_blocks(int from, int to)
{
	for (int i = from; i < to; i++) {
		blocks[i] = malloc(BLOCK);
		if (!blocks[i])
			die("no memory");
		for (size_t k = 0; k < BLOCK / 8; k++)
			blocks[i][k] = k * 0x9E3779B97F4A7C15u + (uint64_t)i;
	}
}

static void check_blocks(const char *when)
{
	for (int i = 0; i < BLOCKS && blocks[i]; i++)
		for (size_t k = 0; k < BLOCK / 8; k++)
			if (blocks[i][k] != k * 0x9E3779B97F4A7C15u + (uint64_t)i)
				die("%s: block %d word %zu", when, i, k);
}

/* Where an address is in the pool's file; -1: it isn't there. Without stdio's buffers. */
static int64_t place_of(const void *address)
{
	static char text[1 << 20];
	const double end = now() + 1.5;
	size_t length = 0;
	ssize_t more;
	int fd;

	/* The few that are left serve Berth's own threads, too, for a moment each. */
	while ((fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC)) < 0 && errno == EMFILE &&
	       now() < end)
		usleep(1000);
	if (fd < 0)
		die("no descriptor to look at the mappings");
	while ((more = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += (size_t)more;
	close(fd);
	text[length] = 0;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		unsigned long start, end, offset;

		if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 &&
		    (uintptr_t)address >= start && (uintptr_t)address < end)
			return strstr(line, "memfd:berth-pool") ?
				       (int64_t)(offset + ((uintptr_t)address - start)) :
				       -1;
	}
	return -1;
}

static void expect_moving(void)
{
	const int64_t place = place_of(WATCHED);
	const double end = now() + 1.5;

	while (place_of(WATCHED) == place) {
		if (now() > end)
			die("the heap doesn't move any more");
		usleep(1000);
	}
}

/* ---- Closing ------------------------------------------------------------------------------------------ */

static long by_instruction(long number, long a)
{
#ifdef __x86_64__
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "0"(number), "D"(a) : "rcx", "r11", "memory");
	return result;
#else
	return syscall(number, a);
#endif
}

static void close_listed(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	if (!dir)
		die("opendir: %s", strerror(errno));
	while ((entry = readdir(dir))) {
		int fd = atoi(entry->d_name);

		if (entry->d_name[0] != '.' && fd > 2 && fd != output && fd != dirfd(dir))
			close(fd); /* it may not be there, or not be ours: as daemons do, without a look */
	}
	closedir(dir);
}

static void close_all(const char *way, int limit)
{
	if (strcmp(way, "close_range") == 0) {
		close_range((unsigned)output + 1, ~0u, 0);
	} else if (strcmp(way, "closefrom") == 0) {
		closefrom(output + 1);
	} else if (strcmp(way, "listed") == 0) {
		close_listed();
	} else if (strcmp(way, "standard") == 0) {
		for (int fd = 0; fd <= 2; fd++) {
			close(fd);
			if (open("/dev/null", O_RDWR) != fd)
				die("the lowest number wasn't given: %d", fd);
		}
	} else {
		for (int fd = output + 1; fd < limit; fd++) {
			if (strcmp(way, "close") == 0)
				close(fd);
			else if (strcmp(way, "syscall") == 0)
				syscall(SYS_close, fd);
			else if (strcmp(way, "instruction") == 0)
				by_instruction(SYS_close, fd);
			else if (strcmp(way, "dup2") == 0)
				dup2(output, fd);
			else
				die("no such way: %s", way);
		}
		if (strcmp(way, "dup2") == 0)
			close_range((unsigned)output + 1, ~0u, 0);
	}
}

/* ---- A file under each number ----------------------------------------------------------------------------- */

static void fill_numbers(int limit)
{
	static char text[FILE_BYTES];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	memset(text, 'f', sizeof(text));
	if (write(fd, text, sizeof(text)) != sizeof(text))
		die("write: %s", strerror(errno));
	while (fd >= 0 && fd < limit - 4) { /* a few are left for others */
		int next = open(path, O_RDWR);

		if (next < 0)
			break;
		fd = next;
	}
	close(fd);
	close(fd - 1);
	/* And low ones, which nobody had before: Berth opens what it has lost, and its threads others for a moment. */
	for (fd = output + 1; fd <= output + LEFT; fd++)
		close(fd);
}

static void check_file(void)
{
	static char text[FILE_BYTES + 1];
	int fd = open(path, O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof(text)) != FILE_BYTES)
		die("the file has changed its size, or can't be opened: %s", strerror(errno));
	for (int i = 0; i < FILE_BYTES; i++)
		if (text[i] != 'f')
			die("the file's byte %d was written by somebody else", i);
	close(fd);
}

/* Those that a program sees are its own. */
static void count_open(int limit)
{
	int nr = 0;

	for (int fd = 0; fd < limit; fd++)
		nr += fcntl(fd, F_GETFD) >= 0;
	dprintf(output, "%d descriptors\n", nr);
}

static void check_child(void)
{
	int status = 1;
	pid_t child = fork();

	if (child < 0)
		die("fork: %s", strerror(errno));
	if (child == 0) {
		check_blocks("in a child");
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status)
		die("a child ended with status %#x", (unsigned)status);
}

int main(int argc, char **argv)
{
	const char *way = argv[argc - 1];
	struct rlimit limit = { 1024, 1024 };
	bool in_pool;

	if (argc != 4)
		return 2;
	snprintf(path, sizeof(path), "%s/descriptors.file", argv[2]);
	setrlimit(RLIMIT_NOFILE, &limit);
	output = dup2(STDOUT_FILENO, 3);
	make_blocks(0, BLOCKS / 2);
	in_pool = place_of(WATCHED) >= 0;
	count_open(1024);
	close_all(way, 1024);
	fill_numbers(1024);
	make_blocks(BLOCKS / 2, BLOCKS); /* memory that is mapped only now */
	if (in_pool)
		expect_moving();
	check_blocks("after closing");
	if (strcmp(way, "instruction") != 0)
		check_child();
	check_file();
	unlink(path);
	dprintf(output, "%s: right\n", way);
	return 0;
}
