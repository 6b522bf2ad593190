package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// orphanQuarantine is how long a node has to be gone before its pods are: it may only be registering anew.
const orphanQuarantine = 40 * time.Second

// podCollector removes pods which no kubelet will ever remove: those whose node was deleted, and those in
// deletion which never had one.
type podCollector struct {
	client kubernetes.Interface
	nodes  corelisters.NodeLister
	pods   podCache
}

func podGarbageCollector(c *cluster) loop {
	nodes := c.informers.Core().V1().Nodes()
	p := &podCollector{client: c.client, nodes: nodes.Lister(), pods: c.pods()}
	queue := reconcile.New("pod-gc", p.sync)
	kube.OnChange(nodes.Informer(), func(was, is *corev1.Node) {
		if is != nil {
			return
		}
		for _, pod := range p.pods.onNode(was.Name) {
			queue.AddAfter(keyOf(pod), orphanQuarantine)
		}
	})
	kube.OnChange(p.pods.informer, func(was, is *corev1.Pod) {
		switch {
		case is == nil:
		case is.Spec.NodeName == "":
			if is.DeletionTimestamp != nil {
				queue.Add(keyOf(is))
			}
		case was == nil || was.Spec.NodeName == "":
			// Only a pod on a node we do not know can be an orphan. (The cache of nodes may be filled later
			// than that of pods; the node is looked up again when the time has come.)
			if _, err := p.nodes.Get(is.Spec.NodeName); err != nil {
				queue.AddAfter(keyOf(is), orphanQuarantine)
			}
		}
	})
	return func(ctx context.Context) { queue.Run(ctx, 2) }
}

func (p *podCollector) sync(ctx context.Context, key string) error {
	namespace, name := splitKey(key)
	pod, err := p.pods.lister.Pods(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		if pod.DeletionTimestamp == nil {
			return nil
		}
		return p.delete(ctx, pod, "it was deleted before it had a node")
	}
	if _, err := p.nodes.Get(pod.Spec.NodeName); err == nil {
		return nil
	}
	// The API server has the last word, a cache can be late.
	if _, err := p.client.CoreV1().Nodes().Get(ctx, pod.Spec.NodeName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return err
	}
	if !podFinished(pod) {
		if err := p.fail(ctx, pod); err != nil {
			return err
		}
	}
	return p.delete(ctx, pod, "its node is gone")
}

// fail writes why, for those who look at the pod in its last moment (a Job counts failures).
func (p *podCollector) fail(ctx context.Context, pod *corev1.Pod) error {
	patch := mustJSON(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status": map[string]any{"phase": corev1.PodFailed, "conditions": []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC",
			Message: "PodGC: node no longer exists", LastTransitionTime: metav1.Now(),
		}}},
	})
	_, err := p.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, strategicMerge, patch, metav1.PatchOptions{}, "status")
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("mark orphaned pod %s as failed: %w", keyOf(pod), err)
	}
	return nil
}

func (p *podCollector) delete(ctx context.Context, pod *corev1.Pod, why string) error {
	options := metav1.NewPreconditionDeleteOptions(string(pod.UID))
	options.GracePeriodSeconds = new(int64(0)) // nobody is there to end it gracefully
	err := p.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, *options)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete orphaned pod %s: %w", keyOf(pod), err)
	}
	slog.Info("deleted orphaned pod", "pod", keyOf(pod), "why", why)
	return nil
}
