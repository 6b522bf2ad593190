package apiserver

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/podarium/podarium/internal/pki"
)

// startKubelet is a server with a kubelet's paths: it answers with the request
// that came, and echoes what comes over a connection that was taken over.
func startKubelet(t *testing.T, ca *pki.CA) net.Addr {
	t.Helper()
	cert, key, err := ca.Issue(pki.Request{CommonName: "system:node:node-1", Server: true, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/broken"):
			http.Error(w, "container \"broken\" in pod \"web\" is waiting to start: ContainerCreating", http.StatusBadRequest)
		case r.Header.Get("Upgrade") != "":
			conn, buffered, _ := http.NewResponseController(w).Hijack()
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
			io.Copy(conn, buffered)
			conn.Close()
		case r.URL.Path == "/page":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, `<a href="/style">a</a><a href="http://elsewhere/in">b</a>`)
		case r.URL.Path == "/moved":
			w.Header().Set("Location", r.URL.Query().Get("to"))
			w.WriteHeader(http.StatusFound)
		default:
			fmt.Fprintf(w, "%s %s?%s", r.Method, r.URL.Path, r.URL.RawQuery)
		}
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr()
}

func addPodOnNode(t *testing.T, client kubernetes.Interface, port int) {
	t.Helper()
	node, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(port)
	if _, err := client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	client.CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	_, err = client.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "c", Image: "i"}, {Name: "broken", Image: "i"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func TestKubeletProxy(t *testing.T) {
	c := startServer(t, func(cfg *Config) { cfg.KubeletCA = cfg.ClientCAFile })
	_, port, _ := net.SplitHostPort(startKubelet(t, c.ca).String())
	n, _ := strconv.Atoi(port)
	client := c.admin()
	addPodOnNode(t, client, n)

	logs := func(o *corev1.PodLogOptions) (string, error) {
		stream, err := client.CoreV1().Pods("default").GetLogs("web", o).Stream(t.Context())
		if err != nil {
			return "", err
		}
		defer stream.Close()
		b, err := io.ReadAll(stream)
		return string(b), err
	}
	tail := int64(5)
	if got, err := logs(&corev1.PodLogOptions{Container: "c", TailLines: &tail, Follow: true}); err != nil || got != "GET /containerLogs/default/web/c?follow=true&tailLines=5" {
		t.Errorf("log: %q, %v", got, err)
	}
	if _, err := logs(&corev1.PodLogOptions{Container: "broken"}); !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), "waiting to start") {
		t.Errorf("log of a waiting container: %v", err)
	}
	if _, err := logs(&corev1.PodLogOptions{}); err == nil || !strings.Contains(err.Error(), "a container name must be specified for pod web, choose one of: [c broken]") {
		t.Errorf("log without a container: %v", err)
	}
	checkUpgrade(t, c)
	checkLogOverWebSocket(t, c)
}

// checkLogOverWebSocket reads a log as the messages of a WebSocket, in both
// protocols, and gets an ordinary answer where there is no log.
func checkLogOverWebSocket(t *testing.T, c *cluster) {
	t.Helper()
	tlsConfig := c.http("kubernetes-admin", []string{"system:masters"}).Transport.(*http.Transport).TLSClientConfig.Clone()
	tlsConfig.NextProtos = []string{"http/1.1"}
	read := func(container string, protocols ...string) (string, *http.Response) {
		dialer := websocket.Dialer{TLSClientConfig: tlsConfig, Subprotocols: protocols}
		socket, resp, err := dialer.DialContext(t.Context(), "wss"+strings.TrimPrefix(c.url, "https")+"/api/v1/namespaces/default/pods/web/log?tailLines=5&container="+container, nil)
		if err != nil {
			return err.Error(), resp
		}
		defer socket.Close()
		var text string
		for first := true; ; first = false {
			_, message, err := socket.ReadMessage()
			if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				return text, resp
			}
			if err != nil || first != (len(message) == 0) {
				t.Fatalf("message %q, first %v: %v", message, first, err)
			}
			text += string(message)
		}
	}
	const log = "GET /containerLogs/default/web/c?tailLines=5"
	for protocol, want := range map[string]string{"": log, "binary.k8s.io": log, "base64.binary.k8s.io": base64.StdEncoding.EncodeToString([]byte(log))} {
		var asked []string
		if protocol != "" {
			asked = []string{protocol}
		}
		if got, resp := read("c", asked...); got != want || resp.Header.Get("Sec-WebSocket-Protocol") != protocol {
			t.Errorf("log over WebSocket with protocol %q: %q as %v", protocol, got, resp.Header)
		}
	}
	if got, resp := read("broken"); resp == nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("log of a waiting container over WebSocket: %s, %v", got, resp)
	}
}

// checkUpgrade switches an exec request to another protocol and sees its bytes
// come back.
func checkUpgrade(t *testing.T, c *cluster) {
	t.Helper()
	cfg := c.http("kubernetes-admin", []string{"system:masters"}).Transport.(*http.Transport).TLSClientConfig.Clone()
	cfg.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(c.url, "https://"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /api/v1/namespaces/default/pods/web/exec?command=cat&container=c&stdin=true HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", resp, err)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := in.ReadString('\n'); line != "hello\n" {
		t.Errorf("echo: %q, %v", line, err)
	}
}
