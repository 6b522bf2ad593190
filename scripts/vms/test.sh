#!/usr/bin/env bash
# make test-vms: the project's own Vagrantfile, unchanged, on virtual machines with
# systemd, cgroup v2 and Debian's kernel: up, the demo across machines, all proxy
# modes, both pod networks, reboots, refusals, reset, halt, up, destroy. Software
# emulation does: no /dev/kvm is needed.
#
#   scripts/vms/test.sh [NODES]      3 by default
#
# The box, which takes minutes to make, is kept in /var/cache/podarium.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
nodes=${1:-3}
# A box is as good as what it was made from.
box=/var/cache/podarium/debian-$(cat scripts/vms/box.sh scripts/provision-packages | sha256sum | cut -c -12).box

if [ "${PODARIUM_VMS_WORK:-}" = "" ]; then
  scripts/vms/setup.sh
  if [ ! -e "$box" ]; then
    echo "making a Debian box (minutes)"
    scripts/vms/box.sh "$box"
  fi
  work=$(mktemp -d /tmp/podarium-vms.XXXXXX)
  trap 'rm -rf "$work" vagrant/.vagrant/machines vagrant/kubeconfig' EXIT
  export PODARIUM_VMS_WORK=$work
  scripts/vms/world.sh "$work" "$0" "$nodes"
  exit
fi

export PODARIUM_BOX=podarium-test PODARIUM_NODES=$nodes PODARIUM_MEMORY=768
log=$PODARIUM_VMS_WORK/vagrant.log
began=$SECONDS

step() { printf '\n== %4d s  %s\n' $((SECONDS - began)) "$*"; }

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# v runs vagrant; of what it says only our own steps are shown, all when it fails.
v() {
  (cd vagrant && vagrant "$@" </dev/null) >"$log" 2>&1 || {
    tr '\r' '\n' <"$log" | grep -v 'Progress:' | tail -n 60 >&2
    fail "vagrant $*"
  }
}
show() { grep -E '^ +node-[0-9]+: \[' "$log" | sed 's/^ *//' || true; }

# on NODE COMMAND: as root, by ssh, without vagrant's seconds of Ruby.
on() {
  local node=$1
  shift
  [ -e "$PODARIUM_VMS_WORK/$node.ssh" ] || (cd vagrant && vagrant ssh-config "$node" </dev/null) >"$PODARIUM_VMS_WORK/$node.ssh"
  ssh -F "$PODARIUM_VMS_WORK/$node.ssh" "$node" "sudo -H bash -c $(printf '%q' "$*")" </dev/null
}
k() { on node-1 "kubectl $*"; }

# shell runs a command in the pod tmp-shell.
shell() { k "exec tmp-shell -- $*"; }

# eventually SECONDS COMMAND…: until it succeeds.
eventually() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >"$PODARIUM_VMS_WORK/last" 2>&1; do
    [ $SECONDS -lt $deadline ] || {
      cat "$PODARIUM_VMS_WORK/last" >&2
      fail "not in time: $*"
    }
    sleep 1
  done
}

# across: pods on every machine answer by name, through the ClusterIP, and see the
# pod that asks.
across() {
  eventually 120 shell wget -qO- http://simpleservice/info
  local address seen
  address=$(k "get pod tmp-shell -o jsonpath={.status.podIP}")
  for _ in 1 2 3 4 5 6; do seen=$(shell wget -qO- http://simpleservice/info) && echo "$seen" | grep -q "\"from\": \"$address\"" || fail "simpleservice answers: $seen"; done
  echo "$seen"
  local n=0
  for address in $(k "get pods -l app=sise -o jsonpath='{.items[*].status.podIP}'"); do
    shell wget -qO- "http://$address:9876/info" >/dev/null || fail "pod $address does not answer"
    n=$((n + 1))
  done
  [ "$n" -ge "$nodes" ] || fail "only $n pods"
  on "node-$nodes" "curl -fsS --max-time 10 http://\$(kubectl --kubeconfig /etc/kubernetes/kubelet.conf get service simpleservice -o jsonpath={.spec.clusterIP})/info" >/dev/null || fail "node-$nodes does not reach the Service"
}

demo() {
  k "apply -f /podarium/examples/simpleservice.yaml -f /podarium/examples/tmp-shell.yaml"
  k "scale --replicas=$((2 * nodes)) rc/rcsise"
  k "wait --for=condition=Ready pods --all --timeout=180s" >/dev/null
  k "get nodes -o wide"
  k "get pods -o wide"
  across
}

all_ready() { [ "$(k "get nodes --no-headers" | grep -cw Ready)" = "$nodes" ] && ! k "get nodes --no-headers" | grep -qw NotReady; }

# limits: cgroup v2 holds what the pod asked for.
limits() {
  k "run limited --image=busybox:1 --restart=Never --overrides='{\"spec\":{\"containers\":[{\"name\":\"limited\",\"image\":\"busybox:1\",\"command\":[\"sleep\",\"infinity\"],\"resources\":{\"limits\":{\"memory\":\"32Mi\",\"cpu\":\"250m\"}}}]}}'"
  k "wait --for=condition=Ready pod/limited --timeout=120s"
  k "exec limited -- cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max" | tee "$PODARIUM_VMS_WORK/limits"
  [ "$(tr '\n' ' ' <"$PODARIUM_VMS_WORK/limits")" = "33554432 25000 100000 " ] || fail "limits are not those of the pod"
  k "delete pod limited --grace-period=0"
}

# mode MODE NETWORK: the same cluster another way, and nothing of the old one left.
mode() {
  step "--proxy-mode $1 --pod-network $2"
  PODARIUM_PROXY_MODE=$1 PODARIUM_POD_NETWORK=$2 v provision
  on "node-$nodes" "grep -o 'Using $1 Proxier' /var/log/kube-proxy.log | tail -n 1"
  eventually 120 all_ready
  across
  case $1 in
    ipvs) on "node-$nodes" "ipvsadm -Ln | head -n 8; ! iptables-save | grep -q KUBE-SEP-" ;;
    nftables) on "node-$nodes" "nft list table ip kube-proxy | head -n 4; ! iptables-save | grep -q KUBE-SEP-" ;;
    userspace) on "node-$nodes" "iptables-save -t nat | grep KUBE-PORTALS-CONTAINER | head -n 2" ;;
  esac
  case $2 in
    vxlan) on node-1 "ip -d link show vxlan0 | grep -o 'vxlan id 1 .*dev eth1'; ip route | grep vxlan0" ;;
    host-gw) on node-1 "ip route show proto 80; ! ip link show vxlan0 2>/dev/null" ;;
  esac
}

# machine_state is what reset has to bring back; addresses of vagrant's own link
# and counters differ by themselves.
machine_state() {
  on "$1" "ip -br link | awk '{print \$1, \$3}'; ip route; iptables-save | grep -v '^[#:]' ; nft list tables; grep . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all/{route_localnet,arp_ignore,arp_announce};
    systemctl list-unit-files --no-legend --type=service | grep -E 'kube' ; ls /sys/fs/cgroup | grep kube; mount | grep -c kubelet;
    find /etc /opt /usr/local /var/lib /var/log /run -xdev \\( -path /run/user -o -path /run/udev -o -path '/run/systemd*' -o -path '/var/lib/systemd*' -o -path /var/log/journal -o -path '/var/lib/dhcp*' -o -path /run/sudo -o -path /run/log \\) -prune -o -print | sort; true"
}

refusals() {
  local last=node-$nodes words
  refused() { # WORDS COMMAND
    words=$1
    shift
    if on "$last" "$* 2>&1" >"$PODARIUM_VMS_WORK/said"; then fail "accepted: $*"; fi
    grep -q "$words" "$PODARIUM_VMS_WORK/said" || { cat "$PODARIUM_VMS_WORK/said" >&2; fail "not said: $words"; }
    grep "$words" "$PODARIUM_VMS_WORK/said"
  }
  local hash join token
  hash=$(on node-1 "podarium token create --print-join-command")
  token=$(echo "$hash" | grep -o -- '--token [^ ]*')
  hash=$(echo "$hash" | grep -o 'sha256:.*')
  join="/podarium/bin/podarium join 192.168.56.11:6443 --node-name $last --node-ip 192.168.56.1$nodes"
  refused "the token is unknown" "$join --token aaaaaa.aaaaaaaaaaaaaaaa --discovery-token-ca-cert-hash $hash"
  refused "this is another cluster" "$join $token --discovery-token-ca-cert-hash sha256:$(printf '0%.0s' $(seq 64))"
  on "$last" "date -s '1 day ago' >/dev/null"
  refused "the clock of this machine is" "$join $token --discovery-token-ca-cert-hash $hash"
  on "$last" "date -s @$(date +%s) >/dev/null"
  on "$last" "systemd-run --quiet --unit=squatter busybox httpd -f -p 10250 -h /tmp; sleep 2"
  refused "port 10250, which kubelet needs, is in use by busybox" "$join $token --discovery-token-ca-cert-hash $hash"
  on "$last" "systemctl stop squatter"
  on "$last" "fallocate -l 64M /swap && chmod 600 /swap && mkswap -q /swap && swapon /swap"
  on "$last" "mv /usr/sbin/runc /usr/sbin/runc.away"
  refused "WARNING Swap: swap is on (/swap)" "$join $token --discovery-token-ca-cert-hash $hash"
  grep "runc is missing: apt-get install runc" "$PODARIUM_VMS_WORK/said" || fail "nothing said of runc"
  on "$last" "mv /usr/sbin/runc.away /usr/sbin/runc; swapoff /swap; rm /swap"
  on "$last" "mkdir -p /etc/modprobe.d; echo 'install br_netfilter false' >/etc/modprobe.d/none.conf; modprobe -r br_netfilter 2>/dev/null; true"
  refused "the kernel has no br_netfilter: modprobe br_netfilter" "$join $token --discovery-token-ca-cert-hash $hash"
  on "$last" "rm /etc/modprobe.d/none.conf"
}

(cd vagrant && vagrant validate)
(cd vagrant && vagrant box add --name podarium-test "$box" >/dev/null)

step "vagrant up: $nodes machines, as Debian made them"
v up --no-provision
machine_state "node-$nodes" >"$PODARIUM_VMS_WORK/before"
step "vagrant provision: init on node-1, join on the others"
v provision
show
eventually 60 all_ready
kubectl="bin/podarium kubectl --kubeconfig vagrant/kubeconfig"
step "kubectl on the host, by vagrant/kubeconfig"
$kubectl get nodes
step "the demo across the machines"
demo
step "limits on cgroup v2"
limits

for way in "nftables vxlan" "ipvs host-gw" "userspace vxlan" "iptables host-gw"; do
  # shellcheck disable=SC2086 # two words
  mode $way
done

step "FORWARD with policy DROP, and iptables of the legacy kind on node-$nodes"
for n in $(seq "$nodes"); do on "node-$n" "iptables -P FORWARD DROP"; done
across
for n in $(seq "$nodes"); do on "node-$n" "iptables -P FORWARD ACCEPT"; done

step "init and join again change nothing"
v provision
show | grep -vc 'there already' || true
[ "$(show | grep -c '\[services\] there already')" = "$nodes" ] || { show; fail "services were started anew"; }

step "reboot of node-$nodes"
on "node-$nodes" "systemctl reboot" || true
eventually 180 on "node-$nodes" "test \$(cut -d. -f1 /proc/uptime) -lt 120"
eventually 180 all_ready
across

step "halt and up of all"
v halt
v up
rm -f "$PODARIUM_VMS_WORK"/*.ssh
eventually 240 all_ready
eventually 240 shell true
across

step "reset of node-$nodes, what is refused, and join again"
on "node-$nodes" "podarium reset --force"
machine_state "node-$nodes" >"$PODARIUM_VMS_WORK/after"
diff "$PODARIUM_VMS_WORK/before" "$PODARIUM_VMS_WORK/after" || fail "the machine is not what it was before join"
echo "the same links, routes, rules, settings, units, mounts and files as before: $(wc -l <"$PODARIUM_VMS_WORK/after") lines"
refusals
v provision "node-$nodes"
eventually 120 all_ready
across

step "destroy"
v destroy -f
[ -z "$(virsh -q -c qemu:///system list --all --name | tr -d '\n')" ] || fail "machines are left"
step "all passed"
