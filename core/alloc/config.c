/* SPDX-License-Identifier: MIT */
/*
 * Configurations: reading them (the grammar stands in <berth/contig.h>), and placing their areas.
 *
 * I1  What is read goes into a copy; the caller's structure changes only when all of it was right.
 * I2  A reader's position never passes the text's end: each step looks at a byte that isn't zero first.
 *
 * Complexity: O(bytes of the text + names^2); placing O(areas^2).
 */
#include <berth/contig.h>

struct reader {
	const char *text;
	size_t at;
	struct berth_config *config;
	const char *expected; /* not NULL: it was wrong, at `at` */
	int error;
	unsigned first_area, first_device; /* those before were there already */
	/* Where the names are that must be areas in the end. */
	size_t device_at[BERTH_CONFIG_DEVICES], default_at;
};

static bool same_text(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

static bool wrong(struct reader *reader, const char *expected)
{
	reader->expected = expected;
	reader->error = -BERTH_EINVAL;
	return false;
}

static bool wrong_at(struct reader *reader, size_t at, const char *expected)
{
	reader->at = at;
	return wrong(reader, expected);
}

static bool too_many(struct reader *reader, size_t at, const char *expected)
{
	wrong_at(reader, at, expected);
	reader->error = -BERTH_ENOSPC;
	return false;
}

static char here(const struct reader *reader)
{
	return reader->text[reader->at];
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Takes the character if it comes next. */
static bool take(struct reader *reader, char c)
{
	bool is = here(reader) == c;

	reader->at += is;
	return is;
}

/* Takes the word if it comes next. */
static bool take_word(struct reader *reader, const char *word)
{
	size_t i = 0;

	while (word[i] && reader->text[reader->at + i] == word[i])
		i++;
	if (word[i])
		return false;
	reader->at += i;
	return true;
}

/* ---- Numbers and names ------------------------------------------------------------------------ */

static unsigned digit(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a') + 10;
	return c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10 : 99;
}

static bool take_number(struct reader *reader, const char *expected, uint64_t *value)
{
	size_t began = reader->at;
	unsigned base = take_word(reader, "0x") || take_word(reader, "0X") ? 16 : 10;

	*value = 0;
	if (digit(here(reader)) >= base)
		return wrong_at(reader, began, expected);
	for (; digit(here(reader)) < base; reader->at++) {
		unsigned next = digit(here(reader));

		if (*value > (UINT64_MAX - next) / base)
			return wrong_at(reader, began, "a number below 2^64");
		*value = *value * base + next;
	}
	return true;
}

static bool take_size(struct reader *reader, uint64_t *value)
{
	static const char units[] = "KMGT";
	size_t began = reader->at;

	if (!take_number(reader, "a size, as in 64M", value))
		return false;
	for (unsigned i = 0; units[i]; i++) {
		char small = (char)(units[i] + ('a' - 'A'));
		unsigned shift = 10 * (i + 1);

		if (here(reader) != units[i] && here(reader) != small)
			continue;
		reader->at++;
		if (*value > UINT64_MAX >> shift)
			return wrong_at(reader, began, "a number below 2^64");
		*value <<= shift;
		break;
	}
	return true;
}

static bool take_node(struct reader *reader, int *node)
{
	size_t began = reader->at;
	uint64_t value;

	if (!take_number(reader, "the number of a node", &value))
		return false;
	if (value > 1023)
		return wrong_at(reader, began, "the number of a node, at most 1023");
	*node = (int)value;
	return true;
}

static bool is_in_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-' || c == '.' || c == '+';
}

static bool take_name(struct reader *reader, char *name, size_t room, const char *expected)
{
	size_t began = reader->at, length = 0;

	for (; is_in_name(here(reader)); reader->at++) {
		if (length + 1 == room)
			return wrong_at(reader, began, "a name of at most 31 characters");
		name[length++] = here(reader);
	}
	name[length] = 0;
	return length || wrong(reader, expected);
}

/* ---- Areas ------------------------------------------------------------------------------------ */

static struct berth_config_area *find_area(struct berth_config *config, const char *name)
{
	for (unsigned i = 0; i < config->nr_areas; i++)
		if (same_text(config->areas[i].name, name))
			return &config->areas[i];
	return NULL;
}

/* A new area of this name, which is in the text at `at`. NULL: can't be. */
static struct berth_config_area *new_area(struct reader *reader, const char *name, size_t at)
{
	struct berth_config *config = reader->config;
	struct berth_config_area *area;
	size_t length = 0;

	if (find_area(config, name)) {
		wrong_at(reader, at, "a name that no other area has");
		return NULL;
	}
	if (config->nr_areas == BERTH_CONFIG_AREAS) {
		too_many(reader, at, "no more than 16 areas");
		return NULL;
	}
	area = &config->areas[config->nr_areas++];
	*area = (struct berth_config_area){ .node = BERTH_NODE_ANY };
	for (; name[length]; length++)
		area->name[length] = name[length];
	return area;
}

/* SIZE above 0. */
static bool take_area_size(struct reader *reader, uint64_t *bytes)
{
	size_t began = reader->at;

	return take_size(reader, bytes) && (*bytes || wrong_at(reader, began, "a size above 0"));
}

/* [@START[-END]] */
static bool take_place(struct reader *reader, struct berth_config_area *area)
{
	size_t began = reader->at + 1;

	if (!take(reader, '@'))
		return true;
	if (!take_size(reader, &area->start))
		return false;
	if (area->start > UINT64_MAX - area->bytes)
		return wrong_at(reader, began, "a start from which the area ends below 2^64");
	area->end = area->start + area->bytes;
	began = reader->at + 1;
	if (!take(reader, '-'))
		return true;
	if (!take_size(reader, &area->end))
		return false;
	return (area->end >= area->start && area->end - area->start >= area->bytes) ||
	       wrong_at(reader, began, "an end with room for the area behind its start");
}

static bool take_power(struct reader *reader, uint64_t *bytes)
{
	size_t began = reader->at;

	return take_size(reader, bytes) &&
	       ((*bytes >= BERTH_PAGE_SIZE && !(*bytes & (*bytes - 1))) ||
		wrong_at(reader, began, "a power of two, at least a page (4K)"));
}

/* One of several words; *which: its place among them. */
static bool take_choice(struct reader *reader, const char *const *words, unsigned nr,
			const char *expected, unsigned *which)
{
	size_t began = reader->at;
	char name[BERTH_AREA_NAME_BYTES];

	if (!take_name(reader, name, sizeof(name), expected))
		return false;
	for (*which = 0; *which < nr; ++*which)
		if (same_text(words[*which], name))
			return true;
	return wrong_at(reader, began, expected);
}

static bool take_policy(struct reader *reader, struct berth_config_area *area)
{
	static const char *const names[] = { "cma", "first-fit", "reserve", "gcma" };
	unsigned which, i = 0;

	if (!take_choice(reader, names, 4, "cma, first-fit, reserve or gcma", &which))
		return false;
	for (; names[which][i]; i++)
		area->policy[i] = names[which][i];
	area->policy[i] = 0;
	return true;
}

static bool take_lend(struct reader *reader, struct berth_config_area *area)
{
	static const char *const names[] = { "first", "balanced", "last", "off" };
	unsigned which;

	if (!take_choice(reader, names, 4, "first, balanced, last or off", &which))
		return false;
	area->lend = (enum berth_lend_policy)which;
	return true;
}

static bool take_option(struct reader *reader, struct berth_config_area *area)
{
	if (take_word(reader, "policy="))
		return take_policy(reader, area);
	if (take_word(reader, "lend="))
		return take_lend(reader, area);
	if (take_word(reader, "keep="))
		return take_size(reader, &area->keep);
	if (take_word(reader, "align="))
		return take_power(reader, &area->align);
	if (take_word(reader, "unit="))
		return take_power(reader, &area->unit);
	if (take_word(reader, "node="))
		return take_node(reader, &area->node);
	return wrong(reader, "policy=, lend=, keep=, align=, unit= or node=");
}

static bool take_area(struct reader *reader)
{
	char name[BERTH_AREA_NAME_BYTES];
	struct berth_config_area *area;
	size_t began = reader->at;

	if (!take_name(reader, name, sizeof(name), "the name of an area"))
		return false;
	if (!take(reader, ':'))
		return wrong(reader, "':' and a size");
	area = new_area(reader, name, began);
	if (!area || !take_area_size(reader, &area->bytes) || !take_place(reader, area))
		return false;
	while (take(reader, ','))
		if (!take_option(reader, area))
			return false;
	return true;
}

static bool take_areas(struct reader *reader)
{
	do
		if (!take_area(reader))
			return false;
	while (take(reader, ';'));
	return true;
}

/* ---- As Linux writes them --------------------------------------------------------------------- */

static void forget_area(struct berth_config *config, const char *name)
{
	struct berth_config_area *area = find_area(config, name);

	if (!area)
		return;
	for (; area + 1 < config->areas + config->nr_areas; area++)
		*area = area[1];
	config->nr_areas--;
}

static void copy_name(char *to, const char *from)
{
	while ((*to++ = *from++))
		;
}

/* The last of several counts, as on a kernel's command line. */
static bool take_cma(struct reader *reader)
{
	size_t began = reader->at;
	struct berth_config_area *area;
	uint64_t bytes;

	if (!take_size(reader, &bytes))
		return false;
	area = find_area(reader->config, "default");
	if (area && area < reader->config->areas + reader->first_area)
		return wrong_at(reader, began, "no cma=, for there is an area \"default\"");
	forget_area(reader->config, "default");
	reader->config->default_area[0] = 0;
	if (!bytes)
		return true;
	area = new_area(reader, "default", began);
	if (!area)
		return false;
	area->bytes = bytes;
	copy_name(reader->config->default_area, area->name);
	reader->default_at = began;
	return take_place(reader, area);
}

static void name_with_number(char *name, const char *stem, unsigned number)
{
	char digits[8];
	unsigned nr = 0;

	while (*stem)
		*name++ = *stem++;
	do
		digits[nr++] = (char)('0' + number % 10);
	while ((number /= 10) != 0);
	while (nr)
		*name++ = digits[--nr];
	*name = 0;
}

static bool take_numa(struct reader *reader)
{
	do {
		char name[BERTH_AREA_NAME_BYTES];
		struct berth_config_area *area;
		size_t began = reader->at;
		int node;

		if (!take_node(reader, &node))
			return false;
		if (!take(reader, ':'))
			return wrong(reader, "':' and a size");
		name_with_number(name, "numa", (unsigned)node);
		area = new_area(reader, name, began);
		if (!area || !take_area_size(reader, &area->bytes))
			return false;
		area->node = node;
	} while (take(reader, ','));
	return true;
}

/* ---- Devices ---------------------------------------------------------------------------------- */

/* One that was there before; the one behind the last moves as well. */
static void forget_device(struct reader *reader, unsigned i)
{
	struct berth_config *config = reader->config;

	for (; i + 1 < config->nr_devices; i++) {
		config->devices[i] = config->devices[i + 1];
		reader->device_at[i] = reader->device_at[i + 1];
	}
	config->nr_devices--;
	reader->first_device--;
}

static bool is_in_device(char c)
{
	return is_in_name(c) || c == ':' || c == '/' || c == '*';
}

/* DEVICE:NAME, where DEVICE may have colons of its own. */
static bool take_device(struct reader *reader)
{
	struct berth_config *config = reader->config;
	struct berth_config_device *device = &config->devices[config->nr_devices];
	size_t began = reader->at, end = began, colon = 0, length;

	if (config->nr_devices == BERTH_CONFIG_DEVICES)
		return too_many(reader, began, "no more than 64 devices");
	for (; is_in_device(reader->text[end]); end++)
		if (reader->text[end] == ':')
			colon = end;
	if (!colon)
		return wrong_at(reader, end,
				end == began ? "the name of a device" : "':' and an area's name");
	length = colon - began;
	if (!length || length >= BERTH_DEVICE_NAME_BYTES)
		return wrong_at(reader, began, "a device's name of 1 to 31 characters");
	for (size_t i = 0; i < length; i++) {
		device->device[i] = reader->text[began + i];
		if (device->device[i] == '*' && i + 1 < length)
			return wrong_at(reader, began + i, "a '*' at the end of the name only");
	}
	device->device[length] = 0;
	for (unsigned i = 0; i < config->nr_devices; i++) {
		if (!same_text(config->devices[i].device, device->device))
			continue;
		if (i >= reader->first_device)
			return wrong_at(reader, began, "a device that has no area yet");
		forget_device(reader, i--);
		device--;
		copy_name(device->device, device[1].device);
	}
	reader->at = colon + 1;
	reader->device_at[config->nr_devices] = reader->at;
	if (!take_name(reader, device->area, sizeof(device->area), "the name of an area"))
		return false;
	config->nr_devices++;
	return true;
}

static bool take_devices(struct reader *reader)
{
	do
		if (!take_device(reader))
			return false;
	while (take(reader, ','));
	return true;
}

/* ---- All of it -------------------------------------------------------------------------------- */

static bool take_item(struct reader *reader)
{
	struct berth_config *config = reader->config;

	if (take_word(reader, "areas="))
		return take_areas(reader);
	if (take_word(reader, "devices="))
		return take_devices(reader);
	if (take_word(reader, "default=")) {
		reader->default_at = reader->at;
		return take_name(reader, config->default_area, sizeof(config->default_area),
				 "the name of an area");
	}
	if (take_word(reader, "cma="))
		return take_cma(reader);
	if (take_word(reader, "numa_cma="))
		return take_numa(reader);
	if (take_word(reader, "cma_pernuma="))
		return take_size(reader, &config->pernuma_bytes);
	return wrong(reader, "areas=, devices=, default=, cma=, numa_cma= or cma_pernuma=");
}

/* "pernuma" and a number, and there will be such areas. */
static bool is_pernuma(const struct berth_config *config, const char *name)
{
	const char *stem = "pernuma";

	while (*stem && *stem == *name) {
		stem++;
		name++;
	}
	if (*stem || !*name || !config->pernuma_bytes)
		return false;
	while (digit(*name) < 10)
		name++;
	return !*name;
}

/* Every area that somebody means is there. */
static bool names_are_known(struct reader *reader)
{
	struct berth_config *config = reader->config;

	for (unsigned i = reader->first_device; i < config->nr_devices; i++)
		if (!find_area(config, config->devices[i].area) &&
		    !is_pernuma(config, config->devices[i].area))
			return wrong_at(reader, reader->device_at[i],
					"the name of an area that is declared");
	if (config->default_area[0] && !find_area(config, config->default_area) &&
	    !is_pernuma(config, config->default_area))
		return wrong_at(reader, reader->default_at, "the name of an area that is declared");
	return true;
}

static bool take_all(struct reader *reader)
{
	for (;;) {
		while (is_space(here(reader)))
			reader->at++;
		if (!here(reader))
			return names_are_known(reader);
		if (!take_item(reader))
			return false;
		if (here(reader) && !is_space(here(reader)))
			return wrong(reader, "a space, or the end");
	}
}

/* In addition to what `base` says. I1: 6 KiB of the caller's stack. */
static int read_text(const char *text, const struct berth_config *base, struct berth_config *config,
		     struct berth_config_error *error)
{
	struct berth_config read;
	struct reader reader = { .text = text, .config = &read };

	if (base)
		read = *base;
	else
		__builtin_memset(&read, 0, sizeof(read));
	reader.first_area = read.nr_areas;
	reader.first_device = read.nr_devices;
	if (take_all(&reader)) {
		*config = read;
		return 0;
	}
	if (error)
		*error = (struct berth_config_error){ reader.at, reader.expected };
	return reader.error;
}

int berth_config_extend(const char *text, struct berth_config *config,
			struct berth_config_error *error)
{
	return text && config ? read_text(text, config, config, error) : -BERTH_EINVAL;
}

int berth_config_parse(const char *text, struct berth_config *config,
		       struct berth_config_error *error)
{
	return text && config ? read_text(text, NULL, config, error) : -BERTH_EINVAL;
}

/* ---- Placing ---------------------------------------------------------------------------------- */

static int add_pernuma(struct berth_config *config, unsigned nr_nodes)
{
	for (unsigned node = 0; config->pernuma_bytes && node < nr_nodes; node++) {
		struct berth_config_area *area = &config->areas[config->nr_areas];

		if (config->nr_areas == BERTH_CONFIG_AREAS)
			return -BERTH_ENOSPC;
		*area = (struct berth_config_area){ .bytes = config->pernuma_bytes,
						    .node = (int)node };
		name_with_number(area->name, "pernuma", node);
		if (find_area(config, area->name))
			return -BERTH_EINVAL;
		config->nr_areas++;
	}
	config->pernuma_bytes = 0;
	return 0;
}

/* The end of an area that is placed and overlaps [start, end); 0: none does. */
static uint64_t taken_until(const struct berth_config *config, const bool *placed, uint64_t start,
			    uint64_t end)
{
	for (unsigned i = 0; i < config->nr_areas; i++)
		if (placed[i] && config->areas[i].start < end && config->areas[i].end > start)
			return config->areas[i].end;
	return 0;
}

/* The lowest place in [start, end). */
static bool place_one(struct berth_config *config, bool *placed, unsigned i, uint64_t start,
		      uint64_t end, uint64_t grain)
{
	struct berth_config_area *area = &config->areas[i];

	if (start > UINT64_MAX - grain)
		return false;
	start = (start + grain - 1) & ~(grain - 1);
	while (start < end && end - start >= area->bytes) {
		uint64_t until = taken_until(config, placed, start, start + area->bytes);

		if (!until) {
			area->start = start;
			area->end = start + area->bytes;
			placed[i] = true;
			return true;
		}
		start = until;
	}
	return false;
}

/* How free it is to lie somewhere: the least free ones choose first. */
enum freedom { THERE, BETWEEN, ANYWHERE, NR_FREEDOMS };

int berth_config_place(struct berth_config *config, uint64_t base, uint64_t limit, uint64_t grain,
		       unsigned nr_nodes, unsigned *which)
{
	enum freedom freedom[BERTH_CONFIG_AREAS];
	bool placed[BERTH_CONFIG_AREAS] = { false };
	unsigned ignored, *at = which ? which : &ignored;
	int error;

	*at = config->nr_areas;
	error = add_pernuma(config, nr_nodes);
	if (error)
		return error;
	for (*at = 0; *at < config->nr_areas; ++*at) {
		struct berth_config_area *area = &config->areas[*at];
		bool there = area->end == area->start + area->bytes;

		if (area->node >= (int)nr_nodes || area->bytes > limit ||
		    area->bytes > UINT64_MAX - grain || (there && area->start & (grain - 1)))
			return area->bytes > limit ? -BERTH_ENOSPC : -BERTH_EINVAL;
		freedom[*at] = !area->end ? ANYWHERE : there ? THERE : BETWEEN;
		area->bytes = (area->bytes + grain - 1) & ~(grain - 1);
		if (there)
			area->end = area->start + area->bytes;
	}
	for (unsigned round = THERE; round < NR_FREEDOMS; round++) {
		for (*at = 0; *at < config->nr_areas; ++*at) {
			const struct berth_config_area *area = &config->areas[*at];
			uint64_t start = round == ANYWHERE || area->start < base ? base :
										   area->start;
			uint64_t end = round == ANYWHERE || area->end > limit ? limit : area->end;

			if (freedom[*at] == (enum freedom)round &&
			    !place_one(config, placed, *at, start, end, grain))
				return -BERTH_ENOSPC;
		}
	}
	return 0;
}
