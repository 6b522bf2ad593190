package scheduler

import (
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// state follows the watches and hands out snapshots. The sums of a node are computed again only when
// something on that node has changed.
type state struct {
	mu         sync.Mutex
	nodes      map[string]*corev1.Node
	pods       map[types.UID]*corev1.Pod // those with a node, bound or assumed
	infos      map[string]*NodeInfo      // computed; missing after a change
	namespaces map[string]labels.Set
	services   map[types.UID]*corev1.Service
	budgets    map[types.UID]*policyv1.PodDisruptionBudget
	nominated  map[types.UID]*corev1.Pod // those for which others were evicted, with the node's name in their status
}

func newState() *state {
	return &state{
		nodes: map[string]*corev1.Node{}, pods: map[types.UID]*corev1.Pod{}, infos: map[string]*NodeInfo{},
		namespaces: map[string]labels.Set{}, services: map[types.UID]*corev1.Service{},
		budgets: map[types.UID]*policyv1.PodDisruptionBudget{}, nominated: map[types.UID]*corev1.Pod{},
	}
}

func (s *state) setNode(node *corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[node.Name] = node
	delete(s.infos, node.Name)
}

func (s *state) removeNode(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, name)
	delete(s.infos, name)
}

// setPod notes that a pod runs, or will run, on its spec.nodeName.
func (s *state) setPod(pod *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods[pod.UID] = pod
	delete(s.nominated, pod.UID)
	delete(s.infos, pod.Spec.NodeName)
}

func (s *state) removePod(pod *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.pods[pod.UID]; ok {
		delete(s.pods, pod.UID)
		delete(s.infos, known.Spec.NodeName)
	}
}

// forget undoes setPod for a pod whose binding was refused, unless its watch has told us better meanwhile.
func (s *state) forget(assumed *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pods[assumed.UID] == assumed {
		delete(s.pods, assumed.UID)
		delete(s.infos, assumed.Spec.NodeName)
	}
}

// placed tells whether the pod has a node, although its own watch may not say so yet.
func (s *state) placed(uid types.UID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.pods[uid]
	return ok
}

// nominate notes for which node a waiting pod has made room; an empty name takes it back.
func (s *state) nominate(pod *corev1.Pod, node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if node == "" {
		delete(s.nominated, pod.UID)
		return
	}
	coming := pod.DeepCopy()
	coming.Status.NominatedNodeName = node
	s.nominated[pod.UID] = coming
}

// withNomination is the pod with the node which is nominated for it; its own watch may not say so yet.
func (s *state) withNomination(pod *corev1.Pod) *corev1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	node := ""
	if coming, ok := s.nominated[pod.UID]; ok {
		node = coming.Status.NominatedNodeName
	}
	if node == pod.Status.NominatedNodeName {
		return pod
	}
	changed := pod.DeepCopy()
	changed.Status.NominatedNodeName = node
	return changed
}

func (s *state) setBudget(budget *policyv1.PodDisruptionBudget) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budgets[budget.UID] = budget
}

func (s *state) removeBudget(budget *policyv1.PodDisruptionBudget) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.budgets, budget.UID)
}

func (s *state) setNamespace(namespace *corev1.Namespace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.namespaces[namespace.Name] = namespace.Labels
}

func (s *state) setService(service *corev1.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services[service.UID] = service
}

func (s *state) removeService(service *corev1.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.services, service.UID)
}

// snapshot is a consistent picture; nothing in it is changed afterwards.
func (s *state) snapshot() *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.infos) < len(s.nodes) {
		s.compute()
	}
	snapshot := &Snapshot{
		Namespaces: maps.Clone(s.namespaces), Services: slices.Collect(maps.Values(s.services)),
		Budgets: slices.Collect(maps.Values(s.budgets)), Nominated: map[string][]*corev1.Pod{},
	}
	for _, pod := range s.nominated {
		node := pod.Status.NominatedNodeName
		snapshot.Nominated[node] = append(snapshot.Nominated[node], pod)
	}
	for _, info := range s.infos {
		snapshot.Nodes = append(snapshot.Nodes, info)
	}
	slices.SortFunc(snapshot.Nodes, func(a, b *NodeInfo) int { return strings.Compare(a.Node.Name, b.Node.Name) })
	return snapshot
}

func (s *state) compute() {
	byNode := map[string][]*corev1.Pod{}
	for _, pod := range s.pods {
		if _, fresh := s.infos[pod.Spec.NodeName]; !fresh {
			byNode[pod.Spec.NodeName] = append(byNode[pod.Spec.NodeName], pod)
		}
	}
	for name, node := range s.nodes {
		if _, fresh := s.infos[name]; !fresh {
			s.infos[name] = newNodeInfo(node, byNode[name])
		}
	}
}
