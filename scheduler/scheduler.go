package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/leader"
)

// Config says for which cluster nodes are chosen.
type Config struct {
	API           *rest.Config
	LeaderElect   bool
	Identity      string // in the lease: the host name
	HealthAddress string // host:port of /healthz; empty for none
}

// Run gives pods their nodes until ctx is done.
func Run(ctx context.Context, cfg Config) error {
	component := leader.Component{
		Name: "kube-scheduler", API: cfg.API, Elect: cfg.LeaderElect, Identity: cfg.Identity, HealthAddress: cfg.HealthAddress,
	}
	return component.Run(ctx, schedule)
}

// scheduler is the loop with what it works on.
type scheduler struct {
	client kubernetes.Interface
	events record.EventRecorder
	state  *state
	queue  *podQueue
}

func schedule(ctx context.Context, client kubernetes.Interface) error {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	defer broadcaster.Shutdown()
	s := &scheduler{
		client: client, state: newState(), queue: newPodQueue(),
		events: broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: corev1.DefaultSchedulerName}),
	}
	began := time.Now()
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim))
	s.follow(factory)
	factory.StartWithContext(ctx)
	if result := factory.WaitForCacheSyncWithContext(ctx); result.Err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("fill caches: %w", result.AsError())
	}
	slog.Info("scheduler runs", "caches filled in", time.Since(began).Round(time.Millisecond))
	for {
		pod := s.queue.next(ctx)
		if pod == nil {
			return nil // the process ends, and the watches with it
		}
		s.place(ctx, pod)
	}
}

// place decides about one pod.
func (s *scheduler) place(ctx context.Context, pod *corev1.Pod) {
	pod = s.state.withNomination(pod)
	snapshot := s.state.snapshot()
	feasible, why := Feasible(pod, snapshot)
	if len(feasible) == 0 {
		s.preempt(ctx, pod, snapshot, why)
		return
	}
	node := choose(pod, feasible, snapshot)
	slog.Debug("chose node", "pod", pod.Namespace+"/"+pod.Name, "node", node, "feasible", len(feasible), "of", len(snapshot.Nodes))
	assumed := pod.DeepCopy()
	assumed.Spec.NodeName = node
	s.state.setPod(assumed)
	go s.bind(ctx, pod, assumed) // the next pod need not wait for the answer
}

// choose takes the node where others have made room for the pod, if it fits there now, else the best.
func choose(pod *corev1.Pod, feasible []*NodeInfo, snapshot *Snapshot) string {
	for _, node := range feasible {
		if node.Node.Name == pod.Status.NominatedNodeName {
			return node.Node.Name
		}
	}
	return Best(pod, feasible, snapshot).Node.Name
}

// follow keeps state and queue up to date with the cluster.
func (s *scheduler) follow(factory informers.SharedInformerFactory) {
	core := factory.Core().V1()
	kube.OnChange(core.Pods().Informer(), s.podChanged)
	kube.OnChange(core.Nodes().Informer(), s.nodeChanged)
	kube.OnChange(core.Services().Informer(), func(was, is *corev1.Service) {
		if is == nil {
			s.state.removeService(was)
			return
		}
		s.state.setService(is)
	})
	kube.OnChange(factory.Policy().V1().PodDisruptionBudgets().Informer(), func(was, is *policyv1.PodDisruptionBudget) {
		if is == nil {
			s.state.removeBudget(was)
			return
		}
		s.state.setBudget(is)
	})
	kube.OnChange(core.Namespaces().Informer(), func(was, is *corev1.Namespace) {
		if is == nil {
			return
		}
		s.state.setNamespace(is)
		if was != nil && !maps.Equal(was.Labels, is.Labels) {
			s.queue.clusterChanged(podArrived) // affinity may select by labels of namespaces
		}
	})
}

func (s *scheduler) podChanged(was, is *corev1.Pod) {
	switch {
	case is == nil || finished(is):
		pod := was
		if is != nil {
			pod = is
		}
		s.queue.remove(pod.UID)
		s.unnominate(pod)
		if s.state.placed(pod.UID) {
			s.state.removePod(pod)
			s.queue.clusterChanged(podLeft)
		}
	case is.Spec.NodeName != "":
		s.queue.remove(is.UID)
		s.state.setPod(is)
		if was == nil || was.Spec.NodeName == "" || !maps.Equal(was.Labels, is.Labels) {
			s.queue.clusterChanged(podArrived)
		}
	case is.DeletionTimestamp != nil:
		s.queue.remove(is.UID)
		s.unnominate(is)
	case wantsUs(is) && !s.state.placed(is.UID):
		if was == nil || !equality.Semantic.DeepEqual(was.Spec, is.Spec) || !maps.Equal(was.Labels, is.Labels) {
			s.queue.add(is)
		} else {
			s.queue.refresh(is)
		}
		s.noteNomination(was, is)
	}
}

// noteNomination follows status.nominatedNodeName: written by us, or before our time.
func (s *scheduler) noteNomination(was, is *corev1.Pod) {
	switch {
	case is.Status.NominatedNodeName != "":
		s.state.nominate(is, is.Status.NominatedNodeName)
	case was != nil && was.Status.NominatedNodeName != "":
		s.unnominate(is)
	}
}

// unnominate frees the room which was kept for a pod.
func (s *scheduler) unnominate(pod *corev1.Pod) {
	if s.state.withNomination(pod).Status.NominatedNodeName != "" {
		s.state.nominate(pod, "")
		s.queue.clusterChanged(podLeft)
	}
}

// wantsUs: the pod names this scheduler, and nothing holds it back.
func wantsUs(pod *corev1.Pod) bool {
	return pod.Spec.SchedulerName == corev1.DefaultSchedulerName && len(pod.Spec.SchedulingGates) == 0
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func (s *scheduler) nodeChanged(was, is *corev1.Node) {
	if is == nil {
		s.state.removeNode(was.Name)
		s.queue.clusterChanged(nodeChange) // zones are counted anew
		return
	}
	s.state.setNode(is)
	// A heartbeat changes nothing that a filter asks for.
	same := was != nil && was.Spec.Unschedulable == is.Spec.Unschedulable && maps.Equal(was.Labels, is.Labels) &&
		equality.Semantic.DeepEqual(was.Spec.Taints, is.Spec.Taints) && equality.Semantic.DeepEqual(was.Status.Allocatable, is.Status.Allocatable)
	if !same {
		s.queue.clusterChanged(nodeChange)
	}
}

// trim drops managedFields, which nobody here reads and which are a third of an object.
func trim(obj any) (any, error) {
	if object, ok := obj.(metav1.Object); ok {
		object.SetManagedFields(nil)
	}
	return obj, nil
}
