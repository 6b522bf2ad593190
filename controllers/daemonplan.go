package controllers

import (
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// daemonPlan is what a DaemonSet lacks.
type daemonPlan struct {
	create []string // names of nodes
	remove []*corev1.Pod
	status appsv1.DaemonSetStatus
	again  time.Duration // until a pod becomes available by time alone; 0 for never
}

// daemonNode is one node with the set's pods on it.
type daemonNode struct {
	name            string
	wanted, allowed bool        // a pod shall be made here; a pod that is here may stay
	old, new        *corev1.Pod // active pods of an earlier version and of the present one
	leaving         bool        // a pod is on its way out
	oldUp, newUp    bool        // they are available
}

func (n *daemonNode) up() bool    { return n.oldUp || n.newUp }
func (n *daemonNode) empty() bool { return n.old == nil && n.new == nil && !n.leaving }

// planDaemons compares nodes and pods. going tells of pods which are deleted, also if the cache does not
// show it yet.
func planDaemons(set *appsv1.DaemonSet, nodes []*corev1.Node, pods []*corev1.Pod, hash string, going func(*corev1.Pod) bool, now time.Time) daemonPlan {
	var plan daemonPlan
	places := map[string]*daemonNode{}
	for _, node := range nodes {
		wanted, allowed := daemonFits(set, node)
		places[node.Name] = &daemonNode{name: node.Name, wanted: wanted, allowed: allowed}
	}
	// Oldest first: where two pods of a version share a node, the older one stays.
	for _, pod := range slices.SortedFunc(slices.Values(pods), func(a, b *corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) }) {
		place, ok := places[targetNode(pod)]
		if !ok {
			continue // the pod garbage collector removes pods of nodes that are gone
		}
		plan.sort(place, pod, set, hash, going, now)
	}
	list := make([]*daemonNode, 0, len(nodes))
	for _, node := range nodes {
		list = append(list, places[node.Name])
	}
	plan.settle(list)
	if set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		plan.roll(set, list)
	}
	plan.count(set, list)
	return plan
}

// sort puts a pod into its node's account, or onto the list of those to remove.
func (p *daemonPlan) sort(place *daemonNode, pod *corev1.Pod, set *appsv1.DaemonSet, hash string, going func(*corev1.Pod) bool, now time.Time) {
	mine, up := &place.old, &place.oldUp
	if pod.Labels[appsv1.ControllerRevisionHashLabelKey] == hash {
		mine, up = &place.new, &place.newUp
	}
	switch {
	case going(pod):
		place.leaving = true
	case podFinished(pod) || *mine != nil:
		p.remove = append(p.remove, pod)
		place.leaving = place.leaving || podFinished(pod)
	default:
		*mine = pod
		if wait := untilAvailable(pod, set.Spec.MinReadySeconds, now); podReady(pod) && wait > 0 && (p.again == 0 || wait < p.again) {
			p.again = wait
		} else if podReady(pod) && wait <= 0 {
			*up = true
		}
	}
}

// settle gives every wanted node its pod, and takes pods from where they may not be.
func (p *daemonPlan) settle(nodes []*daemonNode) {
	for _, node := range nodes {
		if node.wanted && node.empty() {
			p.create = append(p.create, node.name)
		}
		for _, pod := range []*corev1.Pod{node.old, node.new} {
			if pod != nil && !node.allowed {
				p.remove = append(p.remove, pod)
			}
		}
	}
}

// roll replaces pods of earlier versions: those which serve nobody at once, the others so that at most
// maxUnavailable nodes are without. With maxSurge, the new pod comes first and the old one goes when the
// new one is available.
func (p *daemonPlan) roll(set *appsv1.DaemonSet, nodes []*daemonNode) {
	wanted, missing, surging := 0, 0, 0
	for _, node := range nodes {
		if node.wanted {
			wanted++
			if !node.up() {
				missing++
			}
			if node.old != nil && node.new != nil {
				surging++
			}
		}
	}
	unavailable, surge := share(set.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable, wanted), share(set.Spec.UpdateStrategy.RollingUpdate.MaxSurge, wanted)
	for _, node := range nodes {
		if node.old == nil || !node.allowed {
			continue
		}
		switch {
		case node.new != nil:
			if node.newUp || !node.oldUp {
				p.remove = append(p.remove, node.old)
			}
		case surge > 0:
			if !node.oldUp || surging < surge {
				surging++
				p.create = append(p.create, node.name)
			}
		case !node.oldUp:
			p.remove = append(p.remove, node.old)
		case missing < unavailable:
			missing++
			p.remove = append(p.remove, node.old)
		}
	}
}

// share is a number of nodes, or a percentage of all, rounded up.
func share(n *intstr.IntOrString, all int) int {
	if n == nil {
		return 0
	}
	value, _ := intstr.GetScaledValueFromIntOrPercent(n, all, true)
	return value
}

func (p *daemonPlan) count(set *appsv1.DaemonSet, nodes []*daemonNode) {
	s := &p.status
	s.ObservedGeneration = set.Generation
	for _, node := range nodes {
		here := node.old != nil || node.new != nil
		if !node.wanted {
			if here {
				s.NumberMisscheduled++
			}
			continue
		}
		s.DesiredNumberScheduled++
		if !here {
			continue
		}
		s.CurrentNumberScheduled++
		if (node.new != nil && podReady(node.new)) || (node.old != nil && podReady(node.old)) {
			s.NumberReady++
		}
		if node.up() {
			s.NumberAvailable++
		}
		if node.new != nil {
			s.UpdatedNumberScheduled++
		}
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
}

// daemonFits tells whether the set's pod shall be made on a node, and whether one that is there may stay:
// a taint NoSchedule keeps new pods away, NoExecute also drives out old ones.
func daemonFits(set *appsv1.DaemonSet, node *corev1.Node) (run, stay bool) {
	pod := daemonPod(set, "", "")
	pod.Spec.Affinity = set.Spec.Template.Spec.Affinity
	if name := pod.Spec.NodeName; name != "" && name != node.Name {
		return false, false
	}
	if fits, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !fits {
		return false, false
	}
	run, stay = true, true
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		if taint.Effect == corev1.TaintEffectPreferNoSchedule || slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
			return t.ToleratesTaint(klog.Background(), taint, true)
		}) {
			continue
		}
		run = false
		stay = stay && taint.Effect != corev1.TaintEffectNoExecute
	}
	return run, stay
}

// daemonPod is the set's pod for a node.
func daemonPod(set *appsv1.DaemonSet, node, hash string) *corev1.Pod {
	template := set.Spec.Template.DeepCopy()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		GenerateName: set.Name + "-", Labels: template.Labels, Annotations: template.Annotations, Finalizers: template.Finalizers,
	}, Spec: template.Spec}
	metav1.SetMetaDataLabel(&pod.ObjectMeta, appsv1.ControllerRevisionHashLabelKey, hash)
	if generation, err := strconv.ParseInt(set.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64); err == nil {
		metav1.SetMetaDataLabel(&pod.ObjectMeta, "pod-template-generation", strconv.FormatInt(generation, 10))
	}
	pinTo(&pod.Spec, node)
	tolerateNodeState(&pod.Spec)
	return pod
}

const nodeNameField = "metadata.name"

// pinTo makes the scheduler choose this node and no other.
func pinTo(spec *corev1.PodSpec, node string) {
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if spec.Affinity.NodeAffinity == nil {
		spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchFields: []corev1.NodeSelectorRequirement{{Key: nodeNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
		}},
	}
}

// targetNode is where a pod is, or shall be.
func targetNode(pod *corev1.Pod) string {
	if pod.Spec.NodeName != "" || pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil {
		return pod.Spec.NodeName
	}
	required := pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil {
		return ""
	}
	for _, term := range required.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == nodeNameField && field.Operator == corev1.NodeSelectorOpIn && len(field.Values) == 1 {
				return field.Values[0]
			}
		}
	}
	return ""
}

// tolerateNodeState: a daemon belongs to its node in good days and in bad ones, so no trouble of the node
// keeps it away. A network plugin even has to run before the network is there.
func tolerateNodeState(spec *corev1.PodSpec) {
	add := func(key string, effect corev1.TaintEffect) {
		t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
		if !slices.Contains(spec.Tolerations, t) {
			spec.Tolerations = append(spec.Tolerations, t)
		}
	}
	add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	if spec.HostNetwork {
		add(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	}
}
