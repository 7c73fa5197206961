// SPDX-License-Identifier: MIT
/*
 * The camera: a program that claims buffers out of another program's pool, by the public API alone.
 *
 *     camera PID [--claims N] [--size BYTES] [--hold MS]
 *
 * It attaches to the tenant PID, and N times (30) claims a buffer (128 MiB), sees that it is zero,
 * fills it with a pattern of its own, holds it (20 ms), checks each word, and gives it back. A claim
 * that fails because memory is held or scarce just then is made again, for up to 20 s.
 *
 * When the tenant ends meanwhile, the camera must hear of it. If it holds a buffer then, that is
 * checked, filled anew, checked again and released.
 *
 * Standard output has a line for each step ("claimed 3"); stderr has the figures. Exit status: 0, all
 * done; 3, the tenant has ended, and all was right; 1, something was wrong; 2, usage.
 */
#define _GNU_SOURCE
#include <berth/berth.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	PATIENCE_S = 20, /* for a claim, retries included, and for attaching */
	ENDED = 3,
};

static struct {
	long pid;
	unsigned claims, hold_ms;
	size_t bytes;
} options = { .claims = 30, .hold_ms = 20, .bytes = (size_t)128 << 20 };

static struct {
	unsigned done, retries;
	double claim_ms_sum, claim_ms_max;
} figures;

static _Noreturn __attribute__((format(printf, 1, 2))) void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("camera: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void pause_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (nanosleep(&t, &t) != 0 && errno == EINTR)
		;
}

/* ---- The buffer's contents ------------------------------------------------------------------------- */

static uint64_t word_of(uint64_t picture, size_t index)
{
	uint64_t x = (picture << 40 ^ index) * 0x9E3779B97F4A7C15u;

	return x ^ x >> 29;
}

static void fill(const struct berth_buffer *buffer, uint64_t picture)
{
	uint64_t *words = buffer->address;

	for (size_t i = 0; i < buffer->bytes / sizeof(*words); i++)
		words[i] = word_of(picture, i);
}

static void check(const struct berth_buffer *buffer, uint64_t picture, const char *when)
{
	const volatile uint64_t *words = buffer->address;
	size_t wrong = 0, first = 0;

	for (size_t i = 0; i < buffer->bytes / sizeof(*words); i++)
		if (words[i] != word_of(picture, i) && !wrong++)
			first = i;
	if (wrong)
		die("%s: %zu words of picture %llu are wrong, the first at byte %zu: %016llx", when,
		    wrong, (unsigned long long)picture, first * sizeof(*words),
		    (unsigned long long)words[first]);
}

static void check_zero(const struct berth_buffer *buffer)
{
	const uint64_t *words = buffer->address;

	for (size_t i = 0; i < buffer->bytes / sizeof(*words); i++)
		if (words[i])
			die("a fresh buffer isn't zero at byte %zu: %016llx", i * sizeof(*words),
			    (unsigned long long)words[i]);
}

/* ---- The tenant ------------------------------------------------------------------------------------ */

static struct berth_pool *attach(void)
{
	const double end = now_ms() + PATIENCE_S * 1e3;
	struct berth_pool *pool;
	int error;

	while ((error = berth_attach(options.pid, &pool)) != 0) {
		if (error == -ESRCH && kill((pid_t)options.pid, 0) != 0) {
			puts("ended before there was a pool");
			exit(ENDED);
		}
		/* it may not serve yet */
		if (error != -ESRCH || now_ms() > end)
			die("attaching to %ld: %s", options.pid, berth_strerror(error));
		pause_ms(5);
	}
	return pool;
}

/* Waits so long, or until the tenant ends. */
static bool tenant_ends(int token, unsigned ms)
{
	const double end = now_ms() + ms;
	struct pollfd entry = { .fd = token };

	for (double left = ms; left >= 0; left = end - now_ms()) {
		int ready = poll(&entry, 1, (int)left);
		if (ready < 0 && errno != EINTR)
			die("poll: %s", strerror(errno));
		if (ready > 0 && entry.revents & POLLHUP)
			return true;
		if (ready > 0)
			die("the token reports %#x", (unsigned)entry.revents);
	}
	return false;
}

/* False when the tenant has ended. */
static bool claim(struct berth_pool *pool, struct berth_buffer *buffer)
{
	const struct berth_claim_options how = { .timeout_ns = 2000000000 };
	const double start = now_ms();
	struct berth_claim_report report;
	char text[1024];

	for (;;) {
		double begun = now_ms();
		int error = berth_claim(pool, NULL, options.bytes, &how, buffer, &report);
		if (!error) {
			double took = now_ms() - begun;
			figures.claim_ms_sum += took;
			if (took > figures.claim_ms_max)
				figures.claim_ms_max = took;
			return true;
		}
		if (error == -ESRCH)
			return false;
		if ((error != -EBUSY && error != -EAGAIN && error != -ENOMEM) ||
		    now_ms() - start > PATIENCE_S * 1e3) {
			berth_report_text(&report, text, sizeof(text));
			die("claim %u: %s\n%s", figures.done + 1, berth_strerror(error), text);
		}
		figures.retries++;
		pause_ms(10);
	}
}

static void release(struct berth_pool *pool, const struct berth_buffer *buffer)
{
	int error = berth_release(pool, buffer);

	if (error)
		die("release: %s", berth_strerror(error));
}

/* One picture. False when the tenant has ended. */
static bool take_picture(struct berth_pool *pool, uint64_t picture)
{
	struct berth_buffer buffer;
	bool ended;

	if (!claim(pool, &buffer)) {
		puts("ended while nothing was held");
		return false;
	}
	int token = berth_claim_fd(pool, &buffer);
	if (token < 0)
		die("no token: %s", berth_strerror(token));
	printf("claimed %llu\n", (unsigned long long)picture);
	check_zero(&buffer);
	fill(&buffer, picture);
	ended = tenant_ends(token, options.hold_ms);
	check(&buffer, picture, ended ? "after the tenant's end" : "at the end");
	if (ended) {
		fill(&buffer, ~picture);
		check(&buffer, ~picture, "written after the tenant's end");
	}
	release(pool, &buffer);
	printf(ended ? "ended while %llu was held\n" : "released %llu\n",
	       (unsigned long long)picture);
	figures.done += !ended;
	return !ended;
}

static bool take_option(const char *name, const char *value)
{
	char *end;
	unsigned long long number = strtoull(value, &end, 10);

	if (*value < '0' || *value > '9' || *end)
		return false;
	if (strcmp(name, "--claims") == 0)
		options.claims = (unsigned)number;
	else if (strcmp(name, "--hold") == 0)
		options.hold_ms = (unsigned)number;
	else if (strcmp(name, "--size") == 0)
		options.bytes = number;
	else
		return false;
	return true;
}

int main(int argc, char **argv)
{
	bool usage = argc < 2 || (options.pid = atol(argv[1])) <= 0;

	for (int i = 2; i < argc && !usage; i += 2)
		usage = i + 1 == argc || !take_option(argv[i], argv[i + 1]);
	if (usage) {
		fputs("usage: camera PID [--claims N] [--size BYTES] [--hold MS]\n", stderr);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	struct berth_pool *pool = attach();
	bool ended = false;
	while (figures.done < options.claims && !ended)
		ended = !take_picture(pool, figures.done + 1);
	int error = berth_pool_close(pool);
	if (error)
		die("closing: %s", berth_strerror(error));
	fprintf(stderr,
		"%u pictures of %zu MiB, %u claims made again, %.1f ms a claim, at most %.1f ms\n",
		figures.done, options.bytes >> 20, figures.retries,
		figures.done ? figures.claim_ms_sum / figures.done : 0, figures.claim_ms_max);
	return ended ? ENDED : 0;
}
