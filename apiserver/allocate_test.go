package apiserver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Two API servers on one etcd, 32 clients that create and delete Services in a
// range of 14 addresses and 20 ports: nothing is ever handed out twice, and in
// the end nothing is left over.
func TestAllocationRace(t *testing.T) {
	small := func(c *Config) {
		c.ServiceClusterIPRange = netip.MustParsePrefix("10.96.0.0/26")
		c.NodePortMin, c.NodePortMax = 30000, 30019
	}
	first := startServer(t, small)
	second := startServer(t, small, func(c *Config) {
		c.EtcdServers = []string{"unix://" + first.cfg.DataDir + "/etcd.sock"}
		c.AdvertiseAddress = netip.MustParseAddr("192.168.56.12")
	})
	defer second.stop() // before its etcd goes

	var mu sync.Mutex
	holder := map[string]string{} // address or port ─▶ Service
	take := func(svc *corev1.Service) {
		mu.Lock()
		defer mu.Unlock()
		for _, key := range heldKeys(svc) {
			if other, taken := holder[key]; taken {
				t.Errorf("%s belongs to %s and to %s", key, other, svc.Name)
			}
			holder[key] = svc.Name
		}
	}
	give := func(svc *corev1.Service) {
		mu.Lock()
		defer mu.Unlock()
		for _, key := range heldKeys(svc) {
			delete(holder, key)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var clients sync.WaitGroup
	created := make([]int, 32)
	for i := range created {
		client := []*cluster{first, second}[i%2].admin()
		clients.Go(func() { created[i] = churnServices(ctx, t, client, i, take, give) })
	}
	clients.Wait()
	total := 0
	for _, n := range created {
		total += n
	}
	t.Logf("%d Services in 3 s", total)
	checkNothingLeft(t, first)
}

// churnServices creates and deletes Services until ctx is done. The holder's
// book is cleared before the deletion is sent, for afterwards the address may
// be somebody else's at once.
func churnServices(ctx context.Context, t *testing.T, client kubernetes.Interface, id int, take, give func(*corev1.Service)) int {
	t.Helper()
	api := client.CoreV1().Services("default")
	n := 0
	for ; ctx.Err() == nil; n++ {
		svc := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s%d-%d", id, n)},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}},
		}
		if rand.IntN(3) == 0 { // a wish, which may be refused
			svc.Spec.ClusterIP = fmt.Sprintf("10.96.0.%d", 2+rand.IntN(60))
		}
		svc, err := api.Create(context.Background(), svc, metav1.CreateOptions{})
		if apierrors.IsInvalid(err) || apierrors.IsInternalError(err) {
			continue // taken, or full
		}
		if err != nil {
			t.Errorf("create: %v", err)
			return n
		}
		take(svc)
		give(svc)
		if err := api.Delete(context.Background(), svc.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	return n
}

func checkNothingLeft(t *testing.T, c *cluster) {
	t.Helper()
	ips, err := c.admin().NetworkingV1().IPAddresses().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(ips.Items) != 1 || ips.Items[0].Name != "10.96.0.1" {
		t.Errorf("IPAddresses left: %v", ips.Items)
	}
	// Twenty ports can be had again, one by one.
	ports := make([]corev1.ServicePort, 20)
	for i := range ports {
		ports[i] = corev1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: int32(80 + i)}
	}
	_, err = c.admin().CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "all-ports"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: ports},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Errorf("all ports: %v", err)
	}
}

// A Service changes its type back and forth.
func TestServiceTypeChanges(t *testing.T) {
	c := startServer(t)
	api := c.admin().CoreV1().Services("default")
	svc, err := api.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}, ClusterIP: "10.96.77.77"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	change := func(edit func(*corev1.Service)) *corev1.Service {
		t.Helper()
		edit(svc)
		if svc, err = api.Update(t.Context(), svc, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		return svc
	}
	change(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort })
	port := svc.Spec.Ports[0].NodePort
	if port < 30000 || svc.Spec.ClusterIP != "10.96.77.77" || svc.Spec.ExternalTrafficPolicy != "Cluster" {
		t.Errorf("to NodePort: %+v", svc.Spec)
	}
	change(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	if svc.Spec.Ports[0].NodePort != 0 || svc.Spec.ExternalTrafficPolicy != "" {
		t.Errorf("back to ClusterIP: %+v", svc.Spec)
	}
	change(func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
	})
	if svc.Spec.ClusterIP != "" || len(svc.Spec.ClusterIPs) != 0 {
		t.Errorf("to ExternalName: %+v", svc.Spec)
	}
	if _, err := c.admin().NetworkingV1().IPAddresses().Get(t.Context(), "10.96.77.77", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the address is not free: %v", err)
	}
	change(func(s *corev1.Service) { s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeLoadBalancer, "" })
	if svc.Spec.ClusterIP == "" || svc.Spec.Ports[0].NodePort == 0 {
		t.Errorf("to LoadBalancer: %+v", svc.Spec)
	}
}
