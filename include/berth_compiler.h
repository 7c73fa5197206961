/* SPDX-License-Identifier: MIT */
/*
 * What the compiler is told about branches and functions that it can't know. Private, and below all layers: none of them
 * needs another for it.
 */
#ifndef BERTH_COMPILER_H
#define BERTH_COMPILER_H

#define BERTH_LIKELY(x) __builtin_expect(!!(x), 1)
#define BERTH_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define BERTH_COLD __attribute__((noinline, cold)) /* kept out of hot functions */
/* Functions of this kind lie together: a path that is taken rarely, from caches that have forgotten it, then
 * touches few pages of code. */
#define BERTH_HOT __attribute__((hot))

#endif
