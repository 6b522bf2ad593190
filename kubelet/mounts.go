package kubelet

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/kubelet/runtime"
)

// mounts are a container's volumes and the files which every container gets.
func (w *worker) mounts(pod *corev1.Pod, c *corev1.Container, env map[string]string) ([]runtime.Mount, error) {
	w.mu.Lock()
	sandbox := *w.sandbox
	w.mu.Unlock()
	var mounts []runtime.Mount
	taken := map[string]bool{}
	for _, m := range c.VolumeMounts {
		mount, err := w.volumeMount(pod, c, m, env)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, mount)
		taken[filepath.Clean(m.MountPath)] = true
	}
	shm := sandbox.path("shm")
	if pod.Spec.HostIPC {
		shm = "/dev/shm"
	}
	for _, own := range []runtime.Mount{
		{Source: sandbox.path("etc-hosts"), Destination: "/etc/hosts"},
		{Source: sandbox.path("resolv.conf"), Destination: "/etc/resolv.conf", ReadOnly: readOnlyRoot(c)},
		{Source: sandbox.path("hostname"), Destination: "/etc/hostname", ReadOnly: readOnlyRoot(c)},
		{Source: shm, Destination: "/dev/shm"},
	} {
		if !taken[own.Destination] {
			mounts = append(mounts, own)
		}
	}
	return mounts, nil
}

func (w *worker) volumeMount(pod *corev1.Pod, c *corev1.Container, m corev1.VolumeMount, env map[string]string) (runtime.Mount, error) {
	w.mu.Lock()
	volume, ok := w.volumes[m.Name]
	w.mu.Unlock()
	if !ok {
		return runtime.Mount{}, fmt.Errorf("cannot find volume %q to mount into container", m.Name)
	}
	mount := runtime.Mount{Source: volume.path, Destination: m.MountPath, ReadOnly: m.ReadOnly || volume.readOnly}
	mount.Recursive = recursiveReadOnly(m)
	sub, err := chosenSubPath(m, env)
	if err != nil {
		return runtime.Mount{}, err
	}
	if sub != "" {
		source, err := subPath(volume.path, sub)
		if err != nil { // why is for the node's log alone: it may tell about the node's files
			slog.Warn("Preparing subPath", "pod", podName(pod), "volume", m.Name, "subPath", sub, "error", err)
			return runtime.Mount{}, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q", m.Name, c.Name)
		}
		mount.Source = source
	} else if _, err := os.Stat(volume.path); errors.Is(err, os.ErrNotExist) {
		// A hostPath without type: the kubelet makes a directory of it.
		if err := os.MkdirAll(volume.path, 0o755); err != nil {
			return runtime.Mount{}, fmt.Errorf("make hostPath: %w", err)
		}
	}
	if m.MountPropagation != nil {
		switch *m.MountPropagation {
		case corev1.MountPropagationHostToContainer:
			mount.Propagation = "rslave"
		case corev1.MountPropagationBidirectional:
			mount.Propagation = "rshared"
		}
	}
	return mount, nil
}

// chosenSubPath is what of the volume is mounted, empty for all of it.
func chosenSubPath(m corev1.VolumeMount, env map[string]string) (string, error) {
	sub := m.SubPath
	if m.SubPathExpr != "" {
		var err error
		if sub, err = expandAllKnown(m.SubPathExpr, env); err != nil {
			return "", err
		}
	}
	if filepath.IsAbs(sub) {
		return "", fmt.Errorf("error SubPath `%s` must not be an absolute path", sub)
	}
	if slices.Contains(strings.Split(sub, "/"), "..") {
		return "", fmt.Errorf("unable to provision SubPath `%s`: must not contain '..'", sub)
	}
	return sub, nil
}

// recursiveReadOnly tells whether what is mounted below a read-only volume shall be read-only, too: the kernels and
// the runc which Podarium needs can do it (mount_setattr).
func recursiveReadOnly(m corev1.VolumeMount) bool {
	return m.ReadOnly && m.RecursiveReadOnly != nil && *m.RecursiveReadOnly != corev1.RecursiveReadOnlyDisabled
}

// subPath finds a file or directory inside a volume, and makes a directory when nothing is there, which all may
// use who may use the volume. A symbolic link in the volume, which a container may have put there, must not lead out of it.
func subPath(volume, sub string) (string, error) {
	root, err := os.OpenRoot(volume)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if _, err := root.Stat(sub); errors.Is(err, os.ErrNotExist) {
		if err := makeSubPath(root, sub); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	inside, err := filepath.EvalSymlinks(volume)
	if err != nil {
		return "", err
	}
	resolved, err := filepath.EvalSymlinks(filepath.Join(volume, sub))
	if err != nil {
		return "", err
	}
	if resolved != inside && !strings.HasPrefix(resolved, inside+"/") {
		return "", fmt.Errorf("%s leads out of the volume", sub)
	}
	return resolved, nil
}

func makeSubPath(root *os.Root, sub string) error {
	volume, err := root.Stat(".")
	if err != nil {
		return err
	}
	if err := root.MkdirAll(sub, volume.Mode().Perm()); err != nil {
		return err
	}
	return root.Chmod(sub, volume.Mode()&(fs.ModePerm|fs.ModeSetgid|fs.ModeSticky)) // the umask took some away
}
