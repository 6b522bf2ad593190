// Package shim is the parent of one container: a small process which outlives the kubelet.
//
// Somebody has to hold the other end of a container's output and to collect its exit status. Were
// it the kubelet, a restart of the kubelet would end every container on the node. So each container
// has a shim, started like this:
//
//	kubelet ── podarium-shim serve DIR ── runc run --detach ── container
//	             stays                      exits at once        adopted by serve
//
// It has a session of its own, and the node's PID 1 adopts it when the kubelet ends. It declares itself
// child subreaper (prctl(2)), so that the kernel gives it the container's process when runc exits.
// Then it
//
//   - copies stdout and stderr into the log file, one line as "2026-01-02T03:04:05.6Z stdout F text"
//     (the format of the Kubernetes container runtime interface),
//   - answers on DIR/shim.sock: a connection stays open as long as the container lives, which is how
//     the kubelet learns of its end without asking again and again; attach goes through it too,
//   - writes DIR/exit.json when the container has ended, and exits.
//
// What kubelet and shim share on disk is in files.go; what they say on the socket is in protocol.go.
// The package uses the standard library and golang.org/x/sys only: it is in memory once a container.
package shim
