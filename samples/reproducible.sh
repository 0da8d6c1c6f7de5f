#!/usr/bin/env bash
# Builds what is handed out twice, from the committed sources, in two folders of other names and lengths, and compares the bytes.
# REPRODUCE says which programs: worker, gpu (both by default), all.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${REPRODUCE:-worker gpu}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
for place in one another/longer/place; do
  mkdir -p "$work/$place"
  git archive HEAD | tar -x -C "$work/$place"
  # shellcheck disable=SC2086 # One program a word.
  (cd "$work/$place" && unset CARGO_TARGET_DIR && time samples/static.sh $what)
done
cd "$work/one"
files=$(find dist -type f | sort)
# shellcheck disable=SC2086 # One file a word.
sha256sum $files
different=0
for file in $files; do
  if ! cmp "$work/one/$file" "$work/another/longer/place/$file"; then
    different=1
  fi
  # Whoever builds it elsewhere must not find this machine's folders in it.
  if grep -qaF -e "$work" -e "${CARGO_HOME:-$HOME/.cargo}/registry" "$file"; then
    echo "$file holds names of folders of this machine" >&2
    different=1
  fi
done
[ "$different" = 0 ] && echo "both builds are the same, byte by byte"
