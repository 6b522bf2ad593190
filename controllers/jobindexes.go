package controllers

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An indexed job has numbered parts, each done by one pod that succeeds. With backoffLimitPerIndex each part
// has a number of tries of its own (KEP-3850). The number of failures so far is written into each new pod:
//
//	batch.kubernetes.io/job-index-failure-count: "2"
//
// so the pod that failed last is kept, by its finalizer, until its successor knows.

// freeIndexes are the lowest n indexes that are neither done, nor given up, nor worked on; those whose last
// pod has failed only just now wait.
func (p *jobPlan) freeIndexes(job *batchv1.Job, pods []*corev1.Pod, t *tally, n int, now time.Time) []int {
	taken := maps.Clone(t.indexes)
	maps.Copy(taken, t.failedIndexes)
	for _, pod := range pods {
		if index, ok := jobIndex(pod); ok && !podFinished(pod) {
			taken.add(index)
		}
	}
	var list []int
	for i := 0; i < int(*job.Spec.Completions) && len(list) < n; i++ {
		if taken.has(i) {
			continue
		}
		if before := p.before[i]; before != nil {
			if wait := podEnd(before).Add(jobPause(tries(before) + 1)).Sub(now); wait > 0 {
				p.wake(wait)
				continue
			}
		}
		list = append(list, i)
	}
	return list
}

// lastFailures finds, for each index at which a pod has failed and none has come after it, that pod.
func lastFailures(job *batchv1.Job, pods []*corev1.Pod) map[int]*corev1.Pod {
	last := map[int]*corev1.Pod{}
	for _, pod := range pods {
		index, ok := jobIndex(pod)
		if !ok || index >= int(*job.Spec.Completions) {
			continue
		}
		if have := last[index]; have == nil || tries(pod) > tries(have) {
			last[index] = pod
		}
	}
	maps.DeleteFunc(last, func(_ int, pod *corev1.Pod) bool { return pod.Status.Phase != corev1.PodFailed })
	return last
}

// heldBack: the pod still has to tell its successor how often its index has failed.
func (p *jobPlan) heldBack(pod *corev1.Pod) bool {
	index, ok := jobIndex(pod)
	if !ok || p.before[index] != pod {
		return false
	}
	return p.status.FailedIndexes == nil || !parseIndexes(*p.status.FailedIndexes).has(index)
}

func noteFailures(job *batchv1.Job, pod, before *corev1.Pod) {
	counted, not := 0, 0
	if before != nil {
		counted, not = failures(before), ignored(before)
		if judgeFailure(job, before).action == batchv1.PodFailurePolicyActionIgnore {
			not++
		} else {
			counted++
		}
	}
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, batchv1.JobIndexFailureCountAnnotation, strconv.Itoa(counted))
	if not > 0 {
		metav1.SetMetaDataAnnotation(&pod.ObjectMeta, batchv1.JobIndexIgnoredFailureCountAnnotation, strconv.Itoa(not))
	}
}

// failures is how often a pod's index had failed before it, ignored how often without counting.
func failures(pod *corev1.Pod) int {
	return annotatedCount(pod, batchv1.JobIndexFailureCountAnnotation)
}

func ignored(pod *corev1.Pod) int {
	return annotatedCount(pod, batchv1.JobIndexIgnoredFailureCountAnnotation)
}
func tries(pod *corev1.Pod) int { return failures(pod) + ignored(pod) }

func annotatedCount(pod *corev1.Pod, annotation string) int {
	n, err := strconv.Atoi(pod.Annotations[annotation])
	if err != nil {
		return 0
	}
	return max(0, n)
}

// indexFailed tells whether the index of a pod that failed is given up.
func indexFailed(job *batchv1.Job, pod *corev1.Pod, verdict verdictOnPod) bool {
	switch verdict.action {
	case batchv1.PodFailurePolicyActionFailIndex:
		return true
	case batchv1.PodFailurePolicyActionIgnore:
		return false
	}
	return failures(pod) >= int(*job.Spec.BackoffLimitPerIndex)
}

// indexFailure tells why a job has failed by the failures of its indexes, or nothing.
func indexFailure(job *batchv1.Job, t *tally) (reason, message string) {
	if job.Spec.BackoffLimitPerIndex == nil || len(t.failedIndexes) == 0 {
		return "", ""
	}
	if most := job.Spec.MaxFailedIndexes; most != nil && len(t.failedIndexes) > int(*most) {
		return batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes"
	}
	if len(t.failedIndexes)+len(t.indexes) >= int(*job.Spec.Completions) {
		return batchv1.JobReasonFailedIndexes, "Job has failed indexes"
	}
	return "", ""
}

// indexSet is written as ranges: "0-2,5".
type indexSet map[int]bool

func (s indexSet) has(i int) bool { return s[i] }
func (s indexSet) add(i int)      { s[i] = true }

func parseIndexes(text string) indexSet {
	s := indexSet{}
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		last := first
		if isRange {
			if last, err = strconv.Atoi(to); err != nil {
				continue
			}
		}
		for i := first; i <= last; i++ {
			s.add(i)
		}
	}
	return s
}

func (s indexSet) String() string {
	sorted := slices.Sorted(maps.Keys(s))
	var parts []string
	for i := 0; i < len(sorted); {
		end := i
		for end+1 < len(sorted) && sorted[end+1] == sorted[end]+1 {
			end++
		}
		switch end - i {
		case 0:
			parts = append(parts, strconv.Itoa(sorted[i]))
		case 1:
			parts = append(parts, strconv.Itoa(sorted[i]), strconv.Itoa(sorted[end]))
		default:
			parts = append(parts, fmt.Sprintf("%d-%d", sorted[i], sorted[end]))
		}
		i = end + 1
	}
	return strings.Join(parts, ",")
}
