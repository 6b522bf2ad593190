#!/usr/bin/env bash
# Figures of this machine: start, memory, pods, requests. Ratios are of one run.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
exec go test -trimpath -run '^$' -bench "${1:-.}" -benchtime 3x -timeout 20m ./test/
