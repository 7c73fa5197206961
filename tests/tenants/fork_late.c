// SPDX-License-Identifier: MIT
/*
 * Tenant: children that fork and allocate just while they get a pool of their own.
 *
 * A forked child that lives on is given a pool a moment later, by a thread. Its forks must wait for
 * that, while the fork's first handlers have taken the allocator's locks: so whoever makes the pool
 * must not need these. Else both wait for ever.
 *
 * Some children at a time fork without pause for a while, and use malloc in between. Each says
 * by its exit status that its memory was right.
 *
 *     fork_late [--seconds S]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	CHILDREN = 4,
	CHILD_MS = 250, /* the pool comes well before */
	STUCK_SECONDS = 30,
};

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static _Noreturn void child_main(void)
{
	const double end = now_s() + CHILD_MS / 1e3;
	int turns = 0;

	alarm(STUCK_SECONDS); /* one that hangs dies of it */
	for (; now_s() < end || turns < 10; turns++) {
		size_t bytes = 1000 + (size_t)turns % 50 * 4000;
		unsigned char *p = calloc(1, bytes);
		int status;

		if (!p || p[bytes - 1])
			_exit(1);
		memset(p, turns & 0xff, bytes);
		pid_t pid = fork();
		if (pid == 0)
			_exit(p[bytes / 2] == (turns & 0xff) ? 0 : 1);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			_exit(2);
		if (p[0] != (turns & 0xff))
			_exit(3);
		free(p);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	double seconds = argc == 3 && strcmp(argv[1], "--seconds") == 0 ? atof(argv[2]) : 2;
	double end = now_s() + seconds;
	unsigned children = 0, wrong = 0;

	do {
		for (int i = 0; i < CHILDREN; i++) {
			pid_t pid = fork();
			if (pid == 0)
				child_main();
			wrong += pid < 0;
		}
		for (int status; wait(&status) > 0; children++) {
			if (status != 0 && wrong++ == 0)
				fprintf(stderr, "a child ended with wait status %#x%s\n",
					(unsigned)status,
					WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ?
						" (it hung)" :
						"");
		}
	} while (now_s() < end && !wrong);
	printf("children that went wrong: %u\n", wrong);
	fprintf(stderr, "%u children\n", children);
	return wrong != 0;
}
