/* SPDX-License-Identifier: MIT */
/*
 * The cold half of the Linux port: clock, membarrier, waiting, the stop on a broken invariant.
 */
#ifndef BERTH_PORT_LINUX_H
#define BERTH_PORT_LINUX_H

#include <berth/port.h>

#define BERTH_LINUX_SLOTS 1024u /* threads with a slot at a time, at most */

/*
 * The operations with barrier_all and restart_copies when membarrier(2) can do that in this process and
 * without them otherwise. The first call registers the process. They need no context.
 */
const struct berth_port_ops *berth_port_linux_ops(void);

/* In a forked child: the slots of threads that aren't here are free. */
void berth_port_linux_fork_child(void);

#endif
