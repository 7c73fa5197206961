/* SPDX-License-Identifier: MIT */
/*
 * Sizes, times and counts as people write and read them.
 */
#include "tools/units.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MOST_NS (30ull * 365 * 24 * 3600 * 1000000000ull)

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* A whole number at the start of *text. False: there is none. *overflow: it doesn't fit. */
static bool scan_number(const char **text, uint64_t *value, bool *overflow)
{
	const char *at = *text;

	*value = 0;
	*overflow = false;
	for (; is_digit(*at); at++)
		*overflow |= __builtin_mul_overflow(*value, 10, value) ||
			     __builtin_add_overflow(*value, (uint64_t)(*at - '0'), value);
	if (at == *text)
		return false;
	*text = at;
	return true;
}

/* The shift of a size's suffix, or -1. */
static int suffix_shift(const char *suffix)
{
	static const char letters[] = "KMGT";
	const char *letter;

	if (!*suffix)
		return 0;
	letter = strchr(letters, *suffix & ~0x20);
	if (!letter || !*letter || (suffix[1] && strcasecmp(suffix + 1, "iB") != 0))
		return -1;
	return 10 * (int)(letter - letters + 1);
}

const char *berth__parse_size(const char *text, uint64_t *bytes)
{
	const bool negative = *text == '-' && is_digit(text[1]);
	uint64_t value;
	bool overflow;
	int shift;

	if (negative)
		return "is negative; write a size above 0, as in 512M";
	if (!scan_number(&text, &value, &overflow) || (shift = suffix_shift(text)) < 0)
		return "is no size; write bytes, or a number with K, M, G or T, as in 512M";
	if (overflow || value > UINT64_MAX >> shift)
		return "is too large for any machine; write a smaller size, as in 512M";
	if (!value)
		return "is no usable size; it must be above 0, as in 512M";
	*bytes = value << shift;
	return NULL;
}

bool berth__parse_count(const char *text, uint64_t least, uint64_t most, uint64_t *count)
{
	uint64_t value;
	bool overflow;

	if (!scan_number(&text, &value, &overflow) || *text || overflow || value < least ||
	    value > most)
		return false;
	*count = value;
	return true;
}

/* Nanoseconds in a unit at the start of *text; none means seconds. */
static uint64_t scan_time_unit(const char **text)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = { { "us", 1000 }, { "ms", 1000000 }, { "s", 1000000000 } };

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t length = strlen(units[i].name);

		if (strncmp(*text, units[i].name, length) == 0) {
			*text += length;
			return units[i].ns;
		}
	}
	return 1000000000;
}

bool berth__scan_time(const char **text, uint64_t *ns)
{
	const char *at = *text, *fraction = NULL;
	uint64_t whole, unit, part = 0, scale = 1;
	bool overflow;

	if (!scan_number(&at, &whole, &overflow))
		return false;
	if (*at == '.') {
		fraction = ++at;
		while (is_digit(*at))
			at++;
		if (at == fraction)
			return false;
	}
	unit = scan_time_unit(&at);
	if (overflow || whole > MOST_NS / unit)
		return false;
	for (; fraction && is_digit(*fraction) && scale < unit; fraction++) {
		scale *= 10;
		part += unit / scale * (uint64_t)(*fraction - '0');
	}
	*ns = whole * unit + part;
	*text = at;
	return true;
}

/* Three significant digits, without a fraction of zeroes. */
static const char *format(char text[BERTH__UNIT_BYTES], double value, const char *unit)
{
	int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
	int length = snprintf(text, BERTH__UNIT_BYTES - 8, "%.*f", decimals, value);

	while (decimals-- > 0 && text[length - 1] == '0')
		text[--length] = 0;
	if (text[length - 1] == '.')
		text[--length] = 0;
	snprintf(text + length, (size_t)(BERTH__UNIT_BYTES - length), " %s", unit);
	return text;
}

const char *berth__format_bytes(char text[BERTH__UNIT_BYTES], double bytes)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
	unsigned unit = 0;

	if (bytes < 1024)
		return format(text, bytes, "bytes");
	for (bytes /= 1024; bytes >= 1023.5 && unit < 3; unit++)
		bytes /= 1024;
	return format(text, bytes, units[unit]);
}

const char *berth__format_ns(char text[BERTH__UNIT_BYTES], double ns)
{
	static const char *const units[] = { "ns", "us", "ms", "s" };
	unsigned unit = 0;

	if (ns == 0)
		return format(text, 0, "s");
	for (; ns >= 999.5 && unit < 3; unit++)
		ns /= 1000;
	return format(text, ns, units[unit]);
}
