/* SPDX-License-Identifier: MIT */
/*
 * A VFS in front of SQLite's default one. It changes nothing of what files are and do. It answers a read for
 * a page that the cache has filled already without reading, and counts writes by buffer.
 *
 * I1  A read is answered only if the last thing that the cache did in this thread was to hand out exactly this
 *     buffer, new and filled, and the whole page is read. SQLite reads a page into its cache's buffer in one
 *     place only, and always behind such a fetch; what it reads there is that page, from the database or
 *     from the write-ahead log.
 *
 * I2  What was read ahead (64 KiB behind pages that followed each other) answers only reads of pages, and is
 *     forgotten by any other call for the file that may mean that the file changes, or is another one's to change: a write,
 *     a lock, a read of something else (the header, by which SQLite sees whether somebody has changed the file). Between
 *     two of those SQLite itself may cache any page that it reads: nobody else writes to the file, but for a checkpoint
 *     of the write-ahead log, which writes only pages that this connection reads from the log. What was read ahead is such a
 *     cache, below the one that SQLite knows.
 *
 * Journals aren't wrapped at all: no page is read from there into the cache.
 */
#include "sqlite/internal.h"

#include <stdio.h>
#include <stdlib.h>

#define AHEAD_BYTES 65536
#define RUN_PAGES 3u /* that followed each other */
#define PAGE_FILES \
	(SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_TEMP_DB | SQLITE_OPEN_TRANSIENT_DB | SQLITE_OPEN_WAL)

_Thread_local struct expected berth__sqlite_expected;
_Atomic uint64_t berth__sqlite_writes[1 << WRITES_ORDER];

struct file {
	sqlite3_file base;
	sqlite3_file *below; /* behind this structure */
	/* Reading ahead: */
	sqlite3_int64 next; /* where a page would follow the last one that was read */
	unsigned run;       /* pages that followed each other */
	char *ahead;        /* AHEAD_BYTES, or NULL */
	sqlite3_int64 ahead_at,
		ahead_end; /* what of the file is in there; ends where it begins: nothing */
};

static sqlite3_vfs vfs, *below; /* constant once registered */
static bool may_read_ahead;     /* constant likewise */

static sqlite3_file *below_of(sqlite3_file *file)
{
	return ((struct file *)file)->below;
}

#define BELOW(method) (below_of(file)->pMethods->method)

/* ---- Reading and writing ------------------------------------------------------------------------------ */

/* Is what the store had what SQLite would have read? */
static void verify(sqlite3_file *file, const void *buffer, int bytes, sqlite3_int64 offset)
{
	void *read = malloc((size_t)bytes);
	const uint32_t pgno = berth__sqlite_expected.page->pgno;

	if (!read)
		return;
	(void)BELOW(xRead)(below_of(file), read, bytes, offset);
	if (memcmp(read, buffer, (size_t)bytes) != 0) {
		fprintf(stderr, "berth: the store has a stale page %u of SQLite's\n", pgno);
		abort();
	}
	free(read);
}

/* The next page that is read comes from the file itself (I2). */
static void forget_ahead(sqlite3_file *file)
{
	struct file *outer = (struct file *)file;

	if (berth__sqlite_leave_out & LEAVE_OUT_AHEAD)
		return;
	outer->ahead_end = outer->ahead_at;
	outer->run = 0;
}

/* Behind RUN_PAGES pages that followed each other, the next ones. False: they aren't there, or there is no memory. */
static bool fetch_ahead(struct file *file, int bytes, sqlite3_int64 offset)
{
	if (file->run < RUN_PAGES || !may_read_ahead || bytes > AHEAD_BYTES / 4)
		return false;
	if (!file->ahead)
		file->ahead = malloc(AHEAD_BYTES);
	if (!file->ahead)
		return false;
	file->ahead_at = file->ahead_end = offset;
	/* The end of the file is not ahead: what is read there is read by itself. */
	if (file->below->pMethods->xRead(file->below, file->ahead, AHEAD_BYTES, offset) !=
	    SQLITE_OK) {
		file->run = 0;
		return false;
	}
	file->ahead_end = offset + AHEAD_BYTES;
	return true;
}

/* A page of the file; one that follows others may have been read with them. */
static int read_page(struct file *file, void *buffer, int bytes, sqlite3_int64 offset)
{
	if (offset >= file->ahead_at && offset + bytes <= file->ahead_end) {
		memcpy(buffer, file->ahead + (offset - file->ahead_at), (size_t)bytes);
		if (berth__sqlite_verify)
			verify(&file->base, buffer, bytes, offset);
		return SQLITE_OK;
	}
	if (fetch_ahead(file, bytes, offset)) {
		memcpy(buffer, file->ahead, (size_t)bytes);
		return SQLITE_OK;
	}
	return file->below->pMethods->xRead(file->below, buffer, bytes, offset);
}

static void note_place(struct file *file, int bytes, sqlite3_int64 offset)
{
	file->run = offset == file->next ? file->run + 1 : 0;
	file->next = offset + bytes;
}

static int file_read(sqlite3_file *file, void *buffer, int bytes, sqlite3_int64 offset)
{
	struct expected *expected = &berth__sqlite_expected;
	struct page *page = expected->page;
	int result;

	if (expected->buffer != buffer || expected->bytes != bytes) {
		forget_ahead(file);
		return BELOW(xRead)(below_of(file), buffer, bytes, offset);
	}
	expected->buffer = NULL;
	note_place((struct file *)file, bytes, offset);
	if (expected->filled) {
		if (berth__sqlite_verify)
			verify(file, buffer, bytes, offset);
		page->flags |= PAGE_SAME | PAGE_READ;
		page->writes = berth__writes_now(page);
		return SQLITE_OK;
	}
	result = read_page((struct file *)file, buffer, bytes, offset);
	page->writes = berth__writes_now(page);
	if (result == SQLITE_OK)
		berth__lent_was_read(expected->cache, page);
	return result;
}

static int file_write(sqlite3_file *file, const void *buffer, int bytes, sqlite3_int64 offset)
{
	forget_ahead(file);
	if (!(berth__sqlite_leave_out & LEAVE_OUT_WRITES))
		atomic_fetch_add_explicit(berth__writes_of(buffer), 1, memory_order_relaxed);
	if (berth__sqlite_verify)
		berth__lent_was_written(buffer, (size_t)bytes);
	return BELOW(xWrite)(below_of(file), buffer, bytes, offset);
}

/* ---- All else goes down -------------------------------------------------------------------------------- */

static int file_close(sqlite3_file *file)
{
	free(((struct file *)file)->ahead);
	return BELOW(xClose)(below_of(file));
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 bytes)
{
	forget_ahead(file);
	return BELOW(xTruncate)(below_of(file), bytes);
}

static int file_sync(sqlite3_file *file, int flags)
{
	forget_ahead(file);
	return BELOW(xSync)(below_of(file), flags);
}

static int file_size(sqlite3_file *file, sqlite3_int64 *bytes)
{
	return BELOW(xFileSize)(below_of(file), bytes);
}

static int file_lock(sqlite3_file *file, int lock)
{
	forget_ahead(file);
	return BELOW(xLock)(below_of(file), lock);
}

static int file_unlock(sqlite3_file *file, int lock)
{
	forget_ahead(file);
	return BELOW(xUnlock)(below_of(file), lock);
}

static int file_check_reserved(sqlite3_file *file, int *reserved)
{
	return BELOW(xCheckReservedLock)(below_of(file), reserved);
}

static int file_control(sqlite3_file *file, int what, void *argument)
{
	forget_ahead(file);
	return BELOW(xFileControl)(below_of(file), what, argument);
}

static int file_sector_size(sqlite3_file *file)
{
	return BELOW(xSectorSize)(below_of(file));
}

static int file_characteristics(sqlite3_file *file)
{
	return BELOW(xDeviceCharacteristics)(below_of(file));
}

static int file_shm_map(sqlite3_file *file, int region, int bytes, int extend, void volatile **at)
{
	forget_ahead(file);
	return BELOW(xShmMap)(below_of(file), region, bytes, extend, at);
}

static int file_shm_lock(sqlite3_file *file, int first, int nr, int flags)
{
	forget_ahead(file);
	return BELOW(xShmLock)(below_of(file), first, nr, flags);
}

static void file_shm_barrier(sqlite3_file *file)
{
	forget_ahead(file);
	BELOW(xShmBarrier)(below_of(file));
}

static int file_shm_unmap(sqlite3_file *file, int remove)
{
	forget_ahead(file);
	return BELOW(xShmUnmap)(below_of(file), remove);
}

static int file_fetch(sqlite3_file *file, sqlite3_int64 offset, int bytes, void **at)
{
	forget_ahead(file);
	return BELOW(xFetch)(below_of(file), offset, bytes, at);
}

static int file_unfetch(sqlite3_file *file, sqlite3_int64 offset, void *at)
{
	forget_ahead(file);
	return BELOW(xUnfetch)(below_of(file), offset, at);
}

#define METHODS(version)                                                                         \
	{                                                                                        \
		.iVersion = version, .xClose = file_close, .xRead = file_read,                   \
		.xWrite = file_write, .xTruncate = file_truncate, .xSync = file_sync,            \
		.xFileSize = file_size, .xLock = file_lock, .xUnlock = file_unlock,              \
		.xCheckReservedLock = file_check_reserved, .xFileControl = file_control,         \
		.xSectorSize = file_sector_size, .xDeviceCharacteristics = file_characteristics, \
		.xShmMap = version >= 2 ? file_shm_map : NULL,                                   \
		.xShmLock = version >= 2 ? file_shm_lock : NULL,                                 \
		.xShmBarrier = version >= 2 ? file_shm_barrier : NULL,                           \
		.xShmUnmap = version >= 2 ? file_shm_unmap : NULL,                               \
		.xFetch = version >= 3 ? file_fetch : NULL,                                      \
		.xUnfetch = version >= 3 ? file_unfetch : NULL,                                  \
	}
static const sqlite3_io_methods methods[] = { METHODS(1), METHODS(2), METHODS(3) };

static int open_file(sqlite3_vfs *unused, const char *name, sqlite3_file *file, int flags,
		     int *flags_out)
{
	struct file *outer = (struct file *)file;
	int result, version;

	(void)unused;
	if (!(flags & PAGE_FILES))
		return below->xOpen(below, name, file, flags, flags_out);
	*outer = (struct file){ .below = (sqlite3_file *)(outer + 1), .next = -1 };
	outer->below->pMethods = NULL;
	result = below->xOpen(below, name, outer->below, flags, flags_out);
	/* SQLite closes what has methods, also after an error. */
	if (outer->below->pMethods) {
		version = outer->below->pMethods->iVersion;
		outer->base.pMethods = &methods[version >= 3 ? 2 : version == 2];
	}
	return result;
}

static int delete_file(sqlite3_vfs *unused, const char *name, int sync)
{
	(void)unused;
	return below->xDelete(below, name, sync);
}

static int access_file(sqlite3_vfs *unused, const char *name, int flags, int *result)
{
	(void)unused;
	return below->xAccess(below, name, flags, result);
}

static int full_pathname(sqlite3_vfs *unused, const char *name, int bytes, char *full)
{
	(void)unused;
	return below->xFullPathname(below, name, bytes, full);
}

static void *dl_open(sqlite3_vfs *unused, const char *name)
{
	(void)unused;
	return below->xDlOpen(below, name);
}

static void dl_error(sqlite3_vfs *unused, int bytes, char *text)
{
	(void)unused;
	below->xDlError(below, bytes, text);
}

static void (*dl_sym(sqlite3_vfs *unused, void *library, const char *name))(void)
{
	(void)unused;
	return below->xDlSym(below, library, name);
}

static void dl_close(sqlite3_vfs *unused, void *library)
{
	(void)unused;
	below->xDlClose(below, library);
}

static int randomness(sqlite3_vfs *unused, int bytes, char *to)
{
	(void)unused;
	return below->xRandomness(below, bytes, to);
}

static int sleep_us(sqlite3_vfs *unused, int us)
{
	(void)unused;
	return below->xSleep(below, us);
}

static int current_time(sqlite3_vfs *unused, double *now)
{
	(void)unused;
	return below->xCurrentTime(below, now);
}

static int last_error(sqlite3_vfs *unused, int bytes, char *text)
{
	(void)unused;
	return below->xGetLastError(below, bytes, text);
}

static int current_time_64(sqlite3_vfs *unused, sqlite3_int64 *now)
{
	(void)unused;
	return below->xCurrentTimeInt64(below, now);
}

static int set_system_call(sqlite3_vfs *unused, const char *name, sqlite3_syscall_ptr call)
{
	(void)unused;
	return below->xSetSystemCall(below, name, call);
}

static sqlite3_syscall_ptr get_system_call(sqlite3_vfs *unused, const char *name)
{
	(void)unused;
	return below->xGetSystemCall(below, name);
}

static const char *next_system_call(sqlite3_vfs *unused, const char *name)
{
	(void)unused;
	return below->xNextSystemCall(below, name);
}

int berth__vfs_register(sqlite3_vfs *(*find)(const char *), int (*add)(sqlite3_vfs *, int))
{
	below = find(NULL);
	if (!below)
		return SQLITE_ERROR;
	/* Others may want to see each page by itself, to check or to decipher it. */
	may_read_ahead = strncmp(below->zName, "unix", 4) == 0;
	vfs = (sqlite3_vfs){
		.iVersion = below->iVersion < 3 ? below->iVersion : 3,
		.szOsFile = (int)sizeof(struct file) + below->szOsFile,
		.mxPathname = below->mxPathname,
		.zName = "berth",
		.pAppData = below->pAppData,
		.xOpen = open_file,
		.xDelete = delete_file,
		.xAccess = access_file,
		.xFullPathname = full_pathname,
		.xDlOpen = below->xDlOpen ? dl_open : NULL,
		.xDlError = below->xDlError ? dl_error : NULL,
		.xDlSym = below->xDlSym ? dl_sym : NULL,
		.xDlClose = below->xDlClose ? dl_close : NULL,
		.xRandomness = randomness,
		.xSleep = sleep_us,
		.xCurrentTime = current_time,
		.xGetLastError = below->xGetLastError ? last_error : NULL,
		.xCurrentTimeInt64 = below->iVersion >= 2 && below->xCurrentTimeInt64 ?
					     current_time_64 :
					     NULL,
		.xSetSystemCall = below->iVersion >= 3 ? set_system_call : NULL,
		.xGetSystemCall = below->iVersion >= 3 ? get_system_call : NULL,
		.xNextSystemCall = below->iVersion >= 3 ? next_system_call : NULL,
	};
	return add(&vfs, 1);
}
