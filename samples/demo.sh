#!/usr/bin/env bash
# From a bare machine to a rendered animation: installs what is missing into .venv, builds, runs a whole
# farm on this machine, renders and encodes, and shows that nothing is left running.
set -euo pipefail
cd "$(dirname "$0")/.."
bold='' plain=''
[ ! -t 1 ] || { bold=$(printf '\033[1m') plain=$(printf '\033[0m'); }
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
give_up() { printf '%s\n' "$@" >&2; exit 1; }

say "1/5  What this machine lacks goes into .venv"
samples/setup.sh demo
export PATH="$PWD/.venv/bin:$PATH"
echo "$(nats-server --version), Blender $(sed -n 's/^bpy==\([^ ]*\).*/\1/p' samples/requirements.txt), $(ffmpeg -version | cut -d' ' -f1-3 | head -n1)"

say "2/5  Build (minutes the first time)"
cargo build --workspace --bins --exclude framewake-tests --locked
framewake=$PWD/target/debug/framewake

say "3/5  A scene, made by samples/scenes/make_castle.py"
mkdir -p .demo
python3 samples/scenes/make_castle.py .demo/castle.blend >.demo/scene.log 2>&1 ||
  give_up "$(tail -n 20 .demo/scene.log)" "The scene could not be made: .demo/scene.log has it all."
echo ".demo/castle.blend, $(wc -c <.demo/castle.blend) bytes"

say "4/5  A farm on this machine, and a job"
farm=
stop_farm() {
  if [ -n "$farm" ]; then
    # It lets its workers go, ends nats-server and then itself.
    kill "$farm" 2>/dev/null || true
    wait "$farm" 2>/dev/null || true
    farm=
  fi
}
trap stop_farm EXIT
trap 'exit 130' INT TERM
# A farm that was killed left its nats-server behind: the next one on the same folder takes it over.
if [ -e .demo/farm/nats.pid ]; then
  flock -n .demo/farm/lock true || give_up "A demo is running here already, in $PWD/.demo/farm."
else
  rm -rf .demo/farm
fi
: >.demo/ready
"$framewake" dev --data .demo/farm --listen 127.0.0.1:0 --functions samples/functions >.demo/ready 2>.demo/farm.log &
farm=$!
for _ in $(seq 300); do
  FRAMEWAKE_URL=$(sed -n 's/^framewake is ready on \([^ ]*\).*/\1/p' .demo/ready)
  [ -z "$FRAMEWAKE_URL" ] || break
  kill -0 "$farm" 2>/dev/null || give_up "$(cat .demo/farm.log)" "The farm did not start: its last words are above."
  sleep 0.1
done
[ -n "$FRAMEWAKE_URL" ] || give_up "The farm is not ready after 30 s: see .demo/farm.log"
export FRAMEWAKE_URL
cat .demo/ready
echo "Open it in a browser to see each frame as soon as it is done; afterwards: framewake dev --data .demo/farm"
workers() { "$framewake" workers --json | wc -l; }
echo "workers before the job: $(workers)"
echo
"$framewake" submit samples/jobs/castle.yaml --wait

say "5/5  Fetch, and back to zero"
out=.demo/castle
rm -rf "$out"
"$framewake" fetch latest "$out"
started=$("$framewake" functions list --json |
  python3 -c 'import json, sys; print(sum(json.loads(line)["workers"]["started_total"] for line in sys.stdin))')
# They leave after their linger time: ten seconds, see samples/functions.
left=$(workers)
for _ in $(seq 60); do
  [ "$left" != 0 ] || break
  sleep 0.5
  left=$(workers)
done
[ "$left" = 0 ] || give_up "$left workers are still there after 30 s: see .demo/farm.log"
stop_farm
cat <<END
frames:   $PWD/$out/frames ($(find "$out/frames" -type f | wc -l) files, each decoded and checked)
video:    $PWD/$out/castle.mp4 ($(wc -c <"$out/castle.mp4") bytes)
workers:  $started rose from zero, $left are left; the farm has stopped
Its database, store and logs are in $PWD/.demo/farm and .demo/farm.log
To look at it again, as a flip-book too, and open the address that it prints:
  PATH=$PWD/.venv/bin:\$PATH $framewake dev --data .demo/farm
END
