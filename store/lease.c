/* SPDX-License-Identifier: MIT */
/*
 * Leases (<berth/lease.h>): an owner of movable frames on LRU lists, that drops what isn't locked when the core
 * asks for it. They are never marked as used, so claims drop them rather than move them.
 *
 * A claim may split a lease's block and take a part of it. Then the lease is lost; its other frames stay until
 * they are asked for too, or the holder gives it back.
 *
 *	c	constant after init
 *	T	leases->lock, which the owner's operations take too: nothing is locked, moved or dropped at the
 *		same time. Nothing but the zone's locks is taken under it.
 *
 * J1  A frame that a lease has is allocated to this owner, with the lease and the page as its cookie.
 * J2  A lease that isn't lost has all its frames, one after the other from pfn on.
 * J3  locked_pages are those of leases with locks, and a locked lease isn't lost.
 *
 * Costs: O(pages of a lease).
 */
#include <berth/lease.h>
#include <berth/lru.h>
#include <berth_port.h>

#define MAX_LEASES (UINT32_C(1) << 20)
#define NONE UINT32_MAX
#define PRESENT_WORDS (BERTH_LEASE_MAX_PAGES / 64)

struct lease {
	berth_pfn_t pfn;   /* T */
	uint32_t nr_pages; /* T: 0: nobody's */
	uint32_t locks;    /* T */
	uint32_t serial;   /* T: of the handle; grows with every use of the record */
	uint32_t next;     /* T: of those that are nobody's */
	bool lost;         /* T */
	bool ready;        /* T: its frames are there */
	char name[BERTH_LEASE_NAME_BYTES]; /* T */
	uint64_t present[PRESENT_WORDS];   /* T: bit p: it has page p */
};

struct berth_leases {
	struct berth_owner_ops ops;
	struct berth_zone *zone;           /* c */
	unsigned owner;                    /* c */
	uint32_t max_leases;               /* c */
	char *linear;                      /* c */
	berth_pfn_t linear_pfn;            /* c */
	struct lease *all;                 /* c */
	const struct berth_port_ops *port; /* c */
	void *port_ctx;                    /* c */
	berth_mutex_t lock;
	uint32_t unused, nr_made;       /* T: records: first unused one; those ever used */
	struct berth_lease_stats stats; /* T */
};

static size_t rounded(size_t bytes)
{
	return (bytes + 63) & ~(size_t)63;
}

size_t berth_leases_metadata_size(const struct berth_lease_params *params)
{
	if (!params || !params->zone || !params->name || !params->max_leases ||
	    params->max_leases > MAX_LEASES || !params->port)
		return 0;
	return rounded(sizeof(struct berth_leases)) +
	       rounded(params->max_leases * sizeof(struct lease));
}

/* ---- What the core asks ------------------------------------------------------------------------ */

static uint64_t cookie_of(uint32_t nr, uint64_t page)
{
	return (uint64_t)nr * BERTH_LEASE_MAX_PAGES + page;
}

static bool is_present(const struct lease *lease, uint64_t page)
{
	return page < BERTH_LEASE_MAX_PAGES && (lease->present[page / 64] >> (page % 64) & 1);
}

/* The lease that has this frame, or NULL. T. */
static struct lease *lease_at(struct berth_leases *leases, berth_pfn_t pfn, uint64_t cookie)
{
	uint64_t nr = cookie / BERTH_LEASE_MAX_PAGES, page = cookie % BERTH_LEASE_MAX_PAGES;
	struct lease *lease = &leases->all[nr];

	return nr < leases->nr_made && lease->ready && is_present(lease, page) &&
			       lease->pfn + page == pfn ?
		       lease :
		       NULL;
}

static void lose_pages(struct berth_leases *leases, struct lease *lease, uint64_t page,
		       uint64_t nr_pages)
{
	for (uint64_t i = page; i < page + nr_pages; i++)
		lease->present[i / 64] &= ~(UINT64_C(1) << (i % 64));
	leases->stats.leased_pages -= nr_pages;
	if (!lease->lost) {
		lease->lost = true;
		leases->stats.lost++;
		leases->stats.nr_lost_now++;
	}
}

static void drop_one(struct berth_leases *leases, struct berth_reclaim_item *item)
{
	struct lease *lease = lease_at(leases, item->pfn, item->cookie);

	item->result = BERTH_RECLAIM_GONE;
	if (!lease)
		return;
	item->result = BERTH_RECLAIM_BUSY;
	if (lease->locks || !berth_reclaim_freeze(leases->zone, item))
		return;
	lose_pages(leases, lease, item->cookie % BERTH_LEASE_MAX_PAGES, UINT64_C(1) << item->order);
	item->result = BERTH_RECLAIM_DROPPED;
}

static void reclaim_leases(void *ctx, struct berth_reclaim_item *items, unsigned nr)
{
	struct berth_leases *leases = ctx;

	berth_mutex_lock(&leases->lock);
	for (unsigned i = 0; i < nr; i++)
		drop_one(leases, &items[i]);
	berth_mutex_unlock(&leases->lock);
}

/* Only a whole lease can move: it stays in one piece. */
static void move_one(struct berth_leases *leases, struct berth_move *move)
{
	struct lease *lease = lease_at(leases, move->src, move->cookie);

	move->result = BERTH_MOVE_BUSY;
	if (!lease)
		return; /* it is just being made, or given back */
	if (lease->locks)
		move->holder = lease->name;
	if (lease->locks || lease->lost || !leases->linear ||
	    lease->nr_pages != UINT64_C(1) << move->order ||
	    !berth_page_freeze(leases->zone, move->src))
		return;
	__builtin_memcpy(leases->linear + ((move->dst - leases->linear_pfn) << BERTH_PAGE_SHIFT),
			 leases->linear + ((move->src - leases->linear_pfn) << BERTH_PAGE_SHIFT),
			 (size_t)lease->nr_pages << BERTH_PAGE_SHIFT);
	lease->pfn = move->dst;
	leases->stats.moved++;
	berth_move_arrived(leases->zone, move);
	move->result = BERTH_MOVE_MOVED;
}

static void move_leases(void *ctx, struct berth_move *moves, unsigned nr)
{
	struct berth_leases *leases = ctx;

	berth_mutex_lock(&leases->lock);
	for (unsigned i = 0; i < nr; i++)
		move_one(leases, &moves[i]);
	berth_mutex_unlock(&leases->lock);
}

static const char *holder(void *ctx, berth_pfn_t pfn, uint64_t cookie)
{
	struct berth_leases *leases = ctx;
	const struct lease *lease;
	const char *name;

	berth_mutex_lock(&leases->lock);
	lease = lease_at(leases, pfn, cookie);
	name = lease && lease->locks ? lease->name : NULL;
	berth_mutex_unlock(&leases->lock);
	return name;
}

int berth_leases_init(struct berth_leases **out, const struct berth_lease_params *params,
		      void *metadata, size_t metadata_bytes)
{
	struct berth_leases *leases = metadata;
	size_t bytes = berth_leases_metadata_size(params);
	int error;

	if (!out || !bytes || !metadata || (uintptr_t)metadata % 64 || metadata_bytes < bytes ||
	    !berth_zone_has_lru(params->zone))
		return -BERTH_EINVAL;
	__builtin_memset(metadata, 0, bytes);
	leases->ops = (struct berth_owner_ops){
		.name = params->name,
		.migrate = move_leases,
		.holder = holder,
		.reclaim = reclaim_leases,
	};
	leases->zone = params->zone;
	leases->max_leases = params->max_leases;
	leases->linear = params->linear;
	leases->linear_pfn = params->linear_pfn;
	leases->all = (struct lease *)(void *)((char *)metadata +
					       rounded(sizeof(struct berth_leases)));
	leases->port = params->port;
	leases->port_ctx = params->port_ctx;
	leases->unused = NONE;
	leases->stats.max_locked_pages = params->max_locked_pages;
	error = berth_owner_register(params->zone, &leases->ops, leases, &leases->owner);
	if (!error)
		*out = leases;
	return error;
}

/* ---- What holders ask -------------------------------------------------------------------------- */

/* The lease behind a handle, or NULL. T. */
static struct lease *find(struct berth_leases *leases, berth_lease_t handle)
{
	uint32_t nr = (uint32_t)handle - 1;
	struct lease *lease = &leases->all[nr];

	return (uint32_t)handle && nr < leases->nr_made && lease->ready &&
			       lease->serial == handle >> 32 ?
		       lease :
		       NULL;
}

/* A record for a new lease; NONE. */
static uint32_t take_record(struct berth_leases *leases, uint64_t nr_pages)
{
	uint32_t nr;

	berth_mutex_lock(&leases->lock);
	nr = leases->unused;
	if (nr != NONE)
		leases->unused = leases->all[nr].next;
	else if (leases->nr_made < leases->max_leases)
		nr = leases->nr_made++;
	if (nr != NONE) {
		leases->all[nr].nr_pages = (uint32_t)nr_pages;
		leases->all[nr].serial++;
	}
	berth_mutex_unlock(&leases->lock);
	return nr;
}

static void give_record_locked(struct berth_leases *leases, uint32_t nr)
{
	leases->all[nr].nr_pages = 0;
	leases->all[nr].ready = false;
	leases->all[nr].next = leases->unused;
	leases->unused = nr;
}

static void name_it(struct lease *lease, const char *name)
{
	unsigned i = 0;

	for (; name && name[i] && i + 1 < BERTH_LEASE_NAME_BYTES; i++)
		lease->name[i] = name[i];
	lease->name[i] = 0;
}

int berth_lease_create(struct berth_leases *leases, uint64_t nr_pages, const char *name,
		       berth_lease_t *handle)
{
	struct lease *lease;
	berth_pfn_t pfn;
	uint32_t nr;
	int error;

	if (!leases || !handle || !nr_pages || nr_pages > BERTH_LEASE_MAX_PAGES)
		return -BERTH_EINVAL;
	nr = take_record(leases, nr_pages);
	if (nr == NONE)
		return -BERTH_ENOSPC;
	lease = &leases->all[nr];
	/* Until it is ready the core is told that it's busy. */
	error = berth_alloc_pages_exact(leases->zone, nr_pages, BERTH_GFP_MOVABLE | BERTH_GFP_LRU,
					leases->owner, cookie_of(nr, 0), &pfn);
	berth_mutex_lock(&leases->lock);
	if (error) {
		give_record_locked(leases, nr);
	} else {
		lease->pfn = pfn;
		lease->lost = false;
		lease->ready = true;
		for (uint64_t i = 0; i < nr_pages; i++)
			lease->present[i / 64] |= UINT64_C(1) << (i % 64);
		name_it(lease, name);
		leases->stats.nr_leases++;
		leases->stats.leased_pages += nr_pages;
		*handle = (uint64_t)lease->serial << 32 | (nr + 1);
		if (berth_lru_add(leases->zone, pfn, nr_pages) != 0)
			leases->port->panic(leases->port_ctx, "a new lease is on an LRU list", pfn,
					    nr_pages);
	}
	berth_mutex_unlock(&leases->lock);
	return error;
}

static void unpin(struct berth_leases *leases, const struct lease *lease, uint64_t nr_pages)
{
	/* They were pinned one by one, whichever blocks they are in. */
	for (uint64_t i = 0; i < nr_pages; i++)
		if (berth_page_unpin(leases->zone, lease->pfn + i) != 0)
			leases->port->panic(leases->port_ctx, "a locked lease isn't pinned",
					    lease->pfn + i, lease->locks);
}

static int pin(struct berth_leases *leases, const struct lease *lease)
{
	for (uint64_t i = 0; i < lease->nr_pages; i++) {
		if (berth_page_pin(leases->zone, lease->pfn + i) != 0) {
			unpin(leases, lease, i);
			return -BERTH_EBUSY;
		}
	}
	return 0;
}

static int lock_locked(struct berth_leases *leases, struct lease *lease)
{
	int error = 0;

	if (lease->lost)
		return -BERTH_ENOENT;
	if (lease->locks == 0) {
		if (leases->stats.locked_pages + lease->nr_pages > leases->stats.max_locked_pages) {
			leases->stats.refused++;
			return -BERTH_ENOSPC;
		}
		error = pin(leases, lease);
		if (error)
			return error;
		leases->stats.locked_pages += lease->nr_pages;
	}
	lease->locks++;
	leases->stats.locks++;
	return 0;
}

int berth_lease_lock(struct berth_leases *leases, berth_lease_t handle, berth_pfn_t *pfn)
{
	struct lease *lease;
	int error = -BERTH_EINVAL;

	if (!leases || !pfn)
		return error;
	berth_mutex_lock(&leases->lock);
	lease = find(leases, handle);
	if (lease)
		error = lock_locked(leases, lease);
	if (!error)
		*pfn = lease->pfn;
	berth_mutex_unlock(&leases->lock);
	return error;
}

int berth_lease_unlock(struct berth_leases *leases, berth_lease_t handle)
{
	struct lease *lease;
	int error = -BERTH_EINVAL;

	if (!leases)
		return error;
	berth_mutex_lock(&leases->lock);
	lease = find(leases, handle);
	if (lease && lease->locks) {
		error = 0;
		if (--lease->locks == 0) {
			unpin(leases, lease, lease->nr_pages);
			leases->stats.locked_pages -= lease->nr_pages;
		}
	}
	berth_mutex_unlock(&leases->lock);
	return error;
}

/* Frees what it still has, run by run. */
static int free_pages_locked(struct berth_leases *leases, struct lease *lease)
{
	uint64_t page = 0;
	int error = 0;

	while (page < lease->nr_pages) {
		uint64_t first = page;

		while (is_present(lease, page))
			page++;
		if (page > first && !error)
			error = berth_free_range(leases->zone, lease->pfn + first, page - first,
						 leases->owner);
		leases->stats.leased_pages -= page - first;
		page++;
	}
	__builtin_memset(lease->present, 0, sizeof(lease->present));
	return error;
}

int berth_lease_free(struct berth_leases *leases, berth_lease_t handle)
{
	struct lease *lease;
	int error = -BERTH_EINVAL;

	if (!leases)
		return error;
	berth_mutex_lock(&leases->lock);
	lease = find(leases, handle);
	if (lease && lease->locks) {
		error = -BERTH_EBUSY;
	} else if (lease) {
		leases->stats.nr_leases--;
		leases->stats.nr_lost_now -= lease->lost;
		error = free_pages_locked(leases, lease);
		give_record_locked(leases, (uint32_t)(lease - leases->all));
	}
	berth_mutex_unlock(&leases->lock);
	return error;
}

uint64_t berth_lease_pages(struct berth_leases *leases, berth_lease_t handle)
{
	const struct lease *lease;
	uint64_t nr_pages;

	if (!leases)
		return 0;
	berth_mutex_lock(&leases->lock);
	lease = find(leases, handle);
	nr_pages = lease ? lease->nr_pages : 0;
	berth_mutex_unlock(&leases->lock);
	return nr_pages;
}

void berth_lease_stats(struct berth_leases *leases, struct berth_lease_stats *stats)
{
	berth_mutex_lock(&leases->lock);
	*stats = leases->stats;
	berth_mutex_unlock(&leases->lock);
}

/* ---- Checking ---------------------------------------------------------------------------------- */

static bool holds(struct berth_violation *violation, bool cond, const char *what, uint64_t where,
		  uint64_t value, uint64_t expected)
{
	if (!cond && violation)
		*violation = (struct berth_violation){ what, where, value, expected };
	return cond;
}

/* J1, J2, of one lease; counts its frames. */
static bool check_lease(struct berth_leases *leases, uint32_t nr, uint64_t *leased,
			struct berth_violation *violation)
{
	const struct lease *lease = &leases->all[nr];
	uint64_t present = 0;

	for (uint64_t page = 0; page < BERTH_LEASE_MAX_PAGES; page++) {
		uint64_t cookie = 0;
		unsigned owner = 0;

		if (!is_present(lease, page))
			continue;
		present++;
		if (!holds(violation,
			   berth_frame_owner(leases->zone, lease->pfn + page, &owner, &cookie) &&
				   owner == leases->owner && cookie == cookie_of(nr, page),
			   "J1 a lease's frame is another's", lease->pfn + page, cookie,
			   cookie_of(nr, page)))
			return false;
	}
	*leased += present;
	return holds(violation, lease->ready ? present <= lease->nr_pages : !present,
		     "J1 a lease has frames that it never had", nr, present, lease->nr_pages) &&
	       holds(violation, !lease->ready || lease->lost == (present < lease->nr_pages),
		     "J2 a lease is lost and whole, or in pieces and isn't", nr, present,
		     lease->nr_pages);
}

bool berth_leases_check(struct berth_leases *leases, struct berth_violation *violation)
{
	uint64_t leased = 0, locked = 0;

	for (uint32_t nr = 0; nr < leases->nr_made; nr++) {
		const struct lease *lease = &leases->all[nr];

		if (!check_lease(leases, nr, &leased, violation))
			return false;
		if (!lease->ready)
			continue;
		locked += lease->locks ? lease->nr_pages : 0;
		if (!holds(violation, !lease->locks || !lease->lost, "J3 a locked lease is lost",
			   nr, lease->locks, 0))
			return false;
	}
	return holds(violation, leased == leases->stats.leased_pages,
		     "J1 frames of leases don't add up", 0, leased, leases->stats.leased_pages) &&
	       holds(violation, locked == leases->stats.locked_pages,
		     "J3 locked frames don't add up", 0, locked, leases->stats.locked_pages);
}
