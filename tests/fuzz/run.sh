#!/usr/bin/env bash
# Fuzzes every target for its share of MINUTES (60 in all), JOBS (2) at once, keeps what was worth keeping in
# tests/fuzz/corpus, and says what was done. Needs cargo-fuzz (cargo install cargo-fuzz --locked) and g++.
#   tests/fuzz/run.sh            every target
#   tests/fuzz/run.sh job wire   these
set -euo pipefail
cd "$(dirname "$0")/../.."
minutes=${MINUTES:-60} jobs=${JOBS:-2}
command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is missing: cargo install cargo-fuzz --locked" >&2; exit 1; }
work=$PWD/target/fuzz
mkdir -p "$work"
# Without a sanitizer: there is no unsafe code of ours to watch, and five times the speed.
cargo fuzz build --fuzz-dir tests/fuzz/targets --target-dir "$work/build" --sanitizer none >"$work/build.log" 2>&1 ||
  { tail -n 30 "$work/build.log" >&2; exit 1; }
programs=$(dirname "$(find "$work/build" -path '*/release/frames' -type f | head -n1)")
cargo build --quiet --package framewake-fuzz --bin corpus
corpus=target/debug/corpus
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <($corpus names)
# The larger the grammar the more there is to find.
weight() { case $1 in job | wire | verify) echo 3 ;; function | rules | frames) echo 2 ;; *) echo 1 ;; esac; }
weights=0
for target in "${targets[@]}"; do weights=$((weights + $(weight "$target"))); done

rm -rf "$work/corpus" "$work/small"
$corpus unpack "$work/corpus" >/dev/null
for target in $($corpus names); do mkdir -p "$work/small/$target" "$work/found/$target"; done

one() { # target, seconds
  # A slow input is a fault like any other: 30 s are far more than any may take, on a machine with other work too.
  "$programs/$1" "$work/corpus/$1" -max_total_time="$2" -timeout=30 -rss_limit_mb=2560 -max_len=16384 \
    -artifact_prefix="$work/found/$1/" -print_final_stats=1 >"$work/$1.log" 2>&1 || echo "$1" >>"$work/broken"
  "$programs/$1" -merge=1 -timeout=30 "$work/small/$1" "$work/corpus/$1" >>"$work/$1.merge.log" 2>&1 || true
}
export -f one
export programs work
rm -f "$work/broken"
for target in "${targets[@]}"; do
  echo "$target $((minutes * 60 * $(weight "$target") / weights))"
done | xargs -P "$jobs" -L 1 bash -c 'one "$0" "$1"'
# A target that was not run keeps what it has.
for target in $($corpus names); do
  [[ " ${targets[*]} " == *" $target "* ]] || cp "$work/corpus/$target"/* "$work/small/$target/"
done
$corpus pack "$work/small"

printf '\n%-10s %8s %12s %8s %8s %8s %9s\n' target seconds runs runs/s edges features crashes
for target in "${targets[@]}"; do
  log=$work/$target.log
  runs=$(sed -n 's/stat::number_of_executed_units: *//p' "$log")
  speed=$(sed -n 's/stat::average_exec_per_sec: *//p' "$log")
  seconds=$(sed -n 's/^Done [0-9]* runs in \([0-9]*\) second.*/\1/p' "$log")
  edges=$(grep -o 'cov: [0-9]*' "$log" | tail -n1 | cut -d' ' -f2)
  features=$(grep -o 'ft: [0-9]*' "$log" | tail -n1 | cut -d' ' -f2)
  crashes=$(find "$work/found/$target" -type f ! -name 'slow-unit-*' | wc -l)
  printf '%-10s %8s %12s %8s %8s %8s %9s\n' "$target" "${seconds:-?}" "${runs:-?}" "${speed:-?}" "${edges:-?}" "${features:-?}" "$crashes"
done
if [ -e "$work/broken" ]; then
  echo "broken: $(tr '\n' ' ' <"$work/broken"); the inputs are in $work/found, the reasons in $work/TARGET.log" >&2
  exit 1
fi
