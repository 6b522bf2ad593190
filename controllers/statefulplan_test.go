package controllers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestStatefulPlan writes pods as "0:a 1:b! 2:a-": ordinal, revision, ! for not ready, - for going.
func TestStatefulPlan(t *testing.T) {
	for _, c := range []struct {
		name           string
		policy         appsv1.PodManagementPolicyType
		replicas, from int32 // size and partition
		pods           string
		create, remove string
	}{
		{"the first pod comes alone", appsv1.OrderedReadyPodManagement, 3, 0, "", "0", ""},
		{"the second waits for the first", appsv1.OrderedReadyPodManagement, 3, 0, "0:b!", "", ""},
		{"the second comes", appsv1.OrderedReadyPodManagement, 3, 0, "0:b", "1", ""},
		{"all come at once", appsv1.ParallelPodManagement, 3, 0, "", "0 1 2", ""},
		{"a lost pod comes back under its name", appsv1.OrderedReadyPodManagement, 3, 0, "0:b 2:b", "1", ""},
		{"its name is free only when it is gone", appsv1.OrderedReadyPodManagement, 3, 0, "0:b 1:b- 2:b", "", ""},
		{"the highest goes first", appsv1.OrderedReadyPodManagement, 1, 0, "0:b 1:b 2:b", "", "2"},
		{"the next waits", appsv1.OrderedReadyPodManagement, 1, 0, "0:b 1:b 2:b-", "", ""},
		{"all go at once", appsv1.ParallelPodManagement, 1, 0, "0:b 1:b 2:b", "", "2 1"},
		{"rolling begins at the top", appsv1.OrderedReadyPodManagement, 3, 0, "0:a 1:a 2:a", "", "2"},
		{"rolling goes on", appsv1.OrderedReadyPodManagement, 3, 0, "0:a 1:a 2:b", "", "1"},
		{"rolling waits", appsv1.OrderedReadyPodManagement, 3, 0, "0:a 1:a 2:b!", "", ""},
		{"rolling stops at the partition", appsv1.OrderedReadyPodManagement, 3, 2, "0:a 1:a 2:b", "", ""},
		{"a broken old pod does not block its cure", appsv1.OrderedReadyPodManagement, 3, 0, "0:a 1:a 2:a!", "", "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Spec: appsv1.StatefulSetSpec{
				Replicas: &c.replicas, PodManagementPolicy: c.policy,
				UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &c.from}},
			}}
			var pods []*corev1.Pod
			for _, pod := range daemonPods(strings.ReplaceAll(c.pods, "-", "")) {
				number, _, _ := strings.Cut(pod.Name, ":")
				pod.Name = "db-" + number
				pods = append(pods, pod)
			}
			words := strings.Fields(c.pods)
			going := func(pod *corev1.Pod) bool {
				for i := range pods {
					if pods[i] == pod {
						return strings.HasSuffix(words[i], "-")
					}
				}
				return false
			}
			plan := planStateful(set, pods, "a", "b", going, time.Unix(1000, 0))
			if got := strings.Trim(fmt.Sprint(plan.create), "[]"); got != c.create {
				t.Errorf("creates %q, want %q", got, c.create)
			}
			var removed []string
			for _, pod := range plan.remove {
				removed = append(removed, strings.TrimPrefix(pod.Name, "db-"))
			}
			if got := strings.Join(removed, " "); got != c.remove {
				t.Errorf("removes %q, want %q", got, c.remove)
			}
		})
	}
}
