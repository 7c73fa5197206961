/* SPDX-License-Identifier: MIT */
/*
 * Loads libsqlite3 for the benches.
 */
#define _GNU_SOURCE
#include "tools/sqlite_library.h"

#ifdef BERTH_STATIC_TOOL
const char *const berth__no_sqlite = "a static executable loads no libraries";
#else
const char *const berth__no_sqlite =
	"this berth was built without SQLite's headers (Debian: libsqlite3-dev)";
#endif

#ifdef BERTH__HAVE_SQLITE

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	size_t place;
} names[] = {
	{ "sqlite3_config", offsetof(struct berth__sqlite_library, config) },
	{ "sqlite3_open_v2", offsetof(struct berth__sqlite_library, open_v2) },
	{ "sqlite3_close", offsetof(struct berth__sqlite_library, close) },
	{ "sqlite3_shutdown", offsetof(struct berth__sqlite_library, shutdown) },
	{ "sqlite3_exec", offsetof(struct berth__sqlite_library, exec) },
	{ "sqlite3_prepare_v2", offsetof(struct berth__sqlite_library, prepare_v2) },
	{ "sqlite3_bind_int64", offsetof(struct berth__sqlite_library, bind_int64) },
	{ "sqlite3_bind_blob", offsetof(struct berth__sqlite_library, bind_blob) },
	{ "sqlite3_step", offsetof(struct berth__sqlite_library, step) },
	{ "sqlite3_reset", offsetof(struct berth__sqlite_library, reset) },
	{ "sqlite3_finalize", offsetof(struct berth__sqlite_library, finalize) },
	{ "sqlite3_column_int64", offsetof(struct berth__sqlite_library, column_int64) },
	{ "sqlite3_column_blob", offsetof(struct berth__sqlite_library, column_blob) },
	{ "sqlite3_column_bytes", offsetof(struct berth__sqlite_library, column_bytes) },
	{ "sqlite3_errmsg", offsetof(struct berth__sqlite_library, errmsg) },
	{ "sqlite3_db_status", offsetof(struct berth__sqlite_library, db_status) },
};

bool berth__sqlite_load(struct berth__sqlite_library *library, bool as_linked, char *why,
			size_t why_bytes)
{
	library->handle = dlopen("libsqlite3.so.0",
				 RTLD_NOW | (as_linked ? RTLD_GLOBAL : RTLD_LOCAL));
	if (!library->handle) {
		snprintf(why, why_bytes, "%s (Debian: apt-get install libsqlite3-0)", dlerror());
		return false;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		void *function = dlsym(as_linked ? RTLD_DEFAULT : library->handle, names[i].name);

		if (!function) {
			snprintf(why, why_bytes, "libsqlite3 has no %s", names[i].name);
			return false;
		}
		memcpy((char *)library + names[i].place, &function, sizeof(function));
	}
	return true;
}

#endif
