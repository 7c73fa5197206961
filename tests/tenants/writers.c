// SPDX-License-Identifier: MIT
/*
 * Tenant: everything that can write to the heap writes to it all the time.
 *
 * Threads write with plain stores and atomics, lock and signal through mutexes,
 * condition variables and semaphores that live in the heap, and let the kernel
 * write there: read, readv and pread of pipes and files, recv and recvmsg of
 * stream and datagram sockets, getrandom, and the small results of poll, epoll,
 * ioctl, fstat, clock_gettime and socketpair. Each checks each byte it gets. A
 * lost, torn or misplaced write ends the program with status 1; a short read, a
 * lost datagram or a system call that fails with EFAULT does so too.
 *
 * Standard output says the same for every run that went well.
 *
 *     writers [--seconds S] [--dir DIR]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	COUNTER_PAGES = 512,
	STREAM_BYTES = 1 << 20,
	DATAGRAM_MAX = 60000,
	FILE_BYTES = 8 << 20,
	STUCK_SECONDS = 60,
};

static _Atomic bool stop;
static const char *dir = "/tmp";

__attribute__((format(printf, 1, 2))) static void die(const char *format, ...)
{
	va_list args;

	flockfile(stderr);
	fputs("WRONG: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	fflush(stderr);
	_exit(1);
}

static void *must(void *p)
{
	if (p == NULL)
		die("no memory");
	return p;
}

/* xorshift64*: small, fast, and good enough to tell a misplaced byte */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545F4914F6CDD1Du;
}

/* The byte at offset `at` of stream number `stream`. */
static uint8_t pattern(uint64_t stream, uint64_t at)
{
	uint64_t x = (at >> 3) * 0x9E3779B97F4A7C15u + stream * 0xD1B54A32D192ED03u;
	x ^= x >> 29;
	return (uint8_t)(x >> (8 * (at & 7)));
}

static void fill_pattern(uint8_t *to, size_t size, uint64_t stream, uint64_t at)
{
	for (size_t i = 0; i < size; i++)
		to[i] = pattern(stream, at + i);
}

static void check_pattern(const uint8_t *p, size_t size, uint64_t stream, uint64_t at,
			  const char *what)
{
	for (size_t i = 0; i < size; i++) {
		if (p[i] != pattern(stream, at + i))
			die("%s: byte %zu of %zu at %p is %02x, not %02x", what, i, size,
			    (const void *)(p + i), p[i], pattern(stream, at + i));
	}
}

/* One worker: its name, what it does, and how often it did it. */
struct worker {
	const char *name;
	void (*turn)(struct worker *w);
	void (*begin)(struct worker *w);
	void (*end)(struct worker *w);
	_Atomic uint64_t turns;
	void *state;
	uint64_t random;
	pthread_t thread;
};

/* ---- plain stores: one counter in each of many pages, in a private order */

struct counters {
	volatile uint64_t *word[COUNTER_PAGES];
	uint64_t wanted[COUNTER_PAGES];
};

static void counters_begin(struct worker *w)
{
	struct counters *c = must(calloc(1, sizeof(*c)));

	for (int i = 0; i < COUNTER_PAGES; i++)
		c->word[i] = must(calloc(PAGE / 8, 8));
	w->state = c;
}

static void counters_turn(struct worker *w)
{
	struct counters *c = w->state;
	uint64_t wanted_sum = 0, sum = 0;

	for (int n = 0; n < 20000; n++) {
		uint64_t r = next_random(&w->random);
		int i = (int)(r % COUNTER_PAGES);
		volatile uint64_t *word = c->word[i] + (r >> 32) % 4 * 128; /* four places a page */
		(*word)++;
		c->wanted[i]++;
	}
	for (int i = 0; i < COUNTER_PAGES; i++) {
		uint64_t here = 0;
		for (int k = 0; k < 4; k++)
			here += c->word[i][k * 128];
		if (here != c->wanted[i])
			die("counters: page %d lost %lld increments", i,
			    (long long)(c->wanted[i] - here));
		sum += here;
		wanted_sum += c->wanted[i];
	}
	if (sum != wanted_sum)
		die("counters: sum");
}

static void counters_end(struct worker *w)
{
	struct counters *c = w->state;

	for (int i = 0; i < COUNTER_PAGES; i++)
		free((void *)c->word[i]);
	free(c);
}

/* ---- atomics and a mutex, shared by two threads */

struct shared {
	_Atomic uint64_t atomic;
	_Atomic uint64_t wanted;
	pthread_mutex_t mutex;
	uint64_t plain;
	uint64_t plain_wanted_by_atomic;
};
static struct shared *shared;

static void shared_turn(struct worker *w)
{
	(void)w;
	for (int n = 0; n < 5000; n++) {
		atomic_fetch_add(&shared->atomic, 1);
		if (n % 8 == 0) {
			pthread_mutex_lock(&shared->mutex);
			if (shared->plain != shared->plain_wanted_by_atomic)
				die("mutex: %llu and %llu", (unsigned long long)shared->plain,
				    (unsigned long long)shared->plain_wanted_by_atomic);
			shared->plain++;
			shared->plain_wanted_by_atomic++;
			pthread_mutex_unlock(&shared->mutex);
		}
	}
	atomic_fetch_add(&shared->wanted, 5000);
}

static void shared_end(struct worker *w)
{
	(void)w; /* checked in main, when both have ended */
}

/* ---- a condition variable and a semaphore in the heap: a ping-pong that must never stop */

struct pingpong {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	sem_t request, answer;
	uint64_t ball;
	bool over;
	pthread_t partner;
};

static void *partner_main(void *arg)
{
	struct pingpong *p = arg;

	for (;;) {
		pthread_mutex_lock(&p->mutex);
		while (p->ball % 2 == 0 && !p->over)
			pthread_cond_wait(&p->cond, &p->mutex);
		bool over = p->over;
		p->ball++;
		pthread_cond_signal(&p->cond);
		pthread_mutex_unlock(&p->mutex);
		if (over)
			return NULL;
		while (sem_wait(&p->request) != 0)
			;
		sem_post(&p->answer);
	}
}

static void pingpong_begin(struct worker *w)
{
	struct pingpong *p = must(calloc(1, sizeof(*p)));

	pthread_mutex_init(&p->mutex, NULL);
	pthread_cond_init(&p->cond, NULL);
	sem_init(&p->request, 0, 0);
	sem_init(&p->answer, 0, 0);
	w->state = p;
	if (pthread_create(&p->partner, NULL, partner_main, p) != 0)
		die("pthread_create");
}

static void pingpong_turn(struct worker *w)
{
	struct pingpong *p = w->state;

	for (int n = 0; n < 20; n++) {
		pthread_mutex_lock(&p->mutex);
		uint64_t before = p->ball++;
		pthread_cond_signal(&p->cond);
		while (p->ball == before + 1)
			pthread_cond_wait(&p->cond, &p->mutex);
		if (p->ball != before + 2)
			die("ping-pong: the ball is %llu, not %llu", (unsigned long long)p->ball,
			    (unsigned long long)before + 2);
		pthread_mutex_unlock(&p->mutex);
		sem_post(&p->request);
		while (sem_wait(&p->answer) != 0)
			;
	}
}

static void pingpong_end(struct worker *w)
{
	struct pingpong *p = w->state;

	pthread_mutex_lock(&p->mutex);
	p->over = true;
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->mutex);
	pthread_join(p->partner, NULL);
	sem_destroy(&p->request);
	sem_destroy(&p->answer);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->mutex);
	free(p);
}

/* ---- a linked list that is built, walked and freed */

struct node {
	struct node *next;
	uint64_t value, check;
	uint8_t filler[];
};

static void list_turn(struct worker *w)
{
	struct node *head = NULL;
	uint64_t sum = 0, got = 0;

	for (int n = 0; n < 2000; n++) {
		size_t filler = next_random(&w->random) % 700;
		struct node *node = must(malloc(sizeof(*node) + filler));
		node->value = next_random(&w->random);
		node->check = ~node->value;
		memset(node->filler, (int)(node->value & 0xff), filler);
		node->next = head;
		head = node;
		sum += node->value;
	}
	while (head != NULL) {
		struct node *next = head->next;
		if (head->check != ~head->value)
			die("list: a node at %p is torn", (void *)head);
		got += head->value;
		free(head);
		head = next;
	}
	if (got != sum)
		die("list: a node is lost");
}

/* ---- buffers that carry a checksum, rewritten in place */

enum { BUFFERS = 24 };
struct buffers {
	uint64_t *words[BUFFERS];
	size_t count[BUFFERS];
	uint64_t sum[BUFFERS];
};

static void buffers_begin(struct worker *w)
{
	w->state = must(calloc(1, sizeof(struct buffers)));
}

static void buffers_turn(struct worker *w)
{
	struct buffers *b = w->state;
	int i = (int)(next_random(&w->random) % BUFFERS);
	uint64_t sum = 0;

	for (size_t k = 0; k < b->count[i]; k++)
		sum += b->words[i][k] * (k + 1);
	if (sum != b->sum[i])
		die("buffers: buffer %d of %zu words has changed", i, b->count[i]);
	size_t count = next_random(&w->random) % 60000 + 1;
	if (b->count[i] % 3 == 0) {
		free(b->words[i]);
		b->words[i] = must(malloc(count * 8));
	} else {
		b->words[i] = must(realloc(b->words[i], count * 8));
	}
	b->count[i] = count;
	b->sum[i] = 0;
	for (size_t k = 0; k < count; k++) {
		b->words[i][k] = next_random(&w->random);
		b->sum[i] += b->words[i][k] * (k + 1);
	}
}

static void buffers_end(struct worker *w)
{
	struct buffers *b = w->state;

	for (int i = 0; i < BUFFERS; i++)
		free(b->words[i]);
	free(b);
}

/* ---- a byte stream through a pipe or a socket: a feeder writes the pattern out of the heap */

struct stream {
	int reader, writer;
	uint64_t number, at;
	bool is_socket;
	pthread_t feeder;
};

static void *feeder_main(void *arg)
{
	struct stream *s = arg;
	uint64_t at = 0, random = 88172645463325252u + s->number;
	uint8_t *out = must(malloc(STREAM_BYTES));

	for (;;) {
		size_t size = next_random(&random) % 200000 + 1, done = 0;
		fill_pattern(out, size, s->number, at);
		while (done < size) {
			ssize_t n = s->is_socket ?
					    send(s->writer, out + done, size - done, MSG_NOSIGNAL) :
					    write(s->writer, out + done, size - done);
			if (n < 0 &&
			    (errno == EPIPE || errno == ECONNRESET)) { /* the reader has ended */
				free(out);
				return NULL;
			}
			if (n <= 0 && errno != EINTR)
				die("stream: write: %s", strerror(errno));
			done += n > 0 ? (size_t)n : 0;
		}
		at += size;
	}
}

static void stream_begin_of(struct worker *w, bool is_socket)
{
	struct stream *s = must(calloc(1, sizeof(*s)));
	int fds[2];

	if ((is_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, fds) : pipe(fds)) != 0)
		die("pipe: %s", strerror(errno));
	s->reader = fds[0];
	s->writer = fds[1];
	s->is_socket = is_socket;
	s->number = is_socket ? 77 : 78;
	w->state = s;
	if (pthread_create(&s->feeder, NULL, feeder_main, s) != 0)
		die("pthread_create");
}

static void pipe_begin(struct worker *w)
{
	stream_begin_of(w, false);
}

static void socket_begin(struct worker *w)
{
	stream_begin_of(w, true);
}

static void stream_turn(struct worker *w)
{
	struct stream *s = w->state;
	size_t size = next_random(&w->random) % 150000 + 1, done = 0;
	uint8_t *in = must(malloc(size + 64));

	memset(in + size, 0xc5, 64);
	while (done < size) {
		ssize_t n;
		if (s->is_socket) {
			n = recv(s->reader, in + done, size - done,
				 next_random(&w->random) % 2 ? MSG_WAITALL : 0);
		} else if (size - done > 3 * PAGE) {
			struct iovec two[2] = { { in + done, PAGE + 17 },
						{ in + done + PAGE + 17,
						  size - done - PAGE - 17 } };
			n = readv(s->reader, two, 2);
		} else {
			n = read(s->reader, in + done, size - done);
		}
		if (n <= 0)
			die("%s: read %zu at %p: %zd, %s", w->name, size - done,
			    (void *)(in + done), n, strerror(errno));
		done += (size_t)n;
	}
	check_pattern(in, size, s->number, s->at, w->name);
	for (int i = 0; i < 64; i++) {
		if (in[size + (size_t)i] != 0xc5)
			die("%s: written beyond the end", w->name);
	}
	s->at += size;
	free(in);
}

static void stream_end(struct worker *w)
{
	struct stream *s = w->state;

	close(s->reader);
	pthread_join(s->feeder, NULL);
	close(s->writer);
	free(s);
}

/* ---- datagrams: none may be lost, each must come whole */

struct datagrams {
	int reader, writer;
	uint64_t wanted;
	pthread_t sender;
};

static void *sender_main(void *arg)
{
	struct datagrams *d = arg;
	uint8_t *out = must(malloc(DATAGRAM_MAX + 16));
	uint64_t random = 0x1234567;

	for (uint64_t number = 0;; number++) {
		uint32_t size = (uint32_t)(next_random(&random) % DATAGRAM_MAX) + 12;
		memcpy(out, &number, 8);
		memcpy(out + 8, &size, 4);
		fill_pattern(out + 12, size - 12, number, 12);
		while (send(d->writer, out, size, MSG_NOSIGNAL) != (ssize_t)size) {
			if (errno == ECONNREFUSED || errno == EPIPE || errno == ECONNRESET ||
			    errno == ENOTCONN) {
				free(out);
				return NULL; /* the reader has ended */
			}
			if (errno != EINTR)
				die("datagram: send: %s", strerror(errno));
		}
	}
}

static void datagrams_begin(struct worker *w)
{
	struct datagrams *d = must(calloc(1, sizeof(*d)));
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) != 0)
		die("socketpair: %s", strerror(errno));
	d->reader = fds[0];
	d->writer = fds[1];
	w->state = d;
	if (pthread_create(&d->sender, NULL, sender_main, d) != 0)
		die("pthread_create");
}

static void datagrams_turn(struct worker *w)
{
	struct datagrams *d = w->state;
	uint8_t *one = must(malloc(DATAGRAM_MAX + 64));
	uint8_t *two = must(malloc(DATAGRAM_MAX + 64));

	for (int n = 0; n < 8; n++) {
		uint64_t number;
		uint32_t size;
		size_t cut = DATAGRAM_MAX + 64;
		ssize_t got;

		if (n % 2 == 0) {
			got = recv(d->reader, one, cut, 0);
		} else {
			cut = 12 + next_random(&w->random) % 30000;
			struct iovec parts[2] = { { one, cut }, { two, DATAGRAM_MAX + 64 } };
			struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
			got = recvmsg(d->reader, &message, 0);
		}
		if (got < 12)
			die("datagram %llu: receive: %zd, %s", (unsigned long long)d->wanted, got,
			    strerror(errno));
		memcpy(&number, one, 8);
		memcpy(&size, one + 8, 4);
		if (number != d->wanted)
			die("datagram %llu came, %llu was due", (unsigned long long)number,
			    (unsigned long long)d->wanted);
		if (got != (ssize_t)size)
			die("datagram %llu has %zd bytes, not %u", (unsigned long long)number, got,
			    size);
		size_t first = size < cut ? size : cut;
		check_pattern(one + 12, first - 12, number, 12, "datagram");
		if (size > cut)
			check_pattern(two, size - cut, number, cut, "datagram's second part");
		d->wanted++;
	}
	free(one);
	free(two);
}

static void datagrams_end(struct worker *w)
{
	struct datagrams *d = w->state;

	close(d->reader);
	pthread_join(d->sender, NULL);
	close(d->writer);
	free(d);
}

/* ---- a file, by pread, read and fread */

struct file {
	int fd;
	FILE *stream;
	char path[512];
};

static void file_begin(struct worker *w)
{
	struct file *f = must(calloc(1, sizeof(*f)));
	uint8_t *data = must(malloc(FILE_BYTES));

	snprintf(f->path, sizeof(f->path), "%s/writers.%d", dir, (int)getpid());
	f->fd = open(f->path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
	fill_pattern(data, FILE_BYTES, 5, 0);
	if (f->fd < 0 || write(f->fd, data, FILE_BYTES) != FILE_BYTES)
		die("%s: %s", f->path, strerror(errno));
	free(data);
	f->stream = fopen(f->path, "r");
	if (f->stream == NULL)
		die("%s: %s", f->path, strerror(errno));
	w->state = f;
}

static void file_turn(struct worker *w)
{
	struct file *f = w->state;
	size_t size = next_random(&w->random) % (1 << 20) + 1;
	size_t at = next_random(&w->random) % (FILE_BYTES - size);
	uint8_t *in = must(malloc(size));

	ssize_t n = pread(f->fd, in, size, (off_t)at);
	if (n != (ssize_t)size)
		die("file: pread of %zu bytes gave %zd, %s", size, n, strerror(errno));
	check_pattern(in, size, 5, at, "pread");
	free(in);

	in = must(malloc(size % 50000 + 1));
	if (fseek(f->stream, (long)at, SEEK_SET) != 0 ||
	    fread(in, size % 50000 + 1, 1, f->stream) != 1)
		die("file: fread failed: %s", strerror(errno));
	check_pattern(in, size % 50000 + 1, 5, at, "fread");
	free(in);
}

static void file_end(struct worker *w)
{
	struct file *f = w->state;

	fclose(f->stream);
	close(f->fd);
	unlink(f->path);
	free(f);
}

/* ---- getrandom: not one block of 64 bytes may stay zero */

static void getrandom_turn(struct worker *w)
{
	size_t size = (next_random(&w->random) % 60 + 1) * 4096, done = 0;
	uint8_t *to = must(calloc(1, size + 64));
	static const uint8_t zero[64];

	while (done < size) {
		ssize_t n = getrandom(to + done, size - done, 0);
		if (n <= 0 && errno != EINTR)
			die("getrandom of %zu bytes at %p: %s", size - done, (void *)(to + done),
			    strerror(errno));
		done += n > 0 ? (size_t)n : 0;
	}
	for (size_t at = 0; at < size; at += 64) {
		if (memcmp(to + at, zero, 64) == 0)
			die("getrandom: block at %zu of %zu was never written", at, size);
	}
	if (memcmp(to + size, zero, 64) != 0)
		die("getrandom: written beyond the end");
	free(to);
}

/* ---- small results of the kernel, in the heap */

struct small {
	int fds[2], epoll;
	struct pollfd *polls;
	struct epoll_event *events;
	struct stat *stat;
	struct timespec *time;
	int *number;
};

static void small_begin(struct worker *w)
{
	struct small *s = must(calloc(1, sizeof(*s)));

	s->polls = must(calloc(600, sizeof(*s->polls))); /* more than a page */
	s->events = must(calloc(300, sizeof(*s->events)));
	s->stat = must(malloc(sizeof(*s->stat)));
	s->time = must(calloc(1, sizeof(*s->time)));
	s->number = must(malloc(sizeof(*s->number)));
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll < 0 || pipe(s->fds) != 0)
		die("epoll: %s", strerror(errno));
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 0x0123456789abcdefu };
	if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->fds[0], &event) != 0)
		die("epoll_ctl: %s", strerror(errno));
	w->state = s;
}

static void small_turn(struct worker *w)
{
	struct small *s = w->state;
	struct timespec last = *s->time;
	int bytes = (int)(next_random(&w->random) % 1000) + 1;
	char *junk = must(malloc((size_t)bytes));

	memset(junk, 'j', (size_t)bytes);
	if (write(s->fds[1], junk, (size_t)bytes) != bytes)
		die("small: write: %s", strerror(errno));
	for (int i = 0; i < 600; i++)
		s->polls[i] = (struct pollfd){ .fd = s->fds[i % 2],
					       .events = i % 2 ? POLLOUT : POLLIN,
					       .revents = 0x5555 };
	if (poll(s->polls, 600, 10000) != 600)
		die("poll: %s", strerror(errno));
	for (int i = 0; i < 600; i++) {
		if (s->polls[i].revents != (i % 2 ? POLLOUT : POLLIN))
			die("poll: entry %d says %x", i, (unsigned)s->polls[i].revents);
	}
	memset(s->events, 0, 300 * sizeof(*s->events));
	if (epoll_wait(s->epoll, s->events, 300, 10000) != 1 ||
	    s->events[0].data.u64 != 0x0123456789abcdefu)
		die("epoll_wait: %s", strerror(errno));
	*s->number = -1;
	if (ioctl(s->fds[0], FIONREAD, s->number) != 0 || *s->number != bytes)
		die("FIONREAD: %d, not %d: %s", *s->number, bytes, strerror(errno));
	memset(s->stat, 0xff, sizeof(*s->stat));
	if (fstat(s->fds[0], s->stat) != 0 || !S_ISFIFO(s->stat->st_mode))
		die("fstat: %s", strerror(errno));
	if (clock_gettime(CLOCK_MONOTONIC, s->time) != 0 || s->time->tv_sec < last.tv_sec ||
	    (s->time->tv_sec == last.tv_sec && s->time->tv_nsec < last.tv_nsec))
		die("clock_gettime went back");
	int *pair = must(malloc(2 * sizeof(*pair)));
	pair[0] = pair[1] = -1;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 || pair[0] < 0 || pair[1] < 0 ||
	    close(pair[0]) != 0 || close(pair[1]) != 0)
		die("socketpair: %s", strerror(errno));
	free(pair);
	if (read(s->fds[0], junk, (size_t)bytes) != bytes)
		die("small: read: %s", strerror(errno));
	for (int i = 0; i < bytes; i++) {
		if (junk[i] != 'j')
			die("small: a byte of the pipe has changed");
	}
	free(junk);
}

static void small_end(struct worker *w)
{
	struct small *s = w->state;

	close(s->epoll);
	close(s->fds[0]);
	close(s->fds[1]);
	free(s->polls);
	free(s->events);
	free(s->stat);
	free(s->time);
	free(s->number);
	free(s);
}

static struct worker workers[] = {
	{ .name = "counters", .begin = counters_begin, .turn = counters_turn, .end = counters_end },
	{ .name = "counters two",
	  .begin = counters_begin,
	  .turn = counters_turn,
	  .end = counters_end },
	{ .name = "shared one", .turn = shared_turn, .end = shared_end },
	{ .name = "shared two", .turn = shared_turn, .end = shared_end },
	{ .name = "ping-pong", .begin = pingpong_begin, .turn = pingpong_turn, .end = pingpong_end },
	{ .name = "list", .turn = list_turn },
	{ .name = "buffers", .begin = buffers_begin, .turn = buffers_turn, .end = buffers_end },
	{ .name = "pipe", .begin = pipe_begin, .turn = stream_turn, .end = stream_end },
	{ .name = "stream socket", .begin = socket_begin, .turn = stream_turn, .end = stream_end },
	{ .name = "datagrams",
	  .begin = datagrams_begin,
	  .turn = datagrams_turn,
	  .end = datagrams_end },
	{ .name = "file", .begin = file_begin, .turn = file_turn, .end = file_end },
	{ .name = "getrandom", .turn = getrandom_turn },
	{ .name = "small results", .begin = small_begin, .turn = small_turn, .end = small_end },
};
enum { WORKERS = sizeof(workers) / sizeof(workers[0]) };

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	if (w->begin != NULL)
		w->begin(w);
	do {
		w->turn(w);
		w->turns++;
	} while (!stop);
	if (w->end != NULL)
		w->end(w);
	return NULL;
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Returns when the time is over; ends the program when one worker doesn't go on. */
static void watch(double seconds)
{
	double start = now_s(), changed[WORKERS];
	uint64_t last[WORKERS] = { 0 };
	bool all = false;

	for (int i = 0; i < WORKERS; i++)
		changed[i] = start;
	while (now_s() - start < seconds || !all) {
		all = true;
		for (int i = 0; i < WORKERS; i++) {
			if (workers[i].turns != last[i]) {
				last[i] = workers[i].turns;
				changed[i] = now_s();
			}
			if (now_s() - changed[i] > STUCK_SECONDS)
				die("%s hangs", workers[i].name);
			all = all && last[i] > 0;
		}
		usleep(10000);
	}
}

int main(int argc, char **argv)
{
	double seconds = 2;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--seconds") == 0)
			seconds = atof(argv[i + 1]);
		else if (strcmp(argv[i], "--dir") == 0)
			dir = argv[i + 1];
	}
	/* a feeder whose reader has gone gets EPIPE, not a signal */
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigaction(SIGPIPE, &ignore, NULL);

	shared = must(calloc(1, sizeof(*shared)));
	pthread_mutex_init(&shared->mutex, NULL);
	for (int i = 0; i < WORKERS; i++) {
		workers[i].random = 0x9E3779B97F4A7C15u * (uint64_t)(i + 1);
		if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
			die("pthread_create");
	}
	watch(seconds);
	stop = true;
	alarm(STUCK_SECONDS);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
	alarm(0);
	if (shared->atomic != shared->wanted)
		die("atomics: %llu, not %llu", (unsigned long long)shared->atomic,
		    (unsigned long long)shared->wanted);
	free(shared);
	for (int i = 0; i < WORKERS; i++) {
		printf("%s: every write was there\n", workers[i].name);
		fprintf(stderr, "%s: %llu turns\n", workers[i].name,
			(unsigned long long)workers[i].turns);
	}
	return 0;
}
