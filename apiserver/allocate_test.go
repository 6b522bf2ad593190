package apiserver

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/podarium/podarium/apiserver/resource"
)

// allocateFor is how long TestAllocationRace lasts: `go test ./apiserver -run
// TestAllocationRace -allocate-for 60s`.
var allocateFor = flag.Duration("allocate-for", 3*time.Second, "how long clients fight for addresses and ports")

// Two API servers on one etcd, 64 clients that create Services, change their
// types back and forth and delete them, in a range of 61 addresses and 20
// ports: nothing is ever handed out twice, and in the end nothing is left over.
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
	ctx, cancel := context.WithTimeout(t.Context(), *allocateFor)
	defer cancel()
	book := &ledger{t: t, holder: map[string]string{}}
	var running sync.WaitGroup
	tenants := make([]*tenant, 64)
	for i := range tenants {
		tenants[i] = &tenant{t: t, book: book, id: i, api: []*cluster{first, second}[i%2].admin().CoreV1().Services("default")}
		running.Go(func() { tenants[i].run(ctx) })
	}
	running.Wait()
	created, changed, refused := 0, 0, 0
	for _, n := range tenants {
		created, changed, refused = created+n.created, changed+n.changed, refused+n.refused
	}
	t.Logf("%d Services, %d changes of type, %d refused in %v", created, changed, refused, *allocateFor)
	if created < len(tenants) || changed < len(tenants) || refused == 0 {
		t.Error("too few to tell anything")
	}
	checkNothingLeft(t, first)
}

// ledger knows whose each address and port is.
type ledger struct {
	t      *testing.T
	mu     sync.Mutex
	holder map[string]string // address or port ─▶ Service
}

func (l *ledger) take(keys []string, service string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		if other, taken := l.holder[key]; taken {
			l.t.Errorf("%s belongs to %s and to %s", key, other, service)
		}
		l.holder[key] = service
	}
}

// give is called before the request that frees the keys is sent, for afterwards
// they may be somebody else's at once.
func (l *ledger) give(keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		delete(l.holder, key)
	}
}

// tenant has one Service after the other.
type tenant struct {
	t                         *testing.T
	book                      *ledger
	id                        int
	api                       typedcorev1.ServiceInterface
	created, changed, refused int
}

// run goes on until ctx is done. On a busy machine it goes on further, until
// this tenant has had its Service and a change too, for a minute at most.
func (n *tenant) run(ctx context.Context) {
	for end := time.Now().Add(time.Minute); !n.t.Failed() && time.Now().Before(end); {
		if ctx.Err() != nil && n.created > 0 && n.changed > 0 {
			return
		}
		svc := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s%d-%d", n.id, n.created+n.refused)},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}},
		}
		if rand.IntN(3) == 0 { // a wish, which may be refused
			svc.Spec.ClusterIP = fmt.Sprintf("10.96.0.%d", 2+rand.IntN(60))
		}
		svc, err := n.api.Create(context.Background(), svc, metav1.CreateOptions{})
		if n.isRefused(err) {
			continue
		}
		n.created++
		n.book.take(heldKeys(svc), svc.Name)
		for range rand.IntN(4) {
			svc = n.change(svc)
		}
		n.book.give(heldKeys(svc))
		if err := n.api.Delete(context.Background(), svc.Name, metav1.DeleteOptions{}); err != nil {
			n.t.Errorf("delete: %v", err)
		}
	}
}

// isRefused: the address is taken, or there is none left.
func (n *tenant) isRefused(err error) bool {
	if err != nil {
		n.refused++
		if !apierrors.IsInvalid(err) && !apierrors.IsInternalError(err) {
			n.t.Errorf("refused: %v", err)
		}
	}
	return err != nil
}

// change gives the Service another type. What it cannot keep is given back.
func (n *tenant) change(svc *corev1.Service) *corev1.Service {
	next := svc.DeepCopy()
	next.Spec.ExternalName = ""
	switch rand.IntN(4) {
	case 0:
		next.Spec.Type = corev1.ServiceTypeExternalName
		next.Spec.ExternalName = "example.com"
	case 1:
		next.Spec.Type = corev1.ServiceTypeClusterIP
	case 2:
		next.Spec.Type = corev1.ServiceTypeNodePort
	case 3:
		next.Spec.Type, next.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
	}
	kept := func(key string) bool {
		isPort := strings.HasPrefix(key, resource.NodePort.Prefix)
		switch next.Spec.Type {
		case corev1.ServiceTypeExternalName:
			return false
		case corev1.ServiceTypeClusterIP:
			return !isPort
		case corev1.ServiceTypeNodePort: // one without a port for health checks
			return !isPort || key == portKey(svc.Spec.Ports[0].NodePort)
		}
		return true
	}
	before := heldKeys(svc)
	lost := slices.DeleteFunc(slices.Clone(before), kept)
	n.book.give(lost)
	done, err := n.api.Update(context.Background(), next, metav1.UpdateOptions{})
	if n.isRefused(err) {
		if len(lost) > 0 {
			n.t.Errorf("%s to %s, which frees %v: %v", svc.Spec.Type, next.Spec.Type, lost, err)
		}
		return svc
	}
	n.changed++
	n.book.take(slices.DeleteFunc(heldKeys(done), func(key string) bool { return slices.Contains(before, key) && kept(key) }), done.Name)
	return done
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
	balanced := svc.DeepCopy()
	balanced.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.5"}}
	if svc, err = api.UpdateStatus(t.Context(), balanced, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	change(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	if len(svc.Status.LoadBalancer.Ingress) != 0 {
		t.Errorf("no load balancer any more: %+v", svc.Status)
	}
	balanced.ResourceVersion = ""
	if _, err := api.UpdateStatus(t.Context(), balanced, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "may only be used when `spec.type` is 'LoadBalancer'") {
		t.Errorf("an address of a load balancer that is none: %v", err)
	}
}

// What cannot be had is told before what is wrong with the object, as by
// upstream: ports after the address, and each port where it is named. A dry run
// tells it last.
func TestAllocationIsRefusedFirst(t *testing.T) {
	c := startServer(t)
	api := c.admin().CoreV1().Services("default")
	named := func(name string, spec corev1.ServiceSpec) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
	}
	taken := corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.77", Ports: []corev1.ServicePort{{Port: 80, NodePort: 30081}}}
	if _, err := api.Create(t.Context(), named("a", taken), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wrong := *taken.DeepCopy()
	wrong.SessionAffinity = "Nope"
	free, twice, far := *wrong.DeepCopy(), *wrong.DeepCopy(), *wrong.DeepCopy()
	free.Ports[0].NodePort = 30082
	twice.ClusterIP, twice.Ports = "", []corev1.ServicePort{{Name: "a", Port: 80, NodePort: 30082}, {Name: "b", Port: 81, NodePort: 30082}}
	far.ClusterIP, far.Ports[0].NodePort = "10.96.0.0", 80
	const affinity = `spec.sessionAffinity: Unsupported value: "Nope": supported values: "ClientIP", "None"`
	const port = `spec.ports[0].nodePort: Invalid value: 30081: provided port is already allocated`
	for _, row := range []struct {
		what      string
		spec      corev1.ServiceSpec
		real, dry string
	}{
		{"both taken", wrong, `spec.clusterIPs: Invalid value: ["10.96.0.77"]: failed to allocate IP 10.96.0.77: provided IP is already allocated`, port},
		{"address taken", free, `spec.clusterIPs: Invalid value: ["10.96.0.77"]: failed to allocate IP 10.96.0.77: provided IP is already allocated`, affinity},
		{"one port twice", twice, `spec.ports[1].nodePort: Invalid value: 30082: provided port is already allocated`, `spec.ports[1].nodePort: Invalid value: 30082: provided port is already allocated`},
		{"out of range", far, `spec.clusterIPs: Invalid value: ["10.96.0.0"]: failed to allocate IP 10.96.0.0: the provided IP (10.96.0.0) is not in the valid range. The range of valid IPs is 10.96.0.0/12`, affinity},
	} {
		_, err := api.Create(t.Context(), named("b", row.spec), metav1.CreateOptions{})
		if want := `Service "b" is invalid: ` + row.real; err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", row.what, err, want)
		}
		_, err = api.Create(t.Context(), named("b", row.spec), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if want := `Service "b" is invalid: ` + row.dry; err == nil || err.Error() != want {
			t.Errorf("%s, dry run: %v, want %s", row.what, err, want)
		}
	}
	_, err := api.Create(t.Context(), named("b", corev1.ServiceSpec{ClusterIP: "10.96.0.77", Ports: taken.Ports[:1:1]}), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err == nil {
		t.Error("a dry run promises a taken address")
	}
}
