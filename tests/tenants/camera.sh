#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Two programs share one pool: redis-server under a load that knows what it wrote
# (redis_keeper.py), and a camera (camera.c) that claims buffers of 128 MiB out of
# the same pool by libberth.
#
# First the camera takes 30 pictures. Then either of the two is killed (SIGKILL) at
# random moments. After the camera's death its range must be free again, and redis'
# data right. After redis' death the camera must be told, and its buffer be its own
# and right, before and after.
#
#   CAMERA_KILLS  how many moments, in all (default 8; 200 is the long form)
#   CAMERA_SEED   of the moments (default: the time; printed)

. "$(dirname "$0")/lib.sh"

need redis-server redis-cli
# However long the load runs, its data and a buffer have room (30000 keys are 1.2 GiB in the end).
tenant_begin 2G 192M
kills=${CAMERA_KILLS:-8}
RANDOM=${CAMERA_SEED:=$(($(now_ms) % 32768))}
mib=$((1 << 20))
server=0 redis=0 keeper=0 camera=0
cd "$tenant_tmp" || fail "no temporary directory"
sock=$tenant_tmp/s
export XDG_RUNTIME_DIR=$tenant_tmp # for the control sockets
chmod 700 "$tenant_tmp"

if [ -x "${BERTH_BUILD:-$tenant_root/build}/tests/camera" ]; then
	program=${BERTH_BUILD:-$tenant_root/build}/tests/camera
else
	skip "no $tenant_root/build/tests/camera (build it, or set BERTH_BUILD)"
fi

answers() { [ "$(redis-cli -s "$sock" ping 2>/dev/null)" = PONG ] || ! kill -0 $server 2>/dev/null; }
has_line() { grep -q "$1" "$2" 2>/dev/null; }
gone() {
	local state
	state=$(sed -n 's/^State:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null)
	[ -z "$state" ] || [ "${state:0:1}" = Z ]
}

# finished PID VARIABLE SECONDS NAME: its exit status
finished() {
	local rc=0
	{ # the shell says "Killed" here
		poll "$3" gone "$1" && wait "$1" || rc=$?
	} 2>/dev/null
	gone "$1" || fail "$4 (process $1) doesn't end: $(tail -n 3 "$tenant_tmp/$4.err" 2>/dev/null)"
	disown_pid "$1"
	printf -v "$2" '%s' $rc
}

start_redis() {
	rm -f "$sock" report
	"$BERTH" run --pool "$TENANT_POOL" --area "camera=$TENANT_AREA" --quiet --json --report "$tenant_tmp/report" -- \
		redis-server --port 0 --unixsocket "$sock" --dir "$tenant_tmp" --save '' --logfile redis.log \
		>server.out 2>server.err </dev/null &
	server=$!
	own_pid $server
	poll 60 answers || true
	redis=$(redis-cli -s "$sock" info server 2>/dev/null | tr -d '\r' | sed -n 's/^process_id://p')
	[ -n "$redis" ] || fail "redis-server doesn't start: $(tail -n 5 server.err redis.log)"
	own_pid "$redis"
}

# start_keeper KEYS: waits until all of them are written
start_keeper() {
	"$PYTHON" "$tenant_here/redis_keeper.py" "$sock" "$1" "$RANDOM" >keeper.out 2>keeper.err </dev/null &
	keeper=$!
	own_pid $keeper
	poll 60 has_line ready keeper.out || fail "the load doesn't start: $(tail -n 3 keeper.err)"
}

# start_camera OPTION...
start_camera() {
	: >camera.out
	"$program" "$redis" "$@" >camera.out 2>camera.err </dev/null &
	camera=$!
	own_pid $camera
}

# The data set is read back and compared; then redis ends by itself.
end_redis() {
	local status
	kill -TERM $keeper
	finished $keeper status 120 keeper
	[ "$status" = 0 ] || fail "$1: the data of redis: $(cat keeper.out keeper.err)"
	said=$(tail -n 1 keeper.out)
	redis-cli -s "$sock" shutdown nosave >/dev/null 2>&1
	finished $server status 60 server
	disown_pid "$redis"
	[ "$status" = 0 ] || fail "$1: redis-server ended with status $status: $(tail -n 5 server.err redis.log)"
}

random_pause() { sleep "0.$(printf '%03d' $((RANDOM % $1)))"; }

# ---- 30 pictures -----------------------------------------------------------------------------------

start_redis
start_keeper 30000
start_camera --claims 30 --size $((128 * mib)) --hold 20
finished $camera status 200 camera
[ "$status" = 0 ] || fail "the camera ended with status $status: $(cat camera.err)"
[ "$(grep -c '^released' camera.out)" = 30 ] || fail "the camera took $(grep -c '^released' camera.out) pictures, not 30"
end_redis "after 30 pictures"
check_report "$tenant_tmp/report"
say "$(cat camera.err); redis: $said; $report_line"

# ---- The camera is killed --------------------------------------------------------------------------

# Nearly all of the area can only be claimed when nothing of it is held any more.
after_cameras_death() {
	start_camera --claims 1 --size $((176 * mib)) --hold 0
	finished $camera status 60 camera
	[ "$status" = 0 ] || fail "kill $1 (seed $CAMERA_SEED): the dead camera's range isn't free: $(cat camera.err)"
	kill -0 $keeper 2>/dev/null || fail "kill $1 (seed $CAMERA_SEED): the data of redis: $(cat keeper.out keeper.err)"
}

camera_kills=$(((kills + 1) / 2)) held=0
start_redis
start_keeper 12000
for ((i = 1; i <= camera_kills; i++)); do
	start_camera --claims 1000 --size $((128 * mib)) --hold 100
	random_pause 400
	kill -KILL $camera
	finished $camera status 10 camera
	[ "$status" = 137 ] || fail "kill $i (seed $CAMERA_SEED): the camera had ended with status $status: $(cat camera.err)"
	[ "$(tail -n 1 camera.out | cut -d ' ' -f 1)" != claimed ] || held=$((held + 1))
	after_cameras_death $i
done
end_redis "after $camera_kills deaths of the camera (seed $CAMERA_SEED)"
say "the camera killed $camera_kills times, $held times with a buffer: its range was free again each time; redis: $said"

# ---- redis is killed -------------------------------------------------------------------------------

redis_kills=$((kills - camera_kills)) held=0
for ((i = 1; i <= redis_kills; i++)); do
	start_redis
	start_keeper 4000
	start_camera --claims 1000 --size $((128 * mib)) --hold 100
	random_pause 400
	kill -KILL "$redis"
	finished $camera status 30 camera
	[ "$status" = 3 ] || fail "kill $i (seed $CAMERA_SEED): the camera ended with status $status: $(cat camera.err)"
	grep -q '^ended while [0-9]* was held$' camera.out && held=$((held + 1))
	finished $keeper status 30 keeper
	[ "$status" = 3 ] || fail "kill $i (seed $CAMERA_SEED): the data of redis before: $(cat keeper.out keeper.err)"
	finished $server status 30 server
	[ "$status" = 137 ] || fail "kill $i (seed $CAMERA_SEED): berth run ended with status $status, redis with 137"
	disown_pid "$redis"
done
say "redis killed $redis_kills times, $held times while the camera had a buffer: told and right each time"
say "passed: seed $CAMERA_SEED"
