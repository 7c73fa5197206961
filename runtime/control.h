/* SPDX-License-Identifier: MIT */
/*
 * What runs beside the program under `berth run`: the service of claims from outside, and the samples
 * for the report.
 */
#ifndef BERTH_RUNTIME_CONTROL_H
#define BERTH_RUNTIME_CONTROL_H

#include "runtime/internal.h"
#include "runtime/run_record.h"

/* Starts the threads; not by one that keeps forks away, since that uses malloc. -ENOMEM: the system refused one. */
int berth__control_start(struct berth_pool_impl *pool, struct berth_run_record *record,
			 struct berth_run_process *process);
/* Ends the threads, and returns when the kernel has forgotten them; starts them again. -ENOMEM. */
void berth__control_stop(void);
int berth__control_resume(void);
/* Waits until the kernel has forgotten a thread that was joined. */
void berth__thread_gone(int tid);
/* In a forked child: the threads and the pool are the parent's. */
void berth__control_forget(void);
/* Brings the process's figures up to date once more. */
void berth__control_finish(void);

#endif
