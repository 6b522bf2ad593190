#!/usr/bin/env bash
# world.sh WORK COMMAND…: runs COMMAND where virtual machines can be: with libvirtd,
# in namespaces of their own. Bridges, rules and addresses that libvirt makes are
# in a network namespace which nothing leads out of; its files are in the folder
# WORK. When COMMAND ends, or is killed, the kernel ends all the rest.
set -euo pipefail

if [ "${1:-}" != inside ]; then
  mkdir -p "$1"
  exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" inside "$@"
fi
shift
work=$(realpath "$1")
shift

mkdir -p "$work"/{etc,var,log,pool,vagrant.d}
cp -a /etc/libvirt/. "$work/etc/"
cat >"$work/etc/qemu.conf" <<'Q'
user = "root"
group = "root"
security_driver = "none"
remember_owner = 0
namespaces = [ ]
cgroup_controllers = [ ]
Q
rm -rf "$work"/etc/qemu/networks/*
mount --bind "$work/etc" /etc/libvirt
mount --bind "$work/var" /var/lib/libvirt
mount --bind "$work/log" /var/log/libvirt
mount -t tmpfs -o mode=755 tmpfs /run/libvirt 2>/dev/null || { mkdir -p /run/libvirt && mount -t tmpfs -o mode=755 tmpfs /run/libvirt; }
mkdir -p "$work"/var/{qemu,dnsmasq,images,boot} "$work/log/qemu"
# libvirtd finds its own network namespace here, not the machine's.
mount -t sysfs sysfs /sys 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null || true

ip link set lo up
virtlogd -d -p /run/libvirt/virtlogd.pid
libvirtd -d -p /run/libvirt/libvirtd.pid
for _ in $(seq 100); do
  virsh -q -c qemu:///system version >/dev/null 2>&1 && break
  sleep 0.1
done
virsh -q -c qemu:///system pool-define-as default dir --target "$work/pool"
virsh -q -c qemu:///system pool-start default

export PODARIUM_VMS_WORK=$work VAGRANT_HOME=$work/vagrant.d VAGRANT_DEFAULT_PROVIDER=libvirt VAGRANT_CHECKPOINT_DISABLE=1
"$@"
