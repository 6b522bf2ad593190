#!/usr/bin/env bash
# make test-vms: the project's own Vagrantfile, unchanged, on virtual machines with
# systemd, cgroup v2 and Debian's kernel: up, the demo across machines, all proxy
# modes, both pod networks, reboots, refusals, reset, halt, up, destroy. Software
# emulation does: no /dev/kvm is needed.
#
#   scripts/vms/test.sh [NODES]          everything; 3 nodes by default
#   scripts/vms/test.sh NODES STEP…      some of the steps (see steps.sh) alone
#
# Steps one by one, on machines which stay between them:
#
#   scripts/vms/world.sh /tmp/vms bash
#   scripts/vms/test.sh 3 validate up provision
#   scripts/vms/test.sh 3 demo
#
# The box, which takes minutes to make, is kept in /var/cache/podarium.
set -euo pipefail
cd "$(dirname "$0")/../.."
nodes=${1:-3}
shift || true
last=node-$nodes
mapfile -t all < <(seq -f 'node-%g' "$nodes")
# A box is as good as what it was made from.
box=/var/cache/podarium/debian-$(cat scripts/vms/box.sh scripts/provision-packages | sha256sum | cut -c -12).box
work=${PODARIUM_VMS_WORK:-}
began=$SECONDS

. scripts/vms/machines.sh
. scripts/vms/steps.sh

# outside makes what the machines need, and runs this script where they can be.
outside() {
  scripts/vms/setup.sh
  if [ ! -e "$box" ]; then
    echo "making a Debian box (minutes)"
    scripts/vms/box.sh "$box"
  fi
  work=$(mktemp -d /tmp/podarium-vms.XXXXXX)
  trap 'rm -rf "$work" vagrant/.vagrant vagrant/kubeconfig' EXIT
  scripts/vms/world.sh "$work" scripts/vms/test.sh "$nodes" "$@"
}

inside() {
  export PODARIUM_BOX=podarium-test PODARIUM_NODES=$nodes PODARIUM_MEMORY=768
  [ $# -gt 0 ] || set -- "${steps[@]}"
  local step
  for step in "$@"; do "step_$step"; done
  title "passed: $*"
}

if [ -z "$work" ]; then outside "$@"; else inside "$@"; fi
exit
