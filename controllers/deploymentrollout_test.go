package controllers

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func testDeployment(replicas int32, surge, unavailable string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(replicas),
			Strategy: appsv1.DeploymentStrategy{
				Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{
					MaxSurge: new(intstr.Parse(surge)), MaxUnavailable: new(intstr.Parse(unavailable)),
				},
			},
		},
	}
}

// testSet has replicas pods, of which available work. Annotations say it was part of a Deployment of max.
func testSet(name string, replicas, available int32, max int) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Annotations: map[string]string{maxReplicasAnnotation: fmt.Sprint(max)}},
		Spec:       appsv1.ReplicaSetSpec{Replicas: new(replicas)},
		Status:     appsv1.ReplicaSetStatus{Replicas: replicas, AvailableReplicas: available},
	}
}

func TestSurgeAndUnavailable(t *testing.T) {
	tests := []struct {
		replicas           int32
		surge, unavailable string
		more, less         int32
	}{
		{10, "25%", "25%", 3, 2}, // surge rounds up, unavailable rounds down
		{3, "25%", "25%", 1, 0},
		{1, "25%", "25%", 1, 0},
		{3, "1", "1", 1, 1},
		{3, "0", "0", 0, 1}, // both zero could never move
		{2, "0", "5", 0, 2},
		{0, "25%", "25%", 0, 0},
	}
	for _, test := range tests {
		more, less := surgeAndUnavailable(testDeployment(test.replicas, test.surge, test.unavailable))
		if more != test.more || less != test.less {
			t.Errorf("%d replicas, maxSurge %s, maxUnavailable %s: %d more and %d less, want %d and %d",
				test.replicas, test.surge, test.unavailable, more, less, test.more, test.less)
		}
	}
}

// TestRollingUpdateStepByStep plays a rollout: every pod that is created becomes available before the next
// step. The rows are new/old after each step.
func TestRollingUpdateStepByStep(t *testing.T) {
	tests := []struct {
		replicas           int32
		surge, unavailable string
		want               string
	}{
		{3, "1", "0", "1/3 1/2 2/2 2/1 3/1 3/0"},
		{3, "0", "1", "0/2 1/2 1/1 2/1 2/0 3/0"},
		{3, "1", "1", "1/3 1/1 3/1 3/0"},
		{4, "100%", "0", "4/4 4/0"},
		{4, "0", "100%", "0/0 4/0"},
		{1, "25%", "25%", "1/1 1/0"},
	}
	for _, test := range tests {
		deployment := testDeployment(test.replicas, test.surge, test.unavailable)
		current, old := testSet("new", 0, 0, 0), testSet("old", test.replicas, test.replicas, 0)
		var got []string
		for range 20 {
			steps := planRollout(deployment, current, []*appsv1.ReplicaSet{old})
			if len(steps) == 0 {
				break
			}
			for _, step := range steps {
				*step.set.Spec.Replicas = step.replicas
				step.set.Status.Replicas, step.set.Status.AvailableReplicas = step.replicas, step.replicas
			}
			got = append(got, fmt.Sprintf("%d/%d", *current.Spec.Replicas, *old.Spec.Replicas))
		}
		if text := strings.Join(got, " "); text != test.want {
			t.Errorf("%d replicas, maxSurge %s, maxUnavailable %s:\n got %s\nwant %s", test.replicas, test.surge, test.unavailable, text, test.want)
		}
	}
}

func TestBrokenNewVersionDoesNotCostWorkingPods(t *testing.T) {
	deployment := testDeployment(3, "1", "0")
	current, old := testSet("new", 1, 0, 4), testSet("old", 3, 3, 4)
	if steps := planRollout(deployment, current, []*appsv1.ReplicaSet{old}); len(steps) != 0 {
		t.Errorf("the new pod does not work, yet %d replica sets are resized", len(steps))
	}
}

func TestBrokenOldPodsGoFirst(t *testing.T) {
	deployment := testDeployment(10, "0", "2")
	current, broken, good := testSet("new", 0, 0, 10), testSet("a-broken", 2, 0, 10), testSet("b-good", 8, 8, 10)
	steps := planRollout(deployment, current, []*appsv1.ReplicaSet{good, broken})
	if len(steps) != 1 || steps[0].set != broken || steps[0].replicas != 0 {
		t.Errorf("want a-broken resized to 0 and nothing else, got %+v", steps)
	}
}

func TestScalingInTheMiddleOfARollout(t *testing.T) {
	deployment := testDeployment(20, "2", "0")
	// It was 10 with 2 more allowed: 12 in all, 5 new and 7 old. Now 22 are allowed.
	current, old := testSet("new", 5, 3, 12), testSet("old", 7, 7, 12)
	got := map[string]int32{}
	for _, step := range planScale(deployment, current, []*appsv1.ReplicaSet{old}) {
		got[step.set.Name] = step.replicas
	}
	if got["new"] != 9 || got["old"] != 13 {
		t.Errorf("scaled to new %d, old %d; want 9 and 13, in proportion", got["new"], got["old"])
	}
}

func TestCleanUpKeepsTheLatestRevisions(t *testing.T) {
	deployment := testDeployment(3, "1", "0")
	deployment.Spec.RevisionHistoryLimit = new(int32(2))
	var old []*appsv1.ReplicaSet
	for i := range 4 {
		rs := testSet(fmt.Sprint("rev", i+1), 0, 0, 4)
		rs.Annotations[revisionAnnotation] = fmt.Sprint(i + 1)
		old = append(old, rs)
	}
	*old[1].Spec.Replicas = 1 // still runs
	var names []string
	for _, rs := range planCleanUp(deployment, old) {
		names = append(names, rs.Name)
	}
	if got := strings.Join(names, " "); got != "rev1" {
		t.Errorf("deleted %q, want rev1 alone: rev2 still runs, rev3 and rev4 are within the limit", got)
	}
}
