package dns

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// FuzzNames: whatever names a Service, its ports and endpoints and the zone
// have, every name that can be asked is answered, and none outlives its Service.
// If all are labels, as the API server wants them, the table and what is
// composed must agree.
func FuzzNames(f *testing.F) {
	f.Add("cluster.local", "default", "web", "db-0", "http", "example.org")
	f.Add("k8s.example", "a.b", "_x", "10-244-1-5", "_http", "web.default.svc.k8s.example.")
	f.Add("x", "", "*", "..", "\\", "\\000.")
	f.Fuzz(func(t *testing.T, zone, namespace, name, host, portName, target string) {
		if _, err := clusterZone(zone); err != nil {
			return
		}
		s := newServer(Config{Domain: zone})
		s.synced.Store(true)
		s.index.setNamespace(namespace, true)
		headless, alias := key{namespace, name}, key{namespace, name + "-alias"}
		tcp := corev1.ProtocolTCP
		s.index.set(headless, computed(
			&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}},
			&discoveryv1.EndpointSlice{
				Ports:     []discoveryv1.EndpointPort{{Name: &portName, Protocol: &tcp, Port: new(int32(80))}},
				Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.5"}, Hostname: &host}},
			}))
		s.index.set(alias, computed(&corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: target}}))
		base := "." + namespace + ".svc." + s.index.zone
		asked := []string{name + base, name + "-alias" + base, host + "." + name + base, "_" + portName + "._tcp." + name + base, "_tcp." + name + base, "5.1.244.10.in-addr.arpa."}
		labels := isLabel(namespace) && isLabel(name) && isLabel(host) && isLabel(portName)
		for _, question := range asked {
			askAny(t, s, question, labels)
		}
		s.index.set(headless, nil)
		s.index.set(alias, nil)
		if names := s.index.namesOf(netip.AddrFrom4([4]byte{10, 244, 1, 5})); len(names) > 0 {
			t.Errorf("10.244.1.5 is still %v", names)
		}
		for _, question := range asked[:5] {
			if e := s.index.packed.lookup([]byte(wireName(question))); e != nil && wireName(question) != "" && len(e.rrsets) > 0 {
				t.Errorf("%q is still answered", question)
			}
		}
	})
}

func isLabel(s string) bool { return len(validation.IsDNS1123Label(s)) == 0 }

// askAny asks for the types a name may have, if it is a name at all.
func askAny(t *testing.T, s *Server, name string, labels bool) {
	t.Helper()
	for _, rrtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypePTR, dns.TypeCNAME} {
		question := new(dns.Msg).SetQuestion(name, rrtype)
		packet, err := question.Pack()
		switch {
		case err != nil: // no name
		case labels:
			ask(t, s, question, true)
		default:
			unpack(t, s.compose(packet, netip.Addr{}, true))
			if wire, done := s.quick(new(request), packet, true); done {
				unpack(t, wire)
			}
		}
	}
}

func TestClusterZone(t *testing.T) {
	for domain, want := range map[string]string{"cluster.local": "cluster.local.", "Cluster.Local.": "cluster.local."} {
		if got, err := clusterZone(domain); got != want || err != nil {
			t.Errorf("%q: %q %v", domain, got, err)
		}
	}
	for _, domain := range []string{"", ".", "a..b", "white space", "under_score", "-x.y", "192.0.2.1:53"} {
		if _, err := clusterZone(domain); err == nil {
			t.Errorf("%q is taken for a domain", domain)
		}
	}
}
