package kubelet

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/kube"
)

// grpcCheck asks the standard health service (grpc.health.v1) of a server. ctx ends after timeout.
func grpcCheck(ctx context.Context, action *corev1.GRPCAction, ip string, timeout time.Duration) error {
	address := net.JoinHostPort(ip, strconv.Itoa(int(action.Port)))
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent("kube-probe/"+kube.VersionMajor+"."+kube.VersionMinor))
	if err != nil {
		return fmt.Errorf("error: failed to connect service at %q: %w", address, err)
	}
	defer conn.Close()
	if !connected(ctx, conn) {
		return fmt.Errorf("timeout: failed to connect service %q within %v: %w", address, timeout, ctx.Err())
	}
	service := ""
	if action.Service != nil {
		service = *action.Service
	}
	answer, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: service})
	switch status.Code(err) {
	case codes.OK:
	case codes.Unimplemented:
		return fmt.Errorf("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", status.Convert(err).Message())
	case codes.DeadlineExceeded:
		return fmt.Errorf("timeout: health rpc did not complete within %v", timeout)
	default:
		return fmt.Errorf("error: health rpc probe failed: %w", err)
	}
	if answer.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return fmt.Errorf("service unhealthy (responded with %q)", answer.GetStatus())
	}
	return nil
}

// connected waits for the connection; gRPC tries again and again until ctx ends.
func connected(ctx context.Context, conn *grpc.ClientConn) bool {
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			return false
		}
	}
	return true
}
