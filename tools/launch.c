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
 * nothing here runs in a handler: a signalfd brings them, together with what the caller watches.
 */
#define _GNU_SOURCE
#include "tools/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
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

static _Noreturn void become(const struct berth__launch *launch, int error_fd,
			     const struct inherited *inherited)
{
	int error;

	if (launch->prepare(launch->context) == 0) {
		give_signals_back(inherited);
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

static void pass_on(const struct signalfd_siginfo *info, pid_t child, bool stopped)
{
	int number = (int)info->ssi_signo;

	if (number == SIGCHLD)
		return;
	if (info->ssi_code <= 0 && (pid_t)info->ssi_pid != child)
		kill(child, number);
	else if (number == SIGCONT && stopped)
		kill(child, SIGCONT);
	else if (number == SIGHUP && getsid(0) == getpid())
		kill(child, SIGHUP); /* a hangup reaches the session's leader only */
}

static void stay_beside(const struct berth__launch *launch, pid_t child, int signal_fd, int *status)
{
	struct pollfd watch[2] = { { .fd = signal_fd, .events = POLLIN },
				   { .fd = launch->watched_fd, .events = POLLIN } };
	bool stopped = false;

	while (!look_after(child, status, &stopped)) {
		struct signalfd_siginfo info;

		if (poll(watch, 2, -1) < 0)
			continue; /* interrupted by one that isn't ours */
		if (watch[1].revents && !launch->noticed(launch->context))
			watch[1].fd = -1;
		if (watch[0].revents && read(signal_fd, &info, sizeof(info)) == sizeof(info))
			pass_on(&info, child, stopped);
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

/* Starts it; 0 or an errno. *child > 0: it must be waited for. */
static int start(const struct berth__launch *launch, const struct inherited *inherited,
		 pid_t *child)
{
	int error_fd[2], error;

	*child = -1;
	if (pipe2(error_fd, O_CLOEXEC) != 0)
		return errno;
	*child = fork();
	if (*child == 0)
		become(launch, error_fd[1], inherited);
	error = *child < 0 ? errno : 0;
	close(error_fd[1]);
	if (!error)
		error = wait_for_exec(error_fd[0]);
	close(error_fd[0]);
	return error;
}

int berth__launch(const struct berth__launch *launch, int *status, char *why, size_t why_bytes)
{
	struct inherited inherited;
	sigset_t taken;
	int signal_fd, error;
	pid_t child;

	take_signals(&inherited, &taken);
	signal_fd = signalfd(-1, &taken, SFD_CLOEXEC);
	if (signal_fd < 0) {
		error = errno;
		give_signals_back(&inherited);
		return failed(why, why_bytes, BERTH__EXIT_CANT_RUN, "can't be watched", error);
	}
	error = start(launch, &inherited, &child);
	if (!error) {
		if (launch->started)
			launch->started(launch->context);
		stay_beside(launch, child, signal_fd, status);
	} else if (child > 0) {
		waitpid(child, status, 0);
	}
	close(signal_fd);
	if (!error)
		return 0;
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

int berth__end_as(int status)
{
	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status);
	fflush(NULL);
	berth__die_by(WTERMSIG(status));
	return 128 + WTERMSIG(status);
}
