#!/usr/bin/env bash
# All tests, in the order of their cost. Called by `make test`, which installs what they need first.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$*"; }
# Said again at the end, where it is seen.
missing=.venv/framewake/missing
trap '[ ! -e $missing ] || { echo; cat $missing; } >&2' EXIT

step "format"
cargo fmt --all --check
step "direction of dependencies"
samples/directions.sh
step "what may come into the tree"
samples/deny.sh
step "clippy"
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
step "programs"
cargo build --workspace --bins --locked --quiet
step "tests"
if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run --workspace --locked
else
  echo "cargo-nextest is not installed (cargo install cargo-nextest --locked); cargo test runs the same tests"
  cargo test --workspace --locked -- --test-threads 2
fi
step "images"
# All but Blender's, which has a gigabyte: `make images`. Where there is no engine, they say so themselves.
lacking=$(samples/static.sh lacks | paste -sd ';')
mkdir -p .venv/framewake
if [ -z "$lacking" ]; then
  samples/static.sh
  said=.venv/framewake/images.log
  if cargo nextest --version >/dev/null 2>&1; then
    FRAMEWAKE_IMAGES=small cargo nextest run --workspace --locked --test images --no-capture 2>&1 | tee $said
  else
    FRAMEWAKE_IMAGES=small cargo test --workspace --locked --test images -- --test-threads 1 --nocapture 2>&1 | tee $said
  fi
  grep -h "NOT TESTED" $said | sort -u >>"$missing" || true
else
  echo "*** NOT TESTED: the images of dockerfiles/. They take what is not here: $lacking ***" | tee -a "$missing"
fi
