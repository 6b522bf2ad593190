#!/usr/bin/env bash
# box.sh FILE: makes a small Debian box for Vagrant's libvirt provider from
# Debian's own packages, and nothing else: FILE is the box.
#
# It is Debian as it comes, with systemd, cgroup v2 and the cloud kernel, and
# with the programs which a node needs, for the machines of `make test-vms`
# have no way to the outside.
set -euo pipefail

box=$(realpath -m "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/podarium-box.XXXXXX")
root=$work/root
disk=$work/disk.raw
loop=

cleanup() {
  mountpoint -q "$work/mnt" && umount "$work/mnt"
  [ -z "$loop" ] || losetup -d "$loop"
  mountpoint -q "$root/proc" && umount "$root/proc"
  rm -rf "$work"
}
trap cleanup EXIT

# What every Debian server has, what Vagrant wants, what a node needs (the list
# of scripts/provision/packages), and what a learner looks with.
base=systemd-sysv,udev,dbus,linux-image-cloud-amd64,initramfs-tools,netbase,ifupdown,isc-dhcp-client,ca-certificates
vagrant=openssh-server,sudo,rsync
node=$(paste -sd, "$(dirname "$0")/../provision-packages")
look=curl,tcpdump,ipvsadm

bootstrap() {
  debootstrap --variant=minbase --include="$base,$vagrant,$node,$look" bookworm "$root" >"$work/debootstrap.log" 2>&1 || {
    tail -n 20 "$work/debootstrap.log" >&2
    return 1
  }
}

configure() {
  echo debian >"$root/etc/hostname"
  printf '127.0.0.1\tlocalhost\n127.0.1.1\tdebian\n' >"$root/etc/hosts"
  echo '/dev/vda1 / ext4 noatime 0 1' >"$root/etc/fstab"
  printf 'auto lo\niface lo inet loopback\nallow-hotplug eth0\niface eth0 inet dhcp\n' >"$root/etc/network/interfaces"
  # Vagrant comes in as user vagrant with the key that everybody knows, and puts
  # one of its own in place.
  chroot "$root" useradd -m -s /bin/bash vagrant
  echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/vagrant"
  echo 'UseDNS no' >"$root/etc/ssh/sshd_config.d/vagrant.conf"
  install -d -m 700 "$root/home/vagrant/.ssh"
  install -m 600 /usr/share/rubygems-integration/all/gems/vagrant-*/keys/vagrant.pub "$root/home/vagrant/.ssh/authorized_keys"
  chroot "$root" chown -R vagrant:vagrant /home/vagrant
  for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer ipvsadm.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
  done
}

# initrd makes a small one: only what the root disk needs.
initrd() {
  sed -i 's/^MODULES=.*/MODULES=list/; s/^COMPRESS=.*/COMPRESS=gzip/' "$root/etc/initramfs-tools/initramfs.conf"
  printf 'virtio_pci\nvirtio_blk\next4\n' >"$root/etc/initramfs-tools/modules"
  mount -t proc proc "$root/proc"
  chroot "$root" update-initramfs -u -k "$kernel" >/dev/null
  umount "$root/proc"
}

bootloader() {
  mkdir -p "$root/boot/extlinux"
  cat >"$root/boot/extlinux/extlinux.conf" <<X
DEFAULT debian
PROMPT 0
LABEL debian
 LINUX /boot/vmlinuz-$kernel
 INITRD /boot/initrd.img-$kernel
 APPEND root=/dev/vda1 ro console=ttyS0 net.ifnames=0 quiet mitigations=off
X
}

# image makes a disk with one partition, bootable by BIOS.
image() {
  truncate -s 4G "$disk"
  echo 'start=2048, type=83, bootable' | sfdisk -q "$disk"
  dd if=/usr/lib/EXTLINUX/mbr.bin of="$disk" conv=notrunc bs=440 count=1 status=none
  loop=$(losetup -f --show -o $((2048 * 512)) "$disk")
  mkfs.ext4 -q -O ^64bit,^metadata_csum -d "$root" "$loop"
  mkdir "$work/mnt"
  mount "$loop" "$work/mnt"
  extlinux --install "$work/mnt/boot/extlinux" >/dev/null 2>&1
  umount "$work/mnt"
  losetup -d "$loop"
  loop=
}

# pack writes the box. Its Vagrantfile says how to run without /dev/kvm, so
# that the project's needs no word about it.
pack() {
  mkdir "$work/box"
  qemu-img convert -O qcow2 "$disk" "$work/box/box.img"
  echo '{"provider":"libvirt","format":"qcow2","virtual_size":4}' >"$work/box/metadata.json"
  cat >"$work/box/Vagrantfile" <<'V'
Vagrant.configure("2") do |config|
  config.vm.provider :libvirt do |libvirt|
    libvirt.driver = ENV.fetch("LIBVIRT_DRIVER", "qemu")
    if libvirt.driver == "qemu"
      libvirt.cpu_mode = "custom"
      libvirt.cpu_model = "qemu64"
    end
  end
end
V
  mkdir -p "$(dirname "$box")"
  tar -C "$work/box" -czf "$box.new" metadata.json Vagrantfile box.img
  mv "$box.new" "$box"
}

bootstrap
kernel=$(ls "$root/lib/modules" | sort -V | tail -n 1)
configure
initrd
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
bootloader
image
pack
