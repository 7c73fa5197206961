/* SPDX-License-Identifier: MIT */
/*
 * The preload library's part of `berth run --sqlite-cache`.
 */
#ifndef BERTH_RUNTIME_SQLITE_LEND_H
#define BERTH_RUNTIME_SQLITE_LEND_H

#include "runtime/internal.h"
#include "runtime/run_record.h"
#include "runtime/sqlite_backend.h"

/* This process has a pool now. */
void berth__sqlite_lend_start(struct berth_pool_impl *pool, const struct berth_run_record *record,
			      struct berth_run_process *process);
/* It has none any more: after a fork, or for a sandbox. */
void berth__sqlite_lend_stop(struct berth_run_process *process);
/* The store's figures into the record. */
void berth__sqlite_sample(struct berth_run_process *process);

#endif
