# Podarium. `make` lists the targets; `make demo` and `make test` need nothing
# but a fresh machine, root, and the package registries.

SHELL := /bin/bash
export CGO_ENABLED := 0
GO      ?= go
GOFLAGS += -trimpath
# kubectl tells its version from here, and every client its User-Agent; without, they know only that
# they are no release.
LDFLAGS := -s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 \
  -X k8s.io/client-go/pkg/version.gitVersion=v1.37.2 -X k8s.io/client-go/pkg/version.gitCommit=release
BIN     := bin
# bin/cni are the CNI plugins which go.mod names as tools: portmap stands behind hostPort, and the
# others are what the tests put in place of our own plugin.

.PHONY: help build demo test test-vms test-pure test-netns test-ipvs test-lab compare lint fmt bench clean setup

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what this machine lacks (Debian packages)
	@scripts/setup.sh

build: setup ## build bin/
	@mkdir -p $(BIN)
	$(GO) build $(GOFLAGS) -ldflags "$(LDFLAGS)" -o $(BIN)/ ./cmd/... ./examples/simpleservice
	$(GO) build $(GOFLAGS) -ldflags "-s -w" -o $(BIN)/cni/ tool

demo: build ## from a fresh machine to the demo: start a lab and tell the story
	@$(BIN)/podarium status >/dev/null 2>&1 || $(BIN)/podarium up
	@$(BIN)/podarium demo

test: build ## all tests: lint, pure, namespaces, ipvs mode, whole lab
	@scripts/test.sh

test-pure: ## tests which need no root, milliseconds each
	@scripts/test.sh pure

test-netns: setup ## tests in network namespaces of their own, as root
	@scripts/test.sh netns

test-ipvs: ## ipvs mode in a virtual machine, whose kernel has IPVS
	@scripts/test-ipvs.sh

test-lab: build ## whole-lab scripts with real kubectl, as root
	@scripts/test.sh lab

test-vms: build ## the Vagrant lab on real virtual machines, with systemd and cgroup v2 (an hour)
	@scripts/vms/test.sh

compare: build ## our proxy beside the real kube-proxy in random situations (ARGS='-seed 7 -steps 40')
	@scripts/compare.sh $(ARGS)

lint: ## linters and import rules
	@scripts/test.sh lint

fmt: ## format all code
	$(GO) tool -modfile=tools/go.mod golangci-lint fmt

bench: build ## figures: start, memory, pods, requests
	@scripts/bench.sh

clean: ## remove what was built, and the lab
	@if [ -x $(BIN)/podarium ]; then $(BIN)/podarium down; fi
	rm -rf $(BIN)
