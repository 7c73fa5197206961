/* SPDX-License-Identifier: MIT */
/*
 * Claims that are prepared ahead of the need: the same attempt as any other, made step by step by
 * whoever drives it.
 *
 * I1  PENDING: between two steps the attempt has a range fenced off, or none. READY: the attempt's range
 *     is a claim of the area that nobody has been told of.
 * I2  The state changes only under `lock`, and from PENDING and READY only.
 *
 * Complexity: taking and polling O(1); the rest as a claim.
 */
#include "core/alloc/claims.h"
#include "core/alloc/internal.h"

struct berth_cma_prepared {
	berth_mutex_t lock;
	_Atomic uint32_t state;       /* a: under lock; enum berth_prepare_state */
	int error;                    /* lock: of FAILED */
	uint64_t not_before;          /* lock: when the next round begins */
	struct berth_attempt attempt; /* lock */
	struct berth_claim_report report;
};

static void set_state(struct berth_cma_prepared *prepared, enum berth_prepare_state state)
{
	atomic_store_explicit(&prepared->state, (uint32_t)state, memory_order_release);
}

size_t berth_cma_prepared_bytes(void)
{
	return (sizeof(struct berth_cma_prepared) + 15) & ~(size_t)15;
}

enum berth_prepare_state berth_cma_prepare_poll(struct berth_cma_prepared *prepared)
{
	return (enum berth_prepare_state)atomic_load_explicit(&prepared->state,
							      memory_order_acquire);
}

int berth_cma_prepare(struct berth_cma *area, const struct berth_claim_params *params, void *memory,
		      struct berth_cma_prepared **out)
{
	struct berth_cma_prepared *prepared = memory;
	int error;

	if (!memory || !out || !berth__claim_params_valid(area, params))
		return -BERTH_EINVAL;
	*prepared = (struct berth_cma_prepared){ .lock = BERTH_MUTEX_INIT };
	prepared->report = (struct berth_claim_report){ .area = area->name,
							.nr_pages = params->nr_pages,
							.blocker_pfn = BERTH_PFN_NONE };
	error = berth__attempt_init(&prepared->attempt, area, params, &prepared->report);
	set_state(prepared, BERTH_PREPARE_PENDING);
	BERTH_TRACE(area->zone, start, area->name, params);
	if (error)
		BERTH_TRACE(area->zone, finish, area->name, params, BERTH_PFN_NONE, error);
	if (!error)
		*out = prepared;
	return error;
}

/* PENDING, lock held: steps until something changes or the budget is used up. As
 * berth_cma_prepare_step(). */
static int advance(struct berth_cma_prepared *prepared, uint64_t budget_pages, uint64_t *wait_ns)
{
	struct berth_attempt *attempt = &prepared->attempt;
	struct berth_zone *zone = attempt->area->zone;
	uint64_t until = prepared->report.moved_pages + budget_pages;
	uint64_t now = prepared->not_before ? berth__now(zone) : 0;
	int going;

	if (prepared->not_before > now) {
		*wait_ns = prepared->not_before - now;
		return 1;
	}
	prepared->not_before = 0;
	do
		going = berth__attempt_step(attempt);
	while (going > 0 && prepared->report.moved_pages < until);
	if (going < 0) {
		going = berth__attempt_round_failed(attempt, going, wait_ns);
		if (going > 0)
			prepared->not_before = berth__now(zone) + *wait_ns;
	}
	if (going <= 0) {
		prepared->error = going;
		berth__claim_ended(attempt->area, &prepared->report, going, !going, 0);
		BERTH_TRACE(zone, finish, attempt->area->name, &attempt->params,
			    going ? BERTH_PFN_NONE : berth__pfn(zone, attempt->start), going);
		set_state(prepared, going ? BERTH_PREPARE_FAILED : BERTH_PREPARE_READY);
	}
	return going;
}

int berth_cma_prepare_step(struct berth_cma_prepared *prepared, uint64_t budget_pages,
			   uint64_t *wait_ns)
{
	enum berth_prepare_state state;
	uint64_t own = 0;
	int going = 0;

	berth_mutex_lock(&prepared->lock);
	state = berth_cma_prepare_poll(prepared);
	if (state == BERTH_PREPARE_PENDING)
		going = advance(prepared, budget_pages, &own);
	else if (state == BERTH_PREPARE_FAILED)
		going = prepared->error;
	berth_mutex_unlock(&prepared->lock);
	if (wait_ns)
		*wait_ns = own;
	return going;
}

int berth_cma_prepare_wait(struct berth_cma_prepared *prepared, uint64_t deadline_ns)
{
	struct berth_zone *zone = prepared->attempt.area->zone;
	uint64_t wait_ns;
	int going;

	while ((going = berth_cma_prepare_step(prepared, 0, &wait_ns)) > 0) {
		if (deadline_ns && berth__now(zone) >= deadline_ns)
			return -BERTH_EAGAIN;
		if (wait_ns)
			zone->port->wait(zone->port_ctx, wait_ns);
	}
	return going;
}

int berth_cma_prepare_take(struct berth_cma_prepared *prepared, berth_pfn_t *pfn,
			   struct berth_claim_report *report)
{
	int error = -BERTH_EINVAL;

	berth_mutex_lock(&prepared->lock);
	switch (berth_cma_prepare_poll(prepared)) {
	case BERTH_PREPARE_READY:
		*pfn = berth__pfn(prepared->attempt.area->zone, prepared->attempt.start);
		set_state(prepared, BERTH_PREPARE_TAKEN);
		error = 0;
		break;
	case BERTH_PREPARE_PENDING:
		error = -BERTH_EAGAIN;
		break;
	case BERTH_PREPARE_FAILED:
		error = prepared->error;
		break;
	default:
		break;
	}
	if (report)
		*report = prepared->report;
	berth_mutex_unlock(&prepared->lock);
	return error;
}

int berth_cma_prepare_cancel(struct berth_cma_prepared *prepared)
{
	struct berth_attempt *attempt = &prepared->attempt;
	int error = 0;

	berth_mutex_lock(&prepared->lock);
	switch (berth_cma_prepare_poll(prepared)) {
	case BERTH_PREPARE_PENDING:
		berth__attempt_abandon(attempt);
		set_state(prepared, BERTH_PREPARE_CANCELLED);
		break;
	case BERTH_PREPARE_READY:
		error = berth_cma_release(attempt->area,
					  berth__pfn(attempt->area->zone, attempt->start),
					  attempt->params.nr_pages);
		set_state(prepared, BERTH_PREPARE_CANCELLED);
		break;
	case BERTH_PREPARE_TAKEN:
		error = -BERTH_EINVAL;
		break;
	default:
		break;
	}
	berth_mutex_unlock(&prepared->lock);
	return error;
}
