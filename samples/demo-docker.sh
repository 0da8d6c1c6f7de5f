#!/usr/bin/env bash
# A job in containers: images are built from dockerfiles/, a farm starts, containers rise from zero, one is killed in
# the middle, and nothing is left. Needs a Docker engine; where there is none and this is root, one is started.
set -euo pipefail
cd "$(dirname "$0")/.."
bold='' plain=''
[ ! -t 1 ] || { bold=$(printf '\033[1m') plain=$(printf '\033[0m'); }
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
give_up() { printf '%s\n' "$@" >&2; exit 1; }
export PATH="$PWD/.venv/bin:$PATH:/usr/sbin"
demo=$PWD/.demo/docker
frames=24
mkdir -p "$demo"

farm='' engine=''
stop_all() {
  [ -z "$farm" ] || { kill "$farm" 2>/dev/null || true; wait "$farm" 2>/dev/null || true; }
  [ -z "$engine" ] || { kill "$engine" 2>/dev/null || true; wait "$engine" 2>/dev/null || true; }
}
trap stop_all EXIT
trap 'exit 130' INT TERM

say "1/5  A Docker engine"
command -v docker >/dev/null 2>&1 || give_up "There is no docker client: install Docker (Debian: apt-get install docker.io)."
build_network=default
if ! docker info >/dev/null 2>&1; then
  if [ "$(id -u)" != 0 ] || ! command -v dockerd >/dev/null 2>&1; then
    give_up "No Docker engine answers: start one, or name it with DOCKER_HOST."
  fi
  export DOCKER_HOST=unix://$demo/engine.sock
  # Without a network of its own: it leaves this machine's alone.
  dockerd --data-root "$demo/engine" --exec-root "$demo/run" --pidfile "$demo/engine.pid" -H "$DOCKER_HOST" \
    --bridge=none --iptables=false --ip6tables=false >"$demo/engine.log" 2>&1 &
  engine=$!
  build_network=host
  for _ in $(seq 200); do
    ! docker info >/dev/null 2>&1 || break
    kill -0 "$engine" 2>/dev/null || give_up "$(tail -n 5 "$demo/engine.log")" "The engine did not start."
    sleep 0.1
  done
fi
echo "engine $(docker version --format '{{.Server.Version}}')"

say "2/5  Programs and images (minutes the first time)"
cargo build --workspace --bins --exclude framewake-tests --locked
command -v nats-server >/dev/null 2>&1 || samples/setup.sh demo
# Nothing is built again that is there; but a worker of an older commit would not be answered.
samples/static.sh
samples/base-image.sh
image=framewake/povray:3.7
architecture=amd64
[ "$(uname -m)" = x86_64 ] || architecture=arm64
# BuildKit makes only the stages that are needed. A newer client wants a plug-in for it, which Debian's does without.
client=docker
docker buildx version >/dev/null 2>&1 || [ ! -x /usr/bin/docker ] || client=/usr/bin/docker
build() { DOCKER_BUILDKIT=1 "$client" build --quiet --network "$build_network" "$@" . ; }
build -f dockerfiles/worker.Dockerfile --build-arg BUILT=prebuilt --build-arg TARGETARCH="$architecture" -t framewake/worker:0.1.0 >/dev/null
build -f dockerfiles/povray.Dockerfile -t "$image" >/dev/null
docker images --format '{{.Repository}}:{{.Tag}}  {{.Size}}' framewake/worker
docker images --format '{{.Repository}}:{{.Tag}}  {{.Size}}' framewake/povray

say "3/5  A farm whose workers are containers"
framewake=$PWD/target/debug/framewake
rm -rf "$demo/functions" "$demo/pools" "$demo/farm"
mkdir -p "$demo/functions" "$demo/pools"
sed "s|^driver:|image: $image\ndriver:|" samples/functions/povray.yaml >"$demo/functions/povray.yaml"
# The store is a folder of this user, and so are the workers that write it.
sed "s|^provider:|provider:\n  user: \"$(id -u):$(id -g)\"\n  host: ${DOCKER_HOST:-unix:///var/run/docker.sock}|" samples/pools/docker.yaml >"$demo/pools/docker.yaml"
: >"$demo/ready"
"$framewake" dev --data "$demo/farm" --listen 127.0.0.1:0 --slots 0 --functions "$demo/functions" --pools "$demo/pools" \
  >"$demo/ready" 2>"$demo/farm.log" &
farm=$!
for _ in $(seq 300); do
  FRAMEWAKE_URL=$(sed -n 's/^framewake is ready on \([^ ]*\).*/\1/p' "$demo/ready")
  [ -z "$FRAMEWAKE_URL" ] || break
  kill -0 "$farm" 2>/dev/null || give_up "$(cat "$demo/farm.log")" "The farm did not start: its last words are above."
  sleep 0.1
done
[ -n "$FRAMEWAKE_URL" ] || give_up "The farm is not ready after 30 s: see $demo/farm.log"
export FRAMEWAKE_URL
cat "$demo/ready"
containers() { docker ps -q --filter label=framewake.worker | wc -l; }
echo "containers before the job: $(containers)"

say "4/5  $frames frames; one container is killed in the middle"
cat >"$demo/job.yaml" <<END
name: orbit
steps:
  - name: render
    function: povray
    frames: 1-$frames
    inputs: [{ path: $PWD/samples/scenes/orbit.pov, as: orbit.pov }]
    parameters: { scene: orbit.pov, width: 320, height: 180 }
    output: frames/{frame:04}.png
END
job=$("$framewake" submit "$demo/job.yaml" --json | python3 -c 'import json, sys; print(json.loads(sys.stdin.readline())["id"])')
most=0 killed=''
while :; do
  read -r state done <<<"$(python3 samples/job_state.py "$job")"
  now=$(containers)
  [ "$now" -le "$most" ] || { most=$now; echo "containers: $most"; }
  if [ -z "$killed" ] && [ "$done" -ge 4 ] && [ "$now" -gt 0 ]; then
    killed=$(docker ps -q --filter label=framewake.worker | head -n1)
    docker kill "$killed" >/dev/null
    echo "killed container $killed after $done frames"
  fi
  case "$state" in
  succeeded) break ;;
  failed | canceled) give_up "the job $state: see $demo/farm.log" ;;
  esac
  sleep 0.2
done
left=$(docker ps -aq --filter label=framewake.worker | wc -l)
for _ in $(seq 120); do
  [ "$left" != 0 ] || break
  sleep 0.5
  left=$(docker ps -aq --filter label=framewake.worker | wc -l)
done
[ "$left" = 0 ] || give_up "$left containers are still there: see $demo/farm.log"

say "5/5  What it took"
python3 samples/job_state.py "$job" --report
plain=()
for _ in 1 2 3 4 5; do
  began=$(date +%s%N)
  docker run --rm --network host --read-only --tmpfs /tmp "$image" --version >/dev/null
  plain+=($((($(date +%s%N) - began) / 1000000)))
done
printf 'plain docker run of the same image, 5 times:       %s ms (median %s)\n' "${plain[*]}" "$(printf '%s\n' "${plain[@]}" | sort -n | sed -n 3p)"
echo "containers: 0, then $most, then $left; one was killed. Load of this machine: $(cut -d' ' -f1-3 /proc/loadavg)"
