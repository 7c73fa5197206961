/* SPDX-License-Identifier: MIT */
/*
 * libberth: a pool of contiguous memory for a Linux program.
 *
 * A pool is one memfd. Its areas are for devices: berth_claim() gives a buffer that is contiguous in
 * the pool, whole and on time. While nobody claims, the same memory is lent: berth_map() gives
 * ordinary memory out of the pool, which moves out of the way, beneath its address, when a claim
 * needs the place. Contiguous in the pool means contiguous for a device that has mapped or
 * registered the pool once: device address = base + offset.
 *
 * Functions return 0 or a negative error (enum berth_error, the values of errno), and change nothing
 * when they fail, unless they say otherwise. berth_strerror() explains a code. Every function may be
 * called by any thread; none from a signal handler, nor from a stack that lies in berth_map()ped
 * memory. After fork() a child keeps copies of its mapped memory at the same addresses, but its pool
 * handles answer -ESTALE.
 */
#ifndef BERTH_BERTH_H
#define BERTH_BERTH_H

#include <berth/contig.h>
#include <berth/core.h>
#include <berth/lease.h>
#include <berth/types.h>
#include <berth/version.h>

#ifdef __cplusplus
extern "C" {
#endif

struct berth_pool;

/* ---- Opening --------------------------------------------------------------------------------------- */

struct berth_area_params {
	const char *name; /* 1 .. 31 bytes, unique; copied */
	size_t bytes;     /* > 0; rounded up to 2 MiB */
	enum berth_lend_policy lend;
};

enum berth_pool_flags {
	/* Debugging aid: frames that memory moved away from are overwritten, so that a stale use shows. */
	BERTH_POOL_POISON = 1u << 0,
	/* Make memory outside areas resident at opening too, so that no move waits for it. */
	BERTH_POOL_RESIDENT = 1u << 1,
	/* Don't ask the system to keep CPUs awake while others wait for memory that moves (/dev/cpu_dma_latency, as
	 * far as this user may): a stalled thread goes on later, by up to twice the time, and energy is saved. */
	BERTH_POOL_LET_CPUS_SLEEP = 1u << 2,
};

struct berth_pool_params {
	size_t bytes; /* the whole pool; rounded up to 2 MiB; at least the areas. 0: the areas plus
			     * as much again, so that all that is lent can move out */
	const struct berth_area_params *areas;
	unsigned nr_areas; /* 0 .. 16 */
	/* Instead of `areas`: areas, which devices claim from them, and how, in the words of
	 * berth_config_parse() (contig.h). Addresses are offsets in the pool; it has one node, 0. Sizes and places are
	 * of 2 MiB, align at most 4 MiB, unit at most 2 MiB. NULL: none. */
	const char *config;
	unsigned flags;    /* enum berth_pool_flags */
	const char *mover; /* NULL: the best there is; "userfaultfd", "/dev/userfaultfd",
			     * "userfaultfd-user" or "mprotect"; for tests also "userfaultfd-unwatched":
			     * as the first one does before Linux 6.7 */
	unsigned copiers;  /* threads that help to copy runs of 1 MiB and more, 0 .. 7: for machines
			   * with CPUs to spare while something is claimed */
	/* How much may be locked of leases (berth_pool_lease()) at a time, at most the pool; 0: it has no leases.
	 * They cost a byte more a page. */
	size_t lease_bytes;
};

/*
 * Opens a pool and makes its areas resident. -EINVAL: bad sizes, names or flags; -ENOMEM: the system
 * has not that much memory; -EPERM, -ENOSYS: the system refuses memory files of that size or the
 * wanted mover, or this kernel lacks them; -ENOSPC: too many pools (64, or 16 that move by mprotect).
 * On error nothing is left behind.
 */
int berth_pool_open(const struct berth_pool_params *params,
		    struct berth_pool **pool) BERTH_MUST_CHECK;

/*
 * What is wrong with a configuration, in words for its author; an empty text if nothing is. 0, -EINVAL or
 * -ENOSPC as berth_config_parse() and berth_config_place() return them.
 */
int berth_config_explain(const char *config, char *text, size_t text_bytes);

/*
 * Declares more areas in an open pool, maps devices anew or names another default area: `config` is in
 * addition to what there is. Areas are made of memory outside areas, whose contents move out of the
 * way. Errors as berth_pool_open(); also -EEXIST: too many areas at a time; -EBUSY: what is pinned is in
 * the way; -ENOMEM: nowhere to move to. On error what was declared before the error stays. A child that is
 * forked has what berth_pool_open() was told.
 */
int berth_pool_configure(struct berth_pool *pool, const char *config) BERTH_MUST_CHECK;

/*
 * Closes it. -EBUSY: claims, mapped memory or pins are still in use (berth_pool_stats() counts
 * them, berth_pool_held() lists the claims). -ESTALE: closed already, or opened before a fork. A closed handle stays safe to pass:
 * every function answers -ESTALE. An attached handle (below) is detached: -EBUSY while its claims are
 * held.
 */
int berth_pool_close(struct berth_pool *pool) BERTH_MUST_CHECK;

/*
 * A handle on the pool of another process of the same user, which lives under `berth run`: the tenant.
 * On it work berth_claim(), berth_release(), berth_claim_fd(), berth_pool_stats(), berth_area_stats()
 * and berth_pool_close(); all else answers -EOPNOTSUPP. The whole pool is mapped into this process, the
 * tenant's memory included, where only claimed buffers may be touched.
 * -ESRCH: no process with this pid serves; -EPERM: the socket's directory or the tenant isn't this
 * user's; -EPROTO: the tenant runs with another version; -ETIMEDOUT: no answer in 10 s; -EBUSY: it
 * serves too many others; -ENOMEM; -EINVAL. On error nothing is left behind.
 */
int berth_attach(long pid, struct berth_pool **pool) BERTH_MUST_CHECK;

/* What a user should be told about how this pool moves memory, or NULL: e.g. that full userfaultfd is
 * refused and system calls can see EFAULT. */
const char *berth_pool_notice(struct berth_pool *pool);

/* ---- Claims: contiguous buffers ----------------------------------------------------------------------- */

enum berth_buffer_flags {
	BERTH_ZERO = 1u << 8, /* the buffer is zeroed */
			      /* and enum berth_claim_flags */
};

struct berth_claim_options {
	size_t align_bytes;  /* a power of two, 0: a page; at most 4 MiB */
	unsigned flags;      /* berth_buffer_flags | berth_claim_flags */
	uint64_t timeout_ns; /* what the claim may take, waiting and moving included; 0: as long as
			      * the moves take, without waiting for holders */
	const char *
		name; /* who claims, for berth_pool_held(); copied, 31 bytes of it. NULL: the device
			   * of berth_claim_for(), else nobody. On an attached pool: this program */
};

/* A claimed buffer. Filled by berth_claim(); hand it back unchanged. */
struct berth_buffer {
	void *address; /* in this process; doesn't change */
	size_t bytes;  /* as asked, rounded up to pages */
	size_t offset; /* in the pool: the device's address less its base */
	const char *area;
};

/*
 * Takes a contiguous buffer out of an area (NULL: the default one, or the first). `options` and `report` may be NULL; the
 * report is filled either way and berth_report_text() words it.
 * -EINVAL: zero bytes, bad alignment or flags; -ENOENT: no such area; -E2BIG: can never fit; -ENOSPC:
 * claims in place leave no room; -EBUSY: pins are in the way (report: whose); -ENOMEM: nowhere to
 * move what is lent; -EAGAIN: timeout, or BERTH_CLAIM_FREE_ONLY and not free now; -ESTALE.
 */
int berth_claim(struct berth_pool *pool, const char *area, size_t bytes,
		const struct berth_claim_options *options, struct berth_buffer *buffer,
		struct berth_claim_report *report) BERTH_MUST_CHECK;
/*
 * Likewise for a device: out of the area that the pool's configuration names for it. -ENODEV: it names none,
 * and no default area. (A pool that was opened with `areas` has its first area as the default one.)
 */
int berth_claim_for(struct berth_pool *pool, const char *device, size_t bytes,
		    const struct berth_claim_options *options, struct berth_buffer *buffer,
		    struct berth_claim_report *report) BERTH_MUST_CHECK;
/*
 * On an attached pool: the buffer is always zeroed. With a timeout, claims in place are waited for as
 * well as holders; without, the answer may take 10 s. Also -ESRCH: the tenant has ended, or become
 * another program; -ETIMEDOUT: it doesn't answer within the timeout and 2 s more (zeroing not counted):
 * stopped, perhaps; the claim isn't made then, nor later. -EBUSY: also 64 claims of the tenant are
 * held. -ENOSYS: the tenant has closed the pool's descriptor. -EPERM, -EPROTO. The texts in `report` live as long as
 * the handle.
 */

/*
 * Gives a buffer back. -EINVAL: not a buffer in use: released already, or changed; -ESTALE. On an
 * attached pool it closes the token (see below): the range returns at once, but if a child process
 * that this one has forked holds a copy, when that is closed as well. Works after the tenant's end.
 */
int berth_release(struct berth_pool *pool, const struct berth_buffer *buffer) BERTH_MUST_CHECK;

/*
 * The token of a buffer claimed from an attached pool: a descriptor that reports POLLHUP when the
 * tenant has ended (exited, was killed, or became another program). The buffer stays usable, and this
 * process's own, until it is released. The descriptor is the handle's: poll it, don't read, write,
 * shut down or close it. CLOEXEC; a dup() that another process inherits keeps the claim.
 * -EINVAL: not a buffer in use; -EOPNOTSUPP: a pool of this process; -ESTALE.
 */
int berth_claim_fd(struct berth_pool *pool, const struct berth_buffer *buffer) BERTH_MUST_CHECK;

/* A claim that is held. */
struct berth_held {
	size_t offset, bytes;
	uint64_t age_ns;                   /* since it was made */
	char name[BERTH_CLAIM_NAME_BYTES]; /* empty: nobody's */
	char area[BERTH_AREA_NAME_BYTES];
};
/*
 * The claims that are held, whoever made them: before a pool is closed, those that were never released. Fills
 * in up to `room` of them, by area and offset, and returns how many there are; or -ESTALE, -EOPNOTSUPP.
 */
long berth_pool_held(struct berth_pool *pool, struct berth_held *held, size_t room);
/* The same in words, a line each, or an empty text; as berth_report_text(). Of a stale handle: empty. */
size_t berth_pool_held_text(struct berth_pool *pool, char *text, size_t text_bytes);

/*
 * nr buffers of `bytes` each in one call, each to be released by itself or by berth_release_bulk(); flags:
 * enum berth_bulk_flags. Searches, waits for lists and moves once for as many as fit in one range.
 * Returns how many there are: nr, or fewer with BERTH_BULK_AS_MANY_AS_POSSIBLE; or an error as
 * berth_claim(), and there is none. Not on an attached pool: -EOPNOTSUPP.
 */
int berth_claim_bulk(struct berth_pool *pool, const char *area, size_t bytes,
		     const struct berth_claim_options *options, unsigned nr, unsigned flags,
		     struct berth_buffer *buffers,
		     struct berth_claim_report *report) BERTH_MUST_CHECK;
/* Gives nr buffers of one area and one size back. -EINVAL: one isn't such a buffer, or is there twice;
 * then all are still in use; -ENOMEM; -ESTALE. */
int berth_release_bulk(struct berth_pool *pool, const struct berth_buffer *buffers,
		       unsigned nr) BERTH_MUST_CHECK;

struct berth_prepared;

/*
 * Begins to claim a buffer ahead of the need: a thread empties its range, and clears it with BERTH_ZERO,
 * while the caller goes on. Nobody else gets the range. options->timeout_ns is for the thread. The pool
 * can't be closed before berth_prepare_take() or berth_prepare_cancel().
 * -EINVAL, -ENOENT, -E2BIG as berth_claim(); -ENOMEM: no thread; -EOPNOTSUPP: an attached pool; -ESTALE.
 */
int berth_prepare(struct berth_pool *pool, const char *area, size_t bytes,
		  const struct berth_claim_options *options,
		  struct berth_prepared **prepared) BERTH_MUST_CHECK;
/*
 * Takes the buffer, waiting for it up to timeout_ns. 0: `prepared` is gone, release the buffer as any
 * other. -EAGAIN: not ready yet, `prepared` is as before. -ESTALE: of before a fork. Any other error is
 * the claim's, by which it failed; then `prepared` is gone as well. `report` may be NULL.
 */
int berth_prepare_take(struct berth_prepared *prepared, uint64_t timeout_ns,
		       struct berth_buffer *buffer,
		       struct berth_claim_report *report) BERTH_MUST_CHECK;
/* Gives it up, whether it is ready or not; `prepared` is gone. -ESTALE: of before a fork. */
int berth_prepare_cancel(struct berth_prepared *prepared);

/* Words a report in one or more lines, e.g. for a log. Returns the length without the final zero, as
 * snprintf does. */
size_t berth_report_text(const struct berth_claim_report *report, char *text, size_t text_bytes);

/* ---- Movable memory ------------------------------------------------------------------------------------ */

enum berth_memory_flags {
	BERTH_MEMORY_NO_AREA = 1u
			       << 0, /* not out of an area's idle memory; a move may still bring it
					 * there when nothing else is left */
};

/*
 * Zeroed memory out of the pool. It stays at its address for the program, wherever it moves. Not for
 * buffers that a device or io_uring, O_DIRECT or a process-shared futex uses by address, unless
 * pinned.
 * -EINVAL: zero or overflowing size, bad flags; -ENOMEM: the pool is full or out of addresses; -ESTALE.
 */
int berth_map(struct berth_pool *pool, size_t bytes, unsigned flags,
	      void **address) BERTH_MUST_CHECK;
/*
 * Likewise, in blocks of at most run_bytes (a power of two, a page .. 2 MiB) instead of as large as
 * there are: for benchmarks and tests. Blocks that follow each other in the pool are one run all the
 * same; growing two regions in turn scatters them.
 */
int berth_map_runs(struct berth_pool *pool, size_t bytes, size_t run_bytes, unsigned flags,
		   void **address) BERTH_MUST_CHECK;
/*
 * Grows memory in place. -ENOMEM: no frames, or the addresses behind it are taken (map anew and
 * copy). -EINVAL: not the address and size of a mapping, or not larger; -ESTALE.
 */
int berth_grow(struct berth_pool *pool, void *address, size_t old_bytes,
	       size_t new_bytes) BERTH_MUST_CHECK;
/* Unmaps what berth_map() returned, whole. -EBUSY: pinned. -EINVAL: not a mapping; -ESTALE. */
int berth_unmap(struct berth_pool *pool, void *address, size_t bytes) BERTH_MUST_CHECK;

enum berth_pin_flags {
	BERTH_PIN_LONG_TERM =
		1u << 0, /* moves the memory out of areas first, so it's in nobody's way */
};

/*
 * Pins mapped memory for a device or a direct transfer: it doesn't move until berth_unpin(). `name`
 * (copied, up to 31 bytes) is what failed claims report. -EINVAL: not mapped movable memory; -ENOSPC:
 * too many pins; -ENOMEM, -EBUSY: a long-term pin can't move it out; -ESTALE.
 */
int berth_pin(struct berth_pool *pool, const void *address, size_t bytes, const char *name,
	      unsigned flags, uint64_t *pin) BERTH_MUST_CHECK;
int berth_unpin(struct berth_pool *pool, uint64_t pin) BERTH_MUST_CHECK;

/* The place of mapped memory in the pool now, for tests and tools; (size_t)-1: not in the pool. */
size_t berth_offset_of(struct berth_pool *pool, const void *address);

/* ---- Discardable memory ----------------------------------------------------------------------------------- */

struct berth_store;

/*
 * The store of an area with policy=gcma (NULL: of the first such area): pages by key, kept in what isn't
 * claimed of it, which a claim takes away without asking. Its functions are those of <berth/store.h>. There is one
 * store for an area, made at the first call, which makes the area resident; it takes 1.5 % of the area in
 * ordinary memory. It lives until the pool is closed, and nobody may use it any more by then.
 * In a forked child the parent's store is empty and stays so: gets find nothing, puts answer -ESTALE.
 * -ENOENT: no such area; -EINVAL: it has another policy; -ENOMEM; -ESTALE.
 */
int berth_pool_store(struct berth_pool *pool, const char *area,
		     struct berth_store **store) BERTH_MUST_CHECK;

/*
 * Leases: memory of the pool that is used in place while it is locked, and may be taken at any other time: by claims, by
 * berth_map() and by other leases when there is nothing else. Then it is lost, and what it held has to be
 * made anew. They are those of <berth/lease.h>, with addresses; of a pool that was opened with lease_bytes.
 * Any thread, at any time; they may sleep. Leases end with the pool, and a forked child has none: -ESTALE, as for
 * another process's pool -EOPNOTSUPP.
 */
#define BERTH_POOL_MAX_LEASES 1024u

/*
 * A new lease of `bytes` (1 .. 2 MiB, rounded up to pages), which holds anything and isn't locked. `name` (NULL: none)
 * is what a claim reports that meets it locked; 31 bytes of it are kept. -EINVAL: also a pool without leases; -ENOSPC:
 * there are BERTH_POOL_MAX_LEASES; -ENOMEM: no room, even without all leases that aren't locked.
 */
int berth_pool_lease(struct berth_pool *pool, size_t bytes, const char *name,
		     berth_lease_t *lease) BERTH_MUST_CHECK;
/*
 * Locks it, perhaps once more: until the matching unlock *address is the caller's, for *bytes (may be NULL), and holds
 * what it held at the last unlock. It's readable and writable by its address until then, and not to be touched
 * afterwards. -ENOENT: lost, and so it stays: free it. -ENOSPC: too much would be locked. -EBUSY: not at this moment.
 * -ENOMEM: the system has no memory. -EINVAL: no such lease. Not locked then. Costs a pin of each page.
 */
int berth_pool_lease_lock(struct berth_pool *pool, berth_lease_t lease, void **address,
			  size_t *bytes) BERTH_MUST_CHECK;
/* -EINVAL: no such lease, or it isn't locked. */
int berth_pool_lease_unlock(struct berth_pool *pool, berth_lease_t lease) BERTH_MUST_CHECK;
/* Gives it back, lost or not. -EBUSY: it's locked; -EINVAL: no such lease. */
int berth_pool_lease_free(struct berth_pool *pool, berth_lease_t lease) BERTH_MUST_CHECK;
/* -EINVAL: the pool has no leases. */
int berth_pool_lease_stats(struct berth_pool *pool,
			   struct berth_lease_stats *stats) BERTH_MUST_CHECK;

/* ---- Statistics ----------------------------------------------------------------------------------------- */

struct berth_pool_stats {
	size_t pool_bytes, free_bytes, claimed_bytes, used_bytes; /* used: mapped, or cached */
	size_t mapped_bytes;           /* movable memory that is in the pool */
	size_t area_bytes, lent_bytes; /* all areas; what of them is lent now */
	size_t metadata_bytes;
	uint64_t claims_ok, claims_failed, claims_held;
	uint64_t moved_bytes, moved_runs, stalled_runs, moves_skipped;
	uint64_t longest_stall_ns; /* upper bound of a writer's wait for a move */
	uint64_t pins;
	const char *mover; /* how memory is moved: "userfaultfd", ... */
	/* While others wait for moves, the system is asked to keep CPUs awake. False on an attached pool. */
	bool keeps_awake;
};
/* On an attached pool the tenant is asked: errors as berth_attach(), -ESRCH: it has ended. Claims are
 * those that it made for other processes; of an area's statistics only the bytes and runs are known. */
int berth_pool_stats(struct berth_pool *pool, struct berth_pool_stats *stats) BERTH_MUST_CHECK;
/* One area's, by name (NULL: as with berth_claim()). -ENOENT; -ESTALE. */
int berth_area_stats(struct berth_pool *pool, const char *area,
		     struct berth_cma_stats *stats) BERTH_MUST_CHECK;

/* Changes how an area lends, and how much it keeps; as berth_cma_set_lend(). -ENOENT; -EOPNOTSUPP: an
 * attached pool, or policy=reserve; -EINVAL; -ESTALE. */
int berth_area_set_lend(struct berth_pool *pool, const char *area, enum berth_lend_policy lend,
			size_t keep_bytes) BERTH_MUST_CHECK;

/*
 * Verifies every invariant of the pool, zone, areas and mapped memory; only while no other thread
 * uses it. True when all hold.
 */
bool berth_pool_check(struct berth_pool *pool, struct berth_violation *violation) BERTH_MUST_CHECK;

/*
 * Debugging aid: moves the borrowers of the pool's next pageblock elsewhere and leaves the pageblock
 * free again; *cursor counts the pageblocks, round and round. Returns the bytes moved, or an error.
 */
int64_t berth_shuffle(struct berth_pool *pool, uint64_t *cursor) BERTH_MUST_CHECK;

/* ---- Words ------------------------------------------------------------------------------------------------ */

/* A sentence for 0 or an error code, of either sign. Never NULL. */
const char *berth_strerror(int error);
/* The name of a code, "EBUSY"; "OK" for 0. Never NULL. */
const char *berth_errname(int error);

#ifdef __cplusplus
}
#endif
#endif
