/* SPDX-License-Identifier: MIT */
/* Fuzz target: configurations. What is accepted keeps its promises; a mistake is inside of the text. */
#include <berth/contig.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void expect(int truth, const char *what)
{
	if (truth)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static const struct berth_config_area *find(const struct berth_config *config, const char *name)
{
	for (unsigned i = 0; i < config->nr_areas; i++)
		if (strcmp(config->areas[i].name, name) == 0)
			return &config->areas[i];
	return NULL;
}

static void look_at(const struct berth_config *config)
{
	expect(config->nr_areas <= BERTH_CONFIG_AREAS, "areas");
	expect(config->nr_devices <= BERTH_CONFIG_DEVICES, "devices");
	for (unsigned i = 0; i < config->nr_areas; i++) {
		const struct berth_config_area *area = &config->areas[i];

		expect(*area->name && strlen(area->name) < sizeof(area->name), "a name");
		expect(find(config, area->name) == area, "a name twice");
		expect(strlen(area->policy) < sizeof(area->policy), "a policy");
		expect(area->bytes > 0, "a size");
		expect(!area->end || area->end - area->start >= area->bytes, "a place");
		expect(area->lend <= BERTH_LEND_OFF, "lending");
	}
	for (unsigned i = 0; i < config->nr_devices && !config->pernuma_bytes; i++)
		expect(find(config, config->devices[i].area) != NULL, "a device's area");
	expect(config->pernuma_bytes || !*config->default_area ||
		       find(config, config->default_area),
	       "the default area");
}

static void place(struct berth_config *config)
{
	const uint64_t base = 1 << 21, limit = 1ull << 40, grain = 1 << 21;

	if (berth_config_place(config, base, limit, grain, 2, NULL) != 0)
		return;
	look_at(config);
	for (unsigned i = 0; i < config->nr_areas; i++) {
		const struct berth_config_area *a = &config->areas[i];

		expect(a->start >= base && a->end <= limit && a->end - a->start == a->bytes,
		       "placed outside");
		expect(!((a->start | a->end) & (grain - 1)), "placed out of step");
		for (unsigned j = 0; j < i; j++)
			expect(a->end <= config->areas[j].start || config->areas[j].end <= a->start,
			       "placed on another");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct berth_config config = { .nr_areas = 0 };
	struct berth_config_error error = { 0, NULL };
	char *text = malloc(bytes + 1);
	int ret;

	if (!text)
		return 0;
	memcpy(text, data, bytes);
	text[bytes] = 0;
	ret = berth_config_parse(text, &config, &error);
	if (ret) {
		expect(ret == -22 || ret == -28, "an error");
		expect(error.position <= strlen(text) && error.expected, "where it is");
	} else {
		look_at(&config);
		place(&config);
	}
	free(text);
	return 0;
}
