package proxytest

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podarium/podarium/proxy"
)

// Cluster is a model of many Services, each of one TCP port 80 with the same
// number of endpoints, for tests of size.
type Cluster struct {
	*proxy.Model
}

// NewCluster has Services s0, s1, … with ClusterIPs from 10.97.0.1 up.
func NewCluster(services, endpoints int) Cluster {
	c := Cluster{proxy.NewModel("node-1", corev1.IPv4Protocol)}
	for i := range services {
		c.SetService(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("s%d", i)},
			Spec: corev1.ServiceSpec{
				ClusterIP: ClusterIP(i),
				Ports:     []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}},
			},
		})
		var ips []string
		for e := range endpoints {
			ips = append(ips, fmt.Sprintf("10.%d.%d.%d", 64+e, i/250, i%250+2))
		}
		c.SetEndpoints(i, ips...)
	}
	return c
}

// ClusterIP is that of Service i.
func ClusterIP(i int) string { return fmt.Sprintf("10.97.%d.%d", i/250, i%250+1) }

// SetEndpoints gives Service i other endpoints, on port 8080 of node-1.
func (c Cluster) SetEndpoints(i int, ips ...string) {
	node, name, protocol, port := "node-1", "", corev1.ProtocolTCP, int32(8080)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("s%d-1", i), Labels: map[string]string{discoveryv1.LabelServiceName: fmt.Sprintf("s%d", i)}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &port}},
	}
	for _, ip := range ips {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}, NodeName: &node})
	}
	c.SetSlice(slice)
}
