package resource

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/node/util/sysctl"
)

// As whom the containers of a pod run, and what they may do.

func validatePodSecurity(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	sc := s.SecurityContext
	if sc == nil {
		return nil
	}
	errs := validateID(sc.FSGroup, at.Child("fsGroup"))
	errs = append(errs, validateID(sc.RunAsUser, at.Child("runAsUser"))...)
	errs = append(errs, validateID(sc.RunAsGroup, at.Child("runAsGroup"))...)
	for i := range sc.SupplementalGroups {
		errs = append(errs, validateID(&sc.SupplementalGroups[i], at.Child("supplementalGroups").Index(i))...)
	}
	if s.HostPID && isTrue(s.ShareProcessNamespace) {
		errs = append(errs, field.Invalid(at.Child("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	errs = append(errs, validateSysctls(s, at.Child("sysctls"))...)
	errs = append(errs, oneOf(sc.FSGroupChangePolicy, at.Child("fsGroupChangePolicy"), corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)...)
	errs = append(errs, validateSeccomp(sc.SeccompProfile, at.Child("seccompProfile"))...)
	errs = append(errs, validateAppArmor(sc.AppArmorProfile, at.Child("appArmorProfile"))...)
	errs = append(errs, oneOf(sc.SupplementalGroupsPolicy, at.Child("supplementalGroupsPolicy"), corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	return append(errs, oneOf(sc.SELinuxChangePolicy, at.Child("seLinuxChangePolicy"), corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)...)
}

func validateContainerSecurity(sc *corev1.SecurityContext, s *corev1.PodSpec, at *field.Path) field.ErrorList {
	if sc == nil {
		return nil
	}
	errs := append(validateID(sc.RunAsUser, at.Child("runAsUser")), validateID(sc.RunAsGroup, at.Child("runAsGroup"))...)
	errs = append(errs, oneOf(sc.ProcMount, at.Child("procMount"), corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
	if p := sc.ProcMount; p != nil && *p == corev1.UnmaskedProcMount && (s.HostUsers == nil || *s.HostUsers) {
		errs = append(errs, field.Invalid(at.Child("procMount"), *p, "`hostUsers` must be false to use `Unmasked`"))
	}
	errs = append(errs, validateSeccomp(sc.SeccompProfile, at.Child("seccompProfile"))...)
	if e := sc.AllowPrivilegeEscalation; e != nil && !*e {
		if isTrue(sc.Privileged) {
			errs = append(errs, field.Invalid(at, internalForm{sc}, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if sc.Capabilities != nil && slices.Contains(sc.Capabilities.Add, "CAP_SYS_ADMIN") {
			errs = append(errs, field.Invalid(at, internalForm{sc}, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
		}
	}
	return append(errs, validateAppArmor(sc.AppArmorProfile, at.Child("appArmorProfile"))...)
}

// validateHostUsers: who has users of his own has no other part of the node.
func validateHostUsers(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	if s.HostUsers == nil || *s.HostUsers {
		return nil
	}
	var errs field.ErrorList
	for _, part := range []struct {
		name string
		set  bool
	}{{"hostNetwork", s.HostNetwork}, {"HostPID", s.HostPID}, {"HostIPC", s.HostIPC}} {
		if part.set {
			errs = append(errs, field.Forbidden(at.Child(part.name), "when `hostUsers` is false"))
		}
	}
	eachContainer(s, at, func(c *corev1.Container, at *field.Path) {
		if len(c.VolumeDevices) > 0 {
			errs = append(errs, field.Forbidden(at.Child("volumeDevices"), "when `hostUsers` is false"))
		}
	})
	return errs
}

// validateID: the kernel's user and group numbers, as far as Go's int32 has them.
func validateID(id *int64, at *field.Path) field.ErrorList {
	if id == nil {
		return nil
	}
	return each(at, *id, validation.IsValidUserID(*id))
}

func validateSeccomp(p *corev1.SeccompProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	var errs field.ErrorList
	types := []corev1.SeccompProfileType{corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined}
	switch {
	case p.Type == "":
		errs = append(errs, field.Required(at.Child("type"), "type is required when seccompProfile is set"))
	case !slices.Contains(types, p.Type):
		errs = append(errs, field.NotSupported(at.Child("type"), p.Type, types))
	}
	local := at.Child("localhostProfile")
	switch isLocal := p.Type == corev1.SeccompProfileTypeLocalhost; {
	case isLocal && p.LocalhostProfile == nil:
		errs = append(errs, field.Required(local, "must be set when seccomp type is Localhost"))
	case isLocal:
		errs = append(errs, descending(*p.LocalhostProfile, local)...)
	case p.LocalhostProfile != nil:
		errs = append(errs, field.Invalid(local, internalForm{p}, "can only be set when seccomp type is Localhost"))
	}
	return errs
}

func validateAppArmor(p *corev1.AppArmorProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	local := at.Child("localhostProfile")
	switch p.Type {
	case "":
		return field.ErrorList{field.Required(at.Child("type"), "type is required when appArmorProfile is set")}
	case corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined:
		if p.LocalhostProfile != nil {
			return field.ErrorList{field.Invalid(local, *p.LocalhostProfile, "can only be set when AppArmor type is Localhost")}
		}
	case corev1.AppArmorProfileTypeLocalhost:
		switch name := p.LocalhostProfile; {
		case name == nil, *name == "":
			return field.ErrorList{field.Required(local, "must be set when AppArmor type is Localhost")}
		case strings.TrimSpace(*name) != *name:
			return field.ErrorList{field.Invalid(local, *name, "must not be padded with whitespace")}
		case len(*name) > 4095: // PATH_MAX without the NUL
			return field.ErrorList{field.TooLong(local, "", 4095)}
		}
	default:
		return field.ErrorList{field.NotSupported(at.Child("type"), p.Type, []corev1.AppArmorProfileType{corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined})}
	}
	return nil
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
