#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The command's own behaviour: help, version, exit codes, bad input, and what is
# promised about its JSON. Needs neither privileges nor userfaultfd.
#
#   BERTH  the command to test (default build/berth)
#
# Exit status: 0 passed, 77 skipped (the reason is printed), 1 failed.

# shellcheck source=tests/tool/lib.sh
. "$(dirname "$0")/lib.sh"

# ---- help and version

helps run ps stat claim bench -- --help
helps --area --config areas= devices= default= cma= --claim --pool --report --json --trust-direct-io --let-cpus-sleep --quarantine -- run --help
helps claim pages -- bench --help
helps --size --fill --json -- bench claim --help
helps --order --pattern --threads --json -- bench pages --help
berth --version
if [ $status -eq 0 ] && grep -qE '[0-9]+\.[0-9]+' out && [ "$(wc -l <out)" -eq 1 ]; then
	pass
else
	miss "berth --version" "status $status: $(head -n 2 out)"
fi

# ---- usage

refuses 2 ''
refuses 2 frobnicate frobnicate
refuses 2 --frobnicate --frobnicate
refuses 2 ''  run
refuses 2 '' run --
refuses 2 --frobnicate run --frobnicate -- touch ran
refuses 2 frobnicate bench frobnicate
refuses 2 '' bench
refuses 2 --frobnicate bench claim --frobnicate
refuses 2 --frobnicate bench pages --frobnicate
refuses 2 --stress run --quarantine -- touch ran
for option in --pool --area --claim --report; do
	refuses 2 $option run $option
done

# ---- sizes

bad_sizes=(0 -1 12Q 99999999999999999999G 18446744073709551616 17179869184G abc 64MM '64M,' '' ' ' 1e400M nan)
for size in "${bad_sizes[@]}"; do
	refuses 2 "$size" run --pool "$size" -- touch ran
	refuses 2 "$size" run --area "cam=$size" -- touch ran
	refuses 2 "$size" run --area cam=16M --claim "$size@0.1" -- touch ran
	refuses 2 "$size" bench claim --size "$size" --fill empty
done
for area in cam =16M cam= = '' 'cam=16M=16M'; do
	refuses 2 "$area" run --area "$area" -- touch ran
done
refuses 2 cam run --area cam=16M --area cam=16M -- touch ran
refuses 2 "at byte 19, before 'never x'" run --config 'areas=cam:16M,lend=never x' -- touch ran
refuses 2 'no room for the area b' run --config 'areas=a:4M@2M;b:2M@4M' -- touch ran
refuses 2 'no area' run --config '' -- touch ran
refuses 2 'no area' run --config cma=0 -- touch ran
refuses 2 'one of --area and --config' run --config cma=16M --area cam=16M -- touch ran
refuses 2 'one of --area and --config' run --area cam=16M --config cma=16M -- touch ran
refuses 2 'two --config' run --config cma=16M --config cma=16M -- touch ran
refuses 2 bytes run --config "$(printf '%2000s' '')" -- touch ran
refuses 2 'larger than the area b' run --config 'areas=a:16M;b:2M default=b' --claim 4M@0 -- touch ran
refuses 2 "can't hold the areas where" run --config 'areas=a:16M@32M' --pool 40M -- touch ran
for claim in 1M 1M@ @1 1M@-1 1M@abc 1M@1q 1M@1+ 1M@1+-1 1M@1+1x 1M@1+1x0 1M@1+1x-3 1M@1+1x5y 1M@nan 1M@1e999 1M@1+1x99999999999999999999 ''; do
	refuses 2 "$claim" run --area cam=16M --claim "$claim" -- touch ran
done

# ---- CPUs are kept awake where that is allowed and wanted

for options in '' --let-cpus-sleep; do
	# shellcheck disable=SC2086,SC2016
	berth run --quiet --area cam=16M $options -- sh -c 'ls -l /proc/$$/fd'
	wanted=0
	[ -n "$options" ] || ! [ -w /dev/cpu_dma_latency ] || wanted=1
	found=$(grep -c cpu_dma_latency out)
	[ "$status" -eq 0 ] && [ "$found" -eq $wanted ]
	settle "berth run $options: /dev/cpu_dma_latency" "status $status, $found times, not $wanted"
done
refuses 2 --let-cpus-sleep bench claim --size 4M --fill empty --let-cpus-sleep

# ---- the benchmarks' parameters

for fill in full '' EMPTY; do
	refuses 2 "$fill" bench claim --size 4M --fill "$fill"
done
for count in 0 -1 abc 99999999999999999999; do
	refuses 2 "$count" bench claim --size 4M --fill empty --count "$count"
done
for writers in -1 abc 99999999; do
	refuses 2 "$writers" bench claim --size 4M --fill empty --writers "$writers"
done
for size in 0 -1 12Q 99999999999999999999G; do
	refuses 2 "$size" bench claim --size 4M --fill movable --run-size "$size"
done
for kind in sideways ''; do
	refuses 2 "$kind" bench claim --size 4M --fill movable --destination "$kind"
done
refuses 2 --destination bench claim --size 4M --fill empty --destination fresh
for order in -1 abc 99 99999999999999999999; do
	refuses 2 "$order" bench pages --order "$order" --pattern bulk --threads 1
done
for pattern in sideways ''; do
	refuses 2 "$pattern" bench pages --order 0 --pattern "$pattern" --threads 1
done
for threads in 0 -1 abc 99999999; do
	refuses 2 "$threads" bench pages --order 0 --pattern bulk --threads "$threads"
done

# ---- programs that can't be run, and things that can't be set up

refuses 127 no-such-program run --area cam=16M -- no-such-program
refuses 127 ./no-such-file run --area cam=16M -- ./no-such-file
echo 'echo "not executable"' >plain-file
refuses 126 ./plain-file run --area cam=16M -- ./plain-file
refuses 126 "$tmp" run --area cam=16M -- "$tmp"
refuses 125 '' run --pool 1000000G -- touch ran
refuses 125 '' run --area cam=1000000G -- touch ran
refuses 125 no-such-folder run --area cam=16M --report no-such-folder/report -- touch ran

# a pool that can't hold its areas: refused, as usage or while setting up
berth run --pool 16M --area cam=64M -- touch ran
if { [ $status -eq 2 ] || [ $status -eq 125 ]; } && [ -s err ] && [ ! -e ran ]; then
	pass
else
	miss "an area larger than the pool" "status $status"
fi

# ---- the report

berth run --area cam=16M --json --report report -- sh -c 'echo out; echo err >&2; exit 3'
if [ $status -eq 3 ] && [ "$(cat out)" = out ] && grep -qx err err; then
	pass
else
	miss "berth run passes status and output through" "status $status: $(cat out)"
fi
check "the report" report '
report = json.loads(text)
fields(report, "claims_ok claims_failed p50_us p99_us max_us cpu_ms moved_bytes lent_bytes_mean lent_bytes_max"
       " pool_share stall_max_us largest_free_bytes processes claims_passed_on nobody_to_ask pools main_pid")
need((report["claims_ok"], report["claims_failed"]) == (0, 0), "claims that nobody made")
number(report, "cpu_ms", "moved_bytes", "lent_bytes_mean", "lent_bytes_max")
need(isinstance(report["processes"], list) and report["processes"], "no processes")
need(all(isinstance(p, dict) for p in report["processes"]), "a process is no object")
'
berth run --area cam=16M -- printf hello
if [ $status -eq 0 ] && [ "$(cat out)" = hello ] && [ -s err ]; then
	pass
else
	miss "a report for people on stderr" "status $status, stdout: $(cat out)"
fi
berth run --area cam=16M --json -- true
sed -n '/^{/,$p' err >json
check "a JSON report on stderr" json 'fields(json.loads(text), "claims_ok processes")'

berth run --config 'areas=a:2M@96M;b:8M,lend=last,keep=1M default=b' --claim 8M@0 --json -- sleep 0.5
check "areas by a configuration" err 'need(lines[0]["claims_ok"] == 1, "no claim out of the default area")'

berth run --area cam=64M --claim 8M@50ms+50msx3 --claim 4M@0.1+0.05 --json --report report -- sleep 1.5
[ $status -eq 0 ] || miss "claims while sleep runs" "status $status"
check "claims while sleep runs" report '
report = json.loads(text)
need((report["claims_ok"], report["claims_failed"]) == (4, 0), "%d claims and %d failures, not 4 and 0" % (report["claims_ok"], report["claims_failed"]))
number(report, "p50_us", "p99_us", "max_us")
need(report["p50_us"] <= report["p99_us"] <= report["max_us"], "percentiles out of order")
'
berth run --area cam=64M --claim '8M@0+20msx*' --json --report report -- sleep 1
check "claims until the end" report '
report = json.loads(text)
need(report["claims_ok"] >= 5 and report["claims_failed"] == 0, "%d claims, %d failures" % (report["claims_ok"], report["claims_failed"]))
'
# larger than its area: refused at once, or made, failed and explained; never silent, and the program lives
rm -f report
berth run --area cam=16M --claim 64M@0 --json --report report -- sh -c 'sleep 0.5; exit 4'
if [ $status -eq 2 ] && [ -s err ]; then
	pass
elif [ $status -eq 4 ]; then
	check "a claim larger than the area" report '
need(json.loads(text)["claims_failed"] == 1, "the claim that can never fit did not fail")
need("2big" in text.lower() or "never" in text.lower() or "too large" in text.lower(), "no reason is given")
'
else
	miss "a claim larger than the area" "status $status"
fi

# ---- the benchmarks' JSON

claim_fields="bench size_bytes fill run_bytes writers count ok failed min_us p50_us p99_us max_us touch_us moved_bytes stall_p99_us stall_max_us memcpy_us_per_mib"
claim_check='
need(len(lines) >= 1 and len(lines) == len(text.splitlines()), "not one JSON object a line")
for line in lines:
    fields(line, claim_fields)
    need(line["bench"] == "claim" and line["size_bytes"] == size << 20 and line["fill"] == fill, "wrong parameters")
    need(line["count"] == 3 and line["ok"] + line["failed"] == 3, "count is not ok + failed")
    number(line, "moved_bytes", "memcpy_us_per_mib")
    if line["ok"]:
        number(line, "min_us", "p50_us", "p99_us", "max_us", "touch_us")
        need(line["min_us"] <= line["p50_us"] <= line["p99_us"] <= line["max_us"], "percentiles out of order")
    if fill == "empty":
        need(line["failed"] == 0 and line["moved_bytes"] == 0, "an empty area: nothing can fail, nothing can move")
    if fill == "movable":
        need(line["failed"] == 0 and line["moved_bytes"] > 0, "an area full of movable memory: moved and granted")
    if writers:
        need(line["writers"] == writers, "wrong number of writers")
        number(line, "stall_p99_us", "stall_max_us")
'
for fill in empty movable pinned; do
	berth bench claim --size 4M --fill $fill --count 3 --json
	[ $status -eq 0 ] || miss "bench claim --fill $fill" "status $status"
	check "bench claim --fill $fill --json" out "claim_fields='$claim_fields'; size=4; fill='$fill'; writers=0
$claim_check"
done
berth bench claim --size 4M --fill movable --run-size 64K --writers 1 --count 3 --json
check "bench claim --run-size 64K --writers 1 --json" out "claim_fields='$claim_fields'; size=4; fill='movable'; writers=1
$claim_check
    need(line['run_bytes'] == 65536, 'wrong run size')"
for destination in resident fresh scattered; do
	# Of several pairs of chunks each must be all in the area again before the next claim.
	size=4
	[ $destination != scattered ] || size=16
	berth bench claim --size ${size}M --fill movable --run-size 4K --destination $destination --verify --count 3 --json
	check "bench claim --destination $destination --json" out "claim_fields='$claim_fields'; size=$size; fill='movable'; writers=0
$claim_check
    need(line['destination'] == '$destination' and line['run_bytes_mean'] == 4096, 'another destination, or larger runs')
    number(line, 'beyond_memcpy_us_per_page', 'cpu_us')"
done
berth bench claim --size 4M --fill movable --mover userfaultfd-unwatched --writers 1 --verify --count 3 --json
if [ $status -eq 0 ] && grep -q '"mover": *"userfaultfd-unwatched"' out; then
	pass
elif grep -q EPERM err; then
	pass # not for this user
else
	miss "bench claim --mover userfaultfd-unwatched" "status $status"
fi
berth bench claim --size 4M --fill empty --count 3
if [ $status -eq 0 ] && [ -s out ]; then pass; else miss "bench claim for people" "status $status"; fi

for pattern in bulk repeat rand; do
	for args in "0 1" "0 2" "9 1"; do
		# shellcheck disable=SC2086
		set -- $args
		berth bench pages --order "$1" --pattern $pattern --threads "$2" --json
		[ $status -eq 0 ] || miss "bench pages --order $1 --pattern $pattern --threads $2" "status $status"
		check "bench pages --order $1 --pattern $pattern --threads $2 --json" out "
need(len(lines) >= 1 and len(lines) == len(text.splitlines()), 'not one JSON object a line')
for line in lines:
    fields(line, 'bench order pattern threads stack_ns')
    need((line['bench'], line['order'], line['pattern'], line['threads']) == ('pages', $1, '$pattern', $2), 'wrong parameters')
    number(line, 'stack_ns')
    times = [name for name in ('alloc_ns', 'free_ns', 'pair_ns') if line.get(name) is not None]
    need(('pair_ns' in times) or ('alloc_ns' in times and 'free_ns' in times), 'no times')
    number(line, *times)
    need(line.get('failed', 0) == 0, 'failures')
"
	done
done
berth bench pages --order 0 --pattern bulk --threads 1
if [ $status -eq 0 ] && [ -s out ]; then pass; else miss "bench pages for people" "status $status"; fi

berth bench frag --memory 64M --ops 200000 --json
[ $status -eq 0 ] || miss "bench frag" "status $status"
check "bench frag --json" out "
need([line['start'] for line in lines] == ['packed', 'random'], 'not both cases')
for line in lines:
    fields(line, 'bench start live_percent ops batch start_blocks free_blocks ideal_blocks percent ns memory_bytes seed')
    number(line, 'ns')
    need(line['bench'] == 'frag' and line['ideal_blocks'] > 0, 'wrong parameters')
    need(line['free_blocks'] >= line['ideal_blocks'] - 1, 'blocks are lost')
"
berth bench frag --start random --live 30 --batch 500 --memory 64M
if [ $status -eq 0 ] && [ -s out ]; then pass; else miss "bench frag for people" "status $status"; fi

for pinned in 0 20; do
	berth bench compact --memory 64M --pinned $pinned --json
	[ $status -eq 0 ] || miss "bench compact --pinned $pinned" "status $status"
	check "bench compact --pinned $pinned --json" out "
need(len(lines) == 1, 'not one JSON object')
fields(lines[0], 'bench live_percent pinned start_blocks free_blocks ideal_blocks percent moved_pages least_pages moved_factor total_ms ns_per_page order9_us memory_bytes seed')
need($pinned or (lines[0]['percent'] >= 98 and lines[0]['moved_factor'] <= 1.1), 'not compacted')
"
done
berth bench compact --memory 64M
if [ $status -eq 0 ] && [ -s out ]; then pass; else miss "bench compact for people" "status $status"; fi
for args in "frag --start sideways" "frag --live 100" "frag --memory 1M" "compact --live 0" "compact now"; do
	# shellcheck disable=SC2086
	berth bench $args
	if [ $status -eq 2 ] && [ -s err ]; then pass; else miss "bench $args" "status $status"; fi
done

finish
