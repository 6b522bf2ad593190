package kubelet

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
)

type objectKind = runtime.Object

// newRecorder sends events to the API server, after the starts which are under way; equal ones in a row
// become one with a count.
func newRecorder(ctx context.Context, client kubernetes.Interface, node string, starts *gate) record.EventRecorder {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	server := &typedv1.EventSinkImpl{Interface: client.CoreV1().Events("")}
	broadcaster.StartRecordingToSink(lateSink{server, ctx, starts})
	return broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: node})
}

// lateSink holds an event back while pods wait for their start. Their order stays.
type lateSink struct {
	record.EventSink
	ctx    context.Context
	starts *gate
}

// maxEventDelay is the longest that an event is held back: who looks on shall see what happens.
const maxEventDelay = time.Second

func (s lateSink) Create(event *corev1.Event) (*corev1.Event, error) {
	s.await(event)
	return s.EventSink.Create(event)
}

func (s lateSink) Patch(event *corev1.Event, patch []byte) (*corev1.Event, error) {
	s.await(event)
	return s.EventSink.Patch(event, patch)
}

func (s lateSink) await(event *corev1.Event) {
	ctx, cancel := context.WithDeadline(s.ctx, event.LastTimestamp.Add(maxEventDelay))
	defer cancel()
	if s.starts.enter(ctx, telling) {
		s.starts.leave() // it was only a question of the turn: a start need not wait for a request
	}
}

// event tells what happened to a pod; path is the part of it which is meant, spec.containers{web}, or
// empty for the pod itself.
func (k *Kubelet) event(pod *corev1.Pod, path, kind, reason, message string) {
	k.recorder.Event(podReference(pod, path), kind, reason, message)
}

func podReference(pod *corev1.Pod, path string) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		ResourceVersion: pod.ResourceVersion, FieldPath: path,
	}
}

func containerPath(pod *corev1.Pod, c *corev1.Container) string {
	if isInit(pod, c) {
		return "spec.initContainers{" + c.Name + "}"
	}
	if ephemeral(pod, c.Name) != nil {
		return "spec.ephemeralContainers{" + c.Name + "}"
	}
	return "spec.containers{" + c.Name + "}"
}

// podName is a pod's name in logs.
func podName(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

// podFullName is a pod's name in upstream's messages: web_default(UID).
func podFullName(pod *corev1.Pod) string {
	return pod.Name + "_" + pod.Namespace + "(" + string(pod.UID) + ")"
}
