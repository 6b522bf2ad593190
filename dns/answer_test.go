package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testServer knows two namespaces and four Services: a ClusterIP, a headless
// one with endpoints in two slices, a headless one with nobody ready, and an
// external name.
func testServer() *Server {
	s := newServer(Config{Domain: "cluster.local"})
	s.synced.Store(true)
	s.index.setNamespace("default", true)
	s.index.setNamespace("empty", true)
	tcp, udp := corev1.ProtocolTCP, corev1.ProtocolUDP
	put := func(name string, spec corev1.ServiceSpec, slicesOf ...*discoveryv1.EndpointSlice) {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: spec}
		s.index.set(key{"default", name}, computed(svc, slicesOf...))
	}
	put("web", corev1.ServiceSpec{
		ClusterIP: "10.96.0.20", ClusterIPs: []string{"10.96.0.20"},
		Ports: []corev1.ServicePort{{Name: "http", Protocol: tcp, Port: 80}, {Name: "metrics", Protocol: udp, Port: 9100}},
	})
	put("db", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}, &discoveryv1.EndpointSlice{
		Ports: []discoveryv1.EndpointPort{{Name: new("sql"), Protocol: &tcp, Port: new(int32(5432))}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.244.1.5"}, Hostname: new("db-0"), Conditions: discoveryv1.EndpointConditions{Ready: new(true)}},
			{Addresses: []string{"10.244.2.9"}, Conditions: discoveryv1.EndpointConditions{Ready: new(false)}},
		},
	}, &discoveryv1.EndpointSlice{
		Ports:     []discoveryv1.EndpointPort{{Name: new("sql"), Protocol: &tcp, Port: new(int32(5433))}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.3.7"}}},
	})
	put("starting", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}, &discoveryv1.EndpointSlice{
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.2.9"}, Conditions: discoveryv1.EndpointConditions{Ready: new(false)}}},
	})
	put("outside", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "web.default.svc.cluster.local"})
	return s
}

// computed is compute on the API's own objects.
func computed(svc *corev1.Service, objects ...*discoveryv1.EndpointSlice) *records {
	var slicesOf []*slice
	for _, object := range objects {
		slicesOf = append(slicesOf, readSlice(object))
	}
	return compute(readService(svc), slicesOf)
}

// TestAnswers has what dig would print: the answer section without TTLs, then
// "+" and the additional section; or the code when there is no answer.
func TestAnswers(t *testing.T) {
	s := testServer()
	for _, tc := range []struct{ name, qtype, want string }{
		// §2.2 schema version
		{"dns-version.cluster.local.", "TXT", `dns-version.cluster.local. IN TXT "1.1.0"`},
		// §2.3 ClusterIP
		{"web.default.svc.cluster.local.", "A", "web.default.svc.cluster.local. IN A 10.96.0.20"},
		{"WeB.default.svc.cluster.local.", "A", "WeB.default.svc.cluster.local. IN A 10.96.0.20"},
		{"web.default.svc.cluster.local.", "AAAA", "NODATA"},
		{"_http._tcp.web.default.svc.cluster.local.", "SRV", "_http._tcp.web.default.svc.cluster.local. IN SRV 0 100 80 web.default.svc.cluster.local. + web.default.svc.cluster.local. IN A 10.96.0.20"},
		{"_metrics._udp.web.default.svc.cluster.local.", "SRV", "_metrics._udp.web.default.svc.cluster.local. IN SRV 0 100 9100 web.default.svc.cluster.local. + web.default.svc.cluster.local. IN A 10.96.0.20"},
		{"_http._udp.web.default.svc.cluster.local.", "SRV", "NXDOMAIN"},
		{"_http._tcp.web.default.svc.cluster.local.", "A", "NODATA"},
		{"_tcp.web.default.svc.cluster.local.", "A", "NODATA"},
		{"_sctp.web.default.svc.cluster.local.", "A", "NXDOMAIN"},
		{"20.0.96.10.in-addr.arpa.", "PTR", "20.0.96.10.in-addr.arpa. IN PTR web.default.svc.cluster.local."},
		// §2.4 headless
		{"db.default.svc.cluster.local.", "A", "db.default.svc.cluster.local. IN A 10.244.1.5; db.default.svc.cluster.local. IN A 10.244.3.7"},
		{"db-0.db.default.svc.cluster.local.", "A", "db-0.db.default.svc.cluster.local. IN A 10.244.1.5"},
		{"10-244-3-7.db.default.svc.cluster.local.", "A", "10-244-3-7.db.default.svc.cluster.local. IN A 10.244.3.7"},
		{"10-244-2-9.db.default.svc.cluster.local.", "A", "NXDOMAIN"},
		{"_sql._tcp.db.default.svc.cluster.local.", "SRV", "_sql._tcp.db.default.svc.cluster.local. IN SRV 0 100 5432 db-0.db.default.svc.cluster.local.; _sql._tcp.db.default.svc.cluster.local. IN SRV 0 100 5433 10-244-3-7.db.default.svc.cluster.local. + 10-244-3-7.db.default.svc.cluster.local. IN A 10.244.3.7; db-0.db.default.svc.cluster.local. IN A 10.244.1.5"},
		{"5.1.244.10.in-addr.arpa.", "PTR", "5.1.244.10.in-addr.arpa. IN PTR db-0.db.default.svc.cluster.local."},
		{"starting.default.svc.cluster.local.", "A", "NXDOMAIN"},
		// §2.5 external name, followed inside the cluster
		{"outside.default.svc.cluster.local.", "A", "outside.default.svc.cluster.local. IN CNAME web.default.svc.cluster.local.; web.default.svc.cluster.local. IN A 10.96.0.20"},
		{"outside.default.svc.cluster.local.", "CNAME", "outside.default.svc.cluster.local. IN CNAME web.default.svc.cluster.local."},
		// pods
		{"10-244-1-5.default.pod.cluster.local.", "A", "10-244-1-5.default.pod.cluster.local. IN A 10.244.1.5"},
		{"10-244-1-5.nowhere.pod.cluster.local.", "A", "NXDOMAIN"},
		{"not-an-address.default.pod.cluster.local.", "A", "NXDOMAIN"},
		// names above names
		{"svc.cluster.local.", "A", "NODATA"},
		{"default.svc.cluster.local.", "A", "NODATA"},
		{"empty.svc.cluster.local.", "A", "NODATA"},
		{"nowhere.svc.cluster.local.", "A", "NXDOMAIN"},
		{"cluster.local.", "A", "NODATA"},
		// what is not there
		{"nobody.default.svc.cluster.local.", "A", "NXDOMAIN"},
		{"web.default.cluster.local.", "A", "NXDOMAIN"},
		{"a.b.web.default.svc.cluster.local.", "A", "NXDOMAIN"},
		{"example.org.", "A", "REFUSED"},
		{"9.9.9.9.in-addr.arpa.", "PTR", "REFUSED"},
	} {
		reply := ask(t, s, new(dns.Msg).SetQuestion(tc.name, dns.StringToType[tc.qtype]), false)
		if diff := cmp.Diff(tc.want, digest(reply)); diff != "" {
			t.Errorf("%s %s: %s", tc.name, tc.qtype, diff)
		}
	}
}

// digest writes a message down in one line.
func digest(m *dns.Msg) string {
	switch {
	case m.Rcode == dns.RcodeNameError:
		return "NXDOMAIN"
	case m.Rcode != dns.RcodeSuccess:
		return dns.RcodeToString[m.Rcode]
	case len(m.Answer) == 0:
		return "NODATA"
	}
	text := section(m.Answer)
	if len(m.Extra) > 0 {
		text += " + " + section(m.Extra)
	}
	return text
}

func section(rrs []dns.RR) string {
	var lines []string
	for _, rr := range rrs {
		fields := strings.Fields(rr.String())
		lines = append(lines, strings.Join(append(fields[:1], fields[2:]...), " ")) // without the TTL
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

func TestNegativeAnswersCarryTheSOA(t *testing.T) {
	s := testServer()
	for _, name := range []string{"nobody.default.svc.cluster.local.", "default.svc.cluster.local."} {
		reply := ask(t, s, new(dns.Msg).SetQuestion(name, dns.TypeA), false)
		if len(reply.Ns) != 1 || reply.Ns[0].Header().Rrtype != dns.TypeSOA || !reply.Authoritative {
			t.Errorf("%s: %v", name, reply)
		}
	}
}

func TestReverseFollowsAChange(t *testing.T) {
	s := testServer()
	web := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.21", ClusterIPs: []string{"10.96.0.21"}},
	}
	s.index.set(key{"default", "web"}, computed(web))
	reverse := func(name string) string {
		return digest(ask(t, s, new(dns.Msg).SetQuestion(name, dns.TypePTR), false))
	}
	if got := reverse("20.0.96.10.in-addr.arpa."); got != "REFUSED" {
		t.Errorf("the old address is still %s", got)
	}
	if got := reverse("21.0.96.10.in-addr.arpa."); !strings.HasSuffix(got, "PTR web.default.svc.cluster.local.") {
		t.Errorf("the new address is %s", got)
	}
	s.index.set(key{"default", "web"}, nil)
	if got := reverse("21.0.96.10.in-addr.arpa."); got != "REFUSED" {
		t.Errorf("a deleted service's address is still %s", got)
	}
}

func TestBigAnswersAreCutForUDP(t *testing.T) {
	s := testServer()
	slice := &discoveryv1.EndpointSlice{}
	for i := range 200 {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.1.%d", i)}})
	}
	svc := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}}
	s.index.set(key{"default", "big"}, computed(svc, slice))
	question := new(dns.Msg).SetQuestion("big.default.svc.cluster.local.", dns.TypeA)
	if udp := ask(t, s, question, false); !udp.Truncated || udp.Len() > dns.MinMsgSize {
		t.Errorf("UDP without EDNS0: truncated %v, %d bytes", udp.Truncated, udp.Len())
	}
	if tcp := ask(t, s, question, true); tcp.Truncated || len(tcp.Answer) != 200 {
		t.Errorf("TCP: truncated %v, %d answers", tcp.Truncated, len(tcp.Answer))
	}
	question.SetEdns0(4096, false)
	if udp := ask(t, s, question, false); udp.Len() > udpSize || udp.IsEdns0() == nil {
		t.Errorf("UDP with EDNS0: %d bytes", udp.Len())
	}
}

// ask sends a message through the server as a packet, both ways which are
// there: quickly, if that gives an answer, and composed; they must agree.
func ask(t testing.TB, s *Server, question *dns.Msg, tcp bool) *dns.Msg {
	t.Helper()
	packet, err := question.Pack()
	if err != nil {
		t.Fatal(err)
	}
	composed := unpack(t, s.compose(packet, netip.Addr{}, tcp))
	composed.Compress = true // Len is that of the packet
	wire, done := s.quick(new(request), packet, tcp)
	if !done {
		return composed
	}
	quick := unpack(t, wire)
	if a, b := dump(quick), dump(composed); a != b {
		t.Errorf("quick:\n%s\ncomposed:\n%s", a, b)
	}
	quick.Compress = true
	return quick
}

func unpack(t testing.TB, packet []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(packet); err != nil {
		t.Fatalf("answer %x: %v", packet, err)
	}
	return m
}

// dump is all of a message but the order of its records.
func dump(m *dns.Msg) string {
	m = m.Copy()
	for _, records := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		slices.SortFunc(records, func(a, b dns.RR) int { return strings.Compare(a.String(), b.String()) })
	}
	return m.String()
}

// FuzzPackets: whatever comes in, what goes out can be read, has the id and
// question that came in, and fits.
func FuzzPackets(f *testing.F) {
	for _, name := range []string{"web.default.svc.cluster.local.", "_http._tcp.web.default.svc.cluster.local.", "1.0.96.10.in-addr.arpa.", "x.pod.cluster.local."} {
		for _, rrtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeANY} {
			m := new(dns.Msg).SetQuestion(name, rrtype)
			for range 2 {
				packed, err := m.Pack()
				if err != nil {
					f.Fatal(err)
				}
				f.Add(packed)
				m.SetEdns0(4096, true)
			}
		}
	}
	s := testServer()
	f.Fuzz(func(t *testing.T, packet []byte) {
		wire, done := s.quick(new(request), packet, false)
		if done && wire == nil {
			return // dropped
		}
		if !done {
			wire = s.compose(packet, netip.Addr{}, false)
		}
		reply := unpack(t, wire)
		if !reply.Response || reply.Id != uint16(packet[0])<<8|uint16(packet[1]) {
			t.Errorf("header of the answer to %x: %x", packet, wire)
		}
		request := new(dns.Msg)
		if request.Unpack(packet) == nil && len(request.Question) == 1 && len(reply.Question) == 1 && request.Question[0] != reply.Question[0] {
			t.Errorf("asked %v, answered %v", request.Question, reply.Question)
		}
		if len(wire) > udpSize {
			t.Errorf("%d bytes", len(wire))
		}
	})
}
