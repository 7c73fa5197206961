// SPDX-License-Identifier: MIT
/*
 * Tenant: programs that lock themselves in, change their user, or have little of something.
 *
 *     sandbox CASE
 *
 * filter, filter-all     a seccomp filter that kills for each system call that this program bare doesn't
 *                        need, for this thread and for all (TSYNC)
 * filter-fork            likewise, and then a child
 * strict                 seccomp's strict mode: read, write and exit
 * unshare                a new user namespace, which only a process with one thread can have
 * setuid                 another user, in all threads
 * chroot                 a root without /proc
 * plain                  nothing of the kind; for limits
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 1 << 20, BLOCKS = 24 };

static uint64_t *blocks[BLOCKS];
static int maps; /* /proc/self/maps */

static void say(const char *text)
{
	if (write(STDOUT_FILENO, text, strlen(text)) < 0)
		_exit(3);
}

static _Noreturn void die(const char *what)
{
	if (write(STDERR_FILENO, "WRONG: ", 7) < 0 ||
	    write(STDERR_FILENO, what, strlen(what)) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
		_exit(3);
	_exit(1);
}

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

static void check_blocks(void)
{
	for (int i = 0; i < BLOCKS && blocks[i]; i++)
		for (size_t k = 0; k < BLOCK / 8; k++)
			if (blocks[i][k] != k * 0x9E3779B97F4A7C15u + (uint64_t)i)
				die("contents");
}

/* Everything that malloc does: more, less, other sizes, and back. */
static void use_heap(void)
{
	make_blocks(BLOCKS / 2, BLOCKS);
	for (int round = 0; round < 40; round++) {
		char *some[64];

		for (int i = 0; i < 64; i++) {
			some[i] = malloc((size_t)(i * round * 37 + 1));
			memset(some[i], i, (size_t)(i * round * 37 + 1));
		}
		for (int i = 0; i < 64; i++)
			free(some[i]);
	}
	blocks[BLOCKS - 1] = realloc(blocks[BLOCKS - 1], 8 * BLOCK);
	check_blocks();
	free(blocks[BLOCKS - 1]);
	blocks[BLOCKS - 1] = NULL;
}

/* ---- Does it move? ---------------------------------------------------------------------------------------- */

/* Where an address is in the pool's file; -1: it isn't there. */
static int64_t place_of(const void *address)
{
	static char text[1 << 20];
	size_t length = 0;
	ssize_t more;

	lseek(maps, 0, SEEK_SET);
	while ((more = read(maps, text + length, sizeof(text) - 1 - length)) > 0)
		length += (size_t)more;
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
	const int64_t place = place_of(blocks[BLOCKS / 2 - 1]);
	struct timespec pause = { .tv_nsec = 1000000 };

	for (int i = 0; place >= 0 && place_of(blocks[BLOCKS / 2 - 1]) == place; i++) {
		if (i == 3000)
			die("the heap doesn't move any more");
		nanosleep(&pause, NULL);
	}
}

/* ---- Filters -------------------------------------------------------------------------------------------- */

static const int allowed[] = {
	SYS_read,
	SYS_write,
	SYS_exit,
	SYS_exit_group,
	SYS_brk,
	SYS_mmap,
	SYS_munmap,
	SYS_mprotect,
	SYS_mremap,
	SYS_madvise,
	SYS_futex,
	SYS_rt_sigprocmask,
	SYS_rt_sigreturn,
	/* a child */
	SYS_clone,
	SYS_wait4,
	SYS_set_robust_list,
	SYS_gettid,
	SYS_getpid,
	SYS_getppid,
	SYS_rseq,
};
enum { NR_ALLOWED = sizeof(allowed) / sizeof(allowed[0]) };

static void install_filter(unsigned flags)
{
	struct sock_filter code[NR_ALLOWED + 3];
	struct sock_fprog program = { NR_ALLOWED + 3, code };
	int n = 0;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						 offsetof(struct seccomp_data, nr));
	for (int i = 0; i < NR_ALLOWED; i++)
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							 (unsigned)allowed[i],
							 (uint8_t)(NR_ALLOWED - i), 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		die("no_new_privs");
	if (flags ? syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) != 0 :
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		die("the filter");
}

static void have_child(void)
{
	pid_t child = fork();
	int status = 1;

	if (child == 0) {
		check_blocks();
		make_blocks(0, 2);
		check_blocks();
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
		die("the child");
}

static _Noreturn void be_strict(void)
{
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
		die("strict mode");
	check_blocks();
	say("strict: right\n");
	syscall(SYS_exit, 0);
	__builtin_unreachable();
}

/* ---- Others ----------------------------------------------------------------------------------------------- */

static void unshare_user(void)
{
	pid_t child;
	int status;

	if (unshare(CLONE_NEWUSER) != 0 && errno == EINVAL)
		die("unshare: there is a second thread");
	expect_moving();
	child = fork(); /* and in a child, at once */
	if (child == 0)
		_exit(unshare(CLONE_NEWUSER) != 0 && errno == EINVAL);
	if (waitpid(child, &status, 0) != child || status != 0)
		die("unshare in a child");
}

static void change_user(void)
{
	if (getuid() == 0 &&
	    (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0))
		die("setresuid");
	expect_moving();
}

static void change_root(void)
{
	char dir[] = "/tmp/berth-root.XXXXXX";

	if (getuid() == 0 &&
	    (!mkdtemp(dir) || chroot(dir) != 0 || chdir("/") != 0 || rmdir("/../..") == 0))
		die("chroot");
	expect_moving();
}

/* The first thread ends before the others, and the process when the last one has. */
static void *linger(void *unused)
{
	usleep(50000);
	use_heap();
	say("a thread: right\n");
	return unused;
}

static void at_end(void)
{
	say("the end\n");
}

static void let_threads_end(bool raw)
{
	pthread_t thread;

	atexit(at_end);
	if (pthread_create(&thread, NULL, linger, NULL) != 0)
		die("no thread");
	if (raw)
		syscall(SYS_exit, 0);
	pthread_exit(NULL);
}

int main(int argc, char **argv)
{
	const char *name = argv[argc - 1];

	maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	make_blocks(0, BLOCKS / 2);
	if (strcmp(name, "filter") == 0 || strcmp(name, "filter-fork") == 0)
		install_filter(0);
	else if (strcmp(name, "filter-all") == 0)
		install_filter(SECCOMP_FILTER_FLAG_TSYNC);
	else if (strcmp(name, "strict") == 0)
		be_strict();
	else if (strcmp(name, "unshare") == 0)
		unshare_user();
	else if (strcmp(name, "setuid") == 0)
		change_user();
	else if (strcmp(name, "chroot") == 0)
		change_root();
	else if (strncmp(name, "last-thread", 11) == 0)
		let_threads_end(strcmp(name, "last-thread-raw") == 0);
	else if (strcmp(name, "plain") != 0)
		die("no such case");
	use_heap();
	if (strcmp(name, "filter-fork") == 0)
		have_child();
	say(name);
	say(": right\n");
	return 0;
}
