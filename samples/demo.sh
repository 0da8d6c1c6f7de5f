#!/usr/bin/env bash
# From a bare machine to a rendered animation: installs what is missing into .venv, builds, runs a whole
# farm on this machine, renders and encodes, and shows that nothing is left running.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "1/5  What is missing"
samples/setup.sh demo
echo "nats-server, Blender and ffmpeg are in .venv"
export PATH="$PWD/.venv/bin:$PATH"

say "2/5  Build"
cargo build --workspace --bins --exclude framewake-tests
bin=$PWD/target/debug

say "3/5  A scene: samples/scenes/make_castle.py"
mkdir -p .demo
python3 samples/scenes/make_castle.py .demo/castle.blend >.demo/scene.log 2>&1 || { cat .demo/scene.log; exit 1; }
ls -l .demo/castle.blend | awk '{print ".demo/castle.blend, " $5 " bytes"}'

say "4/5  A farm on this machine, and a job"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export FRAMEWAKE_URL=http://127.0.0.1:$port
"$bin/framewake" dev --data .demo/farm --listen "127.0.0.1:$port" --functions samples/functions >.demo/ready 2>.demo/farm.log &
farm=$!
trap 'kill $farm 2>/dev/null; wait $farm 2>/dev/null || true' EXIT
for _ in $(seq 200); do
  grep -q ready .demo/ready && break
  kill -0 $farm 2>/dev/null || { cat .demo/farm.log; exit 1; }
  sleep 0.1
done
cat .demo/ready
echo "workers before the job: $("$bin/framewake" workers --json | wc -l)"
"$bin/framewake" submit samples/jobs/castle.yaml --wait

say "5/5  Fetch, and back to zero"
out=.demo/castle
"$bin/framewake" fetch latest "$out"
started=$("$bin/framewake" functions list --json | python3 -c 'import json, sys; print(sum(json.loads(line)["workers"]["started_total"] for line in sys.stdin))')
count=1
for _ in $(seq 300); do
  count=$("$bin/framewake" workers --json | wc -l)
  [ "$count" = 0 ] && break
  sleep 0.1
done
echo "frames:  $PWD/$out/frames ($(ls $out/frames | wc -l) files)"
echo "video:   $PWD/$out/castle.mp4 ($(wc -c <$out/castle.mp4) bytes)"
echo "workers: $started rose from zero, $count are left"
kill $farm
wait $farm || true
trap - EXIT
[ "$count" = 0 ] || { echo "workers should have left by now: see .demo/farm.log" >&2; exit 1; }
echo "The farm has stopped. Play the video with any player; the farm's log is .demo/farm.log."
