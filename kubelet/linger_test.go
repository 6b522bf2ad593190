package kubelet

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A server which is done has not closed the connection: what the client still sends is
// read, and its close is the end of both sides.
func TestLingering(t *testing.T) {
	const late = "the end of my input"
	heard := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := lingering{w}.Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "last words")
		conn.Close()
		all, err := io.ReadAll(buffered)
		if err != nil {
			t.Error(err)
		}
		heard <- string(all)
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	words := make([]byte, len("last words"))
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: node-1\r\n\r\n")
	if err == nil {
		_, err = io.ReadFull(conn, words)
	}
	if err == nil {
		_, err = io.WriteString(conn, late)
	}
	if err == nil {
		err = conn.(*net.TCPConn).CloseWrite()
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != late {
		t.Errorf("after its close the server read %q, want %q", got, late)
	}
	if n, err := conn.Read(words); !errors.Is(err, io.EOF) {
		t.Errorf("the server has not ended: %d bytes, %v", n, err)
	}
}

// A client which never closes is left after a while.
func TestLingeringEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		conn := &lingeringConn{Conn: ours, from: ours}
		began := time.Now()
		conn.Close()
		conn.Close() // the second time is none
		if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(began) != linger {
			t.Errorf("after %v: %v, want EOF after %v", time.Since(began), err, linger)
		}
	})
}
