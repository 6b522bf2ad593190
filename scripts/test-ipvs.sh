#!/usr/bin/env bash
# Tests of ipvs mode, with real packets, in a throw-away virtual machine: IPVS is
# a kernel module, and the kernel at hand may have none. The machine is Debian's
# cloud kernel and an initramfs with our static test binaries and the programs
# they run; it is emulated in software, so it needs no KVM, no disk and no
# network. It is up after some five seconds, and gone when the tests are over.
# Each suite has a machine of its own, all at once.
#
#   [VERBOSE=1] scripts/test-ipvs.sh [-run PATTERN]
#   scripts/test-ipvs.sh bench
#   scripts/test-ipvs.sh possible
#
# Arguments are go test's own and go to every test binary. "bench" measures
# packets in place of testing: in ipvs mode, and in nftables mode for comparison,
# for the emulated machine has one processor and takes ten times as long.
# "possible" tells by its status whether a qemu is here or can be installed.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0

cache=bin/guest      # the unpacked kernel
seconds=600          # after which the machine is given up
memory=768           # MiB each

# What the guests run: a package, and the arguments of its tests. Pure tests run
# outside. Affinity ends with IPVS later than in other modes: proxy/ipvs tests when.
suites=(
  "proxy/ipvs -parallel=4 -skip=TestSituations|TestSteps"
  "proxy/matrix -modes=ipvs -skip=TestAffinityEnds"
  "cmd/podarium-proxy -modes=iptables,nftables,ipvs,userspace -run=TestSwitchingModes"
)
measures=("proxy/scale -modes=ipvs,nftables -run=^$ -bench=FirstPacket|ClusterIP -benchtime=1x")
# Programs which the tests run; their libraries come along.
programs=(ip bridge nsenter iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore ipset nft conntrack curl)
# Modules to load, with all they need. What rules and sets need is loaded by the
# kernel itself on a real machine; here nobody is there to do it.
modules=(
  ip_vs ip_vs_rr ip_vs_wrr ip_vs_lc ip_vs_sh ip_vs_mh dummy veth bridge br_netfilter
  nf_conntrack nf_conntrack_netlink nf_tables nft_compat nft_chain_nat nft_nat nft_masq nft_ct nft_fib_ipv4 nft_fib_ipv6 nft_numgen nft_reject_ipv4 nft_reject_ipv6
  xt_addrtype xt_comment xt_conntrack xt_ipvs xt_mark xt_MASQUERADE xt_nat xt_nfacct xt_physdev xt_REDIRECT xt_set xt_statistic xt_tcpudp ipt_REJECT ip6t_REJECT
  ip_set_bitmap_port ip_set_hash_ip ip_set_hash_ipport ip_set_hash_ipportip ip_set_hash_ipportnet sctp
)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# install_programs installs what building the guest and running in it needs.
install_programs() {
  local missing=()
  command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
  command -v cpio >/dev/null || missing+=(cpio)
  command -v ipset >/dev/null || missing+=(ipset)
  [ -e /etc/protocols ] || missing+=(netbase)
  [ ${#missing[@]} -eq 0 ] && return
  echo "installing ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

possible() {
  command -v qemu-system-x86_64 || { apt-get update -qq && apt-get install --simulate qemu-system-x86; }
} >/dev/null 2>&1

# fetch_kernel unpacks the newest cloud kernel into the cache, once; nothing is
# installed.
fetch_kernel() {
  if ! ls "$cache"/boot/vmlinuz-* >/dev/null 2>&1; then
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ {print $2; exit}')
    [ -n "$package" ] || { echo "no Debian kernel to be had: apt knows no linux-image-cloud-amd64" >&2; exit 1; }
    echo "fetching $package"
    (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "$package")
    rm -rf "$cache"
    mkdir -p "$cache"
    dpkg -x "$work/$package"_*.deb "$work/kernel"
    mv "$work"/kernel/lib "$cache/"
    mv "$work"/kernel/boot "$cache/" # last: it tells that the rest is there
  fi
  version=$(ls "$cache/lib/modules")
  [ -e "$cache/lib/modules/$version/modules.dep" ] || depmod -b "$cache" "$version"
}

# add_program puts a program and its libraries where they are here, and itself
# under the name it is called by.
add_program() {
  local path file
  path=$(command -v "$1")
  for file in "$(readlink -f "$path")" $(ldd "$path" 2>/dev/null | grep -o '/[^ ]*'); do
    mkdir -p "$root$(dirname "$file")"
    cp -L "$file" "$root$file"
  done
  [ -e "$root$path" ] || { mkdir -p "$root$(dirname "$path")"; ln -s "$(readlink -f "$path")" "$root$path"; }
}

# add_modules copies them in the order in which they must be loaded, which is
# what /modules lists.
add_modules() {
  local module file
  for module in "${modules[@]}"; do
    modprobe -d "$cache" -S "$version" --show-depends "$module" | awk '/^insmod/ {print $2}'
  done | awk '!seen[$0]++' | while read -r file; do
    module=/lib/modules/$(basename "${file%.xz}")
    case $file in
    *.xz) xz -dc "$file" >"$root$module" ;;
    *) cp "$file" "$root$module" ;;
    esac
    echo "$module"
  done >"$root/modules"
}

# add_suites builds the tests, with what their packages read.
add_suites() {
  local suite package
  for suite in "${suites[@]}"; do
    package=${suite%% *}
    mkdir -p "$root/src/$package"
    go test -c -trimpath -tags ipvsguest -ldflags '-s -w' -o "$root/src/$package/tests" "./$package"
  done
  mkdir -p "$root/src/proxy"
  cp -r proxy/testdata "$root/src/proxy/"
}

# write_init writes the guest's first program: the suite is given on the
# kernel's command line, and the exit status goes out with the last line.
write_init() {
  cat <<'INIT'
#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
while read -r module; do
  case "$package $module" in
  *"/matrix "*/sctp.ko) ;; # it speaks SCTP by hand: the kernel's own would answer first
  *) insmod "$module" ;;
  esac
done </modules
ip link set lo up
status=0
INIT
  # shellcheck disable=SC2016 # the guest's variables
  echo 'case $suite in'
  local i package arguments
  for i in "${!suites[@]}"; do
    read -r package arguments <<<"${suites[i]} "
    printf '%d) cd /src/%s; ./tests -test.v' "$i" "$package"
    printf ' %q' $(prefixed $arguments) "$@"
    echo ' || status=1 ;;'
  done
  echo 'esac'
  # shellcheck disable=SC2016
  echo 'echo "GUEST-EXIT $status"; poweroff -f'
}

# prefixed turns options of go test into those of a test binary; options of our
# own stay.
prefixed() {
  local argument
  for argument in "$@"; do
    case $argument in
    -modes=*) echo "$argument" ;;
    *) echo "${argument/#-/-test.}" ;;
    esac
  done
}

build_guest() {
  root=$work/root
  mkdir -p "$root"/{bin,sbin,dev,proc,sys,tmp,run,etc,lib/modules}
  cp "$(command -v busybox)" "$root/bin/busybox"
  ln -s busybox "$root/bin/sh"
  local program
  for program in "${programs[@]}"; do add_program "$program"; done
  mkdir -p "$root/usr/lib/x86_64-linux-gnu/xtables"
  cp /usr/lib/x86_64-linux-gnu/xtables/lib{xt,ipt,ip6t}_*.so "$root/usr/lib/x86_64-linux-gnu/xtables/"
  cp /etc/protocols "$root/etc/" # ipset reads "tcp" there
  add_modules
  add_suites
  write_init "$@" >"$root/init"
  chmod +x "$root/init"
  (cd "$root" && find . | cpio -o -H newc -R 0:0 --quiet) >"$work/initramfs"
}

# boot SUITE runs a guest; its console goes to a file. no_timer_check: on a busy
# machine the emulated clock ticks too late for the kernel's test of it.
boot() {
  timeout -k 5 "$seconds" qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
    -M pc -accel tcg,thread=multi -cpu max -smp 1 -m "$memory" -serial stdio \
    -kernel "$cache/boot/vmlinuz-$version" -initrd "$work/initramfs" \
    -append "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off no_timer_check suite=$1 package=${suites[$1]%% *}" </dev/null | tr -d '\r' >"$work/log.$1" || true
}

# verdict SUITE tells how it went: in a line, or in full.
verdict() {
  local log=$work/log.$1 name=${suites[$1]%% *} status passed
  status=$(sed -n 's/^GUEST-EXIT //p' "$log")
  passed=$(grep -cE "^\s*--- PASS|$figure" "$log" || true)
  if [ "$status" = 0 ] && ! grep -qE '^\s*--- SKIP' "$log" && [ "$passed" -ge "$least" ]; then
    [ -z "${VERBOSE:-}" ] || cat "$log"
    grep -E "$figure" "$log" || true
    echo "ok  	$name in a virtual machine with Linux $version: $passed passed"
    return
  fi
  cat "$log"
  echo "FAIL	$name in a virtual machine: ${status:-it did not end by itself}; $passed passed; skipped tests count as failed"
  return 1
}

case ${1:-} in
possible) possible; exit ;;
bench)
  shift
  suites=("${measures[@]}")
  ;;
esac
figure='^Benchmark.*\s1\s' # a result, of one run
least=1 # test of a suite must have run, unless the caller chooses among them
[ $# -eq 0 ] || least=0
install_programs
fetch_kernel
build_guest $(prefixed "$@")
for i in "${!suites[@]}"; do boot "$i" & done
wait
failed=0
for i in "${!suites[@]}"; do verdict "$i" || failed=1; done
exit $failed
