//go:build kubeproxy

package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podarium/podarium/internal/netns"
	"github.com/podarium/podarium/internal/netns/nstest"
)

// healthCheckPorts are the healthCheckNodePorts of all Services.
func (p *controlPlane) healthCheckPorts() (ports []int32) {
	p.t.Helper()
	list, err := p.client.CoreV1().Services("").List(p.t.Context(), metav1.ListOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, s := range list.Items {
		if s.Spec.HealthCheckNodePort != 0 {
			ports = append(ports, s.Spec.HealthCheckNodePort)
		}
	}
	slices.Sort(ports)
	return ports
}

// healthChecks are who answers a load balancer which asks a node there, at its
// address of each family.
func healthChecks(ctx context.Context, host *nstest.Host, ports []int32) string {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return netns.Dial(ctx, host.Path(), network, address)
		},
	}}
	var all strings.Builder
	for _, port := range ports {
		for _, ip := range []string{"192.168.56.11", "fd00:56::11"} {
			address := net.JoinHostPort(ip, strconv.Itoa(int(port)))
			fmt.Fprintf(&all, "# http://%s/: %s\n", address, ask(ctx, &client, "http://"+address+"/"))
		}
	}
	return all.String()
}

func ask(ctx context.Context, client *http.Client, url string) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	response, err := client.Do(request)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case err != nil:
		return err.Error()
	}
	defer response.Body.Close()
	var body struct {
		Service        struct{ Namespace, Name string }
		LocalEndpoints int
	}
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d: %d endpoints of %s/%s", response.StatusCode, body.LocalEndpoints, body.Service.Namespace, body.Service.Name)
}
