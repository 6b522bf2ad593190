package ipvs

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// servers are the virtual servers, by where they listen.
type servers map[portal]*server

// server is a virtual server.
type server struct {
	scheduler string
	flags     uint32                 // of linux/ip_vs.h
	timeout   uint32                 // seconds for which a client keeps its real server; 0: not at all
	real      map[netip.AddrPort]int // real servers and their weights
}

// The weights: a real server of weight 0 gets no new connection, and keeps
// those it has.
const (
	active   = 1
	draining = 0
)

// The flags of a virtual server (linux/ip_vs.h, IP_VS_SVC_F_…).
const (
	flagPersistent = 0x1
	flagHashed     = 0x2  // the kernel's own, to be ignored
	flagFallback   = 0x8  // sh, mh: another real server when the one hashed to drains
	flagMHPort     = 0x10 // mh: the client's port counts too
)

// schedulerFlags are what kube-proxy asks for with mh, and, with both hashes,
// that clients of a real server which drains are not refused meanwhile.
// schedulerOptions is how ipvsadm writes them.
var (
	schedulerFlags   = map[string]uint32{"sh": flagFallback, "mh": flagFallback | flagMHPort}
	schedulerOptions = map[string]string{"sh": " -b sh-fallback", "mh": " -b mh-fallback,mh-port"}
)

func (s *server) sameService(other *server) bool {
	return s.scheduler == other.scheduler && s.flags == other.flags && s.timeout == other.timeout
}

// verb is what a step does, by ipvsadm's option for it.
type verb string

const (
	addServer    verb = "-A"
	editServer   verb = "-E"
	deleteServer verb = "-D"
	addReal      verb = "-a"
	editReal     verb = "-e"
	deleteReal   verb = "-d"
)

// step is one change of the kernel's virtual servers.
type step struct {
	verb   verb
	at     portal
	server *server        // of addServer and editServer
	real   netip.AddrPort // of the last three
	weight int
}

// String is the step as ipvsadm would be asked to do it.
func (s step) String() string {
	text := fmt.Sprintf("%s --%s-service %s", s.verb, s.at.protocol, s.at.address)
	switch s.verb {
	case addServer, editServer:
		text += " -s " + s.server.scheduler
		if s.server.flags&flagPersistent != 0 {
			text += fmt.Sprintf(" -p %d", s.server.timeout)
		}
		text += schedulerOptions[s.server.scheduler]
	case addReal, editReal:
		text += fmt.Sprintf(" -r %s -m -w %d", s.real, s.weight)
	case deleteReal:
		text += " -r " + s.real.String()
	case deleteServer:
	}
	return text
}

// serverSteps are what leads from one set of virtual servers to another: first
// what must be there before packets come, then, in gone, what only goes when
// none do. A TCP or SCTP real server which is not wanted any more is not
// deleted but given weight 0, so that its connections may end in peace; drained
// ones are deleted later. One of UDP knows no end: it has weight 0 while its
// endpoint still answers, and is deleted when it does not.
func serverSteps(have, want servers) (steps, gone []step) {
	for _, at := range want.order() {
		after, before := want[at], have[at]
		switch {
		case before == nil:
			steps = append(steps, step{verb: addServer, at: at, server: after})
			before = &server{}
		case !before.sameService(after):
			steps = append(steps, step{verb: editServer, at: at, server: after})
		}
		steps = append(steps, realSteps(at, before.real, after.real)...)
	}
	for _, at := range have.order() {
		if want[at] == nil {
			gone = append(gone, step{verb: deleteServer, at: at})
		}
	}
	return steps, gone
}

func realSteps(at portal, have, want map[netip.AddrPort]int) []step {
	var steps []step
	for _, real := range sorted(want) {
		weight, there := have[real]
		switch {
		case !there && want[real] != draining:
			steps = append(steps, step{verb: addReal, at: at, real: real, weight: want[real]})
		case there && weight != want[real]:
			steps = append(steps, step{verb: editReal, at: at, real: real, weight: want[real]})
		}
	}
	for _, real := range sorted(have) {
		_, wanted := want[real]
		switch {
		case wanted:
		case at.protocol == "udp":
			steps = append(steps, step{verb: deleteReal, at: at, real: real})
		case have[real] != draining:
			steps = append(steps, step{verb: editReal, at: at, real: real, weight: draining})
		}
	}
	return steps
}

// after is what the kernel has when a plan's steps are done: what is wanted,
// and what still drains.
func (have servers) after(want servers) servers {
	result := servers{}
	for at, wanted := range want {
		s := *wanted
		s.real = maps.Clone(wanted.real)
		var before map[netip.AddrPort]int
		if have[at] != nil {
			before = have[at].real
		}
		for real, weight := range wanted.real {
			if _, there := before[real]; weight == draining && !there {
				delete(s.real, real) // not added only to drain
			}
		}
		for real := range before {
			if _, ok := wanted.real[real]; !ok && at.protocol != "udp" {
				s.real[real] = draining
			}
		}
		result[at] = &s
	}
	return result
}

// drains are the virtual servers with TCP or SCTP real servers of weight 0.
func (have servers) drains() []portal {
	var list []portal
	for _, at := range have.order() {
		if at.protocol == "udp" {
			continue
		}
		for _, weight := range have[at].real {
			if weight == draining {
				list = append(list, at)
				break
			}
		}
	}
	return list
}

// String is `ipvsadm-save -n`, with long options and in order.
func (have servers) String() string {
	steps, _ := serverSteps(servers{}, have)
	var text strings.Builder
	for _, s := range steps {
		text.WriteString(s.String() + "\n")
	}
	return text.String()
}

func (have servers) order() []portal {
	return slices.SortedFunc(maps.Keys(have), func(a, b portal) int {
		return cmp.Or(a.address.Compare(b.address), strings.Compare(a.protocol, b.protocol))
	})
}

func sorted(real map[netip.AddrPort]int) []netip.AddrPort {
	return slices.SortedFunc(maps.Keys(real), netip.AddrPort.Compare)
}
