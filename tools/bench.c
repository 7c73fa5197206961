/* SPDX-License-Identifier: MIT */
/*
 * `berth bench`: finds the benchmark that is meant.
 */
#include <string.h>

#include "tools/options.h"

static const char help[] =
	"usage: berth bench claim|camera|choose|pages|scale|frag|compact|store|sqlite [OPTIONS]\n"
	"\n"
	"  claim   how long it takes to get a contiguous buffer out of an area that is empty, full of\n"
	"          movable memory, beside the cost of memcpy, held by pins, or full of what can be dropped\n"
	"  camera  how long photos take beside a load that uses the camera's memory, in several ways\n"
	"  choose  whether claims take the cheapest range, compared with all ranges there are, and how long\n"
	"          they look for it in areas up to 1 TiB\n"
	"  pages   how long it takes to allocate and free blocks of pages, beside an array used as a\n"
	"          stack, jemalloc and mimalloc\n"
	"  scale   what initialising, claims, searches and compaction cost in zones of 1 GiB to 1 TiB\n"
	"  frag    how many blocks of 2 MiB stay free while single pages come and go\n"
	"  compact how many blocks of 2 MiB compaction makes of scattered free pages, and at what cost\n"
	"  store   what a get and a put of the discardable store cost beside memcpy, and its hit rates;\n"
	"          --verify checks every byte under load\n"
	"  sqlite  what random rows and scans cost SQLite with its pages in lent memory, beside as much\n"
	"          memory of its own, and beside its default cache\n"
	"\n"
	"`berth bench claim --help` and so on list the options. With --json each prints one JSON object\n"
	"on a line. They need nothing but memory, /proc and /sys; camera and sqlite need room for files, too.\n"
	"\n"
	"examples:\n"
	"  berth bench claim --size 64M --fill movable --run-size 64K --writers 1\n"
	"  berth bench pages\n"
	"  berth bench pages --order 0 --pattern bulk --threads 1\n"
	"\n"
	"exit codes: 0 done, 1 a check failed or there is no memory, 2 a mistake in the command line,\n"
	"130 interrupted.\n";

int berth__bench(int argc, char **argv)
{
	if (argc < 2)
		return berth__complain(
			BERTH__EXIT_USAGE, "berth bench",
			"say what to measure: claim, camera, choose, pages, scale, frag, compact, store or sqlite; `berth bench --help` "
			"has examples");
	if (strcmp(argv[1], "claim") == 0)
		return berth__bench_claim(argc - 1, argv + 1);
	if (strcmp(argv[1], "camera") == 0)
		return berth__bench_camera(argc - 1, argv + 1);
	if (strcmp(argv[1], "choose") == 0)
		return berth__bench_choose(argc - 1, argv + 1);
	if (strcmp(argv[1], "pages") == 0)
		return berth__bench_pages(argc - 1, argv + 1);
	if (strcmp(argv[1], "scale") == 0)
		return berth__bench_scale(argc - 1, argv + 1);
	if (strcmp(argv[1], "frag") == 0)
		return berth__bench_frag(argc - 1, argv + 1);
	if (strcmp(argv[1], "compact") == 0)
		return berth__bench_compact(argc - 1, argv + 1);
	if (strcmp(argv[1], "store") == 0)
		return berth__bench_store(argc - 1, argv + 1);
	if (strcmp(argv[1], "sqlite") == 0)
		return berth__bench_sqlite(argc - 1, argv + 1);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		fputs(help, stdout);
		return 0;
	}
	return berth__complain(
		BERTH__EXIT_USAGE, "berth bench",
		"there is no benchmark '%s'; choose claim, camera, choose, pages, scale, frag, compact, store or sqlite",
		argv[1]);
}
