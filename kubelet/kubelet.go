package kubelet

import (
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/kubelet/eviction"
	"github.com/podarium/podarium/kubelet/image"
	"github.com/podarium/podarium/kubelet/runtime"
)

// Config is what a kubelet has to know. All fields are needed unless they say otherwise.
type Config struct {
	Client   kubernetes.Interface
	NodeName string
	// NodeIPs are the node's addresses, one per family; the first is status.hostIP of its pods.
	NodeIPs    []string
	NodeLabels map[string]string // beside the standard ones; may be nil
	Taints     []corev1.Taint    // with which the node registers; may be nil

	RootDir    string // /var/lib/kubelet: pods, containers, all state
	LogDir     string // /var/log/pods
	ImageRoot  string // /var/lib/podarium/images
	ShimPath   string // the program podarium-shim
	CgroupRoot string // control group below which /kubepods is made; may be empty

	ClusterDNS    []string // 10.96.0.10; may be empty
	ClusterDomain string   // cluster.local
	ResolvConf    string   // the node's own /etc/resolv.conf

	CNIConfDir  string // /etc/cni/net.d
	CNIBinDir   string // /opt/cni/bin
	CNICacheDir string // /var/lib/cni

	// StaticPodPath is a directory of manifests of pods which run without an API server; may be empty.
	StaticPodPath string

	// ParallelStarts is how many sandboxes and containers may start at once; 0 is one per processor.
	ParallelStarts int
	MaxPods        int  // how many pods the node takes; 110 when zero
	SeccompDefault bool // a container without a profile gets the default one instead of none
	// AllowedUnsafeSysctls are settings which pods may have beside the safe ones; see CheckUnsafeSysctls.
	AllowedUnsafeSysctls []string
	// Logs bound what a container's log takes on disk.
	Logs runtime.LogLimits

	// ImageGC says when images are removed which no container uses.
	ImageGC ImageGCPolicy
	// Eviction says when pods have to go because the node is short of something; the zero value: never.
	Eviction eviction.Policy

	// ImagePullProxy is a unix socket on which an HTTP proxy listens; empty pulls directly.
	ImagePullProxy string

	Address      string // on which the kubelet's own API listens; empty is every address
	Port         int    // 10250
	ClientCAFile string // whose certificates are let in
	// TLSCertFile and TLSKeyFile are the server's certificate.
	TLSCertFile, TLSKeyFile string
	// LeaseDuration is how long a heartbeat holds; 40 s when zero. A quarter of it is the interval.
	LeaseDuration time.Duration
}

// Kubelet is the agent of one node.
type Kubelet struct {
	cfg           Config
	ctx           context.Context
	client        kubernetes.Interface
	runtime       *runtime.Runtime
	images        *image.Store
	network       *podNetwork
	static        *staticPods
	objects       *objects
	tokens        *tokens
	recorder      record.EventRecorder
	services      cache.Store
	servicesKnown chan struct{} // closed when services holds all of them
	podsKnown     chan struct{} // closed when all pods of the node have been seen
	node          *node
	allocatable   corev1.ResourceList
	started       time.Time
	starts        *gate // lets few sandboxes and containers start at once
	counts        *counts
	pressure      *pressure

	mu      sync.Mutex
	workers map[types.UID]*worker
	found   map[types.UID]*leftover // on disk, not yet known from the API
}

// Run is a kubelet: it returns when ctx ends, or when it cannot go on. The node's containers run on.
func Run(ctx context.Context, cfg Config) error {
	k, err := newKubelet(ctx, cfg)
	if err != nil {
		return err
	}
	node, err := k.newNode(ctx)
	if err != nil {
		return err
	}
	k.node, k.allocatable = node, node.allocatable()
	k.pressure.look() // before the first report of the node, and the first pod
	if err := awaitLeftPlugins(ctx, cfg.CNIBinDir); err != nil {
		return err
	}
	if err := k.recover(ctx); err != nil {
		return err
	}
	k.static.owner = node.owner
	k.static.sync() // before what is on disk and in no manifest counts as left over
	failed := make(chan error, 1)
	var parts sync.WaitGroup
	parts.Go(func() { // logs, exec, port-forward
		if err := k.serve(ctx); err != nil {
			failed <- err
		}
	})
	parts.Go(func() { k.static.run(ctx) })    // manifests on this node → workers, and mirror pods
	parts.Go(func() { k.collectImages(ctx) }) // unused images go when the disk is full
	parts.Go(func() { k.pressure.run(ctx) })  // pods go when the node is short of something
	parts.Go(func() {
		if err := kube.WaitReady(ctx, k.client); err != nil {
			return // ctx has ended
		}
		parts.Go(func() { node.run(ctx) })          // the Node object and its status
		parts.Go(func() { k.heartbeat(ctx, node) }) // the Lease
		parts.Go(func() { k.watchServices(ctx) })   // Services → environment variables
		parts.Go(func() { k.watchPods(ctx) })       // pods of this node → workers
	})
	defer parts.Wait()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func newKubelet(ctx context.Context, cfg Config) (*Kubelet, error) {
	if err := cfg.makeDirs(); err != nil {
		return nil, err
	}
	containers, err := runtime.New(cfg.RootDir, cfg.runDir(), cfg.ShimPath, cfg.Logs)
	if err != nil {
		return nil, err
	}
	images, err := image.Open(cfg.ImageRoot)
	if err != nil {
		return nil, err
	}
	k := &Kubelet{
		cfg: cfg, ctx: ctx, client: cfg.Client, runtime: containers, images: images,
		network: newPodNetwork(cfg.CNIConfDir, cfg.CNIBinDir, cfg.CNICacheDir),
		objects: newObjects(ctx, cfg.Client), tokens: newTokens(cfg.Client),
		servicesKnown: make(chan struct{}), podsKnown: make(chan struct{}),
		started: time.Now(), starts: newGate(cmp.Or(cfg.ParallelStarts, goruntime.NumCPU())),
		workers: map[types.UID]*worker{}, found: map[types.UID]*leftover{},
	}
	k.counts = newCounts(cfg.NodeName, k.running)
	k.recorder = newRecorder(ctx, cfg.Client, cfg.NodeName, k.starts)
	k.static = newStaticPods(k, cfg.StaticPodPath)
	k.pressure = newPressure(k)
	return k, nil
}

// watchPods turns the watch on this node's pods into workers.
func (k *Kubelet) watchPods(ctx context.Context) {
	_, pods := k.informer("pods", fields.OneTermEqualSelector("spec.nodeName", k.cfg.NodeName), &corev1.Pod{},
		cache.ResourceEventHandlerFuncs{
			AddFunc:    func(object any) { k.changed(object.(*corev1.Pod)) },
			UpdateFunc: func(_, object any) { k.changed(object.(*corev1.Pod)) },
			DeleteFunc: func(object any) { k.deleted(object) },
		})
	go func() {
		if cache.WaitForCacheSync(ctx.Done(), pods.HasSynced) {
			close(k.podsKnown)
			k.static.poke()
			k.removeLeftovers(ctx)
		}
	}()
	pods.RunWithContext(ctx)
}

// watchServices keeps the Services, which a container's environment names. No container starts before
// all of them are known.
func (k *Kubelet) watchServices(ctx context.Context) {
	store, services := k.informer("services", fields.Everything(), &corev1.Service{}, cache.ResourceEventHandlerFuncs{})
	k.services = store
	go services.RunWithContext(ctx)
	if cache.WaitForCacheSync(ctx.Done(), services.HasSynced) {
		close(k.servicesKnown)
	}
}

func (k *Kubelet) informer(resource string, selector fields.Selector, kind objectKind, handler cache.ResourceEventHandler) (cache.Store, cache.Controller) {
	source := cache.NewListWatchFromClient(k.client.CoreV1().RESTClient().(*rest.RESTClient), resource, corev1.NamespaceAll, selector)
	return cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(source, k.client),
		ObjectType:    kind, Transform: dropManagedFields, Handler: handler,
	})
}

// serviceList waits for the first list, which comes a moment after the start of the kubelet. A static
// pod does not wait: the API server may never come.
func (k *Kubelet) serviceList(ctx context.Context, wait bool) []*corev1.Service {
	select {
	case <-k.servicesKnown:
	default:
		if !wait {
			return nil
		}
		select {
		case <-k.servicesKnown:
		case <-ctx.Done():
			return nil
		}
	}
	var services []*corev1.Service
	for _, object := range k.services.List() {
		services = append(services, object.(*corev1.Service))
	}
	return services
}

// heard tells whether the API server has told all pods of this node.
func (k *Kubelet) heard() bool {
	select {
	case <-k.podsKnown:
		return true
	default:
		return false
	}
}

// changed hands a pod to its worker; a pod seen for the first time gets one.
func (k *Kubelet) changed(pod *corev1.Pod) {
	if isMirror(pod) {
		k.static.observe(pod, false)
		return
	}
	k.mu.Lock()
	w, ok := k.workers[pod.UID]
	k.mu.Unlock()
	if ok {
		w.update(pod)
		return
	}
	slog.Info("Pod is assigned to this node", "pod", podName(pod))
	k.begin(pod, false)
}

// begin gives a pod its worker, which goes on with what an earlier kubelet left of it.
func (k *Kubelet) begin(pod *corev1.Pod, static bool) *worker {
	w := newWorker(k, pod)
	w.static = static
	k.mu.Lock()
	found := k.found[pod.UID]
	delete(k.found, pod.UID)
	refused := k.refuse(pod, static, found == nil && pod.Status.StartTime == nil)
	w.failure = cmp.Or(refused, toldFailure(pod))
	k.workers[pod.UID] = w
	k.mu.Unlock()
	if refused != nil {
		slog.Info("Pod is rejected", "pod", podName(pod), "reason", refused.reason, "message", refused.message)
		k.event(pod, "", corev1.EventTypeWarning, refused.reason, strings.TrimPrefix(refused.message, rejected))
	}
	if found != nil {
		w.adopt(found)
	}
	if pod.DeletionTimestamp != nil {
		w.endAlive()
	}
	go w.run()
	return w
}

func (k *Kubelet) deleted(object any) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	if isMirror(pod) {
		k.static.observe(pod, true)
		return
	}
	k.mu.Lock()
	w := k.workers[pod.UID]
	k.mu.Unlock()
	if w != nil {
		w.removed()
	}
}

func (k *Kubelet) forget(uid types.UID) {
	k.mu.Lock()
	delete(k.workers, uid)
	k.mu.Unlock()
	k.counts.forget(uid)
	k.static.poke() // a changed static pod waits for the end of the old one
}

func (k *Kubelet) has(uid types.UID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.workers[uid] != nil
}

// worker finds a pod by its name for the kubelet's own API.
func (k *Kubelet) worker(namespace, name string) *worker {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.workers {
		w.mu.Lock()
		match := w.pod.Namespace == namespace && w.pod.Name == name && !w.finished
		w.mu.Unlock()
		if match {
			return w
		}
	}
	return nil
}

func (k *Kubelet) podDirs(uid string) podDirs {
	return podDirs{filepath.Join(k.cfg.RootDir, "pods", uid), filepath.Join(k.cfg.runDir(), "pods", uid)}
}

// logDir is where the logs of a pod's containers stand: /var/log/pods/NAMESPACE_NAME_UID.
func (k *Kubelet) logDir(pod *corev1.Pod) string {
	return filepath.Join(k.cfg.LogDir, pod.Namespace+"_"+pod.Name+"_"+string(pod.UID))
}

func (k *Kubelet) memoryCapacity() int64 {
	memory := k.allocatable[corev1.ResourceMemory]
	return memory.Value()
}
