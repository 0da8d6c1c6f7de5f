#!/usr/bin/env bash
# Bills of materials (CycloneDX 1.6) into dist/sbom: of the programs in dist/ARCHITECTURE, and of those images of ours that a Docker
# engine has, where one answers.
set -euo pipefail
cd "$(dirname "$0")/.."
case $(uname -m) in
x86_64) architecture=amd64 ;;
aarch64) architecture=arm64 ;;
*) echo "no programs are made for $(uname -m)" >&2; exit 1 ;;
esac
python=.venv/bin/python3
[ -x "$python" ] || python=python3
for program in framewake-worker framewake-gpu framewake-scheduler framewake; do
  file=dist/$architecture/$program
  [ ! -f "$file" ] || "$python" samples/sbom.py program "$program" --file "$file" --into "dist/sbom/$program.cdx.json"
done
if docker version >/dev/null 2>&1; then
  for image in $(docker image ls --format '{{.Repository}}:{{.Tag}}' 'framewake/*'); do
    folder=$(mktemp -d)
    container=$(docker create "$image")
    docker export "$container" | tar -x -C "$folder" --wildcards --no-anchored \
      'var/lib/dpkg/status*' '*os-release' '*.dist-info/METADATA' 'framewake*' 2>/dev/null || true
    docker rm "$container" >/dev/null
    programs=()
    for program in framewake-worker framewake-gpu framewake-scheduler framewake; do
      [ -z "$(find "$folder" -name "$program" -type f)" ] || programs+=(--program "$program")
    done
    "$python" samples/sbom.py image "$image" --root "$folder" "${programs[@]}" --into "dist/sbom/$(tr '/:' '--' <<<"$image").cdx.json"
    rm -rf "$folder"
  done
else
  echo "no Docker engine answers: no bills of images" >&2
fi
ls -l dist/sbom
