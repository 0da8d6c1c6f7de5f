#!/usr/bin/env bash
# Holds a running scheduler against proto/openapi.json with schemathesis: no answer of 500 or more, and none that the
# description lacks. EXAMPLES (20) requests an operation and kind, SEED (1) for the same ones again.
set -euo pipefail
cd "$(dirname "$0")/../.."
stamp=.venv/framewake/requirements-api
if [ "$(cat $stamp 2>/dev/null)" != "$(cat samples/requirements-api.txt)" ]; then
  .venv/bin/python3 -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r samples/requirements-api.txt
  cp samples/requirements-api.txt $stamp
fi
cargo build --quiet --package framewake-scheduler --bins
work=$(mktemp -d)
port=$(.venv/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
# Without slots nothing is rendered: jobs made up here must not run programs.
PATH=$PWD/.venv/bin:$PATH target/debug/framewake dev --data "$work/data" --listen "127.0.0.1:$port" --slots 0 \
  --functions samples/functions >"$work/log" 2>&1 &
farm=$!
trap 'kill $farm 2>/dev/null; wait $farm 2>/dev/null || true; rm -rf "$work"' EXIT
url=http://127.0.0.1:$port
for _ in $(seq 300); do
  .venv/bin/python3 -c "import urllib.request; urllib.request.urlopen('$url/readyz')" 2>/dev/null && break
  kill -0 $farm || { cat "$work/log" >&2; exit 1; }
  sleep 0.2
done
# That a body fits its schema does not make it good: the functions it names must be there, and more that no schema says.
# Streams of events have no end, so they have tests of their own.
.venv/bin/st run "$url/v1/openapi.json" --url "$url" --exclude-checks positive_data_acceptance --exclude-path-regex 'events$' --max-examples "${EXAMPLES:-20}" \
  --seed "${SEED:-1}" --request-timeout 20 --no-shrink --continue-on-failure --suppress-health-check all --no-color "$@"
