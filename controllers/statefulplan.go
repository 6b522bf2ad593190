package controllers

import (
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// statefulPlan is the next step of a StatefulSet. With the policy OrderedReady it is one pod at most.
type statefulPlan struct {
	current, update string // names of revisions
	create          []int  // ordinals
	remove          []*corev1.Pod
	status          appsv1.StatefulSetStatus
	again           time.Duration // until a pod becomes available by time alone; 0 for never
}

// ordinal is the number at the end of a pod's name, if the rest is the set's name: db-12 is 12 of db.
func ordinal(set *appsv1.StatefulSet, pod *corev1.Pod) (int, bool) {
	text, ok := strings.CutPrefix(pod.Name, set.Name+"-")
	n, err := strconv.Atoi(text)
	return n, ok && err == nil && strconv.Itoa(n) == text
}

func firstOrdinal(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return int(set.Spec.Ordinals.Start)
}

// planStateful decides the next step. going tells of pods which are deleted, also if the cache does not
// show it yet.
func planStateful(set *appsv1.StatefulSet, pods []*corev1.Pod, current, update string, going func(*corev1.Pod) bool, now time.Time) statefulPlan {
	p := statefulPlan{current: current, update: update}
	first := firstOrdinal(set)
	end := first + int(*set.Spec.Replicas)
	slots := map[int]*corev1.Pod{}
	var condemned []int
	for _, pod := range pods {
		n, ok := ordinal(set, pod)
		if !ok {
			continue
		}
		slots[n] = pod
		if n < first || n >= end {
			condemned = append(condemned, n)
		}
	}
	p.count(set, slots, now)
	slices.SortFunc(condemned, func(a, b int) int { return b - a }) // the highest goes first
	if p.fill(set, slots, first, end, going, now) && p.shrink(set, slots, condemned, going) {
		p.roll(set, slots, first, end, going, now)
	}
	return p
}

// fill makes the pods that are missing. It reports whether all are well, which the next steps need when
// the order counts.
func (p *statefulPlan) fill(set *appsv1.StatefulSet, slots map[int]*corev1.Pod, first, end int, going func(*corev1.Pod) bool, now time.Time) bool {
	ordered := set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
	for n := first; n < end; n++ {
		pod := slots[n]
		well := false
		switch {
		case pod == nil:
			p.create = append(p.create, n)
		case going(pod): // its name is taken until it is gone
		case podFinished(pod):
			p.remove = append(p.remove, pod)
		default:
			well = statefulUp(set, pod, now)
		}
		if ordered && !well {
			return p.brokenUpdate(set, slots, n, end, going)
		}
	}
	return len(p.create) == 0
}

// brokenUpdate: a pod of an old version which never becomes ready would block its own replacement for
// ever, if the order were kept to; so it may be rolled.
func (p *statefulPlan) brokenUpdate(set *appsv1.StatefulSet, slots map[int]*corev1.Pod, n, end int, going func(*corev1.Pod) bool) bool {
	pod := slots[n]
	if pod == nil || going(pod) || podFinished(pod) || podReady(pod) || p.revisionOf(set, n) == pod.Labels[appsv1.ControllerRevisionHashLabelKey] {
		return false
	}
	for higher := n + 1; higher < end; higher++ {
		if other := slots[higher]; other != nil && going(other) {
			return false
		}
	}
	return true
}

// shrink deletes what is beyond spec.replicas, and reports whether there is nothing of that kind.
func (p *statefulPlan) shrink(set *appsv1.StatefulSet, slots map[int]*corev1.Pod, condemned []int, going func(*corev1.Pod) bool) bool {
	for _, n := range condemned {
		if !going(slots[n]) {
			p.remove = append(p.remove, slots[n])
		}
		if set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement {
			return false
		}
	}
	return len(condemned) == 0
}

// roll replaces the pods of earlier versions, from the highest ordinal down to the partition, each when
// the one before is ready again.
func (p *statefulPlan) roll(set *appsv1.StatefulSet, slots map[int]*corev1.Pod, first, end int, going func(*corev1.Pod) bool, now time.Time) {
	if set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return
	}
	for n := end - 1; n >= max(first, partition(set)); n-- {
		pod := slots[n]
		switch {
		case pod == nil || going(pod):
			return
		case pod.Labels[appsv1.ControllerRevisionHashLabelKey] != p.update:
			p.remove = append(p.remove, pod)
			return
		case !statefulUp(set, pod, now):
			return
		}
	}
}

// partition is the ordinal from which on pods are of the new version; those below keep the old one.
func partition(set *appsv1.StatefulSet) int {
	r := set.Spec.UpdateStrategy.RollingUpdate
	if set.Spec.UpdateStrategy.Type != appsv1.RollingUpdateStatefulSetStrategyType || r == nil || r.Partition == nil {
		return 0
	}
	return firstOrdinal(set) + int(*r.Partition)
}

// revisionOf is the version which a pod that is made now gets.
func (p *statefulPlan) revisionOf(set *appsv1.StatefulSet, n int) string {
	if n < partition(set) {
		return p.current
	}
	return p.update
}

func statefulUp(set *appsv1.StatefulSet, pod *corev1.Pod, now time.Time) bool {
	return pod.Status.Phase == corev1.PodRunning && podReady(pod) && untilAvailable(pod, set.Spec.MinReadySeconds, now) <= 0
}

func (p *statefulPlan) count(set *appsv1.StatefulSet, slots map[int]*corev1.Pod, now time.Time) {
	s := &p.status
	s.ObservedGeneration, s.CurrentRevision, s.UpdateRevision = set.Generation, p.current, p.update
	for _, pod := range slots {
		s.Replicas++
		if podReady(pod) && pod.Status.Phase == corev1.PodRunning {
			s.ReadyReplicas++
			if wait := untilAvailable(pod, set.Spec.MinReadySeconds, now); wait <= 0 {
				s.AvailableReplicas++
			} else if p.again == 0 || wait < p.again {
				p.again = wait
			}
		}
		if pod.DeletionTimestamp != nil {
			continue
		}
		if pod.Labels[appsv1.ControllerRevisionHashLabelKey] == p.current {
			s.CurrentReplicas++
		}
		if pod.Labels[appsv1.ControllerRevisionHashLabelKey] == p.update {
			s.UpdatedReplicas++
		}
	}
	rolling := set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType
	if rolling && s.UpdatedReplicas == s.Replicas && s.ReadyReplicas == s.Replicas && s.Replicas == *set.Spec.Replicas {
		s.CurrentReplicas, s.CurrentRevision = s.UpdatedReplicas, p.update
	}
}

// statefulPod is pod n of the set. Its host name is its name, and its subdomain the headless Service: that
// makes the DNS name of the pod.
func statefulPod(set *appsv1.StatefulSet, template *corev1.PodTemplateSpec, n int, revision string) *corev1.Pod {
	name := set.Name + "-" + strconv.Itoa(n)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: template.Labels, Annotations: template.Annotations, Finalizers: template.Finalizers,
	}, Spec: template.Spec}
	metav1.SetMetaDataLabel(&pod.ObjectMeta, appsv1.StatefulSetPodNameLabel, name)
	metav1.SetMetaDataLabel(&pod.ObjectMeta, appsv1.PodIndexLabel, strconv.Itoa(n))
	metav1.SetMetaDataLabel(&pod.ObjectMeta, appsv1.ControllerRevisionHashLabelKey, revision)
	pod.Spec.Hostname, pod.Spec.Subdomain = name, set.Spec.ServiceName
	return pod
}
