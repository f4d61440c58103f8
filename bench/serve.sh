#!/usr/bin/env bash
# Compares `weir serve` with one acquire and one release per request to `wasmtime serve -Scli` with the same component without
# flow control. Interleaved pairs under the same load; prints `name value` lines, last the median of the ratios.
#
#   bench/serve.sh [PAIRS=9] [SECONDS=3]
#
# Needs wrk (Debian: apt-get install wrk). wasmtime is the package in tests/wasmtime, or the program that WASMTIME names. Load and
# servers share this machine: only the ratio means something, and only on a machine that does nothing else.
set -euo pipefail

pairs=${1:-9}
seconds=${2:-3}
bench=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$bench")
target=${CARGO_TARGET_DIR:-$root/target}
weir=$target/release/weir
wasmtime=${WASMTIME:-$target/release/wasmtime}
scratch=$(mktemp -d)
server=

stop() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
    server=
}
trap 'stop; rm -rf "$scratch"' EXIT

command -v wrk >/dev/null || { echo "bench/serve.sh: wrk is missing. Install it: apt-get install wrk" >&2; exit 2; }

# In one build: both on the same wasmtime, of the same features.
packages=(-p weir)
[ -n "${WASMTIME:-}" ] || packages+=(-p weir-wasmtime-serve)
(cd "$root" && cargo build --quiet --release --locked "${packages[@]}")
(cd "$bench/guests" && cargo build --quiet --release --locked --target wasm32-wasip2)
guests=$bench/guests/target/wasm32-wasip2/release

# await_line PATTERN: sets `address` to what the pattern captures in the server's output.
await_line() {
    for _ in $(seq 300); do
        address=$(sed -n "s|.*$1.*|\1|p" "$scratch/server" | head -n 1)
        [ -n "$address" ] && return
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    cat "$scratch/server" >&2
    exit 1
}

# load: sets `rate` to requests a second; any answer but 200 or a broken connection fails the run.
load() {
    wrk -t1 -c32 -d1s "$address" >/dev/null
    wrk -t1 -c32 -d"${seconds}s" --latency "$address" >"$scratch/load"
    if grep -Eq 'Non-2xx|Socket errors' "$scratch/load"; then
        cat "$scratch/load" >&2
        exit 1
    fi
    rate=$(awk '/^Requests\/sec/ { print $2 }' "$scratch/load")
    p99=$(awk '/^ *99%/ { print $2 }' "$scratch/load")
}

run_weir() {
    "$weir" serve -c "$bench/weir.toml" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >"$scratch/server" 2>&1 &
    server=$!
    await_line 'ingress \(http://[0-9.:]*\)'
    load
    stop
}

run_wasmtime() {
    "$wasmtime" serve -Scli --addr 127.0.0.1:0 "$guests/weir_bench_plain.wasm" >"$scratch/server" 2>&1 &
    server=$!
    await_line '\(http://[0-9.:]*\)'
    load
    stop
}

median() {
    sort -n | awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'
}

echo "serve_pairs $pairs"
for pair in $(seq "$pairs"); do
    # Who goes first alternates, so that a drift of the machine favours neither.
    if [ $((pair % 2)) -eq 1 ]; then
        run_wasmtime; peer=$rate; peer_p99=$p99
        run_weir; ours=$rate; our_p99=$p99
    else
        run_weir; ours=$rate; our_p99=$p99
        run_wasmtime; peer=$rate; peer_p99=$p99
    fi
    awk -v ours="$ours" -v peer="$peer" 'BEGIN { printf "%.4f\n", ours / peer }' >>"$scratch/ratios"
    echo "$ours" >>"$scratch/ours"
    echo "$peer" >>"$scratch/peer"
    echo "pair $pair: weir $ours req/s, p99 $our_p99; wasmtime $peer req/s, p99 $peer_p99" >&2
done
echo "serve_weir_requests_per_second $(median <"$scratch/ours")"
echo "serve_wasmtime_requests_per_second $(median <"$scratch/peer")"
echo "serve_ratio_median $(median <"$scratch/ratios")"
