package resource

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/node/util/sysctl"
)

func validatePod(p, old *corev1.Pod) field.ErrorList {
	errs := validatePodSpec(&p.Spec, specPath)
	if old == nil && len(p.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if old != nil {
		errs = append(errs, validatePodChange(p, old)...)
	}
	return errs
}

// validatePodChange: a pod runs already, so little of its spec may change.
func validatePodChange(p, old *corev1.Pod) field.ErrorList {
	var errs field.ErrorList
	if len(p.Spec.Containers) != len(old.Spec.Containers) {
		return field.ErrorList{field.Forbidden(specPath.Child("containers"), "pod updates may not add or remove containers")}
	}
	if len(p.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return field.ErrorList{field.Forbidden(specPath.Child("initContainers"), "pod updates may not add or remove containers")}
	}
	allowed := p.Spec.DeepCopy()
	for i := range allowed.Containers {
		allowed.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range allowed.InitContainers {
		allowed.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	allowed.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	if addsOnly(old.Spec.Tolerations, p.Spec.Tolerations) {
		allowed.Tolerations = old.Spec.Tolerations
	} else {
		errs = append(errs, field.Forbidden(specPath.Child("tolerations"), "existing toleration can not be modified except its tolerationSeconds"))
		allowed.Tolerations = old.Spec.Tolerations
	}
	if t := old.Spec.TerminationGracePeriodSeconds; t != nil && *t < 0 && p.Spec.TerminationGracePeriodSeconds != nil && *p.Spec.TerminationGracePeriodSeconds == 1 {
		allowed.TerminationGracePeriodSeconds = t
	}
	if len(p.Spec.SchedulingGates) < len(old.Spec.SchedulingGates) {
		allowed.SchedulingGates = old.Spec.SchedulingGates
	}
	if !equality.Semantic.DeepEqual(allowed, &old.Spec) {
		errs = append(errs, field.Forbidden(specPath, "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"))
	}
	return errs
}

func addsOnly(old, now []corev1.Toleration) bool {
	for _, o := range old {
		if !slices.ContainsFunc(now, func(n corev1.Toleration) bool {
			n.TolerationSeconds = o.TolerationSeconds
			return n == o
		}) {
			return false
		}
	}
	return true
}

// validatePodSpec serves pods and pod templates.
func validatePodSpec(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	volumes, errs := validateVolumes(s.Volumes, path.Child("volumes"))
	if len(s.Containers) == 0 {
		errs = append(errs, field.Required(path.Child("containers"), ""))
	}
	names := sets.New[string]()
	for i := range s.Containers {
		errs = append(errs, validateContainer(&s.Containers[i], names, volumes, path.Child("containers").Index(i))...)
	}
	for i := range s.InitContainers {
		errs = append(errs, validateContainer(&s.InitContainers[i], names, volumes, path.Child("initContainers").Index(i))...)
	}
	errs = append(errs, validateHostPorts(s, path.Child("containers"))...)
	errs = append(errs, supported(s.RestartPolicy, path.Child("restartPolicy"), corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)...)
	errs = append(errs, supported(s.DNSPolicy, path.Child("dnsPolicy"), corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)...)
	switch {
	case s.DNSPolicy == corev1.DNSNone && s.DNSConfig == nil:
		errs = append(errs, field.Required(path.Child("dnsConfig"), fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", corev1.DNSNone)))
	case s.DNSPolicy == corev1.DNSNone && len(s.DNSConfig.Nameservers) == 0:
		errs = append(errs, field.Required(path.Child("dnsConfig").Child("nameservers"), fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", corev1.DNSNone)))
	}
	errs = append(errs, validateLabels(s.NodeSelector, path.Child("nodeSelector"))...)
	if t := s.TerminationGracePeriodSeconds; t != nil && *t < 0 {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *t, "must be greater than or equal to 0"))
	}
	if t := s.ActiveDeadlineSeconds; t != nil && *t < 1 {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *t, "must be between 1 and 2147483647, inclusive"))
	}
	for _, name := range []struct {
		value, field string
		rule         func(string) []string
	}{
		{s.ServiceAccountName, "serviceAccountName", validation.IsDNS1123Subdomain},
		{s.NodeName, "nodeName", validation.IsDNS1123Subdomain},
		{s.Hostname, "hostname", validation.IsDNS1123Label},
		{s.Subdomain, "subdomain", validation.IsDNS1123Label},
	} {
		if name.value == "" {
			continue
		}
		for _, msg := range name.rule(name.value) {
			errs = append(errs, field.Invalid(path.Child(name.field), name.value, msg))
		}
	}
	if sc := s.SecurityContext; sc != nil {
		errs = append(errs, validateIDs(path.Child("securityContext"), id{"runAsUser", sc.RunAsUser}, id{"runAsGroup", sc.RunAsGroup}, id{"fsGroup", sc.FSGroup})...)
		errs = append(errs, validateSysctls(s, path.Child("securityContext").Child("sysctls"))...)
	}
	errs = append(errs, validateHostAliases(s.HostAliases, path.Child("hostAliases"))...)
	errs = append(errs, validateSpread(s.TopologySpreadConstraints, path.Child("topologySpreadConstraints"))...)
	return append(errs, validateTolerations(s.Tolerations, path.Child("tolerations"))...)
}

// sysctlName matches net.ipv4.tcp_syncookies, and net/ipv4/tcp_syncookies as sysctl(8) takes it.
var sysctlName = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`)

// validateSysctls looks at the names; which of them a pod may have is the kubelet's to say.
func validateSysctls(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	const maxLength = 253
	seen := sets.New[string]()
	for i, setting := range s.SecurityContext.Sysctls {
		path := path.Index(i).Child("name")
		switch {
		case setting.Name == "":
			errs = append(errs, field.Required(path, ""))
		case len(setting.Name) > maxLength || !sysctlName.MatchString(setting.Name):
			errs = append(errs, field.Invalid(path, setting.Name, fmt.Sprintf("must have at most %d characters and match regex %s", maxLength, sysctlName)))
		case seen.Has(setting.Name):
			errs = append(errs, field.Duplicate(path, setting.Name))
		}
		seen.Insert(setting.Name)
		switch namespace, _, _ := sysctl.GetNamespace(setting.Name); {
		case s.HostNetwork && namespace == sysctl.NetNamespace:
			errs = append(errs, field.Invalid(path, setting.Name, "may not be specified when 'hostNetwork' is true"))
		case s.HostIPC && namespace == sysctl.IPCNamespace:
			errs = append(errs, field.Invalid(path, setting.Name, "may not be specified when 'hostIPC' is true"))
		}
	}
	return errs
}

// supported: the value has to be one of the list, which is told in this order.
func supported[T ~string](value T, path *field.Path, list ...T) field.ErrorList {
	if slices.Contains(list, value) {
		return nil
	}
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return field.ErrorList{field.NotSupported(path, value, list)}
}

func validateVolumes(volumes []corev1.Volume, path *field.Path) (sets.Set[string], field.ErrorList) {
	var errs field.ErrorList
	names := sets.New[string]()
	for i, v := range volumes {
		at := path.Index(i).Child("name")
		for _, msg := range validation.IsDNS1123Label(v.Name) {
			if v.Name == "" {
				errs = append(errs, field.Required(at, ""))
				break
			}
			errs = append(errs, field.Invalid(at, v.Name, msg))
		}
		if names.Has(v.Name) {
			errs = append(errs, field.Duplicate(at, v.Name))
		}
		names.Insert(v.Name)
		errs = append(errs, oneSource(&v.VolumeSource, path.Index(i))...)
		if v.HostPath != nil && v.HostPath.Path == "" {
			errs = append(errs, field.Required(path.Index(i).Child("hostPath", "path"), ""))
		}
		if v.ConfigMap != nil && v.ConfigMap.Name == "" {
			errs = append(errs, field.Required(path.Index(i).Child("configMap", "name"), ""))
		}
		if v.Secret != nil && v.Secret.SecretName == "" {
			errs = append(errs, field.Required(path.Index(i).Child("secret", "secretName"), ""))
		}
	}
	return names, errs
}

func validateContainer(c *corev1.Container, names, volumes sets.Set[string], path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else {
		for _, msg := range validation.IsDNS1123Label(c.Name) {
			errs = append(errs, field.Invalid(path.Child("name"), c.Name, msg))
		}
		if names.Has(c.Name) {
			errs = append(errs, field.Duplicate(path.Child("name"), c.Name))
		}
		names.Insert(c.Name)
	}
	switch {
	case c.Image == "":
		errs = append(errs, field.Required(path.Child("image"), ""))
	case strings.TrimSpace(c.Image) != c.Image:
		errs = append(errs, field.Invalid(path.Child("image"), c.Image, "must not have leading or trailing whitespace"))
	}
	errs = append(errs, validateContainerPorts(c.Ports, path.Child("ports"))...)
	errs = append(errs, validateEnv(c.Env, path.Child("env"))...)
	errs = append(errs, validateMounts(c.VolumeMounts, volumes, path.Child("volumeMounts"))...)
	errs = append(errs, supported(c.ImagePullPolicy, path.Child("imagePullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	errs = append(errs, validateResources(&c.Resources, path.Child("resources"))...)
	if sc := c.SecurityContext; sc != nil {
		errs = append(errs, validateIDs(path.Child("securityContext"), id{"runAsUser", sc.RunAsUser}, id{"runAsGroup", sc.RunAsGroup})...)
	}
	errs = append(errs, validateProbe(c.LivenessProbe, "livenessProbe", path.Child("livenessProbe"))...)
	errs = append(errs, validateProbe(c.ReadinessProbe, "readinessProbe", path.Child("readinessProbe"))...)
	errs = append(errs, validateProbe(c.StartupProbe, "startupProbe", path.Child("startupProbe"))...)
	return errs
}

func validateContainerPorts(ports []corev1.ContainerPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i, p := range ports {
		at := path.Index(i)
		if p.Name != "" {
			for _, msg := range validation.IsValidPortName(p.Name) {
				errs = append(errs, field.Invalid(at.Child("name"), p.Name, msg))
			}
			if names.Has(p.Name) {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names.Insert(p.Name)
		}
		if p.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			for _, msg := range validation.IsValidPortNum(int(p.ContainerPort)) {
				errs = append(errs, field.Invalid(at.Child("containerPort"), p.ContainerPort, msg))
			}
		}
		if p.HostPort != 0 {
			for _, msg := range validation.IsValidPortNum(int(p.HostPort)) {
				errs = append(errs, field.Invalid(at.Child("hostPort"), p.HostPort, msg))
			}
		}
		errs = append(errs, supported(p.Protocol, at.Child("protocol"), corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)...)
	}
	return errs
}

// validateHostPorts: two containers of a pod share the node's ports too.
func validateHostPorts(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	used := sets.New[string]()
	for i, c := range s.Containers {
		for j, p := range c.Ports {
			at := path.Index(i).Child("ports").Index(j)
			if s.HostNetwork && p.HostPort != p.ContainerPort {
				errs = append(errs, field.Invalid(at.Child("hostPort"), p.HostPort, "must match `containerPort` when `hostNetwork` is true"))
			}
			if p.HostPort == 0 {
				continue
			}
			key := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
			if used.Has(key) {
				errs = append(errs, field.Duplicate(at.Child("hostPort"), key))
			}
			used.Insert(key)
		}
	}
	return errs
}

func validateEnv(env []corev1.EnvVar, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, e := range env {
		if e.Name == "" {
			errs = append(errs, field.Required(path.Index(i).Child("name"), ""))
			continue
		}
		for _, msg := range validation.IsRelaxedEnvVarName(e.Name) {
			errs = append(errs, field.Invalid(path.Index(i).Child("name"), e.Name, msg))
		}
		if e.ValueFrom != nil && e.Value != "" {
			errs = append(errs, field.Invalid(path.Index(i).Child("valueFrom"), "", "may not be specified when `value` is not empty"))
		}
	}
	return errs
}

func validateMounts(mounts []corev1.VolumeMount, volumes sets.Set[string], path *field.Path) field.ErrorList {
	var errs field.ErrorList
	paths := sets.New[string]()
	for i, m := range mounts {
		at := path.Index(i)
		switch {
		case m.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case !volumes.Has(m.Name):
			errs = append(errs, field.NotFound(at.Child("name"), m.Name))
		}
		if m.MountPath == "" {
			errs = append(errs, field.Required(at.Child("mountPath"), ""))
		} else if paths.Has(m.MountPath) {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		paths.Insert(m.MountPath)
	}
	return errs
}

func validateResources(r *corev1.ResourceRequirements, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, part := range []struct {
		name string
		list corev1.ResourceList
	}{{"limits", r.Limits}, {"requests", r.Requests}} {
		for _, name := range sortedKeys(part.list) {
			if q := part.list[name]; q.Sign() < 0 {
				errs = append(errs, field.Invalid(path.Child(part.name).Key(string(name)), q.String(), "must be greater than or equal to 0"))
			}
		}
	}
	for _, name := range sortedKeys(r.Requests) {
		request := r.Requests[name]
		if limit, ok := r.Limits[name]; ok && request.Cmp(limit) > 0 {
			errs = append(errs, field.Invalid(path.Child("requests"), request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		}
	}
	return errs
}

func validateProbe(p *corev1.Probe, name string, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	var errs field.ErrorList
	handlers := 0
	for _, set := range []bool{p.Exec != nil, p.HTTPGet != nil, p.TCPSocket != nil, p.GRPC != nil} {
		if set {
			handlers++
		}
	}
	switch {
	case handlers == 0:
		errs = append(errs, field.Required(path, "must specify a handler type"))
	case handlers > 1:
		errs = append(errs, field.Forbidden(path, "may not specify more than 1 handler type"))
	case p.HTTPGet != nil:
		errs = append(errs, validatePortNumOrName(p.HTTPGet.Port, path.Child("httpGet", "port"))...)
	case p.TCPSocket != nil:
		errs = append(errs, validatePortNumOrName(p.TCPSocket.Port, path.Child("tcpSocket", "port"))...)
	case p.Exec != nil && len(p.Exec.Command) == 0:
		errs = append(errs, field.Required(path.Child("exec", "command"), ""))
	}
	for child, n := range map[string]int32{
		"initialDelaySeconds": p.InitialDelaySeconds, "timeoutSeconds": p.TimeoutSeconds, "periodSeconds": p.PeriodSeconds,
		"successThreshold": p.SuccessThreshold, "failureThreshold": p.FailureThreshold,
	} {
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(n), path.Child(child))...)
	}
	if name != "readinessProbe" && p.SuccessThreshold != 1 {
		errs = append(errs, field.Invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
	}
	return errs
}
