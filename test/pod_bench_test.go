package test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podarium/podarium/internal/netns/nstest"
)

// stream is what the test binary is to do with bytes, in a pod's namespace (see
// TestMain): "serve ADDRESS" takes them from one connection, "send ADDRESS" sends
// them for a second and prints how many megabytes that were, "echo ADDRESS" sends
// back each UDP packet.
const stream = "PODARIUM_TEST_STREAM"

func streamBytes(order string) error {
	what, address, _ := strings.Cut(order, " ")
	if what == "echo" {
		return echoPackets(address)
	}
	if what == "serve" {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, conn)
		return err
	}
	conn, err := net.Dial("tcp", address)
	for tries := 0; err != nil && tries < 100; tries++ { // the server is just starting
		time.Sleep(20 * time.Millisecond)
		conn, err = net.Dial("tcp", address)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	block, sent := make([]byte, 128<<10), 0
	began := time.Now()
	for time.Since(began) < time.Second {
		n, err := conn.Write(block)
		if err != nil {
			return err
		}
		sent += n
	}
	fmt.Printf("%.0f\n", float64(sent)/time.Since(began).Seconds()/1e6)
	return nil
}

func echoPackets(address string) error {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	packet := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(packet)
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo(packet[:n], from); err != nil {
			return err
		}
	}
}

// BenchmarkThroughput: one TCP connection from pod to pod, on one node and across
// nodes, by host-gw and by vxlan, each as a share of what a plain veth pair carries.
func BenchmarkThroughput(b *testing.B) {
	for _, mode := range []string{"host-gw", "vxlan"} {
		b.Run(mode, func(b *testing.B) {
			bin, home := podarium(b), b.TempDir()
			run(b, home, bin, "down", "--name", benchLab)
			run(b, home, bin, "up", "--name", benchLab, "--pod-network", mode)
			defer run(b, home, bin, "down", "--name", benchLab)
			var pods []benchPlace
			for i, node := range []string{"node-1", "node-1", "node-2"} {
				pods = append(pods, placePod(b, bin, fmt.Sprintf("stream-%d", i), node))
			}
			for b.Loop() {
				plain := plainVeth(b)
				b.ReportMetric(plain, "plain-MB/s")
				b.ReportMetric(streamBetween(b, bin, pods[0], pods[1])/plain, "same-node÷plain")
				b.ReportMetric(streamBetween(b, bin, pods[0], pods[2])/plain, "other-node÷plain")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// benchPlace is a pod: its node, its network namespace there, its address.
type benchPlace struct{ node, netns, address string }

func placePod(b *testing.B, bin, name, node string) benchPlace {
	b.Helper()
	kubectlOutput(b, bin, "run", name, "--image=busybox:1", `--overrides={"spec":{"nodeName":"`+node+`"}}`, "--", "sleep", "3600")
	kubectlOutput(b, bin, "wait", "--for=condition=Ready", "pod/"+name, "--timeout=60s")
	told := strings.Fields(kubectlOutput(b, bin, "get", "pod", name, "-o", "jsonpath={.metadata.uid} {.status.podIP}"))
	return benchPlace{node, "/var/lib/kubelet/run/pods/" + told[0] + "/ns/net", told[1]}
}

func streamBetween(b *testing.B, bin string, from, to benchPlace) float64 {
	b.Helper()
	in := func(p benchPlace) func(string) *exec.Cmd {
		return func(order string) *exec.Cmd {
			return exec.Command(bin, "node", "--name", benchLab, "exec", p.node, "--",
				"nsenter", "--net="+p.netns, "env", stream+"="+order, os.Args[0])
		}
	}
	return megabytes(b, in(from), in(to), to.address+":5001")
}

func plainVeth(b *testing.B) float64 {
	b.Helper()
	nstest.Enter(b)
	one, two := nstest.New(b), nstest.New(b)
	one.Run(b, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(two.Pid()))
	for i, host := range []*nstest.Host{one, two} {
		host.Run(b, "ip", "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "eth0")
		host.Run(b, "ip", "link", "set", "eth0", "up")
	}
	in := func(h *nstest.Host) func(string) *exec.Cmd {
		return func(order string) *exec.Cmd {
			return exec.Command("nsenter", "--net="+h.Path(), "env", stream+"="+order, os.Args[0])
		}
	}
	return megabytes(b, in(one), in(two), "192.0.2.2:5001")
}

// megabytes runs a server and a client and returns what the client counted.
func megabytes(b *testing.B, from, to func(string) *exec.Cmd, address string) float64 {
	b.Helper()
	server := to("serve " + address)
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	out, err := from("send " + address).CombinedOutput()
	if err != nil {
		b.Fatalf("send to %s: %v: %s", address, err, out)
	}
	if err := server.Wait(); err != nil {
		b.Fatalf("serve on %s: %v", address, err)
	}
	rate, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		b.Fatal(err)
	}
	return rate
}

// BenchmarkKubeletMemory is the kubelet of a node with 50 pods.
func BenchmarkKubeletMemory(b *testing.B) {
	bin, home := podarium(b), b.TempDir()
	run(b, home, bin, "down", "--name", benchLab)
	run(b, home, bin, "up", "--name", benchLab)
	defer run(b, home, bin, "down", "--name", benchLab)
	for i := range 50 {
		kubectlOutput(b, bin, "run", fmt.Sprintf("many-%d", i), "--image=busybox:1", "--labels=app=many", `--overrides={"spec":{"nodeName":"node-2"}}`, "--", "sleep", "3600")
	}
	kubectlOutput(b, bin, "wait", "--for=condition=Ready", "pod", "-l", "app=many", "--timeout=120s")
	for b.Loop() {
		rollup := run(b, home, bin, "node", "--name", benchLab, "exec", "node-2", "--", "sh", "-c", `cat /proc/$(pgrep -x -f "kubelet .*")/smaps_rollup`)
		reportMemory(b, rollup)
	}
	b.ReportMetric(0, "ns/op")
}
