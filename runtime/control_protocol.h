/* SPDX-License-Identifier: MIT */
/*
 * What a tenant and other processes of the same user say to each other: messages of fixed size, one a
 * datagram, over SOCK_SEQPACKET sockets. A tenant listens at DIRECTORY/<its pid>, see
 * berth__control_directory().
 *
 *	connection: tenant -> HELLO, then as often as wanted: STAT -> STAT, CLAIM -> CLAIMED,
 *	ATTACH -> ATTACHED, one request at a time; or a bare header of type ERROR, and hang-up
 *
 * I1  Every message begins with a header that says magic, version, type and the message's size; a
 *     message that isn't exactly so ends the connection. Another version is answered with ERROR.
 * I2  CLAIMED without an error and ATTACHED carry descriptors (SCM_RIGHTS): the pool's memory file,
 *     and with CLAIMED the token, one end of a socket pair. The range is the claimant's as long as
 *     any copy of the token is open; shutdown() of it counts as closing all. A claim whose message
 *     isn't delivered isn't made.
 * I3  A token hangs up (POLLHUP) when the tenant has ended: exited, killed, or become another program
 *     by exec. The range stays the claimant's, in the memory file.
 * I4  Texts end with a zero byte, whatever the sender says: berth__client_*() sees to it.
 * I5  Both sides check the other's user (SO_PEERCRED): the same, or root as client.
 */
#ifndef BERTH_CONTROL_PROTOCOL_H
#define BERTH_CONTROL_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#define BERTH_CONTROL_MAGIC 0x68747262u /* "brth" */
#define BERTH_CONTROL_VERSION 2u
#define BERTH_CONTROL_NAME 32
#define BERTH_CONTROL_TEXT 64
#define BERTH_CONTROL_AREAS 16
#define BERTH_CONTROL_TOKENS 64 /* claims that one tenant's server holds at the same time */
#define BERTH_CONTROL_PHASES 5  /* as enum berth_claim_phase */

enum berth_control_type {
	BERTH_CONTROL_ERROR = 1, /* header only: `error` says why; the connection ends */
	BERTH_CONTROL_HELLO,
	BERTH_CONTROL_STAT, /* request: header only */
	BERTH_CONTROL_STAT_REPLY,
	BERTH_CONTROL_CLAIM,
	BERTH_CONTROL_CLAIM_REPLY,
	BERTH_CONTROL_ATTACH, /* request: header only */
	BERTH_CONTROL_ATTACH_REPLY,
};

struct berth_control_header {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint32_t bytes; /* of the whole message */
	int32_t error;  /* 0 or -BERTH_E...; in requests 0 */
};

struct berth_control_hello {
	struct berth_control_header header;
	int32_t pid;
	int32_t root_pid; /* the first process of its tree */
	int32_t tree;     /* pid of the `berth run` that it lives under; 0: none */
	int32_t reserved;
	uint64_t instance; /* differs after an exec, and from any other tenant with this pid */
	char program[BERTH_CONTROL_NAME];
};

/* ---- STAT ------------------------------------------------------------------------------------------- */

struct berth_control_area {
	char name[BERTH_CONTROL_NAME];
	uint64_t bytes, free_bytes, claimed_bytes, lent_bytes;
	uint64_t largest_free_bytes, largest_claimable_bytes;
	char policy[16];
	uint64_t keep_bytes; /* it lends down to that */
	uint32_t lend;       /* enum berth_lend_policy */
	uint32_t reserved;
};

/* A claim that somebody holds through the server. */
struct berth_control_held {
	char claimant[BERTH_CONTROL_NAME];
	int32_t claimant_pid; /* who asked for it; others may hold the token now */
	uint32_t area;        /* index */
	uint64_t offset, bytes;
	uint64_t held_ns;
};

struct berth_control_stat {
	struct berth_control_header header;
	int32_t pid, root_pid, tree;
	uint32_t nr_areas, nr_held;
	uint32_t nr_pending; /* claims that wait */
	uint64_t instance;
	char program[BERTH_CONTROL_NAME];
	char mover[BERTH_CONTROL_NAME];
	char why_no_pool[128]; /* empty, or what keeps the heap out of the pool */
	char notice[256];      /* empty, or what the mover can't do here */
	uint64_t pool_bytes, area_bytes;
	uint64_t free_bytes, claimed_bytes, used_bytes, mapped_bytes, lent_bytes, metadata_bytes;
	uint64_t claims_ok, claims_failed, claims_held; /* made for other processes */
	uint64_t moved_bytes, moved_runs, stalled_runs, moves_skipped; /* for whatever reason */
	uint64_t longest_stall_ns;
	/* How long claims that succeeded took, whoever made them; 0: none did. */
	uint64_t claim_p50_ns, claim_p99_ns, claim_max_ns;
	uint64_t pins;
	uint64_t heap_pool_bytes, heap_outside_bytes;
	struct berth_control_area areas[BERTH_CONTROL_AREAS];
	struct berth_control_held held[BERTH_CONTROL_TOKENS]; /* the first nr_held */
};

/* ---- CLAIM ------------------------------------------------------------------------------------------ */

enum berth_control_claim_flags {
	BERTH_CONTROL_RAW = 1u << 0,       /* as the tenant left it; otherwise zeroed */
	BERTH_CONTROL_FREE_ONLY = 1u << 1, /* as BERTH_CLAIM_FREE_ONLY */
	BERTH_CONTROL_FIRST_FIT = 1u << 2, /* as BERTH_CLAIM_FIRST_FIT */
	BERTH_CONTROL_DEVICE = 1u << 3,    /* `area` is the name of a device: its area */
};

struct berth_control_claim {
	struct berth_control_header header;
	char area[BERTH_CONTROL_NAME];     /* empty: the default one, or the first */
	char claimant[BERTH_CONTROL_NAME]; /* what others are told about who holds it */
	uint64_t bytes;                    /* rounded up to pages */
	uint64_t align_bytes;              /* a power of two, 0: a page */
	uint64_t timeout_ns; /* from the request's arrival: for how long holders and other claims may be
			      * waited for, moves included. 0: as long as the moves take, no waiting */
	uint32_t flags;      /* enum berth_control_claim_flags */
	uint32_t reserved;
};

/*
 * header.error: -EINVAL, -ENOENT: no such area, -ENODEV: none for the device, -E2BIG, -ENOMEM, -EBUSY, -ENOSPC: as berth_claim(); also
 * -ENOSPC: claims were still in place at the deadline, and -EAGAIN: holders were, or FREE_ONLY and not
 * free; -EBUSY also: the server has no room for another claim.
 */
struct berth_control_claimed {
	struct berth_control_header header;
	uint64_t offset, bytes; /* in the pool; bytes as given, rounded up */
	uint64_t pool_bytes;
	uint64_t claim_ns; /* from the first try to the end of the last one */
	uint64_t wait_ns;  /* of this: between tries */
	uint64_t zero_ns;  /* afterwards */
	uint64_t cpu_ns;   /* of the tries */
	uint64_t moved_bytes, free_bytes_taken, busy_blocks;
	uint32_t tries;   /* ranges tried */
	uint32_t retries; /* times it waited */
	uint64_t phase_ns[BERTH_CONTROL_PHASES];
	/* Failed: */
	uint64_t blocker_offset, blocker_bytes; /* offset UINT64_MAX: none */
	uint64_t largest_free_bytes, largest_claimable_bytes;
	char area[BERTH_CONTROL_NAME];
	char blocker_owner[BERTH_CONTROL_TEXT]; /* empty: unknown */
	char blocker_holder[BERTH_CONTROL_NAME];
};

/* ---- ATTACH ----------------------------------------------------------------------------------------- */

/* With the pool's memory file, to be mapped beforehand. */
struct berth_control_attached {
	struct berth_control_header header;
	uint64_t pool_bytes;
	uint64_t instance;
};

/* ---- Where (control_socket.c) ------------------------------------------------------------------------- */

/*
 * The directory of `uid`'s control sockets, for ourselves $XDG_RUNTIME_DIR/berth, else and for others
 * /run/user/UID/berth if /run/user/UID exists, else /tmp/berth-UID. `create`: makes it, mode 0700.
 * Returns a descriptor (CLOEXEC) and the path, if `path` isn't NULL. -BERTH_ESRCH: there is none; -BERTH_EPERM:
 * it isn't a directory, is a symbolic link, belongs to somebody else or others may enter it;
 * -BERTH_EINVAL: the path is longer than PATH_MAX. Allocates nothing.
 */
int berth__control_directory(uid_t uid, bool create, char *path, size_t path_bytes);
/* Its path when the environment says nothing. False: it doesn't fit. */
bool berth__control_usual_path(uid_t uid, char *path, size_t bytes);
/* Opens a directory, or makes it, whose path is known already. */
int berth__control_open(const char *path, uid_t uid, bool create);
/* A tenant's file name in the directory. */
void berth__control_name(long pid, char *name, size_t bytes);
/* The address of a tenant's socket in that directory; `directory` stays open meanwhile. The path
 * goes through /proc/thread-self/fd (a thread may have descriptors of its own), so that it is short
 * and the directory the one that was looked at. */
socklen_t berth__control_address(int directory, long pid, struct sockaddr_un *address);
/* Fills in a header. */
void berth__control_header(void *message, enum berth_control_type type, size_t bytes);

#endif
