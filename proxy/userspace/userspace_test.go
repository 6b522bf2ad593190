package userspace

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/netns"
	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy/proxytest"
)

// TestMain lets the test binary be the proxy: its goroutines dial, and only a
// process of its own is with all its threads in the test's namespace.
func TestMain(m *testing.M) {
	if os.Getenv("USERSPACE_PROXY") != "" {
		os.Exit(serve())
	}
	os.Exit(m.Run())
}

// serve syncs each cluster it is given on standard input, ended by a zero byte,
// and says "ok" when it has.
func serve() int {
	backend, err := New(Config{NodeIP: netip.MustParseAddr("192.168.56.11")})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if most := os.Getenv("USERSPACE_PORTALS"); most != "" {
		if backend.most, err = strconv.Atoi(most); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	in := bufio.NewReader(os.Stdin)
	for {
		objects, err := in.ReadString(0)
		if err != nil {
			return 0
		}
		answer := "ok"
		snapshot, err := proxytest.Read(corev1.IPv4Protocol, strings.TrimRight(objects, "\x00"))
		if err == nil {
			err = backend.Sync(context.Background(), snapshot)
		}
		if err != nil {
			answer = err.Error()
		}
		fmt.Println(answer)
	}
}

// proxyProcess is the proxy on the test's node.
type proxyProcess struct {
	in  io.Writer
	out *bufio.Reader
}

func startProxy(t *testing.T) *proxyProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "USERSPACE_PROXY=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // it ends when its input does
	})
	return &proxyProcess{in, bufio.NewReader(out)}
}

func (p *proxyProcess) sync(t *testing.T, objects string) {
	t.Helper()
	if answer := p.trySync(t, objects); answer != "ok" {
		t.Fatalf("sync: %s", answer)
	}
}

// trySync is sync that may fail.
func (p *proxyProcess) trySync(t *testing.T, objects string) string {
	t.Helper()
	if _, err := io.WriteString(p.in, objects+"\x00"); err != nil {
		t.Fatal(err)
	}
	answer, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("sync: %q, %v", answer, err)
	}
	return strings.TrimSuffix(answer, "\n")
}

// node is node-1 with two pods on its bridge which answer on port 8080, over
// TCP and UDP, with their own address, and a third which does not answer.
func node(t *testing.T) (*proxyProcess, []*nstest.Host) {
	t.Helper()
	proxytest.Node(t)
	nstest.Run(t, "ip", "link", "set", "eth0", "up")
	nstest.Run(t, "ip", "link", "set", "wire", "up")
	nstest.Run(t, "ip", "route", "add", "10.96.0.0/12", "dev", "eth0")
	pods := proxytest.Pods(t, 3)
	for i, pod := range pods[:2] {
		answer(t, pod, fmt.Sprintf("10.244.1.%d", i+2))
	}
	return startProxy(t), pods
}

func answer(t *testing.T, pod *nstest.Host, ip string) {
	t.Helper()
	listener, err := netns.Listen(context.Background(), pod.Path(), ip+":8080")
	if err != nil {
		t.Fatal(err)
	}
	var packets net.PacketConn
	err = netns.Do(pod.Path(), func() error {
		var err error
		packets, err = net.ListenPacket("udp", ip+":8080")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close(); packets.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, ip)
			conn.Close()
		}
	}()
	go func() {
		buffer := make([]byte, 1500)
		for {
			_, client, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo([]byte(ip), client)
		}
	}()
}

// ask opens one connection from inside a namespace and returns what it hears.
func ask(t *testing.T, path, network, address string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	conn, err := netns.Dial(ctx, path, network, address)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	if network == "udp" {
		if _, err := conn.Write([]byte("who?")); err != nil {
			return err.Error()
		}
		buffer := make([]byte, 100)
		n, err := conn.Read(buffer)
		if err != nil {
			return err.Error()
		}
		return string(buffer[:n])
	}
	heard, err := io.ReadAll(conn)
	if err != nil {
		return err.Error()
	}
	return string(heard)
}

const ownNamespace = "/proc/thread-self/ns/net"

func cluster(protocol, more string, endpoints ...string) string {
	objects := fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: NodePort
  clusterIP: 10.96.0.20
  clusterIPs: [10.96.0.20]
  ports: [{protocol: %[1]s, port: 80, nodePort: 30080}]
  %[2]s
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", protocol: %[1]s, port: 8080}]
endpoints:
`, protocol, more)
	if len(endpoints) == 0 {
		return objects + "  []\n"
	}
	for _, e := range endpoints {
		objects += fmt.Sprintf("- {addresses: [%s], nodeName: node-1}\n", e)
	}
	return objects
}

func TestEndpointsTakeTurns(t *testing.T) {
	proxy, pods := node(t)
	proxy.sync(t, cluster("TCP", "", "10.244.1.2", "10.244.1.3"))
	seen := ""
	for range 4 {
		seen += ask(t, pods[2].Path(), "tcp", "10.96.0.20:80") + " "
	}
	if seen != "10.244.1.2 10.244.1.3 10.244.1.2 10.244.1.3 " {
		t.Errorf("the answers came from %s", seen)
	}
	for _, address := range []string{"10.96.0.20:80", "192.168.56.11:30080"} {
		if got := ask(t, ownNamespace, "tcp", address); !strings.HasPrefix(got, "10.244.1.") {
			t.Errorf("node → %s: %s", address, got)
		}
	}
	if got := ask(t, pods[2].Path(), "tcp", "192.168.56.11:30080"); !strings.HasPrefix(got, "10.244.1.") {
		t.Errorf("pod → node port: %s", got)
	}
}

// TestAnotherEndpointIsTried: 10.244.1.4 refuses and 10.244.1.9 does not exist;
// every client gets its answer all the same.
func TestAnotherEndpointIsTried(t *testing.T) {
	proxy, pods := node(t)
	proxy.sync(t, cluster("TCP", "", "10.244.1.4", "10.244.1.9", "10.244.1.2"))
	for range 4 {
		if got := ask(t, pods[2].Path(), "tcp", "10.96.0.20:80"); got != "10.244.1.2" {
			t.Errorf("the answer is %q", got)
		}
	}
}

func TestAffinityKeepsTheEndpoint(t *testing.T) {
	proxy, pods := node(t)
	proxy.sync(t, cluster("TCP", "sessionAffinity: ClientIP", "10.244.1.2", "10.244.1.3"))
	first := ask(t, pods[2].Path(), "tcp", "10.96.0.20:80")
	for range 3 {
		if got := ask(t, pods[2].Path(), "tcp", "10.96.0.20:80"); got != first {
			t.Errorf("first %s, then %s", first, got)
		}
	}
}

func TestUDP(t *testing.T) {
	proxy, pods := node(t)
	proxy.sync(t, cluster("UDP", "", "10.244.1.2", "10.244.1.3"))
	seen := map[string]bool{}
	for range 4 {
		seen[ask(t, pods[2].Path(), "udp", "10.96.0.20:80")] = true
	}
	if !seen["10.244.1.2"] || !seen["10.244.1.3"] || len(seen) != 2 {
		t.Errorf("the answers came from %v", seen)
	}
}

func TestNoEndpointIsRefused(t *testing.T) {
	proxy, pods := node(t)
	proxy.sync(t, cluster("TCP", "", "10.244.1.2"))
	proxy.sync(t, cluster("TCP", ""))
	for _, address := range []string{"10.96.0.20:80", "192.168.56.11:30080"} {
		if got := ask(t, pods[2].Path(), "tcp", address); !strings.Contains(got, "connection refused") {
			t.Errorf("%s: %s", address, got)
		}
	}
}

// TestTooManyServices: those that get no portal do not answer, the others are
// carried, and when one of those goes another gets its place.
func TestTooManyServices(t *testing.T) {
	t.Setenv("USERSPACE_PORTALS", "3") // one is of default/kubernetes
	proxy, pods := node(t)
	service := func(number int) string {
		replace := strings.NewReplacer("web", fmt.Sprint("web", number), "10.96.0.20", fmt.Sprint("10.96.0.2", number), "30080", fmt.Sprint(30080+number))
		return "---\n" + replace.Replace(cluster("TCP", "", "10.244.1.2"))
	}
	want := func(number int, answer string) {
		t.Helper()
		if got := ask(t, pods[2].Path(), "tcp", fmt.Sprintf("10.96.0.2%d:80", number)); !strings.Contains(got, answer) {
			t.Errorf("web%d: %s, not %s", number, got, answer)
		}
	}
	if answer := proxy.trySync(t, service(1)+service(2)+service(3)); answer != "1 portals are missing, such as that of default/web3: 3 are open, and the rest of the files that may be open (ulimit -n) is for connections" {
		t.Errorf("three Services: %s", answer)
	}
	want(1, "10.244.1.2")
	want(2, "10.244.1.2")
	want(3, "timeout")
	proxy.trySync(t, service(2)+service(3)) // the portal of web1 is closed at its end
	proxy.sync(t, service(2)+service(3))
	want(2, "10.244.1.2")
	want(3, "10.244.1.2")
}

func TestCleanupLeavesNothing(t *testing.T) {
	proxy, _ := node(t)
	proxy.sync(t, cluster("TCP", "", "10.244.1.2"))
	if err := Cleanup(context.Background()); err != nil {
		t.Fatal(err)
	}
	if saved := nstest.Run(t, "iptables-save"); strings.Contains(saved, "KUBE-") {
		t.Errorf("left behind:\n%s", saved)
	}
}
