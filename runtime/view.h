/* SPDX-License-Identifier: MIT */
/*
 * Files of /proc that are kept open, because opening one would take the lowest free number for a moment:
 * a program that closes 0 and opens a file expects to get that number.
 */
#ifndef BERTH_RUNTIME_VIEW_H
#define BERTH_RUNTIME_VIEW_H

#include <stdbool.h>
#include <stdint.h>

struct berth__view {
	const char *path;
	int flags;                    /* of open() */
	int fd;                       /* -1: not open */
	uint64_t inode, major, minor; /* the file, to know it again */
};
#define BERTH__VIEW(path, flags)         \
	{                                \
		path, flags, -1, 0, 0, 0 \
	}

void berth__view_open(struct berth__view *view);
/* True when `fd` can be used. It is opened again if the program has taken its place: reading another
 * file by mistake would move that file's position. */
bool berth__view_is_at_hand(struct berth__view *view);
void berth__view_close(struct berth__view *view);

#endif
