package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// outlook is what a client wants to see.
type outlook struct {
	name      string
	namespace string
	selection metav1.ListOptions
	streamed  bool // begins with a watch that sends what is there, not with a list
	matches   func(*corev1.ConfigMap) bool
}

var outlooks = []outlook{
	{name: "all", matches: func(*corev1.ConfigMap) bool { return true }},
	{name: "all, streamed", streamed: true, matches: func(*corev1.ConfigMap) bool { return true }},
	{name: "one namespace", namespace: metav1.NamespaceDefault, matches: func(cm *corev1.ConfigMap) bool { return cm.Namespace == metav1.NamespaceDefault }},
	{name: "what is red", selection: metav1.ListOptions{LabelSelector: "color=red"}, matches: func(cm *corev1.ConfigMap) bool { return cm.Labels["color"] == "red" }},
	{name: "one name", selection: metav1.ListOptions{FieldSelector: "metadata.name=cm-3"}, streamed: true, matches: func(cm *corev1.ConfigMap) bool { return cm.Name == "cm-3" }},
}

// sight is what a client was told: an event, a bookmark, or a whole list.
type sight struct {
	kind     watch.EventType // "LIST" for a list
	key      string
	revision int64
	listed   map[string]int64 // revision of each object
}

const listSight watch.EventType = "LIST"

// spectator watches, takes a broken watch up again at the other server, and
// lists anew when it is told to.
type spectator struct {
	id      int
	view    outlook
	clients []kubernetes.Interface
	using   int
	version string // where it is; "" before a list
	seen    []sight
	done    bool

	events, lists, resumed int
}

func newSpectator(id int, clients []kubernetes.Interface) *spectator {
	return &spectator{id: id, view: outlooks[id%len(outlooks)], clients: clients, using: id / len(outlooks) % len(clients)}
}

func (s *spectator) run(ctx context.Context) {
	for ctx.Err() == nil && !s.done {
		if err := s.follow(ctx); err == nil || apierrors.IsResourceExpired(err) {
			continue
		}
		s.using = (s.using + 1) % len(s.clients)
		select { // perhaps that one is away, too
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (s *spectator) follow(ctx context.Context) error {
	api := s.clients[s.using].CoreV1().ConfigMaps(s.view.namespace)
	o := s.view.selection
	o.AllowWatchBookmarks = true
	initial := map[string]int64(nil)
	switch {
	case s.version != "":
		o.ResourceVersion = s.version
		s.resumed++
	case s.view.streamed:
		yes := true
		o.SendInitialEvents, o.ResourceVersionMatch = &yes, metav1.ResourceVersionMatchNotOlderThan
		initial = map[string]int64{}
	default:
		list, err := api.List(ctx, s.view.selection)
		if err != nil {
			return err
		}
		s.listed(list)
		o.ResourceVersion = s.version
	}
	w, err := api.Watch(ctx, o)
	if err != nil {
		return s.expired(err)
	}
	defer w.Stop()
	for ev := range w.ResultChan() {
		if ev.Type == watch.Error {
			return s.expired(apierrors.FromObject(ev.Object))
		}
		cm := ev.Object.(*corev1.ConfigMap)
		if initial != nil {
			if initial = s.begin(ev.Type, cm, initial); initial == nil && s.done {
				return nil
			}
			continue
		}
		if s.take(ev.Type, cm); s.done {
			return nil
		}
	}
	return errors.New("watch ended")
}

// expired: what follows version is forgotten, so begin anew.
func (s *spectator) expired(err error) error {
	if apierrors.IsResourceExpired(err) {
		s.version = ""
	}
	return err
}

func (s *spectator) listed(list *corev1.ConfigMapList) {
	items := map[string]int64{}
	for i := range list.Items {
		s.put(items, &list.Items[i])
	}
	s.version = list.ResourceVersion
	s.lists++
	s.seen = append(s.seen, sight{kind: listSight, revision: number(list.ResourceVersion), listed: items})
}

// begin takes the objects that are there, up to the bookmark behind them; then
// it returns nil.
func (s *spectator) begin(kind watch.EventType, cm *corev1.ConfigMap, items map[string]int64) map[string]int64 {
	if kind == watch.Added {
		s.put(items, cm)
		return items
	}
	s.version = cm.ResourceVersion
	s.lists++
	s.seen = append(s.seen, sight{kind: listSight, revision: number(cm.ResourceVersion), listed: items})
	return nil
}

func (s *spectator) put(items map[string]int64, cm *corev1.ConfigMap) {
	items[cm.Namespace+"/"+cm.Name] = number(cm.ResourceVersion)
	s.done = s.done || cm.Data["n"] == theEnd
}

func (s *spectator) take(kind watch.EventType, cm *corev1.ConfigMap) {
	s.version = cm.ResourceVersion
	s.seen = append(s.seen, sight{kind: kind, key: cm.Namespace + "/" + cm.Name, revision: number(cm.ResourceVersion)})
	if kind != watch.Bookmark {
		s.events++
		s.done = cm.Data["n"] == theEnd
	}
}

func number(resourceVersion string) int64 {
	n, _ := strconv.ParseInt(resourceVersion, 10, 64)
	return n
}

// check goes through etcd's history beside what was seen.
func (s *spectator) check(records []record) error {
	now := map[string]*record{} // the matching objects at this point of the history
	at := 0
	next := func() (sight, bool) { // what has to be told next
		for at < len(records) {
			r := &records[at]
			at++
			if ev, ok := s.step(now, r); ok {
				return ev, true
			}
		}
		return sight{}, false
	}
	for i, have := range s.seen {
		switch have.kind {
		case listSight, watch.Bookmark:
			first := at
			for at < len(records) && records[at].revision <= have.revision {
				ev, ok := s.step(now, &records[at])
				if at++; ok && have.kind == watch.Bookmark {
					return fmt.Errorf("bookmark %d, %s %s of %d was not told", have.revision, ev.kind, ev.key, ev.revision)
				}
			}
			if first > 0 && records[first-1].revision > have.revision {
				return fmt.Errorf("%s of %d comes after %d", have.kind, have.revision, records[first-1].revision)
			}
			if have.kind == listSight {
				if err := sameObjects(now, have); err != nil {
					return err
				}
			}
		default:
			want, ok := next()
			if !ok || want.kind != have.kind || want.key != have.key || want.revision != have.revision {
				return fmt.Errorf("told %d is %s %s of %d, etcd has %s %s of %d", i, have.kind, have.key, have.revision, want.kind, want.key, want.revision)
			}
		}
	}
	if ev, ok := next(); ok {
		return fmt.Errorf("%s %s of %d was not told", ev.kind, ev.key, ev.revision)
	}
	return nil
}

// step applies one record and says what it means to this client, if anything.
func (s *spectator) step(now map[string]*record, r *record) (sight, bool) {
	ev := sight{key: r.key, revision: r.revision}
	_, before := now[r.key]
	after := r.object != nil && s.view.matches(r.object)
	switch {
	case before && after:
		ev.kind, now[r.key] = watch.Modified, r
	case after:
		ev.kind, now[r.key] = watch.Added, r
	case before:
		ev.kind = watch.Deleted
		delete(now, r.key)
	}
	return ev, before || after
}

func sameObjects(now map[string]*record, list sight) error {
	if len(now) != len(list.listed) {
		return fmt.Errorf("list of %d has %d objects, etcd had %d", list.revision, len(list.listed), len(now))
	}
	for key, r := range now {
		if list.listed[key] != r.revision {
			return fmt.Errorf("list of %d has %s of %d, etcd had it of %d", list.revision, key, list.listed[key], r.revision)
		}
	}
	return nil
}
