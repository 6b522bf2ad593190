package kubelet

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/kubelet/image"
)

// image finds a container's image in the store or pulls it, as imagePullPolicy says, and marks it as used by
// container id. When ok is false the container waits, and wait is how long at most.
func (w *worker) image(pod *corev1.Pod, c *corev1.Container, have *container, id string) (img image.Image, wait time.Duration, ok bool) {
	path := containerPath(pod, c)
	if _, err := image.Normalize(c.Image); err != nil {
		message := fmt.Sprintf("Failed to apply default image tag %q: %v", c.Image, err)
		w.waitFor(have, "InvalidImageName", message)
		w.k.event(pod, path, corev1.EventTypeWarning, "InspectFailed", message)
		w.k.event(pod, path, corev1.EventTypeWarning, "Failed", "Error: InvalidImageName")
		return image.Image{}, never, false
	}
	if c.ImagePullPolicy != corev1.PullAlways {
		img, err := w.k.useImage(pod, c, id)
		if err == nil {
			w.k.event(pod, path, corev1.EventTypeNormal, "Pulled",
				fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", c.Image))
			return img, 0, true
		}
		if !errors.Is(err, image.ErrNotFound) {
			return image.Image{}, w.cannotStart(pod, c, have, "ImageInspectError", err), false
		}
		if c.ImagePullPolicy == corev1.PullNever {
			return image.Image{}, w.neverPulled(pod, c, have), false
		}
	}
	return w.pullImage(pod, c, have, id)
}

// neverPulled waits for an image which may not be pulled: somebody may load it.
func (w *worker) neverPulled(pod *corev1.Pod, c *corev1.Container, have *container) time.Duration {
	path, message := containerPath(pod, c), fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
	w.k.event(pod, path, corev1.EventTypeWarning, "ErrImageNeverPull", message)
	w.k.event(pod, path, corev1.EventTypeWarning, "Failed", "Error: ErrImageNeverPull")
	w.mu.Lock()
	defer w.mu.Unlock()
	have.waiting = &corev1.ContainerStateWaiting{Reason: "ErrImageNeverPull", Message: message}
	wait := have.retry.next()
	have.retryAt = time.Now().Add(wait)
	return wait
}

func (w *worker) waitFor(have *container, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	have.waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: message}
}

func (w *worker) pullImage(pod *corev1.Pod, c *corev1.Container, have *container, id string) (image.Image, time.Duration, bool) {
	path := containerPath(pod, c)
	w.k.event(pod, path, corev1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", c.Image))
	began := time.Now()
	img, err := w.k.pull(w.alive, pod, c.Image, w.sources(pod))
	if err == nil {
		img, err = w.k.useImage(pod, c, id)
	}
	if w.alive.Err() != nil {
		return image.Image{}, never, false
	}
	if err != nil {
		slog.Info("Image cannot be pulled", "image", c.Image, "pod", podName(pod), "error", err)
		w.k.event(pod, path, corev1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %v", c.Image, err))
		w.k.event(pod, path, corev1.EventTypeWarning, "Failed", "Error: ErrImagePull")
		w.mu.Lock()
		have.waiting = &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: err.Error()}
		have.pull, have.pullOf, have.pullErr = have.pull.failed(time.Now()), c.Image, "ErrImagePull: "+err.Error()
		w.mu.Unlock()
		// Soon again: the status changes from ErrImagePull to ImagePullBackOff.
		return image.Image{}, time.Second, false
	}
	took := time.Since(began).Round(time.Millisecond)
	w.k.event(pod, path, corev1.EventTypeNormal, "Pulled",
		fmt.Sprintf("Successfully pulled image %q in %s (%s including waiting). Image size: %d bytes.", c.Image, took, took, img.Size))
	return img, 0, true
}
