// SPDX-License-Identifier: MIT
/*
 * Tenant: threads hold the locks of their FILEs while another thread forks.
 *
 * glibc's fork resets the locks of all FILEs in the child before any handler of
 * the child runs. A FILE lives in the heap. If parent and child still share the
 * heap at that moment, the child unlocks the *parent's* FILE: two threads then
 * write into one buffer, lines are lost or mixed, or a thread hangs.
 *
 * Some threads write numbered lines to one shared FILE, in many small pieces
 * under flockfile, and to FILEs of their own. One thread forks without pause;
 * children end at once, or check a snapshot of the heap that the parent goes on
 * to change, or lock every FILE, or use malloc. At the end the files are read
 * back: each line complete, none lost, none twice, in order.
 *
 * Standard output says the same for every run that went well.
 *
 *     fork_file_locks [--seconds S] [--dir DIR]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	WRITERS = 4,
	PIECES = 12,
	SNAPSHOT_WORDS = 64 * 1024,
	STUCK_SECONDS = 45, /* no fork or no line for so long counts as hung */
};

static FILE *shared_file;
static FILE *own_file[WRITERS];
static char own_path[WRITERS][512];
static char shared_path[512];
static _Atomic uint64_t lines_written[WRITERS];
static _Atomic uint64_t forks;
static _Atomic bool stop;
static _Atomic int holder; /* who is inside flockfile(shared_file); 0: nobody */
static _Atomic uint64_t intruders;

static void *(*volatile opaque_calloc)(size_t, size_t) =
	calloc; /* so that no check of its zeros is folded */
static uint64_t *
	snapshot; /* SNAPSHOT_WORDS words that always hold base + i while the forker is outside an update */

__attribute__((format(printf, 1, 2))) static void die(const char *format, ...)
{
	char line[512];
	va_list args;

	va_start(args, format);
	int length = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	if (length < 0)
		length = 0;
	if ((size_t)length > sizeof(line) - 2)
		length = sizeof(line) - 2;
	line[length] = '\n';
	/* not stdio: its locks are what is under test */
	ssize_t ignored = write(2, line, (size_t)length + 1);
	(void)ignored;
	_exit(1);
}

static void on_alarm(int number)
{
	(void)number;
	die("hung: a thread doesn't end");
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The text of piece `piece` of line `line` of writer `writer`. */
static int piece_text(char *to, size_t size, int writer, uint64_t line, int piece)
{
	return snprintf(to, size, "%c%llx.", 'a' + writer,
			(unsigned long long)((line + 1) * 0x9E3779B1u * (unsigned)(piece + 1)));
}

static void *writer_main(void *arg)
{
	int writer = (int)(intptr_t)arg;

	for (uint64_t line = 0; !stop; line++) {
		char text[64];

		flockfile(shared_file);
		if (atomic_exchange(&holder, writer + 1) != 0)
			intruders++;
		fprintf(shared_file, "%d %llu", writer, (unsigned long long)line);
		for (int piece = 0; piece < PIECES; piece++) {
			piece_text(text, sizeof(text), writer, line, piece);
			if (fprintf(shared_file, " %s", text) < 0)
				die("a write to the shared FILE failed: %s", strerror(errno));
			if (piece == PIECES / 2)
				usleep(20); /* somebody holds the lock nearly always */
		}
		putc('\n', shared_file);
		if (atomic_exchange(&holder, 0) != writer + 1)
			intruders++;
		funlockfile(shared_file);

		/* one call, the library's own locking */
		piece_text(text, sizeof(text), writer, line, 0);
		if (fprintf(own_file[writer], "%llu %s %s %s\n", (unsigned long long)line, text,
			    text, text) < 0)
			die("a write to a FILE failed: %s", strerror(errno));
		lines_written[writer] = line + 1;
	}
	return NULL;
}

/* Opens and closes FILEs all the time: the list of FILEs changes while fork walks it. */
static void *opener_main(void *arg)
{
	uint64_t *turns = arg;

	while (!stop) {
		FILE *file = tmpfile();
		char back[64] = "";

		if (file == NULL)
			die("tmpfile: %s", strerror(errno));
		fprintf(file, "turn %llu\n", (unsigned long long)*turns);
		rewind(file);
		unsigned long long got = 0;
		if (fgets(back, sizeof(back), file) == NULL ||
		    sscanf(back, "turn %llu", &got) != 1 || got != *turns)
			die("a temporary FILE gave back \"%s\" instead of turn %llu", back,
			    (unsigned long long)*turns);
		fclose(file);
		(*turns)++;
		usleep(300);
	}
	return NULL;
}

static _Noreturn void child_main(uint64_t turn, uint64_t base, const int *go)
{
	close(go[1]); /* a parent that dies lets us go, too */
	signal(SIGALRM, SIG_DFL);
	alarm(STUCK_SECONDS); /* a child that hangs dies of SIGALRM */
	if (turn % 3 == 1) {
		/* the parent changes the words before it lets us go */
		char byte;
		if (read(go[0], &byte, 1) != 1)
			_exit(10);
		for (size_t i = 0; i < SNAPSHOT_WORDS; i++) {
			if (snapshot[i] != base + i)
				_exit(11);
		}
		/* and must not see our changes */
		memset(snapshot, 0xee, SNAPSHOT_WORDS * sizeof(*snapshot));
	} else if (turn % 3 == 2) {
		/* nobody holds a lock in the child: the threads that did don't exist here */
		flockfile(shared_file);
		funlockfile(shared_file);
		for (int i = 0; i < WRITERS; i++) {
			flockfile(own_file[i]);
			funlockfile(own_file[i]);
		}
		for (size_t size = 1; size < 300000; size = size * 3 + 1) {
			unsigned char *p = opaque_calloc(1, size);
			if (p == NULL || p[0] != 0 || p[size - 1] != 0)
				_exit(12);
			memset(p, 0x5a, size);
			free(p);
		}
	}
	_exit(0);
}

static void *forker_main(void *arg)
{
	(void)arg;
	for (uint64_t turn = 0; !stop; turn++) {
		int go[2];
		uint64_t base = turn * 1000003;

		for (size_t i = 0; i < SNAPSHOT_WORDS; i++)
			snapshot[i] = base + i;
		if (pipe(go) != 0)
			die("pipe: %s", strerror(errno));
		pid_t pid = fork();
		if (pid < 0)
			die("fork: %s", strerror(errno));
		if (pid == 0)
			child_main(turn, base, go);
		for (size_t i = 0; i < SNAPSHOT_WORDS; i++)
			snapshot[i] = ~(base + i);
		if (write(go[1], "g", 1) != 1)
			die("write to a child's pipe: %s", strerror(errno));
		int status = 0;
		while (waitpid(pid, &status, 0) < 0) {
			if (errno != EINTR)
				die("waitpid: %s", strerror(errno));
		}
		if (WIFSIGNALED(status))
			die("child %llu was killed by signal %d%s", (unsigned long long)turn,
			    WTERMSIG(status), WTERMSIG(status) == SIGALRM ? " (it hung)" : "");
		if (WEXITSTATUS(status) != 0)
			die("child %llu ended with status %d (11: its snapshot was wrong, 12: fresh memory was wrong)",
			    (unsigned long long)turn, WEXITSTATUS(status));
		for (size_t i = 0; i < SNAPSHOT_WORDS; i++) {
			if (snapshot[i] != ~(base + i))
				die("the parent sees what child %llu wrote",
				    (unsigned long long)turn);
		}
		close(go[0]);
		close(go[1]);
		forks++;
	}
	return NULL;
}

/* Read the files back and compare with what was to be written. */
static char *slurp(const char *path, size_t *size)
{
	FILE *file = fopen(path, "r");

	if (file == NULL || fseek(file, 0, SEEK_END) != 0)
		die("%s: %s", path, strerror(errno));
	long length = ftell(file);
	rewind(file);
	char *text = malloc((size_t)length + 1);
	if (text == NULL || fread(text, 1, (size_t)length, file) != (size_t)length)
		die("%s can't be read back", path);
	text[length] = '\0';
	fclose(file);
	*size = (size_t)length;
	return text;
}

static uint64_t check_shared(void)
{
	size_t size;
	char *text = slurp(shared_path, &size);
	uint64_t next[WRITERS] = { 0 };
	uint64_t wrong = 0;
	char *at = text;

	while (at < text + size) {
		char *end = memchr(at, '\n', (size_t)(text + size - at));
		int writer = -1, used = 0;
		unsigned long long line = 0;

		if (end == NULL) {
			wrong++;
			break;
		}
		*end = '\0';
		bool good = sscanf(at, "%d %llu%n", &writer, &line, &used) == 2 && writer >= 0 &&
			    writer < WRITERS && line == next[writer];
		if (good) {
			char wanted[PIECES * 40] = "", piece[64];
			size_t length = 0;
			for (int i = 0; i < PIECES; i++) {
				piece_text(piece, sizeof(piece), writer, line, i);
				length += (size_t)snprintf(wanted + length, sizeof(wanted) - length,
							   " %s", piece);
			}
			good = strcmp(at + used, wanted) == 0;
			next[writer]++;
		}
		if (!good) {
			if (wrong == 0)
				fprintf(stderr, "first wrong line: %.200s\n", at);
			wrong++;
		}
		at = end + 1;
	}
	for (int i = 0; i < WRITERS; i++) {
		if (next[i] != lines_written[i])
			wrong++;
	}
	free(text);
	return wrong;
}

static uint64_t check_own(int writer)
{
	size_t size;
	char *text = slurp(own_path[writer], &size);
	uint64_t line = 0, wrong = 0;
	char *at = text;

	for (; at < text + size; line++) {
		char *end = memchr(at, '\n', (size_t)(text + size - at));
		char piece[64], wanted[256];

		if (end == NULL) {
			wrong++;
			break;
		}
		*end = '\0';
		piece_text(piece, sizeof(piece), writer, line, 0);
		snprintf(wanted, sizeof(wanted), "%llu %s %s %s", (unsigned long long)line, piece,
			 piece, piece);
		if (strcmp(at, wanted) != 0) {
			if (wrong == 0)
				fprintf(stderr, "first wrong line of writer %d: %.200s\n", writer,
					at);
			wrong++;
		}
		at = end + 1;
	}
	if (line != lines_written[writer])
		wrong++;
	free(text);
	return wrong;
}

/* Returns when the time is over; ends the program when nothing goes on any more. */
static void watch(double seconds)
{
	double start = now_s(), changed = start;
	uint64_t last_forks = 0, last_lines = 0;

	while (now_s() - start < seconds || forks < 6) {
		uint64_t lines = lines_written[0];
		for (int i = 1; i < WRITERS; i++) /* the slowest writer */
			lines = lines_written[i] < lines ? lines_written[i] : lines;
		if (forks != last_forks && lines != last_lines) {
			last_forks = forks;
			last_lines = lines;
			changed = now_s();
		}
		if (now_s() - changed > STUCK_SECONDS)
			die("hung: %llu forks and %llu lines, nothing new for %d s",
			    (unsigned long long)last_forks, (unsigned long long)last_lines,
			    STUCK_SECONDS);
		usleep(10000);
	}
}

int main(int argc, char **argv)
{
	double seconds = 2;
	const char *dir = "/tmp";
	pthread_t thread[WRITERS + 2];
	uint64_t turns = 0;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--seconds") == 0)
			seconds = atof(argv[i + 1]);
		else if (strcmp(argv[i], "--dir") == 0)
			dir = argv[i + 1];
	}
	snapshot = malloc(SNAPSHOT_WORDS * sizeof(*snapshot));
	snprintf(shared_path, sizeof(shared_path), "%s/ffl-shared.%d", dir, (int)getpid());
	shared_file = fopen(shared_path, "w");
	if (snapshot == NULL || shared_file == NULL)
		die("%s: %s", shared_path, strerror(errno));
	for (int i = 0; i < WRITERS; i++) {
		snprintf(own_path[i], sizeof(own_path[i]), "%s/ffl-%d.%d", dir, i, (int)getpid());
		own_file[i] = fopen(own_path[i], "w");
		if (own_file[i] == NULL)
			die("%s: %s", own_path[i], strerror(errno));
	}

	for (int i = 0; i < WRITERS; i++)
		pthread_create(&thread[i], NULL, writer_main, (void *)(intptr_t)i);
	pthread_create(&thread[WRITERS], NULL, opener_main, &turns);
	pthread_create(&thread[WRITERS + 1], NULL, forker_main, NULL);
	watch(seconds);
	stop = true;
	signal(SIGALRM, on_alarm);
	alarm(STUCK_SECONDS); /* a thread that can't be joined any more */
	for (int i = 0; i < WRITERS + 2; i++)
		pthread_join(thread[i], NULL);
	alarm(0);

	uint64_t lines = 0;
	if (fclose(shared_file) != 0)
		die("the shared FILE: %s", strerror(errno));
	for (int i = 0; i < WRITERS; i++) {
		lines += lines_written[i];
		if (fclose(own_file[i]) != 0)
			die("a FILE: %s", strerror(errno));
	}
	uint64_t shared_wrong = check_shared(), own_wrong = 0;
	for (int i = 0; i < WRITERS; i++) {
		own_wrong += check_own(i);
		unlink(own_path[i]);
	}
	unlink(shared_path);
	printf("lines wrong in the shared file: %llu\n", (unsigned long long)shared_wrong);
	printf("lines wrong in the other files: %llu\n", (unsigned long long)own_wrong);
	printf("two threads inside one lock: %llu\n", (unsigned long long)intruders);
	fprintf(stderr, "%llu lines, %llu forks, %llu temporary files\n", (unsigned long long)lines,
		(unsigned long long)forks, (unsigned long long)turns);
	free(snapshot);
	return shared_wrong + own_wrong + intruders == 0 ? 0 : 1;
}
