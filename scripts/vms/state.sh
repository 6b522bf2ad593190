#!/usr/bin/env bash
# state.sh: prints, on a machine, all that `podarium reset` has to bring back. Two
# prints are compared with diff: before init or join, and after reset.
set -uo pipefail

section() { printf '\n# %s\n' "$*"; }

section links, routes, namespaces
ip -br link | awk '{print $1, $3}' # without the state: vagrant's link may be slow
ip route
ip rule
ls /run/netns 2>/dev/null

# Kernel parts which nobody has loaded are not asked: that would load them. The
# tables of iptables-legacy stay, empty, until their modules go.
section rules
nft list ruleset
for kind in ip ip6; do
  [ ! -e /proc/net/${kind}_tables_names ] || ${kind}tables-legacy-save | grep -vE '^(#|\*|COMMIT|:[A-Z]+ ACCEPT)'
done
[ ! -e /proc/net/ip_vs ] || ipvsadm -Sn
[ ! -d /sys/module/ip_set ] || ipset list -n

section modules, settings
grep -oE '^(overlay|br_netfilter|vxlan|ip_vs[a-z_]*|xt_ipvs)' /proc/modules
cd /proc/sys/net/ipv4 || exit
grep -s . ip_forward conf/all/{route_localnet,arp_ignore,arp_announce,rp_filter} vs/{conntrack,conn_reuse_mode}

section units, processes, control groups, mounts
systemctl list-unit-files --no-legend | awk '{print $1, $2}'
ps -eo comm= | grep -E 'podarium|kube|etcd'
ls /sys/fs/cgroup | grep kube
findmnt -rno TARGET,FSTYPE | grep -E 'kube|podarium|overlay'

# What a machine writes by itself is left out, the lock which iptables-legacy makes
# for whoever calls it, and what provisioning changes beside init and join: /etc/hosts.
section files
find /etc /opt /usr/local -xdev -type f ! -path /etc/hosts -print0 | sort -z | xargs -0 sha256sum
find /etc /opt /usr/local -xdev ! -type f -printf '%p %y %l\n' | sort
find /var/lib /var/log /run -xdev \( -path /run/user -o -path /run/udev -o -path '/run/systemd*' -o -path '/var/lib/systemd*' \
  -o -path /var/log/journal -o -path '/var/lib/dhcp*' -o -path /var/lib/logrotate/status -o -path /run/sudo -o -path /run/log -o -path /run/xtables.lock \) -prune -o -print | sort
