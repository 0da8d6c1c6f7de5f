#!/usr/bin/env bash
# Installs what the demo (setup.sh demo) or the tests (setup.sh test) need and this machine lacks.
# Python packages go into .venv and touch nothing else; only the tests use the system's package
# manager, for three renderers, Prometheus and a Docker engine. What is there already is left alone, so a second run needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-demo}

say() { printf '%s\n' "$*" >&2; }

# Everything that is missing, said at once.
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$1: $2"); }

case "$(uname -s) $(uname -m)" in
"Linux x86_64") ;;
*) missing+=("Linux on x86-64: Blender's module is not made for $(uname -s) on $(uname -m)") ;;
esac
need gcc "a C compiler (Debian: apt-get install gcc libc6-dev)"
need cargo "the Rust toolchain, 1.95 or newer (https://rustup.rs)"
if command -v cargo >/dev/null 2>&1; then
  version=$(cargo --version | cut -d' ' -f2)
  if [ "$(printf '%s\n1.95.0\n' "$version" | sort -V | head -n1)" != 1.95.0 ]; then
    missing+=("cargo 1.95 or newer: this one is $version (rustup update)")
  fi
fi

# Blender 5.0 as a Python module is built for Python 3.11, and for no other.
is_3_11() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; }
find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.11*/bin/python3.11 \
    "${UV_PYTHON_INSTALL_DIR:-$HOME/.local/share/uv/python}"/cpython-3.11*/bin/python3.11; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 && is_3_11 "$candidate"; then
      echo "$candidate"
      return
    fi
  done
}
if [ -e .venv ] && ! is_3_11 .venv/bin/python3; then
  if [ -e .venv/framewake ]; then
    say "The Python of .venv has gone: making .venv anew."
    rm -rf .venv
  else
    missing+=("room for .venv: there is one that is not for Python 3.11; move it away")
  fi
fi
if ! is_3_11 .venv/bin/python3; then
  python=$(find_python)
  if [ -z "$python" ]; then
    missing+=("Python 3.11, and no other, for Blender's module (Debian 12: apt-get install python3 python3-venv; elsewhere: uv python install 3.11, or pyenv install 3.11; a python3.11 that is not on PATH: make PYTHON=/its/path …)")
  elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    missing+=("the venv module of $python (Debian: apt-get install python3-venv)")
  fi
fi
if [ ${#missing[@]} -gt 0 ]; then
  say "This machine lacks:"
  printf '  %s\n' "${missing[@]}" >&2
  exit 1
fi

# The lists are whole: what a package needs stands in them, and what is wanted without it does not bring it.
# In the order of installation. A stamp says what is there, so that a finished set-up touches no network;
# the folder is part of it, because programs in .venv hold its path.
lists=(samples/requirements.txt)
[ "$what" = demo ] || lists+=(samples/requirements-tests.txt)
for list in "${lists[@]}"; do
  stamp=.venv/framewake/$(basename "$list" .txt)
  wanted=$(echo "$PWD"; cat "$list")
  [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || continue
  free_mb=$(df -Pk . | awk 'NR == 2 { print int($4 / 1000) }')
  if [ "$free_mb" -lt 4000 ]; then
    say "Only $free_mb MB are free in $PWD: Blender and the build need 4000."
    exit 1
  fi
  say "Installing into .venv (once): $(sed -n 's/ --hash.*//p' "$list" | tr '\n' ' ')"
  [ -x .venv/bin/python3 ] || "$python" -m venv .venv
  if ! .venv/bin/python3 -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps --require-hashes -r "$list"; then
    say "These packages could not be had: is there a network, and does pip reach its index? Nothing but .venv was touched."
    exit 1
  fi
  mkdir -p .venv/framewake
  echo "$wanted" >"$stamp"
done
ffmpeg=$(echo .venv/lib/python3.11/site-packages/imageio_ffmpeg/binaries/ffmpeg-linux-*)
ln -sf "$PWD/$ffmpeg" .venv/bin/ffmpeg

# Blender's module wants a few libraries of a desktop, which a server may lack. On Debian and its kin
# they can be had without being root: downloaded and unpacked into .venv.
libraries="libbsd0 libgl1 libglvnd0 libglx0 libice6 libmd0 libsm6 libuuid1 libx11-6 libxau6 libxcb1 libxdmcp6 libxext6 libxfixes3 libxi6 libxkbcommon0 libxrender1"
fetch_libraries() {
  command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || return 1
  say "Blender needs libraries of a desktop: unpacking them into .venv (the system stays as it is)."
  local at=$PWD/.venv/libraries
  rm -rf "$at"
  mkdir -p "$at"/lists/partial "$at"/cache/archives/partial "$at"/debs "$at"/files
  local private=(-o "Dir::State::lists=$at/lists" -o "Dir::Cache=$at/cache" -o APT::Sandbox::User=)
  # shellcheck disable=SC2086 # One package a word.
  apt-get "${private[@]}" update -qq && (cd "$at/debs" && apt-get "${private[@]}" download -qq $libraries) || return 1
  local deb
  for deb in "$at"/debs/*.deb; do
    dpkg-deb -x "$deb" "$at/files" || return 1
  done
  rm -rf "$at/lists" "$at/cache" "$at/debs"
  cp samples/preload.py .venv/lib/python3.11/site-packages/framewake_preload.py
  echo "import framewake_preload" >.venv/lib/python3.11/site-packages/framewake_preload.pth
}
loads() { .venv/bin/python3 -c 'import bpy' 2>&1; }
if [ ! -e .venv/framewake/bpy-loads ]; then
  if ! problem=$(loads) && ! { fetch_libraries && problem=$(loads); }; then
    say "Blender's module does not load: $(printf '%s' "$problem" | tail -n1)"
    say "It needs libraries of the system (Debian: apt-get install --no-install-recommends $libraries)."
    exit 1
  fi
  touch .venv/framewake/bpy-loads
fi

[ "$what" = test ] || exit 0
renderers() {
  command -v tachyon-nox >/dev/null 2>&1 || echo tachyon-bin-nox
  command -v povray >/dev/null 2>&1 || echo povray povray-includes
  command -v blender >/dev/null 2>&1 || echo blender
  command -v prometheus >/dev/null 2>&1 || echo prometheus
  command -v chromedriver >/dev/null 2>&1 || echo chromium chromium-driver
}
# A Docker engine, for workers in containers. Only where this is root already: an engine is for root alone, and tests start
# one of their own.
if ! command -v dockerd >/dev/null 2>&1 && [ ! -x /usr/sbin/dockerd ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "Installing a Docker engine for the tests (it is not started)."
    # Debian's package starts the engine where there is an init system: not on this machine's account.
    (
      export DEBIAN_FRONTEND=noninteractive
      apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends docker.io iptables
    ) >.venv/framewake/docker.log 2>&1 || tail -n 5 .venv/framewake/docker.log >&2
  fi
  if [ ! -x /usr/sbin/dockerd ]; then
    say "*** NO DOCKER ENGINE: the tests of workers in containers are SKIPPED. It takes root: apt-get install docker.io iptables ***"
  fi
fi
# For the static worker in images.
if ! command -v musl-gcc >/dev/null 2>&1 && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends musl-tools >.venv/framewake/musl.log 2>&1 ||
    tail -n 5 .venv/framewake/musl.log >&2
fi
packages=$(renderers | tr '\n' ' ')
rm -f .venv/framewake/missing
[ -n "$packages" ] || exit 0
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo -n)
if command -v apt-get >/dev/null 2>&1 && "${as_root[@]}" true 2>/dev/null; then
  say "Installing renderers, Prometheus and a browser for the tests, as root: $packages"
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086 # One package a word.
  if ! { "${as_root[@]}" apt-get update -qq && "${as_root[@]}" apt-get install -y -qq --no-install-recommends $packages; } >.venv/framewake/apt.log 2>&1; then
    tail -n 5 .venv/framewake/apt.log >&2
  fi
fi
packages=$(renderers | tr '\n' ' ')
[ -n "$packages" ] || exit 0
cat >.venv/framewake/missing <<END
NOT INSTALLED: $packages
The tests that use these will FAIL; with tachyon missing that is most of tests/. As root:
  apt-get install --no-install-recommends $packages
END
cat .venv/framewake/missing >&2
