/* SPDX-License-Identifier: MIT */
/*
 * Configurations: what is read, where each mistake is and what is said of it, and where areas are placed.
 */
#include <berth/contig.h>

#include "tests/include/testing.h"

#define K ((uint64_t)1 << 10)
#define M ((uint64_t)1 << 20)
#define G ((uint64_t)1 << 30)

static struct berth_config parse(const char *text)
{
	struct berth_config config;
	struct berth_config_error error;
	int ret = berth_config_parse(text, &config, &error);

	if (ret)
		fail_msg("'%s': %d at %zu, expected %s", text, ret, error.position, error.expected);
	return config;
}

static void nothing_is_a_configuration(void **state)
{
	struct berth_config config = parse("");

	(void)state;
	assert_int_equal(config.nr_areas + config.nr_devices, 0);
	assert_string_equal(config.default_area, "");
	config = parse(" \t\n ");
	assert_int_equal(config.nr_areas, 0);
	assert_int_equal(berth_config_parse(NULL, &config, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_config_parse("", NULL, NULL), -BERTH_EINVAL);
}

static void everything_is_read(void **state)
{
	struct berth_config config = parse(
		"areas=camera:64M@256M,policy=first-fit,lend=last,align=1M;dma:16m,lend=off,"
		"unit=64K,node=3,keep=5k;x.y_z+1-2:0x1000@0x10-1T,policy=reserve,lend=balanced\n"
		"\tdevices=camera0:camera,nic*:dma,pci:0000:00/1f.2:x.y_z+1-2,*:dma default=dma ");
	const struct berth_config_area *area = config.areas;

	(void)state;
	assert_int_equal(config.nr_areas, 3);
	assert_string_equal(area->name, "camera");
	assert_string_equal(area->policy, "first-fit");
	assert_int_equal(area->bytes, 64 * M);
	assert_int_equal(area->start, 256 * M);
	assert_int_equal(area->end, 320 * M);
	assert_int_equal(area->align, M);
	assert_int_equal(area->unit, 0);
	assert_int_equal(area->lend, BERTH_LEND_LAST);
	assert_int_equal(area->node, BERTH_NODE_ANY);
	area++;
	assert_string_equal(area->name, "dma");
	assert_string_equal(area->policy, "");
	assert_int_equal(area->bytes, 16 * M);
	assert_int_equal(area->end, 0);
	assert_int_equal(area->lend, BERTH_LEND_OFF);
	assert_int_equal(area->unit, 64 * K);
	assert_int_equal(area->keep, 5 * K);
	assert_int_equal(area->node, 3);
	area++;
	assert_string_equal(area->name, "x.y_z+1-2");
	assert_string_equal(area->policy, "reserve");
	assert_int_equal(area->bytes, 4096);
	assert_int_equal(area->start, 16);
	assert_int_equal(area->end, 1024 * G);
	assert_int_equal(area->lend, BERTH_LEND_BALANCED);
	assert_int_equal(config.nr_devices, 4);
	assert_string_equal(config.devices[0].device, "camera0");
	assert_string_equal(config.devices[0].area, "camera");
	assert_string_equal(config.devices[1].device, "nic*");
	assert_string_equal(config.devices[2].device, "pci:0000:00/1f.2");
	assert_string_equal(config.devices[2].area, "x.y_z+1-2");
	assert_string_equal(config.devices[3].device, "*");
	assert_string_equal(config.default_area, "dma");
}

static void linux_is_understood(void **state)
{
	struct berth_config config = parse("cma=64M");

	(void)state;
	assert_int_equal(config.nr_areas, 1);
	assert_string_equal(config.areas[0].name, "default");
	assert_string_equal(config.default_area, "default");
	assert_int_equal(config.areas[0].bytes, 64 * M);
	assert_int_equal(config.areas[0].end, 0);
	config = parse("cma=64M@0-4G");
	assert_int_equal(config.areas[0].start, 0);
	assert_int_equal(config.areas[0].end, 4 * G);
	config = parse("cma=64M@1G");
	assert_int_equal(config.areas[0].end, G + 64 * M);
	/* The last one counts. */
	config = parse("areas=a:1M cma=64M cma=32M@0");
	assert_int_equal(config.nr_areas, 2);
	assert_int_equal(config.areas[1].bytes, 32 * M);
	config = parse("cma=64M areas=a:1M cma=0");
	assert_int_equal(config.nr_areas, 1);
	assert_string_equal(config.areas[0].name, "a");
	assert_string_equal(config.default_area, "");
	config = parse("cma=64M areas=a:1M default=a");
	assert_string_equal(config.default_area, "a");
	config = parse("numa_cma=0:16M,12:8M cma_pernuma=1M devices=d:pernuma1");
	assert_int_equal(config.nr_areas, 2);
	assert_string_equal(config.areas[0].name, "numa0");
	assert_string_equal(config.areas[1].name, "numa12");
	assert_int_equal(config.areas[1].node, 12);
	assert_int_equal(config.areas[1].bytes, 8 * M);
	assert_int_equal(config.pernuma_bytes, M);
}

static void limits_are_reached(void **state)
{
	struct berth_config config = parse(
		"areas=a23456789012345678901234567890a:0xfffffffffffffff"
		" devices=d23456789012345678901234567890*:a23456789012345"
		"678901234567890a");

	(void)state;
	assert_int_equal(config.areas[0].bytes, UINT64_MAX >> 4);
	config = parse("areas=a:16777215T");
	assert_int_equal(config.areas[0].bytes, 16777215ull << 40);
	config = parse("areas=a:1@18446744073709551614");
	assert_int_equal(config.areas[0].end, UINT64_MAX);
	config = parse("areas=a:1;b:1;c:1;d:1;e:1;f:1;g:1;h:1;i:1;j:1;k:1;l:1;m:1;n:1;o:1;p:1");
	assert_int_equal(config.nr_areas, BERTH_CONFIG_AREAS);
}

static void mistakes_are_found_where_they_are(void **state)
{
	static const struct {
		const char *text;
		size_t position;
		const char *expected; /* is in what is said */
	} mistakes[] = {
		{ "area=a:1M", 0, "areas=" },
		{ " cam", 1, "cma_pernuma=" },
		{ "areas=", 6, "name of an area" },
		{ "areas=:1M", 6, "name of an area" },
		{ "areas=a", 7, "':' and a size" },
		{ "areas=a=1M", 7, "':' and a size" },
		{ "areas=a:", 8, "a size" },
		{ "areas=a:M", 8, "a size" },
		{ "areas=a:-1", 8, "a size" },
		{ "areas=a:0x", 8, "a size" },
		{ "areas=a:0", 8, "above 0" },
		{ "areas=a:0K", 8, "above 0" },
		{ "areas=a:1Q", 9, "a space" },
		{ "areas=a:1MM", 10, "a space" },
		{ "areas=a:18446744073709551616", 8, "below 2^64" },
		{ "areas=a:16777216T", 8, "below 2^64" },
		{ "areas=a:1M@", 11, "a size" },
		{ "areas=a:1M@1M-", 14, "a size" },
		{ "areas=a:2M@1M-2M", 14, "room" },
		{ "areas=a:1M@1M-0", 14, "room" },
		{ "areas=a:2@18446744073709551614", 10, "ends below" },
		{ "areas=a:1M,", 11, "policy=" },
		{ "areas=a:1M,lend", 11, "policy=" },
		{ "areas=a:1M,lend=", 16, "balanced" },
		{ "areas=a:1M,lend=firs", 16, "balanced" },
		{ "areas=a:1M,lend=firstx", 16, "balanced" },
		{ "areas=a:1M,policy=gcm", 18, "reserve or gcma" },
		{ "areas=a:1M,align=3K", 17, "power of two" },
		{ "areas=a:1M,align=2K", 17, "power of two" },
		{ "areas=a:1M,unit=0", 16, "power of two" },
		{ "areas=a:1M,keep=x", 16, "a size" },
		{ "areas=a:1M,node=1024", 16, "at most 1023" },
		{ "areas=a:1M,node=x", 16, "number of a node" },
		{ "areas=a:1M;", 11, "name of an area" },
		{ "areas=a:1M;b:1M;a:2M", 16, "no other area" },
		{ "areas=a:1M areas=a:1M", 17, "no other area" },
		{ "areas=a:1M numa_cma=0:1M,0:1M", 25, "no other area" },
		{ "areas=a23456789012345678901234567890ab:1M", 6, "31" },
		{ "areas=a/b:1M", 7, "':' and a size" },
		{ "areas=a:1M,lend=offdevices=b:a", 16, "balanced" },
		{ "areas=a:1M default=b", 19, "declared" },
		{ "areas=a:1M default=", 19, "name of an area" },
		{ "areas=a:1M devices=b:c", 21, "declared" },
		{ "areas=a:1M devices=b:a,c:d", 25, "declared" },
		{ "areas=a:1M devices=", 19, "name of a device" },
		{ "areas=a:1M devices=b", 20, "':'" },
		{ "areas=a:1M devices=:a", 19, "1 to 31" },
		{ "areas=a:1M devices=b:", 21, "name of an area" },
		{ "areas=a:1M devices=b*c:a", 20, "at the end" },
		{ "areas=a:1M devices=d23456789012345678901234567890ab:a", 19, "1 to 31" },
		{ "areas=a:1M devices=b:a,b:a", 23, "no area yet" },
		{ "areas=a:1M devices=b:a;c:a", 22, "a space" },
		{ "devices=a:pernuma0", 10, "declared" },
		{ "cma_pernuma=1M devices=a:pernuma", 25, "declared" },
		{ "cma_pernuma=1M devices=a:pernuma1x", 25, "declared" },
		{ "cma=", 4, "a size" },
		{ "cma=1M,lend=off", 6, "a space" },
		{ "numa_cma=", 9, "number of a node" },
		{ "numa_cma=0", 10, "':' and a size" },
		{ "numa_cma=0:0", 11, "above 0" },
		{ "cma_pernuma=", 12, "a size" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		struct berth_config config, before;
		struct berth_config_error error = { 12345, NULL };

		memset(&config, 0x5a, sizeof(config));
		before = config;
		if (berth_config_parse(mistakes[i].text, &config, &error) != -BERTH_EINVAL ||
		    error.position != mistakes[i].position ||
		    !strstr(error.expected, mistakes[i].expected))
			fail_msg("'%s': at %zu: %s", mistakes[i].text, error.position,
				 error.expected ? error.expected : "(nothing)");
		assert_memory_equal(&config, &before, sizeof(config));
		assert_int_equal(berth_config_parse(mistakes[i].text, &config, NULL),
				 -BERTH_EINVAL);
	}
}

static void too_many_are_refused(void **state)
{
	struct berth_config config = parse("areas=a:1M");
	struct berth_config_error error;
	char text[1024] = "areas=a:1M devices=";
	size_t at = strlen(text);

	(void)state;
	assert_int_equal(berth_config_parse("areas=a:1;b:1;c:1;d:1;e:1;f:1;g:1;h:1;i:1;j:1;k:1;l:1;"
					    "m:1;n:1;o:1;p:1;q:1",
					    &config, &error),
			 -BERTH_ENOSPC);
	assert_int_equal(error.position, 6 + 16 * 4);
	for (unsigned i = 0; i < BERTH_CONFIG_DEVICES; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%sd%02u:a", i ? "," : "", i);
	assert_int_equal(parse(text).nr_devices, BERTH_CONFIG_DEVICES);
	snprintf(text + at, sizeof(text) - at, ",more:a");
	assert_int_equal(berth_config_parse(text, &config, &error), -BERTH_ENOSPC);
	assert_int_equal(error.position, at + 1);
	assert_int_equal(config.nr_devices, 0);
}

static void a_configuration_grows(void **state)
{
	struct berth_config config = parse("areas=a:2M;b:2M devices=x:a,y:a,z:a default=a"), before;
	struct berth_config_error error;

	(void)state;
	assert_int_equal(berth_config_extend("devices=new:b,x:c,z:b areas=c:2M default=c", &config,
					     NULL),
			 0);
	assert_int_equal(config.nr_areas, 3);
	assert_int_equal(config.nr_devices, 4);
	assert_string_equal(config.devices[0].device, "y");
	assert_string_equal(config.devices[0].area, "a");
	assert_string_equal(config.devices[1].device, "new");
	assert_string_equal(config.devices[1].area, "b");
	assert_string_equal(config.devices[2].device, "x");
	assert_string_equal(config.devices[2].area, "c");
	assert_string_equal(config.devices[3].device, "z");
	assert_string_equal(config.devices[3].area, "b");
	assert_string_equal(config.default_area, "c");
	before = config;
	assert_int_equal(berth_config_extend("areas=a:2M", &config, &error), -BERTH_EINVAL);
	assert_int_equal(error.position, 6);
	assert_int_equal(berth_config_extend("devices=x:a,x:a", &config, &error), -BERTH_EINVAL);
	assert_int_equal(error.position, 12);
	assert_int_equal(berth_config_extend("devices=x:d", &config, &error), -BERTH_EINVAL);
	assert_int_equal(error.position, 10);
	assert_memory_equal(&config, &before, sizeof(config));
	assert_int_equal(berth_config_extend("cma=2M", &config, NULL), 0);
	assert_string_equal(config.default_area, "default");
	assert_int_equal(berth_config_extend("cma=4M", &config, &error), -BERTH_EINVAL);
	assert_int_equal(error.position, 4);
	assert_int_equal(config.nr_areas, 4);
}

/* ---- Placing --------------------------------------------------------------------------------- */

static void areas_are_placed_as_they_say(void **state)
{
	struct berth_config config = parse(
		"areas=a:3M;b:4M@4M;c:2M@0-8M;d:1M;e:2M@6M-64M cma_pernuma=2M");
	static const struct {
		const char *name;
		uint64_t start, bytes;
	} expected[] = {
		{ "a", 10 * M, 4 * M },        { "b", 4 * M, 4 * M }, { "c", 0, 2 * M },
		{ "d", 2 * M, 2 * M },         { "e", 8 * M, 2 * M }, { "pernuma0", 14 * M, 2 * M },
		{ "pernuma1", 16 * M, 2 * M },
	};

	(void)state;
	assert_int_equal(berth_config_place(&config, 0, 64 * M, 2 * M, 2, NULL), 0);
	assert_int_equal(config.nr_areas, 7);
	for (unsigned i = 0; i < 7; i++) {
		assert_string_equal(config.areas[i].name, expected[i].name);
		if (config.areas[i].start != expected[i].start ||
		    config.areas[i].bytes != expected[i].bytes ||
		    config.areas[i].end != expected[i].start + expected[i].bytes)
			fail_msg("area %s at %llu with %llu", config.areas[i].name,
				 (unsigned long long)config.areas[i].start,
				 (unsigned long long)config.areas[i].bytes);
	}
	assert_int_equal(config.areas[6].node, 1);
	assert_int_equal(config.pernuma_bytes, 0);
}

static void place_fails(const char *text, int error, unsigned expected_which)
{
	struct berth_config config = parse(text);
	unsigned which = 99;

	if (berth_config_place(&config, 2 * M, 16 * M, 2 * M, 1, &which) != error ||
	    which != expected_which)
		fail_msg("'%s': area %u", text, which);
	config = parse(text);
	assert_int_equal(berth_config_place(&config, 2 * M, 16 * M, 2 * M, 1, NULL), error);
}

static void what_cannot_be_placed_is_named(void **state)
{
	(void)state;
	place_fails("areas=a:14M", 0, 1);
	place_fails("areas=a:14M;b:1", -BERTH_ENOSPC, 1);
	place_fails("areas=a:16M", -BERTH_ENOSPC, 0);
	place_fails("areas=a:0xffffffffffffffff", -BERTH_ENOSPC, 0);
	place_fails("areas=a:2M@0", -BERTH_ENOSPC, 0);
	place_fails("areas=a:2M@3M", -BERTH_EINVAL, 0);
	place_fails("areas=x:2M;a:2M@16M", -BERTH_ENOSPC, 1);
	place_fails("areas=a:4M@4M;b:2M@6M", -BERTH_ENOSPC, 1);
	place_fails("areas=a:2M;b:2M@4M-6M;c:2M@4M-7M", -BERTH_ENOSPC, 2);
	place_fails("areas=a:3M@4M-8M", 0, 1);
	place_fails("areas=a:3M@5M-9M", -BERTH_ENOSPC, 0);
	place_fails("areas=a:2M,node=1", -BERTH_EINVAL, 0);
	place_fails("numa_cma=0:2M", 0, 1);
	place_fails("areas=pernuma0:2M cma_pernuma=2M", -BERTH_EINVAL, 1);
	place_fails("areas=a:1;b:1;c:1;d:1;e:1;f:1;g:1;h:1;i:1;j:1;k:1;l:1;m:1;n:1;o:1;p:1 "
		    "cma_pernuma=1",
		    -BERTH_ENOSPC, 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_a_configuration),
		cmocka_unit_test(everything_is_read),
		cmocka_unit_test(linux_is_understood),
		cmocka_unit_test(limits_are_reached),
		cmocka_unit_test(mistakes_are_found_where_they_are),
		cmocka_unit_test(too_many_are_refused),
		cmocka_unit_test(a_configuration_grows),
		cmocka_unit_test(areas_are_placed_as_they_say),
		cmocka_unit_test(what_cannot_be_placed_is_named),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
