package apiserver

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
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

// Many connections that say nothing cost little, and the server goes on.
func TestIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 1000 connections")
	}
	c := startServer(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const count = 1000
	address := strings.TrimPrefix(c.url, "https://")
	for range count {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	resp, err := c.http("kubernetes-admin", []string{"system:masters"}).Get(c.url + "/api/v1/namespaces")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse)) / count
	t.Logf("%d bytes for each idle connection, both ends", each)
	if each > 32<<10 {
		t.Errorf("an idle connection costs %d bytes", each)
	}
}
