package dns

import (
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// cluster is what is known of Services and their endpoints. A change of either
// computes the records of that one Service anew.
type cluster struct {
	index   *index
	observe func(seconds float64) // from an endpoint's change to its answer

	mu        sync.Mutex
	services  map[key]*service
	slices    map[key]*slice   // by their own names
	byService map[key][]*slice // by the Services they belong to
	listed    bool             // before the first full lists nothing is computed
}

func newCluster(x *index) *cluster {
	return &cluster{
		index: x, observe: func(float64) {},
		services: map[key]*service{}, slices: map[key]*slice{}, byService: map[key][]*slice{},
	}
}

// complete is called after the first full lists: it computes everything, and
// from then on each change is computed as it comes. It returns the number of
// Services.
func (c *cluster) complete() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listed = true
	for k := range c.services {
		c.update(k)
	}
	return len(c.services)
}

// update computes one Service; c.mu is held.
func (c *cluster) update(k key) {
	svc, ok := c.services[k]
	switch {
	case !c.listed:
	case !ok:
		c.index.set(k, nil)
	default:
		c.index.set(k, compute(svc, c.byService[k]))
	}
}

func (c *cluster) putService(object any) {
	svc := object.(*corev1.Service)
	c.mu.Lock()
	defer c.mu.Unlock()
	k := key{svc.Namespace, svc.Name}
	c.services[k] = readService(svc)
	c.update(k)
}

func (c *cluster) removeService(object any) {
	svc := object.(*corev1.Service)
	c.dropService(key{svc.Namespace, svc.Name})
}

func (c *cluster) dropService(k key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.services, k)
	c.update(k)
}

func (c *cluster) putSlice(object any) {
	es := object.(*discoveryv1.EndpointSlice)
	c.mu.Lock()
	defer c.mu.Unlock()
	own, now := key{es.Namespace, es.Name}, readSlice(es)
	before := c.slices[own]
	c.forget(own, before)
	if now.service.name != "" { // else it belongs to no Service
		c.slices[own] = now
		c.byService[now.service] = append(c.byService[now.service], now)
		c.update(now.service)
	}
	if before != nil && before.service != now.service {
		c.update(before.service)
	}
	svc := c.services[now.service]
	if began, err := time.Parse(time.RFC3339Nano, es.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil && c.listed && svc != nil && svc.headless {
		c.observe(time.Since(began).Seconds())
	}
}

// forget takes a slice out; its Service is not computed yet. c.mu is held.
func (c *cluster) forget(own key, before *slice) {
	if before == nil {
		return
	}
	delete(c.slices, own)
	others := slices.DeleteFunc(slices.Clone(c.byService[before.service]), func(s *slice) bool { return s == before })
	if len(others) == 0 {
		delete(c.byService, before.service)
	} else {
		c.byService[before.service] = others
	}
}

func (c *cluster) removeSlice(object any) {
	es := object.(*discoveryv1.EndpointSlice)
	c.dropSlice(key{es.Namespace, es.Name})
}

func (c *cluster) dropSlice(own key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before := c.slices[own]; before != nil {
		c.forget(own, before)
		c.update(before.service)
	}
}

func (c *cluster) putNamespace(object any) {
	c.index.setNamespace(object.(*corev1.Namespace).Name, true)
}

func (c *cluster) removeNamespace(object any) {
	c.index.setNamespace(object.(*corev1.Namespace).Name, false)
}

// replaceServices takes a full list: at the start, and when a watch was lost
// for so long that deletions went unseen.
func (c *cluster) replaceServices(objects []any) {
	there := map[key]bool{}
	for i, object := range objects {
		svc := object.(*corev1.Service)
		there[key{svc.Namespace, svc.Name}] = true
		c.putService(svc)
		objects[i] = nil // it is ours, and large
	}
	for _, k := range gone(c, c.services, there) {
		c.dropService(k)
	}
}

func (c *cluster) replaceSlices(objects []any) {
	there := map[key]bool{}
	for i, object := range objects {
		es := object.(*discoveryv1.EndpointSlice)
		there[key{es.Namespace, es.Name}] = true
		c.putSlice(es)
		objects[i] = nil
	}
	for _, k := range gone(c, c.slices, there) {
		c.dropSlice(k)
	}
}

func (c *cluster) replaceNamespaces(objects []any) {
	there := map[string]bool{}
	for _, object := range objects {
		there[object.(*corev1.Namespace).Name] = true
		c.putNamespace(object)
	}
	c.index.namespaces.Range(func(name, _ any) bool {
		if !there[name.(string)] {
			c.index.setNamespace(name.(string), false)
		}
		return true
	})
}

// gone are the keys of what is known and is not there any more.
func gone[V any](c *cluster, known map[key]V, there map[key]bool) []key {
	c.mu.Lock()
	defer c.mu.Unlock()
	var keys []key
	for k := range known {
		if !there[k] {
			keys = append(keys, k)
		}
	}
	return keys
}
