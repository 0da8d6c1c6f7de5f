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
