// Package runtime makes containers out of namespaces, control groups, overlay mounts and runc.
//
// There is no daemon. A container is two directories, and they are all there is to know of it. What
// the next boot of the machine must not find stands below RUN, a tmpfs:
//
//	DIR/containers/ID/
//	  container.json   who it is: pod, name, attempt, image, times
//	  upper/ work/     what the container wrote, in front of the image's layers
//	  exit.json        how it ended
//	RUN/containers/ID/
//	  config.json      the OCI runtime specification which runc reads: with rootfs, this is the bundle
//	  rootfs/          overlay mount: the image's layers below, upper/ on top
//	  shim.json        what the shim shall do
//	  shim.sock        the shim's socket while the container lives
//	RUN/runc/          runc's own state
//
// The life of a container:
//
//	Create    writes the directory and mounts rootfs
//	Start     podarium-shim → runc run --detach (about 35 ms)
//	Wait      a connection to the shim which ends with the container
//	Signal    runc kill
//	Release   runc delete, unmount rootfs, remove the bundle; record and exit status stay
//	Remove    the directory goes too
//
// A new process finds the containers of an old one by reading the directories (Records), which is
// why the kubelet may be killed at any time.
//
// A pod's network, IPC and UTS namespaces are made by NewNamespaces and kept alive by bind mounts
// of /proc/…/ns/… on files; runc joins them by path. No process has to stay for that.
package runtime
