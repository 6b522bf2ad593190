package resource

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
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

// validateEphemeralPart checks a write of pods/NAME/ephemeralcontainers.
func validateEphemeralPart(p, old *corev1.Pod) field.ErrorList {
	errs := append(validatePodItself(p), validatePodAnnotations(p, old)...)
	return append(errs, validateEphemeralChange(p.Spec.EphemeralContainers, old.Spec.EphemeralContainers, specPath.Child("ephemeralContainers"))...)
}

func validateEphemeral(s *corev1.PodSpec, volumes map[string]corev1.VolumeSource, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	others := sets.New[string]()
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for _, c := range list {
			others.Insert(c.Name)
		}
	}
	names := others.Clone()
	for i := range s.EphemeralContainers {
		c, at := &s.EphemeralContainers[i], path.Index(i)
		errs = append(errs, validateContainer((*corev1.Container)(&c.EphemeralContainerCommon), s, volumes, at)...)
		errs = append(errs, validateImage(c.Image, at.Child("image"))...)
		if names.Has(c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names.Insert(c.Name)
		if c.TargetContainerName != "" && !others.Has(c.TargetContainerName) {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), c.TargetContainerName))
		}
		errs = append(errs, validateEphemeralOnly(c, at)...)
	}
	return errs
}

// validateEphemeralOnly: nobody relies on an ephemeral container, so it has
// neither ports nor probes.
func validateEphemeralOnly(c *corev1.EphemeralContainer, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	const forbidden = "cannot be set for an Ephemeral Container"
	for _, f := range []struct {
		name string
		used bool
	}{
		{"ports", len(c.Ports) > 0},
		{"resources", len(c.Resources.Limits)+len(c.Resources.Requests)+len(c.Resources.Claims) > 0},
		{"resizePolicy", len(c.ResizePolicy) > 0},
		{"restartPolicy", c.RestartPolicy != nil},
		{"restartPolicyRules", len(c.RestartPolicyRules) > 0},
		{"livenessProbe", c.LivenessProbe != nil},
		{"readinessProbe", c.ReadinessProbe != nil},
		{"startupProbe", c.StartupProbe != nil},
		{"lifecycle", c.Lifecycle != nil},
	} {
		if f.used {
			errs = append(errs, field.Forbidden(at.Child(f.name), forbidden))
		}
	}
	for i, m := range c.VolumeMounts {
		if m.SubPath != "" {
			errs = append(errs, field.Forbidden(at.Child("volumeMounts").Index(i).Child("subPath"), forbidden))
		}
		if m.SubPathExpr != "" {
			errs = append(errs, field.Forbidden(at.Child("volumeMounts").Index(i).Child("subPathExpr"), forbidden))
		}
	}
	return errs
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
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", c.Name)))
		case !equality.Semantic.DeepEqual(c, after):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", c.Name, diff.Diff(internalForm{c}, internalForm{after}))))
		}
	}
	return errs
}
