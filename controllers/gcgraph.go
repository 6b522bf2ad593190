package controllers

import (
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ownerGraph knows every object of the cluster by UID, and who depends on whom.
type ownerGraph struct {
	mu         sync.Mutex
	objects    map[types.UID]*graphObject
	dependents map[types.UID]map[types.UID]bool // owner → dependents; the owner itself may be unknown
}

// graphObject is what the graph knows of an object: the last metadata which the watch showed.
type graphObject struct {
	kind resourceType
	meta *metav1.PartialObjectMetadata
}

func newOwnerGraph() *ownerGraph {
	return &ownerGraph{objects: map[types.UID]*graphObject{}, dependents: map[types.UID]map[types.UID]bool{}}
}

// set notes an object and its owners.
func (g *ownerGraph) set(kind resourceType, meta *metav1.PartialObjectMetadata) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unlink(meta.UID)
	g.objects[meta.UID] = &graphObject{kind, meta}
	for _, owner := range meta.OwnerReferences {
		if g.dependents[owner.UID] == nil {
			g.dependents[owner.UID] = map[types.UID]bool{}
		}
		g.dependents[owner.UID][meta.UID] = true
	}
}

// remove forgets an object; its dependents stay, as dependents of somebody who is gone.
func (g *ownerGraph) remove(uid types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unlink(uid)
	delete(g.objects, uid)
}

func (g *ownerGraph) unlink(uid types.UID) {
	before, ok := g.objects[uid]
	if !ok {
		return
	}
	for _, owner := range before.meta.OwnerReferences {
		delete(g.dependents[owner.UID], uid)
		if len(g.dependents[owner.UID]) == 0 {
			delete(g.dependents, owner.UID)
		}
	}
}

func (g *ownerGraph) get(uid types.UID) (*graphObject, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	object, ok := g.objects[uid]
	return object, ok
}

func (g *ownerGraph) dependentsOf(uid types.UID) []*graphObject {
	g.mu.Lock()
	defer g.mu.Unlock()
	var dependents []*graphObject
	for dependent := range g.dependents[uid] {
		if object, ok := g.objects[dependent]; ok {
			dependents = append(dependents, object)
		}
	}
	return dependents
}

// blockers are the dependents which a foreground deletion of uid waits for: those which say so in their
// owner reference.
func blockers(uid types.UID, dependents []*graphObject) []*graphObject {
	return slices.DeleteFunc(slices.Clone(dependents), func(d *graphObject) bool {
		return !slices.ContainsFunc(d.meta.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == uid && blocks(r) })
	})
}

func blocks(r metav1.OwnerReference) bool {
	return r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion
}

// closesCircle: the object blocks an owner, and somebody whom it owns waits already. Where pod1 owns pod2, pod2
// owns pod3 and pod3 owns pod1, a foreground deletion of pod1 comes to pod3, for which pod2 waits, and which
// would wait for pod1: none of the three could ever go.
func closesCircle(object *graphObject, dependents []*graphObject) bool {
	return slices.ContainsFunc(object.meta.OwnerReferences, blocks) &&
		slices.ContainsFunc(dependents, func(d *graphObject) bool { return inForeground(d.meta) })
}

// inForeground: the object is being deleted, and waits until its dependents are.
func inForeground(meta metav1.Object) bool {
	return meta.GetDeletionTimestamp() != nil && slices.Contains(meta.GetFinalizers(), metav1.FinalizerDeleteDependents)
}

// orphaning: the object is being deleted, and its dependents are to stay.
func orphaning(meta metav1.Object) bool {
	return meta.GetDeletionTimestamp() != nil && slices.Contains(meta.GetFinalizers(), metav1.FinalizerOrphanDependents)
}

// verdict is what happens to an object, by the state of its owners.
type verdict int

const (
	keepIt   verdict = iota // an owner lives, or it has none
	unlinkIt                // an owner lives, others are gone: drop the references to those
	deleteIt                // no owner lives
)

type ownerState int

const (
	ownerLives   ownerState = iota
	ownerGone               // deleted
	ownerWaiting            // in foreground deletion: it waits for this very object
)

// judge is the whole policy of garbage collection.
func judge(owners []ownerState) verdict {
	lives := slices.Contains(owners, ownerLives)
	switch {
	case len(owners) == 0 || lives && !slices.ContainsFunc(owners, func(s ownerState) bool { return s != ownerLives }):
		return keepIt
	case lives:
		return unlinkIt
	default:
		return deleteIt
	}
}
