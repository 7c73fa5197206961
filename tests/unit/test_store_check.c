/* SPDX-License-Identifier: MIT */
/*
 * berth_store_check() against metadata that is broken on purpose: each invariant by its number, in each of its
 * parts; nothing is written, and nothing is read outside the metadata.
 */
#include "teststore.h"

#include "store/internal.h"

/* A store with a bit of everything, and where it is. */
struct scene {
	struct test_store *ts;
	struct berth_store *store;
	struct berth_shard *shard;      /* not the first one; both queues are filled */
	berth_entry_t young, old;       /* the small queue's head, the main queue's tail */
	berth_entry_t middle;           /* of the small queue: neither its head nor its tail */
	berth_entry_t spare;            /* a free entry */
	uint32_t granule, next_granule; /* two with free entries, one behind the other in a list */
	struct berth_bucket *bucket;    /* names `young`, at `way` */
	unsigned way, other_way;        /* the other one: of another entry, or BERTH_WAY_NONE */
	berth_pfn_t claim;
};

static unsigned way_of(const struct berth_bucket *bucket, berth_entry_t nr)
{
	unsigned way = 0;

	while (way < BERTH_BUCKET_WAYS &&
	       (atomic_load(&bucket->entries[way]) != nr || !berth__bucket_tag(bucket, way)))
		way++;
	return way;
}

/* The newest entry whose bucket names another one, too. */
static void choose_young(struct scene *s)
{
	berth_entry_t nr = s->shard->small.head;

	for (s->other_way = BERTH_WAY_NONE; nr != BERTH_ENTRY_NONE; nr = s->store->links[nr].next) {
		s->bucket = &s->store->buckets[s->store->links[nr].bucket];
		s->way = way_of(s->bucket, nr);
		s->young = nr;
		for (unsigned way = 0; way < BERTH_BUCKET_WAYS; way++)
			if (way != s->way && berth__bucket_tag(s->bucket, way))
				s->other_way = way;
		if (s->other_way != BERTH_WAY_NONE)
			return;
	}
	fail_msg("no bucket names two");
}

static void choose_granules(struct scene *s)
{
	const struct berth_shard *shard = s->store->shards;

	while (shard->free_granules == BERTH_ENTRY_NONE ||
	       s->store->granules[shard->free_granules].next == BERTH_ENTRY_NONE)
		assert_true(++shard <= s->store->shards + s->store->shard_mask);
	s->granule = shard->free_granules;
	s->next_granule = s->store->granules[s->granule].next;
	s->spare = s->store->granules[s->granule].free;
}

static void scene_open(struct scene *s)
{
	memset(s, 0, sizeof(*s));
	s->ts = test_store_open(&(struct test_store_params){ .nr_pages = 256,
							     .granule_order = 2,
							     .nr_areas = 2,
							     .nr_shards = 4 });
	s->store = s->ts->store;
	assert_int_equal(test_store_claim(s->ts, 1, 64, &s->claim), 0);
	for (uint64_t i = 0; i < 3000; i++) {
		assert_int_equal(test_put(s->ts, 1, i % 600, i), 0);
		if (i % 3 == 0) {
			(void)test_get(s->ts, 1, i % 100);
			(void)test_get(s->ts, 1, i % 100);
		}
	}
	for (uint64_t i = 0; i < 600; i += 3)
		(void)test_drop(s->ts, 1, i);
	for (s->shard = s->store->shards + 1; s->shard->small.nr < 8 || !s->shard->main.nr;
	     s->shard++)
		assert_true(s->shard < s->store->shards + s->store->shard_mask);
	choose_young(s);
	choose_granules(s);
	s->middle = s->store->links[s->store->links[s->shard->small.head].next].next;
	s->old = s->shard->main.tail;
	store_ok(s->ts);
}

static void scene_close(struct scene *s)
{
	test_store_release(s->ts, 1, s->claim, 64);
	test_store_close(s->ts);
}

/* Found by its number, with a value that isn't the expected one, by a check that changes nothing; then the store is
 * whole again. */
static void expect_broken(struct scene *s, const char *number, const char *what)
{
	struct berth_violation v = { 0 };
	void *before = malloc(s->ts->metadata_bytes);

	assert_non_null(before);
	memcpy(before, s->ts->metadata, s->ts->metadata_bytes);
	if (berth_store_check(s->store, &v))
		fail_msg("%s: not found", what);
	if (strncmp(v.what, number, 2))
		fail_msg("%s: %s, not %s", what, v.what, number);
	assert_false(berth_store_check(s->store, NULL));
	assert_memory_equal(before, s->ts->metadata, s->ts->metadata_bytes);
	free(before);
}

#define BROKEN(s, number, field, wrong)                         \
	do {                                                    \
		__typeof__(field) *field_ = &(field);           \
		__typeof__(field) wrong_ = (wrong);             \
		unsigned char good_[sizeof(field)];             \
		memcpy(good_, (void *)field_, sizeof(field));   \
		memcpy((void *)field_, &wrong_, sizeof(field)); \
		expect_broken(s, number, #field " = " #wrong);  \
		memcpy((void *)field_, good_, sizeof(field));   \
		store_ok((s)->ts);                              \
	} while (0)

static void test_a_healthy_store_passes(void **state)
{
	struct berth_violation v = { .what = "untouched" };
	struct scene s;
	void *before;

	(void)state;
	scene_open(&s);
	before = malloc(s.ts->metadata_bytes);
	assert_non_null(before);
	memcpy(before, s.ts->metadata, s.ts->metadata_bytes);
	assert_true(berth_store_check(s.store, &v));
	assert_string_equal(v.what, "untouched");
	assert_memory_equal(before, s.ts->metadata, s.ts->metadata_bytes);
	free(before);
	scene_close(&s);
}

static void test_i1_the_index(void **state)
{
	struct scene s;
	struct berth_entry *young;
	struct berth_link *link;
	uint64_t tags;
	uint32_t other;

	(void)state;
	scene_open(&s);
	young = &s.store->entries[s.young];
	link = &s.store->links[s.young];
	tags = atomic_load(&s.bucket->tags_low);
	other = atomic_load(&s.bucket->entries[s.other_way]);
	assert_true(s.way < 8 && s.other_way < 8);
	BROKEN(&s, "I1", s.bucket->entries[s.way], s.store->nr_entries);
	BROKEN(&s, "I1", s.bucket->entries[s.way], BERTH_ENTRY_NONE);
	BROKEN(&s, "I1", s.bucket->entries[s.way], s.spare);
	BROKEN(&s, "I1", s.bucket->entries[s.way], other);
	BROKEN(&s, "I1", s.bucket->tags_low, tags & ~(UINT64_C(0xff) << (8 * s.way)));
	BROKEN(&s, "I1", s.bucket->tags_low, tags ^ UINT64_C(1) << (8 * s.way + 3));
	BROKEN(&s, "I1", s.bucket->tags_high, 1u << 24);
	BROKEN(&s, "I1", link->bucket, link->bucket + 1);
	BROKEN(&s, "I1", young->item, atomic_load(&young->item) + 1);
	BROKEN(&s, "I1", young->group, atomic_load(&young->group) + 1);
	scene_close(&s);
}

/* The same key under two entries, each as it should be by itself. */
static void test_i1_a_key_named_twice(void **state)
{
	struct scene s;
	struct berth_entry *young, *other;
	uint64_t item, tags, tag;

	(void)state;
	scene_open(&s);
	young = &s.store->entries[s.young];
	other = &s.store->entries[atomic_load(&s.bucket->entries[s.other_way])];
	item = atomic_load(&other->item);
	tags = atomic_load(&s.bucket->tags_low);
	tag = berth__bucket_tag(s.bucket, s.way);
	atomic_store(&other->item, atomic_load(&young->item));
	assert_int_equal(atomic_load(&other->group), atomic_load(&young->group));
	atomic_store(&s.bucket->tags_low,
		     (tags & ~(UINT64_C(0xff) << (8 * s.other_way))) | tag << (8 * s.other_way));
	expect_broken(&s, "I1", "a key is named twice");
	atomic_store(&other->item, item);
	atomic_store(&s.bucket->tags_low, tags);
	scene_close(&s);
}

static void test_i2_the_queues(void **state)
{
	struct berth_link *link;
	struct berth_queue *small, *main_queue;
	struct scene s;

	(void)state;
	scene_open(&s);
	link = &s.store->links[s.middle];
	small = &s.shard->small;
	main_queue = &s.shard->main;
	BROKEN(&s, "I2", small->nr, small->nr + 1);
	BROKEN(&s, "I2", small->nr, small->nr - 1);
	BROKEN(&s, "I2", small->head, BERTH_ENTRY_NONE);
	BROKEN(&s, "I2", small->head, s.spare);
	BROKEN(&s, "I2", small->head, s.old);
	BROKEN(&s, "I2", small->tail, small->head);
	BROKEN(&s, "I2", main_queue->nr, main_queue->nr - 1);
	BROKEN(&s, "I2", main_queue->tail, BERTH_ENTRY_NONE);
	BROKEN(&s, "I2", link->prev, BERTH_ENTRY_NONE);
	BROKEN(&s, "I2", link->next, small->head);
	BROKEN(&s, "I2", link->next, s.store->nr_entries);
	BROKEN(&s, "I2", s.store->entries[s.middle].where, BERTH_ENTRY_MAIN);
	BROKEN(&s, "I2", s.store->entries[s.middle].where, BERTH_ENTRY_NOWHERE);
	scene_close(&s);
}

/* An entry that says it's in a queue, and is in none, nor in the index. */
static void test_i2_an_entry_out_of_its_queue(void **state)
{
	struct scene s;

	(void)state;
	scene_open(&s);
	/* Its granule's count would tell first. */
	assert_int_equal(s.store->granules[s.granule].nr_free > 0, 1);
	s.store->entries[s.spare].where = BERTH_ENTRY_SMALL;
	s.store->granules[s.granule].free = s.store->links[s.spare].next;
	s.store->granules[s.granule].nr_free--;
	if (s.store->granules[s.granule].nr_free)
		expect_broken(&s, "I2", "an entry in no queue says that it's in one");
	s.store->granules[s.granule].nr_free++;
	s.store->granules[s.granule].free = s.spare;
	s.store->entries[s.spare].where = BERTH_ENTRY_NOWHERE;
	scene_close(&s);
}

static void test_i3_sequence_numbers(void **state)
{
	struct berth_entry *entry;
	struct scene s;

	(void)state;
	scene_open(&s);
	entry = &s.store->entries[s.middle];
	BROKEN(&s, "I3", entry->seq, atomic_load(&entry->seq) + 1);
	BROKEN(&s, "I3", entry->seq, 0);
	entry = &s.store->entries[s.spare];
	BROKEN(&s, "I3", entry->seq, atomic_load(&entry->seq) + 1);
	scene_close(&s);
}

static void test_i4_free_entries(void **state)
{
	struct berth_granule *granule, *next;
	struct berth_shard *shard;
	struct scene s;

	(void)state;
	scene_open(&s);
	granule = &s.store->granules[s.granule];
	next = &s.store->granules[s.next_granule];
	shard = &s.store->shards[s.granule & s.store->shard_mask];
	BROKEN(&s, "I4", granule->free, BERTH_ENTRY_NONE);
	BROKEN(&s, "I4", granule->free, next->free);
	BROKEN(&s, "I4", granule->free, s.old);
	BROKEN(&s, "I4", granule->nr_free, granule->nr_free + 4);
	BROKEN(&s, "I4", granule->next, BERTH_ENTRY_NONE);
	BROKEN(&s, "I4", granule->next, s.store->nr_granules);
	BROKEN(&s, "I4", granule->next, s.granule);
	BROKEN(&s, "I4", next->prev, BERTH_ENTRY_NONE);
	BROKEN(&s, "I4", shard->free_granules, s.next_granule);
	BROKEN(&s, "I4", shard->free_granules, BERTH_ENTRY_NONE);
	scene_close(&s);
}

/* A free entry that is listed once less: nothing would ever take it. */
static void test_i5_lost_frames(void **state)
{
	struct scene s;
	struct berth_granule *granule;
	uint32_t nr;

	(void)state;
	scene_open(&s);
	for (nr = s.granule; nr < s.store->nr_granules && s.store->granules[nr].nr_free < 2;)
		nr++;
	assert_true(nr < s.store->nr_granules);
	granule = &s.store->granules[nr];
	BROKEN(&s, "I5", granule->nr_free, granule->nr_free - 1);
	/* In a granule that is closed nothing need be anywhere. */
	assert_int_equal(test_store_claim(s.ts, 0, 256, &(berth_pfn_t){ 0 }), 0);
	store_ok(s.ts);
	if (nr < 64) {
		granule->nr_free--;
		store_ok(s.ts);
		granule->nr_free++;
	}
	test_store_release(s.ts, 0, STORE_START, 256);
	scene_close(&s);
}

static void test_i6_epochs(void **state)
{
	struct berth_entry *entry;
	struct scene s;

	(void)state;
	scene_open(&s);
	entry = &s.store->entries[s.young];
	BROKEN(&s, "I6", entry->epoch_low, atomic_load(&entry->epoch_low) + 1);
	BROKEN(&s, "I6", entry->epoch_high, 1);
	/* One that is behind was dropped, and may be. */
	berth_store_drop_group(s.store, 1);
	store_ok(s.ts);
	scene_close(&s);
}

static void test_i7_servers(void **state)
{
	struct scene s;
	uint32_t nr;

	(void)state;
	scene_open(&s);
	nr = (uint32_t)(s.shard - s.store->shards);
	BROKEN(&s, "I7", s.store->nr_moved, 1);
	BROKEN(&s, "I7", s.store->shards[nr].served_by, (nr + 1) & s.store->shard_mask);
	BROKEN(&s, "I7", s.store->shards[nr].served_by, s.store->shard_mask + 1);
	/* With the count right, its pages are in the wrong frames. */
	atomic_store(&s.store->nr_moved, 1);
	atomic_store(&s.shard->served_by, 0);
	expect_broken(&s, "I7", "a slice with pages is another shard's");
	atomic_store(&s.store->nr_moved, 0);
	atomic_store(&s.shard->served_by, nr);
	scene_close(&s);
}

/* What a slice of another shard's holds is in frames of who serves it, and slices come home. */
static void test_slices_come_home(void **state)
{
	struct test_store *ts = test_store_open(
		&(struct test_store_params){ .nr_pages = 64, .granule_order = 2, .nr_shards = 8 });
	struct berth_store *store = ts->store;
	uint32_t server;
	berth_pfn_t pfn;

	(void)state;
	assert_int_equal(test_store_claim(ts, 0, 60, &pfn), 0);
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(test_put(ts, 1, i, i), 0);
	store_ok(ts);
	assert_int_equal(atomic_load(&store->nr_moved), 7);
	server = atomic_load(&store->shards[0].served_by);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(atomic_load(&store->shards[i].served_by), server);
	assert_int_equal(store->shards[server].small.nr + store->shards[server].main.nr, 4);
	test_store_release(ts, 0, pfn, 60);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(test_put(ts, 1, i, i), 0);
	store_ok(ts);
	assert_int_equal(atomic_load(&store->nr_moved), 0);
	assert_in_range(test_store_stats(ts).stored_pages, 60, 64);
	test_store_close(ts);
}

/* A store of before a fork is all zeros, and nothing is wrong with that. */
static void test_a_wiped_store_passes(void **state)
{
	struct test_store *ts = test_store_open(
		&(struct test_store_params){ .nr_pages = 64, .granule_order = 2, .nr_shards = 2 });

	(void)state;
	assert_int_equal(test_put(ts, 1, 1, 1), 0);
	memset(ts->metadata, 0, ts->metadata_bytes);
	assert_true(berth_store_check(ts->store, NULL));
	assert_int_equal(test_put(ts, 1, 1, 1), -BERTH_ESTALE);
	assert_int_equal(test_get(ts, 1, 1), -1);
	assert_false(test_drop(ts, 1, 1));
	test_store_close(ts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_healthy_store_passes),
		cmocka_unit_test(test_i1_the_index),
		cmocka_unit_test(test_i1_a_key_named_twice),
		cmocka_unit_test(test_i2_the_queues),
		cmocka_unit_test(test_i2_an_entry_out_of_its_queue),
		cmocka_unit_test(test_i3_sequence_numbers),
		cmocka_unit_test(test_i4_free_entries),
		cmocka_unit_test(test_i5_lost_frames),
		cmocka_unit_test(test_i6_epochs),
		cmocka_unit_test(test_i7_servers),
		cmocka_unit_test(test_slices_come_home),
		cmocka_unit_test(test_a_wiped_store_passes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
