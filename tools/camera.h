/* SPDX-License-Identifier: MIT */
/*
 * The parts of `berth bench camera`.
 *
 *	bench_camera.c    the command; starts a process for each way and gives them turns
 *	camera_way.c      such a process: its pool, and the photos
 *	camera_load.c     the load beside them: starting and halting it, a heap that churns
 *	camera_cache.c    the load's other half: a file's pages that are read through a cache
 *	camera_sqlite.c   or a database, by SQLite
 *	camera_figures.c  what is made of the photos: percentiles, ratios, bars
 *	camera_report.c   tables, JSON
 */
#ifndef BERTH_TOOLS_CAMERA_H
#define BERTH_TOOLS_CAMERA_H

#include <pthread.h>
#include <stdatomic.h>

#include <berth/berth.h>
#include <berth/store.h>

#include "tools/blocks.h"
#include "tools/measure.h"

#define BERTH__CAMERA_COMMAND "berth bench camera"
#define BERTH__CAMERA_TEXT_BYTES 256
#define BERTH__CAMERA_PATH_BYTES 4096

/* How the camera's memory is used while there is no photo. */
enum berth__camera_way {
	BERTH__CAMERA_RESERVE,
	BERTH__CAMERA_CMA,
	BERTH__CAMERA_GCMA,
	BERTH__CAMERA_MIXED,
	BERTH__CAMERA_NR_WAYS
};
#define BERTH__CAMERA_WAYS "reserve, cma, gcma and mixed"
extern const char *const berth__camera_way_names[BERTH__CAMERA_NR_WAYS];

struct berth__camera_config {
	uint64_t size;    /* of the camera's memory */
	uint64_t largest; /* photo */
	uint64_t photos, duration_ns, seed, nice;
	bool ways[BERTH__CAMERA_NR_WAYS];
	/* Of the heap's thread and the reader's; the camera shares the one and the other by turns. */
	int cpus[2];
	unsigned nr_cpus; /* fewer than two: everybody is where the scheduler puts him */
	bool json, each;  /* each: a line for each photo, too */
	bool sqlite;      /* is the load; with `choose`: if it works */
	bool choose;
};

/* ---- What a way's process tells ---------------------------------------------------------------- */

/* How many photos a way takes before it is another one's turn; an even power of two. */
#define BERTH__CAMERA_TURN 8u

struct berth__camera_photo {
	uint64_t number, bytes;
	uint64_t weight;             /* as one of how many it counts */
	uint64_t claim_ns, whole_ns; /* whole: claim, writing, reading, release */
	uint64_t write_ns, read_ns;
	uint64_t faults;     /* minor ones */
	uint64_t cpu_ns;     /* of the thread, for the whole photo */
	uint64_t lent_bytes; /* of the camera's memory, before the claim */
	uint64_t moved_bytes;
	int error;
};

/* What the load did while the photos were taken, and what happened to it. */
struct berth__camera_figures {
	uint64_t ns;
	uint64_t reads, updates;                  /* of the cached file: pages or rows */
	uint64_t looked_up, hits;                 /* pages in the cache, and found there */
	uint64_t lost;                            /* cached pages that claims took */
	uint64_t blocks, heap_bytes;              /* of the heap: blocks replaced, bytes written */
	uint64_t refused;                         /* blocks for which there was no memory */
	uint64_t waits, wait_ns, longest_wait_ns; /* of claims, for fillers */
};

enum berth__camera_kind {
	BERTH__CAMERA_READY,
	BERTH__CAMERA_PHOTO,
	BERTH__CAMERA_ROUND,
	BERTH__CAMERA_WRONG
};

/* One message of a SOCK_SEQPACKET. */
struct berth__camera_message {
	enum berth__camera_kind kind;
	struct berth__camera_photo photo;     /* PHOTO */
	struct berth__camera_figures figures; /* ROUND */
	char text[BERTH__CAMERA_TEXT_BYTES];  /* WRONG */
};

/* What the process is to do: so many photos from number `first` on; none: warm up. */
struct berth__camera_order {
	uint64_t first, nr;
};

/* ---- A way ------------------------------------------------------------------------------------- */

/* The life of the way's process; `line`: its end of the socket pair. An exit code. */
int berth__camera_live(const struct berth__camera_config *config, enum berth__camera_way way,
		       int line);
/* Bytes of memory and of files that a way needs. */
uint64_t berth__camera_needs(const struct berth__camera_config *config);
uint64_t berth__camera_file_bytes(const struct berth__camera_config *config);

/* ---- The load ---------------------------------------------------------------------------------- */

/* What a way gives its load. */
struct berth__camera_place {
	const struct berth__camera_config *config;
	struct berth_pool *pool;
	struct berth_store *store; /* the cache's, or NULL */
	uint64_t heap_bytes;       /* movable memory that the heap may use */
	uint64_t cache_bytes;      /* of the cache when it has memory of its own, */
	bool cache_is_movable;     /* lent by the pool, or else ordinary */
};

/* Threads go through the gate before each step; figures are theirs while it is open. */
struct berth__camera_gate {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	_Atomic bool open; /* mutex to write */
	bool end;          /* mutex */
	unsigned inside;   /* mutex: threads that aren't waiting at the gate */
	const struct berth__camera_config *config;
	_Atomic bool failed;
	char why[BERTH__CAMERA_TEXT_BYTES]; /* written once, before `failed` */
};
/* Waits until the gate is open. False: the thread is to end. */
bool berth__camera_pass(struct berth__camera_gate *gate);
/* Something is wrong; the first one's words are kept. */
void berth__camera_fail(struct berth__camera_gate *gate, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Starts a thread. 0 or -ENOMEM. */
int berth__camera_start(struct berth__camera_gate *gate, void *(*body)(void *), void *arg,
			pthread_t *thread);
/* A thread's first words: it lets photos have the CPUs, and stays on its own. */
enum berth__camera_thread { BERTH__CAMERA_HEAP, BERTH__CAMERA_READER };
void berth__camera_begin(struct berth__camera_gate *gate, enum berth__camera_thread which);
/* And its last ones. */
void berth__camera_leave(struct berth__camera_gate *gate);

struct berth__camera_load;
/* Starts it behind a closed gate. NULL: `why` says why. */
struct berth__camera_load *berth__camera_load_open(const struct berth__camera_place *place,
						   char why[BERTH__CAMERA_TEXT_BYTES]);
void berth__camera_load_resume(struct berth__camera_load *load);
/* Halts it; *figures: what it did since it was resumed. False: something went wrong, `why` says what. */
bool berth__camera_load_halt(struct berth__camera_load *load, struct berth__camera_figures *figures,
			     char why[BERTH__CAMERA_TEXT_BYTES]);
/* Ends it and gives its memory back. False: the pool doesn't take it. */
bool berth__camera_load_close(struct berth__camera_load *load);

/* The half of the load that reads a file through a cache, as a thread behind the gate. */
struct berth__camera_reader;
struct berth__camera_reader_ops {
	/* Makes file and cache and starts the thread, which adds what it does to *figures. NULL: `why` says why. */
	struct berth__camera_reader *(*open)(const struct berth__camera_place *place,
					     struct berth__camera_gate *gate,
					     struct berth__camera_figures *figures,
					     char why[BERTH__CAMERA_TEXT_BYTES]);
	/* The gate has ended. False: the pool doesn't take its memory back. */
	bool (*close)(struct berth__camera_reader *reader);
};
extern const struct berth__camera_reader_ops berth__camera_pages, berth__camera_sqlite;
/* True: this process could load what SQLite as the load needs, and the pool's memory can be SQLite's. Loads it:
 * ask in a process that does nothing else. */
bool berth__camera_sqlite_works(const struct berth__camera_config *config,
				char why[BERTH__CAMERA_TEXT_BYTES]);

#define BERTH__CAMERA_NO_FILE                                                                   \
	"the load's file can't be made; is TMPDIR, or else /tmp, a folder that can be written " \
	"to, with room for it?"
/* A new file in the folder for temporary files, which the caller is to unlink. -1: there is none. */
int berth__camera_file(char path[BERTH__CAMERA_PATH_BYTES]);
/* A word of what record `number` of the file holds in its version. */
static inline uint64_t berth__camera_content(uint64_t number, uint64_t version, unsigned word)
{
	return (number << 32 ^ version) * 0x9e3779b97f4a7c15ull + word;
}

/* ---- The figures ------------------------------------------------------------------------------- */

#define BERTH__CAMERA_ERRORS 4u

/* A photo, as far as it counts. */
struct berth__camera_taken {
	uint64_t number, bytes;
	double weight, whole_us, claim_us, write_us, read_us, cpu_us;
	uint64_t faults;
	int error;
};

struct berth__camera_result {
	struct berth__camera_taken *taken; /* by number */
	uint64_t photos, room, failed;
	double lent_bytes; /* sum over all */
	uint64_t moved_bytes;
	/* Why they failed; the last one stands for all others. */
	struct {
		int error;
		uint64_t nr;
	} errors[BERTH__CAMERA_ERRORS];
	struct berth__camera_figures figures;
};

/* Stops the program when there is no memory. */
void berth__camera_add(struct berth__camera_result *result,
		       const struct berth__camera_photo *photo);
void berth__camera_add_figures(struct berth__camera_result *result,
			       const struct berth__camera_figures *figures);

/* Photos by size: up to a sixteenth of the largest, up to a quarter, all others; or all. */
enum berth__camera_sizes {
	BERTH__CAMERA_SMALL,
	BERTH__CAMERA_MEDIUM,
	BERTH__CAMERA_LARGE,
	BERTH__CAMERA_NR_SIZES,
	BERTH__CAMERA_ALL = BERTH__CAMERA_NR_SIZES
};
/* The smallest photo of more bytes than these is of the next sizes. */
uint64_t berth__camera_size_limit(const struct berth__camera_config *config,
				  enum berth__camera_sizes sizes);
/* Of the photos of these sizes that succeeded, in blocks by turn; the caller frees them. */
enum berth__camera_time {
	BERTH__CAMERA_WHOLE,   /* claim, writing, reading, release */
	BERTH__CAMERA_CLAIM,   /* of it, the claim */
	BERTH__CAMERA_CPU,     /* of it, on a CPU */
	BERTH__CAMERA_WAITING, /* of it, without one */
};
struct berth__blocks berth__camera_times(const struct berth__camera_config *config,
					 const struct berth__camera_result *result,
					 enum berth__camera_sizes sizes,
					 enum berth__camera_time time);

/* How many times as long one way's photos take as another one's. */
struct berth__camera_ratio {
	double figure;
	struct berth__interval likely; /* where it is, of 95 % */
};
/* Of two percentiles; the figure is 0 if one of the ways has no such photos. */
struct berth__camera_ratio berth__camera_compare(const struct berth__camera_config *config,
						 const struct berth__camera_result *part,
						 const struct berth__camera_result *whole,
						 enum berth__camera_sizes sizes,
						 enum berth__camera_time time, double percent);
/* The median over all photos of the same photo's ratio. */
struct berth__camera_ratio berth__camera_pairs(const struct berth__camera_result *part,
					       const struct berth__camera_result *whole);

/* What Berth is held to. */
struct berth__camera_bar {
	const char *name, *unit;
	double figure, limit;
	struct berth__interval likely; /* low is high: the figure is exact */
};
#define BERTH__CAMERA_BARS 2u
/* Returns how many can be told of the ways that were taken. */
unsigned berth__camera_bars(const struct berth__camera_config *config,
			    struct berth__camera_result results[BERTH__CAMERA_NR_WAYS],
			    struct berth__camera_bar bars[BERTH__CAMERA_BARS]);
bool berth__camera_is_met(const struct berth__camera_bar *bar);
/* All of the interval is on the figure's side of the limit. */
bool berth__camera_is_sure(const struct berth__camera_bar *bar);

/* ---- The report -------------------------------------------------------------------------------- */

void berth__camera_print(const struct berth__camera_config *config,
			 struct berth__camera_result results[BERTH__CAMERA_NR_WAYS],
			 double seconds);

#endif
