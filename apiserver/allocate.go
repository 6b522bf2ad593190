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
	s      *Server
	dryRun bool
	taken  map[string]bool // keys that a write has found taken

	// late is what a dry run cannot have. It is told when nothing else is
	// wrong: upstream's dry run allocates nothing and looks at the object only,
	// ours goes on to say what the write itself would meet.
	late error
}

// maxTries bounds the choices for one write. Two random choices out of a
// million meet seldom; what fails so often is something else.
const maxTries = 64

// allocate runs write until it does not fail on a claim.
func (s *Server) allocate(dryRun bool, write func(a *allocation) (resource.Object, error)) (resource.Object, error) {
	a := &allocation{s: s, dryRun: dryRun, taken: map[string]bool{}}
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
	old, _ := current.(*corev1.Service)
	held := map[string]bool{}
	if old != nil {
		for _, key := range heldKeys(old) {
			held[key] = true
		}
	}
	a.late = nil
	if err := a.assignIP(svc, old); err != nil {
		return nil, nil, err
	}
	if err := a.assignPorts(svc, old); err != nil {
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

// assignIP gives a new Service its address, or one whose type says for the
// first time that it has one. Later the address stays: validation sees to it.
func (a *allocation) assignIP(svc, old *corev1.Service) error {
	if !resource.NeedsClusterIP(svc) || old != nil && old.Spec.Type != corev1.ServiceTypeExternalName {
		return nil
	}
	if len(svc.Spec.ClusterIPs) == 0 {
		ip, err := a.s.pickServiceIP(func(ip netip.Addr) bool { return a.isTaken(resource.IPAddress.Key("", ip.String())) })
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP for Service %q: %w", svc.Name, err))
		}
		svc.Spec.ClusterIP, svc.Spec.ClusterIPs = ip.String(), []string{ip.String()}
		return nil
	}
	text := svc.Spec.ClusterIPs[0]
	ip, err := netip.ParseAddr(text)
	if err == nil {
		err = a.s.checkServiceIP(ip)
	}
	if err == nil && a.isTaken(resource.IPAddress.Key("", text)) {
		err = clusterip.ErrAllocated
	}
	if err == nil {
		return nil
	}
	return a.refuse(invalidService(svc, field.Invalid(field.NewPath("spec", "clusterIPs"), svc.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: %v", text, err))))
}

// refuse stops a write; a dry run goes on and remembers.
func (a *allocation) refuse(err error) error {
	if !a.dryRun {
		return err
	}
	if a.late == nil {
		a.late = err
	}
	return nil
}

func invalidService(svc *corev1.Service, err *field.Error) error {
	return apierrors.NewInvalid(resource.Service.GK(), svc.Name, field.ErrorList{err})
}

func (a *allocation) assignPorts(svc, old *corev1.Service) error {
	c := &portChoice{a: a, svc: svc, mine: map[int32]bool{}}
	if resource.MayHaveNodePorts(svc) {
		if err := c.assign(old); err != nil {
			return err
		}
	}
	if !resource.NeedsHealthPort(svc) || old != nil && resource.NeedsHealthPort(old) {
		return nil
	}
	if port := svc.Spec.HealthCheckNodePort; port != 0 {
		return c.take(port, func(err error) error {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate requested HealthCheck NodePort %d: %w", port, err))
		})
	}
	port, err := c.next()
	svc.Spec.HealthCheckNodePort = port
	return err
}

// portChoice is the choice of node ports for one write of a Service.
type portChoice struct {
	a    *allocation
	svc  *corev1.Service
	mine map[int32]bool // what this write has got so far
}

func (c *portChoice) assign(old *corev1.Service) error {
	if old == nil {
		return c.fill()
	}
	return c.change(old)
}

// fill gives a new Service's ports their node ports. The same port number for
// TCP and for UDP, as DNS has, gets the same node port.
func (c *portChoice) fill() error {
	chosen := map[int32]int32{}
	for i := range c.svc.Spec.Ports {
		p := &c.svc.Spec.Ports[i]
		have, ok := chosen[p.Port]
		var err error
		switch {
		case p.NodePort == 0 && !resource.NeedsNodePorts(c.svc):
			continue
		case ok && (p.NodePort == 0 || p.NodePort == have):
			p.NodePort = have
		case ok:
			err = c.wish(i, p.NodePort)
		default:
			if p.NodePort = wishedFor(p.Port, c.svc.Spec.Ports); p.NodePort != 0 {
				err = c.wish(i, p.NodePort)
			} else {
				p.NodePort, err = c.next()
			}
			chosen[p.Port] = p.NodePort
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wishedFor is the node port that a manifest names for this port number.
func wishedFor(port int32, ports []corev1.ServicePort) int32 {
	for _, p := range ports {
		if p.Port == port && p.NodePort != 0 {
			return p.NodePort
		}
	}
	return 0
}

// change gets what a changed Service has not got yet.
func (c *portChoice) change(old *corev1.Service) error {
	had := map[int32]bool{}
	for _, p := range old.Spec.Ports {
		had[p.NodePort] = true
	}
	type nodePort struct {
		protocol corev1.Protocol
		port     int32
	}
	seen := map[nodePort]bool{}
	for i := range c.svc.Spec.Ports {
		p := &c.svc.Spec.Ports[i]
		var err error
		switch {
		case p.NodePort == 0 && !resource.NeedsNodePorts(c.svc):
			continue
		case p.NodePort == 0:
			p.NodePort, err = c.next()
		case !had[p.NodePort] && !c.mine[p.NodePort]:
			err = c.wish(i, p.NodePort)
		}
		if err != nil {
			return err
		}
		key := nodePort{p.Protocol, p.NodePort}
		if seen[key] {
			return fmt.Errorf("duplicate nodePort: %v", key)
		}
		seen[key] = true
	}
	return nil
}

// wish takes the node port that the i-th port names.
func (c *portChoice) wish(i int, port int32) error {
	return c.take(port, func(err error) error {
		return invalidService(c.svc, field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), port, err.Error()))
	})
}

// take gets a port that the client wants; tell makes the answer of what is wrong.
func (c *portChoice) take(port int32, tell func(error) error) error {
	if c.mine[port] || c.a.isTaken(portKey(port)) {
		return tell(nodeport.ErrAllocated)
	}
	c.mine[port] = true
	if err := c.a.s.nodePorts.Check(int(port)); err != nil {
		return c.a.refuse(tell(err))
	}
	return nil
}

// next gets any free port.
func (c *portChoice) next() (int32, error) {
	port, err := c.a.s.nodePorts.Pick(func(p int) bool { return c.mine[int32(p)] || c.a.isTaken(portKey(int32(p))) })
	if err != nil {
		return 0, apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
	}
	c.mine[int32(port)] = true
	return int32(port), nil
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
