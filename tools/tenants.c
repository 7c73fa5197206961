/* SPDX-License-Identifier: MIT */
/*
 * Which processes a PID means.
 *
 * The process itself is asked first, since it knows its tree. Only when it is the first of one, or
 * doesn't serve (a `berth run` doesn't), everybody is asked.
 */
#define _GNU_SOURCE
#include "tools/tenants.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/json.h"
#include "tools/options.h"
#include "tools/units.h"

long berth__tenant_pid(const char *command, const char *text)
{
	uint64_t pid;

	if (berth__parse_count(text, 1, INT_MAX, &pid))
		return (long)pid;
	berth__complain(0, command,
			"'%s' is no process id; `berth ps` lists the tenants with theirs", text);
	return 0;
}

/* ---- Why not --------------------------------------------------------------------------------- */

/* The process's name as the kernel knows it, for a message. */
static const char *name_of(long pid, char name[BERTH__TEXT_BYTES])
{
	char path[64], line[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
	file = fopen(path, "re");
	if (file && !fgets(line, sizeof(line), file))
		line[0] = 0;
	if (file)
		fclose(file);
	line[strcspn(line, "\n")] = 0;
	return berth__printable(name, *line ? line : "?", sizeof(line));
}

static int no_tenant(const char *command, long pid)
{
	char name[BERTH__TEXT_BYTES], path[64];
	struct stat process;

	snprintf(path, sizeof(path), "/proc/%ld", pid);
	if (stat(path, &process) != 0)
		return berth__complain(BERTH__EXIT_FAILED, command,
				       "there is no process %ld; `berth ps` lists the tenants",
				       pid);
	if (process.st_uid != geteuid() && geteuid() != 0)
		return berth__complain(BERTH__EXIT_FAILED, command,
				       "process %ld (%s) is another user's; only its user and root "
				       "can ask it",
				       pid, name_of(pid, name));
	return berth__complain(BERTH__EXIT_FAILED, command,
			       "process %ld (%s) is no tenant, and no `berth run` with one; "
			       "`berth ps` lists the tenants",
			       pid, name_of(pid, name));
}

int berth__tenant_complain(const char *command, long pid, int error)
{
	char name[BERTH__TEXT_BYTES];

	switch (error) {
	case -BERTH_ESRCH:
		return no_tenant(command, pid);
	case -BERTH_ETIMEDOUT:
		return berth__complain(BERTH__EXIT_NO_ANSWER, command,
				       "process %ld (%s) doesn't answer in time: it is stopped, or "
				       "very busy; nothing was changed",
				       pid, name_of(pid, name));
	case -BERTH_EPERM:
		return berth__complain(
			BERTH__EXIT_FAILED, command,
			"process %ld (%s) can't be asked: its control socket, or the "
			"folder of it, isn't yours",
			pid, name_of(pid, name));
	case -BERTH_EPROTO:
		return berth__complain(BERTH__EXIT_FAILED, command,
				       "process %ld (%s) speaks another version of Berth; use the "
				       "`berth` that belongs to it",
				       pid, name_of(pid, name));
	default:
		return berth__complain(BERTH__EXIT_FAILED, command,
				       "process %ld (%s) can't be asked: %s", pid,
				       name_of(pid, name), berth_strerror(error));
	}
}

/* ---- The tree -------------------------------------------------------------------------------- */

static int most_lent_first(const void *left, const void *right)
{
	const struct berth__tenant *a = left, *b = right;

	if (!a->error != !b->error)
		return a->error ? 1 : -1;
	if (a->stat.lent_bytes != b->stat.lent_bytes)
		return a->stat.lent_bytes < b->stat.lent_bytes ? 1 : -1;
	if (a->stat.heap_pool_bytes != b->stat.heap_pool_bytes)
		return a->stat.heap_pool_bytes < b->stat.heap_pool_bytes ? 1 : -1;
	return (a->pid > b->pid) - (a->pid < b->pid);
}

/* Keeps those of a list whose tree has this `berth run` or first process. */
static void keep_tree(struct berth__target *target)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < target->nr; i++) {
		const struct berth__tenant *one = &target->tenants[i];

		if (one->error || !one->stat.tree ||
		    (one->stat.tree != target->pid && one->stat.root_pid != target->pid))
			continue;
		target->tree = one->stat.tree;
		target->first = one->stat.root_pid;
		target->tenants[kept++] = *one;
	}
	target->nr = kept;
	qsort(target->tenants, kept, sizeof(*target->tenants), most_lent_first);
}

static int find_tree(const char *command, uint64_t timeout_ns, struct berth__target *target)
{
	int nr = berth__client_list(timeout_ns, &target->tenants);

	if (nr < 0)
		return berth__complain(BERTH__EXIT_FAILED, command,
				       "the tenants can't be listed: %s", berth_strerror(nr));
	target->nr = (unsigned)nr;
	keep_tree(target);
	return target->nr ? 0 : berth__tenant_complain(command, target->pid, -BERTH_ESRCH);
}

static int take_one(const char *command, struct berth__client *client, uint64_t timeout_ns,
		    struct berth__target *target)
{
	int error;

	target->tenants = calloc(1, sizeof(*target->tenants));
	if (!target->tenants)
		return berth__complain(BERTH__EXIT_FAILED, command, "there is no memory");
	error = berth__client_stat(client, timeout_ns, &target->tenants->stat);
	if (error)
		return berth__tenant_complain(command, target->pid, error);
	target->tenants->pid = (int32_t)target->pid;
	target->nr = 1;
	return 0;
}

int berth__target_find(const char *command, long pid, uint64_t timeout_ns,
		       struct berth__target *target)
{
	struct berth__client client;
	bool is_tree;
	int error, code;

	*target = (struct berth__target){ .pid = pid };
	error = berth__client_connect(pid, timeout_ns, &client);
	if (error == -BERTH_ESRCH)
		return find_tree(command, timeout_ns, target);
	if (error)
		return berth__tenant_complain(command, pid, error);
	is_tree = client.tenant.tree && client.tenant.root_pid == pid;
	code = is_tree ? 0 : take_one(command, &client, timeout_ns, target);
	berth__client_close(&client);
	return is_tree ? find_tree(command, timeout_ns, target) : code;
}

void berth__target_free(struct berth__target *target)
{
	free(target->tenants);
	target->tenants = NULL;
}
