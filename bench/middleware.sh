#!/usr/bin/env bash
# Compares a component with `weir-middleware` composed in front of it to the same component alone, both on `weir serve`. Interleaved
# pairs under the same load; prints `name value` lines, last the median of the ratios.
#
#   bench/middleware.sh [PAIRS=9] [SECONDS=3]
#
# Needs wrk (Debian: apt-get install wrk). Load and server share this machine: only the ratio means something.
set -euo pipefail

pairs=${1:-9}
seconds=${2:-3}
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

command -v wrk >/dev/null || { echo "bench/middleware.sh: wrk is missing. Install it: apt-get install wrk" >&2; exit 2; }
(cd "$root" && cargo build --quiet --release --locked -p weir)
(cd "$bench/guests" && cargo build --quiet --release --locked --target wasm32-wasip2)
alone=$bench/guests/target/wasm32-wasip2/release/weir_bench_plain.wasm
"$weir" compose "$alone" -o "$scratch/composed.wasm" >"$scratch/world"

for app in alone composed; do
    path=$alone
    [ "$app" = alone ] || path=$scratch/composed.wasm
    cat >"$scratch/$app.toml" <<END
[[component]]
name = "app"
path = "$path"
route = "/..."
[[rule]]
pattern = "app"
concurrency = 1000
END
done

# run NAME: sets `rate` to requests a second; any answer but 200 or a broken connection fails the run.
run() {
    "$weir" serve -c "$scratch/$1.toml" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >"$scratch/server" 2>"$scratch/talk" &
    server=$!
    local address=
    for _ in $(seq 300); do
        address=$(sed -n 's/^ingress //p' "$scratch/server")
        [ -n "$address" ] && break
        kill -0 "$server" 2>/dev/null || { cat "$scratch/talk" >&2; exit 1; }
        sleep 0.1
    done
    wrk -t1 -c32 -d1s "$address" >/dev/null
    wrk -t1 -c32 -d"${seconds}s" --latency "$address" >"$scratch/load"
    if grep -Eq 'Non-2xx|Socket errors' "$scratch/load"; then
        cat "$scratch/load" "$scratch/talk" >&2
        exit 1
    fi
    rate=$(awk '/^Requests\/sec/ { print $2 }' "$scratch/load")
    stop
}

median() {
    sort -n | awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'
}

echo "middleware_pairs $pairs"
for pair in $(seq "$pairs"); do
    # Who goes first alternates, so that a drift of the machine favours neither.
    if [ $((pair % 2)) -eq 1 ]; then
        run alone; alone_rate=$rate
        run composed; composed_rate=$rate
    else
        run composed; composed_rate=$rate
        run alone; alone_rate=$rate
    fi
    awk -v ours="$composed_rate" -v peer="$alone_rate" 'BEGIN { printf "%.4f\n", ours / peer }' >>"$scratch/ratios"
    echo "$alone_rate" >>"$scratch/alone"
    echo "$composed_rate" >>"$scratch/composed"
    echo "pair $pair: composed $composed_rate req/s, alone $alone_rate req/s" >&2
done
echo "middleware_alone_requests_per_second $(median <"$scratch/alone")"
echo "middleware_composed_requests_per_second $(median <"$scratch/composed")"
echo "middleware_ratio_median $(median <"$scratch/ratios")"
