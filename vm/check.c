/* SPDX-License-Identifier: MIT */
/*
 * The space's check: the invariants of space.c against the zone. Read-only; at a quiescent point.
 */
#include "vm/internal.h"

static bool violated(struct berth_violation *violation, const char *what, uint64_t where,
		     uint64_t value, uint64_t expected)
{
	*violation = (struct berth_violation){ what, where, value, expected };
	return false;
}

bool berth_space_check(struct berth_space *space, struct berth_violation *violation)
{
	uint64_t frames = 0, private_pages = 0, runs = 0;
	struct berth_violation ignored;

	if (!violation)
		violation = &ignored;
	for (uint64_t page = 0; page < space->nr_pages; page++) {
		uint32_t entry = berth__entry(space, page);
		uint32_t before = page ? berth__entry(space, page - 1) : BERTH_ENTRY_NONE;
		uint64_t cookie = 0;
		unsigned owner = 0;

		if (entry == BERTH_ENTRY_NONE)
			continue;
		if (page >= space->used_end)
			return violated(violation, "page mapped beyond used_end", page, entry, 0);
		if (entry == BERTH_ENTRY_PRIVATE) {
			private_pages++;
			runs += before != BERTH_ENTRY_PRIVATE;
			continue;
		}
		frames++;
		runs += !berth__entry_is_frame(before) || entry != before + 1;
		if (!berth_frame_owner(space->zone, berth__entry_pfn(space, entry), &owner,
				       &cookie) ||
		    owner != space->owner)
			return violated(violation, "space.I2 owner of the frame at page", page,
					owner, space->owner);
		if (cookie != page)
			return violated(violation, "space.I2 cookie of the frame at page", page,
					cookie, page);
	}
	if (frames != space->mapped)
		return violated(violation, "space mapped pages", 0, space->mapped, frames);
	if (private_pages != space->private_pages)
		return violated(violation, "space private pages", 0, space->private_pages,
				private_pages);
	if (runs != space->mappings)
		return violated(violation, "space.I3 mappings", 0, space->mappings, runs);
	return true;
}
