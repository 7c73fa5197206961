/* SPDX-License-Identifier: MIT */
/*
 * Where the control sockets are; for both sides, so that both look at the same place and trust it
 * for the same reasons. No allocation, no stdio: a tenant's control thread may come here.
 */
#define _GNU_SOURCE
#include "runtime/control_protocol.h"

#include <berth/types.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "port/linux/raw.h"

/* Appends; false when there is no room. */
static bool put(char *text, size_t bytes, const char *more)
{
	size_t length = strlen(text), add = strlen(more);

	if (length + add >= bytes)
		return false;
	memcpy(text + length, more, add + 1);
	return true;
}

static bool put_number(char *text, size_t bytes, unsigned long number)
{
	char digits[24];
	char *at = digits + sizeof(digits) - 1;

	*at = 0;
	do {
		*--at = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	return put(text, bytes, at);
}

static bool is_directory(const char *path)
{
	struct stat file;

	return stat(path, &file) == 0 && S_ISDIR(file.st_mode);
}

bool berth__control_usual_path(uid_t uid, char *path, size_t bytes)
{
	path[0] = 0;
	if (!put(path, bytes, "/run/user/") || !put_number(path, bytes, uid))
		return false;
	if (is_directory(path))
		return put(path, bytes, "/berth");
	path[0] = 0;
	return put(path, bytes, "/tmp/berth-") && put_number(path, bytes, uid);
}

/* The path only. False: too long. */
static bool find_path(uid_t uid, char *path, size_t bytes)
{
	const char *runtime = uid == geteuid() ? getenv("XDG_RUNTIME_DIR") : NULL;

	if (!runtime || runtime[0] != '/' || !is_directory(runtime))
		return berth__control_usual_path(uid, path, bytes);
	path[0] = 0;
	return put(path, bytes, runtime) && put(path, bytes, "/berth");
}

int berth__control_open(const char *path, uid_t uid, bool create)
{
	struct stat file;
	int fd;

	if (create && mkdir(path, 0700) != 0 && errno != EEXIST)
		return errno == ENOMEM || errno == ENOSPC ? -BERTH_ENOMEM : -BERTH_EPERM;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT                                       ? -BERTH_ESRCH :
		       errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -BERTH_ENOMEM :
									       -BERTH_EPERM;
	if (fstat(fd, &file) != 0 || !S_ISDIR(file.st_mode) || file.st_uid != uid ||
	    (file.st_mode & 077)) {
		(void)berth_raw1(SYS_close, fd); /* not by an interposed close() */
		return -BERTH_EPERM;
	}
	return fd;
}

int berth__control_directory(uid_t uid, bool create, char *path, size_t path_bytes)
{
	char own[PATH_MAX];
	int saved = errno, fd;

	if (!path) {
		path = own;
		path_bytes = sizeof(own);
	}
	fd = find_path(uid, path, path_bytes) ? berth__control_open(path, uid, create) :
						-BERTH_EINVAL;
	errno = saved;
	return fd;
}

void berth__control_name(long pid, char *name, size_t bytes)
{
	name[0] = 0;
	(void)put_number(name, bytes, (unsigned long)pid);
}

socklen_t berth__control_address(int directory, long pid, struct sockaddr_un *address)
{
	char *path = address->sun_path;
	const size_t bytes = sizeof(address->sun_path); /* enough for two numbers */

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	(void)(put(path, bytes, "/proc/thread-self/fd/") &&
	       put_number(path, bytes, (unsigned long)directory) && put(path, bytes, "/") &&
	       put_number(path, bytes, (unsigned long)pid));
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
}

void berth__control_header(void *message, enum berth_control_type type, size_t bytes)
{
	*(struct berth_control_header *)message = (struct berth_control_header){
		.magic = BERTH_CONTROL_MAGIC,
		.version = BERTH_CONTROL_VERSION,
		.type = (uint16_t)type,
		.bytes = (uint32_t)bytes,
	};
}
