/* SPDX-License-Identifier: MIT */
/*
 * Starts the program and stays beside it.
 *
 * The program shares our process group, so what a terminal sends (SIGINT, SIGQUIT, SIGTSTP,
 * SIGWINCH) reaches it without us. So a signal is passed on only when a process sent it to us
 * (si_code <= 0), and not when the program itself did (it signalled its own group). A signal that
 * somebody sent to the whole group reaches the program twice; that can't be told from one sent to
 * us alone.
 *
 * When the program is stopped as a terminal stops it, so are we, and the shell sees it; when we are
 * continued, so is the program. All signals of interest are blocked and taken one by one, so
 * nothing here runs in a handler.
 */
#define _GNU_SOURCE
#include "tools/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tools/tool.h"

static const int passed_on[] = { SIGINT,  SIGTERM,  SIGHUP,  SIGQUIT, SIGUSR1,
				 SIGUSR2, SIGWINCH, SIGCONT, SIGTSTP };

/* The signals' state as we found it, for the program. */
struct inherited {
	sigset_t mask;
	struct sigaction child, pipe;
};

static void take_signals(struct inherited *inherited, sigset_t *taken)
{
	const struct sigaction standard = { .sa_handler = SIG_DFL };
	const struct sigaction ignore = { .sa_handler = SIG_IGN };

	sigemptyset(taken);
	sigaddset(taken, SIGCHLD);
	for (size_t i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++)
		sigaddset(taken, passed_on[i]);
	sigprocmask(SIG_BLOCK, taken, &inherited->mask);
	/* An ignored SIGCHLD would keep the program's status from us; a report that nobody reads
	 * must not end us. */
	sigaction(SIGCHLD, &standard, &inherited->child);
	sigaction(SIGPIPE, &ignore, &inherited->pipe);
}

static void give_signals_back(const struct inherited *inherited)
{
	sigaction(SIGCHLD, &inherited->child, NULL);
	sigaction(SIGPIPE, &inherited->pipe, NULL);
	sigprocmask(SIG_SETMASK, &inherited->mask, NULL);
}

/* ---- In the child ---------------------------------------------------------------------------- */

static int set_environment(const struct berth__launch *launch, pid_t tool)
{
	const char *others = getenv("LD_PRELOAD");
	size_t bytes = strlen(launch->preload) + (others ? strlen(others) : 0) + 2;
	char *libraries = malloc(bytes), path[64];
	int failed;

	if (!libraries)
		return -1;
	snprintf(libraries, bytes, "%s%s%s", launch->preload, others && *others ? ":" : "",
		 others ? others : "");
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)tool, launch->record_fd);
	failed = setenv("LD_PRELOAD", libraries, 1) | setenv(BERTH_RUN_ENV, path, 1);
	free(libraries);
	return failed;
}

static _Noreturn void become(const struct berth__launch *launch, pid_t tool, int error_fd,
			     const struct inherited *inherited)
{
	struct timespec now;
	int error;

	if (set_environment(launch, tool) == 0) {
		give_signals_back(inherited);
		clock_gettime(CLOCK_MONOTONIC, &now);
		launch->record->root_pid = getpid();
		launch->record->start_ns = (uint64_t)now.tv_sec * 1000000000u +
					   (uint64_t)now.tv_nsec;
		execvp(launch->argv[0], launch->argv);
	}
	error = errno;
	while (write(error_fd, &error, sizeof(error)) < 0 && errno == EINTR)
		;
	_exit(127);
}

/* ---- Beside it ------------------------------------------------------------------------------- */

/* As if the terminal had stopped us too; returns when we are continued. */
static void stop_too(int number)
{
	const struct timespec now = { 0 };
	sigset_t one, cont, old;

	sigemptyset(&one);
	sigaddset(&one, number);
	raise(number); /* pending, as long as it's blocked */
	sigprocmask(SIG_UNBLOCK, &one, &old);
	sigprocmask(SIG_SETMASK, &old, NULL);
	sigemptyset(&cont);
	sigaddset(&cont, SIGCONT);
	sigtimedwait(&cont, NULL, &now); /* this one is served */
}

static bool stopped_by_terminal(int status)
{
	return WIFSTOPPED(status) && (WSTOPSIG(status) == SIGTSTP || WSTOPSIG(status) == SIGTTIN ||
				      WSTOPSIG(status) == SIGTTOU);
}

/* True when the program has ended. */
static bool look_after(pid_t child, int *status, bool *stopped)
{
	bool resume = false;

	while (waitpid(child, status, WNOHANG | WUNTRACED | WCONTINUED) == child) {
		*stopped = WIFSTOPPED(*status);
		if (WIFEXITED(*status) || WIFSIGNALED(*status))
			return true;
		resume = stopped_by_terminal(*status);
		if (resume)
			stop_too(WSTOPSIG(*status));
	}
	if (resume) /* only we were continued */
		kill(child, SIGCONT);
	return false;
}

static void stay_beside(pid_t child, const sigset_t *taken, int *status)
{
	bool stopped = false;

	while (!look_after(child, status, &stopped)) {
		siginfo_t info;
		int number = sigwaitinfo(taken, &info);

		if (number <= 0 || number == SIGCHLD)
			continue;
		if (info.si_code <= 0 && info.si_pid != child)
			kill(child, number);
		else if (number == SIGCONT && stopped)
			kill(child, SIGCONT);
		else if (number == SIGHUP && getsid(0) == getpid())
			kill(child, SIGHUP); /* a hangup reaches the session's leader only */
	}
}

/* 0 once the program is there, or the errno that kept it from that. */
static int wait_for_exec(int error_fd)
{
	int error = 0;

	while (read(error_fd, &error, sizeof(error)) < 0 && errno == EINTR)
		;
	return error;
}

static int failed(char *why, size_t why_bytes, int code, const char *what, int error)
{
	snprintf(why, why_bytes, "%s: %s", what, strerror(error));
	return code;
}

int berth__launch(const struct berth__launch *launch, int *status, char *why, size_t why_bytes)
{
	struct inherited inherited;
	pid_t child, tool = getpid();
	int error_fd[2], error;
	sigset_t taken;

	if (pipe2(error_fd, O_CLOEXEC) != 0)
		return failed(why, why_bytes, BERTH__EXIT_CANT_RUN, "can't be watched", errno);
	take_signals(&inherited, &taken);
	child = fork();
	if (child == 0)
		become(launch, tool, error_fd[1], &inherited);
	error = child < 0 ? errno : 0;
	close(error_fd[1]);
	if (!error)
		error = wait_for_exec(error_fd[0]);
	close(error_fd[0]);
	if (!error) {
		stay_beside(child, &taken, status);
		return 0;
	}
	if (child > 0)
		waitpid(child, status, 0);
	give_signals_back(&inherited);
	if (child < 0)
		return failed(why, why_bytes, BERTH__EXIT_CANT_RUN, "can't get a process", error);
	return failed(why, why_bytes,
		      error == ENOENT ? BERTH__EXIT_NOT_FOUND : BERTH__EXIT_NOT_EXECUTABLE,
		      "can't be executed", error);
}

void berth__die_by(int number)
{
	const struct sigaction standard = { .sa_handler = SIG_DFL };
	const struct rlimit none = { 0, 0 };
	sigset_t one;

	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0, 0, 0,
	      0); /* a core pattern that is a pipe asks this, not the limit */
	sigaction(number, &standard, NULL);
	sigemptyset(&one);
	sigaddset(&one, number);
	raise(number);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
}
