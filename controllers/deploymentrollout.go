package controllers

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// resize is one decision of a rollout: this ReplicaSet gets so many replicas.
type resize struct {
	set      *appsv1.ReplicaSet
	replicas int32
}

// surgeAndUnavailable turns maxSurge and maxUnavailable (numbers or percentages of replicas; surge rounds
// up, unavailable rounds down) into pods. With 10 replicas and 25 % each: 3 more and 2 less are allowed.
// Both zero would never move, so one may then be missing.
func surgeAndUnavailable(deployment *appsv1.Deployment) (surge, unavailable int32) {
	rolling := deployment.Spec.Strategy.RollingUpdate
	if deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || rolling == nil {
		return 0, 0
	}
	replicas := int(*deployment.Spec.Replicas)
	more, _ := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(rolling.MaxSurge, intstr.FromInt32(0)), replicas, true)
	less, _ := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(rolling.MaxUnavailable, intstr.FromInt32(0)), replicas, false)
	if more == 0 && less == 0 {
		less = 1
	}
	return int32(more), min(int32(less), int32(replicas))
}

// planRollout decides the next step of a rolling update (or of Recreate, once the old pods are gone).
//
// It first grows the new version as far as maxSurge allows. When that is done, it shrinks the old ones
// as far as maxUnavailable allows, those pods first which do not work anyway. So with 3 replicas,
// maxSurge 1, maxUnavailable 0 the numbers new/old go 1/3, 1/2, 2/2, 2/1, 3/1, 3/0.
func planRollout(deployment *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) []resize {
	if current == nil {
		return nil
	}
	if wanted := replicasOfCurrent(deployment, current, old); wanted != *current.Spec.Replicas {
		return []resize{{current, wanted}}
	}
	if deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return nil
	}
	return shrinkOld(deployment, current, old)
}

// replicasOfCurrent is how many replicas the new version may have now.
func replicasOfCurrent(deployment *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) int32 {
	wanted, has := *deployment.Spec.Replicas, *current.Spec.Replicas
	if deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || has >= wanted {
		return wanted
	}
	surge, _ := surgeAndUnavailable(deployment)
	room := wanted + surge - specReplicas(old) - has
	return has + min(max(room, 0), wanted-has)
}

// shrinkOld is how far the old versions may shrink now. The pods of the new version which are not
// available yet are as good as missing, so they count against maxUnavailable.
func shrinkOld(deployment *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) []resize {
	all := withCurrent(old, current)
	_, unavailable := surgeAndUnavailable(deployment)
	least := *deployment.Spec.Replicas - unavailable
	newUnavailable := *current.Spec.Replicas - current.Status.AvailableReplicas
	budget := specReplicas(all) - least - newUnavailable
	if specReplicas(old) == 0 || budget <= 0 {
		return nil
	}
	size := map[*appsv1.ReplicaSet]int32{}
	// Pods which do not work cost nobody anything.
	for _, rs := range oldestFirst(old) {
		broken := min(budget, max(0, *rs.Spec.Replicas-rs.Status.AvailableReplicas))
		size[rs] = *rs.Spec.Replicas - broken
		budget -= broken
	}
	// Then pods which work, as long as enough others do.
	spare := availableReplicas(all) - least
	for _, rs := range oldestFirst(old) {
		step := min(max(spare, 0), size[rs])
		size[rs] -= step
		spare -= step
	}
	var plan []resize
	for _, rs := range oldestFirst(old) {
		if size[rs] != *rs.Spec.Replicas {
			plan = append(plan, resize{rs, size[rs]})
		}
	}
	return plan
}

// replicasWereEdited: somebody changed spec.replicas since we last scaled.
func replicasWereEdited(deployment *appsv1.Deployment, sets []*appsv1.ReplicaSet) bool {
	for _, rs := range sets {
		if *rs.Spec.Replicas == 0 {
			continue
		}
		noted, err := strconv.Atoi(rs.Annotations[desiredReplicasAnnotation])
		if err == nil && int32(noted) != *deployment.Spec.Replicas {
			return true
		}
	}
	return false
}

// planScale spreads a new spec.replicas. One running version simply gets it. In the middle of a rollout
// every version grows or shrinks in proportion to its size, so that a bad new version does not profit.
func planScale(deployment *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) []resize {
	all := withCurrent(old, current)
	running := slices.DeleteFunc(slices.Clone(all), func(rs *appsv1.ReplicaSet) bool { return *rs.Spec.Replicas == 0 })
	wanted := *deployment.Spec.Replicas
	switch {
	case len(running) == 1:
		return []resize{{running[0], wanted}}
	case len(running) == 0 && current != nil:
		return []resize{{current, wanted}}
	case len(running) == 0 && len(old) > 0:
		newest := oldestFirst(old)
		return []resize{{newest[len(newest)-1], wanted}}
	case current != nil && saturated(deployment, current):
		var plan []resize
		for _, rs := range running {
			if rs.UID != current.UID {
				plan = append(plan, resize{rs, 0})
			}
		}
		return plan
	case deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		return nil
	}
	return proportional(deployment, running)
}

// saturated: the new version is complete, with all its pods available.
func saturated(deployment *appsv1.Deployment, current *appsv1.ReplicaSet) bool {
	wanted := *deployment.Spec.Replicas
	noted, err := strconv.Atoi(current.Annotations[desiredReplicasAnnotation])
	return err == nil && *current.Spec.Replicas == wanted && int32(noted) == wanted && current.Status.AvailableReplicas == wanted
}

func proportional(deployment *appsv1.Deployment, running []*appsv1.ReplicaSet) []resize {
	surge, _ := surgeAndUnavailable(deployment)
	allowed := int32(0)
	if *deployment.Spec.Replicas > 0 {
		allowed = *deployment.Spec.Replicas + surge
	}
	left := allowed - specReplicas(running)
	growing := left > 0
	// The largest first. Of equals, growth goes to the newest and shrinking takes from the oldest.
	sorted := oldestFirst(running)
	if growing {
		slices.Reverse(sorted)
	}
	slices.SortStableFunc(sorted, func(a, b *appsv1.ReplicaSet) int { return cmp.Compare(*b.Spec.Replicas, *a.Spec.Replicas) })
	plan := make([]resize, 0, len(sorted))
	for _, rs := range sorted {
		share := fairShare(deployment, rs, allowed) - *rs.Spec.Replicas
		if growing {
			share = min(max(share, 0), left)
		} else {
			share = max(min(share, 0), left)
		}
		left -= share
		plan = append(plan, resize{rs, *rs.Spec.Replicas + share})
	}
	plan[0].replicas = max(0, plan[0].replicas+left) // what rounding left over
	return plan
}

// fairShare: a ReplicaSet which had 5 of 12 allowed pods gets 10 of 24.
func fairShare(deployment *appsv1.Deployment, rs *appsv1.ReplicaSet, allowed int32) int32 {
	if *deployment.Spec.Replicas == 0 {
		return 0
	}
	before, err := strconv.Atoi(rs.Annotations[maxReplicasAnnotation])
	if err != nil || before == 0 {
		return *rs.Spec.Replicas
	}
	return int32(math.Round(float64(*rs.Spec.Replicas) * float64(allowed) / float64(before)))
}

// planCleanUp picks the oldest idle ReplicaSets beyond revisionHistoryLimit.
func planCleanUp(deployment *appsv1.Deployment, old []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	limit := deployment.Spec.RevisionHistoryLimit
	if limit == nil || *limit == math.MaxInt32 {
		return nil
	}
	alive := slices.DeleteFunc(slices.Clone(old), func(rs *appsv1.ReplicaSet) bool { return rs.DeletionTimestamp != nil })
	surplus := len(alive) - int(*limit)
	if surplus <= 0 {
		return nil
	}
	slices.SortFunc(alive, func(a, b *appsv1.ReplicaSet) int { return cmp.Compare(revision(a), revision(b)) })
	return slices.DeleteFunc(alive[:surplus], func(rs *appsv1.ReplicaSet) bool {
		return rs.Status.Replicas != 0 || *rs.Spec.Replicas != 0 || rs.Generation > rs.Status.ObservedGeneration
	})
}

func specReplicas(sets []*appsv1.ReplicaSet) (sum int32) {
	for _, rs := range sets {
		sum += *rs.Spec.Replicas
	}
	return sum
}

func availableReplicas(sets []*appsv1.ReplicaSet) (sum int32) {
	for _, rs := range sets {
		sum += rs.Status.AvailableReplicas
	}
	return sum
}
