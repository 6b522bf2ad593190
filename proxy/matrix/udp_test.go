package matrix

import (
	"net"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/podarium/podarium/internal/netns"
)

// TestUDPFollows: clients which keep their port and never pause, so that the
// kernel would keep their flows for ever, come to the endpoint that there is now:
// another port of the same pod, another pod, and what came while no proxy ran.
func TestUDPFollows(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string, n network, proxy *node) {
		t.Helper()
		for _, p := range pods[1:3] {
			serve(t, n[p.name].Path(), p.name, p.ip, mainPort, secondPort)
		}
		now := func(restart bool, pod string, number int32) {
			t.Helper()
			s := service(protocol(corev1.ProtocolUDP), nodePort)
			o := order{Services: []*corev1.Service{s}, Restart: restart}
			o.Slices = []*discoveryv1.EndpointSlice{withPorts(slice(endpoint(pod)), port("", corev1.ProtocolUDP, number))}
			if err := proxy.apply(o); err != nil {
				t.Fatal(err)
			}
		}
		now(false, "pod-b", mainPort)
		var clients []net.Conn
		for _, address := range []string{"10.96.0.20:80", "192.168.56.11:30080"} {
			conn, err := netns.Dial(t.Context(), n["pod-a"].Path(), "udp", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			clients = append(clients, conn)
		}
		all := func(want string) {
			t.Helper()
			for _, conn := range clients {
				if last := hears(conn, want); last != "" {
					t.Fatalf("%s: heard %q for %s, want %q", conn.RemoteAddr(), last, patience, want)
				}
			}
		}
		all("pod-b")
		now(false, "pod-b", secondPort)
		all("pod-b:9090")
		now(false, "pod-c", secondPort)
		all("pod-c:9090")
		if mode != "userspace" { // there the proxy is where the flows end
			now(true, "pod-b", mainPort)
			all("pod-b")
		}
	})
}

// hears asks again and again until who answers is the wanted one; else it
// returns what was heard last.
func hears(conn net.Conn, want string) string {
	last, buffer := "nothing", make([]byte, 1500)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		_, _ = conn.Write([]byte("who?")) // refused while there is no endpoint
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		size, err := conn.Read(buffer)
		if err != nil {
			continue
		}
		if last, _, _ = strings.Cut(string(buffer[:size]), " "); last == want {
			return ""
		}
	}
	return last
}
