/* SPDX-License-Identifier: MIT */
/*
 * Direct I/O fails closed.
 *
 * While a transfer with O_DIRECT, by io_uring, native aio, RDMA, VFIO or a graphics processor is under
 * way, the kernel or a device uses the frames that it found at the beginning, and nothing in Linux
 * shows it. A move would lose what is written there. What does show is the descriptor without which no
 * such transfer begins: as long as the process has one, nothing of its heap moves, and whoever wants to
 * know is told which descriptor it is. Pins and registered buffers make no difference: where other
 * transfers go can't be known either.
 *
 * The gate of the space asks here, and gets the answer of a look at /proc/self/fd that is a few
 * milliseconds old at most. Functions by which such descriptors come into being are interposed, and
 * make that answer invalid and wait for a move under way (berth__direct_opened) *before* the program
 * gets the descriptor. What comes in other ways (system calls by a program's own instructions,
 * descriptors from other processes by recvmmsg) is seen by the next look.
 *
 * Sends without a copy need no gate: SO_ZEROCOPY is refused, as on sockets that lack it, and programs
 * send by copying then.
 *
 * I1  A move begins only after a look that began after the last berth__direct_opened().
 *
 * Complexity: a look costs about 1 us a descriptor, and is worth 16 times its
 * duration, so it takes 6 % of the mover's time at most. The program pays nothing, but for opening.
 */
#define _GNU_SOURCE
#include "runtime/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/socket.h>

#include "port/linux/fd.h"
#include "port/linux/raw.h"
#include "runtime/untreated.h"
#include "runtime/view.h"

#define LOOK_WORTH_NS 2000000u    /* at least */
#define LOOK_WORTH_TIMES 16u      /* its duration */
#define MAPS_WORTH_NS 1000000000u /* a look at the mappings */
#define NAME_BYTES 96u
#define NAMES 8u /* a claim's report may show one a little longer */
#ifndef AF_XDP
#define AF_XDP 44
#endif

static struct {
	struct berth_space *_Atomic space; /* NULL: no gate */
	_Atomic uint32_t changes;          /* counts berth__direct_opened() */
	const char *_Atomic shut;          /* the gate is, for good */
	_Atomic bool trusted;              /* no looks */
	_Atomic bool rings_seen;  /* io_uring was used: a ring may outlive its descriptor */
	_Atomic bool hidden_ring; /* one that has neither descriptor nor mapping */
	/* Below: under the space's lock, or constant. */
	const struct berth_port_ops *port;
	struct berth__view table, maps, aio_nr;
	uint32_t seen_changes;
	uint64_t valid_until_ns, maps_until_ns;
	const char *holder, *maps_holder;
	char names[NAMES][NAME_BYTES];
	unsigned next_name;
} direct = {
	.table = BERTH__VIEW("/proc/thread-self/fd", O_RDONLY | O_DIRECTORY),
	.maps = BERTH__VIEW("/proc/self/maps", O_RDONLY),
	.aio_nr = BERTH__VIEW("/proc/sys/fs/aio-nr", O_RDONLY),
};

static _Alignas(8) char buffer[8192]; /* of the one who looks */

/* ---- Names of holders -------------------------------------------------------------------------------- */

static void append(char *text, const char *more)
{
	size_t length = strlen(text);

	while (*more && length + 1 < NAME_BYTES)
		text[length++] = *more++;
	text[length] = 0;
}

static void append_number(char *text, unsigned number)
{
	char digits[12];
	int at = sizeof(digits) - 1;

	digits[at] = 0;
	do {
		digits[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	append(text, digits + at);
}

/* "what: fd N path"; a known name stays where it is, since somebody may be reading it. */
static const char *name_holder(const char *what, int fd, const char *path)
{
	char name[NAME_BYTES] = "";
	char *place;

	append(name, what);
	append(name, ": fd ");
	append_number(name, (unsigned)fd);
	if (path[0] == '/') {
		append(name, " ");
		append(name, path);
	}
	for (unsigned i = 0; i < NAMES; i++)
		if (strcmp(direct.names[i], name) == 0)
			return direct.names[i];
	place = direct.names[direct.next_name++ % NAMES];
	memcpy(place, name, sizeof(name));
	return place;
}

/* ---- One descriptor ------------------------------------------------------------------------------------- */

/* Files that stand for something that holds frames, by the beginning of what /proc calls them. */
static const struct {
	const char *prefix, *what;
} holders[] = {
	{ "anon_inode:[io_uring]", "io_uring" },
	{ "anon_inode:[vfio", "VFIO" },
	{ "anon_inode:[infiniband", "RDMA" },
	{ "/dev/vfio/", "VFIO" },
	{ "/dev/iommu", "VFIO" },
	{ "/dev/infiniband/", "RDMA" },
	{ "/dev/nvidia", "a graphics processor" },
	{ "/dev/kfd", "a graphics processor" },
	{ "/dev/dri/", "a graphics processor" },
	{ "/dev/video", "a video device" },
	{ "/dev/media", "a video device" },
	{ "/dev/sg", "a raw device" },
	{ "/dev/bsg/", "a raw device" },
	{ "/dev/nvme", "a raw device" },
	{ "/dev/ng", "a raw device" },
	{ "/dev/raw/", "a raw device" },
};

static const char *what_holds(const char *path)
{
	for (size_t i = 0; i < sizeof(holders) / sizeof(holders[0]); i++)
		if (strncmp(path, holders[i].prefix, strlen(holders[i].prefix)) == 0)
			return holders[i].what;
	return NULL;
}

static bool read_link(int table, const char *name, char *path, size_t bytes)
{
	long length = berth_raw4(SYS_readlinkat, table, name, path, bytes - 1);

	path[length > 0 ? length : 0] = 0;
	return length > 0;
}

/* The holder that a descriptor is, or NULL. */
static const char *look_at(int table, const char *name)
{
	const int fd = atoi(name);
	const char *what;
	struct statx file;
	char path[128];
	int flags;

	if (berth__fd_in_table(fd) || berth_raw6(SYS_statx, table, (long)name, AT_STATX_DONT_SYNC,
						 STATX_TYPE, (long)&file, 0) != 0)
		return NULL;
	switch (file.stx_mode & S_IFMT) {
	case S_IFREG:
	case S_IFBLK:
		flags = (int)berth_raw3(SYS_fcntl, fd, F_GETFL, 0);
		if (flags < 0 || !(flags & O_DIRECT))
			return NULL;
		(void)read_link(table, name, path, sizeof(path));
		return name_holder("direct I/O", fd, path);
	case 0: /* no file at all */
	case S_IFCHR:
		what = read_link(table, name, path, sizeof(path)) ? what_holds(path) : NULL;
		if (what && strcmp(what, "io_uring") == 0) {
			atomic_store(&direct.rings_seen, true);
			direct.maps_until_ns =
				0; /* what was seen of the mappings before it is no answer */
		}
		return what ? name_holder(what, fd, path) : NULL;
	default:
		return NULL;
	}
}

/* ---- All of them ------------------------------------------------------------------------------------------- */

struct entry { /* of SYS_getdents64 */
	uint64_t inode;
	int64_t offset;
	uint16_t bytes;
	uint8_t type;
	char name[];
};

#define BLIND ((const char *)-1)

/* Looks at each descriptor: the first holder; NULL: none; BLIND: they don't show. */
static const char *look_at_table(struct berth__view *table)
{
	const char *found = NULL;
	bool any = false;
	long bytes;

	if (!berth__view_is_at_hand(table) || berth_raw3(SYS_lseek, table->fd, 0, SEEK_SET) != 0)
		return BLIND;
	while (!found &&
	       (bytes = berth_raw3(SYS_getdents64, table->fd, buffer, sizeof(buffer))) > 0)
		for (long at = 0; at < bytes && !found;) {
			const struct entry *entry = (const void *)(buffer + at);

			at += entry->bytes;
			if (entry->name[0] == '.')
				continue;
			any = true;
			found = look_at(table->fd, entry->name);
		}
	return found || any ? found : BLIND;
}

/* The table shows through a thread; when that has ended (the main thread may), through this one. */
static const char *look_at_descriptors(struct berth__view *table)
{
	const char *found = look_at_table(table);

	if (found != BLIND)
		return found;
	berth__view_close(table);
	found = look_at_table(table);
	return found == BLIND ? "descriptors that can't be seen (/proc)" : found;
}

/* ---- Mappings -------------------------------------------------------------------------------------------------- */

/* False only if no process of the system has an aio context. */
static bool aio_exists(void)
{
	char text[24];
	long length = -1;

	if (berth__view_is_at_hand(&direct.aio_nr))
		length = berth_raw4(SYS_pread64, direct.aio_nr.fd, text, sizeof(text), 0);
	return length <= 0 || text[0] != '0';
}

/* An aio context has no descriptor, and a ring's may be closed: their mappings show. */
static const char *look_at_maps(void)
{
	static const char *const names[][2] = { { "/[aio]", "native aio (io_setup)" },
						{ "[io_uring]",
						  "io_uring: its descriptor is closed" } };
	const size_t keep = 16; /* a name may be cut by the end of a read */
	size_t kept = 0;
	long length;

	if (!berth__view_is_at_hand(&direct.maps) ||
	    berth_raw3(SYS_lseek, direct.maps.fd, 0, SEEK_SET) != 0)
		return "mappings that can't be seen (/proc)";
	while ((length = berth_raw3(SYS_read, direct.maps.fd, buffer + kept,
				    sizeof(buffer) - kept)) > 0) {
		size_t filled = kept + (size_t)length;

		for (int i = 0; i < 2; i++)
			if (memmem(buffer, filled, names[i][0], strlen(names[i][0])))
				return names[i][1];
		kept = filled < keep ? filled : keep;
		memmove(buffer, buffer + filled - kept, kept);
	}
	return NULL;
}

static const char *holder_in_maps(uint64_t now, bool changed)
{
	if (!atomic_load(&direct.rings_seen) && !aio_exists())
		return direct.maps_holder = NULL;
	if (changed || now >= direct.maps_until_ns) {
		uint64_t took;

		direct.maps_holder = look_at_maps();
		took = direct.port->now_ns(NULL) - now;
		direct.maps_until_ns = now + MAPS_WORTH_NS + LOOK_WORTH_TIMES * took;
	}
	return direct.maps_holder;
}

/* ---- The gate ---------------------------------------------------------------------------------------------------- */

/* The space's lock is held: one at a time. */
static const char *may_move(void *unused)
{
	uint64_t now = direct.port->now_ns(NULL), took;
	uint32_t changes = atomic_load(&direct.changes);
	bool changed = changes != direct.seen_changes;
	const char *holder = atomic_load(&direct.shut);

	(void)unused;
	if (holder || atomic_load(&direct.trusted))
		return holder;
	if (!changed && now < direct.valid_until_ns)
		return direct.holder;
	direct.seen_changes = changes;
	if (atomic_load(&direct.hidden_ring))
		return direct.holder = "io_uring: a ring without a descriptor";
	holder = look_at_descriptors(&direct.table);
	if (!holder)
		holder = holder_in_maps(now, changed);
	took = direct.port->now_ns(NULL) - now;
	direct.holder = holder;
	direct.valid_until_ns = now + took +
				(took * LOOK_WORTH_TIMES > LOOK_WORTH_NS ? took * LOOK_WORTH_TIMES :
									   LOOK_WORTH_NS);
	return holder;
}

void berth__direct_opened(void)
{
	struct berth_space *space = atomic_load(&direct.space);

	if (!space)
		return;
	atomic_fetch_add(&direct.changes, 1);
	berth_space_wait_for_moves(space);
}

void berth__direct_ring(bool hidden)
{
	atomic_store(&direct.rings_seen, true);
	if (hidden)
		atomic_store(&direct.hidden_ring, true);
	berth__direct_opened();
}

bool berth__direct_gated(void)
{
	return atomic_load(&direct.space) && !atomic_load(&direct.trusted);
}

void berth__direct_start(struct berth_pool_impl *pool, bool trust)
{
	direct.port = &pool->port;
	atomic_store(&direct.trusted, trust || berth__untreated(BERTH_TREAT_DIRECT_IO));
	atomic_store(&direct.shut, NULL);
	if (!atomic_load(&direct.trusted)) {
		berth__view_open(&direct.table);
		berth__view_open(&direct.maps);
		berth__view_open(&direct.aio_nr);
	}
	direct.valid_until_ns = direct.maps_until_ns = 0;
	atomic_store(&direct.space, pool->space);
	berth_space_set_gate(pool->space, may_move, NULL);
}

void berth__direct_shut(const char *why)
{
	atomic_store(&direct.shut, why);
	berth__direct_opened();
}

void berth__direct_forget(void)
{
	if (!atomic_load(&direct.space))
		return;
	berth_space_set_gate(atomic_load(&direct.space), NULL, NULL);
	atomic_store(&direct.space, NULL);
	berth__view_close(&direct.table);
	berth__view_close(&direct.maps);
	berth__view_close(&direct.aio_nr);
}
