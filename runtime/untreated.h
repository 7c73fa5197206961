/* SPDX-License-Identifier: MIT */
/*
 * Testing aid: treatments of a program's habits, by name, and which of them are turned off.
 *
 * A test of a treatment must be able to fail. So BERTH_UNTREATED=name[,name...] in the environment
 * leaves those treatments out, and the test then has to see the damage. Never set it otherwise.
 */
#ifndef BERTH_RUNTIME_UNTREATED_H
#define BERTH_RUNTIME_UNTREATED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BERTH_UNTREATED_ENV "BERTH_UNTREATED"

/* Each is a constant BERTH_TREAT_..., and a name in the environment. (Those of SQLite are read in sqlite/lent.c.) */
#define BERTH_TREATMENTS(X)               \
	X(MPROTECT, "mprotect")           \
	X(MLOCK, "mlock")                 \
	X(MREMAP, "mremap")               \
	X(MMAP, "mmap")                   \
	X(MUNMAP, "munmap")               \
	X(MADVISE, "madvise")             \
	X(MSYNC, "msync")                 \
	X(MINCORE, "mincore")             \
	X(VMSPLICE, "vmsplice")           \
	X(FUTEX, "futex")                 \
	X(STACKS, "stacks")               \
	X(ALIGNED, "aligned")             \
	X(DESCRIPTORS, "descriptors")     \
	X(SECCOMP, "seccomp")             \
	X(THREADS, "threads")             \
	X(LIMITS, "limits")               \
	X(LAST_THREAD, "last-thread")     \
	X(DIRECT_IO, "direct-io")         \
	X(SQLITE_LOOKUP, "sqlite-lookup") \
	X(SQLITE_WRITES, "sqlite-writes") \
	X(SQLITE_CUT, "sqlite-cut")

#define BERTH_TREAT_CONSTANT(constant, name) BERTH_TREAT_##constant,
enum berth_treatment { BERTH_TREATMENTS(BERTH_TREAT_CONSTANT) BERTH_NR_TREATMENTS };
#undef BERTH_TREAT_CONSTANT

/* Bit a treatment; written by berth__untreated_init() only. */
extern _Atomic uint32_t berth__untreated_mask;

/* Reads the environment, once, when the library starts. A name that isn't known ends the process: the
 * test that gave it would prove nothing. */
void berth__untreated_init(void);

static inline bool berth__untreated(enum berth_treatment treatment)
{
	return atomic_load_explicit(&berth__untreated_mask, memory_order_relaxed) >> treatment & 1;
}

#endif
