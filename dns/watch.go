package dns

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/podarium/podarium/internal/kube"
)

// watch keeps the index equal to the cluster until ctx is done. When the API
// server is gone, what was heard last stays; when it is back, what has changed
// meanwhile is made up for. client-go's Reflector does the listing and
// watching; what it hears goes into a cluster and not into an informer's
// cache, which would keep whole objects.
func (s *Server) watch(ctx context.Context, client kubernetes.Interface) error {
	if err := kube.WaitReady(ctx, client); err != nil {
		return nil // asked to end before there was an API server
	}
	c := newCluster(s.index)
	c.observe = s.metrics.programming.Observe
	core, discovery := client.CoreV1().RESTClient(), client.DiscoveryV1().RESTClient()
	feeds := []*feed{
		newFeed(core, "services", &corev1.Service{}, c.putService, c.removeService, c.replaceServices),
		newFeed(discovery, "endpointslices", &discoveryv1.EndpointSlice{}, c.putSlice, c.removeSlice, c.replaceSlices),
		newFeed(core, "namespaces", &corev1.Namespace{}, c.putNamespace, c.removeNamespace, c.replaceNamespaces),
	}
	if s.completion != nil {
		pods := podStore{s.completion}
		feeds = append(feeds, newFeed(core, "pods", &corev1.Pod{}, pods.put, pods.remove, pods.replace))
	}
	var running sync.WaitGroup
	defer running.Wait()
	for _, f := range feeds {
		running.Go(func() { f.reflector.RunWithContext(ctx) })
	}
	for _, f := range feeds {
		select {
		case <-ctx.Done():
			return nil
		case <-f.listed:
		}
	}
	slog.Info("ready", "services", c.complete())
	s.synced.Store(true)
	debug.FreeOSMemory() // the first lists were many times what is kept of them
	<-ctx.Done()
	return nil
}

// feed is what a Reflector fills: it passes each object on and keeps none.
type feed struct {
	reflector   *cache.Reflector
	put, remove func(object any)
	replace     func(objects []any)
	listed      chan struct{} // closed after the first full list
	once        sync.Once
}

// retry: how long until a lost API server is tried again. client-go's default
// ends at 30 s, for thousands of nodes; a change must not wait so long here.
var retry = wait.Backoff{Duration: 50 * time.Millisecond, Factor: 1.5, Steps: 10, Cap: time.Second, Jitter: 0.2}

func newFeed(client rest.Interface, resource string, kind runtime.Object, put, remove func(any), replace func([]any)) *feed {
	f := &feed{put: put, remove: remove, replace: replace, listed: make(chan struct{})}
	source := cache.NewListWatchFromClient(client, resource, metav1.NamespaceAll, fields.Everything())
	backoff := retry
	f.reflector = cache.NewReflectorWithOptions(source, kind, f, cache.ReflectorOptions{Name: resource, Backoff: &backoff})
	return f
}

// Add, Update, Delete, Replace and Resync are what a Reflector calls.
func (f *feed) Add(object any) error {
	f.put(object)
	return nil
}

// Update is Add.
func (f *feed) Update(object any) error { return f.Add(object) }

// Delete passes a deleted object on, as it was last.
func (f *feed) Delete(object any) error {
	f.remove(object)
	return nil
}

// Replace passes on a list: all there is, now.
func (f *feed) Replace(objects []any, _ string) error {
	f.replace(objects)
	f.once.Do(func() { close(f.listed) })
	return nil
}

// Resync has nothing to do.
func (f *feed) Resync() error { return nil }

// Transformer drops what no answer needs while a list is still coming in.
func (f *feed) Transformer() cache.TransformFunc { return trim }

func trim(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
		accessor.SetOwnerReferences(nil)
		annotations := accessor.GetAnnotations()
		if trigger, ok := annotations[corev1.EndpointsLastChangeTriggerTime]; ok {
			accessor.SetAnnotations(map[string]string{corev1.EndpointsLastChangeTriggerTime: trigger})
		} else {
			accessor.SetAnnotations(nil)
		}
	}
	return object, nil
}
