/* SPDX-License-Identifier: MIT */
/*
 * Copying by several threads.
 *
 * I1  A part is copied by who took it: who moved the ticket on from that part's number. So every part is copied
 *     once, and a thread that still looks at an earlier job takes nothing: the ticket carries the job's number.
 * I2  A job's fields change only when all parts of the one before are complete, and before its ticket is
 *     stored. So whoever takes a part has read the fields of its own job.
 *
 * Cost: a compare-and-swap and an addition for each 64 KiB; a system call to wake those who sleep, which they do
 * only when there was nothing to do for some 50 us.
 */
#define _GNU_SOURCE
#include "port/linux/copiers.h"

#include <linux/futex.h>

#include <berth_port.h>

#include "port/linux/copy.h"
#include "port/linux/raw.h"

#define PART_BYTES ((size_t)64 << 10)
#define SPINS 2000u

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	(void)berth_raw4(SYS_futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, NULL);
}

static void futex_wake(_Atomic uint32_t *word, int most)
{
	(void)berth_raw4(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, most, NULL);
}

/* Takes and copies parts of a job until there are none left. */
static void take_parts(struct berth_copiers *copiers, uint32_t job)
{
	uint64_t ticket = atomic_load_explicit(&copiers->ticket, memory_order_acquire);

	while (ticket >> 32 == job) {
		size_t bytes = atomic_load_explicit(&copiers->bytes, memory_order_relaxed);
		char *dst = atomic_load_explicit(&copiers->dst, memory_order_relaxed);
		const char *src = atomic_load_explicit(&copiers->src, memory_order_relaxed);
		size_t at = (size_t)(uint32_t)ticket * PART_BYTES;

		if (at >= bytes)
			return;
		if (!atomic_compare_exchange_weak_explicit(&copiers->ticket, &ticket, ticket + 1,
							   memory_order_acq_rel,
							   memory_order_acquire))
			continue;
		berth_copy(dst + at, src + at, bytes - at < PART_BYTES ? bytes - at : PART_BYTES);
		atomic_fetch_add(&copiers->copied, 1);
		if (atomic_load(&copiers->owner_sleeps))
			futex_wake(&copiers->copied, 1);
		ticket++;
	}
}

static void *copier_main(void *arg)
{
	struct berth_copiers *copiers = arg;
	uint32_t seen = 0; /* the first job is 1: one that began before this thread isn't missed */

	for (;;) {
		uint32_t job = atomic_load_explicit(&copiers->job, memory_order_acquire);

		for (unsigned i = 0; i < SPINS && job == seen; i++) {
			berth_relax();
			job = atomic_load_explicit(&copiers->job, memory_order_acquire);
		}
		if (job == seen) {
			atomic_fetch_add(&copiers->sleepers, 1);
			futex_wait(&copiers->job, seen);
			atomic_fetch_sub(&copiers->sleepers, 1);
			continue;
		}
		if (atomic_load_explicit(&copiers->stop, memory_order_relaxed))
			return NULL;
		take_parts(copiers, job);
		seen = job;
	}
}

/* Everything that was stored before is for those who see the new number. */
static uint32_t next_job(struct berth_copiers *copiers)
{
	uint32_t job = atomic_load_explicit(&copiers->job, memory_order_relaxed) + 1;

	atomic_store_explicit(&copiers->ticket, (uint64_t)job << 32, memory_order_release);
	atomic_store(&copiers->job, job);
	if (atomic_load(&copiers->sleepers))
		futex_wake(&copiers->job, BERTH_MAX_COPIERS);
	return job;
}

int berth_copiers_start(struct berth_copiers *copiers, unsigned nr, berth_start_thread_fn start)
{
	while (copiers->nr < nr) {
		int error = start(copier_main, copiers, &copiers->threads[copiers->nr]);

		if (error) {
			berth_copiers_stop(copiers);
			return error;
		}
		copiers->nr++;
	}
	return 0;
}

void berth_copiers_stop(struct berth_copiers *copiers)
{
	if (!copiers->nr)
		return;
	atomic_store_explicit(&copiers->bytes, 0, memory_order_relaxed);
	atomic_store_explicit(&copiers->stop, 1, memory_order_relaxed);
	(void)next_job(copiers);
	while (copiers->nr)
		pthread_join(copiers->threads[--copiers->nr], NULL);
	atomic_store_explicit(&copiers->stop, 0, memory_order_relaxed);
}

void berth_copiers_copy(struct berth_copiers *copiers, void *dst, const void *src, size_t bytes)
{
	uint32_t parts = (uint32_t)((bytes + PART_BYTES - 1) / PART_BYTES), copied;
	unsigned spins = 0;

	if (!copiers->nr || bytes < BERTH_COPIERS_LEAST) {
		berth_copy(dst, src, bytes);
		return;
	}
	atomic_store_explicit(&copiers->copied, 0, memory_order_relaxed);
	atomic_store_explicit(&copiers->dst, dst, memory_order_relaxed);
	atomic_store_explicit(&copiers->src, src, memory_order_relaxed);
	atomic_store_explicit(&copiers->bytes, bytes, memory_order_relaxed);
	take_parts(copiers, next_job(copiers));
	while ((copied = atomic_load(&copiers->copied)) < parts) {
		if (spins++ < SPINS) {
			berth_relax();
			continue;
		}
		atomic_store(&copiers->owner_sleeps, 1);
		copied = atomic_load(&copiers->copied);
		if (copied < parts)
			futex_wait(&copiers->copied, copied);
		atomic_store(&copiers->owner_sleeps, 0);
	}
}
