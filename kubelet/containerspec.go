package kubelet

import (
	"fmt"
	"hash/fnv"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/kubelet/image"
	"github.com/podarium/podarium/kubelet/runtime"
)

const messageFile = "termination-log"

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
	full := newEnviron()
	full.set("HOSTNAME", w.k.machineName(pod))
	for _, pair := range img.Config.Env {
		name, value, _ := strings.Cut(pair, "=")
		full.set(name, value)
	}
	for _, name := range env.names {
		full.set(name, env.values[name])
	}
	args := command(c, img, env.values)
	mounts, err := w.mounts(pod, c, env.values)
	if err != nil {
		return runtime.Container{}, err
	}
	if err := verifyNonRoot(pod, c, img.Config.User); err != nil {
		return runtime.Container{}, err
	}
	cwd := c.WorkingDir
	if cwd == "" {
		cwd = img.Config.WorkingDir
	}
	bounded := withPodLimits(pod, c)
	spec := runtime.Container{
		Layers: img.Layers, Args: args, Env: full.list(), Cwd: cwd, Mounts: mounts, Files: []string{messageFile},
		Namespaces: w.namespaces(pod, c), CPUShares: cpuShares(bounded), CPUQuota: cpuQuota(bounded), MemoryLimit: memoryLimit(bounded),
		OOMScoreAdj: oomScoreAdj(pod, c, w.k.memoryCapacity()),
		Stdin:       c.Stdin, StdinOnce: c.StdinOnce, TTY: c.TTY,
	}
	secure(&spec, pod, c, img)
	spec.Seccomp = w.k.seccomp(pod, c)
	return spec, nil
}

// command is what runs: the pod's command and args replace the image's entrypoint and cmd.
func command(c *corev1.Container, img image.Image, env map[string]string) []string {
	entrypoint, args := img.Config.Entrypoint, img.Config.Cmd
	if len(c.Command) > 0 {
		entrypoint, args = expandAll(c.Command, env), nil
	}
	if len(c.Args) > 0 {
		args = expandAll(c.Args, env)
	}
	return append(slices.Clone(entrypoint), args...)
}

// verifyNonRoot refuses a container which would run as root, or perhaps would, though its pod forbids that.
// A user whom the image calls by name may be root under another name.
func verifyNonRoot(pod *corev1.Pod, c *corev1.Container, imageUser string) error {
	nonRoot, uid := false, (*int64)(nil)
	if p := pod.Spec.SecurityContext; p != nil {
		nonRoot, uid = p.RunAsNonRoot != nil && *p.RunAsNonRoot, p.RunAsUser
	}
	if s := c.SecurityContext; s != nil {
		if s.RunAsNonRoot != nil {
			nonRoot = *s.RunAsNonRoot
		}
		if s.RunAsUser != nil {
			uid = s.RunAsUser
		}
	}
	if !nonRoot {
		return nil
	}
	where := fmt.Sprintf("(pod: %q, container: %s)", podFullName(pod), c.Name)
	if uid != nil {
		if *uid == 0 {
			return fmt.Errorf("container's runAsUser breaks non-root policy %s", where)
		}
		return nil
	}
	name, _, _ := strings.Cut(imageUser, ":")
	number, err := strconv.ParseInt(name, 10, 64)
	switch {
	case name == "", err == nil && number == 0:
		return fmt.Errorf("container has runAsNonRoot and image will run as root %s", where)
	case err != nil:
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", name, where)
	}
	return nil
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

// secure applies the security contexts of pod and container; the container's wins.
func secure(spec *runtime.Container, pod *corev1.Pod, c *corev1.Container, img image.Image) {
	spec.User.Image = img.Config.User
	spec.Capabilities = runtime.DefaultCapabilities
	spec.MaskProc = true
	if p := pod.Spec.SecurityContext; p != nil {
		spec.User.UID, spec.User.GID = p.RunAsUser, p.RunAsGroup
		spec.User.Groups = slices.Clone(p.SupplementalGroups)
		spec.User.OnlyGroups = p.SupplementalGroupsPolicy != nil && *p.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict
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
	if s.Capabilities != nil {
		spec.Capabilities = runtime.AddDrop(capabilityNames(s.Capabilities.Add), capabilityNames(s.Capabilities.Drop))
	}
	is := func(flag *bool) bool { return flag != nil && *flag }
	spec.Privileged, spec.ReadOnlyRoot = is(s.Privileged), readOnlyRoot(c)
	spec.NoNewPrivs = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation
	if s.ProcMount != nil && *s.ProcMount == corev1.UnmaskedProcMount {
		spec.MaskProc = false
	}
}

func readOnlyRoot(c *corev1.Container) bool {
	return c.SecurityContext != nil && c.SecurityContext.ReadOnlyRootFilesystem != nil && *c.SecurityContext.ReadOnlyRootFilesystem
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
