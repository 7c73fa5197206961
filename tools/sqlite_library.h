/* SPDX-License-Identifier: MIT */
/*
 * libsqlite3, as the benches use it: loaded, not linked, so that the command needs it for nothing else. Where
 * SQLite's headers weren't found there is no struct berth__sqlite_library, and BERTH__HAVE_SQLITE isn't defined.
 */
#ifndef BERTH_TOOLS_SQLITE_LIBRARY_H
#define BERTH_TOOLS_SQLITE_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

/* Why there is none, where BERTH__HAVE_SQLITE isn't defined. */
extern const char *const berth__no_sqlite;

#if !defined(BERTH_STATIC_TOOL) && __has_include(<sqlite3.h>)
#define BERTH__HAVE_SQLITE 1

#include <sqlite3.h>

/* The functions that are used; in the order of `names` in sqlite_library.c. */
struct berth__sqlite_library {
	void *handle;
	int (*config)(int what, ...);
	int (*open_v2)(const char *path, sqlite3 **db, int flags, const char *vfs);
	int (*close)(sqlite3 *db);
	int (*shutdown)(void);
	int (*exec)(sqlite3 *db, const char *sql, int (*each)(void *, int, char **, char **),
		    void *ctx, char **why);
	int (*prepare_v2)(sqlite3 *db, const char *sql, int bytes, sqlite3_stmt **statement,
			  const char **tail);
	int (*bind_int64)(sqlite3_stmt *statement, int parameter, sqlite3_int64 value);
	int (*bind_blob)(sqlite3_stmt *statement, int parameter, const void *data, int bytes,
			 void (*release)(void *));
	int (*step)(sqlite3_stmt *statement);
	int (*reset)(sqlite3_stmt *statement);
	int (*finalize)(sqlite3_stmt *statement);
	sqlite3_int64 (*column_int64)(sqlite3_stmt *statement, int column);
	const void *(*column_blob)(sqlite3_stmt *statement, int column);
	int (*column_bytes)(sqlite3_stmt *statement, int column);
	const char *(*errmsg)(sqlite3 *db);
	int (*db_status)(sqlite3 *db, int what, int *now, int *most, int reset);
};

/*
 * Loads it. `as_linked`: the functions are what a program gets that is linked with it, so those of a preloaded library
 * come first; else its own. False: `why` is a sentence.
 */
bool berth__sqlite_load(struct berth__sqlite_library *library, bool as_linked, char *why,
			size_t why_bytes);

#endif
#endif
