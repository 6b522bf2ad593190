package resource

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Pod is the group of containers that shares an address.
var Pod = &Kind{
	GroupVersion: corev1.SchemeGroupVersion,
	Kind:         "Pod", Plural: "pods", Singular: "pod", ShortNames: []string{"po"}, Categories: []string{"all"},
	Namespaced: true, Prefix: "/registry/pods/",
	New:           func() Object { return &corev1.Pod{} },
	NewList:       func() runtime.Object { return &corev1.PodList{} },
	Default:       on(defaultPod),
	Prepare:       onBoth(preparePod),
	Warn:          warnBoth(warnPod),
	Validate:      check(validatePod),
	Fields:        selectable(podFields),
	Status:        true,
	Generation:    true,
	ReturnDeleted: true,
	Subresources: []Subresource{
		{Name: "attach", Kind: "PodAttachOptions", Verbs: []string{"create", "get"}},
		{Name: "binding", Kind: "Binding", Verbs: []string{"create"}},
		{Name: "ephemeralcontainers", Kind: "Pod", Verbs: []string{"get", "patch", "update"}},
		{Name: "eviction", Kind: "Eviction", GroupVersion: policyV1, Verbs: []string{"create"}},
		{Name: "exec", Kind: "PodExecOptions", Verbs: []string{"create", "get"}},
		{Name: "log", Kind: "Pod", Verbs: []string{"get"}},
		{Name: "portforward", Kind: "PodPortForwardOptions", Verbs: []string{"create", "get"}},
		proxyThrough("PodProxyOptions"),
	},
	CheckPart: map[string]func(obj, old Object) field.ErrorList{"ephemeralcontainers": check(validateEphemeralPart)},
	Columns: []metav1.TableColumnDefinition{
		column("Name", "string"), column("Ready", "string"), column("Status", "string"), column("Restarts", "string"), column("Age", "string"),
		wide("IP", "string"), wide("Node", "string"), wide("Nominated Node", "string"), wide("Readiness Gates", "string"),
	},
	Row: row(podRow),
}

// proxyThrough is the subresource proxy, which passes HTTP on.
func proxyThrough(kind string) Subresource {
	return Subresource{Name: "proxy", Kind: kind, Verbs: []string{"create", "delete", "get", "patch", "update"}}
}

func podFields(p *corev1.Pod) fields.Set {
	return fields.Set{
		"spec.nodeName":            p.Spec.NodeName,
		"spec.restartPolicy":       string(p.Spec.RestartPolicy),
		"spec.schedulerName":       p.Spec.SchedulerName,
		"spec.serviceAccountName":  p.Spec.ServiceAccountName,
		"spec.hostNetwork":         strconv.FormatBool(p.Spec.HostNetwork),
		"status.phase":             string(p.Status.Phase),
		"status.podIP":             podIP(p),
		"status.nominatedNodeName": p.Status.NominatedNodeName,
	}
}

func podIP(p *corev1.Pod) string {
	if len(p.Status.PodIPs) > 0 {
		return p.Status.PodIPs[0].IP
	}
	return p.Status.PodIP
}

// preparePod keeps clients from writing status through the pod itself, and
// computes what follows from the spec.
func preparePod(p, old *corev1.Pod) {
	if old == nil {
		p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: qosClass(p)}
		if len(p.Spec.SchedulingGates) > 0 {
			p.Status.Conditions = []corev1.PodCondition{{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
				Message: "Scheduling is blocked due to non-empty scheduling gates", LastTransitionTime: metav1.Now().Rfc3339Copy(),
			}}
		}
	}
}

// podRow is a pod's line in `kubectl get pods`.
func podRow(p *corev1.Pod, now time.Time) []any {
	s := summarise(p)
	restarts := strconv.Itoa(s.restarts)
	if s.restarts > 0 && !s.lastRestart.IsZero() {
		restarts = fmt.Sprintf("%d (%s ago)", s.restarts, age(s.lastRestart, now))
	}
	gates := "<none>"
	if len(p.Spec.ReadinessGates) > 0 {
		gates = fmt.Sprintf("%d/%d", trueGates(p), len(p.Spec.ReadinessGates))
	}
	return []any{
		p.Name, fmt.Sprintf("%d/%d", s.ready, s.total), s.status, restarts, created(p, now),
		orNone(podIP(p)), orNone(p.Spec.NodeName), orNone(p.Status.NominatedNodeName), gates,
	}
}

func trueGates(p *corev1.Pod) int {
	n := 0
	for _, gate := range p.Spec.ReadinessGates {
		for _, c := range p.Status.Conditions {
			if c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue {
				n++
				break
			}
		}
	}
	return n
}

// podSummary is what the columns READY, STATUS and RESTARTS say.
type podSummary struct {
	status       string
	ready, total int
	restarts     int
	lastRestart  metav1.Time
}

// summarise finds the one word that tells best how a pod is doing: the first
// init container that is not through, else the last container that is not
// well, else the phase.
func summarise(p *corev1.Pod) podSummary {
	s := podSummary{status: string(p.Status.Phase), total: len(p.Spec.Containers)}
	if p.Status.Reason != "" {
		s.status = p.Status.Reason
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			s.status = corev1.PodReasonSchedulingGated
		}
	}
	sidecars := map[string]bool{}
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars[c.Name] = true
			s.total++
		}
	}
	initializing := s.addInitContainers(p, sidecars)
	if !initializing || conditionTrue(p, corev1.PodInitialized) {
		s.addContainers(p, initializing)
	}
	if p.DeletionTimestamp != nil {
		switch {
		case p.Status.Reason == "NodeLost":
			s.status = "Unknown"
		case p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded:
			s.status = "Terminating"
		}
	}
	return s
}

// addInitContainers returns true when one of them is still to come to its end.
func (s *podSummary) addInitContainers(p *corev1.Pod, sidecars map[string]bool) bool {
	var sidecarRestarts int
	var sidecarLast metav1.Time
	for i, c := range p.Status.InitContainerStatuses {
		s.restarts += int(c.RestartCount)
		s.sawRestart(c)
		if sidecars[c.Name] {
			sidecarRestarts += int(c.RestartCount)
			if t := c.LastTerminationState.Terminated; t != nil && sidecarLast.Before(&t.FinishedAt) {
				sidecarLast = t.FinishedAt
			}
		}
		switch {
		case c.State.Terminated != nil && c.State.Terminated.ExitCode == 0:
			continue
		case sidecars[c.Name] && c.Started != nil && *c.Started:
			if c.Ready {
				s.ready++
			}
			continue
		case c.State.Terminated != nil:
			s.status = "Init:" + terminatedText(c.State.Terminated)
		case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing":
			s.status = "Init:" + c.State.Waiting.Reason
		default:
			s.status = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return true
	}
	// Once all are through, the init containers' restarts are history; those
	// of sidecars still count.
	s.restarts, s.lastRestart = sidecarRestarts, sidecarLast
	return false
}

func (s *podSummary) addContainers(p *corev1.Pod, initializing bool) {
	if initializing {
		s.restarts = 0
	}
	running := false
	for _, c := range slices.Backward(p.Status.ContainerStatuses) {

		s.restarts += int(c.RestartCount)
		s.sawRestart(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.status = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.status = terminatedText(c.State.Terminated)
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	// One container is done, others go on.
	if s.status == "Completed" && running {
		s.status = "NotReady"
		if conditionTrue(p, corev1.PodReady) {
			s.status = "Running"
		}
	}
}

func (s *podSummary) sawRestart(c corev1.ContainerStatus) {
	if t := c.LastTerminationState.Terminated; t != nil && s.lastRestart.Before(&t.FinishedAt) {
		s.lastRestart = t.FinishedAt
	}
}

func terminatedText(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	default:
		return fmt.Sprintf("ExitCode:%d", t.ExitCode)
	}
}

func conditionTrue(p *corev1.Pod, kind corev1.PodConditionType) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
