/* SPDX-License-Identifier: MIT */
/*
 * Allocators of others beside Berth in `berth bench pages`: the shared libraries of Debian, loaded
 * so that nothing but the benchmark calls them. They give blocks aligned to their size, as the
 * core does.
 */
#define _GNU_SOURCE
#include "tools/bench_pages.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/options.h"

struct source {
	const char *library, *package;
	const char *aligned_alloc, *free;
};

static const struct source sources[BERTH__NR_ROWS] = {
	[BERTH__ROW_JEMALLOC] = { "libjemalloc.so.2", "libjemalloc2", "aligned_alloc", "free" },
	[BERTH__ROW_MIMALLOC] = { "libmimalloc.so.2.0", "libmimalloc2.0", "mi_aligned_alloc",
				  "mi_free" },
};

/*
 * jemalloc wants thread storage that is there from the start of the program (static TLS), more than
 * glibc keeps for libraries that come later. It keeps as much as this says, but reads it when a
 * program starts: so we start again. Returns when that is of no use.
 */
#define TUNABLE "glibc.rtld.optional_static_tls"

static void start_again(char **argv)
{
	const char *tunables = getenv("GLIBC_TUNABLES");
	char *words[64] = { (char *)"berth", (char *)"bench", (char *)"pages" }, text[1024];
	int nr = 3;

	if (tunables && strstr(tunables, TUNABLE))
		return;
	for (char **word = argv + 1; *word; word++) {
		if (nr == 63)
			return;
		words[nr++] = *word;
	}
	if (snprintf(text, sizeof(text), "%s%s" TUNABLE "=8192", tunables ? tunables : "",
		     tunables ? ":" : "") < (int)sizeof(text) &&
	    setenv("GLIBC_TUNABLES", text, 1) == 0)
		execv("/proc/self/exe", words);
}

static uint64_t jemalloc_metadata(const struct berth__peer *peer)
{
	uint64_t epoch = 1;
	size_t bytes = 0, size = sizeof(bytes);

	/* The epoch makes it count anew. */
	if (peer->mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch)) != 0 ||
	    peer->mallctl("stats.metadata", &bytes, &size, NULL, 0) != 0)
		return 0;
	return bytes;
}

static void know_jemalloc(struct berth__peer *peer)
{
	const char *version = "";
	size_t size = sizeof(version);

	*(void **)&peer->mallctl = dlsym(peer->library, "mallctl");
	if (!peer->mallctl)
		return;
	peer->metadata_bytes = jemalloc_metadata;
	if (peer->mallctl("version", &version, &size, NULL, 0) == 0)
		snprintf(peer->label, sizeof(peer->label), "jemalloc %.*s",
			 (int)strcspn(version, "-"), version);
}

static void know_mimalloc(struct berth__peer *peer)
{
	int (*version)(void);
	int number;

	*(void **)&version = dlsym(peer->library, "mi_version");
	if (!version)
		return;
	number = version();
	snprintf(peer->label, sizeof(peer->label), "mimalloc %d.%d.%d", number / 100,
		 number / 10 % 10, number % 10);
}

#ifdef BERTH_STATIC_TOOL
static const char *load(struct berth__peer *peer, const struct source *source, char **argv)
{
	(void)peer;
	(void)source;
	(void)argv;
	(void)start_again;
	return "a static executable loads no libraries";
}
#else
/* NULL, or why it can't be loaded. */
static const char *load(struct berth__peer *peer, const struct source *source, char **argv)
{
	peer->library = dlopen(source->library, RTLD_LOCAL | RTLD_NOW);
	if (!peer->library) {
		const char *why = dlerror();

		start_again(argv);
		return why ? why : "no reason is given";
	}
	*(void **)&peer->aligned_alloc = dlsym(peer->library, source->aligned_alloc);
	*(void **)&peer->free = dlsym(peer->library, source->free);
	if (peer->aligned_alloc && peer->free)
		return NULL;
	dlclose(peer->library);
	peer->library = NULL;
	return "it lacks a function";
}
#endif

bool berth__peer_open(struct berth__peer *peer, enum berth__pages_row row, char **argv)
{
	const struct source *source = &sources[row];
	const char *why;

	*peer = (struct berth__peer){ .library = NULL };
	snprintf(peer->label, sizeof(peer->label), "%s", berth__row_names[row]);
	why = load(peer, source, argv);
	if (why) {
		berth__complain(0, BERTH__PAGES_COMMAND,
				"%s is left out: %s (Debian: apt-get install %s)",
				berth__row_names[row], why, source->package);
		return false;
	}
	(row == BERTH__ROW_JEMALLOC ? know_jemalloc : know_mimalloc)(peer);
	return true;
}
