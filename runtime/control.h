/* SPDX-License-Identifier: MIT */
/*
 * What runs beside the program under `berth run`: the service of claims from outside, and the samples
 * for the report.
 */
#ifndef BERTH_RUNTIME_CONTROL_H
#define BERTH_RUNTIME_CONTROL_H

#include "runtime/internal.h"
#include "runtime/run_record.h"

/*
 * Gets all ready and starts the thread. -ENOMEM: the system refused it. With own_thread the caller is that
 * thread: it calls berth__control_run() next. For this is how to start while forks are kept away: a fork's
 * first handlers are the allocator's, which take its locks, and then wait for us; so a thread that keeps
 * forks away must not use malloc, and starting a thread does.
 */
int berth__control_start(struct berth_pool_impl *pool, struct berth_run_record *record,
			 struct berth_run_process *process, bool own_thread);
/* Doesn't return. */
void berth__control_run(void);
/* In a forked child: the threads and the pool are the parent's. */
void berth__control_forget(void);
/* Brings the process's figures up to date once more. */
void berth__control_finish(void);

#endif
