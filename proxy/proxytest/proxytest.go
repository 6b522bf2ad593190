// Package proxytest gives the tests of all proxy modes the same clusters.
//
// proxy/testdata has a file for each situation (situations.go): the Services and
// EndpointSlices of a cluster, and the rules made of them on node-1
// (192.168.56.11, zone z1, pods 10.244.1.0/24), in each mode.
package proxytest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy"
)

// Node moves the test onto node-1: a network namespace with its address. eth0
// stays down until a test needs it.
func Node(t testing.TB) {
	t.Helper()
	nstest.Enter(t)
	nstest.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "wire")
	nstest.Run(t, "ip", "addr", "add", "192.168.56.11/24", "dev", "eth0")
}

// kubernetesService is in every cluster.
const kubernetesService = `
apiVersion: v1
kind: Service
metadata: {name: kubernetes, namespace: default}
spec:
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1]
  ports: [{name: https, protocol: TCP, port: 443, targetPort: 6443}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: kubernetes
  namespace: default
  labels: {kubernetes.io/service-name: kubernetes}
addressType: IPv4
endpoints: [{addresses: [192.168.56.11], conditions: {ready: true}}]
ports: [{name: https, protocol: TCP, port: 6443}]
`

// Snapshot is what node-1 decides for a cluster given as YAML documents.
func Snapshot(t testing.TB, objects string) *proxy.Snapshot {
	t.Helper()
	return SnapshotOf(t, corev1.IPv4Protocol, objects)
}

// SnapshotOf is Snapshot for an IP family.
func SnapshotOf(t testing.TB, family corev1.IPFamily, objects string) *proxy.Snapshot {
	t.Helper()
	snapshot, err := Read(family, objects)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

// Read is Snapshot for those who are not a test.
func Read(family corev1.IPFamily, objects string) (*proxy.Snapshot, error) {
	model := proxy.NewModel("node-1", family)
	model.SetZone("z1")
	if err := errors.Join(load(model, kubernetesService), load(model, objects)); err != nil {
		return nil, err
	}
	return model.Snapshot(), nil
}

var comments = regexp.MustCompile(`(?m)^#.*$`)

func load(model *proxy.Model, documents string) error {
	reader := yaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(documents)))
	for {
		buf := make([]byte, 1<<20)
		n, err := reader.Read(buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read documents: %w", err)
		}
		if len(bytes.TrimSpace(comments.ReplaceAll(buf[:n], nil))) == 0 {
			continue
		}
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(buf[:n], nil, nil)
		if err != nil {
			return fmt.Errorf("decode %s: %w", buf[:n], err)
		}
		switch o := object.(type) {
		case *corev1.Service:
			model.SetService(o)
		case *discoveryv1.EndpointSlice:
			model.SetSlice(o)
		default:
			return fmt.Errorf("a %T is not for a proxy", o)
		}
	}
}

// Pods are hosts on the test node's bridge cni0, 10.244.1.2 and up.
func Pods(t testing.TB, n int) []*nstest.Host {
	t.Helper()
	nstest.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
	nstest.Run(t, "ip", "addr", "add", "10.244.1.1/24", "dev", "cni0")
	nstest.Run(t, "ip", "link", "set", "cni0", "up")
	nstest.Run(t, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables")
	var list []*nstest.Host
	for i := range n {
		pod, veth := nstest.New(t), fmt.Sprintf("veth%d", i)
		nstest.Run(t, "ip", "link", "add", veth, "master", "cni0", "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(pod.Pid()))
		nstest.Run(t, "ip", "link", "set", veth, "up")
		nstest.Run(t, "bridge", "link", "set", "dev", veth, "hairpin", "on")
		pod.Run(t, "ip", "addr", "add", fmt.Sprintf("10.244.1.%d/24", i+2), "dev", "eth0")
		pod.Run(t, "ip", "link", "set", "eth0", "up")
		pod.Run(t, "ip", "route", "add", "default", "via", "10.244.1.1")
		list = append(list, pod)
	}
	return list
}
