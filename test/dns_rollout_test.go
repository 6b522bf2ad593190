package test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dnsLoad, in the environment of this test binary, makes it a client that asks
// the server named there (see TestMain).
const dnsLoad = "PODARIUM_TEST_DNS_LOAD"

// TestDNSRollout: DNS itself is rolled out anew, and the API server is killed and held,
// while a client asks 2000 questions a second, each once: none fails.
func TestDNSRollout(t *testing.T) {
	bin, home, name := podarium(t), t.TempDir(), "test-dns-rollout"
	run(t, home, bin, "down", "--name", name)
	t.Cleanup(func() { run(t, home, bin, "down", "--name", name) })
	run(t, home, bin, "up", "--name", name)
	kubectl := func(args ...string) {
		t.Helper()
		cmd := exec.Command(bin, append([]string{"kubectl", "-n", "kube-system"}, args...)...)
		cmd.Env = append(os.Environ(), "KUBECONFIG=/var/lib/podarium/"+name+"/admin.conf")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("kubectl %v: %v\n%s", args, err, out)
		}
	}
	rollout := func() { kubectl("rollout", "status", "deployment/kube-dns", "--timeout=60s") }
	signal := func(signal string) {
		t.Helper()
		run(t, home, bin, "node", "--name", name, "exec", "node-1", "--", "sh", "-c", "kill -"+signal+" $(pidof kube-apiserver)")
	}
	rollout() // both replicas are there
	kubectl("run", clientPod, "--image=busybox:1", `--overrides={"spec": {"nodeName": "node-3"}}`, "--command", "--", "sleep", clientSleep)
	kubectl("wait", "--for=condition=Ready", "pod/"+clientPod, "--timeout=60s")
	load := startLoad(t, bin, name)
	kubectl("rollout", "restart", "deployment/kube-dns")
	rollout()
	load.report(t, "rollout of DNS")
	signal("KILL")
	load.wait(t, 5*time.Second)
	load.report(t, "the API server killed")
	signal("STOP")
	load.wait(t, time.Minute)
	signal("CONT")
	load.report(t, "the API server stopped for a minute")
	load.wait(t, 5*time.Second) // all components are back at work
	load.stop(t)
}

// The client asks from a pod's network, for a pod's address is kept: a node's
// is masqueraded, and 60 000 questions in 30 s leave no free port for that. It
// is run beside the pod and not in it, as `kubectl exec` needs the API server.
const (
	clientPod   = "client"
	clientSleep = "86399"
	inClientPod = `exec nsenter --net=/proc/$(pgrep -x -f "sleep ` + clientSleep + `")/ns/net "$@"`
)

// load is a client in the network of a pod.
type load struct {
	cmd   *exec.Cmd
	lines chan string
	stdin interface{ Close() error }
}

func startLoad(t *testing.T, bin, name string) *load {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := &load{lines: make(chan string)}
	l.cmd = exec.Command(bin, "node", "--name", name, "exec", "node-3", "--", "sh", "-c", inClientPod, "sh", "env", dnsLoad+"=10.96.0.10:53", self)
	stdin, err1 := l.cmd.StdinPipe()
	stdout, err2 := l.cmd.StdoutPipe()
	l.cmd.Stderr = os.Stderr
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l.stdin = stdin
	t.Cleanup(func() { _ = l.cmd.Process.Kill() })
	go func() {
		defer close(l.lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			l.lines <- scanner.Text()
		}
	}()
	l.report(t, "at rest")
	return l
}

// report reads what the client says of the last second, and of those before
// which nobody read.
func (l *load) report(t *testing.T, during string) {
	t.Helper()
	line, ok := <-l.lines
	if !ok {
		t.Fatalf("%s: the client is gone", during)
	}
	t.Logf("%s: %s", during, line)
	if !strings.Contains(line, " 0 failed") {
		t.Errorf("%s: %s", during, line)
	}
}

// wait reads reports for a while.
func (l *load) wait(t *testing.T, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		l.report(t, "meanwhile")
	}
}

func (l *load) stop(t *testing.T) {
	t.Helper()
	l.stdin.Close()
	for line := range l.lines {
		if !strings.Contains(line, " 0 failed") {
			t.Errorf("at the end: %s", line)
		}
	}
	if err := l.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// askSteadily is the client: 2000 questions a second, each sent once, from a
// port that no question had in the last 32 s. (A port that comes again within
// 30 s finds the conntrack entry of the question before it, and nobody can
// forget that entry at a moment which is sure not to fall between question and
// answer.) Every second it reports; it ends with its standard input.
func askSteadily(server string) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		cancel()
	}()
	var asked, failed atomic.Int64
	var waiting sync.WaitGroup
	burst, second := time.NewTicker(5*time.Millisecond), time.NewTicker(time.Second)
	defer burst.Stop()
	defer second.Stop()
	for {
		select {
		case <-ctx.Done():
			waiting.Wait()
			fmt.Printf("%d asked, %d failed\n", asked.Load(), failed.Load())
			return nil
		case <-second.C:
			fmt.Printf("%d asked, %d failed\n", asked.Load(), failed.Load())
		case <-burst.C:
			for range 10 {
				waiting.Go(func() {
					asked.Add(1)
					if err := askOnce(server); err != nil {
						failed.Add(1)
						fmt.Fprintln(os.Stderr, time.Now().Format(time.StampMilli), err)
					}
				})
			}
		}
	}
}

func askOnce(server string) error {
	conn, err := dialFresh(server)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	client := &dns.Conn{Conn: conn}
	if err := client.WriteMsg(new(dns.Msg).SetQuestion("kubernetes.default.svc.cluster.local.", dns.TypeA)); err != nil {
		return err
	}
	reply, err := client.ReadMsg()
	if err != nil {
		return err
	}
	if len(reply.Answer) != 1 {
		return fmt.Errorf("answered %s", dns.RcodeToString[reply.Rcode])
	}
	return nil
}

// nextPort counts through the ports of the client, round and round: 64 000 of
// them last 32 s.
var nextPort atomic.Uint32

const (
	firstPort = 1024
	ports     = 65536 - firstPort
)

// dialFresh connects from the next port; one that somebody else has is passed.
func dialFresh(server string) (net.Conn, error) {
	var err error
	for range ports {
		port := firstPort + int(nextPort.Add(1)%ports)
		dialer := net.Dialer{LocalAddr: &net.UDPAddr{Port: port}}
		var conn net.Conn
		if conn, err = dialer.Dial("udp", server); !errors.Is(err, syscall.EADDRINUSE) {
			return conn, err
		}
	}
	return nil, err
}

// TestMain: the test binary is also the client of TestDNSRollout, on a node, and
// a gRPC server or one end of a connection in a pod.
func TestMain(m *testing.M) {
	var err error
	switch server, address, order, question := os.Getenv(dnsLoad), os.Getenv(grpcHealth), os.Getenv(stream), os.Getenv(asking); {
	case server != "":
		err = askSteadily(server)
	case address != "":
		err = serveGRPCHealth(address)
	case order != "":
		err = streamBytes(order)
	case question != "":
		err = ask(question)
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
