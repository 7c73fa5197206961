/* SPDX-License-Identifier: MIT */
/*
 * Sizes, times and counts as people write and read them. Numbers are decimal, without locale.
 */
#ifndef BERTH_TOOLS_UNITS_H
#define BERTH_TOOLS_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Bytes > 0: a whole number, alone or with K, M, G or T (also KiB ...; powers of 1024). NULL, or
 * what is wrong: the end of a sentence that begins with the quoted text, such as "is negative;
 * ...".
 */
const char *berth__parse_size(const char *text, uint64_t *bytes);
/* A whole number from least to most; false: it isn't. */
bool berth__parse_count(const char *text, uint64_t least, uint64_t most, uint64_t *count);
/*
 * A time at the start of *text, which is moved behind it: a number, maybe with a fraction, alone
 * (seconds) or with s, ms or us. False: there is none, or it is longer than 30 years.
 */
bool berth__scan_time(const char **text, uint64_t *ns);

/* Room for what the format functions write. */
#define BERTH__UNIT_BYTES 32

/* "512 MiB", "1.5 GiB", "12 bytes"; writes and returns `text`. */
const char *berth__format_bytes(char text[BERTH__UNIT_BYTES], double bytes);
/* "850 ns", "12.3 us", "4.56 ms", "12.3 s"; likewise. */
const char *berth__format_ns(char text[BERTH__UNIT_BYTES], double ns);

#endif
