/* SPDX-License-Identifier: MIT */
/*
 * Zones as text, byte for byte in the layout of Linux' /proc/buddyinfo, /proc/pagetypeinfo and
 * /proc/zoneinfo, and of its reports of page allocation failures, so that what reads those reads
 * these.
 *
 * I1  Nothing is written beyond the buffer; the text ends with a 0 if there is room for anything.
 *
 * Complexity: O(length), and the views'.
 */
#include <berth/views.h>

#include <berth/stats.h>

#include "core/frames/internal.h"
#include "core/frames/node.h"

#define KBYTES(pages) ((pages) * (BERTH_PAGE_SIZE / 1024u))

/* ---- Writing ------------------------------------------------------------------------------------- */

struct text {
	char *at;
	size_t size, length; /* length: of all of it, whether it fits or not */
};

static void put(struct text *text, char c)
{
	if (text->length + 1 < text->size)
		text->at[text->length] = c;
	text->length++;
}

static size_t length_of(const char *string)
{
	size_t length = 0;

	while (string[length])
		length++;
	return length;
}

/* width > 0: right-aligned, < 0: left-aligned. */
static void put_string(struct text *text, const char *string, int width)
{
	int pad = (width < 0 ? -width : width) - (int)length_of(string);

	for (; width > 0 && pad > 0; pad--)
		put(text, ' ');
	while (*string)
		put(text, *string++);
	for (; width < 0 && pad > 0; pad--)
		put(text, ' ');
}

static void put_number(struct text *text, uint64_t value, int width, unsigned base)
{
	char digits[21];
	unsigned at = sizeof(digits) - 1;

	digits[at] = 0;
	do {
		digits[--at] = "0123456789abcdef"[value % base];
	} while (value /= base);
	put_string(text, &digits[at], width);
}

/* A text in which each of '%' stands for the next string or number: s and d, with a width. */
struct arg {
	const char *string; /* NULL: a number */
	uint64_t number;
	int width;
};
#define S(value, width_) ((struct arg){ .string = (value), .width = (width_) })
#define N(value, width_) ((struct arg){ .number = (value), .width = (width_) })

static void put_args(struct text *text, const char *format, const struct arg *args)
{
	for (; *format; format++) {
		if (*format != '%') {
			put(text, *format);
			continue;
		}
		if (args->string)
			put_string(text, args->string, args->width);
		else
			put_number(text, args->number, args->width, 10);
		args++;
	}
}
#define PUT(text, format, ...) put_args((text), (format), (const struct arg[]){ __VA_ARGS__ })

static size_t finish(struct text *text)
{
	if (text->size)
		text->at[text->length < text->size ? text->length : text->size - 1] = 0;
	return text->length;
}

/* ---- buddyinfo, pagetypeinfo ------------------------------------------------------------------------ */

/* In the order in which Linux prints them. */
static const struct {
	const char *name;
	uint8_t type;
	char letter; /* in failure reports */
} types[] = {
	{ "Unmovable", BERTH_UNMOVABLE, 'U' },
	{ "Movable", BERTH_MOVABLE, 'M' },
	{ "Reclaimable", BERTH_RECLAIMABLE, 'E' },
	{ "HighAtomic", BERTH_HIGHATOMIC, 'H' },
	{ "CMA", BERTH_CMA, 'C' },
	{ "Isolate", BERTH_ISOLATE, 'I' },
};
#define NR_TYPES (sizeof(types) / sizeof(types[0]))

/* The zones, node by node from the lowest kind up; NULL after the last. */
static struct berth_zone *zone_at(const struct berth_nodes *nodes, unsigned i)
{
	for (unsigned at = 0; at < nodes->nr_nodes * BERTH_NR_ZONE_KINDS; at++) {
		struct berth_zone *zone =
			nodes->nodes[at / BERTH_NR_ZONE_KINDS].zones[at % BERTH_NR_ZONE_KINDS];

		if (zone && i-- == 0)
			return zone;
	}
	return NULL;
}

/* Blocks of one order, of all types. */
static uint64_t blocks_of(const struct berth_zone_view *view, unsigned order)
{
	uint64_t blocks = 0;

	for (unsigned type = 0; type < BERTH_NR_MIGRATETYPES; type++)
		blocks += view->free_blocks[type][order];
	return blocks;
}

static unsigned max_order(const struct berth_nodes *nodes)
{
	unsigned most = 0;

	for (unsigned i = 0; i < nodes->nr_zones; i++)
		if (nodes->by_pfn[i]->max_order > most)
			most = nodes->by_pfn[i]->max_order;
	return most;
}

size_t berth_buddyinfo(const struct berth_nodes *nodes, char *buffer, size_t size)
{
	struct text text = { buffer, size, 0 };
	struct berth_zone *zone;

	for (unsigned i = 0; (zone = zone_at(nodes, i)); i++) {
		struct berth_zone_view view;

		berth_zone_view(zone, &view);
		PUT(&text, "Node %, zone % ", N(view.node, 0), S(view.name, 8));
		for (unsigned order = 0; order <= max_order(nodes); order++)
			PUT(&text, "% ", N(blocks_of(&view, order), 6));
		put(&text, '\n');
	}
	return finish(&text);
}

static void put_free_by_type(struct text *text, const struct berth_nodes *nodes)
{
	struct berth_zone *zone;

	PUT(text, "% ", S("Free pages count per migrate type at order", -43));
	for (unsigned order = 0; order <= max_order(nodes); order++)
		PUT(text, "% ", N(order, 6));
	put(text, '\n');
	for (unsigned i = 0; (zone = zone_at(nodes, i)); i++) {
		struct berth_zone_view view;

		berth_zone_view(zone, &view);
		for (unsigned type = 0; type < NR_TYPES; type++) {
			PUT(text, "Node %, zone %, type % ", N(view.node, 4), S(view.name, 8),
			    S(types[type].name, 12));
			for (unsigned order = 0; order <= max_order(nodes); order++)
				PUT(text, "% ", N(view.free_blocks[types[type].type][order], 6));
			put(text, '\n');
		}
	}
}

size_t berth_pagetypeinfo(const struct berth_nodes *nodes, char *buffer, size_t size)
{
	struct text text = { buffer, size, 0 };
	struct berth_zone *zone = zone_at(nodes, 0);
	unsigned order = zone ? zone->pageblock_order : 0;

	PUT(&text, "Page block order: %\nPages per block:  %\n\n", N(order, 0),
	    N(berth__pages(order), 0));
	put_free_by_type(&text, nodes);
	PUT(&text, "\n%", S("Number of blocks type ", -23));
	for (unsigned type = 0; type < NR_TYPES; type++)
		PUT(&text, "% ", S(types[type].name, 12));
	put(&text, '\n');
	for (unsigned i = 0; (zone = zone_at(nodes, i)); i++) {
		uint64_t counts[BERTH_NR_MIGRATETYPES];
		struct berth_zone_view view;

		berth_zone_view(zone, &view);
		berth_zone_count_pageblocks(zone, counts);
		PUT(&text, "Node %, zone % ", N(view.node, 0), S(view.name, 8));
		for (unsigned type = 0; type < NR_TYPES; type++)
			PUT(&text, "% ", N(counts[types[type].type], 12));
		put(&text, '\n');
	}
	return finish(&text);
}

/* ---- zoneinfo ---------------------------------------------------------------------------------------- */

/* High is what all lists of a CPU may hold now, batch that of single movable frames. */
static void put_pagesets(struct text *text, struct berth_zone *zone)
{
	uint32_t used = atomic_load(&zone->nr_pcps_used);

	PUT(text, "\n  pagesets", N(0, 0));
	for (uint32_t cpu = 0; cpu < used; cpu++) {
		const struct berth_pcp *pcp = berth__pcp(zone, cpu);
		uint32_t least = 0, most = 0;

		for (unsigned list = 0; list < BERTH_NR_PCP_LISTS; list++) {
			least += (uint32_t)zone->pcp_min[list] << zone->pcp_order[list];
			most += (uint32_t)zone->pcp_max[list] << zone->pcp_order[list];
		}
		PUT(text, "\n    cpu: %\n              count:    %\n              high:     %",
		    N(cpu, 0), N(berth__pcp_pages(zone, pcp), 0),
		    N(berth__pcp_high_pages(zone, pcp), 0));
		PUT(text,
		    "\n              batch:    %"
		    "\n              high_min: %"
		    "\n              high_max: %",
		    N(berth__pcp_batch(zone, pcp, BERTH_PCP_MOVABLE), 0), N(least, 0),
		    N(most < least + zone->pcp_budget ? most : least + zone->pcp_budget, 0));
	}
}

static void put_counter(struct text *text, const char *name, uint64_t value)
{
	PUT(text, "      % %\n", S(name, -12), N(value, 0));
}

/* What Linux counts by node is the sum of its zones here. Its pages of files are all that is on LRU
 * lists, whoever they belong to. */
static void put_node_info(struct text *text, const struct berth_node *node)
{
	struct berth_lru_stats sum = { .isolated = 0 };

	for (unsigned kind = 0; kind < BERTH_NR_ZONE_KINDS; kind++) {
		struct berth_lru_stats stats;

		if (!node->zones[kind])
			continue;
		berth_lru_stats(node->zones[kind], &stats);
		for (unsigned list = 0; list < BERTH_NR_LRU_LISTS; list++)
			sum.nr_pages[list] += stats.nr_pages[list];
		sum.isolated += stats.isolated;
		sum.dirty += stats.dirty;
		sum.writeback += stats.writeback;
	}
	put_string(text, "\n  per-node stats\n", 0);
	put_counter(text, "nr_inactive_anon", 0);
	put_counter(text, "nr_active_anon", 0);
	put_counter(text, "nr_inactive_file", sum.nr_pages[BERTH_LRU_INACTIVE]);
	put_counter(text, "nr_active_file", sum.nr_pages[BERTH_LRU_ACTIVE]);
	put_counter(text, "nr_unevictable", sum.nr_pages[BERTH_LRU_UNEVICTABLE]);
	put_counter(text, "nr_isolated_anon", 0);
	put_counter(text, "nr_isolated_file", sum.isolated);
	put_counter(text, "nr_dirty", sum.dirty);
	PUT(text, "      % %", S("nr_writeback", -12), N(sum.writeback, 0));
}

static void put_zone_info(struct text *text, const struct berth_node *node, struct berth_zone *zone)
{
	const uint64_t *mark;
	struct berth_zone_view view;
	unsigned first = 0;

	berth_zone_view(zone, &view);
	mark = view.marks.mark;
	PUT(text, "Node %, zone %", N(view.node, 0), S(view.name, 8));
	while (!node->zones[first])
		first++;
	if (node->zones[first] == zone)
		put_node_info(text, node);
	PUT(text,
	    "\n  pages free     %"
	    "\n        boost    %"
	    "\n        min      %"
	    "\n        low      %"
	    "\n        high     %"
	    "\n        promo    %",
	    N(view.free_pages, 0), N(view.marks.boost, 0), N(mark[BERTH_MARK_MIN], 0),
	    N(mark[BERTH_MARK_LOW], 0), N(mark[BERTH_MARK_HIGH], 0), N(mark[BERTH_MARK_PROMO], 0));
	PUT(text,
	    "\n        spanned  %"
	    "\n        present  %"
	    "\n        managed  %"
	    "\n        cma      %"
	    "\n        protection: (%",
	    N(view.spanned_pages, 0), N(view.present_pages, 0), N(view.managed_pages, 0),
	    N(view.cma_pages, 0), N(view.lowmem_reserve[0], 0));
	for (unsigned kind = 1; kind < BERTH_NR_ZONE_KINDS; kind++)
		PUT(text, ", %", N(view.lowmem_reserve[kind], 0));
	put_string(text, ")\n", 0);
	put_counter(text, "nr_free_pages", view.free_pages);
	put_counter(text, "nr_zone_inactive_anon", 0);
	put_counter(text, "nr_zone_active_anon", 0);
	put_counter(text, "nr_zone_inactive_file", view.lru.nr_pages[BERTH_LRU_INACTIVE]);
	put_counter(text, "nr_zone_active_file", view.lru.nr_pages[BERTH_LRU_ACTIVE]);
	put_counter(text, "nr_zone_unevictable", view.lru.nr_pages[BERTH_LRU_UNEVICTABLE]);
	put_counter(text, "nr_zone_write_pending", view.lru.dirty + view.lru.writeback);
	put_counter(text, "nr_mlock", view.lru.nr_pages[BERTH_LRU_UNEVICTABLE]);
	put_counter(text, "nr_free_cma", view.free_cma_pages);
	PUT(text, "      % %", S("nr_free_highatomic", -12), N(view.free_highatomic_pages, 0));
	put_pagesets(text, zone);
	PUT(text, "\n  node_unreclaimable:  %\n  start_pfn:           %\n",
	    N(atomic_load_explicit(&node->kswapd.failures, memory_order_relaxed) >=
		      BERTH_KSWAPD_FAILURES,
	      0),
	    N(view.start_pfn, 0));
}

size_t berth_zoneinfo(const struct berth_nodes *nodes, char *buffer, size_t size)
{
	struct text text = { buffer, size, 0 };
	struct berth_zone *zone;

	for (unsigned i = 0; (zone = zone_at(nodes, i)); i++)
		put_zone_info(&text, &nodes->nodes[zone->node], zone);
	return finish(&text);
}

/* ---- vmstat ------------------------------------------------------------------------------------------ */

/* Linux has these for each kind of zone. */
static bool is_by_kind(enum berth_event event)
{
	return event == BERTH_EVENT_PGALLOC || event == BERTH_EVENT_ALLOCSTALL;
}

static void put_by_kind(struct text *text, const struct berth_nodes *nodes, enum berth_event event)
{
	static const char *const kinds[] = { "_dma", "_dma32", "_normal", "_high", "_movable" };
	uint64_t sums[BERTH_NR_ZONE_KINDS] = { 0 }, events[BERTH_NR_EVENTS];
	struct berth_zone *zone;

	for (unsigned i = 0; (zone = zone_at(nodes, i)); i++) {
		berth_zone_events(zone, events);
		sums[zone->kind] += events[event];
	}
	for (unsigned kind = 0; kind < BERTH_NR_ZONE_KINDS; kind++)
		PUT(text, "%% %\n", S(berth_event_name(event), 0), S(kinds[kind], 0),
		    N(sums[kind], 0));
}

static void put_gauges(struct text *text, const struct berth_nodes *nodes)
{
	uint64_t free = 0, free_cma = 0;
	struct berth_zone *zone;

	for (unsigned i = 0; (zone = zone_at(nodes, i)); i++) {
		free += berth__zone_free(zone);
		free_cma += berth__zone_free_cma(zone);
	}
	PUT(text, "nr_free_pages %\nnr_free_cma %\n", N(free, 0), N(free_cma, 0));
}

size_t berth_vmstat(const struct berth_nodes *nodes, char *buffer, size_t size)
{
	struct text text = { buffer, size, 0 };
	uint64_t sums[BERTH_NR_EVENTS] = { 0 }, events[BERTH_NR_EVENTS];
	struct berth_zone *zone;

	for (unsigned i = 0; (zone = zone_at(nodes, i)); i++) {
		berth_zone_events(zone, events);
		for (unsigned event = 0; event < BERTH_NR_EVENTS; event++)
			sums[event] += events[event];
	}
	put_gauges(&text, nodes);
	for (unsigned event = 0; event < BERTH_NR_EVENTS; event++) {
		if (is_by_kind((enum berth_event)event))
			put_by_kind(&text, nodes, (enum berth_event)event);
		else
			PUT(&text, "% %\n", S(berth_event_name((enum berth_event)event), 0),
			    N(sums[event], 0));
	}
	return finish(&text);
}

/* ---- Failures ------------------------------------------------------------------------------------------ */

static const struct {
	unsigned flag;
	const char *name;
} gfp_names[] = {
	{ BERTH_GFP_MOVABLE, "MOVABLE" },
	{ BERTH_GFP_RECLAIMABLE, "RECLAIMABLE" },
	{ BERTH_GFP_NO_CMA, "NO_CMA" },
	{ BERTH_GFP_CMA_LAST, "CMA_LAST" },
	{ BERTH_GFP_ZERO, "ZERO" },
	{ BERTH_GFP_HIGH, "HIGH" },
	{ BERTH_GFP_NO_RECLAIM, "NO_RECLAIM" },
	{ BERTH_GFP_MEMALLOC, "MEMALLOC" },
	{ BERTH_GFP_OOM_VICTIM, "OOM_VICTIM" },
	{ BERTH_GFP_NORETRY, "NORETRY" },
	{ BERTH_GFP_MAYFAIL, "MAYFAIL" },
	{ BERTH_GFP_NOFAIL, "NOFAIL" },
	{ BERTH_GFP_THISNODE, "THISNODE" },
	{ BERTH_GFP_DMA, "DMA" },
	{ BERTH_GFP_DMA32, "DMA32" },
	{ BERTH_GFP_COMPACT, "COMPACT" },
	{ BERTH_GFP_LRU, "LRU" },
};

static void put_gfp(struct text *text, unsigned gfp)
{
	bool any = false;

	put_string(text, "0x", 0);
	put_number(text, gfp, 0, 16);
	put(text, '(');
	for (unsigned i = 0; i < sizeof(gfp_names) / sizeof(gfp_names[0]); i++) {
		if (!(gfp & gfp_names[i].flag))
			continue;
		PUT(text, any ? "|%" : "%", S(gfp_names[i].name, 0));
		any = true;
	}
	put_string(text, any ? ")" : "UNMOVABLE)", 0);
}

/* "Node 0 Normal: 3*4kB (UM) 0*8kB ... = 12kB" */
static void put_free_blocks(struct text *text, const struct berth_zone_view *view)
{
	uint64_t total = 0;

	PUT(text, "Node % %: ", N(view->node, 0), S(view->name, 0));
	for (unsigned order = 0; order <= view->max_order; order++) {
		uint64_t blocks = blocks_of(view, order);

		total += blocks << order;
		PUT(text, "%*%kB ", N(blocks, 0), N(KBYTES(1ull << order), 0));
		if (!blocks)
			continue;
		put(text, '(');
		for (unsigned type = 0; type < NR_TYPES; type++)
			if (view->free_blocks[types[type].type][order])
				put(text, types[type].letter);
		put_string(text, ") ", 0);
	}
	PUT(text, "= %kB\n", N(KBYTES(total), 0));
}

static void put_failed_zone(struct text *text, const struct berth_zone_view *view,
			    enum berth_zone_verdict verdict)
{
	static const char *const words[] = {
		[BERTH_ZONE_BELOW_MARK] = "too little is free",
		[BERTH_ZONE_NO_BLOCK] = "no free block is large enough",
		[BERTH_ZONE_TOO_SMALL] = "has no blocks of this order",
		[BERTH_ZONE_CHANGED] = "could serve it by now",
	};

	PUT(text,
	    "Node % % free:%kB boost:%kB min:%kB low:%kB high:%kB reserved_highatomic:%KB"
	    " free_highatomic:%KB",
	    N(view->node, 0), S(view->name, 0), N(KBYTES(view->free_pages), 0),
	    N(KBYTES(view->marks.boost), 0),
	    N(KBYTES(view->marks.mark[BERTH_MARK_MIN] + view->marks.boost), 0),
	    N(KBYTES(view->marks.mark[BERTH_MARK_LOW] + view->marks.boost), 0),
	    N(KBYTES(view->marks.mark[BERTH_MARK_HIGH] + view->marks.boost), 0),
	    N(KBYTES(view->highatomic_pages), 0), N(KBYTES(view->free_highatomic_pages), 0));
	PUT(text, " active_file:%kB inactive_file:%kB unevictable:%kB writepending:%kB",
	    N(KBYTES(view->lru.nr_pages[BERTH_LRU_ACTIVE]), 0),
	    N(KBYTES(view->lru.nr_pages[BERTH_LRU_INACTIVE]), 0),
	    N(KBYTES(view->lru.nr_pages[BERTH_LRU_UNEVICTABLE]), 0),
	    N(KBYTES(view->lru.dirty + view->lru.writeback), 0));
	PUT(text, " present:%kB managed:%kB free_pcp:%kB claimed:%kB free_cma:%kB: %\n",
	    N(KBYTES(view->present_pages), 0), N(KBYTES(view->managed_pages), 0),
	    N(KBYTES(view->pcp_pages), 0), N(KBYTES(view->claimed_pages), 0),
	    N(KBYTES(view->free_cma_pages), 0), S(words[verdict], 0));
	PUT(text, "lowmem_reserve[]:", N(0, 0));
	for (unsigned kind = 0; kind < BERTH_NR_ZONE_KINDS; kind++)
		PUT(text, " %", N(view->lowmem_reserve[kind], 0));
	put(text, '\n');
}

size_t berth_alloc_failure_text(const struct berth_alloc_failure *failure, char *buffer,
				size_t size)
{
	struct text text = { buffer, size, 0 };

	PUT(&text, "page allocation failure: order:%, mode:", N(failure->order, 0));
	put_gfp(&text, failure->gfp);
	PUT(&text, ", node=%, owner=%\n", N(failure->node, 0), N(failure->owner, 0));
	PUT(&text, "tried: % reclaims (%kB freed), % victims, % waits\n", N(failure->reclaims, 0),
	    N(KBYTES(failure->reclaimed_pages), 0), N(failure->ooms, 0), N(failure->waits, 0));
	for (unsigned i = 0; i < failure->nr_shown; i++)
		put_failed_zone(&text, &failure->zones[i], failure->verdict[i]);
	for (unsigned i = 0; i < failure->nr_shown; i++)
		put_free_blocks(&text, &failure->zones[i]);
	if (failure->nr_zones > failure->nr_shown)
		PUT(&text, "% more zones\n", N(failure->nr_zones - failure->nr_shown, 0));
	for (unsigned i = 0; i < failure->nr_owners; i++)
		PUT(&text, "holds most: %kB % (owner %)\n", N(KBYTES(failure->owners[i].pages), 0),
		    S(failure->owners[i].name, 0), N(failure->owners[i].owner, 0));
	return finish(&text);
}
