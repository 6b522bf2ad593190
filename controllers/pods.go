package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// podCache is the shared cache of pods with the two questions which controllers ask again and again.
type podCache struct {
	informer cache.SharedIndexInformer
	lister   corelisters.PodLister
}

const (
	byNode  = "node"  // spec.nodeName
	byOwner = "owner" // UID of the controlling owner, or namespace + "/" for pods which have none
)

// pods returns the shared cache. It is asked for by several controllers; the indexes are made once.
func (c *cluster) pods() podCache {
	pods := c.informers.Core().V1().Pods()
	informer := pods.Informer()
	if _, made := informer.GetIndexer().GetIndexers()[byNode]; !made {
		// AddIndexers fails only on names which are taken, which was just ruled out.
		_ = informer.AddIndexers(cache.Indexers{
			byNode: func(obj any) ([]string, error) { return []string{obj.(*corev1.Pod).Spec.NodeName}, nil },
			byOwner: func(obj any) ([]string, error) {
				pod := obj.(*corev1.Pod)
				if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
					return []string{string(owner.UID)}, nil
				}
				return []string{pod.Namespace + "/"}, nil
			},
		})
	}
	return podCache{informer, pods.Lister()}
}

func (p podCache) onNode(name string) []*corev1.Pod { return p.index(byNode, name) }

// ownedBy returns the pods which the object with this UID controls, and the orphans of its namespace,
// which it might adopt.
func (p podCache) ownedBy(owner metav1.Object) []*corev1.Pod {
	return append(p.index(byOwner, string(owner.GetUID())), p.index(byOwner, owner.GetNamespace()+"/")...)
}

func (p podCache) index(index, value string) []*corev1.Pod {
	objs, _ := p.informer.GetIndexer().ByIndex(index, value)
	pods := make([]*corev1.Pod, 0, len(objs))
	for _, obj := range objs {
		pods = append(pods, obj.(*corev1.Pod))
	}
	return pods
}

// podFinished: its containers have ended for good, it holds no node resources and needs no replacement
// but by its owner.
func podFinished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// podActive: it counts as one of the wanted replicas.
func podActive(pod *corev1.Pod) bool { return !podFinished(pod) && pod.DeletionTimestamp == nil }

func podCondition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

func podReady(pod *corev1.Pod) bool {
	ready := podCondition(pod, corev1.PodReady)
	return ready != nil && ready.Status == corev1.ConditionTrue
}

// setPodCondition writes one condition with a patch, which leaves what the kubelet writes alone.
func setPodCondition(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, condition corev1.PodCondition) error {
	if old := podCondition(pod, condition.Type); old != nil && old.Status == condition.Status {
		condition.LastTransitionTime = old.LastTransitionTime
	} else {
		condition.LastTransitionTime = metav1.Now()
	}
	patch := map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status":   map[string]any{"conditions": []corev1.PodCondition{condition}},
	}
	_, err := client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, strategicMerge, mustJSON(patch), metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("set condition %s of pod %s: %w", condition.Type, keyOf(pod), err)
	}
	return nil
}
