package scale

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podarium/podarium/internal/netns"
	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy/proxytest"
)

var packetModes = flag.String("modes", "iptables,nftables,userspace", "proxy modes whose packets are measured, in a list; ipvs needs a kernel that has it")

// TestMain lets the test binary be a node's proxy: in userspace mode it carries
// connections itself, and only a process of its own is with all its threads in
// the node's namespace.
func TestMain(m *testing.M) {
	if mode := os.Getenv("SCALE_MODE"); mode != "" {
		if err := serveNode(mode, os.Getenv("SCALE_SERVICES")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveNode carries so many Services, of which the last has the endpoint, until
// its input ends.
func serveNode(mode, number string) error {
	var services int
	if _, err := fmt.Sscan(number, &services); err != nil {
		return fmt.Errorf("read the number of Services: %w", err)
	}
	cluster := proxytest.NewCluster(services, 1)
	cluster.SetEndpoints(services-1, endpoint.Addr().String())
	backend, err := newBackend(mode)
	if err != nil {
		return err
	}
	if err := backend.Sync(context.Background(), cluster.Snapshot()); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// The endpoint of the Service, and where the same server is without one. A port
// of its own: the kernel remembers a connection for seconds after its end, and
// the next one, the other way, with the same port of the client's would have to
// get another.
var endpoint = netip.MustParseAddrPort("10.244.1.3:8080")

const direct = "10.244.1.3:8081"

// node is node-1 with a proxy, a pod that asks and one that answers.
type node struct {
	client  *nstest.Host
	service string
}

func startNode(b *testing.B, mode string, services int) *node {
	b.Helper()
	proxytest.Node(b)
	pods := proxytest.Pods(b, 2)
	for _, address := range []string{endpoint.String(), direct} {
		listener, err := netns.Listen(b.Context(), pods[1].Path(), address)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { listener.Close() })
		go answer(listener)
	}
	startProxy(b, mode, services)
	return &node{pods[0], proxytest.ClusterIP(services-1) + ":80"}
}

// startProxy returns when the rules are there. The process also holds the node's
// namespace, which the test leaves with the next node.
func startProxy(b *testing.B, mode string, services int) {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "SCALE_MODE="+mode, fmt.Sprintf("SCALE_SERVICES=%d", services))
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // it ends when its input does
	})
	if said, err := bufio.NewReader(out).ReadString('\n'); err != nil || said != "ready\n" {
		b.Fatalf("proxy with %d Services in %s mode: %q, %v", services, mode, said, err)
	}
}

// chunk is how much a stream sends until it is told that all of it is there.
const chunk = 64 << 20

// answer says a byte to whoever comes, and another for each chunk it gets.
func answer(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for {
				if _, err := conn.Write([]byte{'.'}); err != nil {
					return
				}
				if _, err := io.CopyN(io.Discard, conn, chunk); err != nil {
					return // ends with the client
				}
			}
		}()
	}
}

// dial opens connections one after the other as programs do, and tells how long
// it took. They are reset, so that no TIME_WAIT takes the ports.
func (n *node) dial(b *testing.B, to string, count int) (took time.Duration) {
	b.Helper()
	err := netns.Do(n.client.Path(), func() error {
		dialer := net.Dialer{Timeout: 10 * time.Second, FallbackDelay: -1}
		began := time.Now()
		for range count {
			conn, err := dialer.Dial("tcp", to)
			if err != nil {
				return err
			}
			if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
				return err
			}
			conn.Close()
		}
		took = time.Since(began)
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return took
}

// What open waits for: the connection, or the first byte from the other side.
const (
	toConnect = false
	toHear    = true
)

// open opens connections and tells how long each took, without a scheduler but
// the kernel's in between.
func (n *node) open(b *testing.B, to string, count int, hear bool) []time.Duration {
	b.Helper()
	address := netip.MustParseAddrPort(to)
	took := make([]time.Duration, 0, count)
	err := netns.Do(n.client.Path(), func() error {
		for range count {
			d, err := openOne(&unix.SockaddrInet4{Addr: address.Addr().As4(), Port: int(address.Port())}, hear)
			if err != nil {
				return fmt.Errorf("open a connection to %s: %w", to, err)
			}
			took = append(took, d)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return took
}

func openOne(to unix.Sockaddr, hear bool) (time.Duration, error) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(socket)
	if err := unix.SetsockoptLinger(socket, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil { // reset at the end
		return 0, err
	}
	began := time.Now()
	if err := unix.Connect(socket, to); err != nil {
		return 0, err
	}
	if hear {
		if _, err := unix.Read(socket, make([]byte, 1)); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// stream is a connection that sends.
type stream struct {
	net.Conn
	buffer []byte
}

func (n *node) stream(b *testing.B, to string) *stream {
	b.Helper()
	conn, err := netns.Dial(b.Context(), n.client.Path(), "tcp", to)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	s := &stream{conn, make([]byte, 256<<10)}
	s.hear(b)
	return s
}

// send sends a chunk, and tells how long it took until all of it was there.
func (s *stream) send(b *testing.B) time.Duration {
	b.Helper()
	began := time.Now()
	for range chunk / len(s.buffer) {
		if _, err := s.Write(s.buffer); err != nil {
			b.Fatal(err)
		}
	}
	s.hear(b)
	return time.Since(began)
}

func (s *stream) hear(b *testing.B) {
	b.Helper()
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
}
