/* SPDX-License-Identifier: MIT */
/*
 * For tenants that put their heap to uses which a move could break, case by case.
 *
 *	PROGRAM --list          a line for each case: its name, and the treatments without which it fails
 *	PROGRAM [CASE...]       runs these, or all; prints "CASE: as it must be" for each
 *
 * Each case lets the heap move in the middle: it waits until a page beside its own has changed its place
 * in the pool several times. In a bare run, or with TRAPS_STILL set, it doesn't wait. What breaks is said
 * on standard error, and the exit status is 1; a case that hangs ends after TRAPS_PATIENCE seconds.
 *
 * Include it once, first, and end with traps_main().
 */
#ifndef TENANTS_TRAPS_H
#define TENANTS_TRAPS_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define POOL_NAME "memfd:berth"

static const char *current = "start";
static unsigned patience = 30;
static bool still;

static _Noreturn void broken(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", current);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(1);
}

static void on_alarm(int number)
{
	static const char text[] = ": hangs\n";

	(void)number;
	if (write(STDERR_FILENO, current, strlen(current)) < 0 ||
	    write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(2);
	_exit(1);
}

#define must(what)                                                           \
	do {                                                                 \
		if (!(what))                                                 \
			broken("%s: %s (errno %d)", #what, "failed", errno); \
	} while (0)

/* ---- Where memory is ---------------------------------------------------------------------------------------- */

struct place {
	bool mapped, pool, locked;
	uint64_t offset; /* in the pool */
};

static inline bool parse_mapping(const char *line, uint64_t at, struct place *place)
{
	unsigned long long start, end, offset;

	if (sscanf(line, "%llx-%llx %*s %llx", &start, &end, &offset) != 3 || at < start ||
	    at >= end)
		return false;
	place->mapped = true;
	place->pool = strstr(line, POOL_NAME) != NULL;
	place->offset = offset + (at - start);
	return true;
}

/* Reads it without stdio, whose buffer is on the heap; `smaps` also tells whether it's locked. */
static inline struct place place_of(const volatile void *address, const char *file)
{
	static char text[1 << 20];
	struct place place = { 0 };
	size_t length = 0;
	ssize_t got;
	int fd = open(file, O_RDONLY);

	must(fd >= 0);
	while ((got = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += (size_t)got;
	close(fd);
	text[length] = 0;
	for (char *line = text, *next; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		if (place.mapped && strncmp(line, "VmFlags:", 8) == 0) {
			place.locked = strstr(line, " lo") != NULL;
			return place;
		}
		if (!place.mapped && parse_mapping(line, (uintptr_t)address, &place) &&
		    strcmp(file, "/proc/self/maps") == 0)
			return place;
	}
	return place;
}

static char *neighbour; /* a page in the pool, NULL in a bare run */

/* Until the neighbour has moved several times: whatever moves has then moved, too. */
static inline void let_move(void)
{
	enum { TIMES = 3 };
	uint64_t last;

	if (!neighbour || still)
		return;
	last = place_of(neighbour, "/proc/self/maps").offset;
	for (int moves = 0; moves < TIMES;) {
		struct place now = place_of(neighbour, "/proc/self/maps");

		if (now.offset != last)
			moves++;
		last = now.offset;
		usleep(1000);
	}
}

/* Whole pages of the heap, out of malloc. Under Berth: out of the pool. */
static inline void *in_pool(size_t bytes)
{
	static bool under_berth, known;

	for (int tries = 0; tries < 4096; tries++) {
		char *block = malloc(bytes + 2 * PAGE);
		char *at = block + (PAGE - (uintptr_t)block % PAGE);

		must(block);
		memset(block, 0x11, bytes + 2 * PAGE);
		if (!known) {
			const char *preload = getenv("BERTH_RUN");

			under_berth = preload && *preload;
			known = true;
		}
		if (!under_berth || place_of(at, "/proc/self/maps").pool)
			return at;
	}
	broken("no memory of the pool");
}

/* ---- Faults -------------------------------------------------------------------------------------------------- */

static sigjmp_buf after_fault;

static inline void on_fault(int number)
{
	siglongjmp(after_fault, number);
}

static inline bool faults(volatile char *at, bool writing)
{
	struct sigaction action = { .sa_handler = on_fault }, segv, bus;
	volatile bool fault = true;

	sigaction(SIGSEGV, &action, &segv);
	sigaction(SIGBUS, &action, &bus);
	if (sigsetjmp(after_fault, 1) == 0) {
		if (writing)
			*at = 1;
		else
			(void)*at;
		fault = false;
	}
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return fault;
}

static inline void check_bytes(const char *at, size_t bytes, int wanted, const char *what)
{
	for (size_t i = 0; i < bytes; i++)
		if (at[i] != (char)wanted)
			broken("%s: byte %zu is %02x instead of %02x", what, i, (uint8_t)at[i],
			       (uint8_t)wanted);
}

static inline int status_of_child(int (*child)(void *), void *arg)
{
	pid_t pid = fork();
	int status;

	must(pid >= 0);
	if (pid == 0)
		_exit(child(arg));
	must(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static inline int child_sees(void *arg)
{
	return *(volatile char *)arg;
}

/* ---- The cases ---- */

struct trap {
	const char *name, *treatments; /* NULL: none is needed */
	void (*run)(void);
};

static inline void run(const struct trap *trap)
{
	current = trap->name;
	alarm(patience);
	trap->run();
	alarm(0);
	printf("%s: as it must be\n", trap->name);
	fflush(stdout);
}

static inline void run_named(const struct trap *traps, int nr_traps, const char *name)
{
	for (int i = 0; i < nr_traps; i++) {
		if (strcmp(traps[i].name, name) == 0) {
			run(&traps[i]);
			return;
		}
	}
	broken("no case \"%s\"", name);
}

static inline int traps_main(int argc, char **argv, const struct trap *traps, int nr_traps)
{
	const char *seconds = getenv("TRAPS_PATIENCE");

	if (argc > 1 && strcmp(argv[1], "--list") == 0) {
		for (int i = 0; i < nr_traps; i++)
			printf("%s %s\n", traps[i].name,
			       traps[i].treatments ? traps[i].treatments : "-");
		return 0;
	}
	if (seconds)
		patience = (unsigned)atoi(seconds);
	still = getenv("TRAPS_STILL") != NULL;
	signal(SIGALRM, on_alarm);
	neighbour = in_pool(PAGE);
	if (!place_of(neighbour, "/proc/self/maps").pool)
		neighbour = NULL;
	if (argc == 1)
		for (int i = 0; i < nr_traps; i++)
			run(&traps[i]);
	for (int i = 1; i < argc; i++)
		run_named(traps, nr_traps, argv[i]);
	return 0;
}

#endif
