#!/usr/bin/env bash
# Installs the Debian packages that building and running needs and this machine
# lacks. Does nothing, and asks no mirror, when all are there.
set -euo pipefail

# program or file → package
declare -A needs=(
  [runc]=runc
  [iptables-restore]=iptables
  [nft]=nftables
  [ipset]=ipset
  [conntrack]=conntrack
  [ip]=iproute2
  [nsenter]=util-linux
  [ps]=procps
  [modprobe]=kmod
  [curl]=curl
  [dig]=dnsutils
)

missing=()
for program in "${!needs[@]}"; do
  command -v "$program" >/dev/null || missing+=("${needs[$program]}")
done
# busybox must be the static one: it is what the example image is made of.
if ! dpkg -s busybox-static >/dev/null 2>&1; then
  missing+=(busybox-static)
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" != 0 ]; then
  echo "missing: ${missing[*]}; install them with: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
