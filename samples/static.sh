#!/usr/bin/env bash
# Builds what images carry, into dist/ARCHITECTURE of this machine: the worker as one static file, and the program that
# reads GPUs for it. With `all`, the scheduler and the command line too.
set -euo pipefail
cd "$(dirname "$0")/.."
case $(uname -m) in
x86_64) machine=x86_64 architecture=amd64 ;;
aarch64) machine=aarch64 architecture=arm64 ;;
*) echo "no images are made for $(uname -m)" >&2; exit 1 ;;
esac
target=$machine-unknown-linux-musl
if ! command -v musl-gcc >/dev/null 2>&1; then
  echo "musl-gcc is missing (Debian: apt-get install musl-tools)" >&2
  exit 1
fi
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
  rustup target add "$target"
fi
built=${CARGO_TARGET_DIR:-target}
export "CC_${machine}_unknown_linux_musl=musl-gcc"
cargo build --release --locked -p framewake-worker --target "$target"
cargo build --release --locked -p framewake-gpu
mkdir -p "dist/$architecture"
cp "$built/$target/release/framewake-worker" "$built/release/framewake-gpu" "dist/$architecture/"
if [ "${1:-}" = all ]; then
  cargo build --release --locked -p framewake-scheduler --bins
  cp "$built/release/framewake-scheduler" "$built/release/framewake" "dist/$architecture/"
fi
ls -l "dist/$architecture"
