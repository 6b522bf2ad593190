// Package leader lets several copies of a component run while only one works.
//
// Controllers and the scheduler exist once per cluster, but a copy may stand ready on every control
// plane machine. They agree through a Lease object in kube-system: whoever wrote its name into
// spec.holderIdentity last, and renews it every two seconds, is the leader; the others look on. When
// the leader has not renewed for 15 s, another takes the lease over. See it live:
//
//	kubectl -n kube-system get lease kube-scheduler -o yaml
//
// # Fast restart
//
// Upstream adds a random suffix to the host name, so a component which crashed and came back is a
// stranger to its own lease and waits 15 s. Here the identity is the host name alone, and a restarted
// component goes on with its own lease at once. Two copies on one host would then both be "the
// holder". The health port prevents it: it is bound before the lease is asked for, and the kernel
// gives a port to one process only (and takes it back in the instant the process dies).
package leader
