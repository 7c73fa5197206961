/* SPDX-License-Identifier: MIT */
/*
 * A detector for writes to memory that has moved away (`berth run --stress --quarantine`).
 */
#ifndef BERTH_RUNTIME_QUARANTINE_H
#define BERTH_RUNTIME_QUARANTINE_H

#include "runtime/internal.h"

/* Readies it for a pool; poison: what is moved away is overwritten. -ENOMEM. Called once. */
int berth__quarantine_start(struct berth_pool_impl *pool, bool poison);
/*
 * As berth__pool_shuffle(), but what was moved away stays untouched for a few turns and is looked at
 * then. *late grows by the pages that somebody has written to meanwhile. One thread.
 */
int64_t berth__quarantine_turn(struct berth_pool_impl *pool, uint64_t *cursor,
			       _Atomic uint64_t *late);

#endif
