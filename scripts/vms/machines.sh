# shellcheck shell=bash
# machines.sh: how the steps speak with the machines. Sourced by test.sh.

# title WORDS: says what comes, and how many seconds have gone.
title() { printf '\n== %4d s  %s\n' $((SECONDS - began)) "$*"; }

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# v runs vagrant; what it says is only shown when it fails, and by said.
v() {
  (cd vagrant && vagrant "$@" </dev/null) >"$work/vagrant.log" 2>&1 || {
    tr '\r' '\n' <"$work/vagrant.log" | grep -v 'Progress:' | tail -n 60 >&2
    fail "vagrant $*"
  }
}

# said shows what our own steps said while vagrant ran: "node-2: [kernel] …".
said() { grep -E '^ +node-[0-9]+: \[' "$work/vagrant.log" | sed 's/^ *//' || true; }

# on NODE COMMAND: as root, by ssh, without vagrant's seconds of Ruby, over one
# connection for all commands.
on() {
  local node=$1
  shift
  [ -s "$work/$node.ssh" ] || (cd vagrant && vagrant ssh-config "$node" </dev/null) >"$work/$node.ssh"
  ssh -F "$work/$node.ssh" -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=6 \
    -o ControlMaster=auto -o ControlPersist=yes -o ControlPath="$work/%n.socket" \
    "$node" "sudo -H bash -c $(printf '%q' "$*")" </dev/null
}

# hang_up forgets the connections to machines which stop.
hang_up() {
  local socket
  for socket in "$work"/*.socket; do
    [ ! -S "$socket" ] || ssh -o ControlPath="$socket" -O exit there 2>/dev/null || rm -f "$socket"
  done
  rm -f "$work"/*.ssh
}

# k is kubectl on the host, by the kubeconfig which vagrant has written.
k() { bin/podarium kubectl --kubeconfig vagrant/kubeconfig "$@"; }

# shell COMMAND…: in the pod tmp-shell.
shell() { k exec tmp-shell -- "$@"; }

# eventually SECONDS COMMAND…: until it succeeds.
eventually() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >"$work/last" 2>&1; do
    [ $SECONDS -lt $deadline ] || {
      cat "$work/last" >&2
      fail "not in time: $*"
    }
    sleep 1
  done
}

all_ready() { [ "$(k get nodes --no-headers | awk '$2 == "Ready"' | wc -l)" = "$nodes" ]; }

boot() { on "$1" cat /proc/sys/kernel/random/boot_id; }
booted_since() { local now; now=$(boot "$1") && [ "$now" != "$2" ]; }

# reboot NODE…: all at once, and waits until all are back.
reboot() {
  local node boots=()
  for node in "$@"; do boots+=("$node $(boot "$node")"); done
  for node in "$@"; do on "$node" "systemctl reboot" || true; done # the connection may break
  hang_up
  # shellcheck disable=SC2086 # NODE BOOT
  for node in "${boots[@]}"; do eventually 240 booted_since $node; done
}

# state NODE writes what reset has to bring back, see state.sh.
state() { on "$1" "bash /podarium/scripts/vms/state.sh"; }

# as_before NODE compares it with the time before init or join.
as_before() {
  state "$1" >"$work/$1.after"
  diff "$work/$1.before" "$work/$1.after" || fail "$1 is not what it was before"
  echo "$1: the same links, routes, rules, settings, units, mounts and files as before ($(wc -l <"$work/$1.after") lines compared)"
}
