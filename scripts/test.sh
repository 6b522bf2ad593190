#!/usr/bin/env bash
# The rings of tests. Without an argument: all, in the order lint, pure and
# namespaces (one run of go test), ipvs, lab. A skipped test is a failed test, but
# for `test.sh pure`, which leaves out what needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
# No test reaches beyond this machine: a missing image is asked for nowhere else.
export PODARIUM_EGRESS=loopback

# strict FILE: fails when the go test log in FILE shows a skipped test.
strict() {
  if grep -E '^\s*--- SKIP' "$1"; then
    echo "skipped tests count as failed" >&2
    return 1
  fi
}

# gotest ARGS…: go test in verbose form; on the terminal only what matters.
gotest() {
  local log status=0
  log=$(mktemp)
  go test -trimpath -v "$@" >"$log" 2>&1 || status=$?
  if [ $status -ne 0 ]; then
    # What failed and why, without the components' chatter; then the end of everything.
    grep -vE '=== (RUN|PAUSE|CONT|NAME)|^ *[0-9/]{10} [0-9:]{8} (DEBUG|INFO) | (WARN|INFO) etcd: |WARNING: \[core\]' "$log" |
      grep -E -B 25 '(^\s*--- FAIL|FAIL: |^panic:)' | cut -c -300 | tail -n 600
    tail -n 30 "$log"
  else
    grep -E '^(ok|FAIL|panic)' "$log" || true
    echo "$(grep -cE '^\s*--- PASS' "$log") passed, $(grep -cE '^\s*--- FAIL' "$log" || true) failed"
    [ "${STRICT:-yes}" = no ] || strict "$log" || status=1
  fi
  rm -f "$log"
  return $status
}

packages() { go list ./... | grep -vE '/test(/|$)'; }

lint() {
  go vet -trimpath ./...
  go tool -modfile=tools/go.mod golangci-lint run
  test -z "$(gofmt -l $(git ls-files '*.go'))"
}

pure() { STRICT=no gotest -short $(packages); }

# netns runs everything: pure tests too, and those which need root and a
# network namespace; go test cannot tell them apart by package.
netns() { gotest $(packages); }

# ipvs runs what needs a kernel with IPVS in a virtual machine. Only where no
# qemu can be installed it is left out.
ipvs() {
  if scripts/test-ipvs.sh possible; then
    scripts/test-ipvs.sh
  else
    echo "ipvs mode is not tested: there is no qemu-system-x86, and apt-get has none"
  fi
}

# registry brings Debian's docker-registry into bin/, for tests of pulls. It is not installed: the
# package would start a service on this machine.
registry() {
  if command -v docker-registry >/dev/null || [ -x bin/docker-registry ]; then return; fi
  local dir
  dir=$(mktemp -d)
  (
    cd "$dir"
    apt-get download -qq docker-registry 2>/dev/null || { apt-get update -qq && apt-get download -qq docker-registry; }
    dpkg-deb -x docker-registry_*.deb .
  )
  install -D "$dir/usr/bin/docker-registry" bin/docker-registry
  rm -r "$dir"
}

lab() {
  registry
  gotest -timeout 15m ./test/...
}

if [ $# -gt 0 ]; then
  "$1"
  exit
fi
lint
netns
ipvs
lab
