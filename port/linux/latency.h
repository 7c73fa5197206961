/* SPDX-License-Identifier: MIT */
/*
 * How long a CPU without work may take to wake up: the kernel's quality of service for all CPUs, /dev/cpu_dma_latency.
 */
#ifndef BERTH_PORT_LINUX_LATENCY_H
#define BERTH_PORT_LINUX_LATENCY_H

#include <stdbool.h>
#include <stdint.h>

struct berth_latency {
	int fd; /* -1: the system doesn't let us ask */
	uint64_t device;
};

/* Asks for nothing yet. Refused to all but root where nobody changed that; then the other two do nothing. */
void berth_latency_open(struct berth_latency *latency);
/*
 * none: from now on CPUs without work don't sleep, they wait for it awake; else: as the system likes. 10 us, and 1 us.
 * The request ends with the process, too, whatever happens to it.
 */
void berth_latency_request(struct berth_latency *latency, bool none);
void berth_latency_close(struct berth_latency *latency);

#endif
