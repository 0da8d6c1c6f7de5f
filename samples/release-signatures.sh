#!/usr/bin/env bash
# Tries the commands of docs/releases.md that sign with minisign: signs a release in a folder of its own with a key of its own, checks
# it, and that another byte or another key is refused.
set -euo pipefail
minisign=${MINISIGN:-minisign}
command -v "$minisign" >/dev/null 2>&1 || { echo "minisign is missing (Debian: apt-get install minisign)" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir -p dist/amd64 dist/sbom keys
echo program >dist/amd64/framewake-worker
echo bill >dist/sbom/framewake-worker.cdx.json
# -W: a key without a password, because nobody is here to type one.
"$minisign" -G -W -p keys/framewake.pub -s keys/framewake.key >/dev/null
"$minisign" -G -W -p keys/other.pub -s keys/other.key >/dev/null
cd dist && sha256sum amd64/* sbom/* >SHA256SUMS
"$minisign" -S -s ../keys/framewake.key -m SHA256SUMS -t "framewake 0.1.0"
"$minisign" -V -p ../keys/framewake.pub -m SHA256SUMS
sha256sum --check SHA256SUMS
if "$minisign" -V -p ../keys/other.pub -m SHA256SUMS; then echo "another key was taken" >&2; exit 1; fi
echo other >amd64/framewake-worker
if sha256sum --check --quiet SHA256SUMS; then echo "another program was taken" >&2; exit 1; fi
echo >>SHA256SUMS
if "$minisign" -V -p ../keys/framewake.pub -m SHA256SUMS; then echo "other digests were taken" >&2; exit 1; fi
echo "signed, checked, and forgeries refused"
