package apiserver

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podarium/podarium/apiserver/clusterip"
	"github.com/podarium/podarium/apiserver/nodeport"
	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/apiserver/store"
)

// allocation chooses what a Service gets from the server: its ClusterIP and
// its node ports. The choice is made from the copy in memory and becomes true
// in the transaction that writes the Service; when somebody else was faster,
// the write fails with the key that is taken, and another one is chosen.
type allocation struct {
	s     *Server
	taken map[string]bool // keys that a write has found taken
}

// maxTries bounds the choices for one write. Two random choices out of a
// million meet seldom; what fails so often is something else.
const maxTries = 64

// allocate runs write until it does not fail on a claim.
func (s *Server) allocate(write func(a *allocation) (resource.Object, error)) (resource.Object, error) {
	a := &allocation{s: s, taken: map[string]bool{}}
	for range maxTries {
		done, err := write(a)
		var claimed *store.ClaimedError
		if !errors.As(err, &claimed) {
			return done, err
		}
		a.taken[claimed.Key] = true
	}
	return nil, apierrors.NewInternalError(errors.New("no free address or port was found in time"))
}

func (a *allocation) isTaken(key string) bool {
	if a.taken[key] {
		return true
	}
	_, ok := a.s.store.Cached(key)
	return ok
}

// assign fills in what obj needs and does not have yet; current is nil on
// create. It returns the keys to claim and to release with the write.
func (a *allocation) assign(obj, current resource.Object) (claims []store.Claim, releases []string, err error) {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return nil, nil, nil
	}
	held := map[string]bool{}
	if old, ok := current.(*corev1.Service); ok && old != nil {
		for _, key := range heldKeys(old) {
			held[key] = true
		}
	}
	if err := a.assignIP(svc, held); err != nil {
		return nil, nil, err
	}
	if err := a.assignPorts(svc, held); err != nil {
		return nil, nil, err
	}
	needed := map[string]bool{}
	for _, key := range heldKeys(svc) {
		needed[key] = true
		if !held[key] {
			claims = append(claims, store.Claim{Key: key, Object: claimObject(key, svc)})
		}
	}
	for key := range held {
		if !needed[key] {
			releases = append(releases, key)
		}
	}
	return claims, releases, nil
}

func (a *allocation) assignIP(svc *corev1.Service, held map[string]bool) error {
	if !resource.NeedsClusterIP(svc) {
		return nil
	}
	path := field.NewPath("spec", "clusterIPs")
	invalid := func(detail string) error {
		ips := svc.Spec.ClusterIPs
		if len(ips) == 0 {
			ips = []string{""}
		}
		return apierrors.NewInvalid(resource.Service.GK(), svc.Name, field.ErrorList{field.Invalid(path, ips, detail)})
	}
	if len(svc.Spec.ClusterIPs) == 0 {
		ip, err := a.s.pickServiceIP(func(ip netip.Addr) bool { return a.isTaken(resource.IPAddress.Key("", ip.String())) })
		if err != nil {
			return invalid(fmt.Sprintf("failed to allocate IP: %v", err))
		}
		svc.Spec.ClusterIP, svc.Spec.ClusterIPs = ip.String(), []string{ip.String()}
		return nil
	}
	text := svc.Spec.ClusterIPs[0]
	key := resource.IPAddress.Key("", text)
	if held[key] {
		return nil
	}
	ip, err := netip.ParseAddr(text)
	if err == nil {
		err = a.s.checkServiceIP(ip)
	}
	if err == nil && a.isTaken(key) {
		err = clusterip.ErrAllocated
	}
	if err != nil {
		return invalid(fmt.Sprintf("failed to allocate IP %s: %v", text, err))
	}
	return nil
}

func (a *allocation) assignPorts(svc *corev1.Service, held map[string]bool) error {
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.NodePort == 0 {
			continue
		}
		if err := a.checkPort(p.NodePort, held); err != nil {
			return apierrors.NewInvalid(resource.Service.GK(), svc.Name, field.ErrorList{
				field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), p.NodePort, err.Error()),
			})
		}
	}
	used := map[int32]bool{}
	for _, p := range resource.NodePorts(svc) {
		used[p] = true
	}
	pick := func() (int32, error) {
		port, err := a.s.nodePorts.Pick(func(p int) bool { return used[int32(p)] || a.isTaken(portKey(int32(p))) })
		if err != nil {
			return 0, apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
		}
		used[int32(port)] = true
		return int32(port), nil
	}
	if resource.NeedsNodePorts(svc) {
		if err := fillNodePorts(svc, pick); err != nil {
			return err
		}
	}
	if resource.NeedsHealthPort(svc) {
		if svc.Spec.HealthCheckNodePort == 0 {
			port, err := pick()
			svc.Spec.HealthCheckNodePort = port
			return err
		}
		if err := a.checkPort(svc.Spec.HealthCheckNodePort, held); err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate requested HealthCheck NodePort %d: %w", svc.Spec.HealthCheckNodePort, err))
		}
	}
	return nil
}

// fillNodePorts gives every port a node port. The same port number for TCP and
// for UDP, as DNS has, gets the same node port.
func fillNodePorts(svc *corev1.Service, pick func() (int32, error)) error {
	chosen := map[int32]int32{}
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 {
			chosen[p.Port] = p.NodePort
		}
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.NodePort != 0 {
			continue
		}
		port, ok := chosen[p.Port]
		if !ok {
			var err error
			if port, err = pick(); err != nil {
				return err
			}
			chosen[p.Port] = port
		}
		p.NodePort = port
	}
	return nil
}

func (a *allocation) checkPort(port int32, held map[string]bool) error {
	if held[portKey(port)] {
		return nil
	}
	if err := a.s.nodePorts.Check(int(port)); err != nil {
		return err
	}
	if a.isTaken(portKey(port)) {
		return nodeport.ErrAllocated
	}
	return nil
}

func portKey(port int32) string { return resource.NodePort.Prefix + strconv.Itoa(int(port)) }

// heldKeys are the keys that mark as taken what an object holds.
func heldKeys(obj resource.Object) []string {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return nil
	}
	var keys []string
	if resource.NeedsClusterIP(svc) && len(svc.Spec.ClusterIPs) > 0 {
		keys = append(keys, resource.IPAddress.Key("", svc.Spec.ClusterIPs[0]))
	}
	for _, p := range resource.NodePorts(svc) {
		keys = append(keys, portKey(p))
	}
	return keys
}

// claimObject is what is stored under a claimed key: it says whose it is.
func claimObject(key string, svc *corev1.Service) resource.Object {
	meta := metav1.ObjectMeta{UID: uuid.NewUUID(), CreationTimestamp: metav1.Now().Rfc3339Copy()}
	if port, ok := strings.CutPrefix(key, resource.NodePort.Prefix); ok {
		meta.Name = port
		meta.Annotations = map[string]string{ownerAnnotation: svc.Namespace + "/" + svc.Name}
		claim := &metav1.PartialObjectMetadata{ObjectMeta: meta}
		claim.SetGroupVersionKind(resource.NodePort.GVK())
		return claim
	}
	meta.Name = key[len(resource.IPAddress.Prefix):]
	meta.Labels = map[string]string{networkingv1.LabelIPAddressFamily: "IPv4", networkingv1.LabelManagedBy: "ipallocator.k8s.io"}
	ip := &networkingv1.IPAddress{
		ObjectMeta: meta,
		Spec:       networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: svc.Namespace, Name: svc.Name}},
	}
	ip.SetGroupVersionKind(resource.IPAddress.GVK())
	return ip
}

const ownerAnnotation = "podarium.io/service"
