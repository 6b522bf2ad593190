package dns

import (
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
)

// completion walks a pod's search path for it. A pod in namespace default that
// asks for example.org asks four times, because its resolv.conf has ndots:5 and
//
//	search default.svc.cluster.local svc.cluster.local cluster.local
//
// Its first question, example.org.default.svc.cluster.local, tells what it is
// about: whoever asks for a name below its own namespace's domain, which does
// not exist, is at the beginning of its search path. So the rest of the path is
// tried here, and the first name that exists is the answer, behind a CNAME
// that says so. (CoreDNS calls this autopath.) It costs a watch on all pods,
// which tells in what namespace an address is.
type completion struct {
	namespaces sync.Map // netip.Addr → string
	rest       []string // of the search path, after the namespace's own domain
}

// newCompletion completes within the zone and then in the node's own domains.
func newCompletion(zone string, domains []string) *completion {
	return &completion{rest: append(append([]string{"svc." + zone, zone}, domains...), "")}
}

// complete looks a name that does not exist up further down the search path.
func (s *Server) complete(question dns.Question, client netip.Addr) result {
	base, ok := s.completion.base(question.Name, client, s.index.zone)
	if !ok {
		return result{}
	}
	for _, domain := range s.completion.rest {
		name := base + "." + domain
		next := dns.Question{Name: name, Qtype: question.Qtype, Qclass: question.Qclass}
		found := s.index.answer(next)
		if found.upstream {
			found = s.elsewhere(next)
		}
		if found.chase != "" {
			found.records = append(found.records, s.forwarder.chase(next, found.chase)...)
			found.chase = ""
		}
		if !found.exists {
			continue
		}
		if len(found.records) > 0 {
			alias := &dns.CNAME{Hdr: header(question.Name, dns.TypeCNAME), Target: name}
			found.records = append([]dns.RR{alias}, found.records...)
		}
		return found
	}
	return result{}
}

// elsewhere asks upstream. An upstream that does not know, or does not
// answer, leaves the name as it is: not there.
func (s *Server) elsewhere(question dns.Question) result {
	answer, err := s.forwarder.resolve(question, false, false)
	if err != nil || answer.Rcode != dns.RcodeSuccess {
		return result{}
	}
	return result{records: answer.Answer, exists: true}
}

// base is what a pod wrote, if a question is the first of its search path.
func (c *completion) base(name string, client netip.Addr, zone string) (string, bool) {
	namespace, ok := c.namespaces.Load(client)
	if !ok {
		return "", false
	}
	own := "." + namespace.(string) + ".svc." + zone
	at := len(name) - len(own)
	if at <= 0 || !strings.EqualFold(name[at:], own) {
		return "", false
	}
	return name[:at], true
}

// podStore takes pods from a watch: their addresses, no more.
type podStore struct{ c *completion }

func (p podStore) put(object any) {
	pod := object.(*corev1.Pod)
	if pod.Spec.HostNetwork { // a node's address is no namespace's
		return
	}
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	for _, ip := range pod.Status.PodIPs {
		addr, err := netip.ParseAddr(ip.IP)
		switch {
		case err != nil:
		case ended: // the address is free for another pod
			p.c.namespaces.CompareAndDelete(addr, pod.Namespace)
		default:
			p.c.namespaces.Store(addr, pod.Namespace)
		}
	}
}

func (p podStore) remove(object any) {
	pod := object.(*corev1.Pod)
	for _, ip := range pod.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil && !pod.Spec.HostNetwork {
			p.c.namespaces.CompareAndDelete(addr, pod.Namespace)
		}
	}
}

// replace: addresses of pods which went unseen are forgotten.
func (p podStore) replace(objects []any) {
	fresh := &completion{}
	for _, object := range objects {
		podStore{fresh}.put(object)
	}
	fresh.namespaces.Range(func(addr, namespace any) bool {
		p.c.namespaces.Store(addr, namespace)
		return true
	})
	p.c.namespaces.Range(func(addr, _ any) bool {
		if _, stays := fresh.namespaces.Load(addr); !stays {
			p.c.namespaces.Delete(addr)
		}
		return true
	})
}
