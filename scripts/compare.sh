#!/usr/bin/env bash
# make compare: our proxy beside kube-proxy itself, in random situations.
#
#   scripts/compare.sh                                    a new seed
#   scripts/compare.sh -seed 7 -steps 40 -modes nftables  that one
#
# proxy/compare/kubeproxy/go.mod says which kube-proxy; it is built once, of some
# hundred modules, and kept in .cache.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 PODARIUM_EGRESS=loopback

echo "building kube-proxy from its source (minutes at first)"
go -C proxy/compare/kubeproxy build -trimpath -ldflags '-s -w' -o "$PWD/.cache/" tool
exec go test -trimpath -tags kubeproxy -count=1 -timeout 2h -v -run '^TestCompare$' ./proxy/compare "$@"
