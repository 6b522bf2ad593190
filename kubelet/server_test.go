package kubelet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/httpstream" //nolint:staticcheck // client-go's dialers still have its types
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/utils/exec"

	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/kubelet/runtime"
	"github.com/podarium/podarium/kubelet/shim"
)

// TestMain lets the test binary be the container shim, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "serve" {
		if err := shim.Serve(os.Args[2]); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// apiFixture is the kubelet's API over one running container, default/web/c, without authorization.
func apiFixture(t *testing.T, command ...string) *httptest.Server {
	t.Helper()
	nstest.NeedRoot(t)
	dir, err := os.MkdirTemp("", "kubelet") //nolint:usetesting // mounts in it must be gone before it is removed
	if err != nil {
		t.Fatal(err)
	}
	containers, err := runtime.New(dir, filepath.Join(dir, "run"), "/proc/self/exe", runtime.LogLimits{})
	if err != nil {
		t.Fatal(err)
	}
	layer := filepath.Join(dir, "layer")
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("the tests need busybox-static: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(layer, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "cat", "sleep"} {
		if err := os.WriteFile(filepath.Join(layer, "bin", name), busybox, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := &Kubelet{ctx: ctx, runtime: containers, workers: map[types.UID]*worker{}}
	k.counts = newCounts("node-1", k.running)
	record := runtime.Record{ID: newID(), Name: "c", LogPath: filepath.Join(dir, "c", "0.log")}
	t.Cleanup(func() {
		cancel()
		if err := containers.Remove(context.Background(), record.ID); err != nil {
			t.Error(err)
		}
		if err := runtime.RemoveCgroup("/podarium-kubelet-test"); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	spec := runtime.Container{
		Layers: []string{layer}, Args: command, Capabilities: runtime.DefaultCapabilities, CgroupPath: "/podarium-kubelet-test/" + record.ID,
		Namespaces: runtime.Namespaces{Network: runtime.HostNS}, Stdin: true,
	}
	if err := containers.Create(&record, spec); err != nil {
		t.Fatal(err)
	}
	if err := containers.Start(&record); err != nil {
		t.Fatal(err)
	}
	w := newWorker(k, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u1"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}},
	})
	w.containers["c"] = &container{record: record, running: true, exited: make(chan struct{})}
	w.sandbox = &sandboxRecord{HostNetwork: true}
	k.workers["u1"] = w
	server := httptest.NewServer(k.routes())
	t.Cleanup(server.Close)
	return server
}

// overSPDY and overWebSocket are kubectl's two ways.
func overSPDY(target *url.URL) (remotecommand.Executor, error) {
	return remotecommand.NewSPDYExecutor(&rest.Config{}, http.MethodPost, target)
}

func overWebSocket(target *url.URL) (remotecommand.Executor, error) {
	return remotecommand.NewWebSocketExecutor(&rest.Config{}, http.MethodGet, target.String())
}

var ways = map[string]func(*url.URL) (remotecommand.Executor, error){"SPDY": overSPDY, "WebSocket": overWebSocket}

func stream(t *testing.T, way string, server *httptest.Server, path string, options remotecommand.StreamOptions) error {
	t.Helper()
	target, err := url.Parse(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	executor, err := ways[way](target)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return executor.StreamWithContext(ctx, options)
}

func shell(script string) string {
	return url.Values{"command": {"sh", "-c", script}}.Encode()
}

func TestExec(t *testing.T) {
	server := apiFixture(t, "sleep", "1000")
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			var out, errs bytes.Buffer
			err := stream(t, way, server, "/exec/default/web/c?input=1&output=1&error=1&"+shell("cat; echo bad >&2; exit 5"),
				remotecommand.StreamOptions{Stdin: strings.NewReader("typed\n"), Stdout: &out, Stderr: &errs})
			var exit utilexec.ExitError
			ok := errors.As(err, &exit)
			if !ok || exit.ExitStatus() != 5 || out.String() != "typed\n" || errs.String() != "bad\n" {
				t.Errorf("exec: %v, %q, %q; want exit status 5", err, out.String(), errs.String())
			}
			out.Reset()
			err = stream(t, way, server, "/exec/default/web/c?input=1&output=1&tty=1&"+shell("test -t 0 && echo terminal"),
				remotecommand.StreamOptions{Stdin: strings.NewReader(""), Stdout: &out, Tty: true})
			if err != nil || !strings.Contains(out.String(), "terminal") {
				t.Errorf("exec with terminal: %v, %q", err, out.String())
			}
			if err := stream(t, way, server, "/exec/default/web/none?command=sh&output=1", remotecommand.StreamOptions{Stdout: &out}); err == nil {
				t.Error("exec in a missing container succeeded")
			}
		})
	}
}

func TestAttach(t *testing.T) {
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			server := apiFixture(t, "sh", "-c", "read line; echo got $line")
			var out bytes.Buffer
			err := stream(t, way, server, "/attach/default/web/c?input=1&output=1&error=1",
				remotecommand.StreamOptions{Stdin: strings.NewReader("word\n"), Stdout: &out, Stderr: io.Discard})
			if err != nil || out.String() != "got word\n" {
				t.Errorf("attach: %v, %q", err, out.String())
			}
		})
	}
}

func TestPortForward(t *testing.T) {
	server := apiFixture(t, "sleep", "1000")
	target, err := url.Parse(server.URL + "/portForward/default/web")
	if err != nil {
		t.Fatal(err)
	}
	transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(target, &rest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for way, dialer := range map[string]httpstream.Dialer{
		"SPDY":      spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target),
		"WebSocket": tunnel,
	} {
		t.Run(way, func(t *testing.T) { forwardOnce(t, dialer) })
	}
}

func forwardOnce(t *testing.T, dialer httpstream.Dialer) {
	t.Helper()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer backend.Close()
	port := backend.Listener.Addr().(*net.TCPAddr).Port
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.New(dialer, []string{"0:" + strconv.Itoa(port)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.Get("http://127.0.0.1:" + strconv.Itoa(int(ports[0].Local)))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || string(body) != "hello" {
		t.Errorf("through the port-forward came %q, %v", body, err)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
