package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// taintEvictor deletes pods from nodes which have a taint of effect NoExecute that they do not tolerate, or
// no longer. Every ordinary pod tolerates not-ready and unreachable for 300 seconds: admission has added
// that, and it is why the pods of a dead node are replaced only after five minutes.
type taintEvictor struct {
	client kubernetes.Interface
	nodes  corelisters.NodeLister
	pods   podCache
	events record.EventRecorder
	queue  *reconcile.Queue[string] // pods
}

func taintEviction(c *cluster) loop {
	nodes := c.informers.Core().V1().Nodes()
	t := &taintEvictor{client: c.client, nodes: nodes.Lister(), pods: c.pods(), events: c.eventsFrom("taint-eviction-controller")}
	t.queue = reconcile.New("taint-eviction", t.sync)
	kube.OnChange(nodes.Informer(), func(was, is *corev1.Node) {
		if !evictsMore(was, is) {
			return
		}
		for _, pod := range t.pods.onNode(is.Name) {
			t.queue.Add(keyOf(pod))
		}
	})
	kube.OnChange(t.pods.informer, func(was, is *corev1.Pod) {
		if is != nil && is.Spec.NodeName != "" && (was == nil || was.Spec.NodeName == "") {
			t.queue.Add(keyOf(is))
		}
	})
	return func(ctx context.Context) { t.queue.Run(ctx, 4) }
}

// evictsMore: the node has a taint which it did not have. Their number may be the same: a node which was
// not ready and then falls silent has unreachable in the place of not-ready, and other pods tolerate that.
func evictsMore(was, is *corev1.Node) bool {
	if is == nil {
		return false
	}
	return slices.ContainsFunc(noExecute(is), func(taint corev1.Taint) bool {
		return was == nil || !slices.ContainsFunc(noExecute(was), sameTaint(taint))
	})
}

func noExecute(node *corev1.Node) []corev1.Taint {
	var taints []corev1.Taint
	for _, taint := range node.Spec.Taints {
		if taint.Effect == corev1.TaintEffectNoExecute {
			taints = append(taints, taint)
		}
	}
	return taints
}

func (t *taintEvictor) sync(ctx context.Context, key string) error {
	namespace, name := splitKey(key)
	pod, err := t.pods.lister.Pods(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil || pod.Spec.NodeName == "" || !podActive(pod) {
		return err
	}
	node, err := t.nodes.Get(pod.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return nil // the pod garbage collector's business
	}
	if err != nil {
		return err
	}
	wait, evicted := untilEviction(pod, noExecute(node), time.Now())
	switch {
	case !evicted:
		return nil
	case wait > 0:
		t.queue.AddAfter(key, wait) // and look again then: the taint may be gone
		return nil
	}
	return t.evict(ctx, pod)
}

// untilEviction is how long the pod may stay: as long as the least patient of its matching tolerations says.
// A taint which nothing tolerates means now; evicted is false when it may stay for ever.
func untilEviction(pod *corev1.Pod, taints []corev1.Taint, now time.Time) (wait time.Duration, evicted bool) {
	for _, taint := range taints {
		patience, limited, tolerated := patienceWith(pod, &taint)
		if !tolerated {
			return 0, true
		}
		if !limited {
			continue
		}
		left := patience
		if taint.TimeAdded != nil {
			left = taint.TimeAdded.Add(patience).Sub(now)
		}
		if !evicted || left < wait {
			wait, evicted = left, true
		}
	}
	return wait, evicted
}

func patienceWith(pod *corev1.Pod, taint *corev1.Taint) (patience time.Duration, limited, tolerated bool) {
	for i := range pod.Spec.Tolerations {
		toleration := &pod.Spec.Tolerations[i]
		if !toleration.ToleratesTaint(klog.Background(), taint, true) {
			continue
		}
		tolerated = true
		if toleration.TolerationSeconds == nil {
			continue
		}
		seconds := time.Duration(max(0, *toleration.TolerationSeconds)) * time.Second
		if !limited || seconds < patience {
			patience, limited = seconds, true
		}
	}
	return patience, limited, tolerated
}

func (t *taintEvictor) evict(ctx context.Context, pod *corev1.Pod) error {
	t.events.Eventf(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s", keyOf(pod))
	condition := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: "DeletionByTaintManager", Message: "Taint manager: deleting due to NoExecute taint",
	}
	if err := setPodCondition(ctx, t.client, pod, condition); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	err := t.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, *metav1.NewPreconditionDeleteOptions(string(pod.UID)))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("evict pod %s: %w", keyOf(pod), err)
	}
	slog.Info("evicted pod", "pod", keyOf(pod), "node", pod.Spec.NodeName)
	return nil
}
