# What a kubelet has made on its node: a line "kind owner" for each thing. The owner is the UID of a
# pod, the ID of a container, or a pod's address.
cd /var/lib/kubelet
ls pods run/pods | grep -v '^$\|:$' | sort -u | sed 's/^/dir /'
ls containers run/containers | grep -v '^$\|:$' | sort -u | sed 's/^/container /'
ls run/runc | sed 's/^/runc /'
grep -l " $(hostname) " /var/lib/podarium/images/uses/* | sed 's,.*/,mark ,'
ls /var/log/pods | sed 's/.*_/log /'
ls /var/lib/cni/podarium/podarium | grep '^10\.' | sed 's/^/address /'
sed -n 's,^[^ ]* [^ ]* [^ ]* [^ ]* /var/lib/kubelet/run/pods/\([^/]*\)/ns/net .*,netns \1,p
	s,^[^ ]* [^ ]* [^ ]* [^ ]* /var/lib/kubelet/run/pods/\([^/]*\)/shm .*,shm \1,p
	s,^[^ ]* [^ ]* [^ ]* [^ ]* /var/lib/kubelet/pods/\([^/]*\)/volumes/.*/ram .*,ram \1,p
	s,^[^ ]* [^ ]* [^ ]* [^ ]* /var/lib/kubelet/run/containers/\([^/]*\)/rootfs .*,rootfs \1,p' /proc/self/mountinfo
# control groups, in whichever hierarchy: every name once
root=$(tr '\0' '\n' </proc/$(pgrep -x -f 'kubelet .*')/cmdline | sed -n 's/^--cgroup-root=//p')
find /sys/fs/cgroup -type d -path "*$root/kubepods/*" -name 'pod*' | sed 's,.*/pod,cgroup ,' | sort -u
find /sys/fs/cgroup -type d -path "*$root/kubepods/*/pod*/*" | sed -n 's,.*/pod[^/]*/\([^/]*\)$,group \1,p' | sort -u
# cables, by the address at the other end: the neighbour of the bridge port has the pod's MAC, 0a:58 and
# the address in hexadecimal
for netns in run/pods/*/ns/net; do
	nsenter --net="$netns" ip -o -4 addr show dev eth0 2>/dev/null | sed 's,.*inet \([0-9.]*\)/.*,veth \1,'
done
# a port of the bridge whose pod is gone would be one too many
ports=$(ip -o link show master cni0 | wc -l) pods=$(ls pods | wc -l)
[ "$ports" = "$pods" ] || echo "veth $ports ports for $pods pods"
for shim in $(pgrep -x -f 'podarium-shim serve .*'); do tr '\0' '\n' </proc/$shim/cmdline | tail -1 | sed 's,.*/,shim ,'; done
# the first process of each container, by its control group
for pid in $(ls /proc | grep '^[0-9]*$'); do
	sed -n 's,.*/pod[^/]*/\([0-9a-f]\{64\}\)$,process \1,p' /proc/$pid/cgroup 2>/dev/null | head -1
done | sort -u
