package resource

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Ephemeral containers are added to a pod that runs, to look into it (`kubectl
// debug`): through the subresource ephemeralcontainers, and for ever, for what
// has run cannot be taken back.

func defaultEphemeral(p *corev1.Pod) {
	for i := range p.Spec.EphemeralContainers {
		c := (*corev1.Container)(&p.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		defaultContainer(c, p.Spec.HostNetwork)
	}
}

// validateEphemeral checks a write of pods/NAME/ephemeralcontainers.
func validateEphemeral(p, old *corev1.Pod) field.ErrorList {
	path := specPath.Child("ephemeralContainers")
	volumes, errs := validateVolumes(p.Spec.Volumes, specPath.Child("volumes"))
	names := sets.New[string]()
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			names.Insert(c.Name)
		}
	}
	for i := range p.Spec.EphemeralContainers {
		c, at := &p.Spec.EphemeralContainers[i], path.Index(i)
		errs = append(errs, validateContainer((*corev1.Container)(&c.EphemeralContainerCommon), names, volumes, at)...)
		errs = append(errs, validateEphemeralOnly(c, p, at)...)
	}
	return append(errs, validateEphemeralChange(p.Spec.EphemeralContainers, old.Spec.EphemeralContainers, path)...)
}

// validateEphemeralOnly: nobody relies on an ephemeral container, so it has
// neither ports nor probes.
func validateEphemeralOnly(c *corev1.EphemeralContainer, p *corev1.Pod, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name string
		used bool
	}{
		{"ports", len(c.Ports) > 0},
		{"livenessProbe", c.LivenessProbe != nil},
		{"readinessProbe", c.ReadinessProbe != nil},
		{"startupProbe", c.StartupProbe != nil},
		{"lifecycle", c.Lifecycle != nil},
		{"resources", len(c.Resources.Limits)+len(c.Resources.Requests) > 0},
	} {
		if f.used {
			errs = append(errs, field.Forbidden(at.Child(f.name), "cannot be set for an Ephemeral Container"))
		}
	}
	if c.TargetContainerName == "" {
		return errs
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, other := range list {
			if other.Name == c.TargetContainerName {
				return errs
			}
		}
	}
	return append(errs, field.NotFound(at.Child("targetContainerName"), c.TargetContainerName))
}

func validateEphemeralChange(now, old []corev1.EphemeralContainer, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	have := map[string]corev1.EphemeralContainer{}
	for _, c := range now {
		have[c.Name] = c
	}
	for _, c := range old {
		after, ok := have[c.Name]
		switch {
		case !ok:
			errs = append(errs, field.Forbidden(path, "existing ephemeral containers \""+c.Name+"\" may not be removed\n"))
		case !equality.Semantic.DeepEqual(c, after):
			errs = append(errs, field.Forbidden(path, "existing ephemeral containers \""+c.Name+"\" may not be changed\n"))
		}
	}
	return errs
}
