# shellcheck shell=bash
# steps.sh: what is shown on the machines, in this order. Sourced by test.sh.

steps=(validate up provision demo limits certs
  nftables_vxlan ipvs_hostgw userspace_vxlan iptables_hostgw
  drop again reboot_node reboot_all halt
  reset_node refusals legacy reset_all anew destroy)

step_validate() {
  title "vagrant validate"
  (cd vagrant && vagrant validate)
}

step_up() {
  title "vagrant up: $nodes machines, as Debian made them"
  (cd vagrant && vagrant box add --force --name podarium-test "$box" >/dev/null)
  v up --no-provision
  local node
  for node in "${all[@]}"; do state "$node" >"$work/$node.before"; done
  on "$last" "uname -srm; stat -fc 'control groups: %T' /sys/fs/cgroup; free -m | sed -n 2p"
}

step_provision() {
  title "vagrant provision: init on node-1, join on the others"
  v provision
  said
  eventually 60 all_ready
  title "kubectl on node-1, and on the host by vagrant/kubeconfig"
  (cd vagrant && vagrant ssh node-1 -c 'kubectl get nodes' </dev/null)
  k get nodes -o wide
}

step_demo() {
  title "the demo across the machines"
  demo
}

# demo starts it anew, with pods on every machine.
demo() {
  k apply -f examples/simpleservice.yaml -f examples/tmp-shell.yaml
  k scale --replicas=0 rc/rcsise
  k wait --for=delete pods -l app=sise --timeout=120s >/dev/null
  k scale --replicas=$((2 * nodes)) rc/rcsise
  eventually 180 all_run
  k get pods -o wide
  across
}

all_run() {
  [ "$(k get rc rcsise -o jsonpath='{.status.readyReplicas}')" = $((2 * nodes)) ] && k wait --for=condition=Ready pod/tmp-shell --timeout=1s
}

# across: a pod reaches the Service by name, is seen with the right address, and
# reaches each pod on each machine; and a machine reaches the Service.
across() {
  eventually 120 shell wget -qO- http://simpleservice/info
  local seen address
  for _ in 1 2 3 4 5 6; do
    seen=$(shell wget -qO- http://simpleservice/info)
    from_shell "$(grep -o '"from": "[^"]*"' <<<"$seen" | cut -d '"' -f 4)" || fail "simpleservice answers: $seen"
  done
  echo "$seen"
  [ "$(k get pods -l app=sise -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u | wc -l)" = "$nodes" ] || fail "not every machine has a pod"
  for address in $(k get pods -l app=sise -o jsonpath='{.items[*].status.podIP}'); do
    shell wget -qO- "http://$address:9876/info" >/dev/null || fail "pod $address does not answer"
  done
  address=$(k get service simpleservice -o jsonpath='{.spec.clusterIP}')
  on "$last" "curl -fsS --max-time 10 http://$address/info" >/dev/null || fail "$last does not reach the Service"
}

# from_shell ADDRESS: it is tmp-shell's own; or, in userspace mode, where kube-proxy
# itself connects to the pod, one of tmp-shell's machine.
from_shell() {
  if [ "$(proxy_mode)" = userspace ]; then
    on "$(k get pod tmp-shell -o jsonpath='{.spec.nodeName}')" "ip -br -4 address" | grep -F " $1/" >/dev/null
  else
    [ "$1" = "$(k get pod tmp-shell -o jsonpath='{.status.podIP}')" ]
  fi
}

in_mode() { [ "$(proxy_mode)" = "$1" ]; }

proxy_mode() { on "$last" "curl -fsS http://127.0.0.1:10249/proxyMode"; }

step_limits() {
  title "limits on cgroup v2"
  k run limited --image=busybox:1 --restart=Never --overrides='{"spec": {"containers": [{"name": "limited", "image": "busybox:1",
    "command": ["sleep", "infinity"], "resources": {"limits": {"memory": "32Mi", "cpu": "250m"}}}]}}'
  k wait --for=condition=Ready pod/limited --timeout=120s
  local found
  found=$(k exec limited -- cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max)
  echo "$found"
  [ "$found" = $'33554432\n25000 100000' ] || fail "these are not the limits of the pod"
  # dd wants a buffer of 64 MiB: more than the pod may have.
  if k exec limited -- dd if=/dev/zero of=/dev/null bs=64M count=1 2>"$work/last"; then fail "a pod took more memory than its limit"; fi
  cat "$work/last"
  on "$(k get pod limited -o jsonpath='{.spec.nodeName}')" "journalctl -k --no-pager -o cat | grep -o 'Memory cgroup out of memory: Killed process [0-9]* (dd)' | tail -n 1" | grep . || fail "the kernel does not tell of it"
  k delete pod limited --grace-period=0
}

step_certs() {
  title "certificates: shown, and renewed"
  local node
  for node in node-1 "$last"; do
    on "$node" "podarium certs renew --within 9000h | grep services; podarium certs check-expiration"
    eventually 120 all_ready # the API server may have started anew
  done
  across
}

step_nftables_vxlan() { way nftables vxlan; }
step_ipvs_hostgw() { way ipvs host-gw; }
step_userspace_vxlan() { way userspace vxlan; }
step_iptables_hostgw() { way iptables host-gw; }

# way MODE NETWORK: the same cluster another way, and nothing of the old one left.
way() {
  title "--proxy-mode $1 --pod-network $2"
  PODARIUM_PROXY_MODE=$1 PODARIUM_POD_NETWORK=$2 v provision
  eventually 120 all_ready
  eventually 60 in_mode "$1" # kube-proxy has just been started anew
  across
  case $1 in
    iptables) on "$last" "iptables-save -t nat | grep -c KUBE-SEP-" ;;
    ipvs) on "$last" "ipvsadm -Ln | head -n 8; ! iptables-save | grep KUBE-SEP-" ;;
    nftables) on "$last" "nft list table ip kube-proxy | head -n 4; ! iptables-save | grep KUBE-SEP-" ;;
    userspace) on "$last" "iptables-save -t nat | grep KUBE-PORTALS-CONTAINER | head -n 3; ! iptables-save | grep KUBE-SEP-" ;;
  esac
  [ "$1" = ipvs ] || on "$last" "! ip link show kube-ipvs0 2>/dev/null"
  [ "$1" = nftables ] || on "$last" "! nft list table ip kube-proxy 2>/dev/null"
  case $2 in
    vxlan) on "$last" "ip -d link show vxlan0 | grep -o 'vxlan id 1 .*dev eth1'; ip route | grep vxlan0" ;;
    host-gw) on "$last" "ip route show proto 80; ! ip link show vxlan0 2>/dev/null" ;;
  esac
}

step_drop() {
  title "FORWARD with policy DROP, as docker leaves it"
  local node
  for node in "${all[@]}"; do on "$node" "iptables -P FORWARD DROP"; done
  across
  on "$last" "iptables -S FORWARD"
  # Without what lets pods through, nothing passes: the policy is one.
  on "$last" "iptables -I FORWARD -j DROP"
  if on node-1 "curl -fsS --max-time 5 http://$(pod_of "$last"):9876/info"; then fail "FORWARD drops, and a pod of $last answers"; fi
  on "$last" "iptables -D FORWARD -j DROP"
  for node in "${all[@]}"; do on "$node" "iptables -P FORWARD ACCEPT"; done
}

# pod_of NODE is the address of a pod of simpleservice there.
pod_of() { k get pods -l app=sise --field-selector "spec.nodeName=$1" -o jsonpath='{.items[0].status.podIP}'; }

step_again() {
  title "init and join again change nothing"
  v provision
  said
  [ "$(said | grep -c '\[services\] there already')" = "$nodes" ] || fail "services were started anew"
}

step_reboot_node() {
  title "reboot of $last"
  reboot "$last"
  eventually 240 all_ready
  eventually 240 all_run # not Ready since the time before
  across
}

step_reboot_all() {
  title "reboot of all"
  reboot "${all[@]}"
  eventually 300 all_ready
  eventually 240 all_run # not Ready since the time before
  across
}

step_halt() {
  title "vagrant halt, vagrant up"
  hang_up
  v halt
  v up # one after the other: node-1 may miss the last one for minutes
  eventually 300 all_ready
  if k get pod tmp-shell >/dev/null 2>&1; then
    eventually 240 all_run # not Ready since the time before
    across
  else
    echo "a machine was away for more than five minutes: its pods were evicted, as they must be"
    demo
  fi
}

step_reset_node() {
  title "reset of $last"
  k drain "$last" --ignore-daemonsets --force --timeout=180s
  on "$last" "podarium reset --force"
  k delete node "$last"
  as_before "$last"
}

# refused WORDS COMMAND: COMMAND fails on the last machine, and says WORDS.
refused() {
  local words=$1
  shift
  if on "$last" "$* 2>&1" >"$work/refused"; then fail "accepted: $*"; fi
  grep -- "$words" "$work/refused" || {
    cat "$work/refused" >&2
    fail "not said: $words"
  }
}

# The machine has been reset before: it is no node.
step_refusals() {
  title "what join refuses, and what it says"
  local join command
  join=$(on node-1 "podarium token create --print-join-command")
  local token=${join##*--token } hash=${join##* }
  command="/podarium/bin/podarium join 192.168.56.11:6443 --node-name $last --node-ip 192.168.56.1$nodes"
  join="$command --token ${token%% *} --discovery-token-ca-cert-hash $hash"

  refused "the token is unknown" "$command --token aaaaaa.aaaaaaaaaaaaaaaa --discovery-token-ca-cert-hash $hash"
  refused "this is another cluster" "$command --token ${token%% *} --discovery-token-ca-cert-hash sha256:$(printf '0%.0s' {1..64})"
  refused "a node node-1 is in the cluster already and Ready" "${join/$last/node-1}"

  on "$last" "date -s '1 day ago' >/dev/null"
  refused "the clock of this machine is" "$join"
  on "$last" "date -s @$(date +%s) >/dev/null"

  on "$last" "systemd-run --quiet --unit=squatter busybox httpd -f -p 10250 -h /tmp; until ss -ltn | grep -q :10250; do sleep 0.1; done"
  refused "port 10250, which kubelet needs, is in use by busybox" "$join"
  on "$last" "systemctl stop squatter"

  # Swap alone is a warning: something else must be missing too, or it would join.
  on "$last" "fallocate -l 64M /swap; chmod 600 /swap; mkswap -q /swap; swapon /swap; mv /usr/sbin/runc /usr/sbin/runc.away"
  refused "runc is missing: apt-get install runc" "$join"
  grep "WARNING Swap: swap is on (/swap)" "$work/refused" || fail "nothing said of swap"
  on "$last" "mv /usr/sbin/runc.away /usr/sbin/runc; swapoff /swap; rm /swap"

  on "$last" "mkdir -p /etc/modprobe.d; echo 'install br_netfilter false' >/etc/modprobe.d/none.conf; modprobe -r br_netfilter 2>/dev/null; true"
  refused "the kernel has no br_netfilter: modprobe br_netfilter" "$join"
  on "$last" "rm /etc/modprobe.d/none.conf"

  as_before "$last" # who was refused has changed nothing
}

step_legacy() {
  title "join with iptables of the legacy kind on $last"
  on "$last" "for i in iptables ip6tables; do update-alternatives --quiet --set \$i /usr/sbin/\$i-legacy; \$i --version; done"
  v provision "$last"
  said
  eventually 120 all_ready
  on "$last" "iptables -P FORWARD DROP"
  demo
  on "$last" "iptables-legacy-save | grep -c KUBE-; ip6tables-legacy-save | grep -c KUBE-; ! nft list ruleset | grep KUBE-"
  on "$last" "iptables -P FORWARD ACCEPT"
}

step_reset_all() {
  title "reset of all, the control plane last"
  local i node
  for ((i = nodes; i >= 1; i--)); do on "node-$i" "podarium reset --force"; done
  on "$last" "update-alternatives --quiet --auto iptables; update-alternatives --quiet --auto ip6tables"
  for node in "${all[@]}"; do as_before "$node"; done
}

step_anew() {
  destroy
  title "vagrant up, in one command"
  v up
  said
  eventually 60 all_ready
  demo
}

step_destroy() { destroy; }

destroy() {
  title "vagrant destroy"
  hang_up
  v destroy -f
  [ -z "$(virsh -q -c qemu:///system list --all --name | tr -d '\n')" ] || fail "machines are left"
}
