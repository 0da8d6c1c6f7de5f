#!/usr/bin/env bash
# Installs what the demo (setup.sh demo) or the tests (setup.sh test) need and this machine lacks.
# Python packages go into .venv and touch nothing else; only the tests use the system's package
# manager, for three renderers. What is there already is left alone, so a second run needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-demo}
missing=()

say() { printf '%s\n' "$*" >&2; }
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$1: $2"); }

need cargo "the Rust toolchain, 1.95 or newer: https://rustup.rs"
need gcc "a C compiler (Debian: apt-get install gcc libc6-dev)"
if command -v cargo >/dev/null 2>&1; then
  version=$(cargo --version | cut -d' ' -f2)
  if [ "$(printf '%s\n1.95.0\n' "$version" | sort -V | head -n1)" != 1.95.0 ]; then
    missing+=("cargo 1.95 or newer: this one is $version (rustup update)")
  fi
fi

# Blender 5.0 as a Python module is built for Python 3.11, and for no other.
python=
for name in python3.11 python3; do
  if command -v "$name" >/dev/null 2>&1 && "$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    python=$name
    break
  fi
done
if [ -z "$python" ] && [ ! -x .venv/bin/python3 ]; then
  missing+=("python3.11: Blender's module runs on no other version (Debian 12: apt-get install python3 python3-venv)")
elif [ -n "$python" ] && ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  missing+=("python3-venv (Debian: apt-get install python3-venv)")
fi
if [ ${#missing[@]} -gt 0 ]; then
  say "This machine lacks:"
  printf '  %s\n' "${missing[@]}" >&2
  exit 1
fi

requirements=samples/requirements.txt
if [ "$what" = demo ]; then
  wanted=$(sed -n '1,/^# Only the tests/p' $requirements | grep -v '^#')
else
  wanted=$(grep -v '^#' $requirements)
fi
stamp=.venv/framewake-$what
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  free_kib=$(df -Pk . | awk 'NR==2 {print $4}')
  if [ "$free_kib" -lt 6000000 ]; then
    say "Only $((free_kib / 1000)) MB are free here; Blender and the build need 6 GB."
    exit 1
  fi
  say "Installing into .venv: $(printf '%s' "$wanted" | tr '\n' ' ')"
  [ -x .venv/bin/python3 ] || "$python" -m venv .venv
  # shellcheck disable=SC2086 # One package a word.
  if ! .venv/bin/python3 -m pip install --quiet --disable-pip-version-check $wanted; then
    say "The packages above could not be had. Is there a network? Nothing but .venv was touched."
    exit 1
  fi
  ln -sf "$(.venv/bin/python3 -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')" .venv/bin/ffmpeg
  printf '%s' "$wanted" > "$stamp"
fi

if ! problem=$(.venv/bin/python3 -c 'import bpy' 2>&1); then
  say "Blender's module does not load: $(printf '%s' "$problem" | tail -n1)"
  say "It needs a few libraries of the system (Debian: apt-get install libx11-6 libxi6 libxxf86vm1 libxfixes3 libxrender1 libgl1 libegl1 libxkbcommon0 libsm6 libice6)."
  exit 1
fi

[ "$what" = test ] || exit 0
packages=()
command -v tachyon-nox >/dev/null 2>&1 || packages+=(tachyon-bin-nox)
command -v povray >/dev/null 2>&1 || packages+=(povray povray-includes)
command -v blender >/dev/null 2>&1 || packages+=(blender)
if [ ${#packages[@]} -gt 0 ]; then
  as_root=
  [ "$(id -u)" = 0 ] || as_root="sudo -n"
  say "Installing renderers for the tests: ${packages[*]}"
  if ! { $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >/dev/null; then
    say "These renderers could not be installed: ${packages[*]}. Install them as root, or the tests that use them fail:"
    say "  apt-get install --no-install-recommends ${packages[*]}"
    exit 1
  fi
fi
