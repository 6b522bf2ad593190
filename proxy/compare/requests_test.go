//go:build kubeproxy

package compare

import (
	"encoding/json"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// do makes a change.
func (p *controlPlane) do(c change) {
	p.t.Helper()
	var err error
	if c.slice != nil {
		err = p.doSlice(c.verb, c.slice)
	} else {
		err = p.doService(c)
	}
	if err != nil {
		p.t.Fatalf("%v: %v", c, err)
	}
}

func (p *controlPlane) doSlice(verb string, slice *discoveryv1.EndpointSlice) error {
	ctx, client := p.t.Context(), p.client.DiscoveryV1().EndpointSlices(slice.Namespace)
	var err error
	switch verb {
	case "create":
		_, err = client.Create(ctx, slice, metav1.CreateOptions{})
	case "update":
		_, err = client.Update(ctx, slice, metav1.UpdateOptions{})
	case "delete":
		err = client.Delete(ctx, slice.Name, metav1.DeleteOptions{})
	}
	return err
}

func (p *controlPlane) doService(c change) error {
	ctx, client := p.t.Context(), p.client.CoreV1().Services(c.service.Namespace)
	var err error
	switch c.verb {
	case "create":
		_, err = client.Create(ctx, c.service, metav1.CreateOptions{})
	case "update":
		_, err = client.Update(ctx, c.service, metav1.UpdateOptions{})
	case "delete":
		err = client.Delete(ctx, c.service.Name, metav1.DeleteOptions{})
	case "status":
		var patch []byte
		if patch, err = json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": c.service.Status.LoadBalancer.Ingress}}}); err == nil {
			_, err = client.Patch(ctx, c.service.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
		}
	case "families":
		err = p.edit(c.service, func(s *corev1.Service) { setFamilies(s, c.service.Spec.ClusterIP, c.second) })
	}
	return err
}

// edit rewrites a Service in etcd, where nobody checks it.
func (p *controlPlane) edit(s *corev1.Service, change func(*corev1.Service)) error {
	ctx, key := p.t.Context(), "/registry/services/specs/"+s.Namespace+"/"+s.Name
	found, err := p.etcd.Get(ctx, key)
	if err != nil || len(found.Kvs) != 1 {
		return fmt.Errorf("get %s from etcd: %d found: %w", key, len(found.Kvs), err)
	}
	var stored corev1.Service
	if err := json.Unmarshal(found.Kvs[0].Value, &stored); err != nil {
		return fmt.Errorf("read %s of etcd: %w", key, err)
	}
	change(&stored)
	value, err := json.Marshal(&stored)
	if err != nil {
		return fmt.Errorf("write %s of etcd: %w", key, err)
	}
	written, err := p.etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", found.Kvs[0].ModRevision)).Then(clientv3.OpPut(key, string(value))).Commit()
	if err == nil && !written.Succeeded {
		return fmt.Errorf("put %s into etcd: somebody else has written it", key)
	}
	return err
}

// Marks say how far a proxy has come: an external IP of the Service compare/mark
// and an endpoint of its slices, of both families, which hold the step's number.
const markNamespace = "compare"

var (
	markIPs       = map[discoveryv1.AddressType]string{discoveryv1.AddressTypeIPv4: "198.18.%d.%d", discoveryv1.AddressTypeIPv6: "2001:db8:18:1%02x::1%02x"}
	markEndpoints = map[discoveryv1.AddressType]string{discoveryv1.AddressTypeIPv4: "198.19.%d.%d", discoveryv1.AddressTypeIPv6: "2001:db8:19:1%02x::1%02x"}
)

// marks are the texts which rules have that know all before the mark.
func marks(step int) []string {
	var all []string
	for _, of := range []map[discoveryv1.AddressType]string{markIPs, markEndpoints} {
		for _, address := range of {
			all = append(all, fmt.Sprintf(address, step/256, step%256))
		}
	}
	return all
}

// mark writes the marks of a step, with the first step also their objects.
func (p *controlPlane) mark(step int) {
	p.t.Helper()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: markNamespace, Name: "mark"}}
	service.Spec = corev1.ServiceSpec{ClusterIP: "10.97.255.1", Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}}}
	verb := "update"
	if step == 0 {
		verb = "create"
		p.do(change{verb: verb, service: service})
	}
	for kind, address := range markEndpoints {
		slice := &discoveryv1.EndpointSlice{AddressType: kind, Ports: []discoveryv1.EndpointPort{{Port: new(int32(80))}}}
		slice.Namespace, slice.Name = markNamespace, "mark-"+string(kind[len(kind)-1])
		slice.Labels = map[string]string{discoveryv1.LabelServiceName: service.Name}
		slice.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprintf(address, step/256, step%256)}}}
		p.do(change{verb: verb, slice: slice})
	}
	if err := p.edit(service, func(s *corev1.Service) {
		setFamilies(s, service.Spec.ClusterIP, dual)
		s.Spec.ExternalIPs = nil
		for _, address := range markIPs {
			s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, fmt.Sprintf(address, step/256, step%256))
		}
		slices.Sort(s.Spec.ExternalIPs)
	}); err != nil {
		p.t.Fatal(err)
	}
}
