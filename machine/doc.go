// Package machine makes a Linux machine into a node of a cluster, and into a
// plain machine again. It is what kubeadm is to upstream:
//
//	podarium init    this machine becomes the control plane, and the first node
//	podarium join    another machine becomes a node of it
//	podarium token   the secrets with which machines join
//	podarium certs   how long certificates hold, and new ones
//	podarium reset   this machine becomes what it was before
//
// Files lie where kubeadm has them (/etc/kubernetes/pki/ca.crt,
// /etc/kubernetes/kubelet.conf, /var/lib/kubelet/pki), the phases are named
// as kubeadm names them, and the components run with upstream's flags, each as a
// service of systemd: `systemctl cat kube-apiserver`, `journalctl -u kubelet`.
//
// The steps of both, in the order in which they happen:
//
//	preflight       needs.go preflight.go   is all there, and nothing in the way?
//	                state.go                what was here before, for reset
//	discovery       discover.go             join: the CA, found by its hash
//	kernel          kernel.go               modules and settings, now and after a boot
//	programs        programs.go             /opt/podarium, CNI plugins, kubectl
//	certs           identities.go           init: CA, certificates, kubeconfigs
//	tls-bootstrap   request.go              join: certificates, asked for with the token
//	images          images.go               made here, no registry is asked
//	services        unit.go systemd.go      a unit for each component, started
//	addons          addons.go manifests/    init: kube-dns, who may join
//	bootstrap-token token.go                init: a token, and the words to say elsewhere
//
// Later, a timer does the certs step again in the last month of a certificate
// (certs.go).
//
// Every step looks first and does only what is missing, so that init and join can
// be run again: after an interruption they go on, after a change of flags they
// change what differs, and otherwise they say that all is there.
//
// The lab (package lab) uses the same steps for its nodes, which have no systemd.
package machine
