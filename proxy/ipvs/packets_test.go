//go:build ipvsguest

package ipvs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/netns"
	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/proxytest"
)

// What only ipvs mode does; what all modes do is in ../matrix.

// web is a Service with these endpoints, on port 80 of 10.96.0.20.
func web(protocol, more string, endpoints ...string) string {
	objects := fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  clusterIP: 10.96.0.20
  clusterIPs: [10.96.0.20]
  ports: [{protocol: %s, port: 80}]
  %s
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", protocol: %[1]s, port: 8080}]
endpoints:
`, protocol, more)
	for _, e := range endpoints {
		objects += fmt.Sprintf("- {addresses: [%s], nodeName: node-1, conditions: {ready: true}}\n", e)
	}
	if len(endpoints) == 0 {
		objects += "  []\n"
	}
	return objects
}

// patience is how long an answer may take: the emulated machine may share its
// processor with many.
const patience = 30 * time.Second

const (
	portalAddress = "10.96.0.20:80"
	podB, podC    = "10.244.1.3", "10.244.1.4"
)

// newPods is node-1 with three pods, 10.244.1.2 to .4, that send back what they
// get, line by line, after their address.
func newPods(t *testing.T) (*testNode, []*nstest.Host) {
	t.Helper()
	n := newNode(t)
	pods := proxytest.Pods(t, 3)
	for i, pod := range pods {
		echo(t, pod, fmt.Sprintf("10.244.1.%d", i+2))
	}
	return n, pods
}

func echo(t *testing.T, pod *nstest.Host, ip string) {
	t.Helper()
	listener, err := netns.Listen(context.Background(), pod.Path(), ip+":8080")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprint(conn, ip)
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	var packets net.PacketConn
	if err := netns.Do(pod.Path(), func() (err error) {
		packets, err = net.ListenPacket("udp", ip+":8080")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	go func() {
		buffer := make([]byte, 100)
		for {
			_, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo([]byte(ip), from)
		}
	}()
}

// connect is a connection from a pod to the Service, and who answered.
func connect(pod *nstest.Host, network string) (net.Conn, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := netns.Dial(ctx, pod.Path(), network, portalAddress)
	if err != nil {
		return nil, "", err
	}
	if network == "udp" {
		fmt.Fprint(conn, "who?")
	}
	heard, err := read(conn)
	return conn, heard, err
}

func read(conn net.Conn) (string, error) {
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	buffer := make([]byte, 100)
	n, err := conn.Read(buffer)
	return string(buffer[:n]), err
}

// who asks once and ends the connection with a reset, which IPVS forgets after
// ten seconds instead of two minutes.
func who(t *testing.T, pod *nstest.Host, network string) string {
	t.Helper()
	conn, heard, err := connect(pod, network)
	if err != nil {
		t.Fatalf("no answer from %s: %v", portalAddress, err)
	}
	reset(conn)
	return heard
}

func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

func TestEndpointsTakeTurns(t *testing.T) {
	n, pods := newPods(t)
	n.sync(t, web("TCP", "", podB, podC))
	heard := map[string]int{}
	for range 30 {
		heard[who(t, pods[0], "tcp")]++
	}
	if heard[podB] != 15 || heard[podC] != 15 {
		t.Errorf("of 30 connections: %v", heard)
	}
}

// TestConnectionsEndInPeace: an endpoint that is taken away keeps the
// connections it has, gets no new one, and is deleted after the last has ended.
func TestConnectionsEndInPeace(t *testing.T) {
	t.Parallel()
	n, pods := newPods(t)
	n.sync(t, web("TCP", "", podB))
	conn, heard, err := connect(pods[0], "tcp")
	if err != nil || heard != podB {
		t.Fatalf("%q, %v", heard, err)
	}
	n.sync(t, web("TCP", "", podC))
	for range 4 {
		if heard := who(t, pods[0], "tcp"); heard != podC {
			t.Errorf("a new connection went to %s", heard)
		}
	}
	fmt.Fprint(conn, "still there?")
	if heard, err := read(conn); heard != "still there?" {
		t.Errorf("the old connection: %q, %v", heard, err)
	}
	if !n.check(t) || n.weight(t, podB) != draining {
		t.Errorf("weight of %s: %d", podB, n.weight(t, podB))
	}
	// A proxy that starts now must not cut it off either.
	n.restart(t, n.backend.cfg)
	n.sync(t, web("TCP", "", podC))
	fmt.Fprint(conn, "and now?")
	if heard, err := read(conn); heard != "and now?" {
		t.Errorf("the old connection, after a restart: %q, %v", heard, err)
	}
	reset(conn)
	eventually(t, "the real server is deleted", func() bool { return n.check(t) && n.weight(t, podB) == gone })
	if heard := who(t, pods[0], "tcp"); heard != podC {
		t.Errorf("after all: %s", heard)
	}
}

// TestAnEndpointComesBackWhileItDrains gets its weight again.
func TestAnEndpointComesBackWhileItDrains(t *testing.T) {
	n, pods := newPods(t)
	n.sync(t, web("TCP", "", podB, podC))
	conn, first, err := connect(pods[0], "tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer reset(conn)
	other := map[string]string{podB: podC, podC: podB}[first]
	n.sync(t, web("TCP", "", other))
	n.sync(t, web("TCP", "", podB, podC))
	if n.weight(t, first) != active {
		t.Errorf("weight of %s: %d", first, n.weight(t, first))
	}
	fmt.Fprint(conn, "hello")
	if heard, err := read(conn); heard != "hello" {
		t.Errorf("the connection: %q, %v", heard, err)
	}
}

// gone is no weight at all.
const gone = -1

// weight of an endpoint of the Service, as the kernel has it.
func (n *testNode) weight(t *testing.T, ip string) int {
	t.Helper()
	list, err := n.backend.kernel.destinations(portal{"tcp", netip.MustParseAddrPort(portalAddress)})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if d.Address.String() == ip {
			return d.Weight
		}
	}
	return gone
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}

// TestUDPFlowsFollowTheirEndpoint: one that ends keeps its flows while it still
// answers, and loses them when it does not.
func TestUDPFlowsFollowTheirEndpoint(t *testing.T) {
	n, pods := newPods(t)
	applier := proxy.NewApplier(corev1.IPv4Protocol, n.backend, proxy.NewHealthChecks(nil, func() bool { return true }))
	apply := func(objects string) {
		t.Helper()
		if err := applier.Apply(context.Background(), proxytest.Snapshot(t, objects)); err != nil {
			t.Fatal(err)
		}
	}
	apply(web("UDP", "", podB))
	conn, heard, err := connect(pods[0], "udp")
	if err != nil || heard != podB {
		t.Fatalf("%q, %v", heard, err)
	}
	defer conn.Close()
	two := web("UDP", "", podB, podC)
	apply(strings.Replace(two, "ready: true", "ready: false, serving: true, terminating: true", 1))
	for range 4 {
		if heard := who(t, pods[0], "udp"); heard != podC {
			t.Errorf("a new flow went to %s", heard)
		}
	}
	if heard := again(conn); heard != podB {
		t.Errorf("the old flow went to %q", heard)
	}
	apply(web("UDP", "", podC))
	eventually(t, "the old flow finds the new endpoint", func() bool { return again(conn) == podC })
}

// again asks on a UDP flow; an answer may get lost.
func again(conn net.Conn) string {
	fmt.Fprint(conn, "who?")
	heard, err := read(conn)
	if err != nil {
		return err.Error()
	}
	return heard
}

func TestSCTP(t *testing.T) {
	n, pods := newPods(t)
	if err := netns.Do(pods[1].Path(), func() error { return serveSCTP(t, podB+":8080") }); err != nil {
		t.Fatal(err)
	}
	n.sync(t, strings.Replace(web("SCTP", "type: NodePort", podB), "port: 80}", "port: 80, nodePort: 30080}", 1))
	for _, address := range []string{portalAddress, "10.244.1.1:30080"} {
		var heard string
		err := netns.Do(pods[0].Path(), func() (err error) {
			heard, err = askSCTP(address)
			return err
		})
		if heard != podB {
			t.Errorf("pod → %s: %q, %v", address, heard, err)
		}
		if heard, err := askSCTP(address); heard != podB {
			t.Errorf("node → %s: %q, %v", address, heard, err)
		}
	}
}

// serveSCTP answers as echo does. Go's net takes a socket for TCP which is a
// stream: that is all it needs to know.
func serveSCTP(t *testing.T, address string) error {
	t.Helper()
	socket, at, err := socketSCTP(address)
	if err != nil {
		return err
	}
	defer socket.Close()
	if err := errors.Join(unix.Bind(int(socket.Fd()), at), unix.Listen(int(socket.Fd()), 10)); err != nil {
		return err
	}
	listener, err := net.FileListener(socket)
	if err != nil {
		return err
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, strings.TrimSuffix(address, ":8080"))
			conn.Close()
		}
	}()
	return nil
}

func askSCTP(address string) (string, error) {
	socket, at, err := socketSCTP(address)
	if err != nil {
		return "", err
	}
	defer socket.Close()
	patience := unix.Timeval{Sec: 30}
	if err := errors.Join(
		unix.SetsockoptTimeval(int(socket.Fd()), unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience),
		unix.Connect(int(socket.Fd()), at),
	); err != nil {
		return "", err
	}
	conn, err := net.FileConn(socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return read(conn)
}

func socketSCTP(address string) (*os.File, unix.Sockaddr, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd), "sctp"), &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}, nil
}

// TestAffinityEnds: a client keeps its endpoint for the timeout, counted from
// its last connection, and then some: the kernel remembers the client as long as
// one of its connections, which for UDP is a second here, and for TCP ten after a
// reset; and when the timeout ends before, it looks again a minute later.
func TestAffinityEnds(t *testing.T) {
	t.Parallel()
	for network, silence := range map[string]time.Duration{"udp": 12 * time.Second, "tcp": 75 * time.Second} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			n, pods := newPods(t)
			cfg := n.backend.cfg
			cfg.UDPTimeout = time.Second
			n.restart(t, cfg)
			n.sync(t, web(strings.ToUpper(network), "sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 10}}", podB, podC))
			first := who(t, pods[0], network)
			for range 6 {
				if heard := who(t, pods[0], network); heard != first {
					t.Fatalf("first %s, then %s", first, heard)
				}
			}
			// In turns: when the kernel has forgotten the client, it is the other's.
			eventually(t, "the client is forgotten", func() bool {
				time.Sleep(silence) // it must not ask meanwhile
				return who(t, pods[0], network) != first
			})
		})
	}
}

// TestTheNodesOwnPortsAreNotTheServices: a Service's address is one of the
// node's, but what else listens there must not answer on it.
func TestTheNodesOwnPortsAreNotTheServices(t *testing.T) {
	n, pods := newPods(t)
	n.sync(t, web("TCP", "", podB))
	listener, err := net.Listen("tcp", "0.0.0.0:2222")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dial := func(address string) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := netns.Dial(ctx, pods[0].Path(), "tcp", address)
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := dial("10.244.1.1:2222"); err != nil {
		t.Errorf("the node's port on its own address: %v", err)
	}
	if err := dial("10.96.0.20:2222"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the node's port on a Service's address: %v, want a refusal", err)
	}
}

// TestConnectionsSurviveARestart: a proxy which knows nothing writes
// everything again, while a client goes on asking.
func TestConnectionsSurviveARestart(t *testing.T) {
	n, pods := newPods(t)
	objects := web("TCP", "", podB, podC)
	n.sync(t, objects)
	failed := make(chan error)
	go func() {
		defer close(failed)
		for range 200 {
			conn, _, err := connect(pods[0], "tcp")
			if err != nil {
				failed <- err
				continue
			}
			reset(conn)
		}
	}()
	for {
		select {
		case err, more := <-failed:
			if !more {
				return
			}
			t.Error(err)
		default:
			n.restart(t, n.backend.cfg)
			n.sync(t, objects)
		}
	}
}

// TestNothingFailsWhileEndpointsRoll: they come, end and go, again and
// again, while a client goes on asking.
func TestNothingFailsWhileEndpointsRoll(t *testing.T) {
	n, pods := newPods(t)
	two := web("TCP", "", podB, podC)
	n.sync(t, two)
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		pace := time.NewTicker(20 * time.Millisecond)
		defer pace.Stop()
		for {
			if conn, _, err := connect(pods[0], "tcp"); err != nil {
				t.Error(err)
			} else {
				reset(conn)
			}
			select {
			case <-over:
				return
			case <-pace.C:
			}
		}
	}()
	ending := strings.NewReplacer("["+podB+"], nodeName: node-1, conditions: {ready: true}", "["+podB+"], nodeName: node-1, conditions: {ready: false, serving: true, terminating: true}")
	for range 5 {
		for _, objects := range []string{ending.Replace(two), web("TCP", "", podC), two, web("TCP", "", podB)} {
			n.sync(t, objects)
		}
	}
	close(over)
	<-ended
}

// TestAnEndpointOnTheNodeItself: the API server, as pods and the node reach it.
func TestAnEndpointOnTheNodeItself(t *testing.T) {
	n, pods := newPods(t)
	listener, err := net.Listen("tcp", "192.168.56.11:6443")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, conn.RemoteAddr().(*net.TCPAddr).IP)
			conn.Close()
		}
	}()
	n.sync(t, "")
	for who, path := range map[string]string{"10.244.1.2": pods[0].Path(), "192.168.56.11": "/proc/thread-self/ns/net"} {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := netns.Dial(ctx, path, "tcp", "10.96.0.1:443")
		if err != nil {
			t.Errorf("%s → kubernetes: %v", who, err)
			continue
		}
		if seen, err := read(conn); seen != who {
			t.Errorf("%s → kubernetes: it saw %q, %v", who, seen, err)
		}
		conn.Close()
	}
}

// TestWhatIsTakenAwayComesBack: every kind of thing that somebody may remove.
func TestWhatIsTakenAwayComesBack(t *testing.T) {
	n, pods := newPods(t)
	objects := web("TCP", "", podB)
	n.sync(t, objects)
	want := n.have(t)
	for what, take := range map[string]func(){
		"rules":          func() { nstest.Run(t, "iptables", "-t", "nat", "-F") },
		"a jump":         func() { nstest.Run(t, "iptables", "-D", "INPUT", "1") },
		"an address":     func() { nstest.Run(t, "ip", "addr", "del", "10.96.0.20/32", "dev", device) },
		"the interface":  func() { nstest.Run(t, "ip", "link", "del", device) },
		"an element":     func() { nstest.Run(t, "ipset", "del", clusterIPSet, "10.96.0.20,tcp:80") },
		"virtual server": func() { n.do(t, step{verb: deleteServer, at: portal{"tcp", netip.MustParseAddrPort(portalAddress)}}) },
		"a foreign one": func() {
			n.do(t, step{verb: addServer, at: portal{"tcp", ipv4.probe}, server: &server{scheduler: "rr"}})
		},
	} {
		take()
		if n.check(t) {
			t.Errorf("%s: nothing was noticed", what)
		}
		n.sync(t, objects)
		if got := n.have(t); got != want {
			t.Errorf("%s: the kernel has now:\n%s\nwant:\n%s", what, got, want)
		}
		if heard := who(t, pods[0], "tcp"); heard != podB || !n.check(t) {
			t.Errorf("%s: not as it was: %s", what, heard)
		}
	}
}

func (n *testNode) do(t *testing.T, s step) {
	t.Helper()
	if err := n.backend.kernel.do([]step{s}); err != nil {
		t.Fatal(err)
	}
}

func TestCleanupLeavesWhatOthersMade(t *testing.T) {
	n, _ := newPods(t)
	nstest.Run(t, "iptables", "-A", "FORWARD", "-s", "10.1.1.1", "-j", "DROP")
	nstest.Run(t, "ipset", "create", "theirs", "hash:ip")
	n.sync(t, web("TCP", "", podB))
	for range 2 { // the second time there is nothing to do
		if err := n.backend.Cleanup(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	all := nstest.Run(t, "iptables-save") + nstest.Run(t, "ipset", "save") + nstest.Run(t, "ip", "addr")
	if strings.Contains(all, "KUBE-") || strings.Contains(all, device) {
		t.Errorf("left behind:\n%s", all)
	}
	if !strings.Contains(all, "-A FORWARD -s 10.1.1.1/32 -j DROP") || !strings.Contains(all, "create theirs") {
		t.Errorf("what somebody else has made is gone:\n%s", all)
	}
	have, err := n.backend.kernel.servers(ipv4, nil)
	if err != nil || len(have) > 0 {
		t.Errorf("virtual servers: %v, %v", have, err)
	}
}

// TestExcludedVirtualServersAreLeftAlone: --ipvs-exclude-cidrs.
func TestExcludedVirtualServersAreLeftAlone(t *testing.T) {
	n := newNode(t)
	n.backend.cfg.ExcludeCIDRs = []netip.Prefix{netip.PrefixFrom(ipv4.probe.Addr(), 32)}
	n.do(t, step{verb: addServer, at: portal{"tcp", ipv4.probe}, server: &server{scheduler: "rr"}})
	n.sync(t, web("TCP", "", podB))
	have, err := n.backend.kernel.servers(ipv4, nil)
	if err != nil || have[portal{"tcp", ipv4.probe}] == nil {
		t.Errorf("it is gone: %v, %v", have, err)
	}
}

func TestSchedulers(t *testing.T) {
	n, pods := newPods(t)
	for _, scheduler := range []string{"rr", "wrr", "lc", "mh", "sh"} {
		cfg := n.backend.cfg
		cfg.Scheduler = scheduler
		n.restart(t, cfg)
		n.sync(t, web("TCP", "", podB, podC))
		if !n.check(t) {
			t.Errorf("%s: the kernel has something else", scheduler)
		}
		who(t, pods[0], "tcp")
	}
	// sh: a client has its endpoint, and another one while that drains.
	conn, first, err := connect(pods[0], "tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer reset(conn)
	other := map[string]string{podB: podC, podC: podB}[first]
	for range 5 {
		if heard := who(t, pods[0], "tcp"); heard != first {
			t.Errorf("sh: first %s, then %s", first, heard)
		}
	}
	n.sync(t, web("TCP", "", other))
	for range 5 {
		if heard := who(t, pods[0], "tcp"); heard != other {
			t.Errorf("sh: %s drains, and yet: %s", first, heard)
		}
	}
}

func TestUnknownScheduler(t *testing.T) {
	n := newNode(t)
	cfg := n.backend.cfg
	cfg.Scheduler = "best"
	want := `--ipvs-scheduler "best": the kernel does not know it: modprobe ip_vs_best, or use rr`
	if _, err := New(cfg); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if have, err := n.backend.kernel.servers(ipv4, nil); err != nil || len(have) > 0 {
		t.Errorf("left behind: %v, %v", have, err)
	}
}

func TestSysctlsAndTimeouts(t *testing.T) {
	n := newNode(t)
	cfg := n.backend.cfg
	cfg.StrictARP = true
	cfg.TCPTimeout, cfg.UDPTimeout = 100*time.Second, 50*time.Second
	n.restart(t, cfg)
	for name, want := range map[string]string{
		"vs/conntrack": "1", "vs/expire_nodest_conn": "1", "vs/expire_quiescent_template": "1",
		"ip_forward": "1", "conf/all/arp_ignore": "1", "conf/all/arp_announce": "2",
	} {
		got, err := os.ReadFile("/proc/sys/net/ipv4/" + name)
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: %q, %v, want %s", name, got, err, want)
		}
	}
	got, err := n.backend.kernel.ipvs.GetConfig()
	if err != nil || got.TimeoutTCP != cfg.TCPTimeout || got.TimeoutUDP != cfg.UDPTimeout || got.TimeoutTCPFin == 0 {
		t.Errorf("timeouts: %+v, %v", got, err)
	}
}
