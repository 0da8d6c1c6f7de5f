#!/usr/bin/env bash
# Has debian:bookworm-slim in the Docker engine: from its registry, or where none is reached made of this machine's own
# Debian mirror, which takes root and debootstrap.
set -euo pipefail
image=debian:bookworm-slim
docker image inspect "$image" >/dev/null 2>&1 && exit 0
docker pull --quiet "$image" >/dev/null 2>&1 && exit 0
mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n1)
[ -n "$mirror" ] || mirror=$(awk '$1 == "deb" { print $2; exit }' /etc/apt/sources.list 2>/dev/null)
if [ "$(id -u)" != 0 ] || [ -z "$mirror" ]; then
  echo "The image $image can't be pulled, and to make it takes root on a Debian." >&2
  exit 1
fi
command -v debootstrap >/dev/null 2>&1 ||
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
echo "No registry is reached: making $image of this machine's Debian mirror (half a minute)" >&2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase bookworm "$root" "$mirror" >"$root.log" 2>&1 || { tail -n 5 "$root.log" >&2; exit 1; }
rm -rf "$root.log" "$root"/usr/share/{doc,man,info,locale}/* "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
# A machine that trusts certificates of its own reaches its mirrors by them.
mkdir -p "$root/usr/local/share/ca-certificates"
find /usr/local/share/ca-certificates -name '*.crt' -exec cp {} "$root/usr/local/share/ca-certificates/" \; 2>/dev/null || true
tar -C "$root" -c . | docker import -c 'CMD ["bash"]' - "$image" >/dev/null
