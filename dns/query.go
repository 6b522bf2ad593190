package dns

import (
	"strings"
)

// shape is what kind of name a question is about.
type shape int

// The names of a cluster, numbered as the specification goes through them;
// ZONE is cluster.local. Everything else does not exist.
const (
	shapeNone     shape = iota
	shapeApex           // 1. ZONE
	shapeVersion        // 2. dns-version.ZONE                    TXT "1.1.0"   (§2.2)
	shapeBranch         // 3. svc.ZONE, pod.ZONE, NS.svc.ZONE, NS.pod.ZONE: names above names
	shapeService        // 4. SERVICE.NS.svc.ZONE                 A AAAA        (§2.3.1, §2.4.1)
	shapePort           // 5. _PORT._PROTO.SERVICE.NS.svc.ZONE    SRV           (§2.3.2, §2.4.2)
	shapeProtocol       // 6. _PROTO.SERVICE.NS.svc.ZONE: the name above 5
	shapeEndpoint       // 7. HOSTNAME.SERVICE.NS.svc.ZONE        A AAAA        (§2.4.1)
	shapePod            // 8. 10-244-1-5.NS.pod.ZONE              A AAAA
)

// query is a question taken apart. All parts are in lower case.
type query struct {
	shape     shape
	namespace string // empty for svc.ZONE and pod.ZONE
	service   string
	port      string // without its underscore
	protocol  string // tcp, udp or sctp
	host      string // HOSTNAME, or 10-244-1-5
}

// parse sorts a fully qualified name, such as "Foo.default.svc.cluster.local.",
// into its shape. ok is false for a name outside of the zone.
func parse(name, zone string) (q query, ok bool) {
	name = strings.ToLower(name)
	if name == zone {
		return query{shape: shapeApex}, true
	}
	rest, ok := strings.CutSuffix(name, "."+zone)
	if !ok || strings.HasSuffix(rest, `\`) { // "x\.cluster.local.": that dot is part of a label
		return query{}, false
	}
	labels := strings.Split(rest, ".")
	if len(labels) == 1 && labels[0] == "dns-version" {
		return query{shape: shapeVersion}, true
	}
	switch labels[len(labels)-1] {
	case "svc":
		return parseService(labels[:len(labels)-1]), true
	case "pod":
		return parsePod(labels[:len(labels)-1]), true
	}
	return query{}, true
}

// parseService takes the labels before svc.ZONE.
func parseService(labels []string) query {
	n := len(labels)
	if n == 0 {
		return query{shape: shapeBranch}
	}
	q := query{namespace: labels[n-1]}
	if n == 1 {
		q.shape = shapeBranch
		return q
	}
	q.service = labels[n-2]
	switch {
	case n == 2:
		q.shape = shapeService
	case n == 3 && isProtocol(labels[0]):
		q.shape, q.protocol = shapeProtocol, labels[0][1:]
	case n == 3:
		q.shape, q.host = shapeEndpoint, labels[0]
	case n == 4 && strings.HasPrefix(labels[0], "_") && len(labels[0]) > 1 && isProtocol(labels[1]): // an unnamed port has no record
		q.shape, q.port, q.protocol = shapePort, labels[0][1:], labels[1][1:]
	}
	return q
}

func isProtocol(label string) bool {
	return label == "_tcp" || label == "_udp" || label == "_sctp"
}

// parsePod takes the labels before pod.ZONE.
func parsePod(labels []string) query {
	switch len(labels) {
	case 0:
		return query{shape: shapeBranch}
	case 1:
		return query{shape: shapeBranch, namespace: labels[0]}
	case 2:
		return query{shape: shapePod, host: labels[0], namespace: labels[1]}
	}
	return query{}
}
