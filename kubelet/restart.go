package kubelet

import (
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// startContainers starts init containers in order, then all others at once. It returns when a
// container that waits for its back-off may be tried again.
func (w *worker) startContainers(pod *corev1.Pod) time.Duration {
	wait := never
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		again := w.ensureContainer(pod, c)
		wait = min(wait, again)
		if !w.initPassed(c) {
			return wait
		}
	}
	waits := make([]time.Duration, len(pod.Spec.Containers))
	var all sync.WaitGroup
	for i := range pod.Spec.Containers {
		all.Go(func() { waits[i] = w.ensureContainer(pod, &pod.Spec.Containers[i]) })
	}
	for i := range pod.Spec.EphemeralContainers {
		all.Go(func() {
			w.ensureContainer(pod, (*corev1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
		})
	}
	all.Wait()
	for _, again := range waits {
		wait = min(wait, again)
	}
	return wait
}

// initPassed tells whether the next init container may start: this one has succeeded, or it is a
// sidecar and has started.
func (w *worker) initPassed(c *corev1.Container) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	have := w.containers[c.Name]
	if have == nil {
		return false
	}
	if isSidecar(c) {
		return have.running && have.started
	}
	return have.exit != nil && have.exit.Code == 0
}

// ensureContainer starts a container when it shall run and its back-off is over.
func (w *worker) ensureContainer(pod *corev1.Pod, c *corev1.Container) time.Duration {
	w.mu.Lock()
	have := w.containers[c.Name]
	if have == nil {
		have = &container{waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
		w.containers[c.Name] = have
	}
	if have.running {
		changed := have.record.SpecHash != specHash(c)
		w.mu.Unlock()
		if changed {
			go w.restartChanged(pod, c)
		}
		return never
	}
	now := time.Now()
	if have.exit != nil {
		if !have.again && !restarts(pod, c, have.exit.Code) {
			have.waiting = nil
			w.mu.Unlock()
			return never
		}
		if rest := have.restart.remaining(now); rest > 0 {
			w.backOff(pod, c, have)
			w.mu.Unlock()
			return rest
		}
	}
	if have.pullOf != c.Image {
		have.pull = backoff{} // somebody corrected the image
	}
	rest := max(have.pull.remaining(now), have.retryAt.Sub(now))
	if rest > 0 {
		if have.pull.remaining(now) > 0 {
			w.pullBackOff(pod, c, have)
		}
		w.mu.Unlock()
		return rest
	}
	w.mu.Unlock()
	return w.start(pod, c, have)
}

// backOff notes that a container has ended too often to be started at once.
func (w *worker) backOff(pod *corev1.Pod, c *corev1.Container, have *container) {
	reason := fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", have.restart.delay, c.Name, podFullName(pod))
	if have.waiting == nil || have.waiting.Reason != "CrashLoopBackOff" {
		w.k.event(pod, containerPath(pod, c), corev1.EventTypeWarning, "BackOff",
			fmt.Sprintf("Back-off restarting failed container %s in pod %s", c.Name, podFullName(pod)))
	}
	have.waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: reason}
}

func (w *worker) pullBackOff(pod *corev1.Pod, c *corev1.Container, have *container) {
	if have.waiting != nil && have.waiting.Reason == "ErrImageNeverPull" {
		return // nothing is pulled, and there is nothing to wait for but an image which somebody brings
	}
	message := fmt.Sprintf("Back-off pulling image %q: %s", c.Image, have.pullErr)
	if have.waiting == nil || have.waiting.Reason != "ImagePullBackOff" {
		w.k.event(pod, containerPath(pod, c), corev1.EventTypeNormal, "BackOff", fmt.Sprintf("Back-off pulling image %q", c.Image))
		w.k.event(pod, containerPath(pod, c), corev1.EventTypeWarning, "Failed", "Error: ImagePullBackOff")
	}
	have.waiting = &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: message}
}

// restarts tells whether a container which ended is started again.
func restarts(pod *corev1.Pod, c *corev1.Container, code int) bool {
	if ephemeral(pod, c.Name) != nil {
		return false
	}
	task := isInit(pod, c) && !isSidecar(c)
	if task && code == 0 {
		return false // it is done
	}
	policy := pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		if ruled(c, code) {
			return true
		}
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	if task {
		return policy != corev1.RestartPolicyNever
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	default:
		return true
	}
}

// ruled tells whether a rule of the container's own has it started again after this exit status (KEP-5307).
func ruled(c *corev1.Container, code int) bool {
	for _, rule := range c.RestartPolicyRules {
		if rule.ExitCodes == nil {
			continue
		}
		listed := slices.Contains(rule.ExitCodes.Values, int32(code))
		if listed == (rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return rule.Action == corev1.ContainerRestartRuleActionRestart
		}
	}
	return false
}

func isInit(pod *corev1.Pod, c *corev1.Container) bool {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == c.Name {
			return true
		}
	}
	return false
}
