/* SPDX-License-Identifier: MIT */
/*
 * What the commands' JSON has in common. Texts may come from other processes: they are made printable.
 */
#ifndef BERTH_TOOLS_JSON_H
#define BERTH_TOOLS_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define BERTH__TEXT_BYTES 512

/* At most `room` bytes of a text that another process wrote or writes, as printable ASCII. */
const char *berth__printable(char text[BERTH__TEXT_BYTES], const char *from, size_t room);

/* Adds a number with three decimals. */
void berth__json_add(json_t *object, const char *name, double value);
/* Adds a whole number. */
void berth__json_count(json_t *object, const char *name, uint64_t value);
/* Adds at most `room` bytes of a text, made printable; null if it's empty. */
void berth__json_text(json_t *object, const char *name, const char *from, size_t room);
void berth__json_string(json_t *object, const char *name, const char *text);
/* One line, written at once; releases the object. */
void berth__json_print_to(FILE *out, json_t *object);
/* The same on stdout. */
void berth__json_print(json_t *object);

#endif
