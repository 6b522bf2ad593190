package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// staticPods runs the pods whose manifests lie in a directory of this node, /etc/kubernetes/manifests:
// nobody has to schedule them, and they need no API server, which may be one of them.
//
// So that kubectl shows them all the same, the kubelet makes an image of each in the API, its mirror
// pod. The mirror is for reading: who deletes it finds it made again, and the pod runs on; the pod ends
// when its file goes.
type staticPods struct {
	k     *Kubelet
	dir   string
	owner func() []metav1.OwnerReference // the Node, when it is registered
	wake  chan struct{}

	mu      sync.Mutex
	files   map[string]*corev1.Pod // file → the pod in it, as last read
	workers map[types.UID]*worker  // of static pods, also of those that are ending
	mirrors map[podKey]*corev1.Pod // what the API server has
}

type podKey struct{ namespace, name string }

func keyOf(pod *corev1.Pod) podKey { return podKey{pod.Namespace, pod.Name} }

func newStaticPods(k *Kubelet, dir string) *staticPods {
	return &staticPods{
		k: k, dir: dir, wake: make(chan struct{}, 1), owner: func() []metav1.OwnerReference { return nil },
		files: map[string]*corev1.Pod{}, workers: map[types.UID]*worker{}, mirrors: map[podKey]*corev1.Pod{},
	}
}

// isMirror tells the image of a static pod from a pod of the API.
func isMirror(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

// mirrorOf is the UID of the static pod whose image it is.
func mirrorOf(mirror *corev1.Pod) types.UID {
	return types.UID(mirror.Annotations[corev1.MirrorPodAnnotationKey])
}

// run follows the directory and the mirrors until ctx ends.
func (s *staticPods) run(ctx context.Context) {
	if s.dir == "" {
		return
	}
	changes := watchDir(ctx, s.dir)
	s.sync() // once more: the directory may have changed before it was watched
	var retry quickRetry
	for {
		wait := never
		if s.mirror(ctx) {
			retry.reset()
		} else {
			wait = retry.next()
		}
		select {
		case <-ctx.Done():
			return
		case <-changes:
			s.sync()
		case <-s.wake:
			s.sync()
		case <-time.After(wait):
		}
	}
}

func (s *staticPods) poke() {
	select {
	case s.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// sync reads the directory, starts what is new in it and ends what is gone from it.
func (s *staticPods) sync() {
	if s.dir == "" {
		return
	}
	wanted := s.read()
	s.mu.Lock()
	defer s.mu.Unlock()
	busy := map[podKey]bool{}
	for uid, w := range s.workers {
		if !s.k.has(uid) {
			delete(s.workers, uid) // it has come to its end
			continue
		}
		busy[keyOf(w.current())] = true
		if wanted[uid] == nil {
			w.removed()
		}
	}
	for uid, pod := range wanted {
		// A changed manifest is another pod of the same name: it waits for the end of the old one.
		if s.workers[uid] == nil && !busy[keyOf(pod)] {
			slog.Info("Static pod is wanted", "pod", podName(pod), "uid", uid)
			w := s.k.begin(pod, true)
			s.workers[uid] = w
			if mirror := s.mirrors[keyOf(pod)]; mirror != nil && mirrorOf(mirror) == uid {
				w.mirrored(mirror, false)
			}
			busy[keyOf(pod)] = true
		}
	}
}

// read decodes the manifests. A file which cannot be read keeps the pod it had: an editor may be at it.
func (s *staticPods) read() map[types.UID]*corev1.Pod {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		slog.Warn("Reading manifests of static pods", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	files := map[string]*corev1.Pod{}
	if err != nil {
		files = s.files
	}
	for _, entry := range entries {
		if entry.IsDir() || entry.Name()[0] == '.' {
			continue
		}
		path := filepath.Join(s.dir, entry.Name())
		pod, err := readManifest(path, s.k.cfg.NodeName)
		if err != nil {
			slog.Warn("Skipping manifest of a static pod", "file", path, "error", err)
			pod = s.files[path]
		}
		if pod != nil {
			files[path] = pod
		}
	}
	s.files = files
	wanted, taken := map[types.UID]*corev1.Pod{}, map[podKey]string{}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		pod := files[path]
		if other, ok := taken[keyOf(pod)]; ok {
			slog.Warn("Skipping manifest of a static pod: another file has a pod of this name", "file", path, "other", other, "pod", podName(pod))
			continue
		}
		taken[keyOf(pod)] = path
		wanted[pod.UID] = pod
	}
	return wanted
}

// observe is told of every mirror pod which the API server has on this node.
func (s *staticPods) observe(mirror *corev1.Pod, gone bool) {
	s.mu.Lock()
	if gone {
		if have := s.mirrors[keyOf(mirror)]; have != nil && have.UID == mirror.UID {
			delete(s.mirrors, keyOf(mirror))
		}
	} else {
		s.mirrors[keyOf(mirror)] = mirror
	}
	w := s.workers[mirrorOf(mirror)]
	s.mu.Unlock()
	if w != nil {
		w.mirrored(mirror, gone)
	}
	s.poke()
}

// mirror makes the mirrors that are missing and deletes those that are wrong; false means that
// something has to be tried again.
func (s *staticPods) mirror(ctx context.Context) bool {
	if !s.k.heard() {
		return false // whether a mirror is missing is known when all pods are
	}
	missing, wrong := s.compare()
	var errs []error
	for _, mirror := range wrong {
		errs = append(errs, s.deleteMirror(ctx, mirror))
	}
	for _, pod := range missing {
		errs = append(errs, s.createMirror(ctx, pod))
	}
	if err := errors.Join(errs...); err != nil {
		slog.Debug("Mirroring static pods", "error", err)
		return false
	}
	return true
}

func (s *staticPods) compare() (missing, wrong []*corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ours := map[podKey]types.UID{}
	for uid, w := range s.workers {
		if w.ending() {
			continue
		}
		pod := w.current()
		ours[keyOf(pod)] = uid
		if s.mirrors[keyOf(pod)] == nil {
			missing = append(missing, pod)
		}
	}
	for key, mirror := range s.mirrors {
		if ours[key] != mirrorOf(mirror) || mirror.DeletionTimestamp != nil {
			wrong = append(wrong, mirror)
		}
	}
	return missing, wrong
}

func (s *staticPods) createMirror(ctx context.Context, pod *corev1.Pod) error {
	owner := s.owner()
	if len(owner) == 0 {
		return errors.New("node is not registered yet")
	}
	owner[0].Controller = new(true)
	mirror := &corev1.Pod{ObjectMeta: *pod.ObjectMeta.DeepCopy(), Spec: *pod.Spec.DeepCopy()}
	mirror.UID, mirror.OwnerReferences = "", owner
	mirror.Annotations[corev1.MirrorPodAnnotationKey] = string(pod.UID)
	made, err := s.k.client.CoreV1().Pods(pod.Namespace).Create(ctx, mirror, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // the watch is about to tell
	}
	if err != nil {
		slog.Warn("Making mirror of a static pod", "pod", podName(pod), "error", err)
		return fmt.Errorf("make mirror of static pod %s: %w", podName(pod), err)
	}
	s.observe(made, false)
	return nil
}

func (s *staticPods) deleteMirror(ctx context.Context, mirror *corev1.Pod) error {
	now := int64(0)
	err := s.k.client.CoreV1().Pods(mirror.Namespace).Delete(ctx, mirror.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &mirror.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete mirror of static pod %s: %w", podName(mirror), err)
	}
	s.observe(mirror, true)
	return nil
}
