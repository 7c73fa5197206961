/* SPDX-License-Identifier: MIT */
/*
 * syscall(), interposed: what we have to know of arrives here too when a program names the system
 * call itself. (What it does by instructions of its own nobody sees.)
 */
#ifndef BERTH_RUNTIME_SYSCALL_H
#define BERTH_RUNTIME_SYSCALL_H

#include <stdbool.h>

/*
 * One function for each file that cares. True: the call is done and *result is what the kernel would
 * return, a negative errno value included. False: it is the kernel's. Only for the numbers that are
 * in the table of syscall.c.
 */
bool berth__call_descriptors(long number, const long arg[6], long *result);
bool berth__call_direct(long number, const long arg[6], long *result);
bool berth__call_sandbox(long number, const long arg[6], long *result);

#endif
