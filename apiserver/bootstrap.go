package apiserver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/podarium/podarium/apiserver/auth"
	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/apiserver/store"
)

// bootstrap makes what every cluster has from the beginning, where it is
// missing: namespaces, roles, priorities, and the Service kubernetes.
func (s *Server) bootstrap(ctx context.Context) error {
	started := time.Now()
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		if err := s.ensure(ctx, resource.Namespace, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			return err
		}
	}
	objects, err := auth.Bootstrap()
	if err != nil {
		return err
	}
	for _, class := range systemPriorities() {
		objects = append(objects, auth.BootstrapObject{Kind: resource.PriorityClass, Object: class})
	}
	for _, gv := range append([]schema.GroupVersion{{Version: "v1"}}, s.groupVersions()...) {
		objects = append(objects, auth.BootstrapObject{Kind: resource.APIService, Object: resource.LocalAPIService(gv)})
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8) // etcd writes what comes together in one fsync
	for _, o := range objects {
		group.Go(func() error { return s.ensure(groupCtx, o.Kind, o.Object) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := s.ensureServiceCIDR(ctx); err != nil {
		return err
	}
	if err := s.repairClaims(ctx); err != nil {
		return err
	}
	if err := s.ensureKubernetesService(ctx); err != nil {
		return err
	}
	slog.Info("the cluster's first objects are there", "took", time.Since(started))
	return nil
}

// ensure creates an object unless there is one of its name. Another server may be
// about to do the same; of a Service it is then told that its address is taken, before
// it is told that it exists.
func (s *Server) ensure(ctx context.Context, kind *resource.Kind, obj resource.Object) error {
	key := kind.Key(obj.GetNamespace(), obj.GetName())
	if _, ok := s.store.Cached(key); ok {
		return nil
	}
	_, err := s.createObject(ctx, kind, obj, writeOptions{fieldManager: ownManager})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		if _, missing := s.store.Get(ctx, key); missing == nil {
			return nil
		}
		return fmt.Errorf("create %s %s: %w", kind.Singular, obj.GetName(), err)
	}
	return nil
}

func systemPriorities() []*schedulingv1.PriorityClass {
	return []*schedulingv1.PriorityClass{
		{
			ObjectMeta: metav1.ObjectMeta{Name: "system-node-critical"}, Value: 2000001000,
			Description: "Used for system critical pods that must not be moved from their current node.",
		},
		{
			ObjectMeta: metav1.ObjectMeta{Name: "system-cluster-critical"}, Value: 2000000000,
			Description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
		},
	}
}

// repairClaims brings the marks of taken addresses and ports in step with the
// Services. They are written together, so there is nothing to repair unless
// somebody wrote into etcd by hand.
func (s *Server) repairClaims(ctx context.Context) error {
	wanted := map[string]*corev1.Service{}
	for _, obj := range s.store.CachedList(resource.Service.Prefix, resource.Service.Prefix) {
		for _, key := range heldKeys(obj) {
			wanted[key] = obj.(*corev1.Service)
		}
	}
	for key, svc := range wanted {
		if _, ok := s.store.Cached(key); ok {
			continue
		}
		slog.Warn("Service holds an address or port that was not marked as taken", "key", key, "service", svc.Namespace+"/"+svc.Name)
		_, err := s.store.Modify(ctx, key, func(current store.Object) (store.Write, error) {
			return store.Write{Object: claimObject(key, svc), Unchanged: current != nil}, nil
		})
		if err != nil {
			return fmt.Errorf("mark %s as taken: %w", key, err)
		}
	}
	for _, prefix := range []string{resource.IPAddress.Prefix, resource.NodePort.Prefix} {
		for _, obj := range s.store.CachedList(prefix, prefix) {
			key := prefix + obj.GetName()
			if _, ok := wanted[key]; ok || !isClaim(obj) {
				continue
			}
			slog.Warn("address or port was marked as taken, but no Service has it", "key", key)
			if _, err := s.store.Modify(ctx, key, func(store.Object) (store.Write, error) { return store.Write{}, nil }); err != nil {
				return fmt.Errorf("release %s: %w", key, err)
			}
		}
	}
	return nil
}

// isClaim tells our own marks from IPAddress objects that people made.
func isClaim(obj resource.Object) bool {
	return obj.GetLabels()["ipaddress.kubernetes.io/managed-by"] == "ipallocator.k8s.io" || obj.GetAnnotations()[ownerAnnotation] != ""
}

const kubernetesService = "kubernetes"

// ensureKubernetesService makes the Service by which pods reach this server:
// the first address of the range, 10.96.0.1, port 443.
func (s *Server) ensureKubernetesService(ctx context.Context) error {
	policy := corev1.IPFamilyPolicySingleStack
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: kubernetesService, Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: s.serviceIPs.First().String(), IPFamilyPolicy: &policy,
			Ports: []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt(s.port())}},
		},
	}
	if err := s.ensure(ctx, resource.Service, svc); err != nil {
		return err
	}
	return s.publishEndpoints(ctx)
}

// port is where clients reach this server.
func (s *Server) port() int {
	if s.cfg.SecurePort == 0 {
		return 6443
	}
	return s.cfg.SecurePort
}

// address is --advertise-address with the port: "192.168.56.11:6443".
func (s *Server) address() string {
	return net.JoinHostPort(s.cfg.AdvertiseAddress.String(), strconv.Itoa(s.port()))
}

// publishEndpoints writes the servers' addresses into the Endpoints and the
// EndpointSlice of the Service kubernetes.
func (s *Server) publishEndpoints(ctx context.Context) error {
	addresses := s.liveServers()
	endpoints := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Name: kubernetesService, Namespace: metav1.NamespaceDefault, Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"}},
		Subsets:    []corev1.EndpointSubset{{Ports: []corev1.EndpointPort{{Name: "https", Port: int32(s.port()), Protocol: corev1.ProtocolTCP}}}},
	}
	name, protocol, port, ready := "https", corev1.ProtocolTCP, int32(s.port()), true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: kubernetesService, Namespace: metav1.NamespaceDefault, Labels: map[string]string{discoveryv1.LabelServiceName: kubernetesService}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &port}},
	}
	for _, ip := range addresses {
		endpoints.Subsets[0].Addresses = append(endpoints.Subsets[0].Addresses, corev1.EndpointAddress{IP: ip})
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	if err := s.put(ctx, resource.Endpoints, endpoints); err != nil {
		return err
	}
	return s.put(ctx, resource.EndpointSlice, slice)
}

// put creates the object, or makes the existing one equal to it.
func (s *Server) put(ctx context.Context, kind *resource.Kind, obj resource.Object) error {
	_, err := s.modify(ctx, kind, obj.GetNamespace(), obj.GetName(), "", writeOptions{fieldManager: ownManager}, func(current resource.Object) (resource.Object, error) {
		if current == nil {
			return nil, apierrors.NewNotFound(kind.GR(), obj.GetName())
		}
		return obj.DeepCopyObject().(resource.Object), nil
	})
	if apierrors.IsNotFound(err) {
		_, err = s.createObject(ctx, kind, obj, writeOptions{fieldManager: ownManager})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("write %s %s: %w", kind.Singular, obj.GetName(), err)
	}
	return nil
}

// With several API servers on one etcd, each keeps a key with its address that
// goes by itself when the server does; the endpoints are all addresses that
// are there.
const (
	serverTTL   = 15 * time.Second
	serverRenew = 10 * time.Second
)

func (s *Server) liveServers() []string {
	own := s.cfg.AdvertiseAddress.String()
	list := []string{own}
	for _, obj := range s.store.CachedList(resource.MasterLease.Prefix, resource.MasterLease.Prefix) {
		list = append(list, obj.GetName())
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// keepKubernetesService keeps the endpoints right until ctx is done: other
// servers come and go, and somebody may delete the objects.
func (s *Server) keepKubernetesService(ctx context.Context) {
	alone := len(s.cfg.EtcdServers) == 0
	for {
		if !alone {
			s.renewServer(ctx)
		}
		if err := s.ensureKubernetesService(ctx); err != nil && ctx.Err() == nil {
			slog.Warn("endpoints of the Service kubernetes are not kept", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(serverRenew):
		}
	}
}

func (s *Server) renewServer(ctx context.Context) {
	name := s.cfg.AdvertiseAddress.String()
	_, err := s.store.Modify(ctx, resource.MasterLease.Key("", name), func(store.Object) (store.Write, error) {
		mark := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name}}
		mark.SetGroupVersionKind(resource.MasterLease.GVK())
		return store.Write{Object: mark, TTL: serverTTL}, nil
	})
	if err != nil && ctx.Err() == nil {
		slog.Warn("this server's address is not renewed", "err", err)
	}
}
