/* SPDX-License-Identifier: MIT */
/*
 * A pool: puts memory, zone, areas and space together, and takes them apart again.
 *
 * The pool's frames are pfn 0 .. n; the areas lie at its start, one after the other, and what is left
 * is ordinary movable memory that the areas' borrowers move to.
 */
#define _GNU_SOURCE
#include "runtime/internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "port/linux/port_linux.h"

#define AGE_EVERY_NS 1000000000ull
#define THREAD_SLOTS 64u /* threads with page lists of their own; others take the zone's lock */

void *berth__map_anonymous(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

static void unmap(void *at, size_t bytes)
{
	if (at)
		munmap(at, bytes);
}

static void poison(void *ctx, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct berth_pool_impl *pool = ctx;

	berth_memory_used(&pool->memory, pfn << BERTH_PAGE_SHIFT, nr_pages << BERTH_PAGE_SHIFT);
	memset(berth_memory_at(&pool->memory, pfn), BERTH_POISON_BYTE,
	       (size_t)nr_pages << BERTH_PAGE_SHIFT);
}

/* ---- Checking what the caller wants ------------------------------------------------------------------ */

static int parse_mover(const char *name, enum berth_mover *mover)
{
	static const struct {
		const char *name;
		enum berth_mover mover;
	} movers[] = {
		{ "userfaultfd", BERTH_MOVER_UFFD },
		{ "/dev/userfaultfd", BERTH_MOVER_UFFD_DEV },
		{ "userfaultfd-user", BERTH_MOVER_UFFD_USER },
		{ "mprotect", BERTH_MOVER_MPROTECT },
		{ "userfaultfd-unwatched", BERTH_MOVER_UFFD_UNWATCHED },
	};

	*mover = BERTH_MOVER_AUTO;
	if (!name || !*name)
		return 0;
	for (size_t i = 0; i < sizeof(movers) / sizeof(movers[0]); i++) {
		if (strcmp(name, movers[i].name) == 0) {
			*mover = movers[i].mover;
			return 0;
		}
	}
	return -BERTH_EINVAL;
}

/* The plan of the areas and the pool's size in *bytes, or -EINVAL. */
static int check_params(const struct berth_pool_params *params, struct berth_config *plan,
			size_t *bytes)
{
	int error;

	if (!params || params->copiers > BERTH_MAX_COPIERS ||
	    (params->flags & ~(unsigned)(BERTH_POOL_POISON | BERTH_POOL_RESIDENT |
					 BERTH_POOL_SPARSE | BERTH_POOL_LET_CPUS_SLEEP)))
		return -BERTH_EINVAL;
	error = berth__areas_plan(params, plan, bytes);
	return !error && params->lease_bytes > *bytes ? -BERTH_EINVAL : error;
}

/* Kilobytes after a label of /proc/meminfo; SIZE_MAX / 1024 when it can't be read. */
static size_t meminfo_kb(const char *text, const char *label)
{
	const char *at = strstr(text, label);

	return at ? strtoull(at + strlen(label), NULL, 10) : SIZE_MAX / 1024;
}

/*
 * Refuses what the system can't have: a pool beyond all its memory, or more to make resident at once
 * than is available. Later is too late: the kernel would start to kill processes.
 */
static int check_system(const struct berth_pool_params *params, const struct berth_config *plan,
			size_t bytes)
{
	char text[4096];
	size_t resident = 0, swap;
	int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	ssize_t length = -1;

	if (fd >= 0) {
		length = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (length <= 0)
		return 0;
	text[length] = 0;
	if (!(params->flags & BERTH_POOL_SPARSE))
		resident = berth__areas_bytes(plan);
	if (params->flags & BERTH_POOL_RESIDENT)
		resident = bytes;
	swap = meminfo_kb(text, "SwapTotal:");
	swap = swap == SIZE_MAX / 1024 ? 0 : swap;
	if (bytes / 1024 > meminfo_kb(text, "MemTotal:") + swap ||
	    resident / 1024 > meminfo_kb(text, "MemAvailable:"))
		return -BERTH_ENOMEM;
	return 0;
}

/* ---- Putting it together ------------------------------------------------------------------------------ */

static int open_zone(struct berth_pool_impl *pool, size_t bytes, bool lru)
{
	struct berth_zone_params params = {
		.name = "pool",
		.nr_pages = berth__pages_of(bytes),
		.nr_cpus = THREAD_SLOTS,
		.max_areas = BERTH_MAX_POOL_AREAS,
		.histograms = true,
		.lru = lru,
		.metadata_is_zeroed = true,
		.port = &pool->port,
		.port_ctx = pool,
	};
	int error;

	pool->metadata_bytes = berth_zone_metadata_size(&params);
	pool->metadata = berth__map_anonymous(pool->metadata_bytes);
	if (!pool->metadata)
		return -BERTH_ENOMEM;
	error = berth_zone_init(&pool->zone, &params, pool->metadata, pool->metadata_bytes);
	return error ? error : berth_zone_add_memory(pool->zone, 0, params.nr_pages);
}

/* Of a space: its table, and behind it the bits of pages that a forked child still is to get. A space is
 * a multiple of a huge page. */
static size_t table_bytes(uint64_t nr_pages)
{
	return nr_pages * sizeof(uint32_t) + nr_pages / 8 + sizeof(uint64_t);
}

static int open_space(struct berth_pool_impl *pool, size_t space_bytes, enum berth_mover mover)
{
	const size_t least = pool->memory.bytes;
	struct berth_space_params params = {
		.name = "movable memory",
		.zone = pool->zone,
		.mmu = &berth_mmu_linux_ops,
		.mmu_ctx = &pool->mmu,
		.port = &pool->port,
		.port_ctx = pool,
		.mapping_budget = berth_mmu_budget(),
	};
	size_t bytes = space_bytes ? space_bytes : 4 * pool->memory.bytes;
	void *memory;
	int error;

	if (bytes < (size_t)16 << 30)
		bytes = (size_t)16 << 30;
	/* Addresses are cheap, but limits (RLIMIT_AS) exist: take what there is. */
	while ((error = berth_mmu_open(&pool->mmu, &pool->memory, bytes, mover)) == -BERTH_ENOMEM &&
	       bytes / 2 >= least)
		bytes /= 2;
	if (error)
		return error;
	params.nr_pages = berth__pages_of(pool->mmu.bytes);
	params.table = berth__map_anonymous(table_bytes(params.nr_pages));
	if (params.table)
		params.pending = (uint64_t *)(void *)(params.table + params.nr_pages);
	memory = berth__map_anonymous(berth_space_size());
	error = params.table && memory ? berth_space_init(&pool->space, &params, memory) :
					 -BERTH_ENOMEM;
	if (error) {
		unmap(params.table, table_bytes(params.nr_pages));
		unmap(memory, berth_space_size());
		pool->space = NULL;
		return error;
	}
	pool->regions.nr_pages = params.nr_pages;
	pool->mmu.space = pool->space;
	return 0;
}

static void open_latency(struct berth_pool_impl *pool, const struct berth_pool_params *params)
{
	if (pool->mmu.latency.fd < 0 && !(params->flags & BERTH_POOL_LET_CPUS_SLEEP))
		berth_latency_open(&pool->mmu.latency);
}

/* All but the space. */
static int open_frames(struct berth_pool_impl *pool, const struct berth_pool_params *params,
		       const struct berth_config *plan, size_t bytes)
{
	int error = berth_memory_open(&pool->memory, bytes);

	if (params->flags & BERTH_POOL_POISON)
		pool->port.poison = poison;
	if (!error)
		error = open_zone(pool, bytes, params->lease_bytes != 0);
	if (!error)
		error = berth__areas_open(pool, plan, !(params->flags & BERTH_POOL_SPARSE));
	if (!error)
		error = berth__leases_open(pool, params->lease_bytes);
	if (!error && params->flags & BERTH_POOL_RESIDENT)
		error = berth_memory_populate(&pool->memory, 0, bytes);
	return error;
}

static void close_frames(struct berth_pool_impl *pool)
{
	berth__areas_close(pool);
	berth__leases_close(pool);
	unmap(pool->metadata, pool->metadata_bytes);
	pool->metadata = NULL;
	pool->zone = NULL;
	berth_memory_close(&pool->memory);
}

int berth__pool_open(const struct berth_pool_params *params, size_t space_bytes,
		     struct berth_pool_impl **out)
{
	enum berth_mover mover;
	struct berth_pool_impl *pool;
	struct berth_config plan;
	size_t bytes;
	int error = check_params(params, &plan, &bytes);

	if (!error)
		error = parse_mover(params->mover, &mover);
	if (!error)
		error = check_system(params, &plan, bytes);
	if (error)
		return error;
	pool = berth__map_anonymous(sizeof(*pool));
	if (!pool)
		return -BERTH_ENOMEM;
	pool->mmu.uffd = pool->mmu.watch_fd = pool->mmu.pagemap_fd = pool->mmu.latency.fd = -1;
	pool->memory.fd = -1;
	pool->port = *berth_port_linux_ops();
	error = open_frames(pool, params, &plan, bytes);
	if (!error)
		error = open_space(pool, space_bytes, mover);
	if (!error)
		open_latency(pool, params);
	if (!error)
		error = berth_copiers_start(&pool->mmu.copiers, params->copiers,
					    berth__start_thread);
	if (!error)
		error = berth__fork_add(pool);
	if (error) {
		berth__pool_close(pool);
		return error;
	}
	*out = pool;
	return 0;
}

void berth__pool_close(struct berth_pool_impl *pool)
{
	berth__fork_remove(pool);
	berth__pusher_settle(); /* a child may still be given its memory */
	if (pool->space) {
		unmap(berth_space_table(pool->space), table_bytes(pool->regions.nr_pages));
		unmap(pool->space, berth_space_size());
	}
	berth__fork_hooks.own_threads -= pool->mmu.copiers.nr;
	berth_copiers_stop(&pool->mmu.copiers);
	if (pool->mmu.base)
		berth_mmu_close(&pool->mmu);
	close_frames(pool);
	unmap(pool, sizeof(*pool));
}

/* ---- In a forked child --------------------------------------------------------------------------------- */

void berth__pool_leave(struct berth_pool_impl *pool)
{
	berth_port_linux_fork_child();
	berth__stores_leave(pool);
	close_frames(pool);
	memset(&pool->claims_held, 0, sizeof(pool->claims_held));
}

int berth__pool_revive(struct berth_pool_impl *pool, const struct berth_pool_params *params)
{
	struct berth_config plan;
	size_t bytes;
	int error = check_params(params, &plan, &bytes);

	if (!error)
		error = check_system(params, &plan, bytes);
	pool->port = *berth_port_linux_ops(); /* registers this process */
	if (!error)
		error = open_frames(pool, params, &plan, bytes);
	if (!error)
		error = berth_mmu_reopen(&pool->mmu);
	if (!error)
		open_latency(pool, params);
	if (!error)
		error = berth_space_attach(pool->space, pool->zone);
	if (error)
		close_frames(pool);
	return error;
}

/* ---- Lists of idle threads -------------------------------------------------------------------------------- */

void berth__pool_age(struct berth_pool_impl *pool)
{
	uint64_t now = pool->port.now_ns(pool);
	uint64_t at = atomic_load_explicit(&pool->age_at_ns, memory_order_relaxed);
	struct berth_zone_stats stats;

	if (now < at ||
	    !atomic_compare_exchange_strong_explicit(&pool->age_at_ns, &at, now + AGE_EVERY_NS,
						     memory_order_relaxed, memory_order_relaxed))
		return; /* too early, or somebody else does it */
	/* Interrupts the CPUs that run our threads: not where nothing is to be had. */
	berth_zone_stats(pool->zone, &stats);
	if (stats.pcp_pages)
		berth_pcp_age(pool->zone);
}

/* ---- Claims -------------------------------------------------------------------------------------------- */

/* strcmp() would take a claim to the C library's pages. */
static bool is_named(const struct berth_pool_area *area, const char *name)
{
	const char *own = area->name;

	while (*own && *own == *name) {
		own++;
		name++;
	}
	return *own == *name;
}

BERTH_HOT struct berth_pool_area *berth__pool_area(struct berth_pool_impl *pool, const char *name)
{
	unsigned nr_areas = pool->nr_areas;

	if (!name && berth__pool_area_of(pool, NULL))
		return berth__pool_area_of(pool, NULL);
	for (unsigned i = 0; i < nr_areas; i++)
		if (!name || is_named(&pool->areas[i], name))
			return &pool->areas[i];
	return NULL;
}

/* ---- Statistics ------------------------------------------------------------------------------------------ */

void berth__pool_claim_times(struct berth_pool_impl *pool, struct berth_histogram *claims)
{
	(void)berth_zone_histogram(pool->zone, BERTH_TIMING_CLAIM, claims);
}

void berth__pool_stats(struct berth_pool_impl *pool, struct berth_pool_stats *stats)
{
	struct berth_zone_stats zone;
	struct berth_space_stats space;

	berth_zone_stats(pool->zone, &zone);
	berth_space_stats(pool->space, &space);
	*stats = (struct berth_pool_stats){
		.pool_bytes = pool->memory.bytes,
		.free_bytes = zone.free_pages << BERTH_PAGE_SHIFT,
		.claimed_bytes = zone.claimed_pages << BERTH_PAGE_SHIFT,
		.used_bytes = (zone.used_pages + zone.pcp_pages) << BERTH_PAGE_SHIFT,
		.mapped_bytes = space.mapped_pages << BERTH_PAGE_SHIFT,
		.metadata_bytes = zone.metadata_bytes,
		.claims_held = berth__spread_sum(&pool->claims_held),
		.moved_bytes = space.moved_pages << BERTH_PAGE_SHIFT,
		.moved_runs = space.moved_runs,
		.stalled_runs = space.stalled_runs,
		.moves_skipped = space.skipped_for_budget,
		.longest_stall_ns = space.longest_stall_ns,
		.pins = space.pins,
		.mover = berth_mover_name(pool->mmu.mover),
		.keeps_awake = pool->mmu.latency.fd >= 0,
	};
	for (unsigned i = 0; i < pool->nr_areas; i++) {
		struct berth_cma_stats area;

		berth__area_stats_brief(&pool->areas[i], &area);
		if (!berth_contig_area_cma(pool->areas[i].area)) {
			/* For the zone it is all one claim. */
			stats->claimed_bytes -= (area.nr_pages - area.claimed_pages)
						<< BERTH_PAGE_SHIFT;
			stats->free_bytes += area.free_pages << BERTH_PAGE_SHIFT;
			stats->used_bytes += (area.nr_pages - area.claimed_pages - area.free_pages)
					     << BERTH_PAGE_SHIFT;
		}
		stats->area_bytes += area.nr_pages << BERTH_PAGE_SHIFT;
		stats->lent_bytes += area.lent_pages << BERTH_PAGE_SHIFT;
		stats->claims_ok += area.claims_ok;
		stats->claims_failed += area.claims_failed;
	}
}

int64_t berth__pool_shuffle(struct berth_pool_impl *pool, uint64_t *cursor)
{
	const uint64_t nr_pages = berth__pages_of(BERTH_HUGE_BYTES);
	uint64_t nr_blocks = pool->memory.bytes / BERTH_HUGE_BYTES;
	berth_pfn_t pfn = *cursor % nr_blocks * nr_pages;
	struct berth_claim_report report;
	int error;

	++*cursor;
	error = berth_alloc_contig_range(pool->zone, pfn, nr_pages, NULL, &report);
	if (error)
		return error;
	error = berth_free_contig_range(pool->zone, pfn, nr_pages);
	return error ? error : (int64_t)(report.moved_pages << BERTH_PAGE_SHIFT);
}
