package controllers

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// maxEndpoints is the most a slice holds. When one pod of a thousand changes, one slice of a hundred goes to
// every node, not a list of a thousand: that is why slices took the place of Endpoints.
const maxEndpoints = 100

// sliceSource is for whom slices are written: a Service, or Endpoints which somebody wrote by hand.
type sliceSource struct {
	namespace, name     string // of the Service
	labels, annotations map[string]string
	owner               metav1.OwnerReference
	families            []discoveryv1.AddressType // each keeps an empty slice when it has no endpoints
}

// sourceOf: slices carry the Service's own labels, its name, who manages them, and when it is headless a
// mark by which kube-proxy leaves them out.
func sourceOf(service *corev1.Service) sliceSource {
	labels := map[string]string{}
	maps.Copy(labels, service.Labels)
	delete(labels, corev1.IsHeadlessService)
	if service.Spec.ClusterIP == corev1.ClusterIPNone {
		labels[corev1.IsHeadlessService] = ""
	}
	labels[discoveryv1.LabelServiceName] = service.Name
	labels[discoveryv1.LabelManagedBy] = sliceManager
	return sliceSource{
		namespace: service.Namespace, name: service.Name, labels: labels, families: addressFamilies(service),
		owner: *metav1.NewControllerRef(service, corev1.SchemeGroupVersion.WithKind("Service")),
	}
}

// slicePlan is what has to be written.
type slicePlan struct {
	create, update, delete []*discoveryv1.EndpointSlice
}

// planSlices finds the fewest writes which turn the existing slices into the wanted ones. An endpoint stays
// in the slice in which it is; new ones go where there is room; a slice which has become empty is used for
// what would need a new one, or deleted. A Service without endpoints keeps one empty slice per family.
func planSlices(source sliceSource, wanted []endpointGroup, existing []*discoveryv1.EndpointSlice) slicePlan {
	slices.SortFunc(existing, func(a, b *discoveryv1.EndpointSlice) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, family := range source.families {
		if !slices.ContainsFunc(wanted, func(g endpointGroup) bool { return g.family == family }) {
			wanted = append(slices.Clip(wanted), endpointGroup{family: family})
		}
	}
	var plan slicePlan
	used := map[types.UID]bool{}
	for _, group := range wanted {
		var same []*discoveryv1.EndpointSlice
		for _, slice := range existing {
			if slice.AddressType == group.family && samePorts(slice.Ports, group.ports) {
				same = append(same, slice)
			}
		}
		part := planGroup(source, group, same)
		for _, slice := range part.keep {
			used[slice.UID] = true
		}
		plan.update = append(plan.update, part.update...)
		plan.create = append(plan.create, part.create...)
	}
	for _, slice := range existing {
		if !used[slice.UID] {
			plan.delete = append(plan.delete, slice)
		}
	}
	plan.reuse()
	return plan
}

// reuse turns a deletion and a creation into one update: half the writes, and no moment without slice.
func (p *slicePlan) reuse() {
	var create []*discoveryv1.EndpointSlice
	for _, fresh := range p.create {
		i := slices.IndexFunc(p.delete, func(old *discoveryv1.EndpointSlice) bool { return old.AddressType == fresh.AddressType })
		if i < 0 {
			create = append(create, fresh)
			continue
		}
		fresh.ObjectMeta, fresh.GenerateName = mergeMeta(p.delete[i], fresh), p.delete[i].GenerateName
		p.update = append(p.update, fresh)
		p.delete = slices.Delete(p.delete, i, i+1)
	}
	p.create = create
}

func mergeMeta(old, fresh *discoveryv1.EndpointSlice) metav1.ObjectMeta {
	meta := *old.ObjectMeta.DeepCopy()
	meta.Labels, meta.Annotations, meta.OwnerReferences = fresh.Labels, fresh.Annotations, fresh.OwnerReferences
	return meta
}

// groupPlan is the plan for one group; keep are all existing slices which go on.
type groupPlan struct {
	keep, update, create []*discoveryv1.EndpointSlice
}

func planGroup(source sliceSource, group endpointGroup, existing []*discoveryv1.EndpointSlice) groupPlan {
	fresh := map[types.UID]discoveryv1.Endpoint{}
	for _, endpoint := range group.endpoints {
		fresh[endpointID(endpoint)] = endpoint
	}
	// First every existing slice keeps those of its endpoints which are still wanted.
	contents := make([][]discoveryv1.Endpoint, len(existing))
	changed := make([]bool, len(existing))
	for i, slice := range existing {
		for _, old := range slice.Endpoints {
			now, ok := fresh[endpointID(old)]
			if !ok {
				changed[i] = true
				continue
			}
			delete(fresh, endpointID(old))
			contents[i] = append(contents[i], now)
			changed[i] = changed[i] || !equality.Semantic.DeepEqual(old, now)
		}
		changed[i] = changed[i] || !source.sameMeta(slice)
	}
	// Then the new ones are put where there is room: first where a write is needed anyway.
	left := slices.DeleteFunc(slices.Clone(group.endpoints), func(e discoveryv1.Endpoint) bool { _, ok := fresh[endpointID(e)]; return !ok })
	for _, written := range []bool{true, false} {
		for i := range existing {
			if n := min(maxEndpoints-len(contents[i]), len(left)); changed[i] == written && n > 0 {
				contents[i] = append(contents[i], left[:n]...)
				left = left[n:]
				changed[i] = true
			}
		}
	}
	return collect(source, group, existing, contents, changed, left)
}

func collect(source sliceSource, group endpointGroup, existing []*discoveryv1.EndpointSlice, contents [][]discoveryv1.Endpoint, changed []bool, left []discoveryv1.Endpoint) groupPlan {
	var plan groupPlan
	for i, slice := range existing {
		empty := len(contents[i]) == 0
		if empty && (len(group.endpoints) > 0 || len(plan.keep) > 0) {
			continue // not kept
		}
		plan.keep = append(plan.keep, slice)
		if changed[i] {
			copied := slice.DeepCopy()
			copied.Endpoints, copied.Labels, copied.Annotations = contents[i], maps.Clone(source.labels), maps.Clone(source.annotations)
			plan.update = append(plan.update, copied)
		}
	}
	if len(group.endpoints) == 0 && len(plan.keep) == 0 {
		plan.create = append(plan.create, newSlice(source, group, nil))
	}
	for chunk := range slices.Chunk(left, maxEndpoints) {
		plan.create = append(plan.create, newSlice(source, group, chunk))
	}
	return plan
}

func newSlice(source sliceSource, group endpointGroup, endpoints []discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: source.namespace, GenerateName: source.name + "-", OwnerReferences: []metav1.OwnerReference{source.owner},
			Labels: maps.Clone(source.labels), Annotations: maps.Clone(source.annotations),
		},
		AddressType: group.family, Ports: group.ports, Endpoints: slices.Clone(endpoints),
	}
}

// sameMeta compares labels and annotations, but for the time of the last change, which is not the source's.
func (s sliceSource) sameMeta(slice *discoveryv1.EndpointSlice) bool {
	annotations := maps.Clone(slice.Annotations)
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	return maps.Equal(s.labels, slice.Labels) && maps.Equal(s.annotations, annotations)
}
