#!/usr/bin/env bash
# The dashboards held against Grafana's own types. Called by `make dashboards-check`; fetches two packages with npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v npm >/dev/null || { echo "npm is missing: it brings Grafana's types" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-audit --no-fund --prefix "$folder" typescript@5 @grafana/schema@11
for file in charts/framewake/dashboards/*.json; do
  name=$(basename "$file" .json)
  { echo "import type { Dashboard } from '@grafana/schema';"; echo "export const dashboard: Dashboard ="; cat "$file"; } >"$folder/$name.ts"
done
(cd "$folder" && npx tsc --noEmit --strict --skipLibCheck --module esnext --moduleResolution bundler --target es2022 ./*.ts)
echo "the dashboards have the shape that Grafana expects"
