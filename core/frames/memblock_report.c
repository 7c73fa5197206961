/* SPDX-License-Identifier: MIT */
/*
 * Memblock looked at from outside: totals, the lists as text, and the check of the invariants that
 * memblock.c numbers.
 *
 * Complexity: O(regions) each; free bytes O(regions log regions).
 */
#include <berth/memblock.h>

#include "core/internal.h"

void berth_memblock_stats(const struct berth_memblock *memblock, struct berth_memblock_stats *stats)
{
	const struct berth_memblock_list *memory = &memblock->memory,
					 *reserved = &memblock->reserved;
	struct berth_memblock_region range;

	*stats = (struct berth_memblock_stats){
		.memory_bytes = memory->total_bytes,
		.reserved_bytes = reserved->total_bytes,
		.nr_memory = memory->nr,
		.nr_reserved = reserved->nr,
		.max_memory = memory->max,
		.max_reserved = reserved->max,
	};
	if (memory->nr) {
		range = memory->regions[memory->nr - 1];
		stats->start = memory->regions[0].base;
		stats->end = range.base + range.size_bytes;
	}
	for (berth_phys_t at = 0; berth_memblock_next_free(memblock, &at, &range);)
		stats->free_bytes += range.size_bytes;
}

/* ---- Text -------------------------------------------------------------------------------------- */

/* Takes text without end, keeps what fits. */
struct text {
	char *at;
	size_t room, length;
};

static void put_char(struct text *text, char c)
{
	if (text->length < text->room)
		text->at[text->length] = c;
	text->length++;
}

static void put_string(struct text *text, const char *s)
{
	while (*s)
		put_char(text, *s++);
}

/* At least `digits` digits of base 10 or 16. */
static void put_number(struct text *text, uint64_t value, unsigned base, unsigned digits)
{
	char reversed[20];
	unsigned nr = 0;

	do {
		reversed[nr++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value || (nr < digits && nr < sizeof(reversed)));
	while (nr)
		put_char(text, reversed[--nr]);
}

static void put_hex(struct text *text, uint64_t value, unsigned digits)
{
	put_string(text, "0x");
	put_number(text, value, 16, digits);
}

static void put_list(struct text *text, const char *name, const struct berth_memblock_list *list)
{
	put_char(text, ' ');
	put_string(text, name);
	put_string(text, ".cnt  = ");
	put_hex(text, list->nr, 1);
	put_char(text, '\n');
	for (uint32_t i = 0; i < list->nr; i++) {
		const struct berth_memblock_region *r = &list->regions[i];

		put_char(text, ' ');
		put_string(text, name);
		put_char(text, '[');
		put_hex(text, i, 1);
		put_string(text, "]\t[");
		put_hex(text, r->base, 16);
		put_char(text, '-');
		put_hex(text, r->base + r->size_bytes - 1, 16);
		put_string(text, "], ");
		put_hex(text, r->size_bytes, 16);
		put_string(text, " bytes");
		if (r->node != BERTH_MEMBLOCK_ANY_NODE) {
			put_string(text, " on node ");
			put_number(text, r->node, 10, 1);
		}
		put_string(text, " flags: ");
		put_hex(text, r->flags, 1);
		put_char(text, '\n');
	}
}

size_t berth_memblock_dump(const struct berth_memblock *memblock, char *text, size_t bytes)
{
	struct text out = { .at = text, .room = bytes ? bytes - 1 : 0 };

	put_string(&out, "MEMBLOCK configuration:\n memory size = ");
	put_hex(&out, memblock->memory.total_bytes, 16);
	put_string(&out, " reserved size = ");
	put_hex(&out, memblock->reserved.total_bytes, 16);
	put_char(&out, '\n');
	put_list(&out, "memory", &memblock->memory);
	put_list(&out, "reserved", &memblock->reserved);
	if (bytes)
		text[out.length < out.room ? out.length : out.room] = '\0';
	return out.length;
}

/* ---- The check --------------------------------------------------------------------------------- */

static bool violated(struct berth_violation *violation, const char *what, uint64_t where,
		     uint64_t value, uint64_t expected)
{
	if (violation)
		*violation = (struct berth_violation){ what, where, value, expected };
	return false;
}

static bool check_list(const struct berth_memblock_list *list, struct berth_violation *violation)
{
	const struct berth_memblock_region *before = NULL;
	uint64_t bytes = 0, end = 0;

	if (!list->max || list->nr > list->max)
		return violated(violation, "memblock.I1 more regions than room", 0, list->nr,
				list->max);
	for (uint32_t i = 0; i < list->nr; i++) {
		const struct berth_memblock_region *r = &list->regions[i];

		if (!r->size_bytes || r->size_bytes > BERTH_PHYS_MAX - r->base)
			return violated(violation, "memblock.I1 size of the region at", r->base,
					r->size_bytes, BERTH_PHYS_MAX - r->base);
		if (before && r->base < end)
			return violated(violation, "memblock.I1 end of the region before", r->base,
					end, r->base);
		if (before && r->base == end && r->flags == before->flags &&
		    r->node == before->node)
			return violated(violation, "memblock.I2 unmerged neighbours at", r->base, i,
					i - 1);
		if (r->flags & ~(uint32_t)BERTH_MEMBLOCK_ALL_FLAGS)
			return violated(violation, "memblock flags of the region at", r->base,
					r->flags, BERTH_MEMBLOCK_ALL_FLAGS);
		end = r->base + r->size_bytes;
		bytes += r->size_bytes;
		before = r;
	}
	if (bytes != list->total_bytes)
		return violated(violation, "memblock.I3 bytes of a list", 0, list->total_bytes,
				bytes);
	return true;
}

bool berth_memblock_check(const struct berth_memblock *memblock, struct berth_violation *violation)
{
	const struct berth_memblock_list *lists[] = { &memblock->memory, &memblock->reserved };

	for (unsigned i = 0; i < 2; i++) {
		if (!check_list(lists[i], violation))
			return false;
		if (lists[i]->array_bytes &&
		    !berth_memblock_is_reserved(memblock, lists[i]->array_base,
						lists[i]->array_bytes))
			return violated(violation, "memblock.I4 an array isn't reserved", i,
					lists[i]->array_base, lists[i]->array_bytes);
	}
	return true;
}
