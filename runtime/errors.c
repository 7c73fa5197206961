/* SPDX-License-Identifier: MIT */
/* Error codes and claim reports in words. */
#include <berth/berth.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static const struct {
	int error;
	const char *name, *text;
} errors[] = {
	{ 0, "OK", "success" },
	{ BERTH_EPERM, "EPERM", "the system refused" },
	{ BERTH_ENOENT, "ENOENT", "there is no such area" },
	{ BERTH_E2BIG, "E2BIG", "the request can never fit: it is larger than the area" },
	{ BERTH_EAGAIN, "EAGAIN",
	  "not now: the time allowed is over, or the call may not wait or move anything" },
	{ BERTH_ENOMEM, "ENOMEM", "not enough memory, or no place to move borrowers to" },
	{ BERTH_EBUSY, "EBUSY", "somebody holds memory that is in the way; a retry may help" },
	{ BERTH_EEXIST, "EEXIST", "the name or range is taken" },
	{ BERTH_ENODEV, "ENODEV",
	  "no area is configured for the device, and there is no default area: name one with "
	  "devices= or default=" },
	{ BERTH_EINVAL, "EINVAL", "a bad argument" },
	{ BERTH_ENOSPC, "ENOSPC", "claims in place leave no run of that size now" },
	{ BERTH_ENOSYS, "ENOSYS", "this kernel lacks the feature" },
	{ BERTH_ESTALE, "ESTALE", "the pool is closed, or was opened before a fork" },
	{ BERTH_ESRCH, "ESRCH", "there is no such tenant, or it has ended" },
	{ BERTH_EPROTO, "EPROTO", "the tenant speaks another version of Berth's protocol" },
	{ BERTH_EOPNOTSUPP, "EOPNOTSUPP", "not possible on another process's pool" },
	{ BERTH_ETIMEDOUT, "ETIMEDOUT",
	  "the tenant doesn't answer in time: it is stopped, or very busy" },
};

static size_t lookup(int error)
{
	size_t nr = sizeof(errors) / sizeof(errors[0]);

	for (size_t i = 0; i < nr; i++)
		if (errors[i].error == error || -errors[i].error == error)
			return i;
	return nr;
}

const char *berth_strerror(int error)
{
	size_t i = lookup(error);

	return i < sizeof(errors) / sizeof(errors[0]) ? errors[i].text : "an unknown error";
}

const char *berth_errname(int error)
{
	size_t i = lookup(error);

	return i < sizeof(errors) / sizeof(errors[0]) ? errors[i].name : "unknown";
}

/* ---- A claim's report ---------------------------------------------------------------------------------- */

struct writer {
	char *text;
	size_t bytes, length;
};

__attribute__((format(printf, 2, 3))) static void put(struct writer *out, const char *format, ...)
{
	size_t room = out->length < out->bytes ? out->bytes - out->length : 0;
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(room ? out->text + out->length : NULL, room, format, args);
	va_end(args);
	if (length > 0)
		out->length += (size_t)length;
}

static double mib(uint64_t pages)
{
	return (double)(pages << BERTH_PAGE_SHIFT) / (1 << 20);
}

static const char *reason_text(enum berth_claim_reason reason)
{
	static const char *const texts[] = {
		[BERTH_CLAIM_DONE] = "",
		[BERTH_CLAIM_TOO_LARGE] = "larger than any range of the area",
		[BERTH_CLAIM_NO_RUN] = "claims in place leave no run",
		[BERTH_CLAIM_PINNED] = "pinned memory",
		[BERTH_CLAIM_UNMOVABLE] = "memory that can't move",
		[BERTH_CLAIM_OWNER_BUSY] = "memory that its owner wouldn't move now",
		[BERTH_CLAIM_IN_FLIGHT] = "memory that kept being moved or freed",
		[BERTH_CLAIM_OTHER_CLAIM] = "another claim takes the range",
		[BERTH_CLAIM_NO_DESTINATION] = "nowhere to move borrowers to",
		[BERTH_CLAIM_NOT_FREE] = "borrowers would have to be moved",
		[BERTH_CLAIM_DEADLINE] = "the time was over",
	};

	return (size_t)reason < sizeof(texts) / sizeof(texts[0]) ? texts[reason] : "unknown";
}

size_t berth_report_text(const struct berth_claim_report *report, char *text, size_t text_bytes)
{
	static const char *const phases[] = { "search", "isolate", "drain", "migrate", "finish" };
	struct writer out = { text, text_bytes, 0 };

	if (text_bytes)
		*text = 0;
	put(&out, "claim of %.1f MiB", mib(report->nr_pages));
	if (report->area)
		put(&out, " from area %s", report->area);
	if (!report->error)
		put(&out, ": done");
	else
		put(&out, ": failed, %s (%s)", berth_errname(report->error),
		    berth_strerror(report->error));
	if (report->error && report->reason != BERTH_CLAIM_DONE)
		put(&out, "\n  reason: %s", reason_text(report->reason));
	if (report->error && report->blocker_pfn != BERTH_PFN_NONE) {
		put(&out, "\n  in the way: %" PRIu64 " page(s) at offset %#" PRIx64 ", %s",
		    report->blocker_pages, report->blocker_pfn << BERTH_PAGE_SHIFT,
		    report->blocker_owner ? report->blocker_owner : "unknown owner");
		if (report->blocker_holder)
			put(&out, ", held by %s", report->blocker_holder);
	}
	for (unsigned i = 1; report->error && i < report->nr_blockers;
	     i++) { /* the first is told */
		const struct berth_blocker *blocker = &report->blockers[i];

		put(&out, "\n  and: %" PRIu64 " page(s) at offset %#" PRIx64 ", %s",
		    blocker->nr_pages, blocker->pfn << BERTH_PAGE_SHIFT,
		    blocker->owner ? blocker->owner : "unknown owner");
		if (blocker->holder)
			put(&out, ", held by %s", blocker->holder);
	}
	if (report->error)
		put(&out, "\n  largest free run %.1f MiB, largest claimable run %.1f MiB",
		    mib(report->largest_free_pages), mib(report->largest_claimable_pages));
	put(&out, "\n  %u range(s) tried, %.1f MiB moved, ", report->tries,
	    mib(report->moved_pages));
	if (report->dropped_pages)
		put(&out, "%.1f MiB dropped, ", mib(report->dropped_pages));
	put(&out, "%.1f MiB were free, %" PRIu64 " busy", mib(report->free_pages_taken),
	    report->busy_blocks);
	put(&out, "\n  time:");
	for (unsigned i = 0; i < BERTH_NR_PHASES; i++)
		put(&out, " %s %.1f us%s", phases[i], (double)report->phase_ns[i] / 1000,
		    i + 1 < BERTH_NR_PHASES ? "," : "");
	return out.length;
}
