package kubelet

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/kubelet/image"
	"github.com/podarium/podarium/kubelet/runtime"
	"github.com/podarium/podarium/kubelet/shim"
)

const messageFile = "termination-log"

// start brings a container to life. What goes wrong is noted as the reason why it waits; the return
// value says when to try again.
func (w *worker) start(pod *corev1.Pod, c *corev1.Container, have *container) time.Duration {
	img, wait, ok := w.image(pod, c, have)
	if !ok {
		return wait
	}
	spec, err := w.containerSpec(pod, c, img)
	if err != nil {
		return w.cannotStart(pod, c, have, "CreateContainerConfigError", err)
	}
	record := w.newRecord(pod, c, have, img)
	spec.CgroupPath = filepath.Join(podCgroup(w.k.cfg.CgroupRoot, pod), record.ID)
	spec.Mounts = append(spec.Mounts, w.messageMount(c, &record)...)
	if !w.k.starts.enter(w.alive, begunPod) {
		return never
	}
	err = w.k.runtime.Create(record, spec)
	if err != nil {
		w.k.starts.leave()
		if _, ok := errors.AsType[*runtime.NonRootError](err); ok {
			return w.cannotStart(pod, c, have, "CreateContainerConfigError", err)
		}
		return w.cannotStart(pod, c, have, "CreateContainerError", err)
	}
	path := containerPath(pod, c)
	w.k.event(pod, path, corev1.EventTypeNormal, "Created", "Container created")
	err = w.k.runtime.Start(&record)
	w.k.starts.leave()
	if refused, ok := errors.AsType[*runtime.StartError](err); ok {
		return w.startFailed(pod, c, have, record, refused)
	}
	if err != nil {
		return w.cannotStart(pod, c, have, "RunContainerError", err)
	}
	w.k.event(pod, path, corev1.EventTypeNormal, "Started", "Container started")
	slog.Info("Container started", "pod", podName(pod), "container", c.Name, "attempt", record.Attempt)
	w.startedContainer(pod, c, have, record)
	return never
}

// startedContainer notes a fresh start, watches the container and begins to probe it.
func (w *worker) startedContainer(pod *corev1.Pod, c *corev1.Container, have *container, record runtime.Record) {
	old := w.begin(have, record)
	go w.watch(have, record)
	if hook := c.Lifecycle; hook != nil && hook.PostStart != nil {
		if err := w.runHook(w.alive, pod, c, record.ID, hook.PostStart); err != nil {
			w.k.event(pod, containerPath(pod, c), corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
			w.kill(pod, c, have, defaultGrace(pod), "FailedPostStartHook")
			return
		}
	}
	w.startProbes(pod, c, have)
	if old.ID != "" {
		w.forgetOld(old)
	}
}

// begin makes record the newest attempt and returns the one before.
func (w *worker) begin(have *container, record runtime.Record) runtime.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := have.record
	if have.exit != nil {
		have.last = terminatedState(have)
		have.restart = have.restart.longer()
	}
	have.record, have.running, have.exit, have.reason, have.message = record, true, nil, "", ""
	have.waiting, have.exited = nil, make(chan struct{})
	have.pull, have.retry, have.retryAt = backoff{}, quickRetry{}, time.Time{}
	return old
}

// forgetOld removes the attempt before the last: its log stays for kubectl logs --previous, older logs go.
func (w *worker) forgetOld(old runtime.Record) {
	if err := w.k.runtime.Remove(w.k.ctx, old.ID); err != nil {
		slog.Error("Removing old container", "container", old.Name, "pod", old.PodName, "error", err)
	}
	if old.Attempt > 0 {
		stale := filepath.Join(filepath.Dir(old.LogPath), strconv.Itoa(old.Attempt-1)+".log")
		if err := os.Remove(stale); err != nil && !errors.Is(err, os.ErrNotExist) {
			slog.Error("Removing old log", "path", stale, "error", err)
		}
	}
}

// startFailed notes an attempt which runc refused: it counts as one that ended with status 128.
func (w *worker) startFailed(pod *corev1.Pod, c *corev1.Container, have *container, record runtime.Record, refused error) time.Duration {
	w.k.event(pod, containerPath(pod, c), corev1.EventTypeWarning, "Failed", "Error: "+refused.Error())
	exit := shim.Exit{Code: 128, Finished: record.Started}
	if err := shim.WriteFile(w.k.runtime.FilePath(record.ID, shim.ExitFile), exit); err != nil {
		slog.Error("Writing exit status", "container", c.Name, "error", err)
	}
	if err := w.k.runtime.Release(w.k.ctx, record.ID); err != nil {
		slog.Error("Releasing container", "container", c.Name, "error", err)
	}
	old := w.begin(have, record)
	if old.ID != "" {
		w.forgetOld(old)
	}
	w.mu.Lock()
	have.running, have.exit = false, &exit
	have.reason, have.message = "StartError", refused.Error()
	have.restart.since = exit.Finished
	again := restarts(pod, c, exit.Code)
	if again {
		have.waiting = &corev1.ContainerStateWaiting{Reason: "RunContainerError", Message: refused.Error()}
	}
	close(have.exited)
	w.mu.Unlock()
	if !again {
		return 0
	}
	return max(0, have.restart.remaining(time.Now()))
}

// cannotStart notes why there is no attempt at all, and when to try again.
func (w *worker) cannotStart(pod *corev1.Pod, c *corev1.Container, have *container, reason string, err error) time.Duration {
	if w.alive.Err() != nil {
		return never
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if have.waiting == nil || have.waiting.Message != err.Error() {
		w.k.event(pod, containerPath(pod, c), corev1.EventTypeWarning, "Failed", "Error: "+err.Error())
	}
	have.waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: err.Error()}
	wait := have.retry.next()
	have.retryAt = time.Now().Add(wait)
	return wait
}

func (w *worker) newRecord(pod *corev1.Pod, c *corev1.Container, have *container, img image.Image) runtime.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	attempt := 0
	if have.record.ID != "" {
		attempt = have.record.Attempt + 1
	}
	return runtime.Record{
		ID: newID(), PodUID: string(pod.UID), PodNamespace: pod.Namespace, PodName: pod.Name, Name: c.Name,
		Attempt: attempt, SandboxID: w.sandbox.ID, Image: c.Image, ImageID: imageID(img), SpecHash: specHash(c),
		LogPath: filepath.Join(w.k.logDir(pod), c.Name, strconv.Itoa(attempt)+".log"),
		TTY:     c.TTY, Created: time.Now().UTC(),
	}
}

// imageID is what a status calls the image: its repository and digest.
func imageID(img image.Image) string {
	repository, err := image.Repository(img.Ref)
	if err != nil {
		return img.Digest
	}
	return repository + "@" + img.Digest
}

// specHash changes when a running container has to be replaced: of what may be changed in a pod, that
// is the image.
func specHash(c *corev1.Container) string {
	hash := fnv.New64a()
	hash.Write([]byte(c.Image))
	return strconv.FormatUint(hash.Sum64(), 16)
}

// messageMount gives a container the file for its last words.
func (w *worker) messageMount(c *corev1.Container, record *runtime.Record) []runtime.Mount {
	if c.TerminationMessagePath == "" {
		return nil
	}
	record.MessagePath = w.k.runtime.FilePath(record.ID, messageFile)
	return []runtime.Mount{{Source: record.MessagePath, Destination: c.TerminationMessagePath}}
}

// containerSpec translates a container of the API into one of the runtime.
func (w *worker) containerSpec(pod *corev1.Pod, c *corev1.Container, img image.Image) (runtime.Container, error) {
	env, err := w.sources(pod).environment(w.alive, c)
	if err != nil {
		return runtime.Container{}, err
	}
	host, _ := podHostname(pod, w.k.cfg.ClusterDomain)
	full := newEnviron()
	for _, pair := range img.Config.Env {
		name, value, _ := strings.Cut(pair, "=")
		full.set(name, value)
	}
	full.set("HOSTNAME", host)
	for _, name := range env.names {
		full.set(name, env.values[name])
	}
	args, err := command(c, img, env.values)
	if err != nil {
		return runtime.Container{}, err
	}
	mounts, err := w.mounts(pod, c, env.values)
	if err != nil {
		return runtime.Container{}, err
	}
	cwd := c.WorkingDir
	if cwd == "" {
		cwd = img.Config.WorkingDir
	}
	spec := runtime.Container{
		Layers: img.Layers, Args: args, Env: full.list(), Cwd: cwd, Mounts: mounts, Files: []string{messageFile},
		Namespaces: w.namespaces(pod, c), CPUShares: cpuShares(c), CPUQuota: cpuQuota(c), MemoryLimit: memoryLimit(c),
		OOMScoreAdj: oomScoreAdj(qosClass(pod), c, w.k.memoryCapacity()),
		Stdin:       c.Stdin, StdinOnce: c.StdinOnce, TTY: c.TTY,
	}
	secure(&spec, pod, c, img)
	spec.Seccomp = w.k.seccomp(pod, c)
	return spec, nil
}

// command is what runs: the pod's command and args replace the image's entrypoint and cmd.
func command(c *corev1.Container, img image.Image, env map[string]string) ([]string, error) {
	entrypoint, args := img.Config.Entrypoint, img.Config.Cmd
	if len(c.Command) > 0 {
		entrypoint, args = expandAll(c.Command, env), nil
	}
	if len(c.Args) > 0 {
		args = expandAll(c.Args, env)
	}
	all := append(slices.Clone(entrypoint), args...)
	if len(all) == 0 {
		return nil, errors.New("no command specified")
	}
	return all, nil
}

func expandAll(list []string, env map[string]string) []string {
	expanded := make([]string, len(list))
	for i, text := range list {
		expanded[i] = expand(text, env)
	}
	return expanded
}

func (w *worker) namespaces(pod *corev1.Pod, c *corev1.Container) runtime.Namespaces {
	w.mu.Lock()
	sandbox := *w.sandbox
	target := ""
	if debug := ephemeral(pod, c.Name); debug != nil {
		if have := w.containers[debug.TargetContainerName]; have != nil && have.running {
			target = have.record.ID
		}
	}
	w.mu.Unlock()
	ns := runtime.Namespaces{Network: sandbox.path("ns/net"), IPC: sandbox.path("ns/ipc"), UTS: sandbox.path("ns/uts")}
	if pod.Spec.HostNetwork {
		ns.Network, ns.UTS = runtime.HostNS, runtime.HostNS
	}
	if pod.Spec.HostIPC {
		ns.IPC = runtime.HostNS
	}
	switch {
	case target != "": // kubectl debug --target: see that container's processes
		ns.PID = w.k.runtime.PIDNamespace(target)
	case pod.Spec.HostPID:
		ns.PID = runtime.HostNS
	case pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace:
		ns.PID = sandbox.path("ns/pid")
	}
	return ns
}

// mounts are a container's volumes and the files which every container gets.
func (w *worker) mounts(pod *corev1.Pod, c *corev1.Container, env map[string]string) ([]runtime.Mount, error) {
	w.mu.Lock()
	sandbox := *w.sandbox
	w.mu.Unlock()
	var mounts []runtime.Mount
	taken := map[string]bool{}
	for _, m := range c.VolumeMounts {
		mount, err := w.volumeMount(pod, m, env)
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
		{Source: sandbox.path("resolv.conf"), Destination: "/etc/resolv.conf"},
		{Source: sandbox.path("hostname"), Destination: "/etc/hostname"},
		{Source: shm, Destination: "/dev/shm"},
	} {
		if !taken[own.Destination] {
			mounts = append(mounts, own)
		}
	}
	return mounts, nil
}

func (w *worker) volumeMount(pod *corev1.Pod, m corev1.VolumeMount, env map[string]string) (runtime.Mount, error) {
	w.mu.Lock()
	volume, ok := w.volumes[m.Name]
	w.mu.Unlock()
	if !ok {
		return runtime.Mount{}, fmt.Errorf("cannot find volume %q to mount into container", m.Name)
	}
	mount := runtime.Mount{Source: volume.path, Destination: m.MountPath, ReadOnly: m.ReadOnly || volume.readOnly}
	sub := m.SubPath
	if m.SubPathExpr != "" {
		sub = expand(m.SubPathExpr, env)
	}
	if sub != "" {
		source, err := subPath(volume.path, sub)
		if err != nil {
			return runtime.Mount{}, fmt.Errorf("failed to prepare subPath for volumeMount %q: %w", m.Name, err)
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

// subPath finds a file or directory inside a volume, and makes a directory when nothing is there. A
// symbolic link in the volume, which a container may have put there, must not lead out of it.
func subPath(volume, sub string) (string, error) {
	root, err := os.OpenRoot(volume)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if _, err := root.Stat(sub); errors.Is(err, os.ErrNotExist) {
		if err := root.MkdirAll(sub, 0o755); err != nil {
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

// secure applies the security contexts of pod and container; the container's wins.
func secure(spec *runtime.Container, pod *corev1.Pod, c *corev1.Container, img image.Image) {
	spec.User.Image = img.Config.User
	spec.Capabilities = runtime.DefaultCapabilities
	spec.MaskProc = true
	if p := pod.Spec.SecurityContext; p != nil {
		spec.User.UID, spec.User.GID = p.RunAsUser, p.RunAsGroup
		spec.User.MustNotBeRoot = p.RunAsNonRoot != nil && *p.RunAsNonRoot
		spec.User.Groups = slices.Clone(p.SupplementalGroups)
		if p.FSGroup != nil {
			spec.User.Groups = append(spec.User.Groups, *p.FSGroup)
		}
	}
	s := c.SecurityContext
	if s == nil {
		return
	}
	if s.RunAsUser != nil {
		spec.User.UID = s.RunAsUser
	}
	if s.RunAsGroup != nil {
		spec.User.GID = s.RunAsGroup
	}
	if s.RunAsNonRoot != nil {
		spec.User.MustNotBeRoot = *s.RunAsNonRoot
	}
	if s.Capabilities != nil {
		spec.Capabilities = runtime.AddDrop(capabilityNames(s.Capabilities.Add), capabilityNames(s.Capabilities.Drop))
	}
	is := func(flag *bool) bool { return flag != nil && *flag }
	spec.Privileged, spec.ReadOnlyRoot = is(s.Privileged), is(s.ReadOnlyRootFilesystem)
	spec.NoNewPrivs = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation
	if s.ProcMount != nil && *s.ProcMount == corev1.UnmaskedProcMount {
		spec.MaskProc = false
	}
}

// seccomp is which system calls a container may make: the container's profile, else the pod's, else
// what --seccomp-default says.
func (k *Kubelet) seccomp(pod *corev1.Pod, c *corev1.Container) string {
	var profile *corev1.SeccompProfile
	if pod.Spec.SecurityContext != nil {
		profile = pod.Spec.SecurityContext.SeccompProfile
	}
	if c.SecurityContext != nil && c.SecurityContext.SeccompProfile != nil {
		profile = c.SecurityContext.SeccompProfile
	}
	switch {
	case profile == nil && k.cfg.SeccompDefault, profile != nil && profile.Type == corev1.SeccompProfileTypeRuntimeDefault:
		return runtime.RuntimeDefault
	case profile != nil && profile.Type == corev1.SeccompProfileTypeLocalhost && profile.LocalhostProfile != nil:
		return filepath.Join(k.cfg.RootDir, "seccomp", filepath.Join("/", *profile.LocalhostProfile))
	default:
		return runtime.Unconfined
	}
}

func capabilityNames(list []corev1.Capability) []string {
	names := make([]string, len(list))
	for i, name := range list {
		names[i] = string(name)
	}
	return names
}

// runHook runs a postStart or preStop handler.
func (w *worker) runHook(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id string, hook *corev1.LifecycleHandler) error {
	switch {
	case hook.Exec != nil:
		code, err := w.k.runtime.Exec(ctx, id, hook.Exec.Command, runtime.Streams{})
		if err == nil && code != 0 {
			err = fmt.Errorf("command exited with %d", code)
		}
		return err
	case hook.HTTPGet != nil:
		w.mu.Lock()
		ips := w.sandbox.IPs
		w.mu.Unlock()
		_, err := httpGet(ctx, c, hook.HTTPGet, ips[0])
		return err
	case hook.Sleep != nil:
		select {
		case <-time.After(time.Duration(hook.Sleep.Seconds) * time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	default:
		return nil
	}
}
