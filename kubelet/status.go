package kubelet

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podresource "k8s.io/component-helpers/resource"

	"github.com/podarium/podarium/kubelet/image"
	"github.com/podarium/podarium/kubelet/runtime"
	"github.com/podarium/podarium/kubelet/shim"
)

// facts are all that a pod's status follows from.
type facts struct {
	pod        *corev1.Pod
	sandbox    *sandboxRecord
	containers map[string]*container
	failure    *podFailure
	stopped    bool             // nothing runs any more and the sandbox is gone
	ended      bool             // and the API object is deleted as soon as this status is written
	before     corev1.PodStatus // the last one, which the API server may not have answered to yet
	nodeIPs    []string
	startTime  metav1.Time
	now        metav1.Time
}

// podStatus computes a pod's status. The old one is needed for what others wrote into it and for the
// times at which conditions changed.
func podStatus(f facts) corev1.PodStatus {
	old := f.pod.Status
	status := corev1.PodStatus{
		Phase:             f.phase(),
		Conditions:        slices.Clone(old.Conditions),
		StartTime:         &f.startTime,
		QOSClass:          qosClass(f.pod),
		NominatedNodeName: old.NominatedNodeName,
		Resize:            old.Resize, ResourceClaimStatuses: old.ResourceClaimStatuses,
		ObservedGeneration: f.pod.Generation,
	}
	if f.failed() {
		status.Reason, status.Message = f.failure.reason, f.failure.message
	}
	if f.failure != nil && f.failure.rejected {
		return status // there are neither addresses nor containers to tell of
	}
	for _, ip := range f.nodeIPs {
		status.HostIPs = append(status.HostIPs, corev1.HostIP{IP: ip})
	}
	if len(f.nodeIPs) > 0 {
		status.HostIP = f.nodeIPs[0]
	}
	f.addresses(&status)
	f.resources(&status)
	for i := range f.pod.Spec.InitContainers {
		status.InitContainerStatuses = append(status.InitContainerStatuses, f.containerStatus(&f.pod.Spec.InitContainers[i]))
	}
	for i := range f.pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, f.containerStatus(&f.pod.Spec.Containers[i]))
	}
	for i := range f.pod.Spec.EphemeralContainers {
		c := (*corev1.Container)(&f.pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		status.EphemeralContainerStatuses = append(status.EphemeralContainerStatuses, f.ephemeralStatus(c))
	}
	if f.ended || f.stopped && terminal(status.Phase) {
		f.unlocated(&status)
	}
	f.conditions(&status)
	if f.failed() && f.failure.disruption {
		f.setCondition(&status, corev1.DisruptionTarget, true, corev1.PodReasonTerminationByKubelet, f.failure.message)
	}
	return status
}

// addresses stay in the status after the end: an ended pod still tells where it was.
func (f facts) addresses(status *corev1.PodStatus) {
	if f.sandbox == nil {
		if f.stopped || terminal(f.pod.Status.Phase) {
			status.PodIP, status.PodIPs = f.pod.Status.PodIP, f.pod.Status.PodIPs
			if status.PodIP == "" {
				status.PodIP, status.PodIPs = f.before.PodIP, f.before.PodIPs
			}
		}
		return
	}
	for _, ip := range f.sandbox.IPs {
		status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: ip})
	}
	if len(f.sandbox.IPs) > 0 {
		status.PodIP = f.sandbox.IPs[0]
	}
}

// resources are what the pod has all in all: its own requests and limits, else the sums over its containers.
func (f facts) resources(status *corev1.PodStatus) {
	all := corev1.ResourceRequirements{}
	if own := f.pod.Spec.Resources; own != nil {
		all = *own.DeepCopy()
	}
	all.Requests = podresource.PodRequests(f.pod, podresource.PodResourcesOptions{})
	all.Limits = podresource.PodLimits(f.pod, podresource.PodResourcesOptions{})
	status.Resources, status.AllocatedResources = &all, all.Requests.DeepCopy()
}

// unlocated says of containers which ought to have run, and of which the end of the pod leaves nothing, that they
// failed. Those which had no turn yet stay as they are.
func (f facts) unlocated(status *corev1.PodStatus) {
	lost := func(list []corev1.ContainerStatus) {
		for i := range list {
			if list[i].State.Terminated == nil {
				list[i].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
					Reason: "ContainerStatusUnknown", Message: "The container could not be located when the pod was terminated", ExitCode: 137,
				}}
			}
		}
	}
	if initialized, _ := f.initialized(); initialized || f.appsBegan() {
		lost(status.ContainerStatuses)
	}
	inits := status.InitContainerStatuses
	begun := len(inits)
	for begun > 1 && inits[begun-1].State.Waiting != nil && inits[begun-1].LastTerminationState.Terminated == nil {
		begun--
	}
	lost(inits[:begun])
}

// lastPhase is how a pod ends that is deleted: well when all its containers did.
func (f facts) lastPhase() corev1.PodPhase {
	for i := range f.pod.Spec.Containers {
		if have := f.containers[f.pod.Spec.Containers[i].Name]; have == nil || have.exit == nil || have.exit.Code != 0 {
			return corev1.PodFailed
		}
	}
	return corev1.PodSucceeded
}

// phase is the pod's state in one word, by upstream's rules.
func (f facts) phase() corev1.PodPhase {
	if terminal(f.pod.Status.Phase) {
		return f.pod.Status.Phase // an ended pod never lives again
	}
	if f.failed() {
		return corev1.PodFailed
	}
	if f.ended {
		return f.lastPhase()
	}
	for i := range f.pod.Spec.InitContainers {
		c := &f.pod.Spec.InitContainers[i]
		have := f.containers[c.Name]
		if have == nil {
			return corev1.PodPending
		}
		failed := have.exit != nil && have.exit.Code != 0
		switch {
		case isSidecar(c):
			if !have.started && !f.appsBegan() {
				return corev1.PodPending
			}
		case failed && !restarts(f.pod, c, have.exit.Code):
			return corev1.PodFailed
		case have.exit == nil || failed:
			return corev1.PodPending
		}
	}
	goesOn, failed := false, false
	for i := range f.pod.Spec.Containers {
		c := &f.pod.Spec.Containers[i]
		have := f.containers[c.Name]
		switch {
		case have == nil || have.record.ID == "":
			return corev1.PodPending
		case have.running, have.again, have.exit == nil, restarts(f.pod, c, have.exit.Code):
			goesOn = true
		case have.exit.Code != 0:
			failed = true
		}
	}
	switch {
	case goesOn:
		return corev1.PodRunning
	case failed:
		return corev1.PodFailed
	default:
		return corev1.PodSucceeded
	}
}

// failed tells whether the pod as a whole has failed. Nobody is told before its containers have ended: whoever
// makes another pod for it then would have two which run.
func (f facts) failed() bool {
	for _, have := range f.containers {
		if have.running && !terminal(f.pod.Status.Phase) {
			return false
		}
	}
	return f.failure != nil
}

func (f facts) appsBegan() bool {
	for i := range f.pod.Spec.Containers {
		if have := f.containers[f.pod.Spec.Containers[i].Name]; have != nil && have.record.ID != "" {
			return true
		}
	}
	return false
}

// initialized tells whether all init containers have done their work.
func (f facts) initialized() (bool, []string) {
	var missing []string
	for i := range f.pod.Spec.InitContainers {
		c := &f.pod.Spec.InitContainers[i]
		have := f.containers[c.Name]
		done := have != nil && have.exit != nil && have.exit.Code == 0
		if isSidecar(c) {
			done = have != nil && (have.started || f.appsBegan())
		}
		if !done {
			missing = append(missing, c.Name)
		}
	}
	return len(missing) == 0, missing
}

func (f facts) containerStatus(c *corev1.Container) corev1.ContainerStatus {
	no := false
	status := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: &no, VolumeMounts: mountStatuses(c)}
	have := f.containers[c.Name]
	if have == nil || have.record.ID == "" {
		if told := statusOf(f.pod, c.Name); told != nil && terminal(f.pod.Status.Phase) {
			return *told // the container is removed, as the disk was full
		}
		waiting := &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
		if have != nil && have.waiting != nil {
			waiting = have.waiting
		}
		if ready, _ := f.initialized(); !ready && waiting.Reason == "ContainerCreating" || len(f.pod.Spec.InitContainers) > 0 && waiting.Reason == "ContainerCreating" {
			waiting = &corev1.ContainerStateWaiting{Reason: "PodInitializing"}
		}
		status.State.Waiting = waiting
		return status
	}
	started := have.started
	status.Started = &started
	task := isInit(f.pod, c) && !isSidecar(c) // it is ready when it is done
	status.Ready = have.ready && have.started && !task
	status.Resources, status.AllocatedResources = c.Resources.DeepCopy(), c.Resources.Requests.DeepCopy()
	if user := have.record.User; user != nil {
		status.User = &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: user.UID, GID: user.GID, SupplementalGroups: user.Groups}}
	}
	if full, err := image.Normalize(have.record.Image); err == nil {
		status.Image = full
	}
	status.ImageID = have.record.ImageID
	status.ContainerID = containerID(have.record)
	status.RestartCount = int32(have.record.Attempt)
	if have.last != nil {
		status.LastTerminationState.Terminated = have.last
	}
	switch {
	case have.running:
		status.State.Running = &corev1.ContainerStateRunning{StartedAt: second(have.record.Started)}
	case have.waiting != nil && (have.exit == nil || f.pod.DeletionTimestamp == nil): // nothing of a deleted pod starts again
		status.State.Waiting = have.waiting
		status.LastTerminationState.Terminated = terminatedState(have)
	default:
		status.State.Terminated = terminatedState(have)
		status.Ready = task && have.exit != nil && have.exit.Code == 0
	}
	return status
}

// ephemeralStatus: nobody asks whether an ephemeral container has started or is ready.
func (f facts) ephemeralStatus(c *corev1.Container) corev1.ContainerStatus {
	status := f.containerStatus(c)
	status.Started, status.Ready = nil, false
	return status
}

func mountStatuses(c *corev1.Container) []corev1.VolumeMountStatus {
	var mounts []corev1.VolumeMountStatus
	for _, m := range c.VolumeMounts {
		status := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if recursiveReadOnly(m) {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			status.RecursiveReadOnly = &mode
		}
		mounts = append(mounts, status)
	}
	return mounts
}

// containerID is how the API names a container: the scheme is the runtime's name.
func containerID(record runtime.Record) string { return "runc://" + record.ID }

// terminatedState tells how a container's newest attempt ended, nil if it did not.
func terminatedState(have *container) *corev1.ContainerStateTerminated {
	if have.exit == nil {
		return nil
	}
	reason := have.reason
	switch {
	case reason != "":
	case have.exit.OOMKilled:
		reason = "OOMKilled"
	case have.exit.Code == 0:
		reason = "Completed"
	default:
		reason = "Error"
	}
	return &corev1.ContainerStateTerminated{
		ExitCode: int32(have.exit.Code), Reason: reason, Message: have.message,
		StartedAt:   second(have.record.Started),
		FinishedAt:  second(have.exit.Finished),
		ContainerID: containerID(have.record),
	}
}

// conditions sets the five conditions which are the kubelet's; others stay as they are.
func (f facts) conditions(status *corev1.PodStatus) {
	set := func(kind corev1.PodConditionType, value bool, reason, message string) {
		f.setCondition(status, kind, value, reason, message)
	}
	set(corev1.PodReadyToStartContainers, f.sandbox != nil, "", "")
	ended := terminal(status.Phase)
	switch initialized, missing := f.initialized(); {
	case ended && status.Phase == corev1.PodSucceeded:
		set(corev1.PodInitialized, true, "PodCompleted", "")
	case initialized:
		set(corev1.PodInitialized, true, "", "")
	default:
		set(corev1.PodInitialized, false, "ContainersNotInitialized", fmt.Sprintf("containers with incomplete status: %v", missing))
	}
	unready := f.unready(status)
	reason, message := "", ""
	switch {
	case status.Phase == corev1.PodFailed:
		reason = "PodFailed"
	case status.Phase == corev1.PodSucceeded:
		reason = "PodCompleted"
	case len(unready) > 0:
		reason, message = "ContainersNotReady", fmt.Sprintf("containers with unready status: %v", unready)
	}
	set(corev1.ContainersReady, reason == "", reason, message)
	if reason == "" {
		reason, message = f.readinessGates()
	}
	set(corev1.PodReady, reason == "", reason, message)
	set(corev1.PodScheduled, true, "", "")
	order := []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled}
	slices.SortStableFunc(status.Conditions, func(a, b corev1.PodCondition) int {
		return slices.Index(order, a.Type) - slices.Index(order, b.Type)
	})
}

func (f facts) unready(status *corev1.PodStatus) []string {
	var names []string
	for i := range f.pod.Spec.InitContainers {
		if isSidecar(&f.pod.Spec.InitContainers[i]) && !status.InitContainerStatuses[i].Ready {
			names = append(names, f.pod.Spec.InitContainers[i].Name)
		}
	}
	for _, c := range status.ContainerStatuses {
		if !c.Ready {
			names = append(names, c.Name)
		}
	}
	return names
}

func (f facts) readinessGates() (reason, message string) {
	var missing []string
	for _, gate := range f.pod.Spec.ReadinessGates {
		at := slices.IndexFunc(f.pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == gate.ConditionType })
		if at < 0 {
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		} else if f.pod.Status.Conditions[at].Status != corev1.ConditionTrue {
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, f.pod.Status.Conditions[at].Status))
		}
	}
	if len(missing) == 0 {
		return "", ""
	}
	return "ReadinessGatesNotReady", strings.Join(missing, ", ")
}

func (f facts) setCondition(status *corev1.PodStatus, kind corev1.PodConditionType, value bool, reason, message string) {
	wanted := corev1.PodCondition{
		Type: kind, Status: corev1.ConditionFalse, Reason: reason, Message: message,
		LastTransitionTime: f.now, ObservedGeneration: f.pod.Generation,
	}
	if value {
		wanted.Status = corev1.ConditionTrue
	}
	for i, have := range status.Conditions {
		if have.Type != kind {
			continue
		}
		if have.Status == wanted.Status && !have.LastTransitionTime.IsZero() {
			wanted.LastTransitionTime = have.LastTransitionTime
		}
		status.Conditions[i] = wanted
		return
	}
	status.Conditions = append(status.Conditions, wanted)
}

const (
	maxMessage      = 4096 // bytes of a termination message file which are read
	maxMessageLog   = 2048 // bytes, and
	maxMessageLines = 80   // lines of the log, when it has to serve instead
)

// terminationMessage is a container's last words: its message file, or the end of its log when the
// policy allows and the container failed without a word.
func terminationMessage(record runtime.Record, exit shim.Exit, policy corev1.TerminationMessagePolicy) string {
	message := ""
	if record.MessagePath != "" {
		if file, err := os.Open(record.MessagePath); err == nil {
			data, _ := io.ReadAll(io.LimitReader(file, maxMessage))
			file.Close()
			message = string(data)
		}
	}
	if message == "" && exit.Code != 0 && policy == corev1.TerminationMessageFallbackToLogsOnError {
		message = logTail(record.LogPath, maxMessageLines, maxMessageLog)
	}
	return message
}

// second is a time as the API keeps it, without fractions.
func second(t time.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }

func timeNow() metav1.Time { return second(time.Now()) }
