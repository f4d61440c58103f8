#!/usr/bin/env bash
# Compares acquires by the lease API of `weir serve` with a script of our own on redis-server that does the like: three limits, all
# or nothing, decided by the server's clock. 50 connections, one request at a time on each. In memory, with a data directory, and in
# batches. Turns alternate; prints `name value` lines: medians, and of ratios the median of those within a round.
#
#   bench/leases.sh [ROUNDS=9] [SECONDS=3]
#
# Needs wrk and redis-server (Debian: apt-get install wrk redis-server). Load and servers share this machine: only ratios within one
# run mean something. The processor time is that of the server alone, and means something on a busy machine too.
set -euo pipefail

rounds=${1:-9}
seconds=${2:-3}
connections=50
bench=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$bench")
weir=${CARGO_TARGET_DIR:-$root/target}/release/weir
scratch=$(mktemp -d)
server=

stop() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
    server=
}
trap 'stop; rm -rf "$scratch"' EXIT

for tool in wrk redis-server redis-benchmark redis-cli; do
    command -v "$tool" >/dev/null || { echo "bench/leases.sh: $tool is missing. Install it: apt-get install wrk redis-server" >&2; exit 2; }
done
(cd "$root" && cargo build --quiet --release --locked -p weir)

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

# A thousand requests, made once; each thread of wrk sends them in turn.
cat >"$scratch/load.lua" <<'END'
local requests, at = {}, 0
function init(arguments)
    local count, scopes = arguments[1] or "1", tonumber(arguments[2] or "1000")
    for index = 1, 1000 do
        local key = (index * 7919) % 1000
        local body = string.format('{"scope":"s%d","limit-key":"a%d/b%d","lease-time":"100ms","max-wait":"0s","count":%s,"least":%s}',
            key % scopes, key, key, count, count)
        requests[index] = wrk.format("POST", "/weir/v1/leases", {["content-type"] = "application/json", ["host"] = "localhost"}, body)
    end
end
function request()
    at = at % 1000 + 1
    return requests[at]
end
END

# cpu: processor seconds of the server so far.
cpu() {
    awk -v hertz="$(getconf CLK_TCK)" '{ print ($14 + $15) / hertz }' "/proc/$server/stat"
}

# measured NAME RATE CPU P99: notes one turn; CPU in microseconds a request, P99 in milliseconds.
measured() {
    echo "$2" >>"$scratch/$1.rate"
    echo "$3" >>"$scratch/$1.cpu"
    echo "$4" >>"$scratch/$1.p99"
    echo "$1: $2 req/s, $3 us of the server, p99 $4 ms" >&2
}

# run_weir NAME COUNT SCOPES [OPTION...]
run_weir() {
    local name=$1 count=$2 scopes=$3 before after
    shift 3
    "$weir" serve -c "$scratch/weir.toml" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 "$@" >"$scratch/server" 2>"$scratch/talk" &
    server=$!
    local address=
    for _ in $(seq 300); do
        address=$(sed -n 's/^ingress //p' "$scratch/server")
        [ -n "$address" ] && break
        kill -0 "$server" 2>/dev/null || { cat "$scratch/talk" >&2; exit 1; }
        sleep 0.1
    done
    wrk -t1 -c"$connections" -d1s -s "$scratch/load.lua" "$address" -- "$count" "$scopes" >/dev/null
    before=$(cpu)
    wrk -t1 -c"$connections" -d"${seconds}s" --latency -s "$scratch/load.lua" "$address" -- "$count" "$scopes" >"$scratch/load"
    after=$(cpu)
    if grep -Eq 'Non-2xx|Socket errors' "$scratch/load"; then
        cat "$scratch/load" "$scratch/talk" >&2
        exit 1
    fi
    measured "$name" "$(awk '/^Requests\/sec/ { print $2 }' "$scratch/load")" \
        "$(awk -v used="$before $after" '/ requests in / { split(used, at, " "); printf "%.2f", (at[2] - at[1]) * 1e6 / $1 }' "$scratch/load")" \
        "$(awk '/^ *99%/ { value = $2 + 0; if ($2 ~ /us$/) value /= 1000; else if ($2 !~ /ms$/) value *= 1000; print value }' "$scratch/load")"
    stop
}

run_redis() {
    local port=$((20000 + RANDOM % 10000)) before after requests=$((seconds * 40000)) sha
    redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no >"$scratch/talk" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        redis-cli -p "$port" ping >/dev/null 2>&1 && break
        sleep 0.1
    done
    sha=$(redis-cli -p "$port" script load "$(cat "$scratch/acquire.lua")")
    redis-benchmark -p "$port" -c "$connections" -n 20000 -r 1000 -q evalsha "$sha" 3 a:__rand_int__ b:__rand_int__ c:__rand_int__ >/dev/null
    before=$(cpu)
    redis-benchmark -p "$port" -c "$connections" -n "$requests" -r 1000 --csv evalsha "$sha" 3 a:__rand_int__ b:__rand_int__ c:__rand_int__ >"$scratch/load"
    after=$(cpu)
    # "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
    measured redis "$(tail -n 1 "$scratch/load" | awk -F '","' '{ print $2 }')" \
        "$(awk -v from="$before" -v to="$after" -v n="$requests" 'BEGIN { printf "%.2f", (to - from) * 1e6 / n }')" \
        "$(tail -n 1 "$scratch/load" | awk -F '","' '{ print $7 }')"
    stop
}

median() {
    sort -n | awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'
}

for round in $(seq "$rounds"); do
    run_redis
    run_weir memory 1 1000
    run_weir data 1 1000 --data "$scratch/data$round"
    run_weir batch 1000 64
done
echo "leases_rounds $rounds"
for name in redis memory data batch; do
    for what in rate cpu p99; do
        declare "${name}_$what=$(median <"$scratch/$name.$what")"
    done
done
# ratio WHAT OURS THEIRS
ratio() {
    paste "$scratch/$2.$1" "$scratch/$3.$1" | awk '{ print $1 / $2 }' | median | awk '{ printf "%.3f\n", $1 }'
}
echo "leases_redis_requests_per_second $redis_rate"
echo "leases_redis_cpu_us $redis_cpu"
echo "leases_redis_p99_ms $redis_p99"
echo "leases_memory_requests_per_second $memory_rate"
echo "leases_memory_cpu_us $memory_cpu"
echo "leases_memory_p99_ms $memory_p99"
echo "leases_memory_to_redis_rate $(ratio rate memory redis)"
echo "leases_memory_to_redis_cpu $(ratio cpu memory redis)"
echo "leases_memory_to_redis_p99 $(ratio p99 memory redis)"
echo "leases_data_requests_per_second $data_rate"
echo "leases_data_cpu_us $data_cpu"
echo "leases_data_p99_ms $data_p99"
echo "leases_memory_to_data_rate $(ratio rate memory data)"
echo "leases_batch_leases_per_second $(awk -v rate="$batch_rate" 'BEGIN { printf "%.0f\n", rate * 1000 }')"
