package apiserver

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func (c *cluster) dial(t *testing.T) net.Conn {
	t.Helper()
	cfg := c.http("kubernetes-admin", []string{"system:masters"}).Transport.(*http.Transport).TLSClientConfig.Clone()
	cfg.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(c.url, "https://"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// A client that sends its body byte by byte, and then nothing, is told so.
func TestSlowBody(t *testing.T) {
	c := startServer(t, func(cfg *Config) { cfg.RequestTimeout = 300 * time.Millisecond })
	conn := c.dial(t)
	fmt.Fprint(conn, "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusGatewayTimeout || !strings.Contains(string(body), "request did not complete within the allotted timeout") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// The time of one request is not the time of the next on the same connection.
func TestTimeoutIsPerRequest(t *testing.T) {
	c := startServer(t, func(cfg *Config) { cfg.RequestTimeout = 300 * time.Millisecond })
	conn := c.dial(t)
	in := bufio.NewReader(conn)
	for range 3 {
		fmt.Fprint(conn, "GET /api/v1/namespaces HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v, %v", resp, err)
		}
		io.Copy(io.Discard, resp.Body)
		pause(t.Context(), 1500*time.Millisecond) // longer than both deadlines
	}
}

// A body of 4 MB is refused without being kept.
func TestLargeBody(t *testing.T) {
	c := startServer(t)
	client := c.http("kubernetes-admin", []string{"system:masters"})
	resp, err := client.Post(c.url+"/api/v1/namespaces/default/configmaps", mediaJSON, io.LimitReader(endless{}, 4<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("code %d", resp.StatusCode)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// Who sends a header byte by byte is cut off, however many they are, and the
// others do not notice.
func TestSlowHeaders(t *testing.T) {
	c := startServer(t, func(cfg *Config) { cfg.HeaderTimeout = 500 * time.Millisecond })
	var slow sync.WaitGroup
	for range 200 {
		conn := c.dial(t)
		slow.Go(func() {
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprint(conn, "GET /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nX-Slow: ")
			if n, err := io.Copy(io.Discard, conn); n > 200 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read %d bytes, %v; want the connection closed", n, err)
			}
		})
	}
	resp, err := c.http("kubernetes-admin", []string{"system:masters"}).Get(c.url + "/api/v1/namespaces")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%v, %v", resp, err)
	}
	slow.Wait()
}

// A watch whose client does not read is ended when the kernel's buffers are
// full, and holds nothing any more.
func TestUnreadWatch(t *testing.T) {
	c := startServer(t, func(cfg *Config) { cfg.UnreadTimeout = 300 * time.Millisecond })
	conn := c.dial(t)
	if err := conn.(*tls.Conn).NetConn().(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET /api/v1/namespaces/default/configmaps?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n")
	api := c.admin().CoreV1().ConfigMaps("default")
	cm, err := api.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "big"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sawOpen := false
	deadline := time.Now().Add(30 * time.Second)
	for n := 0; ; n++ {
		open := watchesOf(t, c, "configmaps") > 0
		if sawOpen && !open {
			return
		}
		sawOpen = sawOpen || open
		if time.Now().After(deadline) {
			t.Fatalf("the watch is still open, or never was (%v)", sawOpen)
		}
		cm.ResourceVersion, cm.Data = "", map[string]string{"big": strings.Repeat("x", 500<<10), "n": strconv.Itoa(n)}
		if _, err := api.Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestQuietWatch: a watch on which nothing happens is not one that nobody reads.
func TestQuietWatch(t *testing.T) {
	const unread = 100 * time.Millisecond
	c := startServer(t, func(cfg *Config) { cfg.UnreadTimeout = unread })
	api := c.admin().CoreV1().ConfigMaps("kube-public")
	quiet, err := api.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer quiet.Stop()
	for n := range 3 {
		select {
		case event, open := <-quiet.ResultChan():
			t.Fatalf("after %d quiet times: %v, open: %v", n, event, open)
		case <-time.After(5 * unread):
		}
		made, err := api.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "quiet-"}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if event := <-quiet.ResultChan(); event.Type != watch.Added || event.Object.(*corev1.ConfigMap).Name != made.Name {
			t.Fatalf("%s was created, the watch told %v", made.Name, event)
		}
	}
}

// watchesOf is how many watches of a resource the server has open.
func watchesOf(t *testing.T, c *cluster, resource string) int {
	t.Helper()
	resp, err := c.http("kubernetes-admin", []string{"system:masters"}).Get(c.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	count := regexp.MustCompile(`apiserver_longrunning_requests{.*resource="` + resource + `".*} ([0-9]+)`).FindSubmatch(body)
	if count == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(count[1]))
	return n
}

// Ten thousand TLS connections that say nothing cost little, and the server
// goes on. The server is a process of its own here, to be weighed.
func TestIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 10000 connections")
	}
	m := newMortal(t)
	client := m.http("kubernetes-admin", []string{"system:masters"})
	get := func() {
		t.Helper()
		resp, err := client.Get(m.url + "/api/v1/namespaces")
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v, %v", resp, err)
		}
		resp.Body.Close()
	}
	get()
	before := resident(t, m.cmd.Process.Pid)
	const count = 10000
	connections := openIdle(t, m.cluster, count)
	for _, conn := range connections {
		defer conn.Close()
	}
	get()
	after := resident(t, m.cmd.Process.Pid)
	t.Logf("resident: %d KB, and %d KB with %d connections: %d KB each", before, after, count, (after-before)/count)
	if each := (after - before) / count; each > 48 {
		t.Errorf("an idle connection costs %d KB", each)
	}
}

// openIdle makes connections, sixteen at a time, with keys that are cheap to agree on.
func openIdle(t *testing.T, c *cluster, count int) []net.Conn {
	t.Helper()
	cfg := c.http("", nil).Transport.(*http.Transport).TLSClientConfig.Clone()
	cfg.CurvePreferences = []tls.CurveID{tls.X25519}
	connections := make([]net.Conn, count)
	var group errgroup.Group
	group.SetLimit(16)
	for i := range connections {
		group.Go(func() (err error) {
			connections[i], err = tls.Dial("tcp", strings.TrimPrefix(c.url, "https://"), cfg)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return connections
}

// resident is the memory of a process, in KB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
