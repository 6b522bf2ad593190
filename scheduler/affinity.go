package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// term is one rule of pod affinity, ready to be asked: does this other pod match?
type term struct {
	namespaces []string
	byLabels   labels.Selector // of namespaces; nil for none
	selector   labels.Selector
	topology   string // the node label which says what "together" means, such as kubernetes.io/hostname
	weight     int64
}

// newTerms prepares terms of pod's spec. No namespaces at all means the pod's own.
func newTerms(pod *corev1.Pod, terms []corev1.PodAffinityTerm) []term {
	var prepared []term
	for _, t := range terms {
		prepared = append(prepared, newTerm(pod, t, 1))
	}
	return prepared
}

func newWeightedTerms(pod *corev1.Pod, terms []corev1.WeightedPodAffinityTerm, sign int64) []term {
	var prepared []term
	for _, t := range terms {
		prepared = append(prepared, newTerm(pod, t.PodAffinityTerm, sign*int64(t.Weight)))
	}
	return prepared
}

func newTerm(pod *corev1.Pod, t corev1.PodAffinityTerm, weight int64) term {
	prepared := term{namespaces: t.Namespaces, topology: t.TopologyKey, weight: weight, selector: selectorOf(t.LabelSelector)}
	if t.NamespaceSelector != nil {
		prepared.byLabels = selectorOf(t.NamespaceSelector)
	} else if len(t.Namespaces) == 0 {
		prepared.namespaces = []string{pod.Namespace}
	}
	// matchLabelKeys: "of my own version", without knowing its hash.
	for _, key := range t.MatchLabelKeys {
		if value, ok := pod.Labels[key]; ok {
			prepared.selector = withRequirement(prepared.selector, key, value, false)
		}
	}
	for _, key := range t.MismatchLabelKeys {
		if value, ok := pod.Labels[key]; ok {
			prepared.selector = withRequirement(prepared.selector, key, value, true)
		}
	}
	return prepared
}

func withRequirement(selector labels.Selector, key, value string, not bool) labels.Selector {
	set := metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	if not {
		set = metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: metav1.LabelSelectorOpNotIn, Values: []string{value}}}}
	}
	requirements, _ := selectorOf(&set).Requirements()
	return selector.Add(requirements...)
}

// selectorOf: a missing or an invalid selector (which the API server refuses) matches nothing.
func selectorOf(selector *metav1.LabelSelector) labels.Selector {
	prepared, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return labels.Nothing()
	}
	return prepared
}

func (t term) matches(other *corev1.Pod, snapshot *Snapshot) bool {
	inNamespace := slices.Contains(t.namespaces, other.Namespace) ||
		t.byLabels != nil && t.byLabels.Matches(snapshot.Namespaces[other.Namespace])
	return inNamespace && t.selector.Matches(labels.Set(other.Labels))
}

// places is a set of values of a topology label: "zone z1", "host node-2".
type places map[[2]string]bool

// matching finds the places where a pod runs which the term matches.
func (t term) matching(snapshot *Snapshot) places {
	found := places{}
	for _, node := range snapshot.Nodes {
		value, ok := node.topology(t.topology)
		if ok && slices.ContainsFunc(node.Pods, func(other *corev1.Pod) bool { return t.matches(other, snapshot) }) {
			found[[2]string{t.topology, value}] = true
		}
	}
	return found
}

func (p places) have(node *NodeInfo, key string) bool {
	value, ok := node.topology(key)
	return ok && p[[2]string{key, value}]
}

// podAffinity asks three questions: are the pods there with which this pod wants to be; are those absent
// which it does not want; and do the pods that are there want it?
func podAffinity(pod *corev1.Pod, snapshot *Snapshot) filter {
	near, apart := requiredTerms(pod)
	var nearPlaces, apartPlaces []places
	for _, t := range near {
		nearPlaces = append(nearPlaces, t.matching(snapshot))
	}
	for _, t := range apart {
		apartPlaces = append(apartPlaces, t.matching(snapshot))
	}
	unwanted := unwantedPlaces(pod, snapshot)
	first := firstOfItsKind(pod, near, nearPlaces, snapshot)
	return func(_ *corev1.Pod, node *NodeInfo) refusal {
		for i, t := range near {
			_, labelled := node.topology(t.topology)
			if !labelled || !first && !nearPlaces[i].have(node, t.topology) {
				return neverFits("node(s) didn't match pod affinity rules")
			}
		}
		for i, t := range apart {
			if apartPlaces[i].have(node, t.topology) {
				return refuse("node(s) didn't match pod anti-affinity rules")
			}
		}
		for place := range unwanted {
			if value, ok := node.topology(place[0]); ok && value == place[1] {
				return refuse("node(s) didn't satisfy existing pods anti-affinity rules")
			}
		}
		return refusal{}
	}
}

func requiredTerms(pod *corev1.Pod) (near, apart []term) {
	affinity := pod.Spec.Affinity
	if affinity == nil {
		return nil, nil
	}
	if affinity.PodAffinity != nil {
		near = newTerms(pod, affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
	}
	if affinity.PodAntiAffinity != nil {
		apart = newTerms(pod, affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
	}
	return near, apart
}

// firstOfItsKind: a pod which wants to be with its own kind, and is the first of it, may go anywhere.
// Otherwise such a group could never begin.
func firstOfItsKind(pod *corev1.Pod, near []term, found []places, snapshot *Snapshot) bool {
	if len(near) == 0 {
		return false
	}
	for i, t := range near {
		if len(found[i]) > 0 || !t.matches(pod, snapshot) {
			return false
		}
	}
	return true
}

// unwantedPlaces are where a pod runs whose own anti-affinity excludes this pod.
func unwantedPlaces(pod *corev1.Pod, snapshot *Snapshot) places {
	unwanted := places{}
	for _, node := range snapshot.Nodes {
		for _, other := range node.Pods {
			_, apart := requiredTerms(other)
			for _, t := range apart {
				if value, ok := node.topology(t.topology); ok && t.matches(pod, snapshot) {
					unwanted[[2]string{t.topology, value}] = true
				}
			}
		}
	}
	return unwanted
}

// preferredTerms are the wishes of a pod, wishes to be apart with negative weight.
func preferredTerms(pod *corev1.Pod) []term {
	affinity := pod.Spec.Affinity
	if affinity == nil {
		return nil
	}
	var terms []term
	if affinity.PodAffinity != nil {
		terms = newWeightedTerms(pod, affinity.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution, 1)
	}
	if affinity.PodAntiAffinity != nil {
		terms = append(terms, newWeightedTerms(pod, affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, -1)...)
	}
	return terms
}
