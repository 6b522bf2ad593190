package kubelet

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
)

// listenGRPC serves gRPC on a free port, with what register adds.
func listenGRPC(t *testing.T, register func(*grpc.Server)) int32 {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	go server.Serve(listener) //nolint:errcheck // ends with Stop
	t.Cleanup(server.Stop)
	return int32(listener.Addr().(*net.TCPAddr).Port)
}

func TestGRPCCheck(t *testing.T) {
	healthy := listenGRPC(t, func(s *grpc.Server) {
		states := health.NewServer()
		states.SetServingStatus("ill", healthv1.HealthCheckResponse_NOT_SERVING)
		healthv1.RegisterHealthServer(s, states)
	})
	silent := listenGRPC(t, func(*grpc.Server) {})
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	gone := listenGRPC(t, func(s *grpc.Server) { s.Stop() })
	for name, tc := range map[string]struct {
		port    int32
		service string
		want    string
	}{
		"the server as a whole":  {healthy, "", ""},
		"a service that is ill":  {healthy, "ill", `service unhealthy (responded with "NOT_SERVING")`},
		"a service nobody knows": {healthy, "nobody", "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"},
		"no health service":      {silent, "", "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "},
		"no answer":              {int32(deaf.Addr().(*net.TCPAddr).Port), "", "timeout: failed to connect service "},
		"no server":              {gone, "", "timeout: failed to connect service "},
	} {
		t.Run(name, func(t *testing.T) {
			timeout := 10 * time.Second
			if strings.HasPrefix(tc.want, "timeout") {
				timeout = 200 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			err := grpcCheck(ctx, &corev1.GRPCAction{Port: tc.port, Service: &tc.service}, "127.0.0.1", timeout)
			switch {
			case tc.want == "" && err != nil, tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
