package proxy

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
)

// kind is a kind of object that is watched, and what happens with one in the
// loop of each proxier.
type kind struct {
	resource string
	example  runtime.Object
	from     cache.Getter
	only     fields.Selector
	set, del func(p *proxier, object any)
	// keep forgets all but those which a list has just named: the others have gone
	// while nobody watched.
	keep   func(p *proxier, listed map[identity]bool)
	counts *changes // nil: not counted
}

func kinds(cfg Config, health *health, metrics *metrics) []kind {
	core, discovery := cfg.Client.CoreV1().RESTClient(), cfg.Client.DiscoveryV1().RESTClient()
	return []kind{
		{
			resource: "services", example: &corev1.Service{}, from: core, only: fields.Everything(),
			set:    func(p *proxier, o any) { p.setService(o.(*service)) },
			del:    func(p *proxier, o any) { p.deleteService(o.(*service).id()) },
			keep:   (*proxier).keepServices,
			counts: &metrics.services,
		},
		{
			resource: "endpointslices", example: &discoveryv1.EndpointSlice{}, from: discovery, only: fields.Everything(),
			set:    func(p *proxier, o any) { p.setSlice(o.(*endpointSlice)) },
			del:    func(p *proxier, o any) { p.model.deleteSlice(o.(*endpointSlice).owner(), o.(*endpointSlice).name) },
			keep:   (*proxier).keepSlices,
			counts: &metrics.endpoints,
		},
		{
			resource: "nodes", example: &corev1.Node{}, from: core, only: fields.OneTermEqualSelector("metadata.name", cfg.Node),
			set: func(p *proxier, o any) {
				health.setNode(o.(*corev1.Node))
				p.model.SetZone(o.(*corev1.Node).Labels[corev1.LabelTopologyZone])
			},
			del: func(*proxier, any) { health.setNode(nil) },
			keep: func(_ *proxier, listed map[identity]bool) {
				if len(listed) == 0 {
					health.setNode(nil)
				}
			},
		},
	}
}

// startWatch begins to watch. When all that existed has been handed over, each
// proxier is told so, behind all those events: its first sync must not see half
// a cluster, or it would take away rules which are right.
func startWatch(ctx context.Context, cfg Config, proxiers []*proxier, health *health, metrics *metrics) {
	var feeds []*feed
	for _, k := range kinds(cfg, health, metrics) {
		f := &feed{ctx: ctx, kind: k, read: reader(cfg.Node), proxiers: proxiers, listed: make(chan struct{})}
		watch := cache.NewListWatchFromClient(k.from, k.resource, metav1.NamespaceAll, k.only)
		go cache.NewReflectorWithOptions(watch, k.example, f, cache.ReflectorOptions{Name: k.resource}).RunWithContext(ctx)
		feeds = append(feeds, f)
	}
	go func() {
		for _, f := range feeds {
			select {
			case <-f.listed:
			case <-ctx.Done():
				return
			}
		}
		for _, p := range proxiers {
			p.send(ctx, change{apply: func() { p.seenAll = true }})
		}
	}()
}

// feed is where a reflector puts what it sees of one kind of object. It keeps
// nothing: the models are the only copy there is, while an informer would have
// one more, with an index, which at 5000 Services is 2 MB.
type feed struct {
	kind
	ctx      context.Context // of the watch
	read     cache.TransformFunc
	proxiers []*proxier
	listed   chan struct{} // closed with the first list
}

// Transformer lets the reflector read each object when it comes, and keep only
// what is left of it until the list is whole.
func (f *feed) Transformer() cache.TransformFunc { return f.read }

// Add is cache.ReflectorStore, as are all that follow.
func (f *feed) Add(object any) error { return f.one(object, f.set) }

// Update is an object that has changed.
func (f *feed) Update(object any) error { return f.one(object, f.set) }

// Delete is an object as it was at last.
func (f *feed) Delete(object any) error { return f.one(object, f.del) }

// Resync is never asked for.
func (f *feed) Resync() error { return nil }

// Replace is a list: the first, or one after the watch was interrupted for so
// long that it could not go on.
func (f *feed) Replace(objects []any, _ string) error {
	listed := make(map[identity]bool, len(objects))
	for i, object := range objects {
		record, err := f.read(object)
		if err != nil {
			return err
		}
		objects[i] = record
		listed[identityOf(record.(metav1.ObjectMetaAccessor).GetObjectMeta())] = true
	}
	f.tell(len(objects), func(p *proxier) {
		f.keep(p, listed)
		for _, object := range objects {
			f.set(p, object)
		}
	})
	select {
	case <-f.listed: // not the first
	default:
		close(f.listed)
	}
	return nil
}

func (f *feed) one(object any, event func(*proxier, any)) error {
	record, err := f.read(object)
	if err == nil {
		f.tell(1, func(p *proxier) { event(p, record) })
	}
	return err
}

// tell sends all proxiers a change of so many objects.
func (f *feed) tell(count int, apply func(*proxier)) {
	if f.counts != nil {
		f.counts.total.Add(float64(count))
	}
	for _, p := range f.proxiers {
		p.send(f.ctx, change{f.counts, count, func() { apply(p) }})
	}
}

func (p *proxier) keepServices(listed map[identity]bool) {
	for name, of := range p.model.services {
		if len(of.ports) > 0 && !listed[identity{name.Namespace, name.Name}] {
			p.deleteService(name)
		}
	}
}

func (p *proxier) keepSlices(listed map[identity]bool) {
	for owner, of := range p.model.services {
		for _, slice := range slices.Clone(of.slices) {
			if !listed[identity{owner.Namespace, slice.name}] {
				p.model.deleteSlice(owner, slice.name)
			}
		}
	}
}
