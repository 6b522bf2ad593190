#!/usr/bin/env bash
# Figures of this machine: start, memory, pods, requests, names. Ratios are of
# one run. `scripts/bench.sh PATTERN` runs the benchmarks which match.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 PODARIUM_EGRESS=loopback
if ! command -v dnsperf >/dev/null; then
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends dnsperf >/dev/null
fi
status=0
go test -p 1 -trimpath -run '^$' -bench "${1:-.}" -benchtime 3x -timeout 20m ./cni/ ./dns/ ./proxy/scale/ ./test/... || status=$?
# The packets of ipvs mode, in a kernel that has IPVS.
if grep -qE "${1:-.}" <<<$'FirstPacket\nClusterIP'; then
  if scripts/test-ipvs.sh possible; then
    scripts/test-ipvs.sh bench || status=$?
  else
    echo "ipvs mode is not measured: there is no qemu-system-x86, and apt-get has none"
  fi
fi
exit $status
