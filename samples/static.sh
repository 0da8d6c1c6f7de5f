#!/usr/bin/env bash
# Builds what is handed out, into dist/ARCHITECTURE of this machine: the worker as one static file, and the program that reads GPUs
# for it. `gpu` or `worker`: only that; `all`: the scheduler and the command line too. The same sources give the same bytes,
# wherever they lie: nothing of the folders they are built in gets into them (docs/releases.md).
# `lacks`: builds nothing, and names what the static worker takes that is not here.
set -euo pipefail
cd "$(dirname "$0")/.."
case $(uname -m) in
x86_64) machine=x86_64 architecture=amd64 ;;
aarch64) machine=aarch64 architecture=arm64 ;;
*) echo "no images are made for $(uname -m)" >&2; exit 1 ;;
esac
target=$machine-unknown-linux-musl
lacks() {
  command -v musl-gcc >/dev/null 2>&1 || echo "musl-gcc (Debian: apt-get install musl-tools)"
  [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || rustup --quiet target add "$target" >&2 || echo "Rust's target $target"
}
if [ "$*" = lacks ]; then
  lacks
  exit
fi
wanted=" ${*:-worker gpu} "
[ "$wanted" != " all " ] || wanted=" worker gpu scheduler "
built=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cargo_home=$(realpath "${CARGO_HOME:-$HOME/.cargo}")
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
# One flag a line, so that folders may have spaces. The last that fits counts.
flags=("--remap-path-prefix=$cargo_home=/cargo" "--remap-path-prefix=$PWD=/framewake" "--remap-path-prefix=$built=/target")
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS
# The C code of crates names its files too.
export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$PWD=/framewake -ffile-prefix-map=$built=/target"
mkdir -p "dist/$architecture"
if [[ $wanted == *" worker "* ]]; then
  lacking=$(lacks)
  if [ -n "$lacking" ]; then
    printf 'the static worker takes what is not here:\n%s\n' "$lacking" >&2
    exit 1
  fi
  export "CC_${machine}_unknown_linux_musl=musl-gcc"
  cargo build --release --locked -p framewake-worker --target "$target"
  cp "$built/$target/release/framewake-worker" "dist/$architecture/"
fi
if [[ $wanted == *" gpu "* ]]; then
  cargo build --release --locked -p framewake-gpu
  cp "$built/release/framewake-gpu" "dist/$architecture/"
fi
if [[ $wanted == *" scheduler "* ]]; then
  cargo build --release --locked -p framewake-scheduler --bins
  cp "$built/release/framewake-scheduler" "$built/release/framewake" "dist/$architecture/"
fi
ls -l "dist/$architecture"
