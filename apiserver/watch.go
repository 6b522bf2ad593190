package apiserver

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/apiserver/store"
)

// A watch ends by itself after 30 to 60 minutes, so that clients spread over
// several API servers in time; they take it up again where it was.
const minWatch = 30 * time.Minute

// bookmarkEvery is how often a quiet watch is told the current revision, so
// that it can be taken up again without a list.
const bookmarkEvery = time.Minute

// watch answers GET …?watch=true with a stream of events.
//
//	{"type":"ADDED","object":{…}}
//	{"type":"MODIFIED","object":{…}}
//	{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1234"}}}
func (s *Server) watch(w http.ResponseWriter, r *request) error {
	f, err := negotiateList(r.Request)
	if err != nil {
		return err
	}
	if f.info.StreamSerializer == nil {
		return errListNotAcceptable
	}
	q := r.URL.Query()
	if r.name != "" {
		q.Set("fieldSelector", "metadata.name="+r.name)
	}
	o, err := listOptionsOf(q, true)
	if err != nil {
		return err
	}
	match, err := newMatcher(r.kind, o)
	if err != nil {
		return err
	}
	out := s.newEventWriter(w, r, f)
	start, err := s.startWatch(r, o)
	if err != nil {
		if old, ok := errors.AsType[*store.TooOldError](err); ok {
			out.fail(apierrors.NewResourceExpired(old.Error()))
			return nil
		}
		return apiError(err, r.kind.GR(), "")
	}
	defer start.watcher.Stop()
	s.stream(r, o, match, start, out)
	return nil
}

// watchStart is what a watch begins with: the objects that are there, when
// the client wants them, and the changes after them.
type watchStart struct {
	initial  []resource.Object
	revision int64
	watcher  *store.Watcher
	bookmark bool // mark the end of the initial objects
}

func (s *Server) startWatch(r *request, o listOptions) (watchStart, error) {
	revision := store.ParseRevision(o.version)
	wantsList := o.version == "" || o.version == "0"
	if o.sendInitialEvents != nil {
		wantsList = *o.sendInitialEvents
	}
	if !wantsList {
		if revision == 0 {
			revision = s.store.CachedRevision()
		}
		watcher, err := s.store.WatchFrom(r.kind.Prefix, revision)
		return watchStart{watcher: watcher, revision: revision}, err
	}
	// Without a resourceVersion the client wants all that was written by now.
	if o.version == "" {
		var err error
		if revision, err = s.store.Revision(r.Context()); err != nil {
			return watchStart{}, err
		}
	}
	objects, at, watcher, err := s.store.WatchList(r.Context(), r.kind.Prefix, r.kind.Under(r.namespace), revision)
	return watchStart{
		initial: objects, revision: at, watcher: watcher,
		bookmark: o.sendInitialEvents != nil && o.bookmarks,
	}, err
}

// stream sends events until the client goes, the time is over, or the server
// stops.
func (s *Server) stream(r *request, o listOptions, match matcher, start watchStart, out *eventWriter) {
	out.mustTakeSoon()
	for _, obj := range start.initial {
		if match.matches(obj) {
			out.event(store.Added, obj)
		}
	}
	if start.bookmark {
		out.bookmark(start.revision, true)
	}
	out.flush()

	timeout := minWatch + rand.N(minWatch)
	if o.timeoutSeconds > 0 {
		timeout = time.Duration(o.timeoutSeconds) * time.Second
	}
	end := time.NewTimer(timeout)
	defer end.Stop()
	marks := time.NewTicker(bookmarkEvery)
	defer marks.Stop()
	for out.err == nil {
		select {
		case <-r.Context().Done():
			return
		case <-s.stopping:
			return
		case <-end.C:
			out.mustTakeSoon()
			out.mark(o, start.watcher)
			out.flush()
			return
		case <-marks.C:
			out.mustTakeSoon()
			out.mark(o, start.watcher)
			out.flush()
		case <-start.watcher.Ready():
			out.mustTakeSoon()
			events, more := start.watcher.Take()
			for _, ev := range events {
				if r.namespace == "" || !r.kind.Namespaced || ev.Object.GetNamespace() == r.namespace {
					out.change(match, ev)
				}
			}
			out.flush()
			if !more {
				return
			}
		}
	}
}

// eventWriter encodes events into the response.
type eventWriter struct {
	w       http.ResponseWriter
	r       *request
	f       format
	frames  io.Writer
	unread  time.Duration // how long the client may leave what was sent unread
	columns bool          // a table's columns are sent once
	err     error
}

func (s *Server) newEventWriter(w http.ResponseWriter, r *request, f format) *eventWriter {
	contentType := f.info.MediaType
	if contentType != mediaJSON {
		contentType += ";stream=watch"
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-cache, private")
	return &eventWriter{w: w, r: r, f: f, frames: f.info.StreamSerializer.Framer.NewFrameWriter(w), columns: true, unread: orDefault(s.cfg.UnreadTimeout, defaultUnreadTimeout)}
}

// change tells what an event means to a client with a selector: an object that
// no longer matches is DELETED to it, one that begins to match is ADDED.
func (e *eventWriter) change(match matcher, ev store.Event) {
	now := ev.Type != store.Deleted && match.matches(ev.Object)
	before := ev.Previous != nil && match.matches(ev.Previous)
	switch {
	case now && !before:
		e.event(store.Added, ev.Object)
	case now:
		e.event(store.Modified, ev.Object)
	case before && ev.Type == store.Deleted:
		e.event(store.Deleted, ev.Object)
	case before:
		// The last state that matched, with the revision that ended it.
		last := ev.Previous.DeepCopyObject().(resource.Object)
		last.SetResourceVersion(ev.Object.GetResourceVersion())
		e.event(store.Deleted, last)
	}
}

func (e *eventWriter) event(kind store.EventType, obj resource.Object) {
	if e.err != nil {
		return
	}
	v, err := e.view(obj)
	if err != nil {
		e.fail(err)
		return
	}
	e.send(string(kind), v)
}

func (e *eventWriter) view(obj resource.Object) (runtime.Object, error) {
	if e.f.as == "Table" {
		t, err := tableOf(e.r.Request, e.r.kind, []resource.Object{obj}, metav1.ListMeta{ResourceVersion: obj.GetResourceVersion()}, e.columns)
		e.columns = false
		return t, err
	}
	f := e.f
	if f.as == "PartialObjectMetadataList" {
		f.as = "PartialObjectMetadata"
	}
	return view(f, e.r.Request, e.r.kind, obj)
}

// bookmark sends an empty object that carries a revision.
func (e *eventWriter) bookmark(revision int64, initialEnd bool) {
	obj := e.r.kind.Stored().New()
	obj.GetObjectKind().SetGroupVersionKind(e.r.kind.Stored().GVK())
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	if initialEnd {
		obj.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	v, err := e.view(obj)
	if err != nil {
		e.err = err
		return
	}
	e.send("BOOKMARK", v)
}

// mark sends a bookmark when the client wants them and has seen everything.
func (e *eventWriter) mark(o listOptions, watcher *store.Watcher) {
	if !o.bookmarks {
		return
	}
	if revision, ok := watcher.Bookmark(); ok {
		e.bookmark(revision, false)
	}
}

// fail sends an ERROR event: the response's code is 200 by then.
func (e *eventWriter) fail(err error) {
	status := statusOf(err)
	e.send("ERROR", &status)
	e.flush()
	e.err = err
}

func (e *eventWriter) send(kind string, obj runtime.Object) {
	if e.err != nil {
		return
	}
	made := frames.Get().(*frame)
	defer made.free()
	if err := encode(e.f.info.Serializer, obj, &made.object); err != nil {
		slog.Error("watch event cannot be encoded", "path", e.r.URL.Path, "err", err)
		e.err = err
		return
	}
	event := &metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: bytes.TrimSuffix(made.object.Bytes(), []byte("\n"))}}
	if err := encode(e.f.info.StreamSerializer.Serializer, event, &made.event); err != nil {
		e.err = err
		return
	}
	_, e.err = e.frames.Write(made.event.Bytes())
}

// frame is the memory in which an event is made, used again by the next.
type frame struct{ object, event bytes.Buffer }

var frames = sync.Pool{New: func() any { return &frame{} }}

func (f *frame) free() {
	f.object.Reset()
	f.event.Reset()
	frames.Put(f)
}

// mustTakeSoon ends the watch of a client that does not read what is written
// from now to the next flush: its connection and a goroutine would be held for
// ever.
func (e *eventWriter) mustTakeSoon() {
	// Only a connection that is closed already refuses a deadline.
	_ = http.NewResponseController(e.w).SetWriteDeadline(time.Now().Add(e.unread))
}

// flush ends what mustTakeSoon began: HTTP/2 resets a stream whose deadline
// passes, even one on which nothing waits to be written.
func (e *eventWriter) flush() {
	control := http.NewResponseController(e.w)
	if err := control.Flush(); err != nil && e.err == nil {
		e.err = err
	}
	_ = control.SetWriteDeadline(time.Time{})
}
