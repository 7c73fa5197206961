/* SPDX-License-Identifier: MIT */
/*
 * Quarantine: a frame that memory was moved away from belongs to nobody, and nobody writes to it. If
 * somebody does, it is a transfer that began before the move and that nobody has declared: a device,
 * direct I/O past the gate. The mover notes a hash of each frame as it copies it, when the frame can't
 * be written by the program; a few turns later the frame must still have it, or be all poison.
 *
 * It is for moves to and fro only: a claim's frames are written by whoever has claimed them, at once.
 * So no claim is watched, and this is a test of a program, not a protection.
 *
 * I1  A note is of the claim whose blocks are held: notes are cleared before, and made by this thread only.
 *
 * Costs: 16 bytes a frame; hashing a frame twice, about 1 us; up to HELD blocks of the pool are nobody's.
 */
#define _GNU_SOURCE
#include "runtime/quarantine.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HELD 4u /* blocks of 2 MiB */
#define BLOCK_PAGES (BERTH_HUGE_BYTES >> BERTH_PAGE_SHIFT)

static struct {
	struct berth_moved *notes; /* one a frame */
	bool poison, told;
	uint64_t poison_hash;
	unsigned next;
	struct held {
		bool used;
		berth_pfn_t pfn;
	} held[HELD];
} quarantine;

int berth__quarantine_start(struct berth_pool_impl *pool, bool poison)
{
	static _Alignas(64) unsigned char page[BERTH_PAGE_SIZE];
	size_t bytes = (pool->memory.bytes >> BERTH_PAGE_SHIFT) * sizeof(struct berth_moved);
	void *notes = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (notes == MAP_FAILED)
		return -BERTH_ENOMEM;
	memset(page, BERTH_POISON_BYTE, sizeof(page));
	quarantine.poison_hash = berth_mmu_hash(page);
	quarantine.poison = poison;
	quarantine.notes = notes;
	pool->mmu.moved = notes;
	return 0;
}

/* Once, and loudly: the first page of all. */
static void tell(const struct berth_pool_impl *pool, berth_pfn_t pfn,
		 const struct berth_moved *note)
{
	char line[320];
	unsigned owner;
	uint64_t page = 0;
	int length;

	if (quarantine.told)
		return;
	quarantine.told = true;
	(void)berth_frame_owner(pool->zone, note->dst, &owner, &page);
	length = snprintf(
		line, sizeof(line),
		"berth: LATE WRITE: the page at offset %#llx of the pool was written after its "
		"contents had moved away (now at %p, at offset %#llx): a transfer that nobody "
		"has declared holds it, and its data is lost\n",
		(unsigned long long)(pfn << BERTH_PAGE_SHIFT),
		(void *)(pool->mmu.base + (page << BERTH_PAGE_SHIFT)),
		(unsigned long long)(note->dst << BERTH_PAGE_SHIFT));
	if (length > 0 && write(STDERR_FILENO, line, (size_t)length) < 0) {
		/* nobody to tell */
	}
}

/* The end of a quarantine. */
static int let_go(struct berth_pool_impl *pool, struct held *held, _Atomic uint64_t *late)
{
	for (berth_pfn_t pfn = held->pfn; pfn < held->pfn + BLOCK_PAGES; pfn++) {
		struct berth_moved *note = &quarantine.notes[pfn];

		if (!note->hash)
			continue; /* it was free */
		if (berth_mmu_hash(berth_memory_at(&pool->memory, pfn)) !=
		    (quarantine.poison ? quarantine.poison_hash : note->hash)) {
			atomic_fetch_add_explicit(late, 1, memory_order_relaxed);
			tell(pool, pfn, note);
		}
		note->hash = 0;
	}
	held->used = false;
	return berth_free_contig_range(pool->zone, held->pfn, BLOCK_PAGES);
}

int64_t berth__quarantine_turn(struct berth_pool_impl *pool, uint64_t *cursor,
			       _Atomic uint64_t *late)
{
	uint64_t nr_blocks = pool->memory.bytes / BERTH_HUGE_BYTES;
	struct held *held = &quarantine.held[quarantine.next++ % HELD];
	struct berth_claim_report report;
	int error = held->used ? let_go(pool, held, late) : 0;

	held->pfn = *cursor % nr_blocks * BLOCK_PAGES;
	++*cursor;
	if (error)
		return error;
	berth_mmu_note_moves(true);
	error = berth_alloc_contig_range(pool->zone, held->pfn, BLOCK_PAGES, NULL, &report);
	berth_mmu_note_moves(false);
	if (error) { /* what has moved all the same isn't held, so it can't be looked at */
		for (berth_pfn_t pfn = held->pfn; pfn < held->pfn + BLOCK_PAGES; pfn++)
			quarantine.notes[pfn].hash = 0;
		return error;
	}
	held->used = true;
	return (int64_t)(report.moved_pages << BERTH_PAGE_SHIFT);
}
