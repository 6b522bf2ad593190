package test

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// grpcHealth is the address on which the test binary is to serve gRPC's health
// service: pod_probes.txtar runs it in a pod (see TestMain).
const grpcHealth = "PODARIUM_TEST_GRPC_HEALTH"

// serveGRPCHealth answers SERVING for the service "ready" and for the server as
// a whole; SIGUSR1 turns both into NOT_SERVING.
func serveGRPCHealth(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("serve gRPC health: %w", err)
	}
	states := health.NewServer()
	states.SetServingStatus("ready", healthv1.HealthCheckResponse_SERVING)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() { <-signals; states.Shutdown() }()
	server := grpc.NewServer()
	healthv1.RegisterHealthServer(server, states)
	return server.Serve(listener)
}
