/* SPDX-License-Identifier: MIT */
/*
 * Looks at a program before it is started: the preload library gets into what the dynamic linker of
 * our own C library loads, and into nothing else. The file is only read; what is decided here can
 * be outdated when the program starts, and then the report says that the library never came up.
 */
#define _GNU_SOURCE
#include "tools/program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tools/tool.h"

#define PRELOAD_NAME "libberth-preload.so"
#define SQLITE_NAME "libberth-sqlite.so"
#define MOST_SCRIPTS 4 /* scripts run by scripts, as in Linux */
#define MOST_HEADERS 64

/* Where to say what is wrong. */
struct why {
	char *text;
	size_t bytes;
};

static int because(const struct why *why, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int because(const struct why *why, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why->text, why->bytes, format, args);
	va_end(args);
	return code;
}

/* ---- Finding it ------------------------------------------------------------------------------ */

/* 0, or the errno of trying to execute it. */
static int try_path(const char *path)
{
	struct stat file;

	if (stat(path, &file) != 0)
		return errno;
	if (!S_ISREG(file.st_mode))
		return S_ISDIR(file.st_mode) ? EISDIR : EACCES;
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

/* The path that execvp() would take. 0 or an errno. */
static int look_up(const char *name, char path[PATH_MAX])
{
	const char *folder = getenv("PATH");
	int error = ENOENT;

	if (strchr(name, '/') || !*name) {
		snprintf(path, PATH_MAX, "%s", name);
		return strlen(name) < PATH_MAX ? try_path(name) : ENAMETOOLONG;
	}
	for (folder = folder ? folder : "/bin:/usr/bin"; folder;) {
		const char *end = strchrnul(folder, ':');
		int length = snprintf(path, PATH_MAX, "%.*s%s%s", (int)(end - folder), folder,
				      end > folder ? "/" : "", name);
		int one = length < PATH_MAX ? try_path(path) : ENAMETOOLONG;

		if (!one)
			return 0;
		/* A folder that may not be searched has nothing for us: that isn't a refusal. */
		if ((one == EACCES || one == EISDIR) && access(path, F_OK) == 0)
			error = one;
		folder = *end ? end + 1 : NULL;
	}
	return error;
}

/* ---- Rights that the dynamic linker distrusts ------------------------------------------------ */

/* The program gains rights, so that LD_PRELOAD is ignored. */
static bool gains_rights(const char *path, const struct stat *file)
{
	struct statvfs mount;
	bool by_owner = file->st_mode & S_ISUID && file->st_uid != getuid();
	bool by_group = (file->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
			file->st_gid != getgid();
	bool by_capability = getuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0;

	if (!by_owner && !by_group && !by_capability)
		return false;
	if (statvfs(path, &mount) == 0 && mount.f_flag & ST_NOSUID)
		return false;
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1;
}

/* ---- ELF ------------------------------------------------------------------------------------- */

/* The file's start, and the rest on demand. */
struct file {
	int fd;
	char head[256];
	ssize_t length; /* of head */
};

static bool read_at(const struct file *file, void *to, size_t bytes, off_t at)
{
	return pread(file->fd, to, bytes, at) == (ssize_t)bytes;
}

/* The interpreter that the program names; false: none, so it is static. */
static bool find_interpreter(const struct file *file, const ElfW(Ehdr) * elf,
			     char interpreter[PATH_MAX])
{
	for (unsigned i = 0; i < elf->e_phnum && i < MOST_HEADERS; i++) {
		ElfW(Phdr) segment;

		if (!read_at(file, &segment, sizeof(segment),
			     (off_t)(elf->e_phoff + i * sizeof(segment))))
			return false;
		if (segment.p_type != PT_INTERP)
			continue;
		memset(interpreter, 0, PATH_MAX);
		if (segment.p_filesz >= PATH_MAX)
			return false;
		return read_at(file, interpreter, segment.p_filesz, (off_t)segment.p_offset);
	}
	return false;
}

/* The machine that this tool, and so the preload library, was made for. */
static unsigned own_machine(void)
{
	const ElfW(Ehdr) *self = (const void *)getauxval(AT_SYSINFO_EHDR); /* the vdso */

	return self ? self->e_machine : EM_NONE;
}

static int check_elf(const struct file *file, const struct why *why)
{
	ElfW(Ehdr) elf;
	char interpreter[PATH_MAX];
	const char *linker;

	memcpy(&elf, file->head, sizeof(elf));
	if (elf.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) ||
	    (own_machine() != EM_NONE && elf.e_machine != own_machine()))
		return because(why, BERTH__EXIT_CANT_RUN,
			       "is made for another kind of machine than berth is, so the preload "
			       "library can't get into it; use a berth of its kind");
	if (elf.e_phentsize != sizeof(ElfW(Phdr)) || !find_interpreter(file, &elf, interpreter))
		return because(why, BERTH__EXIT_CANT_RUN,
			       "is linked statically, so the preload library can't get into it; "
			       "use a dynamically linked build of it");
	linker = strrchr(interpreter, '/') ? strrchr(interpreter, '/') + 1 : interpreter;
	if (strncmp(linker, "ld-musl", 7) == 0)
		return because(why, BERTH__EXIT_CANT_RUN,
			       "uses another C library (%s), so the preload library can't get into "
			       "it; use a build of it for glibc",
			       linker);
	return 0;
}

/* ---- Programs -------------------------------------------------------------------------------- */

/* The interpreter of a script: the first word after #!. False: none. */
static bool script_interpreter(const struct file *file, char interpreter[PATH_MAX])
{
	const char *start = file->head + 2, *end;

	start += strspn(start, " \t");
	end = start + strcspn(start, " \t\r\n");
	snprintf(interpreter, PATH_MAX, "%.*s", (int)(end - start), start);
	return end > start;
}

static bool open_file(const char *path, struct file *file, struct stat *status)
{
	file->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (file->fd < 0)
		return false; /* executable, but not readable: the kernel decides */
	memset(file->head, 0, sizeof(file->head));
	file->length = pread(file->fd, file->head, sizeof(file->head) - 1, 0);
	if (file->length >= 0 && fstat(file->fd, status) == 0)
		return true;
	close(file->fd);
	return false;
}

/* Checks a file; for a script, `path` becomes its interpreter, *again is set. */
static int check_file(char path[PATH_MAX], bool *again, const struct why *why)
{
	struct stat status;
	struct file file;
	int code = 0;

	*again = false;
	if (!open_file(path, &file, &status))
		return 0;
	if (file.length >= 2 && memcmp(file.head, "#!", 2) == 0)
		*again = script_interpreter(&file, path);
	else if (gains_rights(path, &status))
		code = because(why, BERTH__EXIT_CANT_RUN,
			       "runs with other rights than yours (setuid, setgid or "
			       "capabilities), so the preload library can't get into it; run berth "
			       "as the user that it runs as");
	else if (file.length >= (ssize_t)sizeof(ElfW(Ehdr)) &&
		 memcmp(file.head, ELFMAG, SELFMAG) == 0)
		code = check_elf(&file, why);
	close(file.fd);
	return code;
}

static int find(const char *name, char path[PATH_MAX], const struct why *why)
{
	int error = look_up(name, path);

	if (error == ENOENT || error == ENOTDIR)
		return because(why, BERTH__EXIT_NOT_FOUND, "isn't there%s",
			       strchr(name, '/') ? "; check the path" :
						   " in any folder of PATH; check its name");
	return error ? because(why, BERTH__EXIT_NOT_EXECUTABLE, "can't be executed: %s",
			       strerror(error)) :
		       0;
}

int berth__program_find(const char *name, char *text, size_t text_bytes)
{
	char path[PATH_MAX];

	return find(name, path, &(const struct why){ text, text_bytes });
}

int berth__program_check(const char *name, char *text, size_t text_bytes)
{
	const struct why why = { text, text_bytes };
	char path[PATH_MAX];
	bool again = true;
	int code = find(name, path, &why);

	for (int i = 0; i < MOST_SCRIPTS && again && !code; i++)
		code = check_file(path, &again, &why);
	if (code && strcmp(path, name) != 0 && strchr(name, '/')) {
		char inner[512];

		snprintf(inner, sizeof(inner), "%s", text);
		because(&why, code, "is a script of %s, which %s", path, inner);
	}
	return code;
}

/* ---- The preload library --------------------------------------------------------------------- */

/* The absolute path of an existing file, in `path`. */
static bool exists(const char *candidate, char *path, size_t path_bytes)
{
	char *real = realpath(candidate, NULL);
	bool good = real && strlen(real) < path_bytes && access(real, R_OK) == 0;

	if (good)
		strcpy(path, real);
	free(real);
	return good;
}

static bool find_beside_us(char *path, size_t path_bytes)
{
	char self[PATH_MAX / 2], candidate[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (length <= 0)
		return false;
	self[length] = 0;
	slash = strrchr(self, '/');
	if (!slash)
		return false;
	*slash = 0;
	snprintf(candidate, sizeof(candidate), "%s/" PRELOAD_NAME, self);
	if (exists(candidate, path, path_bytes) ||
	    exists(BERTH_LIBDIR "/" PRELOAD_NAME, path, path_bytes))
		return true;
	snprintf(candidate, sizeof(candidate), "%s/../lib/berth/" PRELOAD_NAME, self);
	return exists(candidate, path, path_bytes);
}

bool berth__preload_find(char *path, size_t path_bytes, char *text, size_t text_bytes)
{
	const struct why why = { text, text_bytes };
	const char *chosen = getenv("BERTH_PRELOAD");

	if (chosen && *chosen) {
		if (!exists(chosen, path, path_bytes)) {
			because(&why, 0,
				"BERTH_PRELOAD names '%s', which can't be read; correct or unset it",
				chosen);
			return false;
		}
	} else if (!find_beside_us(path, path_bytes)) {
		because(&why, 0,
			"there is no " PRELOAD_NAME " beside this command nor in " BERTH_LIBDIR
			"; build it (make), install it, or name it in BERTH_PRELOAD");
		return false;
	}
	if (strpbrk(path, " :\t\n")) {
		because(&why, 0,
			"the path '%s' has a space or colon, which LD_PRELOAD can't hold; put a copy "
			"elsewhere and name it in BERTH_PRELOAD",
			path);
		return false;
	}
	return true;
}

bool berth__sqlite_find(const char *preload, char *path, char *text, size_t text_bytes)
{
	const struct why why = { text, text_bytes };
	const char *slash = strrchr(preload, '/');
	char candidate[PATH_MAX + sizeof(SQLITE_NAME)];

	snprintf(candidate, sizeof(candidate), "%.*s/" SQLITE_NAME,
		 slash ? (int)(slash - preload) : 1, slash ? preload : ".");
	if (exists(candidate, path, PATH_MAX))
		return true;
	because(&why, 0,
		"there is no " SQLITE_NAME " beside %s; it is built where SQLite's headers are "
		"(libsqlite3-dev)",
		preload);
	return false;
}
