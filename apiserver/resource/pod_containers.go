package resource

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// eachContainer visits init containers, containers and ephemeral ones.
func eachContainer(s *corev1.PodSpec, at *field.Path, visit func(*corev1.Container, *field.Path)) {
	for i := range s.InitContainers {
		visit(&s.InitContainers[i], at.Child("initContainers").Index(i))
	}
	for i := range s.Containers {
		visit(&s.Containers[i], at.Child("containers").Index(i))
	}
	for i := range s.EphemeralContainers {
		visit((*corev1.Container)(&s.EphemeralContainers[i].EphemeralContainerCommon), at.Child("ephemeralContainers").Index(i))
	}
}

func validateContainers(s *corev1.PodSpec, volumes map[string]corev1.VolumeSource, at *field.Path) field.ErrorList {
	if len(s.Containers) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	names := sets.New[string]()
	for i := range s.Containers {
		c, at := &s.Containers[i], at.Index(i)
		errs = append(errs, validateContainer(c, s, volumes, at)...)
		if names.Has(c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names.Insert(c.Name)
		errs = append(errs, validateLifecycle(c.Lifecycle, s, at.Child("lifecycle"))...)
		errs = append(errs, validateProbes(c, s, at)...)
		errs = append(errs, validateRestart(c, at)...)
	}
	return append(errs, validateHostPorts(s.Containers, at)...)
}

// validateInitContainers: those which restart are sidecars and live as long as
// the pod does, so they may be probed; the others only come to their end.
func validateInitContainers(s *corev1.PodSpec, volumes map[string]corev1.VolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for _, c := range s.Containers {
		names.Insert(c.Name)
	}
	for i := range s.InitContainers {
		c, item := &s.InitContainers[i], at.Index(i)
		errs = append(errs, validateContainer(c, s, volumes, item)...)
		errs = append(errs, validateRestart(c, item)...)
		if names.Has(c.Name) {
			errs = append(errs, field.Duplicate(item.Child("name"), c.Name))
		} else if c.Name != "" {
			names.Insert(c.Name)
		}
		errs = append(errs, validateHostPorts(s.InitContainers[i:i+1], at)...)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			errs = append(errs, validateLifecycle(c.Lifecycle, s, item.Child("lifecycle"))...)
			errs = append(errs, validateProbes(c, s, item)...)
			continue
		}
		errs = append(errs, validateOneShot(c, item)...)
	}
	return errs
}

func validateOneShot(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"lifecycle", c.Lifecycle != nil},
		{"livenessProbe", c.LivenessProbe != nil},
		{"readinessProbe", c.ReadinessProbe != nil},
		{"startupProbe", c.StartupProbe != nil},
	} {
		if f.set {
			errs = append(errs, field.Forbidden(at.Child(f.name), "may not be set for init containers without restartPolicy=Always"))
		}
	}
	for i, p := range c.ResizePolicy {
		if p.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Invalid(at.Child("resizePolicy").Index(i).Child("restartPolicy"), p.RestartPolicy, "must not be set to 'RestartContainer' for non-sidecar initContainers"))
		}
	}
	return errs
}

// validateContainer is what containers of all three lists have in common.
func validateContainer(c *corev1.Container, s *corev1.PodSpec, volumes map[string]corev1.VolumeSource, at *field.Path) field.ErrorList {
	errs := required(c.Name, at.Child("name"))
	if c.Name != "" {
		errs = each(at.Child("name"), c.Name, validation.IsDNS1123Label(c.Name))
	}
	errs = append(errs, required(c.Image, at.Child("image"))...)
	errs = append(errs, supported(c.TerminationMessagePolicy, at.Child("terminationMessagePolicy"), corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	errs = append(errs, validateContainerPorts(c.Ports, at.Child("ports"))...)
	errs = append(errs, validateEnv(c.Env, at.Child("env"))...)
	errs = append(errs, validateEnvFrom(c.EnvFrom, at.Child("envFrom"))...)
	errs = append(errs, validateMounts(c, volumes, at.Child("volumeMounts"))...)
	errs = append(errs, validateDevices(c, volumes, at.Child("volumeDevices"))...)
	errs = append(errs, supported(c.ImagePullPolicy, at.Child("imagePullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	errs = append(errs, validateResources(&c.Resources, containerResource, at.Child("resources"))...)
	errs = append(errs, validateResize(c.ResizePolicy, s.RestartPolicy, at.Child("resizePolicy"))...)
	return append(errs, validateContainerSecurity(c.SecurityContext, s, at.Child("securityContext"))...)
}

// validateImages: a template's image may have blanks around it, for " " is
// replaced by some; a pod's is pulled as it is.
func validateImages(s *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	for _, list := range []struct {
		name       string
		containers []corev1.Container
	}{{"containers", s.Containers}, {"initContainers", s.InitContainers}} {
		for i, c := range list.containers {
			errs = append(errs, validateImage(c.Image, specPath.Child(list.name).Index(i).Child("image"))...)
		}
	}
	return errs
}

func validateImage(image string, at *field.Path) field.ErrorList {
	if strings.TrimSpace(image) == image {
		return nil
	}
	return field.ErrorList{field.Invalid(at, image, "must not have leading or trailing whitespace")}
}

// validateRestart: a container may restart differently from its pod.
func validateRestart(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	policies := []corev1.ContainerRestartPolicy{corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure}
	switch {
	case c.RestartPolicy == nil && len(c.RestartPolicyRules) > 0:
		errs = append(errs, field.Required(at.Child("restartPolicy"), "must specify restartPolicy when restart rules are used"))
	case c.RestartPolicy != nil && !slices.Contains(policies, *c.RestartPolicy):
		errs = append(errs, field.NotSupported(at.Child("restartPolicy"), *c.RestartPolicy, policies))
	}
	rules := at.Child("restartPolicyRules")
	if n := len(c.RestartPolicyRules); n > 20 {
		errs = append(errs, field.TooMany(rules, n, 20))
	}
	actions := []corev1.ContainerRestartRuleAction{corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers}
	operators := []corev1.ContainerRestartRuleOnExitCodesOperator{corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn}
	for i, rule := range c.RestartPolicyRules {
		at := rules.Index(i)
		if !slices.Contains(actions, rule.Action) {
			errs = append(errs, field.NotSupported(at.Child("action"), rule.Action, actions))
		}
		if rule.ExitCodes == nil {
			errs = append(errs, field.Required(at.Child("exitCodes"), "must be specified"))
			continue
		}
		if !slices.Contains(operators, rule.ExitCodes.Operator) {
			errs = append(errs, field.NotSupported(at.Child("exitCodes", "operator"), rule.ExitCodes.Operator, operators))
		}
		if n := len(rule.ExitCodes.Values); n > 255 {
			errs = append(errs, field.TooMany(at.Child("exitCodes", "values"), n, 255))
		}
	}
	return errs
}

func validateResize(policies []corev1.ContainerResizePolicy, restart corev1.RestartPolicy, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[corev1.ResourceName]()
	for i, p := range policies {
		if seen.Has(p.ResourceName) {
			errs = append(errs, field.Duplicate(at.Index(i), p.ResourceName))
		}
		seen.Insert(p.ResourceName)
		errs = append(errs, supported(p.ResourceName, at, corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, supported(p.RestartPolicy, at, corev1.NotRequired, corev1.RestartContainer)...)
		if restart == corev1.RestartPolicyNever && p.RestartPolicy != corev1.NotRequired {
			errs = append(errs, field.Invalid(at, p.RestartPolicy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'"))
		}
	}
	return errs
}

func validateContainerPorts(ports []corev1.ContainerPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i, p := range ports {
		at := path.Index(i)
		if p.Name != "" {
			wrong := each(at.Child("name"), p.Name, validation.IsValidPortName(p.Name))
			if len(wrong) == 0 && names.Has(p.Name) {
				wrong = field.ErrorList{field.Duplicate(at.Child("name"), p.Name)}
			}
			names.Insert(p.Name)
			errs = append(errs, wrong...)
		}
		if p.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, each(at.Child("containerPort"), p.ContainerPort, validation.IsValidPortNum(int(p.ContainerPort)))...)
		}
		if p.HostPort != 0 {
			errs = append(errs, each(at.Child("hostPort"), p.HostPort, validation.IsValidPortNum(int(p.HostPort)))...)
		}
		errs = append(errs, supported(p.Protocol, at.Child("protocol"), corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)...)
	}
	return errs
}

// validateHostPorts: two containers of a pod share the node's ports too.
func validateHostPorts(containers []corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	used := sets.New[string]()
	for i, c := range containers {
		for j, p := range c.Ports {
			if p.HostPort == 0 {
				continue
			}
			key := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
			if used.Has(key) {
				errs = append(errs, field.Duplicate(path.Index(i).Child("ports").Index(j).Child("hostPort"), key))
			}
			used.Insert(key)
		}
	}
	return errs
}

// validateNodePorts: a pod in the node's own network has its ports there and
// nowhere else. A template need not say so, its pods do.
func validateNodePorts(s *corev1.PodSpec, isPod bool, at *field.Path) field.ErrorList {
	if !s.HostNetwork {
		return nil
	}
	var errs field.ErrorList
	for i, c := range s.Containers {
		for j, p := range c.Ports {
			if (isPod || p.HostPort != 0) && p.HostPort != p.ContainerPort {
				errs = append(errs, field.Invalid(at.Child("containers").Index(i).Child("ports").Index(j).Child("hostPort"), p.HostPort, "must match `containerPort` when `hostNetwork` is true"))
			}
		}
	}
	return errs
}

func validateEnv(env []corev1.EnvVar, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, e := range env {
		at := path.Index(i)
		if e.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			errs = append(errs, each(at.Child("name"), e.Name, validation.IsRelaxedEnvVarName(e.Name))...)
		}
		if e.ValueFrom != nil {
			errs = append(errs, validateValueFrom(e.ValueFrom, e.Value, at.Child("valueFrom"))...)
		}
	}
	return errs
}

func validateValueFrom(from *corev1.EnvVarSource, value string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	sources := 0
	if from.FieldRef != nil {
		sources++
		errs = append(errs, validateFieldRef(from.FieldRef, envFields, at.Child("fieldRef"))...)
	}
	if from.ResourceFieldRef != nil {
		sources++
		errs = append(errs, validateResourceFieldName(from.ResourceFieldRef.Resource, at.Child("resourceFieldRef", "resource"))...)
		errs = append(errs, validateDivisor(from.ResourceFieldRef, at.Child("resourceFieldRef", "divisor"))...)
	}
	if ref := from.ConfigMapKeyRef; ref != nil {
		sources++
		errs = append(errs, validateKeyRef(ref.Name, ref.Key, at.Child("configMapKeyRef"))...)
	}
	if ref := from.SecretKeyRef; ref != nil {
		sources++
		errs = append(errs, validateKeyRef(ref.Name, ref.Key, at.Child("secretKeyRef"))...)
	}
	if from.FileKeyRef != nil {
		sources++
		errs = append(errs, validateFileKeyRef(from.FileKeyRef, at.Child("fileKeyRef"))...)
	}
	switch {
	case sources == 0:
		errs = append(errs, field.Invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case value != "":
		errs = append(errs, field.Invalid(at, "", "may not be specified when `value` is not empty"))
	case sources > 1:
		errs = append(errs, field.Invalid(at, "", "may not have more than one field specified at a time"))
	}
	return errs
}

func validateKeyRef(name, key string, at *field.Path) field.ErrorList {
	errs := each(at.Child("name"), name, validation.IsDNS1123Subdomain(name))
	if key == "" {
		return append(errs, field.Required(at.Child("key"), ""))
	}
	return append(errs, each(at.Child("key"), key, validation.IsConfigMapKey(key))...)
}

func validateFileKeyRef(ref *corev1.FileKeySelector, at *field.Path) field.ErrorList {
	errs := required(ref.Key, at.Child("key"))
	if ref.Key != "" {
		errs = each(at.Child("key"), ref.Key, validation.IsRelaxedEnvVarName(ref.Key))
	}
	errs = append(errs, required(ref.VolumeName, at.Child("volumeName"))...)
	if ref.VolumeName != "" {
		errs = append(errs, each(at.Child("volumeName"), ref.VolumeName, validation.IsDNS1123Label(ref.VolumeName))...)
	}
	errs = append(errs, required(ref.Path, at.Child("path"))...)
	return append(errs, noBacksteps(ref.Path, at.Child("path"))...)
}

// validateFileVolumes: the files with variables are written by an init
// container, so their volume is the pod's own.
func validateFileVolumes(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	eachContainer(s, at, func(c *corev1.Container, at *field.Path) {
		for i, e := range c.Env {
			if e.ValueFrom == nil || e.ValueFrom.FileKeyRef == nil {
				continue
			}
			name, at := e.ValueFrom.FileKeyRef.VolumeName, at.Child("env").Index(i).Child("valueFrom", "fileKeyRef", "volumeName")
			found := slices.IndexFunc(s.Volumes, func(v corev1.Volume) bool { return v.Name == name })
			switch {
			case found < 0:
				errs = append(errs, field.NotFound(at, name))
			case s.Volumes[found].EmptyDir == nil:
				errs = append(errs, field.Invalid(at, name, "referenced volume must be of type emptyDir"))
			}
		}
	})
	return errs
}

func validateEnvFrom(list []corev1.EnvFromSource, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, from := range list {
		at := path.Index(i)
		if from.Prefix != "" {
			errs = append(errs, each(at.Child("prefix"), from.Prefix, validation.IsRelaxedEnvVarName(from.Prefix))...)
		}
		if from.ConfigMapRef != nil {
			errs = append(errs, validateEnvObject(from.ConfigMapRef.Name, at.Child("configMapRef", "name"))...)
		}
		if from.SecretRef != nil {
			errs = append(errs, validateEnvObject(from.SecretRef.Name, at.Child("secretRef", "name"))...)
		}
		switch configMap, secret := from.ConfigMapRef != nil, from.SecretRef != nil; {
		case !configMap && !secret:
			errs = append(errs, field.Invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
		case configMap && secret:
			errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

// validateEnvObject takes a name with a dash at its end, as upstream does,
// which checks it as the beginning of a generated one.
func validateEnvObject(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return each(at, name, validation.IsDNS1123Subdomain(unprefixed(name)))
}

// unprefixed replaces a dash at the end of the beginning of a name.
func unprefixed(name string) string {
	if len(name) > 1 && strings.HasSuffix(name, "-") {
		return name[:len(name)-1] + "a"
	}
	return name
}

func validateMounts(c *corev1.Container, volumes map[string]corev1.VolumeSource, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	paths := sets.New[string]()
	for i, m := range c.VolumeMounts {
		at := path.Index(i)
		errs = append(errs, required(m.Name, at.Child("name"))...)
		if _, ok := volumes[m.Name]; !ok {
			errs = append(errs, field.NotFound(at.Child("name"), m.Name))
		}
		errs = append(errs, required(m.MountPath, at.Child("mountPath"))...)
		if paths.Has(m.MountPath) {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		paths.Insert(m.MountPath)
		for _, d := range c.VolumeDevices {
			if d.Name == m.Name {
				errs = append(errs, field.Invalid(at.Child("name"), m.Name, "must not already exist in volumeDevices"))
			}
			if d.DevicePath == m.MountPath {
				errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices"))
			}
		}
		errs = append(errs, descending(m.SubPath, path.Child("subPath"))...)
		if m.SubPathExpr != "" && m.SubPath != "" {
			errs = append(errs, field.Invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
		}
		errs = append(errs, descending(m.SubPathExpr, path.Child("subPathExpr"))...)
		errs = append(errs, validatePropagation(&m, c, path)...)
	}
	return errs
}

// validatePropagation: what a container mounts shows on the node only if it is
// privileged.
func validatePropagation(m *corev1.VolumeMount, c *corev1.Container, path *field.Path) field.ErrorList {
	at := path.Child("mountPropagation")
	errs := oneOf(m.MountPropagation, at, corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)
	propagation := corev1.MountPropagationNone
	if m.MountPropagation != nil {
		propagation = *m.MountPropagation
	}
	if privileged := c.SecurityContext != nil && isTrue(c.SecurityContext.Privileged); propagation == corev1.MountPropagationBidirectional && !privileged {
		errs = append(errs, field.Forbidden(at, "Bidirectional mount propagation is available only to privileged containers"))
	}
	at = path.Child("recursiveReadOnly")
	errs = append(errs, oneOf(m.RecursiveReadOnly, at, corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible)...)
	if r := m.RecursiveReadOnly; r != nil && (*r == corev1.RecursiveReadOnlyEnabled || *r == corev1.RecursiveReadOnlyIfPossible) {
		if !m.ReadOnly {
			errs = append(errs, field.Forbidden(at, "may only be specified when readOnly is true"))
		}
		if propagation != corev1.MountPropagationNone {
			errs = append(errs, field.Forbidden(at, "may only be specified when mountPropagation is None or not specified"))
		}
	}
	return errs
}

// validateDevices: a block device is a claim's.
func validateDevices(c *corev1.Container, volumes map[string]corev1.VolumeSource, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names, paths := sets.New[string](), sets.New[string]()
	for i, d := range c.VolumeDevices {
		name, device := path.Index(i).Child("name"), path.Index(i).Child("devicePath")
		errs = append(errs, required(d.Name, name)...)
		if names.Has(d.Name) {
			errs = append(errs, field.Invalid(name, d.Name, "must be unique"))
		}
		switch v, ok := volumes[d.Name]; {
		case !ok:
			errs = append(errs, field.NotFound(name, d.Name))
		case v.PersistentVolumeClaim == nil && v.Ephemeral == nil:
			errs = append(errs, field.Invalid(name, d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"))
		}
		errs = append(errs, required(d.DevicePath, device)...)
		if paths.Has(d.DevicePath) {
			errs = append(errs, field.Invalid(device, d.DevicePath, "must be unique"))
		}
		if len(noBacksteps(d.DevicePath, device)) > 0 {
			errs = append(errs, field.Invalid(device, d.DevicePath, "can not contain backsteps ('..')"))
		} else {
			paths.Insert(d.DevicePath)
		}
		for _, m := range c.VolumeMounts {
			if m.Name == d.Name {
				errs = append(errs, field.Invalid(name, d.Name, "must not already exist in volumeMounts"))
			}
			if m.MountPath == d.DevicePath {
				errs = append(errs, field.Invalid(device, d.DevicePath, "must not already exist as a path in volumeMounts"))
			}
		}
		if d.Name != "" {
			names.Insert(d.Name)
		}
	}
	return errs
}
