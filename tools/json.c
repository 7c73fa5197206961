/* SPDX-License-Identifier: MIT */
/*
 * What the commands' JSON has in common.
 */
#include "tools/json.h"

#include <math.h>
#include <string.h>

const char *berth__printable(char text[BERTH__TEXT_BYTES], const char *from, size_t room)
{
	size_t length = strnlen(from, room < BERTH__TEXT_BYTES ? room : BERTH__TEXT_BYTES - 1);

	memcpy(text, from, length);
	text[length] = 0;
	for (char *at = text; *at; at++)
		if ((unsigned char)*at < ' ' || (unsigned char)*at >= 0x7f)
			*at = '?';
	return text;
}

void berth__json_add(json_t *object, const char *name, double value)
{
	json_object_set_new(object, name, json_real(round(value * 1000) / 1000));
}

void berth__json_count(json_t *object, const char *name, uint64_t value)
{
	json_object_set_new(object, name, json_integer((json_int_t)value));
}

void berth__json_text(json_t *object, const char *name, const char *from, size_t room)
{
	char text[BERTH__TEXT_BYTES];

	json_object_set_new(object, name,
			    *berth__printable(text, from, room) ? json_string(text) : json_null());
}

void berth__json_string(json_t *object, const char *name, const char *text)
{
	berth__json_text(object, name, text, strlen(text));
}

void berth__json_print_to(FILE *out, json_t *object)
{
	json_dumpf(object, out, JSON_COMPACT | JSON_REAL_PRECISION(15));
	fputc('\n', out);
	fflush(out);
	json_decref(object);
}

void berth__json_print(json_t *object)
{
	berth__json_print_to(stdout, object);
}
