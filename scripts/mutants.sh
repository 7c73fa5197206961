#!/bin/bash
# SPDX-License-Identifier: MIT
# Do the simulator's schedules find broken orders? mutants.sh [NAME...]
#
# Each mutant is one change to a copy of the core that takes away a barrier, an order, a lock or a step of
# the protocol of the per-CPU lists, of claims, of LRU lists, of GCMA areas and of what changes a zone in use. Its
# schedules (tests/sim/test_schedules.c, test_lru_schedules.c and others) must fail. One
# line each: "ok NAME: what was seen" or "FAIL NAME"; exit status 1 when one survived. $CC, gcc by default;
# BERTH_SIM_SEEDS as in the test.

set -u
cd "$(dirname "$0")/.." || exit 2
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
cc=${CC:-gcc}
failures=0
chosen=" $* "
program=test_schedules

compile()
{
	local dir=$1
	(cd "$dir" && $cc -std=gnu11 -O1 -w -Iport/sim -Iinclude -I. -Itests/sim core/*.c core/*/*.c vm/*.c store/*.c \
		port/sim/*.c tests/sim/$program.c -lcmocka -o $program) >"$tmp/log" 2>&1
}

# mutant NAME FILE SED: survives unless a schedule fails.
mutant()
{
	local name=$1 file=$2 change=$3
	[ "$chosen" = "  " ] || [[ "$chosen" == *" $name "* ]] || return 0
	rm -rf "$tmp/tree"
	mkdir "$tmp/tree"
	cp -r core vm store include port tests "$tmp/tree/"
	sed -i -E "$change" "$tmp/tree/$file"
	if cmp -s "$file" "$tmp/tree/$file"; then
		echo "FAIL $name: there is nothing to change in $file any more"
		failures=$((failures + 1))
	elif ! compile "$tmp/tree"; then
		echo "FAIL $name: doesn't compile: $(grep -m 1 error "$tmp/log")"
		failures=$((failures + 1))
	elif "$tmp/tree/$program" >"$tmp/log" 2>&1; then
		echo "FAIL $name: every schedule passes"
		failures=$((failures + 1))
	else
		echo "ok $name: $(grep -m 1 -E 'seed [0-9]+:' "$tmp/log" | cut -c 1-110)"
	fi
}

# unlocked NAME FILE FUNCTION: the mutant NAME-unlocked, whose FUNCTION (how its line begins) takes no locks.
unlocked()
{
	mutant "$1-unlocked" "$2" "/^$3/,/^}/ s/berth_(mutex_)?(un)?lock\(.*\);//"
}

pcp=core/frames/pcp.c drain=core/frames/pcp_drain.c fast=core/frames/pcp_fast.h contig=core/alloc/contig.c isolate=core/motion/isolate.c
frame=core/frames/frame.c page_alloc=core/alloc/page_alloc.c migrate=core/motion/migrate.c
gather=core/motion/gather.c pageblock=core/frames/pageblock.c lru=core/motion/lru.c reclaim=core/motion/reclaim.c stock=core/frames/stock.c

# The drainer's side
mutant no-barrier $drain 's/zone->port->barrier_all\(zone->port_ctx\);/;/'
mutant no-drain-fence $drain '/barrier_all\)/,/drain_slot/ s/atomic_thread_fence\(memory_order_seq_cst\);/;/'
mutant no-wait $drain 's/^\t\t\twait_until_outside\(zone, pcp\);//'
mutant no-drain-flag $drain 's/atomic_fetch_or_explicit\(&pcp->gate, BERTH_PCP_DRAIN, .*$/;/'
mutant relaxed-wait $drain '/wait_until_outside\(struct/,/^}/ s/memory_order_acquire/memory_order_relaxed/'
mutant relaxed-reopen $drain '/~BERTH_PCP_DRAIN/,/;/ s/memory_order_release/memory_order_relaxed/'
mutant no-drain-lock $drain 's/^\t\t\tberth_mutex_(un)?lock\(&pcp->drain_lock\);//'
# (Without its second round a drain still holds: a slot's first use is fenced on both sides.)
unlocked drain $drain 'static void drain_slot'
# The owner's side
mutant relaxed-leave $fast '/berth__pcp_leave/,/^}/ s/memory_order_release/memory_order_relaxed/'
mutant relaxed-gate $fast '/berth__pcp_enter/,/^}/ s/memory_order_acquire/memory_order_relaxed/'
mutant ignored-gate $fast 's/BERTH_PCP_OPEN\)\) \{/BERTH_PCP_OPEN) \&\& 0) {/'
mutant no-section $fast '/berth__pcp_enter/,/^}/ s/atomic_store_explicit\(&pcp->in_section, 1, .*$/;/'
mutant cpu-before-preempt $fast '/^static inline bool berth__pcp_enter/,/^}/ s/^\tcpu = berth_cpu_fast\(\);//; s/^\tberth_preempt_disable\(\);$/&/; /^static inline bool berth__pcp_enter/,/^}/ s/^\tberth_preempt_disable\(\);/\tcpu = berth_cpu_fast();\n&/'
mutant no-fence $pcp '/^static struct berth_pcp \*enter/,/^}/ s/atomic_thread_fence\(memory_order_seq_cst\);/;/'
mutant fence-before $pcp '/^static struct berth_pcp \*enter/,/^}/ { /atomic_store_explicit\(&pcp->in_section/ d; s/gate = atomic_load_explicit\(&pcp->gate, memory_order_acquire\);/&\n\tatomic_store_explicit(\&pcp->in_section, 1, memory_order_relaxed);/ }'
unlocked refill $pcp 'static unsigned refill'
unlocked spill $pcp 'static void spill_blocks'
mutant list-outside $page_alloc '/^int berth_free_pages/,/^}/ { s/^\tif \(BERTH_UNLIKELY\(!berth__pcp_enter/\tlist = berth__pcp_route(zone, idx);\n&/; s/^\tlist = berth__pcp_route\(zone, idx\);$// }'
# Claims
mutant no-drain $contig 's/^\tberth__pcp_drain_range\(claim->zone, .*\);//'
mutant early-drain $contig '/^int berth__claiming_begin/,/^}/ s/^\terror = berth__isolate_range/\tberth__pcp_drain_range(zone, start, end);\n&/; /^static int prepare_moves/,/^}/ s/^\tberth__pcp_drain_range.*$//'
unlocked scan $contig 'static void scan_range'
unlocked isolate $isolate 'int berth__isolate_range'
mutant overlap-unseen $isolate '/^static int check_isolatable_locked/,/^}/ s/^\tif \(other\) \{/\tif (other \&\& 0) {/'
mutant first-ends-all $isolate 's/--pageblock->nr_isolating\) == 0\)$/(--pageblock->nr_isolating, 0)) == 0)/'
mutant undo-others $isolate 's/free_taken_locked\(zone, idx < range->start \? range->start : idx,/free_taken_locked(zone, idx,/; s/^\t\t\t\t\t  stop < range->end \? stop : range->end\);/stop);/'
unlocked take $isolate 'bool berth__take_if_free'
mutant no-freeze-check $frame '/^bool berth__split_used_at_locked/,/^}/ s/^\tif \(!berth__freeze\(frame\)\)/\tif (!berth__freeze(frame) \&\& 0)/'
unlocked settle $migrate 'int berth__migrate_batch'
unlocked pin $frame 'int berth_page_pin'
unlocked unpin $frame 'static void put_pin'
unlocked free $page_alloc 'static BERTH_COLD int free_block_slow'
# Claims out of an area's stock. (Not seen here: the acquire of take_run(), which is for what the claimer finds
# in the frames; the fence of refresh_group(); the turns that a search in vain compares; a listed claim's second
# look, since notes are no steps.)
mutant stock-unmarked $stock '/^static void mark_changed/,/^}/ s/^\tatomic_thread_fence\(memory_order_seq_cst\);//'
mutant stock-bit-lost $stock '/^static void take_bit_away/,/^}/ s/^\tatomic_thread_fence\(memory_order_seq_cst\);//'
mutant stock-relaxed-remove $stock '/^bool berth__stock_remove_locked/,/^}/ s/memory_order_acquire/memory_order_relaxed/'
mutant stock-relaxed-give $stock '/^static void put_back/,/^}/ s/memory_order_release/memory_order_relaxed/'
mutant stock-not-put-back $stock '/^static bool take_run/,/^}/ s/^\t\tput_back\(.*$//'
mutant stock-taken-twice $stock '/^static bool take_run/,/^}/ s/\(word \& BERTH_STOCK_STATE\) == BERTH_STOCK/word/'
mutant stock-taken-unseen $isolate 's/berth__stock\(pageblock\) != BERTH_LISTED\)/0)/'
mutant stock-lost-unseen $isolate 's/berth__unstock_locked\(zone, start, end\) \&\& is_free/(berth__unstock_locked(zone, start, end), 1) \&\& is_free/'
# What is kept for the next claim (I3 of kept.c). (Not seen here: kept_take() without its release. Who missed what was left
# before has mostly taken over a frame's tag since, which is released, too.)
kept=core/frames/kept.c
mutant kept-in-the-way core/alloc/cma.c '/^static int choose_and_begin/,/^}/ s/^\tberth__kept_send_home\(.*$//'
mutant kept-home-again $kept '/^static void send_home/,/^}/ s/word \| GOING_HOME/word/'
unlocked kept-home $kept 'static void send_home'
mutant kept-cleared-early $kept '/^static void send_home/,/^}/ s/^\t\tberth__bitmap_set\(.*$/\t\tatomic_store_explicit(\&tally->kept, 0, memory_order_release);\n&/'
mutant kept-relaxed-put $kept '/^bool berth__kept_put/,/^}/ s/memory_order_release/memory_order_relaxed/'
mutant kept-relaxed-take $kept '/^bool berth__kept_take/,/^}/ s/memory_order_acq_rel/memory_order_relaxed/'
mutant kept-uncounted $kept '/^bool berth__kept_put/,/^}/ s/^\tatomic_fetch_add_explicit\(&tally->turns.*$//'
mutant kept-counted-first $kept '/^bool berth__kept_put/,/^}/ { s/^\tatomic_fetch_add_explicit\(&tally->turns.*$//; s/^\tif \(!atomic_comp/\tatomic_fetch_add_explicit(\&tally->turns, 1, memory_order_acq_rel);\n&/ }'
# What belongs together, gathered (I1 and I3 of gather.c). (Not seen here: a window that is gathered twice, since the owner
# has moved its blocks by the second time.)
mutant gather-buffer-shared $gather '/^struct berth_move \*berth__gather_begin/,/^}/ s/^\tfree = ~zone->gathering & /\tfree = /'
mutant gather-ends-early $contig '/^static int moved_batch/,/^}/ { s/^\t\tberth__gather_end\(zone, gathered\);/\t\t;/; s/^\terror = berth__migrate_batch/\tif (gathered)\n\t\tberth__gather_end(zone, gathered);\n&/ }'
mutant gather-outside $gather 's/^\t    idx < gathering->range->start \|\| idx >= gathering->range->end \|\|$//'
# Blocks that are freed without the lock (I5 of pcp.c)
mutant pcp-block-read-outside $pcp '/^static inline bool free_block_in/,/^}/ s/ !is_plain\(zone, idx, order, owner\) \|\|$//; /^bool berth__pcp_free_block/,/^}/ s/ == BERTH_PCP_NO_ROW\)$/ == BERTH_PCP_NO_ROW || !is_plain(zone, idx, order, owner))/'
mutant pcp-block-route-relaxed $pcp '/^static unsigned route_of_block/,/^}/ s/memory_order_acquire/memory_order_relaxed/'
# (Not seen here: the releases of routes' stores, since a fence for the summaries comes between a cut and them.)
mutant pcp-block-pin-unseen $pcp '/^static bool is_plain/,/^}/ s/atomic_load_explicit\(&frame->refcount, memory_order_acquire\) == 1/1/'
# Frames that are told apart and joined without the lock (I6 of pcp.c)
mutant pcp-apart-relaxed core/internal.h '/^static inline void berth__set_tag_release/,/^}/ s/memory_order_release/memory_order_relaxed/'
mutant pcp-head-once $frame 's/^#define LOOKS 4u/#define LOOKS 1u/'
mutant pcp-join-head-last $pcp '/^static void join\(/,/^}/ { s/^\tberth__set_tag_release\(&frames\[0\].*//; s/^}/\tberth__set_tag_release(\&frames[0], BERTH_TAG(BERTH_FRAME_PCP, to));\n}/ }'
mutant pcp-block-order-unseen $pcp '/^static bool is_plain/,/^}/ s/BERTH_TAG\(BERTH_FRAME_USED, order\)/BERTH_TAG(BERTH_FRAME_USED, berth__tag_order(tag))/'

# LRU lists
program=test_lru_schedules
mutant lru-ignored-disable $lru '/^static void ask/,/^}/ s/if \(!disabled\) \{/if (1) {/'
mutant lru-not-drained $drain 's/^\tberth__lru_drain_slot\(zone, pcp\);//'
unlocked lru-drain $lru 'void berth__lru_drain_slot'
mutant lru-full-unlocked $lru '/^static void ask/,/^}/ s/^\t\t\t\tberth_(un)?lock\(&zone->lru.lock\);//'
mutant lru-kept-when-freed $page_alloc '/^static BERTH_COLD int free_slow/,/^}/ s/berth__lru_forget\(zone, idx\);/;/'
mutant lru-kept-by-range $page_alloc '/^int berth_free_range/,/^}/ s/berth__lru_forget\(zone, idx\);/;/'
unlocked lru-forget $lru 'void berth__lru_forget'
mutant lru-lost-write-back $lru '/^void berth__lru_forget/,/^}/ s/left = old & BERTH_LRU_WRITEBACK \?.*$/left = 0;/'
mutant lru-pieces-lost $frame 's/berth__lru_inherit_locked\(zone, head, middle, order\);/;/'
mutant lru-split-unlocked $frame 's/^\tberth__lru_(begin|end)_split\(zone, tag\);//'
mutant lru-not-moved $migrate 's/^\tif \(tag & BERTH_TAG_LRU\)$/\tif (0)/'
mutant lru-stale-trusted $lru '/^static void apply_locked/,/^}/ s/if \(where == BERTH_LRU_IN_BATCH\) \{/if (where == BERTH_LRU_IN_BATCH || where == BERTH_LRU_NOWHERE) {/'
mutant lru-frozen-unseen $reclaim '/^bool berth_reclaim_freeze/,/^}/ s/ \&\& berth__tag_order\(tag\) == item->order \&\&/ \&\&/'
mutant lru-dirty-unseen $reclaim '/^bool berth_reclaim_freeze/,/^}/ s/BERTH_LRU_DIRTY \| //'
mutant lru-unpinned-write $lru '/^bool berth__lru_begin_writeback/,/^}/ s/if \(!berth__pin_head\(zone, idx\)\)/if (0)/'
mutant lru-relaxed-add $lru '/^int berth_lru_add/,/^}/ s/memory_order_release/memory_order_relaxed/'
mutant lru-relaxed-apply $lru '/^static void apply_locked/,/^}/ s/memory_order_acquire/memory_order_relaxed/'
mutant lru-flags-unlocked $lru '/^static void change_referenced/,/^}/ s/berth_(un)?lock\(&zone->lru.lock\);/;/'
# (Not seen here: the fence before a block's pieces are tagged and the acquire of is_single(), which keep a change of a
# piece's flags behind their first store. All such changes are read-modify-writes, and in the simulator these act on the last
# value, and each store is the last one when it is made: memory.c.)
mutant lru-discardable-unmarked $pageblock '/^void berth__account_discardable/,/^}/ s/atomic_thread_fence\(memory_order_seq_cst\);/;/'
mutant lru-discardable-uncounted $lru '/^void berth__lru_shrinks_locked/,/^}/ s/^\tberth__account_discardable.*$//'
mutant lru-by-nowhere $lru '/^void berth__lru_put_locked/,/^}/ s/^\tunlink_locked\(zone, idx, from\);/&\n\tchange_where_locked(zone, idx, from, 0);\n\tfrom = 0;/'
unlocked lru-settle $reclaim 'static uint64_t settle'

# The store
program=test_store_schedules
store=store/store.c frames=store/frames.c policy=store/policy.c
mutant store-publish-relaxed $store '/^static enum filled fill_locked/,/^}/ s/memory_order_release\);$/memory_order_relaxed);/'
mutant store-no-fill-fence core/alloc/gcma_fast.h '/berth__gcma_fill_begin_with\(struct/,/^}/ s/atomic_thread_fence\(memory_order_seq_cst\);/;/'
mutant store-no-read-fence core/alloc/gcma_fast.h '/berth__gcma_still/,/^}/ s/atomic_thread_fence\(memory_order_acquire\);/;/'
mutant store-seq-relaxed $store '/^static enum found read_entry/,/^}/ s/seq = atomic_load_explicit\(&entry->seq, memory_order_acquire\)/seq = atomic_load_explicit(\&entry->seq, memory_order_relaxed)/'
mutant store-seq-unchecked $store '/^static enum found read_entry/,/^}/ s/^\tif \(atomic_load_explicit\(&entry->seq, memory_order_relaxed\) != seq\)/\tif (0)/'
mutant store-claim-unchecked $store '/^static enum found read_entry/,/^}/ s/^\tif \(!berth__gcma_still\(.*$/\tif (0)/'
mutant store-check-before-copy $store '/^static enum found read_entry/,/^}/ { /^\tberth__copy_out/ d; s/^\tuse\(entry\);/\tberth__copy_out(data, frame);\n&/ }'
mutant store-adopt-relaxed $frames '/^static void adopt/,/^}/ s/memory_order_release/memory_order_relaxed/'
mutant store-adopt-keeps $frames '/^static void adopt/,/^}/ s/^\t\t\tberth__entry_forget_locked\(.*$//'
mutant store-forget-keeps $policy '/^void berth__entry_forget_locked/,/^}/ s/seq \+ \(seq & 1\)/seq/'
mutant store-overwrite-in-place $store '/^static enum filled overwrite_locked/,/^}/ s/seq \+ 1, memory_order_relaxed/seq, memory_order_relaxed/; /^static enum filled fill_locked/,/^}/ s/seq \+ 1, memory_order_release/seq + 2 - (seq \& 1), memory_order_release/'
mutant store-old-page-stays $store '/^static enum filled put_locked/,/^}/ s/if \(way != BERTH_WAY_NONE\) \{/if (0) {/'
mutant store-epoch-late $store '/^static enum filled fill_locked/,/^}/ s/^\tatomic_store_explicit\(&entry->seq, seq \+ 1/\tatomic_store_explicit(\&entry->epoch_low, (uint32_t)berth__epoch_now(store, put->key->group), memory_order_relaxed);\n&/'
mutant store-drop-relaxed $store '/^void berth_store_drop_group/,/^}/ s/memory_order_release/memory_order_relaxed/'
mutant store-put-unlocked $store '/^static struct berth_shard \*put_somewhere/,/^}/ { s/^\t\tberth_unlock\(.*$//; s/^\t\t\*filled = put_locked/\t\tberth_unlock(\&shard->lock);\n&/ }; /^int berth_store_put/,/^}/ s/^\tberth_unlock\(.*$//'
mutant store-drop-unlocked $store '/^bool berth_store_drop\(/,/^}/ { s/^\tberth_unlock\(.*$//; s/^\tway = berth__bucket_find/\tberth_unlock(\&shard->lock);\n&/ }'
# Copies that are taken away. (Not seen here: a claim that believes that they were, since the simulator's fillers that
# are waited for so long begin anew by themselves; a mutant of berth_copy_in() would be one of the simulator.)
mutant store-restart-unasked core/alloc/gcma.c '/^static bool inside/,/^}/ s/if \(wait->restarted\)$/if (1)/'
slices=store/slices.c
mutant store-slice-unchecked $slices '/^struct berth_shard \*berth__slice_lock/,/^}/ s/BERTH_LIKELY\(now == nr\)/now == nr || nr != slice/'
mutant store-slice-relaxed-look $slices '/^static uint32_t server/,/^}/ s/memory_order_acquire/memory_order_relaxed/'
mutant store-slice-relaxed-serve $slices '/^static void serve/,/^}/ s/memory_order_release/memory_order_relaxed/'
mutant store-slice-given-full $slices 's/^\t\t\tforget_bucket\(store, shard,$/\t\t\t(void)(/'
mutant store-slice-given-unseen $store 's/if \(BERTH_UNLIKELY\(!berth__slice_is_served\($/if (0 \&\& (!berth__slice_is_served(/'

# What changes a zone while it is in use
program=test_change_schedules
lend=core/alloc/lend.c compound=core/alloc/compound.c hand_over=core/frames/hand_over.c prepare=core/alloc/prepare.c
compact=core/motion/compact.c

mutant lend-not-drained $lend 's/^\tberth__pcp_drain_range\(.*\);//'
mutant lend-drained-early $lend 's/^\tberth__pcp_drain_range\(.*\);//; s/^\tberth_lock\(&zone->lock\);/\tberth__pcp_drain_range(zone, area->start, area->end);\n&/'
mutant lend-unlocked $lend 's/berth_(un)?lock\(&zone->lock\);//'
mutant split-fence-unseen $compound 's/else if \(berth__isolation_in_locked\(/else if (0 \&\& berth__isolation_in_locked(/'
unlocked exact $compound 'static berth_idx_t take_exact'
unlocked late-free $hand_over 'int berth_zone_free_reserved'
unlocked prepare-step $prepare 'int berth_cma_prepare_step'
unlocked prepare-take $prepare 'int berth_cma_prepare_take'
unlocked prepare-cancel $prepare 'int berth_cma_prepare_cancel'
mutant release-by-two $contig '/^bool berth__release_begin/,/^}/ { s/atomic_compare_exchange_strong_explicit\(&frame->tag, &tag,/(atomic_store_explicit(\&frame->tag,/; s/memory_order_acquire, memory_order_relaxed\);/memory_order_relaxed), true);/ }'
unlocked capture $compact 'static void capture'

# Leases. (Records are taken within one step: their lock is the thread sanitizer's part.)
program=test_lease_schedules
lease=store/lease.c
unlocked lease-lock $lease 'int berth_lease_lock'
unlocked lease-unlock $lease 'int berth_lease_unlock'
unlocked lease-create $lease 'int berth_lease_create'
unlocked lease-free $lease 'int berth_lease_free'
unlocked lease-drop $lease 'static void reclaim_leases'
unlocked lease-move $lease 'static void move_leases'
mutant lease-lost-unseen $lease '/^static int lock_locked/,/^}/ s/if \(lease->lost\)/if (0)/'
mutant lease-unlimited $lease '/^static int lock_locked/,/^}/ s/leases->stats.locked_pages \+ lease->nr_pages > /0 > (int64_t)/'
mutant lease-stale-handle $lease '/^static struct lease \*find/,/^}/ s/lease->serial == handle >> 32/1/'
mutant lease-not-pinned $lease '/^static int pin/,/^}/ s/berth_page_pin\(leases->zone, lease->pfn \+ i\) != 0/0/; /^static void unpin/,/^}/ s/berth_page_unpin\(leases->zone, lease->pfn \+ i\) != 0/0/; s/lease->locks \|\| /0 || /g'
mutant lease-not-frozen $lease '/^static void move_one/,/^}/ s/!berth_page_freeze\(leases->zone, move->src\)/0/'

# GCMA areas
program=test_gcma_schedules
gcma=core/alloc/gcma.c gcma_fast=core/alloc/gcma_fast.h
mutant gcma-no-claim-fence $gcma '/^static BERTH_HOT int close_runs/,/^}/ s/atomic_thread_fence\(memory_order_seq_cst\);/;/'
mutant gcma-weak-claim-fence $gcma '/^static BERTH_HOT int close_runs/,/^}/ s/memory_order_seq_cst/memory_order_acq_rel/'
mutant gcma-no-fill-fence $gcma_fast '/filler \*berth__gcma_fill_begin_with\(/,/^}/ s/atomic_thread_fence\(memory_order_seq_cst\);/;/'
mutant gcma-weak-fill-fence $gcma_fast '/filler \*berth__gcma_fill_begin_with\(/,/^}/ s/memory_order_seq_cst/memory_order_acq_rel/'
mutant gcma-unchecked-fill $gcma_fast '/filler \*berth__gcma_fill_begin_with\(/,/^}/ s/ \&\& berth__gcma_generation\(hot, granule\) == generation\)/)/'
mutant gcma-no-wait $gcma 's/^\terror = wait_for_fillers\(.*$/\terror = 0;/'
mutant gcma-record-first $gcma '/^static BERTH_HOT int close_runs/,/^}/ { /wait_for_fillers/ d; s/^\tuint64_t closed_ns;/&\n\tint early = wait_for_fillers(area, 0, area->nr_granules, deadline_ns);/; s/^\tint error;/\tint error = 0;/; s/return error;/return early ? early : error;/ }'
# (With relaxed looks at records a claim still holds: the barrier at its end is an acquire, too. A relaxed step back
# matters to a filler that stands between its fence and its look meanwhile: no schedule was seen to show it.)
mutant gcma-relaxed-end $gcma_fast '/^static inline void berth__gcma_fill_end/,/^}/ s/memory_order_release/memory_order_relaxed/'
mutant gcma-relaxed-begin $gcma_fast '/filler \*berth__gcma_fill_begin_with\(/,/^}/ s/memory_order_release/memory_order_relaxed/'
mutant gcma-relaxed-open $gcma '/^static void open_granules/,/^}/ s/memory_order_release/memory_order_relaxed/'
mutant gcma-late-forgotten $gcma 's/^\t\t\tuncover_granules\(.*$/\t\t\t;/'
mutant gcma-relaxed-generation $gcma_fast '/berth__gcma_generation\(/,/^}/ s/memory_order_acquire/memory_order_relaxed/'
mutant gcma-no-read-fence $gcma_fast '/^static inline bool berth__gcma_still/,/^}/ s/atomic_thread_fence\(memory_order_acquire\);/;/'
mutant gcma-same-generation $gcma '/^static void open_granules/,/^}/ s/nr, 1,/nr, UINT64_MAX,/'
mutant gcma-unknown-filler $gcma '/^bool berth__gcma_new_filler/,/^}/ s/nr <= cpu/nr <= cpu \&\& 0/'
mutant gcma-fillers-too-few $gcma '/^bool berth__gcma_new_filler/,/^}/ s/cpu \+ 1/cpu ? cpu : 1/'
mutant gcma-cpu-before-preempt $gcma_fast '/filler \*berth__gcma_fill_begin_with\(/,/^}/ { s/^\tberth_preempt_disable\(\);//; s/^\tcpu = berth_cpu\(\);/&\n\tberth_preempt_disable();/ }'
gaps=core/alloc/gcma_gaps.c
mutant gcma-cut-relaxed $gaps '/^static bool swap_main_gap/,/^}/ s/memory_order_acq_rel/memory_order_relaxed/'
mutant gcma-cut-no-acquire $gaps '/^static bool swap_main_gap/,/^}/ s/memory_order_acq_rel/memory_order_release/'
mutant gcma-cut-no-release $gaps '/^static bool swap_main_gap/,/^}/ s/memory_order_acq_rel/memory_order_acquire/'
mutant gcma-cut-by-store $gaps '/^static bool swap_main_gap/,/^}/ s/atomic_compare_exchange_strong_explicit/SWAP/; s/^static bool swap_main_gap.*$/#define SWAP(at, was, to, a, b) (atomic_load(at) == *(was) \&\& (atomic_store(at, to), true))\n&/'
mutant gcma-cut-unseen $gaps 's/^\telse if \(!swap_main_gap\(area, gap, end, 0\)\)$/\telse if (!swap_main_gap(area, gap, end, 0) \&\& 0)/'
mutant gcma-main-gap-grown-once $gaps '/void insert_locked/,/^}/ s/^\t\t\tif \(swap_main_gap\((.*)$/\t\t\tif (swap_main_gap(\1 ;\n\t\t\telse insert_into_bin_locked(area, first, nr);\n\t\t\tif (1)/'
mutant gcma-start-by-store $gaps '/^static void make_claim/,/^}/ s/atomic_fetch_or_explicit\(\&area->starts\[first \/ 64\],/atomic_store_explicit(\&area->starts[first \/ 64], atomic_load(\&area->starts[first \/ 64]) |/'
unlocked gcma-take $gcma 'static BERTH_HOT unsigned take_runs'
unlocked gcma-give $gcma 'static BERTH_HOT void give_back'
mutant gcma-mark-by-store $gcma '/^static bool mark_releasing/,/^}/ s/atomic_compare_exchange_strong_explicit/SWAP/; s/^static bool mark_releasing.*$/#define SWAP(at, was, to, a, b) (atomic_load(at) == *(was) \&\& (atomic_store(at, to), true))\n&/'
mutant gcma-mark-any-size $gcma '/^static bool mark_releasing/,/^}/ s/^(\tuint64_t what = ).*$/\1berth__extent_what(BERTH_EXTENT_CLAIMED, berth__extent_pages(extent_at(area, pfn)));/'
mutant gcma-late-kept $gcma 's/if \(error == -BERTH_EAGAIN \|\| /if (/; s/^\t\terror = late \? late : error;/\t\t;/'

[ $failures = 0 ]
