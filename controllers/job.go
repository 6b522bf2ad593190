package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	batchlisters "k8s.io/client-go/listers/batch/v1"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// jobController runs pods until enough of them have succeeded. Counting is the hard part: a pod that has
// ended may be deleted by anybody at any time, and must still count, once.
//
//	job.go          the loop, and the writes
//	jobcount.go     counts the pods, each once
//	jobplan.go      the next step: which pods are made or stopped; when the job has ended
//	jobindexes.go   the numbered parts of an indexed job
//	jobpolicy.go    podFailurePolicy and successPolicy
type jobController struct {
	jobs  batchlisters.JobLister
	pods  *ownedPods
	queue *reconcile.Queue[string]
}

func jobs(c *cluster) loop {
	jobs := c.informers.Batch().V1().Jobs()
	j := &jobController{jobs: jobs.Lister(), pods: newOwnedPods(c, batchv1.SchemeGroupVersion.WithKind("Job"), "job-controller")}
	j.queue = reconcile.New("job", j.sync)
	kube.OnChange(jobs.Informer(), func(was, is *batchv1.Job) { j.queue.Add(keyOf(either(was, is))) })
	j.pods.watch(j.queue.Add, func(pod *corev1.Pod) []string {
		all, _ := j.jobs.Jobs(pod.Namespace).List(everything)
		return selecting(all, func(job *batchv1.Job) *metav1.LabelSelector { return job.Spec.Selector }, pod)
	})
	return func(ctx context.Context) { j.queue.Run(ctx, 2) }
}

func (j *jobController) sync(ctx context.Context, key string) error {
	namespace, name := splitKey(key)
	job, err := j.jobs.Jobs(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		j.pods.created.forget(key)
		return j.freePodsOf(ctx, namespace, name)
	}
	if err != nil || !j.pods.created.visible(key) {
		return err
	}
	if by := job.Spec.ManagedBy; by != nil && *by != batchv1.JobControllerName {
		return nil // somebody else's controller sees to it
	}
	if job.DeletionTimestamp != nil {
		return j.freePodsOf(ctx, namespace, name)
	}
	pods, err := j.pods.claim(ctx, job, job.Spec.Selector, j.pods.cache.ownedBy(job), func(ctx context.Context) (metav1.Object, error) {
		return j.pods.client.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{})
	})
	if err != nil {
		return err
	}
	if jobFinished(job) {
		return errors.Join(j.free(ctx, pods), j.expire(ctx, job))
	}
	plan := planJob(job, pods, j.pods.going, time.Now())
	if plan.again > 0 {
		j.queue.AddAfter(key, plan.again)
	}
	return j.carryOut(ctx, job, plan)
}

// carryOut writes the status before pods are let go: what is not written down must not be lost.
func (j *jobController) carryOut(ctx context.Context, job *batchv1.Job, plan jobPlan) error {
	if err := j.writeStatus(ctx, job, plan.status); err != nil {
		return err
	}
	freed := j.free(ctx, plan.free)
	removed := forEach(plan.remove, func(pod *corev1.Pod) error { return j.pods.delete(ctx, job, pod, deletedPod) })
	made := forEach(plan.create, func(index int) error {
		return j.pods.create(ctx, job, jobPod(job, index, plan.before[index]), createdPod)
	})
	return errors.Join(freed, removed, made)
}

func (j *jobController) writeStatus(ctx context.Context, job *batchv1.Job, status batchv1.JobStatus) error {
	if equality.Semantic.DeepEqual(job.Status, status) {
		return nil
	}
	changed := job.DeepCopy()
	changed.Status = status
	_, err := j.pods.client.BatchV1().Jobs(job.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write status of Job %s: %w", keyOf(job), err)
	}
	for _, event := range []struct {
		condition          batchv1.JobConditionType
		kind, reason, text string
	}{
		{batchv1.JobComplete, corev1.EventTypeNormal, "Completed", "Job completed"},
		{batchv1.JobFailed, corev1.EventTypeWarning, "", ""},
		{batchv1.JobSuspended, corev1.EventTypeNormal, "Suspended", "Job suspended"},
	} {
		now, before := jobCondition(&status, event.condition), jobCondition(&job.Status, event.condition)
		if now == nil || now.Status != corev1.ConditionTrue || (before != nil && before.Status == corev1.ConditionTrue) {
			continue
		}
		if event.condition == batchv1.JobFailed {
			event.reason, event.text = now.Reason, now.Message
		}
		j.pods.events.Event(job, event.kind, event.reason, event.text)
	}
	return nil
}

// expire deletes a finished job when its ttlSecondsAfterFinished are over, and its pods with it.
func (j *jobController) expire(ctx context.Context, job *batchv1.Job) error {
	if job.Spec.TTLSecondsAfterFinished == nil {
		return nil
	}
	for _, c := range job.Status.Conditions {
		if (c.Type != batchv1.JobComplete && c.Type != batchv1.JobFailed) || c.Status != corev1.ConditionTrue {
			continue
		}
		left := time.Until(c.LastTransitionTime.Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second))
		if left > 0 {
			j.queue.AddAfter(keyOf(job), left)
			return nil
		}
		policy := metav1.DeletePropagationForeground
		err := j.pods.client.BatchV1().Jobs(job.Namespace).Delete(ctx, job.Name, metav1.DeleteOptions{
			PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &job.UID},
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete expired Job %s: %w", keyOf(job), err)
		}
		return nil
	}
	return nil
}
