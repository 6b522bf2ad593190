package dns

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/yaml"
)

// conformanceObjects is a cluster with each kind of Service the specification
// knows, for both families. That publishNotReadyAddresses makes an endpoint
// ready is the EndpointSlice controller's business, as it is upstream's.
const conformanceObjects = `
kind: Service
metadata: {namespace: shop, name: web}
spec:
  clusterIP: 10.96.0.20
  clusterIPs: [10.96.0.20, "fd00:10:96::20"]
  ports:
  - {name: http, protocol: TCP, port: 80}
  - {name: quic, protocol: UDP, port: 443}
  - {name: sig, protocol: SCTP, port: 36412}
---
kind: Service
metadata: {namespace: shop, name: six}
spec: {clusterIP: "fd00:10:96::6", clusterIPs: ["fd00:10:96::6"], ports: [{protocol: TCP, port: 80}]}
---
kind: Service
metadata: {namespace: shop, name: db}
spec: {clusterIP: None, clusterIPs: [None], ports: [{name: sql, port: 5432}, {name: stats, port: 9187}]}
---
kind: EndpointSlice
metadata: {namespace: shop, name: db-4, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, protocol: TCP, port: 5432}, {name: stats, protocol: TCP, port: 9187}]
endpoints:
- {addresses: [10.244.1.5], hostname: db-0, conditions: {ready: true}}
- {addresses: [10.244.2.5], hostname: db-1, conditions: {ready: true}}
- {addresses: [10.244.3.5], hostname: db-2, conditions: {ready: false}}
---
kind: EndpointSlice
metadata: {namespace: shop, name: db-6, labels: {kubernetes.io/service-name: db}}
addressType: IPv6
ports: [{name: sql, protocol: TCP, port: 5432}, {name: stats, protocol: TCP, port: 9187}]
endpoints:
- {addresses: ["fd00:10:244:1::5"], hostname: db-0, conditions: {ready: true}}
---
kind: Service
metadata: {namespace: shop, name: cache}
spec: {clusterIP: None, clusterIPs: [None], ports: [{name: kv, port: 6379, targetPort: kv}]}
---
kind: EndpointSlice
metadata: {namespace: shop, name: cache-a, labels: {kubernetes.io/service-name: cache}}
addressType: IPv4
ports: [{name: kv, protocol: TCP, port: 6379}]
endpoints: [{addresses: [10.244.1.7]}]
---
kind: EndpointSlice
metadata: {namespace: shop, name: cache-b, labels: {kubernetes.io/service-name: cache}}
addressType: IPv4
ports: [{name: kv, protocol: TCP, port: 16379}]
endpoints: [{addresses: [10.244.2.7]}]
---
kind: Service
metadata: {namespace: shop, name: twins}
spec: {clusterIP: None, clusterIPs: [None]}
---
kind: EndpointSlice
metadata: {namespace: shop, name: twins-a, labels: {kubernetes.io/service-name: twins}}
addressType: IPv4
endpoints:
- {addresses: [10.244.1.8], hostname: twin, conditions: {ready: true}}
- {addresses: [10.244.2.8], hostname: twin, conditions: {ready: true}}
---
kind: Service
metadata: {namespace: shop, name: starting}
spec: {clusterIP: None, clusterIPs: [None], ports: [{name: http, port: 80}]}
---
kind: EndpointSlice
metadata: {namespace: shop, name: starting-a, labels: {kubernetes.io/service-name: starting}}
addressType: IPv4
ports: [{name: http, protocol: TCP, port: 80}]
endpoints: [{addresses: [10.244.3.9], hostname: first, conditions: {ready: false}}]
---
kind: Service
metadata: {namespace: shop, name: eager}
spec: {clusterIP: None, clusterIPs: [None], publishNotReadyAddresses: true}
---
kind: EndpointSlice
metadata: {namespace: shop, name: eager-a, labels: {kubernetes.io/service-name: eager}}
addressType: IPv4
endpoints: [{addresses: [10.244.3.10], hostname: first, conditions: {ready: true, serving: false}}]
---
kind: Service
metadata: {namespace: shop, name: mail}
spec: {type: ExternalName, externalName: mx.example.org}
---
kind: Service
metadata: {namespace: shop, name: alias}
spec: {type: ExternalName, externalName: web.shop.svc.cluster.local}
---
kind: Service
metadata: {namespace: shop, name: aliasalias}
spec: {type: ExternalName, externalName: alias.shop.svc.cluster.local}
---
kind: Service
metadata: {namespace: shop, name: ring}
spec: {type: ExternalName, externalName: gnir.shop.svc.cluster.local}
---
kind: Service
metadata: {namespace: shop, name: gnir}
spec: {type: ExternalName, externalName: ring.shop.svc.cluster.local}
---
kind: Namespace
metadata: {name: shop}
`

// conformance goes through the specification, version 1.1.0: each sentence
// with "must" (and the one "should"), and what dig prints for it: question,
// answers, "+" and the additional section.
const conformance = `
# 2.2 There must be a TXT record named dns-version.<zone>. that contains the semantic version of the DNS schema in use
dns-version.cluster.local. TXT
	dns-version.cluster.local. IN TXT "1.1.0"

# 2.3.1 If <cluster-ip> is an IPv4 address, an A record must exist
web.shop.svc.cluster.local. A
	web.shop.svc.cluster.local. IN A 10.96.0.20
six.shop.svc.cluster.local. A
	NODATA

# 2.3.1 If <cluster-ip> is an IPv6 address, an AAAA record must exist
web.shop.svc.cluster.local. AAAA
	web.shop.svc.cluster.local. IN AAAA fd00:10:96::20
six.shop.svc.cluster.local. AAAA
	six.shop.svc.cluster.local. IN AAAA fd00:10:96::6

# 2.3.2 For each port with name <port> and number <port-number> using protocol <protocol>, an SRV record must exist
_http._tcp.web.shop.svc.cluster.local. SRV
	_http._tcp.web.shop.svc.cluster.local. IN SRV 0 100 80 web.shop.svc.cluster.local.
	+ web.shop.svc.cluster.local. IN A 10.96.0.20
	+ web.shop.svc.cluster.local. IN AAAA fd00:10:96::20
_quic._udp.web.shop.svc.cluster.local. SRV
	_quic._udp.web.shop.svc.cluster.local. IN SRV 0 100 443 web.shop.svc.cluster.local.
	+ web.shop.svc.cluster.local. IN A 10.96.0.20
	+ web.shop.svc.cluster.local. IN AAAA fd00:10:96::20
_sig._sctp.web.shop.svc.cluster.local. SRV
	_sig._sctp.web.shop.svc.cluster.local. IN SRV 0 100 36412 web.shop.svc.cluster.local.
	+ web.shop.svc.cluster.local. IN A 10.96.0.20
	+ web.shop.svc.cluster.local. IN AAAA fd00:10:96::20

# 2.3.2 Unnamed ports do not have an SRV record
_._tcp.six.shop.svc.cluster.local. SRV
	NXDOMAIN
_tcp.six.shop.svc.cluster.local. SRV
	NXDOMAIN

# 2.3.3 Given an IPv4 Service ClusterIP <a>.<b>.<c>.<d>, a PTR record must exist
20.0.96.10.in-addr.arpa. PTR
	20.0.96.10.in-addr.arpa. IN PTR web.shop.svc.cluster.local.

# 2.3.3 Given an IPv6 Service ClusterIP, its hexadecimal digits in ip6.arpa must have a PTR record
0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa. PTR
	0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa. IN PTR web.shop.svc.cluster.local.

# 2.4.1 There must be an A record for each ready endpoint of the headless Service with an IPv4 address
db.shop.svc.cluster.local. A
	db.shop.svc.cluster.local. IN A 10.244.1.5
	db.shop.svc.cluster.local. IN A 10.244.2.5

# 2.4.1 There must be an AAAA record for each ready endpoint with an IPv6 address
db.shop.svc.cluster.local. AAAA
	db.shop.svc.cluster.local. IN AAAA fd00:10:244:1::5

# 2.4.1 If there are no ready endpoints for the headless Service, the answer should be NXDOMAIN
starting.shop.svc.cluster.local. A
	NXDOMAIN
first.starting.shop.svc.cluster.local. A
	NXDOMAIN
_http._tcp.starting.shop.svc.cluster.local. SRV
	NXDOMAIN
9.3.244.10.in-addr.arpa. PTR
	REFUSED

# ... and publishNotReadyAddresses makes them ready
eager.shop.svc.cluster.local. A
	eager.shop.svc.cluster.local. IN A 10.244.3.10
first.eager.shop.svc.cluster.local. A
	first.eager.shop.svc.cluster.local. IN A 10.244.3.10

# 2.4.1 There must also be an A record for each ready endpoint with hostname <hostname> and an IPv4 address
db-1.db.shop.svc.cluster.local. A
	db-1.db.shop.svc.cluster.local. IN A 10.244.2.5
db-2.db.shop.svc.cluster.local. A
	NXDOMAIN
db-1.db.shop.svc.cluster.local. AAAA
	NODATA

# 2.4.1 ... and an AAAA record for an IPv6 address
db-0.db.shop.svc.cluster.local. AAAA
	db-0.db.shop.svc.cluster.local. IN AAAA fd00:10:244:1::5

# 2.4.1 If there are multiple addresses for a given hostname, there must be one record for each IP
twin.twins.shop.svc.cluster.local. A
	twin.twins.shop.svc.cluster.local. IN A 10.244.1.8
	twin.twins.shop.svc.cluster.local. IN A 10.244.2.8

# 2.4.1 An endpoint without a hostname has one that we choose: its address
10-244-1-7.cache.shop.svc.cluster.local. A
	10-244-1-7.cache.shop.svc.cluster.local. IN A 10.244.1.7

# 2.4.2 For each combination of ready endpoint and named port an SRV record must exist: N x M
_sql._tcp.db.shop.svc.cluster.local. SRV
	_sql._tcp.db.shop.svc.cluster.local. IN SRV 0 100 5432 db-0.db.shop.svc.cluster.local.
	_sql._tcp.db.shop.svc.cluster.local. IN SRV 0 100 5432 db-1.db.shop.svc.cluster.local.
	+ db-0.db.shop.svc.cluster.local. IN A 10.244.1.5
	+ db-0.db.shop.svc.cluster.local. IN AAAA fd00:10:244:1::5
	+ db-1.db.shop.svc.cluster.local. IN A 10.244.2.5
db.shop.svc.cluster.local. SRV
	db.shop.svc.cluster.local. IN SRV 0 100 5432 db-0.db.shop.svc.cluster.local.
	db.shop.svc.cluster.local. IN SRV 0 100 5432 db-1.db.shop.svc.cluster.local.
	db.shop.svc.cluster.local. IN SRV 0 100 9187 db-0.db.shop.svc.cluster.local.
	db.shop.svc.cluster.local. IN SRV 0 100 9187 db-1.db.shop.svc.cluster.local.
	+ db-0.db.shop.svc.cluster.local. IN A 10.244.1.5
	+ db-0.db.shop.svc.cluster.local. IN AAAA fd00:10:244:1::5
	+ db-1.db.shop.svc.cluster.local. IN A 10.244.2.5

# 2.4.2 A port with one name and a number of its own on each endpoint
_kv._tcp.cache.shop.svc.cluster.local. SRV
	_kv._tcp.cache.shop.svc.cluster.local. IN SRV 0 100 16379 10-244-2-7.cache.shop.svc.cluster.local.
	_kv._tcp.cache.shop.svc.cluster.local. IN SRV 0 100 6379 10-244-1-7.cache.shop.svc.cluster.local.
	+ 10-244-1-7.cache.shop.svc.cluster.local. IN A 10.244.1.7
	+ 10-244-2-7.cache.shop.svc.cluster.local. IN A 10.244.2.7

# 2.4.3 Given a ready endpoint with hostname <hostname> and an IPv4 address, a PTR record must exist
5.2.244.10.in-addr.arpa. PTR
	5.2.244.10.in-addr.arpa. IN PTR db-1.db.shop.svc.cluster.local.
7.1.244.10.in-addr.arpa. PTR
	7.1.244.10.in-addr.arpa. IN PTR 10-244-1-7.cache.shop.svc.cluster.local.

# 2.4.3 ... and for an IPv6 address
5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.4.4.2.0.0.1.0.0.0.0.d.f.ip6.arpa. PTR
	5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.4.4.2.0.0.1.0.0.0.0.d.f.ip6.arpa. IN PTR db-0.db.shop.svc.cluster.local.

# 2.5 Given a Service with ExternalName <extname>, a CNAME record pointing to <extname> must exist
mail.shop.svc.cluster.local. CNAME
	mail.shop.svc.cluster.local. IN CNAME mx.example.org.
mail.shop.svc.cluster.local. A
	mail.shop.svc.cluster.local. IN CNAME mx.example.org.
alias.shop.svc.cluster.local. AAAA
	alias.shop.svc.cluster.local. IN CNAME web.shop.svc.cluster.local.
	web.shop.svc.cluster.local. IN AAAA fd00:10:96::20
alias.shop.svc.cluster.local. MX
	alias.shop.svc.cluster.local. IN CNAME web.shop.svc.cluster.local.

# An alias of an alias is followed, one that leads back to itself is not
aliasalias.shop.svc.cluster.local. A
	alias.shop.svc.cluster.local. IN CNAME web.shop.svc.cluster.local.
	aliasalias.shop.svc.cluster.local. IN CNAME alias.shop.svc.cluster.local.
	web.shop.svc.cluster.local. IN A 10.96.0.20
ring.shop.svc.cluster.local. A
	gnir.shop.svc.cluster.local. IN CNAME ring.shop.svc.cluster.local.
	ring.shop.svc.cluster.local. IN CNAME gnir.shop.svc.cluster.local.

# Names are the same in upper and lower case (RFC 4343), and come back as they were asked
WeB.sHoP.SVC.cluster.LOCAL. A
	WeB.sHoP.SVC.cluster.LOCAL. IN A 10.96.0.20

# Pods' names (not in the specification; as CoreDNS's "pods insecure")
10-244-1-5.shop.pod.cluster.local. A
	10-244-1-5.shop.pod.cluster.local. IN A 10.244.1.5
fd00-10-244-1--5.shop.pod.cluster.local. AAAA
	fd00-10-244-1--5.shop.pod.cluster.local. IN AAAA fd00:10:244:1::5
10-244-1-5.shop.pod.cluster.local. AAAA
	NODATA
`

func TestConformance(t *testing.T) {
	s := conformanceServer(t)
	must, question := "", ""
	var want []string
	check := func() {
		if question == "" {
			return
		}
		name, rrtype, _ := strings.Cut(question, " ")
		reply := ask(t, s, new(dns.Msg).SetQuestion(name, dns.StringToType[rrtype]), true)
		if diff := cmp.Diff(strings.Join(want, "\n"), digLines(reply)); diff != "" {
			t.Errorf("%s\n%s: %s", must, question, diff)
		}
		question, want = "", nil
	}
	for line := range strings.Lines(conformance) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "\t"):
			want = append(want, line[1:])
		case strings.HasPrefix(line, "#"):
			check()
			must = line
		default:
			check()
			question = line
		}
	}
	check()
}

// digLines is digest with a line for each record.
func digLines(m *dns.Msg) string {
	text := digest(m)
	answers, additional, _ := strings.Cut(text, " + ")
	lines := strings.Split(answers, "; ")
	if additional != "" {
		for line := range strings.SplitSeq(additional, "; ") {
			lines = append(lines, "+ "+line)
		}
	}
	return strings.Join(lines, "\n")
}

// conformanceServer has heard of all objects, in an order which puts slices
// before their Services too.
func conformanceServer(t testing.TB) *Server {
	t.Helper()
	s := newServer(Config{Domain: "cluster.local"})
	c := newCluster(s.index)
	documents := strings.Split(conformanceObjects, "---\n")
	for i := range documents {
		if i == len(documents)/2 {
			c.complete()
		}
		putDocument(t, c, documents[len(documents)-1-i])
	}
	s.synced.Store(true)
	return s
}

func putDocument(t testing.TB, c *cluster, document string) {
	t.Helper()
	decode := func(into any) {
		if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
	}
	switch {
	case strings.Contains(document, "kind: Namespace"):
		namespace := new(corev1.Namespace)
		decode(namespace)
		c.putNamespace(namespace)
	case strings.Contains(document, "kind: EndpointSlice"):
		es := new(discoveryv1.EndpointSlice)
		decode(es)
		c.putSlice(es)
	default:
		svc := new(corev1.Service)
		decode(svc)
		c.putService(svc)
	}
}

// TestEverythingCanGo: what came can go, in any order, and nothing is left.
func TestEverythingCanGo(t *testing.T) {
	s := conformanceServer(t)
	c := newCluster(s.index)
	for document := range strings.SplitSeq(conformanceObjects, "---\n") {
		putDocument(t, c, document)
	}
	c.complete()
	c.replaceServices(nil)
	c.replaceSlices(nil)
	c.replaceNamespaces(nil)
	for i := range s.index.packed.shards {
		if shard := s.index.packed.shards[i].Load(); shard != nil {
			for name := range *shard {
				switch name {
				case wireName("svc.cluster.local."), wireName("pod.cluster.local."), wireName("cluster.local."), wireName("dns-version.cluster.local."):
				default:
					t.Errorf("%q is left", name)
				}
			}
		}
	}
	s.index.reverse.Range(func(addr, names any) bool {
		t.Errorf("%v is still %v", addr, names)
		return true
	})
	if len(c.slices)+len(c.byService)+len(c.services) > 0 {
		t.Errorf("left: %v %v %v", c.slices, c.byService, c.services)
	}
}
