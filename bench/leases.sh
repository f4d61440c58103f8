#!/usr/bin/env bash
# Compares acquires by the lease API of `weir serve` with a script of our own on redis-server that does the like: three limits, all
# or nothing, decided by the server's clock. 50 connections, one request at a time on each. In memory, with one worker as Redis has one
# thread (`one`) and with one for each processor (`memory`); with a data directory; and in batches. Turns alternate; prints
# `name value` lines: medians, and of ratios the median of those within a round.
#
#   bench/leases.sh [ROUNDS=9] [SECONDS=3]
#
# Both are asked by the same client, bench/load. Needs redis-server (Debian: apt-get install redis-server). Load and servers share this
# machine: only ratios within one run mean something. The processor time is that of the server alone, and means something on a busy
# machine too.
set -euo pipefail

rounds=${1:-9}
seconds=${2:-3}
connections=50
bench=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$bench")
weir=${CARGO_TARGET_DIR:-$root/target}/release/weir
load=${CARGO_TARGET_DIR:-$root/target}/release/weir-load
scratch=$(mktemp -d)
server=

stop() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
    server=
}
trap 'stop; rm -rf "$scratch"' EXIT

for tool in redis-server redis-cli; do
    command -v "$tool" >/dev/null || { echo "bench/leases.sh: $tool is missing. Install it: apt-get install redis-server" >&2; exit 2; }
done
(cd "$root" && cargo build --quiet --release --locked -p weir -p weir-load)

# Nothing here is ever refused: what is measured is the decision.
cat >"$scratch/weir.toml" <<'END'
[[rule]]
pattern = "*"
rates = ["1000000/1s:smooth:burst=1000000"]
[[rule]]
pattern = "*/*"
rates = ["1000000/1s:smooth:burst=1000000"]
[[rule]]
pattern = "*/*/*"
rates = ["1000000/1s:smooth:burst=1000000"]
END

# The generic cell rate algorithm over three keys: all are asked, then all are written.
cat >"$scratch/acquire.lua" <<'END'
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, tolerance = 1, 1000000
local arrivals = {}
for index, key in ipairs(KEYS) do
    local arrival = math.max(tonumber(redis.call('GET', key) or now), now)
    if arrival + interval - now > tolerance then
        return arrival + interval - now - tolerance
    end
    arrivals[index] = arrival + interval
end
for index, key in ipairs(KEYS) do
    redis.call('SET', key, string.format('%.0f', arrivals[index]), 'PX', 1000)
end
return 0
END

# cpu: processor seconds of the server so far.
cpu() {
    awk -v hertz="$(getconf CLK_TCK)" '{ print ($14 + $15) / hertz }' "/proc/$server/stat"
}

# measure NAME ADDRESS TARGET...: asks the server for a second, and then for one turn that is noted.
measure() {
    local name=$1 address=$2 before after
    shift 2
    "$load" --connections "$connections" --seconds 1 "$address" "$@" >/dev/null
    before=$(cpu)
    "$load" --connections "$connections" --seconds "$seconds" "$address" "$@" >"$scratch/load" ||
        { cat "$scratch/talk" >&2; exit 1; }
    after=$(cpu)
    awk '/^requests_per_second / { print $2 }' "$scratch/load" >>"$scratch/$name.rate"
    awk -v from="$before" -v to="$after" '/^requests / { printf "%.2f\n", (to - from) * 1e6 / $2 }' "$scratch/load" >>"$scratch/$name.cpu"
    awk '/^p99_ms / { print $2 }' "$scratch/load" >>"$scratch/$name.p99"
    echo "$name: $(tail -qn 1 "$scratch/$name.rate") req/s, $(tail -qn 1 "$scratch/$name.cpu") us of the server, p99 $(tail -qn 1 "$scratch/$name.p99") ms" >&2
}

# run_weir NAME COUNT SCOPES [OPTION...]
run_weir() {
    local name=$1 count=$2 scopes=$3 address=
    shift 3
    "$weir" serve -c "$scratch/weir.toml" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 "$@" >"$scratch/server" 2>"$scratch/talk" &
    server=$!
    for _ in $(seq 300); do
        address=$(sed -n 's|^ingress http://||p' "$scratch/server")
        [ -n "$address" ] && break
        kill -0 "$server" 2>/dev/null || { cat "$scratch/talk" >&2; exit 1; }
        sleep 0.1
    done
    measure "$name" "${address%/}" leases --count "$count" --scopes "$scopes"
    stop
}

run_redis() {
    local port=$((20000 + RANDOM % 10000))
    redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no >"$scratch/talk" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        redis-cli -p "$port" ping >/dev/null 2>&1 && break
        sleep 0.1
    done
    measure redis "127.0.0.1:$port" script "$(redis-cli -p "$port" script load "$(cat "$scratch/acquire.lua")")"
    stop
}

median() {
    sort -n | awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'
}

for round in $(seq "$rounds"); do
    run_redis
    run_weir one 1 1000 --workers 1
    run_weir memory 1 1000
    run_weir data 1 1000 --data "$scratch/data$round"
    run_weir batch 1000 64
done
echo "leases_rounds $rounds"
for name in redis one memory data batch; do
    for what in rate cpu p99; do
        declare "${name}_$what=$(median <"$scratch/$name.$what")"
    done
done
# ratio WHAT OURS THEIRS
ratio() {
    paste "$scratch/$2.$1" "$scratch/$3.$1" | awk '{ print $1 / $2 }' | median | awk '{ printf "%.3f\n", $1 }'
}
for name in redis one memory data; do
    for what in rate:requests_per_second cpu:cpu_us p99:p99_ms; do
        value=${name}_${what%%:*}
        echo "leases_${name}_${what##*:} ${!value}"
    done
done
for name in one memory; do
    for what in rate cpu p99; do
        echo "leases_${name}_to_redis_$what $(ratio "$what" "$name" redis)"
    done
done
echo "leases_memory_to_data_rate $(ratio rate memory data)"
echo "leases_batch_leases_per_second $(awk -v rate="$batch_rate" 'BEGIN { printf "%.0f\n", rate * 1000 }')"
